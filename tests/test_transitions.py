"""The automaton of a delivery, stated a second time from the clauses, and walked along every path."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from mailtlspolicy.delivery.transitions import IN_CLEAR, TRANSITIONS, Event, Permission, Result, State, follow

if TYPE_CHECKING:
    from collections.abc import Iterator

# State, event, state that follows, "-" or the result; then the permission that leads elsewhere, and where.
STATED = """
connect           connected              ehlo           -
connect           unreachable            next-address   connect-failed
connect           refused                next-address   tempfailed
connect           lost                   next-address   tempfailed

ehlo              starttls-offered       starttls       -
ehlo              starttls-absent        next-address   starttls-absent     cleartext    send-in-clear
ehlo              refused                next-address   tempfailed
ehlo              lost                   next-address   tempfailed

starttls          handshake-done         verify         -
starttls          starttls-refused       next-address   starttls-refused    retry        connect-in-clear
starttls          lost                   next-address   starttls-refused    retry-again  connect-in-clear
starttls          handshake-alert        next-address   handshake-failed    without-sni  connect
starttls          handshake-failed       next-address   handshake-failed    retry        connect-in-clear
starttls          octets-behind-starttls next-address   handshake-failed    report       connect-in-clear

verify            satisfied              ehlo-in-tls    -
verify            not-satisfied          next-address   not-authenticated

ehlo-in-tls       accepted               send           -
ehlo-in-tls       requiretls-absent      next-address   requiretls-absent
ehlo-in-tls       handshake-failed       next-address   handshake-failed    retry-again  connect-in-clear
ehlo-in-tls       refused                next-address   tempfailed
ehlo-in-tls       lost                   next-address   tempfailed          retry-again  connect-in-clear

send              delivered              end            delivered
send              delivered-in-part      next-address   delivered
send              tempfailed             next-address   tempfailed
send              rejected               end            rejected
send              lost                   next-address   tempfailed          retry-again  connect-in-clear
send              lost-after-data        end            tempfailed
send              local-error            end            local-error

connect-in-clear  connected              ehlo-in-clear  -
connect-in-clear  unreachable            next-address   connect-failed
connect-in-clear  refused                next-address   tempfailed
connect-in-clear  lost                   next-address   tempfailed

ehlo-in-clear     accepted               send-in-clear  -
ehlo-in-clear     refused                next-address   tempfailed
ehlo-in-clear     lost                   next-address   tempfailed

