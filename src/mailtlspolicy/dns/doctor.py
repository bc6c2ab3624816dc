"""Does a resolver validate DNSSEC? Without that, DANE never applies (RFC 7672 section 2.1.1), and nobody is told.

Each nameserver is examined by itself: whichever of several answers first decides what is secure. A few times each, it
is asked for names in a signed zone, in an unsigned one, and in zones that are bogus on purpose. A nameserver that
validates says that the first is secure and the second is not, and refuses the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._words import Word
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType
from mailtlspolicy.effects import ask, together
from mailtlspolicy.names import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailtlspolicy.effects import Program

    _Result = Answer | LookupFailure

ROUNDS = 4  # enough to meet both of two resolvers that answer in turn behind one address

# Names on the Internet. Those that are bogus have been kept so for tests for years, by Comcast and by CZ.NIC; there are
# two, since an operator may have switched off validation for one (a negative trust anchor, RFC 7646).
SIGNED_NAME = "internetsociety.org"
UNSIGNED_NAME = "google.com"
BOGUS_NAMES = ("dnssec-failed.org", "www.rhybar.cz")

_RESOLVED = {"127.0.0.53", "127.0.0.53:53"}  # where systemd-resolved listens (systemd-resolved.service(8))
_SILENCE = {FailureKind.TIMEOUT, FailureKind.NETWORK}


class Validation(Word):
    """What a resolver does about DNSSEC, from the best to the worst."""

    VALIDATING = "validating"
    BROKEN = "broken"
    NOT_VALIDATING = "not-validating"
    INCONSISTENT = "inconsistent"


@frozen
class Examined:
    """What was found of one nameserver.

    Attributes:
        nameserver: its address and port.
        validation: what it does.
        detail: what was seen, for people.
    """

    nameserver: str
    validation: Validation
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"nameserver", "validation", "detail"}."""
        return {"nameserver": self.nameserver, "validation": self.validation, "detail": self.detail}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Examined:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        return cls(data["nameserver"], Validation(data["validation"]), data["detail"])


