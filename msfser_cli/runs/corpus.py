"""The recordings that the user names by folders, files, a list on stdin or a manifest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msfser_cli.errors import ResourceError, UsageError
from msfser_cli.runs import in_store
from msfser_cli.runs.manifest import read_manifest
from msfser_cli.runs.on_disk import Places
from msfser_cli.stages.work import Recording, Segment
from msfser_cli.store.audio import is_audio_name, is_hidden_folder
from msfser_cli.store.objects import Address, Location
from msfser_cli.tabular import is_table_name


@dataclass(frozen=True)
class Corpus:
    """The recordings in order of their ids.

    root: the folder that the ids are relative to. ignored: the number of other files; a hidden folder is not searched and counts
    as one. manifest: the manifest that names the recordings, if any. notes: sentences for the user on how it was read.
    """

    root: Location
    recordings: tuple[Recording, ...]
    ignored: int = 0
    manifest: Path | None = None
    notes: tuple[str, ...] = ()


def find(inputs: Sequence[str], root: Location | None = None) -> Corpus:
    """The recordings that `inputs` name: folders (searched recursively), files, one manifest, or `-` for paths on stdin.

    The folders and files lie on disk, or in an object store (see `in_store`).

    A folder inside a named folder that cannot be listed becomes a recording that fails. Raises UsageError if an input does not
    exist or two recordings would share an id, TableError if a manifest cannot be read, ResourceError if a named folder cannot be
    listed.
    """
    texts = list(_expanded(inputs))
    if isinstance(root, Address) or any(map(Address.parse, texts)):
        return _from_store(*in_store.find(texts, inputs, root))
    if len(inputs) == 1 and is_table_name(Path(inputs[0])):
        return _from_manifest(Path(inputs[0]), root)
    paths: list[Path] = []
    folders: list[Path] = []
    ignored = 0
    places = Places(Path())
    if absent := [text for text in inputs if text != "-" and not places.as_on_disk(Path(text))]:
        raise UsageError(f"{', '.join(absent)}: no such file or folder")
    for text in texts:
        path = places.as_on_disk(Path(text)) or Path(text)
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long or not permitted
            folders.append(path)
            inside, unlisted, hidden = _inside(path)
            recordings = [p for p in inside if is_audio_name(p)]
            ignored += len(inside) - len(recordings) + hidden
            paths += sorted(recordings + unlisted)
        elif is_table_name(path):
            raise UsageError(f"{path}: a table must be the only input; remove the others")
        else:
            paths.append(path)
    if folders and not paths:
        raise UsageError(f"{', '.join(map(str, folders))}: no audio or video files in it; name another folder")
    if root is None:
        root = folders[0] if len(folders) == 1 == len(inputs) else _common_folder(paths)
    unique = {os.path.abspath(p): p for p in paths}
    return Corpus(root, _identified(root, [(p, ()) for p in unique.values()]), ignored)


def _inside(folder: Path) -> tuple[list[Path], list[Path], int]:
    """All files and links below a folder, the folders that cannot be listed, and the number of hidden folders.

    Links to folders are not followed. `folder` itself may be hidden. Raises ResourceError if `folder` cannot be listed.
    """
    errors: list[OSError] = []
    inside = []
    hidden = 0
    for place, folders, files in os.walk(folder, onerror=errors.append):
        visible = [name for name in folders if not is_hidden_folder(name)]
        hidden += len(folders) - len(visible)
        folders[:] = visible
        inside += [Path(place, name) for name in files]
        inside += [path for name in folders if (path := Path(place, name)).is_symlink()]
    unlisted = [Path(error.filename) for error in errors if not isinstance(error, FileNotFoundError)]
    if folder in unlisted:
        raise ResourceError(f"{folder}: cannot be listed ({errors[0].strerror}); check its permissions")
    return inside, unlisted, hidden


def _expanded(inputs: Iterable[str]) -> Iterable[str]:
    """The inputs, with the lines of stdin in place of `-`."""
    for text in inputs:
        if text == "-":
            # Read as bytes, because a path may not be Unicode. A carriage return at the end is part of a Windows line end.
            lines = (line.removesuffix(b"\r") for line in sys.stdin.buffer.read().split(b"\n"))
            yield from (os.fsdecode(line) for line in lines if line.strip())
        else:
            yield text


def _common_folder(paths: Sequence[Path]) -> Path:
    if not paths:
        raise UsageError("no recordings are named; name files or folders")
    return Path(os.path.commonpath([os.path.abspath(p.parent) for p in paths]))


def _identified(root: Path, files: Iterable[tuple[Path, tuple[Segment, ...]]]) -> tuple[Recording, ...]:
    """The recordings, in order of their ids. Raises UsageError for a file outside `root` and for two files with one id."""
    base = os.path.abspath(root)
    recordings: dict[str, Recording] = {}
    for path, segments in files:
        relative = os.path.relpath(os.path.abspath(path), base)
        if relative == os.pardir or relative.startswith(os.pardir + os.sep):
            raise UsageError(f"{path}: not below the corpus root {root}; name a folder above it with --root")
        # Tables hold UTF-8, so the other bytes of a name are escaped.
        identity = os.fsencode(relative.replace(os.sep, "/")).decode("utf-8", "backslashreplace")
        if identity in recordings:
            raise UsageError(f"{recordings[identity].path} and {path}: both would have the id {identity}; rename one of them")
        recordings[identity] = Recording(identity, Path(os.path.abspath(path)), segments)
    return tuple(recordings[identity] for identity in sorted(recordings))


def _from_store(root: Address, found: Iterable[Address], ignored: int) -> Corpus:
    recordings: dict[str, Recording] = {}
    for address in found:
        identity = address.below(root)
        if identity is None:
            raise UsageError(f"{address}: not below the corpus root {root}; name a folder above it with --root")
        recordings[identity] = Recording(identity, address)
    return Corpus(root, tuple(recordings[identity] for identity in sorted(recordings)), ignored)


def _from_manifest(path: Path, root: Path | None) -> Corpus:
    folder = path.parent if root is None else root
    manifest = read_manifest(path, folder)
    return Corpus(folder, _identified(folder, manifest.segments.items()), manifest=path, notes=manifest.notes)
