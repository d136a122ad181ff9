"""Any transformers text encoder (MiniLM, RoBERTa): the mean of its last states over the text's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.encoders import SAFELY, whole_model
from msfser_cli.backends.inference import Inference
from msfser_cli.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from msfser_cli.backends import Spans

REQUIRES = ("torch", "transformers")

BATCH_TOKENS = 4096
"""Tokens in one batch, padding included."""


class TransformersText:
    """Texts are batched by their length in tokens; padding is masked in the model and in the mean."""

    def __init__(self, folder: Path, precision: torch.dtype | None = None) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # a checkpoint's unused heads are no news
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **SAFELY)
            model = whole_model(AutoModel, folder, use_safetensors=True, add_pooling_layer=False)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{folder}: not a transformers text encoder ({error})") from error
        self._folder = folder
        # RoBERTa counts positions from its padding index, so fewer tokens fit than its table has rows.
        positions = int(model.config.max_position_embeddings)
        offset = (model.config.pad_token_id or 0) + 1 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        self._longest = min(positions - offset, self._tokenizer.model_max_length)
        self._inference = Inference(model, BATCH_TOKENS, precision)
        self.dimension = int(model.config.hidden_size)

    def encode(self, texts: Sequence[str], spans: Sequence[Spans] | None = None) -> np.ndarray:
        """float32 [len(texts), dimension]; texts beyond the model's length are cut at its end.

        With `spans`, the mean is over the tokens that have a character in one of a text's spans; NaN where none is left.
        ModelError for spans if the tokenizer does not say which characters a token is of.
        """
        if spans is not None and not self._tokenizer.is_fast:
            raise ModelError(f"{self._folder}: its tokenizer does not say where in a text its tokens are; embed with --les words")
        vectors = np.full((len(texts), self.dimension), np.nan, np.float32)
        if not texts:
            return vectors
        tokens = self._tokenizer(
            list(texts), truncation=True, max_length=self._longest, return_offsets_mapping=spans is not None
        )  # fmt: skip
        counted = [np.ones(len(ids), np.float32) for ids in tokens["input_ids"]]
        if spans is not None:
            counted = [_within(offsets, of) for offsets, of in zip(tokens.pop("offset_mapping"), spans, strict=True)]
        there = [i for i, share in enumerate(counted) if share.any()]

        def encode(batch: list[int]) -> torch.Tensor:
            of_batch = {name: [values[there[j]] for j in batch] for name, values in tokens.items()}
            return self._pooled(of_batch, [counted[there[j]] for j in batch])

        for batch, made in self._inference.over([len(counted[i]) for i in there], encode):
            vectors[[there[j] for j in batch]] = made.numpy()
        return vectors

    def _pooled(self, tokens: dict[str, list[list[int]]], counted: list[np.ndarray]) -> torch.Tensor:
        """The vectors of one batch, float32 [B, dimension] on the CPU; counted: the weight of each token of each text."""
        import torch

        inputs = self._tokenizer.pad(tokens, return_tensors="pt").to(self._inference.device)
        states = self._inference.model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].bool()
        weight = torch.zeros_like(mask, dtype=torch.float32)
        weight[mask] = torch.from_numpy(np.concatenate(counted)).to(weight.device)
        weight = weight.unsqueeze(-1)
        vectors: torch.Tensor = (states * weight).sum(1) / weight.sum(1)
        return vectors.cpu()


def _within(offsets: Sequence[tuple[int, int]], spans: Spans) -> np.ndarray:
    """1 for each token with a character in one of the spans, 0 for others and for those that are no part of the text."""
    inside = [any(max(start, first) < min(end, last) for first, last in spans) for start, end in offsets]
    return np.array(inside, np.float32)


def load(folder: Path, precision: torch.dtype | None = None) -> TransformersText:
    """The encoder in `folder`: config.json, weights and a tokenizer. ModelError otherwise."""
    return TransformersText(folder, precision)
