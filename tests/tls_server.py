"""Self-made certificates, and server contexts that present them, for the tests of the adapters."""

from __future__ import annotations

import ssl
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

PATIENCE = 60.0  # seconds that a server waits: longer than any client has to, on a busy machine too


def without_end(send: Callable[[], object]) -> None:
    """Send again and again, until that fails or the patience of this server is at its end (`TimeoutError`)."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        send()
    raise TimeoutError


@frozen
class Credentials:
    """A file with a key and the chain to present with it, and that chain as DER."""

    file: Path
    chain: tuple[bytes, ...]

    def context(self, *, ciphers: str | None = None) -> ssl.SSLContext:
        """A server context at OpenSSL's lowest security level."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(ciphers or "DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(self.file)
        return context


def certificate(
    subject: str, key: EllipticCurvePrivateKey | RSAPrivateKey, issuer: str, issuer_key: EllipticCurvePrivateKey
) -> x509.Certificate:
    """A certificate that has long expired: nobody here may look at dates."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2001, 1, 1, tzinfo=timezone.utc))
        .not_valid_after(datetime(2002, 1, 1, tzinfo=timezone.utc))
        .sign(issuer_key, hashes.SHA256())
    )


def credentials(folder: Path, *, weak: bool = False) -> Credentials:
    """A leaf, its issuer, a stranger and the issuer once more; `weak` gives the leaf an RSA key of 1024 bits."""
    key = rsa.generate_private_key(65537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
    issuer_key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate("somebody.else.example", key, "issuer", issuer_key)
    issuer = certificate("issuer", issuer_key, "issuer", issuer_key)
    stranger = certificate("stranger", issuer_key, "stranger", issuer_key)
    chain = [leaf, issuer, stranger, issuer]
    file = folder / ("weak.pem" if weak else "chain.pem")
    pems = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    pems += [item.public_bytes(Encoding.PEM) for item in chain]
    file.write_bytes(b"".join(pems))
    return Credentials(file, tuple(item.public_bytes(Encoding.DER) for item in chain))
