"""What a format is, and the names of all formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msfser_cli.errors import UsageError
from msfser_cli.exports.recordings import Recording, Table


@dataclass(frozen=True)
class PerRecording:
    """A format with files of their own for each recording.

    needs: the columns without which it has nothing to say. render: suffix -> content, such as {".srt": "..."}.
    """

    needs: tuple[str, ...]
    render: Callable[[Recording], dict[str, str]]


@dataclass(frozen=True)
class PerTable:
    """A format with files for the whole table.

    needs: as in `PerRecording`. files: the name of each file, and its content piece by piece; its second argument takes a
    sentence about what the files lack.
    """

    needs: tuple[str, ...]
    files: Callable[[Table, Callable[[str], None]], Iterator[tuple[str, Iterator[bytes]]]]


Format = PerRecording | PerTable

NAMES: dict[str, str] = {
    "srt": "subtitles",
    "srt-words": "subtitles, a cue for each word",
    "vtt": "subtitles for browsers",
    "vtt-words": "subtitles for browsers, a cue for each word",
    "textgrid": "Praat",
    "eaf": "ELAN",
    "rttm": "who speaks when",
    "ctm": "words with times",
    "audacity": "label tracks",
    "json": "as whisperX writes it",
    "csv": "one file for audformat, pandas and spreadsheets",
    "audformat": "a database of audformat",
    "hf": "a dataset for the datasets library",
    "hf-audio": "the same, with the sound of each utterance",
    "labelstudio": "tasks with predictions, and their configuration",
    "submission": "as the MSP-Podcast challenges want it",
}
"""The formats, each with a few words for the help."""

_MODULES = {
    **dict.fromkeys(("srt", "srt-words", "vtt", "vtt-words"), "subtitles"), "json": "whisperx_json", "hf-audio": "hf",
    "audformat": "audformat_database",
}  # fmt: skip


def formats(names: str) -> dict[str, Format]:
    """The formats that are named, with commas between them. UsageError for a name that does not exist."""
    found: dict[str, Format] = {}
    for name in filter(None, (part.strip().lower() for part in names.split(","))):
        if name not in NAMES:
            raise UsageError(f"--to takes {', '.join(NAMES)}, not {name!r}")
        module = importlib.import_module(f"msfser_cli.exports.formats.{_MODULES.get(name, name)}")
        found[name] = module.FORMATS[name]
    if not found:
        raise UsageError(f"--to needs a format: {', '.join(NAMES)}")
    return found
