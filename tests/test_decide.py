"""The rules of `plan.decide` by themselves, without a world, as tables to be held beside the texts.

RFC 7672 sections 2.2, 2.2.1, 6 and 9.1; RFC 8461 sections 2 and 5; RFC 8689 section 4.2.1.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from mailtlspolicy import Config, HostPlan, NextHop, SkippedHost, Tlsa, TlsaRRset
from mailtlspolicy.dns.effects import FailureKind
from mailtlspolicy.plan.decide import Found, SearchedHost, Wish, decide
from mailtlspolicy.plan.hosts import SkipReason, TlsaBinding, TlsaOutcome, TlsaSearch
from mailtlspolicy.plan.mx import MxHost, MxResult
from mailtlspolicy.plan.values import Host, Plan
from mailtlspolicy.sts.discovery import Discovered
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.sts.values import Discovery

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT: Mapping[str, str] = {}
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
MX = "mx.provider.test"
RECORDS = TlsaRRset([Tlsa.parse("3 1 1 " + "a1" * 32)])
BINDING = TlsaBinding(MX, MX, (MX, "client.test"), RECORDS)
SEARCHES = {
    "usable": TlsaSearch(TlsaOutcome.USABLE, BINDING),
    "unusable": TlsaSearch(TlsaOutcome.UNUSABLE, BINDING),
    "absent": TlsaSearch(TlsaOutcome.ABSENT),
    "error": TlsaSearch(TlsaOutcome.ERROR, None, SkipReason.TLSA_LOOKUP_FAILED, FailureKind.BOGUS),
}


def decided(
    search: str,
    settings: Mapping[str, str] = DEFAULT,
    *,
    mx: str = "secure",
    policy: str | None = None,
    wish: Wish = Wish.NONE,
) -> Plan:
    """The plan for a domain with one host; `mx` is secure, insecure, or implicit: without MX records, and insecure."""
    config = Config.from_settings(settings)
    host = Host(host=MX, addresses=("192.0.2.1",), binding=SEARCHES[search].binding, config=config)
    searched = SearchedHost(host, search=SEARCHES[search])
    found = MxResult((MxHost(MX),), secure=mx == "secure", implicit=mx == "implicit")
    known = None if policy is None else Discovery(domain="client.test", policy=written(policy))
    everything = Found(found, Discovered(known), (searched,))
    return decide(NextHop.parse("client.test"), everything, config, config.dane, wish, NOW)


def written(policy: str) -> Policy:
    """A policy of this mode that lists the host, or with "other" behind the mode another."""
    mode, _, other = policy.partition(" ")
    pattern = "mx.other.test" if other else MX
    parsed = parse_policy(f"version: STSv1\nmode: {mode}\nmx: {pattern}\nmax_age: 86400\n".encode())
    assert isinstance(parsed, Policy)
    return parsed


def clauses(plan: Plan) -> set[str]:
    """The clauses and settings that the decision about the host names."""
    (host,) = plan.hosts
    return {step.clause for step in host.trace}


def what(plan: Plan) -> str:
    """The level with its duties, or the reason for which the host is skipped."""
    (host,) = plan.hosts
    if isinstance(host, SkippedHost):
        return str(host.skip.reason)
    return " ".join([str(host.level), *map(str, host.requires)])


# What the search for TLSA records found, the MX RRset, the settings, and the action.
BY_DANE = [
    # RFC 7672 section 2.2: the four outcomes
    ("usable", "secure", {}, "dane dane"),
    ("unusable", "secure", {}, "encrypt"),
    ("absent", "secure", {}, "may"),
    ("error", "secure", {}, "tlsa-lookup-failed"),
    # Section 2.2.1: what is behind an insecure MX RRset is by the operator's choice
    ("usable", "insecure", {}, "dane dane"),
    ("usable", "insecure", {"insecure_mx": "encrypt"}, "encrypt"),
    ("unusable", "insecure", {"insecure_mx": "encrypt"}, "encrypt"),
    ("error", "insecure", {"insecure_mx": "encrypt"}, "tlsa-lookup-failed"),
    # A domain without MX records chose itself, so the choice does not shift its level
    ("usable", "implicit", {"insecure_mx": "encrypt"}, "dane dane"),
    # Section 6: mandatory DANE takes usable records and a secure choice of the host
    ("usable", "secure", {"dane": "mandatory"}, "dane dane"),
    ("unusable", "secure", {"dane": "mandatory"}, "dane-required"),
    ("absent", "secure", {"dane": "mandatory"}, "dane-required"),
    ("usable", "insecure", {"dane": "mandatory"}, "dane-required"),
    ("error", "secure", {"dane": "mandatory"}, "tlsa-lookup-failed"),
    # Section 9.1: what is audited stops nothing
    ("usable", "secure", {"dane": "audit"}, "may"),
    ("unusable", "secure", {"dane": "audit"}, "may"),
    ("absent", "secure", {"dane": "audit"}, "may"),
    ("error", "secure", {"dane": "audit"}, "may"),
]


@pytest.mark.parametrize(("search", "mx", "settings", "action"), BY_DANE)
def test_the_actions_of_rfc_7672(search: str, mx: str, settings: dict[str, str], action: str) -> None:
    assert what(decided(search, settings, mx=mx)) == action


# What the search found, the policy, the settings, the action, and what is observed.
BY_POLICY = [
    # RFC 8461 section 5: enforce takes a listed host and a certificate for it
    ("absent", "enforce", {}, "secure pkix", ()),
    ("absent", "enforce other", {}, "sts-mx-mismatch", ()),
    ("unusable", "enforce", {}, "secure pkix", ()),
    # testing records and changes nothing
    ("absent", "testing", {}, "may", ("pkix",)),
    ("absent", "testing other", {}, "may", ("pkix",)),
    ("unusable", "testing", {}, "encrypt", ("pkix",)),
    ("usable", "testing", {}, "dane dane", ("pkix",)),
    # none is no policy
    ("absent", "none", {}, "may", ()),
    # Section 2: a policy must not overrule DANE; by default DANE governs, by choice both have to hold
    ("usable", "enforce", {}, "dane dane", ("pkix",)),
    ("usable", "enforce other", {}, "dane dane", ("pkix",)),
    ("usable", "enforce", {"sts_with_dane": "both"}, "dane dane pkix", ()),
    ("usable", "enforce other", {"sts_with_dane": "both"}, "sts-mx-mismatch", ()),
    # and it does not make up for a failed lookup
    ("error", "enforce", {}, "tlsa-lookup-failed", ()),
    # audited DANE leaves the policy in force
    ("usable", "enforce", {"dane": "audit"}, "secure pkix", ("dane",)),
]


@pytest.mark.parametrize(("search", "policy", "settings", "action", "observed"), BY_POLICY)
def test_the_actions_of_rfc_8461(
    search: str, policy: str, settings: dict[str, str], action: str, observed: tuple[str, ...]
) -> None:
    plan = decided(search, settings, policy=policy)
    assert what(plan) == action
    (host,) = plan.hosts
    if isinstance(host, HostPlan):
        assert (() if host.observe is None else host.observe.requires) == observed


def test_behind_an_insecure_mx_rrset_a_policy_holds_beside_dane() -> None:
    """RFC 8461 section 2: the policy vouches for the host that DNSSEC did not choose."""
    assert what(decided("usable", mx="insecure", policy="enforce")) == "dane dane pkix"
    assert what(decided("usable", mx="insecure", policy="enforce other")) == "sts-mx-mismatch"


# RFC 8689 section 4.2.1: somebody has to vouch for the choice of the host, and the host to authenticate itself
REQUIRED = [
    ("usable", "secure", None, "dane dane"),
    ("absent", "secure", None, "secure pkix"),
    ("unusable", "secure", None, "secure pkix"),
    ("absent", "insecure", None, "requiretls-unmet"),
    ("usable", "insecure", None, "requiretls-unmet"),
    ("absent", "insecure", "enforce", "secure pkix"),
    ("absent", "insecure", "testing", "requiretls-unmet"),
    ("error", "secure", None, "tlsa-lookup-failed"),
]


@pytest.mark.parametrize(("search", "mx", "policy", "action"), REQUIRED)
def test_the_actions_of_rfc_8689(search: str, mx: str, policy: str | None, action: str) -> None:
    plan = decided(search, mx=mx, policy=policy, wish=Wish.REQUIRETLS)
    assert what(plan) == action
    assert plan.requiretls
    assert all(host.requiretls for host in plan.usable_hosts)


# Each decision says by what it was made, where the search has not said so already
NAMED = [
    (decided("absent"), "RFC 7672 section 2.2"),
    (decided("usable", {"insecure_mx": "encrypt"}, mx="insecure"), "Config.insecure_mx"),
    (decided("absent", {"dane": "mandatory"}), "RFC 7672 section 6"),
    (decided("usable", {"dane": "audit"}), "RFC 7672 section 9.1"),
    (decided("absent", policy="testing"), "RFC 8461 section 5"),
    (decided("absent", policy="enforce"), "RFC 8461 section 5"),
    (decided("absent", policy="enforce other"), "RFC 8461 section 5"),
    (decided("usable", policy="enforce"), "Config.sts_with_dane"),
    (decided("usable", wish=Wish.REQUIRETLS), "RFC 8689 section 4.2.1"),
    (decided("absent", wish=Wish.REQUIRETLS), "RFC 8689 section 4.2.1"),
    (decided("absent", mx="insecure", wish=Wish.REQUIRETLS), "RFC 8689 section 4.2.1"),
]


@pytest.mark.parametrize(("plan", "clause"), NAMED, ids=[clause for _, clause in NAMED])
def test_a_decision_names_what_made_it(plan: Plan, clause: str) -> None:
    assert clause in clauses(plan)
