"""Servers on loopback for the checks of resolvers and connectors that use sockets; all else here opens none.

>>> from mailtlspolicy.adapters.dns import DnsResolver
>>> from mailtlspolicy.testing.resolvers import nameserver, records_have_their_form
>>> with LoopbackNameserver(nameserver()) as server:
...     records_have_their_form(DnsResolver(nameservers=[server.address]))

>>> from mailtlspolicy.adapters.smtp import SmtpConnector
>>> from mailtlspolicy.testing.connectors import keywords_are_those_of_the_state
>>> with LoopbackServers(SmtpConnector(ehlo_name="client.test")) as serve:
...     keywords_are_those_of_the_state(serve)
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mailtlspolicy.delivery.session import DATA_WANTED, READY_FOR_TLS, Reply, SessionFailure
from mailtlspolicy.testing._certificates import certificates
from mailtlspolicy.testing.connectors import Heard, Served
from mailtlspolicy.world.servers import StaticServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from mailtlspolicy.engine import Connector
    from mailtlspolicy.testing.nameserver import StaticNameserver
    from mailtlspolicy.world.servers import Phase

_HOST = "127.0.0.1"
_PATIENCE = 60.0  # seconds that a server waits for a client: longer than any has to, on a busy machine too
_AT_ONCE = 65_536  # octets that are received
_TRIES = 50  # for a port that is free for both UDP and TCP


class LoopbackNameserver:
    """A nameserver on UDP and TCP, as long as the `with` statement lasts.

    Attributes:
        address: where it listens, as "127.0.0.1:49152".
    """

    def __init__(self, nameserver: StaticNameserver) -> None:
        self._nameserver = nameserver
        self._udp, self._tcp = _both_sockets()
        self._at: tuple[str, int] = self._udp.getsockname()
        self.address = f"{_HOST}:{self._at[1]}"
        self._ending = False
        self._threads = [threading.Thread(target=serve) for serve in (self._serve_datagrams, self._serve_streams)]

    def _serve_datagrams(self) -> None:
        while True:
            query, client = self._udp.recvfrom(65_535)
            if self._ending:
                return
            reply = self._nameserver.reply(query)
            if reply is not None:
                self._udp.sendto(reply, client)

    def _serve_streams(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                if self._ending:
                    return
                with contextlib.suppress(OSError):
                    self._serve_stream(connection)

    def _serve_stream(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        with connection.makefile("rb") as stream:
            while length := stream.read(2):
                reply = self._nameserver.reply(stream.read(int.from_bytes(length, "big")), stream=True)
                if reply is None:
                    return
                connection.sendall(len(reply).to_bytes(2, "big") + reply)

    def __enter__(self) -> LoopbackNameserver:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._at)
        socket.create_connection(self._at).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()


def _both_sockets() -> tuple[socket.socket, socket.socket]:
    for _ in range(_TRIES):
        tcp = socket.create_server((_HOST, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise OSError("no port is free for both UDP and TCP")


class LoopbackServers:
    """Mail servers for a connector, as long as the `with` statement lasts; a `connectors.Serve`."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._servers: list[_MailServer] = []

    def __call__(self, server: Mapping[str, Any], octets: Mapping[str, bytes] | None = None, /) -> Served:
        """Start a server."""
        started = _MailServer(server, octets or {})
        self._servers.append(started)
        return Served(self._connector, _HOST, started.port, started.wait)

    def __enter__(self) -> LoopbackServers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.stop()
        self._servers.clear()


