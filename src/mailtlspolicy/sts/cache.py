r"""What is remembered of a policy domain: the last policy fetched, and the fetches that failed since.

RFC 8461 sections 3.3 and 5.1:

- A policy is in force while its age, counted from the last fetch, does not exceed its `max_age`. An unchanged id in the
  DNS prolongs nothing.
- After a failed fetch the same id is not fetched again for five minutes; another id is.
- Several senders may share a store: `merge` says what stands after two of them wrote, so that a policy is not lost to a
  slower one that had fetched none.

>>> from datetime import datetime, timedelta, timezone
>>> start = datetime(2026, 1, 1, tzinfo=timezone.utc)
>>> policy = parse_policy(b"version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n")
>>> entry = Entry.of("1", policy, start)
>>> entry.policy_in_force(start + timedelta(days=1)) is policy
True
>>> entry.policy_in_force(start + timedelta(days=1, seconds=1)) is None
True
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve, frozen

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._times import from_iso, in_utc, later
from mailtlspolicy._words import Word
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.sts.record import is_id

BACK_OFF = timedelta(minutes=5)  # RFC 8461 section 3.3: at least five minutes per id
MAX_FAILED = 8  # failed ids remembered; honest domains have one, a hostile one could make more without end
TOUCH = timedelta(hours=1)  # how exact `used` and `checked` are, so that not every delivery writes to the store
# How far the time of an entry may lie ahead: clocks of senders differ, and a long refresh tells when it began
MAX_AHEAD = timedelta(hours=12)


class StsFailure(Word):
    """Why nothing newer was learned of a policy domain."""

    LOCAL_ERROR = "local-error"
    DNS_ERROR = "dns-error"
    RECORD_MISSING = "record-missing"
    RECORD_INVALID = "record-invalid"
    FETCH_ERROR = "fetch-error"
    WEBPKI_INVALID = "webpki-invalid"
    POLICY_INVALID = "policy-invalid"


@frozen
class FailedFetch:
    """A fetch that failed.

    Attributes:
        id: the id in the TXT record that asked for it; None where a refresh saw no record.
        at: when, in UTC.
        failure: why.
    """

    id: str | None
    at: datetime
    failure: StsFailure

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"id", "at", "failure"}."""
        return {"id": self.id, "at": self.at.isoformat(), "failure": self.failure}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FailedFetch:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        return cls(_id_or_none(data["id"]), _time(data["at"]), StsFailure(data["failure"]))


