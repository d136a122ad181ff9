"""Joins the outputs of all shards of a corpus into one output: the table of a run over the whole corpus, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from msfser_cli import schemas
from msfser_cli.errors import TableError, UsageError
from msfser_cli.schemas import RECORDINGS, Column, names
from msfser_cli.store import tables
from msfser_cli.store.arrow import schema, vector_lengths
from msfser_cli.store.ledger import fits, is_unfinished
from msfser_cli.store.lineage import Lineage, differences, metadata
from msfser_cli.store.merge import Recordings, Run, merged
from msfser_cli.store.output import Output
from msfser_cli.store.place import Place, place_of
from msfser_cli.store.shard import Shard


@dataclass(frozen=True)
class _Part:
    """The output of a shard. lineage: that of its newest file. lengths: vector column -> its length, if known."""

    place: Place
    shard: Shard
    files: tuple[Path, ...]
    lineage: Lineage
    columns: tuple[Column, ...]
    lengths: dict[str, int]


def join(outs: Sequence[str], out: str, *, prune: bool = False, wait: float = 0.0) -> dict[str, int]:
    """Write the output `out` from `outs`, the outputs of all shards of a corpus, in any order. Memory holds the ledgers only.

    prune: remove recordings from `out` that no shard has. wait: seconds to wait for another run on `out`. Returns the counts
    over the ledger, as `ledger.counts`.

    Raises UsageError if the shards are not all shards of one corpus with the same settings, or `out` is other work or has
    recordings that no shard has; TableError if a shard is damaged, unfinished, or changes meanwhile; OutputHeldError and
    ResourceError as `Output.open`.
    """
    parts = [_part(text) for text in outs]
    _require_all(parts)
    first = min(parts, key=lambda part: part.shard.number)
    for part in parts:
        _require_same_work(first, part)
    lines = pa.concat_tables([_lines(part) for part in parts])
    lengths: dict[str, int] = {}
    for part in parts:
        for name, length in part.lengths.items():
            if lengths.setdefault(name, length) != length:
                raise TableError(part.place.path, f"the column {name!r} holds vectors of {length} numbers, not {lengths[name]}",
                                 "another model made them: start the shard over with --redo")
    extra = {name: value for name, value in first.lineage.extra.items() if name != "shard"}
    lineage = replace(first.lineage, extra=extra)
    target = schema(first.columns, lengths, metadata(lineage))
    with Output.open(out, first.columns, lineage, whole=True, wait=wait) as output:
        unknown = sorted(output.recordings.difference(lines["recording_id"].to_pylist()))
        if unknown and not prune:
            raise UsageError(f"{out}: has {len(unknown)} recordings that no shard has, such as {unknown[0]}; remove them with "
                             "--prune, or choose another --out")
        return output.replace(_unchanged(_merged(parts, target, output.path), parts), target, lines)


def _part(out: str) -> _Part:
    if not Path(out).exists():
        raise TableError(out, "no such file or folder", "run its shard first")
    place = place_of(out)
    if place.parts.exists():
        raise TableError(out, "has work that is not published", "run its shard again until it ends")
    files = tuple(place.files())
    if not files:
        raise TableError(out, "an empty folder", "run its shard first")
    parquet, lineage = tables.open_file(files[-1], verify=False)  # reading the rows verifies them
    if lineage.stage not in schemas.STAGE_NAMES:
        raise TableError(out, f"a table of {lineage.stage}", f"name a table of {' or '.join(schemas.STAGE_NAMES)}")
    shard = Shard.of_extra(lineage.extra)
    if shard is None:
        raise UsageError(f"{out}: not the output of a run with --shard; name the outputs of all shards")
    stored = parquet.schema_arrow.names
    columns = tuple(column for column in schemas.columns_through(lineage.stage) if column.name in stored)
    lengths: dict[str, int] = {}
    for file in files:
        lengths |= vector_lengths(tables.open_file(file, columns, verify=False)[0].schema_arrow)
    return _Part(place, shard, files, lineage, columns, lengths)


def _require_all(parts: Sequence[_Part]) -> None:
    """Raise UsageError unless each of the N shards of a corpus is there, once."""
    by_number: dict[int, _Part] = {}
    for part in parts:
        if part.shard.of != parts[0].shard.of:
            raise UsageError(f"{parts[0].place.path} holds shard {parts[0].shard}, and {part.place.path} shard {part.shard}; "
                             "name outputs of the same number of shards")
        if other := by_number.get(part.shard.number):
            raise UsageError(f"{other.place.path} and {part.place.path}: both hold shard {part.shard}; leave out one of them")
        by_number[part.shard.number] = part
    of = parts[0].shard.of
    if absent := [f"{number}/{of}" for number in range(of) if number not in by_number]:
        raise UsageError(f"shard{'s' if len(absent) > 1 else ''} {', '.join(absent)} missing; run and name the outputs of all "
                         f"{of} shards")


def _require_same_work(first: _Part, part: _Part) -> None:
    path = part.place.path
    if part.lineage.stage != first.lineage.stage:
        raise UsageError(f"{path}: is a table of `{part.lineage.stage}`, and {first.place.path} one of `{first.lineage.stage}`; "
                         "name tables of the same command")
    if differing := differences(first.lineage, part.lineage, names(first.columns), names(part.columns)):
        raise UsageError(f"{path}: made with other settings than {first.place.path}:", *(f"  {line}" for line in differing),
                         "run its shard again with the same settings and --redo")
    if part.lineage.corpus_root != first.lineage.corpus_root:
        raise UsageError(f"{path}: made from {part.lineage.corpus_root}, and {first.place.path} from "
                         f"{first.lineage.corpus_root}; run all shards on the same folder")


def _lines(part: _Part) -> pa.Table:
    """The ledger of a shard. Raises TableError if it is not the ledger of the shard's table."""
    ledger = part.place.ledger
    if not ledger.exists():
        raise TableError(part.place.path, f"its ledger {ledger.name} is missing", "restore it; always keep the two together")
    if not fits(ledger, part.files):
        raise _changed(part)
    if is_unfinished(ledger):
        problem = "its run was stopped before it had tried all recordings"
        raise TableError(part.place.path, problem, "run its shard again until it ends")
    lines = tables.read(ledger, RECORDINGS)
    if strange := [name for name in lines["recording_id"].to_pylist() if not part.shard.has(name)]:
        raise TableError(ledger, f"has {strange[0]}, which is not of shard {part.shard}", "run its shard again with --redo")
    return lines


def _changed(part: _Part) -> TableError:
    return TableError(part.place.path, f"does not match its ledger {part.place.ledger.name}",
                      "if its shard is running, wait; if it was stopped, run it again; always keep the two together")


def _merged(parts: Iterable[_Part], target: pa.Schema, output: Path) -> Recordings:
    runs = [
        Run(*ends, partial(tables.slices, file, part.columns))
        for part in parts
        for file in part.files
        if (ends := tables.first_and_last(file))
    ]
    columns = next(iter(parts)).columns
    return merged(runs, columns, target, output)


def _unchanged(recordings: Recordings, parts: Iterable[_Part]) -> Iterator[tuple[str, pa.Table]]:
    """The recordings. Raises TableError at their end if a shard was written meanwhile."""
    yield from recordings
    for part in parts:
        if tuple(part.place.files()) != part.files or not fits(part.place.ledger, part.files):
            raise _changed(part)
