"""The command line: arguments in, the library's answer out; no decision is made here."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import warnings
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve
from cryptography.utils import CryptographyDeprecationWarning

from mailtlspolicy import dane
from mailtlspolicy._json import VERSION
from mailtlspolicy._times import from_iso
from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.sqlite import SqliteStore
from mailtlspolicy.adapters.tls import system_trust_store
from mailtlspolicy.cli.rendering import (
    check_text,
    examination_text,
    outcome_text,
    plan_text,
    received_text,
    refresh_text,
    report_text,
    verdict_text,
)
from mailtlspolicy.config import Config, Sts
from mailtlspolicy.delivery import Disposition
from mailtlspolicy.dns import doctor
from mailtlspolicy.drivers import drive
from mailtlspolicy.engine import Engine, keep_order
from mailtlspolicy.sts.effects import StoreFailure
from mailtlspolicy.testing import vectors
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.tlsrpt import Aggregates, Report
from mailtlspolicy.tlsrpt.reading import MAX_MAIL, Received, Unreadable, read_report_file
from mailtlspolicy.world.recording import Recorder
from mailtlspolicy.world.world import SENDER, World, WorldEngine
from mailtlspolicy.x509.pem import certificates_from_pem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.delivery import Outcome
    from mailtlspolicy.sts.refresh import RefreshReport

OK, NO, MISUSE = 0, 1, 2  # exit statuses: a deliverable plan, delivery or passing check; no; misuse
INTERRUPTED = 130  # as shells tell of a program that SIGINT ended: 128 and the signal's number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a peer says need not fit the encoding of the terminal
            stream.reconfigure(errors="backslashreplace")
    try:
        with contextlib.ExitStack() as closing, warnings.catch_warnings():
            arguments.closing = closing
            # about what is odd in a peer's certificates: the verdict says what it means
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            status: int = arguments.run(arguments)
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
        return NO
    except KeyboardInterrupt:  # whoever pressed the key knows
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"mailtlspolicy: {error}", file=sys.stderr)
        return MISUSE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mailtlspolicy", description="What SMTP TLS policy demands, and why.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for name, run, summary in (
        ("plan", _plan, "decide where mail for a next-hop may go, and under which conditions"),
        ("check", _check, "plan, connect to every server and verify what it presents; sends no mail"),
    ):
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        command.set_defaults(run=run)
        command.add_argument("next_hop", metavar="DOMAIN", help="a domain, [relay], [relay]:port or [address]")
        _add_world(command)
        _add_engine(command)
        _add_wishes(command)
        command.add_argument("--explain", action="store_true", help="print every step with its clause")
        command.add_argument("--record", metavar="FILE", type=Path, help="write what was seen as a world that replays")
        _add_json(command)

    simulate = commands.add_parser("simulate", help="walk one try to deliver a message against the servers of a world")
    simulate.set_defaults(run=_simulate, resolver=None)
    simulate.add_argument("next_hop", metavar="DOMAIN", help="a domain, [relay], [relay]:port or [address]")
    simulate.add_argument("--world", metavar="FILE", required=True, help='a static world; "tour" is built in')
    simulate.add_argument("--sender", metavar="MAILBOX", default=SENDER, help="reverse-path; empty for a notification")
    simulate.add_argument("--recipient", metavar="MAILBOX", action="append", default=[], help="repeats")
    _add_engine(simulate)
    _add_wishes(simulate)
    shown = simulate.add_mutually_exclusive_group()
    shown.add_argument("--explain", action="store_true", help="print every step and the dialogue with each server")
    shown.add_argument("--report", action="store_true", help="print the TLS report that this would make (RFC 8460)")
    _add_json(simulate)

    sts = commands.add_parser("sts", help="show what a domain publishes for MTA-STS, and what is cached of it")
    sts.set_defaults(run=_sts)
    sts.add_argument("domain", metavar="DOMAIN", help="the policy domain")
    _add_world(sts)
    _add_engine(sts)
    _add_json(sts)

    renew = commands.add_parser("refresh", help="refresh the cached MTA-STS policies that are due")
    renew.set_defaults(run=_refresh)
    _add_world(renew)
    _add_engine(renew)
    _add_json(renew)

    match = commands.add_parser("match", help="match a certificate chain with TLSA records")
    match.set_defaults(run=_match)
    match.add_argument("--tlsa", metavar="RECORD", action="append", required=True, help='"3 1 1 ab12..."; repeats')
    match.add_argument("--chain", metavar="FILE", type=Path, required=True, help="PEM certificates, leaf first")
    match.add_argument("--name", metavar="NAME", action="append", required=True, help="reference identifier; repeats")
    match.add_argument("--at", metavar="TIME", type=_time, help="ISO 8601, UTC without an offset; now by default")
    _add_json(match)

    _add_report(commands)
    run_vectors = commands.add_parser("vectors", help="run test vectors")
    run_vectors.set_defaults(run=_vectors)
    run_vectors.add_argument(
        "paths", metavar="PATH", nargs="*", type=Path, help="files and folders; vectors/ by default"
    )
    _add_json(run_vectors)

    _add_doctor(commands)
    return parser


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="show TLS reports (RFC 8460) that were received")
    report.set_defaults(run=_report)
    report.add_argument("paths", metavar="FILE", nargs="+", help='JSON, gzip, or a whole mail; "-" is standard input')
    _add_json(report)


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    examine = commands.add_parser("doctor", help="tell whether a resolver validates and may be believed")
    examine.set_defaults(run=_doctor)
    _add_resolver(examine)
    examine.add_argument("--signed-name", metavar="NAME", default=doctor.SIGNED_NAME, help="in a signed zone")
    examine.add_argument("--unsigned-name", metavar="NAME", default=doctor.UNSIGNED_NAME, help="in an unsigned zone")
    examine.add_argument(
        "--bogus-name", metavar="NAME", action="append", dest="bogus_names", help="in a bogus zone; may be repeated"
    )
    _add_json(examine)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the answer as JSON")


def _add_world(command: argparse.ArgumentParser) -> None:
    command.add_argument("--world", metavar="FILE", help='a static world in place of the DNS; "tour" is built in')
    _add_resolver(command)


def _add_engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings")
    command.add_argument(
        "--store", metavar="PATH", type=Path, help="keep MTA-STS policies in this file, not in the user's state folder"
    )


def _add_wishes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--requiretls", action="store_true", help="the message requires TLS (RFC 8689)")
    command.add_argument("--tls-optional", action="store_true", help='the message bears "TLS-Required: No" (RFC 8689)')


def _add_resolver(command: argparse.ArgumentParser) -> None:
    command.add_argument("--resolver", metavar="ADDR[:PORT]", help="ask this resolver, not the system's")
    command.add_argument("--trust-ad", action="store_true", help="believe a resolver that is not on loopback")


def _time(text: str) -> datetime:
    time = from_iso(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)


def _config(settings: Sequence[str]) -> Config:
    pairs = [setting.partition("=") for setting in settings]
    if missing := [key for key, equals, _ in pairs if not equals]:
        raise ValueError(f"--set takes KEY=VALUE, not {missing[0]!r}")
    config = Config.from_settings({key: value for key, _, value in pairs})
    for warning in config.warnings:
        _warn(warning)
    return config


def _warn(text: str) -> None:
    print(f"mailtlspolicy: warning: {text}", file=sys.stderr)


def _resolver(arguments: argparse.Namespace, *, trust_ad: bool | None) -> DnsResolver:
    if arguments.resolver is None:
        return DnsResolver.from_system(trust_ad=trust_ad)
    return DnsResolver(nameservers=[arguments.resolver], trust_ad=trust_ad)


def _engine(arguments: argparse.Namespace, *, connects: bool = False) -> Engine:
    config = _config(arguments.settings)
    if arguments.world is not None:
        return _world_engine(arguments, config)
    resolver = _resolver(arguments, trust_ad=arguments.trust_ad or None)
    if not resolver.trusted:
        _warn("the resolver is not on loopback: no answer counts as secure, and DANE never applies (see --trust-ad)")
    return Engine(
        resolver,
        fetcher=HttpsFetcher(resolver),
        store=None if config.sts is Sts.OFF else _store(arguments, arguments.store or _state_file()),
        connector=SmtpConnector() if connects else None,  # which asks the system for its name
        trust=system_trust_store() if connects else None,
        shuffle=keep_order,
        config=config,
    )


def _world_engine(arguments: argparse.Namespace, config: Config) -> WorldEngine:
    if arguments.resolver is not None:
        raise ValueError("--world and --resolver exclude each other")
    world = World.tour() if arguments.world == "tour" else World.load(arguments.world)
    engine = world.engine(config)
    if arguments.store is None:
        return engine
    store = _store(arguments, arguments.store)
    for domain, entry in world.cache.items():
        if store.load(domain) is None:
            store.store(domain, entry)
    return evolve(engine, store=store)


def _store(arguments: argparse.Namespace, path: Path) -> SqliteStore:
    """The policy store in a file, which has to be usable: a wrong path is misuse, not a decision."""
    store = SqliteStore(path)
    arguments.closing.callback(store.close)
    if isinstance(bad := store.load("example"), StoreFailure):
        raise ValueError(f"the policy store {path} can not be used: {bad.detail}")
    return store


def _state_file() -> Path:
    """Where policies are kept by default: in the user's state folder (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # which the specification wants ignored
        try:
            base = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise ValueError("there is no home folder to keep policies in: give --store PATH") from error
    folder = base / "mailtlspolicy"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "policies.sqlite"


