"""The tables on TLS reports: what each situation adds to a report, and how every failure is told."""

from __future__ import annotations

import inspect
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from mailtlspolicy import Config, World, pkix
from mailtlspolicy.plan.hosts import SkipReason
from mailtlspolicy.plan.values import Skip
from mailtlspolicy.sts.discovery import MAX_REJECTED, RESULT_TYPES
from mailtlspolicy.tlsrpt import TlsrptRecord, parse_record, sessions
from mailtlspolicy.tlsrpt.aggregate import MAX_OCTETS
from mailtlspolicy.tlsrpt.attribution import MAX_TLS_ERROR
from mailtlspolicy.tlsrpt.reading import MAX_ELEMENTS, MAX_MAIL, MAX_REPORT, MAX_VALUES
from mailtlspolicy.tlsrpt.record import MAX_DESTINATIONS
from mailtlspolicy.tlsrpt.values import MAX_COUNT
from mailtlspolicy.verdict import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from mailtlspolicy import Outcome
    from mailtlspolicy.tlsrpt import FailureDetails, Judgement

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
INDEX = json.loads((VECTORS / "certificates" / "index.json").read_text("utf-8"))["certificates"]

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
RIGHT, OTHER = "leaf", "leaf-mx2"  # a certificate of the MX host, and one of another name
UNUSABLE = "1 1 1 " + "ab" * 32

Row = tuple[str, ...]


def code(value: object) -> str:
    """A value as literal text."""
    return f"`{value}`"


# --- Situations ------------------------------------------------------------------------------------------------------


@frozen
class Case:
    """A message to client.example, whose one MX host is mx1.provider.example.

    Attributes:
        shows: the situation.
        mx: the security of the MX RRset.
        tlsa: the certificate whose key the TLSA record of the host has, the text of the record, or None.
        failing: a question that fails, as "name type".
        chain: the certificate that the server presents.
        server: what else it does, as keys of a world.
        policy: the mode of the MTA-STS policy, or None.
        announced: the records that announce it.
        pattern: the MX host that it lists.
        response: what the policy host does in place of serving it.
        cached: the policy was fetched yesterday, and another one is announced.
        config: the settings.
        wishes: of the message.
    """

    shows: str
    mx: str = "secure"
    tlsa: str | None = None
    failing: str | None = None
    chain: str = RIGHT
    server: Mapping[str, Any] = field(factory=dict)
    policy: str | None = None
    announced: tuple[str, ...] = ('_mta-sts TXT "v=STSv1; id=2"',)
    pattern: str = "mx1.provider.example"
    response: Mapping[str, Any] | None = None
    cached: bool = False
    config: Config = field(factory=Config)
    wishes: Mapping[str, bool] = field(factory=dict)

    def outcome(self, before: Outcome | None = None) -> Outcome:
        """What becomes of the message, at the next try if one came before."""
        return self._world().engine(self.config).simulate("client.example", before=before, **self.wishes)

    def _world(self) -> World:
        host = ["mx1 A 192.0.2.1", *(f"_25._tcp.mx1 TLSA {text}" for text in self._records())]
        client = ["@ MX 1 mx1.provider.example.", *(self.announced if self.policy else [])]
        mode = "" if self.policy == "none" else f"mx: {self.pattern}\n"
        text = f"version: STSv1\nmode: {self.policy}\n{mode}max_age: 604800\n"
        served = self.response or {"content_type": "text/plain", "body": text}
        known = {"id": "1", "fetched": (NOW - timedelta(days=1)).isoformat(), "policy": text}
        name, _, kind = (self.failing or "").partition(" ")
        server = {"chain": [f"certificates/{self.chain}.pem", "certificates/int.pem"]} | dict(self.server)
        return World.from_json(
            {
                "now": NOW.isoformat(),
                "zones": {
                    "client.example": {"security": self.mx, "records": client},
                    "provider.example": {"security": "secure", "records": host},
                },
                "failures": [{"name": name, "type": kind, "kind": "servfail"}] if name else [],
                "https": {"mta-sts.client.example": served} if self.policy else {},
                "cache": {"client.example": known} if self.cached else {},
                "trust": ["certificates/ta.pem"],
                "servers": {"192.0.2.1": {"25": server}},
            },
            base=VECTORS,
        )

    def _records(self) -> list[str]:
        if self.tlsa is None:
            return []
        return [f"3 1 1 {INDEX[self.tlsa]['1 1']}" if self.tlsa in INDEX else self.tlsa]


