"""msfser transcribe: from recordings to utterances with words."""

from __future__ import annotations

from typing import Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.execute import execute
from msfser_cli.settings import MAX_FAILED

Corpus = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...", show_default=False,
        help="Folders, files, or - for paths on stdin. Or one manifest: CSV, TSV, JSON, JSONL or Parquet with a column path and, "
        "if you like, start, end, text, speaker and language.",
    ),
]


def transcribe(
    corpus: Corpus,
    out: o.Out = "utterances.parquet",
    transcriber: o.Transcriber = None,
    model: o.Model = None,
    compute_type: o.ComputeType = None,
    aligner: o.Aligner = None,
    language: o.Language = None,
    unit: o.Unit = None,
    beam_size: o.BeamSize = None,
    min_utterance: o.MinUtterance = None,
    max_utterance: o.MaxUtterance = None,
    pause: o.Pause = None,
    diarize: o.Diarize = None,
    channels: o.Channels = None,
    audio_track: o.AudioTrack = None,
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
    """Transcribe recordings: find speech, recognise words with times, cut utterances.

    msfser detects the language of each passage. Run the same command again,
    and it does only what is new or changed.

    Example: msfser transcribe ./corpus --out utterances.parquet
    """
    execute("transcribe", corpus, locals())
