"""The injected parts held together: resolver, fetcher, policy store, connector, trust store, clock and configuration.

`Engine` is synchronous, `AsyncEngine` asynchronous; both run the same programs and give equal results. An engine has no
state beside its policy store, and may be shared among threads or tasks as far as the injected parts may.
"""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from mailtlspolicy.check import check
from mailtlspolicy.config import Config, Sts
from mailtlspolicy.drivers import adrive, drive
from mailtlspolicy.effects import DropPolicy, Fetch, ListPolicies, LoadPolicy, Lookup, Probe, StorePolicy
from mailtlspolicy.fetching import fetch_whole, fetch_whole_async
from mailtlspolicy.mx import NextHop
from mailtlspolicy.names import canonical
from mailtlspolicy.plan import plan
from mailtlspolicy.plan_values import HostPlan
from mailtlspolicy.stores import AsyncMemoryStore, MemoryStore
from mailtlspolicy.sts.examine import examine
from mailtlspolicy.sts.refresh import refresh
from mailtlspolicy.times import in_utc
from mailtlspolicy.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailtlspolicy.check import Check
    from mailtlspolicy.effects import Answer, Effect, LookupFailure, Probed, ProbeFailure, Program
    from mailtlspolicy.fetching import AsyncFetcher, Fetcher
    from mailtlspolicy.mx import MxHost, Shuffle
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.plan_values import Plan, SkippedHost
    from mailtlspolicy.stores import AsyncPolicyStore, PolicyStore
    from mailtlspolicy.sts.examine import Examination
    from mailtlspolicy.sts.refresh import RefreshReport


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


REFRESHED_AT_ONCE = 16  # domains: enough to hide the latency of their hosts, few enough for one resolver


def _shuffle_or_default(shuffle: Shuffle | None) -> Shuffle:
    return random.shuffle if shuffle is None else shuffle


def _clock_or_default(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    return (lambda: datetime.now(timezone.utc)) if clock is None else clock


def _store_or_memory(store: PolicyStore | None) -> PolicyStore:
    return MemoryStore() if store is None else store


def _store_or_async_memory(store: AsyncPolicyStore | None) -> AsyncPolicyStore:
    return AsyncMemoryStore() if store is None else store


def _silent(_: RefreshReport) -> None:
    """The progress of a refresh that nobody watches."""


def keep_order(_: list[MxHost]) -> None:
    """The shuffle that leaves hosts of equal preference in the order of their records, so that runs repeat."""


@frozen(kw_only=True)
class _Core:
    """What both engines have in common: the parts that do no I/O."""

    fetcher: object = None  # each engine has its own kind
    trust: TrustStore | None = None
    shuffle: Shuffle = field(default=None, converter=_shuffle_or_default)
    clock: Callable[[], datetime] = field(default=None, converter=_clock_or_default)
    config: Config | Callable[[NextHop], Config] = field(factory=Config)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.config, Config):
            self._check(self.config)

    def _check(self, config: Config) -> None:
        if config.sts is Sts.ON and self.fetcher is None:
            raise ValueError("MTA-STS is on and needs a fetcher; set sts to off to do without")

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
        return in_utc(now)

    def _settled(self, next_hop: str | NextHop, now: datetime | None) -> tuple[NextHop, datetime, Config]:
        route = next_hop if isinstance(next_hop, NextHop) else NextHop.parse(next_hop)
        return route, self._now(now), self._config_for(route)

    def _config_for(self, route: NextHop) -> Config:
        config = self.config if isinstance(self.config, Config) else self.config(route)
        if not isinstance(config, Config):
            raise TypeError(f"the function of the next-hop returns a Config, not {type(config).__name__}")
        self._check(config)
        return config

    def _configure(self, domain: str) -> Config:
        return self._config_for(NextHop.parse(domain))

    def _refresh(
        self, now: datetime | None, progress: Callable[[RefreshReport], None] | None, at_once: int
    ) -> Program[RefreshReport]:
        if self.fetcher is None:
            raise ValueError("refresh needs an engine with a fetcher")
        return refresh(now=self._now(now), at_once=at_once, configure=self._configure, progress=progress or _silent)

    def _examine(self, domain: str) -> Program[Examination]:
        if self.fetcher is None:
            raise ValueError("examine_sts needs an engine with a fetcher")
        name = canonical(domain)
        return examine(name, self._configure(name))


