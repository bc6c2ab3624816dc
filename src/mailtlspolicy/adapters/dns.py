"""A resolver on dnspython, synchronous and for asyncio: questions in, `Answer` or `LookupFailure` out.

The resolver is a security-aware stub without validation (RFC 4033 section 2): it asks a recursive nameserver that
validates, and takes that nameserver's word where the path to it is trusted.

- A query asks for recursion and, by the AD bit, for the validation status (RFC 6840 section 5.7). It carries EDNS, for
  extended errors and answers of up to 1232 octets, but not the DO bit: signatures would make answers larger and are of
  no use to a stub that does not check them; the AD bit of the answer is the same.
- The AD bit counts where every nameserver is a loopback address, or the caller says that the path is secured (RFC 7672
  section 2.1.1, RFC 4035 section 4.9.3). Loopback alone is no proof that the nameserver validates.
- Names are absolute; no search list applies. NXDOMAIN and NODATA are answers. A truncated answer is asked for again
  over TCP. Replies that do not belong to the query are ignored (RFC 5452 section 9).
- Nameservers are asked in order until one gives an answer. A nameserver that calls the data bogus or indeterminate has
  given one: to ask the next, which may not validate, would be a downgrade.
- CNAME records are followed by name, whatever their order in the message (RFC 1034 section 3.6.2). DNAME records are
  ignored: the alias synthesised from them counts, and the validator has compared the two (RFC 7672 section 2.1.3).
- TLSA records are taken as octets, so that one with a digest of the wrong length, which is merely unusable, does not
  cost the RRset (RFC 6698 section 4.1).

>>> resolver = DnsResolver(nameservers=["127.0.0.1", "[::1]:5353"])
>>> resolver.trusted
True
>>> DnsResolver(nameservers=["192.0.2.53"]).trusted
False
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.wire
from attrs import field, frozen

from mailtlspolicy.adapters._text import printable, reason
from mailtlspolicy.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.names import MAX_LABEL_OCTETS
from mailtlspolicy.tlsa import Tlsa

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

UDP_PAYLOAD = 1232  # octets; what passes unfragmented nearly everywhere (DNS Flag Day 2020)
MAX_RECORDS = 1000  # in one message, all sections; RRsets met in the field have a few dozen
MAX_ALIAS_HOPS = 16  # in one message; as dnspython; resolvers give up after 8 to 16
MAX_STRAYS = 100  # datagrams that are no reply to the query; more are a flood, which may not keep the caller busy
MAX_TIMEOUT = 3600  # seconds; nobody waits longer for a nameserver
MAX_MESSAGE = 65535  # octets; the length field of DNS over TCP (RFC 1035 section 4.2.2)

MAX_POINTERS = 127  # in one name: as many as it can have labels (RFC 1035 section 3.1); honest ones have one or two
_POINTER = 0xC0  # the bits that tell a compression pointer from a label (RFC 1035 section 4.1.4)

_DNSSEC_ERRORS = frozenset(range(6, 13))  # RFC 8914 section 4: DNSSEC Bogus to NSEC Missing
_DNSSEC_INDETERMINATE = 5  # RFC 8914 section 4.6
_MAX_ERRORS = 4  # extended errors shown
_ANSWERS = {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
_FAILURE_OF_RCODE: dict[int, FailureKind] = {
    dns.rcode.FORMERR: FailureKind.MALFORMED,
    dns.rcode.NOTIMP: FailureKind.NOTIMP,
    dns.rcode.REFUSED: FailureKind.REFUSED,
}
# What no other nameserver may overrule
_FINAL = {FailureKind.BOGUS, FailureKind.INDETERMINATE, FailureKind.LOOP}
# What is worth another attempt with the same nameserver
_SILENCE = {FailureKind.TIMEOUT, FailureKind.NETWORK}


class _Truncated(Enum):
    """The reply did not fit into a datagram."""

    TRUNCATED = "TC"


_Result: TypeAlias = "Answer | LookupFailure"
_Reply: TypeAlias = "Answer | LookupFailure | _Truncated | None"
_Data: TypeAlias = "str | Mx | Tlsa | tuple[bytes, ...]"
_Stubs = TypeVar("_Stubs", bound="_Stub")
_T = TypeVar("_T")


@frozen
class Nameserver:
    """The IP address and port of a nameserver."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Nameserver:
        """Read "192.0.2.1", "192.0.2.1:5353", "2001:db8::1" or "[2001:db8::1]:5353".

        Raises:
            ValueError: the text is anything else.
        """
        host, colon, port = text, "", "53"
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            colon, port = rest[:1], rest[1:] or "53"
            if not bracket or colon not in {"", ":"} or rest == ":":
                raise ValueError(f"{text!r} is not the address of a nameserver")
        elif text.count(":") == 1:
            host, colon, port = text.partition(":")
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            raise ValueError(f"{text!r} is not the address of a nameserver") from None
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
            raise ValueError(f"{text!r} has no port from 1 to 65535")
        return cls(address, int(port))

    @property
    def loopback(self) -> bool:
        """Whether packets to it never leave this host."""
        return ipaddress.ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def endpoint(self) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
        """The address family and the address as sockets want them (an IPv6 zone becomes a number)."""
        found = socket.getaddrinfo(self.address, self.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        return found[0][0], found[0][4]


def _nameservers(texts: Sequence[str]) -> tuple[Nameserver, ...]:
    if isinstance(texts, str):
        raise TypeError("nameservers is a sequence of addresses, not one text")
    return tuple(Nameserver.parse(text) for text in texts)


@frozen(kw_only=True)
class _Stub:
    """What the synchronous and the asyncio resolver share: everything but the sockets.

    Attributes:
        nameservers: validating recursive nameservers, in the order in which they are asked. All must validate.
        timeout: seconds that one nameserver has for one attempt.
        attempts: how often a nameserver that keeps silent is asked.
        trust_ad: whether the AD bit is believed; None believes it where every nameserver is a loopback address.

    Raises:
        ValueError: no nameserver, or one that is not an address; a timeout or number of attempts that is not positive.
        TypeError: one text in place of a sequence of nameservers.
    """

    nameservers: tuple[Nameserver, ...] = field(converter=_nameservers)
    timeout: float = 5.0
    attempts: int = 2
    trust_ad: bool | None = None

    def __attrs_post_init__(self) -> None:
        if not self.nameservers:
            raise ValueError("a resolver needs a nameserver")
        if not 0 < self.timeout <= MAX_TIMEOUT or self.attempts < 1:
            raise ValueError(f"timeout is more than 0 seconds and at most {MAX_TIMEOUT}, attempts 1 or more")

    @classmethod
    def from_system(
        cls: type[_Stubs],
        *,
        timeout: float | None = None,
        attempts: int = 2,
        trust_ad: bool | None = None,
        path: str | None = None,
    ) -> _Stubs:
        """Make a resolver with the system's nameservers, read by dnspython.

        Only nameservers and, where the argument is None, the timeout are taken: search lists never apply, and
        "options trust-ad" is addressed to the C library. `path` is a file other than /etc/resolv.conf.

        Raises:
            ValueError: the system names no nameserver.
        """
        try:
            system = dns.resolver.Resolver() if path is None else dns.resolver.Resolver(path)
        except dns.exception.DNSException as error:
            raise ValueError(f"the system names no nameserver: {error}") from error
        return cls(
            nameservers=[str(nameserver) for nameserver in system.nameservers],
            timeout=system.timeout if timeout is None else timeout,
            attempts=attempts,
            trust_ad=trust_ad,
        )

    @property
    def trusted(self) -> bool:
        """Whether the AD bit of an answer counts (RFC 7672 section 2.1.1); where not, no answer is secure."""
        if self.trust_ad is not None:
            return self.trust_ad
        return all(nameserver.loopback for nameserver in self.nameservers)

    def _turns(self, question: Lookup) -> Generator[tuple[Nameserver, _Query], _Result, _Result]:
        """Yield which nameserver to send which query, be sent the result, return the result of the lookup."""
        failures = []
        waiting = self.nameservers
        for _ in range(self.attempts):
            silent = []
            for nameserver in waiting:
                try:
                    query = _Query(question, trusted=self.trusted)
                except dns.exception.DNSException as error:  # an overlong name, made of what the DNS said
                    return LookupFailure(question, FailureKind.MALFORMED, f"the name can not be asked for: {error}")
                result = yield nameserver, query
                if isinstance(result, Answer):
                    return result
                failure = LookupFailure(question, result.kind, f"{nameserver}: {result.detail}")
                if failure.kind in _FINAL:
                    return failure
                failures.append(failure)
                if failure.kind in _SILENCE:
                    silent.append(nameserver)
            waiting = tuple(silent)
        return max(failures, key=lambda failure: failure.kind not in _SILENCE)  # an error says more than silence


class DnsResolver(_Stub):
    """A resolver that blocks. Its values are immutable, so threads can share one."""

    __slots__ = ()

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Ask the nameservers; whatever goes wrong in the world is a `LookupFailure`."""
        turns = self._turns(question)
        try:
            turn = next(turns)
            while True:
                turn = turns.send(self._exchange(*turn))
        except StopIteration as stop:
            result: _Result = stop.value
            return result

    def _exchange(self, nameserver: Nameserver, query: _Query) -> _Result:
        deadline = time.monotonic() + self.timeout
        try:
            reply = self._ask_by_udp(nameserver, query, deadline)
            return self._ask_by_tcp(nameserver, query, deadline) if isinstance(reply, _Truncated) else reply
        except OSError as error:
            return query.failed(error)

    def _ask_by_udp(self, nameserver: Nameserver, query: _Query, deadline: float) -> _Result | _Truncated:
        family, address = nameserver.endpoint()
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)  # so that the kernel drops what comes from elsewhere, and reports unreachability
            sock.send(query.wire)
            while True:
                sock.settimeout(_left(deadline))
                reply = query.read(sock.recv(MAX_MESSAGE))
                if reply is not None:
                    return reply

    def _ask_by_tcp(self, nameserver: Nameserver, query: _Query, deadline: float) -> _Result:
        family, address = nameserver.endpoint()
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_left(deadline))
            sock.connect(address)
            sock.sendall(query.framed)
            length = int.from_bytes(self._receive(sock, 2, deadline), "big")
            return query.read_stream(self._receive(sock, length, deadline))

    @staticmethod
    def _receive(sock: socket.socket, length: int, deadline: float) -> bytes:
        octets = b""
        while len(octets) < length:
            sock.settimeout(_left(deadline))
            octets += _some(sock.recv(length - len(octets)))
        return octets


class AsyncDnsResolver(_Stub):
    """A resolver for asyncio."""

    __slots__ = ()

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Ask the nameservers; whatever goes wrong in the world is a `LookupFailure`."""
        turns = self._turns(question)
        try:
            turn = next(turns)
            while True:
                turn = turns.send(await self._exchange(*turn))
        except StopIteration as stop:
            result: _Result = stop.value
            return result

    async def _exchange(self, nameserver: Nameserver, query: _Query) -> _Result:
        try:
            return await asyncio.wait_for(self._ask(nameserver, query), self.timeout)
        except (OSError, asyncio.TimeoutError) as error:
            return query.failed(error)

    async def _ask(self, nameserver: Nameserver, query: _Query) -> _Result:
        reply = await self._ask_by_udp(nameserver, query)
        return await self._ask_by_tcp(nameserver, query) if isinstance(reply, _Truncated) else reply

    async def _ask_by_udp(self, nameserver: Nameserver, query: _Query) -> _Result | _Truncated:
        loop = asyncio.get_running_loop()
        family, address = nameserver.endpoint()
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, query.wire)
            while True:
                reply = query.read(await loop.sock_recv(sock, MAX_MESSAGE))
                if reply is not None:
                    return reply

    async def _ask_by_tcp(self, nameserver: Nameserver, query: _Query) -> _Result:
        loop = asyncio.get_running_loop()
        family, address = nameserver.endpoint()
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, query.framed)
            length = int.from_bytes(await self._receive(sock, 2), "big")
            return query.read_stream(await self._receive(sock, length))

    @staticmethod
    async def _receive(sock: socket.socket, length: int) -> bytes:
        octets = b""
        while len(octets) < length:
            octets += _some(await asyncio.get_running_loop().sock_recv(sock, length - len(octets)))
        return octets


