"""The plan: what each host has to prove, and why no host can be tried (RFC 7672 sections 2.2, 3.2.2, 6 and 9.1)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest
from attrs import evolve, frozen

from mailtlspolicy import Config, HostPlan, NextHop, Plan, SkippedHost, TlsLevel, World, drive
from mailtlspolicy.effects import Answer, Moment
from mailtlspolicy.levels import Duty
from mailtlspolicy.mx import Undeliverable
from mailtlspolicy.plan import plan as make_plan
from mailtlspolicy.plan_values import Observe

if TYPE_CHECKING:
    from mailtlspolicy.effects import Lookup, LookupFailure
    from mailtlspolicy.engine import Resolver

EE = "3 1 1 " + "a1" * 32
TA = "2 0 1 " + "b2" * 32
UNUSABLE = "1 1 1 " + "c3" * 32
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def zone(*records: str, security: str = "secure", **more: Any) -> dict[str, Any]:
    return {"security": security, "records": list(records), **more}


def plan(
    zones: dict[str, Any],
    next_hop: str | NextHop = "client.test",
    *,
    failures: list[tuple[str, str]] | None = None,
    **settings: Any,
) -> Plan:
    listed = [{"name": name, "type": rdtype, "kind": "servfail"} for name, rdtype in failures or ()]
    world = World.from_json({"now": NOW.isoformat(), "zones": zones, "failures": listed})
    return world.engine(Config(**settings)).plan(next_hop)


def hosted(*records: str, mx: str = "secure", host: str = "secure") -> dict[str, Any]:
    """client.test, whose mail goes to mx.provider.test; these records stand in the provider's zone."""
    return {
        "client.test": zone("@ MX 10 mx.provider.test.", security=mx),
        "provider.test": zone("mx A 192.0.2.1", *records, security=host),
    }


def only(result: Plan) -> dict[str, Any]:
    """The one host of a plan, in JSON."""
    (host,) = result.to_json()["hosts"]
    assert host["trace"], "every decision has its clause"
    return dict(host)


def what(host: dict[str, Any]) -> tuple[Any, ...]:
    skip = host["skip"] and {key: host["skip"][key] for key in ("reason", "tlsrpt")}
    return host["level"], host["requires"], host["cleartext"], skip


# A domain without MX records, which is a signed alias of an unsigned host: the denial of MX is insecure.
UNSIGNED_TARGET = {
    "client.test": zone("@ CNAME m.host.test.", f"_25._tcp TLSA {EE}"),
    "host.test": zone("m A 192.0.2.1", security="insecure"),
}

DANE: tuple[Any, ...] = ("dane", ["dane"], False, None)
ENCRYPT: tuple[Any, ...] = ("encrypt", [], False, None)
MAY: tuple[Any, ...] = ("may", [], True, None)


def skipped(reason: str, tlsrpt: str | None) -> tuple[Any, ...]:
    return None, [], False, {"reason": reason, "tlsrpt": tlsrpt}


def test_the_four_outcomes_of_the_search_have_their_four_actions() -> None:  # RFC7672-2.2-r
    owner = "_25._tcp.mx"
    assert what(only(plan(hosted(f"{owner} TLSA {EE}")))) == DANE
    assert what(only(plan(hosted(f"{owner} TLSA {UNUSABLE}")))) == ENCRYPT
    assert what(only(plan(hosted()))) == MAY
    failed = plan(hosted(f"{owner} TLSA {EE}"), failures=[(f"{owner}.provider.test", "TLSA")])
    assert what(only(failed)) == skipped("tlsa-lookup-failed", "dnssec-invalid")


