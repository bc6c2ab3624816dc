"""Both senders to a collector, against real sockets that read, sleep, restart or are not there."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy.adapters import collectd
from mailtlspolicy.adapters.collectd import AsyncCollectdSender, CollectdSender, SendFailure, SendFailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

SECONDS = 60
EACH_KIND: Callable[[Callable[..., None]], Callable[..., None]] = pytest.mark.parametrize(
    "kind", [CollectdSender, AsyncCollectdSender]
)
LONGEST = 1_000_000  # octets; more than the usual 212,992 of a socket


class Collector:
    """Reads only when it is told to."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def read(self) -> list[bytes]:
        """What is in the queue."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(2 * LONGEST))
        except BlockingIOError:
            return found

    def stop(self) -> None:
        """As a process that is killed: the socket is gone, its file is not."""
        self.socket.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "collectd.sock"


@pytest.fixture
def collector(path: Path) -> Iterator[Collector]:
    collector = Collector(path)
    yield collector
    collector.stop()


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test inside a loop."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


def with_each_kind(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test once with each kind of sender, inside a loop."""
    return EACH_KIND(in_loop(test))


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [f'{{"d": "{number}.test"}}'.encode() for number in range(start, start + count)]


def fill(sender: CollectdSender) -> int:
    """Send until the queue is full; how many datagrams it took."""
    for number, datagram in enumerate(numbered(10_000)):
        failure = sender.send(datagram)
        if failure is not None:
            assert (failure.kind, failure.dropped) == (SendFailureKind.QUEUE_FULL, 0)
            return number
    raise AssertionError("the queue has no end")


def kind_of(failure: SendFailure | None) -> SendFailureKind:
    assert failure is not None
    assert failure.detail
    return failure.kind


async def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


@with_each_kind
async def test_datagrams_arrive_whole_and_in_order(kind: type[CollectdSender], collector: Collector) -> None:
    with kind(collector.path) as sender:
        received = []
        for datagram in [*numbered(50), b"", '{"d": "\u00e4.test"}'.encode(), b"\0\xff"]:
            assert sender.send(datagram) is None
            received += collector.read()
    assert received == [*numbered(50), b"", '{"d": "\u00e4.test"}'.encode(), b"\0\xff"]


@with_each_kind
async def test_what_the_queue_does_not_take_goes_before_the_next_one(
    kind: type[CollectdSender], collector: Collector
) -> None:
    with kind(collector.path) as sender:
        taken = fill(sender)
        for datagram in numbered(20, taken + 1):
            assert kind_of(sender.send(datagram)) is SendFailureKind.QUEUE_FULL
        assert sender.waiting == 21
        received = []
        for datagram in numbered(40, taken + 21):
            received += collector.read()
            sender.send(datagram)
        while sender.waiting:
            received += collector.read()
            sender.flush()
        received += collector.read()
        assert received == numbered(taken + 61)
        assert sender.dropped == 0


@with_each_kind
async def test_the_oldest_are_dropped_where_the_backlog_is_full(
    kind: type[CollectdSender], collector: Collector
) -> None:
    with kind(collector.path, backlog=3) as sender:
        taken = fill(sender)
        dropped = []
        for datagram in numbered(5, taken + 1):
            failure = sender.send(datagram)
            assert failure is not None
            dropped.append(failure.dropped)
        assert dropped == [0, 0, 1, 1, 1]
        assert (sender.waiting, sender.dropped) == (3, 3)
        received = collector.read()
        while sender.flush() is not None:
            received += collector.read()
        received += collector.read()
    assert received == [*numbered(taken), *numbered(3, taken + 3)]


@with_each_kind
async def test_without_a_backlog_what_the_queue_does_not_take_is_dropped(
    kind: type[CollectdSender], collector: Collector
) -> None:
    with kind(collector.path, backlog=0) as sender:
        failures = [failure for datagram in numbered(3000) if (failure := sender.send(datagram)) is not None]
        assert {(failure.kind, failure.dropped) for failure in failures} == {(SendFailureKind.QUEUE_FULL, 1)}
        assert sender.dropped == len(failures)
        assert collector.read() == numbered(3000 - len(failures))


