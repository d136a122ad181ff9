"""Pairs the scores of predict with labels."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from msfser_cli.errors import TableError
from msfser_cli.evaluation.clusters import named
from msfser_cli.evaluation.joining import Joined, join
from msfser_cli.evaluation.labels import Labels, Scale
from msfser_cli.schemas import DIMENSIONS, PREDICT, columns_through
from msfser_cli.store import tables

_READ = ("recording_id", "utterance_id", "start", "end", "speaker", *DIMENSIONS)
COLUMNS = tuple(c for c in columns_through("predict") if c.name in _READ)
"""The columns that are read from a table of scores."""

ENDS = tuple(c for c in PREDICT if c.name in {f"{d}_{end}" for d in DIMENSIONS for end in ("low", "high")})
"""The ends of the prediction intervals. They are read as well, and are null if the table lacks them."""


@dataclass(frozen=True)
class Pairs:
    """Labels with their scores.

    frame: one row per matched label, in the label file's order. It has the columns of `Labels.frame` and:
    - `recording_id`; `utterances`, the number of utterances that the label is about; `duration`, the time that they share with
      the label, in seconds
    - for each dimension `<dimension>_score`, in the scores' own scale; null if every score is missing
    - for each dimension `<dimension>_low` and `<dimension>_high`; null unless the label is about a single utterance with an
      interval
    If the labels do not name the speaker, it comes from the scores, provided that all utterances of the label have the same.
    joined: the result of `joining.join`.
    """

    frame: pl.DataFrame
    joined: Joined


def read_scores(path: Path) -> tuple[pl.DataFrame, Scale]:
    """The `COLUMNS` and `ENDS` of the table of scores at `path`, with null instead of NaN, and the scores' scale.

    The scale is [low, high] under `scale` in the table's lineage. TableError for a table that is missing, damaged or empty, that
    has no scores, or whose scale is missing or not the same in all parts.
    """
    if not path.exists():
        raise TableError(path, "does not exist", "write it with msfser predict, or name another table before the options")
    files = tables.files(path)
    columns = [set(tables.open_file(file, COLUMNS)[0].schema_arrow.names) for file in files]
    ends = [c for c in ENDS if all(c.name in names for names in columns)]
    table = tables.read(path, [*COLUMNS, *ends])
    scales = {_scale_of(file) for file in files}
    if len(scales) > 1:
        raise TableError(path, f"its parts have different scales, {' and '.join(map(str, sorted(scales)))}", "predict it again")
    frame = pl.DataFrame(pl.from_arrow(table)).with_columns(
        pl.col(*DIMENSIONS, *(c.name for c in ends)).fill_nan(None),
        *(pl.lit(None, pl.Float64).alias(c.name) for c in ENDS if c not in ends),
    )
    if frame.is_empty():
        raise TableError(path, "has no utterances", "choose a table of recordings with speech")
    if frame["utterance_id"].is_duplicated().any():
        twice = frame["utterance_id"].filter(frame["utterance_id"].is_duplicated())[0]
        raise TableError(path, f"has the utterance {twice!r} more than once", "predict it again")
    return frame, scales.pop()


def _scale_of(file: Path) -> Scale:
    try:
        low, high = tables.read_lineage(file).extra["scale"]
        scale = Scale(float(low), float(high))
    except (KeyError, TypeError, ValueError):
        raise TableError(file, "does not say the scale of its scores", "predict it again") from None
    if not (math.isfinite(scale.low) and math.isfinite(scale.high) and scale.low < scale.high):
        raise TableError(file, f"the scale of its scores, {scale}, is not valid", "predict it again")
    return scale


def level_of(path: Path) -> float | None:
    """The level of the prediction intervals in the table at `path`, 0..1; None if its lineage does not say."""
    level = tables.read_lineage(path).extra.get("level")
    return float(level) if isinstance(level, int | float) else None


def identity_of(gold: Path) -> str:
    """By which a table remembers the labels that it was calibrated on: the sha256 of the file, or the path of a folder."""
    return hashlib.sha256(gold.read_bytes()).hexdigest() if gold.is_file() else str(gold)


def is_calibrated_on(path: Path, gold: Path) -> bool:
    """Whether the prediction intervals in the table at `path` come from the labels `gold`."""
    return tables.read_lineage(path).settings.get("predict", {}).get("calibrated_on") == identity_of(gold)


def pair(scores: pl.DataFrame, labels: Labels) -> Pairs:
    """The labels with their scores. scores: the `COLUMNS` and `ENDS`, one row per utterance.

    A label's score is the mean over its utterances (see `joining.join`), weighted by the time that they share with the label. For
    a whole recording, that is the duration-weighted mean. LabelError if `joining.join` cannot match them.
    """
    joined = join(scores, labels)
    ends = [c.name for c in ENDS]
    values = scores.select("utterance_id", named("speaker").alias("spoken_by"), *DIMENSIONS, *ends)
    of_labels = joined.frame.join(values, on="utterance_id", how="left", maintain_order="left")
    means = of_labels.group_by("row", maintain_order=True).agg(
        pl.col("recording_id").first(),
        pl.len().alias("utterances"),
        pl.col("overlap").sum().alias("duration"),
        pl.when(pl.col("spoken_by").n_unique() == 1).then(pl.col("spoken_by").first()),
        *(weighted_mean(d, pl.col("overlap")).alias(f"{d}_score") for d in DIMENSIONS),
        *(pl.when(pl.len() == 1).then(pl.col(e).first()).alias(e) for e in ends),
    )
    frame = labels.frame.join(means, on="row", how="inner", maintain_order="left")
    speaker = pl.coalesce("speaker", "spoken_by")
    return Pairs(frame.with_columns(speaker, cluster=pl.coalesce(speaker, "cluster")).drop("spoken_by"), joined)


def weighted_mean(dimension: str, weight: pl.Expr) -> pl.Expr:
    """The weighted mean of the utterances' scores. Missing scores do not count. Null if all are missing."""
    score = pl.col(dimension)
    return ((score * weight).sum() / weight.filter(score.is_not_null()).sum()).fill_nan(None)


def to_scale(pairs: pl.DataFrame, scores: Scale, labels: Scale) -> pl.DataFrame:
    """`pairs` with the scores and their intervals mapped linearly from the scale `scores` to the scale `labels`."""
    if scores == labels:
        return pairs
    parts = (pl.col(f"{d}_{part}") for d in DIMENSIONS for part in ("score", "low", "high"))
    return pairs.with_columns(scores.onto(labels, part) for part in parts)
