"""From a next-hop to the SMTP servers that take its mail, in order, and whether that choice is secure.

RFC 5321 section 5.1, RFC 7505 and RFC 7672 section 2.2.1:

- A relay and an address literal are servers themselves; only a domain has its MX records looked up.
- An alias in front of the MX records is followed; the original and the expanded next-hop are both kept.
- A lookup that fails delays the mail. A domain that does not exist is an error. An empty list makes the domain its own
  server (implicit MX), and only then.
- A lone "." takes no mail (null MX); beside other hosts it is dropped, since RFC 7505 section 3 forbids the mix but
  gives no rule for it.
- Hosts are ordered by preference, shuffled among equals, and never reordered by security.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from attrs import Attribute, evolve, field, frozen

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._validators import instance_of
from mailtlspolicy._words import Word
from mailtlspolicy.dns.effects import FailureKind, LookupFailure, Mx, RecordType
from mailtlspolicy.dns.lookups import lookup
from mailtlspolicy.effects import BrokenContract, Effect, ask
from mailtlspolicy.names import canonical, canonical_address, is_address
from mailtlspolicy.trace import Step, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailtlspolicy.config import Config
    from mailtlspolicy.dns.effects import Answer
    from mailtlspolicy.effects import Program

SMTP_PORT = 25


class Kind(Word):
    """What a next-hop is."""

    DOMAIN = "domain"
    RELAY = "relay"
    LITERAL = "literal"
    STATIC = "static"


class InvalidNextHop(ValueError):  # noqa: N818  # the name says what is wrong
    """A next-hop that is none: no domain name, relay, address literal or list of MX hosts. The message says why.

    So that one recipient who can not be is told from a configuration that can not work (`config.Misconfigured`).
    """


@frozen
class MxHost:
    """One SMTP server of a next-hop.

    Attributes:
        name: the MX hostname in canonical form; an address where the next-hop is a literal; the published text where
            that is not a host name.
        preference: the MX preference, 0 where there is no MX record.
        valid: whether `name` is a name that can be looked up.
    """

    name: str
    preference: int = field(default=0, validator=instance_of(int))
    valid: bool = True


@frozen
class Shuffle(Effect["tuple[MxHost, ...]"]):
    """Put hosts of equal preference into random order (RFC 5321 section 5.1)."""

    performer = "shuffle"
    answers = (tuple,)

    hosts: tuple[MxHost, ...]


@frozen
class NextHop:
    """Where mail is to go: a recipient domain, a relay, an address literal or an operator's list of MX hosts.

    Use `parse` or `static` to make one.

    Attributes:
        kind: which of the four.
        name: the domain, the relay's host name (both canonical) or the address.
        port: TCP port of the servers.
        hosts: the operator's MX hosts (`static` only).
        secure: whether the operator vouches for that list.
    """

    kind: Kind = field(converter=Kind)
    name: str
    port: int = field(default=SMTP_PORT)
    hosts: tuple[MxHost, ...] = ()
    secure: bool = field(default=True, validator=instance_of(bool))

    @port.validator
    def _check_port(self, _: Attribute[int], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
            raise InvalidNextHop(f"a port is a number from 1 to 65535, not {value!r}")

    def __attrs_post_init__(self) -> None:
        as_written = canonical_address if self.kind is Kind.LITERAL else canonical
        if self.name != _as_next_hop(as_written, self.name):
            raise InvalidNextHop(f"{self.name!r} is not in canonical form: use NextHop.parse or NextHop.static")
        if bool(self.hosts) != (self.kind is Kind.STATIC):
            raise InvalidNextHop("a static list of MX hosts names at least one host, and nothing else has such a list")

    @classmethod
    def parse(cls, text: str) -> NextHop:
        """Read "client.example", "[192.0.2.1]", "[IPv6:2001:db8::1]" or "[relay.example]", the latter with ":port".

        Raises:
            InvalidNextHop: none of these; the message says what is wrong.
        """
        if not isinstance(text, str):
            raise TypeError(f"a next-hop is a str or a NextHop, not {type(text).__name__}")
        if not text.startswith("["):
            return cls(Kind.DOMAIN, _as_next_hop(canonical, text))
        match = re.fullmatch(r"\[([^\[\]]*)\](?::([0-9]{1,5}))?", text)
        if match is None:
            raise InvalidNextHop(f"{text[:80]!r} is neither [host], [host]:port nor an address literal")
        inside, port = match[1], int(match[2] or SMTP_PORT)
        if inside[:5].lower() == "ipv6:":
            return cls(Kind.LITERAL, _as_next_hop(_ipv6, inside[5:]), port)
        if is_address(inside):
            return cls(Kind.LITERAL, _as_next_hop(canonical_address, inside), port)
        return cls(Kind.RELAY, _as_next_hop(canonical, inside), port)

    @classmethod
    def static(
        cls, domain: str, hosts: Iterable[tuple[int, str]], *, secure: bool = True, port: int = SMTP_PORT
    ) -> NextHop:
        """A domain whose (preference, host name) list the operator knows; no MX record is looked up.

        Args:
            domain: the recipient domain.
            hosts: the list, as MX records would give it.
            secure: whether the operator vouches for it, which makes it worth a secure MX RRset.
            port: TCP port of the servers.

        Raises:
            InvalidNextHop: a name is malformed, or the list is empty.
        """
        listed = tuple(MxHost(_as_next_hop(canonical, name), preference) for preference, name in hosts)
        return cls(Kind.STATIC, _as_next_hop(canonical, domain), port, listed, secure)

    def __str__(self) -> str:
        if self.kind in {Kind.DOMAIN, Kind.STATIC}:
            return self.name
        inside = f"IPv6:{self.name}" if ":" in self.name else self.name
        return f"[{inside}]" if self.port == SMTP_PORT else f"[{inside}]:{self.port}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "name": self.name,
            "port": self.port,
            "hosts": [[host.preference, host.name] for host in self.hosts],
            "secure": self.secure,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NextHop:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        hosts = tuple(MxHost(name, preference) for preference, name in data["hosts"])
        return cls(Kind(data["kind"]), data["name"], data["port"], hosts, data["secure"])


@frozen
class Undeliverable:
    """Why no host can be tried.

    Attributes:
        kind: `permanent` returns the mail, `transient` keeps it for a later attempt.
        reason: one of the contract's words.
        status: the RFC 3463 status code to give the queue.
    """

    kind: str
    reason: str
    status: str

    @property
    def reply_code(self) -> int:
        """The SMTP reply code for a recipient refused for this: 556 for a null MX (RFC 7505 section 4.1)."""
        if self.reason == "null-mx":
            return 556
        return 550 if self.kind == "permanent" else 450

    def to_json(self) -> dict[str, str]:
        """The JSON form of the contract."""
        return {"kind": self.kind, "reason": self.reason, "status": self.status}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Undeliverable:
        """Read what `to_json` wrote; anything else raises `KeyError` or `TypeError`."""
        return cls(data["kind"], data["reason"], data["status"])


LOCAL_ERROR = Undeliverable("transient", "local-error", "4.3.0")  # our own want of something (RFC 3463 section 3.4)


@frozen
class MxResult:
    """The servers of a next-hop, best first, or why there are none.

    Attributes:
        hosts: in the order in which they are to be tried.
        secure: the choice of hosts is secure; None where the lookup failed.
        expanded: the fully expanded next-hop where that is an alias.
        implicit: there are no MX records, the domain is its own server.
        undeliverable: why there is no host.
        ttl: seconds for which the DNS says so, 0 where it said nothing; None where it was not asked.
        trace: the steps that led here.
    """

    hosts: tuple[MxHost, ...] = ()
    secure: bool | None = None
    expanded: str | None = None
    implicit: bool = False
    undeliverable: Undeliverable | None = None
    ttl: int | None = None
    trace: tuple[Step, ...] = ()


def resolve_mx(next_hop: NextHop, config: Config) -> Program[MxResult]:
    """Find the SMTP servers of a next-hop (RFC 5321 section 5.1, RFC 7672 section 2.2.1)."""
    if next_hop.kind is Kind.LITERAL:
        step = Step(
            "RFC 7672 section 2.2", f"{next_hop} is an address literal", "no MX lookup, and DANE does not apply"
        )
        return MxResult((MxHost(next_hop.name),), secure=False, trace=(step,))
    if next_hop.kind is Kind.RELAY:
        step = Step("RFC 7672 section 2.2.2", f"{next_hop} is a relay chosen by the operator", "no MX lookup")
        return MxResult((MxHost(next_hop.name),), secure=True, trace=(step,))
    if next_hop.kind is Kind.STATIC:
        wording = "secure" if next_hop.secure else "insecure"
        step = Step("RFC 7672 section 2.2.1", f"the MX hosts of {next_hop} were declared {wording}", "no MX lookup")
        found = MxResult(secure=next_hop.secure, trace=(step,))
        return (yield from _in_order(next_hop.hosts, found, config))
    answer = yield from lookup(next_hop.name, RecordType.MX, config)
    if isinstance(answer, LookupFailure):
        return _failed(next_hop, answer)
    return (yield from _from_answer(next_hop, answer, config))


def _failed(next_hop: NextHop, failure: LookupFailure) -> MxResult:
    """A lookup that does not tell the servers delays the mail (RFC 7672 section 2.1.2)."""
    fact = f"the MX lookup of {next_hop} failed ({failure.kind})"
    if failure.kind is FailureKind.LOOP:
        step = Step("RFC 7672 section 2.1.3", fact, "the mail is delayed")
        return MxResult(undeliverable=Undeliverable("transient", "alias-loop", "4.4.6"), ttl=0, trace=(step,))
    step = Step("RFC 7672 section 2.1.2", fact, "the mail is delayed")
    why = LOCAL_ERROR if failure.kind is FailureKind.LOCAL else Undeliverable("transient", "mx-lookup-failed", "4.4.3")
    return MxResult(undeliverable=why, ttl=0, trace=(step,))


def _from_answer(next_hop: NextHop, answer: Answer, config: Config) -> Program[MxResult]:
    expanded = _expanded(answer)
    steps = tuple(_alias_step(next_hop, expanded))
    found = MxResult(secure=answer.secure, expanded=expanded, ttl=answer.ttl, trace=steps)
    wording = "secure" if answer.secure else "insecure"
    if answer.nxdomain:
        step = Step("RFC 5321 section 5.1", f"{answer.name} does not exist ({wording})", "the mail is returned")
        return _undeliverable(found, step, Undeliverable("permanent", "no-such-domain", "5.1.2"))
    records = [record for record in answer.records if isinstance(record, Mx)]
    if not records:
        fact, effect = f"{answer.name} has no MX records ({wording})", f"{next_hop} is its own server"
        step = Step("RFC 5321 section 5.1", fact, effect)
        found = evolve(found, implicit=True, trace=(*found.trace, step))
        return (yield from _in_order([MxHost(next_hop.name)], found, config))
    named = [record for record in records if record.exchange not in {".", ""}]
    if not named:
        step = Step("RFC 7505 section 3", f"the only exchange of {answer.name} is the root", "the mail is returned")
        return _undeliverable(found, step, Undeliverable("permanent", "null-mx", "5.1.10"))
    fact = f"{answer.name} has {counted(len(records), 'MX record')} ({wording})"
    steps = (*found.trace, Step("RFC 7672 section 2.2.1", fact, "sorted"))
    if len(named) < len(records):
        steps = (*steps, Step("RFC 7505 section 3", "a null MX stands beside MX hosts", "it is dropped"))
    hosts = [_mx_host(record) for record in named]
    return (yield from _in_order(hosts, evolve(found, trace=steps), config))


def _expanded(answer: Answer) -> str | None:
    """The fully expanded next-hop; None where it is no alias."""
    if not answer.aliases:
        return None
    try:
        return canonical(answer.name)
    except ValueError:  # no host name, and so no reference identifier either; it stands as published
        return answer.name


def _alias_step(next_hop: NextHop, expanded: str | None) -> Iterable[Step]:
    if expanded is not None:
        yield Step("RFC 5321 section 5.1", f"{next_hop} is an alias of {expanded}", "its MX records are used")


def _undeliverable(found: MxResult, step: Step, undeliverable: Undeliverable) -> MxResult:
    return evolve(found, undeliverable=undeliverable, trace=(*found.trace, step))


def _mx_host(record: Mx) -> MxHost:
    try:
        return MxHost(canonical(record.exchange), record.preference)
    except ValueError:  # RFC 5321 section 5.1: the exchange is a domain name; this one can not be
        return MxHost(record.exchange.lower().removesuffix("."), record.preference, valid=False)


def _in_order(hosts: Iterable[MxHost], found: MxResult, config: Config) -> Program[MxResult]:
    """Sort by preference, shuffle among equals, merge duplicates at their best preference (RFC 5321 section 5.1)."""
    best: dict[str, MxHost] = {}
    for host in hosts:
        if host.name not in best or host.preference < best[host.name].preference:
            best[host.name] = host
    ordered: list[MxHost] = []
    for _, group in groupby(sorted(best.values(), key=_preference), key=_preference):
        equals = tuple(group)
        ordered += equals if len(equals) == 1 else (yield from _shuffled(equals))
    trace = found.trace
    own = [host.preference for host in ordered if host.name in config.own_names]
    if own:  # before the list is cut, so that we are found wherever we stand
        trace = (*trace, ourselves(min(own), "by name"))
        ordered = [host for host in ordered if host.preference < min(own)]
    if len(ordered) > config.max_mx_hosts:
        fact = f"{len(ordered)} MX hosts are more than max_mx_hosts"
        trace = (*trace, Step("Config.max_mx_hosts", fact, f"the best {config.max_mx_hosts} are planned for"))
    return evolve(found, hosts=tuple(ordered[: config.max_mx_hosts]), trace=trace)


def _shuffled(hosts: tuple[MxHost, ...]) -> Program[tuple[MxHost, ...]]:
    effect = Shuffle(hosts)
    shuffled = yield from ask(effect)
    if len(shuffled) != len(hosts) or set(shuffled) != set(hosts):
        raise BrokenContract(effect.performer, effect, "something else than the same hosts in another order")
    return shuffled


def ourselves(preference: int, how: str) -> Step:
    """The step that drops our own host and all of its preference or worse: mail would loop (RFC 5321 section 5.1)."""
    fact = f"this system is listed at preference {preference}, {how}"
    return Step("RFC 5321 section 5.1", fact, "hosts of this preference and above are dropped")


def _preference(host: MxHost) -> int:
    return host.preference


def _as_next_hop(read: Callable[[str], str], text: str) -> str:
    try:
        return read(text)
    except ValueError as error:
        raise InvalidNextHop(str(error)) from None


def _ipv6(text: str) -> str:
    address = canonical_address(text)
    if ":" not in address:
        raise ValueError(f"{text[:80]!r} is not an IPv6 address")
    return address