@pytest.mark.parametrize(
    ("setting", "usable", "unusable", "asked"),
    [("dane", DANE, ENCRYPT, True), ("encrypt", ENCRYPT, ENCRYPT, True), ("may", MAY, MAY, False)],
)
def test_behind_an_insecure_mx_the_setting_decides_and_the_plan_says_that_the_choice_was_insecure(
    setting: str, usable: Any, unusable: Any, *, asked: bool
) -> None:  # RFC7672-2.2.1-k
    for record, want in ((EE, usable), (UNUSABLE, unusable)):
        result = plan(hosted(f"_25._tcp.mx TLSA {record}", mx="insecure"), insecure_mx=setting)
        host = only(result)
        assert what(host) == want
        assert result.mx_secure is False
        assert host["tlsa"] == ([record] if asked else [])
        assert host["sni"] == "mx.provider.test"


@pytest.mark.parametrize("setting", ["dane", "encrypt", "may"])
def test_the_setting_for_an_insecure_mx_does_not_touch_a_secure_one_or_an_implicit_one(setting: str) -> None:
    assert what(only(plan(hosted(f"_25._tcp.mx TLSA {EE}"), insecure_mx=setting))) == DANE
    # RFC 7672 section 2.2.2 treats a domain without MX records like a secure MX host: only its own name was used.
    implicit = plan(UNSIGNED_TARGET, insecure_mx=setting)
    assert implicit.mx_secure is False
    assert what(only(implicit)) == DANE


@pytest.mark.parametrize(
    ("zones", "want"),
    [
        (hosted(f"_25._tcp.mx TLSA {EE}"), DANE),
        (hosted(f"_25._tcp.mx TLSA {UNUSABLE}"), skipped("dane-required", "dane-required")),
        (hosted(), skipped("dane-required", "dane-required")),
        (hosted(f"_25._tcp.mx TLSA {EE}", mx="insecure"), skipped("dane-required", "dane-required")),
        ({"client.test": zone("@ A 192.0.2.1", f"_25._tcp TLSA {EE}")}, DANE),
        (UNSIGNED_TARGET, skipped("dane-required", "dane-required")),
    ],
)
def test_mandatory_dane_uses_only_hosts_that_are_bound_and_chosen_securely(zones: Any, want: Any) -> None:
    result = plan(zones, dane="mandatory")  # RFC7672-6-b, RFC7672-2.2.1-i
    assert what(only(result)) == want
    if want != DANE:
        assert result.undeliverable == Undeliverable("transient", "no-hosts", "4.7.5")


def test_mandatory_dane_is_given_a_secure_host_by_the_operators_word_and_never_by_a_literal() -> None:
    zones = {"relay.test": zone("@ A 192.0.2.1", f"_587._tcp TLSA {EE}")}
    assert what(only(plan(zones, "[relay.test]:587", dane="mandatory"))) == DANE
    assert what(only(plan(zones, "[192.0.2.1]", dane="mandatory"))) == skipped("dane-required", "dane-required")
    for secure, want in ((True, DANE), (False, skipped("dane-required", "dane-required"))):
        route = NextHop.static("client.test", [(10, "relay.test")], secure=secure, port=587)
        assert what(only(plan(zones, route, dane="mandatory"))) == want


@pytest.mark.parametrize(
    ("record", "failures", "audit"),
    [
        (EE, [], {"level": "dane", "skip": None}),
        (UNUSABLE, [], {"level": "encrypt", "skip": None}),
        (None, [], {"level": "may", "skip": None}),
        (
            EE,
            ["TLSA"],
            {
                "level": None,
                "skip": {"reason": "tlsa-lookup-failed", "tlsrpt": "dnssec-invalid", "failure": "servfail"},
            },
        ),
    ],
)
def test_an_audit_stops_nothing_and_says_what_dane_would_have_given(record: Any, failures: Any, audit: Any) -> None:
    records = [] if record is None else [f"_25._tcp.mx TLSA {record}"]
    listed = [("_25._tcp.mx.provider.test", rdtype) for rdtype in failures]
    host = only(plan(hosted(*records), failures=listed, dane="audit"))  # RFC7672-9.1-c
    assert what(host) == MAY
    assert host["audit"] == audit
    observed = {"requires": ["dane"], "reference_ids": ["mx.provider.test", "client.test"], "pkix_name": None}
    assert host["observe"] == (observed if audit["level"] == "dane" else None)
    assert host["sni"] == "mx.provider.test"


