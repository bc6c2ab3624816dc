"""The engines hold the injected parts together; both give equal results."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from mailtlspolicy import AsyncEngine, Config, Engine, NextHop, SkippedHost, World

if TYPE_CHECKING:
    from mailtlspolicy.effects import Answer, Lookup, LookupFailure, Probe, Probed, ProbeFailure

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

    async def probe(self, probe: Probe) -> Probed | ProbeFailure:
        await asyncio.sleep(0)
        return WORLD.connector.probe(probe)


def keep(_: Any) -> None:
    pass


def test_both_engines_give_equal_plans_and_checks() -> None:
    later = Later()
    engine = AsyncEngine(later, connector=later, shuffle=keep, clock=lambda: NOW, config=OFF)
    assert asyncio.run(engine.plan("client.test")) == WORLD.engine(OFF).plan("client.test")
    assert asyncio.run(engine.check("client.test")) == WORLD.engine(OFF).check("client.test")


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
    with pytest.raises(ValueError, match="aware"):
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
