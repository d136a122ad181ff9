"""The one call behind the five commands that write a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from msfser_cli.errors import EXIT_SOME_FAILED, UsageError
from msfser_cli.settings import LEVEL

if TYPE_CHECKING:
    from msfser_cli.stages.chain import Chain
    from msfser_cli.stages.runner import Source


def execute(command: str, inputs: list[str], options: dict[str, Any]) -> None:
    """Run `command` on `inputs`; `options` are its parameters by name. Exits with 3 when the ledger holds failures."""
    from msfser_cli.cli import console
    from msfser_cli.cli.options import settings_of
    from msfser_cli.stages import chain, runner

    stages, source = runner.source_of(command, inputs, options["root"])
    plan = chain.plan(settings_of(stages, options))
    if options.get("calibrate"):
        plan = _calibrated(plan, source, options)
    elif idle := [name for name in ("level", "scale") if options.get(name) is not None]:
        raise UsageError(f"--{idle[0]} is for intervals that are calibrated here; add --calibrate, or leave it out")
    vectors = stages[-1] != "predict" or options["keep_vectors"]
    moved = options["root"] is not None
    destination = runner.Destination(
        options["out"], vectors, options["redo"], options["retry_failed"], options["prune"], moved, options["wait"],
        options["max_failed"],
    )
    if options["dry_run"]:
        pending, gone = runner.pending(plan, source, destination)
        if options["json"]:
            typer.echo(console.as_json({"recordings": len(source.names), "pending": pending, "gone": gone}))
        else:
            for identity in pending:
                typer.echo(console.printable(identity))
        if not options["quiet"]:
            typer.echo(f"{len(pending)} of {len(source.names)} recordings would be done: {', '.join(stages)}", err=True)
            for identity in gone:
                typer.echo(f"no longer there: {console.printable(identity)}", err=True)
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


def _calibrated(plan: Chain, source: Source, options: dict[str, Any]) -> Chain:
    from pathlib import Path

    from msfser_cli.stages.calibrate import calibrate
    from msfser_cli.stages.labels import Scale

    scale = None if options["scale"] is None else Scale.parse(options["scale"])
    level = LEVEL if options["level"] is None else options["level"]
    if not 0 < level < 1:
        raise UsageError(f"level must be above 0 and below 1, not {level!r}")
    return calibrate(plan, source.items, options["calibrate"], Path(options["out"]), scale=scale, level=level)
