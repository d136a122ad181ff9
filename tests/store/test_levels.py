"""A recording at a usual level, whatever its gain, its pauses and the doors that slam in it."""

from __future__ import annotations

import numpy as np
import pytest

from kit.audio_corpus import voice
from kit.sounds import RATE
from msfser_cli.store.audio import Audio
from msfser_cli.store.levels import MOST_DB, TARGET_DB, level_db, levelled

SPEECH = voice(RATE, 12.0)
NOISE = 1e-4 * np.random.default_rng(0).standard_normal(len(SPEECH)).astype(np.float32)


@pytest.mark.parametrize("gain_db", [-40, -20, 0, 20])
def test_gain_does_not_matter(gain_db: float) -> None:
    quiet = (SPEECH * 10 ** (gain_db / 20)).astype(np.float32)
    np.testing.assert_allclose(levelled(Audio(quiet)).samples[:], levelled(Audio(SPEECH)).samples[:], atol=1e-5)
    assert level_db(levelled(Audio(quiet)).samples) == pytest.approx(TARGET_DB, abs=0.01)


def test_pauses_and_a_slam_hardly_matter() -> None:
    level = level_db(SPEECH + NOISE)
    assert level is not None
    pauses = np.tile(NOISE, 20)
    assert level_db(np.concatenate([SPEECH + NOISE, pauses])) == pytest.approx(level, abs=1.5)
    assert level_db(np.concatenate([SPEECH + NOISE, np.zeros_like(pauses)])) == pytest.approx(level, abs=1.5)
    slammed = SPEECH + NOISE
    slammed[RATE : RATE + 4_800] += 10 * np.random.default_rng(1).standard_normal(4_800).astype(np.float32)
    assert level_db(slammed) == pytest.approx(level, abs=2)


def test_silence_is_left_alone_and_the_faintest_noise_stays_faint() -> None:
    assert level_db(np.zeros(RATE, np.float32)) is None
    assert not levelled(Audio(np.zeros(RATE, np.float32))).samples[:].any()
    assert level_db(np.zeros(0, np.float32)) is None
    faint = 1e-5 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert level_db(levelled(Audio(faint)).samples) == pytest.approx(-100 + MOST_DB, abs=1)


def test_the_recording_itself_stays_as_it_is_and_notes_are_its_own() -> None:
    audio = Audio(SPEECH, channel=1, notes=["a note"])
    other = levelled(audio)
    assert audio.samples is SPEECH
    assert levelled(audio) is other
    assert (other.channel, other.duration) == (1, audio.duration)
    other.notes.append("another")
    assert audio.notes == ["a note", "another"]
