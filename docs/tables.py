"""The tables of the documentation, made by asking the library: ```` ```{table-of} NAME ```` stands for one.

A table shows what the code decides, so no page can say otherwise. Where a row is a situation, the situation is a small
world and the cells are what the engine makes of it. `delivery_tables` has those on delivery, `report_tables` those on
TLS reports. ```` ```{automaton} ```` stands for the diagram that `automaton` draws.
"""

from __future__ import annotations

import inspect
import json
import re
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import automaton
import delivery_tables
import report_tables
from attrs import evolve, fields, frozen
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from mailtlspolicy import Config, HostPlan, NextHop, World
from mailtlspolicy.plan.decide import LEVELS
from mailtlspolicy.plan.hosts import SkipReason, TlsaOutcome
from mailtlspolicy.plan.values import Skip
from mailtlspolicy.sts import Entry, Policy, StsFailure, parse_policy
from mailtlspolicy.sts.effects import PolicyPage, StoreFailure
from mailtlspolicy.sts.stores import MemoryStore
from mailtlspolicy.verdict import Failure
from tests.bench.bounds import bounds
from tests.differential.compare import EXCEPTIONS
from tests.lab import delivery_scenarios
from tests.lab.scenarios import DISAGREEMENTS, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from mailtlspolicy import Plan
    from mailtlspolicy.delivery.check import Check
    from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure
    from mailtlspolicy.engine import Resolver
    from mailtlspolicy.sts.stores import PolicyStore

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

USABLE, UNUSABLE = "3 1 1 " + "ab" * 32, "1 1 1 " + "ab" * 32
SECURE, INSECURE = "secure", "insecure"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)

Row = tuple[str, ...]


# --- Situations ------------------------------------------------------------------------------------------------------


def world(
    zones: dict[str, tuple[str, list[str]]], failures: Iterable[str] = (), https: dict[str, Any] | None = None
) -> World:
    """A world of zones, each with its security and records, and of policy hosts; a failure is "name type"."""
    return World.from_json(
        {
            "now": NOW.isoformat(),
            "https": https or {},
            "zones": {name: {"security": security, "records": records} for name, (security, records) in zones.items()},
            "failures": [
                {"name": name, "type": kind, "kind": "servfail"} for name, kind in map(str.split, map(str, failures))
            ],
        }
    )


def one_host(mx: str, tlsa: str | None, policy: str | None = None, *, broken: bool = False) -> World:
    """client.example, its one MX host in a signed zone of its own, with one TLSA record or none; perhaps a policy."""
    host = ["@ A 192.0.2.1", *([f"_25._tcp TLSA {tlsa}"] if tlsa else [])]
    client = ["@ MX 10 mx.provider.example.", *([ANNOUNCED] if policy else [])]
    zones = {"client.example": (mx, client), "mx.provider.example": (SECURE, host)}
    https = {POLICY_HOST: {"content_type": "text/plain", "body": policy}} if policy else {}
    return world(zones, ["_25._tcp.mx.provider.example TLSA"] if broken else [], https)


POLICY_HOST = "mta-sts.client.example"
ANNOUNCED = '_mta-sts TXT "v=STSv1; id=2"'


def policy_text(mode: str, mx: str = "mx.provider.example") -> str:
    """A policy for a week."""
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 604800\n"


def policy_of(mode: str) -> Policy:
    """The same, read."""
    policy = parse_policy(policy_text(mode).encode())
    assert isinstance(policy, Policy)
    return policy


def memory(entry: Entry | None) -> MemoryStore:
    """A policy store with nothing but this."""
    return MemoryStore({} if entry is None else {"client.example": entry})


OUTCOMES = {
    TlsaOutcome.USABLE: (USABLE, False),
    TlsaOutcome.UNUSABLE: (UNUSABLE, False),
    TlsaOutcome.ABSENT: (None, False),
    TlsaOutcome.ERROR: (None, True),
}


def outcome_world(mx: str, outcome: TlsaOutcome, policy: str | None = None) -> World:
    """The world in which the search for TLSA records ends like this."""
    tlsa, broken = OUTCOMES[outcome]
    return one_host(mx, tlsa, policy, broken=broken)


