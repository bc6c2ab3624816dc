"""What is cited exists: the section, in an RFC that the table of clauses covers; any other RFC in docs/standards.md."""

from __future__ import annotations

import re

import pytest

from tests.citations import TOP, Citation, citations, clauses, sections, sources

FILES = dict(sources())
PROSE = [TOP / "README.md", TOP / "vectors" / "README.md", *(TOP / "docs").glob("*.md"), *(TOP / "docs").glob("*/*.md")]
SECTIONS = sections()


def wrong(text: str) -> list[Citation]:
    """Citations of sections that there are not, in the RFCs of the table."""
    return [it for it in citations(text) if it.section not in {None, *SECTIONS.get(it.rfc, {it.section})}]


def test_every_section_that_is_cited_exists() -> None:
    texts = FILES | {path.relative_to(TOP).as_posix(): path.read_text("utf-8") for path in PROSE}
    assert {path: found for path, text in texts.items() if (found := wrong(text))} == {}


def test_every_other_rfc_that_the_code_cites_is_among_the_standards() -> None:
    listed = set(re.findall(r"\bRFC (\d+)", (TOP / "docs" / "standards.md").read_text("utf-8")))
    cited = {(it.rfc, path) for path, text in FILES.items() for it in citations(text)}
    assert len(cited) > 100
    assert sorted((rfc, path) for rfc, path in cited if rfc not in SECTIONS and rfc not in listed) == []


def test_the_modules_that_the_standards_name_exist() -> None:
    rows = [line for line in (TOP / "docs" / "standards.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_.]+)`", row.split(" | ")[-1])}
    known = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in FILES}
    assert len(named) > 40
    assert sorted(named - known) == []


def test_the_list_of_sections_has_those_of_the_clauses_and_their_rfcs_alone() -> None:
    assert {clause.rfc for clause in clauses()} == set(SECTIONS)
    assert [clause.id for clause in clauses() if clause.section not in SECTIONS[clause.rfc]] == []
    for rfc, known in SECTIONS.items():
        assert {section.rpartition(".")[0] for section in known} - {""} <= known, rfc


def test_every_rfc_of_the_clauses_has_its_page() -> None:
    pages = {path.stem.removeprefix("rfc") for path in (TOP / "docs" / "clauses").glob("rfc*.md")}
    assert pages == set(SECTIONS)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("as RFC 7672 section 2.2.2 has it", [("7672", "2.2.2")]),
        ("(RFC 8461 section 5).", [("8461", "5")]),
        ("RFC 8461 section 3.3. Then", [("8461", "3.3")]),
        ("RFC 8461 sections 2, 3.1 and 5: RFC 8460", [("8461", "2"), ("8461", "3.1"), ("8461", "5"), ("8460", None)]),
        ("RFC 7671 sections 5.2.1 to 5.2.3", [("7671", "5.2.1"), ("7671", "5.2.3")]),
        ("RFC 6698 appendix B.2", [("6698", "B.2")]),
        ("RFC 5321 section 5.1 and 2 hosts", [("5321", "5.1")]),
        ("RFC 952, section 3", [("952", None)]),
        ("# RFC\n    # 7672 section\n    # 2.1.3", [("7672", "2.1.3")]),
        ("RFC\n  7672\n  sections 2.1.3,\n  6", [("7672", "2.1.3"), ("7672", "6")]),
        ("RFC7672-2.2-a, draft RFC 12345", []),
    ],
)
def test_a_citation_is_read(text: str, want: list[tuple[str, str | None]]) -> None:
    assert [(it.rfc, it.section) for it in citations(text)] == want


def test_a_citation_has_the_line_that_it_begins_in() -> None:
    assert [it.line for it in citations("\nRFC 7672\nsection 2.2 and\nRFC 8461")] == [2, 4]


def test_a_section_that_there_is_not_is_found() -> None:
    assert wrong("RFC 7672 section 2.2.4") == [Citation("7672", "2.2.4", 1)]
    assert wrong("RFC 9999 section 2.2.4") == []
