"""The stores at size: a million policies in a file, and what one costs in memory.

`measure_stores` prints one row a figure, in Markdown. Lookups are whole: from the name to the parsed policy.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
import tracemalloc
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from mailtlspolicy.adapters.sqlite import SqliteStore
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.effects import StoreFailure
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.sts.stores import MemoryStore, encode_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailtlspolicy.sts.stores import PolicyStore

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FILE_DOMAINS = 1_000_000
MEMORY_DOMAINS = 100_000
LOOKUPS = 20_000  # of random domains
WRITES = 2_000  # of random domains


def domain_of(number: int) -> str:
    """The domains, in no order that a file would profit by."""
    return f"d{number * 7_368_787 % FILE_DOMAINS:06}.example.com"


def entry_of(number: int, fetched: datetime = NOW) -> Entry:
    """A policy of an ordinary length."""
    text = f"version: STSv1\r\nmode: enforce\r\nmx: mx{number}.example.net\r\nmx: *.example.org\r\nmax_age: 604800\r\n"
    policy = parse_policy(text.encode())
    assert isinstance(policy, Policy)
    return Entry.of("20260101T000000", policy, fetched)


def fill(path: Path) -> None:
    """Make a store, and write all entries in one transaction past it: one by one would take minutes."""
    with SqliteStore(path) as store:
        store.load("")  # which makes the file
    rows = ((domain_of(number), encode_entry(entry_of(number)).decode()) for number in range(FILE_DOMAINS))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO policies VALUES (?, ?)", rows)


def a_second(calls: int, call: Callable[[], object]) -> str:
    """How many of the calls, made all at once, a second has room for."""
    start = time.perf_counter()
    call()
    return f"{calls / (time.perf_counter() - start):,.0f}"


def look_up(store: PolicyStore, domains: list[str]) -> None:
    """Load every domain, each of which has to be there."""
    for domain in domains:
        assert isinstance(store.load(domain), Entry)


def walk(store: PolicyStore) -> int:
    """Page through all entries, and count them."""
    cursor: str | None = ""
    count = 0
    while cursor is not None:
        page = store.entries(cursor)
        assert not isinstance(page, StoreFailure)
        count += len(page.entries)
        cursor = page.cursor
    return count


def file_rows() -> Iterator[tuple[str, str]]:
    """What a million policies in a file take."""
    chance = random.Random(8461)
    domains = [domain_of(chance.randrange(FILE_DOMAINS)) for _ in range(LOOKUPS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policies")
        fill(path)
        yield "octets a policy in the file", f"{path.stat().st_size / FILE_DOMAINS:.0f}"
        with SqliteStore(path) as store:
            look_up(store, domains)  # warms the caches
            yield "lookups a second", a_second(LOOKUPS, lambda: look_up(store, domains))
            entry = entry_of(0, NOW.replace(hour=1))

            def write() -> None:
                for domain in domains[:WRITES]:
                    assert store.store(domain, entry) is None

            yield "writes a second", a_second(WRITES, write)
            start = time.perf_counter()
            assert walk(store) == FILE_DOMAINS
            yield "seconds to walk over all entries", f"{time.perf_counter() - start:.1f}"


def memory_rows() -> Iterator[tuple[str, str]]:
    """What policies in memory take."""
    chance = random.Random(8461)
    domains = [domain_of(chance.randrange(MEMORY_DOMAINS)) for _ in range(LOOKUPS)]
    store = MemoryStore()
    tracemalloc.start()
    try:
        for number in range(MEMORY_DOMAINS):
            store.store(domain_of(number), entry_of(number))
        yield "octets a policy in memory", f"{tracemalloc.get_traced_memory()[0] / MEMORY_DOMAINS:,.0f}"
    finally:
        tracemalloc.stop()
    yield "lookups a second", a_second(LOOKUPS, lambda: look_up(store, domains))


def measure_stores() -> None:
    """Print a table in Markdown."""
    print("| policy store | what | figure |")
    print("| --- | --- | ---: |")
    for title, rows in (
        (f"SQLite, {FILE_DOMAINS:,} policies", file_rows()),
        (f"memory, {MEMORY_DOMAINS:,} policies", memory_rows()),
    ):
        for what, figure in rows:
            print(f"| {title} | {what} | {figure} |", flush=True)


if __name__ == "__main__":
    measure_stores()
