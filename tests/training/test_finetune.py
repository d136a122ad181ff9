"""An encoder that learns with the head: from audio, the same through the chain afterwards, and on after a kill."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from kit import object_stores, spoken_corpus
from kit.program import AFRESH
from kit.speech_models import save_speech_model
from msfser_cli.backends.encoders import transformers_speech
from msfser_cli.cli.app import app
from msfser_cli.errors import ModelError, TableError, UsageError
from msfser_cli.model import pooling, weights
from msfser_cli.model_store.models import ModelFolder
from msfser_cli.settings import FinetuneSettings, TrainSettings
from msfser_cli.statistics.metrics import ccc
from msfser_cli.store import media
from msfser_cli.store.audio import decode
from msfser_cli.store.levels import levelled
from msfser_cli.store.objects import Address
from msfser_cli.training import finetune
from msfser_cli.training.finetune import Clips, Voice
from msfser_cli.training.train import STATE, Trained, train
from msfser_cli.training.training_set import TrainingSet, read

pytestmark = pytest.mark.model

DIMENSIONS = ("valence", "arousal", "dominance")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An embedded table, whose voices a small WavLM encoded, and its labels."""
    folder = tmp_path_factory.mktemp("spoken")
    table, _ = spoken_corpus.write(folder)
    save_speech_model(folder / "wavlm", "wavlm")
    msfser("embed", table, "--out", folder / "embedded.parquet", *acoustic(folder / "wavlm"))
    return folder / "embedded.parquet", folder / "labels.csv"


def acoustic(folder: Path) -> tuple[Any, ...]:
    return "--acoustic-encoder", "transformers-speech", "--acoustic-model", folder


def msfser(*words: object) -> Any:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def settings(**changes: Any) -> FinetuneSettings:
    quick = {"epochs": 2, "batch_size": 10, "dropout": 0.0, "without": ("les", "gs", "es"), "hidden_dim": 16}
    return FinetuneSettings(**{**quick, **changes})


def voice(examples: TrainingSet, folder: Path, **changes: Any) -> Voice:
    torch.manual_seed(0)
    return Voice(ModelFolder(folder, "small"), Clips(examples, None), settings(**changes), lambda _: None)


def spoken(embedded: tuple[Path, Path]) -> TrainingSet:
    return read(*embedded, settings())


def fitted(examples: TrainingSet, out: Path, **changes: Any) -> Trained:
    return train(examples, settings(**changes), out, lambda _: None)


def chain_scores(embedded: tuple[Path, Path], head: Path, out: Path) -> pl.DataFrame:
    """What the ordinary commands make of the trained folder, beside the labels, in the table's order."""
    described = embedded[0].with_name("described.parquet")
    msfser("predict", described, "--out", out / "scores.parquet", *acoustic(head / "encoder"), "--head", head)
    labels = pl.read_csv(embedded[1])
    return pl.read_parquet(out / "scores.parquet").join(labels, on="utterance_id", suffix="_rated", maintain_order="left")


