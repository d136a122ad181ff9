"""Speech for the miniature corpora: who says what, how, and what listeners would say of it. All of it is made up."""

from __future__ import annotations

import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SENTENCES = (
    (-1.0, "They cancelled it again."), (-0.9, "I lost everything I had."), (-0.8, "Nobody came to help us."),
    (-0.6, "This is not what I paid for."), (-0.5, "He never called me back."), (-0.3, "It is late and I am tired."),
    (0.0, "The meeting is on the second floor."), (0.0, "We took the bus to the station."),
    (0.1, "She put the letter on the table."), (0.4, "That was a good idea."), (0.6, "I like the new garden."),
    (0.8, "We won the first prize."), (0.9, "What a beautiful morning."), (1.0, "I am so happy for you."),
)  # fmt: skip
"""Each with the valence that its words have, -1..1."""


@dataclass(frozen=True)
class Turn:
    """What is said, by which voice of espeak-ng (`m3`, `f2`), how calm or excited (-1..1), and how it is meant."""

    text: str
    voice: str
    valence: float
    arousal: float

    def ratings(self, low: int, high: int, count: int) -> list[tuple[int, int, int]]:
        """Valence, activation and dominance by `count` raters, whole numbers in `low`..`high`."""
        rng = random.Random(f"{self}")
        middle, reach = (low + high) / 2, 0.8 * (high - low) / 2

        def rating(mean: float) -> int:
            return max(low, min(high, round(middle + reach * mean + rng.gauss(0, 0.4))))

        dominance = 0.7 * self.arousal + 0.2 * self.valence
        return [(rating(self.valence), rating(self.arousal), rating(dominance)) for _ in range(count)]

    def samples(self, rate: int) -> np.ndarray:
        """The turn spoken: float64 [n], mono, at `rate` Hz."""
        excited = (self.arousal + 1) / 2
        manner = ["-p", f"{30 + 40 * excited:.0f}", "-s", f"{140 + 80 * excited:.0f}", "-a", f"{50 + 100 * excited:.0f}"]
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            subprocess.run(["espeak-ng", "-v", f"en-us+{self.voice}", *manner, "-w", file.name, self.text], check=True)
            samples, found = soundfile.read(file.name)
        at = np.arange(0, len(samples) - 1, found / rate)
        return np.asarray(np.interp(at, np.arange(len(samples)), samples))


def turns(voice: str, count: int, seed: str) -> list[Turn]:
    """`count` turns of one voice, their sentences and arousals spread over the whole range."""
    rng = random.Random(seed)
    chosen = rng.sample(SENTENCES, count)
    arousals = rng.sample([-1 + 2 * i / max(1, count - 1) for i in range(count)], count)
    return [Turn(text, voice, valence, arousal) for (valence, text), arousal in zip(chosen, arousals, strict=True)]


def write(path: Path, samples: np.ndarray, rate: int) -> None:
    """A 16-bit WAV file; `samples` are [n] or [n, channels]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")
