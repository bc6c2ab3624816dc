"""`python sender.py FROM TO... < MESSAGE` sends a message to recipients of one domain."""

import sys
import time
from datetime import timedelta

from attrs import evolve

from mailtlspolicy import Engine, Message
from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.sqlite import SqliteStore
from mailtlspolicy.adapters.tls import system_trust_store


def send(engine, message, next_hop=None, patience=timedelta(days=5)):
    """Try until each recipient is settled, or out of patience; return what became of them."""
    ends, before, settled = engine.clock() + patience, None, {}
    while True:
        outcome = engine.deliver(message, next_hop, before=before)
        settled.update({entry.recipient: entry for entry in outcome.recipients})
        if outcome.retry is None or outcome.retry.at > ends:
            return tuple(settled.values())
        time.sleep(max(300, (outcome.retry.at - engine.clock()).total_seconds()))
        message, before = evolve(message, recipients=outcome.left), outcome


if __name__ == "__main__":
    resolver = DnsResolver.from_system()
    parts = {"fetcher": HttpsFetcher(resolver), "connector": SmtpConnector()}
    with SqliteStore("policies.sqlite") as store:
        engine = Engine(resolver, store=store, trust=system_trust_store(), **parts)
        message = Message(sys.argv[1], sys.argv[2:], sys.stdin.buffer.read())
        for entry in send(engine, message):
            print(f"{entry.recipient}: {entry.outcome} ({entry.reply or entry.status})")
