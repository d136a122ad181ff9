"""The one call behind the five commands that write a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from msfser_cli.errors import EXIT_SOME_FAILED


def execute(command: str, inputs: list[str], options: dict[str, Any]) -> None:
    """Run `command` on `inputs`; `options` are its parameters by name. Exits with 3 when the ledger holds failures."""
    from msfser_cli.cli import console
    from msfser_cli.cli.options import settings_of
    from msfser_cli.stages import chain, runner

    stages, source = runner.source_of(command, inputs, options["root"])
    plan = chain.plan(settings_of(stages, options))
    vectors = stages[-1] != "predict" or options["keep_vectors"]
    moved = options["root"] is not None
    destination = runner.Destination(options["out"], vectors, options["redo"], options["retry_failed"], moved)
    if options["dry_run"]:
        pending = runner.pending(plan, source, destination)
        if options["json"]:
            typer.echo(console.as_json({"recordings": source.count, "pending": pending}))
        else:
            for identity in pending:
                typer.echo(console.printable(identity))
        if not options["quiet"]:
            typer.echo(f"{len(pending)} of {source.count} recordings would be done: {', '.join(stages)}", err=True)
        return
    progress = console.Progress(quiet=options["quiet"])
    try:
        result = runner.run(plan, source, destination, progress)
    finally:
        progress.close()
    if options["json"]:
        typer.echo(console.as_json(asdict(result)))
    if not options["quiet"]:
        typer.echo(console.summary(result), err=True)
    if result.published["failed"]:
        raise typer.Exit(EXIT_SOME_FAILED)
