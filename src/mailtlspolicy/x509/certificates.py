"""Presented certificates: the octets that TLSA selectors pick, and the parsed form that path checks need.

What is matched with a TLSA record is always a slice of the octets presented, never a re-encoding:

* A certificate is what fills its octets exactly: one DER `Certificate` with nothing behind it (RFC 6698 section
  2.1.1: the usages apply to DER-encoded certificates).
* Selector Cert(0) is all of those octets (RFC 6698 section 2.1.2).
* Selector SPKI(1) is the SubjectPublicKeyInfo inside, algorithm identifier and parameters included (RFC 6698 section
  2.1.2). Decoding a key and encoding it again gives other octets for RSA-PSS keys, explicit curve parameters and
  compressed points.
* Neither needs the certificate to make sense beyond this skeleton, so DANE-EE(3) accepts certificates of any version,
  age and algorithm (RFC 7671 section 5.1).

Path checks need more, and read it from a `Certificate` alone. `cryptography` decodes most of a certificate when it is
asked for, and raises then; so all of it is decoded here, behind one fence: what everybody needs when the certificate is
made, which fails if any of it is malformed, and the key, the extensions and the signature's algorithm when first asked
for, which are None if they are.

>>> subject_public_key_info(b"no certificate")
Traceback (most recent call last):
    ...
ValueError: not a DER certificate
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

E = TypeVar("E", bound=x509.ExtensionType)

CanonicalName: TypeAlias = tuple[frozenset[tuple[str, "bytes | str"]], ...]
"""A distinguished name as a value to compare: its RDNs in order, each a set of (type, canonical value)."""

_BOOLEAN = 0x01
_INTEGER = 0x02
_BIT_STRING = 0x03
_OCTET_STRING = 0x04
_OBJECT_IDENTIFIER = 0x06
_SEQUENCE = 0x30
_VERSION = 0xA0
_EXTENSIONS = 0xA3
_AUTHORITY_SERIAL = 0x82  # authorityCertSerialNumber, [2] IMPLICIT
_AUTHORITY_KEY_IDENTIFIER = bytes.fromhex("551d23")

# Algorithms whose keys are decoded to see if they are malformed (RFC 3279 section 2.3, RFC 4055, RFC 5480, RFC 8410).
_KEY_ALGORITHMS = {
    bytes.fromhex("2a864886f70d010101"),  # rsaEncryption
    bytes.fromhex("2a864886f70d01010a"),  # id-RSASSA-PSS
    bytes.fromhex("2a8648ce380401"),  # id-dsa
    bytes.fromhex("2a8648ce3d0201"),  # id-ecPublicKey
    bytes.fromhex("2b6570"),  # id-Ed25519
    bytes.fromhex("2b6571"),  # id-Ed448
}

# The types whose values are text: DirectoryString (RFC 5280 section 4.1.2.4), and one that e-mail addresses have
_TEXT_TYPES = {
    "UTF8String",
    "PrintableString",
    "T61String",
    "UniversalString",
    "BMPString",
    "IA5String",
}

_NO_NAME_TYPES = {"UTCTime", "GeneralizedTime", "OctetString", "VisibleString"}

# What `cryptography` raises on octets that are malformed or beyond it; some of it varies with its version.
MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,
)

# What peers present is odd at their will: nobody who runs this process can do anything about `cryptography`'s warnings
# of it. The filter is for this module alone, and `warnings.catch_warnings` would be for all threads.
warnings.filterwarnings("ignore", module=r"mailtlspolicy\.certificates\Z")


class Skeleton(NamedTuple):
    """The parts of a DER certificate that are used as octets: slices of what was presented.

    Attributes:
        tbs: the signed part, `tbsCertificate`.
        serial: the contents of the INTEGER `serialNumber`.
        tbs_algorithm: the `signature` field inside the signed part (RFC 5280 section 4.1.2.3).
        key: the SubjectPublicKeyInfo.
        rest: what follows the key in the signed part: the unique identifiers and the extensions.
        algorithm: the `signatureAlgorithm` field beside the signature (RFC 5280 section 4.1.1.2).
        signature: the contents of the BIT STRING `signatureValue`; the first octet counts unused bits.
    """

    tbs: bytes
    serial: bytes
    tbs_algorithm: bytes
    key: bytes
    rest: bytes
    algorithm: bytes
    signature: bytes


def skeleton(certificate: bytes) -> Skeleton:
    """Take a DER certificate apart (RFC 5280 section 4.1).

    Raises:
        ValueError: the octets are not one DER certificate.
    """
    try:
        # Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
        at, end = _element(certificate, 0, len(certificate), _SEQUENCE)
        if end != len(certificate):
            raise ValueError("octets follow the certificate")
        tbs = at
        at, tbs_end = _element(certificate, tbs, end, _SEQUENCE)
        algorithm_end = _element(certificate, tbs_end, end, _SEQUENCE)[1]
        signature, signature_end = _element(certificate, algorithm_end, end, _BIT_STRING)
        if signature_end != end:
            raise ValueError("octets follow the signature")
        # TBSCertificate ::= SEQUENCE { [0] version, serialNumber, signature, issuer, validity, subject, key, ... }
        if certificate[at] == _VERSION:
            at = _element(certificate, at, tbs_end, _VERSION)[1]
        serial, serial_end = _element(certificate, at, tbs_end, _INTEGER)
        at = tbs_algorithm_end = _element(certificate, serial_end, tbs_end, _SEQUENCE)[1]
        for _ in ("issuer", "validity", "subject"):
            at = _element(certificate, at, tbs_end, _SEQUENCE)[1]
        key_end = _element(certificate, at, tbs_end, _SEQUENCE)[1]
    except (ValueError, IndexError):
        raise ValueError("not a DER certificate") from None
    return Skeleton(
        certificate[tbs:tbs_end],
        certificate[serial:serial_end],
        certificate[serial_end:tbs_algorithm_end],
        certificate[at:key_end],
        certificate[key_end:tbs_end],
        certificate[tbs_end:algorithm_end],
        certificate[signature:end],
    )


def subject_public_key_info(certificate: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a DER certificate, as presented (RFC 6698 section 2.1.2, selector 1).

    Raises:
        ValueError: the octets are not one DER certificate.
    """
    return skeleton(certificate).key


