"""The language of each passage: Whisper's detection for each part, smoothed so that noise does not change the language.

Recognition encodes the windows anyway. The part of a window between two pauses gets its language probabilities from its own
stretch of the encoder's states, which adds a few percent to the cost of recognition. The parts beside a change are encoded by
themselves and judged again, because states from the middle of a window are sometimes misjudged. Viterbi's algorithm finds the
most likely sequence of languages. Every change of language has a cost, so a single word, or a short or unclear part, keeps the
language of its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise

PART, LONGEST_PART = 3.0, 10.0
"""Seconds. Shorter parts are often misjudged, so neighbouring regions are joined into parts of at least `PART`, but never into
one of more than `LONGEST_PART`."""
CHANGE, WITHIN, PAUSE = 2.5, 1.0, 1.0
"""The cost of a change of language, in units of log-probability: `CHANGE` after a pause of at least `PAUSE` seconds,
`CHANGE + WITHIN` without a pause, and in between linearly."""
_LEAST = 0.01
"""The lowest probability that counts, so that one wrong judgement cannot outweigh many right ones."""
_MOST_WEIGHT = 3.0

Span = tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """A stretch of speech, (start, end) in seconds, with the probability of each language (Whisper's codes)."""

    span: Span
    probabilities: dict[str, float]

    @property
    def weight(self) -> float:
        """Its weight in a mean: its length divided by `PART`, at most `_MOST_WEIGHT`."""
        return min(_MOST_WEIGHT, (self.span[1] - self.span[0]) / PART)


@dataclass(frozen=True)
class Passage:
    """A stretch of speech in one language. `probability` is None if the language was given."""

    span: Span
    language: str
    probability: float | None


def passages(windows: Sequence[Sequence[Judged]], before: str | None) -> list[Passage]:
    """The passages of the windows, each of which is given as its parts. A window in two languages becomes several passages.

    before: the language of the speech before the first window; None at the start.
    """
    languages = iter(settled([part for parts_of in windows for part in parts_of], before))
    result: list[Passage] = []
    for parts_of in windows:
        for language, run in groupby(zip(parts_of, islice(languages, len(parts_of)), strict=True), key=lambda pair: pair[1]):
            same = [part for part, _ in run]
            probability = sum(p.weight * p.probabilities.get(language, 0.0) for p in same) / sum(p.weight for p in same)
            result.append(Passage((same[0].span[0], same[-1].span[1]), language, probability))
    return result


def main_language(passages: Sequence[Passage]) -> tuple[str, float | None]:
    """The language that is spoken longest, and its mean probability over its passages, None if it was given."""
    seconds: dict[str, float] = {}
    for p in passages:
        seconds[p.language] = seconds.get(p.language, 0.0) + p.span[1] - p.span[0]
    language = max(seconds, key=lambda code: seconds[code])
    spoken = [p for p in passages if p.language == language]
    detected = [(p.probability, p.span[1] - p.span[0]) for p in spoken if p.probability is not None]
    if not detected:
        return language, None
    return language, sum(p * length for p, length in detected) / sum(length for _, length in detected)


def parts(regions: Sequence[Span]) -> list[Span]:
    """The regions, joined into parts of at least `PART` seconds, except where a part would exceed `LONGEST_PART` seconds.

    The shortest region is joined first, with the nearer of its neighbours.
    """
    joined = list(regions)
    short = [span for span in joined if span[1] - span[0] < PART]
    while short and len(joined) > 1:
        i = joined.index(min(short, key=lambda span: span[1] - span[0]))
        fitting = [
            k for k in (i - 1, i) if 0 <= k < len(joined) - 1 and joined[k + 1][1] - joined[k][0] <= LONGEST_PART
        ]  # fmt: skip
        if not fitting:
            short.remove(joined[i])
            continue
        k = min(fitting, key=lambda k: joined[k + 1][0] - joined[k][1])
        short = [span for span in short if span not in joined[k : k + 2]]
        joined[k : k + 2] = [(joined[k][0], joined[k + 1][1])]
        if joined[k][1] - joined[k][0] < PART:
            short.append(joined[k])
    return joined


def settled(judged: Sequence[Judged], before: str | None) -> list[str]:
    """The language of each stretch in the most likely sequence, given the cost of a change and the language `before` it."""
    if not judged:
        return []
    languages = sorted({likeliest(j.probabilities)[0] for j in judged} | ({before} if before else set()))
    scores = {code: 0.0 if before in (code, None) else -CHANGE for code in languages}
    ways: list[dict[str, str]] = []
    end = -math.inf
    for j in judged:
        change = CHANGE + WITHIN * max(0.0, 1 - (j.span[0] - end) / PAUSE)
        # Of equally good ways this takes the one without a change, then the first by name, so the result is reproducible.
        way = {code: _best_before(code, scores, change) for code in languages}
        scores = {
            code: scores[last] - change * (last != code) + j.weight * math.log(max(_LEAST, j.probabilities.get(code, 0.0)))
            for code, last in way.items()
        }
        ways.append(way)
        end = j.span[1]
    path = [max(languages, key=lambda code: scores[code])]
    for way in reversed(ways[1:]):
        path.append(way[path[-1]])
    return path[::-1]


def beside_changes(judged: Sequence[Judged], before: str | None) -> list[int]:
    """The indices of the stretches on either side of each change of language in the most likely sequence."""
    spoken = [before, *settled(judged, before)]
    changes = [i for i, (last, language) in enumerate(pairwise(spoken)) if last not in (language, None)]
    return sorted({i for change in changes for i in (change - 1, change) if i >= 0})


def _best_before(code: str, scores: dict[str, float], change: float) -> str:
    return max(scores, key=lambda last: (scores[last] - change * (last != code), last == code))


def likeliest(probabilities: dict[str, float]) -> tuple[str, float]:
    """The language with the highest probability, and that probability."""
    return max(probabilities.items(), key=lambda item: item[1])
