"""DANE verification: RFC 7671 sections 5, 9 and 10.3, RFC 7672 section 3, RFC 6698 sections 2.1 and 4.1."""

from __future__ import annotations

import hashlib
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy import dane
from mailtlspolicy.config import Config
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.verdict import Failure, Mechanism, Verdict
from tests.authority import END, NOW, ODD_TIMES, START, Issued, ca, issue, record, redated, server, version_1

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

NAMES = ("mx.example.com", "example.com")
ROOT = ca("Root")
INTERMEDIATE = ca("Intermediate", ROOT)
LEAF = server(INTERMEDIATE)
CHAIN = (LEAF, INTERMEDIATE, ROOT)
STRANGER = ca("Stranger")
OLD, SOON = START + timedelta(days=1), NOW + timedelta(days=1)


def verify(
    chain: Iterable[Issued | bytes],
    *tlsa: Tlsa,
    names: Sequence[str] = NAMES,
    now: datetime = NOW,
    config: Config | None = None,
) -> Verdict:
    ders = [each if isinstance(each, bytes) else each.der for each in chain]
    return dane.verify(ders, TlsaRRset(tlsa), names, now=now, config=config or Config())


def failure(chain: Iterable[Issued | bytes], *tlsa: Tlsa, **more: Any) -> Failure | None:
    verdict = verify(chain, *tlsa, **more)
    assert verdict.authenticated is verdict.satisfied is (verdict.failure is None)
    if verdict.failure is not None:
        assert verdict == Verdict.failed(verdict.failure)
    return verdict.failure


# DANE-EE(3): RFC 7671 section 5.1, RFC 7672 section 3.1.1


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching_type", [0, 1, 2])
def test_a_leaf_that_matches_is_authenticated(selector: int, matching_type: int) -> None:
    match = record(3, selector, matching_type, LEAF)
    assert verify([LEAF], match) == Verdict.passed(Mechanism.DANE_EE, record=str(match), depth=0)


