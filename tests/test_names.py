"""Names have one form; whatever is no name is refused with the reason."""

from __future__ import annotations

from typing import Any

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.names import canonical, canonical_address, is_address

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "b" * 61])  # 3 * 64 + 61


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("MX.Example", "mx.example"),
        ("mx.example.", "mx.example"),
        ("example", "example"),
        ("MX1.Bücher.Example.", "mx1.xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),  # IDNA 2008; the 2003 form would be "fass"
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # the ideographic full stop separates labels
        ("_25._tcp.mx.example", "_25._tcp.mx.example"),
        ("mx_1.example", "mx_1.example"),
        ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
        (dns.name.from_text("MX.Example."), "mx.example"),
        (dns.name.from_text("MX.Example", None), "mx.example"),
        (f"{LABEL_63}.example", f"{LABEL_63}.example"),
        (NAME_253, NAME_253),
        (NAME_253 + ".", NAME_253),
    ],
)
def test_every_spelling_of_a_name_has_one_form(name: Any, form: str) -> None:
    assert canonical(name) == form


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (".", "empty"),
        (dns.name.root, "empty"),
        ("a..example", "empty label"),
        (".example", "empty label"),
        ("example..", "empty label"),
        ("user@client.example", "mailbox"),
        ("192.0.2.1", "address"),
        ("10.1", "address"),  # RFC 1123 section 2.1: the last label of a host name is never all digits
        ("2001:db8::1", "address"),
        ("[192.0.2.1]", "malformed label"),
        ("client.example:25", "malformed label"),
        ("-a.example", "malformed label"),
        ("a-.example", "malformed label"),
        ("a b.example", "malformed label"),
        ("a\x00.example", "malformed label"),
        ("a.example\n", "malformed label"),
        ("*.example", "malformed label"),
        (dns.name.Name([b"a.b", b"example", b""]), "malformed label"),
        (f"a{LABEL_63}.example", "63 octets"),
        ("b" + NAME_253, "253 octets"),
        ("ü" * 64 + ".example", "internationalised"),
        ("ü" * 300, "253 octets"),
        ("\u0378.example", "internationalised"),  # an unassigned code point
        ("192.0.2.\uff11", "address"),  # a full-width digit one
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(name: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        canonical(name)


@pytest.mark.parametrize("name", [None, 25, b"mx.example"])
def test_what_is_neither_text_nor_a_dns_name_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError):
        canonical(name)


@given(st.one_of(st.text(), st.from_regex(r"[-_*.\w]{1,70}(\.[-\w]{1,70}){0,5}\.?", fullmatch=True)))
def test_canonical_refuses_a_text_or_gives_a_form_that_it_keeps(text: str) -> None:
    try:
        name = canonical(text)
    except ValueError:
        return
    assert canonical(name) == name
    assert name.isascii()
    assert name == name.lower()
    assert len(name) <= 253
    assert all(1 <= len(label) <= 63 for label in name.split("."))
    assert not is_address(name)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::0:1", "2001:db8::1"),
        ("2001:0db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),  # RFC 5952 section 4.2.3: the first of the longest runs
    ],
)
def test_an_address_has_one_form(text: str, form: str) -> None:
    assert canonical_address(text) == form


@pytest.mark.parametrize("text", ["", "mx.example", "192.0.2", "192.0.2.01", "192.0.2.1/24", "fe80::1%eth0", "1::2::3"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        canonical_address(text)
