"""Tables: writes rows as Parquet with a lineage and a seal, and verifies the seal before reading.

A row is a dict of column name -> Python value. A vector is a float32 array or None. Every failure to read is a TableError. A
table is a file, or a folder of files with the same columns (`--out dir/`).

The seal is the sha256 of the file with zeros in place of the seal. Other readers can verify Parquet's page checksums, but these
do not cover the footer and the page headers: a flipped bit there can change values without an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli.errors import MsfserError, ResourceError, TableError, is_shortage
from msfser_cli.schemas import SCHEMA_VERSION, STAGES, Column
from msfser_cli.store.atomic import replacing

Row = dict[str, Any]

ROW_GROUP = 4096
"""The number of rows that are compressed, and held in memory, together."""

LARGEST = 1 << 26
GROWTH = 100
"""A file is refused if its content takes more than `LARGEST` bytes in memory and more than `GROWTH` times its size. A few
kilobytes can claim to hold a hundred million rows."""

METADATA_KEY = b"msfser"
_MAGIC = b"PAR1"
_SEAL_KEY = "msfser.sha256"
_SEAL_SIZE = 64
# The bytes of a key, and before its value, in Thrift's compact protocol.
_BEFORE_SEAL = _SEAL_KEY.encode() + bytes([0x18, _SEAL_SIZE])
_BEFORE_LINEAGE = bytes([0x18, len(METADATA_KEY)]) + METADATA_KEY + bytes([0x18])
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}
_SCALARS = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The origin of a table, stored in its file.

    fingerprint: a hash that is equal for equal settings and models. settings: stage -> its settings, for all stages so far.
    models: id -> revision or sha256 of the model. extra: other facts that a reader needs, such as the scale of the scores.
    """

    stage: str
    tool_version: str
    fingerprint: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    corpus_root: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@lru_cache(maxsize=256)
def arrow_type(text: str, length: int | None = None) -> pa.DataType:
    """The Arrow type of a `schemas.Column.type`. length: that of a vector; without it the list has no fixed size."""
    if text == "vector":
        return pa.list_(pa.float32(), -1 if length is None else length)
    if text in _SCALARS:
        return _SCALARS[text]
    outer, _, inner = text.partition("<")
    inner = inner.removesuffix(">")
    if outer == "list":
        return pa.list_(arrow_type(inner))
    if outer == "struct":
        members = (member.partition(":") for member in _split(inner))
        return pa.struct([(name.strip(), arrow_type(kind.strip())) for name, _, kind in members])
    raise ValueError(f"not a column type: {text!r}")


def _split(members: str) -> list[str]:
    """Split at the commas outside angle brackets."""
    parts, depth = [""], 0
    for char in members:
        depth += (char == "<") - (char == ">")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def schema(columns: Iterable[Column], lengths: Mapping[str, int], metadata: Mapping[bytes, bytes] | None = None) -> pa.Schema:
    """The Arrow schema of `columns`. lengths: vector column -> its length, if known."""
    return pa.schema([pa.field(c.name, arrow_type(c.type, lengths.get(c.name)), c.nullable) for c in columns], metadata)


def to_table(rows: Sequence[Row], columns: Sequence[Column]) -> pa.Table:
    """The Arrow table of `rows`. Other keys are ignored. Raises ValueError, with the column, for a value that does not fit."""
    arrays = {}
    for column in columns:
        try:
            values = [row[column.name] for row in rows]
            array = _vectors(values) if column.type == "vector" else pa.array(values, arrow_type(column.type))
        except KeyError:
            raise ValueError(f"a row lacks the column {column.name!r}") from None
        except (pa.ArrowException, UnicodeError, ValueError, TypeError) as error:
            raise ValueError(f"the column {column.name!r} does not fit its type, {column.type} ({error})") from error
        if array.null_count and not column.nullable:
            raise ValueError(f"the column {column.name!r} may not be null")
        arrays[column.name] = array
    lengths = {name: array.type.list_size for name, array in arrays.items() if pa.types.is_fixed_size_list(array.type)}
    return pa.Table.from_arrays(list(arrays.values()), schema=schema(columns, lengths))


