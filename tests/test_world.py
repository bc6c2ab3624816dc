"""The static world as a whole: the files that it may name, what is no world, and the tour."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import World
from mailtlspolicy.delivery.session import Secured
from mailtlspolicy.x509.pem import certificate_to_pem
from tests.sessions import look

if TYPE_CHECKING:
    from pathlib import Path

LEAF = b"\x30\x03leaf"


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
    data = {"zones": {"example": {"security": "secure", "records": ["@ A 192.0.2.1"]}}, "https": {}, "cache": {}}
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
