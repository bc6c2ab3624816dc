"""SMTP sessions for asyncio, on `aiosmtplib` (an optional extra); rules and results are those of `adapters.smtp`.

- The protocol of `aiosmtplib` speaks, and our own rules say what is a reply. It would discard octets that nobody asked
  for; here they are kept, so that those behind the reply to STARTTLS are noticed (RFC 3207 section 4).
- TLS is done here, above the connection: that of asyncio forgets what has arrived when a write fails, alerts too.
- The final dot is written when everything before it has left the buffers of asyncio.
- A time limit cuts the connection, and so ends whatever waits for it. A task that is cancelled does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, cast

from aiosmtplib import SMTPException, SMTPResponse, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from mailtlspolicy.adapters.replies import MAX_REPLY, EarlyError, ReplyError, ReplyParser, SurplusError
from mailtlspolicy.adapters.smtp import (
    EARLY_SECONDS,
    READ_OCTETS,
    REFUSAL,
    SmtpClient,
    announces_nothing,
    endpoint,
    lost,
    note_failure,
    secured,
    source,
    unheard,
)
from mailtlspolicy.delivery.session import READY_FOR_TLS, Connected, Secured, Trouble
from mailtlspolicy.delivery.transaction import (
    Command,
    EndOfData,
    Octets,
    Progress,
    next_action,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailtlspolicy.delivery.session import (
        Close,
        Connect,
        Ehlo,
        Reply,
        SessionFailure,
        StartTls,
        Transmit,
        Transmitted,
    )

MAX_UNREAD = MAX_REPLY  # octets that nobody has asked for yet
MAX_UNSENT = 2**20  # octets that wait for the peer to read: a block and TLS's own answers are far from that

_FAILURES = OSError, ReplyError, SMTPException


class AsyncSmtpConnector(SmtpClient):
    """A connector for asyncio. Its values are immutable, so tasks can share one.

    An exception, a cancellation for one, closes the connection that it hits.
    """

    __slots__ = ()

    async def connect(self, effect: Connect) -> Connected | SessionFailure:
        """Connect and await the greeting.

        Raises:
            ValueError: the address or the port is none.
        """
        server = endpoint(effect)
        with _held(_Session(asyncio.get_running_loop())) as session:
            try:
                await asyncio.wait_for(session.open(server), self.connect_seconds)
                session.name = self.name_from(session.address)
            except (OSError, asyncio.TimeoutError) as error:  # the latter is the former since Python 3.11
                session.abort()
                return lost(error, Trouble.UNREACHABLE)
            try:
                return Connected(session, await session.hear(self.timeout), source(session.address))
            except _FAILURES as error:
                return lost(error)

    async def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """Say EHLO or HELO."""
        with _held(effect.session) as session:
            session.keywords = ()  # what was learned before counts no more (RFC 3207 section 4.2)
            try:
                reply = await session.say("HELO" if effect.helo else "EHLO", session.name, self.timeout)
            except _FAILURES as error:
                return unheard(error) if session.is_unheard else lost(error)
            if effect.helo:
                return announces_nothing(reply)
            if reply.success:
                session.keywords = reply.keywords
            return reply

    async def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        """Ask for STARTTLS and, after a 220, do the handshake.

        Raises:
            ValueError: the SNI is no domain name.
        """
        context, sni = self.tls_for(effect)
        with _held(effect.session) as session:
            try:
                return await session.secure(context, sni, self.timeout)
            except SurplusError as error:
                return lost(error, Trouble.INJECTED)
            except _FAILURES as error:
                return lost(error, Trouble.HANDSHAKE if session.has_begun_tls else Trouble.LOST)

    async def transmit(self, effect: Transmit) -> Transmitted:
        """Send a message in one transaction."""
        progress = Progress()
        with _held(effect.session) as session:
            try:
                await self._transact(session, effect, progress)
            except _FAILURES as error:
                note_failure(progress, error)
        return progress.transmitted()

    async def _transact(self, session: _Session, effect: Transmit, progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.transmit_timeout
        transacting = transaction(effect, session.keywords, progress)
        reply = None
        while (action := next_action(transacting, reply)) is not None:
            seconds = min(self.timeout, end - loop.time())
            reply = None
            if isinstance(action, Command):
                reply = await session.say(action.verb, action.argument, seconds)
            elif isinstance(action, Octets):
                await session.put(action.octets, seconds)
            elif isinstance(action, EndOfData):
                reply = await session.hear(self.data_timeout)
            else:
                await asyncio.sleep(0)

    async def close(self, effect: Close) -> None:
        """End the connection; without QUIT if it has ended, or is of no use, already."""
        with _held(effect.session) as session:
            if session.whole:
                with contextlib.suppress(*_FAILURES):
                    await session.say("QUIT", "", self.quit_seconds)
            session.abort()  # a peer that does not answer close_notify is not waited for
            await asyncio.sleep(0)


@contextlib.contextmanager
def _held(session: _Session) -> Iterator[_Session]:
    """Cut the connection if an exception goes by."""
    try:
        yield session
    except BaseException:
        session.abort()
        raise


class _Session(SMTPProtocol):
    """A connection on which the protocol of `aiosmtplib` speaks, while our own rules say what is a reply.

    What raises an exception also cuts the connection.

    Attributes:
        name: the argument of EHLO.
        address: the address that the connection comes from.
        keywords: what the server announced in this state of the session.
        is_unheard: there is TLS, and nothing has come within it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.name = ""
        self.address = ""
        self.keywords: tuple[str, ...] = ()
        self.is_unheard = False
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._is_secured = False  # the handshake is done
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._unprotected = bytearray()  # what TLS has not taken yet, in the midst of a renegotiation
        self._reply: Reply | None = None
        self._strict = False  # of the reply that is awaited
        self._received = bytearray()
        self._unsent = False  # asyncio holds octets that the system has not taken
        self._ended = False  # and all that has arrived is received
        self._expired = False
        self._error: Exception = ConnectionError("the server closed the connection")
        self._changed = asyncio.Event()

    async def open(self, server: tuple[str, int]) -> None:
        """Connect."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        # Each command goes out at once; asyncio sees to it for sockets alone that were made with the protocol's number
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.sock_connect(self._socket, server)
        self.address = str(self._socket.getsockname()[0])
        await self._loop.create_connection(lambda: self, sock=self._socket)

    @property
    def whole(self) -> bool:
        """Whether there is somebody to speak to."""
        return self.is_connected and not self._ended

    @property
    def has_begun_tls(self) -> bool:
        """Whether the server has said that TLS may begin, and we have."""
        return self._tls is not None

    async def say(self, command: str, argument: str, seconds: float) -> Reply:
        """Send a command, return the reply."""
        with self._within(seconds):
            return await self._say(command, argument)

    async def hear(self, seconds: float) -> Reply:
        """Return a reply to what was sent already."""
        with self._within(seconds):
            await self.read_response()
        return self._last_reply

    async def put(self, octets: bytes, seconds: float) -> None:
        """Hand octets of a message over to the system, all of them, where the server has said nothing yet.

        Raises:
            EarlyError: it has.
        """
        with self._within(seconds):
            for _ in range(2):  # a turn in which the loop finds what has arrived, and one in which it is received
                await asyncio.sleep(0)
            reply = await self._unasked()
            if reply is not None:
                raise EarlyError(reply)
            try:
                self.write(octets)
                while self._unsent or self._unprotected:
                    self._check()
                    await self._change()
            except SMTPServerDisconnected:
                raise await self._end_of_all() from None

    async def secure(self, context: ssl.SSLContext, sni: str | None, seconds: float) -> Secured | Reply:
        """Ask for STARTTLS and do the handshake."""
        with self._within(seconds):
            self._strict = True
            reply = await self._say("STARTTLS", "")
            self._strict = False
            if reply.code != READY_FOR_TLS:
                return reply
            self.keywords = ()
            self._tls = tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=sni)
            while not self._is_secured:
                ended = self._ended
                try:
                    tls.do_handshake()
                    self._is_secured = True
                except ssl.SSLWantReadError:
                    if ended:
                        raise self._error from None
                finally:
                    self._flush()
                if not self._is_secured:
                    await self._change()
            self.is_unheard = True
            self._advance()
        return secured(tls)

    def abort(self) -> None:
        """Cut the connection, and forget what it said."""
        self._cut()
        self._received.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # so that we are told of all that the system does not take
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        if self._tls is None:
            self._take(data)
        else:
            self._incoming.write(data)
            self._advance()
        self._changed.set()

    def eof_received(self) -> bool:
        if self._tls is not None:
            self._incoming.write_eof()
            self._advance()
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self._ended:
            self._error = exc
            self._drain()
        self._end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = False
        self._changed.set()

    def write(self, data: bytes) -> None:
        """Send octets; the protocol calls this. Raises `SMTPServerDisconnected` if the system takes no more."""
        self._check()
        if self._tls is None:
            super().write(data)
        else:
            self._unprotected += data
            self._advance()
        self._check()

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """Read one reply; the protocol calls this. The time is bounded elsewhere."""
        self._reply = reply = await self._read(ReplyParser(strict=self._strict))
        return SMTPResponse(reply.code, "\n".join(reply.lines))

    @property
    def _last_reply(self) -> Reply:
        assert self._reply is not None
        return self._reply

    async def _say(self, command: str, argument: str) -> Reply:
        words = filter(None, (command, argument))
        try:
            await self.execute_command(*(word.encode("ascii") for word in words))
        except SMTPServerDisconnected:
            error = await self._end_of_all()
            if isinstance(error, EarlyError) and error.reply.code >= REFUSAL:
                return error.reply
            raise error from None
        return self._last_reply

    async def _read(self, parser: ReplyParser) -> Reply:
        reply = None
        while reply is None:
            while not self._received:
                if self._ended:
                    raise self._error
                await self._change()
            reply = parser.feed(self._receive())
        return reply

    def _receive(self) -> bytes:
        octets = bytes(self._received)
        self._received.clear()
        return octets

    async def _unasked(self) -> Reply | None:
        """A reply that has come before it was asked for, None where that is nothing; the rest of one is waited for."""
        parser = ReplyParser()
        try:
            reply = parser.feed(self._receive())
            if reply is None and parser.begun:
                reply = await asyncio.wait_for(self._read(parser), EARLY_SECONDS)
        except SurplusError as error:
            return error.reply
        except asyncio.TimeoutError:
            raise ReplyError("the server began to answer before the end of what it was sent") from None
        return reply

    async def _end_of_all(self) -> Exception:
        """What ends a connection on which the system takes no more octets: a reply that has arrived, or an error."""
        while not self._ended:
            await self._change()
        with contextlib.suppress(OSError, ReplyError):
            reply = await self._unasked()
            if reply is not None:
                return EarlyError(reply)
        return self._error

    def _check(self) -> None:
        if not self.whole:
            raise SMTPServerDisconnected("the connection is closed")

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _take(self, octets: bytes) -> None:
        self.is_unheard = False
        self._received += octets
        if len(self._received) > MAX_UNREAD:
            self._fail(ConnectionError("the server sent more than was asked for"))

    def _advance(self) -> None:
        """Take in what TLS has received, and send what it has to send."""
        assert self._tls is not None
        if not self._is_secured:
            return  # the handshake is under way
        try:
            with contextlib.suppress(ssl.SSLWantReadError):
                while self._unprotected:
                    del self._unprotected[: self._tls.write(self._unprotected)]
            with contextlib.suppress(ssl.SSLWantReadError):
                while octets := self._tls.read(READ_OCTETS):
                    self._take(octets)
                    if self._ended:
                        return
                self._end()
        except ssl.SSLEOFError:  # what the transport says about the end is to come, or has come
            self._end()
        except ssl.SSLError as error:
            self._fail(error)
        self._flush()

    def _flush(self) -> None:
        transport = cast("asyncio.Transport | None", self.transport)
        octets = self._outgoing.read()
        if octets and transport is not None and not transport.is_closing():
            transport.write(octets)
            if transport.get_write_buffer_size() > MAX_UNSENT:
                self._fail(ConnectionError("the server does not read what it asks for"))

    def _drain(self) -> None:
        """Receive what has arrived at a connection that asyncio has given up, as it does when a write fails."""
        assert self._socket is not None
        with contextlib.suppress(OSError):
            for _ in range(MAX_UNREAD // READ_OCTETS):
                octets = self._socket.recv(READ_OCTETS)
                if not octets or self._ended:
                    break
                self.data_received(octets)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._flush()
        self._cut()

    def _cut(self) -> None:
        self._end()
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()
        elif self._socket is not None:
            self._socket.close()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()

    def _expire(self) -> None:
        self._expired = True
        self._cut()

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Bound what is done; what is raised cuts the connection, and is `TimeoutError` if the time is up."""
        if seconds <= 0:
            self.abort()
            raise TimeoutError
        timer = asyncio.get_running_loop().call_later(seconds, self._expire)
        try:
            yield
        except _FAILURES as error:
            self.abort()
            if self._expired and not isinstance(error, EarlyError):
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
