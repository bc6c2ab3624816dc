"""The engines hold the injected parts together; both give equal results."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from mailtlspolicy import AsyncEngine, Config, Engine, Message, NextHop, Plan, SkippedHost, World
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
)
from mailtlspolicy.effects import BrokenContract
from tests.sessions import AsyncConnections

if TYPE_CHECKING:
    from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure

OFF = Config(sts="off")  # what MTA-STS adds has its own tests
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
EE = "3 1 1 " + "a1" * 32
RECORDS = ["@ MX 10 a", "@ MX 10 b", "a A 192.0.2.1", "b A 192.0.2.2", f"_25._tcp.a TLSA {EE}", "@ MX 20 gone"]
WORLD = World.from_json(
    {
        "now": NOW.isoformat(),
        "zones": {"client.test": {"records": RECORDS}},
        "servers": {"192.0.2.1": {"25": {"chain": []}}, "192.0.2.2": {"25": {"starttls": "absent"}}},
    }
)


class Later:
    """The static world behind an event loop: answers come in an order of their own."""

    def __init__(self) -> None:
        self.asked = 0

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        self.asked += 1
        await asyncio.sleep(0.002 / self.asked)
        return WORLD.resolver.lookup(question)


def keep(_: Any) -> None:
    pass


def later_engine(**more: Any) -> AsyncEngine:
    parts: dict[str, Any] = {
        "connector": AsyncConnections(WORLD.connector),
        "config": OFF,
        "trust": WORLD.trust,
        **more,
    }
    return AsyncEngine(Later(), shuffle=keep, clock=lambda: NOW, **parts)


MESSAGE = Message("a@sender.test", ["b@client.test"], b"Subject: x\r\n\r\n")


def test_both_engines_give_equal_plans_checks_and_deliveries() -> None:
    engine = later_engine()
    assert asyncio.run(engine.plan("client.test")) == WORLD.engine(OFF).plan("client.test")
    assert asyncio.run(engine.check("client.test")) == WORLD.engine(OFF).check("client.test")
    delivered = asyncio.run(engine.deliver(MESSAGE))
    assert delivered == WORLD.engine(OFF).deliver(MESSAGE)
    assert [(str(attempt.result), attempt.cleartext) for attempt in delivered.attempts] == [
        ("not-authenticated", False),  # the first host bears TLSA records and presents nothing
        ("delivered", True),
    ]


@pytest.mark.parametrize("wish", [{}, {"requiretls": True}, {"tls_optional": True}])
def test_both_engines_plan_and_check_for_the_wishes_of_a_message(wish: dict[str, Any]) -> None:  # RFC8689-4.3-d
    engine = WORLD.engine(OFF)
    plan, check = engine.plan("client.test", **wish), engine.check("client.test", **wish)
    assert asyncio.run(later_engine().plan("client.test", **wish)) == plan == check.plan
    assert asyncio.run(later_engine().check("client.test", **wish)) == check
    assert (plan.requiretls, plan.tls_optional) == ("requiretls" in wish, "tls_optional" in wish)
    assert [host.requiretls for host in plan.usable_hosts] == ["requiretls" in wish] * 2


# --- deliveries


def test_mail_goes_to_the_domain_of_its_recipients_or_where_it_is_sent() -> None:
    assert WORLD.engine(OFF).deliver(MESSAGE).plan == WORLD.engine(OFF).plan("client.test")
    for relay in ("[a.client.test]", NextHop.parse("[a.client.test]")):
        assert WORLD.engine(OFF).deliver(MESSAGE, relay).plan == WORLD.engine(OFF).plan("[a.client.test]")
    several = attrs.evolve(MESSAGE, recipients=("b@client.test", "b@other.test"))
    with pytest.raises(ValueError, match="domain"):
        WORLD.engine(OFF).deliver(several)
    assert WORLD.engine(OFF).deliver(several, "client.test").outcome == "delivered"


@pytest.mark.parametrize("wish", [{}, {"requiretls": True}, {"tls_optional": True}])
def test_a_plan_made_before_is_followed_and_nothing_is_looked_up(wish: dict[str, Any]) -> None:
    class Untouched:
        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            raise AssertionError(question)

    message = attrs.evolve(MESSAGE, **wish)
    planned = WORLD.engine(OFF).plan("client.test", **wish)
    engine = Engine(Untouched(), connector=WORLD.connector, trust=WORLD.trust, clock=lambda: NOW, config=OFF)
    assert engine.deliver(message, planned) == WORLD.engine(OFF).deliver(message)
    awaited = later_engine()
    assert asyncio.run(awaited.deliver(message, planned)) == WORLD.engine(OFF).deliver(message)


WISHES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("wanted", WISHES)
@pytest.mark.parametrize("planned", WISHES)
def test_a_plan_for_a_message_of_other_wishes_is_refused_before_anything_is_sent(
    planned: tuple[bool, bool], wanted: tuple[bool, bool]
) -> None:
    """REQUIRETLS makes TLS-Required void, and a plan with all policies is good enough for mail that needs none."""
    engine = WORLD.engine(OFF)
    plan = engine.plan("client.test", requiretls=planned[0], tls_optional=planned[1])
    message = attrs.evolve(MESSAGE, requiretls=wanted[0], tls_optional=wanted[1])
    connector = Counting()
    counting = attrs.evolve(engine, connector=connector)
    strict, wants_strict = planned[0], wanted[0]
    lax, wants_lax = planned[1] and not planned[0], wanted[1]
    if strict == wants_strict and (wants_lax or not lax):
        counting.deliver(message, plan)
        assert connector.steps
    else:
        with pytest.raises(ValueError, match="other wishes"):
            counting.deliver(message, plan)
        assert connector.steps == []


class Counting:
    """The static connector, which notes what it is asked."""

    def __init__(self) -> None:
        self.steps: list[object] = []

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        self.steps.append(effect)
        return WORLD.connector.connect(effect)

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        return WORLD.connector.ehlo(effect)

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        return WORLD.connector.start_tls(effect)

    def transmit(self, effect: Transmit) -> Transmitted:
        return WORLD.connector.transmit(effect)

    def close(self, effect: Close) -> None:
        WORLD.connector.close(effect)


def test_the_configuration_of_a_delivery_is_that_of_its_next_hop() -> None:
    def config(next_hop: NextHop) -> Config:
        return Config(sts="off", retry_seconds=7 if next_hop.name == "gone.test" else 3600)

    world = World.from_json({"now": NOW.isoformat()})
    engine = attrs.evolve(world.engine(), config=config)
    route = NextHop.static("gone.test", [(0, "mx.gone.test")])
    planned = Plan(next_hop=route)  # without any host
    retry = engine.deliver(MESSAGE, planned).retry
    assert retry is not None
    assert (retry.at - NOW).total_seconds() == 7


@pytest.mark.parametrize("asynchronous", [False, True])
def test_delivering_needs_something_that_connects_and_an_aware_time(*, asynchronous: bool) -> None:
    def deliver(connector: Any, now: datetime | None) -> Any:
        if asynchronous:
            connections = connector and AsyncConnections(connector)
            return asyncio.run(later_engine(connector=connections).deliver(MESSAGE, now=now))
        return Engine(WORLD.resolver, connector=connector, clock=lambda: NOW, config=OFF).deliver(MESSAGE, now=now)

    with pytest.raises(ValueError, match="connector"):
        deliver(None, NOW)
    with pytest.raises(ValueError, match="aware"):
        deliver(WORLD.connector, datetime(2026, 1, 1))  # noqa: DTZ001
    assert deliver(WORLD.connector, None).outcome == "delivered"


def test_deferred_mail_waits_from_the_time_that_is_given() -> None:
    silent = World.from_json({"now": NOW.isoformat(), "zones": {"client.test": {"records": RECORDS}}})
    for now in (None, NOW, datetime(2027, 6, 1, tzinfo=timezone.utc)):
        retry = silent.engine(OFF).deliver(MESSAGE, now=now).retry
        assert retry is not None
        assert (retry.at - (now or NOW)).total_seconds() == 1800  # RFC5321-4.5.4.1-c


# --- connections that are left behind


class Breaking:
    """Connections of which one step raises, or never ends."""

    def __init__(self, breaks: str, *, hangs: bool = False, error: type[Exception] = LookupError) -> None:
        self.breaks, self.hangs, self.error = breaks, hangs, error
        self.opened: list[object] = []
        self.closed: list[object] = []
        self.hung = asyncio.Event()

    async def _step(self, name: str, session: object) -> None:
        await asyncio.sleep(0)
        assert session not in self.closed
        if name == self.breaks and (self.hangs is False or len(self.opened) == 2):
            if not self.hangs:
                raise self.error(name)
            self.hung.set()
            await asyncio.Event().wait()

    async def connect(self, _: Connect) -> Connected:
        self.opened.append(object())
        session = self.opened[-1]
        await self._step("connect", session)
        return Connected(session, Reply(220))

    async def ehlo(self, effect: Ehlo) -> Reply:
        await self._step("ehlo", effect.session)
        return Reply(250, ("mx", "STARTTLS"))

    async def start_tls(self, effect: StartTls) -> Secured:
        await self._step("start_tls", effect.session)
        return Secured(())

    async def transmit(self, effect: Transmit) -> Transmitted:
        await self._step("transmit", effect.session)
        return Transmitted(Reply(451))

    async def close(self, effect: Close) -> None:
        self.closed.append(effect.session)


class Synchronous:
    """The same without waiting."""

    def __init__(self, inner: Breaking) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        def call(effect: Any) -> Any:
            return asyncio.run(getattr(self.inner, name)(effect))

        return call


PLAIN = {"zones": {"client.test": {"records": ["@ MX 10 a", "a A 192.0.2.1", "@ MX 10 b", "b A 192.0.2.2"]}}}


@pytest.mark.parametrize("step", ["ehlo", "start_tls", "transmit"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("method", ["check", "deliver"])
def test_a_connection_is_ended_whatever_is_raised(step: str, method: str, *, asynchronous: bool) -> None:
    world, breaking = World.from_json(PLAIN), Breaking(step)
    asked: Any = "client.test" if method == "check" else MESSAGE

    def run() -> None:
        if asynchronous:
            asyncio.run(getattr(AsyncEngine(Resolving(world), connector=breaking, config=OFF), method)(asked))
        else:
            getattr(Engine(world.resolver, connector=Synchronous(breaking), config=OFF), method)(asked)

    if (method, step) == ("check", "transmit"):  # it sends nothing
        run()
    else:
        with pytest.raises(LookupError, match=step):
            run()
    assert breaking.opened
    assert sorted(map(id, breaking.opened)) == sorted(map(id, breaking.closed))


@pytest.mark.parametrize("step", ["ehlo", "start_tls", "transmit"])
@pytest.mark.parametrize("method", ["check", "deliver"])
def test_a_connection_is_ended_when_the_caller_loses_patience(step: str, method: str) -> None:
    world, breaking = World.from_json(PLAIN), Breaking(step, hangs=True)
    engine = AsyncEngine(Resolving(world), connector=breaking, config=OFF)
    asked: Any = "client.test" if method == "check" else MESSAGE

    async def impatient() -> None:
        work, hung = (asyncio.ensure_future(each) for each in (getattr(engine, method)(asked), breaking.hung.wait()))
        await asyncio.wait({work, hung}, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        hung.cancel()
        await work

    if (method, step) == ("check", "transmit"):
        asyncio.run(impatient())
    else:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(impatient())
    assert len(breaking.opened) == 2
    assert sorted(map(id, breaking.opened)) == sorted(map(id, breaking.closed))


def test_a_connector_that_breaks_its_contract_costs_the_attempts_and_leaves_nothing_open() -> None:
    class Odd(Counting):
        def ehlo(self, _: Ehlo) -> Any:
            return None

        def close(self, effect: Close) -> None:
            self.steps.append(effect)

    odd = Odd()
    with pytest.raises(BrokenContract, match=r"^the connector answered Ehlo\(.*\) with NoneType: None$") as caught:
        attrs.evolve(WORLD.engine(OFF), connector=odd).deliver(MESSAGE)
    assert caught.value.outcome.outcome == "deferred"  # and nobody has got it
    assert [type(step).__name__ for step in odd.steps] == ["Connect", "Close"]


@pytest.mark.parametrize("name", ["mx.sender.test", None, 25])
def test_the_name_that_a_connector_gives_itself_is_ours(name: Any) -> None:
    class Named:
        ehlo_name = name

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, method: str) -> Any:
            return getattr(self.inner, method)

    zones = {"client.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1"]}}
    world = World.from_json({"zones": zones, "servers": {"192.0.2.1": {"25": {"greeting": "220 MX.sender.test"}}}})
    engine = attrs.evolve(world.engine(OFF), connector=Named(world.connector))
    expected = ("tempfailed", None) if name == "mx.sender.test" else ("ok", "untrusted")
    (server,) = engine.check("client.test").servers
    assert (server.result, server.security) == expected
    outcome = engine.simulate("client.test")
    assert outcome.status == ("4.4.6" if name == "mx.sender.test" else None)


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), MemoryError(), RuntimeError("can't start new thread")]
)
@pytest.mark.parametrize("step", ["connect", "ehlo", "start_tls", "transmit"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_this_system_lacks_costs_an_attempt_and_nothing_else(
    step: str, error: Exception, *, asynchronous: bool
) -> None:
    world, breaking = World.from_json(PLAIN), Breaking(step, error=lambda _: error)  # type: ignore[arg-type]
    if asynchronous:
        outcome = asyncio.run(AsyncEngine(Resolving(world), connector=breaking, config=OFF).deliver(MESSAGE))
    else:
        outcome = Engine(world.resolver, connector=Synchronous(breaking), config=OFF).deliver(MESSAGE)
    assert (outcome.outcome, outcome.status) == ("deferred", "4.3.0" if step != "transmit" else outcome.status)
    results = {str(attempt.result) for attempt in outcome.attempts}
    assert "local-error" in results
    assert [attempt.tlsrpt for attempt in outcome.attempts if attempt.result == "local-error"] == [
        None for attempt in outcome.attempts if attempt.result == "local-error"
    ]
    assert outcome.duplicate_possible is (step == "transmit")


def test_a_server_that_takes_its_time_holds_up_no_other() -> None:
    """The first greets when the second has been looked at to the end."""
    world, other_is_done = World.from_json(PLAIN), asyncio.Event()

    class OneIsSlow(Breaking):
        async def connect(self, effect: Connect) -> Connected:
            connected = await super().connect(effect)
            if effect.address == "192.0.2.1":
                await asyncio.wait_for(other_is_done.wait(), 30)
            return connected

        async def close(self, effect: Close) -> None:
            await super().close(effect)
            other_is_done.set()

    engine = AsyncEngine(Resolving(world), connector=OneIsSlow("nothing"), config=OFF)
    assert [str(server.result) for server in asyncio.run(engine.check("client.test")).servers] == ["ok", "ok"]


class Resolving:
    """The resolver of a world, awaited."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        return self.world.resolver.lookup(question)


