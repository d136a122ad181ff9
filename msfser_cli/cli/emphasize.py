"""msfser emphasize: the prominence of each word."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED


def emphasize(
    utterances: Annotated[str, typer.Argument(metavar="TABLE", help="Table of msfser transcribe.")],
    out: o.Out = "emphasized.parquet",
    emphasizer: o.Emphasizer = None,
    pitch: o.Pitch = None,
    pitch_weight: o.PitchWeight = None,
    energy_weight: o.EnergyWeight = None,
    duration_weight: o.DurationWeight = None,
    share: o.Share = None,
    profile: o.Profile = "mini",
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
    """Score the prominence of each word and pick the emphasised words.

    The prominence is a weighted sum of z-scores of pitch, energy and phone
    duration within the utterance.

    Example: msfser emphasize utterances.parquet --out emphasized.parquet
    """
    execute("emphasize", [utterances], locals())
