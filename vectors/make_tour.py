"""Writes src/mailtlspolicy/world/tour.json, the world that is built in: one domain for each kind of decision.

Run it from the top folder: `python -m vectors.make_tour`. Every run writes the same bytes. The certificates are made as
those of the vectors are; all are issued by the row `ta` of their table.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

from vectors.make_certificates import PAST, ROWS, Certificate, cn, pem, server

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src" / "mailtlspolicy" / "world" / "tour.json"


def leaf(host: str, *names: str, key: str = "", not_after: str = "20350101000000") -> Certificate:
    """The certificate of one server, with these names in subjectAltName, the host's own if none is given."""
    return Certificate(
        f"tour {host}",
        f"the server {host}",
        "ta",
        server(*(names or (host,))),
        name=cn(host),
        key=f"p256 tour {key or host}",
        not_after=not_after,
    )


AUTHORITY = ROWS["ta"]
PROVIDER = leaf("mx1.provider.example")
PLAIN = leaf("mail.plain.example")
UNUSABLE = leaf("mx.unusable.example")
CUSTOMER = leaf("mail.customer.example")
LEGACY = leaf("mx.legacy.example")
IMPLICIT = leaf("implicit.example")
ANCHOR = leaf("mx.anchor.example", "anchor.example")
ROLLOVER_BEFORE = leaf("mx.rollover.example", key="mx.rollover.example, before")
ROLLOVER_AFTER = leaf("mx.rollover.example", key="mx.rollover.example, after")
MISMATCH = leaf("mx.mismatch.example")
MISMATCH_PUBLISHED = leaf("mx.mismatch.example", key="mx.mismatch.example, before")
EXPIRED = leaf("mx.expired.example", not_after=PAST)
NOSTARTTLS = leaf("mx.nostarttls.example")
ENFORCED = leaf("mx.enforced.example")
TESTING = leaf("mx.testing.example", "mail.testing.example")
STRAY = leaf("mx.stray.example")
BOTH = leaf("mx.both.example", "mail.both.example")
CACHED = leaf("mx.cached.example")
REQUIRED = leaf("mx.required.example")


def tlsa(usage: int, selector: int, certificate: Certificate) -> str:
    """The text of a TLSA record with a SHA-256 digest."""
    selected = certificate.pair.spki if selector else certificate.der()
    return f"TLSA {usage} {selector} 1 {hashlib.sha256(selected).hexdigest()}"


def policy(mode: str, domain: str) -> str:
    """A policy that names the host mx of its domain (RFC 8461 section 3.2)."""
    mx = "" if mode == "none" else f"mx: mx.{domain}\n"
    return f"version: STSv1\nmode: {mode}\n{mx}max_age: 604800\n"


def serves(mode: str, domain: str) -> dict[str, Any]:
    """A policy host."""
    return {"content_type": "text/plain", "body": policy(mode, domain)}


def shows(certificate: Certificate, **more: Any) -> dict[str, Any]:
    """A server on port 25 that presents a certificate and its issuer."""
    return {"25": {"starttls": "ok", "chain": chain(certificate)} | more}


def chain(certificate: Certificate) -> list[str]:
    """A chain as the format of worlds has it, leaf first."""
    return [f"pem:{pem(der)}" for der in (certificate.der(), AUTHORITY.der())]


ANNOUNCED = '_mta-sts TXT "v=STSv1; id=20260101"'


def asks(*rua: str) -> str:
    """The record of a domain that wants reports (RFC 8460 section 3)."""
    return f'_smtp._tls TXT "v=TLSRPTv1; rua={",".join(rua)}"'


def named(host: str) -> dict[str, Any]:
    """The reply to EHLO of a server that says its name."""
    return {"EHLO": f"250 {host} at your service"}


SECURE: dict[str, list[str]] = {
    # The aliases of whole domains stand here: no zone has one at its own top.
    "example": [
        "renamed CNAME signed.example.",
        "loop CNAME pool.example.",
        "pool CNAME loop.example.",
    ],
    # The provider that most of the domains below are hosted at
    "provider.example": [
        "mx1 A 192.0.2.1",
        "mx1 AAAA 2001:db8::1",
        f"_25._tcp.mx1 {tlsa(3, 1, PROVIDER)}",
    ],
    "signed.example": ["@ MX 10 mx1.provider.example.", asks("mailto:tls-reports@signed.example")],
    "alias.example": ["@ MX 10 mail", "mail CNAME mx1.provider.example."],
    "customer.example": [
        "@ MX 10 mail",
        "mail CNAME mx.legacy.example.",
        f"_25._tcp.mail {tlsa(3, 1, CUSTOMER)}",
    ],
    "implicit.example": ["@ A 192.0.2.30", f"_25._tcp {tlsa(3, 1, IMPLICIT)}"],
    "nullmx.example": ["@ MX 0 ."],
    "mixed.example": [
        "@ MX 10 old",
        "@ MX 20 mail.plain.example.",
        "@ MX 30 mx1.provider.example.",
        "@ MX 40 mx.broken-tlsa.example.",
    ],
    "anchor.example": [
        "@ MX 10 mx",
        "mx A 192.0.2.40",
        f"_25._tcp.mx {tlsa(2, 0, AUTHORITY)}",
    ],
    "rollover.example": [
        "@ MX 10 mx",
        "mx A 192.0.2.41",
        f"_25._tcp.mx {tlsa(3, 1, ROLLOVER_BEFORE)}",
        f"_25._tcp.mx {tlsa(3, 1, ROLLOVER_AFTER)}",
    ],
    "unusable.example": ["@ MX 10 mx", "mx A 192.0.2.42", f"_25._tcp.mx {tlsa(1, 1, UNUSABLE)}"],
    "broken-tlsa.example": ["@ MX 10 mx", "mx A 192.0.2.43"],
    "mismatch.example": [
        "@ MX 10 mx",
        "mx A 192.0.2.44",
        f"_25._tcp.mx {tlsa(3, 1, MISMATCH_PUBLISHED)}",
        asks("mailto:tls-reports@mismatch.example", "https://reports.mismatch.example/v1/tls"),
    ],
    "expired.example": ["@ MX 10 mx", "mx A 192.0.2.45", f"_25._tcp.mx {tlsa(2, 0, AUTHORITY)}"],
    "nostarttls.example": [
        "@ MX 10 mx",
        "mx A 192.0.2.46",
        f"_25._tcp.mx {tlsa(3, 1, NOSTARTTLS)}",
        asks("mailto:tls-reports@nostarttls.example"),
    ],
    "required.example": ["@ MX 10 mx", "mx A 192.0.2.55", f"_25._tcp.mx {tlsa(3, 1, REQUIRED)}"],
    "both.example": [
        "@ MX 10 mx",
        "mx A 192.0.2.53",
        f"_25._tcp.mx {tlsa(3, 1, BOTH)}",
        ANNOUNCED,
        asks("mailto:tls-reports@both.example"),
    ],
}

