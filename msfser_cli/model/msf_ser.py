"""The MSF-SER model: a gated fusion of the texts modulates FiLM experts on the voice. Other fusions serve as comparisons.

A model with a reference scores a voice relative to how its speaker usually sounds, where that is known (see `reference`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.film_experts import FilmExperts, balance
from msfser_cli.model.gated_fusion import GatedFusion
from msfser_cli.model.plain_fusions import AttentionFusion, ConcatFusion
from msfser_cli.model.reference import Reference
from msfser_cli.schemas import SEMANTIC_STREAMS, STREAMS

_FUSIONS = {"fm-moe": FilmExperts, "concat": ConcatFusion, "attention": AttentionFusion}


@dataclass(frozen=True)
class MsfSerOutput:
    """The model's output for a batch of B utterances."""

    scores: Tensor
    """[B, 3]: valence, arousal, dominance, between the ends of the config's scale."""
    gates: Tensor
    """[B, 3]: the weights of LES, GS and ES in the semantic vector. 0 if absent. They sum to 1, or to 0 if all are absent."""
    routes: Tensor
    """[B, 3, K]: the weight of each expert for each dimension. They sum to 1 over K. K = 1 for a fusion without experts."""
    balance: Tensor
    """Scalar from 0 to K - 1: how unevenly the batch uses the experts. It is the only output that depends on the batch."""


class MsfSer(nn.Module):
    """The model. The scores of a row depend on that row only."""

    acoustic_mean: Tensor
    acoustic_std: Tensor
    text_mean: Tensor
    text_std: Tensor

    def __init__(self, config: MsfSerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("acoustic_mean", torch.zeros(config.acoustic_dim))
        self.register_buffer("acoustic_std", torch.ones(config.acoustic_dim))
        self.register_buffer("text_mean", torch.zeros(len(SEMANTIC_STREAMS), config.text_dim))
        self.register_buffer("text_std", torch.ones(len(SEMANTIC_STREAMS), config.text_dim))
        self.input_dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(config.acoustic_dim, config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.no_speech = nn.Parameter(torch.zeros(config.hidden_dim))
        if config.reference_dim is not None:
            self.reference = Reference(config)
            self.relative = nn.Linear(1, config.hidden_dim, bias=False)
        self.gated_fusion = GatedFusion(config)
        self.fusion = _FUSIONS[config.fusion](config)

    @torch.no_grad()
    def standardise_by(self, acoustic: Tensor, texts: Tensor, present: Tensor) -> None:
        """Set the inputs' mean and deviation to those of a training set. Shapes as in `forward`; absent vectors do not count.

        A stream with fewer than two vectors keeps mean 0 and deviation 1. A component that does not vary keeps deviation 1.
        """
        inputs = (acoustic, *texts.unbind(dim=1))
        means, stds = (self.acoustic_mean, *self.text_mean), (self.acoustic_std, *self.text_std)
        for values, is_present, mean, std in zip(inputs, present.unbind(dim=1), means, stds, strict=True):
            rows = values[is_present]
            if len(rows) < 2:
                continue
            mean.copy_(rows.mean(dim=0))
            deviation = rows.std(dim=0, correction=0)
            std.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def evidence(self, acoustic: Tensor, present: Tensor) -> Tensor:
        """What each row adds to its speaker's reference, [B, 1 + acoustic_dim]: 0 without an acoustic vector.

        Only a model with a reference has it. acoustic, present: as in `forward`.
        """
        has_speech = present[:, :1]
        return torch.where(has_speech, self.reference.evidence(self._standardised(acoustic, has_speech)), 0.0)

    def forward(
        self, acoustic: Tensor, texts: Tensor, present: Tensor, evidence: Tensor | None = None
    ) -> MsfSerOutput:
        """Score a batch. Raises ValueError for other shapes than these.

        acoustic: float [B, acoustic_dim], the pooled speech vectors.
        texts: float [B, 3, text_dim], the LES, GS and ES vectors.
        present: bool [B, 4], whether a row has an acoustic, LES, GS and ES vector. Values of an absent vector are not used, and
        may be NaN.
        evidence: float [B, 1 + acoustic_dim], the sum of `evidence` over the utterances of each row's speaker. Zeros, and None:
        no reference.
        """
        c, rows = self.config, len(acoustic)
        for name, tensor, shape in (
            ("acoustic", acoustic, (rows, c.acoustic_dim)),
            ("texts", texts, (rows, len(SEMANTIC_STREAMS), c.text_dim)),
            ("present", present, (rows, len(STREAMS))),
        ):
            if tensor.shape != shape:
                raise ValueError(f"{name} must have the shape {list(shape)}, not {list(tensor.shape)}")
        if evidence is not None and evidence.shape != (rows, 1 + c.acoustic_dim):
            raise ValueError(f"evidence must have the shape {[rows, 1 + c.acoustic_dim]}, not {list(evidence.shape)}")
        present = present & torch.tensor([s in c.streams for s in STREAMS], device=present.device)
        has_speech, has_text = present[:, :1], present[:, 1:]
        acoustic = self._standardised(acoustic, has_speech)
        texts = torch.where(has_text.unsqueeze(-1), (texts - self.text_mean) / self.text_std, 0.0)

        semantic, gates = self.gated_fusion(self.input_dropout(texts), has_text)  # [B, semantic_dim], [B, 3]
        if evidence is None:
            voice = self.projection(self.input_dropout(acoustic))  # [B, hidden_dim]
        else:
            usual, share = self.reference(evidence)
            voice = self.projection(self.input_dropout(acoustic - usual)) + self.relative(share)
        voice = nn.functional.gelu(voice)
        voice = torch.where(has_speech, self.dropout(voice), self.no_speech)
        logits, routes = self.fusion(voice, semantic)  # [B, 3], [B, 3, K]
        scores = c.low + (c.high - c.low) * torch.sigmoid(logits)
        return MsfSerOutput(scores, gates, routes, balance(routes))

    def _standardised(self, acoustic: Tensor, has_speech: Tensor) -> Tensor:
        # torch.where, not a product: 0 * NaN is NaN.
        return torch.where(has_speech, (acoustic - self.acoustic_mean) / self.acoustic_std, 0.0)
