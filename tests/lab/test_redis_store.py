"""The stores on Redis, against a server of the lab's own."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import shutil
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from attrs import frozen
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from mailtlspolicy.adapters import redis as adapter
from mailtlspolicy.adapters.redis import AsyncRedisStore, RedisStore
from mailtlspolicy.sts.cache import Entry, StsFailure
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.sts.stores import MAX_ENTRY_OCTETS, decode_entry, encode_entry, merge_octets
from mailtlspolicy.testing.event_loop import EventLoopThread
from mailtlspolicy.testing.stores import STORE_CHECKS, OpenStore
from tests.lab.programs import program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailtlspolicy.sts.stores import PolicyStore

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
WRITERS = 4
WRITES = 300  # of each process
START_SECONDS = 60
# What redis-py does by itself depends on its version, and takes seconds
NO_RETRY = Retry(NoBackoff(), 0)
ASYNC_NO_RETRY = AsyncRetry(NoBackoff(), 0)


@frozen
class Server:
    """A running server, and its socket."""

    path: Path
    process: subprocess.Popen[bytes]

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.path), socket_timeout=30, retry=NO_RETRY, **options)

    @contextlib.contextmanager
    def async_stores(self) -> Iterator[OpenStore]:
        """Opens asynchronous stores, made synchronous, and closes them all."""
        clients: list[redis.asyncio.Redis] = []
        with EventLoopThread() as loop:

            def open_store() -> PolicyStore:
                client = redis.asyncio.Redis(unix_socket_path=str(self.path), socket_timeout=30, retry=ASYNC_NO_RETRY)
                clients.append(client)
                return loop.synchronous(AsyncRedisStore(client))

            try:
                yield open_store
            finally:
                for client in clients:
                    loop.run(client.aclose())

    @contextlib.contextmanager
    def stores(self) -> Iterator[OpenStore]:
        """Opens stores, and closes them all."""
        with contextlib.ExitStack() as stack:
            yield lambda: RedisStore(stack.enter_context(self.client()))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    redis_server = shutil.which("redis-server") or shutil.which("valkey-server")
    assert redis_server is not None, "the lab needs redis-server: apt-get install redis-server"
    path = folder / "redis.sock"
    arguments = ["--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "no"]
    with (
        (folder / "log").open("wb") as log,
        program(redis_server, *map(str, arguments), stdout=log, stderr=log) as process,
    ):
        end = time.monotonic() + START_SECONDS
        while not path.exists():
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            assert time.monotonic() < end, "redis-server does not start"
            time.sleep(0.02)
        yield Server(path, process)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """The server, empty."""
    with running.client() as client:
        client.flushall()
    return running


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def entry_of(number: int) -> Entry:
    policy = parse_policy(f"version: STSv1\nmode: enforce\nmx: mx{number}.test\nmax_age: 604800\n".encode())
    assert isinstance(policy, Policy)
    return Entry.of(str(number), policy, NOW + timedelta(milliseconds=number))


FAILED = Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR)


def assert_fails(result: object, text: str = "") -> None:
    assert isinstance(result, StoreFailure)
    assert text in result.detail


def assert_all_fail(store: PolicyStore) -> None:
    assert_fails(store.load("a.test"))
    assert_fails(store.store("a.test", entry_of(1)))
    assert_fails(store.drop("a.test", entry_of(1)))
    assert_fails(store.entries(""))


@pytest.mark.parametrize("kind", [Server.stores, Server.async_stores])
@pytest.mark.parametrize("check", STORE_CHECKS)
def test_a_store_conforms(check: Callable[[OpenStore], None], kind: Any, server: Server) -> None:
    with kind(server) as open_store:
        check(open_store)


def test_nothing_expires(client: redis.Redis) -> None:
    store = RedisStore(client)
    assert store.store("a.test", entry_of(1)) is None
    assert store.store("a.test", entry_of(2)) is None
    assert client.ttl("mta-sts:a.test") == -1


def test_the_script_of_one_prefix_is_not_that_of_another(client: redis.Redis) -> None:
    prefixes = ["", "a", "a*", "a?", "[a]", "\\", "ä:", "mta-sts:"]
    for number, prefix in enumerate(prefixes):
        assert RedisStore(client, prefix=f"{prefix}|").store("a.test", entry_of(number)) is None
    for number, prefix in enumerate(prefixes):
        store = RedisStore(client, prefix=f"{prefix}|")
        assert store.load("a.test") == entry_of(number)
        assert walk(store) == ({"a.test": entry_of(number)}, {})


def walk(store: PolicyStore) -> tuple[dict[str, Entry], dict[str, StoreFailure]]:
    entries: dict[str, Entry] = {}
    failures: dict[str, StoreFailure] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = store.entries(cursor)
        assert isinstance(page, PolicyPage)
        entries.update(page.entries)
        failures.update(page.failures)
        cursor = page.cursor
    return entries, failures


def test_other_keys_of_the_database_are_left_alone(client: redis.Redis) -> None:
    client.mset({f"other{number}": "value" for number in range(1000)})
    store = RedisStore(client)
    assert store.store("a.test", entry_of(1)) is None
    assert walk(store) == ({"a.test": entry_of(1)}, {})
    assert client.dbsize() == 1001


GARBAGE = [b"{", b"[]", b"null", b"\xff\x00", b"[" * 100_000, b" " * (MAX_ENTRY_OCTETS + 1), b"x" * 5_000_000]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage)[:20])
def test_what_can_not_be_read_is_a_failure_until_a_policy_replaces_it(garbage: bytes, client: redis.Redis) -> None:
    client.set("mta-sts:b.test", garbage)
    store = RedisStore(client)
    assert store.store("a.test", entry_of(1)) is None
    assert_fails(store.load("b.test"))
    assert_fails(store.store("b.test", FAILED))
    assert_fails(store.drop("b.test", FAILED))
    entries, failures = walk(store)
    assert (list(entries), list(failures)) == (["a.test"], ["b.test"])
    assert client.get("mta-sts:b.test") == garbage
    assert store.store("b.test", entry_of(2)) is None
    assert store.load("b.test") == entry_of(2)


def test_a_key_of_another_type_is_a_failure(client: redis.Redis) -> None:
    client.rpush("mta-sts:b.test", "item")
    client.set(b"mta-sts:\xff", encode_entry(entry_of(3)))
    store = RedisStore(client)
    assert store.store("a.test", entry_of(1)) is None
    assert_fails(store.load("b.test"), "WRONGTYPE")
    assert_fails(store.store("b.test", entry_of(2)), "WRONGTYPE")
    assert_fails(store.drop("b.test", entry_of(2)), "WRONGTYPE")
    entries, failures = walk(store)
    assert (set(entries), set(failures)) == ({"a.test", "\udcff"}, {"b.test"})
    assert store.load("\udcff") == entry_of(3)


def test_what_can_not_be_written_is_a_failure(client: redis.Redis) -> None:
    store = RedisStore(client)
    assert_fails(store.load("\ud800.test"))
    policy = parse_policy(b"version: STSv1\nmode: none\nmax_age: 1\n" + b"x: filler\n" * (MAX_ENTRY_OCTETS // 10))
    assert isinstance(policy, Policy)
    assert_fails(store.store("a.test", Entry.of("1", policy, NOW)), "more than")
    assert store.load("a.test") is None


def test_a_cursor_of_something_else_is_a_failure(client: redis.Redis) -> None:
    assert_fails(RedisStore(client).entries("a.test"))


def test_a_client_that_decodes_is_refused(server: Server) -> None:
    with server.client(decode_responses=True) as client, pytest.raises(ValueError, match="decode_responses"):
        RedisStore(client)


def test_a_server_that_takes_no_more_is_a_failure(client: redis.Redis) -> None:
    store = RedisStore(client)
    assert store.store("a.test", entry_of(1)) is None
    client.config_set("maxmemory", 1)
    try:
        assert_fails(store.store("b.test", entry_of(2)), "maxmemory")
        assert store.load("a.test") == entry_of(1)
        assert store.load("b.test") is None
    finally:
        client.config_set("maxmemory", 0)
    assert store.store("b.test", entry_of(2)) is None


@pytest.mark.parametrize("kind", [Server.stores, Server.async_stores])
def test_a_server_that_is_stopped_is_a_failure_until_it_is_back(kind: Any, tmp_path: Path) -> None:
    with serve(tmp_path) as server, kind(server) as open_store:
        store = open_store()
        assert store.store("a.test", entry_of(1)) is None
        server.process.terminate()
        server.process.wait()
        assert_all_fail(store)
        with serve(tmp_path):
            assert store.load("a.test") is None
            assert store.store("b.test", entry_of(2)) is None


@pytest.mark.parametrize("kind", [Server.stores, Server.async_stores])
def test_a_killed_connection_is_a_failure_at_most_once(kind: Any, server: Server) -> None:
    with kind(server) as open_store, server.client() as killer:
        store = open_store()
        for number in range(3):
            assert store.store("a.test", entry_of(number)) is None
            killer.client_kill_filter(_type="normal", skipme=True)
            first = store.load("a.test")
            assert first == entry_of(number) or isinstance(first, StoreFailure)
            assert store.load("a.test") == entry_of(number)


def test_a_silent_server_is_a_failure_after_the_clients_timeout(tmp_path: Path) -> None:
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with redis.Redis(unix_socket_path=path, socket_timeout=0.1, retry=NO_RETRY) as client:
            start = time.monotonic()
            assert_fails(RedisStore(client).load("a.test"))
            assert time.monotonic() - start < 5


def test_a_write_gives_up_when_others_are_always_faster(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    store, number = RedisStore(client), 1
    assert store.store("a.test", entry_of(1)) is None

    def another_writes() -> None:
        nonlocal number
        number += 1
        client.set("mta-sts:a.test", encode_entry(entry_of(number)))

    def beaten(octets: bytes | None, entry: Entry) -> bytes | StoreFailure:
        another_writes()
        return merge_octets(octets, entry)

    with monkeypatch.context() as patch:
        patch.setattr(adapter, "merge_octets", beaten)
        assert_fails(store.store("a.test", entry_of(10**6)), "faster")
        assert number == adapter.MAX_ATTEMPTS + 1
    assert store.load("a.test") == entry_of(number)

    def beaten_once(octets: bytes) -> Entry | StoreFailure:
        monkeypatch.undo()
        another_writes()
        return decode_entry(octets)

    monkeypatch.setattr(adapter, "decode_entry", beaten_once)
    assert store.drop("a.test", entry_of(number)) is None
    assert store.load("a.test") == entry_of(number)


def write_beside_others(path: str, writer: int) -> None:
    with redis.Redis(unix_socket_path=path, socket_timeout=30) as client:
        store = RedisStore(client)
        for write in range(WRITES):
            number = (write * 7 % WRITES) * WRITERS + writer
            assert store.store("shared.test", entry_of(number)) is None
            loaded = store.load("shared.test")
            assert isinstance(loaded, Entry)
            assert loaded.fetched is not None
            assert loaded.fetched >= entry_of(number).checked
            assert store.drop("shared.test", FAILED) is None


def test_processes_that_write_one_domain_lose_nothing(server: Server) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write_beside_others, args=(str(server.path), writer)) for writer in range(WRITERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
        process.join()
    assert [process.exitcode for process in processes] == [0] * WRITERS
    with server.client() as client:
        assert RedisStore(client).load("shared.test") == entry_of(WRITES * WRITERS - 1)


def test_connections_killed_in_the_midst_of_writes_lose_nothing(server: Server) -> None:
    """What was acknowledged is there; what failed is there or not, but whole."""
    stop = threading.Event()
    chance = random.Random(8461)

    def kill() -> None:
        with server.client() as killer:
            while not stop.wait(chance.uniform(0, 0.005)):
                killer.client_kill_filter(_type="normal", skipme=True)

    thread = threading.Thread(target=kill)
    thread.start()
    newest = -1
    with server.client() as client:
        store = RedisStore(client)
        try:
            for number in range(500):
                if store.store("a.test", entry_of(number)) is None:
                    newest = number
        finally:
            stop.set()
            thread.join()
        loaded = store.load("a.test")
        if isinstance(loaded, StoreFailure):  # the last kill
            loaded = store.load("a.test")
    assert isinstance(loaded, Entry)
    assert loaded == entry_of(int(loaded.id or ""))
    assert int(loaded.id or "") >= newest >= 0


def test_a_server_without_room_is_read(server: Server, client: redis.Redis) -> None:
    store = RedisStore(client)
    assert store.store("a.test", entry_of(1)) is None
    client.config_set("maxmemory", 1)
    try:
        assert store.load("a.test") == entry_of(1)
        assert store.load("b.test") is None
        page = store.entries("")
        assert isinstance(page, PolicyPage)
        assert isinstance(store.store("b.test", entry_of(2)), StoreFailure)
    finally:
        client.config_set("maxmemory", 0)
    assert store.store("b.test", entry_of(2)) is None
