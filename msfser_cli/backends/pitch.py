"""Fundamental frequency (F0) of speech: one track a recording, shared by emphasis and description.

Two trackers, on one grid of frames 16 ms apart:

- `swift-f0`, the default: a small convolutional network (the `swift_f0` package, ONNX). It reacts to level: 40 dB down
  it loses a third to all of the voiced frames. So it is given the recording at a usual level (`store.levels`).
- `harvest`: WORLD's Harvest (Morise 2017, the `pyworld` package), which MSF-SER uses; some twenty times slower.

F0 is sought between 65 and 600 Hz: the lowest ordinary male voice up to a shout, and above the 50 and 60 Hz of mains hum, which
both trackers otherwise take for voice in old recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.parallel import each
from msfser_cli.errors import ModelError, UsageError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.settings import PITCH_TRACKERS
from msfser_cli.store.levels import factor

if TYPE_CHECKING:
    from msfser_cli.store.audio import Audio, Samples

HOP_SAMPLES = 256
HOP = HOP_SAMPLES / SAMPLE_RATE_HZ
F0_MIN_HZ = 65.0
F0_MAX_HZ = 600.0

# Recordings are tracked in windows so that memory does not grow with their length. swift-f0 looks at most 11 frames to either
# side, so its windows are exact; short ones take a third of the memory. Harvest joins voiced stretches, for which half a second
# is ample.
_WINDOWS = {"swift-f0": (256, 12), "harvest": (3750, 32)}  # frames, and frames on each side that do not count


@dataclass(frozen=True)
class PitchTrack:
    """F0 over time: `f0_hz` is float64 [frames], NaN where unvoiced; frame i is centred at `i * hop` seconds."""

    f0_hz: np.ndarray
    hop: float = HOP

    def times(self, frames: slice = slice(None)) -> np.ndarray:
        """The centres of the frames in seconds, float64 [frames in the slice]."""
        return np.arange(*frames.indices(len(self.f0_hz))) * self.hop

    def frames(self, start: float, end: float) -> slice:
        """The frames whose centres lie in [start, end) seconds, as a slice; empty when none do."""
        first, last = (int(np.ceil(max(t, 0.0) / self.hop - 1e-9)) for t in (start, end))
        return slice(first, max(first, last))

    def voiced(self, start: float, end: float) -> np.ndarray:
        """The F0 (Hz) of the voiced frames between `start` and `end` seconds."""
        f0: np.ndarray = self.f0_hz[self.frames(start, end)]
        voiced: np.ndarray = f0[~np.isnan(f0)]
        return voiced

    def voiced_at(self, times: np.ndarray) -> np.ndarray:
        """Whether the frame nearest to each of `times` (s) is voiced, bool [len(times)]."""
        if len(self.f0_hz) == 0:
            return np.zeros(len(times), dtype=bool)
        nearest = np.clip(np.rint(times / self.hop).astype(int), 0, len(self.f0_hz) - 1)
        voiced: np.ndarray = ~np.isnan(self.f0_hz[nearest])
        return voiced


def of(audio: Audio, method: str) -> PitchTrack:
    """The recording's track, computed once and kept with the audio."""
    return audio.derived(f"pitch:{method}", partial(track, method=method))


def track(samples: Samples, method: str) -> PitchTrack:
    """F0 of `samples` by one of `settings.PITCH_TRACKERS`; deterministic, and independent of gain.

    Raises `UsageError` for another method, `ModelError` where the package of `harvest` is not installed.
    """
    if method not in PITCH_TRACKERS:
        raise UsageError(f"pitch must be one of {', '.join(PITCH_TRACKERS)}, not {method!r}")
    if len(samples) == 0:
        return PitchTrack(np.zeros(0))
    f0_of = _swift_f0 if method == "swift-f0" else _harvest
    return PitchTrack(_in_windows(samples, factor(samples), f0_of, *_WINDOWS[method]))


def _frame_count(samples: int) -> int:
    return max(1, samples // HOP_SAMPLES)


def _in_windows(
    samples: Samples, gain: np.float32, f0_of: Callable[[np.ndarray], np.ndarray], frames: int, context: int
) -> np.ndarray:
    total = _frame_count(len(samples))

    def window(first: int) -> np.ndarray:
        last = min(first + frames, total)
        left = max(0, first - context)
        right = len(samples) if last == total else (last + context) * HOP_SAMPLES
        return f0_of(samples[left * HOP_SAMPLES : right] * gain)[first - left : last - left]

    return np.concatenate(each(window, range(0, total, frames)))


@lru_cache(maxsize=1)
def _swift_f0_detector() -> Any:
    from swift_f0 import SwiftF0

    # One thread that sleeps between calls: as fast on this net, and the same bits on any machine's core count.
    return SwiftF0(threads=1, spin=False)


def _swift_f0(samples: np.ndarray) -> np.ndarray:
    result = _swift_f0_detector().detect(samples, SAMPLE_RATE_HZ, F0_MIN_HZ, F0_MAX_HZ)
    return np.where(result.confidence >= 0.5, result.pitch_hz, np.nan)


def _harvest(samples: np.ndarray) -> np.ndarray:
    try:
        import pyworld
    except ImportError as error:
        raise ModelError("pitch harvest needs the package pyworld; pip install pyworld-prebuilt") from error

    f0, _ = pyworld.harvest(
        samples.astype(np.float64), SAMPLE_RATE_HZ, f0_floor=F0_MIN_HZ, f0_ceil=F0_MAX_HZ, frame_period=1000 * HOP
    )
    return np.where(f0 > 0, f0, np.nan)[: _frame_count(len(samples))]
