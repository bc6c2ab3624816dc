r"""The policy file: RFC 8461 section 3.2.

    sts-policy-record      = sts-policy-field *WSP *(sts-policy-term sts-policy-field *WSP) [sts-policy-term]
    sts-policy-field       = version / mode / max_age / mx / extension     ; a name, ":" *WSP and a value
    sts-policy-term        = LF / CRLF
    version                = %s"STSv1"                                     ; required once
    mode                   = %s"testing" / %s"enforce" / %s"none"          ; required once
    max_age                = 1*10(DIGIT)                                   ; required once
    mx                     = ["*."] Domain                                 ; required unless the mode is none
    sts-policy-ext-name    = (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")
    sts-policy-ext-value   = sts-policy-vchar [*(%x20 / sts-policy-vchar) sts-policy-vchar]
    sts-policy-vchar       = %x21-7E / UTF8-2 / UTF8-3 / UTF8-4            ; RFC 3629
    Domain                 = sub-domain *("." sub-domain)                  ; RFC 5321 section 4.1.2
    sub-domain             = Let-dig [Ldh-str]

The grammar is taken as it stands: an empty line, a lone CR or a blank before the colon makes the file invalid. Readings
where it leaves something open:

- A line that begins with a known name is that field and no extension, so a bad value makes the policy invalid.
- Of a repeated field the first counts, except that all `mx` do. A repetition that is ignored need only be an extension.
- A `max_age` above 31557600 seconds counts as that (erratum 7282: ten digits are allowed).

>>> policy = parse_policy(b"version: STSv1\nmode: enforce\nmx: *.example.com\nmax_age: 604800\n")
>>> policy.allows("mx1.example.com"), policy.allows("a.mx1.example.com")
(True, False)
>>> print(parse_policy(b"version: STSv1\nmode: Enforce\n"))
mode-invalid at octet 15
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mailtlspolicy._refusal import Reason, Refusal, Remark, RemarkKind
from mailtlspolicy._words import Word
from mailtlspolicy.names import MAX_LABEL_OCTETS, MAX_NAME_OCTETS, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_MAX_AGE = 31_557_600  # seconds, a year (RFC 8461 section 3.2)
LONG_ENOUGH = 604_800  # seconds; section 3.2 expects weeks or more

_NAME = rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
# RFC 3629 section 4: no overlong form, no surrogate, nothing above U+10FFFF
_VCHAR = (
    rb"(?:[\x21-\x7e]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})"
)
_EXTENSION = re.compile(rb"(" + _NAME + rb"):[ \t]*" + _VCHAR + rb"(?: *" + _VCHAR + rb")*[ \t]*\Z")
_SUB_DOMAIN = rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_VALUES = {
    b"version": re.compile(rb"STSv1\Z"),
    b"mode": re.compile(rb"(?:testing|enforce|none)\Z"),
    b"max_age": re.compile(rb"[0-9]{1,10}\Z"),
    b"mx": re.compile(rb"(?:\*\.)?" + _SUB_DOMAIN + rb"(?:\." + _SUB_DOMAIN + rb")*\Z"),
}
_REQUIRED = {
    b"version": Reason.VERSION_MISSING,
    b"mode": Reason.MODE_MISSING,
    b"max_age": Reason.MAX_AGE_MISSING,
}
_BAD_VALUE = {
    b"version": Reason.VERSION_INVALID,
    b"mode": Reason.MODE_INVALID,
    b"max_age": Reason.MAX_AGE_INVALID,
    b"mx": Reason.MX_INVALID,
}


class Mode(Word):
    """What a failure to validate means (RFC 8461 section 5)."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@frozen
