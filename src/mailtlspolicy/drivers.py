"""Run a program: perform the effects it yields with whatever the caller injected, and send the results back.

`drive` runs the branches of a `Fork` one after the other, each to its end; `adrive` runs them under asyncio, each on
its own. A program can also be driven by any other loop, or stepped by hand: `batches` then unfolds its forks, and `end`
gives it up. The documentation ("In your own event loop") has both.

What a performer raises is thrown into the program, whose `finally` closes what it had opened; then it goes through to
the caller. A failure of the outside world is a result, so an exception is a defect or a cancellation.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, TypeVar

from mailtlspolicy.effects import Fork, OwnFailure

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from mailtlspolicy.effects import Effect, Program

T = TypeVar("T")
_Wanted = TypeVar("_Wanted")
_Told = TypeVar("_Told")

# What is raised for want of descriptors, memory or threads, and means nothing else where an effect is performed
OWN_ERRORS = OSError, MemoryError, RuntimeError

OVERDUE = "the time given was up"


def drive(program: Program[T], perform: Callable[[Any], Any], elapsed: Callable[[], float] = time.monotonic) -> T:
    """Run a program to its end and return what it returns.

    Args:
        program: a program that has not been started.
        perform: performs one effect and returns its result. It is not given any `Fork`.
        elapsed: seconds on a clock that is never put back, looked at before each effect that has a time limit. One that
            takes longer is not interrupted.
    """
    return _drive(program, perform, elapsed, math.inf)


def _drive(program: Program[T], perform: Callable[[Any], Any], elapsed: Callable[[], float], end: float) -> T:
    step: Callable[[Any], Effect[Any]] = program.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            step, value = program.send, _perform(effect, perform, elapsed, end)
        except BaseException as error:  # noqa: BLE001  # the program may have something to close; it raises it again
            step, value = program.throw, error


def _perform(effect: Effect[Any], perform: Callable[[Any], Any], elapsed: Callable[[], float], end: float) -> Any:
    if isinstance(effect, Fork):
        if effect.seconds is not None:
            end = min(end, elapsed() + effect.seconds)
        return tuple([_drive(program, perform, elapsed, end) for program in effect.programs])
    if effect.is_timed and end < math.inf and elapsed() >= end:
        return effect.own_failure(OwnFailure.OVERDUE, OVERDUE)
    return perform(effect)


async def adrive(program: Program[T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """Run a program under asyncio, the branches of a fork concurrently; otherwise as `drive`.

    If a branch raises, or the caller is cancelled, the other branches are cancelled too, and awaited. The time limit of
    a fork cancels what is being performed when it is up.
    """
    return await _adrive(program, perform, None)


async def _adrive(program: Program[T], perform: Callable[[Any], Awaitable[Any]], limit: _Limit | None) -> T:
    step: Callable[[Any], Effect[Any]] = program.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            if isinstance(effect, Fork):
                value = await _fork(effect, perform, limit)
            elif limit is not None and effect.is_timed:
                value = await limit.perform(effect, perform)
            else:
                value = await perform(effect)
            step = program.send
        except BaseException as error:  # noqa: BLE001  # as above
            step, value = program.throw, error


async def _fork(fork: Fork, perform: Callable[[Any], Awaitable[Any]], limit: _Limit | None) -> tuple[Any, ...]:
    # Here and not above: importing the library loads no event loop.
    import asyncio  # noqa: PLC0415

    own = None if fork.seconds is None else _Limit(fork.seconds, limit)
    try:
        if len(fork.programs) == 1:
            return (await _adrive(fork.programs[0], perform, own or limit),)
        places = None if fork.at_once is None else asyncio.Semaphore(fork.at_once)

        async def branch(program: Program[Any]) -> Any:
            if places is None:
                return await _adrive(program, perform, own or limit)
            async with places:
                return await _adrive(program, perform, own or limit)

        if not fork.programs:
            return ()
        tasks = [asyncio.ensure_future(branch(program)) for program in fork.programs]
        try:
            # Not `gather`, which cancels the branches by itself: a second cancellation would hit what they close
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # raises what its branch has raised
            return tuple([task.result() for task in tasks])
        except BaseException:
            await _give_up(tasks)
            raise
    finally:
        if own is not None:
            own.stop()


async def _give_up(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel branches and wait until they have closed what they had opened, however often we are cancelled."""
    import asyncio  # noqa: PLC0415

    pending = {task for task in tasks if not task.done()}
    for task in pending:
        task.cancel()
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:  # noqa: PERF203
            pending = {task for task in pending if not task.done()}
            for task in pending:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # which has been seen: one of them is raised


