"""What an outcome adds to reports: which policies were applied to its sessions, and what each made of them.

RFC 8460 sections 1.1, 4.2 and 4.3:

- A session is a connection that came to TLS or failed to, or a host that was not used on account of a policy. What the
  network did before that is no session (section 4.3.4).
- Every policy that applied to a session counts it once, and by itself: the failure of one says nothing about another.
- A policy that was not evaluated counts the session neither as a success nor as a failure.
- "no-policy-found" stands for sessions to which there was no policy at all (section 4).
- A message that bears TLS-Required: No, as reports do, asks for no policy, and is not counted (section 3).
- A policy that can not be fetched or is invalid counts for every outcome of the plan that learned so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from mailtlspolicy.delivery.transitions import Result
from mailtlspolicy.levels import Duty
from mailtlspolicy.plan.hosts import SkipReason
from mailtlspolicy.plan.mx import Kind
from mailtlspolicy.plan.values import SkippedHost
from mailtlspolicy.sts.discovery import RESULT_TYPES
from mailtlspolicy.tlsrpt.values import FailureDetails, PolicyType, ReportedPolicy
from mailtlspolicy.verdict import Failure, ResultType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailtlspolicy.delivery.outcome import Attempt, Outcome
    from mailtlspolicy.plan.mx import NextHop
    from mailtlspolicy.plan.values import HostPlan, Plan
    from mailtlspolicy.sts.values import Discovery

MAX_TLS_ERROR = 80  # characters of a TLS library's name for an error; the longest of OpenSSL's have some fifty

# Why a host is not used on account of DANE
_DANE_SKIPS = {SkipReason.ALIAS_LOOKUP_FAILED, SkipReason.TLSA_LOOKUP_FAILED, SkipReason.DANE_REQUIRED}


def _in_order(failures: Iterable[FailureDetails]) -> tuple[FailureDetails, ...]:
    return tuple(sorted(failures, key=lambda details: details.order))


@frozen
class Judgement:
    """What one policy makes of one session.

    Attributes:
        policy: the policy.
        failed: whether the session is a failure of it, or a success.
        failures: what there is to count as failed. A session may be a success and still have met a failure, such as an
            update of the policy that could not be fetched (section 4: types are not exclusive).
    """

    policy: ReportedPolicy
    failed: bool
    failures: tuple[FailureDetails, ...] = field(default=(), converter=_in_order)


Session = tuple[Judgement, ...]
"""A session: what each policy that applied made of it, each policy once."""


def policy_domain(next_hop: NextHop) -> str | None:
    """The policy domain that is reported to (section 1.1): the recipient domain, or that of the smart host.

    None for an address literal, which publishes nothing.
    """
    return None if next_hop.kind is Kind.LITERAL else next_hop.name


def sessions(outcome: Outcome) -> tuple[Session, ...]:
    """The sessions that an outcome adds to the report of its policy domain.

    Raises:
        ValueError: an attempt is of a host that the plan does not have, as one made by hand may be.
    """
    if outcome.plan.tls_optional or policy_domain(outcome.plan.next_hop) is None:
        return ()
    return tuple(session for session in _sessions(outcome.plan, outcome.attempts) if session)


def _sessions(plan: Plan, attempts: Sequence[Attempt]) -> Iterator[Session]:
    hosts = {host.host: host for host in reversed(plan.hosts)}
    news = None if plan.sts is None else _news(plan.sts)  # to be counted once
    for attempt in map(_as_reported, attempts, (*attempts[1:], None)):
        if attempt.verdict is None and attempt.tlsrpt is None:
            continue  # it never came to TLS, or was counted when it did
        host = hosts.get(attempt.host)
        if host is None:
            raise ValueError(f"the plan has no host {attempt.host!r}")
        if isinstance(host, SkippedHost):
            session = _of_skipped(host, plan.sts)
        else:
            session = (*_by_tlsa(host, attempt), *_by_sts(host, attempt, plan.sts))
            if not session and _has_no_policy(host, plan.sts):
                session = (_without_policy(attempt, plan),)
        if news is not None and any(judgement.policy.type is PolicyType.STS for judgement in session):
            session, news = _with_news(session, news), None
        yield session
    if news is not None and plan.sts is not None:
        yield (Judgement(_sts_policy(plan.sts), True, (news,)),)


def _has_no_policy(host: HostPlan, sts: Discovery | None) -> bool:
    """Whether it is known that there is neither: what this system could not ask for may be there."""
    is_known = (host.audit is None or host.audit.skip is None) and not (sts is not None and sts.is_own)
    return is_known and host.binding is None and (sts is None or sts.applied is None)


def _with_news(session: Session, news: FailureDetails) -> Session:
    """A session with what failed in looking for the policy among the details of that policy, once."""
    return tuple(
        evolve(judgement, failures={news, *judgement.failures})
        if judgement.policy.type is PolicyType.STS
        else judgement
        for judgement in session
    )


def _as_reported(attempt: Attempt, following: Attempt | None) -> Attempt:
    """An attempt as it counts: without TLS where that was lost, and cleartext to the same address took its place.

    The attempt in cleartext is itself not counted, here as after a failed handshake.
    """
    is_replaced = (
        following is not None
        and following.cleartext
        and following.tlsrpt is None
        and (following.host, following.address) == (attempt.host, attempt.address)
    )
    if attempt.verdict is None or not is_replaced:
        return attempt
    return evolve(attempt, verdict=None, tlsrpt=ResultType.VALIDATION_FAILURE)


def _by_tlsa(host: HostPlan, attempt: Attempt) -> Session:
    """What TLSA records make of a session, where they are evaluated."""
    if host.audit is not None and host.audit.skip is not None:
        if host.audit.skip.tlsrpt is None:
            return ()
        failures = [_details(host.audit.skip.tlsrpt, host.audit.skip.reason, attempt)]
        return (Judgement(_tlsa_policy(host), True, (*failures, *_no_tls(attempt))),)
    if host.binding is None:
        return ()
    unusable = not host.binding.records.usable(host.config)
    if attempt.verdict is not None and not unusable and Duty.DANE not in _duties(attempt):
        return ()  # the operator does not authenticate by them
    failed = Failure.NO_USABLE_RECORDS if unusable else _duties(attempt).get(Duty.DANE)
    failures = [] if failed is None else [_details(failed.tlsrpt, failed, attempt)]
    failures += _no_tls(attempt)
    return (Judgement(_tlsa_policy(host), bool(failures), tuple(failures)),)


def _by_sts(host: HostPlan, attempt: Attempt, sts: Discovery | None) -> Session:
    """What a policy makes of a session, or that what is announced could not be applied."""
    if sts is None:
        return ()
    if sts.applied is None:
        unknown = _unknown(sts)
        return () if unknown is None else (Judgement(_sts_policy(sts), True, (unknown, *_no_tls(attempt))),)
    failures = [*_no_tls(attempt)]
    if host.sts_match is False:
        # RFC 8460 has no type of its own for a host that the policy does not list
        failures.append(_details(ResultType.VALIDATION_FAILURE, SkipReason.STS_MX_MISMATCH, attempt))
    failed = _duties(attempt).get(Duty.PKIX)
    if failed is not None:
        failures.append(_details(failed.tlsrpt, failed, attempt))
    if not failures and Duty.PKIX not in _duties(attempt):
        return ()  # there are no trust anchors to evaluate a certificate by
    return (Judgement(_sts_policy(sts), bool(failures), failures),)


def _without_policy(attempt: Attempt, plan: Plan) -> Judgement:
    """A session to which there is no policy: it has TLS or not, and whatever else the message itself demands."""
    policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, policy_domain(plan.next_hop))
    failures = [*_no_tls(attempt)]
    if attempt.verdict is not None and attempt.verdict.failure is not None:
        failures.append(_details(attempt.verdict.failure.tlsrpt, attempt.verdict.failure, attempt))
    return Judgement(policy, bool(failures), tuple(failures))


def _of_skipped(host: SkippedHost, sts: Discovery | None) -> Session:
    """A host that a policy rules out: the policy that does."""
    reason, result_type = host.skip.reason, host.skip.tlsrpt
    details = FailureDetails(result_type=result_type, receiving_mx_hostname=host.host, failure_reason_code=reason)
    if reason in _DANE_SKIPS:
        return (Judgement(_tlsa_policy(host), True, (details,)),)
    if reason is not SkipReason.STS_MX_MISMATCH or sts is None:
        return ()
    return (Judgement(_sts_policy(sts), True, (details,)),)


def _tlsa_policy(host: HostPlan | SkippedHost) -> ReportedPolicy:
    """The TLSA records of a host (section 4.5), in one order however the DNS turns them."""
    if host.binding is None:  # not known, or not there where they have to be
        return ReportedPolicy(PolicyType.TLSA, host.host, (), (host.host,))
    records = sorted(host.binding.records.to_json())
    return ReportedPolicy(PolicyType.TLSA, host.binding.base_domain, records, (host.host,))


def _sts_policy(sts: Discovery) -> ReportedPolicy:
    """The policy that is applied, as published, else as much as was obtained of the one announced (section 4.5)."""
    text = sts.rejected or "" if sts.applied is None else sts.applied.text
    lines = text.removesuffix("\n").split("\n") if text else ()
    patterns = () if sts.applied is None else sts.applied.mx
    return ReportedPolicy(PolicyType.STS, sts.domain, [line.removesuffix("\r") for line in lines], patterns)


def _news(sts: Discovery) -> FailureDetails | None:
    """What has just failed in looking for the policy (RFC 8461 section 6)."""
    return None if sts.tlsrpt is None else _sts_failure(sts, sts.tlsrpt)


def _unknown(sts: Discovery) -> FailureDetails | None:
    """Why a policy that is announced can not be applied, now or since a few minutes (RFC 8461 section 3.3)."""
    result_type = None if sts.failure is None or sts.is_own else RESULT_TYPES.get(sts.failure)
    return None if result_type is None else _sts_failure(sts, result_type)


def _sts_failure(sts: Discovery, result_type: ResultType) -> FailureDetails:
    reason = str(sts.failure) if sts.refusal is None else f"{sts.failure}: {sts.refusal}"
    return FailureDetails(result_type=result_type, failure_reason_code=reason)


def _duties(attempt: Attempt) -> dict[Duty, Failure | None]:
    """What each mechanism made of the session, enforced or only observed; by policies where the message wants more."""
    if attempt.verdict is None:
        return {}
    observed = () if attempt.verdict.observed is None else attempt.verdict.observed.duties
    return dict((*attempt.verdict.duties, *observed))


def _no_tls(attempt: Attempt) -> tuple[FailureDetails, ...]:
    """That TLS did not come about, and why (section 4.3.1)."""
    if attempt.verdict is not None or attempt.tlsrpt is None:
        return ()
    if attempt.tlsrpt is ResultType.VALIDATION_FAILURE:
        reason = "handshake-failed" if attempt.result is Result.HANDSHAKE_FAILED else "lost-in-tls"
    else:
        reason = "starttls-refused" if attempt.result is Result.STARTTLS_REFUSED else "starttls-absent"
    if attempt.tls_error is not None:
        reason = f"{reason}: {attempt.tls_error[:MAX_TLS_ERROR]}"
    return (_details(attempt.tlsrpt, reason, attempt),)


def _details(result_type: ResultType, reason: str, attempt: Attempt) -> FailureDetails:
    return FailureDetails(
        result_type=result_type,
        sending_mta_ip=attempt.source,
        receiving_mx_hostname=attempt.host,
        receiving_mx_helo=attempt.helo,
        receiving_ip=attempt.address,
        failure_reason_code=str(reason),
    )
