"""The scripts of recipes/ray: a head and a node on this machine, and a run that they work for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.places import DOUBLES, RECIPES, ROOT
from kit.program import MAIN, is_alive, wait_for
from kit.sounds import hum

pytestmark = [pytest.mark.process, pytest.mark.slow]

RECIPE = RECIPES / "ray"


def commands() -> list[str]:
    """What the page says for a cluster: on the first machine, on the others, and the run."""
    section = (RECIPE / "README.md").read_text().partition("## A cluster\n")[2]
    return re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[:3]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path for Ray's files. In the end, all that was started with it is killed."""
    folder = tempfile.mkdtemp(prefix="msfser-", dir="/tmp")
    yield Path(folder)
    ours = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdecimal() and f"{folder}/".encode() in (process / "cmdline").read_bytes().replace(b"\0", b"/"):
                ours.append(int(process.name))
    for pid in ours:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, ours)))
    shutil.rmtree(folder, ignore_errors=True)


def test_a_cluster_is_started_and_works(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray.util import get_node_ip_address

    programs = tmp_path / "bin"
    programs.mkdir()
    for name, program in (("msfser", MAIN), ("ray", "from ray.scripts.scripts import main; main()")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES), prepend=os.pathsep)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    monkeypatch.setenv("MSFSER_TEST_OWN_ADDRESS", get_node_ip_address())
    monkeypatch.delenv("MSFSER_JOBS")
    (tmp_path / "model").mkdir()
    for i in range(6):
        hum(tmp_path / "corpus" / f"{i}.wav", 1 + i % 3, 0.1 + i / 100)
    head, node, run = commands()
    address = f"{get_node_ip_address()}:6390"
    # Without the guard of the network: Ray's head asks for its cloud.
    unguarded = {name: value for name, value in os.environ.items() if name != "MSFSER_TEST_NETWORK_LOG"}
    with contextlib.ExitStack() as ended:
        for command in (f"{head.strip().replace('6379', '6390')} --temp-dir {temporary}", node.replace("10.0.0.1:6379", address)):
            started = subprocess.Popen(f"exec {command.strip()} --num-cpus 1", shell=True, cwd=ROOT, stdout=subprocess.PIPE,
                                       text=True, env=unguarded)  # fmt: skip
            ended.callback(started.kill)
            assert started.stdout
            assert any("Ray runtime started" in line for line in started.stdout)
        run = run.replace("recipes/", f"{ROOT}/recipes/").replace("10.0.0.1:6379", address).replace("/data/", f"{tmp_path}/")
        run = run.replace("msfser predict", "msfser transcribe").strip() + " --transcriber double --model model"
        done = subprocess.run(run, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 recordings: 6 done" in done.stderr
    assert (tmp_path / "scores").is_dir()
