"""All our connectors go through the checks for connectors, and each check finds the connector that breaks its rule."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.testing.connectors import CONNECTOR_CHECKS, OCTET_CHECKS, Serve, Served
from mailtlspolicy.testing.event_loop import EventLoopThread
from mailtlspolicy.testing.loopback import LoopbackServers
from mailtlspolicy.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATIENCE = 30.0  # seconds; what has to end in silence gets by with less


def static(server: Mapping[str, Any], octets: Mapping[str, bytes] | None = None) -> Served:
    assert not octets
    return Served(World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector, "192.0.2.1", 25)


def limits(check: Callable[[Serve], None]) -> dict[str, float]:
    return dict.fromkeys(["timeout", "data_timeout"], 1.0 if check.__name__ == "silence_is_a_value" else PATIENCE)


@contextmanager
def blocking(**settings: float) -> Iterator[Serve]:
    with LoopbackServers(SmtpConnector(ehlo_name="client.test", **settings)) as serve:
        yield serve


@contextmanager
def asynchronous(**settings: float) -> Iterator[Serve]:
    connector = AsyncSmtpConnector(ehlo_name="client.test", **settings)
    with EventLoopThread() as loop, LoopbackServers(loop.synchronous(connector)) as serve:
        yield serve


@pytest.mark.parametrize("check", CONNECTOR_CHECKS)
def test_the_static_connector_conforms(check: Callable[[Serve], None]) -> None:
    check(static)


@pytest.mark.parametrize("kind", [blocking, asynchronous])
@pytest.mark.parametrize("check", [*CONNECTOR_CHECKS, *OCTET_CHECKS])
def test_a_connector_on_sockets_conforms(check: Callable[[Serve], None], kind: Any) -> None:
    with kind(**limits(check)) as serve:
        check(serve)
