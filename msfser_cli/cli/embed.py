"""msfser embed: the four vectors of each utterance."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED


def embed(
    described: Annotated[str, typer.Argument(metavar="TABLE", help="Table of msfser describe.")],
    out: o.Out = "embedded.parquet",
    acoustic_encoder: o.AcousticEncoder = None,
    acoustic_model: o.AcousticModel = None,
    text_encoder: o.TextEncoder = None,
    text_model: o.TextModel = None,
    les: o.Les = None,
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
    """Encode voice, emphasised words, transcript and description as vectors.

    Example: msfser embed described.parquet --out embedded.parquet
    """
    execute("embed", [described], locals())