def to_rows(table: pa.Table) -> list[Row]:
    """The rows of `table`. Vectors are read-only views of its memory."""
    values = [_views(column) if _is_vector(column.type) else column.to_pylist() for column in table.columns]
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _vectors(values: Sequence[np.ndarray | None]) -> pa.Array:
    shapes = {np.shape(v) for v in values if v is not None}
    if not shapes:
        return pa.nulls(len(values), arrow_type("vector"))
    if len(shapes) > 1 or len(shape := shapes.pop()) != 1:
        raise ValueError("vectors must have one dimension and the same length")
    flat = np.zeros((len(values), *shape), np.float32)
    for place, value in zip(flat, values, strict=True):
        if value is not None:
            place[:] = value
    mask = pa.array([v is None for v in values])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=arrow_type("vector", shape[0]), mask=mask)


def _views(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    views: list[np.ndarray | None] = []
    for chunk in column.chunks:
        if not pa.types.is_fixed_size_list(chunk.type):  # the column has no vectors
            views += [None] * len(chunk)
            continue
        length = chunk.type.list_size
        flat = chunk.values.to_numpy(zero_copy_only=False).reshape(-1, length)[chunk.offset : chunk.offset + len(chunk)]
        views += [view if valid else None for view, valid in zip(flat, chunk.is_valid().to_pylist(), strict=True)]
    return views


def matrix(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A vector column as float32 [n, length] with zeros for null, and bool [n]: not null. Length 0 if all are null."""
    views = _views(column)
    present = np.array([view is not None for view in views], dtype=bool)
    length = next((len(view) for view in views if view is not None), 0)
    values = np.zeros((len(views), length), np.float32)
    for place, view in zip(values, views, strict=True):
        if view is not None:
            place[:] = view
    return values, present


def _is_vector(kind: pa.DataType) -> bool:
    return bool((pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind)) and kind.value_type == pa.float32())


def _of_fixed_size(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Convert a column of lists to `kind`. Each list has the length of `kind` or is null."""
    chunks = []
    for chunk in column.chunks:
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        flat = np.zeros((len(chunk), kind.list_size), np.float32)
        flat[valid] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, kind.list_size)
        chunks.append(pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind, mask=pa.array(~valid)))
    return pa.chunked_array(chunks, kind)


def conform(table: pa.Table, target: pa.Schema) -> pa.Table:
    """`table` with the columns of `target`. A missing column becomes null. Vectors get the length in `target`."""
    if table.schema == target:
        return table.replace_schema_metadata(target.metadata)
    columns = []
    for wanted in target:
        if wanted.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(len(table), wanted.type)]))
            continue
        column = table.column(wanted.name)
        if column.type != wanted.type and _is_vector(column.type):
            column = _of_fixed_size(column, wanted.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=target)


def write(path: Path, tables: Iterable[pa.Table], target: pa.Schema, *, output: Path | None = None) -> None:
    """Write `tables`, one after another, to one file, atomically.

    output: as in `atomic.replacing`. Raises ResourceError if writing fails.
    """
    strings = [name for name, kind in zip(target.names, target.types, strict=True) if kind == pa.string()]
    with replacing(path, output) as file, pq.ParquetWriter(
        file, target, compression="zstd", use_dictionary=strings, write_page_checksum=True, store_schema=True
    ) as writer:
        waiting: list[pa.Table] = []
        rows = 0
        for table in tables:
            waiting.append(conform(table, target))
            rows += len(table)
            if rows >= ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
                waiting, rows = [], 0
        if rows:
            writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
        writer.add_key_value_metadata({_SEAL_KEY: "0" * _SEAL_SIZE})
        writer.close()
        place = _seal_place(file)
        seal = _digest(file, place)
        file.seek(place)
        file.write(seal)


