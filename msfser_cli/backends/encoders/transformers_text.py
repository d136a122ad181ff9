"""Any transformers text encoder (MiniLM, RoBERTa): the mean of its last states over the text's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends.encoders import SAFELY, whole_model
from msfser_cli.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

REQUIRES = ("torch", "transformers")

BATCH = 32


class TransformersText:
    """Texts are sorted by length and batched; padding is masked in the model and in the mean."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # a checkpoint's unused heads are no news
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **SAFELY)
            model = whole_model(AutoModel, folder, use_safetensors=True, add_pooling_layer=False)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{folder}: not a transformers text encoder ({error})") from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        # RoBERTa counts positions from its padding index, so fewer tokens fit than its table has rows.
        positions = int(model.config.max_position_embeddings)
        offset = (model.config.pad_token_id or 0) + 1 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        self._longest = min(positions - offset, self._tokenizer.model_max_length)
        self.dimension = int(model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension]; texts beyond the model's length are cut at its end."""
        import torch

        vectors = np.empty((len(texts), self.dimension), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            tokens = self._tokenizer(
                [texts[i] for i in chosen], padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
            ).to(self._device)
            with torch.inference_mode():
                states = self._model(**tokens).last_hidden_state
                mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
                vectors[chosen] = ((states * mask).sum(1) / mask.sum(1)).float().cpu().numpy()
        return vectors


def load(folder: Path) -> TransformersText:
    """The encoder in `folder`: config.json, weights and a tokenizer. ModelError otherwise."""
    return TransformersText(folder)
