"""PKIX verification: RFC 8461 section 4.2, RFC 5280."""

from __future__ import annotations

import hashlib
import pickle
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy import pkix
from mailtlspolicy.config import Config
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.verdict import Failure, Mechanism, Verdict
from mailtlspolicy.x509.pem import certificate_to_pem
from tests.authority import (
    ANY_PURPOSE,
    CLIENT,
    NOW,
    ODD_TIMES,
    SERVER,
    START,
    Issued,
    ca,
    issue,
    redated,
    server,
    usage,
    with_serial,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "mx.example.com"
ROOT = ca("Root", None, usage("key_cert_sign"))
INTERMEDIATE = ca("Intermediate", ROOT, usage("key_cert_sign"))
LEAF = server(INTERMEDIATE)
TRUST = TrustStore([ROOT.der])
PASSED = Verdict.passed(Mechanism.PKIX, name=NAME)
OLD = START + timedelta(days=1)


def verify(
    chain: Iterable[Issued | bytes],
    trust: TrustStore | None = TRUST,
    name: str = NAME,
    now: datetime = NOW,
    config: Config | None = None,
) -> Verdict:
    ders = [each if isinstance(each, bytes) else each.der for each in chain]
    return pkix.verify(ders, trust, name, now=now, config=config or Config())


def failure(*arguments: Any, **more: Any) -> Failure | None:
    verdict = verify(*arguments, **more)
    assert verdict == (PASSED if verdict.failure is None else Verdict.failed(verdict.failure))
    return verdict.failure


def test_a_chain_to_a_trusted_root_with_the_right_name_passes() -> None:
    assert verify([LEAF, INTERMEDIATE]) == PASSED
    assert verify([LEAF, INTERMEDIATE, ROOT]) == PASSED


def test_order_and_rubbish_in_the_chain_do_not_matter() -> None:
    assert verify([LEAF, b"garbage", ca("Stranger"), ROOT, INTERMEDIATE, INTERMEDIATE, LEAF]) == PASSED


def test_any_certificate_of_the_trust_store_is_an_anchor() -> None:
    assert verify([LEAF], TrustStore([INTERMEDIATE.der])) == PASSED


@pytest.mark.parametrize(
    "chain",
    [
        [LEAF],
        [server(None)],
        [server(None), INTERMEDIATE],
        [server(ca("Intermediate", ROOT)), INTERMEDIATE],
        [LEAF, ca("Intermediate", ROOT, key=INTERMEDIATE.key, end=OLD)],
        [LEAF, issue("Intermediate", ROOT, key=INTERMEDIATE.key)],
        [LEAF, ca("Intermediate", ROOT, usage("digital_signature"), key=INTERMEDIATE.key)],
        [LEAF, ca("Intermediate", ROOT, x509.ExtendedKeyUsage([CLIENT]), key=INTERMEDIATE.key)],
    ],
    ids=["incomplete", "self-signed", "stranger", "forged", "expired", "no CA", "may not certify", "other purpose"],
)
def test_what_does_not_lead_to_a_root_is_not_trusted(chain: list[Issued]) -> None:
    assert failure(chain) is Failure.UNTRUSTED_ISSUER


@pytest.mark.parametrize("trust", [None, TrustStore(), TrustStore([ca("Root").der])])
def test_without_the_root_nothing_is_trusted(trust: TrustStore | None) -> None:
    """RFC 8461 section 10.1: no anchors, no validation."""
    assert failure([LEAF, INTERMEDIATE], trust) is Failure.UNTRUSTED_ISSUER


@pytest.mark.parametrize(
    ("presented", "reference", "expected"),
    [
        ("mx.example.com", "MX.Example.COM.", None),
        ("*.example.com", NAME, None),
        ("other.example.com", NAME, Failure.NAME_MISMATCH),
        ("example.com", NAME, Failure.NAME_MISMATCH),
        ("mx*.example.com", NAME, Failure.NAME_MISMATCH),
        ("mx.example.com", "not a name", Failure.NAME_MISMATCH),
    ],
)
def test_the_leaf_bears_the_name(presented: str, reference: str, expected: Failure | None) -> None:
    assert failure([server(INTERMEDIATE, presented), INTERMEDIATE], name=reference) is expected


def test_underscores_are_names_too() -> None:
    leaf = server(INTERMEDIATE, "mx_1.example.com")
    assert verify([leaf, INTERMEDIATE], name="mx_1.example.com") == Verdict.passed(
        Mechanism.PKIX, name="mx_1.example.com"
    )
    assert failure([leaf, INTERMEDIATE], name="mx_2.example.com") is Failure.NAME_MISMATCH


def test_a_common_name_is_not_enough() -> None:
    """RFC 8461 section 4.2."""
    assert failure([issue(NAME, INTERMEDIATE), INTERMEDIATE]) is Failure.NAME_MISMATCH


@pytest.mark.parametrize(
    ("extension", "allowed"),
    [
        (x509.ExtendedKeyUsage([SERVER]), True),
        (x509.ExtendedKeyUsage([ANY_PURPOSE]), True),
        (x509.ExtendedKeyUsage([CLIENT]), False),
        (usage("digital_signature"), True),
        (usage("key_agreement"), True),
        (usage("crl_sign"), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), False), True),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True), False),
    ],
)
def test_the_leaf_is_for_tls_servers(extension: Any, allowed: bool) -> None:  # noqa: FBT001
    expected = None if allowed else Failure.UNTRUSTED_ISSUER
    assert failure([server(INTERMEDIATE, extensions=[extension]), INTERMEDIATE]) is expected


