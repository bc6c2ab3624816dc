"""`vectors`: test vectors, run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mailtlspolicy._json import VERSION
from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import print_answer
from mailtlspolicy.testing import vectors

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print a line a failure, and the counts; NO where one failed."""
    corpus = list(vectors.load(arguments.paths or [Path("vectors")]))
    if not corpus:
        raise ValueError("there are no vectors")
    failures = {vector.id: wrong for vector in corpus if (wrong := vectors.run(vector)) is not None}
    data = {"version": VERSION, "passed": len(corpus) - len(failures), "failed": failures}
    lines = [f"{name}: {wrong}" for name, wrong in failures.items()]
    print_answer(arguments, data, "\n".join([*lines, f"{data['passed']} passed, {len(failures)} failed"]))
    return NO if failures else OK
