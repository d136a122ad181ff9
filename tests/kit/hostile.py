"""Small tables of every kind, and ways to damage a file."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli.schemas import RECORDINGS, STAGE_NAMES, Column, LedgerLine, columns_through, names
from msfser_cli.store import arrow, seal, tables
from msfser_cli.store.ledger import ledger_path
from msfser_cli.store.lineage import Lineage, metadata
from msfser_cli.store.output import Output

SCALE = {"scale": [0.0, 1.0]}
LENGTH = 4
"""Of the vectors."""

_VALUES: dict[str, Any] = {"string": "so", "float64": 0.5, "int64": 1, "bool": True}


def rows_of(columns: Sequence[Column], recordings: Iterable[str], utterances: int = 3) -> list[dict[str, Any]]:
    """Rows with a value in every column, which differ by recording and place."""
    rows = []
    for number, recording in enumerate(recordings):
        for i in range(utterances):
            row = {c.name: _value(c.type, number * utterances + i) for c in columns}
            row |= {"recording_id": recording, "utterance_id": f"{recording}#{i:04d}", "start": float(i), "end": i + 1.0}
            rows.append(row)
    return rows


def _value(kind: str, seed: int) -> Any:
    if kind == "vector":
        return np.random.default_rng(seed).normal(size=LENGTH).astype(np.float32)
    if kind.startswith("list"):
        inner = arrow.type_of(kind).value_type
        one = {f.name: _VALUES[_NAMES[f.type]] for f in inner} if pa.types.is_struct(inner) else 0.25
        return [one] * (seed % 3)
    return f"so {seed}" if kind == "string" else seed / 16 if kind == "float64" else _VALUES[kind]


_NAMES = {pa.string(): "string", pa.float64(): "float64", pa.int64(): "int64", pa.bool_(): "bool"}


def lines_of(recordings: Iterable[str], utterances: int = 3, **more: Any) -> list[dict[str, Any]]:
    """The ledger's lines for `rows_of`."""
    known = {"status": "done", "size_bytes": 1, "sha256": "0" * 64, "duration": 3.0, "utterances": utterances, "seconds": 0.0}
    return [dict.fromkeys(names(RECORDINGS)) | known | {"recording_id": r, "input_key": r} | more for r in recordings]


def lineage(stage: str, **more: Any) -> Lineage:
    values = {"tool_version": "0", "fingerprint": "f", "corpus_root": "/corpus", "extra": SCALE, **more}
    return Lineage(stage=stage, **values)


def write_stage(path: Path, stage: str, recordings: Sequence[str] = ("a.wav", "b.wav", "c.wav")) -> Path:
    """The table that a stage writes, and its ledger."""
    columns = columns_through(stage)
    tables.write_rows(path, rows_of(columns, recordings), columns, lineage(stage))
    about = lineage("recordings", extra={**SCALE, "folder": False})
    tables.write_rows(ledger_path(path), lines_of(recordings), RECORDINGS, about)
    return path


def write_output(out: str, recordings: Sequence[str], *, publish: bool = True, seed: str = "") -> None:
    """Recordings of an output of `transcribe`; without `publish` they stay in hand, as after a kill."""
    columns = columns_through("transcribe")
    with Output.open(out, columns, lineage("transcribe")) as output:
        for line in lines_of(recordings):
            if output.done_key(line["recording_id"]) != line["input_key"] + seed:
                rows = rows_of(columns, [line["recording_id"]])
                output.add(LedgerLine(**line | {"input_key": line["input_key"] + seed}), rows)
        if publish:
            output.publish()


KINDS = (*STAGE_NAMES, "ledger", "part in hand", "part of a folder")


def write_kind(folder: Path, kind: str) -> tuple[Path, tuple[Column, ...]]:
    """A file of every kind that msfser writes with a seal, and its columns."""
    if kind in STAGE_NAMES:
        return write_stage(folder / "x.parquet", kind), columns_through(kind)
    if kind == "ledger":
        return ledger_path(write_stage(folder / "x.parquet", "transcribe")), RECORDINGS
    columns = columns_through("transcribe")
    if kind == "part in hand":
        write_output(str(folder / "x.parquet"), ["a.wav", "b.wav"], publish=False)
        [part] = (folder / ".x.parquet.parts").glob("*.parquet")
    else:
        write_output(f"{folder}/x/", ["a.wav", "b.wav"])
        [part] = (folder / "x").glob("*.parquet")
    return part, columns


def damage(content: bytes, chance: random.Random) -> bytes:
    """`content` after something that disks, networks and copies do; never the same."""
    torn = bytearray(content)
    place = chance.randrange(len(content))
    how = chance.choice(["flip", "flips", "cut", "noise", "zeros", "swap", "more", "head lost", "doubled"])
    if how == "flip":
        torn[place] ^= 1 << chance.randrange(8)
    elif how == "flips":
        for _ in range(chance.randrange(2, 9)):
            torn[chance.randrange(len(torn))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del torn[place:]
    elif how == "noise":
        torn[place : place + 16] = chance.randbytes(len(torn[place : place + 16]))
    elif how == "zeros":  # a sector that was lost
        start = place - place % 512
        torn[start : start + 512] = bytes(len(torn[start : start + 512]))
    elif how == "swap":
        size = chance.choice([16, 64, 512])
        other = chance.randrange(len(content))
        one, two = sorted((place - place % size, other - other % size))
        first, second = torn[one : one + size], torn[two : two + size]
        if len(first) == len(second):
            torn[one : one + size], torn[two : two + size] = second, first
    elif how == "more":
        torn += chance.choice([b"\0", b"PAR1", bytes(512), chance.randbytes(100), content])
    elif how == "head lost":
        del torn[: chance.choice([1, 4, 512])]
    else:
        torn[place:place] = torn[: chance.choice([1, 4, 64])]
    return bytes(torn) if torn != content else damage(content, chance)


def write_sealed(path: Path, table: pa.Table, stage: str = "transcribe", groups: int = 1, **options: Any) -> Path:
    """Any table as one of msfser's, as somebody could who wishes us ill: a seal is no signature."""
    table = table.replace_schema_metadata(metadata(lineage(stage)))
    with path.open("w+b") as file:
        with pq.ParquetWriter(file, table.schema, compression="zstd", write_page_checksum=True, **options) as writer:
            for _ in range(groups):
                writer.write_table(table, row_group_size=max(1, len(table)))
            writer.add_key_value_metadata({seal.KEY: seal.EMPTY})
        seal.write(file)
    return path
