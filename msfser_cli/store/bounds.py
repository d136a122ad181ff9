"""Reads Parquet within bounds: a file of some kilobytes can claim to hold a hundred million rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli.errors import TableError
from msfser_cli.store.arrow import without_dictionaries
from msfser_cli.store.reading import damaged

LARGEST = 1 << 26
GROWTH = 100
"""A file is refused if its content takes more than `LARGEST` bytes in memory and more than `GROWTH` times its size."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}


def bounded(
    file: Path, parquet: pq.ParquetFile, wanted: pa.Schema, numbers: Collection[int] | None = None
) -> Iterator[pa.Table]:
    """The columns `wanted`, at most a row group at a time. Raises TableError before they take too much memory (see `LARGEST`).

    numbers: the row groups to read; None: all.
    """
    allowed, refusal = allowed_bytes(file)
    leaves = _leaves(parquet, wanted)
    chosen = range(parquet.num_row_groups) if numbers is None else numbers
    groups = {number: parquet.metadata.row_group(number) for number in chosen}
    if sum(_least_size(group, leaves) for group in groups.values()) > allowed:
        raise refusal
    rows = taken = 0
    for number, group in groups.items():
        # A dictionary holds each string once. So a single row may be as large as the whole column.
        at_once = allowed // max(1, sum(group.column(place).total_uncompressed_size for place in leaves))
        for batch in parquet.iter_batches(max(1, min(group.num_rows, at_once)), [number], wanted.names):
            table = _decoded(batch)
            rows, taken = rows + len(table), taken + table.nbytes
            if taken > allowed:
                raise refusal
            table.validate(full=True)  # text that is not UTF-8 would crash a later reader
            yield table
    claimed = parquet.metadata.num_rows if numbers is None else sum(group.num_rows for group in groups.values())
    if wanted.names and rows != claimed:
        raise damaged(file, f"its footer says {claimed:,} rows, but it has {rows:,}")


def allowed_bytes(file: Path) -> tuple[int, TableError]:
    """The number of bytes that a file may take in memory, and the error if it takes more."""
    size = file.stat().st_size
    allowed = max(LARGEST, GROWTH * size)
    return allowed, TableError(file, f"decompresses to more than {allowed:,} bytes from {size:,}", "make it again")


def _decoded(batch: pa.RecordBatch) -> pa.Table:
    """`batch` with dictionaries replaced by values."""
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.Table.from_arrays(columns, schema=without_dictionaries(batch.schema))


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
