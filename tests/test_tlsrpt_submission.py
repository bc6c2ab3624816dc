"""Sending reports: the mail and its signature, its way past every policy, the request, and when to try again."""

from __future__ import annotations

import asyncio
import email
import email.policy
import gzip
import json
import pickle
import random
import re
from datetime import date, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailtlspolicy import Config, Message, World
from mailtlspolicy.tlsrpt import (
    Aggregate,
    Aggregates,
    Judgement,
    PolicyType,
    Report,
    ReportedPolicy,
    ReportMail,
    ReportPost,
    Scheme,
    Submission,
    TlsrptRecord,
    first_try,
    parse_record,
    sessions,
)
from mailtlspolicy.tlsrpt.reading import ReceivedMail, read_report_mail
from tests.abnf import ALPHANUM, Rule, chain, literal, octets, one_of, some
from tests.sts_worlds import async_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message as Parsed

DAY = date(2026, 1, 1)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LONG = ".".join(["l" * 62] * 4)[:253].removesuffix(".")


def report(domain: str = "client.test", *, name: str = "Sender Inc.", contact: str = "tls@sender.test") -> Report:
    aggregate = Aggregate(domain, DAY)
    for number in range(20):
        policy = ReportedPolicy(
            PolicyType.STS, aggregate.domain, [f"mx: mx{number}.test", "b\xfccher"], [f"mx{number}.test"]
        )
        aggregate.count((Judgement(policy, False),))
    return Report.of(aggregate, organization_name=name, contact_info=contact)


def mail(of: Report | None = None, recipient: str = "r@client.test", **more: Any) -> ReportMail:
    return ReportMail.of(of or report(), recipient, **{"now": NOW, **more})


def signature(mailed: ReportMail | None = None, **changes: str | None) -> bytes:
    """A DKIM-Signature as libraries write it; nothing here looks at whether it is true."""
    tags: dict[str, str | None] = {
        "v": "1",
        "a": "rsa-sha256",
        "c": "relaxed/relaxed",
        "d": "sender.test" if mailed is None else mailed.dkim_domain,
        "s": "tls",
        "h": "From : To :\r\n Subject : TLS-Report-Domain\r\n\t: TLS-Report-Submitter",
        "bh": "mvOEKWGLM6ZPD1d1gYzfW2bYuBzfSpZAlIm2bQ9Xw0A=",
        "b": "dzdVyOfAKCdLXdJOc9G2q8\r\n LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR",
        **changes,
    }
    folded = ";\r\n ".join(f"{name}={value}" for name, value in tags.items() if value is not None)
    return f"DKIM-Signature: {folded}\r\n".encode()


# --- the mail

POLICIES = {
    "compat32": email.policy.compat32,
    "default": email.policy.default,
    "SMTP": email.policy.SMTP,
    "strict": email.policy.strict,
    "strict SMTP": email.policy.SMTP.clone(raise_on_defect=True),
}
MAILS: dict[str, Callable[[], ReportMail]] = {
    "plain": mail,
    "not compressed": lambda: mail(compressed=False),
    "an organisation beyond ASCII": lambda: mail(report(name="B\xfccher & S\xf6hne \U0001f4da")),
    "a long organisation": lambda: mail(report(name="x" * 200)),
    "a long domain": lambda: mail(report(LONG)),
    "long domains": lambda: mail(report(LONG, contact=f"t@{LONG[:200]}")),
    "internationalised": lambda: mail(report("b\xfccher.test", contact="tls@b\xfcro.test"), "r@m\xfcnchen.test"),
    "an odd recipient": lambda: mail(recipient='"a b@<c>"@client.test'),
    "a long recipient": lambda: mail(recipient=f"{'r' * 40}@{LONG[:213]}"),
    "another sender": lambda: mail(sender="noreply@bounces.sender.test"),
}
SUBMITTERS = {"long domains": LONG[:200], "internationalised": "xn--bro-hoa.test"}


def parsed(content: bytes, policy: Any = email.policy.compat32) -> Parsed[Any, Any]:
    found: Parsed[Any, Any] = email.message_from_bytes(content, policy=policy)
    for part in found.walk():
        assert part.defects == []
    return found


