"""The scale that labels are on: declared by their format, given by the user, or shown by the values; never guessed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.stages.labels.table import Labels, Scale

KNOWN_SCALES = (Scale(0, 1), Scale(-1, 1), Scale(1, 5), Scale(1, 7), Scale(1, 9), Scale(0, 100))
"""The scales that may be read off the values: those of published V/A/D ratings."""

REACH = 0.2
"""Values show a scale when they lie within it and come within this share of its length to both of its ends. No two known scales
can be shown by the same values."""

STRAY = 0.05
"""The largest share of values that may lie outside a declared or given scale, each by less than `beyond`."""


def beyond(scale: Scale) -> float:
    """How far a rating may lie outside of its scale: half a point, and at most an eighth of the scale.

    So far the averages of IEMOCAP's 1..5 go, some of which are 5.5. A code for "missing", such as 0, -1 or 99, is further away.
    """
    return min(0.5, (scale.high - scale.low) / 8) * (1 + 1e-9)


@dataclass(frozen=True)
class ResolvedScale:
    """The labels' scale and how it is known.

    outside: how many values lie a little outside of it (see `beyond`), and stay as they are. ignored: how many lie further out.
    labels: the labels, in which the ignored are missing.
    """

    scale: Scale
    source: str
    labels: Labels = field(repr=False, compare=False)
    outside: int = 0
    ignored: int = 0


def resolve_scale(labels: Labels, given: Scale | None = None, *, ignore_outside: bool = False) -> ResolvedScale:
    """The scale of `labels`: `given`, else the format's own, else the only known one that the values show.

    With `ignore_outside`, values far outside of a given or declared scale (see `beyond`) become missing. LabelError, with the
    row, for such a value without it, and when the values show no scale or too many lie outside.
    """
    low, high = _ends(labels)
    scale = given or labels.scale
    if scale is not None:
        return _on(scale, "given" if given else f"declared by {labels.format}", labels, ignore=ignore_outside)
    shown = [s for s in KNOWN_SCALES if s.low <= low <= s.low + REACH * (s.high - s.low) and
             s.high - REACH * (s.high - s.low) <= high <= s.high]
    if len(shown) != 1:
        known = ", ".join(map(str, KNOWN_SCALES))
        raise LabelError(labels.path, f"the values run from {low:g} to {high:g}, which shows none of the scales {known}",
                         "give it with --scale LOW:HIGH")
    [scale] = shown
    # Some corpora rate valence on -1..1 and arousal on 0..1; one scale for both would be wrong for one of them.
    if scale.low < 0:
        for dimension in labels.rated:
            lowest = labels.frame[dimension].min()
            if lowest is not None and lowest >= 0:  # type: ignore[operator]
                raise LabelError(labels.path, f"the values run from {low:g} to {high:g}, but {labels.columns[dimension]!r} is "
                                 f"never below 0 and may be on 0..{scale.high:g}",
                                 f"if all columns are on {scale}, say --scale {scale.low:g}:{scale.high:g}; if not, rescale one")
    return ResolvedScale(scale, f"detected from values {low:g} to {high:g}", labels)


def _ends(labels: Labels) -> tuple[float, float]:
    values = labels.frame.select(pl.concat_list(labels.rated).explode().drop_nulls().alias("value"))["value"]
    if values.is_empty():
        raise LabelError(labels.path, f"no row has a number under {' or '.join(repr(labels.columns[d]) for d in labels.rated)}")
    return float(values.min()), float(values.max())  # type: ignore[arg-type]


def _on(scale: Scale, source: str, labels: Labels, *, ignore: bool) -> ResolvedScale:
    """`labels` on `scale`; see `resolve_scale`."""
    values = labels.frame.unpivot(labels.rated, index="row", variable_name="dimension").drop_nulls("value").sort("row")
    excess = pl.max_horizontal(scale.low - pl.col("value"), pl.col("value") - scale.high)
    outside, far = values.filter(excess > 0), values.filter(excess > beyond(scale))
    near = outside.height - far.height
    if near > STRAY * values.height or far.height > values.height / 2:
        low, high = _ends(labels)
        raise LabelError(labels.path, f"{outside.height} of {values.height} values lie outside {scale}, the scale {source} (they "
                         f"run from {low:g} to {high:g})", "give the scale of these values with --scale LOW:HIGH; if some stand "
                         "for missing labels, add --ignore-outside")
    if far.height and not ignore:
        row, dimension, value = far.row(0)
        others = f", and so do {far.height - 1} more values" if far.height > 1 else ""
        raise LabelError(labels.path, f"{labels.row_word} {row} has {value:g} under {labels.columns[dimension]!r}, which lies "
                         f"outside {scale}, the scale {source}{others}",
                         "correct it, or add --ignore-outside to count such values as missing")
    if far.height:
        near_enough = (pl.col(d).is_between(scale.low - beyond(scale), scale.high + beyond(scale)) for d in labels.rated)
        kept = labels.frame.with_columns(pl.when(ok).then(d).alias(d) for d, ok in zip(labels.rated, near_enough, strict=True))
        labels = replace(labels, frame=kept)
    return ResolvedScale(scale, source, labels, near, far.height)
