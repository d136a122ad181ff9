"""tests/gpu: left out unless they are named, refused without a GPU, and right by themselves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kit.places import GPU, ROOT

pytestmark = pytest.mark.process

NEED_A_GPU = {"test_a_gpu_whose_memory_others_took_ends_the_run_with_7"}
"""The tests that measure nothing without one."""


def run_pytest(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, on a machine without a GPU."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", *arguments]
    environment = {**inherited, "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("arguments", "collected"), [
    pytest.param(("--all", "--tiny"), False, marks=pytest.mark.slow), (("tests/test_layers.py",), False),
    (("tests/test_layers.py", f"{GPU}/test_memory.py", "--tiny"), True),
])  # fmt: skip
def test_they_are_collected_only_if_they_are_named(arguments: tuple[str, ...], collected: bool) -> None:
    done = run_pytest("--collect-only", "-q", *arguments)
    assert done.returncode == 0, done.stdout
    assert ("tests/gpu/test_memory.py::" in done.stdout) == collected
    assert "::" in done.stdout


def test_without_a_gpu_they_say_so() -> None:
    done = run_pytest("tests/gpu")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "torch finds no GPU, and tests/gpu need one" in done.stderr
    assert "passed" not in done.stdout


@pytest.mark.slow
@pytest.mark.one_in(3)
@pytest.mark.parametrize("file", sorted(path.name for path in GPU.glob("test_*.py")))
def test_they_pass_with_tiny_models_and_write_every_figure(tmp_path: Path, file: str) -> None:
    done = run_pytest(f"tests/gpu/{file}", "--tiny", f"--basetemp={tmp_path / 'tests'}", OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout
    written = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert written["machine"]["tiny"] is True
    for figure in written["figures"]:
        assert f"{figure['what']}: {figure['value']} {figure['unit']}".rstrip() in done.stdout
    names = set(re.findall(r"^def (test_\w+)", (GPU / file).read_text(), re.MULTILINE))
    assert names - {figure["test"].partition("[")[0] for figure in written["figures"]} <= NEED_A_GPU
