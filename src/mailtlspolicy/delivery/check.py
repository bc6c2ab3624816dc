"""What every server of a plan shows when it is connected to and no mail is sent.

A server passes where mail could go to it under the plan: its duties hold and it goes on within TLS, or cleartext is
allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._words import Word
from mailtlspolicy.delivery.conversation import Conversation
from mailtlspolicy.delivery.outcome import Security
from mailtlspolicy.delivery.transitions import IN_CLEAR, Permission, State, follow
from mailtlspolicy.delivery.walk import own_names, permissions, security
from mailtlspolicy.effects import in_turn
from mailtlspolicy.plan.values import HostPlan, Plan
from mailtlspolicy.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailtlspolicy.effects import Program
    from mailtlspolicy.pkix import TrustStore


class CheckResult(Word):
    """What became of one server: the words for an attempt to deliver, as far as it goes, and "ok"."""

    OK = "ok"
    NOT_AUTHENTICATED = "not-authenticated"
    SKIPPED = "skipped"
    CONNECT_FAILED = "connect-failed"
    TEMPFAILED = "tempfailed"
    STARTTLS_ABSENT = "starttls-absent"
    STARTTLS_REFUSED = "starttls-refused"
    HANDSHAKE_FAILED = "handshake-failed"
    REQUIRETLS_ABSENT = "requiretls-absent"
    LOCAL_ERROR = "local-error"


@frozen
class CheckedServer:
    """What one address of a host showed.

    Attributes:
        host: the MX hostname.
        address: the address connected to, or None where the host is skipped.
        result: what became of it.
        security: how secure a session with it is, `cleartext` where mail may go unencrypted; None where it may not go.
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


def check(
    plan: Plan, *, trust: TrustStore | None, at_once: int | None = None, ehlo_name: str | None = None
) -> Program[Check]:
    """Look at every address of every usable host of a plan.

    Args:
        plan: the plan.
        trust: the PKIX trust anchors.
        at_once: how many servers are looked at side by side; None for any number.
        ehlo_name: the name by which this system greets servers, where that is known.
    """
    look = _Look(plan, trust, ehlo_name)
    looks: list[Program[CheckedServer]] = []
    for host in plan.hosts:
        if isinstance(host, HostPlan):
            looks += [look.at(host, address) for address in host.addresses]
        else:
            looks.append(_skip(host.host, str(host.skip.reason)))
    return Check(plan, (yield from in_turn(looks, at_once)))


def _skip(host: str, reason: str) -> Program[CheckedServer]:
    yield from ()
    return CheckedServer(host, None, CheckResult.SKIPPED, detail=reason)


@frozen
class _Look:
    """What looks at the servers of a plan have in common."""

    plan: Plan
    trust: TrustStore | None
    ehlo_name: str | None

    def at(self, host: HostPlan, address: str, *, without_sni: bool = False) -> Program[CheckedServer]:
        """Hold the beginning of a conversation, up to where mail would be sent or cleartext begin."""
        names = own_names(self.plan, host, self.ehlo_name)
        talk = Conversation(host, address, self.trust, own_names=names, without_sni=without_sni)
        allowed = permissions(host, host.config.cleartext_retry, named=True)  # now, or in the next try
        ended = yield from talk.hold(State.CONNECT, allowed & {Permission.WITHOUT_SNI}, last=State.EHLO_IN_TLS)
        if ended.to is State.CONNECT:
            return (yield from self.at(host, address, without_sni=True))
        if ended.result is None:
            detail = "" if talk.secured is None else f"{talk.secured.protocol} {talk.secured.cipher}".strip()
            word = security(self.plan, host, talk.verdict)
            return CheckedServer(host.host, address, CheckResult.OK, word, talk.verdict, detail)
        in_clear = follow(ended.state, ended.event, allowed)[0] in IN_CLEAR
        fallback = Security.CLEARTEXT if in_clear else None
        return CheckedServer(host.host, address, CheckResult(ended.result), fallback, talk.verdict, talk.detail)
