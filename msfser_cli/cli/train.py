"""msfser train: an MSF-SER head, trained on vectors and labels."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msfser_cli.cli import options as o
from msfser_cli.cli.command import Given, settings_command
from msfser_cli.cli.console import PLAIN_SECONDS, clock
from msfser_cli.cli.log import log
from msfser_cli.schemas import DIMENSIONS

if TYPE_CHECKING:
    from msfser_cli.training.fit import Epoch
    from msfser_cli.training.train import Trained


@settings_command("finetune")
def train(
    embedded: Annotated[Path, typer.Argument(metavar="TABLE", help="Table of msfser embed, or scores with --keep-vectors.")],
    given: Given,
    gold: o.Gold,
    out: o.HeadOut,
    scale: o.Scale = None,
    ignore_outside: o.IgnoreOutside = False,
    train_split: o.TrainSplit = None,
    dev_split: o.DevSplit = None,
    finetune: o.Finetune = False,
    models_dir: o.ModelsDir = None,
    root: o.Root = None,
    redo: o.Redo = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    log_format: o.LogFormat = "text",
) -> None:
    """Train an MSF-SER head on vectors and labels, for predict --head.

    The encoders do not change, so training takes minutes on a CPU. It stops at
    the epoch that is best on held-out speakers, or on the development split if
    the labels have one. The same seed gives the same weights. If training is
    interrupted, run the same command again: it continues.

    With --finetune, a speech encoder learns too, from the audio of the table's
    utterances. Use a GPU for that. The text vectors do not change.

    Example: msfser train embedded.parquet --gold labels.csv --out head/
    """
    log.set(log_format, quiet=quiet)
    from msfser_cli.errors import UsageError
    from msfser_cli.evaluation.labels import Scale
    from msfser_cli.settings import TrainSettings, build
    from msfser_cli.store.objects import location
    from msfser_cli.training.train import train as run
    from msfser_cli.training.training_set import read

    named = {
        "without": tuple(given.values["without"] or ()) or None,
        "loss_weights": None if (weights := given.values["loss_weights"]) is None else o.three_numbers(weights),
        "train_splits": tuple(train_split or ()) or None,
        "dev_splits": tuple(dev_split or ()) or None,
    }
    given = Given({**given.values, **named})
    chosen = given.of("finetune")
    if not finetune and (idle := [name for name in chosen if name not in given.of("train")]):
        raise UsageError(f"--{idle[0].replace('_', '-')} needs --finetune")
    settings = build("finetune" if finetune else "train", chosen)
    assert isinstance(settings, TrainSettings)
    examples = read(embedded, gold, settings, None if scale is None else Scale.parse(scale), ignore_outside=ignore_outside)
    for line in examples.account():
        if line.startswith("warning"):
            log.warn(line)
        else:
            log.say("note", line)
    folder = None if root is None else location(root)
    progress = _Progress(settings.epochs, settings.relative)
    try:
        result = run(examples, settings, out, progress.epoch, redo=redo, root=folder, on_audio=progress.audio)
    finally:
        progress.close()
    if json:
        from dataclasses import asdict
        from json import dumps

        typer.echo(dumps({**asdict(result), "best": result.best.to_json()}, ensure_ascii=False))
    line = _summary(result, settings.relative)
    log.say("summary", line, out=str(out), unchanged=result.unchanged, epochs=result.epochs, exit_code=0)


def _line(epoch: Epoch, relative: bool) -> str:
    of = " (mean of that with and without reference)" if relative else ""
    return f"loss {epoch.loss:.3f}, development CCC{of} {_ccc(epoch.valence, epoch.arousal, epoch.dominance)}"


def _ccc(*values: float | None) -> str:
    rated = [(name, x) for name, x in zip(DIMENSIONS, values, strict=True) if x is not None and not math.isnan(x)]
    return ", ".join(f"{name} {x:.3f}" for name, x in rated)


def _summary(result: Trained, relative: bool) -> str:
    line = _line(result.best, relative)
    if result.ccc is not None and result.relative_ccc is not None:
        line += f"; without reference {_ccc(*result.ccc)}, with reference {_ccc(*result.relative_ccc)}"
    elif result.ccc is not None:
        line += f"; on the half that did not choose the epoch {_ccc(*result.ccc)}"
    if result.unchanged:
        return f"{result.out}: already trained on the same data with the same settings; {line}"
    where = f"epoch {result.best.epoch} of {result.epochs}"
    reach = "" if result.intervals else "; no intervals, because there are too few development ratings"
    encoder = f"--acoustic-encoder transformers-speech --acoustic-model {result.encoder} " if result.encoder else ""
    return f"{result.out}: {where}; {line}{reach}\nuse it with: msfser predict ... {encoder}--head {result.out}"


class _Progress:
    """The progress of a training: a bar on a terminal, else a line every half minute with the epoch and the audio encoded."""

    def __init__(self, epochs: int, relative: bool) -> None:
        self._of, self._relative, self._bar, self._last = epochs, relative, None, time.monotonic()
        self._done, self._seconds, self._line = 0, 0.0, ""
        if log.is_watched:
            from tqdm import tqdm

            self._bar = tqdm(total=epochs, leave=False, bar_format="epoch {n_fmt}/{total_fmt} {bar} {desc}")

    def epoch(self, epoch: Epoch) -> None:
        """One epoch is done."""
        self._done, self._seconds, self._line = epoch.epoch, 0.0, _line(epoch, self._relative)
        if self._bar is not None:
            self._bar.update(epoch.epoch - self._bar.n)
        self._say(self._line)

    def audio(self, seconds: float) -> None:
        """The encoder has read `seconds` more of audio."""
        self._seconds += seconds
        self._say(f"{clock(self._seconds)} of audio in the next epoch; {self._line}".removesuffix("; "))

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(line)
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            log.say("progress", f"epoch {self._done}/{self._of}: {line}", epoch=self._done, of=self._of)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
