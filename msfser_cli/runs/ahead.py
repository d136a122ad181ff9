"""Prepares recordings for the stages, a bounded stretch ahead of them: has this content been done, and what are its samples?"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Any

import numpy as np

from msfser_cli import schemas
from msfser_cli.backends import Row
from msfser_cli.backends.background import start
from msfser_cli.errors import RecordingError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.source import Item
from msfser_cli.stages.work import Work
from msfser_cli.store.audio import Audio, decode, file_sha256
from msfser_cli.store.output import Output
from msfser_cli.store.seen import Seen

RECORDINGS, SECONDS = 64, 600.0
"""The most recordings and seconds of audio in a batch, unless one recording is longer. As much is prepared ahead."""

ELSEWHERE = 5
"""The number of recordings that `Turns.look_elsewhere` moves to the front."""


@dataclass
class Prepared:
    """An item that is ready for the stages: its ledger line so far, and its work, with the audio or the error."""

    item: Item
    line: dict[str, Any]
    work: Work
    unchanged: bool = False

    @property
    def is_readable(self) -> bool:
        """Whether its file was opened. The files of an input table may not be opened at all."""
        return self.item.input_line is None and self.work.error is None

    @property
    def was_over(self) -> bool:
        """Whether it has no rows in the input table, because it failed or has no speech. No stage runs on it."""
        return bool(self.item.input_line and not self.item.rows)

    @property
    def is_pending(self) -> bool:
        """Whether the stages have something to do on it."""
        return not (self.unchanged or self.work.error or self.was_over)


class Turns:
    """The items of a source, in order. `look_elsewhere` moves some items from further on to the front."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._remaining = deque(items) if isinstance(items, Sequence) else None
        self._items = items
        self.begun = 0

    def __iter__(self) -> Iterator[Item]:
        if self._remaining is None:  # a table is read as a stream
            for item in self._items:
                self.begun += 1
                yield item
        else:
            while self._remaining:
                self.begun += 1
                yield self._remaining.popleft()

    def look_elsewhere(self) -> int:
        """Move up to `ELSEWHERE` items to the front, and return their number."""
        if not self._remaining:
            return 0
        count = len(self._remaining)
        places = {count * (number + 1) // (ELSEWHERE + 1) for number in range(ELSEWHERE)}
        items = list(self._remaining)
        rest = (item for place, item in enumerate(items) if place not in places)
        self._remaining = deque([*(items[place] for place in sorted(places)), *rest])
        return len(places)


def ahead(items: Iterable[Item], prepare: Callable[[Item], Prepared]) -> Generator[Prepared, None, None]:
    """The items prepared, in order. A thread prepares up to `RECORDINGS` or `SECONDS` ahead of the caller.

    If the caller stops early, the thread is abandoned, not joined: it may be decoding a long file.
    """
    ready: deque[Prepared | BaseException | None] = deque()
    change = Condition()
    is_over = False

    def seconds() -> float:
        return sum(p.work.audio.duration for p in ready if isinstance(p, Prepared))

    def add(result: Prepared | BaseException | None) -> None:
        with change:
            ready.append(result)
            change.notify_all()

    def work() -> None:
        try:
            for item in items:
                add(prepare(item))
                with change:
                    change.wait_for(lambda: is_over or (len(ready) < RECORDINGS and seconds() < SECONDS))
                if is_over:
                    return
            add(None)
        except BaseException as error:
            add(error)

    start(work)
    try:
        while True:
            with change:
                change.wait_for(lambda: ready)
                result = ready.popleft()
                change.notify_all()
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        with change:
            is_over = True
            change.notify_all()


def batches(prepared: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """The items in batches of up to `RECORDINGS` items and `SECONDS` of audio, in order. An error ends a batch.

    Unchanged items count as well: they may hold the rows of an input table.
    """
    batch: list[Prepared] = []
    seconds = 0.0
    for one in prepared:
        length = one.work.audio.duration
        if batch and seconds + length > SECONDS:
            yield batch
            batch, seconds = [], 0.0
        batch.append(one)
        seconds += length
        if len(batch) == RECORDINGS or seconds >= SECONDS or one.work.error:
            yield batch
            batch, seconds = [], 0.0
    if batch:
        yield batch


def check(item: Item, output: Output, seen: Seen) -> Prepared:
    """Find out whether the item is already done, from the same content."""
    recording, input_line = item.recording, item.input_line
    line: dict[str, Any] = dict(input_line) if input_line else dict.fromkeys(schemas.names(schemas.RECORDINGS))
    line |= {"recording_id": recording.recording_id, "status": "done", "reason": None, "detail": None, "utterances": 0}
    line |= {"seconds": 0.0, "input_key": ""}
    prepared = Prepared(item, line, Work(recording, rows=item.rows))
    try:
        if input_line is None:
            line["sha256"], line["size_bytes"] = seen.sha256(recording.recording_id, recording.path)
            line["input_key"] = recording.input_key(line["sha256"])
        else:
            line["input_key"] = _rows_key(input_line["input_key"], item.rows)
    except RecordingError as error:
        # Without content, the reason is the key: each run checks it, and it is a new failure only for another reason.
        prepared.work.error, line["input_key"] = error, error.reason
    prepared.unchanged = output.done(recording.recording_id, line["input_key"])
    return prepared


def prepare(item: Item, chain: Chain, output: Output, seen: Seen, beside: Path) -> Prepared:
    """Check an item, and decode it if a stage needs the audio. Decoded samples lie `beside` the output."""
    began = time.perf_counter()
    path = item.recording.path
    before = _state(path)
    prepared = check(item, output, seen)
    if not prepared.is_pending or not chain.needs_audio:
        return prepared
    work, line = prepared.work, prepared.line
    with work.failing_alone():
        work.audio = audio_of(item, chain, beside)
        line["duration"] = round(work.audio.duration, 3)
    if (after := _state(path)) != before:  # the hash may be of other content than the samples: try it again next time
        why = "the file changed while it was read" if after else "the file was removed while it was read"
        work.error = RecordingError("changed" if after else "missing", why)
        line["input_key"] = work.error.reason
    line["seconds"] = time.perf_counter() - began
    return prepared


def audio_of(item: Item, chain: Chain, beside: Path | None) -> Audio:
    """The decoded audio. Raises RecordingError if the file cannot be decoded, or changed since the input table was made."""
    if item.input_line and file_sha256(item.recording.path)[0] != item.input_line["sha256"]:
        raise RecordingError("changed", "the file changed after the input table was made; transcribe it again")
    return decode(item.recording.path, beside, **(chain.hearing if item.hearing is None else item.hearing))


def _state(path: Path) -> tuple[int, ...] | None:
    """Values that change if the file is written to or replaced; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino


def _rows_key(input_key: str, rows: list[Row]) -> str:
    """A hash of a recording's rows. It changes if a transcript is edited, but not if the same rows are written again.

    Vectors do not count: they follow from the rest, and on a GPU their last digits are not the same each time.
    """
    digest = hashlib.sha256(input_key.encode())
    for row in rows:
        for name, value in row.items():
            if not isinstance(value, np.ndarray):
                digest.update(b"%s\0%s\0" % (name.encode(), json.dumps(value, ensure_ascii=False).encode()))
    return digest.hexdigest()
