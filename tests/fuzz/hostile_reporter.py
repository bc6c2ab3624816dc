"""Reporters that send whatever they like as a report, and what must hold all the same."""

from __future__ import annotations

import gzip
import json
import pickle
from datetime import timedelta
from email.encoders import encode_7or8bit, encode_base64, encode_quopri
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from typing import TYPE_CHECKING, Any

from mailtlspolicy.cli._report_text import WIDTH
from mailtlspolicy.cli.report import received_text
from mailtlspolicy.tlsrpt.reading import (
    MAX_ELEMENTS,
    MAX_MEMBERS,
    MAX_REPORT,
    MAX_TEXT,
    Received,
    ReceivedMail,
    Unreadable,
    parse_file_name,
    parse_subject,
    read_report,
    read_report_file,
    read_report_mail,
)
from mailtlspolicy.tlsrpt.values import MAX_COUNT
from mailtlspolicy.verdict import ResultType
from tests.fuzz.mutation import mutated

if TYPE_CHECKING:
    from email.message import Message
    from random import Random

LARGE = 300_000  # octets
LONGEST_LINE = WIDTH + 2 * 45 + 30  # columns: a hostname gives way to two addresses, and they do to nothing

KEYS = (
    *("organization-name", "date-range", "contact-info", "report-id", "policies", "start-datetime", "end-datetime"),
    *("policy", "summary", "failure-details", "policy-type", "policy-string", "policy-domain", "mx-host", "x"),
    *("total-successful-session-count", "total-failure-session-count", "failed-session-count", "result-type"),
    *("sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip", "additional-information"),
    "failure-reason-code",
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "\x00",
        "\x1b[2J\r\n",
        "\u202e\u2028\x9b",
        "\ud800",
        "\ufffe",
        "\U0010ffff",
        "ä.example",
        "5",
        "-1",
    ),
    *("sts", "STS", "tlsa", "no-policy-found", *map(str, ResultType), "9" * 17, "0" * 5000 + "7", "\u0667", "1e3"),
    *("a@b.example", "mailto:a@b.example", "@", '"a b"@c.example', "client.example", "*.client.example", "a." * 130),
    *("192.0.2.1", "2001:db8::1", "[::1]", "fe80::1%eth0", "192.0.2.256", "1:" * 30, "::ffff:192.0.2.1"),
    *("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "9999-12-31T23:59:60-23:59", "0001-01-01T00:00:00+23:59"),
    *(
        "2026-01-01T00:00:00.123456789123+01:00",
        "2026-02-30T00:00:00Z",
        "https://a.example/?b=c#d",
        "a:%4",
        "https://[",
    ),
)
NUMBERS = ("0", "-0", "1", "303", str(MAX_COUNT), str(MAX_COUNT + 1), "-1", "1.5", "303.0", "1e999", "9" * 5000)
ODD_VALUES = (
    *NUMBERS,
    "true",
    "null",
    "NaN",
    "-Infinity",
    "{}",
    "[]",
    "[[]]",
    '{"a":1,"a":2}',
    '"\\ud800"',
    "\ufeff",
    "",
)
FILE_NAMES = (
    "client.example!policy.example!1767225600!1767311999!001.json.gz",
    "client.example!policy.example!1767225600!1767311999.json",
    "a!b!0!9999999999999999.JSON",
    "a!b!2!1.json",
    "bücher.example!b!1!2.json",
    "report.json.gz",
    "!!!!.json",
)
SUBJECTS = (
    "Report Domain: policy.example Submitter: client.example Report-ID: <1.a+b@client.example>",
    "Report Domain: policy.example\r\n Submitter: client.example\r\n Report-ID: <1@a> (a (comment))",
    "=?utf-8?Q?Report_Domain:?= x",
    "Report Domain: a Submitter: b Report-ID: <",
)
NAME_WORDS = (
    "!",
    "a.example",
    "1",
    "99",
    ".json",
    ".gz",
    "001",
    "-",
    "ä",
    "\n",
    " ",
    "<",
    "@",
    ">",
    "(",
    ")",
    "\\",
    "\t",
)
SUBJECT_WORDS = ("Report", "Domain:", "Submitter:", "Report-ID:", " ", "\r\n ", "<a@b>", "a.b", *NAME_WORDS)
MEDIA_TYPES = ("tlsrpt+gzip", "tlsrpt+json", "gzip", "json", "octet-stream")
PARAMETERS = (
    *("", ";", "=", "filename", "filename=", "filename*=a", "filename*0*=a''b", "filename*1=c", "filename*99999999=d"),
    *('filename="a\r\n b"', "filename*=utf-8''%", "filename*0*=%", "boundary*=x", "boundary=b", "report-type=tlsrpt"),
    *("name*" + "9" * 5000 + "=x", ";" * 50, '"', "filename==?utf-8?B?=?=", "filename*=idna''%ff", "\udcff=\udcff"),
)


