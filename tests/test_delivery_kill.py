"""Deliveries to a server that dies after any octet: never lost, and never delivered twice without saying so.

- Before the last octet of the message: the next address takes it, or it is deferred.
- Between that octet and the reply: deferred, `duplicate_possible`.
- After the reply: delivered.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

from mailtlspolicy import Config, HostPlan, Message, NextHop, Plan, TlsLevel, drive
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.adapters.tls import client_context
from mailtlspolicy.delivery import Disposition, Result, deliver
from mailtlspolicy.delivery.session import Close, Connect, Ehlo, StartTls, Transmit
from tests.driving import at
from tests.smtp_server import Blocking, Receiver, SmtpServer
from tests.tls_server import PATIENCE, credentials

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from mailtlspolicy import Outcome
    from mailtlspolicy.effects import Effect
    from mailtlspolicy.engine import Connector

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
CONTENT = b"Subject: x\r\n\r\n.\r\n"
WIRE = b"Subject: x\r\n\r\n..\r\n.\r\n"


@frozen
class Place:
    """Two servers on one port, the second of which is well, and who delivers to them."""

    first: SmtpServer
    second: SmtpServer
    tls: ssl.SSLContext
    connector: Connector

    def perform(self, effect: Effect[Any]) -> Any:
        methods: dict[type[Effect[Any]], Any] = {
            Connect: self.connector.connect,
            Ehlo: self.connector.ehlo,
            StartTls: self.connector.start_tls,
            Transmit: self.connector.transmit,
            Close: self.connector.close,
        }
        return methods[type(effect)](effect)

    def deliver(
        self, message: Message, level: TlsLevel, *servers: SmtpServer, config: Config, before: Outcome | None = None
    ) -> Outcome:
        addresses = tuple(server.address for server in servers)
        host = HostPlan(host="mx.client.example", level=level, addresses=addresses, port=self.first.port)
        plan = Plan(next_hop=NextHop.parse("client.example"), mx_secure=True, hosts=(host,))
        program = deliver(plan.next_hop, message, plan=plan, config=config, trust=None, before=before)
        outcome = drive(program, at(self.perform))
        for server in servers:
            server.settle()
        return outcome


def two_servers() -> tuple[SmtpServer, SmtpServer]:
    for _ in range(20):
        first = SmtpServer()
        with contextlib.suppress(OSError):
            return first, SmtpServer("127.0.0.2", first.port)
        first.close()
    raise AssertionError("no port is free on two addresses")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[SmtpServer, SmtpServer]]:
    pair = two_servers()
    yield pair
    for server in pair:
        server.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    context = credentials(tmp_path_factory.mktemp("kill")).context()
    context.num_tickets = 0
    return context


@pytest.fixture(params=["sync", "async"])
def place(
    request: pytest.FixtureRequest, servers: tuple[SmtpServer, SmtpServer], tls: ssl.SSLContext
) -> Iterator[Place]:
    context = client_context("encrypt")  # the same for all: making one takes longer than a session
    settings: dict[str, Any] = {
        "ehlo_name": "sender.example",
        "timeout": PATIENCE / 2,
        "data_timeout": PATIENCE / 2,
        "context": lambda _: context,
    }
    if request.param == "sync":
        yield Place(*servers, tls, SmtpConnector(**settings))
        return
    connector = Blocking(AsyncSmtpConnector(**settings))
    yield Place(*servers, tls, connector)
    connector.stop()


def copies(*receivers: Receiver) -> int:
    return sum(visit.whole for receiver in receivers for visit in receiver.visits)


def check(place: Place, level: TlsLevel, config: Config, dying: Receiver, *, alone: bool) -> Outcome:
    """Deliver where one server dies; what must hold then, and after the next try, when all are well again."""
    message = Message("a@sender.example", ["b@client.example", "c@client.example"], CONTENT)
    well = Receiver(dying.tls)
    place.first.script, place.second.script = dying, well
    servers = (place.first,) if alone else (place.first, place.second)
    outcome = place.deliver(message, level, *servers, config=config)

    answered = any("." in visit.said for visit in dying.visits)
    assert {entry.outcome for entry in outcome.recipients} == {outcome.outcome}  # one transaction, one end
    assert copies(dying, well) <= 1
    if answered:
        assert outcome.outcome is Disposition.DELIVERED
        assert not outcome.duplicate_possible
        assert not well.visits
    elif copies(dying):
        assert outcome.outcome is Disposition.DEFERRED
        assert outcome.duplicate_possible
        assert not well.visits
    elif outcome.duplicate_possible:  # all was sent, and not all was read
        assert outcome.outcome is Disposition.DEFERRED
        assert "DATA" in dying.visits[-1].said
        assert not well.visits
    else:
        assert outcome.outcome is (Disposition.DEFERRED if alone else Disposition.DELIVERED)
        assert copies(well) == (0 if alone else 1)
    if level is TlsLevel.ENCRYPT:
        assert all(visit.heard[1:2] in ([], [b"STARTTLS\r\n"]) for visit in (*dying.visits, *well.visits))

    recovered = Receiver(dying.tls)
    if outcome.outcome is Disposition.DEFERRED:
        place.first.script = recovered
        again = place.deliver(message, level, *servers, config=config, before=outcome)
        assert again.outcome is Disposition.DELIVERED
    total = copies(dying, well, recovered)
    assert total >= 1
    assert total == 1 or outcome.duplicate_possible
    return outcome


@pytest.mark.parametrize("alone", [False, True], ids=["two", "alone"])
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_server_that_dies_in_clear(place: Place, *, reset: bool, alone: bool) -> None:
    lifetime, results = 0, set()
    while True:
        dying = Receiver(lifetime=lifetime, reset=reset)
        outcome = check(place, TlsLevel.NONE, Config(), dying, alone=alone)
        results.add((outcome.attempts[0].result, outcome.duplicate_possible))
        if "QUIT" in dying.visits[-1].said:
            break
        lifetime += 1
    assert {(Result.TEMPFAILED, False), (Result.TEMPFAILED, True), (Result.DELIVERED, False)} <= results


# asyncio of Python 3.10 forgets its own transport where the connection is lost at the end of the handshake
@pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning")
@pytest.mark.parametrize(
    ("level", "retry"), [(TlsLevel.ENCRYPT, "now"), (TlsLevel.MAY, "now"), (TlsLevel.MAY, "never")]
)
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_server_that_dies_in_tls(place: Place, level: TlsLevel, retry: str, *, reset: bool) -> None:
    """Outside the certificates after each octet; they make the most of the octets, and are all alike."""
    config = Config.from_settings({"cleartext_retry": retry})
    lifetime, results = 0, set()
    while True:
        dying = Receiver(place.tls, lifetime=lifetime, reset=reset)
        outcome = check(place, level, config, dying, alone=False)
        results.add((outcome.attempts[0].result, outcome.duplicate_possible))
        said = dying.visits[0].said
        if "QUIT" in said:
            break
        lifetime += 37 if said[-1:] == ["STARTTLS"] else 1
    assert {
        (Result.HANDSHAKE_FAILED, False),
        (Result.TEMPFAILED, False),
        (Result.TEMPFAILED, True),
        (Result.DELIVERED, False),
    } <= results


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("level", [TlsLevel.NONE, TlsLevel.ENCRYPT])
@pytest.mark.parametrize("alone", [False, True], ids=["two", "alone"])
def test_a_server_that_dies_within_the_message(place: Place, level: TlsLevel, *, alone: bool, reset: bool) -> None:
    context = None if level is TlsLevel.NONE else place.tls
    for appetite in range(len(WIRE) + 1):
        dying = Receiver(context, appetite=appetite, reset=reset)
        outcome = check(place, level, Config(), dying, alone=alone)
        assert dying.visits[0].content == WIRE[:appetite]
        assert outcome.duplicate_possible or appetite < len(WIRE)


@pytest.mark.parametrize("level", [TlsLevel.NONE, TlsLevel.ENCRYPT])
def test_a_message_that_did_not_leave_goes_to_the_next_address(place: Place, level: TlsLevel) -> None:
    """It is larger than all buffers between here and the server that dies in the midst of it."""
    context = None if level is TlsLevel.NONE else place.tls
    place.first.script = dying = Receiver(context, appetite=100_000)
    place.second.script = well = Receiver(context)
    message = Message("a@sender.example", ["b@client.example"], (b"x" * 998 + b"\r\n") * 12_000)
    outcome = place.deliver(message, level, place.first, place.second, config=Config())
    assert [attempt.result for attempt in outcome.attempts] == [Result.TEMPFAILED, Result.DELIVERED]
    assert not outcome.duplicate_possible
    assert (copies(dying), copies(well)) == (0, 1)
