"""The connectors, on `smtplib` and on `aiosmtplib`, against servers on loopback; the expectations are the clauses'."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy import Message, TlsLevel
from mailtlspolicy.adapters import smtp, smtp_async
from mailtlspolicy.adapters._text import reason
from mailtlspolicy.adapters.replies import MAX_LINE, MAX_LINES, MAX_REPLY, ReplyError, ReplyParser, SurplusError
from mailtlspolicy.adapters.smtp import SmtpConnector, address_literal, ehlo_argument
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.adapters.tls import client_context, name_of
from mailtlspolicy.delivery import transaction
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
from tests.sessions import look
from tests.smtp_server import Blocking, Receiver, SmtpServer
from tests.test_adapter_https import flood_of_tickets
from tests.tls_server import PATIENCE, Credentials, credentials, without_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mailtlspolicy.engine import Connector
    from tests.smtp_server import Visit

EHLO_REPLY = b"250-mx.example at your service\r\n250-SIZE 1000\r\n250-starttls\r\n250 8BITMIME\r\n"
GO_AHEAD = b"220 go ahead\r\n"

Shown = tuple[str, "Connected | Reply | Secured | SessionFailure"]


@pytest.fixture(scope="module")
def _server() -> Iterator[SmtpServer]:
    server = SmtpServer()
    yield server
    server.close()


@pytest.fixture
def server(_server: SmtpServer) -> SmtpServer:
    _server.settle()
    _server.heard, _server.sni, _server.outlasted = [], [], False
    return _server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return credentials(tmp_path_factory.mktemp("smtp"))


class Clock:
    """How late it is, beside the monotonic clock of the system; asyncio looks at it, too."""

    def __init__(self) -> None:
        self.late = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, usual = Clock(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: usual() + clock.late)
    return clock


class Make:
    """Makes connectors of one kind or the other, all of which can be called the same way."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.blocking: list[Blocking] = []

    def __call__(
        self,
        *,
        ehlo_name: str | None = "client.example",
        timeout: float = PATIENCE / 2,
        context: ssl.SSLContext | None = None,
        transmit_timeout: float = 60.0,
        data_timeout: float = PATIENCE / 2,
    ) -> Connector:
        settings: dict[str, Any] = {
            "ehlo_name": ehlo_name,
            "timeout": timeout,
            "transmit_timeout": transmit_timeout,
            "data_timeout": data_timeout,
            "context": client_context if context is None else lambda _: context,
        }
        if self.kind == "sync":
            return SmtpConnector(**settings)
        connector = AsyncSmtpConnector(**settings)
        self.blocking.append(Blocking(connector))
        return self.blocking[-1]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    make = Make(request.param)
    yield make
    for blocking in make.blocking:
        blocking.stop()


def hurried(connector: Connector, **limits: Any) -> Connector:
    """The connector with other time limits, for what follows in a session: what came before had all the time."""
    if isinstance(connector, Blocking):
        connector.inner = evolve(connector.inner, **limits)
        return connector
    assert isinstance(connector, SmtpConnector)
    return evolve(connector, **limits)


