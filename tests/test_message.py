"""A message on its way: what is a mailbox, and what must never reach a command."""

from __future__ import annotations

import json
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy import Message, NextHop, Verdict, World
from mailtlspolicy.plan.mx import Kind, MxHost

CONTENT = b"Subject: x\r\n\r\nx\r\n"

MAILBOXES = [
    "a@client.test",
    "a.b+c=d!#$%&'*/?^_`{|}~-@client.test",
    "A@CLIENT.TEST",
    '"a b"@client.test',
    '"a@b"@client.test',
    '"<>,;:()"@client.test',
    '"\\"\\\\"@client.test',
    '""@client.test',
    "a@xn--mnchen-3ya.test",
    "a@mx_1.client.test",
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "postmaster",  # RFC 5321 section 4.1.1.3
    "local",
    "a..b.@client.test",  # no dot-string, but in use, and it ends nothing
    "a,b;c@client.test",
    "a" * 64 + "@" + "b" * 63 + ".test",
]

NO_MAILBOXES = [
    "",
    " ",
    "@",
    "a@",
    "@client.test",
    "<a@client.test>",
    "a@client.test>",
    "a b@client.test",
    "a@client test",
    " a@client.test",
    "a@client.test ",
    "a@client.test\r\nDATA",
    "a@client.test\n",
    "a@client.test\r",
    "a\r\n@client.test",
    '"a\r\nb"@client.test',
    '"a\nb"@client.test',
    '"a"b"@client.test',
    '"a@client.test',
    '"a\\"@client.test',
    "a\x00@client.test",
    "a\x7f@client.test",
    "a\t@client.test",
    "\u00fc@client.test",
    "a@m\u00fcnchen.test",
    "a@client.test> SIZE=1",
    "a@b@client.test",
    "a@client.test:25",
    "a@[192.0.2.1]:25",
    "a@[relay.test]:2525",
    "a@[]",
    "a@[192.0.2.1",
    "a@[192.0.2.1]]",
    "a@[a b]",
    "a@[a\r\nb]",
    "a@(client.test)",
    "a@client.test,b@client.test",
]


@pytest.mark.parametrize("mailbox", MAILBOXES)
def test_a_mailbox_is_taken_as_it_is(mailbox: str) -> None:
    message = Message(mailbox, [mailbox], CONTENT)
    assert (message.sender, message.recipients) == (mailbox, (mailbox,))


@pytest.mark.parametrize("text", NO_MAILBOXES)
def test_what_could_end_a_path_or_a_command_is_no_mailbox(text: str) -> None:
    with pytest.raises(ValueError, match="mailbox"):
        Message("a@sender.test", [text], CONTENT)
    with pytest.raises(ValueError, match="mailbox"):
        Message("a@sender.test", ["b@client.test", text], CONTENT)
    if text:  # RFC8689-5-e: an empty reverse-path is that of a notification
        with pytest.raises(ValueError, match="mailbox"):
            Message(text, ["b@client.test"], CONTENT)


@given(st.text(min_size=1, max_size=30) | st.text('a"@<> \\\r\n[]:.\x00\u00fc', max_size=12))
def test_nothing_that_is_taken_can_break_out_of_a_command(text: str) -> None:
    try:
        Message("", [text], CONTENT)
    except ValueError:
        return
    assert text.isascii()
    assert text.isprintable()
    unquoted = text
    if text.startswith('"'):  # within quotation marks a ">" ends nothing (RFC 5321 section 4.1.2)
        end = next(place for place in range(1, len(text)) if text[place] == '"' and not _is_escaped(text, place))
        unquoted = text[end + 1 :]
    assert not set(unquoted) & set("<> ")
    assert unquoted.count("@") <= 1


def _is_escaped(text: str, place: int) -> bool:
    before = text[1:place]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def test_the_longest_path_fits_and_a_longer_one_does_not() -> None:
    """RFC8689-2-d: with the longest mailbox the command stays within 512 octets, REQUIRETLS or not."""
    longest = "a" * (254 - len("@client.test")) + "@client.test"
    message = Message(longest, [longest], CONTENT)
    assert len(f"MAIL FROM:<{message.sender}> REQUIRETLS\r\n") <= 512 + 11
    for sender, recipient in (("a" + longest, "b@client.test"), ("a@sender.test", "a" + longest)):
        with pytest.raises(ValueError, match="longer than 254"):
            Message(sender, [recipient], CONTENT)
    with pytest.raises(ValueError, match="longer") as error:
        Message("a" * 10_000_000 + "@x", ["b@client.test"], CONTENT)
    assert len(str(error.value)) < 300


