"""One CSV file of all utterances in audformat's segmented form: file, start, end, and a column for each value."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

from msfser_cli.exports.format import PerTable
from msfser_cli.exports.recordings import Recording, Table
from msfser_cli.schemas import DIMENSIONS

_VALUES = ("speaker", "language", "text", "emphasized_text", "description")


def _files(table: Table, say: Callable[[str], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    yield "utterances.csv", _lines(table)


def _lines(table: Table) -> Iterator[bytes]:
    values = [name for name in _VALUES if name in table.names]
    scores = {d + end: (d, end[1:] or "value") for d in DIMENSIONS for end in ("", "_low", "_high") if d + end in table.names}
    yield _line(["file", "start", "end", *scores, *values])
    for recording in table.recordings():
        yield b"".join(_rows(recording, values, list(scores.values())))


def _rows(recording: Recording, values: list[str], scores: list[tuple[str, str]]) -> Iterator[bytes]:
    for u in recording.utterances:
        numbers = [getattr(u.scores.get(dimension), end, None) for dimension, end in scores]
        yield _line([recording.id, _timedelta(u.start), _timedelta(u.end), *numbers, *(getattr(u, name) for name in values)])


def _line(cells: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # the writer quotes cells with a part of the line's end only
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def _timedelta(seconds: float) -> str:
    """The time as pandas writes it, such as `0 days 00:00:01.250000`, to the microsecond."""
    total, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    days, rest = divmod(total, 86_400)
    return f"{days} days {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.{micro:06d}"


FORMATS = {"csv": PerTable((), _files)}
