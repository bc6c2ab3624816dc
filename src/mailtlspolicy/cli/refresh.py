"""`refresh`: the cached MTA-STS policies that are due, fetched again."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import engine_of, print_answer

if TYPE_CHECKING:
    from argparse import Namespace

    from mailtlspolicy.sts.refresh import RefreshReport


def run(arguments: Namespace) -> int:
    """Print what was refreshed, and count up meanwhile on a terminal; NO where a policy or the store failed."""
    done = Counter[str]()

    def progress(report: RefreshReport) -> None:
        done.update(refreshed=len(report.refreshed), failed=len(report.failed), dropped=len(report.dropped))
        line = ", ".join(f"{name} {count}" for name, count in done.items())
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    watched = sys.stderr.isatty()
    try:
        report = engine_of(arguments).refresh(progress=progress if watched else None)
    finally:
        if done:
            print(file=sys.stderr)
    print_answer(arguments, report.to_json(), refresh_text(report))
    return NO if report.failed or report.store_failures else OK


def refresh_text(report: RefreshReport) -> str:
    """What a refresh did: a line for each policy that somebody should look at, and the counts."""
    lines = [str(failure) for failure in report.failed]
    lines += (f"the policy store failed: {failure}" for failure in report.store_failures)
    return "\n".join([*lines, str(report)])
