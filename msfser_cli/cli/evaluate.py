"""msfser evaluate: scores against labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.console import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msfser_cli.stages.evaluate import Evaluation
    from msfser_cli.stages.joining import Unmatched


def evaluate(
    gold: o.Gold,
    scores: Annotated[Path, typer.Argument(help="The table that predict wrote.")] = Path("scores.parquet"),
    scale: o.Scale = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Scores against labels: CCC, Pearson, RMSE, MAE and n for valence, arousal and dominance.

    Columns are found by name. A label belongs to an utterance_id, to a part of
    a recording from start to end, or to a whole recording, whose score is the
    mean of its utterances, weighted by their duration.

    Example: msfser evaluate --gold labels.csv
    """
    from msfser_cli.stages.evaluate import evaluate as run
    from msfser_cli.stages.labels import Scale

    result = run(scores, gold, scale=None if scale is None else Scale.parse(scale))
    if json:
        from json import dumps

        typer.echo(dumps(result.to_json(), ensure_ascii=False, allow_nan=False))
        return
    if not quiet:
        for line in _account(result):
            typer.echo(printable(line), err=True)
    for line in _warnings(result):
        typer.echo(printable(line), err=True)
    _print_table(result)


def _print_table(result: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    def number(value: float) -> str:
        return "not defined" if value != value else f"{value:.3f}"

    table = Table()
    table.add_column("dimension")
    for heading in ("CCC", "Pearson", "RMSE", "MAE", "n"):
        table.add_column(heading, justify="right")
    for dimension, a in result.dimensions.items():
        table.add_row(dimension, *map(number, (a.ccc, a.pearson, a.rmse, a.mae)), str(a.n))
    typer.echo(printable(f"{result.scores} against {result.gold}"))
    Console().print(table)
    typer.echo(f"One pair is one {result.unit}. RMSE and MAE are in units of the labels' scale, {result.label_scale}.")


def _account(result: Evaluation) -> Iterator[str]:
    """How the labels were read and joined."""
    yield f"labels: {result.label_format}, {', '.join(f'{role} = {name!r}' for role, name in result.columns.items())}"
    same = "the same" if result.score_scale == result.label_scale else f"brought to {result.label_scale}"
    yield f"scales: labels {result.label_scale} ({result.label_scale_source}); scores {result.score_scale}, {same}"
    rules = ", ".join(f"{count} by {rule}" for rule, count in result.matched_by.items())
    yield f"matched: {result.matched} labels, one {result.unit} each: {rules}"
    left = (f"{unmatched.count} of {unmatched.of} {what}" for what, unmatched in _unmatched(result).items())
    yield f"unmatched: {', '.join(left)}"


def _warnings(result: Evaluation) -> Iterator[str]:
    """What keeps the numbers from being about all labels and all scores."""
    for what, unmatched in _unmatched(result).items():
        if unmatched.count:
            more = ", ..." if unmatched.count > len(unmatched.examples) else ""
            yield f"warning: {what} without a partner: {unmatched.count} ({', '.join(unmatched.examples)}{more})"
    if result.labels_outside_scale:
        yield f"warning: labels outside their scale, {result.label_scale}: {result.labels_outside_scale}"
    for dimension, a in result.dimensions.items():
        if a.unlabelled:
            yield f"warning: {dimension}: matched labels without a number: {a.unlabelled}"
        if a.unscored:
            yield f"warning: {dimension}: matched labels without a score: {a.unscored}"
        if a.not_defined:
            yield f"warning: {dimension}: {a.not_defined}"


def _unmatched(result: Evaluation) -> dict[str, Unmatched]:
    return {"labels": result.unmatched_labels, "recordings": result.unmatched_recordings,
            "utterances": result.unmatched_utterances}
