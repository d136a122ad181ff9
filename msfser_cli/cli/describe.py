"""msfser describe: the delivery in numbers and words."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli.command import Given, RunOptions, table_command
from msfser_cli.cli.execute import execute


@table_command("describe", out="described.parquet")
def describe(
    emphasized: Annotated[str, typer.Argument(metavar="TABLE", help="Table of msfser emphasize.")], given: Given, how: RunOptions
) -> None:
    """Measure the delivery and describe it in words.

    The measurements are pitch, loudness, rate, pauses and voice quality. With
    --describer prosody the description is made from them. With another describer
    an audio language model writes it.

    Example: msfser describe emphasized.parquet --out described.parquet
    """
    execute("describe", [emphasized], given, how)
