"""Write down what a live run was told, as a world that replays to the same plan."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from mailtlspolicy.delivery.requiretls import KEYWORD
from mailtlspolicy.delivery.session import Connected, Secured, SessionFailure, Trouble
from mailtlspolicy.dns.effects import Answer, LookupFailure, Mx, RecordType
from mailtlspolicy.sts.effects import FetchFailure, FetchFailureKind, StoreFailure
from mailtlspolicy.sts.fetching import fetch_whole, whole_response
from mailtlspolicy.x509.certificates import Certificate
from mailtlspolicy.x509.pem import certificate_to_pem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from mailtlspolicy.delivery.session import Close, Connect, Ehlo, Reply, StartTls, Transmit, Transmitted
    from mailtlspolicy.dns.effects import Lookup
    from mailtlspolicy.engine import Connector, Resolver
    from mailtlspolicy.pkix import TrustStore
    from mailtlspolicy.sts.cache import Entry
    from mailtlspolicy.sts.effects import Fetch, Fetched, PolicyPage
    from mailtlspolicy.sts.fetching import Fetcher, Response
    from mailtlspolicy.sts.stores import PolicyStore

_POLICY_HOSTS = {
    FetchFailureKind.CERTIFICATE_EXPIRED: {"certificate": "expired"},
    FetchFailureKind.CERTIFICATE_HOST_MISMATCH: {"certificate": "wrong-name"},
    FetchFailureKind.CERTIFICATE_NOT_TRUSTED: {"certificate": "untrusted"},
    FetchFailureKind.TIMEOUT: {"error": "timeout"},
}


@define
class _RecordedSession:
    """A session, and what is written down of its server."""

    inner: Any
    seen: dict[str, Any]
    in_tls: bool = False


@frozen
class Recorder:
    """A resolver, fetcher, policy store and connector that pass everything through to real ones and keep it.

    Of the trust anchors it keeps those that issued what was presented.
    """

    resolver: Resolver
    fetcher: Fetcher | None = None
    policies: PolicyStore | None = None
    connector: Connector | None = None
    trust: TrustStore | None = None
    _answers: list[Answer | LookupFailure] = field(factory=list, init=False)
    _servers: dict[str, dict[str, Any]] = field(factory=dict, init=False)
    _presented: set[bytes] = field(factory=set, init=False)
    _https: dict[str, dict[str, Any]] = field(factory=dict, init=False)
    _cache: dict[str, Entry] = field(factory=dict, init=False)
    _store_failures: list[StoreFailure] = field(factory=list, init=False)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """As the resolver's."""
        answer = self.resolver.lookup(question)
        self._answers.append(answer)
        return answer

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        """As the fetcher's; the body is read whole at once.

        Raises:
            ValueError: there is none.
        """
        if self.fetcher is None:
            raise ValueError("nothing was injected that fetches")
        shown = fetch_whole(self.fetcher, request)
        self._https[request.policy_host] = _policy_host(shown)
        return whole_response(shown)

    def load(self, domain: str) -> Entry | StoreFailure | None:
        """As the policy store's."""
        entry = self._policies.load(domain)
        if isinstance(entry, StoreFailure):
            self._store_failures.append(entry)
        elif entry is not None:
            self._cache.setdefault(domain, entry)
        return entry

    def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As the policy store's."""
        return self._policies.store(domain, entry)

    def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        """As the policy store's."""
        return self._policies.drop(domain, entry)

    def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        """As the policy store's."""
        return self._policies.entries(cursor)

    @property
    def _policies(self) -> PolicyStore:
        if self.policies is None:
            raise ValueError("nothing was injected that keeps policies")
        return self.policies

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        """As the connector's."""
        shown = self._connections.connect(effect)
        seen = self._servers.setdefault(effect.address, {}).setdefault(str(effect.port), {})
        if isinstance(shown, Connected):
            if shown.greeting.code != 220:
                seen["greeting"] = str(shown.greeting)
            return evolve(shown, session=_RecordedSession(shown.session, seen))
        if shown.kind is Trouble.UNREACHABLE:
            seen["connect"] = "timeout" if shown.detail == "timed out" else "refused"
        else:
            seen["drop_after"] = "connect"
        return shown

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """As the connector's."""
        session: _RecordedSession = effect.session
        shown = self._connections.ehlo(evolve(effect, session=session.inner))
        phase = session.seen.setdefault("tls", {}) if session.in_tls else session.seen
        if isinstance(shown, SessionFailure):  # silence too is an end in a world
            session.seen["drop_after"] = "handshake" if session.in_tls else "EHLO"
        elif effect.helo or not shown.success:
            phase.setdefault("replies", {})["HELO" if effect.helo else "EHLO"] = str(shown)
        elif session.in_tls:
            session.seen["requiretls"] = KEYWORD in shown.keywords
        elif "STARTTLS" not in shown.keywords:
            session.seen["starttls"] = "absent"
        return shown

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        """As the connector's."""
        session: _RecordedSession = effect.session
        shown = self._connections.start_tls(evolve(effect, session=session.inner))
        if isinstance(shown, Secured):
            session.in_tls = True
            self._presented.update(shown.chain)
            chain = [f"pem:{certificate_to_pem(der)}" for der in shown.chain]
            if effect.sni is None:
                session.seen["chain"] = chain
            else:  # what one server name was shown stands for the others too, until they are asked for
                session.seen.setdefault("chain", chain)
                session.seen.setdefault("by_sni", {})[effect.sni] = chain
        elif isinstance(shown, SessionFailure) and shown.alert:
            session.seen.setdefault("sni", []).append("required" if effect.sni is None else "strict")
        elif isinstance(shown, SessionFailure):
            session.seen |= {
                Trouble.INJECTED: {"behind_starttls": "250 something"},
                Trouble.HANDSHAKE: {"starttls": "fail"},
            }.get(shown.kind, {"drop_after": "STARTTLS"})
        else:
            session.seen |= {"starttls": "refused", "replies": {"STARTTLS": str(shown)}}
        return shown

    def transmit(self, effect: Transmit) -> Transmitted:
        """As the connector's. The replies to a message are not kept: a world replays decisions, not mail."""
        return self._connections.transmit(evolve(effect, session=effect.session.inner))

    def close(self, effect: Close) -> None:
        """As the connector's."""
        self._connections.close(evolve(effect, session=effect.session.inner))

    @property
    def _connections(self) -> Connector:
        if self.connector is None:
            raise ValueError("nothing was injected that connects")
        return self.connector

    def to_world(self, now: datetime) -> dict[str, Any]:
        """The world's JSON object, at this (aware) time.

        A name that does not exist above one that does (which RFC 8020 rules out) is recorded as one without data.

        Raises:
            ValueError: the resolver contradicted itself or the policy store failed, so that no world is like this.
        """
        if self._store_failures:
            raise ValueError(f"the policy store failed: {self._store_failures[0].detail}")
        answers = [answer for answer in self._answers if isinstance(answer, Answer)]
        failures = [answer for answer in self._answers if isinstance(answer, LookupFailure)]
        return {
            "now": now.isoformat(),
            "zones": _zones(answers),
            "failures": [_failure(failure) for failure in failures],
            "https": self._https,
            "cache": {domain: evolve(entry, unknown=()).to_json() for domain, entry in self._cache.items()},
            "trust": [f"pem:{certificate_to_pem(anchor)}" for anchor in self._anchors()],
            "servers": self._servers,
        }

    def _anchors(self) -> Iterable[bytes]:
        issuers = {each.issuer for each in map(Certificate.parse, self._presented) if each is not None}
        for anchor in () if self.trust is None else self.trust.certificates:
            parsed = Certificate.parse(anchor)
            if parsed is not None and (anchor in self._presented or parsed.subject in issuers):
                yield anchor


