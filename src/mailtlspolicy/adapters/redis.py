"""A policy store on a Redis or Valkey server, for senders on several machines (extra `redis`, redis-py from 5.1 on).

- The client is yours, and so is how long a delivery waits for a server that is silent or away: give the client
  `socket_timeout`, `socket_connect_timeout` and `retry`, whose defaults differ between versions of redis-py. Every
  error is a `StoreFailure`. To repeat a command does no harm.
- A write compares and sets by a script on the server, and begins anew when another sender was faster. The user needs
  the commands GETRANGE, SET, DEL, EVAL and SCAN for the keys of the prefix.
- Nothing has an expiry: a policy in force must not vanish (RFC 8461 section 5.1), least of all by the server's clock.
  For the same reason the server has to run with `maxmemory-policy noeviction` or one of the `volatile` policies. What
  outlives a restart of the server is a matter of its configuration (`appendonly`).
- `entries` walks over all keys of the database, so one with few others is best. It meets what stays there at least
  once, and may meet it twice. Redis Cluster can not be walked over so, and is not supported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from redis.exceptions import RedisError

from mailtlspolicy.adapters._text import reason
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure
from mailtlspolicy.sts.stores import MAX_ENTRY_OCTETS, decode_entry, merge_octets

if TYPE_CHECKING:
    from collections.abc import Generator

    import redis.asyncio
    from redis import Redis

    from mailtlspolicy.sts.cache import Entry

PREFIX = "mta-sts:"
PAGE_KEYS = 10  # keys the server looks at for a page (the COUNT of SCAN): reading the longest takes 10 ms each
MAX_ATTEMPTS = 100  # of one write; of n senders that never stop writing to a domain, one in n succeeds at a time

# Reads one octet too many, which tells that an entry is too long. Of a key that is not there it reads nothing.
_LAST_OCTET = MAX_ENTRY_OCTETS
_COMPARE_AND_SET = f"""
if redis.call('GETRANGE', KEYS[1], 0, {_LAST_OCTET}) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""
_GLOB = str.maketrans({character: f"\\{character}" for character in "\\*?["})

_T = TypeVar("_T")
_Command: TypeAlias = "tuple[bytes | str | int, ...]"
# Yields commands, is sent their results, the errors of the server among them, and returns what the store returns: one
# text for both kinds of client.
_Dialogue: TypeAlias = "Generator[list[_Command], list[Any], _T]"


class RedisStore:
    """A policy store on a server, by a `redis.Redis`."""

    def __init__(self, client: Redis, *, prefix: str = PREFIX) -> None:
        """Take a client, which stays the caller's to close.

        Args:
            client: one without `decode_responses`.
            prefix: what the keys begin with, before the policy domain.

        Raises:
            ValueError: the client has `decode_responses`.
        """
        self._client: Any = _checked(client)  # how its commands are typed depends on the version
        self._keys = _Keys(prefix)

    def load(self, domain: str) -> Entry | StoreFailure | None:
        """The entry of a policy domain, or None where there is none."""
        return self._run(_load(self._keys, domain))

    def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """Write `merge(stored, entry)`, if nobody writes in between, else again."""
        return self._run(_store(self._keys, domain, entry))

    def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """Remove the entry if it is still this one."""
        return self._run(_drop(self._keys, domain, entry))

    def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """Some entries, perhaps none; the cursor is that of SCAN."""
        return self._run(_entries(self._keys, cursor))

    def _run(self, dialogue: _Dialogue[_T]) -> _T | StoreFailure:
        try:
            commands = next(dialogue)
            while True:
                with self._client.pipeline(transaction=False) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    results = pipeline.execute(raise_on_error=False)
                commands = dialogue.send(results)
        except StopIteration as stop:
            value: _T = stop.value
            return value
        except (RedisError, OSError, ValueError) as error:
            return StoreFailure(reason(error))


