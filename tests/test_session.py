"""Replies and the values of an SMTP session: the first digit decides, the text is for people (RFC 5321 section 4.2)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from mailtlspolicy import Message, TlsLevel
from mailtlspolicy.delivery.session import (
    Close,
    Connect,
    Connected,
    Ehlo,
    Reply,
    Secured,
    SessionFailure,
    StartTls,
    Transmit,
    Transmitted,
    Trouble,
)


@pytest.mark.parametrize(
    ("code", "success", "permanent"),
    [
        (200, True, False),
        (220, True, False),
        (250, True, False),
        (299, True, False),
        (300, False, False),
        (354, False, False),
        (400, False, False),
        (421, False, False),
        (454, False, False),
        (499, False, False),
        (500, False, True),
        (502, False, True),
        (599, False, True),
    ],
)
def test_the_first_digit_of_a_code_is_its_meaning(code: int, *, success: bool, permanent: bool) -> None:
    """RFC5321-4.2.1-a."""
    reply = Reply(code, ("2.0.0 ok", "5.0.0 no"))
    assert (reply.success, reply.permanent) == (success, permanent)


@pytest.mark.parametrize("code", [0, 1, 99, 100, 150, 199, 600, 999, -250, 2500])  # RFC5321-4.2.1-e: no 1yz in SMTP
def test_a_code_of_another_class_is_no_reply(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        Reply(code)


@pytest.mark.parametrize(
    ("lines", "keywords"),
    [
        (("mx",), ()),
        ((), ()),
        (("mx", "STARTTLS"), ("STARTTLS",)),
        (("mx", "starttls", "SIZE 1000"), ("STARTTLS", "SIZE")),
        (("mx", "SIZE 1000", "STARTTLS", "HELP"), ("SIZE", "STARTTLS", "HELP")),  # RFC5321-4.2.1-g: in the middle
        (("mx", "PIPELINING", "STARTTLS"), ("PIPELINING", "STARTTLS")),  # and on the last line
        (("STARTTLS", "SIZE"), ("SIZE",)),  # the first line is the greeting
        (("mx", "", "  ", "\t", "STARTTLS"), ("STARTTLS",)),
        (("mx", " STARTTLS"), ("STARTTLS",)),
        (("mx", "STARTTLS\t"), ("STARTTLS",)),
        (("mx", "XXXXXXXA"), ("XXXXXXXA",)),  # RFC3207-6-c: a middlebox has overwritten it
        (("mx", "STARTTLSX", "X-STARTTLS", "STARTTLS=1"), ("STARTTLSX", "X-STARTTLS", "STARTTLS=1")),
    ],
)
def test_the_keywords_are_the_first_words_of_the_further_lines(lines: tuple[str, ...], keywords: Any) -> None:
    assert Reply(250, lines).keywords == keywords


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 unknown", "5.1.1"),
        (550, "5.1.1", "5.1.1"),
        (450, "4.2.0 later", "4.2.0"),
        (250, "2.0.0 ok", "2.0.0"),
        (550, "5.123.456 x", "5.123.456"),
        (530, "5.7.0 Must issue a STARTTLS command first", "5.7.0"),  # RFC3207-4-g
        (550, "4.1.1 of another class", None),
        (450, "5.1.1 of another class", None),
        (354, "3.0.0 there is no such class", None),
        (550, "", None),
        (550, "unknown 5.1.1", None),
        (550, " 5.1.1 x", None),
        (550, "5.1 x", None),
        (550, "5.1.1.1 x", None),
        (550, "5.1.1x", None),
        (550, "5.1.1\tx", None),
        (550, "5.1234.1 x", None),
        (550, "5.\u0661.1 x", None),
        (550, "55.1.1 x", None),
    ],
)
def test_the_status_is_at_the_beginning_and_of_the_class_of_the_code(code: int, text: str, status: str | None) -> None:
    """RFC 2034 section 4."""
    assert Reply(code, (text,)).status == status
    assert Reply(code, (text, "5.9.9 y", "4.9.9 y")).status == status


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(550), "550"),
        (Reply(550, ("no",)), "550 no"),
        (Reply(550, ()), "550"),
        (Reply(550, ("5.7.1 refused because of x", "", "see y")), "550 5.7.1 refused because of x see y"),
    ],
)
def test_a_reply_as_text_has_all_that_was_said(reply: Reply, text: str) -> None:
    assert str(reply) == text


def test_an_endless_reply_is_a_short_text() -> None:
    assert len(str(Reply(550, ("x" * 100,) * 10_000))) < 2000


def test_the_lines_of_a_reply_are_no_single_text() -> None:
    with pytest.raises(TypeError):
        Reply(550, "5.1.1 unknown")
    assert Reply(250, ["mx", "STARTTLS"]).lines == ("mx", "STARTTLS")  # a list is one
    assert Reply(250, ()).lines == Reply(250).lines == ("",)


def test_what_passes_between_a_delivery_and_a_connector_is_made_of_values() -> None:
    message = Message("a@sender.test", ["b@client.test"], b"")
    values = [
        Connect("192.0.2.1", 25),
        Connected("session", Reply(220)),
        Ehlo("session"),
        StartTls("session", "mx.test", TlsLevel.DANE),
        Secured((b"leaf",), "TLSv1.3", "x"),
        Transmit("session", message, message.recipients, requiretls=True),
        Transmitted(Reply(250), (Reply(250),), Reply(354), None, SessionFailure(Trouble.LOST), committed=True),
        Close("session"),
    ]
    for value in values:
        assert pickle.loads(pickle.dumps(value)) == value
    assert len(set(values)) == len(values)
    assert Transmitted() == Transmitted(None, (), None, None, None, committed=False)
