"""Run test vectors: what a vector asks is put to the library, and what it expects must be contained in the answer.

The format is described in `vectors/README.md` and `vectors/schema.json`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from mailtlspolicy import dane, identity, names, pkix, tlsrpt
from mailtlspolicy.config import Config
from mailtlspolicy.delivery import Outcome, notification, read_tags
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.plan.mx import NextHop
from mailtlspolicy.sts import Refusal, parse_policy, parse_record
from mailtlspolicy.sts.stores import MemoryStore
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.tlsrpt import reading
from mailtlspolicy.world.world import World, read_json, read_time
from mailtlspolicy.x509.pem import certificates_from_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure
    from mailtlspolicy.engine import Resolver
    from mailtlspolicy.sts.effects import Fetch, FetchFailure
    from mailtlspolicy.sts.fetching import Fetcher, Response
    from mailtlspolicy.world.world import WorldEngine

MISUSE = {"misuse": True}

_ORGANIZATION, _CONTACT = "Sender Inc.", "tls-reports@sender.example"  # whose reports the vectors expect


@frozen
class Vector:
    """One vector and the folder that its PEM file names are relative to."""

    data: Mapping[str, Any]
    base: Path

    @property
    def id(self) -> str:
        """The vector's name, unique in the corpus."""
        return str(self.data["id"])


def load(paths: Iterable[Path]) -> Iterator[Vector]:
    """The vectors of these files, and of all vector files in these folders.

    Raises:
        OSError: a file can not be read.
        ValueError: a file holds no vectors.
    """
    for path in paths:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        for file in files:
            data = read_json(file.read_text("utf-8"))
            if not isinstance(data, dict) or not isinstance(data.get("vectors"), list):
                if path.is_dir():
                    continue  # the schema stands among them
                raise ValueError(f"{file} holds no vectors")
            for vector in data["vectors"]:
                yield Vector(vector, file.parent)


def run(vector: Vector) -> str | None:
    """Run one vector; None where it passes, else where the answer and the expectation part.

    Raises:
        ValueError: the vector itself is malformed, its world for example.
    """
    try:
        if "timeline" in vector.data:
            return _run_timeline(vector)
        world = World.from_json(vector.data["world"], vector.base) if "world" in vector.data else None
        return _put(vector.data, vector.base, world, None, [])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the vector {vector.data.get('id')!r} is malformed: {error!r}") from error


def _run_timeline(vector: Vector) -> str | None:
    """Put one question after the other to engines that share a policy store; None where every answer is as expected."""
    data: dict[str, Any] = {}
    store: MemoryStore | None = None
    history: list[Outcome] = []
    for number, step in enumerate(vector.data["timeline"]):
        if store is not None and "cache" in step.get("world", {}):
            raise ValueError("only the first world of a timeline fills the policy store")
        data = {**step.get("world", data), "now": step["at"]}
        world = World.from_json(data, vector.base)
        store = store or MemoryStore(world.cache)
        if (wrong := _put(step, vector.base, world, store, history)) is not None:
            return f"step {number} at {step['at']}: {wrong}"
    return None


def _put(
    data: Mapping[str, Any], base: Path, world: World | None, store: MemoryStore | None, history: list[Outcome]
) -> str | None:
    """Put one question and compare the answer, and what was asked of the world, with what is expected."""
    question = dict(data["ask"])
    config, message = question.pop("settings", {}), question.pop("message", {})
    again = question.pop("again", False)
    if again and not history:
        raise ValueError("there is no try before the first")
    before = history[-1] if again else None
    ((kind, asked),) = question.items()
    queries: list[str] = []
    try:
        got = _ASKS[kind](_Ask(asked, base, Config.from_settings(config), world, store, queries, message, before))
        if kind == "simulate":
            history.append(Outcome.from_json(got))
    except ValueError as error:
        got = MISUSE | {"error": str(error)}
    return difference(got, data["expect"]) or _wrong_queries(queries, data.get("queries", {}))


def difference(got: object, want: object, where: str = "$") -> str | None:
    """None where `got` contains `want`: every key of an object, lists element by element, scalars equal."""
    if isinstance(want, dict) and isinstance(got, dict):
        for key, value in want.items():
            if key not in got:
                return f"{where}.{key}: missing"
            if (wrong := difference(got[key], value, f"{where}.{key}")) is not None:
                return wrong
        return None
    if isinstance(want, list) and isinstance(got, list) and len(got) == len(want):
        pairs = enumerate(zip(got, want, strict=True))
        return next(filter(None, (difference(g, w, f"{where}[{index}]") for index, (g, w) in pairs)), None)
    same = got == want and isinstance(got, bool) == isinstance(want, bool)  # Python takes True for 1, JSON does not
    return None if same else f"{where}: {got!r} is not {want!r}"


