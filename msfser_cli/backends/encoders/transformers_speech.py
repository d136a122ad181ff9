"""Any transformers speech encoder (WavLM, HuBERT, wav2vec 2.0, data2vec, Whisper): its states, pooled over the utterance.

A folder with a `pooling.json`, as `msfser train --finetune` leaves it, is pooled as that says; any other by the mean and
deviation of the last states. Of Whisper, only the encoder is used, and what pads its window is not pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends.encoders import SAFELY, whole_model, windows
from msfser_cli.backends.inference import Inference, batches
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
"""Audio in one batch, padding included: bounds memory whatever the clips' lengths."""
WINDOW = 30 * SAMPLE_RATE_HZ
"""Samples that are encoded at once; attention's memory grows with their square."""
SHORTEST = SAMPLE_RATE_HZ // 10
"""Clips are padded with silence to at least this many samples, so that the convolutions leave a frame."""


class TransformersSpeech:
    """Clips are sorted by length and batched; what pads a clip beyond `SHORTEST` is masked in the model and in the pooling.

    A clip of more than 30 s is encoded in equal parts, each normalised as the extractor does it; all their frames are pooled
    together.

    extractor, model: transformers' own; pooling: what is done with the model's states, in float32. All in evaluation mode.
    precision: of the weights; None for half on a GPU and single elsewhere.
    """

    def __init__(self, folder: Path, precision: torch.dtype | None = None) -> None:
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.utils import logging

        from msfser_cli.model import pooling

        logging.set_verbosity_error()  # a checkpoint's unused heads are no news
        try:
            self.extractor: Any = AutoFeatureExtractor.from_pretrained(folder, **SAFELY)
            model = whole_model(AutoModel, folder, without="decoder.", use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: not a transformers speech encoder ({error})") from error
        self._is_whisper = model.config.model_type == "whisper"
        if self._is_whisper:
            model.decoder = None
        elif model.main_input_name != "input_values" or not hasattr(model, "_get_feature_vector_attention_mask"):
            raise ModelError(f"{folder}: {type(model).__name__} is not a speech encoder such as WavLM, HuBERT or Whisper")
        if self.extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelError(f"{folder}: expects {self.extractor.sampling_rate} Hz, msfser gives {SAMPLE_RATE_HZ} Hz")
        width, states = int(model.config.hidden_size), int(model.config.num_hidden_layers) + 1
        found = pooling.load(folder) or pooling.Pooling(pooling.PoolingConfig(hidden_dim=width, states=states))
        if (made_for := (found.config.states, found.config.hidden_dim)) != (states, width):
            raise ModelError(
                f"{folder / pooling.CONFIG_NAME}: for {made_for[0]} states of width {made_for[1]}, but the encoder has {states} "
                f"of width {width}"
            )
        # Layer norm in the front end leaves each frame to itself. Where it is normalised over all of the padded batch (group
        # norm), or where several convolutions tell the positions (data2vec), padding leaks into the frames of a clip: such a
        # model is given one clip at a time.
        self._masks_padding = self._is_whisper or getattr(model.config, "feat_extract_norm", None) == "layer"
        self._inference = Inference(model, self._most(BATCH_SECONDS), precision)
        self.model: Any = self._inference.model
        self.pooling: Pooling = found.eval().to(self._inference.device)
        self.dimension = 2 * width

    def encode(self, clips: Sequence[Samples]) -> np.ndarray:
        """float32 [len(clips), 2 * hidden size]."""
        import torch

        from msfser_cli.model.pooling import merged

        parts = [(clip, *part) for clip in clips for part in self.parts(len(clip))]
        statistics = torch.empty(len(parts), 1 + self.dimension)

        def encode(batch: list[int]) -> Tensor:
            return self.statistics(self.inputs([clip[start:end] for clip, start, end in (parts[i] for i in batch)]))

        for batch, made in self._inference.over(self._heard([end - start for _, start, end in parts]), encode):
            statistics[batch] = made
        vectors = np.empty((len(clips), self.dimension), np.float32)
        of_clips = torch.split(statistics, [len(self.parts(len(clip))) for clip in clips])
        for vector, of_clip in zip(vectors, of_clips, strict=True):
            vector[:] = merged(of_clip).numpy()
        return vectors

    def parts(self, length: int) -> list[tuple[int, int]]:
        """Where the parts of a clip of `length` samples start and end."""
        return windows(length, self.extractor.n_samples if self._is_whisper else WINDOW)

    def batches(self, lengths: Sequence[int], seconds: float) -> list[list[int]]:
        """The indices of parts with these lengths in samples, in batches of at most `seconds` each: alike in length."""
        return batches(self._heard(lengths), self._most(seconds))

    def _most(self, seconds: float) -> float:
        return seconds * SAMPLE_RATE_HZ if self._masks_padding else 0.0

    def _heard(self, lengths: Sequence[int]) -> list[int]:
        """The lengths with what the model pads each part to: Whisper's window is always full."""
        return [self.extractor.n_samples] * len(lengths) if self._is_whisper else list(lengths)

    def inputs(self, parts: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """One batch as the model takes it: its main input [B, ...] and, where padding is masked, `attention_mask`."""
        config = self.pooling.config
        clips = [(p - config.waveform_mean) / config.waveform_std for p in parts]
        shortest = 1 if self._is_whisper else SHORTEST
        clips = [np.pad(c, (0, max(0, shortest - len(c)))).astype(np.float32, copy=False) for c in clips]
        made = self.extractor(
            clips, sampling_rate=SAMPLE_RATE_HZ, padding="max_length" if self._is_whisper else True,
            return_attention_mask=self._masks_padding, return_tensors="pt",
        )  # fmt: skip
        return dict(made.to(self._inference.device))

    def statistics(self, inputs: dict[str, Tensor]) -> Tensor:
        """What `pooling.merged` needs of one batch of `inputs`, float32 [B, 1 + 2 * hidden size] on the CPU; gradients pass.

        A model in training mode computes in bfloat16 where there is a GPU.
        """
        import torch

        device, name = self._inference.device, self.model.main_input_name
        of_layers = self.pooling.config.layers == "all"
        values, mask = inputs[name].to(self.model.dtype), inputs.get("attention_mask")
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and self.model.training):
            if self._is_whisper:  # which has no mask: it is as used to silence as to speech
                out = self.model.encoder(values, output_hidden_states=of_layers)
            else:
                out = self.model(values, attention_mask=mask, output_hidden_states=of_layers)
        last = out.last_hidden_state
        if mask is None:
            frames = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        elif self._is_whisper:
            frames = mask[:, ::2].bool()  # of the spectrum, of which every second frame is the middle of a state
        else:
            frames = self.model._get_feature_vector_attention_mask(last.shape[1], mask).bool()
        states = (last,) if out.hidden_states is None else out.hidden_states
        made: Tensor = self.pooling.statistics([state.float() for state in states], frames)
        return made.cpu()

    def takes_levels_as_they_are(self) -> bool:
        """Whether waveforms need no normalisation: the extractor has it done, or Whisper's spectrum."""
        return self._is_whisper or bool(getattr(self.extractor, "do_normalize", False))

    def freeze_front_end(self) -> None:
        """Keep what comes before the layers from learning."""
        if self._is_whisper:
            for module in (self.model.encoder.conv1, self.model.encoder.conv2, self.model.encoder.embed_positions):
                module.requires_grad_(False)
        else:
            self.model.feature_extractor._freeze_parameters()

    def save(self, folder: Path) -> None:
        """Write what `load` reads into `folder`."""
        from msfser_cli.model import pooling

        self.model.save_pretrained(folder)
        self.extractor.save_pretrained(folder)
        pooling.save(folder, self.pooling)


def load(folder: Path, precision: torch.dtype | None = None) -> TransformersSpeech:
    """The encoder in `folder`: config.json, preprocessor_config.json, weights, perhaps a pooling. ModelError otherwise."""
    return TransformersSpeech(folder, precision)
