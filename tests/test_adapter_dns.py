"""The resolver on dnspython, against a scripted nameserver on loopback; the expectations are the clauses'."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import selectors
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import dns.wire
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailtlspolicy import Config, Engine
from mailtlspolicy.adapters.dns import (
    MAX_ALIAS_HOPS,
    MAX_RECORDS,
    MAX_STRAYS,
    SILENT_SECONDS,
    AsyncDnsResolver,
    DnsResolver,
    Nameserver,
    _Message,
    _Query,
)
from mailtlspolicy.config import Sts
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.tlsa import Tlsa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailtlspolicy.adapters.dns import _Reply

Script = "Callable[[bytes, bool], list[bytes]]"

A = Lookup("mx.example", RecordType.A)
TLSA = Lookup("_25._tcp.mx.example", RecordType.TLSA)
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
SOA = "example. 900 IN SOA ns.example. hostmaster.example. 1 7200 3600 86400 300"
TLSA_TYPE = b"\x00\x34\x00\x01"  # type 52, class IN
PATIENCE = 60.0  # seconds, where something comes
STAND_IN_TYPE = b"\xff\x00\x00\x01"  # TYPE65280, for RDATA that dnspython would not write as TLSA


class ScriptedNameserver:
    """A nameserver on UDP and TCP whose `script` is given a query and whether it came over TCP, and returns replies."""

    def __init__(self) -> None:
        self.script: Callable[[bytes, bool], list[bytes]] = lambda _query, _tcp: []
        self.queries: list[tuple[bytes, bool]] = []
        self.udp, self.tcp = self._bind()
        self.tcp.listen()
        self.address = f"127.0.0.1:{self.udp.getsockname()[1]}"
        self._wake, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @staticmethod
    def _bind() -> tuple[socket.socket, socket.socket]:
        for _ in range(50):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                udp.close()
                tcp.close()
            else:
                return udp, tcp
        raise AssertionError("no port is free for both UDP and TCP")

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (self.udp, self.tcp, self._wake):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._wake:
                        return
                    (self._serve_udp if key.fileobj is self.udp else self._serve_tcp)()

    def _serve_udp(self) -> None:
        query, client = self.udp.recvfrom(65535)
        self.queries.append((query, False))
        for reply in self.script(query, False):
            self.udp.sendto(reply, client)

    def _serve_tcp(self) -> None:
        connection, _ = self.tcp.accept()
        with connection:
            connection.settimeout(PATIENCE)
            query = connection.recv(65535)[2:]
            self.queries.append((query, True))
            for reply in self.script(query, True):
                connection.sendall(reply)

    def close(self) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for sock in (self.udp, self.tcp, self._wake, self._stop):
            sock.close()


@pytest.fixture
def server() -> Iterator[ScriptedNameserver]:
    with contextlib.closing(ScriptedNameserver()) as server:
        yield server


@pytest.fixture
def second() -> Iterator[ScriptedNameserver]:
    with contextlib.closing(ScriptedNameserver()) as server:
        yield server


class Asker:
    """Asks one question with a synchronous or an asyncio resolver."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(
        self,
        question: Lookup,
        *nameservers: ScriptedNameserver | str,
        timeout: float = PATIENCE,
        attempts: int = 1,
        trust_ad: bool | None = None,
    ) -> Answer | LookupFailure:
        addresses = [server if isinstance(server, str) else server.address for server in nameservers]
        if self.kind == "sync":
            return DnsResolver(nameservers=addresses, timeout=timeout, attempts=attempts, trust_ad=trust_ad).lookup(
                question
            )
        resolver = AsyncDnsResolver(nameservers=addresses, timeout=timeout, attempts=attempts, trust_ad=trust_ad)
        return asyncio.run(resolver.lookup(question))