def test_a_wrong_type_is_told_of_at_once() -> None:
    strays: list[tuple[Any, Any, Any]] = [
        (None, ["b@client.test"], CONTENT),
        (b"a@sender.test", ["b@client.test"], CONTENT),
        (0, ["b@client.test"], CONTENT),
        (False, ["b@client.test"], CONTENT),
        ("a@sender.test", "b@client.test", CONTENT),
        ("a@sender.test", ["b@client.test", None], CONTENT),
        ("a@sender.test", [b"b@client.test"], CONTENT),
        ("a@sender.test", None, CONTENT),
        ("a@sender.test", ["b@client.test"], "Subject: x"),
        ("a@sender.test", ["b@client.test"], None),
    ]
    for sender, recipients, content in strays:
        with pytest.raises(TypeError):
            Message(sender, recipients, content)
    for wish in ("requiretls", "tls_optional"):
        for stray in (1, "yes", None):
            with pytest.raises(TypeError):
                Message("a@sender.test", ["b@client.test"], CONTENT, **{wish: stray})  # type: ignore[arg-type]


@pytest.mark.parametrize("recipients", [[], ["b@client.test", "b@client.test"], ["b@c.test", "a@c.test", "b@c.test"]])
def test_there_is_a_recipient_and_each_once(recipients: list[str]) -> None:
    with pytest.raises(ValueError, match="recipient"):
        Message("a@sender.test", recipients, CONTENT)


@pytest.mark.parametrize(
    ("recipients", "next_hop"),
    [
        (["a@client.test"], "client.test"),
        (["a@client.test", "b@CLIENT.Test"], "client.test"),
        (['"a@b"@client.test'], "client.test"),
        (["a@[192.0.2.1]", "b@[192.0.2.1]"], "[192.0.2.1]"),
        (["a@[IPv6:2001:db8::1]", "b@[ipv6:2001:DB8:0::1]"], "[IPv6:2001:db8::1]"),
    ],
)
def test_the_next_hop_is_what_all_recipients_have_in_common(recipients: list[str], next_hop: str) -> None:
    message = Message("", recipients, CONTENT)
    assert message.next_hop == NextHop.parse(next_hop)
    assert message.by_next_hop() == (message,)


@pytest.mark.parametrize(
    "recipients", [["a@client.test", "b@other.test"], ["a@client.test", "postmaster"], ["postmaster"], ["a", "b"]]
)
def test_recipients_of_several_domains_or_of_none_have_none_in_common(recipients: list[str]) -> None:
    message = Message("", recipients, CONTENT)
    with pytest.raises(ValueError, match="in common"):
        _ = message.next_hop
    with pytest.raises(ValueError, match="in common"):
        World.from_json({}).engine().deliver(message)


def test_a_message_is_divided_by_the_domains_of_its_recipients_and_keeps_its_tags() -> None:
    """RFC8689-4.1-e."""
    to = ["a@x.test", "b@y.test", "c@X.test", "d@[192.0.2.1]", "e@y.test"]
    message = Message("s@sender.test", to, CONTENT, requiretls=True)
    parts = message.by_next_hop()
    assert [(str(part.next_hop), part.recipients) for part in parts] == [
        ("x.test", ("a@x.test", "c@X.test")),
        ("y.test", ("b@y.test", "e@y.test")),
        ("[192.0.2.1]", ("d@[192.0.2.1]",)),
    ]
    assert all(attrs.evolve(part, recipients=message.recipients) == message for part in parts)
    with pytest.raises(ValueError, match="'postmaster'"):
        attrs.evolve(message, recipients=["a@x.test", "postmaster"]).by_next_hop()


@pytest.mark.parametrize(
    "recipient",
    ["a@[relay.test]", "a@[127.0.0.1.]", "a@[IPv6:relay.test]", "a@[tag:x]", "a@192.0.2.1", "a@x..test", "a@-.test"],
)
def test_a_recipient_is_at_a_domain_or_an_address_and_can_not_choose_a_relay(recipient: str) -> None:
    """RFC 5321 section 4.1.3: in brackets stands an address; a relay is the operator's to choose."""
    with pytest.raises(ValueError, match=r"\S"):
        Message("", [recipient], CONTENT)
    with pytest.raises(ValueError, match=r"\S"):
        Message("", ["b@client.test", recipient], CONTENT)


@pytest.mark.parametrize("address", ["192.0.2.1", "IPv6:2001:db8::1"])
def test_a_recipient_at_an_address_is_sent_there(address: str) -> None:
    data = {"servers": {address.removeprefix("IPv6:"): {"25": {"starttls": "absent"}}}}
    outcome = World.from_json(data).engine().deliver(Message("", [f"a@[{address}]"], CONTENT))
    assert outcome.outcome == "delivered"
    assert outcome.plan.next_hop == NextHop.parse(f"[{address}]")


