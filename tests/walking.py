"""Deliveries for tests: plans by hand, a network that does what it is told, and a second mind on what should follow.

`Network` performs the effects of a delivery and watches how it is used. `reference` says what the specification makes
of the sessions that took place. It is written from the clauses and shares no code with the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field, frozen

from mailtlspolicy import HostPlan, Message, NextHop, Plan, SkippedHost, TlsaRRset, TlsLevel, drive
from mailtlspolicy.config import Config
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
from mailtlspolicy.effects import Moment, Now
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.plan.hosts import SkipReason, TlsaBinding
from mailtlspolicy.plan.values import Skip
from mailtlspolicy.tlsa import Tlsa
from tests.authority import NOW, ca, record, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mailtlspolicy import Outcome

# --- plans

ROOT = ca("root")
NAMES = ("mx1.test", "mx2.test", "mx3.test")
_SERVER = server(ROOT, *NAMES)
RIGHT = Secured((_SERVER.der,))
WRONG = Secured((server(None, "other.test").der,))  # neither bound nor trusted
TRUST = TrustStore([ROOT.der])
_RECORDS = {
    TlsLevel.DANE: TlsaRRset([record(3, 1, 1, _SERVER)]),
    TlsLevel.ENCRYPT: TlsaRRset([Tlsa.parse("1 1 1 " + "c3" * 32)]),  # of a usage that SMTP does not use
}
LEVELS = tuple(TlsLevel)
OPPORTUNISTIC = (TlsLevel.NONE, TlsLevel.MAY)
REQUIRED = (TlsLevel.ENCRYPT, TlsLevel.DANE, TlsLevel.SECURE)

MESSAGE = Message("a@sender.test", ["b@client.test"], b"Subject: x\r\n\r\nx\r\n")
TWO = Message("a@sender.test", ["b@client.test", "c@client.test"], b"Subject: x\r\n\r\nx\r\n")


def host(level: TlsLevel, *addresses: str, name: str = NAMES[0], **more: Any) -> HostPlan:
    """A host of a level; `RIGHT` fulfils its duties, `WRONG` those of `none`, `may` and `encrypt`."""
    records = _RECORDS.get(level)
    binding = None if records is None else TlsaBinding(name, name, (name,), records)
    return HostPlan(host=name, level=level, addresses=addresses or ("192.0.2.1",), binding=binding, **more)


def skipped(reason: str, name: str = NAMES[0]) -> SkippedHost:
    return SkippedHost(host=name, skip=Skip(SkipReason(reason)))


def plan_of(*hosts: HostPlan | SkippedHost, **more: Any) -> Plan:
    facts = {"mx_secure": True, **more}
    return Plan(next_hop=NextHop.parse("client.test"), hosts=hosts, **facts)


# --- the network


@define
class Session:
    """A connection, or the try to make one, and what was said."""

    effect: Connect
    number: int  # of those before it
    said: list[tuple[Any, Any]] = field(factory=list)  # effects and their results, the Connect first
    is_closed: bool = False

    @property
    def in_tls(self) -> bool:
        return any(isinstance(result, Secured) for _, result in self.said)

    @property
    def sent(self) -> list[tuple[Transmit, Transmitted]]:
        return [(effect, result) for effect, result in self.said if isinstance(effect, Transmit)]


Choice: TypeAlias = "Callable[[Any, Session], Any]"
"""The result of an effect on a session; of a Connect the greeting or a failure."""


@define
class Network:
    """Performs effects as it is told, and insists on the rules of a session."""

    choose: Choice
    sessions: list[Session] = field(factory=list)

    def __call__(self, effect: Any) -> Any:
        if isinstance(effect, Now):
            return Moment(NOW, 0.0)
        if isinstance(effect, Connect):
            assert not [session for session in self.sessions if not session.is_closed], "two sessions at once"
            session = Session(effect, len(self.sessions))
            self.sessions.append(session)
            shown = self.choose(effect, session)
            session.said.append((effect, shown))
            session.is_closed = isinstance(shown, SessionFailure)
            return shown if session.is_closed else Connected(session, shown)
        session = effect.session
        assert session is self.sessions[-1]
        assert not session.is_closed, "a session is used after its end"
        if isinstance(effect, Close):
            session.is_closed = True
            return None
        self._check(effect, session)
        result = self.choose(effect, session)
        session.said.append((effect, result))
        return result

    def _check(self, effect: Any, session: Session) -> None:
        last, told = session.said[-1]
        assert not isinstance(told, SessionFailure), "a broken session is good for its end alone"
        if isinstance(effect, Ehlo) and effect.helo:  # to a server that does not take EHLO (RFC5321-3.2-a)
            assert last == Ehlo(session)
            assert told.code in ({500, 502} if session.in_tls else {500, 501, 502, 504, 550})
        elif isinstance(effect, Ehlo):  # once at the beginning, once in TLS (RFC3207-6-i)
            assert isinstance(last, Connect) or isinstance(told, Secured)
        elif isinstance(effect, StartTls):
            assert last == Ehlo(session)
            assert not session.in_tls
            assert "STARTTLS" in told.keywords
        else:
            assert isinstance(effect, Transmit)
            assert isinstance(last, Ehlo)
            assert told.success
            assert effect.recipients

    def deliver(
        self, plan: Plan, message: Message = MESSAGE, before: Outcome | None = None, **settings: Any
    ) -> Outcome:
        """Deliver over this network; every session is ended, once."""
        config = Config(**settings)
        program = deliver(
            plan.next_hop, message, plan=plan, config=config, trust=TRUST, before=before, ehlo_name="mx.sender.test"
        )
        outcome = drive(program, self)
        assert all(session.is_closed for session in self.sessions)
        assert not isinstance(self.choose, Told) or not self.choose.left, "the walk ended before that was asked"
        return outcome


@define
class Told:
    """Results in the order in which they are asked for; all of them have to be."""

    left: list[Any]

    def __call__(self, *_: object) -> Any:
        return self.left.pop(0)


def told(*results: Any) -> Network:
    """A network in which the steps go like this, one after the other."""
    return Network(Told(list(results)))


@define
class Script:
    """Chooses by number among the options that there are, and counts them; beyond its numbers it takes the first."""

    options: Callable[[Any, Session], Sequence[Any]]
    numbers: Sequence[int] = ()
    taken: list[tuple[int, int]] = field(factory=list)

    def __call__(self, effect: Any, session: Session) -> Any:
        options = self.options(effect, session)
        place = len(self.taken)
        number = self.numbers[place] if place < len(self.numbers) else 0
        self.taken.append((number, len(options)))
        return options[number]


def every_run(options: Callable[[Any, Session], Sequence[Any]]) -> Iterator[Network]:
    """A network for every sequence of results, each to be used for one delivery."""
    numbers: list[int] | None = []
    while numbers is not None:
        script = Script(options, numbers)
        yield Network(script)
        taken = script.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        numbers = [number for number, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


# --- replies

OK, GO = Reply(250, ("2.0.0 ok",)), Reply(354, ("go ahead",))
GREETING, BUSY, CLOSED = Reply(220, ("mx ready",)), Reply(421, ("4.3.2 later",)), Reply(554, ("5.3.2 no service",))
PLAIN, OFFER = Reply(250, ("mx",)), Reply(250, ("mx", "STARTTLS"))
KEYWORD = Reply(250, ("mx", "REQUIRETLS"))
TRY_LATER, GREYLISTED = Reply(450, ("4.2.0 try later",)), Reply(451, ("busy",))
NEVER, UNKNOWN = Reply(550, ("5.1.1 unknown",)), Reply(554, ("no",))
NO_EHLO, NOT_YOU = Reply(502, ("5.5.1 what?", "STARTTLS")), Reply(550, ("5.7.1 not you", "STARTTLS"))
OURS = Reply(250, ("MX.Sender.Test. hello", "STARTTLS"))  # the name that this system has in these tests
NEEDS_LOGIN = Reply(530, ("5.7.1 Authentication required",))  # RFC 4954 section 6
NEEDS_TLS, TOO_MANY = Reply(530, ("5.7.0 Must issue a STARTTLS command first",)), Reply(552, ("5.5.3 too many",))
UNREACHABLE = SessionFailure(Trouble.UNREACHABLE, "refused")
LOST = SessionFailure(Trouble.LOST, "closed")
INJECTED, HANDSHAKE = SessionFailure(Trouble.INJECTED, "more octets"), SessionFailure(Trouble.HANDSHAKE, "closed")
ALERT = SessionFailure(Trouble.HANDSHAKE, "alert", "UNRECOGNIZED_NAME", alert=True)


def transactions(count: int) -> list[Transmitted]:
    """The kinds of transactions with some recipients; the first is a delivery to all."""
    all_ok = (OK,) * count
    found = [
        Transmitted(OK, all_ok, GO, OK),
        Transmitted(failure=LOST),
        *(Transmitted(reply) for reply in (GREYLISTED, UNKNOWN, NEEDS_TLS, NEEDS_LOGIN, GO)),
        *(Transmitted(OK, (reply,) * count) for reply in (TRY_LATER, NEVER, TOO_MANY)),
        Transmitted(OK, all_ok[1:], failure=LOST),
        *(Transmitted(OK, all_ok, reply) for reply in (GREYLISTED, UNKNOWN, OK)),
        Transmitted(OK, all_ok, failure=LOST),
        *(Transmitted(OK, all_ok, GO, reply) for reply in (GREYLISTED, UNKNOWN, GO)),
        Transmitted(OK, all_ok, GO, failure=LOST),
        Transmitted(OK, all_ok, GO, failure=LOST, committed=True),
        Transmitted(OK, all_ok, GO, committed=True),
        Transmitted(OK, all_ok, GO, OK, failure=LOST),
        Transmitted(OK, all_ok, GO, GREYLISTED, committed=True),  # there is a reply, so the message was not taken
    ]
    if count > 1:
        found += [  # a connector may stop asking at a refusal, and the connection end after the reply
            Transmitted(OK, all_ok[1:], GO, OK),
            Transmitted(OK, all_ok[1:], GO, UNKNOWN),
            Transmitted(OK, (*all_ok[1:], TRY_LATER), GO, OK, failure=LOST),
        ]
        for first, second in ((OK, NEVER), (NEVER, OK), (OK, TRY_LATER), (TRY_LATER, OK), (OK, TOO_MANY)):
            replies = (first, second, *all_ok[2:])
            found += [
                Transmitted(OK, replies, GO, OK),
                Transmitted(OK, replies, GO, UNKNOWN),
                Transmitted(OK, replies, GO, failure=LOST),
                Transmitted(OK, replies, GO, failure=LOST, committed=True),
            ]
        for first, second in ((TRY_LATER, NEVER), (NEVER, TRY_LATER)):
            found.append(Transmitted(OK, (first, *(second,) * (count - 1))))
    return found


def all_options(effect: Any, session: Session) -> Sequence[Any]:
    """Everything that can happen to a step; less in a third session, of which there would be too many."""
    if session.number > 1:
        return some_options(effect, session)[:2]
    if isinstance(effect, Connect):
        return GREETING, UNREACHABLE, LOST, BUSY, CLOSED, GO, OURS
    if isinstance(effect, Ehlo) and effect.helo:
        return PLAIN, OFFER, LOST, NOT_YOU, OURS
    if isinstance(effect, Ehlo) and session.in_tls:
        return KEYWORD, OFFER, LOST, BUSY, CLOSED, NO_EHLO, NOT_YOU, HANDSHAKE, ALERT, OURS
    if isinstance(effect, Ehlo):
        return OFFER, PLAIN, LOST, BUSY, CLOSED, GO, NO_EHLO, NOT_YOU, OURS
    if isinstance(effect, StartTls):
        return RIGHT, WRONG, Secured(()), BUSY, CLOSED, OK, LOST, INJECTED, HANDSHAKE, ALERT
    return transactions(len(effect.recipients))


def some_options(effect: Any, session: Session) -> Sequence[Any]:
    """One of each kind that matters to what comes next; fewer in a late session."""
    few = session.number > 2
    if isinstance(effect, Connect):
        return GREETING, UNREACHABLE
    if isinstance(effect, Ehlo):
        return (KEYWORD, PLAIN, LOST) if session.in_tls else (OFFER, PLAIN, LOST)
    if isinstance(effect, StartTls):
        return (
            (RIGHT, HANDSHAKE) if few else (RIGHT, WRONG, BUSY, HANDSHAKE, INJECTED, *[ALERT] * (session.number == 0))
        )
    count = len(effect.recipients)
    transactions = (
        Transmitted(OK, (OK,) * count, GO, OK),
        Transmitted(OK, (TRY_LATER,) * count),
        Transmitted(OK, (OK,) * (count - 1) + (NEVER,), GO if count > 1 else None, OK if count > 1 else None),
        Transmitted(OK, (OK,) * count, GO, failure=LOST),
        Transmitted(OK, (OK,) * count, GO, failure=LOST, committed=True),
    )
    return transactions[:2] if few else transactions


# --- the second mind


@frozen
class Fate:
    """What became of a recipient: the outcome, status codes of which one is right, and the reply that settled it."""

    outcome: str
    statuses: frozenset[str | None]
    host: str | None = None
    reply: Reply | None = None


@define
class Tried:
    """What became of an attempt."""

    host: str
    address: str | None
    result: str
    statuses: frozenset[str | None]
    cleartext: bool = False
    tlsrpt: str | None = None
    security: str | None = None
    requiretls: bool = False
    fates: dict[str, Fate] = field(factory=dict)
    is_committed: bool = False
    tls_failed: bool = False  # so that cleartext may follow at once
    lost_in_tls: bool = False  # so that it may the next time
    by_alert: bool = False  # and SNI was sent: so that TLS without it may follow


def own_status(reply: Reply) -> str | None:
    """The enhanced status code of a reply, if it is of the class of the reply."""
    word = reply.lines[0].partition(" ")[0]
    return word if word.count(".") == 2 and word[0] == str(reply.code)[0] else None


def waits(reply: Reply) -> str:
    """The status of mail that waits because of a reply."""
    if reply.code < 400:
        return "4.5.0"
    return (own_status(reply) or "4.0.0") if reply.code < 500 else "4.0.0"


@define
class Reference:
    """A walk by the specification along sessions that took place."""

    plan: Plan
    message: Message
    config: Config
    before: Outcome | None
    sessions: list[Session]
    tried: list[Tried] = field(factory=list)
    left: list[str] = field(factory=list)
    fates: dict[str, Fate] = field(factory=dict)
    noted: dict[str, bool] = field(factory=dict)  # hosts where TLS failed; whether cleartext was tried
    is_cut_short: bool = False

    def walk(self) -> None:
        """Follow the plan; each session has to be the one that is due, and none is left over."""
        self.left = list(self.message.recipients)
        due = list(self.sessions)
        for each in self.plan.hosts:
            if isinstance(each, SkippedHost):
                self.tried.append(Tried(each.host, None, "skipped", frozenset({None}), tlsrpt=each.skip.tlsrpt))
            elif not self._try(each, due):
                break
        assert not due, "the walk went on where it should have ended"

    def _try(self, each: HostPlan, due: list[Session]) -> bool:
        """Whether the walk goes on to the next host."""
        is_retried = False
        allowed = each.level in OPPORTUNISTIC
        named = self.before is not None and each.host in self.before.cleartext_retry
        for address in each.addresses:
            kind = "first"
            while kind:
                if self._made >= self.config.max_attempts:
                    self.is_cut_short = True
                    return False
                assert due, "the walk ended before everything was tried"
                session = due.pop(0)
                assert (session.effect.address, session.effect.port) == (address, each.port)
                sni = each.sni if kind == "first" else None
                assert {effect.sni for effect, _ in session.said if isinstance(effect, StartTls)} <= {sni}
                tried = self._judge(session, each, is_retry=kind == "in clear")
                self._count(tried)
                if tried.by_alert and allowed and self._made < self.config.max_attempts:
                    tried.tlsrpt = None  # the next one counts for both
                    kind = "without SNI"
                    continue
                if kind == "in clear":
                    self.noted[each.host] = True
                elif allowed and (tried.tls_failed or tried.lost_in_tls):
                    self.noted.setdefault(each.host, False)
                if tried.is_committed or not self.left:
                    return False
                choice = self.config.cleartext_retry
                may_retry = allowed and not is_retried and choice != "never" and (choice == "now" or named)
                if kind == "in clear" or not may_retry or not (tried.tls_failed or (tried.lost_in_tls and named)):
                    break
                kind, is_retried = "in clear", True
        return True

    @property
    def _made(self) -> int:
        return len([tried for tried in self.tried if tried.address])

    def _count(self, tried: Tried) -> None:
        self.tried.append(tried)
        for recipient in list(self.left):
            fate = tried.fates.get(recipient) or Fate("deferred", tried.statuses)
            self.fates[recipient] = fate
            if fate.outcome != "deferred":
                self.left.remove(recipient)

    def _judge(self, session: Session, each: HostPlan, *, is_retry: bool) -> Tried:
        """One session, by the table of the specification."""
        level = each.level
        clear = level is TlsLevel.NONE or is_retry
        tried = Tried(each.host, session.effect.address, "", frozenset(), cleartext=clear)

        def ends(result: str, *statuses: str | None) -> Tried:
            tried.result, tried.statuses = result, frozenset(statuses)
            return tried

        results = [result for _, result in session.said]
        greeting = results.pop(0)
        if isinstance(greeting, SessionFailure):
            return ends("connect-failed", "4.4.1") if greeting.kind == "unreachable" else ends("tempfailed", "4.4.2")
        if greeting.code >= 300 or greeting == OURS:
            return ends("tempfailed", "4.4.6" if greeting == OURS else waits(greeting))
        said = results.pop(0)
        is_helo = False
        if isinstance(said, Reply) and said.code in ({500, 501, 502, 504, 550} if each.cleartext else {500, 502}):
            said, is_helo = results.pop(0), True
        if isinstance(said, SessionFailure):
            return ends("tempfailed", "4.4.2")
        if said.code >= 300 or said == OURS:
            return ends("tempfailed", "4.4.6" if said == OURS else waits(said))
        if not clear and (is_helo or "STARTTLS" not in said.keywords):
            tried.tlsrpt = "starttls-not-supported"
            if level not in OPPORTUNISTIC:
                return ends("starttls-absent", "4.7.4")
            clear = tried.cleartext = True
        if not clear:
            shown = results.pop(0)
            if not isinstance(shown, Secured):
                if isinstance(shown, Reply) or shown.kind == "lost":
                    tried.tls_failed, tried.lost_in_tls = isinstance(shown, Reply), not isinstance(shown, Reply)
                    tried.tlsrpt = "starttls-not-supported"
                    is_lost = tried.lost_in_tls and level in OPPORTUNISTIC
                    return ends("starttls-refused", "4.4.2" if is_lost else "4.7.4")
                (asked,) = [effect for effect, _ in session.said if isinstance(effect, StartTls)]
                tried.tls_failed = shown.kind != "injected"
                tried.by_alert = shown.alert and asked.sni is not None
                tried.tlsrpt = "validation-failure"
                return ends("handshake-failed", "4.7.5")
            if level in {TlsLevel.DANE, TlsLevel.SECURE} and shown != RIGHT:
                by_name = level is TlsLevel.SECURE and shown == WRONG
                tried.tlsrpt = "certificate-host-mismatch" if by_name else "validation-failure"
                return ends("not-authenticated", "4.7.5")
            tried.tlsrpt = "tlsa-invalid" if level is TlsLevel.ENCRYPT else None
            said = results.pop(0)
            is_helo = False
            if isinstance(said, Reply) and said.code in {500, 502}:
                said, is_helo = results.pop(0), True
            if isinstance(said, SessionFailure):
                tried.lost_in_tls = True
                if said.kind == "lost":
                    return ends("tempfailed", "4.4.2")
                tried.tlsrpt = "validation-failure"  # RFC8460-4.3.3-a
                return ends("handshake-failed", "4.7.5")
            if said.code >= 300 or said == OURS:
                return ends("tempfailed", "4.4.6" if said == OURS else waits(said))
            is_announced = not is_helo and "REQUIRETLS" in said.keywords
            if each.requiretls and not is_announced and self.message.sender:
                return ends("requiretls-absent", "4.7.30")
            tried.requiretls = each.requiretls and is_announced
        (sent,) = results
        self._judge_transaction(tried, sent)
        is_lost = sent.failure is not None and tried.result == "tempfailed"
        tried.lost_in_tls = is_lost and not clear and not tried.is_committed
        if tried.result == "delivered":
            authenticated = level in {TlsLevel.DANE, TlsLevel.SECURE}
            vouched = "verified" if self.plan.mx_secure else "trusted"
            tried.security = "cleartext" if clear else vouched if authenticated else "untrusted"
        return tried

    def _judge_transaction(self, tried: Tried, sent: Transmitted) -> None:
        for place, recipient in enumerate(self.left):
            tried.fates[recipient] = self._fate(tried, sent, place)
        outcomes = {fate.outcome for fate in tried.fates.values()}
        decisive = "deferred" if "deferred" in outcomes else "bounced"
        statuses = [fate.statuses for fate in tried.fates.values() if fate.outcome == decisive]
        tried.statuses = frozenset().union(*statuses)
        tried.is_committed = sent.committed and sent.end is None and "deferred" in outcomes
        if "delivered" in outcomes:
            tried.result, tried.statuses = "delivered", frozenset({None})
        elif sent.failure is not None and "deferred" in outcomes:
            tried.result, tried.statuses = "tempfailed", frozenset({"4.4.2"})
        else:
            tried.result = "tempfailed" if "deferred" in outcomes else "rejected"

    def _fate(self, tried: Tried, sent: Transmitted, place: int) -> Fate:
        """What the replies of a transaction mean for one of its recipients."""
        rcpt = sent.recipients[place] if place < len(sent.recipients) else None
        stops: list[tuple[Reply | None, bool]] = [
            (sent.mail, sent.mail is not None and sent.mail.code < 300),
            (rcpt, rcpt is not None and rcpt.code < 300),
            (sent.data, sent.data is not None and 300 <= sent.data.code < 400),
        ]
        for number, (reply, is_good) in enumerate(stops):
            if reply is None:
                return Fate("deferred", frozenset({"4.4.2"}))
            if is_good:
                continue
            lasting = reply.code >= 500
            wants_tls = reply.code == 530 and own_status(reply) in {None, "5.7.0"}  # RFC3207-4-g
            if number == 0 and wants_tls and tried.cleartext and not self.message.tls_optional:
                lasting = False  # TLS may work another time, and its absence be an attacker's work
            if number == 1 and reply.code == 552 and any(other.code < 300 for other in sent.recipients):
                lasting = False  # too many recipients: the others go first
            return self._refused(tried.host, reply, lasting=lasting)
        if sent.end is None:
            return Fate("deferred", frozenset({"4.4.2"}))
        if sent.end.code < 300:
            return Fate("delivered", frozenset({None}), tried.host, sent.end)
        return self._refused(tried.host, sent.end, lasting=sent.end.code >= 500)

    @staticmethod
    def _refused(name: str, reply: Reply, *, lasting: bool) -> Fate:
        if lasting:
            return Fate("bounced", frozenset({own_status(reply) or "5.0.0"}), name, reply)
        return Fate("deferred", frozenset({waits(reply)}), None, reply)

    def final(self) -> dict[str, Fate]:
        """What becomes of each recipient in the end."""
        made = [tried for tried in self.tried if tried.result != "skipped"]
        whole = {recipient: self.fates.get(recipient) for recipient in self.message.recipients}
        unmet = {"starttls-absent", "starttls-refused", "handshake-failed", "not-authenticated", "requiretls-absent"}
        reasons = {each.skip.reason for each in self.plan.hosts if isinstance(each, SkippedHost)}
        given_up = self.message.requiretls and self.message.sender and made and not self.is_cut_short
        if given_up and {tried.result for tried in made} <= unmet and reasons <= {SkipReason.REQUIRETLS_UNMET}:
            lacking = any(tried.result == "requiretls-absent" for tried in made)
            return dict.fromkeys(whole, Fate("bounced", frozenset({"5.7.30" if lacking else "5.7.10"})))
        bad = self.plan.undeliverable
        never = Fate("deferred", frozenset({"4.4.4"}))
        if bad is not None:
            never = Fate("bounced" if bad.kind == "permanent" else "deferred", frozenset({bad.status}))
        return {recipient: fate or never for recipient, fate in whole.items()}


def reference(
    network: Network, plan: Plan, message: Message = MESSAGE, before: Outcome | None = None, **settings: Any
) -> Reference:
    """What the specification makes of what a network has seen."""
    walked = Reference(plan, message, Config(**settings), before, network.sessions)
    walked.walk()
    return walked