def _footer_of(file: BinaryIO) -> bytes:
    """The footer of a Parquet file, without the length and the magic number after it; empty if there is no footer."""
    size = file.seek(0, os.SEEK_END)
    if size < 12:
        return b""
    file.seek(-8, os.SEEK_END)
    length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    if magic != _MAGIC or not 0 < length <= size - 12:
        return b""
    file.seek(-8 - length, os.SEEK_END)
    return file.read(length)


def _seal_place(file: BinaryIO) -> int:
    """The offset of the seal in a Parquet file; -1 if there is no seal."""
    footer = _footer_of(file)
    offset = footer.rfind(_BEFORE_SEAL)
    return -1 if offset < 0 else file.seek(0, os.SEEK_END) - 8 - len(footer) + offset + len(_BEFORE_SEAL)


def _digest(file: BinaryIO, place: int) -> bytes:
    """The correct seal of a file whose seal is at `place`."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(place - file.tell(), 1 << 20)):  # another program may shorten the file meanwhile
        digest.update(block)
    digest.update(bytes(_SEAL_SIZE))
    file.seek(place + _SEAL_SIZE)
    digest.update(file.read())  # the rest of the footer
    return digest.hexdigest().encode()


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[Column], lineage: Lineage) -> None:
    """Write `rows` as a table, atomically. Raises ValueError if a row does not fit, ResourceError if writing fails."""
    table = to_table(rows, columns)
    write(path, [table], table.schema.with_metadata(metadata(lineage)))


def metadata(lineage: Lineage) -> dict[bytes, bytes]:
    """The metadata of a file: its lineage as JSON under the key `msfser`."""
    return {METADATA_KEY: json.dumps(asdict(lineage), ensure_ascii=False, sort_keys=True).encode()}


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise pyarrow's errors for a damaged file as TableError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, MemoryError) as error:
        if is_shortage(error) and (isinstance(error, OSError) or _is_whole(path)):
            raise _short(path, error) from error
        raise _damaged(path, " ".join(str(error).split())[:200]) from error


def _damaged(path: Path, reason: str) -> TableError:
    return TableError(path, f"damaged, cut short or changed by another tool ({reason})", "restore it, or make it again")


def _unsealed(path: Path, content: BinaryIO) -> TableError:
    """The error for a Parquet file without a seal. The file is not parsed, because it is not verified."""
    footer = _footer_of(content)
    if footer and _BEFORE_LINEAGE not in footer:
        return TableError(path, "msfser did not write this Parquet file: its metadata lacks the key 'msfser'",
                          "name another table")
    return _damaged(path, "its seal is missing")


def _is_whole(path: Path) -> bool:
    """Whether the seal is correct. A damaged file may ask for any amount of memory. Files in a folder were verified before."""
    if path.is_dir():
        return True
    with contextlib.suppress(OSError), path.open("rb") as content:
        place = _seal_place(content)
        if place >= 0:
            seal = _digest(content, place)
            content.seek(place)
            return content.read(_SEAL_SIZE) == seal
    return False


def _short(path: Path, error: BaseException) -> ResourceError:
    return ResourceError(f"{path}: cannot read: {getattr(error, 'strerror', None) or 'not enough memory'}")


def _unreadable(path: Path, error: OSError) -> MsfserError:
    return _short(path, error) if is_shortage(error) else TableError(path, f"cannot be read ({error.strerror})")


def files(path: Path) -> list[Path]:
    """The files of a table: `path` itself, or the Parquet files in the folder. Raises TableError if there are none."""
    try:
        path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    parquet_files = sorted(p for p in path.glob("*.parquet") if not p.name.startswith(".")) if path.is_dir() else [path]
    if not parquet_files:
        raise TableError(path, "a folder without Parquet files", "name another table")
    return parquet_files


def open_file(file: Path, columns: Iterable[Column] = (), *, verify: bool = True) -> tuple[pq.ParquetFile, Lineage]:
    """Open a file that msfser wrote and that has `columns`; also returns its lineage. By default the seal is verified first."""
    _require_regular(file)
    try:
        with file.open("rb") as content:
            if content.read(4) != _MAGIC:
                raise TableError(file, "not a Parquet file" if file.stat().st_size else "an empty file")
            place = _seal_place(content)
            if place < 0:
                raise _unsealed(file, content)
            if verify:
                seal = _digest(content, place)
                content.seek(place)
                if content.read(_SEAL_SIZE) != seal:
                    raise _damaged(file, "its content does not match its seal")
    except OSError as error:
        raise _unreadable(file, error) from error
    with _reading(file):
        parquet = pq.ParquetFile(_literal(file), page_checksum_verification=True)
        values = json.loads((parquet.schema_arrow.metadata or {})[METADATA_KEY])
        version = int(values["schema_version"])
    if version > SCHEMA_VERSION:
        newer = f"a newer msfser wrote it with schema {version}, and this one reads schemas up to {SCHEMA_VERSION}"
        raise TableError(file, newer, "upgrade msfser")
    with _reading(file):
        # Older tables lack newer fields, which get their defaults.
        lineage = Lineage(**{f.name: values[f.name] for f in fields(Lineage) if f.name in values})
    _check_columns(file, parquet.schema_arrow, lineage, columns)
    return parquet, lineage


def _literal(file: Path) -> Path:
    """The path for pyarrow, which would replace a leading ~ by the user's home."""
    return file.absolute()


