"""Certification path validation: RFC 5280 section 6.1."""

from __future__ import annotations

import random
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy.config import Config
from mailtlspolicy.verdict import Failure
from mailtlspolicy.x509.certificates import Certificate
from mailtlspolicy.x509.paths import PRECEDENCE, NoPath, Path, find_path, foremost
from tests.authority import (
    ANY_PURPOSE,
    CLIENT,
    END,
    NOW,
    SERVER,
    START,
    Issued,
    ca,
    element,
    issue,
    name,
    new_key,
    server,
    sha1_signed,
    usage,
    version_1,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

RSA = rsa.generate_private_key(65537, 2048)
ROOT = ca("Root")
INTERMEDIATE = ca("Intermediate", ROOT)
LEAF = server(INTERMEDIATE)


def find(
    leaf: Issued,
    pool: Iterable[Issued] = (),
    *,
    anchor: Issued | None = None,
    key: bytes | None = None,
    now: datetime = NOW,
    config: Config | None = None,
) -> Path | NoPath:
    return find_path(
        Certificate(leaf.der),
        [Certificate(each.der) for each in pool],
        [Certificate(anchor.der)] if anchor else [],
        [key] if key else [],
        now=now,
        config=config or Config(),
    )


def depth(found: Path | NoPath) -> int:
    assert isinstance(found, Path), found
    return len(found.certificates) - 1


def failure(found: Path | NoPath) -> Failure:
    assert isinstance(found, NoPath), found
    return found.failure


# Construction (RFC 5280 section 6.1; RFC 6698 section 2.1.1; RFC 7671 section 5.2)


def test_a_path_leads_from_the_leaf_through_the_pool_to_the_anchor() -> None:
    found = find(LEAF, [INTERMEDIATE, ROOT], anchor=ROOT)
    assert found == Path((Certificate(LEAF.der), Certificate(INTERMEDIATE.der), Certificate(ROOT.der)))


def test_a_path_ends_at_an_anchor_in_the_middle_whatever_is_above() -> None:
    old_root = ca("Old root", None, end=START + timedelta(1))
    middle = ca("Middle", old_root)
    assert depth(find(server(middle), [middle, old_root], anchor=middle)) == 1


def test_an_anchor_need_not_be_in_the_pool() -> None:
    assert depth(find(LEAF, [INTERMEDIATE], anchor=ROOT)) == 2


def test_order_duplicates_and_strangers_do_not_matter() -> None:
    pool = [ca("Stranger"), ROOT, server(None), INTERMEDIATE, INTERMEDIATE, LEAF]
    for _ in range(5):
        random.shuffle(pool)
        assert depth(find(LEAF, pool, anchor=ROOT)) == 2


def test_a_missing_intermediate_breaks_the_path() -> None:
    assert find(LEAF, [ROOT], anchor=ROOT) == NoPath(Failure.UNTRUSTED_ISSUER, linked=False)


def test_the_leaf_is_never_its_own_anchor() -> None:
    alone = server(None)
    assert find(alone, [alone], anchor=alone) == NoPath(Failure.UNTRUSTED_ISSUER, linked=False)


def test_one_valid_path_among_cross_signed_variants_is_enough() -> None:
    """RFC 6698 appendix B.2: every path that ends in an anchor is tried."""
    other_root = ca("Other root")
    cross = ca("Intermediate", other_root, key=INTERMEDIATE.key)
    expired = ca("Intermediate", ROOT, key=INTERMEDIATE.key, end=START + timedelta(1))
    not_ca = issue("Intermediate", ROOT, (x509.BasicConstraints(ca=False, path_length=None), True), key=new_key())
    pool = [cross, expired, not_ca, INTERMEDIATE, other_root, ROOT]
    assert depth(find(LEAF, pool, anchor=ROOT)) == 2
    assert depth(find(LEAF, pool, anchor=other_root)) == 2


def test_a_loop_of_cross_signed_certificates_ends() -> None:
    """RFC 5280 section 6.1: no certificate stands twice in a path."""
    a, b = new_key(), new_key()
    a_by_b = ca("A", Issued(b, ca("B", key=b).certificate, b""), key=a)
    b_by_a = ca("B", Issued(a, ca("A", key=a).certificate, b""), key=b)
    leaf = server(a_by_b)
    assert find(leaf, [a_by_b, b_by_a], anchor=ROOT) == NoPath(Failure.UNTRUSTED_ISSUER, linked=False)


def test_names_link_whatever_their_string_type_case_and_blanks() -> None:
    """RFC 5280 section 7.1."""
    root = ca(name("Test  Root", x509.name._ASN1Type.PrintableString))
    leaf = server(root, issuer=name("test root"))
    assert depth(find(leaf, [root], anchor=root)) == 1


def test_the_key_alone_does_not_link() -> None:
    """RFC 5280 section 6.1.3 a.4: the issuer's name is the subject of its issuer."""
    renamed = ca("Renamed", key=ROOT.key)
    assert failure(find(server(ROOT), [renamed], anchor=renamed)) is Failure.UNTRUSTED_ISSUER


@pytest.mark.parametrize("field", ["key", "serial", "issuer", "none"])
def test_an_authority_key_identifier_that_contradicts_rules_an_issuer_out(field: str) -> None:
    """RFC 5280 section 4.2.1.1."""
    root = ca("Keyed", None, x509.SubjectKeyIdentifier(b"right"), serial=7)
    right = [x509.DirectoryName(name("keyed"))]
    identifiers = {
        "key": x509.AuthorityKeyIdentifier(b"wrong", None, None),
        "serial": x509.AuthorityKeyIdentifier(None, right, 8),
        "issuer": x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name("else"))], 7),
        "none": x509.AuthorityKeyIdentifier(b"right", right, 7),
    }
    found = find(server(root, extensions=[identifiers[field]]), [root], anchor=root)
    if field == "none":
        assert depth(found) == 1
    else:
        assert failure(found) is Failure.UNTRUSTED_ISSUER


