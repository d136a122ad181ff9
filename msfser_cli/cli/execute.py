"""Runs one of the five commands that write a table."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from msfser_cli.cli.log import log, printable
from msfser_cli.errors import EXIT_SOME_FAILED, UsageError
from msfser_cli.settings import LEVEL

if TYPE_CHECKING:
    from msfser_cli.runs.chain import Chain
    from msfser_cli.runs.source import Source


def execute(command: str, inputs: list[str], options: dict[str, Any]) -> None:
    """Run `command` on `inputs`. `options` are the command's parameters by name. Exits with 3 if the ledger has failures."""
    log.set(options["log_format"], quiet=options["quiet"])
    from msfser_cli.cli import console
    from msfser_cli.cli.options import settings_of
    from msfser_cli.runs import chain, runner
    from msfser_cli.runs.source import require_languages, source_of

    stages, source = source_of(command, inputs, options["root"])
    for note in source.notes:
        log.say("note", note)
    plan = chain.plan(settings_of(stages, options))
    require_languages(plan, source)
    if options.get("calibrate"):
        plan = _calibrated(plan, source, options)
    elif idle := [name for name in ("level", "scale", "ignore_outside") if options.get(name) not in (None, False)]:
        raise UsageError(f"--{idle[0].replace('_', '-')} needs --calibrate")
    vectors = stages[-1] != "predict" or options["keep_vectors"]
    moved = options["root"] is not None
    jobs = int(os.environ["MSFSER_JOBS"]) if "MSFSER_JOBS" in os.environ else None
    destination = runner.Destination(
        options["out"], vectors=vectors, moved=moved, jobs=jobs,
        **{name: options[name] for name in ("redo", "retry_failed", "prune", "wait", "max_failed")},
    )
    if options["dry_run"]:
        pending, gone = runner.pending(plan, source, destination)
        if options["json"]:
            typer.echo(console.as_json({"recordings": len(source.recording_ids), "pending": pending, "gone": gone}))
        else:
            for identity in pending:
                typer.echo(printable(identity))
        would = f"{len(pending)} of {len(source.recording_ids)} recordings would be done: {', '.join(stages)}"
        would += "".join(f"\nno longer in the corpus: {printable(identity)}" for identity in gone)
        log.say("summary", would, recordings=len(source.recording_ids), pending=len(pending), gone=len(gone))
        return
    for note in plan.notes:
        log.say("note", note)
    progress = console.Progress(options["out"])
    try:
        result = runner.run(plan, source, destination, progress)
    finally:
        progress.close()
    if options["json"]:
        typer.echo(console.as_json(asdict(result)))
    code = EXIT_SOME_FAILED if result.published["failed"] or result.published["incomplete"] else 0
    # What earlier runs failed or missed was reported then. A nightly run does not report it again.
    level = "warning" if result.failed or result.incomplete or result.missing_words else "info"
    log.say("summary", console.summary(result), level=level, **asdict(result), exit_code=code)
    raise typer.Exit(code)


def _calibrated(plan: Chain, source: Source, options: dict[str, Any]) -> Chain:
    from pathlib import Path

    from msfser_cli.evaluation.calibrate import calibrate
    from msfser_cli.evaluation.labels import Scale

    scale = None if options["scale"] is None else Scale.parse(options["scale"])
    level = LEVEL if options["level"] is None else options["level"]
    if not 0 < level < 1:
        raise UsageError(f"level must be above 0 and below 1, not {level!r}")
    return calibrate(plan, source.items, options["calibrate"], Path(options["out"]), scale=scale, level=level,
                     ignore_outside=options["ignore_outside"])
