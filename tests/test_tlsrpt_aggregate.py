"""What is counted of a day: the same however outcomes are split over machines, and exact whoever makes them."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy import Config
from mailtlspolicy.tlsrpt import (
    Aggregate,
    Aggregates,
    FailureDetails,
    Judgement,
    PolicyReport,
    PolicyType,
    Report,
    ReportedPolicy,
    sessions,
)
from mailtlspolicy.tlsrpt.aggregate import MAX_OCTETS
from mailtlspolicy.tlsrpt.reading import MAX_REPORT, Received, read_report
from mailtlspolicy.tlsrpt.values import MAX_COUNT
from tests.month import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mailtlspolicy import Outcome

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
PLAIN = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "client.test")


@cache
def outcomes() -> tuple[Outcome, ...]:
    """One outcome of every kind of traffic, most of them with client.test, on two days."""
    found = []
    for kind in KINDS:
        engine, to = kind.world(["client.test"]).engine(Config(**kind.settings)), kind.next_hop
        found.append(engine.simulate(to.replace("DOMAIN", "client.test"), now=NOON, **kind.message))
    return (*found, *(evolve(outcome, at=outcome.at + timedelta(days=1)) for outcome in found[::3]))


def counted(of: Iterable[Outcome]) -> Aggregates:
    aggregates = Aggregates()
    for outcome in of:
        aggregates.add(outcome)
    return aggregates


def merged(*parts: Iterable[Aggregate]) -> Aggregates:
    whole = Aggregates()
    for part in parts:
        whole.merge(part)
    return whole


def through_json(value: Any) -> Any:
    return type(value).from_json(json.loads(json.dumps(value.to_json())))


def session(domain: str = "client.test", *reasons: str, policy: ReportedPolicy = PLAIN) -> tuple[Judgement, ...]:
    """A session with these failures."""
    details = [
        FailureDetails(result_type="validation-failure", failure_reason_code=reason, receiving_mx_hostname=domain)
        for reason in reasons
    ]
    return (Judgement(policy, bool(reasons), details),)


def totals(aggregate: Aggregate) -> Counter[str]:
    """Successes and failures by policy type, and details by result type: what no bound may change."""
    found: Counter[str] = Counter()
    for policy in aggregate.policies:
        found[f"{policy.policy.type} good"] += policy.successful or 0
        found[f"{policy.policy.type} bad"] += policy.failed or 0
        for details, count in policy.failures:
            found[f"{policy.policy.type} {details.result_type}"] += count or 0
    return found


# --- adding up

numbers = st.lists(st.integers(0, len(KINDS) - 1 + len(KINDS) // 3), max_size=25)


@settings(max_examples=60)
@given(numbers, st.integers(0, 25), st.integers(0, 25), st.randoms(use_true_random=False))
def test_it_does_not_matter_how_outcomes_are_split(chosen: list[int], cut: int, second: int, chance: Any) -> None:
    some = [outcomes()[number] for number in chosen]
    first, last = sorted((cut, second))
    whole = counted(some)
    parts = [counted(some[:first]), counted(some[first:last]), counted(some[last:])]
    one, two, three = parts
    before = [part.to_json() for part in parts]
    assert merged(one, two, three) == whole
    assert merged(three, one, two) == whole  # commutative
    assert merged(one, merged(two, three)) == merged(merged(one, two), three) == whole  # associative
    assert merged(*map(through_json, parts)) == whole
    assert merged(*pickle.loads(pickle.dumps(parts))) == whole
    assert [part.to_json() for part in parts] == before, "what is merged does not change"
    chance.shuffle(some)
    again = counted(some)
    assert again == whole
    assert json.dumps(again.to_json()) == json.dumps(whole.to_json()), "nor do its documents"


def test_nothing_changes_by_merging_nothing() -> None:
    whole = counted(outcomes())
    assert merged(whole, Aggregates(), []) == whole == merged(Aggregates(), whole)
    assert list(merged(whole)) == list(whole)


def test_what_is_merged_with_itself_is_twice_as_much() -> None:
    whole = counted(outcomes())
    twice = counted([*outcomes(), *outcomes()])
    whole.merge(whole)
    assert whole == twice
    for aggregate in counted(outcomes()):
        double = through_json(aggregate)
        double.merge(double)
        assert totals(double) == Counter({name: 2 * count for name, count in totals(aggregate).items()})


def test_a_merged_aggregate_is_independent_of_its_parts() -> None:
    part = counted(outcomes()[:5])
    whole = merged(part)
    before = part.to_json()
    whole.merge(counted(outcomes()))
    assert part.to_json() == before


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind.name for kind in KINDS])
def test_one_outcome_adds_its_sessions(number: int) -> None:
    outcome = outcomes()[number]
    aggregates = counted([outcome])
    if not sessions(outcome):
        assert (len(aggregates), list(aggregates)) == (0, [])  # no trace
        return
    (aggregate,) = aggregates
    good = [judgement for held in sessions(outcome) for judgement in held if not judgement.failed]
    bad = [judgement for held in sessions(outcome) for judgement in held if judgement.failed]
    assert sum(policy.successful or 0 for policy in aggregate.policies) == len(good)
    assert sum(policy.failed or 0 for policy in aggregate.policies) == len(bad)
    told = sum(len(judgement.failures) for judgement in (*good, *bad))
    assert sum(count or 0 for policy in aggregate.policies for _, count in policy.failures) == told
    alone = Aggregate(aggregate.domain, aggregate.day)
    alone.add(outcome)
    assert alone == aggregate


# --- days and domains


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-03-01T00:00:00+00:00", "2026-03-01"),
        ("2026-03-01T23:59:59.999999+00:00", "2026-03-01"),
        ("2026-03-02T00:00:00+00:00", "2026-03-02"),
        ("2026-03-02T01:59:59+02:00", "2026-03-01"),  # RFC8460-4.1-a: the zone of a clock has no effect
        ("2026-02-28T20:00:00-05:00", "2026-03-01"),
        ("2026-03-29T02:30:00+01:00", "2026-03-29"),
    ],
)
def test_a_day_is_one_of_utc(at: str, day: str) -> None:
    (kind,) = (kind for kind in KINDS if kind.name == "plain")
    outcome = kind.world(["client.test"]).engine().simulate("client.test", now=datetime.fromisoformat(at))
    assert [aggregate.day for aggregate in counted([outcome])] == [date.fromisoformat(day)]


def test_the_wrong_domain_or_day_is_refused() -> None:
    outcome = outcomes()[0]
    for wrong in (
        Aggregate("other.test", DAY),
        Aggregate("sub.client.test", DAY),
        Aggregate("client.test", DAY + timedelta(days=1)),
        Aggregate("client.test", DAY - timedelta(days=1)),
    ):
        with pytest.raises(ValueError, match="is not of"):
            wrong.add(outcome)
        with pytest.raises(ValueError, match="does not belong to"):
            wrong.merge(Aggregate("client.test", DAY))
        assert wrong.policies == ()
    right = Aggregate("Client.TEST.", DAY)
    right.add(outcome)
    assert right.domain == "client.test"
    with pytest.raises(ValueError, match=r"\S"):
        Aggregate("a@b", DAY)


def test_an_address_has_no_aggregate() -> None:
    (kind,) = (kind for kind in KINDS if kind.name == "a literal")
    outcome = kind.world(["client.test"]).engine().simulate("[192.0.2.1]", now=NOON)
    with pytest.raises(ValueError, match="is not of"):
        Aggregate("client.test", DAY).add(outcome)
    assert len(counted([outcome])) == 0


def test_what_is_due_is_taken_once() -> None:
    aggregates = counted(outcomes())
    whole = {(aggregate.day, aggregate.domain) for aggregate in aggregates}
    assert {day for day, _ in whole} == {DAY, DAY + timedelta(days=1)}
    assert aggregates.take(DAY) == []
    taken = aggregates.take(DAY + timedelta(days=1))
    assert {(aggregate.day, aggregate.domain) for aggregate in taken} == {key for key in whole if key[0] == DAY}
    assert taken == [aggregate for aggregate in counted(outcomes()) if aggregate.day == DAY]  # in their order
    assert aggregates.take(DAY + timedelta(days=1)) == []
    assert {aggregate.day for aggregate in aggregates} == {DAY + timedelta(days=1)}
    rest = aggregates.take(date.max)
    assert len(taken) + len(rest) == len(whole)
    assert (len(aggregates), list(aggregates)) == (0, [])
    aggregates.merge([*taken, *rest])  # what could not be reported is put back
    assert aggregates == counted(outcomes())


def test_aggregates_come_by_day_and_domain() -> None:
    keys = [(aggregate.day, aggregate.domain) for aggregate in counted(reversed(outcomes()))]
    assert keys == sorted(set(keys))


# --- the JSON form


def test_the_json_form() -> None:
    aggregate = Aggregate("client.test", DAY)
    aggregate.count(session("client.test", "expired"))
    aggregate.count(session())
    data = {
        "version": 1,
        "domain": "client.test",
        "day": "2026-03-01",
        "policies": [
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "client.test"},
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 1},
                "failure-details": [
                    {
                        "result-type": "validation-failure",
                        "receiving-mx-hostname": "client.test",
                        "failure-reason-code": "expired",
                        "failed-session-count": 1,
                    }
                ],
            }
        ],
    }
    assert aggregate.to_json() == data
    assert Aggregate.from_json(data) == aggregate
    assert counted([]).to_json() == {"version": 1, "aggregates": []}
    assert Aggregates.from_json({"version": 1, "aggregates": [data]}).to_json() == {"version": 1, "aggregates": [data]}
    with pytest.raises(ValueError, match="version 2"):
        Aggregates.from_json({"version": 2, "aggregates": [data]})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("domain",), "a@b"),
        (("domain",), None),
        (("day",), "yesterday"),
        (("day",), 20260301),
        (("policies",), None),
        (("policies", 0, "policy", "policy-type"), "dane"),
        (("policies", 0, "policy", "policy-string"), "text"),
        (("policies", 0, "summary", "total-successful-session-count"), "1"),
        (("policies", 0, "summary", "total-failure-session-count"), -1),
        (("policies", 0, "summary", "total-failure-session-count"), True),
        (("policies", 0, "summary", "total-failure-session-count"), 1.5),
        (("policies", 0, "failure-details", 0, "failed-session-count"), None),
        (("policies", 0, "failure-details", 0, "unknown"), "x"),
        (("policies", 0, "failure-details", 0), []),
    ],
)
def test_what_is_no_aggregate_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    aggregate = Aggregate("client.test", DAY)
    aggregate.count(session("client.test", "expired"))
    data = json.loads(json.dumps(aggregate.to_json()))
    within: Any = data
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        Aggregate.from_json(data)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths to everything inside."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in pairs for found in ((*path, key), *places(inner, (*path, key)))]


def test_odd_json_is_refused_or_read_and_never_worse() -> None:
    aggregate = Aggregate("client.test", DAY)
    policy = ReportedPolicy(PolicyType.TLSA, "mx.client.test", ["3 1 1 aa"], ["mx.client.test"])
    aggregate.count(session("client.test", "expired", policy=policy))
    for path in places(aggregate.to_json()):
        odd: Any
        for odd in (None, 5, -1, 1.5, True, "x", [], ["x"], [[]], {}, {"x": []}, 2**70):
            data: Any = json.loads(json.dumps(aggregate.to_json()))
            within = data
            for key in path[:-1]:
                within = within[key]
            within[path[-1]] = odd
            try:
                read = Aggregate.from_json(data)
            except (KeyError, TypeError, ValueError):
                continue
            json.dumps(read.to_json())
            hash(read.policies)


# --- bounds


def hostile_policies(count: int, length: int) -> Iterable[tuple[Judgement, ...]]:
    """A new policy text for each session, every third of them a success."""
    for number in range(count):
        text = f"{number} ".ljust(length, "\x00")
        policy = ReportedPolicy(PolicyType.STS, "client.test", [text], ["*.client.test"])
        yield session("client.test", *(["expired"] if number % 3 else []), policy=policy)


def hostile_names(count: int, character: str) -> Iterable[tuple[Judgement, ...]]:
    """A new name in EHLO for each session."""
    for number in range(count):
        helo = f"{number}.".ljust(253, character)
        details = FailureDetails(
            result_type="certificate-not-trusted" if number % 2 else "validation-failure",
            sending_mta_ip="2001:db8::1",
            receiving_mx_hostname="mx.client.test",
            receiving_mx_helo=helo,
            failure_reason_code="untrusted-issuer",
        )
        yield (Judgement(PLAIN, True, [details]),)


def hostile_lines(count: int, lines: int) -> Iterable[tuple[Judgement, ...]]:
    for number in range(count):
        policy = ReportedPolicy(PolicyType.STS, "client.test", [str(number), *["a"] * lines])
        yield session("client.test", "expired", policy=policy)


def hostile_hosts(count: int) -> Iterable[tuple[Judgement, ...]]:
    """A new MX host, with records of its own, for each session."""
    for number in range(count):
        policy = ReportedPolicy(PolicyType.TLSA, f"{number}.test", ["3 1 1 " + "ab" * 32], [f"{number}.test"])
        yield session("client.test", policy=policy)


def hostile_crumbs() -> Iterable[tuple[Judgement, ...]]:
    """Shorter and shorter reasons, until nothing more fits however short it is, and then the same of another type."""
    for number in range(24_000):
        reason = f"{number}".ljust(max(1, 600 - number // 30), "x")
        kind = "validation-failure" if number % 2 else "certificate-not-trusted"
        details = FailureDetails(result_type=kind, failure_reason_code=reason)
        policy = ReportedPolicy(PolicyType.STS, "client.test", ["x"]) if number % 3 else PLAIN
        yield (Judgement(policy, True, [details]),)


ATTACKS: dict[str, Callable[[], Iterable[tuple[Judgement, ...]]]] = {
    "crumbs": hostile_crumbs,
    "policies": lambda: hostile_policies(200, 60_000),
    "names": lambda: hostile_names(25_000, "\\"),
    "names beyond ASCII": lambda: hostile_names(15_000, "\ufffd"),
    "lines": lambda: hostile_lines(60, 30_000),
    "hosts": lambda: hostile_hosts(60_000),
}


def report_of(aggregate: Aggregate) -> Report:
    return Report.of(aggregate, organization_name="S", contact_info="a@b.test")


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_an_enemy_can_make_grow_is_bounded_and_counted_right(attack: str) -> None:
    aggregate, exact = Aggregate("client.test", DAY), Counter[str]()
    for held in ATTACKS[attack]():
        aggregate.count(held)
        for judgement in held:
            exact[f"{judgement.policy.type} {'bad' if judgement.failed else 'good'}"] += 1
            exact.update(f"{judgement.policy.type} {details.result_type}" for details in judgement.failures)
    assert +totals(aggregate) == exact
    written = report_of(aggregate).to_bytes()
    assert len(written) <= MAX_REPORT, "readers take it"
    assert len(aggregate.policies) + sum(len(policy.failures) for policy in aggregate.policies) < 30_000
    read = read_report(written)
    assert isinstance(read, Received)
    assert read.report.policies == aggregate.policies
    again = through_json(aggregate)
    assert again == aggregate, "a restart takes nothing away"
    assert again.to_json() == aggregate.to_json()
    (held, *_) = ATTACKS[attack]()
    for full in (aggregate, again):
        full.count(held)  # what is known is still counted by itself
    assert again == aggregate
    assert len(report_of(aggregate).to_bytes()) < len(written) + 100


@pytest.mark.parametrize("attack", ["policies", "names"])
def test_totals_are_exact_when_full_aggregates_are_merged(attack: str) -> None:
    parts = [Aggregate("client.test", DAY) for _ in range(3)]
    for number, held in enumerate(ATTACKS[attack]()):
        parts[number % 3].count(held)
    exact = sum(map(totals, parts), Counter[str]())
    for order in ((0, 1, 2), (2, 0, 1)):
        whole = Aggregate("client.test", DAY)
        for number in order:
            whole.merge(parts[number])
        assert totals(whole) == exact
        assert len(report_of(whole).to_bytes()) <= MAX_REPORT


def test_a_large_honest_domain_is_told_in_full() -> None:
    aggregate, kinds = Aggregate("client.test", DAY), 0
    for host in range(50):
        for rollover in range(3):
            records = [f"3 1 1 {rollover:064x}", f"3 1 1 {rollover + 1:064x}"]
            policy = ReportedPolicy(PolicyType.TLSA, f"mx{host}.test", records, [f"mx{host}.test"])
            for ours in range(20):
                reasons = [f"{reason}{ours}" for reason in ("no-tlsa-match", "expired", "handshake-failed: ")]
                aggregate.count(session("client.test", *reasons, policy=policy))
                kinds += 3
    lines = ["version: STSv1", *(f"mx: mx{host}.test" for host in range(2000))]
    aggregate.count(session(policy=ReportedPolicy(PolicyType.STS, "client.test", lines, lines)))
    assert len(aggregate.policies) == 151
    assert sum(len(policy.failures) for policy in aggregate.policies) == kinds == 9000
    assert all(details.failure_reason_code for policy in aggregate.policies for details, _ in policy.failures)
    assert len(report_of(aggregate).to_bytes()) < MAX_OCTETS


def test_what_does_not_fit_counts_for_its_type_alone() -> None:
    aggregate = Aggregate("client.test", DAY)
    for held in ATTACKS["policies"]():
        aggregate.count(held)
    (nameless,) = (policy for policy in aggregate.policies if not policy.policy.string)
    assert nameless.policy == ReportedPolicy(PolicyType.STS, "client.test")
    assert (nameless.successful or 0) + (nameless.failed or 0) > 0
    named = [policy for policy in aggregate.policies if policy.policy.string]
    assert sum((policy.successful or 0) + (policy.failed or 0) for policy in named) == len(named)


def test_an_ordinary_domain_beside_a_hostile_one_loses_nothing() -> None:
    aggregates = Aggregates()
    aggregates.merge([_full("evil.test")])
    for outcome in outcomes():
        aggregates.add(outcome)
    assert [one for one in aggregates if one.domain != "evil.test"] == list(counted(outcomes()))


def _full(domain: str) -> Aggregate:
    aggregate = Aggregate(domain, DAY)
    for held in ATTACKS["policies"]():
        aggregate.count(held)
    return aggregate


def test_counts_end_where_i_json_does() -> None:  # RFC 7493 section 2.2, RFC8460-4-a
    aggregate = Aggregate("client.test", DAY)
    aggregate.count(session("client.test", "expired"))
    aggregate.count(session())
    for _ in range(60):
        aggregate.merge(aggregate)
    (policy,) = aggregate.policies
    assert (policy.successful, policy.failed, policy.failures[0][1]) == (MAX_COUNT, MAX_COUNT, MAX_COUNT)
    assert MAX_COUNT == 2**53 - 1
    assert through_json(aggregate).policies == aggregate.policies
    assert isinstance(read_report(report_of(aggregate).to_bytes()), Received)


# --- order


def in_order(policies: Sequence[PolicyReport]) -> bool:
    """By type, domain, MX hosts and text; details by type, hostname, address, source, reason and EHLO name."""
    types = ["tlsa", "sts", "no-policy-found"]
    keys = []
    for policy in policies:
        said = policy.policy
        keys.append((types.index(str(said.type)), said.domain or "", said.mx_host, said.string))
        members = ("result_type", "receiving_mx_hostname", "receiving_ip", "sending_mta_ip", "failure_reason_code")
        details = [
            tuple(getattr(each, member) or "" for member in (*members, "receiving_mx_helo"))
            for each, _ in policy.failures
        ]
        if details != sorted(set(details)):
            return False
    return keys == sorted(set(keys))


def test_the_order_is_always_the_same() -> None:
    for aggregate in counted(outcomes()):
        assert in_order(aggregate.policies)
    assert max(len(aggregate.policies) for aggregate in counted(outcomes())) > 10
    some = [session("client.test", reason, policy=policy) for policy in _many() for reason in ("b", "a", "c")]
    forward, backward = Aggregate("client.test", DAY), Aggregate("client.test", DAY)
    for held in some:
        forward.count(held)
    for held in reversed(some):
        backward.count(held)
    assert in_order(forward.policies)
    assert forward.policies == backward.policies
    assert [str(policy.policy.type) for policy in forward.policies] == ["tlsa"] * 3 + ["sts"] * 3 + ["no-policy-found"]


def test_details_that_differ_in_the_senders_address_alone_have_an_order_too() -> None:
    details = [FailureDetails(result_type="expired", sending_mta_ip=f"192.0.2.{last}") for last in (2, 1, 3)]
    policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "client.test")
    aggregate = Aggregate("client.test", DAY)
    for each in details:
        aggregate.count((Judgement(policy, True, (each,)),))
    (found,) = aggregate.policies
    assert [each.sending_mta_ip for each, _ in found.failures] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def _many() -> list[ReportedPolicy]:
    return [
        ReportedPolicy(PolicyType.NO_POLICY_FOUND, "client.test"),
        ReportedPolicy(PolicyType.STS, "client.test", ["b"], ["mx.test"]),
        ReportedPolicy(PolicyType.STS, "client.test", ["c"], ["a.test"]),
        ReportedPolicy(PolicyType.STS, "client.test", ["a"], ["mx.test"]),
        ReportedPolicy(PolicyType.TLSA, "b.test", ["3 1 1 aa"], ["a.test"]),
        ReportedPolicy(PolicyType.TLSA, "a.test", ["3 1 1 aa"], ["b.test"]),
        ReportedPolicy(PolicyType.TLSA, "a.test", ["3 1 1 bb"], ["a.test"]),
    ]
