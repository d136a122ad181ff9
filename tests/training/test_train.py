"""A head from vectors and labels: it learns what is there, says what is not, and goes on after a kill."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kit.program import AFRESH
from kit.training_tables import Corpus, corpus
from msfser_cli.cli.app import app
from msfser_cli.errors import LabelError, ModelError, MsfserError, OutputHeldError, TableError, UsageError
from msfser_cli.model import weights
from msfser_cli.model.config import FUSIONS
from msfser_cli.settings import FinetuneSettings, TrainSettings
from msfser_cli.statistics import metrics
from msfser_cli.store.lock import held
from msfser_cli.training.train import STATE, Trained, train
from msfser_cli.training.training_set import TrainingSet, read

pytestmark = pytest.mark.model

QUICK = TrainSettings(epochs=30, rate=5e-3, dropout=0.0, hidden_dim=32, batch_size=32)


def examples(folder: Path, content: Corpus | None = None, settings: TrainSettings = QUICK) -> TrainingSet:
    return read(*(content or corpus()).write(folder), settings)


def fitted(data: TrainingSet, out: Path, settings: TrainSettings = QUICK) -> Trained:
    return train(data, settings, out, lambda _: None)


def test_it_learns_what_is_there(tmp_path: Path) -> None:
    result = fitted(examples(tmp_path), tmp_path / "head")
    assert min(result.best.valence, result.best.arousal, result.best.dominance) > 0.8
    config = weights.load_config(tmp_path / "head")
    assert (config.low, config.high) == (1, 7)
    assert (config.acoustic_encoder, config.text_encoder) == ("whisper:base", "transformers-text:mini")
    assert sorted(p.name for p in (tmp_path / "head").iterdir()) == [
        "MODEL_CARD.md", "config.json", "epochs.csv", "model.safetensors",
    ]  # fmt: skip
    with (tmp_path / "head" / "epochs.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    assert [int(e["epoch"]) for e in epochs] == list(range(1, result.epochs + 1))
    assert max(float(e["mean"]) for e in epochs) == pytest.approx(result.best.mean)


def test_a_head_says_the_identity_of_the_encoders_that_made_its_vectors(tmp_path: Path) -> None:
    data = examples(tmp_path)
    known = dataclasses.replace(data.lineage, models={"acoustic": "base sha256:0123", "text": "owner/mini@45"})
    settings = TrainSettings(**{**QUICK.__dict__, "epochs": 1})
    fitted(dataclasses.replace(data, lineage=known), tmp_path / "head", settings)
    config = weights.load_config(tmp_path / "head")
    assert (config.acoustic_encoder, config.text_encoder) == ("whisper:base sha256:0123", "transformers-text:owner/mini@45")


def test_the_checkpoint_is_durable_before_its_state_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut would else leave an empty checkpoint, and nothing to go on from."""
    out, synced = tmp_path / "head", dict[int, int]()
    fsync, unlink, removed = os.fsync, Path.unlink, list[str]()

    def log(descriptor: int) -> None:
        fsync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def remove(path: Path, missing_ok: bool = False) -> None:
        if path.name == STATE:
            removed.append(path.name)
            assert {p.name for p in out.iterdir()} >= {"MODEL_CARD.md", "config.json", "epochs.csv", "model.safetensors"}
            for file in (*out.iterdir(), out):
                assert file.stat().st_ino in synced, file
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", log)
    monkeypatch.setattr(Path, "unlink", remove)
    fitted(examples(tmp_path), out, TrainSettings(**{**QUICK.__dict__, "epochs": 1}))
    assert removed == [STATE]


@pytest.mark.parametrize(("without", "lost", "kept"), [("gs", "valence", "arousal"), ("acoustic", "arousal", "valence")])
def test_a_stream_that_is_left_out_is_not_heard(tmp_path: Path, without: str, lost: str, kept: str) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "without": (without,)})
    result = fitted(examples(tmp_path, settings=settings), tmp_path / "head", settings)
    assert getattr(result.best, lost) < 0.4
    assert getattr(result.best, kept) > 0.8


