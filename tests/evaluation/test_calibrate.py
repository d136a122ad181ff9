"""Intervals from a rated sample of the corpus at hand."""

from __future__ import annotations

import dataclasses
import wave
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from kit.training_tables import ACOUSTIC, TEXT, Corpus, corpus
from msfser_cli.cli.app import app
from msfser_cli.errors import LabelError, UsageError
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.settings import TrainSettings
from msfser_cli.store import tables
from msfser_cli.training.train import train
from msfser_cli.training.training_set import read

pytestmark = pytest.mark.model

LABELS = ("file", *DIMENSIONS, "speaker")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head trained on one corpus, with intervals from its development speakers."""
    folder = tmp_path_factory.mktemp("head")
    settings = TrainSettings(epochs=30, rate=5e-3, dropout=0.0, hidden_dim=32, batch_size=32)
    train(read(*corpus(400, 20).write(folder), settings), settings, folder / "head", lambda _: None)
    return folder / "head"


def predicted(table: Path, head: Path, *more: str) -> pl.DataFrame:
    """The scores of a table."""
    out = table.with_name("scores.parquet")
    words = ["predict", str(table), "--head", str(head), "--out", str(out), "--quiet", *more]
    CliRunner().invoke(app, words, catch_exceptions=False)
    return pl.DataFrame(pl.from_arrow(pq.read_table(out)))


def coverage(scores: pl.DataFrame, content: Corpus) -> dict[str, float]:
    """The share of ratings inside of their intervals."""
    rated = pl.DataFrame(content.labels).rename({"file": "recording_id"})
    both = scores.join(rated, on="recording_id", suffix="_rated")
    return {d: both.select(pl.col(f"{d}_rated").is_between(f"{d}_low", f"{d}_high").mean()).item() for d in DIMENSIONS}


def shifted(content: Corpus) -> Corpus:
    """The same voices, rated by people who find everybody more excited."""
    for line in content.labels:
        line["arousal"] = min(7.0, line["arousal"] + 1.5)
    return content


@pytest.mark.slow
def test_a_new_corpus_of_the_same_kind_is_covered(head: Path, tmp_path: Path) -> None:
    content = corpus(400, 20, seed=1)
    scores = predicted(content.write(tmp_path)[0], head)
    for d, share in coverage(scores, content).items():
        assert 0.8 < share <= 1, d
        inside = scores.select((pl.col(f"{d}_low") <= pl.col(d)) & (pl.col(d) <= pl.col(f"{d}_high")))
        assert inside.to_series().all()
        assert scores[f"{d}_low"].min() >= 1
        assert scores[f"{d}_high"].max() <= 7
    assert tables.read_lineage(tmp_path / "scores.parquet").extra == {"scale": [1.0, 7.0], "level": 0.9}


@pytest.mark.slow
def test_another_kind_is_covered_once_a_sample_of_it_is_rated(head: Path, tmp_path: Path) -> None:
    content = shifted(corpus(600, 20, seed=2))
    sample = Corpus(content.rows, content.labels[:200])
    table, gold = sample.write(tmp_path)
    assert coverage(predicted(table, head), content)["arousal"] < 0.5
    calibrated = predicted(table, head, "--redo", "--calibrate", str(gold))
    rest = Corpus(content.rows, content.labels[200:])
    assert 0.82 < coverage(calibrated, rest)["arousal"] < 0.99
    half = predicted(table, head, "--redo", "--calibrate", str(gold), "--level", "0.5")
    assert coverage(half, rest)["arousal"] < coverage(calibrated, rest)["arousal"]
    assert tables.read_lineage(tmp_path / "scores.parquet").extra["level"] == 0.5


def test_who_speaks_is_known_from_the_table_and_what_is_not_rated_does_not_count(head: Path, tmp_path: Path) -> None:
    content = corpus(200, 20, seed=5)
    for i, (row, line) in enumerate(zip(content.rows, content.labels, strict=True)):
        row["speaker"] = line.pop("speaker")
        line |= dict.fromkeys(DIMENSIONS) if i >= 110 else {}
    table, gold = content.write(tmp_path)
    predicted(table, head, "--calibrate", str(gold))
    known = tables.read_lineage(tmp_path / "scores.parquet").settings["predict"]["intervals"]
    assert (known["utterances"], known["speakers"], known["level"]) == (110, 20, 0.9)


def test_the_labels_scale_is_brought_to_the_heads(head: Path, tmp_path: Path) -> None:
    content = corpus(200, 20, seed=3)
    unit = Corpus(content.rows, [
        {**line, **{d: (line[d] - 1) / 6 for d in DIMENSIONS}} for line in content.labels
    ])  # fmt: skip
    gold = unit.write(tmp_path)[1].rename(tmp_path / "unit.csv")
    table, same = content.write(tmp_path)
    one = predicted(table, head, "--calibrate", str(same), "--redo")
    other = predicted(table, head, "--calibrate", str(gold), "--scale", "0:1", "--redo")
    assert other["valence_low"].to_numpy() == pytest.approx(one["valence_low"].to_numpy(), abs=1e-5)


def test_the_same_labels_go_on_where_the_output_was_begun(head: Path, tmp_path: Path) -> None:
    content = corpus(200, 20, seed=4)
    table, gold = content.write(tmp_path)
    first = predicted(table, head, "--calibrate", str(gold))
    Corpus(content.rows[:100], content.labels).write(tmp_path)  # half of the sample would make other intervals
    assert predicted(table, head, "--calibrate", str(gold)).equals(first)  # no --redo: it is the same work


def test_intervals_of_scores_with_another_reference_are_not_kept(tmp_path: Path) -> None:
    content = corpus(200, 20)
    for row, line in zip(content.rows, content.labels, strict=True):
        row["speaker"] = line["speaker"]
    weights.save(tmp_path / "head", MsfSer(MsfSerConfig(acoustic_dim=ACOUSTIC, text_dim=TEXT, reference_dim=4, low=1, high=7)))
    both = []
    for name, first in (("a", True), ("b", False)):
        (tmp_path / name).mkdir()
        table, gold = content.write(tmp_path / name)
        options = ("--calibrate", str(gold), "--redo", "--reference")
        if first:
            predicted(table, tmp_path / "head", *options, "none")
        both.append(predicted(table, tmp_path / "head", *options, "speaker"))
    assert both[0].equals(both[1])


def test_few_speakers_are_said(head: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, gold = corpus(200, 9).write(tmp_path)
    predicted(table, head, "--calibrate", str(gold))
    assert "intervals from only 9 speakers" in caplog.text
    caplog.clear()
    table, gold = corpus(200, 10).write(tmp_path)
    predicted(table, head, "--calibrate", str(gold), "--redo")
    assert not caplog.text


def in_pairs(content: Corpus) -> Corpus:
    """The same utterances, two of a speaker in a recording that is rated as a whole."""
    rows, labels = [], []
    speakers = len({line["speaker"] for line in content.labels})
    for i in range(0, len(content.rows), 2 * speakers):
        for first, second in zip(range(i, i + speakers), range(i + speakers, i + 2 * speakers), strict=True):
            recording = content.rows[first]["recording_id"]
            for number, place in enumerate((first, second)):
                where = {"recording_id": recording, "utterance_id": f"{recording}#{number:04d}", "start": 2.0 * number}
                rows.append(content.rows[place] | where | {"end": 2.0 * number + 2})
            both = (content.labels[first], content.labels[second])
            labels.append(both[0] | {d: sum(line[d] for line in both) / 2 for d in DIMENSIONS})
    return Corpus(rows, labels)


def test_labels_of_several_utterances_say_nothing_of_single_ones(
    head: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The mean of two is nearer to its rating than either to its own: intervals from it would hold less than they promise."""
    content = corpus(800, 20, seed=6)
    pairs = in_pairs(Corpus(content.rows[:400], content.labels[:400]))
    table, gold = pairs.write(tmp_path)
    with pytest.raises(LabelError, match=r"at least 19 ratings.*utterance_id, or by start and end.*--unit file"):
        predicted(table, head, "--calibrate", str(gold))
    table, gold = Corpus(pairs.rows + content.rows[400:], pairs.labels + content.labels[400:]).write(tmp_path)
    predicted(table, head, "--calibrate", str(gold))
    assert "does not use 200 of 600 labels" in caplog.text
    known = tables.read_lineage(tmp_path / "scores.parquet").settings["predict"]["intervals"]
    assert (known["utterances"], known["speakers"]) == (400, 20)


