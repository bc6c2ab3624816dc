"""The schema of reports: it takes what is made here, and refuses what section 4.4 of RFC 8460 does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from mailtlspolicy import World
from mailtlspolicy.testing.vectors import Vector, load, run
from mailtlspolicy.tlsrpt import Aggregates, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Place = tuple[str | int, ...]

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
SCHEMA = json.loads((VECTORS / "report.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FILES = [VECTORS / "report.json", VECTORS / "report-pinned.json"]


def faults(report: Any) -> list[str]:
    """Where a report errs, as JSON Pointers (RFC 6901)."""
    return sorted("".join(f"/{key}" for key in error.absolute_path) for error in VALIDATOR.iter_errors(report))


def changed(value: Any, path: Place, new: Any) -> Any:
    """A copy of a JSON value with another value at a path; `...` takes the member away."""
    copy = value.copy()
    if len(path) > 1:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    elif new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = new
    return copy


def places(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value in a JSON value, itself first, with the path to it."""
    yield path, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def test_the_schema_is_one() -> None:
    assert jsonschema.validators.validator_for(SCHEMA) is type(VALIDATOR)
    VALIDATOR.check_schema(SCHEMA)


def is_reported(vector: Vector) -> bool:
    return any("report" in step["ask"] for step in vector.data.get("timeline", [vector.data]))


def test_every_report_of_the_vectors_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Report] = []
    of = Report.of

    def recorded(*arguments: Any, **members: Any) -> Report:
        made.append(of(*arguments, **members))
        return made[-1]

    monkeypatch.setattr(Report, "of", recorded)
    wrong = {}
    for vector in filter(is_reported, load(FILES)):
        made.clear()
        run(vector)
        wrong.update({(vector.id, number): faults(report.to_json()) for number, report in enumerate(made)})
    assert len(wrong) > 200
    assert {name: found for name, found in wrong.items() if found} == {}


def test_every_report_of_the_tour_is_valid() -> None:
    counted, world = Aggregates(), World.tour()
    engine = world.engine()
    for zone in world.data["zones"]:
        counted.add(engine.simulate(zone))
    reports = [
        Report.of(aggregate, organization_name="Example", contact_info="tls@sender.example") for aggregate in counted
    ]
    assert len(reports) > 20
    assert {report.report_id: faults(report.to_json()) for report in reports if faults(report.to_json())} == {}


# --- RFC 8460 appendix B


def appendix_b() -> Any:
    """The report of appendix B, without the blanks in its URI, which the RFC's lines put there."""
    (text,) = (
        vector.data["ask"]["read_report"]
        for vector in load([VECTORS / "report-reading.json"])
        if vector.id == "report-reading-appendix-b"
    )
    return json.loads(text)


DETAILS_B = ("policies", 0, "failure-details")


def test_the_report_of_appendix_b_errs_where_section_4_4_differs_and_nowhere_else() -> None:
    report = appendix_b()
    assert faults(report) == [
        "/policies/0/failure-details/0/sending-mta-ip",  # RFC 5952 section 4.1: no leading zeros
        "/policies/0/failure-details/1/sending-mta-ip",
        "/policies/0/policy/mx-host",  # section 4.4: an array of strings
    ]
    report = changed(report, ("policies", 0, "policy", "mx-host"), ["*.mail.company-y.example"])
    report = changed(report, (*DETAILS_B, 0, "sending-mta-ip"), "2001:db8:abcd:12::1")
    report = changed(report, (*DETAILS_B, 1, "sending-mta-ip"), "2001:db8:abcd:13::1")
    assert faults(report) == []
    printed = "https://reports.company-x.example/ report_info ? id = 5065427 c - 23 d3# StarttlsNotSupported "
    assert faults(changed(report, (*DETAILS_B, 1, "additional-information"), printed)) == [
        "/policies/0/failure-details/1/additional-information"
    ]


# --- what is right and what is wrong

