"""msfser predict: all steps from a corpus, or the remaining ones from a table."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", show_default=False,
            help="A corpus: folders, files, one manifest, or - for paths on stdin. Or one table of transcribe, emphasize, "
            "describe or embed.",
        ),
    ],
    out: o.Out = "scores.parquet",
    transcriber: o.Transcriber = None,
    model: o.Model = None,
    compute_type: o.ComputeType = None,
    aligner: o.Aligner = None,
    language: o.Language = None,
    unit: o.Unit = None,
    beam_size: o.BeamSize = None,
    min_utterance: o.MinUtterance = None,
    max_utterance: o.MaxUtterance = None,
    pause: o.Pause = None,
    diarize: o.Diarize = None,
    channels: o.Channels = None,
    audio_track: o.AudioTrack = None,
    emphasizer: o.Emphasizer = None,
    pitch: o.Pitch = None,
    pitch_weight: o.PitchWeight = None,
    energy_weight: o.EnergyWeight = None,
    duration_weight: o.DurationWeight = None,
    share: o.Share = None,
    describer: o.Describer = None,
    describer_model: o.DescriberModel = None,
    describer_concurrency: o.DescriberConcurrency = None,
    describer_timeout: o.DescriberTimeout = None,
    describer_key_file: o.DescriberKeyFile = None,
    acoustic_encoder: o.AcousticEncoder = None,
    acoustic_model: o.AcousticModel = None,
    text_encoder: o.TextEncoder = None,
    text_model: o.TextModel = None,
    les: o.Les = None,
    keep_vectors: o.KeepVectors = False,
    head: o.Head = None,
    calibrate: o.Calibrate = None,
    scale: o.CalibrateScale = None,
    ignore_outside: o.IgnoreOutside = False,
    level: o.CalibrateLevel = None,
    profile: o.Profile = "mini",
    models_dir: o.ModelsDir = None,
    root: o.Root = None,
    redo: o.Redo = False,
    retry_failed: o.RetryFailed = False,
    prune: o.Prune = False,
    max_failed: o.MaxFailed = MAX_FAILED,
    wait: o.Wait = 0.0,
    dry_run: o.DryRun = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Score valence, arousal and dominance of every utterance.

    From a corpus, msfser runs all steps: transcribe, emphasize, describe, embed
    and predict. It decodes each recording once. From a table of one of these
    commands, it runs the steps that remain.

    Run the same command again, and msfser does only what is new or changed.

    Every score has a prediction interval, such as valence_low to valence_high.
    It holds 90 % of ratings on speech similar to the head's calibration data. For
    your own data, pass some ratings with --calibrate.

    Example: msfser predict ./corpus --out scores.parquet
    """
    execute("predict", inputs, locals())
