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
  given one: to ask the next, which may not validate, would be a downgrade. Most nameservers call it SERVFAIL and no
  more. Then the same one is asked again without validation (the CD bit, RFC 4035 section 3.2.2), and if it has data
  then, the data is bogus. Nothing else of that reply is used.
- One that kept silent is asked last for five minutes, or until it answers: so it costs a plan one time limit, and not
  one for each question. That changes the order alone, and all of them are trusted alike.
- What stands in the way of a reply costs one more question each: a nameserver that does not understand EDNS is asked
  without (RFC 6891 section 7), and one that stays silent over UDP is asked over TCP in the end. Each question has the
  whole timeout.
- CNAME and DNAME records are followed by name, whatever their order in the message (RFC 1034 section 3.6.2). Below the
  owner of a DNAME that record is the alias, whether or not a CNAME synthesised from it stands beside; one that says
  something else makes the answer malformed (RFC 6672 sections 3.1 and 3.2).
- An empty answer section is a denial (RFC 2308 section 2), also behind a chain of aliases. One with records that the
  question does not lead to denies nothing: it is malformed.
- TLSA records are taken as octets, so that one with a digest of the wrong length, which is merely unusable, does not
  cost the RRset (RFC 6698 section 4.1). They are sorted, so that the plans of one domain are equal.

>>> resolver = DnsResolver(nameservers=["127.0.0.1", "[::1]:5353"])
>>> resolver.trusted
True
>>> DnsResolver(nameservers=["192.0.2.53"]).trusted
False
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
import time
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import dns.edns
import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from attrs import define, evolve, field, frozen
from attrs.validators import ge

from mailtlspolicy.adapters._own import is_own
from mailtlspolicy.adapters._text import printable, reason
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.names import MAX_LABEL_OCTETS
from mailtlspolicy.tlsa import Tlsa

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

UDP_PAYLOAD = 1232  # octets; what passes unfragmented nearly everywhere (DNS Flag Day 2020)
MAX_RECORDS = 256  # in answer and authority section; four times the largest RRset that is used (`max_tlsa_records`)
MAX_ALIAS_HOPS = 16  # in one message; as dnspython; resolvers give up after 8 to 16
MAX_STRAYS = 100  # datagrams that are no reply to the query; more are a flood, which may not keep the caller busy
MAX_TIMEOUT = 3600  # seconds; nobody waits longer for a nameserver
MAX_MESSAGE = 65535  # octets; the length field of DNS over TCP (RFC 1035 section 4.2.2)
SILENT_SECONDS = 300  # how long a silent nameserver is asked last; RFC 2308 section 7.2: five minutes at most

MAX_POINTERS = 127  # in one name: as many as it can have labels (RFC 1035 section 3.1); honest ones have one or two
_MAX_NAME = 255  # octets of a name on the wire (RFC 1035 section 3.1)
_POINTER = 0xC0  # the bits that tell a compression pointer from a label (RFC 1035 section 4.1.4)

