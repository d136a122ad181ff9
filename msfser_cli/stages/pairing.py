"""Scores as predict wrote them, beside the labels that they are for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from msfser_cli.errors import TableError
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.schemas import PREDICT, columns_through
from msfser_cli.stages.clusters import named
from msfser_cli.stages.joining import Joined, join
from msfser_cli.stages.labels import Labels, Scale
from msfser_cli.store import tables

_READ = ("recording_id", "utterance_id", "start", "end", "speaker", *DIMENSIONS)
COLUMNS = tuple(c for c in columns_through("predict") if c.name in _READ)
"""What is read of the scores."""

ENDS = tuple(c for c in PREDICT if c.name in {f"{d}_{end}" for d in DIMENSIONS for end in ("low", "high")})
"""What is read of them besides, null where it is not there: the scores' intervals."""


@dataclass(frozen=True)
class Pairs:
    """Labels beside the scores that belong to them.

    frame: one row a matched label, in the label file's order: the columns of `Labels.frame`, `recording_id`, `utterances` (how
    many it is about), `duration` (s: the time that these share with it), and for each dimension `<dimension>_score`, in the
    scores' own scale (null where every score is missing), `<dimension>_low` and `<dimension>_high` (null unless it is one
    utterance with an interval). A speaker whom the labels do not name is the one that all of the label's utterances have, if the
    scores know one.
    joined: how they were found.
    """

    frame: pl.DataFrame
    joined: Joined


def read_scores(path: Path) -> tuple[pl.DataFrame, Scale]:
    """The `COLUMNS` and `ENDS` of the scores at `path`, NaN as null, and their scale: [low, high] under `scale` in the lineage.

    TableError for a table that is missing, damaged, empty, without scores or without one known scale.
    """
    if not path.exists():
        raise TableError(path, "is not there", "`msfser predict` writes it; name another table before the options")
    files = tables.files(path)
    there = [set(tables.open_file(file, COLUMNS)[0].schema_arrow.names) for file in files]
    ends = [c for c in ENDS if all(c.name in names for names in there)]
    table = tables.read(path, [*COLUMNS, *ends])
    scales = {_scale_of(file) for file in files}
    if len(scales) > 1:
        raise TableError(path, f"its parts are on different scales, {' and '.join(map(str, sorted(scales)))}", "predict it again")
    frame = pl.DataFrame(pl.from_arrow(table)).with_columns(
        pl.col(*DIMENSIONS, *(c.name for c in ends)).fill_nan(None),
        *(pl.lit(None, pl.Float64).alias(c.name) for c in ENDS if c not in ends),
    )
    if frame.is_empty():
        raise TableError(path, "holds no utterances", "there is nothing to evaluate")
    if frame["utterance_id"].is_duplicated().any():
        twice = frame["utterance_id"].filter(frame["utterance_id"].is_duplicated())[0]
        raise TableError(path, f"holds the utterance {twice!r} more than once", "predict it again")
    return frame, scales.pop()


def _scale_of(file: Path) -> Scale:
    try:
        low, high = tables.read_lineage(file).extra["scale"]
        scale = Scale(float(low), float(high))
    except (KeyError, TypeError, ValueError):
        raise TableError(file, "does not say the scale of its scores", "predict it again") from None
    if not (math.isfinite(scale.low) and math.isfinite(scale.high) and scale.low < scale.high):
        raise TableError(file, f"says that its scores are on {scale}, which is no scale", "predict it again")
    return scale


def level_of(path: Path) -> float | None:
    """The level of the intervals in the scores at `path`, from 0 to 1, as far as their lineage says."""
    level = tables.read_lineage(path).extra.get("level")
    return float(level) if isinstance(level, int | float) else None


def pair(scores: pl.DataFrame, labels: Labels) -> Pairs:
    """The labels and the scores that belong to them; `scores` has the `COLUMNS` and `ENDS`, one row an utterance.

    A label's score is the mean over its utterances (see `joining.join`), weighted by the time that they share with it; for a
    whole recording that is the duration-weighted mean. LabelError as `joining.join`.
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
    """The mean of the utterances' scores; one that is missing does not weigh, and all missing make null."""
    score = pl.col(dimension)
    return ((score * weight).sum() / weight.filter(score.is_not_null()).sum()).fill_nan(None)


def to_scale(pairs: pl.DataFrame, scores: Scale, labels: Scale) -> pl.DataFrame:
    """`pairs` with the scores and their intervals brought from one scale to the other."""
    if scores == labels:
        return pairs
    parts = (pl.col(f"{d}_{part}") for d in DIMENSIONS for part in ("score", "low", "high"))
    return pairs.with_columns(scores.onto(labels, part) for part in parts)
