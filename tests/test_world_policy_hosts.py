"""The policy hosts of the static world, and the policies that are cached in it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from mailtlspolicy import World
from mailtlspolicy.sts import Entry, StsFailure, parse_policy
from mailtlspolicy.sts.effects import Fetch, Fetched, FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import fetch_whole


def fetched(host: dict[str, Any], *, name: str = "mta-sts.c.test", asked: str = "mta-sts.c.test") -> Any:
    """What a fetch from a world with this policy host gives."""
    fetcher = World.from_json({"https": {name: host}}).fetcher
    return fetch_whole(fetcher, Fetch(asked, max_octets=100, max_seconds=5))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ({}, Fetched(200, None, b"")),
        ({"content_type": "text/plain", "body": "é"}, Fetched(200, "text/plain", b"\xc3\xa9")),
        ({"content_type": None, "certificate": "valid"}, Fetched(200, None, b"")),
        ({"status": 404, "content_type": "text/html"}, Fetched(404, "text/html", b"")),
        ({"status": 301, "location": "https://www.c.test/"}, Fetched(301, None, b"")),  # which nobody follows
        ({"body": "a" * 100}, Fetched(200, None, b"a" * 100)),
    ],
)
def test_a_policy_host_shows_status_type_and_body(host: dict[str, Any], shown: Fetched) -> None:
    assert fetched(host) == shown


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ({"certificate": "expired"}, FetchFailureKind.CERTIFICATE_EXPIRED),
        ({"certificate": "untrusted"}, FetchFailureKind.CERTIFICATE_NOT_TRUSTED),
        ({"certificate": "wrong-name", "status": 404}, FetchFailureKind.CERTIFICATE_HOST_MISMATCH),
        ({"error": "timeout", "body": "x"}, FetchFailureKind.TIMEOUT),
        ({"error": "refused", "certificate": "expired"}, FetchFailureKind.CONNECT),  # it never came to a certificate
        ({"body": "a" * 101}, FetchFailureKind.TOO_LONG),
    ],
)
def test_a_policy_host_fails_as_it_is_said_to(host: dict[str, Any], kind: FetchFailureKind) -> None:
    shown = fetched(host)
    assert isinstance(shown, FetchFailure)
    assert shown.kind is kind


def test_a_policy_host_is_found_by_its_name_in_any_spelling_and_others_refuse() -> None:
    for name in ("MTA-STS.C.test", "mta-sts.c.test."):
        assert fetched({}, name=name) == Fetched(200, None, b"")
    shown = fetched({}, asked="mta-sts.d.test")
    assert isinstance(shown, FetchFailure)
    assert shown.kind is FetchFailureKind.CONNECT


EMPTY: tuple[Any, ...] = (0, False, [], {})


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        (5, "object"),
        ([], "object"),
        (None, "object"),
        ({"bodi": ""}, "bodi"),
        ({"status": 99}, "99"),
        ({"status": 1000}, "1000"),
        ({"status": "200"}, "'200'"),
        ({"status": True}, "True"),
        ({"body": 5}, "body"),
        ({"body": None}, "body"),
        ({"content_type": 5}, "content_type"),
        ({"certificate": "self-signed"}, "self-signed"),
        ({"certificate": None}, "None"),
        ({"certificate": ["valid"]}, "valid"),
        ({"error": "reset"}, "reset"),
        ({"error": None}, "None"),
        ({"location": 5}, "location"),
        *(({"content_type": no}, "content_type") for no in EMPTY),
    ],
)
def test_a_malformed_policy_host_is_refused_by_name(host: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=r"mta-sts\.c\.test") as error:
        World.from_json({"https": {"mta-sts.c.test": host}})
    assert fault in str(error.value)


POLICY = "version: STSv1\nmode: enforce\nmx: mx.c.test\nmax_age: 86400\n"
ENTRY = {"id": "1", "fetched": "2026-01-01T00:00:00Z", "policy": POLICY}
FAILED = {"id": "2", "at": "2026-01-02T00:00:00Z", "failure": "fetch-error"}


def cached(data: dict[str, Any]) -> Entry:
    """How the world's store has an entry."""
    world = World.from_json({"cache": {"C.test.": data}})
    entry = world.engine().store.load("c.test")
    assert isinstance(entry, Entry)
    assert entry == world.cache["c.test"]
    return entry