def is_certificate(data: bytes) -> bool:
    """Whether the octets are one DER certificate whose key is well-formed (RFC 6698 section 4.1: else malformed)."""
    try:
        return is_public_key(subject_public_key_info(data))
    except ValueError:
        return False


def is_public_key(data: bytes) -> bool:
    """Whether the octets are one DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) and its key is well-formed.

    A key of an algorithm or curve that is not supported here is well-formed as far as anybody can tell.
    """
    try:
        at, end = _element(data, 0, len(data), _SEQUENCE)
        if end != len(data):
            return False
        at, algorithm_end = _element(data, at, end, _SEQUENCE)
        at, identifier_end = _element(data, at, algorithm_end, _OBJECT_IDENTIFIER)
        if _element(data, algorithm_end, end, _BIT_STRING)[1] != end:
            return False
        if data[at:identifier_end] in _KEY_ALGORITHMS:
            load_der_public_key(data)
    except UnsupportedAlgorithm:
        return True
    except (IndexError, *MALFORMED):
        return False
    return True


class Authority(NamedTuple):
    """What a certificate says of its issuer beyond the name: key identifier, serial number, the issuer's own issuer."""

    key: bytes | None
    serial: int | None
    issuer: CanonicalName | None


class SignatureAlgorithm(NamedTuple):
    """How a certificate is signed: the algorithm, its parameters, and the hash function where it has one."""

    oid: x509.ObjectIdentifier
    parameters: padding.PSS | padding.PKCS1v15 | ec.ECDSA | None
    digest: HashAlgorithm | None


