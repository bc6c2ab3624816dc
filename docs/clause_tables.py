"""The pages of clauses: ```` ```{clauses-of} 7672 ```` stands for the clauses of an RFC, section by section.

Of each section it gives the lines of the code that cite it, and of each clause the vectors and tests that do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from tests.citations import citations, citing, clauses, sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docutils import nodes

    from tests.citations import Clause

SHOWN = 4  # ids of vectors; of more their number in each file is shown

_cited_clauses = cache(citing)


@cache
def _cited_sections() -> dict[tuple[str, str], dict[str, list[int]]]:
    """For each section, the lines of the files that cite it."""
    found: defaultdict[tuple[str, str], defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for path, text in sources():
        for citation in citations(text):
            if citation.section is not None:
                found[citation.rfc, citation.section][path].append(citation.line)
    return {section: dict(paths) for section, paths in found.items()}


def page(rfc: str) -> Iterator[str]:
    """The lines of Markdown."""
    sections: defaultdict[str, list[Clause]] = defaultdict(list)
    for clause in clauses():
        if clause.rfc == rfc:
            sections[clause.section].append(clause)
    for section, rows in sorted(sections.items(), key=lambda item: _order(item[0])):
        kind = "Section" if section[0].isdigit() else "Appendix"
        yield from ("", f"## {kind} {section}", "")
        lines = _cited_sections().get((rfc, section), {})
        cited = "; ".join(f"`{path}` {', '.join(map(str, sorted({*numbers})))}" for path, numbers in lines.items())
        yield f"In the code: {cited}." if cited else "In the code: cited nowhere by its number."
        yield from ("", "| clause | binds | what it says | shown by |", "| --- | --- | --- | --- |")
        for row in rows:
            shown = _shown(_cited_clauses().get(row.id, {}))
            yield f"| `{row.id}` | {row.party}, {row.level} | {_literal(row.text)} | {shown} |"


def _order(section: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (1000, part) for part in section.split(".")]


def _shown(files: dict[str, list[str]]) -> str:
    """The vectors by name where they are few, else by file; and the tests."""
    ids = [name for names in files.values() for name in names]
    vectors: Iterable[str] = map("`{}`".format, ids)
    if len(ids) > SHOWN:
        vectors = (f"{len(names)} in `{file}`" for file, names in files.items() if names)
    return ", ".join([*vectors, *(f"`{file}`" for file, names in files.items() if not names)])


def _literal(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#$])", r"\\\1", text)


class ClausesOf(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the sections in Markdown, and have them read; again in every build."""
        self.env.note_reread()
        return self.parse_text_to_nodes("\n".join(page(self.arguments[0])), allow_section_headings=True)
