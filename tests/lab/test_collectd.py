"""The senders and the datagrams, against tlsrpt-collectd; and what its reporter makes of them, beside our reports."""

from __future__ import annotations

import asyncio
import email
import gzip
import json
import signal
import time
from datetime import datetime, timedelta, timezone
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from mailtlspolicy import tlsrpt
from mailtlspolicy.adapters.collectd import AsyncCollectdSender, CollectdSender, SendFailureKind
from mailtlspolicy.config import Config
from mailtlspolicy.plan.mx import NextHop
from mailtlspolicy.testing import vectors
from mailtlspolicy.tlsrpt import PolicyType
from mailtlspolicy.tlsrpt.aggregate import MAX_OCTETS
from mailtlspolicy.tlsrpt.reading import Received, ReceivedMail, read_report, read_report_mail
from mailtlspolicy.world.world import World
from tests import month
from tests.lab import collectd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailtlspolicy.delivery import Outcome

RECORD = "v=TLSRPTv1; rua=mailto:reports@{domain},https://{domain}/"
TLSA = ["3 1 1 " + "ab" * 32]
POLICY = ["version: STSv1", "mode: enforce", "mx: mx.{domain}", "mx: *.Ünd.test", "max_age: 1"]


def datagram(domain: str, *policies: dict[str, Any], record: str = RECORD) -> bytes:
    record = record.format(domain=domain)
    return json.dumps({"dpv": "1", "d": domain, "pr": record, "policies": policies}).encode()


def none(domain: str, *details: dict[str, Any]) -> dict[str, Any]:
    """A session without a policy, which failed if there are details."""
    found = {"policy-type": 9, "policy-domain": domain, "t": len(details), "f": int(bool(details))}
    return found | {"failure-details": details} if details else found


