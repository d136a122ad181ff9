#!/usr/bin/env python
"""Ablation: compares the full MSF-SER model with models that lack a stream, use another fusion, or have one expert.

    recipes/ablation/run.py EMBEDDED.parquet --gold LABELS --out FOLDER [--folds 5] [--seeds 3] [--jobs 2]

`msfser train` trains every model, and `msfser predict --head` scores the table with it, once for each seed. If the labels have
splits, models are trained on the training and development split, and tested on the split of --test-split. Otherwise pass --folds
5 for cross-validation: the speakers are put into five groups, and each group is scored by heads that were trained without it.

The CCC of a model is its mean over the seeds. Intervals are those of `msfser evaluate`: whole clusters (speakers, else
recordings) are drawn 10,000 times, and each draw gives a CCC for every model and seed. The interval of a model comes from its
mean over the seeds on each draw. The interval of a difference comes from the full model's mean minus the other's on the same
draw. Intervals show the effect of other speakers. The column of deviations shows the effect of other seeds.

Finished work in FOLDER is kept. The script prints the tables and writes FOLDER/ablation.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import math
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from msfser_cli.errors import MsfserError
from msfser_cli.evaluation.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.evaluation.pairing import ENDS, pair, read_scores
from msfser_cli.model import weights
from msfser_cli.schemas import DIMENSIONS, columns_through
from msfser_cli.statistics import bootstrap
from msfser_cli.store import tables

FULL = "full"
MODELS = {
    FULL: (),
    "without les": ("--without", "les"),
    "without gs": ("--without", "gs"),
    "without es": ("--without", "es"),
    "without acoustic": ("--without", "acoustic"),
    "concat": ("--fusion", "concat"),
    "attention": ("--fusion", "attention"),
    "single expert": ("--experts", "1"),
}
"""The options of `msfser train` that make each model."""
RESAMPLES = 10_000
HELD_OUT = "test"


@dataclass(frozen=True)
class Job:
    """One model with one seed. gold: its labels, on `scale`. out: the folder for its head and its scores."""

    embedded: Path
    gold: Path
    scale: str
    options: tuple[str, ...]
    out: Path

    @property
    def scores(self) -> Path:
        """The table with the scores of all utterances."""
        return self.out / "scores.parquet"

    def run(self) -> str:
        """Train the model and score the table. Returns the warnings."""
        import torch

        from msfser_cli.cli.app import app

        torch.set_num_threads(1)
        head = self.out / "head"
        train = ["train", str(self.embedded), "--gold", str(self.gold), "--scale", self.scale, "--out", str(head), *self.options]
        with contextlib.redirect_stderr(io.StringIO()) as messages:
            for arguments in (train, ["predict", str(self.embedded), "--head", str(head), "--out", str(self.scores)]):
                app([*arguments, "--quiet"], standalone_mode=False)
        return messages.getvalue()


@dataclass(frozen=True)
class Line:
    """The CCC of a model for one dimension on one test. difference: the full model's CCC minus this; None for the full model.

    deviation: standard deviation of the CCC over the seeds; None with one seed.
    """

    test: str
    dimension: str
    model: str
    n: int
    clusters: int
    seeds: int
    ccc: float
    low: float
    high: float
    deviation: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None


def main() -> None:
    """Train, score and compare the models, and print the results."""
    arguments = _arguments()
    models = {**MODELS, **dict(_named(text) for text in arguments.model)}
    labels = read_labels(arguments.gold)
    resolved = resolve_scale(labels, Scale.parse(arguments.scale) if arguments.scale else None).scale
    scale = f"{resolved.low}:{resolved.high}"
    if not arguments.folds and not arguments.test:
        _require_split(labels, arguments.test_split)
    for test in arguments.test:
        resolve_scale(read_labels(test), resolved)  # refuses labels that do not fit the scale
    arguments.out.mkdir(parents=True, exist_ok=True)
    rounds = _folds(labels, arguments.embedded, arguments.folds, arguments.out) if arguments.folds else [arguments.gold]
    jobs = {
        (name, seed, i): Job(arguments.embedded, gold, scale, (*options, *arguments.train, "--seed", str(seed)),
                             arguments.out / name.replace(" ", "_") / f"seed{seed}" / f"round{i}")
        for name, options in models.items() for seed in range(arguments.seeds) for i, gold in enumerate(rounds)
    }  # fmt: skip
    _run_all(list(jobs.values()), arguments.jobs)

    lines = []
    for test in arguments.test or [arguments.gold]:
        split = None if arguments.test else HELD_OUT if arguments.folds else arguments.test_split
        scored = {
            (name, seed): pl.concat(
                _pairs(jobs[name, seed, i], gold if arguments.folds else test, split) for i, gold in enumerate(rounds)
            )
            for name in models for seed in range(arguments.seeds)
        }  # fmt: skip
        lines += list(compare(test.stem, scored, list(models), arguments.seeds))
    with (arguments.out / "ablation.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(asdict(lines[0])), lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(line) for line in lines)
    print("\n".join(report(lines)))
    sizes = ((name, _parameters(jobs[name, 0, 0].out / "head")) for name in models)
    print("Parameters: " + ", ".join(f"{name} {size:,}" for name, size in sizes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embedded", type=Path, help="table of msfser embed")
    parser.add_argument("--gold", type=Path, required=True, help="labels, as for msfser train")
    parser.add_argument("--out", type=Path, required=True, help="folder for heads, scores and tables")
    parser.add_argument("--scale", help="scale of the labels, LOW:HIGH; needed if the labels do not show it")
    parser.add_argument("--test-split", default="test", help="split of the labels to test on (default: test)")
    parser.add_argument("--test", type=Path, action="append", default=[],
                        help="labels to test on instead of a split of --gold, on the same scale; repeat for more tests")
    parser.add_argument("--folds", type=int, default=0, help="number of groups of speakers for cross-validation")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds for each model (default: 3)")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=OPTIONS",
                        help="another model, with these options of msfser train")
    parser.add_argument("--train", type=shlex.split, default=[], metavar="OPTIONS",
                        help="options of msfser train for all models")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of trainings at once (default: one per core)")
    arguments = parser.parse_args()
    if arguments.folds and arguments.test:
        parser.error("--folds tests on --gold itself; leave out --test")
    return arguments


def _named(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, options = text.partition("=")
    return name, tuple(shlex.split(options))


def _require_split(labels: Labels, name: str) -> None:
    splits = set(labels.frame["split"].drop_nulls())
    if name.lower() not in {split.lower() for split in splits}:
        others = f"only {', '.join(sorted(splits))}" if splits else "and no other splits"
        sys.exit(f"{labels.path}: has no split {name}, {others}; choose one with --test-split, or cross-validate with --folds")


def _folds(labels: Labels, embedded: Path, count: int, out: Path) -> list[Path]:
    """Write `count` label files, each with another group of speakers as its held-out split. Speakers are dealt by name."""
    columns = [c for c in columns_through("embed") if c.name in ("recording_id", "utterance_id", "start", "end", "speaker")]
    utterances = pl.DataFrame(pl.from_arrow(tables.read(embedded, columns)))
    scores = (*DIMENSIONS, *(end.name for end in ENDS))
    unscored = utterances.with_columns(pl.lit(None, pl.Float64).alias(name) for name in scores)
    frame = pair(unscored, labels).frame.with_columns(speaker=pl.coalesce("cluster", "recording"))
    frame = frame.select(c for c in ("recording", "start", "end", "utterance_id", *DIMENSIONS, "speaker")
                         if frame[c].null_count() < len(frame))  # fmt: skip
    fold = (pl.col("speaker").rank("dense") - 1) % count
    paths = []
    for i in range(count):
        path = out / f"fold{i}.parquet"
        frame.with_columns(split=pl.when(fold == i).then(pl.lit(HELD_OUT)).otherwise(pl.lit("train"))).write_parquet(path)
        paths.append(path)
    return paths


def _run_all(jobs: Sequence[Job], at_once: int) -> None:
    # New processes, because a fork of a process with torch's threads may hang.
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        warnings = set()
        for done, messages in enumerate(pool.map(Job.run, jobs), start=1):
            for line in set(messages.splitlines()) - warnings:
                print(line, file=sys.stderr)
            warnings.update(messages.splitlines())
            print(f"{done} of {len(jobs)} models trained", file=sys.stderr, end="\n" if done == len(jobs) else "\r", flush=True)


def _pairs(job: Job, gold: Path, split: str | None) -> pl.DataFrame:
    """The labels in `gold` (of `split`) with the job's scores, and the `cluster` of each: its speaker, else its recording."""
    scores, _ = read_scores(job.scores)
    pairs = pair(scores, read_labels(gold)).frame
    if split is not None:
        pairs = pairs.filter(pl.col("split").str.to_lowercase() == split.lower())
    if pairs.is_empty():
        sys.exit(f"{gold}: no label of the test belongs to an utterance of {job.embedded}; use labels for this table")
    return pairs.select(*DIMENSIONS, *(f"{d}_score" for d in DIMENSIONS), cluster=pl.coalesce("cluster", "recording_id"))


