"""A whole internet in one JSON object: zones, failures, policy hosts and what is cached, servers, trust anchors, time.

The static world is what runs with nothing installed and no network, what every vector is written in, and what a live
run can be recorded to. Its resolver behaves as a validating recursive resolver with a stub in front of it:

- A name belongs to the longest zone that it ends in; a name in no zone is an insecure NXDOMAIN.
- CNAME and DNAME are followed across zones; the answer is insecure as soon as one link, the data or the denial lies in
  an insecure zone. A CNAME question is answered without following. The answer tells which DNAME made the first alias.
- Wildcards synthesise, empty non-terminals are NODATA (RFC 4592, RFC 8020).
- Whatever touches a bogus zone is a `bogus` failure. The failures listed win over the zones.
- A policy host needs no address; one that is not listed refuses connections.

>>> world = World.from_json({"zones": {"a.example": {"records": ["@ MX 1 mx", "mx A 192.0.2.1"]}}})
>>> world.engine().plan("a.example").usable_hosts[0].host
'mx.a.example'
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import dns.exception
import dns.name
import dns.rdatatype
import dns.tokenizer
import dns.ttl
from attrs import define, evolve, field, frozen

from mailtlspolicy._times import from_iso, in_utc, later
from mailtlspolicy._words import Word
from mailtlspolicy.config import Config
from mailtlspolicy.delivery.message import Message
from mailtlspolicy.delivery.requiretls import KEYWORD
from mailtlspolicy.delivery.session import (
    DATA_WANTED,
    READY_FOR_TLS,
    Connected,
    Reply,
    Secured,
    SessionFailure,
    Transmitted,
    Trouble,
)
from mailtlspolicy.dns.effects import MAX_TTL, Answer, FailureKind, LookupFailure, Mx, RecordType
from mailtlspolicy.effects import Moment
from mailtlspolicy.engine import Engine, keep_order
from mailtlspolicy.names import MAX_NAME_OCTETS, canonical, canonical_address
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.plan.mx import SMTP_PORT, Kind, NextHop
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.effects import Fetched, FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import whole_response
from mailtlspolicy.sts.stores import MemoryStore
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.x509.pem import certificates_from_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Set

    from mailtlspolicy.delivery.outcome import Outcome
    from mailtlspolicy.delivery.session import Close, Connect, Ehlo, StartTls, Transmit
    from mailtlspolicy.dns.effects import Lookup
    from mailtlspolicy.sts.effects import Fetch
    from mailtlspolicy.sts.fetching import Response

_K = TypeVar("_K")
_T = TypeVar("_T")

DEFAULT_TTL = 3600  # seconds; of records that give none, and of denials
ALIAS_HOPS = 10  # the alias hops that the static resolver follows; the eleventh is a loop

SENDER = "sender@sender.example"  # of the message that a simulation sends
_CONTENT = b"Subject: a message\r\n\r\nIt goes nowhere.\r\n"
_REPORT = b"DKIM-Signature: v=1; d=sender.example\r\n" + _CONTENT  # reports bear a signature (RFC 8460 section 3)

_KEYS = {"version", "now", "zones", "failures", "https", "cache", "trust", "servers", "source"}
_ZONE_KEYS = {"security", "records", "denial_ttl"}
_HTTPS_KEYS = {"status", "content_type", "body", "certificate", "error", "location", "takes"}
_CACHE_KEYS = {"version", "id", "fetched", "policy", "checked", "used", "failed", "failures", "ended"}
_FAILED_KEYS = {"id", "at", "failure"}
_CERTIFICATES = {
    "valid": None,
    "expired": FetchFailureKind.CERTIFICATE_EXPIRED,
    "untrusted": FetchFailureKind.CERTIFICATE_NOT_TRUSTED,
    "wrong-name": FetchFailureKind.CERTIFICATE_HOST_MISMATCH,
}
_FETCH_ERRORS = {
    "timeout": FetchFailureKind.TIMEOUT,
    "refused": FetchFailureKind.CONNECT,
    "local": FetchFailureKind.LOCAL,
}
_FAILURE_KEYS = {"name", "type", "kind"}
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
_FAILED_CONNECTS = {
    "refused": SessionFailure(Trouble.UNREACHABLE, "refused"),
    "timeout": SessionFailure(Trouble.UNREACHABLE, "timeout"),
    "local": SessionFailure(Trouble.LOCAL, "no descriptor is left"),
}
_CONNECTS = ("ok", *_FAILED_CONNECTS)
_STARTTLS = ("ok", "absent", "refused", "fail")
_SNI = ("required", "strict")
_COMMANDS = ("EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", ".")
_DROPS = ("connect", "EHLO", "STARTTLS", "handshake", "MAIL", "RCPT", "DATA", ".")


MAX_TAKES = 10 * 366 * 86_400  # seconds that a part of a world may take: ten years, as much as any policy lives


@define
class Passing:
    """What has passed of a world's time, in seconds, because its parts take theirs."""

    seconds: int = 0

    def take(self, seconds: int) -> None:
        """Let time pass."""
        self.seconds += seconds


