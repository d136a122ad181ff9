"""Files of these tests are in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def new_folder() -> Iterator[Callable[[], Path]]:
    """Makes empty folders, in memory where there is such a place: a process that is killed, unlike a machine that loses its
    power, loses nothing that was not synced, and thousands of syncs take minutes on a busy disk.
    """
    with tempfile.TemporaryDirectory(prefix="msfser-tests-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as home:
        yield lambda: Path(tempfile.mkdtemp(dir=home))


@pytest.fixture
def tmp_path(new_folder: Callable[[], Path]) -> Path:
    """An empty folder, as pytest's own."""
    return new_folder()