def test_a_bare_key_is_an_anchor_above_what_it_signed() -> None:
    """RFC 7671 section 5.2.3."""
    found = find(LEAF, [INTERMEDIATE], key=ROOT.spki)
    assert found == Path((Certificate(LEAF.der), Certificate(INTERMEDIATE.der)), ROOT.spki)
    assert find(server(ROOT), key=ROOT.spki) != find(server(ROOT), key=INTERMEDIATE.spki)
    assert find(LEAF, key=ROOT.spki) == NoPath(Failure.UNTRUSTED_ISSUER, linked=False)


def test_a_bare_key_is_asked_only_about_a_topmost_certificate() -> None:
    """RFC 7671 section 5.2.3: one that nobody in the pool has signed."""
    twin = ca("Intermediate", key=INTERMEDIATE.key, end=START + timedelta(1))
    assert failure(find(LEAF, [twin], key=INTERMEDIATE.spki)) is Failure.EXPIRED
    namesake = ca("Intermediate", end=START + timedelta(1))
    assert depth(find(LEAF, [namesake, ROOT], key=INTERMEDIATE.spki)) == 0


def test_what_a_bare_key_signed_still_has_to_be_valid() -> None:
    expired = ca("Intermediate", ROOT, key=INTERMEDIATE.key, end=START + timedelta(1))
    assert find(LEAF, [expired], key=ROOT.spki) == NoPath(Failure.EXPIRED, linked=True)


# Signatures and algorithms (section 6.1.3 a.1)


def test_a_wrong_signature_is_told_from_a_missing_issuer() -> None:
    rekeyed = ca("Root")
    assert find(server(ROOT), [rekeyed], anchor=rekeyed) == NoPath(Failure.BAD_SIGNATURE, linked=True)


def _pss_root() -> Issued:
    return ca("PSS root", key=RSA)


def _pss_leaf(root: Issued, digest: Any = None) -> Issued:
    leaf = server(root)
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.certificate.subject)
        .issuer_name(leaf.certificate.issuer)
        .public_key(leaf.key.public_key())
        .serial_number(leaf.certificate.serial_number)
        .not_valid_before(START)
        .not_valid_after(END)
    )
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    certificate = builder.sign(root.key, digest or hashes.SHA256(), rsa_padding=pss)
    return Issued(leaf.key, certificate, certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    "key",
    [
        RSA,
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        ed448.Ed448PrivateKey.generate(),
    ],
    ids=lambda key: type(key).__name__,
)
def test_signatures_of_every_supported_algorithm_hold(key: Any) -> None:
    root = ca("Root", key=key)
    assert depth(find(server(root), [root], anchor=root)) == 1


