"""Whether a name that a certificate presents is a name that the client looks for (RFC 6125 section 6, RFC 7672 3.2.3).

* Presented are the DNS-IDs of the leaf; only where it has none at all, its CN-IDs, that is every Common Name with the
  form of a domain name (RFC 7672 section 3.2.3). Subject alternative names of other types do not suppress the CN-IDs:
  SMTP supports none of them (RFC 6125 sections 6.3 and 6.4.4).
* A presented name is compared as it stands: ASCII, letters, digits, hyphens and underscores in labels of 1 to 63. One
  with anything else in it (NUL, blanks, U-labels, a final dot) or that looks like an address matches nothing.
* A reference is brought into canonical form first, U-labels to A-labels (RFC 6125 section 6.4.2). What is no domain
  name matches nothing.
* All labels are equal without regard to ASCII case (RFC 6125 section 6.4.1), except that a first label "*" stands for
  exactly one label (section 6.4.3, RFC 7672 section 3.2.3). At least two labels follow it, so that nobody presents all
  of a top-level domain.

>>> matches("*.example.com", "MX1.example.com.")
True
>>> matches("mx*.example.com", "mx1.example.com")
False
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography import x509

from mailtlspolicy.names import LABEL, MAX_NAME_OCTETS, canonical, is_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailtlspolicy.x509.certificates import Certificate

_PRESENTED = re.compile(rf"(?:{LABEL}|\*(?=\.{LABEL}\.))(?:\.{LABEL})*\Z")


def matches(presented: str, reference: str) -> bool:
    """Whether a presented identifier, a DNS-ID or CN-ID, matches a reference identifier (RFC 6125 section 6.4).

    Malformed names on either side match nothing; they never raise.
    """
    return first_match([presented], [reference]) is not None


def first_match(presented: Iterable[str], references: Iterable[str]) -> str | None:
    """Return the first reference identifier, in canonical form, that a presented identifier matches; None for none.

    One match is enough, and ends the search (RFC 6125 section 6.3, RFC 7672 section 3.2.3).
    """
    names = {name for name in map(str.lower, filter(str.isascii, presented)) if _is_presentable(name)}
    for reference in references:
        try:
            name = canonical(reference)
        except ValueError:
            continue
        if name in names or "*." + name.partition(".")[2] in names:
            return name
    return None


def presented_identifiers(certificate: Certificate) -> tuple[str, ...]:
    """The DNS-IDs of a certificate or, where it has none, its CN-IDs (RFC 7672 section 3.2.3)."""
    return dns_ids(certificate) or tuple(filter(_has_domain_form, certificate.common_names()))


def dns_ids(certificate: Certificate) -> tuple[str, ...]:
    """The dNSName entries of the subject alternative name, malformed ones too (RFC 6125 section 1.8, DNS-ID)."""
    names = certificate.extension(x509.SubjectAlternativeName)
    return () if names is None else tuple(names.get_values_for_type(x509.DNSName))


def _has_domain_form(common_name: str) -> bool:
    return common_name.isascii() and _is_presentable(common_name.lower())


def _is_presentable(name: str) -> bool:
    return len(name) <= MAX_NAME_OCTETS and _PRESENTED.match(name) is not None and not is_address(name)
