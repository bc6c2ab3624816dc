"""Plans over answers that a static world can not give: families of unlike security, and alias chains link by link.

A zone of a world is secure as a whole, and its resolver follows aliases to the end. Here every name and type has a
security of its own, and one small DNS is served in both ways: whole chains, or a CNAME without the data of its target
(RFC 7672 section 2.1.3).
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from attrs import field, frozen

from mailtlspolicy import Config, Engine, Tlsa
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy import Plan

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
A, AAAA, CNAME, MX, TLSA = RecordType.A, RecordType.AAAA, RecordType.CNAME, RecordType.MX, RecordType.TLSA
EE = "3 1 1 " + "a1" * 32
KEY = Tlsa.parse(EE)
OTHER = Tlsa.parse("3 1 1 " + "b2" * 32)


@frozen
class Given:
    """What is at a name: records of one type or an alias target, their security and TTL; or a failure."""

    records: tuple[Any, ...] = ()
    secure: bool = True
    ttl: int = 600
    failure: FailureKind | None = None


def alias(target: str, *, secure: bool = True, ttl: int = 600) -> Given:
    return Given((target,), secure, ttl)


@frozen
class SmallDns:
    """A resolver over names given one by one; what is not given does not exist, securely."""

    given: Mapping[tuple[str, RecordType], Given]
    link_by_link: bool = False
    asked: list[str] = field(factory=list)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        self.asked.append(f"{question.name} {question.rdtype}")
        name, secure, ttl = question.name, True, 86_400
        aliases: tuple[str, ...] = ()
        while len(aliases) < 20:
            link = None if question.rdtype is CNAME else self.given.get((name, CNAME))
            found = link or self.given.get((name, question.rdtype), Given())
            if found.failure is not None:
                return LookupFailure(question, found.failure)
            secure, ttl = secure and found.secure, min(ttl, found.ttl)
            if link is None:
                return Answer(question, secure, found.records, aliases, ttl=ttl)
            name = link.records[0]
            aliases += (name,)
            if self.link_by_link:
                return Answer(question, secure, aliases=aliases, complete=False, ttl=ttl)
        return LookupFailure(question, FailureKind.LOOP)


def planned(
    given: Mapping[tuple[str, RecordType], Given],
    *,
    link_by_link: bool = False,
    next_hop: str = "client.example",
    **settings: Any,
) -> tuple[Plan, list[str]]:
    """The plan over a small DNS, and what was asked for it."""
    resolver = SmallDns(given, link_by_link)
    return Engine(resolver, clock=lambda: NOW, config=Config(sts="off", **settings)).plan(next_hop), resolver.asked


def family(word: str, address: str) -> Given:
    """What one address lookup gives: addresses or absence, each secure or insecure."""
    records = (address,) if word in {"secure", "insecure"} else ()
    return Given(records, secure=not word.startswith("insecure"))


V4, V6 = "192.0.2.1", "2001:db8::1"
# A host is as secure as the families that it will be connected to over: those that yielded addresses.
MIXED: list[tuple[str, str, str | None, tuple[str, ...]]] = [
    ("secure", "insecure", "may", (V4, V6)),
    ("insecure", "secure", "may", (V4, V6)),
    ("secure", "insecurely absent", "dane", (V4,)),
    ("insecurely absent", "secure", "dane", (V6,)),
    ("insecure", "absent", "may", (V4,)),
    ("absent", "insecure", "may", (V6,)),
    ("absent", "insecurely absent", None, ()),
    ("insecurely absent", "absent", None, ()),
]


def one_host(a: Given, aaaa: Given, **more: Given) -> dict[tuple[str, RecordType], Given]:
    return {
        ("client.example", MX): Given((Mx(10, "mx.example"),)),
        ("mx.example", A): a,
        ("mx.example", AAAA): aaaa,
        ("_25._tcp.mx.example", TLSA): more.get("tlsa", Given((KEY,))),
    }


@pytest.mark.parametrize("families", ["either", "both"])
@pytest.mark.parametrize(("a", "aaaa", "level", "addresses"), MIXED)
def test_the_families_that_yield_addresses_decide_whether_dane_applies(
    a: str, aaaa: str, level: str | None, addresses: tuple[str, ...], families: str
) -> None:  # RFC7672-2.2.2-g, RFC7672-2.2.2-j
    plan, asked = planned(one_host(family(a, V4), family(aaaa, V6)), address_families=families)
    (host,) = plan.hosts
    assert host.level == level
    assert host.addresses == addresses
    assert host.cleartext is (level == "may")
    assert ("_25._tcp.mx.example TLSA" in asked) is (level == "dane")
    if level is None:
        assert host.to_json()["skip"]["reason"] == "no-addresses"


@pytest.mark.parametrize(
    ("versions", "a", "aaaa", "level"),
    [
        ((4,), "secure", "insecure", "dane"),
        ((6,), "insecure", "secure", "dane"),
        ((4,), "insecure", "secure", "may"),
        ((6,), "secure", "insecure", "may"),
        ((6, 4), "secure", "insecure", "may"),
    ],
)
def test_a_family_that_is_not_asked_for_has_no_say(versions: tuple[int, ...], a: str, aaaa: str, level: str) -> None:
    plan, _ = planned(one_host(family(a, V4), family(aaaa, V6)), ip_versions=versions)  # RFC5321-5.2-b
    assert [host.level for host in plan.hosts] == [level]


@pytest.mark.parametrize("insecure", [A, AAAA])
def test_an_alias_with_one_insecure_family_takes_the_alias_question(insecure: RecordType) -> None:  # RFC7672-2.1.3-i
    given = one_host(Given(), Given(), tlsa=Given((KEY,))) | {
        ("mx.example", CNAME): alias("real.example"),
        ("real.example", A): Given((V4,), secure=insecure is not A),
        ("real.example", AAAA): Given((V6,), secure=insecure is not AAAA),
        ("_25._tcp.real.example", TLSA): Given((OTHER,)),
    }
    plan, asked = planned(given)
    (host,) = plan.usable_hosts
    assert "mx.example CNAME" in asked
    assert "_25._tcp.real.example TLSA" not in asked
    assert host.binding is not None
    assert (host.binding.base_domain, host.addresses) == ("mx.example", (V4, V6))


@pytest.mark.parametrize("broken", [A, AAAA])
def test_the_family_that_answers_tells_the_alias_chain(broken: RecordType) -> None:  # RFC7672-2.2.2-r
    resolver_fails = Given(failure=FailureKind.TIMEOUT)
    given = one_host(Given(), Given()) | {
        ("mx.example", CNAME): alias("real.example"),
        ("real.example", A): resolver_fails if broken is A else Given((V4,)),
        ("real.example", AAAA): resolver_fails if broken is AAAA else Given((V6,)),
        ("_25._tcp.real.example", TLSA): Given((OTHER,)),
    }
    (host,) = planned(given)[0].usable_hosts
    assert host.binding is not None
    assert host.binding.base_domain == "real.example"


# One domain with an alias of two links in front of each of the three kinds of data.
CHAINS: dict[tuple[str, RecordType], Given] = {
    ("client.example", CNAME): alias("mail.example"),
    ("mail.example", CNAME): alias("domain.example"),
    ("domain.example", MX): Given((Mx(10, "mx.example"),)),
    ("mx.example", CNAME): alias("www.example"),
    ("www.example", CNAME): alias("real.example"),
    ("real.example", A): Given((V4,)),
    ("real.example", AAAA): Given((V6,)),
    ("_25._tcp.real.example", CNAME): alias("tlsa.example"),
    ("tlsa.example", CNAME): alias("ca.example"),
    ("ca.example", TLSA): Given((KEY,)),
    ("_25._tcp.mx.example", TLSA): Given((OTHER,)),
}
LINKS = [key for key in CHAINS if key[1] is CNAME]


def test_each_kind_of_answer_is_completed_by_asking_for_the_target() -> None:  # RFC7672-2.1.3-c
    plan, asked = planned(CHAINS, link_by_link=True)
    (host,) = plan.usable_hosts
    assert asked == [
        "client.example MX",
        "mail.example MX",
        "domain.example MX",
        "mx.example A",
        "www.example A",
        "real.example A",
        "mx.example AAAA",
        "www.example AAAA",
        "real.example AAAA",
        "_25._tcp.real.example TLSA",
        "tlsa.example TLSA",
        "ca.example TLSA",
    ]
    assert (plan.expanded_next_hop, plan.mx_secure) == ("domain.example", True)
    assert (host.host, host.addresses, host.level) == ("mx.example", (V4, V6), "dane")
    assert host.sni == "real.example"
    assert host.reference_ids == ("real.example", "client.example", "domain.example")


@pytest.mark.parametrize("insecure", [None, *CHAINS], ids=lambda key: "none" if key is None else " ".join(key))
@pytest.mark.parametrize("setting", ["opportunistic", "mandatory"])
def test_a_chain_means_the_same_whole_and_link_by_link(insecure: tuple[str, RecordType] | None, setting: str) -> None:
    given = CHAINS if insecure is None else CHAINS | {insecure: Given(CHAINS[insecure].records, secure=False)}
    whole, _ = planned(given, dane=setting)  # RFC7672-2.1.3-j
    linked, _ = planned(given, dane=setting, link_by_link=True)
    assert linked == whole


@pytest.mark.parametrize(
    ("insecure", "mx_secure", "base_domain"),
    [
        (("client.example", CNAME), False, "real.example"),
        (("mail.example", CNAME), False, "real.example"),
        (("domain.example", MX), False, "real.example"),
        (("mx.example", CNAME), True, None),
        (("www.example", CNAME), True, "mx.example"),
        (("real.example", A), True, "mx.example"),
        (("_25._tcp.real.example", CNAME), True, "mx.example"),
        (("tlsa.example", CNAME), True, "mx.example"),
        (("ca.example", TLSA), True, "mx.example"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_first_insecure_link_makes_the_rest_insecure(
    insecure: tuple[str, RecordType], base_domain: str | None, *, mx_secure: bool
) -> None:  # RFC7672-2.1.3-f
    plan, _ = planned(CHAINS | {insecure: Given(CHAINS[insecure].records, secure=False)}, link_by_link=True)
    (host,) = plan.usable_hosts
    assert plan.mx_secure is mx_secure
    assert (None if host.binding is None else host.binding.base_domain) == base_domain
    assert host.level == ("may" if base_domain is None else "dane")


@pytest.mark.parametrize("link_by_link", [False, True])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (("mail.example", CNAME), "mx-lookup-failed"),
        (("domain.example", MX), "mx-lookup-failed"),
        (("www.example", CNAME), "address-lookup-failed"),
        (("tlsa.example", CNAME), "tlsa-lookup-failed"),
        (("ca.example", TLSA), "tlsa-lookup-failed"),
    ],
)
def test_a_failure_at_any_link_fails_the_lookup_as_a_whole(
    broken: tuple[str, RecordType], reason: str, *, link_by_link: bool
) -> None:  # RFC7672-2.1.3-e
    plan, _ = planned(CHAINS | {broken: Given(failure=FailureKind.SERVFAIL)}, link_by_link=link_by_link)
    assert plan.undeliverable is not None
    assert plan.undeliverable.kind == "transient"
    reasons = [host.to_json()["skip"]["reason"] for host in plan.hosts]
    assert (reasons or [plan.undeliverable.reason]) == [reason]


@pytest.mark.parametrize(
    ("last", "first", "reason"),
    [
        ("mail.example", "client.example", "alias-loop"),
        ("www.example", "mx.example", "address-lookup-failed"),
        ("tlsa.example", "_25._tcp.real.example", "tlsa-lookup-failed"),
    ],
)
def test_links_that_come_round_are_a_failure_and_never_absence(last: str, first: str, reason: str) -> None:
    plan, asked = planned(CHAINS | {(last, CNAME): alias(first)}, link_by_link=True)  # RFC7672-2.1.3-d
    assert plan.undeliverable is not None
    reasons = [host.to_json()["skip"]["reason"] for host in plan.hosts]
    assert (reasons or [plan.undeliverable.reason]) == [reason]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(("links", "followed"), [(10, True), (11, False)])
def test_ten_links_are_followed_by_default_and_the_eleventh_is_a_failure(links: int, *, followed: bool) -> None:
    given: dict[tuple[str, RecordType], Given] = {  # RFC7672-2.1.3-d
        (f"n{number}.example", CNAME): alias(f"n{number + 1}.example") for number in range(links)
    }
    given |= {
        (f"n{links}.example", MX): Given((Mx(10, "mx.example"),)),
        ("mx.example", A): Given((V4,)),
    }
    plan, _ = planned(given, next_hop="n0.example", link_by_link=True)
    assert (plan.undeliverable is None) is followed
    if not followed:
        assert plan.to_json()["undeliverable"] == {"kind": "transient", "reason": "alias-loop", "status": "4.4.6"}


@pytest.mark.parametrize("link_by_link", [False, True])
@pytest.mark.parametrize("short", [*LINKS, ("ca.example", TLSA), ("real.example", AAAA)], ids=" ".join)
def test_a_plan_holds_no_longer_than_any_link(short: tuple[str, RecordType], *, link_by_link: bool) -> None:
    given = CHAINS | {short: Given(CHAINS[short].records, ttl=7)}
    plan, _ = planned(given, link_by_link=link_by_link)
    assert plan.valid_until == NOW + timedelta(seconds=7)


@pytest.mark.parametrize(
    "at", [("client.example", MX), ("mx.example", A), ("_25._tcp.mx.example", TLSA)], ids=lambda key: str(key[1])
)
def test_an_answer_to_nothing_is_refused_and_never_read_as_absence(at: tuple[str, RecordType]) -> None:
    class Broken(SmallDns):
        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            answer = super().lookup(question)
            wrong = (question.name, question.rdtype) == at
            return Answer(question, secure=True, complete=False) if wrong else answer

    with pytest.raises(TypeError, match="incomplete"):
        Engine(Broken(one_host(Given((V4,)), Given())), clock=lambda: NOW, config=Config(sts="off")).plan(
            "client.example"
        )