def shown(plan: Plan) -> str:
    """The level of the only host of a plan, or that it is skipped."""
    (host,) = plan.hosts
    if not isinstance(host, HostPlan):
        return "skipped"
    return "`dane` and `pkix`" if len(host.requires) > 1 else code(host.level)


def code(value: object) -> str:
    """A value as literal text."""
    return f"`{value}`"


def codes(values: Iterable[object]) -> str:
    """Values as literal text, or "none"."""
    return ", ".join(map(code, values)) or "none"


# --- Tables ----------------------------------------------------------------------------------------------------------


def levels() -> Iterable[Row]:
    """The four outcomes of the search for TLSA records."""
    yield "TLSA records", "level", "authentication", "cleartext", "decided by"
    for outcome, level in LEVELS.items():
        plan = outcome_world(SECURE, outcome).engine().plan("client.example")
        (host,) = plan.hosts
        clause = host.trace[-1].clause
        if level is None:
            yield code(outcome), "host skipped", "-", "no", clause
        else:
            yield code(outcome), code(level), codes(host.requires), "allowed" if host.cleartext else "no", clause


def levels_by_setting() -> Iterable[Row]:
    """What settings make of them, behind a secure and an insecure MX RRset."""
    settings = (
        Config(),
        Config(insecure_mx="encrypt"),
        Config(insecure_mx="may"),
        Config(dane="mandatory"),
        Config(dane="audit"),
        Config(dane="off"),
    )
    usual = Config().to_json().items()
    chosen = ([pair for pair in config.to_json().items() if pair not in usual] for config in settings)
    names = (" ".join(f"{code(key)} {code(value)}" for key, value in pairs) for pairs in chosen)
    yield "MX RRset", "TLSA records", *(name or "default" for name in names)
    for mx in (SECURE, INSECURE):
        for outcome in TlsaOutcome:
            made = outcome_world(mx, outcome)
            yield mx, code(outcome), *(shown(made.engine(config).plan("client.example")) for config in settings)


def levels_by_policy() -> Iterable[Row]:
    """What an MTA-STS policy makes of a host, beside each outcome of the search for TLSA records."""
    policies = {
        "no policy, or mode `none`": None,
        "`testing`": policy_text("testing"),
        "`enforce`, the host matches": policy_text("enforce"),
        "`enforce`, it does not": policy_text("enforce", "mx.client.example"),
    }
    yield "MX RRset", "TLSA records", *policies
    for mx in (SECURE, INSECURE):
        for outcome in TlsaOutcome:
            yield mx, code(outcome), *(_by_policy(outcome_world(mx, outcome, text)) for text in policies.values())


def _by_policy(made: World) -> str:
    settings = (Config(), Config(sts_with_dane="both"))
    default, both = (shown(made.engine(config).plan("client.example")) for config in settings)
    return default if default == both else f"{default}; with `both`: {both}"


def levels_by_wish() -> Iterable[Row]:
    """What the wish of a message makes of a host, without a policy and under one of mode `enforce` that lists it."""
    yield "MX RRset", "TLSA records", "none", "REQUIRETLS", "REQUIRETLS, and a policy", "TLS-Required: No"
    for mx in (SECURE, INSECURE):
        for outcome in TlsaOutcome:
            without = outcome_world(mx, outcome)
            policed = outcome_world(mx, outcome, policy_text("enforce"))
            yield (
                mx,
                code(outcome),
                shown(without.engine().plan("client.example")),
                shown(without.engine().plan("client.example", requiretls=True)),
                shown(policed.engine().plan("client.example", requiretls=True)),
                shown(policed.engine().plan("client.example", tls_optional=True)),
            )


@frozen
class _Unreadable:
    """A policy store that can not be read."""

    def load(self, _: str) -> StoreFailure:
        """What it answers."""
        return StoreFailure("it can not be read")

    def store(self, _: str, __: Entry) -> None:
        """Write."""

    def drop(self, _: str, __: Entry) -> None:
        """Remove."""

    def entries(self, _: str) -> PolicyPage:
        """No entries."""
        return PolicyPage(())


