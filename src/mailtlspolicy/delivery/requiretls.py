r"""What a message is tagged with on receipt, and how it is bounced (RFC 8689 sections 2, 3, 4.1 and 5).

- The MAIL parameter REQUIRETLS, in any case and without a value, tags the message; the header field is then ignored.
- Otherwise the one header field "TLS-Required: No" tags it. More than one field is malformed, and any other value
  undefined: both are ignored, since either would lower what the recipient's policy demands.

>>> read_tags(["SIZE=1000"], b"From: a@sender.example\r\nTLS-Required: no\r\n\r\n")
Tags(requiretls=False, tls_optional=True)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KEYWORD = "REQUIRETLS"  # of EHLO and of MAIL (RFC 8689 section 2)
MAX_HEADER = 1024 * 1024  # octets looked at; mail servers commonly take header sections of 100 kB

_LINE_END = re.compile(rb"\r\n|\r|\n")


@frozen
class Tags:
    """What a message is tagged with (RFC 8689 section 4.1); at most one of the two holds.

    Attributes:
        requiretls: it needs REQUIRETLS handling.
        tls_optional: it bears "TLS-Required: No".
    """

    requiretls: bool
    tls_optional: bool

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"requiretls": self.requiretls, "tls_optional": self.tls_optional}


@frozen
class Notification:
    """How the non-delivery notification of a message is sent (RFC 8689 section 5).

    Attributes:
        requiretls: with the tag of the message itself.
        ret: the RET parameter of RFC 3461 to go by: "FULL", "HDRS", or None where the choice is the server's.
    """

    requiretls: bool
    ret: str | None

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with the reverse-path that every notification has."""
        return {"sender": "", "requiretls": self.requiretls, "ret": self.ret}


def read_tags(parameters: Iterable[str], content: bytes) -> Tags:
    """Tell what a received message is tagged with.

    Args:
        parameters: the parameters of its MAIL command, as "REQUIRETLS" or "SIZE=1000".
        content: the message, or its header section.

    Raises:
        ValueError: REQUIRETLS is given a value, or twice: a syntax error (501, RFC 5321 section 4.2.2).
    """
    if isinstance(parameters, str):
        raise TypeError("parameters is a sequence of texts, not one text")
    given = [name for name in map(str.upper, parameters) if name.partition("=")[0] == KEYWORD]
    if given and given != [KEYWORD]:
        raise ValueError(f"the parameter {KEYWORD} takes no value and is given once (RFC 8689 section 2)")
    return Tags(bool(given), not given and _says_no(content))


def notification(*, requiretls: bool, ret: str | None = None) -> Notification:
    """Tell how a message is bounced.

    Args:
        requiretls: it was tagged for REQUIRETLS handling.
        ret: what the RET parameter of its MAIL command asked to have returned, if there was one.
    """
    return Notification(requiretls, "HDRS" if requiretls else ret)


def _says_no(content: bytes) -> bool:
    """Whether there is one field, and it says no more than "No", in any case (RFC 8689 section 3).

    A bare CR or LF ends a line too: it will be sent as CRLF, and the next server will see it so.
    """
    lines = _LINE_END.split(content[:MAX_HEADER])
    if len(content) > MAX_HEADER and b"" not in lines[:-1]:
        return False  # there may be more fields behind
    values = [value for name, value in _fields(lines) if name.lower() == b"tls-required"]
    return len(values) == 1 and values[0].strip(b" \t").lower() == b"no"


def _fields(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The fields of a header section, up to the first empty line: names and unfolded values (RFC 5322 section 2.2)."""
    field: list[bytes] = []
    for line in (*lines, b""):
        if line[:1] in {b" ", b"\t"}:
            field.append(line)
            continue
        name, _, value = b"".join(field).partition(b":")
        yield name, value
        if not line:
            return
        field = [line]
