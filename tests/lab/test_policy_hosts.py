"""Both fetchers against every policy host that nginx serves, and the whole way from the DNS to the mail server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from mailtlspolicy import AsyncEngine, Config, Engine
from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher, policy_context
from mailtlspolicy.adapters.https_async import AsyncHttpsFetcher
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.adapters.sqlite import SqliteStore
from mailtlspolicy.dns.effects import Answer, RecordType
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.sts.effects import Fetch, Fetched, FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import fetch_whole, fetch_whole_async
from tests.lab.lab import RESOLVER
from tests.lab.policy_hosts import ADDRESS, HOSTS

if TYPE_CHECKING:
    from pathlib import Path

    from mailtlspolicy.delivery.check import Check
    from mailtlspolicy.dns.effects import Lookup
    from tests.lab.lab import Lab
    from tests.lab.policy_hosts import PolicyHost, PolicyHosts

every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.label)
both_fetchers = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture
def hosts(lab: Lab) -> PolicyHosts:
    """The running policy hosts."""
    return lab.policy_hosts


def fetcher_of(hosts: PolicyHosts) -> HttpsFetcher:
    """A fetcher that asks the lab's resolver and trusts the lab's root; the lab's addresses are not public."""
    context = policy_context(cafile=str(hosts.anchors))
    return HttpsFetcher(DnsResolver(nameservers=[RESOLVER]), context=context, allow=lambda _: True)


def async_fetcher_of(hosts: PolicyHosts) -> AsyncHttpsFetcher:
    context = policy_context(cafile=str(hosts.anchors))
    return AsyncHttpsFetcher(AsyncDnsResolver(nameservers=[RESOLVER]), context=context, allow=lambda _: True)


def fetch(kind: str, hosts: PolicyHosts, host: PolicyHost) -> Fetched | FetchFailure:
    """Fetch the policy of a host by one of the fetchers."""
    request = Fetch(hosts.name(host), max_octets=65_536, max_seconds=host.seconds)
    if kind == "sync":
        return fetch_whole(fetcher_of(hosts), request)
    return asyncio.run(fetch_whole_async(async_fetcher_of(hosts), request))


@both_fetchers
@every_host
def test_a_fetch_gives_what_the_clauses_say(hosts: PolicyHosts, host: PolicyHost, kind: str) -> None:
    result = fetch(kind, hosts, host)
    if isinstance(result, FetchFailure):
        assert result.kind == host.expected
        return
    assert (result.status, result.content_type) == (host.expected, host.content_type)
    if result.status == 200:
        assert result.body == hosts.policy(host)


@both_fetchers
def test_the_target_of_a_redirect_hears_nothing(hosts: PolicyHosts, kind: str) -> None:
    good, redirect, last = (next(host for host in HOSTS if host.expected == status) for status in (200, 301, 404))
    before = [len(hosts.requests(host)) for host in (good, redirect, last)]
    fetch(kind, hosts, redirect)
    fetch(kind, hosts, last)
    deadline = time.monotonic() + 5
    while len(hosts.requests(last)) == before[2] and time.monotonic() < deadline:  # the log is written after the answer
        time.sleep(0.01)
    assert [len(hosts.requests(host)) for host in (good, redirect, last)] == [before[0], before[1] + 1, before[2] + 1]


def failure_of(host: PolicyHost) -> str | None:
    """What discovery says of a host (RFC8461-3.3-d, RFC8461-3.3-i, RFC8461-3.3-j, RFC8461-3.3-p, RFC8461-3.2-b)."""
    if isinstance(host.expected, FetchFailureKind):
        return "webpki-invalid" if host.expected.is_webpki else "fetch-error"
    return None if (host.expected, host.content_type) == (200, "text/plain") else "fetch-error"