def test_dsa_and_rsa_pss_signatures_hold() -> None:
    key = dsa.generate_private_key(2048)
    holder = Issued(key, ca("DSA").certificate, b"")
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name("server"))
        .issuer_name(name("DSA"))
        .public_key(new_key().public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(END)
        .sign(holder.key, hashes.SHA256())
    )
    issued = Issued(None, leaf, leaf.public_bytes(Encoding.DER))
    assert depth(find(issued, key=holder.spki)) == 0
    assert failure(find(issued, key=holder.spki, config=Config(min_rsa_bits=2049))) is Failure.WEAK_ALGORITHM
    root = _pss_root()
    assert depth(find(_pss_leaf(root), [root], anchor=root)) == 1


@pytest.mark.parametrize("scheme", ["ecdsa", "rsa", "rsa-pss", "ed25519"])
def test_no_octet_of_a_signed_certificate_can_be_altered(scheme: str) -> None:
    """Not in the signed part, not in the signature, and not in the algorithm and its parameters."""
    keys = {"ecdsa": new_key(), "ed25519": ed25519.Ed25519PrivateKey.generate()}
    root = ca("PSS root", key=keys.get(scheme, RSA))
    leaf = _pss_leaf(root) if scheme == "rsa-pss" else server(root)
    anchor = [Certificate(root.der)]
    config = Config()
    assert isinstance(find_path(Certificate(leaf.der), anchor, anchor, now=NOW, config=config), Path)
    for at, octet in enumerate(leaf.der):
        for other in {octet ^ 1, octet ^ 0x80, (octet + 1) % 256, 0, 0xFF} - {octet}:
            altered = Certificate.parse(leaf.der[:at] + bytes([other]) + leaf.der[at + 1 :])
            if altered is not None:
                assert isinstance(find_path(altered, anchor, anchor, now=NOW, config=config), NoPath), (at, other)


def test_a_signature_with_parameters_that_are_not_supported_does_not_hold() -> None:
    """Nobody can check it: mask generation by something else than MGF1, say."""
    root = _pss_root()
    mgf1, other = bytes.fromhex("06092a864886f70d010108"), bytes.fromhex("06092a864886f70d01017f")
    leaf = _pss_leaf(root)
    assert leaf.der.count(mgf1) == 2
    forged = Issued(leaf.key, leaf.certificate, leaf.der.replace(mgf1, other))
    assert failure(find(forged, [root], anchor=root)) is Failure.WEAK_ALGORITHM


def test_both_signature_algorithms_are_the_same() -> None:
    """RFC 5280 section 4.1.1.2: the one inside the signed part and the one beside the signature."""
    root = ca("Root", key=RSA)
    leaf = server(root)
    sha256, sha384 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d01010c")
    tbs = leaf.certificate.tbs_certificate_bytes.replace(sha256, sha384)
    signature = RSA.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    der = element(0x30, tbs, element(0x30, element(0x06, sha256), b"\5\0"), element(0x03, b"\0", signature))
    assert failure(find(Issued(leaf.key, leaf.certificate, der), [root], anchor=root)) is Failure.BAD_SIGNATURE


def test_sha1_is_too_weak_but_for_the_signature_on_the_anchor() -> None:
    root = ca("Root", key=RSA)
    weak_root = sha1_signed(root, root)
    middle = ca("Middle", root, key=RSA)
    weak_middle = sha1_signed(middle, root)
    weak_leaf = sha1_signed(server(root), root)
    assert depth(find(server(weak_root), [weak_root], anchor=weak_root)) == 1
    assert depth(find(server(weak_middle), [weak_middle], anchor=weak_middle)) == 1
    assert failure(find(weak_leaf, [root], anchor=root)) is Failure.WEAK_ALGORITHM
    assert failure(find(server(weak_middle), [weak_middle, root], anchor=root)) is Failure.WEAK_ALGORITHM
    assert failure(find(weak_leaf, key=root.spki)) is Failure.WEAK_ALGORITHM


@pytest.mark.parametrize("place", ["leaf", "intermediate", "anchor"])
def test_rsa_keys_have_the_configured_size(place: str) -> None:
    keys = dict.fromkeys(("leaf", "intermediate", "anchor"), RSA) | {place: rsa.generate_private_key(65537, 1024)}
    root = ca("Root", key=keys["anchor"])
    middle = ca("Middle", root, key=keys["intermediate"])
    leaf = server(middle, key=keys["leaf"])
    assert depth(find(leaf, [middle, root], anchor=root)) == 2
    strict = Config(min_rsa_bits=1025)
    assert failure(find(leaf, [middle, root], anchor=root, config=strict)) is Failure.WEAK_ALGORITHM
    if place == "anchor":
        assert failure(find(leaf, [middle], key=root.spki, config=strict)) is Failure.WEAK_ALGORITHM


