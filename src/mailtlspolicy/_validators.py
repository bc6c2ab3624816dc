"""The check that a field is of its type, for attrs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute


def instance_of(kind: type) -> Callable[[Any, Attribute[Any], Any], None]:
    """As `attrs.validators.instance_of`, which tells the whole value: here it may be somebody's mail.

    Raises, when the field is set:
        TypeError: the value is of another type; the text names both types, and nothing of the value.
    """

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"{attribute.name} is a {kind.__name__}, not a {type(value).__name__}")

    return check
