"""The scenarios: the records and servers of each, what posttls-finger is to print, and what our answer is to be.

Every expectation is derived from the cited clauses by hand. A scenario called `x` owns the names below
`x.signed.test`, `x.plain.test`, `x.bogus.test` and `x.expired.test`; its records are relative to those. In its texts
`{signed}`, `{plain}`, `{bogus}` and `{expired}` stand for these names, `{mx}` for the address of the server `mx`,
`{mx:3 1 1}` for the TLSA record of its leaf, and `{root:2 0 1}` (`intermediate`, `stranger`) for that of a CA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from tests.lab.servers import Manners

if TYPE_CHECKING:
    from collections.abc import Mapping

VERIFIED, TRUSTED, UNTRUSTED, CLEARTEXT = "verified", "trusted", "untrusted", "cleartext"


@frozen
class Server:
    """An SMTP server and the chain that it presents.

    Attributes:
        names: the DNS names of the leaf (relative to the scenario's signed name).
        common_name: the leaf's CN, where it matters.
        issuer: the CA that issued the leaf, or None for a self-signed one.
        sends: what follows the leaf.
        expired: the leaf has expired.
        starttls: `ok`, `absent`, `refused`, `fail`, or `down` where nothing listens at the address.
        only_for: an SNI (relative name) that the chain is kept for; all others get a stranger's.
        port: TCP port.
        manners: how it behaves towards mail.
        tls_manners: the same within TLS, where it differs.
        ciphers: the cipher suites of TLS 1.2, where it can do no other.
        refuses_sni: it ends by an alert the handshake of whoever sends SNI.
        postfix: options of smtpd, where a real Postfix is the server.
    """

    names: tuple[str, ...] = ("mx",)
    common_name: str = "lab server"
    issuer: str | None = "intermediate"
    sends: tuple[str, ...] = ("intermediate",)
    expired: bool = False
    starttls: str = "ok"
    only_for: str | None = None
    port: int = 25
    manners: Manners = field(factory=Manners)
    tls_manners: Manners | None = None
    ciphers: str | None = None
    refuses_sni: bool = False
    postfix: Mapping[str, str] | None = None


@frozen(kw_only=True)
class Host:
    """What our plan and check say of one MX host. `None` in a field of the verdict means that there is none.

    Attributes:
        host: the MX hostname, relative to the scenario's signed name.
        level: the level of the plan; None for a skipped host.
        result: how the check ended.
        security: what the session is worth.
        base: the TLSA base domain, relative; None where no secure TLSA records were found.
        skip: the reason to skip the host.
        mechanism: what authenticated the peer.
        depth: the depth of the matched certificate.
        name: the reference identifier matched (relative), for DANE-TA.
        failure: why the peer was not authenticated.
    """

    host: str = "mx"
    level: str | None
    result: str
    security: str | None = None
    base: str | None = None
    skip: str | None = None
    mechanism: str | None = None
    depth: int | None = None
    name: str | None = None
    failure: str | None = None


def by_ee(host: str = "mx", *, base: str | None = None, security: str = VERIFIED) -> Host:
    """Authenticated by DANE-EE."""
    base = base or host
    return Host(host=host, level="dane", result="ok", security=security, base=base, mechanism="dane-ee", depth=0)


def by_ta(
    host: str = "mx", *, depth: int = 1, name: str | None = None, base: str | None = None, security: str = VERIFIED
) -> Host:
    """Authenticated by DANE-TA."""
    ee = by_ee(host, base=base, security=security)
    return evolve(ee, mechanism="dane-ta", depth=depth, name=name or ee.base)


def refused(failure: str, host: str = "mx", *, base: str | None = None) -> Host:
    """TLS came about, and the peer was not authenticated."""
    return Host(host=host, level="dane", result="not-authenticated", base=base or host, failure=failure)


def no_tls(result: str, level: str = "dane", host: str = "mx") -> Host:
    """No TLS session came about at a level that requires one."""
    return Host(host=host, level=level, result=result, base=host)


def encrypted(host: str = "mx") -> Host:
    """TLS is required, and nobody is authenticated."""
    return Host(host=host, level="encrypt", result="ok", security=UNTRUSTED, base=host)


def opportunistic(host: str = "mx") -> Host:
    """Opportunistic TLS."""
    return Host(host=host, level="may", result="ok", security=UNTRUSTED)


def skipped(reason: str, host: str = "mx", *, base: str | None = None) -> Host:
    """The host is never connected to."""
    return Host(host=host, level=None, result="skipped", skip=reason, base=base)


@frozen
class Scene:
    """A world and a question.

    Attributes:
        name: what it is called, and the first label of its names.
        shows: what it shows, in a sentence.
        clauses: the rows of the clause table that decide it.
        signed: records of the signed zone; likewise `plain`, `bogus` and `expired`.
        forged: RRsets of the signed zone (`owner type`) with a signature by nobody's key.
        next_hop: the question.
        servers: the servers by label.
        settings: our settings for the question (`--set`).
    """

    name: str
    shows: str
    clauses: tuple[str, ...]
    signed: str = field(default="", kw_only=True)
    plain: str = field(default="", kw_only=True)
    bogus: str = field(default="", kw_only=True)
    expired: str = field(default="", kw_only=True)
    forged: tuple[str, ...] = field(default=(), kw_only=True)
    next_hop: str = field(default="{signed}", kw_only=True)
    servers: Mapping[str, Server] = field(default={"mx": Server()}, kw_only=True)
    settings: tuple[str, ...] = field(default=(), kw_only=True)


@frozen
class Scenario(Scene):
    """A scene, and the two answers to its question.

    Attributes:
        finger: the word of posttls-finger's line "... TLS connection established to", None where it prints none.
        hosts: our answer for every MX host, in order.
        undeliverable: the reason of a plan without hosts that could be tried.
        peer_options: posttls-finger's options to the same effect as our settings.
    """

    finger: str | None
    hosts: tuple[Host, ...] = ()
    undeliverable: str | None = None
    peer_options: tuple[str, ...] = ()


ONE_HOST = "@ MX 10 mx\nmx A {mx}\n"
"""A domain with one MX host in its own zone, to which the TLSA records are added."""


def _chain(hops: int) -> str:
    """A domain whose MX host is at the beginning of a chain of aliases, with the TLSA record at its end."""
    links = "".join(f"a{number} CNAME a{number + 1}\n" for number in range(hops))
    return f"@ MX 10 a0\n{links}a{hops} A {{mx}}\n_25._tcp.a{hops} TLSA {{mx:3 1 1}}"


SCENARIOS = (
    # ---------------------------------------------------------------- DANE-EE
    Scenario(
        "ee",
        "DANE-EE(3) with the leaf's key.",
        ("RFC7672-2.2-e", "RFC7672-3.1.1-a"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "ee-certificate",
        "DANE-EE(3) with the whole leaf, by SHA-512.",
        ("RFC6698-2.1.2-a", "RFC6698-2.1.3-a"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 0 2}",
    ),
    Scenario(
        "ee-expired-elsewhere",
        "DANE-EE(3) looks at neither dates nor names: an expired self-signed leaf for another host passes.",
        ("RFC7672-3.1.1-b", "RFC7672-3.1.1-c", "RFC7672-3.2.1-a"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        servers={"mx": Server(names=("elsewhere.invalid.",), issuer=None, sends=(), expired=True)},
    ),
    Scenario(
        "wrong-digest",
        "No record matches: mail does not go through this server, although TLS works.",
        ("RFC7672-2.2-f", "RFC7672-3.2-b"),
        "Untrusted",
        (refused("no-tlsa-match"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {stranger:3 1 1}",
    ),
    Scenario(
        "rollover",
        "The record of the retired key beside that of the current one: any match will do.",
        ("RFC7672-4-a", "RFC7671-8-c"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {stranger:3 1 1}\n_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "mixed-usages",
        "A DANE-TA(2) record whose names do not fit spoils nothing where a DANE-EE(3) record matches.",
        ("RFC7671-8-c", "RFC6698-5-a"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}\n_25._tcp.mx TLSA {mx:3 1 1}",
        servers={"mx": Server(names=("elsewhere.invalid.",))},
    ),
    # ---------------------------------------------------------------- usability and digest agility
    Scenario(
        "digest-agility",
        "A stale SHA-512 record outranks the good SHA-256 one of the same usage and selector.",
        ("RFC7671-9-h", "RFC7671-9-j", "RFC7672-5-b"),
        "Untrusted",
        (refused("no-tlsa-match"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}\n_25._tcp.mx TLSA {stranger:3 1 2}",
    ),
    Scenario(
        "digest-agility-per-pair",
        "Digest agility compares within one usage and selector only.",
        ("RFC7671-9-h",),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}\n_25._tcp.mx TLSA {stranger:3 0 2}",
    ),
    Scenario(
        "malformed-outranks-nothing",
        "A SHA-512 record of ten octets is discarded before digests are compared, so the SHA-256 one counts.",
        ("RFC7671-9-g", "RFC6698-4.1-h"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}\n_25._tcp.mx TLSA 3 1 2 00112233445566778899",
    ),
    Scenario(
        "malformed-beside-good",
        "A SHA-256 record one octet short does not spoil the RRset.",
        ("RFC6698-4.1-h", "RFC7671-10.3-f"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA 3 1 1 " + "5a" * 31 + "\n_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "unusable",
        "Only unusable records (PKIX usages, unknown matching type): TLS is required, any certificate will do.",
        ("RFC7672-2.2-g", "RFC7672-2.2-h", "RFC7672-3.1.3-d"),
        "Untrusted",
        (encrypted(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:1 1 1}\n_25._tcp.mx TLSA 3 1 200 5a5a",
        servers={"mx": Server(issuer=None, sends=(), expired=True)},
    ),
    Scenario(
        "unusable-no-starttls",
        "Only unusable records, and no STARTTLS: never cleartext.",
        ("RFC7672-2.2-i", "RFC7672-2.2.3-n"),
        None,
        (no_tls("starttls-absent", "encrypt"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {root:0 0 1}",
        servers={"mx": Server(starttls="absent")},
    ),
    # ---------------------------------------------------------------- DANE-TA
    Scenario(
        "ta-intermediate",
        "DANE-TA(2): an intermediate is the anchor, and the root above it is not needed.",
        ("RFC7672-3.1.2-a", "RFC6698-2.1.1-c"),
        "Verified",
        (by_ta(depth=1),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
    ),
    Scenario(
        "ta-root",
        "DANE-TA(2): a private root that the server sends is the anchor.",
        ("RFC7672-3.1.2-c", "RFC7671-5.2-a"),
        "Verified",
        (by_ta(depth=2),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {root:2 1 1}",
        servers={"mx": Server(sends=("intermediate", "root"))},
    ),
    Scenario(
        "ta-unordered",
        "DANE-TA(2): the chain is sent in disorder, with a stranger in it.",
        ("RFC6698-B.2-d",),
        "Verified",
        (by_ta(depth=2),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {root:2 0 1}",
        servers={"mx": Server(sends=("root", "stranger", "intermediate"))},
    ),
    Scenario(
        "ta-certificate-from-dns",
        "A `2 0 0` record carries the anchor, which the server does not send.",
        ("RFC7671-5.2.2-c",),
        "Verified",
        (by_ta(depth=2),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {root:2 0 0}",
    ),
    Scenario(
        "ta-key-from-dns",
        "A `2 1 0` record carries the anchor's bare key, which signed the topmost certificate sent.",
        ("RFC7671-5.2.3-b",),
        "Verified",
        (by_ta(depth=2),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {root:2 1 0}",
    ),
    Scenario(
        "ta-not-sent",
        "A digest of an anchor that the server does not send can not be matched.",
        ("RFC7671-5.2.2-d",),
        "Untrusted",
        (refused("no-tlsa-match"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {root:2 0 1}",
    ),
    Scenario(
        "ta-leaf",
        "A leaf is no trust anchor: a DANE-TA(2) record of the leaf itself does not match.",
        ("RFC6698-2.1.1-c", "RFC6698-2.1.1-f"),
        "Untrusted",
        (refused("no-tlsa-match"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:2 1 1}",
    ),
    Scenario(
        "ta-expired",
        "With DANE-TA(2) the leaf's dates count.",
        ("RFC6698-2.1.1-f",),
        "Untrusted",
        (refused("expired"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(expired=True)},
    ),
    Scenario(
        "ta-wildcard-name",
        "With DANE-TA(2) a wildcard covers the first label of the base domain.",
        ("RFC7672-3.2.3-f",),
        "Verified",
        (by_ta(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("*.{signed}",))},
    ),
    Scenario(
        "ta-common-name",
        "With DANE-TA(2) a leaf without any DNS-ID is matched by its CN-ID.",
        ("RFC7672-3.2.3-b", "RFC7672-1.1-a"),
        "Verified",
        (by_ta(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=(), common_name="mx.{signed}")},
    ),
    Scenario(
        "ta-common-name-hidden",
        "With DANE-TA(2) the CN-ID does not count beside a DNS-ID.",
        ("RFC7672-3.2.3-a", "RFC7672-1.1-a"),
        "Untrusted",
        (refused("name-mismatch"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("elsewhere.invalid.",), common_name="mx.{signed}")},
    ),
    Scenario(
        "ta-name-mismatch",
        "With DANE-TA(2) a leaf for another host fails.",
        ("RFC7672-3.2.2-a",),
        "Untrusted",
        (refused("name-mismatch"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("elsewhere.invalid.",))},
    ),
    Scenario(
        "ta-next-hop-name",
        "Behind a secure MX RRset the next-hop domain is a reference identifier too.",
        ("RFC7672-3.2.2-c",),
        "Verified",
        (by_ta(name="@"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("@",))},
    ),
    Scenario(
        "ta-expanded-next-hop-name",
        "Where the next-hop domain is an alias, its expansion is a reference identifier too.",
        ("RFC7672-3.2.2-d", "RFC7672-2.2.1-h"),
        "Verified",
        (by_ta(name="real"),),
        signed="@ CNAME real\nreal MX 10 mx\nmx A {mx}\n_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("real",))},
    ),
    # ---------------------------------------------------------------- STARTTLS
    Scenario(
        "no-starttls",
        "TLSA records promise STARTTLS; a server without it is not used.",
        ("RFC7672-2.2-c", "RFC7672-2.2-d"),
        None,
        (no_tls("starttls-absent"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        servers={"mx": Server(starttls="absent")},
    ),
    Scenario(
        "starttls-refused",
        "STARTTLS is announced and answered with 454.",
        ("RFC7672-2.2-d", "RFC5321-4.2.1-a"),
        None,
        (no_tls("starttls-refused"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        servers={"mx": Server(starttls="refused")},
    ),
    Scenario(
        "handshake-failed",
        "The server hangs up in place of a handshake.",
        ("RFC7672-2.2-f",),
        None,
        (no_tls("handshake-failed"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        servers={"mx": Server(starttls="fail")},
    ),
    Scenario(
        "connection-refused",
        "Nothing listens at the host's address.",
        ("RFC5321-5.1-o",),
        None,
        (no_tls("connect-failed"),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        servers={"mx": Server(starttls="down")},
    ),
    # ---------------------------------------------------------------- addresses and aliases of the MX host
    Scenario(
        "no-tlsa",
        "A signed host that proves to have no TLSA records gets opportunistic TLS.",
        ("RFC7672-2.2-j", "RFC7672-2.2.2-k"),
        "Untrusted",
        (opportunistic(),),
        signed=ONE_HOST,
    ),
    Scenario(
        "unsigned-host",
        "A host in an unsigned zone is not asked for TLSA records, so a wrong one does no harm.",
        ("RFC7672-2.2.2-g", "RFC7672-2.2.1-p"),
        "Untrusted",
        (opportunistic("mx.{plain}"),),
        signed="@ MX 10 mx.{plain}",
        plain="mx A {mx}\n_25._tcp.mx TLSA {stranger:3 1 1}",
    ),
    Scenario(
        "alias-target",
        "The MX host is an alias, secure throughout: the target is the first candidate base domain.",
        ("RFC7672-2.2.2-n", "RFC7671-7-b", "RFC7672-8.1-a"),
        "Verified",
        (by_ta(base="host"),),
        signed="@ MX 10 mx\nmx CNAME host\nhost A {mx}\n_25._tcp.host TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("host",), only_for="host")},
    ),
    Scenario(
        "alias-original",
        "No TLSA records at the alias target: the original name is the second candidate.",
        ("RFC7672-2.2.2-o", "RFC7672-2.2.3-o"),
        "Verified",
        (by_ta(base="mx"),),
        signed="@ MX 10 mx\nmx CNAME host\nhost A {mx}\n_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"mx": Server(only_for="mx")},
    ),
    Scenario(
        "alias-both",
        "TLSA records at both names: those of the alias target count.",
        ("RFC7672-2.2.3-d", "RFC6698-A.2.1.1-c"),
        "Verified",
        (by_ee(base="host"),),
        signed="@ MX 10 mx\nmx CNAME host\nhost A {mx}\n"
        "_25._tcp.host TLSA {mx:3 1 1}\n_25._tcp.mx TLSA {stranger:3 1 1}",
    ),
    Scenario(
        "alias-both-target-wrong",
        "TLSA records at both names: those of the original name can not repair those of the target.",
        ("RFC7672-2.2.3-d",),
        "Untrusted",
        (refused("no-tlsa-match", base="host"),),
        signed="@ MX 10 mx\nmx CNAME host\nhost A {mx}\n"
        "_25._tcp.host TLSA {stranger:3 1 1}\n_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "alias-both-target-unusable",
        "Secure but unusable records at the target end the search as well.",
        ("RFC7672-2.2.3-d", "RFC7672-2.2-g"),
        "Untrusted",
        (evolve(encrypted(), base="host"),),
        signed="@ MX 10 mx\nmx CNAME host\nhost A {mx}\n_25._tcp.host TLSA {mx:1 1 1}\n_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "alias-chain",
        "A name in the middle of an alias chain is never a candidate.",
        ("RFC7672-2.2.3-p", "RFC7672-2.2.2-o"),
        "Untrusted",
        (opportunistic(),),
        signed="@ MX 10 mx\nmx CNAME middle\nmiddle CNAME host\nhost A {mx}\n_25._tcp.middle TLSA {mx:3 1 1}",
    ),
    Scenario(
        "alias-to-unsigned",
        "The signed alias of an unsigned host: the original name is the only candidate.",
        ("RFC7672-2.2.2-m", "RFC7672-2.1.3-i", "RFC7672-2.2.3-q"),
        "Verified",
        (by_ta(),),
        signed="@ MX 10 mx\nmx CNAME host.{plain}\n_25._tcp.mx TLSA {intermediate:2 0 1}",
        plain="host A {mx}",
        servers={"mx": Server(only_for="mx")},
    ),
    Scenario(
        "alias-to-unsigned-wrong",
        "The signed alias of an unsigned host is held to its TLSA records.",
        ("RFC7672-2.2.2-m",),
        "Untrusted",
        (refused("no-tlsa-match"),),
        signed="@ MX 10 mx\nmx CNAME host.{plain}\n_25._tcp.mx TLSA {stranger:3 1 1}",
        plain="host A {mx}\n_25._tcp.host TLSA {mx:3 1 1}",
    ),
    Scenario(
        "alias-through-unsigned",
        "A signed host behind an insecure alias is insecure: the TLSA records of the first name count, not its own.",
        ("RFC7672-2.1.3-f", "RFC7672-2.2.2-m"),
        "Verified",
        (by_ee(),),
        signed="@ MX 10 mx\nmx CNAME hop.{plain}\nhost A {mx}\n"
        "_25._tcp.host TLSA {stranger:3 1 1}\n_25._tcp.mx TLSA {mx:3 1 1}",
        plain="hop CNAME host.{signed}",
    ),
    Scenario(
        "alias-of-unsigned",
        "An insecure alias of a signed host: DANE does not apply.",
        ("RFC7672-2.2.2-l", "RFC7672-2.1.3-f"),
        "Untrusted",
        (opportunistic("mx.{plain}"),),
        signed="@ MX 10 mx.{plain}\nhost A {mx}\n_25._tcp.host TLSA {stranger:3 1 1}",
        plain="mx CNAME host.{signed}",
    ),
    Scenario(
        "dname",
        "The MX host lies below a DNAME: the synthesised alias is an alias like any other.",
        ("RFC7672-2.1.3-a",),
        "Verified",
        (by_ta("mx.moved", base="mx.hosts"),),
        signed="@ MX 10 mx.moved\nmoved DNAME hosts.{signed}\nmx.hosts A {mx}\n"
        "_25._tcp.mx.hosts TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("mx.hosts",))},
    ),
    Scenario(
        "dname-to-unsigned",
        "The MX host lies below a signed DNAME into an unsigned zone, and so does its TLSA name: DANE does not apply.",
        ("RFC7672-2.1.3-a", "RFC7672-2.1.3-h", "RFC7672-2.2.2-m", "RFC7672-2.2.3-g"),
        None,
        (opportunistic("mx.moved"),),
        signed="@ MX 10 mx.moved\nmoved DNAME hosts.{plain}",
        plain="mx.hosts A {mx}\n_25._tcp.mx.hosts TLSA {stranger:3 1 1}",
    ),
    Scenario(
        "dname-of-unsigned",
        "The MX host lies below an unsigned DNAME into a signed zone: DANE does not apply.",
        ("RFC7672-2.2.2-l", "RFC7672-2.1.3-f"),
        "Untrusted",
        (opportunistic("mx.moved.{plain}"),),
        signed="@ MX 10 mx.moved.{plain}\nmx.hosts A {mx}\n_25._tcp.mx.hosts TLSA {stranger:3 1 1}",
        plain="moved DNAME hosts.{signed}",
    ),
    Scenario(
        "dname-to-bogus",
        "The MX host lies below a DNAME into a bogus zone, and is skipped.",
        ("RFC7672-2.1.3-e", "RFC7672-2.1.2-b"),
        None,
        (skipped("address-lookup-failed", "mx.moved"),),
        "no-hosts",
        signed="@ MX 10 mx.moved\nmoved DNAME hosts.{bogus}",
        bogus="mx.hosts A {mx}\n_25._tcp.mx.hosts TLSA {mx:3 1 1}",
    ),
    Scenario(
        "dname-forged",
        "The MX host lies below a DNAME with a signature by nobody's key, and is skipped.",
        ("RFC7672-2.1.3-b", "RFC7672-2.1.2-b"),
        None,
        (skipped("address-lookup-failed", "mx.moved"),),
        "no-hosts",
        signed="@ MX 10 mx.moved\nmoved DNAME hosts.{signed}\nmx.hosts A {mx}\n_25._tcp.mx.hosts TLSA {mx:3 1 1}",
        forged=("moved DNAME",),
    ),
    Scenario(
        "alias-chain-10",
        "An MX host at the end of ten aliases: both ends are candidates.",
        ("RFC7672-2.2.2-h", "RFC7672-2.2.2-n"),
        "Verified",
        (by_ee("a0", base="a10"),),
        signed=_chain(10),
    ),
    Scenario(
        "alias-chain-12",
        "An MX host at the end of twelve aliases: that is one more than most resolvers follow, and an error.",
        ("RFC7672-2.1.3-d", "RFC7672-2.1.3-e"),
        None,
        (skipped("address-lookup-failed", "a0"),),
        "no-hosts",
        signed=_chain(12),
    ),
    Scenario(
        "no-address",
        "An MX host without addresses is unreachable.",
        ("RFC7672-2.2.2-f",),
        None,
        (skipped("no-addresses"),),
        "no-hosts",
        signed="@ MX 10 mx\nmx TXT nothing\n_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "bogus-address",
        "An MX host whose address RRset is bogus is skipped.",
        ("RFC7672-2.1.2-b", "RFC7672-2.1.1-j"),
        None,
        (skipped("address-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        forged=("mx A",),
    ),
    Scenario(
        "alias-to-bogus",
        "An MX host whose alias leads into a bogus zone is skipped.",
        ("RFC7672-2.1.3-e", "RFC7672-2.1.2-b"),
        None,
        (skipped("address-lookup-failed"),),
        "no-hosts",
        signed="@ MX 10 mx\nmx CNAME host.{bogus}\n_25._tcp.mx TLSA {mx:3 1 1}",
        bogus="host A {mx}",
    ),
    Scenario(
        "broken-aaaa",
        "A bogus AAAA RRset beside a secure A RRset: the host is used with the family that works.",
        ("RFC7672-2.1.2-g",),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "mx AAAA 2001:db8::1\n_25._tcp.mx TLSA {mx:3 1 1}",
        forged=("mx AAAA",),
    ),
    Scenario(
        "broken-aaaa-denial",
        "A bogus denial of AAAA beside a secure A RRset: the same.",
        ("RFC7672-2.1.2-g",),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        forged=("mx NSEC",),
    ),
    # ---------------------------------------------------------------- TLSA lookups
    Scenario(
        "bogus-tlsa",
        "A bogus TLSA RRset: the host is never connected to.",
        ("RFC7672-2.1.2-d", "RFC7672-2.1.2-h", "RFC7672-10-a"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        forged=("_25._tcp.mx TLSA",),
    ),
    Scenario(
        "bogus-tlsa-denial",
        "A denial of TLSA records that does not validate is not their absence.",
        ("RFC7672-2.1.1-j", "RFC7672-2.1.2-e"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST,
        forged=("mx NSEC",),
    ),
    Scenario(
        "tlsa-servfail",
        "The TLSA name is delegated to a server that refuses to answer (SERVFAIL).",
        ("RFC7672-2.1.2-d", "RFC7672-2.1.1-l"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST + "_tcp.mx NS refusing.test.",
    ),
    Scenario(
        "tlsa-servfail-at-first-candidate",
        "A failure at the first candidate skips the host; the second is not tried.",
        ("RFC7672-2.1.2-d", "RFC7672-2.2.2-q"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed="@ MX 10 mx\nmx CNAME host\nhost A {mx}\n_tcp.host NS refusing.test.\n_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "tlsa-alias",
        "The TLSA record is an alias of a shared one: base domain and names stay those of the host.",
        ("RFC7672-2.2.3-f", "RFC7672-2.2.3-j", "RFC7672-2.2.3-m"),
        "Verified",
        (by_ta(),),
        signed=ONE_HOST + "_25._tcp.mx CNAME shared\nshared TLSA {intermediate:2 0 1}",
    ),
    Scenario(
        "tlsa-alias-to-unsigned",
        "The TLSA record is an alias into an unsigned zone: insecure, so DANE does not apply.",
        ("RFC7672-2.2.3-g", "RFC7672-2.1.3-f"),
        "Untrusted",
        (opportunistic(),),
        signed=ONE_HOST + "_25._tcp.mx CNAME shared.{plain}",
        plain="shared TLSA {stranger:3 1 1}",
    ),
    Scenario(
        "tlsa-alias-to-bogus",
        "The TLSA record is an alias into a bogus zone: a failure.",
        ("RFC7672-2.1.3-e", "RFC7672-2.1.2-d"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST + "_25._tcp.mx CNAME shared.{bogus}",
        bogus="shared TLSA {mx:3 1 1}",
    ),
    Scenario(
        "tlsa-alias-loop",
        "The TLSA record is an alias in a loop: a failure, not an absence.",
        ("RFC7672-2.1.3-d", "RFC7672-2.1.3-e"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST + "_25._tcp.mx CNAME one\none CNAME two\ntwo CNAME one",
    ),
    Scenario(
        "tlsa-wildcard",
        "The TLSA record is synthesised from a wildcard for all ports.",
        ("RFC6698-A.2.1.3-a",),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "*._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "tlsa-dname",
        "A DNAME at the `_tcp` label leads all ports to one place; the base domain stays the host.",
        ("RFC6698-A.2.1.2-a", "RFC7672-2.2.3-j"),
        "Verified",
        (by_ta(),),
        signed=ONE_HOST + "_tcp.mx DNAME shared.{signed}\n_25.shared TLSA {intermediate:2 0 1}",
    ),
    Scenario(
        "tlsa-dname-to-unsigned",
        "The TLSA record lies behind a DNAME into an unsigned zone: insecure, so DANE does not apply.",
        ("RFC7672-2.2.3-g", "RFC7672-2.1.3-f"),
        "Untrusted",
        (opportunistic(),),
        signed=ONE_HOST + "_tcp.mx DNAME shared.{plain}",
        plain="_25.shared TLSA {stranger:3 1 1}",
    ),
    Scenario(
        "tlsa-dname-to-bogus",
        "The TLSA record lies behind a DNAME into a bogus zone: a failure.",
        ("RFC7672-2.1.3-e", "RFC7672-2.1.2-d"),
        None,
        (skipped("tlsa-lookup-failed"),),
        "no-hosts",
        signed=ONE_HOST + "_tcp.mx DNAME shared.{bogus}",
        bogus="_25.shared TLSA {mx:3 1 1}",
    ),
    Scenario(
        "tlsa-large",
        "An RRset too large for one UDP answer is fetched over TCP, and its last record counts like its first.",
        ("RFC6698-4.1-k", "RFC7671-8-c"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST
        + "".join(f"_25._tcp.mx TLSA 3 1 1 {number:064x}\n" for number in range(30))
        + "_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    # ---------------------------------------------------------------- MX lookups
    Scenario(
        "insecure-mx",
        "A signed host behind an insecure MX RRset: authenticated, but the choice of the host was not.",
        ("RFC7672-2.2.1-k", "RFC7672-2.2.1-n"),
        "Trusted",
        (by_ta(security=TRUSTED),),
        plain="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {intermediate:2 0 1}",
        next_hop="{plain}",
    ),
    Scenario(
        "insecure-mx-wrong-digest",
        "A signed host behind an insecure MX RRset is held to its TLSA records.",
        ("RFC7672-2.2.1-l",),
        "Untrusted",
        (refused("no-tlsa-match"),),
        plain="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {stranger:3 1 1}",
        next_hop="{plain}",
    ),
    Scenario(
        "insecure-mx-next-hop-name",
        "Behind an insecure MX RRset the next-hop domain is no reference identifier.",
        ("RFC7672-3.2.2-e",),
        "Trusted",
        (refused("name-mismatch"),),
        plain="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {intermediate:2 0 1}",
        next_hop="{plain}",
        servers={"mx": Server(names=("{plain}",))},
    ),
    Scenario(
        "unsigned",
        "An unsigned domain with an unsigned host: opportunistic TLS.",
        ("RFC7672-2.1.1-m", "RFC7672-2.2-j"),
        "Untrusted",
        (opportunistic("mx.{plain}"),),
        plain=ONE_HOST,
        next_hop="{plain}",
    ),
    Scenario(
        "unsigned-no-starttls",
        "An unsigned domain with an unsigned host that does not know STARTTLS: cleartext.",
        ("RFC7672-2.1.1-m", "RFC7672-2.2-j"),
        None,
        (Host(host="mx.{plain}", level="may", result="starttls-absent", security=CLEARTEXT),),
        plain=ONE_HOST,
        next_hop="{plain}",
        servers={"mx": Server(starttls="absent")},
    ),
    Scenario(
        "bogus-mx",
        "A bogus MX RRset: delivery is delayed.",
        ("RFC7672-2.1.2-a", "RFC7672-2.1.1-j"),
        None,
        (),
        "mx-lookup-failed",
        bogus="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {mx:3 1 1}",
        next_hop="{bogus}",
    ),
    Scenario(
        "expired-mx",
        "A zone whose signatures have expired: delivery is delayed.",
        ("RFC7672-2.1.2-a", "RFC7672-2.1.1-l"),
        None,
        (),
        "mx-lookup-failed",
        expired="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {mx:3 1 1}",
        next_hop="{expired}",
    ),
    Scenario(
        "bogus-mx-denial",
        "A denial of MX records that does not validate gives no implicit MX.",
        ("RFC7672-2.1.1-j", "RFC7672-2.1.2-a"),
        None,
        (),
        "mx-lookup-failed",
        signed="@ A {mx}\n_25._tcp TLSA {mx:3 1 1}",
        forged=("@ NSEC",),
    ),
    Scenario(
        "null-mx",
        "A null MX: the domain accepts no mail.",
        ("RFC7505-3-a", "RFC7505-4-a"),
        None,
        (),
        "null-mx",
        signed="@ MX 0 .\n@ A {mx}\n_25._tcp TLSA {mx:3 1 1}",
    ),
    Scenario(
        "null-mx-beside-host",
        "A root exchange beside an MX host is no null MX.",
        ("RFC7505-3-d",),
        None,
        (by_ee(),),
        signed="@ MX 0 .\n" + ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
    ),
    Scenario(
        "numeric-mx",
        "An MX record with an address for a name: the host is not used.",
        ("RFC7672-2.2-p", "RFC5321-5.1-l"),
        None,
        (skipped("invalid-host", "192.0.2.1."),),
        "no-hosts",
        signed="@ MX 10 192.0.2.1.",
    ),
    Scenario(
        "nxdomain",
        "The domain provably does not exist.",
        ("RFC5321-5.1-e", "RFC7672-2.1.1-k"),
        None,
        (),
        "no-such-domain",
    ),
    Scenario(
        "unsigned-nxdomain",
        "The domain does not exist, by an unsigned zone.",
        ("RFC5321-5.1-e", "RFC7672-2.1.1-k"),
        None,
        (),
        "no-such-domain",
        next_hop="{plain}",
    ),
    Scenario(
        "implicit-mx",
        "A domain without MX records is its own mail server, and DANE applies to it.",
        ("RFC7672-2.2.2-c", "RFC5321-5.1-g", "RFC7672-3.2.2-g"),
        "Verified",
        (by_ta("@"),),
        signed="@ A {mx}\n_25._tcp TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("@",))},
    ),
    Scenario(
        "implicit-mx-alias",
        "An alias of a domain without MX records: the original next-hop is the second reference identifier.",
        ("RFC7672-3.2.2-f", "RFC7672-2.2.2-n"),
        "Untrusted",
        (by_ta("@", base="host", name="@"),),
        signed="@ CNAME host\nhost A {mx}\n_25._tcp.host TLSA {intermediate:2 0 1}",
        servers={"mx": Server(names=("@",))},
    ),
    Scenario(
        "first-host-broken",
        "The preferred host's TLSA lookup fails, and mail goes to the next one.",
        ("RFC7672-2.1.2-b", "RFC7672-2.2-l"),
        "Verified",
        (skipped("tlsa-lookup-failed", "one"), by_ee("two")),
        signed="@ MX 10 one\n@ MX 20 two\none A {one}\ntwo A {two}\n"
        "_25._tcp.one TLSA {one:3 1 1}\n_25._tcp.two TLSA {two:3 1 1}",
        forged=("_25._tcp.one TLSA",),
        servers={"one": Server(), "two": Server()},
    ),
    Scenario(
        "first-host-refused",
        "The preferred host fails authentication; the next one is judged on its own.",
        ("RFC7672-2.2-f", "RFC7672-2.2.1-a", "RFC7672-2.2.1-d"),
        "Untrusted",
        (refused("no-tlsa-match", "one"), by_ee("two")),
        signed="@ MX 10 one\n@ MX 20 two\none A {one}\ntwo A {two}\n"
        "_25._tcp.one TLSA {two:3 1 1}\n_25._tcp.two TLSA {two:3 1 1}",
        servers={"one": Server(), "two": Server()},
    ),
    # ---------------------------------------------------------------- relays, literals and mandatory DANE
    Scenario(
        "relay",
        "A relay is not subject to MX lookup; its TLSA records are those of its port.",
        ("RFC7672-2.2.2-a", "RFC7672-2.2.3-e"),
        "Verified",
        (by_ta(),),
        signed="@ MX 10 mx\nmx MX 10 elsewhere\nmx A {mx}\n"
        "_25._tcp.mx TLSA {stranger:3 1 1}\n_2525._tcp.mx TLSA {intermediate:2 0 1}",
        next_hop="[mx.{signed}]:2525",
        servers={"mx": Server(port=2525)},
    ),
    Scenario(
        "address-literal",
        "An address literal is neither looked up nor subject to DANE.",
        ("RFC7672-2.2-o",),
        "Untrusted",
        (opportunistic("{mx}."),),
        next_hop="[{mx}]",
    ),
    Scenario(
        "mandatory",
        "Under mandatory DANE a host with usable TLSA records is used.",
        ("RFC7672-2.2-n", "RFC7672-6-c"),
        "Verified",
        (by_ee(),),
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}",
        settings=("dane=mandatory",),
        peer_options=("-l", "dane-only"),
    ),
    Scenario(
        "mandatory-no-tlsa",
        "Under mandatory DANE a host without TLSA records is not used.",
        ("RFC7672-2.2-n", "RFC7672-6-b"),
        "Untrusted",
        (skipped("dane-required"),),
        "no-hosts",
        signed=ONE_HOST,
        settings=("dane=mandatory",),
        peer_options=("-l", "dane-only"),
    ),
    Scenario(
        "mandatory-unusable",
        "Under mandatory DANE a host with unusable TLSA records is not used.",
        ("RFC7672-2.2-n", "RFC7672-6-b"),
        "Untrusted",
        (skipped("dane-required", base="mx"),),
        "no-hosts",
        signed=ONE_HOST + "_25._tcp.mx TLSA {mx:1 1 1}",
        settings=("dane=mandatory",),
        peer_options=("-l", "dane-only"),
    ),
    Scenario(
        "mandatory-insecure-mx",
        "Under mandatory DANE an insecure MX RRset delays delivery, whatever its host can prove.",
        ("RFC7672-2.2.1-i",),
        "Trusted",
        (skipped("dane-required", base="mx"),),
        "no-hosts",
        plain="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {mx:3 1 1}",
        next_hop="{plain}",
        settings=("dane=mandatory",),
        peer_options=("-l", "dane-only"),
    ),
)


DISAGREEMENTS = {
    "dname-to-unsigned": (
        "RFC7672-2.1.3-h",
        "posttls-finger asks for the alias that the DNAME makes, which Unbound answers with SERVFAIL; we ask for the "
        "DNAME.",
    ),
    "insecure-mx-next-hop-name": (
        "RFC7672-3.2.2-e",
        "posttls-finger accepts the next-hop domain in the certificate although the MX RRset was insecure.",
    ),
    "implicit-mx-alias": (
        "RFC7672-3.2.2-f",
        "posttls-finger does not accept the original next-hop of an aliased domain without MX records.",
    ),
    "null-mx-beside-host": (
        "RFC7505-3-d",
        "posttls-finger takes a root exchange beside an MX host for a null MX; the RFC leaves it open, and we drop it.",
    ),
    "numeric-mx": (
        "RFC7672-2.2-p",
        "posttls-finger connects to the address that the MX record names; we do not, and DANE applies to neither.",
    ),
    "mandatory-no-tlsa": (
        "RFC7672-6-b",
        'posttls-finger resorts to level "secure" where TLSA records are lacking; Postfix itself does not.',
    ),
    "mandatory-unusable": (
        "RFC7672-6-b",
        'posttls-finger resorts to level "secure" where TLSA records are unusable; Postfix itself does not.',
    ),
    "mandatory-insecure-mx": (
        "RFC7672-2.2.1-i",
        "posttls-finger goes on behind an insecure MX RRset, and calls the session Trusted.",
    ),
}
"""Where posttls-finger says otherwise: the clause that settles it, and the difference."""