def _recorded(arguments: argparse.Namespace, *, connects: bool) -> tuple[Engine, Recorder]:
    """The engine, its injected parts wrapped to be written down, at one time for the whole run."""
    engine = _engine(arguments, connects=connects)
    recorder = Recorder(engine.resolver, engine.fetcher, engine.store, engine.connector, engine.trust)
    now = engine.clock()
    recorded = evolve(
        engine,
        resolver=recorder,
        fetcher=recorder,
        store=recorder,
        connector=None if engine.connector is None else recorder,
        clock=lambda: now,
    )
    return recorded, recorder


def _write_record(arguments: argparse.Namespace, engine: Engine, recorder: Recorder) -> None:
    if arguments.record is None:
        return
    try:
        world = recorder.to_world(engine.clock())
    except ValueError as error:  # of the resolver's or the store's making: the plan stands
        _warn(f"nothing was recorded: {error}")
        return
    arguments.record.write_text(json.dumps(world, indent=1) + "\n", "utf-8")


def _print(arguments: argparse.Namespace, data: dict[str, Any] | None, text: str) -> None:
    print(json.dumps(data, indent=1) if arguments.json else text)


def _plan(arguments: argparse.Namespace) -> int:
    engine, recorder = _recorded(arguments, connects=False)
    plan = engine.plan(arguments.next_hop, requiretls=arguments.requiretls, tls_optional=arguments.tls_optional)
    _write_record(arguments, engine, recorder)
    _print(arguments, plan.to_json(), plan_text(plan, explain=arguments.explain))
    return OK if plan.undeliverable is None else NO


