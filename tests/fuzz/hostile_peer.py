"""Peers and publishers that send whatever they like, and what must hold of the verdict all the same."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from attrs import evolve

from mailtlspolicy import Config, dane, names, pkix
from mailtlspolicy.identity import first_match, matches
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.verdict import Mechanism, Verdict
from mailtlspolicy.x509.certificates import Certificate, is_certificate, is_public_key, skeleton
from mailtlspolicy.x509.pem import certificate_to_pem, certificates_from_pem
from tests.differential import der
from tests.differential.certificates import (
    COMMON_NAME,
    DAY,
    NOW,
    ORGANIZATION,
    Spec,
    alternative_names,
    basic_constraints,
    directory_name,
    distinguished_name,
    dns_name,
    mailbox,
    name_constraints,
)
from tests.differential.compare import Comparison, compare, explain
from tests.differential.generator import DECOYS, HOSTS, Case, digest_data, make_case
from tests.differential.keys import key_pool
from tests.fuzz.mutation import mutated, mutated_der

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random
    from types import FrameType

AT = datetime.fromtimestamp(NOW, timezone.utc)
CONFIG = Config()
NAME_ALPHABET = "aZ09-_.*. xn--büßİ\u0131。\0/:@[]%\u0301\u200d\ud800"
TLSA_ALPHABET = "0123 abcDEF\\#()\t;\n-3 1 1 PKIX-TA DANE-EE Full SHA2-256 é٣"


def mangled_chain(random: Random) -> None:
    """Chains of the differential generator, damaged before and after they are signed, compared with libssl."""
    case = make_case(
        random.randrange(2**32), 0, (lambda tbs: mutated_der(random, tbs)) if random.random() < 0.7 else None
    )
    if random.random() < 0.5:
        at = random.randrange(len(case.chain))
        damage = random.choice((mutated, mutated_der))
        case = evolve(case, chain=(*case.chain[:at], damage(random, case.chain[at]), *case.chain[at + 1 :]))
    if random.random() < 0.15:
        at = random.randrange(len(case.tlsa))
        usage, selector, matching_type, data = case.tlsa[at]
        record = usage, selector, matching_type, mutated(random, data)
        case = evolve(case, tlsa=(*case.tlsa[:at], record, *case.tlsa[at + 1 :]))
    comparison = compare(case)
    check_against_libssl(comparison)
    check(comparison.ours)
    tail = random.sample(case.chain[1:], len(case.chain) - 1)
    records = [Tlsa(*record) for record in random.sample(case.tlsa, len(case.tlsa))]
    again = dane.verify([case.chain[0], *tail, *tail[:1]], records, case.names, now=AT)
    assert again == comparison.ours, "the order decides"
    trusted = [octets for octets in case.chain[1:] if Certificate.parse(octets) is not None]
    check(pkix.verify(case.chain, pkix.TrustStore(trusted), case.names[0], now=AT))


def crowded_chain(random: Random) -> None:
    """As many certificates as are let in, all of which may have issued each other."""
    keys = random.sample(key_pool()["p256"], random.choice((1, 2, 3)))
    subjects = [distinguished_name([(COMMON_NAME, f"CA {at}")]) for at in range(random.choice((1, 2, 4)))]
    issuers = [Spec(random.choice(subjects), random.choice(keys), serial=at) for at in range(random.randrange(2, 70))]
    for spec in issuers:
        spec.extensions["bc"] = basic_constraints(ca=True)
        spec.issuer = random.choice(issuers)
        spec.signer = random.choice([None, random.choice(keys)])
        spec.encoded = None
    leaf = Spec(distinguished_name([]), keys[0], issuers[0])
    leaf.extensions["san"] = alternative_names([dns_name(HOSTS[0])])
    anchor = random.choice(issuers)
    anchor.extensions["bc"] = basic_constraints(ca=random.random() < 0.5)
    tlsa = [Tlsa(2, 0, 1, digest_data(1, anchor.der())), *(Tlsa(2, 1, 0, key.spki) for key in keys[:-1])]
    with counted_signatures():
        check(dane.verify([leaf.der(), *(spec.der() for spec in issuers)], tlsa, HOSTS[:1], now=AT))


def constrained_chain(random: Random) -> None:
    """As many names and name constraints as fit into a chain."""
    keys = key_pool()["p256"]
    count = random.choice((10, 100, 300, 600))
    kinds: list[Callable[[int], bytes]] = [
        lambda at: dns_name(f"a{at}.example.com"),
        lambda at: mailbox(f"a{at}@example.com"),
        lambda at: directory_name(distinguished_name([(ORGANIZATION, "O"), (COMMON_NAME, f"a{at}")])),
    ]
    kind = random.choice(kinds)
    presented, bases = [kind(at) for at in range(count)], [kind(-1 - at) for at in range(count)]
    above = None
    path: list[Spec] = []
    for at in range(random.choice((1, 2, 4))):
        above = Spec(distinguished_name([(COMMON_NAME, f"CA {at}")]), keys[at], above)
        above.extensions["bc"] = basic_constraints(ca=True)
        above.extensions["nc"] = name_constraints([], bases) if random.random() < 0.7 else name_constraints(bases)
        if random.random() < 0.3:
            above.extensions["san"] = alternative_names(presented)
        path.insert(0, above)
    leaf = Spec(distinguished_name([]), keys[-1], above)
    leaf.extensions["san"] = alternative_names([dns_name(HOSTS[0]), *presented])
    case = Case(0, (leaf.der(), *(s.der() for s in path)), ((2, 0, 1, digest_data(1, path[-1].der())),), HOSTS[:1], ())
    with counted_signatures():
        check(dane.verify(case.chain, [Tlsa(*record) for record in case.tlsa], case.names, now=AT))


def dated_chain(random: Random) -> None:
    """Times that are none, or of another age, and serial numbers of any kind in every certificate of a chain."""
    keys = key_pool()["p256"]
    above = None
    path: list[Spec] = []
    for at in range(random.choice((1, 2, 3, 4))):
        above = Spec(distinguished_name([(COMMON_NAME, f"CA {at}")]), keys[at], above)
        above.extensions["bc"] = basic_constraints(ca=True)
        path.insert(0, above)
    leaf = Spec(distinguished_name([]), keys[-1], above)
    leaf.extensions["san"] = alternative_names([dns_name(HOSTS[0])])
    path.insert(0, leaf)
    odd = [spec for spec in path if random.random() < 0.4]
    for spec in odd:
        spec.times = der.sequence(_any_time(random), _any_time(random))
        spec.serial = random.choice((spec.serial, 0, -1, -(2**70), 2**158, 2**400))
    chain = tuple(spec.der() for spec in path)
    anchor = random.choice(path[1:])
    contents = (anchor.der(), anchor.key.spki)
    tlsa = tuple((2, at, 1, digest_data(1, contents[at])) for at in random.choice(((0,), (1,), (0, 1))))
    comparison = compare(Case(0, chain, tlsa, HOSTS[:1], ()))
    check_against_libssl(comparison)
    check(comparison.ours)
    assert comparison.ours.authenticated or odd
    assert dane.verify(chain, [Tlsa(3, 0, 1, digest_data(1, chain[0]))], [], now=AT).authenticated
    trust = pkix.TrustStore.of_anchors(("anchor", octets) for octets in chain[1:])
    assert len(trust.certificates) + len(trust.left_out) == len(chain) - 1
    verdict = pkix.verify(chain, trust, HOSTS[0], now=AT)
    check(verdict)
    assert verdict.authenticated or odd


def _any_time(random: Random) -> bytes:
    year = random.choice((0, 0, 1, 1900, 1950, 2025, 2026, 2027, 2049, 2050, 9999, random.randrange(10_000)))
    digits = f"{random.choice((0, 1, 2, 6, 12, 13)):02}{random.choice((0, 1, 28, 30, 31)):02}"
    clock = f"{random.choice((0, 23, 24)):02}{random.choice((0, 59, 60)):02}{random.choice(('00', '59', '60', ''))}"
    tag, text = random.choice(((0x17, f"{year % 100:02}"), (0x18, f"{year:04}")))
    end = random.choice(("Z", "Z", "Z", "Z", "", "+0000", ".5Z"))
    usual = der.time(NOW + random.choice((-400, -1, 1, 400)) * DAY)
    return usual if random.random() < 0.4 else der.tlv(tag, f"{text}{digits}{clock}{end}".encode())


def certificates(random: Random) -> None:
    """Octets that are nearly a certificate or a key: a value, or a `ValueError`."""
    case = make_case(random.randrange(2**32), 0)
    octets = random.choice((mutated, mutated_der))(random, random.choice(case.chain))
    if random.random() < 0.05:
        octets = random.randbytes(random.randrange(60))
    try:
        parts = skeleton(octets)
        assert all(part in octets for part in parts)
    except ValueError:
        assert Certificate.parse(octets) is None
        return
    is_certificate(octets)
    is_public_key(mutated(random, parts.key))
    certificate = Certificate.parse(octets)
    if certificate is not None:
        assert certificate.key is None or certificate.extensions is None or certificate.subject is not None
    check(dane.verify_raw_public_key(parts.key, [Tlsa(3, 1, 1, digest_data(1, parts.key))]))
    text = certificate_to_pem(octets)
    assert certificates_from_pem(text) == (octets,)
    damaged = mutated(random, text.encode()).decode("latin-1")
    refuses_only_by_value_error(lambda: certificates_from_pem(damaged))
    refuses_only_by_value_error(lambda: pkix.TrustStore.from_pem(damaged.encode("latin-1")))


def tlsa_records(random: Random) -> None:
    """TLSA text and RDATA: a record or a `ValueError`, and a record is its own text."""
    text = "".join(random.choices(TLSA_ALPHABET, k=random.randrange(60)))
    if random.random() < 0.6:
        text = f"{random.randrange(5)} {random.randrange(3)} {random.randrange(4)} {random.randbytes(32).hex()}"
        text = mutated(random, text.encode()).decode("latin-1")
    refuses_only_by_value_error(lambda: Tlsa.parse(text))
    rdata = random.randbytes(random.choice((0, 1, 2, 3, 4, 35, 67)))
    if len(rdata) > 2:
        rdata = bytes((*random.choices(range(4), k=3), *rdata[3:]))
    if len(rdata) < 3:
        refuses_only_by_value_error(lambda: Tlsa.from_rdata(rdata))
        return
    records = TlsaRRset([Tlsa.from_rdata(rdata), Tlsa(3, 1, 1, bytes(32)), Tlsa(2, 0, 2, bytes(64))])
    assert all(Tlsa.parse(str(record)) == record for record in records)
    assert TlsaRRset.from_json(json.loads(json.dumps(records.to_json()))) == records
    assert set(records.considered(CONFIG)) <= set(records.usable(CONFIG)) <= set(records)
    case = make_case(random.randrange(2**32), 0)
    check(dane.verify(case.chain, records, case.names, now=AT))


def identifiers(random: Random) -> None:
    """Names on both sides of a match: never an exception, and nothing but a wildcard matches another name."""
    presented, reference = (
        "".join(random.choices(NAME_ALPHABET, k=random.choice((0, 1, 5, 20, 64, 300))))
        if random.random() < 0.5
        else mutated(random, random.choice((*HOSTS, *DECOYS)).encode()).decode("latin-1")
        for _ in range(2)
    )
    if matches(presented, reference):
        assert "*" in presented or presented.lower() == names.canonical(reference)
        assert first_match([reference, presented], [reference]) == names.canonical(reference)
    refuses_only_by_value_error(lambda: names.canonical(presented))
    case = make_case(random.randrange(2**32), 0)
    check(dane.verify(case.chain, [Tlsa(*r) for r in case.tlsa], [presented, reference], now=AT))
    try:
        canonical = names.canonical(presented)
    except ValueError:
        return
    assert names.canonical(canonical) == canonical
    assert matches(canonical, presented)


# what must hold


def check_against_libssl(comparison: Comparison) -> None:
    """Whom libssl does not authenticate we do not, or it is one of the documented exceptions.

    `cryptography` takes some certificates that libssl does not parse, such as one with a UTCTime for a Common Name.
    There is no answer to compare with for such a leaf; others, presented or published, are left out.
    """
    case, refused = comparison.case, comparison.libssl.malformed
    if comparison.ours.mechanism is Mechanism.DANE_TA:
        chain = tuple(octets for at, octets in enumerate(case.chain) if at not in refused)
        known = zip(case.tlsa, comparison.libssl.usable, strict=True)
        tlsa = tuple(record for record, usable in known if usable or record[:3] != (2, 0, 0))
        if 0 in refused or not tlsa:
            return
        comparison = compare(evolve(case, chain=chain, tlsa=tlsa))
    if comparison.ours.authenticated and comparison.difference is not None:
        assert explain(comparison), comparison.outcomes


def check(verdict: Verdict) -> None:
    """A verdict is one of the two kinds, and is its own JSON."""
    assert verdict.authenticated == verdict.satisfied == (verdict.failure is None)
    assert verdict.authenticated == (verdict.mechanism is not None)
    assert verdict.failure is None or verdict.failure.tlsrpt is verdict.tlsrpt
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@contextmanager
def counted_signatures() -> Iterator[None]:
    """Count the calls of `verify` of keys of `cryptography`, and hold them against `Config.max_signatures`."""
    count = 0

    def profile(_: FrameType, event: str, function: Any) -> None:
        nonlocal count
        if event == "c_call" and function.__name__ == "verify":
            count += 1

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert count <= CONFIG.max_signatures, f"{count} signatures were checked"


def refuses_only_by_value_error(call: Callable[[], object]) -> None:
    """The call returns, or raises `ValueError`."""
    try:
        call()
    except ValueError:
        return
