"""Does a resolver validate DNSSEC? Without that, DANE never applies (RFC 7672 section 2.1.1), and nobody is told.

Two names are asked for, a few times each: one in a signed zone and one whose signatures are bogus. A validating
resolver says that the first is secure and fails the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType, ask, together
from mailtlspolicy.json_version import VERSION, require_version
from mailtlspolicy.names import canonical
from mailtlspolicy.words import Word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy.effects import Program

ROUNDS = 4  # enough to meet both of two resolvers that answer in turn

# Two names on the Internet that have been kept for this purpose for years.
SIGNED_NAME = "internetsociety.org"
BOGUS_NAME = "dnssec-failed.org"


class Validation(Word):
    """What a resolver does about DNSSEC."""

    VALIDATING = "validating"
    NOT_VALIDATING = "not-validating"
    INCONSISTENT = "inconsistent"
    BROKEN = "broken"


@frozen
class Diagnosis:
    """What the examination found.

    Attributes:
        validation: what the resolver does.
        detail: what was seen, for people.
    """

    validation: Validation
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"version", "validation", "detail"}."""
        return {"version": VERSION, "validation": self.validation, "detail": self.detail}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Diagnosis:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        return cls(Validation(data["validation"]), data["detail"])


def examine(signed_name: str = SIGNED_NAME, bogus_name: str = BOGUS_NAME) -> Program[Diagnosis]:
    """Tell validating, not validating, inconsistent and broken resolvers apart.

    Args:
        signed_name: a name in a correctly signed zone; it need not have an address.
        bogus_name: a name in a zone whose signatures do not validate.

    Raises:
        ValueError: one of them is not a domain name.
    """
    signed, bogus = (Lookup(canonical(name), RecordType.A) for name in (signed_name, bogus_name))
    seen: set[Diagnosis] = set()
    for _ in range(ROUNDS):
        answers = yield from together(ask(signed), ask(bogus))
        seen.add(_diagnose(*answers))
    if len(seen) == 1:
        return seen.pop()
    detail = "; then again: ".join(sorted(diagnosis.detail for diagnosis in seen))
    return Diagnosis(Validation.INCONSISTENT, detail)


def _diagnose(signed: Answer | LookupFailure, bogus: Answer | LookupFailure) -> Diagnosis:
    name, bad = signed.question.name, bogus.question.name
    if isinstance(signed, LookupFailure):
        return Diagnosis(Validation.BROKEN, f"the lookup of {name}, which is signed, failed ({signed.kind})")
    if isinstance(bogus, LookupFailure) and bogus.kind not in {FailureKind.BOGUS, FailureKind.SERVFAIL}:
        return Diagnosis(Validation.BROKEN, f"the lookup of {bad} failed ({bogus.kind}), which tells nothing")
    if signed.secure and isinstance(bogus, LookupFailure):
        return Diagnosis(Validation.VALIDATING, f"{name} is secure, and {bad} is refused")
    if signed.secure:
        return Diagnosis(Validation.INCONSISTENT, f"{name} is called secure, but {bad} is answered as well")
    if isinstance(bogus, LookupFailure):
        detail = f"{bad} is refused, but the AD bit is missing for {name}: something strips it"
        return Diagnosis(Validation.NOT_VALIDATING, detail)
    return Diagnosis(Validation.NOT_VALIDATING, f"the AD bit is missing for {name}, and {bad} is answered")
