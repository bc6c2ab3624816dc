"""The walk of a message over a plan: whatever happens, compared with a second mind, and what it promises."""

from __future__ import annotations

from datetime import timedelta, timezone
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy import Config, HostPlan, Message, NextHop, Outcome, TlsLevel, drive
from mailtlspolicy.delivery import Disposition
from mailtlspolicy.delivery.session import Reply, Secured, SessionFailure, StartTls, Transmitted, Trouble
from mailtlspolicy.delivery.walk import deliver
from mailtlspolicy.levels import Duty
from mailtlspolicy.plan.hosts import SkipReason
from mailtlspolicy.plan.mx import Undeliverable
from mailtlspolicy.plan.values import Audit, Observe, Skip
from mailtlspolicy.sts import Policy, StsFailure, parse_policy
from mailtlspolicy.sts.values import Discovery
from mailtlspolicy.tlsrpt.attribution import sessions
from tests.authority import NOW
from tests.walking import (
    ALERT,
    BUSY,
    GO,
    GREETING,
    GREYLISTED,
    HANDSHAKE,
    INJECTED,
    KEYWORD,
    LEVELS,
    LOST,
    MESSAGE,
    NAMES,
    NEEDS_LOGIN,
    NEEDS_TLS,
    NEVER,
    NO_EHLO,
    OFFER,
    OK,
    OPPORTUNISTIC,
    OURS,
    PLAIN,
    REQUIRED,
    RIGHT,
    TOO_MANY,
    TRY_LATER,
    TWO,
    UNKNOWN,
    UNREACHABLE,
    WRONG,
    Network,
    Reference,
    all_options,
    every_run,
    host,
    plan_of,
    reference,
    skipped,
    some_options,
    told,
)

if TYPE_CHECKING:
    from mailtlspolicy import Plan

A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::3"
NAMED = Outcome(outcome=Disposition.DEFERRED, at=NOW, cleartext_retry=NAMES[:1], plan=plan_of())
OTHERS_NAMED = evolve(NAMED, cleartext_retry=NAMES[1:])


def compare(
    outcome: Outcome,
    network: Network,
    plan: Plan,
    message: Message = MESSAGE,
    before: Outcome | None = None,
    **how: Any,
) -> Reference:
    """The outcome is what the second mind makes of the same sessions, down to every status."""
    walked = reference(network, plan, message, before, **how)
    assert len(outcome.attempts) == len(walked.tried)
    for attempt, tried in zip(outcome.attempts, walked.tried, strict=True):
        assert (attempt.host, attempt.address, attempt.result) == (tried.host, tried.address, tried.result)
        assert (attempt.cleartext, attempt.security, attempt.tlsrpt) == (tried.cleartext, tried.security, tried.tlsrpt)
        assert attempt.status in tried.statuses
        assert attempt.requiretls is tried.requiretls
    fates = walked.final()
    for entry, (recipient, fate) in zip(outcome.recipients, fates.items(), strict=True):
        assert (entry.recipient, entry.outcome, entry.host) == (recipient, fate.outcome, fate.host)
        assert entry.status in fate.statuses
        said = fate.reply and f"{fate.reply.code} {' '.join(fate.reply.lines)}".rstrip()
        assert entry.reply == said
    words = {fate.outcome for fate in fates.values()}
    word = next(word for word in ("deferred", "bounced", "delivered") if word in words)
    decisive = [entry for entry in outcome.recipients if entry.outcome == word]
    assert outcome.outcome == word
    assert outcome.status in {entry.status for entry in decisive}
    assert outcome.host in {entry.host for entry in decisive}
    assert outcome.duplicate_possible is any(tried.is_committed for tried in walked.tried)
    assert (outcome.retry is not None) is (word == "deferred")
    if outcome.retry is not None:
        assert outcome.retry.at == NOW + timedelta(seconds=walked.config.retry_seconds)
    named = tuple(name for name, tried in walked.noted.items() if not tried)
    is_told = word == "deferred" and walked.config.cleartext_retry != "never"
    assert outcome.cleartext_retry == (named if is_told else ())
    order = ["verified", "trusted", "untrusted", "cleartext"]
    seen = [tried.security for tried in walked.tried if tried.security is not None]
    assert outcome.security == (max(seen, key=order.index) if word == "delivered" else None)
    return walked


def keeps_its_promises(outcome: Outcome, network: Network, plan: Plan, message: Message = MESSAGE, **how: Any) -> None:
    """What holds whatever happens, said without regard to how it comes about."""
    config = Config(**how)
    levels = {each.host: each.level for each in plan.usable_hosts}
    places = [(each.host, address) for each in plan.usable_hosts for address in each.addresses]
    tried = [(attempt.host, attempt.address) for attempt in outcome.attempts if attempt.address is not None]
    assert [session.effect.address for session in network.sessions] == [address for _, address in tried]

    # in order, and no address twice but without SNI, and in cleartext, which is once a host (RFC5321-5.1-o)
    runs = [(place, len(list(run))) for place, run in groupby(tried)]
    assert [place for place, _ in runs] == places[: len(runs)]
    made = [attempt for attempt in outcome.attempts if attempt.address is not None]
    anew = [one for one, (each, before) in enumerate(zip(tried[1:], tried, strict=False), 1) if each == before]
    for name, level in levels.items():
        # what is in cleartext since STARTTLS is not announced is reported, and what follows a failure of TLS is not
        in_clear = [made[one] for one in anew if tried[one][0] == name and made[one].cleartext]
        assert len([attempt for attempt in in_clear if attempt.tlsrpt is None]) <= 1
        assert level in OPPORTUNISTIC or not [one for one in anew if tried[one][0] == name]
        assert all(count <= 3 for _, count in runs)
    assert len(tried) <= config.max_attempts  # RFC5321-5.1-p

    for attempt, session in zip(made, network.sessions, strict=True):
        assert (attempt.verdict is not None) is (session.in_tls and attempt.result != "handshake-failed")
        assert not (attempt.cleartext and session.in_tls)
        assert isinstance(attempt.detail, str)
        assert attempt.detail or attempt.result in {"delivered", "starttls-absent", "tempfailed"}
        is_broken = any(isinstance(result, SessionFailure) for _, result in session.said)
        is_broken = is_broken or any(sent.failure is not None for _, sent in session.sent)
        assert (attempt.transcript[-1] == "C: QUIT") is not is_broken

    delivered: list[str] = []
    for (name, _), session in zip(tried, network.sessions, strict=True):
        for effect, sent in session.sent:
            level = levels[name]
            if level in REQUIRED:  # RFC3207-6-d, RFC7672-2.2-g
                assert session.in_tls
            if level in {TlsLevel.DANE, TlsLevel.SECURE}:  # RFC3207-4.1-a
                assert RIGHT in [result for _, result in session.said]
            assert not set(effect.recipients) & set(delivered), "nobody is sent the message twice"
            if message.requiretls and message.sender:  # RFC8689-2-g, RFC8689-2-f
                assert session.in_tls
                assert effect.requiretls
            if sent.end is not None and sent.end.success:
                accepted = zip(effect.recipients, sent.recipients, strict=False)
                delivered += [recipient for recipient, reply in accepted if reply.success]
            if sent.committed and sent.end is None:  # nothing is sent anew to those who may have it
                assert session is network.sessions[-1]
                assert outcome.duplicate_possible

    # nobody is lost, and nobody is told to have got what he has not
    assert [entry.recipient for entry in outcome.recipients] == list(message.recipients)
    assert {entry.recipient for entry in outcome.recipients if entry.outcome == "delivered"} == set(delivered)
    assert outcome.left == tuple(entry.recipient for entry in outcome.recipients if entry.outcome == "deferred")
    if not message.requiretls and plan.undeliverable is None:
        # a policy that is not fulfilled delays mail and never returns it (RFC8461-5-e): a server has refused it
        refused = {
            reply.code
            for session in network.sessions
            for _, sent in session.sent
            for reply in (sent.mail, *sent.recipients, sent.data, sent.end)
            if reply is not None
        }
        assert all(entry.outcome != "bounced" for entry in outcome.recipients) or max(refused) >= 500
    for entry in outcome.recipients:  # RFC 3463: the class of a status is that of the outcome
        assert (entry.status or "2")[0] == {"delivered": "2", "deferred": "4", "bounced": "5"}[entry.outcome]
    for attempt in outcome.attempts:
        if attempt.result == "tempfailed":
            assert (attempt.status or "")[0] == "4"