class AsyncRedisStore:
    """A policy store on a server, by a `redis.asyncio.Redis`."""

    def __init__(self, client: redis.asyncio.Redis, *, prefix: str = PREFIX) -> None:
        """As `RedisStore`."""
        self._client: Any = _checked(client)  # how its commands are typed depends on the version
        self._keys = _Keys(prefix)

    async def load(self, domain: str) -> Entry | StoreFailure | None:
        """As `RedisStore.load`."""
        return await self._run(_load(self._keys, domain))

    async def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As `RedisStore.store`."""
        return await self._run(_store(self._keys, domain, entry))

    async def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As `RedisStore.drop`."""
        return await self._run(_drop(self._keys, domain, entry))

    async def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """As `RedisStore.entries`."""
        return await self._run(_entries(self._keys, cursor))

    async def _run(self, dialogue: _Dialogue[_T]) -> _T | StoreFailure:
        try:
            commands = next(dialogue)
            while True:
                async with self._client.pipeline(transaction=False) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    results = await pipeline.execute(raise_on_error=False)
                commands = dialogue.send(results)
        except StopIteration as stop:
            value: _T = stop.value
            return value
        except (RedisError, OSError, ValueError) as error:
            return StoreFailure(reason(error))


def _checked(client: Redis | redis.asyncio.Redis) -> Redis | redis.asyncio.Redis:
    if client.get_connection_kwargs().get("decode_responses"):
        raise ValueError("the client of a policy store has to be one without decode_responses")
    return client


class _Keys:
    """From policy domains to keys and back; octets that are no UTF-8 survive."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.pattern = f"{prefix.translate(_GLOB)}*".encode()

    def key(self, domain: str) -> bytes:
        return self._prefix + domain.encode("utf-8", "surrogateescape")

    def domain(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode("utf-8", "surrogateescape")


def _result(value: Any) -> Any:
    """The result of a command; an error is raised."""
    if isinstance(value, Exception):
        raise value
    return value


def _read(keys: _Keys, domain: str) -> _Dialogue[bytes]:
    (value,) = yield [("GETRANGE", keys.key(domain), 0, _LAST_OCTET)]
    octets: bytes = _result(value)
    return octets


def _decode(octets: bytes) -> Entry | StoreFailure | None:
    return decode_entry(octets) if octets else None


def _load(keys: _Keys, domain: str) -> _Dialogue[Entry | StoreFailure | None]:
    return _decode((yield from _read(keys, domain)))


def _replace(keys: _Keys, domain: str, octets: bytes, by: bytes) -> _Dialogue[bool]:
    (done,) = yield [("EVAL", _COMPARE_AND_SET, 1, keys.key(domain), octets, by)]
    return bool(_result(done))


def _store(keys: _Keys, domain: str, entry: Entry) -> _Dialogue[StoreFailure | None]:
    for _ in range(MAX_ATTEMPTS):
        octets = yield from _read(keys, domain)
        merged = merge_octets(octets or None, entry)
        if isinstance(merged, StoreFailure):
            return merged
        if merged == octets or (yield from _replace(keys, domain, octets, merged)):
            return None
    return _too_busy()


def _drop(keys: _Keys, domain: str, entry: Entry) -> _Dialogue[StoreFailure | None]:
    for _ in range(MAX_ATTEMPTS):
        octets = yield from _read(keys, domain)
        stored = _decode(octets)
        if isinstance(stored, StoreFailure):
            return stored
        if stored != entry or (yield from _replace(keys, domain, octets, b"")):
            return None
    return _too_busy()


def _too_busy() -> StoreFailure:
    return StoreFailure(f"other senders were faster, {MAX_ATTEMPTS} times")


def _entries(keys: _Keys, cursor: str) -> _Dialogue[PolicyPage]:
    (scanned,) = yield [("SCAN", int(cursor or 0), "MATCH", keys.pattern, "COUNT", PAGE_KEYS)]
    position, found = _result(scanned)
    values = (yield [("GETRANGE", key, 0, _LAST_OCTET) for key in found]) if found else []
    entries, failures = [], []
    for key, value in zip(found, values, strict=True):
        failed = StoreFailure(reason(value)) if isinstance(value, RedisError) else _decode(value)
        if isinstance(failed, StoreFailure):
            failures.append((keys.domain(key), failed))
        elif failed is not None:
            entries.append((keys.domain(key), failed))
    return PolicyPage(tuple(entries), str(position) if position else None, tuple(failures))