HOST = "mx.client.example"
RECORD = "3 1 1 " + "a1" * 32
FAILURE = {
    "result-type": "certificate-not-trusted",
    "sending-mta-ip": "198.51.100.1",
    "receiving-mx-hostname": HOST,
    "receiving-mx-helo": "helo.client.example",
    "receiving-ip": "2001:db8::25",
    "failed-session-count": 2,
    "additional-information": "https://sender.example/why?id=1#a",
    "failure-reason-code": "untrusted-issuer",
}
FETCH_ERROR = {"result-type": "sts-policy-fetch-error", "failed-session-count": 1, "failure-reason-code": "fetch-error"}
NO_ANSWER = {"result-type": "dnssec-invalid", "receiving-mx-hostname": HOST, "failed-session-count": 1}
NO_TLS = {"result-type": "starttls-not-supported", "receiving-mx-hostname": HOST, "failed-session-count": 1}


def counts(successful: int, failed: int) -> dict[str, int]:
    return {"total-successful-session-count": successful, "total-failure-session-count": failed}


def report(policy: dict[str, Any], summary: dict[str, int], *failures: dict[str, Any]) -> dict[str, Any]:
    """A report of one policy."""
    return {
        "organization-name": "Sendér Inc.",
        "date-range": {"start-datetime": "2026-01-01T00:00:00Z", "end-datetime": "2026-01-01T23:59:59Z"},
        "contact-info": "tls.reports+1@sender.example",
        "report-id": "2026-01-01.client.example.1@sender.example",
        "policies": [{"policy": policy, "summary": summary, "failure-details": list(failures)}],
    }


def sts(*lines: str, **members: Any) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": "sts", "policy-domain": "client.example"}
    return policy | ({"policy-string": list(lines)} if lines else {}) | members


def tlsa(*records: str, **members: Any) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": "tlsa", "policy-domain": HOST, "mx-host": [HOST]}
    return policy | ({"policy-string": list(records)} if records else {}) | members


LINES = ("version: STSv1", "mode: enforce", "mx: *.client.example", "", "unknown: \t", "max_age: 86400")
PATTERNS = {"mx-host": ["*.client.example", "mx.xn--bcher-kva.example"]}
NONE = {"policy-type": "no-policy-found", "policy-domain": "client.example"}
STS = report(sts(*LINES, **PATTERNS), counts(5, 2), FAILURE)
UPDATE = report(sts(*LINES, **PATTERNS), counts(1, 0), FETCH_ERROR)  # the policy in force was met (section 4)
UNFETCHED = report(sts(), counts(0, 1), FETCH_ERROR)
INVALID = report(sts("version: STSv2"), counts(0, 1), FETCH_ERROR | {"result-type": "sts-policy-invalid"}, NO_TLS)
TLSA = report(tlsa(RECORD, "2 0 2 " + "B2" * 64, "255 0 10"), counts(4, 2), FAILURE)
UNKNOWN = report(tlsa(), counts(0, 1), NO_ANSWER)
PLAIN = report(NONE, counts(0, 1), NO_TLS)
HEARTBEAT = report(NONE, counts(2**53 - 1, 0))
RIGHT = [STS, UPDATE, UNFETCHED, INVALID, TLSA, UNKNOWN, PLAIN, HEARTBEAT]

APPLIED: Place = ("policies", 0)
POLICY, SUMMARY, FAILURES = (*APPLIED, "policy"), (*APPLIED, "summary"), (*APPLIED, "failure-details")
DETAIL = (*FAILURES, 0)
START = ("date-range", "start-datetime")