def discovery() -> Iterable[Row]:
    """What is in force, by what is published and what is cached."""
    stores = ("nothing cached", "a policy in force cached", "an expired one cached", "the store can not be read")
    yield "published", *stores
    policy = policy_of("enforce")
    cached = (None, Entry.of("1", policy, NOW - timedelta(days=1)), Entry.of("1", policy, NOW - timedelta(days=30)))
    good = {POLICY_HOST: {"content_type": "text/plain", "body": policy_text("enforce")}}
    same = [ANNOUNCED.replace("id=2", "id=1")]
    cases: tuple[tuple[str, list[str], list[str], dict[str, Any], bool], ...] = (
        ("no record", [], [], good, False),
        ("several records, or an invalid one", [*same, ANNOUNCED], [], good, False),
        ("the lookup of the record fails", [], ["_mta-sts.client.example TXT"], good, False),
        ("a record with the id of the cached policy", same, [], good, False),
        ("a record with another id; the policy can be fetched", [ANNOUNCED], [], good, False),
        ("a record with another id; the policy can not be fetched", [ANNOUNCED], [], {}, False),
        ("the same, and tried less than five minutes ago", [ANNOUNCED], [], good, True),
    )
    for published, txt, failures, https, failed in cases:
        made = world({"client.example": (INSECURE, ["@ MX 10 mx", "mx A 192.0.2.1", *txt])}, failures, https)
        cells = []
        for entry in cached:
            known = entry
            if failed:
                before = NOW - timedelta(minutes=1)
                known = (entry or Entry(checked=before, used=before)).with_failure("2", before, StsFailure.FETCH_ERROR)
            cells.append("-" if txt is same and entry is None else _discovered(made, partial(memory, known)))
        yield published, *cells, "-" if failed else _discovered(made, _Unreadable)


def _discovered(made: World, open_store: Callable[[], PolicyStore]) -> str:
    engines = (made.engine(config) for config in (Config(), Config(sts_on_dns_error="defer")))
    default, defer = (_in_force(evolve(engine, store=open_store()).plan("client.example")) for engine in engines)
    return default if default == defer else f"{default}; with `defer`: {defer}"


def _in_force(plan: Plan) -> str:
    if plan.sts is None:
        return "no policy"
    if plan.sts.unknown:
        return "the mail waits"
    source = "no policy" if plan.sts.source is None else code(plan.sts.source)
    return source if plan.sts.failure is None else f"{source} ({code(plan.sts.failure)})"


def fetches() -> Iterable[Row]:
    """What a response of the policy host amounts to."""
    yield "the policy host", "`failure`", "TLSRPT result type"
    text, good = {"content_type": "text/plain"}, policy_text("enforce")
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("has status 200, type text/plain and a valid policy", text | {"body": good}),
        ("has any other status, 204 and 304 too", text | {"status": 404, "body": good}),
        ("redirects", text | {"status": 301, "location": f"https://{POLICY_HOST}/policy"}),
        ("serves another type, or none", {"content_type": "text/html", "body": good}),
        ("serves more than `max_policy_octets`", text | {"body": good + "a: b\n" * 20_000}),
        ("serves what is no valid policy", text | {"body": good.replace("enforce", "Enforce")}),
        ("refuses connections, has no address, or does not answer in time", {"error": "timeout"}),
        ("has a certificate that is expired", {"certificate": "expired"}),
        ("has a certificate of another name", {"certificate": "wrong-name"}),
        ("has a certificate that is not trusted", {"certificate": "untrusted"}),
    )
    client = (INSECURE, ["@ MX 10 mx", "mx A 192.0.2.1", ANNOUNCED])
    for response, host in cases:
        made = world({"client.example": client}, (), {POLICY_HOST: host})
        sts = made.engine().plan("client.example").sts
        assert sts is not None
        yield response, code(sts.failure) if sts.failure else "none", code(sts.tlsrpt) if sts.tlsrpt else "none"


