"""The options that several commands share, each defined once, and how settings come out of them.

A value comes from the flag, else its MSFSER_* variable, else msfser.toml, else the profile.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msfser_cli.settings import SETTINGS, build

if TYPE_CHECKING:
    from msfser_cli.settings import Settings


def _option(name: str, help: str, panel: str | None, *short: str, **more: Any) -> Any:
    variable = f"MSFSER_{name.replace('-', '_').upper()}"
    return typer.Option(f"--{name}", *short, help=help, rich_help_panel=panel, envvar=variable, show_envvar=False, **more)


def _setting(name: str, help: str, panel: str, **more: Any) -> Any:
    """An option that sets the field of the same name in a stage's settings, whose default its help shows."""
    # Of a name that several have, the first counts: fine-tuning comes last, and its help says what it does otherwise.
    defaults = {f.name: f.default for settings in reversed(SETTINGS.values()) for f in fields(settings)}
    default = defaults[name.replace("-", "_")]
    return _option(name, help, panel, show_default=False if default is None else str(default), **more)


def _use_models_dir(folder: Path | None) -> Path | None:
    # Wherever the choice came from, it is found where every model is looked for.
    if folder is not None:
        os.environ["MSFSER_MODELS_DIR"] = str(folder)
    return folder


_RUN, _WORDS, _EMPHASIS, _DELIVERY, _VECTORS, _HEAD = "Run", "Words and utterances", "Emphasis", "Delivery", "Vectors", "Scores"
_MODEL, _FIT, _SPLITS, _FINETUNE = "Model", "Fitting", "Who is held out", "Fine-tuning"
_REPORT, _INTERVALS = "Report", "Intervals"

Out = Annotated[str, _option("out", "The table to write: a .parquet file, or a folder/ that grows by parts.", None, "-o")]
Root = Annotated[
    Path | None, _option("root", "The folder that recording ids are relative to; where the recordings are now.", _RUN)
]
Profile = Annotated[str, _option("profile", "Models and settings: mini (offline, on a CPU) or paper.", _RUN)]
ModelsDir = Annotated[
    Path | None,
    _option("models-dir", "Look here first for models: a folder from msfser models export.", _RUN, callback=_use_models_dir),
]
Redo = Annotated[bool, _option("redo", "Start over, replacing what is there.", _RUN)]
RetryFailed = Annotated[bool, _option("retry-failed", "Try recordings again that failed before.", _RUN)]
Prune = Annotated[bool, _option("prune", "Take recordings that are no longer there out of the output.", _RUN)]
MaxFailed = Annotated[
    float,
    _option("max-failed", "Stop when more than this share fail, in a row: a set-up problem.", _RUN, metavar="SHARE", min=0),
]
Wait = Annotated[
    float, _option("wait", "Seconds to wait where another run writes to the same output.", _RUN, metavar="SECONDS", min=0)
]
DryRun = Annotated[bool, _option("dry-run", "Say what would be done, and do nothing.", _RUN)]
Json = Annotated[bool, _option("json", "Print a summary as one JSON object on stdout.", _RUN)]
LogFormat = Annotated[
    str, _option("log-format", "What is said on stderr: text, or json, an object a line.", _RUN, metavar="text|json")
]
Quiet = Annotated[bool, _option("quiet", "Say nothing but errors and warnings.", _RUN, "-q")]

Transcriber = Annotated[str | None, _setting("transcriber", "faster-whisper or whisperx.", _WORDS)]
Model = Annotated[str | None, _setting("model", "Its model: registered name, folder, or owner/name in a hub's cache.", _WORDS)]
Aligner = Annotated[
    str | None,
    _setting(
        "aligner", "For whisperx's forced alignment: per-language, per-language:de,en or one wav2vec 2.0 CTC model; '' for none.",
        _WORDS,
    ),
]
Diarize = Annotated[
    str | None,
    _setting(
        "diarize", "Tell speakers apart, by a pipeline of pyannote's: folder, or owner/name in a hub's cache.", _WORDS,
        metavar="MODEL",
    ),
]
Language = Annotated[str | None, _setting("language", "The recordings' language, such as en; else detected.", _WORDS)]
Unit = Annotated[str | None, _setting("unit", "utterance: cut at pauses and sentence ends; file: one a file.", _WORDS)]
BeamSize = Annotated[int | None, _setting("beam-size", "Beams of the recogniser.", _WORDS)]
MinUtterance = Annotated[float | None, _setting("min-utterance", "Shorter ones join a neighbour, in seconds.", _WORDS)]
MaxUtterance = Annotated[float | None, _setting("max-utterance", "Longer ones are cut, in seconds.", _WORDS)]
Pause = Annotated[float | None, _setting("pause", "A silence that ends an utterance, in seconds.", _WORDS)]