def test_an_audit_still_skips_a_host_without_addresses() -> None:
    host = only(plan({"client.test": zone("@ MX 10 mx")}, dane="audit"))
    assert what(host) == skipped("no-addresses", None)


def test_dane_switched_off_asks_for_no_records() -> None:  # RFC7672-9.1-a
    failing = [("_25._tcp.mx.provider.test", "TLSA")]
    host = only(plan(hosted(f"_25._tcp.mx TLSA {EE}"), failures=failing, dane="off"))
    assert what(host) == MAY
    assert (host["tlsa"], host["sni"], host["audit"]) == ([], "mx.provider.test", None)


def test_one_broken_host_never_blocks_the_others() -> None:  # RFC7672-2.1.2-b
    records = (
        "@ MX 10 192.0.2.1.",
        "@ MX 20 nowhere",
        "@ MX 30 broken",
        "broken A 192.0.2.3",
        "@ MX 40 bogus-tlsa",
        "bogus-tlsa A 192.0.2.4",
        "@ MX 50 good",
        "good A 192.0.2.5",
    )
    failures = [("broken.client.test", "A"), ("_25._tcp.bogus-tlsa.client.test", "TLSA")]
    result = plan({"client.test": zone(*records)}, failures=failures)
    assert [None if host.skip is None else str(host.skip.reason) for host in result.hosts] == [
        "invalid-host",
        "no-addresses",
        "address-lookup-failed",
        "tlsa-lookup-failed",
        None,
    ]
    assert [host.host for host in result.usable_hosts] == ["good.client.test"]
    assert result.undeliverable is None
    # What was learned before a host was ruled out stays with it.
    assert [host.addresses for host in result.hosts] == [(), (), (), ("192.0.2.4",), ("192.0.2.5",)]
    assert [host["sni"] for host in result.to_json()["hosts"]][:2] == [None, "nowhere.client.test"]


@pytest.mark.parametrize(
    ("records", "failures", "kind", "status"),
    [
        (["@ MX 10 gone"], [], "permanent", "5.4.4"),
        (["@ MX 10 192.0.2.1.", "@ MX 20 gone"], [], "permanent", "5.4.4"),
        (["@ TXT nothing"], [], "permanent", "5.4.4"),  # an implicit MX without addresses
        (["@ MX 10 mx"], [("mx.client.test", "A"), ("mx.client.test", "AAAA")], "transient", "4.4.3"),
        (["@ MX 10 mx"], [("mx.client.test", "AAAA")], "transient", "4.4.3"),
        (["@ MX 10 gone", "@ MX 20 mx"], [("mx.client.test", "A")], "transient", "4.4.3"),
        (["@ MX 10 mx", "mx A 192.0.2.1"], [("_25._tcp.mx.client.test", "TLSA")], "transient", "4.7.5"),
    ],
)
def test_without_a_usable_host_the_mail_is_returned_only_if_nothing_can_heal(
    records: Any, failures: Any, kind: str, status: str
) -> None:
    result = plan({"client.test": zone(*records)}, failures=failures)
    assert result.undeliverable == Undeliverable(kind, "no-hosts", status)
    assert result.hosts


