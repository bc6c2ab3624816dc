"""Plans, checks, outcomes, verdicts and reports as text for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mailtlspolicy.delivery.check import CheckResult
from mailtlspolicy.plan.values import HostPlan
from mailtlspolicy.sts.effects import StoreFailure
from mailtlspolicy.tlsrpt.reading import MAX_ADDRESS, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailtlspolicy.delivery import Attempt, Outcome
    from mailtlspolicy.delivery.check import Check, CheckedServer
    from mailtlspolicy.plan.values import Plan, SkippedHost
    from mailtlspolicy.sts.cache import Entry
    from mailtlspolicy.sts.examine import Examination
    from mailtlspolicy.sts.refresh import RefreshReport
    from mailtlspolicy.sts.values import Discovery
    from mailtlspolicy.tlsrpt.reading import Received, ReceivedMail
    from mailtlspolicy.tlsrpt.values import FailureDetails, PolicyReport
    from mailtlspolicy.verdict import Verdict

WIDTH = 100  # columns that a report is made to fit; only two long addresses in a line go beyond
RECORDS_SHOWN = 10  # TLSA records of one policy
_NARROWEST = 16  # columns that are left to an MX hostname beside them


def plan_text(plan: Plan, *, explain: bool = False) -> str:
    """A plan as a table of hosts, below what holds for all of them."""
    lines = [_headline(plan)]
    if plan.sts is not None:
        lines += discovery_lines(plan.sts)
    if plan.hosts:
        header = ("pref", "host", "level", "addresses", "TLSA base domain", "SNI")
        lines += _table([header, *(_row(host) for host in plan.hosts)])
    if plan.undeliverable is not None:
        bad = plan.undeliverable
        lines.append(f"undeliverable ({bad.kind}): {bad.reason}, status {bad.status}")
    if explain:
        lines += ["", plan.explain()]
    return "\n".join(lines)


def discovery_lines(sts: Discovery) -> list[str]:
    """The MTA-STS policy in force, and what is wrong with its discovery."""
    lines = []
    if sts.policy is not None:
        fact = f"mode {sts.policy.mode}, id {sts.id}, {sts.source}, in force until {sts.expires}"
        lines.append(f"MTA-STS policy of {sts.domain}: {fact}")
    if sts.failure is not None:
        lines.append(f"MTA-STS: {sts.failure}: {sts.detail}")
    if sts.store_failure is not None:
        lines.append(f"the policy store failed: {sts.store_failure}")
    return lines


def examination_text(found: Examination) -> str:
    """What a policy domain publishes for MTA-STS, with the remarks of a linter, and what is cached of it."""
    lines = [f"record: {found.found.detail}"]
    lines += (f"  {_escaped(text.decode('ascii', 'backslashreplace'))}" for text in found.found.announced)
    if found.found.record is not None:
        lines += (f"  remark: {remark}" for remark in found.found.record.warnings)
    lines.append(f"policy: {found.fetched.detail}")
    if found.fetched.body is not None:
        lines += (f"  {line}" for line in _printable(found.fetched.body))
    if found.fetched.policy is not None:
        lines += (f"  remark: {remark}" for remark in found.fetched.policy.warnings)
    lines += _cached_lines(found.cached)
    lines.append("a sender discovers this policy" if found.passed else "a sender discovers no policy")
    return "\n".join(lines)


def _cached_lines(cached: Entry | StoreFailure | None) -> list[str]:
    if cached is None:
        return ["cached: nothing"]
    if isinstance(cached, StoreFailure):
        return [f"cached: the policy store failed: {cached.detail}"]
    lines = [f"cached: failed at {failed.at} for id {failed.id}: {failed.failure}" for failed in cached.failed]
    if cached.policy is not None:
        fact = f"mode {cached.policy.mode}, id {cached.id}, fetched {cached.fetched}, until {cached.expires}"
        lines.insert(0, f"cached: {fact}")
    return lines


def _printable(body: bytes) -> list[str]:
    """The lines of a body."""
    text = body.decode("utf-8", "backslashreplace").replace("\r\n", "\n").removesuffix("\n")
    return [_escaped(line) for line in text.split("\n")]


def _escaped(text: str) -> str:
    """A text of a peer's, with everything escaped that could play with a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def refresh_text(report: RefreshReport) -> str:
    """What a refresh did: a line for each policy that somebody should look at, and the counts."""
    lines = [str(failure) for failure in report.failed]
    lines += (f"the policy store failed: {failure}" for failure in report.store_failures)
    return "\n".join([*lines, str(report)])


def check_text(check: Check, *, explain: bool = False) -> str:
    """A plan and, a line an address, what its servers showed, in the words of Postfix's log."""
    lines = [plan_text(check.plan, explain=explain), ""]
    lines += [_server_line(server) for server in check.servers]
    lines.append("passed" if check.passed else "failed")
    return "\n".join(lines)


