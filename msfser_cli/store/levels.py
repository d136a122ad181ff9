"""Scales a recording to a fixed level, so that its gain does not change the words.

A recogniser, a speech detector and a speech encoder react to the level, and miss speech that is 40 dB down or many times beyond
full scale. Loudness is measured on the recording itself, not on the scaled one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio, Samples

TARGET_DB = -14.0
"""The level of the loud parts after scaling, in dBFS."""

MOST_DB = 60.0
"""The largest amplification. A recording that would need more holds only the quantisation noise of 16 bits."""

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
    """The recording or channel, with all its samples multiplied by their `factor`."""

    def scaled(samples: Samples) -> Audio:
        return Audio(_Scaled(samples, factor(samples)), audio.channel, notes=audio.notes)

    return audio.derived("levelled", scaled)


def factor(samples: Samples) -> np.float32:
    """The factor that scales `samples` to the `level_db` of `TARGET_DB`, at most `MOST_DB`. 1 for digital silence."""
    level = level_db(samples)
    return np.float32(1 if level is None else 10 ** (min(TARGET_DB - level, MOST_DB) / 20))


def level_db(samples: Samples) -> float | None:
    """The level of the active parts, in dBFS. None for digital silence.

    The parts are tenths of a second. A part is active if its power is more than 10 dB above the 10th percentile of all parts;
    if no part is, all are active. The result is the 90th percentile of the active parts, so neither the length of the pauses
    nor a single bang changes it.
    """
    blocks = (samples[first : first + _BLOCK] for first in range(0, len(samples), _BLOCK))
    powers = np.array([power for block in blocks for power in _powers(block) if power > 0])
    if not len(powers):
        return None
    active = powers[powers > _ABOVE_FLOOR * np.percentile(powers, _FLOOR)]
    return float(10 * np.log10(np.percentile(active if len(active) else powers, _LOUD)))


def _powers(block: np.ndarray) -> np.ndarray:
    """The mean squares of the tenths of a second of `block`, float64 [n]. A shorter last part counts only if it is alone."""
    whole = len(block) // _PART * _PART
    parts = block[:whole].reshape(-1, _PART) if whole else block[None]
    return np.asarray(np.square(parts, dtype=np.float64).mean(axis=1))