Emphasizer = Annotated[str | None, _setting("emphasizer", "How prominence is scored.", _EMPHASIS)]
Pitch = Annotated[str | None, _setting("pitch", "F0 tracker: swift-f0 or harvest (the paper's).", _EMPHASIS)]
PitchWeight = Annotated[float | None, _setting("pitch-weight", "Weight of log-F0 in the prominence.", _EMPHASIS)]
EnergyWeight = Annotated[float | None, _setting("energy-weight", "Weight of energy.", _EMPHASIS)]
DurationWeight = Annotated[float | None, _setting("duration-weight", "Weight of phone duration.", _EMPHASIS)]
Share = Annotated[float | None, _setting("share", "Share of an utterance's words taken as emphasised.", _EMPHASIS)]

Describer = Annotated[
    str | None,
    _setting(
        "describer",
        "Who describes the delivery: prosody, transformers:MODEL, openai:BASE-URL or kimi-audio (it runs the model's code).",
        _DELIVERY,
    ),
]
DescriberModel = Annotated[
    str | None, _setting("describer-model", "With openai: what the server calls the model; else the only one it has.", _DELIVERY)
]
DescriberConcurrency = Annotated[
    int | None, _setting("describer-concurrency", "With openai: requests at once, for utterances of one recording.", _DELIVERY)
]
DescriberTimeout = Annotated[
    float | None, _setting("describer-timeout", "With openai: seconds that a request may take.", _DELIVERY, metavar="SECONDS")
]
DescriberKeyFile = Annotated[
    str | None,
    _setting(
        "describer-key-file", "With openai: a file with the server's key; else $MSFSER_OPENAI_API_KEY or $OPENAI_API_KEY.",
        _DELIVERY, metavar="FILE",
    ),
]

AcousticEncoder = Annotated[str | None, _setting("acoustic-encoder", "whisper or transformers-speech.", _VECTORS)]
AcousticModel = Annotated[str | None, _setting("acoustic-model", "Its model: registered name, folder, or owner/name.", _VECTORS)]
TextEncoder = Annotated[str | None, _setting("text-encoder", "transformers-text.", _VECTORS)]
TextModel = Annotated[str | None, _setting("text-model", "Its model: registered name, folder, or owner/name.", _VECTORS)]
Les = Annotated[str | None, _setting("les", "Emphasised words: words alone, or in the context of the transcript.", _VECTORS)]
KeepVectors = Annotated[bool, _option("keep-vectors", "Keep the vectors in the scores.", _VECTORS)]

_GOLD = _option(
    "gold", "Labels: MSP-Podcast's files, IEMOCAP's folders, or any CSV, TSV, Parquet or JSON with named columns.", None
)
Gold = Annotated[Path, _GOLD]
GoldIfAny = Annotated[Path | None, _GOLD]
Scale = Annotated[
    str | None,
    _option("scale", "The labels' scale, such as 1:7, when neither declared nor shown by the values.", None, metavar="LOW:HIGH"),
]
IgnoreOutside = Annotated[
    bool, _option("ignore-outside", "Count labels outside their scale as missing, such as 99 on 1:7; else msfser stops.", None)
]
Vs = Annotated[Path | None, _option("vs", "Another table of scores: how much better are these, on the same labels?", _REPORT)]
By = Annotated[
    list[str] | None,
    _option("by", "Groups: gender, speaker, split, language or duration. Repeatable.", _REPORT, metavar="COLUMN"),
]
Split = Annotated[str | None, _option("split", "Only the labels of this split, such as Test1.", _REPORT)]
Submission = Annotated[
    Path | None, _option("submission", "Write the CSV of the MSP-Podcast challenges; needs no labels.", _REPORT)
]
Plot = Annotated[Path | None, _option("plot", "Draw predicted against rated: .png, .svg or .html.", _REPORT)]
Clusters = Annotated[str, _option("clusters", "What is drawn whole: speaker or recording.", _INTERVALS)]
Resamples = Annotated[int, _option("resamples", "How many draws.", _INTERVALS, min=100)]
BootstrapSeed = Annotated[int, _option("seed", "Seed of the draws.", _INTERVALS, min=0)]

Head = Annotated[str | None, _setting("head", "The MSF-SER checkpoint: mini, or a folder.", _HEAD)]

