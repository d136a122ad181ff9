"""msfser emphasize: which words stand out."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED


def emphasize(
    utterances: Annotated[str, typer.Argument(help="The table that transcribe wrote.")],
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
    """Utterances to emphasis: a prominence for every word, and the spans of the most prominent.

    Example: msfser emphasize utterances.parquet --out emphasized.parquet
    """
    execute("emphasize", [utterances], locals())
