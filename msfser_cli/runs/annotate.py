"""Runs the stages on a batch of recordings, and finds the one that is to blame for a failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from msfser_cli import schemas
from msfser_cli.errors import MsfserError, RecordingError, is_shortage, shortage
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.task import Task
from msfser_cli.stages.work import Step, Work
from msfser_cli.store import arrow

logger = logging.getLogger("msfser")


class ShortageError(RecordingError):
    """Memory or open files ran out while a model worked on one recording alone."""

    def __init__(self, detail: str) -> None:
        super().__init__("out_of_memory", detail)


def annotate(batch: Sequence[Task], chain: Chain, steps: Sequence[Step], check: Callable[[], None]) -> None:
    """Run the stages on the tasks that are pending, and complete the ledger lines of all. check: as for `run_steps`."""
    began = time.perf_counter()
    pending = [task for task in batch if task.is_pending]
    if pending:
        run_steps([task.work for task in pending], chain, steps, check)
    seconds = time.perf_counter() - began
    total = sum(task.work.audio.duration for task in pending)
    for task in batch:
        if not task.unchanged:
            share = task.work.audio.duration / total if total else 1 / len(batch)
            complete(task, seconds * share)


def run_steps(works: Sequence[Work], chain: Chain, steps: Sequence[Step], check: Callable[[], None]) -> None:
    """Run the stages on recordings. Sets the `error` of a recording for which a back end fails or returns wrong rows.

    If a batch fails, each recording is tried alone, so that only the one to blame fails. check: raises if a signal was the cause,
    because libraries turn the exception of a signal into their own.
    """
    for stage, step in zip(chain.stages, steps, strict=True):
        alive = [work for work in works if work.error is None]
        before = [work.rows for work in alive]
        try:
            if alive:
                step(alive)
                _check_rows(alive, stage)
        except Exception as error:
            check()
            logger.debug("%s failed on %d recordings", stage, len(alive), exc_info=True)
            if len(alive) == 1:
                alive[0].error = blamed(chain, stage, error)
                continue
            if isinstance(error, MsfserError) and not isinstance(error, RecordingError):
                raise  # such as a server that does not answer: no recording is to blame
            for work, rows in zip(alive, before, strict=True):
                work.rows, work.error = rows, None
                _alone(work, chain, stage, step)
                check()


def _alone(work: Work, chain: Chain, stage: str, step: Step) -> None:
    try:
        step([work])
        _check_rows([work], stage)
    except Exception as error:
        logger.debug("%s failed on %s", stage, work.recording.recording_id, exc_info=True)
        work.error = blamed(chain, stage, error)


def _check_rows(works: Sequence[Work], stage: str) -> None:
    """Raise ValueError if rows do not fit the columns of the stage."""
    for work in works:
        if work.error is None:
            arrow.to_table(work.rows, schemas.STAGES[stage])


def blamed(chain: Chain, stage: str, error: Exception) -> RecordingError:
    """The error of a recording on which a back end failed. It names the back end, and quotes the library in brackets.

    Raises the `error` itself if it is not the recording's.
    """
    if isinstance(error, RecordingError):
        return error
    if isinstance(error, MsfserError):
        raise error
    if is_shortage(error):
        return ShortageError(shortage(error))
    words = f"{type(error).__name__}: {error}"
    return RecordingError("backend_error", f"the {chain.backend_of(stage)} failed on this recording ({words})")


def complete(task: Task, seconds: float = 0.0) -> None:
    """Complete the ledger line of a recording after the stages. seconds: the time that they took."""
    line, work, before = task.line, task.work, task.item.input_line
    if work.error:
        fail(task, work.error)
    elif before and task.was_over:
        line.status, line.reason, line.detail = before.status, before.reason, before.detail
    else:
        line.status = "done" if work.rows else "no_speech"
        line.reason = work.audio.incomplete or (before.reason if before else None)
        if not before:
            line.speech_seconds = work.audio.speech_seconds
            line.transcribed_seconds = work.audio.transcribed_seconds
    sentences = [sentence for sentence in dict.fromkeys(work.audio.notes) if sentence not in (line.note or "")]
    line.note = "; ".join(filter(None, [line.note, *sentences])) or None
    line.utterances = len(work.rows)
    line.seconds = round(line.seconds + seconds, 3)


def fail(task: Task, error: RecordingError) -> None:
    """Make the recording one that failed."""
    task.work.rows = []
    task.line.status, task.line.reason, task.line.detail, task.line.utterances = "failed", error.reason, error.detail, 0