send-in-clear     delivered              end            delivered
send-in-clear     delivered-in-part      next-address   delivered
send-in-clear     tempfailed             next-address   tempfailed
send-in-clear     rejected               end            rejected
send-in-clear     lost                   next-address   tempfailed
send-in-clear     lost-after-data        end            tempfailed
send-in-clear     local-error            end            local-error
"""
# What the rows rest on:
# - no connection, or a greeting or EHLO that is refused or lost: the next address (RFC5321-5.1-o, RFC5321-4.2.1-b)
# - STARTTLS not announced: the session goes on in cleartext where the level allows it (RFC3207-6-e, RFC7672-2.2-k),
#   and absence proves nothing where it does not (RFC3207-6-c)
# - any reply to STARTTLS but 220 is a failure (RFC3207-4-b), and what follows a failure is local policy (RFC3207-4-c,
#   RFC3207-6-g): a new connection in cleartext (RFC3207-4-i), or none; octets behind the 220 are an attack, which stops
#   everything but a report (RFC8460-3-h)
# - the handshake is judged before anything else is said (RFC3207-4.1-a, RFC3207-6-a), a session that does not satisfy
#   is left (RFC3207-4.1-d), and one that does is greeted anew (RFC3207-6-i)
# - REQUIRETLS has to be announced within TLS (RFC8689-4.2.1-i), and a failure means the next host (RFC8689-4.2.1-l)
# - a handshake that the server ends over what was offered is tried without SNI before cleartext (RFC7435-3-a)
# - the connection lost on STARTTLS or within TLS may be chance, so that it takes two tries (RFC7672-2.2-k); in place of
#   the first reply within TLS its end is a failed handshake (RFC8460-4.3.3-a), which is no more certain
# - when the time is up no further host is tried; the mail waits
# - a defect of ours says nothing of the server, but in a transaction it may hide that the message was taken
# - 4yz: elsewhere or later; 5yz: never again (RFC5321-4.2.1-a, RFC5321-4.2.1-d)


def _stated() -> dict[tuple[State, Event], tuple[State, Result | None, Permission | None, State | None]]:
    found = {}
    for line in filter(None, STATED.splitlines()):
        state, event, to, result, *permitted = line.split()
        permission, elsewhere = permitted or (None, None)
        key = State(state), Event(event)
        assert key not in found
        found[key] = (
            State(to),
            None if result == "-" else Result(result),
            None if permission is None else Permission(permission),
            None if elsewhere is None else State(elsewhere),
        )
    for state in {state for state, _ in found}:  # a defect may show anywhere, and the time be up
        found.setdefault((state, Event.LOCAL_ERROR), (State.NEXT, Result.LOCAL_ERROR, None, None))
        found[state, Event.OVERDUE] = State.END, Result.TEMPFAILED, None, None
    return found


EXPECTED = _stated()
PERMITTED = [frozenset(some) for count in range(6) for some in combinations(Permission, count)]
EVERYTHING = frozenset(Permission)


def test_there_are_thirty_two_ways_to_permit() -> None:
    assert len(set(PERMITTED)) == 32


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", list(State))
def test_an_event_leads_where_the_clauses_say_and_nowhere_else(state: State, event: Event) -> None:
    """Whatever is permitted."""
    if (state, event) not in EXPECTED:
        for permissions in PERMITTED:
            with pytest.raises(ValueError, match=f"{event} can not happen in the state {state}"):
                follow(state, event, permissions)
        return
    to, result, permission, elsewhere = EXPECTED[state, event]
    for permissions in PERMITTED:
        if elsewhere is not None and permission in permissions:
            # within the session that is there the attempt goes on; a second connection comes after the first has ended
            led = elsewhere, None if elsewhere is State.SEND_IN_CLEAR else result
        else:
            led = to, result
        assert follow(state, event, permissions) == led


def test_nothing_happens_after_the_end_or_between_two_addresses() -> None:
    assert not [key for key in TRANSITIONS if key[0] in {State.NEXT, State.END}]


def test_every_row_of_the_table_has_its_clause_and_goes_to_cleartext_by_permission_alone() -> None:
    assert TRANSITIONS.keys() == EXPECTED.keys()
    for (state, _), transition in TRANSITIONS.items():
        assert re.fullmatch(r"RFC \d{4} section \d+(\.\d+)*|Config\.\w+", transition.clause)
        assert (transition.permission is None) is (transition.permitted is None)
        assert transition.to not in IN_CLEAR or state in IN_CLEAR


# --- every path

Path = tuple[tuple[State, Event], ...]


def paths(
    permissions: frozenset[Permission], state: State = State.CONNECT, so_far: Path = ()
) -> Iterator[tuple[Path, State, tuple[Result, ...]]]:
    """Every way through the automaton: the steps, where it ends, and the results of the attempts on the way.

    After a handshake without SNI there is none that an alert could end because of it.
    """
    again = (State.STARTTLS, Event.HANDSHAKE_ALERT) in so_far
    since = so_far[so_far.index((State.STARTTLS, Event.HANDSHAKE_ALERT)) + 1 :] if again else so_far
    assert len({step[0] for step in since}) == len(since), "a state comes twice: the path need not end"
    for event in Event:
        if again and event is Event.HANDSHAKE_ALERT:
            continue
        try:
            to, result = follow(state, event, permissions)
        except ValueError:
            continue
        path, results = (*so_far, (state, event)), () if result is None else (result,)
        if to in {State.NEXT, State.END}:
            yield path, to, results
        else:
            for longer, end, more in paths(permissions, to, path):
                yield longer, end, (*results, *more)


def states(path: Path) -> list[State]:
    return [state for state, _ in path]


@pytest.mark.parametrize("permissions", PERMITTED, ids=lambda some: "+".join(sorted(some)) or "nothing")
def test_every_path_ends_with_one_result_an_attempt(permissions: frozenset[Permission]) -> None:
    for path, _, results in paths(permissions):
        assert len(results) == states(path).count(State.CONNECT) + (State.CONNECT_IN_CLEAR in states(path))
        assert Result.SKIPPED not in results
        assert len(path) <= 12  # three steps with SNI, six within TLS, and three of a retry


def test_without_a_permission_no_path_leads_to_cleartext() -> None:  # RFC8689-4.2.1-n, RFC3207-6-d
    found = list(paths(frozenset()))
    assert len(found) == 5 + 5 + 7 + 3 + 6 + 8
    assert all(not IN_CLEAR & set(states(path)) for path, _, _ in found)


@pytest.mark.parametrize("permissions", PERMITTED, ids=lambda some: "+".join(sorted(some)) or "nothing")
def test_cleartext_is_entered_by_a_permission_alone_and_where_the_clauses_allow_it(
    permissions: frozenset[Permission],
) -> None:
    entries = defaultdict(set)
    for path, _, _ in paths(permissions):
        for (state, event), following in zip(path, states(path)[1:], strict=False):
            if following in IN_CLEAR and state not in IN_CLEAR:
                entries[following].add((state, event))
    retries = {
        Permission.RETRY: {(State.STARTTLS, Event.STARTTLS_REFUSED), (State.STARTTLS, Event.HANDSHAKE_FAILED)},
        Permission.RETRY_AGAIN: {
            (State.STARTTLS, Event.LOST),
            (State.EHLO_IN_TLS, Event.HANDSHAKE_FAILED),
            (State.EHLO_IN_TLS, Event.LOST),
            (State.SEND, Event.LOST),
        },
        Permission.REPORT: {(State.STARTTLS, Event.INJECTED)},
    }
    again = set().union(*(retries.get(permission, set()) for permission in permissions))
    absent = {(State.EHLO, Event.ABSENT)} if Permission.CLEARTEXT in permissions else set()
    expected = {State.SEND_IN_CLEAR: absent, State.CONNECT_IN_CLEAR: again}
    assert entries == {state: ways for state, ways in expected.items() if ways}


def test_a_path_in_cleartext_never_comes_back_and_is_entered_once() -> None:
    for path, _, _ in paths(EVERYTHING):
        clear = [state in IN_CLEAR for state in states(path)]
        assert clear == sorted(clear)


def test_an_attack_and_a_wrong_certificate_are_never_answered_with_cleartext() -> None:
    for path, end, results in paths(EVERYTHING - {Permission.REPORT}):
        if path[-1][1] in {Event.INJECTED, Event.NOT_SATISFIED, Event.REQUIRETLS_ABSENT}:
            assert end is State.NEXT
            assert not IN_CLEAR & set(states(path))
            assert len(results) == states(path).count(State.CONNECT)
        assert not {Event.INJECTED, Event.NOT_SATISFIED} & {event for _, event in path[:-1]}


def test_mail_is_sent_within_tls_only_after_all_is_satisfied() -> None:  # RFC3207-4.1-a, RFC3207-6-i
    whole = [State.CONNECT, State.EHLO, State.STARTTLS, State.VERIFY, State.EHLO_IN_TLS, State.SEND]
    happened = [Event.CONNECTED, Event.OFFERED, Event.HANDSHAKE_DONE, Event.SATISFIED, Event.ACCEPTED]
    for path, _, _ in paths(EVERYTHING):
        if State.SEND in states(path):
            at = states(path).index(State.SEND)
            assert states(path)[at - 5 : at + 1] == whole
            assert [event for _, event in path[at - 5 : at]] == happened


def test_a_handshake_without_sni_is_permitted_by_itself_and_comes_before_cleartext() -> None:  # RFC7435-3-b
    twice = [path for path, _, _ in paths(EVERYTHING) if states(path).count(State.CONNECT) > 1]
    assert twice
    for path in twice:
        assert states(path)[:4] == [State.CONNECT, State.EHLO, State.STARTTLS, State.CONNECT]
    for path, _, results in paths(EVERYTHING - {Permission.WITHOUT_SNI}):
        if (State.STARTTLS, Event.HANDSHAKE_ALERT) in path:
            assert (path[-1], results) == ((State.STARTTLS, Event.HANDSHAKE_ALERT), (Result.HANDSHAKE_FAILED,))


def test_every_result_is_reached_and_only_the_transaction_delivers_or_rejects() -> None:
    reached = defaultdict(set)
    for permissions in PERMITTED:
        for path, _, results in paths(permissions):
            reached[results[-1]].add(path[-1][0])
    assert reached.keys() == set(Result) - {Result.SKIPPED}
    for result in (Result.DELIVERED, Result.REJECTED):
        assert reached[result] == {State.SEND, State.SEND_IN_CLEAR}
    for result in (Result.STARTTLS_ABSENT, Result.NOT_AUTHENTICATED, Result.REQUIRETLS_ABSENT):
        assert not reached[result] & IN_CLEAR


def test_the_walk_ends_where_nobody_is_left_or_the_message_may_have_arrived() -> None:
    """Anything else goes on to the next address (RFC5321-5.1-o, RFC8689-4.2.1-l)."""
    ends = {path[-1] for path, end, _ in paths(EVERYTHING) if end is State.END}
    assert ends == {
        (state, event)
        for state in (State.SEND, State.SEND_IN_CLEAR)
        for event in (Event.DELIVERED, Event.REJECTED, Event.LOST_AFTER_DATA, Event.LOCAL_ERROR)
    } | {(state, Event.OVERDUE) for state in set(State) - {State.NEXT, State.END}}


def test_every_state_and_every_event_is_met_on_some_path() -> None:
    met = [step for path, _, _ in paths(EVERYTHING) for step in path]
    met += [step for path, _, _ in paths(frozenset()) for step in path]
    assert {state for state, _ in met} == set(State) - {State.NEXT, State.END}
    assert {event for _, event in met} == set(Event)
