"""msfser transcribe: from recordings to utterances with words."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli.command import Given, RunOptions, table_command
from msfser_cli.cli.execute import execute

Corpus = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...", show_default=False,
        help="Folders and files, also in an object store (s3://, gs://), or - for paths on stdin. Or one manifest: CSV, TSV, "
        "JSON, JSONL or Parquet with a column path and, if you like, start, end, text, speaker and language.",
    ),
]


@table_command("transcribe", out="utterances.parquet")
def transcribe(corpus: Corpus, given: Given, how: RunOptions) -> None:
    """Transcribe recordings: find speech, recognise words with times, cut utterances.

    msfser detects the language of each passage. Run the same command again,
    and it does only what is new or changed.

    Example: msfser transcribe ./corpus --out utterances.parquet
    """
    execute("transcribe", corpus, given, how)
