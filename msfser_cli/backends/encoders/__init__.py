"""Encoders: each module turns speech or text into vectors."""

from __future__ import annotations

from itertools import pairwise


def windows(length: int, longest: int) -> list[tuple[int, int]]:
    """Start and end of the fewest equal parts of `length` samples with at most `longest` samples each.

    If `length` does not divide evenly, the first parts have one more sample.
    """
    parts = max(1, -(-length // longest))
    size, longer = divmod(length, parts)
    edges = [i * size + min(i, longer) for i in range(parts + 1)]
    return list(pairwise(edges))
