"""What an outcome adds to reports: total over every word that there is, and right by a second count of the sessions."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy import Config, Message, NextHop, Outcome, TlsaRRset, TlsLevel, Verdict, World
from mailtlspolicy._refusal import Reason
from mailtlspolicy.delivery import Attempt, Disposition, Result, Security
from mailtlspolicy.delivery.session import (
    Close,
    Connect,
    Connected,
    Ehlo,
    Reply,
    Secured,
    SessionFailure,
    StartTls,
    Transmit,
    Transmitted,
    Trouble,
)
from mailtlspolicy.delivery.walk import deliver
from mailtlspolicy.drivers import drive
from mailtlspolicy.levels import DUTIES, DUTIES_BESIDE_POLICY, Duty
from mailtlspolicy.plan.hosts import SkipReason, TlsaBinding
from mailtlspolicy.plan.values import Audit, HostPlan, Observe, Plan, Skip, SkippedHost
from mailtlspolicy.sts import Policy, StsFailure, parse_policy
from mailtlspolicy.sts.values import Discovery
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.tlsrpt import Judgement, PolicyType, Session, policy_domain, sessions
from mailtlspolicy.tlsrpt.attribution import MAX_TLS_ERROR
from mailtlspolicy.verdict import Failure, ResultType
from tests.authority import NOW
from tests.driving import at
from tests.walking import (
    GO,
    GREETING,
    HANDSHAKE,
    LEVELS,
    NAMES,
    OFFER,
    OK,
    RIGHT,
    TRUST,
    TWO,
    Network,
    all_options,
    every_run,
    host,
    plan_of,
    skipped,
    some_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

AT = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
NEWS = {ResultType.STS_POLICY_FETCH_ERROR, ResultType.STS_POLICY_INVALID, ResultType.STS_WEBPKI_INVALID}


def policy(mode: str = "enforce", *patterns: str) -> Policy:
    lines = [f"mx: {pattern}" for pattern in patterns or NAMES]
    found = parse_policy("\n".join(["version: STSv1", f"mode: {mode}", *lines, "max_age: 86400", ""]).encode())
    assert isinstance(found, Policy)
    return found


def outcome_of(*attempts: Attempt, plan: Plan, at: datetime = AT) -> Outcome:
    return Outcome(outcome=Disposition.DEFERRED, at=at, attempts=attempts, plan=plan)


def attempt(result: str = "delivered", **more: Any) -> Attempt:
    return Attempt(host=NAMES[0], address="192.0.2.1", result=Result(result), **more)


def verdict(failures: Mapping[Duty, Failure | None], observed: Mapping[Duty, Failure | None] | None = None) -> Verdict:
    """The verdict on duties, as `HostPlan.verify` makes it."""
    failed = next(filter(None, failures.values()), None)
    return Verdict(
        authenticated=bool(failures) and failed is None,
        satisfied=failed is None,
        failure=failed,
        tlsrpt=None if failed is None else failed.tlsrpt,
        observed=None if observed is None else verdict(observed),
        duties=tuple(failures.items()),
    )


def obeys(outcome: Outcome) -> tuple[Session, ...]:
    """The sessions of an outcome, which obey what holds of all sessions (specification, section 3)."""
    found = sessions(outcome)
    if outcome.plan.tls_optional:
        assert found == ()
    news = 0
    for session in found:
        assert session
        assert len({judgement.policy for judgement in session}) == len(session), "each policy once"
        assert len({judgement.policy.type for judgement in session}) == len(session)
        types = {judgement.policy.type for judgement in session}
        assert PolicyType.NO_POLICY_FOUND not in types or len(types) == 1  # RFC8460-4-d
        for judgement in session:
            told = [details.result_type for details in judgement.failures]
            assert all(told), "a failure has a type"
            assert set(told) <= set(ResultType)  # RFC8460-4.3-a
            assert all(details.failure_reason_code for details in judgement.failures)  # RFC8460-4.3.1-f and -h
            assert all(details.additional_information is None for details in judgement.failures)
            assert len(set(judgement.failures)) == len(told), "nothing is told twice"
            assert judgement.failures or not judgement.failed, "a failure has details"
            if not judgement.failed:
                assert set(told) <= NEWS, "a success has none but the news of discovery"
                news += len(told)
            if judgement.policy.type is not PolicyType.STS:
                assert not set(told) & NEWS
    assert news <= 1
    return found


def survives(outcome: Outcome) -> tuple[Session, ...]:
    """The same, of outcomes that were written down and read."""
    found = obeys(outcome)
    assert found == sessions(Outcome.from_json(json.loads(json.dumps(outcome.to_json()))))
    assert pickle.loads(pickle.dumps(found)) == found
    return found


def types(judgement: Judgement) -> list[str]:
    return [str(details.result_type) for details in judgement.failures]


def reasons(judgement: Judgement) -> list[str]:
    return [str(details.failure_reason_code) for details in judgement.failures]


# --- every word is reported, or is known not to be

FAILURES = {  # RFC 8460 sections 4.3.1 and 4.3.3
    "no-tlsa-match": "validation-failure",
    "name-mismatch": "certificate-host-mismatch",
    "expired": "certificate-expired",
    "not-yet-valid": "certificate-not-trusted",  # RFC8460-4.3.1-d: it has not expired
    "bad-signature": "certificate-not-trusted",
    "not-a-ca": "certificate-not-trusted",
    "path-length": "certificate-not-trusted",
    "name-constraints": "certificate-not-trusted",
    "bad-purpose": "certificate-not-trusted",
    "weak-algorithm": "certificate-not-trusted",
    "unhandled-critical-extension": "certificate-not-trusted",
    "untrusted-issuer": "certificate-not-trusted",
    "malformed-certificate": "certificate-not-trusted",
    "no-certificate": "validation-failure",
    "chain-too-long": "validation-failure",
    "too-much-work": "validation-failure",
    "no-usable-records": "tlsa-invalid",
}
SKIPS = {
    "alias-lookup-failed": ("tlsa", "dnssec-invalid"),
    "tlsa-lookup-failed": ("tlsa", "dnssec-invalid"),
    "dane-required": ("tlsa", "dane-required"),
    "sts-mx-mismatch": ("sts", "validation-failure"),
}
NOT_REPORTED_SKIPS = {"invalid-host", "no-addresses", "address-lookup-failed", "requiretls-unmet"}
STS_FAILURES = {  # without a policy in force
    "fetch-error": "sts-policy-fetch-error",
    "webpki-invalid": "sts-webpki-invalid",
    "policy-invalid": "sts-policy-invalid",
}
NOT_REPORTED_STS_FAILURES = {"local-error", "dns-error", "record-missing", "record-invalid"}
RESULTS = {
    "starttls-absent": ("starttls-not-supported", "starttls-absent"),
    "starttls-refused": ("starttls-not-supported", "starttls-refused"),
    "handshake-failed": ("validation-failure", "handshake-failed"),
}
NOT_REPORTED_RESULTS = {"connect-failed", "tempfailed", "rejected", "local-error"}  # where TLS was not come to
OF_A_VERDICT = {"delivered", "not-authenticated", "requiretls-absent"}  # and the two before


def test_the_lists_here_have_every_word() -> None:
    assert FAILURES.keys() == set(map(str, Failure))
    assert SKIPS.keys() | NOT_REPORTED_SKIPS == set(map(str, SkipReason))
    assert STS_FAILURES.keys() | NOT_REPORTED_STS_FAILURES == set(map(str, StsFailure))
    assert {*RESULTS, *NOT_REPORTED_RESULTS, *OF_A_VERDICT, "skipped"} == set(map(str, Result))
    told = {*FAILURES.values(), *STS_FAILURES.values(), *(kind for _, kind in SKIPS.values())}
    assert told | {kind for kind, _ in RESULTS.values()} == set(map(str, ResultType))  # RFC8460-6.6-a


def test_the_result_types_are_those_of_the_registry() -> None:  # RFC8460-6.6-a
    assert [str(kind) for kind in ResultType] == [
        *("starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted"),
        *("validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required"),
        *("sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"),
    ]
    assert [str(kind) for kind in PolicyType] == ["tlsa", "sts", "no-policy-found"]  # RFC8460-4.4-f


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_is_a_failure_of_the_policy_that_wants_the_duty(failure: Failure) -> None:
    kind = FAILURES[failure]
    in_force = Discovery(domain="client.test", policy=policy())
    both = host(TlsLevel.DANE, requires=(Duty.DANE, Duty.PKIX), sts_match=True)
    for failed, held in ((Duty.DANE, Duty.PKIX), (Duty.PKIX, Duty.DANE)):
        judged = verdict({failed: failure, held: None})
        got = attempt("not-authenticated", verdict=judged, tlsrpt=judged.tlsrpt)
        ((one, other),) = survives(outcome_of(got, plan=plan_of(both, sts=in_force)))
        assert (one.policy.type, other.policy.type) == (PolicyType.TLSA, PolicyType.STS)
        bad, good = (one, other) if failed is Duty.DANE else (other, one)
        assert (types(bad), reasons(bad), bad.failed) == ([kind], [str(failure)], True)
        assert (good.failed, good.failures) == (False, ())
    alone = host(TlsLevel.SECURE, requiretls=True)
    got = attempt("not-authenticated", verdict=verdict({Duty.PKIX: failure}), tlsrpt=failure.tlsrpt)
    ((one,),) = survives(outcome_of(got, plan=plan_of(alone, requiretls=True)))
    assert (one.policy.type, types(one), reasons(one)) == (PolicyType.NO_POLICY_FOUND, [kind], [str(failure)])


@pytest.mark.parametrize("reason", SkipReason)
def test_every_reason_to_skip_is_reported_or_known_not_to_be(reason: SkipReason) -> None:
    plan = plan_of(skipped(reason), sts=Discovery(domain="client.test", policy=policy("enforce", "other.test")))
    got = Attempt(host=NAMES[0], address=None, result=Result.SKIPPED, tlsrpt=Skip(reason).tlsrpt, detail=str(reason))
    found = survives(outcome_of(got, plan=plan))
    if str(reason) in NOT_REPORTED_SKIPS:
        assert found == ()
        return
    ((judgement,),) = found
    assert (str(judgement.policy.type), types(judgement)[0]) == SKIPS[reason]
    assert reasons(judgement) == [str(reason)]
    (details,) = judgement.failures
    assert details.receiving_mx_hostname == NAMES[0]
    assert (details.receiving_ip, details.sending_mta_ip, details.receiving_mx_helo) == (None, None, None)


@pytest.mark.parametrize("failure", StsFailure)
def test_every_failure_of_discovery_is_reported_or_known_not_to_be(failure: StsFailure) -> None:
    rejected, refusal = ("mode: x\n", Reason.MODE_INVALID) if failure is StsFailure.POLICY_INVALID else (None, None)
    kind = STS_FAILURES.get(failure)
    told = None if kind is None else ResultType(kind)
    known = Discovery(domain="client.test", failure=failure, tlsrpt=told, rejected=rejected, refusal=refusal)
    good = attempt(verdict=verdict({}))
    ((judgement,), *more) = survives(outcome_of(good, good, plan=plan_of(host(TlsLevel.MAY), sts=known)))
    assert len(more) == 1
    if kind is None:  # as if nothing were announced
        assert (judgement.policy.type, judgement.failed) == (PolicyType.NO_POLICY_FOUND, False)
        return
    assert (judgement.policy.type, judgement.failed, types(judgement)) == (PolicyType.STS, True, [kind])
    reason = "policy-invalid: mode-invalid" if rejected else str(failure)
    assert reasons(judgement) == [reason]
    (details,) = judgement.failures
    assert set(details.to_json()) == {"result-type", "failure-reason-code"}  # RFC8460-4.4-x
    assert judgement.policy.to_json() == {
        "policy-type": "sts",
        "policy-domain": "client.test",
        **({"policy-string": ["mode: x"]} if rejected else {}),
    }
    in_force = evolve(known, policy=policy())
    usable = host(TlsLevel.SECURE, sts_match=True)
    good = attempt(verdict=verdict({Duty.PKIX: None}))
    (first,), (second,) = survives(outcome_of(good, good, plan=plan_of(usable, sts=in_force)))
    assert (first.failed, reasons(first), second.failed, second.failures) == (False, [reason], False, ())
    assert first.policy == second.policy


def test_a_failed_lookup_of_the_record_is_a_failed_fetch_where_a_policy_is_in_force() -> None:  # RFC 8461 section 6
    for failure in NOT_REPORTED_STS_FAILURES:
        kind = ResultType.STS_POLICY_FETCH_ERROR
        known = Discovery(domain="client.test", policy=policy(), failure=StsFailure(failure), tlsrpt=kind)
        plan = plan_of(host(TlsLevel.SECURE, sts_match=True), sts=known)
        ((judgement,),) = survives(outcome_of(attempt(verdict=verdict({Duty.PKIX: None})), plan=plan))
        assert (judgement.failed, types(judgement), reasons(judgement)) == (False, [str(kind)], [failure])


VERDICTS: list[Verdict | None] = [
    None,
    *(verdict({}, observed) for observed in (None, {Duty.DANE: None}, {Duty.PKIX: Failure.EXPIRED})),
]
VERDICTS += [
    verdict(dict(zip(duties, failures, strict=True)), observed)
    for duties in ((Duty.DANE,), (Duty.PKIX,), (Duty.DANE, Duty.PKIX))
    for failures in product([None, Failure.NO_TLSA_MATCH, Failure.EXPIRED], repeat=len(duties))
    for observed in (None, {Duty.PKIX: Failure.UNTRUSTED_ISSUER}, {Duty.DANE: Failure.NO_TLSA_MATCH})
]
DISCOVERIES = [None, *(Discovery(domain="client.test", policy=policy(mode)) for mode in ("enforce", "testing", "none"))]
DISCOVERIES += [
    Discovery(domain="client.test", policy=in_force, failure=StsFailure.FETCH_ERROR, tlsrpt=told)
    for in_force in (None, policy(), policy("none"))
    for told in (None, ResultType.STS_POLICY_FETCH_ERROR)
]


def hosts_of(level: TlsLevel) -> Iterator[HostPlan]:
    beside_policy = {DUTIES_BESIDE_POLICY} if level is TlsLevel.DANE else set()
    for duties in sorted({DUTIES[level]} | beside_policy):
        plain = host(level, requires=duties)
        yield plain
        yield evolve(plain, observe=Observe((Duty.PKIX,), (), NAMES[0]))
    audited = host(TlsLevel.MAY, audit=Audit(level))
    yield evolve(audited, binding=plain.binding)
    if level is TlsLevel.MAY:
        yield evolve(audited, audit=Audit(None, Skip(SkipReason.TLSA_LOOKUP_FAILED)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("result", sorted(set(Result) - {Result.SKIPPED}))
def test_no_combination_of_words_breaks_a_rule(level: TlsLevel, result: Result) -> None:
    kind, reason = RESULTS.get(result, (None, ""))
    count = 0
    for usable, known, judged, match in product(hosts_of(level), DISCOVERIES, VERDICTS, (True, False)):
        if kind is not None and judged is not None:
            continue  # what ended before TLS has no verdict
        applied = None if known is None else known.applied
        if applied is None and not match:
            continue  # where there is no policy, there is nothing to match
        plan = plan_of(evolve(usable, sts_match=None if applied is None else match), sts=known)
        got = attempt(result, verdict=judged, tlsrpt=kind and ResultType(kind), security=Security.CLEARTEXT)
        found = obeys(outcome_of(got, plan=plan))
        count += 1
        held = kind is not None or judged is not None
        of_discovery = known is not None and known.tlsrpt is not None
        assert len(found) <= held + of_discovery
        if kind is not None:  # every policy that applies fails
            for judgement in found[0]:
                assert judgement.failed
                assert reason in reasons(judgement)
                assert kind in types(judgement)
        if not held and not of_discovery:
            assert found == ()
    assert count


def test_without_a_session_there_is_nothing() -> None:
    for known in DISCOVERIES[:4]:
        assert survives(outcome_of(plan=plan_of(sts=known))) == ()
    for usable, known in product(hosts_of(TlsLevel.MAY), DISCOVERIES):
        plan = plan_of(usable, sts=known, tls_optional=True)
        assert survives(outcome_of(attempt(verdict=verdict({})), plan=plan)) == ()


# --- what is said of a session


def test_a_detail_names_both_ends() -> None:
    got = attempt(
        "handshake-failed",
        tlsrpt=ResultType.VALIDATION_FAILURE,
        source="198.51.100.1",
        helo="mx.provider.test",
        tls_error="WRONG_VERSION_NUMBER",
    )
    ((judgement,),) = survives(outcome_of(got, plan=plan_of(host(TlsLevel.MAY))))
    (details,) = judgement.failures
    assert details.to_json() == {
        "result-type": "validation-failure",
        "sending-mta-ip": "198.51.100.1",
        "receiving-mx-hostname": NAMES[0],
        "receiving-mx-helo": "mx.provider.test",
        "receiving-ip": "192.0.2.1",
        "failure-reason-code": "handshake-failed: WRONG_VERSION_NUMBER",
    }
    assert judgement.policy.to_json() == {"policy-type": "no-policy-found", "policy-domain": "client.test"}


def test_the_name_of_a_tls_error_is_bounded() -> None:
    got = attempt("handshake-failed", tlsrpt=ResultType.VALIDATION_FAILURE, tls_error="X" * 10_000)
    ((judgement,),) = survives(outcome_of(got, plan=plan_of(host(TlsLevel.MAY))))
    assert reasons(judgement) == ["handshake-failed: " + "X" * MAX_TLS_ERROR]


def test_tlsa_records_are_told_one_a_string_and_sorted() -> None:  # RFC8460-4.5-a, RFC8460-1.1-b
    records = TlsaRRset(Tlsa.parse(text) for text in ("3 1 1 " + "BB" * 32, "2 0 1 " + "cc" * 32, "3 1 1 " + "aA" * 32))
    bound = HostPlan(
        host=NAMES[0],
        level=TlsLevel.DANE,
        addresses=("192.0.2.1",),
        binding=TlsaBinding("base.test", "base.test", ("base.test",), records),
    )
    ((judgement,),) = survives(outcome_of(attempt(verdict=verdict({Duty.DANE: None})), plan=plan_of(bound)))
    assert judgement.policy.to_json() == {
        "policy-type": "tlsa",
        "policy-string": ["2 0 1 " + "cc" * 32, "3 1 1 " + "aa" * 32, "3 1 1 " + "bb" * 32],
        "policy-domain": "base.test",
        "mx-host": [NAMES[0]],
    }


def test_a_policy_is_told_as_published() -> None:  # RFC8460-4.5-b and -c, RFC8460-4.4-i
    text = (
        "version: STSv1\r\nmode: testing\nx-ext: b\xfccher \r\nmx: *.B.test\nmx: a.test\r\nmx: a.test\nmax_age: 86400"
    )
    parsed = parse_policy(text.encode())
    assert isinstance(parsed, Policy)
    known = Discovery(domain="client.test", policy=parsed)
    plan = plan_of(host(TlsLevel.MAY, sts_match=True), sts=known)
    ((judgement,),) = survives(outcome_of(attempt(verdict=verdict({}, {Duty.PKIX: None})), plan=plan))
    assert judgement.policy.to_json() == {
        "policy-type": "sts",
        "policy-string": [
            *("version: STSv1", "mode: testing", "x-ext: b\xfccher ", "mx: *.B.test", "mx: a.test", "mx: a.test"),
            "max_age: 86400",
        ],
        "policy-domain": "client.test",
        "mx-host": ["*.b.test", "a.test"],
    }


@pytest.mark.parametrize("verdicts", [{"verdict": verdict({})}, {"tlsrpt": ResultType.STARTTLS_NOT_SUPPORTED}])
def test_where_this_system_did_not_learn_of_a_policy_nothing_is_told_of_any(verdicts: dict[str, Any]) -> None:
    known = Discovery(domain="client.test", failure=StsFailure.FETCH_ERROR, is_own=True)
    outcome = outcome_of(attempt(**verdicts), plan=plan_of(host(TlsLevel.MAY), sts=known))
    assert sessions(outcome) == ()
    other = evolve(known, is_own=False)  # as in a back-off: it is announced, and nobody has seen it
    ((judgement,),) = sessions(evolve(outcome, plan=evolve(outcome.plan, sts=other)))
    assert (judgement.policy.type, judgement.failed) == (PolicyType.STS, True)
    bound = plan_of(host(TlsLevel.DANE), sts=known)
    ((judgement,),) = sessions(outcome_of(attempt(verdict=verdict({Duty.DANE: None})), plan=bound))
    assert (judgement.policy.type, judgement.failed) == (PolicyType.TLSA, False)


def test_an_unlisted_host_with_a_bad_certificate_is_one_failure_with_two_details() -> None:
    plan = plan_of(host(TlsLevel.MAY, sts_match=False), sts=Discovery(domain="client.test", policy=policy("testing")))
    got = attempt(verdict=verdict({}, {Duty.PKIX: Failure.UNTRUSTED_ISSUER}))
    ((judgement,),) = survives(outcome_of(got, plan=plan))
    assert judgement.failed
    assert sorted(reasons(judgement)) == ["sts-mx-mismatch", "untrusted-issuer"]


@pytest.mark.parametrize(
    ("next_hop", "domain"),
    [
        (NextHop.parse("Client.Test"), "client.test"),
        (NextHop.parse("[relay.test]:587"), "relay.test"),  # RFC8460-1.1-a
        (NextHop.static("client.test", [(10, "mx1.test")]), "client.test"),
        (NextHop.parse("b\xfccher.test"), "xn--bcher-kva.test"),
        (NextHop.parse("[192.0.2.1]"), None),
        (NextHop.parse("[IPv6:2001:db8::1]"), None),
    ],
    ids=str,
)
def test_the_domain_that_is_reported_to(next_hop: NextHop, domain: str | None) -> None:
    assert policy_domain(next_hop) == domain
    plan = Plan(next_hop=next_hop, mx_secure=True, hosts=(host(TlsLevel.MAY),))
    found = survives(outcome_of(attempt(verdict=verdict({})), plan=plan))
    assert [judgement.policy.domain for session in found for judgement in session] == [domain] * (domain is not None)


# --- a second count, of what the network has seen


def judged_on_the_wire(network: Network, plan: Plan) -> list[list[tuple[str, bool]]]:
    """The policies and whether the session failed by them, for every session that counts: from what was said in it."""
    levels = {address: each for each in plan.hosts if isinstance(each, HostPlan) for address in each.addresses}
    found: list[list[tuple[str, bool]]] = []
    addresses = [session.effect.address for session in network.sessions]
    previous = None
    for session, following in zip(network.sessions, (*addresses[1:], None), strict=True):
        address = session.effect.address
        each = levels[address]
        shown = next((result for effect, result in session.said if isinstance(effect, StartTls)), None)
        sent_sni = any(isinstance(effect, StartTls) and effect.sni is not None for effect, _ in session.said)
        if isinstance(shown, SessionFailure) and shown.alert and sent_sni and address == following:
            continue  # the session without SNI counts in its place
        greeted = [result for effect, result in session.said if isinstance(effect, Ehlo)]
        within = greeted[-1] if session.in_tls and len(greeted) > 1 else None
        # a server that bears our own name is not spoken to
        is_greeted = any(
            isinstance(result, Reply) and result.success and not result.lines[0].lower().startswith("mx.sender.test")
            for result in greeted
        )
        is_retry, previous = address == previous, address
        if is_retry or each.level is TlsLevel.NONE or not is_greeted:
            continue  # a retry in cleartext belongs to the session before
        # within TLS the first reply may show that there was none; or TLS was lost, and cleartext took its place
        is_none = isinstance(within, SessionFailure) and within.kind is Trouble.HANDSHAKE
        has_tls = isinstance(shown, Secured) and address != following and not is_none
        is_right = has_tls and shown == RIGHT
        judged = []
        if each.binding is not None:
            judged.append(("tlsa", each.level is TlsLevel.ENCRYPT or not is_right))
        sts = plan.sts
        if sts is not None and sts.policy is not None:
            judged.append(("sts", not (is_right and each.sts_match)))
        elif sts is not None:
            judged.append(("sts", True))
        if not judged:
            judged.append(("no-policy-found", not (is_right if each.requires else has_tls)))
        found.append(judged)
    return found


def compare(
    network: Network, plan: Plan, message: Message = TWO, before: Outcome | None = None, **how: Any
) -> tuple[Session, ...]:
    outcome = network.deliver(plan, message, before, **how)
    found = obeys(outcome)
    want = judged_on_the_wire(network, plan)
    got = [[(str(judgement.policy.type), judgement.failed) for judgement in session] for session in found]
    if plan.tls_optional:
        assert got == []
        return found
    if not want and plan.sts is not None and plan.sts.tlsrpt is not None:
        want = [[("sts", True)]]  # the news, which has no session to go with
    assert got == want
    news = [details for session in found for one in session for details in one.failures if details.result_type in NEWS]
    if plan.sts is not None and plan.sts.failure is not None:
        assert len(news) == (1 if plan.sts.policy is not None else len(want))
    return found


PLANS = {
    "nothing known": (None, None),
    "listed": (Discovery(domain="client.test", policy=policy()), True),
    "unlisted": (Discovery(domain="client.test", policy=policy("testing", "other.test")), False),
    "not fetched": (
        Discovery(domain="client.test", failure=StsFailure.FETCH_ERROR, tlsrpt=ResultType.STS_POLICY_FETCH_ERROR),
        None,
    ),
    "not updated": (
        Discovery(
            domain="client.test",
            policy=policy(),
            failure=StsFailure.WEBPKI_INVALID,
            tlsrpt=ResultType.STS_WEBPKI_INVALID,
        ),
        True,
    ),
}


def planned(known: str, level: TlsLevel, *addresses: str, name: str = NAMES[0], **more: Any) -> HostPlan:
    """A host that both policies judge, each as far as it applies."""
    _, match = PLANS[known]
    observe = None
    if match is not None and level is not TlsLevel.SECURE:
        observe = Observe((Duty.PKIX,), (), name)
    return host(level, *addresses, name=name, sts_match=match, observe=observe, **more)


@pytest.mark.parametrize("known", PLANS)
@pytest.mark.parametrize("level", LEVELS)
def test_whatever_happens_at_one_address_is_counted_right(level: TlsLevel, known: str) -> None:
    for network in every_run(all_options):
        compare(network, plan_of(planned(known, level, "192.0.2.1"), sts=PLANS[known][0]))


@pytest.mark.parametrize("known", ["nothing known", "not updated"])
@pytest.mark.parametrize("retry", ["now", "never"])
@pytest.mark.parametrize("level", LEVELS)
def test_whatever_happens_at_two_addresses_is_counted_right(level: TlsLevel, retry: str, known: str) -> None:
    plan = plan_of(planned(known, level, "192.0.2.1", "192.0.2.2"), sts=PLANS[known][0])
    for network in every_run(fewer_options):
        compare(network, plan, cleartext_retry=retry)


def fewer_options(effect: Any, session: Any) -> Sequence[Any]:
    """Of those that matter to what comes next the ones that matter to a report."""
    options = some_options(effect, session)
    return [option for option in options if not isinstance(option, Transmitted)] or options[:2]


@pytest.mark.parametrize("known", PLANS)
def test_two_hosts_of_different_levels_and_a_skipped_one(known: str) -> None:
    hosts: list[HostPlan | SkippedHost] = [
        planned(known, TlsLevel.DANE, "192.0.2.1"),
        planned(known, TlsLevel.MAY, "192.0.2.2", name=NAMES[1]),
        skipped("no-addresses", NAMES[2]),
    ]
    for network in every_run(fewer_options):
        compare(network, plan_of(*hosts, sts=PLANS[known][0]))


def test_a_message_that_does_without_tls_is_not_counted_whatever_happens() -> None:
    optional = evolve(TWO, tls_optional=True)
    for network in every_run(all_options):
        compare(network, plan_of(host(TlsLevel.MAY), tls_optional=True), optional)


def test_a_message_that_requires_tls_is_counted_like_any_other() -> None:
    required = evolve(TWO, requiretls=True)
    for level in (TlsLevel.DANE, TlsLevel.SECURE):
        for network in every_run(all_options):
            compare(network, plan_of(host(level, requiretls=True), requiretls=True), required)


def test_a_cleartext_retry_belongs_to_the_session_before() -> None:  # one failure, not two
    def dialogue(effect: Any, session: Any) -> Any:
        if isinstance(effect, StartTls):
            return HANDSHAKE
        return {"Connect": GREETING, "Ehlo": OFFER, "Transmit": Transmitted(OK, (OK, OK), GO, OK)}[
            type(effect).__name__
        ]

    network = Network(dialogue)
    outcome = network.deliver(plan_of(host(TlsLevel.MAY)), TWO)
    assert [str(tried.result) for tried in outcome.attempts] == ["handshake-failed", "delivered"]
    ((judgement,),) = obeys(outcome)
    assert (judgement.failed, reasons(judgement)) == (True, ["handshake-failed"])


@pytest.mark.parametrize("known", ["nothing known", "not updated", "unlisted"])
def test_tls_that_is_lost_and_done_without_is_no_success(known: str) -> None:  # RFC8460-4.2.1-a
    plan = plan_of(planned(known, TlsLevel.MAY, "192.0.2.1", "192.0.2.2"), sts=PLANS[known][0])
    before = Outcome(outcome=Disposition.DEFERRED, at=NOW, cleartext_retry=NAMES[:1], plan=plan_of())
    lost = 0
    for network in every_run(fewer_options):
        found = compare(network, plan, before=before)
        lost += any("lost-in-tls" in reasons(judgement) for session in found for judgement in session)
    assert lost


def test_without_trust_anchors_nothing_is_said_of_a_certificate() -> None:
    data = {
        "now": AT.isoformat(),
        "zones": {"client.test": {"records": ["@ MX 1 mx", "mx A 192.0.2.1", '_mta-sts TXT "v=STSv1; id=1;"']}},
        "servers": {"192.0.2.1": {"25": {}}},
    }
    for pattern, starttls, want in (
        ("mx.client.test", "ok", []),
        ("mx.client.test", "absent", ["starttls-absent"]),
        ("other.test", "ok", ["sts-mx-mismatch"]),
    ):
        body = policy("testing", pattern).text
        data["https"] = {"mta-sts.client.test": {"content_type": "text/plain", "body": body}}
        data["servers"] = {"192.0.2.1": {"25": {"starttls": starttls}}}
        engine = World.from_json(data).engine()
        plan = engine.plan("client.test")
        connector = engine.connector
        assert connector is not None
        perform = {
            Connect: connector.connect,
            Ehlo: connector.ehlo,
            StartTls: connector.start_tls,
            Transmit: connector.transmit,
            Close: connector.close,
        }
        program = deliver(plan.next_hop, TWO, plan=plan, config=Config(), trust=None)
        outcome = drive(program, at(lambda effect, by=perform: by[type(effect)](effect)))  # type: ignore[misc]
        assert outcome.outcome == "delivered"
        found = survives(outcome)
        assert [reasons(judgement) for session in found for judgement in session] == [want] * bool(want)
        assert all(judgement.policy.type is PolicyType.STS for session in found for judgement in session)


class Loopback:
    """A network whose sessions have a source, a name and an error to tell."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)

    def __call__(self, effect: Any) -> Any:
        return self.results.pop(0)


