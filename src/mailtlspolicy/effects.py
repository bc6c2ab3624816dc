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
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, overload

from attrs import frozen

from mailtlspolicy.words import Word

if TYPE_CHECKING:
    # the types alone: layers that stand above this one
    from mailtlspolicy.sts.cache import Entry
    from mailtlspolicy.tlsa import Tlsa

_R = TypeVar("_R")
_T = TypeVar("_T")
_U = TypeVar("_U")


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
class Fetch(Effect["Fetched | FetchFailure"]):
    """A policy to be fetched by HTTPS GET, which RFC 8461 section 3.3 surrounds with conditions.

    The certificate is valid for the policy host by a DNS-ID, and the SNI is that name; no redirect is followed, no
    HTTP cache used.

    Attributes:
        policy_host: the host to be asked, and the name for SNI and certificate.
        max_octets: a longer body is a failure.
        max_seconds: the time for all of it: lookups, connection, response.
    """

    policy_host: str
    max_octets: int
    max_seconds: int

    @property
    def url(self) -> str:
        """The URL (RFC 8461 section 3.2)."""
        return f"https://{self.policy_host}/.well-known/mta-sts.txt"


@frozen
class Fetched:
    """An HTTPS response, whatever its status, from a host with a valid certificate.

    Attributes:
        status: the HTTP status code.
        content_type: the Content-Type header as received, or None without one.
        body: the whole body, within the limits of the `Fetch`.
    """

    status: int
    content_type: str | None
    body: bytes


class FetchFailureKind(Word):
    """Why there is no HTTPS response. The first three are errors of the certificate, which reports keep apart."""

    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    DNS = "dns-error"
    ADDRESS = "address-refused"
    CONNECT = "connect-failed"
    TLS = "tls-failed"
    HTTP = "http-error"
    TOO_LONG = "body-too-long"
    TIMEOUT = "timeout"

    @property
    def is_webpki(self) -> bool:
        """Whether the certificate is to blame (RFC 8460 section 4.3.2.2, `sts-webpki-invalid`)."""
        return self.startswith("certificate-")


@frozen
class FetchFailure:
    """There is no response, or not all of it."""

    kind: FetchFailureKind
    detail: str = ""


@frozen
class StoreFailure:
    """A policy store that could not be read or written, or holds something that is no entry."""

    detail: str


@frozen
class LoadPolicy(Effect["Entry | StoreFailure | None"]):
    """What the policy store has of a policy domain."""

    domain: str


@frozen
class StorePolicy(Effect["StoreFailure | None"]):
    """Write an entry, merged with what the store has by then (`sts.cache.merge`)."""

    domain: str
    entry: Entry


@frozen
class DropPolicy(Effect["StoreFailure | None"]):
    """Remove an entry, unless the store has another by then."""

    domain: str
    entry: Entry


@frozen
class ListPolicies(Effect["PolicyPage | StoreFailure"]):
    """Some entries of the store, those after a cursor; "" stands for the beginning."""

    cursor: str = ""


@frozen
class PolicyPage:
    """Some entries of a policy store.

    Attributes:
        entries: policy domains and their entries; what is unreadable is left out and named in `failures`.
        cursor: stands for the next page, or None after the last.
        failures: domains whose entry is unreadable, and why.
    """

    entries: tuple[tuple[str, Entry], ...]
    cursor: str | None = None
    failures: tuple[tuple[str, StoreFailure], ...] = ()


def ask(effect: Effect[_R]) -> Program[_R]:
    """Yield one effect and return its result, typed."""
    (result,) = yield (effect,)
    return cast("_R", result)


@overload
def together(first: Program[_T], second: Program[_U], /) -> Program[tuple[_T, _U]]: ...


@overload
def together(*programs: Program[_T]) -> Program[tuple[_T, ...]]: ...


def together(*programs: Program[Any]) -> Program[tuple[Any, ...]]:
    """Step programs side by side, so that n of them cost one batch a step and not n; return their results in order."""
    returned: dict[int, Any] = {}
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
