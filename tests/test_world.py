"""The static world: its resolver against RFC 1034, 4592 and 6672, its servers, and the files that it may name."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import Message, Tlsa, TlsLevel, World
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
from mailtlspolicy.sts import Entry, StsFailure, parse_policy
from mailtlspolicy.sts.effects import Fetch, Fetched, FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import fetch_whole
from mailtlspolicy.x509.pem import certificate_to_pem
from tests.sessions import look

if TYPE_CHECKING:
    from pathlib import Path


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


# --- servers


def shown(server: Any, *, sni: str | None = "mx.example", address: str = "192.0.2.1", port: int = 25) -> Any:
    world = World.from_json({"servers": {"192.0.2.1": {"25": server}, "2001:DB8::0:1": {"2525": server}}})
    return look(world.connector, address, port, sni)


LEAF, OTHER = b"\x30\x03leaf", b"\x30\x05other"
CHAIN = [f"pem:{certificate_to_pem(LEAF)}", f"pem:{certificate_to_pem(OTHER)}"]


def test_a_server_shows_its_chain_at_its_address_and_port_and_all_else_refuses() -> None:
    secured = ("starttls", Secured((LEAF, OTHER)))
    assert shown({"chain": CHAIN}) == secured
    assert shown({"chain": CHAIN}, address="2001:db8:0::1", port=2525) == secured
    for address, port in (("192.0.2.1", 2525), ("192.0.2.9", 25)):
        step, failure = shown({"chain": CHAIN}, address=address, port=port)
        assert (step, failure.kind) == ("connect", Trouble.UNREACHABLE)


def test_the_server_name_chooses_the_chain_and_an_unknown_one_gets_the_default() -> None:
    server = {"chain": CHAIN[:1], "by_sni": {"b.example": CHAIN[1:]}}
    for sni, der in (("b.example", OTHER), ("mx.example", LEAF), (None, LEAF)):
        assert shown(server, sni=sni) == ("starttls", Secured((der,)))


ALERTED = SessionFailure(Trouble.HANDSHAKE, "the server ended the handshake by an alert", alert=True)


@pytest.mark.parametrize(
    ("sni", "without", "known", "unknown"),
    [
        ([], LEAF, OTHER, LEAF),
        ("required", None, OTHER, LEAF),
        ("strict", LEAF, OTHER, None),
        (["strict"], LEAF, OTHER, None),
        (["strict", "required"], None, OTHER, None),
    ],
)
def test_a_server_may_end_the_handshake_because_of_the_server_name(
    sni: Any, without: bytes | None, known: bytes | None, unknown: bytes | None
) -> None:
    server = {"chain": CHAIN[:1], "by_sni": {"B.example": CHAIN[1:]}, "sni": sni}
    for name, der in ((None, without), ("b.example", known), ("mx.example", unknown)):
        step, told = shown(server, sni=name)
        assert (step, told) == ("starttls", ALERTED if der is None else Secured((der,)))
    step, told = shown(server | {"starttls": "fail"}, sni="mx.example")
    assert (step, told.kind, told.alert) == ("starttls", Trouble.HANDSHAKE, False)


def test_helo_is_answered_where_it_is_asked_for_and_announces_nothing() -> None:
    server = {"replies": {"EHLO": 502, "HELO": "250 mx.example"}, "extensions": ["SIZE 1000"]}
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    assert connector.ehlo(Ehlo(connected.session)) == Reply(502)
    assert connector.ehlo(Ehlo(connected.session, helo=True)) == Reply(250, ("mx.example",))


@pytest.mark.parametrize("server", [{"drop_after": "handshake"}, {"tls": {"drop_after": "EHLO"}}])
def test_the_end_in_place_of_the_reply_to_ehlo_within_tls_is_a_failed_handshake(server: Any) -> None:
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    assert isinstance(connector.ehlo(Ehlo(connected.session)), Reply)
    connector.start_tls(StartTls(connected.session, None, TlsLevel.MAY))
    failure = connector.ehlo(Ehlo(connected.session))
    assert isinstance(failure, SessionFailure)
    assert (failure.kind, failure.alert) == (Trouble.HANDSHAKE, False)


def test_one_pem_text_may_hold_several_certificates() -> None:
    text = "pem:" + certificate_to_pem(LEAF) + "between\n" + certificate_to_pem(OTHER)
    assert shown({"chain": [text]}) == ("starttls", Secured((LEAF, OTHER)))


@pytest.mark.parametrize(
    ("server", "step", "told"),
    [
        ({"connect": "refused"}, "connect", Trouble.UNREACHABLE),
        ({"connect": "timeout", "greeting": 421, "starttls": "absent"}, "connect", Trouble.UNREACHABLE),
        ({"greeting": 421, "starttls": "absent"}, "connect", 421),
        ({"greeting": 554}, "connect", 554),
        ({"greeting": 220, "starttls": "absent"}, "ehlo", 250),
        ({"starttls": "refused"}, "starttls", 454),
        ({"starttls": "fail", "chain": CHAIN}, "starttls", Trouble.HANDSHAKE),
        ({"greeting": "554 5.7.1 no"}, "connect", 554),
        ({"drop_after": "connect"}, "connect", Trouble.LOST),
        ({"drop_after": "EHLO"}, "ehlo", Trouble.LOST),
        ({"drop_after": "STARTTLS"}, "starttls", Trouble.LOST),
        ({"replies": {"EHLO": 421}}, "ehlo", 421),
        ({"replies": {"EHLO": 502}}, "ehlo", 502),
        ({"replies": {"STARTTLS": "250 ok"}}, "starttls", 250),
        ({"starttls": "refused", "replies": {"STARTTLS": 501}}, "starttls", 501),
        ({"behind_starttls": "250 ok"}, "starttls", Trouble.INJECTED),
        ({"behind_starttls": "250 ok", "starttls": "fail"}, "starttls", Trouble.INJECTED),  # they came before it
        ({"behind_starttls": "250 ok", "replies": {"STARTTLS": 454}}, "starttls", 454),
    ],
)
def test_a_server_fails_at_the_first_step_that_is_said_to(server: Any, step: str, told: object) -> None:
    last, got = shown(server)
    got = got.greeting if isinstance(got, Connected) else got
    assert (last, got.kind if isinstance(got, SessionFailure) else got.code) == (step, told)


def say(server: dict[str, Any], *, in_tls: bool = False, recipients: int = 2) -> Transmitted:
    """The transaction with a server, within TLS or before it."""
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    if in_tls:
        assert isinstance(connector.start_tls(StartTls(connected.session, None, TlsLevel.MAY)), Secured)
    to = tuple(f"r{number}@client.test" for number in range(recipients))
    return connector.transmit(Transmit(connected.session, Message("", to, b""), to))


def codes(sent: Transmitted) -> list[Any]:
    replies = (sent.mail, *sent.recipients, sent.data, sent.end)
    return [None if reply is None else reply.code for reply in replies]


@pytest.mark.parametrize(
    ("server", "told", "lost", "committed"),
    [
        ({}, [250, 250, 250, 354, 250], False, False),
        ({"mail": 452}, [250, 250, 250, 354, 452], False, False),
        ({"mail": 452, "replies": {".": "550 5.6.0 no"}}, [250, 250, 250, 354, 550], False, False),
        ({"replies": {"MAIL": 451}}, [451, None, None], False, False),
        ({"replies": {"RCPT": 550}}, [250, 550, 550, None, None], False, False),
        ({"replies": {"RCPT": [250, 450]}}, [250, 250, 450, 354, 250], False, False),
        ({"replies": {"RCPT": [450]}}, [250, 450, 450, None, None], False, False),  # the last repeats
        ({"replies": {"DATA": 451}}, [250, 250, 250, 451, None], False, False),
        ({"replies": {"DATA": 250}}, [250, 250, 250, 250, None], False, False),
        ({"drop_after": "MAIL"}, [None, None, None], True, False),
        ({"drop_after": "RCPT"}, [250, None, None], True, False),
        ({"drop_after": "DATA"}, [250, 250, 250, None, None], True, False),
        ({"drop_after": "."}, [250, 250, 250, 354, None], True, True),
        ({"drop_after": ".", "replies": {"DATA": 451}}, [250, 250, 250, 451, None], False, False),
    ],
)
@pytest.mark.parametrize("in_tls", [False, True])
def test_a_server_says_in_a_transaction_what_it_is_said_to(
    server: dict[str, Any], told: list[int | None], *, lost: bool, committed: bool, in_tls: bool
) -> None:
    sent = say(server, in_tls=in_tls)
    assert (codes(sent), sent.failure is not None, sent.committed) == (told, lost, committed)
    assert sent.failure is None or sent.failure.kind is Trouble.LOST


def test_what_differs_within_tls_differs_there_alone() -> None:
    server = {"replies": {"MAIL": 530, "RCPT": 450}, "tls": {"replies": {"MAIL": 250}}}
    assert codes(say(server)) == [530, None, None]
    assert codes(say(server, in_tls=True)) == [250, 450, 450, None, None]
    server = {"drop_after": "MAIL", "tls": {"drop_after": "DATA"}}
    assert codes(say(server)) == [None, None, None]
    assert codes(say(server, in_tls=True)) == [250, 250, 250, None, None]
    assert codes(say({"tls": {"drop_after": "MAIL"}})) == [250, 250, 250, 354, 250]


def test_a_server_announces_before_and_within_tls_what_it_is_said_to() -> None:
    server = {"requiretls": True, "extensions": ["SIZE 1000"], "tls": {"extensions": ["8BITMIME"]}}
    connector = World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector
    connected = connector.connect(Connect("192.0.2.1", 25))
    assert isinstance(connected, Connected)
    told = []
    for _ in range(2):
        reply = connector.ehlo(Ehlo(connected.session))
        assert isinstance(reply, Reply)
        told.append(reply.keywords)
        connector.start_tls(StartTls(connected.session, None, TlsLevel.MAY))
    assert told == [("STARTTLS", "SIZE"), ("REQUIRETLS", "8BITMIME")]
    connector.close(Close(connected.session))


def test_two_connections_to_a_server_are_apart() -> None:
    connector = World.from_json({"servers": {"192.0.2.1": {"25": {}}}}).connector
    first, second = (connector.connect(Connect("192.0.2.1", 25)) for _ in range(2))
    assert isinstance(first, Connected)
    assert isinstance(second, Connected)
    connector.start_tls(StartTls(first.session, None, TlsLevel.MAY))
    reply = connector.ehlo(Ehlo(second.session))
    assert isinstance(reply, Reply)
    assert "STARTTLS" in reply.keywords


@pytest.mark.parametrize(
    "server",
    [
        {"replies": []},
        {"replies": {"NOOP": 250}},
        {"replies": {"ehlo": 250}},
        {"replies": {"MAIL": [250]}},
        {"replies": {"MAIL": 199}},
        {"replies": {"MAIL": 600}},  # RFC5321-4.2.1-e
        {"replies": {"MAIL": "no"}},
        {"replies": {"MAIL": "5.7.1 no"}},
        {"replies": {"MAIL": ""}},
        {"replies": {"MAIL": True}},
        {"replies": {"MAIL": None}},
        {"replies": {"MAIL": "\u0662\u0665\u0660 ok"}},
        {"replies": {"RCPT": []}},
        {"replies": {"RCPT": [250, "x"]}},
        {"sni": "lenient"},
        {"sni": ["required", "lenient"]},
        {"sni": True},
        {"sni": None},
        {"greeting": 150},
        {"greeting": "hello"},
        {"mail": "soon"},
        {"drop_after": "QUIT"},
        {"drop_after": ""},
        {"drop_after": 5},
        {"behind_starttls": 250},
        {"extensions": "SIZE"},
        {"extensions": [5]},
        {"requiretls": "yes"},
        {"requiretls": 1},
        {"tls": []},
        {"tls": {"requiretls": True}},
        {"tls": {"replies": {"MAIL": 0}}},
        {"tls": {"drop_after": "never"}},
        {"tls": {"extensions": None}},
    ],
    ids=json.dumps,
)
def test_what_is_no_server_is_refused_with_its_place(server: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"192\.0\.2\.1:25"):
        World.from_json({"servers": {"192.0.2.1": {"25": server}}})


# --- policy hosts and what is cached


def fetched(host: dict[str, Any], *, name: str = "mta-sts.c.test", asked: str = "mta-sts.c.test") -> Any:
    """What a fetch from a world with this policy host gives."""
    fetcher = World.from_json({"https": {name: host}}).fetcher
    return fetch_whole(fetcher, Fetch(asked, max_octets=100, max_seconds=5))


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ({}, Fetched(200, None, b"")),
        ({"content_type": "text/plain", "body": "é"}, Fetched(200, "text/plain", b"\xc3\xa9")),
        ({"content_type": None, "certificate": "valid"}, Fetched(200, None, b"")),
        ({"status": 404, "content_type": "text/html"}, Fetched(404, "text/html", b"")),
        ({"status": 301, "location": "https://www.c.test/"}, Fetched(301, None, b"")),  # which nobody follows
        ({"body": "a" * 100}, Fetched(200, None, b"a" * 100)),
    ],
)
def test_a_policy_host_shows_status_type_and_body(host: dict[str, Any], shown: Fetched) -> None:
    assert fetched(host) == shown


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ({"certificate": "expired"}, FetchFailureKind.CERTIFICATE_EXPIRED),
        ({"certificate": "untrusted"}, FetchFailureKind.CERTIFICATE_NOT_TRUSTED),
        ({"certificate": "wrong-name", "status": 404}, FetchFailureKind.CERTIFICATE_HOST_MISMATCH),
        ({"error": "timeout", "body": "x"}, FetchFailureKind.TIMEOUT),
        ({"error": "refused", "certificate": "expired"}, FetchFailureKind.CONNECT),  # it never came to a certificate
        ({"body": "a" * 101}, FetchFailureKind.TOO_LONG),
    ],
)
def test_a_policy_host_fails_as_it_is_said_to(host: dict[str, Any], kind: FetchFailureKind) -> None:
    shown = fetched(host)
    assert isinstance(shown, FetchFailure)
    assert shown.kind is kind


def test_a_policy_host_is_found_by_its_name_in_any_spelling_and_others_refuse() -> None:
    for name in ("MTA-STS.C.test", "mta-sts.c.test."):
        assert fetched({}, name=name) == Fetched(200, None, b"")
    shown = fetched({}, asked="mta-sts.d.test")
    assert isinstance(shown, FetchFailure)
    assert shown.kind is FetchFailureKind.CONNECT


EMPTY: tuple[Any, ...] = (0, False, [], {})


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        (5, "object"),
        ([], "object"),
        (None, "object"),
        ({"bodi": ""}, "bodi"),
        ({"status": 99}, "99"),
        ({"status": 1000}, "1000"),
        ({"status": "200"}, "'200'"),
        ({"status": True}, "True"),
        ({"body": 5}, "body"),
        ({"body": None}, "body"),
        ({"content_type": 5}, "content_type"),
        ({"certificate": "self-signed"}, "self-signed"),
        ({"certificate": None}, "None"),
        ({"certificate": ["valid"]}, "valid"),
        ({"error": "reset"}, "reset"),
        ({"error": None}, "None"),
        ({"location": 5}, "location"),
        *(({"content_type": no}, "content_type") for no in EMPTY),
    ],
)
def test_a_malformed_policy_host_is_refused_by_name(host: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=r"mta-sts\.c\.test") as error:
        World.from_json({"https": {"mta-sts.c.test": host}})
    assert fault in str(error.value)


POLICY = "version: STSv1\nmode: enforce\nmx: mx.c.test\nmax_age: 86400\n"
ENTRY = {"id": "1", "fetched": "2026-01-01T00:00:00Z", "policy": POLICY}
FAILED = {"id": "2", "at": "2026-01-02T00:00:00Z", "failure": "fetch-error"}


def cached(data: dict[str, Any]) -> Entry:
    """How the world's store has an entry."""
    world = World.from_json({"cache": {"C.test.": data}})
    entry = world.engine().store.load("c.test")
    assert isinstance(entry, Entry)
    assert entry == world.cache["c.test"]
    return entry