def reports(random: Random) -> None:
    """A document, plain or compressed; a mail with it; a file name; a subject."""
    octets = _document(random)
    found = read_report(octets)
    _check_answer(found)
    _check_word(octets, found)
    middle = random.randrange(len(octets) + 1)
    zipped = gzip.compress(octets, 1, mtime=0)
    if random.random() < 0.5:
        zipped = gzip.compress(octets[:middle], 1, mtime=0) + gzip.compress(octets[middle:], 1, mtime=0)
    if octets[:2] != b"\x1f\x8b" and len(octets) <= MAX_REPORT:
        assert read_report(zipped) == found
    _check_answer(read_report(mutated(random, zipped)))
    content = random.choice((octets, zipped))
    mail, takes_all = _mail(random, content)
    got = read_report_mail(mail)
    _check_answer(got)
    if takes_all:
        expected = read_report(content)
        if isinstance(expected, Received):
            assert isinstance(got, ReceivedMail)
            assert (got.report, {*expected.remarks} - {*got.remarks}) == (expected.report, set())
        else:
            assert got == expected
    for hostile in (mutated(random, mail), mutated(random, octets)):
        _check_answer(read_report_mail(hostile))
        _check_answer(read_report_file(hostile))
    _check_names(_text(random, FILE_NAMES, NAME_WORDS), _text(random, SUBJECTS, SUBJECT_WORDS), found)


# what must hold


def _check_answer(found: Received | ReceivedMail | Unreadable) -> None:
    text = received_text([("\x1b[2J.json", found)], named=True)
    assert all(line.isprintable() and len(line) <= LONGEST_LINE for line in text.split("\n"))
    json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False).encode()
    assert pickle.loads(pickle.dumps(found)) == found
    if isinstance(found, Unreadable):
        return
    assert list(found.remarks) == sorted(set(found.remarks), key=str)
    report = found.report
    assert all(time is None or time.utcoffset() == timedelta() for time in (report.start, report.end))
    for entry in report.policies:
        counts = (entry.successful, entry.failed, *(count for _, count in entry.failures))
        assert all(count is None or (type(count) is int and 0 <= count <= MAX_COUNT) for count in counts)
    again = read_report(report.to_bytes())
    if isinstance(again, Unreadable):  # the very largest may grow when they are written
        written = report.to_bytes()
        marks = sum(map(written.count, (b",", b"[", b"{")))
        assert len(written) * 4 > MAX_TEXT or marks > MAX_ELEMENTS
        return
    assert again.report == report
    assert again.to_json()["report"] == report.to_json()
    assert {*again.remarks} <= {*found.remarks} | {"member-missing"}  # for what was of a wrong type


def _check_word(octets: bytes, found: Received | Unreadable) -> None:
    """Whether it is read, asked of the standard library in a plainer way."""
    if octets[:2] == b"\x1f\x8b" or len(octets) > MAX_REPORT:
        return

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        data = json.loads(octets.decode("utf-8-sig"), parse_int=float, parse_constant=refuse)
    except (ValueError, RecursionError):
        assert str(found) == "not-json"
        return
    if str(found) == "too-large":
        assert sum(map(octets.count, (b",", b"[", b"{"))) > MAX_MEMBERS
    elif not isinstance(data, dict) or not isinstance(data.get("policies"), (list, dict)):
        assert str(found) == "not-a-report"
    else:
        assert isinstance(found, Received)


def _check_names(name: str, subject: str, found: Received | Unreadable) -> None:
    read_name, read_subject = parse_file_name(name), parse_subject(subject)
    if isinstance(found, Received):
        _check_answer(found.named(name))
    if read_name is not None:
        parts = [read_name.sender, read_name.policy_domain, str(read_name.begin), str(read_name.end)]
        again = "!".join(filter(None, [*parts, read_name.unique_id]))
        assert parse_file_name(f"{again}.{read_name.extension}") == read_name
        assert name.isascii()
        assert read_name.begin <= read_name.end <= MAX_COUNT
    if read_subject is not None:
        text = f"Report Domain: {read_subject.domain} Submitter: {read_subject.submitter}"
        assert parse_subject(f"{text} Report-ID: <{read_subject.report_id}>") == read_subject


# what is made


