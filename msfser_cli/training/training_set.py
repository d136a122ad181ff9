"""The training set: the vectors of a table, the labels of its utterances, and the split into training and development set.

The best of many epochs fits the utterances that chose it a little better than others. So a development set of many speakers is
split in two: one half chooses the epoch, and the other gives its CCC and the prediction intervals.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from msfser_cli.errors import LabelError, TableError
from msfser_cli.evaluation.clusters import cluster_kind, in_words, kinds, named
from msfser_cli.evaluation.joining import join
from msfser_cli.evaluation.labels import Labels, ResolvedScale, Scale, read_labels, resolve_scale
from msfser_cli.schemas import DIMENSIONS, columns_through
from msfser_cli.settings import TrainSettings
from msfser_cli.stages.predict import VECTORS
from msfser_cli.statistics.intervals import FEW_SPEAKERS, least
from msfser_cli.store import arrow, tables
from msfser_cli.store.lineage import Lineage

_KEYS = ("recording_id", "utterance_id", "start", "end", "speaker", "channel")


@dataclass(frozen=True)
class TrainingSet:
    """n labelled utterances, in the table's order.

    utterances: keys and `speaker`, with `split` (null if unknown), `cluster` (see `evaluation.clusters`) and its `kind`.
    acoustic: float32 [n, Da]. texts: float32 [n, 3, Dt]. present: bool [n, 4].
    labels: float64 [n, 3] in `scale`; NaN if missing. dimensions: those with labels.
    train, development: int64 indices. choosing, calibrating: the two halves of `development`; both are all of it if it is too
    small to be split.
    is_enough: whether `calibrating` has enough ratings for prediction intervals of a dimension.
    """

    table: Path
    lineage: Lineage
    labels_path: Path
    label_format: str
    scale: ResolvedScale
    utterances: pl.DataFrame
    acoustic: np.ndarray
    texts: np.ndarray
    present: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    development: np.ndarray
    choosing: np.ndarray
    calibrating: np.ndarray
    is_enough: bool
    dimensions: tuple[str, ...]

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each utterance: its speaker, podcast or recording."""
        return self.utterances["cluster"].to_numpy()

    @property
    def is_split(self) -> bool:
        """Whether other speakers choose the epoch than those who give CCC and intervals."""
        return len(self.choosing) < len(self.development)

    @property
    def in_both(self) -> int:
        """The number of speakers in both the training set and the development set."""
        return len(set(self.clusters[self.train]) & set(self.clusters[self.development]))

    def account(self) -> list[str]:
        """A description of the training set for the user, in lines. Those that begin with "warning: " are warnings."""
        used = len(self.train) + len(self.development)
        lines = [
            f"labels: {self.label_format}, on {self.scale.scale} ({self.scale.source}), for {', '.join(self.dimensions)}",
            f"utterances: {len(self.train)} in the training set ({self.who(self.train)}), {len(self.development)} in the "
            f"development set ({self.who(self.development)}), {len(self.labels) - used} of other splits left out",
        ]
        if self.is_split:
            lines.append(f"development set: {len(self.choosing)} utterances ({self.who(self.choosing)}) choose the epoch, and "
                         f"{len(self.calibrating)} ({self.who(self.calibrating)}) give its CCC and the prediction intervals")
        else:
            which, too = (" and the prediction intervals", ", and the intervals too narrow") if self.is_enough else ("", "")
            lines.append(f"warning: the development set ({self.who(self.development)}) is too small to be split. So the same "
                         f"utterances choose the epoch and give its CCC{which}: the CCC will be too high{too}")
        if self.in_both:
            lines.append(f"warning: {self.in_both} speakers are in both of the labels' splits, so the development CCC is too "
                         "high")
        if (self.utterances["kind"] == "recording").any():
            lines.append("warning: some speakers are unknown, so whole recordings are held out instead; a speaker may be in both "
                         "sets")
        lines += [f"warning: {d} has no labels, or no weight in the loss, so it is not trained and its scores will be null"
                  for d in DIMENSIONS if d not in self.dimensions]  # fmt: skip
        if self.scale.outside:
            lines.append(f"warning: labels outside their scale, {self.scale.scale}: {self.scale.outside}")
        if self.scale.ignored:
            lines.append(f"warning: labels far outside their scale, {self.scale.scale}, counted as missing: {self.scale.ignored}")
        return lines

    def digest(self) -> str:
        """A hash of all data that training uses."""
        digest = hashlib.sha256()
        for array in (self.acoustic, self.texts, self.present, self.labels, self.train, self.choosing, self.calibrating):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update("\0".join((*self.utterances["utterance_id"], *self.clusters)).encode())
        return digest.hexdigest()

    def who(self, chosen: np.ndarray) -> str:
        """The number of speakers (podcasts, recordings) of the utterances `chosen`, in words."""
        return in_words(kinds(self.utterances[chosen]))


