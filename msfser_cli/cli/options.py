"""The options of the commands, each defined once.

A value comes from the command line, else from its variable MSFSER_*, else from msfser.toml, else from the profile.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from msfser_cli.settings import SETTINGS


def _option(name: str, help: str, panel: str | None, *short: str, **more: Any) -> Any:
    variable = f"MSFSER_{name.replace('-', '_').upper()}"
    return typer.Option(f"--{name}", *short, help=help, rich_help_panel=panel, envvar=variable, show_envvar=False, **more)


def _setting(name: str, help: str, panel: str, **more: Any) -> Any:
    """An option for the field of the same name in a stage's settings. Its help shows the field's default."""
    # If several settings have the field, the first counts: --finetune has its own epochs and batch size, and its help says so.
    defaults = {f.name: f.default for settings in reversed(SETTINGS.values()) for f in fields(settings)}
    default = defaults[name.replace("-", "_")]
    shown = "" if default is None or default is False else f" [dim]\\[default: {default}][/dim]"
    return _option(name, help + shown, panel, show_default=False, **more)


def _use_models_dir(folder: Path | None) -> Path | None:
    # The environment carries the choice to the place that looks for models.
    if folder is not None:
        os.environ["MSFSER_MODELS_DIR"] = str(folder)
    return folder


_RUN, _WORDS, _EMPHASIS, _DELIVERY, _VECTORS, _SCORES = "Run", "Words and utterances", "Emphasis", "Delivery", "Vectors", "Scores"
_MODEL, _FIT, _SPLITS, _FINETUNE = "Model", "Training", "Held-out data", "Fine-tuning"
_REPORT, _INTERVALS = "Report", "Intervals"
_MODEL_NAMES = "a registered name, a folder, or owner/name."

Out = Annotated[
    str, _option("out", "Table to write: a .parquet file, or a folder/ of parts.", None, "-o", metavar="PATH")
]
Root = Annotated[
    str | None,  # a path, or an address in an object store
    _option("root", "Folder that recording ids are relative to. Pass it if the corpus has moved.", _RUN, metavar="FOLDER"),
]
Shard = Annotated[
    str | None,
    _option("shard", "Do only shard I of N of the corpus, from 0. msfser join makes one table of all.", _RUN, metavar="I/N"),
]
Profile = Annotated[
    str, _option("profile", "Models and settings to use: mini (offline, on a CPU) or paper.", _RUN, metavar="NAME")
]
ModelsDir = Annotated[
    Path | None,
    _option(
        "models-dir", "Look for models in this folder first. msfser models export makes it.", _RUN, metavar="FOLDER",
        callback=_use_models_dir,
    ),
]
Redo = Annotated[bool, _option("redo", "Start over and replace the output.", _RUN)]
RetryFailed = Annotated[bool, _option("retry-failed", "Try recordings again that failed before.", _RUN)]
Prune = Annotated[bool, _option("prune", "Remove recordings from the output that the corpus no longer has.", _RUN)]
MaxFailed = Annotated[
    float,
    _option(
        "max-failed", "Stop with exit code 7 if more than this share of recordings fail, and at least ten in a row: the cause is "
        "then likely a disk or setup problem.", _RUN,
        metavar="SHARE", min=0,
    ),
]
Wait = Annotated[
    float, _option("wait", "Wait up to SECONDS if another run is using the output.", _RUN, metavar="SECONDS", min=0)
]
Jobs = Annotated[
    int | None,
    _option(
        "jobs", "Worker processes. 0: msfser works in its own process. Default: as many as the processors and the free memory "
        "allow; one on a GPU.", _RUN, metavar="N", min=0, show_default=False,
    ),
]  # fmt: skip
Engine = Annotated[
    str, _option("engine", "Where the workers are: local, or ray for a Ray cluster.", _RUN, metavar="local|ray")
]
RayAddress = Annotated[
    str | None,
    _option("ray-address", "Ray cluster to join. Default: msfser starts Ray on this machine.", _RUN, metavar="HOST:PORT",
            show_default=False),
]  # fmt: skip
WorkerCpus = Annotated[
    float, _option("worker-cpus", "Processors of each worker on a Ray cluster.", _RUN, metavar="N", min=0.1)
]
WorkerGpus = Annotated[
    float | None,
    _option("worker-gpus", "GPUs of each worker on a Ray cluster, such as 0.25. Default: 1 if the cluster has GPUs.", _RUN,
            metavar="N", min=0, show_default=False),
]  # fmt: skip
DryRun = Annotated[bool, _option("dry-run", "Print what a run would annotate, and exit.", _RUN)]
Json = Annotated[bool, _option("json", "Print the result as JSON on stdout.", _RUN)]
LogFormat = Annotated[
    str, _option("log-format", "Form of messages on stderr: text, or json, one object per line.", _RUN, metavar="text|json")
]
Quiet = Annotated[bool, _option("quiet", "Print only warnings and errors.", _RUN, "-q")]

Transcriber = Annotated[
    str | None, _setting("transcriber", "Recogniser: faster-whisper, or whisperx for forced alignment.", _WORDS, metavar="NAME")
]
Model = Annotated[str | None, _setting("model", f"Whisper model: {_MODEL_NAMES}", _WORDS, metavar="MODEL")]
ComputeType = Annotated[
    str | None,
    _setting(
        "compute-type", "Number format of Whisper: auto (int8 on a CPU, float16 on a GPU), int8, float16 or float32.", _WORDS,
        metavar="NAME",
    ),
]
Aligner = Annotated[
    str | None,
    _setting(
        "aligner",
        "With whisperx: per-language, per-language:de,en, or one wav2vec 2.0 CTC model for all. '' turns alignment off.",
        _WORDS, metavar="MODEL",
    ),
]
Diarize = Annotated[
    str | None,
    _setting("diarize", "Tell speakers apart with this pipeline of pyannote: a folder or owner/name.", _WORDS, metavar="MODEL"),
]
Channels = Annotated[
    str | None,
    _setting(
        "channels", "Channels to use: all mixed (mix), each by itself (split: for one speaker on each channel), the first, or "
        "the one with this number, from 0.", _WORDS, metavar="mix|split|first|N",
    ),
]
AudioTrack = Annotated[
    int | None,
    _setting("audio-track", "Use this audio track, numbered from 0. Without it, the default track.", _WORDS, metavar="N", min=0),
]
Language = Annotated[
    str | None, _setting("language", "Language of all recordings, such as en. Without it, msfser detects the language.", _WORDS,
                         metavar="CODE"),
]  # fmt: skip
Unit = Annotated[
    str | None,
    _setting(
        "unit", "Cut at pauses and sentence ends (utterance), or make each file one utterance (file).", _WORDS,
        metavar="utterance|file",
    ),
]
BeamSize = Annotated[int | None, _setting("beam-size", "Beam width of the recogniser.", _WORDS, metavar="N")]
MinUtterance = Annotated[
    float | None, _setting("min-utterance", "Join shorter utterances to a neighbour.", _WORDS, metavar="SECONDS")
]
MaxUtterance = Annotated[float | None, _setting("max-utterance", "Cut longer utterances.", _WORDS, metavar="SECONDS")]
Pause = Annotated[float | None, _setting("pause", "Length of a silence that ends an utterance.", _WORDS, metavar="SECONDS")]

Emphasizer = Annotated[str | None, _setting("emphasizer", "Method that scores prominence: lemf.", _EMPHASIS, metavar="NAME")]
Pitch = Annotated[
    str | None, _setting("pitch", "Pitch tracker: swift-f0, or harvest as in the paper.", _EMPHASIS, metavar="NAME")
]
PitchWeight = Annotated[
    float | None, _setting("pitch-weight", "Weight of log-F0 in a word's prominence.", _EMPHASIS, metavar="W")
]
EnergyWeight = Annotated[
    float | None, _setting("energy-weight", "Weight of energy in a word's prominence.", _EMPHASIS, metavar="W")
]
DurationWeight = Annotated[
    float | None, _setting("duration-weight", "Weight of phone duration in a word's prominence.", _EMPHASIS, metavar="W")
]
Share = Annotated[
    float | None, _setting("share", "Share of an utterance's words that count as emphasised.", _EMPHASIS, metavar="SHARE")
]

Describer = Annotated[
    str | None,
    _setting(
        "describer",
        "What describes the delivery: prosody (measures it), transformers:MODEL, openai:BASE-URL, or kimi-audio (runs the "
        "model's own code).",
        _DELIVERY, metavar="NAME",
    ),
]
DescriberModel = Annotated[
    str | None,
    _setting(
        "describer-model", "With openai: name of the model on the server. Without it, the server's only model.", _DELIVERY,
        metavar="NAME",
    ),
]
DescriberConcurrency = Annotated[
    int | None, _setting("describer-concurrency", "With openai: number of requests at once.", _DELIVERY, metavar="N")
]
DescriberTimeout = Annotated[
    float | None, _setting("describer-timeout", "With openai: time limit of a request.", _DELIVERY, metavar="SECONDS")
]
DescriberKeyFile = Annotated[
    str | None,
    _setting(
        "describer-key-file",
        "With openai: file with the server's key. Without it, $MSFSER_OPENAI_API_KEY, else $OPENAI_API_KEY.",
        _DELIVERY, metavar="FILE",
    ),
]

AcousticEncoder = Annotated[
    str | None, _setting("acoustic-encoder", "Encoder of the voice: whisper or transformers-speech.", _VECTORS, metavar="NAME")
]
AcousticModel = Annotated[
    str | None, _setting("acoustic-model", f"Model of the voice encoder: {_MODEL_NAMES}", _VECTORS, metavar="MODEL")
]
TextEncoder = Annotated[
    str | None, _setting("text-encoder", "Encoder of the texts: transformers-text.", _VECTORS, metavar="NAME")
]
TextModel = Annotated[str | None, _setting("text-model", f"Model of the text encoder: {_MODEL_NAMES}", _VECTORS, metavar="MODEL")]
Les = Annotated[
    str | None,
    _setting(
        "les",
        "Encoding of the emphasised words: as their own text (words), or as the average of their states within the transcript "
        "(context).",
        _VECTORS, metavar="words|context",
    ),
]
KeepVectors = Annotated[bool, _option("keep-vectors", "Keep the vectors in the table of scores.", _VECTORS)]

_GOLD = _option(
    "gold", "Labels: MSP-Podcast's files, IEMOCAP's folders, or a CSV, TSV, Parquet or JSON file with named columns.", None,
    metavar="PATH",
)
Gold = Annotated[Path, _GOLD]
GoldIfAny = Annotated[Path | None, _GOLD]
Scale = Annotated[
    str | None,
    _option("scale", "Scale of the labels, such as 1:7. Needed if the labels do not show it.", None, metavar="LOW:HIGH"),
]
Vs = Annotated[
    Path | None, _option("vs", "Compare with another table of scores on the same labels.", _REPORT, metavar="TABLE")
]
IgnoreOutside = Annotated[
    bool, _option("ignore-outside", "Count labels outside their scale as missing, such as 99 on 1:7; else msfser stops.", None)
]
By = Annotated[
    list[str] | None,
    _option("by", "Report groups: gender, speaker, split, language or duration. Repeatable.", _REPORT, metavar="COLUMN"),
]
Split = Annotated[str | None, _option("split", "Use only the labels of this split, such as Test1.", _REPORT, metavar="NAME")]
Submission = Annotated[
    Path | None,
    _option("submission", "Write the CSV of the MSP-Podcast challenges. Works without --gold.", _REPORT, metavar="FILE"),
]
Plot = Annotated[
    Path | None, _option("plot", "Draw predicted against rated values: .png, .svg or .html.", _REPORT, metavar="FILE")
]
Clusters = Annotated[
    str, _option("clusters", "Unit of the bootstrap: speaker or recording.", _INTERVALS, metavar="speaker|recording")
]
Resamples = Annotated[int, _option("resamples", "Number of bootstrap resamples.", _INTERVALS, metavar="N", min=100)]
BootstrapSeed = Annotated[int, _option("seed", "Seed of the bootstrap.", _INTERVALS, metavar="N", min=0)]

Head = Annotated[
    str | None, _setting("head", "MSF-SER checkpoint: mini, or a folder from msfser train.", _SCORES, metavar="HEAD")
]

Reference = Annotated[
    str | None,
    _setting(
        "reference", "Compare each voice with the speaker's in the recording, or, from a table of embed, in all recordings.",
        _SCORES, metavar="auto|none|recording|speaker",
    ),
]

Calibrate = Annotated[
    Path | None,
    _option(
        "calibrate", "Calibrate the intervals on these labels of a part of the corpus. Formats as for evaluate --gold.", _SCORES,
        metavar="PATH",
    ),
]
CalibrateScale = Annotated[
    str | None,
    _option(
        "scale", "With --calibrate: scale of the labels, such as 1:7. Needed if the labels do not show it.", _SCORES,
        metavar="LOW:HIGH",
    ),
]
CalibrateLevel = Annotated[
    float | None,
    _setting("level", "With --calibrate: share of ratings that an interval should hold.", _SCORES, metavar="SHARE"),
]

HeadOut = Annotated[Path, _option("out", "Folder to write the head to.", None, "-o", metavar="FOLDER")]
Fusion = Annotated[
    str | None, _setting("fusion", "Fusion of the streams: fm-moe (the paper's), concat or attention.", _MODEL, metavar="NAME")
]
Without = Annotated[
    list[str] | None,
    _option(
        "without", "Leave out a stream: acoustic, les (emphasised words), gs (transcript) or es (description). Repeatable.",
        _MODEL, metavar="STREAM",
    ),
]
Relative = Annotated[
    bool | None,
    _setting(
        "relative", "Learn to score voices relative to how their speaker usually sounds, too. See predict --reference.", _MODEL,
    ),
]
Experts = Annotated[int | None, _setting("experts", "Number of experts of fm-moe.", _MODEL, metavar="N")]
TopK = Annotated[
    int | None, _setting("top-k", "Experts that are used for one utterance. Without it, all.", _MODEL, metavar="N")
]
HiddenDim = Annotated[int | None, _setting("hidden-dim", "Width of the fused vectors.", _MODEL, metavar="N")]
Dropout = Annotated[float | None, _setting("dropout", "Dropout rate of inputs and hidden states.", _MODEL, metavar="RATE")]
Epochs = Annotated[
    int | None, _setting("epochs", "Largest number of epochs; 20 by default with --finetune.", _FIT, metavar="N")
]
BatchSize = Annotated[
    int | None,
    _setting("batch-size", "Utterances per step; their CCC is the loss. 128 by default with --finetune.", _FIT, metavar="N"),
]
Rate = Annotated[float | None, _setting("rate", "Peak learning rate of the head.", _FIT, metavar="RATE")]
WeightDecay = Annotated[float | None, _setting("weight-decay", "Weight decay of AdamW.", _FIT, metavar="W")]
Balance = Annotated[
    float | None, _setting("balance", "Weight of the loss term that keeps all experts in use.", _FIT, metavar="W")
]
LossWeights = Annotated[
    str | None,
    _option(
        "loss-weights", "Weights of valence, arousal and dominance in the loss, such as 1:1:0.5. Without it, they are equal.",
        _FIT, metavar="V:A:D",
    ),
]
Patience = Annotated[
    int | None,
    _setting("patience", "Stop after this many epochs without a better CCC on the development split.", _FIT, metavar="N"),
]
Seed = Annotated[
    int | None, _setting("seed", "Seed of the training. The same seed gives the same weights.", _FIT, metavar="N")
]
TrainSplit = Annotated[
    list[str] | None,
    _option(
        "train-split", "Train on this split of the labels. Without it: train or training. Repeatable.", _SPLITS, metavar="NAME"
    ),
]
DevSplit = Annotated[
    list[str] | None,
    _option(
        "dev-split",
        "Choose the epoch and calibrate the intervals by this split of the labels. Without it: development, dev, validation, "
        "val or valid. Repeatable.",
        _SPLITS, metavar="NAME",
    ),
]
DevShare = Annotated[
    float | None,
    _setting(
        "dev-share", "Share of utterances to hold out, by whole speakers, if the labels have no splits.", _SPLITS, metavar="SHARE"
    ),
]
Level = Annotated[
    float | None,
    _setting("level", "Share of ratings that a prediction interval should hold.", _INTERVALS, metavar="SHARE"),
]

Finetune = Annotated[
    bool,
    _option("finetune", "Train a speech encoder along with the head, from audio. The other options here need it.", _FINETUNE),
]
Backbone = Annotated[
    str | None,
    _option(
        "backbone", f"Encoder to start from: {_MODEL_NAMES} Without it, the table's encoder.", _FINETUNE, metavar="MODEL"
    ),
]
Pooling = Annotated[
    str | None,
    _setting("pooling", "Pooling over frames: attentive statistics, or mean-std.", _FINETUNE, metavar="attentive|mean-std"),
]
Layers = Annotated[
    str | None, _setting("layers", "Pool the last layer, or a learned average of all layers.", _FINETUNE, metavar="last|all")
]
TrainLayers = Annotated[
    int | None,
    _option(
        "train-layers",
        "Number of top layers that learn. 0: only the pooling learns. Without it, all above the convolutions.",
        _FINETUNE, metavar="N",
    ),
]
EncoderRate = Annotated[float | None, _setting("encoder-rate", "Peak learning rate of the encoder.", _FINETUNE, metavar="RATE")]
Crop = Annotated[
    float | None,
    _setting("crop", "In training, cut utterances to this length.", _FINETUNE, metavar="SECONDS"),
]


def three_numbers(text: str) -> tuple[float, ...]:
    """The three numbers of `text`, which is written V:A:D. UsageError for any other text."""
    from msfser_cli.errors import UsageError

    try:
        valence, arousal, dominance = (float(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"--loss-weights takes V:A:D, such as 1:1:0.5, not {text!r}") from None
    return valence, arousal, dominance


def of_setting(name: str) -> Any:
    """The option of the setting `name`, such as `BeamSize` of beam_size; None: the setting has no option."""
    return globals().get(name.title().replace("_", ""))

Table = Annotated[Path, typer.Argument(metavar="TABLE", show_default=False, help="Table of any command.")]
To = Annotated[
    list[str],
    _option("to", "Formats, with commas between them. Repeatable.", None, metavar="FORMAT[,FORMAT]...", show_default=False),
]
OutFolder = Annotated[Path, _option("out", "Folder for the files.", None, "-o", metavar="FOLDER", show_default=False)]
Overwrite = Annotated[bool, _option("overwrite", "Replace files that msfser did not write, or that were edited since.", None)]
Sound = Annotated[
    str,
    _option("audio", "Sound of the pages: link to the recordings, copy them into the folder, embed them in the pages, or none.",
            None, metavar="link|copy|embed|none"),
]  # fmt: skip