# --- engines


def test_a_configuration_may_be_a_function_of_the_next_hop() -> None:
    # RFC7672-10-b: where the operator has arranged TLS with a destination otherwise, DANE is switched off for it alone
    def config(next_hop: NextHop) -> Config:
        return Config(dane="off") if next_hop.name == "client.test" else Config()

    engine = WORLD.engine(config)
    assert [str(host.level) for host in engine.plan("client.test").usable_hosts] == ["may", "may"]
    assert str(engine.plan("[a.client.test]").usable_hosts[0].level) == "dane"


def test_a_host_is_verified_under_the_configuration_that_it_was_planned_with() -> None:
    def config(next_hop: NextHop) -> Config:
        return Config(usages=[2]) if next_hop.name == "client.test" else Config()

    engine = WORLD.engine(config)
    host = engine.plan("client.test").usable_hosts[0]
    assert str(host.level) == "encrypt"
    assert engine.verify(host, []).satisfied  # at `encrypt` any certificate, even none, will do
    assert not engine.verify(engine.plan("[a.client.test]").usable_hosts[0], []).satisfied


def test_a_skipped_host_satisfies_nothing() -> None:
    host = WORLD.engine().plan("client.test").hosts[2]
    assert isinstance(host, SkippedHost)
    verdict = WORLD.engine().verify(host, [b"certificate"])
    assert (verdict.authenticated, verdict.satisfied) == (False, False)


