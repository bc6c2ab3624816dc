"""What the code cites of the RFCs, and the clauses that the vectors cite, by section.

A citation names its RFC: "RFC 7672 section 2.2.2", "RFC 8461 sections 2, 3.1 and 5", "RFC 6698 appendix B.2". What only
says "section 2.1.3", of the RFC that was named before, is not read.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parent.parent
SOURCE = TOP / "src" / "mailtlspolicy"

_GAP = r"(?:\ |\s*\n\s*(?:\#\ ?)?)"  # a blank, or the end of a line, perhaps of a comment
_NUMBER = r"(?:[0-9]+|[A-Z])(?:\.[0-9]+)*\b"
_BETWEEN = rf"(?:,{_GAP}|{_GAP}(?:and|or|to){_GAP})"
_CITATION = re.compile(
    rf"""\bRFC{_GAP}(?P<rfc>[0-9]{{3,4}})\b
    (?:{_GAP}
        (?: (?:section|appendix){_GAP}(?P<one>{_NUMBER})
          | (?:sections|appendices){_GAP}(?P<more>{_NUMBER}(?:{_BETWEEN}{_NUMBER})*)
        )
    )?""",
    re.VERBOSE,
)
_CLAUSE = re.compile(r"RFC\d{4}-[0-9A-Za-z.]+-[a-z]{1,2}\b")


class Citation(NamedTuple):
    """A section that a line cites; the whole RFC where `section` is None."""

    rfc: str
    section: str | None
    line: int


class Clause(NamedTuple):
    """A row of the table of clauses."""

    id: str
    rfc: str
    section: str
    level: str
    party: str
    text: str


def citations(text: str) -> Iterator[Citation]:
    """What a text cites, in order; of a list of sections each."""
    for found in _CITATION.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        sections = re.findall(_NUMBER, found["one"] or found["more"] or "")
        for section in sections or [None]:
            yield Citation(found["rfc"], section, line)


def sources() -> Iterator[tuple[str, str]]:
    """Every file of the library, by its path in the package, and its text."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), path.read_text("utf-8")


def clauses() -> list[Clause]:
    """The rows of the tables of clauses, in their order."""
    rows = []
    for path in sorted((TOP / "vectors").glob("clauses*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                rfc, section, _ = row["id"].split("-")
                rows.append(
                    Clause(row["id"], rfc.removeprefix("RFC"), section, row["level"], row["party"], row["clause"])
                )
    return rows


def sections() -> dict[str, set[str]]:
    """The sections that the RFCs of the tables have, by their tables of contents and headings."""
    with (Path(__file__).parent / "rfc_sections.tsv").open(encoding="utf-8", newline="") as file:
        return {row["rfc"]: set(row["sections"].split(" ")) for row in csv.DictReader(file, delimiter="\t")}


def citing() -> dict[str, dict[str, list[str]]]:
    """For each clause that is cited, the ids of the vectors that do, by file; tests have no ids."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted((TOP / "vectors").glob("*.json")):
        for vector in json.loads(path.read_text("utf-8")).get("vectors", ()):
            for clause in vector["clauses"]:
                found.setdefault(clause, {}).setdefault(path.name, []).append(vector["id"])
    for path in sorted((TOP / "tests").rglob("*.py")):
        for clause in _CLAUSE.findall(path.read_text("utf-8")):
            found.setdefault(clause, {}).setdefault(path.relative_to(TOP).as_posix(), [])
    return found