def sts_failures() -> Iterable[Row]:
    """The result type of each failure of discovery, by what is in force."""
    yield "`failure`", "nothing in force", "mode `none` in force", "mode `testing` or `enforce` in force"
    records = {
        StsFailure.RECORD_MISSING: [],
        StsFailure.RECORD_INVALID: ['_mta-sts TXT "v=STSv1; id=-"'],
    }
    hosts: dict[StsFailure, dict[str, Any]] = {
        StsFailure.LOCAL_ERROR: {"error": "local"},
        StsFailure.WEBPKI_INVALID: {"certificate": "expired"},
        StsFailure.POLICY_INVALID: {"content_type": "text/plain", "body": "mode: enforce"},
    }
    for failure in StsFailure:
        client = ["@ MX 10 mx", "mx A 192.0.2.1", *records.get(failure, [ANNOUNCED])]
        failures = ["_mta-sts.client.example TXT"] if failure is StsFailure.DNS_ERROR else []
        host = hosts.get(failure, {"status": 500})
        made = world({"client.example": (INSECURE, client)}, failures, {POLICY_HOST: host})
        cells = []
        for mode in (None, "none", "enforce"):
            entry = None if mode is None else Entry.of("1", policy_of(mode), NOW)
            sts = evolve(made.engine(), store=memory(entry)).plan("client.example").sts
            if sts is not None and sts.failure is not failure:
                raise AssertionError(f"{sts.failure} in place of {failure}")
            cells.append("-" if sts is None else code(sts.tlsrpt) if sts.tlsrpt else "none")
        yield code(failure), *cells


def address_families() -> Iterable[Row]:
    """A host whose address lookups end like this, with usable TLSA records and without an alias."""
    answers = ("secure", "secure, none", "insecure", "insecure, none", "failure")
    yield "A", *(f"AAAA {answer}" for answer in answers)
    for a in answers:
        yield a, *(_families(a, aaaa) for aaaa in answers)


def _families(a: str, aaaa: str) -> str:
    """Both families of one name can differ in status only by what the resolver says, so this one is scripted."""
    engine = one_host(SECURE, USABLE).engine()
    cells = []
    for families in ("either", "both"):
        scripted = _Scripted(engine.resolver, {"A": a, "AAAA": aaaa})
        made = evolve(engine, resolver=scripted, config=Config(address_families=families))
        cells.append(shown(made.plan("client.example")))
    return cells[0] if cells[0] == cells[1] else f"{cells[0]}; with `both` {cells[1]}"


@frozen
class _Scripted:
    """A resolver that answers address questions as told."""

    resolver: Resolver
    answers: dict[str, str]

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """The answer."""
        told = self.answers.get(question.rdtype)
        if told is None:
            return self.resolver.lookup(question)
        if told == "failure":
            return world({}, [f"{question.name} {question.rdtype}"]).resolver.lookup(question)
        security, _, absent = told.partition(", ")
        address = {"A": "192.0.2.1", "AAAA": "2001:db8::1"}[question.rdtype]
        records = [] if absent else [f"@ {question.rdtype} {address}"]
        return world({question.name: (security, records)}).resolver.lookup(question)


def base_domains() -> Iterable[Row]:
    """The MX host mx.client.example, an alias or not, and the TLSA owners that are asked for, one after the other."""
    yield "the MX host", "its addresses", "TLSA records asked for, in order"
    address = ["mx A 192.0.2.1"]
    alias = ["mx CNAME mail.provider.example."]
    middle = ["mail CNAME host.hosting.example."]
    cases = (
        ("is no alias", SECURE, {"client.example": (SECURE, address)}),
        ("is no alias", INSECURE, {"client.example": (INSECURE, address)}),
        (
            "is an alias, all of it secure",
            SECURE,
            {"client.example": (SECURE, alias), "provider.example": (SECURE, ["mail A 192.0.2.1"])},
        ),
        (
            "is an alias of an alias, all of it secure",
            SECURE,
            {
                "client.example": (SECURE, alias),
                "provider.example": (SECURE, middle),
                "hosting.example": (SECURE, ["host A 192.0.2.1"]),
            },
        ),
        (
            "is an alias, the first alias secure, its target not",
            INSECURE,
            {"client.example": (SECURE, alias), "provider.example": (INSECURE, ["mail A 192.0.2.1"])},
        ),
        (
            "is an insecure alias of a secure host",
            INSECURE,
            {"client.example": (INSECURE, alias), "provider.example": (SECURE, ["mail A 192.0.2.1"])},
        ),
    )
    for host, security, zones in cases:
        engine = world(zones).engine()
        asked: list[str] = []
        made = evolve(engine, resolver=_Listening(engine.resolver, asked))
        made.plan(NextHop.static("client.example", [(10, "mx.client.example")]))
        owners = (question.removesuffix(" TLSA") for question in asked if question.endswith(" TLSA"))
        yield host, security, ", then ".join(map(code, owners)) or "none"