ADDRESSES = [
    *("0.0.0.0", "255.249.199.99", "10.0.0.1", "::", "::1", "1::", "2001:db8::1", "1:2:3:4:5:6:7:8"),
    *("2001:db8:0:1:1:1:1:1", "0:1:0:1:0:1:0:1", "2001:db8::1:0:0:1", "1:2:3:4:5:6::", "::3:4:5:6:7:8"),
    *("1:2:3::6:7:8", "fe80::ffff", "::ffff:192.0.2.1"),
]
NO_ADDRESSES = [
    # the grammar of section 4.4
    *("", "192.0.2", "192.0.2.1.1", "256.0.2.1", "192.0.2.256", "01.0.2.1", "192.0.2.00", "192.0.2.1:25", " 192.0.2.1"),
    *("192.0.2.-1", "192,0,2,1", "0xc0.0.2.1", "192.0.2.", "192..2.1"),
    # RFC 5952 sections 4.1 to 4.3, and what is no address
    *(
        "2001:DB8::1",
        "2001:0db8::1",
        "2001:db8:0:0:1:1:1:1",
        "1:2:3:4:5:6:0:0",
        "0:0:3:4:5:6:7:8",
        "2001:db8::1:0"[:-1],
    ),
    *("2001:db8:0::1", "2001:db8::0:1", "1::0", "0::1", "1:2:3::5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8"),
    *("1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", ":1:2", "1:2:", ":", ":::", "1:::2", "g::1"),
    *("[2001:db8::1]", "fe80::1%eth0", "::192.0.2.1", "::ffff:192.0.2.01", "::FFFF:192.0.2.1", "2001:db8::/32"),
]
DOMAINS = ["client.example", "x.test", "test", "xn--bcher-kva.test", "_dmarc.client.example", "1.test", "a" * 63 + ".b"]
LONG = ".".join(["a" * 63] * 3) + "." + "a" * 61  # 253 octets
NO_DOMAINS = [
    *("", "client.example.", ".client.example", "a..b", "bücher.test", "client example", "a" * 64 + ".b", LONG + "a"),
    *("-a.test", "a-.test", "192.0.2.1", "a.1", "[192.0.2.1]", "a@b.test", "a/b.test", "a.test\tb"),
]


@pytest.mark.parametrize("data", RIGHT)
def test_a_report_is_taken(data: dict[str, Any]) -> None:
    assert faults(data) == []


def test_right_members_are_taken() -> None:
    for address in ADDRESSES:
        assert faults(changed(STS, (*DETAIL, "receiving-ip"), address)) == [], address
    for domain in [*DOMAINS, LONG]:
        assert faults(changed(STS, (*POLICY, "policy-domain"), domain)) == [], domain
        assert faults(changed(STS, (*POLICY, "mx-host"), [domain, "*." + domain])) == [], domain
    for address in ("a@b.test", '"a b\\""@b.test', "!#$%&'*+-/=?^_`{|}~@b.test", "a.b.c@xn--bcher-kva.test"):
        assert faults(changed(STS, ("contact-info",), address)) == [], address
    for time in ("2024-02-29T00:00:00.25+00:00", "2026-12-31t23:59:60z", "2026-01-01T00:00:00-23:59"):
        assert faults(changed(STS, START, time)) == [], time
    for uri in ("x:", "urn:a:b", "https://[2001:db8::1]:8/a%20b;c=1,2?d/e?f#g"):
        assert faults(changed(STS, (*DETAIL, "additional-information"), uri)) == [], uri


TYPES, STRINGS, HOSTS = (*DETAIL, "result-type"), (*POLICY, "policy-string"), (*POLICY, "mx-host")
DANE_TYPES = ("tlsa-invalid", "dnssec-invalid", "dane-required")
STS_TYPES = ("sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid")
FAILED, COUNT = (*SUMMARY, "total-failure-session-count"), (*DETAIL, "failed-session-count")
OF_MTA = ("sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip")


def at(data: Any, path: Place, *values: Any) -> list[tuple[Any, Place, Any]]:
    """Values that may not be at this place."""
    return [(data, path, value) for value in values]