@pytest.mark.slow
def test_a_small_encoder_learns_its_clips_by_heart(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    examples = spoken(embedded)
    handful = examples.train[:8]
    by_heart = dataclasses.replace(examples, train=handful, choosing=handful)
    hard = {"epochs": 50, "patience": 50, "rate": 5e-3, "encoder_rate": 2e-3}
    result = fitted(by_heart, tmp_path / "head", layers="all", **hard)
    assert min(result.best.valence, result.best.arousal, result.best.dominance) > 0.9
    learned = examples.utterances["utterance_id"].gather(handful)
    scores = chain_scores(embedded, tmp_path / "head", tmp_path).filter(pl.col("utterance_id").is_in(learned.implode()))
    for d in DIMENSIONS:
        assert ccc(scores[f"{d}_rated"], scores[d]) == pytest.approx(getattr(result.best, d), abs=1e-4)


def test_the_command_makes_a_folder_that_the_chain_uses(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    head = tmp_path / "head"
    words = ("train", embedded[0], "--gold", embedded[1], "--out", head, "--finetune", "--epochs", "2", "--layers", "all")
    result = msfser(*words, "--json")
    best = json.loads(result.stdout)["best"]
    assert f"--acoustic-encoder transformers-speech --acoustic-model {head / 'encoder'} --head {head}" in result.stderr
    assert sorted(p.name for p in head.iterdir()) == [
        "MODEL_CARD.md", "config.json", "encoder", "epochs.csv", "model.safetensors",
    ]  # fmt: skip
    assert sorted(p.name for p in (head / "encoder").iterdir()) == [
        "config.json", "model.safetensors", "pooling.json", "pooling.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    scores = chain_scores(embedded, head, tmp_path).filter(split="Development")
    for d in DIMENSIONS:
        assert ccc(scores[f"{d}_rated"], scores[d]) == pytest.approx(best[d], abs=1e-4)
    assert "wavlm" in (head / "MODEL_CARD.md").read_text()
    assert "already trained" in msfser(*words).stderr


def test_a_head_knows_the_encoder_that_learned_with_it(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        fitted(spoken(embedded), tmp_path / f"head{seed}", epochs=1, seed=seed)
    described = embedded[0].with_name("described.parquet")
    words = ["predict", str(described), "--out", str(tmp_path / "scores.parquet"), "--head", str(tmp_path / "head0")]
    for other in (tmp_path / "head1" / "encoder", described.with_name("wavlm")):
        with pytest.raises(ModelError, match="trained on the acoustic vectors of transformers-speech:encoder sha256:"):
            CliRunner().invoke(app, [*words, *map(str, acoustic(other))], catch_exceptions=False)
    with pytest.raises(ModelError, match="trained on the acoustic vectors"):
        CliRunner().invoke(app, ["predict", str(embedded[0]), *words[2:]], catch_exceptions=False)


KINDS = [("wavlm", True), ("wavlm", False), ("wav2vec2-group-norm", True), ("wav2vec2-group-norm", False), ("whisper", True)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "normalised"), KINDS)
def test_what_was_saved_gives_the_vectors_that_were_learned(
    embedded: tuple[Path, Path], tmp_path: Path, kind: str, normalised: bool
) -> None:
    """Whoever normalises the waveform, the extractor each by itself or the pooling by the training set, the chain does too."""
    examples = spoken(embedded)
    save_speech_model(tmp_path / "backbone", kind, do_normalize=normalised)
    layers, pool = ("all", "attentive") if normalised else ("last", "mean-std")
    backbone = str(tmp_path / "backbone")
    fitted(examples, tmp_path / "head", epochs=1, encoder_rate=1e-3, layers=layers, pooling=pool, backbone=backbone)
    loaded = pooling.load(tmp_path / "head" / "encoder")
    assert loaded is not None
    assert (loaded.config.waveform_std == 1.0) == normalised
    scores = chain_scores(embedded, tmp_path / "head", tmp_path).filter(split="Development")
    with (tmp_path / "head" / "epochs.csv").open() as file:
        trainer = next(csv.DictReader(file))
    for d in DIMENSIONS:
        assert ccc(scores[f"{d}_rated"], scores[d]) == pytest.approx(float(trainer[d]), abs=1e-4)


@pytest.mark.parametrize(("kind", "normalised"), KINDS)
def test_neither_padding_nor_the_batch_changes_a_vector(
    embedded: tuple[Path, Path], tmp_path: Path, kind: str, normalised: bool
) -> None:
    examples = spoken(embedded)
    made = voice(examples, save_speech_model(tmp_path, kind, do_normalize=normalised), layers="all").eval()
    made.normalise_by(examples.train)
    torch.nn.init.normal_(made.pooling.attention_out.weight)
    chosen = torch.from_numpy(examples.train)[torch.randperm(len(examples.train))]
    with torch.no_grad():
        together, alone = made(chosen), torch.cat([made(i.unsqueeze(0)) for i in chosen])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_an_utterance_of_several_parts_has_the_vector_that_embed_gives_it(
    embedded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = spoken(embedded)
    made = voice(examples, save_speech_model(tmp_path, "wavlm"), layers="all").eval()
    monkeypatch.setattr(transformers_speech, "WINDOW", 12_000)
    chosen = torch.from_numpy(examples.train)
    clips = [made._clips[i] for i in chosen.tolist()]
    assert {len(made._speech.parts(len(clip))) for clip in clips} == {1, 2}
    with torch.no_grad():
        np.testing.assert_allclose(made(chosen).numpy(), made._speech.encode(clips), atol=1e-5)


def test_an_encoder_learns_in_single_precision_wherever_it_is(
    embedded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = transformers_speech.Inference
    half = lambda model, most, precision: usual(model, most, precision or torch.float16)  # noqa: E731 - as on a GPU
    monkeypatch.setattr(transformers_speech, "Inference", half)
    folder = save_speech_model(tmp_path, "wavlm")
    assert transformers_speech.load(folder).model.dtype == torch.float16
    assert voice(spoken(embedded), folder).encoder.dtype == torch.float32


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_gradients_reach_all_but_the_convolutions_and_are_those_of_the_whole_batch(
    embedded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Dropout included: what is encoded a second time is what was encoded the first time."""
    examples = spoken(embedded)
    folder = save_speech_model(tmp_path, kind)
    chosen = torch.from_numpy(examples.train)
    monkeypatch.setattr(finetune, "PART_SECONDS", 3.0)
    gradients, parts = [], list[int]()
    for keeps_activations in (False, True):
        if keeps_activations:
            monkeypatch.setattr(finetune, "checkpoint", lambda encode, inputs, **_: parts.append(1) or encode(inputs))
        made = voice(examples, folder, layers="all").train()
        torch.nn.init.normal_(made.pooling.attention_out.weight)
        vectors = made(chosen)
        (vectors - vectors.mean(dim=0)).square().mean().sqrt().backward()  # as a concordance, of the batch as a whole
        gradients.append({name: p.grad for name, p in made.named_parameters()})
    assert len(parts) > 3
    for name, whole in gradients[1].items():
        if any(part in name for part in ("feature_extractor", "masked_spec_embed", "encoder.conv", "embed_positions")):
            assert whole is None, name
            continue
        assert whole is not None, name
        assert (whole != 0).any(), name
        torch.testing.assert_close(gradients[0][name], whole, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("train_layers", "learning"), [(0, set()), (1, {"1"}), (2, {"0", "1"})])
def test_only_the_layers_that_are_to_learn_change(
    embedded: tuple[Path, Path], tmp_path: Path, train_layers: int, learning: set[str]
) -> None:
    fitted(spoken(embedded), tmp_path / "head", train_layers=train_layers, encoder_rate=1e-2, layers="all")
    before = transformers_speech.load(embedded[0].with_name("wavlm")).model.state_dict()
    after = transformers_speech.load(tmp_path / "head" / "encoder").model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {name.split(".")[2] for name in changed} == learning
    assert all(name.startswith("encoder.layers.") for name in changed)
    learned = pooling.load(tmp_path / "head" / "encoder")
    assert learned is not None
    assert (learned.layer_logits != 0).any()


def test_a_long_utterance_is_cropped_anew_in_training_and_heard_whole_otherwise(
    embedded: tuple[Path, Path], tmp_path: Path
) -> None:
    examples, heard = spoken(embedded), list[float]()
    clips = Clips(examples, None)
    made = Voice(ModelFolder(save_speech_model(tmp_path, "wavlm"), "small"), clips, settings(crop=1.0), heard.append)
    chosen = torch.from_numpy(examples.train)
    seconds = torch.tensor([len(clips[i]) / 16_000 for i in chosen.tolist()])
    long = seconds > 1.0
    assert long.any()
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for mode, length in ((False, seconds), (True, seconds.clamp(max=1.0))):
        heard.clear()
        with torch.no_grad():
            one, other = made.train(mode)(chosen), made(chosen)
        assert sum(heard) / 2 == pytest.approx(length.sum().item(), rel=1e-4)
        if mode is False:
            assert torch.equal(one, other)
    assert all(not torch.allclose(one[i], other[i], atol=1e-4) for i in torch.where(long)[0])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        fitted(spoken(embedded), tmp_path / name, seed=seed, dropout=0.3, crop=1.0)
    for part in ("model.safetensors", "encoder/model.safetensors", "encoder/pooling.safetensors"):
        one, same, other = ((tmp_path / name / part).read_bytes() for name in ("one", "same", "other"))
        assert one == same
        assert one != other


@pytest.mark.slow
def test_after_a_kill_it_goes_on_to_the_same_weights(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    command = [*AFRESH, "train", str(embedded[0]), "--gold", str(embedded[1]), "--finetune", "--quiet"]
    command += ["--epochs", "4", "--batch-size", "10", "--crop", "1", "--encoder-rate", "1e-3", "--out"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
    while not (killed / STATE).exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "config.json").exists()
    for out in (killed, whole):
        subprocess.run([*command, str(out)], check=True)
    files = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file()]
    assert len(files) == 9
    for name in files:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (killed / STATE).exists()


@pytest.mark.slow
def test_what_a_killed_run_left_half_written_is_replaced(
    embedded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, out = spoken(embedded), tmp_path / "head"
    fitted(examples, tmp_path / "whole")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "content", killed)  # the encoder is written, the head is not
    with pytest.raises(KeyboardInterrupt):
        fitted(examples, out)
    monkeypatch.undo()
    (out / "encoder" / "pooling.json").write_text("half")
    (out / ".encoder.tmp").mkdir()
    (out / ".encoder.tmp" / "model.safetensors").write_bytes(b"half")
    fitted(examples, out)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert (out / "config.json").read_bytes() == (tmp_path / "whole" / "config.json").read_bytes()


def test_a_head_alone_takes_the_place_of_a_fine_tuned_one_with_redo(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    fitted(spoken(embedded), tmp_path / "head")
    result = train(spoken(embedded), TrainSettings(epochs=2), tmp_path / "head", lambda _: None, redo=True)
    assert result.encoder is None
    assert not (tmp_path / "head" / "encoder").exists()


@pytest.mark.slow
def test_clips_are_what_embed_hears_and_no_more_are_remembered_than_allowed(
    embedded: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = spoken(embedded)
    decoded: list[Path] = []
    monkeypatch.setattr(media, "decode", lambda path, *more, **how: decoded.append(path) or decode(path, *more, **how))
    times = examples.utterances.select("recording_id", "start", "end").rows()
    everything = [levelled(decode(embedded[0].parent / name)).clip(start, end) for name, start, end in times]
    for allowed, most in ((1 << 30, 6), (4 * 16_000 * 5, 1000)):
        decoded.clear()
        monkeypatch.setattr(finetune, "CLIPS_BYTES", allowed)
        clips = Clips(examples, None)
        for i in np.random.default_rng(0).integers(0, len(times), 200).tolist():
            np.testing.assert_array_equal(clips[i], everything[i])
            assert len(clips[i]) == clips.length(i)
            assert clips._bytes == sum(c.nbytes for c in clips._remembered.values()) <= allowed
        assert 6 <= len(decoded) <= most


@pytest.mark.slow
@pytest.mark.server
def test_clips_may_come_from_an_object_store(embedded: tuple[Path, Path]) -> None:
    examples = spoken(embedded)
    on_disk = Clips(examples, None)
    with object_stores.s3() as store:
        for name in set(examples.utterances["recording_id"]):
            store.put(f"corpus/{name}", (embedded[0].parent / name).read_bytes())
        clips = Clips(examples, Address("s3", "archive/corpus"))
        for i in range(len(examples.utterances)):
            np.testing.assert_array_equal(clips[i], on_disk[i])
        absent = Clips(examples, Address("s3", "archive/elsewhere"))
        with pytest.raises(TableError, match="cannot be read"):
            absent[0]


def copied(embedded: tuple[Path, Path], folder: Path) -> TrainingSet:
    shutil.copytree(embedded[0].parent, folder)
    return read(folder / "embedded.parquet", folder / "labels.csv", settings())


def test_recordings_that_moved_are_found_with_root(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    examples = copied(embedded, tmp_path / "copy")
    examples = dataclasses.replace(examples, lineage=dataclasses.replace(examples.lineage, corpus_root=str(tmp_path / "gone")))
    with pytest.raises(TableError, match=r"6 of its 6 recordings do not exist, such as .*gone/s0\.wav; pass .* --root"):
        fitted(examples, tmp_path / "head")
    result = train(examples, settings(epochs=1), tmp_path / "head", lambda _: None, root=tmp_path / "copy")
    assert result.epochs == 1


@pytest.mark.parametrize("spoil", ["changed", "broken"])
def test_a_recording_that_is_not_what_the_table_was_made_from_is_named(
    embedded: tuple[Path, Path], tmp_path: Path, spoil: str
) -> None:
    examples = copied(embedded, tmp_path / "copy")
    recording = tmp_path / "copy" / "s2.wav"
    recording.write_bytes(recording.read_bytes()[:-2] if spoil == "changed" else b"")
    with pytest.raises(TableError, match=r"s2\.wav is not the file that the table is from"):
        train(examples, settings(), tmp_path / "head", lambda _: None, root=tmp_path / "copy")


def test_a_table_of_another_kind_of_voice_needs_a_backbone(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    examples = spoken(embedded)
    lineage = dataclasses.replace(examples.lineage, settings={"embed": {"acoustic_encoder": "whisper", "acoustic_model": "w"}})
    with pytest.raises(UsageError, match=r"encoded with whisper, which cannot be fine-tuned; pass .* as --backbone"):
        fitted(dataclasses.replace(examples, lineage=lineage), tmp_path / "head")
    assert not (tmp_path / "head").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--pooling", "mean-std"), "--pooling needs --finetune"),
        (("--train-layers", "0"), "--train-layers needs --finetune"),
        (("--finetune", "--pooling", "max"), "pooling must be one of mean-std, attentive"),
        (("--finetune", "--layers", "first"), "layers must be one of last, all"),
        (("--finetune", "--train-layers", "3"), "train-layers must be at most 2"),
        (("--finetune", "--encoder-rate", "0"), "encoder_rate must be above 0"),
        (("--finetune", "--crop", "0.5"), "crop must be at least 1 s"),
        (("--finetune", "--without", "acoustic"), "leaves nothing for the encoder to learn"),
        (("--finetune", "--rate", "1e30", "--batch-size", "5"), "diverged"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    embedded: tuple[Path, Path], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    command = ["train", str(embedded[0]), "--gold", str(embedded[1]), "--out", str(tmp_path / "head"), *words]
    with pytest.raises(UsageError, match=says):
        CliRunner().invoke(app, command, catch_exceptions=False)