@pytest.mark.parametrize(
    "leaf",
    [
        server(None, "other.example.org"),
        server(None, end=OLD),
        server(None, start=END - timedelta(1)),
        issue(x509.Name([])),
        version_1(issue("mx")),
        server(None, extensions=[(x509.BasicConstraints(ca=True, path_length=0), True)]),
        server(None, extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x"), True)]),
    ],
    ids=["other name", "expired", "not yet valid", "nameless", "version 1", "CA", "unknown critical extension"],
)
def test_nothing_else_of_the_leaf_is_looked_at(leaf: Issued) -> None:
    assert failure([leaf], record(3, 1, 1, leaf), names=["mx.example.com"]) is None
    assert failure([leaf, b"garbage"], record(3, 0, 2, leaf), names=[]) is None


def test_nothing_else_of_the_chain_is_looked_at() -> None:
    tiny = Config(max_chain_certificates=1, max_chain_octets=1, max_signatures=1)
    assert failure([LEAF, b"", b"garbage", STRANGER], record(3, 1, 1, LEAF), config=tiny) is None


def test_only_the_leaf_matches_dane_ee() -> None:
    for issued in (INTERMEDIATE, ROOT):
        assert failure(CHAIN, record(3, 0, 1, issued), record(3, 1, 1, issued)) is Failure.NO_TLSA_MATCH


def test_the_digest_is_of_the_whole_selected_octets() -> None:
    """RFC 6698 sections 2.1.2 and 2.1.4: not of the bare key, not with the length prefix of the TLS message."""
    bare_key = LEAF.spki[-65:]
    prefixed = len(LEAF.der).to_bytes(3, "big") + LEAF.der
    for octets, selector in ((bare_key, 1), (prefixed, 0), (LEAF.spki, 0), (LEAF.der, 1)):
        assert failure([LEAF], Tlsa(3, selector, 1, hashlib.sha256(octets).digest())) is Failure.NO_TLSA_MATCH


def test_what_is_no_certificate_matches_nothing() -> None:
    """RFC 6698 section 2.1.1: the usages apply to DER-encoded certificates."""
    for octets in (b"", b"garbage", LEAF.der + b"\0", LEAF.der[:-1]):
        match = Tlsa(3, 0, 1, hashlib.sha256(octets).digest())
        assert failure([octets], match) is Failure.MALFORMED_CERTIFICATE


def test_dane_ee_wins_over_dane_ta() -> None:
    match = record(3, 1, 1, LEAF)
    assert verify(CHAIN, record(2, 0, 1, ROOT), match).record == str(match)


# Which records count: RFC 7671 sections 9 and 10.3


@pytest.mark.parametrize(
    "unusable",
    [
        [],
        [Tlsa(1, 1, 1, bytes(32)), Tlsa(0, 0, 1, bytes(32))],
        [Tlsa(3, 1, 1, bytes(31))],
        [Tlsa(3, 2, 1, bytes(32)), Tlsa(3, 1, 9, bytes(32)), Tlsa(9, 1, 1, bytes(32))],
        [Tlsa(3, 0, 0, b""), Tlsa(2, 1, 0, b"garbage")],
    ],
)
def test_without_a_usable_record_nothing_is_authenticated(unusable: list[Tlsa]) -> None:
    assert failure(CHAIN, *unusable) is Failure.NO_USABLE_RECORDS
    assert failure([], *unusable) is Failure.NO_USABLE_RECORDS


def test_pkix_usages_never_match() -> None:
    """RFC 7672 section 3.1.3."""
    assert failure(CHAIN, record(1, 1, 1, LEAF), record(0, 0, 1, ROOT)) is Failure.NO_USABLE_RECORDS
    assert failure(CHAIN, record(1, 1, 1, LEAF), record(3, 1, 1, STRANGER)) is Failure.NO_TLSA_MATCH


def test_a_weaker_digest_does_not_count_beside_a_stronger_one() -> None:
    stale = record(3, 1, 2, STRANGER)
    assert failure([LEAF], record(3, 1, 1, LEAF), stale) is Failure.NO_TLSA_MATCH
    assert failure([LEAF], record(3, 1, 1, LEAF), stale, config=Config(digest_order=(1, 2))) is None
    assert failure([LEAF], record(3, 0, 1, LEAF), stale) is None
    assert failure([LEAF], record(3, 1, 0, LEAF), stale) is None
    assert failure([LEAF], record(3, 1, 1, LEAF), Tlsa(3, 1, 2, bytes(63))) is None
    assert failure(CHAIN, record(2, 0, 1, ROOT), record(2, 0, 2, STRANGER)) is Failure.NO_TLSA_MATCH


def test_the_example_of_rfc_7671_section_9() -> None:
    """Keys of 3 1 0, 3 1 1 and 3 1 2: the first and the last are accepted, the one in the middle is not."""
    full, weak, strong = server(None), server(None), server(None)
    rrset = (record(3, 1, 0, full), record(3, 1, 1, weak), record(3, 1, 2, strong))
    assert failure([full], *rrset) is None
    assert failure([weak], *rrset) is Failure.NO_TLSA_MATCH
    assert failure([strong], *rrset) is None


def test_one_record_that_matches_is_enough() -> None:
    stale = [record(3, 1, 1, STRANGER), record(3, 0, 1, STRANGER), record(2, 1, 1, STRANGER)]
    assert failure(CHAIN, *stale, record(3, 1, 1, LEAF)) is None
    assert failure(CHAIN, *stale, record(2, 1, 1, ROOT)) is None


# DANE-TA(2): RFC 7671 section 5.2, RFC 7672 sections 3.1.2 and 3.2.2


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching_type", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_leaf_below_a_matching_certificate_is_authenticated(selector: int, matching_type: int, depth: int) -> None:
    match = record(2, selector, matching_type, CHAIN[depth])
    expected = Verdict.passed(Mechanism.DANE_TA, record=str(match), depth=depth, name="mx.example.com")
    assert verify(CHAIN, match) == expected


def test_what_is_above_the_anchor_does_not_matter() -> None:
    expired_root = ca("Root", key=ROOT.key, end=OLD)
    assert verify([LEAF, INTERMEDIATE, expired_root], record(2, 0, 1, INTERMEDIATE)).depth == 1
    assert verify([LEAF, INTERMEDIATE], record(2, 1, 1, INTERMEDIATE)).depth == 1


@pytest.mark.parametrize("selector", [0, 1])
def test_a_digest_of_an_anchor_that_was_not_sent_matches_nothing(selector: int) -> None:
    """RFC 7671 section 5.2.2."""
    assert failure([LEAF, INTERMEDIATE], record(2, selector, 1, ROOT)) is Failure.NO_TLSA_MATCH


@pytest.mark.parametrize("selector", [0, 1])
def test_an_anchor_in_dns_need_not_be_sent(selector: int) -> None:
    """RFC 7671 sections 5.2.2 and 5.2.3; the depth is the one it would have."""
    match = record(2, selector, 0, ROOT)
    assert verify([LEAF, INTERMEDIATE], match).depth == 2
    direct = server(ROOT)
    assert verify([direct], match) == Verdict.passed(
        Mechanism.DANE_TA, record=str(match), depth=1, name="mx.example.com"
    )
    assert failure([LEAF], match) is Failure.NO_TLSA_MATCH
    assert failure([server(STRANGER), INTERMEDIATE], match) is Failure.NO_TLSA_MATCH


def test_a_bare_key_does_not_stand_in_for_its_own_certificate() -> None:
    """RFC 7671 section 5.2.3: only if no certificate that was sent has the key."""
    limited_root = ca("Root", key=ROOT.key, length=0)
    assert failure([LEAF, INTERMEDIATE, limited_root], record(2, 1, 0, ROOT)) is Failure.PATH_LENGTH


@pytest.mark.parametrize("matching_type", [0, 1, 2])
def test_the_dates_of_an_anchor_count_only_where_its_certificate_is_published(matching_type: int) -> None:
    """RFC 7671 section 5.2.1: of an anchor by its key, nothing but the key is published."""
    cases: list[tuple[dict[str, Any], Failure]] = [
        ({"end": OLD}, Failure.EXPIRED),
        ({"start": SOON}, Failure.NOT_YET_VALID),
    ]
    for dates, expected in cases:
        root = ca("Root", key=ROOT.key, **dates)
        middle = ca("Intermediate", ROOT, key=INTERMEDIATE.key, **dates)
        for anchor, chain in ((root, [LEAF, INTERMEDIATE, root]), (middle, [LEAF, middle, ROOT])):
            by_certificate, by_key = (record(2, selector, matching_type, anchor) for selector in (0, 1))
            assert failure(chain, by_certificate) is expected
            verdict = verify(chain, by_certificate, by_key)
            assert (verdict.record, verdict.depth) == (str(by_key), chain.index(anchor))
            assert failure([server(INTERMEDIATE, **dates), *chain[1:]], by_key) is expected
        assert failure([LEAF, middle, ROOT], record(2, 1, matching_type, ROOT)) is expected


def test_the_leaf_is_not_its_own_anchor() -> None:
    """RFC 7671 section 5.2: an anchor issues; section 5.2.3 tries bare keys only if no certificate sent has the key."""
    alone = server(None)
    for selector in (0, 1):
        for matching_type in (0, 1, 2):
            match = record(2, selector, matching_type, alone)
            for chain in ([alone], [alone, alone], [alone, STRANGER]):
                assert failure(chain, match) is Failure.NO_TLSA_MATCH
    assert failure(CHAIN, record(2, 1, 1, LEAF)) is Failure.NO_TLSA_MATCH


def test_a_match_without_a_path_is_not_enough() -> None:
    """RFC 6698 section 2.1.1."""
    assert failure([server(STRANGER), INTERMEDIATE, ROOT], record(2, 0, 1, ROOT)) is Failure.UNTRUSTED_ISSUER
    rekeyed = ca("Intermediate", ROOT)
    assert failure([LEAF, rekeyed, ROOT], record(2, 0, 1, ROOT)) is Failure.BAD_SIGNATURE


def test_any_of_several_anchors_may_have_the_valid_path() -> None:
    """RFC 6698 appendix B.2."""
    other = ca("Intermediate", STRANGER, key=INTERMEDIATE.key)
    rrset = (record(2, 0, 1, STRANGER), record(2, 0, 1, ROOT))
    expired = ca("Intermediate", ROOT, key=INTERMEDIATE.key, end=OLD)
    verdict = verify([LEAF, expired, ROOT, other, STRANGER], *rrset)
    assert (verdict.record, verdict.depth) == (str(rrset[0]), 2)


def test_constraints_of_the_anchor_hold() -> None:
    """RFC 7671 section 5.2.1, also for one that is only in DNS."""
    root = ca("Root", length=0)
    middle = ca("Middle", root)
    leaf = server(middle)
    assert failure([leaf, middle, root], record(2, 0, 1, root)) is Failure.PATH_LENGTH
    assert failure([leaf, middle, root], record(2, 1, 1, root)) is Failure.PATH_LENGTH
    assert failure([leaf, middle], record(2, 0, 0, root)) is Failure.PATH_LENGTH
    reissued = ca("Root", key=root.key)
    assert failure([leaf, middle, reissued], record(2, 1, 1, root)) is None


def test_the_leaf_bears_a_reference_identifier() -> None:
    """RFC 7672 sections 3.2.2 and 3.2.3."""
    match = record(2, 0, 1, ROOT)
    for names, expected in (
        (["mx.example.com"], "mx.example.com"),
        (["other.test", "MX.example.COM."], "mx.example.com"),
        (["other.test"], None),
        ([], None),
    ):
        verdict = verify(CHAIN, match, names=names)
        assert verdict.name == expected
        assert verdict.failure is (None if expected else Failure.NAME_MISMATCH)


def test_a_common_name_counts_where_there_is_no_dns_id() -> None:
    match = record(2, 0, 1, ROOT)
    assert verify([issue("*.example.com", ROOT), ROOT], match).name == "mx.example.com"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.com")])
    other = issue(subject, ROOT, x509.SubjectAlternativeName([x509.DNSName("other.test")]))
    assert failure([other, ROOT], match) is Failure.NAME_MISMATCH


@pytest.mark.parametrize("name", ["pass", "mismatch"])
@pytest.mark.parametrize("dates", [{}, {"end": OLD}, {"start": END - timedelta(1)}])
@pytest.mark.parametrize("issuer", [ROOT, ca("Root"), STRANGER])
def test_dates_are_told_before_names_before_the_rest(name: str, dates: dict[str, Any], issuer: Issued) -> None:
    leaf = server(issuer, "mx.example.com" if name == "pass" else "other.test", **dates)
    expected = None if issuer is ROOT else Failure.UNTRUSTED_ISSUER if issuer is STRANGER else Failure.BAD_SIGNATURE
    if name == "mismatch":
        expected = Failure.NAME_MISMATCH
    if dates:
        expected = Failure.EXPIRED if "end" in dates else Failure.NOT_YET_VALID
    assert failure([leaf, ROOT], record(2, 0, 1, ROOT)) is expected


def test_a_certificate_that_can_not_be_read_spoils_only_itself() -> None:
    assert failure([LEAF, b"garbage", INTERMEDIATE, b"", ROOT], record(2, 0, 1, ROOT)) is None


def test_a_leaf_that_can_not_be_read_has_no_path() -> None:
    broken = LEAF.der.replace(b"\x55\x1d\x11", b"\x55\x1d\x13")
    assert failure([broken, INTERMEDIATE, ROOT], record(2, 0, 1, ROOT)) is Failure.MALFORMED_CERTIFICATE
    assert failure([broken], Tlsa(3, 0, 1, hashlib.sha256(broken).digest())) is None


# Misuse and limits


def test_no_chain_is_no_certificate() -> None:
    assert failure([], record(3, 1, 1, LEAF)) is Failure.NO_CERTIFICATE


def test_a_chain_has_as_many_certificates_and_octets_as_configured() -> None:
    match, octets = record(2, 0, 1, ROOT), sum(len(each.der) for each in CHAIN)
    assert failure(CHAIN, match, config=Config(max_chain_certificates=3, max_chain_octets=octets)) is None
    assert failure(CHAIN, match, config=Config(max_chain_certificates=2)) is Failure.CHAIN_TOO_LONG
    assert failure(CHAIN, match, config=Config(max_chain_octets=octets - 1)) is Failure.CHAIN_TOO_LONG


def test_too_much_work_is_a_failure() -> None:
    assert failure(CHAIN, record(2, 0, 1, ROOT), config=Config(max_signatures=1)) is Failure.TOO_MUCH_WORK


def test_a_naive_time_and_a_lone_name_are_misuse() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        verify(CHAIN, record(3, 1, 1, LEAF), now=NOW.replace(tzinfo=None))
    with pytest.raises(TypeError):
        verify(CHAIN, record(3, 1, 1, LEAF), names="mx.example.com")


def test_any_iterable_of_records_will_do() -> None:
    ders = [each.der for each in CHAIN]
    for records in ([record(3, 1, 1, LEAF)], iter([record(3, 1, 1, LEAF)])):
        assert dane.verify(ders, records, NAMES, now=NOW).authenticated
    assert dane.verify_raw_public_key(LEAF.spki, iter([record(3, 1, 1, LEAF)])).authenticated


# Raw public keys: RFC 7250, RFC 7671 section 5.1


@pytest.mark.parametrize("matching_type", [0, 1, 2])
def test_a_raw_public_key_matches_3_1_x(matching_type: int) -> None:
    match = record(3, 1, matching_type, LEAF)
    expected = Verdict.passed(Mechanism.DANE_EE, record=str(match), depth=0)
    assert dane.verify_raw_public_key(LEAF.spki, [match]) == expected


@pytest.mark.parametrize(
    ("spki", "tlsa", "expected"),
    [
        (LEAF.spki, [record(2, 1, 1, LEAF)], Failure.NO_TLSA_MATCH),
        (LEAF.spki, [record(3, 0, 1, LEAF), record(3, 0, 0, LEAF)], Failure.NO_TLSA_MATCH),
        (LEAF.spki, [record(3, 1, 1, ROOT)], Failure.NO_TLSA_MATCH),
        (LEAF.spki, [record(3, 1, 1, LEAF), record(3, 1, 2, ROOT)], Failure.NO_TLSA_MATCH),  # agility holds here too
        (LEAF.spki, [record(3, 1, 1, LEAF), Tlsa(3, 1, 2, bytes(63))], None),
        (LEAF.spki, [Tlsa(3, 0, 1, hashlib.sha256(LEAF.spki).digest())], Failure.NO_TLSA_MATCH),
        (LEAF.spki, [record(1, 1, 1, LEAF)], Failure.NO_USABLE_RECORDS),
        (LEAF.spki + b"\0", [Tlsa(3, 1, 1, hashlib.sha256(LEAF.spki + b"\0").digest())], Failure.MALFORMED_CERTIFICATE),
        (LEAF.der, [record(3, 0, 1, LEAF)], Failure.MALFORMED_CERTIFICATE),
        (b"", [record(3, 1, 1, LEAF)], Failure.NO_CERTIFICATE),
    ],
    ids=itertools.count(),  # every run has other keys, and the tests of one run the same names
)
def test_a_raw_public_key_matches_nothing_else(spki: bytes, tlsa: list[Tlsa], expected: Failure | None) -> None:
    assert dane.verify_raw_public_key(spki, tlsa).failure is expected


@pytest.mark.parametrize(
    ("tlsa", "safe"),
    [
        ([], False),
        ([record(3, 0, 1, LEAF)], False),
        ([record(3, 1, 1, LEAF)], True),
        ([record(3, 1, 1, LEAF), record(3, 1, 2, LEAF), record(3, 1, 0, LEAF)], True),
        ([record(3, 1, 1, LEAF), record(2, 0, 1, ROOT)], False),
        ([record(3, 1, 1, LEAF), record(3, 0, 1, LEAF)], False),
        ([record(3, 1, 1, LEAF), record(1, 1, 1, LEAF), Tlsa(3, 0, 1, b"")], True),  # unusable ones do not count
    ],
)
def test_raw_public_keys_are_offered_where_no_other_record_counts(tlsa: list[Tlsa], safe: bool) -> None:  # noqa: FBT001
    assert dane.raw_public_key_safe(tlsa) is safe


# Properties

RRSET = [
    record(3, 1, 1, LEAF),
    record(3, 1, 2, STRANGER),
    record(3, 0, 1, LEAF),
    record(2, 0, 1, INTERMEDIATE),
    record(2, 1, 1, ROOT),
    record(2, 1, 0, ROOT),
    record(2, 0, 0, ROOT),
    record(2, 0, 2, STRANGER),
]
TAIL = [
    INTERMEDIATE.der,
    ROOT.der,
    STRANGER.der,
    b"garbage",
    ca("Intermediate", STRANGER, key=INTERMEDIATE.key).der,
    ca("Intermediate", ROOT, key=INTERMEDIATE.key, end=OLD).der,
    ca("Root", key=ROOT.key).der,
    LEAF.der,
]
UNUSABLE = [
    Tlsa(1, 1, 1, hashlib.sha256(LEAF.spki).digest()),
    Tlsa(3, 1, 2, b""),
    Tlsa(3, 1, 7, bytes(64)),
    Tlsa(2, 0, 0, ROOT.der + b"\0"),
    Tlsa(200, 0, 0, b""),
]
SOME = st.lists(st.sampled_from(range(8)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(SOME, SOME, st.randoms(use_true_random=False))
def test_no_order_of_records_or_certificates_changes_the_verdict(records: list[int], tail: list[int], rnd: Any) -> None:
    rrset, chain = [RRSET[index] for index in records], [TAIL[index] for index in tail]
    expected = verify([LEAF, *chain], *rrset)
    rnd.shuffle(rrset)
    rnd.shuffle(chain)
    assert verify([LEAF, *chain], *rrset) == expected


def test_of_the_records_that_match_the_verdict_names_a_key_before_a_certificate_and_a_digest_before_the_whole() -> None:
    matching = [record(3, 1, 2, LEAF), record(3, 1, 0, LEAF), record(3, 0, 2, LEAF), record(3, 0, 0, LEAF)]
    while matching:
        assert verify([LEAF], *reversed(matching)).record == str(matching.pop(0))


@settings(max_examples=60, deadline=None)
@given(SOME.filter(bool), SOME, st.lists(st.sampled_from(UNUSABLE), max_size=3))
def test_an_unusable_record_changes_no_verdict(records: list[int], tail: list[int], unusable: list[Tlsa]) -> None:
    rrset, chain = [RRSET[index] for index in records], [LEAF.der, *(TAIL[index] for index in tail)]
    assert verify(chain, *unusable, *rrset) == verify(chain, *rrset)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([each.der for each in CHAIN]), max_size=4),
    st.lists(
        st.builds(Tlsa, st.integers(2, 3), st.integers(0, 1), st.integers(0, 2), st.binary(max_size=64)), max_size=3
    ),
    st.lists(st.text(max_size=20), max_size=2),
)
def test_random_octets_never_raise(chain: list[bytes], tlsa: list[Tlsa], names: list[str]) -> None:
    verdict = verify(chain, *tlsa, *(Tlsa(2, 0, 1, hashlib.sha256(each).digest()) for each in chain), names=names)
    assert verdict.authenticated is (verdict.failure is None)
    assert not dane.verify_raw_public_key(b"".join(chain), tlsa).authenticated
    dane.raw_public_key_safe(tlsa)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2), st.integers(0), st.integers(0, 255))
