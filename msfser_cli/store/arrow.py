"""Rows as Arrow tables, and back. The types are those of `schemas.Column`.

A row is a dict of column name -> Python value. A vector is a float32 array or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msfser_cli.schemas import Column

Row = dict[str, Any]

_SCALARS = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


@lru_cache(maxsize=256)
def type_of(text: str, length: int | None = None) -> pa.DataType:
    """The Arrow type of a `schemas.Column.type`. length: that of a vector; without it the list has no fixed size."""
    if text == "vector":
        return pa.list_(pa.float32(), -1 if length is None else length)
    if text in _SCALARS:
        return _SCALARS[text]
    outer, _, inner = text.partition("<")
    inner = inner.removesuffix(">")
    if outer == "list":
        return pa.list_(type_of(inner))
    if outer == "struct":
        members = (member.partition(":") for member in _split(inner))
        return pa.struct([(name.strip(), type_of(kind.strip())) for name, _, kind in members])
    raise ValueError(f"not a column type: {text!r}")


def empty(target: pa.Schema) -> pa.Table:
    """A table without rows. pyarrow's own way loads pandas, which takes longer than a run that finds nothing new."""
    return pa.Table.from_batches([], target)


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
    return pa.schema([pa.field(c.name, type_of(c.type, lengths.get(c.name)), c.nullable) for c in columns], metadata)


def to_table(rows: Sequence[Row], columns: Sequence[Column]) -> pa.Table:
    """The Arrow table of `rows`. Other keys are ignored. Raises ValueError, with the column, for a value that does not fit."""
    arrays = {}
    for column in columns:
        try:
            values = [row[column.name] for row in rows]
            array = _vectors(values) if column.type == "vector" else pa.array(values, type_of(column.type))
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


def runs(column: pa.ChunkedArray) -> list[tuple[Any, int, int]]:
    """The runs of equal values: each value, the number of its first row, and that of the row after its last."""
    encoded = pc.run_end_encode(column.combine_chunks())
    ends = encoded.run_ends.to_pylist()
    return list(zip(encoded.values.to_pylist(), [0, *ends[:-1]], ends, strict=True)) if ends else []


def flat(column: pa.ChunkedArray) -> tuple[np.ndarray, dict[str, pa.Array]]:
    """A column of n lists as n+1 ends, of which each list begins at one and ends at the next, and the values of all lists.

    Values have the name of their member of a struct, or "" if the lists hold no structs. A null is an empty list. `to_rows` takes
    many times as long, for an object for each list and each struct.
    """
    lists = column.combine_chunks()
    values = lists.flatten()
    lengths = np.diff(numbers(lists.offsets)).astype(int) * truths(lists.is_valid())
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return ends, dict(zip(values.type.names, values.flatten(), strict=True)) if pa.types.is_struct(values.type) else {"": values}


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The values as float64, NaN for null. pyarrow's own ways to do this load pandas, which takes half a second."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = np.full(len(array), np.nan)
    values[np.from_dlpack(array.is_valid().cast(pa.uint8())) == 1] = np.from_dlpack(array.drop_null())
    return values


def truths(array: pa.BooleanArray) -> np.ndarray:
    """The values as bool, False for null."""
    return np.asarray(numbers(array.cast(pa.uint8())) == 1)


def _vectors(values: Sequence[np.ndarray | None]) -> pa.Array:
    shapes = {np.shape(v) for v in values if v is not None}
    if not shapes:
        return pa.nulls(len(values), type_of("vector"))
    if len(shapes) > 1 or len(shape := shapes.pop()) != 1:
        raise ValueError("vectors must have one dimension and the same length")
    flat = np.zeros((len(values), *shape), np.float32)
    for place, value in zip(flat, values, strict=True):
        if value is not None:
            place[:] = value
    mask = pa.array([v is None for v in values])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=type_of("vector", shape[0]), mask=mask)


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


def size(table: pa.Table) -> int:
    """The bytes of the values. Equal rows have equal sizes, however they are cut into chunks."""
    return sum(_size(chunk) for column in table.columns for chunk in column.chunks)


def _size(array: pa.Array) -> int:
    kind = array.type
    if pa.types.is_struct(kind):
        return sum(map(_size, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return 4 * len(array) + _size(array.flatten())
    if pa.types.is_string(kind):
        return 4 * len(array) + (pc.sum(pc.binary_length(array)).as_py() or 0)
    return len(array) * max(1, int(kind.bit_width) // 8)


def vector_lengths(stored: pa.Schema) -> dict[str, int]:
    """Vector column -> its length, for the columns whose length is known."""
    return {f.name: f.type.list_size for f in stored if pa.types.is_fixed_size_list(f.type)}


def without_dictionaries(wanted: pa.Schema) -> pa.Schema:
    """`wanted` without dictionaries, and without metadata, because some metadata crashes polars."""
    kinds = (kind.value_type if pa.types.is_dictionary(kind) else kind for kind in wanted.types)
    return pa.schema([pa.field(f.name, kind, f.nullable) for f, kind in zip(wanted, kinds, strict=True)])
