"""The scale that labels are on: declared by their format, given by the user, or shown by the values; never guessed."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.stages.labels.table import Labels, Scale

KNOWN_SCALES = (Scale(0, 1), Scale(-1, 1), Scale(1, 5), Scale(1, 7), Scale(1, 9), Scale(0, 100))
"""The scales that may be read off the values: those of published V/A/D ratings."""

REACH = 0.2
"""Values show a scale when they lie within it and come within this share of its length to both of its ends. No two known scales
can be shown by the same values."""

STRAY = 0.05
"""The largest share of values that may lie outside a declared or given scale (IEMOCAP's 1..5 has a few averages of 5.5)."""


@dataclass(frozen=True)
class ResolvedScale:
    """The labels' scale and how it is known; `outside` counts the values beyond its ends."""

    scale: Scale
    source: str
    outside: int


def resolve_scale(labels: Labels, given: Scale | None = None) -> ResolvedScale:
    """The scale of `labels`: `given`, else the format's own, else the only known one that the values show.

    LabelError when the values show no scale, or when too many lie outside a given or declared one.
    """
    values = labels.frame.select(pl.concat_list(labels.rated).explode().drop_nulls().alias("value"))["value"]
    if values.is_empty():
        raise LabelError(labels.path, f"no row has a number under {' or '.join(repr(labels.columns[d]) for d in labels.rated)}")
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    scale = given or labels.scale
    if scale is not None:
        outside = int(((values < scale.low) | (values > scale.high)).sum())
        source = "given" if given else f"declared by {labels.format}"
        if outside > STRAY * len(values):
            raise LabelError(labels.path, f"{outside} of {len(values)} values lie outside {scale}, the scale {source} (they run "
                             f"from {low:g} to {high:g})", "give the scale of these values with --scale LOW:HIGH")
        return ResolvedScale(scale, source, outside)

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
    return ResolvedScale(scale, f"detected from values {low:g} to {high:g}", 0)
