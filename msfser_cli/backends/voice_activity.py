"""Voice activity from the Silero detector that faster-whisper ships, and windows for a recogniser, cut at pauses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends import Word
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

MERGE_GAP = 1.0
"""Regions at most this far apart, in seconds, share a window: the context of the sentence outweighs the cost of the pause."""

# The detector's input is frames of 512 samples, each with the 64 samples before it. It gets a block of frames at a time.
_FRAME, _CONTEXT, _BLOCK = 512, 64, 1000
_SPEECH, _SILENCE = 0.5, 0.35
"""Speech starts at a probability of at least the first, and ends at one below the second."""
_SHORT_SILENCE, _SILENCE_BETWEEN, _PADDING = 1568, 2560, 3200
"""In samples: the shortest silence at which speech that is too long is cut, the shortest silence that ends any speech, and the
margin that is kept on either side of speech."""


def speech_regions(samples: Samples, *, longest: float) -> list[tuple[float, float]]:
    """The stretches of speech in `samples`, as (start, end) in seconds, each at most `longest` seconds long."""
    regions = _spoken(_probabilities(samples), len(samples), longest * SAMPLE_RATE_HZ - _FRAME - 2 * _PADDING)
    return [(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for start, end in _padded(regions, len(samples))]


def windows(regions: list[tuple[float, float]], *, longest: float) -> list[tuple[float, float]]:
    """Neighbouring regions, with the pauses between them, joined into windows of at most `longest` seconds."""
    joined: list[tuple[float, float]] = []
    for start, end in regions:
        if joined and start - joined[-1][1] <= MERGE_GAP and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def cut(samples: Samples, span: tuple[float, float]) -> np.ndarray:
    """The samples between two times in seconds."""
    return samples[round(span[0] * SAMPLE_RATE_HZ) : round(span[1] * SAMPLE_RATE_HZ)]


def _probabilities(samples: Samples) -> np.ndarray:
    """The probability of speech in each frame, float32 [n // 512 + 1].

    The result is identical to faster-whisper's, which needs the whole array in memory.
    """
    from faster_whisper.vad import get_vad_model

    session = get_vad_model().session
    total = len(samples) // _FRAME + 1
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    before = np.zeros(_CONTEXT, np.float32)
    blocks = []
    for first in range(0, total, _BLOCK):
        last = min(first + _BLOCK, total)
        block = samples[first * _FRAME : last * _FRAME]
        block = np.pad(block, (0, (last - first) * _FRAME - len(block)))
        if last == total:
            block[-_CONTEXT:] = 0  # as faster-whisper does
        block = np.concatenate([before, block])
        frames = np.lib.stride_tricks.sliding_window_view(block, _CONTEXT + _FRAME)[::_FRAME]
        probabilities, hidden, cell = session.run(None, {"input": np.ascontiguousarray(frames), "h": hidden, "c": cell})
        blocks.append(probabilities)
        before = block[-_CONTEXT:]
    return np.concatenate(blocks)


def _spoken(probabilities: np.ndarray, total: int, longest: float) -> list[tuple[int, int]]:
    """Speech as (start, end) in samples, by the rules of Silero's own search in faster-whisper's version.

    Speech ends where a silence of `_SILENCE_BETWEEN` begins. Speech of more than `longest` samples ends where its last silence
    of `_SHORT_SILENCE` began, and continues after that. Without such a silence it ends at once.
    """
    regions: list[tuple[int, int]] = []
    start: int | None = None
    silence = 0  # where the current silence began; 0: there is speech
    cut = after = 0  # where the last short silence began, and where speech continued after it
    is_speech, is_silence = probabilities >= _SPEECH, probabilities < _SILENCE
    for frame in range(len(probabilities)):
        now = frame * _FRAME
        if is_speech[frame] and silence:
            silence = 0
            if after < cut:
                after = now
        if start is None:
            if is_speech[frame]:
                start = now
            continue
        if now - start > longest:
            regions.append((start, cut or now))
            start = after if after > cut else None
            silence = cut = after = 0
        if start is not None and is_silence[frame]:
            silence = silence or now
            if now - silence > _SHORT_SILENCE:
                cut = silence
            if now - silence >= _SILENCE_BETWEEN:
                regions.append((start, silence))
                start, silence, cut, after = None, 0, 0, 0
    if start is not None and start < total:
        regions.append((start, total))
    return regions


def _padded(regions: list[tuple[int, int]], total: int) -> list[tuple[int, int]]:
    """The regions with `_PADDING` on either side, or half of the silence between two if that is less. All in samples."""
    between = [min(_PADDING, (start - end) // 2) for (_, end), (start, _) in pairwise(regions)]
    before, after = [_PADDING, *between], [*between, _PADDING]
    return [(max(0, s - b), min(total, e + a)) for (s, e), b, a in zip(regions, before, after, strict=False)]


def within_speech(word: Word, regions: list[tuple[float, float]]) -> Word:
    """`word` cut to the region that it overlaps most, because word times from attention extend into the pause beside the word."""
    overlap, start, end = max(
        ((min(word.end, e) - max(word.start, s), max(word.start, s), min(word.end, e)) for s, e in regions), default=(0.0, 0, 0)
    )
    return replace(word, start=start, end=end) if overlap > 0 else word
