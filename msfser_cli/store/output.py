"""The output of a run: a table, a ledger, and unpublished work in parts. A kill at any moment leaves all of it intact.

`--out x.parquet` is one file, sorted by recording_id. `--out x/` is a folder of files `part-<n>.parquet`. New recordings go into
a new file, and only files with changed recordings are written again. Beside the table lie

- `x.recordings.parquet`  the ledger, one line per recording
- `.x.parquet.parts/`     work that is not published yet. A part holds rows; its metadata holds their ledger lines and the ids of
                          dropped recordings
- `.x.parquet.lock`       exists while a run writes (`store.lock`). `x/` has the same lock, because the ledger is the same
- `.x.parquet.seen`       the hashes of files that need not be read again (`store.seen`). Without it no work is lost

Each file is written atomically and only refers to durable files. The order is: parts, table, ledger, then the parts are removed.
After a crash between two steps, the next run repeats the rest: a recording in a part replaces its rows and ledger line in the
table, and a recording that a part drops loses them. Repeating this has no further effect.
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
"""A part is written when it has this many recordings or rows, or at the first recording after this many seconds."""

_PART_KEY = b"msfser.part"
_LEDGER_SUFFIX = ".recordings.parquet"
_PUBLISHED_PART = re.compile(r"part-\d{6}\.parquet")
_LONGEST_NAME = 200  # in bytes; temporary names are longer, and file systems allow 255


def ledger_path(out: str | Path) -> Path:
    """The ledger of an output: `x.recordings.parquet`, both for `x.parquet` and for `x/`."""
    path, _ = _resolve(out)
    return path.with_name(path.name.removesuffix(".parquet") + _LEDGER_SUFFIX)


def read_ledger(out: str | Path) -> dict[str, Row]:
    """recording_id -> line of the published ledger; empty if there is no ledger. Raises TableError if it cannot be read."""
    path = ledger_path(out)
    return {line["recording_id"]: line for line in tables.read(path, RECORDINGS).to_pylist()} if path.exists() else {}


class Output:
    """The output of one run. Use `Output.open` to make it."""

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
        self._states: dict[str, tuple[str, str]] = {}  # recording -> its input_key and status
        self._waiting: dict[str, tuple[Row, pa.Table]] = {}  # recordings not yet in a part: ledger line and rows
        self._in_parts: dict[str, Path] = {}  # recordings in a part that is not published
        self._leaving: set[str] = set()  # recordings to drop, not yet in a part
        self._dropped: set[str] = set()  # recordings that a part drops and the table still has
        self._lengths: dict[str, int] = {}  # lengths of the vector columns that are known so far
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
        wait: float = 0.0,
    ) -> Iterator[Output]:
        """Lock `out` for the block. `out` is a file, or a folder if it ends in "/" or is one. Added work is durable afterwards.

        redo: start over. Published work does not count as done, and publishing replaces it. If such a run is interrupted, the
        same command continues it. retry_failed: failed recordings do not count as done. moved: the corpus root may differ from
        the one in the output. wait: seconds to wait for another run on `out`.

        Raises OutputHeldError if another run has the lock; UsageError if msfser did not write the output, or, without `redo`, if
        it has other settings or another corpus; TableError if unpublished work is damaged; ResourceError if writing fails.
        """
        output = cls(out, columns, lineage, redo=redo, retry_failed=retry_failed, moved=moved)
        with resources(output.path):
            try:
                output.path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise UsageError(f"{output.path}: {output.path.parent} is not a folder; choose another --out") from error
        with held(output.path.with_name(output.path.name.removesuffix(".parquet") + ".parquet"), wait=wait):
            sweep(output.path)
            output._take_stock()
            try:
                yield output
            finally:
                output.commit()

    @property
    def replaces_a_table(self) -> bool:
        """Whether publishing replaces the whole table (`redo`)."""
        return self._redo and bool(self._files())

    def input_key(self, recording_id: str) -> str | None:
        """The input key of a recording in the output; None if the output does not have it."""
        return self._states.get(recording_id, (None, None))[0]

    def done_key(self, recording_id: str) -> str | None:
        """The input key for which the recording counts as done; None: for no input."""
        key, status = self._states.get(recording_id, (None, None))
        return None if self._retry_failed and status == "failed" else key

    def add(self, line: Mapping[str, Any], rows: Sequence[Row] = ()) -> None:
        """Add a recording's ledger line (see `schemas.RECORDINGS`; nullable values may be missing) and its rows, in order.

        They replace those of an earlier run. May commit a part. Raises ValueError, and adds nothing, if the line or a row does
        not fit its columns, or a vector has another length than before.
        """
        full = {name: line.get(name) for name in names(RECORDINGS)}
        if full["detail"]:  # it may quote a file name that is not UTF-8
            full["detail"] = full["detail"].encode("utf-8", "backslashreplace").decode()
        (full,) = tables.to_table([full], RECORDINGS).to_pylist()
        recording_id = full["recording_id"]
        if full["utterances"] != len(rows) or any(row.get("recording_id") != recording_id for row in rows):
            raise ValueError(f"{recording_id}: its ledger line says {full['utterances']} utterances, which does not fit its rows")
        table = tables.to_table(rows, self._columns)
        lengths = tables.vector_lengths(table.schema)
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
            self._in_parts.pop(recording_id, None)
            if self._states.pop(recording_id, None):
                self._leaving.add(recording_id)

    def commit(self) -> None:
        """Write the added and dropped recordings as a durable part."""
        self._last_commit = time.monotonic()
        if not self._waiting and not self._leaving:
            return
        self._remove_old_parts()
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
        """Merge all work into the table and the ledger. Without new work, neither file is written.

        Returns the counts over the ledger: `recordings`, of these `done`, `no_speech`, `failed` and `incomplete` (with rows for a
        part only), and `utterances`.
        """
        self.commit()
        self._remove_old_parts()
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

    # Reading the existing output

    def _take_stock(self) -> None:
        """Find the finished recordings in the table and the parts. Raises UsageError for files of other work or other tools."""
        published_files = self._files()
        rows = sum(self._inspect(file, self._lineage.stage, self._columns) for file in published_files)
        if self.ledger.exists():
            self._inspect(self.ledger, "recordings", RECORDINGS)
        parts = {part: _head(part) for part in self._part_files()}
        if self._redo:
            if not all(head.redo and head.lineage.fingerprint == self._lineage.fingerprint for head in parts.values()):
                self._has_old_parts, parts = True, {}
            published_files = []
        for part in parts:
            self._inspect(part, self._lineage.stage, self._columns)
        ledger = pa.Table.from_batches([], tables.schema(RECORDINGS, {}))
        if published_files and self.ledger.exists():
            ledger = tables.read(self.ledger, RECORDINGS)
        keys = zip(*(ledger[name].to_pylist() for name in ("recording_id", "input_key", "status")), strict=True)
        self._states = {recording_id: (key, status) for recording_id, key, status in keys}
        if published_files and not parts:
            in_ledger = pc.sum(ledger["utterances"]).as_py() or 0
            if rows != in_ledger or not _is_ledger_of(self.ledger, published_files):
                raise UsageError(f"{self.path}: has {rows} rows and its ledger {self.ledger.name} {in_ledger}: they do not "
                                 "belong together; restore both, or start over with --redo")
        published: dict[str, Row] = {}
        if parts:
            ids = pa.array([line["recording_id"] for head in parts.values() for line in head.lines], pa.string())
            lines = ledger.filter(pc.is_in(ledger["recording_id"], ids)).to_pylist()
            published = {line["recording_id"]: line for line in lines}
        for part, head in parts.items():
            for recording_id in head.dropped:
                self._states.pop(recording_id, None)
                self._in_parts.pop(recording_id, None)
                self._dropped.add(recording_id)
            for line in head.lines:
                recording_id = line["recording_id"]
                self._dropped.discard(recording_id)
                self._states[recording_id] = line["input_key"], line["status"]
                # If the line is published, the last run was killed before it removed its parts.
                if published.get(recording_id) == line:
                    self._in_parts.pop(recording_id, None)
                else:
                    self._in_parts[recording_id] = part
        self._dropped.intersection_update(ledger["recording_id"].to_pylist())

    def _inspect(self, file: Path, stage: str, columns: Sequence[Column]) -> int:
        """The number of rows in a file. Raises UsageError if it is not a table of `stage` or, without redo, of other work."""
        try:
            parquet, lineage = tables.open_file(file, verify=False)  # reading its rows verifies them
        except TableError as error:
            raise UsageError(f"{error}. It blocks this output: move it, or choose another --out") from error
        if lineage.stage != stage:
            raise UsageError(f"{file}: is a table of `{lineage.stage}`, not of `{stage}`; choose another --out")
        if lineage.extra.get("folder", self.is_folder) != self.is_folder:
            raise UsageError(f"{file}: is the ledger of {'a file' if self.is_folder else 'a folder'} of the same name; "
                             "choose another --out")
        if not self._redo or file.parent == self._parts:
            stored = parquet.schema_arrow
            differences = _differences(lineage, self._lineage, stored.names, names(columns))
            if differences:
                raise UsageError(f"{file}: made with other settings:", *(f"  {line}" for line in differences),
                                 "start over with --redo, or choose another --out")
            if not self._moved and lineage.corpus_root != self._lineage.corpus_root:
                raise UsageError(f"{file}: made from {lineage.corpus_root}, not from {self._lineage.corpus_root}; choose another "
                                 "--out, start over with --redo, or name the new place of the same corpus with --root")
            self._remember_lengths(tables.vector_lengths(stored))
        return int(parquet.metadata.num_rows)

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

    def _files(self) -> list[Path]:
        """The files of the published table, in order. Raises UsageError if there are other files."""
        if self.is_folder and self.path.is_dir():
            entries = sorted(entry for entry in self.path.iterdir() if not entry.name.startswith("."))
            for entry in entries:
                if not _PUBLISHED_PART.fullmatch(entry.name):
                    raise UsageError(f"{self.path}: the folder has other files in it ({entry.name}); choose another --out")
            return entries
        if self.is_folder and self.path.exists():
            raise UsageError(f"{self.path}: is a file, not a folder; choose another --out")
        return [self.path] if self.path.exists() else []

    def _part_files(self) -> list[Path]:
        with resources(self._parts):
            return sorted(self._parts.glob("*.parquet"))

    # Writing

    def _remove_old_parts(self) -> None:
        if self._has_old_parts:
            discard(self._parts, self.path)
            self._has_old_parts = False

    def _publish_folder(self, old: Sequence[Path]) -> None:
        """Replace recordings in the published part that has them. Write the other recordings into a new part."""
        fresh = dict(self._in_parts)
        for file in old:
            inside = tables.recording_ids(file)
            replaced = {rid: part for rid in inside if (part := fresh.pop(rid, None))}
            lengths = tables.vector_lengths(tables.open_file(file, verify=False)[0].schema_arrow)
            if replaced or self._dropped.intersection(inside) or lengths != self._lengths:
                self._merge([file], replaced, file)
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
        """Write `target`, sorted by recording_id: the `fresh` rows, and the published rows of the other recordings."""
        gone = fresh.keys() | self._dropped
        kept = (item for file in old for item in tables.slices(file, self._columns) if item[0] not in gone)
        merged = heapq.merge(kept, self._fresh_rows(fresh), key=itemgetter(0))
        self._write(target, (table for _, table in merged))

    def _fresh_rows(self, fresh: Mapping[str, Path]) -> Iterator[tuple[str, pa.Table]]:
        """The rows of each recording from the part with its last version, sorted by recording_id.

        A part is opened when its first recording is due. Runs go through a corpus in order, so few parts are open at a time.
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
            if item := next(rows, None):
                heapq.heappush(due, (*item, rows))

    def _rows_in(self, part: Path, fresh: Mapping[str, Path]) -> Iterator[tuple[str, pa.Table]]:
        return (item for item in tables.slices(part, self._columns) if fresh.get(item[0]) == part)

    def _write(self, path: Path, rows: Iterator[pa.Table], more: Mapping[bytes, bytes] | None = None) -> None:
        target = tables.schema(self._columns, self._lengths, {**tables.metadata(self._lineage), **(more or {})})
        tables.write(path, rows, target, output=self.path)

    def _lines_in_parts(self) -> list[pa.Table]:
        """The ledger lines of the recordings in parts. Raises TableError if a part is missing."""
        lines = [pa.Table.from_pylist(
            [line for line in _head(part).lines if self._in_parts.get(line["recording_id"]) == part],
            tables.schema(RECORDINGS, {}),
        ) for part in self._part_files()]
        if sum(map(len, lines)) != len(self._in_parts):
            raise TableError(self._parts, "another program removed unpublished work", "run the same command again")
        return lines

    def _publish_ledger(self, lines: list[pa.Table], published: bool) -> None:
        """Write the ledger: the `lines` of the recordings in parts and, if `published`, the earlier lines of the others."""
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
    """The metadata of a part."""

    lineage: Lineage
    redo: bool
    lines: list[Row]
    dropped: list[str]