# Dates (section 6.1.3 a.2)


@pytest.mark.parametrize("place", ["leaf", "intermediate", "anchor"])
@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({"end": NOW - timedelta(seconds=1)}, Failure.EXPIRED),
        ({"start": NOW + timedelta(seconds=1)}, Failure.NOT_YET_VALID),
        ({"start": NOW, "end": NOW}, None),  # section 4.1.2.5: both ends belong to the period
    ],
)
def test_every_certificate_is_within_its_dates(place: str, dates: dict[str, Any], expected: Failure | None) -> None:
    root = ca("Root", **(dates if place == "anchor" else {}))
    middle = ca("Middle", root, **(dates if place == "intermediate" else {}))
    leaf = server(middle, **(dates if place == "leaf" else {}))
    found = find(leaf, [middle], anchor=root, now=NOW + timedelta(microseconds=500_000))
    assert (found.failure if isinstance(found, NoPath) else None) is expected


# Certification authorities (section 6.1.4 k to n)


@pytest.mark.parametrize(
    ("extensions", "as_intermediate", "as_anchor"),
    [
        ([x509.BasicConstraints(ca=True, path_length=None)], True, True),
        ([x509.BasicConstraints(ca=True, path_length=None), usage("key_cert_sign")], True, True),
        ([x509.BasicConstraints(ca=True, path_length=None), usage("digital_signature")], False, False),
        ([x509.BasicConstraints(ca=False, path_length=None)], False, False),
        ([x509.BasicConstraints(ca=False, path_length=None), usage("key_cert_sign")], False, False),
        ([usage("key_cert_sign")], False, True),
        ([usage("digital_signature")], False, False),
        ([], False, False),
    ],
)
def test_an_issuer_is_a_ca(extensions: list[x509.ExtensionType], as_intermediate: bool, as_anchor: bool) -> None:  # noqa: FBT001
    middle = issue("Middle", ROOT, *extensions)
    leaf = server(middle)
    for anchor, allowed in ((ROOT, as_intermediate), (middle, as_anchor)):
        found = find(leaf, [middle, ROOT], anchor=anchor)
        assert isinstance(found, Path) is allowed
        assert allowed or failure(found) is Failure.NOT_A_CA


def test_what_a_bare_key_signed_is_no_anchor() -> None:
    """It is the first certificate of the path, so the rules for intermediates hold (section 6.1.4 k)."""
    middle = issue("Middle", ROOT, usage("key_cert_sign"))
    assert failure(find(server(middle), [middle], key=ROOT.spki)) is Failure.NOT_A_CA


def test_only_a_self_issued_version_1_anchor_is_a_ca() -> None:
    root = version_1(issue("Old root"))
    middle = version_1(issue("Old middle", ROOT), ROOT)
    assert depth(find(server(root), [root], anchor=root)) == 1
    assert failure(find(server(middle), [middle, ROOT], anchor=ROOT)) is Failure.NOT_A_CA
    assert failure(find(server(middle), [middle], anchor=middle)) is Failure.NOT_A_CA


def test_a_version_1_leaf_may_stand_in_a_path() -> None:
    assert depth(find(version_1(issue("server", ROOT), ROOT), [ROOT], anchor=ROOT)) == 1


@pytest.mark.parametrize(("length", "allowed"), [(0, False), (1, True), (None, True)])
@pytest.mark.parametrize("place", ["intermediate", "anchor"])
def test_a_path_is_not_longer_than_its_cas_allow(length: int | None, allowed: bool, place: str) -> None:  # noqa: FBT001
    """Sections 6.1.4 l and m; RFC 7671 section 5.2.1 for the anchor's."""
    root = ca("Root", length=None if place == "intermediate" else length)
    upper = ca("Upper", root, length=length) if place == "intermediate" else root
    lower = ca("Lower", upper)
    found = find(server(lower), [lower, upper, root], anchor=root)
    assert isinstance(found, Path) is allowed
    assert allowed or failure(found) is Failure.PATH_LENGTH


def test_self_issued_intermediates_do_not_count() -> None:
    """Section 6.1.4 l: a root that certifies its own new key, say."""
    root = ca("Root", length=0)
    rollover = ca("root", root)
    assert depth(find(server(rollover), [rollover, root], anchor=root)) == 2


