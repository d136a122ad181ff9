"""evaluate: compares scores with labels, by recording, segment or utterance, with intervals that account for speakers.

The steps are `read_labels`, `read_scores`, `pair`, then `agreement`, `difference` and `groups`. Scores are mapped linearly to the
labels' scale, so RMSE and MAE are in the labels' units. CCC and Pearson would be the same on the scores' scale. Intervals come
from `statistics.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.clusters import cluster_kind, kinds
from msfser_cli.evaluation.joining import Unmatched, unmatched
from msfser_cli.evaluation.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.evaluation.pairing import is_calibrated_on, level_of, pair, read_scores, to_scale
from msfser_cli.statistics import bootstrap, metrics
from msfser_cli.statistics.bootstrap import Interval

BY = ("gender", "speaker", "split", "language", "duration")
DURATIONS = (3, 5, 8, 12)
"""The limits between the groups of `duration`, in seconds."""

SMALL = 50
"""A group with fewer pairs is marked as small, and so is one with fewer than `bootstrap.FEW_CLUSTERS` clusters. Even with 50
independent pairs, a CCC of .5 is uncertain by about .2 in both directions.
"""

CONSTANT = "all labels or all scores are the same number"
"""The reason why a group's CCC is 0 or undefined, and has no interval."""

Metric = Callable[[np.ndarray], np.ndarray]
METRICS: dict[str, Metric] = {"ccc": bootstrap.ccc, "pearson": bootstrap.pearson, "rmse": bootstrap.rmse, "mae": bootstrap.mae}


@dataclass(frozen=True)
class Agreement:
    """The agreement of one dimension over `n` pairs. Undefined numbers are NaN, and `not_defined` says which and why.

    ccc, pearson: -1..1. rmse, mae: in the labels' units. intervals: by metric.
    unlabelled, unscored: matched rows that are left out because the label, or each of its scores, is missing.
    """

    n: int
    ccc: float
    pearson: float
    rmse: float
    mae: float
    intervals: dict[str, Interval]
    unlabelled: int
    unscored: int
    not_defined: str | None = None


@dataclass(frozen=True)
class Difference:
    """The CCC of two systems for one dimension, on the `n` labels that both score. difference: first minus second, -2..2."""

    n: int
    ccc: float
    other: float
    difference: float
    interval: Interval


@dataclass(frozen=True)
class Group:
    """The agreement within a group of labels. clusters: their number. small: too few pairs or clusters to be reliable."""

    name: str
    n: dict[str, int]
    clusters: int
    ccc: dict[str, float]
    intervals: dict[str, Interval]
    small: bool


@dataclass(frozen=True)
class Groups:
    """The groups of one column. gap: for gender, the CCC of female minus male speakers. unknown: labels without a group."""

    by: str
    groups: tuple[Group, ...]
    gap: dict[str, Difference]
    unknown: int


@dataclass(frozen=True)
class Coverage:
    """How often the prediction interval of a score contains the label, over the `n` labels of single utterances.

    share: of labels in the interval, 0..1. level: the share that the intervals should contain; None if the table does not say.
    width: the mean width of the intervals, in the labels' units.
    """

    n: int
    share: float
    width: float
    level: float | None


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    label_scale_source: how the labels' scale was determined. clusters: the number of clusters by kind. splits: the number of
    labels by split, matched or not. is_calibrated_on_gold: whether the prediction intervals come from these
    labels. pairs: the frame of `Pairs`, with the scores in the labels' scale.
    """

    scores: str
    gold: str
    label_format: str
    columns: dict[str, str]
    label_scale: Scale
    label_scale_source: str
    labels_outside_scale: int
    labels_ignored: int
    score_scale: Scale
    splits: dict[str, int]
    split: str | None
    unit: str
    matched: int
    matched_by: dict[str, int]
    unmatched_labels: Unmatched
    unmatched_recordings: Unmatched
    unmatched_utterances: Unmatched
    clusters: dict[str, int]
    resamples: int
    seed: int
    dimensions: dict[str, Agreement]
    coverage: dict[str, Coverage]
    is_calibrated_on_gold: bool
    other: str | None
    differences: dict[str, Difference]
    groups: tuple[Groups, ...]
    pairs: pl.DataFrame = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The fields by name without `pairs`, ready for `json.dumps`. Undefined numbers are null."""
        document = asdict(self)
        del document["pairs"]
        for key in ("label_scale", "score_scale"):
            scale: Scale = getattr(self, key)
            document[key] = {"low": scale.low, "high": scale.high}
        return {key: _finite(value) for key, value in document.items()}