class Certificate:
    """A certificate parsed for path validation. Two are equal where their octets are.

    Key, extensions and signature algorithm are decoded when first asked for, so that certificates nobody needs cost
    little.

    Attributes:
        der: the octets presented.
        skeleton: the parts of it that are used as octets.
        parsed: the certificate as `cryptography` sees it, to be handed to its verifier and for nothing else. One whose
            serial number is zero or negative is a copy with another, on which no signature holds: `cryptography` warns
            of such numbers and will refuse them, but they are to be handled gracefully (RFC 5280 section 4.1.2.2).
        subject: the subject, canonical.
        issuer: the issuer, canonical.
        not_before: from when it is valid, in UTC.
        not_after: until when it is valid, in UTC; that second included.
        is_version_1: whether it is of version 1, which has no extensions.
        serial: the serial number.
    """

    def __init__(self, der: bytes) -> None:
        """Parse DER; raises `ValueError` where `parse` returns None."""
        self.der = der
        self.skeleton = skeleton(der)
        try:
            self.parsed = x509.load_der_x509_certificate(_with_positive_serial(der, self.skeleton))
            self._subject, issuer = self.parsed.subject, self.parsed.issuer
            self.subject, self.issuer = canonical_name(self._subject), canonical_name(issuer)
            self.not_before = self.parsed.not_valid_before_utc
            self.not_after = self.parsed.not_valid_after_utc
            self.is_version_1 = self.parsed.version is x509.Version.v1
        except MALFORMED as error:
            raise ValueError(f"not a certificate: {error}") from error
        if not (_is_well_formed(self._subject) and _is_well_formed(issuer)):
            raise ValueError("not a certificate: a name holds what is no name")
        self.serial = int.from_bytes(self.skeleton.serial, "big", signed=True)

    @classmethod
    def parse(cls, der: bytes) -> Certificate | None:
        """The certificate, or None where the octets are malformed."""
        try:
            return cls(der)
        except ValueError:
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    @property
    def self_issued(self) -> bool:
        """Subject and issuer are one name (RFC 5280 section 3.2)."""
        return self.subject == self.issuer

    @cached_property
    def key(self) -> PublicKeyTypes | None:
        """The public key; None where it is malformed or of an algorithm that is not supported."""
        return load_key(self.skeleton.key)

    @cached_property
    def signature_algorithm(self) -> SignatureAlgorithm | None:
        """How it is signed; None where the algorithm or its parameters are malformed or not supported."""
        try:
            return SignatureAlgorithm(
                self.parsed.signature_algorithm_oid,
                self.parsed.signature_algorithm_parameters,
                self.parsed.signature_hash_algorithm,
            )
        except MALFORMED:
            return None

    @cached_property
    def extensions(self) -> x509.Extensions | None:
        """All extensions; None where one is malformed or there twice (RFC 5280 section 4.2)."""
        try:
            copy = _with_positive_authority_serial(self.der, self.skeleton)
            if copy is None:
                return self.parsed.extensions
            parts = skeleton(copy)
            return x509.load_der_x509_certificate(_with_positive_serial(copy, parts)).extensions
        except MALFORMED:
            return None

    @cached_property
    def _values(self) -> dict[type[x509.ExtensionType], x509.ExtensionType]:
        return {type(extension.value): extension.value for extension in self.extensions or ()}

    def extension(self, kind: type[E]) -> E | None:
        """The value of one extension; None where it is absent or the extensions are malformed."""
        return cast("E | None", self._values.get(kind))

    @cached_property
    def authority(self) -> Authority:
        """What the authority key identifier says of the issuer (RFC 5280 section 4.2.1.1)."""
        said = self.extension(x509.AuthorityKeyIdentifier)
        if said is None:
            return Authority(None, None, None)
        names = [name.value for name in said.authority_cert_issuer or () if isinstance(name, x509.DirectoryName)]
        issuer = canonical_name(names[0]) if names else None
        start, end = _authority_serial(self.skeleton.rest)
        serial = int.from_bytes(self.skeleton.rest[start:end], "big", signed=True) if end else None
        return Authority(said.key_identifier, serial, issuer)

    @cached_property
    def policies(self) -> frozenset[x509.ObjectIdentifier]:
        """The certificate policies (RFC 5280 section 4.2.1.4)."""
        return frozenset(policy.policy_identifier for policy in self.extension(x509.CertificatePolicies) or ())

    @cached_property
    def has_subtree_distances(self) -> bool:
        """Whether a subtree of its name constraints has a minimum or maximum (RFC 5280 section 4.2.1.10).

        `cryptography` drops them without a word, so what it decoded is not what was signed then.
        """
        constraints = self.extension(x509.NameConstraints)
        try:
            return constraints is not None and constraints.public_bytes() not in self.skeleton.tbs
        except MALFORMED:
            return True  # as far as anybody can tell

    def common_names(self) -> Iterator[str]:
        """The values of the Common Name attributes of the subject."""
        return (value for value in self._subject_values(NameOID.COMMON_NAME) if isinstance(value, str))

    def mailboxes(self) -> Iterator[str | bytes]:
        """The values of the e-mail address attributes of the subject (RFC 5280 section 4.1.2.6)."""
        return self._subject_values(NameOID.EMAIL_ADDRESS)

    def _subject_values(self, kind: x509.ObjectIdentifier) -> Iterator[str | bytes]:
        return (attribute.value for attribute in self._subject.get_attributes_for_oid(kind))


def load_key(public_key: bytes) -> PublicKeyTypes | None:
    """Decode a SubjectPublicKeyInfo; None where it is malformed or of an algorithm that is not supported."""
    try:
        return load_der_public_key(public_key)
    except MALFORMED:
        return None


