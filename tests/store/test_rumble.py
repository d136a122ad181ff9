"""What lies below any voice is taken out, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from kit.audio_corpus import voice
from kit.sounds import RATE, tone
from msfser_cli.store.rumble import HighPass


def filtered(samples: np.ndarray, sizes: tuple[int, ...] = (1_024,)) -> np.ndarray:
    """The samples, float32 [n] or [n, channels], through a filter that gets them in blocks of these sizes, in turn."""
    samples = samples.reshape(len(samples), -1)
    high_pass, parts, place, turn = HighPass(), [], 0, 0
    while place < len(samples):
        size = sizes[turn % len(sizes)]
        parts += high_pass.push(samples[place : place + size])
        place, turn = place + size, turn + 1
    whole = np.concatenate([*parts, *high_pass.flush()])
    return whole[:, 0] if whole.shape[1] == 1 else whole


def decibels(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples[2_000:-2_000], dtype=np.float64)) + 1e-30))


@pytest.mark.parametrize(("hz", "least"), [(5, 45), (10, 45), (20, 45), (30, 45), (35, 40), (50, 5)])
def test_rumble_goes(hz: float, least: float) -> None:
    sound = tone(4.0, hz)
    assert decibels(sound) - decibels(filtered(sound)) > least


@pytest.mark.parametrize("hz", [65, 70, 100, 440, 7_900])
def test_no_voice_is_touched(hz: float) -> None:
    sound = tone(4.0, hz)
    np.testing.assert_allclose(filtered(sound)[2_000:-2_000], sound[2_000:-2_000], atol=0.003)


@pytest.mark.parametrize("offset", [0.05, 0.1, -0.5, 3.0])
def test_a_constant_changes_nothing(offset: float) -> None:
    sound = voice(RATE, 3.0)
    np.testing.assert_allclose(filtered(sound + np.float32(offset)), filtered(sound), atol=1e-6)


@pytest.mark.parametrize("count", [1, 300, 16_000, 50_000])
def test_a_constant_is_silence(count: int) -> None:
    assert not filtered(np.full(count, 0.2, np.float32)).any()
    assert not filtered(np.zeros(count, np.float32)).any()


def test_a_step_is_over_at_once() -> None:
    sound = voice(RATE, 3.0)
    stepped = sound.copy()
    stepped[RATE:] += 0.2
    different = np.abs(filtered(stepped) - filtered(sound))
    assert different[: RATE - 1_000].max() < 1e-3 > different[RATE + 1_000 :].max()


def test_silence_after_sound_is_silence() -> None:
    sound = np.concatenate([voice(RATE, 1.0), np.zeros(RATE, np.float32)])
    assert not filtered(sound)[RATE + 800 :].any()


def test_blocks_do_not_show() -> None:
    sound = np.random.default_rng(0).standard_normal((70_000, 3)).astype(np.float32)
    np.testing.assert_array_equal(filtered(sound), filtered(sound, (20_000, 1, 777)))
    np.testing.assert_allclose(filtered(sound)[:, 1], filtered(sound[:, 1]), atol=1e-6)


@pytest.mark.parametrize("count", [1, 799, 14_784, 14_785, 15_583, 15_584, 15_585, 16_384, 31_000])
def test_as_many_samples_come_out_as_go_in(count: int) -> None:
    assert len(filtered(np.ones(count, np.float32))) == count
