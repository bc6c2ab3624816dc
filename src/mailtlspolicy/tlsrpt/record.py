r"""The TXT record at `_smtp._tls.<policy domain>`: RFC 8460 section 3.

    tlsrpt-record    = tlsrpt-version 1*(field-delim tlsrpt-field) [field-delim]
    field-delim      = *WSP ";" *WSP
    tlsrpt-field     = tlsrpt-rua / tlsrpt-extension               ; tlsrpt-rua is required
    tlsrpt-version   = %s"v=TLSRPTv1"
    tlsrpt-rua       = %s"rua=" tlsrpt-uri *(*WSP "," *WSP tlsrpt-uri)
    tlsrpt-uri       = URI                                         ; RFC 3986; "!", "," and ";" only percent-encoded
    tlsrpt-extension = tlsrpt-ext-name "=" tlsrpt-ext-value
    tlsrpt-ext-name  = (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")
    tlsrpt-ext-value = 1*(%x21-3A / %x3C / %x3E-7E)

Readings where the text leaves something open:

- A record begins with "v=TLSRPTv1;". The grammar would allow blanks before the semicolon, but records that do not begin
  so are discarded.
- A field that begins with "rua=" is the destinations and passes for no extension. Several such fields are read as one.
- A URI of another scheme, or one of which no address or host can be made, is skipped; the record stays valid.

>>> record = parse_record([b"v=TLSRPTv1; rua=mailto:tls%2Breports@client.exa", b"mple,https://client.example/tls"])
>>> [destination.target for destination in record.destinations]
['tls+reports@client.example', 'https://client.example/tls']
>>> print(parse_record([b"v=TLSRPTv1; rua=mailto:reports@client.example!10m"]))
rua-invalid at octet 16
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from mailtlspolicy._refusal import Reason, Refusal
from mailtlspolicy._words import Word
from mailtlspolicy.delivery.message import check_mailbox
from mailtlspolicy.names import canonical, canonical_address, is_address
from mailtlspolicy.sts.record import EXTENSION, fields, joined
from mailtlspolicy.tlsrpt.values import addr_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_VERSION = b"v=TLSRPTv1;"
# RFC 3986 section 3, without the three characters that have to be encoded; square brackets only around a host
_CHARACTERS = r"(?:[A-Za-z0-9._~$&'()*+=:@/-]|%[0-9A-Fa-f]{2})"
_HOST = r"(?:[A-Za-z0-9._~$&'()*+=-]|%[0-9A-Fa-f]{2})"
_URI = re.compile(
    rf"""[A-Za-z][A-Za-z0-9+.-]*:
         (?://(?:(?:{_HOST}|:)*@)?(?:\[(?P<literal>[0-9A-Za-z.:_~$&'()*+=-]+)\]|{_HOST}*)(?::[0-9]*)?(?=[/?\#]|\Z)|(?!//))
         {_CHARACTERS}*(?:\?(?:{_CHARACTERS}|\?)*)?(?:\#(?:{_CHARACTERS}|\?)*)?\Z""",
    re.VERBOSE,
)
_FUTURE = re.compile(r"[vV][0-9A-Fa-f]+\.[^\s]+\Z")  # IPvFuture, of which there is none yet
MAX_DESTINATIONS = 10  # of one record; so many that a record can not make a flood of one report (section 7)


class Scheme(Word):
    """The ways in which a report can be delivered (RFC 8460 section 3)."""

    MAILTO = "mailto"
    HTTPS = "https"


@frozen
class Destination:
    """Where to send reports.

    Attributes:
        scheme: how.
        target: the mailbox, percent-decoded, its domain in A-labels; or the URL, as published.
        uri: the URI as published.
    """

    scheme: Scheme
    target: str
    uri: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"scheme", "mailbox" or "url", "uri"}."""
        kind = "mailbox" if self.scheme is Scheme.MAILTO else "url"
        return {"scheme": self.scheme, kind: self.target, "uri": self.uri}


@frozen
class TlsrptRecord:
    """A valid TXT record.

    Attributes:
        rua: the URIs as published, each once.
        text: the record as published, its character-strings joined.
        destinations: those of the URIs that a report can be sent to, the first ten of them. The domains in them need
            not be the policy domain, and nothing is looked up about them (RFC 8460 section 7).
    """

    rua: tuple[str, ...]
    text: str = field(eq=False)
    destinations: tuple[Destination, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"text", "rua", "destinations"}."""
        return {
            "text": self.text,
            "rua": list(self.rua),
            "destinations": [destination.to_json() for destination in self.destinations],
        }


