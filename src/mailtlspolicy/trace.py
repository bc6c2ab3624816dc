"""Why a decision was made: one step a clause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@frozen
class Step:
    """One step of a decision.

    Attributes:
        clause: where the rule stands, as "RFC 7672 section 2.2.2", or the `Config` option that settled it.
        fact: what was seen.
        effect: what followed from it.
    """

    clause: str
    fact: str
    effect: str

    def to_json(self) -> dict[str, str]:
        """The JSON form: {"clause", "fact", "effect"}."""
        return {"clause": self.clause, "fact": self.fact, "effect": self.effect}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        """Read what `to_json` wrote; anything else raises `KeyError` or `TypeError`."""
        return cls(data["clause"], data["fact"], data["effect"])


def explain(trace: Iterable[Step], indent: str = "") -> str:
    """Render a trace for people, one clause a line."""
    return "\n".join(f"{indent}{step.clause}: {step.fact}: {step.effect}" for step in trace)


def counted(number: int, noun: str) -> str:
    """A number and its noun, for a step: "1 address", "2 addresses"."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