# Purposes and critical extensions (section 6.1.4 o, 6.1.5 f; section 4.2.1.12)


@pytest.mark.parametrize(
    ("purposes", "allowed"),
    [
        (None, True),
        ([SERVER], True),
        ([CLIENT, SERVER], True),
        ([CLIENT], False),
        ([ANY_PURPOSE], False),
        ([ANY_PURPOSE, SERVER], True),
    ],
)
@pytest.mark.parametrize("place", ["leaf", "intermediate", "anchor"])
def test_purposes_list_server_authentication(purposes: list[Any] | None, allowed: bool, place: str) -> None:  # noqa: FBT001
    extensions = [x509.ExtendedKeyUsage(purposes)] if purposes else []
    root = ca("Root", None, *(extensions if place == "anchor" else []))
    middle = ca("Middle", root, *(extensions if place == "intermediate" else []))
    leaf = server(middle, extensions=extensions if place == "leaf" else [])
    found = find(leaf, [middle, root], anchor=root)
    assert isinstance(found, Path) is allowed
    assert allowed or failure(found) is Failure.BAD_PURPOSE


@pytest.mark.parametrize("bit", ["digital_signature", "key_encipherment", "key_agreement", "key_cert_sign"])
def test_the_leaf_has_a_key_usage_for_tls(bit: str) -> None:
    found = find(server(ROOT, extensions=[usage(bit)]), [ROOT], anchor=ROOT)
    assert (found.failure if isinstance(found, NoPath) else None) is (
        Failure.BAD_PURPOSE if bit == "key_cert_sign" else None
    )


def test_key_identifiers_are_processed_and_so_may_be_critical() -> None:
    """RFC 5280 sections 4.2.1.1 and 4.2.1.2 want them not critical of the issuer, not of the client."""
    root = ca("Root")
    identifiers = (
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), True),
        (x509.SubjectKeyIdentifier(b"server"), True),
    )
    assert depth(find(server(root, extensions=identifiers), [root], anchor=root)) == 1


@pytest.mark.parametrize("place", ["leaf", "intermediate", "anchor"])
def test_an_unknown_critical_extension_is_refused_an_unknown_one_is_not(place: str) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")
    for critical in (False, True):
        extensions = [(unknown, critical)]
        root = ca("Root", None, *(extensions if place == "anchor" else []))
        middle = ca("Middle", root, *(extensions if place == "intermediate" else []))
        leaf = server(middle, extensions=extensions if place == "leaf" else [])
        found = find(leaf, [middle, root], anchor=root)
        assert (found.failure if isinstance(found, NoPath) else None) is (
            Failure.UNHANDLED_CRITICAL_EXTENSION if critical else None
        )


def policies(*dotted: str) -> tuple[x509.ExtensionType, bool]:
    """A critical certificatePolicies extension."""
    return x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier(each), None) for each in dotted]
    ), True


REQUIRED, REQUIRED_LATER = ((x509.PolicyConstraints(skip, None), True) for skip in (0, 1))
ANY, ONE, TWO = "2.5.29.32.0", "1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"
NO_ANY = (x509.InhibitAnyPolicy(0), True)
MAPPINGS = (
    x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.5.29.33"),
        element(0x30, element(0x30, *[element(0x06, bytes.fromhex("2b06010401868d1f01"))] * 2)),
    ),
    True,
)


