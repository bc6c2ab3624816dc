"""The corpus: every vector passes, every file has the documented form, and the runner can tell right from wrong."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from mailtlspolicy.testing.vectors import Vector, difference, load, run

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
CORPUS = list(load([VECTORS]))
FILES = sorted({path for path in VECTORS.glob("*.json") if "vectors" in json.loads(path.read_text("utf-8"))})


@pytest.mark.parametrize("vector", CORPUS, ids=[vector.id for vector in CORPUS])
def test_vector(vector: Vector) -> None:
    assert run(vector) is None


SCHEMA = json.loads((VECTORS / "schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    assert jsonschema.validators.validator_for(SCHEMA) is type(VALIDATOR)
    VALIDATOR.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_file_has_the_form_of_the_schema(path: Path) -> None:
    errors = VALIDATOR.iter_errors(json.loads(path.read_text("utf-8")))
    assert [f"{error.json_path}: {error.message[:200]}" for error in errors] == []


def test_ids_are_unique() -> None:
    assert [name for name, count in Counter(vector.id for vector in CORPUS).items() if count > 1] == []


def test_every_clause_cited_is_in_the_table() -> None:
    known = set()
    for path in VECTORS.glob("clauses*.tsv"):
        with path.open(encoding="utf-8", newline="") as file:
            known |= {row["id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    cited = {(vector.id, clause) for vector in CORPUS for clause in vector.data["clauses"]}
    assert cited
    assert [pair for pair in sorted(cited) if pair[1] not in known] == []


def test_the_certificates_are_what_their_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_certificates", VECTORS / "make_certificates.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)  # dataclasses look their module up
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "OUTPUT", tmp_path)
    script.main()

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert contents(tmp_path) == contents(VECTORS / "certificates")


# --- the schema refuses what is no vector


def is_vector(data: Any) -> bool:
    return bool(VALIDATOR.is_valid({"title": "t", "vectors": [data]}))


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value in a JSON value, itself first, with the path to it."""
    yield path, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a JSON value with another value at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new) if len(path) > 1 else new
    return copy


NAMED = {"zones", "https", "cache", "servers", "by_sni", "replies"}  # objects whose keys are names, addresses or ports