def frozen(value: Any) -> Any:
    """A value for a set: an object as the set of its members, an array of objects as a set."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        found = [frozen(item) for item in value]
        return frozenset(found) if value and isinstance(value[0], dict) else tuple(found)
    return value


def policies_of(report: Any) -> Any:
    """What a report says of each policy, as a set; each is named once, and so is each detail."""
    for policy in report["policies"]:
        assert len(policy["failure-details"]) == len(set(map(frozen, policy["failure-details"])))
    found = set(map(frozen, report["policies"]))
    assert len(found) == len(report["policies"])
    return found


def feed(running: collectd.Collectd, datagrams: Iterable[bytes]) -> None:
    with CollectdSender(running.path, backlog=10_000) as sender:
        for octets in datagrams:
            sender.send(octets)
        end = time.monotonic() + collectd.SECONDS
        while sender.flush() is not None:
            assert time.monotonic() < end
            time.sleep(0.01)


def reported(folder: Path, datagrams: Iterable[bytes]) -> collectd.Delivered:
    """What the reporter makes of datagrams."""
    with collectd.run(folder) as running:
        feed(running, datagrams)
        running.roll_over()
        return running.report()


# --- datagrams as they are written by hand ----------------------------------------------------------------------------

CODES = {
    201: "starttls-not-supported",
    202: "certificate-host-mismatch",
    203: "certificate-not-trusted",
    204: "certificate-expired",
    205: "validation-failure",
    301: "sts-policy-fetch-error",
    302: "sts-policy-invalid",
    303: "sts-webpki-invalid",
    304: "tlsa-invalid",
    305: "dnssec-invalid",
    306: "dane-required",
}
"""The codes of libtlsrpt (tlsrpt.h), and what RFC 8460 section 4.3 calls them."""


def by_hand() -> list[bytes]:
    tlsa = {"policy-type": 1, "policy-string": TLSA, "policy-domain": "mx.a.test", "mx-host": ["mx.a.test"]}
    sts = {"policy-type": 2, "policy-string": POLICY, "policy-domain": "a.test", "mx-host": ["mx.a.test", "*.b.test"]}
    where = {"s": "192.0.2.1", "n": "mx.a.test", "h": "mx7.a.test", "r": "2001:db8::1"}
    mismatch = {"c": 205, **where, "f": "sts-mx-mismatch"}
    passed = {"t": 0, "f": 0}
    return [
        *3 * [datagram("a.test", tlsa | passed, sts | passed)],
        # one session that fails by one policy, for two reasons
        *2
        * [
            datagram(
                "a.test", tlsa | passed, sts | {"failure-details": [mismatch, {"c": 204, **where}], "t": 2, "f": 1}
            )
        ],
        # a detail beside a success
        datagram("a.test", sts | {"failure-details": [{"c": 301, "f": "fetch-error"}], "t": 1, "f": 0}),
        *(datagram("b.test", none("b.test", {"c": code, "n": "mx.b.test"})) for code in CODES),
        *4 * [datagram("b.test", none("b.test"))],
    ]


def test_the_reporter_says_what_it_was_told(tmp_path: Path) -> None:
    found = reported(tmp_path, by_hand())
    where = {
        "sending-mta-ip": "192.0.2.1",
        "receiving-mx-hostname": "mx.a.test",
        "receiving-mx-helo": "mx7.a.test",
        "receiving-ip": "2001:db8::1",
    }
    assert policies_of(found.uploaded("https://a.test/")) == {
        frozen(
            {
                "policy": {
                    "policy-type": "tlsa",
                    "policy-string": TLSA,
                    "policy-domain": "mx.a.test",
                    "mx-host": ["mx.a.test"],
                },
                "summary": {"total-successful-session-count": 5, "total-failure-session-count": 0},
                "failure-details": [],
            }
        ),
        frozen(
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": POLICY,
                    "policy-domain": "a.test",
                    "mx-host": ["mx.a.test", "*.b.test"],
                },
                "summary": {"total-successful-session-count": 4, "total-failure-session-count": 2},
                "failure-details": [
                    {
                        "result-type": "validation-failure",
                        **where,
                        "failure-reason-code": "sts-mx-mismatch",
                        "failed-session-count": 2,
                    },
                    {"result-type": "certificate-expired", **where, "failed-session-count": 2},
                    {
                        "result-type": "sts-policy-fetch-error",
                        "failure-reason-code": "fetch-error",
                        "failed-session-count": 1,
                    },
                ],
            }
        ),
    }
    assert policies_of(found.uploaded("https://b.test/")) == {
        frozen(
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "b.test"},
                "summary": {"total-successful-session-count": 4, "total-failure-session-count": len(CODES)},
                "failure-details": [
                    {"result-type": name, "receiving-mx-hostname": "mx.b.test", "failed-session-count": 1}
                    for name in CODES.values()
                ],
            }
        )
    }
    assert not found.complaints


def counted(found: collectd.Delivered, domain: str = "a.test") -> int:
    """How many sessions a report counts."""
    (policy,) = found.report(domain)["policies"]
    return int(policy["summary"]["total-successful-session-count"])


def test_a_long_datagram_is_read(tmp_path: Path) -> None:
    lines = ["version: STSv1", *(f"x{number}: {'y' * 990}" for number in range(500))]
    found = {"policy-type": 2, "policy-string": lines, "policy-domain": "a.test", "t": 0, "f": 0}
    with collectd.run(tmp_path) as running:
        with CollectdSender(running.path) as sender:
            assert sender.send(datagram("a.test", found)) is None
        running.roll_over()
        (policy,) = running.report().report("a.test")["policies"]
    assert policy["policy"]["policy-string"] == lines


# --- a collector that sleeps, or restarts -----------------------------------------------------------------------------

SESSIONS = [datagram("a.test", none("a.test"))] * 500


def test_nothing_is_lost_while_the_collector_sleeps(tmp_path: Path) -> None:
    with collectd.run(tmp_path) as running:
        with CollectdSender(running.path) as sender:
            running.process.send_signal(signal.SIGSTOP)
            begin = time.monotonic()
            failures = [sender.send(octets) for octets in SESSIONS]
            assert time.monotonic() - begin < 1
            assert {failure.kind for failure in failures if failure} == {SendFailureKind.QUEUE_FULL}
            running.process.send_signal(signal.SIGCONT)
            assert sender.dropped == 0
            feed_rest(sender)
        running.roll_over()
        assert counted(running.report()) == len(SESSIONS)


def feed_rest(sender: CollectdSender) -> None:
    end = time.monotonic() + collectd.SECONDS
    while sender.flush() is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_asynchronous_sender_goes_on_by_itself_when_the_collector_wakes(tmp_path: Path) -> None:
    async def send(running: collectd.Collectd) -> None:
        async with AsyncCollectdSender(running.path) as sender:
            running.process.send_signal(signal.SIGSTOP)
            for octets in SESSIONS:
                sender.send(octets)
            assert sender.waiting > 0
            running.process.send_signal(signal.SIGCONT)
            end = time.monotonic() + collectd.SECONDS
            while sender.waiting:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            assert sender.dropped == 0

    with collectd.run(tmp_path) as running:
        asyncio.run(send(running))
        running.roll_over()
        assert counted(running.report()) == len(SESSIONS)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_sent_while_there_is_no_collector_goes_to_the_next_one(by: signal.Signals, tmp_path: Path) -> None:
    """It has counted before what it had read: a second of silence writes its database."""
    first, between, last = SESSIONS[:20], SESSIONS[:30], SESSIONS[:1]
    with CollectdSender(tmp_path / "collectd.sock") as sender:
        with collectd.run(tmp_path) as running:
            for octets in first:
                sender.send(octets)
            feed_rest(sender)
            running.settle(len(first))
            running.process.send_signal(by)
            running.process.wait()
            failures = [sender.send(octets) for octets in between]
            assert {failure and failure.kind for failure in failures} == {SendFailureKind.ABSENT}
        with collectd.run(tmp_path) as running:
            for octets in last:
                sender.send(octets)
            feed_rest(sender)
            running.roll_over()
            assert counted(running.report()) == len(first) + len(between) + len(last)


# --- a day of traffic -------------------------------------------------------------------------------------------------

VECTORS = Path(__file__).parents[2] / "vectors"
ODD_LINE = 'x_note: "\\ \u00e9\U0001f600'

OWN_WORLDS = [
    # both address families, a domain with a U-label, one name in capitals, a helo that is no name
    {
        "zones": {
            "xn--bcher-kva.test": {
                "security": "insecure",
                "records": ["@ MX 10 MX", "@ MX 20 mx6", "mx A 192.0.2.1", "mx6 AAAA 2001:db8::25"],
            },
        },
        "servers": {
            "192.0.2.1": {"25": {"starttls": "absent", "replies": {"EHLO": '250 mx".test', "RCPT": 450}}},
            "2001:db8::25": {"25": {"starttls": "refused", "replies": {"EHLO": "250 node.mx6.test hello"}}},
        },
        "next_hop": "B\u00dcCHER.test.",
    },
    # a policy as a careless editor leaves it, which JSON has to quote
    {
        "zones": {
            "odd.test": {
                "security": "insecure",
                "records": ["@ MX 10 mx", "mx A 192.0.2.1", '_mta-sts TXT "v=STSv1; id=1"'],
            }
        },
        "https": {
            "mta-sts.odd.test": {
                "content_type": "text/plain",
                "body": f"version: STSv1\r\nmode: testing\r\n{ODD_LINE}\r\nmx: *.MX.test\r\nmax_age: 86400\r\n",
            }
        },
        "servers": {"192.0.2.1": {"25": {"starttls": "fail"}}},
        "next_hop": "odd.test",
    },
    # the same, and the next one is not to be had: a detail beside a session that has its own judgement
    {
        "zones": {
            "gone.test": {
                "security": "insecure",
                "records": ["@ MX 10 mx", "mx A 192.0.2.1", '_mta-sts TXT "v=STSv1; id=2"'],
            }
        },
        "cache": {
            "gone.test": {
                "id": "1",
                "fetched": "2025-12-31T00:00:00Z",
                "policy": "version: STSv1\nmode: testing\nmx: other.test\nmax_age: 604800\n",
            }
        },
        "servers": {"192.0.2.1": {"25": {}}},
        "next_hop": "gone.test",
    },
]


KINDS = ("plan", "check", "simulate", "datagram", "report")


def vector_outcomes() -> Iterator[Outcome]:
    """What becomes of a message to the domain of each vector that has a world."""
    for vector in vectors.load([VECTORS]):
        ask = vector.data.get("ask", {})
        if "misuse" in vector.data.get("expect", {}) or not any(kind in ask for kind in KINDS):
            continue
        engine = World.from_json(vector.data["world"], VECTORS).engine(Config.from_settings(ask.get("settings", {})))
        asked = next(ask[kind] for kind in KINDS if kind in ask)
        for item in asked if isinstance(asked, list) else [{"next_hop": asked, "message": ask.get("message", {})}]:
            to = item["next_hop"]
            route = NextHop.parse(to) if isinstance(to, str) else static(to)
            if len(route.name) < 240:  # the mailbox has to fit into a path
                yield engine.simulate(route, **item.get("message", {}))


def own_outcomes() -> Iterator[Outcome]:
    for world in OWN_WORLDS:
        data = {"now": "2026-01-01T00:00:00Z", "source": ["198.51.100.1", "2001:db8::1"]} | world
        to = str(data.pop("next_hop"))
        yield World.from_json(data).engine().simulate(to)


def static(asked: dict[str, Any]) -> NextHop:
    hosts = ((preference, name) for preference, name in asked["hosts"])
    return NextHop.static(asked["static"], hosts, secure=asked.get("secure", True), port=asked.get("port", 25))


DIFFERENCES = {
    "report-id": "it has no domain behind an @, so it is not the one of the subject",
}
"""Members of a report in which the reporter and we differ. Order is not compared: it sorts by what it keeps."""

REMARKS = {
    "subject-malformed": "the id has colons, which an id-left of RFC 5322 does not have",
}
"""What we find odd in the reporter's mail."""


