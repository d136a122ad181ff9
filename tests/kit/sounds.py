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


def speak(path: Path, seconds: float = 1.0, level: float = 0.1) -> None:
    """A recording in which the double of the recogniser hears a word a second: silence at level 0, its failure at 0.5."""
    sf.write(path, np.full(round(seconds * RATE), level, np.float32), RATE, subtype="FLOAT")


def hum(path: Path, seconds: float = 2.0, level: float = 0.1) -> None:
    """A voice of moving pitch, which the doubles hear as `speak`, and whose pitch and level can be described."""
    t = np.arange(round(seconds * RATE)) / RATE
    samples = level * np.sin(2 * np.pi * (120 + 40 * np.sin(3 * t)) * t)
    if level == 0.5:
        samples[0] = 0.5
    path.parent.mkdir(parents=True, exist_ok=True)  # a name may hold a slash
    write_wav(path, samples)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """A WAV file of 16 bits, at 16 kHz; `samples` are [n] in -1..1."""
    with path.open("wb") as file, wave.open(file, "wb") as audio:
        audio.setparams((1, 2, RATE, 0, "NONE", ""))
        audio.writeframes((samples * 32768).astype("<i2").tobytes())
