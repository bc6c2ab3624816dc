"""Certificates for the servers of the checks: made anew in each process, worth nothing, all with one key."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from functools import cache

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_START = datetime(2026, 1, 1, tzinfo=timezone.utc)  # long over: nobody here may look at dates
_END = _START + timedelta(days=1)


@frozen
class Certificates:
    """A key in PEM, and two chains that present it, as DER.

    The first has a stranger in it and an issuer twice, as servers do that nobody has looked at.
    """

    key: bytes
    first: tuple[bytes, ...]
    second: tuple[bytes, ...]


@cache
def certificates() -> Certificates:
    """The same in each call."""
    key = ec.generate_private_key(ec.SECP256R1())
    one, other, issuer, stranger = (
        _certificate(name, by, key) for name, by in (("1", "ca"), ("2", "ca"), ("ca", "ca"), ("stranger", "stranger"))
    )
    return Certificates(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        (one, issuer, stranger, issuer),
        (other, issuer),
    )


def pems(chain: tuple[bytes, ...]) -> list[str]:
    """The chain as a world has it."""
    return [f"pem:{ssl.DER_cert_to_PEM_cert(der)}" for der in chain]


def _certificate(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    certificate = builder.not_valid_before(_START).not_valid_after(_END).sign(key, SHA256())
    return certificate.public_bytes(Encoding.DER)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