def test_a_day_of_traffic_is_reported_as_we_report_it(tmp_path: Path) -> None:
    each = [*vector_outcomes(), *own_outcomes()]
    day = [outcome for number, outcome in enumerate(each) for _ in range(1 + number % 3)]
    kinds = set()
    for outcome in each:
        for session in tlsrpt.sessions(outcome):
            for policy in session:
                results = {failure.result_type for failure in policy.failures} or {None}
                kinds |= {(str(policy.policy.type), policy.failed, result) for result in results}
    assert {kind[0] for kind in kinds if not kind[1]} == set(PolicyType)
    assert {kind[2] for kind in kinds if kind[1]} == set(CODES.values())
    sent = check_agreement(tmp_path, day)
    assert any(json.dumps(ODD_LINE, ensure_ascii=False).encode() in octets for octets in sent)


def test_a_month_of_some_domains_is_reported_as_we_report_it(tmp_path: Path) -> None:
    """All on one day, since the collector counts when it reads; the reporter has a process for each domain."""
    some = set(month.domain_names()[:100])
    sent = check_agreement(tmp_path, [outcome for visit, outcome in month.outcomes(month.SEED) if visit.domain in some])
    assert len(sent) > 1000


def check_agreement(tmp_path: Path, outcomes: Iterable[Outcome]) -> list[bytes]:
    """Count outcomes ourselves, and have the reporter count them; return what it was told."""
    with collectd.run(tmp_path) as running:
        yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).date()
        ours = tlsrpt.Aggregates()
        sent: list[bytes] = []
        noon = datetime.combine(yesterday, time_of_day(12), timezone.utc)
        for at_another_time in outcomes:
            outcome = evolve(at_another_time, at=noon)
            ours.add(outcome)
            domain = tlsrpt.policy_domain(outcome.plan.next_hop)
            if domain is not None:
                record = tlsrpt.parse_record([RECORD.format(domain=domain).encode()])
                assert isinstance(record, tlsrpt.TlsrptRecord)
                sent += tlsrpt.datagrams(outcome, record)
        assert len(sent) > 500

        feed(running, sent)
        assert running.roll_over() == yesterday.isoformat()
        found = running.report()
    assert [aggregate.domain for aggregate in ours] == sorted(domain for domain, _ in found.made)
    assert len(found.mails) == len(found.uploads) == len(ours)
    mails = {mail.domain: mail for mail in map(received, found.mails)}
    for aggregate in ours:
        report = tlsrpt.Report.of(aggregate, organization_name=collectd.ORGANIZATION, contact_info=collectd.CONTACT)
        assert len(report.to_bytes()) < MAX_OCTETS  # where we would sum up, and the collector would not
        expected, got = report.to_json(), found.uploaded(f"https://{aggregate.domain}/")
        assert got.keys() == expected.keys()
        assert {name for name in got if name != "policies" and got[name] != expected[name]} == DIFFERENCES.keys()
        assert policies_of(got) == policies_of(expected)

        mail = mails[aggregate.domain]
        ours_read = read_report(report.to_bytes())
        assert isinstance(ours_read, Received)
        published = set(ours_read.remarks)  # of what the domain has published, as an address for an MX host
        assert set(mail.remarks) - published == REMARKS.keys()
        assert policies_of(mail.report.to_json()) == policies_of(expected)
        assert mail.report.to_json() | {"policies": ()} == got | {"policies": ()}
        assert mail.submitter == collectd.CONTACT.partition("@")[2]
    assert not found.complaints
    return sent


