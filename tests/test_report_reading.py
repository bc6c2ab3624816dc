"""Reading anybody's reports: the clauses of RFC 8460 sections 4.4, 5.1, 5.2, 5.3 and 5.6, and input that is hostile."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import re
import time
import zlib
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from itertools import islice, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy.names import canonical
from mailtlspolicy.tlsrpt import mime, reading
from mailtlspolicy.tlsrpt.mime import MAX_DEPTH, MAX_HEADER, MAX_HEADER_LINES, MAX_PARTS
from mailtlspolicy.tlsrpt.reading import (
    MAX_ELEMENTS,
    MAX_MAIL,
    MAX_MEMBERS,
    MAX_REPORT,
    MAX_SPELLINGS,
    MAX_TEXT,
    MAX_VALUES,
    FileName,
    Received,
    ReceivedMail,
    RemarkKind,
    Subject,
    Unreadable,
    UnreadableReason,
    parse_file_name,
    parse_subject,
    read_report,
    read_report_file,
    read_report_mail,
)
from mailtlspolicy.tlsrpt.report import Report
from mailtlspolicy.tlsrpt.submission import ReportMail
from mailtlspolicy.tlsrpt.values import MAX_COUNT, FailureDetails, PolicyReport, PolicyType, ReportedPolicy
from mailtlspolicy.verdict import ResultType

# RFC 8460 appendix B, the line break and the blanks in its URI removed
APPENDIX_B = """{
  "organization-name": "Company-X",
  "date-range": {
    "start-datetime": "2016-04-01T00:00:00Z",
    "end-datetime": "2016-04-01T23:59:59Z"
  },
  "contact-info": "sts-reporting@company-x.example",
  "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
  "policies": [{
    "policy": {
      "policy-type": "sts",
      "policy-string": ["version: STSv1","mode: testing",
            "mx: *.mail.company-y.example","max_age: 86400"],
      "policy-domain": "company-y.example",
      "mx-host": "*.mail.company-y.example"
    },
    "summary": {
      "total-successful-session-count": 5326,
      "total-failure-session-count": 303
    },
    "failure-details": [{
      "result-type": "certificate-expired",
      "sending-mta-ip": "2001:db8:abcd:0012::1",
      "receiving-mx-hostname": "mx1.mail.company-y.example",
      "failed-session-count": 100
    }, {
      "result-type": "starttls-not-supported",
      "sending-mta-ip": "2001:db8:abcd:0013::1",
      "receiving-mx-hostname": "mx2.mail.company-y.example",
      "receiving-ip": "203.0.113.56",
      "failed-session-count": 200,
      "additional-information": "https://reports.company-x.example/report_info?id=5065427c-23d3#StarttlsNotSupported"
    }, {
      "result-type": "validation-failure",
      "sending-mta-ip": "198.51.100.62",
      "receiving-ip": "203.0.113.58",
      "receiving-mx-hostname": "mx-backup.mail.company-y.example",
      "failed-session-count": 3,
      "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
    }]
  }]
}
"""
DAY = datetime(2016, 4, 1, tzinfo=timezone.utc)
POLICY = ("policies", 0, "policy")
SUMMARY = ("policies", 0, "summary")
DETAIL = ("policies", 0, "failure-details", 0)
GONE = object()


def document(*changes: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
    """The report of appendix B, its mx-host an array, with values set at places, or removed."""
    data: dict[str, Any] = json.loads(APPENDIX_B)
    for path, value in (((*POLICY, "mx-host"), ["*.mail.company-y.example"]), *changes):
        *way, last = path
        place: Any = data
        for step in way:
            place = place[step]
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return data


def read(data: Any) -> Received:
    received = read_report(data if isinstance(data, bytes) else json.dumps(data).encode())
    assert isinstance(received, Received), received
    return received


def unreadable(octets: bytes) -> str:
    answer = read_report(octets)
    assert isinstance(answer, Unreadable), answer
    assert answer.to_json() == {"unreadable": str(answer)}
    return str(answer)


def words(read: Received | ReceivedMail) -> list[str]:
    return [str(remark) for remark in read.remarks]


# --- the document


def test_the_report_of_appendix_b_is_read_whole() -> None:
    received = read(APPENDIX_B.encode())
    report = received.report
    assert words(received) == ["single-value"]
    assert (report.organization_name, report.contact_info, report.report_id, report.domain) == (
        "Company-X",
        "sts-reporting@company-x.example",
        "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
        "company-y.example",
    )
    assert (report.start, report.end) == (DAY, DAY + timedelta(days=1, seconds=-1))
    (entry,) = report.policies
    lines = ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
    assert entry.policy.type is PolicyType.STS
    assert entry.policy == ReportedPolicy(PolicyType.STS, "company-y.example", lines, ("*.mail.company-y.example",))
    assert (entry.successful, entry.failed) == (5326, 303)
    assert [count for _, count in entry.failures] == [100, 200, 3]
    assert entry.failures[2][0] == FailureDetails(
        result_type="validation-failure",
        sending_mta_ip="198.51.100.62",
        receiving_ip="203.0.113.58",
        receiving_mx_hostname="mx-backup.mail.company-y.example",
        failure_reason_code="X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
    )
    assert report.to_json() == document()
    assert received.to_json() == {"report": document(), "remarks": ["single-value"]}
    assert pickle.loads(pickle.dumps(received)) == received


def test_the_uri_of_appendix_b_as_printed_is_none() -> None:
    printed = "https://reports.company-x.example/\n        report_info ? id = 5065427 c - 23 d3# StarttlsNotSupported "
    changed = document(((*DETAIL, "additional-information"), printed))
    assert words(read(changed)) == ["bad-uri"]
    assert read(changed).report.to_json() == changed


def test_a_report_that_is_as_it_should_be_has_no_remark() -> None:
    assert words(read(document())) == []


@pytest.mark.parametrize(
    ("path", "value", "remarks"),
    [
        # 4.4: every member that a report can not do without, and null is as good as absent
        (("organization-name",), GONE, ["member-missing"]),
        (("organization-name",), None, ["member-missing"]),
        (("organization-name",), 5, ["wrong-type"]),
        (("organization-name",), ["Company-X"], ["wrong-type"]),
        (("contact-info",), GONE, ["member-missing"]),
        (("contact-info",), True, ["wrong-type"]),
        (("report-id",), None, ["member-missing"]),
        (("report-id",), 1, ["wrong-type"]),
        (("date-range",), GONE, ["member-missing"]),
        (("date-range", "start-datetime"), GONE, ["member-missing"]),
        (("date-range", "end-datetime"), 1459468800, ["wrong-type"]),
        ((*POLICY, "policy-type"), GONE, ["member-missing"]),
        ((*POLICY, "policy-domain"), None, ["member-missing"]),
        ((*POLICY, "policy-domain"), {}, ["wrong-type"]),
        ((*SUMMARY, "total-successful-session-count"), GONE, ["member-missing"]),
        ((*SUMMARY, "total-failure-session-count"), None, ["member-missing"]),
        ((*DETAIL, "result-type"), GONE, ["member-missing"]),
        ((*DETAIL, "result-type"), 7, ["wrong-type"]),
        ((*DETAIL, "failed-session-count"), GONE, ["member-missing"]),
        # and those that it can: appendix B lacks some, and a policy that was not fetched has none
        ((*POLICY, "policy-string"), GONE, []),
        ((*POLICY, "policy-string"), None, []),
        ((*POLICY, "mx-host"), GONE, []),
        (("policies", 0, "failure-details"), GONE, []),
        (("policies", 0, "failure-details"), [], []),
        (("policies", 0, "failure-details"), None, []),
        ((*DETAIL, "sending-mta-ip"), GONE, []),
        ((*DETAIL, "receiving-mx-hostname"), None, []),
        ((*DETAIL, "receiving-mx-helo"), "mx1.mail.company-y.example", []),
        ((*DETAIL, "receiving-mx-helo"), 1, ["wrong-type"]),
        ((*DETAIL, "failure-reason-code"), [], ["wrong-type"]),
        # 4.4, 4.5: arrays of texts
        ((*POLICY, "policy-string"), "version: STSv1", ["single-value"]),
        ((*POLICY, "policy-string"), {"version": "STSv1"}, ["wrong-type"]),
        ((*POLICY, "policy-string"), ["version: STSv1", 1], ["wrong-type"]),
        ((*POLICY, "mx-host"), [["mx.company-y.example"]], ["wrong-type"]),
        (("policies", 0, "failure-details"), {}, ["wrong-type"]),
        (("policies", 0, "failure-details"), ["none"], ["wrong-type"]),
        # 4.4: the three policy types, letter by letter; 4.3: the list of result types is open
        ((*POLICY, "policy-type"), "dane", ["unknown-policy-type"]),
        ((*POLICY, "policy-type"), "STS", ["unknown-policy-type"]),
        ((*POLICY, "policy-type"), "", ["unknown-policy-type"]),
        ((*POLICY, "policy-type"), "tlsa", []),
        ((*POLICY, "policy-type"), "no-policy-found", []),
        ((*DETAIL, "result-type"), "tls-too-old", ["unknown-result-type"]),
        # 4.4: A-labels
        ((*POLICY, "policy-domain"), "bücher.example", ["not-a-domain"]),
        ((*POLICY, "policy-domain"), "xn--bcher-kva.example", []),
        ((*POLICY, "policy-domain"), "COMPANY-Y.example", []),
        ((*POLICY, "policy-domain"), "192.0.2.1", ["not-a-domain"]),
        ((*POLICY, "policy-domain"), "a@company-y.example", ["not-a-domain"]),
        ((*POLICY, "mx-host"), ["mx.company-y.example", "*.bücher.example"], ["not-a-domain"]),
        ((*POLICY, "mx-host"), ["*.*.example"], ["not-a-domain"]),
        ((*POLICY, "mx-host"), [""], ["not-a-domain"]),
        # 4.4: addresses
        ((*DETAIL, "sending-mta-ip"), "192.0.2.256", ["not-an-address"]),
        ((*DETAIL, "sending-mta-ip"), "192.0.2.01", ["not-an-address"]),
        ((*DETAIL, "sending-mta-ip"), "192.0.2", ["not-an-address"]),
        ((*DETAIL, "receiving-ip"), "[2001:db8::1]", ["not-an-address"]),
        ((*DETAIL, "receiving-ip"), "fe80::1%eth0", ["not-an-address"]),
        ((*DETAIL, "receiving-ip"), "", ["not-an-address"]),
        ((*DETAIL, "receiving-ip"), "1:2:3:4:5:6:192.0.2.1", []),
        ((*DETAIL, "receiving-ip"), "0.10.199.255", []),
        # 4.4: an addr-spec
        (("contact-info",), "mailto:tls@company-x.example", ["bad-contact-info"]),
        (("contact-info",), "TLS <tls@company-x.example>", ["bad-contact-info"]),
        (("contact-info",), "company-x.example", ["bad-contact-info"]),
        (("contact-info",), "a" * 400 + "@company-x.example", ["bad-contact-info"]),
        (("contact-info",), "tls+reports@company-x.example", []),
        # 4.3.1: two types that need a reason
        ((*DETAIL, "result-type"), "validation-failure", ["no-reason"]),
        ((*DETAIL, "result-type"), "certificate-not-trusted", ["no-reason"]),
        (("policies", 0, "failure-details", 2, "failure-reason-code"), " ", ["no-reason"]),
        # 4.4: a URI
        ((*DETAIL, "additional-information"), "company-x.example/report", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "https://company-x.example/a b", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "https://company-x.example/%4", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "https://company-x.example/[", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "https://company-x.example/#a#b", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "https://company-x.example/ü", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "", ["bad-uri"]),
        ((*DETAIL, "additional-information"), "https://[2001:db8::1]:8443/a?b=c?d#e/f?", []),
        ((*DETAIL, "additional-information"), "https://company-x.example/%41;a=b,c", []),
        ((*DETAIL, "additional-information"), "mailto:tls@company-x.example", []),
        # 4.4: times
        (("date-range", "start-datetime"), "2016-04-01T00:00:00", ["time-without-zone"]),
        (("date-range", "start-datetime"), "2016-04-01", ["wrong-type"]),
        (("date-range", "start-datetime"), "2016-02-30T00:00:00Z", ["wrong-type"]),
        (("date-range", "start-datetime"), "2016-04-01T24:00:00Z", ["wrong-type"]),
        (("date-range", "start-datetime"), "2016-04-01T00:00:00+24:00", ["wrong-type"]),
        (("date-range", "start-datetime"), "0001-01-01T00:00:00+01:00", ["wrong-type"]),
        (("date-range", "start-datetime"), "2016-04-01T00:00:00Z\n", ["wrong-type"]),
        (("date-range", "start-datetime"), "٢٠١٦-04-01T00:00:00Z", ["wrong-type"]),
        (("date-range",), "2016-04-01", ["member-missing", "wrong-type"]),
        # counts
        ((*DETAIL, "failed-session-count"), 0, ["zero-count"]),
        ((*SUMMARY, "total-failure-session-count"), 0, []),
        # and beyond the schema
        (("comment",), [{"nested": None}], []),
    ],
)
def test_what_is_odd_is_remarked(path: tuple[Any, ...], value: object, remarks: list[str]) -> None:
    assert words(read(document((path, value)))) == remarks


@pytest.mark.parametrize("members", [{"policy": "sts"}, {"summary": 5}, {"policy": None}, {"summary": []}])
def test_a_member_that_is_no_object_has_no_members(members: dict[str, Any]) -> None:
    (name,) = members
    received = read(document((("policies", 0, name), members[name])))
    (entry,) = received.report.policies
    assert "member-missing" in words(received)
    assert ("wrong-type" in words(received)) is (members[name] is not None)
    if name == "policy":
        assert entry.policy == ReportedPolicy(None)
        assert entry.failed == 303
    else:
        assert (entry.successful, entry.failed) == (None, None)
        assert entry.policy.domain == "company-y.example"


@pytest.mark.parametrize(
    ("value", "count", "remarks"),
    [
        ("7", 7, []),
        ("0", 0, []),
        ("-0", 0, []),
        (str(MAX_COUNT), MAX_COUNT, []),
        (str(MAX_COUNT + 1), None, ["wrong-type"]),
        ("9" * 10_000, None, ["wrong-type"]),
        ("-1", None, ["wrong-type"]),
        ("1.5", None, ["wrong-type"]),
        ("303.0", None, ["wrong-type"]),
        ("1e2", None, ["wrong-type"]),
        ("1e999", None, ["wrong-type"]),
        ("-1e999", None, ["wrong-type"]),
        ("true", None, ["wrong-type"]),
        ("false", None, ["wrong-type"]),
        ("[7]", None, ["wrong-type"]),
        ('"7"', 7, ["count-as-text"]),
        ('"007"', 7, ["count-as-text"]),
        (f'"{MAX_COUNT}"', MAX_COUNT, ["count-as-text"]),
        (f'"{MAX_COUNT + 1}"', None, ["wrong-type"]),
        ('"' + "9" * 10_000 + '"', None, ["wrong-type"]),
        ('"-1"', None, ["wrong-type"]),
        ('" 7"', None, ["wrong-type"]),
        ('"7\\n"', None, ["wrong-type"]),
        ('"1_000"', None, ["wrong-type"]),
        ('"\\u0667"', None, ["wrong-type"]),
        ('""', None, ["wrong-type"]),
    ],
)
def test_a_count_is_an_integer_of_i_json_or_a_text_of_digits(value: str, count: int | None, remarks: list[str]) -> None:
    for old, place in (("5326", "successful"), ("303", "failed")):
        received = read(APPENDIX_B.replace(f": {old}", f": {value}", 1).encode())
        assert getattr(received.report.policies[0], place) == count
        assert words(received) == sorted(["single-value", *remarks])
    received = read(APPENDIX_B.replace(": 200,", f": {value},", 1).encode())
    assert received.report.policies[0].failures[1][1] == count
    assert words(received) == sorted(["single-value", *remarks, *(["zero-count"] if count == 0 else [])])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-04-01T00:00:00Z", DAY),
        ("2016-04-01t00:00:00z", DAY),
        ("2016-04-01T00:00:00+00:00", DAY),
        ("2016-04-01T00:00:00-00:00", DAY),
        ("2016-04-01T02:00:00+02:00", DAY),
        ("2016-03-31T20:30:00-03:30", DAY),
        ("2016-04-01T00:00:00.25Z", DAY + timedelta(milliseconds=250)),
        ("2016-04-01T00:00:00.123456789Z", DAY + timedelta(microseconds=123456)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
        ("2016-04-01T00:00:00", DAY),
    ],
)
def test_times_are_those_of_rfc_3339_in_utc(text: str, moment: datetime) -> None:
    start = read(document((("date-range", "start-datetime"), text))).report.start
    assert (start, start and start.utcoffset()) == (moment, timedelta())


def test_times_in_utc_are_given_back_as_such() -> None:
    changed = document((("date-range", "start-datetime"), "2016-04-01T02:00:00+02:00"))
    assert read(changed).to_json()["report"] == document()


def test_the_eleven_result_types_of_the_registry_are_known() -> None:
    registry = [
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "certificate-not-trusted",
        "sts-policy-invalid",
        "sts-webpki-invalid",
        "validation-failure",
        "sts-policy-fetch-error",
    ]
    details = [{"result-type": kind, "failed-session-count": 1, "failure-reason-code": "x"} for kind in registry]
    received = read(document((("policies", 0, "failure-details"), details)))
    assert words(received) == []
    assert [failure.result_type for failure, _ in received.report.policies[0].failures] == registry
    assert set(registry) == set(ResultType)


def test_a_report_of_the_library_is_read_without_a_remark_and_is_the_same() -> None:
    failed = FailureDetails(result_type="sts-policy-fetch-error", failure_reason_code="fetch-error")
    policies = (
        PolicyReport(ReportedPolicy(PolicyType.TLSA, "mx.client.example", ("3 1 1 ab",), ("mx.client.example",)), 1, 0),
        PolicyReport(ReportedPolicy(PolicyType.STS, "client.example"), 0, 2, ((failed, 2),)),
        PolicyReport(ReportedPolicy(PolicyType.NO_POLICY_FOUND, "client.example"), 3, 0),
    )
    report = Report(
        organization_name="Bücher GmbH",
        contact_info="tls@xn--bcher-kva.example",
        report_id="2016-04-01.client.example.1@xn--bcher-kva.example",
        start=DAY,
        end=DAY + timedelta(days=1, seconds=-1),
        policies=policies,
        domain="client.example",
    )
    for octets, compressed in ((report.to_bytes(), False), (report.compressed(), True)):
        received = read(octets)
        assert (received.report, received.remarks, received.compressed) == (report, (), compressed)
        named = received.named(report.file_name(compressed=compressed))
        assert (named.report.domain, named.remarks) == ("client.example", ())
        mail = ReportMail.of(report, "tls@client.example", now=DAY, compressed=compressed)
        got = read_report_mail(mail.content)
        assert isinstance(got, ReceivedMail)
        assert (got.report, got.remarks, got.domain) == (report, (), "client.example")
        assert got.submitter == "xn--bcher-kva.example"
        assert got.file_name == parse_file_name(report.file_name(compressed=compressed))
        assert got.subject == Subject("client.example", "xn--bcher-kva.example", report.report_id or "")
        assert read_report_file(mail.content) == got


# --- JSON


@pytest.mark.parametrize(
    ("octets", "word"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b'{"policies": []} x', "not-json"),
        (b"{'policies': []}", "not-json"),
        (b'{"policies": [NaN]}', "not-json"),
        (b'{"policies": [], "a": Infinity}', "not-json"),
        (b'{"policies": [], "a": -Infinity}', "not-json"),
        (b'{"policies": [], "a": "\n"}', "not-json"),
        (b'{"policies": [], "organization-name": "\xe4"}', "not-json"),
        ('{"policies": []}'.encode("utf-16"), "not-json"),
        (b"[" * 100_000, "not-json"),
        (b'{"policies":[],"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not-json"),
        (b'{"policies":[],"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "not-json"),
        (b"null", "not-a-report"),
        (b"[]", "not-a-report"),
        (b'"policies"', "not-a-report"),
        (b"1", "not-a-report"),
        (b"{}", "not-a-report"),
        (b'{"policies": null}', "not-a-report"),
        (b'{"policies": "sts"}', "not-a-report"),
        (b'{"policies": 1}', "not-a-report"),
        (b'{"Policies": []}', "not-a-report"),
    ],
)
def test_what_is_no_report_is_none(octets: bytes, word: str) -> None:
    assert unreadable(octets) == word
    assert unreadable(gzip.compress(octets)) == word


def test_of_members_with_the_same_name_the_last_one_counts() -> None:
    octets = APPENDIX_B.replace('"organization-name":', '"organization-name": "Company-Z", "organization-name":')
    received = read(octets.encode())
    assert received.report.organization_name == "Company-X"
    assert words(received) == ["duplicate-member", "single-value"]
    assert words(read(b'{"policies": [], "a": {"b": 1, "\\u0062": 2}}')) == ["duplicate-member", "member-missing"]
    assert words(read(b'{"policies": [], "a": {"b": 1}, "c": {"b": 2}}')) == ["member-missing"]


def test_a_byte_order_mark_is_remarked_on() -> None:
    octets = b"\xef\xbb\xbf" + json.dumps(document()).encode()
    for received in (read(octets), read(gzip.compress(octets))):
        assert (words(received), received.report) == (["byte-order-mark"], read(document()).report)
    assert unreadable(b"\xef\xbb\xbf\xef\xbb\xbf{}") == "not-json"


def test_a_single_policy_object_is_taken() -> None:
    received = read(document((("policies",), document()["policies"][0])))
    assert words(received) == ["policies-not-array"]
    assert received.report == read(document()).report


def test_what_is_no_object_among_policies_is_left_out() -> None:
    received = read(document((("policies",), [None, 1, "sts", [], document()["policies"][0]])))
    assert words(received) == ["wrong-type"]
    assert received.report == read(document()).report


@pytest.mark.parametrize("text", ["\ud800", "\ufffe", "\U0010ffff", "\ufdd0"])
def test_what_i_json_does_not_have_is_replaced_everywhere(text: str) -> None:
    def spoilt(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: spoilt(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [spoilt(inner) for inner in value]
        return text + value if isinstance(value, str) else value

    received = read(spoilt(document((("date-range",), {}))))
    assert received.report.policies[0].policy.type == "\ufffdsts"
    assert received.report.organization_name == "\ufffdCompany-X"
    again = read(received.report.to_bytes())  # which has to be UTF-8
    assert again.report == received.report


def test_any_value_anywhere_is_read() -> None:
    values: list[Any] = [None, True, 0, -1, 1e9, "", "x", [], [[]], {}, {"a": 1}, [None], [{}], "\x00", "9" * 50]

    def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [way, *(place for key, below in inner for place in places(below, (*way, key)))]

    everywhere = [place for place in places(document()) if place]
    assert len(everywhere) > 30
    for place in everywhere:
        for value in values:
            answer = read_report(json.dumps(document((place, deepcopy(value)))).encode())
            assert isinstance(answer, Received) or place == ("policies",)
            json.dumps(answer.to_json(), allow_nan=False).encode()


# --- gzip


def test_all_members_of_a_gzip_file_are_joined() -> None:
    octets = json.dumps(document()).encode()
    for size in (1, 7, 100, len(octets)):
        members = [gzip.compress(octets[start : start + size]) for start in range(0, len(octets), size)]
        assert read(b"".join(members)).report == read(octets).report
    assert read(gzip.compress(b"") + gzip.compress(octets) + b"\0" * 9).report == read(octets).report


def test_a_gzip_member_may_have_a_name() -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile("a!b!1!2.json", "wb", fileobj=buffer) as file:
        file.write(json.dumps(document()).encode())
    assert words(read(buffer.getvalue())) == []


def test_broken_gzip_is_told_from_broken_json() -> None:
    whole = gzip.compress(json.dumps(document()).encode())
    assert {unreadable(whole[:end]) for end in range(2, len(whole))} == {"not-gzip"}
    assert unreadable(whole + b"x") == "not-gzip"
    assert unreadable(whole + whole[:20]) == "not-gzip"
    assert unreadable(whole[:-8] + b"\0" * 8) == "not-gzip"  # its checksum
    assert unreadable(b"\x1f\x8b" + b"\xff" * 100) == "not-gzip"
    assert unreadable(whole[:1]) == "not-json"
    assert unreadable(zlib.compress(json.dumps(document()).encode())) == "not-json"
    assert unreadable(gzip.compress(whole)) == "not-json"


# --- bounds


def padded(size: int) -> bytes:
    octets = json.dumps(document()).encode()
    return octets + b" " * (size - len(octets))


def test_the_bound_of_octets_holds_before_and_after_decompression() -> None:
    assert MAX_REPORT == 10 * 1024 * 1024  # the "ten megabytes" of section 5.2
    assert words(read(padded(MAX_REPORT))) == []
    assert unreadable(padded(MAX_REPORT + 1)) == "too-large"
    assert words(read(gzip.compress(padded(MAX_REPORT), 1))) == []
    assert unreadable(gzip.compress(padded(MAX_REPORT + 1), 1)) == "too-large"
    assert unreadable(gzip.compress(padded(MAX_REPORT), 1) + gzip.compress(b" ")) == "too-large"


def test_the_bound_of_elements_holds_for_all_lists_together() -> None:
    def with_elements(count: int) -> dict[str, Any]:
        entry = {"policy": {"policy-string": [""] * 1000, "mx-host": ["a.test"] * 1000}, "failure-details": [{}] * 997}
        return {"policies": [entry, {"policy": {"policy-string": ["x"] * (count - 2999)}}]}

    assert len(read(with_elements(MAX_ELEMENTS)).report.policies[1].policy.string) == MAX_ELEMENTS - 2999
    assert unreadable(json.dumps(with_elements(MAX_ELEMENTS + 1)).encode()) == "too-large"
    assert unreadable(b'{"policies":[' + b"1," * MAX_ELEMENTS + b"1]}") == "too-large"


MEGABYTES = 2**20


@pytest.mark.own_process
@pytest.mark.parametrize(
    "octets",
    [
        gzip.compress(b" " * 100 * MEGABYTES, 9),
        gzip.compress(b" " * MAX_REPORT, 9) * 900,
        gzip.compress(b"") * 500_000,
        b"[" * MAX_REPORT,
        b'{"policies":[' + b"{}," * 3_000_000 + b"{}]}",
        b'{"policies":[{"summary":{"total-failure-session-count":' + b"9" * 10_000_000 + b"}}]}",
        b'{"policies":[{"summary":{"total-failure-session-count":"' + b"9" * 10_000_000 + b'"}}]}',
        b'{"policies":[{"summary":{"total-failure-session-count":0.' + b"9" * 10_000_000 + b"}}]}",
        b'{"policies":[],"contact-info":"' + b"a." * 5_000_000 + b'"}',
        b'{"policies":[{"policy":{"policy-domain":"' + b"a." * 5_000_000 + b'"}}]}',
        b'{"policies":[{"failure-details":[{"receiving-ip":"' + b"1:" * 5_000_000 + b'"}]}]}',
        b'{"policies":[{"failure-details":[{"additional-information":"a://' + b"a@[" * 3_000_000 + b'"}]}]}',
        b'{"policies":[],"date-range":{"start-datetime":"2016-04-01T00:00:00.' + b"1" * 10_000_000 + b'"}}',
        b'{"policies":[]' + b',"a":1' * 1_600_000 + b"}",
    ],
    ids=lambda octets: f"{octets[:20]!r}-{len(octets)}" if octets[:1] != b"\x1f" else f"gzip-{len(octets)}",
)
def test_hostile_reports_take_little_time(octets: bytes) -> None:
    start = time.process_time()
    read_report(octets)
    assert time.process_time() - start < 10  # seconds; a second or two is usual, what is quadratic takes minutes


# --- file names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "mail.sndr.example.com!example.net!1470013207!1470186007!001.json.gz",  # section 5.1
            FileName("mail.sndr.example.com", "example.net", 1470013207, 1470186007, "001", "json.gz"),
        ),
        ("a.test!b.test!1!2.json", FileName("a.test", "b.test", 1, 2, None, "json")),
        ("A.test!B.TEST!1!2!aZ09.JSON.GZ", FileName("a.test", "b.test", 1, 2, "aZ09", "json.gz")),
        ("xn--bcher-kva.test!b.test!0!0.json", FileName("xn--bcher-kva.test", "b.test", 0, 0, None, "json")),
        ("a!b!0!007.json", FileName("a", "b", 0, 7, None, "json")),
        (f"a!b!0!{MAX_COUNT}.json", FileName("a", "b", 0, MAX_COUNT, None, "json")),
        *(
            (text, None)
            for text in (
                "",
                "report.json.gz",
                "a.test!b.test!1.json",
                "a.test!b.test!1!2",
                "a.test!b.test!1!2.gz",
                "a.test!b.test!1!2.json.gz.gz",
                "a.test!b.test!1!2.json.zip",
                "a.test!b.test!1!2json",
                "a.test!b.test!1!2!.json",
                "a.test!b.test!1!2!a-b.json",
                "a.test!b.test!1!2!a!b.json",
                "a.test!b.test!1!2!ä.json",
                "a.test!b.test!1!2!\u212a.json",
                "a.test!b.test!1!2.j\u017fon",
                "a.test!b.test!2!1.json",
                "a.test!b.test!!2.json",
                "a.test!b.test!-1!2.json",
                "a.test!b.test!1!٢.json",
                f"a.test!b.test!1!{MAX_COUNT + 1}.json",
                "!b.test!1!2.json",
                "a.test!!1!2.json",
                "bücher.test!b.test!1!2.json",
                "a.test!bücher.test!1!2.json",
                "a.test.!b.test!1!2.json",
                "a_b.test!b.test!1!2.json",
                "a..test!b.test!1!2.json",
                "-a.test!b.test!1!2.json",
                "a.test!192.0.2.1!1!2.json",
                "a.test!b.test!1!2.json\n",
                " a.test!b.test!1!2.json",
                "folder/a.test!b.test!1!2.json",
                "a.test!" + "b." * 127 + "test!1!2.json",
            )
        ),
    ],
)
def test_file_names_are_those_of_section_5_1(text: str, name: FileName | None) -> None:
    assert parse_file_name(text) == name


def test_what_a_file_name_says_is_compared_with_the_content() -> None:
    plain, compressed = (read(octets) for octets in (padded(5000), gzip.compress(padded(5000))))
    for received, name, remarks in (
        (plain, "company-x.example!company-y.example!1459468800!1459555199.json", []),
        (plain, "Company-X.example!company-y.example!1459468800!1459555199!1.json", []),
        (plain, "company-x.example!company-y.example!1459468800!1459555199.json.gz", ["extension-differs"]),
        (compressed, "company-x.example!company-y.example!1459468800!1459555199.json", ["extension-differs"]),
        (compressed, "company-x.example!company-y.example!1459468800!1459555199.json.gz", []),
        (plain, "x.company-x.example!company-y.example!1459468800!1459555199.json", ["submitter-differs"]),
        (plain, "company-x.example!company-y.example!1459468801!1459555199.json", ["times-differ"]),
        (plain, "company-x.example!company-y.example!1459468800!1459555200.json", ["times-differ"]),
        (plain, "company-x.example!company-y.example!1459468800000!1459555199000.json", ["times-differ"]),
    ):
        named = received.named(name)
        assert (words(named), named.report.domain) == (remarks, "company-y.example")
        assert named.report == received.report  # which is authoritative (section 5.6)
    assert plain.named("report.json") is plain
    bare = read(b'{"policies": []}')
    assert bare.named("a.test!b.test!1!2.json").remarks == bare.remarks  # nothing in it to compare with


# --- subjects


@pytest.mark.parametrize(
    "text",
    [
        "Report Domain: example.net\n    Submitter: mail.sender.example.com\n    Report-ID: <{}>",
        "Report Domain: example.net\r\n\tSubmitter: mail.sender.example.com\r\n Report-ID: <{}>",
        "Report Domain: example.net Submitter: mail.sender.example.com Report-ID: <{}>",
        "Report\r\n Domain:\r\n example.net\r\n Submitter:\r\n mail.sender.example.com\r\n Report-ID:\r\n <{}>",
        "Report\tDomain: \t Example.NET  Submitter: mail.SENDER.example.com Report-ID: <{}>\t",
        "Report Domain: example.net Submitter: mail.sender.example.com Report-ID: <{}> (a (nested \\) one)) ()",
        "Report Domain: example.net Submitter: mail.sender.example.com Report-ID: <{}>\r\n (folded\r\n comment)",
    ],
)
def test_subjects_are_those_of_section_5_3(text: str) -> None:
    for report_id in ("735ff.e317+bf22029@mailexample.net", "a@b", "a@[b:c]"):
        assert parse_subject(text.format(report_id)) == Subject("example.net", "mail.sender.example.com", report_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Report Domain: example.net",
        "report domain: example.net Submitter: a.example Report-ID: <a@b>",
        "Report Domain: example.net submitter: a.example Report-ID: <a@b>",
        "Report Domain: example.net Submitter: a.example Report-Id: <a@b>",
        "Report Domain:example.net Submitter: a.example Report-ID: <a@b>",
        "Report Domain: example.net Submitter: a.example Report-ID:<a@b>",
        "Report Domain: example.net Submitter: a.example Report-ID: a@b",
        "Report Domain: example.net Submitter: a.example Report-ID: <ab>",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@b@c>",
        "Report Domain: example.net Submitter: a.example Report-ID: <@b>",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@>",
        "Report Domain: example.net Submitter: a.example Report-ID: <a..b@c>",
        "Report Domain: example.net Submitter: a.example Report-ID: <a b@c>",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@b> more",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@b> (more",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@b> more)",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@b> (\\)",
        "Report Domain: example.net Submitter: a.example Report-ID: <a@b> (ä)",
        "Report Domain: net Submitter: a.example Report-ID: <a@b>",  # RFC 6376: domain-name has a dot
        "Report Domain: example.net Submitter: example Report-ID: <a@b>",
        "Report Domain: bücher.example Submitter: a.example Report-ID: <a@b>",
        "Report Domain: a_b.example Submitter: a.example Report-ID: <a@b>",
        "Submitter: a.example Report Domain: example.net Report-ID: <a@b>",
        "Report Domain: example.net Submitter: a.example\nReport-ID: <a@b>",
        "Fwd: Report Domain: example.net Submitter: a.example Report-ID: <a@b>",
    ],
)
def test_other_subjects_are_not(text: str) -> None:
    assert parse_subject(text) is None


# --- mail

NAME = "company-x.example!company-y.example!1459468800!1459555199.json.gz"


def mail(
    *,
    header: dict[str, str | None] | None = None,
    part: dict[str, str | None] | None = None,
    content: bytes | None = None,
    before: str = "",
) -> bytes:
    """A mail in the form of section 5.3.1; None leaves a field out."""
    fields: dict[str, str | None] = {
        "From": "sts-reporting@company-x.example",
        "Subject": "Report Domain: company-y.example\r\n Submitter: company-x.example\r\n"
        " Report-ID: <5065427c-23d3-47ca-b6e0-946ea0e8c4be@company-x.example>",
        "TLS-Report-Domain": "company-y.example",
        "TLS-Report-Submitter": "company-x.example",
        "MIME-Version": "1.0",
        "Content-Type": 'multipart/report; report-type="tlsrpt"; boundary="b/1"',
        **(header or {}),
    }
    part_fields: dict[str, str | None] = {
        "Content-Type": "application/tlsrpt+gzip",
        "Content-Transfer-Encoding": "base64",
        "Content-Disposition": f'attachment; filename="{NAME}"',
        **(part or {}),
    }
    body = base64.encodebytes(gzip.compress(json.dumps(document()).encode())) if content is None else content
    text = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    text += f"\r\npreamble\r\n--b/1\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n{before}--b/1\r\n"
    text += "".join(f"{name}: {value}\r\n" for name, value in part_fields.items() if value is not None)
    return text.encode() + b"\r\n" + body + b"\r\n--b/1--\r\nepilogue\r\n"


def read_mail(octets: bytes) -> ReceivedMail:
    received = read_report_mail(octets)
    assert isinstance(received, ReceivedMail), received
    return received


def test_a_mail_as_it_should_be_has_no_remark() -> None:
    for octets in (mail(), mail().replace(b"\r\n", b"\n")):
        received = read_mail(octets)
        assert received.report == read(document()).report
        assert received.to_json() == {
            "report": document(),
            "domain": "company-y.example",
            "submitter": "company-x.example",
            "subject": {
                "domain": "company-y.example",
                "submitter": "company-x.example",
                "report_id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be@company-x.example",
            },
            "file_name": {
                "sender": "company-x.example",
                "policy_domain": "company-y.example",
                "begin": 1459468800,
                "end": 1459555199,
                "unique_id": None,
                "extension": "json.gz",
            },
            "remarks": [],
        }
        assert pickle.loads(pickle.dumps(received)) == received


PLAIN = json.dumps(document()).encode()
JSON_PART: dict[str, str | None] = {
    "Content-Type": "application/tlsrpt+json",
    "Content-Disposition": f'attachment; filename="{NAME.removesuffix(".gz")}"',
}


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        (None, PLAIN),
        ("8bit", PLAIN),
        ("binary", PLAIN),
        ("x-unknown", PLAIN),
        ("BASE64 ", base64.encodebytes(PLAIN)),
        ("base64", base64.b64encode(PLAIN)),
        ("base64", base64.encodebytes(PLAIN).replace(b"\n", b"!\r\n \t")),
        ("base64", base64.b64encode(PLAIN).rstrip(b"=")),
        ("base64", base64.b64encode(PLAIN + b" " * (2 - len(PLAIN) % 3)) + b"\r\n--\r\nfooter of a mailing list"),
        ("quoted-printable", b"=7B" + PLAIN[1:].replace(b"=", b"=3D").replace(b", ", b",=\r\n ")),
    ],
)
def test_every_transfer_encoding_is_undone(encoding: str | None, content: bytes) -> None:
    part = JSON_PART | {"Content-Transfer-Encoding": encoding}
    received = read_mail(mail(part=part, content=content))
    assert (words(received), received.report) == ([], read(document()).report)


@pytest.mark.parametrize(
    "value",
    [
        'attachment;\r\n filename="company-x.example!company-y.example!\r\n          1459468800!1459555199.json.gz"',
        f"attachment; filename*=utf-8'en'{NAME.replace('!', '%21')}",
        f"attachment; filename*0={NAME[:30]}; filename*1={NAME[30:]}",
        f"attachment;\r\n filename*1=\"{NAME[30:]}\";\r\n filename*0*=us-ascii''{NAME[:30].replace('!', '%21')}",
        f"attachment; filename*=no-such-charset''{NAME}",
        f'ATTACHMENT; size=5; FILENAME="{NAME}"',
        f'attachment; filename="=?utf-8?B?{base64.b64encode(NAME.encode()).decode()}?="',
        f'attachment; filename="=?utf-8?Q?{NAME[:20].replace("-", "=2D")}?=\r\n =?utf-8?q?{NAME[20:]}?="',
    ],
)
def test_a_file_name_is_unfolded_and_put_together(value: str) -> None:
    received = read_mail(mail(part={"Content-Disposition": value}))
    assert (received.file_name, words(received)) == (parse_file_name(NAME), [])


def test_a_file_name_may_be_given_with_the_media_type() -> None:
    part = {"Content-Type": f'application/tlsrpt+gzip; name="{NAME}"', "Content-Disposition": None}
    assert read_mail(mail(part=part)).file_name == parse_file_name(NAME)


OTHER_SUBJECT = "Report Domain: {} Submitter: company-x.example Report-ID: <{}>"
ID = "5065427c-23d3-47ca-b6e0-946ea0e8c4be"


@pytest.mark.parametrize(
    ("header", "part", "remarks"),
    [
        # 5.3: both fields
        ({"TLS-Report-Domain": None}, {}, ["header-missing"]),
        ({"TLS-Report-Submitter": None}, {}, ["header-missing"]),
        ({"TLS-Report-Domain": "no domain"}, {}, ["header-missing"]),
        ({"TLS-Report-Domain": "COMPANY-Y.example"}, {}, []),
        ({"TLS-Report-Domain": None, "tls-report-domain": "company-y.example"}, {}, []),
        # 5.3: the submitter is the domain of the contact
        ({"TLS-Report-Submitter": "mail.company-x.example"}, {}, ["submitter-differs"]),
        ({"TLS-Report-Submitter": "Company-X.Example"}, {}, []),
        ({}, {"Content-Disposition": f"x; filename=mail.{NAME}"}, ["submitter-differs"]),
        # subject, file name and header field agree on the domain
        ({"TLS-Report-Domain": "company-z.example"}, {}, ["domain-differs"]),
        ({"Subject": OTHER_SUBJECT.format("company-z.example", f"{ID}@x.example")}, {}, ["domain-differs"]),
        ({}, {"Content-Disposition": f"x; filename={NAME.replace('-y', '-z')}"}, ["domain-differs"]),
        # the id
        ({"Subject": OTHER_SUBJECT.format("company-y.example", "1@x.example")}, {}, ["report-id-differs"]),
        ({"Subject": OTHER_SUBJECT.format("company-y.example", f"{ID}@x.example")}, {}, []),
        ({"Subject": OTHER_SUBJECT.format("company-y.example", f"{ID.upper()}@x.example")}, {}, ["report-id-differs"]),
        # file name and subject
        ({}, {"Content-Disposition": "attachment; filename=report.json.gz"}, ["file-name-malformed"]),
        ({}, {"Content-Disposition": "attachment"}, []),
        ({}, {"Content-Disposition": None}, []),
        ({"Subject": "TLS report"}, {}, ["subject-malformed"]),
        ({"Subject": None}, {}, []),
        (
            {
                "Subject": f"=?utf-8?Q?Report_Domain:_company-y.example_Submitter:_com?=\r\n =?utf-8?Q?pany-x.example"
                f"_Report-ID:_<{ID}=40x.example>?="
            },
            {},
            [],
        ),
        ({}, {"Content-Disposition": f"x; filename={NAME.removesuffix('.gz')}"}, ["extension-differs"]),
        ({}, {"Content-Disposition": f"x; filename={NAME.replace('1459468800', '1459468799')}"}, ["times-differ"]),
        # media types
        ({}, {"Content-Type": "application/tlsrpt+json"}, ["media-type-differs"]),
        ({}, {"Content-Type": "application/gzip"}, ["media-type-differs"]),
        ({}, {"Content-Type": "application/octet-stream"}, ["media-type-differs"]),
        ({}, {"Content-Type": "Application/TLSRPT+gzip; x=y"}, []),
        ({"Content-Type": "multipart/mixed; boundary=b/1"}, {}, ["not-tlsrpt"]),
        ({"Content-Type": "multipart/report; boundary=b/1"}, {}, ["not-tlsrpt"]),
        ({"Content-Type": "multipart/report; report-type=delivery-status; boundary=b/1"}, {}, ["not-tlsrpt"]),
        ({"Content-Type": "Multipart/Report; Boundary=b/1;\r\n Report-Type=TLSRPT"}, {}, []),
    ],
)
def test_what_is_odd_about_a_mail_is_remarked(
    header: dict[str, str | None], part: dict[str, str | None], remarks: list[str]
) -> None:
    received = read_mail(mail(header=header, part=part))
    assert words(received) == remarks
    assert received.report == read(document()).report
    assert received.submitter == "company-x.example"  # the content counts (section 5.6)


@pytest.mark.parametrize(
    ("content", "part", "remarks"),
    [
        (PLAIN, JSON_PART | {"Content-Type": "application/tlsrpt+gzip"}, ["media-type-differs"]),
        (PLAIN, JSON_PART | {"Content-Type": "application/json"}, ["media-type-differs"]),
        (PLAIN, {"Content-Type": "application/tlsrpt+json"}, ["extension-differs"]),
        (APPENDIX_B.encode(), JSON_PART, ["single-value"]),
        (json.dumps(document((("contact-info",), "nobody"))).encode(), JSON_PART, ["bad-contact-info"]),
        (json.dumps(document((("report-id",), GONE))).encode(), JSON_PART, ["member-missing"]),
        (json.dumps(document((("date-range",), GONE))).encode(), JSON_PART, ["member-missing"]),
    ],
)
def test_remarks_of_the_content_and_of_the_mail_come_together(
    content: bytes, part: dict[str, str | None], remarks: list[str]
) -> None:
    assert words(read_mail(mail(part=part | {"Content-Transfer-Encoding": None}, content=content))) == remarks


def test_the_domain_is_that_of_the_content_else_of_the_header_else_of_the_file_name_else_of_the_subject() -> None:
    fields = {"TLS-Report-Domain": "header.example", "Subject": OTHER_SUBJECT.format("subject.example", "a@b")}
    part: dict[str, str | None] = {"Content-Disposition": f"x; filename={NAME.replace('company-y', 'file')}"}
    received = read_mail(mail(header={**fields}, part=part))
    assert received.domain == "company-y.example"  # RFC8460-5.6-a
    assert "domain-differs" in words(received)
    silent = json.dumps(document((("policies",), []))).encode()
    in_clear: dict[str, str | None] = {"Content-Transfer-Encoding": None}
    assert read_mail(mail(header={**fields}, part=part | in_clear, content=silent)).domain == "header.example"
    fields["TLS-Report-Domain"] = "?"
    assert read_mail(mail(header={**fields}, part=part | in_clear, content=silent)).domain == "file.example"
    part["Content-Disposition"] = None
    assert read_mail(mail(header={**fields}, part=part | in_clear, content=silent)).domain == "subject.example"
    received = read_mail(mail(header={**fields, "Subject": "?"}, part=part | in_clear, content=silent))
    assert (received.domain, received.report.domain, received.subject, received.file_name) == (None, None, None, None)


def test_without_a_contact_the_submitter_is_that_of_the_header_then_of_the_file_name_then_of_the_subject() -> None:
    content = json.dumps(document((("contact-info",), GONE))).encode()
    fields: dict[str, str | None] = {"TLS-Report-Submitter": "header.example"}
    part = {**JSON_PART, "Content-Transfer-Encoding": None}
    part["Content-Disposition"] = f"x; filename={NAME.replace('company-x', 'file').removesuffix('.gz')}"
    assert read_mail(mail(header=fields, part=part, content=content)).submitter == "header.example"
    fields["TLS-Report-Submitter"] = None
    assert read_mail(mail(header=fields, part=part, content=content)).submitter == "file.example"
    part["Content-Disposition"] = None
    assert read_mail(mail(header=fields, part=part, content=content)).submitter == "company-x.example"
    fields["Subject"] = None
    assert read_mail(mail(header=fields, part=part, content=content)).submitter is None


def test_a_domain_in_u_labels_is_the_same_domain() -> None:
    header: dict[str, str | None] = {"TLS-Report-Domain": "bücher.example", "Subject": None}
    json_part = JSON_PART | {"Content-Disposition": None, "Content-Transfer-Encoding": None}
    content = json.dumps(document(((*POLICY, "policy-domain"), "xn--bcher-kva.example"))).encode()
    received = read_mail(mail(header=header, part=json_part, content=content))
    assert (received.domain, words(received)) == ("xn--bcher-kva.example", [])


def test_tlsa_records_do_not_tell_the_domain_of_a_report() -> None:  # RFC8460-1.1-b
    for path, value, domain in (
        (("policies", 0, "policy", "policy-type"), "tlsa", None),
        (("policies", 0, "policy", "policy-type"), "no-policy-found", "company-y.example"),
        (("policies", 0, "policy", "policy-domain"), "*", None),
    ):
        assert read(json.dumps(document((path, value))).encode()).report.domain == domain


@pytest.mark.parametrize(
    ("header", "part", "word"),
    [
        ({}, {"Content-Type": "text/plain", "Content-Disposition": None}, "no-report"),
        ({}, {"Content-Type": "image/png", "Content-Disposition": "x; filename=a.png"}, "no-report"),
        ({"Content-Type": "text/plain"}, {}, "no-report"),
        ({"Content-Type": "multipart/report; report-type=tlsrpt"}, {}, "no-report"),
        ({"Content-Type": "multipart/report; report-type=tlsrpt; boundary=other"}, {}, "no-report"),
        ({}, {"Content-Transfer-Encoding": "7bit"}, "not-json"),
    ],
)
def test_a_mail_without_a_report_is_none(header: dict[str, str | None], part: dict[str, str | None], word: str) -> None:
    assert read_report_mail(mail(header=header, part=part)) == Unreadable(UnreadableReason(word))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not-json"),
        (b"{}", "not-a-report"),
        (gzip.compress(PLAIN)[:-1], "not-gzip"),
        (gzip.compress(b" " * (MAX_REPORT + 1)), "too-large"),
    ],
)
def test_a_report_that_can_not_be_read_is_not_read_out_of_a_mail_either(content: bytes, word: str) -> None:
    assert read_report_mail(mail(content=base64.encodebytes(content))) == Unreadable(UnreadableReason(word))


@pytest.mark.parametrize(
    "octets", [b"", b"\n", b"\r\n\r\n", b"x", b"\xff\xfe", b": \n", b"Content-Type:\n\n{}", b"\0" * 99]
)
def test_octets_that_are_no_mail_hold_no_report(octets: bytes) -> None:
    assert read_report_mail(octets) == Unreadable(UnreadableReason.NO_REPORT)


def wrapped(inner: bytes, number: int, *, kind: str = "mixed") -> bytes:
    """A part, in a multipart with a footer behind it."""
    mark = f"w{number}".encode()
    start = b'Content-Type: multipart/%s; boundary="%s"\r\n\r\n--%s\r\n' % (kind.encode(), mark, mark)
    return start + inner + b"\r\n--%s\r\n\r\nfooter\r\n--%s--\r\n" % (mark, mark)


def test_a_report_is_found_in_multiparts_in_multiparts_up_to_a_bound() -> None:
    octets = mail()
    for number in range(MAX_DEPTH):
        received = read_mail(octets)
        assert received.report == read(document()).report
        assert words(received) == ([] if number == 0 else ["header-missing", "not-tlsrpt"])
        octets = wrapped(octets, number)
    assert read_report_mail(octets) == Unreadable(UnreadableReason.NO_REPORT)


def test_a_report_is_found_among_other_parts_up_to_a_bound() -> None:
    filler = "--b/1\r\n\r\nx\r\n"
    assert words(read_mail(mail(before=filler * (MAX_PARTS - 3)))) == []  # the mail, its text and the report beside it
    assert read_report_mail(mail(before=filler * (MAX_PARTS - 2))) == Unreadable(UnreadableReason.NO_REPORT)


def test_the_part_with_the_registered_media_type_is_preferred() -> None:
    other = json.dumps(document((("organization-name",), "Company-Z")))
    before = f"--b/1\r\nContent-Type: application/json\r\n\r\n{other}\r\n"
    before += f'--b/1\r\nContent-Type: x/y; name="{NAME}"\r\n\r\n{other}\r\n'
    assert read_mail(mail(before=before)).report.organization_name == "Company-X"
    # else the one with a report's name, which is the second of the two
    received = read_mail(mail(before=before, part={"Content-Type": "text/plain", "Content-Disposition": None}))
    assert (received.report.organization_name, received.file_name) == ("Company-Z", parse_file_name(NAME))


def test_the_last_part_may_lack_its_end_and_blanks_may_follow_a_boundary() -> None:
    whole = mail()
    for octets in (
        whole[: whole.rindex(b"--b/1--")],
        whole.replace(b"--b/1\r\n", b"--b/1 \t\r\n"),
        whole.replace(b"preamble\r\n", b""),
        whole.replace(b"This is a report.", b"This is a report. --b/1\r\n --b/1\r\nx--b/1--\r\n--b/1x"),
        whole.replace(b"\r\npreamble\r\n--b/1", b"\r\n--b/1\r\n\r\n--b/10\r\n--b/1"),
    ):
        assert words(read_mail(octets)) == []


def test_what_stands_behind_the_end_of_a_multipart_is_no_part_of_it() -> None:
    octets = mail(before="--b/1--\r\nend\r\n")
    assert read_report_mail(octets) == Unreadable(UnreadableReason.NO_REPORT)


def test_a_mail_that_is_nothing_but_the_report() -> None:
    octets = b"Content-Type: application/tlsrpt+json\r\n\r\n" + PLAIN
    assert words(read_mail(octets)) == ["header-missing", "not-tlsrpt"]


def test_a_mail_has_a_bound_that_a_report_of_the_greatest_size_fits_into() -> None:
    content = padded(MAX_REPORT)
    octets = mail(content=base64.encodebytes(content), part=JSON_PART)
    assert words(read_mail(octets)) == []
    assert len(octets) < MAX_MAIL
    assert words(read_mail(octets + b" " * (MAX_MAIL - len(octets)))) == []
    assert read_report_mail(octets + b" " * (MAX_MAIL + 1 - len(octets))) == Unreadable(UnreadableReason.TOO_LARGE)


START = b'Content-Type: multipart/mixed; boundary="b"\n\n'


def nested(depth: int, body: bytes) -> bytes:
    return (
        b"".join(
            b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (number, number) for number in range(depth)
        )
        + body
    )


@pytest.mark.own_process
@pytest.mark.parametrize(
    "octets",
    [
        START + b"\n" * 15 * MEGABYTES,
        START + b"--b\n" * 3_500_000,
        START + b"--b" + b" " * 15 * MEGABYTES,
        START + (b"--b" + b" " * 1000 + b"x\n") * 15_000,
        START + (b"--b\n" + b"A: b\n" * 100) * 30_000,
        nested(1000, b"\n" * 15 * MEGABYTES),
        nested(100_000, b""),
        b"A: b\n" * 3_000_000,
        b"A" * 15 * MEGABYTES,
        b"Subject: " + b"=?a?q?" * 2_000_000,
        b"Content-Type: multipart/mixed" + b";" * 5_000_000,
        b"Content-Type: multipart/mixed" + b";" * 8000,
        b'Content-Type: multipart/mixed; "' + b';"' * 4000,
        b"Content-Type: multipart/mixed" + b'; boundary*0="a"' * 500 + b"\n\n",
        b"Content-Type: application/tlsrpt+json\nSubject: " + b"(" * 8000 + b'\n\n{"policies":[]}',
        b"Content-Type: application/tlsrpt+json\nContent-Transfer-Encoding: base64\n\n" + b"=A" * 7 * MEGABYTES,
        b"Content-Type: application/tlsrpt+json\nContent-Transfer-Encoding: quoted-printable\n\n" + b"=\n" * 7_000_000,
    ],
    ids=lambda octets: f"{octets[:60]!r}-{len(octets)}",
)
def test_hostile_mails_take_little_time(octets: bytes) -> None:
    start = time.process_time()
    read_report_mail(octets)
    assert time.process_time() - start < 10  # seconds, as above


@pytest.mark.parametrize(
    "value",
    [
        "x; filename*=a; filename*0=b",
        "x; filename*" + "9" * 5000 + "=a; filename*0=b",
        "x; filename*0*=%; filename*1*=%2; filename*2*='",
        "x; filename",
        "x; filename=",
        "x; =; filename*=",
        "x; filename*=idna''%FF",
        "x; filename*=\x00''a",
        'x; filename="=?utf-8?B?A?="',
        'x; filename="=?x?Q?=?="',
        ";" * 20,
    ],
)
def test_ill_formed_parameters_do_no_harm(value: str) -> None:
    received = read_mail(mail(part={"Content-Disposition": value}))
    assert received.file_name is None
    assert set(words(received)) <= {"file-name-malformed"}


# --- telling them apart


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (PLAIN, Received),
        (b" \r\n\t" + PLAIN, Received),
        (b"\xef\xbb\xbf" + PLAIN, Received),
        (gzip.compress(PLAIN), Received),
        (mail(), ReceivedMail),
        (b"From sts-reporting@company-x.example Sat Apr  2 00:00:00 2016\n" + mail(), ReceivedMail),
        (b"", Unreadable),
        (b"hello", Unreadable),
    ],
)
def test_a_file_is_known_by_its_content(octets: bytes, kind: type) -> None:
    assert isinstance(read_report_file(octets), kind)


def test_what_is_no_mail_is_no_json_rather_than_a_mail_without_a_report() -> None:
    for octets in (b"", b"hello", b"[1, 2", b'{"a: b": '):
        assert read_report_file(octets) == Unreadable(UnreadableReason.NOT_JSON)
    assert read_report_file(b"Subject: hello\n\nhello") == Unreadable(UnreadableReason.NO_REPORT)


def test_remarks_have_the_words_of_the_documentation() -> None:
    assert [kind.value for kind in RemarkKind] == [kind.name.lower().replace("_", "-") for kind in RemarkKind]


# --- memory: what is bounded before it is parsed


@pytest.mark.parametrize(
    "filler", [b"1", b"0.5", b"[]", b"{}", b'"ab"', b"null", b'{"a":1}', b'"\\",["', b'"\\\\"', b'[",,,,[[[",1]']
)
def test_the_bound_of_values_holds_before_anything_is_parsed(filler: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", filler)
    each = 1 + sum(map(outside.count, (b",", b"[", b"{")))
    rest = 3  # the document, its policies and x

    def with_values(count: int) -> bytes:
        head = b'{"policies":[],"x":['
        return head + b",".join([filler] * count) + b"]}"

    fitting = (MAX_VALUES - rest) // each
    reading._require_bounded(with_values(fitting))
    monkeypatch.setattr(json, "loads", None)  # not even asked
    assert unreadable(with_values(fitting + each)) == "too-large"
    assert unreadable(gzip.compress(with_values(MAX_REPORT // (len(filler) + 2)), 1)) == "too-large"


def test_what_stands_in_strings_is_not_counted() -> None:
    text = '[{,\\"' * 200_000
    received = read(document() | {"organization-name": text})
    assert received.report.organization_name == text
    assert received.remarks == ()


def test_the_names_of_members_are_bounded() -> None:
    members = {str(number): 0 for number in range(MAX_MEMBERS - 1)}
    assert isinstance(read_report(json.dumps({"policies": [], **members}).encode()), Received)
    assert unreadable(json.dumps({"policies": [], "x": 0, **members}).encode()) == "too-large"
    assert unreadable(b'{"policies":[],"x":"' + b'","'.join([b""] * 2 * MAX_VALUES) + b'"}') == "too-large"


@pytest.mark.parametrize(("character", "width"), [("\xe9", 1), ("\u20ac", 2), ("\U0001f600", 4)])
def test_the_text_of_a_document_is_bounded_by_what_it_takes(character: str, width: int) -> None:
    octets = json.dumps(document() | {"organization-name": character}, ensure_ascii=False).encode()
    most = min(MAX_TEXT // width, MAX_REPORT)
    assert read(octets + b" " * (most - len(octets))).report.organization_name == character
    assert unreadable(octets + b" " * (most - len(octets) + 1)) == "too-large"


def test_a_domain_in_too_many_spellings_is_none() -> None:
    def policies(count: int) -> list[dict[str, Any]]:
        names = ["".join(letter) + ".test" for letter in islice(product("aA", repeat=8), count)]
        return [{"policy": {"policy-type": "sts", "policy-domain": name}} for name in names]

    assert read(document() | {"policies": policies(MAX_SPELLINGS)}).report.domain == "aaaaaaaa.test"
    assert read(document() | {"policies": policies(MAX_SPELLINGS + 1)}).report.domain is None
    assert read(document() | {"policies": policies(2) * MAX_SPELLINGS}).report.domain == "aaaaaaaa.test"


@given(st.text("aA09-_.", max_size=12) | st.text("a1.", max_size=300))
def test_a_plain_name_is_one_that_is_canonical(text: str) -> None:
    if reading._PLAIN_NAME.match(text):
        assert canonical(text) == text.lower()


def test_the_header_of_a_mail_is_bounded() -> None:
    part = b"Content-Type: application/tlsrpt+json\r\n\r\n" + json.dumps(document()).encode()
    lines = b"X: x\r\n"
    assert isinstance(read_report_mail(lines * (MAX_HEADER_LINES - 1) + part), ReceivedMail)
    assert read_report_mail(lines * MAX_HEADER_LINES + part) == Unreadable(UnreadableReason.NO_REPORT)
    field = b"X: " + b"x" * 4 * MAX_HEADER + b"\r\n"
    assert read_report_mail(part.partition(b"\r\n")[0] + b"\r\n" + field + b"\r\n{}") == Unreadable(
        UnreadableReason.NOT_JSON
    )


@given(st.binary(max_size=200) | st.text("aZ09+/=\r\n !", max_size=600).map(str.encode), st.integers(1, 50))
def test_base64_is_decoded_piece_by_piece_as_in_one(octets: bytes, span: int) -> None:
    expected = mime._base64(octets)
    whole, mime._SPAN = mime._SPAN, span
    try:
        assert mime._base64(octets) == mime._base64(memoryview(octets)) == expected
    finally:
        mime._SPAN = whole
    text = base64.b64encode(octets)
    assert mime._base64(text) == octets
    assert mime._base64(text.rstrip(b"=")) == octets
