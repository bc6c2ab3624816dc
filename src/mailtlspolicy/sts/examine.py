"""What a policy domain publishes for MTA-STS, whether or not a sender would use it: for operators and checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy._json import VERSION
from mailtlspolicy.effects import ask, together
from mailtlspolicy.sts.discovery import fetch_policy, find_record
from mailtlspolicy.sts.effects import LoadPolicy, StoreFailure

if TYPE_CHECKING:
    from mailtlspolicy.config import Config
    from mailtlspolicy.effects import Program
    from mailtlspolicy.sts.cache import Entry
    from mailtlspolicy.sts.values import FetchResult, RecordSearch


@frozen
class Examination:
    """What was found.

    Attributes:
        domain: the policy domain.
        found: what the DNS announces.
        fetched: what the policy host serves.
        cached: what the policy store has.
    """

    domain: str
    found: RecordSearch
    fetched: FetchResult
    cached: Entry | StoreFailure | None = None

    @property
    def passed(self) -> bool:
        """Whether a sender would discover a policy."""
        return self.found.record is not None and self.fetched.policy is not None

    def to_json(self) -> dict[str, Any]:
        """The JSON form: what was found of each, with its remarks, and why there is none."""
        found, fetched, cached = self.found, self.fetched, self.cached
        return {
            "version": VERSION,
            "domain": self.domain,
            "record": None if found.record is None else found.record.to_json(),
            "record_failure": found.failure,
            "record_detail": found.detail,
            "announced": [text.decode("ascii", "backslashreplace") for text in found.announced],
            "policy": None if fetched.policy is None else fetched.policy.to_json(),
            "policy_failure": fetched.failure,
            "policy_detail": fetched.detail,
            "body": None if fetched.body is None else fetched.body.decode("utf-8", "backslashreplace"),
            "cached": None if cached is None or isinstance(cached, StoreFailure) else cached.to_json(),
            "store_failure": cached.detail if isinstance(cached, StoreFailure) else None,
            "passed": self.passed,
        }


def examine(domain: str, config: Config) -> Program[Examination]:
    """Ask for the record, the policy and the cached entry of a (canonical) policy domain; nothing is stored."""
    published = together(find_record(domain, config), fetch_policy(domain, config))
    cached, (found, fetched) = yield from together(ask(LoadPolicy(domain)), published)
    return Examination(domain, found, fetched, cached)
