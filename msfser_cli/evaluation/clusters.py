"""Clusters: utterances of one speaker vary together. If the speaker is unknown, the cluster is the podcast or the recording.

MSP-Podcast names the podcast of its unknown speakers.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl


def named(speaker: str) -> pl.Expr:
    """The column `speaker`, with null instead of "unknown"."""
    return pl.when(pl.col(speaker).str.to_lowercase() != "unknown").then(speaker)


def cluster_kind(cluster: pl.Expr, speaker: pl.Expr) -> pl.Expr:
    """The kind of a cluster: `speaker`, `podcast`, or `recording` if it is null."""
    podcast = speaker.is_null() & cluster.str.starts_with("podcast ")
    return pl.when(cluster.is_null()).then(pl.lit("recording")).when(podcast).then(pl.lit("podcast")).otherwise(pl.lit("speaker"))


def kinds(frame: pl.DataFrame) -> dict[str, int]:
    """The number of clusters of each kind in the columns `kind` and `cluster`, most frequent kind first."""
    counts = frame.group_by("kind").agg(pl.col("cluster").n_unique()).sort("cluster", "kind", descending=True)
    return dict(counts.iter_rows())


def in_words(counts: Mapping[str, int]) -> str:
    """The result of `kinds` in words, such as "3 speakers and 1 podcast"."""
    return " and ".join(f"{number:,} {name}{'s' if number != 1 else ''}" for name, number in counts.items())
