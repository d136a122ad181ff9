"""Labels and the utterances that they are about.

`match_names` finds the recording that a label file's name stands for; `join` goes on to the utterances: those that a label names,
those of the segment that it gives times for, or all those of its recording.
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
from msfser_cli.stages.labels import Labels

RULES = ("recording_id", "end of the path", "end of the path, without extension")
"""How a label's file name finds its recording, strongest first: see `match_names`."""

SHARE = 0.5
"""An utterance belongs to a labelled segment when they share at least this much of the shorter of the two."""

_EXTENSION = re.compile(r"\.(?=\w*[A-Za-z])\w{1,5}$")
_WRITE_AS_IDS = "write the labels' file names as recording_id has them"
_CELLS_AT_ONCE = 2_000_000
_EXAMPLES = 3


@dataclass(frozen=True)
class Unmatched:
    """Rows of one side that have no partner on the other: how many, of how many, and the first few by name."""

    count: int
    of: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Joined:
    """Which utterance belongs to which label.

    frame: one row for each label and utterance that belong together, in the order of the labels, then of the recording: `row` (as
    in `Labels.frame`), `recording_id`, `utterance_id`, `overlap` (s: the time that they share; for the labels of whole
    recordings and of utterances that is the utterance's duration).
    unit: what a label is about: `recording`, `segment` or `utterance`.
    matched_by: rule (one of `RULES`, or `utterance_id`) -> number of labels. labels, recordings, utterances: what found no
    partner.
    """

    frame: pl.DataFrame
    unit: str
    matched_by: dict[str, int]
    labels: Unmatched
    recordings: Unmatched
    utterances: Unmatched


def join(utterances: pl.DataFrame, labels: Labels) -> Joined:
    """The `labels` and the `utterances` (`recording_id`, `utterance_id`, `start`, `end`; other columns are not looked at).

    Labels that name utterances of the table are joined by `utterance_id`. Others are joined to their recording, or to the segment
    of it between `start` and `end`, and through it to the utterances that belong to it (see `SHARE`). LabelError when a name fits
    several recordings, when a recording, segment or utterance is labelled twice, or when nothing matches.
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
        found = match_names(labels.path, names, utterances["recording_id"].unique(maintain_order=True))
        rule_of = {name: rule for name, (_, rule) in found.items()}
        recording_of = pl.DataFrame([(name, recording) for name, (recording, _) in found.items()], orient="row",
                                    schema={"recording": pl.String, "recording_id": pl.String})
        named = labels.frame.join(recording_of, on="recording", how="inner", maintain_order="left")
        frame = _overlaps(named.select("row", "recording_id", "start", "end"), utterances)

    if frame.is_empty():
        theirs = some(labels.frame["recording"].unique(maintain_order=True))
        ours = some(utterances["recording_id"].unique(maintain_order=True))
        raise LabelError(labels.path, f"no label belongs to an utterance: the labels name {theirs}; the utterances' recordings "
                                      f"are {ours}")
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
            raise LabelError(path, f"{name!r} may be {some(sorted(fits))}", _WRITE_AS_IDS)
        for recording in fits:
            hits[name] = recording
            names_of[recording].append(name)
    for recording, claims in names_of.items():
        if len(claims) > 1:
            raise LabelError(path, f"{some(claims)} all fit the one recording {recording!r}", _WRITE_AS_IDS)
    return hits


def _overlaps(segments: pl.DataFrame, utterances: pl.DataFrame) -> pl.DataFrame:
    """The frame of `Joined` for `segments` of recordings (`row`, `recording_id`, `start`, `end`; no end: the recording's)."""
    utterances = utterances.rename({"start": "u_start", "end": "u_end"})
    segments = segments.with_columns(pl.col("start").fill_null(0.0), pl.col("end").fill_null(math.inf))
    segments = segments.join(utterances.group_by("recording_id").len(), on="recording_id", how="left", maintain_order="left")
    # Each segment of a recording meets each utterance of it; a batch at a time, so that many in one recording fit in memory.
    segments = segments.with_columns(batch=pl.col("len").cum_sum() // _CELLS_AT_ONCE)
    overlap = pl.min_horizontal("end", "u_end") - pl.max_horizontal("start", "u_start")
    shorter = pl.min_horizontal(pl.col("end") - pl.col("start"), pl.col("u_end") - pl.col("u_start"))
    found = [pl.DataFrame(schema={"row": pl.Int64, "recording_id": pl.String, "utterance_id": pl.String, "overlap": pl.Float64})]
    for batch in segments.partition_by("batch", maintain_order=True):
        both = batch.join(utterances, on="recording_id", how="inner", maintain_order="left_right").with_columns(overlap=overlap)
        both = both.filter(pl.col("overlap") > 0, pl.col("overlap") >= SHARE * shorter)
        found.append(both.select("row", "recording_id", "utterance_id", "overlap"))
    return pl.concat(found)


def _refuse_repeated(labels: Labels, key: list[str]) -> None:
    twice = labels.frame.filter(pl.col(key[0]).is_not_null()).group_by(key, maintain_order=True).agg("row")
    twice = twice.filter(pl.col("row").list.len() > 1)
    if twice.height:
        rows = some(twice["row"][0])
        raise LabelError(labels.path, f"{twice[key[0]][0]!r} is labelled more than once (rows {rows})",
                         "keep one row for it; average several raters first")


def unmatched(rows: pl.DataFrame, matched: pl.DataFrame, key: str, *, show: str | None = None) -> Unmatched:
    """The `rows` whose `key` is not in `matched`; `show` names the column of their names (default: `key`)."""
    left = rows.join(matched, on=key, how="anti", maintain_order="left")[show or key]
    return Unmatched(len(left), rows.height, tuple(left.drop_nulls().head(_EXAMPLES)))


def some(names: Iterable[object]) -> str:
    """The first few of `names`, for a sentence."""
    names = list(names)
    return ", ".join(repr(name) for name in names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")
