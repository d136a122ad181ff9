"""Conformal prediction intervals: how far off a score may be, in NumPy only.

This is split conformal prediction (Vovk 2005; Lei 2018) on signed residuals. On speakers outside the training set, the residual
r = rating - score has the quantiles q(alpha / 2) and q(1 - alpha / 2). The interval of a new utterance is the score plus these
two. If needed, it is widened to contain the score itself, and cut at the ends of the scale. Each speaker counts the same, however
many utterances they have (pooled distribution functions, Dunn 2022), because the intervals are for a new speaker.

The new utterance counts as one more beyond all others, with the weight of an average utterance. The weight of a whole speaker
would be safe for any number of speakers. But with fewer than (1 + level) / (1 - level) speakers, which is 19 for 90 %, intervals
would reach the farthest residual. So msfser states the number of speakers instead, and warns below `FEW_SPEAKERS`.

Intervals are valid for speech similar to the calibration data. For other speech, calibrate on a sample of it.

With few speakers, it is uncertain how much speakers differ, and the intervals contain less than `level` of a new speaker's
ratings. tests/statistics/test_intervals.py measures this on simulated speakers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from msfser_cli.schemas import DIMENSIONS
from msfser_cli.settings import require_fields

_FIRST = ("level", "below", "above", "utterances", "speakers")
"""The fields of the first version. A field that is added later needs a default, because older heads and tables lack it."""

FEW_SPEAKERS = 10
"""Intervals from fewer speakers contain clearly less than `level` of the ratings."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """The widths of the intervals. Raises ValueError, with the field's name, for a value out of bounds.

    level: the share of ratings that the intervals should contain, above 0 and below 1.
    below, above: how far the intervals reach below and above the score, for each of `DIMENSIONS`, in the scale's units, at least
    0; None for a dimension that is not calibrated.
    utterances, speakers: the numbers of rated utterances and of their speakers in the calibration data.
    """

    level: float
    below: tuple[float | None, ...]
    above: tuple[float | None, ...]
    utterances: int
    speakers: int

    def __post_init__(self) -> None:
        if isinstance(self.level, bool) or not isinstance(self.level, (int, float)) or not 0 < self.level < 1:
            raise ValueError(f"level must be above 0 and below 1, not {self.level!r}")
        for name in ("below", "above"):
            reach = getattr(self, name)
            if not isinstance(reach, tuple) or len(reach) != len(DIMENSIONS) or not all(map(_is_reach, reach)):
                raise ValueError(f"{name} must be {len(DIMENSIONS)} numbers of at least 0, or null, not {reach!r}")
        if [x is None for x in self.below] != [x is None for x in self.above]:
            raise ValueError("below and above must be null for the same dimensions")
        for name in ("utterances", "speakers"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {count!r}")

    def around(self, scores: np.ndarray, low: float, high: float) -> np.ndarray:
        """The intervals of scores [n, 3] on a scale from `low` to `high`: [n, 3, 2]. NaN for dimensions without calibration."""
        below, above = (np.array([np.nan if x is None else x for x in reach]) for reach in (self.below, self.above))
        return np.stack([np.maximum(scores - below, low), np.minimum(scores + above, high)], axis=-1)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Intervals:
        """The intervals that this or an earlier version's `to_json` wrote.

        ValueError if `config.require_fields` refuses the fields, or for a value out of bounds.
        """
        require_fields(cls, values, _FIRST)
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**plain)


def least(level: float) -> int:
    """The smallest number of ratings from which intervals of this level can be calibrated."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)


def calibrate(scores: np.ndarray, ratings: np.ndarray, speakers: Sequence[str], level: float) -> Intervals:
    """The intervals that contain the share `level` of the ratings of such speakers.

    ratings: float [n, 3]; NaN is missing. scores: in the same scale, [n, 3], or [W, n, 3] if the utterances are scored in W ways,
    which the intervals are to serve alike. Another way adds no rating, so the number of utterances stays n. The model of the
    scores must not have been trained on these speakers. speakers: n names. A dimension with fewer ratings than `least` gets no
    interval. ValueError if all have fewer.
    """
    ways = scores if scores.ndim == 3 else scores[None]
    speaker = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)[1]
    reach: list[tuple[float | None, float | None]] = []
    for d, rating in enumerate(ratings.T):
        is_rated = ~np.isnan(rating)
        n = int(is_rated.sum())
        if n < least(level):
            reach.append((None, None))
            continue
        residual, speaker_of = (rating[is_rated] - ways[:, is_rated, d]).ravel(), speaker[is_rated]
        weight = np.tile(1 / np.bincount(speaker_of)[speaker_of], len(ways))
        share = (1 + level) / 2
        lower, upper = (max(0.0, _upper_quantile(sign * residual, weight, share, n)) for sign in (-1, 1))
        reach.append((lower, upper))
    below, above = zip(*reach, strict=True)
    if all(x is None for x in above):
        raise ValueError(f"intervals at level {level:g} need at least {least(level)} ratings, but there are fewer")
    rated = ~np.isnan(ratings).all(axis=1)
    count = len(np.unique(speaker[rated]))
    return Intervals(level=level, below=below, above=above, utterances=int(rated.sum()), speakers=count)


def _upper_quantile(values: np.ndarray, weights: np.ndarray, share: float, n: int) -> float:
    """The smallest value with at least `share` of the weight at or below it, counting one more beyond all `n` utterances."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum() * n / (n + 1)
    return float(values[order][min(int(np.searchsorted(reached, share - 1e-12)), len(values) - 1)])


def _is_reach(value: object) -> bool:
    if value is None:
        return True
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
