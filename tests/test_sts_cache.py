"""What is remembered of a policy domain: boundaries, what is written over what, and reading it back."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone
from itertools import permutations
from typing import Any

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailtlspolicy._times import later
from mailtlspolicy.sts import Entry, Policy, StsFailure, parse_policy
from mailtlspolicy.sts.cache import BACK_OFF, MAX_AHEAD, MAX_FAILED, TOUCH, FailedFetch, merge
from mailtlspolicy.sts.stores import MemoryStore

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
FIRST = datetime.min.replace(tzinfo=timezone.utc)
LAST = datetime.max.replace(tzinfo=timezone.utc)
TICK = timedelta(microseconds=1)
EXAMPLES = settings(max_examples=200)


def policy_of(mode: str = "enforce", max_age: int = 604800, mx: str = "mx.test") -> Policy:
    policy = parse_policy(f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n".encode())
    assert isinstance(policy, Policy)
    return policy


POLICIES = (policy_of(), policy_of("testing"), policy_of("none", 0), policy_of(max_age=1), policy_of(mx="*.test"))
ids = st.none() | st.sampled_from(["1", "2", "a", "A"])
moments = st.builds(lambda seconds: NOW + timedelta(seconds=seconds), st.integers(-900, 900)) | st.sampled_from(
    [FIRST, LAST, NOW - TICK, NOW + TICK, NOW - MAX_AHEAD, NOW + MAX_AHEAD, NOW + MAX_AHEAD + TICK]
)
failures = st.builds(FailedFetch, ids, moments, st.sampled_from(StsFailure))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry, also those that no sender would write."""
    failed = draw(st.lists(failures, max_size=MAX_FAILED))
    policy = draw((st.none() | st.sampled_from(POLICIES)) if failed else st.sampled_from(POLICIES))
    return Entry(
        policy=policy,
        id=draw(ids),
        fetched=None if policy is None else draw(moments),
        checked=draw(moments),
        used=draw(moments),
        failed=tuple(failed),
        failures=draw(st.integers(0, 2**70)),
    )


def test_the_limits_are_these() -> None:
    minute = timedelta(minutes=1)
    assert (5 * minute, 720 * minute, 60 * minute) == (BACK_OFF, MAX_AHEAD, TOUCH)
    assert MAX_FAILED == 8


# --- in force


@given(st.integers(0, 31557600), moments)
@EXAMPLES
def test_a_policy_is_in_force_until_its_age_exceeds_its_max_age(max_age: int, fetched: datetime) -> None:
    policy = policy_of(max_age=max_age)
    entry = Entry.of("1", policy, fetched)
    end = entry.expires
    assert end is not None
    assert end == (LAST if LAST - fetched <= timedelta(seconds=max_age) else fetched + timedelta(seconds=max_age))
    assert entry.policy_in_force(end) is policy
    assert entry.policy_in_force(fetched) is policy
    assert end == LAST or entry.policy_in_force(end + TICK) is None
    assert end == FIRST or entry.policy_in_force(end - TICK) is policy


def test_max_age_0_is_in_force_at_the_moment_of_its_fetch() -> None:
    entry = Entry.of("1", policy_of(max_age=0), NOW)
    assert entry.policy_in_force(NOW) is not None
    assert entry.policy_in_force(NOW + TICK) is None
    assert entry.spares_fetch("1", NOW)


def test_a_policy_fetched_further_ahead_than_clocks_differ_is_in_force_and_spares_no_fetch() -> None:
    entry = Entry.of("1", policy_of(), NOW + MAX_AHEAD)
    assert not entry.is_from_the_future(NOW)
    assert entry.spares_fetch("1", NOW)
    assert entry.is_from_the_future(NOW - TICK)
    assert not entry.spares_fetch("1", NOW - TICK)
    assert entry.policy_in_force(NOW - TICK) is entry.policy


def test_a_failure_of_the_future_spares_no_fetch() -> None:
    entry = Entry.of("1", policy_of(), NOW).with_failure("2", NOW + MAX_AHEAD, StsFailure.FETCH_ERROR)
    assert not entry.is_from_the_future(NOW)
    assert entry.spares_fetch("1", NOW)
    assert entry.is_from_the_future(NOW - TICK)
    assert not entry.spares_fetch("1", NOW - TICK)
    assert not Entry(checked=NOW, used=NOW).is_from_the_future(NOW)


