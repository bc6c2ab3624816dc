"""Times as the library has them: aware, in UTC, where no clock is put back."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_LAST = datetime.max.replace(tzinfo=timezone.utc)


def from_iso(text: str) -> datetime:
    """Read a time in ISO 8601, where "Z" stands for UTC (which `datetime` itself reads since Python 3.11).

    Raises:
        ValueError: the text is none.
    """
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def in_utc(time: datetime) -> datetime:
    """The same time in UTC.

    Raises:
        ValueError: the time is naive, or there is none like it in UTC.
    """
    if time.utcoffset() is None:
        raise ValueError("a time has to be aware of its zone")
    try:
        return time.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"there is no {time} in UTC") from None


def later(time: datetime, delay: timedelta) -> datetime:
    """A time in UTC after a delay, at most the last one that there is."""
    return time + min(delay, _LAST - time)
