"""The lab's certificates: a private root, an intermediate below it, a stranger's root, and a leaf for every server.

A certificate formats as its TLSA record, so that zones can be written by hand: `f"{leaf:3 1 1}"`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_DIGESTS = {"1": hashlib.sha256, "2": hashlib.sha512}


def tlsa_data(selected: bytes, matching_type: str) -> str:
    """Certificate association data in hex: RFC 6698 section 2.1.3."""
    return selected.hex() if matching_type == "0" else _DIGESTS[matching_type](selected).hexdigest()


@frozen
class Certificate:
    """A certificate and its private key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def selected(self, selector: str) -> bytes:
        """What a TLSA selector takes of it: RFC 6698 section 2.1.2."""
        if selector == "0":
            return self.certificate.public_bytes(Encoding.DER)
        return self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def __format__(self, spec: str) -> str:
        usage, selector, matching_type = spec.split()
        return f"{usage} {selector} {matching_type} {tlsa_data(self.selected(selector), matching_type)}"


def issue(
    common_name: str,
    issuer: Certificate | None = None,
    *,
    is_ca: bool = False,
    names: Sequence[str] = (),
    expired: bool = False,
) -> Certificate:
    """Make a certificate with a new P-256 key, self-signed where there is no issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    first, last = (-30, -1) if expired else (-1, 30)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=first))
        .not_valid_after(now + dt.timedelta(days=last))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    return Certificate(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def authorities() -> dict[str, Certificate]:
    """The CA certificates by the names that scenarios use for them."""
    root = issue("Lab Root CA", is_ca=True)
    return {
        "root": root,
        "intermediate": issue("Lab Issuing CA", root, is_ca=True),
        "stranger": issue("Stranger CA", is_ca=True),
    }


def write_chain(path: Path, leaf: Certificate, others: Iterable[Certificate]) -> None:
    """Write what `ssl.SSLContext.load_cert_chain` reads: the leaf's key, the leaf, and what is sent after it."""
    key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + leaf.pem() + b"".join(certificate.pem() for certificate in others))
