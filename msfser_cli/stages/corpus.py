"""What the user pointed at: folders, files, a list on stdin or a manifest, as recordings with identities."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from msfser_cli.errors import ResourceError, UsageError
from msfser_cli.stages.manifest import read_manifest
from msfser_cli.stages.on_disk import Places
from msfser_cli.stages.tabular import is_table_name
from msfser_cli.stages.transcribe import Segment
from msfser_cli.store.audio import is_audio_name

_HIDDEN_FOLDERS = {
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "system volume information",
    "__macosx", "lost+found",
}  # fmt: skip
"""Beside those that begin with a dot, in small letters: folders of thumbnails, trash and old versions."""

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
        changing = [f.name for f in fields(Segment) if f.compare]
        described = json.dumps([{name: getattr(s, name) for name in changing} for s in self.segments], sort_keys=True,
                               ensure_ascii=False)
        return hashlib.sha256(f"{sha256}{described}".encode()).hexdigest()


@dataclass(frozen=True)
class Corpus:
    """The recordings in order of their ids, the folder their ids are relative to, and how many other files lay beside them.

    A hidden folder is not searched, and counts as one file. notes: what a user should know of how a manifest was read, a sentence
    each.
    """

    root: Path
    recordings: tuple[Recording, ...]
    ignored: int = 0
    manifest: Path | None = None
    notes: tuple[str, ...] = ()


def find(inputs: Sequence[str], root: Path | None = None) -> Corpus:
    """The recordings that `inputs` name: folders (searched recursively), files, one manifest, or `-` for paths on stdin.

    Raises UsageError for what does not exist or is named so that two recordings would share an id, TableError for a
    manifest that cannot be read, ResourceError for a folder that cannot be listed. One inside of it is a recording that fails.
    """
    if len(inputs) == 1 and is_table_name(Path(inputs[0])):
        return _from_manifest(Path(inputs[0]), root)
    paths: list[Path] = []
    folders: list[Path] = []
    ignored = 0
    places = Places(Path())
    if absent := [given for given in inputs if given != "-" and not places.as_on_disk(Path(given))]:
        raise UsageError(f"{', '.join(absent)}: no such file or folder")
    for given in _expanded(inputs):
        path = places.as_on_disk(Path(given)) or Path(given)
        if os.path.isdir(path):  # noqa: PTH112 - Path's raises for a name that is too long, or that may not be looked up
            folders.append(path)
            inside, unlisted, hidden = _inside(path)
            recordings = [p for p in inside if is_audio_name(p)]
            ignored += len(inside) - len(recordings) + hidden
            paths += sorted(recordings + unlisted)
        elif is_table_name(path):
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
    folder = path.parent if root is None else root
    manifest = read_manifest(path, folder)
    return Corpus(folder, _identified(folder, manifest.segments.items()), manifest=path, notes=manifest.notes)
