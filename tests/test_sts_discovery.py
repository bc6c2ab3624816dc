"""Discovery and the plan where stores and fetchers misbehave, and what an engine needs for MTA-STS."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve, field, frozen

from mailtlspolicy import AsyncEngine, Config, Engine, HostPlan, NextHop, Plan, World, drive
from mailtlspolicy.dns.effects import Answer, Lookup, RecordType
from mailtlspolicy.drivers import batches
from mailtlspolicy.effects import BrokenContract, Moment, Now
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.plan.mx import Undeliverable
from mailtlspolicy.plan.search import plan
from mailtlspolicy.sts import Entry, StsFailure
from mailtlspolicy.sts.cache import BACK_OFF, TOUCH
from mailtlspolicy.sts.effects import Fetch, Fetched, FetchFailure, FetchFailureKind, LoadPolicy, StoreFailure
from mailtlspolicy.sts.fetching import AsyncResponse, Response, fetch_whole, fetch_whole_async
from mailtlspolicy.sts.stores import AsyncMemoryStore, MemoryStore
from mailtlspolicy.sts.values import Discovery, Source
from mailtlspolicy.testing.vectors import load
from mailtlspolicy.verdict import ResultType
from tests.driving import at
from tests.sts_worlds import NOW, URL, AsyncParts, AsyncStore, async_engine, policy_of, policy_text, world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

RECORD = "v=STSv1; id=1;"
PUBLISHED = world(RECORD, body=policy_text())
WAITS = Undeliverable("transient", "sts-lookup-failed", "4.4.3")
HOUR = timedelta(hours=1)


class Store(MemoryStore):
    """A store in memory that answers otherwise where it is told to, and counts what it is asked."""

    def __init__(self, *, load: Any = ..., store: Any = ..., entries: Any = ..., drop: Any = ...) -> None:
        super().__init__()
        self.answers = {"load": load, "store": store, "entries": entries, "drop": drop}
        self.calls: list[str] = []

    def _answer(self, name: str, otherwise: Callable[[], Any]) -> Any:
        self.calls.append(name)
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return otherwise() if answer is ... else answer

    def load(self, domain: str) -> Any:
        return self._answer("load", lambda: super(Store, self).load(domain))

    def store(self, domain: str, entry: Entry) -> Any:
        return self._answer("store", lambda: super(Store, self).store(domain, entry))

    def drop(self, domain: str, entry: Entry) -> Any:
        return self._answer("drop", lambda: super(Store, self).drop(domain, entry))

    def entries(self, cursor: str) -> Any:
        return self._answer("entries", lambda: super(Store, self).entries(cursor))


@frozen
class Counting:
    """A world's resolver and fetcher that write down what they are asked."""

    world: World
    asked: list[str] = field(factory=list)

    def lookup(self, question: Lookup) -> Any:
        self.asked.append(f"{question.name} {question.rdtype}")
        return self.world.resolver.lookup(question)

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        self.asked.append(f"GET {request.url}")
        return self.world.fetcher.fetch(request)


def plan_both(world: World, store: Callable[[], Store], config: Config | None = None) -> Plan:
    """The plan for c.test, which both engines have to agree on."""
    settled = config or Config()
    planned = evolve(world.engine(settled), store=store()).plan("c.test")
    assert asyncio.run(async_engine(world, settled, AsyncStore(store())).plan("c.test")) == planned
    assert Plan.from_json(json.loads(json.dumps(planned.to_json()))) == planned
    assert pickle.loads(pickle.dumps(planned)) == planned
    return planned


def discovered(planned: Plan) -> Discovery:
    assert planned.sts is not None
    return planned.sts


# --- stores that fail


def test_a_policy_that_is_fetched_applies_though_the_store_can_not_be_read() -> None:
    planned = plan_both(PUBLISHED, lambda: Store(load=StoreFailure("disk")))
    known = discovered(planned)
    assert (known.source, known.id, known.failure, known.unknown) == (Source.FETCHED, "1", None, False)
    assert known.store_failure == "disk"
    assert planned.undeliverable is None
    assert [str(host.level) for host in planned.hosts] == ["secure"]
    assert "the policy store failed: disk" in planned.explain()
    assert "the mail waits" not in planned.explain()


def test_what_is_fetched_is_written_to_a_store_that_could_not_be_read() -> None:
    store = Store(load=StoreFailure("disk"))
    evolve(PUBLISHED.engine(), store=store).plan("c.test")
    assert store.calls == ["load", "store"]
    assert MemoryStore.load(store, "c.test") == Entry.of("1", policy_of(), NOW)


@pytest.mark.parametrize("mode", ["testing", "none"])
def test_a_fetched_policy_of_another_mode_answers_the_question_too(mode: str) -> None:
    planned = plan_both(world(RECORD, body=policy_text(mode)), lambda: Store(load=StoreFailure("disk")))
    assert planned.undeliverable is None
    assert (discovered(planned).unknown, discovered(planned).store_failure) == (False, "disk")


