"""What the servers of a plan show, and whether mail could go to them."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from mailtlspolicy import Config, Engine, HostPlan, World
from mailtlspolicy.delivery.check import Check
from mailtlspolicy.delivery.session import Close, Connect, Connected, Ehlo, StartTls, Transmit

if TYPE_CHECKING:
    from mailtlspolicy.world.servers import StaticConnector

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
LEAF = "certificates/leaf-direct.pem"
OTHER = "certificates/leaf-mx2.pem"


def record(file: str) -> str:
    """The `3 0 1` record of a certificate file, computed without the library."""
    der = ssl.PEM_cert_to_DER_cert((VECTORS / file).read_text("ascii"))
    return f"3 0 1 {hashlib.sha256(der).hexdigest()}"


def check(
    server: dict[str, Any] | None,
    *,
    tlsa: str | None = record(LEAF),
    security: str = "secure",
    wish: dict[str, Any] | None = None,
    **settings: Any,
) -> Check:
    """Check client.test, whose one server at 192.0.2.1 behaves like this."""
    zones = {
        "client.test": {"security": security, "records": ["@ MX 10 mx.provider.test."]},
        "provider.test": {"records": ["mx A 192.0.2.1", *([] if tlsa is None else [f"_25._tcp.mx TLSA {tlsa}"])]},
    }
    servers = {} if server is None else {"192.0.2.1": {"25": server}}
    data = {"now": "2026-01-01T00:00:00Z", "zones": zones, "servers": servers}
    config = Config(own_names=["mx.sender.test"], **settings)
    return World.from_json(data, VECTORS).engine(config).check("client.test", **(wish or {}))


UNUSABLE = "1 1 1 " + "c3" * 32


@pytest.mark.parametrize(
    ("tlsa", "security", "chain", "result", "word"),
    [
        (record(LEAF), "secure", LEAF, "ok", "verified"),
        (record(LEAF), "insecure", LEAF, "ok", "trusted"),  # RFC7672-2.2.1-n
        (UNUSABLE, "secure", OTHER, "ok", "untrusted"),  # RFC7672-2.2-h
        (None, "secure", OTHER, "ok", "untrusted"),
        (record(LEAF), "secure", OTHER, "not-authenticated", None),  # RFC7672-9.1-d
        (record(LEAF), "insecure", OTHER, "not-authenticated", None),  # RFC7672-2.2.1-l
    ],
)
def test_a_session_is_verified_trusted_untrusted_or_of_no_use(
    tlsa: str | None, security: str, chain: str, result: str, word: str | None
) -> None:
    checked = check({"chain": [chain]}, tlsa=tlsa, security=security)
    (server,) = checked.servers
    assert (server.result, server.security, server.passed) == (result, word, word is not None)
    assert checked.passed is (word is not None)
    assert server.verdict is not None
    assert server.verdict.authenticated is (word in {"verified", "trusted"})


@pytest.mark.parametrize(
    ("server", "result", "cleartext"),
    [
        (None, "connect-failed", False),
        ({"connect": "timeout"}, "connect-failed", False),
        ({"greeting": 554}, "tempfailed", False),
        ({"starttls": "absent"}, "starttls-absent", True),
        ({"starttls": "refused"}, "starttls-refused", True),
        ({"starttls": "fail"}, "handshake-failed", True),
        ({"drop_after": "connect"}, "tempfailed", False),
        ({"drop_after": "EHLO"}, "tempfailed", False),
        ({"drop_after": "STARTTLS"}, "starttls-refused", True),
        ({"replies": {"EHLO": 554}}, "tempfailed", False),
        ({"greeting": "220 mx.sender.test"}, "tempfailed", False),
        ({"replies": {"EHLO": 502}}, "starttls-absent", True),  # HELO is answered
        ({"replies": {"EHLO": 502, "HELO": 502}}, "tempfailed", False),
        ({"replies": {"STARTTLS": 250}}, "starttls-refused", True),  # RFC3207-4-b
        ({"behind_starttls": "250 ok"}, "handshake-failed", False),  # an attack is not answered with cleartext
    ],
)
@pytest.mark.parametrize("tlsa", [record(LEAF), UNUSABLE, None])
def test_without_tls_a_server_passes_only_where_cleartext_is_allowed_and_smtp_works(
    server: Any, result: str, tlsa: str | None, *, cleartext: bool
) -> None:
    checked = check(server, tlsa=tlsa)
    (shown,) = checked.servers
    allowed = cleartext and tlsa is None
    assert (shown.result, shown.security) == (result, "cleartext" if allowed else None)
    assert shown.verdict is None
    assert checked.passed is allowed


@pytest.mark.parametrize("code", [501, 504, 550])
def test_helo_is_a_way_to_cleartext_where_that_is_allowed(code: int) -> None:
    for tlsa, result, word in ((None, "starttls-absent", "cleartext"), (record(LEAF), "tempfailed", None)):
        (shown,) = check({"replies": {"EHLO": code}}, tlsa=tlsa).servers
        assert (shown.result, shown.security) == (result, word)


@pytest.mark.parametrize("choice", ["now", "later", "never"])
@pytest.mark.parametrize(
    ("server", "is_retry"),
    [
        ({"starttls": "absent"}, False),
        ({"starttls": "refused"}, True),
        ({"starttls": "fail"}, True),
        ({"drop_after": "STARTTLS"}, True),
        ({"drop_after": "handshake"}, True),
        ({"sni": ["required", "strict"]}, True),
    ],
)
def test_a_failed_handshake_passes_only_where_a_retry_in_cleartext_is_allowed(
    server: dict[str, Any], choice: str, *, is_retry: bool
) -> None:
    (shown,) = check(server, tlsa=None, cleartext_retry=choice).servers
    assert shown.passed is (choice != "never" or not is_retry)


def test_the_server_is_asked_by_the_name_of_the_plan() -> None:  # RFC7672-8.1-a
    checked = check({"chain": [OTHER], "by_sni": {"mx.provider.test": [LEAF], "client.test": [OTHER]}})
    assert checked.servers[0].security == "verified"


def test_an_empty_chain_is_no_certificate_and_never_a_pass() -> None:
    (server,) = check({"chain": []}).servers
    assert server.verdict is not None
    assert (server.security, server.verdict.failure) == (None, "no-certificate")


def test_an_audit_passes_a_wrong_certificate_and_records_the_verdict() -> None:  # RFC7672-9.1-c
    (server,) = check({"chain": [OTHER]}, dane="audit").servers
    assert server.security == "untrusted"
    assert server.verdict is not None
    assert server.verdict.observed is not None
    assert (server.verdict.satisfied, server.verdict.observed.failure) == (True, "no-tlsa-match")


REQUIRETLS = {"requiretls": True}


@pytest.mark.parametrize(
    ("server", "result"),
    [
        ({"requiretls": True}, "ok"),
        ({}, "requiretls-absent"),
        ({"extensions": ["REQUIRETLS"]}, "requiretls-absent"),  # RFC8689-2-l: announced before TLS alone
        ({"tls": {"extensions": ["requiretls"]}}, "ok"),  # RFC8689-2-a
        ({"tls": {"extensions": ["REQUIRETLS2", "X-REQUIRETLS"]}}, "requiretls-absent"),
        ({"requiretls": True, "drop_after": "handshake"}, "handshake-failed"),
        ({"requiretls": True, "tls": {"replies": {"EHLO": 554}}}, "tempfailed"),
        ({"requiretls": True, "starttls": "absent"}, "starttls-absent"),
    ],
)
def test_a_server_for_mail_that_requires_tls_has_to_announce_it_within_tls(server: dict[str, Any], result: str) -> None:
    checked = check({"chain": [LEAF], **server}, wish=REQUIRETLS)
    (shown,) = checked.servers
    assert (shown.result, shown.security) == (result, "verified" if result == "ok" else None)
    assert checked.passed is (result == "ok")


@pytest.mark.parametrize(
    ("server", "result"),
    [
        ({}, "ok"),
        ({"drop_after": "handshake"}, "handshake-failed"),
        ({"tls": {"replies": {"EHLO": "550 5.7.1 go away"}}}, "tempfailed"),
        ({"tls": {"replies": {"EHLO": 502}}}, "ok"),
        ({"tls": {"replies": {"EHLO": 502, "HELO": 502}}}, "tempfailed"),
    ],
)
def test_a_server_has_to_go_on_within_tls(server: dict[str, Any], result: str) -> None:  # RFC3207-6-i
    (shown,) = check({"chain": [LEAF], **server}).servers
    assert (shown.result, shown.security) == (result, "verified" if result == "ok" else None)
    (shown,) = check({"chain": [LEAF], **server}, tlsa=None).servers
    clear = "cleartext" if result == "handshake-failed" else None
    assert (shown.result, shown.security) == (result, "untrusted" if result == "ok" else clear)


@pytest.mark.parametrize(
    ("tlsa", "settings", "result", "word"),
    [
        (None, {}, "ok", "untrusted"),
        (None, {"cleartext_retry": "never"}, "ok", "untrusted"),
        (record(LEAF), {"dane": "audit"}, "ok", "untrusted"),
        (record(LEAF), {}, "handshake-failed", None),
        (UNUSABLE, {}, "handshake-failed", None),
    ],
)
def test_a_server_that_takes_no_server_name_is_asked_without_where_none_is_prescribed(
    tlsa: str | None, settings: dict[str, Any], result: str, word: str | None
) -> None:
    """RFC7435-3-a, RFC7672-8.1-a."""
    (shown,) = check({"chain": [LEAF], "sni": "strict"}, tlsa=tlsa, **settings).servers
    assert (shown.result, shown.security) == (result, word)


def test_a_defect_costs_the_look_at_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    zones = {"client.test": {"records": ["@ MX 10 a", "@ MX 20 b", "a A 192.0.2.1", "b A 192.0.2.2"]}}
    verify = HostPlan.verify

    def fails(host: HostPlan, *chain: Any, **how: Any) -> Any:
        if host.host == "a.client.test":
            raise ValueError("year 0 is out of range")
        return verify(host, *chain, **how)

    monkeypatch.setattr(HostPlan, "verify", fails)
    world = World.from_json(
        {"zones": zones, "servers": {f"192.0.2.{number}": {"25": {"chain": [LEAF]}} for number in (1, 2)}}, VECTORS
    )
    first, second = world.engine().check("client.test").servers
    assert (first.result, first.security, first.verdict) == ("local-error", None, None)
    assert first.detail == "ValueError: year 0 is out of range"
    assert second.result == "ok"


def test_a_wrong_certificate_is_seen_before_what_is_announced() -> None:  # RFC3207-4.1-a
    (shown,) = check({"chain": [OTHER]}, wish=REQUIRETLS).servers
    assert shown.result == "not-authenticated"


def test_mail_to_which_tls_is_optional_may_go_to_a_server_whose_certificate_is_wrong() -> None:  # RFC8689-3-a
    for server, word in (({"chain": [OTHER]}, "untrusted"), ({"starttls": "absent"}, "cleartext")):
        (shown,) = check(server, wish={"tls_optional": True}).servers
        assert shown.security == word
        assert check(server).passed is False


def test_a_check_ends_every_connection_and_sends_no_mail() -> None:
    class Watched:
        def __init__(self, inner: StaticConnector) -> None:
            self.inner, self.open = inner, 0

        def connect(self, effect: Connect) -> Any:
            shown = self.inner.connect(effect)
            self.open += isinstance(shown, Connected)
            return shown

        def ehlo(self, effect: Ehlo) -> Any:
            return self.inner.ehlo(effect)

        def start_tls(self, effect: StartTls) -> Any:
            return self.inner.start_tls(effect)

        def transmit(self, effect: Transmit) -> Any:
            raise AssertionError(effect)

        def close(self, _: Close) -> None:
            self.open -= 1

    servers: list[dict[str, Any]] = [{"chain": [LEAF]}, {"greeting": 554}, {"starttls": "absent"}, {"chain": []}]
    for server in (*servers, {"drop_after": "EHLO"}, {"drop_after": "handshake"}):
        zones = {"client.test": {"records": ["@ MX 10 a", "@ MX 20 b", "a A 192.0.2.1", "b A 192.0.2.1"]}}
        world = World.from_json({"zones": zones, "servers": {"192.0.2.1": {"25": server}}}, VECTORS)
        watched = Watched(world.connector)
        checked = evolve(world.engine(), connector=watched).check("client.test")
        assert len(checked.servers) == 2
        assert watched.open == 0


def test_every_address_of_every_host_is_shown_and_one_failure_fails_the_check() -> None:
    zones = {
        "client.test": {
            "records": [
                "@ MX 10 a",
                "a A 192.0.2.1",
                "a AAAA 2001:db8::1",
                "@ MX 20 gone",
                "@ MX 30 b",
                "b A 192.0.2.3",
            ]
        }
    }
    servers = {"192.0.2.1": {"25": {"chain": [LEAF]}}, "2001:DB8::0:1": {"25": {"chain": [LEAF]}}}
    checked = World.from_json({"zones": zones, "servers": servers}, VECTORS).engine().check("client.test")
    assert [(server.host, server.address, server.result) for server in checked.servers] == [
        ("a.client.test", "192.0.2.1", "ok"),
        ("a.client.test", "2001:db8::1", "ok"),
        ("gone.client.test", None, "skipped"),
        ("b.client.test", "192.0.2.3", "connect-failed"),
    ]
    assert checked.servers[2].detail == "no-addresses"
    assert not checked.passed


def test_an_undeliverable_plan_connects_nowhere_and_does_not_pass() -> None:
    checked = World.from_json({"zones": {"client.test": {"records": ["@ MX 0 ."]}}}).engine().check("client.test")
    assert (checked.servers, checked.passed) == ((), False)


def test_the_json_form_is_the_contracts_and_reads_back_equal() -> None:
    checked = check({"chain": [LEAF]})
    data = checked.to_json()
    assert {"version", "plan", "hosts"} <= data.keys()
    assert {"host", "address", "result", "security", "verdict"} <= data["hosts"][0].keys()
    assert Check.from_json(data) == checked


def test_checking_needs_something_that_connects() -> None:
    with pytest.raises(ValueError, match="connector"):
        Engine(World.from_json({}).resolver, config=Config(sts="off")).check("client.test")
