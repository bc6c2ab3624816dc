"""The report as a document: strict I-JSON with the members of the RFC, its id, its octets and its name."""

from __future__ import annotations

import gzip
import json
import pickle
import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.tlsrpt import (
    Aggregate,
    FailureDetails,
    Judgement,
    PolicyReport,
    PolicyType,
    Report,
    ReportedPolicy,
)
from mailtlspolicy.tlsrpt.reading import Received, read_report
from mailtlspolicy.verdict import ResultType
from tests.abnf import ALPHANUM, DIGIT, DOMAIN, chain, literal, one_of, some

DAY = date(2024, 2, 29)
DETAILS = FailureDetails(
    result_type=ResultType.CERTIFICATE_EXPIRED,
    sending_mta_ip="2001:db8::5",
    receiving_mx_hostname="mx.client.test",
    receiving_mx_helo="mx.client.test",
    receiving_ip="192.0.2.1",
    additional_information="https://sender.test/why",
    failure_reason_code="expired",
)
MISMATCH = FailureDetails(result_type=ResultType.VALIDATION_FAILURE, failure_reason_code="sts-mx-mismatch")
TLSA = ReportedPolicy(PolicyType.TLSA, "mx.client.test", ["3 1 1 " + "ab" * 32, "2 1 1 aa"], ["mx.client.test"])
STS = ReportedPolicy(PolicyType.STS, "client.test", ["version: STSv1", "mode: testing"], ["*.client.test", "a.test"])
PLAIN = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "client.test")


def aggregate(*sessions: tuple[Judgement, ...], domain: str = "client.test", day: date = DAY) -> Aggregate:
    made = Aggregate(domain, day)
    for session in sessions or ((Judgement(PLAIN, False),),):
        made.count(session)
    return made


WHOLE = (
    (Judgement(TLSA, True, [DETAILS]), Judgement(STS, False)),
    (Judgement(TLSA, False), Judgement(STS, True, [MISMATCH])),
    (Judgement(PLAIN, False),),
)


def report(made: Aggregate | None = None, **more: Any) -> Report:
    told = {"organization_name": "Sender Inc.", "contact_info": "tls-reports@sender.test", **more}
    return Report.of(made or aggregate(*WHOLE), **told)


# --- a strict reader of I-JSON (RFC 7493) that shares nothing with the library


class NotIJsonError(ValueError):
    """Why a document is none."""


def i_json(octets: bytes) -> Any:
    """Read a document: UTF-8 without a mark, no name twice, integers that a double holds, no odd characters."""
    if octets.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise NotIJsonError("a byte order mark")
    try:
        text = octets.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise NotIJsonError("not UTF-8") from error

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise NotIJsonError("a name twice")
        return dict(pairs)

    def integer(digits: str) -> int:
        if abs(int(digits)) > 2**53 - 1:
            raise NotIJsonError("beyond the range of a double")
        return int(digits)

    def other(word: str) -> Any:
        raise NotIJsonError(f"{word} is no count")

    found = json.loads(text, object_pairs_hook=members, parse_int=integer, parse_float=other, parse_constant=other)
    _check_texts(found)
    return found


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        for character in value:
            point = ord(character)
            if 0xD800 <= point <= 0xDFFF or 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE:
                raise NotIJsonError(f"U+{point:04X}")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_texts(name)
            _check_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"9007199254740992",
        b"1.0",
        b"1e3",
        b"NaN",
        b"-Infinity",
        b'"\xff"',
        b'"\\ud800"',
        b'"\xef\xb7\x90"',
        b'{"\\uffff":1}',
        b'["\xf4\x8f\xbf\xbf"]',
    ],
)
def test_the_strict_reader_is_strict(text: bytes) -> None:
    with pytest.raises(NotIJsonError):
        i_json(text)


def test_the_strict_reader_takes_what_is_right() -> None:
    assert i_json(b'{"a":[9007199254740991,"\\u0000\xf0\x9f\x98\x80",null,true]}') == {
        "a": [2**53 - 1, "\x00\U0001f600", None, True]
    }


# --- the document


