"""Writes certificates/*.pem and certificates/index.json, the certificates that the vectors present.

Run it anywhere: `python vectors/make_certificates.py`. Every run writes the same bytes. Keys come from a hash of their
name, signatures are deterministic, times are fixed, so a certificate changes only if its row below does.

The table `CERTIFICATES` at the end is the place to read: one row a certificate, its file name first, then one line on
what is odd about it. Everything is encoded here, by the few DER functions below, because most of these certificates
are ones that no library agrees to make: version 1, negative serial numbers, MD5, an extension twice, a name with NUL.

`index.json` gives, for each file, the note and the digests that TLSA records carry: selector 0 is the DER of the
certificate exactly as in the PEM file, selector 1 the SubjectPublicKeyInfo inside it (RFC 6698 section 2.1.2).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import pathlib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE / "certificates"

# --- DER -------------------------------------------------------------------------------------------------------------

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8, PRINTABLE, IA5, UTC_TIME, GENERALIZED_TIME, BMP = 0x0C, 0x13, 0x16, 0x17, 0x18, 0x1E
SEQUENCE, SET = 0x30, 0x31


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER value: the tag, the shortest length, the contents."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    octets = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def integer(value: int) -> bytes:
    """An INTEGER in two's complement, negative ones included."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        body += bytes(reversed(septets))
    return tlv(OID, bytes(body))


def bits(body: bytes, unused: int = 0) -> bytes:
    """A BIT STRING."""
    return tlv(BIT_STRING, bytes([unused]), body)


# --- Keys ------------------------------------------------------------------------------------------------------------

DIGEST_INFO = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
}
RSA_SIGNATURE = {"md5": "1.2.840.113549.1.1.4", "sha1": "1.2.840.113549.1.1.5", "sha256": "1.2.840.113549.1.1.11"}
RSA_ENCRYPTION, RSASSA_PSS = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"
RSA_SHA384, MGF1 = "1.2.840.113549.1.1.12", "1.2.840.113549.1.1.8"
ECDSA_SIGNATURE: dict[str, tuple[hashes.HashAlgorithm, str]] = {
    "sha1": (hashes.SHA1(), "1.2.840.10045.4.1"),
    "sha256": (hashes.SHA256(), "1.2.840.10045.4.3.2"),
    "sha384": (hashes.SHA384(), "1.2.840.10045.4.3.3"),
    "sha512": (hashes.SHA512(), "1.2.840.10045.4.3.4"),
}
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
ED25519, ED448 = "1.3.101.112", "1.3.101.113"
DSA, DSA_SHA256 = "1.2.840.10040.4.1", "2.16.840.1.101.3.4.3.2"
UNKNOWN_SIGNATURE = "1.3.6.1.4.1.32473.3"  # in the documentation arc (RFC 5612): nobody can check it
CURVES: dict[str, tuple[ec.EllipticCurve, str]] = {
    "p256": (ec.SECP256R1(), "1.2.840.10045.3.1.7"),
    "p384": (ec.SECP384R1(), "1.3.132.0.34"),
    "p521": (ec.SECP521R1(), "1.3.132.0.35"),
}


@dataclass(frozen=True)
class Key:
    """A key pair as certificates need it: its SubjectPublicKeyInfo, its algorithm identifier, and how it signs."""

    spki: bytes
    algorithm: Callable[[str], bytes]
    sign: Callable[[bytes, str], bytes]


def stream(seed: str, size: int) -> bytes:
    """Fixed octets that look random."""
    return hashlib.shake_256(b"mailtlspolicy vectors: " + seed.encode()).digest(size)