INSECURE: dict[str, list[str]] = {
    "unsigned.example": ["@ MX 10 mx1.provider.example."],
    "plain.example": ["@ MX 10 mail", "mail A 192.0.2.10"],
    "cleartext.example": ["@ MX 10 mail", "mail A 192.0.2.11"],
    "broken-tls.example": ["@ MX 10 mail", "mail A 192.0.2.12"],
    "legacy.example": ["mx A 192.0.2.20"],
    "enforced.example": ["@ MX 10 mx", "mx A 192.0.2.50", ANNOUNCED],
    "testing.example": ["@ MX 10 mx", "mx A 192.0.2.51", ANNOUNCED, asks("mailto:tls-reports@testing.example")],
    "stray.example": [
        "@ MX 10 mx1.provider.example.",
        "@ MX 20 mx",
        "mx A 192.0.2.52",
        ANNOUNCED,
        asks("mailto:tls-reports@stray.example"),
    ],
    "cached.example": ["@ MX 10 mx", "mx A 192.0.2.54", ANNOUNCED],
    "unfetched.example": [
        "@ MX 10 mail.plain.example.",
        ANNOUNCED,
        asks("https://reports.unfetched.example/v1/tls"),
    ],
    "optout.example": ["@ MX 10 mail.plain.example.", ANNOUNCED],
}

WORLD: dict[str, Any] = {
    "version": 1,
    "now": "2026-01-01T00:00:00Z",
    "source": ["198.51.100.25", "2001:db8:1::25"],
    "zones": {
        **{zone: {"security": "secure", "records": records} for zone, records in SECURE.items()},
        **{zone: {"security": "insecure", "records": records} for zone, records in INSECURE.items()},
        "bogus.example": {"security": "bogus", "records": ["@ MX 10 mx1.provider.example."]},
    },
    "failures": [{"name": "_25._tcp.mx.broken-tlsa.example", "type": "TLSA", "kind": "servfail"}],
    "https": {
        "mta-sts.enforced.example": serves("enforce", "enforced.example"),
        "mta-sts.testing.example": serves("testing", "testing.example"),
        "mta-sts.stray.example": serves("enforce", "stray.example"),
        "mta-sts.both.example": serves("enforce", "both.example"),
        "mta-sts.cached.example": {"error": "timeout"},
        "mta-sts.unfetched.example": {"certificate": "expired"} | serves("enforce", "unfetched.example"),
        "mta-sts.optout.example": serves("none", "optout.example"),
    },
    "cache": {
        "cached.example": {
            "id": "20251201",
            "fetched": "2025-12-31T00:00:00Z",
            "policy": policy("enforce", "cached.example"),
        }
    },
    "trust": [f"pem:{pem(AUTHORITY.der())}"],
    "servers": {
        "192.0.2.1": shows(PROVIDER),
        "2001:db8::1": shows(PROVIDER),
        "192.0.2.10": shows(PLAIN),
        "192.0.2.11": {"25": {"starttls": "absent"}},
        "192.0.2.12": {"25": {"starttls": "fail"}},
        "192.0.2.20": shows(LEGACY, by_sni={"mail.customer.example": chain(CUSTOMER)}),
        "192.0.2.30": shows(IMPLICIT),
        "192.0.2.40": shows(ANCHOR),
        "192.0.2.41": shows(ROLLOVER_AFTER),
        "192.0.2.42": shows(UNUSABLE),
        "192.0.2.44": shows(MISMATCH, replies=named("mx.mismatch.example")),
        "192.0.2.45": shows(EXPIRED),
        "192.0.2.46": {"25": {"starttls": "absent", "replies": named("mx.nostarttls.example")}},
        "192.0.2.50": shows(ENFORCED),
        "192.0.2.51": shows(TESTING, replies=named("mx.testing.example")),
        "192.0.2.52": shows(STRAY, replies=named("mx.stray.example")),
        "192.0.2.53": shows(BOTH, replies=named("mx.both.example")),
        "192.0.2.54": shows(CACHED),
        "192.0.2.55": shows(REQUIRED, requiretls=True),
    },
}


def text() -> str:
    """What the file holds."""
    return json.dumps(WORLD, indent=1) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text(), encoding="ascii", newline="\n")
