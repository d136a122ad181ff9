"""`Labels`, the table that every label file is read into, and `Scale`, the scale of its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from msfser_cli.errors import LabelError, UsageError
from msfser_cli.schemas import DIMENSIONS

Numbers = TypeVar("Numbers", pl.Expr, np.ndarray)

TEXTS = ("recording", "utterance_id", "speaker", "gender", "language", "split")
NUMBERS = ("start", "end", *DIMENSIONS)
GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}
"""Spellings of genders -> the value in `Labels.frame`. Other values are kept as written."""


class Scale(NamedTuple):
    """The ends of a rating scale, `low` below `high`."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Scale:
        """The scale written as LOW:HIGH. Raises UsageError for other text."""
        try:
            low, high = (float(end) for end in text.split(":"))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UsageError(f"{text!r} is not a scale; write LOW:HIGH, such as 1:7 or -1:1")
        return cls(low, high)

    def onto(self, other: Scale, numbers: Numbers) -> Numbers:
        """Map `numbers` on this scale linearly to the `other` scale."""
        return (numbers - self.low) * ((other.high - other.low) / (self.high - self.low)) + other.low

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


MSP_PODCAST_SCALE, IEMOCAP_SCALE = Scale(1, 7), Scale(1, 5)
_MAY_BE_UNKNOWN = ("speaker", "gender", "language")


@dataclass(frozen=True)
class Labels:
    """The content of a label file.

    columns: role -> the name of its column in the file. scale: the scale that the format declares, or None. row_word: the word
    for a row of the file in messages, such as `line`.
    frame: one row per label, in the file's order. Columns: `row` (line or row number), `recording` (as in the file), `start` and
    `end` (in s; null: those of the recording), `utterance_id`, `valence`, `arousal`, `dominance` (null if not rated), `speaker`,
    `gender` (`female`, `male` or as in the file), `language`, `split` (as in the file) and `cluster`. Labels of one cluster are
    not independent. A cluster is a speaker. If the speaker is unknown, it is the speaker or podcast in a file name of IEMOCAP or
    MSP-Podcast, else null. Columns that the file lacks are null.
    """

    path: Path
    format: str
    columns: dict[str, str]
    scale: Scale | None
    frame: pl.DataFrame
    row_word: str = "row"

    @property
    def rated(self) -> tuple[str, ...]:
        """The dimensions for which the file has a column."""
        return tuple(d for d in DIMENSIONS if d in self.columns)


def label_frame(path: Path, columns: Mapping[str, pl.Series], *, row_word: str = "row") -> pl.DataFrame:
    """The frame of `Labels` from `row` and the file's columns of `TEXTS` and `NUMBERS`. Raises LabelError for a wrong row."""
    height = len(columns["row"])
    kinds: dict[str, type[pl.DataType]] = {"row": pl.Int64}
    kinds |= dict.fromkeys(TEXTS, pl.String) | dict.fromkeys(NUMBERS, pl.Float64)
    frame = pl.DataFrame({
        name: columns.get(name, pl.Series([None] * height, dtype=kind)).cast(kind) for name, kind in kinds.items()
    })
    frame = frame.with_columns(pl.col(NUMBERS).fill_nan(None))
    for name in NUMBERS:
        endless = frame.filter(pl.col(name).is_infinite())
        if endless.height:
            raise LabelError(path, f"{row_word} {endless['row'][0]} has {endless[name][0]} as its {name}; write a finite number")
    nameless = frame.filter(pl.col("recording").fill_null("") == "")
    if nameless.height:
        raise LabelError(path, f"{row_word} {nameless['row'][0]} does not name its recording; add the name or remove the row")
    backwards = frame.filter(pl.col("end") <= pl.col("start").fill_null(0))
    if backwards.height:
        raise LabelError(path, f"{row_word} {backwards['row'][0]} ends at {backwards['end'][0]:g} s, not after its start; "
                               "correct its times")
    return _with_cluster(frame.with_columns(pl.when(pl.col(c).str.to_lowercase() != "unknown").then(c) for c in _MAY_BE_UNKNOWN))


def mean_of_ratings(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per recording from a frame with one row per rating: the first row, with the mean of each dimension's ratings."""
    means = [pl.col(d).mean() for d in DIMENSIONS]
    others = [pl.col(c).first() for c in frame.columns if c not in ("recording", *DIMENSIONS)]
    return frame.group_by("recording", maintain_order=True).agg(*others, *means).select(frame.columns)


def _with_cluster(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with genders in one spelling and the column `cluster` of `Labels.frame`."""
    # A podcast has few speakers, so its turns of unknown speaker form one cluster. An IEMOCAP session has two speakers.
    podcast = pl.col("recording").str.extract(r"MSP-PODCAST_(\d+)_\d+")
    turn = pl.col("recording").str.extract_groups(r"(Ses\d\d)[FM]_(?:impro|script)\w*_([FM])(?:\d{3}|XX\d)")
    gender = pl.col("gender").str.to_lowercase().replace_strict(GENDERS, default=pl.col("gender"))
    return frame.with_columns(gender=gender, cluster=pl.coalesce(
        "speaker", pl.lit("podcast ") + podcast, turn.struct.field("1") + turn.struct.field("2")))
