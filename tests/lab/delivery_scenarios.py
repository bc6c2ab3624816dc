"""The scenarios of delivery: what becomes of a message, by us and by Postfix's own smtp(8).

Every expectation of ours is derived from the cited clauses by hand. The scenarios of `scenarios` take part too: what
becomes of a message there follows from what is said there of every host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import ANY

from attrs import field, frozen

from tests.lab.scenarios import CLEARTEXT, ONE_HOST, SCENARIOS, TRUSTED, UNTRUSTED, VERIFIED, Scene, Server
from tests.lab.servers import Manners

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.lab.scenarios import Host, Scenario

DELIVERED, DEFERRED, BOUNCED = "delivered", "deferred", "bounced"
ANONYMOUS = "anonymous"
"""Postfix's word for TLS without certificates, which we do not do."""


@frozen
class Attempt:
    """One connection of ours, or a host that is skipped.

    Attributes:
        server: the label of the server; None for a skipped host.
        result: how it ended.
        status: the RFC 3463 code; `ANY` where none is better than another.
        cleartext: it was in cleartext, at least in the end.
    """

    server: str | None
    result: str
    status: str | None = None
    cleartext: bool = False


@frozen
class Fate:
    """What became of a message.

    Attributes:
        outcomes: of every recipient.
        security: of the session that took it, None where none did.
        asked: the servers that were connected to, by label, in the order in which they first were.
    """

    outcomes: tuple[str, ...]
    security: str | None
    asked: tuple[str, ...]


@frozen
class Delivery(Scene):
    """A scene, and what becomes of a message to its next-hop.

    Attributes:
        attempts: ours, in order.
        outcomes: of every recipient, by us.
        security: of the session that took the message.
        duplicate_possible: a server may have taken the message although it is deferred.
    """

    attempts: tuple[Attempt, ...]
    outcomes: tuple[str, ...] = field(default=(DEFERRED,), kw_only=True)
    security: str | None = field(default=None, kw_only=True)
    duplicate_possible: bool = field(default=False, kw_only=True)

    @property
    def fate(self) -> Fate:
        """What becomes of the message by us."""
        return Fate(self.outcomes, self.security, _answering(self, [attempt.server for attempt in self.attempts]))


def _answering(scene: Scene, labels: Iterable[str | None]) -> tuple[str, ...]:
    """The servers where something listens, each once."""
    servers = scene.servers
    return tuple(dict.fromkeys(label for label in labels if label and servers[label].starttls != "down"))


# ---------------------------------------------------------------- by check

_STATUS = {
    "connect-failed": "4.4.1",
    "starttls-absent": "4.7.4",
    "starttls-refused": "4.7.4",
    "handshake-failed": "4.7.5",
    "not-authenticated": "4.7.5",
}
_PERMANENT = {"null-mx", "no-such-domain"}  # of what makes a next-hop undeliverable
_NO_HOST = {"no-addresses", "invalid-host"}  # "no-hosts" is permanent where this is all that is wrong


def _attempt(scenario: Scenario, host: Host) -> Attempt:
    if host.skip is not None:
        return Attempt(None, "skipped")
    server = host.host if host.host in scenario.servers else "mx"
    if host.security is not None:
        return Attempt(server, DELIVERED, cleartext=host.security == CLEARTEXT)
    return Attempt(server, host.result, _STATUS[host.result])


def of_check(scenario: Scenario) -> Delivery:
    """What becomes of a message where a check says what it says: the first host that passes takes it."""
    attempts, security, outcome = [], None, DEFERRED
    for host in scenario.hosts:
        attempts.append(_attempt(scenario, host))
        if host.security is not None:
            outcome, security = DELIVERED, host.security
            break
    skips = {host.skip for host in scenario.hosts}
    if scenario.undeliverable in _PERMANENT or (scenario.undeliverable == "no-hosts" and skips <= _NO_HOST):
        outcome = BOUNCED
    return Delivery(
        scenario.name,
        scenario.shows,
        scenario.clauses,
        tuple(attempts),
        signed=scenario.signed,
        plain=scenario.plain,
        next_hop=scenario.next_hop,
        servers=scenario.servers,
        settings=scenario.settings,
        outcomes=(outcome,),
        security=security,
    )


# ---------------------------------------------------------------- by itself

EE = ONE_HOST + "_25._tcp.mx TLSA {mx:3 1 1}"
"""One host that has to be authenticated."""
UNUSABLE = ONE_HOST + "_25._tcp.mx TLSA {mx:1 1 1}"
"""One host that has to be encrypted to."""
TWO_HOSTS = "@ MX 10 one\n@ MX 20 two\none A {one}\ntwo A {two}\n"
TWO_EE = TWO_HOSTS + "_25._tcp.one TLSA {one:3 1 1}\n_25._tcp.two TLSA {two:3 1 1}"


def _server(starttls: str = "ok", *, drop_after: str | None = None, **replies: str | tuple[str, ...]) -> Server:
    """A server with manners; END stands for the reply to the message itself."""
    verbs = {{"END": "."}.get(verb, verb): reply for verb, reply in replies.items()}
    return Server(starttls=starttls, manners=Manners(verbs, drop_after))


