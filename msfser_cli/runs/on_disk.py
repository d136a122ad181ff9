"""Finds the files that a list names, also if the list was written on another machine.

A name is first tried as it is written. Then other spellings are tried: composed or decomposed Unicode (macOS decomposes),
backslashes, a drive letter, a `file:` address with `%20`, blanks at the ends, and for ids a missing extension.
"""

from __future__ import annotations

import os
import re
import unicodedata
from functools import cache
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

from msfser_cli.store.audio import is_audio_name

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")
_DRIVE = re.compile(r"/?[A-Za-z]:[\\/]+|\\\\[^\\]+\\[^\\]+\\")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Elsewhere(ValueError):  # noqa: N818 - a state of the name, not an error of the program
    """The name is a network address."""


class Places:
    """Finds names below `folder`. A folder is listed at most once, and only if a name is not found as it is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = cache(_names)

    def find(self, name: str, *, without_extension: bool = False) -> Path:
        """The path of the file that `name` means; if no file fits, the path of `name` without blanks around it.

        With `without_extension`, `name` may lack the extension if it fits one recording only. Raises Elsewhere if `name` is a
        network address.
        """
        written = self.below(name)
        if os.path.lexists(written):
            return written
        for spelled in _spellings(name):
            path = self.below(spelled)
            if on_disk := self.as_on_disk(path, without_extension=without_extension):
                return on_disk
        return self.below(name.strip())

    def below(self, name: str) -> Path:
        """The path of `name` as it is written."""
        return Path(os.path.normpath(self._folder / name))

    def as_on_disk(self, path: Path, *, without_extension: bool = False) -> Path | None:
        """`path` as spelled on disk, which may be in another Unicode form; None if it does not exist."""
        if os.path.lexists(path):
            return path
        if path == path.parent:
            return None
        folder = self.as_on_disk(path.parent)
        if folder is None:
            return None
        names = self._names(folder)
        same = names.get(_composed(path.name), [])
        if not same and without_extension and not is_audio_name(path):
            same = [n for spellings in names.values() for n in spellings
                    if is_audio_name(Path(n)) and _composed(Path(n).stem) == _composed(path.name)]
        return folder / same[0] if len(same) == 1 else None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _names(folder: Path) -> dict[str, list[str]]:
    """The names in a folder by their composed form; empty if the folder cannot be listed."""
    names: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - names are wanted, not paths
            names.setdefault(_composed(name), []).append(name)
    except (OSError, ValueError):  # not a folder, or an impossible name
        pass
    return names


def _spellings(name: str) -> list[str]:
    """The other spellings of `name`, the likeliest first. Raises Elsewhere if `name` is a network address."""
    spellings = [name, name.strip()]
    if _ADDRESS.match(name.strip()):
        address = urlsplit(name.strip())
        if address.scheme.lower() != "file":
            raise Elsewhere(name)
        spellings = [unquote(address.path)]
    elif name.strip().lower().startswith("file:"):
        spellings = [unquote(name.strip()[len("file:"):])]
    if b"\\x" in os.fsencode(name):  # a recording id whose file name is not UTF-8
        spellings.append(os.fsdecode(_ESCAPED.sub(lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(name))))
    for spelled in list(spellings):
        if drive := _DRIVE.match(spelled):
            # A path of another machine: try its ends, the longest first.
            parts = PureWindowsPath(spelled[drive.end():]).parts
            spellings += ["/".join(parts[start:]) for start in range(len(parts))]
        elif "\\" in spelled:
            spellings.append(spelled.replace("\\", "/"))
    return list(dict.fromkeys(spellings))