def _check(arguments: argparse.Namespace) -> int:
    engine, recorder = _recorded(arguments, connects=True)
    check = engine.check(arguments.next_hop, requiretls=arguments.requiretls, tls_optional=arguments.tls_optional)
    _write_record(arguments, engine, recorder)
    _print(arguments, check.to_json(), check_text(check, explain=arguments.explain))
    return OK if check.passed else NO


def _simulate(arguments: argparse.Namespace) -> int:
    engine = _world_engine(arguments, _config(arguments.settings))
    outcome = engine.simulate(
        arguments.next_hop,
        requiretls=arguments.requiretls,
        tls_optional=arguments.tls_optional,
        sender=arguments.sender,
        recipients=arguments.recipient,
    )
    if arguments.report:
        _print_report(arguments, engine, outcome)
    else:
        _print(arguments, outcome.to_json(), outcome_text(outcome, explain=arguments.explain))
    return OK if outcome.outcome is Disposition.DELIVERED else NO


def _print_report(arguments: argparse.Namespace, engine: WorldEngine, outcome: Outcome) -> None:
    """Print what one outcome adds to a report; as JSON the very document, or null."""
    counted = Aggregates()
    counted.add(outcome)
    if not len(counted):
        _print(arguments, None, "there is nothing to report")
        return
    (aggregate,) = counted
    report = Report.of(aggregate, organization_name="Simulated sender", contact_info=SENDER)
    wanted = engine.find_tlsrpt(aggregate.domain).detail
    _print(arguments, report.to_json(), f"{report_text(Received(report, ()))}\n\n{wanted}")


