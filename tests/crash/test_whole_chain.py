"""The whole chain with its real models, killed on its way."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from kit.crash_runs import leftovers, state
from kit.program import Nursery

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


@pytest.mark.slow
def test_a_model_is_killed_while_it_describes(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kit.audio_language_models import save_qwen2_audio

    save_qwen2_audio(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    for name in ("stress.flac", "complaint.wav", "good_news.flac"):
        shutil.copy(QUICKSTART / "corpus" / "clips" / name, tmp_path / "corpus")

    def start(*command: str, where: str = "", at: tuple[object, ...] = ()) -> int:
        request = {"part": 1, "watch": str(tmp_path / where), "at": at, "log": str(tmp_path / "operations")} if where else {}
        return nursery.start(list(command), tmp_path, tmp_path / "said", **request).ended()

    def describe(where: str, *at: object) -> int:
        command = ("describe", "emphasized.parquet", "--describer", "transformers:model", "--out", f"{where}/x.parquet")
        return start(*command, where=where, at=at)

    assert start("transcribe", "corpus", "--out", "utterances.parquet") == 0
    assert start("emphasize", "utterances.parquet", "--out", "emphasized.parquet") == 0
    assert describe("clean") == 0
    assert describe("out", "kill", 2, ["create .x.parquet.tmp"]) == -signal.SIGKILL
    assert describe("out", "kill", 1, ["rename x.parquet"]) == -signal.SIGKILL
    assert describe("out") == 0
    clean = state(tmp_path / "clean" / "x.parquet", "describe")
    assert state(tmp_path / "out" / "x.parquet", "describe") == clean
    assert any("pitch" not in row["description"] for rows in clean.rows.values() for row in rows)  # the model's own words
    assert not leftovers(tmp_path / "out")
