"""The stores: all through the conformance suite, and what a file can do to the one on SQLite."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import random
import resource
import select
import shutil
import signal
import sqlite3
import stat
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.adapters import sqlite
from mailtlspolicy.adapters.sqlite import AsyncSqliteStore, SqliteStore
from mailtlspolicy.sts.cache import MAX_FAILED, Entry, StsFailure
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.sts.stores import (
    MAX_ENTRY_OCTETS,
    AsyncMemoryStore,
    MemoryStore,
    PolicyStore,
    decode_entry,
    encode_entry,
)
from mailtlspolicy.testing.event_loop import EventLoopThread
from mailtlspolicy.testing.stores import STORE_CHECKS, OpenStore, what_is_written_is_seen_by_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
NOBODY = 65534
KILLS = 40
WRITERS = 4
WRITES = 150  # of each process


def entry_of(number: int, lines: int = 0) -> Entry:
    """An entry that tells whether all of it is there: its number is in the id, the time and the policy."""
    text = f"version: STSv1\nmode: enforce\nmx: mx{number}.test\nmax_age: 604800\n" + "x: filler\n" * lines
    policy = parse_policy(text.encode())
    assert isinstance(policy, Policy)
    return Entry.of(str(number), policy, NOW + timedelta(milliseconds=number))


FAILED = Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR)


@contextmanager
def memory(path: Path) -> Iterator[OpenStore]:
    store = MemoryStore()
    yield lambda: store


@contextmanager
def async_memory(path: Path) -> Iterator[OpenStore]:
    store = AsyncMemoryStore()
    with EventLoopThread() as loop:
        yield lambda: loop.synchronous(store)


@contextmanager
def sqlite_file(path: Path) -> Iterator[OpenStore]:
    opened: list[SqliteStore] = []

    def open_store() -> PolicyStore:
        opened.append(SqliteStore(path, timeout=30))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@contextmanager
def async_sqlite_file(path: Path) -> Iterator[OpenStore]:
    opened: list[AsyncSqliteStore] = []
    with EventLoopThread() as loop:

        def open_store() -> PolicyStore:
            opened.append(AsyncSqliteStore(path, timeout=30))
            return loop.synchronous(opened[-1])

        yield open_store
        for store in opened:
            loop.run(store.close())


@pytest.mark.parametrize("kind", [memory, async_memory, sqlite_file, async_sqlite_file])
@pytest.mark.parametrize("check", STORE_CHECKS)
def test_a_store_conforms(check: Callable[[OpenStore], None], kind: Any, tmp_path: Path) -> None:
    with kind(tmp_path / "policies") as open_store:
        check(open_store)


class Forgetful(MemoryStore):
    """Writes over what is there."""

    def store(self, domain: str, entry: Entry) -> None:
        self._entries[domain] = entry


class Careless(MemoryStore):
    """Drops whatever is there."""

    def drop(self, domain: str, entry: Entry) -> None:
        self._entries.pop(domain, None)


class Lowering(MemoryStore):
    """Takes A.test for a.test."""

    def load(self, domain: str) -> Entry | None:
        return super().load(domain.lower())

    def store(self, domain: str, entry: Entry) -> None:
        super().store(domain.lower(), entry)


class Short(MemoryStore):
    """Shows a hundred entries and no more."""

    def entries(self, cursor: str) -> PolicyPage:
        return PolicyPage(super().entries(cursor).entries[:100])


class Endless(MemoryStore):
    """Always has one more page."""

    def entries(self, cursor: str) -> PolicyPage:
        return PolicyPage((), "again")


class Racing(MemoryStore):
    """Lets go between reading and writing."""

    def store(self, domain: str, entry: Entry) -> None:
        other = MemoryStore(self._entries)
        time.sleep(0.02)
        other.store(domain, entry)
        self._entries[domain] = dict(other.entries("").entries)[domain]


class Guessing(MemoryStore):
    """Has an entry for every domain."""

    def load(self, domain: str) -> Entry | None:
        return super().load(domain) or FAILED


class Trimming(MemoryStore):
    """Keeps no more of an entry than there was in the first version."""

    def store(self, domain: str, entry: Entry) -> None:
        super().store(domain, evolve(entry, unknown=()))


class Small(MemoryStore):
    """Takes only what fits into its column."""

    def store(self, domain: str, entry: Entry) -> Any:
        if entry.policy is not None and len(entry.policy.text) > 4096:
            return StoreFailure("too long")
        return super().store(domain, entry)


class Failing(MemoryStore):
    """Can not list."""

    def entries(self, cursor: str) -> Any:
        return StoreFailure("no")


BROKEN = [
    (Guessing, "an_unknown_domain_has_no_entry"),
    (Trimming, "an_entry_comes_back_whole"),
    (Small, "a_large_policy_comes_back_whole"),
    (Forgetful, "a_store_merges"),
    (Careless, "a_drop_removes_the_entry_given_alone"),
    (Lowering, "domains_are_kept_apart"),
    (Short, "a_walk_meets_every_entry"),
    (Endless, "a_walk_meets_every_entry"),
    (Failing, "a_walk_meets_every_entry"),
    (Racing, "threads_lose_nothing"),
]


@pytest.mark.parametrize(("broken", "name"), BROKEN)
def test_the_suite_finds_a_broken_store(broken: type[MemoryStore], name: str) -> None:
    store = broken()
    (check,) = (check for check in STORE_CHECKS if check.__name__ == name)
    with pytest.raises(AssertionError):
        check(lambda: store)


def test_the_suite_finds_stores_that_do_not_share_their_data() -> None:
    with pytest.raises(AssertionError):
        what_is_written_is_seen_by_all(MemoryStore)


def test_no_check_is_without_a_store_that_fails_it() -> None:
    found = {name for _, name in BROKEN} | {what_is_written_is_seen_by_all.__name__}
    assert {check.__name__ for check in STORE_CHECKS} == found


# What a store keeps of an entry


def test_an_entry_is_json_in_ascii() -> None:
    entry = FAILED.with_failure(None, NOW, StsFailure.DNS_ERROR)
    assert json.loads(encode_entry(entry).decode("ascii")) == entry.to_json()


def test_an_entry_that_is_too_long_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="more than"):
        encode_entry(entry_of(1, lines=MAX_ENTRY_OCTETS // 10))


WHOLE = entry_of(7).to_json()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GARBAGE: list[bytes | str | int] = [
    b"",
    "",
    0,
    "{",
    "[]",
    "null",
    "{}",
    "[" * 100_000,
    '{"a":' * 100_000,
    b"\xff\xfe\x00",
    b"\x00",
    json.dumps({**WHOLE, "policy": "version: STSv1\n"}),
    json.dumps({**WHOLE, "fetched": "2026-01-01"}),
    json.dumps({**WHOLE, "fetched": None}),
    json.dumps({**WHOLE, "failed": [{"id": "1", "at": NOW.isoformat(), "failure": "unheard-of"}]}),
    json.dumps({**WHOLE, "failed": FAILED.to_json()["failed"] * (MAX_FAILED + 1)}),
    json.dumps({key: value for key, value in WHOLE.items() if key != "fetched"}),
    json.dumps(WHOLE) + " " * MAX_ENTRY_OCTETS,
]


@given(st.binary())
def test_any_octets_are_an_entry_or_a_failure(octets: bytes) -> None:
    assert isinstance(decode_entry(octets), StoreFailure)


@given(st.sampled_from(sorted(WHOLE)), JSON)
def test_any_json_is_an_entry_or_a_failure(key: str, value: Any) -> None:
    for data in ({**WHOLE, key: value}, {**WHOLE, "failed": [{**FAILED.to_json()["failed"][0], key: value}]}, value):
        got = decode_entry(json.dumps(data).encode())
        assert isinstance(got, StoreFailure) or decode_entry(encode_entry(got)) == got


# What a file can be


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policies ?#%.sqlite"


def write_raw(path: Path, domain: bytes | str, entry: bytes | str | int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO policies VALUES (CAST(? AS TEXT), ?)", (domain, entry))


def make(path: Path, *domains: str) -> None:
    with SqliteStore(path) as store:
        for domain in domains:
            assert store.store(domain, entry_of(1)) is None


def assert_fails(result: object, text: str = "") -> None:
    assert isinstance(result, StoreFailure)
    assert text in result.detail


def assert_all_fail(store: SqliteStore, text: str = "") -> None:
    assert_fails(store.load("a.test"), text)
    assert_fails(store.store("a.test", entry_of(1)), text)
    assert_fails(store.drop("a.test", entry_of(1)), text)
    assert_fails(store.entries(""), text)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage)[:40])
def test_what_can_not_be_read_is_a_failure_until_a_policy_replaces_it(garbage: bytes | str | int, path: Path) -> None:
    make(path, "a.test", "c.test")
    write_raw(path, "b.test", garbage)
    with SqliteStore(path) as store:
        assert_fails(store.load("b.test"))
        assert_fails(store.store("b.test", FAILED))
        assert_fails(store.drop("b.test", FAILED))
        page = store.entries("")
        assert isinstance(page, PolicyPage)
        assert [domain for domain, _ in page.entries] == ["a.test", "c.test"]
        assert [domain for domain, _ in page.failures] == ["b.test"]
        assert store.store("b.test", entry_of(2)) is None
        assert store.load("b.test") == entry_of(2)


def test_a_walk_gets_past_names_that_are_no_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PAGE_ENTRIES", 1)
    make(path, "a.test", "b.test")
    for name in (b"a\xff", b"\x80", b"\xff\xff", b"\xff\x00"):
        write_raw(path, name, encode_entry(entry_of(1)))
    with SqliteStore(path) as store:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < 10:
            page = store.entries(cursor)
            assert isinstance(page, PolicyPage)
            found += [domain for domain, _ in page.entries]
            cursor = page.cursor
        assert len(found) == len(set(found)) == 6
        assert {store.load(domain) for domain in found} == {entry_of(1)}


def test_a_name_that_can_not_be_written_is_a_failure(path: Path) -> None:
    with SqliteStore(path) as store:
        assert_fails(store.load("\ud800.test"))
        assert_fails(store.store("\ud800.test", FAILED))


def test_an_entry_that_is_too_long_is_not_stored(path: Path) -> None:
    with SqliteStore(path) as store:
        assert_fails(store.store("a.test", entry_of(1, lines=MAX_ENTRY_OCTETS // 10)), "more than")
        assert store.load("a.test") is None


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_files_are_their_owners_alone(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with SqliteStore(path) as store:
            assert store.store("a.test", entry_of(1)) is None
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) & 0o177 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm"], 0)


def test_a_file_keeps_its_permissions(path: Path) -> None:
    make(path, "a.test")
    path.chmod(0o640)
    make(path, "b.test")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_is_one_when_all_are_closed(path: Path) -> None:
    make(path, "a.test")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_was_cut_to_nothing_is_a_failure_until_it_is_removed(path: Path) -> None:
    make(path, "a.test")
    os.truncate(path, 0)
    with SqliteStore(path) as store:
        assert_all_fail(store, "what it held is lost")
        assert path.stat().st_size == 0
        path.unlink()
        assert store.load("a.test") is None
        assert store.store("a.test", entry_of(1)) is None


def test_a_store_whose_making_was_cut_short_is_made(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    make(path, "a.test")


def test_another_file_is_left_alone(path: Path) -> None:
    path.write_bytes(b"no database, but longer than the header of one\n" * 100)
    before = path.read_bytes()
    with SqliteStore(path) as store:
        assert_all_fail(store, "not a database")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("CREATE TABLE policies (domain, entry)", "something else"),
        ("PRAGMA user_version = 1", "something else"),
        ("PRAGMA application_id = 1", "something else"),
    ],
)
def test_another_database_is_left_alone(path: Path, statement: str, text: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    with SqliteStore(path) as store:
        assert_all_fail(store, text)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, sqlite.SCHEMA_VERSION + 1])
def test_a_store_of_another_version_is_left_alone(path: Path, version: int) -> None:
    make(path, "a.test")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with SqliteStore(path) as store:
        assert_all_fail(store, f"version {version}")
    assert path.read_bytes() == before


def test_a_folder_that_is_missing_is_a_failure_until_it_is_there(path: Path) -> None:
    with SqliteStore(path.parent / "later" / "policies") as store:
        assert_all_fail(store, "No such file")
        (path.parent / "later").mkdir()
        assert store.store("a.test", entry_of(1)) is None


def test_a_folder_in_place_of_the_file_is_a_failure(path: Path) -> None:
    with SqliteStore(path.parent) as store:
        assert_all_fail(store)


def test_a_pipe_in_place_of_the_file_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with SqliteStore(path) as store:
        assert_all_fail(store, "no file")


def test_a_damaged_file_is_a_failure(path: Path) -> None:
    make(path, *(f"d{number}.test" for number in range(100)))
    octets = bytearray(path.read_bytes())
    octets[4096:] = random.Random(1).randbytes(len(octets) - 4096)
    path.write_bytes(octets)
    with SqliteStore(path) as store:
        assert_all_fail(store)


@contextmanager
def without_privileges(*names: str) -> Iterator[Path]:
    """A folder that everybody may read and nobody may write to, and a process that is not root.

    In it the file of a store that another process has open, and what lies beside it, as far as it is named.
    """
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        folder = Path(name)
        with SqliteStore(Path(other) / "policies") as store:
            assert store.store("a.test", entry_of(1)) is None
            if not names:
                store.close()
            for file in ("policies", *names):
                shutil.copyfile(Path(other) / file, folder / file)
                (folder / file).chmod(0o444)
        folder.chmod(0o755)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        else:
            folder.chmod(0o555)
        try:
            yield folder / "policies"
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


@pytest.mark.parametrize("names", [(), ("policies-wal", "policies-shm")], ids=["closed", "killed"])
def test_a_file_that_can_only_be_read_is_read(names: tuple[str, ...]) -> None:
    with without_privileges(*names) as path, SqliteStore(path, timeout=0.1) as store:
        before = sorted(path.parent.iterdir())
        assert store.load("a.test") == entry_of(1)
        assert store.load("b.test") is None
        assert store.entries("") == PolicyPage((("a.test", entry_of(1)),))
        assert_fails(store.store("b.test", entry_of(2)))
        assert_fails(store.drop("a.test", entry_of(1)))
        assert store.load("a.test") == entry_of(1)
        assert sorted(path.parent.iterdir()) == before
        assert_fails(SqliteStore(path.with_name("other")).load("a.test"))


def test_a_log_that_can_not_be_read_may_hold_anything() -> None:
    with without_privileges("policies-wal") as path, SqliteStore(path, timeout=0.1) as store:
        assert_all_fail(store)


def test_a_file_that_is_written_meanwhile_is_not_read_without_its_locks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path, "a.test")

    def unable(path: Path, how: str, timeout: float, opened: Any = sqlite._open) -> sqlite3.Connection:
        if how == "mode=rw":
            raise sqlite3.OperationalError("disk I/O error")
        connection: sqlite3.Connection = opened(path, how, timeout)
        written.append(len(written))
        os.utime(path, ns=(len(written), len(written)))
        return connection

    written: list[int] = []
    with SqliteStore(path) as store:
        monkeypatch.setattr(sqlite, "_open", unable)
        assert_fails(store.load("a.test"), "disk I/O error")
        assert len(written) == sqlite._READ_ATTEMPTS
        monkeypatch.setattr(os, "utime", lambda *_, **__: None)
        assert store.load("a.test") == entry_of(1)


@pytest.mark.own_process
def test_a_full_disk_lets_a_store_be_opened_for_reading(path: Path) -> None:
    make(path, "a.test")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))  # the index of the log has 32 KiB
    try:
        with SqliteStore(path) as store:
            assert store.load("a.test") == entry_of(1)
            assert store.load("b.test") is None
            assert_fails(store.store("b.test", entry_of(2)))
            assert_fails(SqliteStore(path.with_name("new")).store("b.test", entry_of(2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in path.parent.iterdir() if file.name.startswith("new")] == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_store_that_there_is_no_room_for_holds_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sqlite, "_make", full)
    with SqliteStore(path) as store:
        assert store.load("a.test") is None
        assert store.entries("") == PolicyPage(())
        assert_fails(store.store("a.test", entry_of(1)))
        assert_fails(store.drop("a.test", entry_of(1)))


def test_what_lies_outside_of_the_damage_is_read(path: Path) -> None:
    domains = [f"d{number:03}.test" for number in range(300)]
    make(path, *domains)
    octets = bytearray(path.read_bytes())
    leaves = [
        start for start in range(4096, len(octets), 4096) if octets[start] == 13 and b"STSv1" in octets[start:][:4096]
    ]
    middle = leaves[len(leaves) // 2]
    octets[middle : middle + 8] = b"garbage!"
    path.write_bytes(octets)
    with SqliteStore(path) as store:
        found = {domain: store.load(domain) for domain in domains}
        lost = {domain for domain, got in found.items() if isinstance(got, StoreFailure)}
        assert 0 < len(lost) < 50
        assert {got for domain, got in found.items() if domain not in lost} == {entry_of(1)}
        failed: set[str] = set()
        whole: set[str] = set()
        cursor: str | None = ""
        while cursor is not None:
            page = store.entries(cursor)
            assert isinstance(page, PolicyPage)
            failed |= {domain for domain, _ in page.failures}
            whole |= {domain for domain, _ in page.entries}
            cursor = page.cursor
        assert (failed, whole) == (lost, {*domains} - lost)


@pytest.mark.own_process
def test_a_full_disk_is_a_failure_that_passes(path: Path) -> None:
    with SqliteStore(path) as store:
        assert store.store("a.test", entry_of(1)) is None
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
        try:
            assert_fails(store.store("b.test", entry_of(2, lines=20_000)))
            assert store.load("a.test") == entry_of(1)
            assert store.load("b.test") is None
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert store.store("b.test", entry_of(2, lines=20_000)) is None


def test_a_file_that_another_keeps_locked_is_a_failure_that_passes(path: Path) -> None:
    make(path, "a.test")
    with SqliteStore(path, timeout=0.05) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_fails(store.store("b.test", entry_of(2)), "locked")
        assert_fails(store.drop("a.test", entry_of(1)), "locked")
        assert store.load("a.test") == entry_of(1)
        other.execute("ROLLBACK")
        assert store.store("b.test", entry_of(2)) is None


@pytest.mark.own_process
def test_a_thread_waits_for_another_no_longer_than_it_may(path: Path) -> None:
    make(path, "a.test")
    waiting = 40
    with SqliteStore(path, timeout=0.5) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        results: list[object] = []
        threads = [
            threading.Thread(target=lambda: results.append(store.store("b.test", entry_of(2)))) for _ in range(waiting)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - start < 15  # one after the other they would take twenty seconds
        assert len(results) == waiting
        for result in results:
            assert_fails(result)


def test_a_write_that_fails_half_way_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore(path) as store:
        assert store.store("a.test", entry_of(1)) is None

        def interrupted(stored: object, entry: object) -> Entry:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "merge_octets", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.store("a.test", entry_of(2))
        assert store.load("a.test") == entry_of(1)
        assert store.store("a.test", entry_of(2)) is None


def test_a_closed_store_opens_again(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    assert store.store("a.test", entry_of(1)) is None
    store.close()
    store.close()
    assert store.load("a.test") == entry_of(1)
    store.close()


def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("policies")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with store:
        assert store.store("a.test", entry_of(1)) is None
    assert (tmp_path / "policies").exists()


def test_the_event_loop_runs_on_while_a_file_is_locked(path: Path) -> None:
    make(path, "a.test")

    async def main() -> None:
        async with AsyncSqliteStore(path, timeout=60) as store:
            writing = asyncio.ensure_future(store.store("b.test", entry_of(1)))
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert not writing.done()
            other.execute("ROLLBACK")
            assert await writing is None

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asyncio.run(main())


# Several processes


def in_process(target: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process  # type: ignore[return-value]  # a process of the context


def assert_ends_well(*processes: multiprocessing.Process) -> None:
    for process in processes:
        process.join(600)
        if process.exitcode is None:
            process.kill()
            process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def write_beside_others(path: Path, writer: int) -> None:
    with SqliteStore(path, timeout=30) as store:
        for write in range(WRITES):
            number = (write * 7 % WRITES) * WRITERS + writer
            assert store.store("shared.test", entry_of(number)) is None
            assert store.store(f"d{write}.{writer}.test", entry_of(number)) is None
            loaded = store.load("shared.test")
            assert isinstance(loaded, Entry)
            assert loaded.fetched is not None
            assert loaded.fetched >= entry_of(number).checked
            assert store.drop("shared.test", FAILED) is None


def test_processes_that_make_and_write_one_file_lose_nothing(path: Path) -> None:
    assert_ends_well(*(in_process(write_beside_others, path, writer) for writer in range(WRITERS)))
    with SqliteStore(path) as store:
        newest = store.load("shared.test")
        assert newest == entry_of(WRITES * WRITERS - 1)
        for writer in range(WRITERS):
            for write in range(WRITES):
                expected = entry_of((write * 7 % WRITES) * WRITERS + writer)
                assert store.load(f"d{write}.{writer}.test") == expected


def test_threads_that_make_one_file_at_once_all_succeed(path: Path) -> None:
    for turn in range(20):
        new, start = path.with_name(str(turn)), threading.Barrier(WRITERS)

        def write(writer: int, new: Path = new, start: threading.Barrier = start) -> object:
            with SqliteStore(new) as store:
                start.wait()
                return store.store(f"d{writer}.test", entry_of(writer))

        with ThreadPoolExecutor(WRITERS) as pool:
            assert list(pool.map(write, range(WRITERS))) == [None] * WRITERS


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "BEGIN; SELECT * FROM sqlite_master"])
def test_the_making_of_a_file_waits_for_who_has_it_locked(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.executescript("CREATE TABLE t (c); DROP TABLE t")
        other.executescript(statement)
        release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        release.start()
        with SqliteStore(path) as store:
            assert store.load("a.test") is None
        release.join()


def test_opening_a_file_twice_keeps_the_locks_of_the_process(path: Path) -> None:
    with SqliteStore(path) as first, SqliteStore(path) as second:
        assert first.store("a.test", entry_of(1)) is None
        assert second.load("a.test") == entry_of(1)
        second.close()
        assert_ends_well(in_process(make, path, "b.test"))
        # Another process would have removed the log, had it taken itself for the last one with the file open
        assert path.with_name(f"{path.name}-wal").exists()
        assert first.load("b.test") == entry_of(1)


def write_for_ever(path: Path, first: int, tell: int) -> None:
    store = SqliteStore(path)
    for number in range(first, first + 1_000_000):
        assert store.store(f"d{number % 5}.test", entry_of(number, lines=number * 37 % 2000)) is None
        os.write(tell, b"%d\n" % number)


def assert_whole(path: Path, last: int) -> None:
    """Every entry is whole, and the last write that was acknowledged is there, or a later one."""
    with SqliteStore(path) as store:
        page = store.entries("")
        assert isinstance(page, PolicyPage)
        assert page.failures == ()
        for _, entry in page.entries:
            number = int(entry.id or "")
            assert entry == entry_of(number)
            assert entry.policy is not None
            assert entry.policy.text.count("filler") == number * 37 % 2000
        if last >= 0:
            entry = dict(page.entries)[f"d{last % 5}.test"]
            assert entry.fetched is not None
            assert entry.fetched >= entry_of(last).checked
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def kill_writers(folder: Path) -> None:
    """Kill a child at a random moment, again and again: while it makes a file, and while it writes to an old one."""
    chance = random.Random(8461)
    old, last = folder / "old", -1
    for kill in range(KILLS):
        path = old if kill % 2 else folder / f"new{kill}"
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)  # so that the pipe breaks when the parent is gone
            try:
                write_for_ever(path, last + 1 if path == old else 0, writer)
            finally:
                os._exit(1)
        os.close(writer)
        if kill % 4 == 1:  # every other time that it writes to the old one: when it does so
            select.select([reader], [], [])
        time.sleep(chance.uniform(0, 0.06 if path == old else 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        with os.fdopen(reader, encoding="ascii") as told:
            numbers = [int(line) for line in told if line.endswith("\n")]
        if path == old:
            last = max([last, *numbers])
        assert_whole(path, last if path == old else max(numbers, default=-1))
    assert last > 0


def test_a_killed_writer_leaves_whole_entries(tmp_path: Path) -> None:
    assert_ends_well(in_process(kill_writers, tmp_path))


def fork_while_in_use(path: Path) -> None:
    """Fork with an open connection and threads that write; parent and children go on with the store."""
    store = SqliteStore(path, timeout=30)
    assert store.store("a.test", entry_of(1)) is None
    stop = threading.Event()
    failures: list[object] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            failures.extend(filter(None, [store.store("thread.test", entry_of(number))]))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    children = []
    try:
        for number in range(10):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    assert store.load("a.test") == entry_of(1)
                    assert store.store(f"child{number}.test", entry_of(number)) is None
                    status = 0
                finally:
                    store.close()
                    os._exit(status)
            children.append(child)
            assert store.load("a.test") == entry_of(1)
        statuses = [os.waitpid(child, 0)[1] for child in children]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [0] * len(children)
    assert failures == []
    for number in range(10):
        assert store.load(f"child{number}.test") == entry_of(number)
    store.close()


def test_a_store_is_of_use_on_both_sides_of_a_fork(path: Path) -> None:
    assert_ends_well(in_process(fork_while_in_use, path))


def fork_in_a_signal_handler(path: Path) -> None:
    """Fork in the midst of a call of the same thread; both sides return into that call, and go on with the store."""
    store = SqliteStore(path)
    assert store.store("a.test", entry_of(1)) is None
    children: list[int] = []

    def handle(*_: object) -> None:
        assert store.load("a.test") == entry_of(1)
        children.append(os.fork())
        assert store.load("a.test") == entry_of(1)

    signal.signal(signal.SIGUSR1, handle)
    for module, name in ((sqlite, "merge_octets"), (sqlite, "_open"), (sqlite, "_is_ready")):
        original = getattr(module, name)
        if name != "merge_octets":
            store.close()

        def interrupted(*arguments: object, name: str = name, original: Any = original) -> Any:
            setattr(sqlite, name, original)
            result = original(*arguments)
            signal.raise_signal(signal.SIGUSR1)
            return result

        setattr(sqlite, name, interrupted)
        result = store.store("b.test", entry_of(2))  # cut off, or not: never hung, never raised
        assert result is None or isinstance(result, StoreFailure)
        assert store.load("a.test") == entry_of(1)
        assert store.store("c.test", entry_of(3)) is None
        if children.pop() == 0:
            os._exit(0)
        assert os.wait()[1] == 0


def test_a_signal_handler_may_fork(path: Path) -> None:
    assert_ends_well(in_process(fork_in_a_signal_handler, path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_key_that_is_no_text_is_walked_past(path: Path) -> None:
    with SqliteStore(path) as store:
        assert store.store("a.test", entry_of(1)) is None
        with closing(sqlite3.connect(path)) as other, other:
            rows = [
                (b"blob%d" % number, encode_entry(entry_of(2)).decode()) for number in range(2 * sqlite.PAGE_ENTRIES)
            ]
            other.executemany("INSERT INTO policies VALUES (?, ?)", rows)
        page = store.entries("")
        assert isinstance(page, PolicyPage)
        assert [domain for domain, _ in page.entries] == ["a.test"]
        assert page.cursor is None


def test_what_is_told_of_an_unreadable_entry_is_short() -> None:
    bad = decode_entry(json.dumps({"fetched": "x" * 100_000, "policy": "x"}).encode())
    assert isinstance(bad, StoreFailure)
    assert len(bad.detail) < 300
