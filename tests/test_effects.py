"""`ask` and the helpers that compose programs: what they yield, and what they let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import Message
from mailtlspolicy.delivery.session import Close, Connect, Ehlo, SessionFailure, StartTls, Transmit, Transmitted
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType
from mailtlspolicy.effects import BrokenContract, Effect, Fork, Now, OwnFailure, ask, in_turn, together, within
from mailtlspolicy.levels import TlsLevel
from mailtlspolicy.plan.mx import MxHost, Shuffle
from mailtlspolicy.sts import Entry
from mailtlspolicy.sts.effects import (
    DropPolicy,
    Fetch,
    FetchFailure,
    ListPolicies,
    LoadPolicy,
    StoreFailure,
    StorePolicy,
)
from mailtlspolicy.sts.refresh import Progress, RefreshReport
from tests.authority import NOW

if TYPE_CHECKING:
    from mailtlspolicy.effects import Program

QUESTION = Lookup("a", RecordType.A)
ENTRY = Entry(checked=NOW, used=NOW)
MESSAGE = Message("a@sender.test", ["b@client.test"], b"secret")

# Every effect, and whether it is given up when the time is up
EFFECTS: list[tuple[Effect[Any], bool]] = [
    (QUESTION, True),
    (Fetch("mta-sts.client.test", 10, 10), True),
    (LoadPolicy("client.test"), False),
    (StorePolicy("client.test", ENTRY), False),
    (DropPolicy("client.test", ENTRY), False),
    (ListPolicies(), False),
    (Connect("192.0.2.1", 25), True),
    (Ehlo(object()), True),
    (StartTls(object(), None, TlsLevel.MAY), True),
    (Transmit(object(), MESSAGE, ("b@client.test",)), True),
    (Close(object()), False),
    (Now(), False),
    (Shuffle((MxHost("mx.client.test"),)), False),
    (Progress(RefreshReport()), False),
    (Fork(()), False),
]


def step(program: Program[Any], result: Any) -> Any:
    """What a program returns that is sent one result."""
    program.send(None)
    with pytest.raises(StopIteration) as stop:
        program.send(result)
    return stop.value.value


def test_ask_yields_its_one_effect_and_returns_the_result() -> None:
    program, answer = ask(QUESTION), Answer(QUESTION, secure=True)
    assert program.send(None) is QUESTION
    assert step(ask(QUESTION), answer) is answer


def test_programs_side_by_side_are_one_fork() -> None:
    first, second = ask(QUESTION), ask(QUESTION)
    assert together(first, second).send(None) == Fork((first, second))
    assert in_turn([first], 3).send(None) == Fork((first,), at_once=3)
    assert within(7, second).send(None) == Fork((second,), seconds=7)
    assert step(together(first, second), ("x", "y")) == ("x", "y")
    assert step(within(7, second), ("y",)) == "y"


def test_every_effect_is_here() -> None:
    def below(kind: Any) -> set[type]:
        return {kind, *(each for sub in kind.__subclasses__() for each in below(sub))}

    # by name: attrs makes each class anew, and the first one is there until it is collected
    listed = {type(effect).__name__ for effect, _ in EFFECTS}
    ours = {kind.__name__ for kind in below(Effect) - {Effect} if kind.__module__.startswith("mailtlspolicy.")}
    assert listed == ours


@pytest.mark.parametrize(("effect", "is_timed"), EFFECTS, ids=lambda each: type(each).__name__)
def test_each_effect_knows_its_answers_and_whose_they_are(effect: Effect[Any], *, is_timed: bool) -> None:
    assert effect.is_timed is is_timed
    wrong: Any = 7
    program = ask(effect)
    program.send(None)
    with pytest.raises(BrokenContract) as caught:
        program.send(wrong)
    text = str(caught.value)
    assert text.startswith(f"the {effect.performer} answered {type(effect).__name__}(")
    assert text.endswith(" with int: 7")
    assert "secret" not in text
    assert isinstance(caught.value, TypeError)
    assert caught.value.outcome is None


@pytest.mark.parametrize("effect", [effect for effect, _ in EFFECTS], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("why", OwnFailure)
def test_a_failure_of_this_system_is_an_answer_and_says_nothing_of_the_domain(
    effect: Effect[Any], why: OwnFailure
) -> None:
    if not effect.is_fenced:
        assert not effect.is_timed
        with pytest.raises(AssertionError):
            effect.own_failure(why, "x")
        return
    failure = effect.own_failure(why, "no more")
    assert step(ask(effect), failure) is failure
    if isinstance(failure, (LookupFailure, FetchFailure)):
        assert failure.kind.is_own
    elif isinstance(failure, Transmitted):
        assert failure.committed  # nobody knows how far it had come
        assert failure.failure is not None
        assert failure.failure.detail == "no more"
    elif failure is not None:
        assert isinstance(failure, (SessionFailure, StoreFailure))
        assert failure.detail == "no more"


def test_only_these_failures_of_a_lookup_are_our_own() -> None:
    assert {kind for kind in FailureKind if kind.is_own} == {"local", "overdue"}
