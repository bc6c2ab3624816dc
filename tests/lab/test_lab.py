"""Every scenario is asked of our command line, live through DNS and SMTP, and of posttls-finger."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

import mailtlspolicy
from mailtlspolicy import AsyncEngine, Config
from mailtlspolicy.adapters.dns import AsyncDnsResolver
from mailtlspolicy.adapters.https_async import AsyncHttpsFetcher
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.adapters.tls import system_trust_store
from mailtlspolicy.cli import main
from tests.lab import finger
from tests.lab.lab import NAME_SERVER, OBLIVIOUS_RESOLVER, RESOLVER, TACITURN_RESOLVER
from tests.lab.plans import HERE, alike, plan_all, plan_all_at_once, without_time
from tests.lab.scenarios import DISAGREEMENTS, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.lab import Lab, World
    from tests.lab.scenarios import Host, Scenario

    Capture = pytest.CaptureFixture[str]
    Json = dict[str, Any]

CLAUSES = Path(__file__).parents[2] / "vectors" / "clauses.tsv"
LIVE = ("--resolver", RESOLVER)

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def run(capsys: Capture, *arguments: str) -> tuple[int, Json]:
    """Run our command line; return its status and what it printed as JSON."""
    status = main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def question(world: World) -> list[str]:
    """The next-hop and the settings of a scenario, as arguments."""
    return [world.next_hop, *(word for setting in (HERE, *world.scenario.settings) for word in ("--set", setting))]


def expected_host(world: World, host: Host) -> Json:
    """What plan and check are to say of a host."""
    verdict = None
    if host.result in {"ok", "not-authenticated"}:
        name = world.absolute(host.name) if host.name else None
        verdict = {"mechanism": host.mechanism, "depth": host.depth, "name": name, "failure": host.failure}
    return {
        "host": world.absolute(host.host),
        "level": host.level,
        "skip": host.skip,
        "base": world.absolute(host.base) if host.base else None,
        "result": host.result,
        "security": host.security,
        "verdict": verdict,
    }


def seen_host(planned: Json, checked: Json) -> Json:
    """What they said: the same, taken from the JSON forms."""
    verdict = checked["verdict"]
    return {
        "host": checked["host"],
        "level": planned["level"],
        "skip": planned["skip"] and planned["skip"]["reason"],
        "base": planned["tlsa_base_domain"],
        "result": checked["result"],
        "security": checked["security"],
        "verdict": verdict and {key: verdict[key] for key in ("mechanism", "depth", "name", "failure")},
    }


def our_answer(check: Json, index: int) -> str:
    """Our verdict on a host, or on a plan that has none, in the words in which `finger` puts that of its peer."""
    if not check["hosts"]:
        reason = check["plan"]["undeliverable"]["reason"]
        return "lookup-failed" if reason in {"mx-lookup-failed", "no-such-domain"} else str(reason)
    result = check["hosts"][index]["result"]
    if result == "ok":
        return str(check["hosts"][index]["security"])
    if result != "skipped":
        return str(result)
    reason = check["plan"]["hosts"][index]["skip"]["reason"]
    return "lookup-failed" if reason in {"address-lookup-failed", "no-addresses"} else str(reason)


def without_detail(check: Json) -> Json:
    """A check but for the words of servers and of the network, which differ from run to run."""
    hosts = [{key: value for key, value in host.items() if key != "detail"} for host in check["hosts"]]
    return check | {"hosts": hosts}


def test_every_scenario_cites_clauses_of_the_table() -> None:
    with CLAUSES.open(encoding="utf-8", newline="") as file:
        known = {row["id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    cited = {clause for scenario in SCENARIOS for clause in scenario.clauses}
    assert cited | {clause for clause, _ in DISAGREEMENTS.values()} <= known
    assert all(scenario.clauses for scenario in SCENARIOS)


def test_every_disagreement_is_about_a_clause_of_its_scenario() -> None:
    clauses = {scenario.name: scenario.clauses for scenario in SCENARIOS}
    assert len(clauses) == len(SCENARIOS)
    assert all(clause in clauses[name] for name, (clause, _) in DISAGREEMENTS.items())


@pytest.mark.parametrize(
    ("zone", "rcode", "secure"),
    [
        ("signed", "NOERROR", True),
        ("plain", "NOERROR", False),
        ("bogus", "SERVFAIL", False),
        ("expired", "SERVFAIL", False),
    ],
)
@pytest.mark.usefixtures("lab")
def test_the_lab_has_zones_of_every_security_status(zone: str, rcode: str, *, secure: bool) -> None:
    query = dns.message.make_query(f"{zone}.test", "NS", flags=dns.flags.RD | dns.flags.AD)
    answer = dns.query.udp(query, RESOLVER, timeout=5)
    assert (dns.rcode.to_text(answer.rcode()), bool(answer.flags & dns.flags.AD)) == (rcode, secure)


@every_scenario
def test_check_decides_as_the_clauses_say(lab: Lab, scenario: Scenario, capsys: Capture) -> None:
    world = lab.worlds[scenario.name]
    status, check = run(capsys, "check", *question(world), *LIVE)
    plan = check["plan"]
    seen = [seen_host(planned, checked) for planned, checked in zip(plan["hosts"], check["hosts"], strict=True)]
    assert seen == [expected_host(world, host) for host in scenario.hosts]
    assert (plan["undeliverable"] and plan["undeliverable"]["reason"]) == scenario.undeliverable
    passes = bool(scenario.hosts) and all(host.security for host in scenario.hosts)
    assert status == (0 if passes else 1)


@every_scenario
def test_plan_says_what_check_acts_on(lab: Lab, scenario: Scenario, capsys: Capture) -> None:
    world = lab.worlds[scenario.name]
    status, plan = run(capsys, "plan", *question(world), *LIVE)
    _, check = run(capsys, "check", *question(world), *LIVE)
    assert without_time(plan) == without_time(check["plan"])
    assert status == (0 if scenario.undeliverable is None else 1)


@every_scenario
def test_posttls_finger_agrees_or_the_disagreement_is_documented(lab: Lab, scenario: Scenario, capsys: Capture) -> None:
    world = lab.worlds[scenario.name]
    lab.journal.clear()
    peer = finger.ask(world.next_hop, scenario.peer_options, lab.environment)
    peer_handshakes = set(lab.journal.handshakes)
    assert peer.word == scenario.finger, peer.output

    lab.journal.clear()
    _, check = run(capsys, "check", *question(world), *LIVE)
    index = next((index for index, host in enumerate(check["hosts"]) if host["host"] == peer.host), 0)
    agree = peer.answer == our_answer(check, index)
    assert agree is (scenario.name not in DISAGREEMENTS), peer.output
    if not agree or peer.host is None:
        return
    if check["plan"]["hosts"][index]["level"] == "dane":  # RFC 7672 section 8.1: the same base domain in SNI
        assert peer_handshakes <= set(lab.journal.handshakes)
    verdict = check["hosts"][index]["verdict"]
    if peer.match is None:
        assert verdict["record"] is None
        return
    parameters, _, data = verdict["record"].rpartition(" ")
    seen = (verdict["mechanism"], verdict["depth"], parameters)
    assert seen == (peer.match.mechanism, peer.match.depth, peer.match.parameters), peer.output
    assert peer.match.data.fullmatch(data), peer.output
    assert peer.match.names(verdict["name"]), peer.output


@every_scenario
def test_only_servers_of_usable_hosts_are_connected_to(lab: Lab, scenario: Scenario, capsys: Capture) -> None:
    lab.journal.clear()
    world = lab.worlds[scenario.name]
    run(capsys, "plan", *question(world), *LIVE)
    assert lab.journal.connections == []
    _, check = run(capsys, "check", *question(world), *LIVE)
    usable = {address for host in check["plan"]["hosts"] if host["skip"] is None for address in host["addresses"]}
    down = {placed.address for placed in world.servers.values() if placed.server.starttls == "down"}
    assert sorted(lab.journal.connections) == sorted(usable - down)


@every_scenario
def test_a_recorded_run_replays_to_the_same_answer(
    lab: Lab, scenario: Scenario, capsys: Capture, tmp_path: Path
) -> None:
    arguments = question(lab.worlds[scenario.name])
    record = str(tmp_path / "plan.json")
    assert run(capsys, "plan", *arguments, *LIVE, "--record", record) == run(
        capsys, "plan", *arguments, "--world", record
    )
    record = str(tmp_path / "check.json")
    status, check = run(capsys, "check", *arguments, *LIVE, "--record", record)
    replayed_status, replayed = run(capsys, "check", *arguments, "--world", record)
    assert (replayed_status, without_detail(replayed)) == (status, without_detail(check))


@pytest.mark.parametrize("name", ["unsigned", "unsigned-host", "alias-of-unsigned"])
def test_no_tlsa_question_is_asked_of_hosts_with_insecure_addresses(lab: Lab, name: str, capsys: Capture) -> None:
    world = lab.worlds[name]
    run(capsys, "plan", *question(world), *LIVE)
    asked = {line for line in lab.questions() if name in line.split(".")}
    assert f"{world.next_hop} MX" in asked
    assert not {line for line in asked if line.endswith(" TLSA")}


def test_the_asynchronous_engine_gives_the_same_answers(lab: Lab, capsys: Capture) -> None:
    async def check_all() -> list[Json]:
        checks = []
        for world in lab.worlds.values():
            config = Config.from_settings(dict(setting.split("=") for setting in (HERE, *world.scenario.settings)))
            resolver = AsyncDnsResolver(nameservers=[RESOLVER])
            engine = AsyncEngine(
                resolver,
                fetcher=AsyncHttpsFetcher(resolver),
                connector=AsyncSmtpConnector(),
                trust=system_trust_store(),
                shuffle=lambda _: None,
                config=config,
            )
            checks.append(engine.check(world.next_hop))
        return [check.to_json() for check in await asyncio.gather(*checks)]

    for world, check in zip(lab.worlds.values(), asyncio.run(check_all()), strict=True):
        _, expected = run(capsys, "check", *question(world), *LIVE)
        assert without_time(check["plan"]) == without_time(expected["plan"])
        assert without_detail(check)["hosts"] == without_detail(expected)["hosts"]


@pytest.mark.parametrize(
    ("hops", "limit", "level"),
    [(10, 10, "dane"), (11, 10, None), (11, 11, "dane")],  # twelve are too many for Unbound, unless it knows the parts
)
@pytest.mark.usefixtures("lab")
def test_aliases_are_followed_up_to_the_limit(hops: int, limit: int, level: str | None, capsys: Capture) -> None:
    next_hop = f"[a{12 - hops}.alias-chain-12.signed.test]"
    _, plan = run(capsys, "plan", next_hop, "--set", f"max_alias_hops={limit}", "--set", "sts=off", *LIVE)
    (host,) = plan["hosts"]
    assert (host["level"], host["skip"] and host["skip"]["reason"]) == (
        level,
        None if level else "address-lookup-failed",
    )


@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_a_careless_second_nameserver_changes_no_plan(lab: Lab, plan: Callable[..., dict[str, Json]]) -> None:
    """Neither has extended errors, and the second gives what the first refuses."""
    expected = alike(plan_all(lab, RESOLVER))
    assert alike(plan(lab, TACITURN_RESOLVER, OBLIVIOUS_RESOLVER)) == expected
    careless = plan_all(lab, OBLIVIOUS_RESOLVER)
    assert careless["bogus-address"]["hosts"][0]["level"] == "may"


def test_the_program_answers_as_its_main_function_does(lab: Lab, capsys: Capture) -> None:
    arguments = ["check", *question(lab.worlds["ta-intermediate"]), *LIVE]
    package = str(Path(mailtlspolicy.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "mailtlspolicy", *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    _, check = run(capsys, *arguments)
    assert json.loads(done.stdout)["hosts"] == check["hosts"]


@pytest.mark.parametrize(
    ("resolver", "validation", "status"),
    [(RESOLVER, "validating", 0), (OBLIVIOUS_RESOLVER, "not-validating", 1), (NAME_SERVER, "not-validating", 1)],
)
def test_doctor_tells_resolvers_apart(lab: Lab, resolver: str, validation: str, status: int, capsys: Capture) -> None:
    names = ("--signed-name", "mx.ee.signed.test", "--bogus-name", "host.alias-to-bogus.bogus.test")
    unsigned = ("--unsigned-name", "mx.unsigned-host.plain.test")
    seen, diagnosis = run(capsys, "doctor", "--resolver", resolver, *names, *unsigned)
    assert (diagnosis["validation"], seen) == (validation, status)


@pytest.mark.parametrize("resolver", [OBLIVIOUS_RESOLVER, NAME_SERVER])
def test_without_a_validating_resolver_dane_never_applies(lab: Lab, resolver: str, capsys: Capture) -> None:
    _, plan = run(capsys, "plan", *question(lab.worlds["ee"]), "--resolver", resolver)
    assert (plan["mx_secure"], [host["level"] for host in plan["hosts"]]) == (False, ["may"])