def _finite(value: Any) -> Any:
    """`value` with None instead of every NaN in it."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def evaluate(
    scores: Path,
    gold: Path,
    *,
    scale: Scale | None = None,
    ignore_outside: bool = False,
    vs: Path | None = None,
    by: Sequence[str] = (),
    split: str | None = None,
    clusters: str = "speaker",
    resamples: int = 10_000,
    seed: int = 0,
) -> Evaluation:
    """The agreement of the table `scores`, from predict, with the labels in `gold`.

    scale: of the labels, if they do not declare it and it cannot be detected. ignore_outside: labels far outside of it count as
    missing. vs: another table of scores to compare with. by: columns of `BY` to report groups of. split: use only the labels of
    this split. clusters: the unit of the bootstrap, `speaker` (if unknown, the podcast or the recording) or `recording`.
    resamples, seed: of the bootstrap.

    Raises TableError for a table without scores. Raises LabelError if the format, the scale or the join of the labels is unclear,
    or if the labels lack what `split` or `by` needs.
    """
    resolved = resolve_scale(read_labels(gold), scale, ignore_outside=ignore_outside)
    labels = resolved.labels
    frame, score_scale = read_scores(scores)
    paired = pair(frame, labels)
    pairs = to_scale(paired.frame, score_scale, resolved.scale)
    of_split = labels.frame
    if split is not None:
        of_split, pairs = _only(labels, split), pairs.filter(pl.col("split") == split)
        if pairs.is_empty():
            raise LabelError(gold, f"no label of the split {split!r} belongs to a scored utterance",
                             "score this split's recordings, or choose another --split")
    pairs = _with_clusters(pairs, clusters)
    rated = labels.rated
    sampling = Sampling(resamples, seed)
    differences = {}
    if vs is not None:
        other_frame, other_scale = read_scores(vs)
        other = to_scale(pair(other_frame, labels).frame, other_scale, resolved.scale)
        differences = {d: difference(pairs, other, d, sampling) for d in rated}
    return Evaluation(
        scores=str(scores),
        gold=str(gold),
        label_format=labels.format,
        columns=labels.columns,
        label_scale=resolved.scale,
        label_scale_source=resolved.source,
        labels_outside_scale=resolved.outside,
        labels_ignored=resolved.ignored,
        score_scale=score_scale,
        splits=dict(labels.frame["split"].drop_nulls().value_counts().sort("split").iter_rows()),
        split=split,
        unit=paired.joined.unit,
        matched=pairs.height,
        matched_by=paired.joined.matched_by,
        unmatched_labels=paired.joined.labels if split is None else unmatched(of_split, pairs, "row", show="recording"),
        unmatched_recordings=paired.joined.recordings,
        unmatched_utterances=paired.joined.utterances,
        clusters=kinds(pairs),
        resamples=resamples,
        seed=seed,
        dimensions={d: agreement(pairs[d], pairs[f"{d}_score"], pairs["cluster"], sampling) for d in rated},
        coverage=_coverage(pairs, rated, level_of(scores)),
        is_calibrated_on_gold=is_calibrated_on(scores, gold),
        other=None if vs is None else str(vs),
        differences=differences,
        groups=tuple(groups(labels, pairs, column, sampling) for column in by),
        pairs=pairs,
    )


@dataclass(frozen=True)
class Sampling:
    """The number of resamples of the bootstrap, and its seed."""

    resamples: int = 10_000
    seed: int = 0


def _only(labels: Labels, split: str) -> pl.DataFrame:
    """The labels of `split`."""
    if "split" not in labels.columns:
        raise LabelError(labels.path, "has no splits", "leave out --split")
    of_split = labels.frame.filter(pl.col("split") == split)
    if of_split.is_empty():
        names = ", ".join(repr(name) for name in labels.frame["split"].drop_nulls().unique().sort())
        raise LabelError(labels.path, f"has no split {split!r}", f"choose from {names}")
    return of_split


def _with_clusters(pairs: pl.DataFrame, clusters: str) -> pl.DataFrame:
    """`pairs` with the cluster's `kind` (`speaker`, `podcast` or `recording`) and its number from 0 as `cluster`."""
    name = pl.col("cluster") if clusters == "speaker" else pl.lit(None, pl.String)
    pairs = pairs.with_columns(kind=cluster_kind(name, pl.col("speaker")), name=pl.coalesce(name, "recording_id"))
    return pairs.with_columns(cluster=pl.struct("kind", "name").rank("dense").cast(pl.Int64) - 1).drop("name")


