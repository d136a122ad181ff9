"""Tables: writes rows as Parquet with a lineage and a seal, and verifies the seal before reading.

Every failure to read is a TableError. A table is a file, or a folder of files with the same columns (`--out dir/`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli.errors import TableError
from msfser_cli.schemas import SCHEMA_VERSION, STAGES, Column
from msfser_cli.store import seal
from msfser_cli.store.arrow import Row, conform, empty, runs, schema, to_rows, to_table, type_of, vector_lengths
from msfser_cli.store.atomic import replacing
from msfser_cli.store.bounds import bounded
from msfser_cli.store.lineage import METADATA_KEY, Lineage, from_values, metadata
from msfser_cli.store.reading import damaged, literal, reading, require_regular, unreadable

ROW_GROUP = 4096
"""The number of rows that are compressed, and held in memory, together."""

# The bytes before a file's lineage in Thrift's compact protocol.
_BEFORE_LINEAGE = bytes([0x18, len(METADATA_KEY)]) + METADATA_KEY + bytes([0x18])


def write(
    path: Path, tables: Iterable[pa.Table], target: pa.Schema, *, output: Path | None = None, row_group: int = ROW_GROUP
) -> None:
    """Write `tables`, one after another, to one file, atomically. The bytes depend on the rows only.

    output: as in `atomic.replacing`. row_group: a row group is written when it has this many rows. Raises ResourceError if
    writing fails.
    """
    strings = [name for name, kind in zip(target.names, target.types, strict=True) if kind == pa.string()]
    with replacing(path, output) as file, pq.ParquetWriter(
        file, target, compression="zstd", use_dictionary=strings, write_page_checksum=True, store_schema=True
    ) as writer:
        waiting: list[pa.Table] = []
        rows = 0

        def flush() -> None:
            # combined, because the bounds of chunks would become bounds of pages
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=rows)
            waiting.clear()

        for table in tables:
            waiting.append(conform(table, target))
            rows += len(table)
            if rows >= row_group:
                flush()
                rows = 0
        if rows:
            flush()
        writer.add_key_value_metadata({seal.KEY: seal.EMPTY})
        writer.close()
        seal.write(file)


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[Column], lineage: Lineage) -> None:
    """Write `rows` as a table, atomically. Raises ValueError if a row does not fit, ResourceError if writing fails."""
    table = to_table(rows, columns)
    write(path, [table], table.schema.with_metadata(metadata(lineage)))


def _unsealed(path: Path, content: BinaryIO) -> TableError:
    """The error for a Parquet file without a seal. The file is not parsed, because it is not verified."""
    footer = seal.footer_of(content)
    if footer and _BEFORE_LINEAGE not in footer:
        return TableError(path, "msfser did not write this Parquet file: its metadata lacks the key 'msfser'",
                          "name another table")
    return damaged(path, "its seal is missing")


def files(path: Path) -> list[Path]:
    """The files of a table: `path` itself, or the Parquet files in the folder. Raises TableError if there are none."""
    try:
        path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    parquet_files = sorted(p for p in path.glob("*.parquet") if not p.name.startswith(".")) if path.is_dir() else [path]
    if not parquet_files:
        raise TableError(path, "a folder without Parquet files", "name another table")
    return parquet_files


def open_file(file: Path, columns: Iterable[Column] = (), *, verify: bool = True) -> tuple[pq.ParquetFile, Lineage]:
    """Open a file that msfser wrote and that has `columns`; also returns its lineage. By default the seal is verified first."""
    require_regular(file)
    try:
        with file.open("rb") as content:
            if content.read(4) != seal.MAGIC:
                raise TableError(file, "not a Parquet file" if file.stat().st_size else "an empty file")
            if seal.read(content) is None:
                raise _unsealed(file, content)
            if verify and not seal.is_whole(content):
                raise damaged(file, "its content does not match its seal")
    except OSError as error:
        raise unreadable(file, error) from error
    with reading(file):
        parquet = pq.ParquetFile(literal(file), page_checksum_verification=True)
        values = json.loads((parquet.schema_arrow.metadata or {})[METADATA_KEY])
        version = int(values["schema_version"])
    if version > SCHEMA_VERSION:
        newer = f"a newer msfser wrote it with schema {version}, and this one reads schemas up to {SCHEMA_VERSION}"
        raise TableError(file, newer, "upgrade msfser")
    with reading(file):
        lineage = from_values(values)
    _check_columns(file, parquet.schema_arrow, lineage, columns)
    return parquet, lineage


def read_lineage(path: Path) -> Lineage:
    """The lineage of the table. For a folder, that of the newest part."""
    return open_file(files(path)[-1])[1]


def joint_seal(sealed_files: Iterable[Path]) -> str:
    """A hash of the seals of files. It is equal only if their contents are equal. Raises TableError if a seal is missing."""
    digest = hashlib.sha256()
    for file in sealed_files:
        try:
            with file.open("rb") as content:
                sealed = seal.read(content)
                if sealed is None:
                    raise _unsealed(file, content)
                digest.update(sealed)
        except OSError as error:
            raise unreadable(file, error) from error
    return digest.hexdigest()


def _check_columns(file: Path, stored: pa.Schema, lineage: Lineage, columns: Iterable[Column]) -> None:
    """Raise TableError if a column is missing or has another type. The message names the command that writes the column.

    A table of an older schema may lack newer columns that may be null.
    """
    for column in columns:
        if column.name not in stored.names:
            if column.nullable and column.since > lineage.schema_version:
                continue
            writer = next((stage for stage, written in STAGES.items() if column in written), None)
            remedy = f"`msfser {writer}` writes it" if writer else ""
            raise TableError(file, f"a table of `{lineage.stage}` without the column {column.name!r}", remedy)
        kind = stored.field(column.name).type
        wanted = type_of(column.type, kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        if kind != wanted:
            raise TableError(file, f"the column {column.name!r} is {kind} and should be {column.type}", "name another table")


def slices(path: Path, columns: Sequence[Column], only: str | None = None) -> Iterator[tuple[str, pa.Table]]:
    """Each recording with its rows as an Arrow table, in the order of the file. Holds one row group in memory at a time.

    only: the recording to read; None: all.

    All files are opened and checked first, so that a wrong table is refused before any work. Raises TableError also if the rows
    of a recording are not adjacent.
    """
    parquet_files = files(path)
    for file in parquet_files:
        open_file(file, columns)

    def recordings() -> Iterator[tuple[str, pa.Table]]:
        adjacent = _Adjacent()
        for file in parquet_files:
            parts: list[pa.Table] = []  # of a recording that may continue in the next row group
            current = None
            for recording_id, part in _runs(file, columns, only):
                if recording_id != current:
                    if current is not None:
                        yield current, pa.concat_tables(parts)
                    adjacent.require(file, recording_id)
                    current, parts = recording_id, []
                parts.append(part)
            if current is not None:
                yield current, pa.concat_tables(parts)

    return recordings()


class _Adjacent:
    """Sees to it that the rows of each recording are adjacent, in one file."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._last: tuple[Path, str] | None = None

    def require(self, file: Path, recording_id: str) -> None:
        """Take the next rows of the table. Raises TableError if the recording had rows before, and others came between."""
        if self._last == (file, recording_id):
            return
        if recording_id in self._seen:
            raise TableError(file, f"the rows of {recording_id!r} are not adjacent", "sort the table by recording_id")
        self._seen.add(recording_id)
        self._last = (file, recording_id)


