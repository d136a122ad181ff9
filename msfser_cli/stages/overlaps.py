"""Finds segments of a recording that overlap, because msfser annotates the same speech several times then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msfser_cli.stages.work import Segment

_EXAMPLES = 3


def notes_on_overlaps(recordings: Iterable[Sequence[Segment]]) -> list[str]:
    """Sentences on segments that repeat another, or lie within another, of the same recording and speaker.

    recordings: the segments of each recording. Two speakers may talk at the same time, so their segments are not compared,
    unless one segment is the whole recording.
    """
    repeated: list[tuple[Segment, Segment]] = []
    within: list[tuple[Segment, Segment]] = []
    for segments in recordings:
        by_speaker: dict[str | None, list[Segment]] = {}
        one_is_whole = any(not segment.has_times for segment in segments)
        for segment in segments:
            by_speaker.setdefault(None if one_is_whole else segment.speaker, []).append(segment)
        for same_speaker in by_speaker.values():
            longest = None
            for segment in sorted(same_speaker, key=lambda s: (_span(s)[0], -_span(s)[1])):
                if longest is not None and _span(segment) == _span(longest):
                    repeated.append((longest, segment))
                elif longest is not None and _span(segment)[1] <= _span(longest)[1]:
                    within.append((longest, segment))
                else:
                    longest = segment
    sentences = []
    for pairs, relation in ((repeated, "repeat another"), (within, "lie within another")):
        if pairs:
            examples = ", ".join(f"{one.place} and {other.place}" for one, other in pairs[:_EXAMPLES])
            more = " ..." if len(pairs) > _EXAMPLES else ""
            sentences.append(f"manifest rows that {relation}: {len(pairs)} ({examples}{more}), all annotated")
    return sentences


def _span(segment: Segment) -> tuple[float, float]:
    return segment.start or 0.0, math.inf if segment.end is None else segment.end
