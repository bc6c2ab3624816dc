"""What every server of a plan shows when it is connected to and no mail is sent.

A server passes where mail could go to it under the plan: its duties hold, or cleartext is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy.effects import Probe, Probed, ProbeFailure, ProbeStage, ask, together
from mailtlspolicy.json_version import VERSION, require_version
from mailtlspolicy.plan_values import HostPlan, Plan
from mailtlspolicy.verdict import Verdict
from mailtlspolicy.words import Word

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mailtlspolicy.effects import Program
    from mailtlspolicy.pkix import TrustStore


MAX_PROBES_AT_ONCE = 32  # each takes a descriptor; systems commonly grant a process 256 to 1024


class Security(Word):
    """How secure a session is, in the words of Postfix's log."""

    VERIFIED = "verified"
    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    CLEARTEXT = "cleartext"


class CheckResult(Word):
    """What became of one server: the contract's words for an attempt, and "ok"."""

    OK = "ok"
    NOT_AUTHENTICATED = "not-authenticated"
    SKIPPED = "skipped"
    CONNECT_FAILED = "connect-failed"
    TEMPFAILED = "tempfailed"
    STARTTLS_ABSENT = "starttls-absent"
    STARTTLS_REFUSED = "starttls-refused"
    HANDSHAKE_FAILED = "handshake-failed"


@frozen
class CheckedServer:
    """What one address of a host showed.

    Attributes:
        host: the MX hostname.
        address: the address connected to, or None where the host is skipped.
        result: what became of it.
        security: `verified` where the duties hold and the host was chosen securely (by a secure MX RRset, the operator
            or a policy of mode `enforce`), `trusted` where it was not,
            `untrusted` for TLS without a duty, `cleartext` where mail may go unencrypted; None where it may not go.
        verdict: on the certificates, where there was a TLS session.
        detail: what the server or the network said.
    """

    host: str
    address: str | None
    result: CheckResult
    security: Security | None = None
    verdict: Verdict | None = None
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether mail could go there."""
        return self.security is not None

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {
            "host": self.host,
            "address": self.address,
            "result": self.result,
            "security": self.security,
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "detail": self.detail,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CheckedServer:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        return cls(
            host=data["host"],
            address=data["address"],
            result=CheckResult(data["result"]),
            security=None if data["security"] is None else Security(data["security"]),
            verdict=None if data["verdict"] is None else Verdict.from_json(data["verdict"]),
            detail=data["detail"],
        )


@frozen
class Check:
    """A plan and what its servers showed.

    Attributes:
        plan: the plan.
        servers: one entry an address, in the plan's order; one for each skipped host.
    """

    plan: Plan
    servers: tuple[CheckedServer, ...]

    @property
    def passed(self) -> bool:
        """Whether there is a host to deliver to, and mail could go to every address of every host."""
        return self.plan.undeliverable is None and all(server.passed for server in self.servers)

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {
            "version": VERSION,
            "plan": self.plan.to_json(),
            "hosts": [server.to_json() for server in self.servers],
            "passed": self.passed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Check:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        return cls(Plan.from_json(data["plan"]), tuple(CheckedServer.from_json(host) for host in data["hosts"]))


def check(plan: Plan, *, now: datetime, trust: TrustStore | None) -> Program[Check]:
    """Probe every address of every usable host of a plan, some side by side."""
    probes = [
        Probe(address, host.port, host.sni, host.level) for host in plan.usable_hosts for address in host.addresses
    ]
    shown: list[Probed | ProbeFailure] = []
    for start in range(0, len(probes), MAX_PROBES_AT_ONCE):
        shown += yield from together(*map(ask, probes[start : start + MAX_PROBES_AT_ONCE]))
    results = iter(shown)
    servers: list[CheckedServer] = []
    for host in plan.hosts:
        if isinstance(host, HostPlan):
            servers += [_judged(host, address, next(results), plan, now, trust) for address in host.addresses]
        else:
            servers.append(CheckedServer(host.host, None, CheckResult.SKIPPED, detail=str(host.skip.reason)))
    return Check(plan, tuple(servers))


def _judged(
    host: HostPlan, address: str, shown: Probed | ProbeFailure, plan: Plan, now: datetime, trust: TrustStore | None
) -> CheckedServer:
    if isinstance(shown, ProbeFailure):
        unreached = shown.stage in {ProbeStage.CONNECT, ProbeStage.GREETING}
        security = Security.CLEARTEXT if host.cleartext and not unreached else None
        return CheckedServer(host.host, address, CheckResult(shown.stage), security, detail=shown.detail)
    verdict = host.verify(shown.chain, now=now, trust=trust)
    detail = " ".join(filter(None, (shown.protocol, shown.cipher)))
    if not verdict.satisfied:
        return CheckedServer(host.host, address, CheckResult.NOT_AUTHENTICATED, None, verdict, detail)
    security = Security.UNTRUSTED
    if verdict.authenticated:  # RFC 7672 section 2.2.1: an insecure choice of host is never reported as secure delivery
        vouched_for = plan.mx_secure or (host.sts_match and plan.sts is not None and plan.sts.is_enforced)
        security = Security.VERIFIED if vouched_for else Security.TRUSTED
    return CheckedServer(host.host, address, CheckResult.OK, security, verdict, detail)