WRONG: list[tuple[Any, Place, Any]] = [
    # metadata
    *at(STS, ("organization-name",), "", " "),
    *at(STS, ("report-id",), ""),
    *at(
        STS,
        ("contact-info",),
        "mailto:a@b.test",
        "A <a@b.test>",
        "a@b.test, c@b.test",
        "a",
        "@b.test",
        "a@",
        "a b@b.test",
    ),
    *at(STS, ("contact-info",), "a.@b.test", "a@[192.0.2.1]", "a@1.2", "a@bücher.test", "ä@b.test", '"a"b"@b.test'),
    *at(STS, ("contact-info",), "a@-b.test", "a@b-.test", "a@b..test"),
    *at(STS, START, "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01", "1767225600", "2026-13-01T00:00:00Z"),
    *at(STS, START, "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z"),
    *at(STS, START, "2026-01-01T00:00:00+2400", "2026-1-1T00:00:00Z", "26-01-01T00:00:00Z", "2026-01-01T00:00Z"),
    # policies
    *at(STS, ("policies",), STS["policies"][0], [], STS["policies"] * 2),
    *at(STS, (*POLICY, "policy-type"), "dane", "STS", "no policy found", ""),
    *at(STS, (*POLICY, "policy-domain"), "*.client.example", *NO_DOMAINS),
    *at(
        STS,
        HOSTS,
        [],
        ["a.test"] * 2,
        "a.test",
        ["*"],
        ["mx.*.test"],
        ["*." + LONG + "a"],
        *([name] for name in NO_DOMAINS),
    ),
    *at(STS, STRINGS, [], "mode: enforce", [["mx: a.test"]], ["a\nb"], ["a\n"]),
    *at(
        TLSA,
        STRINGS,
        [],
        RECORD,
        [RECORD, RECORD],
        [[3, 1, 1, "a1"]],
        [""],
        ["3 1 1 a"],
        ["3 1 1 (a1)"],
        ["3 1 1 a1 a1"],
    ),
    *at(TLSA, STRINGS, ["3 1 a1"], ["3  1 1 a1"], ["DANE-EE 1 1 a1"], ["3 1 1 "], ["256 1 1 a1"], ["03 1 1 a1"]),
    *at(TLSA, STRINGS, ["3 1 1 a1; 3 1 1 a2"], [" 3 1 1 a1"], ["3 1 1 g1"], ["3 1 1 0xa1"]),
    *at(TLSA, HOSTS, [HOST, "mx2.client.example"], ["*.client.example"]),
    *at(HEARTBEAT, STRINGS, [RECORD]),
    *at(HEARTBEAT, HOSTS, [HOST]),
    # what was obtained of a policy is told
    *at(STS, STRINGS, ...),
    *at(STS, HOSTS, ...),
    *at(UPDATE, STRINGS, ...),
    *at(UPDATE, HOSTS, ...),
    *at(UNFETCHED, (*SUMMARY, "total-successful-session-count"), 1),
    *at(UNFETCHED, HOSTS, [HOST]),
    *at(UNFETCHED, FAILURES, [FAILURE]),
    *at(INVALID, FAILURES, [FAILURE]),
    *at(UNKNOWN, (*SUMMARY, "total-successful-session-count"), 1),
    *at(UNKNOWN, FAILURES, [FAILURE]),
    *at(UNKNOWN, (*POLICY, "policy-type"), "sts"),
    # counts
    *at(STS, SUMMARY, counts(0, 0), counts(-1, 1), counts(2**53, 0), counts(5, -1), counts(1, 2**53)),
    *at(STS, FAILED, "2", 2.5, True, None),
    *at(STS, COUNT, 0, -1, "2", 2.5, True, None, 2**53),
    *at(STS, FAILURES, []),  # of two that failed
    # failures
    *at(STS, FAILURES, FAILURE, [FAILURE, FAILURE]),
    *at(STS, TYPES, "tls-failure", "Certificate-Expired", "sts-policy-missing", "", *DANE_TYPES),
    *at(PLAIN, TYPES, *DANE_TYPES),
    *at(TLSA, DETAIL, *({**FETCH_ERROR, "result-type": word} for word in STS_TYPES)),
    *at(PLAIN, DETAIL, *({**FETCH_ERROR, "result-type": word} for word in STS_TYPES)),
    *at(STS, (*DETAIL, "sending-mta-ip"), *NO_ADDRESSES),
    *at(STS, (*DETAIL, "receiving-ip"), *NO_ADDRESSES),
    *at(STS, (*DETAIL, "receiving-mx-hostname"), *NO_DOMAINS),
    *at(STS, (*DETAIL, "receiving-mx-helo"), "", "a b", "a\r\nb", "a\x00", "a\x7f"),
    *at(STS, (*DETAIL, "additional-information"), "", "a", "//a", "1a:b", "a:b c", "a:%", "a:%4", "a:ä", "a:<"),
    *at(STS, (*DETAIL, "failure-reason-code"), "", " ", "a\nb", "a\x1b[0m", "a\x7f", ...),
    *at(STS, DETAIL, {**NO_TLS, "result-type": "validation-failure"}),
    *((STS, (*DETAIL, name), ...) for name in ("receiving-mx-hostname", "result-type", "failed-session-count")),
    *((UPDATE, (*DETAIL, name), FAILURE[name]) for name in OF_MTA),
    # names of members
    *at(STS, (*DETAIL, "additional-info-uri"), "https://sender.example/"),
    *at(STS, (*POLICY, "mx-host-pattern"), [HOST]),
    *at(STS, ("date-range",), {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T23:59:59Z"}),
]


def test_a_wrong_report_is_refused() -> None:
    assert [(path, new) for data, path, new in WRONG if VALIDATOR.is_valid(changed(data, path, new))] == []


def wrong_by_rule() -> Iterator[Any]:
    """Reports with one value of another type, one member too many, or one that they need missing."""
    optional = {"mx-host", "policy-string", *FAILURE} - {"result-type", "failed-session-count", "failure-reason-code"}
    for data in RIGHT:
        for path, value in places(data):
            for stray in ({"surprise": 1}, 1.5, [[5]], None, True):
                yield changed(data, path, stray) if path else stray
            if isinstance(value, dict):
                more = {**value, "surprise": 5}
                yield changed(data, path, more) if path else more
            if path and isinstance(path[-1], str) and path[-1] not in optional | {"failure-reason-code"}:
                yield changed(data, path, ...)


def test_no_value_may_be_of_any_type_and_no_member_missing_or_added() -> None:
    assert [json.dumps(data)[:2000] for data in wrong_by_rule() if VALIDATOR.is_valid(data)] == []


# --- every rule of the schema is there for something

SILENT = {"$schema", "$ref", "$defs", "title", "description"}
STRUCTURE = {"properties", "items", "allOf", "anyOf", "if", "then", "else"}  # without them their rules are gone


def rules(schema: Any, path: Place = ()) -> Iterator[Place]:
    """The places of all rules of the schema."""
    if isinstance(schema, dict):
        named = bool(path) and path[-1] in {"properties", "$defs"}  # its keys are names and no keywords
        for key, value in schema.items():
            if not named and key not in SILENT | STRUCTURE:
                yield (*path, key)
            if named or key not in {"enum", "const", "required"}:
                yield from rules(value, (*path, key))
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from rules(value, (*path, number))


def broken(errors: Iterable[jsonschema.ValidationError]) -> Iterator[tuple[int, str]]:
    """The rules that a report breaks: which object of the schema, and the keyword there."""
    for error in errors:
        if error.context:
            yield from broken(error.context)
        yield id(error.schema), str(error.validator)


def test_without_any_of_its_rules_the_schema_judges_another_report() -> None:
    judged = [(data, True) for data in RIGHT]
    judged += [(changed(STS, (*DETAIL, "receiving-ip"), address), True) for address in ADDRESSES]
    judged += [(changed(data, path, new), False) for data, path, new in WRONG]
    judged += [(data, False) for data in wrong_by_rule()]
    breaking: dict[tuple[int, str], list[tuple[Any, bool]]] = {}  # where a rule is most likely missed
    for data, valid in judged:
        for rule in broken(VALIDATOR.iter_errors(data)):
            breaking.setdefault(rule, []).append((data, valid))
    idle = []
    for path in rules(SCHEMA):
        place: Any = SCHEMA
        for key in path[:-1]:
            place = place[key]
        without = jsonschema.Draft202012Validator(changed(SCHEMA, path, ...))
        first = breaking.get((id(place), str(path[-1])), [])
        if all(without.is_valid(data) is valid for data, valid in [*first[:20], *judged]):
            idle.append(path)
    assert idle == []