def _require_regular(file: Path) -> None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would block
            raise TableError(file, "not a regular file", "name a file")
    except OSError as error:
        raise _unreadable(file, error) from error


def read_lineage(path: Path) -> Lineage:
    """The lineage of the table. For a folder, that of the newest part."""
    return open_file(files(path)[-1])[1]


def joint_seal(sealed_files: Iterable[Path]) -> str:
    """A hash of the seals of files. It is equal only if their contents are equal. Raises TableError if a seal is missing."""
    digest = hashlib.sha256()
    for file in sealed_files:
        try:
            with file.open("rb") as content:
                place = _seal_place(content)
                if place < 0:
                    raise _unsealed(file, content)
                content.seek(place)
                digest.update(content.read(_SEAL_SIZE))
        except OSError as error:
            raise _unreadable(file, error) from error
    return digest.hexdigest()


def vector_lengths(stored: pa.Schema) -> dict[str, int]:
    """Vector column -> its length, for the columns whose length is known."""
    return {f.name: f.type.list_size for f in stored if pa.types.is_fixed_size_list(f.type)}


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
        wanted = arrow_type(column.type, kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        if kind != wanted:
            raise TableError(file, f"the column {column.name!r} is {kind} and should be {column.type}", "name another table")


def slices(path: Path, columns: Sequence[Column]) -> Iterator[tuple[str, pa.Table]]:
    """Each recording with its rows as an Arrow table, in the order of the file. Holds one row group in memory at a time.

    All files are opened and checked first, so that a wrong table is refused before any work. Raises TableError also if the rows
    of a recording are not adjacent.
    """
    parquet_files = files(path)
    for file in parquet_files:
        open_file(file, columns)

    def recordings() -> Iterator[tuple[str, pa.Table]]:
        seen: set[str] = set()
        for file in parquet_files:
            parts: list[pa.Table] = []  # of a recording that may continue in the next row group
            current = None
            for recording_id, part in _runs(file, columns):
                if recording_id != current:
                    if current is not None:
                        yield current, pa.concat_tables(parts)
                    if recording_id in seen:
                        raise TableError(file, f"the rows of {recording_id!r} are not adjacent", "sort the table by recording_id")
                    seen.add(recording_id)
                    current, parts = recording_id, []
                parts.append(part)
            if current is not None:
                yield current, pa.concat_tables(parts)

    return recordings()


def _runs(file: Path, columns: Sequence[Column]) -> Iterator[tuple[str, pa.Table]]:
    """Runs of rows with the same recording_id."""
    for table in _row_groups(file, columns):
        ids = table.column("recording_id").to_pylist()
        start = 0
        for end in range(1, len(ids) + 1):
            if end == len(ids) or ids[end] != ids[start]:
                yield ids[start], table.slice(start, end - start)
                start = end


def _row_groups(file: Path, columns: Sequence[Column]) -> Iterator[pa.Table]:
    """The `columns` of a verified file, at most a row group at a time. Raises TableError if they take too much memory."""
    with _reading(file):
        stored = pq.read_schema(_literal(file))
        present = pa.schema([stored.field(c.name) for c in columns if c.name in stored.names])
        target = schema(columns, vector_lengths(present))
        required = [c.name for c in columns if not c.nullable]
        with pq.ParquetFile(_literal(file), metadata=_footer(file), page_checksum_verification=True) as parquet:
            for table in _bounded(file, parquet, present):
                if empty := [name for name in required if table.column(name).null_count]:
                    raise TableError(file, f"the column {empty[0]!r} has no value in some rows", "restore it, or make it again")
                yield conform(table, target)


def _bounded(file: Path, parquet: pq.ParquetFile, wanted: pa.Schema) -> Iterator[pa.Table]:
    """The columns `wanted`, at most a row group at a time. Raises TableError before they take too much memory (see `LARGEST`)."""
    allowed, refusal = _allowed(file)
    leaves = _leaves(parquet, wanted)
    groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
    if sum(_least_size(group, leaves) for group in groups) > allowed:
        raise refusal
    rows = taken = 0
    for number, group in enumerate(groups):
        # A dictionary holds each string once. So a single row may be as large as the whole column.
        at_once = allowed // max(1, sum(group.column(place).total_uncompressed_size for place in leaves))
        for batch in parquet.iter_batches(max(1, min(group.num_rows, at_once)), [number], wanted.names):
            table = _decoded(batch)
            rows, taken = rows + len(table), taken + table.nbytes
            if taken > allowed:
                raise refusal
            table.validate(full=True)  # text that is not UTF-8 would crash a later reader
            yield table
    if wanted.names and rows != parquet.metadata.num_rows:
        raise _damaged(file, f"its footer says {parquet.metadata.num_rows:,} rows, but it has {rows:,}")


def _allowed(file: Path) -> tuple[int, TableError]:
    """The number of bytes that a file may take in memory, and the error if it takes more."""
    size = file.stat().st_size
    allowed = max(LARGEST, GROWTH * size)
    return allowed, TableError(file, f"decompresses to more than {allowed:,} bytes from {size:,}", "make it again")


def _decoded(batch: pa.RecordBatch) -> pa.Table:
    """`batch` with dictionaries replaced by values."""
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.Table.from_arrays(columns, schema=_plain(batch.schema))


def _leaves(parquet: pq.ParquetFile, wanted: pa.Schema) -> dict[int, pa.DataType]:
    """Index in a row group -> type of the column, for all that Parquet stores of the columns `wanted`."""
    kinds = dict(zip(wanted.names, wanted.types, strict=True))
    paths = (parquet.metadata.schema.column(place).path for place in range(parquet.metadata.num_columns))
    names = (path if path in kinds else path.partition(".")[0] for path in paths)
    return {place: kinds[name] for place, name in enumerate(names) if name in kinds}


def _least_size(group: pq.RowGroupMetaData, leaves: Mapping[int, pa.DataType]) -> int:
    """The bytes that the `leaves` of a row group take in memory by the footer. Repeated strings count once."""
    size = 0
    for place, kind in leaves.items():
        chunk = group.column(place)
        if pa.types.is_fixed_size_list(kind):  # a null takes as much as a vector
            size += group.num_rows * kind.list_size * _WIDTHS[chunk.physical_type]
        elif pa.types.is_list(kind) and chunk.has_dictionary_page:  # not written by msfser; a row may repeat a string many times
            size += chunk.num_values * chunk.total_uncompressed_size
        else:
            size += max(chunk.num_values * _WIDTHS.get(chunk.physical_type, 8), chunk.total_uncompressed_size)
    return size


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
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer))


