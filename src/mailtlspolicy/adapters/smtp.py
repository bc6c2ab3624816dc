"""A probing SMTP client, synchronous and for asyncio: connect, EHLO, STARTTLS, look at the certificates, QUIT.

- No mail is ever announced: MAIL is not among the commands.
- STARTTLS is asked for only where it is announced, and only a 220 permits the handshake (RFC 3207 section 4).
- Octets behind a reply are an attack or a fault, and end the probe. Cleartext is read straight from the socket, and
  what was not read by the time of the handshake meets TLS, so nothing can be smuggled into the session.
- Nothing is verified here: the chain is handed over as presented.
- Every reply, and the probe as a whole, is bounded.

The dialogue is a generator that does no I/O, so that both clients speak alike.

>>> prober = SmtpProber(ehlo_name="client.example", timeout=5)
>>> prober.probe(Probe("127.0.0.1", 1, "mx.example")).stage
<ProbeStage.CONNECT: 'connect-failed'>
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from attrs import field, frozen

from mailtlspolicy.adapters._cut import cut_after, shake_hands
from mailtlspolicy.adapters._text import reason
from mailtlspolicy.adapters.replies import Reply, ReplyError, ReplyParser
from mailtlspolicy.adapters.tls import client_context, presented_chain
from mailtlspolicy.effects import Probe, Probed, ProbeFailure, ProbeStage
from mailtlspolicy.names import canonical, canonical_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator

    from mailtlspolicy.levels import TlsLevel

MAX_TIMEOUT = 3600  # seconds; more than twice what RFC 5321 section 4.5.3.2 gives any command
QUIT_SECONDS = 2.0  # how long the reply to QUIT is waited for: nothing depends on it
_CHUNK = 4096  # octets read at once
_EHLO_UNKNOWN = {500, 502}  # the server does not know the command, hence no extension (RFC 5321 section 3.2)


def address_literal(address: str) -> str:
    """Return an address as EHLO takes it: "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 section 4.1.3).

    Raises:
        ValueError: the text is no address.
    """
    text = canonical_address(address)
    return f"[IPv6:{text}]" if ":" in text else f"[{text}]"


def ehlo_argument(text: str) -> str:
    """Return a name fit for EHLO: a fully-qualified domain name or an address literal (RFC 5321 section 2.3.5).

    Raises:
        ValueError: the text is neither; a bare host name or an address without brackets, say.
    """
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1]
        prefixed = inner.lower().startswith("ipv6:")
        literal = address_literal(inner[5:] if prefixed else inner)
        if prefixed != literal.startswith("[IPv6:"):
            raise ValueError(f"{text!r} is not an address literal")
        return literal
    name = canonical(text)
    if "." not in name:
        raise ValueError(f"{text!r} is not fully qualified")
    return name


def system_name() -> str | None:
    """Return the fully-qualified name of this system, which may take a DNS lookup, or None where it has none."""
    try:
        name = ehlo_argument(socket.getfqdn())
    except ValueError:
        return None
    return None if name.endswith((".localdomain", ".localhost", ".arpa")) else name


@frozen
class _Say:
    """Send octets, perhaps none, and receive some."""

    octets: bytes
    seconds: float = math.inf


@frozen
class _StartTls:
    """Do the handshake."""


_T = TypeVar("_T")
_Step: TypeAlias = "_Say | _StartTls"
_Done: TypeAlias = "bytes | Probed | OSError"
_Dialogue: TypeAlias = "Generator[_Step, _Done, Probed | ProbeFailure]"


def _dialogue(ehlo_name: str) -> _Dialogue:
    """Yield steps, be sent what was received, the session, or the error that befell; return what came of it all."""
    stage = ProbeStage.GREETING
    try:
        reply = yield from _command(b"")
        if not reply.success:
            return (yield from _leave(ProbeFailure(stage, str(reply))))
        reply = yield from _command(b"EHLO " + ehlo_name.encode("ascii") + b"\r\n")
        if reply.code in _EHLO_UNKNOWN:
            return (yield from _leave(ProbeFailure(ProbeStage.STARTTLS_ABSENT, str(reply))))
        if not reply.success:
            return (yield from _leave(ProbeFailure(stage, str(reply))))
        if "STARTTLS" not in reply.keywords:
            return (yield from _leave(ProbeFailure(ProbeStage.STARTTLS_ABSENT)))
        stage = ProbeStage.STARTTLS_REFUSED
        reply = yield from _command(b"STARTTLS\r\n")
        if reply.code != 220:
            return (yield from _leave(ProbeFailure(stage, str(reply))))
        stage = ProbeStage.HANDSHAKE
        probed = _unless_error((yield _StartTls()), Probed)
    except (OSError, ReplyError) as error:
        return ProbeFailure(stage, reason(error))
    return (yield from _leave(probed))


def _unless_error(done: _Done, kind: type[_T]) -> _T:
    if isinstance(done, OSError):
        raise done
    assert isinstance(done, kind)
    return done


def _command(octets: bytes) -> Generator[_Step, _Done, Reply]:
    parser = ReplyParser()
    while True:
        received = _unless_error((yield _Say(octets)), bytes)
        if not received:
            raise ConnectionError("the server closed the connection")
        reply = parser.feed(received)
        if reply is not None:
            return reply
        octets = b""


def _leave(result: Probed | ProbeFailure) -> _Dialogue:
    """Say QUIT, whatever comes of it (RFC 5321 section 4.1.1.10)."""
    yield _Say(b"QUIT\r\n", QUIT_SECONDS)
    return result


def _probed(session: ssl.SSLSocket | ssl.SSLObject) -> Probed:
    cipher = session.cipher()
    return Probed(presented_chain(session), session.version() or "", cipher[0] if cipher else "")


def _checked(effect: Probe) -> Probe:
    if not 1 <= effect.port <= 65535:
        raise ValueError(f"a port is 1 to 65535, not {effect.port}")
    sni = None if effect.sni is None else canonical(effect.sni)
    return Probe(canonical_address(effect.address), effect.port, sni, effect.level)


def _ehlo_name(text: str | None) -> str | None:
    return system_name() if text is None else ehlo_argument(text)


@frozen(kw_only=True)
class _Prober:
    """What both probing clients share.

    Attributes:
        ehlo_name: the argument of EHLO, a fully-qualified domain name or an address literal (RFC 5321 section 2.3.5).
            The default, asked for once, is the system's name; None, where it has none, stands for the literal of the
            address that a connection comes from.
        timeout: seconds that one probe may take as a whole.
        context: makes the TLS context for a level.

    Raises:
        ValueError: the name is not fit for EHLO, or the timeout is not positive.
    """

    ehlo_name: str | None = field(default=None, converter=_ehlo_name)
    timeout: float = 30.0
    context: Callable[[TlsLevel], ssl.SSLContext] = field(default=client_context, repr=False)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise ValueError(f"timeout is more than 0 seconds and at most {MAX_TIMEOUT}")

    def _dialogue(self, sock: socket.socket) -> _Dialogue:
        return _dialogue(self.ehlo_name or address_literal(sock.getsockname()[0].partition("%")[0]))


class SmtpProber(_Prober):
    """A probing client that blocks. Its values are immutable, so threads can share one."""

    __slots__ = ()

    def probe(self, effect: Probe) -> Probed | ProbeFailure:
        """Probe one server; whatever goes wrong in the world is a `ProbeFailure`.

        Raises:
            ValueError: the address, the port or the SNI of the effect is none.
        """
        effect = _checked(effect)
        deadline = time.monotonic() + self.timeout
        try:
            connection = _Connection(socket.create_connection((effect.address, effect.port), self.timeout), deadline)
        except OSError as error:
            return ProbeFailure(ProbeStage.CONNECT, reason(error))
        context = self.context(effect.level)
        with contextlib.closing(connection):
            dialogue = self._dialogue(connection.sock)
            try:
                step = next(dialogue)
                while True:
                    step = dialogue.send(connection.perform(step, context, effect.sni))
            except StopIteration as stop:
                result: Probed | ProbeFailure = stop.value
                return result


class _Connection:
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self._deadline = deadline

    def perform(self, step: _Step, context: ssl.SSLContext, sni: str | None) -> _Done:
        left = self._deadline - time.monotonic()
        if left <= 0:
            return TimeoutError()
        try:
            if isinstance(step, _StartTls):
                session = context.wrap_socket(self.sock, server_hostname=sni, do_handshake_on_connect=False)
                self.sock = session
                shake_hands(session, left)
                return _probed(session)
            seconds = min(left, step.seconds)
            self.sock.settimeout(seconds)
            with cut_after(self.sock, seconds):
                self.sock.sendall(step.octets)
                return self.sock.recv(_CHUNK)
        except OSError as error:
            return error

    def close(self) -> None:
        self.sock.close()


class AsyncSmtpProber(_Prober):
    """A probing client for asyncio."""

    __slots__ = ()

    async def probe(self, effect: Probe) -> Probed | ProbeFailure:
        """Probe one server; whatever goes wrong in the world is a `ProbeFailure`.

        Raises:
            ValueError: the address, the port or the SNI of the effect is none.
        """
        effect = _checked(effect)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in effect.address else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor left, or no such address family here
            return ProbeFailure(ProbeStage.CONNECT, reason(error))
        context = self.context(effect.level)
        connection = _AsyncConnection(sock, deadline)
        try:
            sock.setblocking(False)
            try:
                await asyncio.wait_for(loop.sock_connect(sock, (effect.address, effect.port)), self.timeout)
                dialogue = self._dialogue(sock)
            except (OSError, asyncio.TimeoutError) as error:
                return ProbeFailure(ProbeStage.CONNECT, reason(error))
            try:
                step = next(dialogue)
                while True:
                    step = dialogue.send(await connection.perform(step, context, effect.sni))
            except StopIteration as stop:
                result: Probed | ProbeFailure = stop.value
                return result
        finally:
            await connection.close()


class _AsyncConnection:
    """A socket, until a TLS transport takes it over: so no stream buffers cleartext across the handshake."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock: socket.socket | None = sock
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._deadline = deadline

    async def perform(self, step: _Step, context: ssl.SSLContext, sni: str | None) -> _Done:
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            if isinstance(step, _StartTls):
                return await asyncio.wait_for(self._start_tls(context, sni), left)
            return await asyncio.wait_for(self._say(step.octets), min(left, step.seconds))
        except asyncio.TimeoutError:  # which is `TimeoutError` since Python 3.11
            return TimeoutError()
        except OSError as error:
            return error

    async def _start_tls(self, context: ssl.SSLContext, sni: str | None) -> Probed:
        sock, self._sock = self._sock, None  # asyncio closes it, whatever happens
        reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=sni or "")
        self._streams = reader, writer
        return _probed(writer.get_extra_info("ssl_object"))

    async def _say(self, octets: bytes) -> bytes:
        if self._streams is not None:
            reader, writer = self._streams
            writer.write(octets)
            return await reader.read(_CHUNK)
        loop = asyncio.get_running_loop()
        assert self._sock is not None
        await loop.sock_sendall(self._sock, octets)
        return await loop.sock_recv(self._sock, _CHUNK)

    async def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        if self._streams is not None:
            self._streams[1].transport.abort()  # a peer that does not answer close_notify is not waited for
            await asyncio.sleep(0)
