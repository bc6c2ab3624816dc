"""One Hypothesis profile for everyone, and processes of their own for tests that could disturb others or be disturbed.

The same examples in every run, and no deadline on a slow machine; `pytest --hypothesis-profile=explore` looks for new
examples instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")

OUTCOMES = "MAILTLSPOLICY_OUTCOMES"  # the file to which a test process of its own writes how its tests ended
_OUTCOMES = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "own_process: sends signals, exhausts something or measures time; the cases of a test share a process",
    )
    config.stash[_OUTCOMES] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if OUTCOMES in os.environ and (report.when == "call" or not report.passed):
        with Path(os.environ[OUTCOMES]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({report.nodeid: "" if report.passed else report.longreprtext or "skipped"}) + "\n")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Take the outcome from the process that runs all cases of this test, if it has to have one."""
    if OUTCOMES in os.environ or pyfuncitem.get_closest_marker("own_process") is None:
        return None
    outcomes = pyfuncitem.config.stash[_OUTCOMES]
    if pyfuncitem.nodeid not in outcomes:
        cases = [item.nodeid for item in pyfuncitem.session.items if _test_of(item) == _test_of(pyfuncitem)]
        outcomes.update(_run_alone(pyfuncitem.config.rootpath, cases))
    if why := outcomes[pyfuncitem.nodeid]:
        pytest.fail(why, pytrace=False)
    return True


def _test_of(item: pytest.Item) -> tuple[Path, str]:
    return item.path, getattr(item, "originalname", item.name)


def _run_alone(top: Path, cases: list[str]) -> dict[str, str]:
    """By case, why it failed, or an empty text."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcomes"
        file.touch()
        command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", *cases]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=top, env=environment | {OUTCOMES: str(file)}
        )
        ended = f"The process ended with {done.returncode}.\n{done.stdout}\n{done.stderr}"
        outcomes = dict.fromkeys(cases, ended)
        for line in file.read_text(encoding="utf-8").splitlines():
            outcomes.update(json.loads(line))
        return outcomes if done.returncode == 0 or any(outcomes.values()) else dict.fromkeys(cases, ended)