class Clock:
    """How late it is, beside the monotonic clock of the system."""

    late = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock, which asyncio looks at, too."""
    clock, usual = Clock(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: usual() + clock.late)
    return clock


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Asker:
    return Asker(request.param)


def ask_at_once(
    question: Lookup, *nameservers: ScriptedNameserver, attempts: int = 1, resolver: DnsResolver | None = None
) -> Answer | LookupFailure:
    """Ask without sockets, and so without time: where a script has no reply, the time limit is over at once."""
    if resolver is None:
        resolver = DnsResolver(nameservers=[server.address for server in nameservers], attempts=attempts)
    by_address = {server.address: server for server in nameservers}
    turns = resolver._turns(question)
    try:
        turn = next(turns)
        while True:
            server, query = by_address[str(turn.nameserver)], turn.query
            server.queries.append((query.wire, turn.by_tcp))
            said = server.script(query.wire, turn.by_tcp)
            reply: _Reply | None = None
            while said and reply is None:
                wire = said.pop(0)
                reply = query.read_stream(wire[2:]) if turn.by_tcp else query.read(wire)
            turn = turns.send(reply or query.failed(TimeoutError()))
    except StopIteration as stop:
        result: Answer | LookupFailure = stop.value
        return result


def rrset(text: str) -> dns.rrset.RRset:
    """An RRset from one line in master-file form; further records of it behind " | "."""
    owner, ttl, rdclass, rdtype, *rest = text.split(" ", 4)
    return dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, *(rest[0].split(" | ") if rest else [""]))


def reply(
    query: bytes,
    *answer: str,
    authority: tuple[str, ...] = (),
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    ad: bool = False,
    ra: bool = True,
    errors: tuple[tuple[int, str], ...] = (),
) -> bytes:
    """The wire form of a reply."""
    message = dns.message.make_response(dns.message.from_wire(query), recursion_available=ra)
    message.flags = dns.flags.Flag(message.flags & ~dns.flags.AD | (dns.flags.AD if ad else 0))
    message.answer = [rrset(text) for text in answer]
    message.authority = [rrset(text) for text in authority]
    message.use_edns(
        0, payload=1232, options=[dns.edns.EDEOption(dns.edns.EDECode.make(code), text) for code, text in errors]
    )
    message.set_rcode(rcode)
    return message.to_wire(max_size=65535)


def says(*answer: str, **options: object) -> Callable[[bytes, bool], list[bytes]]:
    """A script that gives one reply over UDP."""
    return lambda query, _tcp: [reply(query, *answer, **options)]  # type: ignore[arg-type]


def framed(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def failed(result: Answer | LookupFailure, kind: FailureKind) -> str:
    assert isinstance(result, LookupFailure), result
    assert result.kind is kind, result
    return result.detail


# --- the query


def test_a_query_asks_for_recursion_and_the_ad_bit_with_edns_but_without_do(
    ask: Asker, server: ScriptedNameserver
) -> None:
    server.script = says("mx.example. 60 IN A 192.0.2.1")
    ask(A, server)
    ((wire, _),) = server.queries
    query = dns.message.from_wire(wire)
    assert query.flags == dns.flags.RD | dns.flags.AD  # RFC 6840 section 5.7
    assert (query.edns, query.payload, query.ednsflags) == (0, 1232, 0)
    assert query.question == [dns.rrset.from_text("mx.example.", 0, "IN", "A")]


def test_no_search_list_applies(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says(rcode=dns.rcode.NXDOMAIN)
    result = ask(Lookup("mx", RecordType.A), server)
    assert isinstance(result, Answer)
    assert result.nxdomain
    assert len(server.queries) == 1


def test_every_query_has_an_id_of_its_own(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says("mx.example. 60 IN A 192.0.2.1")
    for _ in range(8):
        ask(A, server)
    assert len({wire[:2] for wire, _ in server.queries}) > 1


# --- answers


@pytest.mark.parametrize(
    ("rdtype", "rdata", "records"),
    [
        (RecordType.A, "192.0.2.1 | 192.0.2.2", ("192.0.2.1", "192.0.2.2")),
        (RecordType.AAAA, "2001:DB8:0:0::1", ("2001:db8::1",)),
        (RecordType.MX, "10 MX.Example. | 20 mx_2.example.", (Mx(10, "mx.example"), Mx(20, "mx_2.example"))),
        (RecordType.MX, "0 .", (Mx(0, "."),)),
        (RecordType.MX, r"5 a\.b\000c.example.", (Mx(5, r"a\.b\000c.example"),)),
        (RecordType.TXT, '"v=STSv1; " "id=1;"', ((b"v=STSv1; ", b"id=1;"),)),
        (RecordType.TXT, r'"\255\000"', ((b"\xff\x00",),)),
        (RecordType.CNAME, "Other.Example.", ("other.example",)),
        (RecordType.TLSA, "3 1 1 " + "ab" * 32, (Tlsa(3, 1, 1, b"\xab" * 32),)),
    ],
)
def test_each_record_type_has_its_form(
    ask: Asker, server: ScriptedNameserver, rdtype: RecordType, rdata: str, records: tuple[object, ...]
) -> None:
    server.script = says(*(f"mx.example. 60 IN {rdtype} {text}" for text in rdata.split(" | ")))
    question = Lookup("mx.example", rdtype)
    assert ask(question, server) == Answer(question, secure=False, records=records, ttl=60)  # type: ignore[arg-type]


def test_duplicate_records_count_once_and_other_names_not_at_all(ask: Asker, server: ScriptedNameserver) -> None:
    one = "mx.example. 60 IN A 192.0.2.1"
    server.script = says(one, "other.example. 5 IN A 192.0.2.9", one)
    assert ask(A, server) == Answer(A, secure=False, records=("192.0.2.1",), ttl=60)


def test_records_of_another_class_are_no_answer_and_no_denial(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = lambda query, _tcp: [
        reply(query, "mx.example. 60 IN A 192.0.2.1").replace(
            b"\x00\x01\x00\x01\x00\x00\x00\x3c", b"\0\1\0\3\0\0\0\x3c"
        )
    ]
    failed(ask(A, server), FailureKind.MALFORMED)


@pytest.mark.parametrize("ad", [True, False])
@pytest.mark.parametrize(("trust_ad", "trusted"), [(None, True), (True, True), (False, False)])
@pytest.mark.parametrize("outcome", ["records", "nodata", "nxdomain"])
def test_the_ad_bit_counts_where_it_is_trusted(
    ask: Asker,
    server: ScriptedNameserver,
    outcome: str,
    *,
    ad: bool,
    trust_ad: bool | None,
    trusted: bool,
) -> None:
    if outcome == "records":
        server.script = says("mx.example. 60 IN A 192.0.2.1", ad=ad)
    else:
        rcode = dns.rcode.NXDOMAIN if outcome == "nxdomain" else dns.rcode.NOERROR
        server.script = says(authority=(SOA,), rcode=rcode, ad=ad)
    result = ask(A, server, trust_ad=trust_ad)
    assert isinstance(result, Answer)
    assert result.secure is (ad and trusted)
    assert result.believed is trusted
    assert result.nxdomain is (outcome == "nxdomain")
    assert result.complete


@pytest.mark.parametrize(
    ("nameservers", "trust_ad", "trusted"),
    [
        (["127.0.0.1"], None, True),
        (["127.0.0.53", "[::1]:5353"], None, True),
        (["127.0.0.1", "192.0.2.53"], None, False),
        (["192.0.2.53"], True, True),
        (["127.0.0.1"], False, False),
    ],
)
def test_loopback_is_trusted_unless_the_caller_says_otherwise(
    nameservers: list[str], *, trust_ad: bool | None, trusted: bool
) -> None:
    assert DnsResolver(nameservers=nameservers, trust_ad=trust_ad).trusted is trusted
    assert AsyncDnsResolver(nameservers=nameservers, trust_ad=trust_ad).trusted is trusted


@pytest.mark.parametrize(
    ("answer", "authority", "rcode", "ttl"),
    [
        (("mx.example. 60 IN CNAME b.example.", "b.example. 30 IN A 192.0.2.1"), (), dns.rcode.NOERROR, 30),
        (("mx.example. 20 IN CNAME b.example.", "b.example. 30 IN A 192.0.2.1"), (), dns.rcode.NOERROR, 20),
        ((), (SOA,), dns.rcode.NOERROR, 300),  # RFC 2308 section 5: the lower of the SOA's TTL and minimum
        ((), (SOA.replace(" 900 ", " 100 "),), dns.rcode.NXDOMAIN, 100),
        ((), (), dns.rcode.NXDOMAIN, 0),
        (("mx.example. 60 IN CNAME b.example.",), (SOA,), dns.rcode.NOERROR, 60),
        (("mx.example. 60 IN CNAME b.example.",), (), dns.rcode.NXDOMAIN, 0),
        (("mx.example. 60 IN CNAME b.net.",), (), dns.rcode.NOERROR, 60),
    ],
)
def test_the_ttl_is_the_lowest_of_what_was_used(
    ask: Asker,
    server: ScriptedNameserver,
    answer: tuple[str, ...],
    authority: tuple[str, ...],
    rcode: dns.rcode.Rcode,
    ttl: int,
) -> None:
    server.script = says(*answer, authority=authority, rcode=rcode)
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert result.ttl == ttl


def test_a_ttl_with_the_highest_bit_set_is_zero(ask: Asker, server: ScriptedNameserver) -> None:
    marker = struct.pack("!I", 0x12345678)
    server.script = lambda query, _tcp: [
        reply(query, f"mx.example. {0x12345678} IN A 192.0.2.1").replace(marker, b"\x80\0\0\1")
    ]
    assert ask(A, server) == Answer(A, secure=False, records=("192.0.2.1",), ttl=0)  # RFC 2181 section 8


# --- aliases


@pytest.mark.parametrize("reverse", [False, True])
def test_aliases_are_followed_by_name_not_by_position(ask: Asker, server: ScriptedNameserver, *, reverse: bool) -> None:
    answer = [
        "mx.example. 60 IN CNAME B.example.",
        "b.example. 60 IN CNAME c.example.net.",
        "c.example.net. 60 IN A 192.0.2.1",
    ]
    server.script = says(*(answer[::-1] if reverse else answer))
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert (result.aliases, result.records) == (("b.example", "c.example.net"), ("192.0.2.1",))


MOVED = "example. 60 IN DNAME example.net."
SYNTHESISED = "mx.example. 60 IN CNAME mx.example.net."
TARGET = "mx.example.net. 60 IN A 192.0.2.1"
NET_SOA = SOA.replace("example. 900", "example.net. 900")


@pytest.mark.parametrize("ad", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        (MOVED, SYNTHESISED, TARGET),
        (MOVED, TARGET),  # RFC 6672 section 3.2: as systemd-resolved has it
        (TARGET, MOVED),
        (MOVED, "MX.Example. 60 IN CNAME mx.EXAMPLE.net.", TARGET),
        (MOVED, "x.mx.example. 60 IN DNAME elsewhere.test.", "mx.example. 60 IN DNAME elsewhere.test.", TARGET),
    ],
)
def test_a_dname_is_the_alias_of_names_below_it_as_secure_as_the_answer(
    ask: Asker, server: ScriptedNameserver, answer: tuple[str, ...], *, ad: bool
) -> None:
    server.script = says(*answer, ad=ad)
    assert ask(A, server) == Answer(A, ad, ("192.0.2.1",), ("mx.example.net",), ttl=60, dname="example")


def test_tlsa_records_below_a_dname_without_its_synthesised_alias_are_not_absent(
    ask: Asker, server: ScriptedNameserver
) -> None:
    name = "_25.shared.example"
    server.script = says(
        "_tcp.mx.example. 20 IN DNAME shared.example.", f"{name}. 20 IN TLSA 3 1 1 {'ab' * 32}", ad=True
    )
    record = Tlsa(3, 1, 1, b"\xab" * 32)
    assert ask(TLSA, server) == Answer(TLSA, True, (record,), (name,), ttl=20, dname="_tcp.mx.example")


def test_dnames_and_cnames_alternate(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says(
        MOVED,
        "mx.example.net. 50 IN CNAME a.b.test.",
        "test. 40 IN DNAME example.org.",
        "b.example.org. 30 IN DNAME .",
        "a. 60 IN A 192.0.2.1",
    )
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert result.aliases == ("mx.example.net", "a.b.test", "a.b.example.org", "a")
    assert (result.records, result.dname, result.ttl) == (("192.0.2.1",), "example", 30)


def test_of_two_dnames_above_a_name_the_upper_one_counts(ask: Asker, server: ScriptedNameserver) -> None:
    question = Lookup("mx.b.example", RecordType.A)
    lower, upper = "b.example. 60 IN DNAME hidden.test.", "mx.b.example.net. 60 IN A 192.0.2.1"
    server.script = says(lower, MOVED, upper, "mx.hidden.test. 60 IN A 192.0.2.66")
    result = ask(question, server)
    assert isinstance(result, Answer)
    assert (result.records, result.dname) == (("192.0.2.1",), "example")  # RFC 6672 section 2.4: it hides the lower


def test_the_first_alias_alone_tells_of_its_dname(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says("mx.example. 60 IN CNAME mx.old.test.", "old.test. 60 IN DNAME example.net.", TARGET)
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert (result.aliases, result.records) == (("mx.old.test", "mx.example.net"), ("192.0.2.1",))
    assert result.dname is None


@pytest.mark.parametrize(
    ("answer", "authority", "rcode", "complete", "nxdomain"),
    [
        ((MOVED,), (), dns.rcode.NOERROR, False, False),
        ((MOVED, SYNTHESISED), (SOA,), dns.rcode.NOERROR, False, False),
        ((MOVED,), (NET_SOA,), dns.rcode.NOERROR, True, False),
        ((MOVED,), (NET_SOA,), dns.rcode.NXDOMAIN, True, True),
    ],
)
def test_behind_a_dname_a_denial_is_one_of_the_target(
    ask: Asker,
    server: ScriptedNameserver,
    answer: tuple[str, ...],
    authority: tuple[str, ...],
    rcode: dns.rcode.Rcode,
    *,
    complete: bool,
    nxdomain: bool,
) -> None:
    server.script = says(*answer, authority=authority, rcode=rcode)
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert (result.aliases, result.records, result.complete) == (("mx.example.net",), (), complete)
    assert result.nxdomain is nxdomain


def unreached() -> dict[str, tuple[str, ...]]:
    """Answer sections without anything that the question A leads to."""
    return {
        "data of another name": ("other.example. 60 IN A 192.0.2.1",),
        "another type": ("mx.example. 60 IN AAAA 2001:db8::1",),
        "a DNAME at the name itself, which is no alias of it": ("mx.example. 60 IN DNAME example.net.", TARGET),
        "a DNAME of another branch": ("x.example. 60 IN DNAME example.net.", TARGET),
        "a DNAME whose owner is a part of the text alone": ("x.example. 60 IN DNAME net.", "mx.net. 60 IN A 192.0.2.1"),
        "data below a DNAME": (MOVED, "mx.example. 60 IN A 192.0.2.1"),
        "a DNAME below the name": ("a.mx.example. 60 IN DNAME example.net.", "a.example.net. 60 IN A 192.0.2.1"),
        "a chain that ends beside the data": (SYNTHESISED, "b.example.net. 60 IN A 192.0.2.1"),
        "a proof that belongs into the authority section": ("mx.example. 60 IN NSEC n.example. AAAA RRSIG NSEC",),
        "a signature alone": ("mx.example. 60 IN RRSIG A 13 2 60 20300101000000 20200101000000 1 example. MTIzNA==",),
    }


@pytest.mark.parametrize("case", unreached())
@pytest.mark.parametrize("authority", [(), (SOA,)])
@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_records_that_the_question_does_not_lead_to_are_never_a_denial(
    ask: Asker, server: ScriptedNameserver, case: str, authority: tuple[str, ...], rcode: dns.rcode.Rcode
) -> None:
    server.script = says(*unreached()[case], authority=authority, rcode=rcode, ad=True)
    failed(ask(A, server), FailureKind.MALFORMED)


def test_a_signature_counts_as_what_it_signs(ask: Asker, server: ScriptedNameserver) -> None:
    signature = "mx.example. 60 IN RRSIG CNAME 13 2 60 20300101000000 20200101000000 1 example. MTIzNA=="
    server.script = says(SYNTHESISED, signature, authority=(NET_SOA,), ad=True)
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert (result.complete, result.records, result.secure) == (True, (), True)
    server.script = says("mx.example. 60 IN A 192.0.2.1", signature.replace("CNAME", "A"), ad=True)
    assert ask(A, server) == Answer(A, secure=True, records=("192.0.2.1",), ttl=60)


@pytest.mark.parametrize(
    "answer",
    [
        (MOVED, "mx.example. 60 IN CNAME mx.example.org.", "mx.example.org. 60 IN A 192.0.2.1"),
        (MOVED, "mx.example. 60 IN CNAME mx.example.org.", TARGET),
        (MOVED, "mx.example.net. 60 IN CNAME b.net.", "net. 60 IN DNAME org.", "b.net. 60 IN A 192.0.2.1"),
    ],
)
@pytest.mark.parametrize("rdtype", [RecordType.A, RecordType.CNAME])
def test_an_alias_that_contradicts_the_dname_is_malformed(
    ask: Asker, server: ScriptedNameserver, answer: tuple[str, ...], rdtype: RecordType
) -> None:
    server.script = says(*answer)
    if rdtype is RecordType.CNAME and "org" not in answer[1]:
        return  # the contradiction lies behind what is asked
    failed(ask(Lookup("mx.example", rdtype), server), FailureKind.MALFORMED)


def test_several_dnames_at_one_name_are_malformed(ask: Asker, server: ScriptedNameserver) -> None:
    def script(query: bytes, _tcp: bool) -> list[bytes]:  # noqa: FBT001
        first, second = (dns.rrset.from_text("example.", 60, "IN", "DNAME", f"{word}.test.") for word in "ab")
        message = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
        message.answer = [first, second]
        return [message.to_wire()]

    server.script = script
    failed(ask(A, server), FailureKind.MALFORMED)


@pytest.mark.parametrize(("octets", "exists"), [(255, True), (256, False)])
def test_a_dname_may_make_a_name_that_is_too_long(
    ask: Asker, server: ScriptedNameserver, octets: int, *, exists: bool
) -> None:
    question = Lookup(f"{'a' * 63}.{'b' * 63}.example", RecordType.A)  # 128 octets before the name of the zone
    target = f"{'c' * 63}.{'d' * (octets - 128 - 64 - 2)}."
    server.script = says(f"example. 60 IN DNAME {target}")
    result = ask(question, server)
    if exists:
        assert isinstance(result, Answer)
        assert not result.complete
    else:
        assert "too long" in failed(result, FailureKind.MALFORMED)


@pytest.mark.parametrize("hops", [MAX_ALIAS_HOPS, MAX_ALIAS_HOPS + 1])
def test_dnames_are_bounded_like_other_aliases(ask: Asker, server: ScriptedNameserver, hops: int) -> None:
    links = [f"h{i}.example. 60 IN DNAME h{i + 1}.example." for i in range(hops)]
    server.script = says(*links, f"a.h{hops}.example. 60 IN A 192.0.2.1")
    result = ask(Lookup("a.h0.example", RecordType.A), server)
    if hops > MAX_ALIAS_HOPS:
        failed(result, FailureKind.LOOP)
    else:
        assert isinstance(result, Answer)
        assert (len(result.aliases), result.records) == (hops, ("192.0.2.1",))


def test_a_dname_into_itself_is_a_loop_that_ends(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says("example. 60 IN DNAME example.")
    failed(ask(A, server), FailureKind.LOOP)
    server.script = says("example. 60 IN DNAME a.example.")  # each hop makes a longer name
    failed(ask(A, server), FailureKind.LOOP)


@pytest.mark.parametrize("answer", [(MOVED,), (MOVED, SYNTHESISED), (SYNTHESISED,), (MOVED, SYNTHESISED, TARGET)])
def test_a_question_for_cname_below_a_dname_has_the_alias_that_it_makes(
    ask: Asker, server: ScriptedNameserver, answer: tuple[str, ...]
) -> None:
    question = Lookup("mx.example", RecordType.CNAME)
    server.script = says(*answer, ad=True)
    assert ask(question, server) == Answer(question, secure=True, records=("mx.example.net",), ttl=60)


def test_a_question_for_dname_is_answered_by_it(ask: Asker, server: ScriptedNameserver) -> None:
    question = Lookup("example", RecordType.DNAME)
    server.script = says(MOVED, ad=True)
    assert ask(question, server) == Answer(question, secure=True, records=("example.net",), ttl=60)
    server.script = says(authority=(SOA,), ad=True)
    assert ask(question, server) == Answer(question, secure=True, ttl=300)


def test_a_question_for_cname_follows_none(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says("mx.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME c.example.")
    question = Lookup("mx.example", RecordType.CNAME)
    assert ask(question, server) == Answer(question, secure=False, records=("b.example",), ttl=60)


def test_an_alias_that_is_no_host_name_can_be_asked_for_in_turn(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says(r"mx.example. 60 IN CNAME a\.b\255\@.example.")
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert result.name == r"a\.b\255\@.example"
    server.script = says(r"a\.b\255\@.example. 60 IN A 192.0.2.1")
    result = ask(Lookup(result.name, RecordType.A), server)
    assert isinstance(result, Answer)
    assert result.records == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("authority", "rcode", "complete", "nxdomain"),
    [
        ((), dns.rcode.NOERROR, False, False),
        ((SOA,), dns.rcode.NOERROR, False, False),  # the zone of the alias, not of its target
        ((SOA.replace("example. 900", "example.net. 900"),), dns.rcode.NOERROR, True, False),
        ((SOA.replace("example. 900", ". 900"),), dns.rcode.NOERROR, True, False),
        ((), dns.rcode.NXDOMAIN, True, True),  # RFC 6604 section 3: the code is about the last name
    ],
)
def test_an_alias_without_its_target_is_incomplete_unless_the_target_is_denied(
    ask: Asker,
    server: ScriptedNameserver,
    authority: tuple[str, ...],
    rcode: dns.rcode.Rcode,
    *,
    complete: bool,
    nxdomain: bool,
) -> None:
    server.script = says("mx.example. 60 IN CNAME mx.example.net.", authority=authority, rcode=rcode, ad=True)
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert (result.aliases, result.records, result.secure) == (("mx.example.net",), (), True)
    assert (result.complete, result.nxdomain) == (complete, nxdomain)


def test_a_zone_is_an_ancestor_by_labels_not_by_text(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says(r"mx.example. 60 IN CNAME x\.example.", authority=(SOA,))
    result = ask(A, server)
    assert isinstance(result, Answer)
    assert not result.complete


def test_alias_loops_end(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says("mx.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME mx.example.")
    failed(ask(A, server), FailureKind.LOOP)
    server.script = says("mx.example. 60 IN CNAME mx.example.")
    failed(ask(A, server), FailureKind.LOOP)


@pytest.mark.parametrize("hops", [MAX_ALIAS_HOPS, MAX_ALIAS_HOPS + 1])
def test_aliases_are_bounded(ask: Asker, server: ScriptedNameserver, hops: int) -> None:
    links = [f"h{i}.example. 60 IN CNAME h{i + 1}.example." for i in range(hops)]
    server.script = says(*links, f"h{hops}.example. 60 IN A 192.0.2.1")
    result = ask(Lookup("h0.example", RecordType.A), server)
    if hops > MAX_ALIAS_HOPS:
        failed(result, FailureKind.LOOP)
    else:
        assert isinstance(result, Answer)
        assert (len(result.aliases), result.records) == (hops, ("192.0.2.1",))


def test_several_aliases_at_one_name_are_malformed(ask: Asker, server: ScriptedNameserver) -> None:
    wire_of_b, wire_of_c = b"\x01b\x07example\x00", b"\x01c\x07example\x00"

    def script(query: bytes, _tcp: bool) -> list[bytes]:  # noqa: FBT001
        header = query[:2] + b"\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00"
        question = query[12 : query.index(b"\x00\x00\x01\x00\x01") + 5]
        record = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x0b"
        return [header + question + record + wire_of_b + record + wire_of_c]

    server.script = script
    failed(ask(A, server), FailureKind.MALFORMED)


# --- failures


@pytest.mark.parametrize(
    ("rcode", "errors", "kind"),
    [
        (dns.rcode.SERVFAIL, (), FailureKind.SERVFAIL),
        *((dns.rcode.SERVFAIL, ((code, "no"),), FailureKind.BOGUS) for code in range(6, 13)),
        (dns.rcode.SERVFAIL, ((22, ""), (6, "signature crypto failed")), FailureKind.BOGUS),
        (dns.rcode.SERVFAIL, ((5, ""),), FailureKind.INDETERMINATE),
        (dns.rcode.SERVFAIL, ((22, "no reachable authority"),), FailureKind.SERVFAIL),
        (dns.rcode.REFUSED, ((18, ""),), FailureKind.REFUSED),
        (dns.rcode.NOTIMP, (), FailureKind.NOTIMP),
        (dns.rcode.FORMERR, (), FailureKind.MALFORMED),
        (dns.rcode.YXDOMAIN, (), FailureKind.MALFORMED),  # RFC 6672 section 2.2
        (dns.rcode.NOTAUTH, (), FailureKind.SERVFAIL),
        (dns.rcode.BADVERS, (), FailureKind.SERVFAIL),  # 16: its low four bits alone would be NOERROR
        (dns.rcode.Rcode(0xF03), (), FailureKind.SERVFAIL),  # its low four bits alone would be NXDOMAIN
    ],
)
def test_each_response_code_has_its_kind(
    ask: Asker,
    server: ScriptedNameserver,
    rcode: dns.rcode.Rcode,
    errors: tuple[tuple[int, str], ...],
    kind: FailureKind,
) -> None:
    server.script = says(rcode=rcode, errors=errors)
    detail = failed(ask(A, server), kind)
    assert server.address in detail
    for code, text in errors:
        assert f"EDE {code}" in detail
        assert text in detail


def test_an_extended_error_beside_an_answer_changes_nothing(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says("mx.example. 60 IN A 192.0.2.1", errors=((6, "stale"),))
    assert ask(A, server) == Answer(A, secure=False, records=("192.0.2.1",), ttl=60)


def test_an_extended_error_is_shown_as_one_line(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says(rcode=dns.rcode.SERVFAIL, errors=((9, "a\r\n\x1b[31mb" + "x" * 1000),))
    detail = failed(ask(A, server), FailureKind.BOGUS)
    assert detail.isprintable()
    assert len(detail) < 300


def test_an_error_without_the_question_is_still_an_error(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = lambda query, _tcp: [query[:2] + b"\x81\x81" + bytes(8)]
    failed(ask(A, server), FailureKind.MALFORMED)
    server.script = lambda query, _tcp: [query[:2] + b"\x81\x85" + bytes(8)]
    failed(ask(A, server), FailureKind.REFUSED)


def test_a_referral_is_not_nodata(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = says(authority=("example. 60 IN NS ns.example.",), ra=False)
    assert "referral" in failed(ask(A, server), FailureKind.SERVFAIL)
    server.script = says(ra=False)
    assert ask(A, server) == Answer(A, secure=False)
    server.script = says(authority=("example. 60 IN NS ns.example.",))  # RFC 2308 section 2.2: NODATA without SOA
    assert ask(A, server) == Answer(A, secure=False)


def malformed_replies() -> dict[str, Callable[[bytes], bytes]]:
    """Replies with the right ID that are no answer to the question A."""
    plain = "mx.example. 60 IN A 192.0.2.1"
    address = b"\x00\x04\xc0\x00\x02\x01"

    def count(query: bytes, offset: int, number: int) -> bytes:
        wire = reply(query, plain)
        return wire[:offset] + struct.pack("!H", number) + wire[offset + 2 :]

    return {
        "cut within a record": lambda query: reply(query, plain)[:-15],
        "more answers announced than there are": lambda query: count(query, 6, 9),
        "a longer address": lambda query: reply(query, plain).replace(address, b"\x00\x05\xc0\x00\x02\x01\x00"),
        "a shorter address": lambda query: reply(query, plain).replace(address, b"\x00\x03\xc0\x00\x02"),
        "a pointer forwards": lambda query: reply(query, plain).replace(b"\xc0\x0c\x00\x01", b"\xc0\xff\x00\x01"),
        "a pointer to itself": lambda query: reply(query, plain).replace(b"\xc0\x0c\x00\x01", b"\xc0\x1c\x00\x01"),
        "records in an NXDOMAIN": lambda query: reply(query, plain, rcode=dns.rcode.NXDOMAIN),
        "too many records": lambda query: reply(
            query, f"mx.example. 60 IN A {' | '.join(f'10.0.{i >> 8}.{i & 255}' for i in range(MAX_RECORDS + 1))}"
        ),
        "a broken extended error": lambda query: reply(query, plain, errors=((6, "abcd"),)).replace(
            b"\x00\x0f\x00\x06", b"\x00\x0f\x00\xff"
        ),
    }


def test_the_records_of_answer_and_authority_are_bounded_and_others_are_passed_over(
    ask: Asker, server: ScriptedNameserver
) -> None:
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"

    def with_counts(answers: int, authorities: int, rest: int) -> Answer | LookupFailure:
        def script(query: bytes, tcp: bool) -> list[bytes]:  # noqa: FBT001
            header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, answers, authorities, rest)
            whole = header + query[12:-11] + record * (answers + authorities + rest)
            return [framed(whole)] if tcp else [query[:2] + b"\x83\x80" + query[4:]]

        server.script = script
        return ask(A, server)

    expected = Answer(A, secure=False, records=("192.0.2.1",), ttl=60)
    assert with_counts(MAX_RECORDS, 0, 0) == with_counts(1, MAX_RECORDS - 1, 3800) == expected
    failed(with_counts(MAX_RECORDS + 1, 0, 0), FailureKind.MALFORMED)
    failed(with_counts(1, MAX_RECORDS, 0), FailureKind.MALFORMED)


@pytest.mark.parametrize("case", malformed_replies())
def test_a_malformed_reply_is_a_failure(ask: Asker, server: ScriptedNameserver, case: str) -> None:
    make = malformed_replies()[case]
    server.script = lambda query, _tcp: [make(query)]
    failed(ask(A, server), FailureKind.MALFORMED)


def strays() -> dict[str, Callable[[bytes], bytes]]:
    """Datagrams that are no reply to the query A."""
    forged = "mx.example. 60 IN A 192.0.2.66"
    return {
        "nothing": lambda _: b"",
        "short": lambda query: query[:11],
        "header alone": lambda query: query[:2] + b"\x81\x80" + bytes(8),
        "another ID": lambda query: bytes([query[0] ^ 1]) + reply(query, forged)[1:],
        "the query itself": lambda query: query,
        "another name": lambda query: reply(query, forged).replace(b"\x02mx\x07example", b"\x02my\x07example", 1),
        "another type": lambda query: reply(query, forged).replace(b"\x00\x00\x01\x00\x01", b"\x00\x00\x1c\x00\x01", 1),
        "two questions": lambda query: reply(query, forged)[:4] + b"\x00\x02" + reply(query, forged)[6:],
    }


@pytest.mark.parametrize("case", strays())
def test_a_stray_datagram_is_ignored_and_the_reply_awaited(ask: Asker, server: ScriptedNameserver, case: str) -> None:
    make = strays()[case]
    server.script = lambda query, _tcp: [make(query), reply(query, "mx.example. 60 IN A 192.0.2.1")]
    assert ask(A, server) == Answer(A, secure=False, records=("192.0.2.1",), ttl=60)


@pytest.mark.parametrize("case", strays())
def test_nothing_but_strays_is_malformed(
    ask: Asker, server: ScriptedNameserver, clock: Clock, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, read = strays()[case], _Query.read

    def read_in_the_end(query: _Query, wire: bytes) -> object:
        clock.late += PATIENCE
        return read(query, wire)

    monkeypatch.setattr(_Query, "read", read_in_the_end)
    server.script = lambda query, _tcp: [make(query)]
    failed(ask(A, server), FailureKind.MALFORMED)


def test_a_flood_of_strays_is_bounded(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = lambda query, _tcp: [b""] * (MAX_STRAYS + 1)
    failed(ask(A, server), FailureKind.MALFORMED)


def test_case_does_not_matter_in_the_question(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = lambda query, _tcp: [
        reply(query, "MX.example. 60 IN A 192.0.2.1").replace(b"\x02mx", b"\x02Mx").replace(b"example", b"eXample")
    ]
    assert ask(A, server) == Answer(A, secure=False, records=("192.0.2.1",), ttl=60)


def test_a_name_too_long_to_ask_for_is_a_failure(ask: Asker, server: ScriptedNameserver) -> None:
    name = "_25._tcp." + ".".join(["a" * 63] * 3 + ["b" * 58])
    failed(ask(Lookup(name, RecordType.TLSA), server), FailureKind.MALFORMED)
    assert server.queries == []


# --- TLSA


def tlsa_script(*rdatas: str) -> Callable[[bytes, bool], list[bytes]]:
    """A secure TLSA RRset with the given RDATA (hex), whatever dnspython thinks of it."""
    text = " | ".join(rf"\# {len(rdata) // 2} {rdata}" for rdata in rdatas)
    return lambda query, _tcp: [
        reply(query, f"{TLSA.name}. 60 IN TYPE65280 {text}", ad=True).replace(STAND_IN_TYPE, TLSA_TYPE)
    ]


def test_one_malformed_tlsa_record_does_not_cost_the_rrset(ask: Asker, server: ScriptedNameserver) -> None:
    good, short, unknown, empty = "030101" + "ab" * 32, "030101" + "cd" * 31, "0301c8ff", "030100"
    server.script = tlsa_script(good, short, unknown, empty)
    result = ask(TLSA, server)
    assert isinstance(result, Answer)
    assert result.secure
    assert set(result.records) == {
        Tlsa(3, 1, 1, b"\xab" * 32),
        Tlsa(3, 1, 1, b"\xcd" * 31),
        Tlsa(3, 1, 200, b"\xff"),
        Tlsa(3, 1, 0, b""),
    }


def test_tlsa_records_are_sorted_whatever_their_order(ask: Asker, server: ScriptedNameserver) -> None:
    rdatas = ["020101" + "b2" * 32, "030101" + "a1" * 32, "030101" + "b2" * 31, "030102" + "00" * 64, "0a000000"]
    for turned in (rdatas[::-1], rdatas[2:] + rdatas[:2]):
        server.script = tlsa_script(*turned)
        result = ask(TLSA, server)
        assert isinstance(result, Answer)
        assert result.records == tuple(Tlsa.from_rdata(bytes.fromhex(rdata)) for rdata in rdatas)


def test_an_rrset_of_one_unusable_record_is_not_empty(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = tlsa_script("030101ab")
    result = ask(TLSA, server)
    assert isinstance(result, Answer)
    assert result.records == (Tlsa(3, 1, 1, b"\xab"),)


@pytest.mark.parametrize("rdata", ["0301", "03"])
def test_tlsa_rdata_of_less_than_three_octets_is_malformed(ask: Asker, server: ScriptedNameserver, rdata: str) -> None:
    server.script = tlsa_script("030101" + "ab" * 32, rdata)
    failed(ask(TLSA, server), FailureKind.MALFORMED)


# --- transports, attempts and several nameservers


def test_a_truncated_reply_is_asked_for_again_over_tcp(ask: Asker, server: ScriptedNameserver) -> None:
    hosts = " | ".join(f"10 mx{i}.a-rather-long-label-to-fill-the-message.example." for i in range(200))

    def script(query: bytes, tcp: bool) -> list[bytes]:  # noqa: FBT001
        whole = reply(query, f"example. 60 IN MX {hosts}", ad=True)
        return [framed(whole)] if tcp else [whole[:2] + b"\x83\xa0" + whole[4:512]]

    server.script = script
    result = ask(Lookup("example", RecordType.MX), server)
    assert isinstance(result, Answer)
    assert (len(result.records), result.secure) == (200, True)
    assert [tcp for _, tcp in server.queries] == [False, True]


@pytest.mark.parametrize(
    ("over_tcp", "kind"),
    [
        (lambda query: [framed(reply(query))[:10]], FailureKind.NETWORK),
        (lambda _: [], FailureKind.NETWORK),
        (lambda _: [b"\x00\x00"], FailureKind.MALFORMED),
        (lambda query: [framed(query[:2] + b"\x83\x80" + query[4:])], FailureKind.MALFORMED),
        (lambda query: [framed(bytes([query[0] ^ 1]) + reply(query)[1:])], FailureKind.MALFORMED),
        (lambda query: [framed(reply(query, rcode=dns.rcode.REFUSED))], FailureKind.REFUSED),
    ],
)
def test_tcp_fails_in_its_own_ways(
    ask: Asker, server: ScriptedNameserver, over_tcp: Callable[[bytes], list[bytes]], kind: FailureKind
) -> None:
    server.script = lambda query, tcp: over_tcp(query) if tcp else [query[:2] + b"\x83\x80" + query[4:]]
    failed(ask(A, server), kind)


def test_a_reply_over_tcp_may_come_in_pieces(ask: Asker, server: ScriptedNameserver) -> None:
    def script(query: bytes, tcp: bool) -> list[bytes]:  # noqa: FBT001
        if not tcp:
            return [query[:2] + b"\x83\x80" + query[4:]]
        wire = framed(reply(query, "mx.example. 60 IN A 192.0.2.1"))
        return [wire[:1], wire[1:9], wire[9:]]

    server.script = script
    assert ask(A, server) == Answer(A, secure=False, records=("192.0.2.1",), ttl=60)


def test_silence_is_a_timeout(ask: Asker, server: ScriptedNameserver) -> None:
    server.script = lambda _query, _tcp: []
    failed(ask(A, server, timeout=0.02), FailureKind.TIMEOUT)


def test_a_silent_nameserver_is_asked_again(server: ScriptedNameserver) -> None:
    server.script = lambda _query, _tcp: []
    failed(ask_at_once(A, server, attempts=3), FailureKind.TIMEOUT)
    assert [tcp for _, tcp in server.queries] == [False, False, False, True]


def test_a_lost_datagram_costs_no_answer(server: ScriptedNameserver) -> None:
    server.script = lambda query, _tcp: (
        [] if len(server.queries) == 1 else [reply(query, "mx.example. 60 IN A 192.0.2.1")]
    )
    assert isinstance(ask_at_once(A, server, attempts=2), Answer)


def test_a_closed_port_is_a_network_failure(ask: Asker) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    failed(ask(A, f"127.0.0.1:{port}"), FailureKind.NETWORK)


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR])
def test_the_next_nameserver_is_asked_after_a_failure(
    ask: Asker, server: ScriptedNameserver, second: ScriptedNameserver, rcode: dns.rcode.Rcode
) -> None:
    server.script = says(rcode=rcode)
    second.script = says("mx.example. 60 IN A 192.0.2.1", ad=True)
    assert ask(A, server, second) == Answer(A, secure=True, records=("192.0.2.1",), ttl=60)
    assert len(second.queries) == 1


def test_the_next_nameserver_is_asked_after_silence(server: ScriptedNameserver, second: ScriptedNameserver) -> None:
    second.script = says("mx.example. 60 IN A 192.0.2.1", ad=True)
    assert ask_at_once(A, server, second) == Answer(A, secure=True, records=("192.0.2.1",), ttl=60)
    assert (len(server.queries), len(second.queries)) == (1, 1)


def checking_disabled(query: bytes) -> bool:
    return bool(query[3] & 0x10)  # RFC 4035 section 3.2.2


def calls_bogus(by_cd: Callable[[bytes], list[bytes]], **options: object) -> Callable[[bytes, bool], list[bytes]]:
    """A script of a nameserver that gives SERVFAIL where it validates, and something else where CD is set."""
    return lambda query, _tcp: (
        by_cd(query) if checking_disabled(query) else [reply(query, rcode=dns.rcode.SERVFAIL, **options)]  # type: ignore[arg-type]
    )


FORGED = "mx.example. 60 IN A 192.0.2.66"
DATA: dict[str, Callable[[bytes], list[bytes]]] = {
    "data": lambda query: [reply(query, FORGED)],
    "data, called secure": lambda query: [reply(query, FORGED, ad=True)],
    "NODATA": lambda query: [reply(query, authority=(SOA,))],
    "NXDOMAIN": lambda query: [reply(query, rcode=dns.rcode.NXDOMAIN)],
    "more data than a datagram takes": lambda query: [query[:2] + b"\x83\x90" + query[4:]],
    "data that can not be read": lambda query: [reply(query, "other.example. 60 IN A 192.0.2.66", FORGED)[:-15]],
    "a loop of aliases": lambda query: [reply(query, "mx.example. 60 IN CNAME mx.example.")],
}
NO_WORD: dict[str, Callable[[bytes], list[bytes]]] = {
    "SERVFAIL": lambda query: [reply(query, rcode=dns.rcode.SERVFAIL)],
    "SERVFAIL, and why": lambda query: [reply(query, rcode=dns.rcode.SERVFAIL, errors=((22, ""),))],
    "REFUSED": lambda query: [reply(query, rcode=dns.rcode.REFUSED)],
    "FORMERR": lambda query: [query[:2] + b"\x81\x81" + bytes(8)],
}


@pytest.mark.parametrize("errors", [(), ((22, "no reachable authority"),), ((3, "stale"), (23, ""))])
@pytest.mark.parametrize("case", DATA)
def test_data_that_is_given_without_validation_alone_is_bogus_and_not_overruled(
    ask: Asker, server: ScriptedNameserver, second: ScriptedNameserver, case: str, errors: tuple[tuple[int, str], ...]
) -> None:
    server.script = calls_bogus(DATA[case], errors=errors)
    second.script = says(FORGED)
    assert "checking" in failed(ask(A, server, second), FailureKind.BOGUS)
    assert second.queries == []
    flags = [dns.message.from_wire(query).flags for query, _ in server.queries]
    # The AD bit would make some validate in spite of CD.
    assert flags == [dns.flags.RD | dns.flags.AD, dns.flags.RD | dns.flags.CD]


@pytest.mark.parametrize("case", NO_WORD)
def test_what_can_not_be_had_without_validation_either_is_left_to_the_next_nameserver(
    ask: Asker, server: ScriptedNameserver, second: ScriptedNameserver, case: str
) -> None:
    server.script = calls_bogus(NO_WORD[case])
    second.script = says("mx.example. 60 IN A 192.0.2.1", ad=True)
    assert ask(A, server, second) == Answer(A, secure=True, records=("192.0.2.1",), ttl=60)
    assert [checking_disabled(query) for query, _ in server.queries] == [False, True]
    assert "SERVFAIL" in failed(ask(A, server), FailureKind.SERVFAIL)


def test_whether_data_is_bogus_is_not_known_where_nothing_comes_without_validation(
    server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    server.script = calls_bogus(lambda _: [])
    second.script = says(FORGED)
    failed(ask_at_once(A, server, second), FailureKind.INDETERMINATE)
    assert second.queries == []


def test_a_second_nameserver_calls_data_bogus_as_the_first_would(
    ask: Asker, server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    server.script = says(rcode=dns.rcode.REFUSED)
    second.script = calls_bogus(DATA["data"])
    assert second.address in failed(ask(A, server, second), FailureKind.BOGUS)


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR, dns.rcode.NOTAUTH])
def test_other_errors_are_no_word_about_validation(
    ask: Asker, server: ScriptedNameserver, rcode: dns.rcode.Rcode
) -> None:
    server.script = says(rcode=rcode)
    ask(A, server)
    assert not any(checking_disabled(query) for query, _ in server.queries)


@pytest.mark.parametrize("code", [5, 6])
def test_a_nameserver_that_calls_the_data_bogus_is_not_overruled(
    ask: Asker, server: ScriptedNameserver, second: ScriptedNameserver, code: int
) -> None:
    server.script = says(rcode=dns.rcode.SERVFAIL, errors=((code, ""),))
    second.script = says("mx.example. 60 IN A 192.0.2.66")
    failed(ask(A, server, second), FailureKind.BOGUS if code == 6 else FailureKind.INDETERMINATE)
    assert second.queries == []


def test_an_error_is_reported_rather_than_silence_and_not_asked_for_twice(
    server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    server.script = lambda _query, _tcp: []
    second.script = says(rcode=dns.rcode.REFUSED)
    failed(ask_at_once(A, server, second, attempts=2), FailureKind.REFUSED)
    assert [tcp for _, tcp in server.queries] == [False, False, True]
    assert len(second.queries) == 1


@pytest.fixture
def tcp_only() -> Iterator[ScriptedNameserver]:
    """A nameserver that no datagram gets to: each is refused, as by a firewall."""
    with (
        contextlib.closing(ScriptedNameserver()) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere,
    ):
        elsewhere.bind(("127.0.0.1", 0))
        server.udp.connect(elsewhere.getsockname())  # so it takes none from anybody else
        yield server


def test_a_nameserver_that_can_not_be_reached_over_udp_is_asked_over_tcp(
    ask: Asker, tcp_only: ScriptedNameserver
) -> None:
    tcp_only.script = lambda query, _tcp: [framed(reply(query, "mx.example. 60 IN A 192.0.2.1", ad=True))]
    assert ask(A, tcp_only) == Answer(A, secure=True, records=("192.0.2.1",), ttl=60)
    assert [tcp for _, tcp in tcp_only.queries] == [True]


def test_over_tcp_bogus_data_is_told_as_over_udp(ask: Asker, tcp_only: ScriptedNameserver) -> None:
    tcp_only.script = lambda query, tcp: [framed(wire) for wire in calls_bogus(DATA["data"])(query, tcp)]
    failed(ask(A, tcp_only), FailureKind.BOGUS)
    assert [tcp for _, tcp in tcp_only.queries] == [True, True]


def without_edns(query: bytes) -> bool:
    return dns.message.from_wire(query).edns < 0


def bare(query: bytes, rcode: int) -> bytes:
    """An error as a nameserver gives it that does not know EDNS."""
    plain = dns.message.make_query("mx.example", "A", use_edns=False, id=int.from_bytes(query[:2], "big"))
    response = dns.message.make_response(plain, recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    return response.to_wire()


EDNS_IS_UNKNOWN: dict[str, Callable[[bytes], bytes]] = {
    "FORMERR": lambda query: bare(query, dns.rcode.FORMERR),
    "FORMERR without the question": lambda query: query[:2] + b"\x81\x81" + bytes(8),
    "NOTIMP": lambda query: bare(query, dns.rcode.NOTIMP),
    "BADVERS": lambda query: reply(query, rcode=dns.rcode.BADVERS),
}


@pytest.mark.parametrize("case", EDNS_IS_UNKNOWN)
def test_a_nameserver_that_does_not_understand_edns_is_asked_without(
    ask: Asker, server: ScriptedNameserver, case: str
) -> None:
    def script(query: bytes, _tcp: bool) -> list[bytes]:  # noqa: FBT001
        if not without_edns(query):
            return [EDNS_IS_UNKNOWN[case](query)]
        response = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
        response.answer = [rrset("mx.example. 60 IN A 192.0.2.1")]
        response.flags |= dns.flags.AD
        return [response.to_wire()]

    server.script = script
    assert ask(A, server) == Answer(A, secure=True, records=("192.0.2.1",), ttl=60)
    first, plain = (query for query, _ in server.queries)
    assert (without_edns(first), without_edns(plain)) == (False, True)
    assert dns.message.from_wire(plain).flags == dns.flags.RD | dns.flags.AD
    assert plain[:2] != first[:2]


@pytest.mark.parametrize("case", EDNS_IS_UNKNOWN)
def test_edns_is_left_out_once(ask: Asker, server: ScriptedNameserver, case: str) -> None:
    server.script = lambda query, _tcp: [bare(query, 1) if without_edns(query) else EDNS_IS_UNKNOWN[case](query)]
    failed(ask(A, server), FailureKind.MALFORMED)
    assert len(server.queries) == 2


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_an_error_with_edns_is_no_lack_of_it(ask: Asker, server: ScriptedNameserver, rcode: dns.rcode.Rcode) -> None:
    server.script = says(rcode=rcode)
    assert isinstance(ask(A, server), LookupFailure)
    assert len(server.queries) == 1


def test_one_nameserver_is_asked_five_questions_at_most(ask: Asker, server: ScriptedNameserver) -> None:
    def script(query: bytes, tcp: bool) -> list[bytes]:  # noqa: FBT001
        if not tcp and not checking_disabled(query):
            return [query[:2] + b"\x83\x80" + query[4:]]
        wire = bare(query, dns.rcode.SERVFAIL if without_edns(query) else dns.rcode.FORMERR)
        return [framed(wire) if tcp else wire]

    server.script = script
    failed(ask(A, server, attempts=3), FailureKind.SERVFAIL)
    asked = [(without_edns(query), tcp, checking_disabled(query)) for query, tcp in server.queries]
    assert asked == [
        (False, False, False),
        (False, True, False),
        (True, False, False),
        (True, True, False),
        (True, False, True),
    ]


def test_the_question_over_tcp_has_a_time_limit_of_its_own(
    ask: Asker, server: ScriptedNameserver, clock: Clock
) -> None:
    def script(query: bytes, tcp: bool) -> list[bytes]:  # noqa: FBT001
        clock.late += 0.6 * PATIENCE * 10  # of what each question has
        wire = reply(query, "mx.example. 60 IN A 192.0.2.1")
        return [framed(wire)] if tcp else [query[:2] + b"\x83\x80" + query[4:]]

    server.script = script
    assert ask(A, server, timeout=PATIENCE * 10) == Answer(A, secure=False, records=("192.0.2.1",), ttl=60)


def test_an_answer_from_the_first_nameserver_ends_the_lookup(
    ask: Asker, server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    server.script = says(rcode=dns.rcode.NXDOMAIN)
    result = ask(A, server, second)
    assert isinstance(result, Answer)
    assert second.queries == []


# --- nameservers that keep silent


GOOD = "mx.example. 60 IN A 192.0.2.1"
GOOD_ANSWER = Answer(A, secure=True, records=("192.0.2.1",), ttl=60)
FIRST, OTHER = "127.0.0.1:53", "127.0.0.2:53"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nameservers that questions were sent to, one after the other."""
    found: list[str] = []
    endpoint = Nameserver.endpoint

    def noting(nameserver: Nameserver) -> object:
        found.append(str(nameserver))
        return endpoint(nameserver)

    monkeypatch.setattr(Nameserver, "endpoint", noting)
    return found


