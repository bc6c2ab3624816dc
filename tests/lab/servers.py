"""SMTP servers that take mail, or do not, as they are told: an asyncio loop in a thread, one loopback address each.

They know the commands of RFC 5321 section 4.5.1 but VRFY, and STARTTLS. What they take is kept in a journal.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_MAX_LINE = 2048
_END_OF_MAIL = b"\r\n.\r\n"
_UNRECOGNIZED_NAME = bytes.fromhex("15030300020270")  # a fatal alert (RFC 8446 sections 5.1 and 6)
_REPLIES = {
    "connect": "220 mx.lab.test ESMTP",
    "HELO": "250 mx.lab.test",
    "STARTTLS": "220 2.0.0 go ahead",
    "MAIL": "250 2.1.0 sender taken",
    "RCPT": "250 2.1.5 recipient taken",
    "DATA": "354 go ahead",
    ".": "250 2.0.0 message taken",
    "RSET": "250 2.0.0 forgotten",
    "NOOP": "250 2.0.0 nothing done",
    "QUIT": "221 2.0.0 bye",
}


@frozen
class Visit:
    """One TLS handshake that a server saw begin: the server's address and the name the client sent."""

    address: str
    sni: str | None


@frozen
class Mail:
    """A message that a server was sent whole, whatever it replied.

    Attributes:
        address: the server's.
        encrypted: it came within TLS.
        sender: the reverse-path.
        recipients: the forward-paths that the server took.
        content: what was sent, without the dots that were stuffed into it.
    """

    address: str
    encrypted: bool
    sender: str
    recipients: tuple[str, ...]
    content: bytes