def _wrong_queries(asked: list[str], want: Mapping[str, Any]) -> str | None:
    for query in want.get("asked", ()):
        if query not in asked:
            return f"{query} was not asked"
    for query in want.get("not_asked", ()):
        if query in asked:
            return f"{query} was asked"
    for first, second in want.get("before", ()):
        if first not in asked or second not in asked or asked.index(first) > asked.index(second):
            return f"{first} was not asked before {second}"
    return None


@frozen
class _Recorder:
    """A resolver and fetcher that write down what they are asked."""

    resolver: Resolver
    fetcher: Fetcher
    asked: list[str]

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        self.asked.append(f"{question.name} {question.rdtype}")
        return self.resolver.lookup(question)

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        self.asked.append(f"GET {request.url}")
        return self.fetcher.fetch(request)


@frozen
class _Ask:
    """What a vector asks, and what there is to answer it; the queries asked of the world are written down."""

    asked: Any
    base: Path
    config: Config
    world: World | None
    store: MemoryStore | None
    queries: list[str]
    message: Mapping[str, Any]
    before: Outcome | None

    def engine(self) -> WorldEngine:
        if self.world is None:
            raise KeyError("world")
        engine = self.world.engine(self.config)
        assert engine.fetcher is not None  # the one that shares the clock of this engine
        recorder = _Recorder(engine.resolver, engine.fetcher, self.queries)
        return evolve(engine, resolver=recorder, fetcher=recorder, store=self.store or engine.store)

    def chain(self, key: str) -> tuple[bytes, ...]:
        return tuple(der for entry in self.asked[key] for der in self._certificates(entry))

    def _certificates(self, entry: str) -> tuple[bytes, ...]:
        if entry.startswith("der:"):
            return (bytes.fromhex(entry.removeprefix("der:")),)
        if entry.startswith("pem:"):
            return certificates_from_pem(entry.removeprefix("pem:"))
        return certificates_from_pem((self.base / entry).read_text("ascii"))

    def records(self) -> TlsaRRset:
        return TlsaRRset(map(Tlsa.parse, self.asked["tlsa"]))

    def time(self) -> datetime:
        return read_time(self.asked["at"])


def _next_hop(asked: Any) -> NextHop:
    if isinstance(asked, str):
        return NextHop.parse(asked)
    hosts = ((preference, name) for preference, name in asked["hosts"])
    return NextHop.static(asked["static"], hosts, secure=asked.get("secure", True), port=asked.get("port", 25))


def _plan(ask: _Ask) -> dict[str, Any]:
    return ask.engine().plan(_next_hop(ask.asked), **ask.message).to_json()


def _check(ask: _Ask) -> dict[str, Any]:
    return ask.engine().check(_next_hop(ask.asked), **ask.message).to_json()


def _simulate(ask: _Ask) -> dict[str, Any]:
    return ask.engine().simulate(_next_hop(ask.asked), **ask.message, before=ask.before).to_json()


def _tags(ask: _Ask) -> dict[str, Any]:
    return read_tags(ask.asked["parameters"], ask.asked["header"].encode()).to_json()


def _notification(ask: _Ask) -> dict[str, Any]:
    return notification(**ask.asked).to_json()


def _verify(ask: _Ask) -> dict[str, Any]:
    engine = ask.engine()
    (host,) = (host for host in engine.plan(_next_hop(ask.asked["next_hop"])).hosts if host.host == ask.asked["host"])
    return engine.verify(host, ask.chain("chain")).to_json()


def _match(ask: _Ask) -> dict[str, Any]:
    reference_ids = ask.asked["names"]
    return dane.verify(ask.chain("chain"), ask.records(), reference_ids, now=ask.time(), config=ask.config).to_json()


def _pkix(ask: _Ask) -> dict[str, Any]:
    trust, name = TrustStore(ask.chain("trust")), ask.asked["name"]
    return pkix.verify(ask.chain("chain"), trust, name, now=ask.time(), config=ask.config).to_json()


def _raw_public_key(ask: _Ask) -> dict[str, Any]:
    key = bytes.fromhex(ask.asked["spki"])
    return dane.verify_raw_public_key(key, ask.records(), config=ask.config).to_json()


def _identity(ask: _Ask) -> dict[str, Any]:
    return {"matches": identity.matches(ask.asked["presented"], ask.asked["reference"])}


def _tlsa(ask: _Ask) -> dict[str, Any]:
    records = [Tlsa.parse(text) for text in ask.asked]
    rrset = TlsaRRset(records)
    usable, considered = rrset.usable(ask.config), rrset.considered(ask.config)
    return {
        "records": [
            {"text": str(record), "usable": record in usable, "considered": record in considered} for record in records
        ]
    }


def _tlsa_rdata(ask: _Ask) -> dict[str, Any]:
    try:
        return {"text": str(Tlsa.from_rdata(bytes.fromhex(ask.asked)))}
    except ValueError:
        return {"malformed": True}


def _canonical(ask: _Ask) -> dict[str, Any]:
    return {"name": names.canonical(ask.asked)}