def received(octets: bytes) -> ReceivedMail:
    mail = read_report_mail(octets)
    assert isinstance(mail, ReceivedMail), mail
    return mail


# --- where reports go -------------------------------------------------------------------------------------------------

# TXT records, and where RFC 8460 section 3 has reports go: mailboxes and URLs, None where the record is none
AGREED = [
    ("v=TLSRPTv1;rua=mailto:a@{domain},https://{domain}/?a=%21&b", ["a@{domain}", "https://{domain}/?a=%21&b"]),
    ("v=TLSRPTv1; rua=https://{domain}/ ; ", ["https://{domain}/"]),
    ("v=TLSRPTv1;rua=mailto:a@{domain};x=1;rub=2", ["a@{domain}"]),
    ("v=TLSRPTv1 ;rua=mailto:a@{domain}", None),
    ("v=TLSRPTv1;rua=ftp://{domain}/", []),
    ("v=TLSRPTv1;x=1", None),
]
# The same, and where the reporter takes them
DISAGREED = [
    ("v=TLSRPTv1;x=1;rua=mailto:a@{domain}", ["a@{domain}"], []),
    ("v=TLSRPTv1;rua=mailto:a@{domain};rua=mailto:b@{domain}", ["a@{domain}", "b@{domain}"], ["a@{domain}"]),
    ("v=TLSRPTv1;rua=mailto:a@{domain} , https://{domain}/", ["a@{domain}", "https://{domain}/"], []),
    ("v=TLSRPTv1;rua=ftp://{domain}/,mailto:a@{domain}", ["a@{domain}"], []),
    ("v=TLSRPTv1;rua=MAILTO:a@{domain}", ["a@{domain}"], []),
    ("v=TLSRPTv1;rua=mailto:a%2Bb@{domain}", ["a+b@{domain}"], ["a%2Bb@{domain}"]),
    ("v=TLSRPTv1;rua=mailto:a@{domain}?subject=b", ["a@{domain}"], ["a@{domain}?subject=b"]),
    ("v=TLSRPTv1;rua=mailto:", [], [""]),
    ("v=TLSRPTv1;rua=https:{domain}", [], ["https:{domain}"]),
    ("v=TLSRPTv1;rua=https://{domain}/!", None, ["https://{domain}/!"]),
    ("v=TLSRPTv1;rua=https://{domain}/;rua=b", None, ["https://{domain}/"]),
]


