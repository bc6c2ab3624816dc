r"""SMTP replies (RFC 5321 section 4.2), read from octets as they come; no I/O.

- A reply is one or more lines with a three-digit code. A hyphen behind the code says that another line follows; a
  blank, or nothing at all, that this is the last (section 4.2.1).
- The first digit decides: 2 is success, 3 intermediate, 4 transient and 5 permanent failure (section 4.2.1). Lines
  whose codes differ in it, or that are of any other form, are an error of the protocol, never a success.
- What no decision hangs on is let pass, so that a refusal remains one: empty lines are skipped; of codes of one class
  the last line's counts; a line without a code, behind the first, is more text; of an overlong line the beginning is
  read. Not so in the reply to STARTTLS, on which everything hangs (RFC 3207 section 4).

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

MAX_LINE = 2048  # octets; RFC 5321 section 4.5.3.1.5 has 512, servers exceed it, Postfix too skips what is beyond 2048
MAX_LINES = 128  # servers announce some twenty extensions; banners of a few dozen lines are met
MAX_REPLY = MAX_LINE * MAX_LINES  # octets

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_TEXT = re.compile(rb"(?![0-9])")  # begins no other line of a reply
_NOTHING = b"", b"\r"  # between two LFs


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


class EarlyError(ReplyError):
    """A reply has come before what it could answer was sent.

    Attributes:
        reply: that reply.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__("the server answered before the end of what it was sent")
        self.reply = reply


class ReplyParser:
    """Collects one reply. A line may end in LF alone: no decision hangs on it, and old servers do so.

    Attributes:
        strict: nothing else is let pass: all lines have one code, none is empty or overlong.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._pending = b""  # a line that has not ended, or its beginning
        self._octets = 0
        self._count = 0  # of lines, empty ones too
        self._code = 0
        self._lines: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether there is more than empty lines."""
        return bool(self._lines) or self._pending not in _NOTHING

    def feed(self, octets: bytes) -> Reply | None:
        """Take what was received; return the reply when it is whole, None while it is not.

        Raises:
            ReplyError: this is no reply, or too long a one.
            SurplusError: something follows it. Nothing may: the server speaks when it is spoken to, and behind the
                reply to STARTTLS an attacker would do so (RFC 3207 section 4).
        """
        self._octets += len(octets)
        *lines, self._pending = (self._pending + octets).split(b"\n")
        for index, line in enumerate(lines, 1):
            if self._is_last(line.removesuffix(b"\r")):
                reply = Reply(self._code, tuple(self._lines))
                if self._is_surplus([*lines[index:], self._pending]):
                    raise SurplusError(reply)
                return reply
        if self._octets > MAX_REPLY:
            raise ReplyError(f"a reply has more than {MAX_REPLY} octets")
        if self.strict:
            self._check_length(self._pending)
        self._pending = self._pending[:MAX_LINE]
        return None

    def _is_surplus(self, rest: list[bytes]) -> bool:
        return any(rest) or len(rest) > 1 if self.strict else any(line not in _NOTHING for line in rest)

    def _is_last(self, line: bytes) -> bool:
        self._count += 1
        if self._count > MAX_LINES:
            raise ReplyError(f"a reply has more than {MAX_LINES} lines")
        if self.strict:
            self._check_length(line)
        elif not line:
            return False
        match = _LINE.match(line[:MAX_LINE])
        if match is None:
            if self._lines and _TEXT.match(line) and not self.strict:
                self._lines[-1] = printable(f"{self._lines[-1]} {printable(line)}".encode())
                return False
            raise ReplyError(f"{printable(line)!r} is no line of a reply")
        code, separator, text = int(match[1]), match[2], match[3]
        if self._lines and code != self._code and (self.strict or code // 100 != self._code // 100):
            raise ReplyError("the lines of a reply have different codes")
        self._code = code
        self._lines.append(printable(text or b""))
        return bool(separator != b"-")

    def _check_length(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise ReplyError(f"a line of a reply has more than {MAX_LINE} octets")
