"""A database of audformat: a table of segments with a column for each value, and the schemes of the columns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from msfser_cli import __version__
from msfser_cli.errors import UsageError
from msfser_cli.exports.format import PerTable
from msfser_cli.exports.recordings import Table
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store import tables

try:
    import audformat
except ImportError:
    why = "--to audformat needs Python 3.11 or later and the package audformat: pip install 'msfser[audformat]'"
    raise UsageError(why) from None

_TEXTS = ("speaker", "language", "text", "emphasized_text", "description")
_SCORES = tuple(f"{dimension}{end}" for dimension in DIMENSIONS for end in ("", "_low", "_high"))
_TABLE = "utterances"


def _files(table: Table, say: Callable[[str], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    database = _database(table, say)
    with tempfile.TemporaryDirectory() as folder:
        database.save(folder, storage_format="parquet")
        for path in sorted(Path(folder).iterdir()):
            yield f"audformat/{path.name}", iter([path.read_bytes()])


def _database(table: Table, say: Callable[[str], None]) -> audformat.Database:
    columns = {column.name: column for column in table.columns if column.name in (*_TEXTS, *_SCORES)}
    places = [column for column in table.columns if column.name in ("recording_id", "start", "end")]
    frame = tables.read(table.path, [*places, *columns.values()]).to_pandas()
    index = audformat.segmented_index(*(frame[name].tolist() for name in ("recording_id", "start", "end")))
    twice = index.duplicated()
    if twice.any():
        say(f"{twice.sum()} utterances have the times of another of their recording and are not in the audformat database")
        index, frame = index[~twice], frame[~twice]
    database = audformat.Database(
        table.path.stem, usage=audformat.define.Usage.OTHER, description=f"Made by msfser {__version__}; files are relative to "
        f"{table.root if table.root is not None else 'the folder of the corpus'}.",
    )  # fmt: skip
    database[_TABLE] = audformat.Table(index, description="a row for each utterance")
    low, high = table.lineage.extra.get("scale", (None, None))
    for name, column in columns.items():
        is_within = name in DIMENSIONS and low is not None and frame[name].dropna().between(low, high).all()
        limits = {"minimum": low, "maximum": high} if is_within else {}  # an interval may reach beyond the scale
        database.schemes[name] = audformat.Scheme("str" if name in _TEXTS else "float", **limits, description=column.meaning)
        database[_TABLE][name] = audformat.Column(scheme_id=name)
        database[_TABLE][name].set(frame[name].to_numpy())
    return database


FORMATS = {"audformat": PerTable((), _files)}
