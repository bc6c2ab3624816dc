"""The injected parts held together: resolver, fetcher, policy store, connector, trust store, clock and configuration.

`Engine` is synchronous, `AsyncEngine` asynchronous; both run the same programs and give equal results. An engine has no
state beside its policy store, and may be shared among threads or tasks as far as the injected parts may.
"""

from __future__ import annotations

import random
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import field, frozen
from attrs.validators import ge

from mailtlspolicy._times import in_utc
from mailtlspolicy.config import Config, Misconfigured, Sts
from mailtlspolicy.delivery.check import check
from mailtlspolicy.delivery.session import Close, Connect, Ehlo, StartTls, Transmit
from mailtlspolicy.delivery.walk import deliver
from mailtlspolicy.dns.effects import Lookup
from mailtlspolicy.drivers import OWN_ERRORS, adrive, drive
from mailtlspolicy.effects import BrokenContract, Moment, Now, OwnFailure
from mailtlspolicy.names import canonical
from mailtlspolicy.plan.mx import NextHop, Shuffle
from mailtlspolicy.plan.search import plan
from mailtlspolicy.plan.values import HostPlan, Plan
from mailtlspolicy.sts.effects import DropPolicy, Fetch, ListPolicies, LoadPolicy, StorePolicy
from mailtlspolicy.sts.examine import examine
from mailtlspolicy.sts.fetching import fetch_whole, fetch_whole_async
from mailtlspolicy.sts.refresh import Progress, refresh
from mailtlspolicy.sts.stores import AsyncMemoryStore, MemoryStore
from mailtlspolicy.tlsrpt.discovery import find_tlsrpt
from mailtlspolicy.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailtlspolicy.delivery.check import Check
    from mailtlspolicy.delivery.message import Message
    from mailtlspolicy.delivery.outcome import Outcome
    from mailtlspolicy.delivery.session import Connected, Reply, Secured, SessionFailure, Transmitted
    from mailtlspolicy.dns.effects import Answer, LookupFailure
    from mailtlspolicy.effects import Effect, Program
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.plan.mx import MxHost
    from mailtlspolicy.plan.values import SkippedHost
    from mailtlspolicy.sts.examine import Examination
    from mailtlspolicy.sts.fetching import AsyncFetcher, Fetcher
    from mailtlspolicy.sts.refresh import RefreshReport
    from mailtlspolicy.sts.stores import AsyncPolicyStore, PolicyStore
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


def _shuffle_or_default(shuffle: Callable[[list[MxHost]], None] | None) -> Callable[[list[MxHost]], None]:
    return random.shuffle if shuffle is None else shuffle


