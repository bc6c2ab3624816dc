"""The tables on delivery: what becomes of a message at servers that misbehave, and the rows of the automaton."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from mailtlspolicy import Config, World
from mailtlspolicy.delivery import Disposition
from mailtlspolicy.delivery.transitions import TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from mailtlspolicy import Outcome
    from mailtlspolicy.delivery import Attempt

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

Row = tuple[str, ...]


# --- Situations ------------------------------------------------------------------------------------------------------


@frozen
class Case:
    """A server that behaves like this.

    Attributes:
        shows: what it does.
        server: the same, as keys of a world.
        levels: the levels at which it can happen.
        authentic: it has the right certificate.
    """

    shows: str
    server: Mapping[str, Any] = field(factory=dict)
    levels: tuple[str, ...] = ("encrypt", "dane", "secure", "may")
    authentic: bool = True


CASES = (
    Case("no connection", {"connect": "refused"}),
    Case("a greeting of 4xx", {"greeting": "421 4.3.2 later"}),
    Case("a greeting of 5xx", {"greeting": "554 5.7.1 no"}),
    Case("the connection lost in place of the greeting", {"drop_after": "connect"}),
    Case("EHLO unknown (500, 502); HELO follows", {"replies": {"EHLO": 502}}),
    Case("EHLO not acceptable (501, 504, 550); at `may` HELO follows", {"replies": {"EHLO": "550 5.7.1 no"}}),
    Case("EHLO refused with another code", {"replies": {"EHLO": "554 5.7.1 no"}}),
    Case("STARTTLS not announced", {"starttls": "absent"}),
    Case("STARTTLS answered by another code than 220", {"starttls": "refused"}),
    Case("the connection lost in place of that reply", {"drop_after": "STARTTLS"}),
    Case("octets behind the 220", {"behind_starttls": "250 ok"}),
    Case("a handshake that fails", {"starttls": "fail"}),
    Case("a handshake that ends by an alert because of the SNI", {"sni": "strict"}),
    Case("certificates that do not satisfy", levels=("dane", "secure"), authentic=False),
    Case("the connection ended in place of the reply to EHLO in TLS", {"drop_after": "handshake"}),
    Case("EHLO in TLS refused, but by 500 or 502", {"tls": {"replies": {"EHLO": "550 5.7.1 no"}}}),
    Case("4xx to MAIL, RCPT, DATA or the message", {"mail": "451 4.3.0 later"}),
    Case("5xx to MAIL, RCPT, DATA or the message", {"mail": "554 5.6.0 no"}),
    Case("the connection lost before the last octet of the message", {"drop_after": "DATA"}),
    Case("the connection lost between that octet and the reply", {"drop_after": "."}),
)
INSISTS = {"replies": {"MAIL": "530 5.7.0 Must issue a STARTTLS command first"}}
INSISTING = (
    Case("STARTTLS not announced; then 530 to MAIL in cleartext", {"starttls": "absent"} | INSISTS),
    Case("a handshake that fails; then 530 to MAIL in cleartext", {"starttls": "fail"} | INSISTS),
)
ALERT_ANYWAY = Case("a handshake that ends by an alert, with and without SNI", {"sni": ["required", "strict"]})
GOOD = Case("nothing wrong")

POLICY = "version: STSv1\nmode: enforce\nmx: *.provider.example\nmax_age: 604800\n"
RECORD = "3 1 1 ab45da89b0f95110f8a8b07f18d4defa129bdbf5352535f66a2a495f892e9632"  # of leaf.pem


def two_hosts(case: Case, level: str, *, requiretls: bool = False) -> World:
    """client.example and its MX hosts at this level: mx1, which behaves as the case, and mx2."""
    chain = ["certificates/leaf.pem", "certificates/int.pem"]
    good = {"chain": chain, "requiretls": requiretls}
    bad = good | dict(case.server) | ({} if case.authentic else {"chain": ["certificates/leaf-mx2.pem"]})
    mx = ["@ MX 1 mx1.provider.example.", "@ MX 2 mx2.provider.example."]
    announced = ['_mta-sts TXT "v=STSv1; id=1"'] if level == "secure" else []
    hosts = ["mx1 A 192.0.2.1", "mx2 A 192.0.2.2"]
    tlsa = [f"_25._tcp.{name} TLSA {RECORD}" for name in ("mx1", "mx2") if level in {"dane", "encrypt"}]
    return World.from_json(
        {
            "now": "2026-01-01T00:00:00Z",
            "zones": {
                "client.example": {"security": "secure" if level == "dane" else "insecure", "records": mx + announced},
                "provider.example": {"security": "secure", "records": hosts + tlsa},
            },
            "https": {"mta-sts.client.example": {"content_type": "text/plain", "body": POLICY}},
            "trust": ["certificates/ta.pem"],
            "servers": {"192.0.2.1": {"25": bad}, "192.0.2.2": {"25": good}},
        },
        base=VECTORS,
    )


def sent(
    case: Case,
    level: str,
    *,
    retry: str = "now",
    alone: bool = False,
    before: Outcome | None = None,
    requiretls: bool = False,
    tls_optional: bool = False,
    recipients: tuple[str, ...] = (),
    announced: bool = True,
) -> Outcome:
    """What becomes of a message at this level; `alone` without the second host."""
    config = Config(
        insecure_mx="encrypt" if level == "encrypt" else "dane", cleartext_retry=retry, max_mx_hosts=1 if alone else 2
    )
    engine = two_hosts(case, level, requiretls=requiretls and announced).engine(config)
    outcome = engine.simulate(
        "client.example", requiretls=requiretls, tls_optional=tls_optional, recipients=recipients, before=before
    )
    planned = {str(host.level) for host in outcome.plan.usable_hosts}
    if planned != {"may" if tls_optional else level}:
        raise AssertionError(f"planned {planned} in place of {level}")
    return outcome


def code(value: object) -> str:
    """A value as literal text."""
    return f"`{value}`"


def the_same(values: Iterable[str]) -> str:
    """The value that all of them are."""
    found = set(values)
    if len(found) != 1:
        raise AssertionError(f"the levels differ: {found}")
    return found.pop()


# --- Tables ----------------------------------------------------------------------------------------------------------


def attempts() -> Iterable[Row]:
    """What an attempt ends with at each failure, and what follows."""
    yield "at the server", "result", "status", "TLSRPT result type", "then, if TLS is required", "then, at `may`"
    for case in CASES:
        required = {level: sent(case, level).attempts for level in case.levels if level != "may"}
        first = [made[0] for made in required.values()]
        tlsrpt = dict.fromkeys(code(attempt.tlsrpt) if attempt.tlsrpt else "none" for attempt in first)
        then = the_same(_then(made) for made in required.values())
        may = _then(sent(case, "may").attempts) if "may" in case.levels else "-"
        result = the_same(code(attempt.result) for attempt in first)
        yield case.shows, result, the_same(str(attempt.status) for attempt in first), " or ".join(tlsrpt), then, may


def _then(made: tuple[Attempt, ...]) -> str:
    """What follows the first of these attempts."""
    first, *others = made
    if first.cleartext:
        return "**cleartext**, same connection"
    if not others:
        return "end of the walk"
    if others[0].address != first.address:
        return "next address"
    return "**cleartext**, new connection" if others[0].cleartext else "TLS without SNI, new connection"


def outcomes() -> Iterable[Row]:
    """What becomes of the message where that is the only address."""
    yield "at the only server", "TLS required", "`may`", "TLS-Required: No", "REQUIRETLS"
    for case in (*CASES, *INSISTING):
        required = [level for level in case.levels if level != "may"]
        yield (
            case.shows,
            the_same(_end(sent(case, level, alone=True)) for level in required),
            _end(sent(case, "may", alone=True)) if "may" in case.levels else "-",
            _end(sent(case, "dane", alone=True, tls_optional=True)) if "may" in case.levels else "-",
            the_same(_end(sent(case, level, alone=True, requiretls=True)) for level in required if level != "encrypt"),
        )
    yield (
        "REQUIRETLS not announced within TLS",
        the_same(_end(sent(GOOD, level)) for level in ("encrypt", "dane", "secure")),
        _end(sent(GOOD, "may")),
        _end(sent(GOOD, "dane", tls_optional=True)),
        the_same(_end(sent(GOOD, level, requiretls=True, announced=False)) for level in ("dane", "secure")),
    )


def _end(outcome: Outcome) -> str:
    """An outcome with what it says for the next try."""
    if outcome.outcome is Disposition.DELIVERED:
        return "**delivered in cleartext**" if outcome.security == "cleartext" else "delivered"
    notes = []
    if outcome.duplicate_possible:
        notes.append("`duplicate_possible`")
    if outcome.retry is not None and outcome.retry.same_address:
        notes.append("`same_address`")
    if outcome.cleartext_retry:
        notes.append("`cleartext_retry`")
    end = f"{outcome.outcome} {outcome.status}"
    return f"{end} ({', '.join(notes)})" if notes else end


def cleartext() -> Iterable[Row]:
    """When cleartext follows a failure of TLS at level `may`, by the setting."""
    yield "at level `may`", "`now`", "`now`, next try", "`later`", "`later`, next try", "`never`"
    cases = [case for case in CASES if case.shows in _TLS_FAILURES]
    if len(cases) != len(_TLS_FAILURES):
        raise AssertionError("a case has another name")
    for case in (*cases, ALERT_ANYWAY):
        cells = []
        for retry in ("now", "later", "never"):
            outcome = sent(case, "may", retry=retry, alone=True)
            cells.append(_went(outcome))
            if retry != "never":
                cells.append(_went(sent(case, "may", retry=retry, alone=True, before=outcome)))
        yield case.shows, *cells


_TLS_FAILURES = {
    "STARTTLS not announced",
    "STARTTLS answered by another code than 220",
    "the connection lost in place of that reply",
    "a handshake that fails",
    "octets behind the 220",
    "the connection ended in place of the reply to EHLO in TLS",
    "the connection lost before the last octet of the message",
}


def _went(outcome: Outcome) -> str:
    return "cleartext" if outcome.attempts[-1].cleartext else "no"


def recipients() -> Iterable[Row]:
    """What the replies to a message with two recipients mean for each."""
    yield "replies", "first recipient", "second recipient", "the message"
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("2xx to both RCPT, 2xx to the message", {}),
        ("2xx and 550 to RCPT", {"replies": {"RCPT": [250, "550 5.1.1 unknown"]}}),
        ("2xx and 450 to RCPT", {"replies": {"RCPT": [250, "450 4.2.1 later"]}}),
        ("450 and 550 to RCPT", {"replies": {"RCPT": ["450 4.2.1 later", "550 5.1.1 unknown"]}}),
        ("2xx and 552 to RCPT: too many (RFC 5321 section 4.5.3.1.10)", {"replies": {"RCPT": [250, 552]}}),
        ("552 to both RCPT", {"replies": {"RCPT": 552}}),
        ("421 to MAIL", {"replies": {"MAIL": 421}}),
        ("554 to DATA", {"replies": {"DATA": 554}}),
        ("554 to the message", {"replies": {".": 554}}),
        ("2xx and 550 to RCPT, then 451 to the message", {"replies": {"RCPT": [250, 550], ".": 451}}),
    )
    for shows, server in cases:
        pair = ("a@client.example", "b@client.example")
        outcome = sent(Case(shows, server), "dane", alone=True, recipients=pair)
        each = [f"{entry.outcome} {entry.status or ''}".strip() for entry in outcome.recipients]
        yield shows, *each, str(outcome.outcome)


def transitions() -> Iterable[Row]:
    """The rows of the automaton."""
    yield "state", "event", "leads to", "result", "clause"
    before = None
    for (state, event), row in TRANSITIONS.items():
        permitted = f"; with `{row.permission}`: `{row.permitted}`" if row.permitted else ""
        result = code(row.result) if row.result else ""
        yield "" if state is before else code(state), code(event), code(row.to) + permitted, result, row.clause
        before = state


TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "delivery-attempts": attempts,
    "delivery-outcomes": outcomes,
    "delivery-cleartext": cleartext,
    "delivery-recipients": recipients,
    "delivery-transitions": transitions,
}
