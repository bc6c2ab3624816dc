"""`check`: what every server of a plan presents, without sending mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import print_answer, recorded_engine, write_record
from mailtlspolicy.cli._texts import escaped, host_and_address, plan_text, verdict_text
from mailtlspolicy.delivery.check import CheckResult

if TYPE_CHECKING:
    from argparse import Namespace

    from mailtlspolicy.delivery.check import Check, CheckedServer


def run(arguments: Namespace) -> int:
    """Print the plan and what its servers showed; NO where the check does not pass."""
    engine, recorder = recorded_engine(arguments, connects=True)
    check = engine.check(arguments.next_hop, requiretls=arguments.requiretls, tls_optional=arguments.tls_optional)
    write_record(arguments, engine, recorder)
    print_answer(arguments, check.to_json(), check_text(check, explain=arguments.explain))
    return OK if check.passed else NO


def check_text(check: Check, *, explain: bool = False) -> str:
    """A plan and, a line an address, what its servers showed, in the words of Postfix's log."""
    lines = [plan_text(check.plan, explain=explain), ""]
    lines += [_server_line(server) for server in check.servers]
    lines.append("passed" if check.passed else "failed")
    return "\n".join(lines)


def _server_line(server: CheckedServer) -> str:
    place = host_and_address(server)
    if server.result is CheckResult.OK and server.verdict is not None:
        how = verdict_text(server.verdict) if server.verdict.authenticated else ""
        line = f"{str(server.security).capitalize()} TLS connection established to {place}"
        return ": ".join(filter(None, (line, server.detail, how)))
    if server.verdict is not None and not server.verdict.satisfied:
        return escaped(f"{place}: {verdict_text(server.verdict)}")
    fallback = "; mail may go in cleartext" if server.passed else ""
    return escaped(f"{place}: {server.result}{f' ({server.detail})' if server.detail else ''}{fallback}")
