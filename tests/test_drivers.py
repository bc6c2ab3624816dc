"""The drivers run the same programs: branches advance on their own, what was opened is closed, time is kept."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import adrive, drive
from mailtlspolicy.dns.effects import FailureKind, Lookup, LookupFailure, RecordType
from mailtlspolicy.drivers import Ended, batches, end
from mailtlspolicy.effects import Moment, Now, ask, in_turn, together, within
from mailtlspolicy.sts import Entry
from mailtlspolicy.sts.effects import StorePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailtlspolicy.effects import Program

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def lookup(name: str) -> Lookup:
    return Lookup(name, RecordType.A)


def failed(effect: Any) -> LookupFailure:
    """An answer to tell by its question."""
    return LookupFailure(effect, FailureKind.SERVFAIL)


def walk(*names: str, closes: list[str] | None = None) -> Program[tuple[str, ...]]:
    """Ask for one name after the other; at the end, whatever comes, for "close" and the first."""
    asked = []
    try:
        for name in names:
            asked.append((yield from ask(lookup(name))).question.name)  # noqa: PERF401
    except GeneratorExit:
        raise
    except BaseException:
        if closes is not None:
            closes.append((yield from ask(lookup(f"close {names[0]}"))).question.name)
        raise
    return tuple(asked)


def program() -> Program[Any]:
    first = yield from together(walk("a", "b"), walk("c"))
    last = yield from walk("d")
    return (*first, last)


def test_drive_runs_each_branch_to_its_end_and_returns_the_programs_value() -> None:
    asked: list[str] = []

    def perform(effect: Any) -> Any:
        asked.append(effect.name)
        return failed(effect)

    assert drive(program(), perform) == (("a", "b"), ("c",), ("d",))
    assert asked == ["a", "b", "c", "d"]


def test_under_asyncio_no_branch_waits_for_the_effects_of_another() -> None:
    """The second step of one is what the first step of the other waits for."""

    async def main() -> Any:
        b_asked = asyncio.Event()

        async def perform(effect: Any) -> Any:
            if effect.name == "c":
                await b_asked.wait()
            elif effect.name == "b":
                b_asked.set()
            return failed(effect)

        return await asyncio.wait_for(adrive(program(), perform), 5)

    assert asyncio.run(main()) == (("a", "b"), ("c",), ("d",))


def test_no_more_branches_are_under_way_than_may_be() -> None:
    async def main() -> int:
        under_way = most = 0

        async def perform(effect: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _ in range(3):
                await asyncio.sleep(0)
            under_way -= 1
            return failed(effect)

        found = await adrive(in_turn([walk(str(number), "x") for number in range(20)], 4), perform)
        assert found == tuple((str(number), "x") for number in range(20))
        return most

    assert asyncio.run(main()) == 4


def test_a_branch_that_forks_again_is_not_held_up_by_its_own_place() -> None:
    def nested(depth: int) -> Program[Any]:
        if depth == 0:
            return (yield from walk("x"))
        return (yield from in_turn([nested(depth - 1), nested(depth - 1)], 1))

    async def perform(effect: Any) -> Any:
        return failed(effect)

    assert asyncio.run(asyncio.wait_for(adrive(nested(4), perform), 5)) == drive(nested(4), failed)


# --- ends


@pytest.mark.parametrize("how", ["sync", "async", "batches"])
@pytest.mark.parametrize("bad", ["a", "b", "c"])
def test_what_is_raised_where_an_effect_is_performed_goes_through_and_leaves_nothing_open(bad: str, how: str) -> None:
    closes: list[str] = []
    program = together(walk("a", "b", closes=closes), together(walk("c", closes=closes)))

    def perform(effect: Any) -> Any:
        if effect.name == bad:
            raise LookupError(bad)
        return failed(effect)

    async def aperform(effect: Any) -> Any:
        await asyncio.sleep(0)
        return perform(effect)

    def step() -> None:
        running = batches(program)
        wanted: Any = next(running)
        while bad not in [effect.name for effect in wanted]:
            wanted = running.send([perform(effect) for effect in wanted])
        wanted = running.throw(LookupError(bad))
        while True:
            wanted = running.send([perform(effect) for effect in wanted])

    runs = {"sync": lambda: drive(program, perform), "async": lambda: asyncio.run(adrive(program, aperform))}
    with pytest.raises(LookupError, match=bad):
        runs.get(how, step)()
    assert f"close {'c' if bad == 'c' else 'a'}" in closes
    assert len(closes) == len(set(closes))


def test_a_branch_that_raises_ends_one_that_would_wait_for_ever() -> None:
    async def main() -> list[str]:
        closes: list[str] = []

        async def perform(effect: Any) -> Any:
            if effect.name == "waits":
                await asyncio.Event().wait()
            if effect.name == "raises":
                raise LookupError(effect.name)
            return failed(effect)

        with pytest.raises(LookupError, match="raises"):
            await asyncio.wait_for(adrive(together(walk("waits", closes=closes), walk("raises")), perform), 30)
        return closes

    assert asyncio.run(main()) == ["close waits"]


@pytest.mark.parametrize("wrap", [lambda each: each, batches])
def test_a_program_that_is_given_up_closes_what_it_had_opened(wrap: Callable[[Any], Any]) -> None:
    closes, performed = list[str](), list[Any]()

    def perform(wanted: Any) -> Any:
        performed.append(wanted)
        return failed(wanted) if isinstance(wanted, Lookup) else [failed(effect) for effect in wanted]

    running: Any = wrap(walk("a", "b", closes=closes))
    running.send(perform(running.send(None)))
    performed.clear()
    for _ in range(2):  # once it has ended there is nothing to do
        end(running, perform)
        assert closes == ["close a"]
        assert len(performed) == 1


def test_a_program_that_is_dropped_asks_for_nothing_more() -> None:
    closes: list[str] = []
    for running in (walk("a", closes=closes), batches(together(walk("a", closes=closes), walk("b")))):
        running.send(None)  # type: ignore[arg-type]  # None starts a generator
        running.close()
    assert closes == []


def test_no_fence_takes_the_end_for_a_failure() -> None:
    assert not issubclass(Ended, Exception)


def test_a_cancelled_run_closes_in_every_branch_before_it_ends() -> None:
    async def main() -> list[str]:
        closes, started = list[str](), list[str]()
        all_started, closing, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def perform(effect: Any) -> Any:
            if effect.name.startswith("close"):
                closing.set()
                await go_on.wait()
            else:
                started.append(effect.name)
                if len(started) == 3:
                    all_started.set()
                await asyncio.Event().wait()
            return failed(effect)

        running = together(walk("a", closes=closes), together(walk("b", closes=closes), walk("c", closes=closes)))
        task = asyncio.ensure_future(adrive(running, perform))
        await all_started.wait()
        task.cancel()
        await closing.wait()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []
        return closes

    assert sorted(asyncio.run(main())) == ["close a", "close b", "close c"]


# --- time


class Clock:
    """A performer whose questions take a second each."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.asked: list[str] = []

    def __call__(self, effect: Any) -> Any:
        if isinstance(effect, Now):
            return Moment(START, self.elapsed)
        self.elapsed += 1
        self.asked.append(getattr(effect, "name", "store"))
        return failed(effect) if isinstance(effect, Lookup) else None


