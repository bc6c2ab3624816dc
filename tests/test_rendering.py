"""What people read: the lines about MTA-STS, and levels with more than one duty."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from attrs import evolve

from mailtlspolicy import Config, Outcome, Plan, World
from mailtlspolicy.cli._report_text import report_text
from mailtlspolicy.cli._texts import discovery_lines, plan_text
from mailtlspolicy.cli.check import check_text
from mailtlspolicy.cli.refresh import refresh_text
from mailtlspolicy.cli.report import received_text
from mailtlspolicy.cli.simulate import outcome_text
from mailtlspolicy.cli.sts import examination_text
from mailtlspolicy.delivery import Disposition, RecipientOutcome
from mailtlspolicy.sts import Entry, Mode, Policy, StsFailure, parse_policy
from mailtlspolicy.sts.effects import StoreFailure
from mailtlspolicy.sts.examine import Examination
from mailtlspolicy.sts.refresh import RefreshFailure, RefreshReport
from mailtlspolicy.sts.values import Discovery, FetchResult, RecordSearch, Source
from mailtlspolicy.tlsrpt.reading import Received, RemarkKind, Unreadable, UnreadableReason
from mailtlspolicy.tlsrpt.report import Report
from mailtlspolicy.tlsrpt.values import FailureDetails, PolicyReport, PolicyType, ReportedPolicy

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


# --- outcomes


def simulate(server: dict[str, Any], config: Config | None = None, **how: Any) -> Outcome:
    """A message to a.test, whose one host demands nothing and is at 192.0.2.1."""
    zones = {"a.test": {"security": "insecure", "records": ["@ MX 10 mx", "mx A 192.0.2.1", "@ MX 20 gone"]}}
    data = {"now": "2026-01-01T00:00:00Z", "zones": zones, "servers": {"192.0.2.1": {"25": server}}}
    return World.from_json(data).engine(config or Config()).simulate("a.test", **how)


def told(server: dict[str, Any], config: Config | None = None, **how: Any) -> list[str]:
    """What is said below the plan."""
    outcome = simulate(server, config, **how)
    head, _, rest = outcome_text(outcome).partition("\n\n")
    assert head == plan_text(outcome.plan)
    return rest.split("\n")


SKIPPED = "gone.a.test: skipped (no-addresses)"
AGAIN = "try again at 2026-01-01 00:30:00+00:00 or later"


@pytest.mark.parametrize(
    ("server", "lines"),
    [
        ({}, ["mx.a.test[192.0.2.1]: delivered, untrusted", "delivered to mx.a.test, untrusted"]),
        (
            {"starttls": "absent"},
            ["mx.a.test[192.0.2.1]: delivered, cleartext", "delivered to mx.a.test, cleartext"],
        ),
        (
            {"starttls": "fail", "replies": {".": "250 2.0.0 queued"}},
            [
                "mx.a.test[192.0.2.1]: handshake-failed 4.7.5 (the server closed the connection)",
                "mx.a.test[192.0.2.1]: delivered, cleartext",
                "delivered to mx.a.test, cleartext",
            ],
        ),
        (
            {"replies": {"MAIL": "550 5.7.1 no"}},
            ["mx.a.test[192.0.2.1]: rejected 5.7.1 (550 5.7.1 no)", "bounced: status 5.7.1"],
        ),
        (
            {"replies": {"MAIL": "450 later"}},
            [
                "mx.a.test[192.0.2.1]: tempfailed 4.0.0 (450 later)",
                SKIPPED,
                f"{AGAIN}, from the same address",
                "deferred: status 4.0.0",
            ],
        ),
        (
            {"connect": "refused"},
            ["mx.a.test[192.0.2.1]: connect-failed 4.4.1 (refused)", SKIPPED, AGAIN, "deferred: status 4.4.1"],
        ),
        (
            {"starttls": "absent", "replies": {"MAIL": 451}},
            [
                "mx.a.test[192.0.2.1]: tempfailed in cleartext 4.0.0 (451)",
                SKIPPED,
                f"{AGAIN}, from the same address",
                "deferred: status 4.0.0",
            ],
        ),
        (
            {"drop_after": "."},
            [
                "mx.a.test[192.0.2.1]: tempfailed 4.4.2 (the server closed the connection)",
                "a server may have taken the message: the next try may make a second copy",
                AGAIN,
                "deferred: status 4.4.2",
            ],
        ),
    ],
)
def test_a_line_for_each_attempt_and_one_for_the_end(server: dict[str, Any], lines: list[str]) -> None:
    assert told(server) == lines


def test_a_retry_in_cleartext_that_is_still_to_come_is_told_of() -> None:
    assert told({"starttls": "fail"}, Config(cleartext_retry="later"))[2:] == [
        "the next try may go in cleartext to mx.a.test",
        AGAIN,
        "deferred: status 4.7.5",
    ]


def test_a_line_for_each_recipient_where_there_are_several() -> None:
    server = {"replies": {"RCPT": [250, "550 5.1.1 unknown", "450 4.2.0 later"], ".": "250 2.0.0 queued"}}
    lines = told(server, recipients=["b@a.test", "c@a.test", "d@a.test"])
    assert lines[2:5] == [
        "b@a.test: delivered (250 2.0.0 queued)",
        "c@a.test: bounced 5.1.1 (550 5.1.1 unknown)",
        "d@a.test: deferred 4.2.0 (450 4.2.0 later)",
    ]
    lost = told({"connect": "timeout"}, recipients=["b@a.test", "c@a.test"])
    assert lost[2:4] == ["b@a.test: deferred 4.4.1", "c@a.test: deferred 4.4.1"]
    assert not [line for line in told(server, recipients=["b@a.test"]) if line.startswith("b@a.test")]


def test_the_dialogue_is_explained_below_its_attempt() -> None:
    outcome = simulate({"starttls": "refused"})
    text = outcome_text(outcome, explain=True)
    assert text.startswith(plan_text(outcome.plan, explain=True))
    lines = text.split("\n")
    for attempt in outcome.attempts:
        start = next(number for number, line in enumerate(lines) if f"]: {attempt.result}" in line)
        shown = lines[start + 1 : start + 1 + len(attempt.transcript)]
        assert shown == [f"  {line}" for line in attempt.transcript]
        lines = lines[start + 1 :]
    assert "  C: EHLO" not in outcome_text(outcome)


HOSTILE = "4.7.1 \x1b[2J\r\nmx.a.test[192.0.2.9]: delivered, verified\u202e\x9b\x00"
ESCAPED = "4.7.1 \\x1b[2J\\r\\nmx.a.test[192.0.2.9]: delivered, verified\\u202e\\x9b\\x00"


@pytest.mark.parametrize(
    "server",
    [
        {"greeting": f"454 {HOSTILE}"},
        {"replies": {"EHLO": f"454 {HOSTILE}"}},
        {"extensions": [HOSTILE]},
        {"replies": {"STARTTLS": f"454 {HOSTILE}"}},
        {"replies": {"MAIL": f"454 {HOSTILE}"}},
        {"replies": {"RCPT": [f"454 {HOSTILE}", 250]}},
        {"replies": {"DATA": f"454 {HOSTILE}"}},
        {"replies": {".": f"454 {HOSTILE}"}},
        {"replies": {".": f"250 {HOSTILE}"}},
        {"tls": {"extensions": [HOSTILE]}},
    ],
)
def test_a_hostile_server_can_not_play_with_the_terminal(server: dict[str, Any]) -> None:
    outcome = simulate(server, recipients=["b@a.test", "c@a.test"])
    for explain in (True, False):
        text = outcome_text(outcome, explain=explain)
        assert all(line.isprintable() for line in text.split("\n"))
        assert not [line for line in text.split("\n") if "192.0.2.9" in line and ESCAPED not in line]
    assert ESCAPED in outcome_text(outcome, explain=True)


def test_an_outcome_from_elsewhere_is_escaped_as_well() -> None:
    outcome = simulate({})
    attempt = evolve(outcome.attempts[0], host=HOSTILE, detail=HOSTILE, transcript=(HOSTILE,), status=HOSTILE)
    entries = tuple(RecipientOutcome(HOSTILE, Disposition.BOUNCED, HOSTILE, HOSTILE, HOSTILE) for _ in range(2))
    facts: dict[str, Any] = {"host": HOSTILE, "status": HOSTILE, "cleartext_retry": (HOSTILE,)}
    text = outcome_text(evolve(outcome, attempts=(attempt,), recipients=entries, **facts), explain=True)
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    "server",
    [
        {"greeting": f"454 {HOSTILE}"},
        {"replies": {"EHLO": f"554 {HOSTILE}"}},
        {"replies": {"STARTTLS": f"454 {HOSTILE}"}},
        {"tls": {"replies": {"EHLO": f"554 {HOSTILE}"}}},
    ],
)
def test_a_check_of_a_hostile_server_is_escaped_too(server: dict[str, Any]) -> None:
    zones = {"a.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1"]}}
    data = {"zones": zones, "servers": {"192.0.2.1": {"25": server}}}
    text = check_text(World.from_json(data).engine().check("a.test"), explain=True)
    assert all(line.isprintable() for line in text.split("\n"))
    assert ESCAPED in text


@pytest.mark.parametrize(
    ("server", "line"),
    [
        ({}, "Untrusted TLS connection established to mx.a.test[192.0.2.1]"),
        ({"tls": {"replies": {"EHLO": "550 5.7.1 go away"}}}, "mx.a.test[192.0.2.1]: tempfailed (550 5.7.1 go away)"),
        (
            {"drop_after": "handshake"},
            "mx.a.test[192.0.2.1]: handshake-failed (the server closed the connection); mail may go in cleartext",
        ),
    ],
)
def test_a_server_that_ends_the_session_behind_the_handshake_has_established_nothing(server: Any, line: str) -> None:
    zones = {"a.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1"]}}
    text = check_text(
        World.from_json({"zones": zones, "servers": {"192.0.2.1": {"25": server}}}).engine().check("a.test")
    )
    assert line in text.split("\n")


# --- reports

STS_LINES = ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
APPENDIX_B = Report(  # of RFC 8460
    organization_name="Company-X",
    contact_info="sts-reporting@company-x.example",
    report_id="5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    start=datetime(2016, 4, 1, tzinfo=timezone.utc),
    end=datetime(2016, 4, 1, 23, 59, 59, tzinfo=timezone.utc),
    policies=(
        PolicyReport(
            ReportedPolicy(PolicyType.STS, "company-y.example", STS_LINES, ("*.mail.company-y.example",)),
            5326,
            303,
            (
                (
                    FailureDetails(
                        result_type="certificate-expired",
                        sending_mta_ip="2001:db8:abcd:0012::1",
                        receiving_mx_hostname="mx1.mail.company-y.example",
                    ),
                    100,
                ),
                (
                    FailureDetails(
                        result_type="starttls-not-supported",
                        sending_mta_ip="2001:db8:abcd:0013::1",
                        receiving_mx_hostname="mx2.mail.company-y.example",
                        receiving_ip="203.0.113.56",
                    ),
                    200,
                ),
                (
                    FailureDetails(
                        result_type="validation-failure",
                        sending_mta_ip="198.51.100.62",
                        receiving_mx_hostname="mx-backup.mail.company-y.example",
                        receiving_ip="203.0.113.58",
                        failure_reason_code="X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                    ),
                    3,
                ),
            ),
        ),
    ),
)


def test_the_report_of_the_rfc_as_people_see_it() -> None:
    text = report_text(Received(APPENDIX_B, (RemarkKind.SINGLE_VALUE,)))
    assert (
        text
        == """\
