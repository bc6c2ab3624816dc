"""A DER encoder for certificates that no certificate builder would make.

Only what the generator needs; every function returns the octets of one TLV.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache, reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BOOLEAN_TRUE = b"\x01\x01\xff"
NULL = b"\x05\x00"

# Universal tags of what stands in names, right or wrong, with the Python codec of each.
STRING_CODECS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, read as Latin-1 by everybody
    0x16: "ascii",  # IA5String
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


def tlv(tag: int, *parts: bytes) -> bytes:
    """One tag, its length and its value."""
    value = b"".join(parts)
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE."""
    return tlv(0x30, *parts)


def set_of(*parts: bytes) -> bytes:
    """A SET OF, its elements in DER order."""
    return tlv(0x31, *sorted(parts))


def integer(value: int) -> bytes:
    """An INTEGER of any sign."""
    return tlv(0x02, value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True))


def octet_string(value: bytes) -> bytes:
    """An OCTET STRING."""
    return tlv(0x04, value)


def bit_string(value: bytes, unused: int = 0) -> bytes:
    """A BIT STRING."""
    return tlv(0x03, bytes((unused,)), value)


def named_bits(numbers: Iterable[int]) -> bytes:
    """A BIT STRING of named bits, without trailing zeros (X.690 section 11.2.2)."""
    chosen = set(numbers)
    if not chosen:
        return bit_string(b"")
    count = max(chosen) // 8 + 1
    value = sum(1 << (count * 8 - 1 - number) for number in chosen)
    return bit_string(value.to_bytes(count, "big"), count * 8 - 1 - max(chosen))


@cache
def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    return tlv(0x06, b"".join(_base_128(arc) for arc in (first * 40 + second, *rest)))


def _base_128(arc: int) -> bytes:
    groups = [arc & 0x7F]
    while arc := arc >> 7:
        groups.append(0x80 | arc & 0x7F)
    return bytes(reversed(groups))


def string(tag: int, text: str) -> bytes:
    """A character string of the given type; characters that the type lacks become "?"."""
    return tlv(tag, text.encode(STRING_CODECS[tag], "replace"))


@cache
def time(seconds: int, *, generalized: bool = False) -> bytes:
    """A Time: UTCTime up to 2049, GeneralizedTime beyond (RFC 5280 section 4.1.2.5) or where asked for."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    if generalized or not 1950 <= moment.year < 2050:
        return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())
    return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def explicit(number: int, inner: bytes) -> bytes:
    """A constructed context-specific tag around one TLV."""
    return tlv(0xA0 | number, inner)


def implicit(number: int, value: bytes) -> bytes:
    """A primitive context-specific tag in place of another."""
    return tlv(0x80 | number, value)


def flip(octets: bytes, position: int, bits: int = 1) -> bytes:
    """The same octets with some bits of one octet inverted."""
    return reduce(bytes.__add__, (octets[:position], bytes((octets[position] ^ bits,)), octets[position + 1 :]))