def iter_recordings(path: Path, columns: Sequence[Column]) -> Iterator[tuple[str, list[Row]]]:
    """Each recording with its rows, with `columns` only. All files are checked first, then streamed, as in `slices`."""
    return ((recording_id, _to_rows_of(path, table)) for recording_id, table in slices(path, columns))


def _to_rows_of(path: Path, table: pa.Table) -> list[Row]:
    with _reading(path):
        return to_rows(table)


def read(path: Path, columns: Sequence[Column]) -> pa.Table:
    """The whole table, verified, with `columns` only."""
    parquet_files = files(path)
    lengths: dict[str, int] = {}
    for file in parquet_files:
        lengths |= vector_lengths(open_file(file, columns)[0].schema_arrow)
    target = schema(columns, lengths)
    with _reading(path):
        tables = [conform(table, target) for file in parquet_files for table in _row_groups(file, columns)]
        return pa.concat_tables([pa.Table.from_batches([], target), *tables])  # empty_table() would load pandas


def recording_ids(path: Path) -> list[str]:
    """The recordings with rows in the table, in its order."""
    return [recording_id for recording_id, _ in slices(path, [STAGES["transcribe"][0]])]


def is_ours(path: Path) -> bool:
    """Whether msfser wrote the Parquet file `path`, or one in the folder. Raises TableError for a damaged Parquet file."""
    file = next(iter(sorted(path.glob("part-*.parquet"))), None) if path.is_dir() else path
    if file is None or file.suffix != ".parquet" or not file.is_file():
        return False
    with _reading(file):
        return METADATA_KEY in (pq.read_schema(_literal(file)).metadata or {})