def _document(random: Random) -> bytes:
    choice = random.random()
    if choice < 0.02:
        word = random.choice(
            (b"[", b'{"a":', b'{"policies":[', b"9", b"\x1f\x8b", b" ", b'{"policies":[],"a":"\\ud800')
        )
        return word * (random.randrange(LARGE) // len(word))
    if choice < 0.05:
        return random.randbytes(random.randrange(80))
    octets = _json(random, 0).encode("utf-8", "replace")
    if choice < 0.12:
        many = b'{"policies":[' + (octets + b",") * (random.randrange(20_000) // (len(octets) + 1) + 1) + b"{}]}"
        return random.choice((many, b"\xef\xbb\xbf" + many))
    return mutated(random, octets) if choice < 0.5 else octets


def _json(random: Random, depth: int) -> str:
    """A report as it should be, mostly; anything may be anything else, or absent, or there twice."""
    if random.random() < 0.04:
        return random.choice(ODD_VALUES)
    if depth == 1:
        policy = {
            "policy-type": _string(random),
            "policy-string": _strings(random),
            "policy-domain": _string(random),
            "mx-host": _strings(random),
        }
        summary = {name: _number(random) for name in ("total-successful-session-count", "total-failure-session-count")}
        details = [_json(random, 2) for _ in range(random.choice((0, 1, 3)))]
        inner = (_object(random, policy), _object(random, summary), f"[{','.join(details)}]")
        return _object(random, dict(zip(("policy", "summary", "failure-details"), inner, strict=True)))
    if depth == 2:
        names = random.sample(KEYS[-8:], k=random.randrange(8))
        return _object(random, {name: _string(random) for name in names} | {"failed-session-count": _number(random)})
    members = {name: _string(random) for name in ("organization-name", "contact-info", "report-id")}
    times = {name: _string(random) for name in ("start-datetime", "end-datetime")}
    policies = [_json(random, 1) for _ in range(random.choice((0, 1, 1, 3)))]
    return _object(random, members | {"date-range": _object(random, times), "policies": f"[{','.join(policies)}]"})


def _object(random: Random, members: dict[str, str]) -> str:
    pairs = list(members.items())
    if random.random() < 0.1:
        pairs.append((random.choice(KEYS), random.choice(ODD_VALUES)))
    if pairs and random.random() < 0.05:
        del pairs[random.randrange(len(pairs))]
    return f"{{{','.join(f'{json.dumps(name)}:{value}' for name, value in pairs)}}}"


def _string(random: Random) -> str:
    if random.random() < 0.03:
        return random.choice(ODD_VALUES)
    text = random.choice(TEXTS)
    if len(text) < 100:
        text *= random.choice((1, 1, 1, 1, 2, 300))
    return json.dumps(text, ensure_ascii=random.random() < 0.7)


def _strings(random: Random) -> str:
    strings = [_string(random) for _ in range(random.choice((1, 1, 2, 30)))]
    return strings[0] if random.random() < 0.2 else f"[{','.join(strings)}]"


def _number(random: Random) -> str:
    if random.random() < 0.05:
        return random.choice(ODD_VALUES)
    number = random.choice(NUMBERS)
    return f'"{number}"' if random.random() < 0.2 else number


def _text(random: Random, seeds: tuple[str, ...], words: tuple[str, ...]) -> str:
    text = random.choice(seeds)
    if random.random() < 0.3:
        return text
    if random.random() < 0.5:
        return mutated(random, text.encode()).decode("utf-8", "surrogateescape")
    return "".join(random.choices((*words, text), k=random.randrange(12))) * random.choice((1, 1, 1, 1000))


def _mail(random: Random, content: bytes) -> tuple[bytes, bool]:
    """A mail with this content, made by the standard library, and whether it has to be found there."""
    part: Message[Any, Any] = MIMENonMultipart("application", random.choice(MEDIA_TYPES))
    part.set_payload(content)
    # quoted-printable takes octets 10 and 13 for line ends
    random.choice((encode_base64, encode_quopri if content[:1] == b"{" else encode_base64))(part)
    certain = part.get_content_type() != "application/octet-stream"
    if random.random() < 0.5:
        part.add_header("Content-Disposition", "attachment", filename=random.choice(FILE_NAMES))
    mail: Message[Any, Any] = part
    for _ in range(random.choice((0, 1, 1, 1, 2, 5))):
        outer = MIMEMultipart("report", report_type="tlsrpt", boundary=f"={random.randrange(10**9)}")
        text = MIMEText(random.choice(("This is a report.\n", "--=\n", '{"policies": []}')))
        encode_7or8bit(text)
        for inner in random.choice(((text, mail), (text, mail), (mail, text), (mail,))):
            outer.attach(inner)
        mail = outer
    for name, values in (("Subject", SUBJECTS), ("TLS-Report-Domain", TEXTS), ("TLS-Report-Submitter", TEXTS)):
        value = random.choice(values)
        if value.isascii() and value.isprintable() and random.random() < 0.8:
            mail[name] = value
    octets = mail.as_bytes()
    if random.random() < 0.2:
        parameter = "; ".join(random.choices(PARAMETERS, k=random.choice((1, 3, 200))))
        field = f"Content-{random.choice(('Type', 'Disposition'))}: x/y; {parameter}\n"
        return field.encode("utf-8", "surrogateescape") + octets, False
    return octets.replace(b"\n", b"\r\n") if random.random() < 0.5 else octets, certain