class Look:
    """Looks at a server as `check` does, and closes the connection."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __call__(self, server: SmtpServer, sni: str | None = "mx.example", **settings: Any) -> Shown:
        return look(self.make(**settings), server.address, server.port, sni)


@pytest.fixture
def probe(make: Make) -> Look:
    return Look(make)


def failed(shown: Shown, step: str, kind: Trouble = Trouble.LOST) -> str:
    """What the failure says that a look ended with."""
    assert shown[0] == step, shown
    assert isinstance(shown[1], SessionFailure), shown
    assert shown[1].kind is kind, shown
    return shown[1].detail


def secured(shown: Shown) -> Secured:
    assert isinstance(shown[1], Secured), shown
    return shown[1]


# --- a look at a server


def test_a_look_hands_over_the_chain_and_sends_no_mail(probe: Look, server: SmtpServer, served: Credentials) -> None:
    server.offers(served.context(), b"220 mx.example ESMTP\r\n", EHLO_REPLY, GO_AHEAD)
    result = secured(probe(server))
    server.settle()
    assert result.chain == served.chain
    assert result.protocol == "TLSv1.3"
    assert result.cipher.startswith("TLS_")
    # RFC 3207 section 4: STARTTLS without parameters, and QUIT only inside the session (section 4.1)
    assert server.heard == [b"EHLO client.example\r\n", b"STARTTLS\r\n", b"QUIT\r\n"]
    assert server.sni == ["mx.example"]


@pytest.mark.parametrize(("sni", "sent"), [(None, None), ("MX_1.Example.", "mx_1.example")])
def test_sni_is_what_the_effect_says(
    probe: Look, server: SmtpServer, served: Credentials, sni: str | None, sent: str | None
) -> None:
    server.offers(served.context(), b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    secured(probe(server, sni=sni))
    server.settle()
    assert server.sni == [sent]


def test_a_server_that_does_not_acknowledge_sni_will_do(
    probe: Look, server: SmtpServer, served: Credentials
) -> None:  # RFC7672-8.1-f
    context = served.context()
    server.offers(context, b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    context.sni_callback = None  # OpenSSL acknowledges a name only if somebody looks at it
    assert secured(probe(server)).chain == served.chain


def test_the_tls_context_is_that_of_the_level(make: Make, server: SmtpServer, served: Credentials) -> None:
    server.offers(served.context(), b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    levels: list[TlsLevel] = []

    def context(level: TlsLevel) -> ssl.SSLContext:
        levels.append(level)
        return client_context(level)

    kind = SmtpConnector if make.kind == "sync" else AsyncSmtpConnector
    made = kind(ehlo_name="client.example", context=context)
    connector = made if isinstance(made, SmtpConnector) else Blocking(made)
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.DANE)), Secured)
    connector.close(Close(session))
    if isinstance(connector, Blocking):
        connector.stop()
    assert levels == [TlsLevel.DANE]


def test_tls_1_2_is_offered(probe: Look, server: SmtpServer, served: Credentials) -> None:
    context = served.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server.offers(context, b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    result = secured(probe(server))
    assert (result.protocol, result.chain) == ("TLSv1.2", served.chain)


@pytest.mark.parametrize("go_ahead", [b"220\r\n", b"220 \r\n", b"220-yes\r\n220 go\r\n", b"220 go\n"])
def test_a_go_ahead_may_have_no_text_or_several_lines(
    probe: Look, server: SmtpServer, served: Credentials, go_ahead: bytes
) -> None:
    server.offers(served.context(), b"220\r\n", b"250-mx.example\r\n250 STARTTLS\r\n", go_ahead)
    secured(probe(server))


def test_replies_may_come_octet_by_octet(probe: Look, server: SmtpServer, served: Credentials) -> None:
    context = served.context()

    def script(connection: socket.socket) -> None:
        for reply in (b"220-a\r\n220 b\r\n", EHLO_REPLY):
            for octet in reply:
                connection.sendall(bytes([octet]))
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        with context.wrap_socket(connection, server_side=True) as session:
            server.hear(session)

    server.script = script
    secured(probe(server))


def test_a_server_that_ignores_quit_does_not_hold_up_the_look(
    probe: Look, server: SmtpServer, served: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "QUIT_SECONDS", 0.1)
    context = served.context()

    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        with context.wrap_socket(connection, server_side=True) as session:
            while server.hear(session):
                pass

    server.script = script
    secured(probe(server, timeout=2 * PATIENCE))
    assert not server.outlasted


def test_an_ipv6_server_is_greeted_with_an_ipv6_literal(probe: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "system_name", lambda: None)
    server = SmtpServer("::1")
    try:
        server.says(b"220 hi\r\n", b"250 mx.example\r\n", b"221 bye\r\n")
        assert probe(server, ehlo_name=None) == ("ehlo", Reply(250, ("mx.example",)))
        assert server.heard[0] == b"EHLO [IPv6:::1]\r\n"
    finally:
        server.close()


def test_a_system_without_a_full_name_greets_with_its_address(
    probe: Look, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    server.says(b"220 hi\r\n", b"250 mx.example\r\n", b"221 bye\r\n")
    assert probe(server, ehlo_name=None) == ("ehlo", Reply(250, ("mx.example",)))
    assert server.heard[0] == b"EHLO [127.0.0.1]\r\n"


# --- replies and failures, step by step


def test_a_closed_port_is_unreachable(probe: Look) -> None:
    server = SmtpServer()
    server.close()
    assert failed(probe(server), "connect", Trouble.UNREACHABLE) == os.strerror(errno.ECONNREFUSED)


def test_a_connection_that_does_not_come_about_has_a_cause() -> None:
    """asyncio has one text for all causes."""
    error = OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 25)")
    assert reason(error) == os.strerror(errno.EHOSTUNREACH)


@pytest.mark.parametrize(
    ("greeting", "code"), [(b"554 no mail here\r\n", 554), (b"421 busy\r\n", 421), (b"354 what\r\n", 354)]
)
def test_a_greeting_is_a_fact_whatever_it_says(make: Make, server: SmtpServer, greeting: bytes, code: int) -> None:
    server.says(greeting, b"221 bye\r\n")
    connector = make()
    connected = connector.connect(Connect(server.address, server.port))
    assert isinstance(connected, Connected)
    assert connected.greeting.code == code
    connector.close(Close(connected.session))
    server.settle()
    assert server.heard == [b"QUIT\r\n"]  # RFC 5321 section 3.1


@pytest.mark.parametrize("greeting", [b"SSH-2.0-x\r\n", b"220x\r\n", b"220-a\r\n421 b\r\n", b"220 a\r\n220 b\r\n", b""])
def test_what_is_no_greeting_is_no_connection(probe: Look, server: SmtpServer, greeting: bytes) -> None:
    server.script = lambda connection: connection.sendall(greeting)
    assert failed(probe(server), "connect")


def test_silence_is_bounded_and_named(probe: Look, server: SmtpServer) -> None:
    def script(connection: socket.socket) -> None:
        server.hear(connection)

    server.script = script
    assert failed(probe(server, timeout=0.2), "connect") == "timed out"


def test_the_time_limit_is_for_the_whole_reply(
    probe: Look, server: SmtpServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def feed(parser: ReplyParser, octets: bytes) -> Reply | None:
        read.release()
        return usual(parser, octets)

    def script(connection: socket.socket) -> None:
        for _ in range(10):
            clock.late += PATIENCE / 3
            connection.sendall(b"220-still here\r\n")
            read.acquire(timeout=PATIENCE)
        connection.sendall(b"220 at last\r\n")

    usual, read = ReplyParser.feed, threading.Semaphore(0)
    monkeypatch.setattr(ReplyParser, "feed", feed)
    server.script = script
    assert failed(probe(server, timeout=PATIENCE), "connect") == "timed out"
    read.release(10)


@pytest.mark.parametrize(
    "reply",
    [
        b"250 mx.example STARTTLS\r\n",  # the first line holds no keyword
        b"250-STARTTLS\r\n250 SIZE\r\n",
        b"250-mx.example\r\n250 STARTTLSX\r\n",
        b"250-mx.example\r\n250-\r\n250 SIZE STARTTLS\r\n",
        b"550 go away\r\n",
        b"421 busy\r\n",
    ],
)
def test_a_reply_to_ehlo_is_a_fact(probe: Look, server: SmtpServer, reply: bytes) -> None:
    server.says(b"220 hi\r\n", reply, b"221 bye\r\n")
    step, result = probe(server)
    assert step == "ehlo"
    assert isinstance(result, Reply)
    assert result.code == int(reply[:3])
    assert "STARTTLS" not in result.keywords
    server.settle()
    assert server.heard == [b"EHLO client.example\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize("reply", [b"500 what\r\n", b"502 what\r\n", b"504 what\r\n"])
def test_helo_is_said_where_it_is_asked_for_and_nowhere_else(make: Make, server: SmtpServer, reply: bytes) -> None:
    """Whatever comes as further lines of its reply is no extension."""
    server.says(b"220 hi\r\n", reply, b"250-mx.example\r\n250 STARTTLS\r\n", b"550 no\r\n", b"221 bye\r\n")
    connector = make()
    session = greeted(connector, server)
    assert connector.ehlo(Ehlo(session)) == Reply(int(reply[:3]), ("what",))
    assert connector.ehlo(Ehlo(session, helo=True)) == Reply(250, ("mx.example",))
    assert transmit(connector, session, message(b"x")) == Transmitted(mail=Reply(550, ("no",)))
    connector.close(Close(session))
    server.settle()
    assert server.heard == [HELLO, b"HELO client.example\r\n", b"MAIL FROM:<sender@sender.example>\r\n", QUIT]


@pytest.mark.parametrize(
    "reply",
    [
        b"250-mx.example\r\n550 STARTTLS\r\n",  # mixed codes (RFC 5321 section 4.2.1)
        b"250-mx.example\r\n250 STARTTLS\r\n220 go ahead\r\n",  # a reply nobody asked for
        b"250-mx.example\r\n250-STARTTLS\r\n",  # not the last line
        b"",
    ],
)
def test_starttls_is_not_asked_for_after_no_reply(probe: Look, server: SmtpServer, reply: bytes) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(b"220 hi\r\n")
        server.hear(connection)
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_WR)
        while server.hear(connection):
            pass

    server.script = script
    failed(probe(server), "ehlo")
    server.settle()
    assert server.heard == [b"EHLO client.example\r\n"]


@pytest.mark.parametrize(
    "reply", [b"454 not now\r\n", b"501 what\r\n", b"502 never\r\n", b"250 ok\r\n", b"354 go\r\n", b"221 bye\r\n"]
)
def test_only_220_permits_the_handshake(probe: Look, server: SmtpServer, reply: bytes) -> None:
    server.says(b"220 hi\r\n", EHLO_REPLY, reply, b"221 bye\r\n")
    step, result = probe(server)
    assert step == "starttls"
    assert isinstance(result, Reply)
    assert result.code == int(reply[:3])
    server.settle()
    assert server.heard == [b"EHLO client.example\r\n", b"STARTTLS\r\n", b"QUIT\r\n"]  # and no ClientHello


@pytest.mark.parametrize(
    "reply", [b"221-a\r\n220 b\r\n", b"220-a\r\n221 b\r\n", b"220go\r\n", b"\r\n220 go\r\n", b"220-go\r\n", b""]
)
def test_what_is_no_reply_to_starttls_is_a_lost_connection(probe: Look, server: SmtpServer, reply: bytes) -> None:
    def script(connection: socket.socket) -> None:
        for octets in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(octets)
            server.hear(connection)
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_WR)
        while server.hear(connection):
            pass

    server.script = script
    failed(probe(server), "starttls")
    server.settle()
    assert server.heard == [b"EHLO client.example\r\n", b"STARTTLS\r\n"]


def test_a_220_to_ehlo_is_not_one_to_starttls(probe: Look, server: SmtpServer) -> None:
    def script(connection: socket.socket) -> None:
        for octets in (b"220 hi\r\n", b"220-mx\r\n220 STARTTLS\r\n"):
            connection.sendall(octets)
            server.hear(connection)

    server.script = script
    failed(probe(server), "starttls", Trouble.LOST)


@pytest.mark.parametrize("reply", [GO_AHEAD, b"454 not now\r\n", b"220-go\r\n220 ahead\r\n"])
@pytest.mark.parametrize("behind", [b"250 injected\r\n", b"2", b"\r\n", b"\x16\x03\x03\x00\x7a"])
def test_octets_behind_the_reply_to_starttls_are_an_attack(
    probe: Look, server: SmtpServer, reply: bytes, behind: bytes
) -> None:
    """They come in the same segment. No handshake follows, and nothing is said in clear."""

    def script(connection: socket.socket) -> None:
        for octets in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(octets)
            server.hear(connection)
        connection.sendall(reply + behind)
        server.heard.append(connection.recv(4096))

    server.script = script
    assert "more than one reply" in failed(probe(server), "starttls", Trouble.INJECTED)
    server.settle()
    assert server.heard == [b"EHLO client.example\r\n", b"STARTTLS\r\n", b""]


def test_octets_that_come_late_never_enter_the_session(probe: Look, server: SmtpServer, served: Credentials) -> None:
    context = served.context()

    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY, GO_AHEAD):
            connection.sendall(reply)
            if reply is not GO_AHEAD:
                server.hear(connection)
        connection.recv(1, socket.MSG_PEEK)  # the ClientHello
        connection.sendall(b"250 injected\r\n")
        context.wrap_socket(connection, server_side=True).close()

    server.script = script
    failed(probe(server), "starttls", Trouble.HANDSHAKE)


@pytest.mark.parametrize(
    "script",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"250 what is this\r\n"),
        lambda connection: connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28"),  # the alert handshake_failure
    ],
)
def test_a_handshake_that_fails_is_told(
    probe: Look, server: SmtpServer, script: Callable[[socket.socket], None]
) -> None:
    def whole(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        connection.recv(4096)
        script(connection)
        connection.shutdown(socket.SHUT_WR)
        while octets := connection.recv(4096):
            server.heard.append(octets)

    server.script = whole
    assert failed(probe(server), "starttls", Trouble.HANDSHAKE)
    server.settle()
    assert not [octets for octets in server.heard if b"QUIT" in octets]


def test_a_handshake_that_hangs_is_bounded(make: Make, server: SmtpServer) -> None:
    server.says(b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    connector = make()
    session = opened(connector, server)
    result = hurried(connector, timeout=1).start_tls(StartTls(session, None, TlsLevel.ENCRYPT))
    connector.close(Close(session))
    assert result == SessionFailure(Trouble.HANDSHAKE, "timed out")


@pytest.mark.parametrize(
    "greeting",
    [b"220-" + b"x" * MAX_REPLY, b"220-x\r\n" * (MAX_LINES + 1), b"\r\n" * (MAX_LINES + 1), b"\n" * MAX_REPLY],
)
def test_replies_are_bounded(probe: Look, server: SmtpServer, greeting: bytes) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(greeting)
        server.hear(connection)

    server.script = script
    assert "more than" in failed(probe(server), "connect")


@pytest.mark.parametrize("piece", [b"220-x\r\n", b"x", b"220 \r\n", b"\0"])
def test_a_flood_is_not_taken_in(probe: Look, server: SmtpServer, piece: bytes) -> None:
    """Nor is there a limit to what is offered: the connection ends."""
    count = 0

    def script(connection: socket.socket) -> None:
        nonlocal count
        block = piece * (65_536 // len(piece))
        while True:
            count += connection.send(block)

    server.script = script
    failed(probe(server), "connect")
    server.settle()
    assert count < 64 * 2**20  # what the buffers of the system hold, and no more


def test_a_flood_that_nobody_asked_for_is_not_taken_in(make: Make, server: SmtpServer) -> None:
    """A server speaks on and on during the message, of which it reads nothing."""
    count = 0

    def script(connection: socket.socket) -> None:
        nonlocal count
        for reply in (b"220 hi\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n"):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(b"354 go\r\n")
        server.hear(connection)  # a line of the message
        while True:
            count += connection.send(b"250 ok\r\n" * 10_000)

    server.script = script
    connector = make()
    session = opened(connector, server)
    sent = transmit(connector, session, message(LARGE))
    server.settle()
    assert sent == Transmitted(OK, (OK,), GO, failure=EARLY)
    assert count < 64 * 2**20


def test_what_a_server_says_is_shown_as_one_short_line(make: Make, server: SmtpServer) -> None:
    server.script = lambda connection: connection.sendall(b"554 \x1b[31m\x00\xff" + b"x" * 1000 + b"\r\n")
    connector = make()
    connected = connector.connect(Connect(server.address, server.port))
    assert isinstance(connected, Connected)
    connector.close(Close(connected.session))
    detail = str(connected.greeting)
    assert detail.startswith("554 ")
    assert detail.isprintable()
    assert len(detail) < 300


def test_an_effect_on_a_connection_that_ended_is_a_failure(make: Make, server: SmtpServer) -> None:
    server.says(b"220 hi\r\n", b"250 mx\r\n", b"221 bye\r\n")
    connector = make()
    session = opened(connector, server)
    connector.close(Close(session))
    connector.close(Close(session))
    results = (
        connector.ehlo(Ehlo(session)),
        connector.start_tls(StartTls(session, None, TlsLevel.MAY)),
        transmit(connector, session, message(b"x")).failure,
    )
    assert [isinstance(result, SessionFailure) and result.kind for result in results] == [Trouble.LOST] * 3


# --- transactions


def greeted(connector: Connector, server: SmtpServer) -> Any:
    """A session after the greeting."""
    connected = connector.connect(Connect(server.address, server.port))
    assert isinstance(connected, Connected), connected
    return connected.session


def opened(connector: Connector, server: SmtpServer) -> Any:
    """A session after EHLO."""
    session = greeted(connector, server)
    assert isinstance(connector.ehlo(Ehlo(session)), Reply)
    return session


def message(content: bytes, *recipients: str, sender: str = "sender@sender.example") -> Message:
    return Message(sender, recipients or ("a@client.example",), content)


def transmit(connector: Connector, session: Any, sent: Message, *, requiretls: bool = False) -> Transmitted:
    return connector.transmit(Transmit(session, sent, sent.recipients, requiretls))


class Send:
    """Sends a message to a receiver, within TLS if it has any, and closes the connection."""

    def __init__(self, make: Make, server: SmtpServer) -> None:
        self.make = make
        self.server = server

    def __call__(
        self,
        receiver: Receiver,
        sent: Message,
        *,
        requiretls: bool = False,
        after: Callable[[], None] | None = None,
        **limits: float,
    ) -> tuple[Transmitted, Visit]:
        """Within the limits of the transaction; `after` is called at its end."""
        self.server.script = receiver
        connector = self.make()
        session = opened(connector, self.server)
        if receiver.tls is not None:
            assert isinstance(connector.start_tls(StartTls(session, "mx.example", TlsLevel.ENCRYPT)), Secured)
            assert isinstance(connector.ehlo(Ehlo(session)), Reply)
        result = transmit(hurried(connector, **limits), session, sent, requiretls=requiretls)
        if after is not None:
            after()
        connector.close(Close(session))
        self.server.settle()
        return result, receiver.visits[-1]


@pytest.fixture
def send(make: Make, server: SmtpServer) -> Send:
    return Send(make, server)


LARGE = (b"x" * 998 + b"\r\n") * 10_000  # larger than all buffers between here and the server
HELLO = b"EHLO client.example\r\n"
QUIT = b"QUIT\r\n"
OK = Reply(250, ("ok",))
GO = Reply(354, ("go",))
TAKEN = Reply(250, ("2.0.0 taken",))


@pytest.mark.parametrize("within_tls", [False, True])
def test_a_transaction_as_in_rfc_5321(send: Send, served: Credentials, *, within_tls: bool) -> None:
    context = served.context() if within_tls else None
    content = b"Subject: hello\r\n\r\nhello\r\n"
    sent, visit = send(Receiver(context), message(content, "a@client.example", "b@client.example"))
    assert sent == Transmitted(mail=OK, recipients=(OK, OK), data=GO, end=TAKEN)
    assert visit.heard == [
        *([HELLO, b"STARTTLS\r\n"] if within_tls else []),
        HELLO,
        b"MAIL FROM:<sender@sender.example>\r\n",
        b"RCPT TO:<a@client.example>\r\n",
        b"RCPT TO:<b@client.example>\r\n",
        b"DATA\r\n",
        QUIT,
    ]
    assert visit.content == content + b".\r\n"


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"", b"\r\n.\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n.\r\n"),
        (b"a\rb\r", b"a\r\nb\r\n.\r\n"),  # RFC 5321 section 2.3.8: neither goes alone
        (b"a\n\rb", b"a\r\n\r\nb\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..a\r\n.b.\r\n", b"...a\r\n..b.\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),  # no end of data is smuggled in by a line end that is none
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\0\xff.\r\n", b"a\0\xff.\r\n.\r\n"),
    ],
)
def test_the_octets_of_a_message_on_the_wire(send: Send, content: bytes, sent: bytes) -> None:
    """RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2."""
    result, visit = send(Receiver(), message(content))
    assert visit.content == sent
    assert result.end == TAKEN


@given(st.lists(st.sampled_from([b".", b"\r", b"\n", b"a", b"\0"]), max_size=12).map(b"".join))
def test_whatever_is_sent_ends_once_and_comes_back_as_it_was(content: bytes) -> None:
    wire = b"".join(transaction.blocks_of(content)) + transaction.END_OF_DATA
    lines = wire.split(b"\r\n")
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)
    assert lines.index(b".") == len(lines) - 2
    received = [line.removeprefix(b".") for line in lines[:-2]]  # RFC 5321 section 4.5.2
    ends = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert received == (ends.removesuffix(b"\n") if ends else b"").split(b"\n")


@given(
    st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\xe9"]), max_size=24).map(b"".join),
    st.integers(1, 5),
)
def test_a_message_in_blocks_is_the_message(content: bytes, octets: int) -> None:
    """Wherever a block ends, within a CRLF or at the beginning of a line."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    lines += b"" if lines.endswith(b"\r\n") else b"\r\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "BLOCK_OCTETS", octets)
        assert b"".join(transaction.blocks_of(content)) == re.sub(rb"(?m)^\.", b"..", lines)
        assert list(transaction.measures(content))[-1] == (len(lines), content.isascii())
        assert max(map(len, transaction.blocks_of(content)), default=0) <= 2 * (octets + 1)


