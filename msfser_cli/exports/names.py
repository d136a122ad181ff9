"""The names of exported files: those of the recordings, safe on any file system that msfser runs on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

_LONGEST = 200
"""The most bytes of a part of a path, without the suffix that a format adds. File systems allow 255."""


def stems(recording_ids: Iterable[str]) -> dict[str, str]:
    """Recording -> the path of its exported files below the output folder, without their suffix.

    It is the recording's own path without its suffix. If that would be the path of two recordings, both keep theirs:
    `a.mp3` and `a.wav` become `a.mp3.srt` and `a.wav.srt`.
    """
    whole = {recording_id: whole_path(recording_id) for recording_id in recording_ids}
    short = {recording_id: str(PurePosixPath(path).with_suffix("")) for recording_id, path in whole.items()}
    count = Counter([*short.values(), *whole.values()])
    return {
        recording_id: stem if count[stem] == 1 or (stem == whole[recording_id] and count[stem] == 2) else whole[recording_id]
        for recording_id, stem in short.items()
    }


def whole_path(recording_id: str) -> str:
    """The recording's own path, safe on a file system."""
    return "/".join(map(_safe, recording_id.split("/")))


def folders(paths: Iterable[str]) -> frozenset[str]:
    """The folders in which the paths lie."""
    return frozenset(str(parent) for path in paths for parent in PurePosixPath(path).parents)


def _safe(part: str) -> str:
    """A part of a path without what would leave the folder or be too long. A part that is changed ends in a hash of itself."""
    changed = part.replace("\0", "_")
    if changed in ("", ".", ".."):
        changed = "_"
    changed = changed.encode()[:_LONGEST].decode(errors="ignore")
    return changed if changed == part else f"{changed}~{hashlib.sha256(part.encode()).hexdigest()[:8]}"
