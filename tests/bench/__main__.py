"""Benchmarks beside libssl and other Python code, in one run: `python -m tests.bench`.

Rows that are compared are timed in turns, so that a change of the machine's speed meets both; a row is the median of
its turns. What counts is the ratio of a run, not the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store
from service_identity.hazmat import DNS_ID, DNSPattern

from mailtlspolicy import AsyncEngine, Tlsa, TlsaRRset, World, dane, identity, pkix
from mailtlspolicy.config import Config, Sts
from mailtlspolicy.x509.certificates import subject_public_key_info
from tests.bench import delivery, stores, sts
from tests.bench.rows import Row, hundreds, print_table
from tests.differential.libssl import libssl

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
NAME = "mx.example.com"
DOMAINS = 10_000
PEERS = ("service-identity", sts.MSR, sts.CDM)


def make_chain(new_key: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]) -> list[bytes]:
    """Leaf, intermediate and root, leaf first."""
    ders: list[bytes] = []
    issuer_name, issuer_key = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]), None
    for depth, name in ((2, "root"), (1, "intermediate"), (0, NAME)):
        key, subject = new_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(depth + 1)
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(depth > 0, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        signer = issuer_key or key
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
        if depth == 0:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), critical=False)
        else:
            builder = builder.add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
            )
        ders.insert(0, builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER))
        issuer_name, issuer_key = subject, key
    return ders


def verification_rows(title: str, chain: list[bytes]) -> list[Row]:
    """`3 1 1` and `2 0 1` from DER beside libssl's own, PKIX beside the bare verifier of cryptography."""
    oracle, at = libssl(), int(NOW.timestamp())
    records = {
        "3 1 1": Tlsa(3, 1, 1, hashlib.sha256(subject_public_key_info(chain[0])).digest()),
        "2 0 1": Tlsa(2, 0, 1, hashlib.sha256(chain[1]).digest()),
    }
    rows = []
    for text, record in records.items():
        rrset, raw = TlsaRRset([record]), (record.usage, record.selector, record.matching_type, record.data)

        def ours(rrset: TlsaRRset = rrset) -> bool:
            return dane.verify(chain, rrset, [NAME], now=NOW).authenticated

        def theirs(raw: tuple[int, int, int, bytes] = raw) -> bool:
            return oracle.verify(chain, [raw], [NAME], now=at).authenticated

        rows.append(Row(f"`{text}` from DER, {title}", ours, "libssl by ctypes", theirs))
    trust = pkix.TrustStore([chain[2]])

    def bare() -> object:
        leaf, intermediate, root = map(x509.load_der_x509_certificate, chain)
        verifier = PolicyBuilder().store(Store([root])).time(NOW).build_server_verifier(x509.DNSName(NAME))
        return verifier.verify(leaf, [intermediate])

    def with_policy() -> bool:
        return pkix.verify(chain, trust, NAME, now=NOW).authenticated

    return [*rows, Row(f"PKIX from DER, {title}", with_policy, "cryptography alone", bare)]


def name_rows() -> list[Row]:
    """A wildcard and an exact name, beside service-identity's matcher."""

    def theirs() -> list[bool]:
        reference = DNS_ID(NAME)
        return [reference.verify(DNSPattern.from_bytes(name)) for name in (b"*.example.com", b"mx.example.com")]

    def ours() -> list[bool]:
        return [identity.matches(name, NAME) for name in ("*.example.com", "mx.example.com")]

    return [Row("two presented names with one reference", ours, "service-identity", theirs)]


def plan_rows() -> list[Row]:
    """Plans over a static world, synchronous and under asyncio; a turn takes the next hundred domains."""
    zones: dict[str, object] = {
        f"d{number}.example": {
            "security": "secure",
            "records": [
                "@ MX 10 mx1",
                "@ MX 20 mx2",
                *(f"mx{host} A 192.0.2.{host}" for host in (1, 2)),
                *(f"_25._tcp.mx{host} TLSA 3 1 1 {'ab' * 32}" for host in (1, 2)),
            ],
        }
        for number in range(DOMAINS)
    }
    world = World.from_json({"now": NOW.isoformat(), "zones": zones})
    config = Config(sts=Sts.OFF)
    engine = world.engine(config)

    class Resolver:
        async def lookup(self, question: Lookup) -> Answer | LookupFailure:
            return world.resolver.lookup(question)

    asynchronous = AsyncEngine(Resolver(), clock=lambda: NOW, config=config)
    loop = asyncio.new_event_loop()
    names = [f"d{number}.example" for number in range(DOMAINS)]
    batches = hundreds(names)

    def synchronous() -> None:
        for name in next(batches):
            engine.plan(name)

    def concurrent() -> None:
        async def run() -> None:
            for name in next(batches):
                await asynchronous.plan(name)

        loop.run_until_complete(run())

    return [Row("100 plans, two MX hosts each", synchronous, "the same under asyncio", concurrent)]


def main() -> int:
    """Print a table in Markdown, and what goes with it."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory()))
        complete = print_table(
            [
                *plan_rows(),
                *verification_rows("RSA 2048", make_chain(lambda: rsa.generate_private_key(65537, 2048))),
                *verification_rows("P-256", make_chain(lambda: ec.generate_private_key(ec.SECP256R1()))),
                *name_rows(),
                *sts.rows(folder, closing),
                *delivery.rows(folder, closing),
            ]
        )
    print()
    stores.measure_stores()
    print(f"\n{sts.planning_a_million()}")
    print(f"\nPython {sys.version.split()[0]}, libssl {libssl().version()}, {', '.join(map(installed, PEERS))}.")
    return 0 if complete else 1


def installed(package: str) -> str:
    """A package and its version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} missing"


if __name__ == "__main__":
    sys.exit(main())
