"""The injected parts held together: a resolver, a connector, a trust store, a clock and a configuration.

`Engine` is synchronous, `AsyncEngine` asynchronous; both run the same programs and give equal results. An engine has no
state of its own and may be shared among threads or tasks as far as the injected parts may.
"""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from mailtlspolicy.check import check
from mailtlspolicy.config import Config
from mailtlspolicy.drivers import adrive, drive
from mailtlspolicy.effects import Lookup, Probe
from mailtlspolicy.mx import NextHop
from mailtlspolicy.plan import plan
from mailtlspolicy.plan_values import HostPlan
from mailtlspolicy.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailtlspolicy.check import Check
    from mailtlspolicy.effects import Answer, Effect, LookupFailure, Probed, ProbeFailure
    from mailtlspolicy.mx import MxHost, Shuffle
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.plan_values import Plan, SkippedHost


class Resolver(Protocol):
    """Asks the DNS. `adapters.dns.DnsResolver` is one; the static world has another."""

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Answer a question. A failure is returned, never raised; `secure` is true only of validated data."""


class AsyncResolver(Protocol):
    """A `Resolver` whose `lookup` is awaited."""

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """As `Resolver.lookup`."""


class Connector(Protocol):
    """Connects to SMTP servers. `adapters.smtp.SmtpProber` is one; the static world has another."""

    def probe(self, probe: Probe) -> Probed | ProbeFailure:
        """Set up a TLS session, report the presented chain and hang up. A failure is returned, never raised."""


class AsyncConnector(Protocol):
    """A `Connector` whose `probe` is awaited."""

    async def probe(self, probe: Probe) -> Probed | ProbeFailure:
        """As `Connector.probe`."""


def _shuffle_or_default(shuffle: Shuffle | None) -> Shuffle:
    return random.shuffle if shuffle is None else shuffle


def _clock_or_default(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    return (lambda: datetime.now(timezone.utc)) if clock is None else clock


def keep_order(_: list[MxHost]) -> None:
    """The shuffle that leaves hosts of equal preference in the order of their records, so that runs repeat."""


@frozen(kw_only=True)
class _Core:
    """What both engines have in common: the parts that do no I/O."""

    trust: TrustStore | None = None
    shuffle: Shuffle = field(default=None, converter=_shuffle_or_default)
    clock: Callable[[], datetime] = field(default=None, converter=_clock_or_default)
    config: Config | Callable[[NextHop], Config] = field(factory=Config)

    def verify(self, host: HostPlan | SkippedHost, chain: Sequence[bytes], now: datetime | None = None) -> Verdict:
        """What the certificates that a host presented amount to, under the configuration that the plan was made with.

        Args:
            host: a host of a plan. One that is skipped satisfies nothing.
            chain: the presented certificates as DER, leaf first; empty where none was presented.
            now: an aware time, or None to ask the clock.

        Raises:
            ValueError: `now` is naive.
        """
        if not isinstance(host, HostPlan):
            return Verdict(authenticated=False, satisfied=False, tlsrpt=host.skip.tlsrpt)
        return host.verify(chain, now=self._now(now), trust=self.trust)

    def _now(self, now: datetime | None) -> datetime:
        now = self.clock() if now is None else now
        if not isinstance(now, datetime):
            raise TypeError(f"now is a datetime, not {type(now).__name__}")
        if now.utcoffset() is None:
            raise ValueError("now has to be an aware datetime")
        return now

    def _settled(self, next_hop: str | NextHop, now: datetime | None) -> tuple[NextHop, datetime, Config]:
        route = next_hop if isinstance(next_hop, NextHop) else NextHop.parse(next_hop)
        config = self.config if isinstance(self.config, Config) else self.config(route)
        if not isinstance(config, Config):
            raise TypeError(f"the function of the next-hop returns a Config, not {type(config).__name__}")
        return route, self._now(now), config


@frozen
class Engine(_Core):
    """Decides what SMTP TLS policy demands, synchronously.

    Attributes:
        resolver: asks the DNS; the one positional argument.
        connector: connects to servers; only `check` needs one.
        trust: PKIX trust anchors. Without them a PKIX duty fails.
        shuffle: puts a list of hosts of equal preference into random order, in place (RFC 5321 section 5.1);
            `random.shuffle` by default.
        clock: returns the aware current time; the system's by default.
        config: what the operator chose, or a function of the next-hop that gives it.
    """

    resolver: Resolver
    connector: Connector | None = field(default=None, kw_only=True)

    def plan(self, next_hop: str | NextHop, now: datetime | None = None) -> Plan:
        """Decide where mail for a next-hop may go and under which conditions.

        Args:
            next_hop: a recipient domain, "[relay]", "[relay]:port", an address literal, or a `NextHop`.
            now: an aware time, or None to ask the clock.

        Raises:
            ValueError: the next-hop is malformed, or `now` is naive.
        """
        route, now, config = self._settled(next_hop, now)
        return drive(plan(route, now=now, config=config, shuffle=self.shuffle), self._perform)

    def check(self, next_hop: str | NextHop, now: datetime | None = None) -> Check:
        """Plan, then connect to every server of the plan and verify what it presents; no mail is sent.

        How long that takes is up to the servers: the connector's time limit, times the number of their addresses.

        Raises:
            ValueError: as `plan`; or the engine has no connector.
        """
        if self.connector is None:
            raise ValueError("check needs an engine with a connector")
        now = self._now(now)
        return drive(check(self.plan(next_hop, now), now=now, trust=self.trust), self._perform)

    def _perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Lookup):
            return self.resolver.lookup(effect)
        if isinstance(effect, Probe) and self.connector is not None:
            return self.connector.probe(effect)
        raise TypeError(f"nothing was injected that performs {effect!r}")


@frozen
class AsyncEngine(_Core):
    """Decides what SMTP TLS policy demands, under asyncio: independent lookups run concurrently.

    Takes what `Engine` takes, with an asynchronous resolver and connector.
    """

    resolver: AsyncResolver
    connector: AsyncConnector | None = field(default=None, kw_only=True)

    async def plan(self, next_hop: str | NextHop, now: datetime | None = None) -> Plan:
        """As `Engine.plan`."""
        route, now, config = self._settled(next_hop, now)
        return await adrive(plan(route, now=now, config=config, shuffle=self.shuffle), self._perform)

    async def check(self, next_hop: str | NextHop, now: datetime | None = None) -> Check:
        """As `Engine.check`."""
        if self.connector is None:
            raise ValueError("check needs an engine with a connector")
        now = self._now(now)
        planned = await self.plan(next_hop, now)
        return await adrive(check(planned, now=now, trust=self.trust), self._perform)

    async def _perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Lookup):
            return await self.resolver.lookup(effect)
        if isinstance(effect, Probe) and self.connector is not None:
            return await self.connector.probe(effect)
        raise TypeError(f"nothing was injected that performs {effect!r}")