def _kind(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """A path without positions and names."""
    kind: list[str] = []
    for key in path:
        anonymous = isinstance(key, int) or (kind and kind[-1] in NAMED)
        kind.append("*" if anonymous else str(key))
    return tuple(kind)


def _examples() -> dict[tuple[Any, ...], tuple[dict[str, Any], tuple[str | int, ...], Any]]:
    """For each kind of place in the corpus, and each question, a vector that has it; for words, one a word."""
    found: dict[tuple[Any, ...], tuple[dict[str, Any], tuple[str | int, ...], Any]] = {}
    for vector in CORPUS:
        question = next(iter(vector.data.get("ask", {"": 0})))
        for path, value in places(dict(vector.data)):
            form = value if path and path[-1] in WORDS and isinstance(value, str) else type(value).__name__
            found.setdefault((question, _kind(path), form), (dict(vector.data), path, value))
    return found


WORDS = {
    *("kind", "reason", "refused", "failure", "tlsrpt", "result", "security", "mechanism"),
    *("level", "mode", "source", "connect", "starttls", "certificate", "error", "type"),
    *("dane", "insecure_mx", "address_families", "ip_versions", "sts", "sts_with_dane", "sts_on_dns_error"),
    *("sts_media_type", "opportunistic_sni", "max_policy_octets", "max_fetch_seconds"),
    *("cleartext_retry", "retry_seconds", "max_attempts", "outcome", "drop_after", "greeting", "mail", "ret"),
    *("scheme", "unreadable", "extension", "dpv"),
}  # keys whose texts are words of the format
WRITTEN = {
    *WORDS,
    *("at", "now", "fetched", "checked", "used", "expires", "location", "next", "day", "uri"),
}  # these have a form too
EXAMPLES = _examples()


def test_no_object_of_a_vector_takes_a_key_that_there_is_not() -> None:
    taken = [
        (vector["id"], path)
        for vector, path, value in EXAMPLES.values()
        if isinstance(value, dict) and is_vector(changed(vector, path, {**value, "surprise": 5}))
    ]
    assert taken == []


def test_no_value_of_a_vector_may_be_of_any_type() -> None:
    strays: tuple[Any, ...] = ({"surprise": 1}, 1.5, [[5]])
    taken = [
        (vector["id"], path, stray)
        for vector, path, _ in EXAMPLES.values()
        for stray in strays
        if is_vector(changed(vector, path, stray))
    ]
    assert taken == []


def test_no_word_or_time_of_a_vector_may_be_another() -> None:
    taken = [
        (vector["id"], path)
        for vector, path, value in EXAMPLES.values()
        if path and path[-1] in WRITTEN and isinstance(value, str) and vector.get("expect") != {"misuse": True}
        if path != ("ask", "tlsrpt")  # a domain there, a result type elsewhere
        if is_vector(changed(vector, path, "surprise"))
    ]
    assert taken == []


POLICY = "version: STSv1\nmode: enforce\nmx: mx.client.test\nmax_age: 86400\n"
HEAD = {"id": "v", "title": "A sentence.", "clauses": ["RFC8461-3.1-a"], "why": "because"}
STS_WORLD: dict[str, Any] = {
    "zones": {"client.test": {"security": "insecure", "records": ["@ MX 10 mx"]}},
    "https": {"mta-sts.client.test": {"content_type": "text/plain", "body": POLICY}},
    "cache": {"client.test": {"id": "1", "fetched": "2026-01-01T00:00:00Z", "policy": POLICY}},
}
FAILED = {"id": "1", "at": "2026-01-01T00:00:00Z", "failure": "fetch-error"}
GET = "GET https://mta-sts.client.test/.well-known/mta-sts.txt"
PLANNED: dict[str, Any] = {
    **HEAD,
    "world": {"now": "2026-01-01T00:00:00Z", **STS_WORLD},
    "ask": {"plan": "client.test", "settings": {"sts_with_dane": "both"}},
    "expect": {
        "sts": {"mode": "enforce", "id": "1", "source": "cached", "expires": "2026-01-02T00:00:00+00:00"},
        "hosts": [{"level": "dane", "requires": ["dane", "pkix"], "pkix_name": "mx.client.test", "sts_match": True}],
    },
    "queries": {"asked": ["_mta-sts.client.test TXT"], "not_asked": [GET]},
}
STEPS: dict[str, Any] = {
    **HEAD,
    "timeline": [
        {"at": "2026-01-01T00:00:00Z", "world": STS_WORLD, "ask": {"plan": "client.test"}, "expect": {"hosts": []}},
        {"at": "2026-01-02T00:00:00Z", "ask": {"cached": "client.test"}, "expect": {"entry": None}},
        {"at": "2026-01-03T00:00:00Z", "ask": {"refresh": True}, "expect": {"refreshed": ["client.test"]}},
    ],
}
RECORD = {**HEAD, "ask": {"sts_record": ["v=STSv1; id=", {"hex": "61"}]}, "expect": {"id": "a", "warnings": []}}
READ = {
    **HEAD,
    "ask": {"sts_policy": POLICY},
    "expect": {"mode": "enforce", "mx": ["mx.client.test"], "max_age": 86400},
}
ALLOWS = {**HEAD, "ask": {"sts_allows": {"policy": POLICY, "mx": "mx.client.test"}}, "expect": {"allows": True}}

SERVERS: dict[str, Any] = {
    "192.0.2.1": {
        "25": {
            "greeting": "220 ready",
            "starttls": "refused",
            "replies": {"RCPT": [250, "550 5.1.1 no"], ".": 250},
            "drop_after": ".",
            "behind_starttls": "250 ok",
            "extensions": ["SIZE 1000"],
            "tls": {"replies": {"MAIL": 451}, "drop_after": "DATA", "extensions": ["REQUIRETLS"]},
            "requiretls": True,
        }
    }
}
FAILED_ATTEMPT: dict[str, Any] = {
    "host": "mx.client.test",
    "address": "192.0.2.1",
    "result": "tempfailed",
    "cleartext": False,
    "security": None,
    "status": "4.4.2",
    "tlsrpt": None,
    "requiretls": False,
}
SIMULATED: dict[str, Any] = {
    **HEAD,
    "world": {"now": "2026-01-01T00:00:00Z", **STS_WORLD, "servers": SERVERS},
    "ask": {
        "simulate": "client.test",
        "message": {"sender": "", "recipients": ["a@client.test"], "requiretls": True, "tls_optional": True},
        "settings": {"cleartext_retry": "later", "retry_seconds": "60", "max_attempts": "2"},
    },
    "expect": {
        "outcome": "deferred",
        "host": None,
        "security": None,
        "status": "4.4.2",
        "attempts": [FAILED_ATTEMPT, {"result": "skipped", "address": None}],
        "recipients": [{"recipient": "a@client.test", "outcome": "deferred", "status": "4.4.2", "reply": None}],
        "retry": {"at": "2026-01-01T00:01:00+00:00", "same_address": False},
        "duplicate_possible": True,
        "cleartext_retry": ["mx.client.test"],
        "plan": {"requiretls": True, "tls_optional": False},
    },
}
AGAIN: dict[str, Any] = {
    **HEAD,
    "timeline": [
        {
            "at": "2026-01-01T00:00:00Z",
            "world": {**STS_WORLD, "servers": SERVERS},
            "ask": {"simulate": "client.test"},
            "expect": {"outcome": "deferred"},
        },
        {
            "at": "2026-01-01T00:30:00Z",
            "ask": {"simulate": "client.test", "again": True, "message": {"tls_optional": True}},
            "expect": {"outcome": "delivered", "security": "cleartext"},
        },
    ],
}
TAGS = {
    **HEAD,
    "ask": {"tags": {"parameters": ["REQUIRETLS"], "header": "TLS-Required: No\r\n"}},
    "expect": {"requiretls": True, "tls_optional": False},
}
NOTIFIED = {
    **HEAD,
    "ask": {"notification": {"requiretls": True, "ret": "FULL"}},
    "expect": {"sender": "", "requiretls": True, "ret": "HDRS"},
}
REPORTED: dict[str, Any] = {
    **HEAD,
    "world": {"now": "2026-01-01T00:00:00Z", **STS_WORLD, "source": ["198.51.100.1", "2001:db8::1"]},
    "ask": {"report": "client.test", "message": {"tls_report": False}, "settings": {"dane": "off"}},
    "expect": {
        "reports": [
            {
                "domain": "client.test",
                "day": "2026-01-01",
                "report": {
                    "date-range": {"start-datetime": "2026-01-01T00:00:00Z"},
                    "policies": [
                        {
                            "policy": {"policy-type": "sts", "policy-domain": "client.test", "mx-host": ["mx.test"]},
                            "summary": {"total-successful-session-count": 0, "total-failure-session-count": 1},
                            "failure-details": [{"result-type": "certificate-expired", "failed-session-count": 1}],
                        }
                    ],
                },
            }
        ]
    },
    "queries": {"asked": ["client.test MX"]},
}
SEVERAL = {
    **REPORTED,
    "ask": {
        "report": [{"next_hop": "client.test", "message": {"tls_report": True}, "times": 2}, {"next_hop": "x.test"}]
    },
}
COUNTED: dict[str, Any] = {
    **HEAD,
    "timeline": [
        {
            "at": "2026-01-01T00:00:00Z",
            "world": STS_WORLD,
            "ask": {"report": "client.test"},
            "expect": REPORTED["expect"],
        },
        {
            "at": "2026-01-01T00:30:00Z",
            "ask": {"report": "client.test", "again": True},
            "expect": {"reports": []},
        },
    ],
}
TOLD: dict[str, Any] = {
    **HEAD,
    "world": PLANNED["world"],
    "ask": {"datagram": "client.test", "message": {"requiretls": True}},
    "expect": {
        "datagrams": [
            {
                "dpv": "1",
                "d": "client.test",
                "pr": "v=TLSRPTv1; rua=mailto:a@client.test",
                "policies": [
                    {"policy-type": 9, "policy-domain": "client.test", "t": 0, "f": 0},
                    {
                        "policy-type": 2,
                        "policy-domain": "client.test",
                        "failure-details": [{"c": 301, "f": "fetch-error"}],
                        "t": 1,
                        "f": 1,
                    },
                ],
            }
        ]
    },
}
MAILBOX = {"scheme": "mailto", "mailbox": "a@x.test", "uri": "mailto:a@x.test"}
URL = {"scheme": "https", "url": "https://x.test/r", "uri": "https://x.test/r"}
ASKS = {
    **HEAD,
    "ask": {"tlsrpt_record": ["v=TLSRPTv1; rua=mailto:a@x.test,https://x.test/r"]},
    "expect": {"rua": ["mailto:a@x.test", "https://x.test/r"], "destinations": [MAILBOX, URL]},
}
FOUND: dict[str, Any] = {
    **HEAD,
    "world": PLANNED["world"],
    "ask": {"tlsrpt": "client.test"},
    "expect": {"domain": "client.test", "record": {"destinations": []}, "failure": None},
    "queries": {"asked": ["_smtp._tls.client.test TXT"]},
}
RECEIVED: dict[str, Any] = {
    **HEAD,
    "ask": {"read_report": "{}"},
    "expect": {"report": {"policies": [{"policy": {"policy-type": "x"}}]}, "remarks": ["unknown-policy-type"]},
}
MAILED: dict[str, Any] = {
    **HEAD,
    "ask": {"read_report_mail": "Subject: a\r\n\r\n"},
    "expect": {"report": {}, "domain": "y.test", "subject": {"report_id": "1@x.test"}, "file_name": {"begin": 1}},
}
NAMED_FILE = {
    **HEAD,
    "ask": {"report_file_name": "x.test!y.test!1!2.json"},
    "expect": {"sender": "x.test", "begin": 1, "unique_id": None, "extension": "json"},
}
TITLED = {**HEAD, "ask": {"report_subject": "a"}, "expect": {"malformed": True}}
SUBMITTED: dict[str, Any] = {
    **HEAD,
    "ask": {
        "submission": {"destinations": ["https://x.test/r"], "tries": [{"at": "2026-01-01T00:00:00Z", "accepted": []}]}
    },
    "expect": {"delivered": False, "given_up": False, "next": "2026-01-01T00:15:00+00:00"},
}
OF_REPORTS = [REPORTED, SEVERAL, COUNTED, TOLD, ASKS, FOUND, RECEIVED, MAILED, NAMED_FILE, TITLED, SUBMITTED]
REPORT = ("expect", "reports", 0, "report")
COUNTS = (*REPORT, "policies", 0)
TOLD_OF = ("expect", "datagrams", 0, "policies")


@pytest.mark.parametrize("data", [PLANNED, STEPS, RECORD, READ, ALLOWS, SIMULATED, AGAIN, TAGS, NOTIFIED, *OF_REPORTS])
def test_the_schema_takes_a_vector(data: dict[str, Any]) -> None:
    assert is_vector(data)


@pytest.mark.parametrize(
    ("data", "path", "new"),
    [
        # a question
        (PLANNED, ("ask",), {"plan": "client.test", "check": "client.test"}),
        (PLANNED, ("ask",), {"refresh": True}),  # a question of timelines
        (PLANNED, ("ask",), {"cached": "client.test"}),
        (PLANNED, ("expect",), {"allows": True}),
        (PLANNED, ("timeline",), STEPS["timeline"]),
        (PLANNED, ("world",), STS_WORLD),  # without a time
        (ALLOWS, ("world",), PLANNED["world"]),
        (ALLOWS, ("expect",), {"misuse": True}),
        (ALLOWS, ("queries",), {"asked": [GET]}),
        # settings
        (PLANNED, ("ask", "settings"), {}),
        (PLANNED, ("ask", "settings", "sts"), "yes"),
        (PLANNED, ("ask", "settings", "sts_with_dane"), "audit"),
        (PLANNED, ("ask", "settings", "sts_on_dns_error"), "wait"),
        (PLANNED, ("ask", "settings", "sts_media_type"), "ignored"),
        (PLANNED, ("ask", "settings", "max_policy_octets"), 65536),
        (PLANNED, ("ask", "settings", "max_fetch_seconds"), "1m"),
        # the world
        (PLANNED, ("world", "https", "mta-sts.client.test", "statuscode"), 200),
        (PLANNED, ("world", "https", "mta-sts.client.test", "status"), 99),
        (PLANNED, ("world", "https", "mta-sts.client.test", "certificate"), "self-signed"),
        (PLANNED, ("world", "https", "mta-sts.client.test", "error"), "reset"),
        (PLANNED, ("world", "https", "mta-sts.client.test", "location"), "policy.txt"),
        (PLANNED, ("world", "https", "https://mta-sts.client.test/"), {}),
        (PLANNED, ("world", "cache", "Client.test."), STS_WORLD["cache"]["client.test"]),
        (PLANNED, ("world", "cache", "client.test"), {}),
        (PLANNED, ("world", "cache", "client.test"), {"id": "1", "policy": POLICY}),
        (PLANNED, ("world", "cache", "client.test"), {"failed": []}),
        (PLANNED, ("world", "cache", "client.test"), {"failed": [FAILED] * 9}),
        (PLANNED, ("world", "cache", "client.test"), {"failed": [FAILED], "fetched": "2026-01-01T00:00:00Z"}),
        (PLANNED, ("world", "cache", "client.test"), {"failed": [{**FAILED, "failure": "dns-error"}]}),
        (PLANNED, ("world", "cache", "client.test", "id"), "1;"),
        (PLANNED, ("world", "cache", "client.test", "fetched"), "2026-01-01T00:00:00+00:00"),
        (PLANNED, ("world", "cache", "client.test", "failures"), 1),  # of nothing that failed
        # an answer
        (PLANNED, ("expect", "sts"), {}),
        (PLANNED, ("expect", "sts", "mode"), "report"),
        (PLANNED, ("expect", "sts", "source"), "dns"),
        (PLANNED, ("expect", "sts", "failure"), "validation-failure"),
        (PLANNED, ("expect", "sts", "tlsrpt"), "sts-policy-missing"),
        (PLANNED, ("expect", "sts", "id"), "a-b"),
        (PLANNED, ("expect", "sts", "expires"), "2026-01-02T00:00:00Z"),
        (PLANNED, ("expect", "sts", "detail"), "a text for people"),
        (PLANNED, ("expect", "sts", "mx"), ["MX.client.test"]),
        (PLANNED, ("expect", "sts", "max_age"), 31_557_601),
        (PLANNED, ("expect", "undeliverable"), {"reason": "sts-failed"}),
        (PLANNED, ("expect", "hosts", 0, "level"), "secure"),  # which goes with pkix alone
        (PLANNED, ("expect", "hosts", 0, "level"), "encrypt"),
        (PLANNED, ("expect", "hosts", 0, "requires"), ["pkix", "dane"]),
        (PLANNED, ("expect", "hosts", 0, "requires"), ["pkix"]),
        (PLANNED, ("expect", "hosts", 0, "cleartext"), True),
        (PLANNED, ("expect", "hosts", 0, "skip"), {"reason": "sts-mismatch"}),
        (PLANNED, ("expect", "hosts", 0, "observe"), {"requires": ["sts"]}),
        # queries
        (PLANNED, ("queries", "asked"), ["mta-sts.client.test HTTPS"]),
        (PLANNED, ("queries", "asked"), ["GET http://mta-sts.client.test/"]),
        (PLANNED, ("queries", "asked"), ["HEAD https://mta-sts.client.test/"]),
        (PLANNED, ("queries", "asked"), ["GET TXT"]),
        # timelines
        (STEPS, ("timeline",), []),
        (STEPS, ("ask",), {"plan": "client.test"}),
        (STEPS, ("expect",), {"hosts": []}),
        (STEPS, ("world",), PLANNED["world"]),
        (STEPS, ("queries",), {"asked": [GET]}),
        (STEPS, ("timeline", 0), {"at": "2026-01-01T00:00:00Z", "ask": {"plan": "a.test"}, "expect": {"hosts": []}}),
        (STEPS, ("timeline", 0, "world", "now"), "2026-01-01T00:00:00Z"),
        (STEPS, ("timeline", 1, "world"), STS_WORLD),  # "cache" fills the store, which is not empty any more
        (STEPS, ("timeline", 1), {"ask": {"cached": "client.test"}, "expect": {"entry": None}}),
        (STEPS, ("timeline", 1), {"at": "2026-01-02T00:00:00Z", "ask": {"cached": "client.test"}}),
        (STEPS, ("timeline", 1, "ask"), {"canonical": "client.test"}),
        (STEPS, ("timeline", 1, "expect"), {"entry": {}}),
        (STEPS, ("timeline", 1, "expect"), {"entry": {"fetched": "2026-01-01T00:00:00Z"}}),
        (STEPS, ("timeline", 1, "expect"), {"entry": {"failed": [{"failure": "record-missing"}]}}),
        (STEPS, ("timeline", 1, "queries"), {"not_asked": [GET]}),
        (STEPS, ("timeline", 2, "ask"), {"refresh": "client.test"}),
        (STEPS, ("timeline", 2, "expect"), {}),
        (STEPS, ("timeline", 2, "expect", "failed"), [{}]),
        (STEPS, ("timeline", 2, "expect", "failed"), [{"domain": "client.test", "mode": "none"}]),
        (STEPS, ("timeline", 2, "expect", "failed"), [{"domain": "client.test", "remaining": -1}]),
        # parsers
        (RECORD, ("ask",), {"sts_record": "v=STSv1; id=a"}),
        (RECORD, ("ask", "sts_record"), [{"hex": "a"}]),
        (RECORD, ("expect",), {"id": "a", "refused": "id-invalid"}),
        (RECORD, ("expect",), {"id": "a", "offset": 9}),
        (RECORD, ("expect",), {"refused": "mode-invalid"}),  # a word of policies
        (RECORD, ("expect", "warnings"), [{"kind": "duplicate-mx"}]),
        (RECORD, ("expect", "warnings"), [{"offset": 0}]),
        (READ, ("ask", "sts_policy"), {"hex": "61", "text": "a"}),
        (READ, ("expect",), {"refused": "id-invalid", "offset": 0}),
        (READ, ("expect",), {"refused": "empty", "offset": -1}),
        (READ, ("expect", "mode"), None),
        (READ, ("expect", "mx"), ["mx.client.test."]),
        (READ, ("expect", "mx"), ["mx.client.test", "mx.client.test"]),
        (READ, ("expect", "warnings"), [{"kind": "blank-before-delimiter"}]),
        (ALLOWS, ("ask", "sts_allows"), {"policy": POLICY}),
        (ALLOWS, ("expect", "allows"), None),
        # deliveries
        (SIMULATED, ("world",), {"now": "2026-01-01T00:00:00"}),
        (SIMULATED, ("ask", "again"), True),  # of timelines alone
        (SIMULATED, ("ask", "message"), {}),
        (SIMULATED, ("ask", "message", "recipients"), []),
        (SIMULATED, ("ask", "message", "recipients"), ["a", "a"]),
        (SIMULATED, ("ask", "message", "requiretls"), "yes"),
        (SIMULATED, ("ask", "message", "content"), ""),
        (SIMULATED, ("ask", "settings", "cleartext_retry"), "always"),
        (SIMULATED, ("ask", "settings", "retry_seconds"), 60),
        (SIMULATED, ("ask",), {"plan": "client.test", "simulate": "client.test"}),
        (SIMULATED, ("expect", "outcome"), "rejected"),
        (SIMULATED, ("expect", "outcome"), "delivered"),  # which goes with no 4.x.x
        (SIMULATED, ("expect", "outcome"), "bounced"),
        (SIMULATED, ("expect", "host"), "mx.client.test"),  # nobody took it
        (SIMULATED, ("expect", "security"), "verified"),
        (SIMULATED, ("expect", "status"), "5.4.2"),
        (SIMULATED, ("expect", "status"), "4.4"),
        (SIMULATED, ("expect", "attempts", 0, "result"), "ok"),
        (SIMULATED, ("expect", "attempts", 0, "address"), None),
        (SIMULATED, ("expect", "attempts", 0, "security"), "untrusted"),
        (SIMULATED, ("expect", "attempts", 0, "detail"), "a text for people"),
        (SIMULATED, ("expect", "attempts", 0, "transcript"), []),
        (SIMULATED, ("expect", "attempts", 1, "address"), "192.0.2.1"),
        (SIMULATED, ("expect", "recipients", 0, "outcome"), "bounced"),
        (SIMULATED, ("expect", "retry", "at"), "2026-01-01T00:01:00Z"),
        (SIMULATED, ("expect", "retry", "same_address"), None),
        (SIMULATED, ("expect", "cleartext_retry"), None),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "replies"), {"NOOP": 250}),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "replies", "RCPT"), []),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "replies", "."), [250]),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "replies", "."), 150),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "replies", "."), "25 ok"),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "drop_after"), "QUIT"),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "behind_starttls"), ""),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "tls"), {"starttls": "ok"}),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "tls", "drop_after"), "connect"),
        (SIMULATED, ("world", "servers", "192.0.2.1", "25", "requiretls"), "yes"),
        (AGAIN, ("timeline", 0, "ask", "again"), True),  # of no try before
        (AGAIN, ("timeline", 1, "ask", "again"), False),
        (AGAIN, ("timeline", 1, "ask"), {"plan": "client.test", "again": True}),
        (TAGS, ("ask", "tags"), {"parameters": ["REQUIRETLS"]}),
        (TAGS, ("ask", "tags", "parameters"), "REQUIRETLS"),
        (TAGS, ("expect",), {"requiretls": True, "tls_optional": True}),
        (NOTIFIED, ("ask", "notification", "ret"), "NONE"),
        (NOTIFIED, ("expect", "sender"), "a@sender.test"),
        # reports that are made
        (PLANNED, ("ask", "message"), {"tls_report": True}),  # a plan is asked for by no report
        (REPORTED, ("world",), {"now": "2026-01-01T00:00:00Z"}),
        (REPORTED, ("world", "source"), []),
        (REPORTED, ("world", "source"), ["sender.example"]),
        (REPORTED, ("world", "source"), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        (REPORTED, ("ask", "message", "tls_report"), "yes"),
        (REPORTED, ("ask", "report"), []),
        (REPORTED, ("ask", "report"), [{"next_hop": "client.test"}]),  # beside one message for all
        (REPORTED, ("ask", "again"), True),
        (REPORTED, ("expect",), {}),
        (REPORTED, ("expect",), {"datagrams": []}),
        (REPORTED, ("expect", "reports", 0), {"domain": "client.test", "report": {}}),
        (REPORTED, ("expect", "reports", 0, "day"), "2026-01-01T00:00:00Z"),
        (REPORTED, REPORT, {}),
        (REPORTED, (*REPORT, "report_id"), "1"),
        (REPORTED, (*REPORT, "date-range", "start-datetime"), "2026-01-01T00:00:00+00:00"),
        (REPORTED, (*REPORT, "policies"), []),
        (REPORTED, COUNTS, {"policy": {"policy-type": "sts"}}),
        (REPORTED, (*COUNTS, "policy"), {"policy-type": "sts"}),
        (REPORTED, (*COUNTS, "policy", "policy-type"), "dane"),
        (REPORTED, (*COUNTS, "policy", "mx-host"), "mx.test"),
        (REPORTED, (*COUNTS, "summary"), {"total-failure-session-count": 1}),
        (REPORTED, (*COUNTS, "summary", "total-failure-session-count"), "1"),
        (REPORTED, (*COUNTS, "summary", "total-failure-session-count"), -1),
        (REPORTED, (*COUNTS, "failure-details"), []),  # of one that failed
        (REPORTED, (*COUNTS, "failure-details"), [{"result-type": "certificate-expired"}]),
        (REPORTED, (*COUNTS, "failure-details", 0, "result-type"), "sts-fetch-error"),
        (REPORTED, (*COUNTS, "failure-details", 0, "failed-session-count"), 0),
        (REPORTED, (*COUNTS, "failure-details", 0, "additional-information"), "https://x.test/"),
        (SEVERAL, ("ask", "report", 0, "times"), 0),
        (SEVERAL, ("ask", "report", 0), {"times": 1}),
        (SEVERAL, ("ask", "report", 0, "at"), "2026-01-01"),
        (SEVERAL, ("ask", "report", 0, "settings"), {"dane": "off"}),
        (COUNTED, ("timeline", 0, "ask"), {"datagram": "client.test"}),
        (COUNTED, ("timeline", 0, "expect"), {"entry": None}),
        (COUNTED, ("timeline", 1, "ask", "report"), [{"next_hop": "client.test"}]),  # again, but which of them
        (TOLD, ("world",), {}),
        (TOLD, ("expect", "datagrams", 0, "dpv"), 1),
        (TOLD, ("expect", "datagrams", 0), {"d": "client.test"}),
        (TOLD, TOLD_OF, []),
        (TOLD, (*TOLD_OF, 0, "policy-type"), "tlsa"),
        (TOLD, (*TOLD_OF, 0, "policy-type"), 3),
        (TOLD, (*TOLD_OF, 0, "f"), 1),  # without a detail
        (TOLD, (*TOLD_OF, 0, "f"), False),
        (TOLD, (*TOLD_OF, 0, "failure-details"), []),
        (TOLD, (*TOLD_OF, 1, "t"), 0),
        (TOLD, (*TOLD_OF, 1, "failure-details", 0, "c"), 206),
        (TOLD, (*TOLD_OF, 1, "failure-details", 0), {"f": "fetch-error"}),
        # records that ask for them
        (ASKS, ("world",), PLANNED["world"]),
        (ASKS, ("ask", "tlsrpt_record"), "v=TLSRPTv1; rua=mailto:a@x.test"),
        (ASKS, ("expect",), {"refused": "id-invalid"}),
        (ASKS, ("expect",), {"refused": "rua-missing", "offset": -1}),
        (ASKS, ("expect",), {"misuse": True}),
        (ASKS, ("expect", "text"), "v=TLSRPTv1 ; rua=mailto:a@x.test"),
        (ASKS, ("expect", "rua"), []),
        (ASKS, ("expect", "rua"), ["mailto:a@x.test", "mailto:a@x.test"]),
        (ASKS, ("expect", "destinations"), [MAILBOX, MAILBOX]),
        (ASKS, ("expect", "destinations"), [{**URL, "uri": f"https://x.test/{number}"} for number in range(11)]),
        (ASKS, ("expect", "destinations", 0, "url"), "mailto:a@x.test"),
        (ASKS, ("expect", "destinations", 0, "mailbox"), "a"),
        (ASKS, ("expect", "destinations", 1, "mailbox"), "a@x.test"),
        (ASKS, ("expect", "destinations", 1, "scheme"), "http"),
        (FOUND, ("world",), {}),
        (FOUND, ("expect",), {"domain": "client.test"}),
        (FOUND, ("expect", "failure"), "dns-error"),  # with a record
        (FOUND, ("expect", "failure"), "record-missing"),
        (FOUND, ("expect", "detail"), "a text for people"),
        # reports that are read
        (RECEIVED, ("expect",), {}),
        (RECEIVED, ("expect", "unreadable"), "not-json"),
        (RECEIVED, ("expect",), {"unreadable": "not-xml"}),
        (RECEIVED, ("expect", "remarks"), ["strange"]),
        (RECEIVED, ("expect", "remarks"), ["wrong-type", "wrong-type"]),
        (RECEIVED, ("expect", "report", "domain"), "client.test"),  # which the document does not say
        (RECEIVED, ("expect", "report", "policies"), {}),
        (RECEIVED, ("expect", "report", "policies", 0, "summary"), {"total-failure-session-count": "1"}),
        (MAILED, ("expect", "domain"), "Y.test"),
        (MAILED, ("expect", "subject"), {}),
        (MAILED, ("expect", "subject"), {"malformed": True}),  # that is null here
        (MAILED, ("expect", "subject", "report_id"), "<1@x.test>"),
        (MAILED, ("expect", "file_name", "begin"), "1"),
        (NAMED_FILE, ("expect", "malformed"), True),
        (NAMED_FILE, ("expect",), {}),
        (NAMED_FILE, ("expect", "begin"), -1),
        (NAMED_FILE, ("expect", "unique_id"), ""),
        (NAMED_FILE, ("expect", "extension"), "gz"),
        (TITLED, ("expect", "malformed"), False),
        (TITLED, ("expect", "domain"), "y.test"),
        # and their submission
        (SUBMITTED, ("ask", "submission", "destinations"), ["https://x.test/r", "https://x.test/r"]),
        (SUBMITTED, ("ask", "submission", "tries", 0), {"at": "2026-01-01T00:00:00Z"}),
        (SUBMITTED, ("ask", "submission", "tries", 0, "accepted"), True),
        (SUBMITTED, ("expect",), {}),
        (SUBMITTED, ("expect", "delivered"), True),  # and tried again
        (SUBMITTED, ("expect", "given_up"), True),
        (SUBMITTED, ("expect",), {"delivered": True, "given_up": True}),
        (SUBMITTED, ("expect", "next"), "2026-01-01T00:15:00Z"),
    ],
)
def test_the_schema_refuses(data: dict[str, Any], path: tuple[str | int, ...], new: Any) -> None:
    assert not is_vector(changed(data, path, new))


