"""What a program asks of the world, what it is told, and how programs are composed.

A **program** is a generator: it yields an effect, which says what it needs to know or wants done, and is sent the
result. It never does I/O itself; whoever drives it (`drivers`, or any loop of the caller's) performs the effects with
whatever he has. So a program reads from top to bottom like the RFC that it follows, and the same program runs with
threads, under any event loop, over a static world, or by hand.

- `ask` yields one effect and returns its result, typed and checked.
- `together` yields a `Fork`: programs that each advance on their own, however slow another is.
- A failure of the outside world is a result (`LookupFailure`), never an exception. What is raised where an effect is
  performed, a cancellation for one, is thrown into the program, which then ends; what it still yields on the way, to
  close what it had opened, is performed. `GeneratorExit` ends it without another word.

>>> from mailtlspolicy.dns.effects import Answer, Lookup, RecordType
>>> def addresses(name):
...     answer = yield from ask(Lookup(name, RecordType.A))
...     return answer.records
>>> program = addresses("mx.example")
>>> question = program.send(None)
>>> question
Lookup(name='mx.example', rdtype=<RecordType.A: 'A'>)
>>> try:
...     program.send(Answer(question, secure=True, records=("192.0.2.1",)))
... except StopIteration as stop:
...     stop.value
('192.0.2.1',)
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast, overload

from attrs import frozen

from mailtlspolicy._words import Word

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_R = TypeVar("_R")
_T = TypeVar("_T")
_U = TypeVar("_U")


class OwnFailure(Word):
    """Why an effect was not performed, or not to its end, for a reason of this system's own."""

    LOCAL = "local"  # a thread, a descriptor, memory or the like was wanting
    OVERDUE = "overdue"  # the time that the operator gives it was up


class Effect(Generic[_R]):
    """Something a program wants to know or have done; `_R` is the type of the result.

    Attributes:
        performer: which injected part performs it, for people.
        answers: the classes of its results; `ask` lets no other through.
        is_fenced: what `drivers.OWN_ERRORS` are raised by its performer are a result, which `own_failure` makes.
        is_timed: it is given up when the time of a `Fork` is up, with the result that `own_failure` makes.
    """

    __slots__ = ()
    performer: ClassVar[str]
    answers: ClassVar[tuple[type, ...]]
    is_fenced: ClassVar[bool] = False
    is_timed: ClassVar[bool] = False

    def own_failure(self, why: OwnFailure, detail: str) -> _R:
        """The result where this system is the reason that there is none."""
        raise AssertionError(f"{type(self).__name__} has no failure")


Program: TypeAlias = Generator[Effect[Any], Any, _T]
"""A generator that yields effects, is sent the result of each, and returns a `_T`."""


class BrokenContract(TypeError):  # noqa: N818  # the name says what happened
    """An injected part answered an effect with what is no answer to it: a defect of that part.

    Attributes:
        outcome: where a message was being delivered, its `Outcome` as far as it had come; else None. What that calls
            delivered is delivered.
    """

    def __init__(self, performer: str, effect: Effect[Any], why: str) -> None:
        super().__init__(f"the {performer} answered {effect!r:.200} with {why}")
        self.outcome: Any = None


@frozen
class Fork(Effect["tuple[Any, ...]"]):
    """Programs to be run each on its own; the result is what they return, in their order.

    Attributes:
        programs: the programs, not started.
        at_once: how many of them may be under way at the same time; None for any number.
        seconds: the (elapsed) time that they have together, None for no limit. What is not done by then is
            answered by `Effect.own_failure`, and they go on to their end with that.
    """

    performer = "driver"
    answers = (tuple,)

    programs: tuple[Program[Any], ...]
    at_once: int | None = None
    seconds: float | None = None


@frozen
class Moment:
    """A reading of the clock.

    Attributes:
        wall: the aware time, in UTC.
        elapsed: seconds on a clock that is never put back; only differences mean something.
    """

    wall: datetime
    elapsed: float


@frozen
class Now(Effect[Moment]):
    """What time it is."""

    performer = "clock"
    answers = (Moment,)


def ask(effect: Effect[_R]) -> Program[_R]:
    """Yield one effect and return its result, typed.

    Raises:
        BrokenContract: what was sent is no answer to it.
    """
    return answer_to(effect, (yield effect))


def answer_to(effect: Effect[_R], result: object) -> _R:
    """The result of an effect, typed.

    Raises:
        BrokenContract: it is no answer to it.
    """
    if not isinstance(result, effect.answers):
        raise BrokenContract(effect.performer, effect, f"{type(result).__name__}: {result!r:.80}")
    return cast("_R", result)


@overload
def together(first: Program[_T], second: Program[_U], /) -> Program[tuple[_T, _U]]: ...


@overload
def together(*programs: Program[_T]) -> Program[tuple[_T, ...]]: ...


def together(*programs: Program[Any]) -> Program[tuple[Any, ...]]:
    """Run programs each on its own, so that none waits for another's effects; return their results in order."""
    if len(programs) == 1:
        return ((yield from programs[0]),)
    return (yield from ask(Fork(programs)))


def in_turn(programs: Iterable[Program[_T]], at_once: int | None) -> Program[tuple[_T, ...]]:
    """As `together`, with no more than a number of them under way where each takes a descriptor, say."""
    return (yield from ask(Fork(tuple(programs), at_once)))


def within(seconds: float, program: Program[_T]) -> Program[_T]:
    """Run a program that has a limited time; see `Fork.seconds`."""
    (result,) = yield from ask(Fork((program,), seconds=seconds))
    return cast("_T", result)
