"""The tiers of a recording, for programs that show annotations as rows of intervals below each other. Times are milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from msfser_cli.exports.recordings import Recording, Utterance
from msfser_cli.exports.text import on_one_line
from msfser_cli.schemas import DIMENSIONS

LAYERS = ("words", "emphasis", "prominence", "description", *DIMENSIONS)
"""What lies within utterances, in the order in which it is shown."""


@dataclass(frozen=True)
class Interval:
    """A label from `start` to `end`, at least 1 ms later."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Within:
    """An utterance, and the intervals within it by the names in `LAYERS`. In a layer, none overlaps with another."""

    utterance: Interval
    layers: dict[str, list[Interval]]


@dataclass
class Tier:
    """Utterances of one speaker in order, none overlapping with another.

    name: the speaker's, `speech` if that is unknown. Later tiers of that name have a number, such as `NAME (2)`.
    """

    name: str
    speaker: str | None
    content: list[Within] = field(default_factory=list)

    def layers(self) -> list[str]:
        """The layers that have intervals, in order."""
        return [layer for layer in LAYERS if any(within.layers.get(layer) for within in self.content)]


def milliseconds(seconds: float) -> int:
    """The nearest whole millisecond."""
    return round(seconds * 1000)


def apart(intervals: Sequence[tuple[float, float]], low: int, high: int) -> list[tuple[int, int]]:
    """The intervals in milliseconds, in their order, within `low` to `high`, none overlapping, each at least 1 ms long.

    intervals: starts and ends in seconds, at most `high - low` of them. One that overlaps with the next is cut where the next
    begins. One of no length gets 1 ms.
    """
    starts = [milliseconds(start) for start, _ in intervals]
    placed, at = [], low
    for i, (_, end) in enumerate(intervals):
        following = len(intervals) - i - 1  # each needs 1 ms
        start = min(max(at, starts[i]), high - following - 1)
        last = min(milliseconds(end), starts[i + 1] if following else high)
        at = min(max(start + 1, last), high - following)
        placed.append((start, at))
    return placed


def tiers(recording: Recording) -> list[Tier]:
    """The utterances in tiers, the speakers in order of their first utterance."""
    of_speakers: dict[str | None, list[Tier]] = {}
    names: set[str] = set()
    for utterance in sorted(recording.utterances, key=lambda u: (u.start, u.end)):
        within = _within(utterance)
        own = of_speakers.setdefault(utterance.speaker, [])
        tier = next((t for t in own if t.content[-1].utterance.end <= within.utterance.start), None)
        if tier is None:
            name = on_one_line(utterance.speaker or "") or "speech"
            numbered = (name, *(f"{name} ({number})" for number in range(2, len(names) + 3)))
            tier = Tier(next(n for n in numbered if n not in names), on_one_line(utterance.speaker or "") or None)
            names.add(tier.name)
            own.append(tier)
        tier.content.append(within)
    return [tier for own in of_speakers.values() for tier in own]


def _within(utterance: Utterance) -> Within:
    start = milliseconds(utterance.start)
    end = max(milliseconds(utterance.end), start + max(1, len(utterance.words)))
    times = apart([(word.start, word.end) for word in utterance.words], start, end)
    placed = list(zip(times, utterance.words, strict=True))
    layers = {
        "words": [Interval(*time, on_one_line(word.text)) for time, word in placed],
        "prominence": [Interval(*time, f"{w.prominence:.2f}") for time, w in placed if w.prominence is not None],
        "emphasis": [],
        "description": [Interval(start, end, on_one_line(utterance.description))] if utterance.description else [],
        **{d: [Interval(start, end, f"{score.value:.3f}")] for d, score in utterance.scores.items()},
    }
    for emphasised, run in groupby(placed, key=lambda item: item[1].emphasised):
        if emphasised:
            group = list(run)
            text = "".join(word.text + word.after for _, word in group)
            layers["emphasis"].append(Interval(group[0][0][0], group[-1][0][1], on_one_line(text)))
    return Within(Interval(start, end, on_one_line(utterance.text)), layers)