class ZoneSecurity(Word):
    """The DNSSEC status of a zone."""

    SECURE = "secure"
    INSECURE = "insecure"
    BOGUS = "bogus"


@frozen
class RRset:
    """The records of one owner and type, as they stand in an `Answer`, and their lowest TTL in seconds."""

    records: tuple[Any, ...]
    ttl: int = DEFAULT_TTL


@frozen
class Zone:
    """One zone: its status, its RRsets by owner and type, all names that exist in it, and the TTL of a denial."""

    origin: str
    security: ZoneSecurity
    rrsets: Mapping[tuple[str, str], RRset]
    names: frozenset[str]
    denial: RRset

    @classmethod
    def from_json(cls, origin: str, data: Mapping[str, Any], cuts: Iterable[str] = ()) -> Zone:
        """Read the zone's records; raises `ValueError` on one that can not be read or lies outside.

        The names above a zone cut exist, so the zones below are given too (RFC 4592 section 2.2.2).
        """
        _object(data, f"the zone {origin}", _ZONE_KEYS)
        top = _name(origin, "")
        found: dict[tuple[str, str], list[tuple[Any, int]]] = {}
        names = {top}
        for text in _list(data.get("records", []), f"the records of {origin}"):
            owner, rdtype, record, ttl = _read_record(text, top)
            if not _lies_in(owner, top):
                raise ValueError(f"the owner of {text!r} does not lie in the zone {origin!r}")
            found.setdefault((owner, rdtype), []).append((record, ttl))
            names.add(owner)
        names.update(cut for cut in cuts if _lies_in(cut, top))
        names.update(above for name in tuple(names) for above in _names_above(name, top))
        rrsets = {
            key: RRset(tuple(record for record, _ in records), min(ttl for _, ttl in records))
            for key, records in found.items()
        }
        denial = RRset((), _number(data.get("denial_ttl", DEFAULT_TTL), f"denial_ttl of {origin}", 0, MAX_TTL))
        return cls(top, ZoneSecurity(data.get("security", "secure")), rrsets, frozenset(names), denial)

    def find(self, name: str, rdtype: str) -> RRset | None:
        """The RRset of a name in this zone, or of the wildcard that covers it."""
        return self.rrsets.get((self._owner(name), rdtype))

    def exists(self, name: str) -> bool:
        """Whether a name exists in this zone, by itself or by a wildcard."""
        return self._owner(name) in self.names

    def alias(self, name: str) -> tuple[RRset, str | None] | None:
        """The CNAME of a name, or the one that a DNAME above it synthesises, and its owner (RFC 6672 section 3.1)."""
        synthesised, above = None, name
        while above != self.origin:  # up to the origin: the highest DNAME hides all below it (RFC 6672 section 2.4)
            above = _parent(above)
            if (dname := self.rrsets.get((above, "DNAME"))) is not None:
                prefix, target = name.removesuffix(above).rstrip("."), dname.records[0]
                synthesised = RRset((f"{prefix}.{target}".rstrip("."),), dname.ttl), above
        cname = self.find(name, "CNAME")
        return synthesised or (None if cname is None else (cname, None))

    def _owner(self, name: str) -> str:
        """The name, or the wildcard below its closest encloser where the name does not exist (RFC 4592 section 3.3)."""
        if name in self.names:
            return name
        encloser = _parent(name)
        while encloser not in self.names:
            encloser = _parent(encloser)
        return f"*.{encloser}".rstrip(".")