@pytest.mark.parametrize(
    ("there", "failure", "tlsrpt"),
    [
        (world(), None, None),
        (world("v=spf1 -all"), None, None),
        (world("v=STSv1; id=;"), StsFailure.RECORD_INVALID, None),
        (world(RECORD, RECORD), StsFailure.RECORD_INVALID, None),
        (world(RECORD), StsFailure.FETCH_ERROR, ResultType.STS_POLICY_FETCH_ERROR),
        (world(RECORD, body="oops"), StsFailure.POLICY_INVALID, ResultType.STS_POLICY_INVALID),
        (world(RECORD, host={"certificate": "expired"}), StsFailure.WEBPKI_INVALID, ResultType.STS_WEBPKI_INVALID),
        (world(failures=("_mta-sts.c.test",)), StsFailure.DNS_ERROR, None),
        (world(RECORD, body=policy_text(max_age=0), failures=("_mta-sts.c.test",)), StsFailure.DNS_ERROR, None),
    ],
)
@pytest.mark.parametrize("on_dns_error", ["continue", "defer"])
def test_mail_waits_where_the_store_can_not_be_read_and_nothing_newer_is_learned(
    there: World, failure: StsFailure | None, tlsrpt: ResultType | None, on_dns_error: str
) -> None:
    config = Config(sts_on_dns_error=on_dns_error)
    planned = plan_both(there, lambda: Store(load=StoreFailure("disk")), config)
    known = discovered(planned)
    assert planned.undeliverable == WAITS
    assert planned.hosts == ()
    assert (known.policy, known.failure, known.tlsrpt) == (None, failure, tlsrpt)
    assert (known.unknown, known.store_failure) == (True, "disk")
    assert "the mail waits" in planned.explain()
    # the same where the store can be read: the mail goes on, but for a failed lookup under "defer"
    goes_on = evolve(there.engine(config), store=Store()).plan("c.test")
    assert (goes_on.undeliverable == WAITS) == (on_dns_error == "defer" and failure is StsFailure.DNS_ERROR)
    assert goes_on.sts is None or goes_on.sts.store_failure is None


def test_a_plan_beside_a_store_that_failed_holds_for_no_time() -> None:
    planned = plan_both(world(), lambda: Store(load=StoreFailure("disk")))
    assert planned.valid_until == NOW
    assert plan_both(world(), Store).valid_until == NOW + HOUR
    assert plan_both(PUBLISHED, lambda: Store(load=StoreFailure("disk"))).valid_until == NOW


def test_a_store_that_can_not_be_read_is_not_asked_about_an_address() -> None:
    store = Store(load=StoreFailure("disk"))
    planned = evolve(PUBLISHED.engine(), store=store).plan("[192.0.2.1]")
    assert (planned.undeliverable, planned.sts, store.calls) == (None, None, [])


def test_a_policy_that_is_fetched_applies_though_the_store_can_not_be_written() -> None:
    planned = plan_both(PUBLISHED, lambda: Store(store=StoreFailure("full")))
    known = discovered(planned)
    assert (known.source, known.failure, known.store_failure, known.unknown) == (Source.FETCHED, None, "full", False)
    assert planned.undeliverable is None
    assert [str(host.level) for host in planned.hosts] == ["secure"]
    both = plan_both(PUBLISHED, lambda: Store(load=StoreFailure("disk"), store=StoreFailure("full")))
    assert discovered(both).store_failure == "disk"


def test_a_failure_to_write_a_failed_fetch_is_reported_and_does_not_hold_mail_up() -> None:
    planned = plan_both(world(RECORD), lambda: Store(store=StoreFailure("full")))
    known = discovered(planned)
    assert (known.policy, known.failure, known.unknown) == (None, StsFailure.FETCH_ERROR, False)
    assert known.store_failure == "full"
    assert planned.undeliverable is None


def test_what_could_not_be_written_is_fetched_again() -> None:
    counting = Counting(PUBLISHED)
    engine = evolve(PUBLISHED.engine(), resolver=counting, fetcher=counting, store=Store(store=StoreFailure("full")))
    assert engine.plan("c.test") == engine.plan("c.test")
    assert [query for query in counting.asked if query.startswith("GET")] == ["GET " + URL] * 2


def test_a_cached_policy_whose_use_can_not_be_noted_applies_all_the_same() -> None:
    store = Store(store=StoreFailure("full"))
    MemoryStore.store(store, "c.test", Entry.of("1", policy_of(), NOW - TOUCH))
    known = discovered(evolve(PUBLISHED.engine(), store=store).plan("c.test"))
    assert (known.source, known.store_failure, known.failure) == (Source.CACHED, "full", None)


# --- what is written, and when


@pytest.mark.parametrize("there", [world(), world("v=STSv1; id=;"), world(failures=("_mta-sts.c.test",)), PUBLISHED])
def test_a_delivery_to_a_domain_without_news_writes_nothing(there: World) -> None:
    store = Store()
    engine = evolve(there.engine(), store=store)
    engine.plan("c.test")
    engine.plan("c.test", NOW + timedelta(seconds=1))
    assert store.calls == (["load", "store", "load"] if there is PUBLISHED else ["load", "load"])


def test_the_use_of_an_entry_without_a_policy_in_force_is_not_noted() -> None:
    blank = Entry(checked=NOW - HOUR * 2, used=NOW - HOUR * 2)
    failed = blank.with_failure("1", NOW - HOUR * 2, StsFailure.FETCH_ERROR)
    expired = Entry.of("1", policy_of(max_age=1), NOW - HOUR * 2)
    for entry in (failed, expired):
        store = Store()
        MemoryStore.store(store, "c.test", entry)
        assert evolve(world().engine(), store=store).plan("c.test").sts is None
        assert store.calls == ["load"]


def test_a_use_is_noted_once_an_hour() -> None:
    engine = PUBLISHED.engine()
    engine.plan("c.test")
    for passed, noted in ((HOUR - timedelta(microseconds=1), NOW), (HOUR, NOW + HOUR), (HOUR * 1.5, NOW + HOUR)):
        engine.plan("c.test", NOW + passed)
        entry = engine.store.load("c.test")
        assert isinstance(entry, Entry)
        assert (entry.used, entry.checked, entry.fetched) == (noted, noted, NOW)


def test_a_fetch_notes_the_use_whether_it_succeeds_or_not() -> None:
    store = Store()
    MemoryStore.store(store, "c.test", evolve(Entry.of("0", policy_of(), NOW - HOUR), used=NOW - timedelta(minutes=5)))
    evolve(PUBLISHED.engine(), store=store).plan("c.test")
    assert MemoryStore.load(store, "c.test") == Entry.of("1", policy_of(), NOW)
    soon = NOW + timedelta(minutes=1)
    evolve(world("v=STSv1; id=2;").engine(), store=store).plan("c.test", soon)
    entry = MemoryStore.load(store, "c.test")
    assert entry is not None
    assert (entry.id, entry.used, entry.checked, entry.failures) == ("1", soon, soon, 1)


