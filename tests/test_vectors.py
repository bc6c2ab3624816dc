"""The corpus: every vector passes, every file has the documented form, and the runner can tell right from wrong."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mailtlspolicy.vectors import Vector, difference, load, run

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
CORPUS = list(load([VECTORS]))
FILES = sorted({path for path in VECTORS.glob("*.json") if "vectors" in json.loads(path.read_text("utf-8"))})


@pytest.mark.parametrize("vector", CORPUS, ids=[vector.id for vector in CORPUS])
def test_vector(vector: Vector) -> None:
    assert run(vector) is None


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_file_has_the_form_of_the_schema(path: Path) -> None:
    schema = json.loads((VECTORS / "schema.json").read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    errors = [
        f"{error.json_path}: {error.message[:200]}"
        for error in validator(schema).iter_errors(json.loads(path.read_text("utf-8")))
    ]
    assert errors == []


def test_ids_are_unique() -> None:
    assert [name for name, count in Counter(vector.id for vector in CORPUS).items() if count > 1] == []


def test_every_clause_cited_is_in_the_table() -> None:
    with (VECTORS / "clauses.tsv").open(encoding="utf-8", newline="") as file:
        known = {row["id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
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