@frozen
class _Listening:
    """A resolver that writes down what it is asked."""

    resolver: Resolver
    asked: list[str]

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """As the resolver's."""
        self.asked.append(f"{question.name} {question.rdtype}")
        return self.resolver.lookup(question)


def reference_ids() -> Iterable[Row]:
    """The names of which a certificate under a DANE-TA anchor has to bear one."""
    yield "next-hop", "MX RRset", "MX host", "reference identifiers"
    host = ["mx A 192.0.2.1", f"_25._tcp.mx TLSA {USABLE}"]
    mx, renamed = ["@ MX 10 mx.provider.example."], ["client CNAME customer.example."]
    aliased = ["@ MX 10 mx"], ["mx CNAME mx.provider.example."]
    provider = (SECURE, host)
    bound = ["@ A 192.0.2.1", f"_25._tcp TLSA {USABLE}"]
    cases: tuple[tuple[str, str, str, str, dict[str, tuple[str, list[str]]]], ...] = (
        (
            "client.example",
            SECURE,
            "mx.provider.example",
            "",
            {"client.example": (SECURE, mx), "provider.example": provider},
        ),
        (
            "client.example",
            SECURE,
            "mx.client.example",
            ", an alias of mx.provider.example",
            {"client.example": (SECURE, aliased[0] + aliased[1]), "provider.example": provider},
        ),
        (
            "client.example, an alias of customer.example",
            SECURE,
            "mx.provider.example",
            "",
            {"example": (SECURE, renamed), "customer.example": (SECURE, mx), "provider.example": provider},
        ),
        (
            "client.example",
            INSECURE,
            "mx.provider.example",
            "",
            {"client.example": (INSECURE, mx), "provider.example": provider},
        ),
        ("client.example", "none", "client.example", "", {"client.example": (SECURE, bound)}),
        (
            "client.example, an alias of customer.example",
            "none",
            "client.example",
            "",
            {"example": (SECURE, renamed), "customer.example": (SECURE, bound)},
        ),
        ("[mx.provider.example]", "not asked for", "mx.provider.example", "", {"provider.example": provider}),
    )
    for next_hop, security, name, note, zones in cases:
        (planned,) = world(zones).engine().plan(next_hop.partition(",")[0]).usable_hosts
        if planned.host != name:
            raise AssertionError(f"the MX host is {planned.host}")
        yield next_hop, security, name + note, codes(planned.reference_ids)


def skip_reasons() -> Iterable[Row]:
    """Why a host is skipped, in the order of precedence."""
    yield "reason", "TLSRPT result type"
    for reason in SkipReason:
        yield code(reason), code(Skip(reason).tlsrpt) if Skip(reason).tlsrpt else "none"


