"""The automaton of a delivery: what may happen to a connection to one address, and where that leads.

This file alone says so, by the table `TRANSITIONS`; everything else follows it. `conversation` finds out which event
occurs in a state, `walk` moves from address to address. The diagram in the documentation is made from the table.

Cleartext is reached in three ways, each by a `Permission` that the level of the host has to allow:

- STARTTLS is not announced: the session goes on in cleartext (`CLEARTEXT`).
- STARTTLS is refused or the handshake fails: another connection, in cleartext (`RETRY`).
- The connection was lost on STARTTLS or within TLS, as in the try before (`RETRY_AGAIN`).

Without a permission no path leads there from `CONNECT`; only a host of level `none` begins in cleartext. Before any of
them a handshake that the server ends over what was offered is tried without SNI (`WITHOUT_SNI`); since none is sent the
second time, that happens once. An event that the table does not have for a state is an error of the caller, never a
step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mailtlspolicy._words import Word

if TYPE_CHECKING:
    from collections.abc import Set


class State(Word):
    """What is due next on a connection; `NEXT` and `END` have none."""

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    VERIFY = "verify"
    EHLO_IN_TLS = "ehlo-in-tls"
    SEND = "send"
    CONNECT_IN_CLEAR = "connect-in-clear"
    EHLO_IN_CLEAR = "ehlo-in-clear"
    SEND_IN_CLEAR = "send-in-clear"
    NEXT = "next-address"
    END = "end"


IN_CLEAR = frozenset({State.CONNECT_IN_CLEAR, State.EHLO_IN_CLEAR, State.SEND_IN_CLEAR})


class Event(Word):
    """What happened in a state."""

    CONNECTED = "connected"  # and the greeting is 2xx
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # another greeting, a refusal of EHLO, or a server that bears our own name
    LOST = "lost"  # the connection, before the last octet of the message
    OFFERED = "starttls-offered"
    ABSENT = "starttls-absent"
    STARTTLS_REFUSED = "starttls-refused"
    INJECTED = "octets-behind-starttls"
    HANDSHAKE_ALERT = "handshake-alert"  # the server ended by an alert a handshake in which SNI was sent
    HANDSHAKE_FAILED = "handshake-failed"
    HANDSHAKE_DONE = "handshake-done"
    SATISFIED = "satisfied"  # every duty of the host holds
    NOT_SATISFIED = "not-satisfied"
    ACCEPTED = "accepted"  # EHLO, and what has to be announced is
    REQUIRETLS_ABSENT = "requiretls-absent"
    DELIVERED = "delivered"  # nobody is left to try
    DELIVERED_IN_PART = "delivered-in-part"  # some recipients are
    TEMPFAILED = "tempfailed"  # some are, and nobody got it
    REJECTED = "rejected"  # nobody is, and nobody got it here
    LOST_AFTER_DATA = "lost-after-data"  # the connection, between the last octet of the message and the reply
    LOCAL_ERROR = "local-error"  # a defect or a want of ours, which says nothing of the server
    OVERDUE = "overdue"  # the time of the delivery was up


class Result(Word):
    """What became of an attempt at one address."""

    DELIVERED = "delivered"
    CONNECT_FAILED = "connect-failed"
    STARTTLS_ABSENT = "starttls-absent"
    STARTTLS_REFUSED = "starttls-refused"
    HANDSHAKE_FAILED = "handshake-failed"
    NOT_AUTHENTICATED = "not-authenticated"
    REJECTED = "rejected"
    TEMPFAILED = "tempfailed"
    REQUIRETLS_ABSENT = "requiretls-absent"
    SKIPPED = "skipped"
    LOCAL_ERROR = "local-error"


class Permission(Word):
    """What may lead to less: to a handshake without SNI, or to cleartext."""

    WITHOUT_SNI = "without-sni"
    CLEARTEXT = "cleartext"
    RETRY = "retry"
    RETRY_AGAIN = "retry-again"
    REPORT = "report"  # of RFC 8460, which no failure of TLS stops


@frozen
class Transition:
    """One row of the table.

    Attributes:
        to: the state that follows.
        clause: why.
        result: what the attempt ends with, or None where it goes on.
        permission: what has to be permitted for the state that follows to be `permitted` instead.
        permitted: a state in cleartext, or `CONNECT` for a handshake without SNI; a state that connects begins an
            attempt of its own.
    """

    to: State
    clause: str
    result: Result | None = None
    permission: Permission | None = None
    permitted: State | None = None


def _ends(result: Result, clause: str, retry: Permission | None = None) -> Transition:
    """The attempt is over; the next address follows, or the retry in cleartext."""
    return Transition(State.NEXT, clause, result, retry, State.CONNECT_IN_CLEAR if retry else None)


_UNREACHABLE = _ends(Result.CONNECT_FAILED, "RFC 5321 section 5.1")
_REFUSED = _ends(Result.TEMPFAILED, "RFC 5321 section 4.2.1")
_LOST = _ends(Result.TEMPFAILED, "RFC 5321 section 3.8")
_LOST_IN_TLS = _ends(Result.TEMPFAILED, "RFC 7672 section 2.2", Permission.RETRY_AGAIN)
# What may happen in any state, unless a row says otherwise
_ANYWHERE = {
    Event.LOCAL_ERROR: _ends(Result.LOCAL_ERROR, "RFC 3463 section 3.4"),
    Event.OVERDUE: Transition(State.END, "Config.max_delivery_seconds", Result.TEMPFAILED),
}

_TRANSACTION = {
    Event.DELIVERED: Transition(State.END, "RFC 5321 section 4.2.5", Result.DELIVERED),
    Event.DELIVERED_IN_PART: _ends(Result.DELIVERED, "RFC 5321 section 4.2.5"),
    Event.TEMPFAILED: _REFUSED,
    Event.REJECTED: Transition(State.END, "RFC 5321 section 4.2.1", Result.REJECTED),
    # The server may have the message: no other is asked, and one more copy is all that a later try can do
    Event.LOST_AFTER_DATA: Transition(State.END, "RFC 5321 section 6.1", Result.TEMPFAILED),
    Event.LOCAL_ERROR: Transition(State.END, "RFC 5321 section 6.1", Result.LOCAL_ERROR),  # the same
}

_ROWS: dict[State, dict[Event, Transition]] = {
    State.CONNECT: {
        Event.CONNECTED: Transition(State.EHLO, "RFC 5321 section 3.2"),
        Event.UNREACHABLE: _UNREACHABLE,
        Event.REFUSED: _REFUSED,
        Event.LOST: _LOST,
    },
    State.EHLO: {
        Event.OFFERED: Transition(State.STARTTLS, "RFC 3207 section 4"),
        Event.ABSENT: Transition(
            State.NEXT, "RFC 7672 section 2.2", Result.STARTTLS_ABSENT, Permission.CLEARTEXT, State.SEND_IN_CLEAR
        ),
        Event.REFUSED: _REFUSED,
        Event.LOST: _LOST,
    },
    State.STARTTLS: {
        Event.HANDSHAKE_DONE: Transition(State.VERIFY, "RFC 3207 section 4.1"),
        Event.STARTTLS_REFUSED: _ends(Result.STARTTLS_REFUSED, "RFC 7672 section 2.2", Permission.RETRY),
        # Chance, as likely as want of TLS: a connection may be lost anywhere
        Event.LOST: _ends(Result.STARTTLS_REFUSED, "RFC 7672 section 2.2", Permission.RETRY_AGAIN),
        Event.HANDSHAKE_ALERT: Transition(
            State.NEXT, "RFC 7435 section 3", Result.HANDSHAKE_FAILED, Permission.WITHOUT_SNI, State.CONNECT
        ),
        Event.HANDSHAKE_FAILED: _ends(Result.HANDSHAKE_FAILED, "RFC 7672 section 2.2", Permission.RETRY),
        # An attack in the open: it is not answered with cleartext, but for what has to tell of it (RFC 8460 section 3)
        Event.INJECTED: _ends(Result.HANDSHAKE_FAILED, "RFC 3207 section 6", Permission.REPORT),
    },
    State.VERIFY: {
        Event.SATISFIED: Transition(State.EHLO_IN_TLS, "RFC 3207 section 4.2"),
        Event.NOT_SATISFIED: _ends(Result.NOT_AUTHENTICATED, "RFC 3207 section 4.1"),
    },
    State.EHLO_IN_TLS: {
        Event.ACCEPTED: Transition(State.SEND, "RFC 5321 section 3.3"),
        Event.REQUIRETLS_ABSENT: _ends(Result.REQUIRETLS_ABSENT, "RFC 8689 section 4.2.1"),
        # The server ended the handshake after we were done with it, or the connection within TLS: nobody can tell
        Event.HANDSHAKE_FAILED: _ends(Result.HANDSHAKE_FAILED, "RFC 8460 section 4.3.3", Permission.RETRY_AGAIN),
        Event.REFUSED: _REFUSED,
        Event.LOST: _LOST_IN_TLS,
    },
    State.SEND: {**_TRANSACTION, Event.LOST: _LOST_IN_TLS},
    State.CONNECT_IN_CLEAR: {
        Event.CONNECTED: Transition(State.EHLO_IN_CLEAR, "RFC 5321 section 3.2"),
        Event.UNREACHABLE: _UNREACHABLE,
        Event.REFUSED: _REFUSED,
        Event.LOST: _LOST,
    },
    State.EHLO_IN_CLEAR: {
        Event.ACCEPTED: Transition(State.SEND_IN_CLEAR, "RFC 5321 section 3.3"),
        Event.REFUSED: _REFUSED,
        Event.LOST: _LOST,
    },
    State.SEND_IN_CLEAR: {**_TRANSACTION, Event.LOST: _LOST},
}

TRANSITIONS: dict[tuple[State, Event], Transition] = {
    (state, event): transition for state, row in _ROWS.items() for event, transition in {**_ANYWHERE, **row}.items()
}
"""Where every event leads that can happen in a state."""


def follow(state: State, event: Event, permissions: Set[Permission]) -> tuple[State, Result | None]:
    """Return the state that follows and, where the attempt is over, its result.

    Raises:
        ValueError: the event can not happen in this state.
    """
    transition = TRANSITIONS.get((state, event))
    if transition is None:
        raise ValueError(f"the event {event} can not happen in the state {state}")
    if transition.permitted is None or transition.permission not in permissions:
        return transition.to, transition.result
    goes_on = transition.permitted is State.SEND_IN_CLEAR
    return transition.permitted, None if goes_on else transition.result