def compare(test: str, scored: dict[tuple[str, int], pl.DataFrame], models: Sequence[str], seeds: int) -> Iterator[Line]:
    """A line for each labelled dimension and model. scored: by model and seed, all with the same labels in the same order."""
    first = next(iter(scored.values()))
    codes = first["cluster"].rank("dense").to_numpy() - 1
    for dimension in DIMENSIONS:
        truth = first[dimension].to_numpy()
        rated = ~np.isnan(truth)
        if not rated.any():
            continue
        of_rated = np.unique(codes[rated], return_inverse=True)[1]
        count = int(of_rated.max()) + 1
        sums = np.stack(
            [bootstrap.cluster_sums(of_rated, count, truth[rated], scored[name, seed][f"{dimension}_score"].to_numpy()[rated])
             for name in models for seed in range(seeds)], axis=1)  # fmt: skip
        by_seed = bootstrap.ccc(sums.sum(axis=0)).reshape(len(models), seeds)
        [drawn] = bootstrap.resampled(sums, RESAMPLES, 0)
        means = drawn.reshape(RESAMPLES, len(models), seeds).mean(axis=2)
        full = models.index(FULL)
        for i, name in enumerate(models):
            own, against = (bootstrap.interval(values, count) for values in (means[:, i], means[:, full] - means[:, i]))
            is_full = name == FULL
            yield Line(
                test, dimension, name, int(rated.sum()), count, seeds, float(by_seed[i].mean()), own.low, own.high,
                float(by_seed[i].std(ddof=1)) if seeds > 1 else None,
                None if is_full else float(by_seed[full].mean() - by_seed[i].mean()),
                None if is_full else against.low, None if is_full else against.high,
            )  # fmt: skip