def test_a_plan_waits_once_for_a_nameserver_that_does_not_answer(
    tcp_only: ScriptedNameserver, second: ScriptedNameserver, asked: list[str]
) -> None:
    second.script = says(authority=(SOA,), ad=True)
    resolver = DnsResolver(nameservers=[tcp_only.address, second.address], timeout=PATIENCE)
    Engine(resolver, config=Config(sts=Sts.OFF)).plan("example", now=NOW)
    assert asked == [tcp_only.address] + [second.address] * len(second.queries)
    assert len(second.queries) >= 3  # MX, A, AAAA


def test_threads_wait_once_each_at_most_for_a_nameserver_that_does_not_answer(
    tcp_only: ScriptedNameserver, second: ScriptedNameserver, asked: list[str]
) -> None:
    second.script = says(GOOD, ad=True)
    resolver = DnsResolver(nameservers=[tcp_only.address, second.address], timeout=PATIENCE)
    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(resolver.lookup, [A] * 50)) == {GOOD_ANSWER}
    assert 1 <= asked.count(tcp_only.address) <= 5
    assert asked.count(second.address) == 50


def test_with_asyncio_only_what_is_under_way_waits_for_a_nameserver_that_does_not_answer(
    tcp_only: ScriptedNameserver, second: ScriptedNameserver, asked: list[str]
) -> None:
    second.script = says(GOOD, ad=True)
    resolver = AsyncDnsResolver(nameservers=[tcp_only.address, second.address], timeout=PATIENCE)

    async def twice() -> list[int]:
        waited = []
        for _ in range(2):
            assert await asyncio.gather(*map(resolver.lookup, [A] * 5)) == [GOOD_ANSWER] * 5
            waited.append(asked.count(tcp_only.address))
        return waited

    first, both = asyncio.run(twice())
    assert 1 <= first <= 5
    assert both == first


