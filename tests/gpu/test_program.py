"""The program on the GPU, as a user runs it: each stage with models of real size, all stages at once, and `mini`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kit.audio_language_models import SENTENCE
from kit.gpu import LITTLE, Card, apart

pytestmark = [pytest.mark.model, pytest.mark.process]

Note = Callable[..., None]

DIMENSIONS = ("valence", "arousal", "dominance")
OTHER_TEXTS = 0.1
"""The largest share of utterances that may have another text."""


def test_stage_by_stage_and_all_at_once(
    run: Callable[..., Any], corpus: Path, wavlm: Path, roberta: Path, listener: Path, card: Card, note: Note, tmp_path: Path
) -> None:
    describer = ("--describer", f"transformers:{listener}")
    encoders = ("--acoustic-encoder", "transformers-speech", "--acoustic-model", wavlm, "--text-model", roberta)
    run("transcribe, Whisper-base", "transcribe", corpus, "--out", "transcribed.parquet")
    run("emphasize", "emphasize", "transcribed.parquet", "--out", "emphasized.parquet")
    run("describe, a small Qwen2-Audio", "describe", "emphasized.parquet", "--out", "described.parquet", *describer)
    run("embed, WavLM-Large and RoBERTa-Large", "embed", "described.parquet", "--out", "embedded.parquet", *encoders)
    embedded = pl.read_parquet(tmp_path / "embedded.parquet")
    note("utterances", len(embedded))
    write_labels(embedded, tmp_path / "labels.csv")
    run("train the head alone, 3 epochs", "train", "embedded.parquet", "--gold", "labels.csv", "--out", "head", "--epochs", "3",
        hours=0)  # fmt: skip
    run("embed and predict, WavLM-Large and RoBERTa-Large", "predict", "described.parquet", "--out", "from_table.parquet",
        "--head", "head", "--keep-vectors", *encoders)  # fmt: skip
    done = run("predict from the corpus, all of these models", "predict", corpus, "--out", "from_corpus.parquet",
               "--head", "head", "--keep-vectors", "--json", *describer, *encoders)  # fmt: skip

    said = json.loads(done.stdout)
    assert said["done"] + said["no_speech"] == len(list(corpus.iterdir()))
    assert said["fallbacks"] == {}
    assert set(embedded["description"]) == {SENTENCE}
    tables = {name: pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("from_table", "from_corpus")}
    for vectors in ("acoustic_vector", "gs_vector"):
        assert len(embedded[vectors][0]) == len(tables["from_corpus"][vectors][0])
        assert apart(matrix(tables["from_table"], vectors), matrix(embedded, vectors)) < 5e-3
    for name, table in tables.items():
        assert np.isfinite(table.select(DIMENSIONS).to_numpy()).all(), name
    check(note, "from the corpus at once and from its tables", tables["from_corpus"], tables["from_table"], 0.02)

    if card.is_real:
        before = (tmp_path / "embedded.parquet").read_bytes()
        with card.left(LITTLE):
            run("embed on a full GPU", "embed", "described.parquet", "--out", "embedded.parquet", "--redo", *encoders, code=7)
        assert (tmp_path / "embedded.parquet").read_bytes() == before


def test_mini_gives_the_scores_of_the_cpu(run: Callable[..., Any], corpus: Path, note: Note, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(corpus.iterdir())[: len(list(corpus.iterdir())) // 4 + 1]:
        shutil.copy(path, few)
    run("predict, mini", "predict", corpus, "--out", "gpu.parquet", "--keep-vectors")
    hours = len(list(few.iterdir())) * (path.stat().st_size - 44) / 32_000 / 3600
    of_few = ("predict", few, "--keep-vectors", "--out")
    run("predict, mini, a part of the corpus", *of_few, "again.parquet", hours=hours)
    run("predict, mini, a part of the corpus on the CPU", *of_few, "cpu.parquet", hours=hours, CUDA_VISIBLE_DEVICES="")
    tables = {name: pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("gpu", "again", "cpu")}
    tables["gpu"] = tables["gpu"].filter(pl.col("recording_id").is_in([path.name for path in few.iterdir()]))
    check(note, "mini among others and among few", tables["gpu"], tables["again"], 0.01)
    check(note, "mini on the GPU and on the CPU", tables["gpu"], tables["cpu"], 0.02)


def write_labels(embedded: pl.DataFrame, path: Path) -> None:
    """Random labels of all utterances. Every fourth recording is of the development split."""
    recordings = {name: i for i, name in enumerate(sorted(set(embedded["recording_id"])))}
    random, lines = np.random.default_rng(0), ["utterance_id,valence,arousal,dominance,speaker,split"]
    for utterance, recording in embedded.select("utterance_id", "recording_id").iter_rows():
        labels = ",".join(f"{value:.3f}" for value in random.uniform(0, 1, 3))
        lines.append(f"{utterance},{labels},{recording},{'Train' if recordings[recording] % 4 else 'Development'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(note: Note, what: str, one: pl.DataFrame, other: pl.DataFrame, scores: float) -> None:
    """Note how two tables of the same recordings differ. Of utterances with the same text, `scores` may differ by so much."""
    pairs = one.join(other, on=["utterance_id", "text"], suffix="_other")
    other_texts = 1 - len(pairs) / max(len(one), len(other))
    note(f"{what}: utterances with another text", other_texts, "of all")
    for name in (c for c in one.columns if c.endswith("_vector")):
        both = pairs.drop_nulls([name, f"{name}_other"])
        if len(both):
            note(f"{what}: {name} differs by", apart(matrix(both, name), matrix(both, f"{name}_other")), "of its length")
    emphasis = (pairs["emphasis_spans"] != pairs["emphasis_spans_other"]).sum()
    note(f"{what}: utterances with other emphasised words", emphasis, f"of {len(pairs)}")
    differ = [float((pairs[d] - pairs[f"{d}_other"]).abs().max() or 0.0) for d in DIMENSIONS]  # type: ignore[arg-type]
    note(f"{what}: scores differ by at most", max(differ), f"in {len(pairs)} utterances")
    assert other_texts <= OTHER_TEXTS
    assert max(differ) < scores


def matrix(table: pl.DataFrame, name: str) -> np.ndarray:
    return np.array(table[name].to_list())
