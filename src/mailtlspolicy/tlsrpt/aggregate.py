"""What is counted of the sessions with one policy domain on one UTC day: RFC 8460 sections 4.1 and 4.2.

Aggregates add up: those that several machines, processes or threads made of the same domain and day are merged before a
report is made of them; each thread has its own. What a hostile domain could let grow is bounded; the totals stay exact.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Any

from attrs import define, field

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy.names import canonical
from mailtlspolicy.tlsrpt.attribution import policy_domain, sessions
from mailtlspolicy.tlsrpt.values import MAX_COUNT, FailureDetails, PolicyReport, ReportedPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mailtlspolicy.delivery.outcome import Outcome
    from mailtlspolicy.tlsrpt.attribution import Session

# Octets of JSON that the policies and failure details of one report may take, of the ten megabytes that receivers take
# (section 5.2): some 15,000 details. What comes later counts for its type alone, which the other two megabytes hold.
MAX_OCTETS = 8 * 2**20
# Reckoned for each element of an array beside its text, for punctuation, and counts with their names. That makes 29,127
# elements at most, which readers take too (`reading.MAX_ELEMENTS`)
ELEMENT_OCTETS = 288
BARE_ELEMENTS = 12  # of each policy: its summary, and one element of failure details a result type


@define
class _Tally:
    """What is counted for one policy."""

    successful: int = 0
    failed: int = 0
    failures: Counter[FailureDetails] = field(factory=Counter)


@define
class Aggregate:
    """The sessions with one policy domain on one UTC day.

    Attributes:
        domain: the policy domain, canonical.
        day: the day in UTC.
    """

    domain: str = field(converter=canonical)
    day: date
    _tallies: dict[ReportedPolicy, _Tally] = field(factory=dict, init=False)
    _octets: int = field(default=0, init=False, eq=False)

    def add(self, outcome: Outcome) -> None:
        """Count the sessions of an outcome.

        Raises:
            ValueError: it is of another domain or day.
        """
        if (policy_domain(outcome.plan.next_hop), outcome.at.date()) != (self.domain, self.day):
            raise ValueError(f"the outcome is not of {self.domain} on {self.day}")
        for session in sessions(outcome):
            self.count(session)

    def count(self, session: Session) -> None:
        """Count one session."""
        for judgement in session:
            failures = tuple((details, 1) for details in judgement.failures)
            self._add(PolicyReport(judgement.policy, int(not judgement.failed), int(judgement.failed), failures))

    def merge(self, other: Aggregate) -> None:
        """Add what another has counted of the same domain and day.

        Raises:
            ValueError: it is of another domain or day.
        """
        if (other.domain, other.day) != (self.domain, self.day):
            raise ValueError(f"{other.domain} on {other.day} does not belong to {self.domain} on {self.day}")
        for policy in other.policies:
            self._add(policy)

    @property
    def policies(self) -> tuple[PolicyReport, ...]:
        """What a report says of each policy (section 4.4), always in the same order."""
        return tuple(
            PolicyReport(
                policy,
                min(tally.successful, MAX_COUNT),
                min(tally.failed, MAX_COUNT),
                tuple(
                    (details, min(count, MAX_COUNT))
                    for details, count in sorted(tally.failures.items(), key=lambda item: item[0].order)
                ),
            )
            for policy, tally in sorted(self._tallies.items(), key=lambda item: item[0].order)
        )

    def _add(self, counted: PolicyReport) -> None:
        """Add counts to a policy; beyond the bounds to its type and to result types alone, which do not count there."""
        tally = self._tally(counted.policy)
        tally.successful += counted.successful or 0
        tally.failed += counted.failed or 0
        for details, count in counted.failures:
            bare = FailureDetails(result_type=details.result_type)
            known = details in tally.failures or details == bare or self._takes(details)
            tally.failures[details if known else bare] += count or 0

    def _tally(self, policy: ReportedPolicy) -> _Tally:
        bare = ReportedPolicy(policy.type, self.domain)
        known = policy in self._tallies or policy == bare or self._takes(policy)
        return self._tallies.setdefault(policy if known else bare, _Tally())

    def _takes(self, new: ReportedPolicy | FailureDetails) -> bool:
        """Whether there is room for one more, which is then taken."""
        elements = 1
        if isinstance(new, ReportedPolicy):
            elements = BARE_ELEMENTS + len(new.string) + len(new.mx_host)
        octets = len(json.dumps(new.to_json(), ensure_ascii=False).encode()) + elements * ELEMENT_OCTETS
        if self._octets + octets > MAX_OCTETS:
            return False
        self._octets += octets
        return True

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"version", "domain", "day", "policies"}, the last as in a report."""
        return {
            "version": VERSION,
            "domain": self.domain,
            "day": self.day.isoformat(),
            "policies": [policy.to_json() for policy in self.policies],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Aggregate:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        aggregate = cls(data["domain"], date.fromisoformat(data["day"]))
        for policy in data["policies"]:
            aggregate._add(PolicyReport.from_json(policy))
        return aggregate


@define
class Aggregates:
    """Aggregates of any number of policy domains and days: what a mail server counts, in one thread.

    There is one for every domain of an outcome that was added; who adds those alone whose domain asks for reports
    (`Engine.find_tlsrpt`) needs less memory.
    """

    _by_key: dict[tuple[date, str], Aggregate] = field(factory=dict, init=False)

    def add(self, outcome: Outcome) -> None:
        """Count the sessions of an outcome, under its policy domain and day; one without any leaves no trace.

        Raises:
            ValueError: as `sessions`.
        """
        domain = policy_domain(outcome.plan.next_hop)
        counted = sessions(outcome)
        if domain is None or not counted:
            return
        aggregate = self._of(domain, outcome.at.date())
        for session in counted:
            aggregate.count(session)

    def merge(self, others: Iterable[Aggregate]) -> None:
        """Add what others have counted: an `Aggregates`, or any aggregates."""
        for other in others:
            self._of(other.domain, other.day).merge(other)

    def take(self, before: date) -> list[Aggregate]:
        """Remove the aggregates of all days before this one, and return them: those that reports are due of.

        A delivery that began before midnight and ends after it still belongs to the day before. Who takes the day too
        soon makes a second report of the rest, which needs a `unique_id` of its own: an hour after midnight is late
        enough for most.
        """
        taken = [aggregate for aggregate in self if aggregate.day < before]
        for aggregate in taken:
            del self._by_key[aggregate.day, aggregate.domain]
        return taken

    def __iter__(self) -> Iterator[Aggregate]:
        """The aggregates, by day and domain."""
        return iter([aggregate for _, aggregate in sorted(self._by_key.items())])

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_key)

    def _of(self, domain: str, day: date) -> Aggregate:
        aggregate = self._by_key.get((day, domain))
        if aggregate is None:
            aggregate = self._by_key[day, domain] = Aggregate(domain, day)
        return aggregate

    def to_json(self) -> dict[str, Any]:
        """The JSON form: {"version", "aggregates"}."""
        return {"version": VERSION, "aggregates": [aggregate.to_json() for aggregate in self]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Aggregates:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        aggregates = cls()
        aggregates.merge(map(Aggregate.from_json, data["aggregates"]))
        return aggregates
