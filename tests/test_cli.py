"""The command line: exit statuses, and that what it prints is what the library decided."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy import World, cli
from mailtlspolicy.effects import Answer, FailureKind, Lookup, LookupFailure

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


# --- a live resolver, in its place one that is told what to say


class FakeResolver:
    """Stands in for the DNS adapter; `answers` says what it hears."""

    answers: Callable[[Lookup], Answer | LookupFailure]
    made: list[dict[str, Any]]

    def __init__(self, nameservers: Any = None, *, trust_ad: bool | None = None) -> None:
        self.trusted = trust_ad is True or nameservers == ["127.0.0.1"]
        type(self).made.append({"nameservers": nameservers, "trust_ad": trust_ad})

    @classmethod
    def from_system(cls, *, trust_ad: bool | None = None) -> FakeResolver:
        return cls(trust_ad=trust_ad)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        return type(self).answers(question)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> type[FakeResolver]:
    fake = type("Fake", (FakeResolver,), {"made": []})
    monkeypatch.setattr(cli, "DnsResolver", fake)
    return fake


def validating(question: Lookup) -> Answer | LookupFailure:
    if question.name == "bogus.test":
        return LookupFailure(question, FailureKind.BOGUS)
    return Answer(question, secure=True)


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
    names = ["--signed-name", "signed.test", "--bogus-name", "bogus.test"]
    got, out, _ = run("doctor", *words, *names, "--json")
    data = json.loads(out)
    assert (got, data["validation"], data["trusted"]) == (status, validation, trusted)
    got, out, _ = run("doctor", *words, *names)
    assert (got, out.partition(":")[0]) == (status, validation)


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


def test_the_module_runs_as_a_program_over_the_built_in_world() -> None:
    command = [sys.executable, "-m", "mailtlspolicy", "plan", "signed.example", "--world", "tour", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["hosts"][0]["level"] == "dane"
    done = subprocess.run([*command[:3], "plan"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
