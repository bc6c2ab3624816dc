"""The plan for a next-hop: which hosts, in which order, and what each of them has to prove.

The level of a host follows from the outcome of the search for TLSA records (RFC 7672 section 2.2):

- `USABLE` records: TLS and DANE authentication (`dane`).
- only `UNUSABLE` ones: TLS without authentication (`encrypt`).
- `ABSENT` or insecure ones: opportunistic TLS, cleartext allowed (`may`).
- `ERROR`: the host is skipped. It is never read as absence.

`Config.dane` and `Config.insecure_mx` shift that: see `_decide`.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import asdict, evolve

from mailtlspolicy.config import Config, Dane, InsecureMx
from mailtlspolicy.effects import MAX_TTL, Answer, together
from mailtlspolicy.hosts import SkipReason, TlsaOutcome, TlsaSearch, find_addresses, find_tlsa
from mailtlspolicy.levels import Duty, TlsLevel
from mailtlspolicy.mx import Kind, Undeliverable, ourselves, resolve_mx
from mailtlspolicy.plan_values import Audit, Host, HostPlan, Observe, Plan, Skip, SkippedHost
from mailtlspolicy.trace import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.effects import Effect, Program
    from mailtlspolicy.mx import MxHost, MxResult, NextHop, Shuffle

T = TypeVar("T")

# RFC 7672 section 2.2, the four actions; an error has no level
LEVELS: dict[TlsaOutcome, TlsLevel | None] = {
    TlsaOutcome.USABLE: TlsLevel.DANE,
    TlsaOutcome.UNUSABLE: TlsLevel.ENCRYPT,
    TlsaOutcome.ABSENT: TlsLevel.MAY,
    TlsaOutcome.ERROR: None,
}


def plan(next_hop: NextHop, *, now: datetime, config: Config, shuffle: Shuffle) -> Program[Plan]:
    """Decide where mail for a next-hop may go (the program behind `Engine.plan`).

    Args:
        next_hop: where the mail is to go.
        now: an aware time, from which `Plan.valid_until` counts.
        config: what the operator chose.
        shuffle: puts a list of hosts of equal preference into the order in which to try them, in place.

    Raises:
        ValueError: `now` is naive.
    """
    if now.utcoffset() is None:
        raise ValueError("now has to be an aware datetime")
    try:
        now = now.astimezone(timezone.utc)  # where no clock is put back
    except OverflowError:
        raise ValueError(f"there is no {now} in UTC") from None
    made, ttl = yield from _with_lowest_ttl(_plan(next_hop, config, shuffle))
    return made if ttl is None else evolve(made, valid_until=_later(now, ttl))


def _later(now: datetime, seconds: int) -> datetime:
    """The time so many seconds later, at most the last one that there is."""
    last = datetime.max.replace(tzinfo=timezone.utc)
    return now + min(timedelta(seconds=min(max(seconds, 0), MAX_TTL)), last - now)


def _plan(next_hop: NextHop, config: Config, shuffle: Shuffle) -> Program[Plan]:
    found = yield from resolve_mx(next_hop, config, shuffle)
    made = Plan(
        next_hop=next_hop,
        expanded_next_hop=found.expanded,
        mx_secure=found.secure,
        undeliverable=found.undeliverable,
        trace=found.trace,
    )
    if found.undeliverable is not None:
        return made
    planned = yield from together(*(_plan_host(host, next_hop, found, config) for host in found.hosts))
    hosts, trace = tuple(host for host, _ in planned), found.trace
    own = [host.preference for host, is_own in planned if is_own]
    if own and next_hop.kind in {Kind.DOMAIN, Kind.STATIC}:
        hosts, trace = tuple(host for host in hosts if host.preference < min(own)), (*trace, ourselves(min(own)))
    undeliverable = None if any(isinstance(host, HostPlan) for host in hosts) else _no_hosts(hosts)
    return evolve(made, hosts=hosts, undeliverable=undeliverable, trace=trace)


def _plan_host(
    host: MxHost, next_hop: NextHop, found: MxResult, config: Config
) -> Program[tuple[HostPlan | SkippedHost, bool]]:
    """Plan for one host; it never affects another. Returned with it is whether it is this system, by its addresses."""
    trace: list[Step] = []
    base = Host(host=host.name, preference=host.preference, port=next_hop.port, config=config)
    if next_hop.kind is Kind.LITERAL:
        return _plan_literal(base, found, trace), False
    if not host.valid:
        trace.append(Step("RFC 5321 section 5.1", f"{host.name!r} is not a host name", "the host is not used"))
        return _skipped(base, SkipReason.INVALID_HOST, trace), False
    addresses = yield from find_addresses(host.name, config, trace)
    if isinstance(addresses, SkipReason):
        return _skipped(base, addresses, trace), False
    base = evolve(base, addresses=addresses.found)
    if config.dane is Dane.OFF:
        trace.append(Step("Config.dane", "DANE is switched off", "no TLSA lookup"))
        search = TlsaSearch(TlsaOutcome.ABSENT)
    elif _behind_insecure_mx(found) and config.insecure_mx is InsecureMx.MAY:
        trace.append(Step("Config.insecure_mx", "the MX RRset is insecure", "no TLSA lookup"))
        search = TlsaSearch(TlsaOutcome.ABSENT)
    else:
        further = _further_reference_ids(host.name, next_hop, found)
        search = yield from find_tlsa(host.name, next_hop.port, addresses, further, config, trace)
    return _decide(evolve(base, binding=search.binding), search, found, trace), addresses.own


def _plan_literal(base: Host, found: MxResult, trace: list[Step]) -> HostPlan | SkippedHost:
    """An address has no name, so DANE does not apply to it (RFC 7672 section 2.2)."""
    version = 6 if ":" in base.host else 4
    if version not in base.config.ip_versions:
        trace.append(Step("Config.ip_versions", f"IP version {version} is not in use", "the host is unreachable"))
        return _skipped(base, SkipReason.NO_ADDRESSES, trace)
    return _decide(evolve(base, addresses=(base.host,)), TlsaSearch(TlsaOutcome.ABSENT), found, trace)


def _behind_insecure_mx(found: MxResult) -> bool:
    """Whether an insecure MX RRset chose the host; a domain without one is its own host (RFC 7672 section 2.2.2)."""
    return found.secure is False and not found.implicit


def _further_reference_ids(host: str, next_hop: NextHop, found: MxResult) -> tuple[str, ...]:
    """The reference identifiers beside the TLSA base domain: the cases of RFC 7672 section 3.2.2."""
    if found.implicit:  # no MX records: the name itself, where its expansion is the base
        return (host,)
    if not found.secure:  # the MX hostname only, by the base domain that it has: a forged MX must not gain a name
        return ()
    # Of a relay `next_hop.name` is the host itself, as it is without MX records.
    return (next_hop.name,) if found.expanded is None else (next_hop.name, found.expanded)


def _decide(base: Host, search: TlsaSearch, found: MxResult, trace: list[Step]) -> HostPlan | SkippedHost:
    """What the outcome of the TLSA search means for the host (RFC 7672 sections 2.2, 2.2.1, 6 and 9.1)."""
    config = base.config
    level = LEVELS[search.outcome]
    if level is TlsLevel.DANE and _behind_insecure_mx(found) and config.insecure_mx is InsecureMx.ENCRYPT:
        trace.append(Step("Config.insecure_mx", "the MX RRset is insecure", "TLS is required, without authentication"))
        level = TlsLevel.ENCRYPT
    if config.dane is Dane.AUDIT:
        return _audited(base, level, search, trace)
    if search.error is not None:
        return _skipped(base, search.error, trace)
    if config.dane is Dane.MANDATORY and (level is not TlsLevel.DANE or not found.secure):
        why = "the choice of the host is insecure" if not found.secure else "no usable TLSA records bind the host"
        trace.append(Step("RFC 7672 section 6", f"DANE is mandatory, and {why}", "the host is not used"))
        return _skipped(base, SkipReason.DANE_REQUIRED, trace)
    if level is TlsLevel.MAY:
        trace.append(Step("RFC 7672 section 2.2", "DANE does not apply", "opportunistic TLS, cleartext allowed"))
    return _used(base, level, trace)


def _audited(base: Host, level: TlsLevel | None, search: TlsaSearch, trace: list[Step]) -> HostPlan:
    """RFC 7672 section 9.1: DANE stops nothing; what it would have given is recorded."""
    would_be = "a skipped host" if level is None else f"level {level}"
    trace.append(Step("RFC 7672 section 9.1", f"DANE is only audited; it would give {would_be}", "cleartext allowed"))
    audit = Audit(level, None if search.error is None else Skip(search.error))
    observe = None
    if level is TlsLevel.DANE and base.binding is not None:
        observe = Observe((Duty.DANE,), base.binding.reference_ids)
    return _used(evolve(base, audit=audit), TlsLevel.MAY, trace, observe)


def _used(base: Host, level: TlsLevel | None, trace: list[Step], observe: Observe | None = None) -> HostPlan:
    if level is None:
        raise AssertionError("a failed lookup never becomes a usable host")
    return HostPlan(level=level, observe=observe, **_fields(base, trace))


def _skipped(base: Host, reason: SkipReason, trace: list[Step]) -> SkippedHost:
    return SkippedHost(skip=Skip(reason), **_fields(base, trace))


def _fields(base: Host, trace: list[Step]) -> dict[str, Any]:
    return asdict(evolve(base, trace=tuple(trace)), recurse=False)


def _no_hosts(hosts: Sequence[HostPlan | SkippedHost]) -> Undeliverable:
    """Why there is no host to try: permanent only where none of it can heal (RFC 5321 section 5.1)."""
    reasons = {host.skip.reason for host in hosts if host.skip is not None}
    if not reasons:  # only we ourselves take its mail: RFC 3463 X.4.6, routing loop detected
        return Undeliverable("permanent", "no-hosts", "5.4.6")
    if reasons <= {SkipReason.NO_ADDRESSES, SkipReason.INVALID_HOST}:
        return Undeliverable("permanent", "no-hosts", "5.4.4")
    if reasons & {SkipReason.ADDRESS_LOOKUP_FAILED, SkipReason.ALIAS_LOOKUP_FAILED}:
        return Undeliverable("transient", "no-hosts", "4.4.3")
    return Undeliverable("transient", "no-hosts", "4.7.5")


def _with_lowest_ttl(program: Program[T]) -> Program[tuple[T, int | None]]:
    """Pass a program's batches through and note the lowest TTL, in seconds, of what it was told; a failure has 0."""
    lowest: int | None = None
    results: Any = None
    while True:
        try:
            batch: tuple[Effect[Any], ...] = program.send(results)
        except StopIteration as stop:
            return stop.value, lowest
        results = yield batch
        for result in results:
            ttl = result.ttl if isinstance(result, Answer) else 0
            lowest = ttl if lowest is None else min(lowest, ttl)
