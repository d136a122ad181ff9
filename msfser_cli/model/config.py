"""The sizes of an MSF-SER model, and the scale of its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from msfser_cli.schemas import DIMENSIONS, STREAMS
from msfser_cli.settings import require_fields

FUSIONS = ("fm-moe", "concat", "attention")
"""The ways to combine the semantic and the acoustic vector: the paper's FM-MOE, and the two that it is compared with."""

# Upper bounds, far above any published size. They keep a forged config from using up the machine's memory.
_SIZES = {"acoustic_dim": 16384, "text_dim": 16384, "hidden_dim": 4096, "semantic_dim": 4096, "expert_dim": 4096, "experts": 64}
_WIDEST_FUSION = 64 * 4096

_FIRST = (
    "acoustic_dim", "text_dim", "streams", "dimensions", "fusion", "hidden_dim", "semantic_dim", "expert_dim", "experts", "top_k",
    "dropout", "low", "high", "acoustic_encoder", "text_encoder",
)  # fmt: skip
"""The fields of the first version. A field that is added later needs a default, because older heads lack it."""


@dataclass(frozen=True, kw_only=True)
class MsfSerConfig:
    """The sizes and settings that define an `MsfSer`. Raises ValueError, with the field's name, for a value out of bounds.

    acoustic_dim, text_dim: lengths of the input vectors. The three texts come from one encoder.
    streams: those of `STREAMS` that the model uses, in that order. The others count as absent in every utterance.
    dimensions: those of `DIMENSIONS` that the model was trained on, in that order. Scores of the others have no meaning.
    fusion: one of `FUSIONS`. Only fm-moe uses top_k.
    hidden_dim, semantic_dim, expert_dim: lengths of the projected acoustic vector, the fused text vector, and an expert's hidden
    state.
    experts: K, the number of experts. The three dimensions share them.
    top_k: the number of experts that a router may use for one utterance, 1..K; None: all.
    fusion_dim: length of the hidden state of concat and attention. None: that of all experts together, as in older heads. See
    `plain_fusions.dim_like_fm_moe`.
    reference_dim: length of the hidden state that weighs utterances for the reference. None: the model has no reference.
    dropout: probability from 0 to below 1, for the inputs and the hidden states, in training only.
    low, high: the ends of the scale. Every score lies between them.
    acoustic_encoder, text_encoder: the encoders of the vectors that the weights were trained on, with their models. The weights
    fit no other encoder's vectors. Empty if unknown.
    """

    acoustic_dim: int
    text_dim: int
    streams: tuple[str, ...] = STREAMS
    dimensions: tuple[str, ...] = DIMENSIONS
    fusion: str = "fm-moe"
    hidden_dim: int = 64
    semantic_dim: int = 64
    expert_dim: int = 32
    experts: int = 4
    top_k: int | None = None
    dropout: float = 0.1
    low: float = 0.0
    high: float = 1.0
    acoustic_encoder: str = ""
    text_encoder: str = ""
    fusion_dim: int | None = None
    reference_dim: int | None = None

    def __post_init__(self) -> None:
        for name, bound in _SIZES.items():
            _check_int(name, getattr(self, name), bound)
        for name, valid in (("streams", STREAMS), ("dimensions", DIMENSIONS)):
            _check_some(name, getattr(self, name), valid)
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {self.fusion!r}")
        if self.top_k is not None:
            _check_int("top_k", self.top_k, self.experts)
        if self.fusion_dim is not None:
            _check_int("fusion_dim", self.fusion_dim, _WIDEST_FUSION)
        if self.reference_dim is not None:
            _check_int("reference_dim", self.reference_dim, _SIZES["hidden_dim"])
            if "acoustic" not in self.streams:
                raise ValueError("reference_dim needs the stream acoustic")
        for name in ("dropout", "low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout!r}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {self.low!r} and {self.high!r}")
        for name in ("acoustic_encoder", "text_encoder"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > 1000:
                raise ValueError(f"{name} must be a text of at most 1000 characters")

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MsfSerConfig:
        """The config that this or an earlier version's `to_json` wrote.

        ValueError if `require_fields` refuses the fields, or for a value out of bounds.
        """
        require_fields(cls, values, _FIRST)
        lists = {name: tuple(values[name]) for name in ("streams", "dimensions") if isinstance(values[name], list)}
        return cls(**{**values, **lists})


def _check_some(name: str, value: object, valid: tuple[str, ...]) -> None:
    if not isinstance(value, tuple) or not value or value != tuple(k for k in valid if k in value):
        raise ValueError(f"{name} must be one or more of {', '.join(valid)}, in this order and each once, not {value!r}")


def _check_int(name: str, value: object, bound: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= bound:
        raise ValueError(f"{name} must be a whole number from 1 to {bound}, not {value!r}")
