"""What discovery says: the values that its programs return, and their JSON form."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy._refusal import Reason
from mailtlspolicy._words import Word
from mailtlspolicy.sts.cache import StsFailure, policy_from_json
from mailtlspolicy.sts.policy import Mode, Policy
from mailtlspolicy.verdict import ResultType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy._refusal import Refusal
    from mailtlspolicy.sts.record import StsRecord


class Source(Word):
    """Where the policy in force comes from."""

    FETCHED = "fetched"
    CACHED = "cached"


_UNLEARNED = {
    StsFailure.LOCAL_ERROR,
    StsFailure.DNS_ERROR,
    StsFailure.FETCH_ERROR,
    StsFailure.WEBPKI_INVALID,
    StsFailure.POLICY_INVALID,
}


@frozen
class RecordSearch:
    """What the DNS announces for a policy domain.

    Attributes:
        record: the one valid TXT record, or None.
        failure: why there is none; None with neither record nor failure means that nothing is announced.
        detail: what was seen, for people.
        announced: the records that begin with the version, as published.
        ttl: seconds for which the DNS says so, 0 where it said nothing; None where it was not asked.
        is_own: it failed for a reason of this system's own, which says nothing of the domain.
    """

    record: StsRecord | None = None
    failure: StsFailure | None = None
    detail: str = ""
    announced: tuple[bytes, ...] = ()
    ttl: int | None = None
    is_own: bool = False


@frozen
class FetchResult:
    """What the policy host serves.

    Attributes:
        policy: the policy, or None.
        failure: why there is none.
        detail: what was seen, for people.
        body: the body that was read as a policy, valid or not; None where it did not come to that.
        refusal: why that is no policy.
        is_own: it failed for a reason of this system's own, which says nothing of the policy host.
    """

    policy: Policy | None = None
    failure: StsFailure | None = None
    detail: str = ""
    body: bytes | None = None
    refusal: Refusal | None = None
    is_own: bool = False


@frozen(kw_only=True)
class Discovery:
    """What is known of the MTA-STS policy of a domain.

    Attributes:
        domain: the policy domain.
        policy: the policy in force, or None.
        id: the id of the policy in force, else the one announced, or None.
        source: where the policy in force comes from.
        expires: when it ceases to be in force unless it is fetched again, in UTC.
        failure: why nothing newer was learned; None where the policy in force is the one announced.
        tlsrpt: the RFC 8460 result type under which that failure is reported (RFC 8461 section 6), or None.
        detail: what was seen, for people.
        store_failure: what is wrong with the policy store.
        unknown: whether a policy applies could not be learned, and the mail has to wait.
        rejected: the file that the policy host served and that is no policy, its first 4096 octets as text, for reports
            (RFC 8460 section 4.5); None where there was none.
        refusal: why it is no policy.
        is_own: that nothing newer was learned is this system's own doing, and says nothing of the domain.
    """

    domain: str
    policy: Policy | None = None
    id: str | None = None
    source: Source | None = None
    expires: datetime | None = None
    failure: StsFailure | None = None
    tlsrpt: ResultType | None = None
    detail: str = ""
    store_failure: str | None = None
    unknown: bool = False
    rejected: str | None = None
    refusal: Reason | None = None
    is_own: bool = False

    @property
    def applied(self) -> Policy | None:
        """The policy in force if it asks for validation: of mode `enforce` or `testing` (RFC 8461 section 5)."""
        return None if self.policy is None or self.policy.mode is Mode.NONE else self.policy

    @property
    def may_be_outdated(self) -> bool:
        """Whether there may be another policy than is known, which could not be looked for, fetched or read.

        Nothing may fail for good on the strength of what is known then (RFC 8461 section 5).
        """
        return self.failure in _UNLEARNED

    @property
    def is_enforced(self) -> bool:
        """Whether a policy of mode `enforce` is in force."""
        return self.policy is not None and self.policy.mode is Mode.ENFORCE

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract, "sts" of a plan."""
        policy = self.policy
        return {
            "domain": self.domain,
            "mode": None if policy is None else policy.mode,
            "id": self.id,
            "mx": [] if policy is None else list(policy.mx),
            "max_age": None if policy is None else policy.max_age,
            "source": self.source,
            "failure": self.failure,
            "tlsrpt": self.tlsrpt,
            "expires": None if self.expires is None else self.expires.isoformat(),
            "detail": self.detail,
            "store_failure": self.store_failure,
            "unknown": self.unknown,
            "policy": None if policy is None else policy.text,
            "warnings": [] if policy is None else [remark.to_json() for remark in policy.warnings],
            "rejected": self.rejected,
            "refusal": self.refusal,
            "own": self.is_own,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Discovery:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        policy = None if data["policy"] is None else policy_from_json(data["policy"])
        expires = data["expires"]
        return cls(
            domain=data["domain"],
            policy=policy,
            id=data["id"],
            source=None if data["source"] is None else Source(data["source"]),
            expires=None if expires is None else datetime.fromisoformat(expires),
            failure=None if data["failure"] is None else StsFailure(data["failure"]),
            tlsrpt=None if data["tlsrpt"] is None else ResultType(data["tlsrpt"]),
            detail=data["detail"],
            store_failure=data["store_failure"],
            unknown=data["unknown"],
            rejected=data["rejected"],
            refusal=None if data["refusal"] is None else Reason(data["refusal"]),
            is_own=data["own"],
        )
