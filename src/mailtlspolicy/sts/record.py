r"""The TXT record at `_mta-sts.<policy domain>`: RFC 8461 section 3.1.

    sts-text-record = sts-version 1*(sts-field-delim sts-field) [sts-field-delim]
    sts-field       = sts-id / sts-extension
    sts-field-delim = *WSP ";" *WSP
    sts-version     = %s"v=STSv1"
    sts-id          = %s"id=" 1*32(ALPHA / DIGIT)
    sts-extension   = sts-ext-name "=" sts-ext-value
    sts-ext-name    = (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")
    sts-ext-value   = 1*(%x21-3A / %x3C / %x3E-7E)

The grammar is taken as it stands, with these readings where it leaves something open:

- Blanks between the version and its semicolon are valid, although the prose wants records to begin with "v=STSv1;"
  (erratum 6285): the grammar allows them, and no other record can be meant.
- The first field that begins with "id=" is the id. If it is no sts-id the record is invalid, even though it would pass
  for an extension; what comes later is ignored, as any unknown or repeated field is (section 3.2).

>>> parse_record([b"v=STSv1; id=2026", b"0101;"]).id
'20260101'
>>> print(parse_record([b"v=STSv1; id=2026-01-01;"]))
id-invalid at octet 9
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mailtlspolicy._refusal import Reason, Refusal, Remark, RemarkKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VERSION = re.compile(rb"v=STSv1(?=[ \t]*;|\Z)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
# A field that is no known one, of this record and of that of RFC 8460 alike
EXTENSION = re.compile(rb"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=[\x21-\x3a\x3c\x3e-\x7e]+\Z")


@frozen
class StsRecord:
    """A valid TXT record.

    Attributes:
        id: names this instance of the policy; any other id is an update, ids have no order (RFC 8461 section 3.1).
        text: the record as published, its character-strings joined.
        warnings: what a linter would remark, by offset.
    """

    id: str
    text: str = field(eq=False)
    warnings: tuple[Remark, ...] = field(default=(), eq=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"id", "text", "warnings"}."""
        return {"id": self.id, "text": self.text, "warnings": [remark.to_json() for remark in self.warnings]}


def parse_record(txt_strings: Iterable[bytes | str]) -> StsRecord | Refusal:
    """Read one TXT record (RFC 8461 section 3.1).

    Args:
        txt_strings: its character-strings, which are joined without a separator; a `str` stands for its UTF-8 octets.

    Returns:
        The record, or why and where it is none; whatever octets it holds, nothing is raised.

    Raises:
        TypeError: the argument is not an iterable of strings.
    """
    text = joined(txt_strings)
    if _VERSION.match(text) is None:
        return Refusal(Reason.VERSION_INVALID, 0)
    found, warnings = None, []
    for start, part in fields(text):
        if found is None and part.startswith(b"id="):
            found = part.removeprefix(b"id=").decode("latin-1")
            if not is_id(found):
                return Refusal(Reason.ID_INVALID, start)
        elif (match := EXTENSION.match(part)) is None:
            return Refusal(Reason.FIELD_INVALID, start)
        else:
            known = match[1] in {b"v", b"id"}
            warnings.append(Remark(RemarkKind.DUPLICATE_FIELD if known else RemarkKind.UNKNOWN_FIELD, start))
    if found is None:
        return Refusal(Reason.ID_MISSING, len(text))
    if text[7:8] != b";":  # "v=STSv1" has seven octets
        warnings.insert(0, Remark(RemarkKind.BLANK_BEFORE_DELIMITER, 7))
    return StsRecord(found, text.decode("ascii"), tuple(warnings))


def is_id(text: str) -> bool:
    """Whether a text can be the id of a policy: 1 to 32 letters and digits."""
    return _ID.match(text) is not None


def announcements(records: Iterable[Sequence[bytes]]) -> tuple[Sequence[bytes], ...]:
    """The TXT records that count: those that begin with the version (RFC 8461 section 3.1).

    If there is not exactly one, the domain has no policy to discover.
    """
    return tuple(record for record in records if _announces(b"".join(record)))


def _announces(text: bytes) -> bool:
    return _VERSION.match(text) is not None and b";" in text


def joined(txt_strings: Iterable[bytes | str]) -> bytes:
    """The character-strings of one TXT record, joined; raises `TypeError` on a single one."""
    if isinstance(txt_strings, (bytes, str)):
        raise TypeError("parse_record takes the character-strings of one record, not one of them")
    return b"".join(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in txt_strings)


def fields(text: bytes) -> Iterable[tuple[int, bytes]]:
    """The fields after the version, without the blanks of their delimiters, and where each begins."""
    version, *parts = text.split(b";")
    end = len(version)
    for number, part in enumerate(parts, 1):
        field_text = part.lstrip(b" \t")
        start, end = end + 1 + len(part) - len(field_text), end + 1 + len(part)
        if number < len(parts):
            yield start, field_text.rstrip(b" \t")
        elif field_text:  # else the optional last delimiter ended the field before
            yield start, field_text
