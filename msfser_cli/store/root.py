"""The corpus root, a folder on disk or in an object store, and what recording ids mean below it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from msfser_cli.store import objects
from msfser_cli.store.objects import Address, Location


def path_of(root: Location, recording_id: str) -> Location:
    """The place of a recording. In ids, and in a table's root, the bytes of names that are not UTF-8 are escaped."""
    path = root / recording_id
    if isinstance(path, Path) and "\\" in str(path) and not os.path.lexists(path):
        escaped = re.compile(rb"\\x([89a-f][0-9a-f])")
        return Path(os.fsdecode(escaped.sub(lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(path))))
    return path


def text_of(root: Location) -> str:
    """The root as a table records it."""
    return str(root) if isinstance(root, Address) else os.fsencode(root.resolve()).decode("utf-8", "backslashreplace")


def existing(root: Location, recording_ids: Iterable[str]) -> set[str]:
    """Those that may still exist, also if they are not part of the input. Raises ResourceError if a store cannot be asked."""
    if isinstance(root, Path):
        return {name for name in recording_ids if _may_exist(root, name)}
    names = [name for name in recording_ids if (root / name).is_plain]  # no other name can be asked for
    found = objects.kinds([root / name for name in names])
    return {name for name, kind in zip(names, found, strict=True) if isinstance(kind, Address)}


def _may_exist(root: Path, recording_id: str) -> bool:
    """True if msfser cannot tell, as for a name with escaped bytes."""
    if "\\" in recording_id:
        return True
    try:
        # The id of a folder that could not be listed. If it is a folder now, its recordings are among the items.
        return not stat.S_ISDIR(os.lstat(root / recording_id).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a manifest may hold an impossible name
        return False
    except OSError:  # it may lie in a folder without permission to search
        return True
