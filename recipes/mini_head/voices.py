"""Synthetic voices of Debian's espeak-ng and flite, in many variants, rates and pitches."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from augment import resampled

from msfser_cli.schemas import SAMPLE_RATE_HZ

_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp")
_SPEAKERS = (
    "m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f4", "klatt", "klatt3", "Andy", "Denis", "Michael", "john", "linda",
    "Alicia", "steph", "victor", "zac",
)  # fmt: skip
_ESPEAK = tuple(f"{accent}+{speaker}" for accent in _ACCENTS for speaker in _SPEAKERS)
TRAIN = (*_ESPEAK, *("flite:kal16", "flite:rms", "flite:awb") * 18)
HELD_OUT = (
    "en-us-nyc+m6", "en-gb-x-gbclan+f3", "en-us+m8", "en-us+f5", "en-gb+klatt2", "en-us+Annie", "en-us+Mike",
    "en-gb-x-gbcwmd+paul", "en-us", "en-gb", *("flite:slt",) * 5,
)  # fmt: skip
"""Voices that are not used in training. Flite's voice is repeated to make up a third."""

_FLITE_HZ = {"slt": 180, "awb": 140, "rms": 100, "kal16": 105}


@dataclass(frozen=True)
class Voice:
    """A voice with its rate and pitch. 1 is the voice's own; higher values are faster and higher."""

    name: str
    rate: float = 1.0
    pitch: float = 1.0

    @staticmethod
    def draw(names: tuple[str, ...], rng: np.random.Generator) -> Voice:
        """One of `names`, with a rate and pitch in the range of a calm reader."""
        return Voice(names[rng.integers(len(names))], rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.25))

    def speak(self, text: str) -> np.ndarray:
        """`text` spoken by the voice, float32 [n] at 16 kHz, with very faint noise, like real recordings."""
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "speech.wav"
            engine, _, speaker = self.name.rpartition(":")
            if engine == "flite":
                command = ["flite", "-voice", speaker, "--setf", f"duration_stretch={1 / self.rate:.3f}",
                           "--setf", f"int_f0_target_mean={_FLITE_HZ[speaker] * self.pitch:.0f}", "-t", text, "-o", str(wav)]
            else:
                height = 50 + 100 * (self.pitch - 1)
                command = ["espeak-ng", "-v", self.name, "-s", f"{165 * self.rate:.0f}", "-p", f"{height:.0f}", "-w", str(wav),
                           "--", text]
            subprocess.run(command, check=True, capture_output=True)
            samples = _read_wav(wav.read_bytes())
        noise = np.random.default_rng(len(samples)).normal(0, 1e-4, len(samples))
        return (samples + noise).astype(np.float32)


def _read_wav(data: bytes) -> np.ndarray:
    """A WAV file of 16-bit mono PCM at any rate, as float32 at 16 kHz. The engines write a wrong length into the header."""
    first = data.index(b"data") + 8
    rate = int.from_bytes(data[24:28], "little")
    samples = np.frombuffer(data[first : first + (len(data) - first) // 2 * 2], "<i2").astype(np.float32) / 32768
    return samples if rate == SAMPLE_RATE_HZ else resampled(samples, round(len(samples) * SAMPLE_RATE_HZ / rate))