def run(network: Network, plan: Plan, message: Message = MESSAGE, before: Outcome | None = None, **how: Any) -> Outcome:
    outcome = network.deliver(plan, message, before, **how)
    keeps_its_promises(outcome, network, plan, message, **how)
    compare(outcome, network, plan, message, before, **how)
    return outcome


# --- everything that can happen

CHOICES: list[tuple[str, Outcome | None]] = [
    ("now", None),
    ("now", NAMED),
    ("now", OTHERS_NAMED),
    ("later", None),
    ("later", NAMED),
    ("later", OTHERS_NAMED),
    ("never", None),
    ("never", NAMED),
]


@pytest.mark.parametrize(("choice", "before"), CHOICES)
@pytest.mark.parametrize("level", LEVELS)
def test_whatever_happens_at_one_address_is_what_the_specification_says(
    level: TlsLevel, choice: str, before: Outcome | None
) -> None:
    plan, seen, runs = plan_of(host(level, A)), set(), 0
    for network in every_run(all_options):
        outcome = run(network, plan, MESSAGE, before, cleartext_retry=choice)
        seen |= {str(attempt.result) for attempt in outcome.attempts}
        runs += 1
    expected = {"delivered", "connect-failed", "rejected", "tempfailed"}
    if level is not TlsLevel.NONE:
        expected |= {"starttls-refused", "handshake-failed"}
    if level in REQUIRED:
        expected |= {"starttls-absent"}
    if level in {TlsLevel.DANE, TlsLevel.SECURE}:
        expected |= {"not-authenticated"}
    assert seen == expected
    assert runs > 25


@pytest.mark.parametrize("level", LEVELS)
def test_whatever_happens_to_two_recipients_is_what_the_specification_says(level: TlsLevel) -> None:
    plan = plan_of(host(level, A))
    runs = sum(run(network, plan, TWO) is not None for network in every_run(all_options))
    assert runs > 45


@pytest.mark.parametrize(("choice", "before"), CHOICES)
def test_whatever_happens_at_two_addresses_of_a_host_is_what_the_specification_says(
    choice: str, before: Outcome | None
) -> None:
    for level in (TlsLevel.MAY,) if (choice, before) != ("now", None) else LEVELS:
        plan = plan_of(host(level, A, C))
        runs = sum(
            run(net, plan, MESSAGE, before, cleartext_retry=choice) is not None for net in every_run(some_options)
        )
        assert runs > (30 if level is TlsLevel.NONE else 100)


@pytest.mark.parametrize("second", LEVELS)
@pytest.mark.parametrize("first", LEVELS)
def test_whatever_happens_at_two_hosts_is_what_the_specification_says(first: TlsLevel, second: TlsLevel) -> None:
    plan = plan_of(host(first, A), host(second, B, name=NAMES[1]))
    runs = sum(run(network, plan, TWO) is not None for network in every_run(some_options))
    assert runs > 30


REQUIRETLS = evolve(TWO, requiretls=True)
NOTIFICATION = evolve(REQUIRETLS, sender="")


@pytest.mark.parametrize("message", [REQUIRETLS, NOTIFICATION], ids=["message", "notification"])
@pytest.mark.parametrize("level", [TlsLevel.DANE, TlsLevel.SECURE])
def test_whatever_happens_to_mail_that_requires_tls_is_what_the_specification_says(
    level: TlsLevel, message: Message
) -> None:
    one = plan_of(host(level, A, requiretls=True), requiretls=True)
    for network in every_run(all_options):
        run(network, one, message)
    two = plan_of(host(level, A, requiretls=True), host(level, B, name=NAMES[1], requiretls=True), requiretls=True)
    for network in every_run(some_options):
        run(network, two, message)


@pytest.mark.parametrize("choice", ["now", "later", "never"])
def test_whatever_happens_to_mail_to_which_tls_is_optional_is_what_the_specification_says(choice: str) -> None:
    plan = plan_of(host(TlsLevel.MAY, A), tls_optional=True)
    for network in every_run(all_options):
        run(network, plan, evolve(MESSAGE, tls_optional=True), cleartext_retry=choice)


# --- anything that can happen, in plans of any form


@st.composite
def plans(draw: st.DrawFn, *, requiretls: bool = False) -> Plan:
    hosts: list[Any] = []
    for name in NAMES[: draw(st.integers(0, 3))]:
        reason = draw(st.none() | st.sampled_from(SkipReason))
        if draw(st.integers(0, 3)) == 0 and reason is not None:
            hosts.append(skipped(reason, name))
            continue
        level = draw(st.sampled_from([TlsLevel.DANE, TlsLevel.SECURE] if requiretls else LEVELS))
        addresses = [f"192.0.2.{len(hosts) + 1}{number}" for number in range(draw(st.integers(1, 3)))]
        hosts.append(host(level, *addresses, name=name, requiretls=requiretls))
    undeliverable = None
    if not [each for each in hosts if each.skip is None]:
        undeliverable = draw(
            st.sampled_from(
                [
                    Undeliverable("permanent", "no-such-domain", "5.1.2"),
                    Undeliverable("transient", "no-hosts", "4.7.5"),
                    None,
                ]
            )
        )
    return plan_of(*hosts, mx_secure=draw(st.booleans()), requiretls=requiretls, undeliverable=undeliverable)


@settings(max_examples=500)
@given(st.data())
def test_the_promises_hold_in_plans_of_any_form(data: st.DataObject) -> None:
    requiretls = data.draw(st.booleans())
    plan = data.draw(plans(requiretls=requiretls))
    count = data.draw(st.integers(1, 3))
    message = Message(
        data.draw(st.sampled_from(["a@sender.test", ""])),
        [f"{letter}@client.test" for letter in "bcd"[:count]],
        b"",
        requiretls=requiretls,
        tls_optional=data.draw(st.booleans()),
    )
    named = data.draw(st.none() | st.sets(st.sampled_from(NAMES)))
    before = None if named is None else evolve(NAMED, cleartext_retry=tuple(sorted(named)))
    how = {
        "cleartext_retry": data.draw(st.sampled_from(["now", "now", "later", "never"])),
        "max_attempts": data.draw(st.sampled_from([100, 100, 1, 2, 3, 4])),
        "retry_seconds": data.draw(st.sampled_from([1, 1800])),
    }
    options = data.draw(st.sampled_from([all_options, some_options]))

    def choose(effect: Any, session: Any) -> Any:
        listed = options(effect, session)
        # things go well until there is something to tell, more often than not
        return listed[0] if data.draw(st.integers(0, 2)) == 0 else data.draw(st.sampled_from(listed))

    run(Network(choose), plan, message, before, **how)


# --- what the clauses say, one by one


SENT = Transmitted(OK, (OK,), GO, OK)
IN_TLS = (GREETING, OFFER, RIGHT, KEYWORD)


def tried(outcome: Outcome) -> list[tuple[str, str | None, str, bool]]:
    return [(attempt.host, attempt.address, str(attempt.result), attempt.cleartext) for attempt in outcome.attempts]