def parse_record(txt_strings: Iterable[bytes | str]) -> TlsrptRecord | Refusal:
    """Read one TXT record (RFC 8460 section 3).

    Args:
        txt_strings: its character-strings, which are joined without a separator; a `str` stands for its UTF-8 octets.

    Returns:
        The record, or why and where it is none; whatever octets it holds, nothing is raised.

    Raises:
        TypeError: the argument is not an iterable of strings.
    """
    text = joined(txt_strings)
    if not text.startswith(_VERSION):
        return Refusal(Reason.VERSION_INVALID, 0)
    found: list[str] = []
    for start, part in fields(text):
        if part.startswith(b"rua="):
            for offset, uri in _uris(start, part):
                if not is_uri(uri):
                    return Refusal(Reason.RUA_INVALID, offset)
                found.append(uri)
        elif EXTENSION.match(part) is None:
            return Refusal(Reason.FIELD_INVALID, start)
    if not found:
        return Refusal(Reason.RUA_MISSING, len(text))
    rua = tuple(dict.fromkeys(found))
    usable: dict[tuple[Scheme, str], Destination] = {}  # each target once, by its first URI
    for to in filter(None, map(destination, rua)):
        usable.setdefault((to.scheme, to.target), to)
    return TlsrptRecord(rua, text.decode("ascii"), tuple(usable.values())[:MAX_DESTINATIONS])


def announcements(records: Iterable[Sequence[bytes]]) -> tuple[bytes, ...]:
    """The TXT records that count, joined: those that begin with the version and its semicolon.

    If there is not exactly one, the domain asks for no reports.
    """
    return tuple(text for text in map(b"".join, records) if text.startswith(_VERSION))


def is_uri(text: str) -> bool:
    """Whether a text is a URI by RFC 3986 section 3, without "!", "," and ";"."""
    match = _URI.match(text)
    if match is None:
        return False
    literal = match["literal"]
    if literal is None or _FUTURE.match(literal):
        return True
    try:
        return ":" in canonical_address(literal)
    except ValueError:
        return False


def destination(uri: str) -> Destination | None:
    """Where a URI of a record sends reports to; None where its scheme is another, or it has no address or host."""
    scheme, _, rest = uri.partition(":")
    try:
        if scheme.lower() == Scheme.MAILTO:
            # RFC 6068 section 7: what follows the address could add fields to the mail; it is not heeded
            address = re.split("[?#]", rest, maxsplit=1)[0]
            if "/" in address:  # which section 2 there wants encoded: "mailto://"
                return None
            mailbox = "@".join(addr_spec(unquote(address)))
            check_mailbox(mailbox)
            return Destination(Scheme.MAILTO, mailbox, uri)
        if scheme.lower() == Scheme.HTTPS:
            parts = urlsplit(uri)
            _check_host(parts.hostname or "")
            return Destination(Scheme.HTTPS, uri, uri) if parts.port != 0 else None
    except ValueError:
        return None
    return None


def _check_host(host: str) -> None:
    """Raise `ValueError` unless a host is a name or an address."""
    if is_address(host):
        canonical_address(host)
    else:
        canonical(host)


def _uris(start: int, part: bytes) -> Iterator[tuple[int, str]]:
    """The URIs of a rua field that begins at an offset, without the blanks around commas, and where each begins."""
    offset = start + len(b"rua=")
    pieces = part.removeprefix(b"rua=").split(b",")
    for number, piece in enumerate(pieces, 1):
        uri = piece.lstrip(b" \t") if number > 1 else piece
        yield offset + len(piece) - len(uri), (uri.rstrip(b" \t") if number < len(pieces) else uri).decode("latin-1")
        offset += len(piece) + 1
