r"""SMTP replies (RFC 5321 section 4.2), read from octets as they come; no I/O.

- A reply is one or more lines with the same three-digit code. A hyphen behind the code says that another line follows;
  a blank, or nothing at all, that this is the last (section 4.2.1).
- The first digit decides: 2 is success, 3 intermediate, 4 transient and 5 permanent failure (section 4.2.1).
- Lines with different codes, or of any other form, are an error of the protocol, never a success.

>>> parser = ReplyParser()
>>> parser.feed(b"250-mx.example\r\n250-SIZE\r\n250 START")
>>> reply = parser.feed(b"TLS\r\n")
>>> reply.code, reply.keywords
(250, ('SIZE', 'STARTTLS'))
"""

from __future__ import annotations

import re

from mailtlspolicy.adapters._text import printable
from mailtlspolicy.delivery.session import Reply

MAX_LINE = 2048  # octets; RFC 5321 section 4.5.3.1.5 has 512, servers exceed it, Postfix reads 2048
MAX_LINES = 128  # servers announce some twenty extensions; banners of a few dozen lines are met

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)


class ReplyError(Exception):
    """What the server sends is not an SMTP reply, or more than one."""


class SurplusError(ReplyError):
    """Octets follow the reply that was awaited.

    Attributes:
        reply: that reply.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__("the server sent more than one reply")
        self.reply = reply


class ReplyParser:
    """Collects one reply. A line may end in LF alone: no decision hangs on it, and old servers do so."""

    def __init__(self) -> None:
        self._pending = b""
        self._code = 0
        self._lines: list[str] = []

    def feed(self, octets: bytes) -> Reply | None:
        """Take what was received; return the reply when it is whole, None while it is not.

        Raises:
            ReplyError: this is no reply, or too long a one.
            SurplusError: something follows it. Nothing may: the server speaks when it is spoken to, and behind the
                reply to STARTTLS an attacker would do so (RFC 3207 section 4).
        """
        *lines, self._pending = (self._pending + octets).split(b"\n")
        for index, line in enumerate(lines, 1):
            if self._is_last(line.removesuffix(b"\r")):
                reply = Reply(self._code, tuple(self._lines))
                if index < len(lines) or self._pending:
                    raise SurplusError(reply)
                return reply
        if len(self._pending) > MAX_LINE:
            raise ReplyError(f"a line of a reply has more than {MAX_LINE} octets")
        return None

    def _is_last(self, line: bytes) -> bool:
        match = _LINE.match(line)
        if match is None:
            raise ReplyError(f"{printable(line)!r} is no line of a reply")
        if len(line) > MAX_LINE:
            raise ReplyError(f"a line of a reply has more than {MAX_LINE} octets")
        code, separator, text = match.groups()
        if self._lines and int(code) != self._code:
            raise ReplyError("the lines of a reply have different codes")
        self._code = int(code)
        self._lines.append(printable(text or b""))
        if len(self._lines) > MAX_LINES:
            raise ReplyError(f"a reply has more than {MAX_LINES} lines")
        return separator != b"-"
