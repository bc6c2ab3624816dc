"""The two drivers run the same programs; the asynchronous one performs a batch at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import adrive, drive
from mailtlspolicy.effects import Lookup, RecordType, ask, together

if TYPE_CHECKING:
    from mailtlspolicy.effects import Program

A, B, C = (Lookup(name, RecordType.A) for name in ("a", "b", "c"))


def program() -> Program[Any]:
    first = yield from together(ask(A), ask(B))
    last = yield from ask(C)
    return (*first, last)


def test_drive_performs_effects_in_order_and_returns_the_programs_value() -> None:
    performed: list[Any] = []

    def perform(effect: Any) -> str:
        performed.append(effect)
        return f"<{effect.name}>"

    assert drive(program(), perform) == ("<a>", "<b>", "<c>")
    assert performed == [A, B, C]


def test_adrive_performs_a_batch_concurrently_and_keeps_its_order() -> None:
    async def main() -> Any:
        b_done = asyncio.Event()

        async def perform(effect: Any) -> str:
            if effect == A:
                await b_done.wait()  # never returns unless B is performed at the same time
            elif effect == B:
                b_done.set()
            return f"<{effect.name}>"

        return await asyncio.wait_for(adrive(program(), perform), 5)

    assert asyncio.run(main()) == ("<a>", "<b>", "<c>")


def test_what_a_performer_raises_reaches_the_caller() -> None:
    def perform(_: Any) -> Any:
        raise RuntimeError("defect")

    async def aperform(_: Any) -> Any:
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError, match="defect"):
        drive(program(), perform)
    with pytest.raises(RuntimeError, match="defect"):
        asyncio.run(adrive(program(), aperform))


def test_when_one_effect_of_a_batch_raises_no_other_is_left_running() -> None:
    async def main() -> list[str]:
        finished: list[str] = []

        async def perform(effect: Any) -> Any:
            if effect == A:
                raise RuntimeError("defect")
            await asyncio.sleep(0.01)
            finished.append(effect.name)

        with pytest.raises(RuntimeError, match="defect"):
            await adrive(program(), perform)
        await asyncio.sleep(0.05)
        return finished

    assert asyncio.run(main()) == []
