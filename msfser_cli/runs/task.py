"""A recording of the run on its way: found out to be new or done, prepared for the stages, and finished."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msfser_cli.backends import Row
from msfser_cli.errors import RecordingError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.source import Item
from msfser_cli.schemas import LedgerLine
from msfser_cli.stages.predict import Reference
from msfser_cli.stages.work import Work, no_audio
from msfser_cli.store.audio import Audio
from msfser_cli.store.media import Media
from msfser_cli.store.output import Output
from msfser_cli.store.seen import Content, Seen, is_file


@dataclass
class Task:
    """One recording of a run: its ledger line so far, and its work.

    done_key: the input key for which the output has the recording already; None: for no input.
    content: that of its file, if it was read now. ends_batch: the stages do not wait for further recordings. worker: the number
    of the worker that had it; 0: the run itself.
    """

    item: Item
    line: LedgerLine
    work: Work
    done_key: str | None = None
    content: Content | None = None
    unchanged: bool = False
    ends_batch: bool = False
    worker: int = 0

    @property
    def is_identified(self) -> bool:
        """Whether the content of its input is known, or why it cannot be read."""
        return bool(self.line.input_key)

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

    def finished(self) -> Task:
        """The task without what only the stages need, to be sent back by a worker."""
        return replace(self, item=replace(self.item, rows=[]), work=replace(self.work, audio=no_audio()))


def look(item: Item, output: Output, seen: Seen) -> Task:
    """The task for an item. It is identified if that is possible without reading a file."""
    recording, input_line = item.recording, item.input_line
    line = LedgerLine(recording.recording_id) if input_line is None else replace(
        input_line, status="done", reason=None, detail=None, utterances=0, seconds=0.0, input_key="")
    task = Task(item, line, Work(recording, rows=item.rows), output.done_key(recording.recording_id))
    if input_line is not None:
        line.input_key = _rows_key(input_line.input_key, item.rows)
        task.unchanged = task.done_key == line.input_key
    elif content := seen.recall(recording.recording_id, recording.path):
        _identify(task, content)
        if not task.unchanged:  # its hash has to be of the content that is decoded
            line.input_key = ""
    elif isinstance(recording.path, Path) and not is_file(recording.path):
        identify(task)
    return task


def identify(task: Task) -> None:
    """Find out whether a task whose input is not known yet is done. Reads its file."""
    with Media(task.item.recording.path) as media:
        _identify_by(media, task)


def _identify_by(media: Media, task: Task) -> None:
    if not task.is_identified:
        try:
            task.content = media.content()
            _identify(task, task.content)
        except RecordingError as error:
            # Without content, the reason is the key: each run checks it, and it is a new failure only for another reason.
            task.work.error, task.line.input_key = error, error.reason
            task.unchanged = task.done_key == error.reason


def _identify(task: Task, content: Content) -> None:
    line = task.line
    line.sha256, line.size_bytes = content.sha256, content.size_bytes
    line.input_key = task.item.recording.input_key(content.sha256)
    task.unchanged = task.done_key == line.input_key


def prepare(task: Task, chain: Chain, beside: Path | None) -> Task:
    """Identify a task, and decode it if a stage needs the audio. Decoded samples lie `beside` the output."""
    began = time.perf_counter()
    with Media(task.item.recording.path, beside) as media:
        _identify_by(media, task)
        if not task.is_pending or not chain.needs_audio:
            return task
        work, line = task.work, task.line
        with work.failing_alone():
            work.audio = audio_of(task.item, media, chain)
            line.duration = round(work.audio.duration, 3)
        if error := media.change():  # the hash may be of other content than the samples: try it again next time
            work.error, line.input_key = error, error.reason
    line.seconds = time.perf_counter() - began
    return task


def audio_of(item: Item, media: Media, chain: Chain) -> Audio:
    """The decoded audio. Raises RecordingError if the file cannot be decoded, or changed since the input table was made."""
    if item.input_line and media.content().sha256 != item.input_line.sha256:
        raise RecordingError("changed", "the file changed after the input table was made; transcribe it again")
    return media.audio(**(chain.hearing if item.hearing is None else item.hearing))


def _rows_key(input_key: str, rows: list[Row]) -> str:
    """A hash of a recording's rows. It changes if a transcript is edited, but not if the same rows are written again.

    Vectors do not count: they follow from the rest, and on a GPU their last digits are not the same each time. The reference of a
    speaker counts by what it comes from.
    """
    digest = hashlib.sha256(input_key.encode())
    for row in rows:
        for name, value in row.items():
            if isinstance(value, Reference):
                digest.update(value.key.encode())
            elif not isinstance(value, np.ndarray):
                digest.update(b"%s\0%s\0" % (name.encode(), json.dumps(value, ensure_ascii=False).encode()))
    return digest.hexdigest()
