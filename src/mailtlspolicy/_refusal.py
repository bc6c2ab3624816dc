"""What the parsers of published texts say beside a value: why a text is refused, and what a linter would remark.

The texts are those of MTA-STS, and the TXT record of RFC 8460, whose grammar is of the same making.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mailtlspolicy._words import Word


class Reason(Word):
    """Why a TXT record or a policy is not one by the grammar of RFC 8461 or 8460."""

    EMPTY = "empty"
    BLANK_LINE = "blank-line"
    LINE_INVALID = "line-invalid"
    FIELD_INVALID = "field-invalid"
    VERSION_INVALID = "version-invalid"
    ID_INVALID = "id-invalid"
    MODE_INVALID = "mode-invalid"
    MAX_AGE_INVALID = "max_age-invalid"
    MX_INVALID = "mx-invalid"
    VERSION_MISSING = "version-missing"
    ID_MISSING = "id-missing"
    MODE_MISSING = "mode-missing"
    MAX_AGE_MISSING = "max_age-missing"
    MX_MISSING = "mx-missing"
    RUA_INVALID = "rua-invalid"
    RUA_MISSING = "rua-missing"


@frozen
class Refusal:
    """Why a text was refused.

    Attributes:
        reason: what is wrong.
        offset: octets before the field or line at fault; the length of the text where something is missing.
    """

    reason: Reason
    offset: int

    def __str__(self) -> str:
        return f"{self.reason} at octet {self.offset}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"refused", "offset"}."""
        return {"refused": self.reason, "offset": self.offset}


class RemarkKind(Word):
    """What a linter would remark on in a text that is valid."""

    UNKNOWN_FIELD = "unknown-field"
    DUPLICATE_FIELD = "duplicate-field"
    BLANK_BEFORE_DELIMITER = "blank-before-delimiter"
    DUPLICATE_MX = "duplicate-mx"
    MX_MATCHES_NOTHING = "mx-matches-nothing"
    MAX_AGE_CAPPED = "max-age-capped"
    SHORT_MAX_AGE = "short-max-age"


@frozen
class Remark:
    """One remark.

    Attributes:
        kind: what is odd.
        offset: octets before the field or line that it is about.
    """

    kind: RemarkKind
    offset: int

    def __str__(self) -> str:
        return f"{self.kind} at octet {self.offset}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"kind", "offset"}."""
        return {"kind": self.kind, "offset": self.offset}