@frozen
class Diagnosis:
    """What the examination found.

    Attributes:
        validation: what the resolver does; of several nameservers, what the worst does.
        detail: what was seen, for people.
        nameservers: the nameservers by themselves, in the order in which they are asked; empty where the resolver was
            examined as a whole.
    """

    validation: Validation
    detail: str
    nameservers: tuple[Examined, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"version", "validation", "detail", "nameservers"}."""
        return {
            "version": VERSION,
            "validation": self.validation,
            "detail": self.detail,
            "nameservers": [examined.to_json() for examined in self.nameservers],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Diagnosis:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        nameservers = tuple(map(Examined.from_json, data.get("nameservers", ())))
        return cls(Validation(data["validation"]), data["detail"], nameservers)


def examine(
    signed_name: str = SIGNED_NAME,
    bogus_names: Sequence[str] | str = BOGUS_NAMES,
    unsigned_name: str = UNSIGNED_NAME,
) -> Program[Diagnosis]:
    """Tell validating, not validating, inconsistent and broken resolvers apart.

    Args:
        signed_name: a name in a correctly signed zone; it need not have an address.
        bogus_names: names in zones whose signatures do not validate, or one such name.
        unsigned_name: a name in a zone that is not signed.

    Raises:
        ValueError: one of them is not a domain name, or no name is bogus.
    """
    bogus_names = (bogus_names,) if isinstance(bogus_names, str) else tuple(bogus_names)
    if not bogus_names:
        raise ValueError("at least one bogus name has to be asked for")
    signed, unsigned, *bogus = (
        Lookup(canonical(name), RecordType.A) for name in (signed_name, unsigned_name, *bogus_names)
    )
    seen: dict[Diagnosis, None] = {}
    for _ in range(ROUNDS):
        first = yield from ask(signed)
        if isinstance(first, LookupFailure):
            seen[_without_signed(first)] = None
            if first.kind in _SILENCE:  # to go on would take minutes and show no more
                break
            continue
        plain, *bad = yield from together(*map(ask, (unsigned, *bogus)))
        seen[_diagnose(first, plain, bad)] = None
    if len(seen) == 1:
        return next(iter(seen))
    return Diagnosis(Validation.INCONSISTENT, "; then again: ".join(diagnosis.detail for diagnosis in seen))


def put_together(diagnoses: Mapping[str, Diagnosis]) -> Diagnosis:
    """The diagnosis of a resolver by those of its nameservers, each examined by itself.

    One at the address of systemd-resolved is not called validating: it refuses zones that are in order, and calls
    secure what is not.

    Args:
        diagnoses: by nameserver, an IP address with or without a port; in the order in which they are asked.

    Raises:
        ValueError: there are none.
    """
    if not diagnoses:
        raise ValueError("a resolver has at least one nameserver")
    found = tuple(
        _named(Examined(nameserver, diagnosis.validation, diagnosis.detail))
        for nameserver, diagnosis in diagnoses.items()
    )
    worst = max((examined.validation for examined in found), key=list(Validation).index)
    if len(found) == 1:
        return Diagnosis(worst, found[0].detail, found)
    detail = ", ".join(f"{examined.nameserver} is {examined.validation}" for examined in found)
    if len({examined.validation for examined in found}) > 1:
        detail += ": whichever answers decides"
    return Diagnosis(worst, detail, found)


def _named(examined: Examined) -> Examined:
    if examined.nameserver not in _RESOLVED:
        return examined
    validating = examined.validation is Validation.VALIDATING
    return evolve(
        examined,
        validation=Validation.INCONSISTENT if validating else examined.validation,
        detail=f"this is the stub of systemd-resolved, which is unfit for DANE; {examined.detail}",
    )


def _without_signed(failure: LookupFailure) -> Diagnosis:
    name = failure.question.name
    if failure.kind is FailureKind.BOGUS:
        why = "something takes signatures away before the nameserver sees them, or its clock or trust anchor is wrong"
        return Diagnosis(Validation.BROKEN, f"{name}, which is signed correctly, is called bogus: {why}")
    return Diagnosis(Validation.BROKEN, f"the lookup of {name}, which is signed, failed ({failure.kind})")


def _diagnose(signed: Answer, unsigned: _Result, bogus: Sequence[_Result]) -> Diagnosis:
    """What one round shows, which got an answer for the signed name."""
    name, plain = signed.question.name, unsigned.question.name
    refused = [each.question.name for each in bogus if _is_refused(each)]
    # A name that is not there any more is neither answered nor refused.
    answered = [each.question.name for each in bogus if isinstance(each, Answer) and not each.nxdomain]
    if isinstance(unsigned, Answer) and unsigned.secure:
        detail = f"{plain}, which is not signed, is called secure: the AD bit means nothing"
        return Diagnosis(Validation.INCONSISTENT, detail)
    if signed.secure and answered:
        detail = f"{name} is called secure, but {_listed(answered)} answered as well"
        return Diagnosis(Validation.INCONSISTENT, detail)
    if answered:
        return Diagnosis(
            Validation.NOT_VALIDATING, f"the AD bit is missing for {name}, and {_listed(answered)} answered"
        )
    if not refused:
        failed = "; ".join(f"the lookup of {each.question.name} {_failed(each)}" for each in bogus)
        return Diagnosis(Validation.BROKEN, f"{failed}, which tells nothing")
    if not signed.secure:
        why = "something takes it away, a forwarder or its cache"
        detail = f"{_listed(refused)} refused, but the AD bit is missing for {name}: {why}"
        return Diagnosis(Validation.NOT_VALIDATING, detail)
    if isinstance(unsigned, LookupFailure):
        detail = f"the lookup of {plain}, which is not signed, failed ({unsigned.kind})"
        return Diagnosis(Validation.BROKEN, detail)
    return Diagnosis(Validation.VALIDATING, f"{name} is secure, {plain} is not, and {_listed(refused)} refused")


def _is_refused(result: _Result) -> bool:
    return isinstance(result, LookupFailure) and result.kind in {FailureKind.BOGUS, FailureKind.SERVFAIL}


def _failed(result: _Result) -> str:
    return f"failed ({result.kind})" if isinstance(result, LookupFailure) else "found no such name"


def _listed(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"
