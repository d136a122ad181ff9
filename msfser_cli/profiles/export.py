"""Copying models into a folder that `--models-dir` reads on a machine without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msfser_cli.errors import ModelError, UsageError
from msfser_cli.profiles import registry
from msfser_cli.profiles.manifest import MANIFEST, Entry, File, read_manifest, write_manifest
from msfser_cli.profiles.models import Found, Part, find, missing, models_dir, sha256, verify
from msfser_cli.store.atomic import discard, replacing, resources, sweep
from msfser_cli.store.lock import held


def export(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Copy the models `names` into `folder`, each into a folder of its own, and list them in `models.json`.

    Yields each name as it is finished, with its folder and whether anything was copied. What is there already is kept, so that
    the same call goes on where it was interrupted. ModelError for a model that is not here or altered, before any is copied;
    OutputHeldError where another export writes there; ResourceError when the machine refuses.
    """
    found = {name: _here(name) for name in names}
    for name, model in found.items():
        verify(name, model)
    with resources(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder / MANIFEST):
        sweep(folder / MANIFEST)
        entries = read_manifest(folder) if (folder / MANIFEST).exists() else {}
        for name, model in found.items():
            target = folder / (name if name in registry() else model.identity.replace("/", "--"))
            copied = False
            sweep(target)
            known = entries.pop(target.name, None)
            if known is not None and (known.identity, set(known.files)) != (model.identity, set(model.files)):
                write_manifest(folder, entries)  # first: what is listed is there
                discard(target, target)
            with resources(target):
                target.mkdir(exist_ok=True)
            strange = sorted(path.name for path in target.iterdir() if path.name not in model.files)
            if strange or target.is_symlink():
                raise UsageError(f"{target}: {', '.join(strange[:1]) or 'a link'}, which no export made; choose another folder")
            files: dict[str, File] = {}
            for file, part in model.files.items():
                files[file], new = _copied(part, target / file)
                copied |= new
            entries[target.name] = Entry(model.source, model.revision, model.license, files, model.converted_from)
            write_manifest(folder, entries)
            yield name, target, copied


def _here(name: str) -> Found:
    found = find(name, models_dir())
    if found is None:
        raise ModelError(missing(name))
    return found


def _copied(part: Part, target: Path) -> tuple[File, bool]:
    """The file at `target` with the content of `part`, read again to be sure, and whether it had to be written."""
    expected = sha256(part.paths)
    if target.is_file() and not target.is_symlink() and sha256([target]) == expected:
        return File(expected, part.size), False
    with replacing(target, target.parent) as out:
        for path in part.paths:
            with path.open("rb") as content:
                while block := content.read(1 << 20):
                    out.write(block)
    if sha256([target]) != expected:
        raise ModelError(f"{target}: not what was copied there; the disk cannot be trusted")
    return File(expected, part.size), True
