"""From a finite world and its plan to what becomes of one message, at the first try and at the next.

Rules read from RFC 5321 sections 3.2, 4.2 and 5.1, RFC 3207, RFC 7672 section 2.2, RFC 8461 section 5, RFC 8689
sections 4.2 and 5, RFC 8460 section 4.3, RFC 7435 section 3, and from the numbered choices of `docs/choices.md`.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.model.decision import NOT_TO_BE_HAD, HostPlan, Plan, policy_of, wish_of
from tests.model.worlds import DOMAIN, ELSEWHERE, Chain, Server, World, alias_names, next_hop_name


class Attempt(NamedTuple):
    """One connection, or one host that the plan skips."""

    host: str
    address: str | None
    result: str
    tlsrpt: str | None
    cleartext: bool
    status: str | None


class Outcome(NamedTuple):
    outcome: str
    host: str | None
    security: str | None
    status: str | None
    attempts: tuple[Attempt, ...]
    cleartext_retry: tuple[str, ...]  # hosts at which the next try may do without TLS


# --- Certificates ----------------------------------------------------------------------------------------------------


class Certificate(NamedTuple):
    pinned: bool  # its key is that of the TLSA records
    trusted: bool  # the CA issued it
    expired: bool
    dns_ids: frozenset[str]
    common_name: str | None


def certificate(world: World, index: int, host: str, chain: Chain) -> Certificate:
    every = frozenset({host, *alias_names(world, index)})
    target = frozenset(alias_names(world, index)[-1:])
    nobody = frozenset[str]()
    return {
        "right": Certificate(True, True, False, every, None),
        "other-key": Certificate(False, True, False, every, None),
        "self-signed": Certificate(True, False, False, every, None),
        "wrong": Certificate(False, False, False, every, None),
        "elsewhere": Certificate(True, True, False, frozenset({ELSEWHERE}), None),
        "next-hop": Certificate(True, True, False, frozenset({next_hop_name(world)}), None),
        "expanded": Certificate(True, True, False, frozenset({DOMAIN}), None),
        "target": Certificate(True, True, False, target or frozenset({ELSEWHERE}), None),
        "unexpanded": Certificate(True, True, False, frozenset({host}), None),
        "common-name": Certificate(True, True, False, nobody, host),
        "expired": Certificate(True, True, True, every, None),
        "stranger": Certificate(False, True, False, frozenset({ELSEWHERE}), None),
    }[chain]


def names(shown: Certificate, *, common_name: bool) -> frozenset[str]:
    """RFC 7672 section 3.2.3: a Common Name counts only where there is no DNS-ID."""
    if shown.dns_ids or not common_name or shown.common_name is None:
        return shown.dns_ids
    return frozenset({shown.common_name})


def dane_failure(plan: HostPlan, shown: Certificate) -> str | None:
    if plan.records == "anchor":  # RFC 7672 section 3.1.2: a path to the CA, dates, a name
        if not shown.trusted:
            return "no-tlsa-match"
        if shown.expired:
            return "expired"
        return None if names(shown, common_name=True) & set(plan.dane_names) else "name-mismatch"
    # RFC 7672 section 3.1.1: the key alone
    return None if shown.pinned else "no-tlsa-match"


def pkix_failure(plan: HostPlan, shown: Certificate, *, common_name: bool) -> str | None:
    """RFC 8461 section 4.2, RFC 8689 section 4.2.1 step 4; design: expired, then name, then trust."""
    if shown.expired:
        return "expired"
    if plan.host not in names(shown, common_name=common_name):
        return "name-mismatch"
    return None if shown.trusted else "untrusted-issuer"


REPORTED = {
    # RFC 8460 section 4.3; choice 31
    "no-tlsa-match": "validation-failure",
    "expired": "certificate-expired",
    "name-mismatch": "certificate-host-mismatch",
    "untrusted-issuer": "certificate-not-trusted",
    # design, "TLSRPT types"
    "alias-lookup-failed": "dnssec-invalid",
    "tlsa-lookup-failed": "dnssec-invalid",
    "dane-required": "dane-required",
    "sts-mx-mismatch": "validation-failure",
}


def first_failure(plan: HostPlan, duties: tuple[str, ...], shown: Certificate, *, common_name: bool) -> str | None:
    """Design, "Verdict": with two duties the first that fails, DANE first."""
    for duty in duties:
        if duty == "dane" and (failure := dane_failure(plan, shown)):
            return failure
        if duty == "pkix" and (failure := pkix_failure(plan, shown, common_name=common_name)):
            return failure
    return None


# --- One session -----------------------------------------------------------------------------------------------------

STATUS = {
    # design, "Delivery"
    "connect-failed": "4.4.1",
    "starttls-absent": "4.7.4",
    "starttls-refused": "4.7.4",
    "handshake-failed": "4.7.5",
    "not-authenticated": "4.7.5",
    "requiretls-absent": "4.7.30",  # of RFC 8689 section 4.2.1, in the class of a deferral
}
WITHOUT_STATUS = {"4": "4.0.0", "5": "5.0.0"}  # choices, "Smaller ones on delivery"
LOST = "4.4.2"  # RFC 3463 section 3.5: bad connection


class Session(NamedTuple):
    result: str
    status: str | None = None
    tlsrpt: str | None = None
    cleartext: bool = False
    tls: bool = False  # the mail went, or was refused, within TLS
    failed: str | None = None  # TLS failed: `at-once` cleartext may follow now, `again` only at the next try
    alert: bool = False  # the peer ended the handshake with an alert


def transaction(server: Server, *, within_tls: bool, tls_optional: bool) -> tuple[str, str | None]:
    """The reply to the mail: result and status."""
    if server.mail == "530":
        if within_tls:
            return "delivered", None
        if tls_optional:  # RFC 8689 section 4.2.2, choice 24: returned
            return "rejected", "5.7.0"
        return "tempfailed", "4.0.0"  # choice 24: TLS may work later; 5.7.0 does not fit a deferral
    if server.mail == "250":
        return "delivered", None
    if server.mail == "450":
        return "tempfailed", WITHOUT_STATUS["4"]
    return "rejected", WITHOUT_STATUS["5"]


def session(world: World, plan: HostPlan, *, sni: str | None, in_clear: bool) -> Session:
    """One connection to one address. `in_clear`: the one without TLS that follows a failure of TLS."""
    server = world.hosts[plan.position].server
    may = plan.level == "may"
    wish = wish_of(world)
    tls_optional = wish == "tls-optional"

    if server.connect == "refused":
        return Session("connect-failed", STATUS["connect-failed"], cleartext=in_clear)
    if server.greeting // 100 != 2:  # design, "Delivery": next address
        return Session("tempfailed", WITHOUT_STATUS["4"], cleartext=in_clear)

    # EHLO (RFC 5321 sections 3.2, 4.1.4): HELO after 500 and 502; after 501, 504 and 550 where cleartext is allowed
    helo = server.ehlo in {500, 502} or (server.ehlo in {501, 504, 550} and may)
    if server.ehlo != 250 and not helo:
        return Session("tempfailed", WITHOUT_STATUS["4"], cleartext=in_clear)

    if in_clear:
        result, status = transaction(server, within_tls=False, tls_optional=tls_optional)
        return Session(result, status, cleartext=True)

    # STARTTLS
    if helo or server.starttls == "absent":
        if not may:
            return Session("starttls-absent", STATUS["starttls-absent"], "starttls-not-supported")
        result, status = transaction(server, within_tls=False, tls_optional=tls_optional)
        return Session(result, status, "starttls-not-supported", cleartext=True)
    if server.starttls == "refused":
        return Session("starttls-refused", STATUS["starttls-refused"], "starttls-not-supported", failed="at-once")
    if server.starttls == "hang-up":  # at `may` it waits for the next try; above, 4.7.4
        status = LOST if may else STATUS["starttls-refused"]
        return Session("starttls-refused", status, "starttls-not-supported", failed="again")
    alert = server.starttls == "alert" or (server.starttls == "alert-sni" and sni is not None)
    if alert or server.starttls == "broken":
        return Session(
            "handshake-failed", STATUS["handshake-failed"], "validation-failure", failed="at-once", alert=alert
        )

    # The certificate, before anything is said (RFC 3207 section 4.1)
    shown = certificate(world, plan.position, plan.host, server.chain)
    failure = first_failure(plan, plan.requires, shown, common_name=plan.common_name)
    if failure:
        return Session("not-authenticated", STATUS["not-authenticated"], REPORTED[failure])
    tlsrpt = observed(world, plan, shown)

    # EHLO within TLS: its end is a failed handshake; cleartext takes two tries in a row (choice 18)
    if server.within == "closed":
        return Session("handshake-failed", STATUS["handshake-failed"], "validation-failure", failed="again")
    if server.within == "refused":
        return Session("tempfailed", WITHOUT_STATUS["4"], tlsrpt)
    if wish == "requiretls" and (server.within == "helo-only" or not server.requiretls):
        return Session("requiretls-absent", STATUS["requiretls-absent"], tlsrpt)
    if server.within == "lost":
        return Session("tempfailed", LOST, tlsrpt, failed="again")
    result, status = transaction(server, within_tls=True, tls_optional=tls_optional)
    return Session(result, status, tlsrpt, tls=True)


def observed(world: World, plan: HostPlan, shown: Certificate) -> str | None:
    """What is told of a session that has TLS and meets every duty: the first of what holds.

    Choices 25, 30 and 31 have a report tell all of it; that the certificates come first in this one word is no more
    than a convention.
    """
    failure = first_failure(plan, plan.observe, shown, common_name=False)
    if failure:
        return REPORTED[failure]
    if plan.sts_match is False and "pkix" in plan.observe:  # choice 31
        return REPORTED["sts-mx-mismatch"]
    if plan.records == "unusable":  # choice 30: even when delivered
        return "tlsa-invalid"
    if plan.audit is not None and plan.audit[1] is not None:  # RFC 7672 section 9.1: what would have stopped the mail
        return REPORTED[plan.audit[1]]
    return None


# --- The walk --------------------------------------------------------------------------------------------------------

# RFC 8689 section 4.2.1, choice 22: what makes REQUIRETLS final
FINAL = frozenset({"starttls-absent", "starttls-refused", "handshake-failed", "not-authenticated", "requiretls-absent"})


def deliver(world: World, plan: Plan, before: tuple[str, ...] = ()) -> Outcome:
    """One try. `before`: the hosts that the try before named in `cleartext_retry`."""
    retry = world.settings.cleartext_retry
    attempts: list[Attempt] = []
    again: list[str] = []
    made, cut = 0, False
    for host in plan.hosts:
        if cut:
            break
        if host.skip:
            attempts.append(Attempt(host.host, None, "skipped", REPORTED.get(host.skip), False, None))
            continue
        cleartext_tried = False
        for address in host.addresses:
            if made == world.settings.max_attempts:  # the walk ends where it wants one more connection
                cut = True
                break

            ended = session(world, host, sni=host.sni, in_clear=False)
            made += 1
            may = host.level == "may"
            without_sni = may and ended.alert and host.sni is not None and made < world.settings.max_attempts
            if without_sni:
                # RFC 7435 section 3: once without SNI, at the same address; the first one is not told
                attempts.append(told(host, address, ended._replace(tlsrpt=None)))
                ended = session(world, host, sni=None, in_clear=False)
                made += 1
            attempts.append(told(host, address, ended))

            if may and ended.failed and not cleartext_tried and retry != "never":
                # choice 18: `now` does it at once, `later` at the next try; a lost connection takes two tries in a row
                allowed = host.host in before or (retry == "now" and ended.failed == "at-once")
                if ended.alert and host.sni is not None and not without_sni:
                    allowed = False  # that try comes first, and there is no connection left for it
                if allowed and made < world.settings.max_attempts:
                    ended = session(world, host, sni=None, in_clear=True)
                    made += 1
                    cleartext_tried = True
                    attempts.append(told(host, address, ended))
                else:
                    cut = cut or allowed
                    again = list(dict.fromkeys((*again, host.host)))

            if ended.result == "delivered":
                return Outcome("delivered", host.host, security(host, ended), None, tuple(attempts), ())
            if ended.result == "rejected":  # design, "Delivery": a 5xx to the mail ends the walk
                return Outcome("bounced", host.host, None, ended.status, tuple(attempts), ())

    if plan.undeliverable is not None:
        kind, _, status = plan.undeliverable
        outcome = {"permanent": "bounced", "transient": "deferred"}[kind]
        return Outcome(outcome, None, None, status, tuple(attempts), ())
    connections = [attempt for attempt in attempts if attempt.address]
    last = connections[-1].status
    if wish_of(world) == "requiretls" and not cut and all_final(plan, attempts):
        mode, failure = policy_of(world)
        # choice 21, RFC 8461 section 5: an enforced policy that may have a successor fails nothing for good
        if not (mode == "enforce" and failure in NOT_TO_BE_HAD):
            absent = any(attempt.result == "requiretls-absent" for attempt in attempts)
            return Outcome("bounced", None, None, "5.7.30" if absent else "5.7.10", tuple(attempts), ())
    return Outcome("deferred", None, None, last, tuple(attempts), tuple(again))


def all_final(plan: Plan, attempts: list[Attempt]) -> bool:
    """Whether every host failed for a reason that REQUIRETLS makes final (choice 22)."""
    skips = {host.skip for host in plan.hosts if host.skip}
    results = {attempt.result for attempt in attempts if attempt.address}
    return skips <= {"requiretls-unmet"} and results <= FINAL


def told(host: HostPlan, address: str, ended: Session) -> Attempt:
    return Attempt(host.host, address, ended.result, ended.tlsrpt, ended.cleartext, ended.status)


def security(host: HostPlan, ended: Session) -> str:
    """Design, "Outcome": what the session is worth."""
    if not ended.tls:
        return "cleartext"
    if not host.requires:
        return "untrusted"
    return "verified" if host.chosen else "trusted"