@with_each_kind
async def test_memory_is_bounded_while_nobody_reads(
    kind: type[CollectdSender], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectd, "MAX_BACKLOG_OCTETS", 100_000)
    with kind(collector.path, backlog=10_000) as sender:
        fill(sender)
        tracemalloc.start()
        try:
            for number in range(2000):
                sender.send(str(number).encode().ljust(1000))
            assert tracemalloc.get_traced_memory()[1] < 400_000
        finally:
            tracemalloc.stop()
        assert sender.waiting == 100
        assert sender.dropped >= 1900


@with_each_kind
async def test_a_collector_that_is_not_there_yet_gets_what_was_kept(kind: type[CollectdSender], path: Path) -> None:
    with kind(path) as sender:
        for datagram in numbered(5):
            assert sender.send(datagram) == SendFailure(SendFailureKind.ABSENT, os.strerror(errno.ENOENT))
        collector = Collector(path)
        assert sender.send(b"last") is None
        assert collector.read() == [*numbered(5), b"last"]
        collector.stop()


@pytest.mark.parametrize("file_remains", ["file remains", ""])
@with_each_kind
async def test_a_collector_that_was_restarted_is_connected_to_anew(
    kind: type[CollectdSender], path: Path, file_remains: str
) -> None:
    with kind(path) as sender:
        for start in (0, 10, 20):
            collector = Collector(path)
            assert sender.send(f"{start} first".encode()) is None
            assert collector.read()[-1] == f"{start} first".encode()
            collector.stop()
            if not file_remains:
                path.unlink()
            assert kind_of(sender.send(f"{start} kept".encode())) is SendFailureKind.ABSENT
        collector = Collector(path)
        assert sender.send(b"last") is None
        assert collector.read() == [b"20 kept", b"last"]
        collector.stop()


@with_each_kind
async def test_a_restart_between_two_datagrams_is_not_noticed(kind: type[CollectdSender], path: Path) -> None:
    with kind(path) as sender:
        for datagram in numbered(5):
            collector = Collector(path)
            assert sender.send(datagram) is None
            assert collector.read() == [datagram]
            collector.stop()


@with_each_kind
async def test_a_restart_with_a_full_queue_loses_what_was_in_the_queue_alone(
    kind: type[CollectdSender], path: Path
) -> None:
    collector = Collector(path)
    with kind(path) as sender:
        taken = fill(sender)
        collector.stop()
        collector = Collector(path)
        assert sender.send(b"next") is None
        assert collector.read() == [*numbered(1, taken), b"next"]
    collector.stop()


