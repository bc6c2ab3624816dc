"""A month of mail to a thousand domains: the totals of every report equal those of another count."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from mailtlspolicy import Config
from mailtlspolicy.tlsrpt import Aggregates
from mailtlspolicy.verdict import ResultType
from tests.month import (
    DAYS,
    DOMAINS,
    FIRST_DAY,
    KINDS,
    SEED,
    SOURCES,
    Kind,
    Visit,
    expected,
    report_of,
    reported,
    simulate,
    visits,
)

if TYPE_CHECKING:
    from tests.month import Count

# The reasons of the table in the specification that a static world can bring about; a TLS library's name for an error
# and the other words of `Failure` are left to test_tlsrpt_attribution.py
REASONS = {
    *("starttls-absent", "starttls-refused", "handshake-failed", "no-usable-records", "no-tlsa-match"),
    "handshake-failed: octets-behind-starttls",
    *("name-mismatch", "expired", "untrusted-issuer", "tlsa-lookup-failed", "alias-lookup-failed", "dane-required"),
    *("sts-mx-mismatch", "fetch-error", "webpki-invalid", "dns-error", "record-missing", "record-invalid"),
    *("policy-invalid: mode-missing", "policy-invalid: empty"),
}


@pytest.mark.parametrize("machine", [0, 1])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_delivery_of_each_kind_adds_what_the_kind_says(kind: Kind, machine: int) -> None:
    world = kind.world(["client.test"])
    world = evolve(world, connector=evolve(world.connector, sources=SOURCES[machine]))
    engine, counted = world.engine(Config(**kind.settings)), Aggregates()
    at = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    for number in range(len(kind.visits)):
        next_hop = kind.next_hop.replace("DOMAIN", "client.test")
        counted.add(engine.simulate(next_hop, now=at + timedelta(minutes=number), **kind.message))
    assert reported(map(report_of, counted)) == expected([Visit(kind, "client.test", at, machine)])


def test_a_month_of_two_machines_is_counted_right() -> None:
    month = list(visits(SEED))
    want = expected(month)
    assert {visit.kind for visit in month} == set(KINDS)
    assert len({visit.domain for visit in month}) == DOMAINS
    assert {visit.at.date() - FIRST_DAY for visit in month} == {timedelta(days=day) for day in range(DAYS)}
    assert {visit.at.time().isoformat() for visit in month} >= {"00:00:00", "23:59:59.999999"}
    reports, deliveries, held = simulate(SEED)
    assert deliveries >= len(month) > 10_000
    assert held > 10_000
    got = reported(reports)
    assert _parts(got, want) == {}
    assert got == want
    assert len({report.report_id for report in reports}) == len(reports)
    details = [what for *_, what in want if not isinstance(what, str)]
    assert {kind for kind, *_ in details} == set(map(str, ResultType))  # RFC8460-6.6-a: all eleven came about
    assert {reason for _, reason, *_ in details} == REASONS
    assert [report for report in reports if report.domain and report.domain.startswith("xn--bcher")]  # RFC8460-4.4-h


def _parts(got: Count, want: Count) -> dict[object, tuple[int, int]]:
    """Where two counts part, for people."""
    return {key: (got[key], want[key]) for key in got.keys() | want.keys() if got[key] != want[key]}


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_a_delivery_too_many_or_too_few_shows(times: int) -> None:
    kind = next(kind for kind in KINDS if kind.name == "testing, unlisted and untrusted")
    at = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    engine, counted = kind.world(["client.test"]).engine(), Aggregates()
    for _ in range(times):
        counted.add(engine.simulate("client.test", now=at))
    got, want = reported(map(report_of, counted)), expected([Visit(kind, "client.test", at, 0)] * 2)
    assert sum(got.values()) * 2 == sum(want.values()) * times  # of one session a failure and two details
    assert {key[:3] for key in got} <= {key[:3] for key in want}
