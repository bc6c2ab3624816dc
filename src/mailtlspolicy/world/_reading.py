"""What the readers of all parts share: a value passes a check, or `ValueError` says what is due at its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from mailtlspolicy.x509.pem import certificates_from_pem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Set

_K = TypeVar("_K")
_T = TypeVar("_T")


def once(pairs: Iterable[tuple[_K, _T]], where: str) -> dict[_K, _T]:
    """A dictionary in which no key was given before, in whatever spelling."""
    found: dict[_K, _T] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{where}: {key!r:.80} is given twice")
        found[key] = value
    return found


def as_object(value: Any, where: str, keys: Set[str] | None = None) -> Mapping[str, Any]:
    """The value, which has to be an object with no other keys than these."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: an object is due, not {value!r:.60}")
    if keys is not None and (unknown := value.keys() - keys):
        raise ValueError(f"{where}: there is no key {min(unknown, key=str)!r}, but {', '.join(sorted(keys))}")
    return value


def as_list(value: Any, where: str) -> list[Any]:
    """The value, which has to be a list."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: a list is due, not {value!r:.60}")
    return value


def as_number(value: Any, where: str, least: int, most: int) -> int:
    """The value, which has to be a whole number in these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{where}: a number from {least} to {most} is due, not {value!r:.60}")
    return value


def as_boolean(value: Any, where: str) -> bool:
    """The value, which has to be true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{where}: true or false is due, not {value!r:.60}")
    return value


def as_text(value: Any, where: str) -> str:
    """The value, which has to be a text."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: a text is due, not {value!r:.60}")
    return value


def as_texts(values: Any, where: str) -> tuple[str, ...]:
    """The values of what has to be a list of texts."""
    return tuple(as_text(value, where) for value in as_list(values, where))


def as_one_of(value: Any, words: Collection[str], where: str) -> str:
    """The value, which has to be one of these words."""
    if value not in tuple(words):  # what has no hash is none of them either
        raise ValueError(f"{where}: one of {', '.join(words)} is due, not {value!r:.60}")
    return str(value)


def read_certificates(entries: Any, where: str, base: Path | None) -> tuple[bytes, ...]:
    """The DER octets of `pem:` texts and of PEM files below the base folder."""
    return tuple(der for entry in as_list(entries, where) for der in certificates_from_pem(_pem_text(entry, base)))


def _pem_text(entry: Any, base: Path | None) -> str:
    if not isinstance(entry, str):
        raise ValueError(f"a certificate is a file name or a pem: text, not {entry!r:.60}")
    if entry.startswith("pem:"):
        return entry.removeprefix("pem:")
    path = PurePosixPath(entry)
    if base is None or path.is_absolute() or ".." in path.parts or "\\" in entry:
        raise ValueError(f"{entry!r} is not a file below the world's folder")
    try:
        return (base / path).read_text("ascii")
    except OSError as error:
        raise ValueError(f"{entry!r} can not be read: {error.strerror}") from error