@frozen
class StaticResolver:
    """A resolver whose whole DNS is given, by the rules above; an `engine.Resolver`."""

    zones: Mapping[str, Zone]
    failures: Mapping[tuple[str, str], FailureKind]
    takes: Mapping[tuple[str, str], int] = field(factory=dict)
    passing: Passing = field(factory=Passing, repr=False, eq=False)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Answer from the zones, following aliases."""
        name, secure, ttl = question.name, True, MAX_TTL
        aliases: list[str] = []
        first_dname: str | None = None
        while True:
            listed = next((key for key in ((name, question.rdtype), (name, "*")) if key in self.failures), None)
            if listed is not None:
                self.passing.take(self.takes.get(listed, 0))
                return LookupFailure(question, self.failures[listed], f"a failure is listed for {name}")
            zone = self._zone(name)
            if zone is None:
                ttl = min(ttl, DEFAULT_TTL)
                return Answer(question, False, (), tuple(aliases), nxdomain=True, ttl=ttl, dname=first_dname)
            if zone.security is ZoneSecurity.BOGUS:
                return LookupFailure(question, FailureKind.BOGUS, f"the zone {zone.origin} is bogus")
            secure = secure and zone.security is ZoneSecurity.SECURE
            alias, dname = zone.alias(name) or (None, None)
            if alias is None or question.rdtype is RecordType.CNAME:
                rrset = alias or zone.find(name, question.rdtype) or zone.denial
                nxdomain = not rrset.records and not zone.exists(name)
                ttl = min(ttl, rrset.ttl)
                return Answer(question, secure, rrset.records, tuple(aliases), nxdomain, ttl=ttl, dname=first_dname)
            first_dname = first_dname if aliases else dname
            name, ttl = alias.records[0], min(ttl, alias.ttl)
            aliases.append(name)
            if len(aliases) > ALIAS_HOPS:
                return LookupFailure(question, FailureKind.LOOP, f"more than {ALIAS_HOPS} aliases")
            if len(name) > MAX_NAME_OCTETS:  # RFC 6672 section 2.2: YXDOMAIN
                return LookupFailure(question, FailureKind.MALFORMED, "a DNAME makes a name that is too long")

    def _zone(self, name: str) -> Zone | None:
        while name not in self.zones:
            if not name:
                return None
            name = _parent(name)
        return self.zones[name]


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
            return SessionFailure(Trouble.LOST, "the server closed the connection")
        replies = self.replies.get(command) or (_DEFAULT_REPLIES[command],)
        return replies[min(recipient, len(replies) - 1)]


_DEFAULT_REPLIES = {
    "EHLO": Reply(250, ("greetings",)),
    "HELO": Reply(250, ("greetings",)),
    "STARTTLS": Reply(220, ("2.0.0 ready",)),
    "MAIL": Reply(250, ("2.1.0 ok",)),
    "RCPT": Reply(250, ("2.1.5 ok",)),
    "DATA": Reply(354, ("go ahead",)),
    ".": Reply(250, ("2.0.0 accepted",)),
}
_REFUSED = Reply(454, ("4.7.0 TLS not available",))


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
        server = _object(data, where, _SERVER_KEYS)
        connect, starttls = server.get("connect", "ok"), server.get("starttls", "ok")
        _one_of(connect, _CONNECTS, where)
        _one_of(starttls, _STARTTLS, where)
        within = _object(server.get("tls", {}), f"tls of {where}", _TLS_KEYS)
        replies: dict[str, tuple[Reply, ...]] = {}
        if "mail" in server:
            replies["."] = (_reply(server["mail"], where),)
        if starttls == "refused":
            replies["STARTTLS"] = (_REFUSED,)
        replies |= _replies(server.get("replies", {}), where)
        drop = _drop(server.get("drop_after"), where)
        lost = SessionFailure(Trouble.LOST, "the server closed the connection")
        by_sni = _object(server.get("by_sni", {}), f"by_sni of {where}")
        wanted = server.get("sni", [])
        for word in (wanted := wanted if isinstance(wanted, list) else [wanted]):
            _one_of(word, _SNI, f"sni of {where}")
        requiretls = _boolean(server.get("requiretls", False), f"requiretls of {where}")
        offered = ["STARTTLS"] if starttls != "absent" else []
        return cls(
            failure=_FAILED_CONNECTS.get(connect),
            greeting=lost if drop == "connect" else _reply(server.get("greeting", 220), where),
            clear=Phase(replies, drop, (*offered, *_texts(server.get("extensions", []), f"extensions of {where}"))),
            tls=Phase(
                replies | _replies(within.get("replies", {}), where),
                _after_handshake(_drop(within.get("drop_after", drop), where)),
                (*[KEYWORD] * requiretls, *_texts(within.get("extensions", []), f"extensions of {where}")),
            ),
            injected=bool(_text(server.get("behind_starttls", ""), f"behind_starttls of {where}")),
            handshake=starttls != "fail",
            shown=Secured(_certificates(server.get("chain", []), f"the chain of {where}", base)),
            by_sni=_once(
                (
                    (canonical(name), Secured(_certificates(chain, f"{where} for {name}", base)))
                    for name, chain in by_sni.items()
                ),
                f"by_sni of {where}",
            ),
            sni=frozenset(wanted),
            takes=_takes(server, where),
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

    def connect(self, effect: Connect) -> Connected | SessionFailure:
        """The greeting of the server."""
        server = self.servers.get((canonical_address(effect.address), effect.port))
        if server is None:
            return SessionFailure(Trouble.UNREACHABLE, "refused")
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
        mail = phase.reply("MAIL")
        if isinstance(mail, SessionFailure):
            return Transmitted(failure=mail)
        if not mail.success:
            return Transmitted(mail)
        replies: list[Reply] = []
        for number in range(len(effect.recipients)):
            reply = phase.reply("RCPT", number)
            if isinstance(reply, SessionFailure):
                return Transmitted(mail, tuple(replies), failure=reply)
            replies.append(reply)
        if not any(reply.success for reply in replies):
            return Transmitted(mail, tuple(replies))
        data = phase.reply("DATA")
        if isinstance(data, SessionFailure):
            return Transmitted(mail, tuple(replies), failure=data)
        if data.code != DATA_WANTED:
            return Transmitted(mail, tuple(replies), data)
        end = phase.reply(".")
        if isinstance(end, SessionFailure):
            return Transmitted(mail, tuple(replies), data, failure=end, committed=True)
        return Transmitted(mail, tuple(replies), data, end)

    def close(self, effect: Close) -> None:
        """Nothing is left to do."""


@frozen
class StaticFetcher:
    """Policy hosts whose responses are given; a `fetching.Fetcher`. What is not listed refuses connections."""

    hosts: Mapping[str, Fetched | FetchFailure]
    takes: Mapping[str, int] = field(factory=dict)
    passing: Passing = field(factory=Passing, repr=False, eq=False)

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        """The response of the policy host."""
        self.passing.take(self.takes.get(request.policy_host, 0))
        return whole_response(self.hosts.get(request.policy_host, FetchFailure(FetchFailureKind.CONNECT)))


@frozen
class WorldEngine(Engine):
    """An engine over a static world, in which mail can be sent without doing harm.

    What its parts take passes also where the caller gives the time.
    """

    def _moments(self, now: datetime | None) -> Callable[[], Moment]:
        still, began = super()._moments(now), self.elapsed()
        if now is None:
            return still

        def moment() -> Moment:
            elapsed = self.elapsed()
            return Moment(later(still().wall, timedelta(seconds=elapsed - began)), elapsed)

        return moment

    def simulate(
        self,
        next_hop: str | NextHop,
        *,
        requiretls: bool = False,
        tls_optional: bool = False,
        tls_report: bool = False,
        sender: str = SENDER,
        recipients: Sequence[str] = (),
        now: datetime | None = None,
        before: Outcome | None = None,
    ) -> Outcome:
        """Walk one try to deliver a small message, as `deliver` would.

        Args:
            next_hop: where to send it.
            requiretls: it requires TLS (RFC 8689 section 4.2.1).
            tls_optional: it bears "TLS-Required: No" (section 4.2.2).
            tls_report: it is a report of RFC 8460, which no failure of TLS stops (section 3 there).
            sender: its reverse-path, which may be empty.
            recipients: its recipients; by default the postmaster of the next-hop.
            now: an aware time, or None to ask the clock.
            before: the outcome of the try before; see `Outcome.cleartext_retry`.

        Raises:
            ValueError: the next-hop or a mailbox is malformed.
        """
        route = next_hop if isinstance(next_hop, NextHop) else NextHop.parse(next_hop)
        domain = str(evolve(route, port=SMTP_PORT)) if route.kind is Kind.LITERAL else route.name
        message = Message(
            sender,
            recipients or (f"postmaster@{domain}",),
            _REPORT if tls_report else _CONTENT,
            requiretls=requiretls,
            tls_report=tls_report,
            tls_optional=tls_optional or tls_report,
        )
        return self.deliver(message, route, now, before)


@frozen
class World:
    """A static world, as equal to another as its data. Use `from_json`, `load` or `tour` to make one.

    Attributes:
        data: the JSON object that it was made from.
        now: the world's time, or None for the system's.
        resolver: its DNS.
        connector: its servers.
        fetcher: its policy hosts.
        cache: what its policy store holds at first, by policy domain.
        trust: its PKIX trust anchors.
    """

    data: Mapping[str, Any] = field(repr=False)
    now: datetime | None
    resolver: StaticResolver = field(repr=False, eq=False)
    connector: StaticConnector = field(repr=False, eq=False)
    fetcher: StaticFetcher = field(repr=False, eq=False)
    cache: Mapping[str, Entry] = field(repr=False, eq=False)
    trust: TrustStore = field(repr=False, eq=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], base: Path | str | None = None) -> World:
        """Make a world from its JSON object.

        Args:
            data: the object; see the documentation of the world format.
            base: the folder that PEM file names are relative to; without it only `pem:` texts can be used.

        Raises:
            ValueError: the object does not have the format; the message says where.
        """
        _object(data, "a world", _KEYS)
        folder = None if base is None else Path(base)
        servers = (
            ((canonical_address(address), _port(port)), StaticServer.from_json(server, f"{address}:{port}", folder))
            for address, ports in _object(data.get("servers", {}), "servers").items()
            for port, server in _object(ports, f"the server {address}").items()
        )
        return cls(
            data,
            read_time(data["now"]) if "now" in data else None,
            StaticResolver(_read_zones(_object(data.get("zones", {}), "zones")), *_read_failures(data)),
            StaticConnector(
                _once(servers, "servers"), tuple(map(canonical_address, _texts(data.get("source", []), "source")))
            ),
            StaticFetcher(_read_by_name(data, "https", _read_policy_host), _read_by_name(data, "https", _takes)),
            _read_by_name(data, "cache", _read_entry),
            TrustStore(_certificates(data.get("trust", []), "trust", folder)),
        )

    @classmethod
    def load(cls, path: Path | str) -> World:
        """Read a world from a JSON file; PEM file names in it are relative to its folder.

        Raises:
            OSError: the file can not be read.
            ValueError: it does not hold a world.
        """
        return cls.from_json(read_json(Path(path).read_text("utf-8")), Path(path).parent)

    @classmethod
    def tour(cls) -> World:
        """The built-in world: one domain for each kind of decision."""
        return cls.from_json(read_json(resources.files("mailtlspolicy.world").joinpath("tour.json").read_text("utf-8")))

    def to_json(self) -> dict[str, Any]:
        """The JSON object that the world was made from."""
        return dict(self.data)

    def engine(self, config: Config | Callable[[NextHop], Config] | None = None) -> WorldEngine:
        """An engine over this world, at this world's time; hosts of equal preference keep their order.

        It has a policy store of its own, in memory, which starts with what the world has cached.
        """
        passing = Passing()
        return WorldEngine(
            evolve(self.resolver, passing=passing),
            fetcher=evolve(self.fetcher, passing=passing),
            store=MemoryStore(self.cache),
            connector=evolve(self.connector, passing=passing),
            trust=self.trust,
            shuffle=keep_order,
            clock=partial(self._clock, passing),
            elapsed=lambda: float(passing.seconds),
            config=Config() if config is None else config,
        )

    def _clock(self, passing: Passing) -> datetime:
        now = datetime.now(timezone.utc) if self.now is None else self.now
        return later(in_utc(now), timedelta(seconds=passing.seconds))


def read_json(text: str) -> Any:
    """Read JSON that somebody has written by hand.

    Raises:
        ValueError: it is none, is nested too deep, or has a member twice, of which one would be lost without a word.
    """
    try:
        return json.loads(text, object_pairs_hook=_members)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return _once(pairs, "an object")


def _once(pairs: Iterable[tuple[_K, _T]], where: str) -> dict[_K, _T]:
    """A dictionary in which no key was given before, in whatever spelling."""
    found: dict[_K, _T] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{where}: {key!r:.80} is given twice")
        found[key] = value
    return found


def _object(value: Any, where: str, keys: Set[str] | None = None) -> Mapping[str, Any]:
    """The value, which has to be an object with no other keys than these."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: an object is due, not {value!r:.60}")
    if keys is not None and (unknown := value.keys() - keys):
        raise ValueError(f"{where}: there is no key {min(unknown, key=str)!r}, but {', '.join(sorted(keys))}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    """The value, which has to be a list."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: a list is due, not {value!r:.60}")
    return value


