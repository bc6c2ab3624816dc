"""What people read: the lines about MTA-STS, and levels with more than one duty."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from mailtlspolicy import Config, Plan, World
from mailtlspolicy.effects import StoreFailure
from mailtlspolicy.rendering import discovery_lines, examination_text, plan_text, refresh_text
from mailtlspolicy.sts import Entry, Mode, Policy, StsFailure, parse_policy
from mailtlspolicy.sts.examine import Examination
from mailtlspolicy.sts.refresh import RefreshFailure, RefreshReport
from mailtlspolicy.sts.values import Discovery, FetchResult, RecordSearch, Source

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
BODY = "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 604800\n"
KNOWN: dict[str, Any] = {"id": "1", "source": Source.CACHED, "expires": NOW}


def policy(body: str = BODY) -> Policy:
    read = parse_policy(body.encode())
    assert isinstance(read, Policy)
    return read


# --- discovery


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({}, []),
        (
            {"policy": policy(), **KNOWN},
            ["MTA-STS policy of a.test: mode enforce, id 1, cached, in force until 2026-01-01 00:00:00+00:00"],
        ),
        (
            {"policy": policy(), **KNOWN, "id": None, "source": Source.FETCHED},
            ["MTA-STS policy of a.test: mode enforce, id None, fetched, in force until 2026-01-01 00:00:00+00:00"],
        ),
        ({"failure": StsFailure.DNS_ERROR, "detail": "no answer"}, ["MTA-STS: dns-error: no answer"]),
        ({"store_failure": "disk full", "unknown": True}, ["the policy store failed: disk full"]),
    ],
)
def test_a_line_for_the_policy_in_force_and_for_each_thing_that_is_wrong(
    facts: dict[str, Any], lines: list[str]
) -> None:
    assert discovery_lines(Discovery(domain="a.test", **facts)) == lines


def test_a_policy_stays_and_what_is_wrong_comes_below_it() -> None:
    wrong: dict[str, Any] = {"failure": StsFailure.FETCH_ERROR, "detail": "timed out", "store_failure": "disk full"}
    found = Discovery(domain="a.test", policy=policy(), **KNOWN, **wrong)
    lines = discovery_lines(found)
    assert [line.partition(":")[0] for line in lines] == [
        "MTA-STS policy of a.test",
        "MTA-STS",
        "the policy store failed",
    ]
    text = plan_text(World.from_json({"now": "2026-01-01T00:00:00Z"}).engine().plan("a.test")).splitlines()
    assert not [line for line in text if "MTA-STS" in line]


# --- levels

TLSA = "3 1 1 " + "a1" * 32
WORLD: dict[str, Any] = {
    "now": "2026-01-01T00:00:00Z",
    "zones": {
        "a.test": {
            "records": ["@ MX 10 mx", "mx A 192.0.2.1", f"_25._tcp.mx TLSA {TLSA}", '_mta-sts TXT "v=STSv1; id=1;"']
        }
    },
    "https": {"mta-sts.a.test": {"content_type": "text/plain", "body": BODY}},
}


def plan(settings: dict[str, str], security: str = "secure", body: str = BODY) -> Plan:
    zones = {"a.test": {**WORLD["zones"]["a.test"], "security": security}}
    https = {"mta-sts.a.test": {"content_type": "text/plain", "body": body}}
    return (
        World.from_json({**WORLD, "zones": zones, "https": https}).engine(Config.from_settings(settings)).plan("a.test")
    )


@pytest.mark.parametrize(
    ("settings", "security", "level"),
    [
        ({}, "secure", "dane"),  # which exempts from the policy
        ({"sts_with_dane": "both"}, "secure", "dane and pkix"),
        ({"sts_with_dane": "both", "sts": "off"}, "secure", "dane"),
        ({"dane": "off"}, "secure", "secure"),
        ({}, "insecure", "secure"),
        ({"sts": "off"}, "insecure", "may"),
    ],
)
def test_the_level_of_a_host_names_both_duties(settings: dict[str, str], security: str, level: str) -> None:
    made = plan(settings, security)
    header, row = plan_text(made).splitlines()[-2:]
    start, end = header.index("level"), header.index("addresses")
    assert row[start:end].strip() == level


def test_a_host_that_is_not_listed_says_so_in_its_row() -> None:
    lines = plan_text(plan({}, "insecure", BODY.replace("mx.a.test", "mx.b.test"))).splitlines()
    assert [line for line in lines if "skipped: sts-mx-mismatch" in line and "mx.a.test" in line]
    assert lines[-1] == "undeliverable (transient): no-hosts, status 4.7.5"


def test_the_steps_of_discovery_are_explained_with_their_sections() -> None:
    text = plan_text(plan({}, "insecure"), explain=True)
    assert "RFC 8461 section 3.1" in text
    assert "RFC 8461 section 3.3" in text


# --- examinations and refreshes


def examination(cached: Entry | StoreFailure | None) -> list[str]:
    found = RecordSearch(
        failure=StsFailure.RECORD_INVALID, detail="two records", announced=(b"v=STSv1; id=1", b"\xe4;")
    )
    fetched = FetchResult(policy(), detail="served", body=BODY.encode())
    return examination_text(Examination("a.test", found, fetched, cached)).splitlines()


def test_what_is_published_is_shown_even_where_no_sender_takes_it() -> None:
    assert examination(None) == [
        "record: two records",
        "  v=STSv1; id=1",
        "  \\xe4;",
        "policy: served",
        *(f"  {line}" for line in BODY.splitlines()),
        "cached: nothing",
        "a sender discovers no policy",
    ]


def test_what_is_cached_is_shown_with_what_failed_since() -> None:
    entry = Entry.of("0", policy(), NOW).with_failure("1", NOW, StsFailure.WEBPKI_INVALID)
    assert examination(entry)[-3:-1] == [
        "cached: mode enforce, id 0, fetched 2026-01-01 00:00:00+00:00, until 2026-01-08 00:00:00+00:00",
        "cached: failed at 2026-01-01 00:00:00+00:00 for id 1: webpki-invalid",
    ]
    failed = Entry(checked=NOW, used=NOW).with_failure("1", NOW, StsFailure.FETCH_ERROR)
    assert examination(failed)[-2] == "cached: failed at 2026-01-01 00:00:00+00:00 for id 1: fetch-error"
    assert examination(StoreFailure("disk full"))[-2] == "cached: the policy store failed: disk full"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", [""]),
        (b"a\r\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\rb\n", ["a\\rb"]),
        (b"\xff\x1b\x7f\t", ["\\xff\\x1b\\x7f\\t"]),
        ("ä\u2028\u200b\U000e0001".encode(), ["ä\\u2028\\u200b\\U000e0001"]),
    ],
)
def test_a_body_is_shown_line_by_line_with_all_escaped_that_is_no_text(body: bytes, lines: list[str]) -> None:
    fetched = FetchResult(failure=StsFailure.POLICY_INVALID, detail="bad", body=body)
    text = examination_text(Examination("a.test", RecordSearch(detail="none"), fetched))
    shown = text.split("\n")
    assert shown[2 : shown.index("cached: nothing")] == [f"  {line}" for line in lines]


def test_a_refresh_names_what_needs_a_look_and_counts_the_rest() -> None:
    failed = RefreshFailure("b.test", Mode.TESTING, StsFailure.FETCH_ERROR, "timed out", NOW, 60)
    report = RefreshReport(("a.test", "c.test"), (failed,), ("d.test",), ("e.test: disk full",))
    assert refresh_text(report).splitlines() == [
        "b.test: fetch-error, in force (mode testing) until 2026-01-01 00:00:00+00:00: timed out",
        "the policy store failed: e.test: disk full",
        "refreshed 2, failed 1, dropped 1, store failures 1",
    ]
