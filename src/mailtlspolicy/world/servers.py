"""The SMTP servers of a world, and the connector that opens sessions with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from mailtlspolicy.delivery.requiretls import KEYWORD
from mailtlspolicy.delivery.session import (
    READY_FOR_TLS,
    Connected,
    Reply,
    Secured,
    SessionFailure,
    Transmitted,
    Trouble,
)
from mailtlspolicy.delivery.transaction import Command, EndOfData, Progress, next_action, transaction
from mailtlspolicy.names import canonical, canonical_address
from mailtlspolicy.world._reading import (
    as_boolean,
    as_list,
    as_number,
    as_object,
    as_one_of,
    as_text,
    as_texts,
    once,
    read_certificates,
)
from mailtlspolicy.world.passing import Passing, read_takes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mailtlspolicy.delivery.session import Close, Connect, Ehlo, StartTls, Transmit

_SERVER_KEYS = {
    "connect",
    "greeting",
    "starttls",
    "chain",
    "by_sni",
    "sni",
    "mail",
    "requiretls",
    "replies",
    "drop_after",
    "behind_starttls",
    "extensions",
    "tls",
    "takes",
}
_TLS_KEYS = {"replies", "drop_after", "extensions"}
_REFUSED = SessionFailure(Trouble.UNREACHABLE, "refused")
_LOST = SessionFailure(Trouble.LOST, "the server closed the connection")
_CONNECTS = {
    "ok": None,
    "refused": _REFUSED,
    "timeout": SessionFailure(Trouble.UNREACHABLE, "timeout"),
    "local": SessionFailure(Trouble.LOCAL, "no descriptor is left"),
}
_STARTTLS = ("ok", "absent", "refused", "fail")
_SNI = ("required", "strict")
_DROPS = ("connect", "EHLO", "STARTTLS", "handshake", "MAIL", "RCPT", "DATA", ".")
_DEFAULT_REPLIES = {
    "EHLO": Reply(250, ("greetings",)),
    "HELO": Reply(250, ("greetings",)),
    "STARTTLS": Reply(220, ("2.0.0 ready",)),
    "MAIL": Reply(250, ("2.1.0 ok",)),
    "RCPT": Reply(250, ("2.1.5 ok",)),
    "DATA": Reply(354, ("go ahead",)),
    ".": Reply(250, ("2.0.0 accepted",)),
}
_NO_TLS = Reply(454, ("4.7.0 TLS not available",))


@frozen
class Phase:
    """What a server says before TLS, or within it.

    Attributes:
        replies: the replies to commands, by command; to RCPT one a recipient, of which the last repeats.
        drop_after: the command that gets no reply, because the connection ends.
        extensions: the EHLO keywords.
    """

    replies: Mapping[str, tuple[Reply, ...]]
    drop_after: str | None
    extensions: tuple[str, ...]

    def reply(self, command: str, recipient: int = 0) -> Reply | SessionFailure:
        """The reply to a command; to RCPT for the recipient of this number."""
        if command == self.drop_after:
            return _LOST
        replies = self.replies.get(command) or (_DEFAULT_REPLIES[command],)
        return replies[min(recipient, len(replies) - 1)]


@frozen
class StaticServer:
    """How one server behaves.

    Attributes:
        failure: why there is no connection, or None.
        greeting: its greeting.
        clear: what it says before TLS.
        tls: what it says within TLS.
        injected: whether octets follow its reply to STARTTLS.
        handshake: whether the handshake works.
        shown: the session to a server name that has no chain of its own.
        by_sni: the sessions to those that have.
        sni: what ends a handshake by an alert: that there is no server name (`required`), or one without a chain of its
            own (`strict`).
        takes: seconds that pass until it has answered a connection.
    """

    failure: SessionFailure | None
    greeting: Reply | SessionFailure
    clear: Phase
    tls: Phase
    injected: bool
    handshake: bool
    shown: Secured
    by_sni: Mapping[str, Secured]
    sni: frozenset[str]
    takes: int

    def hands_shake(self, sni: str | None) -> Secured | SessionFailure:
        """The session to this server name, or what ends the handshake."""
        if not self.handshake:
            return SessionFailure(Trouble.HANDSHAKE, "the server closed the connection")
        if ("required" if sni is None else "strict") in self.sni and sni not in self.by_sni:
            return SessionFailure(Trouble.HANDSHAKE, "the server ended the handshake by an alert", alert=True)
        return self.by_sni.get(sni or "", self.shown)

    @classmethod
    def from_json(cls, data: Any, where: str, base: Path | None) -> StaticServer:
        """Read a server and its chains; raises `ValueError` where it does not have the format."""
        server = as_object(data, where, _SERVER_KEYS)
        connect = as_one_of(server.get("connect", "ok"), _CONNECTS, where)
        starttls = as_one_of(server.get("starttls", "ok"), _STARTTLS, where)
        within = as_object(server.get("tls", {}), f"tls of {where}", _TLS_KEYS)
        replies: dict[str, tuple[Reply, ...]] = {}
        if "mail" in server:
            replies["."] = (_reply(server["mail"], where),)
        if starttls == "refused":
            replies["STARTTLS"] = (_NO_TLS,)
        replies |= _replies(server.get("replies", {}), where)
        drop = _drop(server.get("drop_after"), where)
        by_sni = as_object(server.get("by_sni", {}), f"by_sni of {where}")
        wanted = server.get("sni", [])
        wanted = wanted if isinstance(wanted, list) else [wanted]
        sni = frozenset(as_one_of(word, _SNI, f"sni of {where}") for word in wanted)
        requiretls = as_boolean(server.get("requiretls", False), f"requiretls of {where}")
        offered = ["STARTTLS"] if starttls != "absent" else []
        return cls(
            failure=_CONNECTS[connect],
            greeting=_LOST if drop == "connect" else _reply(server.get("greeting", 220), where),
            clear=Phase(replies, drop, (*offered, *as_texts(server.get("extensions", []), f"extensions of {where}"))),
            tls=Phase(
                replies | _replies(within.get("replies", {}), where),
                _after_handshake(_drop(within.get("drop_after", drop), where)),
                (*[KEYWORD] * requiretls, *as_texts(within.get("extensions", []), f"extensions of {where}")),
            ),
            injected=bool(as_text(server.get("behind_starttls", ""), f"behind_starttls of {where}")),
            handshake=starttls != "fail",
            shown=Secured(read_certificates(server.get("chain", []), f"the chain of {where}", base)),
            by_sni=once(
                (
                    (canonical(name), Secured(read_certificates(chain, f"{where} for {name}", base)))
                    for name, chain in by_sni.items()
                ),
                f"by_sni of {where}",
            ),
            sni=sni,
            takes=read_takes(server, where),
        )


@define
class _Session:
    """A session with a static server: within TLS or not yet."""

    server: StaticServer
    phase: Phase


@frozen
class StaticConnector:
    """Servers whose behaviour is given; an `engine.Connector`. What is not listed refuses connections."""

    servers: Mapping[tuple[str, int], StaticServer]
    sources: tuple[str, ...] = ()
    passing: Passing = field(factory=Passing, repr=False, eq=False)

    @classmethod
    def from_json(cls, servers: Any, sources: Any, base: Path | None) -> StaticConnector:
        """Read the servers by address and port, and the own addresses; raises `ValueError` as `StaticServer` does."""
        by_port = (
            ((canonical_address(address), _port(port)), StaticServer.from_json(server, f"{address}:{port}", base))
            for address, ports in as_object(servers, "servers").items()
            for port, server in as_object(ports, f"the server {address}").items()
        )
        return cls(once(by_port, "servers"), tuple(map(canonical_address, as_texts(sources, "source"))))

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        """The greeting of the server."""
        server = self.servers.get((canonical_address(effect.address), effect.port))
        if server is None:
            return _REFUSED
        self.passing.take(server.takes)
        if server.failure is not None:
            return server.failure
        if isinstance(server.greeting, SessionFailure):
            return server.greeting
        source = next((source for source in self.sources if (":" in source) == (":" in effect.address)), None)
        return Connected(_Session(server, server.clear), server.greeting, source)

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        """The reply to EHLO with the keywords, or to HELO."""
        session: _Session = effect.session
        phase = session.phase
        if effect.helo:
            return phase.reply("HELO")
        reply = phase.reply("EHLO")
        if isinstance(reply, SessionFailure):
            return evolve(reply, kind=Trouble.HANDSHAKE) if phase is session.server.tls else reply
        return Reply(reply.code, (*reply.lines, *phase.extensions)) if reply.success else reply

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        """The session to this server name, or what stands in its way."""
        session: _Session = effect.session
        reply = session.phase.reply("STARTTLS")
        if isinstance(reply, SessionFailure) or reply.code != READY_FOR_TLS:
            return reply
        if session.server.injected:
            return SessionFailure(Trouble.INJECTED, "the server sent more than one reply")
        shown = session.server.hands_shake(effect.sni)
        if isinstance(shown, Secured):
            session.phase = session.server.tls
        return shown

    def transmit(self, effect: Transmit) -> Transmitted:
        """The replies of the transaction, up to the one that ends it."""
        phase: Phase = effect.session.phase
        progress = Progress()
        transacting = transaction(effect, phase.extensions, progress)
        reply = None
        while (action := next_action(transacting, reply)) is not None:
            reply = None
            if isinstance(action, (Command, EndOfData)):
                verb = action.verb if isinstance(action, Command) else "."
                told = phase.reply(verb, len(progress.recipients))
                if isinstance(told, SessionFailure):
                    progress.failure = told
                    break
                reply = told
        return progress.transmitted()

    def close(self, effect: Close) -> None:
        """Nothing is left to do."""


def _reply(value: Any, where: str) -> Reply:
    """A reply as a code, or as a text that begins with one."""
    code, _, text = value.partition(" ") if isinstance(value, str) else (value, "", "")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code)
    return Reply(as_number(code, f"a reply of {where}", 200, 599), (text,))


def _replies(value: Any, where: str) -> dict[str, tuple[Reply, ...]]:
    """Replies by command; a list has one for each recipient."""
    found: dict[str, tuple[Reply, ...]] = {}
    for command, given in as_object(value, f"replies of {where}", _DEFAULT_REPLIES.keys()).items():
        listed = as_list(given, f"replies of {where}") if command == "RCPT" and isinstance(given, list) else [given]
        if not listed:
            raise ValueError(f"replies of {where}: the list for RCPT is empty")
        found[command] = tuple(_reply(each, where) for each in listed)
    return found


def _drop(value: Any, where: str) -> str | None:
    return None if value is None else as_one_of(value, _DROPS, f"drop_after of {where}")


def _after_handshake(drop: str | None) -> str | None:
    """Within TLS the end of the connection after the handshake shows at the first command."""
    return "EHLO" if drop == "handshake" else drop


def _port(text: str) -> int:
    return as_number(int(text) if text.isascii() and text.isdigit() else text, "a port", 1, 65535)