def _number(value: Any, where: str, least: int, most: int) -> int:
    """The value, which has to be a whole number in these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{where}: a number from {least} to {most} is due, not {value!r:.60}")
    return value


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{where}: true or false is due, not {value!r:.60}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: a text is due, not {value!r:.60}")
    return value


def _texts(values: Any, where: str) -> tuple[str, ...]:
    return tuple(_text(value, where) for value in _list(values, where))


def _reply(value: Any, where: str) -> Reply:
    """A reply as a code, or as a text that begins with one."""
    code, _, text = value.partition(" ") if isinstance(value, str) else (value, "", "")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code)
    return Reply(_number(code, f"a reply of {where}", 200, 599), (text,))


def _replies(value: Any, where: str) -> dict[str, tuple[Reply, ...]]:
    """Replies by command; a list has one for each recipient."""
    found: dict[str, tuple[Reply, ...]] = {}
    for command, given in _object(value, f"replies of {where}", set(_COMMANDS)).items():
        listed = _list(given, f"replies of {where}") if command == "RCPT" and isinstance(given, list) else [given]
        if not listed:
            raise ValueError(f"replies of {where}: the list for RCPT is empty")
        found[command] = tuple(_reply(each, where) for each in listed)
    return found


def _drop(value: Any, where: str) -> str | None:
    if value is not None:
        _one_of(value, _DROPS, f"drop_after of {where}")
    return None if value is None else str(value)


def _after_handshake(drop: str | None) -> str | None:
    """Within TLS the end of the connection after the handshake shows at the first command."""
    return "EHLO" if drop == "handshake" else drop


def _one_of(value: Any, words: Sequence[str], where: str) -> None:
    if value not in words:
        raise ValueError(f"{where}: one of {', '.join(words)} is due, not {value!r:.60}")


def _port(text: str) -> int:
    return _number(int(text) if text.isascii() and text.isdigit() else text, "a port", 1, 65535)


def _read_zones(data: Mapping[str, Any]) -> dict[str, Zone]:
    origins = {text: _name(text, "") for text in data}
    if len(set(origins.values())) < len(origins):
        raise ValueError("a zone is given twice, in two spellings")
    cuts: dict[str, list[str]] = {origin: [] for origin in origins.values()}
    for origin in origins.values():
        for above in _names_above(origin, ""):
            if above in cuts:
                cuts[above].append(origin)
                break
    return {origin: Zone.from_json(text, data[text], cuts[origin]) for text, origin in origins.items()}


def _read_failures(
    data: Mapping[str, Any],
) -> tuple[dict[tuple[str, str], FailureKind], dict[tuple[str, str], int]]:
    """The failures by name and type, and the seconds that each takes; the last of several counts."""
    listed = dict(map(_read_failure, _list(data.get("failures", []), "failures")))
    return {key: kind for key, (kind, _) in listed.items()}, {key: takes for key, (_, takes) in listed.items()}


def _read_failure(data: Any) -> tuple[tuple[str, str], tuple[FailureKind, int]]:
    where = f"the failure {data!r:.60}"
    if missing := _FAILURE_KEYS - _object(data, where, _FAILURE_KEYS | {"takes"}).keys():
        raise ValueError(f"{where}: there is no {min(missing)}")
    _one_of(data["type"], [*RecordType, "*"], where)
    return (_name(data["name"], ""), data["type"]), (FailureKind(data["kind"]), _takes(data, where))


def _takes(data: Any, where: str) -> int:
    """The seconds that a part of the world takes when it is asked."""
    return _number(_object(data, where).get("takes", 0), f"takes of {where}", 0, MAX_TAKES)


def _read_by_name(data: Mapping[str, Any], key: str, read: Callable[[Any, str], _T]) -> dict[str, _T]:
    """Read the values of an object whose keys are domain names, each given once."""
    found: dict[str, _T] = {}
    for text, value in _object(data.get(key, {}), key).items():
        where = f"{text!r:.60} in {key}"
        try:
            name = canonical(text)
            if name in found:
                raise ValueError("it is given twice, in two spellings")
            found[name] = read(value, where)
        except (KeyError, TypeError, ValueError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(why if why.startswith(where) else f"{where}: {why}") from error
    return found


def _read_policy_host(data: Any, where: str) -> Fetched | FetchFailure:
    host = _object(data, where, _HTTPS_KEYS)
    status = _number(host.get("status", 200), where, 100, 999)
    content_type, body = host.get("content_type"), host.get("body", "")
    texts = (body, host.get("location", ""), "" if content_type is None else content_type)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: body, content_type and location are texts")
    _one_of(host.get("certificate", "valid"), list(_CERTIFICATES), where)
    shown: Fetched | FetchFailure = Fetched(status, content_type, body.encode())
    if (kind := _CERTIFICATES[host.get("certificate", "valid")]) is not None:
        shown = FetchFailure(kind)
    if "error" in host:
        _one_of(host["error"], list(_FETCH_ERRORS), where)
        shown = FetchFailure(_FETCH_ERRORS[host["error"]])
    return shown


def _read_entry(data: Any, where: str) -> Entry:
    entry = _object(data, where, _CACHE_KEYS)
    for failed in _list(entry.get("failed", []), f"failed of {where}"):
        _object(failed, f"failed of {where}", _FAILED_KEYS)
    return Entry.from_json(entry)


def read_time(text: Any) -> datetime:
    """Read a time in ISO 8601, with an offset or "Z"; raises `ValueError` on anything else."""
    if not isinstance(text, str):
        raise ValueError(f"a time is a text, not {text!r:.60}")
    time = from_iso(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text!r} has no offset")
    return time


def _name(text: Any, origin: str) -> str:
    """A name of a world as the engine has it: lower case, no final dot, the root being empty."""
    if not isinstance(text, str):
        raise ValueError(f"a name is a text, not {text!r:.60}")
    try:
        name = dns.name.from_text(text, dns.name.from_text(origin + "."), idna_codec=dns.name.IDNA_2008_Practical)
    except (dns.exception.DNSException, struct.error) as error:  # the latter on an escape above 255
        raise ValueError(f"{text!r} is not a name: {error}") from error
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")


def _parent(name: str) -> str:
    return name.partition(".")[2]


def _lies_in(name: str, origin: str) -> bool:
    return not origin or name == origin or name.endswith("." + origin)


def _names_above(name: str, origin: str) -> Iterable[str]:
    """The names between a name and the origin of its zone."""
    while name != origin:
        name = _parent(name)
        yield name


def _read_record(text: Any, origin: str) -> tuple[str, str, Any, int]:
    """Owner, type, record and TTL of one line in master-file syntax; TTL and class may be missing, in either order."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.60} is not a record")
    try:
        words = dns.tokenizer.Tokenizer(text)
        owner, ttl = _name(_word(words), origin), DEFAULT_TTL
        word = _word(words)
        for _ in range(2):
            if word[:1].isdigit():
                ttl, word = dns.ttl.from_text(word), _word(words)
            elif word.upper() == "IN":
                word = _word(words)
        rdtype = dns.rdatatype.to_text(dns.rdatatype.from_text(word))
        record = _read_rdata(rdtype, words, origin)
        words.get_eol()
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"{text!r} is not a record: {error or type(error).__name__}") from error
    return owner, rdtype, record, ttl


