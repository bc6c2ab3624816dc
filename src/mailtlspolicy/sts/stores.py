"""Where policies are kept: the interface of a policy store, the form of an entry in it, and the store in memory.

A store maps policy domains to entries. Its rules, which `mailtlspolicy.testing.stores` checks of any store:

- `store` writes `merge(what is there, entry)` as one step, also beside other threads and processes.
- What `load` returns was stored whole. What can not be read is a `StoreFailure`, never None.
- An unreadable entry is replaced by one with a policy only, never by failed fetches (`merge_octets`).
- `drop` removes the entry given and no other.
- A failure is returned, never raised.

An entry is kept as JSON with a version, and members that a later version added survive a write: senders of several
versions may share a store.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Protocol

from mailtlspolicy.sts.cache import Entry, merge
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure

if TYPE_CHECKING:
    from collections.abc import Mapping


# A policy of 64 KiB (RFC 8461 section 3.3) takes up to 192 KiB as ASCII JSON; room for who raised that limit
MAX_ENTRY_OCTETS = 1_048_576


def encode_entry(entry: Entry) -> bytes:
    """An entry as stores keep it: JSON in ASCII.

    Raises:
        ValueError: it would be longer than what `decode_entry` reads.
    """
    octets = json.dumps(entry.to_json(), separators=(",", ":")).encode("ascii")
    if len(octets) > MAX_ENTRY_OCTETS:
        raise ValueError(f"the entry has more than {MAX_ENTRY_OCTETS} octets")
    return octets


def decode_entry(octets: bytes) -> Entry | StoreFailure:
    """Read what `encode_entry` wrote; whatever else it is given is a `StoreFailure`."""
    if len(octets) > MAX_ENTRY_OCTETS:
        return StoreFailure(f"the entry has more than {MAX_ENTRY_OCTETS} octets")
    try:
        return Entry.from_json(json.loads(octets))
    except KeyError as error:
        return StoreFailure(f"the entry lacks {error}")
    except (TypeError, ValueError, RecursionError) as error:
        return StoreFailure(f"the entry can not be read: {error!s:.200}")


def merge_octets(octets: bytes | None, entry: Entry) -> bytes | StoreFailure:
    """`merge` for stores that keep octets: what has to stand over these, or None for nothing, after a write.

    What can not be read may have been a policy, or be one to a later version: it gives way to a policy only.
    """
    stored = None if octets is None else decode_entry(octets)
    if isinstance(stored, StoreFailure):
        if entry.policy is None:
            return stored
        stored = None
    return encode_entry(merge(stored, entry))


class PolicyStore(Protocol):
    """Keeps MTA-STS policies. `MemoryStore` is one, `adapters.sqlite.SqliteStore` another."""

    def load(self, domain: str) -> Entry | StoreFailure | None:
        """The entry of a policy domain, or None where there is none."""

    def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """Write `merge(stored, entry)`, atomically."""

    def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """Remove the entry if it is still this one, atomically."""

    def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """Some entries after a cursor, "" at first. Each that stays there meanwhile is met at least once."""


class AsyncPolicyStore(Protocol):
    """A `PolicyStore` whose methods are awaited."""

    async def load(self, domain: str) -> Entry | StoreFailure | None:
        """As `PolicyStore.load`."""

    async def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As `PolicyStore.store`."""

    async def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As `PolicyStore.drop`."""

    async def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """As `PolicyStore.entries`."""


class MemoryStore:
    """A policy store in memory, for one process; what it keeps ends with it.

    It has no bound but what `refresh` drops: where strangers choose the domains, `SqliteStore` is the better one.
    """

    def __init__(self, entries: Mapping[str, Entry] | None = None) -> None:
        self._entries = dict(entries or {})
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[dict[str, Entry]]]:
        return MemoryStore, (self._entries.copy(),)

    def load(self, domain: str) -> Entry | None:
        """The entry of a policy domain, or None."""
        return self._entries.get(domain)

    def store(self, domain: str, entry: Entry) -> None:
        """Write an entry over what is there."""
        with self._lock:
            self._entries[domain] = merge(self._entries.get(domain), entry)

    def drop(self, domain: str, entry: Entry) -> None:
        """Remove an entry if it is still this one."""
        with self._lock:
            if self._entries.get(domain) == entry:
                del self._entries[domain]

    def entries(self, cursor: str) -> PolicyPage:
        """All entries, in one page."""
        return PolicyPage(() if cursor else tuple(self._entries.copy().items()))


class AsyncMemoryStore:
    """A `MemoryStore` for asyncio."""

    def __init__(self, entries: Mapping[str, Entry] | None = None) -> None:
        self._store = MemoryStore(entries)

    async def load(self, domain: str) -> Entry | None:
        """As `MemoryStore.load`."""
        return self._store.load(domain)

    async def store(self, domain: str, entry: Entry) -> None:
        """As `MemoryStore.store`."""
        self._store.store(domain, entry)

    async def drop(self, domain: str, entry: Entry) -> None:
        """As `MemoryStore.drop`."""
        self._store.drop(domain, entry)

    async def entries(self, cursor: str) -> PolicyPage:
        """As `MemoryStore.entries`."""
        return self._store.entries(cursor)
