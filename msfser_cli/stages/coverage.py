"""Measures how much of the speech in a recording has words. Nothing else shows that a recogniser missed speech."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

NEAR_A_WORD = 1.0
"""Speech has words up to this many seconds before and after a word. Word times are seldom wrong by more."""
A_SENTENCE = 0.7
"""A stretch of speech of at least so many seconds needs a word inside it: "Good morning!" beside a sentence is not part of it."""

Span = tuple[float, float]


def seconds(spans: Iterable[Span]) -> float:
    """The total length of the spans. Overlaps count once."""
    return sum(end - start for start, end in _joined(spans))


def seconds_with_words(speech: Iterable[Span], words: Sequence[Span]) -> float:
    """The seconds of `speech` that are at most `NEAR_A_WORD` from one of the `words`.

    A stretch of `A_SENTENCE` or more in which there is no word counts as speech without words. All spans are (start, end) in
    seconds.
    """
    said = _joined(words)

    def has_a_word(start: float, end: float) -> bool:
        before = bisect_left(said, (end, end))
        return before > 0 and said[before - 1][1] > start

    spoken = [(start, end) for start, end in _joined(speech) if end - start < A_SENTENCE or has_a_word(start, end)]
    return _overlap(spoken, _joined((start - NEAR_A_WORD, end + NEAR_A_WORD) for start, end in words))


def is_missing(speech_seconds: float, transcribed_seconds: float) -> bool:
    """Whether the summary counts the recording: a tenth of its speech or 30 s has no words, and at least 1 s."""
    return speech_seconds - transcribed_seconds >= max(1.0, min(0.1 * speech_seconds, 30.0))


def _joined(spans: Iterable[Span]) -> list[Span]:
    """The spans in order. Spans that overlap or touch are joined."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _overlap(left: Sequence[Span], right: Sequence[Span]) -> float:
    """The seconds that both sides have in common. The spans of each side are in order and do not overlap."""
    total, i, j = 0.0, 0, 0
    while i < len(left) and j < len(right):
        total += max(0.0, min(left[i][1], right[j][1]) - max(left[i][0], right[j][0]))
        if left[i][1] <= right[j][1]:
            i += 1
        else:
            j += 1
    return total
