"""Domain names in one canonical form, and the addresses that are not domain names.

Inside the library a domain name is a `str`: A-labels, lower case, no trailing dot, at most 253 octets, labels of 1 to
63. `canonical` is the only place where that form is made, so that two names are the same name exactly when they are
equal strings.

>>> canonical("MX1.Bücher.Example.")
'mx1.xn--bcher-kva.example'
"""

from __future__ import annotations

import ipaddress
import re
from typing import Protocol

import idna

MAX_NAME_OCTETS = 253  # RFC 1035 section 3.1: 255 octets on the wire, two of them the first length and the root.
MAX_LABEL_OCTETS = 63  # RFC 1035 section 2.3.4

# Letters, digits and hyphen (RFC 952, RFC 6698 section 3); "_" too: owners of TLSA records need it, and MX hosts
# with one are met in the field and take mail.
LABEL = rf"(?!-)[a-z0-9_-]{{1,{MAX_LABEL_OCTETS}}}(?<!-)"
_LABEL = re.compile(LABEL + r"\Z")


class SupportsToText(Protocol):
    """What `canonical` needs of a `dns.name.Name`."""

    def to_text(self) -> str:
        """The name in master-file form."""


def canonical(name: str | SupportsToText) -> str:
    """Return a domain name in the library's canonical form.

    Args:
        name: a name as `str`, with U-labels (IDNA 2008, RFC 5890, after the mapping of UTS #46) or A-labels, in any
            case, with or without the final dot; or a `dns.name.Name`.

    Raises:
        ValueError: the name is empty or the root, too long, has an empty or malformed label, or is no domain name at
            all (an address, a mailbox); the message says which.
        TypeError: the argument is neither text nor a DNS name.
    """
    if isinstance(name, str):
        text = name
    elif hasattr(name, "to_text"):
        text = name.to_text()
    else:
        raise TypeError(f"a domain name is a str or a dns.name.Name, not {type(name).__name__}")
    if not text.removesuffix("."):
        raise ValueError("the name is empty")
    if "@" in text:
        raise ValueError(f"{_shown(text)} is a mailbox, not a domain name")
    if not text.isascii():
        text = _to_a_labels(text)  # which may give it a final dot
    text = text.lower().removesuffix(".")
    if len(text) > MAX_NAME_OCTETS:
        raise ValueError(f"{_shown(text)} is longer than {MAX_NAME_OCTETS} octets")
    if is_address(text):
        raise ValueError(f"{_shown(text)} is an address, not a domain name")
    for label in text.split("."):
        if not _LABEL.match(label):
            raise ValueError(_label_error(label, text))
    return text


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, or names nothing but numbers.

    The last label of a host name is never all digits (RFC 1123 section 2.1), so "192.0.2.1" and "10.1" are no names.
    """
    if text.rpartition(".")[2].isdigit():
        return True
    if ":" not in text:  # as every IPv6 address has; this spares most names the costly attempt
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_local_address(address: str) -> bool:
    """Whether a connection to an address never leaves this system: loopback, unspecified, or mapped into IPv6 so.

    >>> [is_local_address(text) for text in ("127.0.0.2", "0.0.0.0", "::", "::ffff:127.0.0.1", "192.0.2.1")]
    [True, True, True, True, False]

    Raises:
        ValueError: the text is no address.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback or parsed.is_unspecified


def canonical_address(text: str) -> str:
    """Return an IPv4 or IPv6 address in its one textual form (RFC 5952).

    Raises:
        ValueError: the text is not an address, or an IPv6 address with a zone.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{_shown(text)} has a zone, which means nothing to another host")
        if address.ipv4_mapped is not None:  # RFC 5952 section 5; `str` does so from Python 3.13 on
            return f"::ffff:{address.ipv4_mapped}"
    return str(address)


def _to_a_labels(text: str) -> str:
    if len(text) > MAX_NAME_OCTETS:  # a U-label is never longer than its A-label, so this loses no valid name
        raise ValueError(f"{_shown(text)} is longer than {MAX_NAME_OCTETS} octets")
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{_shown(text)} is not a valid internationalised name: {error}") from error


def _label_error(label: str, name: str) -> str:
    if not label:
        return f"{_shown(name)} has an empty label"
    if len(label) > MAX_LABEL_OCTETS:
        return f"{_shown(name)} has a label of more than {MAX_LABEL_OCTETS} octets"
    return f"{_shown(name)} has the malformed label {_shown(label)}"


def _shown(text: str) -> str:
    """The text quoted and cut to what fits a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
