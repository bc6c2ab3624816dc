"""The DNS of a world: its zones, the failures of lookups, and the resolver that answers from them.

It behaves as a validating recursive resolver with a stub in front of it:

- A name belongs to the longest zone that it ends in; a name in no zone is an insecure NXDOMAIN.
- CNAME and DNAME are followed across zones; the answer is insecure as soon as one link, the data or the denial lies in
  an insecure zone. A CNAME question is answered without following. The answer tells which DNAME made the first alias.
- Wildcards synthesise, empty non-terminals are NODATA (RFC 4592, RFC 8020).
- Whatever touches a bogus zone is a `bogus` failure. The failures listed win over the zones.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.name
import dns.rdatatype
import dns.tokenizer
import dns.ttl
from attrs import field, frozen

from mailtlspolicy._words import Word
from mailtlspolicy.dns.effects import MAX_TTL, Answer, FailureKind, LookupFailure, Mx, RecordType
from mailtlspolicy.names import MAX_NAME_OCTETS, canonical_address
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.world._reading import as_list, as_number, as_object, as_one_of
from mailtlspolicy.world.passing import Passing, read_takes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mailtlspolicy.dns.effects import Lookup

DEFAULT_TTL = 3600  # seconds; of records that give none, and of denials
ALIAS_HOPS = 10  # the alias hops that the static resolver follows; the eleventh is a loop
_ZONE_KEYS = {"security", "records", "denial_ttl"}
_FAILURE_KEYS = {"name", "type", "kind"}


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
        as_object(data, f"the zone {origin}", _ZONE_KEYS)
        top = _name(origin, "")
        found: dict[tuple[str, str], list[tuple[Any, int]]] = {}
        names = {top}
        for text in as_list(data.get("records", []), f"the records of {origin}"):
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
        denial = RRset((), as_number(data.get("denial_ttl", DEFAULT_TTL), f"denial_ttl of {origin}", 0, MAX_TTL))
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

    @classmethod
    def from_json(cls, zones: Any, failures: Any) -> StaticResolver:
        """Read the zones by origin, and the list of failures; raises `ValueError` where they do not have the format."""
        return cls(_read_zones(as_object(zones, "zones")), *_read_failures(failures))

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


def _read_failures(data: Any) -> tuple[dict[tuple[str, str], FailureKind], dict[tuple[str, str], int]]:
    """The failures by name and type, and the seconds that each takes; the last of several counts."""
    listed = dict(map(_read_failure, as_list(data, "failures")))
    return {key: kind for key, (kind, _) in listed.items()}, {key: takes for key, (_, takes) in listed.items()}


def _read_failure(data: Any) -> tuple[tuple[str, str], tuple[FailureKind, int]]:
    where = f"the failure {data!r:.60}"
    if missing := _FAILURE_KEYS - as_object(data, where, _FAILURE_KEYS | {"takes"}).keys():
        raise ValueError(f"{where}: there is no {min(missing)}")
    rdtype = as_one_of(data["type"], (*RecordType, "*"), where)
    return (_name(data["name"], ""), rdtype), (FailureKind(data["kind"]), read_takes(data, where))


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