def unfolded(value: Any) -> str:
    return re.sub(r"\r?\n(?=[ \t])", "", str(value))


@pytest.mark.parametrize("kind", MAILS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_parser_finds_the_same_two_parts(policy: str, kind: str) -> None:  # RFC8460-5.3-b and -c
    made = MAILS[kind]()
    told = parsed(made.content, POLICIES[policy])
    assert told.get_content_type() == "multipart/report"
    assert unfolded(told.get_param("report-type")) == "tlsrpt"
    parts: Any = told.get_payload()
    text, data = parts
    assert text.get_content_type() == "text/plain"
    subtype, ending = ("tlsrpt+json", "json") if kind == "not compressed" else ("tlsrpt+gzip", "json.gz")
    assert data.get_content_type() == f"application/{subtype}"
    assert data.get_content_disposition() == "attachment"
    name = data.get_filename()
    assert name is not None
    assert name.endswith(f".{ending}")
    octets = data.get_payload(decode=True)
    document = json.loads(gzip.decompress(octets) if ending == "json.gz" else octets)
    submitter = SUBMITTERS.get(kind, "sender.test")
    assert document["contact-info"].endswith(f"@{submitter}")
    assert unfolded(told["TLS-Report-Submitter"]).strip() == submitter == made.dkim_domain  # RFC8460-5.3-d
    domain = unfolded(told["TLS-Report-Domain"]).strip()
    assert domain == {"a long domain": LONG, "long domains": LONG, "internationalised": "xn--bcher-kva.test"}.get(
        kind, "client.test"
    )
    assert name.split("!")[:2] == [submitter, domain]
    subject = unfolded(told["Subject"])
    assert subject == f"Report Domain: {domain} Submitter: {submitter} Report-ID: <{document['report-id']}>"
    assert document["organization-name"] in text.get_payload(decode=True).decode(text.get_content_charset())
    assert unfolded(told["TLS-Required"]) == "No"
    assert parsedate_to_datetime(str(told["Date"])) == NOW
    assert unfolded(told["MIME-Version"]) == "1.0"
    assert re.fullmatch(r"<[0-9a-f]+@[a-z0-9.-]+>", unfolded(told["Message-ID"]).strip())
    for header in ("From", "To", "Date", "Subject", "Message-ID", "TLS-Report-Domain", "TLS-Report-Submitter"):
        assert len(told.get_all(header) or []) == 1
    assert unfolded(told["From"]).strip() == made.sender
    assert unfolded(told["To"]).strip() == made.recipient


@pytest.mark.parametrize("kind", MAILS)
def test_the_octets_are_7_bit_with_crlf_and_lines_of_bearable_length(kind: str) -> None:
    for content in (MAILS[kind]().content, MAILS[kind]().signed(signature(MAILS[kind]())).content):
        assert max(content) < 0x80
        assert 0 not in content
        assert content.endswith(b"\r\n")
        assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
        lines = content.split(b"\r\n")
        assert max(map(len, lines)) <= 998  # RFC 5322 section 2.1.1
        header = content.partition(b"\r\n\r\n")[0]
        assert all(line.strip() for line in header.split(b"\r\n")), "no line of blanks"


@pytest.mark.parametrize("kind", MAILS)
def test_our_reader_reads_it_with_no_remark(kind: str) -> None:
    got = read_report_mail(MAILS[kind]().content)
    assert isinstance(got, ReceivedMail)
    assert got.remarks == ()


# RFC 8460 section 5.3, on the field as it is folded; domain-name is RFC 6376's, id-left and id-right RFC 5322's
WSP = octets((0x20, 0x20), (0x09, 0x09))
CRLF = literal(b"\r\n")
FWS = one_of(chain(some(0, WSP), CRLF, some(1, WSP)), some(1, WSP))
SUB_DOMAIN = chain(ALPHANUM, some(0, chain(some(0, literal(b"-")), ALPHANUM)))
DOMAIN_NAME = chain(SUB_DOMAIN, some(1, chain(literal(b"."), SUB_DOMAIN)))
ATEXT = one_of(ALPHANUM, *(octets((character, character)) for character in b"!#$%&'*+-/=?^_`{|}~"))
DOT_ATOM_TEXT = chain(some(1, ATEXT), some(0, chain(literal(b"."), some(1, ATEXT))))
MSG_ID = chain(literal(b"<"), DOT_ATOM_TEXT, literal(b"@"), DOT_ATOM_TEXT, literal(b">"))
SUBJECT: Rule = chain(
    *(literal(b"Report"), FWS, literal(b"Domain:"), FWS, DOMAIN_NAME, FWS, literal(b"Submitter:"), FWS, DOMAIN_NAME),
    *(FWS, literal(b"Report-ID:"), FWS, MSG_ID),
)


def is_subject(text: bytes) -> bool:
    return len(text) in SUBJECT(text, {0})


def test_the_grammar_of_subjects() -> None:
    example_of_section_5_3 = (
        b"Report Domain: example.net\r\n    Submitter: mail.sender.example.com\r\n"
        b"    Report-ID: <735ff.e317+bf22029@mailexample.net>"
    )
    assert is_subject(example_of_section_5_3)
    for old, new in (
        (b"Report D", b"report D"),
        (b"@", b""),
        (b"<", b""),
        (b"Submitter:", b"Submitter"),
        (b".net\r", b"\r"),
    ):
        assert not is_subject(example_of_section_5_3.replace(old, new, 1))


@pytest.mark.parametrize("kind", MAILS)
def test_the_subject_is_by_the_grammar_folded_as_it_is(kind: str) -> None:  # RFC8460-5.3-i
    header = MAILS[kind]().content.partition(b"\r\n\r\n")[0]
    fields = re.split(rb"\r\n(?![ \t])", header)
    (subject,) = (field.removeprefix(b"Subject: ") for field in fields if field.startswith(b"Subject: "))
    assert is_subject(subject)
    assert max(map(len, subject.split(b"\r\n"))) <= 998


def test_a_retry_has_the_same_report_id_and_another_message_id() -> None:  # RFC8460-5.3-j
    first, again = mail(), mail(now=NOW + timedelta(minutes=15))
    assert mail() == first
    one, two = parsed(first.content), parsed(again.content)
    assert one["Subject"] == two["Subject"]
    assert one["Message-ID"] != two["Message-ID"]
    assert one["Message-ID"] != parsed(mail(recipient="s@client.test").content)["Message-ID"]


def test_who_signs_what() -> None:  # RFC8460-3-j, RFC8460-5.3-g
    made = mail(sender="noreply@bounces.test")
    assert (made.dkim_domain, made.sender, made.recipient) == ("sender.test", "noreply@bounces.test", "r@client.test")
    names = [name.lower() for name in made.dkim_headers]
    assert {"from", "tls-report-domain", "tls-report-submitter", "subject", "date", "to"} <= set(names)
    assert len(set(names)) == len(names)
    told = parsed(made.content)
    assert all(told[name] is not None for name in made.dkim_headers), "a field that is not there would be oversigned"


@pytest.mark.parametrize(
    "address", ["", "a", "a@", "mailto:a@b.test", "a@b.test\r\nBcc: c@d.test", "a\n@b.test", "a b@c.test"]
)
def test_what_is_no_mailbox_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        mail(recipient=address)
    with pytest.raises(ValueError, match=r"\S"):
        mail(sender=address)


def test_a_mail_has_a_time_of_a_zone() -> None:
    with pytest.raises(ValueError, match="aware"):
        mail(now=NOW.replace(tzinfo=None))
    assert "Fri, 02 Jan 2026 03:04:05 +0000" in mail(now=NOW.astimezone(timezone(timedelta(hours=9)))).content.decode()


INJECTED = [
    "client.test\r\nBcc: v@victim.test",
    "client.test\nBcc: v@victim.test",
    "c\r.test",
    "\r\n\r\nBody",
    "a b",
    "\xe4.test",
]


@pytest.mark.parametrize("text", INJECTED)
@pytest.mark.parametrize("member", ["domain", "report_id", "contact_info"])
def test_a_report_of_somebody_elses_can_not_write_into_the_header(member: str, text: str) -> None:
    changed = {"report_id": f"2026-01-01.{text}.1@sender.test", "contact_info": f"tls@{text}", "domain": text}[member]
    more: Any = {member: changed}
    odd = attrs.evolve(report(), **more)
    try:
        made = mail(odd)
    except ValueError:
        return
    plain = parsed(mail().content)
    assert parsed(made.content).keys() == plain.keys()
    assert b"victim" not in made.content or b"\nBcc" not in made.content


def test_a_report_that_was_read_lacks_what_a_mail_says() -> None:
    for member in ("contact_info", "report_id", "domain", "start", "end"):
        without: Any = {member: None}
        with pytest.raises(ValueError, match=r"\S"):
            mail(attrs.evolve(report(), **without))


# --- its signature


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"d": "SENDER.test"},
        {"d": " sender.test "},
        {"h": "TLS-Report-Submitter:tls-report-domain:FROM"},
        {"h": "from:from:tls-report-domain:tls-report-submitter:x"},
        {"x": "1800000000"},
        {"l ": None, "L": "5"},  # tags are case-sensitive (RFC 6376 section 3.2)
    ],
)
def test_a_signature_makes_a_message(changes: Any) -> None:
    made = mail()
    field = signature(made, **changes)
    message = made.signed(field)
    assert message.content == field + made.content
    assert (message.sender, message.recipients) == ("tls@sender.test", ("r@client.test",))
    assert (message.tls_report, message.tls_optional, message.requiretls) == (True, True, False)
    told = parsed(message.content)
    assert told.keys()[0] == "DKIM-Signature"
    assert told.keys()[1:] == parsed(made.content).keys()
    assert made.signed(field.rstrip()) == message
    assert made.signed(field.replace(b"DKIM-Signature", b"dkim-signature")).tls_report


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"d": "other.test"}, "domain of its submitter"),
        ({"d": "test"}, "domain of its submitter"),
        ({"d": "mail.sender.test"}, "domain of its submitter"),
        ({"d": None}, "domain of its submitter"),
        ({"l": "100"}, "no tag l="),  # RFC8460-3-l
        ({"l": ""}, "no tag l="),
        ({"\r\n l ": " 5 "}, "no tag l="),
        ({"h": "to:tls-report-domain:tls-report-submitter"}, "from"),
        ({"h": "from:tls-report-submitter"}, "tls-report-domain"),
        ({"h": "from:tls-report-domain"}, "tls-report-submitter"),
        ({"h": "from-x:tls-report-domain:tls-report-submitter"}, "from"),
        ({"h": None}, "from"),
        ({"b": None}, "signature"),  # RFC 6376 section 3.5
        ({"b": ""}, "signature"),
        ({"b": " \r\n "}, "signature"),
        ({"bh": None}, "signature"),
        ({"bh": ""}, "signature"),
        ({"a": None}, "signature"),
        ({"s": None}, "signature"),
    ],
)
def test_a_signature_that_is_not_the_reporters_is_refused(changes: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        mail().signed(signature(**changes))


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"\r\n",
        signature().replace(b"DKIM-Signature:", b""),
        signature().replace(b"DKIM-Signature:", b"X-DKIM-Signature:"),
        signature().replace(b"DKIM-Signature:", b"ARC-Message-Signature:"),
        b"Bcc: v@victim.test\r\n" + signature(),
        b"\r\n" + signature(),
        b" " + signature(),
        signature() + b"Bcc: v@victim.test\r\n",
        signature() + b"Bcc: v@victim.test",
        signature() + b"\r\n",  # the end of the header
        signature() + b"\r\nBody",
        signature() + b"\r",
        signature().replace(b"; c=", b"; \r\nBcc: v@victim.test\r\n c=", 1).replace(b";\r\n c=", b";\r\nBcc: v\r\n c="),
        signature().replace(b";\r\n c=", b";\rBcc: v; c="),
        signature().replace(b";\r\n c=", b";\nBcc: v\n c="),
        signature().replace(b"v=1", b"v=1; d=sender.test"),
        signature().replace(b"v=1", b"v=1; l=3; l=4"),
        signature().replace(b"v=1", b"v=1; nonsense"),
        signature().replace(b"v=1", b"v=1;; x=2"),
        b"DKIM-Signature: \xff\xfe",
    ],
)
def test_what_is_no_signature_field_is_refused(field: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        mail().signed(field)


@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b";", b"l=1", b"x=", b"Bcc: v@victim.test", b"\0"]),
        max_size=5,
    ),
    st.integers(0, 400),
)
@example([b"\r\n", b" ", b"\r\n", b"Bcc: v@victim.test"], 400)
def test_no_signature_adds_a_field_or_ends_the_header(pieces: list[bytes], place: int) -> None:
    made, field = mail(), signature()
    try:
        message = made.signed(field[:place] + b"".join(pieces) + field[place:])
    except ValueError:
        return
    told = email.message_from_bytes(message.content)
    assert told.keys() == ["DKIM-Signature", *parsed(made.content).keys()]
    assert message.content.endswith(made.content)
    assert "l" not in [tag.partition("=")[0].strip() for tag in str(told["DKIM-Signature"]).split(";")]