def test_cleartext_for_want_of_starttls_is_a_session_of_its_own() -> None:
    """As where an address is listed twice, and announces STARTTLS only once."""
    good = attempt("tempfailed", verdict=verdict({}))
    bare = attempt("delivered", cleartext=True, tlsrpt=ResultType.STARTTLS_NOT_SUPPORTED)
    (first,), (second,) = survives(outcome_of(good, bare, plan=plan_of(host(TlsLevel.MAY))))
    assert (first.failed, reasons(first)) == (False, [])
    assert (second.failed, reasons(second)) == (True, ["starttls-absent"])


def test_the_facts_of_a_session_come_from_the_connector() -> None:
    broken = SessionFailure(Trouble.HANDSHAKE, "alert", "NO_SHARED_CIPHER")
    connected = Connected(object(), Reply(220, ("greeting.test ESMTP",)), "2001:db8::5")
    effects = Loopback(connected, Reply(250, ("said.test hello", "STARTTLS")), broken, None)
    plan = plan_of(host(TlsLevel.ENCRYPT))
    outcome = drive(deliver(plan.next_hop, TWO, plan=plan, config=Config(), trust=TRUST), at(effects))
    ((judgement,),) = survives(outcome)
    ours, unusable = sorted(judgement.failures, key=lambda details: str(details.failure_reason_code))
    assert unusable.failure_reason_code == "no-usable-records"
    assert ours.to_json() == {
        "result-type": "validation-failure",
        "sending-mta-ip": "2001:db8::5",
        "receiving-mx-hostname": NAMES[0],
        "receiving-mx-helo": "said.test",
        "receiving-ip": "192.0.2.1",
        "failure-reason-code": "handshake-failed: NO_SHARED_CIPHER",
    }


