"""What `train` learns from: the vectors of a table beside the labels of its utterances, and who is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from msfser_cli.errors import LabelError, TableError
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.model.intervals import FEW_SPEAKERS
from msfser_cli.schemas import columns_through
from msfser_cli.settings import TrainSettings
from msfser_cli.stages.clusters import cluster_kind, in_words, kinds, named
from msfser_cli.stages.joining import join
from msfser_cli.stages.labels import Labels, ResolvedScale, Scale, read_labels, resolve_scale
from msfser_cli.stages.predict import VECTORS
from msfser_cli.store import tables
from msfser_cli.store.tables import Lineage

_KEYS = ("recording_id", "utterance_id", "start", "end", "speaker", "channel")


@dataclass(frozen=True)
class TrainingSet:
    """n labelled utterances, in the table's order, and what is known of their labels.

    utterances: the keys and `speaker` of each, with `split` (null: none given), `cluster`, who varies together, and its `kind`.
    acoustic float32 [n, Da], texts float32 [n, 3, Dt], present bool [n, 4]; labels float64 [n, 3] in `scale`, NaN where missing.
    train, development: indices. dimensions: those that are rated.
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
    dimensions: tuple[str, ...]

    @property
    def clusters(self) -> np.ndarray:
        """Who varies together, for each utterance."""
        return self.utterances["cluster"].to_numpy()

    def account(self) -> list[str]:
        """What was found, a line each."""
        heard = len(self.train) + len(self.development)
        lines = [
            f"labels: {self.label_format}, on {self.scale.scale} ({self.scale.source}), for {', '.join(self.dimensions)}",
            f"utterances: {len(self.train)} to train on ({self.who(self.train)}), {len(self.development)} to develop on "
            f"({self.who(self.development)}), {len(self.labels) - heard} of other splits left out",
        ]
        both = set(self.clusters[self.train]) & set(self.clusters[self.development])
        if both:
            lines.append(f"warning: {len(both)} speakers of the labels' own splits are in both: the development CCC flatters")
        if (self.utterances["kind"] == "recording").any():
            lines.append("warning: not every speaker is named: recordings are held out in their place, and may be of one speaker")
        if len(set(self.clusters[self.development])) < FEW_SPEAKERS:
            lines.append(f"warning: only {self.who(self.development)} to develop on: the scores' intervals will hold less than "
                         "they promise")
        lines += [f"warning: no label, or no weight in the loss, for {d}: it is not trained, and its scores will be null"
                  for d in DIMENSIONS if d not in self.dimensions]  # fmt: skip
        if self.scale.outside:
            lines.append(f"warning: labels outside their scale, {self.scale.scale}: {self.scale.outside}")
        if self.scale.ignored:
            lines.append(f"warning: labels far outside their scale, {self.scale.scale}, counted as missing: {self.scale.ignored}")
        return lines

    def digest(self) -> str:
        """A hash of all that training sees."""
        digest = hashlib.sha256()
        for array in (self.acoustic, self.texts, self.present, self.labels, self.train, self.development):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update("\0".join(self.utterances["utterance_id"]).encode())
        return digest.hexdigest()

    def who(self, chosen: np.ndarray) -> str:
        """How many speakers (podcasts, recordings) the utterances are of, in words."""
        return in_words(kinds(self.utterances[chosen]))


def read(
    table: Path, gold: Path, settings: TrainSettings, scale: Scale | None = None, *, ignore_outside: bool = False
) -> TrainingSet:
    """The utterances of `table` (embed's, or scores with their vectors) that the labels in `gold` are about.

    An utterance takes the label of the recording, segment or utterance that it shares most time with. TableError for a table
    without vectors, or with some that are not finite; LabelError where the labels cannot be read or joined, hold too few
    speakers, or do not vary.
    """
    resolved = resolve_scale(read_labels(gold), scale, ignore_outside=ignore_outside)
    labels = resolved.labels
    utterances, acoustic, texts, present = _vectors(table)
    _require_finite(table, utterances, acoustic, texts)
    labelled = _labelled(utterances, labels)
    chosen = labelled["row_of_table"].to_numpy()
    values = labelled.select(pl.col(f"{d}_label").fill_null(float("nan")) for d in DIMENSIONS).to_numpy()
    # What weighs nothing in the loss is not learned: it is as if it had no labels.
    values = np.where(np.array(settings.loss_weights) > 0, values, np.nan)
    dimensions = tuple(d for i, d in enumerate(DIMENSIONS) if not np.isnan(values[:, i]).all())
    train, development = _splits(gold, labelled, values, settings)
    _require_variety(labels, values, train, development, dimensions)
    return TrainingSet(
        table=table, lineage=tables.read_lineage(table), labels_path=gold, label_format=labels.format, scale=resolved,
        utterances=labelled.select(*_KEYS, "split", "cluster", "kind"), acoustic=acoustic[chosen], texts=texts[chosen],
        present=present[chosen], labels=values, train=train, development=development, dimensions=dimensions,
    )  # fmt: skip


