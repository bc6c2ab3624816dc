"""Certificates as web servers have them, valid today and strict enough for every OpenSSL; and those that are not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests import authority

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.authority import Issued


def root(subject: str = "Web Root CA") -> Issued:
    """A root certificate."""
    return _issue(subject, None, is_ca=True)


def intermediate(by: Issued) -> Issued:
    """A CA certificate below it."""
    return _issue("Web Issuing CA", by, is_ca=True)


def leaf(
    by: Issued | None,
    *names: str,
    common_name: str = "web server",
    days: tuple[int, int] = (-1, 30),
    key_identifiers: bool = True,
) -> Issued:
    """A server certificate with DNS-IDs, or none; valid between two days counted from today."""
    return _issue(common_name, by, names=names, days=days, key_identifiers=key_identifiers)


def write(path: Path, first: Issued, *others: Issued) -> Path:
    """Write what `ssl.SSLContext.load_cert_chain` and nginx read: a key, its certificate, and what is sent after it."""
    key = first.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + b"".join(map(pem, (first, *others))))
    return path


def pem(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.PEM)


def _issue(
    subject: str,
    by: Issued | None,
    *,
    is_ca: bool = False,
    names: Sequence[str] = (),
    days: tuple[int, int] = (-1, 30),
    key_identifiers: bool = True,
) -> Issued:
    key = authority.new_key()
    issuer_key = (by.key if by else key).public_key()
    bits = ("key_cert_sign", "crl_sign") if is_ca else ("digital_signature",)
    extensions: list[Any] = [
        (x509.BasicConstraints(ca=is_ca, path_length=None), True),
        (authority.usage(*bits), True),
    ]
    if key_identifiers:
        extensions.append(x509.SubjectKeyIdentifier.from_public_key(key.public_key()))
        extensions.append(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key))
    if not is_ca:
        extensions.append(x509.ExtendedKeyUsage([authority.SERVER]))
    if names:
        extensions.append(x509.SubjectAlternativeName(list(map(x509.DNSName, names))))
    today = datetime.now(timezone.utc).replace(microsecond=0)
    start, end = (today + timedelta(days=day) for day in days)
    return authority.issue(subject, by, *extensions, key=key, start=start, end=end)