def _failure(failure: LookupFailure) -> dict[str, str]:
    return {"name": failure.question.name, "type": failure.question.rdtype, "kind": failure.kind}


def _zones(answers: list[Answer]) -> dict[str, dict[str, Any]]:
    """A zone for every name met, so that each bears its own status.

    An answer is secure if all names on its way are. Of an insecure one it is not known which; every name that no
    secure answer vouches for is taken to be. An incomplete answer says nothing of the last name.
    """
    secure = {name for answer in answers if answer.secure for name in _vouched_for(answer)}
    zones: dict[str, dict[str, Any]] = {}
    for answer in answers:
        if not answer.secure and secure.issuperset(_vouched_for(answer)):
            raise ValueError(f"the answers about {answer.question.name} contradict each other: try again")
        for owner, data in _links(answer):
            _add(_zone(zones, owner, secure=owner in secure), data, answer.ttl)
        if not answer.complete:
            continue
        zone = _zone(zones, answer.name, secure=answer.name in secure)
        for record in answer.records:
            _add(zone, f"{answer.question.rdtype} {_rdata(answer, record)}", answer.ttl)
        if not answer.records:
            zone["denial_ttl"] = min(answer.ttl, zone.get("denial_ttl", answer.ttl))
    _remove_missing_names(zones, answers)
    return zones


