from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import audmetric
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.statistics.metrics import ccc, mae, pearson, rmse

ratings = st.floats(-100, 100).map(lambda x: round(x, 6))
pairs = st.lists(st.tuples(ratings, ratings), min_size=2, max_size=60).map(lambda rows: np.array(rows).T)


def _exact(x: np.ndarray, y: np.ndarray) -> float:
    """CCC in rational numbers; the one rounding is the last."""
    a, b = [Fraction(v) for v in x.tolist()], [Fraction(v) for v in y.tolist()]
    n = len(a)
    mean_a, mean_b = sum(a) / n, sum(b) / n
    covariance = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True)) / n
    spread = sum((p - mean_a) ** 2 for p in a) / n + sum((q - mean_b) ** 2 for q in b) / n + (mean_a - mean_b) ** 2
    return float(2 * covariance / spread) if spread else math.nan


@given(pairs)
def test_ccc_agrees_with_audmetric(rows: np.ndarray) -> None:
    x, y = rows
    if np.ptp(x) + np.ptp(y) + np.abs(x - y).max() > 0:  # else audmetric divides rounding errors
        assert ccc(x, y) == pytest.approx(audmetric.concordance_cc(x, y), abs=1e-12)


@given(pairs, st.sampled_from([0.0, 1e4, -1e8, 1e12]))
def test_ccc_is_exact_whatever_the_offset(rows: np.ndarray, offset: float) -> None:
    x, y = rows + offset
    assert ccc(x, y) == pytest.approx(_exact(x, y), abs=1e-9, nan_ok=True)


@given(pairs)
def test_pearson_agrees_with_audmetric(rows: np.ndarray) -> None:
    x, y = rows
    if np.ptp(x) > 1e-3 and np.ptp(y) > 1e-3:
        assert pearson(x, y) == pytest.approx(audmetric.pearson_cc(x, y), abs=1e-9)


@given(pairs)
def test_identities(rows: np.ndarray) -> None:
    x, y = rows
    assert mae(x, y) <= rmse(x, y) + 1e-9
    assert mae(x, x) == rmse(x, x) == 0
    if np.ptp(x) > 0:
        assert ccc(x, x) == pytest.approx(1, abs=1e-12)
    if np.ptp(x) > 1e-3 and np.ptp(y) > 1e-3:
        assert abs(ccc(x, y)) <= abs(pearson(x, y)) + 1e-9
        assert ccc(x, y) == pytest.approx(ccc(y, x), abs=1e-9)


def test_by_hand() -> None:
    assert ccc([0, 1, 2], [0, 1, 1]) == pytest.approx(2 / 3)
    assert pearson([0, 1, 2], [10, 20, 30]) == pytest.approx(1)
    assert rmse([0, 0], [3, 4]) == pytest.approx(math.sqrt(12.5))
    assert mae([0, 0], [3, 4]) == 3.5


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [1.0]), ([0.1] * 3, [0.1] * 3), ([1.0, math.nan], [1.0, 2.0])])
def test_undefined_is_nan(x: list[float], y: list[float]) -> None:
    assert math.isnan(ccc(x, y))
    assert math.isnan(pearson(x, y))


def test_a_constant_agrees_with_nothing() -> None:
    assert ccc([0.1] * 3, [0.2] * 3) == 0
    assert ccc([0.1, 0.2, 0.3], [0.2] * 3) == pytest.approx(0, abs=1e-12)
    assert math.isnan(pearson([0.1, 0.2, 0.3], [0.7] * 3))


@pytest.mark.parametrize("metric", [ccc, pearson, rmse, mae])
def test_different_lengths_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="equally long"):
        metric([1.0, 2.0], [1.0])  # type: ignore[operator]


@pytest.mark.process
def test_metrics_load_without_torch() -> None:
    code = "import sys, msfser_cli.statistics.metrics, msfser_cli.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