def test_a_fetch_is_spared_for_the_same_id_while_the_policy_is_in_force() -> None:
    entry = Entry.of("1", policy_of(max_age=60), NOW)
    minute = timedelta(minutes=1)
    assert entry.spares_fetch("1", NOW + minute)
    assert not entry.spares_fetch("1", NOW + minute + TICK)
    assert not entry.spares_fetch("2", NOW)
    assert not Entry.of(None, policy_of(), NOW).spares_fetch("1", NOW)
    assert not Entry(id="1", checked=NOW, used=NOW).spares_fetch("1", NOW)


def test_without_a_policy_nothing_is_in_force_and_nothing_expires() -> None:
    entry = Entry(checked=NOW, used=NOW)
    assert entry.expires is None
    assert entry.policy_in_force(NOW) is None
    assert entry.policy_in_force(FIRST) is None


@pytest.mark.parametrize("parts", [{"policy": policy_of()}, {"fetched": NOW}])
def test_an_entry_has_a_policy_and_its_time_or_neither(parts: Any) -> None:
    with pytest.raises(ValueError, match="or neither"):
        Entry(checked=NOW, used=NOW, **parts)


@given(moments, st.integers(0, 10**9))
@EXAMPLES
def test_later_never_leaves_what_a_datetime_can_hold(moment: datetime, seconds: int) -> None:
    delay = timedelta(seconds=seconds)
    assert later(moment, delay) == (LAST if LAST - moment < delay else moment + delay)


# --- failed fetches


def test_an_id_is_left_alone_for_five_minutes_after_a_failure_on_either_side() -> None:
    entry = Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR)
    failed = entry.failed[0]
    assert failed == FailedFetch("1", NOW, StsFailure.FETCH_ERROR)
    for seconds in (0, 299, -299):  # a clock that was put back does not lengthen the pause
        assert entry.back_off("1", NOW + timedelta(seconds=seconds)) == failed
    assert entry.back_off("1", NOW + BACK_OFF - TICK) == failed
    assert entry.back_off("1", NOW - BACK_OFF + TICK) == failed
    assert entry.back_off("1", NOW + BACK_OFF) is None
    assert entry.back_off("1", NOW - BACK_OFF) is None
    assert entry.back_off("2", NOW) is None
    assert entry.back_off(None, NOW) is None


def test_a_failure_without_an_id_stands_for_no_id() -> None:
    entry = Entry(checked=NOW, used=NOW).with_failure(None, NOW, StsFailure.DNS_ERROR)
    assert entry.back_off(None, NOW) is not None
    assert entry.back_off("1", NOW) is None


@given(st.lists(st.tuples(ids, st.sampled_from(StsFailure)), max_size=30), st.booleans())
@EXAMPLES
def test_failures_are_counted_the_latest_of_each_id_is_kept_and_the_policy_stays(
    attempts: list[tuple[str | None, StsFailure]],
    cached: bool,  # noqa: FBT001
) -> None:
    start = Entry.of("9", policy_of(), NOW - timedelta(days=1)) if cached else Entry(checked=NOW, used=NOW)
    entry = start
    for number, (policy_id, failure) in enumerate(attempts):
        entry = entry.with_failure(policy_id, NOW + timedelta(seconds=number), failure)
    assert entry.failures == len(attempts)
    assert (entry.policy, entry.id, entry.fetched, entry.used) == (start.policy, start.id, start.fetched, start.used)
    assert entry.checked == (NOW + timedelta(seconds=len(attempts) - 1) if attempts else start.checked)
    latest = {policy_id: (number, failure) for number, (policy_id, failure) in enumerate(attempts)}
    expected = sorted(((number, policy_id, failure) for policy_id, (number, failure) in latest.items()), reverse=True)
    assert [(failed.id, failed.failure) for failed in entry.failed] == [(key, why) for _, key, why in expected]


@given(st.lists(st.integers(0, 12).map(str), max_size=40))
@EXAMPLES
def test_no_more_than_the_last_eight_ids_are_remembered(attempts: list[str]) -> None:
    entry = Entry(checked=NOW, used=NOW)
    for number, policy_id in enumerate(attempts):
        entry = entry.with_failure(policy_id, NOW + timedelta(seconds=number), StsFailure.FETCH_ERROR)
    assert [failed.id for failed in entry.failed] == list(dict.fromkeys(reversed(attempts)))[:MAX_FAILED]
    assert not attempts or Entry.from_json(entry.to_json()) == entry


