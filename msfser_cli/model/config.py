"""The sizes of an MSF-SER model, and the scale of its scores."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

DIMENSIONS = ("valence", "arousal", "dominance")
"""The order of the scores, everywhere."""

SEMANTIC_STREAMS = ("les", "gs", "es")
"""The order of the gates: emphasised words, transcript, description."""

STREAMS = ("acoustic", *SEMANTIC_STREAMS)
"""The order of the presence mask."""

FUSIONS = ("fm-moe", "concat", "attention")
"""How the semantic and the acoustic vector meet: the paper's FM-MOE, and what it compares it with."""

# Upper bounds, well above any published size: a forged config must not make us allocate the machine away.
_SIZES = {"acoustic_dim": 16384, "text_dim": 16384, "hidden_dim": 4096, "semantic_dim": 4096, "expert_dim": 4096, "experts": 64}

_FIRST = (
    "acoustic_dim", "text_dim", "streams", "dimensions", "fusion", "hidden_dim", "semantic_dim", "expert_dim", "experts", "top_k",
    "dropout", "low", "high", "acoustic_encoder", "text_encoder",
)  # fmt: skip
"""The fields of the first version. One that is added needs a default: older heads lack it."""


@dataclass(frozen=True, kw_only=True)
class MsfSerConfig:
    """What it takes to build an `MsfSer`. Raises ValueError, naming the field, for a value out of bounds.

    acoustic_dim, text_dim: lengths of the input vectors; the three texts come from one encoder.
    streams: those of `STREAMS` that the model uses, in that order; the others count as absent in every utterance.
    dimensions: those of `DIMENSIONS` that it was trained on, in that order; the others' scores mean nothing.
    fusion: one of `FUSIONS`. experts and top_k matter to fm-moe alone.
    hidden_dim: the projected acoustic vector. semantic_dim: the fused text vector. expert_dim: an expert's hidden state.
    experts: K, the number of experts shared by the three dimensions.
    top_k: how many experts a router may use for one utterance; None lets it weigh all of them.
    dropout: probability, in training only, applied to the inputs and to the hidden states.
    low, high: the ends of the scale; every score lies between them.
    acoustic_encoder, text_encoder: what made the vectors the weights were trained on; vectors of another encoder mean nothing
    to them. Empty when unknown.
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

    def __post_init__(self) -> None:
        for name, bound in _SIZES.items():
            _check_int(name, getattr(self, name), bound)
        for name, known in (("streams", STREAMS), ("dimensions", DIMENSIONS)):
            _check_some(name, getattr(self, name), known)
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {self.fusion!r}")
        if self.top_k is not None:
            _check_int("top_k", self.top_k, self.experts)
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
        """The config that `to_json` wrote, in this version or an earlier one; ValueError as `require_fields`, or for a value out
        of bounds."""
        require_fields(cls, values, _FIRST)
        lists = {name: tuple(values[name]) for name in ("streams", "dimensions") if isinstance(values[name], list)}
        return cls(**{**values, **lists})


def require_fields(cls: Any, values: Any, first: Collection[str]) -> None:
    """ValueError unless `values` are those of the dataclass `cls`, which had the fields `first` at first.

    A field that came later may be missing and has its default, so that older files can be read. An unknown field is refused: what
    it means could change what the others mean.
    """
    if not isinstance(values, Mapping):
        raise ValueError("not a JSON object")
    known = [f.name for f in fields(cls)]
    if unknown := sorted(str(name) for name in values if name not in known):
        raise ValueError(
            f"unknown field {', '.join(unknown)}: if a newer msfser wrote it, upgrade msfser; this one has exactly the fields "
            f"{', '.join(known)}"
        )
    if missing := sorted(set(first) - set(values)):
        raise ValueError(f"missing field {', '.join(missing)}")


def _check_some(name: str, value: object, known: tuple[str, ...]) -> None:
    if not isinstance(value, tuple) or not value or value != tuple(k for k in known if k in value):
        raise ValueError(f"{name} must be one or more of {', '.join(known)}, in this order and each once, not {value!r}")


def _check_int(name: str, value: object, bound: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= bound:
        raise ValueError(f"{name} must be a whole number from 1 to {bound}, not {value!r}")
