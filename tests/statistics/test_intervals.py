from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.statistics.intervals import FEW_SPEAKERS, Intervals, calibrate, least


def _sample(rng: np.random.Generator, speakers: int, each: int, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores on 0..1, ratings around them with an offset of the speaker's own, names."""
    names = [f"s{i}" for i in range(speakers) for _ in range(each)]
    scores = rng.uniform(0.2, 0.8, (len(names), 3))
    offsets = np.repeat(rng.normal(0, spread / 2, (speakers, 3)), each, axis=0)
    return scores, scores + offsets + rng.normal(0, spread, scores.shape), names


def _coverage(speakers: int, level: float) -> float:
    """The mean over 200 draws of so many speakers to calibrate on and 20 to be judged on."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        known = calibrate(*_sample(rng, speakers, 200 // speakers), level)
        scores, ratings, _ = _sample(rng, 20, 10)
        ends = known.around(scores, -9, 9)
        shares.append(((ratings >= ends[..., 0]) & (ratings <= ends[..., 1])).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_new_speakers_are_covered_as_promised(level: float) -> None:
    assert _coverage(20, level) == pytest.approx(level, abs=0.02)


def test_few_speakers_undercover() -> None:
    assert 0.87 < _coverage(FEW_SPEAKERS, 0.9) < 0.91
    assert 0.83 < _coverage(2, 0.9) < 0.88


def test_a_talkative_speaker_counts_no_more_than_another() -> None:
    rng = np.random.default_rng(0)
    scores = np.full((1900, 3), 0.5)
    names = ["loud"] * 1000 + [f"s{i}" for i in range(9) for _ in range(100)]
    ratings = scores + np.where(np.array(names) == "loud", 0.5, 0.05)[:, None] * rng.uniform(-1, 1, scores.shape)
    reach = calibrate(scores, ratings, names, 0.8).above[0]
    assert reach is not None
    assert reach < 0.1  # half of the utterances are loud's, and one speaker in ten


@given(st.integers(0, 60), st.sampled_from([0.5, 0.8, 0.9]), st.integers(0, 10**6))
def test_as_many_ratings_as_it_says_are_enough_and_fewer_are_not(count: int, level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, ratings = rng.uniform(size=(2, count, 3))
    names = [str(i) for i in range(count)]
    if count < least(level):
        with pytest.raises(ValueError, match=f"at least {least(level)} ratings"):
            calibrate(scores, ratings, names, level)
    else:
        known = calibrate(scores, ratings, names, level)
        ends = known.around(scores, 0, 1)
        inside = ((ratings >= ends[..., 0]) & (ratings <= ends[..., 1])).mean(axis=0)
        assert (inside >= level - 1e-9).all()
        assert (ends[..., 0] <= scores).all()
        assert (ends[..., 1] >= scores).all()
        assert ends.min() >= 0
        assert ends.max() <= 1


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("count", [19, 20, 33, 60])
def test_speakers_of_one_utterance_give_the_textbook_quantiles(count: int, level: float) -> None:
    """The ceil((n + 1) (1 + level) / 2)-th smallest residual, and the same of its negative."""
    residuals = np.random.default_rng(count).permutation(np.arange(1, count + 1) - count / 2)
    scores = np.zeros((count, 3))
    known = calibrate(scores, scores + residuals[:, None], [str(i) for i in range(count)], level)
    rank = math.ceil((count + 1) * (1 + level) / 2 - 1e-9)
    assert known.above[0] == sorted(residuals)[rank - 1]
    assert known.below[0] == sorted(-residuals)[rank - 1]


def test_a_dimension_with_too_few_ratings_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    scores, ratings, names = _sample(rng, 10, 5)
    ratings[:40, 2] = np.nan
    ratings[:6] = np.nan  # all that s0 has, and one more
    known = calibrate(scores, ratings, names, 0.9)
    assert (known.utterances, known.speakers) == (44, 9)
    assert known.above[2] is None
    assert known.above[0] is not None
    ends = known.around(scores, 0, 1)
    assert np.isnan(ends[:, 2]).all()
    assert not np.isnan(ends[:, :2]).any()
    assert Intervals.from_json(json.loads(json.dumps(known.to_json()))) == known


def test_an_utterance_that_is_scored_in_two_ways_counts_once() -> None:
    """With equal scores, the intervals are those of one way. Of 19 ratings, the farthest has to be inside."""
    rng = np.random.default_rng(0)
    for speakers, each in ((30, 1), (5, 6)):  # if each counted twice, the 29th of 30 would be far enough
        scores, ratings, names = _sample(rng, speakers, each)
        assert calibrate(np.stack([scores, scores]), ratings, names, 0.9) == calibrate(scores, ratings, names, 0.9)
    scores, ratings, names = _sample(rng, 19, 1)
    both = calibrate(np.stack([scores, scores - 0.5]), ratings, names, 0.9)
    assert both.above == pytest.approx((ratings - scores + 0.5).max(axis=0))
    assert both.utterances == 19
    with pytest.raises(ValueError, match="at least 19 ratings"):
        calibrate(np.stack([scores, scores])[:, 1:], ratings[1:], names[1:], 0.9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", 1), ("level", "0.9"), ("below", [0.1, 0.1]), ("below", [0.1, 0.1, -1]), ("above", [0.1, 0.1, float("inf")]),
        ("above", [0.1, 0.1, None]), ("utterances", 0), ("speakers", 1.5),
    ],
)  # fmt: skip
def test_values_out_of_bounds_are_refused_by_name(name: str, value: Any) -> None:
    fields = {"level": 0.9, "below": [0.1] * 3, "above": [0.1] * 3, "utterances": 10, "speakers": 2}
    assert Intervals.from_json(fields)
    with pytest.raises(ValueError, match=name):
        Intervals.from_json({**fields, name: value})
    with pytest.raises(ValueError, match="exactly the fields"):
        Intervals.from_json({**fields, "more": 1})