def test_a_cached_policy_needs_its_id_its_text_and_its_time() -> None:
    policy = parse_policy(POLICY.encode())
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert cached(ENTRY) == Entry(policy=policy, id="1", fetched=at, checked=at, used=at)  # type: ignore[arg-type]
    assert cached({**ENTRY, "id": None}).id is None  # a refresh that saw no record


def test_an_entry_may_say_when_it_was_checked_and_used_and_what_failed() -> None:
    more = {"checked": "2026-01-03T00:00:00Z", "used": "2026-01-02T01:00:00+01:00", "failed": [FAILED], "failures": 3}
    entry = cached({**ENTRY, **more})
    assert entry.checked == datetime(2026, 1, 3, tzinfo=timezone.utc)
    assert entry.used == datetime(2026, 1, 2, tzinfo=timezone.utc)
    (failed,) = entry.failed
    assert (failed.id, failed.at, failed.failure, entry.failures) == (
        "2",
        datetime(2026, 1, 2, tzinfo=timezone.utc),
        StsFailure.FETCH_ERROR,
        3,
    )


def test_an_entry_without_a_policy_remembers_failed_fetches_alone() -> None:
    entry = cached({"failed": [{**FAILED, "id": None}, {**FAILED, "at": "2026-01-03T00:00:00Z"}]})
    latest = datetime(2026, 1, 3, tzinfo=timezone.utc)
    assert (entry.policy, entry.fetched, entry.checked, entry.used) == (None, None, latest, latest)
    assert (len(entry.failed), entry.failures) == (2, 2)