@pytest.mark.parametrize("line", [b"\n", b"\r", b"\r\n", b".\n", b".\r\n", b"x" * 70 + b"\n"])
def test_what_a_message_costs_does_not_depend_on_its_size(line: bytes) -> None:
    content = line * (4 * 2**20 // len(line))
    tracemalloc.start()
    try:
        sizes = [size for size, _ in transaction.measures(content)]
        sent = sum(map(len, transaction.blocks_of(content)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes[-1] <= sent
    assert peak < 8 * transaction.BLOCK_OCTETS


def test_others_have_their_turn_between_two_blocks(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a message is measured, and when it is sent."""
    server.script = Receiver()
    sent = message(b"\n" * (20 * transaction.BLOCK_OCTETS))
    turns, seen = 0, []

    def noted(name: str) -> None:
        usual = getattr(transaction, name)

        def noting(content: bytes) -> Iterator[Any]:
            for block in usual(content):
                seen.append(turns)
                yield block

        monkeypatch.setattr(transaction, name, noting)

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def both() -> None:
        counter = asyncio.create_task(count())
        connector = AsyncSmtpConnector(ehlo_name="client.example")
        connected = await connector.connect(Connect(server.address, server.port))
        assert isinstance(connected, Connected)
        result = await connector.transmit(Transmit(connected.session, sent, sent.recipients))
        assert result.end == TAKEN
        await connector.close(Close(connected.session))
        counter.cancel()

    noted("measures")
    noted("blocks_of")
    asyncio.run(both())
    assert len(seen) == 40
    assert seen == sorted(set(seen))


def test_a_large_message_comes_whole(send: Send, served: Credentials) -> None:
    content = b".%d\r\n" * 400_000 % tuple(range(400_000))
    result, visit = send(Receiver(served.context()), message(content))
    assert result.end == TAKEN
    assert visit.content == content.replace(b".", b"..") + b".\r\n"


@pytest.mark.parametrize(
    ("keywords", "content", "requiretls", "parameters"),
    [
        ((), b"x\r\n", False, b""),
        ((), b"\xe9\r\n", False, b""),
        (("SIZE",), b"x\r\n", False, b" SIZE=3"),
        (("size 1000",), b".\n.\n", False, b" SIZE=6"),  # as sent, without the dots added (RFC 1870 section 3)
        (("SIZES", "8BITMIMES"), b"\xe9\r\n", False, b""),
        (("8BITMIME",), b"x\r\n", False, b""),
        (("8bitmime", "SIZE 5"), b"\xe9\r\n", False, b" SIZE=3 BODY=8BITMIME"),
        (("REQUIRETLS",), b"x\r\n", False, b""),
        (("REQUIRETLS",), b"x\r\n", True, b" REQUIRETLS"),
        (("REQUIRETLS", "8BITMIME", "SIZE"), b"\xe9\r\n", True, b" SIZE=3 BODY=8BITMIME REQUIRETLS"),
    ],
)
def test_the_parameters_of_mail(
    send: Send,
    keywords: tuple[str, ...],
    content: bytes,
    parameters: bytes,
    *,
    requiretls: bool,
) -> None:
    _, visit = send(Receiver(keywords=keywords), message(content), requiretls=requiretls)
    assert visit.heard[1] == b"MAIL FROM:<sender@sender.example>" + parameters + b"\r\n"


@pytest.mark.parametrize(("before", "within", "parameters"), [(("SIZE",), (), b""), ((), ("SIZE",), b" SIZE=3")])
def test_what_was_announced_before_tls_is_forgotten(
    send: Send, served: Credentials, before: tuple[str, ...], within: tuple[str, ...], parameters: bytes
) -> None:
    """RFC 3207 section 4.2."""
    _, visit = send(Receiver(served.context(), before, within), message(b"x\r\n"))
    assert visit.heard[3] == b"MAIL FROM:<sender@sender.example>" + parameters + b"\r\n"


def test_without_ehlo_in_tls_nothing_is_known(make: Make, server: SmtpServer, served: Credentials) -> None:
    receiver = server.script = Receiver(served.context(), ("SIZE", "8BITMIME"), ("SIZE", "8BITMIME"))
    connector = make()
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
    assert transmit(connector, session, message(b"\xe9")).end == TAKEN
    connector.close(Close(session))
    server.settle()
    assert receiver.visits[-1].heard[2] == b"MAIL FROM:<sender@sender.example>\r\n"


def test_what_an_earlier_ehlo_announced_is_forgotten(make: Make, server: SmtpServer) -> None:
    """The reply to the last one counts, whatever it is (RFC 5321 section 4.1.4)."""
    usual = b"250-mx\r\n250 SIZE\r\n"
    server.says(b"220 hi\r\n", usual, b"502 what\r\n", b"250-mx\r\n250 SIZE\r\n", b"550 no\r\n", b"221 bye\r\n")
    connector = make()
    session = opened(connector, server)
    assert connector.ehlo(Ehlo(session)) == Reply(502, ("what",))
    assert connector.ehlo(Ehlo(session, helo=True)) == Reply(250, ("mx",))
    transmit(connector, session, message(b"x"))
    connector.close(Close(session))
    server.settle()
    assert server.heard[3] == b"MAIL FROM:<sender@sender.example>\r\n"


def test_a_notification_has_an_empty_reverse_path(send: Send) -> None:  # RFC 5321 section 4.5.5
    _, visit = send(Receiver(), message(b"x\r\n", sender=""))
    assert visit.heard[1] == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    "mailbox",
    [
        '"a b"@client.example',
        '"<>"@client.example',
        "a,b@client.example",
        "Postmaster",
        "a@[192.0.2.1]",
        '"a\\"b"@client.example',
    ],
)
def test_mailboxes_go_as_they_are(send: Send, mailbox: str) -> None:
    _, visit = send(Receiver(), message(b"x\r\n", mailbox, sender=mailbox))
    assert visit.heard[1:3] == [b"MAIL FROM:<%s>\r\n" % mailbox.encode(), b"RCPT TO:<%s>\r\n" % mailbox.encode()]


@pytest.mark.parametrize("reply", [b"550 5.7.1 no\r\n", b"451 4.3.0 later\r\n", b"354 what\r\n", b"421 bye\r\n"])
def test_a_refusal_of_mail_ends_the_transaction(send: Send, reply: bytes) -> None:
    sent, visit = send(Receiver(replies={"MAIL": reply}), message(b"x"))
    assert sent.mail is not None
    assert sent == Transmitted(mail=sent.mail)
    assert sent.mail.code == int(reply[:3])
    assert [line[:4] for line in visit.heard] == [b"EHLO", b"MAIL", b"QUIT"]


def test_every_recipient_has_a_reply_of_its_own(send: Send) -> None:
    replies = (b"550 5.1.1 no\r\n", b"251 forwarded\r\n", b"450-4.2.0 not\r\n450 4.2.0 now\r\n")
    three = ("a@client.example", "b@client.example", "c@client.example")
    sent, visit = send(Receiver(replies={"RCPT": replies}), message(b"x\r\n", *three))
    assert sent.recipients == (
        Reply(550, ("5.1.1 no",)),
        Reply(251, ("forwarded",)),
        Reply(450, ("4.2.0 not", "4.2.0 now")),
    )
    assert sent.end == TAKEN
    assert visit.content == b"x\r\n.\r\n"


def test_only_the_recipients_of_the_effect_are_named(make: Make, server: SmtpServer) -> None:
    receiver = server.script = Receiver()
    connector = make()
    session = opened(connector, server)
    three = ("a@client.example", "b@client.example", "c@client.example")
    connector.transmit(Transmit(session, message(b"x", *three), three[1:2]))
    connector.close(Close(session))
    server.settle()
    assert [line for line in receiver.visits[-1].heard if line.startswith(b"RCPT")] == [
        b"RCPT TO:<b@client.example>\r\n"
    ]


def test_without_an_accepted_recipient_there_is_no_data(send: Send) -> None:
    replies = (b"550 no\r\n", b"450 later\r\n")
    sent, visit = send(Receiver(replies={"RCPT": replies}), message(b"x", "a@client.example", "b@client.example"))
    assert sent == Transmitted(mail=OK, recipients=(Reply(550, ("no",)), Reply(450, ("later",))))
    assert [line[:4] for line in visit.heard] == [b"EHLO", b"MAIL", b"RCPT", b"RCPT", b"QUIT"]


@pytest.mark.parametrize("reply", [b"554 5.6.0 no\r\n", b"451 later\r\n", b"250 ok\r\n", b"221 bye\r\n", b"350 go\r\n"])
def test_without_leave_there_is_no_message(send: Send, reply: bytes) -> None:
    sent, visit = send(Receiver(replies={"DATA": reply}), message(b"x"))
    assert sent.data is not None
    assert sent == Transmitted(mail=OK, recipients=(OK,), data=sent.data)
    assert sent.data.code == int(reply[:3])
    assert [line[:4] for line in visit.heard] == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]
    assert visit.content == b""


@pytest.mark.parametrize("reply", [b"554 5.6.0 no\r\n", b"451 later\r\n", b"354 what\r\n", b"421 bye\r\n"])
def test_the_reply_to_the_message_is_a_fact(send: Send, reply: bytes) -> None:
    sent, visit = send(Receiver(replies={".": reply}), message(b"x"))
    assert sent.end is not None
    assert sent == Transmitted(mail=OK, recipients=(OK,), data=GO, end=sent.end)
    assert sent.end.code == int(reply[:3])
    assert visit.heard[-1] == QUIT


EARLY = SessionFailure(Trouble.LOST, "the server answered before the end of what it was sent")
MORE = SessionFailure(Trouble.LOST, "the server sent more than one reply")


def test_whatever_follows_the_reply_to_the_message_it_was_taken(send: Send) -> None:
    """RFC 5321 section 4.2.5: with that reply the server has taken responsibility."""
    sent, visit = send(Receiver(replies={".": b"250 2.0.0 taken\r\n421 4.3.2 closing\r\n"}), message(b"x"))
    assert sent == Transmitted(mail=OK, recipients=(OK,), data=GO, end=TAKEN, failure=MORE)
    assert visit.heard[-1] == b"DATA\r\n"  # the dialogue is not whole


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("MAIL", Transmitted(mail=Reply(550, ("no",)), failure=MORE)),
        ("RCPT", Transmitted(mail=OK, recipients=(Reply(550, ("no",)),), failure=MORE)),
        ("DATA", Transmitted(mail=OK, recipients=(OK, OK), data=Reply(550, ("no",)), failure=MORE)),
        (".", Transmitted(mail=OK, recipients=(OK, OK), data=GO, end=Reply(550, ("no",)), failure=MORE)),
    ],
)
def test_who_says_good_bye_behind_a_reply_has_answered(send: Send, command: str, expected: Transmitted) -> None:
    """RFC 5321 section 3.8: a 421 may come at any time."""
    receiver = Receiver(replies={command: b"550 no\r\n421 4.7.0 too many errors\r\n"})
    sent, visit = send(receiver, message(b"x", "a@client.example", "b@client.example"))
    assert sent == expected
    assert QUIT not in visit.heard


def test_nothing_is_sent_where_more_than_leave_was_given(send: Send) -> None:
    sent, visit = send(Receiver(replies={"DATA": b"354 go\r\n250 taken\r\n"}), message(b"x"))
    assert sent == Transmitted(mail=OK, recipients=(OK,), data=GO, failure=MORE)
    assert visit.content == b""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("MAIL", Transmitted()),
        ("RCPT", Transmitted(mail=OK)),
        ("DATA", Transmitted(mail=OK, recipients=(OK, OK))),
        (".", Transmitted(mail=OK, recipients=(OK, OK), data=GO, committed=True)),
    ],
)
@pytest.mark.parametrize("instead", [b"", b"what?\r\n", b"250-a\r\n350 b\r\n", "late"])
def test_a_connection_that_is_lost_keeps_what_was_said(
    send: Send, command: str, instead: bytes | str, expected: Transmitted
) -> None:
    if instead == "late":
        release = threading.Event()

        class Late(dict[str, "bytes | tuple[bytes, ...]"]):
            def get(self, key: str, default: Any = None) -> Any:
                if key == command:
                    release.wait(PATIENCE)
                return default

        receiver = Receiver(replies=Late())
        limits: dict[str, Any] = {"timeout": 1, "data_timeout": 1, "after": release.set}
    else:
        assert isinstance(instead, bytes)
        receiver = Receiver(replies={command: instead})
        limits = {}
    sent, visit = send(receiver, message(b"x", "a@client.example", "b@client.example"), **limits)
    assert evolve(sent, failure=None) == expected
    assert sent.failure is not None
    assert sent.failure.kind is Trouble.LOST
    assert (sent.failure.detail == "timed out") is (instead == "late")
    assert QUIT not in visit.heard


def test_a_server_that_does_not_read_is_left(make: Make, server: SmtpServer) -> None:
    """What it was sent is not the whole message, and the time limit holds."""
    release = threading.Event()

    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n"):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(b"354 go\r\n")
        release.wait(PATIENCE)

    server.script = script
    connector = make()
    session = opened(connector, server)
    sent = transmit(hurried(connector, timeout=1), session, message(LARGE))
    assert not release.is_set()
    release.set()
    assert sent == Transmitted(mail=OK, recipients=(OK,), data=GO, failure=SessionFailure(Trouble.LOST, "timed out"))


def test_a_transaction_is_bounded_as_a_whole(make: Make, server: SmtpServer, clock: Clock) -> None:
    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", b"250 mx\r\n"):
            connection.sendall(reply)
            server.hear(connection)
        while True:
            clock.late += PATIENCE / 4
            connection.sendall(b"250 ok\r\n")
            server.hear(connection)

    server.script = script
    connector = make(transmit_timeout=PATIENCE * 0.9)
    session = opened(connector, server)
    sent = transmit(connector, session, message(b"x", *(f"a{at}@client.example" for at in range(50))))
    assert sent.failure == SessionFailure(Trouble.LOST, "timed out")
    assert 1 <= len(sent.recipients) <= 3


def test_records_without_content_do_not_outlast_the_time(
    make: Make, server: SmtpServer, served: Credentials, tmp_path: Path
) -> None:
    context = served.context()
    context.num_tickets = 0
    context.keylog_filename = str(tmp_path / "keys")

    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        flood_of_tickets(context.wrap_socket(connection, server_side=True), tmp_path / "keys")

    server.script = script
    connector = make()
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
    result = hurried(connector, timeout=0.5).ehlo(Ehlo(session))
    assert result == SessionFailure(Trouble.LOST, "timed out")
    assert not server.outlasted
    server.drop()  # its system may not notice that what was cut has been closed


def test_messages_that_openssl_skips_do_not_outlast_the_time_of_the_handshake(make: Make, server: SmtpServer) -> None:
    """HelloRequest, which a client skips, without end (RFC 5246 section 7.4.1.1)."""

    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        connection.recv(4096)
        without_end(lambda: connection.sendall(b"\x16\x03\x03\x40\x00" + bytes(0x4000)))

    server.script = script
    connector = make()
    session = opened(connector, server)
    result = hurried(connector, timeout=1).start_tls(StartTls(session, None, TlsLevel.ENCRYPT))
    assert result == SessionFailure(Trouble.HANDSHAKE, "timed out")
    assert not server.outlasted
    server.drop()


# --- what a server says before it is asked


def during_the_message(
    server: SmtpServer, context: ssl.SSLContext | None, script: Callable[[socket.socket], None]
) -> bytearray:
    """The server answers up to DATA, and runs a script when the first octet of the message has come.

    What it reads beyond that, where the script has read nothing, is returned.
    """
    content = bytearray()

    def whole(connection: socket.socket) -> None:
        offer = b"250-mx\r\n250 STARTTLS\r\n" if context else b"250 mx\r\n"
        for reply in (b"220 hi\r\n", offer, *([GO_AHEAD] if context else [])):
            connection.sendall(reply)
            if reply is not GO_AHEAD:
                server.hear(connection)
        if context:
            connection = context.wrap_socket(connection, server_side=True)
            server.hear(connection)
            connection.sendall(b"250 mx\r\n")
            server.hear(connection)
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            connection.sendall(reply)
            if reply != b"354 go\r\n":
                server.hear(connection)
        with connection:
            content.extend(connection.recv(1))
            script(connection)
            while not content.endswith(b"\r\n.\r\n") and (octets := connection.recv(65_536)):
                content.extend(octets)
            if content.endswith(b"\r\n.\r\n"):
                connection.sendall(b"250 2.0.0 taken\r\n")

    server.script = whole
    return content


@pytest.fixture
def in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is written at once."""
    monkeypatch.setattr(transaction, "BLOCK_OCTETS", len(LARGE))
    monkeypatch.setattr(smtp_async, "MAX_UNSENT", 2 * len(LARGE))


def sent_within(
    connector: Connector, server: SmtpServer, content: bytes, *, within_tls: bool, **limits: float
) -> Transmitted:
    session = opened(connector, server)
    if within_tls:
        assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
        assert isinstance(connector.ehlo(Ehlo(session)), Reply)
    result = transmit(hurried(connector, **limits), session, message(content))
    connector.close(Close(session))
    return result


IN_CLEAR_AND_IN_TLS = pytest.mark.parametrize("within_tls", [False, True], ids=["clear", "tls"])
REFUSALS = pytest.mark.parametrize("reply", [b"552 5.3.4 too big\r\n", b"421 4.3.2 bye\r\n", b"554-a\r\n\r\n554 b\r\n"])


def read(octets: bytes) -> Reply:
    reply = ReplyParser().feed(octets)
    assert reply is not None
    return reply


def refused_early(octets: bytes) -> Transmitted:
    return Transmitted(OK, (OK,), GO, read(octets), EARLY)


@IN_CLEAR_AND_IN_TLS
@REFUSALS
def test_a_refusal_that_comes_before_a_write_fails_counts(
    make: Make, server: SmtpServer, served: Credentials, in_one_block: None, reply: bytes, *, within_tls: bool
) -> None:
    """In the midst of a write the server refuses the message and resets the connection."""

    def script(connection: socket.socket) -> None:
        connection.sendall(reply)
        connection.close()  # what it has not read makes this an RST

    during_the_message(server, served.context() if within_tls else None, script)
    assert sent_within(make(), server, LARGE, within_tls=within_tls) == refused_early(reply)


@IN_CLEAR_AND_IN_TLS
def test_a_refusal_by_a_server_that_reads_no_more_counts(
    make: Make, server: SmtpServer, served: Credentials, in_one_block: None, *, within_tls: bool
) -> None:
    over = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(b"452 4.3.1 full\r\n")
        over.wait(PATIENCE)

    during_the_message(server, served.context() if within_tls else None, script)
    try:
        result = sent_within(make(), server, LARGE, within_tls=within_tls, timeout=1)
    finally:
        over.set()
    assert result == refused_early(b"452 4.3.1 full\r\n")


@IN_CLEAR_AND_IN_TLS
@REFUSALS
@pytest.mark.parametrize("pieces", [False, True])
def test_a_refusal_that_comes_before_the_final_dot_ends_the_transaction(
    make: Make, server: SmtpServer, served: Credentials, reply: bytes, *, within_tls: bool, pieces: bool
) -> None:
    """The server reads on. It can have no message that we do not know of."""

    def script(connection: socket.socket) -> None:
        for piece in [reply[at : at + 1] for at in range(len(reply))] if pieces else [reply]:
            connection.sendall(piece)

    content = during_the_message(server, served.context() if within_tls else None, script)
    assert sent_within(make(), server, LARGE, within_tls=within_tls) == refused_early(reply)
    server.settle()
    assert not content.endswith(b".\r\n")
    assert b"QUIT" not in content[-10:]  # which would be a line of the message


@IN_CLEAR_AND_IN_TLS
@pytest.mark.parametrize(
    "reply", [b"250 2.0.0 taken\r\n", b"354 go\r\n", b"250 a\r\n250 b\r\n", b"what?\r\n", b"\n" * 500, b"25", b"55"]
)
def test_a_success_that_comes_before_the_final_dot_is_none(
    make: Make,
    server: SmtpServer,
    served: Credentials,
    monkeypatch: pytest.MonkeyPatch,
    reply: bytes,
    *,
    within_tls: bool,
) -> None:
    """RFC 5321 sections 3.3 and 4.1.1.4: the reply to a message comes after the end of data."""
    for module in (smtp, smtp_async):
        monkeypatch.setattr(module, "EARLY_SECONDS", 0.1)
    content = during_the_message(
        server, served.context() if within_tls else None, lambda connection: connection.sendall(reply)
    )
    result = sent_within(make(), server, LARGE, within_tls=within_tls)
    assert result.failure is not None
    assert result == Transmitted(OK, (OK,), GO, failure=result.failure)
    assert result.failure.kind is Trouble.LOST
    server.settle()
    assert not content.endswith(b".\r\n")


@IN_CLEAR_AND_IN_TLS
def test_an_empty_line_before_the_final_dot_says_nothing(
    make: Make, server: SmtpServer, served: Credentials, *, within_tls: bool
) -> None:
    content = during_the_message(
        server, served.context() if within_tls else None, lambda connection: connection.sendall(b"\r\n")
    )
    assert sent_within(make(), server, LARGE, within_tls=within_tls).end == TAKEN
    assert content == LARGE + b".\r\n"


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("command", ["EHLO", "STARTTLS", "MAIL", "MAIL in tls"])
@pytest.mark.parametrize("said", [b"421 4.3.2 bye\r\n", b"554 no\r\n", b"250 ok\r\n", b"42", b""])
def test_a_refusal_that_a_command_crosses_is_its_reply(
    make: Make, server: SmtpServer, served: Credentials, said: bytes, command: str, ending: str
) -> None:
    """RFC 5321 section 3.8: a server may say good-bye at any time. It is gone when the command is sent."""
    context = served.context()
    within_tls = command == "MAIL in tls"

    def script(connection: socket.socket) -> None:
        connection.sendall(b"220 hi\r\n")
        if command != "EHLO":
            server.hear(connection)
            connection.sendall(EHLO_REPLY)
        if within_tls:
            server.hear(connection)
            connection.sendall(GO_AHEAD)
            connection = context.wrap_socket(connection, server_side=True)
            server.hear(connection)
            connection.sendall(b"250 mx\r\n")
        with connection:
            go.wait(PATIENCE)
            connection.sendall(said)
            if ending == "rst":
                reset(connection)

    go = threading.Event()
    server.script = script
    connector = make()
    session = greeted(connector, server)
    if command != "EHLO":
        assert isinstance(connector.ehlo(Ehlo(session)), Reply)
    if within_tls:
        assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
        assert isinstance(connector.ehlo(Ehlo(session)), Reply)
    go.set()
    server.settle()
    result: object
    if command == "EHLO":
        result = connector.ehlo(Ehlo(session))
    elif command == "STARTTLS":
        result = connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT))
    else:
        sent = transmit(connector, session, message(b"x"))
        result = sent.mail or sent.failure
    connector.close(Close(session))
    if said[:1] in {b"4", b"5"} and said.endswith(b"\n"):
        assert result == read(said)
    elif said != b"250 ok\r\n" or ending == "rst":  # else the command left, and who is to know which came first?
        assert isinstance(result, SessionFailure)
        assert result.kind is Trouble.LOST


# --- a handshake that the server has not accepted


def alert(level: int, number: int) -> bytes:
    return bytes([21, 3, 3, 0, 2, level, number])  # RFC 5246 section 7.2


CLOSED = SessionFailure(Trouble.HANDSHAKE, "closed before EHLO was answered")


def within_tls(server: SmtpServer, context: ssl.SSLContext, script: Callable[[ssl.SSLSocket], None]) -> None:
    """The server does a handshake, and then runs a script."""

    def whole(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        with context.wrap_socket(connection, server_side=True) as session:
            script(session)

    server.script = whole


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_misses_a_client_certificate_ends_the_handshake(
    make: Make, server: SmtpServer, served: Credentials, version: ssl.TLSVersion, *, settled: bool
) -> None:
    """In TLS 1.3 it says so when we have done with it (RFC 8446 section 4.4.2.4)."""
    context = served.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    within_tls(server, context, lambda session: None)
    connector = make()
    session = opened(connector, server)
    result: object = connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT))
    if version is ssl.TLSVersion.TLSv1_3:
        assert isinstance(result, Secured)
        if settled:
            server.settle()
        result = connector.ehlo(Ehlo(session))
    connector.close(Close(session))
    assert isinstance(result, SessionFailure)
    assert result.kind is Trouble.HANDSHAKE
    assert result.alert
    is_old = version is ssl.TLSVersion.TLSv1_2
    assert result.tls_error == ("SSLV3_ALERT_HANDSHAKE_FAILURE" if is_old else "TLSV13_ALERT_CERTIFICATE_REQUIRED")


def unwrapped(session: ssl.SSLSocket) -> None:
    """End the TLS session, and wait for the other side to end it, too, but not for long."""
    session.settimeout(0.1)
    session.unwrap()


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("end", [lambda session: None, reset, unwrapped])
def test_a_connection_that_ends_before_all_else_within_tls_is_a_handshake_that_failed(
    make: Make,
    server: SmtpServer,
    served: Credentials,
    end: Callable[[ssl.SSLSocket], None],
    *,
    settled: bool,
) -> None:
    within_tls(server, served.context(), end)
    connector = make()
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
    if settled:
        server.settle()
    assert connector.ehlo(Ehlo(session)) == CLOSED
    connector.close(Close(session))


@pytest.mark.parametrize("said", [b"250-mx\r\n", b"2", b"\r\n", b"what?\r\n", b"250 a\r\n250 b\r\n"])
def test_who_has_spoken_within_tls_has_accepted_the_handshake(
    make: Make, server: SmtpServer, served: Credentials, said: bytes
) -> None:
    def script(session: ssl.SSLSocket) -> None:
        server.hear(session)
        session.sendall(said)

    within_tls(server, served.context(), script)
    connector = make()
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
    result = connector.ehlo(Ehlo(session))
    connector.close(Close(session))
    assert isinstance(result, SessionFailure)
    assert result.kind is Trouble.LOST


def test_a_server_that_is_silent_within_tls_has_not_ended_the_handshake(
    make: Make, server: SmtpServer, served: Credentials
) -> None:
    over = threading.Event()
    within_tls(server, served.context(), lambda _: [over.wait(PATIENCE)].clear())
    connector = make()
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
    result = hurried(connector, timeout=0.5).ehlo(Ehlo(session))
    over.set()
    connector.close(Close(session))
    assert result == SessionFailure(Trouble.LOST, "timed out")


def test_a_second_ehlo_within_tls_says_nothing_of_the_handshake(
    make: Make, server: SmtpServer, served: Credentials
) -> None:
    def script(session: ssl.SSLSocket) -> None:
        server.hear(session)
        session.sendall(b"502 what\r\n")

    within_tls(server, served.context(), script)
    connector = make()
    session = opened(connector, server)
    assert isinstance(connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT)), Secured)
    assert connector.ehlo(Ehlo(session)) == Reply(502, ("what",))
    server.settle()
    result = connector.ehlo(Ehlo(session, helo=True))
    connector.close(Close(session))
    assert isinstance(result, SessionFailure)
    assert result.kind is Trouble.LOST


