"""DNS questions, which a program asks, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mailtlspolicy._words import Word
from mailtlspolicy.effects import Effect, OwnFailure

if TYPE_CHECKING:
    from mailtlspolicy.tlsa import Tlsa

MAX_TTL = 2**31 - 1  # seconds (RFC 2181 section 8)


class RecordType(Word):
    """The DNS record types that SMTP TLS policy asks for."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    DNAME = "DNAME"
    MX = "MX"
    TLSA = "TLSA"
    TXT = "TXT"


@frozen
class Mx:
    """One MX record: the preference, and the exchange as published (presentation form, "." for the root)."""

    preference: int
    exchange: str


@frozen
class Lookup(Effect["Answer | LookupFailure"]):
    """A DNS question of class IN; `name` is absolute, without the final dot, and no search list applies to it."""

    performer = "resolver"
    is_fenced = is_timed = True

    name: str
    rdtype: RecordType

    def own_failure(self, why: OwnFailure, detail: str) -> Answer | LookupFailure:
        """A failure that says nothing of the domain."""
        return LookupFailure(self, FailureKind(why), detail)


@frozen
class Answer:
    """What the DNS says: records, or their proven or unproven absence. Absence is an answer, not a failure.

    Attributes:
        question: the question asked.
        secure: the whole response, aliases and denial included, was validated (RFC 4035 section 4.3 "Secure").
        records: in the order received, those of TLSA sorted by the resolver adapters: addresses and alias targets as
            `str`, `Mx`, `Tlsa`, or tuples of `bytes` for TXT. Empty for NXDOMAIN and NODATA.
        aliases: the targets of the aliases followed, hop by hop, in presentation form; the last one owns the records.
            A question for CNAME follows none; below a DNAME its record is the alias that the DNAME makes.
        nxdomain: the name (the last alias target, if any) does not exist. False with no records is NODATA.
        complete: False where a CNAME came without the data of its target, which then has to be asked for (RFC 7672
            section 2.1.3).
        ttl: seconds for which all of it holds, the lowest TTL of the response.
        believed: whether the resolver is believed when it says "secure" (RFC 7672 section 2.1.1). Where not, no answer
            of it is ever secure, and to ask how secure an alias is would tell nothing.
        dname: the owner of the DNAME record that makes the first alias (RFC 6672 section 2.2); None where that is a
            CNAME of its own, where the answer did not show, and where there are no aliases.
    """

    question: Lookup
    secure: bool
    records: tuple[str | Mx | Tlsa | tuple[bytes, ...], ...] = ()
    aliases: tuple[str, ...] = ()
    nxdomain: bool = False
    complete: bool = True
    ttl: int = 0
    believed: bool = True
    dname: str | None = None

    @property
    def name(self) -> str:
        """The name that owns the records or their denial: the question's, or the last alias target."""
        return self.aliases[-1] if self.aliases else self.question.name


class FailureKind(Word):
    """Why a lookup gave no answer. All have one consequence (RFC 7672 section 2.1.1), but operators need to know."""

    BOGUS = "bogus"
    INDETERMINATE = "indeterminate"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    NOTIMP = "notimp"
    TIMEOUT = "timeout"
    MALFORMED = "malformed"
    LOOP = "loop"
    NETWORK = "network"
    LOCAL = "local"
    OVERDUE = "overdue"

    @property
    def is_own(self) -> bool:
        """Whether the reason is this system's own, so that the failure says nothing of the domain."""
        return self in {FailureKind.LOCAL, FailureKind.OVERDUE}


@frozen
class LookupFailure:
    """A question that got no usable answer (RFC 7672 section 2.1.1: bogus, indeterminate or an error)."""

    question: Lookup
    kind: FailureKind
    detail: str = ""


Lookup.answers = Answer, LookupFailure