# RFC 7672 section 3.2.2, the cases in its order: next-hop, zones, and the names that DANE-TA accepts
REFERENCE_IDS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("a host of a secure MX", "client.test", hosted(f"_25._tcp.mx TLSA {TA}"), ["mx.provider.test", "client.test"]),
    (
        "the next-hop is an alias",
        "alias.test",
        {"alias.test": zone("@ CNAME client.test."), **hosted(f"_25._tcp.mx TLSA {TA}")},
        ["mx.provider.test", "alias.test", "client.test"],
    ),
    ("behind an insecure MX", "client.test", hosted(f"_25._tcp.mx TLSA {TA}", mx="insecure"), ["mx.provider.test"]),
    (
        "an aliased host of a secure MX, records at the target",
        "client.test",
        {
            "client.test": zone("@ MX 10 mx", "mx CNAME m.host.test."),
            "host.test": zone("m A 192.0.2.1", f"_25._tcp.m TLSA {TA}"),
        },
        ["m.host.test", "client.test"],
    ),
    (
        "an aliased host of a secure MX, records at the alias",
        "client.test",
        {
            "client.test": zone("@ MX 10 mx", "mx CNAME m.host.test.", f"_25._tcp.mx TLSA {TA}"),
            "host.test": zone("m A 192.0.2.1", security="insecure"),
        },
        ["mx.client.test", "client.test"],
    ),
    ("no MX, no alias", "client.test", {"client.test": zone("@ A 192.0.2.1", f"_25._tcp TLSA {TA}")}, ["client.test"]),
    (
        "no MX, an alias, records at the target",
        "client.test",
        {"client.test": zone("@ CNAME m.host.test."), "host.test": zone("m A 192.0.2.1", f"_25._tcp.m TLSA {TA}")},
        ["m.host.test", "client.test"],
    ),
    (
        "no MX, a secure alias, records at the alias only",
        "client.test",
        {"client.test": zone("@ CNAME m.host.test.", f"_25._tcp TLSA {TA}"), "host.test": zone("m A 192.0.2.1")},
        ["client.test"],
    ),
    (
        "no MX, an alias to an unsigned host, records at the alias",
        "client.test",
        {
            "client.test": zone("@ CNAME m.host.test."),
            "_tcp.client.test": zone(f"_25 TLSA {TA}"),
            "host.test": zone("m A 192.0.2.1", security="insecure"),
        },
        ["client.test"],
    ),
    (
        "a relay that is an alias",
        "[relay.test]:587",
        {"relay.test": zone("@ CNAME m.host.test."), "host.test": zone("m A 192.0.2.1", f"_587._tcp.m TLSA {TA}")},
        ["m.host.test", "relay.test"],
    ),
]


@pytest.mark.parametrize(
    ("next_hop", "zones", "names"), [case[1:] for case in REFERENCE_IDS], ids=[case[0] for case in REFERENCE_IDS]
)
def test_the_certificate_may_bear_these_names(next_hop: str, zones: Any, names: list[str]) -> None:
    host = only(plan(zones, next_hop))
    assert what(host) == DANE
    assert host["reference_ids"] == names
    assert (host["tlsa_base_domain"], host["sni"]) == (names[0], names[0])  # RFC7672-8.1-a


def test_a_static_list_gives_its_domain_as_a_name_only_if_it_was_declared_secure() -> None:
    zones = hosted(f"_2525._tcp.mx TLSA {TA}")
    for secure, names in ((True, ["mx.provider.test", "client.test"]), (False, ["mx.provider.test"])):
        route = NextHop.static("client.test", [(5, "mx.provider.test")], secure=secure, port=2525)
        host = only(plan(zones, route))
        assert (host["reference_ids"], host["port"], host["preference"]) == (names, 2525, 5)


@pytest.mark.parametrize("record", [UNUSABLE, None])
def test_no_names_are_checked_where_nothing_authenticates(record: str | None) -> None:
    records = [] if record is None else [f"_25._tcp.mx TLSA {record}"]
    assert only(plan(hosted(*records)))["reference_ids"] == []


def test_a_literal_is_outside_dane_and_has_no_name_to_send() -> None:  # RFC7672-2.2-o
    result = plan({}, "[IPv6:2001:db8::1]:2525")
    host = only(result)
    assert what(host) == MAY
    assert (host["host"], host["addresses"], host["port"]) == ("2001:db8::1", ["2001:db8::1"], 2525)
    assert (host["sni"], host["tlsa"], result.mx_secure, result.valid_until) == (None, [], False, None)