def test_a_cached_policy_needs_its_id_its_text_and_its_time() -> None:
    policy = parse_policy(POLICY.encode())
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert cached(ENTRY) == Entry(policy=policy, id="1", fetched=at, checked=at, used=at)  # type: ignore[arg-type]
    assert cached({**ENTRY, "id": None}).id is None  # a refresh that saw no record


def test_an_entry_may_say_when_it_was_checked_and_used_and_what_failed() -> None:
    more = {"checked": "2026-01-03T00:00:00Z", "used": "2026-01-02T01:00:00+01:00", "failed": [FAILED], "failures": 3}
    entry = cached({**ENTRY, **more})
    assert entry.checked == datetime(2026, 1, 3, tzinfo=timezone.utc)
    assert entry.used == datetime(2026, 1, 2, tzinfo=timezone.utc)
    (failed,) = entry.failed
    assert (failed.id, failed.at, failed.failure, entry.failures) == (
        "2",
        datetime(2026, 1, 2, tzinfo=timezone.utc),
        StsFailure.FETCH_ERROR,
        3,
    )


def test_an_entry_without_a_policy_remembers_failed_fetches_alone() -> None:
    entry = cached({"failed": [{**FAILED, "id": None}, {**FAILED, "at": "2026-01-03T00:00:00Z"}]})
    latest = datetime(2026, 1, 3, tzinfo=timezone.utc)
    assert (entry.policy, entry.fetched, entry.checked, entry.used) == (None, None, latest, latest)
    assert (len(entry.failed), entry.failures) == (2, 2)


def test_what_an_entry_says_of_itself_can_be_cached_again() -> None:
    entry = cached({**ENTRY, "failed": [FAILED]})
    assert cached(entry.to_json()) == entry


def test_each_engine_of_a_world_has_a_store_of_its_own() -> None:
    world = World.from_json({"cache": {"c.test": ENTRY}})
    engine, other = world.engine(), world.engine()
    engine.store.drop("c.test", world.cache["c.test"])
    assert (engine.store.load("c.test"), other.store.load("c.test")) == (None, world.cache["c.test"])


@pytest.mark.parametrize(
    "entry",
    [
        5,
        [],
        None,
        {**ENTRY, "max_age": 5},
        {**ENTRY, "id": 5},
        {"fetched": ENTRY["fetched"], "policy": POLICY, "id": ["1"]},
        {"id": "1", "policy": POLICY},
        {**ENTRY, "fetched": 1767225600},
        {**ENTRY, "fetched": None},
        {**ENTRY, "policy": 5},
        {**ENTRY, "checked": None},
        {**ENTRY, "used": 5},
        {**ENTRY, "failed": 5},
        {**ENTRY, "failed": [5]},
        {**ENTRY, "failed": [{}]},
        {**ENTRY, "failed": [{**FAILED, "id": 5}]},
        {**ENTRY, "failures": -1},
        {**ENTRY, "failures": "1"},
        {**ENTRY, "failures": True},
        {},
        {"failed": []},
        {**ENTRY, "fetched": "yesterday"},
        {**ENTRY, "fetched": "2026-01-01T00:00:00"},
        {**ENTRY, "checked": "later"},
        {**ENTRY, "policy": "version: STSv2\n"},
        {**ENTRY, "failed": [{**FAILED, "failure": "bad-luck"}]},
        {**ENTRY, "failed": [FAILED] * 9},
        {**ENTRY, "failed": {}},
        {**ENTRY, "failed": ""},
        {**ENTRY, "failed": [{**FAILED, "detail": "x"}]},
    ],
)
def test_a_malformed_entry_is_refused_by_the_name_of_its_domain(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"c\.test"):
        World.from_json({"cache": {"c.test": entry}})


@pytest.mark.parametrize("key", ["https", "cache"])
def test_names_of_policy_hosts_and_domains_are_names(key: str) -> None:
    data = {"https": {}, "cache": ENTRY}[key]
    for name in ("c..test", "", "192.0.2.1", "https://c.test/"):
        with pytest.raises(ValueError, match=r"\S"):
            World.from_json({key: {name: data}})
    for wrong in (*EMPTY[:3], None, "c.test"):
        with pytest.raises(ValueError, match=key):
            World.from_json({key: wrong})


@pytest.mark.parametrize("key", ["https", "cache"])
def test_two_spellings_of_a_name_are_refused(key: str) -> None:
    data = {"https": {}, "cache": ENTRY}[key]
    with pytest.raises(ValueError, match="twice"):
        World.from_json({key: {"c.test": data, "C.test.": data}})