def test_there_is_no_other_way_to_a_message() -> None:
    made = mail()
    assert not isinstance(made, Message)
    assert [name for name in dir(made) if not name.startswith("_")] == [
        *("content", "dkim_domain", "dkim_headers", "of", "recipient", "sender", "signed"),
    ]
    with pytest.raises(ValueError, match="DKIM"):
        Message("", ["r@client.test"], made.content, tls_report=True)
    with pytest.raises(ValueError, match="without TLS"):
        Message("", ["r@client.test"], made.content, tls_report=True, tls_optional=False)
    with pytest.raises(ValueError, match="without TLS"):
        Message("", ["r@client.test"], made.content, tls_report=True, requiretls=True)


_LOCALS = st.text(st.sampled_from("aZ0.!#$%&'*+-/=?^_`{|}~\"\\ ()<>[]:;@,\xe4\r\n\0"), min_size=1, max_size=8)
_DOMAINS = st.sampled_from(
    ["c.test", "b\xfccher.test", "1.test", "a_b.test", "x", "192.0.2.1", "[192.0.2.1]", "c..test", LONG]
)


@given(_LOCALS, _DOMAINS, st.booleans())
@example("r" * 300, "c.test", False)
@example("r", "l" * 63 + ".test", True)
def test_whatever_a_record_asks_for_can_be_mailed_to(local: str, domain: str, quote: Any) -> None:
    """A record is a stranger's: its destinations never are an error later on."""
    wanted = f'"{local}"' if quote else local
    encoded = "".join(f"%{octet:02X}" for octet in f"{wanted}@{domain}".encode())
    record = parse_record([f"v=TLSRPTv1; rua=mailto:{encoded}"])
    assert isinstance(record, TlsrptRecord)
    for destination in record.destinations:
        assert destination.scheme is Scheme.MAILTO
        made = mail(recipient=destination.target)
        message = made.signed(signature(made))
        assert message.recipients == (destination.target,)
        assert message.next_hop.name == destination.target.rpartition("@")[2]
        assert parsed(message.content).keys() == ["DKIM-Signature", *parsed(mail().content).keys()]


