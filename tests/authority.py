"""Certificates for tests: an authority issues what it is told to, right or wrong."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailtlspolicy.tlsa import Tlsa

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
END = datetime(2027, 1, 1, tzinfo=timezone.utc)

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def name(text: str, kind: Any = None) -> x509.Name:
    """A distinguished name with one Common Name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, **({"_type": kind} if kind else {}))])


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@frozen
class Issued:
    """A certificate and its private key."""

    key: Any
    certificate: x509.Certificate
    der: bytes

    @property
    def spki(self) -> bytes:
        return bytes(self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def issue(
    subject: x509.Name | str,
    by: Issued | None = None,
    *extensions: tuple[x509.ExtensionType, bool] | x509.ExtensionType,
    key: Any = None,
    issuer: x509.Name | None = None,
    start: datetime = START,
    end: datetime = END,
    serial: int | None = None,
) -> Issued:
    """Issue a certificate, by itself if by nobody else; an extension alone is not critical."""
    subject = name(subject) if isinstance(subject, str) else subject
    key = key or new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or (by.certificate.subject if by else subject))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension in extensions:
        value, critical = extension if isinstance(extension, tuple) else (extension, False)
        builder = builder.add_extension(value, critical)
    signer = by.key if by else key
    digest = hashes.SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
    certificate = builder.sign(signer, digest)
    return Issued(key, certificate, certificate.public_bytes(Encoding.DER))


def ca(
    subject: x509.Name | str, by: Issued | None = None, *extensions: Any, length: int | None = None, **more: Any
) -> Issued:
    """Issue a CA certificate."""
    return issue(subject, by, (x509.BasicConstraints(ca=True, path_length=length), True), *extensions, **more)


def server(by: Issued | None, *names: str, extensions: Iterable[Any] = (), **more: Any) -> Issued:
    """Issue a server certificate with DNS-IDs, `mx.example.com` if none are given."""
    san = x509.SubjectAlternativeName([x509.DNSName(each) for each in names or ("mx.example.com",)])
    return issue("server", by, san, *extensions, **more)


def usage(*bits: str) -> x509.KeyUsage:
    """A keyUsage extension with these bits."""
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{bit: bit in bits for bit in every.split()})


def record(usage: int, selector: int, matching_type: int, issued: Issued) -> Tlsa:
    """The TLSA record of a certificate."""
    selected = issued.spki if selector else issued.der
    digests = {0: lambda octets: octets, 1: _digest("sha256"), 2: _digest("sha512")}
    return Tlsa(usage, selector, matching_type, digests[matching_type](selected))


def _digest(algorithm: str) -> Any:
    return lambda octets: hashlib.new(algorithm, octets).digest()


def element(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def contents(der: bytes) -> bytes:
    """The contents of the DER element at the start."""
    return der[2:] if der[1] < 0x80 else der[2 + (der[1] & 0x7F) :]


def version_1(issued: Issued, by: Issued | None = None) -> Issued:
    """The same certificate, which has no extensions, as version 1 (no version field)."""
    tbs = contents(issued.certificate.tbs_certificate_bytes)
    assert tbs.startswith(bytes.fromhex("a003020102"))
    return _signed(issued, element(0x30, tbs[5:]), bytes.fromhex("300a06082a8648ce3d040302"), (by or issued).key)


def sha1_signed(issued: Issued, by: Issued) -> Issued:
    """The same certificate, signed with SHA-1 by an RSA key."""
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    tbs = issued.certificate.tbs_certificate_bytes.replace(sha256, sha1)
    signature = by.key.sign(tbs, PKCS1v15(), hashes.SHA1())
    return _assembled(issued, tbs, element(0x30, element(0x06, sha1), b"\x05\x00"), signature)


def redated(issued: Issued, by: Issued, not_before: bytes | None = None, not_after: bytes | None = None) -> Issued:
    """The same certificate with other dates, each a DER Time, right or wrong; signed anew."""
    usual = [element(0x17, each.strftime("%y%m%d%H%M%SZ").encode()) for each in (START, END)]
    tbs = contents(issued.certificate.tbs_certificate_bytes)
    dates = element(0x30, not_before or usual[0], not_after or usual[1])
    assert element(0x30, *usual) in tbs
    tbs = element(0x30, tbs.replace(element(0x30, *usual), dates))
    return _resigned(issued, tbs, by)


def with_serial(issued: Issued, by: Issued, serial: bytes) -> Issued:
    """The same certificate with another serial number, the contents of a DER INTEGER; signed anew."""
    tbs = contents(issued.certificate.tbs_certificate_bytes)
    assert tbs.startswith(bytes.fromhex("a003020102"))
    tbs = element(0x30, tbs[:5], element(0x02, serial), tbs[7 + tbs[6] :])
    return _resigned(issued, tbs, by)


def _resigned(issued: Issued, tbs: bytes, by: Issued) -> Issued:
    """The same certificate with other octets, which `cryptography` may not take."""
    signature = by.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    der = element(0x30, tbs, bytes.fromhex("300a06082a8648ce3d040302"), element(0x03, b"\0", signature))
    return Issued(issued.key, issued.certificate, der)


# Times that no certificate may bear, of which some decode late (RFC 5280 section 4.1.2.5)
ODD_TIMES = {
    "year 0": element(0x18, b"00000101000000Z"),
    "30 February": element(0x18, b"20250230000000Z"),
    "hour 24": element(0x18, b"20250101240000Z"),
    "second 60": element(0x18, b"20250101000060Z"),
    "fraction": element(0x18, b"20250101000000.5Z"),
    "offset": element(0x18, b"20250101000000+0100"),
    "no seconds": element(0x17, b"2501010000Z"),
    "empty": element(0x17),
    "not a time": element(0x02, b"\1"),
}


def _signed(issued: Issued, tbs: bytes, algorithm: bytes, key: Any) -> Issued:
    return _assembled(issued, tbs, algorithm, key.sign(tbs, ec.ECDSA(hashes.SHA256())))


def _assembled(issued: Issued, tbs: bytes, algorithm: bytes, signature: bytes) -> Issued:
    der = element(0x30, tbs, algorithm, element(0x03, b"\0", signature))
    return Issued(issued.key, x509.load_der_x509_certificate(der), der)
