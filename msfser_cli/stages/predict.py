"""predict: valence, arousal and dominance from the vectors, by a trained MSF-SER."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends import Row
from msfser_cli.errors import ModelError

if TYPE_CHECKING:
    from msfser_cli.model.scorer import Scorer

VECTORS = ("acoustic_vector", "les_vector", "gs_vector", "es_vector")
DIGITS = 6
"""Decimals kept: float32 arithmetic has no more to say."""


def predict(rows: Sequence[Row], scorer: Scorer) -> list[Row]:
    """`rows` with the columns of `schemas.PREDICT`. ModelError where a vector is not of the length that the head expects."""
    if not rows:
        return []
    config = scorer.config
    acoustic = _stacked([row["acoustic_vector"] for row in rows], config.acoustic_dim, "acoustic")
    texts = np.stack([_stacked([row[v] for row in rows], config.text_dim, v) for v in VECTORS[1:]], axis=1)
    present = np.array([[row[v] is not None for v in VECTORS] for row in rows])
    out = scorer.score(acoustic, texts, present)
    numbers = (out.scores.round(DIGITS), out.gates.round(DIGITS), out.routes.round(DIGITS))
    scored = []
    for row, scores, gates, routes in zip(rows, *numbers, strict=True):
        valence, arousal, dominance = scores.tolist()
        les, gs, es = gates.tolist()
        to_valence, to_arousal, to_dominance = routes.tolist()
        scored.append({
            **row, "valence": valence, "arousal": arousal, "dominance": dominance, "gate_les": les, "gate_gs": gs, "gate_es": es,
            "router_valence": to_valence, "router_arousal": to_arousal, "router_dominance": to_dominance,
        })
    return scored


def _stacked(vectors: Sequence[np.ndarray | None], dimension: int, name: str) -> np.ndarray:
    for vector in vectors:
        if vector is not None and len(vector) != dimension:
            raise ModelError(
                f"the head was trained on {name} vectors of length {dimension}, these have {len(vector)}; "
                "embed with the encoders it was trained on, or name another --head"
            )
    return np.stack([np.zeros(dimension, np.float32) if v is None else np.asarray(v, np.float32) for v in vectors])
