"""Fuzzing: `python -m tests.fuzz.run --target NAME --seconds N` feeds one target, or each, with hostile input.

A target is a function of a `random.Random` that makes its input from it, and fails by any exception. It has a bound on
the processor time of one call. Every call has a seed of its own, which a failure prints:
`python -m tests.fuzz.run --target NAME --only SEED` repeats that call.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from random import Random
from typing import TYPE_CHECKING

from attrs import frozen

from tests.fuzz import hostile_dns, hostile_peer, hostile_plan, hostile_publisher, hostile_reporter, hostile_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@frozen
class Target:
    """What is fuzzed.

    Attributes:
        call: one execution.
        seconds: the processor time that one execution may take.
    """

    call: Callable[[Random], None]
    seconds: float = 2.0


TARGETS = {
    "mangled-chain": Target(hostile_peer.mangled_chain, seconds=5.0),  # asks libssl too, many times if they differ
    "crowded-chain": Target(hostile_peer.crowded_chain),
    "constrained-chain": Target(hostile_peer.constrained_chain),
    "dated-chain": Target(hostile_peer.dated_chain, seconds=5.0),
    "certificates": Target(hostile_peer.certificates),
    "tlsa-records": Target(hostile_peer.tlsa_records),
    "identifiers": Target(hostile_peer.identifiers),
    "hostile-dns": Target(hostile_dns.plan_once),
    "hostile-plan": Target(
        hostile_plan.plan_once, seconds=60.0
    ),  # of which most makes the answers; it has its own bounds
    "dns-reply": Target(hostile_dns.read_once, seconds=0.5),
    "hostile-session": Target(hostile_session.sessions),
    "sts-record": Target(hostile_publisher.records),
    "sts-policy": Target(hostile_publisher.policies),
    "sts-entry": Target(hostile_publisher.entries),
    "tlsrpt-record": Target(hostile_publisher.tlsrpt_records),
    "report": Target(hostile_reporter.reports),
}


class TooSlowError(Exception):
    """An execution took longer than its target allows."""


def execute(target: Target, seed: int) -> float:
    """One execution; returns its processor time in seconds, raises what the target raises."""
    start = time.process_time()
    target.call(Random(seed))
    spent = time.process_time() - start
    if spent > target.seconds:
        raise TooSlowError(f"{spent:.2f} s of processor time, {target.seconds} s are allowed")
    return spent


def fuzz(name: str, seconds: float, first_seed: int) -> bool:
    """Execute a target for some time; returns whether all went well."""
    target, start, executions, slowest = TARGETS[name], time.monotonic(), 0, 0.0
    while time.monotonic() - start < seconds:
        seed = first_seed + executions
        try:
            slowest = max(slowest, execute(target, seed))
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            print(f"{name}: failed after {executions} executions; --target {name} --only {seed} repeats it")
            return False
        executions += 1
    print(f"{name}: {executions} executions, the slowest {slowest * 1000:.0f} ms")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be repeated; all by default")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each target")
    parser.add_argument("--seed", type=int, default=7672, help="of the first execution; the next has the next")
    parser.add_argument("--only", type=int, metavar="SEED", help="a single execution, of this seed")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `cryptography` warns of much that is made on purpose
        if options.only is not None:
            for name in options.target or TARGETS:
                execute(TARGETS[name], options.only)
            return 0
        results = [fuzz(name, options.seconds, options.seed) for name in options.target or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