@pytest.mark.parametrize(
    ("upper", "lower", "leaf", "valid"),
    [
        ([policies(ONE)], [policies(TWO)], [], True),  # nobody requires one
        ([NO_ANY, MAPPINGS], [], [], True),
        ([REQUIRED], [], [], False),
        ([REQUIRED, policies(ONE)], [policies(ONE)], [policies(ONE)], True),
        ([REQUIRED, policies(ANY)], [policies(ANY)], [policies(ANY)], True),
        ([REQUIRED, policies(ANY)], [policies(ONE, TWO)], [policies(ONE)], True),
        ([REQUIRED, policies(ONE)], [policies(ANY)], [policies(ONE)], True),
        ([REQUIRED, policies(ONE)], [policies(ONE)], [], False),
        ([REQUIRED, policies(ONE)], [], [policies(ONE)], False),
        ([REQUIRED, policies(ONE)], [policies(TWO)], [policies(ANY)], False),
        ([REQUIRED, policies(ONE)], [policies(ONE)], [policies(TWO)], False),
        ([REQUIRED, policies(ONE), NO_ANY], [policies(ANY)], [policies(ONE)], False),
        ([REQUIRED, policies(ONE), MAPPINGS], [policies(ONE)], [policies(ONE)], False),  # mappings are not followed
        ([REQUIRED_LATER], [], [], False),
        ([REQUIRED_LATER, policies(ONE)], [policies(ONE)], [policies(ONE)], True),
        ([(x509.PolicyConstraints(2, None), True)], [], [], False),  # section 6.1.5 a: the leaf counts as one more
        ([(x509.PolicyConstraints(3, None), True)], [], [], True),
        ([], [], [REQUIRED], False),
        ([], [], [REQUIRED_LATER], True),
        ([policies(ONE)], [policies(ONE)], [policies(ONE), REQUIRED], True),
        ([(x509.PolicyConstraints(None, 0), True)], [], [], True),
    ],
)
def test_a_policy_is_there_where_one_is_required(upper: Any, lower: Any, leaf: Any, valid: bool) -> None:  # noqa: FBT001
    """Sections 6.1.3 d to f, 6.1.4 h to j and 6.1.5 a, b and g; any policy is acceptable to the client."""
    first = ca("Upper", ROOT, *upper)
    second = ca("Lower", first, *lower)
    found = find(server(second, extensions=leaf), [first, second], anchor=ROOT)
    assert isinstance(found, Path) is valid
    assert valid or failure(found) is Failure.UNHANDLED_CRITICAL_EXTENSION


def test_an_issuer_whose_extensions_can_not_be_read_is_malformed() -> None:
    middle = ca("Middle", None, usage("key_cert_sign"))
    broken = Issued(middle.key, middle.certificate, middle.der.replace(b"\x55\x1d\x0f", b"\x55\x1d\x13"))
    assert failure(find(server(middle), [broken], anchor=broken)) is Failure.MALFORMED_CERTIFICATE


# Name constraints (section 4.2.1.10; sections 6.1.3 b and c, 6.1.4 g)

DNS, IP, MAIL, URI, DIRECTORY = (
    x509.DNSName,
    x509.IPAddress,
    x509.RFC822Name,
    x509.UniformResourceIdentifier,
    x509.DirectoryName,
)
EXAMPLE_ORG = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
IN_EXAMPLE_ORG = x509.Name([*EXAMPLE_ORG, x509.NameAttribute(NameOID.COMMON_NAME, "server")])


@pytest.mark.parametrize(
    ("base", "presented", "within"),
    [
        (DNS("example.com"), DNS("example.com"), True),
        (DNS("example.com"), DNS("MX.Example.com"), True),
        (DNS("Example.com"), DNS("a.b.example.com"), True),
        (DNS("example.com"), DNS("*.example.com"), True),
        (DNS("example.com"), DNS("notexample.com"), False),
        (DNS("example.com"), DNS("com"), False),
        (DNS("example.com"), DNS("example.org"), False),
        (DNS(".example.com"), DNS("mx.example.com"), True),
        (DNS(".example.com"), DNS("example.com"), False),
        (DNS(""), DNS("example.com"), True),
        (IP(ip_network("192.0.2.0/24")), IP(ip_address("192.0.2.25")), True),
        (IP(ip_network("192.0.2.0/24")), IP(ip_address("192.0.3.25")), False),
        (IP(ip_network("2001:db8::/32")), IP(ip_address("2001:db8::25")), True),
        (IP(ip_network("2001:db8::/32")), IP(ip_address("192.0.2.25")), False),
        (MAIL("example.com"), MAIL("a@example.com"), True),
        (MAIL("example.com"), MAIL("a@EXAMPLE.com"), True),
        (MAIL("example.com"), MAIL("a@mx.example.com"), False),
        (MAIL(".example.com"), MAIL("a@mx.example.com"), True),
        (MAIL(".example.com"), MAIL("a@example.com"), False),
        (MAIL("a@example.com"), MAIL("a@example.com"), True),
        (MAIL("a@example.com"), MAIL("A@example.com"), False),
        (URI("example.com"), URI("https://example.com/path"), True),
        (URI("example.com"), URI("https://example.com:8443"), True),
        (URI("example.com"), URI("https://mx.example.com/"), False),
        (URI(".example.com"), URI("https://mx.example.com/"), True),
        (URI(".example.com"), URI("https://example.com/"), False),
        (DIRECTORY(EXAMPLE_ORG), DIRECTORY(IN_EXAMPLE_ORG), True),
        (DIRECTORY(EXAMPLE_ORG), DIRECTORY(name("server")), False),
    ],
)
def test_names_are_permitted_and_excluded_by_subtree(
    base: x509.GeneralName,
    presented: x509.GeneralName,
    within: bool,  # noqa: FBT001
) -> None:
    subject = IN_EXAMPLE_ORG if within or not isinstance(base, DIRECTORY) else name("server")
    for permitted, allowed in ((True, within), (False, not within)):
        constraints = x509.NameConstraints([base] if permitted else None, None if permitted else [base])
        root = ca("Root", None, (constraints, True))
        if isinstance(base, DIRECTORY):
            leaf = issue(subject, root)
        else:
            leaf = issue(subject, root, x509.SubjectAlternativeName([presented]))
        found = find(leaf, [root], anchor=root)
        assert isinstance(found, Path) is allowed, permitted
        assert allowed or failure(found) is Failure.NAME_CONSTRAINTS


