"""Discovery: from a policy domain to the policy in force, and why nothing newer was learned.

RFC 8461 sections 3.1, 3.3 and 5.1:

- What is cached and what the DNS announces are asked for together, at every delivery, so that nothing is called
  permanent before the record was checked (section 5).
- One valid TXT record with the id of a policy in force: that policy, and no fetch. Any other id: a fetch, unless one
  for this id failed less than five minutes ago.
- Whatever fails, a policy in force stays in force; without one the domain has none, as if it did not implement
  MTA-STS.
- The policy domain is the next-hop's name: never a parent, never an alias target (sections 1.1 and 3.4).
- A store that can not be read may hold a policy. If nothing newer is learned either, nobody knows, and mail waits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from mailtlspolicy._refusal import Refusal, RemarkKind
from mailtlspolicy._times import later
from mailtlspolicy.config import StsMediaType, StsOnDnsError
from mailtlspolicy.dns.effects import FailureKind, LookupFailure, RecordType
from mailtlspolicy.dns.lookups import lookup
from mailtlspolicy.effects import Now, ask, together
from mailtlspolicy.names import MAX_NAME_OCTETS
from mailtlspolicy.sts.cache import BACK_OFF, TOUCH, Entry, StsFailure
from mailtlspolicy.sts.effects import Fetch, FetchFailure, FetchFailureKind, LoadPolicy, StoreFailure, StorePolicy
from mailtlspolicy.sts.policy import MAX_MAX_AGE, Mode, Policy, parse_policy
from mailtlspolicy.sts.record import StsRecord, announcements, parse_record
from mailtlspolicy.sts.values import Discovery, FetchResult, RecordSearch, Source
from mailtlspolicy.trace import Step, counted
from mailtlspolicy.verdict import ResultType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from mailtlspolicy.config import Config
    from mailtlspolicy.effects import Program

# RFC 9110 section 8.3.1: type and subtype are case-insensitive; parameters are ignored (RFC 8461 section 3.2)
_TEXT_PLAIN = re.compile(r"text/plain[ \t]*(?:;|\Z)", re.IGNORECASE)

# Octets kept for reports of a file that is no policy, and may be anything; most policies are shorter
MAX_REJECTED = 4096

# RFC 8460 section 4.3.2.2
RESULT_TYPES = {
    StsFailure.FETCH_ERROR: ResultType.STS_POLICY_FETCH_ERROR,
    StsFailure.WEBPKI_INVALID: ResultType.STS_WEBPKI_INVALID,
    StsFailure.POLICY_INVALID: ResultType.STS_POLICY_INVALID,
}


@frozen
class Discovered:
    """What discovery came to.

    Attributes:
        known: what is known; None where the domain announces nothing, and no policy of it is cached.
        ttl: seconds for which the DNS, the policy host and the policy store say so, 0 where one of them could not be
            asked or said nothing; None where none was asked.
        again: when a fetch that failed may be made again; None where none has.
        trace: the steps of the decision.
    """

    known: Discovery | None = None
    ttl: int | None = None
    again: datetime | None = None
    trace: tuple[Step, ...] = ()


def discover(domain: str, config: Config) -> Program[Discovered]:
    """Find the policy in force for a policy domain (RFC 8461 section 5.1).

    Args:
        domain: the policy domain, canonical.
        config: what the operator chose.
    """
    loaded, found = yield from together(ask(LoadPolicy(domain)), find_record(domain, config))
    now = (yield from ask(Now())).wall
    unreadable = loaded.detail if isinstance(loaded, StoreFailure) else None
    trace = [Step("RFC 8461 section 3.1", found.detail, _CONSEQUENCES[found.failure, found.record is not None])]
    entry = loaded if isinstance(loaded, Entry) else Entry(checked=now, used=now)
    learned = yield from _learn(domain, entry, found, now, config, trace)
    now = (yield from ask(Now())).wall  # a fetch takes its time
    entry = learned.entry
    policy = entry.policy_in_force(now)
    if policy is not None and now - entry.used >= TOUCH:
        entry = evolve(entry, used=now, checked=now)
    unwritten = (yield from ask(StorePolicy(domain, entry))) if _is_news(entry, loaded) else None
    ttl = found.ttl if unreadable is None and unwritten is None and not learned.is_own else 0
    if policy is None and found.record is None and found.failure is None and unreadable is None:
        return Discovered(None, ttl, trace=tuple(trace))
    announced = None if found.record is None else found.record.id
    failure = learned.failure
    if policy is not None and announced is None and failure is None:
        failure = StsFailure.RECORD_MISSING
    known = Discovery(
        domain=domain,
        policy=policy,
        id=announced if policy is None else entry.id,
        source=None if policy is None else learned.source,
        expires=None if policy is None else entry.expires,
        failure=failure,
        tlsrpt=_result_type(failure, policy) if learned.is_counted and not learned.is_own else None,
        detail=learned.detail,
        store_failure=unreadable or (None if unwritten is None else unwritten.detail),
        unknown=policy is None and (unreadable is not None or _is_unknown(failure, config, is_own=learned.is_own)),
        rejected=None if learned.rejected is None else learned.rejected[:MAX_REJECTED].decode("utf-8", "replace"),
        refusal=None if learned.refusal is None else learned.refusal.reason,
        is_own=learned.is_own,
    )
    return Discovered(known, ttl, learned.again, (*trace, *_closing_steps(known)))


@frozen
class _Learned:
    """What the record, and the policy host if it was asked, made of the entry."""

    entry: Entry
    failure: StsFailure | None
    detail: str
    source: Source = Source.CACHED
    is_counted: bool = True  # a failure of now, which is reported
    is_own: bool = False  # one of this system's, which is not
    again: datetime | None = None  # when what failed may be fetched again
    rejected: bytes | None = None
    refusal: Refusal | None = None


def _learn(
    domain: str, entry: Entry, found: RecordSearch, now: datetime, config: Config, trace: list[Step]
) -> Program[_Learned]:
    """Fetch what is announced, unless that is known or failed just now (RFC 8461 section 3.3)."""
    if found.record is None or entry.spares_fetch(found.record.id, now):
        return _Learned(entry, found.failure, found.detail, is_own=found.is_own)
    failed = entry.back_off(found.record.id, now)
    if failed is not None:
        detail = f"{failed.failure} at {failed.at.isoformat()}"
        trace.append(Step("RFC 8461 section 3.3", f"fetching this id failed: {detail}", "not fetched again so soon"))
        again = later(min(failed.at, now), BACK_OFF)
        return _Learned(entry, failed.failure, detail, is_counted=False, again=again)
    fetched = yield from fetch_policy(domain, config)
    now = (yield from ask(Now())).wall
    if fetched.policy is None:
        trace.append(Step("RFC 8461 section 3.3", fetched.detail, "nothing newer is known"))
        failure = fetched.failure or StsFailure.FETCH_ERROR
        if fetched.is_own:  # no failure of the policy host: no back-off, and nothing to report
            return _Learned(entry, failure, fetched.detail, is_own=True)
        entry = evolve(entry.with_failure(found.record.id, now, failure), used=now)
        again, body = later(now, BACK_OFF), fetched.body
        return _Learned(entry, failure, fetched.detail, again=again, rejected=body, refusal=fetched.refusal)
    trace.append(Step("RFC 8461 section 3.3", fetched.detail, "it is in force from now on"))
    if any(remark.kind is RemarkKind.MAX_AGE_CAPPED for remark in fetched.policy.warnings):
        fact = f"its max_age is above {MAX_MAX_AGE} seconds"
        trace.append(Step("RFC 8461 section 3.2", fact, "counted as that (erratum 7282)"))
    entry = evolve(entry.with_policy(found.record.id, fetched.policy, now), used=now)
    return _Learned(entry, None, fetched.detail, Source.FETCHED)


def find_record(domain: str, config: Config) -> Program[RecordSearch]:
    """Look for the one TXT record that announces a policy (RFC 8461 section 3.1)."""
    name = f"_mta-sts.{domain}"
    if len(name) > MAX_NAME_OCTETS:
        return RecordSearch(detail=f"{name} is too long for a name")
    answer = yield from lookup(name, RecordType.TXT, config)
    if isinstance(answer, LookupFailure):
        failure = StsFailure.LOCAL_ERROR if answer.kind is FailureKind.LOCAL else StsFailure.DNS_ERROR
        detail = f"the TXT lookup of {name} failed ({answer.kind})"
        return RecordSearch(failure=failure, detail=detail, ttl=0, is_own=answer.kind.is_own)
    announced = tuple(map(b"".join, announcements(record for record in answer.records if isinstance(record, tuple))))
    if not announced:
        return RecordSearch(detail=f"{name} has no TXT record of MTA-STS", ttl=answer.ttl)
    if len(announced) > 1:
        fact = f"{name} has {counted(len(announced), 'TXT record')} of MTA-STS"
        return RecordSearch(failure=StsFailure.RECORD_INVALID, detail=fact, announced=announced, ttl=answer.ttl)
    record = parse_record(announced)
    if isinstance(record, StsRecord):
        return RecordSearch(record, detail=f"{name} announces id {record.id}", announced=announced, ttl=answer.ttl)
    fact = f"the TXT record of {name} is invalid: {record}"
    return RecordSearch(failure=StsFailure.RECORD_INVALID, detail=fact, announced=announced, ttl=answer.ttl)


def fetch_policy(domain: str, config: Config) -> Program[FetchResult]:
    """Fetch the policy and judge the response (RFC 8461 sections 3.2 and 3.3)."""
    host = f"mta-sts.{domain}"
    if len(host) > MAX_NAME_OCTETS:
        return FetchResult(failure=StsFailure.FETCH_ERROR, detail=f"{host} is too long for a name")
    request = Fetch(host, config.max_policy_octets, config.max_fetch_seconds)
    response = yield from ask(request)
    if isinstance(response, FetchFailure):
        why = f"{response.kind} ({response.detail})" if response.detail else response.kind
        detail = f"{request.url} could not be fetched: {why}"
        return FetchResult(failure=_failure_of(response.kind), detail=detail, is_own=response.kind.is_own)
    if response.status != 200:
        return FetchResult(failure=StsFailure.FETCH_ERROR, detail=f"{request.url} has status {response.status}")
    content_type = "" if response.content_type is None else response.content_type.strip()
    if config.sts_media_type is StsMediaType.REQUIRE and _TEXT_PLAIN.match(content_type) is None:
        fact = f"{request.url} is served as {content_type[:80]!r}, not as text/plain"
        return FetchResult(failure=StsFailure.FETCH_ERROR, detail=fact)
    policy = parse_policy(response.body)
    if isinstance(policy, Policy):
        fact = f"{request.url} serves a policy of mode {policy.mode}"
        return FetchResult(policy, detail=fact, body=response.body)
    fact = f"{request.url} serves no valid policy: {policy}"
    return FetchResult(failure=StsFailure.POLICY_INVALID, detail=fact, body=response.body, refusal=policy)


def _failure_of(kind: FetchFailureKind) -> StsFailure:
    if kind is FetchFailureKind.LOCAL:
        return StsFailure.LOCAL_ERROR
    return StsFailure.WEBPKI_INVALID if kind.is_webpki else StsFailure.FETCH_ERROR


_CONSEQUENCES = {
    (None, True): "a policy is announced",
    (None, False): "no policy is announced",
    (StsFailure.RECORD_INVALID, False): "no policy can be discovered",
    (StsFailure.DNS_ERROR, False): "whether a policy is announced is unknown",
    (StsFailure.LOCAL_ERROR, False): "whether a policy is announced is unknown",
}


def _is_news(entry: Entry, loaded: Entry | StoreFailure | None) -> bool:
    """Whether there is something to write; a domain that never announced a policy leaves no trace in the store."""
    return entry != loaded and (entry.policy is not None or entry.failed != ())


def _result_type(failure: StsFailure | None, policy: Policy | None) -> ResultType | None:
    """How a failure is reported: where a policy is announced, or one other than "none" cached (RFC 8461 section 6)."""
    if failure is None:
        return None
    if failure in RESULT_TYPES:
        return RESULT_TYPES[failure]
    return None if policy is None or policy.mode is Mode.NONE else ResultType.STS_POLICY_FETCH_ERROR


def _is_unknown(failure: StsFailure | None, config: Config, *, is_own: bool) -> bool:
    """Whether to wait, where there is no policy in force; by the RFC alone a sender goes on (section 3.3)."""
    if failure is StsFailure.LOCAL_ERROR:  # what this system lacks says nothing of the domain
        return True
    return (is_own or failure is StsFailure.DNS_ERROR) and config.sts_on_dns_error is StsOnDnsError.DEFER


def _closing_steps(known: Discovery) -> Iterable[Step]:
    """The steps that follow from what is known in the end."""
    if known.store_failure is not None:
        yield Step("RFC 8461 section 5.1", f"the policy store failed: {known.store_failure}", "reported")
    if known.unknown:
        yield Step("RFC 8461 section 3.3", "whether a policy applies can not be known", "the mail waits")
    elif known.policy is None:
        yield Step("RFC 8461 section 3.3", "no policy is in force", "as if the domain did not implement MTA-STS")
    elif known.source is Source.CACHED:
        fact = f"a cached policy of mode {known.policy.mode} is in force until {known.expires}"
        yield Step("RFC 8461 section 3.3", fact, "it stays in force")
