"""evaluate: scores against labels, joined by recording, segment or utterance.

The chain is `read_labels` -> `pair` -> metrics. The scores are brought to the labels' scale by the straight line between the
two scales' ends, so that RMSE and MAE are in the labels' units (CCC and Pearson are the same either way).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from msfser_cli.errors import LabelError, TableError
from msfser_cli.model import metrics
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.schemas import columns_through
from msfser_cli.stages.labels import Labels, Scale, read_labels, resolve_scale
from msfser_cli.store import tables

COLUMNS = tuple(c for c in columns_through("predict") if c.name in ("recording_id", "utterance_id", "start", "end", *DIMENSIONS))
"""What is read of the scores."""

RULES = ("recording_id", "end of the path", "end of the path, without extension")
"""How a label's file name finds its recording, strongest first: see `match_names`."""

SHARE = 0.5
"""An utterance belongs to a labelled segment when they share at least this much of the shorter of the two."""

_EXTENSION = re.compile(r"\.(?=\w*[A-Za-z])\w{1,5}$")
_WRITE_AS_IDS = "write the labels' file names as recording_id has them"
_CELLS_AT_ONCE = 2_000_000
_EXAMPLES = 3


@dataclass(frozen=True)
class Agreement:
    """One dimension's agreement over `n` pairs. A number that is not defined is NaN, and `not_defined` says which and why.

    ccc, pearson: -1..1. rmse, mae: in the labels' units. unlabelled, unscored: matched rows left out because the label, or every
    score that belongs to it, is missing.
    """

    n: int
    ccc: float
    pearson: float
    rmse: float
    mae: float
    unlabelled: int
    unscored: int
    not_defined: str | None = None


