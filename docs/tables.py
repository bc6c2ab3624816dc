"""The tables of the documentation, made by asking the library: ```` ```{table-of} NAME ```` stands for one.

A table shows what the code decides, so no page can say otherwise. Where a row is a situation, the situation is a small
world and the cells are what the engine makes of it.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import fields, frozen
from sphinx.util.docutils import SphinxDirective

from mailtlspolicy import Config, Engine, HostPlan, NextHop, World
from mailtlspolicy.hosts import SkipReason, TlsaOutcome
from mailtlspolicy.plan import LEVELS
from mailtlspolicy.plan_values import Skip
from mailtlspolicy.verdict import Failure
from tests.differential.compare import EXCEPTIONS
from tests.lab.scenarios import DISAGREEMENTS, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from mailtlspolicy import Plan
    from mailtlspolicy.check import Check
    from mailtlspolicy.effects import Answer, Lookup, LookupFailure
    from mailtlspolicy.engine import Resolver

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

USABLE, UNUSABLE = "3 1 1 " + "ab" * 32, "1 1 1 " + "ab" * 32
SECURE, INSECURE = "secure", "insecure"

Row = tuple[str, ...]


# --- Situations ------------------------------------------------------------------------------------------------------


def world(zones: dict[str, tuple[str, list[str]]], failures: Iterable[str] = ()) -> World:
    """A world of zones, each with its security and records; a failure is "name type"."""
    return World.from_json(
        {
            "now": "2026-01-01T00:00:00Z",
            "zones": {name: {"security": security, "records": records} for name, (security, records) in zones.items()},
            "failures": [
                {"name": name, "type": kind, "kind": "servfail"} for name, kind in map(str.split, map(str, failures))
            ],
        }
    )


def one_host(mx: str, tlsa: str | None, *, broken: bool = False) -> World:
    """client.example, its one MX host in a signed zone of its own, with one TLSA record or none."""
    host = ["@ A 192.0.2.1", *([f"_25._tcp TLSA {tlsa}"] if tlsa else [])]
    zones = {"client.example": (mx, ["@ MX 10 mx.provider.example."]), "mx.provider.example": (SECURE, host)}
    return world(zones, ["_25._tcp.mx.provider.example TLSA"] if broken else [])


OUTCOMES = {
    TlsaOutcome.USABLE: (USABLE, False),
    TlsaOutcome.UNUSABLE: (UNUSABLE, False),
    TlsaOutcome.ABSENT: (None, False),
    TlsaOutcome.ERROR: (None, True),
}


def outcome_world(mx: str, outcome: TlsaOutcome) -> World:
    """The world in which the search for TLSA records ends like this."""
    tlsa, broken = OUTCOMES[outcome]
    return one_host(mx, tlsa, broken=broken)


def shown(plan: Plan) -> str:
    """The level of the only host of a plan, or that it is skipped."""
    (host,) = plan.hosts
    return code(host.level) if isinstance(host, HostPlan) else "skipped"


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
            made = HostPlan(host="mx.provider.example", level=level)
            yield code(outcome), code(level), codes(made.requires), "allowed" if made.cleartext else "no", clause


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
    names = (" ".join(f"{code(key)} {code(value)}" for key, value in config.to_json().items()) for config in settings)
    yield "MX RRset", "TLSA records", *(name or "default" for name in names)
    for mx in (SECURE, INSECURE):
        for outcome in TlsaOutcome:
            made = outcome_world(mx, outcome)
            yield mx, code(outcome), *(shown(made.engine(config).plan("client.example")) for config in settings)


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
        made = Engine(scripted, clock=engine.clock, config=Config(address_families=families))
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
        made = Engine(_Listening(engine.resolver, asked), clock=engine.clock)
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
    cases: tuple[tuple[str, World, Config], ...] = (
        ("the domain does not exist", world({"example": (SECURE, [])}), Config()),
        ("its only exchange is the root (null MX)", world({"client.example": (SECURE, ["@ MX 0 ."])}), Config()),
        ("the MX lookup fails", world(secure_zone, ["client.example MX"]), Config()),
        ("its aliases loop", world({"example": (SECURE, loop)}), Config()),
        ("no host has an address", world({"client.example": (SECURE, mx)}), Config()),
        ("an address lookup fails", world({"client.example": (SECURE, mx)}, ["mx.client.example A"]), Config()),
        ("a TLSA lookup fails", world(secure_zone, ["_25._tcp.mx.client.example TLSA"]), Config()),
        ("DANE is mandatory, and not offered", world(secure_zone), Config(dane="mandatory")),
        ("this system is the best MX host", world(secure_zone), Config(own_names=["mx.client.example"])),
    )
    for situation, made, config in cases:
        bad = made.engine(config).plan("client.example").undeliverable
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
    "unusable.example": "a `1 1 1` record only",
    "mixed.example": "four hosts: without address, plain, with DANE, with a broken TLSA lookup",
    "mismatch.example": "the record of another key",
    "expired.example": "a `2 0 1` record and an expired certificate",
    "nostarttls.example": "a `3 1 1` record, and somebody strips STARTTLS",
    "broken-tlsa.example": "the TLSA lookup ends in SERVFAIL",
    "bogus.example": "its signatures are bogus",
    "loop.example": "an alias that leads back to itself",
    "nullmx.example": "a null MX: it takes no mail",
    "gone.example": "it does not exist",
}


def tour() -> Iterable[Row]:
    """The domains of the built-in world, what is planned for them and what a check shows."""
    yield "domain", "what it is", "plan", "check"
    engine = World.tour().engine()
    for domain, note in NOTES.items():
        check = engine.check(domain)
        yield domain, note, _planned(check.plan), _checked(check)


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
        rfc, section, _ = clause.split("-")
        yield code(name), shows[name], difference, f"{rfc[:3]} {rfc[3:]} section {section}"


def libssl_exceptions() -> Iterable[Row]:
    """What the differential comparison with libssl takes for an explanation."""
    yield "case", "difference", "clause"
    for exception in EXCEPTIONS:
        yield code(exception.name), exception.why, exception.clause


def vectors() -> Iterable[Row]:
    """The files of the corpus."""
    yield "file", "subject", "vectors"
    for path in sorted(VECTORS.glob("*.json")):
        data = json.loads(path.read_text("utf-8"))
        if "vectors" in data:
            yield code(path.name), data["title"], str(len(data["vectors"]))


TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "levels": levels,
    "levels-by-setting": levels_by_setting,
    "address-families": address_families,
    "base-domains": base_domains,
    "reference-ids": reference_ids,
    "skip-reasons": skip_reasons,
    "undeliverable": undeliverable,
    "failures": failures,
    "settings": settings,
    "tour": tour,
    "disagreements": disagreements,
    "libssl-exceptions": libssl_exceptions,
    "vectors": vectors,
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


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("table-of", TableOf)
    return {"version": "1", "parallel_read_safe": True}
