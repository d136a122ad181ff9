"""msfser describe: the delivery in numbers and words."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED


def describe(
    emphasized: Annotated[str, typer.Argument(metavar="TABLE", help="Table of msfser emphasize.")],
    out: o.Out = "described.parquet",
    describer: o.Describer = None,
    describer_model: o.DescriberModel = None,
    describer_concurrency: o.DescriberConcurrency = None,
    describer_timeout: o.DescriberTimeout = None,
    describer_key_file: o.DescriberKeyFile = None,
    pitch: o.Pitch = None,
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
    """Measure the delivery and describe it in words.

    The measurements are pitch, loudness, rate, pauses and voice quality. With
    --describer prosody the description is made from them. With another describer
    an audio language model writes it.

    Example: msfser describe emphasized.parquet --out described.parquet
    """
    execute("describe", [emphasized], locals())
