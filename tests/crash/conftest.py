"""Runs of the real program that are killed, refused, signalled and started together: see `kit.nursery` and `kit.crash_runs`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.crash_runs import Case, Nursery, make_models

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def nursery(network_log: Path) -> Iterator[Nursery]:
    """The program, ready to be started; what was started and has not ended is killed in the end."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder with the models, in memory where there is such a place: a process that is killed, unlike a machine that loses its
    power, loses nothing that was not synced, and thousands of syncs take minutes on a busy disk.
    """
    with tempfile.TemporaryDirectory(prefix="msfser-tests-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
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
