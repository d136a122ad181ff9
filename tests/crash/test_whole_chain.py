"""The whole chain with its real models, killed on its way."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from crash_runs import Nursery, leftovers, state

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"


@pytest.mark.slow
def test_predict_is_killed_on_its_way_through_a_corpus(nursery: Nursery, tmp_path: Path) -> None:
    shutil.copytree(QUICKSTART / "corpus", tmp_path / "corpus")
    out, log = tmp_path / "out", tmp_path / "operations"
    out.mkdir()

    def start(where: str, *at: object) -> int:
        command = ["predict", "corpus", "--out", f"{where}/x.parquet"]
        request = {"part": 4, "watch": str(tmp_path / where), "at": at, "log": str(log)}
        return nursery.start(command, tmp_path, tmp_path / "said", **request).ended()

    assert start("clean") == 0
    log.unlink()
    assert start("out", "kill", 2, ["create .x.parquet.tmp"]) == -signal.SIGKILL
    assert leftovers(out) == {".x.parquet.lock", ".x.parquet.parts"}
    assert start("out", "kill", 1, ["rename x.parquet"]) == -signal.SIGKILL
    assert start("out", "kill", 1, ["rename x.recordings.parquet"]) == -signal.SIGKILL
    log.unlink()
    assert start("out") == 0
    assert "annotate .\n" not in log.read_text()
    assert state(out / "x.parquet", "predict") == state(tmp_path / "clean" / "x.parquet", "predict")
    assert not leftovers(out)