# --- the runner itself

EE = "3 1 1 " + "a1" * 32
WORLD = {
    "now": "2026-01-01T00:00:00Z",
    "zones": {"client.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}"]}},
}


def vector(ask: dict[str, Any], expect: Any, **more: Any) -> Vector:
    return Vector({"id": "v", "world": WORLD, "ask": ask, "expect": expect, **more}, VECTORS)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": {"b": [1, {"c": None, "d": 1}]}}, {"a": {"b": [1, {"c": None}]}}),
        ([], []),
        (True, True),
        (0, 0),
    ],
)
def test_an_expectation_is_contained_in_the_answer(got: object, want: object) -> None:
    assert difference(got, want) is None


@pytest.mark.parametrize(
    ("got", "want", "where"),
    [
        ({"a": 1}, {"b": 1}, "$.b"),
        ({"a": {}}, {"a": {"b": None}}, "$.a.b"),  # a missing key is not a null
        ({"a": [1, 2]}, {"a": [1]}, "$.a"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "$.a[1]"),
        ({"a": None}, {"a": []}, "$.a"),
        ({"a": []}, {"a": {}}, "$.a"),
        (1, True, "$"),  # Python holds them equal, JSON does not
        (0, False, "$"),
        (None, False, "$"),
        ("1", 1, "$"),
    ],
)
def test_a_difference_names_its_place(got: object, want: object, where: str) -> None:
    found = difference(got, want)
    assert found is not None
    assert found.partition(": ")[0] == where


