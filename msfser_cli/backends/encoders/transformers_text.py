"""Any transformers text encoder (MiniLM, RoBERTa): the mean of its last states over the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.bert import Bert, is_plain, within
from msfser_cli.backends.inference import Inference
from msfser_cli.backends.loading import SAFELY, loading, whole_model
from msfser_cli.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from msfser_cli.backends import Spans

REQUIRES = ("torch", "transformers")

BATCH_TOKENS = 4096
"""The most tokens of a batch, padding included."""


class TransformersText:
    """A text encoder in evaluation mode. Texts are batched by length. Padding is masked in the model and in the mean.

    precision: of the weights; None: float16 on a GPU and float32 on a CPU.
    """

    def __init__(self, folder: Path, precision: torch.dtype | None = None) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # or it warns of a checkpoint's unused heads
        with loading(folder, "not a transformers text encoder"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **SAFELY)
            model = whole_model(AutoModel, folder, use_safetensors=True, add_pooling_layer=False)
        self._folder = folder
        # RoBERTa counts positions from after its padding index, so fewer tokens fit than its table has rows.
        positions = int(model.config.max_position_embeddings)
        offset = (model.config.pad_token_id or 0) + 1 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        self._longest = min(positions - offset, self._tokenizer.model_max_length)
        self._inference = Inference(model, BATCH_TOKENS, precision)
        self.dimension = int(model.config.hidden_size)

    def encode(self, texts: Sequence[str], spans: Sequence[Spans] | None = None) -> np.ndarray:
        """One vector per text, float32 [len(texts), dimension]. Texts beyond the model's maximum length are cut.

        With `spans`, the mean is over the tokens that have a character in one of the text's spans. It is NaN if there is no such
        token. ModelError if the tokenizer does not give the characters of each token, which `spans` need.
        """
        if spans is not None and not self._tokenizer.is_fast:
            raise ModelError(f"{self._folder}: its tokenizer does not give the characters of a token; embed with --les words")
        vectors = np.full((len(texts), self.dimension), np.nan, np.float32)
        if not texts:
            return vectors
        tokens = self._tokenizer(
            list(texts), truncation=True, max_length=self._longest, return_offsets_mapping=spans is not None
        )  # fmt: skip
        weights = [np.ones(len(ids), np.float32) for ids in tokens["input_ids"]]
        if spans is not None:
            weights = [within(offsets, of_text) for offsets, of_text in zip(tokens.pop("offset_mapping"), spans, strict=True)]
        nonempty = [i for i, weight in enumerate(weights) if weight.any()]

        def encode(batch: list[int]) -> torch.Tensor:
            of_batch = {name: [values[nonempty[j]] for j in batch] for name, values in tokens.items()}
            return self._pooled(of_batch, [weights[nonempty[j]] for j in batch])

        for batch, rows in self._inference.over([len(weights[i]) for i in nonempty], encode):
            vectors[[nonempty[j] for j in batch]] = rows.numpy()
        return vectors

    def _pooled(self, tokens: dict[str, list[list[int]]], weights: list[np.ndarray]) -> torch.Tensor:
        """The vectors of one batch, float32 [B, dimension] on the CPU. weights: of each token of each text."""
        import torch

        inputs = self._tokenizer.pad(tokens, return_tensors="pt").to(self._inference.device)
        states = self._inference.model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].bool()
        weight = torch.zeros_like(mask, dtype=torch.float32)
        weight[mask] = torch.from_numpy(np.concatenate(weights)).to(weight.device)
        weight = weight.unsqueeze(-1)
        vectors: torch.Tensor = (states * weight).sum(1) / weight.sum(1)
        return vectors.cpu()


def load(folder: Path, precision: torch.dtype | None = None) -> TransformersText | Bert:
    """The encoder in `folder`, which has config.json, weights and a tokenizer. ModelError if it is not such an encoder."""
    import torch

    if precision is None and not torch.cuda.is_available() and is_plain(folder):
        return Bert(folder)
    return TransformersText(folder, precision)