@pytest.mark.slow
def test_a_relative_head_hears_what_a_voice_alone_cannot_tell(tmp_path: Path) -> None:
    """Speakers differ by four times as much as their moods: arousal is what a voice has above its speaker's usual one."""
    content, rng = corpus(utterances=1600, speakers=80), np.random.default_rng(3)
    usual = dict(zip({label["speaker"] for label in content.labels}, rng.normal(0, 4, 80), strict=True))
    for row, label in zip(content.rows, content.labels, strict=True):
        row["acoustic_vector"][0] += usual[label["speaker"]]
    settings = TrainSettings(**{**QUICK.__dict__, "relative": True, "epochs": 40, "dev_share": 0.3})
    data = examples(tmp_path, content, settings)
    result = fitted(data, tmp_path / "head", settings)
    assert result.ccc is not None
    assert result.relative_ccc is not None
    assert result.ccc[1] < 0.5  # type: ignore[operator]
    assert result.relative_ccc[1] > 0.75  # type: ignore[operator]
    assert min(result.ccc[0], result.relative_ccc[0]) > 0.75  # type: ignore[type-var, operator]
    card = (tmp_path / "head" / "MODEL_CARD.md").read_text()
    assert f"| arousal | {result.ccc[1]:.3f} | {result.relative_ccc[1]:.3f} |" in card
    assert weights.load_config(tmp_path / "head").reference_dim == 32
    again = fitted(data, tmp_path / "head", settings)
    assert again == dataclasses.replace(result, unchanged=True)


def test_a_relative_head_of_few_speakers_has_the_ccc_of_both_ways(tmp_path: Path) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "relative": True, "epochs": 3})
    result = fitted(examples(tmp_path, settings=settings), tmp_path / "head", settings)
    assert result.ccc is not None
    assert result.relative_ccc is not None
    best = (result.best.valence, result.best.arousal, result.best.dominance)
    assert best == pytest.approx(np.mean([result.ccc, result.relative_ccc], axis=0))  # type: ignore[arg-type]
    assert result.intervals is not None
    assert result.intervals.utterances == result.development_utterances
    card = (tmp_path / "head" / "MODEL_CARD.md").read_text()
    assert "| dimension | CCC | CCC with reference |" in card
    assert f"| dominance | {result.ccc[2]:.3f} | {result.relative_ccc[2]:.3f} |" in card


def in_splits(content: Corpus, development: set[str], kept: dict[str, int], others: int) -> Corpus:
    """`content` with the split of each speaker, and the voices of their first `kept` or `others` utterances."""
    heard: Counter[str] = Counter()
    for row, label in zip(content.rows, content.labels, strict=True):
        speaker = label["speaker"]
        label["split"] = "Development" if speaker in development else "Train"
        heard[speaker] += 1
        if heard[speaker] > kept.get(speaker, others):
            row["acoustic_vector"] = None
    return content


@pytest.mark.parametrize(
    ("kept", "others", "says"),
    [({}, 1, "no speaker has 3"), ({}, 2, "no speaker has 3"), ({"s4": 30}, 2, "only one speaker has 3")],
)
def test_a_relative_head_needs_several_voices_of_two_speakers(
    tmp_path: Path, kept: dict[str, int], others: int, says: str
) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "relative": True})
    data = examples(tmp_path, in_splits(corpus(), {"s0", "s1"}, kept, others), settings)
    with pytest.raises(UsageError, match=f"{says} training utterances with a voice.*at least two such speakers"):
        fitted(data, tmp_path / "head", settings)


