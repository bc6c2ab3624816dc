"""The command line: exit statuses, and that what it prints is what the library decided."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import World, cli
from mailtlspolicy.adapters import dns, https, smtp
from mailtlspolicy.cli import doctor as doctor_command
from mailtlspolicy.dns import doctor
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure
from mailtlspolicy.sts.refresh import RefreshReport
from mailtlspolicy.tlsrpt.reading import MAX_MAIL, read_report, read_report_mail
from mailtlspolicy.world.world import WorldEngine

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
LEAF = VECTORS / "certificates" / "leaf-direct.pem"
DIGEST = hashlib.sha256(ssl.PEM_cert_to_DER_cert(LEAF.read_text("ascii"))).hexdigest()
EE = "3 1 1 " + "a1" * 32
NAME = "mx1.provider.example"  # in the certificate

ZONES = {
    "client.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1", f"_25._tcp.mx TLSA 3 0 1 {DIGEST}", "@ MX 20 gone"]},
    "good.test": {"records": ["@ MX 10 mx.client.test."]},
    "bad.test": {"records": ["@ A 192.0.2.1", f"_25._tcp TLSA {EE}"]},
    "null.test": {"records": ["@ MX 0 ."]},
}
DATA = {
    "now": "2026-01-01T00:00:00Z",
    "zones": ZONES,
    "servers": {"192.0.2.1": {"25": {"chain": ["pem:" + LEAF.read_text("ascii")]}}},
}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder, which is not there yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in process; returns its status, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def world(tmp_path: Path) -> Path:
    path = tmp_path / "world.json"
    path.write_text(json.dumps(DATA))
    return path


@pytest.mark.parametrize(
    ("command", "next_hop", "status"),
    [
        ("plan", "client.test", 0),
        ("plan", "null.test", 1),
        ("plan", "gone.test", 1),
        ("plan", "user@client.test", 2),
        ("plan", "192.0.2.1", 2),
        ("check", "good.test", 0),
        ("check", "client.test", 1),  # one of its hosts has no address
        ("check", "bad.test", 1),
        ("check", "null.test", 1),
        ("check", "", 2),
    ],
)
def test_the_status_is_0_for_yes_1_for_no_and_2_for_misuse(
    run: Any, world: Path, command: str, next_hop: str, status: int
) -> None:
    got, out, err = run(command, next_hop, "--world", world)
    assert got == status
    assert (out == "") == (status == 2)
    assert err.startswith("mailtlspolicy: ") == (status == 2)


def test_json_is_the_librarys_own(run: Any, world: Path) -> None:
    engine = World.from_json(DATA).engine()
    _, out, _ = run("plan", "client.test", "--world", world, "--json")
    assert json.loads(out) == engine.plan("client.test").to_json()
    _, out, _ = run("check", "client.test", "--world", world, "--json")
    assert json.loads(out) == engine.check("client.test").to_json()


def test_people_get_a_table_of_hosts_and_the_words_of_postfix(run: Any, world: Path) -> None:
    _, out, _ = run("check", "client.test", "--world", world)
    lines = out.splitlines()
    (row,) = (line.split() for line in lines if " mx.client.test " in line)
    assert row[:3] == ["10", "mx.client.test", "dane"]
    assert any("skipped: no-addresses" in line for line in lines)
    assert any(line.startswith("Verified TLS connection established to mx.client.test[192.0.2.1]") for line in lines)
    assert lines[-1] == "failed"


def test_explain_prints_a_clause_a_line(run: Any, world: Path) -> None:
    _, short, _ = run("plan", "client.test", "--world", world)
    _, long, _ = run("plan", "client.test", "--world", world, "--explain")
    assert long.startswith(short.rstrip("\n"))
    assert World.from_json(DATA).engine().plan("client.test").explain() in long


def test_settings_reach_the_decision(run: Any, world: Path) -> None:
    status, out, _ = run(
        "plan", "good.test", "--world", world, "--set", "dane=off", "--set", "opportunistic_sni=false", "--json"
    )
    (host,) = json.loads(out)["hosts"]
    assert (status, host["level"], host["sni"]) == (0, "may", None)


def test_a_doubtful_setting_is_warned_of_and_obeyed(run: Any, world: Path) -> None:
    status, _, err = run("plan", "good.test", "--world", world, "--set", "digest_order=2")
    assert (status, "SHA2-256" in err) == (0, True)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["deliver", "client.test"],
        ["plan"],
        ["plan", "client.test", "--wrold", "tour"],
        ["plan", "client.test", "--world", "{tmp}/missing.json"],
        ["plan", "client.test", "--world", "{tmp}/broken.json"],
        ["plan", "client.test", "--world", "{tmp}/list.json"],
        ["plan", "client.test", "--world", "{tmp}"],
        ["plan", "client.test", "--world", "tour", "--resolver", "127.0.0.1"],
        ["plan", "client.test", "--resolver", "resolver.test"],
        ["plan", "client.test", "--world", "tour", "--set", "dane"],
        ["plan", "client.test", "--world", "tour", "--set", "dane=maybe"],
        ["plan", "client.test", "--world", "tour", "--set", "unknown=1"],
        ["plan", "client.test", "--world", "tour", "--set", "sts=no"],
        ["plan", "client.test", "--world", "tour", "--set", "sts_mode=enforce"],
        ["plan", "client.test", "--world", "tour", "--store"],
        ["simulate", "client.test"],
        ["simulate", "client.test", "--resolver", "127.0.0.1"],
        ["simulate", "client.test", "--world", "{tmp}/missing.json"],
        ["simulate", "signed.example", "--world", "tour", "--sender", "no mailbox"],
        ["simulate", "signed.example", "--world", "tour", "--recipient", "a", "--recipient", "a"],
        ["simulate", "signed.example", "--world", "tour", "--recipient", "a@x\r\nDATA"],
        ["simulate", "user@signed.example", "--world", "tour"],
        ["simulate", "signed.example", "--world", "tour", "--record", "{tmp}/record.json"],
        ["simulate", "signed.example", "--world", "tour", "--set", "cleartext_retry=always"],
        ["simulate", "signed.example", "--world", "tour", "--set", "max_attempts=0"],
        ["plan", "signed.example", "--world", "tour", "--requiretls=yes"],
        ["sts"],
        ["sts", "client.test", "--world", "{tmp}/missing.json"],
        ["sts", "client.test", "--world", "tour", "--requiretls"],
        ["sts", "client.test", "--world", "tour", "--explain"],
        ["refresh", "--world", "tour", "--resolver", "127.0.0.1"],
        ["refresh", "--world", "{tmp}/broken.json"],
        ["plan", "client.test", "--world", "tour", "--record", "{tmp}/no/such/folder"],
        ["match", "--tlsa", EE, "--chain", str(LEAF)],
        ["match", "--tlsa", "3 1", "--chain", str(LEAF), "--name", NAME],
        ["match", "--tlsa", EE, "--chain", "{tmp}/broken.json", "--name", NAME],
        ["match", "--tlsa", EE, "--chain", "{tmp}/missing.pem", "--name", NAME],
        ["match", "--tlsa", EE, "--chain", str(LEAF), "--name", NAME, "--at", "noon"],
        ["vectors", "{tmp}/missing.json"],
        ["vectors", "{tmp}/broken.json"],
        ["vectors", "{tmp}/empty"],
        ["doctor", "--resolver", "127.0.0.1", "--signed-name", "192.0.2.1"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_status_2_with_a_reason_and_no_output(run: Any, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    status, out, err = run(*(word.format(tmp=tmp_path) for word in words))
    assert (status, out) == (2, "")
    assert "mailtlspolicy" in err
    assert "Traceback" not in err


def test_a_record_of_a_run_replays_to_the_same_answer(run: Any, world: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    for command in ("plan", "check"):
        live = run(command, "client.test", "--world", world, "--json", "--record", record)
        assert run(command, "client.test", "--world", record, "--json") == live


# --- simulate and the wishes of a message

SERVERS: dict[str, Any] = {
    "open": {},
    "clear": {"starttls": "absent"},
    "broken": {"starttls": "fail"},
    "refusing": {"replies": {"MAIL": "550 5.7.1 not you"}},
    "busy": {"replies": {"RCPT": [250, "450 4.2.0 later"]}},
    "down": {"connect": "refused"},
    "lost": {"drop_after": "."},
}
MAIL = {
    "now": "2026-01-01T00:00:00Z",
    "zones": {
        **ZONES,
        **{
            f"{name}.test": {"security": "insecure", "records": ["@ MX 10 mx", f"mx A 192.0.2.1{number}"]}
            for number, name in enumerate(SERVERS)
        },
    },
    "servers": {
        **DATA["servers"],  # type: ignore[dict-item]  # mypy takes DATA for an object
        **{f"192.0.2.1{number}": {"25": server} for number, server in enumerate(SERVERS.values())},
    },
}


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "mail.json"
    path.write_text(json.dumps(MAIL))
    return path


@pytest.mark.parametrize(
    ("domain", "words", "status", "end"),
    [
        ("client", (), 0, "delivered to mx.client.test, verified"),
        ("bad", (), 1, "deferred: status 4.7.5"),
        ("null", (), 1, "bounced: status 5.1.10"),
        ("gone", (), 1, "bounced: status 5.1.2"),
        ("open", (), 0, "delivered to mx.open.test, untrusted"),
        ("clear", (), 0, "delivered to mx.clear.test, cleartext"),
        ("broken", (), 0, "delivered to mx.broken.test, cleartext"),
        ("broken", ("--set", "cleartext_retry=later"), 1, "deferred: status 4.7.5"),
        ("broken", ("--set", "cleartext_retry=never"), 1, "deferred: status 4.7.5"),
        ("refusing", (), 1, "bounced: status 5.7.1"),
        ("busy", (), 0, "delivered to mx.busy.test, untrusted"),
        ("busy", ("--recipient", "a@busy.test", "--recipient", "b@busy.test"), 1, "deferred: status 4.2.0"),
        ("down", (), 1, "deferred: status 4.4.1"),
        ("lost", (), 1, "deferred: status 4.4.2"),
        ("good", ("--tls-optional",), 0, "delivered to mx.client.test, untrusted"),
        ("bad", ("--tls-optional",), 0, "delivered to bad.test, untrusted"),  # RFC8689-3-a
        ("open", ("--requiretls",), 1, "bounced: status 5.7.10"),  # RFC8689-4.2.1-q
        ("open", ("--requiretls", "--tls-optional"), 1, "bounced: status 5.7.10"),  # RFC8689-4.1-c
        ("open", ("--requiretls", "--sender", ""), 1, "deferred: status 4.7.5"),  # RFC8689-5-f
        ("good", ("--requiretls",), 1, "bounced: status 5.7.30"),  # RFC8689-4.2.1-p
        ("good", ("--requiretls", "--sender", ""), 0, "delivered to mx.client.test, verified"),
    ],
)
def test_a_simulation_is_0_for_a_delivery_and_1_for_anything_else(
    run: Any, mail: Path, domain: str, words: tuple[str, ...], status: int, end: str
) -> None:
    got, out, err = run("simulate", f"{domain}.test", "--world", mail, *words)
    assert (got, out.splitlines()[-1], err) == (status, end, "")
    got, out, err = run("simulate", f"{domain}.test", "--world", mail, *words, "--json")
    assert (got, json.loads(out)["outcome"], err) == (status, end.partition(" ")[0].rstrip(":"), "")


def test_the_json_of_a_simulation_is_the_librarys_own(run: Any, mail: Path) -> None:
    engine = World.from_json(MAIL).engine()
    for name in SERVERS:
        _, out, _ = run("simulate", f"{name}.test", "--world", mail, "--json")
        assert json.loads(out) == engine.simulate(f"{name}.test").to_json()
    words = ("--sender", "", "--recipient", "a@x.test", "--recipient", "b@y.test", "--tls-optional")
    _, out, _ = run("simulate", "busy.test", "--world", mail, *words, "--json")
    message: dict[str, Any] = {"sender": "", "recipients": ["a@x.test", "b@y.test"], "tls_optional": True}
    assert json.loads(out) == engine.simulate("busy.test", **message).to_json()


def test_a_simulation_explains_the_dialogue_with_each_server(run: Any, mail: Path) -> None:
    _, short, _ = run("simulate", "broken.test", "--world", mail)
    _, long, _ = run("simulate", "broken.test", "--world", mail, "--explain")
    outcome = World.from_json(MAIL).engine().simulate("broken.test")
    lines = [f"  {line}" for attempt in outcome.attempts for line in attempt.transcript]
    assert "  C: MAIL FROM:<sender@sender.example>" in lines
    assert [line for line in long.splitlines() if line in lines] == lines
    assert outcome.plan.explain() in long
    assert not [line for line in short.splitlines() if line in lines]


@pytest.mark.parametrize("explain", [(), ("--explain",)])
def test_a_hostile_server_can_not_play_with_the_terminal(run: Any, tmp_path: Path, explain: tuple[str, ...]) -> None:
    text = "5.7.1 \x1b[2J\r\ndelivered to mx.test, verified\u202e\x00"
    for server in ({"greeting": f"554 {text}"}, {"replies": {"MAIL": f"550 {text}"}}, {"extensions": [text]}):
        zones = {"a.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1"]}}
        data = {"zones": zones, "servers": {"192.0.2.1": {"25": server}}}
        world = written(tmp_path / "world.json", data)
        for command in ("simulate", "check"):
            _, out, _ = run(command, "a.test", "--world", world, *explain)
            assert all(line.isprintable() for line in out.split("\n"))
            assert "\ndelivered to mx.test, verified" not in out
            assert json.loads(run(command, "a.test", "--world", world, "--json")[1])


WISHES: list[tuple[tuple[str, ...], dict[str, bool]]] = [
    ((), {}),
    (("--requiretls",), {"requiretls": True}),
    (("--tls-optional",), {"tls_optional": True}),
    (("--requiretls", "--tls-optional"), {"requiretls": True, "tls_optional": True}),
]


@pytest.mark.parametrize(("words", "wish"), WISHES)
@pytest.mark.parametrize("domain", ["client.test", "good.test", "open.test", "clear.test", "bad.test"])
def test_plans_and_checks_are_made_for_the_wishes_of_a_message(
    run: Any, mail: Path, tmp_path: Path, domain: str, words: tuple[str, ...], wish: dict[str, Any]
) -> None:
    engine, record = World.from_json(MAIL).engine(), tmp_path / "record.json"
    for command in ("plan", "check"):
        answer = getattr(engine, command)(domain, **wish)
        is_good = answer.undeliverable is None if command == "plan" else answer.passed
        live = run(command, domain, "--world", mail, "--json", "--record", record, *words)
        assert (live[0], json.loads(live[1])) == (0 if is_good else 1, answer.to_json())
        assert run(command, domain, "--world", record, "--json", *words) == live


# --- match


@pytest.mark.parametrize(
    ("tlsa", "names", "status", "expect"),
    [
        ([f"3 0 1 {DIGEST}"], ["other.test"], 0, {"mechanism": "dane-ee", "depth": 0, "record": f"3 0 1 {DIGEST}"}),
        ([EE, f"3 0 1 {DIGEST.upper()}"], [NAME], 0, {"authenticated": True}),
        ([EE], [NAME], 1, {"failure": "no-tlsa-match", "authenticated": False}),
        ([f"1 0 1 {DIGEST}"], [NAME], 1, {"failure": "no-usable-records"}),
    ],
)
def test_match_judges_a_chain_by_the_records_given(
    run: Any, tlsa: list[str], names: list[str], status: int, expect: dict[str, Any]
) -> None:
    words = [part for record in tlsa for part in ("--tlsa", record)] + [
        part for name in names for part in ("--name", name)
    ]
    got, out, _ = run("match", *words, "--chain", LEAF, "--at", "2026-01-01T00:00:00Z", "--json")
    assert got == status
    assert json.loads(out).items() >= expect.items()


@pytest.mark.parametrize(
    ("at", "names", "status", "word"),
    [
        ("2026-01-01T00:00:00Z", [NAME], 0, "authenticated by dane-ta"),
        ("2026-01-01", ["other.test", NAME], 0, "authenticated by dane-ta"),
        ("2099-01-01T00:00:00Z", [NAME], 1, "expired"),
        ("2026-01-01T00:00:00Z", ["other.test"], 1, "name-mismatch"),
    ],
)
def test_match_checks_names_and_dates_of_an_anchored_chain(
    run: Any, tmp_path: Path, at: str, names: list[str], status: int, word: str
) -> None:
    anchor = VECTORS / "certificates" / "ta.pem"
    chain = tmp_path / "chain.pem"
    chain.write_text(LEAF.read_text("ascii") + anchor.read_text("ascii"))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(anchor.read_text("ascii"))).hexdigest()
    repeated = [part for name in names for part in ("--name", name)]
    got, out, _ = run("match", "--tlsa", f"2 0 1 {digest}", "--chain", chain, *repeated, "--at", at)
    assert (got, word in out) == (status, True)


# --- vectors


def test_vectors_prints_a_line_a_failure_and_a_count(run: Any, tmp_path: Path) -> None:
    good = {"id": "good", "ask": {"canonical": "MX.Example."}, "expect": {"name": "mx.example"}}
    bad = {"id": "bad", "ask": {"canonical": "mx.example"}, "expect": {"name": "MX.Example."}}
    for name, listed in (("one", [good, bad]), ("two", [good | {"id": "better"}])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"title": name, "vectors": listed}))
    status, out, _ = run("vectors", tmp_path)
    lines = out.splitlines()
    assert (status, len(lines), lines[-1]) == (1, 2, "2 passed, 1 failed")
    assert lines[0].startswith("bad: ")
    assert run("vectors", tmp_path / "two.json")[:2] == (0, "1 passed, 0 failed\n")
    data = json.loads(run("vectors", tmp_path, "--json")[1])
    assert (data["passed"], list(data["failed"])) == (2, ["bad"])


# --- MTA-STS

CERTIFICATES = {
    name: "pem:" + (VECTORS / "certificates" / f"{name}.pem").read_text("ascii") for name in ("leaf", "int", "ta")
}
NOW = "2026-01-01T00:00:00Z"


def policy(mode: str = "enforce", mx: str = NAME, max_age: int = 2_592_000) -> str:
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n"


def served(body: str, **more: Any) -> dict[str, Any]:
    return {"content_type": "text/plain", "body": body, **more}


def announcing(identity: str = "1", more: str = "") -> dict[str, Any]:
    record = f'_mta-sts TXT "v=STSv1; id={identity};{more}"'
    return {"security": "insecure", "records": [f"@ MX 10 {NAME}.", record]}


STS: dict[str, Any] = {
    "now": NOW,
    "zones": {
        "provider.example": {"security": "insecure", "records": ["mx1 A 192.0.2.1"]},
        "plain.test": {"security": "insecure", "records": [f"@ MX 10 {NAME}."]},
        "quiet.test": {"security": "insecure", "records": [f"@ MX 10 {NAME}."]},
        **{
            f"{name}.test": announcing() for name in ("enforced", "trial", "stray", "gone", "known", "wrong", "expired")
        },
    },
    "https": {
        "mta-sts.enforced.test": served(policy()),
        "mta-sts.trial.test": served(policy("testing", "mx9.provider.example")),
        "mta-sts.stray.test": served(policy(mx="mx9.provider.example")),
        "mta-sts.quiet.test": served(policy()),
        "mta-sts.wrong.test": served("mode: enforce\n"),
        "mta-sts.expired.test": served(policy(), certificate="expired"),
    },
    "cache": {"known.test": {"id": "0", "fetched": "2025-12-30T00:00:00Z", "policy": policy(max_age=604_800)}},
    "trust": [CERTIFICATES["ta"]],
    "servers": {"192.0.2.1": {"25": {"chain": [CERTIFICATES["leaf"], CERTIFICATES["int"]]}}},
}


@pytest.fixture
def sts_world(tmp_path: Path) -> Path:
    return written(tmp_path / "sts.json", STS)


def written(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("command", "domain", "status", "shown"),
    [
        ("plan", "enforced.test", 0, "mode enforce, id 1, fetched, in force until 2026-01-31 00:00:00+00:00"),
        ("plan", "trial.test", 0, "mode testing, id 1, fetched"),
        ("plan", "stray.test", 1, "skipped: sts-mx-mismatch"),
        ("plan", "known.test", 0, "mode enforce, id 0, cached, in force until 2026-01-06 00:00:00+00:00"),
        ("plan", "known.test", 0, "MTA-STS: fetch-error: https://mta-sts.known.test/"),
        ("plan", "gone.test", 0, "MTA-STS: fetch-error: https://mta-sts.gone.test/"),
        ("plan", "wrong.test", 0, "MTA-STS: policy-invalid: "),
        ("plan", "expired.test", 0, "MTA-STS: webpki-invalid: "),
        ("check", "enforced.test", 0, f"Verified TLS connection established to {NAME}[192.0.2.1]"),
        ("check", "stray.test", 1, "sts-mx-mismatch"),
    ],
)
def test_a_policy_and_what_is_wrong_with_it_are_shown(
    run: Any, sts_world: Path, command: str, domain: str, status: int, shown: str
) -> None:
    got, out, err = run(command, domain, "--world", sts_world)
    assert (got, shown in out, err) == (status, True, "")
    got, out, err = run(command, domain, "--world", sts_world, "--json")
    engine = World.from_json(STS).engine()
    answer = engine.plan(domain).to_json() if command == "plan" else engine.check(domain).to_json()
    assert (got, json.loads(out), err) == (status, answer, "")


def test_a_domain_without_a_policy_has_no_line_about_it(run: Any, sts_world: Path) -> None:
    assert "MTA-STS" not in run("plan", "plain.test", "--world", sts_world)[1]


def test_mta_sts_can_be_switched_off(run: Any, sts_world: Path) -> None:
    for domain in ("enforced.test", "stray.test", "known.test"):
        status, out, _ = run("plan", domain, "--world", sts_world, "--set", "sts=off", "--json")
        data = json.loads(out)
        assert (status, data["sts"], data["hosts"][0]["level"]) == (0, None, "may")


@pytest.mark.parametrize(
    "domain", ["enforced.test", "trial.test", "stray.test", "known.test", "gone.test", "wrong.test"]
)
def test_a_record_of_a_plan_replays_with_its_policy(run: Any, sts_world: Path, tmp_path: Path, domain: str) -> None:
    record = tmp_path / "record.json"
    live = run("plan", domain, "--world", sts_world, "--json", "--record", record)
    assert run("plan", domain, "--world", record, "--json") == live
    assert json.loads(live[1])["sts"] is not None


@pytest.mark.parametrize("domain", ["enforced.test", "trial.test"])
def test_a_record_of_a_check_replays_with_its_anchors(run: Any, sts_world: Path, tmp_path: Path, domain: str) -> None:
    record = tmp_path / "record.json"
    live = run("check", domain, "--world", sts_world, "--json", "--record", record)
    assert run("check", domain, "--world", record, "--json") == live


@pytest.mark.parametrize("setting", ["sts=maybe", "sts_with_dane=audit", "max_fetch_seconds=0", "max_policy_octets=1k"])
def test_a_wrong_setting_of_mta_sts_is_misuse(run: Any, sts_world: Path, setting: str) -> None:
    for words in (("plan", "enforced.test"), ("sts", "enforced.test"), ("refresh",)):
        status, out, err = run(*words, "--world", sts_world, "--set", setting)
        assert (status, out, setting.partition("=")[0] in err) == (2, "", True)


# --- sts


@pytest.mark.parametrize(
    ("domain", "status", "shown"),
    [
        ("enforced.test", 0, "a sender discovers this policy"),
        ("trial.test", 0, "  mode: testing"),
        ("quiet.test", 1, "no TXT record of MTA-STS"),  # and the policy is shown all the same
        ("quiet.test", 1, "  mode: enforce"),
        ("known.test", 1, "cached: mode enforce, id 0, fetched 2025-12-30 00:00:00+00:00, until 2026-01-06"),
        ("wrong.test", 1, "no valid policy: version-missing at octet 14"),
        ("expired.test", 1, "could not be fetched"),
        ("plain.test", 1, "a sender discovers no policy"),
    ],
)
def test_sts_shows_what_a_domain_publishes(run: Any, sts_world: Path, domain: str, status: int, shown: str) -> None:
    got, out, err = run("sts", domain, "--world", sts_world)
    assert (got, shown in out, err) == (status, True, "")
    got, out, err = run("sts", domain.upper() + ".", "--world", sts_world, "--json")
    found = World.from_json(STS).engine().examine_sts(domain)
    assert (got, json.loads(out), err) == (status, found.to_json(), "")
    assert found.passed is (status == 0)


def test_sts_shows_the_remarks_of_a_linter(run: Any, tmp_path: Path) -> None:
    zones = {"a.test": announcing(more=" x=1;")}
    data = {"now": NOW, "zones": zones, "https": {"mta-sts.a.test": served(policy(max_age=3600) + "later: yes\n")}}
    status, out, _ = run("sts", "a.test", "--world", written(tmp_path / "world.json", data))
    remarks = [line.strip() for line in out.splitlines() if "remark" in line]
    offsets = [policy().index("max_age"), len(policy(max_age=3600))]
    assert remarks == [
        "remark: unknown-field at octet 15",
        f"remark: short-max-age at octet {offsets[0]}",
        f"remark: unknown-field at octet {offsets[1]}",
    ]
    assert status == 0


HOSTILE = "version: STSv1\n\x1b[2Jmode: none\r\u202eevil\x07\x00\x9b1m\nmax_age: 1\n"


def test_a_hostile_policy_can_not_play_with_the_terminal(run: Any, tmp_path: Path) -> None:
    data: dict[str, Any] = {"now": NOW, "zones": {"a.test": announcing()}, "https": {"mta-sts.a.test": served(HOSTILE)}}
    world = written(tmp_path / "world.json", data)
    status, out, _ = run("sts", "a.test", "--world", world)
    assert status == 1
    assert all(line.isprintable() for line in out.split("\n"))
    assert "  \\x1b[2Jmode: none\\r\\u202eevil\\x07\\x00\\x9b1m" in out.splitlines()
    status, out, _ = run("sts", "a.test", "--world", world, "--json")
    assert (status, out.isascii(), json.loads(out)["body"]) == (1, True, HOSTILE)
    data["https"]["mta-sts.a.test"] = served(policy(), content_type="text/\x1b[2Jhtml\r\nx")
    assert all(line.isprintable() for line in run("sts", "a.test", "--world", written(world, data))[1].split("\n"))
    assert all(line.isprintable() for line in run("plan", "a.test", "--world", world, "--explain")[1].split("\n"))


@pytest.mark.parametrize("octet", ["\\027", "\\010", "\\000", "\\127", "\\233"])
def test_a_hostile_record_can_not_play_with_the_terminal(run: Any, tmp_path: Path, octet: str) -> None:
    data = {"now": NOW, "zones": {"a.test": announcing(more=f" x={octet}a sender discovers this policy")}}
    status, out, _ = run("sts", "a.test", "--world", written(tmp_path / "world.json", data))
    assert status == 1
    assert all(line.isprintable() for line in out.split("\n"))
    assert not [line for line in out.splitlines() if line.startswith("a sender discovers this policy")]


def test_sts_stores_nothing(run: Any, sts_world: Path, tmp_path: Path) -> None:
    store = tmp_path / "policies"
    run("sts", "enforced.test", "--world", sts_world, "--store", store)
    assert "cached: nothing" in run("sts", "enforced.test", "--world", sts_world, "--store", store)[1]
    run("plan", "enforced.test", "--world", sts_world, "--store", store)
    assert (
        f"cached: mode enforce, id 1, fetched {NOW[:10]}"
        in run("sts", "enforced.test", "--world", sts_world, "--store", store)[1]
    )


@pytest.mark.parametrize("domain", ["", "a..test", "192.0.2.1", "[relay.test]", "user@a.test"])
def test_sts_takes_a_domain_name_alone(run: Any, sts_world: Path, domain: str) -> None:
    status, out, err = run("sts", domain, "--world", sts_world)
    assert (status, out, err.startswith("mailtlspolicy: ")) == (2, "", True)


# --- refresh

LATER = "2026-01-02T00:00:00Z"


def old(mode: str = "enforce", fetched: str = NOW, **more: Any) -> dict[str, Any]:
    return {"id": "1", "fetched": fetched, "policy": policy(mode), "used": fetched, **more}


def refreshing(tmp_path: Path, **cache: Any) -> Path:
    """A world a day later, in which these are cached; those whose names begin with "good" can be fetched again."""
    domains = {f"{name}.test": entry for name, entry in cache.items()}
    data = {
        "now": LATER,
        "zones": {domain: announcing() for domain in domains},
        "https": {f"mta-sts.{domain}": served(policy()) for domain in domains if domain.startswith("good")},
        "cache": domains,
    }
    return written(tmp_path / "refresh.json", data)


def test_refresh_tells_its_progress_beside_and_its_failures_in_the_answer(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    disused = old(fetched="2025-10-01T00:00:00Z", ended=NOW)
    world = refreshing(tmp_path, good1=old(), good2=old(), bad=old("testing"), goodbye=old("none"), over=disused)
    status, out, err = run("refresh", "--world", world)
    lines = out.splitlines()
    assert (status, lines[-1]) == (1, "refreshed 3, failed 1, dropped 1, store failures 0")
    assert len(lines) == 2
    assert lines[0].startswith("bad.test: fetch-error, in force (mode testing) until 2026-01-31 00:00:00+00:00: ")
    assert err.endswith("\rrefreshed 3, failed 1, dropped 1\n")
    assert err.count("\n") == 1
    status, out, err = run("refresh", "--world", world, "--json")
    assert (status, json.loads(out)) == (1, World.load(world).engine().refresh().to_json())
    assert json.loads(out)["dropped"] == ["over.test"]
    assert "refreshed" in err


def test_the_progress_of_a_long_refresh_counts_up(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    world = refreshing(tmp_path, **{f"good{number}": old() for number in range(40)})
    status, out, err = run("refresh", "--world", world)
    counts = [int(part.partition(" ")[2].partition(",")[0]) for part in err.strip().split("\r") if part]
    assert (status, out) == (0, "refreshed 40, failed 0, dropped 0, store failures 0\n")
    assert len(counts) > 1
    assert counts == sorted(set(counts))
    assert counts[-1] == 40


def test_nobody_watches_the_progress_where_there_is_no_terminal(run: Any, tmp_path: Path) -> None:
    status, out, err = run("refresh", "--world", refreshing(tmp_path, good=old()))
    assert (status, out, err) == (0, "refreshed 1, failed 0, dropped 0, store failures 0\n", "")


def test_a_policy_of_mode_none_that_is_gone_is_no_failure(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("refresh", "--world", refreshing(tmp_path, bad=old("none")))
    assert (status, out) == (0, "refreshed 0, failed 0, dropped 0, store failures 0\n")


def test_a_refresh_without_work_is_silent_but_for_its_answer(run: Any, sts_world: Path, tmp_path: Path) -> None:
    data = {**STS, "cache": {}}
    assert run("refresh", "--world", written(tmp_path / "empty.json", data)) == (
        0,
        "refreshed 0, failed 0, dropped 0, store failures 0\n",
        "",
    )
    assert run("refresh", "--world", sts_world, "--set", "sts=off")[0] == 0


def test_refresh_takes_no_domain(run: Any, sts_world: Path) -> None:
    assert run("refresh", "enforced.test", "--world", sts_world)[:2] == (2, "")


# --- the policy store


def source(answer: tuple[int, str, str]) -> Any:
    return json.loads(answer[1])["sts"]["source"]


def test_a_store_keeps_policies_between_runs(run: Any, sts_world: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "policies")
    silent = written(tmp_path / "silent.json", {**STS, "https": {}, "now": LATER})
    for command in ("plan", "check"):
        assert json.loads(run(command, "enforced.test", "--world", silent, "--json")[1]) is not None
    first = run("plan", "enforced.test", "--world", sts_world, "--json", *store)
    assert (source(first), first[0]) == ("fetched", 0)
    assert source(run("plan", "enforced.test", "--world", silent, "--json", *store)) == "cached"
    assert source(run("plan", "enforced.test", "--world", silent, "--json")) is None  # nothing of it is elsewhere
    status, out, _ = run("refresh", "--world", silent, "--json", *store)
    assert (status, [failure["domain"] for failure in json.loads(out)["failed"]]) == (
        1,
        ["enforced.test", "known.test"],
    )


def test_what_the_world_has_cached_goes_into_the_store(run: Any, sts_world: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "policies")
    run("plan", "plain.test", "--world", sts_world, *store)
    bare = written(tmp_path / "bare.json", {**STS, "cache": {}})
    assert source(run("plan", "known.test", "--world", bare, "--json", *store)) == "cached"


def test_what_the_world_has_cached_replaces_nothing(run: Any, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "policies")
    data = {**STS, "https": {"mta-sts.known.test": served(policy("testing"))}}
    world = written(tmp_path / "world.json", data)
    assert source(run("plan", "known.test", "--world", world, "--json", *store)) == "fetched"
    written(world, {**data, "https": {}, "now": LATER})
    _, out, _ = run("plan", "known.test", "--world", world, "--json", *store)
    sts = json.loads(out)["sts"]
    assert (sts["source"], sts["id"], sts["mode"]) == ("cached", "1", "testing")


@pytest.mark.parametrize("kind", ["junk", "folder", "nowhere"])
def test_a_store_that_can_not_be_used_is_misuse(run: Any, internet: dict[str, Any], tmp_path: Path, kind: str) -> None:
    store = tmp_path / "store"
    if kind == "junk":
        store.write_text("no database" * 100)
    elif kind == "folder":
        store.mkdir()
    else:
        store = tmp_path / "no" / "store"
    world = written(tmp_path / "world.json", {**internet, "now": NOW})
    for place in (("--world", world), ("--trust-ad",)):
        for words in (("plan", "plain.test"), ("check", "plain.test"), ("sts", "enforced.test"), ("refresh",)):
            status, out, err = run(*words, *place, "--store", store, "--json")
            assert (status, out) == (2, "")
            assert err.startswith(f"mailtlspolicy: the policy store {store} can not be used: ")


def test_an_entry_that_can_not_be_read_is_told_of(run: Any, tmp_path: Path) -> None:
    world = written(tmp_path / "world.json", {**STS, "cache": {}})
    words = ("--world", world, "--store", tmp_path / "store")
    run("plan", "enforced.test", *words)
    with closing(sqlite3.connect(tmp_path / "store")) as connection, connection:
        connection.execute("UPDATE policies SET entry = '{}' WHERE domain = 'enforced.test'")
        connection.execute("INSERT INTO policies VALUES ('plain.test', 'x')")
    status, out, _ = run("plan", "plain.test", *words)  # it may hold a policy: the mail waits
    assert (status, "the policy store failed: " in out) == (1, True)
    assert "undeliverable (transient): sts-lookup-failed, status 4.4.3" in out
    status, out, err = run("plan", "plain.test", *words, "--record", tmp_path / "record.json")
    assert (status, "warning: nothing was recorded: the policy store failed" in err) == (1, True)
    assert not (tmp_path / "record.json").exists()
    status, out, _ = run("sts", "enforced.test", *words)
    assert (status, "cached: the policy store failed: " in out) == (0, True)
    status, out, _ = run("refresh", *words)  # which heals what it can
    assert (status, out.splitlines()[-1]) == (1, "refreshed 1, failed 0, dropped 0, store failures 1")
    assert "cached: mode enforce" in run("sts", "enforced.test", *words)[1]


def test_a_policy_that_is_announced_applies_although_its_entry_can_not_be_read(
    run: Any, sts_world: Path, tmp_path: Path
) -> None:
    words = ("--world", sts_world, "--store", tmp_path / "store")
    run("plan", "enforced.test", *words)
    with closing(sqlite3.connect(tmp_path / "store")) as connection, connection:
        connection.execute("UPDATE policies SET entry = '{}' WHERE domain = 'enforced.test'")
    status, out, _ = run("plan", "enforced.test", *words)
    assert (status, "mode enforce, id 1, fetched" in out, "the policy store failed: " in out) == (0, True, True)
    assert "cached: mode enforce" in run("sts", "enforced.test", *words)[1]


# --- a live resolver, in its place one that is told what to say


class FakeResolver:
    """Stands in for the DNS adapter; `answers` says what it hears."""

    answers: Callable[[Lookup], Answer | LookupFailure]
    made: list[dict[str, Any]]
    system: list[str] = ["192.0.2.53:53"]
    timeout = 5.0

    def __init__(self, nameservers: Any = None, *, timeout: float = 5.0, trust_ad: bool | None = None) -> None:
        self.nameservers = self.system if nameservers is None else nameservers
        self.trusted = trust_ad is True or all(address.startswith("127.") for address in self.nameservers)
        type(self).made.append({"nameservers": nameservers, "trust_ad": trust_ad})

    @classmethod
    def from_system(cls, *, trust_ad: bool | None = None) -> FakeResolver:
        return cls(trust_ad=trust_ad)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        return type(self).answers(question)


class FakeNameservers(FakeResolver):
    """The same; of two nameservers the second sets no AD bit."""

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        return oblivious(question) if self.nameservers == ["127.0.0.2:53"] else validating(question)


def in_place_of_the_adapter(fake: type[FakeResolver], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (dns, doctor_command):
        monkeypatch.setattr(module, "DnsResolver", fake)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> type[FakeResolver]:
    fake = type("Fake", (FakeResolver,), {"made": []})
    in_place_of_the_adapter(fake, monkeypatch)
    return fake


NAMES = ["--signed-name", "signed.test", "--unsigned-name", "plain.test", "--bogus-name", "bogus.test"]


def validating(question: Lookup) -> Answer | LookupFailure:
    if question.name == "bogus.test":
        return LookupFailure(question, FailureKind.BOGUS)
    return Answer(question, secure=question.name != "plain.test")


def oblivious(question: Lookup) -> Answer | LookupFailure:
    return Answer(question, secure=False)


@pytest.mark.parametrize(
    ("answers", "words", "status", "validation", "trusted"),
    [
        (validating, ["--resolver", "127.0.0.1"], 0, "validating", True),
        (validating, ["--trust-ad"], 0, "validating", True),
        (validating, ["--resolver", "192.0.2.53"], 1, "validating", False),
        (oblivious, ["--resolver", "127.0.0.1"], 1, "not-validating", True),
    ],
)
def test_the_doctor_says_yes_only_to_a_resolver_that_validates_and_may_be_believed(
    run: Any, resolver: Any, answers: Any, words: list[str], status: int, validation: str, *, trusted: bool
) -> None:
    resolver.answers = staticmethod(answers)
    got, out, _ = run("doctor", *words, *NAMES, "--json")
    data = json.loads(out)
    assert (got, data["validation"], data["trusted"]) == (status, validation, trusted)
    assert [(each["validation"], each["detail"]) for each in data["nameservers"]] == [(validation, data["detail"])]
    got, out, _ = run("doctor", *words, *NAMES)
    assert (got, out.partition(":")[0]) == (status, validation)


def test_the_doctor_asks_each_nameserver_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = type("Fake", (FakeNameservers,), {"made": [], "system": ["127.0.0.1:53", "127.0.0.2:53"]})
    in_place_of_the_adapter(fake, monkeypatch)
    status, out, _ = run("doctor", *NAMES, "--json")
    data = json.loads(out)
    assert (status, data["validation"], data["trusted"]) == (1, "not-validating", True)
    assert [(each["nameserver"], each["validation"]) for each in data["nameservers"]] == [
        ("127.0.0.1:53", "validating"),
        ("127.0.0.2:53", "not-validating"),
    ]
    assert {"nameservers": ["127.0.0.2:53"], "trust_ad": True} in fake.made
    _, out, _ = run("doctor", *NAMES)
    assert [line.split(": ")[:2] for line in out.splitlines()[1:3]] == [
        ["  127.0.0.1:53", "validating"],
        ["  127.0.0.2:53", "not-validating"],
    ]


def test_the_doctor_asks_for_the_names_given(run: Any, resolver: Any) -> None:
    asked: set[str] = set()

    def answers(question: Lookup) -> Answer | LookupFailure:
        asked.add(question.name)
        return LookupFailure(question, FailureKind.BOGUS) if "bogus" in question.name else validating(question)

    resolver.answers = staticmethod(answers)
    assert run("doctor", "--resolver", "127.0.0.1", *NAMES, "--bogus-name", "bogus.other.test")[0] == 0
    assert asked == {"signed.test", "plain.test", "bogus.test", "bogus.other.test"}
    asked.clear()
    run("doctor", "--resolver", "127.0.0.1")
    assert asked == {doctor.SIGNED_NAME, doctor.UNSIGNED_NAME, *doctor.BOGUS_NAMES}


@pytest.mark.parametrize(
    ("words", "made", "warned"),
    [
        ([], {"nameservers": None, "trust_ad": None}, True),
        (["--trust-ad"], {"nameservers": None, "trust_ad": True}, False),
        (["--resolver", "127.0.0.1"], {"nameservers": ["127.0.0.1"], "trust_ad": None}, False),
        (["--resolver", "192.0.2.53:5353"], {"nameservers": ["192.0.2.53:5353"], "trust_ad": None}, True),
    ],
)
def test_a_live_run_asks_the_resolver_given_and_warns_where_dane_is_lost(
    run: Any, resolver: Any, words: list[str], made: dict[str, Any], *, warned: bool
) -> None:
    resolver.answers = staticmethod(World.from_json(DATA).resolver.lookup)
    status, out, err = run("plan", "client.test", *words)
    assert (status, resolver.made) == (0, [made])
    assert ("warning" in err, "loopback" in err) == (warned, warned)
    assert "mx.client.test" in out


@pytest.fixture
def internet(resolver: type[FakeResolver], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a live run meets, a world without time and cache; its "https" and "servers" may be changed between runs."""
    world = {key: value for key, value in STS.items() if key not in {"now", "cache"}}
    resolver.answers = staticmethod(World.from_json(world).resolver.lookup)
    monkeypatch.setattr(https, "HttpsFetcher", lambda _: World.from_json(world).fetcher)
    monkeypatch.setattr(smtp, "SmtpConnector", lambda: World.from_json(world).connector)
    return world


