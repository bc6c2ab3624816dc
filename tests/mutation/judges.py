"""The judges of a mutant: the vectors, which are quick, then its module's own tests; those that run what is changed.

A mutant has a process of its own, forked from one in which everything is loaded and all tests are collected. There the
changed function gets its new code. What runs when a module is imported can not be changed so: for a mutant of that, the
process loads the library and the tests anew, with the mutant in the module's place.

A judge that takes far more processor time than with the library as it is ends the process, and so the mutant.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import pickle
import random
import re
import resource
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_loader
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import pytest
from attrs import field, frozen
from hypothesis import Phase, settings

from tests.mutation.mutants import MODULES, PACKAGE, path_of, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType, ModuleType

    from tests.mutation.mutants import Mutant

TOP = PACKAGE.parents[1]
VECTORS = TOP / "vectors"
TESTS = {module: (f"test_{module.rpartition('.')[2]}",) for module in MODULES} | {
    "plan.search": ("test_plan",),
    "plan.decide": ("test_decide", "test_plan"),
    "sts.discovery": ("test_sts_discovery",),
    "sts.cache": ("test_sts_cache",),
    "delivery.transitions": ("test_transitions", "test_walk"),
    "delivery.conversation": ("test_transitions", "test_walk"),
}
CASES = 20  # of one test
MEMORY = 4 * 1024**3  # octets
_SECONDS, _TIMES, _WAITING = 2.0, 20.0, 10.0  # a judge may compute for so long, or so many times as long as before

Line = tuple[str, int]


@frozen
class Run:
    """What judges did with the library as it is: the lines of the modules that each ran, and its processor time."""

    lines: dict[str, set[Line]] = field(factory=dict)
    seconds: dict[str, float] = field(factory=dict)


@frozen
class Judges:
    """What is known of the judges, whose names are the keys of `seconds`.

    Attributes:
        seconds: the processor time that each takes with the library as it is.
        runs: by line, who runs it: the bit of a judge is its position.
    """

    seconds: dict[str, float]
    runs: dict[Line, int]

    @classmethod
    def of(cls, run: Run) -> Judges:
        """The same, by line, which takes a hundredth of the memory."""
        runs: dict[Line, int] = {}
        for index, judge in enumerate(run.seconds):
            for line in run.lines[judge]:
                runs[line] = runs.get(line, 0) | 1 << index
        return cls(run.seconds, runs)

    def not_concerned(self, mutant: Mutant) -> set[str]:
        """The judges that do not run what is changed; for what runs at import, those that run nothing of the module.

        A judge of which nothing is known is concerned.
        """
        places = [
            line for line in self.runs if line[0] == mutant.module and (not mutant.places or line[1] in mutant.places)
        ]
        concerned = 0
        for line in places:
            concerned |= self.runs[line]
        return {judge for index, judge in enumerate(self.seconds) if mutant.module and not concerned >> index & 1}

    def limit(self, judge: str) -> float:
        """The processor time that it may take."""
        return _SECONDS + _TIMES * self.seconds.get(judge, 1.0)


def load_vectors() -> list[tuple[Path, Any]]:
    """The vectors, in an order that brings different ones early."""
    files = [(path, json.loads(path.read_text("utf-8"))) for path in sorted(VECTORS.glob("*.json"))]
    vectors = [(path, vector) for path, data in files for vector in data.get("vectors", ())]
    random.Random(0).shuffle(vectors)
    return vectors


def test_files(modules: Sequence[str]) -> list[Path]:
    """The files of unit tests that judge these modules."""
    return [
        TOP / "tests" / f"{name}.py" for name in dict.fromkeys(name for module in modules for name in TESTS[module])
    ]


def judge(
    mutant: Mutant,
    judges: Judges,
    vectors: Sequence[tuple[Path, Any]],
    items: Sequence[pytest.Item],
    watcher: Tests,
) -> str | None:
    """Which judge notices a mutant, and how, or None; not to be called twice in a process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _allow(60)
    spared = judges.not_concerned(mutant)
    if mutant.places:
        _change(mutant)
    else:
        _forget()
        sys.meta_path.insert(0, _Loader(mutant))
    try:
        run_vector = vector_runner()
    except Exception as error:  # noqa: BLE001
        return f"import: {type(error).__name__}"
    for path, data in vectors:
        if data["id"] not in spared:
            _allow(judges.limit(data["id"]))
            if not run_vector(path, data):
                return f"vector {data['id']}"
    own = test_files([mutant.module])
    if not mutant.places:
        concerned = _Concerned(judges, spared)
        passed = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        return None if run_pytest(own, concerned) in passed else f"test {concerned.failed}"
    items[0].config.pluginmanager.unregister(name="terminalreporter")
    concerned_items = _some([item for item in items if item.path in own and item.nodeid not in spared])
    for item in sorted(concerned_items, key=lambda item: judges.seconds.get(item.nodeid, 0.0)):
        _allow(judges.limit(item.nodeid))
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        if watcher.failed is not None:
            return f"test {watcher.failed}"
    return None


