"""Intervals for CCC and its kin when ratings are not independent: the cluster bootstrap, in NumPy only.

Utterances of one speaker (or one recording) vary together, so whole clusters are drawn with replacement, as many as there are.
The metrics need only seven sums of each cluster, and a sum over a resample is the sum over clusters weighted by how often each
was drawn: all resamples are one matrix product, whatever the number of utterances.

The interval is Hesterberg's expanded percentile interval (2015, "What teachers should know about the bootstrap"): the resamples'
percentiles, further out than 2.5 and 97.5 by what Student's t and the bootstrap's 1/n variance ask for with so few clusters. It
needs no transformation, so it serves differences of CCCs as well.

Measured on simulated speakers with offsets and slopes of their own, 500 to 1,000 corpora each: with 10 to 60 of them a 95 %
interval held the true CCC in 91 to 95 % of the corpora (least where a few speakers are far out), with 5 in 89 to 95 %. Plain
percentiles reached 87 to 94 %, BCa 81 to 92 %, and intervals that take utterances for independent 31 to 49 %. A symmetric
bootstrap-t held in 93 to 97 % and is a fifth to two thirds longer. tests/model/test_bootstrap.py repeats it in small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEVEL = 0.95
LEAST_CLUSTERS = 5
"""With fewer clusters there is no interval: four can be drawn in only 35 ways."""

FEW_CLUSTERS = 10
"""With fewer clusters an interval is not to be trusted: one unusual speaker makes it."""

MOST_CLUSTERS = 2_000
"""More clusters than this are dealt at random into so many groups, and a group is drawn as one: groups of independent clusters
are independent too. It costs the interval's length a relative error of about 1 / sqrt(2 x 2000), 1.6 %."""

SUMS = 7
"""n, sum x, sum y, sum x^2, sum y^2, sum xy, sum |x - y|."""

_UNDEFINED_SHARE = 0.01
_ROUNDING = 1e-13
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """`low` to `high` at `LEVEL`, from `clusters` clusters. NaN where it is not defined, and `not_defined` says why."""

    low: float
    high: float
    clusters: int
    not_defined: str | None = None

    @property
    def few(self) -> bool:
        """Whether it stands on fewer than `FEW_CLUSTERS`."""
        return self.clusters < FEW_CLUSTERS


def cluster_sums(cluster: ArrayLike, count: int, truth: ArrayLike, prediction: ArrayLike, origin: float = 0.0) -> Array:
    """The `SUMS` of each of `count` clusters: shape (count, 7).

    cluster: the number of each pair's cluster, 0 <= cluster < count. A pair with a NaN is left out. `origin` is taken from both
    sides: it changes no CCC if all sums have the same, and one near the values keeps large offsets from costing digits.
    """
    codes = np.asarray(cluster)
    x, y = np.asarray(truth, dtype=np.float64) - origin, np.asarray(prediction, dtype=np.float64) - origin
    there = np.isfinite(x) & np.isfinite(y)
    codes, x, y = codes[there], x[there], y[there]
    terms = (np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y))
    return np.stack([np.bincount(codes, weights, count) for weights in terms], axis=1)


def ccc(sums: Array) -> Array:
    """CCC from sums of shape (..., 7): shape (...). NaN for fewer than two pairs, or when both sides are the same constant."""
    n, x, y, xx, yy, xy, _ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = xx + yy
        return _ratio(2 * (xy - x * y / n), squares - 2 * x * y / n, squares, n > 1)


def pearson(sums: Array) -> Array:
    """Pearson's correlation, likewise. NaN for fewer than two pairs, or when a side is constant."""
    n, x, y, xx, yy, xy, _ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        var_x, var_y = np.maximum(xx - x * x / n, 0), np.maximum(yy - y * y / n, 0)
        defined = (n > 1) & (var_x > _ROUNDING * xx) & (var_y > _ROUNDING * yy)
        return np.clip(_ratio(xy - x * y / n, np.sqrt(var_x * var_y), np.zeros_like(n), defined), -1, 1)


def rmse(sums: Array) -> Array:
    """Root mean squared error, likewise. NaN for no pairs."""
    n, _, _, xx, yy, xy, _ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error: Array = np.sqrt(np.maximum(xx + yy - 2 * xy, 0) / n)
    return error


def mae(sums: Array) -> Array:
    """Mean absolute error, likewise. NaN for no pairs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error: Array = sums[..., 6] / sums[..., 0]
    return error


def resampled(sums: Array, resamples: int, seed: int, metrics: Sequence[Callable[[Array], Array]] = (ccc,)) -> Array:
    """`metrics` in each of `resamples` draws of the clusters: `sums` (clusters, samples, 7) -> (metrics, resamples, samples).

    All samples are computed on the same draws, so their differences are paired.
    """
    rng = np.random.default_rng(seed)
    sums = _dealt(sums, rng)
    count, samples, _ = sums.shape
    flat = np.ascontiguousarray(sums.reshape(count, samples * SUMS))
    batch = max(1, _CELLS_AT_ONCE // max(count, 1))
    found = np.empty((len(metrics), resamples, samples))
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        drawn = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        drawn_sums = (times @ flat).reshape(rows, samples, SUMS)
        for i, metric in enumerate(metrics):
            found[i, start:start + rows] = metric(drawn_sums)
    return found


def interval(values: Array, clusters: int) -> Interval:
    """The expanded percentile interval of a statistic with `values` in the resamples of `clusters` clusters."""
    if clusters < LEAST_CLUSTERS:
        return Interval(math.nan, math.nan, clusters, f"{clusters} clusters, and at least {LEAST_CLUSTERS} are needed")
    defined = values[np.isfinite(values)]
    if len(defined) < (1 - _UNDEFINED_SHARE) * len(values):
        return Interval(math.nan, math.nan, clusters, "many resamples hold too little to compute it")
    tail = _tail(clusters)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), clusters)


def _ratio(numerator: Array, denominator: Array, size: Array, defined: NDArray[np.bool_]) -> Array:
    """The ratio where it is `defined`, and its denominator more than what rounding leaves of numbers of `size`; else NaN."""
    there = defined & (denominator > _ROUNDING * size)
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=there)


def _tail(clusters: int) -> float:
    """The share of the resamples beyond each end: Phi(-sqrt(c / (c - 1)) t), t the quantile of Student's t with c - 1 degrees."""
    degrees = clusters - 1
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    # Abramowitz and Stegun (1964), 26.7.5.
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
             (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160)
    t = z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
    return NormalDist().cdf(-math.sqrt(clusters / degrees) * t)


def _dealt(sums: Array, rng: np.random.Generator) -> Array:
    """`sums` of at most `MOST_CLUSTERS` groups of clusters."""
    if len(sums) <= MOST_CLUSTERS:
        return sums
    starts = np.linspace(0, len(sums), MOST_CLUSTERS, endpoint=False).astype(np.int64)
    dealt: Array = np.add.reduceat(sums[rng.permutation(len(sums))], starts, axis=0)
    return dealt
