"""SMTP sessions for tests: a look at a server, as `check` takes one, and a connector behind an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attrs import frozen

from mailtlspolicy import TlsLevel
from mailtlspolicy.delivery.session import Close, Connect, Connected, Ehlo, Reply, SessionFailure, StartTls

if TYPE_CHECKING:
    from mailtlspolicy.delivery.session import Secured, Transmit, Transmitted
    from mailtlspolicy.engine import Connector

Shown = tuple[str, "Connected | Reply | Secured | SessionFailure"]


def look(connector: Connector, address: str = "192.0.2.1", port: int = 25, sni: str | None = None) -> Shown:
    """Connect, say EHLO and ask for STARTTLS; the last step that was made and what it gave."""
    connected = connector.connect(Connect(address, port))
    if isinstance(connected, SessionFailure):
        return "connect", connected
    session = connected.session
    try:
        if not connected.greeting.success:
            return "connect", connected
        said = connector.ehlo(Ehlo(session))
        if isinstance(said, SessionFailure) or "STARTTLS" not in said.keywords:
            return "ehlo", said
        return "starttls", connector.start_tls(StartTls(session, sni, TlsLevel.MAY))
    finally:
        connector.close(Close(session))


@frozen
class AsyncConnections:
    """A connector behind an event loop."""

    inner: Connector

    async def connect(self, effect: Connect) -> Connected | SessionFailure:
        await asyncio.sleep(0)
        return self.inner.connect(effect)

    async def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        await asyncio.sleep(0)
        return self.inner.ehlo(effect)

    async def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        await asyncio.sleep(0)
        return self.inner.start_tls(effect)

    async def transmit(self, effect: Transmit) -> Transmitted:
        await asyncio.sleep(0)
        return self.inner.transmit(effect)

    async def close(self, effect: Close) -> None:
        await asyncio.sleep(0)
        self.inner.close(effect)
