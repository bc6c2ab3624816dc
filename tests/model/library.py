"""The finite world as the library meets it, and what the library answers, in the words of the model.

The injected parts are the smallest that keep their contracts: a resolver that looks into a dictionary, a store and a
fetcher that know one policy, and servers that say what a `Server` says. Nothing of the library is replaced, and no
verdict is remembered: certificates are real, and each handshake is judged by the library anew.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from attrs import fields, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailtlspolicy import Config, Engine, HostPlan, Message, NextHop, Tlsa
from mailtlspolicy.delivery.session import (
    Close,
    Connect,
    Connected,
    Ehlo,
    Reply,
    Secured,
    SessionFailure,
    StartTls,
    Transmit,
    Transmitted,
    Trouble,
)
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.engine import keep_order
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.effects import Fetch, Fetched, FetchFailure, FetchFailureKind, PolicyPage, StoreFailure
from mailtlspolicy.sts.fetching import Response, whole_response
from mailtlspolicy.sts.policy import Policy, parse_policy
from tests.model import decision, delivery
from tests.model.worlds import (
    DOMAIN,
    TlsaKind,
    World,
    addresses,
    alias_names,
    host_name,
    next_hop_name,
    next_hop_text,
)
from tests.model.worlds import Server as FiniteServer
from tests.model.worlds import Settings as FiniteSettings

if TYPE_CHECKING:
    from mailtlspolicy.delivery import Outcome as LibraryOutcome
    from mailtlspolicy.plan.values import Plan as LibraryPlan

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
MAX_AGE = 604_800

# Settings that this version of the library knows.
KNOWN = frozenset(attribute.name for attribute in fields(Config))


# --- Certificates ----------------------------------------------------------------------------------------------------


def _key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


CA_KEY, PINNED_KEY, OTHER_KEY = _key(11), _key(12), _key(13)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@cache
def authority() -> x509.Certificate:
    """The CA that is trusted."""
    return (
        x509.CertificateBuilder()
        .subject_name(_name("Trusted CA"))
        .issuer_name(_name("Trusted CA"))
        .public_key(CA_KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW - 3650 * DAY)
        .not_valid_after(NOW + 3650 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(CA_KEY.public_key()), critical=False)
        .sign(CA_KEY, hashes.SHA256())
    )


@cache
def chain_of(shown: delivery.Certificate) -> tuple[bytes, ...]:
    """A real chain that can prove what the finite one can."""
    key = PINNED_KEY if shown.pinned else OTHER_KEY
    subject = x509.Name([]) if shown.common_name is None else _name(shown.common_name)
    issuer = _name("Trusted CA") if shown.trusted else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(NOW - 30 * DAY)
        .not_valid_after(NOW - DAY if shown.expired else NOW + 30 * DAY)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key()), critical=False)
    )
    if shown.dns_ids:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in sorted(shown.dns_ids)])
        builder = builder.add_extension(names, critical=shown.common_name is None)
    leaf = builder.sign(CA_KEY if shown.trusted else key, hashes.SHA256())
    return (_der(leaf), _der(authority())) if shown.trusted else (_der(leaf),)


@cache
def trust() -> TrustStore:
    return TrustStore((_der(authority()),))


@cache
def tlsa_records(kind: TlsaKind) -> tuple[Tlsa, ...]:
    spki = PINNED_KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = Tlsa(3, 1, 1, hashlib.sha256(spki).digest())
    unusable = Tlsa(1, 1, 1, hashlib.sha256(spki).digest())
    short = Tlsa(3, 1, 1, b"\0" * 31)
    return {
        "usable": (key,),
        "insecure": (key,),
        "anchor": (Tlsa(2, 0, 1, hashlib.sha256(_der(authority())).digest()),),
        "mixed": (unusable, key),
        "unusable": (unusable, short),
        "none": (),
        "failing": (),
    }[kind]


# --- The DNS ---------------------------------------------------------------------------------------------------------

# All failures are one (RFC 7672 section 2.1.1), so each question has another kind.
FAILURES = {
    RecordType.A: FailureKind.SERVFAIL,
    RecordType.AAAA: FailureKind.TIMEOUT,
    RecordType.CNAME: FailureKind.REFUSED,
    RecordType.MX: FailureKind.INDETERMINATE,
    RecordType.TLSA: FailureKind.BOGUS,
    RecordType.TXT: FailureKind.NOTIMP,
}

Known = dict[tuple[str, RecordType], "Answer | LookupFailure"]


class Zones:
    """A resolver. What nobody has said anything about does not exist, insecurely."""

    def __init__(self) -> None:
        self.known: Known = {}

    def says(
        self,
        name: str,
        rdtype: RecordType,
        records: tuple[object, ...],
        *,
        secure: bool,
        aliases: tuple[str, ...] = (),
        nxdomain: bool = False,
    ) -> None:
        question = Lookup(name, rdtype)
        shown = tuple(f"{alias}." for alias in aliases)
        self.known[name, rdtype] = Answer(
            question,
            secure,
            records,  # type: ignore[arg-type]
            shown,
            nxdomain,
            True,
            3600,
        )

    def fails(self, name: str, rdtype: RecordType, kind: FailureKind | None = None) -> None:
        self.known[name, rdtype] = LookupFailure(Lookup(name, rdtype), kind or FAILURES[rdtype])

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        found = self.known.get((question.name, question.rdtype))
        return Answer(question, secure=False, nxdomain=True) if found is None else found


def zones_of(world: World) -> Zones:
    zones = Zones()
    _say_mx(zones, world)
    if world.mx != "literal":
        for index in range(len(world.hosts)):
            _say_host(zones, world, index)
    txt = f"_mta-sts.{next_hop_name(world)}"
    if world.policy in {"record-failing", "cached-enforce-record-failing"}:
        zones.fails(txt, RecordType.TXT)
    elif world.policy not in {"none", "cached-enforce-record-gone", "store-failing"}:
        zones.says(txt, RecordType.TXT, ((b"v=STSv1; ", b"id=1;"),), secure=False)
    return zones


def _say_mx(zones: Zones, world: World) -> None:
    name = next_hop_name(world)
    links = world.alias
    aliases = (*(f"step{step}.next-hop.example" for step in range(1, len(links))), DOMAIN) if links else ()
    hosts = [Mx(10 + index, f"{host_name(world, index)}.") for index in range(len(world.hosts))]
    hosts.reverse()  # the order of the records is not that of the preferences
    root = Mx(0, ".")
    if world.mx == "failing":
        zones.fails(name, RecordType.MX)
    elif world.mx == "loop":
        zones.fails(name, RecordType.MX, FailureKind.LOOP)
    elif world.mx not in {"relay", "literal"}:
        secure = world.mx not in {"insecure", "none-insecure"} and all(links)
        records: tuple[Mx, ...] = {
            "null": (root,),
            "no-domain": (),
            "none-secure": (),
            "none-insecure": (),
            "secure-and-root": (root, *hosts),
        }.get(world.mx, tuple(hosts))
        zones.says(name, RecordType.MX, records, secure=secure, aliases=aliases, nxdomain=world.mx == "no-domain")


def _say_host(zones: Zones, world: World, index: int) -> None:
    host = world.hosts[index]
    name = host_name(world, index)
    aliases = alias_names(world, index)
    expanded = all(host.links)
    for rdtype, (address, answer) in zip((RecordType.A, RecordType.AAAA), addresses(world, index), strict=True):
        if answer == "failing":
            zones.fails(name, rdtype)
        elif answer == "absent":
            zones.says(name, rdtype, (), secure=host.denials_secure and expanded, aliases=aliases)
        else:
            zones.says(name, rdtype, (address,), secure=answer == "secure" and expanded, aliases=aliases)
    if host.links:
        if host.cname == "failing":
            zones.fails(name, RecordType.CNAME)
        else:
            zones.says(name, RecordType.CNAME, (f"{aliases[0]}.",), secure=host.links[0])
        for step in aliases[:-1]:  # a trap: names in between are never candidates (RFC 7672 section 2.2.3)
            zones.says(f"_25._tcp.{step}", RecordType.TLSA, tlsa_records("usable"), secure=True)
        _say_tlsa(zones, aliases[-1], host.tlsa_target)
    _say_tlsa(zones, name, host.tlsa)


def _say_tlsa(zones: Zones, base: str, kind: TlsaKind) -> None:
    owner = f"_25._tcp.{base}"
    if kind == "failing":
        zones.fails(owner, RecordType.TLSA)
    else:
        zones.says(owner, RecordType.TLSA, tlsa_records(kind), secure=kind != "insecure", nxdomain=kind == "none")


# --- Policies --------------------------------------------------------------------------------------------------------


@cache
def policy_text(mode: str, hosts: tuple[str, ...]) -> bytes:
    patterns = hosts or ("nobody.example",)
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {pattern}" for pattern in patterns), f"max_age: {MAX_AGE}"]
    return "".join(f"{line}\r\n" for line in lines).encode()


@cache
def entry_of(policy_id: str, mode: str, hosts: tuple[str, ...], age: timedelta) -> Entry:
    policy = parse_policy(policy_text(mode, hosts))
    assert isinstance(policy, Policy)
    return Entry.of(policy_id, policy, NOW - age)


def listed_hosts(world: World) -> tuple[str, ...]:
    hosts = zip(range(len(world.hosts)), world.hosts, world.listed, strict=True)
    return tuple(host_name(world, index) for index, host, listed in hosts if listed and host.kind != "invalid")


class Store:
    """A policy store with room for one domain."""

    def __init__(self, domain: str, entry: Entry | StoreFailure | None) -> None:
        self.entries_: dict[str, Entry | StoreFailure | None] = {domain: entry}

    def load(self, domain: str) -> Entry | StoreFailure | None:
        return self.entries_.get(domain)

    def store(self, domain: str, entry: Entry) -> StoreFailure | None:
        if isinstance(self.entries_.get(domain), StoreFailure):
            return StoreFailure("away")
        self.entries_[domain] = entry
        return None

    def drop(self, domain: str, entry: Entry) -> StoreFailure | None:
        raise AssertionError("no delivery drops an entry")

    def entries(self, cursor: str) -> PolicyPage | StoreFailure:
        raise AssertionError("no delivery lists entries")


@frozen
class Fetcher:
    body: bytes | None

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        if self.body is None:
            return FetchFailure(FetchFailureKind.CONNECT, "refused")
        return whole_response(Fetched(200, "text/plain", self.body))


def policy_parts(world: World) -> tuple[Fetcher, Store]:
    hosts = listed_hosts(world)
    policy = world.policy
    mode = "testing" if "testing" in policy else "none" if policy == "mode-none" else "enforce"
    entry: Entry | StoreFailure | None = None
    if policy.startswith("store-failing"):
        entry = StoreFailure("away")
    elif policy.startswith("cached-"):
        entry = entry_of("0" if "successor" in policy else "1", mode, hosts, DAY)
    elif policy.startswith("expired-"):
        entry = entry_of("0" if "successor" in policy else "1", mode, hosts, timedelta(seconds=MAX_AGE + 1))
    fetched = policy in {"testing", "enforce", "mode-none", "store-failing-enforce"}
    return Fetcher(policy_text(mode, hosts) if fetched else None), Store(next_hop_name(world), entry)


# --- Servers ---------------------------------------------------------------------------------------------------------

LOST = SessionFailure(Trouble.LOST, "lost")
BROKEN = SessionFailure(Trouble.HANDSHAKE, "no TLS")
ALERT = SessionFailure(Trouble.HANDSHAKE, "alert", alert=True)
OK = Reply(250, ("ok",))


@cache
def reply(code: int, *lines: str) -> Reply:
    return Reply(code, lines or ("said",))


class Connection:
    def __init__(self, index: int, server: FiniteServer, chain: tuple[bytes, ...]) -> None:
        self.index = index
        self.server = server
        self.chain = chain
        self.tls = False


class Sent(NamedTuple):
    """A message that was handed to a server: to which host, and how."""

    host: int
    tls: bool
    requiretls: bool  # MAIL bore the parameter


class Connector:
    """The servers of a finite world; `sent` is what they were given."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[Sent] = []

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        index = next(
            index
            for index in range(len(self.world.hosts))
            if effect.address in {address for address, _ in addresses(self.world, index)}
        )
        server = self.world.hosts[index].server
        if server.connect == "refused":
            return SessionFailure(Trouble.UNREACHABLE, "refused")
        shown = delivery.certificate(self.world, index, host_name(self.world, index), server.chain)
        return Connected(Connection(index, server, chain_of(shown)), reply(server.greeting, "greetings"))

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        connection: Connection = effect.session
        server = connection.server
        if not connection.tls:
            if effect.helo:
                return OK
            if server.ehlo != 250:
                return reply(server.ehlo, "no")
            return OK if server.starttls == "absent" else reply(250, "greetings", "STARTTLS")
        if server.within == "closed":
            return BROKEN
        if effect.helo:
            return OK
        if server.within == "refused":
            return reply(550, "no")
        if server.within == "helo-only":
            return reply(500, "no")
        return reply(250, "greetings", "REQUIRETLS") if server.requiretls else OK

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        connection: Connection = effect.session
        how = connection.server.starttls
        if how == "refused":
            return reply(454, "later")
        if how == "hang-up":
            return LOST
        if how == "broken":
            return BROKEN
        if how == "alert" or (how == "alert-sni" and effect.sni is not None):
            return ALERT
        connection.tls = True
        return Secured(connection.chain)

    def transmit(self, effect: Transmit) -> Transmitted:
        connection: Connection = effect.session
        server = connection.server
        self.sent.append(Sent(connection.index, connection.tls, effect.requiretls))
        if connection.tls and server.within == "lost":
            return Transmitted(failure=LOST)
        if server.mail == "530" and not connection.tls:
            return Transmitted(reply(530, "5.7.0 STARTTLS first"))
        code = 250 if server.mail == "530" else int(server.mail)
        return Transmitted(OK, (OK,), reply(354), reply(code))

    def close(self, effect: Close) -> None:
        pass