def check(kind: str, hosts: PolicyHosts, host: PolicyHost) -> Check:
    """Discover the policy, plan, and look at the mail server."""
    trust = TrustStore.from_pem(hosts.anchors.read_bytes())
    config = Config(max_fetch_seconds=host.seconds, loopback_is_own=False)
    domain = f"{host.label}.{hosts.domain}"
    if kind == "sync":
        engine = Engine(
            DnsResolver(nameservers=[RESOLVER]),
            fetcher=fetcher_of(hosts),
            connector=SmtpConnector(),
            trust=trust,
            config=config,
        )
        return engine.check(domain)
    async_engine = AsyncEngine(
        AsyncDnsResolver(nameservers=[RESOLVER]),
        fetcher=async_fetcher_of(hosts),
        connector=AsyncSmtpConnector(),
        trust=trust,
        config=config,
    )
    return asyncio.run(async_engine.check(domain))


@both_fetchers
@every_host
def test_the_policy_of_a_good_host_is_enforced_and_no_others(hosts: PolicyHosts, host: PolicyHost, kind: str) -> None:
    found = check(kind, hosts, host)
    assert found.plan.sts is not None
    assert (found.plan.sts.failure, found.plan.sts.id) == (failure_of(host), "1")
    (server,) = found.servers
    if failure_of(host) is None:  # the policy makes up for the unsigned zone
        assert [str(each.level) for each in found.plan.usable_hosts] == ["secure"]
        assert (server.result, server.security) == ("ok", "verified")
        assert server.verdict is not None
        assert server.verdict.name == f"mx.{host.label}.{hosts.domain}"
    else:
        assert [str(each.level) for each in found.plan.usable_hosts] == ["may"]
        assert (server.result, server.security) == ("ok", "untrusted")


def test_without_the_root_an_enforced_host_is_not_used(hosts: PolicyHosts) -> None:  # RFC8461-4.2-b, RFC8461-10.1-a
    engine = Engine(
        DnsResolver(nameservers=[RESOLVER]),
        fetcher=fetcher_of(hosts),
        connector=SmtpConnector(),
        trust=TrustStore(),
        config=Config(loopback_is_own=False),
    )
    (server,) = engine.check(f"{HOSTS[0].label}.{hosts.domain}").servers
    assert (server.result, server.security) == ("not-authenticated", None)


def test_by_default_no_address_of_the_lab_is_connected_to(hosts: PolicyHosts) -> None:
    resolver = DnsResolver(nameservers=[RESOLVER])
    engine = Engine(resolver, fetcher=HttpsFetcher(resolver, context=policy_context(cafile=str(hosts.anchors))))
    before = hosts.requests(HOSTS[0])
    plan = engine.plan(f"{HOSTS[0].label}.{hosts.domain}")
    assert plan.sts is not None
    assert (plan.sts.failure, "address-refused" in plan.sts.detail) == ("fetch-error", True)
    assert hosts.requests(HOSTS[0]) == before


def test_a_policy_is_kept_in_a_file_for_the_next_process(hosts: PolicyHosts, tmp_path: Path) -> None:
    resolver = DnsResolver(nameservers=[RESOLVER])
    domain = f"{HOSTS[0].label}.{hosts.domain}"
    sources = []
    for _ in range(2):
        with SqliteStore(tmp_path / "policies.sqlite") as store:
            plan = Engine(resolver, fetcher=fetcher_of(hosts), store=store).plan(domain)
        assert plan.sts is not None
        sources.append(plan.sts.source)
    assert sources == ["fetched", "cached"]


@both_fetchers
def test_a_name_that_nginx_does_not_know_has_no_tls(hosts: PolicyHosts, kind: str) -> None:
    # Its address is that of another policy host, which nginx serves by another name.
    request = Fetch("mta-sts.sts-stranger.plain.test", max_octets=65_536, max_seconds=10)
    if kind == "sync":
        result = fetch_whole(evolve(fetcher_of(hosts), resolver=Everywhere()), request)
    else:
        result = asyncio.run(fetch_whole_async(evolve(async_fetcher_of(hosts), resolver=AsyncEverywhere()), request))
    assert isinstance(result, FetchFailure)
    assert result.kind == "tls-failed"


class Everywhere:
    """Every name has the address of the policy hosts."""

    def lookup(self, question: Lookup) -> Answer:
        records = (ADDRESS,) if question.rdtype is RecordType.A else ()
        return Answer(question, secure=False, records=records)


class AsyncEverywhere:
    async def lookup(self, question: Lookup) -> Answer:
        return Everywhere().lookup(question)