def test_an_opportunistic_session_names_the_mx_host_unless_switched_off_and_dane_always_names_the_base() -> None:
    zones = {"client.test": zone("@ MX 10 mx", "mx CNAME m.host.test."), "host.test": zone("m A 192.0.2.1")}
    assert only(plan(zones))["sni"] == "mx.client.test"  # the original form, never the expanded one
    assert only(plan(zones, opportunistic_sni=False))["sni"] is None
    zones["host.test"] = zone("m A 192.0.2.1", f"_25._tcp.m TLSA {EE}")
    assert only(plan(zones, opportunistic_sni=False))["sni"] == "m.host.test"


@pytest.mark.parametrize(
    "ourselves", [{"own_names": ["Mx2.Client.Test"]}, {"own_addresses": ["2001:DB8::0:2"]}], ids=["name", "address"]
)
def test_our_own_host_and_all_of_its_preference_or_worse_are_dropped(ourselves: Any) -> None:
    records = [f"@ MX {number}0 mx{number}" for number in (1, 2, 3)]
    records += ["@ MX 20 beside", "beside A 192.0.2.9"]
    records += [f"mx{number} {kind}{number}" for number in (1, 2, 3) for kind in ("A 192.0.2.", "AAAA 2001:db8::")]
    result = plan({"client.test": zone(*records)}, **ourselves)
    assert [host.host for host in result.hosts] == ["mx1.client.test"]
    assert any("this system" in step.fact for step in result.trace)


def test_a_domain_that_only_we_take_mail_for_is_a_loop_and_a_relay_is_none() -> None:
    zones = hosted()
    result = plan(zones, own_names=["mx.provider.test"])
    assert (result.hosts, result.undeliverable) == ((), Undeliverable("permanent", "no-hosts", "5.4.6"))
    assert plan(zones, "[mx.provider.test]", own_names=["mx.provider.test"]).usable_hosts


@pytest.mark.parametrize(
    ("ttls", "lowest"),
    [((60, 300, 300, 300), 60), ((300, 60, 300, 300), 60), ((300, 300, 60, 300), 60), ((300, 300, 300, 60), 60)],
)
def test_a_plan_is_valid_until_the_first_of_its_answers_expires(ttls: tuple[int, ...], lowest: int) -> None:
    mx, a, tlsa, denial = ttls
    provider = zone(f"mx {a} A 192.0.2.1", f"_25._tcp.mx {tlsa} TLSA {EE}", denial_ttl=denial)
    zones = {"client.test": zone(f"@ {mx} MX 10 mx.provider.test."), "provider.test": provider}
    assert plan(zones).valid_until == NOW + timedelta(seconds=lowest)


def test_the_json_form_has_the_keys_of_the_contract_for_usable_and_skipped_hosts_alike() -> None:
    result = plan({"client.test": zone("@ MX 10 mx", "mx A 192.0.2.1", "@ MX 20 gone")})
    data = result.to_json()
    assert {"version", "next_hop", "expanded_next_hop", "mx_secure", "undeliverable", "sts", "hosts"} <= data.keys()
    assert (data["version"], data["next_hop"], data["sts"]) == (1, "client.test", None)
    usable, skip = data["hosts"]
    assert isinstance(result.hosts[0], HostPlan)
    assert isinstance(result.hosts[1], SkippedHost)
    contract = (
        "host preference addresses level requires cleartext skip tlsa_base_domain tlsa sni reference_ids pkix_name "
        "sts_match audit observe trace"
    )
    assert set(contract.split()) <= usable.keys()
    assert usable.keys() == skip.keys()


def test_explain_gives_every_step_a_line_and_hosts_their_own_section() -> None:
    result = plan(hosted(f"_25._tcp.mx TLSA {EE}"))
    lines = result.explain().splitlines()
    steps = len(result.trace) + len(result.hosts[0].trace)
    assert len(lines) == steps + 1
    assert "mx.provider.test:" in lines
    assert all(line.strip().startswith(("RFC ", "Config.")) for line in lines if line != "mx.provider.test:")


# --- values made by hand: what can not be is refused, so that nothing fails open


