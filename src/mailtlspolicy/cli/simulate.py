"""`simulate`: one try to deliver a message against the servers of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._report_text import report_text
from mailtlspolicy.cli._shared import print_answer, world_engine
from mailtlspolicy.cli._texts import escaped, host_and_address, plan_text
from mailtlspolicy.delivery import Disposition
from mailtlspolicy.tlsrpt import Aggregates, Report
from mailtlspolicy.tlsrpt.reading import Received
from mailtlspolicy.world.world import SENDER

if TYPE_CHECKING:
    from argparse import Namespace

    from mailtlspolicy.delivery import Attempt, Outcome
    from mailtlspolicy.world.world import WorldEngine


def run(arguments: Namespace) -> int:
    """Print the outcome, or the TLS report that it would make; NO where the message is not delivered."""
    engine = world_engine(arguments)
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
        print_answer(arguments, outcome.to_json(), outcome_text(outcome, explain=arguments.explain))
    return OK if outcome.outcome is Disposition.DELIVERED else NO


def _print_report(arguments: Namespace, engine: WorldEngine, outcome: Outcome) -> None:
    """Print what one outcome adds to a report; as JSON the very document, or null."""
    counted = Aggregates()
    counted.add(outcome)
    if not len(counted):
        print_answer(arguments, None, "there is nothing to report")
        return
    (aggregate,) = counted
    report = Report.of(aggregate, organization_name="Simulated sender", contact_info=SENDER)
    wanted = engine.find_tlsrpt(aggregate.domain).detail
    print_answer(arguments, report.to_json(), f"{report_text(Received(report, ()))}\n\n{wanted}")


def outcome_text(outcome: Outcome, *, explain: bool = False) -> str:
    """What became of a message: a line an attempt, a line a recipient where there are several, and the end."""
    lines = [plan_text(outcome.plan, explain=explain), ""]
    for attempt in outcome.attempts:
        lines.append(_attempt_line(attempt))
        lines += (f"  {escaped(line)}" for line in attempt.transcript if explain)
    if len(outcome.recipients) > 1:
        for entry in outcome.recipients:
            why = " ".join(filter(None, (entry.status, f"({entry.reply})" if entry.reply else None)))
            lines.append(escaped(f"{entry.recipient}: {entry.outcome} {why}".rstrip()))
    if outcome.duplicate_possible:
        lines.append("a server may have taken the message: the next try may make a second copy")
    if outcome.cleartext_retry:
        lines.append(escaped(f"the next try may go in cleartext to {', '.join(outcome.cleartext_retry)}"))
    if outcome.retry is not None:
        where = ", from the same address" if outcome.retry.same_address else ""
        lines.append(f"try again at {outcome.retry.at} or later{where}")
    lines.append(_end_line(outcome))
    return "\n".join(lines)


def _attempt_line(attempt: Attempt) -> str:
    place = host_and_address(attempt)
    how = attempt.result if attempt.security is None else f"{attempt.result}, {attempt.security}"
    if attempt.cleartext and attempt.security is None:
        how += " in cleartext"
    status = "" if attempt.status is None else f" {attempt.status}"
    return escaped(f"{place}: {how}{status}{f' ({attempt.detail})' if attempt.detail else ''}")


def _end_line(outcome: Outcome) -> str:
    end = str(outcome.outcome)
    if outcome.security is not None:
        end += f" to {outcome.host}, {outcome.security}"
    return escaped(end if outcome.status is None else f"{end}: status {outcome.status}")
