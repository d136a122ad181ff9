"""Times for words whose text is known: from Whisper's attention, regrouped as the text has them, or interpolated."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.whisper_ct2 import MAX_FRAMES, Whisper, likeliest, padded_frames
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

LONGEST_ALIGNED = 30.0
"""Seconds of audio that a text is aligned to at once."""


def align_by_attention(whisper: Whisper, samples: Samples, text: str, language: str | None) -> Transcript:
    """Times for the words of `text.split()`; interpolated, and marked so, where the clip is over 30 s or the text too long."""
    probability: float | None = None
    duration = len(samples) / SAMPLE_RATE_HZ
    features = whisper.features(samples[: round(LONGEST_ALIGNED * SAMPLE_RATE_HZ)])
    encoded = whisper.encode([features], padded_frames([features]))
    if language is None:
        language, probability = likeliest(whisper.language(encoded))
    tokens = whisper.tokenizer(language).encode(" " + " ".join(text.split()))
    if duration > LONGEST_ALIGNED or len(tokens) > MAX_FRAMES / 14 or not tokens:
        return Transcript(language, probability, interpolated(text.split(), 0.0, duration), True)
    found = whisper.word_times(encoded, [tokens], [features.shape[1]], language)[0]
    words = [shifted(w, 0.0, duration) for w in regrouped(found, text.split())]
    return Transcript(language, probability, words, True)


def interpolated(words: list[str], start: float, end: float) -> list[Word]:
    """`words` spread over `start` to `end` in proportion to their letters, marked as not aligned."""
    edges = np.cumsum([0, *(len(w) + 1 for w in words)]) / max(1, sum(len(w) + 1 for w in words))
    times = start + edges * (end - start)
    return [Word(w, float(times[i]), float(times[i + 1]), None, aligned=False) for i, w in enumerate(words)]


def shifted(word: Word, offset: float, limit: float) -> Word:
    """`word` moved by `offset` seconds, and kept between `offset` and `limit`."""
    start = min(offset + max(word.start, 0.0), limit)
    return replace(word, start=start, end=max(start, min(offset + word.end, limit)))


def regrouped(pieces: list[Word], words: list[str]) -> list[Word]:
    """The aligned `pieces` as the given `words`, matched letter by letter: the aligner may split words differently.

    Words that share a piece share its time in proportion to their letters.
    """
    letters: list[Word] = []
    for piece in pieces:
        spelt = "".join(piece.word.split())
        edges = np.linspace(piece.start, piece.end, len(spelt) + 1)
        letters += [replace(piece, start=float(a), end=float(b)) for a, b in pairwise(edges)]
    grouped: list[Word] = []
    position = 0
    for word in words:
        mine = letters[position : position + len(word)]
        position += len(word)
        scores = [p.score for p in mine if p.score is not None]
        if mine:
            score = float(np.mean(scores)) if scores else None
            grouped.append(Word(word, mine[0].start, mine[-1].end, score, aligned=any(p.aligned for p in mine)))
        else:
            last = grouped[-1].end if grouped else 0.0
            grouped.append(Word(word, last, last, None, aligned=False))
    return grouped