@pytest.mark.parametrize("level", ["none", "may", "encrypt"])
def test_a_host_for_mail_that_requires_tls_has_a_duty_of_authentication(level: str) -> None:
    """RFC8689-4.2.1-f."""
    with pytest.raises(ValueError, match="REQUIRETLS"):
        HostPlan(host="mx.test", level=TlsLevel(level), requiretls=True)
    assert HostPlan(host="mx.test", level=TlsLevel.SECURE, requiretls=True).requires == ("pkix",)


def test_a_duty_by_dane_takes_tlsa_records_that_bind_the_host() -> None:
    with pytest.raises(ValueError, match="TLSA"):
        HostPlan(host="mx.test", level=TlsLevel.DANE)
    with pytest.raises(ValueError, match="TLSA"):
        HostPlan(host="mx.test", level=TlsLevel.MAY, observe=Observe((Duty.DANE,), ("mx.test",)))


@pytest.mark.parametrize("requiretls", [True, False])
def test_a_plan_and_its_hosts_are_for_the_same_kind_of_message(*, requiretls: bool) -> None:
    host = HostPlan(host="mx.test", level=TlsLevel.SECURE, requiretls=requiretls)
    with pytest.raises(ValueError, match="requiretls"):
        Plan(next_hop=NextHop.parse("client.test"), hosts=(host,), requiretls=not requiretls)
    assert Plan(next_hop=NextHop.parse("client.test"), hosts=(host,), requiretls=requiretls).usable_hosts == (host,)


def test_a_level_may_be_written_as_its_word_and_is_no_other() -> None:
    word: Any = "none"
    assert HostPlan(host="mx.test", level=word).level is TlsLevel.NONE
    with pytest.raises(ValueError, match="any"):
        HostPlan(host="mx.test", level=cast("Any", "any"))


# --- the wishes of a message


RELAYED = hosted(f"_25._tcp.mx TLSA {EE}")


@pytest.mark.parametrize(
    ("zones", "next_hop", "want"),
    [
        (hosted(f"_25._tcp.mx TLSA {EE}"), "client.test", DANE),
        (hosted(f"_25._tcp.mx TLSA {EE}", mx="insecure"), "client.test", "requiretls-unmet"),  # RFC8689-4.2.1-c
        (hosted(mx="insecure"), "client.test", "requiretls-unmet"),
        (hosted(), "client.test", ("secure", ["pkix"], False, None)),
        (hosted(f"_25._tcp.mx TLSA {UNUSABLE}"), "client.test", ("secure", ["pkix"], False, None)),
        (hosted(mx="insecure", host="insecure"), "[mx.provider.test]", ("secure", ["pkix"], False, None)),
        (hosted(), "[192.0.2.1]", "requiretls-unmet"),
        (hosted(), NextHop.static("s.test", [(1, "mx.provider.test")]), ("secure", ["pkix"], False, None)),
        (hosted(), NextHop.static("s.test", [(1, "mx.provider.test")], secure=False), "requiretls-unmet"),
    ],
)
def test_mail_that_requires_tls_goes_to_hosts_that_somebody_vouches_for(zones: Any, next_hop: Any, want: Any) -> None:
    world = World.from_json({"now": NOW.isoformat(), "zones": zones})
    made = world.engine(Config(sts="off")).plan(next_hop, requiretls=True)
    (host,) = made.to_json()["hosts"]
    assert made.requiretls
    if want == "requiretls-unmet":
        assert what(host) == skipped("requiretls-unmet", None)
        assert made.undeliverable == Undeliverable("permanent", "requiretls-unmet", "5.7.10")  # RFC8689-4.2.1-q
    else:
        assert (what(host), host["requiretls"]) == (want, True)
        assert any(step["clause"] == "RFC 8689 section 4.2.1" for step in host["trace"])
    assert world.engine(Config(sts="off")).plan(next_hop).requiretls is False