def _links(answer: Answer) -> Iterator[tuple[str, str]]:
    """The owner and data of each alias; a DNAME record that makes the first one stands for it."""
    links = pairwise((answer.question.name, *answer.aliases))
    if answer.dname is not None:
        name, target = next(links)
        kept = name.removesuffix(answer.dname.removesuffix(".")).removesuffix(".")  # the labels below the DNAME
        yield answer.dname, f"DNAME {_absolute(target.removeprefix(kept).removeprefix('.'))}"
    yield from ((owner, f"CNAME {_absolute(target)}") for owner, target in links)


def _vouched_for(answer: Answer) -> tuple[str, ...]:
    owners = [owner for owner, _ in _links(answer)]
    return (*owners, answer.name) if answer.complete else tuple(owners)


def _add(zone: dict[str, Any], data: str, ttl: int) -> None:
    """Add a record once, with its lowest TTL: a question may be asked twice, of a cache that runs down."""
    for index, known in enumerate(zone["records"]):
        _, known_ttl, known_data = known.split(" ", 2)
        if known_data == data:
            zone["records"][index] = f"@ {min(ttl, int(known_ttl))} {data}"
            return
    zone["records"].append(f"@ {ttl} {data}")


def _remove_missing_names(zones: dict[str, dict[str, Any]], answers: list[Answer]) -> None:
    """Turn a zone that stands for a name that does not exist into one of its parent's."""
    for answer in answers:
        parent = answer.name.partition(".")[2]
        zone = zones.get(answer.name)
        # Where the parent has another status the zone stays; its NODATA has the same consequence for all but MX.
        if answer.nxdomain and zone is not None and not zone["records"] and _agrees(zones.get(parent), zone):
            del zones[answer.name]
            above = _zone(zones, parent, secure=zone["security"] == "secure")
            above["denial_ttl"] = min(zone["denial_ttl"], above.get("denial_ttl", zone["denial_ttl"]))


def _agrees(parent: dict[str, Any] | None, zone: dict[str, Any]) -> bool:
    return parent is None or parent["security"] == zone["security"]


def _zone(zones: dict[str, dict[str, Any]], name: str, *, secure: bool) -> dict[str, Any]:
    return zones.setdefault(name, {"security": "secure" if secure else "insecure", "records": []})


def _rdata(answer: Answer, record: Any) -> str:
    if isinstance(record, Mx):
        return f"{record.preference} {_absolute(record.exchange)}"
    if isinstance(record, tuple):
        return " ".join(f'"{_escaped(part)}"' for part in record)
    return _absolute(record) if answer.question.rdtype in {RecordType.CNAME, RecordType.DNAME} else str(record)


def _absolute(name: str) -> str:
    return name.removesuffix(".") + "."


def _escaped(part: bytes) -> str:
    return "".join(chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\{octet:03}" for octet in part)


def _policy_host(shown: Fetched | FetchFailure) -> dict[str, Any]:
    if isinstance(shown, FetchFailure):
        return dict(_POLICY_HOSTS.get(shown.kind, {"error": "refused"}))
    host = {"status": shown.status, "body": _text(shown.body)}
    return host if shown.content_type is None else host | {"content_type": shown.content_type}


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return "\0"  # no policy, as the octets were not one either
