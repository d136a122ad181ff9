"""The folder of an export: what msfser wrote there before it replaces; what somebody edited, or else put there, it keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from msfser_cli.errors import OutputHeldError, UsageError
from msfser_cli.store.atomic import replacing, resources, sweep
from msfser_cli.store.lock import held

MANIFEST = ".msfser-export.jsonl"


class Folder:
    """A folder to write files into, each atomically.

    A manifest in it has the sha256 of each file as msfser wrote it: a line of JSON for each, [name, sha256]. A file with another
    content is kept, unless `overwrite` is set. written: the files that were written. kept: those that were kept.
    """

    def __init__(self, path: Path, manifest: IO[str], *, overwrite: bool) -> None:
        self.path, self._manifest, self._overwrite = path, manifest, overwrite
        lines = manifest.read().split("\n")
        if lines[-1]:  # cut short by a full disk: its file was not written either
            manifest.write("\n")
        self._ours = {of for line in lines if (of := _parsed(line)) is not None}
        self.written: set[str] = set()
        self.kept: list[str] = []

    @staticmethod
    @contextmanager
    def open(path: Path, *, overwrite: bool) -> Iterator[Folder]:
        """The folder at `path`, made if it does not exist, for one writer at a time.

        UsageError if it is a file; OutputHeldError if another export writes there; ResourceError if it cannot be written.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path}: is a file; name a folder with --out")
        with resources(path):
            path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(held(path / MANIFEST))
            except OutputHeldError as error:
                raise OutputHeldError(path, error.holder, "try again when it is over") from None
            sweep(path / MANIFEST)
            with resources(path / MANIFEST):
                manifest = (path / MANIFEST).open("a+", encoding="utf-8", errors="replace")
            with manifest:
                manifest.seek(0)
                yield Folder(path, manifest, overwrite=overwrite)

    def sha256(self, name: str) -> str:
        """That of the file `name`; that of no bytes if there is none."""
        digest = hashlib.sha256()
        path = self.path / name
        if path.is_file():
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        return digest.hexdigest()

    def has(self, name: str) -> bool:
        """Whether the file `name` is as msfser wrote it."""
        return (name, self.sha256(name)) in self._ours

    def write(self, name: str, content: Iterable[bytes]) -> None:
        """Write the file `name`, with `/` between folders, unless somebody else's is there. ResourceError if that fails."""
        path = self.path / name
        if not self._overwrite and path.exists() and not self.has(name):
            self.kept.append(name)
            return
        with resources(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with replacing(path, self.path / MANIFEST) as file:
            for piece in content:
                digest.update(piece)
                file.write(piece)
            self._note(name, digest.hexdigest())  # before the file has its name: after a crash it is known as ours
        self.written.add(name)

    def _note(self, name: str, sha256: str) -> None:
        if (name, sha256) not in self._ours:
            self._ours.add((name, sha256))
            with resources(self.path / MANIFEST):
                self._manifest.write(json.dumps([name, sha256], ensure_ascii=False) + "\n")
                self._manifest.flush()


def _parsed(line: str) -> tuple[str, str] | None:
    """The name and the sha256 of a line of the manifest; None for one that is cut short or damaged."""
    try:
        name, sha256 = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (name, sha256) if isinstance(name, str) and isinstance(sha256, str) else None