@pytest.mark.parametrize("of_development", [2, 3])
def test_a_ccc_with_a_reference_that_no_speaker_has_is_not_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, of_development: int
) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "relative": True, "epochs": 2})
    few = dict.fromkeys(("s0", "s1"), of_development)
    data = examples(tmp_path, in_splits(corpus(), {"s0", "s1"}, few, 30), settings)
    result = fitted(data, tmp_path / "head", settings)
    card = (tmp_path / "head" / "MODEL_CARD.md").read_text()
    is_known = of_development == 3
    assert ("fewer than 3 utterances with a voice" in caplog.text) != is_known
    assert ("fewer than 3 utterances with a voice" in card) != is_known
    assert ("CCC with reference" in card) == is_known
    assert (result.relative_ccc is not None) == (result.ccc is not None) == is_known
    assert fitted(data, tmp_path / "head", settings) == dataclasses.replace(result, unchanged=True)


def test_no_intervals_are_not_called_too_narrow(tmp_path: Path) -> None:
    """18 ratings: one too few. The speakers are in both sets."""
    content = corpus(58, 1)
    for i, line in enumerate(content.labels):
        line["split"] = "Train" if i < 40 else "Development"
    data = examples(tmp_path, content)
    result = fitted(data, tmp_path / "head", TrainSettings(**{**QUICK.__dict__, "epochs": 1}))
    assert result.intervals is None
    said = "\n".join(data.account()) + (tmp_path / "head" / "MODEL_CARD.md").read_text()
    assert "the CCC will be too high" in said
    assert "the CCC is too high." in said
    assert "narrow" not in said


def test_a_relative_head_needs_voices_that_do_not_change() -> None:
    with pytest.raises(UsageError, match="leave out one of the two"):
        TrainSettings(relative=True, without=("acoustic",))
    with pytest.raises(UsageError, match="embed with the finished encoder first"):
        FinetuneSettings(relative=True)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_the_other_fusions_learn_too(tmp_path: Path, fusion: str) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "fusion": fusion})
    result = fitted(examples(tmp_path, settings=settings), tmp_path / "head", settings)
    assert result.best.mean > 0.8
    assert weights.load(tmp_path / "head").config.fusion == fusion


def test_heads_of_every_fusion_have_one_size(tmp_path: Path) -> None:
    data, sizes = examples(tmp_path), []
    for fusion in FUSIONS:
        settings = TrainSettings(**{**QUICK.__dict__, "fusion": fusion, "epochs": 1})
        fitted(data, tmp_path / fusion, settings)
        sizes.append(sum(p.numel() for p in weights.load(tmp_path / fusion).parameters()))
    assert max(sizes) < 1.01 * min(sizes)


def test_speakers_are_held_out_whole_and_the_same_whatever_the_seed(tmp_path: Path) -> None:
    data = examples(tmp_path)
    train_speakers, development = (set(data.clusters[chosen]) for chosen in (data.train, data.development))
    assert not train_speakers & development
    assert len(train_speakers | development) == 8
    assert 0.1 <= len(data.development) / len(data.labels) <= 0.4
    other = TrainSettings(**{**QUICK.__dict__, "seed": 5})
    assert set(read(data.table, data.labels_path, other).clusters[data.development]) == development


def ccc_of(result: Trained, data: TrainingSet, chosen: np.ndarray) -> list[float]:
    """The CCC of the head that was trained, on these utterances."""
    inputs = (torch.from_numpy(values[chosen]) for values in (data.acoustic, data.texts, data.present))
    scores = weights.load(Path(result.out))(*inputs).scores.numpy()
    return [metrics.ccc(data.labels[chosen, d], scores[:, d]) for d in range(3)]