def test_name_constraints_hold() -> None:
    for permitted, expected in (("example.com", None), ("example.org", Failure.UNTRUSTED_ISSUER)):
        constraints = x509.NameConstraints([x509.DNSName(permitted)], None)
        middle = ca("Constrained", ROOT, (constraints, True))
        assert failure([server(middle), middle]) is expected


@pytest.mark.parametrize("trust", [TRUST, None])
def test_dates_are_told_before_the_name_before_the_path(trust: TrustStore | None) -> None:
    early, late = NOW + timedelta(1), NOW - timedelta(seconds=1)
    untrusted = None if trust else Failure.UNTRUSTED_ISSUER
    cases: list[tuple[dict[str, Any], Failure | None]] = [
        ({}, untrusted),
        ({"end": late}, Failure.EXPIRED),
        ({"start": early}, Failure.NOT_YET_VALID),
        ({"start": NOW, "end": NOW}, untrusted),
    ]
    for more, expected in cases:
        leaf, other = server(INTERMEDIATE, **more), server(INTERMEDIATE, "other.test", **more)
        half_a_second_later = NOW + timedelta(microseconds=500_000)
        assert failure([leaf, INTERMEDIATE], trust, now=half_a_second_later) is expected
        mismatch = Failure.NAME_MISMATCH if expected is untrusted else expected
        assert failure([other, INTERMEDIATE], trust, now=half_a_second_later) is mismatch


def test_time_is_compared_across_zones() -> None:
    for text, expected in (
        ("2027-01-01T14:00:00+14:00", None),
        ("2027-01-01T14:00:01+14:00", Failure.EXPIRED),
        ("2026-12-31T12:00:00-12:00", None),
        ("2026-12-31T12:00:01-12:00", Failure.EXPIRED),
    ):
        assert failure([LEAF, INTERMEDIATE], now=datetime.fromisoformat(text)) is expected


def test_a_naive_time_is_misuse() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        verify([LEAF], now=NOW.replace(tzinfo=None))


def test_no_chain_and_no_certificate() -> None:
    assert failure([]) is Failure.NO_CERTIFICATE
    assert failure([b"garbage", INTERMEDIATE]) is Failure.MALFORMED_CERTIFICATE
    broken = LEAF.der.replace(b"\x55\x1d\x11", b"\x55\x1d\x13")
    assert failure([broken, INTERMEDIATE]) is Failure.MALFORMED_CERTIFICATE


