"""The injected parts held together: resolver, fetcher, policy store, connector, trust store, clock and configuration.

`Engine` is synchronous, `AsyncEngine` asynchronous; both run the same programs and give equal results. An engine has no
state beside its policy store, and may be shared among threads or tasks as far as the injected parts may.
"""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import evolve, field, frozen

from mailtlspolicy.check import check
from mailtlspolicy.config import Config, Sts
from mailtlspolicy.delivery.session import Close, Connect, Connected, Ehlo, StartTls, Transmit
from mailtlspolicy.delivery.walk import deliver
from mailtlspolicy.drivers import adrive, drive
from mailtlspolicy.effects import DropPolicy, Fetch, ListPolicies, LoadPolicy, Lookup, StorePolicy, ask, together
from mailtlspolicy.fetching import fetch_whole, fetch_whole_async
from mailtlspolicy.mx import NextHop
from mailtlspolicy.names import canonical
from mailtlspolicy.plan import plan
from mailtlspolicy.plan_values import HostPlan, Plan
from mailtlspolicy.stores import AsyncMemoryStore, MemoryStore
from mailtlspolicy.sts.examine import examine
from mailtlspolicy.sts.refresh import refresh
from mailtlspolicy.times import in_utc
from mailtlspolicy.tlsrpt.discovery import find_record
from mailtlspolicy.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailtlspolicy.check import Check
    from mailtlspolicy.delivery.message import Message
    from mailtlspolicy.delivery.outcome import Outcome
    from mailtlspolicy.delivery.session import Reply, Secured, SessionFailure, Transmitted
    from mailtlspolicy.effects import Answer, Effect, LookupFailure, Program
    from mailtlspolicy.fetching import AsyncFetcher, Fetcher
    from mailtlspolicy.mx import MxHost, Shuffle
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.plan_values import SkippedHost
    from mailtlspolicy.stores import AsyncPolicyStore, PolicyStore
    from mailtlspolicy.sts.examine import Examination
    from mailtlspolicy.sts.refresh import RefreshReport
    from mailtlspolicy.tlsrpt.discovery import Search


_T = TypeVar("_T")


