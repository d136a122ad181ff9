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
from msfser_cli.store.arrow import numbers

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
    """Sum up the table at `path`. Raises TableError as `Table.open`."""
    table = Table.open(path)
    wanted = {"recording_id", "utterance_id", "start", "end", "language", "speaker", "text", *DIMENSIONS}
    columns = [column for column in COLUMNS if column.name in wanted & table.names]
    rows = tables.read(path, columns)
    low, high = table.lineage.extra.get("scale", (0.0, 1.0))
    scale = (float(low), float(high))
    lines = list(table.ledger.values())
    start, end = (numbers(rows.column(name)) for name in ("start", "end"))
    seconds = sum(line["duration"] or 0.0 for line in lines)
    if not lines:
        seconds = sum(dict(zip(rows.column("recording_id").to_pylist(), end.tolist(), strict=True)).values())
    return Glance(
        recordings=len(lines) or len(rows.column("recording_id").unique()),
        utterances=len(rows),
        seconds=float(seconds),
        speech_seconds=float((end - start).sum()),
        statuses=dict(Counter(line["status"] for line in lines)),
        reasons=dict(Counter(line["reason"] for line in lines if line["reason"]).most_common()),
        languages=_counted(rows, "language"),
        speakers=len(_counted(rows, "speaker")),
        scale=scale,
        scores={d: scores for d in DIMENSIONS if d in rows.column_names and (scores := _scores(rows, d, scale))},
    )


def _counted(rows: Any, name: str) -> dict[str, int]:
    """How many rows have each value of the column, the most frequent first; empty if the table does not have it."""
    if name not in rows.column_names:
        return {}
    pairs = ((entry["values"], entry["counts"]) for entry in rows.column(name).value_counts().to_pylist())
    return dict(sorted(((value, count) for value, count in pairs if value is not None), key=lambda pair: (-pair[1], pair[0])))


def _scores(rows: Any, dimension: str, scale: tuple[float, float]) -> Scores | None:
    values = numbers(rows.column(dimension))
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return None
    histogram = np.histogram(np.clip(values[known], *scale), BINS, scale)[0]
    return Scores(
        len(known), float(values[known].mean()), float(values[known].std()), tuple(histogram.tolist()),
        tuple(_extreme(rows, int(known[i]), values[known[i]]) for i in _lowest(-values[known])),
        tuple(_extreme(rows, int(known[i]), values[known[i]]) for i in _lowest(values[known])),
    )  # fmt: skip


def _lowest(values: np.ndarray) -> np.ndarray:
    """The places of the `EXTREMES` lowest values, the lowest first; of equal ones, those that come first."""
    count = min(EXTREMES, len(values))
    candidates = np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])
    return np.asarray(candidates[np.argsort(values[candidates], kind="stable")[:count]])


def _extreme(rows: Any, i: int, score: float) -> Extreme:
    text = rows.column("text")[i].as_py() if "text" in rows.column_names else ""
    utterance, recording, start = (rows.column(name)[i].as_py() for name in ("utterance_id", "recording_id", "start"))
    return Extreme(float(score), utterance, recording, start, text)