@pytest.mark.parametrize(
    ("greeting", "ehlo", "helo"),
    [
        ("220 mx.a.test ESMTP", "250 Hello", "mx.a.test"),
        ("220 mx.a.test ESMTP", "250 mx.b.test at your service", "mx.b.test"),
        ("220 ESMTP", "250 [192.0.2.7] hello", "[192.0.2.7]"),
        ("220 ESMTP", "250 [IPv6:2001:db8::7]", "[IPv6:2001:db8::7]"),
        ("220 ESMTP", "250 " + "a." * 200, None),
        ("220 a\x1b[31m.test", "250 \x07.test", None),
        ("220", "250", None),
    ],
)
def test_the_name_that_a_server_gives_itself(greeting: str, ehlo: str, helo: str | None) -> None:
    server = {"greeting": greeting, "starttls": "absent", "replies": {"EHLO": ehlo}}
    world = World.from_json(
        {
            "now": AT.isoformat(),
            "zones": {"client.test": {"records": ["@ MX 1 mx", "mx A 192.0.2.1"]}},
            "servers": {"192.0.2.1": {"25": server}},
        }
    )
    ((judgement,),) = survives(world.engine().simulate("client.test"))
    assert [details.receiving_mx_helo for details in judgement.failures] == [helo]


# --- anything at all

