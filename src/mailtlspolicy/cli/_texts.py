"""Plans and verdicts as text for people, and what a peer says without harm to a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.plan.values import HostPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.delivery import Attempt
    from mailtlspolicy.delivery.check import CheckedServer
    from mailtlspolicy.plan.values import Plan, SkippedHost
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


def host_and_address(shown: Attempt | CheckedServer) -> str:
    """A server as Postfix writes it: mx.a.test[192.0.2.1], or the host alone where no address was tried."""
    return shown.host if shown.address is None else f"{shown.host}[{shown.address}]"


def escaped(text: str) -> str:
    """A text of a peer's, with everything escaped that could play with a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
