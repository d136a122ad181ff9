"""A recipe's one command, what its README promises, and what `evaluate` printed, read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from kit.program import Done
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.statistics.metrics import ccc

Program = Callable[..., Done]
"""The fixture `program` of the recipes' tests."""


class Run(NamedTuple):
    """A recipe's command that ran on a miniature corpus."""

    corpus: Path
    out: Path
    process: Done


def run_recipe(program: Program, recipe: Path, corpus: Path, work: Path, *options: str) -> Run:
    """Run a recipe's one command as its README has it, on `corpus`, in the folder `work`."""
    [(source, out)] = re.findall(
        rf"^recipes/{recipe.name}/run /data/(\S+) (\S+)$", (recipe / "README.md").read_text(), re.MULTILINE
    )
    assert source == corpus.name
    return Run(corpus, work / out, program(recipe / "run", corpus, work / out, *options))


def promised(readme: Path) -> list[str]:
    """The files and folders that the README's table of steps says are written."""
    [steps] = re.findall(r"^\| step \|.*\n((?:\|.*\n)+)", readme.read_text(), re.MULTILINE)
    return [name for row in steps.splitlines()[1:] for name in re.findall(r"`([^`]+)`", row.split("|")[2])]


def reported(results: Path) -> dict[str, dict[str, tuple[float, int]]]:
    """CCC and n of each dimension in each report, by its split; the empty string where a report is about all labels."""
    reports = re.findall(r"^\S+ against \S+\.csv(?:, (\w+))?$(.*?)^One pair", results.read_text(), re.MULTILINE | re.DOTALL)
    row = re.compile(r"^ *(\w+) +(-?\d\.\d+) .*?(\d+) *$", re.MULTILINE)
    return {split: {name: (float(value), int(n)) for name, value, n in row.findall(text)} for split, text in reports}


def expected(pairs: pl.DataFrame) -> dict[str, tuple[float, int]]:
    """The same from `pairs`, which have a column for each dimension and one for its label, `<dimension>_label`."""
    return {d: (round(ccc(pairs[f"{d}_label"].to_numpy(), pairs[d].to_numpy()), 3), pairs.height) for d in DIMENSIONS}