# --- The answers, in the words of the model --------------------------------------------------------------------------


@cache
def config_of(settings: FiniteSettings) -> Config:
    given = settings._asdict()
    return Config(**{name: value for name, value in given.items() if name in KNOWN})


@cache
def route_of(text: str) -> NextHop:
    return NextHop.parse(text)


@cache
def message_of(wish: str) -> Message:
    return Message(
        "a@sender.example",
        ["b@client.example"],
        b"Subject: hello\r\n\r\nHello.\r\n",
        requiretls=wish in {"requiretls", "both"},
        tls_optional=wish in {"tls-optional", "both"},
    )


class Run(NamedTuple):
    """A world at hand of the library: the engine, and where the message goes."""

    engine: Engine
    route: NextHop
    message: Message
    connector: Connector


def run_of(world: World) -> Run:
    fetcher, store = policy_parts(world)
    connector = Connector(world)
    engine = Engine(
        zones_of(world),
        fetcher=fetcher,
        store=store,
        connector=connector,
        trust=trust(),
        shuffle=keep_order,
        clock=lambda: NOW,
        elapsed=lambda: 0.0,  # a process that is stopped for minutes is not late
        config=config_of(world.settings),
    )
    return Run(engine, route_of(next_hop_text(world)), message_of(world.wish), connector)


