"""The sound of a recording's page: where the browser finds it, and its waveform."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from msfser_cli.errors import RecordingError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import Audio, decode

KINDS = ("link", "copy", "embed", "none")
"""The values of --audio."""

_MOST_PEAKS = 500_000
_PEAKS_PER_SECOND = 50.0
_BLOCK = 60 * SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Waveform:
    """The peaks of the sound, from 0 to 255, `per_second` of them for each second."""

    peaks: bytes
    per_second: float


@dataclass(frozen=True)
class Sound:
    """source: the address for the browser, None without sound. note: a sentence for the reader of the page."""

    source: str | None
    waveform: Waveform | None
    note: str | None = None


def waveform(audio: Audio) -> Waveform:
    """The highest absolute sample in each part of the recording, relative to the highest of all."""
    per_second = min(_PEAKS_PER_SECOND, _MOST_PEAKS / max(audio.duration, 1.0))
    width = max(1, round(SAMPLE_RATE_HZ / per_second))
    step = _BLOCK // width * width
    parts = []
    for first in range(0, len(audio.samples), step):
        samples = np.abs(audio.samples[first : first + step])
        parts.append(np.pad(samples, (0, -len(samples) % width)).reshape(-1, width).max(axis=1))
    peaks = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    loudest = max(float(peaks.max(initial=0.0)), 1e-6)
    return Waveform(np.round(peaks / loudest * 255).astype(np.uint8).tobytes(), SAMPLE_RATE_HZ / width)


def linked(path: Path, page: Path) -> Sound:
    """The sound as a link from the file `page` to `path`. Without the file, the page has no sound, and says why."""
    try:
        audio = decode(path)
    except RecordingError as error:
        return Sound(None, None, f"The page has no sound: {path.name}: {error.detail}.")
    return Sound(quote(os.path.relpath(path, page.parent)), waveform(audio))
