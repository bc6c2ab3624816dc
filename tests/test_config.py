"""What the operator chooses: read from strings, checked at once, written as the difference from the default."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import fields

from mailtlspolicy import Config, Misconfigured
from mailtlspolicy.config import (
    AddressFamilies,
    CleartextRetry,
    DaneMode,
    InsecureMx,
    Sts,
    StsMediaType,
    StsOnDnsError,
    StsWithDane,
)

# A setting of every field as text, and what it means; never the default.
SETTINGS: list[tuple[str, str, Any]] = [
    ("dane", "mandatory", DaneMode.MANDATORY),
    ("insecure_mx", "encrypt", InsecureMx.ENCRYPT),
    ("address_families", "both", AddressFamilies.BOTH),
    ("ip_versions", "6,4", (6, 4)),
    ("opportunistic_sni", "false", False),
    ("sts", "off", Sts.OFF),
    ("sts_with_dane", "both", StsWithDane.BOTH),
    ("sts_on_dns_error", "defer", StsOnDnsError.DEFER),
    ("sts_media_type", "ignore", StsMediaType.IGNORE),
    ("cleartext_retry", "later", CleartextRetry.LATER),
    ("retry_seconds", "3", 3),  # RFC5321-4.5.4.1-f
    ("usages", "3", (3,)),
    ("digest_order", "1, 2", (1, 2)),
    ("extra_digests", "3=sha3_256, 4=sha384", ((3, "sha3_256"), (4, "sha384"))),
    ("min_rsa_bits", "2048", 2048),
    ("own_names", "MX.Example., relay.example", ("mx.example", "relay.example")),
    ("own_addresses", "192.0.2.9,2001:DB8::9", ("192.0.2.9", "2001:db8::9")),
    ("loopback_is_own", "false", False),
    ("max_mx_hosts", "3", 3),
    ("max_addresses", "3", 3),
    ("max_alias_hops", "3", 3),
    ("max_tlsa_records", "3", 3),
    ("max_chain_certificates", "3", 3),
    ("max_chain_octets", "3", 3),
    ("max_signatures", "3", 3),
    ("max_name_constraint_checks", "3", 3),
    ("max_policy_octets", "3", 3),
    ("max_fetch_seconds", "3", 3),
    ("max_plan_seconds", "3", 3),
    ("max_delivery_seconds", "3", 3),
    ("max_attempts", "3", 3),
]


def test_the_table_above_has_every_field() -> None:
    assert [key for key, _, _ in SETTINGS] == [attribute.name for attribute in fields(Config)]


@pytest.mark.parametrize(("key", "text", "value"), SETTINGS, ids=[key for key, _, _ in SETTINGS])
def test_every_field_is_set_by_text_and_survives_json(key: str, text: str, value: Any) -> None:
    config = Config.from_settings({key: text})
    assert getattr(config, key) == value
    data = json.loads(json.dumps(config.to_json()))
    assert list(data) == [name for name, _, _ in SETTINGS]
    assert Config.from_json(data) == config
    assert Config.from_json(data | {"setting_of_a_later_version": True}) == config
    del data[key]
    assert Config.from_json(data) == Config()


def test_the_defaults_are_those_of_the_documented_decisions() -> None:
    config = Config()
    assert Config.from_settings({}) == config
    assert Config.from_json({}) == config
    assert (config.dane, config.insecure_mx, config.address_families) == ("opportunistic", "dane", "either")
    assert config.ip_versions == (4, 6)
    assert (config.usages, config.digest_order, config.min_rsa_bits) == ((2, 3), (2, 1), 1024)
    assert config.opportunistic_sni is True
    assert (config.sts, config.sts_with_dane) == ("on", "exempt")
    assert (config.sts_on_dns_error, config.sts_media_type) == ("continue", "require")
    assert (config.max_policy_octets, config.max_fetch_seconds) == (65_536, 60)
    assert (config.cleartext_retry, config.max_attempts) == ("now", 20)
    assert config.retry_seconds == 1800  # RFC5321-4.5.4.1-c


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("dane", "on"),
        ("dane", "Mandatory"),
        ("insecure_mx", "none"),
        ("address_families", ""),
        ("ip_versions", "5"),
        ("ip_versions", ""),
        ("ip_versions", "4,4"),
        ("opportunistic_sni", "yes"),
        ("opportunistic_sni", "True"),
        ("sts", "maybe"),
        ("cleartext_retry", "always"),
        ("retry_seconds", "0"),  # RFC5321-4.5.4.1-b: never without delay
        ("retry_seconds", "-1800"),
        ("retry_seconds", "432001"),  # more than five days: RFC5321-4.5.4.1-d
        ("max_attempts", "0"),
        ("usages", "1"),  # RFC7671-4-a and RFC 7672 section 3.1.3: no setting enables PKIX usages
        ("usages", "0,2,3"),
        ("usages", "3,x"),
        ("digest_order", "3,2"),
        ("digest_order", "2,2"),
        ("digest_order", "0"),
        ("extra_digests", "1=sha384"),
        ("extra_digests", "3=md5"),
        ("extra_digests", "3"),
        ("extra_digests", "3=sha384,3=sha3_256"),
        ("min_rsa_bits", "511"),
        ("min_rsa_bits", "-2048"),
        ("own_names", "user@client.example"),
        ("own_addresses", "mx.example"),
        ("max_mx_hosts", "0"),
        ("max_signatures", "1.5"),
        ("max_signatures", "\u0663"),  # a digit three, but not an ASCII one
    ],
)
def test_a_bad_setting_is_refused_by_its_name(key: str, text: str) -> None:
    with pytest.raises(Misconfigured, match=key):
        Config.from_settings({key: text})


def test_an_unknown_setting_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(Misconfigured, match=r"no setting 'dnae'.*insecure_mx"):
        Config.from_settings({"dnae": "off"})


@pytest.mark.parametrize(
    "bad",
    [{"opportunistic_sni": 1}, {"loopback_is_own": 0}, {"usages": 3}, {"unknown": 1}, {"own_names": [25]}],
)
def test_a_value_of_the_wrong_type_is_a_type_error(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Config(**bad)


@pytest.mark.parametrize(
    "bad",
    [{"dane": "on"}, {"own_names": ["a..example"]}, {"own_addresses": ["mx"]}, {"max_attempts": 0}, {"usages": [1]}],
)
def test_a_value_that_can_not_be_is_refused_by_its_name(bad: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(bad))):
        Config(**bad)


def test_an_extra_digest_takes_its_place_in_the_order() -> None:
    config = Config.from_settings({"extra_digests": "7=sha3_512", "digest_order": "7,2,1"})
    assert config.digests == {1: "sha256", 2: "sha512", 7: "sha3_512"}
    assert config.digest_order == (7, 2, 1)


def test_leaving_out_the_digest_that_every_client_must_support_is_a_warning() -> None:  # RFC7672-3.1.1-g
    assert "SHA2-256" in Config(digest_order=[2]).warnings[0]
    assert Config().warnings == ()
