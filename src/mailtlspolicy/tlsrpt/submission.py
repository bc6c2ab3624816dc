"""Sending reports: the mail, the HTTPS request, and when to send, as values. RFC 8460 sections 3, 4.1 and 5.

Nothing is sent or signed here. A mail becomes a `Message`, for `Engine.deliver`, by its DKIM signature and in no other
way (section 3), and then goes out whatever TLS it finds (section 5.3.1).
"""

from __future__ import annotations

import hashlib
import re
from datetime import date, datetime, time, timedelta, timezone
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from mailtlspolicy._times import in_utc, later
from mailtlspolicy.delivery.message import Message
from mailtlspolicy.tlsrpt.values import addr_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from mailtlspolicy.tlsrpt.report import Report

GZIP, JSON = "tlsrpt+gzip", "tlsrpt+json"  # of the type application (RFC 8460 sections 6.4 and 6.5)
ACCEPTED = range(200, 300)  # 200 and 201 are typical (section 5.4)

MIN_DELAY, MAX_DELAY = 1, 14_400  # seconds (section 4.1)
FIRST_RETRY = timedelta(minutes=15)  # doubled each time (section 5.5)
MAX_DOUBLINGS = 7  # after which it is longer than 24 hours
MAX_AGE = timedelta(hours=24)  # section 5.5: redelivery for up to 24 hours after the first attempt

_SIGNED_HEADERS = (
    "From",
    "To",
    "Date",
    "Subject",
    "Message-ID",
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
    "TLS-Required",
    "MIME-Version",
    "Content-Type",
)
_REQUIRED_SIGNED = {"from", "tls-report-domain", "tls-report-submitter"}  # RFC 6376 section 5.4, RFC 8460 section 5.3
_SIGNATURE = re.compile(rb"DKIM-Signature[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)(?:\r?\n)?\Z", re.IGNORECASE)


@frozen
class ReportMail:
    """A report as mail, which lacks nothing but its signature (RFC 8460 section 5.3).

    Attributes:
        content: the message as octets, in ASCII, with lines that end in CRLF.
        sender: its reverse-path and the mailbox in From.
        recipient: the mailbox that the record names.
        dkim_domain: the domain that has to sign it, the submitter ("d=").
        dkim_headers: the header fields that the signature should cover ("h=").
    """

    content: bytes = field(repr=False)
    sender: str
    recipient: str
    dkim_domain: str
    dkim_headers: tuple[str, ...] = _SIGNED_HEADERS

    @classmethod
    def of(
        cls, report: Report, recipient: str, *, now: datetime, sender: str | None = None, compressed: bool = True
    ) -> ReportMail:
        """Write the mail that takes a report to a mailbox.

        Args:
            report: the report, as `Report.of` made it.
            recipient: the target of a `mailto:` destination.
            now: its date, aware.
            sender: the mailbox that it comes from; by default the contact of the report.
            compressed: in gzip, as section 5.2 wants it.

        Raises:
            ValueError: a mailbox is none, `now` is naive, or the report was not made here.
        """
        if report.contact_info is None or report.report_id is None or report.domain is None:
            raise ValueError("the report lacks what a mail says of it")
        sender = report.contact_info if sender is None else sender
        addresses = [f"{local_part}@{domain}" for local_part, domain in map(addr_spec, (sender, recipient))]
        now, name = in_utc(now), report.file_name(compressed=compressed)
        octets = report.compressed() if compressed else report.to_bytes()
        subject = f"Report Domain: {report.domain} Submitter: {report.submitter} Report-ID: <{report.report_id}>"
        digest = hashlib.sha256(f"{name} {addresses} {now}".encode() + octets).hexdigest()[:32]
        mail = MIMEMultipart("report", f"=_{digest}", report_type="tlsrpt", policy=compat32.clone(linesep="\r\n"))
        for field_name, value in (
            ("From", addresses[0]),
            ("To", addresses[1]),
            ("Date", format_datetime(now)),
            ("Subject", subject),
            ("Message-ID", f"<{digest}@{report.submitter}>"),
            ("TLS-Report-Domain", report.domain),
            ("TLS-Report-Submitter", report.submitter),
            ("TLS-Required", "No"),  # for the servers on its way (RFC 8689 section 3)
            ("Auto-Submitted", "auto-generated"),  # RFC 3834 section 5
        ):
            mail[field_name] = value
        text = f"This is an aggregate TLS report from {report.organization_name}, about {report.domain}.\n"
        mail.attach(MIMEText(text))
        part = MIMEApplication(octets, GZIP if compressed else JSON)
        part.add_header("Content-Disposition", "attachment", filename=name)
        mail.attach(part)
        return cls(mail.as_bytes(), addresses[0], addresses[1], report.submitter)

    def signed(self, signature: bytes) -> Message:
        """The mail as a message, with its signature.

        Args:
            signature: the header field DKIM-Signature, its name included, that a DKIM library made of `content`.

        Returns:
            A message that may go out in cleartext, whatever the recipient's policies say (RFC 8460 section 5.3.1), and
            that no report counts (section 3).

        Raises:
            ValueError: the field is none or lacks the signature, is not of the submitter's domain, covers a part of the
                body only ("l=", section 3), or leaves out From or the header fields of section 5.3.
        """
        tags = _tags(signature)
        if not all(tags.get(name) for name in ("a", "b", "bh", "s")):
            raise ValueError("the field lacks what makes it a signature (RFC 6376 section 3.5)")
        if tags.get("d", "").lower() != self.dkim_domain:
            raise ValueError(f"a report is signed by the domain of its submitter, {self.dkim_domain}")
        if "l" in tags:
            raise ValueError("the signature of a report covers the whole body: no tag l= (RFC 8460 section 3)")
        if missing := _REQUIRED_SIGNED - {name.strip().lower() for name in tags.get("h", "").split(":")}:
            raise ValueError(f"the signature does not cover {', '.join(sorted(missing))}")
        content = signature.rstrip(b"\r\n") + b"\r\n" + self.content
        return Message(self.sender, [self.recipient], content, tls_report=True)