def _clock_or_default(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    return (lambda: datetime.now(timezone.utc)) if clock is None else clock


def _store_or_memory(store: PolicyStore | None) -> PolicyStore:
    return MemoryStore() if store is None else store


def _store_or_async_memory(store: AsyncPolicyStore | None) -> AsyncPolicyStore:
    return AsyncMemoryStore() if store is None else store


def keep_order(_: list[MxHost]) -> None:
    """The shuffle that leaves hosts of equal preference in the order of their records, so that runs repeat."""


# Who performs what; each engine has a way of its own to fetch
_INJECTED: dict[type[Effect[Any]], Callable[[Any, Any], Any]] = {
    Lookup: lambda engine, effect: engine.resolver.lookup(effect),
    LoadPolicy: lambda engine, effect: engine.store.load(effect.domain),
    StorePolicy: lambda engine, effect: engine.store.store(effect.domain, effect.entry),
    DropPolicy: lambda engine, effect: engine.store.drop(effect.domain, effect.entry),
    ListPolicies: lambda engine, effect: engine.store.entries(effect.cursor),
    Connect: lambda engine, effect: engine.connector.connect(effect),
    Ehlo: lambda engine, effect: engine.connector.ehlo(effect),
    StartTls: lambda engine, effect: engine.connector.start_tls(effect),
    Transmit: lambda engine, effect: engine.connector.transmit(effect),
    Close: lambda engine, effect: engine.connector.close(effect),
}


def _own_failure(effect: Effect[Any], error: BaseException) -> Any:
    """The result of an effect whose performer raised, for want of something here. What else it raises goes through."""
    if not effect.is_fenced or not isinstance(error, OWN_ERRORS):
        raise error
    return effect.own_failure(OwnFailure.LOCAL, f"{type(error).__name__}: {error}"[:MAX_DETAIL])


MAX_DETAIL = 200  # characters of an error that are shown, as of what a peer says


@frozen(kw_only=True)
class _Core:
    """What both engines have in common: the parts that do no I/O."""

    fetcher: object = None  # each engine has its own kind
    connector: object = None
    trust: TrustStore | None = None
    shuffle: Callable[[list[MxHost]], None] = field(default=None, converter=_shuffle_or_default)
    clock: Callable[[], datetime] = field(default=None, converter=_clock_or_default)
    elapsed: Callable[[], float] = time.monotonic
    config: Config | Callable[[NextHop], Config] = field(factory=Config)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.config, Config):
            self._require_parts(self.config)

    def _require_parts(self, config: Config) -> None:
        """What a policy demands has to be possible, before the first domain that has one is met in the field."""
        if config.sts is Sts.OFF:
            return
        if self.fetcher is None:
            raise Misconfigured("MTA-STS is on and needs a fetcher; set sts to off to do without")
        if self.connector is not None and self.trust is None:
            raise Misconfigured("MTA-STS is on, and to connect takes trust anchors: give trust, or set sts to off")

    def verify(self, host: HostPlan | SkippedHost, chain: Sequence[bytes], now: datetime | None = None) -> Verdict:
        """What the certificates that a host presented amount to, under the configuration that the plan was made with.

        Args:
            host: a host of a plan. One that is skipped satisfies nothing.
            chain: the presented certificates as DER, leaf first; empty where none was presented.
            now: an aware time, or None to ask the clock.

        Raises:
            ValueError: `now` is naive.
        """
        wall = self._moments(now)().wall
        if not isinstance(host, HostPlan):
            return Verdict(authenticated=False, satisfied=False, tlsrpt=host.skip.tlsrpt)
        return host.verify(chain, now=wall, trust=self.trust)

    def _moments(self, now: datetime | None) -> Callable[[], Moment]:
        """What tells the time of one run: it stands still where the caller gives it, but for what elapses."""
        if now is None:
            return lambda: Moment(_told(self.clock()), self.elapsed())
        if not isinstance(now, datetime):
            raise TypeError(f"now is a datetime, not {type(now).__name__}")
        wall = in_utc(now)
        return lambda: Moment(wall, self.elapsed())

    def _performed_here(
        self, effect: Effect[Any], moments: Callable[[], Moment], progress: Callable[[RefreshReport], None] | None
    ) -> Any:
        """The result of an effect that takes no I/O."""
        if isinstance(effect, Now):
            return moments()
        if isinstance(effect, Shuffle):
            hosts = list(effect.hosts)
            self.shuffle(hosts)
            return tuple(hosts)
        if isinstance(effect, Progress):
            return None if progress is None else progress(effect.report)
        raise TypeError(f"nothing was injected that performs {effect!r:.200}")

    def _settled(self, next_hop: str | NextHop) -> tuple[NextHop, Config]:
        route = next_hop if isinstance(next_hop, NextHop) else NextHop.parse(next_hop)
        return route, self._config_for(route)

    def _config_for(self, route: NextHop) -> Config:
        config = self.config if isinstance(self.config, Config) else self.config(route)
        if not isinstance(config, Config):
            raise TypeError(f"the function of the next-hop returns a Config, not {type(config).__name__}")
        self._require_parts(config)
        return config

    def _plan(self, next_hop: str | NextHop, *, requiretls: bool, tls_optional: bool) -> Program[Plan]:
        route, config = self._settled(next_hop)
        return plan(route, config=config, requiretls=requiretls, tls_optional=tls_optional)

    def _deliver(
        self, message: Message, next_hop: str | NextHop | Plan | None, before: Outcome | None
    ) -> Program[Outcome]:
        to = message.next_hop if next_hop is None else next_hop
        route, config = self._settled(to.next_hop if isinstance(to, Plan) else to)
        if message.tls_report:
            config = config.for_tls_reports
        given = to if isinstance(to, Plan) else None
        return deliver(
            route,
            message,
            config=config,
            trust=self.trust,
            plan=given,
            before=before,
            ehlo_name=self._ehlo_name,
        )

    def _configure(self, domain: str) -> Config:
        return self._config_for(NextHop.parse(domain))

    def _check(
        self, next_hop: str | NextHop, at_once: int | None, *, requiretls: bool, tls_optional: bool
    ) -> Program[Check]:
        planned = yield from self._plan(next_hop, requiretls=requiretls, tls_optional=tls_optional)
        return (yield from check(planned, trust=self.trust, at_once=at_once, ehlo_name=self._ehlo_name))

    @property
    def _ehlo_name(self) -> str | None:
        """The name that the connector gives itself, where it tells one."""
        name = getattr(self.connector, "ehlo_name", None)
        return name if isinstance(name, str) else None

    def _require_connector(self) -> None:
        if self.connector is None:
            raise Misconfigured("an engine needs a connector to check or deliver")

    def _refresh(self, at_once: int | None) -> Program[RefreshReport]:
        if self.fetcher is None:
            raise Misconfigured("refresh needs an engine with a fetcher")
        return refresh(at_once=at_once, configure=self._configure)

    def _find_tlsrpt(self, domain: str) -> Program[Search]:
        name = canonical(domain)
        return find_tlsrpt(name, self._config_for(NextHop.parse(name)))

    def _examine(self, domain: str) -> Program[Examination]:
        if self.fetcher is None:
            raise Misconfigured("examine_sts needs an engine with a fetcher")
        name = canonical(domain)
        return examine(name, self._configure(name))


