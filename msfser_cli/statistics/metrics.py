"""Agreement between ratings and scores, in NumPy only.

Every function takes two equally long sequences of numbers and returns a float. The result is NaN if it is undefined, or if an
input has a NaN. ValueError if the lengths differ. Moments are population moments (1/N), over all pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


def ccc(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Lin's concordance correlation coefficient (1989), -1..1: 2 cov(x, y) / (var x + var y + (mean x - mean y)^2).

    NaN for fewer than two pairs, or if both sides are the same constant.
    """
    x, y = _pairs(truth, prediction)
    if len(x) < 2:
        return float("nan")
    # A shift of both sides does not change the CCC. With this one, deviations of a constant are exactly zero, and large offsets
    # cause no rounding error.
    origin = x[0]
    x, y = x - origin, y - origin
    mean_x, mean_y = x.mean(), y.mean()
    a, b = x - mean_x, y - mean_y
    denominator = a @ a + b @ b + len(x) * (mean_x - mean_y) ** 2
    return float(2 * (a @ b) / denominator) if denominator > 0 else float("nan")


def pearson(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Pearson's correlation, -1..1. NaN for fewer than two pairs, or if a side is constant."""
    x, y = _pairs(truth, prediction)
    if len(x) < 2:
        return float("nan")
    a, b = x - x[0], y - y[0]
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(a @ a) * np.sqrt(b @ b)
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else float("nan")


def rmse(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Root mean squared error, in the scale's unit. NaN without pairs."""
    x, y = _pairs(truth, prediction)
    return float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else float("nan")


def mae(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error, in the scale's unit. NaN without pairs."""
    x, y = _pairs(truth, prediction)
    return float(np.mean(np.abs(x - y))) if len(x) else float("nan")


def _pairs(truth: ArrayLike, prediction: ArrayLike) -> tuple[Vector, Vector]:
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"truth and prediction must be equally long lists of numbers; their shapes are {x.shape} and {y.shape}")
    return x, y