@dataclass(frozen=True)
class Unmatched:
    """Rows of one side that have no partner on the other: how many, of how many, and the first few by name."""

    count: int
    of: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """Labels beside the scores that belong to them.

    frame: one row a matched label, in the label file's order: the columns of `Labels.frame`, `recording_id`, and for each
    dimension `<dimension>_score`, in the scores' own scale (null where every score is missing).
    unit: what a label is about: `recording`, `segment` or `utterance`.
    matched_by: rule -> number of labels. labels, recordings, utterances: what found no partner.
    """

    frame: pl.DataFrame
    unit: str
    matched_by: dict[str, int]
    labels: Unmatched
    recordings: Unmatched
    utterances: Unmatched


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. `label_scale_source` says how the labels' scale is known."""

    scores: str
    gold: str
    label_format: str
    columns: dict[str, str]
    label_scale: Scale
    label_scale_source: str
    labels_outside_scale: int
    score_scale: Scale
    unit: str
    matched: int
    matched_by: dict[str, int]
    unmatched_labels: Unmatched
    unmatched_recordings: Unmatched
    unmatched_utterances: Unmatched
    dimensions: dict[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`; null for a number that is not defined."""
        document = asdict(self)
        for key in ("label_scale", "score_scale"):
            scale: Scale = getattr(self, key)
            document[key] = {"low": scale.low, "high": scale.high}
        for agreement in document["dimensions"].values():
            agreement.update({k: None for k, v in agreement.items() if isinstance(v, float) and math.isnan(v)})
        return document


def evaluate(scores: Path, gold: Path, *, scale: Scale | None = None) -> Evaluation:
    """Agreement of the table `scores`, which predict wrote, with the labels in the file `gold`.

    `scale` is the labels' scale where it is neither declared nor to be detected. Raises TableError for a table without scores,
    LabelError for labels whose format, scale or join cannot be settled without guessing.
    """
    labels = read_labels(gold)
    resolved = resolve_scale(labels, scale)
    frame, score_scale = read_scores(scores)
    pairs = pair(frame, labels)
    return Evaluation(
        scores=str(scores),
        gold=str(gold),
        label_format=labels.format,
        columns=labels.columns,
        label_scale=resolved.scale,
        label_scale_source=resolved.source,
        labels_outside_scale=resolved.outside,
        score_scale=score_scale,
        unit=pairs.unit,
        matched=pairs.frame.height,
        matched_by=pairs.matched_by,
        unmatched_labels=pairs.labels,
        unmatched_recordings=pairs.recordings,
        unmatched_utterances=pairs.utterances,
        dimensions={d: agreement(pairs.frame[d], pairs.frame[f"{d}_score"], score_scale, resolved.scale) for d in labels.rated},
    )


def read_scores(path: Path) -> tuple[pl.DataFrame, Scale]:
    """The `COLUMNS` of the scores at `path`, NaN as null, and their scale: the pair [low, high] under `scale` in the lineage.

    TableError for a table that is missing, damaged, empty, without scores or without one known scale.
    """
    if not path.exists():
        raise TableError(path, "is not there", "`msfser predict` writes it; name another table before the options")
    table = tables.read(path, COLUMNS)
    scales = {_scale_of(file) for file in tables.files(path)}
    if len(scales) > 1:
        raise TableError(path, f"its parts are on different scales, {' and '.join(map(str, sorted(scales)))}", "predict it again")
    frame = pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col(DIMENSIONS).fill_nan(None))
    if frame.is_empty():
        raise TableError(path, "holds no utterances", "there is nothing to evaluate")
    if frame["utterance_id"].is_duplicated().any():
        twice = frame["utterance_id"].filter(frame["utterance_id"].is_duplicated())[0]
        raise TableError(path, f"holds the utterance {twice!r} more than once", "predict it again")
    return frame, scales.pop()


def _scale_of(file: Path) -> Scale:
    try:
        low, high = tables.read_lineage(file).extra["scale"]
        scale = Scale(float(low), float(high))
    except (KeyError, TypeError, ValueError):
        raise TableError(file, "does not say the scale of its scores", "predict it again") from None
    if not (math.isfinite(scale.low) and math.isfinite(scale.high) and scale.low < scale.high):
        raise TableError(file, f"says that its scores are on {scale}, which is no scale", "predict it again")
    return scale


def agreement(label: pl.Series, score: pl.Series, score_scale: Scale, label_scale: Scale) -> Agreement:
    """The metrics over the rows where both `label` and `score` are there, in the labels' scale."""
    both = label.is_not_null() & score.is_not_null()
    truth = label.filter(both).to_numpy()
    prediction = score.filter(both).to_numpy()
    if score_scale != label_scale:
        stretch = (label_scale.high - label_scale.low) / (score_scale.high - score_scale.low)
        prediction = label_scale.low + (prediction - score_scale.low) * stretch
    n = len(truth)
    ccc, pearson = metrics.ccc(truth, prediction), metrics.pearson(truth, prediction)
    not_defined = None
    if n < 2:
        not_defined = f"CCC and Pearson are not defined: two pairs are needed, and there {'is one' if n else 'are none'}"
    elif math.isnan(ccc):
        not_defined = "CCC and Pearson are not defined: all labels and all scores are one number"
    elif math.isnan(pearson):
        not_defined = f"Pearson is not defined: all {'labels' if label.filter(both).n_unique() == 1 else 'scores'} are one number"
    return Agreement(
        n=n, ccc=ccc, pearson=pearson, rmse=metrics.rmse(truth, prediction), mae=metrics.mae(truth, prediction),
        unlabelled=label.null_count(), unscored=int((label.is_not_null() & score.is_null()).sum()), not_defined=not_defined,
    )


def pair(scores: pl.DataFrame, labels: Labels) -> Pairs:
    """The labels and the scores that belong to them; `scores` has the `COLUMNS`, one row an utterance.

    Labels that name utterances of the table are joined by `utterance_id`. Others are joined to their recording, or to the segment
    of it between `start` and `end`: their score is the mean over the utterances that belong to it (see `SHARE`), weighted by the
    time that they share with it; for a whole recording that is the duration-weighted mean. LabelError when a name fits several
    recordings, when a recording, segment or utterance is labelled twice, or when nothing matches.
    """
    scores = scores.sort("recording_id", "start", "utterance_id")
    rule_of: dict[str, str] = {}
    if labels.frame.join(scores, on="utterance_id", how="semi").height:
        unit = "utterance"
        _refuse_repeated(labels, ["utterance_id"])
        of_utterances = scores.select("utterance_id", "recording_id", **{f"{d}_score": pl.col(d) for d in DIMENSIONS})
        paired = labels.frame.join(of_utterances, on="utterance_id", how="inner", maintain_order="left")
        used = paired.select("utterance_id")
    else:
        unit = "segment" if "start" in labels.columns else "recording"
        _refuse_repeated(labels, ["recording", "start", "end"])
        names = labels.frame["recording"].unique(maintain_order=True)
        found = match_names(labels.path, names, scores["recording_id"].unique(maintain_order=True))
        rule_of = {name: rule for name, (_, rule) in found.items()}
        recording_of = pl.DataFrame([(name, recording) for name, (recording, _) in found.items()], orient="row",
                                    schema={"recording": pl.String, "recording_id": pl.String})
        named = labels.frame.join(recording_of, on="recording", how="inner", maintain_order="left")
        paired, used = _means(named, scores)

    if paired.is_empty():
        theirs = _some(labels.frame["recording"].unique(maintain_order=True))
        ours = _some(scores["recording_id"].unique(maintain_order=True))
        raise LabelError(labels.path, f"no label belongs to a scored utterance: the labels name {theirs}; the scores name {ours}")
    matched_by = Counter(rule_of.get(name, "utterance_id") for name in paired["recording"])
    recordings = scores.select("recording_id").unique(maintain_order=True)
    return Pairs(
        frame=paired,
        unit=unit,
        matched_by=dict(sorted(matched_by.items())),
        labels=_unmatched(labels.frame, paired, "row", show="utterance_id" if unit == "utterance" else "recording"),
        recordings=_unmatched(recordings, paired, "recording_id"),
        utterances=_unmatched(scores, used, "utterance_id"),
    )


def match_names(path: Path, names: Iterable[str], recordings: Iterable[str]) -> dict[str, tuple[str, str]]:
    """For each of the file `names` that has one, its recording and the rule (of `RULES`) that found it.

    A name is its recording's id, or one of the two paths ends with the other, in whole folder and file names; first with the
    extension, then without. The same path wins over a longer one, and a longer common end over a shorter; a stronger rule's
    recordings are not open to a weaker one. LabelError (naming `path`) when a name fits several recordings equally well, or
    several names one recording.
    """
    found: dict[str, tuple[str, str]] = {}
    open_names, open_recordings = list(names), list(recordings)
    for rule in RULES:
        if rule == RULES[0]:
            there = set(open_recordings)
            hits = {name: name for name in open_names if name in there}
        else:
            hits = _match_ends(path, open_names, open_recordings, drop_extension=rule == RULES[2])
        found.update({name: (recording, rule) for name, recording in hits.items()})
        taken = set(hits.values())
        open_names = [name for name in open_names if name not in hits]
        open_recordings = [recording for recording in open_recordings if recording not in taken]
    return found


def _match_ends(path: Path, names: list[str], recordings: list[str], *, drop_extension: bool) -> dict[str, str]:
    def ends(whole: str) -> Iterator[str]:
        while whole:
            yield whole
            whole = whole.partition("/")[2]

    def spellings(name: str) -> tuple[str, ...]:
        plain = unicodedata.normalize("NFC", name).replace("\\", "/")
        plain = "/".join(part for part in plain.split("/") if part not in ("", "."))
        stem = _EXTENSION.sub("", plain) if drop_extension else plain
        return (plain,) if stem == plain else (plain, stem)

    by_end: defaultdict[str, set[str]] = defaultdict(set)
    by_whole: defaultdict[str, set[str]] = defaultdict(set)
    for recording in recordings:
        for whole in spellings(recording):
            by_whole[whole].add(recording)
            for end in ends(whole):
                by_end[end].add(recording)

    hits: dict[str, str] = {}
    names_of: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        fits: set[str] = set()
        for whole in spellings(name):
            # The same path; else a recording that ends with the name; else the longest recording that the name ends with.
            fits |= by_whole.get(whole) or by_end.get(whole) or next((by_whole[e] for e in ends(whole) if e in by_whole), set())
        if len(fits) > 1:
            raise LabelError(path, f"{name!r} may be {_some(sorted(fits))}", _WRITE_AS_IDS)
        for recording in fits:
            hits[name] = recording
            names_of[recording].append(name)
    for recording, claims in names_of.items():
        if len(claims) > 1:
            raise LabelError(path, f"{_some(claims)} all fit the one recording {recording!r}", _WRITE_AS_IDS)
    return hits


def _means(named: pl.DataFrame, scores: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The label rows with utterances that belong to them, with the weighted means; and the `utterance_id` of those utterances.

    `named` is label rows with their `recording_id`.
    """
    utterances = scores.select("recording_id", "utterance_id", *DIMENSIONS, u_start="start", u_end="end")
    segments = named.select("row", "recording_id", pl.col("start").fill_null(0.0), pl.col("end").fill_null(math.inf))
    segments = segments.join(utterances.group_by("recording_id").len(), on="recording_id", how="left", maintain_order="left")
    # Each segment of a recording meets each utterance of it; a batch at a time, so that many in one recording fit in memory.
    segments = segments.with_columns(batch=pl.col("len").cum_sum() // _CELLS_AT_ONCE)
    overlap = pl.min_horizontal("end", "u_end") - pl.max_horizontal("start", "u_start")
    shorter = pl.min_horizontal(pl.col("end") - pl.col("start"), pl.col("u_end") - pl.col("u_start"))
    weight = pl.col("overlap")
    means = [pl.DataFrame(schema={"row": pl.Int64, **{f"{d}_score": pl.Float64 for d in DIMENSIONS}})]
    used = [scores.select("utterance_id").clear()]
    for batch in segments.partition_by("batch", maintain_order=True):
        both = batch.join(utterances, on="recording_id", how="inner", maintain_order="left_right").with_columns(overlap=overlap)
        both = both.filter(weight > 0, weight >= SHARE * shorter)
        means.append(both.group_by("row", maintain_order=True).agg(**{
            f"{d}_score": ((pl.col(d) * weight).sum() / weight.filter(pl.col(d).is_not_null()).sum()).fill_nan(None)
            for d in DIMENSIONS
        }))
        used.append(both.select("utterance_id").unique())
    return named.join(pl.concat(means), on="row", how="inner", maintain_order="left"), pl.concat(used)


def _refuse_repeated(labels: Labels, key: list[str]) -> None:
    twice = labels.frame.filter(pl.col(key[0]).is_not_null()).group_by(key, maintain_order=True).agg("row")
    twice = twice.filter(pl.col("row").list.len() > 1)
    if twice.height:
        rows = _some([str(row) for row in twice["row"][0]])
        raise LabelError(labels.path, f"{twice[key[0]][0]!r} is labelled more than once (rows {rows})",
                         "keep one row for it; average several raters first")


def _unmatched(rows: pl.DataFrame, matched: pl.DataFrame, key: str, *, show: str | None = None) -> Unmatched:
    left = rows.join(matched, on=key, how="anti", maintain_order="left")[show or key]
    return Unmatched(len(left), rows.height, tuple(left.drop_nulls().head(_EXAMPLES)))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(repr(name) for name in names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")
