"""Name constraints, on the names themselves; paths with constraints are in the vectors and in test_paths."""

from __future__ import annotations

import pytest
from cryptography import x509

from mailtlspolicy.x509.certificates import Certificate
from mailtlspolicy.x509.constraints import ConstrainedNames, names_are_permitted
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


@pytest.mark.parametrize(
    ("presented", "base", "excluded", "permitted"),
    [
        ("*.example.com", "mx.example.com", True, False),
        ("*.EXAMPLE.com", "MX.example.COM", True, False),
        ("*.example.com", "example.com", True, True),
        ("*.example.com", ".example.com", True, True),
        ("*.example.com", "com", True, True),
        ("*.example.com", "", True, True),
        ("*.example.com", "a.mx.example.com", False, False),
        ("*.example.com", ".mx.example.com", False, False),
        ("*.example.com", "mx.example.org", False, False),
        ("*.example.com", "xexample.com", False, False),
        ("*.mx.example.com", "mx.example.com", True, True),
        ("mx*.example.com", "mx1.example.com", False, False),  # no wildcard: it matches nothing
    ],
)
def test_a_wildcard_is_every_name_that_it_can_stand_for(
    presented: str, base: str, *, excluded: bool, permitted: bool
) -> None:
    """RFC 5280 section 4.2.1.10, RFC 6125 section 6.4.3: none of them is excluded, and all of them are permitted."""
    names = x509.SubjectAlternativeName([x509.DNSName(presented)])
    tree = [x509.DNSName(base)]
    for constraints, allowed in (
        (x509.NameConstraints(tree, None), permitted),
        ((x509.NameConstraints(None, tree)), not excluded),
    ):
        authority = ca("ca", None, constraints)
        path = [ConstrainedNames(Certificate(each.der)) for each in (issue("leaf", authority, names), authority)]
        assert names_are_permitted(path, lambda _: None) is allowed


def test_comparisons_are_charged_before_they_are_made() -> None:
    constraints = x509.NameConstraints([x509.DNSName("example"), x509.DNSName("test")], None)
    authority = ca("ca", None, constraints)
    names = x509.SubjectAlternativeName([x509.DNSName(f"n{number}.example") for number in range(3)])
    leaf = issue("leaf", authority, names)
    charged: list[int] = []
    path = [ConstrainedNames(Certificate(issued.der)) for issued in (leaf, authority)]
    assert names_are_permitted(path, charged.append)
    assert charged == [(1 + 3) * 2]  # the subject and three names, two constraints
