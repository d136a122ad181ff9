"""msfser emphasize: the prominence of each word."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli.command import Given, RunOptions, table_command
from msfser_cli.cli.execute import execute


@table_command("emphasize", out="emphasized.parquet", without=("models_dir",))
def emphasize(
    utterances: Annotated[str, typer.Argument(metavar="TABLE", help="Table of msfser transcribe.")], given: Given, how: RunOptions
) -> None:
    """Score the prominence of each word and pick the emphasised words.

    The prominence is a weighted sum of z-scores of pitch, energy and phone
    duration within the utterance.

    Example: msfser emphasize utterances.parquet --out emphasized.parquet
    """
    execute("emphasize", [utterances], given, how)