LIVE = ("--trust-ad", "--json")


def test_a_live_run_keeps_policies_in_the_users_state_folder(run: Any, internet: dict[str, Any], state: Path) -> None:
    assert source(run("plan", "enforced.test", *LIVE)) == "fetched"
    folder = state / "mailtlspolicy"
    assert (folder.stat().st_mode & 0o777, (folder / "policies.sqlite").stat().st_mode & 0o777) == (0o700, 0o600)
    internet["https"] = {}
    assert source(run("plan", "enforced.test", *LIVE)) == "cached"
    status, out, _ = run("sts", "enforced.test", *LIVE)
    assert (status, json.loads(out)["cached"]["id"]) == (1, "1")
    assert run("refresh", "--trust-ad")[:2] == (
        0,
        "refreshed 0, failed 0, dropped 0, store failures 0\n",
    )  # none is due


def test_without_a_state_folder_of_its_own_it_lies_below_the_home(
    run: Any, internet: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("XDG_STATE_HOME")
        else:
            monkeypatch.setenv("XDG_STATE_HOME", value)
        assert source(run("plan", "enforced.test", *LIVE)) == ("fetched" if value is None else "cached")
    assert internet["https"]
    assert (tmp_path / "home" / ".local" / "state" / "mailtlspolicy" / "policies.sqlite").is_file()


def test_a_store_that_is_named_leaves_the_state_folder_alone(
    run: Any, internet: dict[str, Any], state: Path, tmp_path: Path
) -> None:
    store = ("--store", tmp_path / "policies")
    assert source(run("plan", "enforced.test", *LIVE, *store)) == "fetched"
    internet["https"] = {}
    assert source(run("plan", "enforced.test", *LIVE, *store)) == "cached"
    assert not state.exists()


def test_a_run_over_a_world_leaves_the_state_folder_alone(run: Any, sts_world: Path, state: Path) -> None:
    for words in (("plan", "enforced.test"), ("check", "enforced.test"), ("sts", "enforced.test"), ("refresh",)):
        run(*words, "--world", sts_world)
    assert not state.exists()


@pytest.mark.usefixtures("internet")
def test_a_state_folder_that_can_not_be_made_is_told_of(run: Any, state: Path) -> None:
    state.write_text("a file")
    status, out, err = run("plan", "enforced.test", "--trust-ad")
    assert (status, out, str(state) in err, err.startswith("mailtlspolicy: ")) == (2, "", True, True)


@pytest.mark.usefixtures("internet")
def test_without_mta_sts_no_state_folder_is_needed(run: Any, state: Path) -> None:
    status, _, _ = run("plan", "enforced.test", *LIVE, "--set", "sts=off")
    assert (status, state.exists()) == (0, False)
    state.write_text("a file")
    assert run("plan", "enforced.test", *LIVE, "--set", "sts=off")[0] == 0


@pytest.mark.usefixtures("internet")
def test_a_user_without_a_home_is_told_to_name_a_store(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    status, out, err = run("plan", "enforced.test", "--trust-ad")
    assert (status, out, "--store" in err) == (2, "", True)
    assert run("plan", "enforced.test", "--trust-ad", "--store", tmp_path / "policies")[0] == 0


@pytest.mark.usefixtures("internet")
def test_a_state_folder_that_is_not_absolute_is_ignored(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert source(run("plan", "enforced.test", *LIVE)) == "fetched"
    assert not (tmp_path / "relative").exists()
    assert (tmp_path / "home" / ".local" / "state" / "mailtlspolicy" / "policies.sqlite").is_file()


@pytest.mark.usefixtures("internet")
def test_a_live_check_trusts_what_the_system_trusts(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_text(CERTIFICATES["ta"].removeprefix("pem:"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    for file, status, shown in ((anchors, 0, "authenticated by pkix"), (tmp_path / "none", 1, "untrusted-issuer")):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        got, out, _ = run("check", "enforced.test", "--trust-ad")
        assert (got, shown in out) == (status, True)


def test_the_module_runs_as_a_program_over_the_built_in_world() -> None:
    command = [sys.executable, "-m", "mailtlspolicy", "plan", "signed.example", "--world", "tour", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["hosts"][0]["level"] == "dane"
    done = subprocess.run([*command[:3], "plan"], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (2, "")


# --- report

REPORT = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {"policy-type": "no-policy-found", "policy-domain": "company-y.example"},
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 0},
            "failure-details": [],
        }
    ],
}
PLAIN = json.dumps(REPORT).encode()
REPORT_MAIL = (
    b"TLS-Report-Domain: company-y.example\r\nTLS-Report-Submitter: company-x.example\r\n"
    b'Content-Type: multipart/report; report-type="tlsrpt"; boundary="b"\r\n\r\n'
    b"--b\r\n\r\nA report.\r\n--b\r\nContent-Type: application/tlsrpt+json\r\n\r\n" + PLAIN + b"\r\n--b--\r\n"
)
REPORT_NAME = "company-x.example!company-y.example!1459468800!1459555199.json"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder with reports, and with what is none."""
    for name, octets in {
        "plain": PLAIN,
        "zipped.json": gzip.compress(PLAIN),
        "mail.gz": REPORT_MAIL,
        "none": b"hello",
        "letter": b"Subject: hello\n\nhello",
        REPORT_NAME: PLAIN,
        f"{REPORT_NAME}.gz": PLAIN,
        REPORT_NAME.replace("!1459468800", "!1459468801"): PLAIN,
    }.items():
        (tmp_path / name).write_bytes(octets)
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "zipped.json", "mail.gz"])
def test_a_report_is_read_whatever_it_comes_in(run: Any, inbox: Path, name: str) -> None:
    status, out, err = run("report", inbox / name)
    assert (status, err) == (0, "")
    assert out.startswith("TLS report from Company-X")
    assert "sessions: 5326 successful, 0 failed" in out
    assert "remark" not in out
    status, out, err = run("report", inbox / name, "--json")
    answer = read_report_mail(REPORT_MAIL) if name == "mail.gz" else read_report(PLAIN)
    assert (status, err) == (0, "")
    assert json.loads(out) == {"version": 1, "reports": [{"file": str(inbox / name)} | answer.to_json()]}
    assert json.loads(out)["reports"][0]["report"] == REPORT


@pytest.mark.parametrize(
    ("name", "remarks"),
    [
        (REPORT_NAME, []),
        (f"{REPORT_NAME}.gz", ["extension-differs"]),
        (REPORT_NAME.replace("!1459468800", "!1459468801"), ["times-differ"]),
    ],
)
def test_the_name_of_a_report_is_compared_with_it(run: Any, inbox: Path, name: str, remarks: list[str]) -> None:
    status, out, _ = run("report", inbox / name, "--json")
    assert (status, json.loads(out)["reports"][0]["remarks"]) == (0, remarks)
    status, out, _ = run("report", inbox / name)
    assert (status, out.splitlines()[0]) == (0, "TLS report from Company-X to company-y.example")
    assert [line for line in out.splitlines() if "remark" in line] == [f"remark: {remark}" for remark in remarks]


def test_a_report_that_can_not_be_read_does_not_hide_the_others(run: Any, inbox: Path) -> None:
    names = [inbox / name for name in ("none", "plain", "letter", "mail.gz")]
    status, out, err = run("report", *names)
    assert (status, err) == (1, "")
    blocks = out.split("\n\n\n")
    assert [block.split("\n")[0] for block in blocks] == list(map(str, names))
    words = [block.split("\n")[2].strip() for block in blocks]
    assert (words[0], words[2]) == ("unreadable: not-json", "unreadable: no-report")
    assert (words[1], words[3]) == ("TLS report from Company-X to company-y.example",) * 2
    status, out, err = run("report", *names, "--json")
    assert (status, err) == (1, "")
    answers = json.loads(out)["reports"]
    assert [answer.get("unreadable") for answer in answers] == ["not-json", None, "no-report", None]
    assert [answer["file"] for answer in answers] == list(map(str, names))


@pytest.mark.parametrize("order", [("gone", "none", "plain"), ("plain", "none", "gone")])
def test_a_file_that_can_not_be_opened_is_misuse_and_does_not_hide_the_others(
    run: Any, inbox: Path, order: tuple[str, ...]
) -> None:
    status, out, err = run("report", *(inbox / name for name in order))
    assert (status, "TLS report from Company-X" in out, "unreadable: not-json" in out) == (2, True, True)
    assert err.startswith("mailtlspolicy: ")
    assert str(inbox / "gone") in err
    assert run("report", inbox)[0] == 2  # a folder
    assert run("report", inbox / "gone")[:2] == (2, "")
    status, out, _ = run("report", inbox / "gone", "--json")
    assert (status, json.loads(out)) == (2, {"version": 1, "reports": []})
    assert run("report")[0] == 2


@pytest.mark.parametrize("octets", [PLAIN, gzip.compress(PLAIN), REPORT_MAIL])
def test_a_report_comes_by_standard_input(run: Any, monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    for words in (("report", "-"), ("report", "-", "--json")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))
        status, out, err = run(*words)
        assert (status, "Company-X" in out, err) == (0, True, "")


def test_no_more_is_read_of_a_file_than_can_be_a_report(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(2**40)  # octets, none of them on disk
    status, out, _ = run("report", path)
    assert (status, out) == (1, "unreadable: too-large\n")
    path.write_bytes(REPORT_MAIL + b" " * (MAX_MAIL - len(REPORT_MAIL)))
    assert run("report", path)[0] == 0


def test_a_hostile_report_can_not_play_with_the_terminal(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2J\u202e.json"
    path.write_text(json.dumps(REPORT | {"organization-name": HOSTILE, "report-id": HOSTILE}))
    status, out, _ = run("report", path, path)
    assert status == 0
    assert all(line.isprintable() for line in out.split("\n"))
    assert "\\x1b[2J\\u202e.json" in out
    status, out, _ = run("report", path, "--json")
    assert (status, out.isascii(), json.loads(out)["reports"][0]["report"]["report-id"]) == (0, True, HOSTILE)


def test_an_interrupt_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    pipe = tmp_path / "world.json"
    os.mkfifo(pipe)
    script = (  # a test runner in the background has it ignored, and that is inherited
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from mailtlspolicy.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "plan", "client.test", "--world", str(pipe)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        pipe.open("wb"),  # which waits until the command reads
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err) == (cli.INTERRUPTED, b"", b"")


def test_a_refresh_that_is_interrupted_ends_its_line(monkeypatch: pytest.MonkeyPatch, world: Path, run: Any) -> None:
    def refresh(self: object, progress: Callable[[RefreshReport], None]) -> RefreshReport:
        progress(RefreshReport(refreshed=("a.test",)))
        raise KeyboardInterrupt

    monkeypatch.setattr(WorldEngine, "refresh", refresh)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run("refresh", "--world", world) == (cli.INTERRUPTED, "", "\rrefreshed 1, failed 0, dropped 0\n")