def foreign_names(path: Path) -> tuple[list[str], int]:
    """The names of the columns and the number of rows of another tool's Parquet file. Raises TableError as `read_foreign`."""
    with _foreign(path) as parquet:
        rows = parquet.metadata.num_rows
        allowed, refusal = _allowed(path)
        if rows * 8 > allowed:  # numbering the rows takes 8 bytes each
            raise refusal
        return parquet.schema_arrow.names, rows


def read_foreign(path: Path, names: Collection[str] | None = None) -> pa.Table:
    """The columns `names` (default: all) of a Parquet file of another tool, if they hold text or numbers.

    Raises TableError if the file is damaged or takes too much memory. polars might abort the process instead.
    """
    with _foreign(path) as parquet:
        fields_read = [f for f in parquet.schema_arrow if _is_plain(f.type) and (names is None or f.name in names)]
        wanted = pa.schema(fields_read)
        if len(set(wanted.names)) < len(fields_read):
            raise TableError(path, "two of its columns have the same name", "rename one of them")
        return pa.concat_tables([_plain(wanted).empty_table(), *_bounded(path, parquet, wanted)])


@contextlib.contextmanager
def _foreign(path: Path) -> Iterator[pq.ParquetFile]:
    _require_regular(path)
    with _reading(path), pq.ParquetFile(_literal(path), page_checksum_verification=True) as parquet:
        yield parquet


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a manifest or label file may use the type."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        holds(kind) for holds in (
            types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_floating, types.is_boolean,
            types.is_decimal128, types.is_null, types.is_date, types.is_time, types.is_timestamp, types.is_duration,
        )
    )  # fmt: skip


def _plain(wanted: pa.Schema) -> pa.Schema:
    """`wanted` without dictionaries, and without metadata, because some metadata crashes polars."""
    kinds = (kind.value_type if pa.types.is_dictionary(kind) else kind for kind in wanted.types)
    return pa.schema([pa.field(f.name, kind, f.nullable) for f, kind in zip(wanted, kinds, strict=True)])
