"""SMTP servers that know EHLO, STARTTLS and QUIT: an asyncio loop in a thread, one loopback address for each server."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_MAX_LINE = 2048


@frozen
class Visit:
    """One TLS handshake that a server saw begin: the server's address and the name the client sent."""

    address: str
    sni: str | None


@frozen
class Listener:
    """What listens on an address.

    Attributes:
        address: the address.
        chain: the PEM file presented to everybody.
        chain_for: a name for which `chain` is kept; another SNI, or none, gets `other_chain`.
        other_chain: see there.
        starttls: `ok`, `absent` (not announced), `refused` (454) or `fail` (hangs up in place of a handshake).
        port: TCP port.
    """

    address: str
    chain: Path
    chain_for: str | None = None
    other_chain: Path | None = None
    starttls: str = "ok"
    port: int = 25


@define
class Journal:
    """What the servers saw: every connection, and every handshake with its SNI."""

    connections: list[str] = field(factory=list)
    handshakes: list[Visit] = field(factory=list)

    def clear(self) -> None:
        self.connections.clear()
        self.handshakes.clear()


def _context(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def _tls(listener: Listener, journal: Journal) -> ssl.SSLContext:
    context = _context(listener.chain)
    other = _context(listener.other_chain) if listener.other_chain else None

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        journal.handshakes.append(Visit(listener.address, name))
        if other is not None and name != listener.chain_for:
            connection.context = other

    context.sni_callback = choose
    return context


class _Session(asyncio.Protocol):
    def __init__(
        self, listener: Listener, context: ssl.SSLContext, journal: Journal, sessions: set[asyncio.Transport]
    ) -> None:
        self._listener, self._context, self._journal, self._sessions = listener, context, journal, sessions
        self._buffer = b""
        self._encrypted = False
        self._upgrade: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = self._socket = transport
        self._sessions.add(transport)
        self._journal.connections.append(self._listener.address)
        self._say("220 mx.lab.test ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self._sessions.discard(self._socket)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\n" in self._buffer and not self._transport.is_closing():
            line, self._buffer = self._buffer.split(b"\n", 1)
            self._command(line.strip().upper())
        if len(self._buffer) > _MAX_LINE:
            self._transport.abort()

    def _say(self, *lines: str) -> None:
        self._transport.write("".join(f"{line}\r\n" for line in lines).encode())

    def _command(self, command: bytes) -> None:
        offered = self._listener.starttls != "absent" and not self._encrypted
        if command.startswith(b"EHLO"):
            self._say("250-mx.lab.test", *(["250-STARTTLS"] if offered else []), "250 8BITMIME")
        elif command == b"QUIT":
            self._say("221 bye")
            self._transport.close()
        elif command != b"STARTTLS" or not offered:
            self._say("502 not here")
        elif self._listener.starttls == "refused":
            self._say("454 TLS not available")
        else:
            self._transport.pause_reading()  # the client's hello belongs to the TLS layer
            self._say("220 go ahead")
            self._upgrade = asyncio.get_running_loop().create_task(self._start_tls())

    async def _start_tls(self) -> None:
        if self._listener.starttls == "fail":
            self._transport.close()
            return
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, self._context, server_side=True
            )
        except OSError:  # ssl.SSLError is one
            self._transport.abort()
            return
        assert transport is not None
        self._transport, self._encrypted, self._buffer = transport, True, b""


@contextmanager
def serve(listeners: Iterable[Listener]) -> Iterator[Journal]:
    """Serve until the block ends; every connection is closed then."""
    journal = Journal()
    sessions: set[asyncio.Transport] = set()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()
    errors: list[BaseException] = []

    async def main() -> None:
        servers = []
        try:
            for listener in listeners:
                context = _tls(listener, journal)

                def session(listener: Listener = listener, context: ssl.SSLContext = context) -> _Session:
                    return _Session(listener, context, journal, sessions)

                servers.append(await loop.create_server(session, listener.address, listener.port))
            ready.set()
            await stop.wait()
        finally:
            for server in servers:
                server.close()
            for transport in tuple(sessions):
                transport.abort()
            await asyncio.sleep(0.01)  # lets the transports close their sockets

    def run() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=run, name="smtp servers")
    thread.start()
    try:
        ready.wait()
        if errors:
            raise errors[0]
        yield journal
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