def undeliverable() -> Iterable[Row]:
    """Why a domain has no host to try."""
    yield "situation", "kind", "reason", "status", "reply code"
    mx, host = ["@ MX 10 mx"], ["mx A 192.0.2.1"]
    secure_zone = {"client.example": (SECURE, mx + host)}
    loop = ["client CNAME pool.example.", "pool CNAME client.example."]
    announced = world({"client.example": (INSECURE, [*mx, *host, ANNOUNCED])})
    cases: tuple[tuple[str, World, Config], ...] = (
        ("the domain does not exist", world({"example": (SECURE, [])}), Config()),
        ("its only exchange is the root (null MX)", world({"client.example": (SECURE, ["@ MX 0 ."])}), Config()),
        ("the MX lookup fails", world(secure_zone, ["client.example MX"]), Config()),
        ("its aliases loop", world({"example": (SECURE, loop)}), Config()),
        ("no host has an address", world({"client.example": (SECURE, mx)}), Config()),
        ("an address lookup fails", world({"client.example": (SECURE, mx)}, ["mx.client.example A"]), Config()),
        ("a TLSA lookup fails", world(secure_zone, ["_25._tcp.mx.client.example TLSA"]), Config()),
        ("DANE is mandatory, and not offered", world(secure_zone), Config(dane="mandatory")),
        ("no host matches the policy", one_host(INSECURE, None, policy_text("enforce", "mx.client.example")), Config()),
        (
            "the lookup of the MTA-STS record fails, nothing is cached, and `sts_on_dns_error` is `defer`",
            world(secure_zone, ["_mta-sts.client.example TXT"]),
            Config(sts_on_dns_error="defer"),
        ),
        ("this system is the best MX host", world(secure_zone), Config(own_names=["mx.client.example"])),
    )
    nothing = world({"client.example": (INSECURE, mx + host)})
    wishing: tuple[tuple[str, World], ...] = (
        ("REQUIRETLS, and nothing vouches for the choice of a host", nothing),
        ("the same, and the policy that may vouch could not be had", announced),
    )
    plans = [(situation, made.engine(config).plan("client.example")) for situation, made, config in cases]
    plans += [(situation, made.engine().plan("client.example", requiretls=True)) for situation, made in wishing]
    for situation, planned in plans:
        bad = planned.undeliverable
        if bad is None:
            raise AssertionError(f"deliverable: {situation}")
        yield situation, bad.kind, code(bad.reason), bad.status, str(bad.reply_code)


def failures() -> Iterable[Row]:
    """Why a peer is not authenticated."""
    yield "failure", "TLSRPT result type"
    for failure in Failure:
        yield code(failure), code(failure.tlsrpt)


def settings() -> Iterable[Row]:
    """Every setting, its default and what it means, from the docstring of `Config`."""
    yield "setting", "default", "meaning"
    text = inspect.cleandoc(Config.__doc__ or "").partition("Attributes:\n")[2]
    meanings = dict(re.findall(r"^    (\w+): (.*?)(?=\n    \w|\Z)", text, re.MULTILINE | re.DOTALL))
    for attribute in fields(Config):
        default = attribute.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default)) or "none"
        elif isinstance(default, bool):
            default = str(default).lower()
        yield code(attribute.name), code(default), " ".join(meanings[attribute.name].split())


NOTES = {
    "signed.example": "signed, hosted at a provider with a `3 1 1` record",
    "alias.example": "its MX host is an alias of the provider's; the TLSA record is at the target",
    "customer.example": "its MX host is a signed alias of an unsigned host; the TLSA record is at the alias",
    "renamed.example": "an alias of signed.example",
    "implicit.example": "no MX records: it is its own server",
    "anchor.example": "a `2 0 1` record; the certificate bears the name of the domain",
    "rollover.example": "the record of an old key beside that of the current one",
    "unsigned.example": "no DNSSEC; hosted at the same provider",
    "plain.example": "no DNSSEC at all",
    "cleartext.example": "no DNSSEC, no STARTTLS",
    "broken-tls.example": "no DNSSEC; STARTTLS is announced, and the handshake fails",
    "unusable.example": "a `1 1 1` record only",
    "mixed.example": "four hosts: without address, plain, with DANE, with a broken TLSA lookup",
    "required.example": "a `3 1 1` record, and the server announces REQUIRETLS",
    "mismatch.example": "the record of another key",
    "expired.example": "a `2 0 1` record and an expired certificate",
    "nostarttls.example": "a `3 1 1` record, and somebody strips STARTTLS",
    "broken-tlsa.example": "the TLSA lookup ends in SERVFAIL",
    "bogus.example": "its signatures are bogus",
    "loop.example": "an alias that leads back to itself",
    "nullmx.example": "a null MX: it takes no mail",
    "gone.example": "it does not exist",
    "enforced.example": "an MTA-STS policy of mode `enforce`",
    "testing.example": "mode `testing`; the certificate has another name, which is only recorded",
    "stray.example": "mode `enforce`; the first of its two MX hosts is not in the policy, though it has DANE",
    "both.example": "DANE, and mode `enforce`; DANE governs, and the name in the certificate does not matter",
    "cached.example": "the policy host does not answer; the policy cached before is in force",
    "unfetched.example": "a policy is announced; the certificate of the policy host has expired",
    "optout.example": "mode `none`",
}


