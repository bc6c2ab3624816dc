"""What a verification ended in: a verdict, its failure reason, and the RFC 8460 result type that reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._validators import instance_of
from mailtlspolicy._words import Word
from mailtlspolicy.levels import Duty

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mechanism(Word):
    """What authenticated the peer."""

    DANE_EE = "dane-ee"
    DANE_TA = "dane-ta"
    PKIX = "pkix"


class ResultType(Word):
    """The result types of RFC 8460 section 4.3 that this library gives."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


class Failure(Word):
    """Why a peer was not authenticated."""

    NO_TLSA_MATCH = "no-tlsa-match"
    NAME_MISMATCH = "name-mismatch"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    BAD_SIGNATURE = "bad-signature"
    NOT_A_CA = "not-a-ca"
    PATH_LENGTH = "path-length"
    NAME_CONSTRAINTS = "name-constraints"
    BAD_PURPOSE = "bad-purpose"
    WEAK_ALGORITHM = "weak-algorithm"
    UNHANDLED_CRITICAL_EXTENSION = "unhandled-critical-extension"
    UNTRUSTED_ISSUER = "untrusted-issuer"
    MALFORMED_CERTIFICATE = "malformed-certificate"
    NO_CERTIFICATE = "no-certificate"
    CHAIN_TOO_LONG = "chain-too-long"
    TOO_MUCH_WORK = "too-much-work"
    NO_USABLE_RECORDS = "no-usable-records"

    @property
    def tlsrpt(self) -> ResultType:
        """The RFC 8460 result type under which this failure is reported."""
        return _RESULT_TYPES.get(self, ResultType.CERTIFICATE_NOT_TRUSTED)


_RESULT_TYPES = {
    Failure.NAME_MISMATCH: ResultType.CERTIFICATE_HOST_MISMATCH,
    Failure.EXPIRED: ResultType.CERTIFICATE_EXPIRED,
    Failure.NO_USABLE_RECORDS: ResultType.TLSA_INVALID,
    # RFC 8460 section 4.3.3: a failure of no other category
    Failure.NO_TLSA_MATCH: ResultType.VALIDATION_FAILURE,
    Failure.NO_CERTIFICATE: ResultType.VALIDATION_FAILURE,
    Failure.CHAIN_TOO_LONG: ResultType.VALIDATION_FAILURE,
    Failure.TOO_MUCH_WORK: ResultType.VALIDATION_FAILURE,
}


@frozen
class Verdict:
    """What the peer's certificates amount to.

    Attributes:
        authenticated: there was a duty of authentication, and every duty holds.
        satisfied: every duty holds; true as well where there was none (levels `may` and `encrypt`).
        mechanism: what authenticated the peer.
        record: the TLSA record that matched, in presentation form.
        depth: where in the path the matched certificate stands; the leaf is 0.
        name: the reference identifier that the leaf bears, where names were checked.
        failure: why it failed.
        tlsrpt: the RFC 8460 result type of the failure.
        observed: the verdict on what was evaluated but not enforced.
        duties: every duty that was evaluated, by itself, and why it does not hold; None where it does. A report tells
            what each policy made of the session (RFC 8460 section 4).
    """

    authenticated: bool = field(validator=instance_of(bool))
    satisfied: bool = field(validator=instance_of(bool))
    mechanism: Mechanism | None = None
    record: str | None = None
    depth: int | None = None
    name: str | None = None
    failure: Failure | None = None
    tlsrpt: ResultType | None = None
    observed: Verdict | None = None
    duties: tuple[tuple[Duty, Failure | None], ...] = ()

    @classmethod
    def passed(
        cls, mechanism: Mechanism, *, record: str | None = None, depth: int | None = None, name: str | None = None
    ) -> Verdict:
        """The duty holds."""
        return cls(True, True, mechanism, record, depth, name)

    @classmethod
    def failed(cls, failure: Failure) -> Verdict:
        """The duty does not hold."""
        return cls(False, False, failure=failure, tlsrpt=failure.tlsrpt)

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {
            "version": VERSION,
            "authenticated": self.authenticated,
            "satisfied": self.satisfied,
            "mechanism": self.mechanism,
            "record": self.record,
            "depth": self.depth,
            "name": self.name,
            "failure": self.failure,
            "tlsrpt": self.tlsrpt,
            "observed": None if self.observed is None else self.observed.to_json(),
            "duties": dict(self.duties),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        return cls(
            authenticated=data["authenticated"],
            satisfied=data["satisfied"],
            mechanism=None if data["mechanism"] is None else Mechanism(data["mechanism"]),
            record=data["record"],
            depth=data["depth"],
            name=data["name"],
            failure=None if data["failure"] is None else Failure(data["failure"]),
            tlsrpt=None if data["tlsrpt"] is None else ResultType(data["tlsrpt"]),
            observed=None if data["observed"] is None else cls.from_json(data["observed"]),
            duties=tuple(
                (Duty(duty), None if failure is None else Failure(failure)) for duty, failure in data["duties"].items()
            ),
        )
