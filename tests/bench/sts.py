"""MTA-STS beside two other Python packages: parsing, matching, discovery with a cached policy, and whole plans.

- `postfix-mta-sts-resolver` splits a record or policy into a dictionary and checks neither: a mode or an `mx` may be
  anything, `max_age` stays a text, the last of repeated fields counts. It has no matcher; Postfix is its own.
- `checkdmarc` checks record and policy. It passes empty lines, and takes text: it does not check that octets are UTF-8.
  Its matcher takes any text for an MX hostname, and a final dot or a U-label matches nothing.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attrs import evolve

from mailtlspolicy import TlsLevel, World
from mailtlspolicy.adapters.sqlite import AsyncSqliteStore, SqliteStore
from mailtlspolicy.config import Config, Sts
from mailtlspolicy.dns.effects import Answer, Lookup, RecordType
from mailtlspolicy.drivers import adrive, drive
from mailtlspolicy.effects import Moment, Now
from mailtlspolicy.sts import Entry, Policy, StsRecord, parse_policy, parse_record
from mailtlspolicy.sts.discovery import discover
from mailtlspolicy.sts.effects import LoadPolicy
from mailtlspolicy.sts.refresh import plan_refresh
from mailtlspolicy.sts.stores import AsyncMemoryStore, MemoryStore
from tests.bench.rows import Row, hundreds, of_peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from mailtlspolicy import Engine
    from mailtlspolicy.effects import Effect
    from mailtlspolicy.sts.stores import AsyncPolicyStore, PolicyStore

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
RECORD = "v=STSv1; id=20260101T000000Z;"
DOMAINS = 10_000
CACHED = 1_000  # domains of the rows of discovery; the peer's cache in SQLite takes its time to fill
MILLION = 1_000_000
PATTERNS_OF_64_KIB = 2_296  # the limit that RFC 8461 section 3.3 suggests, to a line
MSR, CDM = "postfix-mta-sts-resolver", "checkdmarc"


def read_policy(text: str) -> Policy:
    """A policy that has to be valid."""
    policy = parse_policy(text.encode())
    if not isinstance(policy, Policy):
        raise AssertionError(f"the benchmark's own policy is none: {policy}")
    return policy


def policy_text(patterns: int) -> str:
    """A policy of mode enforce with so many mx patterns, the last of them a wildcard."""
    names = [f"mx{number}.provider.example" for number in range(patterns - 1)] + ["*.last.provider.example"]
    lines = ["version: STSv1", "mode: enforce", *(f"mx: {name}" for name in names), "max_age: 604800"]
    return "".join(f"{line}\r\n" for line in lines)


def peer_call(module: str, function: str, *arguments: object) -> Callable[[], object]:
    """A call of a function of a peer."""

    def make() -> Callable[[], object]:
        call = getattr(import_module(module), function)
        return lambda: call(*arguments)

    return of_peer(make)


def parser_rows() -> list[Row]:
    """Records and policies, each beside the parsers of both peers."""

    def ours() -> bool:
        return isinstance(parse_record([RECORD]), StsRecord)

    rows = [
        Row("TXT record", ours, MSR, peer_call("postfix_mta_sts_resolver.utils", "parse_mta_sts_record", RECORD)),
        Row("TXT record", ours, CDM, peer_call("checkdmarc.mta_sts", "parse_mta_sts_record", RECORD)),
    ]
    texts = {"3 mx": policy_text(3), "60 mx": policy_text(60), "64 KiB": policy_text(PATTERNS_OF_64_KIB)}
    for size, text in texts.items():
        body = text.encode()

        def parse(body: bytes = body) -> bool:
            return isinstance(parse_policy(body), Policy)

        title = f"policy of {size}"
        rows += [
            Row(title, parse, MSR, peer_call("postfix_mta_sts_resolver.utils", "parse_mta_sts_policy", text)),
            Row(title, parse, CDM, peer_call("checkdmarc.mta_sts", "parse_mta_sts_policy", text)),
        ]
    return rows


def match_rows() -> list[Row]:
    """An MX hostname that the last of the patterns matches."""
    rows, host = [], "mx.last.provider.example"
    for patterns in (3, 60):
        policy = read_policy(policy_text(patterns))

        def ours(policy: Policy = policy) -> bool:
            return policy.allows(host)

        theirs = peer_call("checkdmarc.mta_sts", "mx_in_mta_sts_patterns", host, list(policy.mx))
        rows.append(Row(f"MX hostname with {patterns} patterns", ours, CDM, theirs))
    return rows


def discovery_rows(folder: Path, closing: ExitStack) -> list[Row]:
    """Discovery where the policy is cached and the record announces the same id, so that nothing is fetched.

    The peer asks no more than once a minute; timed is what it does when it asks. The answer of the DNS is at hand.
    """
    loop = asyncio.new_event_loop()
    closing.callback(loop.close)
    names = [f"d{number}.example" for number in range(CACHED)]
    policy = read_policy(policy_text(3))
    entries = {name: Entry.of("20260101T000000Z", policy, NOW) for name in names}
    memory, sqlite = MemoryStore(entries), closing.enter_context(SqliteStore(folder / "discovery.sqlite"))
    for name, entry in entries.items():
        sqlite.store(name, entry)
    async_sqlite = AsyncSqliteStore(folder / "discovery.sqlite")
    closing.callback(lambda: loop.run_until_complete(async_sqlite.close()))
    return [
        Row(
            "100 discoveries, SQLite store",
            discoveries(sqlite, names),
            "the same, memory store",
            discoveries(memory, names),
        ),
        Row(
            "100 discoveries under asyncio, memory store",
            async_discoveries(AsyncMemoryStore(entries), names, loop),
            f"{MSR}, its cache in memory",
            of_peer(lambda: peer_discoveries("internal", {}, names, loop, closing)),
        ),
        Row(
            "100 discoveries under asyncio, SQLite store",
            async_discoveries(async_sqlite, names, loop),
            f"{MSR}, its cache in SQLite",
            of_peer(
                lambda: peer_discoveries("sqlite", {"filename": str(folder / "peer.sqlite")}, names, loop, closing)
            ),
        ),
    ]


def answers_for(names: list[str]) -> dict[Lookup, Answer]:
    """The answers of the DNS to the TXT questions."""
    questions = [Lookup(f"_mta-sts.{name}", RecordType.TXT) for name in names]
    return {question: Answer(question, secure=False, records=((RECORD.encode(),),), ttl=300) for question in questions}


def discoveries(store: PolicyStore, names: list[str]) -> Callable[[], bool]:
    """A hundred discoveries over a store."""
    answers, batches, config = answers_for(names), hundreds(names), Config()

    def perform(effect: Effect[Any]) -> Any:
        if isinstance(effect, LoadPolicy):
            return store.load(effect.domain)
        if isinstance(effect, Lookup):
            return answers[effect]
        if isinstance(effect, Now):
            return Moment(NOW, 0.0)
        raise AssertionError(f"{effect} where a policy is cached")

    def run() -> bool:
        found = [drive(discover(name, config), perform).known for name in next(batches)]
        return all(known is not None and known.is_enforced for known in found)

    return run


def async_discoveries(store: AsyncPolicyStore, names: list[str], loop: asyncio.AbstractEventLoop) -> Callable[[], bool]:
    """As `discoveries`, under asyncio, one after the other."""
    answers, batches, config = answers_for(names), hundreds(names), Config()

    async def perform(effect: Effect[Any]) -> Any:
        if isinstance(effect, LoadPolicy):
            return await store.load(effect.domain)
        if isinstance(effect, Lookup):
            return answers[effect]
        if isinstance(effect, Now):
            return Moment(NOW, 0.0)
        raise AssertionError(f"{effect} where a policy is cached")

    async def one(name: str) -> bool:
        known = (await adrive(discover(name, config), perform)).known
        return known is not None and known.is_enforced

    return lambda: run_all(loop, one, next(batches))


def peer_discoveries(
    kind: str, options: dict[str, Any], names: list[str], loop: asyncio.AbstractEventLoop, closing: ExitStack
) -> Callable[[], bool]:
    """A hundred look-ups in the peer's cache, each followed by what its resolver makes of the record.

    Left out, to its advantage, is that it writes the entry again with a new time.
    """
    base_cache, resolver, utils = (
        import_module(f"postfix_mta_sts_resolver.{name}") for name in ("base_cache", "resolver", "utils")
    )
    cache, batches = utils.create_cache(kind, options), hundreds(names)
    body = {**utils.parse_mta_sts_policy(policy_text(3)), "max_age": 604800}

    class Text:
        text = RECORD

    class Dns:
        def __init__(self) -> None:
            self._answers = {f"_mta-sts.{name}": [Text()] for name in names}

        async def query(self, name: str, _: str) -> list[Text]:
            return self._answers[name]

    async def set_up() -> Any:
        await cache.setup()
        for name in names:
            await cache.set(name, base_cache.CacheEntry(int(time.time()), "20260101T000000Z", body))
        made = resolver.STSResolver(loop=loop)
        made._resolver = Dns()  # it takes no resolver from outside
        return made

    asker = loop.run_until_complete(set_up())
    closing.callback(lambda: loop.run_until_complete(cache.teardown()))

    async def one(name: str) -> bool:
        cached = await cache.get(name)
        status, _ = await asker.resolve(name, cached.pol_id)
        return status is resolver.STSFetchResult.NOT_CHANGED

    return lambda: run_all(loop, one, next(batches))


def run_all(loop: asyncio.AbstractEventLoop, one: Callable[[str], Awaitable[bool]], names: Sequence[str]) -> bool:
    """Await one call after the other; whether all succeeded."""

    async def run() -> bool:
        return all([await one(name) for name in names])

    return loop.run_until_complete(run())


def plan_rows(folder: Path, closing: ExitStack) -> list[Row]:
    """Plans for unsigned domains with two MX hosts and an enforce policy; a turn takes the next hundred domains."""
    policy = "version: STSv1\nmode: enforce\nmx: *.{}\nmax_age: 604800\n"
    names = [f"d{number}.example" for number in range(DOMAINS)]
    zones = {
        name: {
            "security": "insecure",
            "records": [
                "@ MX 10 mx1",
                "@ MX 20 mx2",
                *(f"mx{host} A 192.0.2.{host}" for host in (1, 2)),
                f'_mta-sts TXT "{RECORD}"',
            ],
        }
        for name in names
    }
    cache = {
        name: {"id": "20260101T000000Z", "fetched": NOW.isoformat(), "policy": policy.format(name)} for name in names
    }
    world = World.from_json({"now": NOW.isoformat(), "zones": zones, "cache": cache})
    store = closing.enter_context(SqliteStore(folder / "plans.sqlite"))
    for name, entry in world.cache.items():
        store.store(name, entry)

    def plans(engine: Engine, level: TlsLevel) -> Callable[[], bool]:
        batches = hundreds(names)
        return lambda: all(engine.plan(name).usable_hosts[1].level is level for name in next(batches))

    def in_memory() -> Callable[[], bool]:
        return plans(world.engine(), TlsLevel.SECURE)

    without = plans(world.engine(Config(sts=Sts.OFF)), TlsLevel.MAY)
    in_file = plans(evolve(world.engine(), store=store), TlsLevel.SECURE)
    return [
        Row("100 plans, policies in memory", in_memory(), "the same, MTA-STS off", without),
        Row("100 plans, policies in SQLite", in_file, "the same, policies in memory", in_memory()),
    ]


def refresh_rows() -> list[Row]:
    """The choice of what is due among ten thousand policies that were fetched in the course of the last day."""
    policy = read_policy(policy_text(3))
    ages = [timedelta(seconds=86_400 * number / DOMAINS) for number in range(DOMAINS)]
    entries = [(f"d{number}.example", Entry.of("1", policy, NOW - age)) for number, age in enumerate(ages)]
    return [Row(f"refresh planned over {DOMAINS} policies", lambda: bool(plan_refresh(entries, NOW).due))]


def planning_a_million() -> str:
    """Planning the refresh of a million policies, once."""
    policy = read_policy(policy_text(3))
    kinds = [Entry.of("1", policy, NOW - timedelta(seconds=86_400 * number / 1_000)) for number in range(1_000)]
    entries = ((f"d{number}.example", kinds[number % 1_000]) for number in range(MILLION))
    start = time.perf_counter()
    due = len(plan_refresh(entries, NOW).due)
    return f"Refresh planned over {MILLION} policies: {time.perf_counter() - start:.1f} s, {due} due."


def rows(folder: Path, closing: ExitStack) -> list[Row]:
    """All rows of MTA-STS; `closing` closes what they opened in the folder."""
    return [
        *parser_rows(),
        *match_rows(),
        *discovery_rows(folder, closing),
        *plan_rows(folder, closing),
        *refresh_rows(),
    ]