def _left(deadline: float) -> float:
    """The seconds left until the deadline; `TimeoutError` where none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _some(octets: bytes) -> bytes:
    if not octets:
        raise ConnectionError("the nameserver closed the connection")
    return octets


# --- messages: no I/O below -------------------------------------------------------------------------------------------


class _Query:
    """One query message, and the reading of what comes back."""

    def __init__(self, question: Lookup, *, trusted: bool) -> None:
        self._question = question
        self._trusted = trusted
        self._name = dns.name.from_text(question.name)
        self._rdtype = dns.rdatatype.from_text(question.rdtype)
        message = dns.message.make_query(
            self._name, self._rdtype, use_edns=0, payload=UDP_PAYLOAD, flags=dns.flags.RD | dns.flags.AD
        )
        self._id = message.id
        self._strays = 0
        self.wire = message.to_wire()
        self.framed = len(self.wire).to_bytes(2, "big") + self.wire  # RFC 1035 section 4.2.2

    def failed(self, error: BaseException) -> LookupFailure:
        """The failure that an error of the network, or a timeout, amounts to."""
        if not isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return self._failure(FailureKind.NETWORK, reason(error))
        if self._strays:
            return self._failure(FailureKind.MALFORMED, "nothing came but replies that do not belong to the query")
        return self._failure(FailureKind.TIMEOUT, "timed out")

    def read_stream(self, wire: bytes) -> _Result:
        """Read the message that came over TCP, which has to be the reply, and whole."""
        reply = self.read(wire)
        if reply is None:
            return self._failure(FailureKind.MALFORMED, "the reply does not belong to the query")
        if isinstance(reply, _Truncated):
            return self._failure(FailureKind.MALFORMED, "the reply is truncated, over TCP")
        return reply

    def read(self, wire: bytes) -> _Reply:
        """Read a datagram; None where it is no reply to this query, which is to be waited for (RFC 5452 section 9)."""
        parser = dns.wire.Parser(wire)
        try:
            ident, flags, questions, *counts = parser.get_struct("!HHHHHH")
            ours = ident == self._id and flags & dns.flags.QR and self._repeats_question(parser, questions, flags)
        except dns.exception.DNSException:
            ours = False
        if not ours:
            self._strays += 1
            if self._strays > MAX_STRAYS:
                return self._failure(FailureKind.MALFORMED, f"more than {MAX_STRAYS} replies that are to no query")
            return None
        if flags & dns.flags.TC:
            return _Truncated.TRUNCATED
        try:
            return self._read_records(parser, flags, *counts)
        except (dns.exception.DNSException, ValueError) as error:
            return self._failure(FailureKind.MALFORMED, reason(error))

    def _repeats_question(self, parser: dns.wire.Parser, count: int, flags: int) -> bool:
        if count == 0:  # a server that understood no more than the header of the query, and says so
            return flags & 0xF not in _ANSWERS
        name = _name(parser)
        return (count, name, *parser.get_struct("!HH")) == (1, self._name, self._rdtype, dns.rdataclass.IN)

    def _failure(self, kind: FailureKind, detail: str) -> LookupFailure:
        return LookupFailure(self._question, kind, detail)

    def _read_records(self, parser: dns.wire.Parser, flags: int, answers: int, authorities: int, rest: int) -> _Result:
        count = answers + authorities + rest
        if count > MAX_RECORDS:
            return self._failure(FailureKind.MALFORMED, f"{count} records, more than {MAX_RECORDS}")
        contents = _Contents()
        for record in _records(parser, answers):
            if record.rdclass == dns.rdataclass.IN and record.rdtype in {self._rdtype, dns.rdatatype.CNAME}:
                contents.answers.setdefault((record.owner, record.rdtype), []).append(record)
        for record in _records(parser, authorities):
            if record.rdclass == dns.rdataclass.IN:
                contents.authorities.append(record)
        rcode = flags & 0xF
        errors: list[tuple[int, str]] = []
        for record in _records(parser, rest):
            if record.rdtype == dns.rdatatype.OPT:
                rcode |= record.ttl >> 24 << 4  # RFC 6891 section 6.1.3
                errors += record.read(_extended_errors)
        if rcode not in _ANSWERS:
            return self._error(rcode, errors)
        return self._answer(contents, flags, nxdomain=rcode == dns.rcode.NXDOMAIN)

    def _error(self, rcode: int, errors: list[tuple[int, str]]) -> LookupFailure:
        kind = _FAILURE_OF_RCODE.get(rcode, FailureKind.SERVFAIL)
        if kind is FailureKind.SERVFAIL:
            codes = {code for code, _ in errors}
            if codes & _DNSSEC_ERRORS:
                kind = FailureKind.BOGUS
            elif _DNSSEC_INDETERMINATE in codes:
                kind = FailureKind.INDETERMINATE
        shown = [f"EDE {code} {text}".rstrip() for code, text in errors[:_MAX_ERRORS]]
        return self._failure(kind, "; ".join([dns.rcode.to_text(dns.rcode.Rcode.make(rcode)), *shown]))

    def _answer(self, contents: _Contents, flags: int, *, nxdomain: bool) -> _Result:
        name, aliases, ttls = self._name, list[str](), list[int]()
        while (name, self._rdtype) not in contents.answers:
            links = contents.answers.get((name, dns.rdatatype.CNAME))
            if links is None:
                break
            targets = {link.read(_name) for link in links}
            if len(targets) > 1:  # RFC 2181 section 10.1
                return self._failure(FailureKind.MALFORMED, "a name has several CNAME records")
            if len(aliases) == MAX_ALIAS_HOPS:
                return self._failure(FailureKind.LOOP, f"more than {MAX_ALIAS_HOPS} aliases")
            (name,) = targets
            aliases.append(_text(name))
            ttls += [link.lifetime for link in links]
        found = contents.answers.get((name, self._rdtype), [])
        reader = _READERS[self._question.rdtype]
        records = dict.fromkeys(record.read(reader) for record in found)  # RFC 2181 section 5: no duplicates
        ttls += [record.lifetime for record in found]
        # What makes an empty answer a denial is the SOA record of the zone (RFC 2308 section 2.2).
        soa = [
            min(record.lifetime, record.read(_soa_minimum))
            for record in contents.authorities
            if record.rdtype == dns.rdatatype.SOA and name.is_subdomain(record.owner)
        ]
        complete = bool(records or nxdomain or soa or not aliases)
        if records and nxdomain:
            return self._failure(FailureKind.MALFORMED, "NXDOMAIN for a name that has records")
        if not records and complete:
            if contents.is_referral and not soa and not nxdomain and not flags & dns.flags.RA:
                return self._failure(FailureKind.SERVFAIL, "a referral: the nameserver does not recurse")
            ttls.append(min(soa, default=0))  # RFC 2308 section 5
        return Answer(
            self._question,
            secure=self._trusted and bool(flags & dns.flags.AD),
            records=tuple(records),
            aliases=tuple(aliases),
            nxdomain=nxdomain,
            complete=complete,
            ttl=min(ttls, default=0),
        )


@frozen
class _Record:
    """A resource record, its RDATA unread: it stands from `start` to `end` in the message."""

    owner: dns.name.Name
    rdtype: int
    rdclass: int
    ttl: int
    wire: bytes
    start: int
    end: int

    @property
    def lifetime(self) -> int:
        """The TTL in seconds; one with the highest bit set means 0 (RFC 2181 section 8)."""
        return self.ttl if self.ttl < 1 << 31 else 0

    def read(self, reader: Callable[[dns.wire.Parser], _T]) -> _T:
        """Read the RDATA, all of it; an exception of dnspython or `ValueError` where it is malformed."""
        rdata = dns.wire.Parser(self.wire[: self.end], self.start)
        value = reader(rdata)
        if rdata.remaining():
            raise ValueError("octets behind the data of a record")
        return value


@frozen
class _Contents:
    """The records of a message that matter: answers by owner and type, and the authority section."""

    answers: dict[tuple[dns.name.Name, int], list[_Record]] = field(factory=dict)
    authorities: list[_Record] = field(factory=list)

    @property
    def is_referral(self) -> bool:
        """Whether the authority section names other nameservers (RFC 2308 section 2.2)."""
        return any(record.rdtype == dns.rdatatype.NS for record in self.authorities)


def _records(parser: dns.wire.Parser, count: int) -> Iterator[_Record]:
    """The next records of a message (RFC 1035 section 4.1.3), their RDATA unread."""
    for _ in range(count):
        owner = _name(parser)
        rdtype, rdclass, ttl, length = parser.get_struct("!HHIH")
        start = parser.current
        parser.get_bytes(length)
        yield _Record(owner, rdtype, rdclass, ttl, parser.wire, start, parser.current)


def _name(parser: dns.wire.Parser) -> dns.name.Name:
    """Read a name, which dnspython does in time linear in its compression pointers: so these are bounded first."""
    at, pointers = parser.current, 0
    try:
        while (length := parser.wire[at]) != 0:
            if length >= _POINTER:
                pointers += 1
                at = (length & ~_POINTER) << 8 | parser.wire[at + 1]
            elif length <= MAX_LABEL_OCTETS:
                at += 1 + length
            else:  # no kind of label that there is; dnspython says so
                break
            if pointers > MAX_POINTERS:
                raise dns.name.BadPointer
    except IndexError:
        raise dns.exception.FormError from None
    return dns.name.from_wire_parser(parser)


def _text(name: dns.name.Name) -> str:
    """A name in the library's form; odd octets stay escaped, as in a master file, and the root stays "."."""
    return name.to_text(omit_final_dot=True).lower()


