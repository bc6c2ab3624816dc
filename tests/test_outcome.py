"""What became of a message: its JSON form both ways, its values, and what it tells of a whole world."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy import Config, Outcome, TlsLevel, Verdict, World
from mailtlspolicy.delivery import Attempt, Disposition, RecipientOutcome, Result, Retry, Security
from mailtlspolicy.levels import Duty
from mailtlspolicy.plan.hosts import SkipReason
from mailtlspolicy.plan.mx import Undeliverable
from mailtlspolicy.verdict import Failure, Mechanism, ResultType
from tests.walking import LEVELS, NAMES, TWO, all_options, every_run, host, plan_of, skipped

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
PLAN = plan_of(host(TlsLevel.DANE, "192.0.2.1"), skipped("dane-required", NAMES[1]))

VERDICT = Verdict.failed(Failure.NO_TLSA_MATCH)
ATTEMPT = Attempt(
    host="mx1.test",
    address="192.0.2.1",
    result=Result.NOT_AUTHENTICATED,
    status="4.7.5",
    tlsrpt=ResultType.VALIDATION_FAILURE,
    verdict=VERDICT,
    source="198.51.100.1",
    helo="mx1.test",
    detail="no-tlsa-match",
    transcript=("C: EHLO", "S: 250 mx"),
)
OUTCOME = Outcome(
    outcome=Disposition.DEFERRED,
    at=NOW,
    status="4.7.5",
    attempts=(ATTEMPT,),
    recipients=(RecipientOutcome("b@client.test", Disposition.DEFERRED, None, "4.7.5"),),
    retry=Retry(NOW, same_address=False),
    cleartext_retry=("mx2.test",),
    plan=PLAN,
)


def through_json(value: Any) -> Any:
    return type(value).from_json(json.loads(json.dumps(value.to_json())))


def survives(value: Any) -> None:
    assert through_json(value) == value
    assert through_json(value).to_json() == value.to_json()
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


# --- the JSON form


def test_the_json_form_is_the_contracts() -> None:
    assert OUTCOME.to_json() == {
        "version": 1,
        "outcome": "deferred",
        "at": "2026-01-01T00:00:00+00:00",
        "host": None,
        "security": None,
        "status": "4.7.5",
        "attempts": [
            {
                "host": "mx1.test",
                "address": "192.0.2.1",
                "result": "not-authenticated",
                "cleartext": False,
                "security": None,
                "status": "4.7.5",
                "tlsrpt": "validation-failure",
                "verdict": VERDICT.to_json(),
                "source": "198.51.100.1",
                "helo": "mx1.test",
                "tls_error": None,
                "requiretls": False,
                "detail": "no-tlsa-match",
                "transcript": ["C: EHLO", "S: 250 mx"],
            }
        ],
        "recipients": [
            {"recipient": "b@client.test", "outcome": "deferred", "host": None, "status": "4.7.5", "reply": None}
        ],
        "retry": {"at": "2026-01-01T00:00:00+00:00", "same_address": False},
        "duplicate_possible": False,
        "cleartext_retry": ["mx2.test"],
        "plan": PLAN.to_json(),
    }


def test_the_words_are_those_of_the_contract() -> None:
    assert [str(word) for word in Disposition] == ["delivered", "deferred", "bounced"]  # RFC3207-6-g
    assert [str(word) for word in Security] == ["verified", "trusted", "untrusted", "cleartext"]
    assert {str(word) for word in Result} == {
        *("delivered", "connect-failed", "starttls-absent", "starttls-refused", "handshake-failed"),
        *("not-authenticated", "rejected", "tempfailed", "requiretls-absent", "skipped", "local-error"),
    }


def test_every_outcome_that_there_is_survives_json_and_pickle() -> None:
    for level in LEVELS:
        for network in every_run(all_options):
            survives(network.deliver(plan_of(host(level, "192.0.2.1")), TWO))
    for bad in (Undeliverable("permanent", "no-such-domain", "5.1.2"), None):
        survives(every_skip(bad))


def every_skip(undeliverable: Undeliverable | None) -> Outcome:
    (network, *_) = every_run(lambda *_: [None])  # nobody is asked
    hosts = [skipped(reason, f"{reason}.test") for reason in SkipReason]
    return network.deliver(plan_of(*hosts, undeliverable=undeliverable), TWO)


texts = st.text(max_size=20)
statuses = st.none() | st.sampled_from(["4.0.0", "5.7.10"])
verdicts = st.builds(
    Verdict,
    authenticated=st.booleans(),
    satisfied=st.booleans(),
    mechanism=st.none() | st.sampled_from(Mechanism),
    failure=st.none() | st.sampled_from(Failure),
    tlsrpt=st.none() | st.sampled_from(ResultType),
    duties=st.dictionaries(st.sampled_from(Duty), st.none() | st.sampled_from(Failure)).map(lambda d: tuple(d.items())),
)
attempts = st.builds(
    Attempt,
    host=texts,
    address=st.none() | texts,
    result=st.sampled_from(Result),
    cleartext=st.booleans(),
    security=st.none() | st.sampled_from(Security),
    status=statuses,
    tlsrpt=st.none() | st.sampled_from(ResultType),
    verdict=st.none() | verdicts,
    source=st.none() | texts,
    helo=st.none() | texts,
    tls_error=st.none() | texts,
    requiretls=st.booleans(),
    detail=texts,
    transcript=st.lists(texts, max_size=3).map(tuple),
)
recipients = st.builds(
    RecipientOutcome,
    recipient=texts,
    outcome=st.sampled_from(Disposition),
    host=st.none() | texts,
    status=statuses,
    reply=st.none() | texts,
)
retries = st.builds(
    Retry,
    at=st.datetimes(timezones=st.just(timezone.utc)),
    same_address=st.booleans(),
)
outcomes = st.builds(
    Outcome,
    outcome=st.sampled_from(Disposition),
    at=st.datetimes(timezones=st.just(timezone.utc)),
    host=st.none() | texts,
    security=st.none() | st.sampled_from(Security),
    status=statuses,
    attempts=st.lists(attempts, max_size=2).map(tuple),
    recipients=st.lists(recipients, max_size=2).map(tuple),
    retry=st.none() | retries,
    duplicate_possible=st.booleans(),
    cleartext_retry=st.lists(texts, max_size=2).map(tuple),
    plan=st.just(PLAN),
)


@given(outcomes)
def test_an_outcome_of_any_content_survives_json_and_pickle(outcome: Outcome) -> None:
    survives(outcome)
    for value in (*outcome.attempts, *outcome.recipients, *filter(None, [outcome.retry])):
        survives(value)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths to all keys of an outcome in JSON, but for what belongs to the plan and the verdict."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[str | int, ...]] = []
    for key, inner in pairs:
        if key not in {"plan", "verdict"}:
            found += [*([(*path, key)] if isinstance(key, str) else []), *places(inner, (*path, key))]
    return found


PLACES = places(OUTCOME.to_json())


@pytest.mark.parametrize("path", PLACES, ids=lambda path: "/".join(map(str, path)))
def test_a_missing_key_is_an_error_and_one_more_is_not(path: tuple[str | int, ...]) -> None:
    data = json.loads(json.dumps(OUTCOME.to_json()))
    within: Any = data
    for key in path[:-1]:
        within = within[key]
    within["later"] = 1  # keys are only ever added
    assert Outcome.from_json(data) == OUTCOME
    del within[path[-1]]
    with pytest.raises((KeyError, ValueError)):
        Outcome.from_json(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("outcome",), "lost"),
        (("security",), "secure"),
        (("attempts", 0, "result"), "ok"),
        (("attempts", 0, "tlsrpt"), "no-type"),
        (("attempts", 0, "security"), "secure"),
        (("attempts", 0, "cleartext"), "yes"),
        (("attempts", 0, "requiretls"), 1),
        (("recipients", 0, "outcome"), "returned"),
        (("retry", "at"), "soon"),
        (("retry", "same_address"), None),
        (("duplicate_possible",), "no"),
        (("attempts",), 5),
        (("plan",), None),
    ],
)
def test_what_is_no_outcome_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    data = json.loads(json.dumps(OUTCOME.to_json()))
    within: Any = data
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        Outcome.from_json(data)


# --- values


def test_an_outcome_is_a_value_that_can_not_be_changed() -> None:
    assert attrs.evolve(OUTCOME) == OUTCOME
    assert len({OUTCOME, attrs.evolve(OUTCOME), attrs.evolve(OUTCOME, status="4.4.1")}) == 2
    for value, name in ((OUTCOME, "outcome"), (ATTEMPT, "result"), (OUTCOME.retry, "at")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)
        assert not hasattr(value, "__dict__")


def test_who_is_left_is_to_be_tried_again() -> None:
    entries = tuple(RecipientOutcome(f"{word}@client.test", word) for word in Disposition)
    outcome = attrs.evolve(OUTCOME, recipients=(*entries, RecipientOutcome("x@client.test", Disposition.DEFERRED)))
    assert outcome.left == ("deferred@client.test", "x@client.test")


# --- over a world

ZONES = {
    "client.test": {
        "security": "insecure",
        "records": ["@ MX 10 a", "@ MX 20 b", "a A 192.0.2.1", "b A 192.0.2.2", "b AAAA 2001:db8::2"],
    }
}


def simulate(
    servers: dict[str, Any], next_hop: str = "client.test", config: Config | None = None, **how: Any
) -> Outcome:
    ports = {address: {"25": server} for address, server in servers.items()}
    world = World.from_json({"now": NOW.isoformat(), "zones": ZONES, "servers": ports})
    outcome = world.engine(config or Config()).simulate(next_hop, **how)
    survives(outcome)
    return outcome


def test_a_simulation_sends_a_small_message_to_the_postmaster_of_the_next_hop() -> None:
    for next_hop, recipient in (
        ("client.test", "postmaster@client.test"),
        ("[a.client.test]", "postmaster@a.client.test"),
        ("[192.0.2.1]", "postmaster@[192.0.2.1]"),
        ("[192.0.2.1]:2525", "postmaster@[192.0.2.1]"),
        ("[IPv6:2001:db8::2]", "postmaster@[IPv6:2001:db8::2]"),
        ("[IPv6:2001:db8::2]:2525", "postmaster@[IPv6:2001:db8::2]"),
    ):
        outcome = simulate({"192.0.2.1": {}, "2001:db8::2": {}}, next_hop)
        assert [entry.recipient for entry in outcome.recipients] == [recipient]
        assert outcome.plan.next_hop == World.from_json({}).engine().plan(next_hop).next_hop
    assert "C: MAIL FROM:<sender@sender.example>" in simulate({"192.0.2.1": {}}).attempts[0].transcript


def test_a_simulation_goes_by_the_envelope_that_is_given() -> None:
    outcome = simulate({"192.0.2.1": {}}, sender="", recipients=["a@client.test", "b@other.test"])
    assert [entry.recipient for entry in outcome.recipients] == ["a@client.test", "b@other.test"]
    assert "C: MAIL FROM:<>" in outcome.attempts[0].transcript
    for wrong in ({"sender": "a b"}, {"recipients": ["a", "a"]}, {"recipients": ["a\r\n"]}):
        with pytest.raises(ValueError, match=r"\S"):
            simulate({}, **wrong)
    with pytest.raises(TypeError):
        simulate({}, recipients="postmaster")


def test_a_simulation_of_the_next_try_is_told_of_the_one_before() -> None:
    later = Config(cleartext_retry="later")
    first = simulate({"192.0.2.1": {"starttls": "fail"}}, config=later)
    assert (first.outcome, first.cleartext_retry) == ("deferred", ("a.client.test",))
    second = simulate({"192.0.2.1": {"starttls": "fail"}}, config=later, before=through_json(first))
    assert (second.outcome, second.security) == ("delivered", "cleartext")


@pytest.mark.parametrize(
    ("wish", "outcome", "status"),
    [
        ({}, "delivered", None),
        ({"tls_optional": True}, "delivered", None),
        ({"requiretls": True}, "bounced", "5.7.10"),  # nothing vouches for the choice of the host
        ({"requiretls": True, "tls_optional": True}, "bounced", "5.7.10"),  # RFC8689-4.1-c
        ({"requiretls": True, "sender": ""}, "deferred", "4.7.5"),  # RFC8689-5-f
    ],
)
def test_a_simulation_goes_by_the_wishes_of_the_message(wish: dict[str, Any], outcome: str, status: str | None) -> None:
    got = simulate({"192.0.2.1": {"requiretls": True}}, **wish)
    assert (got.outcome, got.status) == (outcome, status)


def test_several_recipients_have_a_fate_each() -> None:
    replies = {"RCPT": [250, "550 5.1.1 unknown", "450 4.2.0 later"], ".": "250 2.0.0 queued as 1"}
    outcome = simulate(
        {"192.0.2.1": {"replies": replies}, "192.0.2.2": {"connect": "timeout"}},
        recipients=["a@client.test", "b@client.test", "c@client.test", "d@client.test"],
    )
    fates = [(str(entry.outcome), entry.status, entry.host) for entry in outcome.recipients]
    assert fates == [
        ("delivered", None, "a.client.test"),
        ("bounced", "5.1.1", "a.client.test"),
        ("deferred", "4.4.1", None),
        ("deferred", "4.4.1", None),
    ]
    assert (outcome.outcome, outcome.left) == ("deferred", ("c@client.test", "d@client.test"))
    assert outcome.recipients[0].reply == "250 2.0.0 queued as 1"
    assert outcome.recipients[1].reply == "550 5.1.1 unknown"
    assert [str(attempt.result) for attempt in outcome.attempts] == ["delivered"] + ["connect-failed"] * 2
