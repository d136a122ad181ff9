"""Exports a table: streams its recordings, and writes the files of each format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msfser_cli.errors import TableError
from msfser_cli.exports.files import Folder
from msfser_cli.exports.format import Format, PerRecording, PerTable
from msfser_cli.exports.names import folders, whole_path
from msfser_cli.exports.recordings import Table
from msfser_cli.schemas import STAGES
from msfser_cli.store.objects import Location


@dataclass(frozen=True)
class Exported:
    """What an export wrote. kept: files that msfser did not write, or that were edited since. They were left as they are.

    lacking: sentences about what the files lack.
    """

    recordings: int
    without_rows: int
    files: int
    kept: tuple[str, ...]
    lacking: tuple[str, ...]


def export(
    scores: Path, formats: dict[str, Format], out: Path, *, root: Location | None = None, overwrite: bool = False
) -> Exported:
    """Write the table `scores` in each of `formats` to the folder `out`, which keeps its other files. root: as in `Table.open`.

    Raises TableError if the table cannot be read or lacks a column that a format needs; else as `Folder.open` and `Folder.write`.
    """
    table = Table.open(scores, root)
    lacking: list[str] = []
    _check(table, formats)
    taken = folders(table.stems.values())
    with Folder.open(out, overwrite=overwrite) as folder:
        for format_ in formats.values():
            if isinstance(format_, PerTable):
                for name, pieces in format_.files(table, lacking.append):
                    folder.write(name, pieces)
        renderers = [format_.render for format_ in formats.values() if isinstance(format_, PerRecording)]
        for recording in table.recordings() if renderers else ():
            for render in renderers:
                for suffix, content in render(recording).items():
                    name = recording.stem + suffix
                    if name in taken or name in folder.written:  # `a.words.srt`, of both `a.wav` and `a.words.wav`
                        name = whole_path(recording.id) + suffix
                    folder.write(name, [content.encode()])
    without = sum(recording_id not in table.stems for recording_id in table.ledger)
    return Exported(len(table.stems), without, len(folder.written), tuple(folder.kept), tuple(lacking))


def _check(table: Table, formats: dict[str, Format]) -> None:
    for name, format_ in formats.items():
        for column in format_.needs:
            if column not in table.names:
                stage = next(stage for stage, columns in STAGES.items() if column in {c.name for c in columns})
                raise TableError(table.path, f"has no column {column!r}, which --to {name} needs", f"`msfser {stage}` writes it")