# --- past every policy (RFC8460-3-h, RFC8460-5.3.1-a)

SERVERS: dict[str, dict[str, Any]] = {
    "right": {},
    "no STARTTLS": {"starttls": "absent"},
    "STARTTLS refused": {"starttls": "refused"},
    "lost at STARTTLS": {"drop_after": "STARTTLS"},
    "handshake fails": {"starttls": "fail"},
    "ended in TLS": {"drop_after": "handshake"},
    "no SNI wanted": {"sni": "strict"},
    "no handshake": {"sni": ["strict", "required"]},
}
TLSA = "_25._tcp.mx TLSA 3 1 1 " + "ab" * 32
ZONES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "TLSA that nothing matches": (TLSA,),
    "unusable TLSA": ("_25._tcp.mx TLSA 1 1 1 " + "ab" * 32,),
    "enforce": ('_mta-sts TXT "v=STSv1; id=1;"',),
    "both": (TLSA, '_mta-sts TXT "v=STSv1; id=1;"'),
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"dane": "mandatory"},
    {"cleartext_retry": "never"},
    {"cleartext_retry": "later"},
    {"dane": "mandatory", "cleartext_retry": "never", "sts_on_dns_error": "defer", "sts_with_dane": "both"},
    {"dane": "audit"},
]
PATTERNS = ("mx.client.test", "elsewhere.test")