def test_where_the_reporter_takes_reports(tmp_path: Path) -> None:
    cases = [
        (f"d{number}.test", *case) for number, case in enumerate([*DISAGREED, *((*case, None) for case in AGREED)])
    ]
    found = reported(tmp_path, [datagram(domain, none(domain), record=record) for domain, record, *_ in cases])
    theirs: dict[str, set[str]] = {domain: set() for domain, *_ in cases}
    for octets in found.mails:
        header = email.message_from_bytes(octets)
        theirs[header["TLS-Report-Domain"]].add(header["To"])
    for url, body in found.uploads:
        (policy,) = json.loads(gzip.decompress(body))["policies"]
        theirs[policy["policy"]["policy-domain"]].add(url)
    for domain, text, due, taken in cases:
        record = tlsrpt.parse_record([text.format(domain=domain).encode()])
        ours = [to.target for to in record.destinations] if isinstance(record, tlsrpt.TlsrptRecord) else None
        assert ours == (None if due is None else [to.format(domain=domain) for to in due]), text
        expected = due if taken is None else taken
        assert theirs[domain] == {to.format(domain=domain) for to in expected or ()}, text
        assert taken is None or theirs[domain] != set(ours or ()), text


def test_a_record_that_ends_the_reporter(tmp_path: Path) -> None:
    """It names a URI twice. Nothing is reported then, to no domain, today and when the reporter is started anew."""
    record = "v=TLSRPTv1;rua=mailto:a@a.test,mailto:a@a.test"
    parsed = tlsrpt.parse_record([record.encode()])
    assert isinstance(parsed, tlsrpt.TlsrptRecord)
    assert [to.target for to in parsed.destinations] == ["a@a.test"]
    with collectd.run(tmp_path) as running:
        feed(running, [datagram("a.test", none("a.test"), record=record), datagram("b.test", none("b.test"))])
        running.roll_over()
        for _ in range(2):
            with pytest.raises(collectd.EndedError, match="UNIQUE constraint failed: destinations"):
                running.report()
    assert not list(running.reports.glob("*.upload"))
