"""The recordings of a table as objects, whatever columns of `COLUMNS` the table has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from msfser_cli.errors import RecordingError
from msfser_cli.exports.names import stems
from msfser_cli.schemas import DESCRIBE, DIMENSIONS, EMPHASIZE, PREDICT, TRANSCRIBE, Column
from msfser_cli.store import tables
from msfser_cli.store.audio import Audio
from msfser_cli.store.ledger import read_ledger
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.media import Media
from msfser_cli.store.objects import Location, location
from msfser_cli.store.root import path_of

_NEEDED = ("recording_id", "utterance_id", "start", "end")
_SHOWN = (
    "speaker", "channel", "language", "text", "words", "emphasis", "emphasis_spans", "emphasized_text", "description",
    *(f"{d}{end}" for d in DIMENSIONS for end in ("", "_low", "_high")),
)  # fmt: skip
COLUMNS: tuple[Column, ...] = tuple(
    column for column in (*TRANSCRIBE, *EMPHASIZE, *DESCRIBE, *PREDICT) if column.name in (*_NEEDED, *_SHOWN)
)
"""The columns that exports use. A table needs only the first four of them."""


@dataclass(slots=True)  # not frozen: a table has millions of them, and frozen ones take four times as long to make
class Word:
    """A word. start, end: seconds in the recording. score: its probability. prominence: as the column `emphasis`.

    aligned: false if the times are interpolated. after: what stands between it and the next word of the utterance.
    """

    text: str
    start: float
    end: float
    score: float | None = None
    aligned: bool = True
    prominence: float | None = None
    emphasised: bool = False
    after: str = ""


@dataclass(frozen=True)
class Score:
    """A score on the checkpoint's scale, with the ends of its prediction interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Utterance:
    """A row. A column that the table does not have is None or empty. scores: by dimension, those that are not null."""

    id: str
    start: float
    end: float
    speaker: str | None = None
    channel: int | None = None
    language: str | None = None
    text: str = ""
    words: tuple[Word, ...] = ()
    emphasized_text: str | None = None
    description: str | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A recording with rows.

    stem: the path of its exported files, without their suffix (see `names.stems`). duration: in seconds, None if unknown. path:
    where its file lies, None if unknown.
    """

    id: str
    stem: str
    utterances: tuple[Utterance, ...]
    duration: float | None = None
    path: Location | None = None

    @cached_property
    def end(self) -> float:
        """The duration, or the end of the last word or utterance, whichever is later."""
        ends = (end for u in self.utterances for end in (u.end, *(word.end for word in u.words)))
        return max(self.duration or 0.0, *ends)

    @property
    def speakers(self) -> list[str | None]:
        """The speakers in order of their first utterance. None: unknown."""
        return list(dict.fromkeys(u.speaker for u in self.utterances))


@dataclass(frozen=True)
class Table:
    """A table, and its ledger if it has one.

    columns: those of `COLUMNS` that it has. stored: the names of all its columns. root: the folder of the corpus, None if
    unknown. stems: recording -> its `stem`, in order.
    """

    path: Path
    columns: tuple[Column, ...]
    stored: frozenset[str]
    lineage: Lineage
    root: Location | None
    ledger: Mapping[str, Mapping[str, Any]]
    stems: Mapping[str, str]

    @staticmethod
    def open(path: Path, root: Location | None = None) -> Table:
        """Verify the table at `path` and its ledger. TableError if they cannot be read, or the first of `COLUMNS` are missing.

        root: where the corpus lies now; None: where the table says.
        """
        needed = [column for column in COLUMNS if column.name in _NEEDED]
        files = [tables.open_file(file, needed)[0] for file in tables.files(path)]
        stored = frozenset.intersection(*(frozenset(file.schema_arrow.names) for file in files))
        columns = tuple(column for column in COLUMNS if column.name in stored)
        lineage = tables.read_lineage(path)
        if root is None and lineage.corpus_root is not None:
            root = location(lineage.corpus_root)
        return Table(path, columns, stored, lineage, root, read_ledger(path), stems(tables.recording_ids(path)))

    @property
    def names(self) -> frozenset[str]:
        """The names of `columns`."""
        return frozenset(column.name for column in self.columns)

    def recordings(self, only: str | None = None) -> Iterator[Recording]:
        """The recordings with rows, in order, one in memory at a time. only: the one to read; None: all."""
        for recording_id, rows in tables.iter_recordings(self.path, self.columns, only):
            duration = self.ledger.get(recording_id, {}).get("duration")
            path = self.place(recording_id)
            yield Recording(recording_id, self.stems[recording_id], tuple(map(_utterance, rows)), duration, path)

    def place(self, recording_id: str) -> Location | None:
        """Where the file of the recording lies; None if unknown."""
        return None if self.root is None else path_of(self.root, recording_id)

    def audio(self, recording_id: str, *, split: bool = False) -> Audio:
        """The sound of the recording, at the times of the table. split: with the channels that msfser listened to; else a mix.

        Raises RecordingError if the file cannot be read, or has changed since it was annotated; ResourceError if the machine runs
        short.
        """
        if (place := self.place(recording_id)) is None:
            raise RecordingError("missing", "the table does not say where it lies")
        heard = self.lineage.settings.get("transcribe", {})
        sha256 = self.ledger.get(recording_id, {}).get("sha256")
        with Media(place) as media:
            if sha256 is not None and media.content().sha256 != sha256:
                raise RecordingError("changed", "the file has changed since it was annotated")
            channels = heard.get("channels", "mix") if split else "mix"
            return media.audio(channels=channels, audio_track=heard.get("audio_track"))


def _utterance(row: Mapping[str, Any]) -> Utterance:
    scores = {d: Score(value, _number(row, f"{d}_low"), _number(row, f"{d}_high"))
              for d in DIMENSIONS if (value := _number(row, d)) is not None}  # fmt: skip
    return Utterance(
        row["utterance_id"], row["start"], row["end"], row.get("speaker"), row.get("channel"), row.get("language"),
        row.get("text") or "", _words(row), row.get("emphasized_text"), row.get("description"), scores,
    )  # fmt: skip


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """The value of the column; None if it is null or not a number, or the table does not have it."""
    value = row.get(name)
    return None if value is None or math.isnan(value) else value


def _words(row: Mapping[str, Any]) -> tuple[Word, ...]:
    words: Sequence[Mapping[str, Any]] = row.get("words") or ()
    prominence = row.get("emphasis") or [None] * len(words)
    spans = row.get("emphasis_spans") or ()
    emphasised = {i for span in spans for i in range(span["first_word"], span["last_word"] + 1)}
    texts = [word["word"] for word in words]
    marked = [i in emphasised for i in range(len(words))]
    starts, ends, scores, aligned = ([word[name] for word in words] for name in ("start", "end", "score", "aligned"))
    return tuple(map(Word, texts, starts, ends, scores, aligned, prominence, marked, between(row.get("text") or "", texts)))


def between(text: str, words: Sequence[str]) -> list[str]:
    """What stands in `text` after each word and before the next; nothing after the last. A blank if the words are not in it."""
    if " ".join(words) == text:
        return [" "] * (len(words) - 1) + [""] * bool(words)
    ends, at = [], 0
    for word in words:
        start = text.find(word, at)
        if start < 0:
            return [" "] * (len(words) - 1) + [""] * bool(words)
        ends.append((start, at := start + len(word)))
    return [text[end:start] for (_, end), (start, _) in pairwise(ends)] + [""] * bool(words)