def test_equal_preferences_are_shuffled_by_default_and_better_ones_never_come_later() -> None:  # RFC7672-2.2.1-f
    engine = Engine(WORLD.resolver, config=OFF)
    orders = {tuple(host.host for host in engine.plan("client.test").hosts) for _ in range(64)}
    assert orders == {  # one of the two stays away with a chance of 2 ** -63
        ("a.client.test", "b.client.test", "gone.client.test"),
        ("b.client.test", "a.client.test", "gone.client.test"),
    }


@pytest.mark.parametrize("method", ["plan", "check"])
def test_the_time_is_the_callers_or_the_clocks_and_always_aware(method: str) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="aware"):
        getattr(WORLD.engine(), method)("client.test", naive)
    with pytest.raises(BrokenContract, match="clock answered"):
        getattr(Engine(WORLD.resolver, connector=WORLD.connector, clock=lambda: naive, config=OFF), method)(
            "client.test"
        )


def test_verification_refuses_a_naive_time() -> None:
    engine = WORLD.engine()
    host = engine.plan("client.test").usable_hosts[0]
    with pytest.raises(ValueError, match="aware"):
        engine.verify(host, [], datetime(2026, 1, 1))  # noqa: DTZ001


def test_without_a_clock_the_time_is_the_systems() -> None:
    before = datetime.now(timezone.utc)
    until = Engine(WORLD.resolver, config=OFF).plan("client.test").valid_until
    assert until is not None
    assert 0 <= (until - before).total_seconds() - 3600 < 60  # the world's records live for an hour


@pytest.mark.parametrize("next_hop", ["", "user@client.test", "192.0.2.1"])
def test_a_malformed_next_hop_is_refused_before_anything_is_asked(next_hop: str) -> None:
    class Untouched:
        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            raise AssertionError(question)

    with pytest.raises(ValueError, match=r"\S"):
        Engine(Untouched(), config=OFF).plan(next_hop)


def test_a_resolver_that_breaks_its_contract_is_a_type_error() -> None:
    class Broken:
        def lookup(self, _: Lookup) -> Any:
            return None

    with pytest.raises(TypeError, match="NoneType"):
        Engine(Broken(), config=OFF).plan("client.test")


def test_an_engine_can_not_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        WORLD.engine().config = Config(dane="off")  # type: ignore[misc]  # that is the point


def test_checking_asynchronously_needs_something_that_connects() -> None:
    with pytest.raises(ValueError, match="connector"):
        asyncio.run(AsyncEngine(Later(), config=OFF).check("client.test"))
