"""`train --finetune` on the GPU: an encoder of real size learns clips by heart."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kit import spoken_corpus
from kit.gpu import Card
from kit.speech_models import save_speech_model
from msfser_cli.backends.encoders import transformers_speech
from msfser_cli.cli.app import app
from msfser_cli.settings import FinetuneSettings
from msfser_cli.training.train import train
from msfser_cli.training.training_set import read

pytestmark = pytest.mark.model

TOGETHER = 40
"""Utterances of a step: each of the 20 twice. With about 40 s of audio, that is more than one part."""


def test_an_encoder_learns_clips_by_heart(
    wavlm: Path, card: Card, note: Callable[..., None], tmp_path: Path, tiny: bool, sizes: object
) -> None:
    table, labels = spoken_corpus.write(tmp_path)
    small, embedded = save_speech_model(tmp_path / "small", "wavlm"), tmp_path / "embedded.parquet"
    words = ("embed", table, "--out", embedded, "--acoustic-encoder", "transformers-speech", "--acoustic-model", small)
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    steps = sizes.steps  # type: ignore[attr-defined]
    rates = {"rate": 5e-3, "encoder_rate": 2e-3 if tiny else 1e-4}
    settings = FinetuneSettings(epochs=2, patience=2, batch_size=TOGETHER, dropout=0.0, without=("les", "gs", "es"),
                                hidden_dim=16, backbone=str(wavlm), **rates)  # type: ignore[arg-type]
    examples = read(embedded, labels, settings)
    examples = dataclasses.replace(examples, train=np.tile(examples.train, 2 * steps), choosing=examples.train)
    heard, losses = list[float](), list[float]()
    with card.taken() as peak:
        began = time.monotonic()
        best = train(examples, settings, tmp_path / "head", lambda epoch: losses.append(epoch.loss), on_audio=heard.append).best
        seconds = time.monotonic() - began
    note("fine-tuning WavLM-Large: time of two epochs, state written after each", seconds, "s")
    note("fine-tuning WavLM-Large: audio heard", sum(heard) / seconds, "s a second")
    note("fine-tuning WavLM-Large: memory of the GPU", peak.gib, "GiB")
    note("fine-tuning WavLM-Large: loss of the two epochs", ", ".join(f"{loss:.3f}" for loss in losses))
    note("fine-tuning WavLM-Large: mean CCC on what it learned", best.mean)
    assert losses[1] < 0.9 * losses[0]
    assert best.mean > 0.4
    learned = transformers_speech.load(tmp_path / "head" / "encoder")
    assert np.isfinite(learned.encode([np.zeros(16_000, np.float32)])).all()