@frozen(kw_only=True)
class Entry:
    """What a policy store keeps of one policy domain.

    Attributes:
        policy: the policy that was fetched last, or None.
        id: the id in the TXT record when that was, or None where it was not to be seen.
        fetched: when that was, in UTC; None without a policy.
        checked: when discovery or a refresh last looked, to an hour.
        used: when a delivery last asked, to an hour.
        failed: the fetches that failed since, the latest of each id.
        failures: how many failed in a row.
        ended: when a refresh found the entry disused and out of force, in UTC; None where none has, since it was in
            force.
        unknown: members of the JSON form that a later version of this library added, each with its value as JSON.
            They are kept, since several versions may share a store.
    """

    policy: Policy | None = None
    id: str | None = None
    fetched: datetime | None = None
    checked: datetime
    used: datetime
    failed: tuple[FailedFetch, ...] = ()
    failures: int = 0
    ended: datetime | None = None
    unknown: tuple[tuple[str, str], ...] = ()

    def __attrs_post_init__(self) -> None:
        if (self.policy is None) != (self.fetched is None):
            raise ValueError("an entry has a policy and the time of its fetch, or neither")

    @classmethod
    def of(cls, policy_id: str | None, policy: Policy, now: datetime) -> Entry:
        """A policy that was just fetched."""
        return cls(policy=policy, id=policy_id, fetched=now, checked=now, used=now)

    @property
    def expires(self) -> datetime | None:
        """The last moment at which the policy is in force; None without a policy."""
        if self.policy is None or self.fetched is None:
            return None
        return later(self.fetched, timedelta(seconds=self.policy.max_age))

    def policy_in_force(self, now: datetime) -> Policy | None:
        """The policy, unless its age exceeds its `max_age` (RFC 8461 section 5.1)."""
        expires = self.expires
        return self.policy if expires is not None and now <= expires else None

    def spares_fetch(self, policy_id: str, now: datetime) -> bool:
        """Whether the policy in force is the one announced (RFC 8461 section 3.3).

        One from the future, which a clock since put back has given too long a life, is to be fetched again.
        """
        if self.is_from_the_future(now):
            return False
        return self.id == policy_id and self.policy_in_force(now) is not None

    def is_from_the_future(self, now: datetime) -> bool:
        """Whether what is remembered was fetched, or failed to be, at a time that has not come yet."""
        times = [failed.at for failed in self.failed]
        if self.fetched is not None:
            times.append(self.fetched)
        return any(time > later(now, MAX_AHEAD) for time in times)

    def back_off(self, policy_id: str | None, now: datetime) -> FailedFetch | None:
        """The failed fetch because of which this id is not to be fetched now (RFC 8461 section 3.3), or None."""
        for failed in self.failed:
            if failed.id == policy_id and abs(now - failed.at) < BACK_OFF:
                return failed
        return None

    def with_policy(self, policy_id: str | None, policy: Policy, now: datetime) -> Entry:
        """The entry after a fetch, which replaces the policy, whatever its mode and lifetime (RFC 8461 section 10.3).

        What failed less than five minutes ago for another id stays known: the back-off is per id.
        """
        others = (failed for failed in self.failed if failed.id != policy_id and self.back_off(failed.id, now))
        fresh = Entry.of(policy_id, policy, now)
        return evolve(fresh, used=self.used, failed=tuple(others), unknown=self.unknown)

    def with_failure(self, policy_id: str | None, now: datetime, failure: StsFailure) -> Entry:
        """The entry after a failed fetch: what was known stays (RFC 8461 section 3.3)."""
        others = tuple(failed for failed in self.failed if failed.id != policy_id)
        failed = (FailedFetch(policy_id, now, failure), *others)[:MAX_FAILED]
        return evolve(self, checked=now, failed=failed, failures=self.failures + 1)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, which stores keep and worlds hold under "cache"."""
        return {name: json.loads(value) for name, value in self.unknown} | {
            "version": VERSION,
            "id": self.id,
            "fetched": None if self.fetched is None else self.fetched.isoformat(),
            "policy": None if self.policy is None else self.policy.text,
            "checked": self.checked.isoformat(),
            "used": self.used.isoformat(),
            "failed": [failed.to_json() for failed in self.failed],
            "failures": self.failures,
            "ended": None if self.ended is None else self.ended.isoformat(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """Read what `to_json` wrote, here or in an earlier version, or "id", "fetched" and "policy" alone.

        Raises:
            KeyError, TypeError, ValueError: the object is no entry, or its policy is none by RFC 8461 section 3.2.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("failed", []), list):
            raise TypeError("an entry is an object, and what failed a list in it")
        if "version" in data:  # which the first entries ever written lack
            require_version(data)
        policy = None if data.get("policy") is None else policy_from_json(data["policy"])
        fetched = None if policy is None else _time(data["fetched"])
        failed = tuple(FailedFetch.from_json(item) for item in data.get("failed", ()))
        seen = fetched or max((item.at for item in failed), default=None)
        checked = _time(data["checked"]) if "checked" in data else seen
        used = _time(data["used"]) if "used" in data else seen
        if checked is None or used is None or len(failed) > MAX_FAILED:
            raise ValueError("an entry holds a policy, or a few failed fetches")
        failures = data.get("failures", len(failed))
        if not isinstance(failures, int) or isinstance(failures, bool) or failures < 0:
            raise TypeError(f"failures is a number, not {failures!r}")
        return cls(
            policy=policy,
            id=_id_or_none(data.get("id")),
            fetched=fetched,
            checked=checked,
            used=used,
            failed=failed,
            failures=failures,
            ended=None if data.get("ended") is None else _time(data["ended"]),
            unknown=tuple((name, json.dumps(value)) for name, value in data.items() if name not in _MEMBERS),
        )


_MEMBERS = {"version", "id", "fetched", "policy", "checked", "used", "failed", "failures", "ended"}


def merge(stored: Entry | None, entry: Entry) -> Entry:
    """What stands in a store after an entry is written over another.

    The policy that was fetched later stays. Only one that the writer has just fetched replaces one from the writer's
    future, where a clock since put back has put it. `ended` is the writer's; unknown members of both stay.
    """
    if stored is None:
        return entry
    unknown = tuple((dict(stored.unknown) | dict(entry.unknown)).items())
    if stored.fetched is None:
        return evolve(entry, unknown=unknown)
    is_older = entry.fetched is None or entry.fetched < stored.fetched
    is_fresh = entry.fetched == entry.checked
    is_wrong = stored.fetched > later(entry.checked, MAX_AHEAD)
    kept = stored if is_older and not (is_fresh and is_wrong) else entry
    return evolve(
        kept,
        used=max(stored.used, entry.used),
        checked=max(stored.checked, entry.checked),
        ended=entry.ended,
        unknown=unknown,
    )


def policy_from_json(value: Any) -> Policy:
    """Read the text of a policy; raises `TypeError` or `ValueError` on anything else."""
    policy = parse_policy(_text(value).encode())
    if not isinstance(policy, Policy):
        raise ValueError(f"the policy of the entry is none: {policy}")
    return policy


def _time(value: Any) -> datetime:
    return in_utc(from_iso(_text(value)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is due, not {value!r:.60}")
    return value


def _id_or_none(value: Any) -> str | None:
    if value is not None and not is_id(_text(value)):
        raise ValueError(f"{value!r:.60} is no id of a TXT record")
    return None if value is None else str(value)