def plan_of(run: Run) -> LibraryPlan:
    message = run.message
    return run.engine.plan(run.route, requiretls=message.requiretls, tls_optional=message.tls_optional)


Seen = dict[str, object]


def word(value: object) -> str | None:
    return None if value is None else str(value)


def plan_seen(plan: LibraryPlan) -> Seen:
    """What a plan of the library says, as far as the model says it too."""
    seen: Seen = {
        "expanded_next_hop": plan.expanded_next_hop,
        "mx_secure": plan.mx_secure,
        "undeliverable": None if plan.undeliverable is None else tuple(plan.undeliverable.to_json().values()),
        "sts": None
        if plan.sts is None
        else (None if plan.sts.policy is None else str(plan.sts.policy.mode), word(plan.sts.failure)),
        "hosts": tuple(host.host for host in plan.hosts),
    }
    for number, host in enumerate(plan.hosts):
        usable = isinstance(host, HostPlan)
        audit = host.audit
        observe = host.observe if isinstance(host, HostPlan) else None
        seen[f"{number} addresses"] = host.addresses
        seen[f"{number} skip"] = None if host.skip is None else str(host.skip.reason)
        seen[f"{number} skip.tlsrpt"] = None if host.skip is None else word(host.skip.tlsrpt)
        seen[f"{number} level"] = word(host.level)
        seen[f"{number} requires"] = tuple(str(duty) for duty in host.requires)
        seen[f"{number} cleartext"] = host.cleartext
        seen[f"{number} tlsa_base_domain"] = None if host.binding is None else host.binding.base_domain
        seen[f"{number} tlsa"] = () if host.binding is None else tuple(host.binding.records)
        seen[f"{number} sni"] = host.sni if usable else "not compared"
        seen[f"{number} reference_ids"] = host.reference_ids
        seen[f"{number} sts_match"] = host.sts_match
        seen[f"{number} audit"] = (
            None if audit is None else (word(audit.level), None if audit.skip is None else str(audit.skip.reason))
        )
        seen[f"{number} observe"] = () if observe is None else tuple(str(duty) for duty in observe.requires)
        seen[f"{number} chosen"] = plan.vouches_for(host) if isinstance(host, HostPlan) else "not compared"
    return seen


