"""A run's output: work in hand in parts, a ledger of every recording, and publishing, all safe against a kill at any moment.

`--out x.parquet` is one file, sorted by recording_id; `--out x/` a folder that grows by `part-<n>.parquet`, in which only a part
whose recordings changed is written again. Beside either lie

- `x.recordings.parquet`  the ledger, one line a recording
- `.x.parquet.parts/`     work in hand, until it is published: a file a part, with its rows and, in its metadata, its ledger lines
                          and the recordings that are dropped
- `.x.parquet.lock`       while a run writes (`store.lock`), for `x/` too: the ledger is one
- `.x.parquet.seen`       which files need not be read again to know their content (`store.seen`); no work is lost without it

Each file is written atomically and refers only to what is durable: parts, then the table, then the ledger, then the parts are
removed. What a crash leaves between two of these steps is put right by the next run: a recording in a part replaces the same
recording's rows and ledger line, and one that a part drops has none, however often that is repeated.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from msfser_cli.errors import TableError, UsageError
from msfser_cli.schemas import RECORDINGS, Column, names
from msfser_cli.store import tables
from msfser_cli.store.atomic import discard, resources, sweep, sync_folder
from msfser_cli.store.lock import held
from msfser_cli.store.tables import Lineage, Row

PART_RECORDINGS = 256
PART_ROWS = 4096
PART_SECONDS = 30.0
"""A part is written when it holds so many recordings or rows, or at the first recording after so many seconds."""

_PART_KEY = b"msfser.part"
_LEDGER_SUFFIX = ".recordings.parquet"
_PUBLISHED_PART = re.compile(r"part-\d{6}\.parquet")
_LONGEST_NAME = 200  # in bytes; temporary names are longer, and 255 is the most that file systems take


def ledger_path(out: str | Path) -> Path:
    """The ledger beside an output: `x.recordings.parquet` for `x.parquet` as for `x/`."""
    path, _ = _resolve(out)
    return path.with_name(path.name.removesuffix(".parquet") + _LEDGER_SUFFIX)


def read_ledger(out: str | Path) -> dict[str, Row]:
    """The published ledger of an output by recording_id; empty when there is none. TableError when it cannot be read."""
    path = ledger_path(out)
    return {line["recording_id"]: line for line in tables.read(path, RECORDINGS).to_pylist()} if path.exists() else {}


class Output:
    """One run's hold on an output; made by `Output.open`."""

    def __init__(
        self, out: str | Path, columns: Sequence[Column], lineage: Lineage, *, redo: bool, retry_failed: bool, moved: bool
    ) -> None:
        self.path, self.is_folder = _resolve(out)
        self.ledger = ledger_path(out)
        self._parts = self.path.with_name(f".{self.path.name}.parts")
        self._columns = tuple(columns)
        self._lineage = lineage
        self._redo = redo
        self._retry_failed = retry_failed
        self._moved = moved
        self._known: dict[str, tuple[str, str]] = {}  # what is said of a recording: its input_key and status
        self._waiting: dict[str, tuple[Row, pa.Table]] = {}  # recordings that are in no part yet: ledger line and rows
        self._in_parts: dict[str, Path] = {}  # recordings that are in a part, and not published
        self._leaving: set[str] = set()  # recordings to be dropped, of which no part says so yet
        self._dropped: set[str] = set()  # recordings of which a part says so, and that are still published
        self._lengths: dict[str, int] = {}  # of the vector columns, as far as they are known
        self._abandoned = False  # the parts that are there are of no use, and go when there is something to put in their place
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
        wait: float = 0.0,
    ) -> Iterator[Output]:
        """Hold `out` (a file, or a folder if it is one or ends in "/") for the block; what was added is durable afterwards.

        `redo` starts over: nothing that is published counts as done, and it is replaced when the new work is published; if such a
        run is interrupted, the same command goes on with it. With `retry_failed`, a recording that failed is not done. `moved`
        says that the corpus may lie elsewhere than before. `wait`: how many seconds another run may take to let go of `out`.

        Raises OutputHeldError; UsageError when the output is not msfser's own, or was made with other settings or from another
        corpus and `redo` is not given; TableError when work in hand is damaged; ResourceError when the machine refuses.
        """
        output = cls(out, columns, lineage, redo=redo, retry_failed=retry_failed, moved=moved)
        with resources(output.path):
            try:
                output.path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise UsageError(f"{output.path}: {output.path.parent} is not a folder") from error
        with held(output.path.with_name(output.path.name.removesuffix(".parquet") + ".parquet"), wait=wait):
            sweep(output.path)
            output._take_stock()
            try:
                yield output
            finally:
                output.commit()

    @property
    def replaces_a_table(self) -> bool:
        """Whether publishing replaces a whole table by the work in hand (`redo`)."""
        return self._redo and bool(self._files())

    def input_key(self, recording_id: str) -> str | None:
        """From which input the recording was dealt with; None for one that the output does not know."""
        return self._known.get(recording_id, (None, None))[0]

    def done(self, recording_id: str, input_key: str) -> bool:
        """Whether the recording was dealt with, in this run or an earlier one, from the same input."""
        key, status = self._known.get(recording_id, (None, None))
        return key == input_key and not (self._retry_failed and status == "failed")

    def add(self, line: Mapping[str, Any], rows: Sequence[Row] = ()) -> None:
        """A recording's ledger line (`schemas.RECORDINGS`; what may be null may be left out) and its rows, in utterance order.

        Replaces what an earlier run said of this recording; now and then a part is committed. ValueError for a line or row that
        does not fit its columns, or a vector of another length than before; nothing is added then.
        """
        full = {name: line.get(name) for name in names(RECORDINGS)}
        if full["detail"]:  # it may quote a file name that is not Unicode
            full["detail"] = full["detail"].encode("utf-8", "backslashreplace").decode()
        (full,) = tables.to_table([full], RECORDINGS).to_pylist()
        recording_id = full["recording_id"]
        if full["utterances"] != len(rows) or any(row.get("recording_id") != recording_id for row in rows):
            raise ValueError(f"{recording_id}: its ledger line says {full['utterances']} utterances, its rows do not")
        table = tables.to_table(rows, self._columns)
        lengths = tables.vector_lengths(table.schema)
        if wrong := self._misfit(lengths):
            raise ValueError(wrong)
        self._lengths |= lengths
        self._waiting[recording_id] = full, table
        self._known[recording_id] = full["input_key"], full["status"]
        waiting_rows = sum(len(table) for _, table in self._waiting.values())
        late = time.monotonic() - self._last_commit >= PART_SECONDS
        if late or len(self._waiting) >= PART_RECORDINGS or waiting_rows >= PART_ROWS:
            self.commit()

    @property
    def recordings(self) -> frozenset[str]:
        """The recordings that the output knows, published or not."""
        return frozenset(self._known)

    def drop(self, recording_ids: Iterable[str]) -> None:
        """Forget recordings: their rows and ledger lines go when the output is published."""
        for recording_id in recording_ids:
            self._waiting.pop(recording_id, None)
            self._in_parts.pop(recording_id, None)
            if self._known.pop(recording_id, None):
                self._leaving.add(recording_id)

    def commit(self) -> None:
        """Make what was added and dropped durable, as a part."""
        self._last_commit = time.monotonic()
        if not self._waiting and not self._leaving:
            return
        self._drop_abandoned()
        with resources(self._parts):
            self._parts.mkdir(exist_ok=True)
            sync_folder(self._parts.parent)
        last = max((int(part.stem) for part in self._part_files()), default=0)
        part = self._parts / f"{last + 1:08d}.parquet"
        recordings = sorted(self._waiting.items())
        lines = [line for _, (line, _) in recordings]
        content = {"redo": self._redo, "lines": lines, "dropped": sorted(self._leaving)}
        head = json.dumps(content, ensure_ascii=False).encode()
        self._write(part, (table for _, (_, table) in recordings), {_PART_KEY: head})
        self._in_parts.update(dict.fromkeys(self._waiting, part))
        self._dropped = (self._dropped | self._leaving) - self._waiting.keys()
        self._waiting.clear()
        self._leaving.clear()

    def publish(self) -> dict[str, int]:
        """Merge all work into the table and the ledger; touches neither when there is nothing new.

        Returns what the ledger says in all: the number of `recordings`, of these `done`, `no_speech` and `failed`, how many are
        `incomplete` (with rows for a part only), and the number of `utterances`.
        """
        self.commit()
        self._drop_abandoned()
        old = [] if self._redo else self._files()
        if self._in_parts or self._dropped or not old or not self.ledger.exists():
            lines = self._lines_in_parts()
            if self.is_folder:
                self._publish_folder(old)
            else:
                self._merge(old, self._in_parts, self.path)
            self._publish_ledger(lines, published=bool(old))
        discard(self._parts, self.path)
        self._in_parts.clear()
        self._dropped.clear()
        self._redo = False
        ledger = tables.read(self.ledger, RECORDINGS)
        statuses = ledger["status"].to_pylist()
        counts = {status: statuses.count(status) for status in ("done", "no_speech", "failed")}
        reasons = ledger["reason"].to_pylist()
        counts["incomplete"] = sum(s != "failed" and r is not None for s, r in zip(statuses, reasons, strict=True))
        return {"recordings": len(ledger), **counts, "utterances": pc.sum(ledger["utterances"]).as_py() or 0}

    # What is there already

    def _take_stock(self) -> None:
        """Learn what is done, from the published table and from parts; refuse what is not ours or not the same work."""
        published_files = self._files()
        rows = sum(self._inspect(file, self._lineage.stage, self._columns) for file in published_files)
        if self.ledger.exists():
            self._inspect(self.ledger, "recordings", RECORDINGS)
        parts = {part: _head(part) for part in self._part_files()}
        if self._redo:
            if not all(head.redo and head.lineage.fingerprint == self._lineage.fingerprint for head in parts.values()):
                self._abandoned, parts = True, {}
            published_files = []
        for part in parts:
            self._inspect(part, self._lineage.stage, self._columns)
        ledger = pa.Table.from_batches([], tables.schema(RECORDINGS, {}))
        if published_files and self.ledger.exists():
            ledger = tables.read(self.ledger, RECORDINGS)
        keys = zip(*(ledger[name].to_pylist() for name in ("recording_id", "input_key", "status")), strict=True)
        self._known = {recording_id: (key, status) for recording_id, key, status in keys}
        if published_files and not parts:
            told = pc.sum(ledger["utterances"]).as_py() or 0
            if rows != told or not _is_ledger_of(self.ledger, published_files):
                raise UsageError(f"{self.path}: {rows} rows, and {told} in {self.ledger.name}: they do not belong together; "
                                 "restore both, or start over with --redo")
        published: dict[str, Row] = {}
        if parts:
            held_ids = pa.array([line["recording_id"] for head in parts.values() for line in head.lines], pa.string())
            published = {of["recording_id"]: of for of in ledger.filter(pc.is_in(ledger["recording_id"], held_ids)).to_pylist()}
        for part, head in parts.items():
            for recording_id in head.dropped:
                self._known.pop(recording_id, None)
                self._in_parts.pop(recording_id, None)
                self._dropped.add(recording_id)
            for line in head.lines:
                recording_id = line["recording_id"]
                self._dropped.discard(recording_id)
                self._known[recording_id] = line["input_key"], line["status"]
                # A line that is published already: the last run was killed before it could remove its parts.
                if published.get(recording_id) == line:
                    self._in_parts.pop(recording_id, None)
                else:
                    self._in_parts[recording_id] = part
        self._dropped.intersection_update(ledger["recording_id"].to_pylist())

    def _inspect(self, file: Path, stage: str, columns: Sequence[Column]) -> int:
        """The rows in a file that must be our own, of `stage`, and (unless we start over) the same work; UsageError if not."""
        try:
            parquet, lineage = tables.open_file(file, verify=False)  # whoever reads its rows verifies them
        except TableError as error:
            raise UsageError(f"{error}. It is in the way of this output: move it, or choose another --out") from error
        if lineage.stage != stage:
            raise UsageError(f"{file}: a table of `{lineage.stage}`, not of `{stage}`; choose another --out")
        if lineage.extra.get("folder", self.is_folder) != self.is_folder:
            raise UsageError(f"{file}: the ledger of {'a file' if self.is_folder else 'a folder'} of the same name; "
                             "choose another --out")
        if not self._redo or file.parent == self._parts:
            found = parquet.schema_arrow
            differences = _differences(lineage, self._lineage, found.names, names(columns))
            if differences:
                raise UsageError(f"{file}: made with other settings:", *(f"  {line}" for line in differences),
                                 "start over with --redo, or choose another --out")
            if not self._moved and lineage.corpus_root != self._lineage.corpus_root:
                raise UsageError(f"{file}: made from {lineage.corpus_root}, not from {self._lineage.corpus_root}; choose another "
                                 "--out, start over with --redo, or say with --root where the same corpus is now")
            self._learn(tables.vector_lengths(found))
        return int(parquet.metadata.num_rows)

    def _learn(self, lengths: Mapping[str, int]) -> None:
        if wrong := self._misfit(lengths):
            raise TableError(self.path, wrong, "the model is another one: start over with --redo, or choose another --out")
        self._lengths |= lengths

    def _misfit(self, lengths: Mapping[str, int]) -> str | None:
        """What is wrong with vectors of these lengths, beside those that the output has."""
        for name, length in lengths.items():
            if self._lengths.get(name, length) != length:
                return f"the column {name!r} holds vectors of {self._lengths[name]} numbers, not {length}"
        return None

    def _files(self) -> list[Path]:
        """The files of the published table, in order; UsageError when something else is there."""
        if self.is_folder and self.path.is_dir():
            entries = sorted(entry for entry in self.path.iterdir() if not entry.name.startswith("."))
            for entry in entries:
                if not _PUBLISHED_PART.fullmatch(entry.name):
                    raise UsageError(f"{self.path}: a folder with other things in it ({entry.name}); choose another --out")
            return entries
        if self.is_folder and self.path.exists():
            raise UsageError(f"{self.path}: a file, not a folder; choose another --out")
        return [self.path] if self.path.exists() else []

    def _part_files(self) -> list[Path]:
        with resources(self._parts):
            return sorted(self._parts.glob("*.parquet"))

    # Writing

    def _drop_abandoned(self) -> None:
        if self._abandoned:
            discard(self._parts, self.path)
            self._abandoned = False

    def _publish_folder(self, old: Sequence[Path]) -> None:
        """Recordings that a published part holds are replaced there, in one step; the others become a new part."""
        fresh = dict(self._in_parts)
        for file in old:
            inside = tables.recording_ids(file)
            known = {rid: part for rid in inside if (part := fresh.pop(rid, None))}
            lengths = tables.vector_lengths(tables.open_file(file, verify=False)[0].schema_arrow)
            if known or self._dropped.intersection(inside) or lengths != self._lengths:
                self._merge([file], known, file)
        if not old or next(self._fresh_rows(fresh), None):
            with resources(self.path):
                self.path.mkdir(exist_ok=True)
                sync_folder(self.path.parent)
            number = max((int(file.stem.removeprefix("part-")) for file in old), default=-1) + 1
            new = self.path / f"part-{number:06d}.parquet"
            self._merge([], fresh, new)
            if self._redo:
                with resources(self.path):
                    for file in self._files():
                        if file != new:
                            file.unlink()
                    sync_folder(self.path)

    def _merge(self, old: Sequence[Path], fresh: Mapping[str, Path], target: Path) -> None:
        """Write `target` by recording_id: the published rows of other recordings, and the `fresh` ones."""
        gone = fresh.keys() | self._dropped
        kept = (found for file in old for found in tables.slices(file, self._columns) if found[0] not in gone)
        merged = heapq.merge(kept, self._fresh_rows(fresh), key=itemgetter(0))
        self._write(target, (table for _, table in merged))

    def _fresh_rows(self, fresh: Mapping[str, Path]) -> Iterator[tuple[str, pa.Table]]:
        """The rows of each recording in the part that has its last version, by recording_id.

        A part is opened when its first recording is due. As runs go through a corpus in order, few are open at a time.
        """
        first: dict[Path, str] = {}
        for recording_id in sorted(fresh):
            first.setdefault(fresh[recording_id], recording_id)
        unopened = deque(first.items())
        due: list[tuple[str, pa.Table, Iterator[tuple[str, pa.Table]]]] = []
        while unopened or due:
            if unopened and (not due or unopened[0][1] <= due[0][0]):
                rows = self._rows_in(unopened.popleft()[0], fresh)
            else:
                recording_id, table, rows = heapq.heappop(due)
                yield recording_id, table
            if found := next(rows, None):
                heapq.heappush(due, (*found, rows))

    def _rows_in(self, part: Path, fresh: Mapping[str, Path]) -> Iterator[tuple[str, pa.Table]]:
        return (found for found in tables.slices(part, self._columns) if fresh.get(found[0]) == part)

    def _write(self, path: Path, found: Iterator[pa.Table], more: Mapping[bytes, bytes] | None = None) -> None:
        target = tables.schema(self._columns, self._lengths, {**tables.metadata(self._lineage), **(more or {})})
        tables.write(path, found, target, output=self.path)

    def _lines_in_parts(self) -> list[pa.Table]:
        """The ledger lines of the recordings in parts. TableError where one is not there any more."""
        lines = [pa.Table.from_pylist(
            [line for line in _head(part).lines if self._in_parts.get(line["recording_id"]) == part],
            tables.schema(RECORDINGS, {}),
        ) for part in self._part_files()]
        if sum(map(len, lines)) != len(self._in_parts):
            raise TableError(self._parts, "someone else removed work in hand", "run the same command again")
        return lines

    def _publish_ledger(self, lines: list[pa.Table], published: bool) -> None:
        """Write the ledger: the `lines` of the recordings in parts, and those `published` of the others."""
        if published and self.ledger.exists():
            before = tables.read(self.ledger, RECORDINGS)
            changed = pc.is_in(before["recording_id"], pa.array([*self._in_parts, *self._dropped], pa.string()))
            lines.append(before.filter(pc.invert(changed)))
        lineage = replace(self._lineage, stage="recordings", extra=self._lineage.extra | {
            "folder": self.is_folder, "table": tables.joint_seal(self._files()),
        })
        target = tables.schema(RECORDINGS, {}, tables.metadata(lineage))
        ledger = pa.concat_tables([target.empty_table(), *lines]).sort_by("recording_id")
        tables.write(self.ledger, [ledger], target, output=self.path)


