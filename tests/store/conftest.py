"""Files of these tests are in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.places import MEMORY


@pytest.fixture
def new_folder() -> Iterator[Callable[[], Path]]:
    """Makes empty folders, in memory where there is such a place."""
    with tempfile.TemporaryDirectory(prefix="msfser-tests-", dir=MEMORY) as home:
        yield lambda: Path(tempfile.mkdtemp(dir=home))


@pytest.fixture
def tmp_path(new_folder: Callable[[], Path]) -> Path:
    """An empty folder, as pytest's own."""
    return new_folder()