def tour() -> Iterable[Row]:
    """The domains of the built-in world, what is planned for them, what a check shows, what becomes of a message."""
    yield "domain", "what it is", "plan", "check", "simulate"
    engine = World.tour().engine()
    for domain, note in NOTES.items():
        check = engine.check(domain)
        sent = engine.simulate(domain)
        yield domain, note, _planned(check.plan), _checked(check), f"{sent.outcome} {sent.status or ''}".rstrip()


def _planned(plan: Plan) -> str:
    if plan.hosts:
        skips = (code(host.level or host.skip.reason) for host in plan.hosts)  # type: ignore[union-attr]  # one of them
        return ", ".join(skips)
    if plan.undeliverable is None:
        raise AssertionError("a plan has hosts or is undeliverable")
    return f"{plan.undeliverable.kind}: {code(plan.undeliverable.reason)}"


def _checked(check: Check) -> str:
    seen = {
        str(server.security or (server.verdict and server.verdict.failure) or server.result): None
        for server in check.servers
    }
    return ", ".join(seen) or "-"


def disagreements() -> Iterable[Row]:
    """The lab's scenarios in which posttls-finger and this library differ."""
    yield "scenario", "what it shows", "difference", "clause"
    shows = {scenario.name: scenario.shows for scenario in SCENARIOS}
    for name, (clause, difference) in DISAGREEMENTS.items():
        yield code(name), shows[name], difference, _section(clause)


def delivery_disagreements() -> Iterable[Row]:
    """The lab's deliveries in which Postfix and this library end up differently."""
    yield "what the scenario shows", "difference", "Postfix", "here", "clause"
    known = {delivery.name: delivery for delivery in delivery_scenarios.ALL}
    for name, row in delivery_scenarios.DISAGREEMENTS.items():
        ours = known[name]
        shows = f"{ours.shows} {code(name)}"
        yield shows, row.difference, _fate(row.fate), _fate(ours.fate), _section(row.clause)


def _fate(fate: delivery_scenarios.Fate) -> str:
    ends = ", ".join(fate.outcomes)
    return ends if fate.security is None else f"{ends} ({fate.security})"


def _section(clause: str) -> str:
    rfc, section, _ = clause.split("-")
    return f"{rfc[:3]} {rfc[3:]} section {section}"


def libssl_exceptions() -> Iterable[Row]:
    """What the differential comparison with libssl takes for an explanation."""
    yield "case", "difference", "clause"
    for exception in EXCEPTIONS:
        yield code(exception.name), exception.why, exception.clause


