"""msfser evaluate: scores against labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msfser_cli.stages.evaluate import Evaluation, Unmatched


def evaluate(
    gold: Annotated[
        Path,
        typer.Option(help="Labels: MSP-Podcast's labels_consensus.csv, or any CSV, TSV or Parquet with named columns."),
    ],
    scores: Annotated[Path, typer.Argument(help="The table that predict wrote.")] = Path("scores.parquet"),
    scale: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH",
                     help="The labels' scale, such as 1:7, when it is neither declared nor shown by the values."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> None:
    """Score the annotation: CCC, Pearson, RMSE, MAE and n for valence, arousal and dominance.

    Labels are found by the names of their columns and matched by recording (one score a recording: the mean of its utterances,
    weighted by their duration), by start and end, or by utterance_id. What was matched, and the scale, is said.

    Example: msfser evaluate --gold labels.csv
    """
    from msfser_cli.stages.evaluate import evaluate as run
    from msfser_cli.stages.labels import Scale

    result = run(scores, gold, scale=None if scale is None else Scale.parse(scale))
    if as_json:
        import json

        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    for line in _notes(result):
        typer.echo(line, err=True)
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
    typer.echo(f"{result.scores} against {result.gold}")
    Console().print(table)
    typer.echo(f"One pair is one {result.unit}. RMSE and MAE are in units of the labels' scale, {result.label_scale}.")


def _notes(result: Evaluation) -> Iterator[str]:
    roles = ", ".join(f"{name} = {role}" for role, name in result.columns.items())
    yield f"labels: {result.gold} ({result.label_format}: {roles})"
    outside = f"; {result.labels_outside_scale} values lie outside it" if result.labels_outside_scale else ""
    yield f"labels' scale: {result.label_scale} ({result.label_scale_source}){outside}"
    same = "the same" if result.score_scale == result.label_scale else f"brought to {result.label_scale}"
    yield f"scores' scale: {result.score_scale}, {same}"
    rules = ", ".join(f"{count} by {rule}" for rule, count in result.matched_by.items())
    yield f"matched: {result.matched} labels, one {result.unit} each ({rules})"
    for what, left in (("labels", result.unmatched_labels), ("scored recordings", result.unmatched_recordings),
                       ("scored utterances", result.unmatched_utterances)):
        yield f"unmatched {what}: {_left(left)}"
    for dimension, a in result.dimensions.items():
        if a.unlabelled:
            yield f"{dimension}: {a.unlabelled} matched labels without a number"
        if a.unscored:
            yield f"{dimension}: {a.unscored} matched labels without a score"
        if a.not_defined:
            yield f"{dimension}: not defined: {a.not_defined}"


def _left(left: Unmatched) -> str:
    more = ", ..." if left.count > len(left.examples) else ""
    return f"{left.count} of {left.of}" + (f" ({', '.join(left.examples)}{more})" if left.count else "")
