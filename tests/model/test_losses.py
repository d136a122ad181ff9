from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msfser_cli.model.losses import ccc_loss, training_loss
from msfser_cli.model.msf_ser import MsfSerOutput
from msfser_cli.statistics.metrics import ccc

NAN = float("nan")


@settings(deadline=None)
@given(rows=st.integers(3, 40), seed=st.integers(0, 2**16), missing=st.floats(0, 0.6))
def test_it_is_one_minus_the_metric(rows: int, seed: int, missing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, labels = torch.rand(rows, 3, generator=generator).double(), torch.rand(rows, 3, generator=generator).double()
    labels[torch.rand(rows, 3, generator=generator) < missing] = NAN
    expected = 0.0
    for d in range(3):
        known = ~torch.isnan(labels[:, d])
        if known.sum() >= 2:
            expected += 1 - ccc(labels[known, d].numpy(), scores[known, d].numpy())
    assert ccc_loss(scores, labels).item() == pytest.approx(expected, abs=1e-5)


def test_perfect_scores_cost_nothing() -> None:
    labels = torch.rand(10, 3)
    assert ccc_loss(labels, labels).item() == pytest.approx(0, abs=1e-5)


def test_missing_labels_pass_no_gradient() -> None:
    scores = torch.rand(4, 3, requires_grad=True)
    labels = torch.rand(4, 3)
    labels[1, 0] = labels[2, 0] = labels[3, 0] = NAN  # one label left: nothing to correlate
    labels[3, 1] = NAN
    ccc_loss(scores, labels).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[:, 0] == 0).all()
    assert scores.grad[3, 1] == 0
    assert (scores.grad[:3, 1] != 0).all()


def test_constants_have_a_finite_gradient() -> None:
    scores = torch.full((5, 3), 0.5, requires_grad=True)
    ccc_loss(scores, torch.full((5, 3), 0.5)).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_the_balance_term_is_added_with_its_weight() -> None:
    labels = torch.rand(6, 3)
    output = MsfSerOutput(labels, torch.zeros(6, 3), torch.zeros(6, 3, 4), torch.tensor(2.0))
    assert training_loss(output, labels, balance_weight=0.25).item() == pytest.approx(0.5, abs=1e-5)
