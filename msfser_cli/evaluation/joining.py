"""Joins labels to utterances.

`match_names` finds the recording of each name in a label file. `join` then finds the label's utterances: the one that it names,
those in its segment, or all of its recording.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from msfser_cli.errors import LabelError
from msfser_cli.evaluation.labels import Labels

RULES = ("recording_id", "end of the path", "end of the path, without extension")
"""The rules by which a file name finds its recording, the strongest first; see `match_names`."""

SHARE = 0.5
"""An utterance belongs to a labelled segment if they overlap by at least this share of the shorter of the two."""

_EXTENSION = re.compile(r"\.(?=\w*[A-Za-z])\w{1,5}$")
_WRITE_AS_IDS = "write the file names in the label file as in the column recording_id"
_CELLS_AT_ONCE = 2_000_000
_EXAMPLES = 3


@dataclass(frozen=True)
class Unmatched:
    """Rows without a partner: `count` of `of` rows, with the first few names."""

    count: int
    of: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Joined:
    """Which utterance belongs to which label.

    frame: one row for each pair of a label and an utterance, ordered by label, then by time: `row` (as in `Labels.frame`),
    `recording_id`, `utterance_id`, `overlap` (in s; for labels of whole recordings and of utterances, the utterance's duration).
    unit: what a label describes: `recording`, `segment` or `utterance`.
    matched_by: rule (one of `RULES`, or `utterance_id`) -> number of labels. labels, recordings, utterances: those without a
    partner.
    """

    frame: pl.DataFrame
    unit: str
    matched_by: dict[str, int]
    labels: Unmatched
    recordings: Unmatched
    utterances: Unmatched


def join(utterances: pl.DataFrame, labels: Labels) -> Joined:
    """Join `labels` to `utterances` (columns `recording_id`, `utterance_id`, `start`, `end`).

    If labels name utterances of the table, they are joined by `utterance_id`. Otherwise a label is joined to its recording, or to
    the segment between its `start` and `end`, and to the utterances in it (see `SHARE`). Raises LabelError if a name fits several
    recordings, a recording, segment or utterance has two labels, or nothing matches.
    """
    utterances = utterances.select("recording_id", "utterance_id", "start", "end").sort("recording_id", "start", "utterance_id")
    rule_of: dict[str, str] = {}
    if labels.frame.join(utterances, on="utterance_id", how="semi").height:
        unit = "utterance"
        _refuse_repeated(labels, ["utterance_id"])
        named = labels.frame.select("row", "utterance_id").join(utterances, on="utterance_id", how="inner", maintain_order="left")
        frame = named.select("row", "recording_id", "utterance_id", overlap=pl.col("end") - pl.col("start"))
    else:
        unit = "segment" if "start" in labels.columns else "recording"
        _refuse_repeated(labels, ["recording", "start", "end"])
        names = labels.frame["recording"].unique(maintain_order=True)
        matches = match_names(labels.path, names, utterances["recording_id"].unique(maintain_order=True))
        rule_of = {name: rule for name, (_, rule) in matches.items()}
        recording_of = pl.DataFrame([(name, recording) for name, (recording, _) in matches.items()], orient="row",
                                    schema={"recording": pl.String, "recording_id": pl.String})
        named = labels.frame.join(recording_of, on="recording", how="inner", maintain_order="left")
        frame = _overlaps(named.select("row", "recording_id", "start", "end"), utterances)

    if frame.is_empty():
        raise nothing_matches(labels, utterances["recording_id"].unique(maintain_order=True))
    matched = labels.frame.join(frame, on="row", how="semi", maintain_order="left")
    matched_by = Counter(rule_of.get(name, "utterance_id") for name in matched["recording"])
    recordings = utterances.select("recording_id").unique(maintain_order=True)
    return Joined(
        frame=frame,
        unit=unit,
        matched_by=dict(sorted(matched_by.items())),
        labels=unmatched(labels.frame, frame, "row", show="utterance_id" if unit == "utterance" else "recording"),
        recordings=unmatched(recordings, frame, "recording_id"),
        utterances=unmatched(utterances, frame, "utterance_id"),
    )


def nothing_matches(labels: Labels, recordings: Iterable[str]) -> LabelError:
    """The error for labels that match nothing in these recordings, with some names of both."""
    theirs = some(labels.frame["recording"].unique(maintain_order=True))
    return LabelError(labels.path, f"no label matches an utterance: the labels name {theirs}, the utterances are of "
                      f"{some(recordings)}", _WRITE_AS_IDS)


def match_names(path: Path, names: Iterable[str], recordings: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> its recording and the rule (of `RULES`) that found it. Names without a recording are left out.

    A name matches an id if they are equal, or if one of the two paths ends with the other in whole folder and file names, first
    with the extension, then without. An equal path wins over a longer one, and a longer common end over a shorter one. A
    recording found by one rule is not tried by the next. Raises LabelError (naming `path`) if a name fits several recordings
    equally well, or several names fit one recording.
    """
    matches: dict[str, tuple[str, str]] = {}
    open_names, open_recordings = list(names), list(recordings)
    for rule in RULES:
        if rule == RULES[0]:
            ids = set(open_recordings)
            hits = {name: name for name in open_names if name in ids}
        else:
            hits = _match_ends(path, open_names, open_recordings, drop_extension=rule == RULES[2])
        matches.update({name: (recording, rule) for name, recording in hits.items()})
        taken = set(hits.values())
        open_names = [name for name in open_names if name not in hits]
        open_recordings = [recording for recording in open_recordings if recording not in taken]
    return matches


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
            # The same path, else recordings that end with the name, else the longest recording that the name ends with.
            fits |= by_whole.get(whole) or by_end.get(whole) or next((by_whole[e] for e in ends(whole) if e in by_whole), set())
        if len(fits) > 1:
            raise LabelError(path, f"{name!r} may be {some(sorted(fits))}", _WRITE_AS_IDS)
        for recording in fits:
            hits[name] = recording
            names_of[recording].append(name)
    for recording, claims in names_of.items():
        if len(claims) > 1:
            raise LabelError(path, f"{some(claims)} all fit the recording {recording!r}", _WRITE_AS_IDS)
    return hits


def _overlaps(segments: pl.DataFrame, utterances: pl.DataFrame) -> pl.DataFrame:
    """The frame of `Joined` for `segments` of recordings (`row`, `recording_id`, `start`, `end`; no end: the recording's)."""
    utterances = utterances.rename({"start": "u_start", "end": "u_end"})
    segments = segments.with_columns(pl.col("start").fill_null(0.0), pl.col("end").fill_null(math.inf))
    segments = segments.join(utterances.group_by("recording_id").len(), on="recording_id", how="left", maintain_order="left")
    # Each segment is compared with each utterance of its recording, in batches that fit in memory.
    segments = segments.with_columns(batch=pl.col("len").cum_sum() // _CELLS_AT_ONCE)
    overlap = pl.min_horizontal("end", "u_end") - pl.max_horizontal("start", "u_start")
    shorter = pl.min_horizontal(pl.col("end") - pl.col("start"), pl.col("u_end") - pl.col("u_start"))
    pairs = [pl.DataFrame(schema={"row": pl.Int64, "recording_id": pl.String, "utterance_id": pl.String, "overlap": pl.Float64})]
    for batch in segments.partition_by("batch", maintain_order=True):
        both = batch.join(utterances, on="recording_id", how="inner", maintain_order="left_right").with_columns(overlap=overlap)
        both = both.filter(pl.col("overlap") > 0, pl.col("overlap") >= SHARE * shorter)
        pairs.append(both.select("row", "recording_id", "utterance_id", "overlap"))
    return pl.concat(pairs)


def _refuse_repeated(labels: Labels, key: list[str]) -> None:
    twice = labels.frame.filter(pl.col(key[0]).is_not_null()).group_by(key, maintain_order=True).agg("row")
    twice = twice.filter(pl.col("row").list.len() > 1)
    if twice.height:
        rows = some(twice["row"][0])
        raise LabelError(labels.path, f"{twice[key[0]][0]!r} is labelled more than once (rows {rows})",
                         "keep one row for it; if several people rated it, average their ratings first")


def unmatched(rows: pl.DataFrame, matched: pl.DataFrame, key: str, *, show: str | None = None) -> Unmatched:
    """The `rows` whose `key` is not in `matched`. `show`: the column with their names (default: `key`)."""
    names = rows.join(matched, on=key, how="anti", maintain_order="left")[show or key]
    return Unmatched(len(names), rows.height, tuple(names.drop_nulls().head(_EXAMPLES)))


def some(names: Iterable[object]) -> str:
    """The first few of `names`, for a sentence."""
    names = list(names)
    return ", ".join(repr(name) for name in names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")