def test_what_an_entry_says_of_itself_can_be_cached_again() -> None:
    entry = cached({**ENTRY, "failed": [FAILED]})
    assert cached(entry.to_json()) == entry


def test_each_engine_of_a_world_has_a_store_of_its_own() -> None:
    world = World.from_json({"cache": {"c.test": ENTRY}})
    engine, other = world.engine(), world.engine()
    engine.store.drop("c.test", world.cache["c.test"])
    assert (engine.store.load("c.test"), other.store.load("c.test")) == (None, world.cache["c.test"])


@pytest.mark.parametrize(
    "entry",
    [
        5,
        [],
        None,
        {**ENTRY, "max_age": 5},
        {**ENTRY, "id": 5},
        {"fetched": ENTRY["fetched"], "policy": POLICY, "id": ["1"]},
        {"id": "1", "policy": POLICY},
        {**ENTRY, "fetched": 1767225600},
        {**ENTRY, "fetched": None},
        {**ENTRY, "policy": 5},
        {**ENTRY, "checked": None},
        {**ENTRY, "used": 5},
        {**ENTRY, "failed": 5},
        {**ENTRY, "failed": [5]},
        {**ENTRY, "failed": [{}]},
        {**ENTRY, "failed": [{**FAILED, "id": 5}]},
        {**ENTRY, "failures": -1},
        {**ENTRY, "failures": "1"},
        {**ENTRY, "failures": True},
        {},
        {"failed": []},
        {**ENTRY, "fetched": "yesterday"},
        {**ENTRY, "fetched": "2026-01-01T00:00:00"},
        {**ENTRY, "checked": "later"},
        {**ENTRY, "policy": "version: STSv2\n"},
        {**ENTRY, "failed": [{**FAILED, "failure": "bad-luck"}]},
        {**ENTRY, "failed": [FAILED] * 9},
        {**ENTRY, "failed": {}},
        {**ENTRY, "failed": ""},
        {**ENTRY, "failed": [{**FAILED, "detail": "x"}]},
    ],
)
def test_a_malformed_entry_is_refused_by_the_name_of_its_domain(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"c\.test"):
        World.from_json({"cache": {"c.test": entry}})