@frozen
class ReportPost:
    """A report as an HTTPS request, whose method is POST (RFC 8460 section 5.4).

    Certificates of the server may go unchecked (section 3); the scheme is never anything but https.

    Attributes:
        url: the URL as the record has it, with path and query.
        headers: the header fields that it needs. The body is in gzip by its type, not by a Content-Encoding.
        body: the report.
    """

    url: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, report: Report, url: str, *, compressed: bool = True) -> ReportPost:
        """Write the request that takes a report to the target of an `https:` destination."""
        body, subtype = (report.compressed(), GZIP) if compressed else (report.to_bytes(), JSON)
        return cls(url, {"Content-Type": f"application/{subtype}"}, body)

    @staticmethod
    def accepted(status: int) -> bool:
        """Whether an HTTP status says that the report was taken: 2xx. A redirect is not followed."""
        return status in ACCEPTED


def first_try(day: date, randint: Callable[[int, int], int]) -> datetime:
    """When to send the report of a day: after its end, with a delay of up to four hours (RFC 8460 section 4.1).

    Args:
        day: the day in UTC.
        randint: returns a random number between two, both included, as `random.randint` does.
    """
    end = datetime.combine(day, time(), timezone.utc) + timedelta(days=1)
    return end + timedelta(seconds=randint(MIN_DELAY, MAX_DELAY))


def _uris(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("destinations is a sequence of URIs, not one text")
    return tuple(value)


@frozen
class Submission:
    """How far the sending of one report has come (RFC 8460 sections 3 and 5.5).

    Each try goes to every destination. The report is delivered once one of them has accepted it.

    Attributes:
        destinations: the URIs to try.
        first: when the first try was, in UTC.
        tries: how many there were.
        accepted: the destinations that have it.
        next: when the next try is due, in UTC; None before the first, and where none follows.
    """

    destinations: tuple[str, ...] = field(converter=_uris)
    first: datetime | None = None
    tries: int = 0
    accepted: tuple[str, ...] = ()
    next: datetime | None = None

    @property
    def delivered(self) -> bool:
        """Whether at least one destination has accepted the report."""
        return bool(self.accepted)

    @property
    def given_up(self) -> bool:
        """Whether none has, and no try follows; also where there is no destination."""
        return not self.delivered and (not self.destinations or (self.tries > 0 and self.next is None))

    def after(self, now: datetime, accepted: Collection[str] = ()) -> Submission:
        """What stands after a try; what is delivered stays so.

        Args:
            now: when the try was, aware.
            accepted: the destinations that accepted the report.

        Raises:
            ValueError: `now` is naive, or a destination is none of this report's.
        """
        if unknown := set(accepted) - set(self.destinations):
            raise ValueError(f"{min(unknown)!r} is no destination of this report")
        now = in_utc(now)
        first, tries = self.first or now, self.tries + 1
        taken = tuple(uri for uri in self.destinations if uri in accepted or uri in self.accepted)
        last = later(first, MAX_AGE)
        due = None
        if not taken and self.destinations and now < last:
            due = min(later(now, FIRST_RETRY * 2 ** min(tries - 1, MAX_DOUBLINGS)), last)
        return evolve(self, first=first, tries=tries, accepted=taken, next=due)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with "delivered" and "given_up" for those who do not count themselves."""
        return {
            "destinations": list(self.destinations),
            "first": None if self.first is None else self.first.isoformat(),
            "tries": self.tries,
            "accepted": list(self.accepted),
            "next": None if self.next is None else self.next.isoformat(),
            "delivered": self.delivered,
            "given_up": self.given_up,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Submission:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        first, due = data["first"], data["next"]
        return cls(
            destinations=data["destinations"],
            first=None if first is None else datetime.fromisoformat(first),
            tries=data["tries"],
            accepted=tuple(data["accepted"]),
            next=None if due is None else datetime.fromisoformat(due),
        )


def _tags(signature: bytes) -> dict[str, str]:
    """The tags of a DKIM-Signature field (RFC 6376 section 3.2)."""
    match = _SIGNATURE.match(signature)
    if match is None:
        raise ValueError("the signature is no header field DKIM-Signature")
    tags: dict[str, str] = {}
    for part in match[1].decode("ascii", "replace").rstrip("; \t\r\n").split(";"):
        name, equals, value = part.partition("=")
        if not equals or name.strip() in tags:
            raise ValueError("the signature is no list of tags (RFC 6376 section 3.2)")
        tags[name.strip()] = "".join(value.split())
    return tags
