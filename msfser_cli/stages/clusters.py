"""Who varies together: utterances of one speaker, else of one podcast (MSP-Podcast's unknown speakers) or recording."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl


def named(speaker: str) -> pl.Expr:
    """The column `speaker`, null where it says that the speaker is unknown."""
    return pl.when(pl.col(speaker).str.to_lowercase() != "unknown").then(speaker)


def cluster_kind(cluster: pl.Expr, speaker: pl.Expr) -> pl.Expr:
    """What a cluster is: `speaker`, `podcast` or, where it is null, `recording`."""
    podcast = speaker.is_null() & cluster.str.starts_with("podcast ")
    return pl.when(cluster.is_null()).then(pl.lit("recording")).when(podcast).then(pl.lit("podcast")).otherwise(pl.lit("speaker"))


def kinds(frame: pl.DataFrame) -> dict[str, int]:
    """How many clusters of each kind a frame has in `kind` and `cluster`, the most frequent kind first."""
    counts = frame.group_by("kind").agg(pl.col("cluster").n_unique()).sort("cluster", "kind", descending=True)
    return dict(counts.iter_rows())


def in_words(counts: Mapping[str, int]) -> str:
    """What `kinds` found, as in 3 speakers and 1 podcast."""
    return " and ".join(f"{number:,} {name}{'s' if number != 1 else ''}" for name, number in counts.items())
