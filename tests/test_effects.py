"""`ask` and `together`, the two helpers that compose programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy.effects import Answer, Lookup, LookupFailure, RecordType, ask, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.effects import Program


def question(name: str) -> Lookup:
    return Lookup(name, RecordType.A)


def answer(effect: Any) -> Answer:
    return Answer(effect, secure=True, records=(f"address of {effect.name}",))


def walk(*names: str) -> Program[list[str]]:
    """Ask for one name after the other."""
    found = []
    for name in names:
        result = yield from ask(question(name))
        assert not isinstance(result, LookupFailure)
        assert result.question.name == name
        found.append(str(result.records[0]))
    return found


def run(program: Program[Any]) -> tuple[Any, list[list[str]]]:
    """The program's return value, and the names in each of its batches."""
    batches: list[list[str]] = []
    results: Any = None
    while True:
        try:
            batch: Any = program.send(results)
        except StopIteration as stop:
            return stop.value, batches
        batches.append([effect.name for effect in batch])
        results = [answer(effect) for effect in batch]


def test_ask_yields_its_one_effect_and_returns_the_result() -> None:
    assert run(walk("a")) == (["address of a"], [["a"]])


def test_programs_side_by_side_cost_the_steps_of_the_longest_and_return_in_order() -> None:
    returned, batches = run(together(walk("a1", "a2", "a3"), walk(), walk("c1"), walk("d1", "d2")))
    assert returned == (
        ["address of a1", "address of a2", "address of a3"],
        [],
        ["address of c1"],
        ["address of d1", "address of d2"],
    )
    assert batches == [["a1", "c1", "d1"], ["a2", "d2"], ["a3"]]


def test_together_nests_and_still_merges_the_batches_of_a_step() -> None:
    inner = together(walk("b1"), walk("c1", "c2"))
    returned, batches = run(together(together(walk("a1", "a2")), inner))
    assert returned == ((["address of a1", "address of a2"],), (["address of b1"], ["address of c1", "address of c2"]))
    assert batches == [["a1", "b1", "c1"], ["a2", "c2"]]


def test_no_programs_ask_nothing() -> None:
    assert run(together()) == ((), [])


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3]])
def test_a_batch_answered_by_one_of_another_length_is_refused(results: Sequence[Any]) -> None:
    program = together(walk("a"), walk("b"))
    program.send(None)  # type: ignore[arg-type]  # None starts a generator
    with pytest.raises(ValueError, match="another length"):
        program.send(results)
