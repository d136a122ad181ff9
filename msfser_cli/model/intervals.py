"""How far off a score may be: conformal prediction intervals, in NumPy only.

Split conformal prediction (Vovk 2005; Lei 2018) on signed residuals. On speakers that the model has not learned from, the
residual r = rating - score has the quantiles q(alpha / 2) and q(1 - alpha / 2); a new utterance's interval is the score plus
these two, widened to hold the score itself and cut at the ends of the scale, beyond which there are no ratings. Each speaker
counts alike, however much they said (pooled distribution functions, Dunn 2022): the promise is about a new speaker.

The utterance that is to be scored counts as one more beyond all others, with the weight of an average utterance. The weight of a
whole speaker would be safe for any number of speakers. But below (1 + level) / (1 - level) of them, which is 19 for 90 %,
intervals would reach the farthest residual. So msfser tells the number of speakers instead, and warns below `FEW_SPEAKERS`.

What it promises holds for speech like that which it was calibrated on. For other speech, calibrate on a sample of it.

It takes many speakers to know how much speakers differ. Measured on simulated ones whose offsets vary half as much (as much) as
the rest of the error, 90 % intervals held 90 (89) % of new speakers' ratings when calibrated on 20 speakers, 90 (88) % on 10,
89 (85) % on 5, 86 (78) % on 2. tests/model/test_intervals.py repeats it in small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from msfser_cli.model.config import DIMENSIONS, require_fields

_FIRST = ("level", "below", "above", "utterances", "speakers")
"""The fields of the first version. One that is added needs a default: older heads and tables lack it."""

FEW_SPEAKERS = 10
"""From fewer speakers, intervals hold less than they promise."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Widths of the intervals: for each of `DIMENSIONS` how far they reach below and above the score, in the scale's units.

    level: the share of ratings inside. below, above: at least 0; None where nothing is known of a dimension.
    utterances, speakers: how many with a rating there were. ValueError, naming the field, for a value out of bounds.
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
        """The intervals of scores [n, 3] on a scale from `low` to `high`: [n, 3, 2], NaN where nothing is known."""
        below, above = (np.array([np.nan if x is None else x for x in reach]) for reach in (self.below, self.above))
        return np.stack([np.maximum(scores - below, low), np.minimum(scores + above, high)], axis=-1)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Intervals:
        """What `to_json` wrote, in this version or an earlier one; ValueError as `config.require_fields`, or for a value out of
        bounds."""
        require_fields(cls, values, _FIRST)
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**plain)


def least(level: float) -> int:
    """The least number of ratings that intervals of this level can be calibrated on."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)


def calibrate(scores: np.ndarray, ratings: np.ndarray, speakers: Sequence[str], level: float) -> Intervals:
    """The intervals that hold the share `level` of the ratings of such speakers.

    scores, ratings: float [n, 3] in one scale, from a model that has learned nothing of these speakers; a NaN rating is missing.
    speakers: n names. A dimension with fewer ratings than `least` gets none. ValueError when no dimension has as many.
    """
    who = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)[1]
    reach: list[tuple[float | None, float | None]] = []
    for score, rating in zip(scores.T, ratings.T, strict=True):
        known = ~np.isnan(rating)
        if known.sum() < least(level):
            reach.append((None, None))
            continue
        residual, of = rating[known] - score[known], who[known]
        weight = 1 / np.bincount(of)[of]
        share = (1 + level) / 2
        reach.append((max(0.0, _upper_quantile(-residual, weight, share)), max(0.0, _upper_quantile(residual, weight, share))))
    below, above = zip(*reach, strict=True)
    if all(x is None for x in above):
        raise ValueError(f"intervals at {level:g} need at least {least(level)} ratings, and there are fewer")
    rated = ~np.isnan(ratings).all(axis=1)
    return Intervals(level=level, below=below, above=above, utterances=int(rated.sum()), speakers=len(np.unique(who[rated])))


def _upper_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The smallest value with at least `share` of the weight at or under it, one more utterance counted as beyond all of them."""
    order = np.argsort(values, kind="stable")
    n = len(values)
    reached = np.cumsum(weights[order]) / weights.sum() * n / (n + 1)
    return float(values[order][min(int(np.searchsorted(reached, share - 1e-12)), n - 1)])


def _is_reach(value: object) -> bool:
    if value is None:
        return True
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