failures = st.none() | st.sampled_from(Failure)
duties = st.dictionaries(st.sampled_from(Duty), failures)
attempts = st.builds(
    Attempt,
    host=st.just(NAMES[0]),
    address=st.just("192.0.2.1"),
    result=st.sampled_from(sorted(set(Result) - {Result.SKIPPED})),
    cleartext=st.booleans(),
    tlsrpt=st.none() | st.sampled_from(ResultType),
    verdict=st.none() | st.builds(verdict, duties, st.none() | duties),
    source=st.none() | st.text(max_size=5),
    helo=st.none() | st.text(max_size=5),
    tls_error=st.none() | st.text(max_size=100),
)
discoveries = st.builds(
    Discovery,
    domain=st.just("client.test"),
    policy=st.none() | st.sampled_from([policy(), policy("testing"), policy("none")]),
    failure=st.none() | st.sampled_from(StsFailure),
    tlsrpt=st.none() | st.sampled_from(sorted(NEWS)),
    rejected=st.none() | st.text(max_size=30),
)


@given(
    st.sampled_from([each for level in LEVELS for each in hosts_of(level)]),
    st.none() | discoveries,
    st.lists(attempts, max_size=4),
    st.none() | st.booleans(),
)
def test_nothing_that_an_outcome_can_hold_is_an_error(
    usable: HostPlan, known: Discovery | None, tried: list[Attempt], match: Any
) -> None:
    plan = plan_of(evolve(usable, sts_match=match), sts=known)
    for session in sessions(outcome_of(*tried, plan=plan)):
        assert len({judgement.policy for judgement in session}) == len(session) > 0
        for judgement in session:
            assert judgement.failures or not judgement.failed
            assert all(details.failure_reason_code for details in judgement.failures)
