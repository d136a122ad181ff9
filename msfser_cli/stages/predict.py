"""predict: valence, arousal and dominance of utterances, from their vectors and a trained MSF-SER model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Row
from msfser_cli.backends.parallel import one_thread
from msfser_cli.errors import ModelError
from msfser_cli.model_store.models import ModelFolder, checkpoint
from msfser_cli.schemas import DIMENSIONS, SEMANTIC_STREAMS, STREAMS
from msfser_cli.settings import PredictSettings
from msfser_cli.stages.stage import Needs, Stage
from msfser_cli.stages.work import Step, Work
from msfser_cli.statistics.intervals import Intervals

if TYPE_CHECKING:
    from msfser_cli.model.scorer import Scorer

VECTORS = tuple(f"{stream}_vector" for stream in STREAMS)
"""The columns of the four streams, in the order of the presence mask."""

DIGITS = 6
"""The decimals of scores. float32 has no more precision."""

BATCH = 1024
"""The number of utterances that are scored together."""


def predict(works: Sequence[Work], scorer: Scorer) -> None:
    """Add the columns of `schemas.PREDICT`. ModelError if a vector has another length than the head needs."""
    with one_thread():
        for work in works:
            batches = [work.rows[first : first + BATCH] for first in range(0, len(work.rows), BATCH)]
            work.rows = [row for batch in batches for row in _score(batch, scorer)]


def intervals_of(settings: PredictSettings, models: Mapping[str, ModelFolder]) -> Intervals | None:
    """The prediction intervals of the scores: those of the settings, else those of the head."""
    from msfser_cli.model.weights import load_intervals

    text = settings.intervals
    return load_intervals(models["head"].path) if text is None else Intervals.from_json(text)


def _load(settings: PredictSettings, models: Mapping[str, ModelFolder]) -> Step:
    from msfser_cli.model.scorer import Scorer

    scorer = Scorer(models["head"].path, intervals_of(settings, models))
    return lambda works: predict(works, scorer)


STAGE = Stage(lambda settings: Needs(settings, {"head": checkpoint(settings.head)}), _load, lambda settings: "head")


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
