"""Refreshing: when, how much at once, what is reported, and what a store that misbehaves does to it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve, field, fields, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy import AsyncEngine, Config, World
from mailtlspolicy.sts import Entry, StsFailure
from mailtlspolicy.sts.cache import BACK_OFF, MAX_AHEAD, FailedFetch
from mailtlspolicy.sts.effects import Fetch, FetchFailure, FetchFailureKind, PolicyPage, StoreFailure
from mailtlspolicy.sts.policy import MAX_MAX_AGE, Mode
from mailtlspolicy.sts.refresh import (
    DISUSE,
    GRACE,
    INTERVAL,
    MAX_PAUSE,
    MAX_UNCHECKED,
    RefreshReport,
    next_refresh,
    plan_refresh,
)
from mailtlspolicy.sts.stores import AsyncMemoryStore, MemoryStore
from tests.sts_worlds import NOW, AsyncParts, AsyncStore, async_engine, policy_of, policy_text, world

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy import NextHop
    from mailtlspolicy.dns.effects import Lookup
    from mailtlspolicy.sts.fetching import Response

MONTH = 2_592_000
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
EXAMPLES = settings(max_examples=300)

domains = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=30)
ages = st.integers(0, MAX_MAX_AGE) | st.sampled_from([0, 1, 2, 172_799, 172_800, 172_801])


def entry_of(age: timedelta = DAY, *, mode: str = "enforce", max_age: int = MONTH, unused: timedelta = DAY) -> Entry:
    return evolve(Entry.of("1", policy_of(mode, max_age), NOW - age), used=NOW - unused)


def test_the_limits_are_these() -> None:
    assert (INTERVAL, MAX_PAUSE, DISUSE, MAX_UNCHECKED) == (DAY, DAY / 4, 60 * DAY, 90 * DAY)
    assert DAY / 24 == GRACE
    assert fields(AsyncEngine).refreshed_at_once.default == 16


# --- when


@given(domains, ages, st.integers(0, 86_400))
@EXAMPLES
def test_a_policy_is_due_in_the_second_half_of_a_day_or_of_half_its_life(domain: str, max_age: int, ago: int) -> None:
    fetched = NOW - timedelta(seconds=ago)
    entry = Entry.of("1", policy_of(max_age=max_age), fetched)
    waits, interval = next_refresh(domain, entry) - fetched, min(DAY, timedelta(seconds=max_age) / 2)
    assert interval / 2 - TICK <= waits <= interval
    assert next_refresh(domain, entry) == next_refresh(domain, entry)
    expires = entry.expires
    assert expires is not None
    assert max_age == 0 or next_refresh(domain, entry) < expires


@given(domains, ages, st.integers(1, 2**70))
@EXAMPLES
def test_the_pause_after_failures_grows_to_six_hours_and_never_hastens(domain: str, max_age: int, count: int) -> None:
    calm = Entry.of("1", policy_of(max_age=max_age), NOW)
    failed = FailedFetch("2", NOW + timedelta(days=3), StsFailure.FETCH_ERROR)
    older = FailedFetch("3", NOW + timedelta(days=1), StsFailure.FETCH_ERROR)
    entry = evolve(calm, failed=(older, failed), failures=count)
    pause = BACK_OFF * 2 ** (count - 1) if count < 8 else MAX_PAUSE
    assert next_refresh(domain, entry) == max(next_refresh(domain, calm), failed.at + min(pause, MAX_PAUSE))


def test_the_pauses_are_these() -> None:
    calm = Entry.of("1", policy_of(max_age=4), NOW)
    failed = (FailedFetch("1", NOW + DAY, StsFailure.FETCH_ERROR),)
    pauses = [next_refresh("c.test", evolve(calm, failed=failed, failures=count)) - NOW - DAY for count in range(1, 10)]
    assert [pause / timedelta(minutes=1) for pause in pauses] == [5, 10, 20, 40, 80, 160, 320, 360, 360]


def test_what_failed_before_the_last_fetch_delays_nothing() -> None:
    # with_policy keeps the pauses of other ids, but the count of failures in a row is 0 again
    entry = entry_of().with_failure("2", NOW - timedelta(minutes=1), StsFailure.FETCH_ERROR)
    renewed = entry.with_policy("1", policy_of(max_age=2), NOW)
    assert renewed.failed == entry.failed
    assert next_refresh("c.test", renewed) <= NOW + timedelta(seconds=1)


def test_a_count_of_failures_without_any_delays_nothing() -> None:
    entry = entry_of()
    assert next_refresh("c.test", evolve(entry, failures=9)) == next_refresh("c.test", entry)


def test_an_entry_without_a_policy_has_no_refresh() -> None:
    with pytest.raises(ValueError, match=r"c\.test"):
        next_refresh("c.test", Entry(checked=NOW, used=NOW))


def test_refreshes_of_many_domains_are_spread_evenly() -> None:
    entry = Entry.of("1", policy_of(max_age=MONTH), NOW)
    count, slots = 10_000, 100
    waits = [(next_refresh(f"d{number}.test", entry) - NOW) / INTERVAL for number in range(count)]
    assert min(waits) >= 0.5
    assert max(waits) < 1
    found = Counter(int((wait - 0.5) * 2 * slots) for wait in waits)
    expected = count / slots
    chi_square = sum((found[slot] - expected) ** 2 / expected for slot in range(slots))
    assert 50 < chi_square < 160  # 99 degrees of freedom: five in 100,000 lie outside


@pytest.mark.parametrize(
    ("ahead", "is_due"), [(timedelta(), False), (MAX_AHEAD, False), (MAX_AHEAD + TICK, True), (DAY * 3000, True)]
)
def test_what_lies_further_ahead_than_clocks_differ_is_due_at_once(ahead: timedelta, *, is_due: bool) -> None:
    fetched = evolve(entry_of(), fetched=NOW + ahead)
    failed = evolve(entry_of(DAY * 2), failed=(FailedFetch("2", NOW + ahead, StsFailure.FETCH_ERROR),), failures=1)
    for entry in (fetched, failed):
        assert plan_refresh([("c.test", entry)], NOW).due == ((("c.test", entry),) if is_due else ())


def test_what_lies_ahead_is_not_fetched_within_the_back_off() -> None:
    entry = evolve(entry_of(), fetched=NOW + DAY).with_failure("1", NOW, StsFailure.FETCH_ERROR)
    assert plan_refresh([("c.test", entry)], NOW + BACK_OFF - TICK).due == ()
    assert plan_refresh([("c.test", entry)], NOW + BACK_OFF).due == (("c.test", entry),)


def test_what_is_due_and_what_is_dropped_at_their_boundaries() -> None:
    fresh, old, expired = entry_of(timedelta()), entry_of(DAY), entry_of(DAY, max_age=86_399)
    last, just = entry_of(DAY, max_age=86_400), evolve(old, used=NOW - DISUSE + TICK)
    disused, gone = evolve(old, used=NOW - DISUSE), evolve(expired, used=NOW - DISUSE)
    failed = Entry(checked=NOW, used=NOW - DISUSE + TICK).with_failure("1", NOW, StsFailure.FETCH_ERROR)
    entries = {
        "fresh.test": fresh,
        "old.test": old,
        "expired.test": expired,
        "last.test": last,
        "just.test": just,
        "disused.test": disused,
        "gone.test": gone,
        "failed.test": failed,
        "forgotten.test": evolve(failed, used=NOW - DISUSE),
        "nearly.test": evolve(expired, used=NOW - DISUSE + TICK),
    }
    plan = plan_refresh(entries.items(), NOW)
    assert plan.due == (("old.test", old), ("last.test", last), ("just.test", just))
    forgotten = evolve(failed, used=NOW - DISUSE)
    assert plan.drop == ()
    assert plan.note == (
        ("gone.test", evolve(gone, ended=NOW, checked=NOW)),
        ("forgotten.test", evolve(forgotten, ended=NOW)),
    )
    plan = plan_refresh(plan.note, NOW + GRACE - TICK)
    assert (plan.drop, plan.note) == ((), ())
    gone = evolve(gone, ended=NOW)
    assert plan_refresh([("gone.test", gone)], NOW + GRACE).drop == (("gone.test", gone),)
    before, gone = NOW - TICK, evolve(gone, used=NOW - DISUSE - TICK)  # the note is of a clock since put back
    assert plan_refresh([("gone.test", gone)], before).note == (
        ("gone.test", evolve(gone, ended=before, checked=before)),
    )


def test_an_entry_in_force_loses_its_note() -> None:  # it was made by a clock that ran ahead
    for unused in (timedelta(), DISUSE):
        entry = evolve(entry_of(timedelta()), used=NOW - unused)
        noted = evolve(entry, ended=NOW + timedelta(days=400))
        plan = plan_refresh([("c.test", noted)], NOW)
        assert (plan.due, plan.drop, plan.note) == ((), (), (("c.test", evolve(entry, checked=NOW)),))
    noted = evolve(entry_of(DAY), ended=NOW - DAY)
    assert plan_refresh([("c.test", noted)], NOW).due == (("c.test", entry_of(DAY)),)


@pytest.mark.parametrize("noted", [False, True])
def test_a_clock_far_ahead_of_all_that_is_known_neither_notes_nor_drops(*, noted: bool) -> None:
    gone = entry_of(timedelta(days=365), max_age=86_400, unused=timedelta(days=365))
    last = gone.checked
    gone = evolve(gone, ended=last + DAY if noted else None)
    plan = plan_refresh([("c.test", gone)], last + MAX_UNCHECKED)
    assert (len(plan.note) + len(plan.drop), plan.withheld) == (1, ())
    plan = plan_refresh([("c.test", gone)], last + MAX_UNCHECKED + TICK)
    assert (plan.note, plan.drop, plan.withheld) == ((), (), ("c.test",))
    looked = last + 2 * TICK  # at another entry, on this page or on one before
    assert plan_refresh([("c.test", gone)], looked + MAX_UNCHECKED, looked).withheld == ()
    plan = plan_refresh([("c.test", gone), ("d.test", evolve(entry_of(timedelta()), checked=NOW))], NOW)
    assert (len(plan.note) + len(plan.drop), plan.withheld) == (1, ())


def test_one_refresh_under_a_clock_that_runs_ahead_loses_no_policy() -> None:
    there = World.from_json({"now": NOW.isoformat()})
    for ahead in (timedelta(days=61), timedelta(days=80), timedelta(days=1800)):
        store = MemoryStore({"c.test": entry_of(timedelta(), max_age=86_400)})
        engine = evolve(there.engine(), store=store)
        report = engine.refresh(NOW + ahead)
        assert report.dropped == ()
        assert bool(report.store_failures) == (ahead > MAX_UNCHECKED)
        assert engine.refresh(NOW + TICK).dropped == ()
        kept = store.load("c.test")
        assert kept is not None
        assert kept.policy_in_force(NOW) is not None
        assert kept.ended is None


def test_an_entry_is_due_from_the_moment_of_its_next_refresh() -> None:
    entry = entry_of(timedelta())
    due = next_refresh("c.test", entry)
    assert plan_refresh([("c.test", entry)], due - TICK).due == ()
    assert plan_refresh([("c.test", entry)], due).due == (("c.test", entry),)


# --- the whole store


class Paged(MemoryStore):
    """A store in small pages, which fails where it is told to."""

    def __init__(self, entries: Mapping[str, Entry], size: int = 7, **answers: Any) -> None:
        super().__init__(entries)
        self.size, self.answers = size, answers
        self.cursors: list[str] = []

    def entries(self, cursor: str) -> Any:
        self.cursors.append(cursor)
        if "listing" in self.answers and len(self.cursors) == self.answers.get("at", 1):
            return self.answers["listing"]
        names = sorted(name for name in self._entries if name > cursor)[: self.size]
        page = tuple((name, self._entries[name]) for name in names)
        bad = tuple((name, StoreFailure("unreadable")) for name in self.answers.get("unreadable", ()) if not cursor)
        return PolicyPage(page, names[-1] if len(names) == self.size else None, bad)

    def store(self, domain: str, entry: Entry) -> Any:
        if domain in self.answers.get("full", ()):
            return StoreFailure("full")
        return super().store(domain, entry)

    def drop(self, domain: str, entry: Entry) -> Any:
        if domain in self.answers.get("stuck", ()):
            return StoreFailure("stuck")
        return super().drop(domain, entry)


def many(count: int) -> World:
    """Domains d0000.test and so on: every fifth has no policy host, every seventh publishes what is no policy."""
    zones, https = {}, {}
    for number in range(count):
        name = f"d{number:04}.test"
        zones[name] = {"security": "insecure", "records": [f'_mta-sts TXT "v=STSv1; id={number};"']}
        if number % 5:
            body = "nonsense" if number % 7 == 0 else policy_text(mx=f"mx.{name}", max_age=MONTH)
            https[f"mta-sts.{name}"] = {"content_type": "text/plain", "body": body}
    return World.from_json({"now": NOW.isoformat(), "zones": zones, "https": https})


def cached(count: int) -> dict[str, Entry]:
    """Entries of those domains: every third expired long ago, unused and found so, every eleventh fetched just now."""
    entries = {}
    for number in range(count):
        entry = entry_of(timedelta(days=2))
        if number % 3 == 0:
            entry = evolve(entry_of(timedelta(days=90), unused=timedelta(days=61)), ended=NOW - GRACE)
        elif number % 11 == 0:
            entry = entry_of(timedelta(minutes=1))
        entries[f"d{number:04}.test"] = entry
    return entries


def expected(count: int) -> dict[str, list[str]]:
    """What is to become of them, by the same arithmetic."""
    found: dict[str, list[str]] = {"refreshed": [], "fetch-error": [], "policy-invalid": [], "dropped": []}
    for number in range(count):
        if number % 3 == 0:
            outcome = "dropped"
        elif number % 11 == 0:
            continue
        elif number % 5 == 0:
            outcome = "fetch-error"
        else:
            outcome = "policy-invalid" if number % 7 == 0 else "refreshed"
        found[outcome].append(f"d{number:04}.test")
    return found


def outcomes(report: RefreshReport) -> dict[str, list[str]]:
    return {
        "refreshed": list(report.refreshed),
        "dropped": list(report.dropped),
        **{
            str(kind): [bad.domain for bad in report.failed if bad.failure is kind]
            for kind in (StsFailure.FETCH_ERROR, StsFailure.POLICY_INVALID)
        },
    }


@pytest.mark.parametrize("size", [1000, 100, 7])
def test_a_thousand_entries_are_gone_through_page_by_page(size: int) -> None:
    there, store = many(1000), Paged(cached(1000), size)
    told: list[RefreshReport] = []
    report = evolve(there.engine(), store=store).refresh(progress=told.append)
    assert {name: sorted(found) for name, found in outcomes(report).items()} == expected(1000)
    assert report.store_failures == ()
    dropped = len(report.dropped)
    assert len(store.cursors) == 1000 // size + 1
    assert store.cursors[0] == ""
    assert sum((one.refreshed for one in told), ()) == report.refreshed
    assert sum((one.failed for one in told), ()) == report.failed
    assert sum((one.dropped for one in told), ()) == report.dropped
    assert all(0 < len(one.refreshed) + len(one.failed) + len(one.dropped) <= 1 for one in told)
    remaining = dict(Paged.entries(Paged(dict(store._entries), 2000), "").entries)
    assert len(remaining) == 1000 - dropped
    renewed = {name for name, entry in remaining.items() if entry.fetched == NOW}
    assert renewed == set(report.refreshed)
    assert all(remaining[name].used == NOW - DAY for name in renewed)
    again = evolve(there.engine(), store=store).refresh(NOW + timedelta(minutes=4))
    assert again == RefreshReport()
    later = evolve(there.engine(), store=store).refresh(NOW + timedelta(minutes=5))
    assert sorted(bad.domain for bad in later.failed) == sorted(bad.domain for bad in report.failed)
    assert later.refreshed == later.dropped == ()


def test_the_asynchronous_engine_refreshes_the_same() -> None:
    there = many(200)
    store, other = Paged(cached(200)), Paged(cached(200))
    told: list[RefreshReport] = []
    other_told: list[RefreshReport] = []
    report = evolve(there.engine(), store=store).refresh(progress=told.append)
    engine = async_engine(there, Config(), AsyncStore(other))
    assert asyncio.run(engine.refresh(progress=other_told.append)) == report
    assert sum((one.failed for one in told), ()) == report.failed
    assert {failed for one in other_told for failed in one.failed} == set(report.failed)  # in the order of their ends
    assert all(len(one.refreshed) + len(one.failed) + len(one.dropped) <= 1 for one in other_told)
    assert other._entries == store._entries
    assert other.cursors == store.cursors
    assert json.loads(json.dumps(report.to_json()))["refreshed"] == sorted(report.refreshed)


def test_no_more_than_sixteen_fetches_go_on_side_by_side() -> None:
    there, most, now = many(200), 0, 0

    async def run() -> None:
        sixteen = asyncio.Event()
        engine = async_engine(there, Config(), AsyncMemoryStore(cached(200)))
        parts = AsyncParts(there)

        class Slow:
            async def fetch(self, request: Fetch) -> Any:
                nonlocal most, now
                now += 1
                most = max(most, now)
                if now == 16:
                    sixteen.set()
                await sixteen.wait()
                for _ in range(20):  # turns, in which others would come
                    await asyncio.sleep(0)
                now -= 1
                return await parts.fetch(request)

        await evolve(engine, fetcher=Slow()).refresh()

    asyncio.run(run())
    assert most == 16


def test_the_record_is_asked_for_before_the_policy() -> None:
    # so that no policy is ever kept under an id that is newer than it
    asked: list[str] = []
    there = world("v=STSv1; id=2;", body=policy_text())

    class Noting:
        def lookup(self, question: Lookup) -> Any:
            asked.append(question.name)
            return there.resolver.lookup(question)

        def fetch(self, request: Fetch) -> Any:
            asked.append(request.policy_host)
            return there.fetcher.fetch(request)

    store = Paged({"c.test": entry_of()})
    assert evolve(there.engine(), resolver=Noting(), fetcher=Noting(), store=store).refresh().refreshed == ("c.test",)
    assert asked == ["_mta-sts.c.test", "mta-sts.c.test"]


# --- what a store does to it


def refreshed(store: Paged, there: World | None = None, config: Config | None = None) -> RefreshReport:
    return evolve((there or many(20)).engine(config), store=store).refresh()


def test_a_store_that_lists_nothing_is_reported_and_ends_the_run() -> None:
    store = Paged(cached(20), listing=StoreFailure("disk"))
    assert refreshed(store) == RefreshReport(store_failures=("disk",))
    assert store.cursors == [""]


def test_what_was_refreshed_before_a_page_failed_is_in_the_report() -> None:
    store = Paged(cached(20), listing=StoreFailure("disk"), at=2)
    report = refreshed(store)
    first = set(list(cached(20))[:7])
    assert {*report.refreshed, *report.dropped, *(bad.domain for bad in report.failed)} <= first
    assert report.refreshed
    assert report.store_failures == ("disk",)


def test_an_unreadable_entry_is_named_and_stops_no_other() -> None:
    report = refreshed(Paged(cached(20), unreadable=["a.test", "b.test"]))
    assert report.store_failures == ("'a.test': unreadable", "'b.test': unreadable")
    assert {name: sorted(found) for name, found in outcomes(report).items()} == expected(20)


@pytest.mark.parametrize(
    ("there", "policy_id"),
    [
        (world("v=STSv1; id=2;", body=policy_text()), "2"),
        (world(body=policy_text("none")), None),
        (world("v=STSv1; id=2;"), ...),
        (world("v=STSv1; id=2;", body="nonsense"), ...),
    ],
)
def test_an_unreadable_entry_is_replaced_by_a_policy_that_is_fetched(there: World, policy_id: Any) -> None:
    store = Paged({}, unreadable=["c.test"])
    report = refreshed(store, there)
    assert report.failed == ()
    if policy_id is ...:
        assert (report.refreshed, report.store_failures) == ((), ("'c.test': unreadable",))
        return
    assert (report.refreshed, report.store_failures) == (("c.test",), ())
    entry = store.load("c.test")
    assert entry is not None
    assert (entry.id, entry.fetched, entry.used, entry.checked) == (policy_id, NOW, NOW, NOW)


def test_an_unreadable_entry_is_left_alone_where_mta_sts_is_off_or_the_key_is_no_domain() -> None:
    store = Paged({}, unreadable=["c.test"])
    there = world("v=STSv1; id=2;", body=policy_text())
    expected = RefreshReport(store_failures=("'c.test': unreadable",))
    assert refreshed(store, there, Config(sts="off")) == expected
    assert store.load("c.test") is None
    strange = Paged({}, unreadable=["C.test", "no name"])
    assert refreshed(strange, there).store_failures == ("'C.test': unreadable", "'no name': unreadable")
    assert strange.entries("").entries == ()


def test_an_entry_that_can_not_be_written_or_dropped_is_named() -> None:
    # d0001 is refreshed, d0005 fails, d0003 is to be dropped
    store = Paged(cached(20), full=["d0001.test", "d0005.test"], stuck=["d0003.test"])
    report = refreshed(store)
    assert sorted(report.store_failures) == ["'d0001.test': full", "'d0003.test': stuck", "'d0005.test': full"]
    assert "d0001.test" in report.refreshed
    assert "d0005.test" in {bad.domain for bad in report.failed}
    assert "d0003.test" not in report.dropped
    counts = len(report.refreshed), len(report.failed), len(report.dropped)
    assert str(report) == "refreshed {}, failed {}, dropped {}, store failures 3".format(*counts)


def test_progress_is_told_of_the_store_too() -> None:
    told: list[RefreshReport] = []
    store = Paged(cached(20), full=["d0001.test"], stuck=["d0003.test"])
    evolve(many(20).engine(), store=store).refresh(progress=told.append)
    assert sorted(sum((one.store_failures for one in told), ())) == ["'d0001.test': full", "'d0003.test': stuck"]


@pytest.mark.parametrize("junk", [None, (), b"", {"c.test": entry_of()}])
def test_a_store_that_lists_junk_is_an_error(junk: Any) -> None:
    with pytest.raises(TypeError):
        refreshed(Paged({}, listing=junk))


@pytest.mark.parametrize("name", ["no name", "192.0.2.1", "C.test", "c.test.", "a" * 300, "[c.test]", "user@c.test"])
def test_a_key_that_is_no_domain_is_named_and_stops_no_other(name: str) -> None:
    store = Paged(cached(20) | {name: entry_of()})
    report = refreshed(store)
    assert {key: sorted(found) for key, found in outcomes(report).items()} == expected(20)
    assert len(report.store_failures) == 1
    assert name[:20] in report.store_failures[0]
    assert len(report.store_failures[0]) < 200


def test_what_was_written_meanwhile_is_neither_dropped_nor_overwritten() -> None:
    newer = entry_of(timedelta())

    class Busy(Paged):
        def entries(self, cursor: str) -> Any:
            page = super().entries(cursor)
            for name in self._entries:
                MemoryStore.store(self, name, newer)
            return page

    there = world("v=STSv1; id=1;")
    gone = entry_of(timedelta(days=90), unused=timedelta(days=90))
    store = Busy({"c.test": entry_of(), "d.test": gone, "e.test": evolve(gone, ended=NOW - DAY)})
    report = evolve(there.engine(), store=store).refresh()
    assert [bad.domain for bad in report.failed] == ["c.test"]
    for name in ("c.test", "d.test", "e.test"):
        entry = store.load(name)
        assert entry is not None
        assert (entry.policy, entry.fetched) == (newer.policy, newer.fetched)


# --- what is reported


@pytest.mark.parametrize(("mode", "reported"), [("enforce", True), ("testing", True), ("none", False)])
def test_a_failure_is_reported_unless_the_mode_is_none(mode: str, *, reported: bool) -> None:
    store = Paged({"c.test": entry_of(mode=mode)})
    report = refreshed(store, world("v=STSv1; id=2;"))
    assert bool(report.failed) == reported
    entry = store.load("c.test")
    assert entry is not None
    assert (entry.failures, entry.id, entry.fetched, entry.checked) == (1, "1", NOW - DAY, NOW)
    assert entry.failed == (FailedFetch("2", NOW, StsFailure.FETCH_ERROR),)
    assert entry.used == NOW - DAY
    for bad in report.failed:
        assert (bad.domain, bad.mode, bad.failure) == ("c.test", Mode(mode), StsFailure.FETCH_ERROR)
        assert bad.expires == NOW - DAY + timedelta(days=30)
        assert bad.remaining == 29 * 86_400
        assert all(text in str(bad) for text in ("c.test", "fetch-error", mode, str(bad.expires), bad.detail))
        assert json.loads(json.dumps(bad.to_json())) == {
            "domain": "c.test",
            "mode": mode,
            "failure": "fetch-error",
            "detail": bad.detail,
            "expires": bad.expires.isoformat(),
            "remaining": bad.remaining,
        }


@pytest.mark.parametrize(
    ("host", "failure"),
    [
        ({}, StsFailure.FETCH_ERROR),
        ({"content_type": "text/plain", "body": "nonsense"}, StsFailure.POLICY_INVALID),
        ({"certificate": "expired"}, StsFailure.WEBPKI_INVALID),
    ],
)
def test_why_a_refresh_failed_is_reported_and_remembered(host: Mapping[str, Any], failure: StsFailure) -> None:
    store = Paged({"c.test": entry_of()})
    report = refreshed(store, world("v=STSv1; id=2;", host=host))
    assert [(bad.domain, bad.failure) for bad in report.failed] == [("c.test", failure)]
    entry = store.load("c.test")
    assert entry is not None
    assert entry.failed == (FailedFetch("2", NOW, failure),)


def test_a_report_lists_domains_in_order() -> None:
    store = Paged({name: entry_of() for name in ("c.test", "a.test", "b.test")}, 1)
    there = world()
    report = refreshed(store, there)
    assert [bad["domain"] for bad in report.to_json()["failed"]] == ["a.test", "b.test", "c.test"]
    unsorted = RefreshReport(("b", "a"), tuple(reversed(report.failed)), ("d", "c"), ("z", "y")).to_json()
    assert (unsorted["refreshed"], unsorted["dropped"], unsorted["store_failures"]) == (
        ["a", "b"],
        ["c", "d"],
        ["z", "y"],
    )
    assert unsorted["failed"] == report.to_json()["failed"]


# --- the id after a refresh


@pytest.mark.parametrize(
    ("txt", "body", "policy_id"),
    [
        (("v=STSv1; id=2;",), policy_text(max_age=MONTH), "2"),
        ((), policy_text(max_age=MONTH), "1"),
        ((), policy_text("testing", MONTH), None),
        (("v=STSv1; id=;",), policy_text(max_age=MONTH), "1"),
        (("v=STSv1; id=2;", "v=STSv1; id=3;"), policy_text(max_age=MONTH - 1), None),
    ],
)
def test_the_id_becomes_the_announced_one_or_stays_with_an_unchanged_policy(
    txt: tuple[str, ...], body: str, policy_id: str | None
) -> None:
    store = Paged({"c.test": entry_of()})
    assert refreshed(store, world(*txt, body=body)).refreshed == ("c.test",)
    entry = store.load("c.test")
    assert entry is not None
    assert (entry.id, entry.fetched, entry.used) == (policy_id, NOW, NOW - DAY)


def test_a_failed_refresh_without_a_record_stands_for_no_id() -> None:
    store = Paged({"c.test": entry_of()})
    refreshed(store, world())
    entry = store.load("c.test")
    assert entry is not None
    assert [failed.id for failed in entry.failed] == [None]
    assert entry.back_off("1", NOW) is None


# --- configuration and time


def test_a_domain_for_which_mta_sts_is_off_is_left_alone() -> None:
    def config(next_hop: NextHop) -> Config:
        return Config(sts="off" if next_hop.name.endswith(("1.test", "3.test")) else "on")

    there, store = many(20), Paged(cached(20))
    report = evolve(there.engine(config), store=store).refresh()
    assert "d0011.test" not in report.refreshed
    assert store.load("d0001.test") == cached(20)["d0001.test"]
    assert "d0002.test" in report.refreshed
    assert "d0003.test" in report.dropped  # a disused entry is of no use to anybody
    off = Paged(cached(20))
    assert outcomes(refreshed(off, there, Config(sts="off")))["refreshed"] == []


def test_each_domain_is_fetched_within_the_limits_of_its_configuration() -> None:
    def config(next_hop: NextHop) -> Config:
        return Config(max_fetch_seconds=int(next_hop.name[1:5]))

    @frozen
    class Asked:
        requests: list[Fetch] = field(factory=list)

        def fetch(self, request: Fetch) -> Response | FetchFailure:
            self.requests.append(request)
            return FetchFailure(FetchFailureKind.CONNECT)

    fetcher, store = Asked(), Paged({"d0001.test": entry_of(), "d0002.test": entry_of()})
    evolve(many(3).engine(config), store=store, fetcher=fetcher).refresh()
    assert [(request.policy_host, request.max_seconds) for request in fetcher.requests] == [
        ("mta-sts.d0001.test", 1),
        ("mta-sts.d0002.test", 2),
    ]


class Changing(tzinfo):
    """A zone whose clocks are put forward by an hour for the summer."""

    def utcoffset(self, time: datetime | None) -> timedelta:
        return timedelta(hours=1) + self.dst(time)

    def dst(self, time: datetime | None) -> timedelta:
        is_summer = time is not None and "03-29T02" <= time.replace(tzinfo=None).isoformat()[5:13] < "10-25T03"
        return timedelta(hours=is_summer)

    def tzname(self, _: datetime | None) -> str:
        return "Changing"


@pytest.mark.parametrize("day", ["2026-03-28T12:00:00", "2026-10-24T12:00:00"])  # the day before clocks change
def test_what_is_fetched_counts_in_utc_whatever_the_zone_of_the_caller(day: str) -> None:
    local = datetime.fromisoformat(day).replace(tzinfo=Changing())
    now = local.astimezone(timezone.utc)
    there = world("v=STSv1; id=1;", body=policy_text(max_age=MONTH))
    store = Paged({"c.test": evolve(Entry.of("1", policy_of(max_age=MONTH), now - DAY), used=now)})
    assert evolve(there.engine(), store=store).refresh(local).refreshed == ("c.test",)
    entry = store.load("c.test")
    assert entry is not None
    assert entry.fetched == now
    assert entry.fetched.utcoffset() == timedelta()
    assert entry.expires == now + timedelta(seconds=MONTH)


def test_the_clock_of_the_engine_is_asked() -> None:
    store = Paged({"c.test": entry_of()})
    engine = evolve(world("v=STSv1; id=1;", body=policy_text()).engine(), store=store)
    assert evolve(engine, clock=lambda: NOW - DAY).refresh().refreshed == ()
    assert engine.refresh().refreshed == ("c.test",)


def test_a_failed_lookup_does_not_keep_a_policy_from_being_fetched() -> None:
    there = world(body=policy_text(max_age=MONTH), failures=("_mta-sts.c.test",))
    store = Paged({"c.test": entry_of()})
    assert refreshed(store, there).refreshed == ("c.test",)