def outcome_text(outcome: Outcome, *, explain: bool = False) -> str:
    """What became of a message: a line an attempt, a line a recipient where there are several, and the end."""
    lines = [plan_text(outcome.plan, explain=explain), ""]
    for attempt in outcome.attempts:
        lines.append(_attempt_line(attempt))
        lines += (f"  {_escaped(line)}" for line in attempt.transcript if explain)
    if len(outcome.recipients) > 1:
        for entry in outcome.recipients:
            why = " ".join(filter(None, (entry.status, f"({entry.reply})" if entry.reply else None)))
            lines.append(_escaped(f"{entry.recipient}: {entry.outcome} {why}".rstrip()))
    if outcome.duplicate_possible:
        lines.append("a server may have taken the message: the next try may make a second copy")
    if outcome.cleartext_retry:
        lines.append(_escaped(f"the next try may go in cleartext to {', '.join(outcome.cleartext_retry)}"))
    if outcome.retry is not None:
        where = ", from the same address" if outcome.retry.same_address else ""
        lines.append(f"try again at {outcome.retry.at} or later{where}")
    lines.append(_end_line(outcome))
    return "\n".join(lines)


def _place(shown: Attempt | CheckedServer) -> str:
    return shown.host if shown.address is None else f"{shown.host}[{shown.address}]"


def _attempt_line(attempt: Attempt) -> str:
    place = _place(attempt)
    how = attempt.result if attempt.security is None else f"{attempt.result}, {attempt.security}"
    if attempt.cleartext and attempt.security is None:
        how += " in cleartext"
    status = "" if attempt.status is None else f" {attempt.status}"
    return _escaped(f"{place}: {how}{status}{f' ({attempt.detail})' if attempt.detail else ''}")


def _end_line(outcome: Outcome) -> str:
    end = str(outcome.outcome)
    if outcome.security is not None:
        end += f" to {outcome.host}, {outcome.security}"
    return _escaped(end if outcome.status is None else f"{end}: status {outcome.status}")


def verdict_text(verdict: Verdict) -> str:
    """A verdict in a line."""
    if verdict.failure is not None:
        return f"failed: {verdict.failure} (TLSRPT: {verdict.tlsrpt})"
    if not verdict.satisfied:
        return "failed: the host is skipped"
    parts = [f"authenticated by {verdict.mechanism}" if verdict.authenticated else "nothing to authenticate"]
    if verdict.record is not None:
        parts.append(f"record {verdict.record}")
    if verdict.depth is not None:
        parts.append(f"depth {verdict.depth}")
    if verdict.name is not None:
        parts.append(f"name {verdict.name}")
    return ", ".join(parts)


def _headline(plan: Plan) -> str:
    status = {True: "secure", False: "insecure", None: "unknown"}[plan.mx_secure]
    alias = "" if plan.expanded_next_hop is None else f", an alias of {plan.expanded_next_hop}"
    return f"{plan.next_hop}{alias}: the choice of hosts is {status}"


def _row(host: HostPlan | SkippedHost) -> tuple[str, ...]:
    level = _level(host) if isinstance(host, HostPlan) else f"skipped: {host.skip.reason}"
    binding = host.binding
    base = "-" if binding is None else f"{binding.base_domain} ({len(binding.records)})"
    return (str(host.preference), host.host, level, " ".join(host.addresses) or "-", base, host.sni or "-")


def _level(host: HostPlan) -> str:
    return "dane and pkix" if len(host.requires) == 2 else str(host.level)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _server_line(server: CheckedServer) -> str:
    place = _place(server)
    if server.result is CheckResult.OK and server.verdict is not None:
        how = verdict_text(server.verdict) if server.verdict.authenticated else ""
        line = f"{str(server.security).capitalize()} TLS connection established to {place}"
        return ": ".join(filter(None, (line, server.detail, how)))
    if server.verdict is not None and not server.verdict.satisfied:
        return _escaped(f"{place}: {verdict_text(server.verdict)}")
    fallback = "; mail may go in cleartext" if server.passed else ""
    return _escaped(f"{place}: {server.result}{f' ({server.detail})' if server.detail else ''}{fallback}")


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


def received_text(answers: Sequence[tuple[str, Received | ReceivedMail | Unreadable]], *, named: bool) -> str:
    """The reports of files, each below the name of its file where that is wanted."""
    blocks = []
    for name, read in answers:
        text = f"unreadable: {read}" if isinstance(read, Unreadable) else report_text(read)
        blocks.append(f"{_escaped(name)}\n\n{text}" if named else text)
    return "\n\n\n".join(blocks)


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
    text = _escaped(text[: width + 1])
    return text if len(text) <= width else text[: width - 3] + "..."