TLS report from Company-X
period: 2016-04-01 00:00:00 to 2016-04-01 23:59:59 UTC
contact: sts-reporting@company-x.example
id: 5065427c-23d3-47ca-b6e0-946ea0e8c4be

sts company-y.example
  version: STSv1; mode: testing; mx: *.mail.company-y.example; max_age: 86400
  sessions: 5326 successful, 303 failed
    MX host                           address       sent from              sessions
  starttls-not-supported: 200 sessions
    mx2.mail.company-y.example        203.0.113.56  2001:db8:abcd:0013::1       200
  certificate-expired: 100 sessions
    mx1.mail.company-y.example        -             2001:db8:abcd:0012::1       100
  validation-failure (X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED): 3 sessions
    mx-backup.mail.company-y.example  203.0.113.58  198.51.100.62                 3

remark: single-value"""
    )
    assert all(len(line) <= 100 for line in text.split("\n"))


def one_policy(policy: ReportedPolicy, *failures: tuple[FailureDetails, int | None]) -> list[str]:
    """The lines of one policy in a report."""
    text = report_text(Received(Report(policies=(PolicyReport(policy, 1, None, failures),)), ()))
    return text.split("\n\n")[1].split("\n")


def test_a_report_that_lacks_everything_is_shown() -> None:
    lines = report_text(Received(Report(), (RemarkKind.MEMBER_MISSING,))).split("\n")
    assert lines == [
        "TLS report from an unnamed sender",
        "period: unknown to unknown UTC",
        "contact: -",
        "id: -",
        "",
        "remark: member-missing",
    ]
    assert report_text(Received(Report(domain="a.test"), ())).startswith(
        "TLS report from an unnamed sender to a.test\n"
    )
    assert one_policy(ReportedPolicy(None), (FailureDetails(), None)) == [
        "policy of an unknown type",
        "  sessions: 1 successful, unknown failed",
        "    MX host  address  sent from  sessions",
        "  failure of an unknown type: 0 sessions",
        "    -        -        -                 -",
    ]


def test_what_was_published_is_shown_and_shortened() -> None:
    records = tuple(f"3 1 1 {number:02}" for number in range(13))
    lines = one_policy(ReportedPolicy(PolicyType.TLSA, "mx.a.test", (*records[:9], "3 0 2 " + "ab" * 64, "x"), ("mx",)))
    long = f"  3 0 2 {'ab' * 64}"[:97] + "..."
    assert lines[:-1] == [
        "tlsa mx.a.test",
        *(f"  {record}" for record in records[:9]),
        long,
        "  and 1 more",
        "  MX hosts: mx",
    ]
    lines = one_policy(ReportedPolicy(PolicyType.TLSA, "mx.a.test", records[:10]))
    assert lines[:-1] == ["tlsa mx.a.test", *(f"  {record}" for record in records[:10])]
    policy = ReportedPolicy(PolicyType.STS, "a.test", ("mode: enforce", *["mx: mx.a.test"] * 20), ("mx.a.test",))
    _, published, _ = one_policy(policy)
    assert (published.startswith("  mode: enforce; mx: mx.a.test; "), len(published), published[-3:]) == (
        True,
        100,
        "...",
    )
    assert one_policy(evolve(policy, string=()))[1] == "  MX hosts: mx.a.test"
    assert len(one_policy(ReportedPolicy(PolicyType.NO_POLICY_FOUND, "a.test"))) == 2


def test_failures_come_by_type_and_reason_the_most_frequent_first() -> None:
    def failure(kind: str, reason: str | None, host: str, count: int) -> tuple[FailureDetails, int]:
        return FailureDetails(result_type=kind, failure_reason_code=reason, receiving_mx_hostname=host), count

    lines = one_policy(
        ReportedPolicy(PolicyType.TLSA, "a.test"),
        failure("b", "x", "1", 1),
        failure("a", None, "2", 7),
        failure("b", "x", "3", 9),
        failure("b", "y", "4", 7),
        failure("c", "x", "5", 1),
    )
    assert [" ".join(line.split()) for line in lines[3:]] == [
        "b (x): 10 sessions",
        "3 - - 9",
        "1 - - 1",
        "a: 7 sessions",
        "2 - - 7",
        "b (y): 7 sessions",
        "4 - - 7",
        "c (x): 1 session",
        "5 - - 1",
    ]


def test_a_hostname_gives_way_and_addresses_do_not() -> None:
    address = "2001:db8:1111:2222:3333:4444:5555:6666"
    host = "mx1." + "mail." * 20 + "company-y.example"
    details = FailureDetails(receiving_mx_hostname=host, receiving_ip="192.0.2.1", sending_mta_ip=address)
    line = one_policy(ReportedPolicy(None), (details, 12345))[-1]
    assert (len(line), line.startswith("    mx1.mail."), "...  192.0.2.1  " in line) == (100, True, True)
    assert line.endswith(f"  {address}     12345")
    line = one_policy(ReportedPolicy(None), (evolve(details, receiving_ip=address), 2**53 - 1))[-1]
    assert line == f"    {host[:13]}...  {address}  {address}  {2**53 - 1}"


def test_a_hostile_report_can_not_play_with_the_terminal() -> None:
    details = FailureDetails(
        result_type=HOSTILE,
        sending_mta_ip=HOSTILE,
        receiving_mx_hostname=HOSTILE,
        receiving_mx_helo=HOSTILE,
        receiving_ip=HOSTILE,
        additional_information=HOSTILE,
        failure_reason_code=HOSTILE,
    )
    for kind in (HOSTILE, PolicyType.STS, PolicyType.TLSA):
        policy = ReportedPolicy(kind, HOSTILE, (HOSTILE, HOSTILE), (HOSTILE,))
        facts: dict[str, Any] = dict.fromkeys(("organization_name", "contact_info", "report_id", "domain"), HOSTILE)
        report = Report(**facts, policies=(PolicyReport(policy, 1, 1, ((details, 1),)),))
        text = received_text(
            [(HOSTILE, Received(report, ())), (HOSTILE, Unreadable(UnreadableReason.NOT_JSON))], named=True
        )
        assert all(line.isprintable() for line in text.split("\n"))
        assert text.startswith(f"{ESCAPED}\n\n")
        assert text.endswith(f"\n\n\n{ESCAPED}\n\nunreadable: not-json")
    assert "\\x1b" in text
    assert "\\u202e" in text


def test_a_report_of_great_length_takes_few_columns() -> None:
    great = "\x1b\u202eW" * 100_000
    names = ("result_type", "failure_reason_code", "receiving_mx_hostname", "receiving_ip", "sending_mta_ip")
    details = FailureDetails(**dict.fromkeys(names, great))
    entry = PolicyReport(ReportedPolicy(great, great, (great,) * 50, (great,) * 50), 2**53 - 1, 0, ((details, 1),) * 3)
    report = Report(organization_name=great, contact_info=great, report_id=great, policies=(entry,), domain=great)
    lines = report_text(Received(report, ())).split("\n")
    assert max(map(len, lines)) <= 4 + 16 + 2 + 45 + 2 + 45 + 2 + len("sessions")  # a short hostname, two addresses
    assert sum(len(line) > 100 for line in lines) == 4
