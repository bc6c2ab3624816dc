"""The walk of a message over the hosts of its plan: RFC 5321 sections 4.5.4.1 and 5.1, RFC 7672 section 2.2.

- Hosts in the order of the plan, addresses in the order of the host, until nobody is left to try.
- What happens at one address, and where it leads, says `transitions`.
- A defect of ours costs the attempt in which it shows, and nothing that is known already.
- A policy that can not be fulfilled delays the mail, and is never a reason to return it (RFC 7672 section 2.2, RFC 8461
  section 5), unless the message itself requires TLS and no host satisfies that (RFC 8689 section 4.2.1).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from mailtlspolicy._times import later
from mailtlspolicy.config import CleartextRetry, Misconfigured
from mailtlspolicy.delivery.conversation import LOCAL_ERROR, Conversation
from mailtlspolicy.delivery.outcome import Attempt, Disposition, Outcome, RecipientOutcome, Retry, Security
from mailtlspolicy.delivery.transitions import IN_CLEAR, TRANSITIONS, Event, Permission, Result, State
from mailtlspolicy.effects import BrokenContract, Now, ask, within
from mailtlspolicy.levels import Duty, TlsLevel
from mailtlspolicy.plan.hosts import SkipReason
from mailtlspolicy.plan.mx import Kind, Undeliverable
from mailtlspolicy.plan.search import plan as make_plan
from mailtlspolicy.plan.values import HostPlan, SkippedHost
from mailtlspolicy.verdict import ResultType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailtlspolicy.config import Config
    from mailtlspolicy.delivery.conversation import Ended
    from mailtlspolicy.delivery.message import Message
    from mailtlspolicy.effects import Moment, Program
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.plan.mx import NextHop
    from mailtlspolicy.plan.values import Plan
    from mailtlspolicy.verdict import Verdict

# RFC 3463 section 3.8, and RFC 8689 section 4.2.1 for the last; a result that is not listed has its status from a reply
_STATUS = {
    Result.STARTTLS_ABSENT: "4.7.4",
    Result.STARTTLS_REFUSED: "4.7.4",
    Result.HANDSHAKE_FAILED: "4.7.5",
    Result.NOT_AUTHENTICATED: "4.7.5",
    Result.REQUIRETLS_ABSENT: "4.7.30",
}
_WITHOUT_REQUIRETLS, _WITHOUT_TLS = "5.7.30", "5.7.10"

# What an event may lead to where TLS has failed, and nothing else
_TLS_FAILED = {Permission.WITHOUT_SNI, Permission.RETRY, Permission.RETRY_AGAIN}

_UNREACHABLE = Undeliverable("transient", "no-hosts", "4.4.4")  # a plan made by hand, without an address
_OVERDUE = Undeliverable("transient", "no-hosts", "4.4.7")  # RFC 3463 section 3.5: delivery time expired
_NOTIFICATION_WAITS = Undeliverable("transient", "requiretls-unmet", "4.7.5")  # RFC 8689 section 5

# What RFC 8689 section 4.2.1 steps 2 to 5 can fail for
_REQUIRETLS_FAILURES = {
    Result.STARTTLS_ABSENT,
    Result.STARTTLS_REFUSED,
    Result.HANDSHAKE_FAILED,
    Result.NOT_AUTHENTICATED,
    Result.REQUIRETLS_ABSENT,
}

# RFC 8460 section 4.3.1
_RESULT_TYPES: dict[Result, ResultType | None] = {
    Result.STARTTLS_ABSENT: ResultType.STARTTLS_NOT_SUPPORTED,
    Result.STARTTLS_REFUSED: ResultType.STARTTLS_NOT_SUPPORTED,
    Result.HANDSHAKE_FAILED: ResultType.VALIDATION_FAILURE,
    Result.LOCAL_ERROR: None,
}


def deliver(
    next_hop: NextHop,
    message: Message,
    *,
    config: Config,
    trust: TrustStore | None,
    plan: Plan | None = None,
    before: Outcome | None = None,
    ehlo_name: str | None = None,
) -> Program[Outcome]:
    """Plan, and try to deliver a message by the plan (the program behind `Engine.deliver`).

    Args:
        next_hop: where the mail is to go.
        message: the message.
        config: what the operator chose.
        trust: the PKIX trust anchors.
        plan: a plan for the wishes of this message, made before; one that is no longer valid is made anew.
        before: the outcome of the try before, of this message or of another to this domain.
        ehlo_name: the name by which this system greets servers, where that is known; see `own_names`.

    Raises:
        Misconfigured: the plan demands PKIX, and there are no trust anchors.
        ValueError: the plan is for a message of other wishes.
    """
    if plan is not None and (
        (plan.requiretls, plan.tls_report) != (message.requiretls, message.tls_report)
        or (plan.tls_optional and not message.tls_optional)
    ):
        raise ValueError("the plan was made for a message of other wishes (requiretls, tls_optional, tls_report)")
    program = _deliver(next_hop, message, config, trust, plan, before, ehlo_name)
    return (yield from within(config.max_delivery_seconds, program))


def _deliver(
    next_hop: NextHop,
    message: Message,
    config: Config,
    trust: TrustStore | None,
    plan: Plan | None,
    before: Outcome | None,
    ehlo_name: str | None,
) -> Program[Outcome]:
    began = yield from ask(Now())
    if plan is None or (plan.valid_until is not None and plan.valid_until < began.wall):
        made = yield from make_plan(
            next_hop, config=config, requiretls=message.requiretls, tls_optional=message.tls_optional
        )
        plan = evolve(made, tls_report=message.tls_report)
    if trust is None and any(Duty.PKIX in host.requires for host in plan.usable_hosts):
        raise Misconfigured("the plan wants certificates that PKIX trusts, and there are no trust anchors")
    return (yield from _Walk(plan, message, began, config, trust, before, ehlo_name).run())


@define
class _Walk:
    plan: Plan
    message: Message
    began: Moment
    config: Config
    trust: TrustStore | None
    before: Outcome | None
    ehlo_name: str | None
    attempts: list[Attempt] = field(factory=list)
    settled: dict[str, RecipientOutcome] = field(factory=dict)
    waiting: dict[str, RecipientOutcome] = field(factory=dict)
    left: tuple[str, ...] = ()
    connections: int = 0
    cut_short: bool = False  # not every address was tried
    is_overdue: bool = False  # because the time was up
    now: Moment = field(init=False)  # the last look at the clock
    asked_to_wait: bool = False
    committed: bool = False
    cleartext_retry: dict[str, bool] = field(factory=dict)  # hosts where TLS failed; whether cleartext was tried

    def __attrs_post_init__(self) -> None:
        self.now = self.began

    def run(self) -> Program[Outcome]:
        self.left = self.message.recipients
        state = State.NEXT
        try:
            for host in self.plan.hosts:
                if isinstance(host, HostPlan):
                    state = yield from self._try_host(host)
                else:
                    self.attempts.append(_skipped(host))
                if state is State.END:
                    break
        except BrokenContract as error:
            for recipient in self.left:
                self.waiting.setdefault(recipient, RecipientOutcome(recipient, Disposition.DEFERRED, None, LOCAL_ERROR))
            error.outcome = self._outcome()
            raise
        is_time_up = yield from self._is_time_up()
        self.is_overdue = self.is_overdue or (is_time_up and not self.connections)
        return self._outcome()

    def _try_host(self, host: HostPlan) -> Program[State]:
        """Try the addresses of a host; again without SNI, and one of them in cleartext, where that is due."""
        retried = False
        for address in host.addresses:
            state = State.CONNECT_IN_CLEAR if host.level is TlsLevel.NONE else State.CONNECT
            again = False
            while state not in {State.NEXT, State.END}:
                self.is_overdue = yield from self._is_time_up()
                if self.is_overdue or self.connections >= self.config.max_attempts:
                    self.cut_short = True
                    return State.END
                after_tls = state is State.CONNECT_IN_CLEAR and host.level is not TlsLevel.NONE
                retried = retried or after_tls
                talk = Conversation(
                    host=host,
                    address=address,
                    trust=self.trust,
                    message=self.message,
                    left=self.left,
                    after_tls=after_tls,
                    own_names=own_names(self.plan, host, self.ehlo_name),
                    without_sni=again,
                )
                named = self.before is not None and host.host in self.before.cleartext_retry
                allowed = permissions(
                    host, self.config.cleartext_retry, named=named, retried=retried, report=self.message.tls_report
                )
                state = yield from self._attempt(talk, state, allowed)
                again = True
            if state is State.END:
                return state
        return State.NEXT

    def _is_time_up(self) -> Program[bool]:
        self.now = yield from ask(Now())
        return self.now.elapsed - self.began.elapsed >= self.config.max_delivery_seconds

    def _attempt(self, talk: Conversation, state: State, allowed: set[Permission]) -> Program[State]:
        """Hold one conversation; return the state in which the walk goes on."""
        host = talk.host
        self.connections += 1
        if self.connections >= self.config.max_attempts:
            allowed.discard(Permission.WITHOUT_SNI)  # so that this attempt is the one that counts
        ended = yield from talk.hold(state, allowed)
        assert ended.result is not None
        failed_for = TRANSITIONS[ended.state, ended.event].permission
        if talk.after_tls:
            self.cleartext_retry[host.host] = True
        elif host.cleartext and failed_for in _TLS_FAILED and ended.to is not State.CONNECT:
            self.cleartext_retry.setdefault(host.host, False)
        self._note(talk, ended, ended.result)
        return ended.to

    def _note(self, talk: Conversation, ended: Ended, result: Result) -> None:
        """Write down what became of an attempt."""
        host, cleartext, delivered = talk.host, ended.state in IN_CLEAR, result is Result.DELIVERED
        # where TLS is not required, a connection lost on STARTTLS is no more than that
        is_lost = host.cleartext and ended.event is Event.LOST
        status = None if delivered else talk.status if is_lost else _STATUS.get(result, talk.status)
        # the attempt without SNI counts in its place (RFC 7435 section 3)
        is_replaced = ended.to is State.CONNECT
        self.attempts.append(
            Attempt(
                host=host.host,
                address=talk.address,
                result=result,
                cleartext=cleartext,
                security=security(self.plan, host, talk.verdict) if delivered else None,
                status=status,
                tlsrpt=None if is_replaced else _result_type(talk, result, cleartext=cleartext),
                verdict=talk.verdict,
                source=talk.source,
                helo=talk.helo,
                tls_error=talk.tls_error,
                requiretls=talk.requiretls,
                detail=talk.detail,
                transcript=tuple(talk.transcript),
            )
        )
        self.left = talk.left
        self.settled.update((entry.recipient, entry) for entry in talk.settled)
        for recipient in self.left:
            general = RecipientOutcome(recipient, Disposition.DEFERRED, None, status)
            self.waiting[recipient] = talk.waiting.get(recipient, general)
        self.asked_to_wait = self.asked_to_wait or talk.asked_to_wait
        self.committed = self.committed or talk.committed

    def _outcome(self) -> Outcome:
        rest = self._rest()
        entries = tuple(self.settled.get(recipient) or rest(recipient) for recipient in self.message.recipients)
        found = {entry.outcome for entry in entries}
        outcome = next(
            word for word in (Disposition.DEFERRED, Disposition.BOUNCED, Disposition.DELIVERED) if word in found
        )
        settling = [entry for entry in entries if entry.outcome is outcome]
        securities = [attempt.security for attempt in self.attempts if attempt.security is not None]
        delivered, deferred = outcome is Disposition.DELIVERED, outcome is Disposition.DEFERRED
        at = later(self.now.wall, timedelta(seconds=self.config.retry_seconds))
        return Outcome(
            outcome=outcome,
            at=self.began.wall,
            host=settling[-1].host,
            security=max(securities, key=list(Security).index, default=None) if delivered else None,
            status=settling[0].status,
            attempts=tuple(self.attempts),
            recipients=entries,
            retry=Retry(at, self.asked_to_wait) if deferred else None,
            duplicate_possible=self.committed,
            cleartext_retry=tuple(host for host, tried in self.cleartext_retry.items() if not tried)
            if deferred and self.config.cleartext_retry is not CleartextRetry.NEVER
            else (),
            plan=self.plan,
        )

    def _rest(self) -> Callable[[str], RecipientOutcome]:
        """What becomes of those whom no server has accepted or refused."""
        made = [attempt for attempt in self.attempts if attempt.result is not Result.SKIPPED]
        if self.message.sender and self.message.requiretls and self._fails_requiretls(made):
            # RFC 8689 section 4.2.1: no host satisfies the message, and it is returned; a notification waits instead
            lacking = any(attempt.result is Result.REQUIRETLS_ABSENT for attempt in made)
            status = _WITHOUT_REQUIRETLS if lacking else _WITHOUT_TLS
            return lambda recipient: RecipientOutcome(recipient, Disposition.BOUNCED, None, status)
        if made:
            return self.waiting.__getitem__
        bad = self.plan.undeliverable or _UNREACHABLE
        if self.is_overdue and bad.kind == "transient":  # what is known for good stays so
            bad = _OVERDUE
        if bad.reason == "requiretls-unmet" and not self.message.sender:
            bad = _NOTIFICATION_WAITS
        outcome = Disposition.BOUNCED if bad.kind == "permanent" else Disposition.DEFERRED
        return lambda recipient: RecipientOutcome(recipient, outcome, None, bad.status)

    def _fails_requiretls(self, made: Sequence[Attempt]) -> bool:
        """Whether every host failed for a reason that REQUIRETLS makes final."""
        sts = self.plan.sts
        if sts is not None and sts.is_enforced and sts.may_be_outdated:  # not before an update (RFC 8461 section 5)
            return False
        skips = [host.skip.reason for host in self.plan.hosts if isinstance(host, SkippedHost)]
        return (
            bool(made)
            and not self.cut_short
            and all(attempt.result in _REQUIRETLS_FAILURES for attempt in made)
            and all(reason is SkipReason.REQUIRETLS_UNMET for reason in skips)
        )


def permissions(
    host: HostPlan, choice: CleartextRetry, *, named: bool, retried: bool = False, report: bool = False
) -> set[Permission]:
    """What may lead to less at a host: nothing, unless its level allows cleartext (RFC 7672 section 2.2).

    Where cleartext is allowed TLS without SNI comes before it, whatever the operator chose (RFC 7435 section 3).

    Args:
        host: the host.
        choice: the operator's.
        named: the try before names it (`Outcome.cleartext_retry`).
        retried: cleartext was tried at it already.
        report: the message is a report of RFC 8460, which no failure of TLS stops (section 3 there).
    """
    if not host.cleartext:
        return set()
    if report and not retried:
        return set(Permission)
    always = {Permission.WITHOUT_SNI, Permission.CLEARTEXT}
    if retried or choice is CleartextRetry.NEVER:
        return always
    if named:
        return always | {Permission.RETRY, Permission.RETRY_AGAIN}
    return always | {Permission.RETRY} if choice is CleartextRetry.NOW else always


def own_names(plan: Plan, host: HostPlan, ehlo_name: str | None) -> frozenset[str]:
    """The names of this system, none of which the server of a host may bear (RFC 5321 section 5.1).

    None where the operator has chosen the server: what he hands to a relay on this system comes back to nobody.
    """
    if plan.next_hop.kind not in {Kind.DOMAIN, Kind.STATIC}:
        return frozenset()
    return frozenset(host.config.own_names) | ({ehlo_name.lower()} if ehlo_name else set())


def security(plan: Plan, host: HostPlan, verdict: Verdict | None) -> Security:
    """How secure a session with a host of a plan is; without a verdict there is no TLS."""
    if verdict is None:
        return Security.CLEARTEXT
    if not verdict.authenticated:
        return Security.UNTRUSTED
    # RFC 7672 section 2.2.1: behind an insecure choice of host, delivery is never reported as secure
    return Security.VERIFIED if plan.vouches_for(host) else Security.TRUSTED


def _skipped(host: SkippedHost) -> Attempt:
    reason = host.skip
    return Attempt(host=host.host, address=None, result=Result.SKIPPED, tlsrpt=reason.tlsrpt, detail=str(reason.reason))


def _result_type(talk: Conversation, result: Result, *, cleartext: bool) -> ResultType | None:
    """What RFC 8460 wants reported of an attempt: facts about TLS, whether or not they stopped the mail."""
    if result in _RESULT_TYPES:
        return _RESULT_TYPES[result]
    host, verdict = talk.host, talk.verdict
    if verdict is None:
        announced_none = cleartext and not talk.after_tls and host.level is not TlsLevel.NONE
        return ResultType.STARTTLS_NOT_SUPPORTED if announced_none else None
    observed = None if verdict.observed is None else verdict.observed.tlsrpt
    if verdict.tlsrpt is not None or observed is not None:
        return verdict.tlsrpt or observed
    if host.sts_match is False:  # section 4.3.2.2 has no type of its own for it
        return ResultType.VALIDATION_FAILURE
    if host.binding is not None and not host.binding.records.usable(host.config):
        return ResultType.TLSA_INVALID
    return None if host.audit is None or host.audit.skip is None else host.audit.skip.tlsrpt
