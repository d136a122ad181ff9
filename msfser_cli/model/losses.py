"""What MSF-SER is trained on: one minus the concordance of each dimension over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from msfser_cli.model.msf_ser import MsfSerOutput

_TINY = 1e-8
"""Keeps the gradient finite when a batch's labels and scores are (nearly) the same constant."""


def ccc_loss(scores: Tensor, labels: Tensor, weights: tuple[float, ...] | None = None) -> Tensor:
    """The weighted sum over dimensions of 1 - CCC, a scalar in 0 .. 2 sum(weights); CCC with population (1/N) moments.

    scores, labels: [B, D] in the same scale. A NaN label is missing and leaves its row out of that dimension; a dimension with
    fewer than two labels says nothing and adds nothing. weights: one a dimension, at least 0; 1 for each unless given.
    """
    known = ~torch.isnan(labels)
    n = known.sum(dim=0)
    count = n.clamp(min=1)
    x = torch.where(known, scores, 0.0)
    y = torch.where(known, labels, 0.0)
    mean_x, mean_y = x.sum(dim=0) / count, y.sum(dim=0) / count
    a = torch.where(known, x - mean_x, 0.0)
    b = torch.where(known, y - mean_y, 0.0)
    covariance = (a * b).sum(dim=0) / count
    spread = (a.square() + b.square()).sum(dim=0) / count + (mean_x - mean_y).square()
    loss = 1 - 2 * covariance / (spread + _TINY)
    loss = torch.where(n >= 2, loss, 0.0)
    return loss.sum() if weights is None else (loss * loss.new_tensor(weights)).sum()


def training_loss(
    output: MsfSerOutput, labels: Tensor, weights: tuple[float, ...] | None = None, balance_weight: float = 0.01
) -> Tensor:
    """`ccc_loss` of the scores plus the weighted balance term of the experts; a scalar."""
    return ccc_loss(output.scores, labels, weights) + balance_weight * output.balance