_WITHOUT_EDNS = {dns.rcode.FORMERR, dns.rcode.NOTIMP}  # RFC 6891 section 7, if the reply has no EDNS either
_DNSSEC_ERRORS = frozenset(range(6, 13))  # RFC 8914 section 4: DNSSEC Bogus to NSEC Missing
_DNSSEC_INDETERMINATE = 5  # RFC 8914 section 4.6
_MAX_ERRORS = 4  # extended errors shown
_ANSWERS = {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
_FAILURE_OF_RCODE: dict[int, FailureKind] = {
    dns.rcode.FORMERR: FailureKind.MALFORMED,
    dns.rcode.NOTIMP: FailureKind.NOTIMP,
    dns.rcode.REFUSED: FailureKind.REFUSED,
    dns.rcode.YXDOMAIN: FailureKind.MALFORMED,  # RFC 6672 section 2.2: a DNAME makes a name that is too long
}
# What no other nameserver may overrule
_FINAL = {FailureKind.BOGUS, FailureKind.INDETERMINATE, FailureKind.LOOP}
# What is worth another attempt with the same nameserver
_SILENCE = {FailureKind.TIMEOUT, FailureKind.NETWORK}


class _Truncated(Enum):
    """The reply did not fit into a datagram."""

    TRUNCATED = "TC"


_Result: TypeAlias = "Answer | LookupFailure"
_Reply: TypeAlias = "Answer | LookupFailure | _Truncated"
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
        nameservers: validating recursive nameservers, in the order in which they are asked, but for those that kept
            silent of late, which come last. All must validate.
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
    # When each nameserver kept silent. Threads and event loops share it: each step is one operation of a dict.
    _silent: dict[Nameserver, float] = field(factory=dict, init=False, repr=False, eq=False)

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

    def _in_turn(self) -> tuple[Nameserver, ...]:
        """The nameservers, those last that kept silent of late."""
        now = time.monotonic()
        # One unpickled on another system may lie in the future.
        return tuple(sorted(self.nameservers, key=lambda each: 0 <= now - self._silent.get(each, inf) < SILENT_SECONDS))

    def _turns(self, question: Lookup) -> Generator[_Turn, _Reply, _Result]:
        """Yield whom to ask what, be sent what came of it, return the result of the lookup."""
        failures = []
        waiting = self._in_turn()
        for by_tcp in (*[False] * self.attempts, True):  # in the end over TCP: UDP may be filtered
            silent = []
            for nameserver in waiting:
                try:
                    query = _Query(question, trusted=self.trusted)
                except dns.exception.DNSException as error:  # an overlong name, made of what the DNS said
                    return LookupFailure(question, FailureKind.MALFORMED, f"the name can not be asked for: {error}")
                result = yield from self._one_nameserver(_Turn(nameserver, query, by_tcp))
                if isinstance(result, Answer):
                    self._silent.pop(nameserver, None)
                    return result
                failure = LookupFailure(question, result.kind, f"{nameserver}: {result.detail}")
                if failure.kind in _FINAL:
                    return failure
                failures.append(failure)
                if failure.kind in _SILENCE:
                    silent.append(nameserver)
                    self._silent[nameserver] = time.monotonic()
            waiting = tuple(silent)
        return max(failures, key=lambda failure: failure.kind not in _SILENCE)  # an error says more than silence

    def _one_nameserver(self, turn: _Turn) -> Generator[_Turn, _Reply, _Result]:
        """Ask one nameserver, and again where its reply tells that it would say more: five times at most."""
        result = yield from self._whole(turn)
        if turn.query.edns_is_unknown:
            turn = evolve(turn, query=turn.query.without_edns())
            result = yield from self._whole(turn)
        if turn.query.failed_without_a_reason:
            found = yield evolve(turn, query=turn.query.without_validation())
            if isinstance(found, LookupFailure) and found.kind in _FINAL:
                return found
        return result

    def _whole(self, turn: _Turn) -> Generator[_Turn, _Reply, _Result]:
        reply = yield turn
        if isinstance(reply, _Truncated):
            reply = yield evolve(turn, by_tcp=True)
        assert not isinstance(reply, _Truncated)  # over TCP that is malformed
        return reply


class DnsResolver(_Stub):
    """A resolver that blocks. Threads can share one."""

    __slots__ = ()

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Ask the nameservers; whatever goes wrong in the world is a `LookupFailure`."""
        turns = self._turns(question)
        try:
            turn = next(turns)
            while True:
                turn = turns.send(self._exchange(turn))
        except StopIteration as stop:
            result: _Result = stop.value
            return result

    def _exchange(self, turn: _Turn) -> _Reply:
        ask = self._ask_by_tcp if turn.by_tcp else self._ask_by_udp
        try:
            return ask(turn.nameserver, turn.query, time.monotonic() + self.timeout)
        except OSError as error:
            return turn.query.failed(error)

    def _ask_by_udp(self, nameserver: Nameserver, query: _Query, deadline: float) -> _Reply:
        family, address = nameserver.endpoint()
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)  # so that the kernel drops what comes from elsewhere, and reports unreachability
            sock.send(query.wire)
            while True:
                sock.settimeout(_left(deadline))
                reply = query.read(sock.recv(MAX_MESSAGE))
                if reply is not None:
                    return reply

    def _ask_by_tcp(self, nameserver: Nameserver, query: _Query, deadline: float) -> _Reply:
        family, address = nameserver.endpoint()
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_left(deadline))
            sock.connect(address)
            sock.sendall(query.framed)
            length = int.from_bytes(self._receive(sock, 2, deadline), "big")
            return query.read_stream(self._receive(sock, length, deadline))

    @staticmethod
    def _receive(sock: socket.socket, length: int, deadline: float) -> bytes:
        octets = bytearray()
        while len(octets) < length:
            sock.settimeout(_left(deadline))
            octets += _some(sock.recv(length - len(octets)))
        return bytes(octets)


class _Places:
    """Room for so many lookups at a time, in each event loop."""

    def __init__(self) -> None:
        self._of_loop = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()

    def __reduce__(self) -> tuple[type[_Places], tuple[()]]:
        return _Places, ()

    def here(self, number: int) -> asyncio.Semaphore:
        """Those of the loop that runs."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loop:
            self._of_loop[loop] = asyncio.Semaphore(number)
        return self._of_loop[loop]


@frozen(kw_only=True)
class AsyncDnsResolver(_Stub):
    """A resolver for asyncio.

    Attributes:
        max_lookups: lookups under way at a time, whoever asks; each takes a descriptor. Further ones wait for a place,
            and their time limit does not begin before they have one.
    """

    max_lookups: int = field(default=256, validator=ge(1))  # a quarter of what systems commonly grant a process
    _places: _Places = field(factory=_Places, init=False, repr=False, eq=False)

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        """Ask the nameservers; whatever goes wrong in the world is a `LookupFailure`."""
        async with self._places.here(self.max_lookups):
            return await self._lookup(question)

    async def _lookup(self, question: Lookup) -> _Result:
        turns = self._turns(question)
        try:
            turn = next(turns)
            while True:
                turn = turns.send(await self._exchange(turn))
        except StopIteration as stop:
            result: _Result = stop.value
            return result

    async def _exchange(self, turn: _Turn) -> _Reply:
        ask = self._ask_by_tcp if turn.by_tcp else self._ask_by_udp
        try:
            return await asyncio.wait_for(ask(turn.nameserver, turn.query), self.timeout)
        except (OSError, asyncio.TimeoutError) as error:
            return turn.query.failed(error)

    async def _ask_by_udp(self, nameserver: Nameserver, query: _Query) -> _Reply:
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

    async def _ask_by_tcp(self, nameserver: Nameserver, query: _Query) -> _Reply:
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
        octets = bytearray()
        while len(octets) < length:
            octets += _some(await asyncio.get_running_loop().sock_recv(sock, length - len(octets)))
        return bytes(octets)


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


@frozen
class _Turn:
    """One query to one nameserver."""

    nameserver: Nameserver
    query: _Query
    by_tcp: bool = False


class _Query:
    """One query message, and the reading of what comes back.

    Attributes:
        wire: the message.
        framed: the message as it goes over TCP (RFC 1035 section 4.2.2).
        edns_is_unknown: the reply says that the nameserver does not understand EDNS.
        failed_without_a_reason: the reply is SERVFAIL, which may stand for bogus data, and does not tell.
    """

    def __init__(
        self, question: Lookup, *, trusted: bool, with_edns: bool = True, checking_disabled: bool = False
    ) -> None:
        self._question = question
        self._trusted = trusted
        self._with_edns = with_edns
        self._checking_disabled = checking_disabled
        self._name = dns.name.from_text(question.name).to_digestable()
        self._rdtype = dns.rdatatype.from_text(question.rdtype)
        self._id = secrets.randbits(16)  # RFC 5452 section 9.2
        self._strays = 0
        # Not both: PowerDNS Recursor validates where AD is set, whatever CD says.
        flags = dns.flags.RD | (dns.flags.CD if checking_disabled else dns.flags.AD)
        self.wire = b"".join(
            (
                _HEADER.pack(self._id, flags, 1, 0, 0, int(with_edns)),
                self._name,
                _QUESTION.pack(self._rdtype, dns.rdataclass.IN),
                _ROOT + _RECORD.pack(dns.rdatatype.OPT, UDP_PAYLOAD, 0, 0) if with_edns else b"",
            )
        )
        self.framed = len(self.wire).to_bytes(2, "big") + self.wire
        self.edns_is_unknown = False
        self.failed_without_a_reason = False

    def without_edns(self) -> _Query:
        """The same query without EDNS (RFC 6891 section 7)."""
        return _Query(self._question, trusted=self._trusted, with_edns=False)

    def without_validation(self) -> _Query:
        """The query that tells bogus data from data that can not be had: the first is given where CD is set.

        All that is read of the reply is whether it has data; the failure then is `BOGUS`. Without any reply it is
        `INDETERMINATE`, since who forges data may be able to delay it, too.
        """
        return _Query(self._question, trusted=False, with_edns=self._with_edns, checking_disabled=True)

    def failed(self, error: BaseException) -> LookupFailure:
        """The failure that an error of the network, or a timeout, amounts to."""
        if is_own(error):
            return self._failure(FailureKind.LOCAL, reason(error))
        if self._checking_disabled:
            return self._failure(FailureKind.INDETERMINATE, "SERVFAIL, and no reply to the question why")
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

    def read(self, wire: bytes) -> _Reply | None:
        """Read a datagram; None where it is no reply to this query, which is to be waited for (RFC 5452 section 9)."""
        message = _Message(wire)
        try:
            ident, flags, questions, *counts = message.numbers(_HEADER)
            ours = ident == self._id and flags & dns.flags.QR and self._repeats_question(message, questions, flags)
        except _MALFORMED:
            ours = False
        if not ours:
            self._strays += 1
            if self._strays > MAX_STRAYS:
                return self._failure(FailureKind.MALFORMED, f"more than {MAX_STRAYS} replies that are to no query")
            return None
        if self._checking_disabled:
            if flags & dns.flags.TC or flags & 0xF in _ANSWERS:
                return self._failure(FailureKind.BOGUS, "SERVFAIL, and data where checking is disabled")
            return self._failure(FailureKind.SERVFAIL, "SERVFAIL, with checking disabled too")
        if flags & dns.flags.TC:
            return _Truncated.TRUNCATED
        try:
            return self._read_records(message, flags, *counts)
        except (IndexError, struct.error):
            return self._failure(FailureKind.MALFORMED, "the message is cut off")
        except ValueError as error:
            return self._failure(FailureKind.MALFORMED, reason(error))

    def _repeats_question(self, message: _Message, count: int, flags: int) -> bool:
        if count == 0:  # a server that understood no more than the header of the query, and says so
            return flags & 0xF not in _ANSWERS
        return (count, message.name(), *message.numbers(_QUESTION)) == (
            1,
            self._name,
            self._rdtype,
            dns.rdataclass.IN,
        )

    def _failure(self, kind: FailureKind, detail: str) -> LookupFailure:
        return LookupFailure(self._question, kind, detail)

    def _read_records(self, message: _Message, flags: int, answers: int, authorities: int, rest: int) -> _Result:
        if (count := answers + authorities) > MAX_RECORDS:
            return self._failure(FailureKind.MALFORMED, f"{count} records, more than {MAX_RECORDS}")
        contents = _Contents(message)
        for _ in range(answers):
            contents.add_answer(message.record(message.name()))
        for _ in range(authorities):
            contents.authorities.append(message.record(message.name()))
        rcode, errors, has_edns = flags & 0xF, list[tuple[int, bytes]](), False
        for _ in range(rest):
            message.skip_name()
            record = message.record(_ROOT)
            if record.rdtype == dns.rdatatype.OPT:
                has_edns = True
                rcode |= record.ttl >> 24 << 4  # RFC 6891 section 6.1.3
                errors += message.read(record, _extended_errors)
        if rcode not in _ANSWERS:
            self.edns_is_unknown = rcode == dns.rcode.BADVERS or (rcode in _WITHOUT_EDNS and not has_edns)
            return self._error(rcode, errors)
        return self._answer(contents, flags, nxdomain=rcode == dns.rcode.NXDOMAIN)

    def _error(self, rcode: int, errors: list[tuple[int, bytes]]) -> LookupFailure:
        kind = _FAILURE_OF_RCODE.get(rcode, FailureKind.SERVFAIL)
        if kind is FailureKind.SERVFAIL:
            codes = {code for code, _ in errors}
            if codes & _DNSSEC_ERRORS:
                kind = FailureKind.BOGUS
            elif _DNSSEC_INDETERMINATE in codes:
                kind = FailureKind.INDETERMINATE
            else:
                self.failed_without_a_reason = rcode == dns.rcode.SERVFAIL
        shown = [f"EDE {code} {printable(text.rstrip(_ROOT))}".rstrip() for code, text in errors[:_MAX_ERRORS]]
        return self._failure(kind, "; ".join([dns.rcode.to_text(dns.rcode.Rcode.make(rcode)), *shown]))

    def _answer(self, contents: _Contents, flags: int, *, nxdomain: bool) -> _Result:
        name, aliases, ttls = self._name, list[str](), list[int]()
        first_dname: bytes | None = None
        reached = set[tuple[bytes, int]]()
        records: dict[_Data, None] = {}  # RFC 2181 section 5: no duplicates
        while True:
            link = contents.alias(name, data=self._rdtype)
            if link is None:
                found = contents.answers.get((name, self._rdtype), [])
                if self._rdtype == dns.rdatatype.TLSA:  # resolvers turn RRsets; those of addresses are for being turned
                    found = sorted(found, key=contents.message.rdata)
                records = dict.fromkeys(
                    contents.message.read(record, _READERS[self._question.rdtype]) for record in found
                )
                ttls += [record.lifetime for record in found]
                break
            reached |= link.keys
            ttls.append(link.ttl)
            if self._rdtype == dns.rdatatype.CNAME:  # which is answered, not followed
                records = {_text(link.target): None}
                break
            if len(aliases) == MAX_ALIAS_HOPS:
                return self._failure(FailureKind.LOOP, f"more than {MAX_ALIAS_HOPS} aliases")
            if not aliases:
                first_dname = link.dname
            name = link.target
            aliases.append(_text(name))
        if records and nxdomain:
            return self._failure(FailureKind.MALFORMED, "NXDOMAIN for a name that has records")
        if not records and contents.keys - reached:  # not even what was asked for, of which there may be a signature
            return self._failure(FailureKind.MALFORMED, "the answer has records, and none that the question leads to")
        # What makes an empty answer a denial is the SOA record of the zone (RFC 2308 section 2.2).
        zones = {name, *_names_above(name)}
        soa = [
            min(record.lifetime, contents.message.read(record, _soa_minimum))
            for record in contents.authorities
            if (record.rdclass, record.rdtype) == (dns.rdataclass.IN, dns.rdatatype.SOA) and record.owner in zones
        ]
        complete = bool(records or nxdomain or soa or not aliases)
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
            believed=self._trusted,
            dname=None if first_dname is None else _text(first_dname),
        )