@pytest.mark.parametrize("key", ["https", "cache"])
def test_names_of_policy_hosts_and_domains_are_names(key: str) -> None:
    data = {"https": {}, "cache": ENTRY}[key]
    for name in ("c..test", "", "192.0.2.1", "https://c.test/"):
        with pytest.raises(ValueError, match=r"\S"):
            World.from_json({key: {name: data}})
    for wrong in (*EMPTY[:3], None, "c.test"):
        with pytest.raises(ValueError, match=key):
            World.from_json({key: wrong})


@pytest.mark.parametrize("key", ["https", "cache"])
def test_two_spellings_of_a_name_are_refused(key: str) -> None:
    data = {"https": {}, "cache": ENTRY}[key]
    with pytest.raises(ValueError, match="twice"):
        World.from_json({key: {"c.test": data, "C.test.": data}})


# --- files


def test_certificates_are_read_below_the_worlds_folder(tmp_path: Path) -> None:
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "leaf.pem").write_text(certificate_to_pem(LEAF))
    data = {"servers": {"192.0.2.1": {"25": {"chain": ["certificates/leaf.pem"]}}}}
    (tmp_path / "world.json").write_text(json.dumps(data))
    for world in (
        World.load(tmp_path / "world.json"),
        World.from_json(data, tmp_path),
        World.from_json(data, str(tmp_path)),
    ):
        assert look(world.connector) == ("starttls", Secured((LEAF,)))