def test_cache_and_record_are_asked_for_at_once_beside_the_addresses() -> None:
    program = batches(plan(NextHop.parse("c.test"), config=Config()))
    assert next(program) == (Now(),)
    (mx,) = program.send([Moment(NOW, 0.0)])
    assert isinstance(mx, Lookup)
    batch = program.send([PUBLISHED.resolver.lookup(mx)])
    assert batch[:2] == (LoadPolicy("c.test"), Lookup("_mta-sts.c.test", RecordType.TXT))
    assert Lookup("mx.c.test", RecordType.A) in batch


@pytest.mark.parametrize(("last", "is_asked"), [("a" * 48, True), ("a" * 49, False)])
def test_a_name_too_long_for_the_record_is_not_asked_for(last: str, *, is_asked: bool) -> None:
    domain = ".".join(["a" * 48] * 4 + [last])  # 244 octets, with "_mta-sts." the 253 that a name may have
    there = world(zones={domain: {"records": ["@ MX 10 mx.c.test.", "@ A 192.0.2.1"]}})
    counting, store = Counting(there), Store()
    engine = evolve(there.engine(), resolver=counting, store=store)
    assert engine.plan(domain).sts is None
    assert (f"_mta-sts.{domain} TXT" in counting.asked) == is_asked
    MemoryStore.store(store, domain, Entry.of("1", policy_of(), NOW))
    assert discovered(engine.plan(domain)).failure is StsFailure.RECORD_MISSING


# --- contracts that are broken


@pytest.mark.parametrize("junk", [False, 0, "", "entry", {}, Entry.of("1", policy_of(), NOW).to_json(), Answer])
def test_a_store_that_loads_junk_is_an_error(junk: Any) -> None:
    with pytest.raises(TypeError, match="LoadPolicy"):
        evolve(PUBLISHED.engine(), store=Store(load=junk)).plan("c.test")
    with pytest.raises(TypeError, match="LoadPolicy"):
        asyncio.run(async_engine(PUBLISHED, Config(), AsyncStore(Store(load=junk))).plan("c.test"))


@pytest.mark.parametrize("junk", [False, 0, "", "written", Entry.of("1", policy_of(), NOW)])
def test_a_store_that_answers_a_write_with_junk_is_an_error(junk: Any) -> None:
    with pytest.raises(TypeError, match="StorePolicy"):
        evolve(PUBLISHED.engine(), store=Store(store=junk)).plan("c.test")


@frozen
class Fetches:
    """A fetcher, synchronous or not, that returns or raises what it is told to."""

    answer: Any

    def fetch(self, request: Fetch) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(request) if callable(self.answer) else self.answer


@frozen
class AsyncFetches(Fetches):
    async def fetch(self, request: Fetch) -> Any:
        return super().fetch(request)


def pieces(*given: Any) -> Generator[Any, None, None]:
    yield from given


async def async_pieces(*given: Any) -> AsyncGenerator[Any, None]:
    for piece in given:
        yield piece


@pytest.mark.parametrize("junk", [None, b"", b"policy", policy_of(), Fetched(200, "text/plain", b""), (200, "", b"")])
def test_a_fetcher_that_returns_junk_is_an_error(junk: Any) -> None:
    with pytest.raises(TypeError):
        evolve(PUBLISHED.engine(), fetcher=Fetches(junk)).plan("c.test")
    with pytest.raises(TypeError):
        asyncio.run(evolve(async_engine(PUBLISHED, Config()), fetcher=AsyncFetches(junk)).plan("c.test"))


@pytest.mark.parametrize("junk", ["text", None, 1])
def test_a_body_that_yields_junk_is_an_error(junk: Any) -> None:
    body, other = Watched(iter((b"x", junk, b"y"))), Watched(iter((b"x", junk, b"y")))
    with pytest.raises(TypeError):
        fetch_whole(Fetches(Response(200, None, body.pieces)), REQUEST)
    with pytest.raises(TypeError):
        asyncio.run(other.fetch_async(REQUEST))
    assert [(one.read, one.closed) for one in (body, other)] == [(2, 1), (2, 1)]


def test_what_performs_the_fetch_has_to_answer_it() -> None:
    def perform(effect: Any) -> Any:
        return PUBLISHED.resolver.lookup(effect) if isinstance(effect, Lookup) else None

    with pytest.raises(BrokenContract, match=r"^the fetcher answered Fetch\(.*\) with NoneType: None$"):
        drive(plan(NextHop.parse("c.test"), config=Config()), at(perform))


@pytest.mark.parametrize("part", ["load", "store"])
def test_a_defect_of_a_store_goes_through(part: str) -> None:
    with pytest.raises(LookupError, match="a defect"):
        evolve(PUBLISHED.engine(), store=Store(**{part: LookupError("a defect")})).plan("c.test")
    broken = AsyncStore(Store(**{part: LookupError("a defect")}))
    with pytest.raises(LookupError, match="a defect"):
        asyncio.run(async_engine(PUBLISHED, Config(), broken).plan("c.test"))


def test_a_defect_of_a_fetcher_goes_through() -> None:
    with pytest.raises(LookupError, match="a defect"):
        evolve(PUBLISHED.engine(), fetcher=Fetches(LookupError("a defect"))).plan("c.test")
    engine = evolve(async_engine(PUBLISHED, Config()), fetcher=AsyncFetches(LookupError("a defect")))
    with pytest.raises(LookupError, match="a defect"):
        asyncio.run(engine.plan("c.test"))