@given(entries(), st.sampled_from(["1", "2", "9"]), st.sampled_from(POLICIES))
@EXAMPLES
def test_a_fetch_replaces_all_but_the_use_and_the_pauses_of_other_ids(
    entry: Entry, policy_id: str, policy: Policy
) -> None:
    new = entry.with_policy(policy_id, policy, NOW)
    assert (new.policy, new.id, new.fetched, new.checked, new.used) == (policy, policy_id, NOW, NOW, entry.used)
    assert new.failures == 0
    assert new.back_off(policy_id, NOW) is None
    for other in {failed.id for failed in entry.failed} - {policy_id}:
        assert (new.back_off(other, NOW) is None) == (entry.back_off(other, NOW) is None)
    assert set(new.failed) <= set(entry.failed)


def test_a_pause_that_is_over_is_forgotten_with_the_next_fetch() -> None:
    entry = Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR)
    assert entry.with_policy("2", policy_of(), NOW + BACK_OFF - TICK).failed == entry.failed
    assert entry.with_policy("2", policy_of(), NOW + BACK_OFF).failed == ()
    assert entry.with_policy("1", policy_of(), NOW + TICK).failed == ()


# --- merge


@given(entries(), entries())
@EXAMPLES
def test_merge_twice_is_merge_once(stored: Entry, entry: Entry) -> None:
    merged = merge(stored, entry)
    assert merge(merged, entry) == merged
    assert merge(entry, entry) == entry
    assert merge(None, entry) is entry


@given(entries(), entries())
@EXAMPLES
def test_merge_keeps_the_later_fetch_unless_a_fetch_of_now_meets_one_of_the_future(stored: Entry, entry: Entry) -> None:
    known = [one.fetched for one in (stored, entry) if one.fetched is not None]
    is_ahead = stored.fetched is not None and stored.fetched > later(entry.checked, MAX_AHEAD)
    is_corrected = is_ahead and entry.fetched == entry.checked
    assert merge(stored, entry).fetched == (entry.fetched if is_corrected else max(known, default=None))


@given(entries(), entries())
@EXAMPLES
def test_merge_keeps_policy_id_and_failures_together(stored: Entry, entry: Entry) -> None:
    merged = merge(stored, entry)
    assert evolve(merged, used=NOW, checked=NOW) in {evolve(one, used=NOW, checked=NOW) for one in (stored, entry)}


@given(entries(), entries())
@EXAMPLES
def test_merge_lets_use_and_check_grow_over_a_policy(stored: Entry, entry: Entry) -> None:
    assume(stored.fetched is not None)
    merged = merge(stored, entry)
    assert merged.used == max(stored.used, entry.used)
    assert merged.checked == max(stored.checked, entry.checked)


@given(st.lists(st.tuples(st.integers(0, 290), st.sampled_from(POLICIES), ids), min_size=1, max_size=5))
@settings(max_examples=200)
def test_senders_whose_clocks_agree_within_the_skew_end_with_the_latest_fetch_in_any_order(
    fetches: list[tuple[int, Policy, str | None]],
) -> None:
    made = [Entry.of(policy_id, policy, NOW + timedelta(seconds=at)) for at, policy, policy_id in fetches]
    made.append(Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR))
    latest = max(entry.fetched for entry in made if entry.fetched is not None)
    for order in permutations(made):
        store = MemoryStore()
        for entry in order:
            store.store("c.test", entry)
        loaded = store.load("c.test")
        assert loaded is not None
        assert loaded.fetched == latest


@pytest.mark.parametrize(("ahead", "stays"), [(MAX_AHEAD, True), (MAX_AHEAD + TICK, False)])
def test_a_fetch_further_ahead_than_a_run_takes_gives_way_to_a_fetch_of_now(ahead: timedelta, *, stays: bool) -> None:
    future, fetched = Entry.of("1", POLICIES[0], NOW + ahead), Entry.of("2", POLICIES[1], NOW)
    assert merge(future, fetched).id == ("1" if stays else "2")
    assert merge(fetched, future).id == "1"
    # what was fetched before and is only written again corrects nothing
    assert merge(future, evolve(fetched, fetched=NOW - TICK)).id == "1"


def test_of_two_fetches_at_one_moment_the_later_write_stays() -> None:
    first, second = Entry.of("1", POLICIES[0], NOW), Entry.of("2", POLICIES[1], NOW)
    assert merge(first, second) == second
    assert merge(second, first) == first


@pytest.mark.parametrize("ahead", [timedelta(), MAX_AHEAD, timedelta(days=1)])
def test_failed_fetches_never_replace_a_policy_whatever_the_clock_of_their_writer(ahead: timedelta) -> None:
    # RFC 8461 section 3.3: a failed fetch takes no policy away; its writer may have raced, or met a store that failed
    stored = Entry.of("1", POLICIES[0], NOW + ahead)
    failed = Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR)
    assert merge(stored, failed).policy is not None