def read(
    table: Path, gold: Path, settings: TrainSettings, scale: Scale | None = None, *, ignore_outside: bool = False
) -> TrainingSet:
    """The utterances of `table` that have a label in `gold`. The table is from embed, or from predict with --keep-vectors.

    An utterance gets the label of the recording, segment or utterance with which it shares the most time. scale: of the labels,
    if they do not declare it. ignore_outside: labels far outside of it count as missing.

    TableError if the table has no vectors, or vectors that are not finite. LabelError if the labels cannot be read or joined,
    have too few speakers, or do not vary.
    """
    resolved = resolve_scale(read_labels(gold), scale, ignore_outside=ignore_outside)
    labels = resolved.labels
    utterances, acoustic, texts, present = _vectors(table)
    _require_finite(table, utterances, acoustic, texts)
    labelled = _labelled(utterances, labels)
    chosen = labelled["row_of_table"].to_numpy()
    values = labelled.select(pl.col(f"{d}_label").fill_null(float("nan")) for d in DIMENSIONS).to_numpy()
    # A dimension without weight in the loss is not learned, so it counts as not labelled.
    values = np.where(np.array(settings.loss_weights) > 0, values, np.nan)
    dimensions = tuple(d for i, d in enumerate(DIMENSIONS) if not np.isnan(values[:, i]).all())
    train, development = _splits(gold, labelled, values, settings)
    _require_variety(labels, values, train, development, dimensions)
    choosing, calibrating = _halves(labelled["cluster"].to_numpy(), values, development, dimensions, settings.level)
    return TrainingSet(
        table=table, lineage=tables.read_lineage(table), labels_path=gold, label_format=labels.format, scale=resolved,
        utterances=labelled.select(*_KEYS, "split", "cluster", "kind"), acoustic=acoustic[chosen], texts=texts[chosen],
        present=present[chosen], labels=values, train=train, development=development,
        choosing=choosing, calibrating=calibrating, dimensions=dimensions,
        is_enough=bool((~np.isnan(values[calibrating])).sum(axis=0).max() >= least(settings.level)),
    )  # fmt: skip