def test_a_wrong_expectation_fails_and_a_right_one_passes() -> None:
    assert run(vector({"plan": "client.test"}, {"hosts": [{"level": "dane"}]})) is None
    assert "level" in str(run(vector({"plan": "client.test"}, {"hosts": [{"level": "may"}]})))
    assert run(vector({"plan": "client.test", "settings": {"dane": "off"}}, {"hosts": [{"level": "may"}]})) is None


def test_misuse_is_expected_or_a_failure() -> None:
    for text in ("user@client.test", ""):
        assert run(vector({"plan": text}, {"misuse": True})) is None
        assert run(vector({"plan": text}, {"hosts": []})) is not None
    assert run(vector({"plan": "client.test"}, {"misuse": True})) is not None


@pytest.mark.parametrize(
    ("queries", "passes"),
    [
        ({"asked": ["client.test MX", "_25._tcp.mx.client.test TLSA"]}, True),
        ({"asked": ["client.test A"]}, False),
        ({"not_asked": ["client.test A"]}, True),
        ({"not_asked": ["client.test MX"]}, False),
        ({"before": [["mx.client.test A", "_25._tcp.mx.client.test TLSA"]]}, True),
        ({"before": [["_25._tcp.mx.client.test TLSA", "mx.client.test A"]]}, False),
        ({"before": [["client.test A", "client.test MX"]]}, False),
    ],
)
def test_the_questions_asked_are_checked(queries: Any, *, passes: bool) -> None:
    assert (run(vector({"plan": "client.test"}, {}, queries=queries)) is None) is passes