def _some(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Of a test with many cases, a few that lie far apart; a mutant that survives these has met hundreds of others."""
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        cases.setdefault((item.path, getattr(item, "originalname", item.name)), []).append(item)
    return [item for group in cases.values() for item in group[:: -(-len(group) // CASES)]]


def observe_vectors(vectors: Sequence[tuple[Path, Any]]) -> Run:
    """Run all vectors with the library as it is; each of them has to pass."""
    run, lines, run_vector = Run(), _Lines(), vector_runner()
    for path, data in vectors:
        with lines.of(run, data["id"]):
            if not run_vector(path, data):
                raise AssertionError(f"the vector {data['id']} fails already")
    return run


def observe_tests(file: Path) -> Run:
    """Run the tests of a file with the library as it is; each of them has to pass."""
    run = Run()
    _forget()
    observer = _Observer(run, _Lines())
    if run_pytest([file], observer) not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise AssertionError(f"{file} fails already: {observer.failed}")
    return run


def _allow(seconds: float) -> None:
    """Let this process end if it computes, or waits, much longer than this; the signals' default is to end it."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 + _WAITING * seconds)


def vector_runner() -> Callable[[Path, Any], bool]:
    from mailtlspolicy.testing import vectors

    def run(path: Path, data: Any) -> bool:
        try:
            return vectors.run(vectors.Vector(data, path.parent)) is None
        except Exception:  # noqa: BLE001
            return False

    return run


class _Loader(SourceFileLoader):
    """Loads a mutant in a module's place, under its name and its path."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(f"mailtlspolicy.{mutant.module}", str(path_of(mutant.module)))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(self.mutant.source, self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> Any:
        return spec_from_loader(name, self) if name == self.name else None


def _forget() -> None:
    """Let the library and the tests be loaded anew."""
    for name in list(sys.modules):
        if re.match(r"(mailtlspolicy|conftest|test_\w+|tests\.(?!mutation))\b", name):
            del sys.modules[name]


def _change(mutant: Mutant) -> None:
    """Give the changed function its new code."""
    path = path_of(mutant.module)
    old = _function(compile(source_of(mutant.module), str(path), "exec", dont_inherit=True), mutant.function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = _function(compile(mutant.source, str(path), "exec", dont_inherit=True), mutant.function)
    changed = [function for function in FUNCTIONS if function.__code__ == old]
    if not changed:
        raise AssertionError(f"{mutant.function} of {mutant.module} is nowhere to be found")
    for function in changed:
        function.__code__ = new


FUNCTIONS: list[FunctionType] = []


def find_functions() -> None:
    """Find the functions of the modules, wherever they are kept."""
    paths = {str(path_of(module)) for module in MODULES}
    everything = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
    FUNCTIONS[:] = [thing for thing in everything if thing.__code__.co_filename in paths]


def _function(code: CodeType, name: str) -> CodeType:
    """The code of the outermost function in this place, by its name or that of a function in it."""
    for part in name.split("."):
        code = next(inner for inner in code.co_consts if isinstance(inner, CodeType) and inner.co_name == part)
        if code.co_flags & inspect.CO_OPTIMIZED:
            return code
    raise LookupError(name)


class _Lines:
    """The lines of the modules that are run, by the interpreter's own account."""

    def __init__(self) -> None:
        self.watched = {str(path_of(module)): module for module in MODULES}
        self.seen: set[Line] = set()

    @contextmanager
    def of(self, run: Run, judge: str) -> Iterator[None]:
        """Write down what a judge runs, and for how long; the parts of a test add up."""
        self.seen = run.lines.setdefault(judge, set())
        began = time.process_time()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)
            run.seconds[judge] = run.seconds.get(judge, 0.0) + time.process_time() - began

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename in self.watched else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.seen.add((self.watched[frame.f_code.co_filename], frame.f_lineno))
        return self._line


class Tests:
    """A plugin of pytest: no test that has a process of its own, and what fails first."""

    failed: str | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.get_closest_marker("own_process") is None]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


class _Observer(Tests):
    def __init__(self, run: Run, lines: _Lines) -> None:
        self.run, self.lines = run, lines

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        with self.lines.of(self.run, item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        """What a file runs when it is loaded is put down to a test of no name, and so lets the file be loaded."""
        if not isinstance(collector, pytest.Module):
            return (yield)
        with self.lines.of(self.run, f"{collector.nodeid}::"):
            return (yield)


class _Concerned(Tests):
    """Those tests alone that run what is changed, the quick ones first."""

    def __init__(self, judges: Judges, spared: set[str]) -> None:
        self.judges, self.spared = judges, spared

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        super().pytest_collection_modifyitems(items)
        items[:] = _some([item for item in items if item.nodeid not in self.spared])
        items.sort(key=lambda item: self.judges.seconds.get(item.nodeid, 0.0))

    def pytest_collectstart(self) -> None:
        _allow(60)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        _allow(self.judges.limit(item.nodeid))


def run_pytest(paths: Sequence[Path], plugin: Tests) -> int:
    """Run these files of tests; the first failure ends it."""
    # what fails need not be made small
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutation", derandomize=True, deadline=None, database=None, phases=phases)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "-s", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    arguments = [*options, "--hypothesis-profile=mutation", *map(str, paths)]
    return pytest.main(arguments, plugins=[plugin])


def write(value: object, file: Path) -> None:
    """Hand a result to the process that waits for it."""
    part = file.with_suffix(".part")
    part.write_bytes(pickle.dumps(value))
    part.rename(file)


def merged(runs: Sequence[Run]) -> Judges:
    """All of them as one."""
    together = Run()
    for run in runs:
        together.lines.update(run.lines)
        together.seconds.update(run.seconds)
    return Judges.of(together)
