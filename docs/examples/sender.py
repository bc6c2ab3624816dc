"""`python sender.py FROM TO... < MESSAGE` sends a message to recipients of one domain."""

import sys
import time
from datetime import timedelta

from attrs import evolve

from mailtlspolicy import Engine, Message, NextHop, Outcome
from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.sqlite import SqliteStore
from mailtlspolicy.adapters.tls import system_trust_store
from mailtlspolicy.delivery import RecipientOutcome


def send(
    engine: Engine, message: Message, next_hop: NextHop | str | None = None, patience: timedelta = timedelta(days=5)
) -> tuple[RecipientOutcome, ...]:
    """Try until each recipient is settled, or out of patience; return what became of them."""
    settled: dict[str, RecipientOutcome] = {}
    before: Outcome | None = None
    ends = engine.clock() + patience
    while True:
        outcome = engine.deliver(message, next_hop, before=before)
        settled.update({entry.recipient: entry for entry in outcome.recipients})
        if outcome.retry is None or outcome.retry.at > ends:
            return tuple(settled.values())
        time.sleep(max(300, (outcome.retry.at - engine.clock()).total_seconds()))
        message, before = evolve(message, recipients=outcome.left), outcome


if __name__ == "__main__":
    resolver = DnsResolver.from_system()
    fetcher, connector, trust = HttpsFetcher(resolver), SmtpConnector(), system_trust_store()
    with SqliteStore("policies.sqlite") as store:
        engine = Engine(resolver, fetcher=fetcher, store=store, connector=connector, trust=trust)
        message = Message(sys.argv[1], sys.argv[2:], sys.stdin.buffer.read())
        for entry in send(engine, message):
            print(f"{entry.recipient}: {entry.outcome} ({entry.reply or entry.status})")
