"""Whatever is cancelled, wherever it is, leaves no connection open and nothing half done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import AsyncEngine, Config, Message, World
from mailtlspolicy.delivery.session import Connected
from mailtlspolicy.engine import keep_order
from mailtlspolicy.sts import Entry
from mailtlspolicy.sts.effects import FetchFailure
from mailtlspolicy.sts.fetching import AsyncResponse
from mailtlspolicy.sts.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

POLICY = "version: STSv1\nmode: testing\nmx: *.client.test\nmax_age: 604800\n"
WORLD = World.from_json(
    {
        "now": "2026-01-01T00:00:00Z",
        "zones": {
            "client.test": {
                "records": [
                    *("@ MX 10 a", "@ MX 10 b", "@ MX 20 c", "a A 192.0.2.1", "b A 192.0.2.2", "c A 192.0.2.3"),
                    '_mta-sts TXT "v=STSv1; id=1;"',
                ]
            }
        },
        "https": {"mta-sts.client.test": {"content_type": "text/plain", "body": POLICY}},
        "servers": {
            "192.0.2.1": {"25": {"sni": "strict", "mail": "451 later"}},  # once more without SNI, then the next
            "192.0.2.2": {"25": {"starttls": "fail", "replies": {"RCPT": ["250 ok", "450 later"]}}},  # in cleartext
            "192.0.2.3": {"25": {"starttls": "ok"}},
        },
    }
)
MESSAGE = Message("a@sender.test", ["b@client.test", "c@client.test"], b"Subject: x\r\n\r\n")


class Parts:
    """The parts of a world, awaited step by step; at some steps the caller is cancelled."""

    def __init__(self, *cancelled: int) -> None:
        self.cancelled = cancelled
        self.steps = 0
        self.task: asyncio.Task[Any] | None = None
        self.opened: list[Any] = []
        self.closed: list[Any] = []
        self.taken = 0
        self.store = MemoryStore()

    async def _step(self) -> None:
        self.steps += 1
        if self.steps in self.cancelled and self.task is not None:
            self.task.cancel()
        await asyncio.sleep(0)

    async def lookup(self, question: Any) -> Any:
        await self._step()
        return WORLD.resolver.lookup(question)

    async def fetch(self, request: Any) -> Any:
        await self._step()
        shown: Any = WORLD.fetcher.fetch(request)
        if isinstance(shown, FetchFailure):
            return shown

        async def body() -> AsyncGenerator[Any, None]:
            for piece in shown.body:
                await self._step()
                yield piece

        return AsyncResponse(shown.status, shown.content_type, body())

    async def load(self, domain: str) -> Any:
        await self._step()
        return self.store.load(domain)

    async def keep(self, domain: str, entry: Entry) -> None:
        await self._step()
        self.store.store(domain, entry)

    async def entries(self, cursor: str) -> Any:
        await self._step()
        return self.store.entries(cursor)

    async def connect(self, effect: Any) -> Any:
        await self._step()
        shown = WORLD.connector.connect(effect)
        if isinstance(shown, Connected):
            self.opened.append(shown.session)
        return shown

    async def ehlo(self, effect: Any) -> Any:
        await self._step()
        return WORLD.connector.ehlo(effect)

    async def start_tls(self, effect: Any) -> Any:
        await self._step()
        return WORLD.connector.start_tls(effect)

    async def transmit(self, effect: Any) -> Any:
        await self._step()
        shown = WORLD.connector.transmit(effect)
        self.taken += shown.end is not None and shown.end.success
        return shown

    async def close(self, effect: Any) -> None:
        self.closed.append(effect.session)  # as a connector does that is cancelled while it says good-bye
        await self._step()

    def engine(self) -> AsyncEngine:
        class Store:
            load, store, entries, drop = self.load, self.keep, self.entries, self.keep

        return AsyncEngine(
            self,
            fetcher=self,
            store=Store,
            connector=self,
            trust=WORLD.trust,
            shuffle=keep_order,
            clock=lambda: WORLD.now,  # type: ignore[arg-type, return-value]  # it has a time
            config=Config(),
        )


CALLS: dict[str, Callable[[AsyncEngine], Any]] = {
    "deliver": lambda engine: engine.deliver(MESSAGE),
    "check": lambda engine: engine.check("client.test"),
    "refresh": lambda engine: engine.refresh(),
}


async def run(parts: Parts, call: str) -> bool:
    """Whether the call came to its end."""
    parts.store = MemoryStore(
        {"client.test": Entry.from_json({"id": "0", "fetched": "2025-12-30T00:00:00Z", "policy": POLICY})}
    )
    parts.task = asyncio.ensure_future(CALLS[call](parts.engine()))
    try:
        await parts.task
    except asyncio.CancelledError:
        return False
    finally:
        assert sorted(map(id, parts.opened)) == sorted(map(id, parts.closed)), "a connection was left open"
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a branch was left running"
        entry = parts.store.load("client.test")
        assert entry is not None, "a policy was lost"
        assert entry.policy is not None
        assert entry.id in {"0", "1"}
    return True


@pytest.mark.parametrize("call", CALLS)
def test_a_cancellation_at_any_step_leaves_nothing_open_and_loses_nothing(call: str) -> None:
    whole = Parts()
    assert asyncio.run(run(whole, call))
    for first in range(1, whole.steps + 1):
        ended = [asyncio.run(run(Parts(first, second), call)) for second in range(first, first + 20)]
        assert not any(ended), f"the cancellation at step {first} was not heard"


def test_how_many_these_are() -> None:
    steps = {call: Parts() for call in CALLS}
    for call, parts in steps.items():
        assert asyncio.run(run(parts, call))
    assert sum(parts.steps for parts in steps.values()) * 20 > 1500
    assert steps["deliver"].taken == 2  # by the second server in cleartext for one, by the third for the other
