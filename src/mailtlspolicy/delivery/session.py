"""An SMTP session as effects: what the delivery of a message asks of a connection, and what it is told.

Every result is a fact: a reply as the server gave it, or what befell the connection. What follows from it is decided in
`transitions` and `conversation`. The performer of these effects (`engine.Connector`) keeps the connection between them,
as an object that nothing here looks into.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Attribute, field, frozen

from mailtlspolicy._words import Word
from mailtlspolicy.effects import Effect, OwnFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailtlspolicy.delivery.message import Message
    from mailtlspolicy.levels import TlsLevel

# The replies on which a performer of these effects acts; everything else is decided in `conversation`
READY_FOR_TLS = 220  # the one reply to STARTTLS that permits the handshake (RFC 3207 section 4)
DATA_WANTED = 354  # the one reply to DATA after which the message is sent (RFC 5321 section 3.3)

SHOWN_LINES = 10  # of a reply, where it is shown: a server may send more than a hundred

_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?![^ ])")


def _lines(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("the lines of a reply are a sequence, not one text")
    return tuple(value) or ("",)


@frozen
class Reply:
    """An SMTP reply (RFC 5321 section 4.2). Only its code decides; the text is for people.

    Attributes:
        code: three digits, the first of them 2 to 5.
        lines: the text of each line, one or more.
    """

    code: int = field()
    lines: tuple[str, ...] = field(default=("",), converter=_lines)

    @code.validator
    def _check_code(self, _: Attribute[int], value: int) -> None:
        if not 200 <= value <= 599:
            raise ValueError(f"the code of a reply is 200 to 599, not {value}")

    @property
    def success(self) -> bool:
        """Whether the first digit is 2."""
        return self.code < 300

    @property
    def permanent(self) -> bool:
        """Whether the first digit is 5."""
        return self.code >= 500

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords of a reply to EHLO, upper case: the first word of every line but the first (section 4.1.1.1)."""
        return tuple(line.split(None, 1)[0].upper() for line in self.lines[1:] if line.strip())

    @property
    def status(self) -> str | None:
        """The enhanced status code of RFC 2034, where it is of the class that the code is of."""
        match = _STATUS.match(self.lines[0])
        return match[0] if match is not None and int(match[1]) == self.code // 100 else None

    def __str__(self) -> str:
        return " ".join([str(self.code), *filter(None, self.lines[:SHOWN_LINES])])


class Trouble(Word):
    """What befell a connection in place of a reply."""

    UNREACHABLE = "unreachable"  # it did not come about
    LOST = "lost"  # it ended, timed out, or the peer spoke no SMTP
    INJECTED = "injected"  # octets came behind the reply to STARTTLS
    LOCAL = "local"  # this system lacked something
    OVERDUE = "overdue"  # the time of the delivery was up
    HANDSHAKE = "handshake"  # TLS could not be agreed on, or the peer ended it before it said anything within


@frozen
class SessionFailure:
    """A connection that is of no more use.

    Attributes:
        kind: what befell it.
        detail: what the network or the peer said, for people.
        tls_error: what the TLS library calls the error that ended a handshake.
        alert: the peer ended the handshake by an alert, so that it has answered what was offered (RFC 8446 section 6).
    """

    kind: Trouble
    detail: str = ""
    tls_error: str | None = None
    alert: bool = False


class _OfConnector:
    """An effect that the connector performs."""

    __slots__ = ()
    performer: ClassVar[str] = "connector"
    is_fenced: ClassVar[bool] = True
    is_timed: ClassVar[bool] = True

    def own_failure(self, why: OwnFailure, detail: str) -> Any:
        """A failure that says nothing of the server."""
        return SessionFailure(Trouble(why), detail)


@frozen
class Connect(_OfConnector, Effect["Connected | SessionFailure"]):
    """Connect to an SMTP server and await its greeting.

    Attributes:
        address: IPv4 or IPv6 address.
        port: TCP port.
    """

    address: str
    port: int