@pytest.mark.parametrize(
    ("octets", "tls_error", "is_alert"),
    [
        (alert(2, 40), "SSLV3_ALERT_HANDSHAKE_FAILURE", True),
        (alert(2, 112), "TLSV1_UNRECOGNIZED_NAME", True),
        (alert(2, 80), "TLSV1_ALERT_INTERNAL_ERROR", True),
        (alert(2, 200), "UNKNOWN_ALERT", True),
        (alert(1, 0), "CLOSE_NOTIFY", True),
        (alert(9, 40), "UNKNOWN_ALERT_TYPE", False),
        (b"250 what is this\r\n", "WRONG_VERSION_NUMBER", False),
        (b"", "UNEXPECTED_EOF_WHILE_READING", False),
        (
            alert(1, 112),
            "UNEXPECTED_EOF_WHILE_READING",
            False,
        ),  # a warning ends nothing, the end of the connection does
    ],
)
def test_an_alert_that_the_server_sent_is_told_from_an_error_found_here(
    probe: Look, server: SmtpServer, octets: bytes, tls_error: str, *, is_alert: bool
) -> None:
    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        connection.recv(4096)
        connection.sendall(octets)

    server.script = script
    step, failure = probe(server)
    assert step == "starttls"
    assert isinstance(failure, SessionFailure)
    assert failure.kind is Trouble.HANDSHAKE
    assert (failure.tls_error, failure.alert) == (tls_error, is_alert)


