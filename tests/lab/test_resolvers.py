"""Every scenario is planned through each of the common resolvers, and no plan differs from that through Unbound.

Through dnsmasq, Stubby and systemd-resolved some differ; which ones is told here, and in docs/resolver.md. `doctor` is
asked about all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import Config, Engine, drive
from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.config import Sts
from mailtlspolicy.dns.doctor import Diagnosis, Validation, examine
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType
from tests.lab import resolvers
from tests.lab.lab import OBLIVIOUS_RESOLVER, RESOLVER, TACITURN_RESOLVER
from tests.lab.plans import alike, plan_all, plan_all_at_once
from tests.lab.zones import STRANGE_ZONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.lab.lab import Lab


@pytest.fixture(scope="module", autouse=True)
def _resolvers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with resolvers.run(tmp_path_factory.mktemp("resolvers"), lab.directory):
        yield


every_resolver = pytest.mark.parametrize(
    "address", [*resolvers.RESOLVERS.values(), TACITURN_RESOLVER], ids=[*resolvers.RESOLVERS, "unbound"]
)


A_SECURE_ADDRESS = Lookup("mx.ee.signed.test", RecordType.A)
A_BOGUS_ADDRESS = Lookup("host.alias-to-bogus.bogus.test", RecordType.A)


def levels(plans: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The level of each host, or why it is skipped, or why there is no host."""
    return {
        name: [str(host["level"] or host["skip"]["reason"]) for host in plan["hosts"]]
        or [str(plan["undeliverable"]["reason"])]
        for name, plan in plans.items()
    }


