"""What a program asks of the world, what it is told, and the two helpers that compose programs.

A **program** is a generator that yields a batch of effects and is sent a batch of results of the same length and order.
It never does I/O itself. A failure of the outside world is a result (`LookupFailure`), never an exception.

>>> def addresses(name):
...     answer = yield from ask(Lookup(name, RecordType.A))
...     return answer.records
>>> program = addresses("mx.example")
>>> program.send(None)
(Lookup(name='mx.example', rdtype=<RecordType.A: 'A'>),)
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from attrs import frozen

from mailtlspolicy.levels import TlsLevel
from mailtlspolicy.words import Word

if TYPE_CHECKING:
    from mailtlspolicy.tlsa import Tlsa  # the type alone: a layer that stands above this one

_R = TypeVar("_R")
_T = TypeVar("_T")


MAX_TTL = 2**31 - 1  # seconds (RFC 2181 section 8)


class Effect(Generic[_R]):
    """Something a program wants to know or have done; `_R` is the type of the result."""

    __slots__ = ()


Program: TypeAlias = Generator[tuple[Effect[Any], ...], Sequence[Any], _T]
"""A generator that yields batches of effects, is sent batches of their results and returns a `_T`."""


class RecordType(Word):
    """The DNS record types that SMTP TLS policy asks for."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
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

    name: str
    rdtype: RecordType


@frozen
class Answer:
    """What the DNS says: records, or their proven or unproven absence. Absence is an answer, not a failure.

    Attributes:
        question: the question asked.
        secure: the whole response, aliases and denial included, was validated (RFC 4035 section 4.3 "Secure").
        records: in the order received: addresses and alias targets as `str`, `Mx`, `Tlsa`, or tuples of `bytes` for
            TXT. Empty for NXDOMAIN and NODATA.
        aliases: the targets of the CNAME records followed, hop by hop, in presentation form; the last one owns the
            records. A question for CNAME follows none.
        nxdomain: the name (the last alias target, if any) does not exist. False with no records is NODATA.
        complete: False where a CNAME came without the data of its target, which then has to be asked for (RFC 7672
            section 2.1.3).
        ttl: seconds for which all of it holds, the lowest TTL of the response.
    """

    question: Lookup
    secure: bool
    records: tuple[str | Mx | Tlsa | tuple[bytes, ...], ...] = ()
    aliases: tuple[str, ...] = ()
    nxdomain: bool = False
    complete: bool = True
    ttl: int = 0

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


@frozen
class LookupFailure:
    """A question that got no usable answer (RFC 7672 section 2.1.1: bogus, indeterminate or an error)."""

    question: Lookup
    kind: FailureKind
    detail: str = ""


@frozen
class Probe(Effect["Probed | ProbeFailure"]):
    """Connect to an SMTP server, ask for STARTTLS, hand over the presented chain and hang up; send no mail.

    Attributes:
        address: IPv4 or IPv6 address.
        port: TCP port.
        sni: the name for the TLS server_name extension, or None to send none.
        level: what is demanded of the session, on which its TLS parameters depend.
    """

    address: str
    port: int
    sni: str | None
    level: TlsLevel = TlsLevel.DANE


@frozen
class Probed:
    """A TLS session was set up: the presented certificates as DER, leaf first, and what was negotiated."""

    chain: tuple[bytes, ...]
    protocol: str = ""
    cipher: str = ""


class ProbeStage(Word):
    """How far a probe came before it failed."""

    CONNECT = "connect-failed"
    GREETING = "tempfailed"
    STARTTLS_ABSENT = "starttls-absent"
    STARTTLS_REFUSED = "starttls-refused"
    HANDSHAKE = "handshake-failed"


@frozen
class ProbeFailure:
    """No TLS session came about, and at which stage."""

    stage: ProbeStage
    detail: str = ""


def ask(effect: Effect[_R]) -> Program[_R]:
    """Yield one effect and return its result, typed."""
    (result,) = yield (effect,)
    return cast("_R", result)


def together(*programs: Program[_T]) -> Program[tuple[_T, ...]]:
    """Step programs side by side, so that n of them cost one batch a step and not n; return their results in order."""
    returned: dict[int, _T] = {}
    waiting: dict[int, tuple[Effect[Any], ...]] = {}

    def step(index: int, results: Sequence[Any] | None) -> None:
        try:
            waiting[index] = programs[index].send(cast("Any", results))
        except StopIteration as stop:
            returned[index] = stop.value

    for index in range(len(programs)):
        step(index, None)
    while waiting:
        batches = dict(sorted(waiting.items()))
        waiting.clear()
        results = yield tuple(effect for batch in batches.values() for effect in batch)
        if len(results) != sum(map(len, batches.values())):
            raise ValueError("a batch of effects was answered by a batch of another length")
        start = 0
        for index, batch in batches.items():
            step(index, results[start : start + len(batch)])
            start += len(batch)
    return tuple(returned[index] for index in range(len(programs)))
