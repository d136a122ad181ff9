"""evaluate: scores against labels, joined by recording, segment or utterance.

The chain is `read_labels` -> `pair` -> metrics. The scores are brought to the labels' scale by the straight line between the
two scales' ends, so that RMSE and MAE are in the labels' units (CCC and Pearson are the same either way).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from msfser_cli.errors import TableError
from msfser_cli.model import metrics
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.schemas import columns_through
from msfser_cli.stages.joining import Joined, Unmatched, join
from msfser_cli.stages.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.store import tables

COLUMNS = tuple(c for c in columns_through("predict") if c.name in ("recording_id", "utterance_id", "start", "end", *DIMENSIONS))
"""What is read of the scores."""


@dataclass(frozen=True)
class Agreement:
    """One dimension's agreement over `n` pairs. A number that is not defined is NaN, and `not_defined` says which and why.

    ccc, pearson: -1..1. rmse, mae: in the labels' units. unlabelled, unscored: matched rows left out because the label, or every
    score that belongs to it, is missing.
    """

    n: int
    ccc: float
    pearson: float
    rmse: float
    mae: float
    unlabelled: int
    unscored: int
    not_defined: str | None = None


@dataclass(frozen=True)
class Pairs:
    """Labels beside the scores that belong to them.

    frame: one row a matched label, in the label file's order: the columns of `Labels.frame`, `recording_id`, and for each
    dimension `<dimension>_score`, in the scores' own scale (null where every score is missing). joined: how they were found.
    """

    frame: pl.DataFrame
    joined: Joined


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. `label_scale_source` says how the labels' scale is known."""

    scores: str
    gold: str
    label_format: str
    columns: dict[str, str]
    label_scale: Scale
    label_scale_source: str
    labels_outside_scale: int
    score_scale: Scale
    unit: str
    matched: int
    matched_by: dict[str, int]
    unmatched_labels: Unmatched
    unmatched_recordings: Unmatched
    unmatched_utterances: Unmatched
    dimensions: dict[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`; null for a number that is not defined."""
        document = asdict(self)
        for key in ("label_scale", "score_scale"):
            scale: Scale = getattr(self, key)
            document[key] = {"low": scale.low, "high": scale.high}
        for agreement in document["dimensions"].values():
            agreement.update({k: None for k, v in agreement.items() if isinstance(v, float) and math.isnan(v)})
        return document


def evaluate(scores: Path, gold: Path, *, scale: Scale | None = None) -> Evaluation:
    """Agreement of the table `scores`, which predict wrote, with the labels in the file `gold`.

    `scale` is the labels' scale where it is neither declared nor to be detected. Raises TableError for a table without scores,
    LabelError for labels whose format, scale or join cannot be settled without guessing.
    """
    labels = read_labels(gold)
    resolved = resolve_scale(labels, scale)
    frame, score_scale = read_scores(scores)
    pairs = pair(frame, labels)
    return Evaluation(
        scores=str(scores),
        gold=str(gold),
        label_format=labels.format,
        columns=labels.columns,
        label_scale=resolved.scale,
        label_scale_source=resolved.source,
        labels_outside_scale=resolved.outside,
        score_scale=score_scale,
        unit=pairs.joined.unit,
        matched=pairs.frame.height,
        matched_by=pairs.joined.matched_by,
        unmatched_labels=pairs.joined.labels,
        unmatched_recordings=pairs.joined.recordings,
        unmatched_utterances=pairs.joined.utterances,
        dimensions={d: agreement(pairs.frame[d], pairs.frame[f"{d}_score"], score_scale, resolved.scale) for d in labels.rated},
    )


def read_scores(path: Path) -> tuple[pl.DataFrame, Scale]:
    """The `COLUMNS` of the scores at `path`, NaN as null, and their scale: the pair [low, high] under `scale` in the lineage.

    TableError for a table that is missing, damaged, empty, without scores or without one known scale.
    """
    if not path.exists():
        raise TableError(path, "is not there", "`msfser predict` writes it; name another table before the options")
    table = tables.read(path, COLUMNS)
    scales = {_scale_of(file) for file in tables.files(path)}
    if len(scales) > 1:
        raise TableError(path, f"its parts are on different scales, {' and '.join(map(str, sorted(scales)))}", "predict it again")
    frame = pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col(DIMENSIONS).fill_nan(None))
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


def agreement(label: pl.Series, score: pl.Series, score_scale: Scale, label_scale: Scale) -> Agreement:
    """The metrics over the rows where both `label` and `score` are there, in the labels' scale."""
    both = label.is_not_null() & score.is_not_null()
    truth = label.filter(both).to_numpy()
    prediction = score.filter(both).to_numpy()
    if score_scale != label_scale:
        stretch = (label_scale.high - label_scale.low) / (score_scale.high - score_scale.low)
        prediction = label_scale.low + (prediction - score_scale.low) * stretch
    n = len(truth)
    ccc, pearson = metrics.ccc(truth, prediction), metrics.pearson(truth, prediction)
    not_defined = None
    if n < 2:
        not_defined = f"CCC and Pearson are not defined: two pairs are needed, and there {'is one' if n else 'are none'}"
    elif math.isnan(ccc):
        not_defined = "CCC and Pearson are not defined: all labels and all scores are one number"
    elif math.isnan(pearson):
        not_defined = f"Pearson is not defined: all {'labels' if label.filter(both).n_unique() == 1 else 'scores'} are one number"
    return Agreement(
        n=n, ccc=ccc, pearson=pearson, rmse=metrics.rmse(truth, prediction), mae=metrics.mae(truth, prediction),
        unlabelled=label.null_count(), unscored=int((label.is_not_null() & score.is_null()).sum()), not_defined=not_defined,
    )


def pair(scores: pl.DataFrame, labels: Labels) -> Pairs:
    """The labels and the scores that belong to them; `scores` has the `COLUMNS`, one row an utterance.

    A label's score is the mean over its utterances (see `joining.join`), weighted by the time that they share with it; for a
    whole recording that is the duration-weighted mean. LabelError as `joining.join`.
    """
    joined = join(scores, labels)
    weight = pl.col("overlap")
    values = scores.select("utterance_id", *DIMENSIONS)
    of_labels = joined.frame.join(values, on="utterance_id", how="left", maintain_order="left")
    means = of_labels.group_by("row", maintain_order=True).agg(pl.col("recording_id").first(), **{
        f"{d}_score": ((pl.col(d) * weight).sum() / weight.filter(pl.col(d).is_not_null()).sum()).fill_nan(None)
        for d in DIMENSIONS
    })
    return Pairs(labels.frame.join(means, on="row", how="inner", maintain_order="left"), joined)
