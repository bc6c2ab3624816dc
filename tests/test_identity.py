"""Names presented against names looked for: RFC 6125 section 6.4, RFC 7672 section 3.2.3."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.identity import dns_ids, first_match, matches, presented_identifiers
from mailtlspolicy.x509.certificates import Certificate
from tests.authority import issue


@pytest.mark.parametrize(
    ("presented", "reference"),
    [
        ("mx.example.com", "mx.example.com"),
        ("MX.Example.COM", "mx.example.com"),
        ("mx.example.com", "Mx.eXample.com."),  # a final dot of the reference is removed
        ("mx_1.example.com", "mx_1.example.com"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "bücher.example"),  # RFC 6125 section 6.4.2
        ("XN--BCHER-KVA.example", "bücher.example"),
        ("*.example.com", "mx1.example.com"),
        ("*.EXAMPLE.com", "mx1.example.com"),
        ("*.example.com", "xn--bcher-kva.example.com"),
        ("*.example.com", "mx_1.example.com"),
        ("*.xn--bcher-kva.example", "mx.bücher.example"),
    ],
)
def test_match(presented: str, reference: str) -> None:
    assert matches(presented, reference)


@pytest.mark.parametrize(
    ("presented", "reference"),
    [
        ("example.com", "mx.example.com"),
        ("mx.example.com", "example.com"),
        ("mx.example.com.evil.test", "mx.example.com"),
        ("evilmx.example.com", "mx.example.com"),
        ("_25._tcp.mx.example.com", "mx.example.com"),
        ("smtp*.example.com", "smtp1.example.com"),  # RFC 7672 section 3.2.3
        ("*smtp.example.com", "1smtp.example.com"),
        ("m*x.example.com", "max.example.com"),
        ("mx.*.com", "mx.example.com"),
        ("*.*.com", "mx.example.com"),
        ("**.example.com", "mx.example.com"),
        ("*.example.com", "example.com"),
        ("*.example.com", "a.b.example.com"),
        ("*.com", "example.com"),
        ("*", "com"),
        ("*.", "com"),
        ("*.example.com", "*.example.com"),
        ("xn--*.example.com", "xn--bcher-kva.example.com"),  # RFC 6125 section 6.4.3
        ("mx.example.com\0", "mx.example.com"),
        ("mx.example.com\0.evil.test", "mx.example.com"),
        (" mx.example.com", "mx.example.com"),
        ("mx.example.com\n", "mx.example.com"),
        ("mx.example.com.", "mx.example.com"),
        ("bücher.example", "bücher.example"),  # a presented U-label is malformed
        ("mx.example.\u212aom", "mx.example.kom"),  # the Kelvin sign
        ("192.0.2.1", "192.0.2.1"),
        ("*.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("mx..example.com", "mx..example.com"),
        ("-mx.example.com", "-mx.example.com"),
        ("", ""),
        ("a." * 127 + "com", "a." * 127 + "com"),
        ("a" * 64 + ".com", "a" * 64 + ".com"),
        ("mx.example.com", "user@mx.example.com"),
        ("xn--zca.example", "\u0378.example"),  # not assigned, so no name
    ],
)
def test_no_match(presented: str, reference: str) -> None:
    assert not matches(presented, reference)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_compared_without_an_error(presented: str, reference: str) -> None:
    matches(presented, reference)
    assert not matches(presented + "\0", reference)


def test_the_first_reference_that_matches_is_told_in_canonical_form() -> None:
    assert first_match(["b.test", "c.test"], ["a.test", "C.test.", "b.test"]) == "c.test"
    assert first_match(["b.test"], ["not a name", "b.test"]) == "b.test"
    assert first_match([], ["b.test"]) is None
    assert first_match(["b.test"], []) is None


def _certificate(*common_names: str, san: list[x509.GeneralName] | None = None) -> Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in common_names])
    extensions = [x509.SubjectAlternativeName(san)] if san else []
    return Certificate(issue(subject, None, *extensions).der)


def test_a_dns_id_suppresses_the_common_name() -> None:
    """RFC 7672 section 3.2.3: even one that is malformed."""
    for dns_id in ("other.test", "192.0.2.1"):
        certificate = _certificate("mx.test", san=[x509.DNSName(dns_id)])
        assert presented_identifiers(certificate) == dns_ids(certificate) == (dns_id,)


def test_other_alternative_names_do_not() -> None:
    """RFC 6125 section 6.3, RFC 7672 section 3.2.3: SMTP supports no other identifier."""
    others = [
        x509.RFC822Name("postmaster@mx.test"),
        x509.UniformResourceIdentifier("https://mx.test/"),
        x509.DirectoryName(x509.Name([])),
    ]
    certificate = _certificate("mx.test", san=others)
    assert presented_identifiers(certificate) == ("mx.test",)
    assert dns_ids(certificate) == ()


def test_only_common_names_with_the_form_of_a_domain_name_count() -> None:
    """RFC 6125 section 6.3: each of several, wildcards too; OpenSSL takes all of them as well."""
    names = ["Mail Server", "mx.test ", "192.0.2.1", "*.example.com", "mx.test"]
    assert presented_identifiers(_certificate(*names)) == ("*.example.com", "mx.test")


def test_attributes_other_than_the_common_name_do_not_count() -> None:
    """RFC 6125 section 6.2.1."""
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "mx.test"),
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "test"),
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "mx"),
    ]
    assert presented_identifiers(Certificate(issue(x509.Name(attributes)).der)) == ()