def test_an_altered_octet_never_raises_and_never_authenticates(which: int, at: int, octet: int) -> None:
    ders = [bytearray(each.der) for each in CHAIN]
    changed = ders[which][at % len(ders[which])] != octet
    ders[which][at % len(ders[which])] = octet
    verdict = verify([bytes(der) for der in ders], record(2, 0, 1, ROOT), record(3, 0, 1, LEAF))
    assert verdict.authenticated is not changed or which > 0
    verify([bytes(der) for der in ders], Tlsa(2, 0, 1, hashlib.sha256(bytes(ders[2])).digest()))


@pytest.mark.parametrize("time", ODD_TIMES.values(), ids=ODD_TIMES)
@pytest.mark.parametrize("end", ["not_before", "not_after"])
def test_a_date_that_is_none_is_malformed_wherever_it_stands(end: str, time: bytes) -> None:
    leaf, middle, root = (
        redated(LEAF, INTERMEDIATE, **{end: time}),
        redated(INTERMEDIATE, ROOT, **{end: time}),
        redated(ROOT, ROOT, **{end: time}),
    )
    for selector in (0, 1):
        assert failure([leaf, INTERMEDIATE, ROOT], record(2, selector, 1, ROOT)) is Failure.MALFORMED_CERTIFICATE
        assert failure([LEAF, middle, ROOT], record(2, selector, 1, ROOT)) is Failure.MALFORMED_CERTIFICATE
        assert failure([LEAF, INTERMEDIATE, root], record(2, selector, 1, root)) is Failure.MALFORMED_CERTIFICATE
    assert failure([LEAF, INTERMEDIATE, ROOT, leaf, middle, root], record(2, 0, 1, ROOT)) is None
    assert failure([leaf, middle, root], record(3, 0, 1, leaf)) is None
