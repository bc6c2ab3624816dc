"""The judges of a mutant: the vectors first, which are quick, then unit tests; those that run the changed statement.

All of this runs in a process of its own, which imports the library anew, with the mutant in the place of its module. A
judge that takes far more processor time than with the library as it is ends that process, and so the mutant.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import signal
import sys
import time
import warnings
from collections import defaultdict
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import field, frozen
from hypothesis import Phase, settings

from tests.mutation.mutants import MODULES, PACKAGE, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import CodeType, FrameType, ModuleType

    from tests.mutation.mutants import Mutant

TOP = PACKAGE.parents[1]
VECTORS = TOP / "vectors"
# That of a module first, then the others; `stores`, `properties` and whatever opens sockets are too slow to be asked
# about every mutant.
TESTS = (
    *(f"test_{module.rpartition('.')[2]}" for module in MODULES if not module.startswith("sts")),
    *("test_sts_discovery", "test_sts_cache", "test_effects", "test_engine", "test_check", "test_message"),
    *("test_session", "test_session_key", "test_partial_answers", "test_sts_refresh", "test_outcome", "test_model"),
)
MEMORY = 4 * 1024**3  # octets
_SECONDS, _TIMES, _WAITING = 2.0, 20.0, 10.0  # a judge may compute for so long, or so many times as long as before

Line = tuple[str, int]


@frozen
class Judges:
    """What is known of the judges from a run with the library as it is.

    Attributes:
        lines: the lines of the modules that each runs; a judge that is not listed is asked about every mutant.
        seconds: the processor time that each takes.
    """

    lines: dict[str, set[Line]] = field(factory=dict)
    seconds: dict[str, float] = field(factory=dict)

    def concerns(self, judge: str, mutant: Mutant) -> bool:
        """Whether a judge runs what is changed; what runs at import concerns whoever runs anything of the module."""
        lines = self.lines.get(judge)
        if lines is None or mutant.module == "":
            return True
        if not mutant.places:
            return any(module == mutant.module for module, _ in lines)
        return any((mutant.module, place) in lines for place in mutant.places)

    def limit(self, judge: str) -> float:
        """The processor time that it may take."""
        return _SECONDS + _TIMES * self.seconds.get(judge, 1.0)


def load_vectors() -> list[tuple[Path, Any]]:
    """The vectors, in an order that brings different ones early."""
    files = [(path, json.loads(path.read_text("utf-8"))) for path in sorted(VECTORS.glob("*.json"))]
    vectors = [(path, vector) for path, data in files for vector in data.get("vectors", ())]
    random.Random(0).shuffle(vectors)
    return vectors


def test_files() -> list[Path]:
    """The files of unit tests that judge."""
    return [path for path in (TOP / "tests" / f"{name}.py" for name in TESTS) if path.exists()]


def judge(mutant: Mutant, judges: Judges, vectors: Sequence[tuple[Path, Any]]) -> str | None:
    """Which judge notices a mutant, and how, or None; not to be called twice in a process."""
    _bound()
    try:
        _replace(mutant)
        run_vector = _vector_runner()
    except Exception as error:  # noqa: BLE001
        return f"import: {type(error).__name__}"
    for path, data in vectors:
        if judges.concerns(data["id"], mutant):
            _allow(judges.limit(data["id"]))
            if not run_vector(path, data):
                return f"vector {data['id']}"
    own = f"test_{mutant.module.replace('delivery.', '').replace('.', '_')}"
    for path in sorted(test_files(), key=lambda path: path.stem != own):
        concerned = _Concerned(judges, mutant)
        name = f"tests/{path.name}::"
        known = [judge for judge in judges.lines if judge.startswith(name)]
        if known and not any(judges.concerns(judge, mutant) for judge in known):
            continue
        if _pytest(path, concerned) not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            return f"test {concerned.failed or path.name}"
    return None


def observe(part: str, vectors: Sequence[tuple[Path, Any]]) -> Judges:
    """Run all vectors, or the tests of a file, with the library as it is; each of them has to pass."""
    seen = Judges()
    lines = _Lines()
    if part == "vectors":
        run_vector = _vector_runner()
        for path, data in vectors:
            with lines.of(seen, data["id"]):
                if not run_vector(path, data):
                    raise AssertionError(f"the vector {data['id']} fails already")
        return seen
    observer = _Observer(seen, lines)
    if _pytest(Path(part), observer) not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise AssertionError(f"{part} fails already: {observer.failed}")
    return seen


def third_party() -> list[str]:
    """The modules that the judges need beside our own, so that they are loaded once, and not anew for each mutant."""
    _vector_runner()
    return [name for name in sys.modules if name.partition(".")[0] not in {"mailtlspolicy", "tests", "__main__"}]


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _allow(60)


def _allow(seconds: float) -> None:
    """Let this process end if it computes, or waits, much longer than this; the signals' default is to end it."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 + _WAITING * seconds)


