"""All our connectors go through the checks for connectors, and each check finds the connector that breaks its rule."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from attrs import evolve, frozen

from mailtlspolicy.adapters.replies import ReplyError, ReplyParser, SurplusError
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.delivery import transaction
from mailtlspolicy.delivery.session import (
    Connect,
    Connected,
    Ehlo,
    Reply,
    Secured,
    SessionFailure,
    StartTls,
    Transmit,
    Transmitted,
    Trouble,
)
from mailtlspolicy.testing.connectors import CONNECTOR_CHECKS, OCTET_CHECKS, Serve, Served
from mailtlspolicy.testing.event_loop import EventLoopThread
from mailtlspolicy.testing.loopback import LoopbackServers
from mailtlspolicy.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mailtlspolicy.engine import Connector

PATIENCE = 30.0  # seconds; what has to end in silence gets by with less


def static(server: Mapping[str, Any], octets: Mapping[str, bytes] | None = None) -> Served:
    assert not octets
    return Served(World.from_json({"servers": {"192.0.2.1": {"25": server}}}).connector, "192.0.2.1", 25)


def limits(name: str) -> dict[str, float]:
    return dict.fromkeys(["timeout", "data_timeout"], 3.0 if name == "silence_is_a_value" else PATIENCE)


@contextmanager
def blocking(**settings: Any) -> Iterator[Serve]:
    with LoopbackServers(SmtpConnector(ehlo_name="client.test", **settings)) as serve:
        yield serve


@contextmanager
def asynchronous(**settings: Any) -> Iterator[Serve]:
    connector = AsyncSmtpConnector(ehlo_name="client.test", **settings)
    with EventLoopThread() as loop, LoopbackServers(loop.synchronous(connector)) as serve:
        yield serve


@pytest.mark.parametrize("check", CONNECTOR_CHECKS)
def test_the_static_connector_conforms(check: Callable[[Serve], None]) -> None:
    check(static)


@pytest.mark.parametrize("kind", [blocking, asynchronous])
@pytest.mark.parametrize("check", [*CONNECTOR_CHECKS, *OCTET_CHECKS])
def test_a_connector_on_sockets_conforms(check: Callable[[Serve], None], kind: Any) -> None:
    with kind(**limits(check.__name__)) as serve:
        check(serve)


# Connectors that break one rule each


@frozen
class Broken:
    """A connector one of whose methods is spoilt; what spoils it is given the connector and the effect."""

    inner: Connector
    method: str
    spoil: Callable[[Any, Any], Any]

    def __getattr__(self, name: str) -> Any:
        if name == self.method:
            return lambda effect: self.spoil(self.inner, effect)
        return getattr(self.inner, name)


def serving(serve: Serve, method: str, spoil: Callable[[Any, Any], Any]) -> Serve:
    def broken(server: Mapping[str, Any], octets: Mapping[str, bytes] | None = None, /) -> Served:
        served = serve(server, octets or {})
        return evolve(served, connector=Broken(served.connector, method, spoil))

    return broken


def failing(checks: Any, serve: Serve) -> list[str]:
    """The names of the checks that a connector fails, each with a sentence."""
    return [check.__name__ for check in checks if fails(check, serve)]


def fails(check: Callable[[Serve], None], serve: Serve) -> bool:
    try:
        check(serve)
    except AssertionError as error:
        return bool(str(error))
    return False


def results(
    method: str, when: Callable[[Any], Any], change: Callable[[Any], Any]
) -> tuple[str, Callable[[Any, Any], Any]]:
    """Changes the results of a method, of which this holds."""

    def spoil(inner: Any, effect: Any) -> Any:
        result = getattr(inner, method)(effect)
        return change(result) if when(result) else result

    return method, spoil


def effects(method: str, change: Callable[[Any], Any]) -> tuple[str, Callable[[Any, Any], Any]]:
    """Changes what is asked of a method."""
    return method, lambda inner, effect: getattr(inner, method)(change(effect))


def failure(kind: Trouble, **more: Any) -> Callable[[Any], bool]:
    """Whether a result is this failure."""
    wanted = {"kind": kind, **more}
    return lambda result: (
        isinstance(result, SessionFailure) and all(getattr(result, name) == value for name, value in wanted.items())
    )


def as_failure(kind: Trouble) -> Callable[[Any], SessionFailure]:
    return lambda _: SessionFailure(kind)


def replies(at_least: int) -> Callable[[Any], bool]:
    return lambda result: isinstance(result, Reply) and result.code >= at_least


def raises(_: Any, __: Any) -> None:
    raise ConnectionError


LOST, UNREACHABLE, HANDSHAKE, INJECTED = Trouble.LOST, Trouble.UNREACHABLE, Trouble.HANDSHAKE, Trouble.INJECTED
STARTTLS = Reply(250, ("x", "STARTTLS")).lines[1:]


def refused(result: Connected | SessionFailure) -> bool:
    return isinstance(result, Connected) and not result.greeting.success


def with_text(result: Connected) -> Connected:
    return evolve(result, greeting=Reply(result.greeting.code))


def announcing(reply: Reply) -> Reply:
    return Reply(reply.code, reply.lines + STARTTLS) if reply.success else reply


def secured(_: object) -> Secured:
    return Secured((b"x",))


def accepted_only(done: Transmitted) -> Transmitted:
    return evolve(done, recipients=tuple(reply for reply in done.recipients if reply.success))


def always_named(effect: StartTls) -> StartTls:
    return evolve(effect, sni=effect.sni or "mx.test")


def never_named(effect: StartTls) -> StartTls:
    return evolve(effect, sni=None if effect.sni == "mx.test" else effect.sni)


def to_all(effect: Transmit) -> Transmit:
    return evolve(effect, recipients=effect.message.recipients)


def ended(code: int) -> Callable[[Transmitted], bool]:
    return lambda done: done.end is not None and done.end.code == code


def cut_off(done: Transmitted) -> bool:
    return done.failure is not None and not done.committed


BROKEN: list[tuple[str, tuple[str, Callable[[Any, Any], Any]]]] = [
    ("no_connection_is_a_value", results("connect", failure(UNREACHABLE), as_failure(LOST))),
    ("no_connection_is_a_value", results("connect", failure(UNREACHABLE), lambda _: raises(None, None))),
    ("no_connection_is_a_value", results("connect", failure(UNREACHABLE), lambda _: None)),
    ("a_greeting_is_a_fact_whatever_it_says", results("connect", refused, as_failure(LOST))),
    ("a_greeting_is_a_fact_whatever_it_says", results("connect", refused, with_text)),
    ("an_end_in_place_of_the_greeting_is_a_value", results("connect", failure(LOST), as_failure(UNREACHABLE))),
    ("keywords_are_those_of_the_state", results("ehlo", replies(250), announcing)),
    ("a_refused_ehlo_is_a_reply", results("ehlo", replies(500), as_failure(LOST))),
    ("a_refused_ehlo_is_a_reply", effects("ehlo", lambda effect: evolve(effect, helo=False))),
    ("only_a_220_begins_tls", results("start_tls", lambda it: isinstance(it, Reply) and it.success, secured)),
    ("only_a_220_begins_tls", results("start_tls", replies(400), as_failure(HANDSHAKE))),
    ("octets_behind_the_go_ahead_are_an_injection", results("start_tls", failure(INJECTED), secured)),
    ("octets_behind_the_go_ahead_are_an_injection", results("start_tls", failure(INJECTED), as_failure(LOST))),
    (
        "a_handshake_that_breaks_off_is_a_value",
        results("start_tls", failure(HANDSHAKE, alert=False), as_failure(LOST)),
    ),
    (
        "a_handshake_that_breaks_off_is_a_value",
        results("start_tls", failure(HANDSHAKE), lambda it: evolve(it, alert=True)),
    ),
    ("an_alert_is_told", results("start_tls", failure(HANDSHAKE), as_failure(HANDSHAKE))),
    (
        "an_end_in_place_of_the_first_reply_within_tls_is_a_failed_handshake",
        results("ehlo", failure(HANDSHAKE), as_failure(LOST)),
    ),
    (
        "the_chain_is_handed_over_as_presented",
        results("start_tls", lambda it: isinstance(it, Secured), lambda it: Secured(it.chain[:1])),
    ),
    (
        "the_chain_is_handed_over_as_presented",
        results("start_tls", lambda it: isinstance(it, Secured), lambda it: Secured(tuple(dict.fromkeys(it.chain)))),
    ),
    ("the_server_name_is_that_of_the_effect", effects("start_tls", always_named)),
    ("the_server_name_is_that_of_the_effect", effects("start_tls", never_named)),
    ("each_recipient_has_his_reply", results("transmit", lambda it: it.data, accepted_only)),
    ("only_those_left_to_try_are_sent_to", effects("transmit", to_all)),
    (
        "a_transaction_ends_at_the_reply_that_rules_out_the_rest",
        results(
            "transmit",
            lambda it: it.data and it.data.code == 250,
            lambda it: evolve(it, end=Reply(250), committed=True),
        ),
    ),
    (
        "a_transaction_ends_at_the_reply_that_rules_out_the_rest",
        results(
            "transmit",
            lambda it: it.mail and not it.mail.success,
            lambda it: evolve(it, failure=SessionFailure(LOST)),
        ),
    ),
    ("the_reply_to_the_message_is_its_end", results("transmit", ended(451), lambda it: evolve(it, committed=True))),
    (
        "the_reply_to_the_message_is_its_end",
        results("transmit", ended(554), lambda it: evolve(it, end=None, failure=SessionFailure(LOST))),
    ),
    ("an_end_at_any_command_is_a_value", results("transmit", cut_off, lambda it: evolve(it, failure=None))),
    ("an_end_at_any_command_is_a_value", results("ehlo", failure(LOST), as_failure(UNREACHABLE))),
    ("an_end_at_any_command_is_a_value", results("start_tls", failure(LOST), as_failure(HANDSHAKE))),
    (
        "from_the_final_dot_on_the_server_may_have_the_message",
        results("transmit", lambda it: it.committed, lambda it: evolve(it, committed=False)),
    ),
    (
        "from_the_final_dot_on_the_server_may_have_the_message",
        results("transmit", lambda it: it.failure is not None, lambda it: evolve(it, committed=True)),
    ),
    ("closing_raises_nothing", ("close", raises)),
    ("closing_raises_nothing", results("close", lambda _: True, lambda _: Reply(221))),
]


@pytest.mark.parametrize(("name", "broken"), BROKEN)
def test_a_check_finds_the_connector_that_breaks_its_rule(name: str, broken: Any) -> None:
    assert failing(CONNECTOR_CHECKS, serving(static, *broken)) == [name]


def last_line(reply: Reply) -> Reply:
    return Reply(reply.code, reply.lines[-1:])


def starts_tls_and_says_goodbye(inner: SmtpConnector, effect: StartTls) -> Any:
    session = effect.session
    session.sock.sendall(b"STARTTLS\r\n")
    parser, reply = ReplyParser(strict=True), None
    try:
        while reply is None:
            reply = parser.feed(session.sock.recv(4096))
    except SurplusError:
        session.sock.sendall(b"QUIT\r\n")
        session.close()
        return SessionFailure(INJECTED)
    except ReplyError:
        session.close()
        return SessionFailure(LOST)
    context, sni = inner.tls_for(effect)
    return session.secure(context, sni, PATIENCE)


def says_noop(inner: SmtpConnector, effect: Transmit) -> Any:
    effect.session.say("NOOP", "", PATIENCE)
    return inner.transmit(effect)


def remembers_keywords(inner: SmtpConnector, effect: Ehlo) -> Any:
    session = effect.session
    reply = inner.ehlo(effect)
    session.remembered = session.keywords = (*getattr(session, "remembered", ()), *session.keywords)
    return reply


class OneForAll:
    """A session that stands for the last connection that was made."""

    last: ClassVar[Any] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.last, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.last, name, value)


def keeps_one_session(inner: SmtpConnector, effect: Connect) -> Any:
    result = inner.connect(effect)
    if not isinstance(result, Connected):
        return result
    if OneForAll.last is not None:
        OneForAll.last.close()
    OneForAll.last = result.session
    return Connected(OneForAll(), result.greeting, result.source)


def hangs_up(_: SmtpConnector, effect: Any) -> None:
    effect.session.close()


def content(change: Callable[[bytes], bytes]) -> tuple[str, Callable[[Any, Any], Any]]:
    return effects("transmit", lambda it: evolve(it, message=evolve(it.message, content=change(it.message.content))))


def keeps_bare_cr(inner: SmtpConnector, effect: Transmit) -> Any:
    usual = transaction.blocks_of
    marked = evolve(effect, message=evolve(effect.message, content=effect.message.content.replace(b"a\rb", b"a\0b")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "blocks_of", lambda octets: [block.replace(b"\0", b"\r") for block in usual(octets)])
        return inner.transmit(marked)


BROKEN_OCTETS: list[tuple[str, tuple[str, Callable[[Any, Any], Any]]]] = [
    (
        "a_reply_may_have_several_lines",
        results(
            "connect",
            lambda it: isinstance(it, Connected),
            lambda it: Connected(it.session, last_line(it.greeting), it.source),
        ),
    ),
    (
        "a_reply_may_have_several_lines",
        results("transmit", lambda it: it.mail, lambda it: evolve(it, mail=last_line(it.mail))),
    ),
    (
        "what_is_no_reply_is_a_lost_connection",
        results("connect", failure(LOST), lambda _: Connected(None, Reply(220))),
    ),
    ("what_is_no_reply_is_a_lost_connection", results("connect", failure(LOST), lambda _: raises(None, None))),
    ("a_go_ahead_is_220_in_every_line", results("start_tls", failure(LOST), secured)),
    (
        "helo_announces_nothing",
        (
            "ehlo",
            lambda inner, effect: announcing(inner.ehlo(effect)) if effect.helo else inner.ehlo(effect),
        ),
    ),
    ("nothing_is_said_behind_an_injection", ("start_tls", starts_tls_and_says_goodbye)),
    ("the_dialogue_is_that_of_the_effects", ("transmit", says_noop)),
    ("mail_bears_what_the_effect_says", effects("transmit", lambda it: evolve(it, requiretls=False))),
    (
        "mail_bears_what_the_effect_says",
        effects(
            "transmit",
            lambda it: it if it.message.sender else evolve(it, message=evolve(it.message, sender="postmaster@x.test")),
        ),
    ),
    ("parameters_are_those_that_the_state_offers", ("ehlo", remembers_keywords)),
    ("lines_that_begin_with_a_dot_are_given_another", content(lambda it: it.replace(b"\r\n.", b"\r\n"))),
    ("lines_end_in_crlf", ("transmit", keeps_bare_cr)),
    ("a_whole_dialogue_ends_with_quit", ("close", hangs_up)),
    ("sessions_are_kept_apart", ("connect", keeps_one_session)),
    ("silence_is_a_value", results("ehlo", failure(LOST), as_failure(Trouble.LOCAL))),
    ("silence_is_a_value", results("transmit", lambda it: it.committed, lambda it: evolve(it, committed=False))),
]


QUICK = [check.__name__ for check in OCTET_CHECKS if check.__name__ != "silence_is_a_value"]


@pytest.mark.parametrize(("name", "broken"), BROKEN_OCTETS)
def test_a_check_of_octets_finds_the_connector_that_breaks_its_rule(name: str, broken: Any) -> None:
    """The check of silence, which takes its time, only where it is meant."""
    checks = [check for check in OCTET_CHECKS if check.__name__ in {name, *QUICK}]
    with blocking(**limits(name)) as serve:
        assert failing(checks, serving(serve, *broken)) == [name]


def test_no_check_is_without_a_connector_that_fails_it() -> None:
    assert {check.__name__ for check in CONNECTOR_CHECKS} == {name for name, _ in BROKEN}
    assert {check.__name__ for check in OCTET_CHECKS} == {name for name, _ in BROKEN_OCTETS}
