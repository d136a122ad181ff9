"""Columns of every type, and rows for them, that the tests of the store share."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.schemas import CUES, WORDS, Column, LedgerLine
from msfser_cli.store import tables
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.lineage import Lineage

COLUMNS = (
    Column("recording_id", "string", ""),
    Column("utterance_id", "string", ""),
    Column("start", "float64", ""),
    Column("number", "int64", "", nullable=True),
    Column("sure", "bool", "", nullable=True),
    Column("speaker", "string", "", nullable=True),
    Column("words", WORDS, ""),
    Column("emphasis", "list<float64>", ""),
    Column("emphasis_cues", CUES, ""),
    Column("gs_vector", "vector", "", nullable=True),
    Column("es_vector", "vector", "", nullable=True),
)
LINEAGE = Lineage(
    stage="embed",
    tool_version="0.1",
    fingerprint="first",
    settings={"transcribe": {"model": "base"}, "embed": {"text_model": "minilm"}},
    models={"base": "sha256:00"},
    corpus_root="corpus",
    extra={"scale": [1.0, 7.0]},
)


def make_rows(recording_id: str, count: int, seed: int = 0, length: int = 3) -> list[dict[str, Any]]:
    """Rows that differ by recording, place and seed."""
    return [
        {
            "recording_id": recording_id,
            "utterance_id": f"{recording_id}#{i:04d}",
            "start": i + seed / 7,
            "number": None if i % 2 else seed,
            "sure": None if i % 3 else bool(seed % 2),
            "speaker": None,
            "words": [{"word": "yes", "start": 0.1, "end": 0.2, "score": None, "aligned": False}] * (i % 3),
            "emphasis": [0.5, None][: i % 3],
            "emphasis_cues": [{"pitch_z": 1.0, "energy_z": None, "duration_z": math.pi}][: i % 3],
            "gs_vector": None if i % 4 == 3 else np.full(length, i + seed, np.float32),
            "es_vector": None,
        }
        for i in range(count)
    ]


def make_line(recording_id: str, rows: list[dict[str, Any]], seed: int = 0, **more: Any) -> LedgerLine:
    """The ledger line of a recording with these rows."""
    status = "done" if rows else "no_speech"
    line = {"recording_id": recording_id, "status": status, "utterances": len(rows), "seconds": 0.1, "input_key": f"key{seed}"}
    return LedgerLine(**line | more)


def plain(value: Any) -> Any:
    """Something that compares: arrays as lists, and floats by their bits, so that NaN equals NaN and 0 is not -0."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tobytes())
    if isinstance(value, float):
        return value.hex() + ("-" if math.copysign(1, value) < 0 else "")
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def expected(recordings: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """What `table_of` says of a table with these recordings, each with its number of rows and its seed."""
    return {name: plain(make_rows(name, count, seed)) for name, (count, seed) in sorted(recordings.items()) if count}


def table_of(out: str | Path) -> dict[str, Any]:
    """What is published, by recording; a recording that is there twice is an error of `iter_recordings`."""
    return {recording_id: plain(rows) for recording_id, rows in tables.iter_recordings(Path(out), COLUMNS)}


def told(line: LedgerLine) -> dict[str, Any]:
    """The line as `ledger_of` has it."""
    return {name: value for name, value in asdict(line).items() if value is not None}


def ledger_of(out: str | Path) -> dict[str, Any]:
    """What the published ledger says, without what is not set."""
    return {rid: {k: v for k, v in line.items() if v is not None} for rid, line in read_ledger(out).items()}


def names_in(folder: Path) -> set[str]:
    """All files and folders below, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