def world(zone: str, server: str, pattern: str = PATTERNS[0], failures: tuple[tuple[str, str], ...] = ()) -> World:
    text = f"version: STSv1\nmode: enforce\nmx: {pattern}\nmax_age: 86400\n"
    return World.from_json(
        {
            "now": NOW.isoformat(),
            "zones": {"client.test": {"records": ["@ MX 1 mx", "mx A 192.0.2.1", *ZONES[zone]]}},
            "https": {"mta-sts.client.test": {"content_type": "text/plain", "body": text}},
            "servers": {"192.0.2.1": {"25": SERVERS[server]}},
            "failures": [{"name": name, "type": rdtype, "kind": "servfail"} for name, rdtype in failures],
        }
    )


def message() -> Message:
    return mail().signed(signature())


ORDINARY = Message("a@sender.test", ["r@client.test"], b"Subject: x\r\n\r\nx\r\n")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("zone", ZONES)
def test_a_report_is_delivered_whatever_tls_fails_at(zone: str, server: str, settings: dict[str, Any]) -> None:
    for pattern in PATTERNS:
        engine = world(zone, server, pattern).engine(Config(**settings))
        outcome = engine.deliver(message())
        assert outcome.outcome == "delivered"
        assert sessions(outcome) == ()  # RFC8460-3-i
        counted = Aggregates()
        counted.add(outcome)
        assert len(counted) == 0
        assert outcome.security == ("untrusted" if server in {"right", "no SNI wanted"} else "cleartext")


