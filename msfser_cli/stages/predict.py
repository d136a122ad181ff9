"""predict: valence, arousal and dominance of utterances, from their vectors and a trained MSF-SER model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Row
from msfser_cli.errors import ModelError
from msfser_cli.model.config import DIMENSIONS, SEMANTIC_STREAMS, STREAMS

if TYPE_CHECKING:
    from msfser_cli.model.scorer import Scorer

VECTORS = tuple(f"{stream}_vector" for stream in STREAMS)
"""The columns of the four streams, in the order of the presence mask."""

DIGITS = 6
"""The decimals of scores. float32 has no more precision."""

BATCH = 1024
"""The number of utterances that are scored together."""


def predict(rows: Sequence[Row], scorer: Scorer) -> list[Row]:
    """`rows` with the columns of `schemas.PREDICT`. ModelError if a vector has another length than the head needs."""
    return [row for first in range(0, len(rows), BATCH) for row in _score(rows[first : first + BATCH], scorer)]


def _score(rows: Sequence[Row], scorer: Scorer) -> list[Row]:
    config = scorer.config
    acoustic = _stacked([row["acoustic_vector"] for row in rows], config.acoustic_dim, "acoustic")
    texts = np.stack([_stacked([row[v] for row in rows], config.text_dim, v) for v in VECTORS[1:]], axis=1)
    present = np.array([[row[v] is not None for v in VECTORS] for row in rows])
    out = scorer.score(acoustic, texts, present)
    scored = []
    for row, scores, intervals, gates, routes in zip(
        rows, _numbers(out.scores), _numbers(out.intervals), _numbers(out.gates), _numbers(out.routes), strict=True
    ):
        ends = {f"{d}_{end}": x for d, interval in zip(DIMENSIONS, intervals, strict=True)
                for end, x in zip(("low", "high"), interval, strict=True)}  # fmt: skip
        of_streams = {f"gate_{stream}": gate for stream, gate in zip(SEMANTIC_STREAMS, gates, strict=True)}
        of_experts = {f"router_{d}": route for d, route in zip(DIMENSIONS, routes, strict=True)}
        scored.append({**row, **dict(zip(DIMENSIONS, scores, strict=True)), **ends, **of_streams, **of_experts})
    return scored


def _numbers(array: np.ndarray) -> list[Any]:
    """`array` as nested lists of rounded numbers, with None instead of NaN."""
    rounded = array.round(DIGITS).astype(object)
    rounded[np.isnan(array)] = None
    return list(rounded.tolist())


def _stacked(vectors: Sequence[np.ndarray | None], dimension: int, name: str) -> np.ndarray:
    for vector in vectors:
        if vector is not None and len(vector) != dimension:
            raise ModelError(
                f"the head needs {name.removesuffix('_vector')} vectors of length {dimension}, but these have {len(vector)}; "
                "embed with the encoders that the head was trained on, or pass another --head"
            )
    return np.stack([np.zeros(dimension, np.float32) if v is None else np.asarray(v, np.float32) for v in vectors])
