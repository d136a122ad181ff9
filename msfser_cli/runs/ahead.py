"""Prepares recordings for the stages, a bounded stretch ahead of them, and puts them into batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator

from msfser_cli import background
from msfser_cli.runs.task import Task

RECORDINGS, SECONDS = 64, 600.0
"""The most recordings and seconds of audio in a batch, unless one recording is longer. As much is prepared ahead."""


def ahead(tasks: Iterable[Task], prepare: Callable[[Task], Task], threads: int = 1) -> Generator[Task, None, None]:
    """The tasks prepared, in order. Threads prepare up to `RECORDINGS` or `SECONDS` ahead of the caller, one task at a time."""

    def has_room(taken: int, ready: Collection[Task]) -> bool:
        return taken < RECORDINGS and sum(task.work.audio.duration for task in ready) < SECONDS

    return background.ahead(tasks, prepare, threads, has_room)


def batches(prepared: Iterable[Task]) -> Iterator[list[Task]]:
    """The tasks in batches of up to `RECORDINGS` recordings and `SECONDS` of audio, in order. An error ends a batch.

    Unchanged recordings count as well: they may hold the rows of an input table.
    """
    batch: list[Task] = []
    seconds = 0.0
    for task in prepared:
        length = task.work.audio.duration
        if batch and seconds + length > SECONDS:
            yield batch
            batch, seconds = [], 0.0
        batch.append(task)
        seconds += length
        if len(batch) == RECORDINGS or seconds >= SECONDS or task.work.error or task.ends_batch:
            yield batch
            batch, seconds = [], 0.0
    if batch:
        yield batch
