"""SMTP sessions on the standard library's `smtplib`: what the effects of `delivery.session` ask of a connection.

- A reply is read straight from the socket, by the rules of `adapters.replies`. So nothing that came in clear is left in
  a buffer when TLS begins, and octets behind the reply to STARTTLS are noticed (RFC 3207 section 4).
- Only a 220 permits the handshake. Nothing is verified here: the chain is handed over as presented.
- Every step has a time limit that holds whatever the peer does, and what it may send is bounded.
- The final dot is sent on its own, so that a connection lost before it is known to be one: the server can not have
  taken the message.
- What a server says before the final dot is no reply to the message. A refusal (4xx, 5xx) ends the transaction all the
  same; whatever else breaks it (RFC 5321 sections 3.3 and 4.1.1.4).
- Where the system takes no more octets, a refusal that has arrived by then counts before the connection does as lost.
- A server of TLS 1.3 may refuse the handshake where we think it done: in place of the first reply within TLS.

A connector has no state: the `session` of an effect holds the connection.

>>> connector = SmtpConnector(ehlo_name="client.example", timeout=5)
>>> connector.connect(Connect("127.0.0.1", 1)).kind
<Trouble.UNREACHABLE: 'unreachable'>
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import time
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from mailtlspolicy.adapters._cut import Watchdog
from mailtlspolicy.adapters._own import is_own
from mailtlspolicy.adapters._text import reason
from mailtlspolicy.adapters.replies import EarlyError, ReplyError, ReplyParser, SurplusError
from mailtlspolicy.adapters.tls import client_context, name_of, presented_chain
from mailtlspolicy.delivery.session import (
    READY_FOR_TLS,
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
    Trouble,
)
from mailtlspolicy.delivery.transaction import (
    Command,
    EndOfData,
    Octets,
    Progress,
    next_action,
    transaction,
)
from mailtlspolicy.names import canonical, canonical_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from attrs import Attribute

    from mailtlspolicy.levels import TlsLevel

MAX_TIMEOUT = 86_400  # seconds; no server is worth more than a day
CONNECT_SECONDS = 30.0  # how long a connection may take to come about; RFC 5321 gives no number, Postfix takes this one
QUIT_SECONDS = 2.0  # how long the reply to QUIT is waited for: nothing depends on it
EARLY_SECONDS = 2.0  # how long the rest of a reply is waited for that has begun before it was asked for
READ_OCTETS = 4096  # at once

REFUSAL = 400  # and above: the code of a reply that refuses (RFC 5321 section 4.2.1)


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


def _ehlo_name(text: str | None) -> str | None:
    return system_name() if text is None else ehlo_argument(text)


def _check_seconds(_: object, attribute: Attribute[float], value: float) -> None:
    if not 0 < value <= MAX_TIMEOUT:
        raise ValueError(f"{attribute.name} is more than 0 seconds and at most {MAX_TIMEOUT}")


@frozen(kw_only=True)
class SmtpClient:
    """What the connectors of this module and of `adapters.smtp_async` share.

    The time limits are by default at least those of RFC 5321 section 4.5.3.2; who only looks at a server needs less.

    Attributes:
        ehlo_name: the argument of EHLO, a fully-qualified domain name or an address literal (RFC 5321 section 2.3.5).
            The default, asked for once, is the system's name; None, where it has none, stands for the literal of the
            address that a connection comes from.
        timeout: seconds that each step may take: the greeting, a command with its reply, STARTTLS with the handshake,
            64 KiB of content. A connection has to come about within this, and within 30 seconds.
        transmit_timeout: seconds that a transaction may take as a whole, up to the end of the message. RFC 5321 knows
            limits of the steps alone; but a server that takes its time at each would hold a large message for days.
        data_timeout: seconds that the reply to the message itself is waited for after that. With too few a message is
            sent again that was taken.
        context: makes the TLS context for a level.

    Raises:
        ValueError: the name is not fit for EHLO, or a time limit is not positive.
    """

    ehlo_name: str | None = field(default=None, converter=_ehlo_name)
    timeout: float = field(default=300.0, validator=_check_seconds)
    transmit_timeout: float = field(default=7200.0, validator=_check_seconds)
    data_timeout: float = field(default=600.0, validator=_check_seconds)
    context: Callable[[TlsLevel], ssl.SSLContext] = field(default=client_context, repr=False)

    @property
    def connect_seconds(self) -> float:
        """How long a connection may take to come about."""
        return min(self.timeout, CONNECT_SECONDS)

    @property
    def quit_seconds(self) -> float:
        """How long the reply to QUIT is waited for."""
        return min(self.timeout, QUIT_SECONDS)

    def name_from(self, address: str) -> str:
        """The argument of EHLO on a connection that comes from this address."""
        return self.ehlo_name or address_literal(source(address))

    def tls_for(self, effect: StartTls) -> tuple[ssl.SSLContext, str | None]:
        """The context and the SNI of a session.

        Raises:
            ValueError: the SNI is no domain name.
        """
        sni = None if effect.sni is None else canonical(effect.sni)
        return self.context(effect.level), sni


def source(address: str) -> str:
    """The address that a connection comes from as others may read it: without a zone."""
    return canonical_address(address.partition("%")[0])


def endpoint(effect: Connect) -> tuple[str, int]:
    """The address and the port to connect to.

    Raises:
        ValueError: the address or the port is none.
    """
    if not 1 <= effect.port <= 65535:
        raise ValueError(f"a port is 1 to 65535, not {effect.port}")
    return canonical_address(effect.address), effect.port


def announces_nothing(reply: Reply) -> Reply:
    """A reply to HELO, of which no line but the first has a meaning."""
    return Reply(reply.code, reply.lines[:1])


def secured(tls: ssl.SSLSocket | ssl.SSLObject) -> Secured:
    """What there is to tell of a session after its handshake."""
    cipher = tls.cipher()
    return Secured(presented_chain(tls), tls.version() or "", cipher[0] if cipher else "")


def note_failure(progress: Progress, error: Exception) -> None:
    """Note what ended the connection.

    A server that says good-bye behind its last reply has answered all the same: "550 no such user", and then "421
    too many errors" (RFC 5321 section 3.8). So has one that refuses the message before its end.
    """
    progress.failure = lost(error)
    if isinstance(error, EarlyError) and error.reply.code >= REFUSAL:
        progress.end = error.reply
    if not isinstance(error, SurplusError):
        return
    if progress.mail is None:
        progress.mail = error.reply
    elif len(progress.recipients) < progress.asked:
        progress.recipients.append(error.reply)
    elif progress.data is None:
        progress.data = error.reply
    else:
        progress.end = error.reply


def lost(error: Exception, kind: Trouble = Trouble.LOST) -> SessionFailure:
    """The failure that an error amounts to."""
    if is_own(error):
        return SessionFailure(Trouble.LOCAL, reason(error))
    # OpenSSL's own name for it, which has the same meaning everywhere
    if isinstance(error, ssl.SSLError) and kind is Trouble.HANDSHAKE:
        return SessionFailure(kind, reason(error), *name_of(error))
    return SessionFailure(kind, reason(error))


def unheard(error: Exception) -> SessionFailure:
    """The failure that an error amounts to in place of all that a server says within TLS.

    It has not accepted the handshake: a server of TLS 1.3 that misses a client certificate, say, finds that when we are
    through with it (RFC 8446 section 4.4.2.4).
    """
    if isinstance(error, TimeoutError) or not isinstance(error, OSError):
        return lost(error)
    failure = lost(error, Trouble.HANDSHAKE)
    return failure if failure.tls_error else evolve(failure, detail="closed before EHLO was answered")


# --- by `smtplib` -----------------------------------------------------------------------------------------------------


class SmtpConnector(SmtpClient):
    """A connector that blocks. Its values are immutable, so threads can share one.

    An exception, KeyboardInterrupt for one, closes the connection that it hits.
    """

    __slots__ = ()

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        """Connect and await the greeting.

        Raises:
            ValueError: the address or the port is none.
        """
        server = endpoint(effect)
        with _held(_Session()) as session:
            try:
                session.open(server, self.connect_seconds)
                session.local_hostname = self.name_from(session.address)
            except OSError as error:
                session.close()
                return lost(error, Trouble.UNREACHABLE)
            try:
                return Connected(session, session.hear(self.timeout), source(session.address))
            except (OSError, ReplyError) as error:
                return lost(error)

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """Say EHLO or HELO."""
        with _held(effect.session) as session:
            session.keywords = ()  # what was learned before counts no more (RFC 3207 section 4.2)
            try:
                reply = session.say("HELO" if effect.helo else "EHLO", session.local_hostname, self.timeout)
            except (OSError, ReplyError) as error:
                return unheard(error) if session.is_unheard else lost(error)
            if effect.helo:
                return announces_nothing(reply)
            if reply.success:
                session.keywords = reply.keywords
            return reply

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        """Ask for STARTTLS and, after a 220, do the handshake.

        Raises:
            ValueError: the SNI is no domain name.
        """
        context, sni = self.tls_for(effect)
        end = time.monotonic() + self.timeout
        with _held(effect.session) as session:
            try:
                reply = session.say("STARTTLS", "", self.timeout, strict=True)
            except SurplusError as error:
                return lost(error, Trouble.INJECTED)
            except (OSError, ReplyError) as error:
                return lost(error)
            if reply.code != READY_FOR_TLS:
                return reply
            try:
                return session.secure(context, sni, max(end - time.monotonic(), 0))
            except OSError as error:
                session.close()  # without QUIT: the server expects TLS (RFC 3207 section 4)
                return lost(error, Trouble.HANDSHAKE)

    def transmit(self, effect: Transmit) -> Transmitted:
        """Send a message in one transaction."""
        progress = Progress()
        with _held(effect.session) as session:
            try:
                self._transact(session, effect, progress)
            except (OSError, ReplyError) as error:
                note_failure(progress, error)
        return progress.transmitted()

    def _transact(self, session: _Session, effect: Transmit, progress: Progress) -> None:
        end = time.monotonic() + self.transmit_timeout
        transacting = transaction(effect, session.keywords, progress)
        reply = None
        while (action := next_action(transacting, reply)) is not None:
            seconds = min(self.timeout, end - time.monotonic())
            reply = None
            if isinstance(action, Command):
                reply = session.say(action.verb, action.argument, seconds)
            elif isinstance(action, Octets):
                session.put(action.octets, seconds)
            elif isinstance(action, EndOfData):
                reply = session.hear(self.data_timeout)

    def close(self, effect: Close) -> None:
        """End the connection; without QUIT if it has ended, or is of no use, already."""
        with _held(effect.session) as session:
            if session.sock is not None:
                with contextlib.suppress(OSError, ReplyError):
                    session.say("QUIT", "", self.quit_seconds)
                session.close()


@contextlib.contextmanager
def _held(session: _Session) -> Iterator[_Session]:
    """Close the connection if an exception goes by."""
    try:
        yield session
    except BaseException:
        session.close()
        raise


class _Session(smtplib.SMTP):
    """A connection on which `smtplib` speaks, while our own rules say what is a reply and how long a step may take.

    What raises an exception also closes the connection.

    Attributes:
        keywords: what the server announced in this state of the session.
        is_unheard: there is TLS, and nothing has come within it.
    """

    def __init__(self) -> None:
        super().__init__(local_hostname="")
        self.keywords: tuple[str, ...] = ()
        self.is_unheard = False
        self._reply: Reply | None = None
        self._strict = False  # of the reply that is awaited
        self._end = 0.0
        self._watchdog: Watchdog | None = None  # within TLS: what comes in clear is bounded by the socket's own timeout

    def open(self, server: tuple[str, int], seconds: float) -> None:
        self.sock = socket.create_connection(server, seconds)
        # The final dot goes out at once, though there may be content that is not acknowledged
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def address(self) -> str:
        """The address that the connection comes from."""
        assert self.sock is not None
        return str(self.sock.getsockname()[0])

    def say(self, command: str, argument: str, seconds: float, *, strict: bool = False) -> Reply:
        """Send a command, return the reply."""
        self._strict = strict
        try:
            with self._within(seconds):
                self.docmd(command, argument)
        except EarlyError as error:
            if error.reply.code < REFUSAL:  # to what it never heard
                raise
            return error.reply
        assert self._reply is not None
        return self._reply

    def hear(self, seconds: float) -> Reply:
        """Return a reply to what was sent already."""
        self._strict = False
        with self._within(seconds):
            self.getreply()
        assert self._reply is not None
        return self._reply

    def put(self, octets: bytes, seconds: float) -> None:
        """Hand octets of a message over to the system, all of them, where the server has said nothing yet.

        Raises:
            EarlyError: it has.
        """
        with self._within(seconds):
            reply = self._unasked()
            if reply is not None:
                raise EarlyError(reply)
            self.send(octets)

    def send(self, s: Any) -> None:
        """Send octets; `smtplib` calls this."""
        assert self.sock is not None
        self.sock.settimeout(self._left)
        try:
            self.sock.sendall(s.encode("ascii") if isinstance(s, str) else s)
        except OSError as error:
            reply = None
            with contextlib.suppress(
                ReplyError, ConnectionError, TimeoutError
            ):  # an alert tells more than `error` does
                reply = self._unasked()
            if reply is None:
                raise
            raise EarlyError(reply) from error

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply; `smtplib` calls this."""
        parser = ReplyParser(strict=self._strict)
        reply = None
        while reply is None:
            left = self._left
            if left <= 0:
                raise TimeoutError
            reply = parser.feed(self._receive(left))
        self._reply = reply
        return reply.code, "\n".join(reply.lines).encode()

    def secure(self, context: ssl.SSLContext, sni: str | None, seconds: float) -> Secured:
        """Do the handshake."""
        assert self.sock is not None
        self.sock.getpeername()  # raises if the connection is lost; what is to come would then leak (until Python 3.13)
        tls = context.wrap_socket(self.sock, server_hostname=sni, do_handshake_on_connect=False)
        self.sock, self._watchdog = tls, Watchdog(tls)
        self.keywords = ()
        with self._within(seconds):
            tls.do_handshake()
        self.is_unheard = True
        return secured(tls)

    def close(self) -> None:
        """Close the connection."""
        if self._watchdog is not None:
            self._watchdog.stop()
        super().close()

    @property
    def _left(self) -> float:
        """How many seconds the step has left."""
        return max(self._end - time.monotonic(), 0)

    def _receive(self, seconds: float) -> bytes:
        assert self.sock is not None
        self.sock.settimeout(seconds)
        octets = self.sock.recv(READ_OCTETS)
        if not octets:
            raise ConnectionError("the server closed the connection")
        self.is_unheard = False
        return octets

    def _unasked(self) -> Reply | None:
        """A reply that has come before it was asked for, None where that is nothing; the rest of one is waited for."""
        parser = ReplyParser()
        reply, until = None, time.monotonic() + min(EARLY_SECONDS, self._left)
        try:
            while reply is None:
                reply = parser.feed(self._receive(max(until - time.monotonic(), 0) if parser.begun else 0))
        except SurplusError as error:
            return error.reply
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if parser.begun:
                raise ReplyError("the server began to answer before the end of what it was sent") from None
        return reply

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Bound what is done; what is raised closes the connection, and is `TimeoutError` if the time is up."""
        self._end = time.monotonic() + seconds
        try:
            if self.sock is None:
                raise ConnectionError("the connection is closed")
            if seconds <= 0:
                raise TimeoutError
            self.sock.settimeout(seconds)
            with contextlib.nullcontext() if self._watchdog is None else self._watchdog.over(seconds):
                yield
        except OSError as error:
            self.close()
            if time.monotonic() >= self._end:
                raise TimeoutError from error
            raise
        except BaseException:
            self.close()
            raise
