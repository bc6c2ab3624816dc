"""`python sender_async.py FROM TO... < MESSAGE` sends a message to all recipients at once."""

import asyncio
import sys
from datetime import timedelta

from attrs import evolve

from mailtlspolicy import AsyncEngine, Message, NextHop, Outcome
from mailtlspolicy.adapters.dns import AsyncDnsResolver
from mailtlspolicy.adapters.https_async import AsyncHttpsFetcher
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.adapters.sqlite import AsyncSqliteStore
from mailtlspolicy.adapters.tls import system_trust_store
from mailtlspolicy.delivery import RecipientOutcome


async def send(
    engine: AsyncEngine,
    message: Message,
    next_hop: NextHop | str | None = None,
    patience: timedelta = timedelta(days=5),
) -> tuple[RecipientOutcome, ...]:
    """Try until each recipient is settled, or out of patience; return what became of them."""
    settled: dict[str, RecipientOutcome] = {}
    before: Outcome | None = None
    ends = engine.clock() + patience
    while True:
        outcome = await engine.deliver(message, next_hop, before=before)
        settled.update({entry.recipient: entry for entry in outcome.recipients})
        if outcome.retry is None or outcome.retry.at > ends:
            return tuple(settled.values())
        await asyncio.sleep(max(300, (outcome.retry.at - engine.clock()).total_seconds()))
        message, before = evolve(message, recipients=outcome.left), outcome


async def main(message: Message) -> None:
    """Send to every domain at the same time, and print what became of it."""
    resolver = AsyncDnsResolver.from_system()
    fetcher, connector, trust = AsyncHttpsFetcher(resolver), AsyncSmtpConnector(), system_trust_store()
    async with AsyncSqliteStore("policies.sqlite") as store:
        engine = AsyncEngine(resolver, fetcher=fetcher, store=store, connector=connector, trust=trust)
        for settled in asyncio.as_completed([send(engine, part) for part in message.by_next_hop()]):
            for entry in await settled:
                print(f"{entry.recipient}: {entry.outcome} ({entry.reply or entry.status})")


if __name__ == "__main__":
    asyncio.run(main(Message(sys.argv[1], sys.argv[2:], sys.stdin.buffer.read())))
