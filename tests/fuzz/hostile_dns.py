"""A DNS, policy hosts and a policy store that answer whatever they like, and what must hold of a plan all the same.

Nameservers too: replies whose answer sections lead anywhere, and what must hold of an answer read from one.
"""

from __future__ import annotations

import json
import pickle
import struct
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dns.name
import dns.rdatatype

from mailtlspolicy import AsyncEngine, Config, Engine, HostPlan, Plan, TlsLevel
from mailtlspolicy.adapters.dns import MAX_ALIAS_HOPS, MAX_RECORDS, _Query
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.levels import Duty
from mailtlspolicy.sts import Mode
from mailtlspolicy.sts.effects import FetchFailure, FetchFailureKind, StoreFailure
from mailtlspolicy.sts.fetching import Response
from mailtlspolicy.sts.stores import MemoryStore
from mailtlspolicy.tlsa import Tlsa
from tests.authority import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from random import Random

    from mailtlspolicy.sts import Entry
    from mailtlspolicy.sts.effects import Fetch

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
TEXTS = (
    b"v=STSv1; id=1;",
    b"v=STSv1; id=1;",
    b"v=STSv1; id=2;",
    b"v=STSv1;id=3;x=y",
    b"v=STSv1 ; id=4",
    b"v=STSv1; id=;",
    b"v=STSv1;",
    b"v=spf1 -all",
    b"",
    b"\xff" * 255,
)
PATTERNS = ("a.example", "*.a.example", "*.example", "h1.example", "mx.b.example", "192.0.2.1", ".example", "*")
LOOKUPS_PER_HOST = 5  # A, AAAA, the initial CNAME or DNAME, two candidate base domains


class HostileDns:
    """Answers at random, within the types of the contract; counts what it is asked."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.asked = 0
        self.believed = random.random() < 0.9

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
            secure=self.believed and random.random() < 0.7,
            records=records,
            aliases=aliases,
            nxdomain=complete and not records and random.random() < 0.3,
            complete=complete,
            ttl=random.choice((0, 1, 3600, 2**31 - 1)),
            believed=self.believed,
            dname=self.dname(question.name) if aliases else None,
        )

    def dname(self, name: str) -> str | None:
        """A name above this one, where the first alias is made by a DNAME."""
        above = [".".join(name.split(".")[start:]) for start in range(1, name.count(".") + 1)]
        return self.random.choice((*above, "", ".")) if self.random.random() < 0.5 else None

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
        if rdtype is RecordType.TXT:
            return tuple((random.choice(TEXTS),) for _ in range(random.choice((1, 1, 1, 2, count))))
        return (self.name(),)


ALIASES = (dns.rdatatype.CNAME, dns.rdatatype.DNAME)
DATA = (dns.rdatatype.A, dns.rdatatype.MX, dns.rdatatype.TLSA, dns.rdatatype.TXT, dns.rdatatype.RRSIG)
OWNERS = tuple(
    dns.name.from_text(name).to_digestable()
    for name in (*NAMES, "_25._tcp.mx.a.example", "example", ".", "x" * 63 + ".a.example", "a." * 120 + "test")
)


def read_once(random: Random) -> None:
    """Read a hostile reply; `AssertionError` where the answer says what the message does not."""
    rdtype = random.choice(list(RecordType))
    query = _Query(Lookup(random.choice(NAMES[2:]), rdtype), trusted=random.random() < 0.8)
    sections = [[record(random, query.wire) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4, 40)))] for _ in range(2)]
    count = len(sections[0])
    if random.random() < 0.02:
        count = random.choice((MAX_RECORDS + 1, 65535))
    flags = 0x8180 | random.choice((0, 0x20)) | random.choice((0, 0, 0, 0, 0, 0, 2, 3, 6))
    header = struct.pack("!HHHHH", flags, 1, count, len(sections[1]), 0)
    question = query.wire[12 : query.wire.index(b"\0\0\x29", 12)]  # all but the OPT record
    wire = bytearray(query.wire[:2] + header + question + b"".join(sections[0] + sections[1]))
    for _ in range(random.choice((0, 0, 0, 0, 0, 0, 1, 3))):
        wire[random.randrange(12, len(wire))] = random.randrange(256)
    result = query.read_stream(bytes(wire))
    assert result.question.rdtype is rdtype
    if isinstance(result, Answer):
        assert not result.secure or (result.believed and flags & 0x20)
        assert len(result.aliases) <= MAX_ALIAS_HOPS
        assert result.aliases or result.dname is None
        assert result.records or result.aliases or count == 0  # nothing else is a denial
        assert result.complete or (result.aliases and not result.records)
        assert not (result.nxdomain and result.records)


def record(random: Random, query: bytes) -> bytes:
    """A record of an alias or of data, its names compressed now and then."""

    def name() -> bytes:
        if random.random() < 0.02:
            return struct.pack("!H", 0xC000 | random.randrange(12, 80))
        return random.choice((*OWNERS, b"\xc0\x0c"))

    rdtype = random.choice((*ALIASES, *random.choices(DATA, k=2)))
    rdata: dict[int, Callable[[], bytes]] = {
        dns.rdatatype.A: lambda: b"\xc0\0\2\1",
        dns.rdatatype.MX: lambda: b"\0\1" + name(),
        dns.rdatatype.TLSA: lambda: b"\3\1\1" + random.randbytes(32),
        dns.rdatatype.TXT: lambda: b"\3abc",
        dns.rdatatype.RRSIG: lambda: struct.pack("!H", random.choice(ALIASES)) + bytes(16) + name(),
    }
    data = rdata.get(rdtype, name)()
    rdclass = 1 if random.random() < 0.99 else 3
    parent = struct.pack("!H", 0xC000 | 13 + query[12])  # of the name that is asked for
    owner = random.choice((name(), name(), b"\xc0\x0c", parent))
    return owner + struct.pack("!HHIH", rdtype, rdclass, random.choice((0, 60, 2**32 - 1)), len(data)) + data


class HostilePolicyHosts:
    """Serve policies, something like policies, nothing, or more than was asked for."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        random = self.random
        if random.random() < 0.2:
            return FetchFailure(random.choice(list(FetchFailureKind)), random.choice(ODD_NAMES))
        content_type = random.choice(("text/plain", "text/plain", "text/plain", "TEXT/PLAIN; x", "text/html", None, ""))
        return Response(random.choice((200, 200, 200, 200, 404, 301, 999)), content_type, self.body(request))

    def body(self, request: Fetch) -> Generator[bytes | FetchFailure, None, None]:
        random = self.random
        modes = random.choice(("enforce", "enforce", "testing", "none", "Enforce"))
        lines = ["version: STSv1", f"mode: {modes}", f"max_age: {random.choice((0, 60, 86400, 31557600, 9999999999))}"]
        lines += [f"mx: {random.choice(PATTERNS)}" for _ in range(random.choice((0, 1, 2, 3, 4000)))]
        random.shuffle(lines)
        yield random.choice(("\n", "\r\n")).join(lines).encode()
        while random.random() < 0.2:
            yield random.choice((b"", b"\n", b"x" * request.max_octets, FetchFailure(FetchFailureKind.HTTP)))