def test_of_many_held_out_speakers_half_choose_the_epoch_and_the_others_judge_it(tmp_path: Path) -> None:
    data, out = examples(tmp_path, corpus(600, 100)), tmp_path / "head"
    halves = [set(data.clusters[chosen]) for chosen in (data.choosing, data.calibrating)]
    assert [len(half) for half in halves] == [10, 10]
    assert not halves[0] & halves[1]
    assert sorted((*data.choosing, *data.calibrating)) == data.development.tolist()
    assert not any("warning" in line for line in data.account())
    assert "60 utterances (10 speakers) choose the epoch, and 60 (10 speakers) give its CCC" in data.account()[2]
    result = fitted(data, out)
    assert result.intervals is not None
    assert result.ccc is not None
    assert (result.intervals.utterances, result.intervals.speakers) == (60, 10)
    best = (result.best.valence, result.best.arousal, result.best.dominance)
    assert best == pytest.approx(ccc_of(result, data, data.choosing), abs=1e-4)
    assert result.ccc == pytest.approx(ccc_of(result, data, data.calibrating), abs=1e-4)
    card = (out / "MODEL_CARD.md").read_text("utf-8")
    assert "## Results on 60 development utterances of 10 speakers" in card
    assert "chosen on the other 60 utterances of the development set, of 10 speakers" in card
    assert f"| valence | {result.ccc[0]:.3f} |" in card
    assert fitted(data, out) == dataclasses.replace(result, unchanged=True)


def test_few_held_out_speakers_choose_the_epoch_and_judge_it(tmp_path: Path) -> None:
    data, out = examples(tmp_path, corpus(540, 90)), tmp_path / "head"
    assert len(set(data.clusters[data.development])) == 18
    assert np.array_equal(data.choosing, data.development)
    assert np.array_equal(data.calibrating, data.development)
    assert any(line.startswith("warning: the development set (18 speakers) is too small to be split") for line in data.account())
    result = fitted(data, out, TrainSettings(**{**QUICK.__dict__, "epochs": 2}))
    assert result.ccc is None
    assert result.intervals is not None
    assert result.intervals.speakers == 18
    card = (out / "MODEL_CARD.md").read_text("utf-8")
    assert "The epoch was chosen on these utterances" in card
    assert f"| valence | {result.best.valence:.3f} |" in card


def test_a_half_needs_ratings_of_each_dimension(tmp_path: Path) -> None:
    content = corpus(600, 100)
    for line in content.labels:
        if int(line["speaker"][1:]) % 2:
            line["valence"] = None
    data = examples(tmp_path, content)
    assert len(set(data.clusters[data.development])) >= 20
    assert not data.is_split
    assert examples(tmp_path, content, TrainSettings(**{**QUICK.__dict__, "loss_weights": (0.0, 1.0, 1.0)})).is_split


