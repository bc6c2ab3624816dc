"""What may be written on the command line; the name of a command is that of its module."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mailtlspolicy._times import from_iso
from mailtlspolicy.dns.doctor import SIGNED_NAME, UNSIGNED_NAME
from mailtlspolicy.world.world import SENDER

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands: TypeAlias = _SubParsersAction[ArgumentParser]


def parser() -> ArgumentParser:
    """The parser of all commands; what it parses says in `command` which one is to run."""
    whole = ArgumentParser(prog="mailtlspolicy", description="What SMTP TLS policy demands, and why.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for add in (_plan, _check, _simulate, _sts, _refresh, _match, _report, _vectors, _doctor):
        add(commands)
    return whole


def _plan(commands: Commands) -> None:
    _planning(commands, "plan", "decide where mail for a next-hop may go, and under which conditions")


def _check(commands: Commands) -> None:
    _planning(commands, "check", "plan, connect to every server and verify what it presents; sends no mail")


def _planning(commands: Commands, name: str, summary: str) -> None:
    command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    _add_next_hop(command)
    _add_world(command)
    _add_engine(command)
    _add_wishes(command)
    command.add_argument("--explain", action="store_true", help="print every step with its clause")
    command.add_argument("--record", metavar="FILE", type=Path, help="write what was seen as a world that replays")
    _add_json(command)


def _simulate(commands: Commands) -> None:
    command = commands.add_parser("simulate", help="walk one try to deliver a message against the servers of a world")
    command.set_defaults(resolver=None)
    _add_next_hop(command)
    command.add_argument("--world", metavar="FILE", required=True, help='a static world; "tour" is built in')
    command.add_argument("--sender", metavar="MAILBOX", default=SENDER, help="reverse-path; empty for a notification")
    command.add_argument("--recipient", metavar="MAILBOX", action="append", default=[], help="repeats")
    _add_engine(command)
    _add_wishes(command)
    shown = command.add_mutually_exclusive_group()
    shown.add_argument("--explain", action="store_true", help="print every step and the dialogue with each server")
    shown.add_argument("--report", action="store_true", help="print the TLS report that this would make (RFC 8460)")
    _add_json(command)


def _sts(commands: Commands) -> None:
    command = commands.add_parser("sts", help="show what a domain publishes for MTA-STS, and what is cached of it")
    command.add_argument("domain", metavar="DOMAIN", help="the policy domain")
    _add_world(command)
    _add_engine(command)
    _add_json(command)


def _refresh(commands: Commands) -> None:
    command = commands.add_parser("refresh", help="refresh the cached MTA-STS policies that are due")
    _add_world(command)
    _add_engine(command)
    _add_json(command)


def _match(commands: Commands) -> None:
    command = commands.add_parser("match", help="match a certificate chain with TLSA records")
    command.add_argument("--tlsa", metavar="RECORD", action="append", required=True, help='"3 1 1 ab12..."; repeats')
    command.add_argument("--chain", metavar="FILE", type=Path, required=True, help="PEM certificates, leaf first")
    command.add_argument("--name", metavar="NAME", action="append", required=True, help="reference identifier; repeats")
    command.add_argument("--at", metavar="TIME", type=_time, help="ISO 8601, UTC without an offset; now by default")
    _add_json(command)


def _report(commands: Commands) -> None:
    command = commands.add_parser("report", help="show TLS reports (RFC 8460) that were received")
    command.add_argument("paths", metavar="FILE", nargs="+", help='JSON, gzip, or a whole mail; "-" is standard input')
    _add_json(command)


def _vectors(commands: Commands) -> None:
    command = commands.add_parser("vectors", help="run test vectors")
    command.add_argument("paths", metavar="PATH", nargs="*", type=Path, help="files and folders; vectors/ by default")
    _add_json(command)


def _doctor(commands: Commands) -> None:
    command = commands.add_parser("doctor", help="tell whether a resolver validates and may be believed")
    _add_resolver(command)
    command.add_argument("--signed-name", metavar="NAME", default=SIGNED_NAME, help="in a signed zone")
    command.add_argument("--unsigned-name", metavar="NAME", default=UNSIGNED_NAME, help="in an unsigned zone")
    command.add_argument(
        "--bogus-name", metavar="NAME", action="append", dest="bogus_names", help="in a bogus zone; may be repeated"
    )
    _add_json(command)


def _add_next_hop(command: ArgumentParser) -> None:
    command.add_argument("next_hop", metavar="DOMAIN", help="a domain, [relay], [relay]:port or [address]")


def _add_world(command: ArgumentParser) -> None:
    command.add_argument("--world", metavar="FILE", help='a static world in place of the DNS; "tour" is built in')
    _add_resolver(command)


def _add_resolver(command: ArgumentParser) -> None:
    command.add_argument("--resolver", metavar="ADDR[:PORT]", help="ask this resolver, not the system's")
    command.add_argument("--trust-ad", action="store_true", help="believe a resolver that is not on loopback")


def _add_engine(command: ArgumentParser) -> None:
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings")
    command.add_argument(
        "--store", metavar="PATH", type=Path, help="keep MTA-STS policies in this file, not in the user's state folder"
    )


def _add_wishes(command: ArgumentParser) -> None:
    command.add_argument("--requiretls", action="store_true", help="the message requires TLS (RFC 8689)")
    command.add_argument("--tls-optional", action="store_true", help='the message bears "TLS-Required: No" (RFC 8689)')


def _add_json(command: ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the answer as JSON")


def _time(text: str) -> datetime:
    time = from_iso(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
