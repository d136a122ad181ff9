"""What the page of a corpus says: summed up while the recordings pass, with a bounded amount for each."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any

import numpy as np

from msfser_cli.errors import REASONS
from msfser_cli.exports.recordings import Recording, Table
from msfser_cli.schemas import DIMENSIONS

_BINS, _CELLS, _EXTREMES, _SHOWN, _TEXT = 40, 30, 10, 50, 160


class Corpus:
    """Sums up the recordings of `table`."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._dimensions = [d for d in DIMENSIONS if d in table.names]
        self._places = [DIMENSIONS.index(d) for d in self._dimensions]
        low, high = table.lineage.extra.get("scale", [0.0, 1.0])
        self._scale = (float(low), float(high))
        self._rows: list[list[Any]] = []
        self._histograms = np.zeros((len(self._dimensions), _BINS), int)
        self._density = np.zeros((_CELLS, _CELLS), int)
        self._sums = np.zeros((3, len(self._dimensions)))  # numbers, sums and sums of squares
        self._extremes: dict[tuple[str, str], list[Any]]
        self._extremes = {(end, d): [] for d in self._dimensions for end in ("highest", "lowest")}
        self._seconds = 0.0
        self._utterances = 0

    def add(self, recording: Recording, page: str) -> None:
        """Count `recording`, whose page has the address `page`."""
        rows = recording.rows
        scores = rows.scores[:, self._places, 0]
        self._seconds += recording.end
        self._utterances += len(scores)
        for i in range(len(self._dimensions)):
            known = scores[~np.isnan(scores[:, i]), i]
            self._histograms[i] += np.histogram(np.clip(known, *self._scale), _BINS, self._scale)[0]
            self._sums[:, i] += len(known), known.sum(), (known**2).sum()
        if {"valence", "arousal"} <= set(self._dimensions):
            both = np.clip(scores[~np.isnan(scores[:, :2]).any(axis=1), :2], *self._scale)
            self._density += np.histogram2d(both[:, 1], both[:, 0], _CELLS, (self._scale, self._scale))[0].astype(int)
        for (end, dimension), heap in self._extremes.items():
            place = self._dimensions.index(dimension)
            keys = scores[:, place] * (1 if end == "highest" else -1)
            least = heap[0][0] if len(heap) == _EXTREMES else -np.inf
            for row in np.flatnonzero(keys >= least).tolist():  # most are no extremes
                self._compare(heap, float(keys[row]), float(scores[row, place]), recording, row, page)
        languages = Counter(language for language in rows.language if language)
        speakers = len([speaker for speaker in recording.speakers if speaker is not None])
        spreads = [[round(float(x), 4) for x in (known.mean(), known.std())] if len(known := column[~np.isnan(column)]) else None
                   for column in scores.T]  # fmt: skip
        language = max(sorted(languages), key=lambda code: languages[code], default=None)
        self._rows.append([recording.id, page, recording.duration, len(scores), language, speakers, *spreads])

    def _compare(self, heap: list[Any], key: float, score: float, recording: Recording, row: int, page: str) -> None:
        identity, start, text = recording.rows.id[row], float(recording.rows.start[row]), recording.rows.text[row]
        if len(heap) == _EXTREMES and (key, identity) <= heap[0][:2]:
            return
        shown = text if len(text) <= _TEXT else text[:_TEXT] + "..."
        item = (key, identity, [round(score, 4), page, round(start, 1), recording.id, shown])
        (heapq.heappush if len(heap) < _EXTREMES else heapq.heappushpop)(heap, item)

    def data(self) -> dict[str, Any]:
        """What `index.js` reads."""
        number, total, squares = self._sums
        known = number > 0
        means = np.divide(total, number, where=known, out=np.full_like(total, np.nan))
        deviations = np.sqrt(np.maximum(np.divide(squares, number, where=known, out=np.full_like(total, np.nan)) - means**2, 0))
        lines = self._table.ledger.values()
        silent = [[line["recording_id"], None, line["duration"], 0, None, 0, *[None] * len(self._dimensions)]
                  for line in lines if line["recording_id"] not in self._table.stems]  # fmt: skip
        statuses = Counter(line["status"] for line in lines)
        incomplete = sum(line["status"] != "failed" and line["reason"] is not None for line in lines)
        return {
            "dimensions": self._dimensions,
            "scale": list(self._scale),
            "seconds": self._seconds + sum(row[2] or 0.0 for row in silent),
            "counts": {
                "recordings": len(self._rows) + len(silent),
                "utterances": self._utterances,
                "no_speech": statuses["no_speech"],
                "failed": statuses["failed"],
                "incomplete": incomplete,
            },
            "histograms": self._histograms.tolist(),
            "density": self._density.tolist() if self._density.any() else None,
            "means": [_or_none(x) for x in means],
            "deviations": [_or_none(x) for x in deviations],
            "recordings": self._rows + silent,
            "trouble": self._trouble(),
            "extremes": [
                {"name": f"{end} {dimension}", "utterances": [item for *_, item in sorted(heap, reverse=True)]}
                for (end, dimension), heap in self._extremes.items()
                if heap
            ],
            "lineage": self._lineage(),
        }

    def _trouble(self) -> list[dict[str, Any]]:
        """What failed or has rows for a part only, by its reason."""
        by_reason: dict[str, list[tuple[str, str]]] = {}
        for line in self._table.ledger.values():
            if line["reason"] is not None:
                by_reason.setdefault(line["reason"], []).append((line["recording_id"], line["detail"] or line["note"] or ""))
        return [
            {"reason": reason, "meaning": REASONS.get(reason, ""), "recordings": of[:_SHOWN], "more": max(0, len(of) - _SHOWN)}
            for reason, of in sorted(by_reason.items())
        ]

    def _lineage(self) -> list[tuple[str, str]]:
        lineage = self._table.lineage
        settings = [(f"{stage}: {name}", str(x)) for stage, values in lineage.settings.items() for name, x in values.items()]
        about = [("msfser", lineage.tool_version), ("stage", lineage.stage), ("corpus", lineage.corpus_root or "unknown")]
        return [*about, *((f"model {name}", version) for name, version in lineage.models.items()), *settings]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
