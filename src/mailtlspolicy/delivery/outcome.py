"""What became of a message: for each address tried, for each recipient, and when to try again."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._times import in_utc
from mailtlspolicy._validators import instance_of
from mailtlspolicy._words import Word
from mailtlspolicy.delivery.transitions import Result
from mailtlspolicy.plan.values import Plan
from mailtlspolicy.verdict import ResultType, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping


class Disposition(Word):
    """What became of the mail: the three ends of RFC 3207 section 6 and RFC 5321 section 4.5.4."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"


class Security(Word):
    """How secure a session is, in the words of Postfix's log, the least secure last."""

    VERIFIED = "verified"
    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    CLEARTEXT = "cleartext"


@frozen(kw_only=True)
class Attempt:
    """What became of one connection, or of a host that is skipped.

    Attributes:
        host: the MX hostname.
        address: the address connected to; None where the host is skipped.
        result: what it ended with.
        cleartext: the mail went, or would have gone, in cleartext.
        security: how secure the session was that took the mail; None where none did.
        status: the RFC 3463 status code of a failure.
        tlsrpt: the RFC 8460 result type to report, whether or not it stopped the mail.
        verdict: on the certificates, where there was a TLS session.
        source: the address that we connected from, where the connector tells it.
        helo: the name that the server gave itself, in its reply to EHLO or else in its greeting.
        tls_error: what ended the handshake, in the TLS library's own name, such as "WRONG_VERSION_NUMBER"; or
            "octets-behind-starttls", which prevented it.
        requiretls: MAIL bore the parameter REQUIRETLS (RFC 8689 section 2).
        detail: what the server or the network said.
        transcript: the dialogue, a line each: "C: " ours, "S: " the server's, "-- " what happened beside it.
    """

    host: str
    address: str | None
    result: Result
    cleartext: bool = field(default=False, validator=instance_of(bool))
    security: Security | None = None
    status: str | None = None
    tlsrpt: ResultType | None = None
    verdict: Verdict | None = None
    source: str | None = None
    helo: str | None = None
    tls_error: str | None = None
    requiretls: bool = field(default=False, validator=instance_of(bool))
    detail: str = ""
    transcript: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {
            "host": self.host,
            "address": self.address,
            "result": self.result,
            "cleartext": self.cleartext,
            "security": self.security,
            "status": self.status,
            "tlsrpt": self.tlsrpt,
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "source": self.source,
            "helo": self.helo,
            "tls_error": self.tls_error,
            "requiretls": self.requiretls,
            "detail": self.detail,
            "transcript": list(self.transcript),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attempt:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        return cls(
            host=data["host"],
            address=data["address"],
            result=Result(data["result"]),
            cleartext=data["cleartext"],
            security=None if data["security"] is None else Security(data["security"]),
            status=data["status"],
            tlsrpt=None if data["tlsrpt"] is None else ResultType(data["tlsrpt"]),
            verdict=None if data["verdict"] is None else Verdict.from_json(data["verdict"]),
            source=data["source"],
            helo=data["helo"],
            tls_error=data["tls_error"],
            requiretls=data["requiretls"],
            detail=data["detail"],
            transcript=tuple(data["transcript"]),
        )


@frozen
class RecipientOutcome:
    """What became of the mail to one recipient.

    Attributes:
        recipient: the mailbox.
        outcome: what became of it.
        host: the host that took the mail or refused it for good; None where it is deferred, or no host was asked.
        status: the RFC 3463 status code of a failure.
        reply: the reply of the server that settled it or, where it is deferred, that put it off in the last attempt.
    """

    recipient: str
    outcome: Disposition
    host: str | None = None
    status: str | None = None
    reply: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "recipient": self.recipient,
            "outcome": self.outcome,
            "host": self.host,
            "status": self.status,
            "reply": self.reply,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RecipientOutcome:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        return cls(data["recipient"], Disposition(data["outcome"]), data["host"], data["status"], data["reply"])


@frozen
class Retry:
    """When to try deferred mail again (RFC 5321 section 4.5.4.1).

    Attributes:
        at: the earliest time that makes sense, in UTC; counted from the end of the try, by the clock of the engine or,
            where the caller gave the time, from that.
        same_address: a server asked to come again (4xx), and may know the sender by the address that it connects from;
            another address starts the wait anew.
    """

    at: datetime
    same_address: bool = field(validator=instance_of(bool))

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"at": self.at.isoformat(), "same_address": self.same_address}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Retry:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        return cls(datetime.fromisoformat(data["at"]), data["same_address"])


@frozen(kw_only=True)
class Outcome:
    """What became of a message.

    Attributes:
        outcome: `deferred` if any recipient is, else `bounced` if any is, else `delivered`.
        at: when the try began, in UTC.
        host: the host that took the mail, or refused it for good.
        security: how secure the session was, the least secure one where there were several; None unless delivered.
        status: the RFC 3463 status code for the queue, that of the first recipient whom `outcome` is about; None where
            delivered.
        attempts: the connections made and the hosts skipped, in order.
        recipients: one entry a recipient, in the order of the message.
        retry: when to try again what is deferred.
        duplicate_possible: a server may have taken the message without our seeing its reply. It is tried again all the
            same (RFC 5321 section 3.8), which may make a second copy (section 6.1).
        cleartext_retry: hosts at which TLS failed where cleartext is allowed, and none was tried; given with the next
            try, this outcome permits it there (RFC 7672 section 2.2).
        plan: the plan that was followed.
    """

    outcome: Disposition
    at: datetime = field(converter=in_utc)
    host: str | None = None
    security: Security | None = None
    status: str | None = None
    attempts: tuple[Attempt, ...] = ()
    recipients: tuple[RecipientOutcome, ...] = ()
    retry: Retry | None = None
    duplicate_possible: bool = field(default=False, validator=instance_of(bool))
    cleartext_retry: tuple[str, ...] = ()
    plan: Plan = field(repr=False)

    @property
    def left(self) -> tuple[str, ...]:
        """The recipients that are to be tried again."""
        return tuple(entry.recipient for entry in self.recipients if entry.outcome is Disposition.DEFERRED)

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {
            "version": VERSION,
            "outcome": self.outcome,
            "at": self.at.isoformat(),
            "host": self.host,
            "security": self.security,
            "status": self.status,
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "recipients": [entry.to_json() for entry in self.recipients],
            "retry": None if self.retry is None else self.retry.to_json(),
            "duplicate_possible": self.duplicate_possible,
            "cleartext_retry": list(self.cleartext_retry),
            "plan": self.plan.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        return cls(
            outcome=Disposition(data["outcome"]),
            at=datetime.fromisoformat(data["at"]),
            host=data["host"],
            security=None if data["security"] is None else Security(data["security"]),
            status=data["status"],
            attempts=tuple(Attempt.from_json(attempt) for attempt in data["attempts"]),
            recipients=tuple(RecipientOutcome.from_json(entry) for entry in data["recipients"]),
            retry=None if data["retry"] is None else Retry.from_json(data["retry"]),
            duplicate_possible=data["duplicate_possible"],
            cleartext_retry=tuple(data["cleartext_retry"]),
            plan=Plan.from_json(data["plan"]),
        )
