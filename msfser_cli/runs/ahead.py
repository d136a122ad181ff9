"""Prepares recordings for the stages, a bounded stretch ahead of them, and puts them into batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from threading import Condition

from msfser_cli.backends.background import start
from msfser_cli.runs.task import Task

RECORDINGS, SECONDS = 64, 600.0
"""The most recordings and seconds of audio in a batch, unless one recording is longer. As much is prepared ahead."""


def ahead(tasks: Iterable[Task], prepare: Callable[[Task], Task]) -> Generator[Task, None, None]:
    """The tasks prepared, in order. A thread prepares up to `RECORDINGS` or `SECONDS` ahead of the caller.

    If the caller stops early, the thread is abandoned, not joined: it may be decoding a long file.
    """
    ready: deque[Task | BaseException | None] = deque()
    change = Condition()
    is_over = False

    def seconds() -> float:
        return sum(task.work.audio.duration for task in ready if isinstance(task, Task))

    def add(result: Task | BaseException | None) -> None:
        with change:
            ready.append(result)
            change.notify_all()

    def work() -> None:
        try:
            for task in tasks:
                add(prepare(task))
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