class Resolver(Protocol):
    """Asks the DNS. `adapters.dns.DnsResolver` is one; the static world has another."""

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Answer a question. A failure is returned, never raised; `secure` is true only of validated data."""


class AsyncResolver(Protocol):
    """A `Resolver` whose `lookup` is awaited."""

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """As `Resolver.lookup`."""


class Connector(Protocol):
    """Holds SMTP sessions. `adapters.smtp.SmtpConnector` is one; the static world has another.

    What befalls a connection is returned, never raised; `delivery.session` says what each effect wants. If there is an
    attribute `ehlo_name`, a text, no server that MX records lead to may bear that name: it would be this system.
    """

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        """Connect and await the greeting."""

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """Say EHLO, or HELO where the effect says so."""

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        """Ask for STARTTLS and do the handshake."""

    def transmit(self, effect: Transmit) -> Transmitted:
        """Send a message in one transaction."""

    def close(self, effect: Close) -> None:
        """End the connection, in whatever state it is."""


class AsyncConnector(Protocol):
    """A `Connector` whose methods are awaited."""

    async def connect(self, effect: Connect) -> Connected | SessionFailure:
        """As `Connector.connect`."""

    async def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """As `Connector.ehlo`."""

    async def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        """As `Connector.start_tls`."""

    async def transmit(self, effect: Transmit) -> Transmitted:
        """As `Connector.transmit`."""

    async def close(self, effect: Close) -> None:
        """As `Connector.close`."""


CHECKED_AT_ONCE = 32  # servers: each takes a descriptor; systems commonly grant a process 256 to 1024
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


class _OpenSessions:
    """The sessions that were opened and not closed yet, for a run that ends before its time."""

    def __init__(self) -> None:
        self._open: dict[int, Any] = {}

    def opened(self, result: Any) -> Any:
        """Take note of what an effect has opened; return its result."""
        if isinstance(result, Connected):
            self._open[id(result.session)] = result.session
        return result

    def closing(self, effect: Effect[Any]) -> Effect[Any]:
        """Take note of what an effect is about to close; return the effect."""
        if isinstance(effect, Close):
            self._open.pop(id(effect.session), None)
        return effect

    def close(self) -> Program[Any]:
        """Close what is left, side by side."""
        return together(*(ask(Close(session)) for session in self._open.values()))


@frozen(kw_only=True)
class _Core:
    """What both engines have in common: the parts that do no I/O."""

    fetcher: object = None  # each engine has its own kind
    connector: object = None
    trust: TrustStore | None = None
    shuffle: Shuffle = field(default=None, converter=_shuffle_or_default)
    clock: Callable[[], datetime] = field(default=None, converter=_clock_or_default)
    config: Config | Callable[[NextHop], Config] = field(factory=Config)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.config, Config):
            self._require_fetcher(self.config)

    def _require_fetcher(self, config: Config) -> None:
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
        self._require_fetcher(config)
        return config

    def _plan(
        self, next_hop: str | NextHop, now: datetime | None, *, requiretls: bool, tls_optional: bool
    ) -> Program[Plan]:
        route, now, config = self._settled(next_hop, now)
        return self._plan_under(config, route, now, requiretls=requiretls, tls_optional=tls_optional)

    def _plan_under(
        self, config: Config, route: NextHop, now: datetime, *, requiretls: bool, tls_optional: bool
    ) -> Program[Plan]:
        return plan(
            route, now=now, config=config, shuffle=self.shuffle, requiretls=requiretls, tls_optional=tls_optional
        )

    def _deliver(
        self, message: Message, next_hop: str | NextHop | Plan | None, now: datetime | None, before: Outcome | None
    ) -> Program[Outcome]:
        to = message.next_hop if next_hop is None else next_hop
        route, now, config = self._settled(to.next_hop if isinstance(to, Plan) else to, now)
        if message.tls_report:
            config = config.for_tls_reports
        if isinstance(to, Plan):
            planned = to
        else:
            planned = yield from self._plan_under(
                config, route, now, requiretls=message.requiretls, tls_optional=message.tls_optional
            )
            planned = evolve(planned, tls_report=message.tls_report)
        program = deliver(
            planned,
            message,
            now=now,
            config=config,
            trust=self.trust,
            before=before,
            ehlo_name=self._ehlo_name,
        )
        return (yield from program)

    def _configure(self, domain: str) -> Config:
        return self._config_for(NextHop.parse(domain))

    def _check(
        self, next_hop: str | NextHop, now: datetime | None, at_once: int, *, requiretls: bool, tls_optional: bool
    ) -> Program[Check]:
        now = self._now(now)
        planned = yield from self._plan(next_hop, now, requiretls=requiretls, tls_optional=tls_optional)
        return (yield from check(planned, now=now, trust=self.trust, at_once=at_once, ehlo_name=self._ehlo_name))

    @property
    def _ehlo_name(self) -> str | None:
        """The name that the connector gives itself, where it tells one."""
        name = getattr(self.connector, "ehlo_name", None)
        return name if isinstance(name, str) else None

    def _require_connector(self) -> None:
        if self.connector is None:
            raise ValueError("an engine needs a connector to check or deliver")

    def _refresh(
        self, now: datetime | None, progress: Callable[[RefreshReport], None] | None, at_once: int
    ) -> Program[RefreshReport]:
        if self.fetcher is None:
            raise ValueError("refresh needs an engine with a fetcher")
        return refresh(now=self._now(now), at_once=at_once, configure=self._configure, progress=progress or _silent)

    def _find_tlsrpt(self, domain: str) -> Program[Search]:
        name = canonical(domain)
        return find_record(name, self._config_for(NextHop.parse(name)))

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
        connector: holds SMTP sessions; only `check` and `deliver` need one.
        trust: PKIX trust anchors. Without them a PKIX duty fails, and `deliver` refuses a plan that has one.
        shuffle: puts a list of hosts of equal preference into random order, in place (RFC 5321 section 5.1);
            `random.shuffle` by default.
        clock: returns the aware current time; the system's by default.
        config: what the operator chose, or a function of the next-hop that gives it.
    """

    resolver: Resolver
    fetcher: Fetcher | None = field(default=None, kw_only=True)
    store: PolicyStore = field(default=None, converter=_store_or_memory, kw_only=True)
    connector: Connector | None = field(default=None, kw_only=True)

    def plan(
        self,
        next_hop: str | NextHop,
        now: datetime | None = None,
        *,
        requiretls: bool = False,
        tls_optional: bool = False,
    ) -> Plan:
        """Decide where mail for a next-hop may go and under which conditions.

        Plan afresh before mail is returned for good: each plan looks for a newer policy (RFC 8461 section 5).

        Args:
            next_hop: a recipient domain, "[relay]", "[relay]:port", an address literal, or a `NextHop`.
            now: an aware time, or None to ask the clock.
            requiretls: the mail requires TLS all along the way (RFC 8689 section 4.2.1).
            tls_optional: the mail bears "TLS-Required: No" (section 4.2.2); void beside `requiretls`.

        Raises:
            ValueError: the next-hop is malformed, `now` is naive, or MTA-STS is on and there is no fetcher.
        """
        return drive(self._plan(next_hop, now, requiretls=requiretls, tls_optional=tls_optional), self._perform)

    def deliver(
        self,
        message: Message,
        next_hop: str | NextHop | Plan | None = None,
        now: datetime | None = None,
        before: Outcome | None = None,
    ) -> Outcome:
        """Plan, connect and send a message, once; what is deferred is for the caller to keep and try again.

        Args:
            message: the message. Several recipients go in one transaction as far as the servers allow.
            next_hop: where to send it, or a plan made for the wishes of this message, to be used before its
                `valid_until` passes; by default the domain that the recipients have in common.
            now: an aware time, or None to ask the clock.
            before: the outcome of the try before; see `Outcome.cleartext_retry`.

        Raises:
            ValueError: as `plan`; the recipients have no domain in common and no next-hop is given; the plan is for a
                message of other wishes, or demands PKIX and the engine has no trust anchors; or the engine has no
                connector. Nothing has been sent then.
        """
        self._require_connector()
        return self._drive_sessions(self._deliver(message, next_hop, now, before))

    def check(
        self,
        next_hop: str | NextHop,
        now: datetime | None = None,
        *,
        requiretls: bool = False,
        tls_optional: bool = False,
    ) -> Check:
        """Plan, then connect to every server of the plan and verify what it presents; no mail is sent.

        The arguments are those of `plan`; with `requiretls` the server has to announce REQUIRETLS too.
        How long that takes is up to the servers: the connector's time limit, times the number of their addresses.

        Raises:
            ValueError: as `plan`; or the engine has no connector.
        """
        self._require_connector()
        return self._drive_sessions(self._check(next_hop, now, 1, requiretls=requiretls, tls_optional=tls_optional))

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

    def find_tlsrpt(self, domain: str) -> Search:
        """Ask the DNS where reports about a policy domain are wanted (RFC 8460 section 3).

        Raises:
            ValueError: the domain is malformed.
        """
        return drive(self._find_tlsrpt(domain), self._perform)

    def _drive_sessions(self, program: Program[_T]) -> _T:
        """Run a program that connects; no session stays open, whatever is raised."""
        sessions = _OpenSessions()
        try:
            return drive(program, lambda effect: sessions.opened(self._perform(sessions.closing(effect))))
        finally:
            drive(sessions.close(), self._perform)

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
        if self.connector is not None:
            if isinstance(effect, Connect):
                return self.connector.connect(effect)
            if isinstance(effect, Ehlo):
                return self.connector.ehlo(effect)
            if isinstance(effect, StartTls):
                return self.connector.start_tls(effect)
            if isinstance(effect, Transmit):
                return self.connector.transmit(effect)
            if isinstance(effect, Close):
                return self.connector.close(effect)
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

    async def plan(
        self,
        next_hop: str | NextHop,
        now: datetime | None = None,
        *,
        requiretls: bool = False,
        tls_optional: bool = False,
    ) -> Plan:
        """As `Engine.plan`."""
        return await adrive(self._plan(next_hop, now, requiretls=requiretls, tls_optional=tls_optional), self._perform)

    async def deliver(
        self,
        message: Message,
        next_hop: str | NextHop | Plan | None = None,
        now: datetime | None = None,
        before: Outcome | None = None,
    ) -> Outcome:
        """As `Engine.deliver`. A message whose delivery is cancelled may or may not have been sent."""
        self._require_connector()
        return await self._drive_sessions(self._deliver(message, next_hop, now, before))

    async def check(
        self,
        next_hop: str | NextHop,
        now: datetime | None = None,
        *,
        requiretls: bool = False,
        tls_optional: bool = False,
    ) -> Check:
        """As `Engine.check`, many servers at once."""
        self._require_connector()
        return await self._drive_sessions(
            self._check(next_hop, now, CHECKED_AT_ONCE, requiretls=requiretls, tls_optional=tls_optional)
        )

    async def refresh(
        self, now: datetime | None = None, progress: Callable[[RefreshReport], None] | None = None
    ) -> RefreshReport:
        """As `Engine.refresh`, some domains at once."""
        return await adrive(self._refresh(now, progress, REFRESHED_AT_ONCE), self._perform)

    async def examine_sts(self, domain: str) -> Examination:
        """As `Engine.examine_sts`."""
        return await adrive(self._examine(domain), self._perform)

    async def find_tlsrpt(self, domain: str) -> Search:
        """As `Engine.find_tlsrpt`."""
        return await adrive(self._find_tlsrpt(domain), self._perform)

    async def _drive_sessions(self, program: Program[_T]) -> _T:
        sessions = _OpenSessions()

        async def perform(effect: Effect[Any]) -> Any:
            return sessions.opened(await self._perform(sessions.closing(effect)))

        try:
            return await adrive(program, perform)
        finally:
            await adrive(sessions.close(), self._perform)

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
        if self.connector is not None:
            if isinstance(effect, Connect):
                return await self.connector.connect(effect)
            if isinstance(effect, Ehlo):
                return await self.connector.ehlo(effect)
            if isinstance(effect, StartTls):
                return await self.connector.start_tls(effect)
            if isinstance(effect, Transmit):
                return await self.connector.transmit(effect)
            if isinstance(effect, Close):
                return await self.connector.close(effect)
        raise TypeError(f"nothing was injected that performs {effect!r}")
