"""The cluster bootstrap: its sums are those of the pairs, and its intervals hold what they promise to hold."""

from __future__ import annotations

import math
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.statistics import bootstrap, metrics

METRICS = {"ccc": bootstrap.ccc, "pearson": bootstrap.pearson, "rmse": bootstrap.rmse, "mae": bootstrap.mae}
ratings = st.floats(1, 7).map(lambda x: round(x, 1))
clustered = st.lists(st.tuples(st.integers(0, 4), ratings, ratings), min_size=2, max_size=40)


def columns(rows: list[tuple[int, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cluster, x, y = (np.array(column) for column in zip(*rows, strict=True))
    return cluster, x, y


@given(clustered, st.sampled_from([0.0, 4.0, -3.0]))
def test_metrics_of_the_sums_are_those_of_the_pairs(rows: list[tuple[int, float, float]], origin: float) -> None:
    cluster, x, y = columns(rows)
    total = bootstrap.cluster_sums(cluster, 5, x, y, origin).sum(axis=0)
    for name, metric in METRICS.items():
        expected = getattr(metrics, name)(x, y)
        if name == "pearson" and min(np.ptp(x), np.ptp(y)) == 0:
            assert math.isnan(metric(total))
        else:
            assert float(metric(total)) == pytest.approx(expected, abs=1e-6, nan_ok=True), name


@given(clustered, st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_a_weighted_sum_of_clusters_is_the_resample(rows: list[tuple[int, float, float]], drawn: list[int]) -> None:
    cluster, x, y = columns(rows)
    times = np.bincount(drawn, minlength=5).astype(float)
    chosen = np.concatenate([np.flatnonzero(cluster == c) for c in drawn])
    weighted = times @ bootstrap.cluster_sums(cluster, 5, x, y, 4.0)
    if len(chosen) < 2:
        assert math.isnan(bootstrap.ccc(weighted))
    else:
        assert float(bootstrap.ccc(weighted)) == pytest.approx(metrics.ccc(x[chosen], y[chosen]), abs=1e-9, nan_ok=True)
        assert float(bootstrap.mae(weighted)) == pytest.approx(metrics.mae(x[chosen], y[chosen]), abs=1e-9)


def test_the_resamples_are_those_of_drawing_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    cluster, x = np.repeat(np.arange(7), 4), rng.normal(size=28)
    y = x + rng.normal(size=28)
    sums = bootstrap.cluster_sums(cluster, 7, x, y)[:, None]
    draws = np.random.default_rng(3).integers(0, 7, (50, 7))
    expected = [metrics.ccc(*(np.concatenate([side[cluster == c] for c in row]) for side in (x, y))) for row in draws]
    [found] = bootstrap.resampled(sums, 50, 3)
    assert found[:, 0] == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 20)  # the draws do not depend on how many fit in memory
    assert np.array_equal(bootstrap.resampled(sums, 50, 3)[0], found)


def test_pairs_that_lack_a_side_are_left_out() -> None:
    sums = bootstrap.cluster_sums([0, 0, 1, 1], 2, [1.0, np.nan, 2.0, 3.0], [1.0, 1.0, np.nan, 5.0])
    assert sums[:, 0].tolist() == [1, 1]
    assert sums.sum(axis=0)[1:3].tolist() == [4, 6]


def test_a_common_offset_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    y = x + rng.normal(size=1000)
    total = bootstrap.cluster_sums(np.zeros(1000, int), 1, x + 1e6, y + 1e6, 1e6).sum(axis=0)
    assert float(bootstrap.ccc(total)) == pytest.approx(metrics.ccc(x, y), abs=1e-9)


def test_what_is_not_defined_is_nan() -> None:
    one = bootstrap.cluster_sums([0], 1, [2.0], [3.0]).sum(axis=0)
    same = bootstrap.cluster_sums([0] * 30, 1, [2.7] * 30, [2.7] * 30, 0.1).sum(axis=0)
    assert math.isnan(bootstrap.ccc(one))
    assert math.isnan(bootstrap.ccc(same))
    assert math.isnan(bootstrap.pearson(same))
    assert math.isnan(bootstrap.mae(np.zeros(bootstrap.SUMS)))


@pytest.mark.parametrize(("clusters", "t"), [(5, 2.7764), (10, 2.2622), (30, 2.0452), (1000, 1.9623)])
def test_the_interval_is_the_expanded_percentile_interval(clusters: int, t: float) -> None:
    normal = np.array([NormalDist().inv_cdf((i + 0.5) / 200_001) for i in range(200_001)])
    found = bootstrap.interval(normal, clusters)
    # Of a normal bootstrap distribution, z quantiles become sqrt(c / (c - 1)) times those of Student's t.
    assert found.high == pytest.approx(t * math.sqrt(clusters / (clusters - 1)), abs=0.005)
    assert found.low == pytest.approx(-found.high, abs=1e-3)
    assert found.few == (clusters < 10)


@pytest.mark.parametrize(("values", "clusters", "says"), [
    (np.ones(100), 1, "1 clusters, but at least 5 are needed"), (np.ones(100), 4, "4 clusters"),
    (np.array([np.nan] * 5 + [1.0] * 95), 20, "many resamples have too few"),
])
def test_an_interval_that_cannot_be_had_says_why(values: np.ndarray, clusters: int, says: str) -> None:
    found = bootstrap.interval(values, clusters)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.not_defined is not None
    assert says in found.not_defined


def corpus(rng: np.random.Generator, speakers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speakers of about 60 utterances, each with ratings around a mean of their own, and scores with an offset and a slope."""
    counts = np.maximum(3, rng.lognormal(np.log(60), 0.6, speakers)).astype(int)
    who = np.repeat(np.arange(speakers), counts)
    rated = 4 + rng.normal(0, 0.6, speakers)[who] + rng.normal(0, 0.8, len(who))
    slope, offset = rng.normal(0.6, 0.15, speakers), rng.normal(0.1, 0.4, speakers)
    return who, rated, 4 + slope[who] * (rated - 4) + offset[who] + rng.normal(0, 0.7, len(who))


def coverage(speakers: int, corpora: int) -> dict[str, float]:
    """How often intervals over speakers, and over utterances as if they were independent, hold the CCC of all speakers."""
    rng = np.random.default_rng(speakers)
    who, rated, scored = corpus(rng, 40_000)
    true = metrics.ccc(rated, scored)
    held = {"speakers": 0, "utterances": 0, "percentiles": 0}
    for seed in range(corpora):
        who, rated, scored = corpus(rng, speakers)
        [drawn] = bootstrap.resampled(bootstrap.cluster_sums(who, speakers, rated, scored, 4.0)[:, None], 1000, seed)
        found = bootstrap.interval(drawn[:, 0], speakers)
        held["speakers"] += found.low <= true <= found.high
        low, high = np.quantile(drawn[:, 0], (0.025, 0.975))
        held["percentiles"] += low <= true <= high
        each = np.arange(len(who))
        [drawn] = bootstrap.resampled(bootstrap.cluster_sums(each, len(who), rated, scored, 4.0)[:, None], 200, seed)
        found = bootstrap.interval(drawn[:, 0], len(who))
        held["utterances"] += found.low <= true <= found.high
    return {kind: count / corpora for kind, count in held.items()}


def bounds(low: float, high: float, corpora: int) -> tuple[float, float]:
    """Where a share of so many corpora lies whose mean is between the two: three standard errors beyond them."""
    return low - 3 * math.sqrt(low * (1 - low) / corpora), high + 3 * math.sqrt(high * (1 - high) / corpora)


def test_intervals_over_speakers_hold_the_truth_and_those_over_utterances_do_not(share: float) -> None:
    corpora = max(200, round(1000 * share))
    found = coverage(30, corpora)
    low, high = bounds(0.93, 0.95, corpora)
    assert low <= found["speakers"] <= high
    assert found["utterances"] < 0.5


def test_few_speakers_undercover_and_plain_percentiles_more_so(share: float) -> None:
    corpora = max(200, round(1000 * share))
    found = coverage(5, corpora)
    low, high = bounds(0.88, 0.9, corpora)
    assert low <= found["speakers"] <= high
    assert found["percentiles"] < found["speakers"] - 0.04


def test_many_clusters_are_dealt_into_groups_that_vary_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    who, rated, scored = corpus(np.random.default_rng(5), 1500)
    sums = bootstrap.cluster_sums(who, 1500, rated, scored, 4.0)[:, None]
    sums = sums[np.argsort(bootstrap.mae(sums[:, 0]))]  # the order of names may mean something
    whole = bootstrap.interval(bootstrap.resampled(sums, 4000, 0)[0, :, 0], 1500)
    monkeypatch.setattr(bootstrap, "MOST_CLUSTERS", 500)
    dealt = bootstrap.interval(bootstrap.resampled(sums, 4000, 0)[0, :, 0], 1500)
    # 500 groups cost a relative error of 1 / sqrt(1000), 3 %; four of those.
    assert dealt.high - dealt.low == pytest.approx(whole.high - whole.low, rel=0.13)
    assert dealt.low + dealt.high == pytest.approx(whole.low + whole.high, abs=0.01)


@pytest.mark.process
def test_it_needs_numpy_only() -> None:
    code = "import sys, msfser_cli.statistics.bootstrap; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "polars", "pyarrow"} & set(done.stdout.split())
