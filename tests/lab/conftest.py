"""The lab, started once for all its tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lab.__main__ import INSIDE
from tests.lab.lab import Lab, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The running lab."""
    if INSIDE not in os.environ:
        pytest.exit("the lab runs in namespaces of its own: python -m tests.lab", returncode=2)
    with run(tmp_path_factory.mktemp("lab")) as running:
        yield running
