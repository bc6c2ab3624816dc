"""The key pool of the generator: the same keys on every machine, made from nothing but their names.

Private values are hashes of the key's name; the RSA primes are the hash plus a committed offset, so that no prime has
to be searched for. The keys protect nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attrs import field, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.differential.der import NULL, bit_string, explicit, integer, oid, sequence

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    PrivateKey: TypeAlias = (
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | "SmallRsaPrivateKey"
    )

# (bits, index): the distances of two primes from the hashes of their names
_RSA_OFFSETS = {
    (512, 0): (102, 226),
    (512, 1): (6, 16),
    (768, 0): (88, 1672),
    (1024, 0): (288, 36),
    (1024, 1): (50, 110),
    (1024, 2): (28, 106),
    (1024, 3): (16, 812),
    (2048, 0): (2556, 914),
    (2048, 1): (908, 1208),
    (2048, 2): (744, 356),
}

_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_RSA_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_DIGEST_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
    "md5": "1.2.840.113549.2.5",
}
_RSA_SIGNATURES = {
    "md5": "1.2.840.113549.1.1.4",
    "sha1": "1.2.840.113549.1.1.5",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_ECDSA_SIGNATURES = {
    "sha1": "1.2.840.10045.4.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_HASHES = {
    "md5": hashes.MD5(),
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@frozen
class SmallRsaPrivateKey:
    """RSA with a modulus too small for `cryptography`: PKCS #1 v1.5 by hand (RFC 8017 section 8.2)."""

    modulus: int
    exponent: int

    def sign(self, message: bytes, digest: str) -> bytes:
        """The signature of a message."""
        info = sequence(
            sequence(oid(_DIGEST_OIDS[digest]), NULL),
            b"\x04" + bytes((hashlib.new(digest).digest_size,)) + hashlib.new(digest, message).digest(),
        )
        octets = (self.modulus.bit_length() + 7) // 8
        block = b"\x00\x01" + b"\xff" * (octets - len(info) - 3) + b"\x00" + info
        return pow(int.from_bytes(block, "big"), self.exponent, self.modulus).to_bytes(octets, "big")


@frozen(eq=False)
class Key:
    """A key pair: its name, its SubjectPublicKeyInfo as DER, and how it signs."""

    name: str
    spki: bytes
    private: PrivateKey
    identifier: bytes = field()

    @identifier.default
    def _(self) -> bytes:
        return hashlib.sha256(self.spki).digest()[:20]

    @property
    def kind(self) -> str:
        """ "rsa512", "p256" and so on."""
        return self.name.partition("/")[0]

    def signature(self, message: bytes, digest: str = "sha256") -> tuple[bytes, bytes]:
        """The AlgorithmIdentifier and the signature; `digest` may be "pss", and matters only where it can."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return sequence(oid("1.3.101.112")), self.private.sign(message)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            digest = digest if digest in _ECDSA_SIGNATURES else "sha256"
            algorithm = ec.ECDSA(_HASHES[digest], deterministic_signing=True)
            return sequence(oid(_ECDSA_SIGNATURES[digest])), self.private.sign(message, algorithm)
        if isinstance(self.private, SmallRsaPrivateKey):
            digest = digest if digest in {"md5", "sha1"} else "sha256"
            return sequence(oid(_RSA_SIGNATURES[digest]), NULL), self.private.sign(message, digest)
        if digest == "pss":
            return _PSS_PARAMETERS, self.private.sign(
                message, padding.PSS(padding.MGF1(hashes.SHA256()), 0), hashes.SHA256()
            )
        return sequence(oid(_RSA_SIGNATURES[digest]), NULL), self.private.sign(
            message, padding.PKCS1v15(), _HASHES[digest]
        )

    def algorithm(self, digest: str = "sha256") -> bytes:
        """The AlgorithmIdentifier alone."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return sequence(oid("1.3.101.112"))
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return sequence(oid(_ECDSA_SIGNATURES.get(digest, _ECDSA_SIGNATURES["sha256"])))
        if isinstance(self.private, SmallRsaPrivateKey):
            return sequence(oid(_RSA_SIGNATURES[digest if digest in {"md5", "sha1"} else "sha256"]), NULL)
        return _PSS_PARAMETERS if digest == "pss" else sequence(oid(_RSA_SIGNATURES[digest]), NULL)


# RSASSA-PSS with SHA-256 and an empty salt, which makes the signature deterministic (RFC 4055 section 3.1)
_SHA256 = sequence(oid(_DIGEST_OIDS["sha256"]), NULL)
_PSS_PARAMETERS = sequence(
    oid(_RSA_PSS),
    sequence(explicit(0, _SHA256), explicit(1, sequence(oid(_MGF1), _SHA256)), explicit(2, integer(0))),
)


def _hash(text: str, octets: int) -> bytes:
    return hashlib.shake_256(text.encode()).digest(octets)


def _rsa(bits: int, index: int) -> Key:
    primes = [
        (int.from_bytes(_hash(f"rsa {bits} {index} {which}", bits // 16), "big") | 3 << (bits // 2 - 2) | 1) + offset
        for which, offset in zip("pq", _RSA_OFFSETS[bits, index], strict=True)
    ]
    p, q = primes
    public, private = 65537, pow(65537, -1, (p - 1) * (q - 1))
    spki = sequence(sequence(oid(_RSA_ENCRYPTION), NULL), bit_string(sequence(integer(p * q), integer(public))))
    if bits < 1024:
        return Key(f"rsa{bits}/{index}", spki, SmallRsaPrivateKey(p * q, private))
    numbers = rsa.RSAPrivateNumbers(
        p, q, private, private % (p - 1), private % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(public, p * q)
    )
    return Key(f"rsa{bits}/{index}", spki, numbers.private_key(unsafe_skip_rsa_key_validation=True))


def _made(name: str, private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> Key:
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(name, spki, private)


def _p256(index: int) -> Key:
    value = int.from_bytes(_hash(f"p256 {index}", 31), "big") + 1
    return _made(f"p256/{index}", ec.derive_private_key(value, ec.SECP256R1()))


def _p384(index: int) -> Key:
    value = int.from_bytes(_hash(f"p384 {index}", 47), "big") + 1
    return _made(f"p384/{index}", ec.derive_private_key(value, ec.SECP384R1()))


def _ed25519(index: int) -> Key:
    return _made(f"ed25519/{index}", ed25519.Ed25519PrivateKey.from_private_bytes(_hash(f"ed25519 {index}", 32)))


def key_pool() -> dict[str, list[Key]]:
    """Every key, by kind."""
    makers: dict[str, tuple[Callable[[int], Key], int]] = {
        "p256": (_p256, 12),
        "p384": (_p384, 3),
        "ed25519": (_ed25519, 8),
    }
    pool = {kind: [make(index) for index in range(count)] for kind, (make, count) in makers.items()}
    for bits, index in _RSA_OFFSETS:
        pool.setdefault(f"rsa{bits}", []).append(_rsa(bits, index))
    return pool
