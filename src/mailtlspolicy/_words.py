"""The base of the library's enumerations: strings with the field's own words."""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A string enumeration that prints and formats as its value (`enum.StrEnum`, which Python 3.10 lacks)."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"{value!r} is none of {', '.join(cls)}")

    def __str__(self) -> str:
        return str.__str__(self)

    def __format__(self, spec: str) -> str:
        return str.__format__(self, spec)