def _runs(file: Path, columns: Sequence[Column], only: str | None) -> Iterator[tuple[str, pa.Table]]:
    """Runs of rows with the same recording_id: `only` that one, if it is given."""
    for table in _row_groups(file, columns, only):
        for recording_id, start, end in runs(table.column("recording_id")):
            if only in (None, recording_id):
                yield recording_id, table.slice(start, end - start)


def _row_groups(file: Path, columns: Sequence[Column], recording: str | None = None) -> Iterator[pa.Table]:
    """The `columns` of a verified file, at most a row group at a time. Raises TableError if they take too much memory.

    recording: read only the row groups that may have rows of it.
    """
    with reading(file):
        stored = pq.read_schema(literal(file))
        present = pa.schema([stored.field(c.name) for c in columns if c.name in stored.names])
        target = schema(columns, vector_lengths(present))
        required = [c.name for c in columns if not c.nullable]
        with pq.ParquetFile(literal(file), metadata=_footer(file), page_checksum_verification=True) as parquet:
            numbers = None if recording is None else _groups_with(parquet.metadata, recording)
            for table in bounded(file, parquet, present, numbers):
                if empty := [name for name in required if table.column(name).null_count]:
                    raise TableError(file, f"the column {empty[0]!r} has no value in some rows", "restore it, or make it again")
                yield conform(table, target)


