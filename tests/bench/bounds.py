"""What the most expensive input costs that each bound admits: `python -m tests.bench.bounds`, or `nox -s bounds`.

Prints the table of docs/bounds.md. Processor time is the least of three calls; memory is the most that Python's
allocator held beyond the input during one more. Where Python has a parser of the format, it is given the same input.
A row fails that takes more than `RATIO` times the parser's time, or more than `TIMES` its input and `OCTETS`, unless it
says why it may.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import email
import email.policy
import fnmatch
import gzip
import importlib
import io
import json
import pkgutil
import platform
import secrets
import smtplib
import struct
import sys
import time
import tracemalloc
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import dns.message
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import mailtlspolicy
from mailtlspolicy import Config, Message, World, dane, pkix
from mailtlspolicy.adapters import https, replies
from mailtlspolicy.adapters.dns import MAX_MESSAGE, MAX_RECORDS, _Query
from mailtlspolicy.delivery import transaction
from mailtlspolicy.delivery.requiretls import read_tags
from mailtlspolicy.dns.effects import Lookup, RecordType
from mailtlspolicy.sts import record as sts_record
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.policy import Policy, parse_policy
from mailtlspolicy.sts.stores import MAX_ENTRY_OCTETS, decode_entry, encode_entry
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.tlsrpt import reading, record
from tests import authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

RATIO = 20
LEAST = 0.001  # seconds, below which no ratio counts
TIMES, OCTETS = 10, 50 * 2**20
NAME = "mx.example.com"
CONFIG = Config()


@attrs.frozen
class Row:
    """One kind of input.

    Attributes:
        source: the input.
        run: what this library does with it.
        peer: what Python's parser is called, if there is one.
        peer_run: that parser.
        why: why it may take more than is allowed.
        octets: the size of the input, once decompressed.
    """

    what: str
    source: Any
    run: Callable[[Any], object]
    peer: str = ""
    peer_run: Callable[[Any], object] | None = None
    why: str = ""
    octets: int = attrs.field(kw_only=True)

    @octets.default
    def _size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else sum(map(len, self.source))


# --- DNS

LONG = b"\1a" * 126 + b"\0"  # as many labels as a name can have


def dns_row(what: str, rdtype: RecordType, *datas: bytes) -> Row:
    """An answer of these records."""
    question = Lookup("_25._tcp.mx.a.example", rdtype)
    query = _Query(question, trusted=True)
    number = {RecordType.A: 1, RecordType.CNAME: 5, RecordType.MX: 15, RecordType.TXT: 16, RecordType.TLSA: 52}[rdtype]
    records = [b"\xc0\x0c" + struct.pack("!HHIH", number, 1, 60, len(data)) + data for data in datas]
    asked = query.wire[12 : query.wire.index(b"\0\0\x29", 12)]
    wire = query.wire[:2] + struct.pack("!HHHHH", 0x81A0, 1, len(records), 0, 0) + asked + b"".join(records)
    assert len(wire) <= MAX_MESSAGE
    return Row(f"DNS answer: {what}", wire, query.read_stream, "dnspython", dns.message.from_wire)


def dns_rows() -> Iterator[Row]:
    yield dns_row("MX, names of 126 labels", RecordType.MX, *[b"\0\1" + LONG] * 244)
    yield dns_row("256 MX, names compressed", RecordType.MX, *[b"\0\1\xc0\x0c"] * MAX_RECORDS)
    yield dns_row("a TXT record of empty strings", RecordType.TXT, bytes(65_000))
    yield dns_row("250 TXT records", RecordType.TXT, *[b"\xf0" + b"x" * 240] * 250)
    yield dns_row("64 TLSA records of a kilobyte", RecordType.TLSA, *[b"\2\0\0" + b"x" * 1000] * 63)


# --- MTA-STS and TLSRPT records, policies


def in_strings(text: bytes) -> list[bytes]:
    """The strings of a TXT record."""
    return [text[at : at + 255] for at in range(0, len(text), 255)]


def sts_rows() -> Iterator[Row]:
    size = MAX_MESSAGE - 300
    for what, text in {
        "fields": b"v=STSv1;" + b"a=b;" * (size // 4),
        "blanks": b"v=STSv1;id=1;x=y" + b" " * size,
        "one field": b"v=STSv1; " + b"x" * size,
    }.items():
        yield Row(f"MTA-STS record: {what}", in_strings(text), sts_record.parse_record)
    uris = b"v=TLSRPTv1;rua=" + b"mailto:a@b.c," * (size // 13)
    yield Row("TLSRPT record: URIs", in_strings(uris), record.parse_record)
    head, most = b"version: STSv1\nmode: enforce\nmax_age: 86400\n", CONFIG.max_policy_octets
    for what, line in {
        "patterns": b"mx:%x.a\n",
        "other fields": b"x:y\n",
        "one field again": b"mode: none\n",
    }.items():
        lines = b"".join(line % at if b"%" in line else line for at in range(most // len(line)))
        body = (head + lines)[:most].rpartition(b"\n")[0]
        yield Row(f"MTA-STS policy: {what}", body, parse_policy)
    policy = parse_policy(head + b"".join(b"mx:%x.a\n" % at for at in range(90_000)))
    assert isinstance(policy, Policy)
    entry = Entry(checked=authority.NOW, used=authority.NOW, id="1", policy=policy, fetched=authority.NOW)
    for what, octets in {
        "a policy": encode_entry(entry),
        "empty arrays": b"[" + b"[]," * (MAX_ENTRY_OCTETS // 3 - 2) + b"[]]",
    }.items():
        why = "the policy in it is read again, line by line; to JSON it is one text"
        yield Row(f"entry of a store: {what}", octets, decode_entry, "json", json.loads, why)


# --- certificates


def certificate_rows() -> Iterator[Row]:
    """Crowds of issuers that may all have issued each other, and many names under many constraints."""
    key = ec.generate_private_key(ec.SECP521R1())  # the signatures that take the longest to check
    ca = authority.name("CA")
    padding = [x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size)) for size in (1000, 60_000)]
    above = authority.ca(ca, key=key)
    issuers = [authority.ca(ca, above, padding[0], key=ec.generate_private_key(ec.SECP521R1())) for _ in range(62)]
    leaf = authority.server(issuers[0], "mx.example.com")
    chains = {
        "issuers of one name": [leaf.der, *(issued.der for issued in issuers)],
        "one large leaf": [authority.server(issuers[0], "mx.example.com", extensions=padding[1:]).der],
    }
    anchor = authority.ca(ca, length=0)
    records = [Tlsa(2, 1, 1, secrets.token_bytes(32)), authority.record(2, 1, 1, anchor), Tlsa(2, 1, 0, anchor.spki)]
    records += [Tlsa(2, 0, 1, secrets.token_bytes(32)) for _ in range(CONFIG.max_tlsa_records - 3)]
    many = "the parser checks no signature (at most `max_signatures`), and no name"
    for what, chain in chains.items():
        yield from both(what, chain, records, many)
    count = 175  # with the name itself, squared, a little less than half of `max_name_constraint_checks`
    permitted = [x509.DNSName(f"a{at}.example.com") for at in range(count)]
    constrained = authority.ca("C", None, x509.NameConstraints(None, permitted), key=key)
    inner = authority.ca("D", constrained, x509.NameConstraints(None, permitted))
    named = authority.server(inner, "mx.example.com", *(f"b{at}.example.com" for at in range(count)))
    chain = [named.der, inner.der, constrained.der]
    records = [authority.record(2, 0, 1, constrained)]
    yield from both("175 names, 175 constraints twice", chain, records, many)


def both(what: str, chain: list[bytes], records: list[Tlsa], why: str) -> Iterator[Row]:
    """A chain judged by TLSA records, and by a trust store."""
    assert len(chain) <= CONFIG.max_chain_certificates
    assert sum(map(len, chain)) <= CONFIG.max_chain_octets
    trust = pkix.TrustStore.of_anchors([("anchor", chain[-1])])

    def parse(chain: list[bytes]) -> list[x509.Certificate]:
        return [x509.load_der_x509_certificate(der) for der in chain]

    def by_dane(chain: list[bytes]) -> object:
        return dane.verify(chain, records, [NAME], now=authority.NOW)

    def by_pkix(chain: list[bytes]) -> object:
        return pkix.verify(chain, trust, NAME, now=authority.NOW)

    yield Row(f"chain for DANE-TA: {what}", chain, by_dane, "cryptography, to parse", parse, why)
    yield Row(f"chain for PKIX: {what}", chain, by_pkix, "cryptography, to parse", parse, why)


# --- SMTP and HTTP


def session_rows() -> Iterator[Row]:
    line = b"250-" + b"x" * (replies.MAX_LINE - 6) + b"\r\n"
    reply = line * (replies.MAX_LINES - 1) + b"250 done\r\n"

    def piecemeal(reply: bytes, size: int) -> object:
        parser = replies.ReplyParser()
        return [parser.feed(reply[at : at + size]) for at in range(0, len(reply), size)][-1]

    def of_smtplib(reply: bytes) -> object:
        session = smtplib.SMTP()
        session.file = io.BytesIO(reply)  # as of a socket
        return session.getreply()

    def prepare(content: bytes) -> object:
        return [size for size, _ in transaction.measures(content)][-1], sum(map(len, transaction.blocks_of(content)))

    def look_through(content: bytes) -> object:
        with contextlib.suppress(ValueError):  # it has no signature
            Message("a@b.c", ["d@e.f"], content, tls_report=True)
        return read_tags((), content)

    def of_email(content: bytes) -> object:
        return email.message_from_bytes(content, policy=email.policy.compat32)

    for size, what in ((1, "octet by octet"), (len(reply), "at once")):
        slow = "each octet comes by itself; smtplib is given all at once" if size == 1 else ""
        read = partial(piecemeal, size=size)
        yield Row(f"SMTP reply: {what}", reply, read, "smtplib", of_smtplib, slow)
    for what, piece in {"line feeds": b"\n", "dots": b"\n.", "lines of 80": b"x" * 79 + b"\n"}.items():
        content = piece * (10_000_000 // len(piece))
        quote = partial(_quoted, text=content.decode())
        yield Row(f"10 MB prepared to be sent: {what}", content, prepare, "smtplib.quotedata", quote)
    for what, content in {
        "field after field": b"a: b\r\n" * 1_700_000,
        "blanks": b"TLS-Required:" + b"\r\n " * 3_300_000,
    }.items():
        yield Row(f"10 MB looked through: {what}", content, look_through, "email", of_email)
    values = ["text/plain" + " " * https.MAX_HEAD_OCTETS]
    yield Row("HTTP Content-Type: blanks", values, https.content_type)


def _quoted(_: bytes, text: str) -> str:
    return smtplib.quotedata(text)


# --- reports and worlds


def largest(make: Callable[[int], bytes], count: int) -> bytes:
    """The report with nearly as many of something as are read."""
    while isinstance(reading.read_report(octets := make(count)), reading.Unreadable):
        count = count * 9 // 10
    return octets


def json_rows() -> Iterator[Row]:
    size = reading.MAX_REPORT
    detail = (
        b'{"result-type":"certificate-expired","sending-mta-ip":"192.0.2.1","receiving-mx-hostname":"a.b",'
        b'"receiving-ip":"192.0.2.2","failed-session-count":1}'
    )
    policy = b'{"policy":{"policy-type":"sts","policy-domain":"a.b","policy-string":[],"mx-host":["a.b"]},"summary":'
    policy += (
        b'{"total-successful-session-count":1,"total-failure-session-count":1},"failure-details":[' + detail + b"]}"
    )
    details = policy.replace(detail, b"%s")
    reports = {
        "policies": largest(lambda count: b'{"policies":[' + b",".join([policy] * count) + b"]}", size // len(policy)),
        "details": largest(
            lambda count: b'{"policies":[' + details % b",".join([detail] * count) + b"]}", size // len(detail)
        ),
        "empty objects": b'{"policies":[' + b"{}," * (size // 3 - 9) + b"{}]}",
        "arrays in arrays": b'{"policies":[' + b"[]," * (size // 3 - 9) + b"{}]}",
        "digits": b'{"policies":[{"summary":{"total-failure-session-count":' + b"9" * (size - 70) + b"}}]}",
        "one long text": b'{"policies":[],"contact-info":"' + b"\\u00e4" * (size // 6 - 9) + b'"}',
        "an odd character in it": b'{"policies":[],"contact-info":"'
        + b"x" * (size - 99)
        + "\U0001f600".encode()
        + b'"}',
        "members": b'{"policies":[]' + b',"a":1' * (size // 6 - 9) + b"}",
    }

    def loaded(octets: bytes) -> object:
        try:
            return json.loads(octets)
        except ValueError:  # so many digits
            return None

    def unpacked(octets: bytes) -> object:
        return loaded(gzip.decompress(octets))

    def of_email(octets: bytes) -> object:
        payload = email.message_from_bytes(octets).get_payload(decode=True)
        assert isinstance(payload, bytes)
        return unpacked(payload) if payload.startswith(b"\x1f\x8b") else loaded(payload)

    reasons = {"one long text": "gone through before it is parsed, and again for what I-JSON forbids"}
    for what, octets in reports.items():
        assert len(octets) <= size, what
        yield Row(f"TLS report: {what}", octets, reading.read_report, "json", loaded, reasons.get(what, ""))
    for what in ("details", "empty objects"):
        packed, whole = gzip.compress(reports[what]), len(reports[what])
        read = reading.read_report
        yield Row(f"TLS report in gzip: {what}", packed, read, "gzip, json", unpacked, octets=whole)
    head = b"Content-Type: application/tlsrpt+gzip\nContent-Transfer-Encoding: base64\n\n"
    for what, octets in {
        "a report in gzip": head + base64.encodebytes(gzip.compress(reports["details"], compresslevel=0)[:size]),
        "a report in JSON": b"Content-Type: application/tlsrpt+json\n\n" + reports["details"],
        "header fields": b"A: b\n" * (reading.MAX_MAIL // 5),
        "parts": b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * (reading.MAX_MAIL // 7 - 9),
        "encoded words": b"Subject: " + b"=?a?q?" * (reading.MAX_MAIL // 6 - 9),
        "parameters": b"Content-Type: multipart/mixed" + b"; a*0=a" * (reading.MAX_MAIL // 7 - 9),
    }.items():
        assert len(octets) <= reading.MAX_MAIL, what
        row = Row(f"TLS report by mail: {what}", octets, reading.read_report_mail)
        if "report" in what:  # `email` takes minutes, and gigabytes, for the others
            row = attrs.evolve(row, peer="email, json", peer_run=of_email)
        yield row
    records = ["@ MX 10 mx", "mx A 192.0.2.1", f"_25._tcp.mx TLSA 3 1 1 {'ab' * 32}"]
    world = json.dumps({"zones": {f"d{at}.test": {"records": records} for at in range(5000)}}).encode()
    why = "no peer chooses a world; its names and records are read one by one"
    yield Row("world: 5,000 zones", world, lambda text: World.from_json(json.loads(text)), "json", json.loads, why)


# --- measuring


def cpu(run: Callable[[Any], object], source: Any) -> float:
    """The least processor time of three calls, in seconds."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        run(source)
        spent.append(time.process_time() - start)
    return min(spent)


