"""predict --reference speaker: each voice is compared with the speaker's in all recordings of the table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from kit.training_tables import ACOUSTIC, TEXT, Corpus, corpus
from msfser_cli.cli.app import app
from msfser_cli.errors import UsageError
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.model.scorer import Scorer
from msfser_cli.schemas import columns_through
from msfser_cli.stages.predict import VECTORS
from msfser_cli.store import tables
from msfser_cli.store.ledger import ledger_path

Predict = Callable[..., Result]


@pytest.fixture
def head(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights.save(tmp_path / "head", MsfSer(MsfSerConfig(acoustic_dim=ACOUSTIC, text_dim=TEXT, reference_dim=4)))
    return tmp_path / "head"


@pytest.fixture
def predict(tmp_path: Path, head: Path) -> Predict:
    def run(table: Path, *options: str, out: str = "scores.parquet") -> Result:
        command = ["predict", str(table), "--out", str(tmp_path / out), "--head", str(head), "--json", *options]
        return CliRunner().invoke(app, command)

    return run


def spoken(utterances: int = 24) -> Corpus:
    """Three speakers with a name, in turn. Each recording is one utterance."""
    made = corpus(utterances, speakers=3)
    for i, row in enumerate(made.rows):
        row["speaker"] = f"s{i % 3}"
    return made


def rows(path: Path) -> list[dict[str, Any]]:
    return tables.read(path, columns_through("predict", vectors=False)).to_pylist()


def test_a_voice_is_compared_with_all_of_its_speaker(tmp_path: Path, head: Path, predict: Predict) -> None:
    made = spoken()
    done = predict(made.write(tmp_path)[0], "--reference", "speaker")
    assert done.exit_code == 0, done.output
    out = rows(tmp_path / "scores.parquet")
    assert {(row["reference"], row["reference_utterances"]) for row in out} == {("speaker", 8)}
    scorer = Scorer(head)
    own = [row for row in made.rows if row["speaker"] == "s1"]
    voices = np.stack([row["acoustic_vector"] for row in own])
    texts = np.stack([[np.zeros(TEXT) if row[v] is None else row[v] for v in ("les_vector", "gs_vector", "es_vector")]
                      for row in own]).astype(np.float32)
    present = np.array([[True, row["les_vector"] is not None, True, True] for row in own])
    summed = np.tile(scorer.evidence(voices, present).sum(axis=0), (len(own), 1))
    expected = scorer.score(voices, texts, present, summed).scores
    found = {row["recording_id"]: [row[d] for d in ("valence", "arousal", "dominance")] for row in out}
    np.testing.assert_allclose([found[row["recording_id"]] for row in own], expected, atol=2e-6)


def test_only_the_recordings_of_a_speaker_who_said_more_are_scored_again(tmp_path: Path, predict: Predict) -> None:
    made = spoken()
    table = made.write(tmp_path)[0]
    predict(table, "--reference", "speaker")
    assert json.loads(predict(table, "--reference", "speaker").stdout)["unchanged"] == 24
    more = spoken(27)
    more.rows = [*made.rows, more.rows[25]]  # of s1
    table = more.write(tmp_path)[0]
    assert sorted(json.loads(predict(table, "--reference", "speaker", "--dry-run").stdout)["pending"]) == sorted(
        row["recording_id"] for row in more.rows if row["speaker"] == "s1"
    )
    result = json.loads(predict(table, "--reference", "speaker").stdout)
    assert (result["done"], result["unchanged"]) == (9, 16)
    predict(table, "--reference", "speaker", out="fresh.parquet")
    assert rows(tmp_path / "scores.parquet") == rows(tmp_path / "fresh.parquet")


@pytest.mark.parametrize("name", [None, "Unknown", "SPEAKER_00", "CHANNEL_1", "CHANNEL_1_SPEAKER_02"])
def test_a_name_that_means_another_person_in_each_recording_is_none(tmp_path: Path, predict: Predict, name: str | None) -> None:
    made = spoken()
    for row in made.rows:
        row["speaker"] = name
    assert predict(made.write(tmp_path)[0], "--reference", "speaker").exit_code == 0
    assert {(row["reference"], row["reference_utterances"]) for row in rows(tmp_path / "scores.parquet")} == {(None, 0)}


@pytest.mark.parametrize("kind", ["recording", "speaker"])
def test_a_reference_that_changes_no_score_is_said_once(tmp_path: Path, predict: Predict, kind: str) -> None:
    made = spoken()
    for row in made.rows:
        row["speaker"] = None
    table, out = made.write(tmp_path)[0], f"{kind}.parquet"
    says = f"warning: --reference {kind} changed no score: no speaker has 3 utterances"
    assert predict(table, "--reference", kind, out=out).stderr.count(says) == 1
    assert "changed no score" not in predict(table, "--reference", kind, out=out).stderr
    assert "changed no score" not in predict(table, out="auto.parquet").stderr
    # A new recording without a reference is no news where others have one.
    three = [{**made.rows[i], "recording_id": "a.wav", "utterance_id": f"a.wav#{i:04d}", "speaker": "s"} for i in range(3)]
    compared = Corpus(three, made.labels)
    predict(compared.write(tmp_path)[0], "--reference", kind, "--redo", out=out)
    more = Corpus([*compared.rows, made.rows[5]], made.labels)
    done = predict(more.write(tmp_path)[0], "--reference", kind, out=out)
    assert json.loads(done.stdout)["done"] == 1
    assert "changed no score" not in done.stderr


def test_shards_have_the_references_of_the_whole_table(tmp_path: Path, predict: Predict) -> None:
    table = spoken().write(tmp_path)[0]
    predict(table, "--reference", "speaker")
    for shard in ("0/2", "1/2"):
        done = predict(table, "--reference", "speaker", "--shard", shard, out=f"{shard[0]}.parquet")
        assert done.exit_code == 0, done.output
    parts = rows(tmp_path / "0.parquet") + rows(tmp_path / "1.parquet")
    assert sorted(parts, key=lambda row: row["utterance_id"]) == sorted(
        rows(tmp_path / "scores.parquet"), key=lambda row: row["utterance_id"]
    )


def test_the_table_of_one_shard_is_refused(tmp_path: Path, predict: Predict) -> None:
    """The other shards have more of its speakers."""
    table = spoken().write(tmp_path)[0]
    assert predict(table, "--shard", "0/2", "--keep-vectors", out="part.parquet").exit_code == 0
    lineage = tables.read_lineage(tmp_path / "part.parquet")
    part = tables.read(tmp_path / "part.parquet", columns_through("embed")).to_pylist()
    for row in part:
        row |= {v: None if row[v] is None else np.array(row[v], np.float32) for v in VECTORS}
    tables.write_rows(tmp_path / "embedded0.parquet", part, columns_through("embed"), replace(lineage, stage="embed"))
    shutil.copy(ledger_path(tmp_path / "part.parquet"), ledger_path(tmp_path / "embedded0.parquet"))
    refused = predict(tmp_path / "embedded0.parquet", "--reference", "speaker", out="o.parquet").exception
    assert isinstance(refused, UsageError)
    assert "the table holds shard 0/2" in str(refused)


def test_a_voice_that_is_absent_or_not_finite_is_compared_with_nothing(tmp_path: Path, predict: Predict) -> None:
    made = spoken()
    made.rows[0]["acoustic_vector"] = None
    made.rows[3]["acoustic_vector"] = np.full(ACOUSTIC, np.nan, np.float32)
    assert predict(made.write(tmp_path)[0], "--reference", "speaker").exit_code == 0
    found = {row["recording_id"]: row for row in rows(tmp_path / "scores.parquet")}
    own = [found[row["recording_id"]] for row in made.rows if row["speaker"] == "s0"]
    assert [(row["reference"], row["reference_utterances"]) for row in own] == [(None, 0)] * 2 + [("speaker", 6)] * 6
    assert [row["arousal"] is None for row in own] == [False, True] + [False] * 6


def test_the_order_of_the_rows_changes_no_key(tmp_path: Path, predict: Predict) -> None:
    made = spoken()
    predict(made.write(tmp_path)[0], "--reference", "speaker")
    made.rows.reverse()
    assert json.loads(predict(made.write(tmp_path)[0], "--reference", "speaker").stdout)["unchanged"] == 24


@pytest.mark.model
def test_a_corpus_has_to_be_embedded_first(tmp_path: Path, predict: Predict) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").touch()
    refused = predict(tmp_path / "audio", "--reference", "speaker").exception
    assert isinstance(refused, UsageError)
    assert "predict on the table of embed" in str(refused)


def test_the_reference_of_one_recording_needs_no_other(tmp_path: Path, predict: Predict) -> None:
    made = spoken()
    for i, row in enumerate(made.rows):  # four utterances in each recording
        recording, start = f"{i // 4}.wav", 3.0 * (i % 4)
        row |= {"recording_id": recording, "utterance_id": f"{recording}#{i % 4:04d}", "start": start, "end": start + 2}
        row["speaker"] = None
    predict(made.write(tmp_path)[0])
    out = rows(tmp_path / "scores.parquet")
    assert {(row["reference"], row["reference_utterances"]) for row in out} == {("recording", 4)}
    made.rows = made.rows[4:8]
    predict(made.write(tmp_path)[0], out="one.parquet")
    assert rows(tmp_path / "one.parquet") == [row for row in out if row["recording_id"] == "1.wav"]