@pytest.mark.parametrize("want", [OSError(24, "too many files"), MemoryError(), RuntimeError("no new thread")])
def test_what_a_fetcher_or_a_store_lacks_says_nothing_of_the_domain(want: Exception) -> None:
    fetching = evolve(PUBLISHED.engine(), fetcher=Fetches(want)).plan("c.test")
    fetched = asyncio.run(evolve(async_engine(PUBLISHED, Config()), fetcher=AsyncFetches(want)).plan("c.test"))
    assert fetching == fetched
    assert discovered(fetching).failure is StsFailure.LOCAL_ERROR
    assert discovered(fetching).tlsrpt is None
    assert fetching.undeliverable is not None
    assert fetching.undeliverable.to_json() == {"kind": "transient", "reason": "local-error", "status": "4.3.0"}
    storing = evolve(PUBLISHED.engine(), store=Store(store=want)).plan("c.test")
    assert discovered(storing).store_failure is not None
    assert storing.usable_hosts  # what was fetched is applied
    loading = evolve(PUBLISHED.engine(), store=Store(load=want), fetcher=Fetches(FetchFailure(FetchFailureKind.DNS)))
    assert discovered(loading.plan("c.test")).unknown


# --- a body within its limits

REQUEST = Fetch("mta-sts.c.test", max_octets=10, max_seconds=60)
TOO_LONG = FetchFailure(FetchFailureKind.TOO_LONG, "more than 10 octets")
LATE = FetchFailure(FetchFailureKind.TIMEOUT, "not complete after 60 s")


