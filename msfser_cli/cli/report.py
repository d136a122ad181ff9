"""msfser report: pages to read, see and hear a table in a browser."""

from __future__ import annotations

from dataclasses import asdict

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.export import counted, kept_in_words
from msfser_cli.cli.log import log, printable
from msfser_cli.errors import EXIT_SOME_FAILED


def report(
    table: o.Table,
    out: o.OutFolder,
    audio: o.Sound = "link",
    root: o.Root = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Write pages to read, see and hear a table in a browser.

    index.html has all recordings, the distribution of the scores, and what
    failed. Each recording has a page with its sound, waveform and scores over
    time, and its transcript. The pages work from disk and without a network.

    Example: msfser report scores.parquet --out report/
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.exports.page.report import report as run
    from msfser_cli.store.objects import location

    result = run(table, out, audio=audio, root=None if root is None else location(root), overwrite=overwrite)
    values = {"out": str(out), **asdict(result)}
    if json:
        from json import dumps

        typer.echo(dumps(values, ensure_ascii=False))
    words = f"{counted(result.recordings, 'recording')}: {printable(str(out / 'index.html'))}"
    silent = result.silent if audio != "none" else 0
    if silent:
        words += f"\npages without sound: {silent}; each says why. --root names the folder of a corpus that has moved"
    code = EXIT_SOME_FAILED if result.kept or silent else 0
    log.say("summary", words + kept_in_words(result.kept), level="warning" if code else "info", **values, exit_code=code)
    raise typer.Exit(code)