def test_a_file_without_vectors_is_refused_by_name_and_passed_over_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "one.json").write_text(json.dumps({"title": "t", "vectors": [{"id": "a"}, {"id": "b"}]}))
    assert [found.id for found in load([tmp_path])] == ["a", "b"]
    with pytest.raises(ValueError, match="no vectors"):
        list(load([tmp_path / "schema.json"]))


# --- timelines


def timeline(*steps: dict[str, Any]) -> Vector:
    """A vector of steps, a minute apart where they do not say when."""
    numbered = ({"at": f"2026-01-01T00:{number:02}:00Z", **step} for number, step in enumerate(steps))
    return Vector({"id": "v", "timeline": list(numbered)}, VECTORS)


ANNOUNCED = {"client.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1", '_mta-sts TXT "v=STSv1; id=1;"']}}
SERVED = {"zones": ANNOUNCED, "https": STS_WORLD["https"]}
SILENT = {"zones": ANNOUNCED}
ASK = {"plan": "client.test"}


def sts(**expected: Any) -> dict[str, Any]:
    return {"ask": ASK, "expect": {"sts": expected}}


def test_the_steps_of_a_timeline_share_a_policy_store_and_a_world_stays_until_the_next() -> None:
    steps = (
        {"ask": {"cached": "client.test"}, "expect": {"entry": None}, "world": SERVED},
        sts(source="fetched", expires="2026-01-02T00:01:00+00:00"),  # by the world of the step before
        {**sts(source="cached", failure=None), "world": SILENT},
        {"ask": {"cached": "client.test"}, "expect": {"entry": {"id": "1", "fetched": "2026-01-01T00:01:00+00:00"}}},
        {**sts(mode=None, source=None, failure="fetch-error"), "at": "2026-01-02T00:01:01Z"},
    )
    assert run(timeline(*steps)) is None