def test_hosts_and_addresses_are_tried_in_the_order_of_the_plan() -> None:  # RFC5321-5.1-o, RFC5321-5.1-z
    plan = plan_of(
        host(TlsLevel.MAY, C, A, name="mx2.test"),
        skipped("no-addresses", "mx9.test"),
        host(TlsLevel.DANE, B, name="mx1.test", port=2525),
        host(TlsLevel.MAY, "192.0.2.9", name="mx3.test"),
    )
    network = told(UNREACHABLE, BUSY, *IN_TLS, SENT)
    outcome = run(network, plan)
    assert tried(outcome) == [
        ("mx2.test", C, "connect-failed", False),
        ("mx2.test", A, "tempfailed", False),
        ("mx9.test", None, "skipped", False),
        ("mx1.test", B, "delivered", False),
    ]
    assert network.sessions[-1].effect.port == 2525
    assert (outcome.host, outcome.security) == ("mx1.test", "verified")


def test_a_server_is_asked_for_its_name_and_level() -> None:  # RFC7672-8.1-a
    for level in REQUIRED:
        for config in (Config(), Config(opportunistic_sni=False)):
            each = host(level, A, config=config)
            network = told(GREETING, OFFER, RIGHT, KEYWORD, SENT)
            run(network, plan_of(each))
            (effect,) = [effect for effect, _ in network.sessions[0].said if isinstance(effect, StartTls)]
            assert (effect.sni, effect.level) == (NAMES[0], level)
    network = told(GREETING, OFFER, WRONG, PLAIN, SENT)
    run(network, plan_of(host(TlsLevel.MAY, A, config=Config(opportunistic_sni=False))))
    assert [effect.sni for effect, _ in network.sessions[0].said if isinstance(effect, StartTls)] == [None]


def test_without_tls_wanted_none_is_tried() -> None:
    network = told(GREETING, OFFER, SENT)
    outcome = run(network, plan_of(host(TlsLevel.NONE, A)))
    assert (outcome.outcome, outcome.security) == ("delivered", "cleartext")
    assert outcome.attempts[0].tlsrpt is None


@pytest.mark.parametrize("failed", [Secured(()), WRONG], ids=["no certificate", "a wrong one"])
@pytest.mark.parametrize("level", [TlsLevel.DANE, TlsLevel.SECURE])
def test_nothing_is_said_in_a_session_that_does_not_satisfy(level: TlsLevel, failed: Secured) -> None:
    """RFC3207-4.1-d: QUIT directly after the negotiation."""
    network = told(GREETING, OFFER, failed)
    outcome = run(network, plan_of(host(level, A)))
    assert outcome.attempts[0].transcript[-1] == "C: QUIT"
    assert [type(effect).__name__ for effect, _ in network.sessions[0].said] == ["Connect", "Ehlo", "StartTls"]
    assert (outcome.outcome, outcome.status) == ("deferred", "4.7.5")  # RFC8461-5-e


# --- the retry in cleartext

FAILURES = [BUSY, UNKNOWN, HANDSHAKE]  # in place of a handshake


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_a_failed_handshake_is_followed_by_one_attempt_in_cleartext_on_a_new_connection(failure: Any) -> None:
    """RFC3207-6-e, RFC3207-4-i."""
    outcome = run(told(GREETING, OFFER, failure, GREETING, OFFER, SENT), plan_of(host(TlsLevel.MAY, A)))
    first = "handshake-failed" if failure is HANDSHAKE else "starttls-refused"
    assert tried(outcome) == [(NAMES[0], A, first, False), (NAMES[0], A, "delivered", True)]
    assert [attempt.tlsrpt is None for attempt in outcome.attempts] == [False, True]
    assert (outcome.security, outcome.cleartext_retry) == ("cleartext", ())


@pytest.mark.parametrize("failure", FAILURES, ids=str)
@pytest.mark.parametrize("level", REQUIRED)
def test_where_tls_is_required_a_failed_handshake_is_never_followed_by_cleartext(level: TlsLevel, failure: Any) -> None:
    """RFC3207-6-d, RFC3207-6-c: not even where the try before is said to permit it."""
    for choice, before in CHOICES:
        network = told(GREETING, OFFER, failure)
        outcome = run(network, plan_of(host(level, A)), MESSAGE, before, cleartext_retry=choice)
        assert (outcome.outcome, outcome.cleartext_retry) == ("deferred", ())
        assert run(told(GREETING, PLAIN), plan_of(host(level, A)), MESSAGE, before).status == "4.7.4"


def test_one_address_of_a_host_is_retried_in_cleartext_and_no_other() -> None:
    plan = plan_of(host(TlsLevel.MAY, A, C), host(TlsLevel.MAY, B, name=NAMES[1]))
    steps = (GREETING, OFFER, HANDSHAKE)
    outcome = run(told(*steps, BUSY, *steps, *steps, GREETING, PLAIN, SENT), plan)
    assert [(address, clear) for _, address, _, clear in tried(outcome)] == [
        (A, False),
        (A, True),
        (C, False),
        (B, False),
        (B, True),
    ]


def test_a_retry_later_is_that_of_the_next_try_and_tls_comes_first() -> None:  # RFC3207-6-h
    plan = plan_of(host(TlsLevel.MAY, A), host(TlsLevel.DANE, B, name=NAMES[1]))
    steps = (GREETING, OFFER, HANDSHAKE)
    first = run(told(*steps, *steps), plan, cleartext_retry="later")
    assert tried(first) == [(NAMES[0], A, "handshake-failed", False), (NAMES[1], B, "handshake-failed", False)]
    assert first.cleartext_retry == NAMES[:1]
    again = run(told(*steps, GREETING, OFFER, SENT), plan, MESSAGE, first, cleartext_retry="later")
    assert tried(again) == [(NAMES[0], A, "handshake-failed", False), (NAMES[0], A, "delivered", True)]
    tls = run(told(*IN_TLS, SENT), plan, MESSAGE, first, cleartext_retry="later")
    assert tls.security == "untrusted"
    assert tls.cleartext_retry == ()


def test_a_retry_that_failed_leaves_none_for_the_next_try() -> None:
    plan = plan_of(host(TlsLevel.MAY, A))
    outcome = run(told(GREETING, OFFER, HANDSHAKE, UNREACHABLE), plan)
    assert (outcome.outcome, outcome.cleartext_retry) == ("deferred", ())


def test_a_connection_lost_within_tls_is_retried_in_cleartext_by_the_next_try() -> None:
    """RFC 7672 section 2.2: TLS may be what breaks the transfer."""
    plan = plan_of(host(TlsLevel.MAY, A))
    broken = (GREETING, OFFER, RIGHT, PLAIN, Transmitted(OK, (OK,), GO, failure=LOST))
    first = run(told(*broken), plan)
    assert (tried(first), first.cleartext_retry) == ([(NAMES[0], A, "tempfailed", False)], NAMES[:1])
    second = run(told(*broken, GREETING, OFFER, SENT), plan, MESSAGE, first)
    assert tried(second)[1:] == [(NAMES[0], A, "delivered", True)]
    committed = (*broken[:-1], Transmitted(OK, (OK,), GO, failure=LOST, committed=True))
    unsure = run(told(*committed), plan, MESSAGE, first)
    assert (len(unsure.attempts), unsure.cleartext_retry, unsure.duplicate_possible) == (1, (), True)


def test_the_operator_may_rule_out_any_retry_in_cleartext() -> None:
    plan = plan_of(host(TlsLevel.MAY, A))
    for before in (None, NAMED):
        outcome = run(told(GREETING, OFFER, HANDSHAKE), plan, MESSAGE, before, cleartext_retry="never")
        assert (len(outcome.attempts), outcome.cleartext_retry) == (1, ())
        assert run(told(GREETING, PLAIN, SENT), plan, MESSAGE, before, cleartext_retry="never").security == "cleartext"


