"""SMTP servers on loopback for tests: a scripted one, and a receiver that can die after any octet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from tests.tls_server import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
    from mailtlspolicy.delivery.session import (
        Close,
        Connect,
        Connected,
        Ehlo,
        Reply,
        Secured,
        SessionFailure,
        StartTls,
        Transmit,
        Transmitted,
    )

T = TypeVar("T")

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class SmtpServer:
    """Accepts one connection after the other and runs `script` on each; remembers what it heard."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.heard: list[bytes] = []
        self.sni: list[str | None] = []
        self.script: Callable[[socket.socket], None] = lambda _: None
        self._listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # who does not read takes in no more
        self._listener.bind((address, port))
        self._listener.listen()
        self.address, self.port = self._listener.getsockname()[:2]
        self._closing = False
        self._connection: socket.socket | None = None
        self.outlasted = False  # whether a client has outlasted the patience of the server
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._closing:
                    return
                connection.settimeout(PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection = connection.dup()  # a script may detach it
                self._idle.clear()
                try:
                    self.script(connection)
                except TimeoutError:
                    self.outlasted = True
                except OSError:
                    continue
                finally:
                    self._connection.close()
                    self._idle.set()

    def drop(self) -> None:
        """End the connection now, whatever the script does."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self.settle()

    def close(self) -> None:
        self._closing = True
        socket.create_connection((self.address, self.port)).close()
        self._thread.join()
        self._listener.close()

    def settle(self) -> None:
        """Wait for the end of the script."""
        assert self._idle.wait(2 * PATIENCE)

    def hear(self, connection: socket.socket) -> bytes:
        """One line, or nothing at the end of the connection."""
        line = b""
        while not line.endswith(b"\n"):
            octet = connection.recv(1)
            if not octet:
                break
            line += octet
        if line:
            self.heard.append(line)
        return line

    def says(self, *replies: bytes) -> None:
        """Send a reply to the connection, one to each line that follows, then hear the rest out."""

        def script(connection: socket.socket) -> None:
            for reply in replies:
                connection.sendall(reply)
                if not self.hear(connection):
                    return
            while self.hear(connection):
                pass

        self.script = script

    def offers(self, context: ssl.SSLContext, *replies: bytes) -> None:
        """The same, then TLS, one line heard and answered inside."""

        def note(_: object, name: str | None, __: object) -> None:
            self.sni.append(name)

        context.sni_callback = note

        def script(connection: socket.socket) -> None:
            for reply in replies[:-1]:
                connection.sendall(reply)
                self.hear(connection)
            connection.sendall(replies[-1])
            with context.wrap_socket(connection, server_side=True) as session:
                if self.hear(session):
                    session.sendall(b"221 bye\r\n")

        self.script = script


class DeadError(Exception):
    """The receiver has killed the connection."""


@define
class Receiver:
    """A script for `SmtpServer`: takes mail, and can die on the way.

    Attributes:
        tls: the context of a server that offers STARTTLS.
        keywords: what is announced beside it.
        tls_keywords: what is announced within TLS.
        replies: other replies than the usual, by command, "." for the message; of several, one a command, the last
            repeats. An empty one is none at all: the connection ends.
        lifetime: after so many octets of its own it dies.
        appetite: after so many octets of the message it dies.
        reset: it dies by RST, not by FIN.
        patience: it reads nothing of the message before this is set.
        visits: the connections.
    """

    tls: ssl.SSLContext | None = None
    keywords: tuple[str, ...] = ()
    tls_keywords: tuple[str, ...] = ()
    replies: Mapping[str, bytes | tuple[bytes, ...]] = field(factory=dict)
    lifetime: int | None = None
    appetite: int | None = None
    reset: bool = False
    patience: threading.Event | None = None
    visits: list[Visit] = field(factory=list)

    def __call__(self, connection: socket.socket) -> None:
        visit = Visit(self, connection, self.lifetime)
        self.visits.append(visit)
        try:
            visit.serve()
        except DeadError:
            return


@define
class Visit:
    """One connection to a receiver, and how far it came.

    Attributes:
        said: the replies that were sent to the last octet, "TLS" for the octets of the handshake.
        heard: the commands.
        content: what followed DATA, with the final dot.
    """

    receiver: Receiver
    connection: socket.socket
    left: int | None
    said: list[str] = field(factory=list)
    heard: list[bytes] = field(factory=list)
    content: bytes = b""
    _buffer: bytes = b""
    _tls: ssl.SSLObject | None = None
    _incoming: ssl.MemoryBIO = field(factory=ssl.MemoryBIO)
    _outgoing: ssl.MemoryBIO = field(factory=ssl.MemoryBIO)

    @property
    def whole(self) -> bool:
        """Whether the message came to its end."""
        return self.content == b".\r\n" or self.content.endswith(b"\r\n.\r\n")

    def serve(self) -> None:
        if self.left == 0:
            self._die()
        self._say("greeting", b"220 mx.example\r\n")
        while line := self._hear():
            command = line.split(None, 1)[0].decode().upper()
            self.heard.append(line)
            if command == "EHLO":
                within = self.receiver.tls_keywords if self._tls else self.receiver.keywords
                offer = ("STARTTLS",) if self.receiver.tls and not self._tls else ()
                lines = ["mx.example", *within, *offer]
                text = "".join(f"250{'-' if at < len(lines) else ' '}{word}\r\n" for at, word in enumerate(lines, 1))
                self._say(command, text.encode())
            elif command == "STARTTLS":
                self._say(command, b"220 go\r\n")
                self._secure()
            elif command == "DATA":
                if self._say(command, b"354 go\r\n").startswith(b"354"):
                    self._take()
                    self._say(".", b"250 2.0.0 taken\r\n")
            elif command == "QUIT":
                self._say(command, b"221 bye\r\n")
                return
            else:
                self._say(command, b"250 ok\r\n")

    def _say(self, name: str, usual: bytes) -> bytes:
        replies = self.receiver.replies.get(name, usual)
        if isinstance(replies, tuple):
            replies = replies[min(self.said.count(name), len(replies) - 1)]
        if not replies:
            self._die()
        if self._tls:
            self._tls.write(replies)
            self._flush(name)
        else:
            self._send(replies, name)
        return replies

    def _take(self) -> None:
        appetite = self.receiver.appetite
        if self.receiver.patience is not None:
            self.receiver.patience.wait(PATIENCE)
        while not self.whole:
            if appetite is not None and len(self.content) >= appetite:
                self._die()
            want = 65_536 if appetite is None else appetite - len(self.content)
            octets = self._receive(want)
            if not octets:
                raise DeadError
            self.content += octets
        if appetite is not None and len(self.content) >= appetite:
            self._die()

    def _hear(self) -> bytes:
        while b"\n" not in self._buffer:
            octets = self._receive(4096)
            if not octets:
                return b""
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def _receive(self, want: int) -> bytes:
        tls = self._tls
        return self.connection.recv(want) if tls is None else self._step(lambda: tls.read(want))

    def _secure(self) -> None:
        assert self.receiver.tls is not None
        self._tls = tls = self.receiver.tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._step(tls.do_handshake)

    def _step(self, call: Callable[[], T]) -> T:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                result = call()
                self._flush("TLS")
                return result
            self._flush("TLS")
            octets = self.connection.recv(65_536)
            if not octets:
                raise DeadError
            self._incoming.write(octets)

    def _flush(self, name: str) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read(), name)

    def _send(self, octets: bytes, name: str) -> None:
        if self.left is None:
            self.connection.sendall(octets)
            self.said.append(name)
            return
        part = octets[: self.left]
        self.left -= len(part)
        self.connection.sendall(part)
        if part == octets:
            self.said.append(name)
        if not self.left:
            self._die()

    def _die(self) -> None:
        if self.receiver.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.connection.close()
        raise DeadError


class Blocking:
    """The asyncio connector as a blocking one, with an event loop of its own in which nothing may go wrong unseen."""

    def __init__(self, inner: AsyncSmtpConnector) -> None:
        self.inner = inner
        self._loop = asyncio.new_event_loop()
        self._complaints: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _, context: self._complaints.append(context))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        return self.run(self.inner.connect(effect))

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        return self.run(self.inner.ehlo(effect))

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        return self.run(self.inner.start_tls(effect))

    def transmit(self, effect: Transmit) -> Transmitted:
        return self.run(self.inner.transmit(effect))

    def close(self, effect: Close) -> None:
        self.run(self.inner.close(effect))

    def stop(self) -> None:
        """End the loop, when what was aborted has had its turns."""
        for _ in range(3):
            self.run(asyncio.sleep(0))
        self._loop.close()
        assert not self._complaints, self._complaints
