"""The version that JSON forms carry: within it keys are only ever added, and words keep their meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1


def require_version(data: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a JSON form is of a version that this library can not read."""
    if isinstance(data["version"], bool) or data["version"] != VERSION:
        raise ValueError(f"version {data['version']!r} of a JSON form can not be read, only {VERSION}")
