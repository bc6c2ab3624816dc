"""What every connector has to hold to, as checks that any test runner can run, of connectors made elsewhere too.

A check takes a function that makes a server behave as it is told, and says how to reach it: a `Serve`. It raises an
`AssertionError` that says what is wrong. The server is described as in `servers` of the world format. So:

- For a connector on sockets there is `loopback.LoopbackServers`: a server of each description listens at a port.
- One that plays its servers itself is handed the description, as the example does.

`CONNECTOR_CHECKS` look at what the connector says alone; `OCTET_CHECKS` also at what a server hears, or sends that no
world can describe: those are for connectors on sockets. It should wait no longer than a second or two for a server that
keeps silent, which one of them does.

>>> from mailtlspolicy.world.world import World
>>> def serve(server, octets={}):
...     world = World.from_json({"servers": {"192.0.2.1": {"25": server}}})
...     return Served(world.connector, "192.0.2.1", 25)
>>> for check in CONNECTOR_CHECKS:
...     check(serve)

With pytest: `@pytest.mark.parametrize("check", CONNECTOR_CHECKS)`. An `AsyncConnector` is checked through an
`event_loop.EventLoopThread`, which makes it look like a synchronous one.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import define, field, frozen

from mailtlspolicy.delivery.message import Message
from mailtlspolicy.delivery.session import (
    Close,
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
from mailtlspolicy.levels import TlsLevel
from mailtlspolicy.testing._certificates import certificates, pems
from mailtlspolicy.testing._expect import expect, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mailtlspolicy.effects import Effect
    from mailtlspolicy.engine import Connector

_R = TypeVar("_R")

_RECIPIENTS = ("a@mx.test", "b@mx.test", "c@mx.test")
_CONTENT = b"Subject: a message\r\n\r\nIt goes nowhere.\r\n"
_MESSAGE = Message("sender@sender.test", _RECIPIENTS, _CONTENT)


@define
class Heard:
    """What a server has heard.

    Attributes:
        commands: the lines with their ends, in clear and within TLS, without the content.
        content: what followed DATA, with the final dot.
        rest: what came behind a reply that should have ended all, or in place of a command.
    """

    commands: list[bytes] = field(factory=list)
    content: bytes = b""
    rest: bytes = b""

    @property
    def verbs(self) -> list[str]:
        """The first word of each command."""
        return [command.split()[0].decode("ascii", "replace").upper() for command in self.commands if command.split()]


@frozen
class Served:
    """A server, and the connector that is to connect to it.

    Attributes:
        connector: the connector.
        address: where the server is.
        port: likewise.
        heard: waits for the end of the connection, and says what the server has heard; only for `OCTET_CHECKS`.
    """

    connector: Connector
    address: str
    port: int
    heard: Callable[[], Heard] = field(default=Heard, repr=False)


class Serve(Protocol):
    """Makes a server behave as described."""

    def __call__(self, server: Mapping[str, Any], octets: Mapping[str, bytes] = ..., /) -> Served:
        """Start it; it runs until the check is over.

        Args:
            server: its description, as in the world format.
            octets: what it sends, as it stands, in place of its reply to a command ("connect" for the greeting, "." for
                the message); nothing at all for none. Only `OCTET_CHECKS` give any.
        """


# What the checks do


@frozen
class _Dialogue:
    """A session that has begun."""

    connector: Connector
    session: Any
    greeting: Reply

    def ehlo(self, *, helo: bool = False) -> Reply | SessionFailure:
        return _perform(self.connector.ehlo, Ehlo(self.session, helo))

    def start_tls(self, sni: str | None = "mx.test") -> Secured | Reply | SessionFailure:
        return _perform(self.connector.start_tls, StartTls(self.session, sni, TlsLevel.MAY))

    def secure(self) -> Secured:
        """EHLO, STARTTLS, and no EHLO yet."""
        _reply(self.ehlo(), "the reply to EHLO")
        result = self.start_tls()
        if not isinstance(result, Secured):
            raise AssertionError(f"STARTTLS: {result!r:.300} in place of a TLS session")
        return result

    def transmit(self, message: Message = _MESSAGE, *recipients: str, requiretls: bool = False) -> Transmitted:
        effect = Transmit(self.session, message, recipients or message.recipients, requiretls)
        return _perform(self.connector.transmit, effect)


def _perform(method: Callable[[Any], Any], effect: Effect[_R]) -> _R:
    """Have an effect performed; what is raised is told as what it is, a failure that should have been returned."""
    what = type(effect).__name__
    try:
        result: _R = method(effect)
    except Exception as error:
        raise AssertionError(f"{what}: {error!r:.200} was raised; what befalls a connection is returned") from error
    require(isinstance(result, effect.answers), f"{what}: {result!r:.200} is no result of it")
    return result


def _connect(served: Served) -> Connected | SessionFailure:
    return _perform(served.connector.connect, Connect(served.address, served.port))


@contextlib.contextmanager
def _talk(served: Served) -> Iterator[_Dialogue]:
    """A connection with its greeting, closed in the end; how is for `closing_raises_nothing` to look at."""
    connected = _connect(served)
    if isinstance(connected, SessionFailure):
        raise AssertionError(f"{connected!r:.300} in place of a connection")
    try:
        yield _Dialogue(served.connector, connected.session, connected.greeting)
    finally:
        with contextlib.suppress(Exception):
            served.connector.close(Close(connected.session))


@contextlib.contextmanager
def _greeted(served: Served) -> Iterator[_Dialogue]:
    """The same, EHLO said."""
    with _talk(served) as dialogue:
        _reply(dialogue.ehlo(), "the reply to EHLO")
        yield dialogue


def _reply(result: object, what: str) -> Reply:
    if not isinstance(result, Reply):
        raise AssertionError(f"{what}: {result!r:.300} in place of a reply")
    return result


def _fails(result: object, kind: Trouble, what: str) -> SessionFailure:
    if not isinstance(result, SessionFailure):
        raise AssertionError(f"{what}: {result!r:.300} in place of a failure")
    require(result.kind is kind, f"{what}: the kind of the failure is {result.kind}, and should be {kind}")
    return result


def _with_tls(**more: Any) -> dict[str, Any]:
    return {"chain": pems(certificates().first), **more}


def _code(reply: Reply | None) -> int | None:
    return None if reply is None else reply.code


def _codes(done: Transmitted) -> tuple[int | None, list[int], int | None, int | None]:
    """The codes of MAIL, of RCPT, of DATA, and of the message."""
    return _code(done.mail), [reply.code for reply in done.recipients], _code(done.data), _code(done.end)


# Connection and greeting


def no_connection_is_a_value(serve: Serve) -> None:
    """Of its own kind: the address was not reached."""
    _fails(_connect(serve({"connect": "refused"})), Trouble.UNREACHABLE, "a connection that is refused")


def a_greeting_is_a_fact_whatever_it_says(serve: Serve) -> None:
    """What follows from it is decided elsewhere: 421 and 554 greet too (RFC 5321 section 3.1)."""
    for code, text in ((220, "mx.test ready"), (421, "4.3.2 busy"), (554, "5.7.1 no mail here")):
        with _talk(serve({"greeting": f"{code} {text}"})) as dialogue:
            expect(dialogue.greeting, Reply(code, (text,)), "the greeting")


def an_end_in_place_of_the_greeting_is_a_value(serve: Serve) -> None:
    """The connection came about, and is lost."""
    _fails(_connect(serve({"drop_after": "connect"})), Trouble.LOST, "a connection that ends without a greeting")


# EHLO


def keywords_are_those_of_the_state(serve: Serve) -> None:
    """Of the last reply to EHLO: what was said in clear counts no more within TLS (RFC 3207 section 4.2)."""
    server = _with_tls(extensions=["SIZE 1000", "pipelining"], tls={"extensions": ["8BITMIME"]})
    with _talk(serve(server)) as dialogue:
        clear = _reply(dialogue.ehlo(), "the reply to EHLO")
        expect(set(clear.keywords), {"STARTTLS", "SIZE", "PIPELINING"}, "the keywords in clear")
        result = dialogue.start_tls()
        require(isinstance(result, Secured), f"STARTTLS: {result!r:.300} in place of a TLS session")
        within = _reply(dialogue.ehlo(), "the reply to EHLO within TLS")
        expect(set(within.keywords), {"8BITMIME"}, "the keywords within TLS")


def a_refused_ehlo_is_a_reply(serve: Serve) -> None:
    """Behind which HELO is said on the same connection, where the delivery wants that (RFC 5321 section 3.2)."""
    with _talk(serve({"replies": {"EHLO": "502 5.5.1 no"}})) as dialogue:
        expect(dialogue.ehlo(), Reply(502, ("5.5.1 no",)), "the reply to EHLO")
        expect(_reply(dialogue.ehlo(helo=True), "the reply to HELO").code, 250, "the code of the reply to HELO")


# STARTTLS


def only_a_220_begins_tls(serve: Serve) -> None:
    """Any other reply is the result, and the session goes on in clear (RFC 3207 section 4)."""
    for text in ("454 4.7.0 not now", "501 5.5.4 no", "250 2.0.0 ok", "221 2.0.0 bye"):
        with _greeted(serve(_with_tls(replies={"STARTTLS": text}))) as dialogue:
            reply = _reply(dialogue.start_tls(), f"STARTTLS, answered by {text}")
            expect(reply.code, int(text[:3]), f"the code of the reply to STARTTLS, {text}")
            expect(_reply(dialogue.ehlo(), "EHLO behind it").code, 250, "the code of the reply to EHLO behind it")


def octets_behind_the_go_ahead_are_an_injection(serve: Serve) -> None:
    """They came in clear, and would count as said within TLS (RFC 3207 section 6): the connection is of no use."""
    for octets in ("250 STARTTLS\r\n", "2"):
        with _greeted(serve(_with_tls(behind_starttls=octets))) as dialogue:
            _fails(dialogue.start_tls(), Trouble.INJECTED, "STARTTLS, with octets behind the reply to it")


def a_handshake_that_breaks_off_is_a_value(serve: Serve) -> None:
    """Without an alert: the server did not answer what was offered."""
    with _greeted(serve(_with_tls(starttls="fail"))) as dialogue:
        failure = _fails(dialogue.start_tls(), Trouble.HANDSHAKE, "a handshake that the server breaks off")
        expect(failure.alert, False, "alert, where the server just went away")


def an_alert_is_told(serve: Serve) -> None:
    """The server has answered what was offered (RFC 8446 section 6), so another offer may do."""
    with _greeted(serve(_with_tls(sni="strict"))) as dialogue:
        failure = _fails(dialogue.start_tls("other.test"), Trouble.HANDSHAKE, "a handshake that an alert ends")
        expect(failure.alert, True, "alert, where the server sent one")


def an_end_in_place_of_the_first_reply_within_tls_is_a_failed_handshake(serve: Serve) -> None:
    """In TLS 1.3 the client is done before the server has judged what it sent (RFC 8446 section 4.4.2.4)."""
    with _talk(serve(_with_tls(drop_after="handshake"))) as dialogue:
        dialogue.secure()
        _fails(dialogue.ehlo(), Trouble.HANDSHAKE, "EHLO, in place of whose reply the connection ends")


def the_chain_is_handed_over_as_presented(serve: Serve) -> None:
    """As DER, leaf first, with what belongs to nothing in it: verification is done elsewhere, and of nothing else."""
    with _talk(serve(_with_tls())) as dialogue:
        chain = dialogue.secure().chain
        require(all(isinstance(der, bytes) for der in chain), f"the chain: {chain!r:.100} is not DER")
        presented = [*certificates().first, *certificates().second]
        places = [presented.index(der) if der in presented else None for der in chain]
        wanted = [presented.index(der) for der in certificates().first]
        expect(places, wanted, "the chain, by the places of its certificates in the one presented")


def the_server_name_is_that_of_the_effect(serve: Serve) -> None:
    """And none is sent where it says none: the server chooses the chain by it (RFC 7672 section 8.1)."""
    both = certificates()
    leaves = {both.first[:1]: "the one for no name", both.second[:1]: "the one for mx.test"}
    for sni, wanted in ((None, "the one for no name"), ("mx.test", "the one for mx.test")):
        with _greeted(serve(_with_tls(by_sni={"mx.test": pems(both.second)}))) as dialogue:
            result = dialogue.start_tls(sni)
            got = leaves.get(result.chain[:1], result.chain) if isinstance(result, Secured) else result
            expect(got, wanted, f"the certificate presented where the server name is {sni}")


# A transaction


def each_recipient_has_his_reply(serve: Serve) -> None:
    """In the order asked; the message goes to those accepted (RFC 5321 section 3.3)."""
    with _greeted(serve({"replies": {"RCPT": [250, "550 5.1.1 no such user", "452 4.5.3 too many"]}})) as dialogue:
        done = dialogue.transmit()
        expect(_codes(done), (250, [250, 550, 452], 354, 250), "the codes of MAIL, RCPT, DATA and the message")
        expect(done.recipients[1].lines, ("5.1.1 no such user",), "the text of the reply to the second recipient")
        expect((done.failure, done.committed), (None, False), "failure and committed, where all is answered")


def only_those_left_to_try_are_sent_to(serve: Serve) -> None:
    """The effect names recipients beside the message, which has more."""
    with _greeted(serve({"replies": {"RCPT": [250, 550]}})) as dialogue:
        done = dialogue.transmit(_MESSAGE, _RECIPIENTS[1])
        expect(_codes(done), (250, [250], 354, 250), "the codes of MAIL, RCPT, DATA and the message, to one recipient")


def a_transaction_ends_at_the_reply_that_rules_out_the_rest(serve: Serve) -> None:
    """What it did not come to has no reply."""
    for replies, codes in (
        ({"MAIL": "550 5.7.1 no"}, (550, [], None, None)),
        ({"RCPT": [550, 450, 551]}, (250, [550, 450, 551], None, None)),
        ({"DATA": 451}, (250, [250, 250, 250], 451, None)),
        ({"DATA": 250}, (250, [250, 250, 250], 250, None)),
    ):
        with _greeted(serve({"replies": replies})) as dialogue:
            done = dialogue.transmit()
            expect(_codes(done), codes, f"the codes of MAIL, RCPT, DATA and the message, where a reply is {replies}")
            expect((done.failure, done.committed), (None, False), f"failure and committed, where a reply is {replies}")


def the_reply_to_the_message_is_its_end(serve: Serve) -> None:
    """Whatever it says: then the server has answered, and nothing is left open (RFC 5321 section 4.2.5)."""
    for code in (250, 451, 554):
        with _greeted(serve({"replies": {".": f"{code} x"}})) as dialogue:
            done = dialogue.transmit()
            expect(done.end, Reply(code, ("x",)), "the reply to the message")
            expect((done.failure, done.committed), (None, False), f"failure and committed behind a {code}")


def an_end_at_any_command_is_a_value(serve: Serve) -> None:
    """With the replies that came before it."""
    with _talk(serve({"drop_after": "EHLO"})) as dialogue:
        _fails(dialogue.ehlo(), Trouble.LOST, "EHLO, in place of whose reply the connection ends")
    with _greeted(serve(_with_tls(drop_after="STARTTLS"))) as dialogue:
        _fails(dialogue.start_tls(), Trouble.LOST, "STARTTLS, in place of whose reply the connection ends")
    for command, codes in (
        ("MAIL", (None, [], None, None)),
        ("RCPT", (250, [], None, None)),
        ("DATA", (250, [250, 250, 250], None, None)),
    ):
        with _greeted(serve({"drop_after": command})) as dialogue:
            done = dialogue.transmit()
            _fails(done.failure, Trouble.LOST, f"{command}, in place of whose reply the connection ends")
            expect(_codes(done), codes, f"the codes where the connection ends in place of the reply to {command}")


def from_the_final_dot_on_the_server_may_have_the_message(serve: Serve) -> None:
    """`committed` says so where it has not answered, and never before: sent again, it would come twice."""
    with _greeted(serve({"drop_after": "."})) as dialogue:
        done = dialogue.transmit()
        _fails(done.failure, Trouble.LOST, "a connection that ends in place of the reply to the message")
        expect(_codes(done), (250, [250, 250, 250], 354, None), "the codes where the reply to the message is wanting")
        expect(done.committed, True, "committed, where the whole message was sent and not answered")
    for command in ("MAIL", "RCPT", "DATA"):
        with _greeted(serve({"drop_after": command})) as dialogue:
            expect(dialogue.transmit().committed, False, f"committed, where the connection ended at {command}")


# The end


def closing_raises_nothing(serve: Serve) -> None:
    """In whatever state the connection is: it is of no more use."""
    for server, steps in (
        ({"greeting": "554 no"}, 0),
        ({}, 1),
        ({"drop_after": "EHLO"}, 1),
        (_with_tls(), 2),
        (_with_tls(drop_after="STARTTLS"), 2),
        (_with_tls(starttls="fail"), 2),
        (_with_tls(behind_starttls="220 x\r\n"), 2),
        (_with_tls(drop_after="handshake"), 2),
        (_with_tls(), 3),
        (_with_tls(drop_after="."), 3),
    ):
        served = serve(server)
        connected = _connect(served)
        if isinstance(connected, SessionFailure):
            continue  # nothing to close
        dialogue = _Dialogue(served.connector, connected.session, connected.greeting)
        for step in (dialogue.ehlo, dialogue.start_tls, dialogue.transmit)[:steps]:
            step()
        _perform(served.connector.close, Close(connected.session))


# Octets


def a_reply_may_have_several_lines(serve: Serve) -> None:
    """A hyphen behind the code says that another follows (RFC 5321 section 4.2.1); the text of all is kept."""
    octets = {
        "connect": b"220-mx.test\r\n220-\r\n220 ready\r\n",
        "MAIL": b"250-2.1.0 sender\r\n250 2.1.0 ok\r\n",
        "RCPT": b"250\r\n",
    }
    with _talk(serve({}, octets)) as dialogue:
        expect(dialogue.greeting, Reply(220, ("mx.test", "", "ready")), "the greeting")
        _reply(dialogue.ehlo(), "the reply to EHLO")
        done = dialogue.transmit()
        expect(done.mail, Reply(250, ("2.1.0 sender", "2.1.0 ok")), "the reply to MAIL")
        expect(_codes(done), (250, [250, 250, 250], 354, 250), "the codes of MAIL, RCPT, DATA and the message")


def what_is_no_reply_is_a_lost_connection(serve: Serve) -> None:
    """Another protocol, or lines whose codes are of different classes: never a success."""
    for octets in (b"SSH-2.0-x\r\n", b"220-ready\r\n554 no\r\n", b"999 x\r\n"):
        _fails(_connect(serve({}, {"connect": octets})), Trouble.LOST, f"the greeting {octets!r}")


def a_go_ahead_is_220_in_every_line(serve: Serve) -> None:
    """All hangs on this reply (RFC 3207 section 4)."""
    with _greeted(serve(_with_tls(), {"STARTTLS": b"220-go\r\n220 ahead\r\n"})) as dialogue:
        result = dialogue.start_tls()
        require(isinstance(result, Secured), f"STARTTLS, answered by two lines with 220: {result!r:.300}")
    with _greeted(serve(_with_tls(), {"STARTTLS": b"454-no\r\n220 go\r\n"})) as dialogue:
        _fails(dialogue.start_tls(), Trouble.LOST, "STARTTLS, answered by lines of which one has a 454")


def helo_announces_nothing(serve: Serve) -> None:
    """Its lines but the first mean nothing, whatever they say (RFC 5321 section 4.1.1.1)."""
    octets = {"EHLO": b"502 no\r\n", "HELO": b"250-mx.test\r\n250-STARTTLS\r\n250 SIZE 1\r\n"}
    with _talk(serve({}, octets)) as dialogue:
        _reply(dialogue.ehlo(), "the reply to EHLO")
        expect(_reply(dialogue.ehlo(helo=True), "the reply to HELO").keywords, (), "the keywords of a reply to HELO")


def nothing_is_said_behind_an_injection(serve: Serve) -> None:
    """Neither TLS nor QUIT: whoever injects is listening."""
    served = serve(_with_tls(behind_starttls="250 x\r\n"))
    with _greeted(served) as dialogue:
        dialogue.start_tls()
    heard = served.heard()
    expect((heard.verbs, heard.rest), (["EHLO", "STARTTLS"], b""), "what the server heard, and what behind STARTTLS")


def the_dialogue_is_that_of_the_effects(serve: Serve) -> None:
    """Each command in its turn, and no other."""
    served = serve(_with_tls())
    with _talk(served) as dialogue:
        dialogue.secure()
        _reply(dialogue.ehlo(), "the reply to EHLO within TLS")
        dialogue.transmit()
    heard = served.heard()
    verbs = ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA"]
    expect([verb for verb in heard.verbs if verb != "QUIT"], verbs, "the commands that the server heard")
    expect(heard.commands[1], b"STARTTLS\r\n", "the command STARTTLS, which has no parameter (RFC 3207 section 4)")
    paths = [command.partition(b":")[2].strip() for command in heard.commands if command[:4].upper() == b"RCPT"]
    expect(paths, [f"<{recipient}>".encode() for recipient in _RECIPIENTS], "the forward-paths")


def mail_bears_what_the_effect_says(serve: Serve) -> None:
    """The reverse-path, which may be empty, and REQUIRETLS where it is wanted (RFC 8689 section 2)."""
    for sender, requiretls in (("sender@sender.test", True), ("", False)):
        served = serve(_with_tls(requiretls=True))
        with _talk(served) as dialogue:
            dialogue.secure()
            _reply(dialogue.ehlo(), "the reply to EHLO within TLS")
            dialogue.transmit(Message(sender, _RECIPIENTS, _CONTENT), requiretls=requiretls)
        words = _mail(served.heard())
        expect(words[0], f"FROM:<{sender}>", "the reverse-path")
        expect(
            "REQUIRETLS" in words[1:], requiretls, f"whether MAIL bears REQUIRETLS, where the effect says {requiretls}"
        )


def parameters_are_those_that_the_state_offers(serve: Serve) -> None:
    """What was announced in clear is forgotten with it (RFC 3207 section 4.2); none that was not announced."""
    served = serve(_with_tls(extensions=["SIZE 100000", "8BITMIME"]))
    with _talk(served) as dialogue:
        dialogue.secure()
        _reply(dialogue.ehlo(), "the reply to EHLO within TLS")
        dialogue.transmit(Message("sender@sender.test", _RECIPIENTS, "Subject: x\r\n\r\nä\r\n".encode()))
    expect(_mail(served.heard())[1:], [], "the parameters of MAIL, where nothing is announced within TLS")


def lines_that_begin_with_a_dot_are_given_another(serve: Serve) -> None:
    """And the receiver takes it away (RFC 5321 section 4.5.2). Otherwise one could end the message."""
    sent = {
        b".\r\n..\r\na.b\r\n.c\r\n": b"..\r\n...\r\na.b\r\n..c\r\n.\r\n",
        b"a\r\n.\r\nMAIL FROM:<x@y.test>\r\n": b"a\r\n..\r\nMAIL FROM:<x@y.test>\r\n.\r\n",
    }
    _expect_content(serve, sent)


def lines_end_in_crlf(serve: Serve) -> None:
    """All of them, the last one too; a bare CR or LF is none, and could smuggle another message (section 2.3.8)."""
    sent = {b"a\nb": b"a\r\nb\r\n.\r\n", b"a\rb\r\n": b"a\r\nb\r\n.\r\n", b"a\n.\nb\r\n": b"a\r\n..\r\nb\r\n.\r\n"}
    _expect_content(serve, sent)


def a_whole_dialogue_ends_with_quit(serve: Serve) -> None:
    """Also behind a greeting that refuses (RFC 5321 sections 3.1 and 4.1.1.10)."""
    for server in ({"greeting": "554 no"}, {}):
        served = serve(server)
        with _talk(served) as dialogue:
            if dialogue.greeting.success:
                _reply(dialogue.ehlo(), "the reply to EHLO")
        expect(served.heard().verbs[-1:], ["QUIT"], "the last command that the server heard")


def sessions_are_kept_apart(serve: Serve) -> None:
    """`session` is all that tells one from another: a connector has several at a time, as many as there are hosts."""
    first, second = serve({"extensions": ["FIRST"]}), serve(_with_tls(extensions=["SECOND"]))
    with _talk(first) as one, _talk(second) as other:
        for dialogue, keyword in ((one, "FIRST"), (other, "SECOND")):
            require(keyword in _reply(dialogue.ehlo(), "the reply to EHLO").keywords, f"{keyword} is not announced")
        require(isinstance(other.start_tls(), Secured), "STARTTLS in one of two sessions")
        done = one.transmit()
        expect(
            _codes(done), (250, [250, 250, 250], 354, 250), "the codes of a transaction in the other of two sessions"
        )
    expect("MAIL" in first.heard().verbs, True, "whether the server of this session heard MAIL")
    expect("MAIL" in second.heard().verbs, False, "whether the server of the other session heard MAIL")


def silence_is_a_value(serve: Serve) -> None:
    """After a time (RFC 5321 section 4.5.3.2). Behind the final dot the server may have the message."""
    with _talk(serve({}, {"EHLO": b""})) as dialogue:
        _fails(dialogue.ehlo(), Trouble.LOST, "EHLO, to which nothing is said")
    with _greeted(serve({}, {".": b""})) as dialogue:
        done = dialogue.transmit()
        _fails(done.failure, Trouble.LOST, "a message to which nothing is said")
        expect(done.committed, True, "committed, where nothing is said to the message")


def _mail(heard: Heard) -> list[str]:
    """The words of MAIL, the reverse-path first."""
    for command in heard.commands:
        if command[:5].upper() == b"MAIL ":
            return command[5:].decode("ascii", "replace").split()
    raise AssertionError("the server heard no MAIL")


def _expect_content(serve: Serve, sent: Mapping[bytes, bytes]) -> None:
    for content, octets in sent.items():
        served = serve({})
        with _greeted(served) as dialogue:
            dialogue.transmit(Message("sender@sender.test", _RECIPIENTS, content))
        expect(served.heard().content, octets, f"what is sent of the message {content!r}")


CONNECTOR_CHECKS: tuple[Callable[[Serve], None], ...] = (
    no_connection_is_a_value,
    a_greeting_is_a_fact_whatever_it_says,
    an_end_in_place_of_the_greeting_is_a_value,
    keywords_are_those_of_the_state,
    a_refused_ehlo_is_a_reply,
    only_a_220_begins_tls,
    octets_behind_the_go_ahead_are_an_injection,
    a_handshake_that_breaks_off_is_a_value,
    an_alert_is_told,
    an_end_in_place_of_the_first_reply_within_tls_is_a_failed_handshake,
    the_chain_is_handed_over_as_presented,
    the_server_name_is_that_of_the_effect,
    each_recipient_has_his_reply,
    only_those_left_to_try_are_sent_to,
    a_transaction_ends_at_the_reply_that_rules_out_the_rest,
    the_reply_to_the_message_is_its_end,
    an_end_at_any_command_is_a_value,
    from_the_final_dot_on_the_server_may_have_the_message,
    closing_raises_nothing,
)
"""The checks of any connector."""

OCTET_CHECKS: tuple[Callable[[Serve], None], ...] = (
    a_reply_may_have_several_lines,
    what_is_no_reply_is_a_lost_connection,
    a_go_ahead_is_220_in_every_line,
    helo_announces_nothing,
    nothing_is_said_behind_an_injection,
    the_dialogue_is_that_of_the_effects,
    mail_bears_what_the_effect_says,
    parameters_are_those_that_the_state_offers,
    lines_that_begin_with_a_dot_are_given_another,
    lines_end_in_crlf,
    a_whole_dialogue_ends_with_quit,
    sessions_are_kept_apart,
    silence_is_a_value,
)
"""The checks of a connector on sockets, beside the others."""
