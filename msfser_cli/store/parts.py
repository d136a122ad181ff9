"""The work of an output that is not published yet: a folder of parts.

A part holds the rows of recordings. Its metadata holds their ledger lines, the ids of dropped recordings, and whether the run
starts over (`--redo`). The last part that has a recording has its last version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from msfser_cli.errors import TableError
from msfser_cli.schemas import Column
from msfser_cli.store import ledger, tables
from msfser_cli.store.arrow import Row
from msfser_cli.store.atomic import discard, resources, sync_folder
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.merge import ROW_GROUP, Recordings, Run, merged
from msfser_cli.store.place import Place, place_of

_KEY = b"msfser.part"


def begun(out: str | Path) -> Lineage | None:
    """The lineage of the newest work on an output, published or not; None: msfser has not begun it."""
    if parts := sorted(place_of(out).parts.glob("*.parquet")):
        return tables.open_file(parts[-1], verify=False)[1]
    return tables.read_lineage(Path(out)) if tables.is_ours(Path(out)) else None


class Head(NamedTuple):
    """The metadata of a part."""

    lineage: Lineage
    redo: bool
    lines: list[Row]
    dropped: list[str]


class Parts:
    """The parts of an output.

    recordings: recording -> the part with its last version. dropped: the recordings to remove from the table.
    """

    def __init__(self, place: Place, columns: Sequence[Column]) -> None:
        self.recordings: dict[str, Path] = {}
        self.dropped: set[str] = set()
        self._folder = place.parts
        self._output = place.path
        self._columns = columns

    def files(self) -> list[Path]:
        """The parts, in the order in which they were written."""
        with resources(self._folder):
            return sorted(self._folder.glob("*.parquet"))

    def heads(self) -> dict[Path, Head]:
        """Part -> its metadata. Raises TableError for a damaged part."""
        return {part: _head(part) for part in self.files()}

    def take_stock(self, heads: Mapping[Path, Head], published: pa.Table) -> None:
        """Find out which recordings are not published. published: the ledger."""
        before = {}
        if heads:  # pa.array would load pandas, which takes longer than a run that finds nothing new
            ids = pa.array([line["recording_id"] for head in heads.values() for line in head.lines], pa.string())
            same = published.filter(pc.is_in(published["recording_id"], ids)).to_pylist()
            before = {line["recording_id"]: line for line in same}
        for part, head in heads.items():
            self.drop(head.dropped)
            for line in head.lines:
                self.dropped.discard(line["recording_id"])
                # If the line is published, the last run was killed before it removed its parts.
                if before.get(line["recording_id"]) == line:
                    self.recordings.pop(line["recording_id"], None)
                else:
                    self.recordings[line["recording_id"]] = part
        self.dropped.intersection_update(published["recording_id"].to_pylist())

    def drop(self, recording_ids: Iterable[str]) -> None:
        """Forget recordings, and remove them from the table."""
        for recording_id in recording_ids:
            self.recordings.pop(recording_id, None)
            self.dropped.add(recording_id)

    def write(self, recordings: Mapping[str, tuple[Row, pa.Table]], dropped: Iterable[str], target: pa.Schema, *,
              redo: bool) -> None:
        """Write a durable part. recordings: recording -> its ledger line and rows. target: the schema, with a lineage."""
        with resources(self._folder):
            self._folder.mkdir(exist_ok=True)
            sync_folder(self._folder.parent)
        last = max((int(part.stem) for part in self.files()), default=0)
        part = self._folder / f"{last + 1:08d}.parquet"
        in_order = [recordings[recording_id] for recording_id in sorted(recordings)]
        dropped = sorted(dropped)
        content = {"redo": redo, "lines": [line for line, _ in in_order], "dropped": dropped}
        head = {_KEY: json.dumps(content, ensure_ascii=False).encode()}
        tables.write(part, (rows for _, rows in in_order), target.with_metadata(target.metadata | head), output=self._output,
                     row_group=ROW_GROUP)
        self.drop(dropped)
        self.dropped.difference_update(recordings)
        self.recordings.update(dict.fromkeys(recordings, part))

    def lines(self) -> list[pa.Table]:
        """The ledger lines of the recordings. Raises TableError if a part is missing."""
        lines = [
            ledger.from_lines([line for line in _head(part).lines if self.recordings.get(line["recording_id"]) == part])
            for part in self.files()
        ]
        if sum(map(len, lines)) != len(self.recordings):
            raise TableError(self._folder, "another program removed unpublished work", "run the same command again")
        return lines

    def rows(self, fresh: Mapping[str, Path], target: pa.Schema) -> Recordings:
        """The rows of each recording of `fresh` from its part, sorted by recording_id. target: as in `merged`."""
        ranges: dict[Path, tuple[str, str]] = {}
        for recording_id in sorted(fresh):
            first, _ = ranges.setdefault(fresh[recording_id], (recording_id, recording_id))
            ranges[fresh[recording_id]] = first, recording_id
        runs = (Run(first, last, partial(self._rows_in, part, fresh)) for part, (first, last) in ranges.items())
        return merged(runs, self._columns, target, self._output)

    def clear(self) -> None:
        """Remove the parts, because they are published or of other work."""
        discard(self._folder, self._output)
        self.recordings.clear()
        self.dropped.clear()

    def _rows_in(self, part: Path, fresh: Mapping[str, Path]) -> Recordings:
        return (item for item in tables.slices(part, self._columns) if fresh.get(item[0]) == part)


def _head(part: Path) -> Head:
    try:
        parquet, lineage = tables.open_file(part)
        content = json.loads(parquet.schema_arrow.metadata[_KEY])
        return Head(lineage, content["redo"], content["lines"], content["dropped"])
    except (TableError, ValueError, KeyError) as error:
        raise TableError(part, "unpublished work that cannot be read", "remove it; its recordings will be done again") from error