def test_too_few_ratings_are_refused(head: Path, tmp_path: Path) -> None:
    content = corpus(60)
    table, gold = Corpus(content.rows, content.labels[:18]).write(tmp_path)
    with pytest.raises(LabelError, match="at least 19 ratings"):
        predicted(table, head, "--calibrate", str(gold))


def test_labels_of_another_corpus_are_refused_with_names_of_both(head: Path, tmp_path: Path) -> None:
    content = corpus(60)
    for line in content.labels:
        line["file"] = "other_" + line["file"].replace("/", "_")
    table, gold = content.write(tmp_path)
    with pytest.raises(LabelError, match=r"the labels name 'other_s0_0000\.wav', .*the utterances are of 's0/0000\.wav', "):
        predicted(table, head, "--calibrate", str(gold))


def test_labels_of_recordings_without_speech_are_refused(head: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio" / "silent.wav"
    audio.parent.mkdir()
    with wave.open(str(audio), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000))
    gold = tmp_path / "labels.csv"
    gold.write_text("file,valence,arousal,dominance\nsilent.wav,1,2,3\n")
    with pytest.raises(LabelError, match="the recordings that it names have no utterances"):
        predicted(audio, head, "--calibrate", str(gold), "--scale", "1:7")


@pytest.mark.parametrize("idle", [("--level", "0.5"), ("--scale", "1:7"), ("--ignore-outside",)])
def test_what_only_calibration_heeds_is_refused_without_it(head: Path, tmp_path: Path, idle: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{idle[0]} needs --calibrate"):
        predicted(corpus(20).write(tmp_path)[0], head, *idle)


def test_a_head_without_intervals_gives_none(head: Path, tmp_path: Path) -> None:
    import shutil

    from msfser_cli.model import weights

    bare = tmp_path / "bare"
    shutil.copytree(head, bare)
    weights.save(bare, weights.load(head))
    scores = predicted(corpus(20).write(tmp_path)[0], bare)
    assert all(scores[f"{d}_low"].null_count() == len(scores) for d in DIMENSIONS)
    assert tables.read_lineage(tmp_path / "scores.parquet").extra["level"] is None


def test_a_dimension_that_was_not_trained_is_null(head: Path, tmp_path: Path) -> None:
    from msfser_cli.model import weights

    model: Any = weights.load(head)
    model.config = dataclasses.replace(model.config, dimensions=("valence", "arousal"))
    weights.save(tmp_path / "two", model)
    scores = predicted(corpus(20).write(tmp_path)[0], tmp_path / "two")
    assert scores["dominance"].null_count() == 20
    assert scores["arousal"].null_count() == 0
