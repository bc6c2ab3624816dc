"""SMTP servers that say whatever they like at every stage, and what must hold of the connectors all the same."""

from __future__ import annotations

import functools
import socket
import struct
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define, field

from mailtlspolicy import Message, TlsLevel
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
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
from tests.fuzz.mutation import mutated
from tests.smtp_server import Blocking, SmtpServer
from tests.tls_server import credentials

if TYPE_CHECKING:
    import ssl

    from mailtlspolicy.engine import Connector

STEP_SECONDS = 0.05
STEPS = 12  # at most: connect, greeting, EHLO and HELO twice, STARTTLS, four of the transaction, its reply, QUIT
SLACK_SECONDS = 3.0  # of CPU time, as all that is judged here: a busy machine makes a session last, not cost more
FLOOD_OCTETS = 64 * 2**20  # what the buffers of the system may take in, generously

LINES = 200  # of the message

GOOD = (
    b"220 mx.example\r\n",
    b"250-mx.example\r\n250-SIZE\r\n250-8BITMIME\r\n250 STARTTLS\r\n",
    b"250 ok\r\n",
    b"354 go\r\n",
    b"500 what\r\n",
    b"550 5.7.1 no\r\n",
    b"421 bye\r\n",
    b"\r\n",
    b"550-5.7.1 a\r\n\r\n b\r\n554 no\r\n",
)
USUAL = {b"EHLO": GOOD[1], b"HELO": GOOD[2], b"STARTTLS": GOOD[0], b"MAIL": GOOD[2], b"RCPT": GOOD[2], b"DATA": GOOD[3]}
BLOCKS = (
    b"250-x\r\n",
    b"250-x\r\ny\r\n",
    b"x",
    b"\0",
    b"\r\n",
    b"250 ok\r\n",
    b"220-",
    b"\x16\x03\x03\x40\x00",
    b"\x17\x03\x03\x00\x00",
)


class Gone(Exception):  # noqa: N818
    """The server has ended the connection."""


