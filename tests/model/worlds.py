"""The finite world: one next-hop, one or two MX hosts, what the DNS says of them, a policy, servers, a wish, settings.

Every field is a word out of a short list. What the words stand for is said here once; `decision` and `delivery` say
what follows from them, and `library` makes the library meet them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

DOMAIN = "client.example"
ALIAS = "alias.example"  # where the next-hop is an alias it is this one, and DOMAIN its target
LITERAL = "[192.0.2.1]"
MX_HOSTS = ("mx1.provider.example", "mx2.provider.example")
STRANGERS = ("mx1.elsewhere.example", "mx2.elsewhere.example")  # where an attacker's MX record points to
INVALID_HOSTS = ("bad!1.provider.example", "bad!2.provider.example")  # no host name: RFC 5321 section 2.3.5
ELSEWHERE = "elsewhere.example"  # a name that nobody asked for

A_ADDRESSES = ("192.0.2.1", "192.0.2.2")
AAAA_ADDRESSES = ("2001:db8::1", "2001:db8::2")
OWN_A = ("127.0.0.1", "0.0.0.0")  # loopback, unspecified
OWN_AAAA = ("::1", "::ffff:127.0.0.1")  # and an IPv4-mapped one

Family = Literal["secure", "insecure", "absent", "failing"]
"""The answer to the question for A, or for AAAA, at the end of the alias chain. Whether the denial of `absent` is
secure is `Host.denials_secure`."""

TlsaKind = Literal["usable", "anchor", "mixed", "unusable", "none", "insecure", "failing"]
"""What is at `_25._tcp` and a name: a secure `3 1 1` record; a secure `2 0 1` record; a secure `3 1 1` beside one that
nobody can use; secure records of which none can be used; a denial; an insecure `3 1 1` record; a failure."""

USABLE = frozenset({"usable", "anchor", "mixed"})

Mx = Literal[
    "secure",  # an MX RRset in a signed zone
    "insecure",  # in an unsigned one
    "secure-and-root",  # a secure RRset with `.` beside the hosts
    "failing",  # the lookup fails
    "loop",  # so many aliases that the resolver gives up
    "null",  # `0 .` alone
    "no-domain",  # NXDOMAIN
    "none-secure",  # NODATA, proven by a signed zone
    "none-insecure",  # NODATA of an unsigned one
    "relay",  # not asked: the next-hop is a relay that the operator chose
    "literal",  # not asked: the next-hop is an address literal
]

Policy = Literal[
    "none",  # nothing announced, nothing cached
    "testing",  # announced, fetched just now, in this mode
    "enforce",
    "mode-none",
    "record-failing",  # the question for the TXT record fails, nothing cached
    "unfetchable",  # announced, and the policy host does not answer, nothing cached
    "cached-enforce",  # cached with the id that is announced
    "cached-testing",
    "cached-enforce-record-gone",  # cached, and nothing is announced any more
    "cached-enforce-record-failing",
    "cached-enforce-successor-unfetchable",  # cached, another id announced, the policy host does not answer
    "expired-successor-unfetchable",  # the same, and the cached policy has expired
    "expired-unfetchable",  # expired, the same id announced, the policy host does not answer
    "store-failing",  # the store can not be read, nothing announced
    "store-failing-enforce",  # the store can not be read, a policy is announced and fetched
]

Chain = Literal[
    "right",  # the key of the TLSA records, issued by the trusted CA, every name of the host by DNS-ID
    "other-key",  # the trusted CA, every name, another key
    "self-signed",  # the key of the TLSA records, every name, issued by nobody
    "wrong",  # another key, issued by nobody
    "elsewhere",  # as right, for ELSEWHERE alone
    "next-hop",  # as right, for the next-hop alone
    "expanded",  # as right, for what the next-hop is an alias of alone
    "target",  # as right, for the end of the host's alias chain alone
    "unexpanded",  # as right, for the MX hostname alone
    "common-name",  # as right, the MX hostname as Common Name, without any DNS-ID
    "expired",  # as right, expired
    "stranger",  # the trusted CA, another key, for ELSEWHERE alone
]

StartTls = Literal[
    "ok",
    "absent",  # not announced
    "refused",  # 454
    "hang-up",  # the connection ends in place of the reply
    "broken",  # the handshake fails, without an alert
    "alert-sni",  # the server ends a handshake with SNI by an alert, and does not mind one without
    "alert",  # the server ends every handshake by an alert
]

Wish = Literal["none", "requiretls", "tls-optional", "both"]


class Server(NamedTuple):
    """What listens at every address of a host."""

    connect: Literal["ok", "refused"] = "ok"
    greeting: int = 220
    ehlo: int = 250  # before TLS; HELO is accepted
    starttls: StartTls = "ok"
    chain: Chain = "right"
    within: Literal["ok", "closed", "refused", "helo-only", "lost"] = "ok"
    """Within TLS: the connection ends in place of the reply to the first EHLO; EHLO gets 550; EHLO gets 500 (HELO is
    accepted); the connection ends in place of the reply to MAIL."""
    requiretls: bool = True
    mail: Literal["250", "450", "550", "530"] = "250"
    """The reply to the message; `530` is one to MAIL outside of TLS (RFC 3207 section 4), and within it 250."""


class Host(NamedTuple):
    """One MX host."""

    kind: Literal["host", "invalid", "loopback", "stranger"] = "host"
    links: tuple[bool, ...] = ()
    """The MX hostname is an alias: for each link of the chain, whether it lies in a signed zone."""
    cname: Literal["answered", "failing"] = "answered"
    """The question of type CNAME for the MX hostname (RFC 7672 section 2.1.3)."""
    a: Family = "secure"
    aaaa: Family = "absent"
    denials_secure: bool = False
    tlsa: TlsaKind = "none"  # at the MX hostname
    tlsa_target: TlsaKind = "none"  # at the end of the alias chain, where there is one
    server: Server = Server()


class Settings(NamedTuple):
    """The settings that matter, by their names in `Config`."""

    dane: Literal["opportunistic", "mandatory", "audit", "off"] = "opportunistic"
    insecure_mx: Literal["dane", "encrypt", "may"] = "dane"
    address_families: Literal["either", "both"] = "either"
    opportunistic_sni: bool = True
    sts: Literal["on", "off"] = "on"
    sts_with_dane: Literal["exempt", "both"] = "exempt"
    sts_on_dns_error: Literal["continue", "defer"] = "continue"
    cleartext_retry: Literal["now", "later", "never"] = "now"
    loopback_is_own: bool = True
    max_attempts: int = 20


class World(NamedTuple):
    """A finite world, with the message and the settings of its sender."""

    mx: Mx = "secure"
    alias: tuple[bool, ...] = ()
    """The next-hop is an alias: for each link, whether it lies in a signed zone. Where there is no MX record the host
    *is* the next-hop, so this has to be `hosts[0].links`."""
    hosts: tuple[Host, ...] = (Host(),)
    policy: Policy = "none"
    listed: tuple[bool, ...] = (True,)  # for each host, whether the policy lists it
    wish: Wish = "none"
    settings: Settings = Settings()


IMPLICIT = frozenset({"none-secure", "none-insecure"})
WITHOUT_HOSTS = frozenset({"failing", "loop", "null", "no-domain"})


def next_hop_name(world: World) -> str:
    """The name that is delivered to: the recipient domain, or the name of the relay."""
    if world.mx == "relay":
        return MX_HOSTS[0]
    if world.mx == "literal":
        return LITERAL
    return ALIAS if world.alias else DOMAIN


def next_hop_text(world: World) -> str:
    """The next-hop as it is asked for."""
    return f"[{MX_HOSTS[0]}]" if world.mx == "relay" else next_hop_name(world)


def host_name(world: World, index: int) -> str:
    """The MX hostname of a host."""
    if world.mx in IMPLICIT or world.mx == "literal":
        return next_hop_name(world).strip("[]")
    return {"invalid": INVALID_HOSTS, "stranger": STRANGERS}.get(world.hosts[index].kind, MX_HOSTS)[index]


def alias_names(world: World, index: int) -> tuple[str, ...]:
    """The names of a host's alias chain behind the MX hostname, the last one being its end."""
    host = world.hosts[index]
    if world.mx in IMPLICIT and host.links:
        return (*(f"step{step}.next-hop.example" for step in range(1, len(host.links))), DOMAIN)
    return tuple(f"step{step}.mx{index + 1}.example" for step in range(1, len(host.links) + 1))


def addresses(world: World, index: int) -> tuple[tuple[str, Family], tuple[str, Family]]:
    """The address of each family and the answer that has it, A first."""
    host = world.hosts[index]
    if host.kind == "loopback":
        return (OWN_A[index], host.a), (OWN_AAAA[index], host.aaaa)
    return (A_ADDRESSES[index], host.a), (AAAA_ADDRESSES[index], host.aaaa)
