"""Parquet files of other tools: manifests and labels."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from msfser_cli.errors import TableError
from msfser_cli.store.arrow import without_dictionaries
from msfser_cli.store.bounds import allowed_bytes, bounded
from msfser_cli.store.reading import literal, reading, require_regular


def names(path: Path) -> tuple[list[str], int]:
    """The names of the columns and the number of rows. Raises TableError as `read`."""
    with _opened(path) as parquet:
        rows = parquet.metadata.num_rows
        allowed, refusal = allowed_bytes(path)
        if rows * 8 > allowed:  # numbering the rows takes 8 bytes each
            raise refusal
        return parquet.schema_arrow.names, rows


def read(path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """The `columns` (default: all) that hold text or numbers.

    Raises TableError if the file is damaged or takes too much memory. polars might abort the process instead.
    """
    with _opened(path) as parquet:
        fields = [f for f in parquet.schema_arrow if _is_plain(f.type) and (columns is None or f.name in columns)]
        wanted = pa.schema(fields)
        if len(set(wanted.names)) < len(fields):
            raise TableError(path, "two of its columns have the same name", "rename one of them")
        return pa.concat_tables([without_dictionaries(wanted).empty_table(), *bounded(path, parquet, wanted)])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    require_regular(path)
    with reading(path), pq.ParquetFile(literal(path), page_checksum_verification=True) as parquet:
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