@frozen
class _Record:
    """A resource record, its RDATA unread: it stands from `start` to `end` in the message."""

    owner: bytes
    rdtype: int
    rdclass: int
    ttl: int
    start: int
    end: int

    @property
    def lifetime(self) -> int:
        """The TTL in seconds; one with the highest bit set means 0 (RFC 2181 section 8)."""
        return self.ttl if self.ttl < 1 << 31 else 0


@define
class _Message:
    """A message, read from the front in time linear in its octets.

    Names are in wire form, uncompressed and in lower case: so equal names are equal octets. What a pointer leads to is
    decompressed once.
    """

    wire: bytes
    at: int = 0
    _names: dict[int, bytes] = field(factory=dict)

    def numbers(self, form: struct.Struct) -> tuple[Any, ...]:
        """The next numbers."""
        numbers = form.unpack_from(self.wire, self.at)
        self.at += form.size
        return numbers

    def octets(self, length: int) -> bytes:
        """The next octets."""
        start, self.at = self.at, self.at + length
        if self.at > len(self.wire):
            raise ValueError("the message is cut off")
        return self.wire[start : self.at]

    def record(self, owner: bytes) -> _Record:
        """The record (RFC 1035 section 4.1.3) whose owner has just been read."""
        rdtype, rdclass, ttl, length = self.numbers(_RECORD)
        start = self.at
        self.octets(length)
        return _Record(owner, rdtype, rdclass, ttl, start, self.at)

    def read(self, record: _Record, reader: Callable[[_Message, int], _T]) -> _T:
        """Read the RDATA, all of it; raises one of `_MALFORMED` where it is malformed."""
        rdata = _Message(self.wire, record.start, self._names)
        value = reader(rdata, record.end)
        if rdata.at != record.end:
            raise ValueError("the data of a record is longer or shorter than it says")
        return value

    def rdata(self, record: _Record) -> bytes:
        """The octets of the RDATA, by which the records of an RRset are ordered (RFC 4034 section 6.3)."""
        return self.wire[record.start : record.end]

    def skip_name(self) -> None:
        """Pass over a name without reading it."""
        while (length := self.wire[self.at]) != 0:
            if length >= _POINTER:
                self.at += 1
                break
            self.at += 1 + length
        self.at += 1

    def name(self) -> bytes:
        """The next name (RFC 1035 section 4.1.4)."""
        wire, at, end = self.wire, self.at, 0
        labels: list[bytes] = []
        followed: list[tuple[int, int]] = []  # where a pointer leads to, and how many labels come before
        suffix, lowest = _ROOT, at
        while (length := wire[at]) != 0:
            if length <= MAX_LABEL_OCTETS:
                labels.append(wire[at : at + 1 + length])
                at += 1 + length
            elif length >= _POINTER:
                target = (length & ~_POINTER) << 8 | wire[at + 1]
                end = end or at + 2
                if target >= lowest or len(followed) == MAX_POINTERS:
                    raise ValueError("a name is compressed in a way that is not allowed")
                if target in self._names:
                    suffix = self._names[target]
                    break
                followed.append((target, len(labels)))
                lowest = at = target
            else:
                raise ValueError("a name has a label of an unknown kind")
        self.at = end or at + 1
        for target, before in reversed(followed):
            self._names[target] = b"".join(labels[before:]).lower() + suffix
        name = b"".join(labels).lower() + suffix
        if len(name) > _MAX_NAME:
            raise ValueError(f"a name has more than {_MAX_NAME} octets")
        return name


