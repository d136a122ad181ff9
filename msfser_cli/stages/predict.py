"""predict: valence, arousal and dominance of utterances, from their vectors and a trained MSF-SER model.

A head with a reference scores a voice relative to how its speaker usually sounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from msfser_cli.backends import Row, speakers
from msfser_cli.backends.parallel import one_thread
from msfser_cli.errors import ModelError, UsageError
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

BROUGHT = "speaker_reference"
"""The key of rows that bring a `Reference` with them."""

FEWEST = 3
"""The fewest utterances of a reference. Two say little of how someone usually sounds."""

DIGITS = 6
"""The decimals of scores. float32 has no more precision."""

BATCH = 1024
"""The number of utterances that are scored together."""


@dataclass(frozen=True)
class Reference:
    """How a speaker usually sounds. kind: `recording` or `speaker`, as in `settings.REFERENCES`.

    evidence: the sum of `Scorer.evidence` over the speaker's utterances, float64 [1 + Da]. utterances: their number. key: a hash
    of where they come from; empty for a reference within a recording.
    """

    kind: str
    evidence: np.ndarray
    utterances: int
    key: str = ""


def predict(works: Sequence[Work], scorer: Scorer, reference: str = "none") -> None:
    """Add the columns of `schemas.PREDICT`. ModelError if a vector has another length than the head needs.

    reference: one of `settings.REFERENCES` but `auto`. With `speaker`, the rows of speakers who have a reference in all
    recordings bring it with them (see `runs.speakers`). Other rows are compared within their recording.
    """
    with one_thread():
        for work in works:
            references = _references(work.rows, scorer) if reference != "none" else [None] * len(work.rows)
            parts = [slice(first, first + BATCH) for first in range(0, len(work.rows), BATCH)]
            work.rows = [row for part in parts for row in _score(work.rows[part], references[part], scorer)]


def evidence(rows: Sequence[Row], scorer: Scorer) -> dict[int, np.ndarray]:
    """Index of a row -> what its voice adds to the speaker's reference, float64 [1 + Da].

    A row without a voice, or with one that is not finite, is left out.
    """
    voiced = [i for i, row in enumerate(rows) if row["acoustic_vector"] is not None]
    if not voiced:
        return {}
    acoustic, _, present = _inputs([rows[i] for i in voiced], scorer)
    return {i: of_row for i, of_row in zip(voiced, scorer.evidence(acoustic, present), strict=True) if np.isfinite(of_row).all()}


def _references(rows: Sequence[Row], scorer: Scorer) -> list[Reference | None]:
    """The reference of each row of a recording. None: the speaker has too few utterances."""
    of_rows = evidence(rows, scorer)
    references: list[Reference | None] = [row.get(BROUGHT) if i in of_rows else None for i, row in enumerate(rows)]
    for of_speaker in speakers.together(rows):
        heard = [i for i in of_speaker if i in of_rows]
        if len(heard) >= FEWEST:
            within = Reference("recording", np.sum([of_rows[i] for i in heard], axis=0), len(heard))
            for i in heard:
                references[i] = references[i] or within
    return references


def intervals_of(settings: PredictSettings, models: Mapping[str, ModelFolder]) -> Intervals | None:
    """The prediction intervals of the scores: those of the settings, else those of the head."""
    from msfser_cli.model.weights import load_intervals

    text = settings.intervals
    return load_intervals(models["head"].path) if text is None else Intervals.from_json(text)


def _load(settings: PredictSettings, models: Mapping[str, ModelFolder]) -> Step:
    from msfser_cli.model.scorer import Scorer

    scorer = Scorer(models["head"].path, intervals_of(settings, models))
    return lambda works: predict(works, scorer, settings.reference)


def _needs(settings: PredictSettings) -> Needs:
    """The head. UsageError for a reference that the head does not have."""
    from msfser_cli.model.weights import load_config

    head = checkpoint(settings.head)
    has_reference = load_config(head.path).reference_dim is not None
    if settings.reference == "auto":
        settings = replace(settings, reference="recording" if has_reference else "none")
    elif settings.reference != "none" and not has_reference:
        raise UsageError(f"{head.path}: this head was trained without a reference; leave out --reference, or name another --head")
    return Needs(settings, {"head": head})


STAGE = Stage(_needs, _load, lambda settings: "head")


def _inputs(rows: Sequence[Row], scorer: Scorer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `Scorer.score` but the evidence."""
    config = scorer.config
    acoustic = _stacked([row["acoustic_vector"] for row in rows], config.acoustic_dim, "acoustic")
    texts = np.stack([_stacked([row[v] for row in rows], config.text_dim, v) for v in VECTORS[1:]], axis=1)
    return acoustic, texts, np.array([[row[v] is not None for v in VECTORS] for row in rows])


def _score(rows: Sequence[Row], references: Sequence[Reference | None], scorer: Scorer) -> list[Row]:
    none = np.zeros(1 + scorer.config.acoustic_dim)
    summed = np.stack([none if r is None else r.evidence for r in references]) if any(references) else None
    out = scorer.score(*_inputs(rows, scorer), summed)
    scored = []
    for row, reference, scores, intervals, gates, routes in zip(
        rows, references, _numbers(out.scores), _numbers(out.intervals), _numbers(out.gates), _numbers(out.routes), strict=True
    ):
        compared = {"reference": reference and reference.kind, "reference_utterances": reference.utterances if reference else 0}
        ends = {f"{d}_{end}": x for d, interval in zip(DIMENSIONS, intervals, strict=True)
                for end, x in zip(("low", "high"), interval, strict=True)}  # fmt: skip
        of_streams = {f"gate_{stream}": gate for stream, gate in zip(SEMANTIC_STREAMS, gates, strict=True)}
        of_experts = {f"router_{d}": route for d, route in zip(DIMENSIONS, routes, strict=True)}
        scored.append({**row, **dict(zip(DIMENSIONS, scores, strict=True)), **ends, **of_streams, **of_experts, **compared})
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
                "embed with the encoders and the version of msfser that the head was trained on, train it again, or pass another "
                "--head"
            )
    return np.stack([np.zeros(dimension, np.float32) if v is None else np.asarray(v, np.float32) for v in vectors])
