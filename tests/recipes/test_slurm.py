"""The jobs of recipes/slurm, as Slurm and Kubernetes would run them, with quick back ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kit.doubled import make_models
from kit.sounds import hum
from msfser_cli import schemas
from msfser_cli.store import tables
from msfser_cli.store.ledger import read_ledger

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "slurm"

SBATCH = """#!/bin/bash
# Runs the jobs of an array one after another, and waits; the job that depends on them comes later by itself.
array=
for argument; do
  case $argument in
    --array=0-*) array=$(seq 0 "${argument#--array=0-}") ;;
    --dependency=*) [ "$argument" = --dependency=afterok:17 ] || exit 1 ;;
    --*) ;;
    *) job=$argument ;;
  esac
done
echo "$@" >> "$JOBS"
for number in ${array:--}; do
  SLURM_CPUS_PER_TASK=8 SLURM_ARRAY_TASK_ID=$number bash "$job" >&2 || echo "failed: $job $number" >> "$JOBS"
done
echo "17;cluster"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubles: None) -> Path:
    """A folder with a corpus, and on the PATH msfser and what stands for Slurm."""
    for name, script in {
        "msfser": f'#!/bin/sh\nexec {sys.executable} -c "from msfser_cli.cli.app import main; main()" "$@"\n',
        "srun": '#!/bin/sh\n[ "$1" = --cpus-per-task=8 ] || exit 1\nshift\nexec "$@"\n',
        "sbatch": SBATCH,
    }.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)
    (tmp_path / "corpus").mkdir()
    for number in range(6):
        hum(tmp_path / "corpus" / f"{number}.wav", 2, 0.1 + number / 100)
    (tmp_path / "corpus" / "page.mp3").write_text("<html>not here</html>")
    make_models(tmp_path / "models")
    chosen = {"TRANSCRIBER": "double", "ACOUSTIC_ENCODER": "double", "TEXT_ENCODER": "double", "MODEL": "speech",
              "ACOUSTIC_MODEL": "speech", "TEXT_MODEL": "text", "HEAD": "head"}  # fmt: skip
    for option, value in chosen.items():
        monkeypatch.setenv(f"MSFSER_{option}", value if value == "double" else str(tmp_path / "models" / value))
    monkeypatch.setenv("MSFSER_JOBS", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return tmp_path


@pytest.mark.slow
def test_slurm_annotates_a_corpus_in_shards(place: Path) -> None:
    command = [str(RECIPE / "submit"), "corpus", "out", "3", "--partition=gpu"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed:" not in (place / "jobs").read_text(), done.stderr
    assert [line.rpartition("/")[2] for line in (place / "jobs").read_text().splitlines()] == ["shard.sbatch", "join.sbatch"]
    assert {path.name for path in (place / "out").iterdir() if path.is_dir()} == {"shard-0", "shard-1", "shard-2", "scores"}
    names = [f"{number}.wav" for number in range(6)]
    columns = schemas.columns_through("predict", vectors=False)
    assert [name for name, _ in tables.iter_recordings(place / "out" / "scores", columns)] == names
    ledger = read_ledger(f"{place}/out/scores/")
    assert {name: line["status"] for name, line in ledger.items()} == dict.fromkeys(names, "done") | {"page.mp3": "failed"}


def test_the_jobs_of_kubernetes_are_the_shards(place: Path) -> None:
    job = yaml.safe_load((RECIPE / "kubernetes.yaml").read_text())["spec"]
    assert job["completionMode"] == "Indexed"
    [container] = job["template"]["spec"]["containers"]
    [shards] = [variable["value"] for variable in container["env"] if variable["name"] == "SHARDS"]
    assert job["completions"] == int(shards) <= 1000
    [script] = container["args"]
    script = script.replace("/data/", f"{place}/")
    (place / "msfser").mkdir()
    for index, of in ((0, 2), (1, 2)):
        environment = os.environ | {"JOB_COMPLETION_INDEX": str(index), "SHARDS": str(of)}
        done = subprocess.run([*container["command"], script], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    joining = re.search(r"^(msfser join .*)$", (RECIPE / "README.md").read_text(), re.MULTILINE)
    assert joining
    command = ["/bin/sh", "-c", joining[1].replace("/data/", f"{place}/")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert len(read_ledger(f"{place}/msfser/scores/")) == 7
