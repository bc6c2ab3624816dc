"""A DNS that answers whatever it likes, and what must hold of a plan all the same."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

from mailtlspolicy import Config, Engine, HostPlan, Plan, TlsLevel
from mailtlspolicy.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.tlsa import Tlsa
from tests.authority import NOW

if TYPE_CHECKING:
    from random import Random

NAMES = ("a.example", "b.example", "mx.a.example", "mx.b.example", "c.test")
ODD_NAMES = (
    "",
    ".",
    "192.0.2.1",
    "*.example",
    "a b",
    "\\000.example",
    "x" * 300,
    "-",
    "ü.example",
    "a..b",
    "MX.A.Example.",
)
LOOKUPS_PER_HOST = 5  # A, AAAA, the initial CNAME, two candidate base domains


class HostileDns:
    """Answers at random, within the types of the contract; counts what it is asked."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.asked = 0

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        self.asked += 1
        random = self.random
        if random.random() < 0.1:
            return LookupFailure(question, random.choice(list(FailureKind)), random.choice(ODD_NAMES))
        aliases = self.aliases() if question.rdtype is not RecordType.CNAME else ()
        complete = not aliases or random.random() < 0.6
        records = self.records(question.rdtype) if complete and random.random() < 0.8 else ()
        return Answer(
            question,
            secure=random.random() < 0.7,
            records=records,
            aliases=aliases,
            nxdomain=complete and not records and random.random() < 0.3,
            complete=complete,
            ttl=random.choice((0, 1, 3600, 2**31 - 1)),
        )

    def name(self) -> str:
        return self.random.choice(NAMES if self.random.random() < 0.8 else ODD_NAMES)

    def aliases(self) -> tuple[str, ...]:
        random = self.random
        if random.random() < 0.6:
            return ()
        if random.random() < 0.5:  # a chain of new names, long now and then
            start = random.randrange(10**9)
            return tuple(f"n{start + step}.example" for step in range(random.choice((1, 2, 9, 10, 11, 1000))))
        return tuple(self.name() for _ in range(random.choice((1, 2, 3, 40))))

    def records(self, rdtype: RecordType) -> tuple[Any, ...]:
        random = self.random
        count = random.choice((1, 1, 2, 3, 31, 33, 51, 65, 400))
        if rdtype is RecordType.MX:
            return tuple(
                Mx(random.choice((0, 10, 10, 65535)), f"h{random.randrange(500)}.example" if count > 3 else self.name())
                for _ in range(count)
            )
        if rdtype is RecordType.TLSA:
            return tuple(
                Tlsa(
                    random.choice((0, 1, 2, 3, 3, 255)),
                    random.choice((0, 1, 2)),
                    random.choice((0, 1, 1, 2, 9)),
                    random.randbytes(random.choice((0, 1, 31, 32, 32, 64, 4000))),
                )
                for _ in range(count)
            )
        if rdtype is RecordType.A:
            return tuple(f"192.0.{random.randrange(256)}.{random.randrange(256)}" for _ in range(count))
        if rdtype is RecordType.AAAA:
            return tuple(f"2001:db8::{random.randrange(65536):x}" for _ in range(count))
        return (self.name(),)


def settings(random: Random) -> Config:
    """A configuration with low limits, so that they are met."""
    return Config(
        dane=random.choice(("opportunistic", "mandatory", "audit", "off")),
        insecure_mx=random.choice(("dane", "encrypt", "may")),
        address_families=random.choice(("either", "both")),
        max_mx_hosts=random.choice((1, 3, 50)),
        max_addresses=random.choice((1, 2, 32)),
        max_alias_hops=random.choice((1, 3, 10)),
        max_tlsa_records=random.choice((1, 2, 64)),
    )


def plan_once(random: Random) -> None:
    """Plan over a hostile DNS; `AssertionError` where a bound or an invariant does not hold."""
    config, dns = settings(random), HostileDns(random)
    engine = Engine(dns, clock=lambda: NOW, shuffle=random.shuffle, config=config)
    plan = engine.plan(random.choice(("a.example", "[mx.a.example]", "[192.0.2.1]", "c.test")))
    assert len(plan.hosts) <= config.max_mx_hosts
    assert dns.asked <= (1 + LOOKUPS_PER_HOST * config.max_mx_hosts) * (config.max_alias_hops + 1)
    assert (plan.undeliverable is None) == bool(plan.usable_hosts)
    assert [host.preference for host in plan.hosts] == sorted(host.preference for host in plan.hosts)
    for host in plan.hosts:
        assert len(host.addresses) <= config.max_addresses
        assert host.binding is None or len(host.binding.records) <= config.max_tlsa_records
        assert host.cleartext == (host.level is TlsLevel.MAY)
        if isinstance(host, HostPlan):
            assert host.addresses
            assert (host.level is TlsLevel.DANE) == bool(host.reference_ids)
            engine.verify(host, [])
        assert host.trace
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.explain()