@frozen
class Engine(_Core):
    """Decides what SMTP TLS policy demands, synchronously.

    Attributes:
        resolver: asks the DNS; the one positional argument.
        fetcher: fetches MTA-STS policies; without one `config` has to switch MTA-STS off.
        store: keeps them; in memory by default.
        connector: connects to servers; only `check` needs one.
        trust: PKIX trust anchors. Without them a PKIX duty fails.
        shuffle: puts a list of hosts of equal preference into random order, in place (RFC 5321 section 5.1);
            `random.shuffle` by default.
        clock: returns the aware current time; the system's by default.
        config: what the operator chose, or a function of the next-hop that gives it.
    """

    resolver: Resolver
    fetcher: Fetcher | None = field(default=None, kw_only=True)
    store: PolicyStore = field(default=None, converter=_store_or_memory, kw_only=True)
    connector: Connector | None = field(default=None, kw_only=True)

    def plan(self, next_hop: str | NextHop, now: datetime | None = None) -> Plan:
        """Decide where mail for a next-hop may go and under which conditions.

        Plan afresh before mail is returned for good: each plan looks for a newer policy (RFC 8461 section 5).

        Args:
            next_hop: a recipient domain, "[relay]", "[relay]:port", an address literal, or a `NextHop`.
            now: an aware time, or None to ask the clock.

        Raises:
            ValueError: the next-hop is malformed, `now` is naive, or MTA-STS is on and there is no fetcher.
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

    def refresh(
        self, now: datetime | None = None, progress: Callable[[RefreshReport], None] | None = None
    ) -> RefreshReport:
        """Refresh the cached policies that are due, and drop the disused ones (RFC 8461 section 3.3).

        To be called every few minutes, from a task of its own, and not while another call runs; how much there is to do
        spreads over the day. A policy host that does not answer takes up to `Config.max_fetch_seconds`. A function of
        the next-hop gives the configuration of the policy domain, relays too.

        Args:
            now: an aware time, or None to ask the clock.
            progress: is told every few domains what became of them.

        Raises:
            ValueError: `now` is naive, or the engine has no fetcher.
        """
        return drive(self._refresh(now, progress, at_once=1), self._perform)

    def examine_sts(self, domain: str) -> Examination:
        """Look at what a policy domain publishes for MTA-STS, and what is cached of it; nothing is stored.

        Raises:
            ValueError: the domain is malformed, or the engine has no fetcher.
        """
        return drive(self._examine(domain), self._perform)

    def _perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Lookup):
            return self.resolver.lookup(effect)
        if isinstance(effect, LoadPolicy):
            return self.store.load(effect.domain)
        if isinstance(effect, StorePolicy):
            return self.store.store(effect.domain, effect.entry)
        if isinstance(effect, DropPolicy):
            return self.store.drop(effect.domain, effect.entry)
        if isinstance(effect, ListPolicies):
            return self.store.entries(effect.cursor)
        if isinstance(effect, Fetch) and self.fetcher is not None:
            return fetch_whole(self.fetcher, effect)
        if isinstance(effect, Probe) and self.connector is not None:
            return self.connector.probe(effect)
        raise TypeError(f"nothing was injected that performs {effect!r}")


@frozen
class AsyncEngine(_Core):
    """Decides what SMTP TLS policy demands, under asyncio: independent lookups run concurrently.

    Takes what `Engine` takes, with an asynchronous resolver and connector.
    """

    resolver: AsyncResolver
    fetcher: AsyncFetcher | None = field(default=None, kw_only=True)
    store: AsyncPolicyStore = field(default=None, converter=_store_or_async_memory, kw_only=True)
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

    async def refresh(
        self, now: datetime | None = None, progress: Callable[[RefreshReport], None] | None = None
    ) -> RefreshReport:
        """As `Engine.refresh`, some domains at once."""
        return await adrive(self._refresh(now, progress, REFRESHED_AT_ONCE), self._perform)

    async def examine_sts(self, domain: str) -> Examination:
        """As `Engine.examine_sts`."""
        return await adrive(self._examine(domain), self._perform)

    async def _perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Lookup):
            return await self.resolver.lookup(effect)
        if isinstance(effect, LoadPolicy):
            return await self.store.load(effect.domain)
        if isinstance(effect, StorePolicy):
            return await self.store.store(effect.domain, effect.entry)
        if isinstance(effect, DropPolicy):
            return await self.store.drop(effect.domain, effect.entry)
        if isinstance(effect, ListPolicies):
            return await self.store.entries(effect.cursor)
        if isinstance(effect, Fetch) and self.fetcher is not None:
            return await fetch_whole_async(self.fetcher, effect)
        if isinstance(effect, Probe) and self.connector is not None:
            return await self.connector.probe(effect)
        raise TypeError(f"nothing was injected that performs {effect!r}")
