"""msfser embed: the four vectors of each utterance."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli.command import Given, RunOptions, table_command
from msfser_cli.cli.execute import execute


@table_command("embed", out="embedded.parquet")
def embed(
    described: Annotated[str, typer.Argument(metavar="TABLE", help="Table of msfser describe.")], given: Given, how: RunOptions
) -> None:
    """Encode voice, emphasised words, transcript and description as vectors.

    Example: msfser embed described.parquet --out embedded.parquet
    """
    execute("embed", [described], given, how)
