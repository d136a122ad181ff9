"""A recording, and its way through the stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import numpy as np

from msfser_cli.backends import Row
from msfser_cli.errors import RecordingError
from msfser_cli.store.audio import Audio
from msfser_cli.store.objects import Location


@dataclass(frozen=True)
class Segment:
    """A manifest's data on a stretch of a recording: start and end in seconds, text, speaker and language. None: not given.

    place: the place in the manifest, such as `line 3`, for messages only.
    """

    start: float | None = None
    end: float | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    place: str = field(default="", compare=False)

    @property
    def has_times(self) -> bool:
        """Whether the manifest gives its start or its end."""
        return self.start is not None or self.end is not None

    @property
    def is_utterance(self) -> bool:
        """Whether the segment is one utterance, because the manifest gives its times or its text."""
        return self.has_times or self.text is not None


@dataclass(frozen=True)
class Recording:
    """One file of the corpus.

    recording_id: the name in tables and messages. path: absolute, because a back end may change the working directory; or the
    address of an object. segments: those of the manifest; empty for the whole recording.
    """

    recording_id: str
    path: Location
    segments: tuple[Segment, ...] = ()

    def input_key(self, sha256: str) -> str:
        """A hash of the recording's content and its segments in the manifest."""
        if not self.segments:
            return sha256
        changing = [f.name for f in fields(Segment) if f.compare]
        described = json.dumps([{name: getattr(s, name) for name in changing} for s in self.segments], sort_keys=True,
                               ensure_ascii=False)
        return hashlib.sha256(f"{sha256}{described}".encode()).hexdigest()


def no_audio() -> Audio:
    """An empty recording."""
    return Audio(np.empty(0, np.float32))


@dataclass
class Work:
    """A recording on its way through the stages.

    rows: its utterances, with the columns of the stages so far. error: why it failed; None: it did not.
    """

    recording: Recording
    audio: Audio = field(default_factory=no_audio)
    rows: list[Row] = field(default_factory=list)
    error: RecordingError | None = None

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """Keep a RecordingError of the block as the `error`, so that it does not stop other recordings."""
        try:
            yield
        except RecordingError as error:
            self.error = error

    def by_channel(self) -> list[tuple[Audio, list[Row]]]:
        """The audio of each channel that has rows, with these rows. Raises RecordingError if a channel was not decoded."""
        rows: dict[int | None, list[Row]] = {}
        for row in self.rows:
            rows.setdefault(row["channel"], []).append(row)
        return [(self.audio.of_channel(channel), of_channel) for channel, of_channel in rows.items()]

    def replace_rows(self, by_channel: Sequence[Sequence[Row]]) -> None:
        """Replace the rows. by_channel: the new ones, in the order of `by_channel()`."""
        channels = dict.fromkeys(row["channel"] for row in self.rows)
        each = {channel: iter(rows) for channel, rows in zip(channels, by_channel, strict=True)}
        self.rows = [next(each[row["channel"]]) for row in self.rows]


Step = Callable[[Sequence[Work]], None]
"""A stage on any recordings: adds its columns to their rows, or sets the `error` of a recording that fails by itself.

What a recording gets does not depend on the others. If a step raises an error, it is tried on each recording alone.
"""
