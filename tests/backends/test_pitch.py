"""F0 on tones of known frequency and on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msfser_cli.backends import pitch
from msfser_cli.errors import UsageError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.settings import PITCH_TRACKERS
from msfser_cli.store.audio import Audio, decode

pytestmark = pytest.mark.model


def harmonic_tone(f0_hz: np.ndarray) -> np.ndarray:
    """A buzz of ten harmonics under `f0_hz` (one value a sample)."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / SAMPLE_RATE_HZ
    return (sum(np.sin(k * phase) / k for k in range(1, 11)) * 0.2).astype(np.float32)


@pytest.fixture(scope="module")
def speech(shared_data: Path) -> np.ndarray:
    return decode(shared_data / "real_speech" / "audio" / "lj_LJ001-0001.flac").samples[:]


@pytest.mark.parametrize("method", PITCH_TRACKERS)
@pytest.mark.parametrize("f0_hz", [80.0, 120.0, 210.0, 400.0])
def test_finds_the_frequency_of_a_tone(method: str, f0_hz: float) -> None:
    track = pitch.track(harmonic_tone(np.full(SAMPLE_RATE_HZ, f0_hz)), method)
    voiced = track.voiced(0.1, 0.9)
    assert len(voiced) > 45
    assert np.abs(12 * np.log2(voiced / f0_hz)).max() < 0.5


@pytest.mark.parametrize("method", PITCH_TRACKERS)
def test_follows_a_glide_at_its_times(method: str) -> None:
    true = np.geomspace(120, 240, 2 * SAMPLE_RATE_HZ)
    track = pitch.track(harmonic_tone(true), method)
    expected = true[np.minimum((track.times() * SAMPLE_RATE_HZ).astype(int), len(true) - 1)]
    inner = slice(10, -10)
    assert np.nanmax(np.abs(12 * np.log2(track.f0_hz[inner] / expected[inner]))) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("method", PITCH_TRACKERS)
def test_gain_does_not_change_the_track(method: str, speech: np.ndarray) -> None:
    loud, quiet = pitch.track(speech, method), pitch.track(speech * np.float32(0.01), method)
    assert np.mean(np.isnan(loud.f0_hz) == np.isnan(quiet.f0_hz)) > 0.995
    both = ~np.isnan(loud.f0_hz) & ~np.isnan(quiet.f0_hz)
    assert np.median(np.abs(1200 * np.log2(loud.f0_hz[both] / quiet.f0_hz[both]))) < 1


def test_windows_do_not_show(speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pitch.track(speech, "swift-f0").f0_hz
    monkeypatch.setattr(pitch, "_WINDOWS", dict.fromkeys(pitch._WINDOWS, (100, 12)))
    np.testing.assert_array_equal(pitch.track(speech, "swift-f0").f0_hz, whole)


def test_trackers_agree_on_real_speech(speech: np.ndarray) -> None:
    swift, harvest = (pitch.track(speech, method).f0_hz for method in PITCH_TRACKERS)
    both = ~np.isnan(swift) & ~np.isnan(harvest)
    assert len(swift) == len(harvest)
    assert np.mean(np.abs(1200 * np.log2(swift[both] / harvest[both])) < 50) > 0.9


def test_the_same_speech_twice_gives_the_same_track(speech: np.ndarray) -> None:
    np.testing.assert_array_equal(pitch.track(speech, "swift-f0").f0_hz, pitch.track(speech, "swift-f0").f0_hz)


@pytest.mark.parametrize("method", PITCH_TRACKERS)
@pytest.mark.parametrize("length", [0, 1, 100, 255, 256, 257, 1000])
def test_clips_too_short_for_a_pitch(method: str, length: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    assert len(pitch.track(noise, method).f0_hz) == (max(1, length // 256) if length else 0)


@pytest.mark.parametrize("method", PITCH_TRACKERS)
def test_silence_is_unvoiced(method: str) -> None:
    assert np.isnan(pitch.track(np.zeros(SAMPLE_RATE_HZ, np.float32), method).f0_hz).all()


def test_mains_hum_is_not_voice() -> None:
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
    assert np.isnan(pitch.track(hum.astype(np.float32), "swift-f0").f0_hz).mean() > 0.9


def test_unknown_tracker_is_named() -> None:
    with pytest.raises(UsageError, match="swift-f0, harvest"):
        pitch.track(np.zeros(100, np.float32), "dio")


def test_frames_outside_the_audio_are_none() -> None:
    track = pitch.of(Audio(np.zeros(SAMPLE_RATE_HZ, np.float32)), "swift-f0")
    assert len(track.voiced(5, 6)) == len(track.voiced(0.5, 0.2)) == 0


def test_emphasis_and_description_share_one_track(speech: np.ndarray) -> None:
    audio = Audio(speech)
    assert pitch.of(audio, "swift-f0") is pitch.of(audio, "swift-f0")


@pytest.mark.parametrize("seconds", [2, 9])
def test_one_slam_of_a_door_does_not_change_the_rest_of_the_track(speech: np.ndarray, seconds: int) -> None:
    """30 dB above the speech, one second after its start."""
    quiet = speech[: seconds * SAMPLE_RATE_HZ]
    slam = np.random.default_rng(0).standard_normal(4_800) * np.exp(-np.arange(4_800) / 800)
    loud = quiet.copy()
    loud[SAMPLE_RATE_HZ:][:4_800] += (slam * 10**1.5 * np.abs(quiet).max() / np.abs(slam).max()).astype(np.float32)
    track, slammed = (pitch.track(samples, "swift-f0") for samples in (quiet, loud))
    rest = np.abs(track.times() - 1.15) > 0.4
    before, after = track.f0_hz[rest], slammed.f0_hz[rest]
    voiced, still = ~np.isnan(before), ~np.isnan(after)
    assert np.mean(voiced == still) > 0.99
    np.testing.assert_allclose(after[voiced & still], before[voiced & still], rtol=0.01)