# --- JSON


@given(entries())
@EXAMPLES
def test_an_entry_is_its_json_and_its_pickle(entry: Entry) -> None:
    data = json.loads(json.dumps(entry.to_json()))
    assert set(data) == {"version", "id", "fetched", "policy", "checked", "used", "failed", "failures", "ended"}
    assert data["version"] == 1
    again = Entry.from_json(data)
    assert again == entry
    assert again.to_json() == data
    assert pickle.loads(pickle.dumps(entry)) == entry
    assert copy.deepcopy(entry) == entry
    assert hash(again) == hash(entry)


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+05:30", "-12:00"])
def test_times_are_read_with_any_offset_and_kept_in_utc(zone: str) -> None:
    text = POLICIES[0].text
    entry = Entry.from_json({"id": "1", "fetched": f"2026-01-01T12:00:00{zone}", "policy": text})
    assert entry.fetched is not None
    assert entry.fetched.tzinfo is timezone.utc
    hours = {"Z": 12, "+00:00": 12, "+05:30": 6.5, "-12:00": 24}[zone]
    assert entry.fetched == datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(hours=hours)
    assert entry == Entry.of("1", POLICIES[0], entry.fetched)


def test_what_is_left_out_follows_from_what_is_there() -> None:
    failed = [
        FailedFetch("1", NOW, StsFailure.FETCH_ERROR).to_json(),
        FailedFetch(None, NOW + TICK, StsFailure.DNS_ERROR).to_json(),
    ]
    entry = Entry.from_json({"failed": failed})
    assert (entry.checked, entry.used, entry.failures) == (NOW + TICK, NOW + TICK, 2)
    policy = {"fetched": NOW.isoformat(), "policy": POLICIES[0].text}
    both = Entry.from_json({**policy, "failed": failed})
    assert (both.checked, both.used, both.failures, both.id) == (NOW, NOW, 2, None)
    with_times = {**policy, "checked": (NOW + TICK).isoformat(), "used": (NOW - TICK).isoformat()}
    assert Entry.from_json(with_times) == evolve(Entry.of(None, POLICIES[0], NOW), checked=NOW + TICK, used=NOW - TICK)


WHOLE = Entry.of("1", POLICIES[0], NOW).with_failure("2", NOW, StsFailure.FETCH_ERROR).to_json()
TIMES = ("fetched", "checked", "used")
BAD_TIMES = (
    *("2026-01-01T12:00:00", "2026-01-01", "12:00", "yesterday", "0001-01-01T00:00:00+01:00"),
    *("9999-12-31T23:59:59-01:00", "2026-13-01T00:00:00Z", "2026-01-01T12:00:00+24:00", "x" * 100_000),
)


@pytest.mark.parametrize("data", [None, True, 0, 1.5, "x", [], [["policy", "x"]]])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Entry.from_json(data)


@pytest.mark.parametrize("key", ["policy", *TIMES, "id", "failed", "failures", "ended", "version"])
@pytest.mark.parametrize("value", [0, 1.5, True, -1, "", "x", "\ud800", ["x"], {"x": 1}, [None], [[]]], ids=repr)
def test_a_value_of_the_wrong_kind_is_refused(key: str, value: Any) -> None:
    if key == "id" and isinstance(value, str):
        return
    if key == "failures" and type(value) is int and value == 0:
        return
    with pytest.raises((KeyError, TypeError, ValueError)):
        Entry.from_json({**WHOLE, key: value})


@pytest.mark.parametrize("key", [*TIMES, "failed"])
@pytest.mark.parametrize("text", BAD_TIMES)
def test_a_time_that_is_none_is_refused(key: str, text: str) -> None:
    data = {**WHOLE, key: [{**WHOLE["failed"][0], "at": text}] if key == "failed" else text}
    with pytest.raises(ValueError, match=r"."):
        Entry.from_json(data)


@pytest.mark.parametrize("key", ["id", "at", "failure"])
@pytest.mark.parametrize("value", [0, True, -1.5, [], {}, [[]]], ids=repr)
def test_a_failed_fetch_of_the_wrong_kind_is_refused(key: str, value: Any) -> None:
    failed = WHOLE["failed"][0]
    with pytest.raises((TypeError, ValueError)):
        Entry.from_json({**WHOLE, "failed": [{**failed, key: value}]})
    with pytest.raises(KeyError):
        Entry.from_json({**WHOLE, "failed": [{name: value for name, value in failed.items() if name != key}]})