def _mx(rdata: dns.wire.Parser) -> Mx:
    return Mx(rdata.get_uint16(), _text(_name(rdata)))


def _txt(rdata: dns.wire.Parser) -> tuple[bytes, ...]:
    strings = []
    while rdata.remaining():
        strings.append(rdata.get_counted_bytes())
    return tuple(strings)


def _address(rdata: dns.wire.Parser, length: int) -> str:
    return str(ipaddress.ip_address(rdata.get_bytes(length)))


def _soa_minimum(rdata: dns.wire.Parser) -> int:
    _name(rdata)
    _name(rdata)
    minimum: int = rdata.get_struct("!IIIII")[4]
    return minimum


def _extended_errors(rdata: dns.wire.Parser) -> list[tuple[int, str]]:
    """The extended errors among EDNS options: code and text (RFC 8914 section 2)."""
    errors = []
    while rdata.remaining():
        code = rdata.get_uint16()
        data = rdata.get_counted_bytes(2)
        if code == dns.edns.OptionType.EDE and len(data) >= 2:
            errors.append((int.from_bytes(data[:2], "big"), printable(data[2:].rstrip(b"\0"))))
    return errors


_READERS: dict[RecordType, Callable[[dns.wire.Parser], _Data]] = {
    RecordType.A: lambda rdata: _address(rdata, 4),
    RecordType.AAAA: lambda rdata: _address(rdata, 16),
    RecordType.CNAME: lambda rdata: _text(_name(rdata)),
    RecordType.MX: _mx,
    RecordType.TLSA: lambda rdata: Tlsa.from_rdata(rdata.get_remaining()),
    RecordType.TXT: _txt,
}