def _vectors(table: Path) -> tuple[pl.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    columns = [c for c in columns_through("embed") if c.name in (*_KEYS, *VECTORS)]
    content = tables.read(table, columns)
    utterances = pl.DataFrame(pl.from_arrow(content.select(list(_KEYS))))
    if utterances.is_empty():
        raise TableError(table, "has no utterances", "embed a corpus with speech")
    (acoustic, has_voice), *semantic = (arrow.matrix(content.column(name)) for name in VECTORS)
    lengths = sorted({values.shape[1] for values, has_text in semantic if has_text.any()})
    if not has_voice.any() or not lengths:
        raise TableError(table, f"has no vectors of {'texts' if has_voice.any() else 'voices'}", "embed it again")
    if len(lengths) > 1:
        raise TableError(table, f"its text vectors have different lengths, {' and '.join(map(str, lengths))}",
                         "embed it again, with one text encoder")
    [length] = lengths
    texts = np.zeros((len(utterances), len(semantic), length), np.float32)
    for i, (values, has_text) in enumerate(semantic):
        if has_text.any():
            texts[:, i] = values
    return utterances, acoustic, texts, np.stack([has_voice, *(has_text for _, has_text in semantic)], axis=1)


def _require_finite(table: Path, utterances: pl.DataFrame, acoustic: np.ndarray, texts: np.ndarray) -> None:
    for name, values in zip(VECTORS, (acoustic, *np.moveaxis(texts, 1, 0)), strict=True):
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            example = utterances["utterance_id"][int(broken[0])]
            raise TableError(table, f"{len(broken)} vectors in {name} are not finite, such as that of {example!r}",
                             "embed it again")


def _labelled(utterances: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """One row per labelled utterance, in the table's order, with its row in the table, label, split and cluster."""
    joined = join(utterances, labels).frame.sort("overlap", descending=True, maintain_order=True)
    joined = joined.unique("utterance_id", keep="first", maintain_order=True)
    of_label = {f"{name}_label": pl.col(name) for name in ("speaker", *DIMENSIONS)}
    about = labels.frame.select("row", "split", "cluster", **of_label)
    joined = joined.select("row", "utterance_id").join(about, on="row", how="left")
    numbered = utterances.with_row_index("row_of_table")
    labelled = numbered.join(joined, on="utterance_id", how="inner", maintain_order="left")
    cluster = pl.coalesce("cluster", named("speaker"))
    speaker = pl.coalesce("speaker_label", named("speaker"))
    return labelled.with_columns(cluster=pl.coalesce(cluster, "recording_id"), kind=cluster_kind(cluster, speaker))


def _splits(
    gold: Path, labelled: pl.DataFrame, values: np.ndarray, settings: TrainSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the training set and of the development set: from the labels' splits, else whole speakers held out."""
    rated = ~np.isnan(values).all(axis=1)
    if not rated.any():
        raise LabelError(gold, "no utterance of the table has a label for a dimension with weight in the loss",
                         "use labels for this table, or change --loss-weights")
    split = labelled["split"].str.to_lowercase()
    _require_named_splits(gold, labelled["split"], settings)
    if split.null_count() == len(split):
        return _hold_out(gold, labelled, np.flatnonzero(rated), settings.dev_share)
    train, development = (
        np.flatnonzero(rated & split.is_in([s.lower() for s in splits]).fill_null(value=False).to_numpy())
        for splits in (settings.train_splits, settings.dev_splits)
    )
    if not len(train):
        names = ", ".join(repr(name) for name in Counter(labelled["split"].drop_nulls()))
        raise LabelError(gold, f"has no training split, only {names}", "choose one with --train-split (and --dev-split)")
    if not len(development):
        return _hold_out(gold, labelled, train, settings.dev_share)
    return train, development


def _require_named_splits(gold: Path, split: pl.Series, settings: TrainSettings) -> None:
    """LabelError unless the labels have every split that the user named. msfser does not guess others instead."""
    counts = Counter(split.drop_nulls())
    names = {name.lower() for name in counts}
    for chosen, default in ((settings.train_splits, TrainSettings.train_splits), (settings.dev_splits, TrainSettings.dev_splits)):
        absent = [name for name in chosen if name.lower() not in names] if chosen != default else []
        if absent:
            remedy = f"choose from {', '.join(map(repr, counts))}" if counts else "leave it out: the labels have no splits"
            raise LabelError(gold, f"has no split {absent[0]!r} for the utterances of the table", remedy)


def _hold_out(gold: Path, labelled: pl.DataFrame, chosen: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Hold out whole speakers until they have `share` of the utterances. Returns the indices that stay, and those held out."""
    clusters = labelled["cluster"].to_numpy()[chosen]
    sizes = Counter(clusters)
    if len(sizes) < 2:
        raise LabelError(gold, f"all {len(chosen)} labelled utterances are of one speaker, {clusters[0]!r}, so none can be held "
                         "out", "label more speakers, or add a column `split` with train and dev")
    held_out: set[str] = set()
    count = 0
    for name in _shuffled(sizes):
        if count >= share * len(chosen) or len(held_out) == len(sizes) - 1:
            break
        held_out.add(name)
        count += sizes[name]
    is_held_out = np.array([name in held_out for name in clusters])
    return chosen[~is_held_out], chosen[is_held_out]


def _halves(
    clusters: np.ndarray, values: np.ndarray, development: np.ndarray, dimensions: tuple[str, ...], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """The development set in two halves of whole speakers. If a half is too small, both are the whole set.

    A half needs `FEW_SPEAKERS` speakers and `least` ratings for each dimension, because intervals from fewer speakers lose more
    than they gain by the split.
    """
    first = np.isin(clusters[development], _shuffled(set(clusters[development]))[::2])
    halves = development[first], development[~first]
    for half in halves:
        for d in dimensions:
            rated = half[~np.isnan(values[half, DIMENSIONS.index(d)])]
            ratings = values[rated, DIMENSIONS.index(d)]
            if len(set(clusters[rated])) < FEW_SPEAKERS or len(rated) < least(level) or len(np.unique(ratings)) < 2:
                return development, development
    return halves


def _shuffled(names: Iterable[str]) -> list[str]:
    """The names in the order of their hashes, so a new name does not change the order of the others."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _require_variety(
    labels: Labels, values: np.ndarray, train: np.ndarray, development: np.ndarray, dimensions: tuple[str, ...]
) -> None:
    for d in dimensions:
        column = values[:, DIMENSIONS.index(d)]
        for name, chosen in (("training", train), ("development", development)):
            ratings = column[chosen][~np.isnan(column[chosen])]
            if len(np.unique(ratings)) < 2:
                constant = f"all {len(ratings)} are {ratings[0]:g}" if len(ratings) > 1 else f"number of labels: {len(ratings)}"
                raise LabelError(labels.path, f"the {d} labels of the {name} set do not vary ({constant}), so its CCC is "
                                 "undefined", f"label more of its utterances, or leave out the column {labels.columns[d]!r}")

