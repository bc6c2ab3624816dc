"""Datagrams for the collector: every kind of session, in the members and codes of protocol version 1."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mailtlspolicy import Config, TlsLevel, World
from mailtlspolicy.delivery import Attempt, Disposition, Outcome, Result
from mailtlspolicy.tlsrpt import PolicyType, TlsrptRecord, datagrams, parse_record, sessions
from mailtlspolicy.verdict import ResultType
from tests.month import KINDS, MX1, NO_POLICY, Judged, Kind, policy_text
from tests.walking import host, plan_of

AT = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
TEXT = "v=TLSRPTv1; rua=mailto:r@client.test"
# tlsrpt.h of libtlsrpt: tlsrpt_failure_t and tlsrpt_policy_type_t
CODES = {
    "starttls-not-supported": 201,
    "certificate-host-mismatch": 202,
    "certificate-not-trusted": 203,
    "certificate-expired": 204,
    "validation-failure": 205,
    "sts-policy-fetch-error": 301,
    "sts-policy-invalid": 302,
    "sts-webpki-invalid": 303,
    "tlsa-invalid": 304,
    "dnssec-invalid": 305,
    "dane-required": 306,
}
TYPES = {1: "tlsa", 2: "sts", 9: "no-policy-found"}


def record(text: str = TEXT) -> TlsrptRecord:
    found = parse_record([text])
    assert isinstance(found, TlsrptRecord)
    return found


def outcome_of(kind: Kind, number: int = 0) -> Outcome:
    """The delivery of this number in a visit."""
    engine, to = kind.world(["client.test"]).engine(Config(**kind.settings)), kind.next_hop
    outcomes = [
        engine.simulate(to.replace("DOMAIN", "client.test"), now=AT + timedelta(minutes=minute), **kind.message)
        for minute in range(number + 1)
    ]
    return outcomes[-1]


def as_json(octets: bytes) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(octets.decode("utf-8", "strict"), object_pairs_hook=members)


def judged(policy: dict[str, Any]) -> Judged:
    """A policy of a datagram in the words of the month."""
    members = {"policy-type", "policy-domain", "policy-string", "mx-host", "failure-details", "t", "f"}
    assert policy.keys() <= members
    assert {type(policy["t"]), type(policy["f"])} == {int}
    told = policy.get("failure-details", [])
    assert policy["t"] == len(told)
    assert "failure-details" not in policy or told
    details = []
    for detail in told:
        assert detail.keys() <= set("csnhraf")
        word = next(word for word, code in CODES.items() if code == detail["c"])
        details.append((word, *(detail.get(key) for key in "fnhrs")))
    texts = tuple(policy.get("policy-string", ())), tuple(policy.get("mx-host", ()))
    said = (TYPES[policy["policy-type"]], policy["policy-domain"], *texts)
    return said, {0: "success", 1: "failure"}[policy["f"]], tuple(sorted(details, key=str))


def expected(found: Judged) -> Judged:
    """What the kind says, for client.test and a sender that does not tell its address."""
    (kind, domain, text, hosts), word, details = found
    policy = (kind, domain.replace("DOMAIN", "client.test"), text, tuple(_filled(each) or "" for each in hosts))
    filled = [tuple(_filled(part) for part in detail) for detail in details]
    return policy, word, tuple(sorted(filled, key=str))


def _filled(text: str | None) -> str | None:
    return None if text in {None, "SOURCE4", "SOURCE6"} else text.replace("DOMAIN", "client.test") if text else text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_delivery_of_each_kind_is_told_as_the_kind_says(kind: Kind) -> None:
    for number, adds in enumerate(kind.visits):
        outcome = outcome_of(kind, number)
        told = list(map(as_json, datagrams(outcome, record())))
        assert len(told) == len(sessions(outcome)), "one a session"
        for datagram in told:
            assert datagram.keys() == {"dpv", "d", "pr", "policies"}
            assert (datagram["dpv"], datagram["pr"]) == ("1", TEXT)
            assert datagram["d"] == kind.domain.replace("DOMAIN", "client.test")
            types = [policy["policy-type"] for policy in datagram["policies"]]
            assert types
            assert len(set(types)) == len(types)
        got = Counter(judged(policy) for datagram in told for policy in datagram["policies"])
        assert got == Counter(map(expected, adds))


def test_every_code_is_used() -> None:
    used = {
        detail["c"]
        for kind in KINDS
        for octets in datagrams(outcome_of(kind), record())
        for policy in as_json(octets)["policies"]
        for detail in policy.get("failure-details", ())
    }
    assert used == set(CODES.values())
    assert CODES.keys() == set(map(str, ResultType))
    assert set(TYPES.values()) == set(map(str, PolicyType))


def test_equal_sessions_make_equal_octets() -> None:
    """The collector compares texts: other orders of members or failures would be other policies."""
    for kind in KINDS:
        assert datagrams(outcome_of(kind), record()) == datagrams(outcome_of(kind), record())
    (octets,) = datagrams(outcome_of(next(kind for kind in KINDS if kind.name == "both fail")), record())
    tlsa, sts = as_json(octets)["policies"]
    for policy in (tlsa, sts):
        assert list(policy) == [
            *("policy-type", "policy-domain", "policy-string", "mx-host", "failure-details", "t", "f"),
        ]
        (detail,) = policy["failure-details"]
        assert list(detail) == [key for key in "csnhraf" if key in detail]


def test_the_sessions_come_in_order() -> None:
    kind = next(kind for kind in KINDS if kind.name == "enforce, one unlisted, one right")
    first, second = map(as_json, datagrams(outcome_of(kind), record()))
    assert [policy["f"] for policy in (*first["policies"], *second["policies"])] == [1, 0]


def test_what_a_server_says_is_told_in_utf_8() -> None:
    name = "m\xfc\u4f8b.\U0001f4e7.test"
    attempt = Attempt(
        host="mx1.test",
        address="192.0.2.1",
        result=Result.HANDSHAKE_FAILED,
        tlsrpt=ResultType.VALIDATION_FAILURE,
        helo=name,
        source="198.51.100.1",
        tls_error='"\\\x00\ud800',
    )
    outcome = Outcome(outcome=Disposition.DEFERRED, at=AT, attempts=(attempt,), plan=plan_of(host(TlsLevel.MAY)))
    (octets,) = datagrams(outcome, record())
    assert octets == octets.strip()
    assert b"\x00" not in octets
    (policy,) = as_json(octets)["policies"]
    assert policy["failure-details"] == [
        {
            "c": 205,
            "s": "198.51.100.1",
            "n": "mx1.test",
            "h": name,
            "r": "192.0.2.1",
            "f": 'handshake-failed: "\\\x00\ufffd',
        }
    ]
    assert name.encode() in octets


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (TEXT, TEXT),
        ("v=TLSRPTv1;rua=mailto:r@client.test", "v=TLSRPTv1;rua=mailto:r@client.test"),
        ("v=TLSRPTv1; rua=mailto:r@client.test;", "v=TLSRPTv1; rua=mailto:r@client.test;"),
        ("v=TLSRPTv1; rua=mailto:r@client.test,https://client.test/r", None),
        ("v=TLSRPTv1; x=1; rua=mailto:r@client.test", "v=TLSRPTv1;rua=mailto:r@client.test"),
        ("v=TLSRPTv1; rua=mailto:r@client.test , mailto:s@client.test", None),
        ("v=TLSRPTv1; rua=mailto:r@client.test; rua=mailto:s@client.test", None),
        ("v=TLSRPTv1; rua=mailto:a%2Bb@client.test", "v=TLSRPTv1;rua=mailto:a+b@client.test"),
        ("v=TLSRPTv1; rua=ftp://client.test/,mailto:r@client.test", "v=TLSRPTv1;rua=mailto:r@client.test"),
    ],
)
def test_the_collector_is_told_where_reports_go(text: str, written: str | None) -> None:
    """It takes the first field after the version for the destinations, divided by commas alone."""
    outcome = outcome_of(next(kind for kind in KINDS if kind.visits == ((((NO_POLICY, "success", ())),),)))
    (octets,) = datagrams(outcome, record(text))
    told = as_json(octets)["pr"]
    if written is not None:
        assert told == written
    first, second = told.split(";")[:2]
    assert first == "v=TLSRPTv1"
    targets = [uri.partition(":")[2] for uri in second.strip().removeprefix("rua=").split(",")]
    wanted = [each.target.removeprefix("https:") for each in record(text).destinations]
    assert targets == wanted
    again = parse_record([told])
    assert isinstance(again, TlsrptRecord)
    assert [each.target for each in again.destinations] == [each.target for each in record(text).destinations]


def test_without_a_destination_nothing_is_told() -> None:
    outcome = outcome_of(KINDS[0])
    assert sessions(outcome)
    assert datagrams(outcome, record("v=TLSRPTv1; rua=ftp://client.test/")) == ()


def test_a_report_is_not_told_of() -> None:
    engine = KINDS[0].world(["client.test"]).engine()
    assert datagrams(engine.simulate("client.test", now=AT, tls_report=True), record()) == ()
    assert datagrams(engine.simulate("client.test", now=AT, tls_optional=True), record()) == ()
    assert datagrams(engine.simulate("client.test", now=AT), record())
    assert datagrams(engine.simulate("[192.0.2.1]", now=AT), record()) == ()


def test_a_hostile_policy_host_does_not_make_a_datagram_that_the_kernel_refuses() -> None:
    """Linux takes 425,952 octets where nobody has configured it and a sender asks for as much as it allows."""
    valid = policy_text("testing", *(f"mx{number}.provider.test" for number in range(2000)))
    for body in ("\x00" * 65_000, "\n" * 65_000, "\xff" * 32_000, "a\n" * 32_000, '"' * 65_000, valid):
        data = {
            "now": AT.isoformat(),
            "zones": {
                "client.test": {"records": [f"@ MX 1 {MX1}.", '_mta-sts TXT "v=STSv1; id=1;"']},
                "provider.test": {"records": ["mx1 A 192.0.2.1"]},
            },
            "https": {"mta-sts.client.test": {"content_type": "text/plain", "body": body}},
            "servers": {"192.0.2.1": {"25": {}}},
        }
        (octets,) = datagrams(World.from_json(data).engine().simulate("client.test"), record())
        assert len(octets) < 425_952
        (policy,) = as_json(octets)["policies"]
        assert policy["policy-string"]
        if body is valid:
            assert policy["policy-string"] == body.splitlines()
