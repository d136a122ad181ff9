"""The reference: how a speaker usually sounds. The model takes it off a voice, and scores what remains. The equations are ours.

    w_i = sigmoid(u . gelu(V x_i + b) + c)         how far utterance i shows the usual voice
    r   = sum_i w_i x_i / (k + sum_i w_i)          over the speaker's utterances i
    s   = sum_i w_i / (k + sum_i w_i)              the share of the reference: 0 without one, and it approaches 1 with many

x_i is the standardised acoustic vector. u, V, b, c and k > 0 are learned. With w, a model can learn to leave excited speech out,
so that a speaker who is angry all the time does not become neutral. k pulls the reference of a few utterances towards none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msfser_cli.model.config import MsfSerConfig


class Reference(nn.Module):
    """Maps the standardised voices of a speaker's utterances, [N, A], to the reference, [A], for A = acoustic_dim.

    It has two steps, so that the utterances need not be in memory together: `evidence` of each, and `forward` of their sum.
    """

    def __init__(self, config: MsfSerConfig) -> None:
        super().__init__()
        assert config.reference_dim is not None
        self.hidden = nn.Linear(config.acoustic_dim, config.reference_dim)
        self.weight = nn.Linear(config.reference_dim, 1)
        self.doubt = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(config.dropout)

    def evidence(self, voices: Tensor) -> Tensor:
        """The weight of each utterance, and its voice times the weight, [N, 1 + A]. voices: standardised, [N, A]."""
        weight = torch.sigmoid(self.weight(nn.functional.gelu(self.hidden(self.dropout(voices)))))
        return torch.cat([weight, weight * voices], dim=1)

    def forward(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """The reference [B, A] and its share [B, 1]. evidence: the sums over the utterances of B speakers, [B, 1 + A]."""
        total, voice = evidence[:, :1], evidence[:, 1:]
        mass = nn.functional.softplus(self.doubt) + total
        return voice / mass, total / mass