class Clock:
    """The monotonic clock of the fetching module, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("mailtlspolicy.sts.fetching.time", SimpleNamespace(monotonic=lambda: self.now))


class Watched:
    """A body that tells how far it was read and whether it was closed; it is kept, so that nothing else closes it."""

    def __init__(self, given: Iterator[Any]) -> None:
        self.read, self.closed, self._given = 0, 0, given
        self.pieces, self.async_pieces = self._pieces(), self._async_pieces()

    def _pieces(self) -> Generator[Any, None, None]:
        try:
            for piece in self._given:
                self.read += 1
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.closed += 1

    async def _async_pieces(self) -> AsyncGenerator[Any, None]:
        try:
            for piece in self.pieces:
                await asyncio.sleep(0)
                yield piece
        finally:
            self.pieces.close()

    async def fetch_async(self, request: Fetch) -> Any:
        """Fetch it, and see that it is closed by then."""
        response = AsyncResponse(200, "text/plain", self.async_pieces)
        try:
            return await fetch_whole_async(AsyncFetches(response), request)
        finally:
            assert self.closed == 1


def both_ways(make: Callable[[], Iterator[Any]], request: Fetch = REQUEST) -> tuple[Any, int]:
    """What a fetch of these pieces comes to, in both kinds, and how many were read."""
    watched, async_watched = Watched(make()), Watched(make())
    got = fetch_whole(Fetches(Response(200, "text/plain", watched.pieces)), request)
    assert asyncio.run(async_watched.fetch_async(request)) == got
    assert (watched.read, watched.closed) == (async_watched.read, async_watched.closed)
    assert watched.closed == 1
    return got, watched.read


@pytest.mark.parametrize("given", [(), (b"",), (b"0123456789",), (b"", b"01234", b"", b"56789", b""), (b"0",) * 10])
def test_a_body_is_whole_up_to_its_last_octet(given: tuple[bytes, ...]) -> None:
    assert both_ways(lambda: iter(given)) == (Fetched(200, "text/plain", b"".join(given)), len(given))


@pytest.mark.parametrize(
    ("given", "read"), [((b"01234567890",), 1), ((b"0123456789", b"", b"0", b"1"), 3), ((b"0",) * 20, 11)]
)
def test_a_body_that_is_too_long_is_given_up_at_once(given: tuple[bytes, ...], read: int) -> None:
    assert both_ways(lambda: iter(given)) == (TOO_LONG, read)


def test_an_endless_body_is_given_up() -> None:
    def endless(piece: bytes) -> Iterator[bytes]:
        while True:
            yield piece

    assert both_ways(lambda: endless(b"xyz")) == (TOO_LONG, 4)


def test_an_endless_body_of_nothing_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def endless() -> Generator[bytes, None, None]:
        while True:
            clock.now += 1
            yield b""

    body = Watched(endless())
    assert fetch_whole(Fetches(Response(200, None, body.pieces)), REQUEST) == LATE
    assert (body.read, body.closed) == (61, 1)


@pytest.mark.parametrize(("seconds", "late"), [(6.0, False), (6.1, True)])
def test_a_dripping_body_has_its_time_and_no_more(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, late: bool
) -> None:
    clock = Clock(monkeypatch)

    def dripping() -> Generator[bytes, None, None]:
        for _ in range(10):
            clock.now += seconds
            yield b"x"

    got = fetch_whole(Fetches(Response(200, None, dripping())), REQUEST)
    assert got == (LATE if late else Fetched(200, None, b"x" * 10))


@pytest.mark.parametrize("part", ["head", "end", "piece"])
def test_the_time_counts_from_the_request_to_the_end_of_the_body(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    clock = Clock(monkeypatch)

    def body() -> Generator[bytes, None, None]:
        if part == "piece":
            clock.now += 61
            yield b"x"
        if part == "end":
            yield b"x"
            clock.now += 61

    def answer(_: Fetch) -> Response:
        if part == "head":
            clock.now += 61
        return Response(200, None, body())

    assert fetch_whole(Fetches(answer), REQUEST) == LATE


def test_a_failure_in_the_body_ends_the_fetch() -> None:
    failure = FetchFailure(FetchFailureKind.HTTP, "the connection broke")
    assert both_ways(lambda: iter((b"012", failure, b"345"))) == (failure, 2)
    assert both_ways(lambda: iter((failure,))) == (failure, 1)


def test_a_failure_that_comes_late_stays_that_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, failure = Clock(monkeypatch), FetchFailure(FetchFailureKind.HTTP, "the connection broke")

    def body() -> Generator[bytes | FetchFailure, None, None]:
        clock.now += 61
        yield failure

    assert fetch_whole(Fetches(Response(200, None, body())), REQUEST) == failure


def test_a_fetch_that_fails_at_once_has_no_body() -> None:
    failure = FetchFailure(FetchFailureKind.DNS)
    assert fetch_whole(Fetches(failure), REQUEST) is failure
    assert asyncio.run(fetch_whole_async(AsyncFetches(failure), REQUEST)) is failure


def test_a_body_is_closed_whatever_it_raises() -> None:
    for error in (OSError("broken"), KeyboardInterrupt()):
        body, async_body = Watched(iter((b"x", error))), Watched(iter((b"x", error)))
        with pytest.raises(type(error)):
            fetch_whole(Fetches(Response(200, None, body.pieces)), REQUEST)
        assert body.closed == 1
        if isinstance(error, Exception):
            with pytest.raises(type(error)):
                asyncio.run(async_body.fetch_async(REQUEST))
            assert async_body.closed == 1


class Hanging:
    """A fetcher that hangs before its head or in its body, and tells what became of it."""

    def __init__(self, *, in_body: bool) -> None:
        self.in_body, self.waiting, self.ended = in_body, asyncio.Event(), ""

    async def fetch(self, _: Fetch) -> AsyncResponse:
        if not self.in_body:
            await self._hang()
        return AsyncResponse(200, "text/plain", self._body())

    async def _body(self) -> AsyncGenerator[bytes | FetchFailure, None]:
        yield b"x"
        await self._hang()

    async def _hang(self) -> None:
        self.waiting.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


@pytest.mark.parametrize("in_body", [True, False])
def test_an_asynchronous_fetch_that_hangs_is_cancelled_when_its_time_is_up(*, in_body: bool) -> None:
    async def run() -> None:
        hanging = Hanging(in_body=in_body)
        request = Fetch("mta-sts.c.test", 10, 1)
        got = await fetch_whole_async(hanging, request)
        assert got == FetchFailure(FetchFailureKind.TIMEOUT, "not complete after 1 s")
        assert hanging.ended == "cancelled"

    asyncio.run(run())


@pytest.mark.parametrize("in_body", [True, False])
def test_who_cancels_a_plan_cancels_its_fetch(*, in_body: bool) -> None:
    async def run() -> None:
        hanging, store = Hanging(in_body=in_body), Store()
        engine = evolve(async_engine(PUBLISHED, Config(), AsyncStore(store)), fetcher=hanging)
        task = asyncio.ensure_future(engine.plan("c.test"))
        await hanging.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert hanging.ended == "cancelled"
        assert store.calls == ["load"]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("octets", "failure"), [(len(policy_text()), None), (len(policy_text()) - 1, StsFailure.FETCH_ERROR)]
)
def test_the_limits_are_those_of_the_configuration(octets: int, failure: StsFailure | None) -> None:
    requests = []

    def answer(request: Fetch) -> Response:
        requests.append(request)
        return Response(200, "text/plain", pieces(policy_text().encode()))

    config = Config(max_policy_octets=octets, max_fetch_seconds=7)
    engine = evolve(PUBLISHED.engine(config), fetcher=Fetches(answer))
    assert discovered(engine.plan("c.test")).failure is failure
    assert requests == [Fetch("mta-sts.c.test", octets, 7)]


# --- what an engine needs


def test_an_engine_with_mta_sts_on_needs_a_fetcher() -> None:
    for config in (Config(), Config(sts="on")):
        with pytest.raises(ValueError, match="fetcher"):
            Engine(PUBLISHED.resolver, config=config)
        with pytest.raises(ValueError, match="fetcher"):
            AsyncEngine(AsyncParts(PUBLISHED), config=config)
    with pytest.raises(ValueError, match="fetcher"):
        Engine(PUBLISHED.resolver)


def test_a_function_that_switches_mta_sts_on_needs_a_fetcher_when_it_does() -> None:
    def config(next_hop: NextHop) -> Config:
        return Config(sts="on" if next_hop.name == "c.test" else "off")

    engine = Engine(PUBLISHED.resolver, config=config)
    assert engine.plan("mx.c.test", NOW).sts is None
    with pytest.raises(ValueError, match="fetcher"):
        engine.plan("c.test", NOW)
    with pytest.raises(ValueError, match="fetcher"):
        asyncio.run(AsyncEngine(AsyncParts(PUBLISHED), config=config).plan("c.test", NOW))


def test_an_engine_that_connects_needs_trust_anchors_where_mta_sts_is_on() -> None:
    """What an `enforce` policy demands could not be found out at the first domain with one (RFC 8461 section 4.2)."""
    parts: dict[str, Any] = {"fetcher": PUBLISHED.fetcher, "connector": PUBLISHED.connector}

    def synchronous(**given: Any) -> Engine:
        return Engine(PUBLISHED.resolver, **given)

    def asynchronous(**given: Any) -> AsyncEngine:
        return AsyncEngine(AsyncParts(PUBLISHED), **given)

    for make in (synchronous, asynchronous):
        with pytest.raises(ValueError, match="trust anchors"):
            make(**parts)
        for sound in ({"trust": TrustStore()}, {"config": Config(sts="off")}, {"connector": None}):
            assert make(**{**parts, **sound})


def test_a_function_that_switches_mta_sts_on_needs_trust_anchors_when_it_does() -> None:
    def config(next_hop: NextHop) -> Config:
        return Config(sts="on" if next_hop.name == "c.test" else "off")

    engine = Engine(PUBLISHED.resolver, fetcher=PUBLISHED.fetcher, connector=PUBLISHED.connector, config=config)
    assert engine.plan("mx.c.test", NOW).sts is None
    for asked in (engine.plan, engine.check):
        with pytest.raises(ValueError, match="trust anchors"):
            asked("c.test", NOW)


def test_switched_off_mta_sts_asks_nothing_and_needs_nothing() -> None:
    counting, store = Counting(PUBLISHED), Store(load=OSError(), store=OSError())
    MemoryStore.store(store, "c.test", Entry.of("1", policy_of(mx="other.test"), NOW))
    planned = Engine(counting, store=store, config=Config(sts="off")).plan("c.test", NOW)
    assert (planned.sts, planned.undeliverable, store.calls) == (None, None, [])
    assert [str(host.level) for host in planned.hosts] == ["may"]
    assert not [query for query in counting.asked if "mta-sts" in query]
    assert "switched off" in planned.explain()


def test_a_store_in_memory_is_what_it_holds_when_it_is_copied() -> None:
    store = MemoryStore({"c.test": CACHED})
    restored = pickle.loads(pickle.dumps(store))
    assert restored.entries("") == store.entries("")
    restored.store("d.test", CACHED)
    assert store.load("d.test") is None
    assert (store.entries("c.test").entries, store.entries("").cursor) == ((), None)


def test_without_a_store_an_engine_remembers_in_memory_for_itself() -> None:
    def engine(counting: Counting) -> Engine:
        return Engine(counting, fetcher=counting, clock=lambda: NOW)

    first, second = Counting(PUBLISHED), Counting(PUBLISHED)
    one = engine(first)
    assert [discovered(one.plan("c.test")).source for _ in range(3)] == [Source.FETCHED, Source.CACHED, Source.CACHED]
    assert discovered(engine(second).plan("c.test")).source is Source.FETCHED
    assert first.asked.count(f"GET {URL}") == second.asked.count(f"GET {URL}") == 1
    assert isinstance(one.store, MemoryStore)

    async def run() -> list[Source | None]:
        parts = AsyncParts(PUBLISHED)
        other = AsyncEngine(parts, fetcher=parts, clock=lambda: NOW)
        assert isinstance(other.store, AsyncMemoryStore)
        return [discovered(await other.plan("c.test")).source for _ in range(2)]

    assert asyncio.run(run()) == [Source.FETCHED, Source.CACHED]


def test_refreshing_and_examining_need_a_fetcher() -> None:
    engine = Engine(PUBLISHED.resolver, clock=lambda: NOW, config=Config(sts="off"))
    other = AsyncEngine(AsyncParts(PUBLISHED), clock=lambda: NOW, config=Config(sts="off"))
    with pytest.raises(ValueError, match="fetcher"):
        engine.refresh()
    with pytest.raises(ValueError, match="fetcher"):
        asyncio.run(other.refresh())
    with pytest.raises(ValueError, match="fetcher"):
        engine.examine_sts("c.test")
    with pytest.raises(ValueError, match="fetcher"):
        asyncio.run(other.examine_sts("c.test"))


NAIVE = datetime(2026, 1, 1, 12)  # noqa: DTZ001


def test_a_naive_time_is_refused() -> None:
    engine, other = PUBLISHED.engine(), async_engine(PUBLISHED, Config())
    for call in (engine.plan, engine.check):
        with pytest.raises(ValueError, match="aware"):
            call("c.test", NAIVE)
    with pytest.raises(ValueError, match="aware"):
        engine.refresh(NAIVE)
    with pytest.raises(BrokenContract, match="clock"):
        evolve(engine, clock=lambda: NAIVE).plan("c.test")
    with pytest.raises(BrokenContract, match="clock"):
        evolve(engine, clock=lambda: NAIVE).refresh()
    with pytest.raises(ValueError, match="aware"):
        asyncio.run(other.plan("c.test", NAIVE))
    with pytest.raises(ValueError, match="aware"):
        asyncio.run(other.refresh(NAIVE))
    assert engine.store.load("c.test") is None
    for bad in ("2026-01-01T12:00:00Z", 0):
        with pytest.raises(TypeError):
            engine.plan("c.test", bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("hours", [-12, 14])
def test_a_time_of_any_zone_is_kept_in_utc(hours: int) -> None:
    engine, local = PUBLISHED.engine(), NOW.astimezone(timezone(timedelta(hours=hours)))
    planned = engine.plan("c.test", local)
    assert planned == PUBLISHED.engine().plan("c.test")
    assert discovered(planned).expires is not None
    entry = engine.store.load("c.test")
    assert isinstance(entry, Entry)
    for time in (planned.valid_until, discovered(planned).expires, entry.fetched, entry.used, entry.checked):
        assert time is not None
        assert time.utcoffset() == timedelta()


# --- what is looked at


def test_an_examination_shows_what_is_published_and_cached_and_stores_nothing() -> None:
    store = Store()
    engine = evolve(PUBLISHED.engine(), store=store)
    found = engine.examine_sts("C.Test.")
    assert found.passed
    assert (found.domain, found.cached) == ("c.test", None)
    assert store.calls == ["load"]
    assert found.to_json()["body"] == policy_text()
    assert asyncio.run(async_engine(PUBLISHED, Config()).examine_sts("c.test")) == found
    entry = Entry.of("0", policy_of("testing"), NOW)
    MemoryStore.store(store, "c.test", entry)
    assert engine.examine_sts("c.test").cached == entry
    assert engine.examine_sts("c.test").to_json()["cached"] == entry.to_json()


def test_an_examination_goes_on_where_the_record_is_missing_or_the_store_fails() -> None:
    there = world(body=policy_text())
    found = evolve(there.engine(), store=Store(load=StoreFailure("disk"))).examine_sts("c.test")
    assert not found.passed
    assert found.fetched.policy == policy_of()
    assert (found.to_json()["store_failure"], found.to_json()["cached"]) == ("disk", None)
    without_policy = world(RECORD, body="nothing").engine().examine_sts("c.test")
    assert not without_policy.passed
    assert without_policy.found.record is not None
    assert without_policy.to_json()["announced"] == [RECORD]
    for name in ("", "user@c.test", "192.0.2.1"):
        with pytest.raises(ValueError, match=r"."):
            PUBLISHED.engine().examine_sts(name)


@pytest.mark.parametrize(
    ("there", "words", "announced"),
    [
        (world(), "_mta-sts.c.test", []),
        (world("v=spf1 -all"), "_mta-sts.c.test", []),
        (world("v=STSv1; id=;"), "id-invalid at octet 9", ["v=STSv1; id=;"]),
        (world(RECORD, "v=STSv1; id=2"), "2 TXT records", [RECORD, "v=STSv1; id=2"]),
        (world(failures=("_mta-sts.c.test",)), "servfail", []),
        (PUBLISHED, "announces id 1", [RECORD]),
    ],
)
def test_what_was_seen_of_the_record_is_told(there: World, words: str, announced: list[str]) -> None:
    found = there.engine().examine_sts("c.test")
    assert words in found.found.detail
    assert found.to_json()["record_detail"] == found.found.detail
    assert found.to_json()["announced"] == announced


@pytest.mark.parametrize(
    ("host", "words", "body"),
    [
        ({"status": 404}, "status 404", None),
        ({"body": policy_text()}, "''", None),
        ({"body": policy_text(), "content_type": "text/html"}, "'text/html'", None),
        ({"body": policy_text(), "content_type": "x" * 200}, f"'{'x' * 80}'", None),
        ({"certificate": "expired"}, "certificate-expired", None),
        ({"error": "timeout"}, "timeout", None),
        ({"body": "oops", "content_type": "text/plain"}, "line-invalid at octet 0", "oops"),
        ({"body": policy_text(), "content_type": "TEXT/plain;x=y"}, "mode enforce", policy_text()),
    ],
)
def test_what_was_seen_of_the_policy_is_told(host: dict[str, Any], words: str, body: str | None) -> None:
    there = world(RECORD, host=host)
    found = there.engine().examine_sts("c.test")
    assert words in found.fetched.detail
    assert URL in found.fetched.detail
    data = found.to_json()
    assert (data["policy_detail"], data["body"]) == (found.fetched.detail, body)
    assert discovered(there.engine().plan("c.test")).detail == found.fetched.detail


@pytest.mark.parametrize(("last", "is_asked"), [("a" * 49, True), ("a" * 50, False)])
def test_a_policy_host_whose_name_is_too_long_is_not_asked(last: str, *, is_asked: bool) -> None:
    domain = ".".join(["a" * 48] * 4 + [last])  # 245 octets, with "mta-sts." the 253 that a name may have
    counting = Counting(world())
    found = evolve(world().engine(), resolver=counting, fetcher=counting).examine_sts(domain)
    assert found.fetched.failure is StsFailure.FETCH_ERROR
    assert any(query.startswith("GET") for query in counting.asked) == is_asked
    assert ("too long" in found.fetched.detail) != is_asked
    assert "too long" in found.found.detail


def test_what_is_known_is_its_json() -> None:
    known = discovered(PUBLISHED.engine().plan("c.test"))
    data = json.loads(json.dumps(known.to_json()))
    assert Discovery.from_json(data) == known
    bare = Discovery(domain="c.test")
    assert Discovery.from_json(bare.to_json()) == bare
    assert (bare.applied, bare.is_enforced, bare.unknown) == (None, False, False)
    for key in data.keys() - {"mode", "mx", "max_age", "warnings"}:  # these follow from the policy
        with pytest.raises(KeyError):
            Discovery.from_json({name: value for name, value in data.items() if name != key})


@pytest.mark.parametrize("key", ["policy", "source", "failure", "tlsrpt", "expires"])
@pytest.mark.parametrize("value", [1, True, "x", [], {"x": 1}], ids=repr)
def test_what_nobody_wrote_is_refused(key: str, value: Any) -> None:
    data = discovered(PUBLISHED.engine().plan("c.test")).to_json()
    with pytest.raises((TypeError, ValueError)):
        Discovery.from_json(data | {key: value})


@pytest.mark.parametrize(("mode", "applied"), [("enforce", True), ("testing", True), ("none", False)])
def test_a_policy_is_applied_unless_its_mode_is_none(mode: str, *, applied: bool) -> None:
    known = discovered(world(RECORD, body=policy_text(mode)).engine().plan("c.test"))
    assert known.policy == policy_of(mode)
    assert (known.applied is not None) == applied
    assert known.is_enforced == (mode == "enforce")


# --- both engines

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
FILES = sorted(VECTORS.glob("sts-*.json"))


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_both_engines_agree_in_every_world_of_the_vectors(path: Path) -> None:
    for vector in load([path]):
        asyncio.run(_compare_engines(vector.data.get("timeline", [vector.data]), path.parent))


async def _compare_engines(steps: list[Any], base: Path) -> None:
    stores: tuple[MemoryStore, AsyncMemoryStore] | None = None
    data: dict[str, Any] = {}
    for step in steps:
        if "world" not in step and not data:
            return
        data = dict(step.get("world", data)) | ({"now": step["at"]} if "at" in step else {})
        there, asked = World.from_json(data, base), dict(step["ask"])
        config = Config.from_settings(asked.pop("settings", {}))
        stores = stores or (MemoryStore(there.cache), AsyncMemoryStore(there.cache))
        engine, other = evolve(there.engine(config), store=stores[0]), async_engine(there, config, stores[1])
        if "refresh" in asked:
            assert await other.refresh() == engine.refresh()
        elif isinstance(asked.get("plan"), str):
            assert await other.plan(asked["plan"]) == engine.plan(asked["plan"])
        elif isinstance(asked.get("check"), str):
            assert await other.check(asked["check"]) == engine.check(asked["check"])
        assert (await stores[1].entries("")).entries == stores[0].entries("").entries


# --- what is said


def steps(there: World, entry: Entry | None = None, config: Config | None = None) -> list[tuple[str, str]]:
    """Clause and effect of each step about MTA-STS in the plan for c.test."""
    store = MemoryStore({} if entry is None else {"c.test": entry})
    planned = evolve(there.engine(config), store=store).plan("c.test")
    return [(step.clause, step.effect) for step in planned.trace if "8461" in step.clause or "sts" in step.clause]


CACHED = Entry.of("1", policy_of(), NOW - HOUR)
ANNOUNCED = ("RFC 8461 section 3.1", "a policy is announced")
IN_FORCE = ("RFC 8461 section 3.3", "it stays in force")
WITHOUT = ("RFC 8461 section 3.3", "as if the domain did not implement MTA-STS")
FETCHED = ("RFC 8461 section 3.3", "it is in force from now on")
NOT_NEWER = ("RFC 8461 section 3.3", "nothing newer is known")


@pytest.mark.parametrize(
    ("there", "entry", "said"),
    [
        (PUBLISHED, None, [ANNOUNCED, FETCHED]),
        (PUBLISHED, CACHED, [ANNOUNCED, IN_FORCE]),
        (world(RECORD), None, [ANNOUNCED, NOT_NEWER, WITHOUT]),
        (world("v=STSv1; id=2;"), CACHED, [ANNOUNCED, NOT_NEWER, IN_FORCE]),
        (
            world("v=STSv1; id=2;"),
            CACHED.with_failure("2", NOW, StsFailure.FETCH_ERROR),
            [ANNOUNCED, ("RFC 8461 section 3.3", "not fetched again so soon"), IN_FORCE],
        ),
        (world(), None, [("RFC 8461 section 3.1", "no policy is announced")]),
        (world(), CACHED, [("RFC 8461 section 3.1", "no policy is announced"), IN_FORCE]),
        (
            world(RECORD, body=policy_text(max_age=9_999_999_999)),
            None,
            [ANNOUNCED, FETCHED, ("RFC 8461 section 3.2", "counted as that (erratum 7282)")],
        ),
        (world("v=STSv1; id=;"), None, [("RFC 8461 section 3.1", "no policy can be discovered"), WITHOUT]),
        (
            world(failures=("_mta-sts.c.test",)),
            None,
            [("RFC 8461 section 3.1", "whether a policy is announced is unknown"), WITHOUT],
        ),
    ],
)
def test_a_plan_says_what_was_learned_and_what_follows(
    there: World, entry: Entry | None, said: list[tuple[str, str]]
) -> None:
    assert steps(there, entry) == said


DANE = {"security": "secure", "records": ["@ MX 10 mx", "mx A 192.0.2.1", "_25._tcp.mx TLSA 3 1 1 " + "a1" * 32]}
WITH_DANE = {"c.test": {**DANE, "records": [*DANE["records"], f'_mta-sts TXT "{RECORD}"']}}


@pytest.mark.parametrize(
    ("mode", "mx", "zones", "said"),
    [
        ("enforce", "mx.c.test", {}, ("RFC 8461 section 5", "matches a", "with a PKIX certificate")),
        ("enforce", "other.test", {}, ("RFC 8461 section 5", "matches no", "the host is not used")),
        ("testing", "mx.c.test", {}, ("RFC 8461 section 5", "matches a", "the level stays may")),
        ("testing", "other.test", {}, ("RFC 8461 section 5", "matches no", "the level stays may")),
        ("testing", "mx.c.test", {"zones": WITH_DANE}, ("RFC 8461 section 5", "matches a", "the level stays dane")),
        ("enforce", "other.test", {"zones": WITH_DANE}, ("Config.sts_with_dane", "matches no", "DANE governs")),
    ],
)
def test_a_host_says_what_the_policy_makes_of_it(
    mode: str, mx: str, zones: dict[str, Any], said: tuple[str, str, str]
) -> None:
    (host,) = world(RECORD, body=policy_text(mode, mx=mx), **zones).engine().plan("c.test").hosts
    last = host.trace[-1]
    assert last.clause == said[0]
    assert said[1] in last.fact
    assert said[2] in last.effect
    assert mode in last.fact


def test_of_several_hosts_that_are_this_system_the_best_ends_the_list_whatever_the_policy_says() -> None:
    records = ["@ MX 5 a", "@ MX 10 own", "@ MX 20 b", "@ MX 30 us", "@ MX 40 c", f'_mta-sts TXT "{RECORD}"']
    records += [f"{name} A 192.0.2.{number}" for number, name in enumerate(("a", "b", "c", "own"), 1)]
    records.append("us A 192.0.2.4")
    there = world(body=policy_text(mx="b.c.test"), zones={"c.test": {"security": "insecure", "records": records}})
    planned = there.engine(Config(own_addresses=["192.0.2.4"])).plan("c.test")
    assert [(host.host, host.sts_match, host.level) for host in planned.hosts] == [("a.c.test", False, None)]
    assert planned.undeliverable == Undeliverable("transient", "no-hosts", "4.7.5")
    assert "preference 10" in planned.explain()


def test_a_plan_says_why_the_mail_waits() -> None:
    there = world(failures=("_mta-sts.c.test",))
    (*_, last) = steps(there, None, Config(sts_on_dns_error="defer"))
    assert last == ("RFC 8461 section 3.3", "the mail waits")
    assert steps(there, None, Config(sts="off")) == [("Config.sts", "no policy is looked for")]
    assert steps(there, CACHED, Config(sts_on_dns_error="defer"))[-1] == IN_FORCE


# --- until when a plan holds


def test_a_plan_holds_until_the_policy_expires_or_may_be_fetched_again() -> None:
    engine = world(RECORD, body=policy_text(max_age=60)).engine()
    assert engine.plan("c.test").valid_until == NOW + timedelta(seconds=60)
    assert engine.plan("c.test", NOW + timedelta(seconds=60)).valid_until == NOW + timedelta(seconds=60)
    assert PUBLISHED.engine().plan("c.test").valid_until == NOW + HOUR  # the TTL
    assert world(RECORD).engine().plan("c.test").valid_until == NOW + BACK_OFF
    for failing in (world("v=STSv1; id=;"), world(RECORD, RECORD), world()):
        assert failing.engine().plan("c.test").valid_until == NOW + HOUR
    assert world(failures=("_mta-sts.c.test",)).engine().plan("c.test").valid_until == NOW


def test_a_host_that_is_not_used_is_no_host_plan() -> None:
    (host,) = world(RECORD, body=policy_text(mx="other.test")).engine().plan("c.test").hosts
    assert not isinstance(host, HostPlan)
    assert host.sts_match is False