def test_other_halves_are_another_training(tmp_path: Path) -> None:
    content = corpus(200, 40)
    for i, line in enumerate(content.labels):
        line["split"] = ("Train", "Development")[i % 40 // 20]
    data = examples(tmp_path, content)
    for line in content.labels:
        line["speaker"] = f"new {line['speaker']}"
    other = examples(tmp_path, content)
    assert np.array_equal(other.development, data.development)
    assert other.digest() != data.digest()


def test_the_card_says_who_is_in_both_sets(tmp_path: Path) -> None:
    content = corpus(64)
    for i, line in enumerate(content.labels):
        line["split"] = ("Train", "Development")[i // 8 % 2]
    fitted(examples(tmp_path, content), tmp_path / "head", TrainSettings(**{**QUICK.__dict__, "epochs": 1}))
    assert "8 speakers of the development set are in the training set too" in (tmp_path / "head" / "MODEL_CARD.md").read_text()


def test_recordings_are_not_called_speakers(tmp_path: Path) -> None:
    """Where nobody says who speaks, or says "unknown" of them, and where the table alone knows."""
    content = corpus(60)
    for line in content.labels:
        line["speaker"] = None
    data = examples(tmp_path, content)
    assert "48 in the training set (48 recordings)" in data.account()[1]
    assert any("whole recordings are held out instead" in line for line in data.account())
    settings = TrainSettings(**{**QUICK.__dict__, "epochs": 1})
    fitted(data, tmp_path / "head", settings)
    assert "48 utterances of 48 recordings" in (tmp_path / "head" / "MODEL_CARD.md").read_text("utf-8")
    for row in content.rows:
        row["speaker"] = "unknown"
    assert "48 in the training set (48 recordings)" in examples(tmp_path, content).account()[1]
    for i, row in enumerate(content.rows):
        row["speaker"] = f"r{i % 10}"
    known = examples(tmp_path, content)
    assert "(8 speakers)" in known.account()[1]
    assert not any("in their place" in line for line in known.account())


def test_the_labels_own_splits_win(tmp_path: Path) -> None:
    content = corpus(256)
    for i, line in enumerate(content.labels):
        line["split"] = ("Train", "Train", "Development", "Test1")[i // 8 % 4]
    data = examples(tmp_path, content)
    assert (len(data.train), len(data.development), len(data.labels)) == (128, 64, 256)
    assert any("in both" in line for line in data.account())
    for line in content.labels:
        line["split"] = "Session" + line["speaker"][1]
    with pytest.raises(LabelError, match="--train-split"):
        examples(tmp_path, content)
    named = TrainSettings(**{**QUICK.__dict__, "train_splits": ("session1", "Session2"), "dev_splits": ("Session3",)})
    data = examples(tmp_path, content, named)
    assert set(data.clusters[data.train]) == {"s1", "s2"}
    assert set(data.clusters[data.development]) == {"s3"}


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    data = examples(tmp_path)
    dropping = {**QUICK.__dict__, "epochs": 3, "dropout": 0.3}
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        fitted(data, tmp_path / name, TrainSettings(**{**dropping, "seed": seed}))
    one, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def _run(folder: Path, out: str, *more: str) -> list[str]:
    command = [*AFRESH, "train", str(folder / "embedded.parquet")]
    return [*command, "--gold", str(folder / "labels.csv"), "--out", str(folder / out), "--quiet", *more]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_after_a_kill_it_goes_on_to_the_same_weights(tmp_path: Path, number: signal.Signals) -> None:
    corpus(1000, 100).write(tmp_path)
    options = ("--epochs", "12", "--batch-size", "16", "--patience", "12")
    process = subprocess.Popen(_run(tmp_path, "killed", *options), stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / STATE).exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait() == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    assert not (tmp_path / "killed" / "config.json").exists()
    subprocess.run(_run(tmp_path, "killed", *options), check=True)
    subprocess.run(_run(tmp_path, "whole", *options), check=True)
    for name in ("model.safetensors", "epochs.csv", "config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "killed" / STATE).exists()


def test_what_is_finished_is_not_done_again_and_other_work_is_refused(tmp_path: Path) -> None:
    data, out = examples(tmp_path), tmp_path / "head"
    settings = TrainSettings(**{**QUICK.__dict__, "epochs": 2})
    first = fitted(data, out, settings)
    before = (out / "model.safetensors").stat().st_mtime_ns
    again = fitted(data, out, settings)
    assert again.unchanged
    assert again.best == first.best
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    other = TrainSettings(**{**QUICK.__dict__, "epochs": 3})
    with pytest.raises(UsageError, match="--redo"):
        fitted(data, out, other)
    assert train(data, other, out, lambda _: None, redo=True).epochs == 3


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    data, out = examples(tmp_path), tmp_path / "head"
    out.mkdir()
    (out / "thesis.tex").write_text("all of it")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        train(data, QUICK, out, lambda _: None, redo=True)
    assert (out / "thesis.tex").read_text() == "all of it"


def _one_speaker(content: Corpus) -> None:
    for line in content.labels:
        line["speaker"] = "s0"


def _constant(content: Corpus) -> None:
    for line in content.labels:
        line["arousal"] = 4.0


def _broken_vector(content: Corpus) -> None:
    content.rows[7]["acoustic_vector"] = np.full(8, np.nan, np.float32)


def _unlabelled(content: Corpus) -> None:
    for line in content.labels:
        line["valence"] = line["arousal"] = line["dominance"] = None


def _elsewhere(content: Corpus) -> None:
    for line in content.labels:
        line["file"] = "x" + line["file"].replace("/", "_")


def _nobody(content: Corpus) -> None:
    content.rows.clear()


def _voiceless(content: Corpus) -> None:
    for row in content.rows:
        row["acoustic_vector"] = None


def _two_encoders(content: Corpus) -> None:
    for row in content.rows:
        row["gs_vector"] = np.zeros(7, np.float32)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (_one_speaker, LabelError, "of one speaker, 's0'"),
        (_constant, LabelError, r"arousal labels .* do not vary \(all \d+ are 4\)"),
        (_broken_vector, TableError, "acoustic_vector are not finite, such as that of 's7/0007.wav#0000'"),
        (_unlabelled, LabelError, "no row has a number"),
        (_elsewhere, LabelError, "no label matches an utterance"),
        (_nobody, TableError, "no utterances"),
        (_voiceless, TableError, "no vectors of voices"),
        (_two_encoders, TableError, "text vectors have different lengths, 6 and 7"),
    ],
)  # fmt: skip
def test_data_that_nothing_can_be_learned_from(
    tmp_path: Path, spoil: Callable[[Corpus], None], error: type[MsfserError], says: str
) -> None:
    content = corpus(60)
    spoil(content)
    with pytest.raises(error, match=says):
        examples(tmp_path, content)


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "rate": 1e30, "batch_size": 8})
    with pytest.raises(UsageError, match=r"diverged .* smaller --rate"):
        fitted(examples(tmp_path), tmp_path / "head", settings)
    fitted(examples(tmp_path), tmp_path / "head", TrainSettings(**{**QUICK.__dict__, "epochs": 1}))  # as it says, and no --redo


