"""Any transformers speech encoder (WavLM, HuBERT, wav2vec 2.0, data2vec, Whisper): its states, pooled over the utterance.

A folder from `msfser train --finetune` has a `pooling.json`, which says how to pool. Other folders use the mean and deviation of
the last states. Of Whisper, only the encoder is used, and the padding of its window is not pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.encoders import windows
from msfser_cli.backends.inference import Batches, Inference
from msfser_cli.backends.loading import SAFELY, loading, whole_model
from msfser_cli.errors import ModelError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from msfser_cli.model.pooling import Pooling
    from msfser_cli.store.audio import Samples

REQUIRES = ("torch", "transformers")

BATCH_SECONDS = 60.0
"""The most seconds of audio in a batch, padding included. This bounds the memory for clips of any length."""
WINDOW = 30 * SAMPLE_RATE_HZ
"""The most samples that are encoded together. The memory of attention grows with their square."""
SHORTEST = SAMPLE_RATE_HZ // 10
"""Shorter clips are padded with silence to this many samples, so that the convolutions give at least one frame."""


class TransformersSpeech:
    """A speech encoder with its pooling, in evaluation mode.

    Clips are sorted by length and batched. Padding beyond `SHORTEST` is masked in the model and in the pooling. A clip of more
    than 30 s is encoded in equal parts. The extractor normalises each part, and the frames of all parts are pooled together.

    extractor, model: those of transformers. pooling: turns the model's states into a vector, in float32.
    precision: of the weights; None: float16 on a GPU and float32 on a CPU.
    """

    def __init__(self, folder: Path, precision: torch.dtype | None = None) -> None:
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        from msfser_cli.model import pooling

        logging.set_verbosity_error()  # or it warns of a checkpoint's unused heads
        with loading(folder, "not a transformers speech encoder"):
            self.extractor: Any = AutoFeatureExtractor.from_pretrained(folder, **SAFELY)
            model = whole_model(AutoModel, folder, without="decoder.", use_safetensors=True)
        self._is_whisper = model.config.model_type == "whisper"
        if self._is_whisper:
            model.decoder = None
        elif model.main_input_name != "input_values" or not hasattr(model, "_get_feature_vector_attention_mask"):
            raise ModelError(f"{folder}: {type(model).__name__} is not a speech encoder such as WavLM, HuBERT or Whisper")
        if self.extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelError(
                f"{folder}: needs audio at {self.extractor.sampling_rate} Hz, but msfser has {SAMPLE_RATE_HZ} Hz; "
                "use another model"
            )
        width, states = int(model.config.hidden_size), int(model.config.num_hidden_layers) + 1
        pooling_ = pooling.load(folder) or pooling.Pooling(pooling.PoolingConfig(hidden_dim=width, states=states))
        if (sizes := (pooling_.config.states, pooling_.config.hidden_dim)) != (states, width):
            raise ModelError(
                f"{folder / pooling.CONFIG_NAME}: for {sizes[0]} states of width {sizes[1]}, but the encoder has {states} "
                f"of width {width}; use the two files that were saved together"
            )
        # With layer norm in the front end, a frame does not depend on other frames. With group norm (over the whole padded batch)
        # or with several convolutions for the positions (data2vec), padding would change the frames of a clip. Such a model gets
        # one clip at a time.
        self._masks_padding = self._is_whisper or getattr(model.config, "feat_extract_norm", None) == "layer"
        self._inference = Inference(model, self._batch_samples(BATCH_SECONDS), precision)
        self.model: Any = self._inference.model
        self.pooling: Pooling = pooling_.eval().to(self._inference.device)
        self.dimension = 2 * width

    def encode(self, clips: Sequence[Samples]) -> np.ndarray:
        """float32 [len(clips), 2 * hidden size]."""
        import torch

        from msfser_cli.model.pooling import merged

        parts = [(clip, *part) for clip in clips for part in self.parts(len(clip))]
        statistics = torch.empty(len(parts), 1 + self.dimension)

        def encode(batch: list[int]) -> Tensor:
            return self.statistics(self.inputs([clip[start:end] for clip, start, end in (parts[i] for i in batch)]))

        for batch, rows in self._inference.over(self._padded([end - start for _, start, end in parts]), encode):
            statistics[batch] = rows
        vectors = np.empty((len(clips), self.dimension), np.float32)
        of_clips = torch.split(statistics, [len(self.parts(len(clip))) for clip in clips])
        for vector, of_clip in zip(vectors, of_clips, strict=True):
            vector[:] = merged(of_clip).numpy()
        return vectors

    def parts(self, length: int) -> list[tuple[int, int]]:
        """Start and end of the parts of a clip of `length` samples."""
        return windows(length, self.extractor.n_samples if self._is_whisper else WINDOW)

    def batches(self, lengths: Sequence[int], seconds: float) -> list[list[int]]:
        """The indices of parts, in batches of similar length with at most `seconds` of audio each. lengths: in samples."""
        return Batches(self._batch_samples(seconds)).of(self._padded(lengths))

    def _batch_samples(self, seconds: float) -> float:
        return seconds * SAMPLE_RATE_HZ if self._masks_padding else 0.0

    def _padded(self, lengths: Sequence[int]) -> list[int]:
        """The lengths of parts after the model's own padding: Whisper pads each part to its window."""
        return [self.extractor.n_samples] * len(lengths) if self._is_whisper else list(lengths)

    def inputs(self, parts: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """The model's inputs for one batch: its main input [B, ...] and, if padding is masked, `attention_mask`."""
        config = self.pooling.config
        clips = [(p - config.waveform_mean) / config.waveform_std for p in parts]
        shortest = 1 if self._is_whisper else SHORTEST
        clips = [np.pad(c, (0, max(0, shortest - len(c)))).astype(np.float32, copy=False) for c in clips]
        inputs = self.extractor(
            clips, sampling_rate=SAMPLE_RATE_HZ, padding="max_length" if self._is_whisper else True,
            return_attention_mask=self._masks_padding, return_tensors="pt",
        )  # fmt: skip
        return dict(inputs.to(self._inference.device))

    def statistics(self, inputs: dict[str, Tensor]) -> Tensor:
        """The statistics of one batch for `pooling.merged`, float32 [B, 1 + 2 * hidden size] on the CPU. Gradients pass.

        On a GPU, a model in training mode computes in bfloat16.
        """
        import torch

        device, name = self._inference.device, self.model.main_input_name
        of_layers = self.pooling.config.layers == "all"
        values, mask = inputs[name].to(self.model.dtype), inputs.get("attention_mask")
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and self.model.training):
            if self._is_whisper:  # Whisper takes no mask: it was trained with windows padded with silence
                out = self.model.encoder(values, output_hidden_states=of_layers)
            else:
                out = self.model(values, attention_mask=mask, output_hidden_states=of_layers)
        last = out.last_hidden_state
        if mask is None:
            frames = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        elif self._is_whisper:
            frames = mask[:, ::2].bool()  # the mask is for spectrum frames; a state is centred on every second one
        else:
            frames = self.model._get_feature_vector_attention_mask(last.shape[1], mask).bool()
        states = (last,) if out.hidden_states is None else out.hidden_states
        statistics: Tensor = self.pooling.statistics([state.float() for state in states], frames)
        return statistics.cpu()

    def takes_levels_as_they_are(self) -> bool:
        """Whether waveforms need no normalisation, because the extractor or Whisper's spectrum does it."""
        return self._is_whisper or bool(getattr(self.extractor, "do_normalize", False))

    def freeze_front_end(self) -> None:
        """Exclude the parameters before the layers from training."""
        if self._is_whisper:
            for module in (self.model.encoder.conv1, self.model.encoder.conv2, self.model.encoder.embed_positions):
                module.requires_grad_(False)
        else:
            self.model.feature_extractor._freeze_parameters()

    def save(self, folder: Path) -> None:
        """Write the encoder and its pooling into `folder`, for `load`."""
        from msfser_cli.model import pooling

        self.model.save_pretrained(folder)
        self.extractor.save_pretrained(folder)
        pooling.save(folder, self.pooling)


def load(folder: Path, precision: torch.dtype | None = None) -> TransformersSpeech:
    """The encoder in `folder`, which has config.json, preprocessor_config.json, weights, and perhaps a pooling.

    ModelError if it is not such an encoder.
    """
    return TransformersSpeech(folder, precision)