def in_turn(resolver: DnsResolver) -> list[str]:
    """The nameservers in the order in which they are asked, where all fail in a way that does not matter."""
    found, turns = [], resolver._turns(A)
    with contextlib.suppress(StopIteration):
        turn = next(turns)
        while True:
            found.append(str(turn.nameserver))
            turn = turns.send(LookupFailure(A, FailureKind.REFUSED))
    return found


def answers_from(resolver: DnsResolver, *before: FailureKind) -> None:
    """A lookup that fails like this at one nameserver after the other, and has an answer from the next."""
    turns = resolver._turns(A)
    next(turns)
    for kind in before:
        turns.send(LookupFailure(A, kind))
    with pytest.raises(StopIteration):
        turns.send(GOOD_ANSWER)


@pytest.mark.parametrize("kind", FailureKind)
def test_only_silence_makes_a_nameserver_come_last(kind: FailureKind) -> None:
    resolver = DnsResolver(nameservers=[FIRST, OTHER])
    if kind in {FailureKind.BOGUS, FailureKind.INDETERMINATE, FailureKind.LOOP}:  # which are final
        with pytest.raises(StopIteration):
            answers_from(resolver, kind)
    else:
        answers_from(resolver, kind)
    is_silence = kind in {FailureKind.TIMEOUT, FailureKind.NETWORK}
    assert in_turn(resolver) == ([OTHER, FIRST] if is_silence else [FIRST, OTHER])