class HostileStore(MemoryStore):
    """Forgets, fails, and loses what it is given."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random

    def load(self, domain: str) -> Any:
        return StoreFailure("gone") if self.random.random() < 0.1 else super().load(domain)

    def store(self, domain: str, entry: Entry) -> Any:
        return StoreFailure("full") if self.random.random() < 0.1 else super().store(domain, entry)


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
        sts=random.choice(("on", "on", "on", "off")),
        sts_with_dane=random.choice(("exempt", "both")),
        sts_on_dns_error=random.choice(("continue", "defer")),
        sts_media_type=random.choice(("require", "ignore")),
    )


def plan_once(random: Random) -> None:
    """Plan a few times over a hostile world; `AssertionError` where a bound or an invariant does not hold."""
    config, now = settings(random), NOW
    fetcher, store = HostilePolicyHosts(random), HostileStore(random)
    for _ in range(3):
        dns = HostileDns(random)
        engine = Engine(dns, fetcher=fetcher, store=store, shuffle=random.shuffle, config=config)
        next_hop = random.choice(("a.example", "[mx.a.example]", "[192.0.2.1]", "c.test"))
        plan = engine.plan(next_hop, now)
        assert dns.asked <= (2 + LOOKUPS_PER_HOST * config.max_mx_hosts) * (config.max_alias_hops + 1)
        check_plan(plan, config, engine)
        report = engine.refresh(now)
        assert {failure.mode for failure in report.failed} <= {Mode.ENFORCE, Mode.TESTING}
        now += timedelta(seconds=random.choice((-600, 0, 1, 299, 300, 86400, 5_184_000)))


def check_plan(plan: Plan, config: Config, engine: Engine | AsyncEngine) -> None:
    """What holds of every plan."""
    assert len(plan.hosts) <= config.max_mx_hosts
    assert (plan.undeliverable is None) == bool(plan.usable_hosts)
    assert [host.preference for host in plan.hosts] == sorted(host.preference for host in plan.hosts)
    policy = None if plan.sts is None else plan.sts.applied
    for host in plan.hosts:
        assert len(host.addresses) <= config.max_addresses
        assert host.binding is None or len(host.binding.records) <= config.max_tlsa_records
        assert host.cleartext == (host.level is TlsLevel.MAY)
        assert host.sts_match == (None if policy is None else policy.allows(host.host))
        if isinstance(host, HostPlan):
            assert host.addresses
            assert (host.level in {TlsLevel.DANE, TlsLevel.SECURE}) == bool(host.reference_ids)
            if policy is not None and policy.mode is Mode.ENFORCE:
                governed = plan.mx_secure and config.sts_with_dane == "exempt" and host.requires == (Duty.DANE,)
                assert governed or (host.sts_match and host.pkix_name == host.host)
            engine.verify(host, [])
        assert host.trace
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.explain()
