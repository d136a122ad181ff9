"""What is written survives a kill at any moment; the operations are counted by Python's own audit events."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit import store_crash

pytestmark = pytest.mark.process


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("scenario", "layout"),
    [*itertools.product(["first", "update", "redo", "prune"], ["x.parquet", "x/"]), ("redo-unexchanged", "x/")],
)
def test_a_killed_run_run_again_equals_one_that_was_not(tmp_path: Path, share: float, scenario: str, layout: str) -> None:
    every = max(1, round(1 / share)) | 1  # an odd step, as what comes next depends on whether the number is even
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, store_crash.__file__, scenario, layout, str(tmp_path / "here"), str(every)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * every >= 30
