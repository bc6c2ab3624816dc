"""A policy store in a file, on `sqlite3`: for one process or for several on one machine, with threads and asyncio.

- Whatever is killed at whatever moment, the file holds whole entries: every write is one transaction of SQLite's
  write-ahead log. The file has to lie on a local file system, since the log needs shared memory.
- A process that dies loses nothing that it had written. A power cut can lose the last writes, never older ones, nor
  the file: it is synchronised when the log is folded into it, not at every write (`synchronous=NORMAL`).
- The file is created readable and writable by its owner alone, and so are the log and its index beside it: it tells to
  whom mail was sent. The folder has to exist. A file that is there keeps its permissions.
- Nothing is opened before the first call. A file that can not be opened, is no policy store, or was written by a later
  version of this library, is a `StoreFailure` of every call, and is not touched.
- What can be read is read. On a full disk, on a read-only one, and where the file is another's, `load` and `entries`
  work while `store` and `drop` fail. In a damaged file the entries that lie elsewhere are found, and those that may be
  lost are failures.
- A store is put in its place whole, so an empty file is one that was cut to nothing. It is a failure until somebody
  removes it, not a new store.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import tempfile
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from mailtlspolicy.adapters._text import reason
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure
from mailtlspolicy.sts.stores import MAX_ENTRY_OCTETS, decode_entry, merge_octets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from types import TracebackType

PAGE_ENTRIES = 100  # a hundred of the longest that RFC 8461 suggests are 20 MB; larger pages are not faster
APPLICATION_ID = 0x53545331  # "STS1", by which a file is known as a policy store
SCHEMA_VERSION = 1
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_READ_ATTEMPTS = 5  # of a file without its locks: it may be written meanwhile
_LOCK_RETRY_SECONDS = 0.01  # SQLite does not wait by itself for the lock that a change of the journal takes

_SCHEMA = (
    "CREATE TABLE policies (domain TEXT PRIMARY KEY NOT NULL, entry TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_WHAT_IT_IS = """
    SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
        (SELECT count(*) FROM sqlite_master)"""
# Octets for text, both ways: what is no UTF-8 must not keep the rest from being read. One octet too many tells that an
# entry is too long; of no octets at all `substr` makes NULL.
_ENTRY = f"ifnull(substr(CAST(entry AS BLOB), 1, {MAX_ENTRY_OCTETS + 1}), x'')"
_LOAD = f"SELECT {_ENTRY} FROM policies WHERE domain = CAST(? AS TEXT)"  # noqa: S608 - constants
_LIST = (  # a key that is no text could not be got past
    "SELECT domain FROM policies WHERE domain > CAST(? AS TEXT) AND typeof(domain) = 'text' ORDER BY domain LIMIT ?"
)
_STORE = "INSERT OR REPLACE INTO policies VALUES (CAST(? AS TEXT), CAST(? AS TEXT))"
_DROP = "DELETE FROM policies WHERE domain = CAST(? AS TEXT)"

_T = TypeVar("_T")
_Rows: TypeAlias = "list[tuple[bytes, bytes | StoreFailure | None]]"


class SqliteStore:
    """A policy store in a file.

    One connection serves all threads in turn. `close`, or the end of a `with` block, closes it; the next call would
    open it again. No connection crosses a `fork`: a store is usable on both sides, and `fork` waits for a call that is
    under way. Only a signal handler that forks in the midst of a call of its own thread does not: that call fails.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        """Name the file.

        Args:
            path: the file; its folder has to exist.
            timeout: seconds to wait for another process that writes, and as long again for another thread.
        """
        self._path = Path(path).absolute()
        self._timeout = timeout
        self._lock = threading.RLock()  # a signal handler may fork, or ask, in the midst of a call
        self._connection: sqlite3.Connection | None = None
        _stores.add(self)

    def load(self, domain: str) -> Entry | StoreFailure | None:
        """The entry of a policy domain, or None where there is none."""
        octets = self._look(lambda connection: _read(connection, domain), None)
        return decode_entry(octets) if isinstance(octets, bytes) else octets

    def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """Write `merge(stored, entry)`, in one transaction."""

        def write(connection: sqlite3.Connection) -> StoreFailure | None:
            with _transaction(connection):
                octets = _read(connection, domain)
                merged = merge_octets(octets, entry)
                if isinstance(merged, StoreFailure):
                    return merged
                if merged != octets:
                    connection.execute(_STORE, (_to_octets(domain), merged))
            return None

        return self._run(write)

    def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """Remove the entry if it is still this one, in one transaction."""

        def remove(connection: sqlite3.Connection) -> StoreFailure | None:
            with _transaction(connection):
                octets = _read(connection, domain)
                stored = None if octets is None else decode_entry(octets)
                if isinstance(stored, StoreFailure):
                    return stored
                if stored == entry:
                    connection.execute(_DROP, (_to_octets(domain),))
            return None

        return self._run(remove)

    def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """The entries after a domain, which is the cursor, in the order of their octets."""
        nothing: _Rows = []
        rows = self._look(lambda connection: _list(connection, cursor), nothing)
        if isinstance(rows, StoreFailure):
            return rows
        found = [(_to_text(domain), decode_entry(got) if isinstance(got, bytes) else got) for domain, got in rows]
        return PolicyPage(
            tuple((domain, entry) for domain, entry in found if isinstance(entry, Entry)),
            found[-1][0] if len(found) == PAGE_ENTRIES else None,
            tuple((domain, failure) for domain, failure in found if isinstance(failure, StoreFailure)),
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._disconnect()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T | StoreFailure:
        if not self._lock.acquire(timeout=self._timeout):
            return self._busy()
        try:
            return work(self._connection or self._connect())
        except (sqlite3.Error, OSError, ValueError) as error:
            self._disconnect()  # the next call begins anew, which is all that can be done about most errors
            return self._failure(error)
        finally:
            self._lock.release()

    def _look(self, work: Callable[[sqlite3.Connection], _T], nothing: _T) -> _T | StoreFailure:
        """Run what only reads, also where nothing can be written; a store that there is no room for holds nothing."""
        if not self._lock.acquire(timeout=self._timeout):
            return self._busy()
        try:
            return work(self._connection or self._connect())
        except ValueError as error:
            return self._failure(error)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            try:
                if isinstance(error, OSError) and error.errno in _NO_ROOM and not self._path.exists():
                    return nothing
                if "locked" in str(error) or not self._path.is_file():
                    return self._failure(error)
                return _without_writing(self._path, work)
            except (sqlite3.Error, OSError):
                return self._failure(error)
        finally:
            self._lock.release()

    def _busy(self) -> StoreFailure:
        return StoreFailure(f"{self._path.name}: other threads kept it busy for {self._timeout:g} s")

    def _failure(self, error: Exception) -> StoreFailure:
        return StoreFailure(f"{self._path.name}: {reason(error)}")

    def _connect(self) -> sqlite3.Connection:
        """Open the file, and make it a policy store if it is new."""
        process = os.getpid()
        with _opening:  # one thread at a time makes a file
            if not self._path.exists():
                _make(self._path, self._timeout)
            elif not self._path.is_file():  # a pipe would be waited for
                raise sqlite3.DatabaseError("it is no file")
            elif self._path.stat().st_size == 0:
                raise sqlite3.DatabaseError("it is empty: what it held is lost; remove it to begin anew")
        self._connection = connection = _open(self._path, "mode=rw", self._timeout)
        try:
            _make_ready(connection, self._timeout)
            connection.execute("PRAGMA synchronous = NORMAL")
        finally:
            if os.getpid() != process:  # forked by a signal handler before it was known which connection to close
                _inherited.append(connection)
                self._connection = None
        if self._connection is None:
            raise sqlite3.OperationalError("the process forked while it was opened")
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _before_fork(self) -> None:
        # SQLite's locks belong to the process, and a connection may not even be closed by a child
        self._lock.acquire()
        self._disconnect()

    def _after_fork(self) -> None:
        self._lock.release()


class AsyncSqliteStore:
    """A policy store in a file, for asyncio: two threads of its own, so that reading does not wait for writing.

    A call that is cancelled is finished all the same.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        """As `SqliteStore`."""
        self._reader = SqliteStore(path, timeout=timeout)
        self._writer = SqliteStore(path, timeout=timeout)
        self._reading = ThreadPoolExecutor(1, "policies read")
        self._writing = ThreadPoolExecutor(1, "policies written")

    async def load(self, domain: str) -> Entry | StoreFailure | None:
        """As `SqliteStore.load`."""
        return await _in(self._reading, self._reader.load, domain)

    async def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As `SqliteStore.store`."""
        return await _in(self._writing, self._writer.store, domain, entry)

    async def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As `SqliteStore.drop`."""
        return await _in(self._writing, self._writer.drop, domain, entry)

    async def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """As `SqliteStore.entries`."""
        return await _in(self._reading, self._reader.entries, cursor)

    async def close(self) -> None:
        """Close the file."""
        await _in(self._reading, self._reader.close)
        await _in(self._writing, self._writer.close)

    async def __aenter__(self) -> AsyncSqliteStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def _in(executor: Executor, call: Callable[..., _T], *arguments: object) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, call, *arguments)


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_held: list[list[SqliteStore]] = []  # while a fork is under way; a signal handler may begin another one meanwhile
_opening = threading.RLock()
_inherited: list[sqlite3.Connection] = []  # from the parent, so that they are never closed


def _before_fork() -> None:
    stores = list(_stores)
    for store in stores:
        store._before_fork()
    _opening.acquire()
    _held.append(stores)


def _after_fork() -> None:
    _opening.release()
    for store in reversed(_held.pop()):
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _open(path: Path, how: str, timeout: float) -> sqlite3.Connection:
    """Open a file that is there."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?{how}", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = bytes
    return connection


def _make(path: Path, timeout: float) -> None:
    """Make a policy store beside its place and put it there whole, unless somebody was faster."""
    # As `mkstemp` makes it, it is its owner's alone, and so is what SQLite puts beside it
    descriptor, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)
    os.close(descriptor)
    new = Path(name)
    try:
        with contextlib.closing(_open(new, "mode=rw", timeout)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")
            _make_ready(connection, timeout)
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without such links
            if not path.exists():
                new.rename(path)
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        for suffix in ("", "-wal", "-shm"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)


def _make_ready(connection: sqlite3.Connection, timeout: float) -> None:
    """Make a policy store of a database that is empty."""
    if not _is_ready(connection):
        _to_write_ahead_log(connection, timeout)
        with _transaction(connection):
            if not _is_ready(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)


def _without_writing(path: Path, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Read a store, with no file made or changed, which even reading by the write-ahead log takes as a rule.

    Where there is no log, the file is all there is, and is read as one that nobody writes. Where there is, the log is
    read too; without its index, as after a careless copy, that can not be, and is an error.
    """
    for _ in range(_READ_ATTEMPTS):
        seen, is_quiet = _state_of(path)
        how = "mode=ro&immutable=1" if is_quiet else "mode=ro&readonly_shm=1"
        with contextlib.closing(_open(path, how, 0)) as connection:
            if not _is_ready(connection):
                raise sqlite3.DatabaseError("no policy store yet")
            found = work(connection)
        if not is_quiet or _state_of(path) == (seen, is_quiet):
            return found
    raise sqlite3.OperationalError("it is being written")


def _state_of(path: Path) -> tuple[tuple[int, int], bool]:
    """The time and size of a file, and whether no journal lies beside it."""
    found = path.stat()
    beside = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-journal"))
    return (found.st_mtime_ns, found.st_size), not any(each.exists() and each.stat().st_size for each in beside)


def _is_ready(connection: sqlite3.Connection) -> bool:
    """Whether the file is a policy store. An empty one is to become it; any other is an error."""
    application, version, tables = connection.execute(_WHAT_IT_IS).fetchone()
    if (application, version, tables) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        raise sqlite3.DatabaseError("a database of something else")
    if version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"a policy store of version {version}, of which only {SCHEMA_VERSION} is known")
    return True


def _to_write_ahead_log(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch to the write-ahead log, which the file remembers; other processes may be about to do the same."""
    end = time.monotonic() + timeout
    while not _is_write_ahead(connection):
        if time.monotonic() > end:
            raise sqlite3.OperationalError("database is locked")
        time.sleep(_LOCK_RETRY_SECONDS)


def _is_write_ahead(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    return True


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that has the right to write from its beginning, so that nobody writes between read and write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")


def _read(connection: sqlite3.Connection, domain: str) -> bytes | None:
    row = connection.execute(_LOAD, (_to_octets(domain),)).fetchone()
    return None if row is None else row[0]


def _list(connection: sqlite3.Connection, cursor: str) -> _Rows:
    """Names and entries; None where somebody dropped it just now."""
    domains = connection.execute(_LIST, (_to_octets(cursor), PAGE_ENTRIES)).fetchall()
    return [(domain, _read_or_miss(connection, domain)) for (domain,) in domains]


def _read_or_miss(connection: sqlite3.Connection, domain: bytes) -> bytes | StoreFailure | None:
    """An entry; one that lies in a damaged part of the file keeps no other from being read."""
    try:
        return _read(connection, _to_text(domain))
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise
        return StoreFailure(reason(error))


def _to_octets(domain: str) -> bytes:
    return domain.encode("utf-8", "surrogateescape")


def _to_text(domain: bytes) -> str:
    return domain.decode("utf-8", "surrogateescape")
