"""A BERT such as MiniLM, in plain torch on a CPU: the mean of its last states over the tokens of a text.

It gives the vectors of `transformers_text`, without importing transformers, which takes longer than the annotation of a short
corpus, and 300 MB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.dense import dense
from msfser_cli.backends.loading import require_finite
from msfser_cli.backends.parallel import each

if TYPE_CHECKING:
    from torch import Tensor

    from msfser_cli.backends import Spans


_DENSE = (
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip


class Bert:
    """Each text is encoded alone, in float32, so its vector does not depend on other texts."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        config = _read(folder / "config.json")
        longest = min(config["max_position_embeddings"], _read(folder / "tokenizer_config.json")["model_max_length"])
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(int(longest))
        self._weights = load_file(folder / "model.safetensors")
        require_finite(folder, self._weights.items())
        self._layers, self._heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self._dense = {
            name: dense(self._weights.pop(f"{name}.weight"), self._weights.pop(f"{name}.bias"))
            for name in (f"encoder.layer.{i}.{part}" for i in range(self._layers) for part in _DENSE)
        }
        self._epsilon, self.dimension = float(config["layer_norm_eps"]), int(config["hidden_size"])
        self.encode(["text"])  # fails here if a weight is missing or of another shape

    def encode(self, texts: Sequence[str], spans: Sequence[Spans] | None = None) -> np.ndarray:
        """One vector per text, float32 [len(texts), dimension]. Texts beyond the model's maximum length are cut.

        With `spans`, the mean is over the tokens that have a character in one of the text's spans. It is NaN if there is no such
        token.
        """
        encodings = self._tokenizer.encode_batch(list(texts))

        def vector(i: int) -> np.ndarray:
            ids, offsets = encodings[i].ids, encodings[i].offsets
            weight = np.ones(len(ids), np.float32) if spans is None else within(offsets, spans[i])
            if not weight.any():
                return np.full(self.dimension, np.nan, np.float32)
            mean: np.ndarray = weight @ self._states(ids) / weight.sum()
            if not np.isfinite(mean).all():
                raise ArithmeticError("the encoder's vectors are not finite")
            return mean

        return np.array(each(vector, range(len(texts))), np.float32).reshape(len(texts), self.dimension)

    def _states(self, tokens: Sequence[int]) -> np.ndarray:
        """The last states, float32 [len(tokens), dimension]."""
        import torch
        from torch.nn.functional import gelu, scaled_dot_product_attention

        embeddings = (self._weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
        words, positions, types = embeddings
        with torch.inference_mode():
            x = self._norm(words[list(tokens)] + positions[: len(tokens)] + types[0], "embeddings")
            for i in range(self._layers):
                layer = f"encoder.layer.{i}"
                q, k, v = (
                    self._dense[f"{layer}.attention.self.{name}"](x).view(1, len(x), self._heads, -1).transpose(1, 2)
                    for name in ("query", "key", "value")
                )
                attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
                x = self._norm(x + self._dense[f"{layer}.attention.output.dense"](attended), f"{layer}.attention.output")
                hidden = gelu(self._dense[f"{layer}.intermediate.dense"](x))
                x = self._norm(x + self._dense[f"{layer}.output.dense"](hidden), f"{layer}.output")
            states: np.ndarray = x.numpy()
        return states

    def _norm(self, x: Tensor, name: str) -> Tensor:
        from torch.nn.functional import layer_norm

        weight, bias = (self._weights[f"{name}.LayerNorm.{end}"] for end in ("weight", "bias"))
        return layer_norm(x, (self.dimension,), weight, bias, self._epsilon)


def is_plain(folder: Path) -> bool:
    """Whether the folder has a BERT in the form that `Bert` reads."""
    try:
        config = _read(folder / "config.json")
    except (OSError, ValueError):
        return False
    form = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "position_embedding_type": "absolute",
        "is_decoder": False, "auto_map": None,
    }  # fmt: skip
    files = [folder / name for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json")]
    return all(config.get(key, value) == value for key, value in form.items()) and all(file.is_file() for file in files)


def within(offsets: Sequence[tuple[int, int]], spans: Spans) -> np.ndarray:
    """1 for each token with a character in one of the spans, else 0, float32 [tokens]. Special tokens have no characters."""
    inside = [any(max(start, first) < min(end, last) for first, last in spans) for start, end in offsets]
    return np.array(inside, np.float32)


def _read(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a JSON object")
    return document