def test_the_first_world_of_a_timeline_fills_the_store_and_no_later_one() -> None:
    entry = STS_WORLD["cache"]["client.test"]
    known = {**SILENT, "cache": {"client.test": {**entry, "fetched": "2025-12-31T12:00:00Z"}}}
    first = {**sts(source="cached", expires="2026-01-01T12:00:00+00:00"), "world": known}
    assert run(timeline(first, {**sts(source="cached"), "world": SILENT})) is None
    with pytest.raises(ValueError, match="first world"):
        run(timeline(first, {**sts(source="cached"), "world": known}))
    with pytest.raises(ValueError, match="first world"):
        run(timeline({**sts(source=None), "world": SILENT}, {**sts(source="cached"), "world": known}))


def test_a_refresh_in_a_timeline_works_on_the_store() -> None:
    again = {"ask": {"refresh": True}, "at": "2026-01-01T13:00:00Z"}
    report: dict[str, Any] = {"refreshed": ["client.test"], "failed": [], "dropped": []}
    renewed = {"ask": {"cached": "client.test"}, "expect": {"entry": {"fetched": "2026-01-01T13:00:00+00:00"}}}
    steps = ({**sts(source="fetched"), "world": SERVED}, {**again, "expect": report}, renewed)
    assert run(timeline(*steps)) is None
    assert run(timeline(steps[0], {**again, "at": "2026-01-01T00:01:00Z", "expect": report})) is not None


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_step_that_fails_is_named_by_number_and_time(number: int) -> None:
    steps = [{**sts(source="fetched"), "world": SERVED}, sts(source="cached"), sts(source="cached")]
    steps[number] = {**steps[number], "expect": {"sts": {"mode": "testing"}}}
    found = run(timeline(*steps))
    assert found is not None
    assert found.startswith(f"step {number} at 2026-01-01T00:0{number}:00Z: $.sts.mode: ")


