"""What a recipe's README promises, and what `evaluate` printed, read back."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from msfser_cli.model.config import DIMENSIONS
from msfser_cli.model.metrics import ccc


def promised(readme: Path) -> list[str]:
    """The files and folders that the README's table of steps says are written."""
    [steps] = re.findall(r"^\| step \|.*\n((?:\|.*\n)+)", readme.read_text(), re.MULTILINE)
    return [name for row in steps.splitlines()[1:] for name in re.findall(r"`([^`]+)`", row.split("|")[2])]


def reported(results: Path) -> dict[str, dict[str, tuple[float, int]]]:
    """CCC and n of each dimension in each report, by its split; the empty string where a report is about all labels."""
    reports = re.findall(r"^\S+ against \S+\.csv(?:, (\w+))?$(.*?)^\[\]", results.read_text(), re.MULTILINE | re.DOTALL)
    row = re.compile(r"^ *(\w+) +(-?\d\.\d+) .*?(\d+) *$", re.MULTILINE)
    return {split: {name: (float(value), int(n)) for name, value, n in row.findall(text)} for split, text in reports}


def expected(pairs: pl.DataFrame) -> dict[str, tuple[float, int]]:
    """The same from `pairs`, which have a column for each dimension and one for its label, `<dimension>_label`."""
    return {d: (round(ccc(pairs[f"{d}_label"].to_numpy(), pairs[d].to_numpy()), 3), pairs.height) for d in DIMENSIONS}