def _parsed_next_hop(ask: _Ask) -> dict[str, Any]:
    return NextHop.parse(ask.asked).to_json()


def _sts_record(ask: _Ask) -> dict[str, Any]:
    return parse_record(map(_octets, ask.asked)).to_json()


def _sts_policy(ask: _Ask) -> dict[str, Any]:
    return parse_policy(_octets(ask.asked)).to_json()


def _sts_allows(ask: _Ask) -> dict[str, Any]:
    policy = parse_policy(_octets(ask.asked["policy"]))
    if isinstance(policy, Refusal):
        raise ValueError(f"the vector's policy is none: {policy}")
    return {"allows": policy.allows(ask.asked["mx"])}


def _octets(text: str | Mapping[str, str]) -> bytes:
    return text.encode() if isinstance(text, str) else bytes.fromhex(text["hex"])


def _tlsrpt_record(ask: _Ask) -> dict[str, Any]:
    return tlsrpt.parse_record(map(_octets, ask.asked)).to_json()


def _tlsrpt(ask: _Ask) -> dict[str, Any]:
    return ask.engine().find_tlsrpt(ask.asked).to_json()


def _report(ask: _Ask) -> dict[str, Any]:
    """The reports of one outcome, or of several at their times."""
    sent = ask.asked if isinstance(ask.asked, list) else [{"next_hop": ask.asked, "message": ask.message}]
    engine, counted = ask.engine(), tlsrpt.Aggregates()
    for item in sent:
        now = read_time(item["at"]) if "at" in item else None
        for _ in range(item.get("times", 1)):
            counted.add(
                engine.simulate(_next_hop(item["next_hop"]), now=now, before=ask.before, **item.get("message", {}))
            )
    return {
        "reports": [
            {"domain": aggregate.domain, "day": aggregate.day.isoformat(), "report": _report_of(aggregate).to_json()}
            for aggregate in sorted(counted, key=lambda aggregate: (aggregate.domain, aggregate.day))
        ]
    }


def _report_of(aggregate: tlsrpt.Aggregate) -> tlsrpt.Report:
    return tlsrpt.Report.of(aggregate, organization_name=_ORGANIZATION, contact_info=_CONTACT)


def _datagram(ask: _Ask) -> dict[str, Any]:
    engine, route = ask.engine(), _next_hop(ask.asked)
    outcome = engine.simulate(route, **ask.message)
    domain = tlsrpt.policy_domain(route)
    record = None if domain is None else engine.find_tlsrpt(domain).record
    told = () if record is None else tlsrpt.datagrams(outcome, record)
    return {"datagrams": list(map(json.loads, told))}


def _submission(ask: _Ask) -> dict[str, Any]:
    submission = tlsrpt.Submission(ask.asked["destinations"])
    for attempt in ask.asked["tries"]:
        submission = submission.after(read_time(attempt["at"]), attempt["accepted"])
    return submission.to_json()


def _read_report(ask: _Ask) -> dict[str, Any]:
    return reading.read_report(_octets(ask.asked)).to_json()


def _read_report_mail(ask: _Ask) -> dict[str, Any]:
    return reading.read_report_mail(_octets(ask.asked)).to_json()


def _report_file_name(ask: _Ask) -> dict[str, Any]:
    return _or_malformed(reading.parse_file_name(ask.asked))


def _report_subject(ask: _Ask) -> dict[str, Any]:
    return _or_malformed(reading.parse_subject(ask.asked))


def _or_malformed(read: reading.FileName | reading.Subject | None) -> dict[str, Any]:
    return {"malformed": True} if read is None else read.to_json()


def _refresh(ask: _Ask) -> dict[str, Any]:
    return ask.engine().refresh().to_json()


def _cached(ask: _Ask) -> dict[str, Any]:
    entry = None if ask.store is None else ask.store.load(ask.asked)
    return {"entry": None if entry is None else entry.to_json()}


_ASKS: dict[str, Callable[[_Ask], dict[str, Any]]] = {
    "plan": _plan,
    "check": _check,
    "simulate": _simulate,
    "tags": _tags,
    "notification": _notification,
    "verify": _verify,
    "match": _match,
    "pkix": _pkix,
    "raw_public_key": _raw_public_key,
    "identity": _identity,
    "tlsa": _tlsa,
    "tlsa_rdata": _tlsa_rdata,
    "canonical": _canonical,
    "next_hop": _parsed_next_hop,
    "sts_record": _sts_record,
    "sts_policy": _sts_policy,
    "sts_allows": _sts_allows,
    "tlsrpt_record": _tlsrpt_record,
    "tlsrpt": _tlsrpt,
    "report": _report,
    "datagram": _datagram,
    "submission": _submission,
    "read_report": _read_report,
    "read_report_mail": _read_report_mail,
    "report_file_name": _report_file_name,
    "report_subject": _report_subject,
    "refresh": _refresh,
    "cached": _cached,
}