def memory(row: Row) -> int:
    """The most octets that were held at a time."""
    tracemalloc.start()
    try:
        row.run(row.source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def show(row: Row) -> bool:
    """Measure and print a row; whether it is within what is allowed."""
    ours, held = cpu(row.run, row.source), memory(row)
    allowed, compared = float("inf"), " | | "
    if row.peer_run is not None:
        theirs = cpu(row.peer_run, row.source)
        allowed = max(RATIO * theirs, LEAST)
        compared = f"{row.peer} | {theirs * 1000:,.3f} | {ours / theirs:,.1f}"
    well = ours <= allowed and held <= TIMES * row.octets + OCTETS
    remark = "" if well else row.why or "**exceeds**"
    print(
        f"| {row.what} | {row.octets:,} | {ours * 1000:,.3f} | {compared} | {held / 2**20:.1f} | {remark} |", flush=True
    )
    return well or bool(row.why)


MEASURED = {
    "DNS answer": "adapters.dns.MAX_MESSAGE adapters.dns.MAX_RECORDS adapters.dns.MAX_POINTERS names.*",
    "MTA-STS record": "adapters.dns.MAX_MESSAGE",
    "TLSRPT record": "adapters.dns.MAX_MESSAGE tlsrpt.record.MAX_DESTINATIONS",
    "MTA-STS policy": "config.max_policy_octets",
    "entry of a store": "sts.stores.MAX_ENTRY_OCTETS",
    "chain": "config.max_chain_octets config.max_chain_certificates config.max_signatures config.max_tlsa_records "
    "config.max_name_constraint_checks",
    "SMTP reply": "adapters.replies.* adapters.smtp_async.MAX_UNREAD",
    "10 MB looked through": "delivery.message.MAX_HEADER delivery.requiretls.MAX_HEADER",
    "HTTP Content-Type": "adapters.https.MAX_HEAD_OCTETS",
    "TLS report": "tlsrpt.reading.* tlsrpt.values.*",
    "TLS report by mail": "tlsrpt.reading.MAX_MAIL tlsrpt.mime.*",
}


def bounds() -> Iterator[tuple[str, str, str]]:
    """Every setting and constant that is a bound: its name, its value, and the rows that measure what it admits."""
    found = {f"config.{each.name}": each.default for each in attrs.fields(Config) if each.name.startswith("max_")}
    for module in (info.name for info in pkgutil.walk_packages(mailtlspolicy.__path__, "mailtlspolicy.")):
        if not module.endswith("__main__"):
            for name in constants(importlib.import_module(module)):
                found[f"{module.partition('.')[2]}.{name}"] = getattr(sys.modules[module], name)
    for pattern in (pattern for patterns in MEASURED.values() for pattern in patterns.split()):
        if not fnmatch.filter(found, pattern):
            raise LookupError(f"no bound is {pattern}")
    for name, value in found.items():
        rows = [
            row for row, patterns in MEASURED.items() if any(fnmatch.fnmatch(name, each) for each in patterns.split())
        ]
        yield name, f"{value:,}" if isinstance(value, int) else str(value), ", ".join(rows)


def constants(module: ModuleType) -> list[str]:
    """The bounds that a module itself defines."""
    body = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
    named = [node for statement in body if isinstance(statement, ast.Assign) for node in ast.walk(statement)]
    return [
        node.id
        for node in named
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.startswith("MAX_")
    ]


def main() -> int:
    """Print the table; the exit status says whether all rows are within what is allowed."""
    print("| input | octets | ms | Python's own | ms | ratio | MiB | |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | --- |")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        well = [show(row) for rows in ROWS for row in rows()]
    print(f"\nPython {platform.python_version()}, {', '.join(f'{each} {version(each)}' for each in PEERS)}.")
    return 0 if all(well) else 1


ROWS = (dns_rows, sts_rows, certificate_rows, session_rows, json_rows)
PEERS = ("dnspython", "cryptography")

if __name__ == "__main__":
    sys.exit(main())