def timed(program: Program[Any], clock: Clock) -> Any:
    return drive(program, clock, lambda: clock.elapsed)


def kinds(*names: str) -> Program[list[str]]:
    found = []
    for name in names:
        answer = yield from ask(lookup(name))
        assert isinstance(answer, LookupFailure)
        found.append(str(answer.kind))
    return found


def test_what_is_not_asked_in_time_is_answered_here_and_the_program_goes_on() -> None:
    clock = Clock()
    found = timed(within(2, together(kinds("a", "b", "c"), kinds("d"))), clock)
    assert found == (["servfail", "servfail", "overdue"], ["overdue"])
    assert clock.asked == ["a", "b"]


def test_the_tighter_of_two_limits_holds_and_ends_with_its_fork() -> None:
    def program() -> Program[Any]:
        first = yield from within(1, kinds("a", "b"))
        return first, (yield from kinds("c", "d"))

    assert timed(within(3, program()), Clock()) == (["servfail", "overdue"], ["servfail", "servfail"])
    assert timed(within(1, within(3, kinds("a", "b"))), Clock()) == ["servfail", "overdue"]


def test_what_is_to_be_kept_is_kept_whatever_time_it_is() -> None:
    entry = Entry(checked=START, used=START)

    def program() -> Program[Any]:
        found = yield from kinds("a", "b")
        return found, (yield from ask(StorePolicy("client.test", entry)))

    clock = Clock()
    assert timed(within(1, program()), clock) == (["servfail", "overdue"], None)
    assert clock.asked == ["a", "store"]


def test_under_asyncio_what_takes_too_long_is_cancelled_and_answered_here() -> None:
    async def main() -> tuple[Any, list[str]]:
        cancelled: list[str] = []

        async def perform(effect: Any) -> Any:
            if isinstance(effect, Lookup) and effect.name != "quick":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(effect.name)
                    raise
            return failed(effect) if isinstance(effect, Lookup) else None

        def program() -> Program[Any]:
            found = yield from together(kinds("quick", "a", "b"), kinds("c"))
            return found, (yield from ask(StorePolicy("client.test", Entry(checked=START, used=START))))

        return await adrive(within(0.01, program()), perform), cancelled

    found, cancelled = asyncio.run(main())
    assert found == ((["servfail", "overdue", "overdue"], ["overdue"]), None)
    assert sorted(cancelled) == ["a", "c"]


def test_a_cancellation_from_outside_is_none_of_the_limits() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def perform(_: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(adrive(within(3600, kinds("a")), perform))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# --- by hand


def run(program: Program[Any]) -> tuple[Any, list[list[str]]]:
    """The program's return value, and the names in each of its batches."""
    stepped, seen = batches(program), list[list[str]]()
    results: Any = None
    while True:
        try:
            batch: Any = stepped.send(results)
        except StopIteration as stop:
            return stop.value, seen
        seen.append([effect.name for effect in batch])
        results = [failed(effect) for effect in batch]


def test_by_hand_branches_are_stepped_side_by_side() -> None:
    returned, seen = run(together(walk("a1", "a2", "a3"), walk(), together(walk("c1"), walk("d1", "d2"))))
    assert returned == (("a1", "a2", "a3"), (), (("c1",), ("d1", "d2")))
    assert seen == [["a1", "c1", "d1"], ["a2", "d2"], ["a3"]]


def test_by_hand_too_no_more_branches_are_under_way_than_may_be() -> None:
    returned, seen = run(in_turn([walk("a1", "a2"), walk("b1"), walk("c1"), walk()], 2))
    assert returned == (("a1", "a2"), ("b1",), ("c1",), ())
    assert seen == [["a1", "b1"], ["a2", "c1"]]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_answered_by_one_of_another_length_is_refused(count: int) -> None:
    stepped = batches(together(walk("a"), walk("b")))
    stepped.send(None)  # type: ignore[arg-type]  # None starts a generator
    with pytest.raises(ValueError, match="another length"):
        stepped.send([failed(lookup("a"))] * count)