class _Head(NamedTuple):
    """What a part says of itself."""

    lineage: Lineage
    redo: bool
    lines: list[Row]
    dropped: list[str]


def _is_ledger_of(ledger: Path, files: Sequence[Path]) -> bool:
    """Whether the ledger was written for these very files; one of an earlier version does not say."""
    written = tables.open_file(ledger, verify=False)[1].extra.get("table")
    return written is None or written == tables.joint_seal(files)


def _head(part: Path) -> _Head:
    try:
        parquet, lineage = tables.open_file(part)
        content = json.loads(parquet.schema_arrow.metadata[_PART_KEY])
        return _Head(lineage, content["redo"], content["lines"], content["dropped"])
    except (TableError, ValueError, KeyError) as error:
        raise TableError(part, "work in hand that cannot be read", "remove it; its recordings will be done again") from error


def _resolve(out: str | Path) -> tuple[Path, bool]:
    """The path that is written, not a link to it, and whether it is a folder."""
    path = Path(out)
    if "\0" in os.fspath(out) or any("\ud800" <= c <= "\udfff" for c in os.fspath(out)):
        raise UsageError(f"{os.fspath(out)!r}: not a name in Unicode; choose another --out")
    try:
        if path.is_symlink() or path.name in ("", ".."):
            path = path.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{out}: a symbolic link that leads back to itself; choose another --out") from error
    if not 0 < len(os.fsencode(path.name)) <= _LONGEST_NAME:
        raise UsageError(f"{out}: not a name for a table; give --out a name of at most {_LONGEST_NAME} bytes")
    is_folder = path.is_dir() or os.fspath(out).endswith("/")
    if path.name.endswith(_LEDGER_SUFFIX):
        raise UsageError(f"{out}: the name of a ledger, {path.name.removesuffix(_LEDGER_SUFFIX)}'s; choose another --out")
    if not is_folder and path.suffix != ".parquet":
        raise UsageError(f"{out}: --out is a file that ends in .parquet, or a folder that ends in /")
    return path, is_folder


def _differences(old: Lineage, new: Lineage, old_columns: Sequence[str], new_columns: Sequence[str]) -> list[str]:
    """What differs between two works, a line each; empty when they are the same."""
    before, after = _flat(old), _flat(new)
    lines = [
        f"{name}: {before.get(name, 'not set')}, now {after.get(name, 'not set')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if old.fingerprint == new.fingerprint:
        lines = []
    elif old.schema_version != new.schema_version:
        lines.append(f"columns as in schema {old.schema_version}, now {new.schema_version}: another version of msfser made it")
    elif not lines:
        lines = [f"fingerprint: {old.fingerprint}, now {new.fingerprint}"]
    for told, there, missing in (("with", old_columns, new_columns), ("without", new_columns, old_columns)):
        if differing := [name for name in there if name not in missing]:
            lines.append(f"made {told} the columns {', '.join(differing)}")
    return lines


def _flat(lineage: Lineage) -> dict[str, Any]:
    settings = {f"{stage}.{name}": value for stage, values in lineage.settings.items() for name, value in values.items()}
    return settings | {f"model {name}": version for name, version in lineage.models.items()}