def _told(wall: object) -> datetime:
    """What an injected clock tells, in UTC."""
    if not isinstance(wall, datetime) or wall.utcoffset() is None:
        raise BrokenContract(Now.performer, Now(), f"{wall!r:.80}, which is no aware time")
    return in_utc(wall)


@frozen
class Engine(_Core):
    """Decides what SMTP TLS policy demands, synchronously.

    Attributes:
        resolver: asks the DNS; the one positional argument.
        fetcher: fetches MTA-STS policies; without one `config` has to switch MTA-STS off.
        store: keeps them; in memory by default.
        connector: holds SMTP sessions; only `check` and `deliver` need one.
        trust: PKIX trust anchors, which an engine with a connector has to have unless `config` switches MTA-STS off.
            Without them a PKIX duty fails in `verify`, and `deliver` refuses a plan that has one (RFC 8689).
        shuffle: puts a list of hosts of equal preference into random order, in place (RFC 5321 section 5.1);
            `random.shuffle` by default.
        clock: returns the aware current time; the system's by default.
        elapsed: returns seconds on a clock that is never put back; `time.monotonic` by default.
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
            InvalidNextHop: the next-hop is malformed.
            Misconfigured: MTA-STS is on and there is no fetcher, or a connector and no trust store.
            ValueError: `now` is naive.
        """
        return self._run(self._plan(next_hop, requiretls=requiretls, tls_optional=tls_optional), now)

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
            InvalidNextHop, Misconfigured: as `plan`; or the engine has no connector, or no trust anchors while the plan
                demands PKIX.
            ValueError: as `plan`; the recipients have no domain in common and no next-hop is given; or the plan is for
                a message of other wishes. Nothing has been sent in any of these cases.
        """
        self._require_connector()
        return self._run(self._deliver(message, next_hop, before), now)

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
            InvalidNextHop, Misconfigured, ValueError: as `plan`; or the engine has no connector.
        """
        self._require_connector()
        return self._run(self._check(next_hop, None, requiretls=requiretls, tls_optional=tls_optional), now)

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
            Misconfigured: the engine has no fetcher.
            ValueError: `now` is naive.
        """
        return self._run(self._refresh(None), now, progress)

    def examine_sts(self, domain: str) -> Examination:
        """Look at what a policy domain publishes for MTA-STS, and what is cached of it; nothing is stored.

        Raises:
            Misconfigured: the engine has no fetcher.
            ValueError: the domain is malformed.
        """
        return self._run(self._examine(domain), None)

    def find_tlsrpt(self, domain: str) -> Search:
        """Ask the DNS where reports about a policy domain are wanted (RFC 8460 section 3).

        Raises:
            ValueError: the domain is malformed.
        """
        return self._run(self._find_tlsrpt(domain), None)

    def _run(
        self, program: Program[_T], now: datetime | None, progress: Callable[[RefreshReport], None] | None = None
    ) -> _T:
        moments = self._moments(now)

        def perform(effect: Effect[Any]) -> Any:
            performer = _INJECTED.get(type(effect))
            try:
                if performer is not None:
                    return performer(self, effect)
                if isinstance(effect, Fetch) and self.fetcher is not None:
                    return fetch_whole(self.fetcher, effect)
            except OWN_ERRORS as error:
                return _own_failure(effect, error)
            return self._performed_here(effect, moments, progress)

        return drive(program, perform, self.elapsed)


@frozen
class AsyncEngine(_Core):
    """Decides what SMTP TLS policy demands, under asyncio: independent lookups run concurrently.

    Takes what `Engine` takes, with an asynchronous resolver and connector, and:

    Attributes:
        checked_at_once: servers that `check` looks at side by side: each takes a descriptor, and systems commonly grant
            a process 256 to 1024.
        refreshed_at_once: domains that `refresh` looks at side by side: enough to hide the latency of their hosts, few
            enough for one resolver.
    """

    resolver: AsyncResolver
    fetcher: AsyncFetcher | None = field(default=None, kw_only=True)
    store: AsyncPolicyStore = field(default=None, converter=_store_or_async_memory, kw_only=True)
    connector: AsyncConnector | None = field(default=None, kw_only=True)
    checked_at_once: int = field(default=32, validator=ge(1), kw_only=True)
    refreshed_at_once: int = field(default=16, validator=ge(1), kw_only=True)

    async def plan(
        self,
        next_hop: str | NextHop,
        now: datetime | None = None,
        *,
        requiretls: bool = False,
        tls_optional: bool = False,
    ) -> Plan:
        """As `Engine.plan`."""
        return await self._run(self._plan(next_hop, requiretls=requiretls, tls_optional=tls_optional), now)

    async def deliver(
        self,
        message: Message,
        next_hop: str | NextHop | Plan | None = None,
        now: datetime | None = None,
        before: Outcome | None = None,
    ) -> Outcome:
        """As `Engine.deliver`. A message whose delivery is cancelled may or may not have been sent."""
        self._require_connector()
        return await self._run(self._deliver(message, next_hop, before), now)

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
        checked = self._check(next_hop, self.checked_at_once, requiretls=requiretls, tls_optional=tls_optional)
        return await self._run(checked, now)

    async def refresh(
        self, now: datetime | None = None, progress: Callable[[RefreshReport], None] | None = None
    ) -> RefreshReport:
        """As `Engine.refresh`, some domains at once."""
        return await self._run(self._refresh(self.refreshed_at_once), now, progress)

    async def examine_sts(self, domain: str) -> Examination:
        """As `Engine.examine_sts`."""
        return await self._run(self._examine(domain), None)

    async def find_tlsrpt(self, domain: str) -> Search:
        """As `Engine.find_tlsrpt`."""
        return await self._run(self._find_tlsrpt(domain), None)

    async def _run(
        self, program: Program[_T], now: datetime | None, progress: Callable[[RefreshReport], None] | None = None
    ) -> _T:
        moments = self._moments(now)

        async def perform(effect: Effect[Any]) -> Any:
            performer = _INJECTED.get(type(effect))
            try:
                if performer is not None:
                    return await performer(self, effect)
                if isinstance(effect, Fetch) and self.fetcher is not None:
                    return await fetch_whole_async(self.fetcher, effect)
            except OWN_ERRORS as error:
                return _own_failure(effect, error)
            return self._performed_here(effect, moments, progress)

        return await adrive(program, perform)
