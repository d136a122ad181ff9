"""The challenge's submission: a CSV with a row for each file, as the MSP-Podcast challenges on attributes take it.

Odyssey 2024 and Interspeech 2025 ask for `FileName,EmoAct,EmoVal,EmoDom`, file names that end in .wav, and values on 1..7.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Container
from pathlib import Path, PurePosixPath

import polars as pl

from msfser_cli.errors import TableError
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.stages.labels import Scale
from msfser_cli.stages.pairing import read_scores, weighted_mean
from msfser_cli.store.atomic import replacing

HEADER = ("FileName", "EmoAct", "EmoVal", "EmoDom")
ORDER = ("arousal", "valence", "dominance")
SCALE = Scale(1, 7)


def write_submission(out: Path, scores: Path, recordings: Container[str] | None = None) -> tuple[int, int]:
    """Write the submission for the table `scores` to `out`, atomically; the rows written, and the recordings left out.

    A row is a recording: its name without folders, ending in .wav, and the duration-weighted means of its utterances' scores,
    brought to 1..7 and kept within it. Rows are in the order of their names. recordings: those to write; None for all of the
    table. A recording without a score is left out. TableError when two have one name, or none has a score.
    """
    frame, scale = read_scores(scores)
    if recordings is not None:
        frame = frame.filter([identity in recordings for identity in frame["recording_id"]])
    means = frame.group_by("recording_id").agg(weighted_mean(d, pl.col("end") - pl.col("start")) for d in DIMENSIONS)
    means = means.with_columns(scale.onto(SCALE, pl.col(d)).clip(*SCALE) for d in DIMENSIONS)
    scored = means.drop_nulls(DIMENSIONS)
    if scored.is_empty():
        raise TableError(scores, "has no recording with all three scores", "there is nothing to submit")
    rows: dict[str, tuple[str, ...]] = {}
    of: dict[str, str] = {}
    for recording, *values in scored.select("recording_id", *ORDER).sort("recording_id").iter_rows():
        name = PurePosixPath(recording).with_suffix(".wav").name
        if name in rows:
            raise TableError(scores, f"{of[name]!r} and {recording!r} would both be {name!r} in the submission")
        rows[name], of[name] = (name, *(f"{value:.6f}" for value in values)), recording
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows[name] for name in sorted(rows))
    with replacing(out) as file:
        file.write(text.getvalue().encode())
    return len(rows), means.height - scored.height
