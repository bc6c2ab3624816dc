"""The end of a connection whose peer keeps us busy."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

_GRACE_SECONDS = 0.25  # so that a timeout that works is told as one
_IDLE_SECONDS = 3600.0  # until the next look, where no step is under way


class Watchdog:
    """Cuts a connection if a step takes too long: its reads and writes then fail with `OSError`, or end.

    A socket's own timeout comes first where it works. It does not for TLS: while records without content (session
    tickets, say) come in faster than OpenSSL reads them, one call never returns.

    One thread a connection, which begins with the first step and ends with `stop`. It is woken only where a step has to
    end before the one that it slept over.
    """

    def __init__(self, session: socket.socket) -> None:
        self._session = session
        self._changed = threading.Condition()
        self._end: float | None = None  # of the step
        self._wakes = 0.0  # when the thread looks next
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextlib.contextmanager
    def over(self, seconds: float) -> Iterator[None]:
        """Cut the connection if the block takes longer."""
        with self._changed:
            self._end = time.monotonic() + max(seconds, 0) + _GRACE_SECONDS
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
            elif self._end < self._wakes:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._end = None

    def stop(self) -> None:
        """End the watch."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if self._end is not None and now >= self._end:
                    _cut(self._session)
                    return
                # between steps, the next look is due a good while later
                self._wakes = now + _IDLE_SECONDS if self._end is None else self._end
                self._changed.wait(self._wakes - now)


@contextlib.contextmanager
def cut_after(session: socket.socket, seconds: float) -> Iterator[None]:
    """Cut a connection if the block takes longer."""
    watchdog = Watchdog(session)
    try:
        with watchdog.over(seconds):
            yield
    finally:
        watchdog.stop()


def shake_hands(session: ssl.SSLSocket, seconds: float) -> None:
    """Do the handshake of a session that was made without, in no more than this time.

    Raises:
        OSError: it failed; `TimeoutError` where the time was up.
    """
    end = time.monotonic() + seconds
    try:
        session.settimeout(seconds)
        with cut_after(session, seconds):
            session.do_handshake()
    except OSError as error:
        if time.monotonic() >= end:
            raise TimeoutError from error
        raise


def _cut(session: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not that of `SSLSocket`, which would go on in cleartext
        socket.socket.shutdown(session, socket.SHUT_RDWR)