@pytest.mark.parametrize("entry", ["../leaf.pem", "a/../../leaf.pem", "{absolute}", "..\\leaf.pem"])
def test_a_file_outside_the_worlds_folder_is_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "leaf.pem").write_text(certificate_to_pem(LEAF))
    (tmp_path / "below" / "a").mkdir(parents=True)
    chain = [entry.format(absolute=tmp_path / "leaf.pem")]
    data = {"servers": {"192.0.2.1": {"25": {"chain": chain}}}}
    with pytest.raises(ValueError, match="folder"):
        World.from_json(data, tmp_path / "below")
    with pytest.raises(ValueError, match="folder"):
        World.from_json({"trust": chain}, tmp_path / "below")


def test_without_a_folder_only_pem_texts_can_be_used() -> None:
    with pytest.raises(ValueError, match="folder"):
        World.from_json({"trust": ["leaf.pem"]})


@pytest.mark.parametrize(
    "text", ["pem:", "pem:no certificate", "pem:-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----"]
)
def test_a_pem_text_without_a_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        World.from_json({"trust": [text]})


# --- the world itself


@pytest.mark.parametrize(
    "data",
    [
        [],
        5,
        None,
        "zones",
        {"zone": {}},
        {"zones": []},
        {"zones": {"example": []}},
        {"zones": {"example": {"records": [5]}}},
        {"zones": {"example": {"security": "signed"}}},
        {"zones": {"a..b": {}}},
        {"failures": {}, "zones": 5},
        {"failures": ["timeout"]},
        {"failures": [{"name": "example", "type": "A"}]},
        {"failures": [{"name": "example", "kind": "timeout"}]},
        {"failures": [{"name": "example", "type": "A", "kind": "slow"}]},
        {"servers": {"mx.example": {"25": {}}}},
        {"servers": {"192.0.2.1": {"smtp": {}}}},
        {"servers": []},
        {"servers": {"192.0.2.1": []}},
        {"now": "2026-01-01"},
        {"now": "2026-01-01T00:00:00"},
        {"now": "yesterday"},
        {"now": 1767225600},
        {"trust": 5},
    ],
    ids=json.dumps,
)
def test_what_is_no_world_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        World.from_json(data)


