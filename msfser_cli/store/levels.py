"""A recording at a usual level, whatever gain it was made with: the same words at any.

A recogniser, a detector of speech and an encoder of speech react to level, and hear little in what is 40 dB down or many times
beyond full scale. What is measured as loudness is the recording itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio, Samples

TARGET_DB = -14.0
"""The level, in dB of full scale, that the loud parts of a recording get."""

MOST_DB = 60.0
"""No recording is made louder by more: what is that faint is the noise of 16 bits."""

_PART = SAMPLE_RATE_HZ // 10
_BLOCK = _PART * 600
_FLOOR, _ABOVE_FLOOR, _LOUD = 10, 10.0, 90  # percentile, ratio of powers, percentile


@dataclass(frozen=True)
class _Scaled:
    """`samples` times `factor`."""

    samples: Samples
    factor: np.float32

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, stretch: slice, /) -> np.ndarray:
        return self.samples[stretch] * self.factor


def levelled(audio: Audio) -> Audio:
    """The recording, or channel, scaled by one factor so that `level_db` of it is `TARGET_DB`."""

    def scaled(samples: Samples) -> Audio:
        return Audio(_Scaled(samples, factor(samples)), audio.channel, notes=audio.notes)

    return audio.derived("levelled", scaled)


def factor(samples: Samples) -> np.float32:
    """What `samples` are to be multiplied with, so that their `level_db` is `TARGET_DB`; 1 for digital silence."""
    level = level_db(samples)
    return np.float32(1 if level is None else 10 ** (min(TARGET_DB - level, MOST_DB) / 20))


def level_db(samples: Samples) -> float | None:
    """The level of what is active, in dB of full scale; None for digital silence.

    Of tenths of a second, those 10 dB above the faintest tenth of them are active (all, where there are none), and of these the
    level that one in ten exceeds counts: neither how long the pauses are changes it, nor one slam of a door.
    """
    blocks = (samples[first : first + _BLOCK] for first in range(0, len(samples), _BLOCK))
    powers = np.array([power for block in blocks for power in _powers(block) if power > 0])
    if not len(powers):
        return None
    active = powers[powers > _ABOVE_FLOOR * np.percentile(powers, _FLOOR)]
    return float(10 * np.log10(np.percentile(active if len(active) else powers, _LOUD)))


def _powers(block: np.ndarray) -> np.ndarray:
    """Mean squares of the tenths of a second of `block`, float64 [n]; a last shorter one counts if there is no other."""
    whole = len(block) // _PART * _PART
    parts = block[:whole].reshape(-1, _PART) if whole else block[None]
    return np.asarray(np.square(parts, dtype=np.float64).mean(axis=1))
