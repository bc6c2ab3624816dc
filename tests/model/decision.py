"""From a finite world to a plan: which hosts, at which level, under which names.

Rules read from RFC 5321 section 5.1, RFC 7505, RFC 7672 sections 2 and 3.2.2, RFC 8461 sections 4, 5 and 7.1, RFC 8689
section 4.2, and from the numbered choices of `docs/choices.md`. Each row of a table names its source.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.model.worlds import (
    DOMAIN,
    IMPLICIT,
    USABLE,
    Host,
    TlsaKind,
    World,
    addresses,
    alias_names,
    host_name,
    next_hop_name,
)


class Undeliverable(NamedTuple):
    kind: str
    reason: str
    status: str


class HostPlan(NamedTuple):
    """What is decided of one host. A skipped one has `skip` and no level."""

    position: int
    host: str
    addresses: tuple[str, ...]
    skip: str | None
    level: str | None
    requires: tuple[str, ...] = ()
    base_domain: str | None = None
    records: TlsaKind | None = None  # at the base domain
    sni: str | None = None
    reference_ids: tuple[str, ...] = ()
    sts_match: bool | None = None
    audit: tuple[str | None, str | None] | None = None  # level and skip that DANE would have given
    observe: tuple[str, ...] = ()  # duties that are judged and stop nothing
    dane_names: tuple[str, ...] = ()  # what DANE-TA accepts, required or observed
    common_name: bool = False  # a Common Name will do for PKIX
    chosen: bool = False  # the host was chosen securely

    @property
    def cleartext(self) -> bool:
        return self.level == "may"


class Plan(NamedTuple):
    next_hop: str
    expanded: str | None
    mx_secure: bool | None
    undeliverable: Undeliverable | None
    hosts: tuple[HostPlan, ...]
    sts_asked: bool  # whether the plan has an `sts` at all
    sts_mode: str | None
    sts_failure: str | None


# --- The MX step -----------------------------------------------------------------------------------------------------

MX_ENDS = {
    # RFC 7672 section 2.1.2, RFC 5321 section 5.1: a temporary error delays
    "failing": Undeliverable("transient", "mx-lookup-failed", "4.4.3"),
    # design, "Undeliverable"; choices, "Smaller ones"
    "loop": Undeliverable("transient", "alias-loop", "4.4.6"),
    # RFC 7505 sections 3 and 4
    "null": Undeliverable("permanent", "null-mx", "5.1.10"),
    # RFC 5321 section 5.1, choice 5
    "no-domain": Undeliverable("permanent", "no-such-domain", "5.1.2"),
}

MX_SECURE = {
    "secure": True,  # RFC 7672 section 2.2.1
    "secure-and-root": True,  # choice 6: the root is dropped, the rest stands
    "insecure": False,  # RFC 7672 section 2.2.1
    "none-secure": True,  # design, "Implicit MX": that of the denial
    "none-insecure": False,
    "relay": True,  # design, "Next-hops": the operator chose it
    "literal": False,  # design, "Next-hops"
    "null": True,  # an answer like any other (RFC 7505 section 5)
    "no-domain": True,
}


def mx_is_secure(world: World) -> bool:
    """RFC 7672 section 2.1.3: from the first insecure alias on everything is insecure."""
    aliases = () if world.mx in {"relay", "literal"} else world.alias
    return MX_SECURE[world.mx] and all(aliases)


# --- The policy (RFC 8461) -------------------------------------------------------------------------------------------

POLICY = {
    # the word: the mode in force, and why nothing newer is known
    "none": (None, None),
    "testing": ("testing", None),
    "enforce": ("enforce", None),
    "mode-none": ("none", None),
    "record-failing": (None, "dns-error"),  # RFC 8461 section 3.3, choice 11
    "unfetchable": (None, "fetch-error"),  # RFC 8461 section 3.3
    "cached-enforce": ("enforce", None),  # RFC 8461 section 3: the same id, no fetch
    "cached-testing": ("testing", None),
    "cached-enforce-record-gone": ("enforce", "record-missing"),  # RFC 8461 sections 3.1, 3.3
    "cached-enforce-record-failing": ("enforce", "dns-error"),
    "cached-enforce-successor-unfetchable": ("enforce", "fetch-error"),  # RFC 8461 section 3.3
    "expired-successor-unfetchable": (None, "fetch-error"),  # RFC 8461 section 5.1: age over max_age
    "expired-unfetchable": (None, "fetch-error"),  # RFC 8461 section 3.3: an equal id prolongs nothing
    "store-failing": (None, None),  # choices, "A policy store that can not be read": the mail waits
    "store-failing-enforce": ("enforce", None),  # the same: what can be fetched just now is applied
}

# Choice 21: nobody knows whether a policy, or a newer one, would have vouched for the host.
NOT_TO_BE_HAD = frozenset({"dns-error", "fetch-error"})

NO_POLICY_ANNOUNCED = frozenset({"none"})


def looks_for_policy(world: World) -> bool:
    """RFC 8461 section 1.1: for the name of the next-hop; RFC 8689 section 8.4, choice 24: not for TLS-Required: No."""
    return world.settings.sts == "on" and world.mx != "literal" and wish_of(world) != "tls-optional"


def policy_of(world: World) -> tuple[str | None, str | None]:
    return POLICY[world.policy] if looks_for_policy(world) else (None, None)


def policy_must_be_known(world: World) -> bool:
    """Whether the mail waits because nothing is known of a policy."""
    if not looks_for_policy(world):
        return False
    if world.policy == "store-failing":  # choices, "A policy store that can not be read"
        return True
    # choice 11; a policy in force is applied and there is no question
    return world.policy == "record-failing" and world.settings.sts_on_dns_error == "defer"


def wish_of(world: World) -> str:
    """RFC 8689 section 4.1: beside REQUIRETLS the header field is void."""
    return {"none": "none", "requiretls": "requiretls", "both": "requiretls", "tls-optional": "tls-optional"}[
        world.wish
    ]


# --- Addresses (RFC 7672 section 2.2.2, choice 3) --------------------------------------------------------------------


class Addresses(NamedTuple):
    failure: str | None
    found: tuple[str, ...]
    secure: bool


def find_addresses(world: World, index: int) -> Addresses:
    host = world.hosts[index]
    if world.mx == "literal":
        return Addresses(None, (addresses(world, index)[0][0],), secure=False)
    if host.kind == "invalid":
        return Addresses("invalid-host", (), secure=False)
    answers = dict(addresses(world, index))
    failing = {address for address, answer in answers.items() if answer == "failing"}
    found = {address: answer for address, answer in answers.items() if answer in {"secure", "insecure"}}
    if failing and world.settings.address_families == "both":  # the letter of RFC 7672 section 2.2.2
        return Addresses("address-lookup-failed", (), secure=False)
    if not found and failing:  # design, "Addresses": a failure beside a family without data
        return Addresses("address-lookup-failed", (), secure=False)
    if not found:  # RFC 7672 section 2.2.2: "If no address records are found, the destination is unreachable"
        return Addresses("no-addresses", (), secure=False)
    # design, "Addresses": secure where every family that yielded addresses is; RFC 7672 section 2.1.3: and every alias
    secure = set(found.values()) == {"secure"} and all(host.links)
    return Addresses(None, tuple(found), secure)


# --- TLSA records (RFC 7672 sections 2.2.2 and 2.2.3) ----------------------------------------------------------------


class Found(NamedTuple):
    """The end of the search: `usable`, `unusable`, `absent`, or a reason to skip the host."""

    what: str
    base_domain: str | None = None
    records: TlsaKind | None = None


ABSENT = Found("absent")


def candidates(world: World, index: int, *, secure: bool) -> list[tuple[str, TlsaKind]] | str:
    """The candidate TLSA base domains in their order, or why the host is skipped."""
    host = world.hosts[index]
    name = host_name(world, index)
    if not host.links:
        # "Non-CNAME": secure: the initial name; insecure: no search
        return [(name, host.tlsa)] if secure else []
    if secure:
        # "Secure CNAME": the fully expanded name, failing that the initial name; never one in between (2.2.3)
        return [(alias_names(world, index)[-1], host.tlsa_target), (name, host.tlsa)]
    # "Insecure CNAME": the extra question of section 2.1.3 tells of the initial alias alone
    if host.cname == "failing":
        return "alias-lookup-failed"
    return [(name, host.tlsa)] if host.links[0] else []


def search(world: World, index: int, *, secure: bool) -> Found:
    names = candidates(world, index, secure=secure)
    if isinstance(names, str):
        return Found(names)
    for name, kind in names:
        if kind == "failing":  # section 2.1.2: the next candidate is not tried (choice 4)
            return Found("tlsa-lookup-failed")
        if kind in USABLE:  # section 2.2.3: the first candidate with a secure RRset
            return Found("usable", name, kind)
        if kind == "unusable":
            return Found("unusable", name, kind)
        # none or insecure: section 2.2.3, the next candidate
    return ABSENT


def redirected(world: World) -> bool:
    """Whether an insecure MX RRset has chosen the hosts, which `insecure_mx` is about (choice 1).

    Without an MX RRset nothing is redirected, and RFC 7672 section 2.2.2 holds whatever the denial is.
    """
    return world.mx not in IMPLICIT and not mx_is_secure(world)


def searches(world: World) -> bool:
    """Whether TLSA records are looked for."""
    if world.mx == "literal":  # RFC 7672 section 2.2: DANE does not apply
        return False
    if world.settings.dane == "off":
        return False
    if wish_of(world) == "tls-optional" and world.settings.dane != "mandatory":  # RFC 8689 section 8.4, choice 24
        return False
    return not redirected(world) or world.settings.insecure_mx != "may"  # choice 1


# RFC 7672 section 2.2, the actions (the fourth, an error, skips the host)
LEVEL = {"usable": "dane", "unusable": "encrypt", "absent": "may"}
DANE_SKIPS = frozenset({"alias-lookup-failed", "tlsa-lookup-failed"})


def dane_level(world: World, found: Found) -> str:
    """The level that DANE gives where it is not mandatory."""
    if found.what == "usable" and redirected(world) and world.settings.insecure_mx == "encrypt":  # choice 1
        return "encrypt"
    return LEVEL[found.what]


def dane_names(world: World, found: Found, *, mx_secure: bool) -> tuple[str, ...]:
    """RFC 7672 section 3.2.2: the reference identifiers, the TLSA base domain first."""
    assert found.base_domain is not None
    next_hop = next_hop_name(world)
    if world.mx == "relay" or world.mx in IMPLICIT:
        # "TLSA records for non-MX hostnames": the next-hop too, where the base domain is its expansion
        names = [found.base_domain, next_hop]
    elif mx_secure:
        # "TLSA records for MX hostnames": the next-hop, and what it is expanded to
        names = [found.base_domain, next_hop, DOMAIN]
    else:
        # "despite insecure MX redirection": choice 1
        names = [found.base_domain]
    return tuple(dict.fromkeys(names))


# --- One host --------------------------------------------------------------------------------------------------------

# design, "skip.reason": of several the first
SKIP_ORDER = (
    "invalid-host",
    "no-addresses",
    "address-lookup-failed",
    "alias-lookup-failed",
    "tlsa-lookup-failed",
    "dane-required",
    "sts-mx-mismatch",
    "requiretls-unmet",
)


def decide_host(world: World, index: int) -> HostPlan:
    settings = world.settings
    mx_secure = mx_is_secure(world)
    wish = wish_of(world)
    mode, _ = policy_of(world)
    name = host_name(world, index)
    listed = world.listed[index] and world.hosts[index].kind != "invalid"  # no pattern can name that
    there = find_addresses(world, index)
    reasons = {there.failure} if there.failure else set()
    asked = searches(world) and not there.failure
    found = search(world, index, secure=there.secure) if asked else ABSENT
    error = found.what if found.what in DANE_SKIPS else None

    # DANE by itself, by its mode
    audit: tuple[str | None, str | None] | None = None
    if settings.dane == "audit":
        # RFC 7672 section 9.1, design "Audit": stops nothing; says what DANE would have given, if it was asked
        level = "may"
        if not there.failure and wish != "tls-optional":
            audit = (None, error) if error else (dane_level(world, found), None)
    elif error:
        reasons.add(error)
        level = "may"  # of no consequence: the host is skipped
    else:
        level = dane_level(world, found)
        # RFC 7672 sections 2.2, 2.2.1 and 6: securely found, and authenticated
        if settings.dane == "mandatory" and not (level == "dane" and mx_secure):
            reasons.add("dane-required")

    # The policy beside it (RFC 8461 section 5; choices 9 and 10)
    exempt = level == "dane" and mx_secure and settings.sts_with_dane == "exempt"
    if mode == "enforce" and not exempt:
        if not listed:
            reasons.add("sts-mx-mismatch")  # RFC 8461 section 4.1
        requires: tuple[str, ...] = ("dane", "pkix") if level == "dane" else ("pkix",)
    else:
        requires = ("dane",) if level == "dane" else ()

    # REQUIRETLS (RFC 8689 section 4.2.1; choices 19 and 20)
    chosen = mx_secure or (mode == "enforce" and listed)
    common_name = False
    if wish == "requiretls":
        if not chosen:
            reasons.add("requiretls-unmet")
        if not requires:
            requires, common_name = ("pkix",), True

    if requires == ("pkix",):
        level = "secure"

    # Duties that are only observed
    observe = set[str]()
    if mode == "testing" or (mode == "enforce" and exempt):  # RFC 8461 section 5, choice 9
        observe.add("pkix")
    if audit is not None and audit[0] == "dane":  # RFC 7672 section 9.1
        observe.add("dane")

    names = dane_names(world, found, mx_secure=mx_secure) if found.what == "usable" else ()
    skip = min(reasons, key=SKIP_ORDER.index) if reasons else None
    plan = HostPlan(
        position=index,
        host=name,
        addresses=there.found,
        skip=skip,
        level=None,
        base_domain=found.base_domain,
        records=found.records,
        sts_match=listed if mode in {"enforce", "testing"} else None,
        audit=audit,
        chosen=chosen,
    )
    if skip is not None:  # design: the facts learned so far stay
        return plan
    return plan._replace(
        level=level,
        requires=requires,
        sni=server_name(world, name, level, found, policy=mode in {"enforce", "testing"}),
        # design, "reference_ids": empty where no name check applies
        reference_ids={"dane": names, "secure": (name,)}.get(level, ()),
        observe=tuple(duty for duty in ("dane", "pkix") if duty in observe),
        dane_names=names,
        common_name=common_name,
    )


def server_name(world: World, name: str, level: str, found: Found, *, policy: bool) -> str | None:
    """SNI, by level."""
    if world.mx == "literal":  # there is no name (RFC 6066 section 3)
        return None
    if level in {"dane", "encrypt"}:  # RFC 7672 section 8.1; design, "At encrypt"
        return found.base_domain
    if level == "secure":  # RFC 8461 section 7.1; choice 20
        return name
    if policy:  # RFC 8461 section 7.1, whatever the setting
        return name
    if world.settings.dane == "audit" and found.base_domain is not None:  # design, "Audit"
        return found.base_domain
    return name if world.settings.opportunistic_sni else None  # choice 8


# --- The plan --------------------------------------------------------------------------------------------------------

FOR_GOOD = frozenset({"no-addresses", "invalid-host"})  # RFC 5321 section 5.1
# design, "Undeliverable": lookups that tell where to connect; TLSA records are about security (contract cases)
LOOKUPS = frozenset({"address-lookup-failed", "alias-lookup-failed"})
SECURITY = frozenset({"tlsa-lookup-failed", "dane-required", "sts-mx-mismatch", "requiretls-unmet"})


def no_host_left(world: World, reasons: set[str]) -> Undeliverable:
    """Why there is nobody to deliver to, where every host is skipped."""
    if reasons == {"requiretls-unmet"}:
        _, failure = policy_of(world)
        if failure in NOT_TO_BE_HAD:  # choice 21
            return Undeliverable("transient", "requiretls-unmet", "4.7.5")
        return Undeliverable("permanent", "requiretls-unmet", "5.7.10")  # RFC 8689 section 4.2.1
    if reasons <= FOR_GOOD:
        return Undeliverable("permanent", "no-hosts", "5.4.4")
    if reasons & LOOKUPS:
        return Undeliverable("transient", "no-hosts", "4.4.3")
    assert reasons & SECURITY
    return Undeliverable("transient", "no-hosts", "4.7.5")


def is_own(world: World, host: Host, there: Addresses) -> bool:
    """RFC 5321 section 5.1: the MX is this machine, for hosts that were found by MX or are their own."""
    exempt = world.mx in {"relay", "literal"}
    return world.settings.loopback_is_own and not exempt and host.kind == "loopback" and bool(there.found)


def decide(world: World) -> Plan:
    next_hop = next_hop_name(world)
    mode, failure = policy_of(world)
    expanded = DOMAIN if world.alias and world.mx not in {"relay", "literal"} else None
    if world.mx in MX_ENDS:
        # design, "Addresses": both facts are null where the MX step failed; "Undeliverable": `sts` is null
        failed = world.mx in {"failing", "loop"}
        secure = None if failed else mx_is_secure(world)
        return Plan(next_hop, None if failed else expanded, secure, MX_ENDS[world.mx], (), False, None, None)
    sts_asked = looks_for_policy(world) and world.policy not in NO_POLICY_ANNOUNCED
    facts = (next_hop, expanded, mx_is_secure(world))
    sts = (sts_asked, mode, failure)
    if policy_must_be_known(world):  # design, "Undeliverable"
        return Plan(*facts, Undeliverable("transient", "sts-lookup-failed", "4.4.3"), (), *sts)
    # Hosts stand in the order of their preference. This machine, and what is not better, is dropped (RFC 5321 5.1).
    count = len(world.hosts)
    own = [i for i in range(count) if is_own(world, world.hosts[i], find_addresses(world, i))]
    hosts = tuple(decide_host(world, index) for index in range(own[0] if own else count))
    if not hosts:
        return Plan(*facts, Undeliverable("permanent", "no-hosts", "5.4.6"), (), *sts)
    undeliverable = None
    if all(host.skip for host in hosts):
        undeliverable = no_host_left(world, {host.skip for host in hosts if host.skip})
    return Plan(*facts, undeliverable, hosts, *sts)
