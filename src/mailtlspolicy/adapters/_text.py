"""What the world said, made fit for a detail text: short, one line, nothing that a terminal would act on."""

from __future__ import annotations

import os

_MAX_TEXT = 200


def printable(octets: bytes) -> str:
    """Text of a peer for people: at most 200 characters, odd octets shown as U+FFFD or "?"."""
    text = octets.decode("utf-8", "replace").strip()
    return "".join(character if character.isprintable() else "?" for character in text[:_MAX_TEXT])


def reason(error: BaseException) -> str:
    """Why an operation failed, in a few words."""
    # asyncio, which not all adapters import, has one of its own until Python 3.11
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return "timed out"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    if text.startswith("Connect call failed") and isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)  # asyncio says that whatever the cause
    return printable(text.encode("utf-8", "replace"))