def differing(plans: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> set[str]:
    """The scenarios whose plans differ."""
    return {name for name, plan in others.items() if plans[name] != plan}


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_what_is_compared_has_every_level(lab: Lab, plan: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = [level for each in levels(plan(lab, RESOLVER)).values() for level in each]
    assert {"dane", "encrypt", "may", "tlsa-lookup-failed", "address-lookup-failed", "dane-required"} <= set(found)
    assert found.count("dane") > len(found) / 3


@every_resolver
@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_no_plan_differs_from_that_through_unbound(
    lab: Lab, address: str, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    assert alike(plan(lab, address)) == alike(plan_all(lab, RESOLVER))


@every_resolver
@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_nor_with_a_careless_nameserver_behind(
    lab: Lab, address: str, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    assert alike(plan(lab, address, OBLIVIOUS_RESOLVER)) == alike(plan_all(lab, RESOLVER))


@every_resolver
@pytest.mark.usefixtures("lab")
def test_bogus_data_is_told_from_data_that_can_not_be_had(address: str) -> None:
    resolver = DnsResolver(nameservers=[address])
    bogus = resolver.lookup(A_BOGUS_ADDRESS)
    assert isinstance(bogus, LookupFailure)
    assert bogus.kind is FailureKind.BOGUS
    gone = resolver.lookup(Lookup("_25._tcp.mx.tlsa-servfail.signed.test", RecordType.TLSA))
    assert isinstance(gone, LookupFailure)
    assert gone.kind is FailureKind.SERVFAIL


@every_resolver
@pytest.mark.usefixtures("lab")
def test_a_dname_is_shown_and_answered(address: str) -> None:
    resolver = DnsResolver(nameservers=[address])
    answer = resolver.lookup(Lookup("mx.moved.dname-to-unsigned.signed.test", RecordType.A))
    assert isinstance(answer, Answer)
    assert (answer.dname, answer.secure, len(answer.records)) == ("moved.dname-to-unsigned.signed.test", False, 1)
    dname = resolver.lookup(Lookup("moved.dname-to-unsigned.signed.test", RecordType.DNAME))
    assert isinstance(dname, Answer)
    assert (dname.records, dname.secure) == (("hosts.dname-to-unsigned.plain.test",), True)


# --- dnsmasq over Unbound

PROXY = ("--proxy-dnssec", "--cache-size=10000", "--min-cache-ttl=3600")  # room and time for all that the lab asks
NO_CACHE = ("--proxy-dnssec", "--cache-size=0")

# With --dnssec it answers SERVFAIL for whatever lies below a DNAME, and so the mail waits.
WAIT_FOR_DNAME = {"dname", "dname-to-unsigned", "tlsa-dname", "tlsa-dname-to-unsigned"}
# With --proxy-dnssec the AD bit is lost for what comes from its cache: addresses, aliases, and names that do not exist.
# How secure the alias of an address is, is asked after the address, whose answer has shown the alias.
LOST_AT_ONCE = {"alias-to-unsigned", "alias-to-unsigned-wrong", "alias-through-unsigned"}


def without_dane(lab: Lab, plans: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """The levels that plans have where no answer is secure: TLSA records are not even asked for."""
    lost = {"dane", "encrypt", "tlsa-lookup-failed"}
    return {
        name: [
            level if level not in lost else "dane-required" if lab.worlds[name].scenario.settings else "may"
            for level in each
        ]
        for name, each in levels(plans).items()
    }


@pytest.mark.parametrize("upstream", [RESOLVER, TACITURN_RESOLVER])
def test_dnsmasq_that_validates_makes_mail_below_a_dname_wait(lab: Lab, tmp_path: Path, upstream: str) -> None:
    want = plan_all(lab, RESOLVER)
    with resolvers.forward(tmp_path, lab.directory, "--dnssec", upstream=upstream):
        for plan in (plan_all, plan_all, plan_all_at_once):
            plans = plan(lab, resolvers.FORWARDER)
            assert differing(alike(plans), alike(plan_all(lab, RESOLVER))) == WAIT_FOR_DNAME
            assert all(plans[name]["undeliverable"]["kind"] == "transient" for name in WAIT_FOR_DNAME)
    assert {level for name in WAIT_FOR_DNAME for level in levels(want)[name]} == {"dane", "may"}


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_through_dnsmasq_that_passes_the_bit_on_and_has_no_cache_no_plan_differs(
    lab: Lab, tmp_path: Path, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    with resolvers.forward(tmp_path, lab.directory, *NO_CACHE):
        assert plan(lab, resolvers.FORWARDER) == plan_all(lab, TACITURN_RESOLVER)


def test_dnsmasq_that_passes_the_bit_on_loses_it_in_its_cache(lab: Lab, tmp_path: Path) -> None:
    want = plan_all(lab, RESOLVER)
    with resolvers.forward(tmp_path, lab.directory, *PROXY):
        first = plan_all(lab, resolvers.FORWARDER)
        assert differing(alike(first), alike(plan_all(lab, RESOLVER))) == LOST_AT_ONCE
        assert all(levels(first)[name] == without_dane(lab, want)[name] for name in LOST_AT_ONCE)
        for plan in (plan_all, plan_all_at_once):
            assert levels(plan(lab, resolvers.FORWARDER)) == without_dane(lab, want)


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_through_dnsmasq_as_it_is_installed_dane_never_applies(
    lab: Lab, tmp_path: Path, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    with resolvers.forward(tmp_path, lab.directory):
        plans = plan(lab, resolvers.FORWARDER)
    assert levels(plans) == without_dane(lab, plan_all(lab, RESOLVER))


# --- a zone signed by an algorithm that nobody knows, which is insecure (RFC 4035 section 5.2)


def plan_for_the_strange_zone(address: str) -> dict[str, Any]:
    engine = Engine(DnsResolver(nameservers=[address]), config=Config(sts=Sts.OFF))
    plan: dict[str, Any] = engine.plan(STRANGE_ZONE).to_json()
    return plan


def assert_the_strange_zone_is_insecure(address: str) -> None:
    plan = plan_for_the_strange_zone(address)
    assert (plan["mx_secure"], [host["level"] for host in plan["hosts"]]) == (False, ["may"])


@every_resolver
@pytest.mark.usefixtures("lab")
def test_a_zone_signed_by_an_unknown_algorithm_is_insecure(address: str) -> None:
    assert_the_strange_zone_is_insecure(address)


def test_a_zone_signed_by_an_unknown_algorithm_is_insecure_for_forwarders_that_validate(
    lab: Lab, tmp_path: Path
) -> None:
    with resolvers.forward(tmp_path, lab.directory, "--dnssec"):
        assert_the_strange_zone_is_insecure(resolvers.FORWARDER)
    with resolvers.stubby(tmp_path, lab.directory, validates=True):
        assert_the_strange_zone_is_insecure(resolvers.FORWARDER)


# --- Stubby over Unbound


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
@pytest.mark.parametrize("upstream", [RESOLVER, TACITURN_RESOLVER])
def test_through_stubby_over_a_resolver_that_validates_no_plan_differs(
    lab: Lab, tmp_path: Path, upstream: str, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    with resolvers.stubby(tmp_path, lab.directory, upstream=upstream):
        for _ in range(2):  # it caches nothing, and so loses nothing there
            assert alike(plan(lab, resolvers.FORWARDER)) == alike(plan_all(lab, RESOLVER))


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
@pytest.mark.parametrize("upstream", [TACITURN_RESOLVER, OBLIVIOUS_RESOLVER])
def test_through_stubby_that_validates_no_plan_differs(
    lab: Lab, tmp_path: Path, upstream: str, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    with resolvers.stubby(tmp_path, lab.directory, validates=True, upstream=upstream):
        assert alike(plan(lab, resolvers.FORWARDER)) == alike(plan_all(lab, RESOLVER))


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_stubby_is_as_good_as_its_upstream_where_it_does_not_validate(
    lab: Lab, tmp_path: Path, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    with resolvers.stubby(tmp_path, lab.directory, upstream=OBLIVIOUS_RESOLVER):
        assert plan(lab, resolvers.FORWARDER) == plan_all(lab, OBLIVIOUS_RESOLVER)


def test_stubby_takes_no_word_of_a_stranger_over_tls_alone(lab: Lab, tmp_path: Path) -> None:
    with resolvers.stubby(tmp_path, lab.directory, genuine=False):
        result = DnsResolver(nameservers=[resolvers.FORWARDER]).lookup(A_SECURE_ADDRESS)
    assert isinstance(result, LookupFailure)


def test_stubby_passes_on_the_bit_of_a_stranger_where_it_may_do_without_tls(lab: Lab, tmp_path: Path) -> None:
    """Although the settings demand authentication: the key is wrong, and it does not even leave TLS."""
    with resolvers.stubby(tmp_path, lab.directory, falls_back=True, genuine=False):
        result = DnsResolver(nameservers=[resolvers.FORWARDER]).lookup(A_SECURE_ADDRESS)
    assert isinstance(result, Answer)
    assert result.secure
    assert "Tolerated because of Opportunistic profile" in (tmp_path / "stubby.log").read_text("utf-8")


# --- systemd-resolved over Unbound

# One lookup after the other: where it loses datagrams, it takes its upstream for one that knows nothing of DNSSEC.


def test_through_systemd_resolved_that_validates_no_level_differs(lab: Lab, tmp_path: Path) -> None:
    with resolvers.resolved(tmp_path, lab.directory, "yes"):
        for _ in range(2):
            assert levels(plan_all(lab, resolvers.FORWARDER)) == levels(plan_all(lab, RESOLVER))


def test_through_systemd_resolved_bogus_data_is_like_data_that_can_not_be_had(lab: Lab, tmp_path: Path) -> None:
    with resolvers.resolved(tmp_path, lab.directory, "yes"):
        bogus = DnsResolver(nameservers=[resolvers.FORWARDER]).lookup(A_BOGUS_ADDRESS)
    assert isinstance(bogus, LookupFailure)
    assert bogus.kind is FailureKind.SERVFAIL


def test_through_systemd_resolved_mail_to_a_zone_signed_by_an_unknown_algorithm_waits(lab: Lab, tmp_path: Path) -> None:
    with resolvers.resolved(tmp_path, lab.directory, "yes"):
        plan = plan_for_the_strange_zone(resolvers.FORWARDER)
    assert (plan["undeliverable"]["kind"], plan["undeliverable"]["reason"]) == ("transient", "mx-lookup-failed")


def test_through_systemd_resolved_that_does_not_validate_dane_never_applies(lab: Lab, tmp_path: Path) -> None:
    with resolvers.resolved(tmp_path, lab.directory, "no"):
        plans = plan_all(lab, resolvers.FORWARDER)
    assert levels(plans) == without_dane(lab, plan_all(lab, RESOLVER))


# --- the doctor


def diagnose(address: str) -> Diagnosis:
    """What the doctor says of a resolver by names of the lab."""
    program = examine(
        "mx.ee.signed.test",
        ["host.alias-to-bogus.bogus.test", "mx.bogus-address.signed.test"],
        "mx.unsigned-host.plain.test",
    )
    lookup: Any = DnsResolver(nameservers=[address]).lookup
    return drive(program, lookup)


@every_resolver
@pytest.mark.usefixtures("lab")
def test_the_doctor_calls_a_good_resolver_validating(address: str) -> None:
    assert diagnose(address).validation is Validation.VALIDATING


@pytest.mark.usefixtures("lab")
def test_the_doctor_calls_a_resolver_that_does_not_validate_by_its_name() -> None:
    diagnosis = diagnose(OBLIVIOUS_RESOLVER)
    assert diagnosis.validation is Validation.NOT_VALIDATING
    assert "are answered" in diagnosis.detail


@pytest.mark.parametrize(
    ("options", "want", "words"),
    [
        (["--dnssec"], Validation.VALIDATING, "are refused"),
        (NO_CACHE, Validation.VALIDATING, "are refused"),
        (PROXY, Validation.INCONSISTENT, "then again: "),
        ([], Validation.NOT_VALIDATING, "something takes it away"),
    ],
    ids=["dnssec", "proxy-uncached", "proxy", "neither"],
)
def test_the_doctor_says_of_dnsmasq_what_it_can_see(
    lab: Lab, tmp_path: Path, options: Sequence[str], want: Validation, words: str
) -> None:
    with resolvers.forward(tmp_path, lab.directory, *options):
        diagnosis = diagnose(resolvers.FORWARDER)
    assert diagnosis.validation is want
    assert words in diagnosis.detail


@pytest.mark.parametrize(
    ("options", "want", "words"),
    [
        ({"validates": True, "upstream": OBLIVIOUS_RESOLVER}, Validation.VALIDATING, "are refused"),
        ({}, Validation.VALIDATING, "are refused"),
        ({"upstream": OBLIVIOUS_RESOLVER}, Validation.NOT_VALIDATING, "are answered"),
        # The path to the upstream is nothing that it could see.
        ({"falls_back": True, "genuine": False}, Validation.VALIDATING, "are refused"),
    ],
    ids=["validating", "over-validating", "over-not-validating", "falls-back"],
)
def test_the_doctor_says_of_stubby_what_it_can_see(
    lab: Lab, tmp_path: Path, options: dict[str, Any], want: Validation, words: str
) -> None:
    with resolvers.stubby(tmp_path, lab.directory, **options):
        diagnosis = diagnose(resolvers.FORWARDER)
    assert diagnosis.validation is want
    assert words in diagnosis.detail


@pytest.mark.parametrize(
    ("dnssec", "want"),
    [
        # What is wrong with it shows at other names; `put_together` knows it by its address.
        ("yes", Validation.VALIDATING),
        ("no", Validation.NOT_VALIDATING),
    ],
)
def test_the_doctor_says_of_systemd_resolved_what_it_can_see(
    lab: Lab, tmp_path: Path, dnssec: str, want: Validation
) -> None:
    with resolvers.resolved(tmp_path, lab.directory, dnssec):
        assert diagnose(resolvers.FORWARDER).validation is want