def test_a_server_that_wants_tls_where_it_failed_delays_the_mail_unless_the_message_does_without() -> None:
    """RFC3207-4-g, RFC8689-4.2.2-c."""
    steps = (GREETING, OFFER, HANDSHAKE, GREETING, OFFER, Transmitted(NEEDS_TLS))
    assert run(told(*steps), plan_of(host(TlsLevel.MAY, A))).outcome == "deferred"
    no_tls = evolve(MESSAGE, tls_optional=True)
    bounced = run(told(*steps), plan_of(host(TlsLevel.MAY, A), tls_optional=True), no_tls)
    assert (bounced.outcome, bounced.status) == ("bounced", "5.7.0")
    stripped = run(told(GREETING, PLAIN, Transmitted(Reply(530))), plan_of(host(TlsLevel.MAY, A)))
    assert stripped.outcome == "deferred"  # by the code; RFC3207-6-c: the absence may be an attacker's work
    login = run(told(GREETING, PLAIN, Transmitted(NEEDS_LOGIN)), plan_of(host(TlsLevel.MAY, A)))
    assert (login.outcome, login.status) == ("bounced", "5.7.1")
    within = run(told(*IN_TLS, Transmitted(NEEDS_TLS)), plan_of(host(TlsLevel.MAY, A)))
    assert within.outcome == "bounced"  # it has TLS, and there is nothing that could change


# --- TLS without SNI


def snis(network: Network) -> list[str | None]:
    return [effect.sni for session in network.sessions for effect, _ in session.said if isinstance(effect, StartTls)]


@pytest.mark.parametrize("choice", ["now", "later", "never"])
def test_a_handshake_that_ends_by_an_alert_is_tried_without_sni_before_anything_else(choice: str) -> None:
    """RFC7435-3-a: at the same address, on a new connection, as an attempt of its own that counts for both."""
    plan = plan_of(host(TlsLevel.MAY, A), host(TlsLevel.MAY, B, name=NAMES[1]))
    network = told(GREETING, OFFER, ALERT, GREETING, OFFER, WRONG, PLAIN, SENT)
    outcome = run(network, plan, cleartext_retry=choice)
    assert tried(outcome) == [(NAMES[0], A, "handshake-failed", False), (NAMES[0], A, "delivered", False)]
    assert (snis(network), outcome.security) == ([NAMES[0], None], "untrusted")
    assert [attempt.tlsrpt for attempt in outcome.attempts] == [None, None]
    assert [attempt.tls_error for attempt in outcome.attempts] == ["UNRECOGNIZED_NAME", None]
    assert f"-- TLS, SNI none, {len(WRONG.chain)} in the chain" in outcome.attempts[1].transcript


@pytest.mark.parametrize(("choice", "clear"), [("now", True), ("later", False), ("never", False)])
@pytest.mark.parametrize("second", [ALERT, HANDSHAKE], ids=["alert", "broken off"])
def test_where_that_fails_too_cleartext_follows_as_after_one_failure(
    second: SessionFailure, choice: str, *, clear: bool
) -> None:
    steps = (GREETING, OFFER, ALERT, GREETING, OFFER, second)
    outcome = run(
        told(*steps, *[GREETING, OFFER, SENT] * clear), plan_of(host(TlsLevel.MAY, A)), cleartext_retry=choice
    )
    assert [attempt.tlsrpt for attempt in outcome.attempts] == [None, "validation-failure", *[None] * clear]
    assert outcome.outcome == ("delivered" if clear else "deferred")
    assert outcome.cleartext_retry == (NAMES[:1] if choice == "later" else ())


@pytest.mark.parametrize("level", REQUIRED)
def test_where_sni_is_prescribed_no_handshake_does_without(level: TlsLevel) -> None:  # RFC7672-8.1-a, RFC8461-7.1-c
    for before in (None, NAMED):
        outcome = run(told(GREETING, OFFER, ALERT), plan_of(host(level, A)), MESSAGE, before)
        assert (outcome.outcome, outcome.status) == ("deferred", "4.7.5")
        assert outcome.attempts[0].tlsrpt == "validation-failure"


def test_where_none_was_sent_there_is_nothing_to_leave_out() -> None:
    plan = plan_of(host(TlsLevel.MAY, A, config=Config(opportunistic_sni=False)))
    outcome = run(told(GREETING, OFFER, ALERT, GREETING, OFFER, SENT), plan)
    assert tried(outcome) == [(NAMES[0], A, "handshake-failed", False), (NAMES[0], A, "delivered", True)]
    assert outcome.attempts[0].tlsrpt == "validation-failure"


def test_each_address_is_tried_without_sni_and_one_in_cleartext() -> None:
    steps = (GREETING, OFFER, ALERT, GREETING, OFFER, HANDSHAKE)
    network = told(*steps, BUSY, *steps)
    outcome = run(network, plan_of(host(TlsLevel.MAY, A, C)))
    assert [(address, clear) for _, address, _, clear in tried(outcome)] == [
        *((A, False), (A, False), (A, True)),
        *((C, False), (C, False)),
    ]
    assert snis(network) == [NAMES[0], None, NAMES[0], None]


def test_the_handshake_without_sni_counts_as_a_connection() -> None:
    outcome = run(told(GREETING, OFFER, ALERT), plan_of(host(TlsLevel.MAY, A)), max_attempts=1)
    assert [attempt.tlsrpt for attempt in outcome.attempts] == ["validation-failure"]  # no other one counts for it
    assert outcome.cleartext_retry == NAMES[:1]
    steps = (GREETING, OFFER, ALERT, GREETING, OFFER, HANDSHAKE)
    outcome = run(told(*steps), plan_of(host(TlsLevel.MAY, A)), max_attempts=2)
    assert [attempt.tlsrpt for attempt in outcome.attempts] == [None, "validation-failure"]
    assert outcome.cleartext_retry == NAMES[:1]


# --- EHLO and HELO


@pytest.mark.parametrize("code", range(500, 560))
@pytest.mark.parametrize("level", LEVELS)
def test_helo_follows_where_the_code_speaks_of_the_verb_or_nothing_asks_for_tls(level: TlsLevel, code: int) -> None:
    """RFC5321-3.2-a, RFC5321-4.1.4-a."""
    follows = code in ({500, 502} if level in REQUIRED else {500, 501, 502, 504, 550})
    steps = [GREETING, Reply(code)] + [OFFER] * follows + [SENT] * (follows and level in OPPORTUNISTIC)
    (attempt,) = run(told(*steps), plan_of(host(level, A))).attempts
    assert attempt.transcript[2:4] == ("C: EHLO", f"S: {code}")
    assert ("C: HELO" in attempt.transcript) is follows
    if level in OPPORTUNISTIC:
        assert attempt.result == ("delivered" if follows else "tempfailed")
    else:
        assert (attempt.result, attempt.status) == (
            ("starttls-absent", "4.7.4") if follows else ("tempfailed", "4.0.0")
        )


@pytest.mark.parametrize("code", range(500, 560))
def test_within_tls_it_follows_where_the_verb_is_not_known(code: int) -> None:
    follows = code in {500, 502}
    for level in (TlsLevel.MAY, TlsLevel.DANE):
        steps = [GREETING, OFFER, RIGHT, Reply(code), *[PLAIN, SENT] * follows]
        assert run(told(*steps), plan_of(host(level, A))).outcome == ("delivered" if follows else "deferred")


def test_the_dialogue_shows_both_verbs() -> None:
    lines = transcript(GREETING, NO_EHLO, OFFER, SENT, level=TlsLevel.MAY)
    assert lines[2:8] == (
        *("C: EHLO", "S: 502-5.5.1 what?", "S: 502 STARTTLS"),
        *("C: HELO", "S: 250 mx", "C: MAIL FROM:<a@sender.test>"),
    )


def test_what_is_announced_to_helo_is_nothing() -> None:  # RFC8689-4.2.1-e
    plan = plan_of(host(TlsLevel.DANE, A, requiretls=True), requiretls=True)
    outcome = run(told(GREETING, OFFER, RIGHT, NO_EHLO, KEYWORD), plan, evolve(MESSAGE, requiretls=True))
    assert (outcome.outcome, outcome.status) == ("bounced", "5.7.30")