def _groups_with(metadata: pq.FileMetaData, recording: str) -> list[int]:
    """The row groups that may have rows of the recording, by the first and last of its column `recording_id` in their footer."""
    place = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index("recording_id")
    bounds = [metadata.row_group(number).column(place).statistics for number in range(metadata.num_row_groups)]
    return [number for number, b in enumerate(bounds) if b is None or not b.has_min_max or b.min <= recording <= b.max]


def _footer(file: Path) -> pq.FileMetaData | None:
    """A changed footer to read the data with, or None to use the footer of the file.

    pyarrow before version 26, which is not available for Python 3.10, cannot read a fixed-size list with nulls. It can read it as
    a plain list. So the Arrow schema, which marks lists of fixed size, is removed from the footer.
    """
    if int(pa.__version__.partition(".")[0]) >= 26:
        return None
    with file.open("rb") as content:
        content.seek(-8, os.SEEK_END)
        tail = content.read()
        content.seek(-8 - int.from_bytes(tail[:4], "little"), os.SEEK_END)
        footer = content.read().replace(b"ARROW:schema", b"arrow:schema")
    return pq.read_metadata(pa.BufferReader(seal.MAGIC + footer))


def iter_recordings(path: Path, columns: Sequence[Column], only: str | None = None) -> Iterator[tuple[str, list[Row]]]:
    """Each recording with its rows, with `columns` only. All files are checked first, then streamed, as in `slices`."""
    return ((recording_id, _to_rows_of(path, table)) for recording_id, table in slices(path, columns, only))


def _to_rows_of(path: Path, table: pa.Table) -> list[Row]:
    with reading(path):
        return to_rows(table)


def read(path: Path, columns: Sequence[Column]) -> pa.Table:
    """The whole table, verified, with `columns` only."""
    target, groups = _groups(path, columns)
    with reading(path):
        return pa.concat_tables([empty(target), *(rows for _, rows in groups)])


def row_groups(path: Path, columns: Sequence[Column]) -> Iterator[pa.Table]:
    """The table with `columns`, one of them `recording_id`, at most a row group at a time. Checks as `slices` does."""
    adjacent = _Adjacent()
    for file, rows in _groups(path, columns)[1]:
        for recording_id, _, _ in runs(rows.column("recording_id")):
            adjacent.require(file, recording_id)
        yield rows


def _groups(path: Path, columns: Sequence[Column]) -> tuple[pa.Schema, Iterator[tuple[Path, pa.Table]]]:
    """The schema of the table with `columns`, and its row groups, each with its file. All files are checked first."""
    parquet_files = files(path)
    lengths: dict[str, int] = {}
    for file in parquet_files:
        lengths |= vector_lengths(open_file(file, columns)[0].schema_arrow)
    target = schema(columns, lengths)
    return target, ((file, conform(table, target)) for file in parquet_files for table in _row_groups(file, columns))


def recording_ids(path: Path) -> list[str]:
    """The recordings with rows in the table, in its order."""
    return [recording_id for recording_id, _ in slices(path, [STAGES["transcribe"][0]])]


def first_and_last(file: Path) -> tuple[str, str] | None:
    """The first and the last recording of a file that is sorted by recording_id; None if it has no rows. It is not verified."""
    with reading(file), pq.ParquetFile(literal(file), page_checksum_verification=True) as parquet:
        ends = [parquet.read_row_group(number, ["recording_id"])["recording_id"] for number in range(parquet.num_row_groups)
                if number in (0, parquet.num_row_groups - 1)]  # fmt: skip
        return (ends[0][0].as_py(), ends[-1][-1].as_py()) if ends else None


def is_ours(path: Path) -> bool:
    """Whether msfser wrote the Parquet file `path`, or one in the folder. Raises TableError for a damaged Parquet file."""
    file = next(iter(sorted(path.glob("part-*.parquet"))), None) if path.is_dir() else path
    if file is None or file.suffix != ".parquet" or not file.is_file():
        return False
    with reading(file):
        return METADATA_KEY in (pq.read_schema(literal(file)).metadata or {})