def _sts(arguments: argparse.Namespace) -> int:
    found = _engine(arguments).examine_sts(arguments.domain)
    _print(arguments, found.to_json(), examination_text(found))
    return OK if found.passed else NO


def _refresh(arguments: argparse.Namespace) -> int:
    done = Counter[str]()

    def progress(report: RefreshReport) -> None:
        done.update(refreshed=len(report.refreshed), failed=len(report.failed), dropped=len(report.dropped))
        line = ", ".join(f"{name} {count}" for name, count in done.items())
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    watched = sys.stderr.isatty()
    try:
        report = _engine(arguments).refresh(progress=progress if watched else None)
    finally:
        if done:
            print(file=sys.stderr)
    _print(arguments, report.to_json(), refresh_text(report))
    return NO if report.failed or report.store_failures else OK


def _match(arguments: argparse.Namespace) -> int:
    records = TlsaRRset(map(Tlsa.parse, arguments.tlsa))
    chain = certificates_from_pem(arguments.chain.read_text("ascii", errors="replace"))
    now = arguments.at or datetime.now(timezone.utc)
    verdict = dane.verify(chain, records, arguments.name, now=now)
    _print(arguments, verdict.to_json(), verdict_text(verdict))
    return OK if verdict.satisfied else NO


def _report(arguments: argparse.Namespace) -> int:
    status, answers = OK, []
    for path in arguments.paths:
        try:
            read = read_report_file(_octets(path))
        except OSError as error:  # the other files are shown all the same
            print(f"mailtlspolicy: {error}", file=sys.stderr)
            status = MISUSE
            continue
        if isinstance(read, Unreadable):
            status = max(status, NO)
        answers.append((path, read.named(Path(path).name) if isinstance(read, Received) else read))
    data = {"version": VERSION, "reports": [{"file": path} | read.to_json() for path, read in answers]}
    if answers or arguments.json:
        _print(arguments, data, received_text(answers, named=len(arguments.paths) > 1))
    return status


def _octets(path: str) -> bytes:
    """What is in a file, or comes by standard input; one octet more than can be read is enough."""
    if path == "-":
        return sys.stdin.buffer.read(MAX_MAIL + 1)
    with Path(path).open("rb") as file:
        return file.read(MAX_MAIL + 1)


def _vectors(arguments: argparse.Namespace) -> int:
    corpus = list(vectors.load(arguments.paths or [Path("vectors")]))
    if not corpus:
        raise ValueError("there are no vectors")
    failures = {vector.id: wrong for vector in corpus if (wrong := vectors.run(vector)) is not None}
    data = {"version": VERSION, "passed": len(corpus) - len(failures), "failed": failures}
    lines = [f"{name}: {wrong}" for name, wrong in failures.items()]
    _print(arguments, data, "\n".join([*lines, f"{data['passed']} passed, {len(failures)} failed"]))
    return NO if failures else OK


def _doctor(arguments: argparse.Namespace) -> int:
    resolver = _resolver(arguments, trust_ad=arguments.trust_ad or None)
    found: dict[str, doctor.Diagnosis] = {}
    for nameserver in map(str, resolver.nameservers):
        # trust_ad: to see the bit, whether or not it is to be believed
        alone = DnsResolver(nameservers=[nameserver], timeout=resolver.timeout, trust_ad=True)
        program = doctor.examine(
            arguments.signed_name, arguments.bogus_names or doctor.BOGUS_NAMES, arguments.unsigned_name
        )
        found[nameserver] = drive(program, alone.lookup)
    diagnosis = doctor.put_together(found)
    trusted = resolver.trusted
    lines = [f"{diagnosis.validation}: {diagnosis.detail}"]
    if len(diagnosis.nameservers) > 1:
        lines += (f"  {each.nameserver}: {each.validation}: {each.detail}" for each in diagnosis.nameservers)
    belief = "is believed: loopback, or --trust-ad" if trusted else "is not believed: not on loopback, no --trust-ad"
    text = "\n".join([*lines, f"its word {belief}"])
    _print(arguments, diagnosis.to_json() | {"trusted": trusted}, text)
    return OK if trusted and diagnosis.validation is doctor.Validation.VALIDATING else NO
