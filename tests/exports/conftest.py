from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], Path]:
    """A function that makes an empty folder, for each example of a property test."""
    return lambda: Path(tempfile.mkdtemp(dir=tmp_path))