def _vectors(table: Path) -> tuple[pl.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    columns = [c for c in columns_through("embed") if c.name in (*_KEYS, *VECTORS)]
    content = tables.read(table, columns)
    utterances = pl.DataFrame(pl.from_arrow(content.select(list(_KEYS))))
    if utterances.is_empty():
        raise TableError(table, "holds no utterances", "embed a corpus in which somebody speaks")
    (acoustic, heard), *semantic = (tables.matrix(content.column(name)) for name in VECTORS)
    lengths = sorted({values.shape[1] for values, there in semantic if there.any()})
    if not heard.any() or not lengths:
        raise TableError(table, f"has no vector of any {'text' if heard.any() else 'voice'}", "embed it again")
    if len(lengths) > 1:
        raise TableError(table, f"its texts' vectors are of lengths {' and '.join(map(str, lengths))}",
                         "embed it again, with one text encoder")
    [length] = lengths
    texts = np.zeros((len(utterances), len(semantic), length), np.float32)
    for i, (values, there) in enumerate(semantic):
        if there.any():
            texts[:, i] = values
    return utterances, acoustic, texts, np.stack([heard, *(there for _, there in semantic)], axis=1)


def _require_finite(table: Path, utterances: pl.DataFrame, acoustic: np.ndarray, texts: np.ndarray) -> None:
    for name, values in zip(VECTORS, (acoustic, *np.moveaxis(texts, 1, 0)), strict=True):
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            of = utterances["utterance_id"][int(broken[0])]
            raise TableError(table, f"the {name} of {of!r} holds numbers that are not finite ({len(broken)} such)",
                             "embed it again")


def _labelled(utterances: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """One row an utterance that a label is about, in the table's order, with its place there, label, split and cluster."""
    joined = join(utterances, labels).frame.sort("overlap", descending=True, maintain_order=True)
    joined = joined.unique("utterance_id", keep="first", maintain_order=True)
    of_label = {f"{name}_label": pl.col(name) for name in ("speaker", *DIMENSIONS)}
    about = labels.frame.select("row", "split", "cluster", **of_label)
    joined = joined.select("row", "utterance_id").join(about, on="row", how="left")
    numbered = utterances.with_row_index("row_of_table")
    labelled = numbered.join(joined, on="utterance_id", how="inner", maintain_order="left")
    known = pl.coalesce("cluster", named("speaker"))
    speaker = pl.coalesce("speaker_label", named("speaker"))
    return labelled.with_columns(cluster=pl.coalesce(known, "recording_id"), kind=cluster_kind(known, speaker))


def _splits(
    gold: Path, labelled: pl.DataFrame, values: np.ndarray, settings: TrainSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and to develop on: the labels' own splits, else whole speakers held out."""
    rated = ~np.isnan(values).all(axis=1)
    if not rated.any():
        raise LabelError(gold, "no utterance of the table has a number as its label, of a dimension that weighs in the loss")
    split = labelled["split"].str.to_lowercase()
    _require_named_splits(gold, labelled["split"], settings)
    if split.null_count() == len(split):
        return _hold_out(gold, labelled, np.flatnonzero(rated), settings.dev_share)
    found = {
        name: np.flatnonzero(rated & split.is_in([s.lower() for s in splits]).fill_null(value=False).to_numpy())
        for name, splits in (("train", settings.train_splits), ("dev", settings.dev_splits))
    }
    if not len(found["train"]):
        named = ", ".join(repr(name) for name in Counter(labelled["split"].drop_nulls()))
        raise LabelError(gold, f"its splits are {named}; none is to train on", "name it with --train-split (and --dev-split)")
    if not len(found["dev"]):
        return _hold_out(gold, labelled, found["train"], settings.dev_share)
    return found["train"], found["dev"]


def _require_named_splits(gold: Path, split: pl.Series, settings: TrainSettings) -> None:
    """LabelError unless the labels have every split that the user named: to hold out others instead would be to guess."""
    named = Counter(split.drop_nulls())
    there = {name.lower() for name in named}
    for chosen, default in ((settings.train_splits, TrainSettings.train_splits), (settings.dev_splits, TrainSettings.dev_splits)):
        absent = [name for name in chosen if name.lower() not in there] if chosen != default else []
        if absent:
            known = f"its splits are {', '.join(map(repr, named))}" if named else "it names no splits"
            raise LabelError(gold, f"has no split {absent[0]!r} for the utterances of the table", known)


def _hold_out(gold: Path, labelled: pl.DataFrame, chosen: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Whole speakers until `share` of the utterances is held out. By a hash of their names: a new speaker moves nobody else."""
    of = labelled["cluster"].to_numpy()[chosen]
    sizes = Counter(of)
    if len(sizes) < 2:
        raise LabelError(gold, f"all {len(chosen)} labelled utterances are of one speaker, {of[0]!r}: nobody is left to develop "
                         "on", "label more speakers, or say with a column `split` what to train and to develop on")
    held: set[str] = set()
    count = 0
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if count >= share * len(chosen) or len(held) == len(sizes) - 1:
            break
        held.add(name)
        count += sizes[name]
    away = np.array([name in held for name in of])
    return chosen[~away], chosen[away]


def _require_variety(
    labels: Labels, values: np.ndarray, train: np.ndarray, development: np.ndarray, dimensions: tuple[str, ...]
) -> None:
    for d in dimensions:
        column = values[:, DIMENSIONS.index(d)]
        for what, chosen in (("train", train), ("develop", development)):
            known = column[chosen][~np.isnan(column[chosen])]
            if len(np.unique(known)) < 2:
                all_one = f"all {len(known)} are {known[0]:g}" if len(known) > 1 else f"there are {len(known)}"
                raise LabelError(labels.path, f"the {d} of the utterances to {what} on does not vary ({all_one}), so no "
                                 "concordance is defined", f"label more of them, or leave out the column {labels.columns[d]!r}")

