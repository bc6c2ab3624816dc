"""TLSA records: RFC 6698 section 2, RFC 7218, RFC 3597 section 5; usability and agility: RFC 7671 sections 9, 10.3."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.config import Config
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from tests.authority import ca

OCTET = st.integers(0, 255)
RECORDS = st.builds(Tlsa, OCTET, OCTET, OCTET, st.binary(max_size=80))
SHA256, SHA512 = b"\xab" * 32, b"\xcd" * 64
ISSUED = ca("Authority")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 1 1 ab12", Tlsa(3, 1, 1, b"\xab\x12")),
        ("3 1 1 ab12 CD34", Tlsa(3, 1, 1, b"\xab\x12\xcd\x34")),
        ("  2\t0 2 a b 1 2 ", Tlsa(2, 0, 2, b"\xab\x12")),
        ("3 1 1 ( ab12\n cd34 )", Tlsa(3, 1, 1, b"\xab\x12\xcd\x34")),
        ("(3 1 1 ab12)", Tlsa(3, 1, 1, b"\xab\x12")),
        ("3 1 1 ab(12)", Tlsa(3, 1, 1, b"\xab\x12")),
        ("255 255 255 00", Tlsa(255, 255, 255, b"\0")),
        ("3 1 1", Tlsa(3, 1, 1, b"")),
        ("PKIX-TA Cert Full ab", Tlsa(0, 0, 0, b"\xab")),
        ("PKIX-EE SPKI SHA2-256 ab", Tlsa(1, 1, 1, b"\xab")),
        ("dane-ta cert sha2-512 ab", Tlsa(2, 0, 2, b"\xab")),
        ("DANE-EE 1 SHA2-256 ab", Tlsa(3, 1, 1, b"\xab")),
        ("PrivCert PrivSel PrivMatch ab", Tlsa(255, 255, 255, b"\xab")),
        (r"\# 5 03 01 01 AB12", Tlsa(3, 1, 1, b"\xab\x12")),
        (r"\# 3 030101", Tlsa(3, 1, 1, b"")),
    ],
)
def test_presentation_form_is_read(text: str, expected: Tlsa) -> None:
    assert Tlsa.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3 1",
        "3 1 1 abc",
        "3 1 1 zz",
        "3 1 1 0xab",
        "256 1 1 ab",
        "-1 1 1 ab",
        "+3 1 1 ab",
        "3.0 1 1 ab",
        "1_0 1 1 ab",
        "0003 1 1 ab",
        "\u0663 1 1 ab",
        "SPKI 1 1 ab",
        "3 1 1 (ab",
        "3 1 1 ab)",
        "3 1 1 ((ab))",
        "3 1 1 a\u0432",
        r"\#",
        r"\# 5",
        r"\# 5 030101ab",
        r"\# 2 0301",
        r"\# x 030101ab",
    ],
)
def test_bad_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Tlsa.parse(text)


def test_wire_form_is_three_octets_and_data() -> None:
    assert Tlsa.from_rdata(b"\x03\x01\x02\xab\xcd") == Tlsa(3, 1, 2, b"\xab\xcd")
    assert Tlsa.from_rdata(b"\x03\x01\x01") == Tlsa(3, 1, 1, b"")


@pytest.mark.parametrize("rdata", [b"", b"\x03", b"\x03\x01"])
def test_fewer_than_three_octets_are_malformed(rdata: bytes) -> None:
    with pytest.raises(ValueError, match="at least 3 octets"):
        Tlsa.from_rdata(rdata)


def test_text_has_lower_case_hex() -> None:
    assert str(Tlsa.parse("DANE-EE SPKI SHA2-256 AB CD")) == Tlsa(3, 1, 1, b"\xab\xcd").to_text() == "3 1 1 abcd"


@given(RECORDS)
def test_text_and_rdata_read_back_as_the_same_record(record: Tlsa) -> None:
    rdata = bytes([record.usage, record.selector, record.matching_type]) + record.data
    assert Tlsa.parse(str(record)) == Tlsa.from_rdata(rdata) == record
    assert Tlsa.parse(f"\\# {len(rdata)} {rdata.hex()}") == record
    assert pickle.loads(pickle.dumps(record)) == record


@given(st.text(max_size=60))
def test_any_text_is_a_record_or_a_value_error(text: str) -> None:
    try:
        record = Tlsa.parse(text)
    except ValueError:
        return
    assert Tlsa.parse(str(record)) == record


@pytest.mark.parametrize(
    ("number", "error"), [(256, ValueError), (-1, ValueError), (True, TypeError), ("3", TypeError)]
)
def test_numbers_are_octets(number: int, error: type[Exception]) -> None:
    for position in range(3):
        numbers = [0, 0, 0]
        numbers[position] = number
        with pytest.raises(error):
            Tlsa(numbers[0], numbers[1], numbers[2], b"")


def test_data_is_bytes_and_rrsets_are_made_of_records() -> None:
    with pytest.raises(TypeError):
        Tlsa(3, 1, 1, "ab")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        TlsaRRset(["3 1 1 ab"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Tlsa(3, 1, 1, SHA256), None),
        (Tlsa(3, 0, 2, SHA512), None),
        (Tlsa(2, 1, 1, SHA256), None),
        (Tlsa(0, 0, 1, SHA256), "certificate usage 0"),
        (Tlsa(1, 1, 1, SHA256), "certificate usage 1"),
        (Tlsa(4, 1, 1, SHA256), "certificate usage 4"),
        (Tlsa(255, 1, 1, SHA256), "certificate usage 255"),
        (Tlsa(3, 2, 1, SHA256), "selector 2"),
        (Tlsa(3, 255, 0, ISSUED.spki), "selector 255"),
        (Tlsa(3, 1, 3, SHA256), "matching type 3"),
        (Tlsa(3, 1, 255, SHA256), "matching type 255"),
        (Tlsa(3, 1, 1, SHA256[:-1]), "32 octets, not 31"),
        (Tlsa(3, 1, 1, SHA256 + b"\0"), "32 octets, not 33"),
        (Tlsa(3, 1, 1, b""), "32 octets, not 0"),
        (Tlsa(3, 1, 2, SHA256), "64 octets, not 32"),
        (Tlsa(3, 0, 0, ISSUED.der), None),
        (Tlsa(2, 0, 0, ISSUED.der + b"\0"), "not a certificate"),
        (Tlsa(2, 0, 0, ISSUED.der[:-1]), "not a certificate"),
        (Tlsa(2, 0, 0, ISSUED.spki), "not a certificate"),
        (Tlsa(3, 0, 0, b""), "not a certificate"),
        (Tlsa(3, 1, 0, ISSUED.spki), None),
        (Tlsa(2, 1, 0, ISSUED.spki + b"\0"), "not a public key"),
        (Tlsa(3, 1, 0, ISSUED.spki[:-1]), "not a public key"),
        (Tlsa(3, 1, 0, ISSUED.der), "not a public key"),
        (Tlsa(3, 1, 0, b""), "not a public key"),
        (Tlsa(3, 1, 0, ISSUED.spki[:-33] + b"\xff" * 33), "not a public key"),  # a point that is not on the curve
    ],
)
def test_unusable_records_say_why(record: Tlsa, reason: str | None) -> None:
    """RFC 6698 section 4.1, RFC 7671 sections 2 and 10.3, RFC 7672 section 3.1.3."""
    why = record.why_unusable(Config())
    assert why is None if reason is None else reason in (why or "")


def test_local_policy_makes_records_unusable() -> None:
    """RFC 6698 section 4.1: usages, and algorithms that are too weak."""
    assert Tlsa(2, 0, 1, SHA256).why_unusable(Config(usages=(3,))) is not None
    assert Tlsa(3, 1, 1, SHA256).why_unusable(Config(digest_order=(2,))) is not None
    assert Tlsa(3, 1, 0, ISSUED.spki).why_unusable(Config(digest_order=(2,))) is None


def test_a_new_matching_type_is_usable_once_it_is_mapped() -> None:
    """RFC 7671 section 9: matching types are mapped to digests by configuration, and ordered."""
    mapped = Config(extra_digests=((3, "sha3_512"),), digest_order=(3, 2, 1))
    assert Tlsa(3, 1, 3, SHA512).why_unusable(mapped) is None
    assert Tlsa(3, 1, 3, SHA256).why_unusable(mapped) is not None
    rrset = TlsaRRset([Tlsa(3, 1, 2, SHA512), Tlsa(3, 1, 3, SHA512)])
    assert list(rrset.considered(mapped)) == [Tlsa(3, 1, 3, SHA512)]


def test_agility_keeps_full_and_the_strongest_digest_of_each_usage_and_selector() -> None:
    """RFC 7671 section 9."""
    full = Tlsa(3, 1, 0, ISSUED.spki)
    strong, also_strong = Tlsa(3, 1, 2, SHA512), Tlsa(3, 1, 2, bytes(64))
    other_selector, other_usage = Tlsa(3, 0, 1, SHA256), Tlsa(2, 1, 1, SHA256)
    rrset = TlsaRRset([full, Tlsa(3, 1, 1, SHA256), strong, other_selector, also_strong, other_usage])
    assert list(rrset.considered(Config())) == [full, strong, other_selector, also_strong, other_usage]


def test_agility_follows_the_configured_order() -> None:
    weak, strong = Tlsa(3, 1, 1, SHA256), Tlsa(3, 1, 2, SHA512)
    assert list(TlsaRRset([weak, strong]).considered(Config(digest_order=(1, 2)))) == [weak]


def test_agility_comes_after_unusable_records_are_discarded() -> None:
    """RFC 7671 section 9: a digest of a wrong length does not displace a good record of a weaker type."""
    weak, malformed = Tlsa(3, 1, 1, SHA256), Tlsa(3, 1, 2, SHA512[:-1])
    assert list(TlsaRRset([malformed, weak]).considered(Config())) == [weak]
    assert list(TlsaRRset([malformed, weak]).usable(Config())) == [weak]


def test_an_rrset_keeps_what_was_published() -> None:
    records = [Tlsa(1, 1, 1, SHA256), Tlsa(3, 1, 1, b""), Tlsa(3, 1, 1, SHA256)]
    rrset = TlsaRRset(iter(records))
    assert list(rrset) == records
    assert len(rrset) == 3
    assert hash(rrset) == hash(TlsaRRset(records))
    assert rrset.to_json()[1:] == ["3 1 1", "3 1 1 " + "ab" * 32]
    assert TlsaRRset.from_json(rrset.to_json()) == rrset == pickle.loads(pickle.dumps(rrset))
    assert not TlsaRRset()


@given(st.lists(RECORDS, max_size=6))
def test_considered_is_part_of_usable_is_part_of_published(records: list[Tlsa]) -> None:
    rrset, config = TlsaRRset(records), Config()
    usable, considered = rrset.usable(config), rrset.considered(config)
    assert set(considered) <= set(usable) <= set(rrset)
    assert bool(considered) == bool(usable)