class _Limit:
    """The end of the time of a fork under asyncio: one timer, which cancels what is being performed then."""

    def __init__(self, seconds: float, outer: _Limit | None) -> None:
        import asyncio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        own = loop.time() + seconds
        self.end: float = own if outer is None else min(own, outer.end)
        self._is_over = False
        self._performing: set[asyncio.Task[Any]] = set()
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._timer = loop.call_at(self.end, self._expire)

    async def perform(self, effect: Effect[Any], perform: Callable[[Any], Awaitable[Any]]) -> Any:
        """Perform an effect, or give it up when the time is up."""
        import asyncio  # noqa: PLC0415

        if self._is_over:
            return effect.own_failure(OwnFailure.OVERDUE, OVERDUE)
        task = asyncio.current_task()
        assert task is not None
        self._performing.add(task)
        try:
            return await perform(effect)
        except asyncio.CancelledError:
            if task not in self._cancelled or _still_cancelled(task):
                raise
            return effect.own_failure(OwnFailure.OVERDUE, OVERDUE)
        finally:
            self._performing.discard(task)
            self._cancelled.discard(task)

    def stop(self) -> None:
        """Take the timer away."""
        self._timer.cancel()

    def _expire(self) -> None:
        self._is_over = True
        for task in self._performing:
            self._cancelled.add(task)
            task.cancel()


def _still_cancelled(task: asyncio.Task[Any]) -> bool:
    """Take our own cancellation back; whether there is another, by somebody else (which Python 3.10 can not tell)."""
    uncancel = getattr(task, "uncancel", None)
    return uncancel is not None and uncancel() > 0


def batches(program: Program[T]) -> Generator[tuple[Effect[Any], ...], Sequence[Any], T]:
    """Unfold the forks of a program, for who steps it by hand: it yields batches of effects, and is sent their results.

    What all branches want next is one batch, so a step lasts as long as its slowest effect. Time limits are the
    caller's: `Effect.own_failure` makes the result of a timed effect that took too long.
    """
    step: Callable[[Any], Effect[Any]] = program.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            if isinstance(effect, Fork):
                value = yield from _side_by_side([batches(branch) for branch in effect.programs], effect.at_once)
            else:
                (value,) = yield (effect,)
            step = program.send
        except GeneratorExit:
            program.close()
            raise
        except BaseException as error:  # noqa: BLE001  # as above
            step, value = program.throw, error


def _side_by_side(
    branches: Sequence[Generator[tuple[Effect[Any], ...], Sequence[Any], Any]], at_once: int | None
) -> Generator[tuple[Effect[Any], ...], Sequence[Any], tuple[Any, ...]]:
    """Step branches in lockstep, no more than a number of them at once."""
    returned: dict[int, Any] = {}
    wanted: dict[int, tuple[Effect[Any], ...]] = {}
    errors: list[BaseException] = []
    ahead = iter(range(len(branches)))

    def step(index: int, advance: Callable[[Any], tuple[Effect[Any], ...]], value: Any) -> None:
        try:
            wanted[index] = advance(value)
        except StopIteration as stop:
            returned[index] = stop.value
        except BaseException as error:  # noqa: BLE001  # raised below, when the others have ended
            errors.append(error)

    is_given_up = False
    while True:
        while not errors and (at_once is None or len(wanted) < at_once) and (new := next(ahead, None)) is not None:
            step(new, branches[new].send, None)
        if errors and not is_given_up:
            is_given_up = True
            for index in sorted(wanted):
                del wanted[index]
                step(index, branches[index].throw, errors[0])
        if not wanted:
            break
        batch = dict(sorted(wanted.items()))
        wanted.clear()
        try:
            results = yield tuple(effect for effects in batch.values() for effect in effects)
            if len(results) != sum(map(len, batch.values())):
                raise ValueError("a batch of effects was answered by a batch of another length")
        except GeneratorExit:
            for index in batch:
                branches[index].close()
            raise
        except BaseException as error:  # noqa: BLE001  # thrown into each branch
            errors.append(error)
            is_given_up = True
            for index in batch:
                step(index, branches[index].throw, error)
            continue
        start = 0
        for index, effects in batch.items():
            step(index, branches[index].send, results[start : start + len(effects)])
            start += len(effects)
    if errors:
        raise errors[0]
    return tuple(returned[index] for index in range(len(branches)))


class Ended(BaseException):
    """What `end` throws into a program. No fence takes it for a failure."""


def end(program: Generator[_Wanted, _Told, Any], perform: Callable[[_Wanted], _Told]) -> None:
    """Give up a program that was stepped by hand, and perform what it still yields: it closes what it had opened.

    Args:
        program: a program, or what `batches` made of one; started, ended or neither.
        perform: performs what it yields, an effect or a batch.
    """
    try:
        wanted = program.throw(Ended())
        while True:
            wanted = program.send(perform(wanted))
    except (Ended, StopIteration):
        pass