@frozen
class Manners:
    """Where a server does otherwise than to agree.

    Attributes:
        replies: its reply to a verb, to `connect` (the greeting) or to `.` (the message itself); of several, each once
            and then the last.
        drop_after: where it hangs up in place of a reply; one of the same.
        extensions: further lines of its answer to EHLO.
    """

    replies: Mapping[str, str | tuple[str, ...]] = {}
    drop_after: str | None = None
    extensions: tuple[str, ...] = ()


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
        manners: see there.
        tls_manners: those within TLS.
        ciphers: the cipher suites of TLS 1.2, where it can do no other.
        refuses_sni: it ends by an alert the handshake of whoever sends SNI.
    """

    address: str
    chain: Path
    chain_for: str | None = None
    other_chain: Path | None = None
    starttls: str = "ok"
    port: int = 25
    manners: Manners = Manners()
    tls_manners: Manners = Manners()
    ciphers: str | None = None
    refuses_sni: bool = False


@define
class Journal:
    """What the servers saw: every connection, every handshake with its SNI, and every message."""

    connections: list[str] = field(factory=list)
    handshakes: list[Visit] = field(factory=list)
    mail: list[Mail] = field(factory=list)

    def clear(self) -> None:
        self.connections.clear()
        self.handshakes.clear()
        self.mail.clear()


def _context(chain: Path, ciphers: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    if ciphers is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose suites `set_ciphers` is about
        context.set_ciphers(ciphers)
    return context


def _tls(listener: Listener, journal: Journal) -> ssl.SSLContext:
    context = _context(listener.chain, listener.ciphers)
    other = _context(listener.other_chain) if listener.other_chain else None

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        journal.handshakes.append(Visit(listener.address, name))
        if other is not None and name != listener.chain_for:
            connection.context = other

    context.sni_callback = choose
    return context


def _path(line: bytes) -> str:
    """The path of MAIL or RCPT, without its brackets."""
    return line.partition(b"<")[2].partition(b">")[0].decode()


class _Session(asyncio.Protocol):
    def __init__(
        self, listener: Listener, context: ssl.SSLContext, journal: Journal, sessions: set[asyncio.Transport]
    ) -> None:
        self._listener, self._context, self._journal, self._sessions = listener, context, journal, sessions
        self._buffer = b""
        self._encrypted = False
        self._upgrade: asyncio.Task[None] | None = None
        self._replies: Counter[str] = Counter()
        self._forget()

    def _forget(self) -> None:
        self._sender = ""
        self._recipients: list[str] = []
        self._content: bytearray | None = None  # of the message that comes in, from the end of the line DATA on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = self._socket = transport
        self._sessions.add(transport)
        self._journal.connections.append(self._listener.address)
        self._reply("connect")

    def connection_lost(self, exc: Exception | None) -> None:
        self._sessions.discard(self._socket)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._upgrade is None:  # else the first octets within TLS have come before `start_tls` has returned
            self._obey()

    def _obey(self) -> None:
        while b"\n" in self._buffer and self._upgrade is None and not self._transport.is_closing():
            line, self._buffer = self._buffer.split(b"\n", 1)
            if self._content is None:
                self._command(line.strip())
            else:
                self._content += line + b"\n"
                if self._content.endswith(_END_OF_MAIL):
                    self._take(bytes(self._content))
        if len(self._buffer) > _MAX_LINE:
            self._transport.abort()

    @property
    def _manners(self) -> Manners:
        return self._listener.tls_manners if self._encrypted else self._listener.manners

    @property
    def _offers_tls(self) -> bool:
        return self._listener.starttls != "absent" and not self._encrypted

    @property
    def _ehlo_lines(self) -> str:
        """The answer to EHLO."""
        keywords = ("8BITMIME", *self._manners.extensions, *(["STARTTLS"] if self._offers_tls else []))
        return "\r\n".join([*(f"250-{line}" for line in ("mx.lab.test", *keywords[:-1])), f"250 {keywords[-1]}"])

    def _say(self, text: str) -> None:
        self._transport.write(f"{text}\r\n".encode())

    def _reply(self, verb: str) -> bool:
        """Reply to a verb, or hang up; return whether the server agrees."""
        manners = self._manners
        if manners.drop_after == verb:
            self._transport.close()
            return False
        otherwise = self._ehlo_lines if verb == "EHLO" else _REPLIES.get(verb, "500 5.5.2 what?")
        reply = manners.replies.get(verb, otherwise)
        if isinstance(reply, tuple):
            reply = reply[min(self._replies[verb], len(reply) - 1)]
            self._replies[verb] += 1
        self._say(reply)
        if "421" in {line[:3] for line in reply.splitlines()} or not reply[0].isdigit():
            self._transport.close()
        return reply[0] == _REPLIES.get(verb, "2")[0]

    def _command(self, line: bytes) -> None:
        verb = line.partition(b" ")[0].decode("ascii", "replace").upper()
        if verb == "STARTTLS":
            self._agree_to_tls()
        elif verb == "DATA" and not self._recipients:
            self._say("554 5.5.1 to whom?")
        elif self._reply(verb):
            if verb in {"EHLO", "HELO", "RSET"}:
                self._forget()
            elif verb == "MAIL":
                self._sender = _path(line)
            elif verb == "RCPT":
                self._recipients.append(_path(line))
            elif verb == "DATA":
                self._content = bytearray(b"\r\n")
            elif verb == "QUIT":
                self._transport.close()

    def _take(self, octets: bytes) -> None:
        lines = octets[2 : -len(b".\r\n")].split(b"\r\n")
        content = b"\r\n".join(line.removeprefix(b".") for line in lines)  # RFC 5321 section 4.5.2
        mail = Mail(self._listener.address, self._encrypted, self._sender, tuple(self._recipients), content)
        self._journal.mail.append(mail)
        self._forget()
        self._reply(".")

    def _agree_to_tls(self) -> None:
        if not self._offers_tls:
            self._say("502 5.5.1 not here")
        elif self._listener.starttls == "refused":
            self._say("454 4.7.0 TLS not available")
        elif self._reply("STARTTLS"):
            self._transport.pause_reading()  # the client's hello belongs to the TLS layer
            self._buffer = b""  # RFC 3207 section 4.2: nothing that came before is known any more
            self._forget()
            self._upgrade = asyncio.get_running_loop().create_task(self._start_tls())

    async def _start_tls(self) -> None:
        if self._listener.starttls == "fail":
            self._transport.close()
            return
        context = self._context
        if self._listener.refuses_sni:
            context = _context(self._listener.chain)
            context.sni_callback = self._refuse_sni
        try:
            transport = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_side=True)
        except OSError:  # ssl.SSLError is one
            self._transport.abort()
            return
        assert transport is not None
        self._transport, self._encrypted, self._upgrade = transport, True, None
        self._obey()

    def _refuse_sni(self, _: ssl.SSLObject | ssl.SSLSocket, name: str | None, __: ssl.SSLContext) -> int | None:
        self._journal.handshakes.append(Visit(self._listener.address, name))
        if name is None:
            return None
        self._transport.write(_UNRECOGNIZED_NAME)  # the one of OpenSSL stays with asyncio
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


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
