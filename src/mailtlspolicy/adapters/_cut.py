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


@contextlib.contextmanager
def cut_after(session: socket.socket, seconds: float) -> Iterator[None]:
    """Cut a connection if the block takes longer: its reads and writes then fail with `OSError`, or end.

    A socket's own timeout comes first where it works. It does not for TLS: while records without content (session
    tickets, say) come in faster than OpenSSL reads them, one call never returns.
    """
    timer = threading.Timer(max(seconds, 0) + _GRACE_SECONDS, _cut, (session,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