# --- a server that is ourselves


@pytest.mark.parametrize("text", ["mx.sender.test", "MX.Sender.Test. ESMTP", "mail.sender.test hello"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_server_that_bears_our_own_name_is_left(level: TlsLevel, text: str) -> None:
    """RFC5321-5.1-w; but it is a stranger's word, and returns nothing."""
    config, ours = Config(own_names=["mail.sender.test"]), Reply(250, (text, "STARTTLS"))
    for steps in ((ours,), (GREETING, ours), (GREETING, NO_EHLO, ours), (GREETING, OFFER, RIGHT, ours)):
        if level is TlsLevel.NONE and len(steps) == 4:
            continue
        network = told(*steps)
        outcome = network.deliver(plan_of(host(level, A, config=config)))
        assert (outcome.outcome, outcome.status) == ("deferred", "4.4.6")
        assert outcome.attempts[0].result == "tempfailed"
        assert text in outcome.attempts[0].detail
        assert outcome.attempts[0].transcript[-1] == "C: QUIT"


@pytest.mark.parametrize("text", ["", "other.test mx.sender.test", "xmx.sender.test", "mx.sender.test.example", "mx"])
def test_any_other_name_means_nothing(text: str) -> None:
    assert run(told(Reply(220, (text,)), PLAIN, SENT), plan_of(host(TlsLevel.MAY, A))).outcome == "delivered"


@pytest.mark.parametrize(
    ("route", "is_looped"),
    [
        (NextHop.parse("client.test"), True),
        (NextHop.static("client.test", [(10, NAMES[0])]), True),
        (NextHop.parse(f"[{NAMES[0]}]"), False),
        (NextHop.parse(f"[{A}]"), False),
    ],
)
def test_a_server_that_the_operator_has_chosen_may_bear_it(route: NextHop, *, is_looped: bool) -> None:
    plan = evolve(plan_of(host(TlsLevel.MAY, A)), next_hop=route)
    outcome = told(OURS, *[PLAIN, SENT] * (not is_looped)).deliver(plan)
    assert outcome.outcome == ("deferred" if is_looped else "delivered")


# --- the connection lost where TLS begins


@pytest.mark.parametrize("choice", ["now", "later", "never"])
def test_a_connection_lost_on_starttls_waits_for_the_next_try(choice: str) -> None:  # RFC7672-2.2-k
    plan = plan_of(host(TlsLevel.MAY, A))
    first = run(told(GREETING, OFFER, LOST), plan, cleartext_retry=choice)
    (attempt,) = first.attempts
    assert (attempt.result, attempt.status, attempt.tlsrpt) == ("starttls-refused", "4.4.2", "starttls-not-supported")
    assert first.cleartext_retry == (() if choice == "never" else NAMES[:1])
    steps = (GREETING, OFFER, LOST, *[GREETING, OFFER, SENT] * (choice != "never"))
    second = run(told(*steps), plan, MESSAGE, first, cleartext_retry=choice)
    assert second.security == (None if choice == "never" else "cleartext")


@pytest.mark.parametrize("level", REQUIRED)
def test_where_tls_is_required_it_is_want_of_tls(level: TlsLevel) -> None:
    (attempt,) = run(told(GREETING, OFFER, LOST), plan_of(host(level, A))).attempts
    assert (attempt.result, attempt.status) == ("starttls-refused", "4.7.4")


@pytest.mark.parametrize("failure", [HANDSHAKE, ALERT], ids=["closed", "alert"])
@pytest.mark.parametrize("level", [TlsLevel.MAY, *REQUIRED])
def test_the_end_in_place_of_the_first_reply_within_tls_is_a_failed_handshake(
    level: TlsLevel, failure: SessionFailure
) -> None:
    """RFC8460-4.3.3-a; RFC7672-2.2-k: cleartext may follow, but it may be chance, and takes two tries."""
    plan = plan_of(host(level, A))
    first = run(told(GREETING, OFFER, RIGHT, failure), plan)
    (attempt,) = first.attempts
    assert (attempt.result, attempt.status, attempt.tlsrpt) == ("handshake-failed", "4.7.5", "validation-failure")
    assert (attempt.verdict, attempt.tls_error) == (None, failure.tls_error)
    assert first.cleartext_retry == (NAMES[:1] if level is TlsLevel.MAY else ())
    if level is TlsLevel.MAY:
        again = run(told(GREETING, OFFER, RIGHT, failure, GREETING, OFFER, SENT), plan, MESSAGE, first)
        assert again.security == "cleartext"


# --- a defect of ours


class DefectError(Exception):
    """What nobody foresaw."""


def broken() -> Any:
    """A value that breaks whoever looks at it: a defect in what looks."""

    class Value:
        def __getattribute__(self, _: str) -> Any:
            raise DefectError("a date in the year 0 " + "x" * 1000)

    return Value()


@pytest.mark.parametrize(
    ("level", "steps"),
    [
        (TlsLevel.DANE, (GREETING,)),
        (TlsLevel.DANE, (GREETING, OFFER)),
        (TlsLevel.DANE, (GREETING, OFFER, RIGHT)),
        (TlsLevel.MAY, (GREETING, NO_EHLO)),
        (TlsLevel.NONE, (GREETING,)),
    ],
)
def test_a_defect_costs_the_attempt_in_which_it_shows(level: TlsLevel, steps: Any) -> None:
    plan = plan_of(host(level, A), host(TlsLevel.DANE, B, name=NAMES[1]))
    outcome = told(*steps, broken(), *IN_TLS, SENT).deliver(plan)
    assert tried(outcome) == [
        (NAMES[0], A, "local-error", level is TlsLevel.NONE),
        (NAMES[1], B, "delivered", False),
    ]
    attempt = outcome.attempts[0]
    assert (attempt.status, attempt.tlsrpt, attempt.verdict) == ("4.3.0", None, None)
    assert attempt.detail.startswith("DefectError: a date in the year 0")
    assert len(attempt.detail) <= 200
    assert attempt.transcript[-2:] == (f"-- local-error: {attempt.detail}", "-- close")
    assert not sessions(evolve(outcome, attempts=outcome.attempts[:1]))
    alone = told(*steps, broken()).deliver(plan_of(host(level, A)))
    assert (alone.outcome, alone.status, alone.cleartext_retry) == ("deferred", "4.3.0", ())


def test_a_defect_in_verifying_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(*_: Any, **__: Any) -> Any:
        raise ValueError("year 0 is out of range")

    monkeypatch.setattr(HostPlan, "verify", verify)
    part = plan_of(host(TlsLevel.DANE, A), requiretls=False)
    outcome = told(GREETING, OFFER, RIGHT).deliver(part)
    assert (outcome.attempts[0].result, outcome.status) == ("local-error", "4.3.0")


def test_a_defect_forgets_nothing_that_is_known() -> None:
    plan = plan_of(host(TlsLevel.DANE, A), host(TlsLevel.DANE, B, name=NAMES[1]))
    part = Transmitted(OK, (OK, TRY_LATER), GO, OK)
    outcome = told(*IN_TLS, part, GREETING, broken()).deliver(plan, TWO)
    assert [(str(entry.outcome), entry.status) for entry in outcome.recipients] == [
        ("delivered", None),
        ("deferred", "4.3.0"),
    ]
    assert outcome.duplicate_possible is False


def test_a_defect_in_a_transaction_may_hide_that_the_message_was_taken() -> None:
    """RFC 5321 section 6.1: no other host is asked."""
    plan = plan_of(host(TlsLevel.DANE, A), host(TlsLevel.DANE, B, name=NAMES[1]))
    outcome = told(*IN_TLS, broken()).deliver(plan)
    assert tried(outcome) == [(NAMES[0], A, "local-error", False)]
    assert (outcome.outcome, outcome.status, outcome.duplicate_possible) == ("deferred", "4.3.0", True)


def test_a_defect_is_no_want_of_tls() -> None:  # RFC8689-4.2.1-o
    for steps in UNMET.values():
        outcome = told(GREETING, broken(), *steps).deliver(strict(TlsLevel.DANE, TlsLevel.SECURE), ONE_STRICT)
        assert outcome.outcome == "deferred"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_leave_is_let_go(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(HostPlan, "verify", verify)
    with pytest.raises(error):
        told(GREETING, OFFER, RIGHT).deliver(plan_of(host(TlsLevel.DANE, A)))


# --- limits and times


def test_only_so_many_connections_are_made() -> None:  # RFC5321-5.1-p
    plan = plan_of(host(TlsLevel.DANE, A, B, C))
    for limit in (1, 2, 3, 4):
        network = told(*[UNREACHABLE] * min(limit, 3))
        assert len(run(network, plan, max_attempts=limit).attempts) == min(limit, 3)
    network = told(*[UNREACHABLE] * 20)
    many = plan_of(host(TlsLevel.DANE, *(f"192.0.2.{number}" for number in range(1, 41))))
    assert len(run(network, many).attempts) == Config().max_attempts


def test_hosts_that_are_skipped_use_up_no_attempt() -> None:  # RFC5321-5.1-q
    plan = plan_of(skipped("tlsa-lookup-failed", NAMES[1]), host(TlsLevel.DANE, A, C))
    assert [address for _, address, _, _ in tried(run(told(UNREACHABLE, BUSY), plan, max_attempts=2))] == [None, A, C]


def test_the_retry_in_cleartext_counts_as_a_connection() -> None:
    plan = plan_of(host(TlsLevel.MAY, A))
    outcome = run(told(GREETING, OFFER, HANDSHAKE), plan, max_attempts=1)
    assert (len(outcome.attempts), outcome.cleartext_retry) == (1, NAMES[:1])


@pytest.mark.parametrize("seconds", [1, 1800, 432000])
def test_deferred_mail_is_tried_again_after_the_time_that_is_set(seconds: int) -> None:
    """RFC5321-4.5.4.1-b, RFC5321-4.5.4.1-f."""
    retry = run(told(UNREACHABLE), plan_of(host(TlsLevel.MAY, A)), retry_seconds=seconds).retry
    assert retry is not None
    assert retry.at == NOW + timedelta(seconds=seconds)
    assert retry.at.tzinfo is timezone.utc


@pytest.mark.parametrize(
    ("steps", "same"),
    [
        ((UNREACHABLE,), False),
        ((BUSY,), False),
        ((GREETING, BUSY), False),
        ((GREETING, OFFER, HANDSHAKE), False),
        ((*IN_TLS, Transmitted(failure=LOST)), False),
        ((*IN_TLS, Transmitted(OK, (OK,), GO, failure=LOST, committed=True)), False),
        ((*IN_TLS, Transmitted(GREYLISTED)), True),
        ((*IN_TLS, Transmitted(OK, (GREYLISTED,))), True),
        ((*IN_TLS, Transmitted(OK, (OK,), GREYLISTED)), True),
        ((*IN_TLS, Transmitted(OK, (OK,), GO, GREYLISTED)), True),
    ],
)
def test_a_server_that_asks_to_come_again_may_know_the_address(steps: Any, *, same: bool) -> None:
    first, second = host(TlsLevel.DANE, A), host(TlsLevel.DANE, B, name=NAMES[1])
    for outcome in (
        run(told(*steps), plan_of(first)),
        run(told(UNREACHABLE, *steps), plan_of(second, first)),
    ):
        assert outcome.retry is not None
        assert outcome.retry.same_address is same


@pytest.mark.parametrize(
    ("replies", "same"),
    [
        ([Reply(400)], True),
        ([Reply(499)], True),
        ([Reply(354)], False),
        ([TRY_LATER, TOO_MANY, OK], True),
        ([TOO_MANY, TRY_LATER, OK], True),
        ([NEVER, TRY_LATER, OK], True),
    ],
)
def test_any_refusal_for_now_asks_to_come_again(replies: list[Reply], *, same: bool) -> None:
    message = evolve(MESSAGE, recipients=[f"r{number}@client.test" for number in range(len(replies))])
    some = any(reply.success for reply in replies)
    sent = Transmitted(OK, tuple(replies), GO if some else None, OK if some else None)
    retry = run(told(*IN_TLS, sent), plan_of(host(TlsLevel.DANE, A)), message).retry
    assert retry is not None
    assert retry.same_address is same


def test_the_address_counts_whatever_happens_at_the_next_host() -> None:
    plan = plan_of(host(TlsLevel.DANE, A), host(TlsLevel.DANE, B, name=NAMES[1]))
    outcome = run(told(*IN_TLS, Transmitted(GREYLISTED), UNREACHABLE), plan)
    assert outcome.retry is not None
    assert outcome.retry.same_address is True


@pytest.mark.parametrize("level", LEVELS)
def test_a_plan_that_wants_pkix_is_refused_without_anchors(level: TlsLevel) -> None:
    for first in (level, TlsLevel.MAY):
        plan = plan_of(host(first, A), host(level, B, name=NAMES[1]))
        program = deliver(plan.next_hop, MESSAGE, plan=plan, config=Config(), trust=None)
        if level is TlsLevel.SECURE:
            with pytest.raises(ValueError, match="anchors"):
                drive(program, told())
        else:
            assert drive(program, told(UNREACHABLE, UNREACHABLE)).outcome == "deferred"


# --- plans with nobody to ask


@pytest.mark.parametrize(
    ("undeliverable", "outcome", "status"),
    [
        (Undeliverable("permanent", "no-such-domain", "5.1.2"), "bounced", "5.1.2"),
        (Undeliverable("permanent", "null-mx", "5.1.10"), "bounced", "5.1.10"),
        (Undeliverable("transient", "mx-lookup-failed", "4.4.3"), "deferred", "4.4.3"),
        (Undeliverable("permanent", "requiretls-unmet", "5.7.10"), "bounced", "5.7.10"),
        (None, "deferred", "4.4.4"),
    ],
)
@pytest.mark.parametrize("hosts", [(), (skipped("no-addresses"), skipped("dane-required", NAMES[1]))])
def test_where_no_host_can_be_tried_the_plan_says_what_becomes_of_the_mail(
    hosts: Any, undeliverable: Undeliverable | None, outcome: str, status: str
) -> None:
    got = run(told(), plan_of(*hosts, undeliverable=undeliverable), TWO)
    assert (got.outcome, got.status, got.host) == (outcome, status, None)
    assert [(entry.outcome, entry.status) for entry in got.recipients] == [(outcome, status)] * 2
    assert [attempt.result for attempt in got.attempts] == ["skipped"] * len(hosts)


def test_a_skipped_host_is_shown_with_its_reason() -> None:
    for reason in SkipReason:
        host_of = skipped(reason)
        (attempt,) = run(told(), plan_of(host_of)).attempts
        assert (attempt.detail, attempt.tlsrpt, attempt.status) == (reason, host_of.skip.tlsrpt, None)


def test_a_host_that_is_skipped_behind_the_one_that_took_the_mail_is_not_shown() -> None:
    plan = plan_of(host(TlsLevel.MAY, A), skipped("dane-required", NAMES[1]))
    assert len(run(told(*IN_TLS, SENT), plan).attempts) == 1


# --- REQUIRETLS


def strict(*levels: TlsLevel, **more: Any) -> Plan:
    hosts = [
        host(level, f"192.0.2.{number + 1}", name=NAMES[number], requiretls=True) for number, level in enumerate(levels)
    ]
    return plan_of(*hosts, requiretls=True, **more)


ONE_STRICT = evolve(MESSAGE, requiretls=True)
UNMET = {
    "starttls-absent": (GREETING, PLAIN),
    "starttls-refused": (GREETING, OFFER, UNKNOWN),
    "handshake-failed": (GREETING, OFFER, HANDSHAKE),
    "not-authenticated": (GREETING, OFFER, WRONG),
    "requiretls-absent": (GREETING, OFFER, RIGHT, PLAIN),
}
PASSING = {
    "connect-failed": (UNREACHABLE,),
    "tempfailed": (GREETING, BUSY),
    "tempfailed later": (*IN_TLS, Transmitted(OK, (TRY_LATER,))),
}


@pytest.mark.parametrize("second", [*UNMET, *PASSING])
@pytest.mark.parametrize("first", [*UNMET, *PASSING])
def test_mail_that_requires_tls_is_returned_only_if_no_host_can_satisfy_it(first: str, second: str) -> None:
    """RFC8689-4.2.1-n, RFC8689-4.2.1-o, RFC8689-4.2.1-p, RFC8689-4.2.1-q."""
    steps = UNMET | PASSING
    outcome = run(told(*steps[first], *steps[second]), strict(TlsLevel.DANE, TlsLevel.SECURE), ONE_STRICT)
    if first in UNMET and second in UNMET:
        lacking = "requiretls-absent" in {first, second}
        assert (outcome.outcome, outcome.status) == ("bounced", "5.7.30" if lacking else "5.7.10")
        assert outcome.host is None
    else:
        assert outcome.outcome == "deferred"


def test_mail_that_requires_tls_goes_to_the_host_that_satisfies_it() -> None:
    """RFC8689-4.2.1-l, RFC8689-4.2.1-r: with the parameter, so that the requirement travels on."""
    for steps in UNMET.values():
        network = told(*steps, *IN_TLS, SENT)
        outcome = run(network, strict(TlsLevel.DANE, TlsLevel.SECURE), ONE_STRICT)
        assert (outcome.outcome, outcome.attempts[-1].requiretls) == ("delivered", True)
        assert network.sessions[1].sent[0][0].requiretls
        assert "C: MAIL FROM:<a@sender.test> REQUIRETLS" in outcome.attempts[-1].transcript


def test_mail_that_requires_nothing_bears_no_parameter() -> None:
    network = told(*IN_TLS, SENT)
    outcome = run(network, plan_of(host(TlsLevel.DANE, A)))
    assert (outcome.attempts[0].requiretls, network.sessions[0].sent[0][0].requiretls) == (False, False)
    assert "C: MAIL FROM:<a@sender.test>" in outcome.attempts[0].transcript


@pytest.mark.parametrize(
    "keyword", [KEYWORD, PLAIN, Reply(250, ("mx", "requireTLS")), Reply(250, ("mx", "REQUIRETLS2"))]
)
def test_a_notification_goes_without_the_parameter_rather_than_not_at_all(keyword: Reply) -> None:
    """RFC8689-5-b, RFC8689-5-f, RFC8689-2-a."""
    network = told(GREETING, OFFER, RIGHT, keyword, SENT)
    outcome = run(network, strict(TlsLevel.DANE), evolve(ONE_STRICT, sender=""))
    is_announced = keyword.lines[-1].upper() == "REQUIRETLS"
    assert outcome.outcome == "delivered"
    assert network.sessions[0].sent[0][0].requiretls is is_announced
    assert ("C: MAIL FROM:<> REQUIRETLS" in outcome.attempts[0].transcript) is is_announced


@pytest.mark.parametrize("failure", [name for name in UNMET if name != "requiretls-absent"])
def test_a_notification_needs_the_protection_all_the_same_and_waits_for_it(failure: str) -> None:
    """RFC8689-5-a; RFC8689-5-f: it is not discarded."""
    outcome = run(told(*UNMET[failure]), strict(TlsLevel.DANE), evolve(ONE_STRICT, sender=""))
    assert outcome.outcome == "deferred"
    unmet = Undeliverable("permanent", "requiretls-unmet", "5.7.10")
    nobody = plan_of(skipped("requiretls-unmet"), requiretls=True, undeliverable=unmet)
    for sender, expected in (("", ("deferred", "4.7.5")), ("a@sender.test", ("bounced", "5.7.10"))):
        got = Network(lambda *_: None).deliver(nobody, evolve(ONE_STRICT, sender=sender))
        assert (got.outcome, got.status) == expected


@pytest.mark.parametrize("reason", list(SkipReason))
def test_a_host_that_is_skipped_for_another_reason_keeps_the_mail_waiting(reason: SkipReason) -> None:
    plan = evolve(strict(TlsLevel.DANE), hosts=(skipped(reason, NAMES[1]), *strict(TlsLevel.DANE).hosts))
    outcome = run(told(*UNMET["starttls-absent"]), plan, ONE_STRICT)
    assert outcome.outcome == ("bounced" if reason is SkipReason.REQUIRETLS_UNMET else "deferred")


def test_mail_that_requires_tls_waits_where_not_every_address_was_tried() -> None:
    outcome = run(told(*UNMET["starttls-absent"]), strict(TlsLevel.DANE, TlsLevel.DANE), ONE_STRICT, max_attempts=1)
    assert outcome.outcome == "deferred"


@pytest.mark.parametrize("failure", [None, *StsFailure])
def test_mail_is_not_returned_under_a_policy_that_may_have_changed(failure: StsFailure | None) -> None:
    """RFC 8461 section 5: never before an updated policy was looked for."""
    plan = evolve(strict(TlsLevel.SECURE), sts=discovered("enforce", failure), mx_secure=False)
    outcome = told(*UNMET["not-authenticated"]).deliver(plan, ONE_STRICT)
    is_known = failure in {None, StsFailure.RECORD_MISSING, StsFailure.RECORD_INVALID}
    assert outcome.outcome == ("bounced" if is_known else "deferred")
    # where no policy is behind the demand, none that is newer could lift it
    for sts in (discovered("testing", failure), Discovery(domain="client.test", failure=failure)):
        outcome = told(*UNMET["not-authenticated"]).deliver(evolve(plan, sts=sts, mx_secure=True), ONE_STRICT)
        assert outcome.outcome == "bounced"


def discovered(mode: str, failure: StsFailure | None = None) -> Discovery:
    policy = parse_policy(f"version: STSv1\nmode: {mode}\nmx: mx1.test\nmax_age: 86400\n".encode())
    assert isinstance(policy, Policy)
    return Discovery(domain="client.test", policy=policy, id="1", failure=failure)


WISHES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("wanted", WISHES)
@pytest.mark.parametrize("planned", [(False, False), (True, False), (False, True)])
def test_a_plan_of_other_wishes_is_refused(planned: tuple[bool, bool], wanted: tuple[bool, bool]) -> None:
    """A plan without policies for a message that wants them, or one that does not require TLS for one that does."""
    plan = plan_of(host(TlsLevel.DANE, A, requiretls=planned[0]), requiretls=planned[0], tls_optional=planned[1])
    message = evolve(MESSAGE, requiretls=wanted[0], tls_optional=wanted[1])
    if planned[0] == wanted[0] and (wanted[1] or not planned[1]):
        assert told(UNREACHABLE).deliver(plan, message).outcome == "deferred"
    else:
        with pytest.raises(ValueError, match="wishes"):
            told().deliver(plan, message)


# --- what is reported


def test_a_session_is_verified_only_where_the_choice_of_host_is_secure() -> None:  # RFC7672-2.2.1-n
    for level in (TlsLevel.DANE, TlsLevel.SECURE):
        for secure, word in ((True, "verified"), (False, "trusted"), (None, "trusted")):
            assert run(told(*IN_TLS, SENT), plan_of(host(level, A), mx_secure=secure)).security == word
    assert run(told(*IN_TLS, SENT), plan_of(host(TlsLevel.ENCRYPT, A))).security == "untrusted"


def test_a_policy_that_is_enforced_vouches_for_the_hosts_that_match_it() -> None:
    for match, mode, word in (
        (True, "enforce", "verified"),
        (None, "enforce", "trusted"),
        (True, "testing", "trusted"),
    ):
        plan = plan_of(host(TlsLevel.SECURE, A, sts_match=match), mx_secure=False, sts=discovered(mode))
        assert told(*IN_TLS, SENT).deliver(plan).security == word


def test_the_least_secure_of_several_sessions_counts() -> None:
    plan = plan_of(host(TlsLevel.DANE, A), host(TlsLevel.MAY, B, name=NAMES[1]))
    part = Transmitted(OK, (OK, TRY_LATER), GO, OK)
    outcome = run(told(*IN_TLS, part, GREETING, PLAIN, SENT), plan, TWO)
    assert [attempt.security for attempt in outcome.attempts] == ["verified", "cleartext"]
    assert (outcome.outcome, outcome.security, outcome.host) == ("delivered", "cleartext", NAMES[1])


def observing(**more: Any) -> HostPlan:
    observe = Observe((Duty.PKIX,), pkix_name=NAMES[0])
    return evolve(host(TlsLevel.MAY, A), observe=observe, **more)


@pytest.mark.parametrize(
    ("each", "shown", "type_"),
    [
        (observing(sts_match=True), RIGHT, None),
        (observing(sts_match=True), WRONG, "certificate-host-mismatch"),
        (observing(sts_match=False), RIGHT, "validation-failure"),  # no host of the policy
        (observing(sts_match=False), WRONG, "certificate-host-mismatch"),
        (host(TlsLevel.ENCRYPT, A), RIGHT, "tlsa-invalid"),
        (host(TlsLevel.MAY, A), WRONG, None),
        (host(TlsLevel.MAY, A, audit=Audit(None, Skip(SkipReason.TLSA_LOOKUP_FAILED))), RIGHT, "dnssec-invalid"),
        (host(TlsLevel.MAY, A, audit=Audit(TlsLevel.MAY)), RIGHT, None),
    ],
)
def test_what_did_not_stop_the_mail_is_reported(each: HostPlan, shown: Secured, type_: str | None) -> None:
    """RFC8461-5-c: a testing policy is reported and changes nothing."""
    outcome = told(GREETING, OFFER, shown, PLAIN, SENT).deliver(plan_of(each))
    (attempt,) = outcome.attempts
    assert (outcome.outcome, attempt.security, attempt.tlsrpt) == ("delivered", "untrusted", type_)
    (stripped,) = told(GREETING, PLAIN, *[SENT] * each.cleartext).deliver(plan_of(each)).attempts
    assert stripped.tlsrpt == "starttls-not-supported"
    (unreachable,) = told(UNREACHABLE).deliver(plan_of(each)).attempts
    assert unreachable.tlsrpt is None


def test_the_transcript_shows_the_dialogue_line_by_line() -> None:
    greeting = Reply(220, ("mx", "", "ready "))
    plan = plan_of(host(TlsLevel.DANE, A))
    sent = Transmitted(OK, (OK, NEVER), GO, OK)
    outcome = run(told(greeting, OFFER, RIGHT, KEYWORD, sent), plan, TWO)
    assert outcome.attempts[0].transcript == (
        f"-- connect to {A} port 25",
        "S: 220-mx",
        "S: 220-",
        "S: 220 ready",
        "C: EHLO",
        "S: 250-mx",
        "S: 250 STARTTLS",
        "C: STARTTLS",
        f"-- TLS, SNI {NAMES[0]}, 1 in the chain",
        "-- level dane: dane-ee",
        "C: EHLO",
        "S: 250-mx",
        "S: 250 REQUIRETLS",
        "C: MAIL FROM:<a@sender.test>",
        "S: 250 2.0.0 ok",
        "C: RCPT TO:<b@client.test>",
        "S: 250 2.0.0 ok",
        "C: RCPT TO:<c@client.test>",
        "S: 550 5.1.1 unknown",
        "C: DATA",
        "S: 354 go ahead",
        f"C: ({len(TWO.content)} octets and the final dot)",
        "S: 250 2.0.0 ok",
        "C: QUIT",
    )


def transcript(*steps: Any, level: TlsLevel = TlsLevel.DANE) -> tuple[str, ...]:
    return told(*steps).deliver(plan_of(host(level, A)), cleartext_retry="never").attempts[0].transcript


def test_the_transcript_shows_what_was_refused_and_negotiated() -> None:
    assert transcript(GREETING, OFFER, BUSY)[-2:] == ("S: 421 4.3.2 later", "C: QUIT")
    shown = transcript(GREETING, OFFER, Secured(WRONG.chain * 2, "TLSv1.3", "TLS_AES_128_GCM_SHA256"))
    assert shown[-3:] == (
        f"-- TLSv1.3 TLS_AES_128_GCM_SHA256, SNI {NAMES[0]}, 2 in the chain",
        "-- level dane: no-tlsa-match",
        "C: QUIT",
    )
    shown = transcript(GREETING, OFFER, Secured((), "TLSv1.2"), PLAIN, SENT, level=TlsLevel.MAY)
    assert f"-- TLSv1.2, SNI {NAMES[0]}, 0 in the chain" in shown
    assert "-- level may: nothing to authenticate" in shown


def test_the_transcript_says_whether_the_message_was_sent() -> None:
    line = f"C: ({len(MESSAGE.content)} octets and the final dot)"
    refused, lost = Transmitted(OK, (OK,), BUSY), Transmitted(OK, (OK,), GO, failure=LOST)
    for sent, is_sent in ((SENT, True), (refused, False), (lost, False), (evolve(lost, committed=True), True)):
        assert (line in transcript(*IN_TLS, sent)) is is_sent


def test_a_failure_without_words_is_told_of_by_its_kind() -> None:
    for words, detail in (("", "lost"), ("reset by peer", "reset by peer")):
        (attempt,) = told(SessionFailure(Trouble.LOST, words)).deliver(plan_of(host(TlsLevel.DANE, A))).attempts
        assert attempt.detail == detail


@pytest.mark.parametrize("failure", [LOST, INJECTED, HANDSHAKE])
def test_after_the_dialogue_is_broken_no_command_is_told_of(failure: SessionFailure) -> None:
    """RFC3207-4-h: after the 220 there is no QUIT in cleartext."""
    for level in (TlsLevel.DANE, TlsLevel.MAY):
        network = told(GREETING, OFFER, failure)
        outcome = run(network, plan_of(host(level, A)), cleartext_retry="never")
        assert outcome.attempts[0].transcript[-2:] == (f"-- {failure.kind}: {failure.detail}", "-- close")


def test_a_hostile_server_can_not_fill_the_memory_with_its_replies() -> None:
    wordy = Reply(250, tuple(f"line {number}" for number in range(128)))
    recipients = [f"r{number}@client.test" for number in range(300)]
    message = evolve(MESSAGE, recipients=recipients)
    refusal = Reply(450, wordy.lines)
    sent = Transmitted(wordy, (refusal,) * 300)
    outcome = told(GREETING, Reply(250, (*wordy.lines, "STARTTLS")), RIGHT, KEYWORD, sent).deliver(
        plan_of(host(TlsLevel.DANE, A)), message
    )
    lines = outcome.attempts[0].transcript
    assert len(lines) == 1000
    assert lines[2:13] == ("C: EHLO", *(f"S: 250-line {number}" for number in range(10)))
    assert lines[13] == "-- 119 more lines"
    assert all(len(entry.reply or "") < 200 for entry in outcome.recipients)
    assert [entry.status for entry in outcome.recipients] == ["4.0.0"] * 300


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (9, 9), (10, 10), (11, 11), (12, 11)])
def test_ten_lines_of_a_reply_are_shown(count: int, shown: int) -> None:
    lines = transcript(Reply(421, tuple(f"line {number}" for number in range(count))))
    assert len(lines) == 1 + shown + 1
    assert lines[min(count, 10)].startswith("S: 421")
    assert (f"-- {count - 10} more lines" in lines) is (count > 10)
