"""SMTP sessions for asyncio, on `aiosmtplib` (an optional extra); rules and results are those of `adapters.smtp`.

- The protocol of `aiosmtplib` speaks, and our own rules say what is a reply. It would discard octets that nobody asked
  for; here they are kept, so that those behind the reply to STARTTLS are noticed (RFC 3207 section 4).
- The final dot is written when everything before it has left the buffers of asyncio.
- A time limit cuts the connection, and so ends whatever waits for it. A task that is cancelled does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from mailtlspolicy.adapters._text import reason
from mailtlspolicy.adapters.replies import MAX_LINE, MAX_LINES, ReplyError, ReplyParser, SurplusError
from mailtlspolicy.adapters.smtp import (
    END_OF_DATA,
    Progress,
    SmtpClient,
    announces_nothing,
    blocks_of,
    endpoint,
    lost,
    mail_argument,
    rcpt_argument,
    secured,
    source,
    with_line_ends,
)
from mailtlspolicy.delivery.session import DATA_WANTED, EHLO_UNKNOWN, READY_FOR_TLS, Connected, Secured, Trouble

if TYPE_CHECKING:
    import ssl
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

MAX_UNREAD = MAX_LINE * MAX_LINES  # octets that nobody has asked for yet: as many as the longest reply has


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
        loop = asyncio.get_running_loop()
        with _held(_Session(loop)) as session:
            try:
                await asyncio.wait_for(loop.create_connection(lambda: session, *server), self.connect_seconds)
                session.name = self.name_from(session.address)
            except (OSError, asyncio.TimeoutError) as error:  # the latter is the former since Python 3.11
                session.abort()
                return lost(error, Trouble.UNREACHABLE)
            try:
                return Connected(session, await session.hear(self.timeout), source(session.address))
            except _FAILURES as error:
                return lost(error)

    async def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """Say EHLO, or HELO where that is unknown."""
        with _held(effect.session) as session:
            session.keywords = ()  # what was learned before counts no more (RFC 3207 section 4.2)
            try:
                reply = await session.say("EHLO", session.name, self.timeout)
                if reply.code in EHLO_UNKNOWN:
                    return announces_nothing(await session.say("HELO", session.name, self.timeout))
            except _FAILURES as error:
                return lost(error)
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
                return lost(error, Trouble.HANDSHAKE if session.expects_tls else Trouble.LOST)

    async def transmit(self, effect: Transmit) -> Transmitted:
        """Send a message in one transaction."""
        progress = Progress()
        with _held(effect.session) as session:
            try:
                await self._transact(session, effect, progress)
            except _FAILURES as error:
                progress.fail(error)
        return progress.transmitted()

    async def _transact(self, session: _Session, effect: Transmit, progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.transmit_timeout

        def seconds() -> float:
            return min(self.timeout, end - loop.time())

        content = with_line_ends(effect.message.content)
        progress.mail = await session.say("MAIL", mail_argument(effect, session.keywords, content), seconds())
        if not progress.mail.success:
            return
        for recipient in effect.recipients:
            progress.asked += 1
            progress.recipients.append(await session.say("RCPT", rcpt_argument(recipient), seconds()))
        if not any(reply.success for reply in progress.recipients):
            return
        progress.data = await session.say("DATA", "", seconds())
        if progress.data.code != DATA_WANTED:
            return
        for block in blocks_of(content):
            await session.put(block, seconds())
        await session.put(END_OF_DATA, seconds())
        progress.committed = True
        progress.end = await session.hear(self.data_timeout)

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
        keywords: what the server announced in this state of the session.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.name = ""
        self.keywords: tuple[str, ...] = ()
        self._socket: asyncio.Transport | None = None
        self._tls: asyncio.Transport | None = None  # above the socket, once there is TLS
        self._reply: Reply | None = None
        self._received = bytearray()
        self._unsent = False  # asyncio holds octets that the system has not taken
        self._ended = False
        self._expired = False
        self._why = "the server closed the connection"
        self._changed = asyncio.Event()

    @property
    def address(self) -> str:
        """The address that the connection comes from."""
        assert self._socket is not None
        return str(self._socket.get_extra_info("sockname")[0])

    @property
    def whole(self) -> bool:
        """Whether there is somebody to speak to."""
        return self.is_connected and not self._ended

    @property
    def expects_tls(self) -> bool:
        """Whether the server has said that TLS may begin."""
        return self._reply is not None and self._reply.code == READY_FOR_TLS

    async def say(self, command: str, argument: str, seconds: float) -> Reply:
        """Send a command, return the reply."""
        words = filter(None, (command, argument))
        with self._within(seconds):
            await self.execute_command(*(word.encode("ascii") for word in words))
        return self._last_reply

    async def hear(self, seconds: float) -> Reply:
        """Return a reply to what was sent already."""
        with self._within(seconds):
            await self.read_response()
        return self._last_reply

    async def put(self, octets: bytes, seconds: float) -> None:
        """Hand octets over to the system, all of them."""
        with self._within(seconds):
            self._check()
            self.write(octets)
            self._check()
            while self._unsent:
                await self._change()
                self._check()

    async def secure(self, context: ssl.SSLContext, sni: str | None, seconds: float) -> Secured | Reply:
        """Ask for STARTTLS and do the handshake."""
        self._reply = None
        with self._within(seconds):
            try:
                await self.start_tls(context, server_hostname=sni, timeout=seconds)
            except SMTPResponseException:  # any reply but 220
                return self._last_reply
            self._check()
        self.keywords = ()
        self._tls = tls = cast("asyncio.Transport", self.transport)
        tls.set_write_buffer_limits(high=1, low=0)  # with 0 for both, asyncio pauses when there is nothing to send
        return secured(tls.get_extra_info("ssl_object"))

    def abort(self) -> None:
        """Cut the connection."""
        self._end()
        for transport in (self._tls, self._socket):
            if transport is not None:
                transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket = cast("asyncio.Transport", transport)
        self._socket.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MAX_UNREAD:
            self._why = "the server sent more than was asked for"
            self.abort()
        self._changed.set()

    def eof_received(self) -> bool:
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._why = reason(exc)
        self._end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = False
        self._changed.set()

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """Read one reply; the protocol calls this. The time is bounded elsewhere."""
        parser = ReplyParser()
        reply = None
        while reply is None:
            while not self._received:
                if self._ended:
                    raise SMTPServerDisconnected(self._why)
                await self._change()
            octets = bytes(self._received)
            self._received.clear()
            reply = parser.feed(octets)
        self._reply = reply
        return SMTPResponse(reply.code, "\n".join(reply.lines))

    @property
    def _last_reply(self) -> Reply:
        assert self._reply is not None
        return self._reply

    def _check(self) -> None:
        if self._ended or self._socket is None or self._socket.is_closing():
            raise SMTPServerDisconnected(self._why)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()

    def _expire(self) -> None:
        self._expired = True
        self.abort()

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
            if self._expired:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
