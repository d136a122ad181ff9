"""msfser show: a table at a glance, on the terminal."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.console import clock
from msfser_cli.cli.log import printable
from msfser_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from msfser_cli.exports.glance import Glance
    from msfser_cli.exports.recordings import Recording, Utterance

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDE = 100
"""Columns of what goes to a file or a pipe."""


def show(
    table: o.Table,
    recording: Annotated[
        str | None,
        typer.Argument(metavar="[RECORDING]", show_default=False, help="Its recording_id, or the end of it if no other has it."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Show a table at a glance, or one recording over time.

    Example: msfser show scores.parquet
    """
    from rich.console import Console

    # Names and words are data: square brackets and colons in them are not markup.
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False, highlight=False)
    if recording is None:
        from msfser_cli.exports.glance import glance

        seen = glance(table)
        if json:
            _print_json(asdict(seen))
        else:
            _print_corpus(console, seen)
        return
    found = _find(table, recording)
    if json:
        values = {"id": found.id, "stem": found.stem, "utterances": list(map(asdict, found.utterances))}
        _print_json(values | {"duration": found.duration, "path": None if found.path is None else str(found.path)})
    else:
        _print_recording(console, found)


def _print_json(values: object) -> None:
    from json import dumps

    typer.echo(dumps(values, ensure_ascii=False))


def _print_corpus(console: Console, seen: Glance) -> None:
    from rich.table import Table
    from rich.text import Text

    counts = [f"{seen.recordings:,} recordings", f"{clock(seen.seconds)} of audio", f"{seen.utterances:,} utterances",
              f"{clock(seen.speech_seconds)} of speech"]  # fmt: skip
    counts += [f"{seen.speakers:,} speakers"] if seen.speakers else []
    console.print(", ".join(counts))
    if seen.statuses:
        console.print(", ".join(f"{count:,} {status}" for status, count in sorted(seen.statuses.items())))
    for reason, count in seen.reasons.items():
        console.print(f"  {count:,} {reason}")
    if seen.languages:
        console.print("languages: " + ", ".join(f"{code} {count:,}" for code, count in seen.languages.items()))
    if not seen.scores:
        return
    low, high = (f"{end:g}" for end in seen.scale)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "n", "mean", "sd"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_column(f"from {low} to {high}", no_wrap=True)
    for dimension, scores in seen.scores.items():
        table.add_row(dimension, f"{scores.n:,}", f"{scores.mean:.2f}", f"{scores.deviation:.2f}", bars(scores.histogram))
    console.print("")
    console.print(table)
    for dimension, scores in seen.scores.items():
        for end, extremes in (("highest", scores.highest), ("lowest", scores.lowest)):
            console.print(Text(f"\n{end} {dimension}", style="bold"))
            for extreme in extremes:
                line = f"  {extreme.score:.2f}  {extreme.recording_id} {clock(extreme.start)}  {extreme.text}"
                console.print(Text(printable(line)), no_wrap=True, overflow="ellipsis")


def bars(values: Sequence[float]) -> str:
    """A bar of text for each value, relative to the highest. A value above 0 is always seen."""
    most = max([*values, 1e-9])
    return "".join(_BLOCKS[max(round(value / most * (len(_BLOCKS) - 1)), int(value > 0))] for value in values)


def _find(path: Path, wanted: str) -> Recording:
    """The recording of that id, or the only one whose id ends in it. UsageError if there is none, or several."""
    from msfser_cli.exports.recordings import Table

    opened = Table.open(path)
    matches = [wanted] if wanted in opened.stems else [identity for identity in opened.stems if identity.endswith(wanted)]
    if len(matches) != 1:
        if wanted in opened.ledger:
            line = opened.ledger[wanted]
            raise UsageError(f"{wanted}: has no rows: {line['status']}" + (f", {line['reason']}" if line["reason"] else ""))
        some = ", ".join(map(printable, matches[:3])) + (", ..." if len(matches) > 3 else "")
        why = f"is the end of {len(matches)} recordings: {some}" if matches else "is no recording of the table"
        raise UsageError(f"{printable(wanted)}: {why}; the ledger lists all recordings")
    return next(opened.recordings(matches[0]))


def _print_recording(console: Console, recording: Recording) -> None:
    from rich.text import Text

    from msfser_cli.schemas import DIMENSIONS

    utterances = sorted(recording.utterances, key=lambda u: u.start)
    console.print(printable(recording.id))
    console.print(f"{clock(recording.end)}, {len(utterances)} utterances")
    width = max(10, console.width - 12)
    console.print("")
    for dimension in DIMENSIONS:
        if any(dimension in u.scores for u in utterances):
            console.print(Text(f"{dimension:<11}{_over_time(utterances, dimension, recording.end, width)}"), no_wrap=True)
    console.print(" " * 11 + "0:00" + clock(recording.end).rjust(width - 4))
    console.print("")
    for utterance in utterances:
        console.print(_line(utterance))


def _over_time(utterances: Sequence[Utterance], dimension: str, end: float, width: int) -> str:
    """The scores over time in `width` characters, from the lowest to the highest of the recording; blank where nobody speaks."""
    scored = [u for u in utterances if dimension in u.scores]
    values = [u.scores[dimension].value for u in scored]
    low, high = min(values), max(values)
    cells = [" "] * width
    for utterance, value in zip(scored, values, strict=True):
        level = 1 + round((value - low) / max(high - low, 1e-9) * (len(_BLOCKS) - 2))
        first = min(int(utterance.start / end * width), width - 1)
        for i in range(first, max(first + 1, min(int(utterance.end / end * width), width))):
            cells[i] = _BLOCKS[level]
    return "".join(cells)


def _line(utterance: Utterance) -> Text:
    from rich.text import Text

    scores = " ".join(f"{name[0].upper()} {score.value:.2f}" for name, score in utterance.scores.items())
    line = Text(f"{clock(utterance.start):>7}  ", style="dim")
    line.append(f"{scores}  " if scores else "", style="dim")
    if utterance.speaker:
        line.append(f"{printable(utterance.speaker)}: ", style="italic")
    for word in utterance.words:
        line.append(printable(word.text), style="bold underline" if word.emphasised else "")
        line.append(" " if word.after else "")
    if not utterance.words:
        line.append(printable(utterance.text))
    return line
