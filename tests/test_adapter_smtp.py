"""The probing SMTP clients, against scripted servers on loopback; the expectations are the clauses'."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.adapters import smtp
from mailtlspolicy.adapters.replies import MAX_LINE, MAX_LINES, Reply, ReplyError, ReplyParser
from mailtlspolicy.adapters.smtp import AsyncSmtpProber, SmtpProber, address_literal, ehlo_argument
from mailtlspolicy.adapters.tls import client_context
from mailtlspolicy.effects import Probe, Probed, ProbeFailure, ProbeStage
from tests.tls_server import Credentials, credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EHLO_REPLY = b"250-mx.example at your service\r\n250-SIZE 1000\r\n250-starttls\r\n250 8BITMIME\r\n"
GO_AHEAD = b"220 go ahead\r\n"


class SmtpServer:
    """Accepts one connection after the other and runs `script` on each; remembers what it heard."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.heard: list[bytes] = []
        self.sni: list[str | None] = []
        self.script: Callable[[socket.socket], None] = lambda _: None
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._listener.listen()
        self.address, self.port = self._listener.getsockname()[:2]
        self._closing = False
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(3)
                if self._closing:
                    return
                self._idle.clear()
                try:
                    self.script(connection)
                except OSError:
                    continue
                finally:
                    self._idle.set()

    def close(self) -> None:
        self._closing = True
        socket.create_connection((self.address, self.port)).close()
        self._thread.join()
        self._listener.close()

    def settle(self) -> None:
        """Wait for the end of the script."""
        assert self._idle.wait(3)

    def hear(self, connection: socket.socket) -> bytes:
        """One line, or nothing at the end of the connection."""
        line = b""
        while not line.endswith(b"\n"):
            octet = connection.recv(1)
            if not octet:
                break
            line += octet
        if line:
            self.heard.append(line)
        return line

    def says(self, *replies: bytes) -> None:
        """Send a reply to the connection, one to each line that follows, then hear the rest out."""

        def script(connection: socket.socket) -> None:
            for reply in replies:
                connection.sendall(reply)
                if not self.hear(connection):
                    return
            while self.hear(connection):
                pass

        self.script = script

    def offers(self, context: ssl.SSLContext, *replies: bytes) -> None:
        """The same, then TLS, one line heard and answered inside."""

        def note(_: object, name: str | None, __: object) -> None:
            self.sni.append(name)

        context.sni_callback = note

        def script(connection: socket.socket) -> None:
            for reply in replies[:-1]:
                connection.sendall(reply)
                self.hear(connection)
            connection.sendall(replies[-1])
            with context.wrap_socket(connection, server_side=True) as session:
                if self.hear(session):
                    session.sendall(b"221 bye\r\n")

        self.script = script


@pytest.fixture(scope="module")
def _server() -> Iterator[SmtpServer]:
    server = SmtpServer()
    yield server
    server.close()


@pytest.fixture
def server(_server: SmtpServer) -> SmtpServer:
    _server.settle()
    _server.heard, _server.sni = [], []
    return _server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return credentials(tmp_path_factory.mktemp("smtp"))


