"""All worlds that are looked at, in a fixed order, and what is left out.

The product of all dimensions is far too large. It is cut in three ways; `everything` draws from the uncut product, so
that each of these claims is tested on samples:

1. *Observations.* Behind an insecure alias a secure and an insecure address make the same answer (RFC 7672 section
   2.1.3), as do the security of links behind the first insecure one: one of each is kept.
2. *What is not asked.* What stands at a name that no question reaches can not matter. There stands a trap: an answer
   that would show, were it asked for (`failing`, or `usable`).
3. *Servers and plans.* A plan is made before there is a connection, and a delivery knows of the DNS only what the plan
   says. So every plan is walked with one server in turn (`plans`), and every server with one plan of each kind
   (`sessions`); two hosts meet as pairs of one plan and one server each (`pairs`, `beside`).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias, get_args

from tests.model.worlds import (
    IMPLICIT,
    WITHOUT_HOSTS,
    Chain,
    Family,
    Host,
    Mx,
    Policy,
    Server,
    Settings,
    StartTls,
    TlsaKind,
    Wish,
    World,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    Worlds: TypeAlias = Callable[[], Iterator[World]]

FAMILIES: tuple[Family, ...] = get_args(Family)
KINDS: tuple[TlsaKind, ...] = get_args(TlsaKind)
POLICIES: tuple[Policy, ...] = get_args(Policy)
CHAINS: tuple[Chain, ...] = get_args(Chain)
TLSA: tuple[TlsaKind, ...] = ("usable", "mixed", "unusable", "none", "insecure", "failing")
ENDS = frozenset({"usable", "anchor", "mixed", "unusable", "failing"})  # where no further candidate is asked

# The default, and each other value of a setting by itself.
PLAN_SETTINGS = (
    Settings(),
    Settings(dane="mandatory"),
    Settings(dane="audit"),
    Settings(dane="off"),
    Settings(insecure_mx="encrypt"),
    Settings(insecure_mx="may"),
    Settings(address_families="both"),
    Settings(opportunistic_sni=False),
    Settings(sts="off"),
    Settings(sts_with_dane="both"),
    Settings(sts_on_dns_error="defer"),
)
SESSION_SETTINGS = (
    *PLAN_SETTINGS[:6],
    Settings(opportunistic_sni=False),
    Settings(sts_with_dane="both"),
    Settings(cleartext_retry="later"),
    Settings(cleartext_retry="never"),
    Settings(max_attempts=1),
    Settings(max_attempts=2),
    Settings(max_attempts=3),
)
OWN_SETTINGS = (Settings(), Settings(loopback_is_own=False))

WISHES: tuple[Wish, ...] = ("none", "requiretls", "tls-optional")

# How hosts are found: the MX answer, and the links of the next-hop where it is an alias.
FOUND: tuple[tuple[Mx, tuple[bool, ...]], ...] = (
    ("secure", ()),
    ("insecure", ()),
    ("secure", (True,)),
    ("secure", (False,)),
    ("secure-and-root", ()),
    ("relay", ()),
    ("none-secure", ()),
    ("none-insecure", ()),
)

SERVERS = (
    Server(),
    Server(connect="refused"),
    Server(greeting=421),
    Server(greeting=554),
    Server(ehlo=500),
    Server(ehlo=501),
    Server(ehlo=502),
    Server(ehlo=503),
    Server(ehlo=504),
    Server(ehlo=550),
    Server(ehlo=554),
    Server(ehlo=550, mail="450"),
    Server(starttls="absent"),
    Server(starttls="absent", mail="450"),
    Server(starttls="absent", mail="550"),
    Server(starttls="absent", mail="530"),
    Server(starttls="refused"),
    Server(starttls="refused", mail="450"),
    Server(starttls="refused", mail="550"),
    Server(starttls="refused", mail="530"),
    Server(starttls="hang-up"),
    Server(starttls="hang-up", mail="450"),
    Server(starttls="hang-up", mail="550"),
    Server(starttls="broken"),
    Server(starttls="broken", mail="450"),
    Server(starttls="broken", mail="550"),
    Server(starttls="broken", mail="530"),
    Server(starttls="alert-sni"),
    Server(starttls="alert-sni", mail="450"),
    Server(starttls="alert-sni", mail="550"),
    Server(starttls="alert-sni", chain="wrong"),
    Server(starttls="alert-sni", within="closed"),
    Server(starttls="alert-sni", within="lost"),
    Server(starttls="alert"),
    Server(starttls="alert", mail="450"),
    Server(starttls="alert", mail="550"),
    *(Server(chain=chain) for chain in CHAINS if chain != "right"),
    Server(within="closed"),
    Server(within="closed", chain="wrong"),
    Server(within="closed", mail="450"),
    Server(within="refused"),
    Server(within="refused", chain="wrong"),
    Server(within="helo-only"),
    Server(within="lost"),
    Server(within="lost", mail="450"),
    Server(within="lost", mail="550"),
    Server(within="lost", chain="other-key"),
    Server(requiretls=False),
    Server(requiretls=False, within="helo-only"),
    Server(requiretls=False, chain="wrong"),
    Server(requiretls=False, chain="self-signed"),
    Server(requiretls=False, within="lost"),
    Server(mail="450"),
    Server(mail="550"),
    Server(mail="530"),
    Server(mail="450", chain="wrong"),
    Server(mail="550", chain="wrong"),
)

PAIR_SERVERS = (
    Server(),
    Server(connect="refused"),
    Server(ehlo=550),
    Server(starttls="absent"),
    Server(starttls="refused", mail="450"),
    Server(starttls="hang-up"),
    Server(starttls="broken"),
    Server(starttls="alert-sni"),
    Server(starttls="alert", mail="450"),
    Server(chain="other-key"),
    Server(chain="wrong", requiretls=False),
    Server(within="closed"),
    Server(requiretls=False),
    Server(mail="450"),
    Server(mail="550"),
)


def observations() -> Iterator[Host]:
    """One host, as far as the DNS tells one from another."""
    for links, a, aaaa in itertools.product(((), (True,), (False,), (True, True), (True, False)), FAMILIES, FAMILIES):
        if not all(links) and "secure" in {a, aaaa}:
            continue  # cut 1
        host = Host(links=links, a=a, aaaa=aaaa, tlsa="failing", tlsa_target="failing")
        found = {a, aaaa} & {"secure", "insecure"}
        if not found:
            yield host  # no question but for addresses
        elif found == {"secure"} and not links:
            yield from (host._replace(tlsa=tlsa) for tlsa in TLSA)
        elif found == {"secure"}:
            for target in TLSA:
                yield from (
                    host._replace(tlsa_target=target, tlsa=tlsa)
                    for tlsa in (("usable",) if target in ENDS else TLSA)  # cut 2
                )
        elif not links:
            yield host
        else:
            yield host._replace(cname="failing", tlsa="usable", tlsa_target="usable")
            yield from (host._replace(tlsa=tlsa) for tlsa in (TLSA if links[0] else ("failing",)))
    # The second family of a host is connected to, too.
    yield Host(kind="invalid", a="failing", aaaa="failing", tlsa="failing")


def found_worlds() -> Iterator[World]:
    """Every way to find one host, and every host."""
    for host in observations():
        for mx, alias in FOUND:
            if mx in IMPLICIT:
                if host.kind == "invalid":
                    continue
                yield World(mx=mx, alias=host.links, hosts=(host,))
            elif not (mx == "relay" and host.kind == "invalid"):
                yield World(mx=mx, alias=alias, hosts=(host,))


def policies_and_lists() -> Iterator[tuple[Policy, bool]]:
    for policy in POLICIES:
        yield policy, True
        if "enforce" in policy or "testing" in policy:
            yield policy, False


def plans() -> Iterator[World]:
    """One host: all of it, with each wish and each setting; the servers take turns."""
    servers = itertools.cycle(SERVERS)
    for world in found_worlds():
        for (policy, listed), wish, settings in itertools.product(policies_and_lists(), WISHES, PLAN_SETTINGS):
            if wish == "tls-optional" and (policy, listed) not in {("none", True), ("enforce", False)}:
                continue  # cut 2: no policy is asked for
            if settings.sts == "off" and (policy, listed) not in {("none", True), ("enforce", False)}:
                continue  # cut 2
            host = world.hosts[0]._replace(server=next(servers))
            yield world._replace(hosts=(host,), policy=policy, listed=(listed,), wish=wish, settings=settings)


def endings() -> Iterator[World]:
    """Where there is no host: each MX answer, and literals."""
    answers: tuple[Mx, ...] = ("failing", "loop", "null", "no-domain")
    policies: tuple[Policy, ...] = ("none", "enforce")
    for mx, alias in itertools.product(answers, ((), (True,), (False,))):
        for policy, wish, settings in itertools.product(policies, WISHES, PLAN_SETTINGS):
            yield World(mx=mx, alias=alias, policy=policy, wish=wish, settings=settings)
    for server, wish, settings in itertools.product(SERVERS, WISHES, (*PLAN_SETTINGS, *SESSION_SETTINGS)):
        host = Host(tlsa="usable", server=server)
        yield World(mx="literal", hosts=(host,), policy="enforce", wish=wish, settings=settings)


# One host of each kind of plan. Both families, so that there is a second address.
PLAN_HOSTS = (
    Host(aaaa="secure", tlsa="usable"),
    Host(aaaa="secure", tlsa="anchor"),
    Host(aaaa="secure", tlsa="unusable"),
    Host(aaaa="secure", tlsa="none"),
    Host(a="insecure", aaaa="insecure", tlsa="failing"),
    Host(links=(True,), tlsa_target="anchor"),
    Host(links=(True,), tlsa_target="none", tlsa="anchor"),
    Host(links=(True,), tlsa_target="usable"),
    Host(links=(True,), a="insecure", tlsa="usable", tlsa_target="failing"),
)


def sessions() -> Iterator[World]:
    """One host of each kind of plan, and each server."""
    policies: tuple[tuple[Policy, bool], ...] = (
        ("none", True),
        ("testing", True),
        ("testing", False),
        ("enforce", True),
        ("unfetchable", True),
        ("cached-enforce-successor-unfetchable", True),
    )
    for (mx, alias), host, server in itertools.product(FOUND, PLAN_HOSTS, SERVERS):
        world = World(mx=mx, alias=host.links if mx in IMPLICIT else alias, hosts=(host._replace(server=server),))
        for policy, listed in policies:
            for wish, settings in itertools.product(WISHES, SESSION_SETTINGS):
                if wish == "tls-optional" and policy != "none":
                    continue  # cut 2
                yield world._replace(policy=policy, listed=(listed,), wish=wish, settings=settings)


SKIPPED_HOSTS = (
    Host(kind="invalid"),
    Host(a="absent", tlsa="failing"),
    Host(a="failing", tlsa="failing"),
    Host(links=(True,), a="insecure", cname="failing"),
    Host(tlsa="failing"),
    Host(kind="loopback"),
)
LEVEL_HOSTS = (
    Host(tlsa="usable"),
    Host(tlsa="unusable"),
    Host(tlsa="none"),
)


def representatives() -> tuple[Host, ...]:
    """A host of each level and result, and one of each reason to skip it."""
    served = (host._replace(server=server) for host, server in itertools.product(LEVEL_HOSTS, PAIR_SERVERS))
    return (*served, *SKIPPED_HOSTS)


def pairs() -> Iterator[World]:
    """Two hosts, each pair in both orders."""
    lists: tuple[tuple[Policy, tuple[bool, bool]], ...] = (
        ("none", (True, True)),
        ("testing", (True, False)),
        ("enforce", (True, True)),
        ("enforce", (True, False)),
        ("enforce", (False, True)),
        ("enforce", (False, False)),
        ("unfetchable", (True, True)),
    )
    ways: tuple[tuple[Mx, tuple[bool, ...]], ...] = (("secure", ()), ("insecure", ()))
    for (mx, alias), first, second in itertools.product(ways, representatives(), representatives()):
        for (policy, listed), wish in itertools.product(lists, WISHES):
            if wish == "tls-optional" and policy != "none":
                continue  # cut 2
            yield World(mx, alias, (first, second), policy, listed, wish)
        for settings in (
            Settings(dane="mandatory"),
            Settings(cleartext_retry="later"),
            Settings(loopback_is_own=False),
            Settings(max_attempts=2),
        ):
            if settings.loopback_is_own or "loopback" in {first.kind, second.kind}:
                yield World(mx, alias, (first, second), listed=(True, True), settings=settings)


BESIDE = (
    Host(tlsa="usable"),
    Host(tlsa="usable", server=Server(chain="other-key")),
    Host(tlsa="none", server=Server(starttls="absent")),
    Host(tlsa="none", server=Server(starttls="broken", mail="450")),
    Host(tlsa="failing"),
    Host(a="absent", tlsa="failing"),
)


def beside() -> Iterator[World]:
    """Every host beside one of a few others, in both orders."""
    policies: tuple[Policy, ...] = ("none", "enforce")
    answers: tuple[Mx, ...] = ("secure", "insecure")
    for host, other, mx, policy, wish in itertools.product(observations(), BESIDE, answers, policies, WISHES[:2]):
        for hosts in ((host, other), (other, host)):
            yield World(mx, hosts=hosts, policy=policy, listed=(True, True), wish=wish)


def own() -> Iterator[World]:
    """The MX is this machine: each way to find it, each pair of families."""
    for (mx, alias), a, aaaa, wish, settings in itertools.product(FOUND, FAMILIES, FAMILIES, WISHES, OWN_SETTINGS):
        host = Host(kind="loopback", a=a, aaaa=aaaa, tlsa="usable")
        yield World(mx, () if mx in IMPLICIT else alias, (host,), wish=wish, settings=settings)


def exhaustive() -> Iterator[World]:
    yield from endings()
    yield from own()
    yield from plans()
    yield from sessions()
    yield from pairs()
    yield from beside()


def everything(draw: random.Random) -> World:
    """A world out of the uncut product: any value at any place."""
    mx: Mx = draw.choice(get_args(Mx))
    links = ((), (), (True,), (False,), (True, True), (True, False), (False, True), (False, False))

    def server() -> Server:
        if draw.random() < 0.3:
            return draw.choice(SERVERS)
        return Server(
            draw.choice(("ok", "ok", "ok", "ok", "ok", "refused")),
            draw.choice((220, 220, 220, 220, 220, 421, 554)),
            draw.choice((250, 250, 250, 250, 250, 250, 500, 501, 502, 503, 504, 550, 554)),
            draw.choice(("ok", "ok", "ok", "ok", "ok", *get_args(StartTls))),
            draw.choice(CHAINS),
            draw.choice(("ok", "ok", "ok", "ok", "closed", "refused", "helo-only", "lost")),
            draw.random() < 0.8,
            draw.choice(("250", "250", "250", "450", "550", "530")),
        )

    def host() -> Host:
        return Host(
            draw.choice(("host",) * 12 + ("invalid", "loopback"))
            if mx not in {*IMPLICIT, "relay", "literal"}
            else "host",
            draw.choice(links),
            draw.choice(("answered", "answered", "answered", "failing")),
            draw.choice(FAMILIES),
            draw.choice(FAMILIES),
            draw.random() < 0.5,
            draw.choice(KINDS),
            draw.choice(KINDS),
            server(),
        )

    one = mx in IMPLICIT | WITHOUT_HOSTS | {"relay", "literal"} or draw.random() < 0.4
    hosts = tuple(host() for _ in range(1 if one else 2))
    alias = hosts[0].links if mx in IMPLICIT else draw.choice(links)
    settings = Settings(
        draw.choice(("opportunistic",) * 5 + ("mandatory", "audit", "off")),
        draw.choice(("dane",) * 4 + ("encrypt", "may")),
        draw.choice(("either", "either", "both")),
        draw.random() < 0.8,
        draw.choice(("on",) * 6 + ("off",)),
        draw.choice(("exempt", "exempt", "both")),
        draw.choice(("continue", "continue", "defer")),
        draw.choice(("now", "now", "later", "never")),
        draw.random() < 0.8,
        draw.choice((20, 20, 20, 20, 1, 2, 3)),
    )
    return World(
        mx,
        () if mx in {"relay", "literal"} else alias,
        hosts,
        draw.choice(POLICIES),
        tuple(draw.random() < 0.7 for _ in hosts),
        draw.choice(("none", "none", "requiretls", "tls-optional", "both")),
        settings,
    )
