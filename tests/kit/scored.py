"""Tables as `predict` writes them, with rows that a test makes up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msfser_cli.exports.format import NAMES
from msfser_cli.schemas import DIMENSIONS, LedgerLine, columns_through
from msfser_cli.store import tables
from msfser_cli.store.ledger import from_lines, write_ledger
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.place import place_of

LINEAGE = Lineage(stage="predict", tool_version="0.1", fingerprint="f", corpus_root="/corpus", extra={"scale": [0.0, 1.0]})
COLUMNS = columns_through("predict", vectors=False)

FORMATS = [name for name in NAMES if name != "audformat" or sys.version_info >= (3, 11)]
"""The formats of an export, without the one whose package this Python is too old for."""

Spoken = tuple[str, float, float]


def scored_row(
    recording: str, number: int, words: Sequence[Spoken], *, emphasised: Sequence[int] = (), between: str = " ",
    times: tuple[float, float] | None = None, **more: Any,
) -> dict[str, Any]:
    """A row with `words` (text, start, end), of which some are emphasised, each by itself. more: other columns."""
    start, end = times or (words[0][1], words[-1][2])
    row: dict[str, Any] = {c.name: None for c in COLUMNS} | {
        "recording_id": recording, "utterance_id": f"{recording}#{number:04d}", "start": start, "end": end, "language": "en",
        "text": between.join(text for text, _, _ in words),
        "words": [{"word": text, "start": s, "end": e, "score": 0.5, "aligned": True} for text, s, e in words],
        "emphasis": [1.5 if i in emphasised else 0.25 for i in range(len(words))],
        "emphasis_cues": [{"pitch_z": 0.0, "energy_z": 0.0, "duration_z": 0.0}] * len(words),
        "emphasis_spans": [
            {"text": words[i][0], "start": words[i][1], "end": words[i][2], "first_word": i, "last_word": i, "score": 1.5}
            for i in emphasised
        ],
        "emphasized_text": " ".join(words[i][0] for i in emphasised) or None,
        "description": "A low, soft voice.",
        **{d: 0.25 + i / 4 for i, d in enumerate(DIMENSIONS)},
        **{f"{d}_{e}": 0.25 + i / 4 + by for i, d in enumerate(DIMENSIONS) for e, by in (("low", -0.2), ("high", 0.2))},
        **{f"gate_{s}": 1 / 3 for s in ("les", "gs", "es")},
        **{f"router_{d}": [0.5, 0.5] for d in DIMENSIONS},
    }  # fmt: skip
    return row | more


def write_scores(
    path: Path, rows: Sequence[dict[str, Any]], lines: Sequence[LedgerLine] = (), columns: Any = COLUMNS,
    lineage: Lineage = LINEAGE,
) -> Path:
    """Write the table and, if `lines` are given, its ledger. Returns `path`."""
    tables.write_rows(path, sorted(rows, key=lambda row: row["recording_id"]), columns, lineage)
    if lines:
        write_ledger(place_of(path), [from_lines([asdict(line) for line in lines])], lineage)
    return path
