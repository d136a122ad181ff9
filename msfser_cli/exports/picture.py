"""A picture of an evaluation: predicted against rated, one panel per dimension, as PNG, SVG, or HTML with the numbers.

A dot is a pair. With many pairs, shades contain 25, 50, 75 and 95 % of them, and dots are the pairs outside. Both axes have the
labels' scale. On the diagonal, scores equal ratings.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.errors import UsageError
from msfser_cli.evaluation.clusters import in_words
from msfser_cli.exports.page.page import filled
from msfser_cli.statistics.bootstrap import FEW_CLUSTERS
from msfser_cli.store.atomic import replacing

if TYPE_CHECKING:
    from msfser_cli.evaluation.evaluate import Agreement, Evaluation

SUFFIXES = (".png", ".svg", ".html")
DOTS = 500
"""The most pairs that are drawn as dots only, without shades."""

SHARES = (0.95, 0.75, 0.5, 0.25)
"""The shares of the pairs that the shades contain, from the lightest to the darkest."""

_CELLS = 160
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif", "font.size": 11, "axes.titlesize": 12, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#555555", "xtick.color": "#333333", "ytick.color": "#333333", "axes.labelcolor": "#333333",
    "svg.fonttype": "path", "svg.hashsalt": "msfser", "figure.dpi": 150,
}
_INK, _LINE, _SHADES = "#0b4a80", "#b45f06", ("#d3e3f1", "#9cc1e0", "#5594c7", "#1f669f")


def check_suffix(out: Path) -> None:
    """UsageError unless `out` ends in one of `SUFFIXES`."""
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{out}: the name of a picture must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write_picture(out: Path, result: Evaluation) -> None:
    """Draw `result` and write it to `out` atomically, in the format of its suffix. UsageError unless that is in `SUFFIXES`."""
    check_suffix(out)
    suffix = out.suffix.lower()
    image = _drawn(result, "png" if suffix == ".png" else "svg")
    content = _page(result, image) if suffix == ".html" else image
    with replacing(out) as file:
        file.write(content)


def _drawn(result: Evaluation, kind: str) -> bytes:
    # Without pyplot, matplotlib does not look for a window system and keeps no reference to the figure.
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):
        count = len(result.dimensions)
        shaded = result.pairs.height > DOTS
        figure = Figure(figsize=(4.0 * count + 0.4, 5.1 if shaded else 4.7), layout="constrained")
        row = figure.subplots(1, count, squeeze=False)[0]
        for axes, (dimension, agreement) in zip(row, result.dimensions.items(), strict=True):
            complete = result.pairs.drop_nulls([dimension, f"{dimension}_score"])
            _panel(axes, complete[dimension].to_numpy(), complete[f"{dimension}_score"].to_numpy(), result)
            axes.set_title(dimension, loc="left", fontweight="bold")
            axes.annotate(_corner(agreement), (0.04, 0.96), xycoords="axes fraction", va="top", fontsize=9.5, linespacing=1.4,
                          bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#cccccc", "alpha": 0.92})
        if shaded:
            legend = "Shades contain 25, 50, 75 and 95 % of the pairs.\nDots are the other pairs."
            figure.supxlabel(legend, fontsize=9.5, color="#333333")
        image = io.BytesIO()
        figure.savefig(image, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return image.getvalue()


def _panel(axes: Any, rated: np.ndarray, predicted: np.ndarray, result: Evaluation) -> None:
    low, high = result.label_scale
    # Labels or scores may lie beyond the scale. The axes include them.
    values = np.concatenate([[low, high], rated, predicted])
    low, high = float(values.min()), float(values.max())
    margin = 0.03 * (high - low)
    ends = (low - margin, high + margin)
    axes.set(xlim=ends, ylim=ends, xlabel="rated", ylabel="predicted", aspect="equal")
    low, high = result.label_scale
    if float(low).is_integer() and float(high).is_integer() and 3 <= high - low <= 10:
        axes.set(xticks=np.arange(low, high + 1), yticks=np.arange(low, high + 1))
    axes.plot(ends, ends, color=_LINE, linewidth=1.2, zorder=3)
    outside = np.ones(len(rated), dtype=bool)
    if len(rated) > DOTS:
        density, levels, outside = _density(rated, predicted, ends)
        centres = np.linspace(*ends, 2 * _CELLS + 1)[1::2]
        axes.contourf(centres, centres, density.T, [*levels, np.inf], colors=_SHADES, zorder=1)
    size = 24 if len(rated) <= 200 else 8 if len(rated) <= DOTS else 3
    # Dots are pixels, because an SVG with a million shapes is too large for viewers.
    axes.scatter(rated[outside], predicted[outside], s=size, color=_INK, alpha=0.5, linewidths=0, zorder=2, rasterized=True)


def _density(rated: np.ndarray, predicted: np.ndarray, ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth density, float64 [_CELLS, _CELLS]; the levels above which `SHARES` of it lie; which pairs are below the first."""
    counts, edges, _ = np.histogram2d(rated, predicted, bins=_CELLS, range=(ends, ends))
    for axis, values in enumerate((rated, predicted)):
        # Scott's rule, but at least so wide that it closes the gaps between the mean ratings of a few raters.
        width = max(float(values.std()) * len(values) ** (-1 / 6), (ends[1] - ends[0]) / 40) * _CELLS / (ends[1] - ends[0])
        steps = np.arange(-np.ceil(3 * width), np.ceil(3 * width) + 1)
        kernel = np.exp(-0.5 * (steps / width) ** 2)
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel / kernel.sum(), mode="same")
    falling = np.sort(counts, axis=None)[::-1]
    share_above = np.cumsum(falling) / falling.sum()
    levels = falling[np.searchsorted(share_above, SHARES).clip(max=falling.size - 1)]
    cell = [np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _CELLS - 1) for values in (rated, predicted)]
    return counts, np.maximum.accumulate(levels), counts[cell[0], cell[1]] < levels[0]


def _corner(agreement: Agreement) -> str:
    interval = agreement.intervals["ccc"]
    ccc = "CCC undefined" if agreement.ccc != agreement.ccc else f"CCC {agreement.ccc:.3f}"
    if interval.not_defined is None:
        ccc += f"  [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{ccc}\nn = {agreement.n:,}"


def _page(result: Evaluation, svg: bytes) -> bytes:
    """An HTML page with the picture and the numbers. It needs no other file."""
    def cell(agreement: Agreement, metric: str) -> str:
        value, interval = getattr(agreement, metric), agreement.intervals[metric]
        text = "undefined" if value != value else f"{value:.3f}"
        return text if interval.not_defined else f"{text} <small>[{interval.low:.3f}, {interval.high:.3f}]</small>"

    rows = "".join(
        f"<tr><td>{dimension}</td>"
        + "".join(f'<td class="number">{text}</td>' for text in (*(cell(a, metric) for metric in a.intervals), f"{a.n:,}"))
        + "</tr>\n"
        for dimension, a in result.dimensions.items()
    )
    few = " They are unreliable, because there are so few." if sum(result.clusters.values()) < FEW_CLUSTERS else ""
    return filled(
        "evaluation.html", {}, {}, allowed="img-src data:", markup={"rows": rows},
        # as an image, because the page's policy forbids the styles inside of it
        picture=f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}",
        title=f"{result.scores} against {result.gold}" + (f", {result.split}" if result.split else ""),
        note=f"In brackets: 95 % intervals, from {result.resamples:,} resamples of {in_words(result.clusters)}.{few} RMSE and "
        f"MAE are in units of the labels' scale, {result.label_scale}. On the diagonal, the score equals the rating.",
    )  # fmt: skip
