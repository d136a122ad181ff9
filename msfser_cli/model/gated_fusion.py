"""Intra-modal gated fusion: combines the three text vectors of an utterance into one semantic vector.

The idea of gates is the paper's. The equations are this project's:

    p_s = gelu(W_s x_s + b_s)                      for each stream s present
    g   = softmax over the streams present of U [p_les; p_gs; p_es] + c
    z   = sum_s g_s p_s

A stream can be absent, for example if no word is emphasised. Then its p_s is 0 in the concatenation, and its gate is exactly 0.
If all three are absent, z is a learned vector that stands for "no text", and all gates are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.schemas import SEMANTIC_STREAMS


class GatedFusion(nn.Module):
    """Maps text vectors [B, S, text_dim] to semantic vectors [B, semantic_dim] and gates [B, S], for S = 3 semantic streams."""

    def __init__(self, config: MsfSerConfig) -> None:
        super().__init__()
        streams = len(SEMANTIC_STREAMS)
        self.projections = nn.ModuleList(nn.Linear(config.text_dim, config.semantic_dim) for _ in range(streams))
        self.gate = nn.Linear(streams * config.semantic_dim, streams)
        self.no_text = nn.Parameter(torch.zeros(config.semantic_dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, texts: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The semantic vector [B, semantic_dim] and the gates [B, S]: 0 for an absent stream, else positive; they sum to 1.

        texts: float [B, S, text_dim]. Values of an absent stream are not used, but must be finite. present: bool [B, S].
        """
        projected = torch.stack([nn.functional.gelu(p(texts[:, i])) for i, p in enumerate(self.projections)], dim=1)
        projected = self.dropout(projected) * present.unsqueeze(-1)
        any_text = present.any(dim=1, keepdim=True)
        logits = self.gate(projected.flatten(1)).masked_fill(~present, float("-inf"))
        # The softmax of a row of -inf is NaN. Such a row gets zeros here, and torch.where drops it below.
        gates = torch.softmax(logits.masked_fill(~any_text, 0.0), dim=1) * present
        fused = (gates.unsqueeze(-1) * projected).sum(dim=1)
        return torch.where(any_text, fused, self.no_text), gates