def test_a_policy_needs_its_time_and_an_entry_something_to_remember() -> None:
    with pytest.raises(KeyError):
        Entry.from_json({"policy": POLICIES[0].text})
    with pytest.raises((TypeError, ValueError)):
        Entry.from_json({"policy": POLICIES[0].text, "fetched": None})
    for text in ("", "version: STSv1\nmode: enforce\nmax_age: 1\n"):
        with pytest.raises(ValueError, match="the policy of the entry is none"):
            Entry.from_json({"policy": text, "fetched": NOW.isoformat()})
    nothing: tuple[dict[str, Any], ...] = (
        {},
        {"id": "1"},
        {"failed": []},
        {"policy": None},
        {"checked": NOW.isoformat()},
        {"used": NOW.isoformat()},
    )
    for data in nothing:
        with pytest.raises(ValueError, match="an entry holds"):
            Entry.from_json(data)


def test_no_more_than_eight_failed_fetches_are_read() -> None:
    failed = WHOLE["failed"]
    assert len(Entry.from_json({**WHOLE, "failed": failed * MAX_FAILED}).failed) == MAX_FAILED
    with pytest.raises(ValueError, match="a few"):
        Entry.from_json({**WHOLE, "failed": failed * (MAX_FAILED + 1)})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(BAD_TIMES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WHOLE, "at", "failure"]), inner, max_size=7)
    ),
    max_leaves=10,
)


@given(json_values | st.builds(lambda data: WHOLE | data, st.dictionaries(st.sampled_from(list(WHOLE)), json_values)))
@EXAMPLES
def test_any_json_is_an_entry_or_is_refused(data: Any) -> None:
    try:
        entry = Entry.from_json(data)
    except (KeyError, TypeError, ValueError):
        return
    assert Entry.from_json(entry.to_json()) == entry


@pytest.mark.parametrize("policy_id", ["", "a b", "\x1b[31m", "a\n", "x" * 33, "ä"])
def test_what_can_be_no_id_is_not_read_as_one(policy_id: str) -> None:
    data = Entry.of("1", policy_of(), NOW).to_json()
    with pytest.raises(ValueError, match="is no id"):
        Entry.from_json(data | {"id": policy_id})
    with pytest.raises(ValueError, match="is no id"):
        FailedFetch.from_json({"id": policy_id, "at": NOW.isoformat(), "failure": "fetch-error"})


# --- what other versions write


def test_an_entry_of_the_first_version_is_read() -> None:  # it had neither "version" nor "ended"
    data = {key: value for key, value in WHOLE.items() if key not in {"version", "ended"}}
    assert Entry.from_json(data) == Entry.from_json(WHOLE)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_an_entry_of_another_version_is_refused(version: Any) -> None:
    with pytest.raises(ValueError, match="version"):
        Entry.from_json(WHOLE | {"version": version})


LATER = {"colour": "blue", "nested": {"a": [1, None, "\u20ac"]}}


def test_members_that_a_later_version_added_survive_whatever_is_written() -> None:
    entry = Entry.from_json(WHOLE | LATER)
    assert Entry.from_json(entry.to_json()) == entry
    hash(entry)
    written = (
        entry,
        entry.with_failure("3", NOW, StsFailure.DNS_ERROR),
        entry.with_policy("3", POLICIES[1], NOW + TICK),
        evolve(entry, used=NOW + TICK),
        merge(entry, Entry.from_json(WHOLE)),
        merge(entry, Entry.of("3", POLICIES[1], NOW + TICK)),  # by a sender that found nothing when it looked
        merge(entry, Entry.of("3", POLICIES[1], NOW - TICK)),
        merge(Entry.from_json(WHOLE), entry),
        merge(evolve(entry, policy=None, fetched=None), Entry.of("3", POLICIES[1], NOW)),
    )
    for each in written:
        assert {key: each.to_json().get(key) for key in LATER} == LATER
    newer = merge(entry, Entry.from_json(WHOLE | {"colour": "red"}))
    assert newer.to_json()["colour"] == "red"


def test_the_note_of_the_writer_stands() -> None:
    old, new = Entry.of("1", POLICIES[0], NOW), Entry.of("2", POLICIES[1], NOW + TICK)
    noted = evolve(old, ended=NOW)
    assert merge(old, noted).ended == NOW
    assert merge(noted, old).ended is None
    assert merge(new, noted).ended == NOW
    assert merge(noted, new).ended is None
    assert noted.with_policy("3", POLICIES[1], NOW).ended is None