def test_a_chain_has_as_many_certificates_and_octets_as_configured() -> None:
    octets = len(LEAF.der) + len(INTERMEDIATE.der)
    fits = Config(max_chain_certificates=2, max_chain_octets=octets)
    assert verify([LEAF, INTERMEDIATE], config=fits) == PASSED
    assert failure([LEAF, INTERMEDIATE, ROOT], config=fits) is Failure.CHAIN_TOO_LONG
    assert failure([LEAF, INTERMEDIATE], config=Config(max_chain_octets=octets - 1)) is Failure.CHAIN_TOO_LONG


def test_a_trust_store_is_read_from_pem() -> None:
    pem = b"# roots\n" + b"".join(each.certificate.public_bytes(Encoding.PEM) for each in (ROOT, INTERMEDIATE))
    trust = TrustStore.from_pem(pem)
    assert trust == TrustStore(iter([ROOT.der, INTERMEDIATE.der]))
    assert hash(trust) == hash(pickle.loads(pickle.dumps(trust)))
    assert verify([LEAF], pickle.loads(pickle.dumps(trust))) == PASSED


@pytest.mark.parametrize("pem", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_bad_pem_is_a_value_error(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        TrustStore.from_pem(pem)


def test_a_trust_store_is_made_of_certificates() -> None:
    with pytest.raises(ValueError, match=r"."):
        TrustStore([b"garbage"])


@pytest.mark.parametrize("time", ODD_TIMES.values(), ids=ODD_TIMES)
@pytest.mark.parametrize("end", ["not_before", "not_after"])
def test_a_date_that_is_none_is_malformed_wherever_it_stands(end: str, time: bytes) -> None:
    leaf = redated(LEAF, INTERMEDIATE, **{end: time})
    middle = redated(INTERMEDIATE, ROOT, **{end: time})
    root = redated(ROOT, ROOT, **{end: time})
    assert failure([leaf, INTERMEDIATE]) is Failure.MALFORMED_CERTIFICATE
    assert failure([LEAF, middle]) is Failure.UNTRUSTED_ISSUER
    assert verify([LEAF, INTERMEDIATE, leaf, middle, root]) == PASSED
    with pytest.raises(ValueError, match="not a certificate"):
        TrustStore([ROOT.der, root.der])
    trust = TrustStore.from_pem(pem(root.der) + pem(ROOT.der))
    assert trust.certificates == (ROOT.der,)
    assert verify([LEAF, INTERMEDIATE], trust) == PASSED


def pem(der: bytes) -> bytes:
    return certificate_to_pem(der).encode()


def test_one_bad_anchor_costs_none_of_the_others_and_is_named() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"
    garbage = pem(b"garbage")
    trust = TrustStore.from_pem(pem(ROOT.der) + broken + garbage + garbage + pem(INTERMEDIATE.der) + pem(ROOT.der))
    assert trust.certificates == (ROOT.der, INTERMEDIATE.der)
    first, second = trust.left_out
    assert first == "certificate 2: not base64"
    assert second.startswith(f"certificate 3 (SHA-256 {hashlib.sha256(b'garbage').hexdigest()}): not a ")
    assert pickle.loads(pickle.dumps(trust)).left_out == trust.left_out
    assert trust == TrustStore([ROOT.der, INTERMEDIATE.der])
    with pytest.raises(ValueError, match=r"certificate 1: not base64; certificate 2 "):
        TrustStore.from_pem(broken + garbage)


@pytest.mark.parametrize("serial", [b"\0", b"\xff", b"\xfe\xd4"], ids=["0", "-1", "-300"])
def test_the_serial_number_of_a_root_does_not_matter(serial: bytes) -> None:
    """Warnings are errors here, as `cryptography` has announced of such a serial number (RFC 5280 section 4.1.2.2)."""
    root = with_serial(ROOT, ROOT, serial)
    trust = TrustStore.from_pem(pem(root.der) + pem(ca("Other").der))
    assert trust.left_out == ()
    assert verify([LEAF, INTERMEDIATE], trust) == PASSED
    assert verify([LEAF, INTERMEDIATE, root, ROOT], trust) == PASSED
    assert failure([LEAF, INTERMEDIATE, root]) is None


@pytest.mark.parametrize("serial", [b"\0", b"\xff"], ids=["0", "-1"])
def test_below_a_root_a_serial_number_is_positive(serial: bytes) -> None:
    """As the verifier of `cryptography` wants it, or will."""
    assert failure([with_serial(LEAF, INTERMEDIATE, serial), INTERMEDIATE]) is Failure.UNTRUSTED_ISSUER
    assert failure([LEAF, with_serial(INTERMEDIATE, ROOT, serial)]) is Failure.UNTRUSTED_ISSUER


def constrained(*permitted: str, excluded: Iterable[str] = (), by: Issued = ROOT, **more: Any) -> Issued:
    trees = [[x509.DNSName(base) for base in bases] or None for bases in (permitted, excluded)]
    return ca("Constrained", by, (x509.NameConstraints(*trees), True), **more)


def by_common_name(chain: Iterable[Issued], trust: TrustStore = TRUST, config: Config | None = None) -> Failure | None:
    ders = [each.der for each in chain]
    return pkix.verify(ders, trust, NAME, now=NOW, config=config or Config(), cn_ids=True).failure


def test_constraints_bind_a_common_name_that_authenticates() -> None:
    """RFC 5280 section 4.2.1.10, RFC 6125 section 6.4.4."""
    for middle, expected in (
        (constrained("example.com"), None),
        (constrained("example.org"), Failure.UNTRUSTED_ISSUER),
        (constrained(excluded=["example.org"]), None),
        (constrained(excluded=["example.com"]), Failure.UNTRUSTED_ISSUER),
    ):
        assert by_common_name([issue(NAME, middle), middle]) is expected
        assert by_common_name([issue(NAME, middle)], TrustStore([middle.der])) is expected
        lower = ca("Lower", middle)
        assert by_common_name([issue(NAME, lower), middle, lower]) is expected
        # beside a DNS-ID it is no name
        beside = issue(NAME, middle, x509.SubjectAlternativeName([x509.DNSName("mx.example.net")]))
        assert by_common_name([beside, middle]) is Failure.NAME_MISMATCH


def test_a_way_round_a_constraint_is_found_in_any_order() -> None:
    middle = constrained("example.org")
    free = ca("Constrained", ROOT, key=middle.key)
    leaf = issue(NAME, middle)
    assert by_common_name([leaf, middle, free]) is by_common_name([leaf, free, middle]) is None


def test_constraints_bind_the_names_of_issuers_too() -> None:
    mailboxes = x509.NameConstraints([x509.RFC822Name("example.org")], None)
    middle = ca("Constrained", ROOT, (mailboxes, True))
    for host, expected in (("example.org", None), ("example.com", Failure.UNTRUSTED_ISSUER)):
        mailbox = x509.NameAttribute(NameOID.EMAIL_ADDRESS, f"ca@{host}")
        lower = ca(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lower"), mailbox]), middle)
        assert failure([server(lower), lower, middle]) is expected


def test_comparisons_of_names_have_a_limit() -> None:
    middle = constrained("example.com", "example.org")
    leaf = issue(NAME, middle)
    chain = [leaf, middle]
    assert by_common_name(chain, config=Config(max_name_constraint_checks=20)) is None
    assert by_common_name(chain, config=Config(max_name_constraint_checks=3)) is Failure.UNTRUSTED_ISSUER


def test_an_extension_that_can_not_be_read_makes_an_issuer_malformed() -> None:
    seven_octets = bytes.fromhex("300da00b30098707c0000200ffff00")  # an address to be permitted
    for kind, octets in (("2.5.29.30", seven_octets), ("2.5.29.32", b"\5\0"), ("2.5.29.31", b"\5\0")):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(kind), octets)
        middle = ca("Intermediate", ROOT, (extension, kind == "2.5.29.30"))
        assert failure([server(middle), middle]) is Failure.UNTRUSTED_ISSUER


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.just(INTERMEDIATE.der), max_size=3), st.integers(0), st.integers(0, 255))
def test_random_octets_never_raise(others: list[bytes], at: int, octet: int) -> None:
    altered = bytearray(LEAF.der)
    altered[at % len(altered)] = octet
    verdict = verify([bytes(altered), *others])
    assert not verdict.authenticated or altered == LEAF.der
    verify(others)
