"""Sends the datagrams of `mailtlspolicy.tlsrpt` to a collector on this machine: `tlsrpt-collectd`, or one like it.

The collector reads a Unix datagram socket: one JSON object a session, as libtlsrpt sends it (its protocol version 1).
It answers nothing. It counts a datagram to the day (UTC) on which it reads it, whatever the time of the session was.

- Nothing here waits, and nothing raises for what the collector does or fails to do: no delivery is held up by it.
- The queue of a datagram socket is short (`net.unix.max_dgram_qlen`, which is 10 on many systems), and the collector
  does not read while it writes to its disk. What the queue does not take is kept, in order, up to a bound, as is what
  is sent while there is no collector: it goes before the next datagram.
- A collector that was restarted is connected to anew with the next datagram. What it had not read is lost with it.
- After a `fork` every process needs a sender of its own: what is kept would be sent by both.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from mailtlspolicy._words import Word
from mailtlspolicy.adapters._text import reason

if TYPE_CHECKING:
    from types import TracebackType

BACKLOG = 1000
"""Datagrams that are kept: a hundred times the usual queue, some seconds of a busy sender; a megabyte as a rule."""
MAX_BACKLOG_OCTETS = 16 * 2**20
"""Octets that are kept: an MTA-STS policy of the greatest length makes a datagram of 100 kB and more."""
SEND_BUFFER = 2**20
"""Asked of the kernel, which grants as much as it allows: the longest datagram has to fit, and 200 kB is usual."""
PAUSE_SECONDS = 0.1
"""Before the next try, where the kernel calls a socket writable that takes no datagram: a shorter one would fit."""


class SendFailureKind(Word):
    """Why a datagram did not get to the collector."""

    ABSENT = "absent"
    """There is no socket at the path, or nobody reads it any more."""
    FORBIDDEN = "forbidden"
    """The permissions of the socket, or of a folder above it, do not allow it."""
    QUEUE_FULL = "queue-full"
    """The collector has not yet read what it was sent."""
    TOO_LONG = "too-long"
    """The kernel takes no datagram of that length; it is dropped."""
    OTHER = "other"
    """Something else, as the detail says."""


_KINDS = {
    errno.ENOENT: SendFailureKind.ABSENT,
    errno.ENOTDIR: SendFailureKind.ABSENT,
    errno.ECONNREFUSED: SendFailureKind.ABSENT,
    errno.ECONNRESET: SendFailureKind.ABSENT,
    errno.EACCES: SendFailureKind.FORBIDDEN,
    errno.EPERM: SendFailureKind.FORBIDDEN,
    errno.EAGAIN: SendFailureKind.QUEUE_FULL,
    errno.ENOBUFS: SendFailureKind.QUEUE_FULL,
    errno.EMSGSIZE: SendFailureKind.TOO_LONG,
}


@frozen
class SendFailure:
    """Not everything that is to be sent was sent; what was not is kept but for what was dropped.

    Attributes:
        kind: why.
        detail: for people.
        dropped: datagrams that are lost: those that are too long, and the oldest ones where more would be kept than
            the bound allows.
    """

    kind: SendFailureKind
    detail: str
    dropped: int = 0


class CollectdSender:
    """Sends to a collector. Threads may share it."""

    def __init__(self, path: str | os.PathLike[str], *, backlog: int = BACKLOG) -> None:
        """Name the socket; nothing is connected before the first datagram.

        Args:
            path: the collector's socket (its `socketname`).
            backlog: datagrams that are kept at most.

        Raises:
            ValueError: the backlog is negative.
        """
        if backlog < 0:
            raise ValueError(f"a backlog of {backlog} datagrams")
        self._path = os.fspath(path)
        self._bound = backlog
        self._backlog: deque[bytes] = deque()
        self._octets = 0  # of the backlog
        self._dropped = 0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many datagrams are kept."""
        return len(self._backlog)

    @property
    def dropped(self) -> int:
        """How many datagrams were lost so far."""
        return self._dropped

    def send(self, datagram: bytes) -> SendFailure | None:
        """Send what is kept, then this; None where the collector's queue has taken all of it."""
        with self._lock:
            self._backlog.append(datagram)
            self._octets += len(datagram)
            return self._drain(self._bound)

    def flush(self) -> SendFailure | None:
        """Send what is kept, as far as the collector's queue takes it now."""
        with self._lock:
            return self._drain(self._bound)

    def close(self) -> SendFailure | None:
        """Send what the queue takes now, drop the rest, and close the socket; the next datagram would open it again."""
        with self._lock:
            failure = self._drain(0)
            self._disconnect()
            return failure

    def __enter__(self) -> CollectdSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _drain(self, bound: int) -> SendFailure | None:
        failure, dropped = None, 0
        while self._backlog:
            failed = self._put(self._backlog[0])
            failure = failed or failure
            if failed is not None and failed.kind is not SendFailureKind.TOO_LONG:
                break
            dropped += failed is not None
            self._drop_first()
        while len(self._backlog) > bound or self._octets > MAX_BACKLOG_OCTETS:
            dropped += 1
            self._drop_first()
        self._dropped += dropped
        return failure and evolve(failure, dropped=dropped)

    def _drop_first(self) -> None:
        self._octets -= len(self._backlog.popleft())

    def _put(self, datagram: bytes) -> SendFailure | None:
        """Send one datagram, by a new connection where the one that is there has come to nothing."""
        while True:
            connected = self._socket is not None
            try:
                if self._socket is None:
                    self._socket = self._connect()
                self._socket.send(datagram)
            except OSError as error:
                failed = SendFailure(_KINDS.get(error.errno or 0, SendFailureKind.OTHER), reason(error))
            else:
                return None
            if failed.kind not in {SendFailureKind.QUEUE_FULL, SendFailureKind.TOO_LONG}:
                self._disconnect()
                if connected:
                    continue
            return failed

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # some kernels refuse more than they grant
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class AsyncCollectdSender(CollectdSender):
    """Sends to a collector from an asyncio loop; not for several threads.

    `send`, `flush` and `close` wait for nothing, so there is nothing to await. What is kept goes by itself as soon as
    the collector reads again.
    """

    def __init__(self, path: str | os.PathLike[str], *, backlog: int = BACKLOG) -> None:
        """As `CollectdSender`."""
        super().__init__(path, backlog=backlog)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: socket.socket | None = None  # that the loop is to call writable
        self._pause: asyncio.TimerHandle | None = None

    def send(self, datagram: bytes) -> SendFailure | None:
        """As `CollectdSender.send`, in the loop that is running."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._unwatch()
            self._loop = loop
        return super().send(datagram)

    async def __aenter__(self) -> AsyncCollectdSender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _drain(self, bound: int) -> SendFailure | None:
        failure = super()._drain(bound)
        if not self._backlog:
            self._unwatch()
        elif self._watched is None and self._pause is None:
            self._watch()
        return failure

    def _disconnect(self) -> None:
        self._unwatch()
        super()._disconnect()

    def _watch(self) -> None:
        """Have the loop tell when the collector reads; without a socket, the next datagram has to tell."""
        self._pause = None
        if self._socket is not None and self._loop is not None and not self._loop.is_closed():
            self._watched = self._socket
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        waiting = self.waiting
        self._drain(self._bound)
        if self._loop is not None and self._watched is not None and self.waiting == waiting:
            self._unwatch()
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._watch)

    def _unwatch(self) -> None:
        if self._loop is not None and self._watched is not None:
            self._loop.remove_writer(self._watched)
        if self._pause is not None:
            self._pause.cancel()
        self._watched = self._pause = None
