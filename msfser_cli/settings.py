"""The settings of each stage, one frozen dataclass per stage, and the fingerprint of a run's work.

The defaults are those of the profile `mini`. The file of a profile may set any field. A value that a setting does not take raises
UsageError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from msfser_cli.errors import UsageError

UNITS = ("utterance", "file")
COMPUTE_TYPES = ("auto", "int8", "float16", "float32")
ENCODER_LAYERS = ("last", "all")
LES = ("words", "context")
REFERENCES = ("auto", "none", "recording", "speaker")
PER_LANGUAGE = "per-language"
POOLINGS = ("mean-std", "attentive")
CHANNELS = ("mix", "split")
PITCH_TRACKERS = ("swift-f0", "harvest")
MAX_FAILED = 0.2
"""The share of recordings that may fail before a run stops, from 0 to 1."""

LEVEL = 0.9
"""The share of ratings that a prediction interval should hold, above 0 and below 1."""


def _require(ok: bool, name: str, value: object, rule: str) -> None:
    if not ok:
        raise UsageError(f"{name} must be {rule}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class TranscribeSettings:
    """The settings of `transcribe`. Times are in seconds.

    aligner: one model for every language; or `per-language:de,en`: the registered aligners of these languages; or `per-language`:
    the registered aligners that are installed; or empty: no alignment.
    diarize: the pipeline that tells speakers apart, a folder or owner/name; None: speakers are not told apart.
    channels: `mix`; or `split`: rows for each channel; or the number of the one channel to hear, from 0 (`first` is 0).
    audio_track: the number of the audio track to hear, from 0; None: the default track.
    compute_type: Whisper's number format, one of `COMPUTE_TYPES`. auto: int8 on a CPU, float16 on a GPU.
    """

    transcriber: str = "faster-whisper"
    model: str = "whisper-base"
    compute_type: str = "auto"
    aligner: str | None = None
    language: str | None = None
    unit: str = "utterance"
    beam_size: int = 5
    min_utterance: float = 1.0
    max_utterance: float = 12.0
    pause: float = 0.6
    diarize: str | None = None
    channels: str = "mix"
    audio_track: int | None = None

    @property
    def aligned_languages(self) -> tuple[str, ...] | None:
        """The languages of `per-language:...`; () for `per-language` alone; None if `aligner` is one model or empty."""
        kind, _, languages = (self.aligner or "").partition(":")
        return tuple(sorted({*filter(None, languages.split(","))})) if kind == PER_LANGUAGE else None

    def __post_init__(self) -> None:
        _require(self.compute_type in COMPUTE_TYPES, "compute_type", self.compute_type, f"one of {', '.join(COMPUTE_TYPES)}")
        _require(self.unit in UNITS, "unit", self.unit, f"one of {', '.join(UNITS)}")
        _require(self.beam_size >= 1, "beam_size", self.beam_size, "at least 1")
        _require(0 < self.min_utterance < self.max_utterance <= 30, "min_utterance and max_utterance",
                 (self.min_utterance, self.max_utterance), "ordered, above 0 and at most 30 s")
        _require(self.pause > 0, "pause", self.pause, "above 0 s")
        if self.channels == "first":
            object.__setattr__(self, "channels", "0")
        is_number = self.channels.isascii() and self.channels.isdecimal()
        _require(self.channels in CHANNELS or is_number, "channels", self.channels, "mix, split, first or a number from 0")
        if is_number:
            object.__setattr__(self, "channels", str(int(self.channels)))
        _require(self.audio_track is None or self.audio_track >= 0, "audio_track", self.audio_track, "a number from 0")


@dataclass(frozen=True, kw_only=True)
class EmphasizeSettings:
    """The settings of `emphasize`: the cue weights a, b, c of LEMF, and the share of words that count as emphasised.

    The defaults were chosen by tests/benchmarks/bench_emphasis.py --every 2. With the weights 1 3 1, the emphasised word of a
    synthetic sentence has the highest score in 70 % of the sentences (1 1 1: 54 %, chance: 13 %), and is among the emphasised
    fifth in 81 %. Listeners also rely on energy more than on pitch (Kochanski et al. 2005).
    """

    emphasizer: str = "lemf"
    pitch: str = "swift-f0"
    pitch_weight: float = 1.0
    energy_weight: float = 3.0
    duration_weight: float = 1.0
    share: float = 0.2

    def __post_init__(self) -> None:
        weights = (self.pitch_weight, self.energy_weight, self.duration_weight)
        _require(min(weights) >= 0 and 0 < sum(weights) < float("inf"), "the cue weights", weights, "at least 0 and not all 0")
        _require(0 < self.share <= 1, "share", self.share, "above 0 and at most 1")
        _require(self.pitch in PITCH_TRACKERS, "pitch", self.pitch, f"one of {', '.join(PITCH_TRACKERS)}")


@dataclass(frozen=True, kw_only=True)
class DescribeSettings:
    """The settings of `describe`.

    describer: the back end, and after a colon its model (`transformers:owner/name`) or its server's address
    (`openai:http://localhost:8000/v1`).
    describer_model: the name of the model on the server; None: the server's only model.
    describer_concurrency: requests at once. describer_timeout: time limit of a request, in seconds.
    describer_key_file: the file with the server's key.
    """

    describer: str = "prosody"
    pitch: str = "swift-f0"
    # These do not change the rows. The model does, but its name is recorded as its identity.
    describer_model: str | None = field(default=None, compare=False)
    describer_concurrency: int = field(default=4, compare=False)
    describer_timeout: float = field(default=120.0, compare=False)
    describer_key_file: str | None = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        """The name of the back end."""
        return self.describer.partition(":")[0]

    @property
    def target(self) -> str:
        """The model or the server's address that follows the back end's name; empty if there is no colon."""
        return self.describer.partition(":")[2]

    def __post_init__(self) -> None:
        _require(self.pitch in PITCH_TRACKERS, "pitch", self.pitch, f"one of {', '.join(PITCH_TRACKERS)}")
        _require(self.describer_concurrency >= 1, "describer_concurrency", self.describer_concurrency, "at least 1")
        _require(0 < self.describer_timeout < float("inf"), "describer_timeout", self.describer_timeout, "above 0 s")


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """The settings of `embed`: encoder and model of the voice, and encoder and model of the three texts.

    les: `words`: encode the emphasised words as their own text; `context`: average their token states within the transcript.
    text_languages: the codes of the languages that the text encoder knows, from the registry; empty: any. Words in another
    language get no vector.
    """

    acoustic_encoder: str = "whisper"
    acoustic_model: str = "whisper-base"
    text_encoder: str = "transformers-text"
    text_model: str = "minilm-l6"
    les: str = "words"
    text_languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.les in LES, "les", self.les, f"one of {', '.join(LES)}")


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """The settings of `predict`.

    head: the MSF-SER checkpoint, `mini` or a folder.
    reference: one of `REFERENCES`, what a voice is compared with. `none`: nothing. `recording`: the speaker's utterances in the
    same recording. `speaker`: those in all recordings of the table. `auto`: `recording` if the head has a reference, else `none`.
    intervals: prediction intervals (`Intervals.to_json`) that replace the checkpoint's own; None: the checkpoint's own.
    calibrated_on: the sha256 of the labels that `intervals` were calibrated on.
    """

    head: str = "mini"
    reference: str = "auto"
    intervals: dict[str, Any] | None = None
    calibrated_on: str | None = None

    def __post_init__(self) -> None:
        _require(self.reference in REFERENCES, "reference", self.reference, f"one of {', '.join(REFERENCES)}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of `train`: the model (`MsfSerConfig` has the valid values), the training, and the held-out data.

    Rates, sizes and dropout were chosen on EmoDB and EmoBank.
    train_splits, dev_splits: the names that the labels' split column may use for the two splits, in any case.
    dev_share: the share of utterances to hold out, by whole speakers, if the labels have no splits.
    relative: whether the head also learns to score voices relative to how their speaker usually sounds.
    """

    fusion: str = "fm-moe"
    without: tuple[str, ...] = ()
    relative: bool = False
    experts: int = 4
    top_k: int | None = None
    hidden_dim: int = 64
    dropout: float = 0.3
    epochs: int = 100
    batch_size: int = 64
    rate: float = 2e-3
    weight_decay: float = 0.05
    balance: float = 0.01
    loss_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    patience: int = 15
    seed: int = 0
    train_splits: tuple[str, ...] = ("train", "training")
    dev_splits: tuple[str, ...] = ("development", "dev", "validation", "val", "valid")
    dev_share: float = 0.2
    level: float = LEVEL

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        _require(0 < self.rate < float("inf"), "rate", self.rate, "above 0")
        _require(0 <= self.weight_decay < float("inf"), "weight_decay", self.weight_decay, "at least 0")
        _require(0 <= self.balance < float("inf"), "balance", self.balance, "at least 0")
        ok = len(self.loss_weights) == 3 and all(0 <= w < float("inf") for w in self.loss_weights) and any(self.loss_weights)
        _require(ok, "loss_weights", self.loss_weights, "three numbers of at least 0, for valence, arousal, dominance, not all 0")
        _require(self.patience >= 1, "patience", self.patience, "at least 1")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2^32 - 1")
        _require(0 < self.dev_share < 1, "dev_share", self.dev_share, "above 0 and below 1")
        _require(0 < self.level < 1, "level", self.level, "above 0 and below 1")
        if self.relative and "acoustic" in self.without:
            raise UsageError("--relative compares voices, and --without acoustic leaves them out; leave out one of the two")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TrainSettings):
    """The settings of `train --finetune`: those of `train`, and the speech encoder with its pooling and training.

    backbone: the encoder to start from; empty: the encoder of the table.
    layers: `last`: pool the last layer; `all`: pool a learned average of all layers.
    train_layers: the number of top layers that learn; None: all above the convolutions.
    encoder_rate: the encoder's peak learning rate; `rate` is that of pooling and head.
    crop: in training, utterances are cut to this length, in seconds.

    Attentive pooling, encoder rate, batch size, epochs and crop are those of the Odyssey 2024 baseline on MSP-Podcast. The other
    values are our choice.
    """

    backbone: str = ""
    pooling: str = "attentive"
    layers: str = "last"
    train_layers: int | None = None
    encoder_rate: float = 1e-5
    crop: float = 12.0
    epochs: int = 20
    batch_size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.pooling in POOLINGS, "pooling", self.pooling, f"one of {', '.join(POOLINGS)}")
        _require(self.layers in ENCODER_LAYERS, "layers", self.layers, f"one of {', '.join(ENCODER_LAYERS)}")
        _require(self.train_layers is None or self.train_layers >= 0, "train_layers", self.train_layers, "at least 0")
        _require(0 < self.encoder_rate < float("inf"), "encoder_rate", self.encoder_rate, "above 0")
        _require(1 <= self.crop < float("inf"), "crop", self.crop, "at least 1 s")
        if "acoustic" in self.without:
            raise UsageError("--without acoustic leaves nothing for the encoder to learn; leave out --finetune")
        if self.relative:
            raise UsageError("--relative does not work with --finetune; embed with the finished encoder first, then train again")