def test_the_document_has_the_members_of_the_schema() -> None:  # RFC8460-4.4-a
    got = i_json(report(unique_id="001").to_bytes())
    assert got == {
        "organization-name": "Sender Inc.",
        "date-range": {"start-datetime": "2024-02-29T00:00:00Z", "end-datetime": "2024-02-29T23:59:59Z"},
        "contact-info": "tls-reports@sender.test",
        "report-id": "2024-02-29.client.test.001@sender.test",
        "policies": [
            {
                "policy": {
                    "policy-type": "tlsa",
                    "policy-string": ["3 1 1 " + "ab" * 32, "2 1 1 aa"],
                    "policy-domain": "mx.client.test",
                    "mx-host": ["mx.client.test"],
                },
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 1},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8::5",
                        "receiving-mx-hostname": "mx.client.test",
                        "receiving-mx-helo": "mx.client.test",
                        "receiving-ip": "192.0.2.1",
                        "additional-information": "https://sender.test/why",
                        "failure-reason-code": "expired",
                        "failed-session-count": 1,
                    }
                ],
            },
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["version: STSv1", "mode: testing"],
                    "policy-domain": "client.test",
                    "mx-host": ["*.client.test", "a.test"],
                },
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 1},
                "failure-details": [
                    {
                        "result-type": "validation-failure",
                        "failure-reason-code": "sts-mx-mismatch",
                        "failed-session-count": 1,
                    }
                ],
            },
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "client.test"},
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
                "failure-details": [],  # RFC8460-1-a
            },
        ],
    }
    assert report(unique_id="001").to_json() == got


def test_one_policy_is_an_array_too() -> None:  # RFC8460-4-g
    assert isinstance(i_json(report(aggregate()).to_bytes())["policies"], list)


texts = st.text(max_size=10) | st.sampled_from(
    ["\ud800", "\uffff", "\U0010fffe", "\ufdd0", '"\\', "\x00\x1f\x7f", "\u2028"]
)
optional = st.none() | texts
details = st.builds(
    FailureDetails,
    result_type=st.sampled_from(ResultType),
    sending_mta_ip=optional,
    receiving_mx_hostname=optional,
    receiving_mx_helo=optional,
    receiving_ip=optional,
    failure_reason_code=optional,
)
judgements = st.builds(
    Judgement,
    st.builds(
        ReportedPolicy,
        st.sampled_from(PolicyType),
        texts,
        st.lists(texts, max_size=3).map(tuple),
        st.lists(texts, max_size=3).map(tuple),
    ),
    st.booleans(),
    st.lists(details, max_size=3).map(tuple),
)


@given(st.lists(judgements, min_size=1, max_size=5))
def test_whatever_was_counted_the_document_is_i_json_and_can_be_read(held: list[Judgement]) -> None:
    made = aggregate(*((judgement,) for judgement in held))
    whole = report(made)
    document = i_json(whole.to_bytes())
    assert document == whole.to_json()
    assert sum(len(policy["failure-details"]) for policy in document["policies"]) <= sum(len(j.failures) for j in held)
    for policy in document["policies"]:
        assert isinstance(policy["policy"].get("policy-string", []), list)
        for element in policy["failure-details"]:
            assert element["failed-session-count"] >= 1
            assert None not in element.values()
    got = read_report(whole.to_bytes())
    assert isinstance(got, Received)
    assert got.report == whole
    assert i_json(gzip.decompress(whole.compressed())) == document
    assert Aggregate.from_json(i_json(json.dumps(made.to_json()).encode())) == made


def test_a_report_is_read_back_with_no_remark() -> None:
    for octets in (report().to_bytes(), report().compressed()):
        got = read_report(octets)
        assert isinstance(got, Received)
        assert (got.report, got.remarks) == (report(), ())