@with_each_kind
async def test_a_long_datagram_is_taken(kind: type[CollectdSender], collector: Collector) -> None:
    with collector.socket.dup() as other:
        default = other.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    datagram = b"x" * (default + default // 2)
    with kind(collector.path) as sender:
        assert sender.send(datagram) is None
    assert collector.read() == [datagram]


@with_each_kind
async def test_a_datagram_that_is_too_long_is_dropped_and_holds_up_none(
    kind: type[CollectdSender], collector: Collector
) -> None:
    too_long = b"x" * 100_000_000
    with kind(collector.path) as sender:
        failure = sender.send(too_long)
        assert kind_of(failure) is SendFailureKind.TOO_LONG
        assert failure is not None
        assert failure.dropped == 1
        assert sender.send(b"short") is None
        assert collector.read() == [b"short"]
        assert (sender.waiting, sender.dropped) == (0, 1)


@with_each_kind
async def test_among_those_kept_the_one_too_long_is_dropped(
    kind: type[CollectdSender], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = b"x" * 10_000_000
    with kind(path) as sender:
        for datagram in (b"before", too_long, b"after"):
            assert kind_of(sender.send(datagram)) is SendFailureKind.ABSENT
        collector = Collector(path)
        assert sender.flush() == SendFailure(SendFailureKind.TOO_LONG, os.strerror(errno.EMSGSIZE), 1)
        assert collector.read() == [b"before", b"after"]
        collector.stop()


@pytest.mark.parametrize(
    ("path_of", "expected"),
    [
        (lambda folder: folder / "absent" / "socket", SendFailureKind.ABSENT),
        (lambda folder: folder / "file", SendFailureKind.ABSENT),
        (lambda folder: folder / "file" / "socket", SendFailureKind.ABSENT),
        (lambda folder: folder / "stream", SendFailureKind.OTHER),
        (lambda folder: folder / ("long" * 100), SendFailureKind.OTHER),
        (lambda folder: "", SendFailureKind.OTHER),
    ],
    ids=["no folder", "no socket", "a file for a folder", "another type of socket", "too long a path", "no path"],
)
@with_each_kind
async def test_what_is_no_collector_is_a_failure(
    kind: type[CollectdSender], path_of: Callable[[Path], Any], expected: SendFailureKind, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(tmp_path / "stream"))
        stream.listen()
        with kind(path_of(tmp_path)) as sender:
            assert kind_of(sender.send(b"{}")) is expected
            assert sender.waiting == 1


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
@with_each_kind
async def test_a_socket_that_we_may_not_write_to_is_a_failure(
    kind: type[CollectdSender], code: int, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not hold for root, whom the tests may run as."""

    class Forbidding(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError(code, os.strerror(code))

    with kind(collector.path) as sender:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Forbidding)
            assert sender.send(b"{}") == SendFailure(SendFailureKind.FORBIDDEN, os.strerror(code))
        assert sender.flush() is None
        assert collector.read() == [b"{}"]


@with_each_kind
async def test_no_descriptor_left_is_a_failure(
    kind: type[CollectdSender], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with kind(collector.path) as sender:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", none_left)
            assert kind_of(sender.send(b"{}")) is SendFailureKind.OTHER
        assert sender.flush() is None


@with_each_kind
async def test_closing_tells_what_is_lost(kind: type[CollectdSender], collector: Collector) -> None:
    sender = kind(collector.path)
    assert sender.close() is None
    taken = fill(sender)
    sender.send(b"lost")
    assert sender.close() == SendFailure(SendFailureKind.QUEUE_FULL, os.strerror(errno.EAGAIN), 2)
    assert sender.close() is None
    assert (sender.waiting, sender.dropped) == (0, 2)
    assert collector.read() == numbered(taken)
    assert sender.send(b"opened again") is None
    assert sender.close() is None
    assert collector.read() == [b"opened again"]


@with_each_kind
async def test_closing_sends_what_can_be_sent(kind: type[CollectdSender], collector: Collector) -> None:
    sender = kind(collector.path)
    taken = fill(sender)
    assert len(collector.read()) == taken
    assert sender.close() is None
    assert collector.read() == numbered(1, taken)


def test_a_negative_backlog_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="-1"):
        CollectdSender(path, backlog=-1)


def test_no_socket_is_left_open(path: Path, collector: Collector) -> None:
    """`ResourceWarning` is an error in these tests; what can not be connected is closed at once."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with CollectdSender(path) as sender, CollectdSender(path.with_name("absent")) as absent:
            sender.send(b"{}")
            absent.send(b"{}")
            collector.read()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threads_share_a_sender(collector: Collector) -> None:
    threads, each = 8, 200
    received: list[bytes] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            received.extend(collector.read())
            time.sleep(0.001)

    def send(thread: int) -> None:
        for number in range(each):
            sender.send(f"{thread} {number}".encode())

    with CollectdSender(collector.path, backlog=threads * each) as sender:
        workers = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
        reader = threading.Thread(target=read)
        for worker in (reader, *workers):
            worker.start()
        for worker in workers:
            worker.join()
        end = time.monotonic() + SECONDS
        while sender.flush() is not None:
            assert time.monotonic() < end
            time.sleep(0.001)
        stop.set()
        reader.join()
        assert sender.dropped == 0
    received += collector.read()
    assert len(received) == threads * each
    for thread in range(threads):
        prefix = f"{thread} ".encode()
        assert [line for line in received if line.startswith(prefix)] == [
            f"{thread} {number}".encode() for number in range(each)
        ]


# --- asyncio ----------------------------------------------------------------------------------------------------------


@in_loop
async def test_what_is_kept_goes_by_itself_when_the_collector_reads(collector: Collector) -> None:
    async with AsyncCollectdSender(collector.path) as sender:
        taken = fill(sender)
        for datagram in numbered(99, taken + 1):
            sender.send(datagram)
        assert sender.waiting == 100
        received: list[bytes] = []

        def all_there() -> bool:
            received.extend(collector.read())
            return len(received) == taken + 100

        await until(all_there)
        assert received == numbered(taken + 100)
        assert (sender.waiting, sender.dropped) == (0, 0)
        assert sender.send(b"next") is None


@pytest.mark.own_process
@in_loop
async def test_a_collector_that_sleeps_costs_the_loop_nothing(collector: Collector) -> None:
    """Neither is anything waited for, nor does the loop turn in the meantime."""
    async with AsyncCollectdSender(collector.path) as sender:
        fill(sender)
        for datagram in numbered(500):
            sender.send(datagram)  # whoever waited for the collector would do so for ever
        await asyncio.sleep(0)
        used = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - used < 0.25
        assert sender.waiting == 501


@in_loop
async def test_a_socket_that_is_writable_but_takes_nothing_does_not_spin(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel calls a socket writable that takes a short datagram, and not the long one that is next."""
    tries = 0

    class Full(socket.socket):
        def send(self, *arguments: Any) -> int:
            nonlocal tries
            tries += 1
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async with AsyncCollectdSender(collector.path) as sender:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Full)
            sender.send(b"{}")
            begin = time.monotonic()
            await until(lambda: tries >= 6)
            assert time.monotonic() - begin > 2 * collectd.PAUSE_SECONDS
        assert sender.waiting == 1


@in_loop
async def test_a_collector_that_dies_while_datagrams_wait_is_connected_to_with_the_next(path: Path) -> None:
    collector = Collector(path)
    async with AsyncCollectdSender(path) as sender:
        taken = fill(sender)
        collector.stop()
        await asyncio.sleep(2 * collectd.PAUSE_SECONDS)
        assert sender.waiting == 1
        collector = Collector(path)
        assert sender.send(b"next") is None
        assert collector.read() == [*numbered(1, taken), b"next"]
    collector.stop()


@in_loop
async def test_closing_ends_the_watch(collector: Collector) -> None:
    sender = AsyncCollectdSender(collector.path)
    taken = fill(sender)
    sender.close()
    assert len(collector.read()) == taken
    await asyncio.sleep(2 * collectd.PAUSE_SECONDS)
    assert collector.read() == []


def test_a_sender_outlives_its_loop(collector: Collector) -> None:
    sender = AsyncCollectdSender(collector.path)

    async def fill_it() -> int:
        return fill(sender)

    async def empty_it(taken: int) -> None:
        assert kind_of(sender.send(b"next")) is SendFailureKind.QUEUE_FULL
        assert collector.read() == numbered(taken)
        await until(lambda: sender.waiting == 0)
        assert collector.read() == [*numbered(1, taken), b"next"]

    taken = asyncio.run(fill_it())
    asyncio.run(empty_it(taken))
    sender.close()
    with pytest.raises(RuntimeError):
        sender.send(b"outside of a loop")
    assert sender.waiting == 0


def test_a_sender_may_be_closed_after_its_loop(collector: Collector) -> None:
    sender = AsyncCollectdSender(collector.path)

    async def fill_it() -> int:
        return fill(sender)

    asyncio.run(fill_it())
    failure = sender.close()
    assert failure is not None
    assert failure.dropped == 1


def test_a_sender_may_be_flushed_after_its_loop(path: Path) -> None:
    sender = AsyncCollectdSender(path, backlog=5000)

    async def send() -> None:
        for datagram in numbered(5000):
            sender.send(datagram)

    asyncio.run(send())
    collector = Collector(path)
    assert kind_of(sender.flush()) is SendFailureKind.QUEUE_FULL
    received = collector.read()
    while sender.flush() is not None:
        received += collector.read()
    assert received + collector.read() == numbered(5000)
    sender.close()
    collector.stop()