Settings = TranscribeSettings | EmphasizeSettings | DescribeSettings | EmbedSettings | PredictSettings | TrainSettings

SETTINGS: dict[str, type[Settings]] = {
    "transcribe": TranscribeSettings,
    "emphasize": EmphasizeSettings,
    "describe": DescribeSettings,
    "embed": EmbedSettings,
    "predict": PredictSettings,
    "train": TrainSettings,
    "finetune": FinetuneSettings,
}


def build(stage: str, values: dict[str, Any]) -> Settings:
    """The settings of `stage` with `values`, by name. UsageError for a name or a value that the stage does not take."""
    valid = {f.name for f in fields(SETTINGS[stage])}
    if invalid := sorted(set(values) - valid):
        raise UsageError(f"{stage} has no setting {', '.join(invalid)}; it has {', '.join(sorted(valid))}")
    for name, value in values.items():
        stray = isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value)  # bytes that are not UTF-8
        _require(not stray, name, value, "in Unicode")
    return SETTINGS[stage](**values)


def require_fields(cls: Any, values: Any, first: Collection[str]) -> None:
    """ValueError unless the names in `values` are fields of the dataclass `cls`, and all of `first` are among them.

    first: the fields of the first version. Later fields may be missing and then have their defaults, so older files can be read.
    An unknown field is an error, because it could change the meaning of the others.
    """
    if not isinstance(values, Mapping):
        raise ValueError("not a JSON object")
    valid = [f.name for f in fields(cls)]
    if unknown := sorted(str(name) for name in values if name not in valid):
        raise ValueError(
            f"unknown field {', '.join(unknown)}: if a newer msfser wrote it, upgrade msfser; this one has exactly the fields "
            f"{', '.join(valid)}"
        )
    if missing := sorted(set(first) - set(values)):
        raise ValueError(f"missing field {', '.join(missing)}")


def fingerprint(work: dict[str, Any]) -> str:
    """A short hash of settings and model identities. It is equal exactly if the work is the same."""
    return hashlib.sha256(json.dumps(work, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def as_dict(settings: Settings) -> dict[str, Any]:
    """The settings by name, without those that do not change the work, such as a server's address or the number of requests."""
    values = {f.name: getattr(settings, f.name) for f in fields(settings) if f.compare}
    if isinstance(settings, DescribeSettings) and settings.kind == "openai":
        values["describer"] = settings.kind
    return values
