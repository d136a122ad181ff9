"""Times for the words of a known text: from Whisper's attention, or interpolated."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.languages import Passage, likeliest
from msfser_cli.backends.whisper_ct2 import MAX_TOKENS, Whisper
from msfser_cli.backends.writing import blank_between, split
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from msfser_cli.store.audio import Samples

LONGEST_ALIGNED = 30.0
"""The longest audio, in seconds, that a text is aligned to."""


def align_by_attention(whisper: Whisper, samples: Samples, text: str, language: str | None) -> Transcript:
    """Times for the words of `text`.

    If the clip is longer than `LONGEST_ALIGNED` or the text has more than `MAX_TOKENS` tokens, the times are interpolated, and
    the words are marked as not aligned.
    """
    probability: float | None = None
    duration = len(samples) / SAMPLE_RATE_HZ
    [encoded] = whisper.encode(whisper.features([samples[: round(LONGEST_ALIGNED * SAMPLE_RATE_HZ)]]))
    if language is None:
        language, probability = likeliest(*whisper.languages([encoded.states]))
    tokens = whisper.tokenizer(language).encode(" " + text.strip())
    if duration > LONGEST_ALIGNED or len(tokens) > MAX_TOKENS or not split(text):
        return Transcript(language, probability, interpolated(text, 0.0, duration))
    pieces = whisper.word_times([encoded], [tokens], language)[0]
    words = [shifted(w, 0.0, duration) for w in regrouped(pieces, text)]
    return Transcript(language, probability, words)


def interpolated(text: str, start: float, end: float) -> list[Word]:
    """The words of `text`, spread from `start` to `end` in proportion to their lengths, and marked as not aligned."""
    words = split(text)
    edges = np.cumsum([0, *(len(w) + 1 for _, w in words)]) / max(1, sum(len(w) + 1 for _, w in words))
    times = start + edges * (end - start)
    return [Word(w, float(times[i]), float(times[i + 1]), None, aligned=False, blank=b) for i, (b, w) in enumerate(words)]


def shifted(word: Word, offset: float, limit: float) -> Word:
    """`word` moved by `offset` seconds, and cut to the time from `offset` to `limit`."""
    start = min(offset + max(word.start, 0.0), limit)
    return replace(word, start=start, end=max(start, min(offset + word.end, limit)))


def in_passage(word: Word, passage: Passage) -> Word:
    """`word` with the language of `passage`."""
    return replace(word, language=passage.language, language_probability=passage.probability)


def continued(words: list[Word], more: list[Word]) -> list[Word]:
    """`words` and then those of the next window, `more`, with a blank between the two if their script has blanks."""
    if words and more and not more[0].blank:
        more = [replace(more[0], blank=blank_between(words[-1].word, more[0].word)), *more[1:]]
    return words + more


def regrouped(pieces: list[Word], text: str) -> list[Word]:
    """The words of `text`, with times from the aligned `pieces`.

    Both are matched letter by letter, because the recogniser may spell or split the words differently. If several words share a
    piece, they share its time in proportion to their letters.
    """
    letters: list[Word] = []
    for piece in pieces:
        spelt = "".join(piece.word.split())
        edges = np.linspace(piece.start, piece.end, len(spelt) + 1)
        letters += [replace(piece, start=float(a), end=float(b)) for a, b in pairwise(edges)]
    grouped: list[Word] = []
    position = 0
    for blank, word in split(text):
        length = len("".join(word.split()))
        mine = letters[position : position + length]
        position += length
        scores = [p.score for p in mine if p.score is not None]
        if mine:
            score = float(np.mean(scores)) if scores else None
            aligned = any(p.aligned for p in mine)
            grouped.append(Word(word, mine[0].start, mine[-1].end, score, aligned=aligned, blank=blank))
        else:
            last = grouped[-1].end if grouped else 0.0
            grouped.append(Word(word, last, last, None, aligned=False, blank=blank))
    return grouped