def canonical_name(name: x509.Name) -> CanonicalName:
    """Bring a distinguished name into a form in which equal names are equal values (RFC 5280 section 7.1).

    Text is compared without regard to ASCII case, the amount of blanks and the ASN.1 string type, as OpenSSL does;
    values of other types are compared as they are.
    """
    return tuple(frozenset(map(_canonical_attribute, rdn)) for rdn in name.rdns)


def _with_positive_serial(der: bytes, parts: Skeleton) -> bytes:
    """The certificate itself, or where its serial number is zero or negative, a copy with a positive one as long."""
    if _is_positive(parts.serial):
        return der
    tbs = _element(der, 0, len(der), _SEQUENCE)[0]
    at = _element(der, tbs, len(der), _SEQUENCE)[0]
    if der[at] == _VERSION:
        at = _element(der, at, len(der), _VERSION)[1]
    at = _element(der, at, len(der), _INTEGER)[0]
    return der[:at] + b"\1" + der[at + 1 :]


def _with_positive_authority_serial(der: bytes, parts: Skeleton) -> bytes | None:
    """The same for the serial number in the authority key identifier; None where that one is positive or not there."""
    start, end = _authority_serial(parts.rest)
    if _is_positive(parts.rest[start:end]):
        return None
    at = _element(der, 0, len(der), _SEQUENCE)[0] + len(parts.tbs) - len(parts.rest) + start
    return der[:at] + b"\1" + der[at + 1 :]


def _authority_serial(rest: bytes) -> tuple[int, int]:
    """Where the contents of authorityCertSerialNumber are, behind the key (RFC 5280 section 4.2.1.1); 0, 0 for none."""
    try:
        at, end = 0, len(rest)
        while rest[at] != _EXTENSIONS:  # unique identifiers
            at = _element(rest, at, end, rest[at])[1]
        at, end = _element(rest, at, end, _EXTENSIONS)
        at, end = _element(rest, at, end, _SEQUENCE)
        while at < end:
            # Extension ::= SEQUENCE { extnID, critical DEFAULT FALSE, extnValue OCTET STRING }
            extension, at = _element(rest, at, end, _SEQUENCE)
            start, value = _element(rest, extension, at, _OBJECT_IDENTIFIER)
            if rest[start:value] != _AUTHORITY_KEY_IDENTIFIER:
                continue
            if rest[value] == _BOOLEAN:
                value = _element(rest, value, at, _BOOLEAN)[1]
            value = _element(rest, value, at, _OCTET_STRING)[0]
            value, value_end = _element(rest, value, at, _SEQUENCE)
            while value < value_end:
                tag = rest[value]
                start, value = _element(rest, value, value_end, tag)
                if tag == _AUTHORITY_SERIAL:
                    return start, value
    except (ValueError, IndexError):
        pass  # `cryptography` says what is malformed
    return 0, 0


def _is_positive(serial: bytes) -> bool:
    """Whether the contents of an INTEGER are neither zero nor negative, or are no DER (X.690 section 8.3.2)."""
    return serial != b"\0" and (serial[:1] < b"\x80" or (serial[:1] == b"\xff" and serial[1:2] >= b"\x80"))


def _is_well_formed(name: x509.Name) -> bool:
    """Whether no value is of a type that no attribute has (RFC 5280 appendix A.1)."""
    return not any(attribute._type.name in _NO_NAME_TYPES for attribute in name)


def _canonical_attribute(attribute: x509.NameAttribute[Any]) -> tuple[str, bytes | str]:
    value = attribute.value
    if isinstance(value, bytes):
        return attribute.oid.dotted_string, value.hex()
    kind = attribute._type.name
    if kind not in _TEXT_TYPES:
        return attribute.oid.dotted_string, f"{kind} {value}"
    return attribute.oid.dotted_string, b" ".join(value.encode().lower().split())


def _element(data: bytes, at: int, limit: int, tag: int) -> tuple[int, int]:
    """Where the contents of the DER element at `at` begin and end; it has the tag and ends within `limit`.

    Raises `ValueError` or, at the very end of the data, `IndexError`.
    """
    if data[at] != tag:
        raise ValueError("another tag")
    length = data[at + 1]
    start = at + 2
    if length >= 0x80:  # X.690 section 10.1: definite form, in the fewest octets
        octets = length & 0x7F
        start += octets
        length = int.from_bytes(data[at + 2 : start], "big")
        if not 1 <= octets <= 4 or length < 0x80 or length >> (8 * octets - 8) == 0:
            raise ValueError("not a DER length")
    end = start + length
    if end > limit:
        raise ValueError("longer than what it is part of")
    return start, end