class _MailServer:
    """A server that behaves as described, one connection after the other."""

    def __init__(self, description: Mapping[str, Any], octets: Mapping[str, bytes]) -> None:
        self._server = StaticServer.from_json(description, "the server", None)
        self._behind = str(description.get("behind_starttls", "")).encode()
        self._octets = octets
        self._heard = Heard()
        self._listener = socket.create_server((_HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._connection: socket.socket | None = None
        self._ending = False
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._serve)
        if self._server.failure is not None:
            self._listener.close()  # so that the port refuses connections
        else:
            self._thread.start()

    def wait(self) -> Heard:
        """Wait for the end of the connection; what was heard."""
        if not self._idle.wait(_PATIENCE):
            raise AssertionError("the connection was not closed")
        return self._heard

    def stop(self) -> None:
        """End, and the connection with it."""
        if self._server.failure is not None:
            return
        self._ending = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        socket.create_connection((_HOST, self.port)).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.dup() as self._connection:
                if self._ending:
                    return
                self._idle.clear()
                with contextlib.suppress(OSError):
                    connection.settimeout(_PATIENCE)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._greet(connection)
            self._idle.set()

    def _greet(self, connection: socket.socket) -> None:
        greeting = self._server.greeting
        if isinstance(greeting, SessionFailure):
            return
        connection.sendall(self._octets.get("connect", _lines(greeting)))
        if self._dialogue(_Stream(connection), self._server.clear):
            with self._context().wrap_socket(connection, server_side=True) as tls:
                self._dialogue(_Stream(tls), self._server.tls)

    def _dialogue(self, stream: _Stream, phase: Phase) -> bool:
        """Hear commands and answer them; whether TLS is to begin."""
        recipient = 0
        while line := stream.line():
            self._heard.commands.append(line)
            verb = line[:-1].split(b" ", 1)[0].strip().decode("ascii", "replace").upper()
            if verb == "QUIT":
                stream.connection.sendall(b"221 2.0.0 bye\r\n")
                return False
            recipient = recipient + 1 if verb == "RCPT" else 0
            reply = self._reply(phase, verb, recipient - 1)
            if isinstance(reply, SessionFailure):
                return False
            octets, code = self._octets.get(verb, _lines(reply)), reply.code
            if verb == "STARTTLS" and code == READY_FOR_TLS:
                return self._go_ahead(stream, octets)
            stream.connection.sendall(octets)
            if verb == "DATA" and code == DATA_WANTED:
                self._heard.content = stream.content()
                end = phase.reply(".")
                if isinstance(end, SessionFailure):
                    return False
                stream.connection.sendall(self._octets.get(".", _lines(end)))
        return False

    def _reply(self, phase: Phase, verb: str, recipient: int) -> Reply | SessionFailure:
        if verb not in {"EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA"}:
            return Reply(500, ("5.5.1 no such command",))
        reply = phase.reply(verb, recipient)
        if verb == "EHLO" and isinstance(reply, Reply) and reply.success:
            return Reply(reply.code, (*reply.lines, *phase.extensions))
        return reply

    def _go_ahead(self, stream: _Stream, octets: bytes) -> bool:
        connection = stream.connection
        connection.sendall(octets + self._behind)
        if self._behind:
            self._heard.rest = stream.rest()
        elif not self._server.handshake:
            connection.recv(_AT_ONCE)  # what TLS begins with
        else:
            self._heard.rest = stream.buffer
            return True
        return False

    def _context(self) -> ssl.SSLContext:
        """The TLS context for no server name, which gives way to others."""
        contexts = {shown.chain: _context(shown.chain) for shown in (self._server.shown, *self._server.by_sni.values())}

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            shown = self._server.hands_shake(name)
            if isinstance(shown, SessionFailure):
                return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
            connection.context = contexts[shown.chain]
            return None

        first = contexts[self._server.shown.chain]
        first.sni_callback = choose
        return first


class _Stream:
    """What comes from a connection, by lines."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""

    def line(self) -> bytes:
        """The next line; empty where none comes any more."""
        return self._up_to(b"\n")

    def content(self) -> bytes:
        """A message with its final dot."""
        self.buffer = b"\r\n" + self.buffer
        return self._up_to(b"\r\n.\r\n")[2:]

    def rest(self) -> bytes:
        """All that is to come."""
        while octets := self.connection.recv(_AT_ONCE):
            self.buffer += octets
        return self.buffer

    def _up_to(self, end: bytes) -> bytes:
        while end not in self.buffer:
            octets = self.connection.recv(_AT_ONCE)
            if not octets:
                return b""
            self.buffer += octets
        found, _, self.buffer = self.buffer.partition(end)
        return found + end


def _lines(reply: Reply) -> bytes:
    *most, last = reply.lines
    return "".join([*(f"{reply.code}-{line}\r\n" for line in most), f"{reply.code} {last}\r\n"]).encode()


def _context(chain: tuple[bytes, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if chain:
        with tempfile.TemporaryDirectory() as folder:  # `ssl` reads keys from files only
            file = Path(folder) / "chain.pem"
            file.write_bytes(certificates().key + "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode())
            context.load_cert_chain(file)
    return context
