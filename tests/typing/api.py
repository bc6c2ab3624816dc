"""What a type checker makes of the public names; checked by mypy and pyright, and never run."""

from datetime import datetime, timezone

from typing_extensions import assert_type

from mailtlspolicy import (
    AsyncEngine,
    Config,
    Engine,
    HostPlan,
    Message,
    NextHop,
    Outcome,
    Plan,
    SkippedHost,
    Tlsa,
    TlsaRRset,
    TlsLevel,
    Verdict,
    World,
    adrive,
    drive,
)
from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.adapters.tls import system_trust_store
from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure, RecordType
from mailtlspolicy.effects import ask, together
from mailtlspolicy.plan.search import plan
from mailtlspolicy.sts import Policy, Refusal, parse_policy

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def synchronous() -> None:
    resolver = DnsResolver.from_system()
    engine = Engine(
        resolver, fetcher=HttpsFetcher(resolver), connector=SmtpConnector(), trust=system_trust_store(), config=Config()
    )
    made = engine.plan("client.example", requiretls=True)
    assert_type(made, Plan)
    assert_type(made.hosts, tuple[HostPlan | SkippedHost, ...])
    for host in made.usable_hosts:
        assert_type(host, HostPlan)
        assert_type(host.level, TlsLevel)
        assert_type(host.sni, str | None)
        assert_type(engine.verify(host, [b""], now=NOW), Verdict)
    message = Message("a@sender.example", ["b@client.example"], b"", requiretls=True)
    assert_type(engine.deliver(message, made), Outcome)
    assert_type(engine.deliver(message, "client.example", before=None), Outcome)


async def asynchronous() -> None:
    engine = AsyncEngine(
        AsyncDnsResolver(nameservers=["127.0.0.1"]), connector=AsyncSmtpConnector(), config=Config(sts="off")
    )
    assert_type(await engine.plan(NextHop.parse("[relay.example]:587")), Plan)
    assert_type(await engine.deliver(Message("", ["b@client.example"], b""), None), Outcome)


def programs() -> None:
    question = Lookup("mx.example", RecordType.A)
    both = together(ask(question), plan(NextHop.parse("client.example"), config=Config()))
    assert_type(drive(both, lambda effect: effect), tuple[Answer | LookupFailure, Plan])


async def asynchronous_programs() -> None:
    async def perform(effect: object) -> object:
        return effect

    assert_type(await adrive(ask(Lookup("mx.example", RecordType.A)), perform), Answer | LookupFailure)


def values() -> None:
    assert_type(World.tour().engine().plan("signed.example"), Plan)
    assert_type(TlsaRRset([Tlsa.parse("3 1 1 " + "00" * 32)]).usable(Config()), TlsaRRset)
    assert_type(parse_policy(b""), Policy | Refusal)
    Config(dane="mandatory", own_names=["mx.example"])
