"""Which language is spoken where: Whisper's own detection, part by part, held together so that noise does not flip it.

The windows are encoded for recognition anyway. Each part of a window between two pauses has its language from its own stretch of
the encoder's states, which costs a few percent of what recognition costs. If the parts then differ, each is encoded by itself and
judged again. The most likely sequence of languages is sought (Viterbi's algorithm), in which every change has its price: a word,
or a short or unclear part, keeps the language of its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice

PART, LONGEST_PART = 3.0, 10.0
"""Seconds of speech that a part has at least, unless nothing is near, and at most: less is often misjudged."""
CHANGE, WITHIN, PAUSE = 2.5, 1.0, 1.0
"""What a change of language costs, in units of log-probability: the first after a pause of so many seconds, both without any."""
_LEAST = 0.01
"""No language is less probable than this: one wrong judgement must not outweigh many right ones."""
_MOST_WEIGHT = 3.0

Span = tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """A stretch of speech, (start, end) in seconds, with the probability of each language (Whisper's codes)."""

    span: Span
    probabilities: dict[str, float]

    @property
    def weight(self) -> float:
        """How much it counts: a part of `PART` seconds once."""
        return min(_MOST_WEIGHT, (self.span[1] - self.span[0]) / PART)


@dataclass(frozen=True)
class Passage:
    """A stretch of speech in one language; `probability` is None where the language was given."""

    span: Span
    language: str
    probability: float | None


def passages(windows: Sequence[Sequence[Judged]], before: str | None) -> list[Passage]:
    """The windows, each given by its parts, and those in two languages in several passages.

    before: the language of what precedes the first window, None at the start.
    """
    spoken = iter(settled([part for parts_of in windows for part in parts_of], before))
    found: list[Passage] = []
    for parts_of in windows:
        for language, run in groupby(zip(parts_of, islice(spoken, len(parts_of)), strict=True), key=lambda pair: pair[1]):
            same = [part for part, _ in run]
            probability = sum(p.weight * p.probabilities.get(language, 0.0) for p in same) / sum(p.weight for p in same)
            found.append(Passage((same[0].span[0], same[-1].span[1]), language, probability))
    return found


def main_language(found: Sequence[Passage]) -> tuple[str, float | None]:
    """The language that is spoken longest, and its probability over all that is in it; None where it was given."""
    seconds: dict[str, float] = {}
    for p in found:
        seconds[p.language] = seconds.get(p.language, 0.0) + p.span[1] - p.span[0]
    language = max(seconds, key=lambda code: seconds[code])
    spoken = [p for p in found if p.language == language]
    known = [(p.probability, p.span[1] - p.span[0]) for p in spoken if p.probability is not None]
    if not known:
        return language, None
    return language, sum(p * length for p, length in known) / sum(length for _, length in known)


def parts(regions: Sequence[Span]) -> list[Span]:
    """Neighbouring regions joined until each is `PART` seconds long: always the shortest with the nearer of its neighbours."""
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


def settled(heard: Sequence[Judged], before: str | None) -> list[str]:
    """The most likely language of each, given what a change costs, and what language went `before`."""
    if not heard:
        return []
    languages = sorted({likeliest(h.probabilities)[0] for h in heard} | ({before} if before else set()))
    scores = {code: 0.0 if before in (code, None) else -CHANGE for code in languages}
    ways: list[dict[str, str]] = []
    end = -math.inf
    for h in heard:
        change = CHANGE + WITHIN * max(0.0, 1 - (h.span[0] - end) / PAUSE)
        # Of equally good ways the one without a change, and then the first by name: the same input gives the same answer.
        way = {code: _best_before(code, scores, change) for code in languages}
        scores = {
            code: scores[last] - change * (last != code) + h.weight * math.log(max(_LEAST, h.probabilities.get(code, 0.0)))
            for code, last in way.items()
        }
        ways.append(way)
        end = h.span[1]
    path = [max(languages, key=lambda code: scores[code])]
    for way in reversed(ways[1:]):
        path.append(way[path[-1]])
    return path[::-1]


def _best_before(code: str, scores: dict[str, float], change: float) -> str:
    return max(scores, key=lambda last: (scores[last] - change * (last != code), last == code))


def likeliest(probabilities: dict[str, float]) -> tuple[str, float]:
    """The language with the highest probability, and that probability."""
    return max(probabilities.items(), key=lambda item: item[1])
