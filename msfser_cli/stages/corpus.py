"""What the user pointed at: folders, files, a list on stdin or a manifest, as recordings with identities."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msfser_cli.errors import ResourceError, TableError, UsageError
from msfser_cli.stages.transcribe import Segment
from msfser_cli.store.audio import is_audio_name

MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LONGEST_LINE = 1_000_000
"""In bytes, of a manifest."""
_HIDDEN_FOLDERS = {
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "system volume information",
    "__macosx", "lost+found",
}  # fmt: skip
"""Beside those that begin with a dot, in small letters: folders of thumbnails, trash and old versions."""
PATH_COLUMNS = ("path", "file", "filename", "audio", "recording_id")
"""The names under which a manifest's path column is found, the first that is there."""


@dataclass(frozen=True)
class Recording:
    """One file of the corpus. `segments` are a manifest's, empty where it gives none.

    recording_id: what users read in tables and messages. path: absolute, as a back end may change the working directory.
    """

    recording_id: str
    path: Path
    segments: tuple[Segment, ...] = ()

    def input_key(self, sha256: str) -> str:
        """What its rows are made from: the content and the manifest's segments."""
        if not self.segments:
            return sha256
        described = json.dumps([asdict(s) for s in self.segments], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(f"{sha256}{described}".encode()).hexdigest()


@dataclass(frozen=True)
class Corpus:
    """The recordings in order of their ids, the folder their ids are relative to, and how many other files lay beside them.

    A hidden folder is not searched, and counts as one file.
    """

    root: Path
    recordings: tuple[Recording, ...]
    ignored: int = 0


def find(inputs: Sequence[str], root: Path | None = None) -> Corpus:
    """The recordings that `inputs` name: folders (searched recursively), files, one manifest, or `-` for paths on stdin.

    Raises UsageError for what does not exist or is named so that two recordings would share an id, TableError for a
    manifest that cannot be read, ResourceError for a folder that cannot be listed. One inside of it is a recording that fails.
    """
    if len(inputs) == 1 and Path(inputs[0]).suffix.lower() in MANIFEST_SUFFIXES:
        return _from_manifest(Path(inputs[0]), root)
    paths: list[Path] = []
    folders: list[Path] = []
    ignored = 0
    if absent := [given for given in inputs if given != "-" and not os.path.lexists(given)]:
        raise UsageError(f"{', '.join(absent)}: no such file or folder")
    for given in _expanded(inputs):
        path = Path(given)
        if os.path.isdir(path):  # noqa: PTH112 - Path's raises for a name that is too long, or that may not be looked up
            folders.append(path)
            inside, unlisted, hidden = _inside(path)
            recordings = [p for p in inside if is_audio_name(p)]
            ignored += len(inside) - len(recordings) + hidden
            paths += sorted(recordings + unlisted)
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            raise UsageError(f"{path}: a manifest must be the only input")
        else:
            paths.append(path)
    if folders and not paths:
        raise UsageError(f"{', '.join(map(str, folders))}: no audio or video files in it")
    if root is None:
        root = folders[0] if len(folders) == 1 == len(inputs) else _common_folder(paths)
    unique = {os.path.abspath(p): p for p in paths}
    return Corpus(root, _identified(root, [(p, ()) for p in unique.values()]), ignored)


def path_of(root: Path, recording_id: str) -> Path:
    """Where the recording of an id lies; in an id, and in a table's root, the bytes of a name that is not UTF-8 are escaped."""
    path = root / recording_id
    if "\\" in str(path) and not os.path.lexists(path):
        escaped = re.compile(rb"\\x([89a-f][0-9a-f])")
        return Path(os.fsdecode(escaped.sub(lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(path))))
    return path


def _inside(folder: Path) -> tuple[list[Path], list[Path], int]:
    """All files and links below a folder, the folders that cannot be listed (these will fail, as a file does), and how many
    hidden folders were left out; `folder` itself may have any name.

    Links to folders are not followed. ResourceError where the folder itself cannot be listed.
    """
    errors: list[OSError] = []
    inside = []
    hidden = 0
    for place, folders, files in os.walk(folder, onerror=errors.append):
        visible = [name for name in folders if not (name.startswith(".") or name.lower() in _HIDDEN_FOLDERS)]
        hidden += len(folders) - len(visible)
        folders[:] = visible
        inside += [Path(place, name) for name in files]
        inside += [path for name in folders if (path := Path(place, name)).is_symlink()]
    unlisted = [Path(error.filename) for error in errors if not isinstance(error, FileNotFoundError)]
    if folder in unlisted:
        raise ResourceError(f"{folder}: cannot be listed ({errors[0].strerror})")
    return inside, unlisted, hidden


def _expanded(inputs: Iterable[str]) -> Iterable[str]:
    for given in inputs:
        if given == "-":
            # As bytes: a path need not be Unicode. It may hold a carriage return; one at the end is a foreign line's.
            lines = (line.removesuffix(b"\r") for line in sys.stdin.buffer.read().split(b"\n"))
            yield from (os.fsdecode(line) for line in lines if line.strip())
        else:
            yield given


def _common_folder(paths: Sequence[Path]) -> Path:
    if not paths:
        raise UsageError("no recordings were named")
    return Path(os.path.commonpath([os.path.abspath(p.parent) for p in paths]))


def _identified(root: Path, found: Iterable[tuple[Path, tuple[Segment, ...]]]) -> tuple[Recording, ...]:
    base = os.path.abspath(root)
    recordings: dict[str, Recording] = {}
    for path, segments in found:
        relative = os.path.relpath(os.path.abspath(path), base)
        if relative == os.pardir or relative.startswith(os.pardir + os.sep):
            raise UsageError(f"{path}: not below the corpus root {root}; name a root above it with --root")
        # A name that is not UTF-8 still needs an id that a table can hold.
        identity = os.fsencode(relative.replace(os.sep, "/")).decode("utf-8", "backslashreplace")
        if identity in recordings:
            raise UsageError(f"{recordings[identity].path} and {path}: both would be {identity}; rename one of them")
        recordings[identity] = Recording(identity, Path(os.path.abspath(path)), segments)
    return tuple(recordings[identity] for identity in sorted(recordings))


def _from_manifest(path: Path, root: Path | None) -> Corpus:
    import polars as pl

    from msfser_cli.store import tables

    try:
        if path.suffix.lower() != ".parquet":
            _require_short_lines(path)
        if path.suffix.lower() == ".parquet":
            frame = pl.from_arrow(tables.read_foreign(path))
        elif path.suffix.lower() == ".jsonl":
            frame = pl.read_ndjson(path, infer_schema_length=None)
        else:
            frame = pl.read_csv(path, separator="\t" if path.suffix.lower() == ".tsv" else ",", infer_schema=False)
        assert isinstance(frame, pl.DataFrame)
        frame = frame.rename({name: name.strip().lower() for name in frame.columns})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TableError(path, f"the manifest cannot be read ({' '.join(str(error).split())[:200]})") from error
    column = next((name for name in PATH_COLUMNS if name in frame.columns), None)
    if column is None:
        raise TableError(path, f"no path column; a manifest has one of {', '.join(PATH_COLUMNS)}")
    folder = path.parent if root is None else root
    grouped: dict[Path, list[Segment]] = {}
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        if not row[column]:
            raise TableError(path, f"row {number} has no {column}")
        named = Path(os.path.normpath(folder / str(row[column])))
        grouped.setdefault(named, []).append(_segment(path, number, row))
    found = []
    for named, segments in grouped.items():
        plain = len(segments) == 1 and segments[0] == Segment()
        found.append((named, () if plain else tuple(segments)))
    if not found:
        raise TableError(path, "the manifest has no rows")
    return Corpus(folder, _identified(folder, found))


def _require_short_lines(path: Path) -> None:
    """TableError for a line that polars would take ten times its length in memory for, and no manifest has."""
    if not path.is_file():  # a pipe would block
        raise TableError(path, "not a regular file")
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise TableError(path, f"it has a line of more than {LONGEST_LINE:,} bytes", "no manifest is like that")


def _segment(path: Path, number: int, row: dict[str, Any]) -> Segment:
    start, end = (_number(path, number, name, row.get(name)) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise TableError(path, f"row {number}: it ends at {end:g} s, before it starts")
    return Segment(
        start=start,
        end=end,
        **{name: str(row[name]) if row.get(name) not in (None, "") else None for name in ("text", "speaker", "language")},
    )


def _number(path: Path, row: int, name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise TableError(path, f"row {row}: {name} is {value!r}, not seconds from the start of the recording")
    return number
