r"""Refreshing cached policies before they expire, and dropping the disused ones (RFC 8461 sections 3.3 and 10.2).

- A policy in force is due once a day, or when half of its life has passed where that comes first. The moment is spread
  over the second half of that time by the domain's name, so that a thousand policies fetched together are not again.
- After failures in a row the pause grows from five minutes to six hours.
- A refresh fetches whatever the TXT record says, so that who blocks the record can not wear a policy out. Success
  counts as a fetch and prolongs; failure changes nothing, and is reported unless the mode is "none".
- What no delivery asked for in two months is refreshed no more, and dropped when it is no longer in force.
- A clock that runs ahead drops nothing at once: a refresh notes when it found an entry so, and another one drops it
  that finds the same an hour later. One to which the whole store looks forgotten does neither, and says so.

>>> from datetime import timezone
>>> from mailtlspolicy.sts.policy import parse_policy
>>> start = datetime(2026, 1, 1, tzinfo=timezone.utc)
>>> policy = parse_policy(b"version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 2592000\n")
>>> entry = Entry.of("1", policy, start)
>>> timedelta(hours=12) <= next_refresh("example", entry) - start <= timedelta(hours=24)
True
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from mailtlspolicy._json import VERSION
from mailtlspolicy._times import later
from mailtlspolicy.config import Sts
from mailtlspolicy.effects import Effect, Now, ask, in_turn
from mailtlspolicy.names import canonical
from mailtlspolicy.sts.cache import BACK_OFF, Entry, StsFailure
from mailtlspolicy.sts.discovery import fetch_policy, find_record
from mailtlspolicy.sts.effects import DropPolicy, ListPolicies, StoreFailure, StorePolicy
from mailtlspolicy.sts.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mailtlspolicy.config import Config
    from mailtlspolicy.effects import Program
    from mailtlspolicy.sts.values import FetchResult

INTERVAL = timedelta(days=1)  # RFC 8461 section 3.3 suggests once a day
MAX_PAUSE = timedelta(hours=6)  # so that a policy host that comes back is met the same day
DISUSE = timedelta(days=60)  # twice what a monthly newsletter needs
GRACE = timedelta(hours=1)  # between the note and the drop: a dozen refreshes, time for a clock to be put right
# How long nobody may have looked at any entry, by the clock of a refresh that drops: a month beyond `DISUSE`
MAX_UNCHECKED = timedelta(days=90)


@frozen
class RefreshPlan:
    """What is to be done with some entries, in their order.

    Attributes:
        due: domains and entries to refresh now.
        drop: domains and entries to remove.
        note: domains and entries to write, whose `ended` has changed; they were checked now, and not fetched.
        withheld: domains of entries that are neither noted nor dropped, because the clock can hardly be right.
    """

    due: tuple[tuple[str, Entry], ...]
    drop: tuple[tuple[str, Entry], ...] = ()
    note: tuple[tuple[str, Entry], ...] = ()
    withheld: tuple[str, ...] = ()


@frozen
class RefreshFailure:
    """A policy that could not be refreshed, which somebody should look at before it expires.

    Attributes:
        domain: the policy domain.
        mode: the mode of the policy in force, `enforce` or `testing`.
        failure: why.
        detail: what was seen, for people.
        expires: the last moment at which the policy is in force, in UTC.
        remaining: seconds until then.
    """

    domain: str
    mode: Mode
    failure: StsFailure
    detail: str
    expires: datetime
    remaining: int

    def __str__(self) -> str:
        return f"{self.domain}: {self.failure}, in force (mode {self.mode}) until {self.expires}: {self.detail}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "domain": self.domain,
            "mode": self.mode,
            "failure": self.failure,
            "detail": self.detail,
            "expires": self.expires.isoformat(),
            "remaining": self.remaining,
        }


@frozen
class RefreshReport:
    """What a refresh did.

    Attributes:
        refreshed: the domains whose policy was fetched again.
        failed: those that could not be, but for policies of mode "none" (RFC 8461 section 3.3).
        dropped: the domains removed from the store.
        store_failures: what is wrong with the store.
    """

    refreshed: tuple[str, ...] = ()
    failed: tuple[RefreshFailure, ...] = ()
    dropped: tuple[str, ...] = ()
    store_failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = {
            "refreshed": self.refreshed,
            "failed": self.failed,
            "dropped": self.dropped,
            "store failures": self.store_failures,
        }
        return ", ".join(f"{name} {len(items)}" for name, items in parts.items())

    def to_json(self) -> dict[str, Any]:
        """The JSON form, domains in alphabetical order."""
        return {
            "version": VERSION,
            "refreshed": sorted(self.refreshed),
            "failed": [failure.to_json() for failure in sorted(self.failed, key=lambda failure: failure.domain)],
            "dropped": sorted(self.dropped),
            "store_failures": list(self.store_failures),
        }


def next_refresh(domain: str, entry: Entry) -> datetime:
    """When an entry with a policy is next due, in UTC.

    Raises:
        ValueError: the entry has no policy.
    """
    if entry.policy is None or entry.fetched is None:
        raise ValueError(f"there is no policy of {domain} to refresh")
    interval = min(INTERVAL, timedelta(seconds=entry.policy.max_age) / 2)
    spread = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:4], "big") / 2**32
    due = later(entry.fetched, interval * (1 + spread) / 2)
    if entry.failed and entry.failures:
        pause = min(BACK_OFF * 2 ** min(entry.failures - 1, 16), MAX_PAUSE)
        due = max(due, later(max(failed.at for failed in entry.failed), pause))
    return due


def plan_refresh(
    entries: Iterable[tuple[str, Entry]], now: datetime, last_checked: datetime | None = None
) -> RefreshPlan:
    """Choose what to refresh now and what to drop (RFC 8461 sections 3.3 and 10.2).

    Args:
        entries: domains and entries.
        now: an aware time in UTC.
        last_checked: when somebody last looked at any entry, as far as that is known beside these.
    """
    due: list[tuple[str, Entry]] = []
    drop: list[tuple[str, Entry]] = []
    note: list[tuple[str, Entry]] = []
    for domain, entry in entries:
        last_checked = entry.checked if last_checked is None else max(last_checked, entry.checked)
        is_disused = now - entry.used >= DISUSE
        if entry.policy_in_force(now) is not None:
            lives = entry if entry.ended is None else evolve(entry, ended=None)
            if not is_disused and (next_refresh(domain, entry) <= now or _is_stuck(entry, now)):
                due.append((domain, lives))
            elif lives is not entry:
                note.append((domain, evolve(lives, checked=now)))
        elif is_disused:
            if entry.ended is None or entry.ended > now:
                note.append((domain, evolve(entry, ended=now, checked=now)))
            elif now - entry.ended >= GRACE:
                drop.append((domain, entry))
    if last_checked is not None and now > later(last_checked, MAX_UNCHECKED):
        return RefreshPlan(tuple(due), withheld=tuple(domain for domain, _ in (*drop, *note)))
    return RefreshPlan(tuple(due), tuple(drop), tuple(note))


def _is_stuck(entry: Entry, now: datetime) -> bool:
    """Whether a clock since put back has moved the next refresh too far away; the back-off is kept all the same."""
    return entry.is_from_the_future(now) and not any(entry.back_off(failed.id, now) for failed in entry.failed)


@frozen
class Progress(Effect[None]):
    """Tell who watches a refresh what became of a domain."""

    performer = "progress"
    answers = (type(None),)

    report: RefreshReport


def refresh(*, at_once: int | None, configure: Callable[[str], Config]) -> Program[RefreshReport]:
    """Go through the policy store once: refresh what is due, drop what is disused.

    The program behind `Engine.refresh`.

    Args:
        at_once: how many domains to refresh side by side; None for any number.
        configure: gives the configuration for a policy domain.
    """
    now = (yield from ask(Now())).wall
    done: list[RefreshReport] = []
    last_checked: datetime | None = None
    cursor: str | None = ""
    while cursor is not None:
        page = yield from ask(ListPolicies(cursor))
        if isinstance(page, StoreFailure):
            done.append(RefreshReport(store_failures=(page.detail,)))
            break
        readable = {domain: entry for domain, entry in page.entries if _is_policy_domain(domain)}
        strange = [domain for domain, _ in page.entries if domain not in readable]  # of another writer's
        done.append(RefreshReport(store_failures=tuple(f"{domain!r:.80} is no policy domain" for domain in strange)))
        plan = plan_refresh(readable.items(), now, last_checked)
        last_checked = max(filter(None, [last_checked, *(entry.checked for entry in readable.values())]), default=None)
        done.append(_clock_doubted(plan.withheld))
        tasks = [_drop(domain, entry) for domain, entry in plan.drop]
        tasks += [_note(domain, entry) for domain, entry in plan.note]
        tasks += [_refresh(domain, entry, configure) for domain, entry in plan.due]
        tasks += [_heal(domain, bad, configure) for domain, bad in page.failures]
        done += yield from in_turn(map(_told, tasks), at_once)
        cursor = page.cursor
    return _sum(done)


def _told(task: Program[RefreshReport]) -> Program[RefreshReport]:
    """Do something for one domain, and tell."""
    report = yield from task
    yield from ask(Progress(report))
    return report


def _sum(reports: Sequence[RefreshReport]) -> RefreshReport:
    return RefreshReport(
        tuple(chain.from_iterable(report.refreshed for report in reports)),
        tuple(chain.from_iterable(report.failed for report in reports)),
        tuple(chain.from_iterable(report.dropped for report in reports)),
        tuple(chain.from_iterable(report.store_failures for report in reports)),
    )


def _refresh(domain: str, entry: Entry | None, configure: Callable[[str], Config]) -> Program[RefreshReport]:
    """Fetch the policy of a domain again; None stands for an entry that can not be read."""
    config = configure(domain)
    if config.sts is Sts.OFF:
        return RefreshReport()
    found = yield from find_record(domain, config)  # first: the policy is never older than the id kept with it
    fetched = yield from fetch_policy(domain, config)
    now = (yield from ask(Now())).wall  # what is fetched counts as fetched now
    entry = Entry(checked=now, used=now) if entry is None else entry
    if fetched.is_own:  # nothing was learned of the domain
        return _failed(domain, entry, fetched, now)
    announced = None if found.record is None else found.record.id
    if fetched.policy is not None:
        # Without a record the id of another policy is unknown: who next sees a record fetches again (section 10.2).
        policy_id = announced or (entry.id if fetched.policy == entry.policy else None)
        renewed = entry.with_policy(policy_id, fetched.policy, now)
        report = RefreshReport(refreshed=(domain,))
    else:
        renewed = entry.with_failure(announced, now, fetched.failure or StsFailure.FETCH_ERROR)
        report = _failed(domain, entry, fetched, now)
    unwritten = yield from ask(StorePolicy(domain, renewed))
    return report if unwritten is None else _sum((report, _store_failed(domain, unwritten)))


def _heal(domain: str, bad: StoreFailure, configure: Callable[[str], Config]) -> Program[RefreshReport]:
    """Fetch the policy of a domain whose entry is unreadable, which makes the mail to it wait."""
    report = _store_failed(domain, bad)
    if not _is_policy_domain(domain):
        return report
    healed = yield from _refresh(domain, None, configure)
    return healed if healed.refreshed else report


def _failed(domain: str, entry: Entry, fetched: FetchResult, now: datetime) -> RefreshReport:
    """The report on a policy that could not be refreshed; one of mode "none" is going away, and nobody is told."""
    if entry.policy is None or entry.expires is None or fetched.failure is None or entry.policy.mode is Mode.NONE:
        return RefreshReport()
    remaining = int((entry.expires - now).total_seconds())
    bad = RefreshFailure(domain, entry.policy.mode, fetched.failure, fetched.detail, entry.expires, remaining)
    return RefreshReport(failed=(bad,))


def _is_policy_domain(domain: str) -> bool:
    try:
        return canonical(domain) == domain
    except ValueError:
        return False


def _drop(domain: str, entry: Entry) -> Program[RefreshReport]:
    bad = yield from ask(DropPolicy(domain, entry))
    return RefreshReport(dropped=(domain,)) if bad is None else _store_failed(domain, bad)


def _note(domain: str, entry: Entry) -> Program[RefreshReport]:
    bad = yield from ask(StorePolicy(domain, entry))
    return RefreshReport() if bad is None else _store_failed(domain, bad)


def _clock_doubted(withheld: tuple[str, ...]) -> RefreshReport:
    if not withheld:
        return RefreshReport()
    fact = f"by this clock nobody has looked at any entry for {MAX_UNCHECKED.days} days: is it right?"
    return RefreshReport(store_failures=(f"{withheld[0]!r:.80} and {len(withheld) - 1} more are not dropped: {fact}",))


def _store_failed(domain: str, bad: StoreFailure) -> RefreshReport:
    return RefreshReport(store_failures=(f"{domain!r:.80}: {bad.detail}",))
