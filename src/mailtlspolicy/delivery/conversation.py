"""One connection to one address: ask for what a state needs, and tell which event followed.

What the events lead to is the business of `transitions`. A conversation keeps what is learned on the way; what was said
before TLS is not kept (RFC 3207 section 4.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field, frozen

from mailtlspolicy.delivery.outcome import Disposition, RecipientOutcome
from mailtlspolicy.delivery.requiretls import KEYWORD
from mailtlspolicy.delivery.session import (
    DATA_WANTED,
    SHOWN_LINES,
    Close,
    Connect,
    Ehlo,
    Reply,
    Secured,
    SessionFailure,
    StartTls,
    Transmit,
    Transmitted,
    Trouble,
)
from mailtlspolicy.delivery.transitions import IN_CLEAR, Event, Result, State, follow
from mailtlspolicy.effects import BrokenContract, Now, answer_to, ask
from mailtlspolicy.names import MAX_NAME_OCTETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set

    from mailtlspolicy.delivery.message import Message
    from mailtlspolicy.delivery.transitions import Permission
    from mailtlspolicy.effects import Effect, Program
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.plan.values import HostPlan
    from mailtlspolicy.verdict import Verdict

_R = TypeVar("_R")

MAX_TRANSCRIPT_LINES = 1000  # of one attempt: a hundred recipients leave some 300
MAX_DEFECT = 200  # characters of what an exception says: it may quote what a server sent

# The server does not know EHLO, and HELO is worth a try (RFC 5321 section 3.2)
EHLO_UNKNOWN = frozenset({500, 502})
# EHLO is not acceptable (section 4.1.4): HELO, which costs TLS, is tried where nothing asks for that
EHLO_REFUSED = EHLO_UNKNOWN | {501, 504, 550}

STARTTLS_REQUIRED = 530  # "Must issue a STARTTLS command first" (RFC 3207 section 4)
TOO_MANY_RECIPIENTS = 552  # to RCPT; to be taken for a 452 (RFC 5321 section 4.5.3.1.10)

_HOST = re.compile(r"[A-Za-z0-9_.:\[\]-]+\Z")

# RFC 3463 sections 3.4 to 3.6
LOCAL_ERROR, CONNECT_FAILED, CONNECTION_LOST, LOOP, EXPIRED = "4.3.0", "4.4.1", "4.4.2", "4.4.6", "4.4.7"
PROTOCOL_ERROR = "4.5.0"


# What says nothing of the server
_OF_OURS = {Trouble.LOCAL: (Event.LOCAL_ERROR, LOCAL_ERROR), Trouble.OVERDUE: (Event.OVERDUE, EXPIRED)}


@frozen
class Ended:
    """How a conversation ended.

    Attributes:
        state: the state in which it ended.
        event: what happened there.
        to: the state in which the walk goes on.
        result: what the attempt ends with; None where it was to be held no further.
    """

    state: State
    event: Event
    to: State
    result: Result | None


@define
class Conversation:
    """A connection, and what was learned from it.

    Attributes:
        host: the host, with what it has to fulfil.
        address: which of its addresses.
        trust: the PKIX trust anchors.
        message: what is to be sent; None where nothing is.
        left: the recipients to whom it is to be sent.
        after_tls: TLS was offered and failed on an earlier connection.
        own_names: the names of this system, canonical. A server that bears one of them is this system, or pretends to.
        without_sni: no SNI is sent, since the server has ended a handshake with one.
        is_open: there is a connection.
        session: what stands for it.
        verdict: on the certificates, once there is TLS.
        secured: the TLS session.
        source: the address that we connected from.
        helo: the name that the server gave itself.
        tls_error: what ended the handshake, or prevented it.
        status: the RFC 3463 status code of what went wrong.
        detail: what the server or the network said.
        requiretls: MAIL bore the parameter REQUIRETLS.
        is_broken: the dialogue can not go on, not even with QUIT.
        asked_to_wait: the server answered in the transaction with 4xx.
        committed: the server may have the message, and has not said so.
        settled: what became of recipients for good, delivery or return.
        waiting: why others have to wait, where a transaction says so.
        transcript: the dialogue so far.
    """

    host: HostPlan
    address: str
    trust: TrustStore | None
    message: Message | None = None
    left: tuple[str, ...] = ()
    after_tls: bool = False
    own_names: Set[str] = frozenset()
    without_sni: bool = False
    is_open: bool = False
    session: Any = None
    verdict: Verdict | None = None
    secured: Secured | None = None
    source: str | None = None
    helo: str | None = None
    tls_error: str | None = None
    status: str | None = None
    detail: str = ""
    requiretls: bool = False
    is_broken: bool = False
    asked_to_wait: bool = False
    committed: bool = False
    settled: list[RecipientOutcome] = field(factory=list)
    waiting: dict[str, RecipientOutcome] = field(factory=dict)
    transcript: list[str] = field(factory=list)
    _keyword: bool = False  # REQUIRETLS is announced, within TLS
    _is_asking: bool = False  # an effect is being performed

    @property
    def sni(self) -> str | None:
        """The server name to send, if any."""
        return None if self.without_sni else self.host.sni

    def hold(self, state: State, permissions: Set[Permission], last: State | None = None) -> Program[Ended]:
        """Go on from a state until the attempt is over, or `last` is passed; then end the connection.

        An exception here is a defect of ours. It costs this attempt, and nothing that is known already. One that is
        raised where an effect is performed goes through, and the connection is ended all the same.
        """
        result: Result | None = None
        was: State | None = None
        while result is None and (was is None or was is not last):
            was = state
            try:
                if was in IN_CLEAR and not self.host.cleartext:
                    raise AssertionError("the automaton led to cleartext where it is forbidden")
                event = yield from _STEPS[was](self)
                state, result = follow(was, event, permissions)
            except GeneratorExit:  # nobody is there to close the connection
                raise
            except BaseException as error:
                if self._is_asking or isinstance(error, BrokenContract) or not isinstance(error, Exception):
                    self.is_broken = True
                    yield from self._close()
                    raise
                event = self._defect(was, error)
                state, result = follow(was, event, permissions)
        yield from self._close()
        assert was is not None
        return Ended(was, event, state, result)

    def _defect(self, state: State, error: Exception) -> Event:
        what = f"{type(error).__name__}: {error}"[:MAX_DEFECT]
        self._tell(f"-- {Event.LOCAL_ERROR}: {what}")
        self.status, self.detail, self.is_broken = LOCAL_ERROR, what, True
        self.verdict = None  # it may be half of one
        # whoever was sent the message may have it (RFC 5321 section 6.1)
        self.committed = state in {State.SEND, State.SEND_IN_CLEAR}
        return Event.LOCAL_ERROR

    def _close(self) -> Program[None]:
        if self.is_open:
            self._tell("-- close" if self.is_broken else "C: QUIT")
            self.is_open = False
            yield from ask(Close(self.session))

    def _ask(self, effect: Effect[_R]) -> Program[_R]:
        self._is_asking = True
        result = yield effect
        self._is_asking = False
        return answer_to(effect, result)

    def _connect(self) -> Program[Event]:
        self._tell(f"-- connect to {self.address} port {self.host.port}")
        result = yield from self._ask(Connect(self.address, self.host.port))
        if isinstance(result, SessionFailure):
            event = self._failed(result)
            if result.kind is not Trouble.UNREACHABLE:
                return event
            self.status = CONNECT_FAILED
            return Event.UNREACHABLE
        self.is_open, self.session, self.source = True, result.session, result.source
        self._heard(result.greeting)
        self.helo = _name(result.greeting)
        return self._unless_refused(result.greeting) or Event.CONNECTED

    def _ehlo(self) -> Program[Event]:
        reply = yield from self._say_ehlo(EHLO_REFUSED if self.host.cleartext else EHLO_UNKNOWN)
        if isinstance(reply, Event):
            return reply
        self.helo = _name(reply) or self.helo
        return Event.OFFERED if "STARTTLS" in reply.keywords else Event.ABSENT

    def _ehlo_in_clear(self) -> Program[Event]:
        reply = yield from self._say_ehlo(EHLO_REFUSED)
        return reply if isinstance(reply, Event) else Event.ACCEPTED

    def _ehlo_in_tls(self) -> Program[Event]:
        reply = yield from self._say_ehlo(EHLO_UNKNOWN)
        if isinstance(reply, Event):
            return reply
        self._keyword = KEYWORD in reply.keywords
        # RFC 8689 section 5: a notification goes without the keyword rather than not at all
        is_notification = self.message is not None and not self.message.sender
        if self.host.requiretls and not self._keyword and not is_notification:
            self.detail = f"{KEYWORD} is not announced"
            return Event.REQUIRETLS_ABSENT
        return Event.ACCEPTED

    def _say_ehlo(self, helo_after: Set[int]) -> Program[Reply | Event]:
        """Say EHLO, and HELO after one of these codes."""
        self._tell("C: EHLO")
        reply = yield from self._ask(Ehlo(self.session))
        if isinstance(reply, Reply) and reply.code in helo_after:
            self._heard(reply)
            self._tell("C: HELO")
            reply = yield from self._ask(Ehlo(self.session, helo=True))
            if isinstance(reply, Reply):
                reply = Reply(reply.code, reply.lines[:1])  # further ones announce nothing
        if isinstance(reply, SessionFailure):
            event = self._failed(reply)
            if self.secured is None or reply.kind is not Trouble.HANDSHAKE:
                return event
            self.tls_error, self.verdict = reply.tls_error, None  # on a session that did not come about
            return Event.HANDSHAKE_FAILED
        self._heard(reply)
        return self._unless_refused(reply) or reply

    def _start_tls(self) -> Program[Event]:
        self._tell("C: STARTTLS")
        result = yield from self._ask(StartTls(self.session, self.sni, self.host.level))
        if isinstance(result, Secured):
            self.secured = result
            session = " ".join(filter(None, (result.protocol, result.cipher))) or "TLS"
            self._tell(f"-- {session}, SNI {self.sni or 'none'}, {len(result.chain)} in the chain")
            return Event.HANDSHAKE_DONE
        if isinstance(result, Reply):
            self._heard(result)
            self.detail = str(result)
            return Event.STARTTLS_REFUSED
        event = self._failed(result)
        if result.kind is Trouble.INJECTED:
            self.tls_error = str(Event.INJECTED)
            return Event.INJECTED
        if result.kind is not Trouble.HANDSHAKE:
            return event
        self.tls_error = result.tls_error
        return Event.HANDSHAKE_ALERT if result.alert and self.sni is not None else Event.HANDSHAKE_FAILED

    def _verify(self) -> Program[Event]:
        now = (yield from self._ask(Now())).wall  # at which certificates have to be valid
        assert self.secured is not None
        self.verdict = self.host.verify(self.secured.chain, now=now, trust=self.trust)
        what = self.verdict.failure or self.verdict.mechanism or "nothing to authenticate"
        self._tell(f"-- level {self.host.level}: {what}")
        if self.verdict.satisfied:
            return Event.SATISFIED
        self.detail = str(self.verdict.failure)
        return Event.NOT_SATISFIED

    def _send(self) -> Program[Event]:
        assert self.message is not None
        self.requiretls = self.host.requiretls and self._keyword
        sent = yield from self._ask(Transmit(self.session, self.message, self.left, self.requiretls))
        self._write_down(sent)
        entries = tuple(self._judged(sent))
        self.settled += [entry for entry in entries if entry.outcome is not Disposition.DEFERRED]
        self.waiting = {entry.recipient: entry for entry in entries if entry.outcome is Disposition.DEFERRED}
        self.left = tuple(self.waiting)
        refused = (entry for entry in entries if entry.outcome is Disposition.BOUNCED)
        for entry in (*self.waiting.values(), *refused)[:1]:  # what the result is about
            self.status, self.detail = entry.status, entry.reply or ""
        self.is_broken = sent.failure is not None
        if not self.left:
            return Event.DELIVERED if self._has_delivered else Event.REJECTED
        event = Event.TEMPFAILED if sent.failure is None else self._failed(sent.failure)
        self.committed = sent.committed and sent.end is None
        if event in {Event.LOCAL_ERROR, Event.OVERDUE}:
            return event
        if self.committed:
            return Event.LOST_AFTER_DATA
        if self._has_delivered:
            return Event.DELIVERED_IN_PART
        return event

    @property
    def _has_delivered(self) -> bool:
        return any(entry.outcome is Disposition.DELIVERED for entry in self.settled)

    def _judged(self, sent: Transmitted) -> Iterator[RecipientOutcome]:
        """What a transaction means for each recipient it was for (RFC 5321 sections 3.3 and 4.2.1)."""
        some_accepted = any(reply.success for reply in sent.recipients)
        for index, recipient in enumerate(self.left):
            rcpt = sent.recipients[index] if index < len(sent.recipients) else None
            if sent.mail is None or (sent.mail.success and rcpt is None):  # fewer replies than recipients
                yield RecipientOutcome(recipient, Disposition.DEFERRED, None, CONNECTION_LOST)
            elif not sent.mail.success:
                yield self._by(recipient, sent.mail, permanent=sent.mail.permanent and not self._wants_tls(sent.mail))
            elif rcpt is not None and not rcpt.success:
                too_many = rcpt.code == TOO_MANY_RECIPIENTS and some_accepted
                yield self._by(recipient, rcpt, permanent=rcpt.permanent and not too_many)
            elif sent.data is not None and sent.data.code != DATA_WANTED:
                yield self._by(recipient, sent.data, permanent=sent.data.permanent)
            elif sent.end is not None and sent.end.success:
                yield RecipientOutcome(recipient, Disposition.DELIVERED, self.host.host, None, str(sent.end))
            elif sent.end is not None:
                yield self._by(recipient, sent.end, permanent=sent.end.permanent)
            else:
                yield RecipientOutcome(recipient, Disposition.DEFERRED, None, CONNECTION_LOST)

    def _wants_tls(self, reply: Reply) -> bool:
        """Whether the server insists on TLS where TLS has failed or seems not to be offered.

        TLS may work later, and its absence may be an attacker's work (RFC 3207 section 6): no reason to return mail,
        unless the message does without TLS by its own wish (RFC 8689 section 4.2.2).
        """
        assert self.message is not None
        # RFC 3207 section 4 gives it 5.7.0; with another status code it is about authentication (RFC 4954 section 6)
        says_so = reply.code == STARTTLS_REQUIRED and reply.status in {None, "5.7.0"}
        return says_so and self.verdict is None and not self.message.tls_optional

    def _by(self, recipient: str, reply: Reply, *, permanent: bool) -> RecipientOutcome:
        if permanent:
            status = reply.status or "5.0.0"
            return RecipientOutcome(recipient, Disposition.BOUNCED, self.host.host, status, str(reply))
        self.asked_to_wait = self.asked_to_wait or 400 <= reply.code < 500
        return RecipientOutcome(recipient, Disposition.DEFERRED, None, _transient(reply), str(reply))

    def _failed(self, failure: SessionFailure) -> Event:
        self._tell(f"-- {failure.kind}{f': {failure.detail}' if failure.detail else ''}")
        self.detail = failure.detail or str(failure.kind)
        self.is_broken = True
        event, self.status = _OF_OURS.get(failure.kind, (Event.LOST, CONNECTION_LOST))
        return event

    def _unless_refused(self, reply: Reply) -> Event | None:
        """That a greeting or a reply to EHLO or HELO ends the attempt, or None where it does not."""
        if not reply.success:
            self.status, self.detail = _transient(reply), str(reply)
            return Event.REFUSED
        if reply.lines[0].partition(" ")[0].lower().removesuffix(".") in self.own_names:
            # The mail would come back to us; but anybody on the way can say so, and none is returned for it
            self.status, self.detail = LOOP, f"the server bears our own name: {reply}"
            return Event.REFUSED
        return None

    def _heard(self, reply: Reply) -> None:
        last = len(reply.lines) - 1
        for index, line in enumerate(reply.lines[:SHOWN_LINES]):
            self._tell(f"S: {reply.code}{' ' if index == last else '-'}{line}".rstrip())
        if last >= SHOWN_LINES:
            self._tell(f"-- {last + 1 - SHOWN_LINES} more lines")

    def _tell(self, line: str) -> None:
        if len(self.transcript) < MAX_TRANSCRIPT_LINES:
            self.transcript.append(line)

    def _write_down(self, sent: Transmitted) -> None:
        assert self.message is not None
        parameter = f" {KEYWORD}" if self.requiretls else ""
        self._tell(f"C: MAIL FROM:<{self.message.sender}>{parameter}")
        if sent.mail is not None:
            self._heard(sent.mail)
        for recipient, reply in zip(self.left, sent.recipients, strict=False):
            self._tell(f"C: RCPT TO:<{recipient}>")
            self._heard(reply)
        if sent.data is not None:
            self._tell("C: DATA")
            self._heard(sent.data)
        if sent.end is not None and sent.failure is not None:
            self._tell(f"C: (some of {len(self.message.content)} octets)")  # it answered before the end of them
        elif sent.end is not None or sent.committed:
            self._tell(f"C: ({len(self.message.content)} octets and the final dot)")
        if sent.end is not None:
            self._heard(sent.end)


def _name(reply: Reply) -> str | None:
    """The name that a server gives itself: the first word of its greeting or reply to EHLO (RFC 5321 section 4.3.1).

    It is meant to be a fully-qualified name or an address literal; servers also say "Hello" there.
    """
    word = reply.lines[0].partition(" ")[0]
    names_a_host = len(word) <= MAX_NAME_OCTETS and not {".", ":"}.isdisjoint(word)
    return word if names_a_host and _HOST.match(word) else None


def _transient(reply: Reply) -> str:
    """The status of mail that waits because of a reply, which may be of any class.

    4.0.0 where a refusal gives none; a reply that makes no sense is a protocol error.
    """
    if reply.code < 400:
        return PROTOCOL_ERROR
    return reply.status if reply.status is not None and not reply.permanent else "4.0.0"


_STEPS: dict[State, Callable[[Conversation], Program[Event]]] = {
    State.CONNECT: Conversation._connect,
    State.EHLO: Conversation._ehlo,
    State.STARTTLS: Conversation._start_tls,
    State.VERIFY: Conversation._verify,
    State.EHLO_IN_TLS: Conversation._ehlo_in_tls,
    State.SEND: Conversation._send,
    State.CONNECT_IN_CLEAR: Conversation._connect,
    State.EHLO_IN_CLEAR: Conversation._ehlo_in_clear,
    State.SEND_IN_CLEAR: Conversation._send,
}