@define
class HostileServer:
    """One connection of a server.

    Attributes:
        random: decides.
        heard: what came in clear, and in TLS.
        starts_tls: it has said 220 to STARTTLS, in clear.
        wants_data: it has said 354 to DATA.
        whole: it has read a message to its end.
        behind_220: what came after the ClientHello, where the server has not gone on with TLS.
        flood: octets that it could send without being asked.
    """

    random: Random
    heard: list[bytes] = field(factory=list)
    starts_tls: bool = False
    wants_data: bool = False
    whole: bool = False
    behind_220: bytes = b""
    flood: int = 0
    _buffer: bytes = b""

    def __call__(self, connection: socket.socket) -> None:
        connection.settimeout(2)
        try:
            self.serve(connection)
        except (Gone, OSError):
            connection.close()

    def serve(self, connection: socket.socket) -> None:
        self.say(connection, GOOD[0])
        while line := self.hear(connection):
            command = line.split(None, 1)[0].upper()
            reply = self.say(connection, USUAL.get(command, GOOD[2]))
            if command == b"STARTTLS" and reply.startswith(b"220"):
                self.starts_tls = True
                connection = self.secure(connection)
            elif command == b"DATA" and reply.startswith(b"354"):
                self.wants_data = True
                lines = self.random.randrange(2 * LINES)
                early = self.random.randrange(4 * LINES)
                while (line := self.hear(connection)) != b".\r\n":
                    lines -= 1
                    if lines == early:
                        self.say(connection, self.random.choice(GOOD))
                    if not line or lines < 0:
                        raise Gone
                self.whole = True
                self.say(connection, GOOD[2])

    def hear(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            octets = connection.recv(4096)
            if not octets:
                return b""
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        self.heard.append(line + b"\n")
        return self.heard[-1]

    def say(self, connection: socket.socket, usual: bytes) -> bytes:
        """Say something, most often what is usual."""
        random = self.random
        reply = usual if random.random() < 0.7 else random.choice(GOOD)
        kind = random.uniform(0, 2)
        if kind < 0.12:
            reply = mutated(random, reply)
        elif kind < 0.16:
            reply = random.randbytes(random.choice((1, 3, 100, 5000)))
        elif kind < 0.20:
            reply += random.choice((reply, b"2", b"\r\n", random.randbytes(9), b"250 x\r\n" * 1000))
        elif kind < 0.22:
            reply = reply[: random.randrange(len(reply))]
        elif kind < 0.24:
            reply = b""
        elif kind < 0.27:
            self.drown(connection)
        elif kind < 0.30:
            if random.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Gone
        pieces = [reply] if random.random() < 0.8 else [reply[at : at + 3] for at in range(0, len(reply), 3)]
        for piece in pieces:
            connection.sendall(piece)
        return reply

    def drown(self, connection: socket.socket) -> None:
        block = self.random.choice(BLOCKS) * 2000
        while True:
            self.flood += connection.send(block)

    def secure(self, connection: socket.socket) -> socket.socket:
        kind = self.random.random()
        if kind < 0.1:
            self.drown(connection)
        elif kind < 0.25:
            hello = connection.recv(4096)
            connection.sendall(mutated(self.random, hello) if kind < 0.2 else b"\x16\x03\x03" + hello[::-1])
            while octets := connection.recv(4096):
                self.behind_220 += octets
            raise Gone
        self._buffer = b""
        return _context().wrap_socket(connection, server_side=True)


@functools.cache
def _context() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        return credentials(Path(folder)).context()


def sessions(random: Random) -> None:
    """A session with each of the connectors: values alone, in time, and nothing said where it must not be."""
    seed = random.randrange(2**32)
    limits = {"timeout": STEP_SECONDS, "transmit_timeout": 2 * STEP_SECONDS, "data_timeout": STEP_SECONDS}
    settings: dict[str, Any] = {"ehlo_name": "client.example", **limits}
    one_session(SmtpConnector(**settings), seed)
    connector = Blocking(AsyncSmtpConnector(**settings))
    try:
        one_session(connector, seed)
    finally:
        connector.stop()


def one_session(connector: Connector, seed: int) -> None:
    """Hold a session with a server that behaves as the seed has it."""
    random = Random(seed)
    peer = HostileServer(random)
    server = SmtpServer()
    server.script = peer
    start = time.process_time()
    try:
        steps, sent = converse(connector, server, b"x" * (1 if seed % 2 else 1500))  # one block, or several
        spent = time.process_time() - start
    finally:
        server.close()
    assert spent < STEPS * STEP_SECONDS + SLACK_SECONDS, f"{spent:.1f} s"
    assert peer.flood < FLOOD_OCTETS, f"{peer.flood} octets went somewhere"
    secured = any(isinstance(step, Secured) for step in steps)
    assert peer.starts_tls or not secured
    assert b"QUIT" not in peer.behind_220, "something was said in clear after a 220"
    if sent is not None:
        check(sent, peer)


def check(sent: Transmitted, peer: HostileServer) -> None:
    """A transaction is a beginning of the whole, and ends in one way."""
    replies = (sent.mail, *sent.recipients, sent.data, sent.end)
    assert all(reply is None or isinstance(reply, Reply) for reply in replies)
    assert len(sent.recipients) <= 2
    assert sent.mail is not None or not sent.recipients
    assert sent.data is None or len(sent.recipients) == 2
    assert sent.end is None or sent.data is not None
    assert not (sent.committed and (sent.end is not None or sent.failure is None))
    assert not sent.committed or sent.data is not None
    if peer.whole:
        assert sent.committed or sent.end is not None, "the server has the message, and nobody knows"
    if not peer.wants_data:
        assert not peer.whole


def converse(connector: Connector, server: SmtpServer, line: bytes) -> tuple[list[object], Transmitted | None]:
    """As `deliver` would, a whole session; what each step gave."""
    message = Message(
        "a@sender.example", ["b@client.example", "c@client.example"], (line + b"\r\n.\r\n") * (LINES // 2)
    )
    connected = connector.connect(Connect(server.address, server.port))
    if isinstance(connected, SessionFailure):
        return [connected], None
    assert isinstance(connected, Connected)
    session = connected.session
    results: list[object] = [connected.greeting]
    try:
        said = connector.ehlo(Ehlo(session))
        results.append(said)
        assert not isinstance(said, SessionFailure) or said.kind is Trouble.LOST, "there is no handshake yet"
        if isinstance(said, Reply) and not said.success:
            said = connector.ehlo(Ehlo(session, helo=True))
            results.append(said)
            assert not isinstance(said, Reply) or not said.keywords
        if isinstance(said, Reply) and "STARTTLS" in said.keywords:
            begun = connector.start_tls(StartTls(session, "mx.example", TlsLevel.ENCRYPT))
            results.append(begun)
            if not isinstance(begun, Secured):
                return results, None
            said = connector.ehlo(Ehlo(session))
            results.append(said)
        if isinstance(said, SessionFailure):
            return results, None
        return results, connector.transmit(Transmit(session, message, message.recipients))
    finally:
        connector.close(Close(session))
