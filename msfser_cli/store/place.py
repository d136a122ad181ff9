"""Where an output lies: the names of its files, and the names that msfser refuses."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from msfser_cli.errors import UsageError
from msfser_cli.store.objects import Address

LEDGER_SUFFIX = ".recordings.parquet"
_PUBLISHED_FILE = re.compile(r"part-\d{6}\.parquet")
_LONGEST_NAME = 200  # in bytes; temporary names are longer, and file systems allow 255


@dataclass(frozen=True)
class Place:
    """The place of an output. path: the table, a file or a folder of files."""

    path: Path
    is_folder: bool

    @property
    def ledger(self) -> Path:
        """`x.recordings.parquet`, both for `x.parquet` and for `x/`."""
        return self.path.with_name(self.path.name.removesuffix(".parquet") + LEDGER_SUFFIX)

    @property
    def parts(self) -> Path:
        """The folder of work that is not published yet."""
        return self.path.with_name(f".{self.path.name}.parts")

    @property
    def locked(self) -> Path:
        """The path to lock while writing. `x.parquet` and `x/` have the same, because they have the same ledger."""
        return self.path.with_name(self.path.name.removesuffix(".parquet") + ".parquet")

    def files(self) -> list[Path]:
        """The files of the published table, in order. Raises UsageError if there are other files in its place."""
        if self.is_folder and self.path.is_dir():
            entries = sorted(entry for entry in self.path.iterdir() if not entry.name.startswith("."))
            for entry in entries:
                if not _PUBLISHED_FILE.fullmatch(entry.name):
                    raise UsageError(f"{self.path}: the folder has other files in it ({entry.name}); choose another --out")
            return entries
        if self.is_folder and self.path.exists():
            raise UsageError(f"{self.path}: is a file, not a folder; choose another --out")
        return [self.path] if self.path.exists() else []


def place_of(out: str | Path) -> Place:
    """The place of `--out`, with links resolved: a folder if it ends in "/" or is one. Raises UsageError if it cannot be one."""
    path = Path(out)
    if Address.parse(os.fspath(out)):
        raise UsageError(f"{out}: msfser writes to a file system only; choose another --out, and copy the table when it is done")
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
    if path.name.endswith(LEDGER_SUFFIX):
        raise UsageError(f"{out}: is the name of the ledger of {path.name.removesuffix(LEDGER_SUFFIX)}; choose another --out")
    if not is_folder and path.suffix != ".parquet":
        raise UsageError(f"{out}: not a name for --out; name a file that ends in .parquet, or a folder that ends in /")
    return Place(path, is_folder)