def test_an_ordinary_message_is_not_delivered_there() -> None:
    """So that the test above shows something, and reports leave no permission behind."""
    stopped = 0
    for zone, server, settings in product(ZONES, SERVERS, SETTINGS):
        engine = world(zone, server).engine(Config(**settings))
        assert engine.deliver(message()).outcome == "delivered"
        for optional in (False, True):
            outcome = engine.deliver(attrs.evolve(ORDINARY, tls_optional=optional))
            stopped += outcome.outcome != "delivered"
            mandatory = settings.get("dane") == "mandatory"
            bound = zone in {"TLSA that nothing matches", "both"} and settings.get("dane") != "audit"
            trusted = zone in {"enforce", "both"} or mandatory
            if mandatory or (not optional and (bound or trusted)):
                assert outcome.outcome == "deferred"
                assert all(attempt.security is None for attempt in outcome.attempts)
    assert stopped > 100


@pytest.mark.parametrize(
    "failures",
    [
        (("_25._tcp.mx.client.test", "TLSA"),),
        (("_mta-sts.client.test", "TXT"),),
        (("_25._tcp.mx.client.test", "*"), ("_mta-sts.client.test", "*")),
    ],
)
def test_a_lookup_for_a_policy_does_not_stop_a_report(failures: tuple[tuple[str, str], ...]) -> None:
    strict = Config(dane="mandatory", sts_on_dns_error="defer", cleartext_retry="never")
    outcome = world("both", "no STARTTLS", failures=failures).engine(strict).deliver(message())
    assert (outcome.outcome, sessions(outcome)) == ("delivered", ())


def test_the_asynchronous_engine_delivers_it_too() -> None:
    strict = Config(dane="mandatory", cleartext_retry="never")
    for server in SERVERS:
        engine = async_engine(world("both", server), strict)
        outcome = asyncio.run(engine.deliver(message()))
        assert (outcome.outcome, sessions(outcome)) == ("delivered", ())
        assert asyncio.run(engine.deliver(ORDINARY)).outcome == "deferred"


def test_a_simulation_can_be_of_a_report() -> None:
    strict = Config(dane="mandatory", cleartext_retry="never")
    for server in SERVERS:
        outcome = world("both", server).engine(strict).simulate("client.test", tls_report=True)
        assert (outcome.outcome, sessions(outcome)) == ("delivered", ())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_report_and_other_mail_do_not_share_a_plan(settings: dict[str, Any]) -> None:
    engine = world("both", "no STARTTLS").engine(Config(**settings))
    for optional in (False, True):
        plan = engine.plan("client.test", tls_optional=optional)
        with pytest.raises(ValueError, match="other wishes"):
            engine.deliver(message(), plan)  # it might be stopped, and counted
    of_a_report = engine.deliver(message()).plan
    for optional in (False, True):
        with pytest.raises(ValueError, match="other wishes"):
            engine.deliver(attrs.evolve(ORDINARY, tls_optional=optional), of_a_report)  # it might go in clear
    assert engine.deliver(message(), of_a_report).outcome == "delivered"
    assert type(of_a_report).from_json(json.loads(json.dumps(of_a_report.to_json()))) == of_a_report


