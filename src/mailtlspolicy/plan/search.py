"""The plan for a next-hop: the program that looks up what the decision takes, all hosts and the policy side by side.

Which hosts there are, what the DNS says of each, and which policy is in force. What follows is decided in `decide`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from mailtlspolicy.config import Config, DaneMode, InsecureMx, Sts
from mailtlspolicy.dns.lookups import lowest_ttl
from mailtlspolicy.effects import Now, ask, together, within
from mailtlspolicy.plan.decide import NO_SEARCH, Found, SearchedHost, Wish, decide, is_behind_insecure_mx
from mailtlspolicy.plan.hosts import SkipReason, find_addresses, find_tlsa
from mailtlspolicy.plan.mx import Kind, resolve_mx
from mailtlspolicy.plan.values import Host, Plan, Skip
from mailtlspolicy.sts.discovery import Discovered, discover
from mailtlspolicy.trace import Step

if TYPE_CHECKING:
    from mailtlspolicy.effects import Program
    from mailtlspolicy.plan.mx import MxHost, MxResult, NextHop


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
    dane_mode = DaneMode.OFF if wish is Wish.TLS_OPTIONAL and config.dane is not DaneMode.MANDATORY else config.dane
    now = (yield from ask(Now())).wall
    found = yield from within(config.max_plan_seconds, _search(next_hop, config, dane_mode, wish))
    return decide(next_hop, found, config, dane_mode, wish, now)


def _search(next_hop: NextHop, config: Config, dane_mode: DaneMode, wish: Wish) -> Program[Found]:
    mx = yield from resolve_mx(next_hop, config)
    if mx.undeliverable is not None:
        return Found(mx)
    searches = together(*(_search_host(host, next_hop, mx, config, dane_mode) for host in mx.hosts))
    if (spared := _without_discovery(next_hop, config, wish)) is not None:
        return Found(mx, spared, (yield from searches))
    discovered, hosts = yield from together(discover(next_hop.name, config), searches)
    return Found(mx, discovered, hosts)


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


def _search_host(
    host: MxHost, next_hop: NextHop, mx: MxResult, config: Config, dane_mode: DaneMode
) -> Program[SearchedHost]:
    """Look up the addresses and TLSA records of one host; it never affects another."""
    trace: list[Step] = []
    base = Host(host=host.name, preference=host.preference, port=next_hop.port, config=config)
    if next_hop.kind is Kind.LITERAL:
        return _search_literal(base)
    if not host.valid:
        step = Step("RFC 5321 section 5.1", f"{host.name!r} is not a host name", "the host is not used")
        return SearchedHost(evolve(base, trace=(step,)), skip=Skip(SkipReason.INVALID_HOST))
    addresses = yield from find_addresses(host.name, config, trace, chosen=next_hop.kind is not Kind.DOMAIN)
    if addresses.skip is not None:
        skip = Skip(addresses.skip, addresses.failure)
        return SearchedHost(evolve(base, trace=tuple(trace)), skip=skip, ttl=addresses.ttl)
    search = NO_SEARCH
    if config.dane is DaneMode.OFF:
        trace.append(Step("Config.dane", "DANE is switched off", "no TLSA lookup"))
    elif dane_mode is DaneMode.OFF:
        trace.append(Step("RFC 8689 section 4.2.2", "the message bears TLS-Required: No", "no TLSA lookup"))
    elif is_behind_insecure_mx(mx) and config.insecure_mx is InsecureMx.MAY:
        trace.append(Step("Config.insecure_mx", "the MX RRset is insecure", "no TLSA lookup"))
    else:
        further = _further_reference_ids(host.name, next_hop, mx)
        search = yield from find_tlsa(host.name, next_hop.port, addresses, further, config, trace)
    base = evolve(base, addresses=addresses.found, binding=search.binding, trace=tuple(trace))
    return SearchedHost(base, addresses.own, search=search, ttl=lowest_ttl(addresses.ttl, search.ttl))


def _search_literal(base: Host) -> SearchedHost:
    """An address has no name, so DANE does not apply to it (RFC 7672 section 2.2)."""
    version = 6 if ":" in base.host else 4
    if version not in base.config.ip_versions:
        step = Step("Config.ip_versions", f"IP version {version} is not in use", "the host is unreachable")
        return SearchedHost(evolve(base, trace=(step,)), skip=Skip(SkipReason.NO_ADDRESSES))
    return SearchedHost(evolve(base, addresses=(base.host,)))


def _further_reference_ids(host: str, next_hop: NextHop, mx: MxResult) -> tuple[str, ...]:
    """The reference identifiers beside the TLSA base domain: the cases of RFC 7672 section 3.2.2."""
    if mx.implicit:  # no MX records: the name itself, where its expansion is the base
        return (host,)
    if not mx.secure:  # the MX hostname only, by the base domain that it has: a forged MX must not gain a name
        return ()
    # Of a relay `next_hop.name` is the host itself, as it is without MX records.
    return (next_hop.name,) if mx.expanded is None else (next_hop.name, mx.expanded)
