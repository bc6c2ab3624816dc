"""The built-in world: what each of its domains is there to show; and its file is what the script makes."""

from __future__ import annotations

import pytest
from vectors import make_tour

from mailtlspolicy import World

ENGINE = World.tour().engine()

# Domain, levels or skip reasons of its hosts in order, what a check shows of each address
CHECKS = [
    ("signed.example", ["dane"], ["verified", "verified"]),
    ("alias.example", ["dane"], ["verified", "verified"]),
    ("renamed.example", ["dane"], ["verified", "verified"]),
    ("customer.example", ["dane"], ["verified"]),
    ("implicit.example", ["dane"], ["verified"]),
    ("anchor.example", ["dane"], ["verified"]),
    ("rollover.example", ["dane"], ["verified"]),
    ("unsigned.example", ["dane"], ["trusted", "trusted"]),
    ("plain.example", ["may"], ["untrusted"]),
    ("cleartext.example", ["may"], ["cleartext"]),
    ("unusable.example", ["encrypt"], ["untrusted"]),
    ("mismatch.example", ["dane"], ["no-tlsa-match"]),
    ("expired.example", ["dane"], ["expired"]),
    ("nostarttls.example", ["dane"], ["starttls-absent"]),
    ("broken-tlsa.example", ["tlsa-lookup-failed"], ["skipped"]),
    (
        "mixed.example",
        ["no-addresses", "may", "dane", "tlsa-lookup-failed"],
        ["skipped", "untrusted", "verified", "verified", "skipped"],
    ),
    ("enforced.example", ["secure"], ["verified"]),
    ("testing.example", ["may"], ["untrusted"]),
    ("stray.example", ["sts-mx-mismatch", "secure"], ["skipped", "verified"]),
    ("both.example", ["dane"], ["verified"]),
    ("cached.example", ["secure"], ["verified"]),
    ("unfetched.example", ["may"], ["untrusted"]),
    ("optout.example", ["may"], ["untrusted"]),
]

# Domain, the mode in force, where it comes from, why nothing newer was learned
POLICIES = [
    ("enforced.example", "enforce", "fetched", None),
    ("testing.example", "testing", "fetched", None),
    ("stray.example", "enforce", "fetched", None),
    ("both.example", "enforce", "fetched", None),
    ("cached.example", "enforce", "cached", "fetch-error"),
    ("unfetched.example", None, None, "webpki-invalid"),
    ("optout.example", "none", "fetched", None),
]

UNDELIVERABLE = [
    ("bogus.example", "transient", "4.4.3"),
    ("loop.example", "transient", "4.4.6"),
    ("broken-tlsa.example", "transient", "4.7.5"),
    ("nullmx.example", "permanent", "5.1.10"),
    ("gone.example", "permanent", "5.1.2"),
]


@pytest.mark.parametrize(("domain", "hosts", "servers"), CHECKS, ids=[row[0] for row in CHECKS])
def test_a_domain_of_the_tour_shows_its_kind_of_decision(domain: str, hosts: list[str], servers: list[str]) -> None:
    check = ENGINE.check(domain)
    assert [str(host.level or (host.skip and host.skip.reason)) for host in check.plan.hosts] == hosts
    shown = [
        server.security or (server.verdict and server.verdict.failure) or server.result for server in check.servers
    ]
    assert list(map(str, shown)) == servers


@pytest.mark.parametrize(("domain", "hosts", "servers"), CHECKS, ids=[row[0] for row in CHECKS])
def test_mail_goes_to_the_first_server_that_a_check_passes(domain: str, hosts: list[str], servers: list[str]) -> None:
    outcome = ENGINE.simulate(domain)
    words = [word for word in servers if word in {"verified", "trusted", "untrusted", "cleartext"}]
    assert outcome.outcome == ("delivered" if words else "deferred")
    assert outcome.security == (words[0] if words else None)
    assert len(outcome.attempts) <= len(hosts)


@pytest.mark.parametrize(("domain", "mode", "source", "failure"), POLICIES, ids=[row[0] for row in POLICIES])
def test_a_domain_of_the_tour_has_its_policy(
    domain: str, mode: str | None, source: str | None, failure: str | None
) -> None:
    sts = World.tour().engine().plan(domain).sts
    assert sts is not None
    assert (sts.policy and sts.policy.mode, sts.source, sts.failure) == (mode, source, failure)


@pytest.mark.parametrize("domain", ["testing.example", "both.example"])
def test_what_a_policy_would_have_refused_is_observed(domain: str) -> None:
    (server,) = ENGINE.check(domain).servers
    assert server.passed
    assert server.verdict is not None
    assert server.verdict.observed is not None
    assert server.verdict.observed.failure == "name-mismatch"


@pytest.mark.parametrize(("domain", "kind", "status"), UNDELIVERABLE, ids=[row[0] for row in UNDELIVERABLE])
def test_a_domain_of_the_tour_that_takes_no_mail_says_why(domain: str, kind: str, status: str) -> None:
    plan = ENGINE.plan(domain)
    assert plan.undeliverable is not None
    assert (plan.undeliverable.kind, plan.undeliverable.status) == (kind, status)


@pytest.mark.parametrize(("domain", "kind", "status"), UNDELIVERABLE, ids=[row[0] for row in UNDELIVERABLE])
def test_mail_to_such_a_domain_is_returned_or_waits(domain: str, kind: str, status: str) -> None:
    outcome = ENGINE.simulate(domain)
    assert (outcome.outcome, outcome.status) == ("bounced" if kind == "permanent" else "deferred", status)


def test_the_script_makes_the_file_of_the_tour() -> None:
    assert make_tour.OUTPUT.read_text("ascii") == make_tour.text()
