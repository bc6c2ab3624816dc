"""A mail taken apart into its parts: RFC 5322, RFC 2045 to 2047 and RFC 2231, as far as a report needs them.

Header fields are read by `email`. The parts are not: it would take multiparts within multiparts apart in time that
grows with the product of their depth and the lines, and has no bounds.
"""

from __future__ import annotations

import binascii
import re
from email.parser import HeaderParser
from email.policy import compat32
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

MAX_PARTS = 100  # of a mail, multiparts among them; RFC 8460 section 5.3 has three
MAX_DEPTH = 8  # of multiparts in multiparts; section 5.3 has one, signatures and mailing lists wrap another around it
MAX_HEADER = 256 * 2**10  # octets of header fields that are read of a mail; twice what Postfix takes of one field
MAX_HEADER_LINES = 5000  # of a mail, or of a part: honest ones have a hundred or two
MAX_PART_HEADER = 16 * 2**10  # of a part, which has three fields as a rule
MAX_PARAMETERS = 8192  # octets of a field with parameters: a file name of 600, each octet percent-encoded, four times

_SPAN = 2**18  # octets decoded at once, so that no copy of a whole mail is made on the way
_FOLD_AND_BLANKS = re.compile(r"\r?\n[ \t]+")
_HEADER_END = re.compile(rb"(?:\A|\r?\n)\r?\n")
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,75}\?([QqBb])\?([^?\s]*)\?=")  # RFC 2047 section 2
_BETWEEN_WORDS = re.compile(r"(?<=\?=)[ \t\r\n]+(?==\?)")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


def split(octets: bytes | memoryview, most: int) -> tuple[Message, memoryview]:
    """The header fields of a mail or part, in UTF-8 (RFC 6532), and its body.

    Where the fields go on for four times as many octets as are read of them, nothing else is looked for.
    """
    match = _HEADER_END.search(octets, 0, 4 * most)
    end, start = (len(octets), len(octets)) if match is None else match.span()
    lines = str(octets[: min(end, most)], "utf-8", "replace").split("\n", MAX_HEADER_LINES)[:MAX_HEADER_LINES]
    return HeaderParser(policy=compat32).parsestr("\n".join(lines)), memoryview(octets)[start:]


def leaves(octets: bytes) -> Iterator[tuple[Message, memoryview]]:
    """The parts that are no multiparts, in order: the header fields of each, and its body."""
    pending, seen = [(memoryview(octets), 0)], 0
    while pending and seen < MAX_PARTS:
        entity, depth = pending.pop()
        seen += 1
        header, body = split(entity, MAX_PART_HEADER if depth else MAX_HEADER)
        boundary = parameter(header, "boundary") if header.get_content_maintype() == "multipart" else None
        if not boundary:
            yield header, body
        elif depth < MAX_DEPTH:
            inner = islice(_bodies(body, boundary.rstrip()), MAX_PARTS)
            pending += reversed([(part, depth + 1) for part in inner])


def _bodies(body: memoryview, boundary: str) -> Iterator[memoryview]:
    """The parts of a multipart (RFC 2046 section 5.1.1); the last one may lack its end."""
    mark = re.escape(boundary.encode("utf-8", "replace"))
    start: int | None = None
    for match in re.finditer(rb"--" + mark + rb"(--)?[ \t]*(?=\r?\n|\Z)", body):
        if match.start() and body[match.start() - 1] != ord("\n"):
            continue
        if start is not None:
            yield _inner(body[start : match.start()])
        start = match.end()
        if match[1]:
            return
    if start is not None:
        yield _inner(body[start:])


def _inner(octets: memoryview) -> memoryview:
    """What stands between two delimiters, without the line ends that are theirs."""
    for end in (b"\r", b"\n"):
        octets = octets[bytes(octets[:1]) == end :]
    for end in (b"\n", b"\r"):
        octets = octets[: len(octets) - (bytes(octets[-1:]) == end)]
    return octets


def content(header: Message, body: memoryview) -> bytes | bytearray:
    """What a part holds, decoded as well as can be (RFC 2045 section 6)."""
    encoding = field_text(header, "Content-Transfer-Encoding").strip().lower()
    if encoding == "base64":
        return _base64(body)
    return binascii.a2b_qp(body) if encoding == "quoted-printable" else bytes(body)


def _base64(octets: bytes | memoryview) -> bytearray:
    """Octets in base64; what is not of its alphabet is ignored (RFC 2045 section 6.8), and so is what is cut."""
    found, rest = bytearray(), b""
    for start in range(0, len(octets), _SPAN):
        text, end, _ = bytes(octets[start : start + _SPAN]).partition(b"=")
        rest += text.translate(None, _NOT_BASE64)
        whole = len(rest) // 4 * 4
        found += binascii.a2b_base64(rest[:whole])
        rest = rest[whole:]
        if end:
            break
    if len(rest) > 1:
        found += binascii.a2b_base64(rest + b"=" * (4 - len(rest)))
    return found


def file_name(part: Message) -> str | None:
    """The file name of a part, unfolded: a report's name has no blanks, so those of a fold are none of it."""
    text = parameter(part, "filename", "Content-Disposition") or parameter(part, "name")
    return None if text is None else decoded_words(_FOLD_AND_BLANKS.sub("", text)).strip()


def field_text(header: Message, name: str) -> str:
    """The first header field of this name, empty where there is none."""
    return str(header.get(name, ""))[:MAX_PARAMETERS]


def parameter(header: Message, name: str, field_name: str = "Content-Type") -> str | None:
    """A parameter of a header field, put together and decoded by RFC 2231 but for its character set: ours are ASCII."""
    if len(str(header.get(field_name, ""))) > MAX_PARAMETERS:
        return None
    try:
        found = header.get_param(name, header=field_name)
    except (ValueError, TypeError):  # an ill-numbered continuation
        return None
    return found[2] if isinstance(found, tuple) else found


def decoded_words(text: str) -> str:
    """A text with its encoded words decoded (RFC 2047), whatever their character set: ours are ASCII."""
    return _ENCODED_WORD.sub(_decoded_word, _BETWEEN_WORDS.sub("", text))


def _decoded_word(match: re.Match[str]) -> str:
    octets = match[2].encode("ascii", "replace")
    decoded = _base64(octets) if match[1] in "Bb" else binascii.a2b_qp(octets, header=True)
    return decoded.decode("utf-8", "replace")
