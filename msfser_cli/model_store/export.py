"""Copies models to a folder. A machine without a network reads it with `--models-dir`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msfser_cli.errors import ModelError, UsageError
from msfser_cli.model_store.manifest import MANIFEST, Entry, File, read_manifest, write_manifest
from msfser_cli.model_store.models import LocalModel, Part, find, missing, models_dir, sha256, verify
from msfser_cli.model_store.registry import registry
from msfser_cli.store.atomic import discard, replacing, resources, sweep
from msfser_cli.store.lock import held


def export(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Copy the models `names` to `folder`, each into its own subfolder, and list them in `models.json`.

    Yields, after each model: its name, its folder, and whether anything was copied. Files that are already in `folder` are kept,
    so an interrupted call can be repeated to continue. ModelError, before anything is copied, if a model is missing or altered.
    OutputHeldError if another export is writing there. ResourceError if disk or permissions run out.
    """
    local = {name: _local_model(name) for name in names}
    for name, model in local.items():
        verify(name, model)
    with resources(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder / MANIFEST):
        sweep(folder / MANIFEST)
        entries = read_manifest(folder) if (folder / MANIFEST).exists() else {}
        for name, model in local.items():
            target = folder / (name if name in registry() else model.identity.replace("/", "--"))
            copied = False
            sweep(target)
            entry = entries.pop(target.name, None)
            if entry is not None and (entry.identity, set(entry.files)) != (model.identity, set(model.files)):
                write_manifest(folder, entries)  # before the files go, so that every listed file exists
                discard(target, target)
            with resources(target):
                target.mkdir(exist_ok=True)
            foreign = sorted(path.name for path in target.iterdir() if path.name not in model.files)
            if foreign or target.is_symlink():
                what = f"has the file {foreign[0]}, which is not from an export" if foreign else "is a link"
                raise UsageError(f"{target}: {what}; choose another folder")
            files: dict[str, File] = {}
            for file, part in model.files.items():
                files[file], new = _copy(part, target / file)
                copied |= new
            entries[target.name] = Entry(model.source, model.revision, model.license, files, model.converted_from)
            write_manifest(folder, entries)
            yield name, target, copied


def _local_model(name: str) -> LocalModel:
    model = find(name, models_dir())
    if model is None:
        raise ModelError(missing(name))
    return model


def _copy(part: Part, target: Path) -> tuple[File, bool]:
    """Make `target` a file with the content of `part`, and read it back. Returns the file, and whether it had to be written."""
    expected = sha256(part.paths)
    if target.is_file() and not target.is_symlink() and sha256([target]) == expected:
        return File(expected, part.size), False
    with replacing(target, target.parent) as out:
        for path in part.paths:
            with path.open("rb") as content:
                while block := content.read(1 << 20):
                    out.write(block)
    if sha256([target]) != expected:
        raise ModelError(f"{target}: the copy differs from the original; check the disk, or choose another folder")
    return File(expected, part.size), True
