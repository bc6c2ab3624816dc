"""The plan for a next-hop: which hosts, in which order, and what each of them has to prove.

The level of a host follows from the outcome of the search for TLSA records (RFC 7672 section 2.2):

- `USABLE` records: TLS and DANE authentication (`dane`).
- only `UNUSABLE` ones: TLS without authentication (`encrypt`).
- `ABSENT` or insecure ones: opportunistic TLS, cleartext allowed (`may`).
- `ERROR`: the host is skipped. It is never read as absence.

`Config.dane` and `Config.insecure_mx` shift that: see `_decide`.

A message may wish for more (REQUIRETLS) or less (TLS-Required: No); see `_require_tls` and RFC 8689 section 4.2.2.

Then the MTA-STS policy in force adds its own conditions (RFC 8461 section 5): see `_decide_by_policy`. Hosts are
judged one by one in their order, never filtered out of the list beforehand (section 8.4).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, fields, frozen

from mailtlspolicy._times import later
from mailtlspolicy._words import Word
from mailtlspolicy.config import Config, Dane, InsecureMx, Sts, StsWithDane
from mailtlspolicy.dns.effects import MAX_TTL, FailureKind
from mailtlspolicy.dns.lookups import lowest_ttl
from mailtlspolicy.effects import Now, ask, together, within
from mailtlspolicy.levels import DUTIES, Duty, TlsLevel
from mailtlspolicy.plan.hosts import SkipReason, TlsaOutcome, TlsaSearch, find_addresses, find_tlsa
from mailtlspolicy.plan.mx import LOCAL_ERROR, Kind, Undeliverable, ourselves, resolve_mx
from mailtlspolicy.plan.values import Audit, Host, HostPlan, Observe, Plan, Skip, SkippedHost
from mailtlspolicy.sts.cache import StsFailure
from mailtlspolicy.sts.discovery import Discovered, discover
from mailtlspolicy.sts.policy import Mode
from mailtlspolicy.trace import Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailtlspolicy.effects import Program
    from mailtlspolicy.plan.mx import MxHost, MxResult, NextHop
    from mailtlspolicy.sts.values import Discovery


class Wish(Word):
    """What the originator of a message wishes of TLS (RFC 8689)."""

    NONE = "none"
    REQUIRETLS = "requiretls"
    TLS_OPTIONAL = "tls-optional"


NO_SEARCH = TlsaSearch(TlsaOutcome.ABSENT)
STS_LOOKUP_FAILED = Undeliverable("transient", "sts-lookup-failed", "4.4.3")

# RFC 7672 section 2.2, the four actions; an error has no level
LEVELS: dict[TlsaOutcome, TlsLevel | None] = {
    TlsaOutcome.USABLE: TlsLevel.DANE,
    TlsaOutcome.UNUSABLE: TlsLevel.ENCRYPT,
    TlsaOutcome.ABSENT: TlsLevel.MAY,
    TlsaOutcome.ERROR: None,
}


def plan(next_hop: NextHop, *, config: Config, requiretls: bool = False, tls_optional: bool = False) -> Program[Plan]:
    """Decide where mail for a next-hop may go (the program behind `Engine.plan`).

    Args:
        next_hop: where the mail is to go.
        config: what the operator chose.
        requiretls: the message requires TLS (RFC 8689 section 4.2.1).
        tls_optional: the message bears "TLS-Required: No" (section 4.2.2); void beside `requiretls` (section 4.1).
    """
    wish = Wish.REQUIRETLS if requiretls else Wish.TLS_OPTIONAL if tls_optional else Wish.NONE
    # `mandatory` is the operator's demand, not the recipient's (RFC 8689 section 4.2.2)
    dane = Dane.OFF if wish is Wish.TLS_OPTIONAL and config.dane is not Dane.MANDATORY else config.dane
    now = (yield from ask(Now())).wall
    seen = yield from within(config.max_plan_seconds, _search(next_hop, config, dane, wish))
    return _decide_all(next_hop, seen, dane, wish, _valid_until(seen, now))


@frozen
class _Seen:
    """What the DNS, the policy store and the policy host say of a next-hop; the decision is still to come."""

    found: MxResult
    discovered: Discovered = field(factory=Discovered)
    hosts: tuple[_Searched, ...] = ()


def _valid_until(seen: _Seen, now: datetime) -> datetime | None:
    """When something of what a plan rests on ceases to hold; None where nothing was asked."""
    sts = seen.discovered.known
    ttl = lowest_ttl(seen.found.ttl, seen.discovered.ttl, *(host.ttl for host in seen.hosts))
    if ttl is None:
        return None
    ends = [later(now, timedelta(seconds=min(max(ttl, 0), MAX_TTL)))]
    if sts is not None and sts.expires is not None:
        ends.append(sts.expires)
    if seen.discovered.again is not None:
        ends.append(seen.discovered.again)
    return min(ends)


def _search(next_hop: NextHop, config: Config, dane: Dane, wish: Wish) -> Program[_Seen]:
    found = yield from resolve_mx(next_hop, config)
    if found.undeliverable is not None:
        return _Seen(found)
    searches = together(*(_search_host(host, next_hop, found, config, dane) for host in found.hosts))
    if (spared := _without_discovery(next_hop, config, wish)) is not None:
        return _Seen(found, spared, (yield from searches))
    discovered, hosts = yield from together(discover(next_hop.name, config), searches)
    return _Seen(found, discovered, hosts)


def _decide_all(next_hop: NextHop, seen: _Seen, dane: Dane, wish: Wish, valid_until: datetime | None) -> Plan:
    found, sts = seen.found, seen.discovered.known
    trace = [*found.trace, *seen.discovered.trace]

    def planned(hosts: tuple[HostPlan | SkippedHost, ...], undeliverable: Undeliverable | None) -> Plan:
        return Plan(
            next_hop=next_hop,
            expanded_next_hop=found.expanded,
            mx_secure=found.secure,
            undeliverable=undeliverable,
            sts=sts,
            hosts=hosts,
            requiretls=wish is Wish.REQUIRETLS,
            tls_optional=wish is Wish.TLS_OPTIONAL,
            valid_until=valid_until,
            trace=tuple(trace),
        )

    if found.undeliverable is not None:
        return planned((), found.undeliverable)
    if sts is not None and sts.unknown:
        return planned((), LOCAL_ERROR if sts.failure is StsFailure.LOCAL_ERROR else STS_LOOKUP_FAILED)
    hosts = tuple(_decide(host, found, sts, dane) for host in seen.hosts)
    if wish is Wish.REQUIRETLS:
        unjudged = planned((), None)
        hosts = tuple(_require_tls(host, unjudged) for host in hosts)
    own = [host for host in seen.hosts if host.own_address is not None]
    if own and next_hop.kind in {Kind.DOMAIN, Kind.STATIC}:
        # of the whole list, before any host is judged by the policy (RFC 8461 section 8.4)
        best = min(own, key=lambda host: host.base.preference)
        hosts = tuple(host for host in hosts if host.preference < best.base.preference)
        trace.append(ourselves(best.base.preference, f"by the address {best.own_address} of {best.base.host}"))
    undeliverable = None if any(isinstance(host, HostPlan) for host in hosts) else _no_hosts(hosts, sts)
    return planned(hosts, undeliverable)


def _without_discovery(next_hop: NextHop, config: Config, wish: Wish) -> Discovered | None:
    """What discovery would say where no policy is to be looked for.

    Elsewhere the next-hop's name is the policy domain (RFC 8461 sections 1.1 and 3.4).
    """
    if next_hop.kind is Kind.LITERAL:  # section 3.4: an address has no policy
        return Discovered()
    if wish is Wish.TLS_OPTIONAL:
        step = Step("RFC 8689 section 4.2.2", "the message bears TLS-Required: No", "no policy is looked for")
        return Discovered(trace=(step,))
    if config.sts is Sts.OFF:
        return Discovered(trace=(Step("Config.sts", "MTA-STS is switched off", "no policy is looked for"),))
    return None


@frozen
class _Searched:
    """A host and what the DNS says of it; the decision is still to come."""

    base: Host
    own_address: str | None = None  # by which it is this system
    skip: Skip | None = None
    search: TlsaSearch = NO_SEARCH
    ttl: int | None = None


def _search_host(host: MxHost, next_hop: NextHop, found: MxResult, config: Config, dane: Dane) -> Program[_Searched]:
    """Look up the addresses and TLSA records of one host; it never affects another."""
    trace: list[Step] = []
    base = Host(host=host.name, preference=host.preference, port=next_hop.port, config=config)
    if next_hop.kind is Kind.LITERAL:
        return _search_literal(base)
    if not host.valid:
        step = Step("RFC 5321 section 5.1", f"{host.name!r} is not a host name", "the host is not used")
        return _Searched(evolve(base, trace=(step,)), skip=Skip(SkipReason.INVALID_HOST))
    addresses = yield from find_addresses(host.name, config, trace, chosen=next_hop.kind is not Kind.DOMAIN)
    if addresses.skip is not None:
        skip = Skip(addresses.skip, addresses.failure)
        return _Searched(evolve(base, trace=tuple(trace)), skip=skip, ttl=addresses.ttl)
    search = NO_SEARCH
    if config.dane is Dane.OFF:
        trace.append(Step("Config.dane", "DANE is switched off", "no TLSA lookup"))
    elif dane is Dane.OFF:
        trace.append(Step("RFC 8689 section 4.2.2", "the message bears TLS-Required: No", "no TLSA lookup"))
    elif _behind_insecure_mx(found) and config.insecure_mx is InsecureMx.MAY:
        trace.append(Step("Config.insecure_mx", "the MX RRset is insecure", "no TLSA lookup"))
    else:
        further = _further_reference_ids(host.name, next_hop, found)
        search = yield from find_tlsa(host.name, next_hop.port, addresses, further, config, trace)
    base = evolve(base, addresses=addresses.found, binding=search.binding, trace=tuple(trace))
    return _Searched(base, addresses.own, search=search, ttl=lowest_ttl(addresses.ttl, search.ttl))


def _search_literal(base: Host) -> _Searched:
    """An address has no name, so DANE does not apply to it (RFC 7672 section 2.2)."""
    version = 6 if ":" in base.host else 4
    if version not in base.config.ip_versions:
        step = Step("Config.ip_versions", f"IP version {version} is not in use", "the host is unreachable")
        return _Searched(evolve(base, trace=(step,)), skip=Skip(SkipReason.NO_ADDRESSES))
    return _Searched(evolve(base, addresses=(base.host,)))


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


def _decide(searched: _Searched, found: MxResult, sts: Discovery | None, dane: Dane) -> HostPlan | SkippedHost:
    """What was found of a host means for it: by DANE first (RFC 7672 sections 2.2, 2.2.1 and 6), then by the policy."""
    base, search, trace = searched.base, searched.search, list(searched.base.trace)
    policy = None if sts is None else sts.applied
    if policy is not None:
        base = evolve(base, sts_match=policy.allows(base.host))
    if searched.skip is not None:
        return _skipped(base, searched.skip, trace)
    level = LEVELS[search.outcome]
    if level is TlsLevel.DANE and _behind_insecure_mx(found) and base.config.insecure_mx is InsecureMx.ENCRYPT:
        trace.append(Step("Config.insecure_mx", "the MX RRset is insecure", "TLS is required, without authentication"))
        level = TlsLevel.ENCRYPT
    observed: tuple[Duty, ...] = ()
    if dane is Dane.AUDIT:
        base = _audited(base, level, search, trace)
        observed = (Duty.DANE,) if level is TlsLevel.DANE else ()
        level = TlsLevel.MAY
    if level is None:
        return _skipped(base, _skip_of(search), trace)
    if dane is Dane.MANDATORY and (level is not TlsLevel.DANE or not found.secure):
        why = "the choice of the host is insecure" if not found.secure else "no usable TLSA records bind the host"
        trace.append(Step("RFC 7672 section 6", f"DANE is mandatory, and {why}", "the host is not used"))
        return _skipped(base, Skip(SkipReason.DANE_REQUIRED), trace)
    if policy is not None:
        return _decide_by_policy(base, level, observed, policy.mode, found, trace)
    if level is TlsLevel.MAY:
        trace.append(Step("RFC 7672 section 2.2", "DANE does not apply", "opportunistic TLS, cleartext allowed"))
    return _used(base, level, DUTIES[level][0], observed, trace)


def _decide_by_policy(
    base: Host, level: TlsLevel, observed: tuple[Duty, ...], mode: Mode, found: MxResult, trace: list[Step]
) -> HostPlan | SkippedHost:
    """What a policy in force makes of the level that DANE gives (RFC 8461 sections 2, 4 and 5)."""
    duties = DUTIES[level][0]
    fact = f"{base.host} matches {'an' if base.sts_match else 'no'} mx pattern of the policy, whose mode is {mode}"
    if mode is Mode.TESTING:
        trace.append(Step("RFC 8461 section 5", fact, f"recorded, not enforced; the level stays {level}"))
        return _used(base, level, duties, (*observed, Duty.PKIX), trace)
    if level is TlsLevel.DANE and found.secure and base.config.sts_with_dane is StsWithDane.EXEMPT:
        trace.append(Step("Config.sts_with_dane", f"{fact}; DANE applies", "recorded, not enforced: DANE governs"))
        return _used(base, level, duties, (*observed, Duty.PKIX), trace)
    if not base.sts_match:
        trace.append(Step("RFC 8461 section 5", fact, "the host is not used"))
        return _skipped(base, Skip(SkipReason.STS_MX_MISMATCH), trace)
    trace.append(Step("RFC 8461 section 5", fact, "TLS is required, with a PKIX certificate for the MX hostname"))
    level = TlsLevel.DANE if level is TlsLevel.DANE else TlsLevel.SECURE
    return _used(base, level, (*duties, Duty.PKIX), observed, trace)


def _require_tls(host: HostPlan | SkippedHost, made: Plan) -> HostPlan | SkippedHost:
    """What REQUIRETLS demands beyond that: a secure choice of the host, and authentication (RFC 8689 section 4.2.1)."""
    if isinstance(host, SkippedHost):
        return host
    trace, clause = list(host.trace), "RFC 8689 section 4.2.1"
    if not made.vouches_for(host):
        trace.append(Step(clause, "neither DNSSEC nor a policy vouches for the choice of the host", "it is not used"))
        return _skipped(host, Skip(SkipReason.REQUIRETLS_UNMET), trace)
    if host.requires:
        trace.append(Step(clause, "the message requires TLS", "the server has to announce REQUIRETLS"))
        return evolve(host, requiretls=True, trace=tuple(trace))
    fact = "the message requires TLS, and neither TLSA records nor a policy authenticate the host"
    trace.append(Step(clause, fact, "PKIX does, and the server has to announce REQUIRETLS"))
    return evolve(host, level=TlsLevel.SECURE, requires=(Duty.PKIX,), requiretls=True, trace=tuple(trace))


def _audited(base: Host, level: TlsLevel | None, search: TlsaSearch, trace: list[Step]) -> Host:
    """RFC 7672 section 9.1: DANE stops nothing; what it would have given is recorded."""
    would_be = "a skipped host" if level is None else f"level {level}"
    trace.append(Step("RFC 7672 section 9.1", f"DANE is only audited; it would give {would_be}", "not enforced"))
    return evolve(base, audit=Audit(level, None if search.error is None else _skip_of(search)))


def _used(
    base: Host, level: TlsLevel, duties: tuple[Duty, ...], observed: tuple[Duty, ...], trace: list[Step]
) -> HostPlan:
    observe = None
    if observed:
        names = base.binding.reference_ids if Duty.DANE in observed and base.binding is not None else ()
        observe = Observe(observed, names, base.host if Duty.PKIX in observed else None)
    return HostPlan(level=level, requires=duties, observe=observe, **_fields(base, trace))


def _skipped(base: Host, skip: Skip, trace: list[Step]) -> SkippedHost:
    return SkippedHost(skip=skip, **_fields(base, trace))


def _skip_of(search: TlsaSearch) -> Skip:
    """Why a search that ended in an error keeps its host from being used."""
    assert search.error is not None
    return Skip(search.error, search.failure)


def _fields(base: Host, trace: list[Step]) -> dict[str, Any]:
    """What a host of any kind has in common with others."""
    return {attribute.name: getattr(base, attribute.name) for attribute in fields(Host)} | {"trace": tuple(trace)}


def _no_hosts(hosts: Sequence[HostPlan | SkippedHost], sts: Discovery | None) -> Undeliverable:
    """Why there is no host to try: permanent only where none of it can heal (RFC 5321 section 5.1)."""
    reasons = {host.skip.reason for host in hosts if host.skip is not None}
    if any(host.skip is not None and host.skip.failure is FailureKind.LOCAL for host in hosts):
        return LOCAL_ERROR
    if not reasons:  # only we ourselves take its mail: RFC 3463 X.4.6, routing loop detected
        return Undeliverable("permanent", "no-hosts", "5.4.6")
    if reasons <= {SkipReason.NO_ADDRESSES, SkipReason.INVALID_HOST}:
        return Undeliverable("permanent", "no-hosts", "5.4.4")
    if reasons == {SkipReason.REQUIRETLS_UNMET}:
        if sts is not None and sts.may_be_outdated:  # a policy that vouches for them, that is
            return Undeliverable("transient", "requiretls-unmet", "4.7.5")
        return Undeliverable("permanent", "requiretls-unmet", "5.7.10")  # RFC 8689 section 4.2.1
    if reasons & {SkipReason.ADDRESS_LOOKUP_FAILED, SkipReason.ALIAS_LOOKUP_FAILED}:
        return Undeliverable("transient", "no-hosts", "4.4.3")
    return Undeliverable("transient", "no-hosts", "4.7.5")
