"""The parts of recipes/mini_head that do not need its corpora."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.model

RECIPE = Path(__file__).parents[2] / "recipes" / "mini_head"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The recipe's train module; its siblings are imported as they are when it is run."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import train

    yield train
    for name in ("train", "augment", "card", "features", "pairing", "voices"):
        sys.modules.pop(name, None)


def _row() -> dict[str, object]:
    words = [("so", 0.5, 0.7), ("it", 0.7, 0.9), ("is", 0.9, 1.2)]
    timed = [{"word": word, "start": start, "end": end} for word, start, end in words]
    return {"start": 0.0, "end": 2.0, "text": "so it is", "words": timed}


def test_augmented_words_stay_on_their_sound(recipe: ModuleType) -> None:
    """A clip that is silent but for one word: after augmentation the word's times still hold nearly all of the energy."""
    augment = recipe.features.augment
    rng = np.random.default_rng(0)
    for _ in range(30):
        samples = np.zeros(32000, np.float32)
        samples[8000:19200] = np.sin(2 * np.pi * 220 * np.arange(11200) / 16000)
        audio, row = augment.augmented(samples, _row(), rng)
        assert audio.dtype == np.float32
        assert np.abs(audio).max() <= 1
        assert row["end"] == len(audio) / 16000
        first, last = (round(16000 * t) for t in (row["words"][0]["start"] - 0.05, row["words"][-1]["end"] + 0.4))
        assert np.square(audio[first:last]).sum() > 0.8 * np.square(audio).sum()


def test_a_codec_keeps_the_sound_in_its_place(recipe: ModuleType) -> None:
    """Every codec gives back as many samples, the tone where it was (to a codec's delay) and silence elsewhere."""
    augment = recipe.features.augment
    samples = np.zeros(32000, np.float32)
    samples[8000:19200] = 0.3 * np.sin(2 * np.pi * 440 * np.arange(11200) / 16000)
    for seed in range(25):
        coded = augment.through_codec(samples, np.random.default_rng(seed))
        assert coded.shape == samples.shape
        assert coded.dtype == np.float32
        assert np.square(coded[7000:21000]).sum() > 0.95 * np.square(coded).sum()
        assert 0.5 < np.square(coded).sum() / np.square(samples).sum() < 1.2


def test_another_speaker_is_higher_or_lower_and_says_it_at_the_same_time(recipe: ModuleType) -> None:
    """A buzz of 150 Hz between two silences: its pitch moves by at most 6 semitones, either way, and its place stays."""
    augment, rng = recipe.features.augment, np.random.default_rng(0)
    buzz = np.zeros(32000, np.float32)
    buzz[8000:24000] = 0.1 * sum(np.sin(2 * np.pi * 150 * k * np.arange(16000) / 16000) / k for k in range(1, 30))
    pitches = []
    for _ in range(12):
        other = augment.as_another_speaker(buzz, rng)
        assert (other.shape, other.dtype) == (buzz.shape, np.float32)
        assert np.square(other[7500:24500]).sum() > 0.98 * np.square(other).sum() > 0.3 * np.square(buzz).sum()
        inside = other[10000:22000].astype(float)
        repeats = np.correlate(inside, inside, "full")[len(inside) - 1 :]
        pitches.append(16000 / (70 + repeats[70:160].argmax()))
    assert 150 / 2**0.52 < min(pitches) < 140
    assert 160 < max(pitches) < 150 * 2**0.52


def test_joined_clips_keep_their_words_in_order(recipe: ModuleType) -> None:
    clip = np.zeros(32000, np.float32)
    samples, row = recipe.features.augment.joined([(clip, _row()), (clip, _row())], np.random.default_rng(0))
    starts = [w["start"] for w in row["words"]]
    assert starts == sorted(starts)
    assert len(starts) == 6
    assert row["text"] == "so it is so it is"
    assert row["end"] == len(samples) / 16000
    assert starts[3] - starts[0] > 2.0


def test_speech_only_keeps_every_word(recipe: ModuleType) -> None:
    row = recipe.features.augment.speech_only(_row())
    assert (row["start"], row["end"]) == (pytest.approx(0.4), pytest.approx(1.3))


@pytest.mark.slow
def test_a_head_learns_voice_and_text_that_it_never_heard_together(recipe: ModuleType) -> None:
    """Voices whose first component is arousal, texts whose first is valence, and never both: held-out pairs need both."""
    rng = np.random.default_rng(0)

    def examples(count: int, voice: bool, text: bool, offset: float) -> object:
        acoustic, texts = rng.normal(size=(count, 8)).astype(np.float32), rng.normal(size=(count, 3, 6)).astype(np.float32)
        acoustic[:, 1] += offset
        labels = np.full((count, 3), 0.5, np.float32)
        if voice:
            labels[:, 1] += 0.2 * np.tanh(acoustic[:, 0])
        if text:
            labels[:, 0] += 0.1 * np.tanh(texts[:, 1, 0])
        labels[: count // 8] = 0.5
        acoustic[: count // 8, 0] = texts[: count // 8, 1, 0] = 0
        present = np.ones((count, 4), bool)
        names = np.array([str(i % 4) for i in range(count)])
        return recipe.Examples(acoustic, texts, present, labels, names, np.arange(count), names)

    acted, spoken, written = examples(300, True, False, 0.0), examples(300, False, True, 5.0), examples(300, False, True, 0.0)
    head = recipe.fit(acted, spoken, written, steps=300)
    both = examples(200, True, True, 5.0)  # acted voices where training had only calm ones
    scores = head(*(recipe.torch.from_numpy(a) for a in (both.acoustic, both.texts, both.present))).scores.detach().numpy()
    assert recipe.ccc(both.labels[:, 0], scores[:, 0]) > 0.5
    assert recipe.ccc(both.labels[:, 1], scores[:, 1]) > 0.5