def test_a_type_of_name_without_constraints_is_not_constrained() -> None:
    root = ca("Root", None, (x509.NameConstraints([MAIL("example.org")], [IP(ip_network("::/0"))]), True))
    assert depth(find(server(root), [root], anchor=root)) == 1


@pytest.mark.parametrize(
    "presented",
    [
        URI("urn:example"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    ],
)
def test_a_name_that_can_not_be_compared_with_its_constraint_is_refused(presented: x509.GeneralName) -> None:
    base = URI("example.com") if isinstance(presented, URI) else presented
    root = ca("Root", None, (x509.NameConstraints(None, [base]), True))
    leaf = issue("server", root, x509.SubjectAlternativeName([presented]))
    assert failure(find(leaf, [root], anchor=root)) is Failure.NAME_CONSTRAINTS


@pytest.mark.parametrize("distance", ["800101", "810105"], ids=["minimum", "maximum"])
def test_constraints_with_a_minimum_or_maximum_are_refused(distance: str) -> None:
    """Section 4.2.1.10: for a type of name that appears below."""
    value = element(0x30, element(0xA0, element(0x30, element(0x82, b"example.com"), bytes.fromhex(distance))))
    placeholder = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.30"), value)
    root = ca("Root", None, (placeholder, True))
    assert failure(find(server(root), [root], anchor=root)) is Failure.NAME_CONSTRAINTS
    mailbox = x509.SubjectAlternativeName([MAIL("a@example.org")])
    assert depth(find(issue("Mail Server", root, mailbox), [root], anchor=root)) == 1


def test_permitted_subtrees_intersect_down_the_path() -> None:
    """Section 6.1.4 g 1."""
    root = ca("Root", None, (x509.NameConstraints([DNS("example.com")], None), True))
    narrow = ca("Narrow", root, (x509.NameConstraints([DNS("mail.example.com")], None), True))
    disjoint = ca("Disjoint", root, (x509.NameConstraints([DNS("example.org")], None), True))
    for middle, presented, allowed in (
        (narrow, "mx.mail.example.com", True),
        (narrow, "mx.example.com", False),
        (disjoint, "mx.example.com", False),
        (disjoint, "mx.example.org", False),
    ):
        assert isinstance(find(server(middle, presented), [middle, root], anchor=root), Path) is allowed


def test_the_common_name_of_a_leaf_without_dns_ids_is_constrained() -> None:
    """It is a presented identifier then (RFC 7672 section 3.2.3), a wildcard too."""
    root = ca("Root", None, (x509.NameConstraints([DNS("example.com")], None), True))
    for common_name, allowed in (
        ("mx.example.com", True),
        ("mx.example.org", False),
        ("*.example.org", False),
        ("Mail Server", True),
    ):
        assert isinstance(find(issue(common_name, root), [root], anchor=root), Path) is allowed
    beside_dns_id = issue("mx.example.org", root, x509.SubjectAlternativeName([DNS("mx.example.com")]))
    assert depth(find(beside_dns_id, [root], anchor=root)) == 1


def test_a_mailbox_in_the_subject_is_constrained() -> None:
    root = ca("Root", None, (x509.NameConstraints([MAIL("example.com")], None), True))
    for mailbox, allowed in (("a@example.com", True), ("a@example.org", False), ("nobody", False)):
        subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, mailbox)])
        assert isinstance(find(issue(subject, root), [root], anchor=root), Path) is allowed


