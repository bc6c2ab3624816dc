"""A whole internet in one JSON object: zones, failures, policy hosts and what is cached, servers, trust anchors, time.

The static world is what runs with nothing installed and no network, what every vector is written in, and what a live
run can be recorded to.

>>> world = World.from_json({"zones": {"a.example": {"records": ["@ MX 1 mx", "mx A 192.0.2.1"]}}})
>>> world.engine().plan("a.example").usable_hosts[0].host
'mx.a.example'
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from mailtlspolicy._times import from_iso, in_utc, later
from mailtlspolicy.config import Config
from mailtlspolicy.delivery.message import Message
from mailtlspolicy.effects import Moment
from mailtlspolicy.engine import Engine, keep_order
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.plan.mx import SMTP_PORT, Kind, NextHop
from mailtlspolicy.sts.stores import MemoryStore
from mailtlspolicy.world._reading import as_object, once, read_certificates
from mailtlspolicy.world.passing import Passing
from mailtlspolicy.world.policy_hosts import StaticFetcher, read_cache
from mailtlspolicy.world.servers import StaticConnector
from mailtlspolicy.world.zones import StaticResolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailtlspolicy.delivery.outcome import Outcome
    from mailtlspolicy.sts.cache import Entry

SENDER = "sender@sender.example"  # of the message that a simulation sends
_CONTENT = b"Subject: a message\r\n\r\nIt goes nowhere.\r\n"
_REPORT = b"DKIM-Signature: v=1; d=sender.example\r\n" + _CONTENT  # reports bear a signature (RFC 8460 section 3)
_KEYS = {"version", "now", "zones", "failures", "https", "cache", "trust", "servers", "source"}


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
        if not isinstance(next_hop, NextHop):
            next_hop = NextHop.parse(next_hop)
        domain = str(evolve(next_hop, port=SMTP_PORT)) if next_hop.kind is Kind.LITERAL else next_hop.name
        message = Message(
            sender,
            recipients or (f"postmaster@{domain}",),
            _REPORT if tls_report else _CONTENT,
            requiretls=requiretls,
            tls_report=tls_report,
            tls_optional=tls_optional or tls_report,
        )
        return self.deliver(message, next_hop, now, before)


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
        as_object(data, "a world", _KEYS)
        folder = None if base is None else Path(base)
        return cls(
            data,
            read_time(data["now"]) if "now" in data else None,
            StaticResolver.from_json(data.get("zones", {}), data.get("failures", [])),
            StaticConnector.from_json(data.get("servers", {}), data.get("source", []), folder),
            StaticFetcher.from_json(data.get("https", {})),
            read_cache(data.get("cache", {})),
            TrustStore(read_certificates(data.get("trust", []), "trust", folder)),
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
    return once(pairs, "an object")


def read_time(text: Any) -> datetime:
    """Read a time in ISO 8601, with an offset or "Z"; raises `ValueError` on anything else."""
    if not isinstance(text, str):
        raise ValueError(f"a time is a text, not {text!r:.60}")
    time = from_iso(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text!r} has no offset")
    return time