@frozen
class _Link:
    """An alias: its target, the lowest TTL of its records, their keys, and the owner of the DNAME it comes from."""

    target: bytes
    ttl: int
    keys: set[tuple[bytes, int]]
    dname: bytes | None = None


@frozen
class _Contents:
    """The records of a message: the answers by owner and type, and the authority section.

    Attributes:
        message: what they stand in.
        answers: those of class IN, by owner and type, without signatures.
        keys: what else the answer section is about: the same, and other classes, and what signatures are of.
        authorities: the authority section.
    """

    message: _Message
    answers: dict[tuple[bytes, int], list[_Record]] = field(factory=dict)
    keys: set[tuple[bytes, int]] = field(factory=set)
    authorities: list[_Record] = field(factory=list)

    def add_answer(self, record: _Record) -> None:
        """Add a record of the answer section."""
        if record.rdclass != dns.rdataclass.IN:
            self.keys.add((record.owner, -1))  # no type, which no question leads to
        elif record.rdtype == dns.rdatatype.RRSIG:
            self.keys.add((record.owner, self.message.read(record, _type_covered)))
        else:
            key = (record.owner, record.rdtype)
            self.keys.add(key)
            self.answers.setdefault(key, []).append(record)

    def alias(self, name: bytes, *, data: int) -> _Link | None:
        """The alias at a name where there is one: the DNAME above it, or else its CNAME if there is no data.

        Raises:
            ValueError: there are several, or they contradict each other.
        """
        cname = self._only_target(name, dns.rdatatype.CNAME)
        owner = None
        for above in _names_above(name):
            if (above, dns.rdatatype.DNAME) in self.answers:
                owner = above  # the highest one hides what is below it (RFC 6672 section 2.4)
        if owner is not None and (dname := self._only_target(owner, dns.rdatatype.DNAME)) is not None:
            target = name[: -len(owner)] + dname.target
            if len(target) > _MAX_NAME:
                raise ValueError("a DNAME makes a name that is too long")
            if cname is not None and cname.target != target:
                raise ValueError("a CNAME is not the one that the DNAME above it makes")
            ttl = dname.ttl if cname is None else min(dname.ttl, cname.ttl)
            return _Link(target, ttl, dname.keys | {(name, int(dns.rdatatype.CNAME))}, owner)
        return cname if (name, data) not in self.answers or data == dns.rdatatype.CNAME else None

    def _only_target(self, owner: bytes, rdtype: int) -> _Link | None:
        """The alias that the records of this type are; there can be one (RFC 2181 section 10.1, RFC 6672 2.4)."""
        links = self.answers.get((owner, rdtype))
        if links is None:
            return None
        targets = {self.message.read(link, _target) for link in links}
        if len(targets) > 1:
            raise ValueError("a name has several aliases")
        return _Link(targets.pop(), min(link.lifetime for link in links), {(owner, rdtype)})

    @property
    def is_referral(self) -> bool:
        """Whether the authority section names other nameservers (RFC 2308 section 2.2)."""
        return any(record.rdtype == dns.rdatatype.NS for record in self.authorities)


