"""A nameserver as a function from octets to octets: it answers from the zones of a world, as if it had validated them.

A stub resolver asks a nameserver. `loopback.LoopbackNameserver` puts this one on sockets; in a simulation, or an event
loop of your own, each datagram goes into `StaticNameserver.reply` and what comes out is sent back. None is for silence.

- It recurses, and says by the AD bit that all of the response was validated, where it was and the query wanted to know
  (RFC 6840 section 5.7). Bogus data is SERVFAIL with an extended error, or the data where checking is disabled.
- Below a DNAME it sends that record and the CNAME that follows from it.
- The records of an RRset come in the order opposite to the zone's: who has to sort has something to do.
- A reply longer than the query allows is truncated, except over TCP.
- An alias whose owner is in `alone` comes without the data of its target; so does a loop of them.

>>> import dns.message
>>> from mailtlspolicy.world.world import World
>>> nameserver = StaticNameserver(World.from_json({"zones": {"a.test": {"records": ["@ MX 10 mx"]}}}).resolver)
>>> reply = nameserver.reply(dns.message.make_query("a.test", "MX").to_wire())
>>> [str(rrset) for rrset in dns.message.from_wire(reply).answer]
['a.test. 3600 IN MX 10 mx.a.test.']
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from attrs import frozen

from mailtlspolicy.dns.effects import FailureKind, Mx
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.world.zones import DEFAULT_TTL, RRset, ZoneSecurity

if TYPE_CHECKING:
    from mailtlspolicy.world.zones import StaticResolver, Zone

_WITHOUT_EDNS = 512  # octets of a datagram (RFC 1035 section 4.2.1)
_SOA_MINIMUM = 86_400  # seconds: more than the TTL that the record is sent with, as from a cache
_RCODES = {
    FailureKind.REFUSED: dns.rcode.REFUSED,
    FailureKind.NOTIMP: dns.rcode.NOTIMP,
    FailureKind.MALFORMED: dns.rcode.FORMERR,
}
_ERRORS = {  # RFC 8914 section 4
    FailureKind.BOGUS: dns.edns.EDECode.DNSSEC_BOGUS,
    FailureKind.INDETERMINATE: dns.edns.EDECode.DNSSEC_INDETERMINATE,
}
_SILENT = {FailureKind.TIMEOUT, FailureKind.NETWORK}

_HEADER, _FIXED = struct.Struct("!HHHHHH"), struct.Struct("!HHIH")
_IN, _OPT = 1, dns.rdatatype.OPT


@frozen
class StaticNameserver:
    """The nameserver.

    Attributes:
        resolver: the zones and failures of a world.
        alone: the owners of aliases that come without the data of their targets.
    """

    resolver: StaticResolver
    alone: frozenset[str] = frozenset()

    def reply(self, query: bytes, *, stream: bool = False) -> bytes | None:
        """The reply to a query, or None where there is none; `stream` says that it came over TCP."""
        try:
            asked = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return None
        if len(asked.question) != 1:
            return None
        question = asked.question[0]
        checking = not asked.flags & dns.flags.CD
        found = self._find(question.name, dns.rdatatype.to_text(question.rdtype), checking=checking)
        if found is None:
            return None
        rcode, secure, answers, authorities, error = found
        flags = dns.flags.QR | dns.flags.RA | asked.flags & (dns.flags.RD | dns.flags.CD) | rcode
        wanted = asked.flags & dns.flags.AD or asked.ednsflags & dns.flags.DO
        if secure and wanted and checking:
            flags |= dns.flags.AD
        has_edns = asked.edns >= 0
        room = 65_535 if stream else asked.payload if has_edns else _WITHOUT_EDNS
        repeated = (question.name.to_wire() or b"") + struct.pack("!HH", question.rdtype, _IN)
        additional = _opt(error) if has_edns else b""
        header = _HEADER.pack(asked.id, flags, 1, len(answers), len(authorities), int(has_edns))
        wire = b"".join([header, repeated, *answers, *authorities, additional])
        if len(wire) <= room:
            return wire
        return _HEADER.pack(asked.id, flags | dns.flags.TC, 1, 0, 0, int(has_edns)) + repeated + additional

    def _find(
        self, asked: dns.name.Name, rdtype: str, *, checking: bool
    ) -> tuple[int, bool, list[bytes], list[bytes], int | None] | None:
        """The response code, whether all is secure, answers and authorities, and the extended error; None: silence."""
        name, secure, answers = asked.to_text(omit_final_dot=True).lower().removesuffix("."), True, list[bytes]()
        seen = set[str]()
        while True:
            kind = self._failure(name, rdtype, checking=checking)
            if kind is not None:
                code = _RCODES.get(kind, dns.rcode.SERVFAIL)
                return None if kind in _SILENT else (code, False, [], [], _ERRORS.get(kind))
            zone = self._zone(name)
            if zone is None:
                return dns.rcode.NXDOMAIN, False, answers, [_soa("", DEFAULT_TTL)], None
            secure = secure and zone.security is ZoneSecurity.SECURE
            alias, above = zone.alias(name) or (None, None)
            if alias is None:
                rrset = zone.find(name, rdtype)
                if rrset is not None:
                    answers += _records(name, rdtype, rrset)
                    return dns.rcode.NOERROR, secure, answers, [], None
                rcode = dns.rcode.NOERROR if zone.exists(name) else dns.rcode.NXDOMAIN
                return rcode, secure, answers, [_soa(zone.origin, zone.denial.ttl)], None
            if above is not None:
                answers += _records(above, "DNAME", zone.rrsets[above, "DNAME"])
            answers += _records(name, "CNAME", alias)
            seen.add(name)
            if rdtype == "CNAME" or name in self.alone or alias.records[0] in seen:
                return dns.rcode.NOERROR, secure, answers, [], None
            name = alias.records[0]
            if len(name) > 253:
                return dns.rcode.YXDOMAIN, False, answers, [], None

    def _failure(self, name: str, rdtype: str, *, checking: bool) -> FailureKind | None:
        zone, failures = self._zone(name), self.resolver.failures
        if zone is not None and zone.security is ZoneSecurity.BOGUS:
            return FailureKind.BOGUS if checking else None
        return failures.get((name, rdtype)) or failures.get((name, "*"))

    def _zone(self, name: str) -> Zone | None:
        while name and name not in self.resolver.zones:
            name = name.partition(".")[2]
        return self.resolver.zones.get(name)


def _records(owner: str, rdtype: str, rrset: RRset) -> list[bytes]:
    return [_record(owner, dns.rdatatype.from_text(rdtype), rrset.ttl, _rdata(each)) for each in rrset.records[::-1]]


def _record(owner: str, rdtype: int, ttl: int, rdata: bytes) -> bytes:
    return _name(owner) + _FIXED.pack(rdtype, _IN, ttl, len(rdata)) + rdata


def _rdata(record: Any) -> bytes:
    if isinstance(record, Mx):
        return struct.pack("!H", record.preference) + _name(record.exchange)
    if isinstance(record, Tlsa):
        return bytes([record.usage, record.selector, record.matching_type]) + record.data
    if isinstance(record, tuple):
        return b"".join(bytes([len(string)]) + string for string in record)
    try:
        return ipaddress.ip_address(record).packed
    except ValueError:
        return _name(record)


def _soa(origin: str, ttl: int) -> bytes:
    """The record of a denial, whose TTL is the lower of its own and its last field (RFC 2308 section 3)."""
    rdata = _name("ns." + origin) + _name("hostmaster." + origin) + struct.pack("!5I", 1, 2, 3, 4, _SOA_MINIMUM)
    return _record(origin, dns.rdatatype.SOA, ttl, rdata)


def _opt(error: int | None) -> bytes:
    rdata = b"" if error is None else struct.pack("!HHH", dns.edns.OptionType.EDE, 2, error)
    return _name("") + _FIXED.pack(_OPT, 1232, 0, len(rdata)) + rdata


def _name(text: str) -> bytes:
    return dns.name.from_text(text).to_wire() or b""