@pytest.mark.parametrize("number", range(256))
def test_every_alert_is_known_for_one(number: int) -> None:
    incoming = ssl.MemoryBIO()
    session = client_context("may").wrap_bio(incoming, ssl.MemoryBIO())
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    incoming.write(alert(2, number))
    with pytest.raises(ssl.SSLError) as caught:
        session.do_handshake()
    name, is_alert = name_of(caught.value)
    assert is_alert
    assert name is not None
    assert name.isidentifier()


# --- the peer dies after any octet


def converse(
    connector: Connector, server: SmtpServer, sent: Message, *, within_tls: bool, **limits: float
) -> tuple[list[str], SessionFailure | None, bool]:
    """A whole session: which replies came, what befell it, and whether the message may have arrived."""
    heard: list[str] = []
    connected = connector.connect(Connect(server.address, server.port))
    if isinstance(connected, SessionFailure):
        return heard, connected, False
    session = connected.session
    try:
        heard.append("greeting")
        result: Reply | Secured | SessionFailure = connector.ehlo(Ehlo(session))
        if isinstance(result, SessionFailure):
            return heard, result, False
        heard.append("EHLO")
        if within_tls:
            result = connector.start_tls(StartTls(session, None, TlsLevel.ENCRYPT))
            if isinstance(result, SessionFailure):
                return [*heard, *(["STARTTLS"] if result.kind is Trouble.HANDSHAKE else [])], result, False
            heard += ["STARTTLS", "TLS"]
            result = connector.ehlo(Ehlo(session))
            if isinstance(result, SessionFailure):
                return heard, result, False
            heard.append("EHLO")
        done = transmit(hurried(connector, **limits), session, sent)
        heard += [
            *(["MAIL"] if done.mail else []),
            *(["RCPT"] * len(done.recipients)),
            *(["DATA"] if done.data else []),
            *(["."] if done.end else []),
        ]
        return heard, done.failure, done.committed
    finally:
        connector.close(Close(session))


