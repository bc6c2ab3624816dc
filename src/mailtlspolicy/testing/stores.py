"""What every policy store has to hold to, as checks that any test runner can run, of stores made elsewhere too.

A check takes a function that opens the store anew over the same data, which is empty at first, and raises an
`AssertionError` that says what is wrong. It may open the store several times and close none of them.

>>> from mailtlspolicy.sts.stores import MemoryStore
>>> for check in STORE_CHECKS:
...     store = MemoryStore()
...     check(lambda: store)

With pytest: `@pytest.mark.parametrize("check", STORE_CHECKS)`. An `AsyncPolicyStore` is checked through an
`event_loop.EventLoopThread`, which makes it look like a synchronous one.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve

from mailtlspolicy.sts.cache import MAX_AHEAD, MAX_FAILED, Entry, FailedFetch, StsFailure, merge
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.testing._expect import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailtlspolicy.sts.stores import PolicyStore

OpenStore: TypeAlias = "Callable[[], PolicyStore]"

_START = datetime(2026, 1, 1, 12, 30, 15, 678901, tzinfo=timezone.utc)
_MANY = 2500  # entries: several pages of any store
_MAX_PAGES = 10 * _MANY  # a store that gives more goes round in circles
_THREADS = 8
_WRITES = 25  # of each thread
_POLICY_OCTETS = 65_536  # RFC 8461 section 3.3
_DOMAINS = (
    "a.test",
    "A.test",
    "b.test",
    "a.test.",
    "test",
    "a%.test",
    "a_.test",
    "%",
    "*.test",
    "?.test",
    "[ab].test",
    "a:b.test",
    "a'b.test",
    'a"b.test',
    "a\\b.test",
    "a/../b.test",
    "a b.test",
    "ä.test",
    "xn--4ca.test",
    f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}",
    f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'e' * 61}",
)


def _policy(text: str) -> Policy:
    policy = parse_policy(text.encode())
    assert isinstance(policy, Policy)
    return policy


def _policy_of(host: str, mode: str = "enforce") -> Policy:
    return _policy(f"version: STSv1\nmode: {mode}\nmx: {host}\nmax_age: 604800\n")


_ENFORCE = _policy_of("mx.test")
_NONE = _policy("version: STSv1\nmode: none\nmax_age: 86400\n")
_FULL = Entry(
    policy=_policy("version: STSv1\r\nmode: testing\r\nmx: *.mx.test\r\nmax_age: 9999999999\r\nx: «ü» \\ \"'%\r\n"),
    id="aA0",
    fetched=_START,
    checked=_START + timedelta(hours=1),
    used=_START + timedelta(hours=2, microseconds=1),
    failed=tuple(
        FailedFetch(None if number == 3 else f"id{number}", _START + timedelta(seconds=number), StsFailure.FETCH_ERROR)
        for number in range(MAX_FAILED)
    ),
    failures=2**40,
    ended=_START + timedelta(days=3),
    unknown=(("later", '{"version": [null, 2, "\\u20ac"]}'),),  # of a later version of this library
)
_FAILED = Entry(checked=_START, used=_START).with_failure("1", _START, StsFailure.WEBPKI_INVALID)
_ENTRIES = (
    _FULL,
    _FAILED,
    Entry(checked=_START, used=_START).with_failure(None, _START, StsFailure.DNS_ERROR),
    Entry.of(None, _NONE, _START),
    Entry.of("1", _ENFORCE, datetime.min.replace(tzinfo=timezone.utc)),
    Entry.of("1", _ENFORCE, datetime.max.replace(tzinfo=timezone.utc)),
    *(Entry(checked=_START, used=_START).with_failure("1", _START, failure) for failure in StsFailure),
)


def _expect_stored(store: PolicyStore, domain: str, entry: Entry, what: str) -> None:
    expect(store.store(domain, entry), None, f"{what}: the result of store")


def _expect_loaded(store: PolicyStore, domain: str, entry: Entry | None, what: str) -> None:
    """Compare the text of the policy too, which equality leaves out."""
    got = store.load(domain)
    expect(got, entry, what)
    if isinstance(got, Entry) and got.policy is not None and entry is not None and entry.policy is not None:
        expect(got.policy.text, entry.policy.text, f"{what}: the text of the policy")
        expect(got.policy.warnings, entry.policy.warnings, f"{what}: the warnings of the policy")


def _pages(store: PolicyStore) -> Iterator[PolicyPage]:
    cursor = ""
    for _ in range(_MAX_PAGES):
        page = store.entries(cursor)
        if isinstance(page, StoreFailure):
            raise AssertionError(f"entries({cursor!r}): {page}")
        expect(page.failures, (), "unreadable entries where none were written")
        yield page
        if page.cursor is None:
            return
        cursor = page.cursor
    raise AssertionError("entries never comes to an end")


def _all_of(store: PolicyStore) -> dict[str, Entry]:
    return {domain: entry for page in _pages(store) for domain, entry in page.entries}


def an_unknown_domain_has_no_entry(open_store: OpenStore) -> None:
    """None is no failure, and what is not there can be dropped."""
    store = open_store()
    expect(store.load("a.test"), None, "load of an unknown domain")
    expect(store.drop("a.test", _FULL), None, "drop of an unknown domain")
    expect(_all_of(store), {}, "the entries of an empty store")


def an_entry_comes_back_whole(open_store: OpenStore) -> None:
    """Every field, in every form that it has."""
    store = open_store()
    for number, entry in enumerate(_ENTRIES):
        _expect_stored(store, f"d{number}.test", entry, f"entry {number}")
        _expect_loaded(store, f"d{number}.test", entry, f"entry {number} read back")
    for number, entry in enumerate(_ENTRIES):
        _expect_loaded(open_store(), f"d{number}.test", entry, f"entry {number} read later")


def a_large_policy_comes_back_whole(open_store: OpenStore) -> None:
    """64 KiB, which RFC 8461 section 3.3 suggests as the limit, in octets that JSON and others write longer."""
    store = open_store()
    head, end = "version: STSv1\r\nmode: enforce\r\nmx: mx.test\r\nmax_age: 604800\r\n", "\r\n"
    for character in ("a", "\\", '"', "ü", "\u20ac", "\U0001f4e7"):
        octets = len(character.encode())
        lines = ["x: " + character * ((_POLICY_OCTETS - len(head) - 5) // octets)]
        entry = Entry.of("1", _policy(head + end.join(lines) + end), _START)
        domain = f"u{ord(character):x}.test"
        _expect_stored(store, domain, entry, f"a policy of 64 KiB of {character!r}")
        _expect_loaded(store, domain, entry, f"a policy of 64 KiB of {character!r}")


def a_store_merges(open_store: OpenStore) -> None:
    """The policy that was fetched later stays, whatever it says (RFC 8461 section 5.1)."""
    store = open_store()
    older = Entry.of("1", _ENFORCE, _START)
    newer = Entry.of("2", _NONE, _START + timedelta(minutes=1))
    future = Entry.of("3", _ENFORCE, newer.checked + MAX_AHEAD + timedelta(seconds=1))
    failed = Entry(checked=_START, used=_START).with_failure("2", _START + timedelta(hours=2), StsFailure.DNS_ERROR)
    touched = evolve(older, used=_START + timedelta(hours=5), checked=_START + timedelta(hours=6))
    cases = (
        ("a later fetch replaces an older one, though its mode is none", older, newer, newer.policy),
        ("an older fetch does not replace a later one", newer, older, newer.policy),
        ("failed fetches alone do not replace a policy", older, failed, older.policy),
        ("a policy replaces failed fetches", failed, older, older.policy),
        ("a fetch in the writer's future is replaced by a fetch", future, newer, newer.policy),
        ("a fetch in the writer's future is not replaced by failed fetches", future, _FAILED, future.policy),
        ("a fetch in the writer's future is not replaced by what was known", future, touched, future.policy),
        ("another failed fetch is noted", older, older.with_failure("2", _START, StsFailure.FETCH_ERROR), _ENFORCE),
        ("failed fetches replace failed fetches", _FAILED, failed, None),
        ("a use is noted", older, touched, older.policy),
        ("an older note of a use is not", touched, older, older.policy),
        ("the same entry changes nothing", older, older, older.policy),
        ("a note that it has ended is the writer's", older, evolve(older, ended=_START), older.policy),
        ("so is that it has not", evolve(older, ended=_START), older, older.policy),
        ("what a later version added stays", evolve(older, unknown=_FULL.unknown), newer, newer.policy),
    )
    for number, (what, first, second, policy) in enumerate(cases):
        domain = f"m{number}.test"
        _expect_stored(store, domain, first, what)
        _expect_stored(open_store(), domain, second, what)
        _expect_loaded(store, domain, merge(first, second), what)
        loaded = store.load(domain)
        expect(loaded.policy if isinstance(loaded, Entry) else loaded, policy, what)


def a_drop_removes_the_entry_given_alone(open_store: OpenStore) -> None:
    """An entry that was written meanwhile stays."""
    store = open_store()
    entry = Entry.of("1", _ENFORCE, _START)
    others = (
        Entry.of("2", _ENFORCE, _START),
        Entry.of("1", _NONE, _START),
        Entry.of("1", _ENFORCE, _START + timedelta(microseconds=1)),
        evolve(entry, used=_START + timedelta(hours=1)),
        evolve(entry, ended=_START),
        entry.with_failure("2", _START, StsFailure.FETCH_ERROR),
        _FAILED,
    )
    _expect_stored(store, "a.test", entry, "an entry")
    _expect_stored(store, "b.test", entry, "the same for another domain")
    for other in others:
        expect(store.drop("a.test", other), None, "drop of another entry")
        _expect_loaded(store, "a.test", entry, "the entry after another was dropped")
    expect(open_store().drop("a.test", entry), None, "drop of the entry")
    _expect_loaded(store, "a.test", None, "the entry after its drop")
    _expect_loaded(store, "b.test", entry, "the entry of another domain")
    _expect_stored(store, "a.test", _FAILED, "an entry after a drop")
    _expect_loaded(store, "a.test", _FAILED, "an entry after a drop")


def domains_are_kept_apart(open_store: OpenStore) -> None:
    """No name is a pattern, a prefix or another spelling of another (RFC 8461 section 3.4)."""
    store = open_store()
    entries = {
        domain: Entry.of(str(number), _policy_of(f"mx{number}.test"), _START) for number, domain in enumerate(_DOMAINS)
    }
    for domain, entry in entries.items():
        _expect_loaded(store, domain, None, f"{domain!r} before it was stored")
        _expect_stored(store, domain, entry, repr(domain))
    for domain, entry in entries.items():
        _expect_loaded(store, domain, entry, repr(domain))
    expect(_all_of(store), entries, "all entries")
    for domain, entry in entries.items():
        expect(store.drop(domain, entry), None, f"drop of {domain!r}")
    expect(_all_of(store), {}, "the entries after all were dropped")


def a_walk_meets_every_entry(open_store: OpenStore) -> None:
    """At least once, those which stay while others come and go."""
    store = open_store()
    entries = {f"d{number}.test": Entry.of(str(number), _ENFORCE, _START) for number in range(_MANY)}
    for domain, entry in entries.items():
        _expect_stored(store, domain, entry, domain)
    expect(_all_of(store), entries, "all entries")
    passing, kept = list(entries.items())[::2], dict(list(entries.items())[1::2])
    met: dict[str, Entry] = {}
    for number, page in enumerate(_pages(open_store())):
        met.update(page.entries)
        for domain, entry in passing[100 * number : 100 * number + 100]:
            expect(store.drop(domain, entry), None, domain)
            _expect_stored(store, f"new-{domain}", entry, domain)
    expect({domain: met.get(domain) for domain in kept}, kept, "the entries that stayed during a walk")
    expect({domain for domain in met if not domain.startswith("new-")} - set(entries), set(), "what nobody stored")


def what_is_written_is_seen_by_all(open_store: OpenStore) -> None:
    """By a store opened before or after."""
    first, second = open_store(), open_store()
    expect(first.load("a.test"), None, "load of an unknown domain")
    expect(second.load("a.test"), None, "load of an unknown domain")
    _expect_stored(first, "a.test", _FULL, "an entry")
    _expect_loaded(second, "a.test", _FULL, "what another store wrote")
    _expect_loaded(open_store(), "a.test", _FULL, "what another store wrote, opened later")
    expect(second.drop("a.test", _FULL), None, "drop")
    _expect_loaded(first, "a.test", None, "what another store dropped")


def threads_lose_nothing(open_store: OpenStore) -> None:
    """Of many that write to one domain, the latest fetch stands, and a drop takes nothing newer away."""
    shared = open_store()
    start = threading.Barrier(_THREADS, timeout=60)

    def times(thread: int) -> Iterator[datetime]:
        for write in range(_WRITES):
            yield _START + timedelta(seconds=(write * 7 % _WRITES) * _THREADS + thread)  # in all, less than MAX_AHEAD

    def write(thread: int) -> None:
        store = shared if thread % 2 else open_store()
        start.wait()
        for time in times(thread):
            entry = Entry.of(str(thread), _ENFORCE, time)
            _expect_stored(store, "a.test", entry, f"thread {thread}")
            _expect_stored(store, f"{thread}.test", entry, f"thread {thread}")
            expect(store.drop("a.test", _FULL), None, f"thread {thread}")
            loaded = store.load("a.test")
            if not isinstance(loaded, Entry) or loaded.fetched is None or loaded.fetched < time:
                raise AssertionError(f"thread {thread} stored a fetch of {time} and then met {loaded!r:.500}")

    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(write, thread) for thread in range(_THREADS)]:
            done.result()
    for thread in range(_THREADS):
        latest = Entry.of(str(thread), _ENFORCE, max(times(thread)))
        _expect_loaded(shared, f"{thread}.test", latest, "a domain of one thread")
    newest = Entry.of(str(_THREADS - 1), _ENFORCE, max(times(_THREADS - 1)))
    _expect_loaded(shared, "a.test", newest, "the domain of all threads")


STORE_CHECKS: tuple[Callable[[OpenStore], None], ...] = (
    an_unknown_domain_has_no_entry,
    an_entry_comes_back_whole,
    a_large_policy_comes_back_whole,
    a_store_merges,
    a_drop_removes_the_entry_given_alone,
    domains_are_kept_apart,
    a_walk_meets_every_entry,
    what_is_written_is_seen_by_all,
    threads_lose_nothing,
)
"""The checks of a policy store."""