@pytest.mark.parametrize(
    "data",
    [
        {"zones": {"example": {"securty": "bogus"}}},
        {"failures": [{"name": "example", "type": "TSLA", "kind": "servfail"}]},
        {"servers": {"192.0.2.1": {"25": {"starttls": "off"}}}},
        {"servers": {"192.0.2.1": {"25": {"start_tls": "absent"}}}},
    ],
    ids=json.dumps,
)
def test_a_slip_of_the_pen_is_refused_and_not_read_as_the_default(data: Any) -> None:
    with pytest.raises(ValueError, match=r"securty|TSLA|off|start_tls"):
        World.from_json(data)


def test_the_time_is_the_worlds_and_reaches_the_engine() -> None:
    world = World.from_json({"now": "2026-01-01T01:00:00+01:00"})
    assert world.now == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert world.engine().clock() == world.now
    assert World.from_json({}).now is None


def test_a_world_gives_back_the_object_that_it_was_made_from() -> None:
    data = {"zones": {"example": zone("@ A 192.0.2.1")}, "https": {}, "cache": {}}
    assert World.from_json(data).to_json() == data
    assert World.from_json(World.from_json(data).to_json()) == World.from_json(data)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"zones": {"example": {"records": ["x"]}}}'])
def test_a_file_without_a_world_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "world.json").write_text(text)
    with pytest.raises(ValueError, match=r"\S"):
        World.load(tmp_path / "world.json")


def test_the_tour_has_one_of_each_kind_of_decision() -> None:
    engine = World.tour().engine()
    plans = [engine.plan(name) for name in World.tour().to_json()["zones"]]
    levels = {str(host.level) for plan in plans for host in plan.usable_hosts}
    assert {"dane", "encrypt", "may"} <= levels
    reasons = {str(plan.undeliverable.reason) for plan in plans if plan.undeliverable is not None}
    assert {"null-mx", "no-hosts"} <= reasons
    assert {plan.mx_secure for plan in plans} >= {True, False}


@pytest.mark.parametrize(
    "text",
    [
        '{"now": "2026-01-01T00:00:00Z", "now": "2027-01-01T00:00:00Z"}',
        '{"zones": {"a.test": {}, "a.test": {"security": "bogus"}}}',
        '{"cache": {"a.test": {"id": "1", "id": "2"}}}',
        '{"servers": {"192.0.2.1": {"25": {"tls": {"replies": {"MAIL": 250, "MAIL": 550}}}}}}',
    ],
)
def test_a_member_is_given_once(text: str, tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is given twice"):
        World.load(path)


@pytest.mark.parametrize(
    "data",
    [
        {"servers": {"2001:db8::1": {"25": {}}, "2001:DB8::1": {"25": {"connect": "refused"}}}},
        {"servers": {"192.0.2.1": {"25": {}, "025": {}}}},
        {"servers": {"192.0.2.1": {"25": {"by_sni": {"mx.test": [], "MX.test.": []}}}}},
    ],
)
def test_nothing_is_given_twice_in_two_spellings(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is given twice"):
        World.from_json(data)