class Prober:
    """Probes with the synchronous or the asyncio client."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(
        self,
        server: SmtpServer,
        *,
        sni: str | None = "mx.example",
        ehlo_name: str | None = "client.example",
        timeout: float = 3.0,
        context: ssl.SSLContext | None = None,
    ) -> Probed | ProbeFailure:
        effect = Probe(server.address, server.port, sni)
        make = client_context if context is None else lambda _: context
        if self.kind == "sync":
            return SmtpProber(ehlo_name=ehlo_name, timeout=timeout, context=make).probe(effect)
        return asyncio.run(AsyncSmtpProber(ehlo_name=ehlo_name, timeout=timeout, context=make).probe(effect))


@pytest.fixture(params=["sync", "async"])
def probe(request: pytest.FixtureRequest) -> Prober:
    return Prober(request.param)


def failed(result: Probed | ProbeFailure, stage: ProbeStage) -> str:
    assert isinstance(result, ProbeFailure), result
    assert result.stage is stage, result
    return result.detail


# --- a session


def test_a_probe_hands_over_the_chain_and_sends_no_mail(probe: Prober, server: SmtpServer, served: Credentials) -> None:
    server.offers(served.context(), b"220 mx.example ESMTP\r\n", EHLO_REPLY, GO_AHEAD)
    result = probe(server)
    server.settle()
    assert isinstance(result, Probed)
    assert result.chain == served.chain
    assert result.protocol == "TLSv1.3"
    assert result.cipher.startswith("TLS_")
    # RFC 3207 section 4: STARTTLS without parameters, and QUIT only inside the session (section 4.1)
    assert server.heard == [b"EHLO client.example\r\n", b"STARTTLS\r\n", b"QUIT\r\n"]
    assert server.sni == ["mx.example"]


@pytest.mark.parametrize(("sni", "sent"), [(None, None), ("MX_1.Example.", "mx_1.example")])
def test_sni_is_what_the_effect_says(
    probe: Prober, server: SmtpServer, served: Credentials, sni: str | None, sent: str | None
) -> None:
    server.offers(served.context(), b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    assert isinstance(probe(server, sni=sni), Probed)
    server.settle()
    assert server.sni == [sent]


def test_a_server_that_does_not_acknowledge_sni_will_do(
    probe: Prober, server: SmtpServer, served: Credentials
) -> None:  # RFC7672-8.1-f
    context = served.context()
    server.offers(context, b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    context.sni_callback = None  # OpenSSL acknowledges a name only if somebody looks at it
    result = probe(server)
    assert isinstance(result, Probed)
    assert result.chain == served.chain


def test_tls_1_2_is_offered(probe: Prober, server: SmtpServer, served: Credentials) -> None:
    context = served.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server.offers(context, b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    result = probe(server)
    assert isinstance(result, Probed)
    assert (result.protocol, result.chain) == ("TLSv1.2", served.chain)


@pytest.mark.parametrize("go_ahead", [b"220\r\n", b"220 \r\n", b"220-yes\r\n220 go\r\n", b"220 go\n"])
def test_a_go_ahead_may_have_no_text_or_several_lines(
    probe: Prober, server: SmtpServer, served: Credentials, go_ahead: bytes
) -> None:
    server.offers(served.context(), b"220\r\n", b"250-mx.example\r\n250 STARTTLS\r\n", go_ahead)
    assert isinstance(probe(server), Probed)


def test_replies_may_come_octet_by_octet(probe: Prober, server: SmtpServer, served: Credentials) -> None:
    context = served.context()

    def script(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for reply in (b"220-a\r\n220 b\r\n", EHLO_REPLY, GO_AHEAD):
            for octet in reply:
                connection.sendall(bytes([octet]))
            server.hear(connection)
            if reply is EHLO_REPLY:
                break
        connection.sendall(GO_AHEAD)
        with context.wrap_socket(connection, server_side=True) as session:
            server.hear(session)

    server.script = script
    assert isinstance(probe(server), Probed)


def test_a_server_that_ignores_quit_does_not_hold_up_the_probe(
    probe: Prober, server: SmtpServer, served: Credentials, monkeypatch: pytest.MonkeyPatch
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
    begin = time.monotonic()
    assert isinstance(probe(server, timeout=3), Probed)
    assert time.monotonic() - begin < 2


def test_an_ipv6_server_is_greeted_with_an_ipv6_literal(probe: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "system_name", lambda: None)
    server = SmtpServer(socket.AF_INET6)
    try:
        server.says(b"220 hi\r\n", b"250 mx.example\r\n", b"221 bye\r\n")
        failed(probe(server, ehlo_name=None), ProbeStage.STARTTLS_ABSENT)
        assert server.heard[0] == b"EHLO [IPv6:::1]\r\n"
    finally:
        server.close()


def test_a_system_without_a_full_name_greets_with_its_address(
    probe: Prober, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    server.says(b"220 hi\r\n", b"250 mx.example\r\n", b"221 bye\r\n")
    failed(probe(server, ehlo_name=None), ProbeStage.STARTTLS_ABSENT)
    assert server.heard[0] == b"EHLO [127.0.0.1]\r\n"


# --- failures, stage by stage


def test_a_closed_port_is_connect_failed(probe: Prober) -> None:
    server = SmtpServer()
    server.close()
    assert failed(probe(server), ProbeStage.CONNECT)


@pytest.mark.parametrize(
    "greeting",
    [
        b"554 no mail here\r\n",
        b"421 busy\r\n",
        b"354 what\r\n",
        b"SSH-2.0-x\r\n",
        b"220x\r\n",
        b"220-a\r\n221 b\r\n",
        b"",
    ],
)
def test_a_greeting_other_than_success_is_tempfailed(probe: Prober, server: SmtpServer, greeting: bytes) -> None:
    server.script = lambda connection: connection.sendall(greeting)
    assert failed(probe(server), ProbeStage.GREETING)


def test_silence_is_bounded_and_named(probe: Prober, server: SmtpServer) -> None:
    def script(connection: socket.socket) -> None:
        server.hear(connection)

    server.script = script
    assert failed(probe(server, timeout=0.2), ProbeStage.GREETING) == "timed out"


def test_the_deadline_is_for_the_whole_probe(probe: Prober, server: SmtpServer) -> None:
    def script(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"220-still here\r\n")
            time.sleep(0.05)

    server.script = script
    begin = time.monotonic()
    assert failed(probe(server, timeout=0.3), ProbeStage.GREETING) == "timed out"
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize(
    ("reply", "stage"),
    [
        (b"250 mx.example STARTTLS\r\n", ProbeStage.STARTTLS_ABSENT),  # the first line holds no keyword
        (b"250-STARTTLS\r\n250 SIZE\r\n", ProbeStage.STARTTLS_ABSENT),
        (b"250-mx.example\r\n250 STARTTLSX\r\n", ProbeStage.STARTTLS_ABSENT),
        (b"250-mx.example\r\n250-\r\n250 SIZE STARTTLS\r\n", ProbeStage.STARTTLS_ABSENT),
        (b"502 EHLO what\r\n", ProbeStage.STARTTLS_ABSENT),
        (b"500 EHLO what\r\n", ProbeStage.STARTTLS_ABSENT),
        (b"550 go away\r\n", ProbeStage.GREETING),
        (b"421 busy\r\n", ProbeStage.GREETING),
        (b"250-mx.example\r\n550 STARTTLS\r\n", ProbeStage.GREETING),  # mixed codes (RFC 5321 section 4.2.1)
        (b"250-mx.example\r\n250 STARTTLS\r\n220 go ahead\r\n", ProbeStage.GREETING),  # a reply nobody asked for
    ],
)
def test_starttls_is_not_asked_for_unless_announced(
    probe: Prober, server: SmtpServer, reply: bytes, stage: ProbeStage
) -> None:
    server.says(b"220 hi\r\n", reply, b"221 bye\r\n")
    failed(probe(server), stage)
    server.settle()
    assert b"STARTTLS\r\n" not in server.heard


@pytest.mark.parametrize(
    "reply",
    [b"454 not now\r\n", b"501 what\r\n", b"502 never\r\n", b"250 ok\r\n", b"354 go\r\n", b"221-a\r\n220 b\r\n"],
)
def test_only_220_permits_the_handshake(probe: Prober, server: SmtpServer, reply: bytes) -> None:
    server.says(b"220 hi\r\n", EHLO_REPLY, reply, b"221 bye\r\n")
    failed(probe(server), ProbeStage.STARTTLS_REFUSED)
    server.settle()
    assert server.heard[:2] == [b"EHLO client.example\r\n", b"STARTTLS\r\n"]
    assert server.heard[2:] in ([b"QUIT\r\n"], [])  # and no ClientHello


def test_octets_behind_the_go_ahead_are_an_attack(probe: Prober, server: SmtpServer, served: Credentials) -> None:
    server.offers(served.context(), b"220 hi\r\n", EHLO_REPLY, GO_AHEAD + b"250 injected\r\n")
    assert "more than one reply" in failed(probe(server), ProbeStage.STARTTLS_REFUSED)


def test_octets_that_come_late_never_enter_the_session(probe: Prober, server: SmtpServer, served: Credentials) -> None:
    context = served.context()

    def script(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY, GO_AHEAD):
            connection.sendall(reply)
            if reply is not GO_AHEAD:
                server.hear(connection)
        time.sleep(0.1)
        connection.sendall(b"250 injected\r\n")
        context.wrap_socket(connection, server_side=True).close()

    server.script = script
    failed(probe(server), ProbeStage.HANDSHAKE)


@pytest.mark.parametrize(
    "script",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"250 what is this\r\n"),
        lambda connection: connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28"),  # the alert handshake_failure
    ],
)
def test_a_handshake_that_fails_is_told(
    probe: Prober, server: SmtpServer, script: Callable[[socket.socket], None]
) -> None:
    def whole(connection: socket.socket) -> None:
        for reply in (b"220 hi\r\n", EHLO_REPLY):
            connection.sendall(reply)
            server.hear(connection)
        connection.sendall(GO_AHEAD)
        connection.recv(4096)
        script(connection)

    server.script = whole
    assert failed(probe(server), ProbeStage.HANDSHAKE)


def test_a_handshake_that_hangs_is_bounded(probe: Prober, server: SmtpServer) -> None:
    server.says(b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    assert failed(probe(server, timeout=0.3), ProbeStage.HANDSHAKE) == "timed out"


@pytest.mark.parametrize(
    "greeting",
    [b"220-" + b"x" * (MAX_LINE + 8192), b"220-x\r\n" * (MAX_LINES + 1), b"220 " + b"x" * MAX_LINE + b"\r\n"],
)
def test_replies_are_bounded(probe: Prober, server: SmtpServer, greeting: bytes) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(greeting)
        server.hear(connection)

    server.script = script
    assert "more than" in failed(probe(server), ProbeStage.GREETING)


def test_what_a_server_says_is_shown_as_one_short_line(probe: Prober, server: SmtpServer) -> None:
    server.script = lambda connection: connection.sendall(b"554 \x1b[31m\x00\xff" + b"x" * 1000 + b"\r\n")
    detail = failed(probe(server), ProbeStage.GREETING)
    assert detail.startswith("554 ")
    assert detail.isprintable()
    assert len(detail) < 300


def test_asyncio_probes_run_side_by_side_and_can_be_cancelled(server: SmtpServer) -> None:
    server.says(b"220 hi\r\n", EHLO_REPLY, GO_AHEAD)
    prober = AsyncSmtpProber(ehlo_name="client.example", timeout=30)

    async def cancelled() -> None:
        task = asyncio.create_task(prober.probe(Probe(server.address, server.port, None)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    server.settle()
    assert server.heard[:2] == [b"EHLO client.example\r\n", b"STARTTLS\r\n"]


# --- misuse


@pytest.mark.parametrize(
    "effect",
    [
        Probe("mx.example", 25, None),
        Probe("127.0.0.1", 0, None),
        Probe("127.0.0.1", 65536, None),
        Probe("127.0.0.1", 25, "192.0.2.1"),
        Probe("127.0.0.1", 25, ""),
    ],
)
def test_an_effect_that_can_not_be_is_misuse(effect: Probe) -> None:
    with pytest.raises(ValueError, match=r"."):
        SmtpProber(ehlo_name="client.example").probe(effect)
    with pytest.raises(ValueError, match=r"."):
        asyncio.run(AsyncSmtpProber(ehlo_name="client.example").probe(effect))


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
        SmtpProber(ehlo_name=text)


def test_a_timeout_is_positive() -> None:
    with pytest.raises(ValueError, match="timeout"):
        SmtpProber(ehlo_name="client.example", timeout=0)


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
    assert SmtpProber().ehlo_name == name


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
    ],
)
def test_a_reply_ends_with_the_line_without_a_hyphen(octets: bytes, reply: Reply) -> None:
    assert ReplyParser().feed(octets) == reply


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"150 preliminary\r\n",
        b"650 x\r\n",
        b"250_x\r\n",
        b"250\tx\r\n",
        b" 250 x\r\n",
        b"250-a\r\nb\r\n",
        b"250-a\r\n251 b\r\n",
        b"250 a\r\n250 b\r\n",
        b"250 a\r\nx",
    ],
)
def test_what_is_no_reply_is_an_error(octets: bytes) -> None:
    with pytest.raises(ReplyError):
        ReplyParser().feed(octets)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_octets_raise_anything_but_a_reply_error(pieces: list[bytes]) -> None:
    parser = ReplyParser()
    try:
        for piece in pieces:
            if parser.feed(piece) is not None:
                break
    except ReplyError as error:
        assert str(error).isprintable()  # noqa: PT017
