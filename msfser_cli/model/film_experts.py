"""FM-MOE: a FiLM-modulated mixture of experts, with a router for each dimension.

The idea is the paper's: the acoustic vector passes through small experts, the semantic vector modulates them, and valence,
arousal and dominance each have their own router. The equations are this project's:

    (gamma_k, beta_k) = F_k z                          the semantic vector z scales and shifts each expert (FiLM, Perez 2018)
    e_k = gelu((1 + gamma_k) * (A_k a) + beta_k)       expert k on the acoustic vector a
    r_d = softmax(R_d [a; z])                          one router per dimension d, over the same K experts
    y_d = h_d . (sum_k r_dk B_k e_k) + c_d             a small head per dimension

F starts at zero, so the experts of a new model depend on the voice only. Training then adds the influence of the text.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.schemas import DIMENSIONS


class FilmExperts(nn.Module):
    """Maps an acoustic vector [B, hidden_dim] and a semantic vector [B, semantic_dim] to one number per dimension, [B, D]."""

    def __init__(self, config: MsfSerConfig) -> None:
        super().__init__()
        hidden_dim, semantic_dim = config.hidden_dim, config.semantic_dim
        experts, expert_dim, dimensions = config.experts, config.expert_dim, len(DIMENSIONS)
        self.experts, self.dimensions, self.expert_dim, self.top_k = experts, dimensions, expert_dim, config.top_k
        self.film = nn.Linear(semantic_dim, 2 * experts * expert_dim)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.expert_in = nn.Linear(hidden_dim, experts * expert_dim)
        self.expert_out = nn.Parameter(torch.empty(experts, expert_dim, expert_dim))
        nn.init.uniform_(self.expert_out, -1 / math.sqrt(expert_dim), 1 / math.sqrt(expert_dim))
        self.router = nn.Linear(hidden_dim + semantic_dim, dimensions * experts)
        self.heads = nn.Parameter(torch.empty(dimensions, expert_dim))
        nn.init.uniform_(self.heads, -1 / math.sqrt(expert_dim), 1 / math.sqrt(expert_dim))
        self.head_bias = nn.Parameter(torch.zeros(dimensions))
        self.dropout = nn.Dropout(config.dropout)

    def modulation(self, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """gamma and beta, each [B, K, expert_dim], from the semantic vector [B, semantic_dim]. Both are 0 in a new model."""
        gamma, beta = self.film(semantic).view(-1, 2, self.experts, self.expert_dim).unbind(dim=1)
        return gamma, beta

    def route(self, acoustic: Tensor, semantic: Tensor) -> Tensor:
        """The weight of each expert for each dimension, [B, D, K], 0..1. They sum to 1 over K; at most `top_k` are above 0."""
        logits = self.router(torch.cat([acoustic, semantic], dim=1)).view(-1, self.dimensions, self.experts)
        if self.top_k is not None:
            chosen = logits.topk(self.top_k, dim=-1).indices
            logits = torch.full_like(logits, float("-inf")).scatter(-1, chosen, logits.gather(-1, chosen))
        return torch.softmax(logits, dim=-1)

    def forward(self, acoustic: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """One unbounded number per dimension, [B, D], and the routes, [B, D, K]."""
        gamma, beta = self.modulation(semantic)
        hidden = self.expert_in(acoustic).view(-1, self.experts, self.expert_dim)
        hidden = self.dropout(nn.functional.gelu((1 + gamma) * hidden + beta))
        outputs = torch.einsum("bke,kef->bkf", hidden, self.expert_out)
        routes = self.route(acoustic, semantic)
        mixed = torch.einsum("bdk,bkf->bdf", routes, outputs)
        return (mixed * self.heads).sum(dim=-1) + self.head_bias, routes


def balance(routes: Tensor) -> Tensor:
    """How unevenly a batch uses the experts, from its routes [B, D, K]: from 0 (all equally) to K - 1 (always the same one).

    The squared coefficient of variation of the experts' mean weights (Shazeer 2017), averaged over the dimensions. As a loss it
    keeps every expert in use over the batch, but lets a single utterance use few of them.
    """
    use = routes.mean(dim=0)
    return (routes.shape[-1] * use.square().sum(dim=-1) - 1).mean()