@pytest.mark.parametrize(
    ("content", "octets"),
    [
        (b"", 0),
        (b"\r\n" * 1000, 0),
        (b"abc", 3),
        (b"a\r\nbcd\r\ne\r\n", 3),
        (b"ab\ncde\rfghi", 4),  # each of which is sent as a line
        (b"x\n\r" + b"y" * 999 + b"\r\r\nz", 999),
        ("Subject: \N{GREEK SMALL LETTER ALPHA}\r\n".encode(), 11),
        (b"a\x0bb\x85c\x0cd\r\n", 7),  # what else `str.splitlines` takes for a line end is none
    ],
)
def test_the_longest_line_is_told_in_octets_without_its_end(content: bytes, octets: int) -> None:
    """RFC 5321 section 4.5.3.1.6."""
    assert Message("", ["a@client.test"], content).longest_line == octets


def test_a_message_is_a_value() -> None:
    message = Message("", ["a@client.test"], CONTENT, requiretls=True)
    assert message == Message("", ("a@client.test",), CONTENT, requiretls=True)
    assert message != attrs.evolve(message, tls_optional=True)
    assert len({message, pickle.loads(pickle.dumps(message))}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.sender = "a@sender.test"  # type: ignore[misc]  # that is the point
    assert "Subject" not in repr(message)
    assert json.dumps(message.recipients) == '["a@client.test"]'


def test_a_wish_is_named() -> None:
    with pytest.raises(TypeError):
        Message("", ["a@client.test"], CONTENT, True)  # type: ignore[call-arg]  # that is the point


def test_both_wishes_may_be_given() -> None:  # RFC8689-4.1-c: one of them is void then
    message = Message("", ["a@client.test"], CONTENT, requiretls=True, tls_optional=True)
    assert (message.requiretls, message.tls_optional) == (True, True)


@pytest.mark.parametrize(
    "content",
    [
        b"DKIM-Signature: v=1; d=sender.test\r\nFrom: a@sender.test\r\n\r\n",
        b"Received: by mx\r\n (a comment)\r\ndkim-signature : v=1;\r\n d=sender.test\r\n\r\nx\r\n",
        b"Received: by mx\rDKIM-Signature: v=1\n\n",  # sent as CRLF
    ],
)
def test_a_tls_report_bears_a_signature(content: bytes) -> None:  # RFC8460-3-j
    assert Message("", ["a@client.test"], content, tls_report=True).tls_optional
    (part,) = Message("", ["a@client.test"], content, tls_report=True).by_next_hop()
    assert part.tls_report


@pytest.mark.parametrize(
    "content",
    [
        b"",
        CONTENT,
        b"Subject: x\r\n\r\nDKIM-Signature: v=1\r\n",
        b"Subject: x\n\nDKIM-Signature: v=1\n\r\n",
        b"Subject: x\r\rDKIM-Signature: v=1\r\n",
        b"\r\nDKIM-Signature: v=1\r\n",
        b"Subject: x\r\n DKIM-Signature: v=1\r\n\r\n",
        b"X-DKIM-Signature: v=1\r\n\r\n",
        b"Subject: x\r\n" * 100_000,
    ],
)
def test_what_bears_no_signature_does_not_go_past_the_policies(content: bytes) -> None:
    with pytest.raises(ValueError, match="RFC 8460 section 3"):
        Message("", ["a@client.test"], content, tls_report=True)


SECRET = "the whole of somebody's mail "


@pytest.mark.parametrize("secret", [SECRET * 9, SECRET.encode() * 9, [SECRET], bytearray(SECRET.encode())])
def test_an_error_never_tells_the_content(secret: Any) -> None:
    plan = World.tour().engine().plan("signed.example")
    for given_wrong in (
        lambda: Message("", ["a@client.test"], [secret]),  # type: ignore[arg-type]  # that is the point
        lambda: Message("", ["a@client.test"], CONTENT, requiretls=secret),
        lambda: attrs.evolve(plan, tls_report=secret),
        lambda: attrs.evolve(plan, mx_secure=secret),
        lambda: attrs.evolve(plan.usable_hosts[0], requiretls=secret),
        lambda: Verdict(authenticated=secret, satisfied=True),
        lambda: MxHost("mx.test", secret),
        lambda: NextHop(Kind.RELAY, "mx.test", secure=secret),
    ):
        with pytest.raises(TypeError) as raised:
            given_wrong()
        assert SECRET not in str(raised.value)
        assert len(str(raised.value)) < 100
