"""The output of a run: a table, a ledger, and unpublished work in parts. A kill at any moment leaves all of it intact.

`--out x.parquet` is one file, sorted by recording_id. `--out x/` is a folder of files `part-<n>.parquet` of a bounded size, each
sorted. New recordings go into new files, and only files with changed recordings are written again. Beside the table lie

- `x.recordings.parquet`  the ledger, one line per recording
- `.x.parquet.parts/`     work that is not published yet (`store.parts`)
- `.x.parquet.lock`       exists while a run writes (`store.lock`). `x/` has the same lock, because the ledger is the same
- `.x.parquet.seen`       the hashes of files that need not be read again (`store.seen`). Without it no work is lost

Each file is written atomically and only refers to durable files. The order is: parts, table, ledger, then the parts are removed.
A folder that starts over (`--redo`) is written beside the old one, and takes its place as a whole when all its files are durable.
After a crash between two steps, the next run repeats the rest: a recording in a part replaces its rows and ledger line in the
table, and a recording that a part drops loses them. Repeating this has no further effect.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from msfser_cli.errors import TableError, UsageError
from msfser_cli.schemas import RECORDINGS, Column, LedgerLine, names
from msfser_cli.store import tables
from msfser_cli.store.arrow import Row, schema, to_table, vector_lengths
from msfser_cli.store.atomic import resources, sweep
from msfser_cli.store.layout import add_files, write_whole
from msfser_cli.store.ledger import counts, fits, from_lines, is_unfinished, utterances, write_ledger
from msfser_cli.store.lineage import Lineage, differences, metadata
from msfser_cli.store.lock import held
from msfser_cli.store.merge import Recordings
from msfser_cli.store.parts import Parts
from msfser_cli.store.place import place_of
from msfser_cli.store.shard import Shard, in_words

PART_RECORDINGS = 256
PART_ROWS = 4096
PART_SECONDS = 30.0
"""A part is written when it has this many recordings or rows, or at the first recording after this many seconds."""


class Output:
    """The output of one run. Use `Output.open` to make it."""

    def __init__(
        self, out: str | Path, columns: Sequence[Column], lineage: Lineage, *, redo: bool, retry_failed: bool, moved: bool,
        whole: bool,
    ) -> None:
        self._place = place_of(out)
        self.path, self.ledger = self._place.path, self._place.ledger
        self._parts = Parts(self._place, columns)
        self._columns = tuple(columns)
        self._lineage = lineage
        self._redo = redo
        self._retry_failed = retry_failed
        self._moved = moved
        self._whole = whole
        self._states: dict[str, tuple[str, str]] = {}  # recording -> its input_key and status
        self._waiting: dict[str, tuple[Row, pa.Table]] = {}  # recordings not yet in a part: ledger line and rows
        self._leaving: set[str] = set()  # recordings to drop, not yet in a part
        self._lengths: dict[str, int] = {}  # lengths of the vector columns that are known so far
        self._is_unfinished = False  # whether the ledger says that its run was stopped early
        self._has_old_parts = False  # whether parts of other work exist; they are removed before new parts are written
        self._last_commit = time.monotonic()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        out: str | Path,
        columns: Sequence[Column],
        lineage: Lineage,
        *,
        redo: bool = False,
        retry_failed: bool = False,
        moved: bool = False,
        whole: bool = False,
        wait: float = 0.0,
    ) -> Iterator[Output]:
        """Lock `out` for the block. `out` is a file, or a folder if it ends in "/" or is one. Added work is durable afterwards.

        redo: start over. Published work does not count as done, and publishing replaces it. If such a run is interrupted, the
        same command continues it. retry_failed: failed recordings do not count as done. moved: the corpus root may differ from
        the one in the output. whole: only `replace` follows, which also mends a table that does not belong to its ledger, because
        it was killed between the two. wait: seconds to wait for another run on `out`.

        Raises OutputHeldError if another run has the lock; UsageError if msfser did not write the output, or, without `redo`, if
        it has other settings or another corpus; TableError if unpublished work is damaged; ResourceError if writing fails.
        """
        output = cls(out, columns, lineage, redo=redo, retry_failed=retry_failed, moved=moved, whole=whole)
        with resources(output.path):
            try:
                output.path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise UsageError(f"{output.path}: {output.path.parent} is not a folder; choose another --out") from error
        with held(output._place.locked, wait=wait):
            sweep(output.path)
            output._take_stock()
            try:
                yield output
            finally:
                output.commit()

    @property
    def replaces_a_table(self) -> bool:
        """Whether publishing replaces the whole table (`redo`)."""
        return self._redo and bool(self._place.files())

    def input_key(self, recording_id: str) -> str | None:
        """The input key of a recording in the output; None if the output does not have it."""
        return self._states.get(recording_id, (None, None))[0]

    def done_key(self, recording_id: str) -> str | None:
        """The input key for which the recording counts as done; None: for no input."""
        key, status = self._states.get(recording_id, (None, None))
        return None if self._retry_failed and status == "failed" else key

    def add(self, line: LedgerLine, rows: Sequence[Row] = ()) -> None:
        """Add a recording's ledger line and its rows, in order.

        They replace those of an earlier run. May commit a part. Raises ValueError, and adds nothing, if the line or a row does
        not fit its columns, or a vector has another length than before.
        """
        full = asdict(line)
        if line.detail:  # it may quote a file name that is not UTF-8
            full["detail"] = line.detail.encode("utf-8", "backslashreplace").decode()
        (full,) = to_table([full], RECORDINGS).to_pylist()
        recording_id = full["recording_id"]
        if full["utterances"] != len(rows) or any(row.get("recording_id") != recording_id for row in rows):
            raise ValueError(f"{recording_id}: its ledger line says {full['utterances']} utterances, which does not fit its rows")
        table = to_table(rows, self._columns)
        lengths = vector_lengths(table.schema)
        if problem := self._misfit(lengths):
            raise ValueError(problem)
        self._lengths |= lengths
        self._waiting[recording_id] = full, table
        self._states[recording_id] = full["input_key"], full["status"]
        waiting_rows = sum(len(table) for _, table in self._waiting.values())
        is_due = time.monotonic() - self._last_commit >= PART_SECONDS
        if is_due or len(self._waiting) >= PART_RECORDINGS or waiting_rows >= PART_ROWS:
            self.commit()

    @property
    def recordings(self) -> frozenset[str]:
        """The recordings in the output, published or not."""
        return frozenset(self._states)

    def drop(self, recording_ids: Iterable[str]) -> None:
        """Drop recordings. Publishing removes their rows and ledger lines."""
        for recording_id in recording_ids:
            self._waiting.pop(recording_id, None)
            if self._states.pop(recording_id, None):
                self._leaving.add(recording_id)

    def commit(self) -> None:
        """Write the added and dropped recordings as a durable part."""
        self._last_commit = time.monotonic()
        if not self._waiting and not self._leaving:
            return
        self._remove_old_parts()
        self._parts.write(self._waiting, self._leaving, self._target(), redo=self._redo)
        self._waiting.clear()
        self._leaving.clear()

    def publish(self, *, unfinished: bool = False) -> dict[str, int]:
        """Merge all work into the table and the ledger. Without new work, neither file is written.

        unfinished: the run stops early, and the ledger says so until a run ends. Returns the counts over the ledger, as
        `ledger.counts`.
        """
        self.commit()
        self._remove_old_parts()
        old = [] if self._redo else self._place.files()
        has_work = self._parts.recordings or self._parts.dropped
        if has_work or not old or not self.ledger.exists() or unfinished != self._is_unfinished:
            lines = self._parts.lines()
            if old and self._place.is_folder:
                self._update_folder(old)
            else:
                write_whole(self._place, self._merged(old, self._parts.recordings), self._target())
            if old and self.ledger.exists():
                lines.append(self._unchanged_lines())
            write_ledger(self._place, lines, self._lineage, unfinished=unfinished)
        self._parts.clear()
        self._redo, self._is_unfinished = False, unfinished
        return counts(tables.read(self.ledger, RECORDINGS))

    def replace(self, recordings: Recordings, target: pa.Schema, lines: pa.Table) -> dict[str, int]:
        """Publish these recordings in place of all others. Returns the counts over the ledger, as `publish`.

        recordings: sorted by id. target: their schema, with the lineage. lines: the ledger.
        Raises UsageError if there is unpublished work.
        """
        if self._parts.files():
            raise UsageError(f"{self.path}: has work that is not published; run its command again, or choose another --out")
        write_whole(self._place, recordings, target)
        write_ledger(self._place, [lines], self._lineage)
        return counts(lines)

    # Reading the existing output

    def _take_stock(self) -> None:
        """Find the finished recordings in the table and the parts. Raises UsageError for files of other work or other tools."""
        published_files = self._place.files()
        rows = sum(self._inspect(file, self._lineage.stage, self._columns) for file in published_files)
        if self.ledger.exists():
            self._inspect(self.ledger, "recordings", RECORDINGS)
            self._is_unfinished = is_unfinished(self.ledger)
        parts = self._parts.heads()
        if self._redo:
            if not all(head.redo and self._is_of_this_work(head.lineage) for head in parts.values()):
                self._has_old_parts, parts = True, {}
            published_files = []
        for part in parts:
            self._inspect(part, self._lineage.stage, self._columns)
        ledger = from_lines([])
        if published_files and self.ledger.exists():
            ledger = tables.read(self.ledger, RECORDINGS)
        keys = zip(*(ledger[name].to_pylist() for name in ("recording_id", "input_key", "status")), strict=True)
        self._states = {recording_id: (key, status) for recording_id, key, status in keys}
        if published_files and not parts and not self._whole:
            in_ledger = utterances(ledger)
            if rows != in_ledger or not fits(self.ledger, published_files):
                raise UsageError(f"{self.path}: has {rows} rows and its ledger {self.ledger.name} {in_ledger}: they do not "
                                 "belong together; restore both, or start over with --redo")
        for head in parts.values():
            for recording_id in head.dropped:
                self._states.pop(recording_id, None)
            self._states |= {line["recording_id"]: (line["input_key"], line["status"]) for line in head.lines}
        self._parts.take_stock(parts, ledger)

    def _inspect(self, file: Path, stage: str, columns: Sequence[Column]) -> int:
        """The number of rows in a file. Raises UsageError if it is not a table of `stage` or, without redo, of other work."""
        try:
            parquet, lineage = tables.open_file(file, verify=False)  # reading its rows verifies them
        except TableError as error:
            raise UsageError(f"{error}. It blocks this output: move it, or choose another --out") from error
        if lineage.stage != stage:
            raise UsageError(f"{file}: is a table of `{lineage.stage}`, not of `{stage}`; choose another --out")
        if lineage.extra.get("folder", self._place.is_folder) != self._place.is_folder:
            raise UsageError(f"{file}: is the ledger of {'a file' if self._place.is_folder else 'a folder'} of the same name; "
                             "choose another --out")
        if not self._redo or file.parent == self._place.parts:
            stored = parquet.schema_arrow
            if differing := differences(lineage, self._lineage, stored.names, names(columns)):
                raise UsageError(f"{file}: made with other settings:", *(f"  {line}" for line in differing),
                                 "start over with --redo, or choose another --out")
            if not self._moved and lineage.corpus_root != self._lineage.corpus_root:
                raise UsageError(f"{file}: made from {lineage.corpus_root}, not from {self._lineage.corpus_root}; choose another "
                                 "--out, start over with --redo, or name the new place of the same corpus with --root")
            part, ours = Shard.of_extra(lineage.extra), Shard.of_extra(self._lineage.extra)
            if part != ours:
                raise UsageError(f"{file}: holds {in_words(part)}, and this run is for {in_words(ours)}; choose another --out")
            self._remember_lengths(vector_lengths(stored))
        return int(parquet.metadata.num_rows)

    def _is_of_this_work(self, lineage: Lineage) -> bool:
        same_shard = Shard.of_extra(lineage.extra) == Shard.of_extra(self._lineage.extra)
        return same_shard and lineage.fingerprint == self._lineage.fingerprint

    def _remember_lengths(self, lengths: Mapping[str, int]) -> None:
        if problem := self._misfit(lengths):
            raise TableError(self.path, problem, "another model made them: start over with --redo, or choose another --out")
        self._lengths |= lengths

    def _misfit(self, lengths: Mapping[str, int]) -> str | None:
        """The problem if vectors of these lengths do not fit the output, else None."""
        for name, length in lengths.items():
            if self._lengths.get(name, length) != length:
                return f"the column {name!r} holds vectors of {self._lengths[name]} numbers, not {length}"
        return None

    # Writing

    def _remove_old_parts(self) -> None:
        if self._has_old_parts:
            self._parts.clear()
            self._has_old_parts = False

    def _update_folder(self, old: Sequence[Path]) -> None:
        """Replace recordings in the published file that has them. Write the other recordings into new files."""
        fresh = dict(self._parts.recordings)
        for file in old:
            inside = tables.recording_ids(file)
            replaced = {rid: part for rid in inside if (part := fresh.pop(rid, None))}
            lengths = vector_lengths(tables.open_file(file, verify=False)[0].schema_arrow)
            if replaced or self._parts.dropped.intersection(inside) or lengths != self._lengths:
                tables.write(file, (rows for _, rows in self._merged([file], replaced)), self._target(), output=self.path)
        add_files(self._place, old[-1], self._merged([], fresh), self._target())

    def _merged(self, old: Sequence[Path], fresh: Mapping[str, Path]) -> Recordings:
        """The `fresh` recordings and the other published ones, sorted by recording_id."""
        gone = fresh.keys() | self._parts.dropped
        kept = (item for file in old for item in tables.slices(file, self._columns) if item[0] not in gone)
        return heapq.merge(kept, self._parts.rows(fresh, self._target()), key=itemgetter(0))

    def _target(self) -> pa.Schema:
        return schema(self._columns, self._lengths, metadata(self._lineage))

    def _unchanged_lines(self) -> pa.Table:
        """The published ledger lines of the recordings that are not in parts."""
        before = tables.read(self.ledger, RECORDINGS)
        changed = pc.is_in(before["recording_id"], pa.array([*self._parts.recordings, *self._parts.dropped], pa.string()))
        return before.filter(pc.invert(changed))
