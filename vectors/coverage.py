"""Prints which clauses the corpus covers, by RFC, from clauses*.tsv: `python vectors/coverage.py [--missing]`.

A clause counts as covered where a vector cites its id, or a test does. Only the clauses that a vector or a unit test
can show count at all, and only those that bind a sender of mail ("sender"), or the sender of reports
on its mail ("report-sender"). Those that bind a receiver of mail or of reports, or somebody who publishes records and
policies, do not count; a few are cited all the same, where a reader of reports or a linter shows them.
"""

from __future__ import annotations

import csv
import json
import pathlib
import re
import sys
from collections import Counter, defaultdict

HERE = pathlib.Path(__file__).resolve().parent
CLAUSE = re.compile(r"RFC\d{4}-[0-9A-Za-z.]+-[a-z]{1,2}\b")
PARTIES = {"sender", "report-sender"}


def cited() -> set[str]:
    """The ids that vectors and tests cite."""
    ids = set()
    for path in HERE.glob("*.json"):
        for vector in json.loads(path.read_text("utf-8")).get("vectors", ()):
            ids.update(vector["clauses"])
    for path in (HERE.parent / "tests").rglob("*.py"):
        ids.update(CLAUSE.findall(path.read_text("utf-8")))
    return ids


def main(arguments: list[str]) -> int:
    """Print a line an RFC; with --missing the uncovered ids as well. Fails on an id that the table does not have."""
    rows: list[dict[str, str]] = []
    for path in sorted(HERE.glob("clauses*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    ids = cited()
    total: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    missing: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        rfc = row["id"].partition("-")[0]
        if row["party"] not in PARTIES or row["testable"] not in {"vector", "unit"}:
            continue
        total[rfc] += 1
        if row["id"] in ids:
            covered[rfc] += 1
        else:
            missing[rfc].append(row["id"])
    for rfc in sorted(total):
        print(f"{rfc}: {covered[rfc]} of {total[rfc]}")
        if "--missing" in arguments and missing[rfc]:
            print("   not cited:", " ".join(missing[rfc]))
    unknown = ids - {row["id"] for row in rows}
    if unknown:
        print("in no table of clauses:", *sorted(unknown))
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
