"""A month of mail to a thousand domains, and a count of it that shares no code with the library.

Every kind of traffic is a small world in which the way of a delivery is certain, and says what one delivery adds to the
report of the domain: which policies judge its sessions, how often each succeeds and fails, and why. The expected totals
are sums of that, in one flat counter. `python -m tests.month` prints what a month comes to.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from base64 import b64encode
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve, field, frozen

from mailtlspolicy import Config, World
from mailtlspolicy.tlsrpt import Aggregate, Aggregates, Report, sessions
from tests.authority import ca, server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailtlspolicy import Outcome
    from mailtlspolicy.world.world import WorldEngine
    from tests.authority import Issued

SEED = 8460
FIRST_DAY, DAYS, DOMAINS = date(2026, 3, 1), 30, 1000
SLOTS = 144  # of a day: visits are ten minutes apart, so that a failed fetch is tried again (RFC 8461 section 3.3)
SHARE = 0.3  # of the domains get mail on a day
SOURCES = (("198.51.100.1", "2001:db8:5::1"), ("198.51.100.2", "2001:db8:5::2"))  # of the two machines

Policy: TypeAlias = "tuple[str, str, tuple[str, ...], tuple[str, ...]]"
"""Type, domain, text, MX hosts."""
Detail: TypeAlias = "tuple[str | None, ...]"
"""Result type, reason, MX hostname, its name for itself, its address, ours."""
Judged: TypeAlias = "tuple[Policy, str, tuple[Detail, ...]]"
"""A policy, "success" or "failure", and the failure details beside it."""
Count: TypeAlias = "Counter[tuple[date, str, Policy, str | Detail]]"
"""By day, domain, policy and "success", "failure" or a detail."""

# --- who there is: two hosts of a provider, whose certificates are right or wrong

MX1, MX2, ALIAS = "mx1.provider.test", "mx2.provider.test", "alias.provider.test"
IP1, IP2, IPV6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"
NAME = "mx1.provider.test"  # that the first host gives itself

_ROOT = ca("root")
_RIGHT = server(_ROOT, MX1, MX2, "relay.test")
_MISNAMED = server(_ROOT, "elsewhere.test")
_EXPIRED = server(_ROOT, MX1, end=datetime(2026, 2, 1, tzinfo=timezone.utc))
_STRANGER = server(ca("stranger"), MX1)


def _pem(issued: Issued) -> str:
    return f"pem:-----BEGIN CERTIFICATE-----\n{b64encode(issued.der).decode()}\n-----END CERTIFICATE-----\n"


def _tlsa(usage: int, issued: Issued) -> str:
    return f"{usage} 1 1 {hashlib.sha256(issued.spki).hexdigest()}"


EE, TA, WRONG, UNUSABLE = _tlsa(3, _RIGHT), _tlsa(2, _ROOT), "3 1 1 " + "ab" * 32, "1 1 1 " + "cd" * 32


def _serves(*chain: Issued, **more: Any) -> dict[str, Any]:
    return {"chain": list(map(_pem, chain)), "replies": {"EHLO": f"250 {NAME} at your service"}, **more}


# --- what judges


NO_POLICY: Policy = ("no-policy-found", "DOMAIN", (), ())


def by_tlsa(*records: str, host: str = MX1, base: str | None = None) -> Policy:
    return ("tlsa", base or host, records, (host,))


def policy_text(mode: str, *patterns: str) -> str:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {pattern}" for pattern in patterns), "max_age: 31557600"]
    return "".join(f"{line}\r\n" for line in (*lines, "comment: kept"))


def by_sts(mode: str, *patterns: str, domain: str = "DOMAIN") -> Policy:
    return ("sts", domain, tuple(policy_text(mode, *patterns).splitlines()), patterns)


def announced(text: str = "") -> Policy:
    """A policy that was announced and not obtained, but for this text."""
    return ("sts", "DOMAIN", tuple(text.splitlines()), ())


def ok(policy: Policy, *details: Detail) -> Judged:
    return policy, "success", details


def bad(policy: Policy, *details: Detail) -> Judged:
    return policy, "failure", details


def seen(kind: str, reason: str, host: str = MX1, helo: str | None = NAME, address: str = IP1) -> Detail:
    """A detail of a session that had a connection."""
    return kind, reason, host, helo, address, "SOURCE6" if ":" in address else "SOURCE4"


def unseen(kind: str, reason: str, host: str | None = None) -> Detail:
    """A detail without a connection: of a skipped host, or of the fetch of a policy."""
    return kind, reason, host, None, None, None


ABSENT = seen("starttls-not-supported", "starttls-absent")
REFUSED = seen("starttls-not-supported", "starttls-refused")
HANDSHAKE = seen("validation-failure", "handshake-failed")
INJECTED = seen("validation-failure", "handshake-failed: octets-behind-starttls")
NO_MATCH = seen("validation-failure", "no-tlsa-match")
MISNAMED = seen("certificate-host-mismatch", "name-mismatch")
EXPIRED = seen("certificate-expired", "expired")
UNTRUSTED = seen("certificate-not-trusted", "untrusted-issuer")
NO_USABLE = seen("tlsa-invalid", "no-usable-records")
UNLISTED = seen("validation-failure", "sts-mx-mismatch")
UNLISTED_SKIP = unseen("validation-failure", "sts-mx-mismatch", MX1)
LOOKUP_SKIP = unseen("dnssec-invalid", "tlsa-lookup-failed", MX1)
FETCH_ERROR = unseen("sts-policy-fetch-error", "fetch-error")
WEBPKI = unseen("sts-webpki-invalid", "webpki-invalid")
MODE_MISSING = unseen("sts-policy-invalid", "policy-invalid: mode-missing")


# --- kinds of traffic


@frozen(kw_only=True, eq=False)
class Kind:
    """A kind of traffic: the world of its domains, and what deliveries there add; "DOMAIN" stands for the domain.

    Attributes:
        name: for people.
        visits: what each delivery of one visit adds; they are a minute apart, and visits ten.
        servers: by address.
        tlsa: the records of the first MX host.
        mx: the MX records.
        secure: whether the domain's zone is signed.
        extra: further records of the provider.
        txt: the id that the domain announces; None for no record.
        broken_txt: in place of a record by the grammar.
        https: how its policy host behaves.
        cache: the policy that is cached at first.
        failures: lookups that fail.
        settings: of the operator.
        message: wishes of the message.
        next_hop: where the mail is sent.
        domain: the domain that is reported to.
    """

    name: str
    visits: tuple[tuple[Judged, ...], ...]
    servers: dict[str, Any] = field(factory=lambda: {IP1: _serves(_RIGHT)})
    tlsa: tuple[str, ...] = ()
    mx: tuple[str, ...] = ("@ MX 10 mx1.provider.test.",)
    secure: bool = True
    extra: tuple[str, ...] = ()
    txt: str | None = None
    broken_txt: str | None = None
    https: dict[str, Any] | None = None
    cache: str | None = None
    failures: tuple[tuple[str, str], ...] = ()
    settings: dict[str, Any] = field(factory=dict)
    message: dict[str, Any] = field(factory=dict)
    next_hop: str = "DOMAIN"
    domain: str = "DOMAIN"

    def world(self, domains: Iterable[str]) -> World:
        """The world of its domains."""
        provider = ["mx1 A 192.0.2.1", "mx2 A 192.0.2.2", *self.extra, *(f"_25._tcp.mx1 TLSA {r}" for r in self.tlsa)]
        data: dict[str, Any] = {
            "zones": {"provider.test": {"security": "secure", "records": provider}},
            "servers": {address: {"25": shown} for address, shown in self.servers.items()},
            "trust": [_pem(_ROOT)],
            "failures": [],
            "https": {},
            "cache": {},
        }
        for domain in domains:
            records = list(self.mx)
            if self.txt is not None:
                records.append(f'_mta-sts TXT "v=STSv1; id={self.txt};"')
            if self.broken_txt is not None:
                records.append(f'_mta-sts TXT "{self.broken_txt}"')
            security = "secure" if self.secure else "insecure"
            data["zones"][domain] = {"security": security, "records": records}
            for name, rdtype in self.failures:
                data["failures"].append({"name": _in(domain, name), "type": rdtype, "kind": "servfail"})
            if self.https is not None:
                data["https"][f"mta-sts.{domain}"] = self.https
            if self.cache is not None:
                data["cache"][domain] = {"id": "old", "fetched": "2026-02-28T00:00:00+00:00", "policy": self.cache}
        return World.from_json(data)


def _in(domain: str, text: str) -> str:
    return text.replace("DOMAIN", domain)


def kind(name: str, *judged: Judged, **more: Any) -> Kind:
    """A kind whose visits are one delivery."""
    return Kind(name=name, visits=(judged,), **more)


def published(mode: str, *patterns: str) -> dict[str, Any]:
    """A policy that is announced, and served."""
    return {"txt": "1", "https": {"content_type": "text/plain", "body": policy_text(mode, *patterns)}}


_BOTH_MX = ("@ MX 10 mx1.provider.test.", "@ MX 20 mx2.provider.test.")
_NO_MODE = "version: STSv1\nmx: mx1.provider.test\nmax_age: 86400\n"
_TIMEOUT: dict[str, Any] = {"txt": "2", "https": {"error": "timeout"}}
_UNTRUSTED_HOST: dict[str, Any] = {"txt": "2", "https": {"certificate": "expired"}}
_INVALID: dict[str, Any] = {"txt": "2", "https": {"content_type": "text/plain", "body": _NO_MODE}}
_CACHED = policy_text("enforce", MX1)
_ENFORCED, _TESTED = by_sts("enforce", MX1), by_sts("testing", MX1)
_GREYLISTS = _serves(_RIGHT)
_GREYLISTS["replies"] = {**_GREYLISTS["replies"], "MAIL": "451 4.7.1 come again"}
_TA_SERVER = {IP1: _serves(_MISNAMED, _ROOT)}
_MISNAMES, _EXPIRES, _STRANGE = ({IP1: _serves(issued)} for issued in (_MISNAMED, _EXPIRED, _STRANGER))
_NO_TLS = {IP1: _serves(starttls="absent")}
_NO_HANDSHAKE = {IP1: _serves(starttls="fail")}
_BOTH = {"sts_with_dane": "both"}

KINDS = (
    # without a policy
    kind("plain", ok(NO_POLICY)),
    kind("plain, nobody checks the certificate", ok(NO_POLICY), servers=_EXPIRES),
    kind("plain, no STARTTLS", bad(NO_POLICY, ABSENT), servers=_NO_TLS),
    kind("plain, STARTTLS refused", bad(NO_POLICY, REFUSED), servers={IP1: _serves(starttls="refused")}),
    kind("plain, lost at STARTTLS", bad(NO_POLICY, REFUSED), servers={IP1: _serves(drop_after="STARTTLS")}),
    kind("plain, handshake fails, cleartext", bad(NO_POLICY, HANDSHAKE), servers=_NO_HANDSHAKE),
    kind(
        "plain, handshake fails, never cleartext",
        bad(NO_POLICY, HANDSHAKE),
        servers=_NO_HANDSHAKE,
        settings={"cleartext_retry": "never"},
    ),
    kind("plain, injected", bad(NO_POLICY, INJECTED), servers={IP1: _serves(behind_starttls="NOOP")}),
    kind("plain, lost in TLS", ok(NO_POLICY), servers={IP1: _serves(_RIGHT, tls={"drop_after": "MAIL"})}),
    kind("plain, ended in TLS", bad(NO_POLICY, HANDSHAKE), servers={IP1: _serves(_RIGHT, drop_after="handshake")}),
    kind("plain, no SNI wanted", ok(NO_POLICY), servers={IP1: _serves(_RIGHT, sni="strict")}),
    kind("plain, no handshake", bad(NO_POLICY, HANDSHAKE), servers={IP1: _serves(sni=["strict", "required"])}),
    kind("plain, greylisted", ok(NO_POLICY), servers={IP1: _GREYLISTS}),
    kind(
        "plain, the name from the greeting",
        bad(NO_POLICY, seen("starttls-not-supported", "starttls-absent", helo="[192.0.2.1]")),
        servers={IP1: {"starttls": "absent", "greeting": "220 [192.0.2.1] ESMTP"}},
    ),
    kind(
        "plain, no name",
        bad(NO_POLICY, seen("starttls-not-supported", "starttls-absent", helo=None)),
        servers={IP1: {"starttls": "absent", "greeting": "220 Hello", "replies": {"EHLO": "250 Hello"}}},
    ),
    # no session
    kind("unreachable", servers={}),
    kind("timed out", servers={IP1: {"connect": "timeout"}}),
    kind("busy", servers={IP1: {"greeting": "421 busy"}}),
    kind("lost at EHLO", servers={IP1: {"drop_after": "EHLO"}}),
    kind("EHLO refused", servers={IP1: {"replies": {"EHLO": "421 go away"}}}),
    kind("no addresses", mx=("@ MX 10 nowhere.provider.test.",)),
    kind("a literal", next_hop="[192.0.2.1]"),
    kind("one unreachable, one not", ok(NO_POLICY), mx=_BOTH_MX, servers={IP2: _serves(_RIGHT)}),
    # wishes of the message
    kind("TLS-Required: No", servers=_NO_TLS, tlsa=(EE,), message={"tls_optional": True}, **published("enforce", MX1)),
    kind("a report", servers=_NO_TLS, tlsa=(EE,), message={"tls_report": True}, **published("enforce", MX1)),
    kind(
        "a report, dane mandatory",
        servers=_NO_HANDSHAKE,
        message={"tls_report": True},
        settings={"dane": "mandatory", "cleartext_retry": "never"},
    ),
    kind("REQUIRETLS", ok(NO_POLICY), message={"requiretls": True}, servers={IP1: _serves(_RIGHT, requiretls=True)}),
    kind("REQUIRETLS not announced", ok(NO_POLICY), message={"requiretls": True}),
    kind("REQUIRETLS, misnamed", bad(NO_POLICY, MISNAMED), message={"requiretls": True}, servers=_MISNAMES),
    # DANE
    kind("DANE", ok(by_tlsa(EE)), tlsa=(EE,)),
    kind("DANE, two records", ok(by_tlsa(TA, EE)), tlsa=(EE, TA)),
    kind("DANE, no match", bad(by_tlsa(WRONG), NO_MATCH), tlsa=(WRONG,)),
    kind("DANE-TA", ok(by_tlsa(TA)), tlsa=(TA,), servers={IP1: _serves(_RIGHT, _ROOT)}),
    kind("DANE-TA, misnamed", bad(by_tlsa(TA), MISNAMED), tlsa=(TA,), servers=_TA_SERVER),
    kind("DANE-TA, expired", bad(by_tlsa(TA), EXPIRED), tlsa=(TA,), servers={IP1: _serves(_EXPIRED, _ROOT)}),
    kind("DANE, no STARTTLS", bad(by_tlsa(EE), ABSENT), tlsa=(EE,), servers=_NO_TLS),
    kind("DANE, handshake fails", bad(by_tlsa(EE), HANDSHAKE), tlsa=(EE,), servers=_NO_HANDSHAKE),
    kind("unusable records", bad(by_tlsa(UNUSABLE), NO_USABLE), tlsa=(UNUSABLE,)),
    kind("unusable, no STARTTLS", bad(by_tlsa(UNUSABLE), NO_USABLE, ABSENT), tlsa=(UNUSABLE,), servers=_NO_TLS),
    kind("TLSA lookup fails", bad(by_tlsa(), LOOKUP_SKIP), failures=(("_25._tcp.mx1.provider.test", "TLSA"),)),
    kind(
        "TLSA lookup fails, the next host",
        bad(by_tlsa(), LOOKUP_SKIP),
        ok(NO_POLICY),
        failures=(("_25._tcp.mx1.provider.test", "TLSA"),),
        mx=_BOTH_MX,
        servers={IP2: _serves(_RIGHT)},
    ),
    kind(
        "alias lookup fails",
        bad(by_tlsa(host="alias.DOMAIN"), unseen("dnssec-invalid", "alias-lookup-failed", "alias.DOMAIN")),
        mx=("@ MX 10 alias", "alias CNAME mx1.provider.test."),
        secure=False,
        failures=(("alias.DOMAIN", "CNAME"),),
    ),
    kind(
        "an alias, its base domain",
        bad(by_tlsa(WRONG, host=ALIAS, base=MX1), seen("validation-failure", "no-tlsa-match", ALIAS)),
        mx=("@ MX 10 alias.provider.test.",),
        extra=("alias CNAME mx1",),
        tlsa=(WRONG,),
    ),
    kind(
        "DANE mandatory",
        bad(by_tlsa(), unseen("dane-required", "dane-required", MX1)),
        settings={"dane": "mandatory"},
    ),
    kind(
        "DANE mandatory, unusable",
        bad(by_tlsa(UNUSABLE), unseen("dane-required", "dane-required", MX1)),
        tlsa=(UNUSABLE,),
        settings={"dane": "mandatory"},
    ),
    kind("DANE mandatory, fulfilled", ok(by_tlsa(EE)), tlsa=(EE,), settings={"dane": "mandatory"}),
    kind("DANE off", ok(NO_POLICY), tlsa=(WRONG,), settings={"dane": "off"}),
    kind("audit", ok(by_tlsa(EE)), tlsa=(EE,), settings={"dane": "audit"}),
    kind("audit, no match", bad(by_tlsa(WRONG), NO_MATCH), tlsa=(WRONG,), settings={"dane": "audit"}),
    kind("audit, in clear", bad(by_tlsa(EE), ABSENT), tlsa=(EE,), servers=_NO_TLS, settings={"dane": "audit"}),
    kind(
        "audit, TLSA lookup fails",
        bad(by_tlsa(), seen("dnssec-invalid", "tlsa-lookup-failed")),
        failures=(("_25._tcp.mx1.provider.test", "TLSA"),),
        settings={"dane": "audit"},
    ),
    kind("insecure MX", bad(by_tlsa(WRONG), NO_MATCH), tlsa=(WRONG,), secure=False),
    kind("insecure MX, encrypt", tlsa=(WRONG,), secure=False, settings={"insecure_mx": "encrypt"}),
    kind(
        "insecure MX, encrypt, no STARTTLS",
        bad(by_tlsa(EE), ABSENT),
        tlsa=(EE,),
        secure=False,
        servers=_NO_TLS,
        settings={"insecure_mx": "encrypt"},
    ),
    kind("insecure MX, may", ok(NO_POLICY), tlsa=(WRONG,), secure=False, settings={"insecure_mx": "may"}),
    kind(
        "DANE, two addresses",
        bad(by_tlsa(EE), HANDSHAKE),
        ok(by_tlsa(EE)),
        tlsa=(EE,),
        extra=("mx1 AAAA 2001:db8::1",),
        servers={IP1: _serves(starttls="fail"), IPV6: _serves(_RIGHT)},
    ),
    kind(
        "DANE, two addresses, both fail",
        bad(by_tlsa(EE), ABSENT),
        bad(by_tlsa(EE), seen("validation-failure", "no-tlsa-match", address=IPV6)),
        tlsa=(EE,),
        extra=("mx1 AAAA 2001:db8::1",),
        servers={IP1: _serves(starttls="absent"), IPV6: _serves(_STRANGER)},
    ),
    # MTA-STS
    kind("enforce", ok(_ENFORCED), **published("enforce", MX1)),
    kind("enforce, misnamed", bad(_ENFORCED, MISNAMED), servers=_MISNAMES, **published("enforce", MX1)),
    kind("enforce, expired", bad(_ENFORCED, EXPIRED), servers=_EXPIRES, **published("enforce", MX1)),
    kind("enforce, untrusted", bad(_ENFORCED, UNTRUSTED), servers=_STRANGE, **published("enforce", MX1)),
    kind("enforce, no STARTTLS", bad(_ENFORCED, ABSENT), servers=_NO_TLS, **published("enforce", MX1)),
    kind("enforce, unlisted", bad(by_sts("enforce", MX2), UNLISTED_SKIP), **published("enforce", MX2)),
    kind(
        "enforce, one unlisted, one right",
        bad(by_sts("enforce", MX2), UNLISTED_SKIP),
        ok(by_sts("enforce", MX2)),
        mx=_BOTH_MX,
        servers={IP2: _serves(_RIGHT)},
        **published("enforce", MX2),
    ),
    kind(
        "enforce, patterns",
        ok(by_sts("enforce", "mx.old.test", "*.provider.test")),
        **published("enforce", "mx.old.test", "*.provider.test"),
    ),
    kind(
        "enforce, switched off", ok(NO_POLICY), servers=_STRANGE, settings={"sts": "off"}, **published("enforce", MX1)
    ),
    kind("testing", ok(_TESTED), **published("testing", MX1)),
    kind("testing, misnamed", bad(_TESTED, MISNAMED), servers=_MISNAMES, **published("testing", MX1)),
    kind("testing, in clear", bad(_TESTED, ABSENT), servers=_NO_TLS, **published("testing", MX1)),
    kind("testing, cleartext retry", bad(_TESTED, HANDSHAKE), servers=_NO_HANDSHAKE, **published("testing", MX1)),
    kind("testing, unlisted", bad(by_sts("testing", MX2), UNLISTED), **published("testing", MX2)),
    kind(
        "testing, unlisted and untrusted",
        bad(by_sts("testing", MX2), UNLISTED, UNTRUSTED),
        servers=_STRANGE,
        **published("testing", MX2),
    ),
    kind("none", ok(NO_POLICY), servers=_STRANGE, **published("none")),
    kind("none, in clear", bad(NO_POLICY, ABSENT), servers=_NO_TLS, **published("none")),
    # both
    kind("both", ok(by_tlsa(EE)), ok(_ENFORCED), tlsa=(EE,), **published("enforce", MX1)),
    kind("both hold", ok(by_tlsa(EE)), ok(_ENFORCED), tlsa=(EE,), settings=_BOTH, **published("enforce", MX1)),
    kind(
        "DANE fails, PKIX holds",
        bad(by_tlsa(WRONG), NO_MATCH),
        ok(_ENFORCED),
        tlsa=(WRONG,),
        settings=_BOTH,
        **published("enforce", MX1),
    ),
    kind(
        "DANE fails, exempt", bad(by_tlsa(WRONG), NO_MATCH), ok(_ENFORCED), tlsa=(WRONG,), **published("enforce", MX1)
    ),
    kind(
        "DANE holds, PKIX fails",
        ok(by_tlsa(_tlsa(3, _STRANGER))),
        bad(_ENFORCED, UNTRUSTED),
        tlsa=(_tlsa(3, _STRANGER),),
        servers=_STRANGE,
        settings=_BOTH,
        **published("enforce", MX1),
    ),
    kind(
        "DANE holds, exempt, PKIX fails",
        ok(by_tlsa(_tlsa(3, _STRANGER))),
        bad(_ENFORCED, UNTRUSTED),
        tlsa=(_tlsa(3, _STRANGER),),
        servers=_STRANGE,
        **published("enforce", MX1),
    ),
    kind(
        "both fail",
        bad(by_tlsa(EE), NO_MATCH),
        bad(_ENFORCED, UNTRUSTED),
        tlsa=(EE,),
        servers=_STRANGE,
        settings=_BOTH,
        **published("enforce", MX1),
    ),
    kind(
        "both, no STARTTLS",
        bad(by_tlsa(EE), ABSENT),
        bad(_ENFORCED, ABSENT),
        tlsa=(EE,),
        servers=_NO_TLS,
        **published("enforce", MX1),
    ),
    kind(
        "DANE holds, unlisted, exempt",
        ok(by_tlsa(EE)),
        bad(by_sts("enforce", MX2), UNLISTED),
        tlsa=(EE,),
        **published("enforce", MX2),
    ),
    kind("DANE, testing", ok(by_tlsa(EE)), ok(_TESTED), tlsa=(EE,), **published("testing", MX1)),
    kind(
        "unusable, enforce",
        bad(by_tlsa(UNUSABLE), NO_USABLE),
        ok(_ENFORCED),
        tlsa=(UNUSABLE,),
        **published("enforce", MX1),
    ),
    kind(
        "DANE mandatory, enforce",
        bad(by_tlsa(), unseen("dane-required", "dane-required", MX1)),
        settings={"dane": "mandatory"},
        **published("enforce", MX1),
    ),
    # what is announced can not be had
    kind("fetch fails", bad(announced(), FETCH_ERROR), **_TIMEOUT),
    kind("fetch fails, status", bad(announced(), FETCH_ERROR), txt="2", https={"status": 404}),
    kind("fetch fails, in clear", bad(announced(), FETCH_ERROR, ABSENT), servers=_NO_TLS, **_TIMEOUT),
    kind("fetch fails, DANE", ok(by_tlsa(EE)), bad(announced(), FETCH_ERROR), tlsa=(EE,), **_TIMEOUT),
    kind("fetch fails, unreachable", bad(announced(), FETCH_ERROR), servers={}, **_TIMEOUT),
    kind(
        "fetch fails, two sessions",
        bad(announced(), FETCH_ERROR),
        bad(announced(), FETCH_ERROR),
        mx=_BOTH_MX,
        servers={IP1: _GREYLISTS, IP2: _serves(_RIGHT)},
        **_TIMEOUT,
    ),
    kind("policy host untrusted", bad(announced(), WEBPKI), **_UNTRUSTED_HOST),
    kind("policy invalid", bad(announced(_NO_MODE), MODE_MISSING), **_INVALID),
    kind(
        "policy empty",
        bad(announced(), unseen("sts-policy-invalid", "policy-invalid: empty")),
        txt="2",
        https={"content_type": "text/plain"},
    ),
    Kind(
        name="back-off",
        visits=((bad(announced(), FETCH_ERROR),), (bad(announced(), FETCH_ERROR),)),
        **_TIMEOUT,
    ),
    kind("cached, fetch fails", ok(_ENFORCED, FETCH_ERROR), cache=_CACHED, **_TIMEOUT),
    kind("cached, policy host untrusted", ok(_ENFORCED, WEBPKI), cache=_CACHED, **_UNTRUSTED_HOST),
    kind("cached, policy invalid", ok(_ENFORCED, MODE_MISSING), cache=_CACHED, **_INVALID),
    kind(
        "cached, fetch fails, misnamed",
        bad(_ENFORCED, FETCH_ERROR, MISNAMED),
        cache=_CACHED,
        servers=_MISNAMES,
        **_TIMEOUT,
    ),
    kind("cached, unreachable", bad(_ENFORCED, FETCH_ERROR), cache=_CACHED, servers={}, **_TIMEOUT),
    kind(
        "cached, two sessions",
        ok(by_sts("enforce", MX1, MX2), FETCH_ERROR),
        ok(by_sts("enforce", MX1, MX2)),
        cache=policy_text("enforce", MX1, MX2),
        mx=_BOTH_MX,
        servers={IP1: _GREYLISTS, IP2: _serves(_RIGHT)},
        **_TIMEOUT,
    ),
    kind(
        "cached, unlisted",
        bad(by_sts("enforce", MX2), FETCH_ERROR, UNLISTED_SKIP),
        cache=policy_text("enforce", MX2),
        **_TIMEOUT,
    ),
    Kind(name="cached, back-off", visits=((ok(_ENFORCED, FETCH_ERROR),), (ok(_ENFORCED),)), cache=_CACHED, **_TIMEOUT),
    Kind(
        name="cached, back-off, unreachable",
        visits=((bad(_ENFORCED, FETCH_ERROR),), ()),
        cache=_CACHED,
        servers={},
        **_TIMEOUT,
    ),
    kind("cached, record gone", ok(_ENFORCED, unseen("sts-policy-fetch-error", "record-missing")), cache=_CACHED),
    kind(
        "cached, record invalid",
        ok(_ENFORCED, unseen("sts-policy-fetch-error", "record-invalid")),
        cache=_CACHED,
        broken_txt="v=STSv1; id=-;",
    ),
    kind(
        "cached, DNS fails",
        ok(_ENFORCED, unseen("sts-policy-fetch-error", "dns-error")),
        cache=_CACHED,
        failures=(("_mta-sts.DOMAIN", "TXT"),),
    ),
    kind("cached mode none, fetch fails", bad(announced(), FETCH_ERROR), cache=policy_text("none"), **_TIMEOUT),
    kind("cached mode none, record gone", ok(NO_POLICY), cache=policy_text("none")),
    kind("DNS fails", ok(NO_POLICY), failures=(("_mta-sts.DOMAIN", "TXT"),)),
    kind("DNS fails, wait", failures=(("_mta-sts.DOMAIN", "TXT"),), settings={"sts_on_dns_error": "defer"}),
    kind("record invalid", ok(NO_POLICY), broken_txt="v=STSv1; id=-;"),
    # through a relay
    kind(
        "a relay",
        ok(("no-policy-found", "relay.DOMAIN", (), ())),
        next_hop="[relay.DOMAIN]",
        domain="relay.DOMAIN",
        mx=("relay A 192.0.2.1",),
    ),
    kind(
        "a relay with TLSA",
        bad(by_tlsa(WRONG, host="relay.DOMAIN"), seen("validation-failure", "no-tlsa-match", "relay.DOMAIN")),
        next_hop="[relay.DOMAIN]",
        domain="relay.DOMAIN",
        mx=("relay A 192.0.2.1", f"_25._tcp.relay TLSA {WRONG}"),
    ),
)


# --- the month


def domain_names() -> list[str]:
    """The domains, some of them internationalised."""
    return [f"b\xfccher{n}.test" if n % 50 == 0 else f"client{n}.test" for n in range(DOMAINS)]


def ascii_name(domain: str) -> str:
    label, _, rest = domain.partition(".")
    return domain if label.isascii() else f"xn--{label.encode('punycode').decode()}.{rest}"


@frozen
class Visit:
    """Deliveries to a domain in a row, by one machine."""

    kind: Kind
    domain: str
    at: datetime
    machine: int


def kinds_of_domains(seed: int) -> dict[str, list[Kind]]:
    """Each domain is of two kinds by turns."""
    chance = random.Random(seed)
    return {domain: [KINDS[number % len(KINDS)], chance.choice(KINDS)] for number, domain in enumerate(domain_names())}


def visits(seed: int) -> Iterator[Visit]:
    """The month in the order of time; some domains get most of the mail."""
    chance, of_domain = random.Random(seed), kinds_of_domains(seed)
    for day in range(DAYS):
        start = datetime.combine(FIRST_DAY, datetime.min.time(), timezone.utc) + timedelta(days=day)
        found = []
        for number, (domain, kinds) in enumerate(of_domain.items()):
            busy = 12 if number % 100 == 0 else int(chance.random() < SHARE)
            for slot in chance.sample(range(SLOTS), busy):
                chosen = chance.choice(kinds)
                at = start + timedelta(minutes=10 * slot)
                if slot == SLOTS - 1 and len(chosen.visits) == 1:
                    at = start + timedelta(days=1, microseconds=-1)
                found.append(Visit(chosen, domain, at, chance.randrange(len(SOURCES))))
        yield from sorted(found, key=lambda visit: visit.at)


def expected(month: Iterable[Visit]) -> Count:
    """What the reports of a month have to say, from what is known of every kind."""
    count: Count = Counter()
    for visit in month:
        domain = ascii_name(visit.domain)
        for judged in visit.kind.visits:
            for policy, word, details in judged:
                about = _in(domain, visit.kind.domain)
                for what in (word, *details):
                    key = visit.at.date(), about, policy, what
                    count[_filled(key, domain, visit.machine)] += 1
    return count


def _filled(value: Any, domain: str, machine: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_filled(part, domain, machine) for part in value)
    if not isinstance(value, str):
        return value
    four, six = SOURCES[machine]
    return value.replace("DOMAIN", domain).replace("SOURCE4", four).replace("SOURCE6", six)


def report_of(aggregate: Aggregate) -> Report:
    return Report.of(aggregate, organization_name="Sender", contact_info="tls@sender.test")


def simulate(seed: int) -> tuple[list[Report], int, int]:
    """Deliver it all on two machines, which are restarted and merged every day.

    Returns the reports, how many deliveries there were and how many sessions.
    """
    machines, whole, today = [Aggregates(), Aggregates()], Aggregates(), FIRST_DAY
    reports: list[Report] = []
    deliveries = held = 0

    def close_day(before: date) -> None:
        for machine in machines:
            left = len(machine)
            taken = machine.take(before)
            assert len(machine) == left - len(taken)
            whole.merge(taken)
        again = Aggregates.from_json(json.loads(json.dumps(whole.to_json())))
        reports.extend(map(report_of, again))
        whole.take(before)
        assert len(whole) == 0

    for visit, outcome in outcomes(seed):
        if visit.at.date() > today:
            close_day(visit.at.date())
            machines[0] = Aggregates.from_json(machines[0].to_json())
            today = visit.at.date()
        machines[visit.machine].add(outcome)
        deliveries, held = deliveries + 1, held + len(sessions(outcome))
    close_day(date.max)
    return reports, deliveries, held


def outcomes(seed: int) -> Iterator[tuple[Visit, Outcome]]:
    """What becomes of the deliveries of every visit, in order."""
    engines = _engines(seed)
    for visit in visits(seed):
        engine, to = engines[visit.kind.name, visit.machine], _in(visit.domain, visit.kind.next_hop)
        for number in range(len(visit.kind.visits)):
            yield visit, engine.simulate(to, now=visit.at + timedelta(minutes=number), **visit.kind.message)


def _engines(seed: int) -> dict[tuple[str, int], WorldEngine]:
    """An engine for each kind and machine; the machines have one world, and addresses of their own."""
    domains: dict[str, list[str]] = {each.name: [] for each in KINDS}
    for domain, kinds in kinds_of_domains(seed).items():
        for name in {each.name for each in kinds}:
            domains[name].append(ascii_name(domain))
    engines = {}
    for each in KINDS:
        world = each.world(domains[each.name])
        for machine, sources in enumerate(SOURCES):
            own = evolve(world, connector=evolve(world.connector, sources=sources))
            engines[each.name, machine] = own.engine(Config(**each.settings))
    return engines


_DETAIL = (
    *("result-type", "failure-reason-code", "receiving-mx-hostname"),
    *("receiving-mx-helo", "receiving-ip", "sending-mta-ip"),
)


def reported(reports: Iterable[Report]) -> Count:
    """The counts of reports, as their documents have them."""
    count: Count = Counter()
    for report in reports:
        document = json.loads(report.to_bytes())
        day = date.fromisoformat(document["date-range"]["start-datetime"][:10])
        assert report.domain is not None
        for element in document["policies"]:
            said = element["policy"]
            policy = (
                said["policy-type"],
                said["policy-domain"],
                tuple(said.get("policy-string", ())),
                tuple(said.get("mx-host", ())),
            )
            members = {"success": "total-successful-session-count", "failure": "total-failure-session-count"}
            for word, member in members.items():
                if element["summary"][member]:
                    count[day, report.domain, policy, word] += element["summary"][member]
            for detail in element["failure-details"]:
                assert detail.keys() <= {*_DETAIL, "failed-session-count"}
                detailed = tuple(detail.get(member) for member in _DETAIL)
                assert (day, report.domain, policy, detailed) not in count, "one element a detail"
                count[day, report.domain, policy, detailed] = detail["failed-session-count"]
    return count


def main(seed: int) -> None:
    """Print what a month comes to, and whether both counts agree."""
    start = time.perf_counter()
    reports, deliveries, held = simulate(seed)
    got, want = reported(reports), expected(visits(seed))
    totals: Counter[str] = Counter()
    for (_, _, policy, what), number in got.items():
        totals[f"{policy[0]}: {what}" if isinstance(what, str) else f"{policy[0]}: {what[0]} ({what[1]})"] += number
    verdict = "equal" if got == want else "DIFFERENT"
    print(f"seed {seed}: {deliveries} deliveries of {len(KINDS)} kinds to {DOMAINS} domains on {DAYS} days")
    print(f"{held} sessions in {len(reports)} reports; {len(got)} totals, {verdict} to those counted otherwise")
    for text, number in sorted(totals.items()):
        print(f"{number:8} {text}")
    print(f"{time.perf_counter() - start:.1f} seconds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEED)