_ROOT = b"\0"
_HEADER, _QUESTION, _RECORD = struct.Struct("!HHHHHH"), struct.Struct("!HH"), struct.Struct("!HHIH")
_TWO_OCTETS, _SOA_TIMES = struct.Struct("!H"), struct.Struct("!IIIII")
_MALFORMED = (ValueError, IndexError, struct.error)  # what reading raises


def _names_above(name: bytes) -> Iterator[bytes]:
    """The names above a name, from its parent to the root."""
    at = 0
    while name[at]:
        at += 1 + name[at]
        yield name[at:]


def _text(name: bytes) -> str:
    """A name in the library's form; odd octets stay escaped, as in a master file, and the root stays "."."""
    labels, at = [], 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return dns.name.Name([*labels, b""]).to_text(omit_final_dot=True)


# Readers of RDATA: they are given the message, which stands at its first octet, and where it ends.


def _target(rdata: _Message, _end: int) -> bytes:
    return rdata.name()


def _alias_target(rdata: _Message, _end: int) -> str:
    return _text(rdata.name())


def _mx(rdata: _Message, _end: int) -> Mx:
    (preference,) = rdata.numbers(_TWO_OCTETS)
    return Mx(preference, _text(rdata.name()))


def _txt(rdata: _Message, end: int) -> tuple[bytes, ...]:
    strings = []
    while rdata.at < end:
        strings.append(rdata.octets(rdata.octets(1)[0]))
    return tuple(strings)


