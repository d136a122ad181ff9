"""Draws reliability: the labels of recordings where the head gave a score, with and without a reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from msfser_cli.schemas import DIMENSIONS

BINS = 8
"""The number of points of a curve. Each stands for as many recordings."""
_COLOURS = ("#0b4a80", "#b45f06")


def draw(out: Path, tests: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    """Write a picture of mean label against mean score. tests: name -> kind of reference -> labels and scores, each [n, 3]."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.7 * len(tests)), layout="constrained")
    axes = figure.subplots(len(tests), len(DIMENSIONS), squeeze=False)
    for row, (name, kinds) in zip(axes, tests.items(), strict=True):
        for i, (axis, dimension) in enumerate(zip(row, DIMENSIONS, strict=True)):
            axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, zorder=1)
            for (kind, (labels, scores)), colour in zip(kinds.items(), _COLOURS, strict=False):
                parts = np.array_split(np.argsort(scores[:, i], kind="stable"), BINS)
                x, y = ([values[part, i].mean() for part in parts] for values in (scores, labels))
                low, high = np.transpose([np.quantile(labels[part, i], (0.1, 0.9)) for part in parts])
                axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
                axis.plot(x, y, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=kind, zorder=3)
            axis.set(xlim=(0.1, 0.95), ylim=(0.1, 0.95), aspect="equal")
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_title(f"{name}: {dimension}", fontsize=9)
            axis.tick_params(labelsize=8)
            axis.set_xlabel("score", fontsize=8)
            axis.set_ylabel("label", fontsize=8)
    axes[0][0].legend(fontsize=7, frameon=False, loc="upper left")
    figure.savefig(out, dpi=110, metadata={"Software": None})