def _sums(frame: pl.DataFrame, count: int, dimension: str, score: str | None = None) -> np.ndarray:
    """The sums of the clusters in `frame`: float64 [count, 7]."""
    truth, prediction = frame[dimension].to_numpy(), frame[score or f"{dimension}_score"].to_numpy()
    origin = float(np.nanmean(truth)) if np.isfinite(truth).any() else 0.0
    return bootstrap.cluster_sums(frame["cluster"].to_numpy(), count, truth, prediction, origin)


def _drawn(sums: np.ndarray, sampling: Sampling, of: Sequence[Metric] = (bootstrap.ccc,)) -> tuple[np.ndarray, int]:
    """The metrics `of` in each resample, as from `bootstrap.resampled`, and the number of clusters.

    sums: float64 [clusters, samples, 7]. Only clusters with a pair are drawn. The number is that of the sample with the fewest.
    """
    sums = sums[(sums[..., 0] > 0).any(axis=1)]
    resamples = sampling.resamples if len(sums) else 0
    return bootstrap.resampled(sums, resamples, sampling.seed, of), int((sums[..., 0] > 0).sum(axis=0).min())


def agreement(label: pl.Series, score: pl.Series, cluster: pl.Series, sampling: Sampling) -> Agreement:
    """The metrics over the rows with both a label and a score. Both are in the labels' scale. cluster: numbers from 0."""
    both = label.is_not_null() & score.is_not_null()
    truth, prediction = label.filter(both).to_numpy(), score.filter(both).to_numpy()
    n = len(truth)
    ccc, pearson = metrics.ccc(truth, prediction), metrics.pearson(truth, prediction)
    not_defined = None
    if n < 2:
        not_defined = f"CCC and Pearson are undefined: they need at least two pairs, but there {'is one' if n else 'are 0'}"
    elif math.isnan(ccc):
        not_defined = "CCC and Pearson are undefined: all labels and all scores are the same number"
    elif math.isnan(pearson):
        not_defined = f"Pearson is undefined: all {'labels' if np.ptp(truth) == 0 else 'scores'} are the same number"
    frame = pl.DataFrame({"cluster": cluster.filter(both), "label": truth, "label_score": prediction})
    sums = _sums(frame, int(cluster.max() or 0) + 1, "label")  # type: ignore[arg-type]
    drawn, clusters = _drawn(sums[:, None], sampling, tuple(METRICS.values()))
    return Agreement(
        n=n, ccc=ccc, pearson=pearson, rmse=metrics.rmse(truth, prediction), mae=metrics.mae(truth, prediction),
        intervals={name: bootstrap.interval(values[:, 0], clusters) for name, values in zip(METRICS, drawn, strict=True)},
        unlabelled=label.null_count(), unscored=int((label.is_not_null() & score.is_null()).sum()), not_defined=not_defined,
    )


def difference(pairs: pl.DataFrame, other: pl.DataFrame, dimension: str, sampling: Sampling) -> Difference:
    """The CCCs of two systems on the labels that both score, and their difference. Both use the same draws of clusters."""
    theirs = other.select("row", other=f"{dimension}_score")
    both = pairs.join(theirs, on="row", maintain_order="left").drop_nulls([dimension, f"{dimension}_score", "other"])
    count = int(pairs["cluster"].max()) + 1  # type: ignore[arg-type]
    sums = np.stack([_sums(both, count, dimension), _sums(both, count, dimension, "other")], axis=1)
    return _difference(sums, both.height, sampling)


