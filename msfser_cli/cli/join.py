"""msfser join: one table from the outputs of all shards."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.log import log, printable
from msfser_cli.errors import EXIT_SOME_FAILED


def join(
    shards: Annotated[
        list[str],
        typer.Argument(metavar="OUT...", show_default=False, help="Outputs of all shards, files or folders, in any order."),
    ],
    out: o.Out,
    prune: o.Prune = False,
    wait: o.Wait = 0.0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Join the outputs of runs with --shard into one table and its ledger.

    The table is the one that a run over the whole corpus writes. When shards have
    grown, run the same command again.

    Example: msfser join scores-0/ scores-1/ scores-2/ --out scores/
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.store.join import join as run
    from msfser_cli.store.ledger import ledger_path

    counts = run(shards, out, prune=prune, wait=wait)
    ledger = str(ledger_path(out))
    result: dict[str, Any] = {"out": out, "ledger": ledger, "shards": len(shards), **counts}
    if json:
        from json import dumps

        typer.echo(dumps(result, ensure_ascii=False))
    code = EXIT_SOME_FAILED if counts["failed"] or counts["incomplete"] else 0
    words = f"{len(shards)} shards, {counts['recordings']} recordings, {counts['no_speech']} of them without speech"
    words += f"\n{counts['failed']} failed: see {printable(ledger)}" if counts["failed"] else ""
    words += f"\n{counts['incomplete']} incomplete: see the column note of {printable(ledger)}" if counts["incomplete"] else ""
    log.say("summary", f"{words}\n{printable(out)}: {counts['utterances']} utterances", **result, exit_code=code)
    raise typer.Exit(code)
