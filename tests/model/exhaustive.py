"""Both models on every finite world: `python -m tests.model.exhaustive [--count N --seed S]`.

Without a count all of `space.exhaustive`. With one, a sample: one world in five is drawn from the uncut product
(`space.everything`), the others from the exhaustive list.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.model import space
from tests.model.library import Difference, compare
from tests.model.worlds import Host, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.model.worlds import World

PROCESSES = 2
BATCH = 500  # worlds handed to a process at once
SHOWN = 12  # kinds of differences that are printed


class Finding(NamedTuple):
    world: World
    differences: tuple[Difference, ...]

    @property
    def kind(self) -> str:
        """Differences of one kind are counted, and the first is shown."""
        first = self.differences[0]
        what = first.what.lstrip("0123456789 ")
        if what in {"attempts", "hosts"}:
            return f"{first.stage}: {what}"
        return f"{first.stage}: {what}: {first.model!r} and {first.library!r}"


class Batch(NamedTuple):
    worlds: int
    findings: tuple[Finding, ...]


def judge(worlds: Iterable[World]) -> Batch:
    """Both models on some worlds."""
    count = 0
    findings = []
    for world in worlds:
        count += 1
        differences = compare(world)
        if differences:
            findings.append(Finding(world, tuple(differences)))
    return Batch(count, tuple(findings))


def sample(count: int, seed: int) -> Iterator[World]:
    """A sample of `count` worlds, the same for the same seed."""
    draw = random.Random(seed)
    uncut = count // 5
    chosen = reservoir(count - uncut, draw)
    yield from chosen
    for _ in range(uncut):
        yield space.everything(draw)


def reservoir(count: int, draw: random.Random) -> list[World]:
    """Some of the exhaustive list, each as likely as the others."""
    kept: list[World] = []
    for number, world in enumerate(space.exhaustive()):
        if number < count:
            kept.append(world)
        else:
            place = draw.randrange(number + 1)
            if place < count:
                kept[place] = world
    return kept


def batches(worlds: Iterator[World]) -> Iterator[list[World]]:
    while batch := list(itertools.islice(worlds, BATCH)):
        yield batch


def told(world: World) -> str:
    """A world for people: what differs from a default one, and the hosts."""
    lines = []
    for name, value in world._asdict().items():
        if name == "hosts":
            for index, host in enumerate(world.hosts):
                lines.append(f"    host {index}: " + changed(host, Host()))
        elif name == "settings":
            lines.append("    settings: " + (changed(value, Settings()) or "default"))
        else:
            lines.append(f"    {name}: {value}")
    return "\n".join(lines)


def changed(value: Any, default: Any) -> str:
    """The fields of a named tuple that are not those of another."""
    given = [(name, getattr(value, name), getattr(default, name)) for name in value._fields]
    return ", ".join(
        f"{name}=({changed(one, other)})" if hasattr(one, "_fields") else f"{name}={one!r}"
        for name, one, other in given
        if one != other
    )


def show(findings: list[Finding]) -> None:
    """The first difference of each kind, the most frequent kinds first."""
    kinds = Counter(finding.kind for finding in findings)
    first = {finding.kind: finding for finding in reversed(findings)}
    for kind, count in kinds.most_common(SHOWN):
        print(f"\n{count} worlds: {kind}")
        print(told(first[kind].world))
        for difference in first[kind].differences:
            print(f"  {difference.stage}, {difference.what}:")
            print(f"    model:   {difference.model!r}")
            print(f"    library: {difference.library!r}")
    if len(kinds) > SHOWN:
        print(f"\nand {len(kinds) - SHOWN} more kinds")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, help="a sample of this many worlds")
    parser.add_argument("--seed", type=int, default=7672)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    chosen = parser.parse_args(arguments)
    worlds = space.exhaustive() if chosen.count is None else sample(chosen.count, chosen.seed)
    begun = time.perf_counter()
    count, findings = 0, list[Finding]()
    with multiprocessing.Pool(chosen.processes) as pool:
        for batch in pool.imap(judge, batches(iter(worlds))):
            count += batch.worlds
            findings += batch.findings
    seconds = time.perf_counter() - begun
    show(findings)
    rate = count / seconds / chosen.processes
    print(f"\n{count} worlds, {len(findings)} differ; {seconds:.0f} s, {rate:.0f} worlds a second and process")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
