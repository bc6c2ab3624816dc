"""What holds in every world: failures never weaken, values survive, drivers agree, hosts do not touch one another.

The worlds are small and odd: a few zones, each secure, insecure or bogus; hosts that are aliases of one another, TLSA
records of all kinds, listed failures, and a resolver that may call any single answer insecure.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve, field, frozen
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

from mailtlspolicy import (
    AsyncEngine,
    Config,
    Engine,
    HostPlan,
    Message,
    NextHop,
    Plan,
    Tlsa,
    TlsaRRset,
    Verdict,
    World,
)
from mailtlspolicy.config import AddressFamilies, DaneMode, InsecureMx
from mailtlspolicy.delivery.check import Check
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType
from mailtlspolicy.verdict import Failure, Mechanism, ResultType
from mailtlspolicy.world.recording import Recorder
from mailtlspolicy.x509.pem import certificate_to_pem
from tests.sts_worlds import async_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy.engine import Resolver
    from mailtlspolicy.plan.values import SkippedHost
    from mailtlspolicy.world.zones import StaticResolver

EXAMPLES = settings(max_examples=200)
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)

# --- worlds

ZONES = ("client.test", "provider.test", "host.test", "dane.test")
HOSTS = ("mx.client.test", "a.provider.test", "b.provider.test", "c.host.test", "d.host.test")
EXCHANGES = (*HOSTS, *HOSTS, "gone.host.test", "client.test", "192.0.2.1", "")  # the last is the root
RECORDS = (
    "3 1 1 " + "a1" * 32,
    "3 1 2 " + "a2" * 64,
    "2 0 1 " + "a3" * 32,
    "1 1 1 " + "a4" * 32,  # a usage that SMTP has no use for
    "3 1 1 " + "a5" * 31,  # one octet short
    "3 1 9 a6",
    "2 0 0 a7",
    "3 1 1",
)


@st.composite
def owned(draw: st.DrawFn, name: str) -> list[str]:
    """The records of a host name: addresses, or an alias; TLSA records, or an alias of them."""
    records = []
    kind = draw(st.sampled_from(["A", "A", "both", "AAAA", "alias", "alias", "none"]))
    ttl = draw(st.sampled_from(["", "", "60 ", "90 "]))
    if kind == "alias":
        records.append(f"{name}. {ttl}CNAME {draw(st.sampled_from(HOSTS))}.")
    if kind in {"A", "both"}:
        records.append(f"{name}. {ttl}A 192.0.2.{len(name)}")
    if kind in {"AAAA", "both"}:
        records.append(f"{name}. AAAA 2001:db8::{len(name)}")
    owner = f"_25._tcp.{name}."
    if draw(st.integers(0, 9)) == 0:
        return [*records, f"{owner} CNAME shared.dane.test."]
    return records + [
        f"{owner} TLSA {text}" for text in draw(st.lists(st.sampled_from(RECORDS), max_size=3, unique=True))
    ]


@frozen
class Given:
    """A random world in its parts, and the configuration to plan under."""

    mx: tuple[tuple[int, str], ...]
    security: dict[str, str]
    records: tuple[str, ...]
    failures: tuple[tuple[str, str, str], ...]
    insecure: frozenset[tuple[str, str]]  # questions whose answers are called insecure whatever their zone
    config: Config
    static: StaticResolver = field(init=False, eq=False, repr=False)

    @static.default
    def _static(self) -> StaticResolver:
        return World.from_json(self.data()).resolver

    def data(self) -> dict[str, Any]:
        zones: dict[str, Any] = {name: {"security": self.security[name], "records": []} for name in ZONES}
        lines = [f"client.test. MX {preference} {host}." for preference, host in self.mx] + list(self.records)
        for line in lines:
            owner = line.partition(" ")[0]
            zones[next(zone for zone in ZONES if owner.endswith(f"{zone}."))]["records"].append(line)
        failures = [{"name": name, "type": rdtype, "kind": kind} for name, rdtype, kind in self.failures]
        return {"now": NOW.isoformat(), "zones": zones, "failures": failures}

    def resolver(self, changes: Mapping[Lookup, Answer | LookupFailure] | None = None) -> Asked:
        return Asked(self.static, self.insecure, changes or {})

    def plan(self, changes: Mapping[Lookup, Answer | LookupFailure] | None = None) -> tuple[Plan, Asked]:
        resolver = self.resolver(changes)
        return plan_over(resolver, self.config), resolver


@frozen
class Asked:
    """The static resolver with some answers called insecure or replaced; keeps every answer that it gave."""

    inner: Resolver
    insecure: frozenset[tuple[str, str]]
    changes: Mapping[Lookup, Answer | LookupFailure]
    answers: dict[Lookup, Answer | LookupFailure] = field(factory=dict)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        answer = self.changes.get(question) or self.inner.lookup(question)
        if isinstance(answer, Answer) and (question.name, question.rdtype) in self.insecure:
            answer = evolve(answer, secure=False)
        self.answers[question] = answer
        return answer


def plan_over(resolver: Resolver, config: Config) -> Plan:
    return Engine(resolver, shuffle=lambda _: None, clock=lambda: NOW, config=evolve(config, sts="off")).plan(
        "client.test"
    )


configs = st.builds(
    Config,
    dane=st.sampled_from([DaneMode.OPPORTUNISTIC, *DaneMode]),
    insecure_mx=st.sampled_from(InsecureMx),
    address_families=st.sampled_from(AddressFamilies),
    ip_versions=st.sampled_from([(4, 6), (6, 4), (4,)]),
    opportunistic_sni=st.booleans(),
    usages=st.sampled_from([(2, 3), (3,)]),
)
questions = st.tuples(st.sampled_from([*HOSTS, "client.test"]), st.sampled_from(["A", "AAAA", "CNAME"])) | st.tuples(
    st.sampled_from([f"_25._tcp.{host}" for host in HOSTS]), st.just("TLSA")
)
security = st.sampled_from(["secure"] * 6 + ["insecure"] * 3 + ["bogus"])


@st.composite
def worlds(draw: st.DrawFn) -> Given:
    mx = draw(st.lists(st.tuples(st.sampled_from([0, 10, 20]), st.sampled_from(EXCHANGES)), max_size=4, unique=True))
    records = [record for host in HOSTS for record in draw(owned(host))]
    records += [
        f"shared.dane.test. TLSA {text}" for text in draw(st.lists(st.sampled_from(RECORDS), max_size=2, unique=True))
    ]
    if not mx:
        records += draw(owned("client.test"))
    failing = draw(st.lists(questions, max_size=3))
    if aliases := [record.partition(". ")[0] for record in records if " CNAME " in record and record[0] != "_"]:
        failing += [(name, "CNAME") for name in draw(st.lists(st.sampled_from(aliases), max_size=1))]
    kinds = st.sampled_from([str(kind) for kind in FailureKind])
    return Given(
        tuple(mx),
        {name: draw(security) for name in ZONES},
        tuple(records),
        tuple((*question, draw(kinds)) for question in failing),
        draw(st.frozensets(questions, max_size=2)),
        draw(configs),
    )


# --- failures

STRENGTH = {"may": 0, "encrypt": 1, "dane": 2, None: 3}  # a host that is skipped, or not known, gets no mail at all


def strength(host: HostPlan | SkippedHost | None) -> int:
    return STRENGTH[None if host is None or host.level is None else str(host.level)]


def by_name(plan: Plan) -> dict[str, HostPlan | SkippedHost]:
    return {host.host: host for host in plan.hosts}


def goes_on_with_the_other_family(config: Config, question: Lookup, answer: Answer | LookupFailure) -> bool:
    """The one exception (decision 3): the insecure answer of one family fails, and the other family decides alone."""
    is_address = question.rdtype in {RecordType.A, RecordType.AAAA}
    is_insecure = isinstance(answer, Answer) and not answer.secure
    return config.address_families is AddressFamilies.EITHER and is_address and is_insecure


@EXAMPLES
@given(worlds(), st.sampled_from(FailureKind))
def test_an_error_in_place_of_any_answer_never_weakens_a_hosts_plan(world: Given, kind: FailureKind) -> None:
    before, resolver = world.plan()
    for question, answer in resolver.answers.items():
        if goes_on_with_the_other_family(world.config, question, answer):
            continue
        after, _ = world.plan({question: LookupFailure(question, kind)})
        hosts, changed = by_name(before), by_name(after)
        assert changed.keys() <= hosts.keys()
        for name, host in hosts.items():
            assert strength(changed.get(name)) >= strength(host), (name, question)
            assert host.cleartext or not (name in changed and changed[name].cleartext)


@EXAMPLES
@given(worlds(), st.sampled_from(FailureKind))
def test_a_secure_answer_turned_into_a_failure_never_makes_a_host_usable(world: Given, kind: FailureKind) -> None:
    before, resolver = world.plan()
    usable = {host.host for host in before.usable_hosts}
    for question, answer in resolver.answers.items():
        if isinstance(answer, Answer) and answer.secure:
            after, _ = world.plan({question: LookupFailure(question, kind)})
            assert {host.host for host in after.usable_hosts} <= usable


@EXAMPLES
@given(worlds(), st.sampled_from(FailureKind))
def test_a_family_that_fails_counts_as_one_without_data_or_spoils_the_host(world: Given, kind: FailureKind) -> None:
    _, resolver = world.plan()
    for question in resolver.answers:
        if question.rdtype not in {RecordType.A, RecordType.AAAA}:
            continue
        failed, _ = world.plan({question: LookupFailure(question, kind)})
        empty, _ = world.plan({question: Answer(question, secure=True)})
        got, without = by_name(failed)[question.name], by_name(empty)[question.name]
        if world.config.address_families is AddressFamilies.BOTH or not without.addresses:
            assert got.skip is not None
            assert got.skip.reason == "address-lookup-failed"
        else:
            assert evolve(got, trace=()) == evolve(without, trace=())


# --- clauses

# RFC 7672 section 10 lists what permits a cleartext session; beside that there is only what the operator chose.
PERMITS = re.compile(r"RFC 7672 section (2\.1\.[23]|2\.2(\.[123])?|3\.2(\.\d)?|6|9\.1)|Config\.\w+")


@EXAMPLES
@given(worlds())
def test_a_host_that_allows_cleartext_says_by_which_clause(world: Given) -> None:  # RFC7672-10-d
    plan, _ = world.plan()
    for host in plan.usable_hosts:
        if host.cleartext:
            assert any(PERMITS.fullmatch(step.clause) for step in host.trace)
            assert host.level == "may"
            assert (host.requires, host.reference_ids) == ((), ())
        else:
            assert host.binding is not None


# --- hosts


@EXAMPLES
@given(worlds())
def test_hosts_come_sorted_by_preference_and_once_each(world: Given) -> None:
    plan, _ = world.plan()
    assert [host.preference for host in plan.hosts] == sorted(host.preference for host in plan.hosts)
    assert len(by_name(plan)) == len(plan.hosts)
    best = {name: min(preference for preference, other in world.mx if other == name) for _, name in world.mx if name}
    if plan.undeliverable is None and world.mx:
        assert {host.host: host.preference for host in plan.hosts} == best


@EXAMPLES
@given(worlds(), st.data())
def test_a_hosts_plan_does_not_depend_on_the_other_hosts(world: Given, data: st.DataObject) -> None:
    names = sorted({name for _, name in world.mx if name})
    assume(len(names) > 1)
    gone = data.draw(st.sampled_from(names))
    fewer, _ = evolve(world, mx=tuple(pair for pair in world.mx if pair[1] != gone)).plan()
    all_hosts = by_name(world.plan()[0])
    assert by_name(fewer) == {name: host for name, host in all_hosts.items() if name != gone}


# --- drivers and resolvers


@frozen
class Awaited:
    """A resolver behind an event loop."""

    inner: Resolver

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        await asyncio.sleep(0)
        return self.inner.lookup(question)


@EXAMPLES
@given(worlds())
def test_both_engines_give_equal_plans(world: Given) -> None:
    engine = AsyncEngine(
        Awaited(world.resolver()), shuffle=lambda _: None, clock=lambda: NOW, config=evolve(world.config, sts="off")
    )
    assert asyncio.run(engine.plan("client.test")) == world.plan()[0]


@frozen
class HopByHop:
    """A stub that follows no alias: it gives the CNAME of the name asked for and nothing of its target."""

    whole: StaticResolver

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        name, rdtype = question.name, question.rdtype
        alias = evolve(self.whole, failures={}).lookup(Lookup(name, RecordType.CNAME))
        listed = (name, rdtype) in self.whole.failures
        if rdtype is RecordType.CNAME or listed or isinstance(alias, LookupFailure) or not alias.records:
            return self.whole.lookup(question)
        return Answer(question, alias.secure, aliases=(str(alias.records[0]),), complete=False, ttl=alias.ttl)


@EXAMPLES
@given(worlds())
def test_a_resolver_that_answers_hop_by_hop_gives_the_same_plan(world: Given) -> None:  # RFC7672-2.1.3-j
    stepwise = plan_over(HopByHop(world.static), world.config)
    whole = plan_over(world.static, world.config)
    assert evolve(stepwise, valid_until=None) == evolve(whole, valid_until=None)
    if whole.hosts and whole.hosts == whole.usable_hosts:  # of a chain that fails only the links have a TTL
        assert stepwise.valid_until == whole.valid_until


@EXAMPLES
@given(worlds())
def test_a_recorded_run_replays_to_the_same_plan(world: Given) -> None:
    recorder = Recorder(world.static)
    live = plan_over(recorder, world.config)
    again = World.from_json(json.loads(json.dumps(recorder.to_world(NOW))))
    assert plan_over(again.resolver, world.config) == live


# --- values


def through_json(value: Any) -> Any:
    return type(value).from_json(json.loads(json.dumps(value.to_json())))


def survives(value: Any) -> None:
    assert through_json(value) == value
    assert through_json(value).to_json() == value.to_json()
    assert pickle.loads(pickle.dumps(value)) == value


@EXAMPLES
@given(worlds(), st.sampled_from(["ok", "absent", "refused", "fail", "gone"]))
def test_plans_and_checks_survive_json_and_pickle(world: Given, starttls: str) -> None:
    chain = [f"pem:{certificate_to_pem(b'no certificate')}"]
    servers = {f"192.0.2.{number}": {"25": {"starttls": starttls, "chain": chain}} for number in range(10, 20)}
    data = world.data() | ({} if starttls == "gone" else {"servers": servers})
    check = World.from_json(data).engine(world.config).check("client.test")
    survives(check)
    survives(check.plan)
    assert isinstance(check, Check)


# --- deliveries

BEHAVIOURS: list[dict[str, Any]] = [
    {},
    {"connect": "timeout"},
    {"greeting": "554 5.3.2 no"},
    {"starttls": "absent"},
    {"starttls": "refused"},
    {"starttls": "fail"},
    {"behind_starttls": "250 ok"},
    {"requiretls": True},
    {"drop_after": "."},
    {"drop_after": "DATA"},
    {"replies": {"RCPT": [250, "450 4.2.0 later"]}},
    {"starttls": "absent", "replies": {"MAIL": 530}},
    {"replies": {"MAIL": "550 5.7.1 no"}},
]

WISHES: list[dict[str, bool]] = [{}, {"requiretls": True}, {"tls_optional": True}]


@EXAMPLES
@given(
    worlds(),
    st.lists(st.sampled_from(BEHAVIOURS), min_size=4, max_size=4),
    st.sampled_from(["now", "later", "never"]),
    st.sampled_from(WISHES),
)
def test_deliveries_survive_and_keep_to_their_plan(
    world: Given, behaviours: list[dict[str, Any]], choice: str, wish: dict[str, Any]
) -> None:
    addresses = [
        *(f"192.0.2.{number}" for number in range(10, 20)),
        *(f"2001:db8::{number}" for number in range(10, 20)),
    ]
    servers = {address: {"25": behaviours[number % 4]} for number, address in enumerate(addresses)}
    config = evolve(world.config, cleartext_retry=choice)
    engine = World.from_json(world.data() | {"servers": servers}).engine(config)
    to = ["a@client.test", "b@client.test"]
    outcome = engine.simulate("client.test", **wish, recipients=to)
    survives(outcome)
    hosts = by_name(outcome.plan)
    for attempt in outcome.attempts:
        host = hosts[attempt.host]
        assert (attempt.address is None) is (host.skip is not None)
        assert host.cleartext or not attempt.cleartext
        assert attempt.security is None or host.skip is None
        # nobody can authenticate itself in these worlds: no record matches what is presented
        assert attempt.security is None or host.requires == ()
    if "requiretls" in wish:
        assert outcome.outcome != "delivered"
        assert not outcome.duplicate_possible
    assert [entry.recipient for entry in outcome.recipients] == to
    if outcome.outcome == "bounced" and "requiretls" not in wish and outcome.plan.undeliverable is None:
        assert any(reply in str(outcome.attempts) for reply in ("550 5.7.1 no", "530"))


@EXAMPLES
@given(worlds(), st.sampled_from(BEHAVIOURS), st.sampled_from(WISHES))
def test_both_engines_give_equal_outcomes(world: Given, behaviour: dict[str, Any], wish: dict[str, Any]) -> None:
    servers = {f"192.0.2.{number}": {"25": behaviour} for number in range(10, 20)}
    static = World.from_json(world.data() | {"servers": servers})
    message = Message("", ["a@client.test"], b"", **wish)
    later = async_engine(static, world.config)
    assert asyncio.run(later.deliver(message)) == static.engine(world.config).deliver(message)


records = st.builds(Tlsa, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40))
verdicts = st.recursive(
    st.builds(
        Verdict,
        authenticated=st.booleans(),
        satisfied=st.booleans(),
        mechanism=st.none() | st.sampled_from(Mechanism),
        record=st.none() | records.map(str),
        depth=st.none() | st.integers(0, 9),
        name=st.none() | st.just("mx.example"),
        failure=st.none() | st.sampled_from(Failure),
        tlsrpt=st.none() | st.sampled_from(ResultType),
    ),
    lambda verdict: st.builds(evolve, verdict, observed=verdict),
    max_leaves=3,
)
names = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?(\.[a-z0-9_]{1,9}){0,3}\.[a-z]{2,9}", fullmatch=True)
ports = st.just(25) | st.integers(1, 65535)
written_hops = st.one_of(
    names,
    st.builds("[{}]:{}".format, names, ports),
    st.builds("[{}]:{}".format, st.ip_addresses(v=4), ports),
    st.builds("[IPv6:{}]:{}".format, st.ip_addresses(v=6), ports),
)
static_hops = st.builds(
    NextHop.static,
    names,
    st.lists(st.tuples(st.integers(0, 65535), names), min_size=1, max_size=3),
    secure=st.booleans(),
    port=ports,
)


@EXAMPLES
@given(st.one_of(verdicts, configs, static_hops, written_hops.map(NextHop.parse)))
def test_verdicts_configurations_and_next_hops_survive_json_and_pickle(value: Any) -> None:
    survives(value)


@EXAMPLES
@given(st.lists(records, max_size=5))
def test_tlsa_records_survive_text_wire_json_and_pickle(listed: list[Tlsa]) -> None:
    survives(TlsaRRset(listed))
    for record in listed:
        assert Tlsa.parse(str(record)) == record
        wire = bytes([record.usage, record.selector, record.matching_type]) + record.data
        assert Tlsa.from_rdata(wire) == record
        assert pickle.loads(pickle.dumps(record)) == record


@EXAMPLES
@given(written_hops)
def test_a_next_hop_survives_its_text(text: str) -> None:
    next_hop = NextHop.parse(text)
    assert NextHop.parse(str(next_hop)) == next_hop
    assert next_hop.port == (int(text.rpartition("]:")[2]) if "]:" in text else 25)


# --- the strategies reach what the properties are about


LEVELS = ["dane", "encrypt", "may"]
SKIPS = [
    "invalid-host",
    "no-addresses",
    "address-lookup-failed",
    "alias-lookup-failed",
    "tlsa-lookup-failed",
    "dane-required",
]


@pytest.mark.parametrize("outcome", [*LEVELS, *SKIPS])
def test_the_worlds_above_reach_every_outcome(outcome: str) -> None:
    """Searched for, since how many of a few hundred worlds show a rare one depends on the version of Hypothesis."""

    def shows(world: Given) -> bool:
        return outcome in {str(host.skip.reason if host.skip else host.level) for host in world.plan()[0].hosts}

    find(worlds(), shows, settings=settings(max_examples=20_000, phases=[Phase.generate], database=None))
