"""Time that passes while questions are answered: what a world can not show, in which a slow question has no answer."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve, field

from mailtlspolicy import Config, Engine, World
from mailtlspolicy.dns.effects import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy import Plan
    from mailtlspolicy.dns.effects import Lookup, LookupFailure
    from mailtlspolicy.engine import Resolver

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
EE = "3 1 1 " + "a1" * 32
POLICY = "version: STSv1\nmode: enforce\nmx: *.provider.test\nmax_age: 604800\n"
PUBLISHED = {"mta-sts.client.test": {"content_type": "text/plain", "body": POLICY}}
CACHED = {"client.test": {"id": "1", "fetched": "2025-12-31T00:00:00Z", "policy": POLICY}}
WAITS = "sts-lookup-failed"


@define
class SlowResolver:
    """Answers as another, each question after so many seconds, and with another TTL where one is given."""

    resolver: Resolver
    takes: Mapping[tuple[str, str], int]
    ttls: Mapping[tuple[str, str], int] = field(factory=dict)
    seconds: int = 0
    asked: list[tuple[str, str]] = field(factory=list)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        key = (question.name, str(question.rdtype))
        self.asked.append(key)
        self.seconds += self.takes.get(key, 0)
        answer = self.resolver.lookup(question)
        return evolve(answer, ttl=self.ttls[key]) if isinstance(answer, Answer) and key in self.ttls else answer

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)


def world(*records: str, **more: Any) -> World:
    zones = {
        "client.test": {"security": "secure", "records": ["@ MX 10 mx.provider.test.", *records]},
        "provider.test": {"security": "secure", "records": ["mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}"]},
    }
    return World.from_json({"zones": zones, **more})


def plan(
    of: World, takes: dict[tuple[str, str], int], now: datetime | None = None, **settings: Any
) -> tuple[Plan, Any]:
    """The plan for client.test where questions take their time, and what was asked."""
    slow = SlowResolver(of.resolver, takes)
    engine = Engine(
        slow,
        fetcher=of.fetcher,
        store=of.engine().store,
        clock=slow.now,
        elapsed=lambda: float(slow.seconds),
        config=Config(**settings),
    )
    return engine.plan("client.test", now), slow.asked


MX, RECORD = ("client.test", "MX"), ("_mta-sts.client.test", "TXT")
A, AAAA, TLSA = ("mx.provider.test", "A"), ("mx.provider.test", "AAAA"), ("_25._tcp.mx.provider.test", "TLSA")


def skipped(made: Plan) -> list[tuple[str, str | None]]:
    return [(str(host.skip.reason), host.skip.tlsrpt) for host in made.hosts if host.skip is not None]


def test_servers_that_were_found_in_time_stand_without_their_addresses() -> None:
    made, asked = plan(world(), {MX: 130}, sts="off")
    assert (made.mx_secure, skipped(made)) == (True, [("address-lookup-failed", None)])
    assert made.undeliverable is not None
    assert (made.undeliverable.kind, made.undeliverable.status) == ("transient", "4.4.3")
    assert asked == [MX]


def test_of_a_family_that_was_not_asked_for_nothing_is_known() -> None:
    made, asked = plan(world(), {A: 130}, sts="off", insecure_mx="may", dane="off")
    assert ([host.addresses for host in made.usable_hosts], AAAA in asked) == ([("192.0.2.1",)], False)
    made, _ = plan(world(), {A: 130}, sts="off", dane="off", address_families="both")
    assert skipped(made) == [("address-lookup-failed", None)]


def test_tlsa_records_that_arrive_at_the_end_are_used() -> None:
    made, _ = plan(world(), {TLSA: 130}, sts="off")
    assert [str(host.level) for host in made.usable_hosts] == ["dane"]
    made, asked = plan(world(), {AAAA: 130}, sts="off")
    assert (skipped(made), TLSA in asked) == ([("tlsa-lookup-failed", None)], False)


def test_seconds_count_where_the_caller_gives_the_time() -> None:
    made, _ = plan(world(), {AAAA: 130}, NOW, sts="off")
    assert skipped(made) == [("tlsa-lookup-failed", None)]


@pytest.mark.parametrize("max_plan_seconds", [100, 131])
def test_the_time_of_a_plan_is_a_setting(max_plan_seconds: int) -> None:
    made, _ = plan(world(), {AAAA: 130}, sts="off", max_plan_seconds=max_plan_seconds)
    assert bool(made.usable_hosts) is (max_plan_seconds == 131)


@pytest.mark.parametrize(
    ("last", "failure"), [pytest.param(MX, "dns-error", id="before"), pytest.param(RECORD, "fetch-error", id="after")]
)
@pytest.mark.parametrize(
    ("is_cached", "choice", "reason"),
    [
        (False, "continue", "no-hosts"),
        (False, "defer", WAITS),
        (True, "continue", "no-hosts"),
        (True, "defer", "no-hosts"),
    ],
)
def test_a_discovery_that_is_cut_off_is_a_failed_one(
    last: tuple[str, str], failure: str, *, is_cached: bool, choice: str, reason: str
) -> None:
    """RFC 8461 section 3.3: what is cached holds. The hosts, which come later, are lost here in any case."""
    of = world('_mta-sts TXT "v=STSv1; id=2;"', https=PUBLISHED, cache=CACHED if is_cached else {})
    made, asked = plan(of, {last: 130}, sts_on_dns_error=choice)
    assert made.sts is not None
    assert (made.sts.failure, made.sts.tlsrpt) == (failure, None)
    assert (made.sts.policy is not None, made.sts.source) == (is_cached, "cached" if is_cached else None)
    assert made.undeliverable is not None
    assert (made.undeliverable.kind, made.undeliverable.reason) == ("transient", reason)
    assert (RECORD in asked) is (last == RECORD)


def test_a_discovery_that_is_cut_off_leaves_nothing_behind() -> None:
    """No back-off begins (RFC 8461 section 3.3): no policy host has failed."""
    of = world('_mta-sts TXT "v=STSv1; id=2;"', https=PUBLISHED)
    slow = SlowResolver(of.resolver, {RECORD: 130})
    engine = Engine(
        slow, fetcher=of.fetcher, clock=slow.now, elapsed=lambda: float(slow.seconds), config=Config(dane="off")
    )
    first = engine.plan("client.test").sts
    slow.takes = {}
    second = engine.plan("client.test").sts
    assert first is not None
    assert second is not None
    assert (first.failure, second.failure, second.source) == ("fetch-error", None, "fetched")


def test_the_question_about_an_alias_counts_for_how_long_a_plan_holds() -> None:
    """RFC 7672 section 2.1.3: the answer may be older than the alias in the answer for the addresses."""
    zones = {
        "client.test": {"security": "secure", "records": ["@ MX 10 mx.provider.test."]},
        "provider.test": {"security": "secure", "records": ["mx CNAME host.plain.test.", f"_25._tcp.mx TLSA {EE}"]},
        "plain.test": {"security": "insecure", "records": ["host A 192.0.2.1", "host AAAA 2001:db8::1"]},
    }
    of = World.from_json({"zones": zones})
    slow = SlowResolver(of.resolver, {}, {("mx.provider.test", "CNAME"): 60})
    made = Engine(slow, clock=slow.now, config=Config(sts="off")).plan("client.test")
    assert ([str(host.level) for host in made.usable_hosts], made.valid_until) == (["dane"], NOW + timedelta(minutes=1))