def _is_ledger_of(ledger: Path, files: Sequence[Path]) -> bool:
    """Whether the ledger was written for these files. True for ledgers of earlier versions, which do not say."""
    written = tables.open_file(ledger, verify=False)[1].extra.get("table")
    return written is None or written == tables.joint_seal(files)


def _head(part: Path) -> _Head:
    try:
        parquet, lineage = tables.open_file(part)
        content = json.loads(parquet.schema_arrow.metadata[_PART_KEY])
        return _Head(lineage, content["redo"], content["lines"], content["dropped"])
    except (TableError, ValueError, KeyError) as error:
        raise TableError(part, "unpublished work that cannot be read", "remove it; its recordings will be done again") from error


def _resolve(out: str | Path) -> tuple[Path, bool]:
    """The path to write, with links resolved, and whether it is a folder."""
    path = Path(out)
    if "\0" in os.fspath(out) or any("\ud800" <= c <= "\udfff" for c in os.fspath(out)):
        raise UsageError(f"{os.fspath(out)!r}: the name is not Unicode; choose another --out")
    try:
        if path.is_symlink() or path.name in ("", ".."):
            path = path.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{out}: is a symbolic link that points to itself; choose another --out") from error
    if not 0 < len(os.fsencode(path.name)) <= _LONGEST_NAME:
        raise UsageError(f"{out}: cannot be the name of a table; choose an --out whose name has 1 to {_LONGEST_NAME} bytes")
    is_folder = path.is_dir() or os.fspath(out).endswith("/")
    if path.name.endswith(_LEDGER_SUFFIX):
        raise UsageError(f"{out}: is the name of the ledger of {path.name.removesuffix(_LEDGER_SUFFIX)}; choose another --out")
    if not is_folder and path.suffix != ".parquet":
        raise UsageError(f"{out}: not a name for --out; name a file that ends in .parquet, or a folder that ends in /")
    return path, is_folder


def _differences(old: Lineage, new: Lineage, old_columns: Sequence[str], new_columns: Sequence[str]) -> list[str]:
    """The differences between two works, a line each; empty if they are the same."""
    before, after = _flat(old), _flat(new)
    lines = [
        f"{name}: {before.get(name, 'not set')}, now {after.get(name, 'not set')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if old.fingerprint == new.fingerprint:
        lines = []
    elif old.schema_version != new.schema_version:
        lines.append(f"schema {old.schema_version}, now {new.schema_version}: another version of msfser made it")
    elif not lines:
        lines = [f"fingerprint: {old.fingerprint}, now {new.fingerprint}"]
    for word, some, others in (("with", old_columns, new_columns), ("without", new_columns, old_columns)):
        if differing := [name for name in some if name not in others]:
            lines.append(f"made {word} the columns {', '.join(differing)}")
    return lines


def _flat(lineage: Lineage) -> dict[str, Any]:
    settings = {f"{stage}.{name}": value for stage, values in lineage.settings.items() for name, value in values.items()}
    return settings | {f"model {name}": version for name, version in lineage.models.items()}