@frozen
class Connected:
    """A connection with its greeting, whatever that says.

    Attributes:
        session: what stands for the connection in the effects that follow.
        greeting: the first reply.
        source: the address that it was made from, or None where that is not known.
    """

    session: Any = field(repr=False)
    greeting: Reply
    source: str | None = None


@frozen
class Ehlo(_OfConnector, Effect["Reply | SessionFailure"]):
    """Say EHLO or, where the delivery wants it, HELO (RFC 5321 section 3.2).

    An alert or the end of the connection in place of the reply to the first EHLO within TLS is a `Trouble.HANDSHAKE`:
    in TLS 1.3 the client is done before the server has judged what it sent (RFC 8446 section 4.4.2.4). That no reply
    comes in time is none.

    Attributes:
        session: the connection.
        helo: say HELO in place of EHLO. The reply bears no keywords: its lines but the first mean nothing.
    """

    session: Any = field(repr=False)
    helo: bool = False


@frozen
class StartTls(_OfConnector, Effect["Secured | Reply | SessionFailure"]):
    """Ask for STARTTLS and, after a 220 and nothing else, do the handshake (RFC 3207 sections 4 and 6).

    Any other reply is the result. Nothing is verified; the chain is handed over as presented.

    Attributes:
        session: the connection.
        sni: the name for the TLS server_name extension, or None to send none.
        level: what is demanded of the session, on which its TLS parameters depend.
    """

    session: Any = field(repr=False)
    sni: str | None
    level: TlsLevel


@frozen
class Secured:
    """A TLS session: the presented certificates as DER, leaf first, and what was negotiated."""

    chain: tuple[bytes, ...]
    protocol: str = ""
    cipher: str = ""


@frozen
class Transmit(_OfConnector, Effect["Transmitted"]):
    """Send a message to some of its recipients, in one transaction (RFC 5321 section 3.3).

    MAIL; one RCPT a recipient; DATA if at least one was accepted; the content. The transaction ends at the first reply
    that rules out the rest.

    Attributes:
        session: the connection.
        message: the message.
        recipients: those of its recipients that are left to try.
        requiretls: whether MAIL bears the parameter REQUIRETLS (RFC 8689 section 2).
    """

    session: Any = field(repr=False)
    message: Message
    recipients: tuple[str, ...]
    requiretls: bool = False

    def own_failure(self, why: OwnFailure, detail: str) -> Transmitted:
        """A failure of which nobody knows how far the transaction had come: the server may have the message."""
        return Transmitted(failure=SessionFailure(Trouble(why), detail), committed=True)


@frozen
class Transmitted:
    """How far a transaction came.

    Attributes:
        mail: the reply to MAIL; like the others None where it did not come to it.
        recipients: the replies to RCPT, in the order asked. Recipients that there is no reply for were not sent to.
        data: the reply to DATA.
        end: the reply to the message itself. With a `failure` it may be a refusal that came before the final dot.
        failure: what befell the connection.
        committed: the last octet of the message may have reached the server, and it has not answered.
    """

    mail: Reply | None = None
    recipients: tuple[Reply, ...] = ()
    data: Reply | None = None
    end: Reply | None = None
    failure: SessionFailure | None = None
    committed: bool = False


@frozen
class Close(_OfConnector, Effect[None]):
    """End a connection: with QUIT where the dialogue is whole (RFC 5321 section 4.1.1.10), else just so."""

    answers = (type(None),)
    is_timed = False

    session: Any = field(repr=False)

    def own_failure(self, why: OwnFailure, detail: str) -> None:
        """Nothing: the connection is of no more use."""


Connect.answers = Connected, SessionFailure
Ehlo.answers = Reply, SessionFailure
StartTls.answers = Secured, Reply, SessionFailure
Transmit.answers = (Transmitted,)
