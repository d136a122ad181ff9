"""Runs one of the five commands that write a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from msfser_cli.cli.log import log, printable
from msfser_cli.errors import EXIT_SOME_FAILED, UsageError
from msfser_cli.settings import LEVEL

if TYPE_CHECKING:
    from msfser_cli.cli.command import Given, RunOptions
    from msfser_cli.runs.chain import Chain
    from msfser_cli.runs.source import Source


@dataclass(frozen=True)
class Calibration:
    """What `predict` is to calibrate its intervals on, as the user wrote it. labels: None: it is not to calibrate them."""

    labels: Path | None = None
    scale: str | None = None
    level: float | None = None
    ignore_outside: bool = False

    def of(self, plan: Chain, source: Source, out: str) -> Chain:
        """`plan` with intervals that are calibrated on the labels. UsageError for an option that needs labels without them."""
        if self.labels is None:
            idle = {"level": self.level is not None, "scale": self.scale is not None, "ignore-outside": self.ignore_outside}
            if given := [name for name, is_given in idle.items() if is_given]:
                raise UsageError(f"--{given[0]} needs --calibrate")
            return plan
        from msfser_cli.evaluation.calibrate import calibrate
        from msfser_cli.evaluation.labels import Scale

        scale = None if self.scale is None else Scale.parse(self.scale)
        level = LEVEL if self.level is None else self.level
        if not 0 < level < 1:
            raise UsageError(f"level must be above 0 and below 1, not {level!r}")
        return calibrate(plan, source.items, self.labels, out, scale=scale, level=level, ignore_outside=self.ignore_outside)


def execute(
    command: str,
    inputs: Sequence[str],
    given: Given,
    how: RunOptions,
    *,
    keep_vectors: bool = False,
    calibration: Calibration | None = None,
) -> None:
    """Run `command` on `inputs`. Exits with 3 if the ledger has failures. keep_vectors, calibration: of `predict`."""
    log.set(how.log_format, quiet=how.quiet)
    from msfser_cli.cli import console
    from msfser_cli.runs import chain, runner
    from msfser_cli.runs.engines.workforce import Workforce
    from msfser_cli.runs.source import require_languages, source_of
    from msfser_cli.runs.speakers import with_references, without_effect
    from msfser_cli.store.objects import location
    from msfser_cli.store.shard import Shard

    shard = None if how.shard is None else Shard.parse(how.shard)
    stages, source = source_of(command, inputs, None if how.root is None else location(how.root))
    for note in source.notes:
        log.say("note", note)
    workforce = Workforce(how.jobs, how.engine, how.ray_address, how.worker_cpus, how.worker_gpus)
    plan = chain.plan(given.settings(stages, how.profile))
    require_languages(plan, source)
    source = with_references(plan, source)
    if calibration is not None:
        if calibration.labels and (shard or source.shard):
            raise UsageError("--calibrate: each shard would calibrate by itself; embed the shards, join them, and predict from "
                             "the joined table with --calibrate")
        plan = calibration.of(plan, source, how.out)
    # after the whole input was checked, so that all shards refuse the same
    source = source.only(shard)
    destination = runner.Destination(
        how.out, vectors=stages[-1] != "predict" or keep_vectors, moved=how.root is not None,
        redo=how.redo, retry_failed=how.retry_failed, prune=how.prune, wait=how.wait, max_failed=how.max_failed,
    )  # fmt: skip
    if how.dry_run:
        pending, gone = runner.pending(plan, source, destination)
        if how.json:
            typer.echo(console.as_json({"recordings": len(source.recording_ids), "pending": pending, "gone": gone}))
        else:
            for identity in pending:
                typer.echo(printable(identity))
        would = f"{len(pending)} of {len(source.recording_ids)} recordings would be done: {', '.join(stages)}"
        would += "".join(f"\nno longer in the corpus: {printable(identity)}" for identity in gone)
        would += "\n--prune would remove their rows" if gone and how.prune else ""
        log.say("summary", would, recordings=len(source.recording_ids), pending=len(pending), gone=len(gone))
        return
    for note in plan.notes:
        log.say("note", note)
    progress = console.Progress(how.out)
    try:
        result = runner.run(plan, source, destination, progress, workforce)
    finally:
        progress.close()
    if how.json:
        typer.echo(console.as_json(asdict(result)))
    if command == "predict" and result.utterances and (why := without_effect(given.values["reference"], Path(how.out))):
        log.warn(f"--reference {given.values['reference']} changed no score: {why}")
    code = EXIT_SOME_FAILED if result.published["failed"] or result.published["incomplete"] else 0
    # What earlier runs failed or missed was reported then. A nightly run does not report it again.
    level = "warning" if result.failed or result.incomplete or result.missing_words else "info"
    log.say("summary", console.summary(result), level=level, **asdict(result), exit_code=code)
    if command == "predict" and log.is_watched:
        for line in console.came_out(Path(how.out)):
            log.say("note", line)
    raise typer.Exit(code)