ABSENT, BROKEN = {"starttls": "absent"}, {"starttls": "fail"}
NOT_FETCHED = {"error": "timeout"}
TLSA_FAILS = "_25._tcp.mx1.provider.example TLSA"

CASES = (
    Case("nothing is published; TLS, whatever the certificate", chain=OTHER),
    Case("nothing is published; STARTTLS is not announced", server=ABSENT),
    Case("nothing is published; the handshake fails, and cleartext follows", server=BROKEN),
    Case("TLSA records, and the server has the key", tlsa=RIGHT),
    Case("TLSA records, and the server has another key", tlsa=OTHER),
    Case("TLSA records; STARTTLS is not announced", tlsa=RIGHT, server=ABSENT),
    Case("TLSA records that are all unusable; TLS", tlsa=UNUSABLE),
    Case("the lookup of the TLSA records fails; the host is skipped", failing=TLSA_FAILS),
    Case("the same, and `dane` is `audit`", failing=TLSA_FAILS, config=Config(dane="audit")),
    Case("TLSA records and another key, and `dane` is `audit`", tlsa=OTHER, config=Config(dane="audit")),
    Case("no TLSA records, and `dane` is `mandatory`", config=Config(dane="mandatory")),
    Case(
        "TLSA records, an insecure MX RRset, and `insecure_mx` is `encrypt`; TLS",
        mx="insecure",
        tlsa=RIGHT,
        config=Config(insecure_mx="encrypt"),
    ),
    Case(
        "the same; STARTTLS is not announced",
        mx="insecure",
        tlsa=RIGHT,
        server=ABSENT,
        config=Config(insecure_mx="encrypt"),
    ),
    Case("a policy of mode `enforce`, fulfilled", mx="insecure", policy="enforce"),
    Case("mode `enforce`; a certificate of another name", mx="insecure", policy="enforce", chain=OTHER),
    Case("mode `enforce`; STARTTLS is not announced", mx="insecure", policy="enforce", server=ABSENT),
    Case("mode `enforce`; the policy does not list the host", mx="insecure", policy="enforce", pattern="mx.a.example"),
    Case("mode `testing`; a certificate of another name", mx="insecure", policy="testing", chain=OTHER),
    Case(
        "mode `testing`; another name, and the policy does not list the host",
        mx="insecure",
        policy="testing",
        pattern="mx.a.example",
        chain=OTHER,
    ),
    Case("mode `testing`; STARTTLS is not announced", mx="insecure", policy="testing", server=ABSENT),
    Case("mode `none`", mx="insecure", policy="none"),
    Case("TLSA records and mode `enforce`, both fulfilled", tlsa=RIGHT, policy="enforce"),
    Case(
        "TLSA records, and the server has the key; mode `enforce`, and another name",
        tlsa=OTHER,
        policy="enforce",
        chain=OTHER,
    ),
    Case("TLSA records and mode `enforce`; STARTTLS is not announced", tlsa=RIGHT, policy="enforce", server=ABSENT),
    Case("a policy is announced and can not be fetched; TLS", mx="insecure", policy="enforce", response=NOT_FETCHED),
    Case(
        "the same; STARTTLS is not announced",
        mx="insecure",
        policy="enforce",
        response=NOT_FETCHED,
        server=ABSENT,
    ),
    Case("TLSA records, fulfilled; a policy can not be fetched", tlsa=RIGHT, policy="enforce", response=NOT_FETCHED),
    Case(
        "a cached policy is fulfilled; a newer one can not be fetched",
        mx="insecure",
        policy="enforce",
        response=NOT_FETCHED,
        cached=True,
    ),
    Case("no connection", tlsa=RIGHT, server={"connect": "refused"}),
    Case(
        "the same; a policy is announced and can not be fetched",
        policy="enforce",
        response=NOT_FETCHED,
        server={"connect": "refused"},
    ),
    Case(
        "the server refuses the session before STARTTLS (a greeting or EHLO of 4xx or 5xx)",
        tlsa=RIGHT,
        server={"greeting": 554},
    ),
    Case("TLS as the policies want it; the server refuses the message", tlsa=RIGHT, server={"mail": 550}),
    Case("a message with TLS-Required: No", tlsa=OTHER, wishes={"tls_optional": True}),
    Case(
        "a message with REQUIRETLS, no TLSA records; a certificate of another name",
        chain=OTHER,
        server={"requiretls": True},
        wishes={"requiretls": True},
    ),
)

