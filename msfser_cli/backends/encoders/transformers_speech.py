"""Any transformers speech encoder (WavLM, wav2vec 2.0, HuBERT): mean and deviation of its last states over the utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends.encoders import SAFELY
from msfser_cli.errors import ModelError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

REQUIRES = ("torch", "transformers")

BATCH_SECONDS = 60.0
"""Audio in one batch, padding included: bounds memory whatever the clips' lengths."""
SHORTEST = SAMPLE_RATE_HZ // 10
"""Clips are padded with silence to at least this many samples, so that the convolutions leave a frame."""


class TransformersSpeech:
    """Clips are sorted by length and batched; what pads a clip beyond `SHORTEST` is masked in the model and in the pooling."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # a checkpoint's unused heads are no news
        try:
            self._extractor = AutoFeatureExtractor.from_pretrained(folder, **SAFELY)
            # Without safetensors there is only a pickle, which came this far because its hash is registered.
            model = AutoModel.from_pretrained(folder, use_safetensors=any(folder.glob("model*.safetensors")), **SAFELY)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: not a transformers speech encoder ({error})") from error
        if not hasattr(model, "_get_feature_vector_attention_mask"):
            raise ModelError(f"{folder}: {type(model).__name__} is not a speech encoder on raw waveforms such as WavLM or HuBERT")
        if self._extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelError(f"{folder}: expects {self._extractor.sampling_rate} Hz, msfser gives {SAMPLE_RATE_HZ} Hz")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        # A front end normalised over the whole padded batch (group norm) lets padding leak into the frames; such models
        # were trained without a mask and can only be given one clip at a time.
        self._masks_padding = model.config.feat_extract_norm == "layer"
        self.dimension = 2 * int(model.config.hidden_size)

    def encode(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [len(clips), 2 * hidden size]."""
        vectors = np.empty((len(clips), self.dimension), np.float32)
        for chosen in self._batches([len(c) for c in clips]):
            vectors[chosen] = self._encode([clips[i] for i in chosen])
        return vectors

    def _batches(self, lengths: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            fits = batches and (len(batches[-1]) + 1) * lengths[i] <= BATCH_SECONDS * SAMPLE_RATE_HZ
            if self._masks_padding and fits:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def _encode(self, clips: list[np.ndarray]) -> np.ndarray:
        import torch

        clips = [np.pad(c, (0, max(0, SHORTEST - len(c)))) for c in clips]
        inputs = self._extractor(
            clips, sampling_rate=SAMPLE_RATE_HZ, padding=True, return_attention_mask=True, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            if not self._masks_padding:
                inputs.pop("attention_mask")
            states = self._model(**inputs).last_hidden_state
            if self._masks_padding:
                mask = self._model._get_feature_vector_attention_mask(states.shape[1], inputs["attention_mask"])
            else:
                mask = torch.ones(states.shape[:2], device=states.device)
            weight = mask.unsqueeze(-1).to(states.dtype)
            count = weight.sum(1)
            mean = (states * weight).sum(1) / count
            deviation = (((states - mean.unsqueeze(1)) ** 2 * weight).sum(1) / count).sqrt()
            return torch.cat([mean, deviation], dim=1).float().cpu().numpy()


def load(folder: Path) -> TransformersSpeech:
    """The encoder in `folder`: config.json, preprocessor_config.json and weights. ModelError otherwise."""
    return TransformersSpeech(folder)
