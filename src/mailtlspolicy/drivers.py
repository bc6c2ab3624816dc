"""Run a program: perform the effects it yields with whatever the caller injected, and send the results back.

`drive` performs a batch one effect after the other, `adrive` all of it at once. A program can also be stepped by hand
with `.send()`, which is all that these two do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mailtlspolicy.effects import Effect, Program

T = TypeVar("T")


def drive(program: Program[T], perform: Callable[[Effect[Any]], Any]) -> T:
    """Run a program to its end and return what it returns.

    Args:
        program: a program that has not been started.
        perform: performs one effect and returns its result. What it raises goes through to the caller: a failure of
            the outside world is a result, so an exception is a defect or a cancellation.
    """
    results: list[Any] | None = None
    while True:
        try:
            batch = program.send(results)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as stop:
            result: T = stop.value
            return result
        results = [perform(effect) for effect in batch]


async def adrive(program: Program[T], perform: Callable[[Effect[Any]], Awaitable[Any]]) -> T:
    """Run a program under asyncio, a batch of effects concurrently; otherwise as `drive`.

    If one effect of a batch raises, or the caller is cancelled, the others are cancelled too.
    """
    results: list[Any] | None = None
    while True:
        try:
            batch = program.send(results)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as stop:
            result: T = stop.value
            return result
        results = [await perform(batch[0])] if len(batch) == 1 else await _all(batch, perform)


async def _all(batch: tuple[Effect[Any], ...], perform: Callable[[Effect[Any]], Awaitable[Any]]) -> list[Any]:
    # Here and not above: importing the library loads no event loop.
    import asyncio  # noqa: PLC0415

    tasks = [asyncio.ensure_future(perform(effect)) for effect in batch]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
