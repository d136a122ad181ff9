#!/usr/bin/env python
"""What each part of MSF-SER adds: the full model against ones that lack a stream, fuse in another way or have one expert.

    recipes/ablation/run.py EMBEDDED.parquet --gold LABELS --out FOLDER [--folds 5] [--seeds 3] [--jobs 2]

Every model is trained by `msfser train` and scores the table by `msfser predict --head`, once for each seed. Labels that bring
splits are trained on their training and development split and tested on the one that --test-split names. Others are tested by
cross-validation: with --folds 5 the speakers are dealt into five groups, and each is scored by heads that never heard it.

The CCC of a model is its mean over the seeds. Intervals are those of `msfser evaluate`: whole clusters (speakers, else
recordings) are drawn 10,000 times, and on each draw the CCC of every model and seed is computed; the interval of a model comes
from its mean over the seeds on each draw, that of a difference from the full model's mean minus the other's on the same draw.
They say how far other speakers would move the result; how far another seed moves it is the column of deviations.

What is done already in FOLDER is not done again. Prints the tables and writes FOLDER/ablation.csv.
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
from msfser_cli.model import bootstrap, weights
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.schemas import columns_through
from msfser_cli.stages.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.stages.pairing import ENDS, pair, read_scores
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
    """One model trained once: on `gold`, whose scale is given; `out` holds its head and its scores."""

    embedded: Path
    gold: Path
    scale: str
    options: tuple[str, ...]
    out: Path

    @property
    def scores(self) -> Path:
        """The scores of all utterances of the table."""
        return self.out / "scores.parquet"

    def run(self) -> str:
        """Train and score; returns the warnings."""
        import torch

        from msfser_cli.cli.app import app

        torch.set_num_threads(1)
        head = self.out / "head"
        train = ["train", str(self.embedded), "--gold", str(self.gold), "--scale", self.scale, "--out", str(head), *self.options]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            for arguments in (train, ["predict", str(self.embedded), "--head", str(head), "--out", str(self.scores)]):
                app([*arguments, "--quiet"], standalone_mode=False)
        return said.getvalue()


@dataclass(frozen=True)
class Line:
    """A model's CCC of one dimension on one test, and the full model's minus it (null for the full model itself).

    deviation: of the CCC over the seeds; empty with one seed.
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
    """Train, score, compare, print."""
    asked = _options()
    models = {**MODELS, **dict(_named(text) for text in asked.model)}
    labels = read_labels(asked.gold)
    found = resolve_scale(labels, Scale.parse(asked.scale) if asked.scale else None).scale
    scale = f"{found.low}:{found.high}"
    if not asked.folds and not asked.test:
        _require_split(labels, asked.test_split)
    for test in asked.test:
        resolve_scale(read_labels(test), found)  # refuses values that are not on it
    asked.out.mkdir(parents=True, exist_ok=True)
    rounds = _folds(labels, asked.embedded, asked.folds, asked.out) if asked.folds else [asked.gold]
    jobs = {
        (name, seed, i): Job(asked.embedded, gold, scale, (*options, *asked.train, "--seed", str(seed)),
                             asked.out / name.replace(" ", "_") / f"seed{seed}" / f"round{i}")
        for name, options in models.items() for seed in range(asked.seeds) for i, gold in enumerate(rounds)
    }  # fmt: skip
    _run_all(list(jobs.values()), asked.jobs)

    lines = []
    for test in asked.test or [asked.gold]:
        split = None if asked.test else HELD_OUT if asked.folds else asked.test_split
        scored = {
            (name, seed): pl.concat(
                _pairs(jobs[name, seed, i], gold if asked.folds else test, split) for i, gold in enumerate(rounds)
            )
            for name in models for seed in range(asked.seeds)
        }  # fmt: skip
        lines += list(compare(test.stem, scored, list(models), asked.seeds))
    with (asked.out / "ablation.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(asdict(lines[0])), lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(line) for line in lines)
    print("\n".join(report(lines)))
    sizes = ((name, _parameters(jobs[name, 0, 0].out / "head")) for name in models)
    print("Parameters: " + ", ".join(f"{name} {size:,}" for name, size in sizes))


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("embedded", type=Path, help="the table that msfser embed wrote")
    options.add_argument("--gold", type=Path, required=True, help="labels, as for msfser train")
    options.add_argument("--out", type=Path, required=True, help="a folder for heads, scores and tables")
    options.add_argument("--scale", help="the labels' scale LOW:HIGH, where their values do not show it")
    options.add_argument("--test-split", default="test", help="the split of the labels to test on (default: test)")
    options.add_argument("--test", type=Path, action="append", default=[],
                         help="test on these labels, all of them, and not on a split of --gold; on its scale; a table each")
    options.add_argument("--folds", type=int, default=0, help="cross-validate with so many groups of speakers")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--model", action="append", default=[], metavar="NAME=OPTIONS",
                         help="one more model, with these options of msfser train")
    options.add_argument("--train", type=shlex.split, default=[], metavar="OPTIONS",
                         help="options of msfser train for all models")
    options.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    asked = options.parse_args()
    if asked.folds and asked.test:
        options.error("--folds tests on --gold itself: leave out --test")
    return asked


def _named(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, options = text.partition("=")
    return name, tuple(shlex.split(options))


def _require_split(labels: Labels, name: str) -> None:
    there = set(labels.frame["split"].drop_nulls())
    if name.lower() not in {split.lower() for split in there}:
        found = f"its splits are {', '.join(sorted(there))}" if there else "it names no splits"
        sys.exit(f"{labels.path}: {found}; name the one to test on with --test-split, or cross-validate with --folds")


def _folds(labels: Labels, embedded: Path, count: int, out: Path) -> list[Path]:
    """`count` label files, each with another group of speakers as its held-out split; they are dealt in order of their names."""
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
    # Not forked: a copy of a process in which torch has threads may hang.
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        warnings = set()
        for done, said in enumerate(pool.map(Job.run, jobs), start=1):
            for line in set(said.splitlines()) - warnings:
                print(line, file=sys.stderr)
            warnings.update(said.splitlines())
            print(f"{done} of {len(jobs)} models trained", file=sys.stderr, end="\n" if done == len(jobs) else "\r", flush=True)


def _pairs(job: Job, gold: Path, split: str | None) -> pl.DataFrame:
    """The labels in `gold` (of `split`) beside the job's scores; `cluster` is who varies together."""
    scores, _ = read_scores(job.scores)
    pairs = pair(scores, read_labels(gold)).frame
    if split is not None:
        pairs = pairs.filter(pl.col("split").str.to_lowercase() == split.lower())
    if pairs.is_empty():
        sys.exit(f"{gold}: none of the labels to test on belongs to an utterance of {job.embedded}")
    return pairs.select(*DIMENSIONS, *(f"{d}_score" for d in DIMENSIONS), cluster=pl.coalesce("cluster", "recording_id"))


def compare(test: str, scored: dict[tuple[str, int], pl.DataFrame], models: Sequence[str], seeds: int) -> Iterator[Line]:
    """A line for each dimension that is rated and each model; `scored` holds the same labels in the same order for all."""
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
    """The lines as Markdown, a table for each test and dimension."""
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
    """How many numbers a head has learned."""
    return sum(parameter.numel() for parameter in weights.load(head).parameters())


def _with_interval(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """`value` and its interval, which is NaN where clusters are too few for one."""
    if low is None or high is None or math.isnan(low):
        return f"{value:{sign}.3f} [no interval]"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    try:
        main()
    except MsfserError as error:
        sys.exit(str(error))
