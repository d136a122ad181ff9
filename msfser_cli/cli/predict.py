"""msfser predict: all steps from a corpus, or the remaining ones from a table."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.command import Given, RunOptions, table_command
from msfser_cli.cli.execute import Calibration, execute


@table_command("transcribe", "emphasize", "describe", "embed", "predict", out="scores.parquet")
def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", show_default=False,
            help="A corpus: folders and files, also in an object store (s3://, gs://), one manifest, or - for paths on stdin. "
            "Or one table of transcribe, emphasize, describe or embed.",
        ),
    ],
    given: Given,
    how: RunOptions,
    keep_vectors: o.KeepVectors = False,
    calibrate: o.Calibrate = None,
    scale: o.CalibrateScale = None,
    ignore_outside: o.IgnoreOutside = False,
    level: o.CalibrateLevel = None,
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
    calibration = Calibration(calibrate, scale, level, ignore_outside)
    execute("predict", inputs, given, how, keep_vectors=keep_vectors, calibration=calibration)
