"""A policy store in a file, on `sqlite3`: for one process or for several on one machine, with threads and asyncio.

- Whatever is killed at whatever moment, the file holds whole entries: every write is one transaction of SQLite's
  write-ahead log. The file has to lie on a local file system, since the log needs shared memory.
- A process that dies loses nothing that it had written. A power cut can lose the last writes, never older ones, nor
  the file: it is synchronised when the log is folded into it, not at every write (`synchronous=NORMAL`).
- The file is created readable and writable by its owner alone, and so are the log and its index beside it: it tells to
  whom mail was sent. The folder has to exist. A file that is there keeps its permissions.
- Nothing is opened before the first call. A file that can not be opened, is no policy store, or was written by a later
  version of this library, is a `StoreFailure` of every call, and is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mailtlspolicy.adapters._text import reason
from mailtlspolicy.stores import MAX_ENTRY_OCTETS, decode_entry, merge_octets
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from types import TracebackType

PAGE_ENTRIES = 100  # a hundred of the longest that RFC 8461 suggests are 20 MB; larger pages are not faster
APPLICATION_ID = 0x53545331  # "STS1", by which a file is known as a policy store
SCHEMA_VERSION = 1
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
    f"SELECT domain, {_ENTRY} FROM policies "  # noqa: S608
    "WHERE domain > CAST(? AS TEXT) AND typeof(domain) = 'text' ORDER BY domain LIMIT ?"
)
_STORE = "INSERT OR REPLACE INTO policies VALUES (CAST(? AS TEXT), CAST(? AS TEXT))"
_DROP = "DELETE FROM policies WHERE domain = CAST(? AS TEXT)"

_T = TypeVar("_T")


class SqliteStore:
    """A policy store in a file.

    One connection serves all threads in turn. `close`, or the end of a `with` block, closes it; the next call would
    open it again. No connection crosses a `fork`: a store is usable on both sides, and `fork` waits for a call that is
    under way.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        """Name the file.

        Args:
            path: the file; its folder has to exist.
            timeout: seconds to wait for another process that writes, and as long again for another thread.
        """
        self._path = Path(path).absolute()
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        _stores.add(self)

    def load(self, domain: str) -> Entry | StoreFailure | None:
        """The entry of a policy domain, or None where there is none."""
        octets = self._run(lambda connection: _read(connection, domain))
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
        rows = self._run(lambda connection: _list(connection, cursor))
        if isinstance(rows, StoreFailure):
            return rows
        found = [(_to_text(domain), decode_entry(octets)) for domain, octets in rows]
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
            return StoreFailure(f"{self._path.name}: other threads kept it busy for {self._timeout:g} s")
        try:
            if self._connection is None:
                self._connection = _connect(self._path, self._timeout)
            return work(self._connection)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._disconnect()  # the next call begins anew, which is all that can be done about most errors
            return StoreFailure(f"{self._path.name}: {reason(error)}")
        finally:
            self._lock.release()

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
_held: list[SqliteStore] = []  # while a fork is under way
_opening = threading.Lock()


def _before_fork() -> None:
    for store in list(_stores):
        store._before_fork()
        _held.append(store)
    _opening.acquire()


def _after_fork() -> None:
    _opening.release()
    while _held:
        _held.pop()._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    """Open the file, and make it a policy store if it is new or empty."""
    with _opening:
        # Created here, since SQLite would leave the mode to the umask. One thread at a time: to close a file lets go
        # of the process's locks on it, those of another connection too.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
        )
    try:
        connection.text_factory = bytes
        if not _is_ready(connection):
            _to_write_ahead_log(connection, timeout)
            with _transaction(connection):
                if not _is_ready(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


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


def _list(connection: sqlite3.Connection, cursor: str) -> list[tuple[bytes, bytes]]:
    return connection.execute(_LIST, (_to_octets(cursor), PAGE_ENTRIES)).fetchall()


def _to_octets(domain: str) -> bytes:
    return domain.encode("utf-8", "surrogateescape")


def _to_text(domain: bytes) -> str:
    return domain.decode("utf-8", "surrogateescape")
