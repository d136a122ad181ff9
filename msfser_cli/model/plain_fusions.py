"""Concatenation and attention: the fusions that the paper compares FM-MOE with. The equations are this project's.

    concat      y_d = h_d . gelu(A [a; z]) + c_d
    attention   y_d = h_d . gelu(sum_m w_dm V_m x_m) + c_d,   w_d = softmax over m of q_d . K_m x_m / sqrt(E)

a is the acoustic vector, z the semantic vector, x = (a, z), and q_d a query for each dimension d. Both have the interface of
`FilmExperts`. They have no experts, so their routes have one expert with weight 1. To compare the kinds of fusion and not their
sizes, `dim_like_fm_moe` gives them the number of parameters of FM-MOE.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.film_experts import FilmExperts
from msfser_cli.schemas import DIMENSIONS


class ConcatFusion(nn.Module):
    """Maps an acoustic vector [B, hidden_dim] and a semantic vector [B, semantic_dim] to one number per dimension, [B, D]."""

    def __init__(self, config: MsfSerConfig) -> None:
        super().__init__()
        width = _width(config)
        self.hidden = nn.Linear(config.hidden_dim + config.semantic_dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.Linear(width, len(DIMENSIONS))

    def forward(self, acoustic: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """One unbounded number per dimension, [B, D], and routes [B, D, 1] of ones."""
        hidden = self.dropout(nn.functional.gelu(self.hidden(torch.cat([acoustic, semantic], dim=1))))
        return self.heads(hidden), _one_expert(acoustic)


class AttentionFusion(nn.Module):
    """Maps the same vectors to the same numbers as `ConcatFusion`, with one attention query per dimension over both vectors."""

    def __init__(self, config: MsfSerConfig) -> None:
        super().__init__()
        width = _width(config)
        self.keys = nn.ModuleList(nn.Linear(size, width) for size in (config.hidden_dim, config.semantic_dim))
        self.values = nn.ModuleList(nn.Linear(size, width) for size in (config.hidden_dim, config.semantic_dim))
        self.queries = nn.Parameter(torch.randn(len(DIMENSIONS), width) / math.sqrt(width))
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.Parameter(torch.empty(len(DIMENSIONS), width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width)))
        self.head_bias = nn.Parameter(torch.zeros(len(DIMENSIONS)))

    def attend(self, acoustic: Tensor, semantic: Tensor) -> Tensor:
        """The weights of the acoustic and the semantic vector for each dimension, [B, D, 2]. They sum to 1."""
        keys = torch.stack([key(x) for key, x in zip(self.keys, (acoustic, semantic), strict=True)], dim=1)
        return torch.softmax(torch.einsum("de,bme->bdm", self.queries, keys) / math.sqrt(keys.shape[-1]), dim=-1)

    def forward(self, acoustic: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """One unbounded number per dimension, [B, D], and routes [B, D, 1] of ones."""
        values = torch.stack([value(x) for value, x in zip(self.values, (acoustic, semantic), strict=True)], dim=1)
        mixed = torch.einsum("bdm,bme->bde", self.attend(acoustic, semantic), values)
        mixed = self.dropout(nn.functional.gelu(mixed))
        return (mixed * self.heads).sum(dim=-1) + self.head_bias, _one_expert(acoustic)


def dim_like_fm_moe(config: MsfSerConfig) -> int:
    """The `fusion_dim` with which the fusion of `config`, concat or attention, has most nearly as many parameters as FM-MOE."""
    fusion = {"concat": ConcatFusion, "attention": AttentionFusion}[config.fusion]
    with torch.device("meta"):  # allocates nothing
        one, two, fm_moe = (
            sum(parameter.numel() for parameter in module.parameters())
            for module in (fusion(replace(config, fusion_dim=1)), fusion(replace(config, fusion_dim=2)), FilmExperts(config))
        )
    return 1 + max(0, round((fm_moe - one) / (two - one)))


def _width(config: MsfSerConfig) -> int:
    return config.fusion_dim or config.experts * config.expert_dim


def _one_expert(acoustic: Tensor) -> Tensor:
    return acoustic.new_ones(len(acoustic), len(DIMENSIONS), 1)