def test_scores_that_are_no_numbers_make_no_checkpoint(tmp_path: Path) -> None:
    # One step at such a rate leaves weights that are finite, and scores that are not.
    settings = TrainSettings(**{**QUICK.__dict__, "rate": 1e9, "epochs": 1, "batch_size": 1000})
    with pytest.raises(UsageError, match="diverged in epoch 1: a score is not finite"):
        fitted(examples(tmp_path), tmp_path / "head", settings)
    assert not (tmp_path / "head" / "config.json").exists()


def test_a_split_that_is_named_must_be_there(tmp_path: Path) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "dev_splits": ("Developmint",)})
    with pytest.raises(LabelError, match=r"no split 'Developmint' .* the labels have no splits"):
        examples(tmp_path, settings=settings)
    content = corpus(64)
    for i, line in enumerate(content.labels):
        line["split"] = ("Train", "Development")[i % 2]
    with pytest.raises(LabelError, match=r"no split 'Developmint' .* choose from 'Train', 'Development'"):
        examples(tmp_path, content, settings)


def test_streams_that_no_utterance_has_are_nothing_to_learn_from(tmp_path: Path) -> None:
    content = corpus(60)
    for row in content.rows:
        row["les_vector"] = None
    settings = TrainSettings(**{**QUICK.__dict__, "without": ("acoustic", "gs", "es")})
    with pytest.raises(UsageError, match="training utterances have no les"):
        fitted(examples(tmp_path, content, settings), tmp_path / "head", settings)


def test_a_dimension_that_weighs_nothing_is_not_scored(tmp_path: Path) -> None:
    settings = TrainSettings(**{**QUICK.__dict__, "epochs": 2, "loss_weights": (1.0, 1.0, 0.0)})
    result = fitted(examples(tmp_path, settings=settings), tmp_path / "head", settings)
    assert math.isnan(result.best.dominance)
    assert weights.load_config(tmp_path / "head").dimensions == ("valence", "arousal")


def test_a_folder_is_one_by_whatever_name(tmp_path: Path) -> None:
    data, settings = examples(tmp_path), TrainSettings(**{**QUICK.__dict__, "epochs": 1})
    (tmp_path / "link").symlink_to("head")
    with held(tmp_path / "head"), pytest.raises(OutputHeldError):
        fitted(data, tmp_path / "link", settings)
    assert fitted(data, tmp_path / "link", settings).out == str(tmp_path.resolve() / "head")


