"""The report of a policy domain and a day: the I-JSON document of RFC 8460 section 4, its name and its octets.

>>> from datetime import date
>>> from mailtlspolicy.tlsrpt import Aggregate
>>> nothing = Aggregate("client.example", date(2026, 1, 1))
>>> Report.of(nothing, organization_name="Example", contact_info="tls@sender.example")
Traceback (most recent call last):
ValueError: there is nothing to report of client.example on 2026-01-01
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mailtlspolicy.names import canonical
from mailtlspolicy.tlsrpt.values import PolicyReport, addr_spec, i_json, without_none

if TYPE_CHECKING:
    from mailtlspolicy.tlsrpt.aggregate import Aggregate

_UNIQUE_ID = re.compile(r"[A-Za-z0-9]{1,40}\Z")  # the grammar of RFC 8460 section 5.1 has no limit; file names have
_DIGEST = 16  # hexadecimal digits that tell reports of the same domain and day apart
MAX_ORGANIZATION = 200  # characters: the text of the mail has it in one line, of at most 998 octets (RFC 5322)
_LAST_SECOND = timedelta(days=1, seconds=-1)


@frozen(kw_only=True)
class Report:
    """A report: ours by `Report.of`, or anybody's by `read_report`, where any member may be missing.

    Attributes:
        organization_name: who answers for the report.
        contact_info: a mailbox where they can be reached.
        report_id: unique among the reports of its sender.
        start: when the period begins, aware.
        end: its last second.
        policies: the policies and what became of the sessions that they were applied to.
        domain: the policy domain that the report is for, which the document itself does not say.
    """

    organization_name: str | None = None
    contact_info: str | None = None
    report_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    policies: tuple[PolicyReport, ...] = ()
    domain: str | None = field(default=None, eq=False)

    @classmethod
    def of(
        cls, aggregate: Aggregate, *, organization_name: str, contact_info: str, unique_id: str | None = None
    ) -> Report:
        """Make the report of an aggregate.

        Args:
            aggregate: the sessions of one policy domain on one day.
            organization_name: who answers for the report.
            contact_info: the mailbox of who can be asked about it, an addr-spec; its domain is the submitter.
            unique_id: letters and digits that no other report of this domain and day has. By default a digest of the
                content: the same report made again has the same id (RFC 8460 section 5.3). Where there are several
                reports of one domain and day, of several machines say, each needs its own, or receivers may take them
                for one.

        Raises:
            ValueError: no session is counted (section 4.2 knows no report without one), the organisation has no name
                or an odd one, the contact is no addr-spec, or the unique id has something else than letters and digits.
        """
        if not organization_name.strip() or not organization_name.isprintable():
            raise ValueError("a report names the organisation that answers for it, in printable characters")
        if len(organization_name) > MAX_ORGANIZATION:
            raise ValueError(f"the name of the organisation has more than {MAX_ORGANIZATION} characters")
        local_part, submitter = addr_spec(contact_info)
        if unique_id is not None and _UNIQUE_ID.match(unique_id) is None:
            raise ValueError(f"{unique_id[:80]!r} is no unique id: 1 to 40 letters and digits")
        policies = aggregate.policies
        if not policies:
            raise ValueError(f"there is nothing to report of {aggregate.domain} on {aggregate.day}")
        start = datetime.combine(aggregate.day, time(), timezone.utc)
        unique_id = unique_id or _digest(policies)
        return cls(
            organization_name=i_json(organization_name),
            contact_info=f"{local_part}@{submitter}",
            report_id=f"{aggregate.day}.{aggregate.domain}.{unique_id}@{submitter}",
            start=start,
            end=start + _LAST_SECOND,
            policies=policies,
            domain=aggregate.domain,
        )

    @property
    def submitter(self) -> str:
        """The domain of the contact (RFC 8460 sections 5.1 and 5.3); raises `ValueError` where there is none."""
        return addr_spec(self.contact_info or "")[1]

    def to_json(self) -> dict[str, Any]:
        """The members of RFC 8460 section 4.4; what is None is left out."""
        members = {
            "organization-name": self.organization_name,
            "date-range": without_none({"start-datetime": _time(self.start), "end-datetime": _time(self.end)}) or None,
            "contact-info": self.contact_info,
            "report-id": self.report_id,
        }
        return without_none(members) | {"policies": [policy.to_json() for policy in self.policies]}

    def to_bytes(self) -> bytes:
        """The document: I-JSON in UTF-8 (RFC 8460 section 4)."""
        return json.dumps(self.to_json(), ensure_ascii=False).encode()

    def compressed(self) -> bytes:
        """The document in gzip (section 5.2); equal reports give equal octets."""
        return gzip.compress(self.to_bytes(), mtime=0)

    def file_name(self, *, compressed: bool = True) -> str:
        """The name recommended for it (section 5.1).

        Raises:
            ValueError: the report lacks what the name consists of, as one that was read may.
        """
        if self.domain is None or self.start is None or self.end is None or self.report_id is None:
            raise ValueError("a report without a domain, a period or an id has no file name")
        unique_id = self.report_id.partition("@")[0].rpartition(".")[2]
        own_id = f"{self.start.date()}.{canonical(self.domain)}.{unique_id}@{self.submitter}"
        if _UNIQUE_ID.match(unique_id) is None or self.report_id != own_id:
            raise ValueError("the report has an id of somebody else's making")
        period = f"{int(self.start.timestamp())}!{int(self.end.timestamp())}"
        return f"{self.submitter}!{self.domain}!{period}!{unique_id}.json{'.gz' if compressed else ''}"


def _digest(policies: tuple[PolicyReport, ...]) -> str:
    text = json.dumps([policy.to_json() for policy in policies])
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def _time(time: datetime | None) -> str | None:
    """A time as RFC 3339 section 5.6 has it; UTC is "Z"."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")
