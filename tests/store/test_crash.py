"""What is written survives a kill and a full disk at any moment; the operations are counted by Python's own audit events."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("layout", ["x.parquet", "x/"])
@pytest.mark.parametrize(
    ("mode", "scenario", "at_least"),
    [
        ("every-kill", "first", 30),
        ("every-kill", "update", 30),
        ("every-kill", "redo", 30),
        ("every-kill", "prune", 30),
        ("every-refusal", "update", 12),
        ("every-refusal", "prune", 12),
        ("random-kill", "update", 24),
    ],
)
def test_a_stopped_run_run_again_equals_one_that_was_not(
    tmp_path: Path, mode: str, scenario: str, at_least: int, layout: str
) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "crash.py"), mode, scenario, layout, str(tmp_path / "here")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= at_least