@pytest.mark.parametrize(
    ("out", "says"),
    [("/", "not a folder for a checkpoint"), ("labels.csv/head", "csv is not a folder"), ("loop", "leads to itself")],
)
def test_an_output_that_cannot_be_is_refused(tmp_path: Path, out: str, says: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=says):
        fitted(examples(tmp_path), tmp_path / out)


def test_a_finished_training_must_be_fit_for_use(tmp_path: Path) -> None:
    data, settings = examples(tmp_path), TrainSettings(**{**QUICK.__dict__, "epochs": 1})
    out = tmp_path / "head"
    fitted(data, out, settings)
    config = (out / "config.json").read_text()
    (out / "config.json").write_text(config.replace('"result"', '"results"'))
    with pytest.raises(UsageError, match=r"config\.json: its card .* --redo"):
        fitted(data, out, settings)
    (out / "config.json").write_text(config)
    (out / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        fitted(data, out, settings)


def test_a_dimension_without_labels_is_not_scored(tmp_path: Path) -> None:
    content = corpus(120)
    for line in content.labels:
        del line["dominance"]
    data = examples(tmp_path, content)
    assert any("dominance has no labels" in line for line in data.account())
    result = fitted(data, tmp_path / "head", TrainSettings(**{**QUICK.__dict__, "epochs": 3}))
    assert math.isnan(result.best.dominance)
    assert weights.load_config(tmp_path / "head").dimensions == ("valence", "arousal")


def test_some_missing_labels_are_masked(tmp_path: Path) -> None:
    content = corpus()
    for i, line in enumerate(content.labels):
        if i // 8 % 2:
            line["valence"] = None
    assert fitted(examples(tmp_path, content), tmp_path / "head").best.mean > 0.7


def test_the_command_says_what_it_found_and_made(tmp_path: Path) -> None:
    table, gold = corpus().write(tmp_path)
    words = ["train", str(table), "--gold", str(gold), "--out", str(tmp_path / "head"), "--epochs", "3"]
    words += ["--loss-weights", "1:1:0"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0
    assert "utterances: 1" in result.stderr
    assert "--head" in result.stderr
    best = json.loads(result.stdout)["best"]
    assert set(best) >= {"epoch", "valence", "arousal", "dominance"}
    card = (tmp_path / "head" / "MODEL_CARD.md").read_text()
    assert f"| arousal | {best['arousal']:.3f} |" in card
    again = CliRunner().invoke(app, words)
    assert "already trained" in again.stderr
    assert "(mean of" not in again.stderr
    relative = CliRunner().invoke(app, [*words, "--relative", "--redo"])
    assert "development CCC (mean of that with and without reference) valence" in relative.stderr
    assert CliRunner().invoke(app, [*words, "--redo"]).exit_code == 0
    log = [json.loads(line) for line in CliRunner().invoke(app, [*words, "--log-format", "json"]).stderr.splitlines()]
    assert {event["event"] for event in log[:-1]} == {"note", "warning"}
    assert (log[-1]["event"], log[-1]["unchanged"], log[-1]["message"]) == ("summary", True, again.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fusion", "sum"), "fusion must be one of fm-moe, concat, attention"),
        (("--without", "text"), "without must be one of acoustic, les, gs, es"),
        (("--without", "acoustic", "--without", "les", "--without", "gs", "--without", "es"), "without leaves out every stream"),
        (("--loss-weights", "1:1"), "V:A:D"),
        (("--loss-weights", "0:0:0"), "not all 0"),
        (("--top-k", "5"), "top_k"),
        (("--top-k", "2", "--fusion", "concat"), "--top-k needs --fusion fm-moe"),
        (("--dropout", "1"), "dropout"),
        (("--level", "1"), "level"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    table, gold = corpus(60).write(tmp_path)
    command = ["train", str(table), "--gold", str(gold), "--out", str(tmp_path / "head"), *words]
    with pytest.raises(UsageError, match=says):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "head").exists()
