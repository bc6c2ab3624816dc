"""What the servers of a plan show, and whether mail could go to them."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from mailtlspolicy import Config, Engine, World
from mailtlspolicy.check import Check

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
LEAF = "certificates/leaf-direct.pem"
OTHER = "certificates/leaf-mx2.pem"


def record(file: str) -> str:
    """The `3 0 1` record of a certificate file, computed without the library."""
    der = ssl.PEM_cert_to_DER_cert((VECTORS / file).read_text("ascii"))
    return f"3 0 1 {hashlib.sha256(der).hexdigest()}"


def check(
    server: dict[str, Any] | None, *, tlsa: str | None = record(LEAF), security: str = "secure", **settings: Any
) -> Check:
    """Check client.test, whose one server at 192.0.2.1 behaves like this."""
    zones = {
        "client.test": {"security": security, "records": ["@ MX 10 mx.provider.test."]},
        "provider.test": {"records": ["mx A 192.0.2.1", *([] if tlsa is None else [f"_25._tcp.mx TLSA {tlsa}"])]},
    }
    servers = {} if server is None else {"192.0.2.1": {"25": server}}
    data = {"now": "2026-01-01T00:00:00Z", "zones": zones, "servers": servers}
    return World.from_json(data, VECTORS).engine(Config(**settings)).check("client.test")


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
