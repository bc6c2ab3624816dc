"""How a check says what is wrong: an `AssertionError` with one sentence, whatever flags Python runs with."""

from __future__ import annotations


def expect(got: object, expected: object, what: str) -> None:
    """Raise an `AssertionError` that shows both where they differ."""
    if got != expected:
        raise AssertionError(f"{what}: {got!r:.500} in place of {expected!r:.500}")


def require(holds: bool, what: str) -> None:  # noqa: FBT001
    """Raise an `AssertionError` that says this where it does not hold."""
    if not holds:
        raise AssertionError(what)