class Policy:
    """A valid policy; `parse_policy` makes one.

    Attributes:
        mode: what a failure to validate means.
        mx: the patterns in lower case, in the order published, each once: a host name, or "*." and a suffix.
        max_age: seconds for which the policy may be applied after it was fetched, at most 31557600.
        text: the file as published, for reports (RFC 8460 section 4.4, "policy-string").
        warnings: what a linter would remark, by offset.
    """

    mode: Mode
    mx: tuple[str, ...]
    max_age: int
    text: str = field(eq=False, repr=False)
    warnings: tuple[Remark, ...] = field(default=(), eq=False)

    def allows(self, mx_host: str) -> bool:
        """Whether a pattern matches an MX hostname, the name in the MX record (RFC 8461 section 4.1).

        "*" stands for exactly one whole label. What is no host name matches nothing.
        """
        try:
            name = canonical(mx_host)
        except ValueError:
            return False
        return name in self.mx or "*." + name.partition(".")[2] in self.mx

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"mode", "mx", "max_age", "text", "warnings"}."""
        return {
            "mode": self.mode,
            "mx": list(self.mx),
            "max_age": self.max_age,
            "text": self.text,
            "warnings": [remark.to_json() for remark in self.warnings],
        }


def parse_policy(body: bytes) -> Policy | Refusal:
    """Read a policy file (RFC 8461 section 3.2).

    Args:
        body: the body of the HTTPS response.

    Returns:
        The policy, or why and where it is none; whatever octets it holds, nothing is raised. Takes time linear in
        their number.

    Raises:
        TypeError: the argument is not `bytes`.
    """
    if not isinstance(body, bytes):
        raise TypeError(f"a policy is bytes, not {type(body).__name__}")
    if not body:
        return Refusal(Reason.EMPTY, 0)
    first: dict[bytes, tuple[bytes, int]] = {}  # the value that counts and where its line begins
    patterns: dict[str, None] = {}
    warnings: list[Remark] = []
    for start, line in _lines(body):
        name, colon, rest = line.partition(b":")
        value = rest.strip(b" \t")
        if not colon or name not in _VALUES or name in first:
            if _EXTENSION.match(line) is None:
                return Refusal(Reason.LINE_INVALID if line.strip(b" \t") else Reason.BLANK_LINE, start)
            kind = RemarkKind.DUPLICATE_FIELD if name in first else RemarkKind.UNKNOWN_FIELD
            warnings.append(Remark(kind, start))
        elif _VALUES[name].match(value) is None:
            return Refusal(_BAD_VALUE[name], start)
        elif name == b"mx":
            pattern = value.decode("ascii").lower()
            if pattern in patterns:
                warnings.append(Remark(RemarkKind.DUPLICATE_MX, start))
            elif not _can_match(pattern):
                warnings.append(Remark(RemarkKind.MX_MATCHES_NOTHING, start))
            patterns[pattern] = None
        else:
            first[name] = value, start
    for name, reason in _REQUIRED.items():
        if name not in first:
            return Refusal(reason, len(body))
    mode = Mode(first[b"mode"][0].decode("ascii"))
    if not patterns and mode is not Mode.NONE:
        return Refusal(Reason.MX_MISSING, len(body))
    max_age, start = int(first[b"max_age"][0]), first[b"max_age"][1]
    if max_age > MAX_MAX_AGE:
        warnings.append(Remark(RemarkKind.MAX_AGE_CAPPED, start))
    if max_age < LONG_ENOUGH and mode is Mode.ENFORCE:
        warnings.append(Remark(RemarkKind.SHORT_MAX_AGE, start))
    warnings.sort(key=lambda remark: remark.offset)
    return Policy(mode, tuple(patterns), min(max_age, MAX_MAX_AGE), body.decode("utf-8"), tuple(warnings))


def _lines(body: bytes) -> Iterable[tuple[int, bytes]]:
    """The lines without their ends, LF or CRLF, and where each begins; the last one need not have an end."""
    start = 0
    *ended, last = body.split(b"\n")
    for line in ended:
        yield start, line.removesuffix(b"\r")
        start += len(line) + 1
    if last:
        yield start, last


def _can_match(pattern: str) -> bool:
    """Whether there is a host name that matches: not so for an address, or a name that is too long."""
    labels = pattern.split(".")
    return len(pattern) <= MAX_NAME_OCTETS and max(map(len, labels)) <= MAX_LABEL_OCTETS and not labels[-1].isdigit()
