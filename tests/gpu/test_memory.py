"""A GPU with too little memory: batches come down to what fits, with the same vectors, or the run ends and says why."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.gpu import LITTLE, Card, apart
from msfser_cli.backends import inference
from msfser_cli.backends.encoders import transformers_speech
from msfser_cli.backends.encoders.transformers_speech import BATCH_SECONDS, TransformersSpeech

pytestmark = pytest.mark.model

Note = Callable[..., None]

BOUND = 5e-3
"""As for float16 in test_encoders.py."""


@pytest.fixture(scope="module")
def encoder(wavlm: Path) -> TransformersSpeech:
    encoder = transformers_speech.load(wavlm)
    encoder._inference.batches.most = encoder._batch_samples(BATCH_SECONDS)  # also on a CPU that stands in for a GPU
    return encoder


@pytest.fixture
def halvings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One entry for each time that a batch did not fit."""
    usual, counted = inference._free, list[float]()
    monkeypatch.setattr(inference, "_free", lambda: counted.append(1) or usual())  # type: ignore[func-returns-value]
    return counted


def test_batches_come_down_to_what_fits_and_stay_there(
    encoder: TransformersSpeech, clips: list[np.ndarray], card: Card, note: Note, halvings: list[float]
) -> None:
    with card.computed_with() as needed:
        whole = encoder.encode(clips)
    began = time.monotonic()
    encoder.encode(clips)
    hours = sum(map(len, clips)) / 16_000 / (time.monotonic() - began)
    note(f"WavLM-Large, {str(encoder._inference.precision).removeprefix('torch.')}: speed", hours, "hours of audio an hour")
    note("WavLM-Large: memory of a batch of 60 s", needed.gib, "GiB beside the weights")
    largest = encoder._inference.batches.most
    assert halvings == []
    for share in (0.5, 0.3):
        encoder._inference.batches.most = largest
        with card.left(share * needed.bytes):
            vectors = encoder.encode(clips)
            first = len(halvings)
            again = encoder.encode(clips)
        seconds = encoder._inference.batches.most / 16_000
        note(f"{share:.0%} of that left: largest batch", seconds, f"s, halved {first} times, vectors differ by "
             f"{apart(vectors, whole):.1e}")  # fmt: skip
        assert first > 0
        assert len(halvings) == first, "the second time, batches that do not fit were tried again"
        assert encoder._inference.batches.most < largest
        assert apart(vectors, whole) < BOUND
        assert apart(again, whole) < BOUND
        halvings.clear()


def test_a_clip_that_does_not_fit_is_named_as_a_shortage_and_the_next_one_is_encoded(
    encoder: TransformersSpeech, clips: list[np.ndarray], card: Card, note: Note
) -> None:
    clip = max(clips, key=len)
    with card.computed_with() as needed:
        [whole] = encoder.encode([clip])
    note("WavLM-Large: memory of one clip of 7 s", needed.gib, "GiB beside the weights")
    with card.left(0.2 * needed.bytes), pytest.raises(MemoryError, match="not enough memory for a single item"):
        encoder.encode([clip])
    assert apart(encoder.encode([clip]), whole[None]) < BOUND


def test_a_gpu_whose_memory_others_took_ends_the_run_with_7(
    card: Card, note: Note, run: Callable[..., Any], corpus: Path
) -> None:
    if not card.is_real:
        pytest.skip("needs a GPU whose memory can be taken")
    with card.left(LITTLE):
        done = run("predict on a full GPU", "predict", corpus, "--out", "scores.parquet", code=7)
    note("predict on a full GPU says", done.stderr.strip().splitlines()[-1])
