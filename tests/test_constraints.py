"""Name constraints, on the names themselves; paths with constraints are in the vectors and in test_paths."""

from __future__ import annotations

import pytest
from cryptography import x509

from mailtlspolicy.certificates import Certificate
from mailtlspolicy.constraints import ConstrainedNames, names_are_permitted
from tests.authority import ca, issue


@pytest.mark.parametrize(
    ("uri", "permitted"),
    [
        ("smtp://provider.example/", True),
        ("smtp://user@provider.example:25/", True),
        ("smtp://client.example/", False),
        ("smtp://client.example?@provider.example/", False),
        ("smtp://client.example#@provider.example/", False),
        ("smtp://client.example/@provider.example/", False),
        ("provider.example", False),  # no authority, so no host to compare
    ],
)
def test_the_host_of_a_uri_is_that_of_its_authority(uri: str, *, permitted: bool) -> None:
    # RFC 5280 section 4.2.1.10; RFC 3986 section 3.2: the authority ends at "/", "?" or "#"
    constraints = x509.NameConstraints([x509.UniformResourceIdentifier("provider.example")], None)
    authority = ca("ca", None, constraints)
    leaf = issue("leaf", authority, x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]))
    path = [ConstrainedNames(Certificate(issued.der)) for issued in (leaf, authority)]
    assert names_are_permitted(path, lambda _: None) is permitted


def test_comparisons_are_charged_before_they_are_made() -> None:
    constraints = x509.NameConstraints([x509.DNSName("example"), x509.DNSName("test")], None)
    authority = ca("ca", None, constraints)
    names = x509.SubjectAlternativeName([x509.DNSName(f"n{number}.example") for number in range(3)])
    leaf = issue("leaf", authority, names)
    charged: list[int] = []
    path = [ConstrainedNames(Certificate(issued.der)) for issued in (leaf, authority)]
    assert names_are_permitted(path, charged.append)
    assert charged == [(1 + 3) * 2]  # the subject and three names, two constraints
