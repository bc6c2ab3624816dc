r"""A message on its way: envelope, content, and what RFC 8689 lets its originator wish.

>>> message = Message("a@sender.example", ["b@client.example", "c@other.example"], b"Subject: hello\r\n\r\nhello\r\n")
>>> [(str(part.next_hop), part.recipients) for part in message.by_next_hop()]
[('client.example', ('b@client.example',)), ('other.example', ('c@other.example',))]
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import Attribute, Factory, evolve, field, frozen

from mailtlspolicy._validators import instance_of
from mailtlspolicy.plan.mx import Kind, NextHop

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATH = 254  # octets: RFC 5321 section 4.5.3.1.3 allows 256 with the angle brackets

# RFC 5321 section 4.1.2, without what could end a command or a path; only "postmaster" needs no domain, but a local
# host may take others. A local part in quotation marks may hold blanks, "@" and angle brackets.
_MAILBOX = re.compile(
    r"""(?:"(?:[ !#-\[\]-~]|\\[ -~])*"|[!#-;=?A-Z^-~]+)           # the local part
        (?:@(?P<domain>[A-Za-z0-9._-]+|\[[!-Z^-~]+\]))?\Z        # a domain or an address literal""",
    re.VERBOSE,
)


_LINE = re.compile(rb"[^\r\n]+")
MAX_HEADER = 256 * 1024  # octets in which a signature is looked for: signers put it on top, servers their fields above
# A header section in which some line begins the field, whatever ends the lines: they are sent as CRLF
_BEARS_SIGNATURE = re.compile(rb"(?:[^\r\n]+(?:\r\n|\r|\n))*?DKIM-Signature[ \t]*:", re.IGNORECASE)


def _recipients(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("recipients is a sequence of mailboxes, not one text")
    return tuple(value)


@frozen
class Message:
    """One message to one or more recipients.

    Attributes:
        sender: the reverse-path, a mailbox in ASCII; empty for a notification (RFC 5321 section 4.5.5).
        recipients: the forward-paths, mailboxes in ASCII, each once.
        content: the message as octets. Lines end in CRLF; a bare CR or LF is sent as CRLF. Beside that nothing is
            changed, which would break signatures (RFC 6376 section 5.3): a line longer than RFC 5321 section 4.5.3.1.6
            allows goes out as it is, and many servers refuse or break it; see `longest_line`.
        requiretls: TLS and authentication are required all along the way (RFC 8689 section 4.2.1).
        tls_report: it is a report of RFC 8460, delivered in spite of whatever TLS fails at, also where the operator is
            stricter (section 3), and not counted in the next one. Such a message bears a DKIM signature, which is
            not verified here; `tlsrpt.ReportMail.signed` makes them.
        tls_optional: the message bears "TLS-Required: No" (section 4.2.2); void beside `requiretls` (section 4.1). True
            of a report.

    Raises:
        ValueError: a mailbox is none, is too long or is given twice, there is no recipient, or a report requires TLS or
            bears no header field DKIM-Signature (RFC 8460 section 3).
        TypeError: a field is of another type; the text never holds the content.
    """

    sender: str = field()
    recipients: tuple[str, ...] = field(converter=_recipients)
    content: bytes = field(validator=instance_of(bytes), repr=False)
    requiretls: bool = field(default=False, validator=instance_of(bool), kw_only=True)
    tls_report: bool = field(default=False, validator=instance_of(bool), kw_only=True)
    tls_optional: bool = field(
        default=Factory(lambda self: self.tls_report, takes_self=True), validator=instance_of(bool), kw_only=True
    )

    @sender.validator
    def _check_sender(self, _: Attribute[str], value: str) -> None:
        if value != "":  # None is no reverse-path
            check_mailbox(value)

    @recipients.validator
    def _check_recipients(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for recipient in value:
            check_mailbox(recipient)
            _next_hop(recipient)
        if not value or len(set(value)) != len(value):
            raise ValueError("a message has at least one recipient, and each once")

    def __attrs_post_init__(self) -> None:
        if self.tls_report and (self.requiretls or not self.tls_optional):
            raise ValueError("a TLS report is delivered without TLS too (RFC 8460 section 3)")
        if self.tls_report and _BEARS_SIGNATURE.match(self.content[:MAX_HEADER]) is None:
            raise ValueError("a TLS report bears a DKIM signature (RFC 8460 section 3): see tlsrpt.ReportMail.signed")

    @property
    def next_hop(self) -> NextHop:
        """The domain or address literal that all recipients have in common.

        Raises:
            ValueError: they have several, or one of them has none.
        """
        found = {_next_hop(recipient) for recipient in self.recipients}
        common = found.pop()
        if found or common is None:
            raise ValueError("the recipients do not have one domain in common")
        return common

    @property
    def longest_line(self) -> int:
        """Octets of the longest line without its line end, of which RFC 5321 section 4.5.3.1.6 allows 998."""
        return max((match.end() - match.start() for match in _LINE.finditer(self.content)), default=0)

    def by_next_hop(self) -> tuple[Message, ...]:
        """The message once for each domain of its recipients, in the order in which they first come.

        Raises:
            ValueError: a recipient has no domain.
        """
        groups: dict[NextHop, list[str]] = {}
        for recipient in self.recipients:
            route = _next_hop(recipient)
            if route is None:
                raise ValueError(f"the recipient {recipient!r} has no domain")
            groups.setdefault(route, []).append(recipient)
        return tuple(evolve(self, recipients=recipients) for recipients in groups.values())


def _next_hop(mailbox: str) -> NextHop | None:
    """The domain or address literal of a mailbox; None where it has none.

    Who writes a mailbox does not choose a relay: that is for the operator.
    """
    match = _MAILBOX.match(mailbox)
    assert match is not None
    if match["domain"] is None:
        return None
    route = NextHop.parse(match["domain"])
    if route.kind not in {Kind.DOMAIN, Kind.LITERAL}:
        raise ValueError(f"{mailbox[:80]!r} is not at a domain or an address literal (RFC 5321 section 4.1.2)")
    return route


def check_mailbox(text: str) -> None:
    """Raise `ValueError` where a text is no mailbox to send to (RFC 5321 section 4.1.2)."""
    if not isinstance(text, str):
        raise TypeError(f"a mailbox is a str, not {type(text).__name__}")
    if not _MAILBOX.match(text):
        raise ValueError(f"{text[:80]!r} is not a mailbox in ASCII (RFC 5321 section 4.1.2)")
    if len(text) > MAX_PATH:
        raise ValueError(f"the mailbox {text[:80]!r}... is longer than {MAX_PATH} octets")