def _tlsa(rdata: _Message, end: int) -> Tlsa:
    return Tlsa.from_rdata(rdata.octets(end - rdata.at))


def _ipv4(rdata: _Message, _end: int) -> str:
    return str(ipaddress.IPv4Address(rdata.octets(4)))


def _ipv6(rdata: _Message, _end: int) -> str:
    return str(ipaddress.IPv6Address(rdata.octets(16)))


def _soa_minimum(rdata: _Message, _end: int) -> int:
    rdata.name()
    rdata.name()
    minimum: int = rdata.numbers(_SOA_TIMES)[4]
    return minimum


def _type_covered(rdata: _Message, end: int) -> int:
    """What an RRSIG record signs (RFC 4034 section 3.1.1); the rest of it is of no interest."""
    covered: int = rdata.numbers(_TWO_OCTETS)[0]
    rdata.octets(end - rdata.at)
    return covered


def _extended_errors(rdata: _Message, end: int) -> list[tuple[int, bytes]]:
    """The extended errors among EDNS options: code and text (RFC 8914 section 2)."""
    errors = []
    while rdata.at < end:
        code, length = rdata.numbers(_QUESTION)
        data = rdata.octets(length)
        if code == dns.edns.OptionType.EDE and len(data) >= 2:
            errors.append((int.from_bytes(data[:2], "big"), data[2:]))
    return errors


_READERS: dict[RecordType, Callable[[_Message, int], _Data]] = {
    RecordType.A: _ipv4,
    RecordType.AAAA: _ipv6,
    RecordType.CNAME: _alias_target,
    RecordType.DNAME: _alias_target,
    RecordType.MX: _mx,
    RecordType.TLSA: _tlsa,
    RecordType.TXT: _txt,
}
