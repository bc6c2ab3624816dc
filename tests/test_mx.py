"""From a next-hop to the servers that take its mail: RFC 5321 section 5.1, RFC 7505, RFC 7672 section 2.2.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import Config, InvalidNextHop, NextHop, World, drive
from mailtlspolicy.dns.effects import FailureKind
from mailtlspolicy.plan.mx import Kind, MxHost, Shuffle, resolve_mx

if TYPE_CHECKING:
    from mailtlspolicy.plan.mx import MxResult


def keep(_: list[MxHost]) -> None:
    pass


def resolve(
    next_hop: str | NextHop,
    *records: str,
    security: str = "secure",
    more: dict[str, Any] | None = None,
    failures: list[dict[str, str]] | None = None,
    shuffle: Any = keep,
    **settings: Any,
) -> MxResult:
    """The servers of a next-hop in a world where client.example has these records."""
    zones = {"client.example": {"security": security, "records": list(records)}, **(more or {})}
    resolver = World.from_json({"zones": zones, "failures": failures or []}).resolver
    route = next_hop if isinstance(next_hop, NextHop) else NextHop.parse(next_hop)

    def perform(effect: Any) -> Any:
        if isinstance(effect, Shuffle):
            hosts = list(effect.hosts)
            shuffle(hosts)
            return tuple(hosts)
        assert route.kind is Kind.DOMAIN, "only a domain has its MX records looked up"
        return resolver.lookup(effect)

    return drive(resolve_mx(route, Config(**settings)), perform)


def names(result: MxResult) -> list[str]:
    return [host.name for host in result.hosts]


@pytest.mark.parametrize(
    ("text", "kind", "name", "port", "shown"),
    [
        ("Client.Example.", Kind.DOMAIN, "client.example", 25, "client.example"),
        ("bücher.example", Kind.DOMAIN, "xn--bcher-kva.example", 25, "xn--bcher-kva.example"),
        ("[Relay.Example]", Kind.RELAY, "relay.example", 25, "[relay.example]"),
        ("[relay.example]:25", Kind.RELAY, "relay.example", 25, "[relay.example]"),
        ("[relay.example]:587", Kind.RELAY, "relay.example", 587, "[relay.example]:587"),
        ("[192.0.2.1]", Kind.LITERAL, "192.0.2.1", 25, "[192.0.2.1]"),
        ("[192.0.2.1]:2525", Kind.LITERAL, "192.0.2.1", 2525, "[192.0.2.1]:2525"),
        ("[IPv6:2001:DB8::0:1]", Kind.LITERAL, "2001:db8::1", 25, "[IPv6:2001:db8::1]"),
        ("[ipv6:2001:db8::1]:65535", Kind.LITERAL, "2001:db8::1", 65535, "[IPv6:2001:db8::1]:65535"),
    ],
)
def test_a_next_hop_is_a_domain_a_relay_or_a_literal_by_its_text(
    text: str, kind: Kind, name: str, port: int, shown: str
) -> None:
    assert NextHop.parse(text) == NextHop(kind, name, port)
    assert str(NextHop.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[]:25",
        "192.0.2.1",
        "2001:db8::1",
        "user@client.example",
        "[user@client.example]",
        "client.example:25",
        "[relay.example",
        "relay.example]",
        "[[relay.example]]",
        "[relay.example] ",
        "[relay.example]\n",
        "[relay.example]:",
        "[relay.example]:0",
        "[relay.example]:65536",
        "[relay.example]:+25",
        "[relay.example]:\u0662\u0665",  # 25 in Arabic digits
        "[192.0.2.256]",
        "[192.0.2]",
        "[IPv6:192.0.2.1]",
        "[IPv6:fe80::1%eth0]",
        "[IPv6:]",
    ],
)
def test_what_is_no_next_hop_is_refused(text: str) -> None:
    with pytest.raises(InvalidNextHop, match=r"\S"):
        NextHop.parse(text)


def test_only_text_is_parsed_as_a_next_hop() -> None:
    with pytest.raises(TypeError):
        NextHop.parse(b"client.example")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("domain", "hosts", "port"),
    [
        ("client.example", [], 25),
        ("client.example", [(10, "192.0.2.1")], 25),
        ("192.0.2.1", [(10, "mx.example")], 25),
        ("client.example", [(10, "mx.example")], 0),
    ],
)
def test_a_malformed_static_list_is_refused(domain: str, hosts: list[tuple[int, str]], port: int) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        NextHop.static(domain, hosts, port=port)


@pytest.mark.parametrize(("text", "secure"), [("[relay.example]:587", True), ("[192.0.2.1]", False)])
def test_a_relay_and_a_literal_are_servers_themselves_without_an_mx_lookup(text: str, *, secure: bool) -> None:
    result = resolve(text)
    assert result.hosts == (MxHost(NextHop.parse(text).name, 0),)
    assert (result.secure, result.implicit, result.undeliverable) == (secure, False, None)


@pytest.mark.parametrize("secure", [True, False])
def test_a_static_list_is_sorted_like_mx_records_and_as_secure_as_declared(*, secure: bool) -> None:
    hop = NextHop.static("client.example", [(20, "b.example"), (10, "A.example.")], secure=secure)
    result = resolve(hop)
    assert result.hosts == (MxHost("a.example", 10), MxHost("b.example", 20))
    assert result.secure is secure


@pytest.mark.parametrize("security", ["secure", "insecure"])
def test_hosts_are_sorted_by_preference_as_a_number(security: str) -> None:  # RFC7672-2.2.1-c
    records = ("@ MX 100 c.example.", "@ MX 20 b.example.", "@ MX 0 a.example.")
    result = resolve("client.example", *records, security=security)
    assert result.hosts == (MxHost("a.example", 0), MxHost("b.example", 20), MxHost("c.example", 100))
    assert result.secure is (security == "secure")


def test_equal_preferences_are_ordered_by_the_injected_shuffle_and_nothing_else() -> None:
    def reverse(hosts: list[MxHost]) -> None:
        hosts.reverse()

    records = ("@ MX 20 c.example.", "@ MX 10 a.example.", "@ MX 20 d.example.", "@ MX 10 b.example.")
    assert names(resolve("client.example", *records)) == ["a.example", "b.example", "c.example", "d.example"]
    assert names(resolve("client.example", *records, shuffle=reverse)) == [
        "b.example",
        "a.example",
        "d.example",
        "c.example",
    ]


def test_a_host_listed_twice_is_tried_once_at_its_best_preference() -> None:
    records = ("@ MX 30 a.example.", "@ MX 20 b.example.", "@ MX 10 A.Example.")
    assert resolve("client.example", *records).hosts == (MxHost("a.example", 10), MxHost("b.example", 20))


def test_the_best_hosts_by_preference_are_kept_within_the_limit_and_the_cut_is_told() -> None:
    records = [f"@ MX {100 - number} mx{number}.example." for number in range(5)]
    result = resolve("client.example", *records, max_mx_hosts=2)
    assert names(result) == ["mx4.example", "mx3.example"]
    assert "Config.max_mx_hosts" in {step.clause for step in result.trace}


@pytest.mark.parametrize("security", ["secure", "insecure"])
@pytest.mark.parametrize("preference", [0, 10])
def test_a_lone_root_as_exchange_takes_no_mail(preference: int, security: str) -> None:  # RFC7505-3-a, RFC7505-4.1-c
    result = resolve("client.example", f"@ MX {preference} .", "@ A 192.0.2.1", security=security)
    assert result.undeliverable is not None
    assert result.undeliverable.to_json() == {"kind": "permanent", "reason": "null-mx", "status": "5.1.10"}
    assert result.undeliverable.reply_code == 556  # RFC7505-4.1-b
    assert result.hosts == ()


def test_a_root_beside_hosts_is_dropped_and_noted() -> None:
    result = resolve("client.example", "@ MX 0 .", "@ MX 10 mx.example.")
    assert result.hosts == (MxHost("mx.example", 10),)
    assert any(step.clause == "RFC 7505 section 3" for step in result.trace)


def test_no_mx_records_make_the_domain_its_own_server() -> None:  # RFC7672-2.2.2-c
    result = resolve("client.example", "@ A 192.0.2.1")
    assert (result.hosts, result.implicit, result.secure) == ((MxHost("client.example", 0),), True, True)


def test_a_domain_that_does_not_exist_is_an_error_and_never_its_own_server() -> None:
    result = resolve("gone.client.example", "www A 192.0.2.1")
    assert result.undeliverable is not None
    assert result.undeliverable.to_json() == {"kind": "permanent", "reason": "no-such-domain", "status": "5.1.2"}
    assert (result.hosts, result.implicit, result.undeliverable.reply_code) == ((), False, 550)


@pytest.mark.parametrize("kind", [str(kind) for kind in FailureKind if kind not in {"loop", "local"}])
def test_any_failed_mx_lookup_delays_the_mail(kind: str) -> None:  # RFC7672-2.1.2-a, RFC7672-2.1.1-l
    failures = [{"name": "client.example", "type": "MX", "kind": kind}]
    result = resolve("client.example", "@ MX 10 mx.example.", failures=failures)
    assert result.undeliverable is not None
    assert result.undeliverable.to_json() == {"kind": "transient", "reason": "mx-lookup-failed", "status": "4.4.3"}
    assert (result.hosts, result.secure, result.expanded, result.undeliverable.reply_code) == ((), None, None, 450)


def test_an_alias_loop_in_front_of_the_mx_records_delays_the_mail() -> None:
    result = resolve("client.example", "@ CNAME loop.client.example.", "loop CNAME client.example.")
    assert result.undeliverable is not None
    assert result.undeliverable.to_json() == {"kind": "transient", "reason": "alias-loop", "status": "4.4.6"}


@pytest.mark.parametrize(("provider", "secure"), [("secure", True), ("insecure", False)])
def test_an_alias_is_followed_and_its_security_and_both_names_are_kept(provider: str, *, secure: bool) -> None:
    more = {"provider.example": {"security": provider, "records": ["c MX 10 mx"]}}
    result = resolve("client.example", "@ CNAME c.provider.example.", more=more)
    assert names(result) == ["mx.provider.example"]
    assert (result.expanded, result.secure) == ("c.provider.example", secure)


def test_an_alias_without_mx_records_leaves_the_unexpanded_domain_as_its_own_server() -> None:
    more = {"provider.example": {"records": ["c A 192.0.2.1"]}}
    result = resolve("client.example", "@ CNAME c.provider.example.", more=more)
    assert (names(result), result.expanded, result.implicit) == (["client.example"], "c.provider.example", True)


def test_an_alias_to_a_name_that_does_not_exist_is_permanent() -> None:
    result = resolve("client.example", "@ CNAME gone.client.example.")
    assert result.undeliverable is not None
    assert result.undeliverable.reason == "no-such-domain"


@pytest.mark.parametrize("exchange", ["192.0.2.1", "a\\032b.example", "-mx.example"])
def test_an_exchange_that_is_no_host_name_is_kept_but_not_valid(exchange: str) -> None:
    result = resolve("client.example", f"@ MX 10 {exchange}.", "@ MX 20 mx.example.")
    assert [(host.preference, host.valid) for host in result.hosts] == [(10, False), (20, True)]
    assert result.hosts[0].name == exchange


def test_what_is_made_by_hand_is_a_next_hop_as_if_it_had_been_read() -> None:
    assert NextHop("domain", "client.example") == NextHop.parse("client.example")
    assert NextHop.parse("client.example").secure is True
    assert [str(kind) for kind in Kind] == ["domain", "relay", "literal", "static"]
    with pytest.raises(TypeError):
        MxHost("mx.example", "10")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        NextHop(Kind.DOMAIN, "client.example", secure="yes")  # type: ignore[arg-type]
    for port in ("25", 25.5, True, 0, 65536, 65537):
        with pytest.raises(ValueError, match="a port is a number"):
            NextHop(Kind.DOMAIN, "client.example", port)  # type: ignore[arg-type]
    assert NextHop(Kind.DOMAIN, "client.example", 65535).port == 65535


@pytest.mark.parametrize("kind", [FailureKind.SERVFAIL, FailureKind.TIMEOUT])
def test_a_failure_holds_for_no_time_at_all(kind: FailureKind) -> None:
    failed = resolve("client.example", failures=[{"name": "client.example", "type": "MX", "kind": str(kind)}])
    assert failed.undeliverable is not None
    assert failed.ttl == 0
    loop = resolve("client.example", "@ CNAME client.example.")
    assert loop.undeliverable is not None
    assert (loop.undeliverable.reason, loop.ttl) == ("alias-loop", 0)


def test_an_alias_in_front_of_the_hosts_has_its_step_and_nothing_else_has() -> None:
    direct = resolve("client.example", "@ MX 10 mx.client.example.")
    aliased = resolve(
        "client.example", "@ CNAME a.test.", more={"a.test": {"security": "secure", "records": ["@ MX 10 mx.a.test."]}}
    )
    assert [step.clause for step in direct.trace] == ["RFC 7672 section 2.2.1"]
    assert [step.clause for step in aliased.trace] == ["RFC 5321 section 5.1", "RFC 7672 section 2.2.1"]
