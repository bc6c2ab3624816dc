"""A short run of the comparison with libssl, and that the comparison would notice what it is for."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
from attrs import evolve

from mailtlspolicy.verdict import Failure, Mechanism, Verdict
from tests.differential.compare import EXCEPTIONS, Comparison, Summary, compare, explain, run
from tests.differential.generator import make_case
from tests.differential.libssl import MALFORMED_LEAF, libssl

SEED = 7672
COUNT = 1500


@pytest.fixture(scope="module")
def summary() -> Summary:
    return run(SEED, range(COUNT))


def test_libssl_and_we_agree_but_for_documented_exceptions(summary: Summary) -> None:
    assert summary.count == COUNT
    assert not summary.unexplained, "\n".join(summary.lines())


def test_the_cases_are_a_mix(summary: Summary) -> None:
    theirs: Counter[str] = Counter()
    for (outcome, _), count in summary.outcomes.items():
        theirs[outcome] += count
    assert 0.3 < summary.authenticated / COUNT < 0.5
    assert max(theirs.values()) < 0.4 * COUNT
    assert len(theirs) > 20


def test_a_case_is_the_same_wherever_it_is_made() -> None:
    assert [make_case(SEED, index) for index in (3, 1, 2)] == [make_case(SEED, index) for index in (3, 1, 2)]
    assert make_case(SEED, 1) != make_case(SEED + 1, 1)


def test_every_exception_has_its_clause() -> None:
    assert len({exception.name for exception in EXCEPTIONS}) == len(EXCEPTIONS)
    assert all(exception.clause.startswith("RFC ") and exception.why for exception in EXCEPTIONS)
    assert all(exception.applies or exception.rephrase for exception in EXCEPTIONS)


def test_a_wrong_verdict_is_noticed() -> None:
    """Every verdict turned round differs, and next to no exception excuses it."""
    unnoticed = Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(200):
            comparison = compare(make_case(SEED, index))
            if comparison.difference is not None:
                continue
            ours = (
                Verdict.failed(Failure.UNTRUSTED_ISSUER)
                if comparison.ours.authenticated
                else Verdict.passed(Mechanism.DANE_TA, depth=1, name=comparison.case.names[0])
            )
            turned = evolve(comparison, ours=ours)
            assert turned.difference == "authenticated"
            unnoticed.update(explain(turned))
    assert unnoticed.total() < 200 * 0.05, unnoticed


def test_a_wrong_depth_is_noticed() -> None:
    comparison = next(c for c in map(_compared, range(200)) if c.ours.mechanism is Mechanism.DANE_TA)
    wrong = evolve(comparison, ours=evolve(comparison.ours, depth=(comparison.ours.depth or 0) + 7))
    assert wrong.difference == "depth"
    assert not explain(wrong)


def test_libssl_reports_what_it_can_not_parse() -> None:
    case = make_case(SEED, 1)
    whole = libssl().verify(case.chain, case.tlsa, case.names, now=case.now)
    padded = libssl().verify((*case.chain, b"\x30\x00"), case.tlsa, case.names, now=case.now)
    assert padded == evolve(whole, malformed=(len(case.chain),))
    trailing = libssl().verify((case.chain[0] + b"\0",), case.tlsa, case.names, now=case.now)
    assert (trailing.error, trailing.malformed) == (MALFORMED_LEAF, (0,))


def test_libssl_takes_no_usage_that_smtp_does_not_know() -> None:
    case = make_case(SEED, 1)
    records = [(usage, 1, 1, bytes(32)) for usage in (0, 1, 2, 3, 4)]
    assert libssl().verify(case.chain, records, case.names, now=case.now).usable == (False, False, True, True, False)


def _compared(index: int) -> Comparison:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compare(make_case(SEED, index))