def _vector_runner() -> Callable[[Path, Any], bool]:
    from mailtlspolicy import vectors

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


def _replace(mutant: Mutant) -> None:
    assert not [name for name in sys.modules if name.partition(".")[0] == "mailtlspolicy"]
    if mutant.module:
        sys.meta_path.insert(0, _Loader(mutant))


class _Lines:
    """The lines of the modules that are run, by the interpreter's own account."""

    def __init__(self) -> None:
        self.watched = {str(path_of(module)): module for module in MODULES}
        self.seen: set[Line] = set()

    @contextmanager
    def of(self, judges: Judges, judge: str) -> Iterator[None]:
        """Write down what a judge runs, and for how long; the parts of a test add up."""
        self.seen = judges.lines.setdefault(judge, set())
        began = time.process_time()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)
            judges.seconds[judge] = judges.seconds.get(judge, 0.0) + time.process_time() - began

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename in self.watched else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.seen.add((self.watched[frame.f_code.co_filename], frame.f_lineno))
        return self._line


class _Tests:
    """A plugin of pytest: no test that has a process of its own, and what fails first."""

    failed: str | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.get_closest_marker("own_process") is None]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


class _Observer(_Tests):
    def __init__(self, judges: Judges, lines: _Lines) -> None:
        self.judges, self.lines = judges, lines

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        with self.lines.of(self.judges, item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        """What a file runs when it is loaded is put down to a test of no name, and so lets the file be loaded."""
        if not isinstance(collector, pytest.Module):
            return (yield)
        with self.lines.of(self.judges, f"{collector.nodeid}::"):
            return (yield)


class _Concerned(_Tests):
    """Those tests alone that run what is changed, the quick ones first."""

    def __init__(self, judges: Judges, mutant: Mutant) -> None:
        self.judges, self.mutant = judges, mutant

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        super().pytest_collection_modifyitems(items)
        items[:] = [item for item in items if self.judges.concerns(item.nodeid, self.mutant)]
        items.sort(key=lambda item: self.judges.seconds.get(item.nodeid, 0.0))

    def pytest_collectstart(self) -> None:
        _allow(60)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        _allow(self.judges.limit(item.nodeid))


def _pytest(path: Path, plugin: _Tests) -> int:
    # what fails need not be made small
    settings.register_profile("mutation", derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate])
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    arguments = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    return pytest.main([*arguments, "--hypothesis-profile=mutation", str(path)], plugins=[plugin])


def write(value: object, file: Path) -> None:
    """Hand a result to the process that waits for it."""
    part = file.with_suffix(".part")
    part.write_bytes(pickle.dumps(value))
    part.rename(file)


def merged(parts: Sequence[Judges]) -> Judges:
    """All of them as one."""
    lines: defaultdict[str, set[Line]] = defaultdict(set)
    seconds: dict[str, float] = {}
    for part in parts:
        lines.update(part.lines)
        seconds.update(part.seconds)
    return Judges(dict(lines), seconds)
