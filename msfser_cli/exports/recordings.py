"""The recordings of a table as objects, whatever columns of `COLUMNS` the table has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.errors import RecordingError, TableError
from msfser_cli.exports.names import stems
from msfser_cli.schemas import DESCRIBE, DIMENSIONS, EMPHASIZE, PREDICT, TRANSCRIBE, Column
from msfser_cli.store import tables
from msfser_cli.store.arrow import flat, numbers, truths
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
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Utterance:
    """A row. A column that the table does not have is None or empty. scores: by dimension, those that are not null."""

    id: str
    start: float
    end: float
    speaker: str | None
    channel: int | None
    language: str | None
    text: str
    words: tuple[Word, ...]
    emphasized_text: str | None
    description: str | None
    scores: Mapping[str, Score]


@dataclass(frozen=True, eq=False)
class Words:
    """The words of a recording, by column: those of `Word`. NaN: unknown."""

    text: list[str]
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray
    aligned: np.ndarray
    prominence: np.ndarray
    emphasised: np.ndarray
    after: list[str]


@dataclass(frozen=True, eq=False)
class Rows:
    """The n utterances of a recording, by column: those of `Utterance`.

    words: those of all utterances. bounds: int [n+1]; the words of utterance i are those from `bounds[i]` to before
    `bounds[i+1]`. scores: float64 [n, 3, 3], for each of `DIMENSIONS` the score and the ends of its interval. NaN: unknown.
    """

    id: list[str]
    start: np.ndarray
    end: np.ndarray
    speaker: list[str | None]
    channel: list[int | None]
    language: list[str | None]
    text: list[str]
    words: Words
    bounds: np.ndarray
    emphasized_text: list[str | None]
    description: list[str | None]
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording with rows.

    stem: the path of its exported files, without their suffix (see `names.stems`). duration: in seconds, None if unknown. path:
    where its file lies, None if unknown.
    """

    id: str
    stem: str
    rows: Rows
    duration: float | None = None
    path: Location | None = None

    @cached_property
    def utterances(self) -> tuple[Utterance, ...]:
        """The rows as objects. A large table has millions of words, so they take most of the time of what uses them."""
        rows, words = self.rows, self.rows.words
        said = list(map(
            Word, words.text, words.start.tolist(), words.end.tolist(), _known(words.score), words.aligned.tolist(),
            _known(words.prominence), words.emphasised.tolist(), words.after,
        ))  # fmt: skip
        return tuple(map(
            Utterance, rows.id, rows.start.tolist(), rows.end.tolist(), rows.speaker, rows.channel, rows.language, rows.text,
            (tuple(said[start:end]) for start, end in pairwise(rows.bounds.tolist())), rows.emphasized_text, rows.description,
            map(_scores, rows.scores.reshape(-1, 9)),
        ))  # fmt: skip

    @property
    def end(self) -> float:
        """The duration, or the end of the last word or utterance, whichever is later."""
        return max(self.duration or 0.0, float(self.rows.end.max()), float(self.rows.words.end.max(initial=0.0)))

    @property
    def speakers(self) -> list[str | None]:
        """The speakers in order of their first utterance. None: unknown."""
        return list(dict.fromkeys(self.rows.speaker))


