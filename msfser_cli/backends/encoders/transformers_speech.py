"""Any transformers speech encoder (WavLM, wav2vec 2.0, HuBERT): its states, pooled over the utterance.

A folder with a `pooling.json`, as `msfser train --finetune` leaves it, is pooled as that says; any other by the mean and
deviation of the last states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.encoders import SAFELY, whole_model
from msfser_cli.errors import ModelError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from msfser_cli.model.pooling import Pooling
    from msfser_cli.store.audio import Samples

REQUIRES = ("torch", "transformers")

BATCH_SECONDS = 60.0
"""Audio in one batch, padding included: bounds memory whatever the clips' lengths."""
SHORTEST = SAMPLE_RATE_HZ // 10
"""Clips are padded with silence to at least this many samples, so that the convolutions leave a frame."""


class TransformersSpeech:
    """Clips are sorted by length and batched; what pads a clip beyond `SHORTEST` is masked in the model and in the pooling.

    extractor, model: transformers' own; pooling: what is done with the model's states. All in evaluation mode.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        from msfser_cli.model import pooling

        logging.set_verbosity_error()  # a checkpoint's unused heads are no news
        try:
            self.extractor: Any = AutoFeatureExtractor.from_pretrained(folder, **SAFELY)
            model = whole_model(AutoModel, folder, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: not a transformers speech encoder ({error})") from error
        if not hasattr(model, "_get_feature_vector_attention_mask"):
            raise ModelError(f"{folder}: {type(model).__name__} is not a speech encoder on raw waveforms such as WavLM or HuBERT")
        if self.extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelError(f"{folder}: expects {self.extractor.sampling_rate} Hz, msfser gives {SAMPLE_RATE_HZ} Hz")
        width, states = int(model.config.hidden_size), int(model.config.num_hidden_layers) + 1
        found = pooling.load(folder) or pooling.Pooling(pooling.PoolingConfig(hidden_dim=width, states=states))
        if (made_for := (found.config.states, found.config.hidden_dim)) != (states, width):
            raise ModelError(
                f"{folder / pooling.CONFIG_NAME}: for {made_for[0]} states of width {made_for[1]}, but the encoder has {states} "
                f"of width {width}"
            )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = model.eval().to(self._device)
        self.pooling: Pooling = found.eval().to(self._device)
        # A front end normalised over the whole padded batch (group norm) lets padding leak into the frames; such models
        # were trained without a mask and can only be given one clip at a time.
        self._masks_padding = model.config.feat_extract_norm == "layer"
        self.dimension = 2 * width

    def encode(self, clips: Sequence[Samples]) -> np.ndarray:
        """float32 [len(clips), 2 * hidden size]."""
        import torch

        vectors = np.empty((len(clips), self.dimension), np.float32)
        with torch.inference_mode():
            for chosen in self.batches([len(c) for c in clips]):
                vectors[chosen] = self.pooled(self.inputs([clips[i][:] for i in chosen])).numpy()
        return vectors

    def batches(self, lengths: Sequence[int], seconds: float = BATCH_SECONDS) -> list[list[int]]:
        """The indices of clips with these lengths in samples, in batches of at most `seconds` each: alike in length."""
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            fits = batches and (len(batches[-1]) + 1) * lengths[i] <= seconds * SAMPLE_RATE_HZ
            if self._masks_padding and fits:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def inputs(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """One batch of clips as the model takes them: `input_values` [B, n] and, where padding is masked, `attention_mask`."""
        config = self.pooling.config
        clips = [(c - config.waveform_mean) / config.waveform_std for c in clips]
        clips = [np.pad(c, (0, max(0, SHORTEST - len(c)))).astype(np.float32, copy=False) for c in clips]
        made = self.extractor(
            clips, sampling_rate=SAMPLE_RATE_HZ, padding=True, return_attention_mask=self._masks_padding, return_tensors="pt"
        )
        return dict(made.to(self._device))

    def pooled(self, inputs: dict[str, Tensor]) -> Tensor:
        """The vectors of one batch of `inputs`, float32 [B, 2 * hidden size] on the CPU; gradients pass through.

        A model in training mode computes in bfloat16 where there is a GPU.
        """
        import torch

        on_gpu = self._device == "cuda"
        with torch.autocast(self._device, torch.bfloat16, enabled=on_gpu and self.model.training):
            out = self.model(**inputs, output_hidden_states=self.pooling.config.layers == "all")
        last = out.last_hidden_state
        if self._masks_padding:
            mask = self.model._get_feature_vector_attention_mask(last.shape[1], inputs["attention_mask"]).bool()
        else:
            mask = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        states = (last,) if out.hidden_states is None else out.hidden_states
        vectors: Tensor = self.pooling([state.float() for state in states], mask)
        return vectors.cpu()

    def save(self, folder: Path) -> None:
        """Write what `load` reads into `folder`."""
        from msfser_cli.model import pooling

        self.model.save_pretrained(folder)
        self.extractor.save_pretrained(folder)
        pooling.save(folder, self.pooling)


def load(folder: Path) -> TransformersSpeech:
    """The encoder in `folder`: config.json, preprocessor_config.json, weights, perhaps a pooling. ModelError otherwise."""
    return TransformersSpeech(folder)
