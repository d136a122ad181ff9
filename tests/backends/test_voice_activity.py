"""Speech found block by block is what faster-whisper finds in the whole array, to the sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import vad

from msfser_cli.backends import voice_activity
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import decode

CORPUS = Path(__file__).parents[2] / "recipes" / "quickstart" / "corpus"
Trials = Callable[[str, int], Iterator[int]]


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [decode(path).samples[:] for path in sorted(CORPUS.rglob("*.*"))]


def recording(clips: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Stretches of speech at any level, with noise or silence between them: float32 of any length, none included."""
    parts = [np.zeros(0, np.float32)]
    for _ in range(random.integers(0, 6)):
        clip = clips[random.integers(len(clips))]
        start = random.integers(len(clip))
        parts.append(clip[start : start + random.integers(1, 20 * SAMPLE_RATE_HZ)] * 10 ** random.uniform(-2, 0.5))
        parts.append(random.choice([0, 0.001, 0.02]) * random.normal(size=random.integers(0, 3 * SAMPLE_RATE_HZ)))
    samples = np.concatenate(parts)
    if random.random() < 0.5:  # an end near that of a frame
        samples = samples[: max(0, len(samples) // 512 * 512 - random.choice([0, 1, 40, 63, 64, 65]))]
    return samples.astype(np.float32)


def whole(samples: np.ndarray, longest: float) -> list[tuple[float, float]]:
    """What faster-whisper makes of the whole array."""
    options = vad.VadOptions(max_speech_duration_s=longest, min_silence_duration_ms=160, speech_pad_ms=200)
    return [(r["start"] / SAMPLE_RATE_HZ, r["end"] / SAMPLE_RATE_HZ) for r in vad.get_speech_timestamps(samples, options)]


@pytest.mark.process
def test_blocks_do_not_show(clips: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    found = 0
    for seed in trials("speech found block by block", 30):
        random = np.random.default_rng(seed)
        samples, longest = recording(clips, random), float(random.choice([2.0, 5.0, 28.0]))
        monkeypatch.setattr(voice_activity, "_BLOCK", int(random.choice([1, 2, 9, 100, 1000])))
        regions = voice_activity.speech_regions(samples, longest=longest)
        assert regions == whole(samples, longest), seed
        expected = vad.get_vad_model()(np.pad(samples, (0, 512 - len(samples) % 512)))
        np.testing.assert_array_equal(voice_activity._probabilities(samples), expected)
        found += len(regions)
    assert found


def test_any_probabilities_are_cut_as_silero_cuts_them(monkeypatch: pytest.MonkeyPatch, trials: Trials) -> None:
    for seed in trials("cuts of arbitrary probabilities", 500):
        random = np.random.default_rng(seed)
        # runs of speech, of silence and of what is neither, short and long against the silences that count
        runs = random.geometric(1 / random.choice([2, 5, 20]), size=random.integers(1, 60))
        values = random.choice([0.1, 0.34, 0.35, 0.4, 0.5, 0.9], size=len(runs), p=[0.3, 0.1, 0.1, 0.1, 0.1, 0.3])
        probabilities = np.repeat(values, runs).astype(np.float32)
        total = len(probabilities) * 512 - int(random.integers(1, 513))
        longest = float(random.choice([1.0, 2.0, 28.0]))
        monkeypatch.setattr(vad, "get_vad_model", lambda values=probabilities: lambda padded: values)
        monkeypatch.setattr(voice_activity, "_probabilities", lambda samples, values=probabilities: values)
        samples = np.zeros(total, np.float32)
        assert voice_activity.speech_regions(samples, longest=longest) == whole(samples, longest), seed
