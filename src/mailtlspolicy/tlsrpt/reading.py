"""Reading reports, anybody's: RFC 8460 sections 4.4 (the document), 5.1 (its name), 5.2 (gzip) and 5.3 (mail).

What can be understood is taken, and what was odd about it is remarked. Nothing in a report is believed or evaluated
(section 7), nothing here raises for what it holds, and every bound is a constant.

Readings:

- The document is JSON in UTF-8. NaN and infinities are no JSON, and what nests deeper than Python reads is refused. Of
  members with the same name the last one counts.
- A count is an integer from 0 to 2^53-1 as I-JSON has them; 303.0 is none.
- Only these members are missed: organization-name, contact-info, report-id, both times; policy-type, policy-domain,
  both totals; result-type and its count. A reporter may have nothing to say in the others (appendix B lacks some too).
- A time is RFC 3339 to the letter but for its zone. A leap second is read as the second before it.
- In file names and subjects domains are those of RFC 5321 (no underscore), in A-labels. An id in a subject is no
  obsolete form.

>>> received = read_report(b'{"organization-name": "Company-X", "policies": []}')
>>> received.report.organization_name, [str(remark) for remark in received.remarks]
('Company-X', ['member-missing'])
>>> parse_file_name("sender.example!client.example!1767225600!1767311999!001.json.gz").unique_id
'001'
"""

from __future__ import annotations

import ipaddress
import json
import re
import zlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from mailtlspolicy._times import in_utc
from mailtlspolicy._words import Word
from mailtlspolicy.names import canonical
from mailtlspolicy.tlsrpt.mime import (
    MAX_HEADER,
    content,
    decoded_words,
    field_text,
    file_name,
    leaves,
    parameter,
    split,
)
from mailtlspolicy.tlsrpt.report import Report
from mailtlspolicy.tlsrpt.values import (
    DOT_ATOM,
    MAX_COUNT,
    FailureDetails,
    PolicyReport,
    PolicyType,
    ReportedPolicy,
    addr_spec,
    i_json,
)
from mailtlspolicy.verdict import ResultType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from email.message import Message

MAX_REPORT = 10 * 2**20  # octets, before and after decompression: the limit of receivers in RFC 8460 section 5.2
MAX_MAIL = 16 * 2**20  # octets: a report of MAX_REPORT in base64 has 13.7 MiB; the rest is header fields and text
MAX_ELEMENTS = 30_000  # of all arrays, and objects, of one report: 350 octets each in MAX_REPORT, as a failure has
# Of one report: each may take 150 octets of memory, however few it has in the document. A failure has eight members,
# and is a value itself, so our own largest report has no more (`aggregate.ELEMENT_OCTETS`).
MAX_VALUES = 9 * MAX_ELEMENTS
MAX_MEMBERS = 1000  # of one object; RFC 8460 section 4.4 has seven at most
MAX_SPELLINGS = 100  # of the domain that one report is about: U-labels take Python a quarter of a millisecond
MAX_TEXT = 2 * MAX_REPORT  # octets of memory: one character beyond U+FFFF makes Python take four for each
MAX_ADDRESS = 45  # characters of an IPv6 address that ends in an IPv4 address
_SPAN = 2**18  # octets looked through at once: strings are taken out by way of a list of what is between them
_BLOCK = 4096  # octets given to zlib at once: what is left after a gzip member is copied, and members can be tiny

_GZIP = b"\x1f\x8b"  # RFC 8460 section 6.5
_BYTE_ORDER_MARK = "\ufeff"
_STRING = re.compile(rb'"[^"]*"')
_ASTRAL, _BEYOND_LATIN_1 = re.compile(rb"[\xf0-\xff]"), re.compile(rb"[\xc4-\xff]")
_TLSRPT_TYPES = {True: "application/tlsrpt+gzip", False: "application/tlsrpt+json"}
_OTHER_TYPES = {"application/gzip", "application/x-gzip", "application/json"}
_POLICY_TYPES, _RESULT_TYPES = frozenset(PolicyType), frozenset(ResultType)
_NEED_REASON = {ResultType.CERTIFICATE_NOT_TRUSTED, ResultType.VALIDATION_FAILURE}  # RFC 8460 section 4.3.1

