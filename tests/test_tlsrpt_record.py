"""The record that asks for reports: its grammar against another reading of it, what is sent to, and looking it up."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailtlspolicy import Config, World
from mailtlspolicy.tlsrpt import Reason, Refusal, Scheme, Search, SearchFailure, TlsrptRecord, parse_record
from mailtlspolicy.tlsrpt.record import MAX_DESTINATIONS
from tests.abnf import is_tlsrpt_record
from tests.sts_worlds import async_engine

if TYPE_CHECKING:
    from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure
    from mailtlspolicy.sts.effects import Fetch, FetchFailure
    from mailtlspolicy.sts.fetching import Response

# --- the grammar, of which `tests.abnf` has another reading

VALID = [
    b"v=TLSRPTv1;rua=mailto:reports@example.com",  # RFC8460-3.1-a
    b"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
    b"v=TLSRPTv1; rua=mailto:a@c.test,https://c.test/r?id=1#f;",
    b"v=TLSRPTv1;\t\trua=mailto:a@c.test \t,\t mailto:b@c.test\t; \t",
    b"v=TLSRPTv1; foo=bar; rua=mailto:a@c.test; x-1._=<tag>",
    b"v=TLSRPTv1; rua=mailto:a@c.test; rua=mailto:b@c.test",
    b"v=TLSRPTv1; RUA=x; Rua=y; rua=x:",
    b"v=TLSRPTv1; v=TLSRPTv2; rua=urn:a:b",
    b"v=TLSRPTv1; " + b"n" * 32 + b"=v; rua=h2+x-y.z:/a//b",
    b"v=TLSRPTv1; rua=https://u:p@[2001:db8::1]:8443/r%3Ba",
    b"v=TLSRPTv1; rua=https://[v1.a:b]/,https://[::ffff:192.0.2.1],https://c.test:",
    b"v=TLSRPTv1; rua=mailto:a%2Cb%21c%3B@c.test?subject=x",
]
REFUSED = [
    (b"", "version-invalid", 0),
    (b"v=TLSRPTv1", "version-invalid", 0),
    (b"v=TLSRPTv1 ; rua=mailto:a@c.test", "version-invalid", 0),  # RFC8460-3-p
    (b" v=TLSRPTv1; rua=mailto:a@c.test", "version-invalid", 0),
    (b"v=tlsrptv1; rua=mailto:a@c.test", "version-invalid", 0),
    (b"V=TLSRPTv1; rua=mailto:a@c.test", "version-invalid", 0),
    (b"v=TLSRPTv12; rua=mailto:a@c.test", "version-invalid", 0),
    (b"v = TLSRPTv1; rua=mailto:a@c.test", "version-invalid", 0),
    (b"v=TLSRPTv1;", "rua-missing", 11),
    (b"v=TLSRPTv1; foo=bar", "rua-missing", 19),
    (b"v=TLSRPTv1; RUA=mailto:a@c.test", "rua-missing", 31),
    (b"v=TLSRPTv1;; rua=mailto:a@c.test", "field-invalid", 11),
    (b"v=TLSRPTv1; rua=mailto:a@c.test;;", "field-invalid", 32),
    (b"v=TLSRPTv1; rua=mailto:a@c.test; ;", "field-invalid", 33),
    (b"v=TLSRPTv1; rua =mailto:a@c.test", "field-invalid", 12),
    (b"v=TLSRPTv1; -x=1; rua=mailto:a@c.test", "field-invalid", 12),
    (b"v=TLSRPTv1; x=; rua=mailto:a@c.test", "field-invalid", 12),
    (b"v=TLSRPTv1; x=a=b; rua=mailto:a@c.test", "field-invalid", 12),
    (b"v=TLSRPTv1; x=a b; rua=mailto:a@c.test", "field-invalid", 12),
    (b"v=TLSRPTv1; rua=mailto:a@c.test; " + b"n" * 33 + b"=v", "field-invalid", 33),
    (b"v=TLSRPTv1; rua=", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=;", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua= mailto:a@c.test", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=mailto:a@c.test,", "rua-invalid", 32),
    (b"v=TLSRPTv1; rua=mailto:a@c.test, ,x:", "rua-invalid", 33),
    (b"v=TLSRPTv1; rua=mailto:a@c.test!10m", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=mailto:a@c.test , mailto:b c@c.test", "rua-invalid", 34),
    (b"v=TLSRPTv1; rua=mailto:a%2@c.test", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=reports@c.test", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=1x:a", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=https://c.test/a;b", "field-invalid", 33),
    (b"v=TLSRPTv1; rua=https://c.test/a,b", "rua-invalid", 33),
    (b"v=TLSRPTv1; rua=https://[2001:db8::1/", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=https://c.test:8x/", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=https://c.test/[1]", "rua-invalid", 16),
    (b'v=TLSRPTv1; rua=mailto:"a"@c.test', "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=mailto:a@c.test ", "rua-invalid", 16),  # blanks go with a delimiter
    (b"v=TLSRPTv1; rua=mailto:\xc3\xbc@c.test", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=mailto:a@c.test\n", "rua-invalid", 16),
    (b"v=TLSRPTv1; rua=mailto:a@c.test;\r\n", "field-invalid", 32),
    (b"v=TLSRPTv1; rua=mailto:a@c.test\x00", "rua-invalid", 16),
]


@pytest.mark.parametrize("text", VALID, ids=repr)
def test_what_the_grammar_has_is_a_record(text: bytes) -> None:
    assert is_tlsrpt_record(text)
    record = parse_record([text])
    assert isinstance(record, TlsrptRecord)
    assert record.text == text.decode()


@pytest.mark.parametrize(("text", "reason", "offset"), REFUSED, ids=repr)
def test_what_it_does_not_have_is_refused_where_it_is_wrong(text: bytes, reason: str, offset: int) -> None:
    assert not is_tlsrpt_record(text)
    refusal = parse_record([text])
    assert refusal == Refusal(Reason(reason), offset)
    assert refusal.to_json() == {"refused": reason, "offset": offset}
    assert str(refusal) == f"{reason} at octet {offset}"


def test_every_reason_to_refuse_comes_about() -> None:
    assert {reason for _, reason, _ in REFUSED} == {"version-invalid", "field-invalid", "rua-invalid", "rua-missing"}


_URI_PIECES = ["mailto:", "https:", "//", "c.test", "a@c.test", "[::1]", "[1::2::3]", "[v1.x]", "192.0.2.1", "x", "%2C"]
_URI_PIECES += [
    "%2",
    ":",
    ":80",
    "/",
    "?",
    "#",
    "!",
    ",",
    ";",
    "@",
    "[",
    "]",
    " ",
    "\t",
    "=",
    "~",
    "&",
    "'",
    "\xe4",
    '"',
]
_PIECES = [
    "v=TLSRPTv1",
    "v=TLSRPTv2",
    ";",
    "; ",
    " ;",
    " ",
    "\t",
    "rua=",
    "RUA=",
    "rua",
    "=",
    "x=1",
    "a.b-_=<",
    "n" * 32,
]
URIS = st.lists(st.sampled_from(_URI_PIECES), max_size=6).map("".join)
TEXTS = st.one_of(
    URIS.map(lambda uri: f"v=TLSRPTv1; rua={uri}"),
    st.tuples(URIS, URIS).map(lambda uris: f"v=TLSRPTv1;rua={uris[0]} , {uris[1]};"),
    st.lists(st.sampled_from(_PIECES) | URIS, max_size=8).map(lambda pieces: "v=TLSRPTv1;" + "".join(pieces)),
    st.tuples(st.sampled_from(VALID), st.integers(0, 60), st.sampled_from([*_PIECES, *_URI_PIECES])).map(
        lambda told: told[0][: told[1]].decode() + told[2] + told[0][told[1] :].decode()
    ),
)


@settings(max_examples=600)
@given(TEXTS)
@example("v=TLSRPTv1; rua=https://[1:2:3:4:5:6:7:8]/")
@example("v=TLSRPTv1; rua=https://[1:2:3:4:5:6:7:8:9]/")
@example("v=TLSRPTv1; rua=https://[2001:db8::1::2]/r")
@example("v=TLSRPTv1; rua=https://[1:2:3:4:5:6:7::]/")
@example("v=TLSRPTv1; rua=https://[::256.0.0.1]/")
@example("v=TLSRPTv1; rua=https://[v.x]/")
def test_the_parser_and_the_grammar_agree(text: str) -> None:
    assert isinstance(parse_record([text.encode()]), TlsrptRecord) is is_tlsrpt_record(text.encode())


@given(st.sampled_from([b"", b"v=TLSRPTv1; rua="]), st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_octets_there_are_something_is_said_of_them(first: bytes, parts: list[bytes]) -> None:
    parsed = parse_record([first, *parts])
    assert isinstance(parsed, (TlsrptRecord, Refusal))
    json.dumps(parsed.to_json())


def test_the_strings_are_joined_without_anything_between_them() -> None:  # RFC8460-3-z
    record = parse_record([b"v=TLS", "RPTv1; rua=mailto:r@", b"", b"c.test"])
    assert record == parse_record(["v=TLSRPTv1; rua=mailto:r@c.test"])
    wrong: Any
    for wrong in (b"v=TLSRPTv1; rua=mailto:r@c.test", "v=TLSRPTv1; rua=mailto:r@c.test"):
        with pytest.raises(TypeError):
            parse_record(wrong)


# --- where reports go

DESTINATIONS: list[tuple[str, list[str]]] = [
    ("mailto:r@c.test", ["r@c.test"]),
    ("MAILTO:r@c.test", ["r@c.test"]),  # RFC8460-3-c
    ("mailto:tls%2Breports@c.test", ["tls+reports@c.test"]),  # RFC8460-3-g
    ("mailto:a%21b%3Bc@c.test", []),  # ";" takes quotation marks
    ("mailto:a%21b@c.test", ["a!b@c.test"]),
    ("mailto:r%40c.test", ["r@c.test"]),
    ("mailto:r@C.Test.", ["r@c.test"]),
    ("mailto:%22a%20b%22@c.test", ['"a b"@c.test']),
    ("mailto:r@c.test?subject=x&bcc=victim@d.test", ["r@c.test"]),
    ("mailto:r@c.test#x", ["r@c.test"]),
    ("mailto:r@c.test%2Cs@c.test", []),
    ("mailto:r@b%C3%BCcher.test", ["r@xn--bcher-kva.test"]),
    ("mailto:r@xn--bcher-kva.test", ["r@xn--bcher-kva.test"]),
    ("mailto:b%C3%BCcher@c.test", []),
    ("mailto:%FF@c.test", []),
    ("mailto:r@c.test%0D%0ABcc:v@d.test", []),
    ("mailto:r%0A@c.test", []),
    ("mailto:%22a%0D%0Ab%22@c.test", []),
    ("mailto:%22a%00%22@c.test", []),
    ("mailto:r@c.test%20", []),
    ("mailto:Reports%20%3Cr@c.test%3E", []),
    ("mailto:r", []),
    ("mailto:@c.test", []),
    ("mailto:r@", []),
    ("mailto:", []),
    ("mailto:r@192.0.2.1", []),
    ("mailto:a..b@c.test", []),
    ("mailto://r@c.test", []),
    ("mailto:/r@c.test", []),
    ("mailto:" + "a" * 247 + "@c.test", ["a" * 247 + "@c.test"]),  # 254 octets
    ("mailto:" + "a" * 248 + "@c.test", []),  # RFC 5321 section 4.5.3.1.3
    ("https://c.test/r?id=1", ["https://c.test/r?id=1"]),  # RFC8460-3-e
    ("HTTPS://c.test/", ["HTTPS://c.test/"]),
    ("https://c.test:8443", ["https://c.test:8443"]),
    ("https://192.0.2.1/", ["https://192.0.2.1/"]),
    ("https://[2001:db8::1]/", ["https://[2001:db8::1]/"]),
    ("https:///r", []),
    ("https://", []),
    ("https:c.test", []),
    ("https://:443/", []),
    ("https://c.test:0/", []),
    ("https://c.test:65536/", []),
    ("https://c..test/", []),
    ("http://c.test/", []),  # RFC8460-3-c
    ("ftp://c.test/", []),
    ("x:", []),
]


@pytest.mark.parametrize(("uri", "targets"), DESTINATIONS, ids=[uri[:60] for uri, _ in DESTINATIONS])
def test_what_can_be_sent_to(uri: str, targets: list[str]) -> None:
    record = parse_record([f"v=TLSRPTv1; rua={uri}"])
    assert isinstance(record, TlsrptRecord)  # whether or not it is of use
    assert record.rua == (uri,)
    assert [each.target for each in record.destinations] == targets
    assert [each.uri for each in record.destinations] == [uri] * len(targets)
    for each in record.destinations:
        assert each.scheme is (Scheme.MAILTO if uri.lower().startswith("mailto") else Scheme.HTTPS)


def test_the_json_form() -> None:
    text = "v=TLSRPTv1; rua=ftp://c.test/,mailto:a%2Bb@c.test; rua=https://c.test/r"
    record = parse_record([text])
    assert isinstance(record, TlsrptRecord)
    assert record.to_json() == {
        "text": text,
        "rua": ["ftp://c.test/", "mailto:a%2Bb@c.test", "https://c.test/r"],
        "destinations": [
            {"scheme": "mailto", "mailbox": "a+b@c.test", "uri": "mailto:a%2Bb@c.test"},
            {"scheme": "https", "url": "https://c.test/r", "uri": "https://c.test/r"},
        ],
    }
    assert pickle.loads(pickle.dumps(record)) == record
    assert hash(pickle.loads(pickle.dumps(record))) == hash(record)


def test_unknown_fields_make_no_difference() -> None:  # RFC8460-3-ad, RFC8460-3-ae
    plain = parse_record(["v=TLSRPTv1; rua=mailto:a@c.test"])
    assert parse_record(["v=TLSRPTv1; ruf=x; rua=mailto:a@c.test; rub=y"]) == plain


def test_several_fields_are_one_list_and_a_uri_counts_once() -> None:
    record = parse_record(["v=TLSRPTv1; rua=mailto:a@c.test,x:y; rua=https://c.test, mailto:a@c.test"])
    assert isinstance(record, TlsrptRecord)
    assert record.rua == ("mailto:a@c.test", "x:y", "https://c.test")
    assert [each.uri for each in record.destinations] == ["mailto:a@c.test", "https://c.test"]


def test_a_target_is_one_destination_however_it_is_written() -> None:
    spellings = ["mailto:a@c.test?x=1", "MAILTO:a@C.test", "mailto:%61@c.test", "mailto:a@c.test#x", "mailto:a@c.test."]
    record = parse_record([f"v=TLSRPTv1; rua={','.join(spellings)},https://c.test/a,mailto:b@c.test,https://c.test/A"])
    assert isinstance(record, TlsrptRecord)
    assert [each.target for each in record.destinations] == [
        *("a@c.test", "https://c.test/a", "b@c.test", "https://c.test/A"),
    ]
    assert record.destinations[0].uri == spellings[0]
    assert len(record.rua) == 8


def test_a_record_has_a_few_destinations_however_many_it_lists() -> None:
    uris = [f"mailto:r{number}@c.test" for number in range(MAX_DESTINATIONS + 5)]
    record = parse_record([f"v=TLSRPTv1; rua=ftp:x,{','.join(uris)}"])
    assert isinstance(record, TlsrptRecord)
    assert [each.uri for each in record.destinations] == uris[:MAX_DESTINATIONS]
    assert len(record.rua) == len(uris) + 1


# --- looking it up


@define
class Recorder:
    """A resolver that writes down what it is asked; nothing is fetched."""

    world: World
    asked: list[str]

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        self.asked.append(f"{question.name} {question.rdtype}")
        return self.world.resolver.lookup(question)

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        raise AssertionError(f"{request.url} is fetched")


ASKING = "v=TLSRPTv1; rua=mailto:r@vendor.test"


def look(domain: str, zones: dict[str, Any], failures: list[dict[str, str]] | None = None) -> tuple[Search, list[str]]:
    """What both engines find, and the questions that they ask."""
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    world = World.from_json({"now": now.isoformat(), "zones": zones, "failures": failures or []})
    asked: list[str] = []
    recorder = Recorder(world, asked)
    found = evolve(world.engine(), resolver=recorder, fetcher=recorder).find_tlsrpt(domain)
    assert asyncio.run(async_engine(world, Config()).find_tlsrpt(domain)) == found
    assert pickle.loads(pickle.dumps(found)) == found
    json.dumps(found.to_json())
    return found, asked


def zone(*records: str, security: str = "secure") -> dict[str, Any]:
    return {"c.test": {"security": security, "records": list(records)}}


def txt(text: str, owner: str = "_smtp._tls") -> str:
    return f'{owner} TXT "{text}"'


@pytest.mark.parametrize("security", ["secure", "insecure"])
def test_one_record_is_what_asks_for_reports_and_nothing_else_is_looked_up(security: str) -> None:
    found, asked = look("C.Test.", zone(txt("unrelated"), txt(ASKING), security=security))
    assert isinstance(found.record, TlsrptRecord)
    assert (found.domain, found.record.text, found.failure) == ("c.test", ASKING, None)
    assert asked == ["_smtp._tls.c.test TXT"]  # RFC8460-7-b: nothing about vendor.test
    assert found.to_json() == {
        "domain": "c.test",
        "record": found.record.to_json(),
        "failure": None,
        "detail": found.detail,
    }


@pytest.mark.parametrize(
    ("records", "failure"),
    [
        ([], None),
        ([txt("unrelated"), txt("v=TLSRPTv2; rua=mailto:a@c.test")], None),
        ([txt("v=TLSRPTv1 ; rua=mailto:a@c.test")], None),
        ([txt(ASKING), txt("v=TLSRPTv1; rua=mailto:b@c.test")], SearchFailure.RECORD_INVALID),  # RFC8460-3-y
        ([txt(ASKING), '_smtp._tls TXT "v=TLSRPTv1; rua=" "mailto:r@vendor.test"'], SearchFailure.RECORD_INVALID),
        ([txt(ASKING), txt("v=TLSRPTv1;")], SearchFailure.RECORD_INVALID),
        ([txt("v=TLSRPTv1; rua=;")], SearchFailure.RECORD_INVALID),  # RFC8460-3-af
        ([txt(ASKING, "@")], None),
        ([txt(ASKING, "_smtp-tlsrpt")], None),
    ],
)
def test_no_record_and_why(records: list[str], failure: SearchFailure | None) -> None:
    found, _ = look("c.test", zone(*records))
    assert (found.record, found.failure) == (None, failure)
    assert found.detail


def test_no_parent_is_asked() -> None:  # RFC8460-3-a
    found, asked = look("mail.c.test", zone(txt(ASKING), "mail A 192.0.2.1"))
    assert (found.record, found.failure, asked) == (None, None, ["_smtp._tls.mail.c.test TXT"])


def test_an_alias_is_followed() -> None:
    zones = zone("_smtp._tls CNAME c._tls.vendor.test.") | {"vendor.test": {"records": [txt(ASKING, "c._tls")]}}
    found, _ = look("c.test", zones)
    assert found.record is not None


@pytest.mark.parametrize("kind", ["servfail", "timeout", "bogus"])
def test_a_lookup_that_fails_says_nothing_about_the_domains_wish(kind: str) -> None:
    found, _ = look("c.test", zone(txt(ASKING)), [{"name": "_smtp._tls.c.test", "type": "TXT", "kind": kind}])
    assert (found.record, found.failure) == (None, SearchFailure.DNS_ERROR)


def test_a_name_that_can_not_exist_is_not_looked_up() -> None:
    fits = ".".join(["a" * 60] * 4)[:-1]
    assert len(f"_smtp._tls.{fits}") == 253
    assert look(fits, {})[1] == [f"_smtp._tls.{fits} TXT"]
    too_long = "b" + fits
    found, asked = look(too_long, {})
    assert (found.record, found.failure, asked) == (None, None, [])


def test_an_internationalised_domain_is_looked_up_in_a_labels() -> None:
    found, asked = look("b\xfccher.test", {})
    assert (found.domain, asked) == ("xn--bcher-kva.test", ["_smtp._tls.xn--bcher-kva.test TXT"])


@pytest.mark.parametrize("domain", ["", ".", "a@c.test", "192.0.2.1", "[192.0.2.1]", "c..test"])
def test_what_is_no_domain_is_refused(domain: str) -> None:
    engine = World.from_json({}).engine()
    with pytest.raises(ValueError, match=r"\S"):
        engine.find_tlsrpt(domain)
