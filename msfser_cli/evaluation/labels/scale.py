"""The scale of labels: declared by their format, given by the user, or shown by the values. msfser never guesses it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.labels.table import Labels, Scale

KNOWN_SCALES = (Scale(0, 1), Scale(-1, 1), Scale(1, 5), Scale(1, 7), Scale(1, 9), Scale(0, 100))
"""The scales that msfser can detect from the values. Published V/A/D ratings use these."""

REACH = 0.2
"""A scale is detected if all values lie within it, and both ends are approached to within this share of its length. The same
values never show two known scales."""

STRAY = 0.05
"""At most this share of the values may lie outside a declared or given scale, each by less than `beyond`."""


def beyond(scale: Scale) -> float:
    """How far a rating may lie outside its scale: half a point, but at most an eighth of the scale.

    IEMOCAP's means on 1..5 reach 5.5. Codes for a missing rating, such as 0, -1 or 99, lie further outside.
    """
    return min(0.5, (scale.high - scale.low) / 8) * (1 + 1e-9)


@dataclass(frozen=True)
class ResolvedScale:
    """The scale of labels.

    source: how msfser knows the scale. labels: the labels without the ignored values. outside: the number of values that lie
    slightly outside (see `beyond`) and are kept. ignored: the number of values that lie further outside.
    """

    scale: Scale
    source: str
    labels: Labels = field(repr=False, compare=False)
    outside: int = 0
    ignored: int = 0


def resolve_scale(labels: Labels, given: Scale | None = None, *, ignore_outside: bool = False) -> ResolvedScale:
    """The scale of `labels`: `given`, else the scale of the format, else the scale that the values show.

    Values far outside a given or declared scale (see `beyond`) raise LabelError with the row. With `ignore_outside` they become
    missing instead. Also raises LabelError if the values show no scale, or too many lie outside.
    """
    low, high = _ends(labels)
    scale = given or labels.scale
    if scale is not None:
        return _on(scale, "given" if given else f"declared by {labels.format}", labels, ignore=ignore_outside)
    shown = [s for s in KNOWN_SCALES if s.low <= low <= s.low + REACH * (s.high - s.low) and
             s.high - REACH * (s.high - s.low) <= high <= s.high]
    if len(shown) != 1:
        known = ", ".join(map(str, KNOWN_SCALES))
        raise LabelError(labels.path, f"the values run from {low:g} to {high:g}, which does not show their scale, one of {known}",
                         "give the scale with --scale LOW:HIGH")
    [scale] = shown
    # Some corpora rate valence on -1..1 and arousal on 0..1. One scale would be wrong for one of them.
    if scale.low < 0:
        for dimension in labels.rated:
            lowest = labels.frame[dimension].min()
            if lowest is not None and lowest >= 0:  # type: ignore[operator]
                raise LabelError(labels.path, f"the values run from {low:g} to {high:g}, but {labels.columns[dimension]!r} is "
                                 f"never below 0 and may be on 0..{scale.high:g}",
                                 f"if all columns are on {scale}, add --scale {scale.low:g}:{scale.high:g}; if not, rescale one")
    return ResolvedScale(scale, f"detected from values {low:g} to {high:g}", labels)


def _ends(labels: Labels) -> tuple[float, float]:
    values = labels.frame.select(pl.concat_list(labels.rated).explode().drop_nulls().alias("value"))["value"]
    if values.is_empty():
        names = " or ".join(repr(labels.columns[d]) for d in labels.rated)
        raise LabelError(labels.path, f"no row has a number under {names}", "name another label file")
    return float(values.min()), float(values.max())  # type: ignore[arg-type]


def _on(scale: Scale, source: str, labels: Labels, *, ignore: bool) -> ResolvedScale:
    """`labels` on `scale`; see `resolve_scale`."""
    values = labels.frame.unpivot(labels.rated, index="row", variable_name="dimension").drop_nulls("value").sort("row")
    excess = pl.max_horizontal(scale.low - pl.col("value"), pl.col("value") - scale.high)
    outside, far = values.filter(excess > 0), values.filter(excess > beyond(scale))
    slightly_outside = outside.height - far.height
    if slightly_outside > STRAY * values.height or far.height > values.height / 2:
        low, high = _ends(labels)
        raise LabelError(labels.path, f"{outside.height} of {values.height} values lie outside {scale}, the scale {source} (they "
                         f"run from {low:g} to {high:g})", "give the scale of these values with --scale LOW:HIGH; if some "
                         "mean that a label is missing, add --ignore-outside")
    if far.height and not ignore:
        row, dimension, value = far.row(0)
        others = f", and so are {far.height - 1} more values" if far.height > 1 else ""
        raise LabelError(labels.path, f"{labels.row_word} {row} has {value:g} under {labels.columns[dimension]!r}, which is "
                         f"outside {scale}, the scale {source}{others}",
                         "correct it, or add --ignore-outside to count such values as missing")
    if far.height:
        near_enough = (pl.col(d).is_between(scale.low - beyond(scale), scale.high + beyond(scale)) for d in labels.rated)
        kept = labels.frame.with_columns(pl.when(ok).then(d).alias(d) for d, ok in zip(labels.rated, near_enough, strict=True))
        labels = replace(labels, frame=kept)
    return ResolvedScale(scale, source, labels, slightly_outside, far.height)