def _difference(sums: np.ndarray, n: int, sampling: Sampling) -> Difference:
    """The first minus the second of two samples. sums: float64 [clusters, 2, 7]."""
    ours, theirs = bootstrap.ccc(sums.sum(axis=0))
    [drawn], clusters = _drawn(sums, sampling)
    interval = bootstrap.interval(drawn[:, 0] - drawn[:, 1], clusters)
    return Difference(n, float(ours), float(theirs), float(ours - theirs), interval)


def groups(labels: Labels, pairs: pl.DataFrame, by: str, sampling: Sampling) -> Groups:
    """The agreement within each group of `by` (one of `BY`). Within a speaker, the clusters are the recordings.

    LabelError if the labels do not have `by`.
    """
    if by == "duration":
        spans = np.array(_spans())[np.searchsorted(DURATIONS, pairs[by].to_numpy(), side="right")]
        pairs = pairs.with_columns(duration=pl.Series(spans.tolist()))
        names = [name for name in _spans() if (spans == name).any()]
    else:
        if pairs[by].null_count() == pairs.height:
            raise LabelError(labels.path, f"has no {by}", f"leave out --by {by}, or add a column {by}")
        names = pairs[by].drop_nulls().unique().sort().to_list()
    if by == "speaker":
        pairs = _with_clusters(pairs.drop("kind"), "recording")
    gap = {}
    if by == "gender" and {"female", "male"} <= set(names):
        count = int(pairs["cluster"].max()) + 1  # type: ignore[arg-type]
        sides = [pairs.filter(pl.col(by) == side) for side in ("female", "male")]
        for d in labels.rated:
            sums = np.stack([_sums(side, count, d) for side in sides], axis=1)
            gap[d] = _difference(sums, int(sums[..., 0].sum()), sampling)
    members = tuple(_group(name, pairs.filter(pl.col(by) == name), labels.rated, sampling) for name in names)
    return Groups(by, members, gap, pairs[by].null_count())


def _spans() -> list[str]:
    inner = [f"{low} to {high} s" for low, high in pairwise(DURATIONS)]
    return [f"under {DURATIONS[0]} s", *inner, f"{DURATIONS[-1]} s and more"]


def _group(name: str, frame: pl.DataFrame, rated: Sequence[str], sampling: Sampling) -> Group:
    frame = frame.with_columns(pl.col("cluster").rank("dense").cast(pl.Int64) - 1)
    count = int(frame["cluster"].max()) + 1  # type: ignore[arg-type]
    sums = {d: _sums(frame, count, d) for d in rated}
    n = {d: int(sums[d][:, 0].sum()) for d in rated}
    intervals = {}
    for d in rated:
        [drawn], clusters = _drawn(sums[d][:, None], sampling)
        intervals[d] = bootstrap.interval(drawn[:, 0], clusters)
        # With constant labels or scores, the CCC of every draw is 0. An interval from 0 to 0 would look certain.
        if n[d] > 1 and np.isnan(bootstrap.pearson(sums[d].sum(axis=0))):
            intervals[d] = Interval(math.nan, math.nan, clusters, CONSTANT)
    return Group(
        name=name,
        n=n,
        clusters=count,
        ccc={d: float(bootstrap.ccc(sums[d].sum(axis=0))) for d in rated},
        intervals=intervals,
        small=min(n.values()) < SMALL or count < bootstrap.FEW_CLUSTERS,
    )


def _coverage(pairs: pl.DataFrame, rated: Sequence[str], level: float | None) -> dict[str, Coverage]:
    coverage = {}
    for d in rated:
        complete = pairs.drop_nulls([d, f"{d}_low", f"{d}_high"])
        if complete.height:
            inside = complete.select(pl.col(d).is_between(f"{d}_low", f"{d}_high").mean()).item()
            width = complete.select((pl.col(f"{d}_high") - pl.col(f"{d}_low")).mean()).item()
            coverage[d] = Coverage(complete.height, inside, width, level)
    return coverage