def test_a_day_is_told_from_its_first_second_to_its_last() -> None:
    for day in (DAY, date(2026, 12, 31), date(1970, 1, 1)):
        whole = report(aggregate(day=day))
        assert whole.start == datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
        assert whole.end == whole.start + timedelta(hours=23, minutes=59, seconds=59)
        said = whole.to_json()["date-range"]
        assert said == {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"}


# --- who answers for it


@pytest.mark.parametrize("name", ["S", "B\xfccher & S\xf6hne GmbH", "\u5b9f\u4f8b", 'a "b" <c>', "x" * 200])
def test_any_name_can_be_the_organisations(name: str) -> None:
    assert i_json(report(organization_name=name).to_bytes())["organization-name"] == name
    assert name.encode() in report(organization_name=name).to_bytes() or '"' in name  # as UTF-8, RFC8460-4.4-b


@pytest.mark.parametrize("name", ["", " ", "\t\n", "a\r\nBcc: b", "a\x00", "\x1b[31m", "\ud800", "x" * 201])
def test_no_organisation_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="organisation"):
        report(organization_name=name)


@pytest.mark.parametrize(
    ("contact", "written", "submitter"),
    [
        ("tls@sender.test", "tls@sender.test", "sender.test"),
        ("TLS+Reports@Sender.Test", "TLS+Reports@sender.test", "sender.test"),
        ("tls@b\xfccher.test", "tls@xn--bcher-kva.test", "xn--bcher-kva.test"),  # RFC8460-5.1-d
        ('"t l s"@sender.test', '"t l s"@sender.test', "sender.test"),
        ("tls@sender.test.", "tls@sender.test", "sender.test"),
    ],
)
def test_the_contact_is_a_mailbox(contact: str, written: str, submitter: str) -> None:
    whole = report(contact_info=contact)
    assert (whole.contact_info, whole.submitter) == (written, submitter)
    assert i_json(whole.to_bytes())["contact-info"] == written
    assert whole.report_id is not None
    assert whole.report_id.endswith(f"@{submitter}")
    assert whole.file_name().startswith(f"{submitter}!")


@pytest.mark.parametrize(
    "contact",
    [
        *("", "tls", "@sender.test", "tls@", "mailto:tls@sender.test", '"TLS" <tls@sender.test>', "<tls@sender.test>"),
        *("tls@sender.test ", " tls@sender.test", "a b@sender.test", "tls@sender..test", "tls@192.0.2.1"),
        *(
            "a@b@sender.test",
            "tls@sender.test\r\nBcc: b@sender.test",
            "tls\n@sender.test",
            "tls@-.test",
            "t\xfc@sender.test",
        ),
        *("tls@sender.test, b@sender.test", ".tls@sender.test", "tls@[192.0.2.1]", "https://sender.test/"),
    ],
)
def test_what_is_no_mailbox_is_refused(contact: str) -> None:  # RFC8460-4.4-d
    with pytest.raises(ValueError, match=r"\S"):
        report(contact_info=contact)


def test_nothing_counted_is_nothing_to_report() -> None:
    with pytest.raises(ValueError, match="nothing to report"):
        report(Aggregate("client.test", DAY))


# --- the id


def test_the_id_is_the_same_for_the_same_report_alone() -> None:  # RFC8460-4.4-e, RFC8460-5.3-j
    first = report()
    assert report() == first  # made again for a retry
    assert report(Aggregate.from_json(json.loads(json.dumps(aggregate(*WHOLE).to_json())))).report_id == first.report_id
    assert report(aggregate(*reversed(WHOLE))).report_id == first.report_id
    others = [
        report(aggregate(*WHOLE, day=DAY + timedelta(days=1))),
        report(aggregate(*WHOLE, domain="other.test")),
        report(aggregate(*WHOLE, WHOLE[2])),
        report(aggregate(*WHOLE[:2])),
        report(contact_info="tls@other.test"),
        report(unique_id="1"),
    ]
    ids = {each.report_id for each in (first, *others)}
    assert len(ids) == len(others) + 1


@pytest.mark.parametrize("unique_id", ["1", "001", "aZ09", "f" * 40])
def test_an_id_of_ones_own(unique_id: str) -> None:
    whole = report(unique_id=unique_id)
    assert whole.report_id == f"2024-02-29.client.test.{unique_id}@sender.test"
    assert f"!{unique_id}.json" in whole.file_name()


