"""Level, spectral balance and harmonicity on signals of known make."""

from __future__ import annotations

import numpy as np
import pytest

from msfser_cli.backends import pitch, spectrum
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio

T = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ


def noise(level_db: float = 0.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=len(T)) * 10 ** (level_db / 20)).astype(np.float32)


@pytest.mark.parametrize("level_db", [0.0, -20.0, -60.0])
def test_power_is_the_mean_square(level_db: float) -> None:
    measured = spectrum.measure(noise(level_db))
    assert spectrum.decibels(measured.power[5:-5].mean()) == pytest.approx(level_db, abs=0.3)


@pytest.mark.parametrize(("frequency_hz", "in_low", "in_high"), [(300, 1, 0), (2500, 0, 1), (6500, 0, 0)])
def test_bands_hold_their_frequencies(frequency_hz: float, in_low: float, in_high: float) -> None:
    measured = spectrum.measure(np.sin(2 * np.pi * frequency_hz * T).astype(np.float32))
    power = measured.power[50]
    assert power == pytest.approx(0.5, rel=0.02)
    assert measured.low[50] / power == pytest.approx(in_low, abs=0.01)
    assert measured.high[50] / power == pytest.approx(in_high, abs=0.01)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = spectrum.measure(noise())
    monkeypatch.setattr(spectrum, "_BLOCK_FRAMES", 7)
    pieces = spectrum.measure(noise())
    for name in ("power", "low", "high"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 400])
def test_clips_shorter_than_a_window(length: int) -> None:
    measured = spectrum.measure(noise()[:length])
    assert len(measured.power) == (length // 160 + 1 if length else 0)
    assert np.isfinite(measured.power).all()


@pytest.mark.parametrize("true_db", [3.0, 10.0, 20.0])
@pytest.mark.parametrize("f0_hz", [90.0, 140.0, 300.0, 450.0])
def test_harmonicity_is_that_of_a_buzz_in_noise(f0_hz: float, true_db: float) -> None:
    buzz = sum(np.sin(2 * np.pi * f0_hz * k * T) for k in range(1, 12))
    buzz = buzz / np.sqrt(np.mean(buzz**2))
    samples = (buzz + noise(-true_db)).astype(np.float32)
    track = pitch.PitchTrack(np.full(len(samples) // pitch.HOP_SAMPLES, f0_hz))
    assert np.mean(spectrum.harmonicity(samples, track, 0.1, 0.9)) == pytest.approx(true_db, abs=1.5)


def test_harmonicity_has_a_value_for_each_voiced_frame() -> None:
    f0 = np.full(62, 200.0)
    f0[::3] = np.nan
    values = spectrum.harmonicity(noise(), pitch.PitchTrack(f0), 0.0, 1.0)
    assert len(values) == np.count_nonzero(~np.isnan(f0))
    assert values.min() >= -20
    assert values.max() <= 40
    assert len(spectrum.harmonicity(noise(), pitch.PitchTrack(np.full(62, np.nan)), 0.0, 1.0)) == 0
    assert np.isfinite(spectrum.harmonicity(np.zeros(16_000, np.float32), pitch.PitchTrack(f0), 0.0, 1.0)).all()


def test_speech_frames_are_the_loud_and_the_voiced() -> None:
    samples = noise(-20)
    samples[8000:] *= 0.01
    silent = pitch.PitchTrack(np.full(62, np.nan))
    found = spectrum.speech(spectrum.measure(samples), silent, 0.0, 1.0)
    assert found[:49].all()
    assert not found[52:].any()
    assert spectrum.speech(spectrum.measure(samples), pitch.PitchTrack(np.full(62, 100.0)), 0.0, 1.0).all()
    assert not spectrum.speech(spectrum.measure(np.zeros(16_000, np.float32)), silent, 0.0, 1.0).any()
    assert len(spectrum.speech(spectrum.measure(samples), silent, 5.0, 6.0)) == 0


def test_one_spectrum_a_recording() -> None:
    audio = Audio(noise())
    assert spectrum.of(audio) is spectrum.of(audio)
