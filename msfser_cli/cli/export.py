"""msfser export: a table as the files that other programs open."""

from __future__ import annotations

from dataclasses import asdict

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.log import log, printable
from msfser_cli.errors import EXIT_SOME_FAILED

_SHOWN = 5  # of the files that were kept, on stderr


def export(
    table: o.Table,
    to: o.To,
    out: o.OutFolder,
    root: o.Root = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Write a table as files that other programs open.

    Files for each recording, in folders like those of the corpus:

    srt, vtt              subtitles; srt-words, vtt-words: a cue for each word
    textgrid, eaf         Praat, ELAN
    audacity              label tracks
    rttm, ctm             who speaks when; words with times
    json                  segments and words, as whisperX writes them

    Files for the whole table:

    csv                   for audformat, pandas and spreadsheets
    audformat             a database of audformat
    hf, hf-audio          a dataset for datasets.load_dataset; with its sound
    labelstudio           tasks for Label Studio, and their configuration
    submission            the CSV of the MSP-Podcast challenges

    A table needs only the columns that a format shows.

    msfser replaces the files that it wrote. It keeps files that you edited since,
    and exits with 3.

    Example: msfser export scores.parquet --to srt,textgrid --out exports/
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.exports.export import export as run
    from msfser_cli.exports.format import formats
    from msfser_cli.store.objects import location

    result = run(table, formats(",".join(to)), out, root=None if root is None else location(root), overwrite=overwrite)
    values = {"out": str(out), **asdict(result)}
    if json:
        from json import dumps

        typer.echo(dumps(values, ensure_ascii=False))
    words = f"{counted(result.recordings, 'recording')}, {counted(result.files, 'file')}: {printable(str(out))}"
    if result.without_rows:
        words += f"\nrecordings without rows, and without files: {result.without_rows}; see the ledger"
    words += "".join(f"\n{printable(sentence)}" for sentence in result.lacking) + kept_in_words(result.kept)
    code = EXIT_SOME_FAILED if result.kept or result.lacking else 0
    log.say("summary", words, level="warning" if code else "info", **values, exit_code=code)
    raise typer.Exit(code)


def kept_in_words(kept: tuple[str, ...]) -> str:
    """A line for the summary about the files that were kept; empty if there are none."""
    if not kept:
        return ""
    names = ", ".join(map(printable, kept[:_SHOWN])) + (", ..." if len(kept) > _SHOWN else "")
    what = f"kept, because msfser did not write them, or they were edited since: {counted(len(kept), 'file')}"
    return f"\n{what}: {names}; --overwrite replaces them"


def counted(number: int, what: str) -> str:
    """The number with its noun."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