_DIGITS = re.compile(r"0*([0-9]{1,16})\Z")  # of a count or a time: 2^53-1 has sixteen
_DATE_TIME = re.compile(  # RFC 3339 section 5.6
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?P<zone>[Zz]|[+-]([0-9]{2}):([0-9]{2}))?\Z"
)
_PCHAR = r"A-Za-z0-9._~!$&'()*+,;=:@%/-"
_URI = re.compile(  # RFC 3986 appendix A; what is in the brackets of a host is not looked at
    rf"[A-Za-z][A-Za-z0-9+.-]*:(?://(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?\[[0-9A-Fa-fv.:]+\](?=[:/?#]|\Z))?"
    rf"[{_PCHAR}]*(?:\?[?{_PCHAR}]*)?(?:#[?{_PCHAR}]*)?\Z"
)
_PLAIN_NAME = re.compile(  # most of those that `names.canonical` takes, in a tenth of the time
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z][A-Za-z0-9]{0,62}\Z"
)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FILE_NAME = re.compile(
    r"([^!]+)!([^!]+)!([0-9]+)!([0-9]+)(?:!([A-Za-z0-9]+))?\.(json(?:\.gz)?)\Z", re.IGNORECASE | re.ASCII
)
_SUBJECT = re.compile(
    r"Report[ \t]+Domain:[ \t]+([^ \t]+)[ \t]+Submitter:[ \t]+([^ \t]+)[ \t]+"
    rf"Report-ID:[ \t]+<({DOT_ATOM}@(?:{DOT_ATOM}|\[[!-Z^-~]*\]))>(.*)\Z",
    re.DOTALL,
)
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_HEADER_FIELD = re.compile(rb"(?:From |[!-9;-~]+[ \t]*:)")  # RFC 5322 section 2.2, or the first line of an mbox


class UnreadableReason(Word):
    """Why nothing can be made of octets."""

    TOO_LARGE = "too-large"
    NOT_GZIP = "not-gzip"
    NOT_JSON = "not-json"
    NOT_A_REPORT = "not-a-report"
    NO_REPORT = "no-report"


@frozen
class Unreadable:
    """Octets of which no report can be made.

    Attributes:
        reason: beyond a bound; broken gzip; no JSON; JSON, but no object with policies; a mail without a report.
    """

    reason: UnreadableReason

    def __str__(self) -> str:
        return str(self.reason)

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"unreadable"}."""
        return {"unreadable": self.reason}


class RemarkKind(Word):
    """What is odd about a report that was read, or about the mail that brought it."""

    BYTE_ORDER_MARK = "byte-order-mark"
    DUPLICATE_MEMBER = "duplicate-member"
    MEMBER_MISSING = "member-missing"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_POLICY_TYPE = "unknown-policy-type"
    UNKNOWN_RESULT_TYPE = "unknown-result-type"
    POLICIES_NOT_ARRAY = "policies-not-array"
    SINGLE_VALUE = "single-value"
    COUNT_AS_TEXT = "count-as-text"
    NOT_A_DOMAIN = "not-a-domain"
    NOT_AN_ADDRESS = "not-an-address"
    TIME_WITHOUT_ZONE = "time-without-zone"
    BAD_CONTACT_INFO = "bad-contact-info"
    NO_REASON = "no-reason"
    BAD_URI = "bad-uri"
    ZERO_COUNT = "zero-count"
    HEADER_MISSING = "header-missing"
    SUBMITTER_DIFFERS = "submitter-differs"
    DOMAIN_DIFFERS = "domain-differs"
    REPORT_ID_DIFFERS = "report-id-differs"
    FILE_NAME_MALFORMED = "file-name-malformed"
    EXTENSION_DIFFERS = "extension-differs"
    MEDIA_TYPE_DIFFERS = "media-type-differs"
    TIMES_DIFFER = "times-differ"
    SUBJECT_MALFORMED = "subject-malformed"
    NOT_TLSRPT = "not-tlsrpt"


def _ordered(remarks: Iterable[RemarkKind]) -> tuple[RemarkKind, ...]:
    return tuple(sorted(set(remarks), key=str))


@frozen
class FileName:
    """What the name of a report's file says (RFC 8460 section 5.1).

    Attributes:
        sender: the domain of the contact.
        policy_domain: the domain that the report is for.
        begin: when the period begins, in seconds since 1970.
        end: when it ends.
        unique_id: tells reports of the same domain and period apart.
        extension: "json", or "json.gz" for gzip.
    """

    sender: str
    policy_domain: str
    begin: int
    end: int
    unique_id: str | None
    extension: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"sender", "policy_domain", "begin", "end", "unique_id", "extension"}."""
        return {
            "sender": self.sender,
            "policy_domain": self.policy_domain,
            "begin": self.begin,
            "end": self.end,
            "unique_id": self.unique_id,
            "extension": self.extension,
        }


