"""Confidence intervals for CCC and other metrics when ratings are not independent: the cluster bootstrap, in NumPy only.

Utterances of one speaker (or one recording) vary together. So each resample draws whole clusters with replacement, as many as
the data have. The metrics need only seven sums per cluster. The sum over a resample is the sum over clusters, weighted by how
often each was drawn. All resamples are therefore one matrix product, and its cost does not depend on the number of utterances.

The interval is the expanded percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap"). It takes the
resamples' percentiles, but further out than 2.5 and 97.5. How far follows from Student's t and from the 1/n variance of the
bootstrap, which matter with few clusters. It needs no transformation, so it also works for differences of CCCs.

On simulated speakers with their own offsets and slopes, it holds the true CCC at almost the nominal rate. Plain percentiles and
BCa do so less often, and intervals that ignore clusters much less often. A symmetric bootstrap-t does so slightly more often, but
is longer. tests/statistics/test_bootstrap.py repeats this on a small scale.
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
"""With fewer clusters there is no interval: four clusters can be drawn in only 35 ways."""

FEW_CLUSTERS = 10
"""With fewer clusters an interval is unreliable: a single unusual speaker can determine it."""

MOST_CLUSTERS = 2_000
"""More clusters than this are put into this many groups at random, and each group is drawn as one cluster. Groups of independent
clusters are independent too. The relative error of the interval's length is about 1 / sqrt(2 x 2000), or 1.6 %.
"""

SUMS = 7
"""The number of sums per cluster: n, sum x, sum y, sum x^2, sum y^2, sum xy, sum |x - y|."""

_UNDEFINED_SHARE = 0.01
_ROUNDING = 1e-13
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An interval from `low` to `high` at `LEVEL`, from `clusters` clusters. If it is undefined, both are NaN and `not_defined`
    says why.
    """

    low: float
    high: float
    clusters: int
    not_defined: str | None = None

    @property
    def few(self) -> bool:
        """Whether it comes from fewer than `FEW_CLUSTERS` clusters."""
        return self.clusters < FEW_CLUSTERS


def cluster_sums(cluster: ArrayLike, count: int, truth: ArrayLike, prediction: ArrayLike, origin: float = 0.0) -> Array:
    """The `SUMS` of each of `count` clusters: float64 [count, 7].

    cluster: the cluster of each pair, 0 <= cluster < count. truth, prediction: equally long; a pair with a NaN is left out.
    origin: it is subtracted from both sides. This does not change the CCC if all sums have the same origin. An origin near the
    values avoids the rounding error of large offsets.
    """
    codes = np.asarray(cluster)
    x, y = np.asarray(truth, dtype=np.float64) - origin, np.asarray(prediction, dtype=np.float64) - origin
    complete = np.isfinite(x) & np.isfinite(y)
    codes, x, y = codes[complete], x[complete], y[complete]
    terms = (np.ones_like(x), x, y, x * x, y * y, x * y, np.abs(x - y))
    return np.stack([np.bincount(codes, weights, count) for weights in terms], axis=1)


def ccc(sums: Array) -> Array:
    """Lin's concordance correlation coefficient, -1..1, from sums [..., 7]: [...].

    NaN for fewer than two pairs, or if both sides are the same constant.
    """
    n, x, y, xx, yy, xy, _ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = xx + yy
        return _ratio(2 * (xy - x * y / n), squares - 2 * x * y / n, squares, n > 1)


def pearson(sums: Array) -> Array:
    """Pearson's correlation, -1..1, from sums [..., 7]: [...]. NaN for fewer than two pairs, or if a side is constant."""
    n, x, y, xx, yy, xy, _ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        var_x, var_y = np.maximum(xx - x * x / n, 0), np.maximum(yy - y * y / n, 0)
        defined = (n > 1) & (var_x > _ROUNDING * xx) & (var_y > _ROUNDING * yy)
        return np.clip(_ratio(xy - x * y / n, np.sqrt(var_x * var_y), np.zeros_like(n), defined), -1, 1)


def rmse(sums: Array) -> Array:
    """Root mean squared error, in the scale's unit, from sums [..., 7]: [...]. NaN without pairs."""
    n, _, _, xx, yy, xy, _ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error: Array = np.sqrt(np.maximum(xx + yy - 2 * xy, 0) / n)
    return error


def mae(sums: Array) -> Array:
    """Mean absolute error, in the scale's unit, from sums [..., 7]: [...]. NaN without pairs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error: Array = sums[..., 6] / sums[..., 0]
    return error


def resampled(sums: Array, resamples: int, seed: int, metrics: Sequence[Callable[[Array], Array]] = (ccc,)) -> Array:
    """Each of `metrics` in each of `resamples` draws of the clusters: float64 [metrics, resamples, samples].

    sums: float64 [clusters, samples, 7]. All samples use the same draws, so their differences are paired.
    """
    rng = np.random.default_rng(seed)
    sums = _grouped(sums, rng)
    count, samples, _ = sums.shape
    flat = np.ascontiguousarray(sums.reshape(count, samples * SUMS))
    batch = max(1, _CELLS_AT_ONCE // max(count, 1))
    values = np.empty((len(metrics), resamples, samples))
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        drawn = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        drawn_sums = (times @ flat).reshape(rows, samples, SUMS)
        for i, metric in enumerate(metrics):
            values[i, start:start + rows] = metric(drawn_sums)
    return values


def interval(values: Array, clusters: int) -> Interval:
    """The expanded percentile interval of a statistic. values: float64 [resamples], from draws of `clusters` clusters."""
    if clusters < LEAST_CLUSTERS:
        return Interval(math.nan, math.nan, clusters, f"{clusters} clusters, but at least {LEAST_CLUSTERS} are needed")
    defined = values[np.isfinite(values)]
    if len(defined) < (1 - _UNDEFINED_SHARE) * len(values):
        return Interval(math.nan, math.nan, clusters, "many resamples have too few or too uniform values")
    tail = _tail(clusters)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), clusters)


def _ratio(numerator: Array, denominator: Array, size: Array, defined: NDArray[np.bool_]) -> Array:
    """The ratio, or NaN where it is not `defined` or where the denominator is within the rounding error of numbers of `size`."""
    valid = defined & (denominator > _ROUNDING * size)
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=valid)


def _tail(clusters: int) -> float:
    """The share of the resamples beyond each end: Phi(-sqrt(c / (c - 1)) t). t: quantile of Student's t with c - 1 degrees."""
    degrees = clusters - 1
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    # Abramowitz and Stegun (1964), 26.7.5.
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
             (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160)
    t = z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
    return NormalDist().cdf(-math.sqrt(clusters / degrees) * t)


def _grouped(sums: Array, rng: np.random.Generator) -> Array:
    """`sums` if there are at most `MOST_CLUSTERS` clusters, else the sums of that many random groups of clusters."""
    if len(sums) <= MOST_CLUSTERS:
        return sums
    starts = np.linspace(0, len(sums), MOST_CLUSTERS, endpoint=False).astype(np.int64)
    grouped: Array = np.add.reduceat(sums[rng.permutation(len(sums))], starts, axis=0)
    return grouped
