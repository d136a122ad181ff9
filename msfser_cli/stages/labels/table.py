"""What every label file is read into: one frame, whatever the format, and the scale of its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from msfser_cli.errors import LabelError, UsageError
from msfser_cli.model.config import DIMENSIONS

Numbers = TypeVar("Numbers", pl.Expr, np.ndarray)

TEXTS = ("recording", "utterance_id", "speaker", "gender", "language", "split")
NUMBERS = ("start", "end", *DIMENSIONS)
GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}
"""How genders are written, and what they are called here; any other is left as written."""


class Scale(NamedTuple):
    """The ends of a rating scale, `low` below `high`."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Scale:
        """The scale written as LOW:HIGH; UsageError for anything else."""
        try:
            low, high = (float(end) for end in text.split(":"))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UsageError(f"a scale is written LOW:HIGH, as in 1:7 or -1:1, not {text!r}")
        return cls(low, high)

    def onto(self, other: Scale, numbers: Numbers) -> Numbers:
        """`numbers` of this scale in the `other`, by the straight line between their ends."""
        return (numbers - self.low) * ((other.high - other.low) / (self.high - self.low)) + other.low

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


MSP_PODCAST_SCALE, IEMOCAP_SCALE = Scale(1, 7), Scale(1, 5)
_MAY_BE_UNKNOWN = ("speaker", "gender", "language")


@dataclass(frozen=True)
class Labels:
    """A label file, read.

    columns: role -> the name it has in the file. scale: what the format declares, or None. row_word: what a row of the file is
    called, such as `line`.
    frame: one row a label, in the file's order. `row` (its line or row number), `recording` (as the file writes it), `start` and
    `end` (s; null: the recording's own), `utterance_id`, `valence`, `arousal`, `dominance` (null where not rated), `speaker`,
    `gender` (`female`, `male` or as written), `language`, `split` (as written), and `cluster`: who varies together. That is the
    speaker; where it is unknown, the speaker or the podcast that a name of IEMOCAP or MSP-Podcast tells; else null. A column that
    the file lacks is all null.
    """

    path: Path
    format: str
    columns: dict[str, str]
    scale: Scale | None
    frame: pl.DataFrame
    row_word: str = "row"

    @property
    def rated(self) -> tuple[str, ...]:
        """The dimensions that the file has a column for."""
        return tuple(d for d in DIMENSIONS if d in self.columns)


def label_frame(path: Path, columns: Mapping[str, pl.Series], *, row_word: str = "row") -> pl.DataFrame:
    """The frame of `Labels` from `row` and those of `TEXTS` and `NUMBERS` that the file has; LabelError for an impossible row."""
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
            raise LabelError(path, f"{row_word} {endless['row'][0]} has {endless[name][0]} as its {name}, not a number")
    nameless = frame.filter(pl.col("recording").fill_null("") == "")
    if nameless.height:
        raise LabelError(path, f"{row_word} {nameless['row'][0]} does not name its recording")
    backwards = frame.filter(pl.col("end") <= pl.col("start").fill_null(0))
    if backwards.height:
        raise LabelError(path, f"{row_word} {backwards['row'][0]} ends at {backwards['end'][0]:g} s, before it starts")
    return _with_cluster(frame.with_columns(pl.when(pl.col(c).str.to_lowercase() != "unknown").then(c) for c in _MAY_BE_UNKNOWN))


def mean_of_ratings(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a recording of a frame that has one a rating: the first row's, with the mean of each dimension's ratings."""
    means = [pl.col(d).mean() for d in DIMENSIONS]
    others = [pl.col(c).first() for c in frame.columns if c not in ("recording", *DIMENSIONS)]
    return frame.group_by("recording", maintain_order=True).agg(*others, *means).select(frame.columns)


def _with_cluster(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with genders in one spelling and the column `cluster` of `Labels.frame`."""
    # A podcast has few speakers, so its turns of unknown speaker vary together; the speakers of an IEMOCAP session are two.
    podcast = pl.col("recording").str.extract(r"MSP-PODCAST_(\d+)_\d+")
    turn = pl.col("recording").str.extract_groups(r"(Ses\d\d)[FM]_(?:impro|script)\w*_([FM])(?:\d{3}|XX\d)")
    gender = pl.col("gender").str.to_lowercase().replace_strict(GENDERS, default=pl.col("gender"))
    return frame.with_columns(gender=gender, cluster=pl.coalesce(
        "speaker", pl.lit("podcast ") + podcast, turn.struct.field("1") + turn.struct.field("2")))