@frozen
class Subject:
    """What the Subject of a report mail says (RFC 8460 section 5.3).

    Attributes:
        domain: the domain that the report is for.
        submitter: the domain that sent it.
        report_id: its id, without the angle brackets.
    """

    domain: str
    submitter: str
    report_id: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"domain", "submitter", "report_id"}."""
        return {"domain": self.domain, "submitter": self.submitter, "report_id": self.report_id}


@frozen
class Received:
    """A report that was read.

    Attributes:
        report: the report; what it lacks is None.
        remarks: what is odd about it, each once, in alphabetical order.
        compressed: whether it came in gzip.
    """

    report: Report
    remarks: tuple[RemarkKind, ...]
    compressed: bool = field(default=False, eq=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"report", "remarks"}."""
        return {"report": self.report.to_json(), "remarks": list(self.remarks)}

    def named(self, text: str) -> Received:
        """The same, out of a file of this name, which says the domain where it has the form of section 5.1.

        What the name says otherwise than the content is remarked; the content counts (RFC 8460 section 5.6).
        """
        name = parse_file_name(text)
        if name is None:
            return self
        remarks = {*self.remarks, *self.name_remarks(name)}
        domains = [self.report.domain, name.policy_domain]
        if len({*domains} - {None}) > 1:
            remarks.add(RemarkKind.DOMAIN_DIFFERS)
        return evolve(self, report=evolve(self.report, domain=_first(domains)), remarks=_ordered(remarks))

    @property
    def contact_domain(self) -> str | None:
        """The domain of the contact, if there is one."""
        contact_info = self.report.contact_info or ""
        return addr_spec(contact_info)[1] if _is_addr_spec(contact_info) else None

    def name_remarks(self, name: FileName) -> Iterator[RemarkKind]:
        """What a file name says otherwise than the content."""
        if self.contact_domain not in {None, name.sender}:
            yield RemarkKind.SUBMITTER_DIFFERS
        if name.extension != ("json.gz" if self.compressed else "json"):
            yield RemarkKind.EXTENSION_DIFFERS
        period = ((self.report.start, name.begin), (self.report.end, name.end))
        if any(time is not None and int(time.timestamp()) != seconds for time, seconds in period):
            yield RemarkKind.TIMES_DIFFER


@frozen
class ReceivedMail:
    """A report that was read out of a mail. Whether to believe it is a matter of its DKIM signature (section 3).

    Attributes:
        report: the report; its `domain` is that of its policies, else of the header field, of the file name, of the
            subject.
        remarks: what is odd about the report and the mail, each once, in alphabetical order.
        submitter: the domain of the contact, else of the header field, else of the file name, else of the subject.
        subject: what the Subject says; None where it has another form.
        file_name: what the name of the part says; None where it has none, or one of another form.
    """

    report: Report
    remarks: tuple[RemarkKind, ...]
    submitter: str | None = None
    subject: Subject | None = None
    file_name: FileName | None = None

    @property
    def domain(self) -> str | None:
        """The policy domain that the report is for."""
        return self.report.domain

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"report", "domain", "submitter", "subject", "file_name", "remarks"}."""
        return {
            "report": self.report.to_json(),
            "domain": self.domain,
            "submitter": self.submitter,
            "subject": None if self.subject is None else self.subject.to_json(),
            "file_name": None if self.file_name is None else self.file_name.to_json(),
            "remarks": list(self.remarks),
        }


# names


def parse_file_name(text: str) -> FileName | None:
    """Read the name of a report's file, without a folder; None where it has another form (RFC 8460 section 5.1)."""
    match = _FILE_NAME.match(text)
    if match is None:
        return None
    sender, policy_domain = _domain(match[1]), _domain(match[2])
    begin, end = _integer(match[3]), _integer(match[4])
    if sender is None or policy_domain is None or begin is None or end is None or end < begin:
        return None
    return FileName(sender, policy_domain, begin, end, match[5], match[6].lower())