@pytest.mark.parametrize("unique_id", ["", "a-b", "a.b", "a@b", "a!b", "\xe4", "1\n", " ", "f" * 41, "../x"])
def test_what_is_no_unique_id_is_refused(unique_id: str) -> None:  # RFC8460-5.1-c
    with pytest.raises(ValueError, match="unique id"):
        report(unique_id=unique_id)


# --- octets and file name

# RFC 8460 section 5.1, with domain from RFC 5321 section 4.1.2
MARK = literal(b"!")
UNIQUE_ID = some(1, ALPHANUM)
FILE_NAME = chain(
    *(DOMAIN, MARK, DOMAIN, MARK, some(1, DIGIT), MARK, some(1, DIGIT)),
    some(0, chain(MARK, UNIQUE_ID), 1),
    literal(b"."),
    one_of(literal(b"json"), literal(b"json.gz")),
)


def is_file_name(text: str) -> bool:
    octets = text.encode()
    return len(octets) in FILE_NAME(octets, {0})


def test_the_grammar_of_file_names() -> None:
    example = "mail.sndr.example.com!example.net!1470013207!1470186007!001.json.gz"
    assert is_file_name(example)
    assert is_file_name(example.replace("!001", ""))
    for wrong in (example + "x", example.replace("001", "0-1"), "a!b!1.json", "a!b!1!2!3!4.json", "a!b!1!2.gz"):
        assert not is_file_name(wrong)


LONG = ".".join(["l" * 62] * 4)[:253].removesuffix(".")


@pytest.mark.parametrize(
    "domain", ["client.test", "b\xfccher.test", "xn--bcher-kva.test", "a.b.c.d.test", "1.test", LONG]
)
@pytest.mark.parametrize("contact", ["tls@sender.test", "tls@b\xfcro.test", f"tls@{LONG}"])
def test_the_file_name_is_by_the_grammar(domain: str, contact: str) -> None:
    whole = report(aggregate(domain=domain), contact_info=contact)
    for compressed, ending in ((True, "json.gz"), (False, "json")):
        name = whole.file_name(compressed=compressed)
        assert is_file_name(name)
        submitter, about, begin, end, rest = name.split("!")
        assert (submitter, about) == (whole.submitter, whole.domain)
        assert (int(begin), int(end)) == (1709164800, 1709164800 + 86399)  # RFC8460-5.1-f and -g
        unique_id, _, extension = rest.partition(".")
        assert extension == ending  # RFC8460-5.1-i
        assert re.fullmatch("[A-Za-z0-9]+", unique_id)
        assert whole.report_id == f"2024-02-29.{about}.{unique_id}@{submitter}"
    assert whole.file_name() == whole.file_name(compressed=True)


def test_gzip_is_the_same_every_time() -> None:  # RFC8460-5.2-a, RFC8460-6.5-a
    first = report().compressed()
    assert first.startswith(b"\x1f\x8b")
    assert first[4:8] == b"\0\0\0\0"  # no time
    assert first[3] == 0  # no file name either
    assert report().compressed() == first
    assert gzip.decompress(first) == report().to_bytes()


def test_a_report_of_somebody_elses_has_no_name_of_ours() -> None:
    whole = report()
    for changed in (
        {"domain": None},
        {"report_id": None},
        {"start": None},
        {"end": None},
        {"contact_info": None},
        {"contact_info": "nobody"},
        {"report_id": "a-b@x"},
        {"report_id": "@x"},
    ):
        members = {name: getattr(whole, name) for name in ("contact_info", "report_id", "start", "end", "domain")}
        with pytest.raises(ValueError, match=r"\S"):
            Report(policies=whole.policies, **{**members, **changed}).file_name()
    assert Report().to_json() == {"policies": []}


def test_a_report_is_a_value() -> None:
    whole = report()
    assert pickle.loads(pickle.dumps(whole)) == whole
    assert hash(pickle.loads(pickle.dumps(whole))) == hash(whole)
    (policy, *_) = whole.policies
    assert PolicyReport.from_json(json.loads(json.dumps(policy.to_json()))) == policy
