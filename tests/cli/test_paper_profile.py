"""The paper's own chain by the command line, with small models of the same classes in the places of the large ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from kit.audio_language_models import SENTENCE, make_it_say, save_qwen2_audio
from kit.program import AFRESH
from kit.speech_models import save_ctc, save_roberta, save_speech_model
from msfser_cli.model_store.models import locate

pytestmark = pytest.mark.process

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
STAND_INS = {
    "model": lambda folder: locate("whisper-base").path,
    "aligner": save_ctc,
    "describer": lambda folder: f"transformers:{make_it_say(save_qwen2_audio(folder))}",
    "acoustic-model": lambda folder: save_speech_model(folder, "wavlm"),
    "text-model": save_roberta,
}
OF = {"transcribe": ("model", "aligner"), "emphasize": (), "describe": ("describer",), "embed": ("acoustic-model", "text-model")}

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The options that name the small models."""
    folder = tmp_path_factory.mktemp("models")
    return {option: str(make(folder / option)) for option, make in STAND_INS.items()}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs the program with the paper's profile; it must exit with 0."""

    def run(command: str, *arguments: str, profile: bool = True) -> subprocess.CompletedProcess[str]:
        line = [*AFRESH, command, *arguments, *(("--profile", "paper") if profile else ())]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run


def chosen(stand_ins: dict[str, str], *options: str) -> list[str]:
    return [part for option in options for part in (f"--{option}", stand_ins[option])]


@pytest.mark.slow
def test_from_a_corpus_to_a_head_and_its_scores(program: Program, stand_ins: dict[str, str], tmp_path: Path) -> None:
    labels, table = str(QUICKSTART / "labels.csv"), str(QUICKSTART / "corpus")
    for stage, options in OF.items():
        program(stage, table, "--out", f"{stage}.parquet", *chosen(stand_ins, *options))
        table = f"{stage}.parquet"
    program("train", table, "--gold", labels, "--out", "head", "--epochs", "3", profile=False)
    predict = ("predict", str(QUICKSTART / "corpus"), "--out", "scores.parquet", "--head", "head", "--keep-vectors", "--json")
    predict += tuple(chosen(stand_ins, *STAND_INS))
    first = program(*predict)
    assert json.loads(first.stdout)["done"] == 7
    assert json.loads(first.stdout)["fallbacks"] == {}
    assert json.loads(program(*predict).stdout)["unchanged"] == 8

    scores, embedded = (pq.read_table(tmp_path / name) for name in ("scores.parquet", table))
    for name in embedded.column_names:
        assert scores[name].combine_chunks().equals(embedded[name].combine_chunks()), name
    assert set(scores["description"].to_pylist()) == {SENTENCE}
    assert len(scores["acoustic_vector"][0]) == 64
    assert len(scores["gs_vector"][0]) == 32
    for row in scores.to_pylist():
        assert all(word["aligned"] for word in row["words"] if any(c.isascii() and c.isalpha() for c in word["word"]))
        assert all(np.isfinite(row[dimension]) for dimension in ("valence", "arousal", "dominance"))
    lineage = _lineage(scores)
    assert "prompt 1 sha256:" in lineage["models"]["describer"]
    assert {"transcriber", "aligner", "describer", "acoustic", "text", "head"} <= lineage["models"].keys()

    report = program("evaluate", "scores.parquet", "--gold", labels, "--json", profile=False)
    assert set(json.loads(report.stdout)["dimensions"]) == {"valence", "arousal", "dominance"}


def _lineage(table: Any) -> dict[str, Any]:
    return next(json.loads(value) for key, value in table.schema.metadata.items() if key.startswith(b"msfser"))


def test_the_commands_of_the_recipe_are_commands() -> None:
    page = (QUICKSTART.parent / "paper" / "README.md").read_text()
    lines = [line.split() for line in re.findall(r"^msfser .*", page, re.MULTILINE)]
    assert len(lines) == 10
    for line in lines:
        words = line[1:3] if line[1] == "models" else line[1:2]
        done = subprocess.run([*AFRESH, *words, "--help"], env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True)
        for option in re.findall(r"--[\w-]+", " ".join(line)):
            assert f"{option} " in done.stdout, (line, option)
