"""The training loss of MSF-SER: one minus the CCC of each dimension over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from msfser_cli.model.msf_ser import MsfSerOutput

_TINY = 1e-8
"""Keeps the gradient finite if all labels and scores of a batch are nearly the same."""


def ccc_loss(scores: Tensor, labels: Tensor, weights: tuple[float, ...] | None = None) -> Tensor:
    """The weighted sum over dimensions of 1 - CCC: a scalar from 0 to 2 sum(weights). CCC has population (1/N) moments.

    scores, labels: [B, D] in the same scale. A NaN label is missing, and its row is left out of that dimension. A dimension with
    fewer than two labels adds 0. weights: one per dimension, at least 0; None: 1 each.
    """
    rated = ~torch.isnan(labels)
    n = rated.sum(dim=0)
    count = n.clamp(min=1)
    x = torch.where(rated, scores, 0.0)
    y = torch.where(rated, labels, 0.0)
    mean_x, mean_y = x.sum(dim=0) / count, y.sum(dim=0) / count
    a = torch.where(rated, x - mean_x, 0.0)
    b = torch.where(rated, y - mean_y, 0.0)
    covariance = (a * b).sum(dim=0) / count
    spread = (a.square() + b.square()).sum(dim=0) / count + (mean_x - mean_y).square()
    loss = 1 - 2 * covariance / (spread + _TINY)
    loss = torch.where(n >= 2, loss, 0.0)
    return loss.sum() if weights is None else (loss * loss.new_tensor(weights)).sum()


def training_loss(
    output: MsfSerOutput, labels: Tensor, weights: tuple[float, ...] | None = None, balance_weight: float = 0.01
) -> Tensor:
    """`ccc_loss` of the scores, plus `balance_weight` times the experts' balance term: a scalar."""
    return ccc_loss(output.scores, labels, weights) + balance_weight * output.balance