def is_prime(n: int) -> bool:
    """Miller-Rabin with fixed bases, plenty for numbers that nobody chose to deceive us."""
    small = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if any(n % p == 0 for p in small):
        return n in small
    shift = ((n - 1) & (1 - n)).bit_length() - 1
    for base in small:
        x = pow(base, (n - 1) >> shift, n)
        if x in {1, n - 1}:
            continue
        for _ in range(shift - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def prime(seed: str, size: int) -> int:
    """The first prime at or above a fixed number of `size` bits whose two top bits are set."""
    n = int.from_bytes(stream(seed, size // 8), "big") | 3 << (size - 2) | 1
    while n % 65537 == 1 or not is_prime(n):
        n += 2
    return n


def pss_algorithm(
    digest: str = "sha256", mask: str = MGF1, salt: int = 32, trailer: int = 1, mask_digest: str = ""
) -> bytes:
    """The algorithm identifier of RSASSA-PSS with its parameters (RFC 4055 section 3.1)."""
    hash_algorithm, mask_hash = (
        tlv(SEQUENCE, oid(DIGEST_INFO.get(name, name)), tlv(NULL)) for name in (digest, mask_digest or digest)
    )
    return tlv(
        SEQUENCE,
        oid(RSASSA_PSS),
        tlv(
            SEQUENCE,
            tlv(0xA0, hash_algorithm),
            tlv(0xA1, tlv(SEQUENCE, oid(mask), mask_hash)),
            tlv(0xA2, integer(salt)),
            tlv(0xA3, integer(trailer)) if trailer != 1 else b"",
        ),
    )


def pss_padded(message: bytes, size: int, name: str) -> bytes:
    """The encoding of RSASSA-PSS with a hash, MGF1 and a fixed salt (RFC 8017 section 9.1.1), for `size` octets."""
    octets = hashlib.new(name).digest_size
    salt = stream("salt", octets)
    digest = hashlib.new(name, bytes(8) + hashlib.new(name, message).digest() + salt).digest()
    block = (b"\x01" + salt).rjust(size - octets - 1, b"\x00")
    counters = (counter.to_bytes(4, "big") for counter in range(size // octets + 1))
    blocks = (hashlib.new(name, digest + counter).digest() for counter in counters)
    masked = bytearray(octet ^ mask for octet, mask in zip(block, b"".join(blocks), strict=False))
    masked[0] &= 0x7F
    return bytes(masked) + digest + b"\xbc"


def rsa_key(seed: str, size: int, algorithm: str = RSA_ENCRYPTION) -> Key:
    """An RSA key of `size` bits, written out: libraries refuse 512 bits and MD5, and PSS with a fixed salt.

    It signs by PKCS #1 v1.5, or for the digests "pss" and "pss-sha1" by RSASSA-PSS with SHA-256 and SHA-1.
    """
    p, q = prime(seed + " p", size // 2), prime(seed + " q", size // 2)
    modulus, private = p * q, pow(65537, -1, (p - 1) * (q - 1))
    parameters = b"" if algorithm == RSASSA_PSS else tlv(NULL)
    public = tlv(SEQUENCE, integer(modulus), integer(65537))

    def sign(message: bytes, digest: str) -> bytes:
        if digest.startswith("pss"):
            padded = pss_padded(message, size // 8, digest.partition("-")[2] or "sha256")
        else:
            identifier = tlv(SEQUENCE, oid(DIGEST_INFO[digest]), tlv(NULL))
            info = tlv(SEQUENCE, identifier, tlv(OCTET_STRING, hashlib.new(digest, message).digest()))
            padded = b"\x00\x01".ljust(size // 8 - len(info) - 1, b"\xff") + b"\x00" + info
        return pow(int.from_bytes(padded, "big"), private, modulus).to_bytes(size // 8, "big")

    return Key(
        spki=tlv(SEQUENCE, tlv(SEQUENCE, oid(algorithm), parameters), bits(public)),
        algorithm=lambda digest: (
            pss_algorithm() if digest.startswith("pss") else tlv(SEQUENCE, oid(RSA_SIGNATURE[digest]), tlv(NULL))
        ),
        sign=sign,
    )


def ec_key(seed: str, curve: str, point: serialization.PublicFormat, parameters: bytes = b"") -> Key:
    """An EC key that signs by ECDSA with a deterministic nonce (RFC 6979); `parameters` instead of the curve's name."""
    group, curve_oid = CURVES[curve]
    private = ec.derive_private_key(int.from_bytes(stream(seed, group.key_size // 8 - 1), "big"), group)
    public = private.public_key().public_bytes(serialization.Encoding.X962, point)

    def sign(message: bytes, digest: str) -> bytes:
        return private.sign(message, ec.ECDSA(ECDSA_SIGNATURE[digest][0], deterministic_signing=True))

    return Key(
        spki=tlv(SEQUENCE, tlv(SEQUENCE, oid(EC_PUBLIC_KEY), parameters or oid(curve_oid)), bits(public)),
        algorithm=lambda digest: tlv(SEQUENCE, oid(ECDSA_SIGNATURE[digest][1])),
        sign=sign,
    )


def p256_parameters() -> bytes:
    """P-256 spelt out, where its name should be (RFC 5480 section 2.1.1 forbids it). FIPS 186-4 section D.1.2.3."""
    field = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
    base = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return tlv(
        SEQUENCE,
        integer(1),
        tlv(SEQUENCE, oid("1.2.840.10045.1.1"), integer(field)),
        tlv(SEQUENCE, tlv(OCTET_STRING, (field - 3).to_bytes(32, "big")), tlv(OCTET_STRING, b)),
        tlv(OCTET_STRING, base),
        integer(order),
    )


def edwards_key(seed: str, curve: str) -> Key:
    """An Ed25519 or Ed448 key."""
    private: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    if curve == "ed25519":
        private, identifier = ed25519.Ed25519PrivateKey.from_private_bytes(stream(seed, 32)), oid(ED25519)
    else:
        private, identifier = ed448.Ed448PrivateKey.from_private_bytes(stream(seed, 57)), oid(ED448)
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return Key(
        spki=tlv(SEQUENCE, tlv(SEQUENCE, identifier), bits(public)),
        algorithm=lambda _: tlv(SEQUENCE, identifier),
        sign=lambda message, _: private.sign(message),
    )


def dsa_key(seed: str) -> Key:
    """A DSA key of 1024 bits that signs with SHA-256 (FIPS 186-4 section 4.6), the nonce taken from the message."""
    q = prime(seed + " q", 160)
    p = int.from_bytes(stream(seed + " p", 128), "big") | 3 << 1022 | 1
    p -= p % (2 * q) - 1
    while not is_prime(p):
        p += 2 * q
    g, private = pow(2, (p - 1) // q, p), int.from_bytes(stream(seed, 19), "big")

    def sign(message: bytes, _: str) -> bytes:
        digest = int.from_bytes(hashlib.sha256(message).digest()[:20], "big")
        nonce = int.from_bytes(stream(seed + message.hex(), 19), "big")
        r = pow(g, nonce, p) % q
        return tlv(SEQUENCE, integer(r), integer(pow(nonce, -1, q) * (digest + private * r) % q))

    parameters = tlv(SEQUENCE, integer(p), integer(q), integer(g))
    return Key(
        spki=tlv(SEQUENCE, tlv(SEQUENCE, oid(DSA), parameters), bits(integer(pow(g, private, p)))),
        algorithm=lambda _: tlv(SEQUENCE, oid(DSA_SHA256)),
        sign=sign,
    )


def unknown_key(seed: str) -> Key:
    """A public key of an algorithm that nobody implements; it signs nothing."""

    def refuse(*_: object) -> bytes:
        raise ValueError(seed + " signs nothing")

    return Key(tlv(SEQUENCE, tlv(SEQUENCE, oid("1.3.6.1.4.1.32473.1")), bits(stream(seed, 32))), refuse, refuse)


@functools.cache
def key(spec: str) -> Key:
    """The key named by "KIND SEED"."""
    kind, _, seed = spec.partition(" ")
    uncompressed, compressed = serialization.PublicFormat.UncompressedPoint, serialization.PublicFormat.CompressedPoint
    match kind:
        case "p256" | "p384" | "p521":
            return ec_key(seed, kind, uncompressed)
        case "p256-explicit":
            return ec_key(seed, "p256", uncompressed, p256_parameters())
        case "p256-compressed":
            return ec_key(seed, "p256", compressed)
        case "rsa512" | "rsa1024" | "rsa2048":
            return rsa_key(seed, int(kind[3:]))
        case "rsa2048-pss":
            return rsa_key(seed, 2048, RSASSA_PSS)
        case "ed25519" | "ed448":
            return edwards_key(seed, kind)
        case "dsa":
            return dsa_key(seed)
        case "unknown":
            return unknown_key(seed)
    raise ValueError(spec)


# --- Names and extensions --------------------------------------------------------------------------------------------

CN, OU, O, DC = "2.5.4.3", "2.5.4.11", "2.5.4.10", "0.9.2342.19200300.100.1.25"  # noqa: E741
EMAIL, UNIQUE_IDENTIFIER = "1.2.840.113549.1.9.1", "2.5.4.45"


def attribute(kind: str, value: str | bytes, tag: int = UTF8) -> bytes:
    """A RelativeDistinguishedName of one attribute."""
    encoded = value if isinstance(value, bytes) else value.encode("utf-16-be" if tag == BMP else "utf-8")
    return tlv(SET, tlv(SEQUENCE, oid(kind), tlv(tag, encoded)))


def cn(value: str | bytes, tag: int = UTF8) -> bytes:
    """A Name that is one Common Name."""
    return tlv(SEQUENCE, attribute(CN, value, tag))


def general(tag: int, value: str | bytes) -> bytes:
    """A GeneralName of implicit tag `tag`: 1 e-mail, 2 DNS, 6 URI, 7 IP address."""
    return tlv(0x80 | tag, value if isinstance(value, bytes) else value.encode("ascii"))


def email(value: str) -> bytes:
    """An rfc822Name."""
    return general(1, value)


def dns(value: str | bytes) -> bytes:
    """A dNSName; octets are taken as they are."""
    return general(2, value)


def uri(value: str) -> bytes:
    """A uniformResourceIdentifier."""
    return general(6, value)


def ip(*octets: int) -> bytes:
    """An iPAddress, or with a mask after the address a constraint on one."""
    return general(7, bytes(octets))


def srv(value: str) -> bytes:
    """An SRVName (RFC 4985), which is an otherName."""
    return tlv(0xA0, oid("1.3.6.1.5.5.7.8.7"), tlv(0xA0, tlv(IA5, value.encode("ascii"))))


def directory(name: bytes) -> bytes:
    """A directoryName."""
    return tlv(0xA4, name)


def organization(value: str) -> bytes:
    """A Name that is one Organization."""
    return tlv(SEQUENCE, attribute(O, value))


def extension(identifier: str, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension around the DER of its value."""
    flag = tlv(BOOLEAN, b"\xff") if critical else b""
    return tlv(SEQUENCE, oid(identifier), flag, tlv(OCTET_STRING, value))


def basic_constraints(*, ca: bool, path_length: int | None = None) -> bytes:
    """The basicConstraints extension; a false cA is left out, being the default."""
    length = b"" if path_length is None else integer(path_length)
    return extension("2.5.29.19", tlv(SEQUENCE, tlv(BOOLEAN, b"\xff") if ca else b"", length), critical=True)


def key_usage(*numbers: int) -> bytes:
    """The keyUsage extension: 0 digitalSignature, 2 keyEncipherment, 5 keyCertSign, 6 cRLSign."""
    octet = sum(0x80 >> number for number in numbers)
    return extension("2.5.29.15", bits(bytes([octet]), 7 - max(numbers)), critical=True)


def ext_key_usage(*purposes: str, critical: bool = False) -> bytes:
    """The extKeyUsage extension."""
    return extension("2.5.29.37", tlv(SEQUENCE, *map(oid, purposes)), critical=critical)


def policies(*identifiers: str, critical: bool = False) -> bytes:
    """The certificatePolicies extension."""
    return extension("2.5.29.32", tlv(SEQUENCE, *(tlv(SEQUENCE, oid(one)) for one in identifiers)), critical=critical)


def policy_constraints(*, explicit: int | None = None, mapping: int | None = None) -> bytes:
    """The policyConstraints extension: how many certificates further an explicit policy is required, or no mapping."""
    values = ((0x80, explicit), (0x81, mapping))
    fields = (tlv(tag, integer(value)[2:]) for tag, value in values if value is not None)
    return extension("2.5.29.36", tlv(SEQUENCE, *fields), critical=True)


def inhibit_any_policy(skip: int) -> bytes:
    """The inhibitAnyPolicy extension."""
    return extension("2.5.29.54", integer(skip), critical=True)


def authority_serial(name: bytes, serial: int) -> bytes:
    """The authorityKeyIdentifier extension that names the issuer's issuer and the issuer's serial number."""
    return extension("2.5.29.35", tlv(SEQUENCE, tlv(0xA1, directory(name)), tlv(0x82, integer(serial)[2:])))


def alt_names(*names: bytes, critical: bool = False) -> bytes:
    """The subjectAltName extension."""
    return extension("2.5.29.17", tlv(SEQUENCE, *names), critical=critical)


def name_constraints(
    *, permitted: Sequence[bytes] = (), excluded: Sequence[bytes] = (), distance: bytes = b""
) -> bytes:
    """The nameConstraints extension; `distance` is a minimum or maximum written behind each base."""
    trees = [
        tlv(tag, *(tlv(SEQUENCE, base, distance) for base in bases))
        for tag, bases in ((0xA0, permitted), (0xA1, excluded))
        if bases
    ]
    return extension("2.5.29.30", tlv(SEQUENCE, *trees), critical=True)


SERVER_AUTH, CLIENT_AUTH, ANY_PURPOSE = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"
UNKNOWN = "1.3.6.1.4.1.32473.2"  # in the documentation arc (RFC 5612): nobody knows it
EXPLICIT_POLICY = policy_constraints(explicit=0)
POLICY, OTHER_POLICY, ANY_POLICY = "1.3.6.1.4.1.32473.4", "1.3.6.1.4.1.32473.5", "2.5.29.32.0"
POLICY_MAPPING = tlv(SEQUENCE, tlv(SEQUENCE, oid(POLICY), oid(OTHER_POLICY)))
CRL_POINT = tlv(SEQUENCE, tlv(SEQUENCE, tlv(0xA0, tlv(0xA0, general(6, "http://crl.example/")))))
SIGNING = key_usage(5, 6)


def authority(path_length: int | None = None, *more: bytes) -> tuple[bytes, ...]:
    """The extensions of a usual certification authority, and more."""
    return (basic_constraints(ca=True, path_length=path_length), SIGNING, *more)


def server(*names: str | bytes) -> tuple[bytes, ...]:
    """The extensions of a usual server certificate for these DNS names; without any, no subjectAltName."""
    usual = (basic_constraints(ca=False), key_usage(0), ext_key_usage(SERVER_AUTH))
    return (*usual, alt_names(*map(dns, names))) if names else usual


# --- Certificates ----------------------------------------------------------------------------------------------------

START, END = "20250101000000", "20350101000000"
PAST, SOON, YEAR_ZERO = "20250601000000", "20300101000000", "00000101000000"


@dataclass(frozen=True)
class Certificate:
    """One row of the table.

    `issuer` is the row whose subject and key issue this certificate, itself if empty. `name` is the subject, the Common
    Name "Test FILE" if empty. `key` is the kind of the key, followed by the row whose key it shares if not its own.
    `authority` is the row whose key identifier goes into authorityKeyIdentifier: the issuer if empty, no extension if
    None. `signer` is the row whose key signs in fact. `subject_key_id` says whether subjectKeyIdentifier is written.
    `algorithm` is the algorithm identifier to write in place of the one that the signer uses, `outer_algorithm` the
    same beside the signature only. `unused_bits` is the first octet of the signature's BIT STRING. `edit` changes the
    finished DER.
    """

    file: str
    note: str
    issuer: str = ""
    extensions: tuple[bytes, ...] = ()
    name: bytes = b""
    key: str = "p256"
    issuer_name: bytes = b""
    signer: str = ""
    authority: str | None = ""
    subject_key_id: bool = True
    not_before: str = START
    not_after: str = END
    digest: str = "sha256"
    version: int = 3
    serial: int | None = None
    algorithm: bytes = b""
    outer_algorithm: bytes = b""
    unused_bits: int = 0
    edit: Callable[[bytes], bytes] = bytes

    @property
    def subject(self) -> bytes:
        """The subject."""
        return self.name or cn(f"Test {self.file}")

    @property
    def pair(self) -> Key:
        """The key pair of this certificate."""
        return key(self.key if " " in self.key else f"{self.key} {self.file}")

    @property
    def serial_number(self) -> int:
        """The serial number."""
        return usual_serial(self.file) if self.serial is None else self.serial

    @property
    def key_id(self) -> bytes:
        """The key identifier: any octets that tell keys apart (RFC 5280 section 4.2.1.2)."""
        return hashlib.sha256(self.pair.spki).digest()[:20]

    def der(self) -> bytes:
        """The certificate."""
        issuer = ROWS[self.issuer] if self.issuer else self
        signer = ROWS[self.signer].pair if self.signer else issuer.pair
        algorithm = self.algorithm or signer.algorithm(self.digest)
        body = tlv(
            SEQUENCE,
            tlv(0xA0, integer(self.version - 1)) if self.version > 1 else b"",
            integer(self.serial_number),
            algorithm,
            self.issuer_name or issuer.subject,
            tlv(SEQUENCE, time(self.not_before), time(self.not_after)),
            self.subject,
            self.pair.spki,
            tlv(0xA3, tlv(SEQUENCE, *self.extensions, *self.identifiers(issuer))) if self.version == 3 else b"",
        )
        signature = bits(signer.sign(body, self.digest), self.unused_bits)
        return self.edit(tlv(SEQUENCE, body, self.outer_algorithm or algorithm, signature))

    def identifiers(self, issuer: Certificate) -> list[bytes]:
        """The two key identifier extensions, as far as this row wants them."""
        found = []
        if self.subject_key_id:
            found.append(extension("2.5.29.14", tlv(OCTET_STRING, self.key_id)))
        if self.authority is not None and issuer is not self:
            authority = ROWS[self.authority] if self.authority else issuer
            found.append(extension("2.5.29.35", tlv(SEQUENCE, tlv(0x80, authority.key_id))))
        return found


def usual_serial(file: str) -> int:
    """The serial number of a row that names none."""
    return int.from_bytes(stream(file, 8), "big") >> 1


def time(digits: str) -> bytes:
    """A Time: UTCTime from 1950 through 2049, GeneralizedTime else (RFC 5280 section 4.1.2.5)."""
    if "1950" <= digits[:4] < "2050":
        return tlv(UTC_TIME, f"{digits[2:]}Z".encode("ascii"))
    return tlv(GENERALIZED_TIME, f"{digits}Z".encode("ascii"))


def flip_last(der: bytes) -> bytes:
    """Changes one bit of the signature."""
    return der[:-1] + bytes([der[-1] ^ 1])


def trailing(der: bytes) -> bytes:
    """Adds two octets that belong to nothing."""
    return der + b"\x05\x00"


def long_length(der: bytes) -> bytes:
    """Writes the outer length with a needless leading zero octet: BER, not DER."""
    return bytes([der[0], der[1] + 1, 0]) + der[2:]


def indefinite_length(der: bytes) -> bytes:
    """Writes the outer length as indefinite: BER, not DER."""
    return b"\x30\x80" + der[4:] + b"\x00\x00"


def inner_long_length(der: bytes) -> bytes:
    """Writes the length of the key's algorithm in the long form, which is for 128 octets and more: BER, not DER."""
    at = der.index(tlv(SEQUENCE, oid(EC_PUBLIC_KEY), oid(CURVES["p256"][1]))) - 2  # the SubjectPublicKeyInfo
    key = b"\x30\x81" + der[at + 1 :]
    body = der[8:at] + key[: der[at + 1] + 3]
    rest = der[at + 2 + der[at + 1] :]
    tail = der[8 + int.from_bytes(der[6:8], "big") :]
    return tlv(SEQUENCE, tlv(SEQUENCE, body, rest[: len(rest) - len(tail)]), tail)


def fourth_element(der: bytes) -> bytes:
    """Adds an element behind the signature, inside the certificate."""
    return tlv(SEQUENCE, der[4:], tlv(NULL))


def as_set(der: bytes) -> bytes:
    """Writes SET in place of SEQUENCE."""
    return bytes([SET]) + der[1:]


def cut_short(der: bytes) -> bytes:
    """Drops the second half."""
    return der[: len(der) // 2]


MX, MX2, NEXT_HOP, OTHER = "mx1.provider.example", "mx2.provider.example", "client.example", "other.example"

# Issuers and the everyday leaves come first, then one block for each thing that can be odd.
CERTIFICATES: Sequence[Certificate] = (
    Certificate("ta", "the trust anchor, a self-signed root", extensions=authority()),
    Certificate("int", "the intermediate below ta", "ta", authority()),
    Certificate("leaf", "the server mx1.provider.example, issued by int", "int", server(MX)),
    Certificate("leaf-direct", "the server mx1.provider.example, issued by ta itself", "ta", server(MX)),
    Certificate("int2", "a second intermediate, below int", "int", authority()),
    Certificate("leaf-int2", "issued by int2", "int2", server(MX)),
    Certificate("stranger", "a root that issued nothing of the above", extensions=authority()),
    Certificate("leaf-stranger", "right name, issued by stranger", "stranger", server(MX)),
    Certificate("leaf-self-signed", "a self-signed server certificate", extensions=server(MX)),
    Certificate(
        "leaf-self-signed-ca",
        "a self-signed server certificate with cA TRUE",
        extensions=(*authority(), alt_names(dns(MX))),
    ),
    # Names in subjectAltName
    Certificate("leaf-mx2", "another host of the provider", "ta", server(MX2)),
    Certificate("leaf-next-hop", "the next-hop domain only", "ta", server(NEXT_HOP)),
    Certificate("leaf-other", "a name nobody asks for", "ta", server(OTHER)),
    Certificate(
        "leaf-fifty", "fifty names, the wanted one last", "ta", server(*(f"v{n}.{OTHER}" for n in range(49)), MX)
    ),
    Certificate("leaf-two-names", "one foreign name and the next-hop domain", "ta", server(OTHER, NEXT_HOP)),
    Certificate("leaf-two-references", "the next-hop domain, then the MX host", "ta", server(NEXT_HOP, MX)),
    Certificate("leaf-upper", "the name in upper case", "ta", server(MX.upper())),
    Certificate("leaf-wildcard", "*.provider.example", "ta", server("*.provider.example")),
    Certificate("leaf-wildcard-prefix", "mx*.provider.example", "ta", server("mx*.provider.example")),
    Certificate("leaf-wildcard-suffix", "*1.provider.example", "ta", server("*1.provider.example")),
    Certificate("leaf-wildcard-middle", "mx1.*.example", "ta", server("mx1.*.example")),
    Certificate("leaf-wildcard-parent", "*.example, one label short", "ta", server("*.example")),
    Certificate(
        "leaf-san-nul", "a DNS name with NUL after the wanted name", "ta", server(MX.encode() + b"\0.evil.example")
    ),
    Certificate("leaf-san-utf8", "a DNS name in raw UTF-8", "ta", server("b\u00fccher.example".encode())),
    Certificate("leaf-san-alabel", "the same name as A-label", "ta", server("xn--bcher-kva.example")),
    Certificate(
        "leaf-san-utf8-and-good",
        "one name in raw UTF-8 beside the wanted one",
        "ta",
        server("b\u00fccher.example".encode(), MX),
    ),
    Certificate(
        "leaf-san-address-text", "an address written as DNS name, beside the wanted name", "ta", server("192.0.2.1", MX)
    ),
    Certificate("leaf-san-service", "a name with service labels", "ta", server("_25._tcp." + MX)),
    Certificate("leaf-san-superdomain", "the wanted name as prefix of another", "ta", server(MX + ".evil.example")),
    Certificate("leaf-san-uri", "the wanted name in a URI only", "ta", (*server(), alt_names(uri(f"smtp://{MX}/")))),
    Certificate("leaf-san-srv", "the wanted name in an SRVName only", "ta", (*server(), alt_names(srv(f"_smtp.{MX}")))),
    Certificate(
        "leaf-san-critical",
        "empty subject, critical subjectAltName",
        "ta",
        (*server(), alt_names(dns(MX), critical=True)),
        tlv(SEQUENCE),
    ),
    # Names in the subject
    Certificate("leaf-cn", "no subjectAltName, the name as Common Name", "ta", server(), cn(MX)),
    Certificate(
        "leaf-cn-next-hop", "no subjectAltName, the next-hop domain as Common Name", "ta", server(), cn(NEXT_HOP)
    ),
    Certificate("leaf-cn-beside-dns", "another DNS name, the wanted one as Common Name", "ta", server(OTHER), cn(MX)),
    Certificate(
        "leaf-cn-beside-email",
        "an e-mail address in subjectAltName, the wanted name as Common Name",
        "ta",
        (*server(), alt_names(email("postmaster@provider.example"))),
        cn(MX),
    ),
    Certificate(
        "leaf-cn-beside-ip",
        "an address in subjectAltName, the wanted name as Common Name",
        "ta",
        (*server(), alt_names(ip(192, 0, 2, 1))),
        cn(MX),
    ),
    Certificate(
        "leaf-cn-two-first",
        "two Common Names, the wanted one first",
        "ta",
        server(),
        tlv(SEQUENCE, attribute(CN, MX), attribute(CN, "Test Mail Server")),
    ),
    Certificate(
        "leaf-cn-two-last",
        "two Common Names, the wanted one last",
        "ta",
        server(),
        tlv(SEQUENCE, attribute(CN, OTHER), attribute(CN, MX)),
    ),
    Certificate(
        "leaf-cn-wildcard", "no subjectAltName, a wildcard Common Name", "ta", server(), cn("*.provider.example")
    ),
    Certificate(
        "leaf-cn-partial-wildcard", "no subjectAltName, a partial wildcard", "ta", server(), cn("mx*.provider.example")
    ),
    Certificate("leaf-cn-bmp", "the Common Name as BMPString", "ta", server(), cn(MX, BMP)),
    Certificate("leaf-cn-printable", "the Common Name as PrintableString", "ta", server(), cn(MX, PRINTABLE)),
    Certificate(
        "leaf-cn-nul", "a Common Name with NUL after the wanted name", "ta", server(), cn(MX + "\0.evil.example")
    ),
    Certificate("leaf-cn-blank", "a Common Name with a blank after the wanted name", "ta", server(), cn(MX + " ")),
    Certificate(
        "leaf-cn-text",
        "a Common Name that is no domain name",
        "ta",
        server(),
        cn("Mail Server of mx1.provider.example"),
    ),
    Certificate("leaf-ou", "the wanted name as Organizational Unit", "ta", server(), tlv(SEQUENCE, attribute(OU, MX))),
    Certificate(
        "leaf-dc",
        "the wanted name as domain components",
        "ta",
        server(),
        tlv(SEQUENCE, *(attribute(DC, label, IA5) for label in reversed(MX.split(".")))),
    ),
    Certificate("leaf-nameless", "no name at all", "ta", server(), organization("Test")),
    # Dates
    Certificate("leaf-expired", "expired", "ta", server(MX), not_after=PAST),
    Certificate("leaf-expired-other", "expired, and another name", "ta", server(OTHER), not_after=PAST),
    Certificate("leaf-future", "not yet valid", "ta", server(MX), not_before=SOON),
    Certificate(
        "leaf-forever", "no well-defined expiration date: 99991231235959Z", "ta", server(MX), not_after="99991231235959"
    ),
    Certificate("int-expired", "an expired intermediate", "ta", authority(), not_after=PAST),
    Certificate("leaf-int-expired", "issued by int-expired", "int-expired", server(MX)),
    Certificate("int-future", "an intermediate that is not yet valid", "ta", authority(), not_before=SOON),
    Certificate("leaf-int-future", "issued by int-future", "int-future", server(MX)),
    Certificate("ta-expired", "an expired root", extensions=authority(), not_after=PAST),
    Certificate("leaf-ta-expired", "issued by ta-expired", "ta-expired", server(MX)),
    Certificate("int-ta-expired", "an intermediate below ta-expired", "ta-expired", authority()),
    Certificate("leaf-int-ta-expired", "issued by int-ta-expired", "int-ta-expired", server(MX)),
    # Who may issue
    Certificate("leaf-below-leaf", "issued by leaf-direct, which is no authority", "leaf-direct", server(MX)),
    Certificate("int-ca-false", "keyCertSign, but cA FALSE", "ta", (basic_constraints(ca=False), SIGNING)),
    Certificate("leaf-int-ca-false", "issued by int-ca-false", "int-ca-false", server(MX)),
    Certificate("int-no-bc", "an intermediate without basicConstraints", "ta", (SIGNING,)),
    Certificate("leaf-int-no-bc", "issued by int-no-bc", "int-no-bc", server(MX)),
    Certificate(
        "int-bc-not-critical",
        "an intermediate whose basicConstraints are not critical",
        "ta",
        (extension("2.5.29.19", tlv(SEQUENCE, tlv(BOOLEAN, b"\xff"))), SIGNING),
    ),
    Certificate("leaf-int-bc-not-critical", "issued by int-bc-not-critical", "int-bc-not-critical", server(MX)),
    Certificate("int-v1", "an intermediate of version 1", "ta", version=1),
    Certificate("leaf-int-v1", "issued by int-v1", "int-v1", server(MX)),
    Certificate("int-no-ku", "an intermediate without keyUsage", "ta", (basic_constraints(ca=True),)),
    Certificate("leaf-int-no-ku", "issued by int-no-ku", "int-no-ku", server(MX)),
    Certificate(
        "int-ku-no-sign",
        "cA TRUE, but keyUsage digitalSignature only",
        "ta",
        (basic_constraints(ca=True), key_usage(0)),
    ),
    Certificate("leaf-int-ku-no-sign", "issued by int-ku-no-sign", "int-ku-no-sign", server(MX)),
    Certificate("ta-v1", "a root of version 1", version=1),
    Certificate("leaf-ta-v1", "issued by ta-v1", "ta-v1", server(MX), authority=None),
    Certificate("ta-no-bc", "a root without basicConstraints, with keyCertSign", extensions=(SIGNING,)),
    Certificate("leaf-ta-no-bc", "issued by ta-no-bc", "ta-no-bc", server(MX)),
    Certificate("ta-ca-false", "a root with cA FALSE", extensions=(basic_constraints(ca=False), SIGNING)),
    Certificate("leaf-ta-ca-false", "issued by ta-ca-false", "ta-ca-false", server(MX)),
    Certificate("ta-ku-no-sign", "a root without keyCertSign", extensions=(basic_constraints(ca=True), key_usage(0))),
    Certificate("leaf-ta-ku-no-sign", "issued by ta-ku-no-sign", "ta-ku-no-sign", server(MX)),
    # Path length
    Certificate("ta-len0", "a root with pathLenConstraint 0", extensions=authority(0)),
    Certificate("leaf-ta-len0", "issued by ta-len0 itself", "ta-len0", server(MX)),
    Certificate("int-ta-len0", "an intermediate that ta-len0 does not allow", "ta-len0", authority()),
    Certificate("leaf-int-ta-len0", "issued by int-ta-len0", "int-ta-len0", server(MX)),
    Certificate("int-len0", "an intermediate with pathLenConstraint 0", "ta", authority(0)),
    Certificate("leaf-int-len0", "issued by int-len0 itself", "int-len0", server(MX)),
    Certificate("int-below-len0", "an intermediate that int-len0 does not allow", "int-len0", authority()),
    Certificate("leaf-below-len0", "issued by int-below-len0", "int-below-len0", server(MX)),
    Certificate(
        "int-len0-next",
        "the next key of int-len0, self-issued: it does not count",
        "int-len0",
        authority(0),
        cn("Test int-len0"),
    ),
    Certificate("leaf-int-len0-next", "issued by int-len0-next", "int-len0-next", server(MX)),
    # What keys are for
    Certificate("leaf-client", "extKeyUsage clientAuth only", "ta", (ext_key_usage(CLIENT_AUTH), alt_names(dns(MX)))),
    Certificate(
        "leaf-both",
        "extKeyUsage clientAuth and serverAuth",
        "ta",
        (ext_key_usage(CLIENT_AUTH, SERVER_AUTH), alt_names(dns(MX))),
    ),
    Certificate(
        "leaf-any", "extKeyUsage anyExtendedKeyUsage only", "ta", (ext_key_usage(ANY_PURPOSE), alt_names(dns(MX)))
    ),
    Certificate("leaf-no-eku", "no extKeyUsage", "ta", (alt_names(dns(MX)),)),
    Certificate("leaf-ku-cert-sign", "keyUsage keyCertSign only", "ta", (SIGNING, alt_names(dns(MX)))),
    Certificate(
        "leaf-ca-true",
        "a server certificate with cA TRUE",
        "ta",
        (basic_constraints(ca=True), key_usage(0, 5), alt_names(dns(MX))),
    ),
    Certificate(
        "int-client",
        "an intermediate with extKeyUsage clientAuth only",
        "ta",
        authority(None, ext_key_usage(CLIENT_AUTH)),
    ),
    Certificate("leaf-int-client", "issued by int-client", "int-client", server(MX)),
    Certificate(
        "int-server", "an intermediate with extKeyUsage serverAuth", "ta", authority(None, ext_key_usage(SERVER_AUTH))
    ),
    Certificate("leaf-int-server", "issued by int-server", "int-server", server(MX)),
    Certificate(
        "int-any",
        "an intermediate with extKeyUsage anyExtendedKeyUsage only",
        "ta",
        authority(None, ext_key_usage(ANY_PURPOSE)),
    ),
    Certificate("leaf-int-any", "issued by int-any", "int-any", server(MX)),
    Certificate(
        "ta-client", "a root with extKeyUsage clientAuth only", extensions=authority(None, ext_key_usage(CLIENT_AUTH))
    ),
    Certificate("leaf-ta-client", "issued by ta-client", "ta-client", server(MX)),
    # Extensions
    Certificate(
        "leaf-critical",
        "an unknown critical extension",
        "ta",
        (*server(MX), extension(UNKNOWN, tlv(NULL), critical=True)),
    ),
    Certificate(
        "leaf-uncritical",
        "an unknown extension that is not critical",
        "ta",
        (*server(MX), extension(UNKNOWN, tlv(NULL))),
    ),
    Certificate(
        "int-critical",
        "an intermediate with an unknown critical extension",
        "ta",
        authority(None, extension(UNKNOWN, tlv(NULL), critical=True)),
    ),
    Certificate("leaf-int-critical", "issued by int-critical", "int-critical", server(MX)),
    Certificate(
        "ta-critical",
        "a root with an unknown critical extension",
        extensions=authority(None, extension(UNKNOWN, tlv(NULL), critical=True)),
    ),
    Certificate("leaf-ta-critical", "issued by ta-critical", "ta-critical", server(MX)),
    Certificate(
        "leaf-san-twice", "subjectAltName twice, another name first", "ta", (*server(OTHER), alt_names(dns(MX)))
    ),
    Certificate(
        "leaf-san-broken",
        "a subjectAltName that is not DER inside",
        "ta",
        (*server(), extension("2.5.29.17", b"\x30\x7f\x82")),
    ),
    Certificate(
        "int-explicit-policy",
        "an intermediate that requires an explicit policy",
        "ta",
        authority(None, EXPLICIT_POLICY),
    ),
    Certificate(
        "leaf-int-explicit-policy",
        "issued by int-explicit-policy, without any policy",
        "int-explicit-policy",
        server(MX),
    ),
    # Name constraints
    Certificate(
        "int-permit",
        "permits DNS provider.example",
        "ta",
        authority(None, name_constraints(permitted=[dns("provider.example")])),
    ),
    Certificate("leaf-permit", "inside int-permit", "int-permit", server(MX)),
    Certificate("leaf-permit-outside", "outside int-permit", "int-permit", server(NEXT_HOP)),
    Certificate("leaf-permit-half", "one name inside int-permit, one outside", "int-permit", server(MX, OTHER)),
    Certificate("leaf-permit-wildcard", "a wildcard inside int-permit", "int-permit", server("*.provider.example")),
    Certificate(
        "leaf-permit-cn", "no subjectAltName, a Common Name outside int-permit", "int-permit", server(), cn(NEXT_HOP)
    ),
    Certificate(
        "leaf-permit-ip",
        "inside int-permit, an address beside it",
        "int-permit",
        (*server(), alt_names(dns(MX), ip(192, 0, 2, 1))),
    ),
    Certificate(
        "int-permit-dot",
        "permits DNS .provider.example",
        "ta",
        authority(None, name_constraints(permitted=[dns(".provider.example")])),
    ),
    Certificate("leaf-permit-dot", "inside int-permit-dot", "int-permit-dot", server(MX)),
    Certificate(
        "int-exclude",
        "excludes DNS provider.example",
        "ta",
        authority(None, name_constraints(excluded=[dns("provider.example")])),
    ),
    Certificate("leaf-exclude", "inside the excluded tree of int-exclude", "int-exclude", server(MX)),
    Certificate("leaf-exclude-cn", "no subjectAltName, an excluded Common Name", "int-exclude", server(), cn(MX)),
    Certificate("leaf-exclude-outside", "outside the excluded tree of int-exclude", "int-exclude", server(NEXT_HOP)),
    Certificate(
        "int-exclude-part",
        "excludes DNS vider.example, which ends inside a label of provider.example",
        "ta",
        authority(None, name_constraints(excluded=[dns("vider.example")])),
    ),
    Certificate("leaf-exclude-part", "below int-exclude-part", "int-exclude-part", server(MX)),
    Certificate(
        "int-permit-narrow",
        "below int-permit, permits mx2.provider.example",
        "int-permit",
        authority(None, name_constraints(permitted=[dns(MX2)])),
    ),
    Certificate(
        "leaf-permit-narrow", "permitted by int-permit, not by int-permit-narrow", "int-permit-narrow", server(MX)
    ),
    Certificate("leaf-permit-narrow-inside", "permitted by both", "int-permit-narrow", server(MX2)),
    Certificate(
        "int-permit-apart",
        "below int-permit, permits client.example: nothing is left",
        "int-permit",
        authority(None, name_constraints(permitted=[dns(NEXT_HOP)])),
    ),
    Certificate(
        "leaf-permit-apart", "permitted by int-permit-apart, not by int-permit", "int-permit-apart", server(NEXT_HOP)
    ),
    Certificate(
        "int-permit-ip",
        "permits addresses 198.51.100.0/24",
        "ta",
        authority(None, name_constraints(permitted=[ip(198, 51, 100, 0, 255, 255, 255, 0)])),
    ),
    Certificate("leaf-permit-ip-none", "below int-permit-ip, no address", "int-permit-ip", server(MX)),
    Certificate(
        "leaf-permit-ip-inside",
        "below int-permit-ip, an address inside",
        "int-permit-ip",
        (*server(), alt_names(dns(MX), ip(198, 51, 100, 7))),
    ),
    Certificate(
        "leaf-permit-ip-outside",
        "below int-permit-ip, an address outside",
        "int-permit-ip",
        (*server(), alt_names(dns(MX), ip(192, 0, 2, 1))),
    ),
    Certificate(
        "int-permit-dir",
        "permits directory names below O=Test",
        "ta",
        authority(None, name_constraints(permitted=[directory(organization("Test"))])),
    ),
    Certificate(
        "leaf-permit-dir",
        "a subject below O=Test",
        "int-permit-dir",
        server(MX),
        tlv(SEQUENCE, attribute(O, "Test"), attribute(CN, "Server")),
    ),
    Certificate(
        "leaf-permit-dir-outside",
        "a subject below O=Else",
        "int-permit-dir",
        server(MX),
        tlv(SEQUENCE, attribute(O, "Else"), attribute(CN, "Server")),
    ),
    Certificate(
        "int-permit-dir-next",
        "the next key of int-permit-dir, self-issued: exempt from its constraints",
        "int-permit-dir",
        authority(),
        cn("Test int-permit-dir"),
    ),
    Certificate(
        "leaf-permit-dir-next",
        "issued by int-permit-dir-next, a subject below O=Test",
        "int-permit-dir-next",
        server(MX),
        tlv(SEQUENCE, attribute(O, "Test"), attribute(CN, "Server")),
    ),
    Certificate(
        "ta-exclude",
        "a root that excludes DNS provider.example",
        extensions=authority(None, name_constraints(excluded=[dns("provider.example")])),
    ),
    Certificate("leaf-ta-exclude", "issued by ta-exclude", "ta-exclude", server(MX)),
    Certificate(
        "int-many",
        "permits fifty DNS trees, the wanted one last",
        "ta",
        authority(
            None, name_constraints(permitted=[dns(f"v{n}.example") for n in range(49)] + [dns("provider.example")])
        ),
    ),
    Certificate(
        "leaf-many",
        "fifty names inside int-many",
        "int-many",
        server(*(f"v{n}.provider.example" for n in range(49)), MX),
    ),
    # Signatures, keys and names that link certificates
    Certificate("leaf-bad-signature", "one bit of the signature changed", "ta", server(MX), edit=flip_last),
    Certificate(
        "int-bad-signature", "an intermediate with one bit of the signature changed", "ta", authority(), edit=flip_last
    ),
    Certificate("leaf-int-bad-signature", "issued by int-bad-signature", "int-bad-signature", server(MX)),
    Certificate(
        "leaf-impostor",
        "claims to be issued by ta, signed by stranger",
        "ta",
        server(MX),
        signer="stranger",
        authority=None,
    ),
    Certificate(
        "leaf-aki-elsewhere", "issued by ta, authorityKeyIdentifier of stranger", "ta", server(MX), authority="stranger"
    ),
    Certificate(
        "leaf-no-aki", "issued by ta, no key identifiers", "ta", server(MX), authority=None, subject_key_id=False
    ),
    Certificate("ta-renamed", "the key of ta under another name", extensions=authority(), key="p256 ta"),
    Certificate(
        "ta-reissued",
        "the name and key of ta again, pathLenConstraint 3",
        extensions=authority(3),
        name=cn("Test ta"),
        key="p256 ta",
    ),
    Certificate(
        "ta-reissued-len0",
        "the name and key of ta again, pathLenConstraint 0",
        extensions=authority(0),
        name=cn("Test ta"),
        key="p256 ta",
    ),
    Certificate(
        "ta-rekeyed",
        "the name of ta with another key, no key identifier",
        extensions=authority(),
        name=cn("Test ta"),
        subject_key_id=False,
    ),
    Certificate(
        "int-cross",
        "the name and key of int, issued by stranger",
        "stranger",
        authority(),
        cn("Test int"),
        key="p256 int",
    ),
    Certificate(
        "int-twin-expired",
        "the name and key of int, issued by ta, expired",
        "ta",
        authority(),
        cn("Test int"),
        key="p256 int",
        not_after=PAST,
    ),
    Certificate("loop-a", "issued by loop-b", "loop-b", authority()),
    Certificate("loop-b", "issued by loop-a", "loop-a", authority()),
    Certificate("leaf-loop", "issued by loop-a", "loop-a", server(MX)),
    Certificate(
        "ta-printable",
        "a root whose name is a PrintableString",
        extensions=authority(),
        name=cn("Test Name Type", PRINTABLE),
    ),
    Certificate(
        "leaf-ta-printable",
        "issued by ta-printable, written as UTF8String",
        "ta-printable",
        server(MX),
        issuer_name=cn("Test Name Type"),
    ),
    Certificate(
        "leaf-ta-printable-case",
        "issued by ta-printable, in other case and with more blanks",
        "ta-printable",
        server(MX),
        issuer_name=cn("TEST name  type", PRINTABLE),
    ),
    # Algorithms and key types
    Certificate("ta-rsa", "an RSA root", extensions=authority(), key="rsa2048"),
    Certificate("leaf-rsa", "an RSA server key, issued by ta-rsa", "ta-rsa", server(MX), key="rsa2048"),
    Certificate("leaf-sha1", "signed with SHA-1", "ta-rsa", server(MX), digest="sha1"),
    Certificate("leaf-md5", "signed with MD5", "ta-rsa", server(MX), digest="md5"),
    Certificate("int-sha1", "an intermediate signed with SHA-1", "ta-rsa", authority(), digest="sha1"),
    Certificate("leaf-int-sha1", "issued by int-sha1", "int-sha1", server(MX)),
    Certificate(
        "ta-sha1", "a root whose own signature uses SHA-1", extensions=authority(), key="rsa2048 ta-rsa", digest="sha1"
    ),
    Certificate("leaf-ta-sha1", "issued by ta-sha1", "ta-sha1", server(MX)),
    Certificate("ta-rsa1024", "a root with an RSA key of 1024 bits", extensions=authority(), key="rsa1024"),
    Certificate("leaf-ta-rsa1024", "issued by ta-rsa1024", "ta-rsa1024", server(MX)),
    Certificate("ta-rsa512", "a root with an RSA key of 512 bits", extensions=authority(), key="rsa512"),
    Certificate("leaf-ta-rsa512", "issued by ta-rsa512", "ta-rsa512", server(MX)),
    Certificate("leaf-rsa512", "an RSA server key of 512 bits", "ta", server(MX), key="rsa512"),
    Certificate("ta-ed25519", "an Ed25519 root", extensions=authority(), key="ed25519"),
    Certificate(
        "leaf-ta-ed25519", "an Ed25519 server key, issued by ta-ed25519", "ta-ed25519", server(MX), key="ed25519"
    ),
    Certificate("leaf-p384", "a P-384 server key", "ta", server(MX), key="p384"),
    Certificate("leaf-compressed", "a P-256 key written as compressed point", "ta", server(MX), key="p256-compressed"),
    Certificate("leaf-rsa-pss", "an RSA key restricted to PSS (id-RSASSA-PSS)", "ta", server(MX), key="rsa2048-pss"),
    Certificate("leaf-unknown-key", "a key of an unknown algorithm", "ta", server(MX), key="unknown"),
    # Encodings that strict parsers refuse
    Certificate("leaf-v1", "a server certificate of version 1, the name as Common Name", "ta", name=cn(MX), version=1),
    Certificate("leaf-serial-negative", "serial number -5", "ta", server(MX), serial=-5),
    Certificate("leaf-serial-zero", "serial number 0", "ta", server(MX), serial=0),
    Certificate("int-serial-negative", "an intermediate with serial number -7", "ta", authority(), serial=-7),
    Certificate("leaf-int-serial-negative", "issued by int-serial-negative", "int-serial-negative", server(MX)),
    Certificate("leaf-date-broken", "a notAfter in the month 13", "ta", server(MX), not_after="20351301000000"),
    Certificate("leaf-trailing", "two octets after the certificate", "ta", server(MX), edit=trailing),
    Certificate("leaf-ber-length", "the outer length with a leading zero octet", "ta", server(MX), edit=long_length),
    Certificate("leaf-ber-indefinite", "the outer length indefinite", "ta", server(MX), edit=indefinite_length),
    Certificate("leaf-cut", "the first half only", "ta", server(MX), edit=cut_short),
    # Signatures that nobody can check, or that do not hold
    Certificate(
        "forger", "the RSA key of an attacker, in a root that nobody trusts", extensions=authority(), key="rsa2048"
    ),
    Certificate("leaf-pss", "signed with RSASSA-PSS", "ta-rsa", server(MX), digest="pss"),
    Certificate("int-pss", "an intermediate signed with RSASSA-PSS", "ta-rsa", authority(), digest="pss"),
    Certificate("leaf-int-pss", "issued by int-pss", "int-pss", server(MX)),
    Certificate(
        "leaf-pss-bad",
        "RSASSA-PSS, one bit of the signature changed",
        "ta-rsa",
        server(MX),
        digest="pss",
        edit=flip_last,
    ),
    *(
        Certificate(
            f"{kind}-pss-{what}",
            f"RSASSA-PSS with {note}, signed by forger",
            "ta-rsa",
            server(MX) if kind == "leaf" else authority(),
            signer="forger",
            digest="pss",
            algorithm=algorithm,
        )
        for what, note, algorithm in (
            ("mask", "an unknown mask generation function", pss_algorithm(mask=MGF1 + "1")),
            ("hash", "an unknown hash function", pss_algorithm("1.3.6.1.4.1.32473.6")),
            ("trailer", "trailer field 2, which does not exist", pss_algorithm(trailer=2)),
            ("salt", "a salt longer than the key", pss_algorithm(salt=1000)),
            ("absent", "no parameters", tlv(SEQUENCE, oid(RSASSA_PSS))),
            ("broken", "parameters that are no SEQUENCE", tlv(SEQUENCE, oid(RSASSA_PSS), tlv(NULL))),
        )
        for kind in ("leaf", "int")
    ),
    *(
        Certificate(f"leaf-int-pss-{what}", f"issued by int-pss-{what}", f"int-pss-{what}", server(MX))
        for what in ("mask", "hash", "trailer", "salt", "absent", "broken")
    ),
    Certificate(
        "leaf-pss-salt-other",
        "RSASSA-PSS, the parameters tell a shorter salt than there is",
        "ta-rsa",
        server(MX),
        digest="pss",
        algorithm=pss_algorithm(salt=20),
    ),
    Certificate(
        "leaf-pss-mask-other",
        "RSASSA-PSS, the parameters tell another hash for the mask than was used",
        "ta-rsa",
        server(MX),
        digest="pss",
        algorithm=pss_algorithm(mask_digest="sha384"),
    ),
    Certificate(
        "leaf-pss-default",
        "RSASSA-PSS with empty parameters, the default: SHA-1",
        "ta-rsa",
        server(MX),
        digest="pss-sha1",
        algorithm=tlv(SEQUENCE, oid(RSASSA_PSS), tlv(SEQUENCE)),
    ),
    Certificate(
        "leaf-pss-mask-signed",
        "RSASSA-PSS with an unknown mask generation function, signed by ta-rsa by the usual one",
        "ta-rsa",
        server(MX),
        digest="pss",
        algorithm=pss_algorithm(mask=MGF1 + "1"),
    ),
    *(
        Certificate(
            f"{kind}-unknown-signature",
            "a signature of an unknown algorithm, made by forger",
            "ta-rsa",
            server(MX) if kind == "leaf" else authority(),
            signer="forger",
            algorithm=tlv(SEQUENCE, oid(UNKNOWN_SIGNATURE)),
        )
        for kind in ("leaf", "int")
    ),
    Certificate("leaf-int-unknown-signature", "issued by int-unknown-signature", "int-unknown-signature", server(MX)),
    Certificate(
        "ta-unknown-signature",
        "the name and key of ta-rsa, its own signature of an unknown algorithm",
        extensions=authority(),
        name=cn("Test ta-rsa"),
        key="rsa2048 ta-rsa",
        algorithm=tlv(SEQUENCE, oid(UNKNOWN_SIGNATURE)),
    ),
    *(
        Certificate(
            f"leaf-{signer}-below-{issuer}",
            f"claims to be issued by {issuer}, signed by {signer}, a key of another type",
            issuer,
            server(MX),
            signer=signer,
        )
        for issuer, signer in (
            ("ta", "forger"),
            ("ta", "ta-ed25519"),
            ("ta", "ta-dsa"),
            ("ta-rsa", "stranger"),
            ("ta-rsa", "ta-ed25519"),
            ("ta-ed25519", "stranger"),
            ("ta-ed25519", "ta-ed448"),
            ("ta-dsa", "forger"),
        )
    ),
    Certificate(
        "int-forger-below-ta",
        "an intermediate, claims to be issued by ta, signed by forger",
        "ta",
        authority(),
        signer="forger",
    ),
    Certificate("leaf-int-forger-below-ta", "issued by int-forger-below-ta", "int-forger-below-ta", server(MX)),
    Certificate("leaf-bad-rsa", "RSA, one bit of the signature changed", "ta-rsa", server(MX), edit=flip_last),
    Certificate(
        "leaf-bad-ed25519", "Ed25519, one bit of the signature changed", "ta-ed25519", server(MX), edit=flip_last
    ),
    Certificate("leaf-bad-dsa", "DSA, one bit of the signature changed", "ta-dsa", server(MX), edit=flip_last),
    Certificate(
        "leaf-algorithms-differ",
        "SHA-384 in the signed part, SHA-256 beside the signature, which is by SHA-256",
        "ta-rsa",
        server(MX),
        algorithm=tlv(SEQUENCE, oid(RSA_SHA384), tlv(NULL)),
        outer_algorithm=tlv(SEQUENCE, oid(RSA_SIGNATURE["sha256"]), tlv(NULL)),
    ),
    Certificate(
        "leaf-unused-bits",
        "the last bit of the signature, which is 0, counts as unused",
        "ta-ed25519",
        server(MX),
        unused_bits=1,
        serial=10,
    ),
    Certificate(
        "ta-unknown-key",
        "a root with a key of an unknown algorithm, signed by forger",
        extensions=authority(),
        key="unknown",
        signer="forger",
    ),
    Certificate(
        "leaf-ta-unknown-key",
        "claims to be issued by ta-unknown-key, signed by forger",
        "ta-unknown-key",
        server(MX),
        signer="forger",
    ),
    Certificate(
        "int-unknown-key", "an intermediate with a key of an unknown algorithm", "ta", authority(), key="unknown"
    ),
    Certificate(
        "leaf-int-unknown-key",
        "claims to be issued by int-unknown-key, signed by forger",
        "int-unknown-key",
        server(MX),
        signer="forger",
    ),
    # More algorithms and key sizes
    Certificate("ta-dsa", "a DSA root", extensions=authority(), key="dsa"),
    Certificate("leaf-ta-dsa", "issued by ta-dsa", "ta-dsa", server(MX)),
    Certificate("ta-ed448", "an Ed448 root", extensions=authority(), key="ed448"),
    Certificate("leaf-ta-ed448", "issued by ta-ed448", "ta-ed448", server(MX)),
    Certificate("ta-p521", "a P-521 root", extensions=authority(), key="p521", digest="sha512"),
    Certificate("leaf-ta-p521", "issued by ta-p521 with SHA-512", "ta-p521", server(MX), digest="sha512"),
    Certificate("leaf-ecdsa-sha1", "ECDSA with SHA-1", "ta", server(MX), digest="sha1"),
    Certificate("ta-explicit", "a root whose curve is spelt out", extensions=authority(), key="p256-explicit"),
    Certificate("leaf-ta-explicit", "issued by ta-explicit", "ta-explicit", server(MX)),
    Certificate("leaf-explicit", "a server key whose curve is spelt out", "ta", server(MX), key="p256-explicit"),
    Certificate("leaf-rsa1024", "an RSA server key of 1024 bits", "ta", server(MX), key="rsa1024"),
    Certificate("int-rsa1024", "an intermediate with an RSA key of 1024 bits", "ta", authority(), key="rsa1024"),
    Certificate("leaf-int-rsa1024", "issued by int-rsa1024", "int-rsa1024", server(MX)),
    # More on extensions
    Certificate(
        "leaf-known-critical",
        "every extension that a server certificate has use for, critical",
        "ta",
        (
            basic_constraints(ca=False),
            key_usage(0),
            ext_key_usage(SERVER_AUTH, critical=True),
            alt_names(dns(MX), critical=True),
            policies(POLICY, critical=True),
            extension("2.5.29.31", CRL_POINT, critical=True),
        ),
    ),
    Certificate(
        "leaf-ku-encipherment",
        "keyUsage keyEncipherment only",
        "ta-rsa",
        (key_usage(2), alt_names(dns(MX))),
        key="rsa2048",
    ),
    Certificate("leaf-ku-agreement", "keyUsage keyAgreement only", "ta", (key_usage(4), alt_names(dns(MX)))),
    Certificate(
        "int-bc-twice", "an intermediate with basicConstraints twice", "ta", (*authority(), basic_constraints(ca=True))
    ),
    Certificate("leaf-int-bc-twice", "issued by int-bc-twice", "int-bc-twice", server(MX)),
    Certificate(
        "ta-bc-twice", "a root with basicConstraints twice", extensions=(*authority(), basic_constraints(ca=True))
    ),
    Certificate("leaf-ta-bc-twice", "issued by ta-bc-twice", "ta-bc-twice", server(MX)),
    Certificate("ta-bare", "a root of version 3 with neither basicConstraints nor keyUsage"),
    Certificate("leaf-ta-bare", "issued by ta-bare", "ta-bare", server(MX)),
    Certificate("ta-future", "a root that is not yet valid", extensions=authority(), not_before=SOON),
    Certificate("leaf-ta-future", "issued by ta-future", "ta-future", server(MX)),
    Certificate("leaf-future-other", "not yet valid, and another name", "ta", server(OTHER), not_before=SOON),
    # Policies
    *(
        Certificate(f"int-{file}", f"an intermediate, {note}", "ta", authority(None, *extensions))
        for file, note, extensions in (
            ("policy", "requires a policy, has one", (policies(POLICY), EXPLICIT_POLICY)),
            ("policy-any", "requires a policy, has anyPolicy", (policies(ANY_POLICY), EXPLICIT_POLICY)),
            (
                "policy-no-any",
                "requires a policy, has one and anyPolicy, inhibits anyPolicy below",
                (policies(POLICY, ANY_POLICY), EXPLICIT_POLICY, inhibit_any_policy(0)),
            ),
            (
                "policy-any-once",
                "requires a policy, has anyPolicy, inhibits anyPolicy from the second certificate below",
                (policies(ANY_POLICY), EXPLICIT_POLICY, inhibit_any_policy(1)),
            ),
            ("policy-in-1", "requires a policy from the next certificate on", (policy_constraints(explicit=1),)),
            ("policy-in-2", "requires a policy after one more certificate", (policy_constraints(explicit=2),)),
            (
                "policy-unrequired",
                "forbids policy mapping and anyPolicy, requires nothing",
                (policies(POLICY), policy_constraints(mapping=0), inhibit_any_policy(0)),
            ),
            (
                "policy-mapping",
                "maps policies, critically, requires nothing",
                (policies(POLICY), extension("2.5.29.33", POLICY_MAPPING, critical=True)),
            ),
        )
    ),
    *(
        Certificate(
            f"leaf-{file}{suffix}",
            f"issued by int-{file}, {note}",
            f"int-{file}",
            (*server(MX), *extensions),
        )
        for file, suffix, note, extensions in (
            ("policy", "", "with the same policy", (policies(POLICY),)),
            ("policy", "-other", "with another policy", (policies(OTHER_POLICY),)),
            ("policy", "-two", "with both policies", (policies(OTHER_POLICY, POLICY),)),
            ("policy", "-wild", "with anyPolicy", (policies(ANY_POLICY),)),
            ("policy-any", "", "with a policy", (policies(POLICY),)),
            ("policy-any", "-none", "without any policy", ()),
            ("policy-no-any", "", "with a policy", (policies(POLICY),)),
            ("policy-no-any", "-any", "with anyPolicy", (policies(ANY_POLICY),)),
            ("policy-any-once", "-any", "with anyPolicy", (policies(ANY_POLICY),)),
            ("policy-in-1", "", "without any policy", ()),
            ("policy-in-2", "", "without any policy", ()),
            ("policy-unrequired", "", "without any policy", ()),
            ("policy-mapping", "", "without any policy", ()),
        )
    ),
    Certificate(
        "leaf-policy-late",
        "issued by int-explicit-policy, which has no policy, with a policy",
        "int-explicit-policy",
        (*server(MX), policies(POLICY)),
    ),
    Certificate(
        "leaf-policy-both",
        "issued by int-explicit-policy, requires a policy too and has none",
        "int-explicit-policy",
        (*server(MX), EXPLICIT_POLICY),
    ),
    Certificate(
        "leaf-policy-own",
        "requires a policy itself, its issuer has none",
        "int",
        (*server(MX), policies(POLICY), EXPLICIT_POLICY),
    ),
    Certificate(
        "leaf-policy-in-1-self",
        "has the name of its issuer int-policy-in-1, without any policy",
        "int-policy-in-1",
        server(MX),
        cn("Test int-policy-in-1"),
    ),
    Certificate("int-policy-in-2-below", "below int-policy-in-2, another name", "int-policy-in-2", authority()),
    Certificate(
        "leaf-policy-in-2-below",
        "issued by int-policy-in-2-below, without any policy",
        "int-policy-in-2-below",
        server(MX),
    ),
    Certificate(
        "int-policy-in-2-next",
        "the next key of int-policy-in-2, self-issued: it does not count",
        "int-policy-in-2",
        authority(),
        cn("Test int-policy-in-2"),
    ),
    Certificate(
        "leaf-policy-in-2-next",
        "issued by int-policy-in-2-next, without any policy",
        "int-policy-in-2-next",
        server(MX),
    ),
    Certificate(
        "int-policy-any-once-below",
        "below int-policy-any-once, with anyPolicy",
        "int-policy-any-once",
        authority(None, policies(ANY_POLICY)),
    ),
    Certificate(
        "leaf-policy-any-once-below",
        "issued by int-policy-any-once-below, with anyPolicy",
        "int-policy-any-once-below",
        (*server(MX), policies(ANY_POLICY)),
    ),
    Certificate(
        "int-policy-no-any-next",
        "the next key of int-policy-no-any, self-issued: its anyPolicy still counts",
        "int-policy-no-any",
        authority(None, policies(ANY_POLICY)),
        cn("Test int-policy-no-any"),
    ),
    Certificate(
        "leaf-policy-no-any-next",
        "issued by int-policy-no-any-next, with a policy",
        "int-policy-no-any-next",
        (*server(MX), policies(POLICY)),
    ),
    # More name constraints
    *(
        Certificate(f"int-{file}", f"an intermediate that {note}", "ta", authority(None, constraints))
        for file, note, constraints in (
            (
                "permit-minimum",
                "permits DNS provider.example with minimum 1",
                name_constraints(permitted=[dns("provider.example")], distance=tlv(0x80, b"\1")),
            ),
            (
                "exclude-maximum",
                "excludes DNS other.example with maximum 1",
                name_constraints(excluded=[dns(OTHER)], distance=tlv(0x81, b"\1")),
            ),
            ("permit-upper", "permits DNS Provider.EXAMPLE", name_constraints(permitted=[dns("Provider.EXAMPLE")])),
            ("exclude-all", "excludes all DNS names", name_constraints(excluded=[dns("")])),
            (
                "permit-ip6",
                "permits addresses 2001:db8::/32",
                name_constraints(permitted=[ip(0x20, 1, 0x0D, 0xB8, *bytes(12), *b"\xff\xff\xff\xff", *bytes(12))]),
            ),
            (
                "permit-email",
                "permits the e-mail host provider.example",
                name_constraints(permitted=[email("provider.example")]),
            ),
            (
                "permit-email-below",
                "permits e-mail hosts below provider.example",
                name_constraints(permitted=[email(".provider.example")]),
            ),
            (
                "permit-email-one",
                "permits the mailbox postmaster@provider.example",
                name_constraints(permitted=[email("postmaster@Provider.EXAMPLE")]),
            ),
            (
                "permit-uri",
                "permits the URI host provider.example",
                name_constraints(permitted=[uri("provider.example")]),
            ),
            (
                "permit-uri-below",
                "permits URI hosts below provider.example",
                name_constraints(permitted=[uri(".provider.example")]),
            ),
            ("permit-srv", "permits an SRVName", name_constraints(permitted=[srv("_smtp.provider.example")])),
            ("exclude-email", "excludes the e-mail host client.example", name_constraints(excluded=[email(NEXT_HOP)])),
            ("exclude-uri", "excludes the URI host client.example", name_constraints(excluded=[uri(NEXT_HOP)])),
            (
                "exclude-many",
                "excludes fifty DNS trees",
                name_constraints(excluded=[dns(f"v{n}.{OTHER}") for n in range(50)]),
            ),
        )
    ),
    *(
        Certificate(
            f"leaf-{file}{suffix}", f"issued by int-{file}, {note}", f"int-{file}", (*server(), alt_names(*names))
        )
        for file, suffix, note, names in (
            ("permit-dot", "-itself", "provider.example itself", (dns("provider.example"),)),
            ("permit-dot", "-outside", "mail.mx1.client.example", (dns(f"mail.mx1.{NEXT_HOP}"),)),
            ("permit-minimum", "", "a name inside", (dns(MX),)),
            ("exclude-maximum", "", "a name outside", (dns(MX),)),
            ("permit-upper", "", "a name inside", (dns("MX1.provider.Example"),)),
            ("exclude-all", "", "a DNS name", (dns(MX),)),
            ("permit-ip6", "-inside", "an address inside", (dns(MX), ip(0x20, 1, 0x0D, 0xB8, *bytes(11), 1))),
            ("permit-ip6", "-outside", "an address outside", (dns(MX), ip(0x20, 1, 0x0D, 0xB9, *bytes(11), 1))),
            ("permit-ip6", "-four", "an IPv4 address", (dns(MX), ip(192, 0, 2, 1))),
            (
                "permit-email",
                "-inside",
                "a mailbox at provider.example",
                (dns(MX), email("Postmaster@Provider.example")),
            ),
            ("permit-email", "-lower", "a mailbox at mx1.provider.example", (dns(MX), email(f"postmaster@{MX}"))),
            ("permit-email", "-outside", "a mailbox at client.example", (dns(MX), email(f"postmaster@{NEXT_HOP}"))),
            ("permit-email-below", "", "a mailbox at mx1.provider.example", (dns(MX), email(f"postmaster@{MX}"))),
            (
                "permit-email-below",
                "-itself",
                "a mailbox at provider.example",
                (dns(MX), email("postmaster@provider.example")),
            ),
            ("permit-email-one", "", "that mailbox", (dns(MX), email("postmaster@PROVIDER.example"))),
            ("permit-email-one", "-other", "another mailbox", (dns(MX), email("webmaster@provider.example"))),
            (
                "permit-email-one",
                "-elsewhere",
                "that mailbox at another host",
                (dns(MX), email(f"postmaster@{NEXT_HOP}")),
            ),
            (
                "permit-uri",
                "-inside",
                "a URI at provider.example",
                (dns(MX), uri("smtp://user:pass@Provider.example:25/a@b")),
            ),
            ("permit-uri", "-lower", "a URI at mx1.provider.example", (dns(MX), uri(f"smtp://{MX}/"))),
            (
                "permit-uri",
                "-outside",
                "a URI at client.example",
                (dns(MX), uri(f"smtp://{NEXT_HOP}/@provider.example")),
            ),
            ("permit-uri", "-hostless", "a URI without a host", (dns(MX), uri("urn:provider.example"))),
            ("permit-uri-below", "", "a URI at mx1.provider.example", (dns(MX), uri(f"smtp://{MX}/"))),
            ("permit-srv", "", "an SRVName", (dns(MX), srv("_smtp.provider.example"))),
            ("permit", "-beside-srv", "an SRVName beside a name inside", (dns(MX), srv("_smtp.client.example"))),
            ("permit-email", "-broken", "a mailbox without a host", (dns(MX), email("postmaster"))),
            ("exclude-email", "-broken", "a mailbox without a host", (dns(MX), email("postmaster"))),
            (
                "exclude-email",
                "-outside",
                "a mailbox at provider.example",
                (dns(MX), email("postmaster@provider.example")),
            ),
            ("exclude-uri", "-hostless", "a URI without a host", (dns(MX), uri("urn:provider.example"))),
            ("exclude-uri", "-outside", "a URI at provider.example", (dns(MX), uri("smtp://provider.example/"))),
            ("exclude-many", "-one", "one name outside", (dns(MX),)),
            ("permit-srv", "-none", "a DNS name only", (dns(MX),)),
            ("exclude-many", "", "fifty names outside", tuple(dns(f"mx{n}.provider.example") for n in range(50))),
        )
    ),
    Certificate(
        "leaf-permit-email-subject",
        "a mailbox at client.example in the subject",
        "int-permit-email",
        server(MX),
        tlv(SEQUENCE, attribute(CN, "Server"), attribute(EMAIL, f"postmaster@{NEXT_HOP}", IA5)),
    ),
    Certificate(
        "leaf-permit-email-subject-inside",
        "a mailbox at provider.example in the subject",
        "int-permit-email",
        server(MX),
        tlv(SEQUENCE, attribute(CN, "Server"), attribute(EMAIL, "postmaster@provider.example", IA5)),
    ),
    Certificate(
        "leaf-permit-dir-cn",
        "no subjectAltName, a subject below O=Else",
        "int-permit-dir",
        server(),
        tlv(SEQUENCE, attribute(O, "Else"), attribute(CN, MX)),
    ),
    *(
        Certificate(
            f"leaf-permit-dir-san{suffix}",
            f"a subject below O=Test, a directory name below O={value}",
            "int-permit-dir",
            (*server(), alt_names(dns(MX), directory(organization(value)))),
            tlv(SEQUENCE, attribute(O, "Test"), attribute(CN, "Server")),
        )
        for suffix, value in (("", "Test"), ("-outside", "Else"))
    ),
    Certificate(
        "leaf-permit-cn-upper",
        "no subjectAltName, a Common Name inside int-permit in upper case",
        "int-permit",
        server(),
        cn(MX.upper()),
    ),
    Certificate(
        "leaf-permit-nameless",
        "below int-permit, no subject, one name inside",
        "int-permit",
        (*server(), alt_names(dns(MX), critical=True)),
        tlv(SEQUENCE),
    ),
    Certificate(
        "leaf-permit-nameless-two",
        "below int-permit, no subject, two names inside",
        "int-permit",
        (*server(), alt_names(dns(MX), dns(MX2), critical=True)),
        tlv(SEQUENCE),
    ),
    Certificate(
        "leaf-permit-dir-nameless",
        "below int-permit-dir, no subject",
        "int-permit-dir",
        (*server(), alt_names(dns(MX), critical=True)),
        tlv(SEQUENCE),
    ),
    Certificate(
        "leaf-permit-cn-beside",
        "a name inside int-permit, a Common Name outside",
        "int-permit",
        server(MX),
        cn(NEXT_HOP),
    ),
    Certificate(
        "leaf-permit-cn-text",
        "no subjectAltName, a Common Name inside int-permit and one that is no domain name",
        "int-permit",
        server(),
        tlv(SEQUENCE, attribute(CN, "Mail Server"), attribute(CN, MX)),
    ),
    Certificate(
        "int-permit-cn",
        "below int-permit, a Common Name that looks like a domain name outside",
        "int-permit",
        authority(),
        cn("ca.client.example"),
    ),
    Certificate("leaf-int-permit-cn", "issued by int-permit-cn", "int-permit-cn", server(MX)),
    Certificate(
        "int-dir-outside",
        "below int-permit-dir, its own subject below O=Else",
        "int-permit-dir",
        authority(),
        organization("Else"),
    ),
    Certificate(
        "leaf-int-dir-outside",
        "issued by int-dir-outside, a subject below O=Test",
        "int-dir-outside",
        server(MX),
        tlv(SEQUENCE, attribute(O, "Test"), attribute(CN, "Server")),
    ),
    Certificate(
        "leaf-self-issued-exclude",
        "has the name of its issuer int-exclude, and an excluded DNS name",
        "int-exclude",
        server(MX),
        cn("Test int-exclude"),
    ),
    # More on the names and identifiers that link certificates
    *(
        Certificate(
            f"leaf-aki-{what}",
            f"issued by ta, authorityKeyIdentifier with {note}",
            "ta",
            (*server(MX), authority_serial(name, serial)),
            authority=None,
        )
        for what, note, name, serial in (
            ("serial", "name and serial number of ta", cn("Test ta"), usual_serial("ta")),
            ("serial-other", "the name of ta and another serial number", cn("Test ta"), usual_serial("int")),
            ("issuer-other", "another name and the serial number of ta", cn("Test stranger"), usual_serial("ta")),
        )
    ),
    Certificate(
        "leaf-issuer-organization",
        "signed by ta, the issuer an Organization of the same text",
        "ta",
        server(MX),
        issuer_name=organization("Test ta"),
        authority=None,
    ),
    Certificate(
        "ta-unique",
        "a root with a unique identifier, a BIT STRING, in its name",
        extensions=authority(),
        name=tlv(SEQUENCE, attribute(CN, "Unique"), attribute(UNIQUE_IDENTIFIER, b"\0\1", BIT_STRING)),
    ),
    Certificate("leaf-ta-unique", "issued by ta-unique", "ta-unique", server(MX)),
    Certificate(
        "leaf-ta-unique-other",
        "signed by ta-unique, the unique identifier another",
        "ta-unique",
        server(MX),
        issuer_name=tlv(SEQUENCE, attribute(CN, "Unique"), attribute(UNIQUE_IDENTIFIER, b"\0\2", BIT_STRING)),
    ),
    Certificate(
        "loop-b-ta",
        "the name and key of loop-b, issued by ta, expired",
        "ta",
        authority(),
        cn("Test loop-b"),
        key="p256 loop-b",
        not_after=PAST,
    ),
    # More names
    Certificate("leaf-san-dot", "the wanted name with a final dot", "ta", server(MX + ".")),
    Certificate("leaf-cn-dot", "no subjectAltName, the Common Name with a final dot", "ta", server(), cn(MX + ".")),
    Certificate("leaf-cn-upper", "no subjectAltName, the Common Name in upper case", "ta", server(), cn(MX.upper())),
    Certificate(
        "leaf-cn-beside-uri",
        "a URI in subjectAltName, the wanted name as Common Name",
        "ta",
        (*server(), alt_names(uri(f"smtp://{OTHER}/"))),
        cn(MX),
    ),
    Certificate(
        "leaf-cn-beside-srv",
        "an SRVName in subjectAltName, the wanted name as Common Name",
        "ta",
        (*server(), alt_names(srv(f"_smtp.{OTHER}"))),
        cn(MX),
    ),
    Certificate(
        "leaf-cn-beside-broken-dns",
        "a DNS name with a blank in it, the wanted name as Common Name",
        "ta",
        server("mail server"),
        cn(MX),
    ),
    # More encodings
    Certificate(
        "leaf-ber-inner", "a length inside in the long form without need", "ta", server(MX), edit=inner_long_length
    ),
    Certificate(
        "leaf-fourth-element",
        "a certificate with an element behind the signature",
        "ta",
        server(MX),
        edit=fourth_element,
    ),
    Certificate("leaf-set", "a SET in place of the outer SEQUENCE", "ta", server(MX), edit=as_set),
    # Dates in the year 0, which GeneralizedTime can write and RFC 5280 section 4.1.2.5 has no use for
    Certificate("leaf-year-zero", "a notBefore in the year 0", "ta", server(MX), not_before=YEAR_ZERO),
    Certificate("leaf-year-zero-end", "a notAfter in the year 0", "ta", server(MX), not_after=YEAR_ZERO),
    Certificate(
        "leaf-year-zero-forged",
        "a notBefore in the year 0, signed by nobody",
        "ta",
        server(MX),
        not_before=YEAR_ZERO,
        edit=flip_last,
    ),
    Certificate(
        "int-year-zero", "an intermediate with a notBefore in the year 0", "ta", authority(), not_before=YEAR_ZERO
    ),
    Certificate("leaf-int-year-zero", "issued by int-year-zero", "int-year-zero", server(MX)),
    Certificate("ta-year-zero", "a root with a notBefore in the year 0", extensions=authority(), not_before=YEAR_ZERO),
    Certificate("leaf-ta-year-zero", "issued by ta-year-zero", "ta-year-zero", server(MX)),
    # Serial numbers of roots
    Certificate("ta-serial-zero", "a root with serial number 0", extensions=authority(), serial=0),
    Certificate("leaf-ta-serial-zero", "issued by ta-serial-zero", "ta-serial-zero", server(MX)),
    Certificate("ta-serial-negative", "a root with serial number -300", extensions=authority(), serial=-300),
    Certificate(
        "leaf-ta-serial-negative",
        "issued by ta-serial-negative, authorityKeyIdentifier with its name and serial number",
        "ta-serial-negative",
        (*server(MX), authority_serial(cn("Test ta-serial-negative"), -300)),
        authority=None,
    ),
    # Expired anchors whose key is what is trusted
    *(
        row
        for what, note, extensions in (
            ("len0", "pathLenConstraint 0", authority(0)),
            (
                "exclude",
                "DNS provider.example excluded",
                authority(None, name_constraints(excluded=[dns("provider.example")])),
            ),
            ("client", "extKeyUsage clientAuth only", authority(None, ext_key_usage(CLIENT_AUTH))),
            ("ca-false", "cA FALSE", (basic_constraints(ca=False), SIGNING)),
            (
                "critical",
                "an unknown critical extension",
                authority(None, extension(UNKNOWN, tlv(NULL), critical=True)),
            ),
        )
        for row in (
            Certificate(f"ta-expired-{what}", f"an expired root with {note}", extensions=extensions, not_after=PAST),
            Certificate(f"leaf-ta-expired-{what}", f"issued by ta-expired-{what}", f"ta-expired-{what}", server(MX)),
        )
    ),
    Certificate(
        "int-ta-expired-len0", "an intermediate that ta-expired-len0 does not allow", "ta-expired-len0", authority()
    ),
    Certificate("leaf-int-ta-expired-len0", "issued by int-ta-expired-len0", "int-ta-expired-len0", server(MX)),
    Certificate(
        "ta-expired-rsa1024",
        "an expired root with an RSA key of 1024 bits",
        extensions=authority(),
        key="rsa1024",
        not_after=PAST,
    ),
    Certificate("leaf-ta-expired-rsa1024", "issued by ta-expired-rsa1024", "ta-expired-rsa1024", server(MX)),
    # Wildcards and the names that they can stand for
    *(
        Certificate(
            f"int-exclude-{file}",
            f"excludes DNS {base}",
            "ta",
            authority(None, name_constraints(excluded=[dns(base)])),
        )
        for file, base in (
            ("host", MX),
            ("host-upper", "MX1.Provider.EXAMPLE"),
            ("below-host", f".{MX}"),
            ("under-host", f"a.{MX}"),
            ("below", ".provider.example"),
        )
    ),
    Certificate("int-permit-host", f"permits DNS {MX}", "ta", authority(None, name_constraints(permitted=[dns(MX)]))),
    *(
        Certificate(
            f"leaf-{file}-wildcard",
            f"issued by int-{file}, *.provider.example",
            f"int-{file}",
            server("*.provider.example"),
        )
        for file in (
            "exclude-host",
            "exclude-host-upper",
            "exclude-below-host",
            "exclude-under-host",
            "exclude-below",
            "permit-host",
        )
    ),
    Certificate(
        "leaf-exclude-host-cn-wildcard",
        "issued by int-exclude-host, no subjectAltName, *.provider.example as Common Name",
        "int-exclude-host",
        server(),
        cn("*.provider.example"),
    ),
    # Constraints on Common Names that serve as DNS names
    Certificate(
        "leaf-ta-exclude-cn",
        "issued by ta-exclude, no subjectAltName, an excluded Common Name",
        "ta-exclude",
        server(),
        cn(MX),
    ),
    Certificate(
        "int-permit-client",
        "permits DNS client.example",
        "ta",
        authority(None, name_constraints(permitted=[dns(NEXT_HOP)])),
    ),
    Certificate(
        "int-permit-client-free",
        "the name and key of int-permit-client, without its constraint",
        "ta",
        authority(),
        cn("Test int-permit-client"),
        key="p256 int-permit-client",
    ),
    Certificate(
        "leaf-permit-client-cn",
        "issued by int-permit-client, no subjectAltName, a Common Name outside",
        "int-permit-client",
        server(),
        cn(MX),
    ),
    Certificate(
        "int-constraint-broken",
        "an intermediate that permits an address of five octets",
        "ta",
        authority(None, name_constraints(permitted=[ip(192, 0, 2, 0, 255)])),
    ),
    Certificate(
        "int-policies-broken",
        "an intermediate whose certificatePolicies are NULL",
        "ta",
        authority(None, extension("2.5.29.32", tlv(NULL))),
    ),
    Certificate("leaf-int-policies-broken", "issued by int-policies-broken", "int-policies-broken", server(MX)),
    Certificate("leaf-int-constraint-broken", "issued by int-constraint-broken", "int-constraint-broken", server(MX)),
    # RFC 7672 section 3.2.2, the worked example
    Certificate("leaf-exchange", "exchange.example.org", "ta", server("exchange.example.org")),
    Certificate("leaf-mail", "mail.example.org, the alias in the middle", "ta", server("mail.example.org")),
    Certificate("leaf-example", "example.com", "ta", server("example.com")),
    Certificate("leaf-mx10", "mx10.example.com", "ta", server("mx10.example.com")),
    Certificate("leaf-mx15", "mx15.example.com", "ta", server("mx15.example.com")),
    Certificate("leaf-mx20", "mx20.example.com", "ta", server("mx20.example.com")),
    Certificate("leaf-mxbackup-com", "mxbackup.example.com", "ta", server("mxbackup.example.com")),
    Certificate("leaf-mxbackup-net", "mxbackup.example.net", "ta", server("mxbackup.example.net")),
)
ROWS = {row.file: row for row in CERTIFICATES}


def pem(der: bytes) -> str:
    """The PEM text."""
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def main() -> None:
    """Writes every certificate and the index, and removes certificates that have left the table."""
    if len(ROWS) != len(CERTIFICATES):
        raise ValueError("two rows have one file name")
    OUTPUT.mkdir(exist_ok=True)
    index = {}
    for row in CERTIFICATES:
        der = row.der()
        (OUTPUT / f"{row.file}.pem").write_text(pem(der), encoding="ascii", newline="\n")
        index[row.file] = {"note": row.note} | {
            f"{selector} {digest}": hashlib.new(name, content).hexdigest()
            for selector, content in enumerate((der, row.pair.spki))
            for digest, name in ((1, "sha256"), (2, "sha512"))
        }
    for stale in {path.stem for path in OUTPUT.glob("*.pem")} - ROWS.keys():
        (OUTPUT / f"{stale}.pem").unlink()
    text = json.dumps({"title": "Digests by selector and matching type", "certificates": index}, indent=1)
    (OUTPUT / "index.json").write_text(text + "\n", encoding="ascii", newline="\n")
    print(f"{len(index)} certificates")


if __name__ == "__main__":
    main()