def took(server: str = "mx", *, cleartext: bool = False) -> Attempt:
    """It took the message for a recipient at least."""
    return Attempt(server, DELIVERED, cleartext=cleartext)


def tempfailed(status: str, server: str = "mx", *, cleartext: bool = False) -> Attempt:
    return Attempt(server, "tempfailed", status, cleartext)


def rejected(status: str, server: str = "mx", *, cleartext: bool = False) -> Attempt:
    return Attempt(server, "rejected", status, cleartext)


def no_tls(result: str, server: str = "mx") -> Attempt:
    """There was no TLS, or none that would do."""
    return Attempt(server, result, _STATUS[result])


DELIVERIES = (
    # ---------------------------------------------------------------- no TLS at level may
    Delivery(
        "may-starttls-refused",
        "STARTTLS is refused where TLS is optional: cleartext.",
        ("RFC7672-2.2-j", "RFC7672-2.2-a", "RFC3207-4-c"),
        (no_tls("starttls-refused"), took(cleartext=True)),
        signed=ONE_HOST,
        servers={"mx": Server(starttls="refused")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "may-starttls-501",
        "STARTTLS is refused for good where TLS is optional: the same.",
        ("RFC7672-2.2-j", "RFC3207-4-b"),
        (no_tls("starttls-refused"), took(cleartext=True)),
        signed=ONE_HOST,
        servers={"mx": _server(STARTTLS="501 5.5.4 no parameters allowed")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "may-starttls-250",
        "STARTTLS is answered with 250 in place of 220, and TLS would follow: only 220 permits the handshake.",
        ("RFC3207-4-b", "RFC7672-2.2-j"),
        (no_tls("starttls-refused"), took(cleartext=True)),
        signed=ONE_HOST,
        servers={"mx": _server(STARTTLS="250 2.0.0 go ahead")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "may-starttls-dropped",
        "The server hangs up on STARTTLS where TLS is optional: a lost connection, as anywhere.",
        ("RFC7672-2.2-j", "RFC7672-2.2-k"),
        (Attempt("mx", "starttls-refused", "4.4.2"),),
        signed=ONE_HOST,
        servers={"mx": _server(drop_after="STARTTLS")},
    ),
    Delivery(
        "may-starttls-dropped-then-next",
        "The preferred of two hosts hangs up on STARTTLS where TLS is optional: the other gets the message by TLS.",
        ("RFC7672-2.2-j", "RFC5321-5.1-o"),
        (Attempt("one", "starttls-refused", "4.4.2"), took("two")),
        signed=TWO_HOSTS,
        servers={"one": _server(drop_after="STARTTLS"), "two": Server()},
        outcomes=(DELIVERED,),
        security=UNTRUSTED,
    ),
    Delivery(
        "may-sni-refused",
        "The server ends the handshake because of the SNI where TLS is optional: TLS without it.",
        ("RFC7435-3-a", "RFC7672-8.1-h"),
        (no_tls("handshake-failed"), took()),
        signed=ONE_HOST,
        servers={"mx": Server(refuses_sni=True)},
        outcomes=(DELIVERED,),
        security=UNTRUSTED,
    ),
    Delivery(
        "dane-sni-refused",
        "The server ends the handshake because of the SNI where there are TLSA records, which prescribe it.",
        ("RFC7672-8.1-a", "RFC7672-8.1-h"),
        (no_tls("handshake-failed"),),
        signed=EE,
        servers={"mx": Server(refuses_sni=True)},
    ),
    Delivery(
        "may-handshake-failed",
        "The handshake fails where TLS is optional: cleartext.",
        ("RFC7672-2.2-j", "RFC7672-2.2-k"),
        (no_tls("handshake-failed"), took(cleartext=True)),
        signed=ONE_HOST,
        servers={"mx": Server(starttls="fail")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "may-handshake-failed-later",
        "The handshake fails where TLS is optional, and cleartext has to wait for the next try.",
        ("RFC7672-2.2-k", "RFC3207-6-g"),
        (no_tls("handshake-failed"),),
        signed=ONE_HOST,
        servers={"mx": Server(starttls="fail")},
        settings=("cleartext_retry=later",),
    ),
    Delivery(
        "may-handshake-failed-then-next",
        "The handshake fails with the preferred of two hosts where TLS is optional: it gets the message in cleartext.",
        ("RFC7672-2.2-j", "RFC7672-2.2-k", "RFC5321-5.1-r"),
        (no_tls("handshake-failed", "one"), took("one", cleartext=True)),
        signed=TWO_HOSTS,
        servers={"one": Server(starttls="fail"), "two": Server()},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "may-handshake-failed-then-next-later",
        "The same where cleartext has to wait: the other host gets the message by TLS.",
        ("RFC7672-2.2-k", "RFC5321-5.1-o"),
        (no_tls("handshake-failed", "one"), took("two")),
        signed=TWO_HOSTS,
        servers={"one": Server(starttls="fail"), "two": Server()},
        settings=("cleartext_retry=later",),
        outcomes=(DELIVERED,),
        security=UNTRUSTED,
    ),
    Delivery(
        "may-handshake-failed-530",
        "After a failed handshake the server refuses mail in cleartext: TLS may work later.",
        ("RFC7672-2.2-k", "RFC3207-4-f", "RFC3207-6-h"),
        (no_tls("handshake-failed"), tempfailed("4.0.0", cleartext=True)),
        signed=ONE_HOST,
        servers={"mx": _server("fail", MAIL="530 5.7.0 must issue a STARTTLS command first")},
    ),
    Delivery(
        "may-530-without-starttls",
        "A server demands TLS and does not announce it: somebody may have taken the announcement out.",
        ("RFC3207-6-c", "RFC3207-6-h", "RFC3207-4-f"),
        (tempfailed("4.0.0", cleartext=True),),
        signed=ONE_HOST,
        servers={"mx": _server("absent", MAIL="530 5.7.0 must issue a STARTTLS command first")},
    ),
    Delivery(
        "may-any-certificate",
        "Where TLS is optional any certificate will do.",
        ("RFC7672-2.2-j", "RFC7671-4.1-c"),
        (took(),),
        signed=ONE_HOST,
        servers={"mx": Server(names=("elsewhere.invalid.",), issuer=None, sends=(), expired=True)},
        outcomes=(DELIVERED,),
        security=UNTRUSTED,
    ),
    Delivery(
        "may-anonymous",
        "A server that has nothing but anonymous cipher suites, where TLS is optional.",
        ("RFC7672-8.2-b", "RFC7672-8.2-a", "RFC7672-2.2-j"),
        (no_tls("handshake-failed"), took(cleartext=True)),
        signed=ONE_HOST,
        servers={"mx": Server(ciphers="aNULL:@SECLEVEL=0")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "may-injected",
        "Octets behind the reply to STARTTLS: an attack, which cleartext is not the answer to.",
        ("RFC3207-4-h", "RFC3207-6-i"),
        (no_tls("handshake-failed"),),
        signed=ONE_HOST,
        servers={"mx": _server(STARTTLS="220 2.0.0 go ahead\r\n250 2.0.0 injected")},
    ),
    Delivery(
        "may-lost-in-tls",
        "The server ends the connection in place of its first reply within TLS: a failed handshake, and deferred.",
        ("RFC7672-2.2-k", "RFC8460-4.3.3-a", "RFC5321-4.5.4.1-a"),
        (no_tls("handshake-failed"),),
        signed=ONE_HOST,
        servers={"mx": Server(tls_manners=Manners(drop_after="EHLO"))},
    ),
    # ---------------------------------------------------------------- no TLS where it is required
    Delivery(
        "encrypt-starttls-refused",
        "STARTTLS is refused where all TLSA records are unusable: never cleartext.",
        ("RFC7672-2.2-i", "RFC7671-10.3-g"),
        (no_tls("starttls-refused"),),
        signed=UNUSABLE,
        servers={"mx": Server(starttls="refused")},
    ),
    Delivery(
        "encrypt-handshake-failed",
        "The handshake fails where all TLSA records are unusable: never cleartext.",
        ("RFC7672-2.2-i", "RFC7671-10.3-g"),
        (no_tls("handshake-failed"),),
        signed=UNUSABLE,
        servers={"mx": Server(starttls="fail")},
    ),
    Delivery(
        "dane-starttls-dropped",
        "The server hangs up on STARTTLS where there are TLSA records: never cleartext.",
        ("RFC7672-2.2-d", "RFC7672-2.2-f"),
        (no_tls("starttls-refused"),),
        signed=EE,
        servers={"mx": _server(drop_after="STARTTLS")},
    ),
    Delivery(
        "dane-starttls-250",
        "STARTTLS is answered with 250 in place of 220, and TLS with the right certificate would follow.",
        ("RFC3207-4-b",),
        (no_tls("starttls-refused"),),
        signed=EE,
        servers={"mx": _server(STARTTLS="250 2.0.0 go ahead")},
    ),
    Delivery(
        "dane-injected",
        "Octets behind the reply to STARTTLS where there are TLSA records.",
        ("RFC3207-4-h", "RFC3207-6-i"),
        (no_tls("handshake-failed"),),
        signed=EE,
        servers={"mx": _server(STARTTLS="220 2.0.0 go ahead\r\n250 2.0.0 injected")},
    ),
    Delivery(
        "dane-anonymous",
        "A server that has nothing but anonymous cipher suites can not be authenticated.",
        ("RFC7672-8.2-a", "RFC7672-2.2-f"),
        (no_tls("handshake-failed"),),
        signed=EE,
        servers={"mx": Server(ciphers="aNULL:@SECLEVEL=0")},
    ),
    Delivery(
        "three-hosts",
        "Of three hosts one has the wrong key and one no STARTTLS; the third gets the message.",
        ("RFC7672-2.2-f", "RFC7672-2.2.1-a", "RFC5321-5.1-o"),
        (no_tls("not-authenticated", "one"), no_tls("starttls-absent", "two"), took("three")),
        signed=TWO_HOSTS + "@ MX 30 three\nthree A {three}\n_25._tcp.one TLSA {stranger:3 1 1}\n"
        "_25._tcp.two TLSA {two:3 1 1}\n_25._tcp.three TLSA {intermediate:2 0 1}",
        servers={"one": Server(), "two": Server(starttls="absent"), "three": Server(names=("three",))},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "second-without-dane",
        "The first host has the wrong key; the second has no TLSA records, and gets the message.",
        ("RFC7672-2.2-f", "RFC7672-2.2-j", "RFC7672-2.2.1-p"),
        (no_tls("not-authenticated", "one"), took("two")),
        signed=TWO_HOSTS + "_25._tcp.one TLSA {stranger:3 1 1}",
        servers={"one": Server(), "two": Server()},
        outcomes=(DELIVERED,),
        security=UNTRUSTED,
    ),
    Delivery(
        "second-without-starttls",
        "The first host has the wrong key; the second has neither TLSA records nor STARTTLS, and gets the message.",
        ("RFC7672-2.2-f", "RFC7672-2.2-j", "RFC7672-2.2.1-p"),
        (no_tls("not-authenticated", "one"), took("two", cleartext=True)),
        signed=TWO_HOSTS + "_25._tcp.one TLSA {stranger:3 1 1}",
        servers={"one": Server(), "two": Server(starttls="absent")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "trusted-refuses",
        "A signed host behind an insecure MX RRset is authenticated, and refuses the recipient.",
        ("RFC7672-2.2.1-k", "RFC5321-4.2.1-a"),
        (rejected("5.1.1"),),
        plain="@ MX 10 mx.{signed}",
        signed="mx A {mx}\n_25._tcp.mx TLSA {mx:3 1 1}",
        next_hop="{plain}",
        servers={"mx": _server(RCPT="550 5.1.1 nobody here")},
        outcomes=(BOUNCED,),
    ),
    # ---------------------------------------------------------------- before EHLO
    Delivery(
        "address-down-then-next",
        "Nothing listens at the first address of the host: the second is tried.",
        ("RFC5321-5.1-o", "RFC5321-5.1-t"),
        (no_tls("connect-failed", "one"), took("two")),
        signed="@ MX 10 mx\nmx A {one}\nmx A {two}\n_25._tcp.mx TLSA {intermediate:2 0 1}",
        servers={"one": Server(starttls="down"), "two": Server()},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "host-down-then-next",
        "Nothing listens at the preferred host: the other gets the message.",
        ("RFC5321-5.1-o", "RFC5321-5.1-r"),
        (no_tls("connect-failed", "one"), took("two")),
        signed=TWO_EE,
        servers={"one": Server(starttls="down"), "two": Server()},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "greeting-421",
        "The server has no time.",
        ("RFC5321-4.2.1-b", "RFC5321-4.5.4.1-a"),
        (tempfailed("4.3.2"),),
        signed=EE,
        servers={"mx": _server(connect="421 4.3.2 come back later")},
    ),
    Delivery(
        "greeting-554",
        "The server refuses to speak SMTP at all: that is said of it, and not of the message.",
        ("RFC5321-4.2.1-a", "RFC5321-5.1-o"),
        (tempfailed("4.0.0"),),
        signed=EE,
        servers={"mx": _server(connect="554 5.7.1 no mail here")},
    ),
    Delivery(
        "greeting-554-then-next",
        "The preferred host refuses to speak SMTP: the other gets the message.",
        ("RFC5321-5.1-o",),
        (tempfailed("4.0.0", "one"), took("two")),
        signed=TWO_EE,
        servers={"one": _server(connect="554 5.7.1 no mail here"), "two": Server()},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "greeting-dropped",
        "The server hangs up in place of a greeting.",
        ("RFC5321-4.5.4.1-a",),
        (tempfailed("4.4.2"),),
        signed=EE,
        servers={"mx": _server(drop_after="connect")},
    ),
    Delivery(
        "greeting-of-ssh",
        "What answers is no SMTP server.",
        ("RFC5321-4.5.4.1-a", "RFC5321-5.1-o"),
        (tempfailed("4.4.2"),),
        signed=EE,
        servers={"mx": _server(connect="SSH-2.0-OpenSSH_9.2")},
    ),
    # ---------------------------------------------------------------- EHLO
    Delivery(
        "helo-only",
        "A server of old that does not know EHLO, where TLS is optional.",
        ("RFC7672-2.2-j", "RFC5321-4.2.1-a"),
        (took(cleartext=True),),
        signed=ONE_HOST,
        servers={"mx": _server(EHLO="502 5.5.1 what?")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "helo-only-dane",
        "A server that does not know EHLO knows no STARTTLS.",
        ("RFC7672-2.2-c", "RFC7672-2.2-f"),
        (no_tls("starttls-absent"),),
        signed=EE,
        servers={"mx": _server(EHLO="500 5.5.1 what?")},
    ),
    Delivery(
        "ehlo-421",
        "The server has no time.",
        ("RFC5321-4.2.1-b",),
        (tempfailed("4.3.2"),),
        signed=ONE_HOST,
        servers={"mx": _server(EHLO="421 4.3.2 come back later")},
    ),
    Delivery(
        "ehlo-451",
        "EHLO is refused for now.",
        ("RFC5321-4.2.1-b", "RFC5321-4.2.1-c"),
        (tempfailed("4.7.1"),),
        signed=ONE_HOST,
        servers={"mx": _server(EHLO="451 4.7.1 who are you?")},
    ),
    Delivery(
        "ehlo-550",
        "EHLO is not acceptable where TLS is optional: HELO is.",
        ("RFC5321-4.1.4-a", "RFC7672-2.2-j"),
        (took(cleartext=True),),
        signed=ONE_HOST,
        servers={"mx": _server(EHLO="550 5.7.1 not you")},
        outcomes=(DELIVERED,),
        security=CLEARTEXT,
    ),
    Delivery(
        "dane-ehlo-550",
        "EHLO is not acceptable where TLS is required: the session is refused.",
        ("RFC5321-4.1.4-a", "RFC7672-2.2-f"),
        (tempfailed("4.0.0"),),
        signed=EE,
        servers={"mx": _server(EHLO="550 5.7.1 not you")},
    ),
    Delivery(
        "ehlo-554",
        "EHLO is refused, and not because it is not acceptable.",
        ("RFC5321-4.2.1-a", "RFC5321-5.1-o"),
        (tempfailed("4.0.0"),),
        signed=ONE_HOST,
        servers={"mx": _server(EHLO="554 5.7.1 no service here")},
    ),
    Delivery(
        "ehlo-refused-in-tls",
        "EHLO is refused within TLS.",
        ("RFC5321-4.2.1-a", "RFC5321-5.1-o"),
        (tempfailed("4.0.0"),),
        signed=EE,
        servers={"mx": Server(tls_manners=Manners({"EHLO": "554 5.7.0 not safe enough"}))},
    ),
    Delivery(
        "helo-only-in-tls",
        "EHLO is not known any more within TLS; HELO is.",
        ("RFC3207-6-i", "RFC5321-4.2.1-a"),
        (took(),),
        signed=EE,
        servers={"mx": Server(tls_manners=Manners({"EHLO": "502 5.5.1 what?"}))},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    # ---------------------------------------------------------------- replies to the mail
    *(
        Delivery(
            f"{name}-{reply[:3]}",
            f"{where} is answered with {reply[:3]}.",
            ("RFC5321-4.2.1-b",) if reply[0] == "4" else ("RFC5321-4.2.1-a",),
            (tempfailed(reply[4:9]) if reply[0] == "4" else rejected(reply[4:9]),),
            signed=EE,
            servers={"mx": _server(**{verb: reply})},
            outcomes=(DEFERRED if reply[0] == "4" else BOUNCED,),
        )
        for name, where, verb, replies in (
            ("mail", "MAIL", "MAIL", ("450 4.7.1 later", "550 5.7.1 never")),
            ("rcpt", "RCPT", "RCPT", ("450 4.2.1 later", "550 5.1.1 nobody")),
            ("data", "DATA", "DATA", ("451 4.3.0 later", "554 5.5.1 never")),
            ("end", "The message", "END", ("452 4.3.1 later", "554 5.6.0 never")),
        )
        for reply in replies
    ),
    Delivery(
        "mail-421",
        "The server has no time any more: it says so to MAIL.",
        ("RFC5321-4.2.1-b",),
        (tempfailed("4.3.2"),),
        signed=EE,
        servers={"mx": _server(MAIL="421 4.3.2 come back later")},
    ),
    Delivery(
        "mail-354",
        "MAIL is answered with a code of the class that asks for more.",
        ("RFC5321-4.2.1-a", "RFC5321-4.5.4.1-a"),
        (tempfailed("4.5.0"),),
        signed=EE,
        servers={"mx": _server(MAIL="354 go ahead")},
    ),
    Delivery(
        "data-250",
        "DATA is answered with a code of the class that is done.",
        ("RFC5321-4.2.1-a", "RFC5321-4.5.4.1-a"),
        (tempfailed("4.5.0"),),
        signed=EE,
        servers={"mx": _server(DATA="250 2.0.0 fine")},
    ),
    Delivery(
        "rcpt-450-then-next",
        "The preferred host does not take the recipient now: the other does.",
        ("RFC5321-5.1-o", "RFC5321-4.2.1-b"),
        (tempfailed("4.2.1", "one"), took("two")),
        signed=TWO_EE,
        servers={"one": _server(RCPT="450 4.2.1 later"), "two": Server()},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "rcpt-450-then-550",
        "The preferred host does not take the recipient now, and the other never.",
        ("RFC5321-5.1-o", "RFC5321-4.2.1-d"),
        (tempfailed("4.2.1", "one"), rejected("5.1.1", "two")),
        signed=TWO_EE,
        servers={"one": _server(RCPT="450 4.2.1 later"), "two": _server(RCPT="550 5.1.1 nobody")},
        outcomes=(BOUNCED,),
    ),
    Delivery(
        "rcpt-550-then-none",
        "The preferred host refuses the recipient for good: the other, which would take it, is not asked.",
        ("RFC5321-4.2.1-a", "RFC5321-4.2.1-d"),
        (rejected("5.1.1", "one"),),
        signed=TWO_EE,
        servers={"one": _server(RCPT="550 5.1.1 nobody"), "two": Server()},
        outcomes=(BOUNCED,),
    ),
    Delivery(
        "end-452-then-next",
        "The preferred host has no room for the message: the other has.",
        ("RFC5321-5.1-o", "RFC5321-4.2.1-b"),
        (tempfailed("4.3.1", "one"), took("two")),
        signed=TWO_EE,
        servers={"one": _server(END="452 4.3.1 no room"), "two": Server()},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "three-recipients",
        "Of three recipients one is taken, one refused for good and one for now.",
        ("RFC5321-4.2.1-a", "RFC5321-4.5.4.1-j"),
        (took(),),
        signed=EE,
        servers={"mx": _server(RCPT=("250 2.1.5 taken", "550 5.1.1 nobody", "450 4.2.1 later"))},
        outcomes=(DELIVERED, BOUNCED, DEFERRED),
        security=VERIFIED,
    ),
    Delivery(
        "three-recipients-two-hosts",
        "Of three recipients the preferred host takes one and refuses one; the other host gets what is left.",
        ("RFC5321-5.1-o", "RFC5321-4.5.4.1-j"),
        (took("one"), took("two")),
        signed=TWO_EE,
        servers={"one": _server(RCPT=("250 2.1.5 taken", "550 5.1.1 nobody", "450 4.2.1 later")), "two": Server()},
        outcomes=(DELIVERED, BOUNCED, DELIVERED),
        security=VERIFIED,
    ),
    Delivery(
        "three-recipients-end-452",
        "All of those recipients that were taken share the fate of the message.",
        ("RFC5321-4.2.1-b", "RFC5321-4.2.1-a"),
        (tempfailed("4.3.1"),),
        signed=EE,
        servers={"mx": _server(RCPT=("250 2.1.5 taken", "550 5.1.1 nobody", "250 2.1.5 taken"), END="452 4.3.1 no")},
        outcomes=(DEFERRED, BOUNCED, DEFERRED),
    ),
    Delivery(
        "three-recipients-421",
        "The server refuses the second recipient for good, and says in the same breath that it will hear no more.",
        ("RFC5321-4.2.1-a", "RFC5321-4.2.1-d", "RFC5321-4.5.4.1-a"),
        (tempfailed(ANY),),
        signed=EE,
        servers={"mx": _server(RCPT=("250 2.1.5 taken", "550 5.1.1 nobody\r\n421 4.7.0 too many errors"))},
        outcomes=(DEFERRED, BOUNCED, DEFERRED),
    ),
    Delivery(
        "rcpt-552",
        "The second recipient is one too many: it has to wait, whatever class the code is of.",
        ("RFC5321-4.5.4.1-k", "RFC5321-4.2.1-c"),
        (took(),),
        signed=EE,
        servers={"mx": _server(RCPT=("250 2.1.5 taken", "552 5.5.3 too many recipients"))},
        outcomes=(DELIVERED, DEFERRED),
        security=VERIFIED,
    ),
    # ---------------------------------------------------------------- lost connections
    *(
        Delivery(
            f"{name}-dropped",
            f"The server hangs up on {verb}.",
            ("RFC5321-4.5.4.1-a",),
            (tempfailed("4.4.2"),),
            signed=EE,
            servers={"mx": _server(drop_after=verb)},
        )
        for name, verb in (("mail", "MAIL"), ("rcpt", "RCPT"), ("data", "DATA"))
    ),
    Delivery(
        "rcpt-dropped-then-next",
        "The preferred host hangs up on RCPT: the other gets the message.",
        ("RFC5321-5.1-o",),
        (tempfailed("4.4.2", "one"), took("two")),
        signed=TWO_EE,
        servers={"one": _server(drop_after="RCPT"), "two": Server()},
        outcomes=(DELIVERED,),
        security=VERIFIED,
    ),
    Delivery(
        "end-dropped",
        "The server hangs up on the whole message.",
        ("RFC5321-4.5.4.1-a",),
        (tempfailed("4.4.2"),),
        signed=EE,
        servers={"mx": _server(drop_after=".")},
        duplicate_possible=True,
    ),
    Delivery(
        "end-dropped-then-none",
        "The preferred host hangs up on the whole message, which it may have taken: the other does not get it as well.",
        ("RFC5321-5.1-o", "RFC5321-4.5.4.1-b"),
        (tempfailed("4.4.2", "one"),),
        signed=TWO_EE,
        servers={"one": _server(drop_after="."), "two": Server()},
        duplicate_possible=True,
    ),
)

ALL = (*map(of_check, SCENARIOS), *DELIVERIES)


# ---------------------------------------------------------------- the next try


@frozen
class NextTry:
    """What follows where a message was deferred because TLS failed, and the retry in cleartext is due by now.

    Attributes:
        attempts: ours, after those of the first try.
        fate: what becomes of the message by us.
        by_postfix: the same by Postfix, where it does otherwise.
    """

    attempts: tuple[Attempt, ...]
    fate: Fate
    by_postfix: Fate | None = None


_IN_CLEAR = Fate((DELIVERED,), CLEARTEXT, ("mx",))
NEXT_TRIES = {
    "may-handshake-failed-later": NextTry((no_tls("handshake-failed"), took(cleartext=True)), _IN_CLEAR),
    "may-lost-in-tls": NextTry((no_tls("handshake-failed"), took(cleartext=True)), _IN_CLEAR),
    "may-starttls-dropped": NextTry(  # Postfix takes it for a connection lost anywhere, and never does without TLS
        (Attempt("mx", "starttls-refused", "4.4.2"), took(cleartext=True)), _IN_CLEAR, Fate((DEFERRED,), None, ("mx",))
    ),
    "encrypt-handshake-failed": NextTry((no_tls("handshake-failed"),), Fate((DEFERRED,), None, ("mx",))),
    "handshake-failed": NextTry((no_tls("handshake-failed"),), Fate((DEFERRED,), None, ("mx",))),
}
"""By the name of the scenario; Postfix agrees in all but one (RFC 7672 section 2.2, clauses a, f, i and k)."""


# ---------------------------------------------------------------- where Postfix differs


@frozen
class Disagreement:
    """Where Postfix does otherwise.

    Attributes:
        clause: what settles it.
        difference: what Postfix does.
        fate: what becomes of the message by Postfix.
    """

    clause: str
    difference: str
    fate: Fate


def _delivered(security: str, *asked: str) -> Fate:
    return Fate((DELIVERED,), security, asked or ("mx",))


def _deferred(*asked: str) -> Fate:
    return Fate((DEFERRED,), None, asked)


def _bounced(*asked: str) -> Fate:
    return Fate((BOUNCED,), None, asked)


DISAGREEMENTS = {
    "dname-to-unsigned": Disagreement(
        "RFC7672-2.1.3-h",
        "Postfix asks for the alias that the DNAME makes, which Unbound answers with SERVFAIL; we ask for the DNAME.",
        _deferred(),
    ),
    "insecure-mx-next-hop-name": Disagreement(
        "RFC7672-3.2.2-e",
        "Postfix accepts the next-hop domain in the certificate although the MX RRset was insecure.",
        _delivered(TRUSTED),
    ),
    "implicit-mx-alias": Disagreement(
        "RFC7672-3.2.2-f",
        "Postfix does not accept the original next-hop of an aliased domain without MX records.",
        _deferred("mx"),
    ),
    "null-mx-beside-host": Disagreement(
        "RFC7505-3-d",
        "Postfix takes a root exchange beside an MX host for a null MX; the RFC leaves it open, and we drop it.",
        _bounced(),
    ),
    "numeric-mx": Disagreement(
        "RFC5321-5.1-l",
        "Postfix connects to the address that the MX record names; we do not, and DANE applies to neither.",
        _deferred(),
    ),
    "may-starttls-250": Disagreement(
        "RFC3207-4-b",
        "Postfix starts the handshake after any reply of class 2.",
        _delivered(UNTRUSTED),
    ),
    "dane-starttls-250": Disagreement(
        "RFC3207-4-b",
        "Postfix starts the handshake after any reply of class 2.",
        _delivered(VERIFIED),
    ),
    "may-handshake-failed": Disagreement(
        "RFC7672-2.2-k",
        "Postfix waits with the retry in cleartext (`minimal_backoff_time`), as we do with `cleartext_retry=later`.",
        _deferred("mx"),
    ),
    "may-handshake-failed-then-next": Disagreement(
        "RFC7672-2.2-k",
        "Postfix waits with the retry in cleartext, and so gets to the other host first.",
        _delivered(UNTRUSTED, "one", "two"),
    ),
    "may-anonymous": Disagreement(
        "RFC7672-8.2-b",
        "Postfix offers anonymous cipher suites at level `may`; we do not, and resort to cleartext.",
        _delivered(ANONYMOUS),
    ),
    "may-injected": Disagreement(
        "RFC3207-4-h",
        "Postfix drops the octets, and goes on.",
        _delivered(UNTRUSTED),
    ),
    "dane-injected": Disagreement(
        "RFC3207-4-h",
        "Postfix drops the octets, and goes on.",
        _delivered(VERIFIED),
    ),
    "may-530-without-starttls": Disagreement(
        "RFC3207-6-c",
        "Postfix returns what is refused with 530, whatever became of STARTTLS.",
        _bounced("mx"),
    ),
    "ehlo-451": Disagreement(
        "RFC5321-4.2.1-b",
        "Postfix says HELO after any refusal of EHLO but 421.",
        _delivered(CLEARTEXT),
    ),
    "ehlo-554": Disagreement(
        "RFC5321-4.2.1-a",
        "Postfix says HELO after any refusal of EHLO but 421.",
        _delivered(CLEARTEXT),
    ),
    "ehlo-refused-in-tls": Disagreement(
        "RFC5321-4.2.1-a",
        "Postfix says HELO after any refusal of EHLO but 421, within TLS too.",
        _delivered(VERIFIED),
    ),
    "mail-354": Disagreement(
        "RFC5321-4.2.1-a",
        "Postfix takes a reply of the wrong class for a protocol error (5.5.0), and returns the message.",
        _bounced("mx"),
    ),
    "data-250": Disagreement(
        "RFC5321-4.2.1-a",
        "Postfix takes a reply of the wrong class for a protocol error (5.5.0), and returns the message.",
        _bounced("mx"),
    ),
    "rcpt-552": Disagreement(
        "RFC5321-4.5.4.1-k",
        "Postfix returns what is refused with 552, however many recipients were taken before.",
        Fate((DELIVERED, BOUNCED), VERIFIED, ("mx",)),
    ),
    "end-dropped-then-none": Disagreement(
        "RFC5321-5.1-o",
        "Postfix goes on to the next host: the message may be delivered twice at once.",
        _delivered(VERIFIED, "one", "two"),
    ),
}
"""Where Postfix does otherwise, by the name of the scenario."""


# ---------------------------------------------------------------- to a real Postfix


def _by_postfix(name: str, shows: str, clauses: tuple[str, ...], records: str = EE, **options: str) -> Scene:
    """A scene with one server, which is a real Postfix."""
    return Scene(name, shows, clauses, signed=records, servers={"mx": Server(postfix=options)})


_CHOOSY = "check_recipient_access inline:{{unknown@ = 550 5.1.1 unknown here}, {busy@ = 450 4.2.1 later}}"

RECEIVERS = (
    _by_postfix(
        "receiver",
        "A Postfix that takes mail from those who keep to the protocol.",
        ("RFC7672-2.2-e", "RFC5321-4.5.4.1-j"),
        smtpd_helo_required="yes",
        smtpd_helo_restrictions="reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname",
        smtpd_data_restrictions="reject_unauth_pipelining",
        smtpd_forbid_unauth_pipelining="yes",
        smtpd_forbid_bare_newline="yes",
        strict_rfc821_envelopes="yes",
    ),
    _by_postfix(
        "receiver-choosy",
        "Some recipients are unknown, and some can not be served now.",
        ("RFC5321-4.2.1-a", "RFC5321-4.2.1-b"),
        smtpd_recipient_restrictions=_CHOOSY,
    ),
    _by_postfix(
        "receiver-limited",
        "No more than three recipients a message.",
        ("RFC5321-4.5.4.1-k",),
        smtpd_recipient_limit="3",
    ),
    _by_postfix(
        "receiver-impatient",
        "After two errors the server hangs up.",
        ("RFC5321-4.2.1-b",),
        smtpd_recipient_restrictions=_CHOOSY,
        smtpd_hard_error_limit="2",
    ),
    _by_postfix(
        "receiver-refusing",
        "The message itself is refused.",
        ("RFC5321-4.2.1-a",),
        smtpd_end_of_data_restrictions="check_sender_access static:{554 5.7.1 not that}",
    ),
    _by_postfix(
        "receiver-small",
        "Messages are too long soon.",
        ("RFC5321-4.2.1-a",),
        message_size_limit="2000",
    ),
    _by_postfix(
        "receiver-cleartext",
        "A server without STARTTLS.",
        ("RFC7672-2.2-j",),
        ONE_HOST,
        smtpd_tls_security_level="none",
    ),
    _by_postfix(
        "receiver-demanding",
        "A server that demands TLS, where TLS is optional.",
        ("RFC7672-2.2-j", "RFC3207-4-f"),
        ONE_HOST,
        smtpd_tls_security_level="encrypt",
    ),
    _by_postfix(
        "receiver-anonymous",
        "A server that demands TLS, and has only anonymous cipher suites.",
        ("RFC3207-4-f", "RFC8689-4.2.2-c"),
        ONE_HOST,
        smtpd_tls_security_level="encrypt",
        smtpd_tls_chain_files="",
        smtpd_tls_cert_file="none",
    ),
    _by_postfix(
        "receiver-wrong-key",
        "A server whose key is not that of its TLSA record.",
        ("RFC7672-2.2-f", "RFC3207-4.1-d", "RFC8689-4.2.2-b"),
        ONE_HOST + "_25._tcp.mx TLSA {stranger:3 1 1}",
    ),
    Scene(
        "receivers",
        "The preferred host has some recipients wait, the other takes them.",
        ("RFC5321-5.1-o",),
        signed=TWO_EE,
        servers={"one": Server(postfix={"smtpd_recipient_restrictions": _CHOOSY}), "two": Server(postfix={})},
    ),
)
"""Scenes whose servers are a real Postfix, to which only we deliver."""
