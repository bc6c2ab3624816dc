"""Change the modules that decide, one place at a time, and see whether the tests notice: `python -m tests.mutation`.

A run fails where less than 95 % of the mutants die, where one survives that `survivors.tsv` does not list, and where it
lists one that does not survive.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mutation import judges
from tests.mutation.mutants import MODULES, Mutant, Rule, mutants_of, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest

TABLE = Path(__file__).with_name("survivors.tsv")
COLUMNS = ("module", "function", "line", "change", "reason")
_NO_RESULT = "no result"
LEAST = 95  # per cent that have to die

Key = tuple[str, str, str, str]


def main(arguments: Sequence[str]) -> int:
    """Run it, and print how many of each module died."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # so that what survives does not depend on the order of sets
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.mutation", *arguments],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    runner = _Runner(_options(arguments))
    judges.run_pytest(judges.test_files(runner.options.module), runner)
    return runner.code


class _Runner(judges.Tests):
    """Has pytest load the tests, and then, in place of running them, judges the mutants."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.code = 1

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.code = _run(self.options, session.items, self)
        return True


def _run(options: Any, items: Sequence[pytest.Item], watcher: judges.Tests) -> int:
    began = time.monotonic()
    vectors = judges.load_vectors()
    judges.vector_runner()
    known = _known(options, vectors)
    print(f"{len(known.seconds)} judges, {sum(known.seconds.values()):.0f} s", flush=True)
    everything = [
        mutant for made in _forked([_maker(name) for name in options.module], options.jobs) for mutant in made
    ]
    mutants = [mutant for mutant in everything if mutant.rule is None]
    if options.only_survivors:
        listed = {key for key, _ in _table()}
        mutants = [mutant for mutant in mutants if mutant.key in listed]
    if options.sample is not None:
        chosen = sorted(random.Random(options.seed).sample(range(len(mutants)), min(options.sample, len(mutants))))
        mutants = [mutants[number] for number in chosen]
    print(f"{len(mutants)} mutants", flush=True)
    list(map(source_of, MODULES))
    judges.find_functions()
    gc.collect()
    gc.freeze()  # so that the processes to come share it

    def judging(mutant: Mutant) -> Callable[[], str | None]:
        return lambda: judges.judge(mutant, known, vectors, items, watcher)

    def told(number: int, result: str | None) -> None:
        if options.results is not None:
            with options.results.open("a", encoding="utf-8") as file:
                file.write("\t".join((*mutants[number].key, result or "-")) + "\n")

    results = _forked([judging(mutant) for mutant in mutants], options.jobs, told)
    if broken := [mutant.key for mutant, result in zip(mutants, results, strict=True) if result == _NO_RESULT]:
        print(*("\n    ".join(("not judged:", *key)) for key in broken), sep="\n")
        return 1
    _print_table(options.module, everything, mutants, results)
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    return _verdict(options, everything, mutants, results)


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", choices=MODULES, help="of this module alone; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--only-survivors", action="store_true", help="the mutants of the table alone")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="keep there what each judge runs, from run to run")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="append what becomes of each mutant, as it is known"
    )
    options = parser.parse_args(arguments)
    options.module = options.module or list(MODULES)
    return options


def _maker(module: str) -> Callable[[], list[Mutant]]:
    return lambda: mutants_of(module)


def _known(options: Any, vectors: Sequence[tuple[Path, Any]]) -> judges.Judges:
    """Which judge runs which lines."""
    file: Path | None = options.lines
    if file is not None and file.exists():
        known: judges.Judges = pickle.loads(file.read_bytes())
        return known

    def observing(file: Path) -> Callable[[], judges.Run]:
        return lambda: judges.observe_tests(file)

    parts = judges.test_files(options.module)
    seen = _forked([*map(observing, parts), lambda: judges.observe_vectors(vectors)], options.jobs)
    failed = [str(part) for part, run in zip([*parts, "vectors"], seen, strict=True) if not isinstance(run, judges.Run)]
    if failed:
        sys.exit(f"with the library as it is, these fail already: {', '.join(failed)}")
    known = judges.merged(seen)
    if file is not None:
        file.write_bytes(pickle.dumps(known))
    return known


def _forked(tasks: Sequence[Callable[[], Any]], jobs: int, told: Callable[[int, Any], None] | None = None) -> list[Any]:
    """What tasks return, each in a process of its own; of one that is ended by a signal, the name of that."""
    results: dict[int, Any] = {}
    running: dict[int, int] = {}
    waiting = list(range(len(tasks)))[::-1]
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop()
                running[_start(tasks[number], Path(folder) / str(number))] = number
            process, status = os.wait()
            number = running.pop(process)
            file = Path(folder) / str(number)
            if file.exists():
                results[number] = pickle.loads(file.read_bytes())
                file.unlink()
            elif os.WIFSIGNALED(status):
                results[number] = f"time: {signal.Signals(os.WTERMSIG(status)).name}"
            else:
                results[number] = _NO_RESULT
            if told is not None:
                told(number, results[number])
    return [results[number] for number in range(len(tasks))]


def _start(task: Callable[[], Any], file: Path) -> int:
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            judges.write(task(), file)
        finally:  # whatever was raised, a process without a result is known by that
            os._exit(1)
    return process


def _table() -> Iterator[tuple[Key, str]]:
    if not TABLE.exists():
        return
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield (row["module"], row["function"], row["line"], row["change"]), row["reason"]


def _print_table(
    modules: Sequence[str], everything: Sequence[Mutant], mutants: Sequence[Mutant], results: Sequence[str | None]
) -> None:
    print("| module | mutants | die | survive | left out: " + " | ".join(rule.name.lower() for rule in Rule) + " |")
    for module in (*modules, None):
        fates = [
            result for mutant, result in zip(mutants, results, strict=True) if module is None or mutant.module == module
        ]
        dead = sum(fate is not None for fate in fates)
        left_out = Counter(mutant.rule for mutant in everything if module is None or mutant.module == module)
        counts = (len(fates), dead, len(fates) - dead, *(left_out[rule] for rule in Rule))
        print(f"| {module or 'all'} | {' | '.join(map(str, counts))} |")
    killers = Counter((result or "none").split(":")[0].split(" ")[0] for result in results)
    print("killed by:", ", ".join(f"{name} {count}" for name, count in killers.most_common()))


def _verdict(
    options: Any, everything: Sequence[Mutant], mutants: Sequence[Mutant], results: Sequence[str | None]
) -> int:
    survivors = Counter(mutant.key for mutant, result in zip(mutants, results, strict=True) if result is None)
    listed = Counter(key for key, _ in _table() if key[0] in options.module)
    looked_at = Counter(mutant.key for mutant in mutants)
    unlisted = survivors - listed
    # of a sample, only what was looked at can be told to have died
    gone = [key for key in listed if (looked_at[key] or not options.sample) and survivors[key] < listed[key]]
    if options.sample:
        gone = [key for key in gone if survivors[key] == 0]
    without_reason = [key for key, reason in _table() if not reason]
    for what, keys in (
        ("survives, and is not listed", list(unlisted)),
        ("is listed, and does not survive", gone),
        ("is listed without a reason", without_reason),
    ):
        for key in keys:
            print(f"{what}: {key[0]} {key[1]}\n    {key[2]}\n    {key[3]}")
    dead = len(mutants) - sum(survivors.values())
    share = 100 * dead / len(mutants) if mutants else 100
    print(f"{dead} of {len(mutants)} die, {share:.1f} %")
    return 1 if unlisted or gone or without_reason or (share < LEAST and not options.only_survivors) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