@dataclass(frozen=True)
class Table:
    """A table, and its ledger if it has one.

    columns: those of `COLUMNS` that it has. stored: the names of all its columns. root: the folder of the corpus, None if
    unknown.
    """

    path: Path
    columns: tuple[Column, ...]
    stored: frozenset[str]
    lineage: Lineage
    root: Location | None
    ledger: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def open(path: Path, root: Location | None = None) -> Table:
        """Verify the table at `path` and its ledger. TableError if they cannot be read, or the first of `COLUMNS` are missing.

        root: where the corpus lies now; None: where the table says.
        """
        needed = [column for column in COLUMNS if column.name in _NEEDED]
        files = [tables.open_file(file, needed) for file in tables.files(path)]
        stored = frozenset.intersection(*(frozenset(file.schema_arrow.names) for file, _ in files))
        columns = tuple(column for column in COLUMNS if column.name in stored)
        lineage = files[-1][1]  # of a folder, that of the newest part
        if root is None and lineage.corpus_root is not None:
            root = location(lineage.corpus_root)
        return Table(path, columns, stored, lineage, root, read_ledger(path))

    @cached_property
    def stems(self) -> dict[str, str]:
        """Recording -> its `stem`, for the recordings with rows, in order. Raises TableError if their rows are not adjacent."""
        return stems(tables.recording_ids(self.path))

    @property
    def names(self) -> frozenset[str]:
        """The names of `columns`."""
        return frozenset(column.name for column in self.columns)

    def recordings(self, only: str | None = None) -> Iterator[Recording]:
        """The recordings with rows, in order, one in memory at a time. only: the one to read; None: all."""
        for recording_id, rows in tables.slices(self.path, self.columns, only):
            duration = self.ledger.get(recording_id, {}).get("duration")
            path = self.place(recording_id)
            recording = Recording(recording_id, self.stems[recording_id], _rows(rows), duration, path)
            of = recording.rows
            if not all(np.isfinite(times).all() for times in (of.start, of.end, of.words.start, of.words.end)):
                raise TableError(self.path, f"an utterance or a word of {recording_id!r} has no time", "make it again")
            yield recording

    def place(self, recording_id: str) -> Location | None:
        """Where the file of the recording lies; None if unknown."""
        return None if self.root is None else path_of(self.root, recording_id)

    @contextmanager
    def media(self, recording_id: str, output: Path | None = None) -> Iterator[Media]:
        """The file of the recording. Raises RecordingError if it cannot be read, or has changed since it was annotated.

        output: as `Media` has it.
        """
        if (place := self.place(recording_id)) is None:
            raise RecordingError("missing", "the table does not say where it lies")
        sha256 = self.ledger.get(recording_id, {}).get("sha256")
        with Media(place, output) as media:
            if sha256 is not None and media.content().sha256 != sha256:
                raise RecordingError("changed", "the file has changed since it was annotated")
            yield media

    @property
    def audio_track(self) -> int | None:
        """The audio track that msfser listened to; None: the likeliest."""
        track: int | None = self._listened.get("audio_track")
        return track

    def decoded(self, media: Media, *, split: bool = False) -> Audio:
        """Its sound at the table's times. split: with the channels that msfser listened to; else a mix. Raises as `decode`."""
        channels = self._listened.get("channels", "mix") if split else "mix"
        return media.audio(channels=channels, audio_track=self.audio_track)

    @property
    def _listened(self) -> Mapping[str, Any]:
        """The settings with which msfser listened."""
        return self.lineage.settings.get("transcribe", {})


def _known(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _scores(values: np.ndarray) -> dict[str, Score]:
    """values: [9], as in `Rows.scores`."""
    known = _known(values)
    of = zip(DIMENSIONS, known[::3], known[1::3], known[2::3], strict=True)
    return {dimension: Score(value, low, high) for dimension, value, low, high in of if value is not None}


def _rows(table: Any) -> Rows:
    """The rows of an Arrow table."""

    def column(name: str) -> list[Any]:
        return table.column(name).to_pylist() if name in table.column_names else [None] * len(table)

    def of_scores(name: str) -> np.ndarray:
        return numbers(table.column(name)) if name in table.column_names else np.full(len(table), np.nan)

    text = [text or "" for text in column("text")]
    words, bounds = _words(table, text)
    scores = [of_scores(f"{dimension}{end}") for dimension in DIMENSIONS for end in ("", "_low", "_high")]
    return Rows(
        column("utterance_id"), numbers(table.column("start")), numbers(table.column("end")), column("speaker"),
        column("channel"), column("language"), text, words, bounds, column("emphasized_text"), column("description"),
        np.stack(scores, 1).reshape(-1, 3, 3),
    )  # fmt: skip


def _words(table: Any, texts: Sequence[str]) -> tuple[Words, np.ndarray]:
    """The words, and their bounds as in `Rows`."""
    if "words" not in table.column_names:
        nothing = np.zeros(0)
        return Words([], nothing, nothing, nothing, nothing, nothing, nothing, []), np.zeros(len(table) + 1, int)
    bounds, of = flat(table.column("words"))
    spoken = of["word"].to_pylist()
    places = zip(texts, pairwise(bounds.tolist()), strict=True)
    after = [mark for text, (start, end) in places for mark in between(text, spoken[start:end])]
    words = Words(
        spoken, numbers(of["start"]), numbers(of["end"]), numbers(of["score"]), truths(of["aligned"]),
        _prominence(table, bounds), _emphasised(table, bounds), after,
    )  # fmt: skip
    return words, bounds


def _prominence(table: Any, bounds: np.ndarray) -> np.ndarray:
    """The prominence of each word, NaN in rows that do not have one for each."""
    prominence = np.full(bounds[-1], np.nan)
    if "emphasis" in table.column_names:
        own, values = flat(table.column("emphasis"))
        fits = np.diff(own) == np.diff(bounds)
        prominence[np.repeat(fits, np.diff(bounds))] = numbers(values[""])[np.repeat(fits, np.diff(own))]
    return prominence


def _emphasised(table: Any, bounds: np.ndarray) -> np.ndarray:
    """Whether each word is emphasised."""
    emphasised = np.zeros(bounds[-1], bool)
    if "emphasis_spans" in table.column_names:
        own, spans = flat(table.column("emphasis_spans"))
        before, after = (np.repeat(ends, np.diff(own)) for ends in (bounds[:-1], bounds[1:]))
        first, last = (numbers(spans[name]).astype(int) + before for name in ("first_word", "last_word"))
        for start, end in zip(first.tolist(), np.minimum(last + 1, after).tolist(), strict=True):
            emphasised[start:end] = True
    return emphasised


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