def plan_expected(plan: decision.Plan) -> Seen:
    """The same of the model's plan."""
    seen: Seen = {
        "expanded_next_hop": plan.expanded,
        "mx_secure": plan.mx_secure,
        "undeliverable": None if plan.undeliverable is None else tuple(plan.undeliverable),
        "sts": (plan.sts_mode, plan.sts_failure) if plan.sts_asked else None,
        "hosts": tuple(host.host for host in plan.hosts),
    }
    for number, host in enumerate(plan.hosts):
        seen[f"{number} addresses"] = host.addresses
        seen[f"{number} skip"] = host.skip
        seen[f"{number} skip.tlsrpt"] = None if host.skip is None else delivery.REPORTED.get(host.skip)
        seen[f"{number} level"] = host.level
        seen[f"{number} requires"] = host.requires
        seen[f"{number} cleartext"] = host.cleartext
        seen[f"{number} tlsa_base_domain"] = host.base_domain
        seen[f"{number} tlsa"] = () if host.records is None else tlsa_records(host.records)
        seen[f"{number} sni"] = "not compared" if host.skip else host.sni
        seen[f"{number} reference_ids"] = host.reference_ids
        seen[f"{number} sts_match"] = host.sts_match
        seen[f"{number} audit"] = host.audit
        seen[f"{number} observe"] = host.observe
        seen[f"{number} chosen"] = "not compared" if host.skip else host.chosen
    return seen