def report(lines: Sequence[Line]) -> Iterator[str]:
    """The lines as Markdown, with a table for each test and dimension."""
    for test, dimension in dict.fromkeys((line.test, line.dimension) for line in lines):
        of_table = [line for line in lines if (line.test, line.dimension) == (test, dimension)]
        first = of_table[0]
        yield f"{test}, {dimension}: {first.n} labels, {first.clusters} clusters, {first.seeds} seeds\n"
        yield "| model | CCC | deviation over seeds | full model minus this |\n|---|---|---|---|"
        for line in of_table:
            deviation = "" if line.deviation is None else f"{line.deviation:.3f}"
            yield f"| {line.model} | {_with_interval(line.ccc, line.low, line.high)} | {deviation} | " + (
                "|" if line.difference is None else
                f"{_with_interval(line.difference, line.difference_low, line.difference_high, '+')} |")  # fmt: skip
        yield ""


def _parameters(head: Path) -> int:
    """The number of parameters of a head."""
    return sum(parameter.numel() for parameter in weights.load(head).parameters())


def _with_interval(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """`value` and its interval. The interval is NaN if there are too few clusters."""
    if low is None or high is None or math.isnan(low):
        return f"{value:{sign}.3f} [no interval]"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    try:
        main()
    except MsfserError as error:
        sys.exit(str(error))