def test_intermediates_are_constrained_unless_self_issued() -> None:
    """Section 6.1.3 b and c."""
    subtree = x509.NameConstraints([DIRECTORY(EXAMPLE_ORG)], None)
    root = ca("Root", None, (subtree, True))
    outside, rollover = ca("Outside", root), ca("Root", root)
    assert failure(find(issue(IN_EXAMPLE_ORG, outside), [outside], anchor=root)) is Failure.NAME_CONSTRAINTS
    assert depth(find(issue(IN_EXAMPLE_ORG, rollover), [rollover], anchor=root)) == 2


# Limits


def test_the_search_ends_when_the_signatures_are_spent() -> None:
    assert depth(find(LEAF, [INTERMEDIATE], anchor=ROOT, config=Config(max_signatures=2))) == 2
    assert failure(find(LEAF, [INTERMEDIATE], anchor=ROOT, config=Config(max_signatures=1))) is Failure.TOO_MUCH_WORK


def test_a_maze_of_cross_signed_certificates_is_bounded() -> None:
    """Layers of certificates with one name and key give exponentially many paths."""
    below, pool = ca("Layer 0", key=new_key()), []
    leaf = server(below)
    for layer in range(1, 16):
        above = ca(f"Layer {layer}")
        pool += [ca(f"Layer {layer - 1}", above, key=below.key) for _ in range(4)]
        below = above
    anchor = ca("Layer 15", key=below.key, end=START + timedelta(1))
    assert failure(find(leaf, pool, anchor=anchor)) is Failure.TOO_MUCH_WORK


def test_name_constraint_comparisons_are_bounded() -> None:
    root = ca("Root", None, (x509.NameConstraints(None, [DNS(f"{n}.test") for n in range(10)]), True))
    leaf = server(root, *(f"mx{n}.example.com" for n in range(9)))
    enough = 10 * (9 + 1)  # nine names and the subject
    assert depth(find(leaf, [root], anchor=root, config=Config(max_name_constraint_checks=enough))) == 1
    assert (
        failure(find(leaf, [root], anchor=root, config=Config(max_name_constraint_checks=enough - 1)))
        is Failure.TOO_MUCH_WORK
    )


# Reasons


def test_dates_come_before_names_before_the_rest() -> None:
    assert foremost({Failure.NAME_MISMATCH, Failure.NOT_YET_VALID, Failure.EXPIRED}) is Failure.EXPIRED
    assert foremost({Failure.NAME_MISMATCH, Failure.NOT_YET_VALID, Failure.NOT_A_CA}) is Failure.NOT_YET_VALID
    assert foremost({Failure.NAME_MISMATCH, Failure.NOT_A_CA, Failure.BAD_SIGNATURE}) is Failure.NAME_MISMATCH
    dates = {Failure.EXPIRED, Failure.NOT_YET_VALID}
    for other in set(PRECEDENCE) - dates:
        assert foremost({Failure.NAME_MISMATCH, other}) is Failure.NAME_MISMATCH
        assert all(foremost({date, other}) is date for date in dates)


def test_the_reason_is_that_of_the_path_whose_signatures_hold() -> None:
    """An expired namesake that signed nothing is no reason."""
    namesake = ca("Intermediate", ROOT, end=START + timedelta(1))
    not_ca = issue("Intermediate", ROOT, key=INTERMEDIATE.key)
    assert failure(find(LEAF, [namesake, not_ca], anchor=ROOT)) is Failure.NOT_A_CA


def test_an_expired_leaf_is_told_even_without_a_path() -> None:
    leaf = server(ROOT, end=START + timedelta(1))
    assert find(leaf, [], anchor=INTERMEDIATE) == NoPath(Failure.EXPIRED, linked=False)


@settings(max_examples=30)
@given(st.permutations(range(6)), st.integers(0, 63))
def test_no_order_of_the_pool_changes_the_result(order: list[int], kept: int) -> None:
    chosen = [POOL[index] for index in range(6) if kept >> index & 1]
    shuffled = [POOL[index] for index in order if kept >> index & 1]
    assert find(LEAF, chosen, anchor=ROOT) == find(LEAF, shuffled, anchor=ROOT)


OTHER_ROOT = ca("Other root", ROOT)
POOL = [
    INTERMEDIATE,
    ca("Intermediate", ROOT, key=INTERMEDIATE.key, length=0),
    ca("Intermediate", OTHER_ROOT, key=INTERMEDIATE.key),
    OTHER_ROOT,
    ca("Intermediate", ROOT, end=START + timedelta(1)),
    ca("Root"),
]
