"""The time that passes in a world because its parts take theirs."""

from __future__ import annotations

from typing import Any

from attrs import define

from mailtlspolicy.world._reading import as_number, as_object

MAX_TAKES = 10 * 366 * 86_400  # seconds that a part of a world may take: ten years, as much as any policy lives


@define
class Passing:
    """What has passed of a world's time, in seconds, because its parts take theirs."""

    seconds: int = 0

    def take(self, seconds: int) -> None:
        """Let time pass."""
        self.seconds += seconds


def read_takes(data: Any, where: str) -> int:
    """The seconds that a part of the world takes when it is asked."""
    return as_number(as_object(data, where).get("takes", 0), f"takes of {where}", 0, MAX_TAKES)
