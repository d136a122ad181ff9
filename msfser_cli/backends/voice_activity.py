"""Where somebody speaks: the Silero detector that faster-whisper ships, and windows for a recogniser cut at its pauses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from msfser_cli.backends import Word
from msfser_cli.schemas import SAMPLE_RATE_HZ

LONGEST_WINDOW = 28.0
"""Seconds given to a recogniser at once: Whisper's 30, less some for the silence that ends a sentence."""
MERGE_GAP = 1.0
"""Regions closer than this, in seconds, share a window: the recogniser needs the sentence more than it minds the pause."""


def speech_regions(samples: np.ndarray, *, longest: float) -> list[tuple[float, float]]:
    """Stretches of speech in `samples` (float32 [n], 16 kHz), as (start, end) in seconds, none longer than `longest`."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(max_speech_duration_s=longest, min_silence_duration_ms=160, speech_pad_ms=200)
    return [(r["start"] / SAMPLE_RATE_HZ, r["end"] / SAMPLE_RATE_HZ) for r in get_speech_timestamps(samples, options)]


def windows(regions: list[tuple[float, float]], *, longest: float) -> list[tuple[float, float]]:
    """Neighbouring regions joined, pauses included, into windows of at most `longest` seconds."""
    joined: list[tuple[float, float]] = []
    for start, end in regions:
        if joined and start - joined[-1][1] <= MERGE_GAP and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def cut(samples: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """The samples between two times in seconds."""
    return samples[round(span[0] * SAMPLE_RATE_HZ) : round(span[1] * SAMPLE_RATE_HZ)]


def within_speech(word: Word, regions: list[tuple[float, float]]) -> Word:
    """`word` cut back to the region it overlaps most: attention-based word times run on into the pause beside them."""
    overlap, start, end = max(
        ((min(word.end, e) - max(word.start, s), max(word.start, s), min(word.end, e)) for s, e in regions), default=(0.0, 0, 0)
    )
    return replace(word, start=start, end=end) if overlap > 0 else word