def _word(words: dns.tokenizer.Tokenizer) -> str:
    """The next word as it stands, with its escapes."""
    token = words.get()
    if not token.is_identifier():
        raise ValueError("a word is missing")
    return str(token.value)


def _read_rdata(rdtype: str, words: dns.tokenizer.Tokenizer, origin: str) -> Any:
    if rdtype in {"A", "AAAA"}:
        address = canonical_address(_word(words))
        if (":" in address) != (rdtype == "AAAA"):
            raise ValueError(f"{address} is of the other family")
        return address
    if rdtype == "MX":
        preference = words.get_uint16()
        return Mx(preference, _name(_word(words), origin) or ".")
    if rdtype in {"CNAME", "DNAME"}:
        return _name(_word(words), origin)
    tokens = words.get_remaining()
    if rdtype == "TLSA":
        return Tlsa.parse(" ".join(token.value for token in tokens))
    if rdtype == "TXT":
        return tuple(token.unescape_to_bytes().value for token in tokens)
    return " ".join(token.value for token in tokens)  # never asked for; its owner exists


def _certificates(entries: Any, where: str, base: Path | None) -> tuple[bytes, ...]:
    """The DER octets of `pem:` texts and of PEM files below the base folder."""
    return tuple(der for entry in _list(entries, where) for der in certificates_from_pem(_pem_text(entry, base)))


def _pem_text(entry: Any, base: Path | None) -> str:
    if not isinstance(entry, str):
        raise ValueError(f"a certificate is a file name or a pem: text, not {entry!r:.60}")
    if entry.startswith("pem:"):
        return entry.removeprefix("pem:")
    path = PurePosixPath(entry)
    if base is None or path.is_absolute() or ".." in path.parts or "\\" in entry:
        raise ValueError(f"{entry!r} is not a file below the world's folder")
    try:
        return (base / path).read_text("ascii")
    except OSError as error:
        raise ValueError(f"{entry!r} can not be read: {error.strerror}") from error
