"""What the tests of the recipes share: miniature corpora and tables to import, and the program on the PATH as for a user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs a command as a user would, who has `msfser` and its `python` on the PATH, no configuration and an empty cache."""
    if not shutil.which("espeak-ng"):
        pytest.skip("there is no espeak-ng to speak the miniature corpus")
    folder = tmp_path_factory.mktemp("bin")
    for name, code in (("msfser", "-c 'from msfser_cli.cli.app import main; main()'"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {code} "$@"\n')
        script.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("MSFSER_") and not name.startswith("MSFSER_TEST_"):
                patch.delenv(name)
        patch.setenv("MSFSER_CACHE", str(tmp_path_factory.mktemp("models")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.setenv("MSFSER_JOBS", "0")
        patch.setenv("OMP_NUM_THREADS", "1")  # little to compute, in many processes: threads would mostly wait for one another
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield lambda *command: subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
