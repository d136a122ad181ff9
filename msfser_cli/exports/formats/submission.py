"""A submission for the MSP-Podcast challenges on emotional attributes: a CSV file with one row per recording.

Odyssey 2024 and Interspeech 2025 require the columns `FileName,EmoAct,EmoVal,EmoDom`, file names that end in .wav, and values
from 1 to 7.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from msfser_cli.errors import TableError
from msfser_cli.evaluation.labels import Scale
from msfser_cli.evaluation.pairing import read_scores, weighted_mean
from msfser_cli.exports.format import PerTable
from msfser_cli.exports.recordings import Table
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.store.atomic import replacing

HEADER = ("FileName", "EmoAct", "EmoVal", "EmoDom")
ORDER = ("arousal", "valence", "dominance")
SCALE = Scale(1, 7)


@dataclass(frozen=True)
class Submission:
    """The file's content, the number of its rows, and that of the recordings that have no score and are not in it."""

    content: bytes
    rows: int
    without: int

    def write(self, out: Path) -> None:
        """Write it to `out` atomically."""
        with replacing(out) as file:
            file.write(self.content)


def submission(scores: Path, recordings: Container[str] | None = None) -> Submission:
    """The submission for the table `scores`.

    A row is a recording: its name without folders, with .wav, and the duration-weighted means of its utterances' scores, mapped
    to 1..7 and clipped. Rows are sorted by name.

    recordings: the recordings to write; None: all of the table. TableError if two recordings would have the same name, or if no
    recording has a score.
    """
    frame, scale = read_scores(scores)
    if recordings is not None:
        frame = frame.filter([identity in recordings for identity in frame["recording_id"]])
    means = frame.group_by("recording_id").agg(weighted_mean(d, pl.col("end") - pl.col("start")) for d in DIMENSIONS)
    means = means.with_columns(scale.onto(SCALE, pl.col(d)).clip(*SCALE) for d in DIMENSIONS)
    scored = means.drop_nulls(DIMENSIONS)
    if scored.is_empty():
        raise TableError(scores, "has no recording with all three scores", "use a head that was trained on all three dimensions")
    rows: dict[str, tuple[str, ...]] = {}
    recording_of: dict[str, str] = {}
    for recording, *values in scored.select("recording_id", *ORDER).sort("recording_id").iter_rows():
        name = PurePosixPath(recording).with_suffix(".wav").name
        if name in rows:
            raise TableError(scores, f"{recording_of[name]!r} and {recording!r} would both be {name!r} in the submission",
                             "rename one of them")
        rows[name], recording_of[name] = (name, *(f"{value:.6f}" for value in values)), recording
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows[name] for name in sorted(rows))
    return Submission(text.getvalue().encode(), len(rows), means.height - scored.height)


def _files(table: Table, say: Callable[[str], None]) -> Iterator[tuple[str, Iterator[bytes]]]:
    made = submission(table.path)
    if made.without:
        say(f"{made.without} recordings have no score and are not in submission.csv")
    yield "submission.csv", iter([made.content])


FORMATS = {"submission": PerTable(DIMENSIONS, _files)}
