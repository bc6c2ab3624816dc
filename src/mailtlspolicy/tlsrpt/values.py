"""What a report says of policies and sessions: RFC 8460 section 4.4, and its JSON form.

These are the values of anybody's reports, so nothing here has to be there: what a report lacks is None, or empty where
it is a list.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mailtlspolicy._words import Word
from mailtlspolicy.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class PolicyType(Word):
    """The policy types of RFC 8460 section 4.4."""

    TLSA = "tlsa"
    STS = "sts"
    NO_POLICY_FOUND = "no-policy-found"


MAX_COUNT = 2**53 - 1  # the greatest integer of I-JSON (RFC 7493 section 2.2)
_NONCHARACTERS = [plane + last for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)]
_NOT_IN_I_JSON = re.compile("[\ud800-\udfff\ufdd0-\ufdef" + "".join(map(chr, _NONCHARACTERS)) + "]")


# RFC 5322 section 3.4.1, without comments, folding and what is obsolete
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
DOT_ATOM = rf"{_ATOM}(?:\.{_ATOM})*"  # section 3.2.3
_ADDR_SPEC = re.compile(rf"""({DOT_ATOM}|"(?:[ !#-\[\]-~]|\\[ -~])*")@([^@\s]+)\Z""")

MAX_ADDR_SPEC = 320  # octets: RFC 5321 section 4.5.3.1 has 64 of the local part, 255 of the domain


def addr_spec(text: str) -> tuple[str, str]:
    """The local part and the domain, in A-labels, of an addr-spec (RFC 8460 section 4.4, "contact-info").

    Raises:
        ValueError: the text is none: no mailbox, a URI, or one with a display name.
    """
    match = _ADDR_SPEC.match(text) if len(text) <= MAX_ADDR_SPEC else None
    if match is None:
        raise ValueError(f"{text[:80]!r} is no addr-spec (RFC 5322 section 3.4.1)")
    return match[1], canonical(match[2])


def i_json(text: str) -> str:
    """A text without what I-JSON does not have, surrogates and noncharacters (RFC 7493 section 2.1)."""
    return text if str.isascii(text) else _NOT_IN_I_JSON.sub("\ufffd", text)


def _i_json_or_none(text: str | None) -> str | None:
    return None if text is None else i_json(text)


def _i_json_all(texts: Iterable[str]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise TypeError("a sequence of texts is due, not one text")
    return tuple(map(i_json, texts))


@frozen
class ReportedPolicy:
    """A policy as a report names it.

    Attributes:
        type: a `PolicyType`, or whatever else a report says.
        domain: the domain that the policy is of: the recipient domain, for TLSA records the TLSA base domain.
        string: the TLSA records, or the lines of the MTA-STS policy as published.
        mx_host: the patterns of the MTA-STS policy, for TLSA records the MX hostname.
    """

    type: PolicyType | str | None
    domain: str | None = field(default=None, converter=_i_json_or_none)
    string: tuple[str, ...] = field(default=(), converter=_i_json_all)
    mx_host: tuple[str, ...] = field(default=(), converter=_i_json_all)

    @property
    def order(self) -> tuple[int, str, tuple[str, ...], tuple[str, ...]]:
        """Where it stands in a report: by type, domain, MX hosts, text."""
        types = list(map(str, PolicyType))
        rank = types.index(self.type) if self.type in types else len(types)
        return rank, self.domain or "", self.mx_host, self.string

    def to_json(self) -> dict[str, Any]:
        """The member "policy" of a report."""
        return without_none(
            {
                "policy-type": self.type,
                "policy-string": list(self.string) or None,
                "policy-domain": self.domain,
                "mx-host": list(self.mx_host) or None,
            }
        )


@frozen(kw_only=True)
class FailureDetails:
    """What sessions that failed have in common: an element of "failure-details", without its count.

    Attributes:
        result_type: a `ResultType`, or whatever else a report says.
        sending_mta_ip: the address that the sender connected from.
        receiving_mx_hostname: the name in the MX record.
        receiving_mx_helo: the name that the server gave itself.
        receiving_ip: the address that was connected to.
        additional_information: a URI.
        failure_reason_code: what exactly was wrong.
    """

    result_type: str | None = field(default=None, converter=_i_json_or_none)
    sending_mta_ip: str | None = field(default=None, converter=_i_json_or_none)
    receiving_mx_hostname: str | None = field(default=None, converter=_i_json_or_none)
    receiving_mx_helo: str | None = field(default=None, converter=_i_json_or_none)
    receiving_ip: str | None = field(default=None, converter=_i_json_or_none)
    additional_information: str | None = field(default=None, converter=_i_json_or_none)
    failure_reason_code: str | None = field(default=None, converter=_i_json_or_none)

    @property
    def order(self) -> tuple[str, ...]:
        """Where it stands in a report."""
        return tuple(
            part or ""
            for part in (
                self.result_type,
                self.receiving_mx_hostname,
                self.receiving_ip,
                self.sending_mta_ip,
                self.failure_reason_code,
                self.receiving_mx_helo,
                self.additional_information,
            )
        )

    def to_json(self) -> dict[str, Any]:
        """An element of "failure-details" without "failed-session-count"."""
        return without_none(
            {
                "result-type": self.result_type,
                "sending-mta-ip": self.sending_mta_ip,
                "receiving-mx-hostname": self.receiving_mx_hostname,
                "receiving-mx-helo": self.receiving_mx_helo,
                "receiving-ip": self.receiving_ip,
                "additional-information": self.additional_information,
                "failure-reason-code": self.failure_reason_code,
            }
        )


@frozen
class PolicyReport:
    """An element of "policies": a policy, and the sessions that it was applied to.

    Attributes:
        policy: the policy.
        successful: sessions that complied with it; None where a report does not say.
        failed: sessions that did not.
        failures: the failure details and how many sessions each counts. One session may have several, so they may add
            up to more than `failed` (RFC 8460 section 4).
    """

    policy: ReportedPolicy
    successful: int | None
    failed: int | None
    failures: tuple[tuple[FailureDetails, int | None], ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicyReport:
        """Read what `to_json` wrote of our own counts; anything else raises `KeyError`, `TypeError` or `ValueError`.

        Reports of others take `reading.read_report`.
        """
        policy, summary, failures = data["policy"], data["summary"], []
        for element in data["failure-details"]:
            members = {name.replace("-", "_"): value for name, value in dict(element).items()}
            count = _count(members.pop("failed_session_count"))
            failures.append((FailureDetails(**members), count))
        return cls(
            ReportedPolicy(
                PolicyType(policy["policy-type"]),
                policy["policy-domain"],
                policy.get("policy-string", ()),
                policy.get("mx-host", ()),
            ),
            _count(summary["total-successful-session-count"]),
            _count(summary["total-failure-session-count"]),
            tuple(failures),
        )

    def to_json(self) -> dict[str, Any]:
        """An element of "policies"."""
        return {
            "policy": self.policy.to_json(),
            "summary": without_none(
                {
                    "total-successful-session-count": self.successful,
                    "total-failure-session-count": self.failed,
                }
            ),
            "failure-details": [
                without_none(details.to_json() | {"failed-session-count": count}) for details, count in self.failures
            ],
        }


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"a count is a number, not {value!r:.60}")
    return value


def without_none(members: dict[str, Any]) -> dict[str, Any]:
    """The members of an object that there are: a report has no null in it."""
    return {name: value for name, value in members.items() if value is not None}
