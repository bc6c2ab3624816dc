"""Hostile answers of every kind at once, as octets, for a plan under asyncio; its processor time is bounded.

Nameservers, policy hosts and a policy store lie together: names of many labels, thousands of records, chains and loops
of aliases, DNAMEs, records of another type or class, TXT records as long as a message, damaged messages, policies as
long as they may be. Most of it has the form that is asked for, so that a plan goes on with it.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING

import dns.name
import dns.rdatatype

from mailtlspolicy import AsyncEngine, Config
from mailtlspolicy.adapters.dns import MAX_ALIAS_HOPS, MAX_MESSAGE, MAX_RECORDS, _Query
from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure, RecordType
from mailtlspolicy.sts.effects import FetchFailure
from mailtlspolicy.sts.fetching import AsyncResponse
from mailtlspolicy.sts.stores import AsyncMemoryStore
from tests.authority import NOW
from tests.fuzz import hostile_dns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from random import Random

    from mailtlspolicy.sts.effects import Fetch

# The processor time that may be spent on one answer, and on one plan: some ten times the worst that was found, and far
# below what anything takes that is quadratic in the size of a message
ANSWER_SECONDS = 1.0
PLAN_SECONDS = 5.0

CNAME, DNAME, RRSIG = dns.rdatatype.CNAME, dns.rdatatype.DNAME, dns.rdatatype.RRSIG
ASKED = b"\xc0\x0c"  # a pointer to the name in the question
PARENT = 13  # where the name above it is, less the length of the first label


def wire_name(text: str) -> bytes:
    return dns.name.from_text(text).to_digestable()


LONG_NAMES = (
    b"\1a" * 126 + b"\0",  # as many labels as a name can have
    (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0",  # as long as it can be, in four labels
    b"\1a" * 120 + wire_name("a.example"),
)
SHORT_NAMES = tuple(map(wire_name, ("a.example", "mx.a.example", "c.test", "example", ".", "_25._tcp.mx.a.example")))


class HostileResolver:
    """Reads what a nameserver might say to each question, and notes what that costs.

    Attributes:
        made: processor time, in seconds, of the making of messages.
        slowest: the most that the reading of one took.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.made = self.slowest = 0.0
        self._trusted = random.random() < 0.9
        self._size = random.choice((1, 3, 50, 5000))  # the most records of a kind

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        start = time.process_time()
        query = _Query(question, trusted=self._trusted)
        wire = self.message(query.wire, question)
        made = time.process_time()
        answer = query.read_stream(wire)
        read = time.process_time()
        self.made += made - start
        self.slowest = max(self.slowest, read - made)
        await asyncio.sleep(0)
        return answer

    def message(self, query: bytes, question: Lookup) -> bytes:
        random = self.random
        records, owner = [], ASKED
        if random.random() < 0.4:
            aliases, owner = self.aliases(query)
            records += aliases
        if question.rdtype is RecordType.TXT and random.random() < 0.6:
            records.append(record(owner, dns.rdatatype.TXT, announcement(random.choice((1, 1, 1, 2)))))
        elif random.random() < 0.9:
            records += self.records(owner, question.rdtype)
        while random.random() < 0.2:
            records += self.records(random.choice((ASKED, *SHORT_NAMES)), random.choice(list(RecordType)))
        if random.random() < 0.1:
            random.shuffle(records)
        if random.random() < 0.5:
            records = records[:MAX_RECORDS]
        rcode = random.choice((0, 0, 0, 0, 0, 0, 0, 2, 3, 5))
        flags = 0x8180 | (0x20 if random.random() < 0.7 else 0) | rcode
        header = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
        text = query[12 : query.index(b"\0\0\x29", 12)]  # all but the OPT record
        wire = bytearray((header + text + b"".join(records))[:MAX_MESSAGE])
        if random.random() < 0.05:
            for _ in range(random.choice((1, 3, 30))):
                wire[random.randrange(12, len(wire))] = random.randrange(256)
        return bytes(wire)

    def aliases(self, query: bytes) -> tuple[list[bytes], bytes]:
        """A chain of aliases, or what looks like one, and where it ends."""
        random = self.random
        chain, owner = [], ASKED
        if random.random() < 0.3:
            target = self.name()
            above = struct.pack("!H", 0xC000 | PARENT + query[12])
            chain.append(record(random.choice((above, above, target)), DNAME, target))
            if random.random() < 0.7:
                made = query[12 : PARENT + query[12]] + target
                chain.append(record(owner, CNAME, made))
                owner = made
        for _ in range(min(self._size, random.choice((1, 1, 2, MAX_ALIAS_HOPS, 200)))):
            target = self.name() if random.random() < 0.3 else b"\x08" + b"%08d" % random.randrange(10**8) + self.name()
            chain.append(record(owner, CNAME, target[-255:] if len(target) > 255 else target))
            owner = target
        if random.random() < 0.2:
            chain.append(record(owner, CNAME, ASKED))  # a loop
        return chain, owner

    def records(self, owner: bytes, rdtype: RecordType) -> list[bytes]:
        """Records of one type, many of them or large."""
        random = self.random
        data: dict[RecordType, Callable[[], bytes]] = {
            RecordType.A: lambda: random.randbytes(random.choice((4, 4, 4, 4, 3, 400))),
            RecordType.AAAA: lambda: random.randbytes(16),
            RecordType.MX: lambda: struct.pack("!H", random.choice((0, 10, 65535))) + self.name(),
            RecordType.TLSA: lambda: (
                bytes((random.choice((0, 2, 3, 3)), random.choice((0, 1, 1)), random.choice((0, 1))))
                + random.randbytes(random.choice((0, 32, 32, 32, 64, 4000)))
            ),
            RecordType.TXT: self.text,
        }
        make = data.get(rdtype, self.name)
        code = dns.rdatatype.from_text(rdtype)
        count = min(self._size, random.choice((1, 1, 2, 40, 64, 65, MAX_RECORDS, 5000)))
        made = [record(owner, code, make()) for _ in range(min(count, 300))]
        return made * (count // len(made)) if random.random() < 0.2 else made

    def text(self) -> bytes:
        return self.random.choice(
            (
                announcement(1),
                b"\0" * 60_000,
                (b"\xff" + b"x" * 255) * 200,
                b"\1;" * 20_000,
                b"\x08v=STSv1;" + b"\4a=b;" * 10_000,
                b"\x08v=STSv1;" + b"\1 " * 20_000,
            )
        )

    def name(self) -> bytes:
        random = self.random
        if random.random() < 0.5:
            return b"\6%06d" % random.randrange(10**6) + wire_name("a.example")
        return random.choice((*SHORT_NAMES, *SHORT_NAMES, *LONG_NAMES, ASKED))


def record(owner: bytes, rdtype: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", rdtype, 1, 60, len(data)) + data


def announcement(ident: int) -> bytes:
    text = b"v=STSv1; id=%d;" % ident
    return bytes((len(text),)) + text


class AsyncPolicyHosts:
    """The hostile policy hosts, awaited; their policies are as long as they may be now and then."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.hosts = hostile_dns.HostilePolicyHosts(random)

    async def fetch(self, request: Fetch) -> AsyncResponse | FetchFailure:
        response = self.hosts.fetch(request)
        await asyncio.sleep(0)
        if isinstance(response, FetchFailure):
            return response
        expensive = self.random.random() < 0.5
        whole = self.policy(request.max_octets) if expensive else b""

        async def body() -> AsyncGenerator[bytes | FetchFailure, None]:
            if expensive:
                yield whole
            else:
                for piece in response.body:
                    yield piece

        return AsyncResponse(response.status, response.content_type, body())

    def policy(self, octets: int) -> bytes:
        """As long as it may be."""
        head = b"version: STSv1\nmode: enforce\nmax_age: 86400\nmx: *.a.example\n"
        line = self.random.choice(
            (b"mx:a.b\n", b"mx: *.%d.example\n", b"x:y\n", b"mode: none\n", b"mx: " + b"a." * 120 + b"a\n")
        )
        lines = (line % number if b"%d" in line else line for number in range(octets // len(line)))
        return (head + b"".join(lines))[:octets].rpartition(b"\n")[0]


def plan_once(random: Random) -> None:
    """Plan for a hostile domain; `AssertionError` where that takes too long, or what must hold does not."""
    config = hostile_dns.settings(random) if random.random() < 0.5 else Config()
    store = AsyncMemoryStore()
    for _ in range(2):
        resolver = HostileResolver(random)
        engine = AsyncEngine(
            resolver, fetcher=AsyncPolicyHosts(random), store=store, shuffle=random.shuffle, config=config
        )
        next_hop = random.choice(("a.example", "a.example", "[mx.a.example]", "a." * 120 + "example"))
        start = time.process_time()
        plan = asyncio.run(engine.plan(next_hop, NOW))
        spent = time.process_time() - start - resolver.made
        assert resolver.slowest < ANSWER_SECONDS, f"{resolver.slowest:.1f} s of processor time for an answer"
        assert spent < PLAN_SECONDS, f"{spent:.1f} s of processor time for a plan"
        hostile_dns.check_plan(plan, config, engine)
