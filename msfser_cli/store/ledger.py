"""The ledger of an output: one line per recording. It also says which table it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from msfser_cli.schemas import RECORDINGS
from msfser_cli.store import tables
from msfser_cli.store.arrow import Row, empty, schema
from msfser_cli.store.lineage import Lineage, metadata
from msfser_cli.store.place import Place, place_of


def ledger_path(out: str | Path) -> Path:
    """The ledger of an output: `x.recordings.parquet`, both for `x.parquet` and for `x/`."""
    return place_of(out).ledger


def read_ledger(out: str | Path) -> dict[str, Row]:
    """recording_id -> line of the published ledger; empty if there is no ledger. Raises TableError if it cannot be read."""
    path = ledger_path(out)
    return {line["recording_id"]: line for line in tables.read(path, RECORDINGS).to_pylist()} if path.exists() else {}


def from_lines(lines: Sequence[Row]) -> pa.Table:
    """Ledger lines as an Arrow table."""
    target = schema(RECORDINGS, {})
    return pa.Table.from_pylist(lines, target) if lines else empty(target)


def write_ledger(place: Place, lines: Iterable[pa.Table], lineage: Lineage, *, unfinished: bool = False) -> None:
    """Write the ledger of the table at `place`, sorted by recording. lineage: that of the table.

    unfinished: as `is_unfinished` tells.
    """
    extra = lineage.extra | {"folder": place.is_folder, "table": tables.joint_seal(place.files())}
    extra |= {"unfinished": True} if unfinished else {}
    target = schema(RECORDINGS, {}, metadata(replace(lineage, stage="recordings", extra=extra)))
    ledger = pa.concat_tables([empty(target), *lines]).sort_by("recording_id")
    tables.write(place.ledger, [ledger], target, output=place.path)


def fits(ledger: Path, files: Sequence[Path]) -> bool:
    """Whether the ledger was written for these files. True for ledgers of earlier versions, which do not say."""
    written = tables.open_file(ledger, verify=False)[1].extra.get("table")
    return written is None or written == tables.joint_seal(files)


def is_unfinished(ledger: Path) -> bool:
    """Whether the run that wrote the ledger was stopped before it had tried all recordings."""
    return bool(tables.open_file(ledger, verify=False)[1].extra.get("unfinished"))


def utterances(ledger: pa.Table) -> int:
    """The number of utterances by the ledger."""
    return int(pc.sum(ledger["utterances"]).as_py() or 0)


def counts(ledger: pa.Table) -> dict[str, Any]:
    """`recordings`, of these `done`, `no_speech`, `failed` and `incomplete` (with rows for a part only), and `utterances`."""
    statuses, reasons = ledger["status"].to_pylist(), ledger["reason"].to_pylist()
    number = {status: statuses.count(status) for status in ("done", "no_speech", "failed")}
    number["incomplete"] = sum(s != "failed" and r is not None for s, r in zip(statuses, reasons, strict=True))
    return {"recordings": len(ledger), **number, "utterances": utterances(ledger)}