@pytest.mark.parametrize("choice", [Config(), Config(opportunistic_sni=False)])
def test_the_host_that_pkix_authenticates_is_always_named(choice: Config) -> None:
    """RFC8689-4.2.1-g: a name will be demanded, so it is asked for."""
    made = World.from_json({"zones": hosted()}).engine(choice).plan("client.test", requiretls=True)
    assert [(host.sni, host.pkix_name) for host in made.usable_hosts] == [("mx.provider.test", "mx.provider.test")]


@pytest.mark.parametrize(
    ("dane", "want"),
    [
        ("opportunistic", MAY),
        ("audit", MAY),
        ("off", MAY),
        ("mandatory", DANE),  # the operator's own demand, not the recipient's
    ],
)
def test_mail_to_which_tls_is_optional_goes_by_no_policy_of_the_recipient(dane: str, want: Any) -> None:
    """RFC8689-3-a, RFC8689-4.2.2-b."""
    world = World.from_json({"zones": RELAYED})
    made = world.engine(Config(dane=dane)).plan("client.test", tls_optional=True)
    assert what(only(made)) == want
    assert (made.tls_optional, made.sts, only(made)["audit"]) == (True, None, None)


def test_requiretls_makes_tls_required_void() -> None:  # RFC8689-4.1-c
    engine = World.from_json({"now": NOW.isoformat(), "zones": RELAYED}).engine()
    both = engine.plan("client.test", requiretls=True, tls_optional=True)
    assert both == engine.plan("client.test", requiretls=True)
    assert (both.requiretls, both.tls_optional) == (True, False)


def test_the_program_wishes_for_nothing_by_itself() -> None:
    literal = NextHop.parse("[192.0.2.1]")
    made = drive(make_plan(literal, config=Config(sts="off")), lambda effect: Moment(NOW, 0))
    assert (made.requiretls, made.tls_optional) == (False, False)


@frozen
class Hurried:
    """A resolver whose TTLs have run out, or were never any."""

    resolver: Resolver
    ttl: int

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        answer = self.resolver.lookup(question)
        return evolve(answer, ttl=self.ttl) if isinstance(answer, Answer) else answer


@pytest.mark.parametrize("ttl", [0, -1, -3600])
def test_a_plan_is_not_over_before_it_was_made(ttl: int) -> None:
    engine = World.from_json({"now": NOW.isoformat(), "zones": hosted()}).engine(Config())
    assert evolve(engine, resolver=Hurried(engine.resolver, ttl)).plan("client.test").valid_until == NOW


@pytest.mark.parametrize(
    ("next_hop", "mx", "settings", "wishes", "of_plan", "of_host"),
    [
        ("client.test", "10 mx.provider.test.", {"sts": "off"}, {}, "Config.sts", None),
        ("client.test", "10 mx.provider.test.", {"dane": "off"}, {}, None, "Config.dane"),
        ("client.test", "10 mx.provider.test.", {"insecure_mx": "may"}, {}, None, "Config.insecure_mx"),
        ("client.test", "10 mx_.provider.test\\000.", {}, {}, None, "RFC 5321 section 5.1"),
        ("[192.0.2.1]", "", {"ip_versions": "6"}, {}, None, "Config.ip_versions"),
        (
            "client.test",
            "10 mx.provider.test.",
            {},
            {"tls_optional": True},
            "RFC 8689 section 4.2.2",
            "RFC 8689 section 4.2.2",
        ),
    ],
)
def test_what_is_not_looked_for_or_not_used_has_its_step(
    next_hop: str,
    mx: str,
    settings: dict[str, Any],
    wishes: dict[str, Any],
    of_plan: str | None,
    of_host: str | None,
) -> None:
    zones = {**hosted(mx="insecure"), "client.test": zone(f"@ MX {mx}", security="insecure")} if mx else {}
    engine = World.from_json({"now": NOW.isoformat(), "zones": zones}).engine(Config.from_settings(settings))
    made = engine.plan(next_hop, **wishes)
    (host,) = made.hosts
    assert of_plan is None or of_plan in {step.clause for step in made.trace}
    assert of_host is None or of_host in {step.clause for step in host.trace}
