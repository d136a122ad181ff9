"""Recordings that tests write: tones that stand for speech where a double hears them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 16_000


def tone(seconds: float, hz: float = 440.0, level: float = 0.5, rate: int = RATE) -> np.ndarray:
    """float32 [n], a sine."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def spoken(seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    """float32 [n], a tone whose pitch tells the double of the recogniser what to do, whatever becomes of its level."""
    return tone(seconds, PITCHES.get(level, 440.0), level)


PITCHES = {0.5: 500.0, 0.25: 250.0, 0.75: 750.0, 0.6: 2000.0, 0.7: 3000.0}
"""The tones at which the double fails, by the level at which `spoken` has them."""


def speak(path: Path, seconds: float = 1.0, level: float = 0.1) -> None:
    """A recording in which the double hears a word a second: none at level 0; at those of `PITCHES`, it fails in its ways."""
    sf.write(path, spoken(seconds, level), RATE, subtype="FLOAT")


def hum(path: Path, seconds: float = 2.0, level: float = 0.1) -> None:
    """A voice of moving pitch, which the doubles hear as `speak`, and whose pitch and level can be described."""
    t = np.arange(round(seconds * RATE)) / RATE
    samples = level * np.sin(2 * np.pi * (120 + 40 * np.sin(3 * t)) * t)
    if level in PITCHES:
        samples[: RATE // 10] = spoken(0.1, level)
    path.parent.mkdir(parents=True, exist_ok=True)  # a name may hold a slash
    write_wav(path, samples)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """A WAV file of 16 bits, at 16 kHz; `samples` are [n] in -1..1."""
    with path.open("wb") as file, wave.open(file, "wb") as audio:
        audio.setparams((1, 2, RATE, 0, "NONE", ""))
        audio.writeframes((samples * 32768).astype("<i2").tobytes())