def outcome_seen(outcome: LibraryOutcome) -> Seen:
    """What the library says has become of a message, as far as the model says it too."""
    return {
        "outcome": str(outcome.outcome),
        "host": outcome.host,
        "security": word(outcome.security),
        "status": outcome.status,
        "attempts": tuple(
            (a.host, a.address, str(a.result), word(a.tlsrpt), a.cleartext, a.status) for a in outcome.attempts
        ),
        "cleartext_retry": outcome.cleartext_retry,
    }


def outcome_expected(outcome: delivery.Outcome) -> Seen:
    """The same of the model's outcome."""
    return {
        "outcome": outcome.outcome,
        "host": outcome.host,
        "security": outcome.security,
        "status": outcome.status,
        "attempts": tuple(tuple(attempt) for attempt in outcome.attempts),
        "cleartext_retry": outcome.cleartext_retry,
    }


class Difference(NamedTuple):
    """Where the two differ: at the plan, the first try or the next one; what; the model's answer; the library's."""

    stage: str
    what: str
    model: object
    library: object


def differ(stage: str, model: Seen, library: Seen) -> list[Difference]:
    keys = dict.fromkeys((*model, *library))
    return [
        Difference(stage, key, model.get(key), library.get(key)) for key in keys if model.get(key) != library.get(key)
    ]


def compare(world: World) -> list[Difference]:
    """Both models on one world: the plan, the first try, and the next one where it may do without TLS."""
    planned = decision.decide(world)
    run = run_of(world)
    plan = plan_of(run)
    found = differ("plan", plan_expected(planned), plan_seen(plan))
    expected = delivery.deliver(world, planned)
    first = run.engine.deliver(run.message, plan)
    found += differ("first try", outcome_expected(expected), outcome_seen(first))
    if not found and expected.cleartext_retry:
        again = delivery.deliver(world, planned, expected.cleartext_retry)
        second = run.engine.deliver(run.message, run.route, before=first)  # plans anew
        found += differ("next try", outcome_expected(again), outcome_seen(second))
    return found