Calibrate = Annotated[
    Path | None,
    _option("calibrate", "Labels of a part of the corpus, to calibrate the intervals on. As --gold of evaluate.", _HEAD),
]
CalibrateScale = Annotated[
    str | None,
    _option("scale", "With --calibrate: the labels' scale, if not declared or shown by the values.", _HEAD, metavar="LOW:HIGH"),
]
CalibrateLevel = Annotated[
    float | None, _setting("level", "With --calibrate: the share of ratings that an interval is to hold.", _HEAD)
]

HeadOut = Annotated[Path, _option("out", "The folder to write the checkpoint to.", None, "-o")]
Fusion = Annotated[str | None, _setting("fusion", "fm-moe (the paper's), concat or attention.", _MODEL)]
Without = Annotated[
    list[str] | None,
    _option(
        "without", "A stream to leave out: acoustic, les (emphasised words), gs (transcript), es (description). Repeatable.",
        _MODEL,
    ),
]
Experts = Annotated[int | None, _setting("experts", "Experts of fm-moe.", _MODEL)]
TopK = Annotated[int | None, _setting("top-k", "Experts that a router may use for one utterance; else all.", _MODEL)]
HiddenDim = Annotated[int | None, _setting("hidden-dim", "Width of the fused vectors.", _MODEL)]
Dropout = Annotated[float | None, _setting("dropout", "Dropout of inputs and hidden states.", _MODEL)]
Epochs = Annotated[int | None, _setting("epochs", "Most epochs; 20 with --finetune.", _FIT)]
BatchSize = Annotated[
    int | None, _setting("batch-size", "Utterances whose concordance is one step's loss; 128 with --finetune.", _FIT)
]
Rate = Annotated[float | None, _setting("rate", "Largest learning rate of the head.", _FIT)]
WeightDecay = Annotated[float | None, _setting("weight-decay", "Weight decay of AdamW.", _FIT)]
Balance = Annotated[float | None, _setting("balance", "Weight of the term that keeps all experts in use.", _FIT)]
LossWeights = Annotated[
    str | None,
    _option(
        "loss-weights", "Weights of valence, arousal, dominance in the loss, as 1:1:0.5; else alike.", _FIT, metavar="V:A:D"
    ),
]
Patience = Annotated[int | None, _setting("patience", "Epochs without a better development CCC to stop after.", _FIT)]
Seed = Annotated[int | None, _setting("seed", "Same seed, same weights.", _FIT)]
TrainSplit = Annotated[
    list[str] | None, _option("train-split", "A split of the labels to train on; else train or training. Repeatable.", _SPLITS)
]
DevSplit = Annotated[
    list[str] | None, _option("dev-split", "A split to develop on; else development, dev, validation, val or valid.", _SPLITS)
]
DevShare = Annotated[float | None, _setting("dev-share", "Share held out, by speakers, without such a split.", _SPLITS)]
Level = Annotated[float | None, _setting("level", "Share of ratings that an interval is to hold.", _INTERVALS)]

Finetune = Annotated[
    bool, _option("finetune", "Train a speech encoder along with the head, from audio; the rest needs this.", _FINETUNE)
]
Backbone = Annotated[
    str | None,
    _option("backbone", "Encoder to start from: wavlm-large, a folder, or owner/name; else the table's.", _FINETUNE),
]
Pooling = Annotated[str | None, _setting("pooling", "attentive (statistics) or mean-std, over the frames.", _FINETUNE)]
Layers = Annotated[
    str | None, _setting("layers", "Layers that are pooled: the last, or all in a mean whose weights are learned.", _FINETUNE)
]
TrainLayers = Annotated[
    int | None, _option("train-layers", "Layers that learn, from the top; 0: only the pooling does; else all.", _FINETUNE)
]
EncoderRate = Annotated[float | None, _setting("encoder-rate", "Largest learning rate of the encoder.", _FINETUNE)]
Crop = Annotated[float | None, _setting("crop", "Longest stretch of an utterance in training, in seconds.", _FINETUNE)]


def three_numbers(text: str) -> tuple[float, ...]:
    """The numbers of V:A:D; UsageError for anything else."""
    from msfser_cli.errors import UsageError

    try:
        valence, arousal, dominance = (float(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"loss weights are written V:A:D, as in 1:1:0.5, not {text!r}") from None
    return valence, arousal, dominance


def given(stage: str, options: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options by name that are settings of `stage`, as far as they were given."""
    return {f.name: options[f.name] for f in fields(SETTINGS[stage]) if options.get(f.name) is not None}


def settings_of(stages: tuple[str, ...], options: dict[str, Any]) -> dict[str, Settings]:
    """The settings of `stages` from a command's options by name, over those of its profile. UsageError for a bad value."""
    from msfser_cli.profiles import profile

    chosen = profile(options["profile"])
    return {stage: build(stage, {**chosen[stage], **given(stage, options)}) for stage in stages}