def parse_subject(text: str) -> Subject | None:
    """Read the Subject of a report mail, folded or not; None where it has another form (RFC 8460 section 5.3)."""
    match = _SUBJECT.match(_FOLD.sub("", text))
    if match is None or not _is_cfws(match[4]):
        return None
    domain, submitter = _domain(match[1]), _domain(match[2])
    if domain is None or submitter is None or "." not in domain or "." not in submitter:  # RFC 6376 section 3.5
        return None
    return Subject(domain, submitter, match[3])


def _domain(text: str) -> str | None:
    """A domain by the grammar of RFC 5321, in A-labels."""
    if not text.isascii() or "_" in text or text.endswith("."):
        return None
    return _canonical(text)


def _canonical(text: str) -> str | None:
    try:
        return canonical(text)
    except ValueError:
        return None


def _integer(digits: str) -> int | None:
    match = _DIGITS.match(digits)
    return None if match is None or int(match[1]) > MAX_COUNT else int(match[1])


def _is_cfws(text: str) -> bool:
    """Whether a text is nothing but blanks and comments (RFC 5322 section 3.2.2)."""
    depth, quoted = 0, False
    for character in text:
        if character not in " \t" and not "!" <= character <= "~":
            return False
        if quoted:
            quoted = False
        elif character == "(":
            depth += 1
        elif depth == 0:
            if character not in " \t":
                return False
        elif character == ")":
            depth -= 1
        else:
            quoted = character == "\\"
    return depth == 0


# the document


class _TooLargeError(Exception):
    """A bound is exceeded."""


def read_report(octets: bytes | bytearray) -> Received | Unreadable:
    """Read a report, or gzip of one; which of them decides its first octets (RFC 8460 section 6.5)."""
    if len(octets) > MAX_REPORT:
        return Unreadable(UnreadableReason.TOO_LARGE)
    compressed = octets.startswith(_GZIP)
    reader = _Reader()
    try:
        reader.parse(reader.text(_decompressed(octets) if compressed else octets))
    except zlib.error:
        return Unreadable(UnreadableReason.NOT_GZIP)
    except _TooLargeError:
        return Unreadable(UnreadableReason.TOO_LARGE)
    except (ValueError, RecursionError):
        return Unreadable(UnreadableReason.NOT_JSON)
    try:
        report = reader.report()
    except _TooLargeError:
        return Unreadable(UnreadableReason.TOO_LARGE)
    if report is None:
        return Unreadable(UnreadableReason.NOT_A_REPORT)
    return Received(report, _ordered(reader.remarks), compressed)


def _decompressed(octets: bytes | bytearray) -> bytearray:
    """All members of a gzip file (RFC 1952 section 2.2), and zeros behind the last one, as tapes had them."""
    found, member, begun = bytearray(), None, False
    for start in range(0, len(octets), _BLOCK):
        rest = octets[start : start + _BLOCK]
        while rest:
            if member is None:
                rest = rest.lstrip(b"\0") if begun else rest
                if not rest:
                    break
                member, begun = zlib.decompressobj(zlib.MAX_WBITS | 16), True
            found += member.decompress(rest, MAX_REPORT + 1 - len(found))
            if len(found) > MAX_REPORT:
                raise _TooLargeError
            rest = member.unused_data
            if member.eof:
                member = None
    if member is not None:
        raise zlib.error("the last member is cut short")
    return found


def _require_bounded(document: bytes | bytearray) -> None:
    """Raise `_TooLargeError` where to parse a document would take more memory than its octets suggest.

    A value follows a comma or begins an array or object, so those outside of strings are counted; of what is no JSON
    it does not matter.
    """
    width = 4 if _ASTRAL.search(document) else 2 if _BEYOND_LATIN_1.search(document) else 1
    if width * len(document) > MAX_TEXT:
        raise _TooLargeError
    bare = document
    if b"\\" in bare:  # an escaped quotation mark ends no string
        bare = bare.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * MAX_VALUES:  # values and names of members, two each
        raise _TooLargeError
    values, rest = 0, b""
    for start in range(0, len(bare), _SPAN):
        piece = rest + bare[start : start + _SPAN]
        end = piece.rindex(b'"') if piece.count(b'"') % 2 else len(piece)  # a string may go on in the next one
        outside = _STRING.sub(b"", piece[:end])
        values += sum(map(outside.count, (b",", b"[", b"{")))
        if values > MAX_VALUES:
            raise _TooLargeError
        rest = piece[end:]


