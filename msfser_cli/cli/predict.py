"""msfser predict: the whole chain, or what is left of it."""

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
            help="A corpus (folders, files, one manifest, or - for a list of paths on stdin), or a table that one of the other "
            "commands wrote."
        ),
    ],
    out: o.Out = "scores.parquet",
    keep_vectors: o.KeepVectors = False,
    transcriber: o.Transcriber = None,
    model: o.Model = None,
    aligner: o.Aligner = None,
    language: o.Language = None,
    unit: o.Unit = None,
    beam_size: o.BeamSize = None,
    min_utterance: o.MinUtterance = None,
    max_utterance: o.MaxUtterance = None,
    pause: o.Pause = None,
    diarize: o.Diarize = None,
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
    """Valence, arousal and dominance for every utterance, with words, emphasis and description.

    From a corpus this runs the whole chain, each recording decoded once;
    from a table of transcribe, emphasize, describe or embed the stages that
    are left. Run again, it does only what is new.

    Every score has an interval from valence_low to valence_high, and so on,
    that holds 90 % of ratings of speech like that which the head was calibrated
    on. For speech of your own, --calibrate takes ratings of a part of it; --scale
    and --level are for it.

    Example: msfser predict ./corpus --out scores.parquet
    """
    execute("predict", inputs, locals())
