"""Pooling: turns the states of a speech encoder over time into one vector, from its layers and frames.

    s_t = sum_l w_l h_lt              w = softmax of learned logits over the hidden states ('all', as Vox-Profile), or the last
    a   = softmax over t of v . tanh(W s_t + b)         attentive statistics (Okabe 2018, as the Odyssey 2024 baseline); or 1 / T
    x   = [mu; sigma],  mu = sum_t a_t s_t,  sigma^2 = sum_t a_t (s_t - mu)^2

The logits and v start at zero, so a new pooling takes the plain mean of the layers and the plain statistics of the frames.

On disk, a pooling lies in the folder of its encoder. It is read as strictly as `weights` reads a checkpoint:

    pooling.json          {"format": "msfser-pooling", "version": 1, "pooling": {the fields of PoolingConfig}}
    pooling.safetensors   the learned weights, if any
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn

from msfser_cli.errors import ModelError
from msfser_cli.model.weights import read_document, read_tensors
from msfser_cli.settings import ENCODER_LAYERS, POOLINGS, require_fields

CONFIG_NAME, WEIGHTS_NAME = "pooling.json", "pooling.safetensors"
FORMAT, VERSION = "msfser-pooling", 1
ATTENTION_DIM = 128
_SMALLEST_VARIANCE = 1e-10
"""Keeps the gradient of the deviation finite if a component is the same in all frames."""


@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """The sizes and settings that define a `Pooling`. Raises ValueError, with the field's name, for a value out of bounds.

    hidden_dim: H, the width of the encoder's states. states: their number: the input of the first layer, and one per layer.
    layers: one of `ENCODER_LAYERS`. pooling: one of `POOLINGS`.
    waveform_mean, waveform_std: mean and deviation by which the samples, in [-1, 1], are normalised before the encoder.
    """

    hidden_dim: int
    states: int
    layers: str = "last"
    pooling: str = "mean-std"
    waveform_mean: float = 0.0
    waveform_std: float = 1.0

    def __post_init__(self) -> None:
        # Upper bounds, far above any published size. They keep a forged config from using up the machine's memory.
        for name, bound in (("hidden_dim", 16384), ("states", 1024)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= bound:
                raise ValueError(f"{name} must be a whole number from 1 to {bound}, not {value!r}")
        for name, valid in (("layers", ENCODER_LAYERS), ("pooling", POOLINGS)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}, not {getattr(self, name)!r}")
        for name in ("waveform_mean", "waveform_std"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value!r}")
        if self.waveform_std <= 0:
            raise ValueError(f"waveform_std must be above 0, not {self.waveform_std!r}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PoolingConfig:
        """The config with the fields `values`. ValueError if `require_fields` refuses them, or for a value out of bounds."""
        require_fields(cls, values, ("hidden_dim", "states", "layers", "pooling", "waveform_mean", "waveform_std"))
        return cls(**values)


class Pooling(nn.Module):
    """Maps the hidden states of each layer, [B, T, H], to one vector per utterance, [B, 2 H]."""

    def __init__(self, config: PoolingConfig) -> None:
        super().__init__()
        self.config = config
        if config.layers == "all":
            self.layer_logits = nn.Parameter(torch.zeros(config.states))
        if config.pooling == "attentive":
            self.attention_in = nn.Linear(config.hidden_dim, ATTENTION_DIM)
            self.attention_out = nn.Linear(ATTENTION_DIM, 1, bias=False)
            nn.init.zeros_(self.attention_out.weight)

    def forward(self, states: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Mean and deviation over the frames, [B, 2 H]. The arguments are those of `statistics`."""
        return merged(self.statistics(states, mask).unsqueeze(-2))

    def statistics(self, states: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The statistics of a part of an utterance, for `merged`: log of the frames' weight, mean and variance, [B, 1 + 2 H].

        states: the encoder's hidden states, first to last, each float [B, T, H]. With layers 'last', only the last is used.
        mask: bool [B, T], true for real frames, at least one per row. Values of other frames are not used, and may be NaN.
        """
        mask = mask.unsqueeze(-1)
        used = states[-1:] if self.config.layers == "last" else states
        frames = self._mixed([state.masked_fill(~mask, 0.0) for state in used])
        weight, mass = self._attention(frames, mask)
        mean = (weight * frames).sum(dim=1)
        variance = (weight * (frames - mean.unsqueeze(1)).square()).sum(dim=1)
        return torch.cat([mass, mean, variance], dim=1)

    def _mixed(self, states: Sequence[Tensor]) -> Tensor:
        if self.config.layers == "last":
            return states[-1]
        shares = torch.softmax(self.layer_logits, dim=0)
        return torch.stack([share * state for share, state in zip(shares, states, strict=True)]).sum(dim=0)

    def _attention(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The weight of each frame, [B, T, 1]: 0 outside the mask, sum 1; and the log of their sum before that, [B, 1]."""
        if self.config.pooling == "mean-std":
            count = mask.sum(dim=1, keepdim=True)
            return mask / count, count.squeeze(-1).log()
        logits = self.attention_out(torch.tanh(self.attention_in(frames))).masked_fill(~mask, float("-inf"))
        return torch.softmax(logits, dim=1), torch.logsumexp(logits, dim=1)


def merged(parts: Tensor) -> Tensor:
    """Mean and deviation over all frames of N parts, [..., 2 H]. parts: the statistics of the parts, [..., N, 1 + 2 H]."""
    size = parts.shape[-1] // 2
    mass, means, variances = torch.split(parts, [1, size, size], dim=-1)
    share = torch.softmax(mass, dim=-2)
    mean = (share * means).sum(dim=-2)
    variance = (share * (variances + (means - mean.unsqueeze(-2)).square())).sum(dim=-2)
    return torch.cat([mean, variance.clamp(min=_SMALLEST_VARIANCE).sqrt()], dim=-1)


def save(folder: Path, pooling: Pooling) -> None:
    """Write `pooling` into `folder`, the folder of its encoder."""
    document = {"format": FORMAT, "version": VERSION, "pooling": asdict(pooling.config)}
    tensors = {name: t.detach().cpu().contiguous() for name, t in pooling.state_dict().items()}
    (folder / WEIGHTS_NAME).write_bytes(serialised(tensors))
    (folder / CONFIG_NAME).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load(folder: Path) -> Pooling | None:
    """The pooling in `folder`; None if it has no pooling. ModelError if its files differ from what `save` writes."""
    path = folder / CONFIG_NAME
    if not path.exists() and not (folder / WEIGHTS_NAME).exists():
        return None
    document = read_document(path, FORMAT, VERSION)
    try:
        pooling = Pooling(PoolingConfig.from_json(document.get("pooling", {})))
    except ValueError as e:
        raise ModelError(f"{path}: {e}") from e
    pooling.load_state_dict(read_tensors(folder / WEIGHTS_NAME, pooling.state_dict(), path.name))
    return pooling
