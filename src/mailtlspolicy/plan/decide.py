"""What the DNS and the policy say of a next-hop, and what follows for its hosts: pure rules, one host at a time.

The level of a host follows from the outcome of the search for TLSA records (RFC 7672 section 2.2):

- `USABLE` records: TLS and DANE authentication (`dane`).
- only `UNUSABLE` ones: TLS without authentication (`encrypt`).
- `ABSENT` or insecure ones: opportunistic TLS, cleartext allowed (`may`).
- `ERROR`: the host is skipped. It is never read as absence.

`Config.dane` and `Config.insecure_mx` shift that (sections 2.2.1, 6 and 9.1): `decide_host`.
Then the MTA-STS policy in force adds its own conditions (RFC 8461 section 5): `decide_by_policy`. Hosts are judged one
by one in their order, never filtered out of the list beforehand (section 8.4).
A message may wish for more: REQUIRETLS (RFC 8689 section 4.2.1), `require_tls`. What one with TLS-Required: No does
without (section 4.2.2) was not searched for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, fields, frozen

from mailtlspolicy._times import later
from mailtlspolicy._words import Word
from mailtlspolicy.config import DaneMode, InsecureMx, StsWithDane
from mailtlspolicy.dns.effects import MAX_TTL, FailureKind
from mailtlspolicy.dns.lookups import lowest_ttl
from mailtlspolicy.levels import DUTIES, DUTIES_BESIDE_POLICY, Duty, TlsLevel
from mailtlspolicy.plan.hosts import SkipReason, TlsaOutcome, TlsaSearch
from mailtlspolicy.plan.mx import LOCAL_ERROR, Kind, Undeliverable, ourselves
from mailtlspolicy.plan.values import Audit, Host, HostPlan, Observe, Plan, Skip, SkippedHost
from mailtlspolicy.sts.cache import StsFailure
from mailtlspolicy.sts.discovery import Discovered
from mailtlspolicy.sts.policy import Mode
from mailtlspolicy.trace import Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailtlspolicy.config import Config
    from mailtlspolicy.plan.mx import MxResult, NextHop
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


@frozen
class SearchedHost:
    """A host and what the DNS says of it; the decision is still to come."""

    base: Host
    own_address: str | None = None  # by which it is this system
    skip: Skip | None = None
    search: TlsaSearch = NO_SEARCH
    ttl: int | None = None


@frozen
class Found:
    """What the DNS, the policy store and the policy host say of a next-hop; the decision is still to come."""

    mx: MxResult
    discovered: Discovered = field(factory=Discovered)
    hosts: tuple[SearchedHost, ...] = ()


def decide(next_hop: NextHop, found: Found, config: Config, dane_mode: DaneMode, wish: Wish, now: datetime) -> Plan:
    """The plan that follows from what was found.

    Args:
        next_hop: where the mail is to go.
        found: what was found of it, under this wish and this mode.
        config: what the operator chose.
        dane_mode: `Config.dane`, or what the wish leaves of it.
        wish: what the message wishes.
        now: the aware time at which the search began.
    """
    mx, sts = found.mx, found.discovered.known
    trace = [*mx.trace, *found.discovered.trace]

    def planned(hosts: tuple[HostPlan | SkippedHost, ...], undeliverable: Undeliverable | None) -> Plan:
        return Plan(
            next_hop=next_hop,
            expanded_next_hop=mx.expanded,
            mx_secure=mx.secure,
            undeliverable=undeliverable,
            sts=sts,
            hosts=hosts,
            requiretls=wish is Wish.REQUIRETLS,
            tls_optional=wish is Wish.TLS_OPTIONAL,
            valid_until=_valid_until(found, now),
            config=config,
            trace=tuple(trace),
        )

    if mx.undeliverable is not None:
        return planned((), mx.undeliverable)
    if sts is not None and sts.unknown:
        return planned((), LOCAL_ERROR if sts.failure is StsFailure.LOCAL_ERROR else STS_LOOKUP_FAILED)
    hosts = tuple(decide_host(host, mx, sts, dane_mode) for host in found.hosts)
    if wish is Wish.REQUIRETLS:
        unjudged = planned((), None)
        hosts = tuple(require_tls(host, unjudged) for host in hosts)
    own = [host for host in found.hosts if host.own_address is not None]
    if own and next_hop.kind in {Kind.DOMAIN, Kind.STATIC}:
        # of the whole list, before any host is judged by the policy (RFC 8461 section 8.4)
        best = min(own, key=lambda host: host.base.preference)
        hosts = tuple(host for host in hosts if host.preference < best.base.preference)
        trace.append(ourselves(best.base.preference, f"by the address {best.own_address} of {best.base.host}"))
    undeliverable = None if any(isinstance(host, HostPlan) for host in hosts) else _no_hosts(hosts, sts)
    return planned(hosts, undeliverable)


def decide_host(
    searched: SearchedHost, mx: MxResult, sts: Discovery | None, dane_mode: DaneMode
) -> HostPlan | SkippedHost:
    """What follows for one host: by DANE first (RFC 7672 sections 2.2, 2.2.1 and 6), then by the policy."""
    base, search, trace = searched.base, searched.search, list(searched.base.trace)
    policy = None if sts is None else sts.applied
    if policy is not None:
        base = evolve(base, sts_match=policy.allows(base.host))
    if searched.skip is not None:
        return _skipped(base, searched.skip, trace)
    level = LEVELS[search.outcome]
    if level is TlsLevel.DANE and is_behind_insecure_mx(mx) and base.config.insecure_mx is InsecureMx.ENCRYPT:
        trace.append(Step("Config.insecure_mx", "the MX RRset is insecure", "TLS is required, without authentication"))
        level = TlsLevel.ENCRYPT
    observed: tuple[Duty, ...] = ()
    if dane_mode is DaneMode.AUDIT:
        base = _audited(base, level, search, trace)
        observed = (Duty.DANE,) if level is TlsLevel.DANE else ()
        level = TlsLevel.MAY
    if level is None:
        return _skipped(base, _skip_of(search), trace)
    if dane_mode is DaneMode.MANDATORY and (level is not TlsLevel.DANE or not mx.secure):
        why = "the choice of the host is insecure" if not mx.secure else "no usable TLSA records bind the host"
        trace.append(Step("RFC 7672 section 6", f"DANE is mandatory, and {why}", "the host is not used"))
        return _skipped(base, Skip(SkipReason.DANE_REQUIRED), trace)
    if policy is not None:
        return decide_by_policy(base, level, observed, policy.mode, mx, trace)
    if level is TlsLevel.MAY:
        trace.append(Step("RFC 7672 section 2.2", "DANE does not apply", "opportunistic TLS, cleartext allowed"))
    return _used(base, level, DUTIES[level], observed, trace)


def decide_by_policy(
    base: Host, level: TlsLevel, observed: tuple[Duty, ...], mode: Mode, mx: MxResult, trace: list[Step]
) -> HostPlan | SkippedHost:
    """What a policy in force makes of the level that DANE gives (RFC 8461 sections 2, 4 and 5)."""
    duties = DUTIES[level]
    fact = f"{base.host} matches {'an' if base.sts_match else 'no'} mx pattern of the policy, whose mode is {mode}"
    if mode is Mode.TESTING:
        trace.append(Step("RFC 8461 section 5", fact, f"recorded, not enforced; the level stays {level}"))
        return _used(base, level, duties, (*observed, Duty.PKIX), trace)
    if level is TlsLevel.DANE and mx.secure and base.config.sts_with_dane is StsWithDane.EXEMPT:
        trace.append(Step("Config.sts_with_dane", f"{fact}; DANE applies", "recorded, not enforced: DANE governs"))
        return _used(base, level, duties, (*observed, Duty.PKIX), trace)
    if not base.sts_match:
        trace.append(Step("RFC 8461 section 5", fact, "the host is not used"))
        return _skipped(base, Skip(SkipReason.STS_MX_MISMATCH), trace)
    trace.append(Step("RFC 8461 section 5", fact, "TLS is required, with a PKIX certificate for the MX hostname"))
    if level is TlsLevel.DANE:
        return _used(base, level, DUTIES_BESIDE_POLICY, observed, trace)
    return _used(base, TlsLevel.SECURE, DUTIES[TlsLevel.SECURE], observed, trace)


def require_tls(host: HostPlan | SkippedHost, made: Plan) -> HostPlan | SkippedHost:
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
    wording = "a skipped host" if level is None else f"level {level}"
    trace.append(Step("RFC 7672 section 9.1", f"DANE is only audited; it would give {wording}", "not enforced"))
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


def is_behind_insecure_mx(mx: MxResult) -> bool:
    """Whether an insecure MX RRset chose the host; a domain without one is its own host (RFC 7672 section 2.2.2)."""
    return mx.secure is False and not mx.implicit


def _valid_until(found: Found, now: datetime) -> datetime | None:
    """When something of what a plan rests on ceases to hold; None where nothing was asked."""
    sts = found.discovered.known
    ttl = lowest_ttl(found.mx.ttl, found.discovered.ttl, *(host.ttl for host in found.hosts))
    if ttl is None:
        return None
    ends = [later(now, timedelta(seconds=min(max(ttl, 0), MAX_TTL)))]
    if sts is not None and sts.expires is not None:
        ends.append(sts.expires)
    if found.discovered.again is not None:
        ends.append(found.discovered.again)
    return min(ends)
