"""TLSA records: their parsing, which of them can be used, and which of those count.

* RDATA is usage, selector and matching type, an octet each, and the association data (RFC 6698 section 2.1). A record
  with empty data is a record: unusable, but not absent.
* A record is unusable where local policy or this library does not support its usage, selector or matching type, or its
  data is malformed: a digest of the wrong length, full data that is no certificate or key (RFC 6698 section 4.1,
  RFC 7671 section 10.3). One unusable record never spoils another.
* Of the usable records, per usage and selector, those with the strongest digest count, and those with matching type
  Full(0) (digest agility, RFC 7671 section 9).

>>> from mailtlspolicy.config import Config
>>> rrset = TlsaRRset([Tlsa.parse("DANE-EE SPKI SHA2-256 " + "ab" * 32), Tlsa.parse("3 1 2 " + "cd" * 64)])
>>> [record.matching_type for record in rrset.considered(Config())]
[2]
>>> Tlsa.parse("1 1 1 " + "ab" * 32).why_unusable(Config())
'certificate usage 1 is not in use'
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from attrs import Attribute, field, frozen

from mailtlspolicy.x509.certificates import is_certificate, is_public_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailtlspolicy.config import Config

PKIX_TA, PKIX_EE, DANE_TA, DANE_EE = range(4)  # certificate usages (RFC 6698 section 2.1.1, RFC 7218 section 2.1)
CERT, SPKI = range(2)  # selectors (RFC 6698 section 2.1.2, RFC 7218 section 2.2)
FULL = 0  # the matching type that is no digest (RFC 6698 section 2.1.3)

# RFC 7218 sections 2.1 to 2.3
_ACRONYMS: tuple[dict[str, int], ...] = (
    {"PKIX-TA": 0, "PKIX-EE": 1, "DANE-TA": 2, "DANE-EE": 3, "PRIVCERT": 255},
    {"CERT": 0, "SPKI": 1, "PRIVSEL": 255},
    {"FULL": 0, "SHA2-256": 1, "SHA2-512": 2, "PRIVMATCH": 255},
)
_NUMBER = re.compile(r"[0-9]{1,3}\Z")
_LENGTH = re.compile(r"[0-9]{1,5}\Z")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*\Z")
_GROUPED = re.compile(r"[^()]*(?:\([^()]*\)[^()]*)*\Z")  # RFC 1035 section 5.1: parentheses in pairs, not nested


def _octet(_: object, attribute: Attribute[int], value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name} is a number, not {value!r}")
    if not 0 <= value <= 255:
        raise ValueError(f"{attribute.name} is 0 to 255, not {value!r}")


@frozen
class Tlsa:
    """One TLSA record (RFC 6698 section 2).

    Attributes:
        usage: certificate usage, 0 to 255; 2 is DANE-TA, 3 is DANE-EE.
        selector: 0 for the whole certificate, 1 for its SubjectPublicKeyInfo.
        matching_type: 0 for the selected octets themselves, 1 for their SHA-256 digest, 2 for SHA-512.
        data: the certificate association data.

    Raises:
        ValueError: a number outside 0 to 255.
        TypeError: something else than numbers and `bytes`.
    """

    usage: int = field(validator=_octet)
    selector: int = field(validator=_octet)
    matching_type: int = field(validator=_octet)
    data: bytes = field()

    @data.validator
    def _check_data(self, _: Attribute[bytes], value: object) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"data is bytes, not {type(value).__name__}")

    @classmethod
    def parse(cls, text: str) -> Tlsa:
        r"""Read the presentation form (RFC 6698 section 2.2), the acronyms of RFC 7218 included.

        Blanks and parentheses may group the hexadecimal data, in either case. The form of unknown types,
        `\# length hex` (RFC 3597 section 5), is read too.

        Raises:
            ValueError: the text is not a TLSA record.
        """
        if not isinstance(text, str):
            raise TypeError(f"a TLSA record is a text, not {type(text).__name__}")
        if not text.isascii() or not _GROUPED.match(text):
            raise ValueError(f"not a TLSA record: {text[:80]!r}")
        words = text.replace("(", " ").replace(")", " ").split()
        if words[:1] == ["\\#"]:
            rdata = _hex(words[2:])
            if len(words) < 2 or not _LENGTH.match(words[1]) or int(words[1]) != len(rdata):
                raise ValueError(f"the length of the RDATA is not the one given: {text[:80]!r}")
            return cls.from_rdata(rdata)
        if len(words) < 3:
            raise ValueError(f"a TLSA record has a usage, a selector, a matching type and data: {text[:80]!r}")
        usage, selector, matching_type = map(_number, words[:3], _ACRONYMS)
        return cls(usage, selector, matching_type, _hex(words[3:]))

    @classmethod
    def from_rdata(cls, rdata: bytes) -> Tlsa:
        """Read the wire form (RFC 6698 section 2.1).

        Raises:
            ValueError: fewer than the three octets that come before the data.
        """
        if len(rdata) < 3:
            raise ValueError(f"the RDATA of a TLSA record has at least 3 octets, not {len(rdata)}")
        return cls(rdata[0], rdata[1], rdata[2], bytes(rdata[3:]))

    def to_text(self) -> str:
        """The presentation form: three numbers and lower-case hexadecimal."""
        return f"{self.usage} {self.selector} {self.matching_type} {self.data.hex()}".rstrip()

    def __str__(self) -> str:
        return self.to_text()

    def why_unusable(self, config: Config) -> str | None:
        """Why the record is unusable (RFC 6698 section 4.1, RFC 7671 section 10.3); None where it is usable."""
        if self.usage not in config.usages:
            return f"certificate usage {self.usage} is not in use"
        if self.selector not in (CERT, SPKI):
            return f"selector {self.selector} is unknown"
        if self.matching_type == FULL:
            if self.selector == CERT:
                return None if is_certificate(self.data) else "the data is not a certificate"
            return None if is_public_key(self.data) else "the data is not a public key"
        if self.matching_type not in config.digest_order:
            return f"matching type {self.matching_type} is not in use"
        size = len(digest(self, b"", config))
        return None if len(self.data) == size else f"a digest of this type has {size} octets, not {len(self.data)}"


def digest(record: Tlsa, selected: bytes, config: Config) -> bytes:
    """Apply the matching type of a usable record to octets (RFC 6698 section 2.1.3)."""
    if record.matching_type == FULL:
        return selected
    octets: bytes = getattr(hashlib, config.digests[record.matching_type])(selected).digest()
    return octets


def _number(word: str, acronyms: dict[str, int]) -> int:
    if word.upper() in acronyms:
        return acronyms[word.upper()]
    if not _NUMBER.match(word):
        raise ValueError(f"neither a number nor an acronym: {word[:80]!r}")
    return int(word)


def _hex(words: list[str]) -> bytes:
    digits = "".join(words)
    if not _HEX.match(digits):
        raise ValueError(f"not whole octets in hexadecimal: {digits[:80]!r}")
    return bytes.fromhex(digits)


def _records(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    return tuple(records)


@frozen
class TlsaRRset:
    """The TLSA records of one name, as published: in order, unusable ones too. Made of any iterable of `Tlsa`."""

    records: tuple[Tlsa, ...] = field(default=(), converter=_records)

    @records.validator
    def _check_records(self, _: Attribute[tuple[Tlsa, ...]], value: tuple[object, ...]) -> None:
        for record in value:
            if not isinstance(record, Tlsa):
                raise TypeError(f"a TLSA RRset is made of Tlsa records, not of {type(record).__name__}")

    def __iter__(self) -> Iterator[Tlsa]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def usable(self, config: Config) -> TlsaRRset:
        """The usable records (RFC 6698 section 4.1)."""
        return self._only(record for record in self.records if record.why_unusable(config) is None)

    def considered(self, config: Config) -> TlsaRRset:
        """The records that count: the usable ones, less those that digest agility drops (RFC 7671 section 9).

        Agility comes after usability, so a malformed record with a strong digest does not displace a good one.
        """
        usable = self.usable(config)
        strongest = {
            (record.usage, record.selector): record.matching_type
            for matching_type in reversed(config.digest_order)
            for record in usable
            if record.matching_type == matching_type
        }
        return usable._only(
            record
            for record in usable
            if record.matching_type in (FULL, strongest.get((record.usage, record.selector)))
        )

    def _only(self, records: Iterable[Tlsa]) -> TlsaRRset:
        kept = tuple(records)
        return self if len(kept) == len(self.records) else TlsaRRset(kept)

    def to_json(self) -> list[str]:
        """The records in presentation form."""
        return [record.to_text() for record in self.records]

    @classmethod
    def from_json(cls, data: Iterable[str]) -> TlsaRRset:
        """Read what `to_json` wrote; raises `ValueError` on text that is no TLSA record."""
        return cls(Tlsa.parse(text) for text in data)
