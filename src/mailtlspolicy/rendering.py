"""Plans, checks, outcomes and verdicts as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.effects import StoreFailure
from mailtlspolicy.plan_values import HostPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.check import Check, CheckedServer
    from mailtlspolicy.delivery import Attempt, Outcome
    from mailtlspolicy.plan_values import Plan, SkippedHost
    from mailtlspolicy.sts.cache import Entry
    from mailtlspolicy.sts.examine import Examination
    from mailtlspolicy.sts.refresh import RefreshReport
    from mailtlspolicy.sts.values import Discovery
    from mailtlspolicy.verdict import Verdict


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
    if server.verdict is not None and server.verdict.satisfied:
        how = verdict_text(server.verdict) if server.verdict.authenticated else ""
        line = f"{str(server.security).capitalize()} TLS connection established to {place}"
        return ": ".join(filter(None, (line, server.detail, how)))
    if server.verdict is not None and not server.verdict.satisfied:
        return _escaped(f"{place}: {verdict_text(server.verdict)}")
    fallback = "; mail may go in cleartext" if server.passed else ""
    return _escaped(f"{place}: {server.result}{f' ({server.detail})' if server.detail else ''}{fallback}")