@pytest.fixture(scope="module")
def brief(served: Credentials) -> ssl.SSLContext:
    """A context with one certificate alone, and nothing after the server's Finished."""
    key, certificate, *_ = served.file.read_bytes().split(b"-----BEGIN CERTIFICATE-----")
    file = served.file.with_name("brief.pem")
    file.write_bytes(key + b"-----BEGIN CERTIFICATE-----" + certificate)
    context = Credentials(file, served.chain[:1]).context()
    context.num_tickets = 0
    return context


# asyncio of Python 3.10 forgets its own transport where the connection is lost at the end of the handshake
@pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning")
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("within_tls", [False, True], ids=["clear", "tls"])
def test_a_server_that_dies_after_any_octet_of_its_own(
    make: Make,
    server: SmtpServer,
    brief: ssl.SSLContext,
    *,
    reset: bool,
    within_tls: bool,
) -> None:
    connector = make(context=client_context("encrypt"))
    sent = message(b"x\r\n", "a@client.example", "b@client.example")
    lifetime, visit = 0, None
    while visit is None or "QUIT" not in visit.said:
        receiver = server.script = Receiver(brief if within_tls else None, lifetime=lifetime, reset=reset)
        heard, failure, committed = converse(connector, server, sent, within_tls=within_tls)
        server.settle()
        visit = receiver.visits[-1]
        said = [name for name in visit.said if name != "QUIT"]
        if failure is not None and failure.kind is Trouble.UNREACHABLE:
            assert heard == []  # the reset came before we knew of the connection
            assert said in ([], ["greeting"])
        elif failure is not None and failure.kind is Trouble.HANDSHAKE:
            if heard[-1] == "TLS":  # nothing came within it
                assert said == heard
                assert (failure.detail, failure.tls_error) == ("closed before EHLO was answered", None)
            else:
                assert heard[-1] == "STARTTLS"
                assert said in (heard, [*heard, "TLS"])  # the latter: it came before our Finished was sent
        else:
            assert heard == said, lifetime
            assert (failure is None) is ("." in said)
        if "." in said:
            assert failure is None
            assert not committed
        elif visit.whole:
            assert committed, lifetime
        elif "DATA" not in said:
            assert not committed, lifetime
        lifetime += 1
    assert lifetime > 80


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("within_tls", [False, True], ids=["clear", "tls"])
def test_a_server_that_dies_after_any_octet_of_the_message(
    make: Make,
    server: SmtpServer,
    brief: ssl.SSLContext,
    *,
    reset: bool,
    within_tls: bool,
) -> None:
    connector = make(context=client_context("encrypt"))
    sent = message(b"Subject: x\r\n\r\n.\r\n")
    wire = b"Subject: x\r\n\r\n..\r\n.\r\n"
    for appetite in range(len(wire) + 1):
        receiver = server.script = Receiver(brief if within_tls else None, appetite=appetite, reset=reset)
        heard, failure, committed = converse(connector, server, sent, within_tls=within_tls)
        server.settle()
        assert receiver.visits[-1].content == wire[:appetite]
        assert heard[-1] == "DATA"
        assert failure is not None
        assert failure.kind is Trouble.LOST
        assert committed or appetite < len(wire)


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("within_tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("appetite", [0, 1, 16_384, 1_000_000])
def test_a_message_that_did_not_leave_is_not_committed(
    make: Make,
    server: SmtpServer,
    brief: ssl.SSLContext,
    appetite: int,
    *,
    reset: bool,
    within_tls: bool,
) -> None:
    server.script = Receiver(brief if within_tls else None, appetite=appetite, reset=reset)
    heard, failure, committed = converse(make(), server, message(LARGE), within_tls=within_tls)
    assert heard[-1] == "DATA"
    assert failure is not None
    assert failure.kind is Trouble.LOST
    assert not committed


@pytest.mark.parametrize("within_tls", [False, True], ids=["clear", "tls"])
def test_a_final_dot_that_the_system_does_not_take_is_not_committed(
    make: Make, server: SmtpServer, brief: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, *, within_tls: bool
) -> None:
    """The server has reset the connection when the dot is due."""
    content = b"x\r\n"
    usual = transaction.blocks_of

    def blocks_of(content: bytes) -> Iterator[bytes]:
        yield from usual(content)
        server.settle()
        while f":{server.port:04X} 01 " in Path("/proc/net/tcp").read_text("ascii"):  # until the RST is there
            time.sleep(0.001)

    monkeypatch.setattr(transaction, "blocks_of", blocks_of)
    server.script = Receiver(brief if within_tls else None, appetite=len(content), reset=True)
    heard, failure, committed = converse(make(), server, message(content), within_tls=within_tls)
    assert heard[-1] == "DATA"
    assert failure is not None
    assert not committed


@pytest.mark.parametrize("within_tls", [False, True], ids=["clear", "tls"])
def test_committed_is_what_the_server_can_have(
    make: Make, server: SmtpServer, brief: ssl.SSLContext, *, within_tls: bool
) -> None:
    """Messages about as large as all buffers together; the server reads when we have gone."""
    gone = threading.Event()
    limits = {"timeout": 0.1, "data_timeout": 0.1}

    def arrives(octets: int) -> bool:
        gone.clear()
        receiver = server.script = Receiver(brief if within_tls else None, patience=gone)
        _, failure, committed = converse(make(), server, message(b"x" * octets), within_tls=within_tls, **limits)
        gone.set()
        server.settle()
        assert failure is not None
        assert committed is receiver.visits[-1].whole, octets
        return committed

    fits, too_large = 0, len(LARGE)
    while too_large - fits > 30_000:
        middle = (fits + too_large) // 2
        if arrives(middle):
            fits = middle
        else:
            too_large = middle
    for octets in range(too_large, too_large + 60_000, 15_000):
        arrives(octets)


def test_committed_means_that_the_system_has_taken_the_last_octet(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system takes so many octets of the message, and then reports that the connection is lost."""

    class Narrow(socket.socket):
        left: int | None = None

        def sendall(self, data: Any, flags: int = 0) -> None:
            if self.left is not None:
                part = bytes(data)[: self.left]
                super().sendall(part)
                self.left -= len(part)
                if len(part) < len(data):
                    raise ConnectionResetError("gone")
            else:
                super().sendall(data, flags)

    sockets: list[Narrow] = []

    def create_connection(*arguments: Any) -> socket.socket:
        with contextlib.closing(connect(*arguments)) as connection:
            sockets.append(Narrow(fileno=connection.detach()))
        return sockets[-1]

    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", create_connection)
    wire = b"a\r\n..\r\n.\r\n"
    for taken in range(len(wire) + 1):
        receiver = server.script = Receiver(appetite=len(wire), reset=True)
        connector = SmtpConnector(ehlo_name="client.example")
        session = opened(connector, server)

        def getreply(session: Any = session, taken: int = taken) -> tuple[int, bytes]:
            code, text = type(session).getreply(session)
            if code == 354:
                sockets[-1].left = taken
            return code, text

        session.getreply = getreply
        sent = transmit(connector, session, message(b"a\n.\n"))
        assert sent.failure is not None
        assert sent.committed is (taken == len(wire))
        assert sent.failure.detail != "gone" or taken < len(wire)
        server.settle()
        assert receiver.visits[-1].content == wire[:taken]


# --- concurrency, cancellation, interrupts


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python ignores SIGINT where the shell has it ignored, as for programs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


STAGES = ["connect", "ehlo", "starttls", "tls", "ehlo in tls", "MAIL", "RCPT", "DATA", "message", "."]


def stalled(server: SmtpServer, served: Credentials, stage: str) -> tuple[threading.Event, threading.Event]:
    """The server answers up to a stage, and then hears the connection out.

    The one event says that it has come there; the other tells it that the client is through.
    """
    there, through = threading.Event(), threading.Event()
    context = served.context()

    def script(connection: socket.socket) -> None:
        def stop(at: str) -> None:
            if at == stage:
                there.set()
                while connection.recv(4096):
                    pass
                raise OSError

        stop("connect")
        connection.sendall(b"220 hi\r\n")
        server.hear(connection)
        stop("ehlo")
        connection.sendall(EHLO_REPLY)
        server.hear(connection)
        stop("starttls")
        connection.sendall(GO_AHEAD)
        stop("tls")
        with context.wrap_socket(connection, server_side=True) as connection:  # noqa: PLR1704
            for at, reply in (
                ("ehlo in tls", b"250 mx\r\n"),
                ("MAIL", b"250 ok\r\n"),
                ("RCPT", b"250 ok\r\n"),
                ("DATA", b"354 go\r\n"),
            ):
                server.hear(connection)
                stop(at)
                connection.sendall(reply)
            if stage == "message":
                there.set()
                through.wait(PATIENCE)  # nothing is read, and the buffers are full
                return
            while server.hear(connection) != b".\r\n":
                pass
            stop(".")

    server.script = script
    return there, through


def everything(connector: Connector, server: SmtpServer, content: bytes) -> None:
    connected = connector.connect(Connect(server.address, server.port))
    assert isinstance(connected, Connected)
    connector.ehlo(Ehlo(connected.session))
    connector.start_tls(StartTls(connected.session, None, TlsLevel.ENCRYPT))
    connector.ehlo(Ehlo(connected.session))
    transmit(connector, connected.session, message(content))
    connector.close(Close(connected.session))


async def everything_awaited(connector: AsyncSmtpConnector, server: SmtpServer, content: bytes) -> None:
    connected = await connector.connect(Connect(server.address, server.port))
    assert isinstance(connected, Connected)
    await connector.ehlo(Ehlo(connected.session))
    await connector.start_tls(StartTls(connected.session, None, TlsLevel.ENCRYPT))
    await connector.ehlo(Ehlo(connected.session))
    sent = message(content)
    await connector.transmit(Transmit(connected.session, sent, sent.recipients))
    await connector.close(Close(connected.session))


@pytest.mark.parametrize("stage", STAGES)
def test_a_task_that_is_cancelled_closes_its_connection(server: SmtpServer, served: Credentials, stage: str) -> None:
    there, through = stalled(server, served, stage)
    connector = AsyncSmtpConnector(ehlo_name="client.example", timeout=PATIENCE)
    content = LARGE if stage == "message" else b"x\r\n"

    async def cancelled() -> None:
        task = asyncio.create_task(everything_awaited(connector, server, content))
        await asyncio.to_thread(there.wait, PATIENCE)
        for _ in range(20):  # turns, in which the client comes to where it has to wait
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = descriptors()
    asyncio.run(cancelled())
    through.set()
    server.settle()
    assert descriptors() == before


def waits_for_a_peer(thread: int) -> bool:
    """Whether a thread is in one of the steps of a session that wait."""
    frame = sys._current_frames()[thread]
    return frame.f_code.co_name in {"_receive", "send", "sendall", "recv", "read", "do_handshake"}


@pytest.mark.own_process
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_closes_the_connection(
    server: SmtpServer, served: Credentials, interruptible: None, stage: str
) -> None:
    there, through = stalled(server, served, stage)
    connector = SmtpConnector(ehlo_name="client.example", timeout=PATIENCE)
    content = LARGE if stage == "message" else b"x\r\n"
    main = threading.get_ident()

    def interrupt() -> None:
        there.wait(PATIENCE)
        while not waits_for_a_peer(main):
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    before = descriptors()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        everything(connector, server, content)
    through.set()
    thread.join()
    server.settle()
    assert descriptors() == before


def test_no_command_waits_for_the_peer_to_acknowledge_another(make: Make, server: SmtpServer) -> None:
    server.says(b"220 hi\r\n", b"250 mx\r\n")
    connector = make()
    session: Any = opened(connector, server)
    client = session.sock if make.kind == "sync" else session.transport.get_extra_info("socket")
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connector.close(Close(session))


def test_whatever_is_raised_closes_the_connection(
    make: Make, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    server.says(b"220 hi\r\n", b"250 mx\r\n")
    connector = make()
    before = descriptors()
    session = opened(connector, server)
    monkeypatch.setattr(transaction, "mail_argument", interrupt)
    with pytest.raises(KeyboardInterrupt):
        transmit(connector, session, message(b"x"))
    if isinstance(connector, Blocking):
        connector.run(asyncio.sleep(0))
    server.settle()
    assert descriptors() == before


def test_no_thread_outlives_its_session(server: SmtpServer, served: Credentials) -> None:
    server.script = Receiver(served.context())
    before = set(threading.enumerate())
    everything(SmtpConnector(ehlo_name="client.example"), server, b"x")
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(PATIENCE)
    assert set(threading.enumerate()) <= before


def test_one_connector_serves_many_threads(server: SmtpServer, served: Credentials) -> None:
    connector = SmtpConnector(ehlo_name="client.example")
    receiver = server.script = Receiver(served.context())
    threads = [threading.Thread(target=everything, args=(connector, server, b"%d\r\n" % at)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.settle()
    assert sorted(visit.content for visit in receiver.visits) == [b"%d\r\n.\r\n" % at for at in range(8)]


def test_one_connector_serves_many_tasks(server: SmtpServer, served: Credentials) -> None:
    connector = AsyncSmtpConnector(ehlo_name="client.example")
    receiver = server.script = Receiver(served.context())

    async def all_of_them() -> None:
        await asyncio.gather(*(everything_awaited(connector, server, b"%d\r\n" % at) for at in range(8)))

    asyncio.run(all_of_them())
    server.settle()
    assert sorted(visit.content for visit in receiver.visits) == [b"%d\r\n.\r\n" % at for at in range(8)]


# --- misuse


@pytest.mark.parametrize(
    "effect", [Connect("mx.example", 25), Connect("127.0.0.1", 0), Connect("127.0.0.1", 65536), Connect("", 25)]
)
def test_an_endpoint_that_can_not_be_is_misuse(make: Make, effect: Connect) -> None:
    with pytest.raises(ValueError, match=r"."):
        make().connect(effect)


@pytest.mark.parametrize("sni", ["192.0.2.1", "", "a b", "[192.0.2.1]"])
def test_an_sni_that_can_not_be_is_misuse_before_anything_is_sent(make: Make, server: SmtpServer, sni: str) -> None:
    server.says(b"220 hi\r\n", EHLO_REPLY, b"221 bye\r\n")
    connector = make()
    session = opened(connector, server)
    with pytest.raises(ValueError, match=r"."):
        connector.start_tls(StartTls(session, sni, TlsLevel.MAY))
    connector.close(Close(session))
    server.settle()
    assert server.heard == [HELLO, QUIT]


@pytest.mark.parametrize(
    ("module", "absent"), [("smtp", ["asyncio", "aiosmtplib"]), ("replies", ["asyncio", "smtplib", "aiosmtplib"])]
)
def test_each_connector_needs_its_own_library_alone(module: str, absent: list[str]) -> None:
    script = f"import sys, mailtlspolicy.adapters.{module}; print(*[name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("Client.Example.", "client.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_ehlo_takes_a_full_name_or_a_literal(text: str, argument: str) -> None:
    assert ehlo_argument(text) == argument


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "192.0.2.1", "[192.0.2.1", "[IPv6:192.0.2.1]", "[2001:db8::1]", "a.b\r\nQUIT", "a b.c", "[]"],
)
def test_ehlo_takes_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ehlo_argument(text)
    with pytest.raises(ValueError, match=r"."):
        SmtpConnector(ehlo_name=text)


@pytest.mark.parametrize("name", ["timeout", "transmit_timeout", "data_timeout"])
@pytest.mark.parametrize("kind", [SmtpConnector, AsyncSmtpConnector])
def test_a_time_limit_is_positive(kind: type[SmtpConnector | AsyncSmtpConnector], name: str) -> None:
    limits: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=name):
        kind(ehlo_name="client.example", **limits)


def test_the_time_limits_are_those_of_rfc_5321() -> None:  # section 4.5.3.2
    connector = SmtpConnector(ehlo_name="client.example")
    assert connector.timeout >= 5 * 60
    assert connector.data_timeout >= 10 * 60


@pytest.mark.parametrize(
    ("fqdn", "name"),
    [
        ("Mail.Example.com", "mail.example.com"),
        ("localhost", None),
        ("localhost.localdomain", None),
        ("1.0.0.127", None),
    ],
)
def test_the_system_name_is_a_full_one_or_none(monkeypatch: pytest.MonkeyPatch, fqdn: str, name: str | None) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: fqdn)
    assert SmtpConnector().ehlo_name == name


def test_an_address_literal_is_tagged_for_ipv6() -> None:
    assert address_literal("192.0.2.1") == "[192.0.2.1]"
    assert address_literal("2001:DB8:0::1") == "[IPv6:2001:db8::1]"
    with pytest.raises(ValueError, match="address"):
        address_literal("mx.example")


# --- replies


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250\r\n", Reply(250, ("",))),
        (b"250 \r\n", Reply(250, ("",))),
        (b"250-\r\n250\r\n", Reply(250, ("", ""))),
        (b"250-a\r\n250 b\r\n", Reply(250, ("a", "b"))),
        (b"299 unknown, but success\r\n", Reply(299, ("unknown, but success",))),
        (b"220 a-b\n", Reply(220, ("a-b",))),
        # No decision hangs on an empty line, on the text, or on a code that the last line corrects in its class
        (b"\r\n220 a\r\n", Reply(220, ("a",))),
        (b"220 a\r\n\r\n", Reply(220, ("a",))),
        (b"220 a\r\n\r\n\r", Reply(220, ("a",))),
        (b"250-a\r\n\r\n\n250-STARTTLS\r\n\n250 b\r\n", Reply(250, ("a", "STARTTLS", "b"))),
        (b"550-5.7.1 a\r\n554 5.7.2 b\r\n", Reply(554, ("5.7.1 a", "5.7.2 b"))),
        (b"250-a\r\n251 b\r\n", Reply(251, ("a", "b"))),
        (b"550-5.7.1 a\r\n see http://mx.example/\r\n550 b\r\n", Reply(550, ("5.7.1 a see http://mx.example/", "b"))),
        (b"250-a\r\n250-SIZE\r\nSTARTTLS\r\n250 b\r\n", Reply(250, ("a", "SIZE STARTTLS", "b"))),  # no keyword
        (b"550 " + b"x" * 9000 + b"\r\n", Reply(550, ("x" * 200,))),
        (b"550-" + b"x" * MAX_LINE + b"\r\n550 5.7.1 b\r\n", Reply(550, ("x" * 200, "5.7.1 b"))),
    ],
)
def test_a_reply_ends_with_the_line_without_a_hyphen(octets: bytes, reply: Reply) -> None:
    assert ReplyParser().feed(octets) == reply
    parser = ReplyParser()
    octet_by_octet = (parser.feed(bytes([octet])) for octet in octets)
    assert next(filter(None, octet_by_octet)) == reply


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n220 a\r\n",
        b"220-a\r\n\r\n220 b\r\n",
        b"220-a\r\n221 b\r\n",
        b"221-a\r\n220 b\r\n",
        b"220-a\r\nb\r\n220 c\r\n",
        b"220 " + b"x" * MAX_LINE + b"\r\n",
        b"220-" + b"x" * MAX_LINE,
    ],
)
def test_nothing_is_let_pass_where_all_hangs_on_the_reply(octets: bytes) -> None:
    with pytest.raises(ReplyError):
        ReplyParser(strict=True).feed(octets)


@pytest.mark.parametrize("surplus", [b"\r\n", b"\n", b"\r", b"220 b\r\n"])
def test_no_octet_may_follow_where_all_hangs_on_the_reply(surplus: bytes) -> None:
    with pytest.raises(SurplusError):
        ReplyParser(strict=True).feed(b"220 a\r\n" + surplus)


@pytest.mark.parametrize(
    "octets",
    [
        b"25\r\n",
        b"2500 x\r\n",
        b"150 preliminary\r\n",
        b"650 x\r\n",
        b"250_x\r\n",
        b"250\tx\r\n",
        b" 250 x\r\n",
        b"a\r\n250 b\r\n",
        b"250-a\r\n2 b\r\n",
        b"250-a\r\n350 b\r\n",
        b"450-a\r\n550 b\r\n",
    ],
)
def test_what_is_no_reply_is_an_error(octets: bytes) -> None:
    with pytest.raises(ReplyError) as caught:
        ReplyParser().feed(octets)
    assert not isinstance(caught.value, SurplusError)


@pytest.mark.parametrize("surplus", [b"250 b\r\n", b"x", b"\r\nx", b"\r\n\r\n250 b\r\n", b"\x16\x03\x01"])
def test_what_follows_a_reply_is_an_error_that_keeps_it(surplus: bytes) -> None:
    with pytest.raises(SurplusError) as caught:
        ReplyParser().feed(b"250 a\r\n" + surplus)
    assert caught.value.reply == Reply(250, ("a",))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_octets_raise_anything_but_a_reply_error(pieces: list[bytes]) -> None:
    parser = ReplyParser()
    try:
        for piece in pieces:
            if parser.feed(piece) is not None:
                break
    except ReplyError as error:
        assert str(error).isprintable()  # noqa: PT017
