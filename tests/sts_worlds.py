"""Small worlds with MTA-STS for tests, and their static parts behind an event loop."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy import World
from mailtlspolicy.engine import AsyncEngine, keep_order
from mailtlspolicy.sts import Policy, parse_policy
from mailtlspolicy.sts.effects import FetchFailure
from mailtlspolicy.sts.fetching import AsyncResponse
from mailtlspolicy.sts.stores import AsyncMemoryStore
from tests.sessions import AsyncConnections

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mailtlspolicy import Config
    from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure
    from mailtlspolicy.sts import Entry
    from mailtlspolicy.sts.effects import Fetch
    from mailtlspolicy.sts.fetching import Response
    from mailtlspolicy.sts.stores import AsyncPolicyStore, PolicyStore

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
URL = "https://mta-sts.c.test/.well-known/mta-sts.txt"


def policy_text(mode: str = "enforce", max_age: int = 604800, mx: str = "mx.c.test") -> str:
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n"


def policy_of(mode: str = "enforce", max_age: int = 604800, mx: str = "mx.c.test") -> Policy:
    policy = parse_policy(policy_text(mode, max_age, mx).encode())
    assert isinstance(policy, Policy)
    return policy


def world(
    *txt: str,
    body: str | None = None,
    host: Mapping[str, Any] | None = None,
    failures: tuple[str, ...] = (),
    **more: Any,
) -> World:
    """c.test with one MX host, these TXT records at `_mta-sts` and this policy file."""
    records = ["@ MX 10 mx", "mx A 192.0.2.1", *(f'_mta-sts TXT "{text}"' for text in txt)]
    shown = host if body is None else {"content_type": "text/plain", "body": body}
    data: dict[str, Any] = {
        "now": NOW.isoformat(),
        "zones": {"c.test": {"security": "insecure", "records": records}},
        "failures": [{"name": name, "type": "TXT", "kind": "servfail"} for name in failures],
        "https": {} if shown is None else {"mta-sts.c.test": shown},
        **more,
    }
    return World.from_json(data)


@frozen
class AsyncParts:
    """The static parts of a world behind an event loop."""

    world: World

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        await asyncio.sleep(0)
        return self.world.resolver.lookup(question)

    async def fetch(self, request: Fetch) -> AsyncResponse | FetchFailure:
        await asyncio.sleep(0)
        response = self.world.fetcher.fetch(request)
        if isinstance(response, FetchFailure):
            return response
        return AsyncResponse(response.status, response.content_type, _pieces(response))


async def _pieces(response: Response) -> AsyncGenerator[bytes | FetchFailure, None]:
    for piece in response.body:
        await asyncio.sleep(0)
        yield piece


def async_engine(world: World, config: Config, store: AsyncPolicyStore | None = None) -> AsyncEngine:
    """What `World.engine` gives, for asyncio."""
    parts = AsyncParts(world)
    return AsyncEngine(
        parts,
        fetcher=parts,
        store=AsyncMemoryStore(world.cache) if store is None else store,
        connector=AsyncConnections(world.connector),
        trust=world.trust,
        shuffle=keep_order,
        clock=lambda: world.now or NOW,
        config=config,
    )


class AsyncStore:
    """A store for asyncio that does what another does."""

    def __init__(self, store: PolicyStore) -> None:
        self.inner = store

    async def load(self, domain: str) -> Any:
        return self.inner.load(domain)

    async def store(self, domain: str, entry: Entry) -> Any:
        return self.inner.store(domain, entry)

    async def drop(self, domain: str, entry: Entry) -> Any:
        return self.inner.drop(domain, entry)

    async def entries(self, cursor: str) -> Any:
        return self.inner.entries(cursor)
