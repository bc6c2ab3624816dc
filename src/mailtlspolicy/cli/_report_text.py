"""A TLS report as text for people, whether it was received or would be sent."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mailtlspolicy.cli._texts import escaped
from mailtlspolicy.tlsrpt.reading import MAX_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailtlspolicy.tlsrpt.reading import Received, ReceivedMail
    from mailtlspolicy.tlsrpt.values import FailureDetails, PolicyReport

WIDTH = 100  # columns that a report is made to fit; only two long addresses in a line go beyond
RECORDS_SHOWN = 10  # TLSA records of one policy
_NARROWEST = 16  # columns that are left to an MX hostname beside them


def report_text(received: Received | ReceivedMail) -> str:
    """A report: who tells whom of which time; each policy with its sessions and what failed, most sessions first."""
    report = received.report
    about = "" if report.domain is None else f" to {report.domain}"
    lines = [
        _fitted(f"TLS report from {report.organization_name or 'an unnamed sender'}{about}"),
        f"period: {_period(report.start, report.end)}",
        _fitted(f"contact: {report.contact_info or '-'}"),
        _fitted(f"id: {report.report_id or '-'}"),
    ]
    for entry in report.policies:
        lines += ["", *_policy_lines(entry)]
    if received.remarks:
        lines += ["", *(f"remark: {remark}" for remark in received.remarks)]
    return "\n".join(lines)


def _period(start: datetime | None, end: datetime | None) -> str:
    times = ("unknown" if time is None else str(time.replace(tzinfo=None)) for time in (start, end))
    return " to ".join(times) + " UTC"


def _policy_lines(entry: PolicyReport) -> list[str]:
    policy = entry.policy
    is_sts = policy.type == "sts"
    published = ["; ".join(policy.string)] if is_sts and policy.string else [*policy.string[:RECORDS_SHOWN]]
    if len(policy.string) > RECORDS_SHOWN and not is_sts:
        published.append(f"and {len(policy.string) - RECORDS_SHOWN} more")
    if policy.mx_host and not (is_sts and policy.string):  # whose lines have the patterns in them
        published.append(f"MX hosts: {', '.join(policy.mx_host)}")
    successful, failed = ("unknown" if count is None else str(count) for count in (entry.successful, entry.failed))
    return [
        _fitted(" ".join(filter(None, (policy.type or "policy of an unknown type", policy.domain)))),
        *(_fitted(f"  {text}") for text in published),
        f"  sessions: {successful} successful, {failed} failed",
        *_failure_lines(entry.failures),
    ]


def _failure_lines(failures: Sequence[tuple[FailureDetails, int | None]]) -> list[str]:
    """What failed, by result type and reason, and below each where and how often; what is frequent comes first."""
    totals = Counter[tuple[str | None, str | None]]()
    rows = []
    for details, count in failures:
        why = (details.result_type, details.failure_reason_code)
        totals[why] += count or 0
        where = _fitted(details.receiving_mx_hostname or "-", WIDTH)
        addresses = (_fitted(text or "-", MAX_ADDRESS) for text in (details.receiving_ip, details.sending_mta_ip))
        rows.append((why, count or 0, (where, *addresses, "-" if count is None else str(count))))
    rows.sort(key=lambda row: (-totals[row[0]], row[0][0] or "", row[0][1] or "", -row[1]))
    lines = _fitted_table(
        [("MX host", "address", "sent from", "sessions"), *(cells for _, _, cells in rows)], WIDTH - 4
    )
    shown = [f"    {lines[0]}"] if rows else []
    before = None
    for (why, _, _), line in zip(rows, lines[1:], strict=True):
        if why != before:
            times = f": {totals[why]} session{'' if totals[why] == 1 else 's'}"
            reason = "" if not why[1] else f" ({why[1]})"
            shown.append(_fitted(f"  {why[0] or 'failure of an unknown type'}{reason}", WIDTH - len(times)) + times)
        shown.append(f"    {line}")
        before = why
    return shown


def _fitted_table(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """A table with its last column flush right; its first column gives way where all are too wide."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = min(first, max(_NARROWEST, width - sum(others) - 2 * len(others)))
    lines = []
    for head, *cells in rows:
        padded = [cell.ljust(size) for cell, size in zip(cells[:-1], others[:-1], strict=True)]
        lines.append("  ".join([_fitted(head, first).ljust(first), *padded, cells[-1].rjust(others[-1])]))
    return lines


def _fitted(text: str, width: int = WIDTH) -> str:
    """A text of a peer's, escaped, and shortened where it is wider."""
    text = escaped(text[: width + 1])
    return text if len(text) <= width else text[: width - 3] + "..."