def test_what_stops_other_mail_stops_a_report_too() -> None:
    """It is no reason to give up on anything else: there is an address, it answers, it takes the mail."""
    gone = World.from_json({"now": NOW.isoformat(), "zones": {"client.test": {"records": ["@ MX 0 ."]}}})
    assert gone.engine().deliver(message()).outcome == "bounced"
    unreachable = World.from_json({**world("nothing", "right").to_json(), "servers": {}})
    assert unreachable.engine().deliver(message()).outcome == "deferred"


def test_the_configuration_for_reports_changes_nothing_else() -> None:
    strict = Config(dane="mandatory", cleartext_retry="never", max_attempts=3, ip_versions=(6,), retry_seconds=60)
    assert strict.for_tls_reports == attrs.evolve(strict, dane="opportunistic", cleartext_retry="now")
    for choice in ("off", "audit", "opportunistic"):
        assert Config(dane=choice).for_tls_reports == Config(dane=choice)


# --- the request


def test_a_request_for_a_report() -> None:  # RFC8460-5.4-b, RFC8460-5.4-c, RFC8460-3-e
    url = "https://client.test/r?id=1&x=%2C#f"
    zipped, plain = ReportPost.of(report(), url), ReportPost.of(report(), url, compressed=False)
    assert (zipped.url, plain.url) == (url, url)
    assert zipped.headers == {"Content-Type": "application/tlsrpt+gzip"}
    assert plain.headers == {"Content-Type": "application/tlsrpt+json"}
    assert zipped.body[:2] == b"\x1f\x8b"
    assert gzip.decompress(zipped.body) == plain.body == report().to_bytes()


def test_what_status_is_a_receipt() -> None:  # RFC8460-5.4-e
    taken = {status for status in range(100, 1000) if ReportPost.accepted(status)}
    assert taken == set(range(200, 300))
    assert not ReportPost.accepted(0)


# --- when


@given(st.dates(max_value=date(9999, 12, 30)), st.integers(1, 14400))
def test_the_first_try_is_some_time_after_the_day(day: date, delay: int) -> None:
    asked: list[tuple[int, int]] = []

    def randint(least: int, most: int) -> int:
        asked.append((least, most))
        return delay

    end = datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(days=1)
    assert first_try(day, randint) == end + timedelta(seconds=delay)
    assert asked == [(1, 14400)]  # RFC8460-4.1-b


def test_two_reporters_do_not_come_at_once() -> None:
    times = {first_try(DAY, random.Random(seed).randint) for seed in range(20)}
    assert len(times) > 15
    assert min(times) > datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert max(times) <= datetime(2026, 1, 2, 4, tzinfo=timezone.utc)


A, B = "mailto:a@client.test", "https://client.test/r"


def test_the_tries_of_a_report_that_nobody_takes() -> None:  # RFC8460-5.5-a and -b
    submission, now = Submission([A, B]), NOW
    assert (submission.next, submission.delivered, submission.given_up) == (None, False, False)
    waits = []
    while not submission.given_up:
        submission = submission.after(now)
        assert not submission.delivered
        assert submission.tries < 20, "it does not end"
        if submission.next is not None:
            waits.append((submission.next - now).total_seconds())
            now = submission.next
    assert waits == [900, 1800, 3600, 7200, 14400, 28800, 29700]
    assert now == NOW + timedelta(hours=24)
    assert submission.tries == 8
    assert submission.next is None