class _Reader:
    """Takes a document apart, and notes what is odd about it."""

    def __init__(self) -> None:
        self.remarks: set[RemarkKind] = set()
        self._elements = self._objects_seen = 0
        self._data: Any = None

    def text(self, document: bytes | bytearray) -> str:
        """The text of a document; one that is beyond the bounds is not parsed."""
        _require_bounded(document)
        text = document.decode()
        if text.startswith(_BYTE_ORDER_MARK):  # RFC 8259 section 8.1 lets a reader ignore it
            self.remarks.add(RemarkKind.BYTE_ORDER_MARK)
        return text.removeprefix(_BYTE_ORDER_MARK)

    def parse(self, text: str) -> None:
        """Take a document in; a function of its own, so that the octets are gone by then, and the text after it."""
        self._data = json.loads(
            text,
            object_pairs_hook=self._object,
            parse_int=_count,
            parse_constant=_no_json,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._objects_seen += 1
        if self._objects_seen > MAX_ELEMENTS or len(pairs) > MAX_MEMBERS:
            raise _TooLargeError
        members = dict(pairs)
        if len(members) != len(pairs):  # RFC 7493 section 2.3
            self.remarks.add(RemarkKind.DUPLICATE_MEMBER)
        return members

    def report(self) -> Report | None:
        """The report; None where the document is no object with policies."""
        data = self._data
        policies = data.get("policies") if isinstance(data, dict) else None
        if isinstance(policies, dict):
            self.remarks.add(RemarkKind.POLICIES_NOT_ARRAY)
            policies = [policies]
        if not isinstance(policies, list):
            return None
        period = self._members(data, "date-range")
        contact_info = self._text(data, "contact-info", required=True)
        if contact_info is not None and not _is_addr_spec(contact_info):
            self.remarks.add(RemarkKind.BAD_CONTACT_INFO)
        reported = tuple(map(self._policy, self._objects(policies)))
        return Report(
            organization_name=self._text(data, "organization-name", required=True),
            contact_info=contact_info,
            report_id=self._text(data, "report-id", required=True),
            start=self._time(period, "start-datetime"),
            end=self._time(period, "end-datetime"),
            policies=reported,
            domain=_domain_of(reported),
        )

    def _policy(self, data: dict[str, Any]) -> PolicyReport:
        policy, summary = self._members(data, "policy"), self._members(data, "summary")
        kind = self._text(policy, "policy-type", required=True)
        if kind is not None and kind not in _POLICY_TYPES:
            self.remarks.add(RemarkKind.UNKNOWN_POLICY_TYPE)
        domain = self._text(policy, "policy-domain", required=True)
        mx_host = self._texts(policy, "mx-host")
        self._check_domains(() if domain is None else (domain,))
        self._check_domains(pattern.removeprefix("*.") for pattern in mx_host)
        return PolicyReport(
            ReportedPolicy(
                PolicyType(kind) if kind in _POLICY_TYPES else kind,
                domain,
                self._texts(policy, "policy-string"),
                mx_host,
            ),
            self._number(summary, "total-successful-session-count"),
            self._number(summary, "total-failure-session-count"),
            tuple(map(self._failure, self._objects(self._list(data, "failure-details")))),
        )

    def _failure(self, data: dict[str, Any]) -> tuple[FailureDetails, int | None]:
        result_type = self._text(data, "result-type", required=True)
        reason = self._text(data, "failure-reason-code")
        if result_type is not None and result_type not in _RESULT_TYPES:
            self.remarks.add(RemarkKind.UNKNOWN_RESULT_TYPE)
        if result_type in _NEED_REASON and not (reason or "").strip():
            self.remarks.add(RemarkKind.NO_REASON)
        uri = self._text(data, "additional-information")
        if uri is not None and (_URI.match(uri) is None or _BAD_PERCENT.search(uri) is not None):
            self.remarks.add(RemarkKind.BAD_URI)
        count = self._number(data, "failed-session-count")
        if count == 0:
            self.remarks.add(RemarkKind.ZERO_COUNT)
        details = FailureDetails(
            result_type=result_type,
            sending_mta_ip=self._address(data, "sending-mta-ip"),
            receiving_mx_hostname=self._text(data, "receiving-mx-hostname"),
            receiving_mx_helo=self._text(data, "receiving-mx-helo"),
            receiving_ip=self._address(data, "receiving-ip"),
            additional_information=uri,
            failure_reason_code=reason,
        )
        return details, count

    # members; None and not there are the same

    def _get(self, members: dict[str, Any], name: str, kind: type, *, required: bool = False) -> Any:
        """A member of this type, or None."""
        value = members.get(name)
        if value is None:
            if required:
                self.remarks.add(RemarkKind.MEMBER_MISSING)
            return None
        if not isinstance(value, kind) or isinstance(value, bool):
            self.remarks.add(RemarkKind.WRONG_TYPE)
            return None
        return value

    def _members(self, members: dict[str, Any], name: str) -> dict[str, Any]:
        return self._get(members, name, dict, required=True) or {}

    def _list(self, members: dict[str, Any], name: str) -> list[Any]:
        return self._get(members, name, list) or []

    def _text(self, members: dict[str, Any], name: str, *, required: bool = False) -> str | None:
        text = self._get(members, name, str, required=required)
        return None if text is None else i_json(text)

    def _texts(self, members: dict[str, Any], name: str) -> tuple[str, ...]:
        if isinstance(members.get(name), str):
            self.remarks.add(RemarkKind.SINGLE_VALUE)
            return (members[name],)
        return tuple(self._elements_of(self._list(members, name), str))

    def _objects(self, elements: list[Any]) -> Iterator[dict[str, Any]]:
        return self._elements_of(elements, dict)

    def _elements_of(self, elements: list[Any], kind: type) -> Iterator[Any]:
        """The elements that are of this type."""
        self._elements += len(elements)
        if self._elements > MAX_ELEMENTS:
            raise _TooLargeError
        for element in elements:
            if isinstance(element, kind):
                yield element
            else:
                self.remarks.add(RemarkKind.WRONG_TYPE)

    def _number(self, members: dict[str, Any], name: str) -> int | None:
        value = members.get(name)
        if isinstance(value, str) and (count := _integer(value)) is not None:
            self.remarks.add(RemarkKind.COUNT_AS_TEXT)
            return count
        number: int | None = self._get(members, name, int, required=True)
        return number

    def _time(self, members: dict[str, Any], name: str) -> datetime | None:
        text = self._text(members, name, required=True)
        if text is None:
            return None
        match = _DATE_TIME.match(text)
        try:
            time = None if match is None else _time(match)
        except ValueError:
            time = None
        if match is None or time is None:
            self.remarks.add(RemarkKind.WRONG_TYPE)
        elif match["zone"] is None:
            self.remarks.add(RemarkKind.TIME_WITHOUT_ZONE)
        return time

    def _address(self, members: dict[str, Any], name: str) -> str | None:
        text = self._text(members, name)
        if text is not None and not _is_address(text):
            self.remarks.add(RemarkKind.NOT_AN_ADDRESS)
        return text

    def _check_domains(self, names: Iterable[str]) -> None:
        if not all(_PLAIN_NAME.match(name) or (name.isascii() and _canonical(name)) for name in names):
            self.remarks.add(RemarkKind.NOT_A_DOMAIN)


def _domain_of(policies: Iterable[PolicyReport]) -> str | None:
    """The domain that the content is about: of all policies but TLSA, which are of their base domain (section 1.1)."""
    others = (part.policy for part in policies if part.policy.type in {PolicyType.STS, PolicyType.NO_POLICY_FOUND})
    spellings = {policy.domain or "" for policy in others}
    domains = set(map(_canonical, spellings)) if len(spellings) <= MAX_SPELLINGS else set()
    return domains.pop() if len(domains) == 1 else None


def _first(texts: Iterable[str | None]) -> str | None:
    """The first that is there."""
    return next(filter(None, texts), None)


def _count(digits: str) -> float:
    """A number in JSON without a fraction: an integer where it can be a count, else something that can not.

    A long text of digits is not made a number at all, which takes Python time in the square of its length.
    """
    number = 0 if digits == "-0" else _integer(digits)
    return 0.5 if number is None else number


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _time(match: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    if second == 60:  # RFC 3339 section 5.7
        second = 59
    microsecond = int((match[7] or "")[:6].ljust(6, "0"))
    offset = timedelta()
    if match[10] is not None:
        if int(match[10]) > 59:
            raise ValueError("no such offset")
        offset = timedelta(hours=int(match[9]), minutes=int(match[10])) * (-1 if match["zone"][0] == "-" else 1)
    return in_utc(datetime(year, month, day, hour, minute, second, microsecond, timezone(offset)))


def _is_address(text: str) -> bool:
    try:
        return len(text) <= MAX_ADDRESS and getattr(ipaddress.ip_address(text), "scope_id", None) is None
    except ValueError:
        return False


def _is_addr_spec(text: str) -> bool:
    try:
        return bool(addr_spec(text))
    except ValueError:
        return False


# mail


def read_report_mail(octets: bytes) -> ReceivedMail | Unreadable:
    """Read the report out of a mail (RFC 8460 section 5.3).

    The report is the first part of a media type of section 6, else the first with a file name of section 5.1, else the
    first that is gzip or JSON by its media type.
    """
    if len(octets) > MAX_MAIL:
        return Unreadable(UnreadableReason.TOO_LARGE)
    header, _ = split(octets, MAX_HEADER)
    parts = list(leaves(octets))
    kinds = (_is_tlsrpt, _has_report_name, _may_be_report)
    part = next((part for is_kind in kinds for part in parts if is_kind(part)), None)
    if part is None:
        return Unreadable(UnreadableReason.NO_REPORT)
    read = read_report(content(*part))
    return read if isinstance(read, Unreadable) else _judged(read, header, part[0])


def read_report_file(octets: bytes) -> Received | ReceivedMail | Unreadable:
    """Read a report as JSON, in gzip, or in a mail: what it is, its first octets tell."""
    start = octets[: 2**10].lstrip()
    is_mail = not start.startswith((b"{", b"[")) and _HEADER_FIELD.match(start) is not None
    return read_report_mail(octets) if is_mail else read_report(octets)


def _judged(read: Received, header: Message, part: Message) -> ReceivedMail:
    """What was read, with what the mail says beside it."""
    remarks = {*read.remarks}
    if header.get_content_type() != "multipart/report" or (parameter(header, "report-type") or "").lower() != "tlsrpt":
        remarks.add(RemarkKind.NOT_TLSRPT)
    if part.get_content_type() != _TLSRPT_TYPES[read.compressed]:
        remarks.add(RemarkKind.MEDIA_TYPE_DIFFERS)

    contact = read.contact_domain
    domain, submitter = (
        _canonical(field_text(header, f"TLS-Report-{name}").strip()) for name in ("Domain", "Submitter")
    )
    if domain is None or submitter is None:
        remarks.add(RemarkKind.HEADER_MISSING)
    if contact is not None and submitter not in {None, contact}:  # section 5.3
        remarks.add(RemarkKind.SUBMITTER_DIFFERS)

    name_text = file_name(part)
    name = None if name_text is None else parse_file_name(name_text)
    if name is not None:
        remarks.update(read.name_remarks(name))
    elif name_text is not None:
        remarks.add(RemarkKind.FILE_NAME_MALFORMED)

    subject_text = decoded_words(field_text(header, "Subject"))
    subject = parse_subject(subject_text)
    if subject is None and subject_text:
        remarks.add(RemarkKind.SUBJECT_MALFORMED)
    # A report-id need not have an "@", as that of appendix B; in a subject it has to have one
    if subject is not None and read.report.report_id not in {
        None,
        subject.report_id,
        f"<{subject.report_id}>",
        subject.report_id.partition("@")[0],
    }:
        remarks.add(RemarkKind.REPORT_ID_DIFFERS)

    domains, submitters = [read.report.domain, domain], [contact, submitter]
    if name is not None:
        domains.append(name.policy_domain)
        submitters.append(name.sender)
    if subject is not None:
        domains.append(subject.domain)
        submitters.append(subject.submitter)
    if len({*domains} - {None}) > 1:
        remarks.add(RemarkKind.DOMAIN_DIFFERS)
    report = evolve(read.report, domain=_first(domains))
    return ReceivedMail(report, _ordered(remarks), _first(submitters), subject, name)


def _is_tlsrpt(part: tuple[Message, memoryview]) -> bool:
    return part[0].get_content_type() in _TLSRPT_TYPES.values()


def _has_report_name(part: tuple[Message, memoryview]) -> bool:
    return parse_file_name(file_name(part[0]) or "") is not None


def _may_be_report(part: tuple[Message, memoryview]) -> bool:
    return part[0].get_content_type() in _OTHER_TYPES