KNOWN = Case("a policy in force", mx="insecure", policy="enforce", cached=True)
RECORD_CASES = {
    "dns-error": evolve(KNOWN, failing="_mta-sts.client.example TXT"),
    "record-missing": evolve(KNOWN, announced=()),
    "record-invalid": evolve(KNOWN, announced=('_mta-sts TXT "v=STSv1; id=-"',)),
}


# --- Tables ----------------------------------------------------------------------------------------------------------


def attribution() -> Iterable[Row]:
    """What a message adds to the report of its domain, by policy."""
    yield "situation", "what is counted", "the message"
    for case in CASES:
        outcome = case.outcome()
        counted = sessions(outcome)
        if len(counted) > 1:
            raise AssertionError(f"several sessions: {case.shows}")
        judged = (judgement for session in counted for judgement in session)
        end = str(outcome.outcome) if outcome.security is None else f"{outcome.outcome}, {outcome.security}"
        yield case.shows, "; ".join(map(_counted, judged)) or "nothing", end


def _counted(judgement: Judgement) -> str:
    told = ", ".join(f"{code(each.result_type)} ({code(each.failure_reason_code)})" for each in judgement.failures)
    end = f"{code(judgement.policy.type)} {'**failure**' if judgement.failed else 'success'}"
    return f"{end}: {told}" if told else end


def reasons() -> Iterable[Row]:
    """Every failure that is told, with its result type, and the reason codes that go with it."""
    yield "what is wrong", "result type", "`failure-reason-code`", "of the policies", "mail stopped"
    grouped: dict[tuple[str, ...], list[str]] = {}
    for what, result_type, reason, policies, stopped in (*_no_tls(), *_not_accepted(), *_skipped(), *_not_had()):
        grouped.setdefault((what, result_type, policies, stopped), []).append(code(reason))
    for (what, result_type, policies, stopped), codes in grouped.items():
        yield what, code(result_type), ", ".join(codes), policies, stopped


def _no_tls() -> Iterable[Row]:
    """Why TLS does not come about."""
    cases = (
        ("STARTTLS is not announced", {"starttls": "absent"}),
        ("STARTTLS is answered by another code than 220, or not at all", {"starttls": "refused"}),
        ("the handshake fails", {"starttls": "fail"}),
        ("the server ends the connection in place of its first reply within TLS", {"drop_after": "handshake"}),
        ("octets come behind the 220", {"behind_starttls": "250 ok"}),
    )
    for shows, server in cases:
        ((judgement,),) = sessions(Case(shows, tlsa=RIGHT, server=server).outcome())
        (details,) = judgement.failures
        first = Case(shows, server=server).outcome()
        again = Case(shows, server=server).outcome(before=first)  # where it takes two tries
        stopped = "where TLS is required" if again.security else "yes"
        yield shows, *_told(details), "any", stopped
    lost = Case(
        "TLS is lost after that reply, twice in a row; cleartext follows", server={"tls": {"drop_after": "MAIL"}}
    )
    again = lost.outcome(before=lost.outcome())
    ((judgement,),) = sessions(again)
    (details,) = judgement.failures
    if not again.attempts[-1].cleartext:
        raise AssertionError("the mail did not go in cleartext")
    yield lost.shows, *_told(details), "any", "no"


def _told(details: FailureDetails) -> tuple[str, str]:
    return str(details.result_type), str(details.failure_reason_code)