@pytest.mark.parametrize(
    ("number", "queries", "passes"),
    [
        (0, {"asked": ["_mta-sts.client.test TXT", GET]}, True),
        (0, {"before": [["_mta-sts.client.test TXT", GET]]}, True),
        (0, {"before": [[GET, "_mta-sts.client.test TXT"]]}, False),
        (0, {"not_asked": [GET]}, False),
        (1, {"asked": ["_mta-sts.client.test TXT"], "not_asked": [GET]}, True),
        (1, {"asked": [GET]}, False),  # what an earlier step asked does not count
    ],
)
def test_the_questions_of_each_step_and_its_fetches_are_checked(number: int, queries: Any, *, passes: bool) -> None:
    steps = [{**sts(source="fetched"), "world": SERVED}, sts(source="cached")]
    steps[number] = {**steps[number], "queries": queries}
    found = run(timeline(*steps))
    assert (found is None) is passes
    assert found is None or found.startswith(f"step {number} at ")


def test_a_step_may_have_settings_and_expect_misuse() -> None:
    off = {"ask": {**ASK, "settings": {"sts": "off"}}, "expect": {"sts": None}, "queries": {"not_asked": [GET]}}
    wrong = {"ask": {"plan": "a..b"}, "expect": {"misuse": True}}
    assert run(timeline({**off, "world": SERVED}, wrong)) is None


def test_an_alone_standing_plan_begins_with_what_the_world_has_cached() -> None:
    cache = {"client.test": {**STS_WORLD["cache"]["client.test"], "fetched": "2025-12-31T12:00:00Z"}}
    world = {"now": "2026-01-01T00:00:00Z", **SILENT, "cache": cache}
    data = {"id": "v", "world": world, **sts(source="cached", id="1"), "queries": {"not_asked": [GET]}}
    assert run(Vector(data, VECTORS)) is None


