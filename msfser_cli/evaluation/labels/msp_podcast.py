"""Reads MSP-Podcast's raw ratings: `labels.txt`, and `labels_detailed.csv` with one rating per cell.

`named_columns` reads its consensus files, and `labels_detailed` with a column for each dimension.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.labels.table import MSP_PODCAST_SCALE, Labels, label_frame, mean_of_ratings
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.tabular import Columns

LETTERS = {"V": "valence", "A": "arousal", "D": "dominance"}
_RATING = re.compile(r"([VAD]):\s*(\S*)")
_WORKER = "WORKER"


def is_block(line: str) -> bool:
    """Whether `line` starts a block of labels.txt: `MSP-PODCAST_0001_0139.wav; N; A:2.400000; V:4.000000; D:2.800000;`."""
    return not line.startswith(_WORKER) and _has_ratings(line)


def read_blocks(path: Path) -> Labels:
    """Read labels.txt. It has a block for each file: first a line with the consensus, which is read, then a line per worker."""
    rows: list[int] = []
    names: list[str] = []
    ratings: list[dict[str, float | None]] = []
    letters = ""
    try:
        # Raters typed some emotions in other encodings. These fields are not read.
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip() or line.startswith(_WORKER):
                    continue
                if not is_block(line):
                    raise LabelError(path, f"line {number} is neither a consensus nor a worker's rating",
                                     "restore the original file")
                rows.append(number)
                names.append(line.partition(";")[0].strip())
                ratings.append(_ratings(path, number, line))
                letters = letters or "".join(_RATING.findall(line)[i][0] for i in range(3))
    except OSError as e:
        raise LabelError(path, f"cannot be read ({e.strerror})", "name another label file") from e
    frame = label_frame(path, {"row": pl.Series(rows), "recording": pl.Series(names, dtype=pl.String), **_columns(ratings)})
    columns = {"recording": "first field", **{LETTERS[letter]: f"{letter}:" for letter in letters}}
    return Labels(path, "MSP-Podcast labels.txt, the consensus of each block", columns, MSP_PODCAST_SCALE, frame)


def has_ratings_in_a_cell(columns: Columns) -> bool:
    """Whether the table has two columns: a file name, and `WORKER..; primary; secondary,..; A:..; V:..; D:..;`."""
    return len(columns.header) == 2 and bool(columns.rows) and _has_ratings(columns.written(1)[0] or "")


def read_cells(columns: Columns) -> Labels:
    """Read labels_detailed.csv with one quoted cell per rating. A label is the mean of a file's ratings, by dimension."""
    path, cells = columns.path, [cell or "" for cell in columns.written(1)]
    ratings = [_ratings(path, row, cell) for row, cell in zip(columns.rows, cells, strict=True)]
    names = pl.Series(columns.texts(0), dtype=pl.String)
    values = {"row": pl.Series(columns.rows), "recording": names, **_columns(ratings)}
    frame = label_frame(path, values, row_word=columns.row_word)
    letters = [letter for letter, _ in _RATING.findall(cells[0])]
    header = columns.header
    roles = {"recording": header[0], **{LETTERS[letter]: f"{letter}: in {header[1]}" for letter in letters}}
    name = "MSP-Podcast labels_detailed, the mean of each file's workers"
    return Labels(path, name, roles, MSP_PODCAST_SCALE, mean_of_ratings(frame), columns.row_word)


def _has_ratings(text: str) -> bool:
    letters = [match[1] for field in text.split(";") if (match := _RATING.fullmatch(field.strip()))]
    return sorted(letters) == sorted(LETTERS)


def _ratings(path: Path, row: int, text: str) -> dict[str, float | None]:
    """The numbers after `A:`, `V:` and `D:`, by dimension."""
    ratings: dict[str, float | None] = {}
    for field in text.split(";"):
        if match := _RATING.fullmatch(field.strip()):
            letter, number = match.groups()
            try:
                value = float(number or "nan")
            except ValueError:
                raise LabelError(path, f"line {row} has {number!r} after {letter}:, not a number", "correct it") from None
            ratings[LETTERS[letter]] = None if value != value else value
    if len(ratings) < len(LETTERS):
        missing = " and ".join(f"{letter}:" for letter, d in LETTERS.items() if d not in ratings)
        raise LabelError(path, f"line {row} lacks {missing}", "restore the original file")
    return ratings


def _columns(ratings: list[dict[str, float | None]]) -> dict[str, pl.Series]:
    return {d: pl.Series([rating[d] for rating in ratings], dtype=pl.Float64) for d in DIMENSIONS}
