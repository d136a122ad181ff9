"""msfser evaluate: scores compared with labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.log import log, printable
from msfser_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from msfser_cli.evaluation.evaluate import Coverage, Difference, Evaluation, Groups
    from msfser_cli.evaluation.joining import Unmatched
    from msfser_cli.exports.formats.submission import Submission
    from msfser_cli.statistics.bootstrap import Interval

_WIDE = 160
"""Width of a report that goes to a file or a pipe, in characters."""


def evaluate(
    gold: o.GoldIfAny = None,
    scores: Annotated[Path, typer.Argument(metavar="TABLE", help="Table of msfser predict.")] = Path("scores.parquet"),
    scale: o.Scale = None,
    ignore_outside: o.IgnoreOutside = False,
    vs: o.Vs = None,
    by: o.By = None,
    split: o.Split = None,
    submission: o.Submission = None,
    plot: o.Plot = None,
    clusters: o.Clusters = "speaker",
    resamples: o.Resamples = 10_000,
    seed: o.BootstrapSeed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Compare scores with labels: CCC, Pearson, RMSE and MAE with 95 % intervals.

    msfser finds the label columns by name. A label belongs to an utterance_id, to
    a part of a recording from start to end, or to a whole recording. The score of
    a recording is the mean of its utterances, weighted by duration.

    The intervals come from a bootstrap of whole speakers, because the utterances
    of one speaker are not independent. If no speaker is known, msfser resamples
    podcasts (MSP-Podcast) or recordings.

    --submission writes a row for every recording in the scores, or with --split
    for the recordings of that split. It works without --gold.

    Example: msfser evaluate --gold labels.csv --by gender --plot scores.png
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.evaluation.evaluate import BY
    from msfser_cli.evaluation.evaluate import evaluate as run
    from msfser_cli.evaluation.labels import Scale
    from msfser_cli.exports.formats.submission import submission as submission_of
    from msfser_cli.exports.picture import check_suffix, write_picture

    columns = tuple(dict.fromkeys(by or ()))
    if wrong := [name for name in columns if name not in BY]:
        raise UsageError(f"--by takes {', '.join(BY[:-1])} or {BY[-1]}, not {wrong[0]!r}")
    if clusters not in ("speaker", "recording"):
        raise UsageError(f"--clusters takes speaker or recording, not {clusters!r}")
    if plot is not None:
        check_suffix(plot)
    from msfser_cli.store.ledger import ledger_path

    for out, other in ((submission, plot), (plot, submission)):
        _require_free(out, (scores, ledger_path(scores), gold, vs, other))
    if gold is None:
        if submission is None:
            raise UsageError("evaluate needs labels; pass them with --gold")
        if vs or columns or split or plot or scale:
            raise UsageError("--submission without --gold takes no other option, because the others need labels; add --gold")
        _submit(submission, submission_of(scores))
        return

    result = run(scores, gold, scale=None if scale is None else Scale.parse(scale), ignore_outside=ignore_outside, vs=vs,
                 by=columns, split=split, clusters=clusters, resamples=resamples, seed=seed)
    if submission is not None:
        of_split = None if split is None else set(result.pairs["recording_id"])
        _submit(submission, submission_of(scores, of_split))
    if plot is not None:
        write_picture(plot, result)
        log.say("note", f"picture: {plot}")
    if json:
        from json import dumps

        typer.echo(dumps(result.to_json(), ensure_ascii=False, allow_nan=False))
        return
    for line in _account(result):
        log.say("note", line)
    for line in _warnings(result):
        log.warn(line)
    _print_report(result)


def _require_free(out: Path | None, others: tuple[Path | None, ...]) -> None:
    """UsageError if the file `out` is a folder or one of the `others`."""
    if out is None:
        return
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; name a file to write")
    for path in filter(None, others):
        if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
            raise UsageError(f"{out}: is an input or another output of this command; name another file to write")


def _submit(out: Path, made: Submission) -> None:
    made.write(out)
    log.say("note", f"submission: {out}, {made.rows} files, on 1..7")
    if made.without:
        log.warn(f"recordings that have no score and are not in the submission: {made.without}")


def _print_report(result: Evaluation) -> None:
    from rich.console import Console

    from msfser_cli.evaluation.clusters import in_words

    # Without a terminal, Rich assumes 80 columns and cuts the names of the dimensions to fit.
    # Names of speakers are data: square brackets and colons in them are not markup.
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False)
    split = f", {result.split}" if result.split else ""
    typer.echo(printable(f"{result.scores} against {result.gold}{split}") + "\n")
    console.print(_metrics(result))
    typer.echo("")
    if any(_bracketed(interval) for a in result.dimensions.values() for interval in a.intervals.values()):
        typer.echo(f"[]: 95 % intervals, from {result.resamples:,} resamples of {in_words(result.clusters)}.")
    typer.echo(f"One pair is one {result.unit}. RMSE and MAE are in units of the labels' scale, {result.label_scale}.")
    if result.differences:
        typer.echo("\n" + printable(f"CCC against {result.other}, on the labels that both score") + "\n")
        console.print(_differences(result.differences))
    if result.coverage:
        typer.echo("\nPrediction intervals of the scores: share of labels that they hold, and mean width\n")
        console.print(_coverage(result.coverage))
    for groups in result.groups:
        typer.echo(f"\nCCC by {groups.by}\n")
        console.print(_groups(groups, tuple(result.dimensions)))
        for line in ("", *notes) if (notes := list(_notes(groups))) else ():
            typer.echo(line)


def _metrics(result: Evaluation) -> Table:
    table = _table("", "CCC", "Pearson", "RMSE", "MAE", "n")
    for dimension, a in result.dimensions.items():
        table.add_row(dimension, *(_number(getattr(a, metric)) for metric in a.intervals), f"{a.n:,}")
        _add_intervals(table, ("", *(_bracketed(interval) for interval in a.intervals.values()), ""))
    return table


def _differences(differences: Mapping[str, Difference]) -> Table:
    table = _table("", "these", "other", "difference", "95 % interval", "n")
    for dimension, d in differences.items():
        table.add_row(dimension, _number(d.ccc), _number(d.other), _number(d.difference, signed=True), _bracketed(d.interval),
                      f"{d.n:,}")
    return table


def _coverage(coverage: Mapping[str, Coverage]) -> Table:
    table = _table("", "held", "promised", "width", "n")
    for dimension, c in coverage.items():
        promised = "unknown" if c.level is None else f"{c.level:.0%}"
        table.add_row(dimension, f"{c.share:.1%}", promised, f"{c.width:.3f}", f"{c.n:,}")
    return table


def _groups(groups: Groups, dimensions: tuple[str, ...]) -> Table:
    table = _table(groups.by, *dimensions, "n", "recordings" if groups.by == "speaker" else "clusters")
    for group in groups.groups:
        table.add_row(printable(group.name) + ("*" if group.small else ""), *(_number(group.ccc[d]) for d in dimensions),
                      f"{max(group.n.values()):,}", f"{group.clusters:,}")
        _add_intervals(table, ("", *(_bracketed(group.intervals[d]) for d in dimensions), "", ""))
    if groups.gap:
        gaps = [groups.gap[d] for d in dimensions]
        table.add_row("female - male", *(_number(gap.difference, signed=True) for gap in gaps), "", "")
        _add_intervals(table, ("", *(_bracketed(gap.interval) for gap in gaps), "", ""))
    return table


def _notes(groups: Groups) -> Iterator[str]:
    from msfser_cli.evaluation.evaluate import CONSTANT, SMALL
    from msfser_cli.statistics.bootstrap import FEW_CLUSTERS

    if flat := [g.name for g in groups.groups if any(i.not_defined == CONSTANT for i in g.intervals.values())]:
        yield printable(f"CCC is 0 or not defined for {', '.join(flat)}: {CONSTANT}.")
    if any(group.small for group in groups.groups):
        unit = "recordings" if groups.by == "speaker" else "clusters"
        yield f"* fewer than {SMALL} pairs or {FEW_CLUSTERS} {unit}: too few for a reliable value."
    if groups.unknown:
        yield f"{groups.unknown:,} labels have no known {groups.by} and belong to no group."


def _table(first: str, *headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add_intervals(table: Table, cells: tuple[str, ...]) -> None:
    """Add a line of intervals below their numbers, if there are any."""
    if any(cells):
        table.add_row(*cells, style="dim")


def _number(value: float, *, signed: bool = False) -> str:
    return "not defined" if value != value else f"{value:+.3f}" if signed else f"{value:.3f}"


def _bracketed(interval: Interval) -> str:
    """The interval without leading zeros, so that four fit side by side."""
    def short(end: float) -> str:
        return f"{end:.3f}".replace("0.", ".", 1) if abs(end) < 0.9995 else f"{end:.3f}"

    return "" if interval.not_defined else f"[{short(interval.low)} {short(interval.high)}]"


def _account(result: Evaluation) -> Iterator[str]:
    """Say how the labels were read and joined, one sentence each."""
    yield f"labels: {result.label_format}: {', '.join(f'{role} = {name!r}' for role, name in result.columns.items())}"
    same = "the same" if result.score_scale == result.label_scale else f"brought to {result.label_scale}"
    yield f"scales: labels {result.label_scale} ({result.label_scale_source}); scores {result.score_scale}, {same}"
    if result.splits:
        yield f"splits: {', '.join(f'{name} {count:,}' for name, count in result.splits.items())}"
    rules = ", ".join(f"{count:,} by {rule}" for rule, count in result.matched_by.items())
    yield f"matched: {sum(result.matched_by.values()):,} labels, one {result.unit} each: {rules}"
    if result.split is not None:
        yield f"split: {result.split}, {result.matched:,} of the matched labels"
    left = (f"{unmatched.count:,} of {unmatched.of:,} {what}" for what, unmatched in _unmatched(result).items())
    yield f"unmatched: {', '.join(left)}"


def _warnings(result: Evaluation) -> Iterator[str]:
    """Say which labels and scores the numbers leave out, and which numbers are uncertain, one sentence each."""
    from msfser_cli.evaluation.clusters import in_words
    from msfser_cli.statistics.bootstrap import FEW_CLUSTERS, LEAST_CLUSTERS

    for what, unmatched in _unmatched(result).items():
        if unmatched.count:
            more = ", ..." if unmatched.count > len(unmatched.examples) else ""
            yield f"unmatched {what}: {unmatched.count} ({', '.join(unmatched.examples)}{more})"
    if result.labels_outside_scale:
        yield f"labels outside their scale, {result.label_scale}: {result.labels_outside_scale}"
    if result.labels_ignored:
        yield f"labels far outside their scale, {result.label_scale}, counted as missing: {result.labels_ignored}"
    for dimension, a in result.dimensions.items():
        if a.unlabelled:
            yield f"{dimension}: matched labels without a number: {a.unlabelled}"
        if a.unscored:
            yield f"{dimension}: matched labels without a score: {a.unscored}"
        if a.not_defined:
            yield f"{dimension}: {a.not_defined}"
    if result.is_calibrated_on_gold and result.coverage:
        yield "the prediction intervals were calibrated on these labels, so their share is no evidence for other speech"
    clusters = sum(result.clusters.values())
    if clusters < LEAST_CLUSTERS:
        yield f"no intervals: they need at least {LEAST_CLUSTERS} clusters, and there are {in_words(result.clusters)}"
    elif clusters < FEW_CLUSTERS:
        yield f"intervals from only {in_words(result.clusters)} are unreliable"


def _unmatched(result: Evaluation) -> dict[str, Unmatched]:
    return {"labels": result.unmatched_labels, "recordings": result.unmatched_recordings,
            "utterances": result.unmatched_utterances}
