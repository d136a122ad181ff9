"""Runs of the real program that are killed, refused, signalled and started together: see `kit.nursery` and `kit.crash_runs`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.crash_runs import Case
from kit.doubled import make_models
from kit.places import MEMORY
from kit.program import Nursery


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder with the models, in memory where there is such a place."""
    with tempfile.TemporaryDirectory(prefix="msfser-tests-", dir=MEMORY) as folder:
        make_models(Path(folder) / "models")
        yield Path(folder)


@pytest.fixture(scope="session")
def case(nursery: Nursery, home: Path) -> Callable[[str, str, str], Case]:
    """The case of a stage, a layout and a scenario, ready to be played."""

    def entered(stage: str, layout: str, scenario: str) -> Case:
        found = Case(nursery, home, stage, layout, scenario)
        found.enter()
        return found

    return entered
