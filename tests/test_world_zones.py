"""The resolver of the static world, against RFC 1034, 4592 and 6672."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailtlspolicy import Tlsa, World
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType


def zone(*records: str, security: str = "secure", **more: Any) -> dict[str, Any]:
    return {"security": security, "records": list(records), **more}


def ask(
    zones: dict[str, Any], name: str, rdtype: str = "A", failures: list[dict[str, str]] | None = None
) -> Answer | LookupFailure:
    resolver = World.from_json({"zones": zones, "failures": failures or []}).resolver
    return resolver.lookup(Lookup(name, RecordType(rdtype)))


def answer(zones: dict[str, Any], name: str, rdtype: str = "A") -> Answer:
    got = ask(zones, name, rdtype)
    assert isinstance(got, Answer)
    assert got.complete
    return got


def failure(zones: dict[str, Any], name: str, rdtype: str = "A", failures: Any = None) -> FailureKind:
    got = ask(zones, name, rdtype, failures)
    assert isinstance(got, LookupFailure)
    assert got.question == Lookup(name, RecordType(rdtype))
    return got.kind


def addresses(zones: dict[str, Any], name: str) -> str:
    """The addresses of a name, or NODATA, or NXDOMAIN."""
    got = answer(zones, name)
    return " ".join(map(str, got.records)) or ("NXDOMAIN" if got.nxdomain else "NODATA")


# --- records


@pytest.mark.parametrize(
    ("text", "name", "rdtype", "record"),
    [
        ("mx A 192.0.2.1", "mx.example", "A", "192.0.2.1"),
        ("MX 300 IN A 192.0.2.1", "mx.example", "A", "192.0.2.1"),
        ("mx IN 5m A 192.0.2.1", "mx.example", "A", "192.0.2.1"),
        ("mx in a 192.0.2.1", "mx.example", "A", "192.0.2.1"),
        ("@ AAAA 2001:DB8:0::1", "example", "AAAA", "2001:db8::1"),
        ("mx.example. A 192.0.2.1", "mx.example", "A", "192.0.2.1"),
        ("@ MX 10 Mx", "example", "MX", Mx(10, "mx.example")),
        ("@ MX 0 .", "example", "MX", Mx(0, ".")),
        ("@ MX 10 mx.other.test.", "example", "MX", Mx(10, "mx.other.test")),
        ("www CNAME @", "www.example", "CNAME", "example"),
        ('@ TXT one "two; \\"x\\" \\255"', "example", "TXT", (b"one", b'two; "x" \xff')),
        ("_25._tcp TLSA 3 1 1 AB cd", "_25._tcp.example", "TLSA", Tlsa(3, 1, 1, b"\xab\xcd")),  # of any length
        ("_25._tcp TLSA 9 9 9", "_25._tcp.example", "TLSA", Tlsa(9, 9, 9, b"")),
        ("bücher A 192.0.2.1", "xn--bcher-kva.example", "A", "192.0.2.1"),
    ],
)
def test_records_are_read_in_master_file_syntax(text: str, name: str, rdtype: str, record: Any) -> None:
    assert answer({"Example.": zone(text)}, name, rdtype).records == (record,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mx",
        "mx A",
        "mx A mx.example.",
        "mx A 2001:db8::1",
        "mx AAAA 192.0.2.1",
        "mx MX x mx",
        "mx MX 65536 mx",
        "mx NOTYPE x",
        "mx TLSA 3 1",
        "mx TLSA 3 1 256 ab",
        "mx TLSA 3 1 1 abc",
        "mx.other.test. A 192.0.2.1",
        "@ CNAME a..b",
        "m\\999 A 192.0.2.1",
        '@ TXT "open',
    ],
)
def test_a_record_that_can_not_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        World.from_json({"zones": {"example": zone(text)}})


def test_records_keep_their_order_and_the_lowest_ttl_holds() -> None:
    got = answer({"example": zone("@ 300 A 192.0.2.2", "@ 60 A 192.0.2.1")}, "example")
    assert (got.records, got.ttl) == (("192.0.2.2", "192.0.2.1"), 60)


# --- existence


TREE = {"example": zone("a.ent A 192.0.2.1", "@ TXT x", "only TXT x")}


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("a.ent.example", "192.0.2.1"),
        ("ent.example", "NODATA"),  # RFC 8020: an empty non-terminal exists
        ("b.ent.example", "NXDOMAIN"),
        ("x.a.ent.example", "NXDOMAIN"),
        ("only.example", "NODATA"),
        ("example", "NODATA"),
        ("gone.example", "NXDOMAIN"),
    ],
)
def test_a_name_exists_if_it_or_one_below_it_has_records(name: str, want: str) -> None:
    assert addresses(TREE, name) == want
    assert answer(TREE, name).secure


def test_an_empty_zone_has_an_apex() -> None:
    assert addresses({"example": zone()}, "example") == "NODATA"


@pytest.mark.parametrize(("security", "secure"), [("secure", True), ("insecure", False)])
def test_data_and_denial_are_as_secure_as_their_zone(security: str, *, secure: bool) -> None:
    zones = {"example": zone("@ A 192.0.2.1", security=security)}
    assert [
        answer(zones, name, rdtype).secure for name, rdtype in (("example", "A"), ("example", "MX"), ("x.example", "A"))
    ] == [secure] * 3


def test_a_name_in_no_zone_is_an_insecure_nxdomain() -> None:
    got = answer({"example": zone()}, "other.test")
    assert (got.nxdomain, got.secure, got.records) == (True, False, ())


def test_the_root_may_be_a_zone_and_then_every_name_is_in_it() -> None:
    zones = {".": zone("mx.test. A 192.0.2.1")}
    assert addresses(zones, "mx.test") == "192.0.2.1"
    assert answer(zones, "gone.example").secure
    assert addresses(zones, "test") == "NODATA"


# --- wildcards: the example of RFC 4592 section 2.2.1, and what it says about every question

WILD = {
    "example": zone(
        '*.example. TXT "this is a wildcard"',
        "*.example. MX 10 host1.example.",
        'sub.*.example. TXT "this is not a wildcard"',
        "host1.example. A 192.0.2.1",
        "_ssh._tcp.host1.example. TXT srv",
        "_ssh._tcp.host2.example. TXT srv",
    ),
    "subdel.example": zone(),
}


@pytest.mark.parametrize(
    ("name", "rdtype", "want"),
    [
        ("host3.example", "MX", "synthesised"),
        ("host3.example", "A", "NODATA"),
        ("foo.bar.example", "TXT", "synthesised"),
        ("host1.example", "MX", "NODATA"),
        ("sub.*.example", "MX", "NODATA"),
        ("_telnet._tcp.host1.example", "TXT", "NXDOMAIN"),
        ("host.subdel.example", "A", "NXDOMAIN"),
        ("ghost.*.example", "MX", "NXDOMAIN"),
        ("*.example", "MX", "synthesised"),
        ("_tcp.host2.example", "TXT", "NODATA"),
        ("host2.example", "MX", "NODATA"),  # an empty non-terminal stops the wildcard
    ],
)
def test_wildcards_answer_as_in_the_rfcs_example(name: str, rdtype: str, want: str) -> None:
    got = answer(WILD, name, rdtype)
    assert ("synthesised" if got.records else "NXDOMAIN" if got.nxdomain else "NODATA") == want
    assert got.secure


def test_a_wildcard_alias_is_followed() -> None:
    zones = {"example": zone("*._tcp.mx CNAME dane", "dane TLSA 3 1 1 ab", "mx A 192.0.2.1")}
    got = answer(zones, "_25._tcp.mx.example", "TLSA")
    assert (got.aliases, got.records) == (("dane.example",), (Tlsa.parse("3 1 1 ab"),))


# --- zone cuts


def test_a_name_belongs_to_the_longest_zone_that_it_ends_in() -> None:
    zones = {
        "example": zone("mx.sub A 192.0.2.1", "*.sub A 192.0.2.2"),
        "sub.example": zone("other A 192.0.2.3", security="insecure"),
    }
    assert addresses(zones, "mx.sub.example") == "NXDOMAIN"
    assert not answer(zones, "mx.sub.example").secure
    assert addresses(zones, "other.sub.example") == "192.0.2.3"


def test_a_zone_is_found_by_whole_labels() -> None:
    zones = {"example": zone(), "mail.example": zone("@ A 192.0.2.1", security="insecure")}
    got = answer(zones, "webmail.example")
    assert (got.nxdomain, got.secure) == (True, True)


def test_a_delegation_makes_the_names_above_it_exist() -> None:  # RFC 4592 section 2.2.2
    zones = {"example": zone("* A 192.0.2.9"), "a.b.example": zone("@ A 192.0.2.1")}
    assert addresses(zones, "b.example") == "NODATA"
    assert addresses(zones, "x.b.example") == "NXDOMAIN"
    assert addresses(zones, "c.example") == "192.0.2.9"


# --- aliases


def test_aliases_are_followed_across_zones_hop_by_hop() -> None:
    zones = {
        "one.test": zone("@ 300 CNAME a.two.test."),
        "two.test": zone("a 60 CNAME b", "b 120 A 192.0.2.1"),
    }
    assert answer(zones, "one.test") == Answer(
        Lookup("one.test", RecordType.A),
        secure=True,
        records=("192.0.2.1",),
        aliases=("a.two.test", "b.two.test"),
        ttl=60,
    )


@pytest.mark.parametrize("insecure", ["one.test", "two.test", "three.test"])
def test_one_insecure_zone_on_the_way_makes_the_answer_insecure(insecure: str) -> None:
    zones = {
        "one.test": zone("@ CNAME two.test."),
        "two.test": zone("@ CNAME three.test."),
        "three.test": zone("@ A 192.0.2.1"),
    }
    zones[insecure]["security"] = "insecure"
    got = answer(zones, "one.test")
    assert (got.secure, got.records) == (False, ("192.0.2.1",))


@pytest.mark.parametrize("target", ["gone.two.test.", "two.test.", "nowhere.invalid."])
def test_a_denial_at_the_end_of_a_chain_is_the_targets(target: str) -> None:
    zones = {"one.test": zone(f"@ CNAME {target}"), "two.test": zone()}
    got = answer(zones, "one.test")
    assert got.aliases == (target.rstrip("."),)
    assert (got.records, got.nxdomain, got.secure) == ((), target != "two.test.", "two.test" in target)


def test_a_cname_question_is_answered_without_following() -> None:
    zones = {"one.test": zone("@ CNAME two.test."), "two.test": zone("@ A 192.0.2.1", security="insecure")}
    got = answer(zones, "one.test", "CNAME")
    assert (got.records, got.aliases, got.secure) == (("two.test",), (), True)
    assert answer(zones, "two.test", "CNAME").records == ()


def test_ten_aliases_are_followed_and_the_eleventh_is_a_loop() -> None:
    records = [f"a{number} CNAME a{number + 1}" for number in range(11)]
    zones = {"example": zone(*records, "a11 A 192.0.2.1")}
    assert len(answer(zones, "a1.example").aliases) == 10
    assert addresses(zones, "a1.example") == "192.0.2.1"
    assert failure(zones, "a0.example") is FailureKind.LOOP
    assert failure({"example": zone("@ CNAME @")}, "example") is FailureKind.LOOP


# --- DNAME (RFC 6672)

DNAMES = {
    "old.test": zone("@ 60 DNAME new.test.", "mx.old.test. A 192.0.2.9", "@ TXT apex", security="secure"),
    "new.test": zone("mx A 192.0.2.1", "@ A 192.0.2.2", security="insecure"),
}


def test_a_name_below_a_dname_is_an_alias_and_what_stands_there_is_hidden() -> None:  # RFC 6672 section 2.4
    got = answer(DNAMES, "mx.old.test")
    assert (got.aliases, got.records, got.secure, got.ttl) == (("mx.new.test",), ("192.0.2.1",), False, 60)
    assert answer(DNAMES, "a.b.old.test").aliases == ("a.b.new.test",)


def test_a_cname_question_below_a_dname_gets_the_synthesised_alias() -> None:  # RFC 6672 section 3.1
    got = answer(DNAMES, "mx.old.test", "CNAME")
    assert (got.records, got.secure, got.aliases) == (("mx.new.test",), True, ())


def test_an_answer_tells_the_dname_that_makes_its_first_alias() -> None:
    zones = {**DNAMES, "alias.test": zone("@ CNAME mx.old.test.", "a DNAME alias.test.")}
    assert answer(zones, "mx.old.test").dname == "old.test"
    assert answer(zones, "a.b.old.test").dname == "old.test"
    assert answer(zones, "gone.a.alias.test").dname == "a.alias.test"
    assert answer(zones, "alias.test").dname is None
    assert answer(zones, "mx.new.test").dname is None
    assert answer(zones, "mx.old.test", "CNAME").dname is None
    assert answer({**zones, "old.test": zone("@ DNAME nowhere.")}, "mx.old.test").dname == "old.test"


def test_a_question_for_a_dname_is_answered_by_it() -> None:
    got = answer(DNAMES, "old.test", "DNAME")
    assert (got.records, got.secure, got.aliases, got.ttl) == (("new.test",), True, (), 60)
    assert answer(DNAMES, "new.test", "DNAME").records == ()


def test_the_owner_of_a_dname_is_not_redirected_itself() -> None:  # RFC 6672 section 2.3
    assert addresses(DNAMES, "old.test") == "NODATA"
    assert answer(DNAMES, "old.test", "TXT").records == ((b"apex",),)


def test_a_dname_may_point_to_the_root() -> None:
    zones = {"old.test": zone("@ DNAME ."), "new": zone("mx A 192.0.2.1")}
    assert answer(zones, "mx.new.old.test").aliases == ("mx.new",)


def test_of_two_dnames_above_a_name_the_upper_one_counts() -> None:  # RFC 6672 section 2.4: it hides the lower
    zones = {
        "example": zone("b DNAME upper.test.", "a.b DNAME lower.test."),
        "upper.test": zone("x.a A 192.0.2.1"),
        "lower.test": zone("x A 192.0.2.2"),
    }
    assert addresses(zones, "x.a.b.example") == "192.0.2.1"


def test_a_dname_that_makes_a_name_too_long_is_a_failure() -> None:  # RFC 6672 section 2.2
    label = "a" * 63
    zones = {"old.test": zone(f"@ DNAME {label}.{label}.new.test."), "new.test": zone()}
    assert answer(zones, "x.old.test").nxdomain
    assert failure(zones, f"{label}.{label}.old.test") is FailureKind.MALFORMED


def test_a_dname_loop_ends() -> None:
    zones = {"one.test": zone("@ DNAME two.test."), "two.test": zone("@ DNAME one.test.")}
    assert failure(zones, "x.one.test") is FailureKind.LOOP


# --- failures


BROKEN = {
    "one.test": zone("@ CNAME two.test.", "mx A 192.0.2.1"),
    "two.test": zone("@ CNAME three.test."),
    "three.test": zone("@ A 192.0.2.1", "mx A 192.0.2.2"),
}


@pytest.mark.parametrize("where", ["one.test", "two.test", "three.test"])
@pytest.mark.parametrize("kind", [str(kind) for kind in FailureKind])
def test_a_listed_failure_holds_at_every_name_of_the_chain_for_its_type(where: str, kind: str) -> None:
    listed = [{"name": where, "type": "A", "kind": kind}]
    assert failure(BROKEN, "one.test", "A", listed) == kind
    assert isinstance(ask(BROKEN, "one.test", "AAAA", listed), Answer)


def test_a_failure_of_all_types_holds_for_the_cname_question_too() -> None:
    listed = [{"name": "One.Test.", "type": "*", "kind": "timeout"}]
    for rdtype in ("A", "MX", "TLSA", "CNAME"):
        assert failure(BROKEN, "one.test", rdtype, listed) is FailureKind.TIMEOUT
    assert isinstance(ask(BROKEN, "mx.one.test", "A", listed), Answer)


def test_a_failure_at_the_target_leaves_the_cname_question_alone() -> None:
    got = ask(BROKEN, "one.test", "CNAME", [{"name": "two.test", "type": "*", "kind": "servfail"}])
    assert isinstance(got, Answer)
    assert got.records == ("two.test",)


@pytest.mark.parametrize("where", ["one.test", "two.test", "three.test"])
@pytest.mark.parametrize("name", ["one.test", "gone.one.test"])
def test_whatever_touches_a_bogus_zone_fails(where: str, name: str) -> None:
    zones = json.loads(json.dumps(BROKEN))
    zones["one.test"]["records"].append("gone CNAME two.test.")
    zones[where]["security"] = "bogus"
    assert failure(zones, name) is FailureKind.BOGUS


def test_even_a_denial_in_a_bogus_zone_fails_and_listed_failures_win() -> None:
    zones = {"example": zone(security="bogus")}
    assert failure(zones, "gone.example") is FailureKind.BOGUS
    listed = [{"name": "gone.example", "type": "A", "kind": "refused"}]
    assert failure(zones, "gone.example", "A", listed) is FailureKind.REFUSED
