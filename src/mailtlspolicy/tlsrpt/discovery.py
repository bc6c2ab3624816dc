"""Looking for what asks for reports: the one TXT record at `_smtp._tls.<policy domain>` (RFC 8460 section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy._words import Word
from mailtlspolicy.dns.effects import LookupFailure, RecordType
from mailtlspolicy.dns.lookups import lookup
from mailtlspolicy.names import MAX_NAME_OCTETS
from mailtlspolicy.tlsrpt.record import TlsrptRecord, announcements, parse_record
from mailtlspolicy.trace import counted

if TYPE_CHECKING:
    from mailtlspolicy.config import Config
    from mailtlspolicy.effects import Program


class SearchFailure(Word):
    """Why no record was found although there may be one, or is."""

    DNS_ERROR = "dns-error"
    RECORD_INVALID = "record-invalid"


@frozen
class Search:
    """What the DNS says of a domain's wish for reports.

    Attributes:
        domain: the policy domain.
        record: the one valid record, or None: then no report is sent.
        failure: why there is none. After `dns-error` it makes sense to ask again later, and to keep what was counted.
        detail: what was seen, for people.
    """

    domain: str
    record: TlsrptRecord | None = None
    failure: SearchFailure | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"domain", "record", "failure", "detail"}."""
        return {
            "domain": self.domain,
            "record": None if self.record is None else self.record.to_json(),
            "failure": self.failure,
            "detail": self.detail,
        }


def find_tlsrpt(domain: str, config: Config) -> Program[Search]:
    """Look for the record of a policy domain, canonical; no parent domain is asked (RFC 8460 section 3)."""
    name = f"_smtp._tls.{domain}"
    if len(name) > MAX_NAME_OCTETS:
        return Search(domain, detail=f"{name} is too long for a name")
    answer = yield from lookup(name, RecordType.TXT, config)
    if isinstance(answer, LookupFailure):
        fact = f"the TXT lookup of {name} failed ({answer.kind})"
        return Search(domain, failure=SearchFailure.DNS_ERROR, detail=fact)
    announced = announcements(record for record in answer.records if isinstance(record, tuple))
    if not announced:
        return Search(domain, detail=f"{name} has no TXT record that asks for reports")
    if len(announced) > 1:
        fact = f"{name} has {counted(len(announced), 'TXT record')} that ask for reports"
        return Search(domain, failure=SearchFailure.RECORD_INVALID, detail=fact)
    record = parse_record(announced)
    if not isinstance(record, TlsrptRecord):
        return Search(domain, failure=SearchFailure.RECORD_INVALID, detail=f"the TXT record of {name}: {record}")
    return Search(domain, record, detail=f"{name} asks for reports to {', '.join(record.rua)}")
