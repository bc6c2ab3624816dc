"""Driving programs in tests: what tells them the time, and puts hosts in order, beside a performer for all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mailtlspolicy.effects import Moment, Now
from mailtlspolicy.plan.mx import Shuffle
from tests.authority import NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


def at(perform: Callable[[Any], Any], now: datetime = NOW) -> Callable[[Any], Any]:
    """A performer whose clock stands still, and that leaves hosts in their order."""

    def perform_or_tell(effect: Any) -> Any:
        if isinstance(effect, Now):
            return Moment(now, 0.0)
        return effect.hosts if isinstance(effect, Shuffle) else perform(effect)

    return perform_or_tell
