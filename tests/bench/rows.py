"""A row of the table, how it is measured, and what it says where a peer is not installed."""

from __future__ import annotations

import gc
import statistics
import time
from itertools import cycle
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TURNS = 15
TURN_SECONDS = 0.05


class PeerMissingError(Exception):
    """A package to compare with is not installed."""


@frozen
class Row:
    """One benchmark: what runs, and what it is compared with, if anything."""

    title: str
    run: Callable[[], object]
    peer: str = ""
    peer_run: Callable[[], object] | None = None


def of_peer(make: Callable[[], Callable[[], object]]) -> Callable[[], object]:
    """What `make` returns. If it can not import something, the row fails that says so, and no other."""
    try:
        return make()
    except ImportError as error:
        why = str(error)

    def missing() -> object:
        raise PeerMissingError(why)

    return missing


def hundreds(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """A hundred names after the other, without end."""
    return cycle([names[start : start + 100] for start in range(0, len(names), 100)])


def turn(run: Callable[[], object]) -> float:
    """Seconds a call, over one turn."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < TURN_SECONDS:
        run()
        calls += 1
    return elapsed / calls


def measure(row: Row) -> tuple[float, float | None]:
    """The medians of the row and of its peer.

    Raises:
        PeerMissingError: there is nothing to compare with.
    """
    if row.run() is False or (row.peer_run is not None and row.peer_run() is False):
        raise SystemExit(f"{row.title}: what has to succeed did not")
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(turn(row.run))
        if row.peer_run is not None:
            theirs.append(turn(row.peer_run))
    return statistics.median(ours), statistics.median(theirs) if theirs else None


def print_table(rows: Sequence[Row]) -> bool:
    """Measure the rows and print a table in Markdown; whether all of them could be measured."""
    complete = True
    gc.freeze()  # or the worlds that some rows hold would be gone through in the time of the others
    print("| what | µs | compared with | µs | ratio |")
    print("| --- | ---: | --- | ---: | ---: |")
    for row in rows:
        try:
            ours, theirs = measure(row)
        except PeerMissingError as error:
            complete = False
            print(f"| {row.title} | failed | {row.peer} | {error} | |", flush=True)
            continue
        compared = "| | |" if theirs is None else f"| {theirs * 1e6:.1f} | {ours / theirs:.2f} |"
        print(f"| {row.title} | {ours * 1e6:.1f} | {row.peer} {compared}", flush=True)
    return complete