# What some senders and checkers do, and the vector of the rule that they depart from
ELSEWHERE = {
    "the first record that can be read is taken, or all are joined into one": "sts-discovery-txt-two-same-id",
    "a record of another protocol at the name spoils the lookup": "sts-discovery-txt-spf-before",
    "the version is looked for anywhere in the record": "sts-record-version-not-first",
    "a record of version STSv10 is counted as one of STSv1": "sts-discovery-txt-beside-version-10",
    "an id with hyphens is taken": "sts-record-id-hyphen",
    "of two ids the last counts, or the record is refused": "sts-record-duplicate-id",
    "the last mode counts, so a line further down switches enforcement off": "sts-policy-duplicate-mode-none",
    "an ignored repetition still has to be valid": "sts-policy-duplicate-mode-bad",
    "mode none without mx is refused, so a domain can not get rid of its policy": "sts-policy-mode-none-without-mx",
    "a missing mode counts as none, and an empty file as a policy": "sts-policy-mode-missing",
    "a value with a colon in it, or any unknown field, is refused": "sts-policy-extension-colons",
    "empty lines and indented lines are taken": "sts-policy-blank-line-middle",
    "lines end at any of Unicode's line ends": "sts-policy-lines-next-line-in-extension",
    "a line without a colon swallows the next one": "sts-policy-extension-no-colon-swallows",
    "a small max_age is replaced by a day": "sts-policy-max-age-small",
    "the largest max_age becomes a day": "sts-policy-max-age-maximum",
    "a max_age beyond the maximum is refused, or not bounded": "sts-policy-max-age-ten-digits",
    "signs, underscores and other scripts' digits are taken in numbers": "sts-policy-max-age-arabic-digits",
    "the status of the response is not looked at": "sts-discovery-fetch-status-404",
    "redirects are followed": "sts-discovery-fetch-redirect-301",
    "a long file is cut, and its beginning used": "sts-discovery-fetch-size-set-prefix",
    "patterns are searched for in the name, as an expression": "sts-allows-longer-host",
    "a wildcard stands for any number of labels": "sts-allows-wildcard-two-labels",
    "a cached policy is given up where a newer one can not be fetched": "sts-timeline-mail-moves-and-the-fetch-fails",
    "an unchanged id revives an expired policy, or prolongs one": "sts-discovery-expired-same-id",
    "the record is not looked up while a policy is cached": "sts-timeline-mail-moves-to-another-host",
    "a domain without MX records escapes its policy": "sts-application-implicit-unlisted",
    "hosts are filtered out before the list is walked": "sts-application-enforce-order",
    "a forged MX record to a host with DANE escapes the policy": "sts-dane-several-insecure",
    "unusable TLSA records hide the policy": "sts-dane-secure-unusable-enforce",
}


def sts_elsewhere() -> Iterable[Row]:
    """The rules of MTA-STS that some implementations depart from, by the vectors that show them."""
    corpus = (json.loads(path.read_text("utf-8")) for path in VECTORS.glob("sts-*.json"))
    known = {vector["id"]: vector for data in corpus for vector in data["vectors"]}
    yield "elsewhere", "the rule here, and its vector", "section"
    for departure, name in ELSEWHERE.items():
        vector = known[name]
        _, section, _ = vector["clauses"][0].split("-")
        yield departure, f"{vector['title']} {code(name)}", section


def vectors() -> Iterable[Row]:
    """The files of the corpus."""
    yield "file", "subject", "vectors"
    for path in sorted(VECTORS.glob("*.json")):
        data = json.loads(path.read_text("utf-8"))
        if "vectors" in data:
            yield code(path.name), data["title"], str(len(data["vectors"]))


def all_bounds() -> Iterable[Row]:
    """Every bound."""
    yield "bound", "value", "measured by"
    for name, value, rows in bounds():
        yield code(name), value, rows


TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "bounds": all_bounds,
    "levels": levels,
    "levels-by-setting": levels_by_setting,
    "levels-by-policy": levels_by_policy,
    "levels-by-wish": levels_by_wish,
    "discovery": discovery,
    "fetches": fetches,
    "sts-failures": sts_failures,
    "address-families": address_families,
    "base-domains": base_domains,
    "reference-ids": reference_ids,
    "skip-reasons": skip_reasons,
    "undeliverable": undeliverable,
    "failures": failures,
    "settings": settings,
    "tour": tour,
    "disagreements": disagreements,
    "delivery-disagreements": delivery_disagreements,
    "libssl-exceptions": libssl_exceptions,
    "sts-elsewhere": sts_elsewhere,
    "vectors": vectors,
    **delivery_tables.TABLES,
    **report_tables.TABLES,
}


class TableOf(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the table in Markdown, and have that read; again in every build, since the code may have changed."""
        self.env.note_reread()
        header, *rows = TABLES[self.arguments[0]]()
        lines = (header, ("---",) * len(header), *rows)
        return self.parse_text_to_nodes("\n".join(f"| {' | '.join(line)} |" for line in lines))


class Automaton(SphinxDirective):
    """The directive of the diagram."""

    def run(self) -> list[nodes.Node]:
        """Draw it, again in every build."""
        self.env.note_reread()
        return [nodes.raw("", f'<div class="automaton-frame">{automaton.svg()}</div>', format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("table-of", TableOf)
    app.add_directive("automaton", Automaton)
    return {"version": "1", "parallel_read_safe": True}