def test_a_silent_nameserver_comes_first_again_after_five_minutes(clock: Clock) -> None:
    resolver = DnsResolver(nameservers=[FIRST, OTHER])
    answers_from(resolver, FailureKind.TIMEOUT)
    clock.late += SILENT_SECONDS - PATIENCE
    assert in_turn(resolver) == [OTHER, FIRST]
    clock.late += PATIENCE
    assert in_turn(resolver) == [FIRST, OTHER]
    assert SILENT_SECONDS == 300  # RFC 2308 section 7.2


def test_a_silent_nameserver_comes_first_again_as_soon_as_it_answers() -> None:
    resolver = DnsResolver(nameservers=[FIRST, OTHER])
    answers_from(resolver, FailureKind.TIMEOUT)
    answers_from(resolver, FailureKind.SERVFAIL)
    assert in_turn(resolver) == [FIRST, OTHER]


def test_where_all_keep_silent_all_are_asked_in_their_order(
    server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    resolver = DnsResolver(nameservers=[server.address, second.address], attempts=2)
    for _ in range(3):
        failed(ask_at_once(A, server, second, resolver=resolver), FailureKind.TIMEOUT)
    assert [tcp for _, tcp in server.queries] == [tcp for _, tcp in second.queries] == [False, False, True] * 3
    assert in_turn(resolver) == [server.address, second.address]


def test_a_nameserver_that_comes_last_is_asked_where_the_others_have_no_answer(
    server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    resolver = DnsResolver(nameservers=[server.address, second.address])
    second.script = says(GOOD, ad=True)
    assert ask_at_once(A, server, second, resolver=resolver) == GOOD_ANSWER
    server.script, second.script = says(GOOD, ad=True), says(rcode=dns.rcode.REFUSED)
    assert ask_at_once(A, server, second, resolver=resolver) == GOOD_ANSWER
    assert (len(server.queries), len(second.queries)) == (2, 2)


def test_in_any_order_a_nameserver_that_calls_the_data_bogus_is_not_overruled(
    server: ScriptedNameserver, second: ScriptedNameserver
) -> None:
    resolver = DnsResolver(nameservers=[server.address, second.address])
    second.script = says(GOOD, ad=True)
    ask_at_once(A, server, second, resolver=resolver)
    server.script, second.script = says(FORGED, ad=True), calls_bogus(DATA["data"])
    failed(ask_at_once(A, server, second, resolver=resolver), FailureKind.BOGUS)
    assert len(server.queries) == 1


def test_what_a_resolver_remembers_is_no_part_of_its_value(clock: Clock) -> None:
    resolver, other = (DnsResolver(nameservers=[FIRST, OTHER]) for _ in range(2))
    answers_from(resolver, FailureKind.TIMEOUT)
    assert (resolver, hash(resolver), repr(resolver)) == (other, hash(other), repr(other))
    assert in_turn(other) == [FIRST, OTHER]
    moved = pickle.loads(pickle.dumps(resolver))
    assert moved == resolver
    clock.late -= 1e6  # the clock of a system that was started later
    assert in_turn(moved) == [FIRST, OTHER]


# --- asyncio


def test_asyncio_lookups_run_side_by_side(server: ScriptedNameserver) -> None:
    held: list[bytes] = []

    def script(query: bytes, _tcp: bool) -> list[bytes]:  # noqa: FBT001
        held.append(query)
        if len(held) < 20:
            return []
        return [reply(held[-1], "h19.example. 60 IN A 192.0.2.1")]

    server.script = script
    resolver = AsyncDnsResolver(nameservers=[server.address], timeout=PATIENCE, attempts=1)

    async def batch() -> set[Answer | LookupFailure]:
        lookups = [asyncio.ensure_future(resolver.lookup(Lookup(f"h{i}.example", RecordType.A))) for i in range(20)]
        done, waiting = await asyncio.wait(lookups, return_when=asyncio.FIRST_COMPLETED)
        for lookup in waiting:
            lookup.cancel()
        await asyncio.wait(waiting)
        return {lookup.result() for lookup in done}

    (result,) = asyncio.run(batch())
    assert isinstance(result, Answer)  # which came only after all twenty had asked


# --- configuration


@pytest.mark.parametrize(
    ("text", "address", "port", "loopback"),
    [
        ("127.0.0.1", "127.0.0.1", 53, True),
        ("192.0.2.1:5353", "192.0.2.1", 5353, False),
        ("::1", "::1", 53, True),
        ("[::1]", "::1", 53, True),
        ("[2001:DB8::1]:54", "2001:db8::1", 54, False),
        ("fe80::1%lo", "fe80::1%lo", 53, False),
    ],
)
def test_a_nameserver_is_an_address_with_an_optional_port(
    text: str, address: str, port: int, *, loopback: bool
) -> None:
    nameserver = Nameserver.parse(text)
    assert (nameserver.address, nameserver.port, nameserver.loopback) == (address, port, loopback)
    assert Nameserver.parse(str(nameserver)) == nameserver


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        "127.0.0.1:\u0665",
        "127.0.0.1:" + "9" * 5000,
        "[::1",
        "[::1]53",
        "[::1]:",
        "https://127.0.0.1/",
    ],
)
def test_what_is_no_nameserver_is_misuse(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        DnsResolver(nameservers=[text])


def test_misuse_of_the_constructor() -> None:
    with pytest.raises(ValueError, match="needs a nameserver"):
        DnsResolver(nameservers=[])
    with pytest.raises(TypeError, match="sequence"):
        DnsResolver(nameservers="127.0.0.1")
    with pytest.raises(ValueError, match="timeout"):
        AsyncDnsResolver(nameservers=["127.0.0.1"], timeout=0)
    with pytest.raises(ValueError, match="attempts"):
        DnsResolver(nameservers=["127.0.0.1"], attempts=0)


def test_the_system_names_the_nameservers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search example.com\nnameserver 127.0.0.1\nnameserver ::1\noptions timeout:7 trust-ad\n")
    resolver = AsyncDnsResolver.from_system(path=str(file))
    assert isinstance(resolver, AsyncDnsResolver)
    assert [str(nameserver) for nameserver in resolver.nameservers] == ["127.0.0.1:53", "[::1]:53"]
    assert (resolver.timeout, resolver.trusted) == (7, True)
    file.write_text("nameserver 192.0.2.53\noptions trust-ad\n")
    assert not DnsResolver.from_system(path=str(file)).trusted
    assert DnsResolver.from_system(path=str(file), trust_ad=True, timeout=1).timeout == 1
    file.write_text("search example.com\n")
    with pytest.raises(ValueError, match="names no nameserver"):
        DnsResolver.from_system(path=str(file))


# --- hostile octets


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([RecordType.A, RecordType.MX, RecordType.TLSA, RecordType.TXT, RecordType.CNAME]),
    st.lists(st.tuples(st.integers(2, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 400),
)
def test_no_octets_raise(rdtype: RecordType, changes: list[tuple[int, int]], cut: int) -> None:
    query = _Query(Lookup("mx.example", rdtype), trusted=True)
    rdata = {
        RecordType.A: "192.0.2.1",
        RecordType.MX: "1 mx.example.",
        RecordType.TLSA: "3 1 1 " + "ab" * 32,
        RecordType.TXT: '"abc" "def"',
        RecordType.CNAME: "c.example.",
    }[rdtype]
    wire = bytearray(
        reply(
            query.wire,
            "mx.example. 60 IN CNAME b.example.",
            f"b.example. 60 IN {rdtype} {rdata}",
            authority=(SOA,),
            errors=((6, "x"),),
        )
    )
    for position, octet in changes:
        wire[position % len(wire)] = octet
    query.read(bytes(wire))
    query.read(bytes(wire[: max(0, len(wire) - cut)]))
    query.read_stream(bytes(wire))


@pytest.mark.parametrize(("pointers", "is_read"), [(1, True), (16, True), (128, False), (8000, False)])
def test_a_name_of_many_compression_pointers_is_not_followed(pointers: int, *, is_read: bool) -> None:
    wire, at = bytearray(12) + b"\x01a\0", 12
    for _ in range(pointers):  # each to the one before
        wire += (0xC000 | at).to_bytes(2, "big")
        at = len(wire) - 2
    message = _Message(bytes(wire), at)
    if is_read:
        assert message.name() == b"\x01a\0"
        assert message.at == len(wire)
    else:
        with pytest.raises(ValueError, match="compressed"):
            message.name()


def end_of_name(wire: bytes, at: int) -> int:
    """RFC 1035 section 4.1.4: a name ends with a zero octet or with a pointer."""
    while 0 < wire[at] < 0xC0:
        at += 1 + wire[at]
    return at + (2 if wire[at] else 1)


@given(st.lists(st.integers(0, 63), max_size=140), st.integers(0, 300), st.integers(0, 300))
@example([1, 20, 4], 38, 0)  # dnspython goes on after all that it read, which is beyond the pointer
def test_names_are_read_as_dnspython_reads_them(labels: list[int], start: int, pointer: int) -> None:
    wire = bytearray(12)
    for length in labels:
        wire += bytes([length]) + b"Aa\xc0\x0c"[: max(length, 1)] + b"z" * max(length - 4, 0)
    wire += b"\0" + struct.pack("!H", 0xC000 | pointer) + bytes(2)
    message = _Message(bytes(wire))
    for at in (12, start, len(wire) - 4, 12, start):  # in the end from what is remembered
        theirs = dns.wire.Parser(bytes(wire), min(at, len(wire)))
        message.at = min(at, len(wire))
        try:
            expected = dns.name.from_wire_parser(theirs)
        except dns.exception.DNSException:  # also a pointer into the name itself, which is only odd
            with contextlib.suppress(ValueError, IndexError):
                assert len(message.name()) <= 255
        else:
            assert message.name() == expected.to_digestable()
            assert message.at == end_of_name(bytes(wire), min(at, len(wire)))
