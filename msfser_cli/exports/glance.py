"""A corpus at a glance: counts, time, failures, and how the scores lie, from a table and its ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.exports.recordings import COLUMNS, Table
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store import tables
from msfser_cli.store.arrow import numbers, runs

BINS, EXTREMES = 24, 3


@dataclass(frozen=True)
class Extreme:
    """An utterance with one of the highest or lowest scores."""

    score: float
    utterance_id: str
    recording_id: str
    start: float
    text: str


@dataclass(frozen=True)
class Scores:
    """The scores of one dimension. histogram: the numbers of utterances in `BINS` equal parts of the scale."""

    n: int
    mean: float
    deviation: float
    histogram: tuple[int, ...]
    highest: tuple[Extreme, ...]
    lowest: tuple[Extreme, ...]


@dataclass(frozen=True)
class Glance:
    """statuses and reasons: numbers of recordings by the ledger, empty without one. languages: numbers of utterances."""

    recordings: int
    utterances: int
    seconds: float
    speech_seconds: float
    statuses: dict[str, int]
    reasons: dict[str, int]
    languages: dict[str, int]
    speakers: int
    scale: tuple[float, float]
    scores: dict[str, Scores]


def glance(path: Path) -> Glance:
    """Sum up the table at `path`, a row group at a time. Raises TableError as `Table.open`."""
    table = Table.open(path)
    wanted = {"recording_id", "utterance_id", "start", "end", "language", "speaker", "text", *DIMENSIONS}
    columns = [column for column in COLUMNS if column.name in wanted & table.names]
    low, high = table.lineage.extra.get("scale", (0.0, 1.0))
    scale = (float(low), float(high))
    lines = list(table.ledger.values())
    utterances, speech_seconds = 0, 0.0
    ends: dict[str, float] = {}
    counts = {name: Counter[str]() for name in ("language", "speaker")}
    dimensions = {d: _Dimension(d, scale) for d in DIMENSIONS if d in table.names}
    for rows in tables.row_groups(path, columns):
        start, end = (numbers(rows.column(name)) for name in ("start", "end"))
        utterances += len(rows)
        speech_seconds += float((end - start).sum())
        ends |= {recording_id: float(end[last - 1]) for recording_id, _, last in runs(rows.column("recording_id"))}
        for name, counter in counts.items():
            if name in rows.column_names:
                counter.update({entry["values"]: entry["counts"] for entry in rows.column(name).value_counts().to_pylist()})
        for dimension in dimensions.values():
            dimension.add(rows)
    languages, speakers = ({value: n for value, n in counter.items() if value is not None} for counter in counts.values())
    return Glance(
        recordings=len(lines) or len(ends),
        utterances=utterances,
        seconds=float(sum(line["duration"] or 0.0 for line in lines) if lines else sum(ends.values())),
        speech_seconds=speech_seconds,
        statuses=dict(Counter(line["status"] for line in lines)),
        reasons=dict(Counter(line["reason"] for line in lines if line["reason"]).most_common()),
        languages=dict(sorted(languages.items(), key=lambda pair: (-pair[1], pair[0]))),
        speakers=len(speakers),
        scale=scale,
        scores={name: scores for name, dimension in dimensions.items() if (scores := dimension.scores())},
    )


class _Dimension:
    """Sums up the scores of a dimension."""

    def __init__(self, name: str, scale: tuple[float, float]) -> None:
        self._name, self._scale = name, scale
        self._values: list[np.ndarray] = []
        self._lowest: list[tuple[float, Extreme]] = []
        self._highest: list[tuple[float, Extreme]] = []

    def add(self, rows: Any) -> None:
        """Take the scores of an Arrow table. NaN is no score."""
        values = numbers(rows.column(self._name))
        self._values.append(values[~np.isnan(values)])
        self._lowest = _least(self._lowest, values, rows, self._name)
        self._highest = _least(self._highest, -values, rows, self._name)

    def scores(self) -> Scores | None:
        """The sum; None if there are no scores."""
        values = np.concatenate([np.zeros(0), *self._values])
        if not len(values):
            return None
        histogram = np.histogram(np.clip(values, *self._scale), BINS, self._scale)[0]
        highest, lowest = (tuple(extreme for _, extreme in found) for found in (self._highest, self._lowest))
        return Scores(len(values), float(values.mean()), float(values.std()), tuple(histogram.tolist()), highest, lowest)


def _least(found: list[tuple[float, Extreme]], keys: np.ndarray, rows: Any, dimension: str) -> list[tuple[float, Extreme]]:
    """The `EXTREMES` with the lowest keys of those found so far and the rows; of equal ones, those that come first."""
    places = np.flatnonzero(keys < found[-1][0] if len(found) == EXTREMES else ~np.isnan(keys))
    places = places[np.argsort(keys[places], kind="stable")[:EXTREMES]]
    found = found + [(float(keys[i]), _extreme(rows, int(i), dimension)) for i in places]
    return sorted(found, key=lambda pair: pair[0])[:EXTREMES]


def _extreme(rows: Any, i: int, dimension: str) -> Extreme:
    text = rows.column("text")[i].as_py() if "text" in rows.column_names else ""
    score, utterance, recording, start = (
        rows.column(name)[i].as_py() for name in (dimension, "utterance_id", "recording_id", "start")
    )
    return Extreme(score, utterance, recording, start, text)
