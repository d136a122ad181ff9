"""Writes the table of an output: one file, or a folder of files `part-<n>.parquet` of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from msfser_cli.store import tables
from msfser_cli.store.arrow import size
from msfser_cli.store.atomic import replacing_folder
from msfser_cli.store.merge import Recordings
from msfser_cli.store.place import Place

FILE_BYTES = 256 << 20
"""The most bytes of values in a file of a folder, unless one recording has more. A file is smaller, because it is compressed."""


def write_whole(place: Place, recordings: Recordings, target: pa.Schema) -> None:
    """Write the whole table. It replaces the old one at once. recordings: sorted by id. target: the schema, with a lineage."""
    if not place.is_folder:
        tables.write(place.path, (rows for _, rows in recordings), target, output=place.path)
        return
    with replacing_folder(place.path) as folder:
        if not _write_files(folder, 0, recordings, target, place):
            tables.write(_file(folder, 0), [], target, output=place.path)


def add_files(place: Place, last: Path, recordings: Recordings, target: pa.Schema) -> None:
    """Write new files into the folder, after the file `last`. recordings, target: as in `write_whole`."""
    _write_files(place.path, int(last.stem.removeprefix("part-")) + 1, recordings, target, place)


def _write_files(folder: Path, number: int, recordings: Recordings, target: pa.Schema, place: Place) -> int:
    """Write files with the numbers from `number`. Returns how many."""
    count = 0
    for tables_of_file in _cut(recordings):
        tables.write(_file(folder, number + count), tables_of_file, target, output=place.path)
        count += 1
    return count


def _file(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def _cut(recordings: Recordings) -> Iterator[Iterator[pa.Table]]:
    """The rows of whole recordings, file by file."""
    number = taken = 0

    def file_of(item: tuple[str, pa.Table]) -> int:
        nonlocal number, taken
        needed = size(item[1])
        if taken and taken + needed > FILE_BYTES:
            number, taken = number + 1, 0
        taken += needed
        return number

    for _, items in groupby(recordings, key=file_of):
        yield (rows for _, rows in items)
