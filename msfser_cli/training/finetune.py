"""train --finetune: computes acoustic vectors from the audio of a training set, with an encoder and a pooling that are trained.

The CCC of a batch needs the vectors of all its utterances together, but memory is too small for all their activations. So each
part of the batch is encoded without keeping its activations, and encoded again in the backward pass (activation checkpointing).
The gradient is that of the whole batch, but memory holds only one part.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from msfser_cli.backends.encoders.transformers_speech import BATCH_SECONDS, TransformersSpeech
from msfser_cli.backends.registry import loaded
from msfser_cli.errors import RecordingError, TableError, UsageError
from msfser_cli.model.pooling import Pooling, PoolingConfig, merged
from msfser_cli.model_store.models import ModelFolder, locate
from msfser_cli.runs.chain import hearing_of
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.settings import FinetuneSettings
from msfser_cli.store.audio import Audio
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.levels import levelled
from msfser_cli.store.media import Media
from msfser_cli.store.objects import Location, location
from msfser_cli.store.root import path_of
from msfser_cli.training.training_set import TrainingSet

BACKEND = "transformers-speech"
"""The back end of the encoder, before and after training."""
CLIPS_BYTES = 2 << 30
"""The most decoded speech that is kept in memory, in bytes: about nine hours."""
PART_SECONDS = 24.0
"""Seconds of audio in a part of a batch. Memory holds the activations of one part, which has two full crops."""
SAMPLE = 1024
"""The number of utterances from which the mean and deviation of waveforms and of first vectors are computed."""


def backbone(examples: TrainingSet, settings: FinetuneSettings) -> ModelFolder:
    """The encoder to start from: the one in `settings`, else the voice encoder of the table.

    UsageError if the table's encoder is of another back end. ModelError if the encoder is not on this machine.
    """
    embed = examples.lineage.settings.get("embed", {})
    if not settings.backbone and embed.get("acoustic_encoder") != BACKEND:
        raise UsageError(
            f"{examples.table}: its voices were encoded with {embed.get('acoustic_encoder')}, which cannot be fine-tuned; pass a "
            "transformers speech encoder as --backbone, such as wavlm-large or a folder"
        )
    return locate(settings.backbone or embed["acoustic_model"])


@dataclass(frozen=True)
class _Recording:
    place: Location
    sha256: str
    utterances: list[int]


class Clips:
    """The samples of a training set's utterances, by index: float32 [n], 16 kHz.

    If an utterance is not in memory, its whole recording is decoded, and the recording's other utterances are kept in memory too,
    up to `CLIPS_BYTES`. For a larger corpus, cut it into one file per utterance. Then no audio is decoded without being used.

    TableError if the ledger or a recording is missing.
    """

    def __init__(self, examples: TrainingSet, root: Location | None) -> None:
        self._table = examples.table
        folder = root or location(examples.lineage.corpus_root or ".")
        self._start, self._end = (examples.utterances[name].to_numpy() for name in ("start", "end"))
        self._of = examples.utterances["recording_id"].to_list()
        self._channel = examples.utterances["channel"].to_list()
        self._hearing = hearing_of(examples.lineage.settings.get("transcribe", {}))
        ledger = read_ledger(examples.table)
        self._recordings: dict[str, _Recording] = {}
        for i in sorted({*examples.train.tolist(), *examples.development.tolist()}):
            name = self._of[i]
            if name not in self._recordings:
                if name not in ledger:
                    raise TableError(self._table, f"its ledger has no line for {name}", "use the ledger that was written with it")
                self._recordings[name] = _Recording(path_of(folder, name), ledger[name]["sha256"], [])
            self._recordings[name].utterances.append(i)
        missing = [r.place for r in self._recordings.values() if isinstance(r.place, Path) and not r.place.is_file()]
        if missing:
            raise TableError(
                self._table, f"{len(missing)} of its {len(self._recordings)} recordings do not exist, such as {missing[0]}",
                "pass the folder where they are now as --root",
            )  # fmt: skip
        self._verified: set[Location] = set()
        self._remembered: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def length(self, i: int) -> int:
        """The number of samples of utterance `i`, from its start and end."""
        return int(round(self._end[i] * SAMPLE_RATE_HZ) - round(self._start[i] * SAMPLE_RATE_HZ))

    def __getitem__(self, i: int) -> np.ndarray:
        """The samples of utterance `i`. TableError if its recording cannot be read, or is not the file that the table is from."""
        if i in self._remembered:
            self._remembered.move_to_end(i)
            return self._remembered[i]
        recording = self._recordings[self._of[i]]
        audio = self._decoded(recording)
        for other in (*(u for u in recording.utterances if u != i), i):  # `i` comes last, so that it is dropped last
            self._remember(other, levelled(audio.of_channel(self._channel[other])).clip(self._start[other], self._end[other]))
        return self._remembered[i]

    def _decoded(self, recording: _Recording) -> Audio:
        place = recording.place
        try:
            with Media(place) as media:
                if place not in self._verified and media.content().sha256 != recording.sha256:
                    raise TableError(self._table, f"{place} is not the file that the table is from", "transcribe it again")
                self._verified.add(place)
                return media.audio(**self._hearing)
        except RecordingError as error:
            raise TableError(self._table, f"{place} cannot be read ({error})", "restore the file") from error

    def _remember(self, i: int, clip: np.ndarray) -> None:
        if i not in self._remembered:
            self._bytes += clip.nbytes
        self._remembered[i] = clip
        self._remembered.move_to_end(i)
        while self._bytes > CLIPS_BYTES and len(self._remembered) > 1:
            self._bytes -= self._remembered.popitem(last=False)[1].nbytes


class Voice(nn.Module):
    """Computes the acoustic vectors of utterances, with the speech encoder of `start` and a new pooling. Both are trained.

    In training, an utterance longer than the crop is cut to a random part of that length, each time another. Otherwise the whole
    utterance is encoded, with the same code as in `embed`. SpecAugment and layer drop of the encoder are switched off; dropout is
    not. on_audio: called with the seconds of audio that were just encoded.
    """

    def __init__(self, start: ModelFolder, clips: Clips, settings: FinetuneSettings, on_audio: Callable[[float], None]) -> None:
        super().__init__()
        self.start = start
        self._speech: TransformersSpeech = loaded("encoders", BACKEND, start.path, torch.float32)
        self._clips, self._crop, self._on_audio = clips, round(settings.crop * SAMPLE_RATE_HZ), on_audio
        self.encoder: Any = self._speech.model
        self.encoder.config.update({"apply_spec_augment": False, "layerdrop": 0.0})
        self.encoder.encoder.layerdrop = 0.0  # Whisper keeps it here
        self._freeze(settings.train_layers)
        config = self._speech.pooling.config
        self._pool(replace(config, layers=settings.layers, pooling=settings.pooling, waveform_mean=0.0, waveform_std=1.0))

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._speech.dimension

    def forward(self, chosen: Tensor) -> Tensor:
        """The vectors of the utterances `chosen` (indices, int64 [B]): float32 [B, dimension] on the CPU. Gradients pass."""
        utterances = chosen.tolist()
        spans = [self._span(i) for i in utterances]
        seconds = PART_SECONDS if self.training else BATCH_SECONDS
        of_each = [self._speech.parts(stop - first) for first, stop in spans]
        parts = [
            (i, first + start, first + end)
            for i, (first, _), cut in zip(utterances, spans, of_each, strict=True) for start, end in cut
        ]  # fmt: skip
        batches = self._speech.batches([end - start for _, start, end in parts], seconds)
        of_batches = []
        for batch in batches:
            clips = [self._clips[i][start:end] for i, start, end in (parts[j] for j in batch)]
            # The arguments are tensors, because `checkpoint` restores the random state of their device in the second pass.
            of_batches.append(checkpoint(self._speech.statistics, self._speech.inputs(clips), use_reentrant=False))
            self._on_audio(sum(map(len, clips)) / SAMPLE_RATE_HZ)
        places = torch.tensor([j for batch in batches for j in batch])
        statistics = torch.cat(of_batches)[torch.argsort(places)]
        return torch.stack([merged(of_one) for of_one in torch.split(statistics, [len(cut) for cut in of_each])])

    @torch.no_grad()
    def normalise_by(self, utterances: np.ndarray) -> None:
        """Set the waveforms' mean and deviation to those of `utterances`, unless the encoder normalises each waveform itself."""
        if self._speech.takes_levels_as_they_are():
            return
        count, total, square = 0, 0.0, 0.0
        for i in utterances.tolist():
            clip = self._clips[i].astype(np.float64)
            count, total, square = count + len(clip), total + float(clip.sum()), square + float(clip @ clip)
        mean = total / count
        deviation = math.sqrt(max(square / count - mean**2, 0.0))
        if deviation > 0:
            self._pool(replace(self.pooling.config, waveform_mean=mean, waveform_std=deviation))

    def save(self, folder: Path) -> None:
        """Write the encoder and its pooling into `folder`, for `transformers_speech.load`."""
        self._speech.save(folder)

    def train(self, mode: bool = True) -> Voice:
        """As `nn.Module.train`, but an encoder without trained parameters stays in evaluation mode."""
        super().train(mode)
        self.encoder.train(mode and any(p.requires_grad for p in self.encoder.parameters()))
        return self

    def _span(self, i: int) -> tuple[int, int]:
        length = self._clips.length(i)
        if not self.training or length <= self._crop:
            return 0, length
        start = int(torch.randint(length - self._crop + 1, ()))
        return start, start + self._crop

    def _freeze(self, train_layers: int | None) -> None:
        layers = self.encoder.encoder.layers
        if train_layers is not None and train_layers > len(layers):
            raise UsageError(f"--train-layers must be at most {len(layers)}, the number of layers, not {train_layers}")
        self.encoder.requires_grad_(train_layers is None)
        for layer in layers[len(layers) - (train_layers or 0) :]:
            layer.requires_grad_(True)
        self._speech.freeze_front_end()

    def _pool(self, config: PoolingConfig) -> None:
        self._speech.pooling = self.pooling = Pooling(config).to(next(self.encoder.parameters()).device)