def test_a_report_is_delivered_once_somebody_took_it() -> None:  # RFC8460-3-ac
    failed = Submission([A, B]).after(NOW)
    taken = failed.after(NOW + timedelta(minutes=15), accepted=[B])
    assert (failed.delivered, failed.given_up) == (False, False)
    assert (taken.delivered, taken.given_up, taken.next, taken.accepted) == (True, False, None, (B,))
    late = taken.after(NOW + timedelta(minutes=30))
    assert (late.delivered, late.given_up, late.next) == (True, False, None)
    assert late.after(NOW + timedelta(days=9), [A]).accepted == (A, B)
    at_once = Submission([A]).after(NOW, accepted={A})
    assert (at_once.delivered, at_once.next, at_once.given_up) == (True, None, False)
    last = Submission([A]).after(NOW).after(NOW + timedelta(hours=25), [A])
    assert (last.delivered, last.given_up) == (True, False)


@pytest.mark.parametrize(
    ("late", "due"),
    [
        (timedelta(0), timedelta(minutes=30)),
        (timedelta(hours=23, minutes=20), timedelta(hours=23, minutes=50)),
        (timedelta(hours=23, minutes=30), timedelta(hours=24)),
        (timedelta(hours=23, minutes=40), timedelta(hours=24)),  # never later
        (timedelta(hours=24, microseconds=-1), timedelta(hours=24)),
        (timedelta(hours=24), None),
        (timedelta(days=3), None),
    ],
)
def test_the_last_try_is_24_hours_after_the_first(late: timedelta, due: timedelta | None) -> None:
    submission = Submission([A]).after(NOW).after(NOW + late)
    assert submission.next == (None if due is None else NOW + due)
    assert submission.given_up is (due is None)


@given(st.lists(st.integers(0, 100_000), max_size=100), st.booleans())
@example([0] * 60, True)
@example(list(range(0, 86_400, 600)), True)
@example([50_000, 0], True)
def test_however_often_and_when_it_is_tried_it_ends(seconds: list[int], ordered: Any) -> None:
    submission = Submission([A, B])
    for number, second in enumerate(sorted(seconds) if ordered else seconds, 1):
        submission = submission.after(NOW + timedelta(seconds=second))
        assert submission.tries == number
        assert submission.first is not None
        if submission.next is not None:
            assert submission.next <= submission.first + timedelta(hours=24)
        assert submission.given_up is (submission.next is None)
        assert Submission.from_json(json.loads(json.dumps(submission.to_json()))) == submission
        assert pickle.loads(pickle.dumps(submission)) == submission


def test_no_destination_is_nothing_to_try() -> None:
    nobody = Submission([])
    assert (nobody.delivered, nobody.given_up, nobody.next) == (False, True, None)
    assert nobody.after(NOW).next is None
    record = parse_record(["v=TLSRPTv1; rua=ftp://client.test/"])
    assert isinstance(record, TlsrptRecord)
    assert Submission([each.uri for each in record.destinations]).given_up


def test_wrong_tries_are_refused() -> None:
    with pytest.raises(ValueError, match="no destination"):
        Submission([A]).after(NOW, [B])
    with pytest.raises(ValueError, match="aware"):
        Submission([A]).after(NOW.replace(tzinfo=None))
    wrong: Any = A
    with pytest.raises(TypeError):
        Submission(wrong)


def test_the_json_form() -> None:
    assert Submission([A]).to_json() == {
        "destinations": [A],
        "first": None,
        "tries": 0,
        "accepted": [],
        "next": None,
        "delivered": False,
        "given_up": False,
    }
    assert Submission([A, B]).after(NOW.astimezone(timezone(timedelta(hours=-5)))).to_json() == {
        "destinations": [A, B],
        "first": "2026-01-02T03:04:05+00:00",
        "tries": 1,
        "accepted": [],
        "next": "2026-01-02T03:19:05+00:00",
        "delivered": False,
        "given_up": False,
    }
    assert Submission([A, B]).after(NOW, [B]).to_json() == {
        "destinations": [A, B],
        "first": "2026-01-02T03:04:05+00:00",
        "tries": 1,
        "accepted": [B],
        "next": None,
        "delivered": True,
        "given_up": False,
    }
    for missing in ("destinations", "first", "tries", "accepted", "next"):
        data = Submission([A]).after(NOW).to_json()
        del data[missing]
        with pytest.raises(KeyError):
            Submission.from_json(data)
