"""Prediction intervals for the corpus at hand, from a sample of it that people have rated."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from msfser_cli import settings as st
from msfser_cli.errors import LabelError, RecordingError
from msfser_cli.model import intervals
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.model.weights import load_config
from msfser_cli.stages.chain import Chain
from msfser_cli.stages.joining import match_names
from msfser_cli.stages.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.stages.pairing import COLUMNS, ENDS, pair
from msfser_cli.stages.runner import Item, annotated
from msfser_cli.store import tables

logger = logging.getLogger("msfser")


def calibrate(
    chain: Chain, items: Iterable[Item], gold: Path, out: Path, *, scale: Scale | None, level: float, ignore_outside: bool = False
) -> Chain:
    """The chain with intervals that hold the share `level` of ratings like those in `gold`.

    The recordings among `items` that the labels name are annotated for it, except where the table `out` was begun with the same
    labels and head: then its intervals stay. Only labels that are about a single utterance count: the score of several is their
    mean, which is closer to its rating than theirs are to their own. LabelError where the labels cannot be read or joined, or
    are too few.
    """
    settings = chain.settings["predict"]
    assert isinstance(settings, st.PredictSettings)
    resolved = resolve_scale(read_labels(gold), scale, ignore_outside=ignore_outside)
    labels = resolved.labels
    if resolved.ignored:
        logger.warning("labels far outside their scale, %s, counted as missing: %d", resolved.scale, resolved.ignored)
    settings = replace(settings, calibrated_on=hashlib.sha256(gold.read_bytes()).hexdigest() if gold.is_file() else str(gold))
    reach = _before(chain, settings, out, level)
    if reach is None:
        config = load_config(chain.models["head"].path)
        score_scale = Scale(config.low, config.high)
        reach = _from_sample(chain, list(_named(items, labels)), labels, resolved.scale, score_scale, level).to_json()
    return replace(chain, settings={**chain.settings, "predict": replace(settings, intervals=reach)})


def _before(chain: Chain, settings: st.PredictSettings, out: Path, level: float) -> dict[str, object] | None:
    if not tables.is_ours(out):  # not there yet, or an empty folder; whoever writes it refuses what is in the way
        return None
    lineage = tables.read_lineage(out)
    before = lineage.settings.get("predict", {})
    same = before.get("calibrated_on") == settings.calibrated_on and lineage.models.get("head") == chain.identities()["head"]
    reach = before.get("intervals")
    return reach if same and isinstance(reach, dict) and reach.get("level") == level else None


def _named(items: Iterable[Item], labels: Labels) -> Iterator[Item]:
    """The items that the labels are about, in order."""
    by_id = {item.recording.recording_id: item for item in items}
    of_utterances = labels.frame["utterance_id"].drop_nulls().str.replace(r"#\d+$", "")
    names = labels.frame["recording"].drop_nulls().unique(maintain_order=True)
    labelled = {recording for recording, _ in match_names(labels.path, names, by_id).values()} | set(of_utterances)
    return (item for identity, item in by_id.items() if identity in labelled)


def _from_sample(
    chain: Chain, items: list[Item], labels: Labels, scale: Scale, score_scale: Scale, level: float
) -> intervals.Intervals:
    kinds = {c.name: pl.String if c.type == "string" else pl.Float64 for c in (*COLUMNS, *ENDS)}
    rows = []
    for item, result in annotated(chain, items):
        if isinstance(result, RecordingError):
            logger.warning("%s is left out of the calibration: %s", item.recording.recording_id, result)
        else:
            rows += [{name: row[name] for name in kinds} for row in result]
    matched = pair(pl.DataFrame(rows, schema=kinds), labels).frame
    pairs = matched.filter(pl.col("utterances") == 1)
    if several := len(matched) - len(pairs):
        logger.warning("%d of %d labels are about several utterances each: intervals of single utterances do not use them",
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
        remedy = "label more of the corpus, or ask for a lower --level"
        if several:
            remedy = (
                "a label counts only if it is about one utterance: rate utterances (by utterance_id, or by start and end), or "
                "transcribe with --unit file"
            )
        raise LabelError(labels.path, str(error), remedy) from error
    if calibrated.speakers < intervals.FEW_SPEAKERS:
        logger.warning("intervals from only %d speakers (or recordings) hold less than %g %% of new speakers' ratings",
                       calibrated.speakers, 100 * level)
    return calibrated
