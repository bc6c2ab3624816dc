"""Plans, checks and verdicts as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.plan_values import HostPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.check import Check, CheckedServer
    from mailtlspolicy.plan_values import Plan, SkippedHost
    from mailtlspolicy.verdict import Verdict


def plan_text(plan: Plan, *, explain: bool = False) -> str:
    """A plan as a table of hosts, below what holds for all of them."""
    lines = [_headline(plan)]
    if plan.hosts:
        header = ("pref", "host", "level", "addresses", "TLSA base domain", "SNI")
        lines += _table([header, *(_row(host) for host in plan.hosts)])
    if plan.undeliverable is not None:
        bad = plan.undeliverable
        lines.append(f"undeliverable ({bad.kind}): {bad.reason}, status {bad.status}")
    if explain:
        lines += ["", plan.explain()]
    return "\n".join(lines)


def check_text(check: Check, *, explain: bool = False) -> str:
    """A plan and, a line an address, what its servers showed, in the words of Postfix's log."""
    lines = [plan_text(check.plan, explain=explain), ""]
    lines += [_server_line(server) for server in check.servers]
    lines.append("passed" if check.passed else "failed")
    return "\n".join(lines)


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
    level = str(host.level) if isinstance(host, HostPlan) else f"skipped: {host.skip.reason}"
    binding = host.binding
    base = "-" if binding is None else f"{binding.base_domain} ({len(binding.records)})"
    return (str(host.preference), host.host, level, " ".join(host.addresses) or "-", base, host.sni or "-")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _server_line(server: CheckedServer) -> str:
    place = server.host if server.address is None else f"{server.host}[{server.address}]"
    if server.verdict is not None and server.verdict.satisfied:
        how = verdict_text(server.verdict) if server.verdict.authenticated else ""
        line = f"{str(server.security).capitalize()} TLS connection established to {place}"
        return ": ".join(filter(None, (line, server.detail, how)))
    why = server.result if server.verdict is None else verdict_text(server.verdict)
    fallback = "; mail may go in cleartext" if server.passed else ""
    return f"{place}: {why}{f' ({server.detail})' if server.detail else ''}{fallback}"
