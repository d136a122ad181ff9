"""Calibrates prediction intervals for a corpus, from people's ratings of a part of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from msfser_cli import settings as st
from msfser_cli.errors import LabelError
from msfser_cli.evaluation.joining import match_names, nothing_matches
from msfser_cli.evaluation.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.evaluation.pairing import COLUMNS, ENDS, identity_of, pair
from msfser_cli.model.weights import load_config
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.runner import annotated
from msfser_cli.runs.source import Item
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.statistics import intervals
from msfser_cli.store.parts import begun

logger = logging.getLogger("msfser")


def calibrate(
    chain: Chain, items: Iterable[Item], gold: Path, out: str | Path, *, scale: Scale | None, level: float,
    ignore_outside: bool = False,
) -> Chain:
    """The chain with intervals that contain the share `level` of ratings like those in `gold`.

    For this, the recordings among `items` that the labels name are annotated. If the table `out` was begun with the same labels,
    level, settings and models, its intervals are kept instead. Only labels about a single utterance count. A label about several
    has a mean score, which is closer to its rating than the score of a single utterance would be.

    scale: of the labels, if they do not declare it. ignore_outside: labels far outside of it count as missing. LabelError if the
    labels cannot be read or joined, or are too few.
    """
    settings = chain.settings["predict"]
    assert isinstance(settings, st.PredictSettings)
    resolved = resolve_scale(read_labels(gold), scale, ignore_outside=ignore_outside)
    labels = resolved.labels
    if resolved.ignored:
        logger.warning("labels far outside their scale, %s, counted as missing: %d", resolved.scale, resolved.ignored)
    settings = replace(settings, calibrated_on=identity_of(gold))
    reach = _earlier(chain, settings, out, level)
    if reach is None:
        config = load_config(chain.models["head"].path)
        score_scale = Scale(config.low, config.high)
        reach = _from_sample(chain, _named(items, labels), labels, resolved.scale, score_scale, level).to_json()
    return replace(chain, settings={**chain.settings, "predict": replace(settings, intervals=reach)})


def _earlier(chain: Chain, settings: st.PredictSettings, out: str | Path, level: float) -> dict[str, object] | None:
    """The intervals of the table `out`, if it was begun with the same labels, level, settings and models."""
    lineage = begun(out)
    if lineage is None:
        return None
    reach = lineage.settings.get("predict", {}).get("intervals")
    now = {name: st.as_dict(s) for name, s in {**chain.settings, "predict": replace(settings, intervals=reach)}.items()}
    same_settings = json.loads(json.dumps(now)).items() <= lineage.settings.items()
    same = same_settings and chain.identities().items() <= lineage.models.items()
    return reach if same and isinstance(reach, dict) and reach.get("level") == level else None


def _named(items: Iterable[Item], labels: Labels) -> list[Item]:
    """The items that the labels are about, in order. LabelError if there are none."""
    by_id = {item.recording.recording_id: item for item in items}
    of_utterances = labels.frame["utterance_id"].drop_nulls().str.replace(r"#\d+$", "")
    names = labels.frame["recording"].drop_nulls().unique(maintain_order=True)
    labelled = {recording for recording, _ in match_names(labels.path, names, by_id).values()} | set(of_utterances)
    chosen = [item for identity, item in by_id.items() if identity in labelled]
    if not chosen:
        raise nothing_matches(labels, by_id)
    return chosen


def _from_sample(
    chain: Chain, items: list[Item], labels: Labels, scale: Scale, score_scale: Scale, level: float
) -> intervals.Intervals:
    kinds = {c.name: pl.String if c.type == "string" else pl.Float64 for c in (*COLUMNS, *ENDS)}
    rows = []
    for work in annotated(chain, items):
        if work.error:
            logger.warning("calibration does not use %s: %s", work.recording.recording_id, work.error)
        else:
            rows += [{name: row[name] for name in kinds} for row in work.rows]
    if not rows:
        raise LabelError(labels.path, "the recordings that it names have no utterances", "label recordings with speech")
    matched = pair(pl.DataFrame(rows, schema=kinds), labels).frame
    pairs = matched.filter(pl.col("utterances") == 1)
    if several := len(matched) - len(pairs):
        logger.warning("calibration does not use %d of %d labels, because each is about several utterances",
                       several, len(matched))
    scores, ratings = (
        pairs.select(pl.col(d + ending).cast(pl.Float64).fill_null(float("nan")) for d in DIMENSIONS).to_numpy()
        for ending in ("_score", "")
    )
    ratings = np.where(np.isnan(scores), np.nan, scale.onto(score_scale, ratings))
    speakers = pairs.select(pl.coalesce("cluster", "recording_id")).to_series().to_list()
    try:
        calibrated = intervals.calibrate(scores, ratings, speakers, level)
    except ValueError as error:
        remedy = "label more of the corpus, or use a lower --level"
        if several:
            remedy = (
                "a label counts only if it is about one utterance: label utterances (by utterance_id, or by start and end), or "
                "transcribe with --unit file"
            )
        raise LabelError(labels.path, str(error), remedy) from error
    if calibrated.speakers < intervals.FEW_SPEAKERS:
        logger.warning("intervals from only %d speakers (or recordings) contain less than %g %% of new speakers' ratings; label "
                       "utterances of at least %d", calibrated.speakers, 100 * level, intervals.FEW_SPEAKERS)
    return calibrated
