"""What TLSA selectors pick from presented octets, and certificates as path checks see them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

import mailtlspolicy
from mailtlspolicy import dane, pkix
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.x509.certificates import (
    Certificate,
    canonical_name,
    is_certificate,
    is_public_key,
    load_key,
    skeleton,
    subject_public_key_info,
)
from tests.authority import (
    NOW,
    ODD_TIMES,
    ca,
    contents,
    element,
    issue,
    name,
    new_key,
    redated,
    server,
    version_1,
    with_serial,
)

ROOT = ca("Root")
ISSUED = server(None)
EC_PUBLIC_KEY = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")


@pytest.mark.parametrize(
    "key",
    [
        new_key(),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_the_key_is_the_whole_subject_public_key_info(key: ec.EllipticCurvePrivateKey) -> None:
    """RFC 6698 section 2.1.2: with algorithm identifier and parameters, not the bare BIT STRING."""
    expected = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert subject_public_key_info(issue("any", key=key).der) == expected


def test_the_key_is_what_was_presented_not_a_re_encoding() -> None:
    """A compressed point stays compressed, although decoding and encoding the key would uncompress it."""
    point = ISSUED.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = element(0x30, EC_PUBLIC_KEY, element(0x03, b"\0", point))
    tbs = contents(ISSUED.certificate.tbs_certificate_bytes).replace(ISSUED.spki, compressed)
    der = element(0x30, element(0x30, tbs), contents(ISSUED.der)[len(ISSUED.certificate.tbs_certificate_bytes) :])
    assert subject_public_key_info(der) == compressed
    assert load_key(compressed) == load_key(ISSUED.spki)


def test_the_skeleton_is_slices_of_what_was_presented() -> None:
    parts = skeleton(ISSUED.der)
    assert parts.tbs == ISSUED.certificate.tbs_certificate_bytes
    assert parts.algorithm == parts.tbs_algorithm == bytes.fromhex("300a06082a8648ce3d040302")
    assert parts.signature == b"\0" + ISSUED.certificate.signature
    assert subject_public_key_info(version_1(issue("any", key=ISSUED.key)).der) == ISSUED.spki


def test_every_truncation_and_every_trailing_octet_is_malformed() -> None:
    for length in range(len(ISSUED.der)):
        with pytest.raises(ValueError, match="not a DER certificate"):
            subject_public_key_info(ISSUED.der[:length])
    with pytest.raises(ValueError, match="not a DER certificate"):
        subject_public_key_info(ISSUED.der + b"\0")


@pytest.mark.parametrize(
    "length",
    ["80", "8200", "830000", "85000000", "ff"],
    ids=["indefinite", "padded", "more padded", "five octets", "reserved"],
)
def test_lengths_are_der(length: str) -> None:
    """X.690 section 10.1: definite, in the fewest octets."""
    body = contents(ISSUED.der)
    prefix = bytes.fromhex(length)
    with pytest.raises(ValueError, match="not a DER certificate"):
        subject_public_key_info(b"\x30" + prefix + len(body).to_bytes(2, "big") + body)


def test_an_element_does_not_reach_beyond_what_holds_it() -> None:
    inner = element(0x30, b"\x02\x01\x01")
    overlong = inner[:1] + bytes([inner[1] + 60]) + inner[2:]
    with pytest.raises(ValueError, match="not a DER certificate"):
        subject_public_key_info(element(0x30, overlong, b"\0" * 200))


@given(st.binary(max_size=60) | st.builds(lambda octets: element(0x30, element(0x30, octets)), st.binary(max_size=60)))
def test_random_octets_are_no_certificate(octets: bytes) -> None:
    assert not is_certificate(octets)
    assert Certificate.parse(octets) is None
    is_public_key(octets)


@given(st.integers(0, len(ISSUED.der) - 1), st.integers(0, 255))
def test_an_altered_octet_never_raises(at: int, octet: int) -> None:
    altered = ISSUED.der[:at] + bytes([octet]) + ISSUED.der[at + 1 :]
    is_certificate(altered)
    certificate = Certificate.parse(altered)
    if certificate is not None:
        assert certificate.der == altered
        assert certificate.extensions is not None or certificate.extension(x509.SubjectAlternativeName) is None
        assert all(isinstance(each, str) for each in certificate.common_names())


def test_a_public_key_is_one_well_formed_key() -> None:
    assert is_public_key(ISSUED.spki)
    assert not is_public_key(ISSUED.spki + b"\0")
    assert not is_public_key(ISSUED.spki[:-1])
    assert not is_public_key(element(0x30, EC_PUBLIC_KEY, element(0x03, b"\0\4", b"\xff" * 64)))


def test_a_key_of_an_unknown_algorithm_is_well_formed_but_of_no_use() -> None:
    unknown = element(0x30, element(0x30, element(0x06, bytes.fromhex("2a0304"))), element(0x03, b"\0abc"))
    assert is_public_key(unknown)
    assert load_key(unknown) is None


def test_certificates_with_the_same_octets_are_equal() -> None:
    assert Certificate(ISSUED.der) == Certificate(bytes(bytearray(ISSUED.der)))
    assert len({Certificate(ISSUED.der), Certificate(ISSUED.der), Certificate(server(None).der)}) == 2
    assert Certificate(ISSUED.der) != ISSUED.der


def test_a_malformed_extension_leaves_the_certificate_without_extensions() -> None:
    """The names of a certificate whose extensions can not be read are unknown, not absent."""
    twice = ISSUED.der.replace(b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x13")  # a SAN that says basicConstraints
    certificate = Certificate(twice)
    assert certificate.extensions is None
    assert certificate.extension(x509.SubjectAlternativeName) is None


def test_common_names_are_all_of_them_and_nothing_else() -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "mx.example.com"),
            x509.NameAttribute(NameOID.COMMON_NAME, "first"),
            x509.NameAttribute(NameOID.COMMON_NAME, "second"),
        ]
    )
    assert list(Certificate(issue(subject).der).common_names()) == ["first", "second"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (name("Test CA"), name("test  ca "), True),
        (name("Test CA", x509.name._ASN1Type.UTF8String), name("Test CA", x509.name._ASN1Type.PrintableString), True),
        (name("Test CA"), name("TestCA"), False),
        (name("K"), name("\u212a"), False),  # the Kelvin sign is no ASCII K
        (name("Test\u00a0CA"), name("Test CA"), False),  # nor is every blank an ASCII blank
        (x509.Name([]), name("a"), False),
    ],
)
def test_names_compare_without_case_blanks_and_string_type(one: x509.Name, other: x509.Name, equal: bool) -> None:  # noqa: FBT001
    """RFC 5280 section 7.1."""
    assert (canonical_name(one) == canonical_name(other)) is equal


def test_a_relative_name_is_a_set_and_their_order_counts() -> None:
    a, b = x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b")
    set_of = x509.RelativeDistinguishedName
    assert canonical_name(x509.Name([set_of([a, b])])) == canonical_name(x509.Name([set_of([b, a])]))
    assert canonical_name(x509.Name([a, b])) != canonical_name(x509.Name([b, a]))
    assert canonical_name(x509.Name([a, b])) != canonical_name(x509.Name([set_of([a, b])]))


def test_self_issued_is_by_name() -> None:
    root = ca("Root")
    assert Certificate(root.der).self_issued
    assert Certificate(ca("root", root).der).self_issued
    assert not Certificate(server(root).der).self_issued


def test_keys_of_every_supported_algorithm_load() -> None:
    assert isinstance(load_key(ISSUED.spki), ec.EllipticCurvePublicKey)
    key = dsa.generate_private_key(1024).public_key()
    assert isinstance(load_key(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)), dsa.DSAPublicKey)


@pytest.mark.parametrize("time", ODD_TIMES.values(), ids=ODD_TIMES)
def test_a_certificate_with_a_date_that_is_none_is_malformed(time: bytes) -> None:
    root = ca("Root")
    assert Certificate.parse(redated(root, root, time).der) is None
    assert Certificate.parse(redated(root, root, None, time).der) is None


@pytest.mark.parametrize("number", [0, -1, -128, -300, -(2**159), 1, 2**159 - 1, 2**400])
def test_any_serial_number_will_do(number: int) -> None:
    """RFC 5280 section 4.1.2.2: gracefully; `cryptography` warns of zero and less, and will refuse them."""
    root = ca("Root")
    odd = with_serial(root, root, number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True))
    certificate = Certificate(odd.der)
    assert certificate.serial == number
    assert certificate.der == odd.der
    assert certificate.extension(x509.BasicConstraints) is not None
    assert certificate.skeleton.key == odd.spki


@pytest.mark.parametrize("octets", ["", "0000", "0001", "ffff", "ff80"])
def test_a_serial_number_is_der(octets: str) -> None:
    """X.690 section 8.3: one octet or more, and no more than are needed."""
    root = ca("Root")
    assert Certificate.parse(with_serial(root, root, bytes.fromhex(octets)).der) is None


@pytest.mark.parametrize("number", [0, -1, -300, 1, 2**159 - 1])
def test_any_serial_number_will_do_in_an_authority_key_identifier(number: int) -> None:
    """As certificates of private authorities have it whose root has the number 0."""
    octets = number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True)
    root = with_serial(ROOT, ROOT, octets)
    issuer = element(0xA1, element(0xA4, ROOT.certificate.subject.public_bytes()))
    value = element(0x30, issuer, element(0x82, octets))
    identifier = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.35"), value)
    leaf = Certificate(server(ROOT, extensions=[identifier]).der)
    assert leaf.authority == (None, number, Certificate(ROOT.der).subject)
    record = Tlsa(2, 0, 1, hashlib.sha256(root.der).digest())
    assert dane.verify([leaf.der, root.der], [record], ["mx.example.com"], now=NOW).authenticated
    assert pkix.verify([leaf.der], pkix.TrustStore([root.der]), "mx.example.com", now=NOW).authenticated
    other = with_serial(ROOT, ROOT, b"\5")
    record = Tlsa(2, 0, 1, hashlib.sha256(other.der).digest())
    assert not dane.verify([leaf.der, other.der], [record], ["mx.example.com"], now=NOW).authenticated


PROPERTIES = [each for each in dir(x509.Certificate) if not each.startswith("_")]


@pytest.mark.parametrize("late", PROPERTIES)
def test_whatever_decodes_late_decodes_behind_the_fence(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each property of what `cryptography` parsed may raise when it is asked for."""
    load = x509.load_der_x509_certificate

    class Parsed:
        def __init__(self, der: bytes) -> None:
            self._parsed = load(der)

        def __getattr__(self, name: str) -> Any:
            if name == late:
                raise ValueError("malformed after all")
            return getattr(self._parsed, name)

    middle = ca("Intermediate", ROOT)
    chain = [issued.der for issued in (server(middle), middle, ROOT)]
    trust = pkix.TrustStore([ROOT.der])
    monkeypatch.setattr(x509, "load_der_x509_certificate", Parsed)
    names, digest = ["mx.example.com"], hashlib.sha256
    for selector, data in enumerate((ROOT.der, ROOT.spki)):
        dane.verify(chain, [Tlsa(2, selector, 1, digest(data).digest())], names, now=NOW)
    assert dane.verify(chain, [Tlsa(3, 0, 1, digest(chain[0]).digest())], names, now=NOW).authenticated
    pkix.verify(chain, trust, names[0], now=NOW, cn_ids=True)


def test_nobody_else_asks_for_what_decodes_late() -> None:
    """`Certificate.parsed` is for the verifier of `cryptography` alone."""
    package = Path(mailtlspolicy.__file__).parent
    users = {path.name for path in package.rglob("*.py") if re.search(r"\.parsed\b", path.read_text("utf-8"))}
    assert users == {"certificates.py", "pkix.py"}
