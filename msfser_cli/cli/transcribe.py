"""msfser transcribe: recordings to utterances."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED

Corpus = Annotated[
    list[str],
    typer.Argument(
        help="Folders, files, one manifest (CSV, TSV, JSONL or Parquet with path and, as you like, start, end, text, speaker, "
        "language), or - for a list of paths on stdin."
    ),
]


def transcribe(
    corpus: Corpus,
    out: o.Out = "utterances.parquet",
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
    """Recordings to utterances: voice activity, words with times, the recording's own language.

    Example: msfser transcribe ./corpus --out utterances.parquet
    """
    execute("transcribe", corpus, locals())
