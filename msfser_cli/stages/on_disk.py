"""Where a recording lies that a list names, although the list was written on another machine.

A name is taken as it is if a file has it. Otherwise its spelling may differ: Unicode composed or decomposed (macOS writes the
latter), backslashes, a drive letter, a `file:` address with `%20`, blanks at the ends, or an extension that is left out.
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


class Elsewhere(ValueError):  # noqa: N818 - it is what the name says, not a fault of the program
    """A name that is an address on the network."""


class Places:
    """Finds names below `folder`. Each folder is listed at most once, and only where a name is not found as it is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = cache(_names)

    def find(self, name: str, *, without_extension: bool = False) -> Path:
        """The path of the file that `name` stands for; if there is none, that of `name` as it is written, without blanks around.

        With `without_extension`, a name may also lack the extension of the only recording that it fits. Raises Elsewhere for an
        address that is not a file's.
        """
        written = self.below(name)
        if os.path.lexists(written):
            return written
        for spelled in _spellings(name):
            path = self.below(spelled)
            if found := self.as_on_disk(path, without_extension=without_extension):
                return found
        return self.below(name.strip())

    def below(self, name: str) -> Path:
        """The path of `name` as it is written."""
        return Path(os.path.normpath(self._folder / name))

    def as_on_disk(self, path: Path, *, without_extension: bool = False) -> Path | None:
        """`path` as its folders' lists spell it, each name in any Unicode form; None where it is not in them."""
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
            same = [n for all_of_one in names.values() for n in all_of_one
                    if is_audio_name(Path(n)) and _composed(Path(n).stem) == _composed(path.name)]
        return folder / same[0] if len(same) == 1 else None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _names(folder: Path) -> dict[str, list[str]]:
    """The names in a folder by their composed form; none where it cannot be listed."""
    names: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - names are wanted, not paths
            names.setdefault(_composed(name), []).append(name)
    except (OSError, ValueError):  # no folder, or a name that no folder can have
        pass
    return names


def _spellings(name: str) -> list[str]:
    """What else `name` may stand for, the likeliest first."""
    spellings = [name, name.strip()]
    if _ADDRESS.match(name.strip()):
        address = urlsplit(name.strip())
        if address.scheme.lower() != "file":
            raise Elsewhere(name)
        spellings = [unquote(address.path)]
    elif name.strip().lower().startswith("file:"):
        spellings = [unquote(name.strip()[len("file:"):])]
    if b"\\x" in os.fsencode(name):  # a recording id of a name that is not UTF-8
        spellings.append(os.fsdecode(_ESCAPED.sub(lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(name))))
    for spelled in list(spellings):
        if drive := _DRIVE.match(spelled):
            # Of another machine's path, the longest end that lies below the folder.
            parts = PureWindowsPath(spelled[drive.end():]).parts
            spellings += ["/".join(parts[start:]) for start in range(len(parts))]
        elif "\\" in spelled:
            spellings.append(spelled.replace("\\", "/"))
    return list(dict.fromkeys(spellings))