@pytest.mark.parametrize(
    ("ask", "right", "wrong"),
    [
        ({"sts_record": ["v=STSv1; ", "id=1;"]}, {"id": "1", "warnings": []}, {"id": "2"}),
        ({"sts_record": ["v=STSv1; id=", {"hex": "ff"}]}, {"refused": "id-invalid", "offset": 9}, {"id": "1"}),
        ({"sts_policy": POLICY}, {"mode": "enforce", "max_age": 86400}, {"mode": "testing"}),
        ({"sts_policy": {"hex": ""}}, {"refused": "empty", "offset": 0}, {"mode": "none"}),
        ({"sts_allows": {"policy": POLICY, "mx": "mx.client.test"}}, {"allows": True}, {"allows": False}),
        ({"sts_allows": {"policy": POLICY, "mx": "mx2.client.test"}}, {"allows": False}, {"allows": True}),
    ],
)
def test_the_parsers_are_asked_for_text_or_octets(ask: Any, right: Any, wrong: Any) -> None:
    assert run(Vector({"id": "v", "ask": ask, "expect": right}, VECTORS)) is None
    assert run(Vector({"id": "v", "ask": ask, "expect": wrong}, VECTORS)) is not None


def test_a_policy_that_is_none_is_no_answer_to_what_it_allows() -> None:
    for allows in (True, False):
        data = {"id": "v", "ask": {"sts_allows": {"policy": "", "mx": "mx.test"}}, "expect": {"allows": allows}}
        assert run(Vector(data, VECTORS)) is not None


@pytest.mark.parametrize(
    "data",
    [
        {"ask": {"question": 1}, "expect": {}},
        {"ask": {"plan": "client.test"}, "expect": {}},
        {"ask": {"canonical": "client.test"}},
        {"expect": {}},
        {"timeline": [{"ask": {"cached": "client.test"}, "expect": {}}]},
        {"timeline": [{"at": "2026-01-01T00:00:00Z", "expect": {}}]},
    ],
    ids=json.dumps,
)
def test_what_is_no_vector_is_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError, match="'v'"):
        run(Vector({"id": "v", **data}, VECTORS))


# --- deliveries

FALLING = {
    "now": "2026-01-01T00:00:00Z",
    "zones": {"client.test": {"security": "insecure", "records": ["@ MX 10 mx", "mx A 192.0.2.1"]}},
    "servers": {"192.0.2.1": {"25": {"starttls": "fail"}}},
}


def simulated(expect: Any, *, world: Any = FALLING, **ask: Any) -> str | None:
    data = {"id": "v", "world": world, "ask": {"simulate": "client.test", **ask}, "expect": expect}
    return run(Vector(data, VECTORS))


def test_a_simulation_is_asked_with_its_message_and_settings() -> None:
    to = ["a@client.test", "b@x.test"]
    assert simulated({"outcome": "delivered", "security": "cleartext", "attempts": [{}, {"cleartext": True}]}) is None
    assert simulated({"outcome": "deferred"}) is not None
    assert simulated({"outcome": "deferred"}, settings={"cleartext_retry": "never"}) is None
    assert simulated({"recipients": [{"recipient": "postmaster@client.test"}]}) is None
    assert simulated({"recipients": [{"recipient": each} for each in to]}, message={"recipients": to}) is None
    assert simulated({"outcome": "bounced", "status": "5.7.10"}, message={"requiretls": True}) is None
    assert simulated({"outcome": "deferred"}, message={"requiretls": True, "sender": ""}) is None
    assert simulated({"misuse": True}, message={"recipients": ["a b"]}) is None
    assert simulated({"misuse": True}) is not None


def test_a_plan_and_a_check_are_asked_with_the_wishes_of_a_message() -> None:
    for kind in ("plan", "check"):
        for wish in ("requiretls", "tls_optional"):
            plan = {wish: True}
            expect = plan if kind == "plan" else {"plan": plan}
            data = {"id": "v", "world": FALLING, "ask": {kind: "client.test", "message": plan}, "expect": expect}
            assert run(Vector(data, VECTORS)) is None
            assert run(Vector({**data, "ask": {kind: "client.test"}}, VECTORS)) is not None


def test_the_questions_of_a_simulation_are_checked() -> None:
    data = {"id": "v", "world": FALLING, "ask": {"simulate": "client.test"}, "expect": {}}
    for queries, passes in (({"asked": ["client.test MX"]}, True), ({"not_asked": ["client.test MX"]}, False)):
        assert (run(Vector({**data, "queries": queries}, VECTORS)) is None) is passes


def test_the_next_try_in_a_timeline_knows_the_one_before_where_it_is_said_to() -> None:
    later = {"simulate": "client.test", "settings": {"cleartext_retry": "later"}}
    world = {key: value for key, value in FALLING.items() if key != "now"}
    waits: dict[str, Any] = {"outcome": "deferred", "cleartext_retry": ["mx.client.test"]}
    first = {"ask": later, "world": world, "expect": waits}
    again = {"ask": {**later, "again": True}, "expect": {"outcome": "delivered", "security": "cleartext"}}
    assert run(timeline(first, again)) is None
    assert run(timeline(first, {"ask": later, "expect": waits}, again)) is None
    assert run(timeline(first, {"ask": {"cached": "client.test"}, "expect": {}}, again)) is None
    assert run(timeline(first, {"ask": later, "expect": again["expect"]})) is not None
    up = {**again, "world": {**world, "servers": {"192.0.2.1": {"25": {}}}}}
    assert run(timeline(first, {**up, "expect": {"security": "untrusted"}}, {**again, "world": world})) is not None


@pytest.mark.parametrize(
    ("ask", "right", "wrong"),
    [
        (
            {"tags": {"parameters": ["requiretls"], "header": "TLS-Required: No\r\n"}},
            {"requiretls": True, "tls_optional": False},
            {"tls_optional": True},
        ),
        ({"tags": {"parameters": [], "header": "TLS-Required: No\r\n"}}, {"tls_optional": True}, {"misuse": True}),
        ({"tags": {"parameters": ["REQUIRETLS=1"], "header": ""}}, {"misuse": True}, {"requiretls": True}),
        ({"notification": {"requiretls": True, "ret": "FULL"}}, {"sender": "", "ret": "HDRS"}, {"ret": "FULL"}),
        ({"notification": {"requiretls": False, "ret": None}}, {"requiretls": False, "ret": None}, {"ret": "HDRS"}),
    ],
)
def test_tags_and_notifications_are_asked_without_a_world(ask: Any, right: Any, wrong: Any) -> None:
    assert run(Vector({"id": "v", "ask": ask, "expect": right}, VECTORS)) is None
    assert run(Vector({"id": "v", "ask": ask, "expect": wrong}, VECTORS)) is not None