def _not_accepted() -> Iterable[Row]:
    """Why a certificate is not accepted."""
    by_pkix = re.findall(r"Failure\.([A-Z_]+)", inspect.getsource(pkix))
    for failure in Failure:
        what, policies, stopped = "the certificate", code("tlsa"), "where it is enforced"
        if failure is Failure.NO_USABLE_RECORDS:
            what, stopped = "no TLSA record can be used", "no"
        elif failure.name in by_pkix:
            policies = f"{policies}, {code('sts')}"
        yield what, failure.tlsrpt, failure, policies, stopped


def _skipped() -> Iterable[Row]:
    """Why a host is skipped, on account of a policy."""
    for reason in SkipReason:
        result_type = Skip(reason).tlsrpt
        if result_type is None:
            continue
        if reason == SkipReason.STS_MX_MISMATCH:
            yield "the policy does not list the host", result_type, reason, code("sts"), "in mode `enforce`"
        else:
            yield "the host is skipped on account of DANE", result_type, reason, code("tlsa"), "the host is skipped"


def _not_had() -> Iterable[Row]:
    """Why a policy, or a newer one, can not be had."""
    for failure, result_type in RESULT_TYPES.items():
        reason = "policy-invalid: REASON" if failure == "policy-invalid" else failure
        yield "the policy can not be had", result_type, reason, code("sts"), "no"
    for word, case in RECORD_CASES.items():
        (details,) = (details for (judgement,) in sessions(case.outcome()) for details in judgement.failures)
        if details.failure_reason_code != word:
            raise AssertionError(f"{details.failure_reason_code} in place of {word}")
        yield "the record of a policy in force", *_told(details), code("sts"), "no"


def records() -> Iterable[Row]:
    """What records amount to."""
    yield "record at `_smtp._tls.client.example`", "destinations, or why it is refused"
    for text in RECORDS:
        read = parse_record([text])
        if isinstance(read, TlsrptRecord):
            yield code(text), ", ".join(code(each.target) for each in read.destinations) or "none that can be used"
        else:
            yield code(text), f"refused: {code(read.reason)}"


RECORDS = (
    "v=TLSRPTv1; rua=mailto:tls@client.example",
    "v=TLSRPTv1;rua=mailto:tls@client.example,https://client.example/tls?v=1",
    "v=TLSRPTv1; rua=mailto:tls@client.example; rua=https://client.example/tls",
    "v=TLSRPTv1; rua=MAILTO:tls%2Breports@client.example?subject=TLS",
    "v=TLSRPTv1; rua=http://client.example/tls, mailto:tls@client.example; note=1",
    "v=TLSRPTv1; rua=http://client.example/tls",
    "v=TLSRPTv1; rua=mailto:tls@client.example!10m",
    "v=TLSRPTv1; RUA=mailto:tls@client.example",
    "v=TLSRPTv1 ; rua=mailto:tls@client.example",
    "v=TLSRPTv1;; rua=mailto:tls@client.example",
)


def bounds() -> Iterable[Row]:
    """What is bounded."""
    yield "what", "bound", "beyond it"
    yield "destinations of one record", str(MAX_DESTINATIONS), "the first ones are used"
    mebibytes = f"{MAX_OCTETS // 2**20} MiB, as JSON"
    yield "the policies and failure details of a domain and day", mebibytes, "counted by type alone"
    yield "the text of a policy that is invalid", f"{MAX_REJECTED} octets", "cut"
    yield "a count", str(MAX_COUNT), "it stays there, the most that I-JSON has"
    yield "the TLS library's name of an error", f"{MAX_TLS_ERROR} characters", "cut"
    mebibytes = f"{MAX_REPORT // 2**20} MiB, before and after decompression"
    yield "a report that is read", mebibytes, f"unreadable: {code('too-large')}"
    yield "its policies, failure details, texts in lists, and objects", str(MAX_ELEMENTS), "likewise"
    yield "its values, whatever they are", str(MAX_VALUES), "likewise, before it is parsed"
    yield "a mail that is read", f"{MAX_MAIL // 2**20} MiB", "likewise"


TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "report-attribution": attribution,
    "report-reasons": reasons,
    "report-records": records,
    "report-bounds": bounds,
}
