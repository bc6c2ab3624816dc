"""The servers of the static world: what they show, what they say, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailtlspolicy import Message, TlsLevel, World
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
from mailtlspolicy.x509.pem import certificate_to_pem
from tests.sessions import look


def shown(server: Any, *, sni: str | None = "mx.example", address: str = "192.0.2.1", port: int = 25) -> Any:
    world = World.from_json({"servers": {"192.0.2.1": {"25": server}, "2001:DB8::0:1": {"2525": server}}})
    return look(world.connector, address, port, sni)


LEAF, OTHER = b"\x30\x03leaf", b"\x30\x05other"
CHAIN = [f"pem:{certificate_to_pem(LEAF)}", f"pem:{certificate_to_pem(OTHER)}"]


def test_a_server_shows_its_chain_at_its_address_and_port_and_all_else_refuses() -> None:
    secured = ("starttls", Secured((LEAF, OTHER)))
    assert shown({"chain": CHAIN}) == secured
    assert shown({"chain": CHAIN}, address="2001:db8:0::1", port=2525) == secured
    for address, port in (("192.0.2.1", 2525), ("192.0.2.9", 25)):
        step, failure = shown({"chain": CHAIN}, address=address, port=port)
        assert (step, failure.kind) == ("connect", Trouble.UNREACHABLE)


def test_the_server_name_chooses_the_chain_and_an_unknown_one_gets_the_default() -> None:
    server = {"chain": CHAIN[:1], "by_sni": {"b.example": CHAIN[1:]}}
    for sni, der in (("b.example", OTHER), ("mx.example", LEAF), (None, LEAF)):
        assert shown(server, sni=sni) == ("starttls", Secured((der,)))


ALERTED = SessionFailure(Trouble.HANDSHAKE, "the server ended the handshake by an alert", alert=True)


@pytest.mark.parametrize(
    ("sni", "without", "known", "unknown"),
    [
        ([], LEAF, OTHER, LEAF),
        ("required", None, OTHER, LEAF),
        ("strict", LEAF, OTHER, None),
        (["strict"], LEAF, OTHER, None),
        (["strict", "required"], None, OTHER, None),
    ],
)
def test_a_server_may_end_the_handshake_because_of_the_server_name(
    sni: Any, without: bytes | None, known: bytes | None, unknown: bytes | None
) -> None:
    server = {"chain": CHAIN[:1], "by_sni": {"B.example": CHAIN[1:]}, "sni": sni}
    for name, der in ((None, without), ("b.example", known), ("mx.example", unknown)):
        step, told = shown(server, sni=name)
        assert (step, told) == ("starttls", ALERTED if der is None else Secured((der,)))
    step, told = shown(server | {"starttls": "fail"}, sni="mx.example")
    assert (step, told.kind, told.alert) == ("starttls", Trouble.HANDSHAKE, False)


def test_helo_is_answered_where_it_is_asked_for_and_announces_nothing() -> None:
    server = {"replies": {"EHLO": 502, "HELO": "250 mx.example"}, "extensions": ["SIZE 1000"]}
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    assert connector.ehlo(Ehlo(connected.session)) == Reply(502)
    assert connector.ehlo(Ehlo(connected.session, helo=True)) == Reply(250, ("mx.example",))


@pytest.mark.parametrize("server", [{"drop_after": "handshake"}, {"tls": {"drop_after": "EHLO"}}])
def test_the_end_in_place_of_the_reply_to_ehlo_within_tls_is_a_failed_handshake(server: Any) -> None:
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    assert isinstance(connector.ehlo(Ehlo(connected.session)), Reply)
    connector.start_tls(StartTls(connected.session, None, TlsLevel.MAY))
    failure = connector.ehlo(Ehlo(connected.session))
    assert isinstance(failure, SessionFailure)
    assert (failure.kind, failure.alert) == (Trouble.HANDSHAKE, False)


def test_one_pem_text_may_hold_several_certificates() -> None:
    text = "pem:" + certificate_to_pem(LEAF) + "between\n" + certificate_to_pem(OTHER)
    assert shown({"chain": [text]}) == ("starttls", Secured((LEAF, OTHER)))


@pytest.mark.parametrize(
    ("server", "step", "told"),
    [
        ({"connect": "refused"}, "connect", Trouble.UNREACHABLE),
        ({"connect": "timeout", "greeting": 421, "starttls": "absent"}, "connect", Trouble.UNREACHABLE),
        ({"greeting": 421, "starttls": "absent"}, "connect", 421),
        ({"greeting": 554}, "connect", 554),
        ({"greeting": 220, "starttls": "absent"}, "ehlo", 250),
        ({"starttls": "refused"}, "starttls", 454),
        ({"starttls": "fail", "chain": CHAIN}, "starttls", Trouble.HANDSHAKE),
        ({"greeting": "554 5.7.1 no"}, "connect", 554),
        ({"drop_after": "connect"}, "connect", Trouble.LOST),
        ({"drop_after": "EHLO"}, "ehlo", Trouble.LOST),
        ({"drop_after": "STARTTLS"}, "starttls", Trouble.LOST),
        ({"replies": {"EHLO": 421}}, "ehlo", 421),
        ({"replies": {"EHLO": 502}}, "ehlo", 502),
        ({"replies": {"STARTTLS": "250 ok"}}, "starttls", 250),
        ({"starttls": "refused", "replies": {"STARTTLS": 501}}, "starttls", 501),
        ({"behind_starttls": "250 ok"}, "starttls", Trouble.INJECTED),
        ({"behind_starttls": "250 ok", "starttls": "fail"}, "starttls", Trouble.INJECTED),  # they came before it
        ({"behind_starttls": "250 ok", "replies": {"STARTTLS": 454}}, "starttls", 454),
    ],
)
def test_a_server_fails_at_the_first_step_that_is_said_to(server: Any, step: str, told: object) -> None:
    last, got = shown(server)
    got = got.greeting if isinstance(got, Connected) else got
    assert (last, got.kind if isinstance(got, SessionFailure) else got.code) == (step, told)


def say(server: dict[str, Any], *, in_tls: bool = False, recipients: int = 2) -> Transmitted:
    """The transaction with a server, within TLS or before it."""
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    if in_tls:
        assert isinstance(connector.start_tls(StartTls(connected.session, None, TlsLevel.MAY)), Secured)
    to = tuple(f"r{number}@client.test" for number in range(recipients))
    return connector.transmit(Transmit(connected.session, Message("", to, b""), to))


def codes(sent: Transmitted) -> list[Any]:
    replies = (sent.mail, *sent.recipients, sent.data, sent.end)
    return [None if reply is None else reply.code for reply in replies]


@pytest.mark.parametrize(
    ("server", "told", "lost", "committed"),
    [
        ({}, [250, 250, 250, 354, 250], False, False),
        ({"mail": 452}, [250, 250, 250, 354, 452], False, False),
        ({"mail": 452, "replies": {".": "550 5.6.0 no"}}, [250, 250, 250, 354, 550], False, False),
        ({"replies": {"MAIL": 451}}, [451, None, None], False, False),
        ({"replies": {"RCPT": 550}}, [250, 550, 550, None, None], False, False),
        ({"replies": {"RCPT": [250, 450]}}, [250, 250, 450, 354, 250], False, False),
        ({"replies": {"RCPT": [450]}}, [250, 450, 450, None, None], False, False),  # the last repeats
        ({"replies": {"DATA": 451}}, [250, 250, 250, 451, None], False, False),
        ({"replies": {"DATA": 250}}, [250, 250, 250, 250, None], False, False),
        ({"drop_after": "MAIL"}, [None, None, None], True, False),
        ({"drop_after": "RCPT"}, [250, None, None], True, False),
        ({"drop_after": "DATA"}, [250, 250, 250, None, None], True, False),
        ({"drop_after": "."}, [250, 250, 250, 354, None], True, True),
        ({"drop_after": ".", "replies": {"DATA": 451}}, [250, 250, 250, 451, None], False, False),
    ],
)
@pytest.mark.parametrize("in_tls", [False, True])
def test_a_server_says_in_a_transaction_what_it_is_said_to(
    server: dict[str, Any], told: list[int | None], *, lost: bool, committed: bool, in_tls: bool
) -> None:
    sent = say(server, in_tls=in_tls)
    assert (codes(sent), sent.failure is not None, sent.committed) == (told, lost, committed)
    assert sent.failure is None or sent.failure.kind is Trouble.LOST


def test_what_differs_within_tls_differs_there_alone() -> None:
    server = {"replies": {"MAIL": 530, "RCPT": 450}, "tls": {"replies": {"MAIL": 250}}}
    assert codes(say(server)) == [530, None, None]
    assert codes(say(server, in_tls=True)) == [250, 450, 450, None, None]
    server = {"drop_after": "MAIL", "tls": {"drop_after": "DATA"}}
    assert codes(say(server)) == [None, None, None]
    assert codes(say(server, in_tls=True)) == [250, 250, 250, None, None]
    assert codes(say({"tls": {"drop_after": "MAIL"}})) == [250, 250, 250, 354, 250]


def test_a_server_announces_before_and_within_tls_what_it_is_said_to() -> None:
    server = {"requiretls": True, "extensions": ["SIZE 1000"], "tls": {"extensions": ["8BITMIME"]}}
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    told = []
    for _ in range(2):
        reply = connector.ehlo(Ehlo(connected.session))
        assert isinstance(reply, Reply)
        told.append(reply.keywords)
        connector.start_tls(StartTls(connected.session, None, TlsLevel.MAY))
    assert told == [("STARTTLS", "SIZE"), ("REQUIRETLS", "8BITMIME")]
    connector.close(Close(connected.session))


def test_two_connections_to_a_server_are_apart() -> None:
    connector = World.from_json({"servers": {"192.0.2.1": {"25": {}}}}).connector
    first, second = (connector.connect(Connect("192.0.2.1", 25)) for _ in range(2))
    assert isinstance(first, Connected)
    assert isinstance(second, Connected)
    connector.start_tls(StartTls(first.session, None, TlsLevel.MAY))
    reply = connector.ehlo(Ehlo(second.session))
    assert isinstance(reply, Reply)
    assert "STARTTLS" in reply.keywords


@pytest.mark.parametrize(
    "server",
    [
        {"replies": []},
        {"replies": {"NOOP": 250}},
        {"replies": {"ehlo": 250}},
        {"replies": {"MAIL": [250]}},
        {"replies": {"MAIL": 199}},
        {"replies": {"MAIL": 600}},  # RFC5321-4.2.1-e
        {"replies": {"MAIL": "no"}},
        {"replies": {"MAIL": "5.7.1 no"}},
        {"replies": {"MAIL": ""}},
        {"replies": {"MAIL": True}},
        {"replies": {"MAIL": None}},
        {"replies": {"MAIL": "\u0662\u0665\u0660 ok"}},
        {"replies": {"RCPT": []}},
        {"replies": {"RCPT": [250, "x"]}},
        {"sni": "lenient"},
        {"sni": ["required", "lenient"]},
        {"sni": True},
        {"sni": None},
        {"greeting": 150},
        {"greeting": "hello"},
        {"mail": "soon"},
        {"drop_after": "QUIT"},
        {"drop_after": ""},
        {"drop_after": 5},
        {"behind_starttls": 250},
        {"extensions": "SIZE"},
        {"extensions": [5]},
        {"requiretls": "yes"},
        {"requiretls": 1},
        {"tls": []},
        {"tls": {"requiretls": True}},
        {"tls": {"replies": {"MAIL": 0}}},
        {"tls": {"drop_after": "never"}},
        {"tls": {"extensions": None}},
    ],
    ids=json.dumps,
)
def test_what_is_no_server_is_refused_with_its_place(server: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"192\.0\.2\.1:25"):
        World.from_json({"servers": {"192.0.2.1": {"25": server}}})
