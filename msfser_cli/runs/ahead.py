"""Prepares recordings for the stages, a bounded stretch ahead of them, and puts them into batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from threading import Condition, Lock

from msfser_cli.backends.background import start
from msfser_cli.runs.task import Task

RECORDINGS, SECONDS = 64, 600.0
"""The most recordings and seconds of audio in a batch, unless one recording is longer. As much is prepared ahead."""


def ahead(tasks: Iterable[Task], prepare: Callable[[Task], Task], threads: int = 1) -> Generator[Task, None, None]:
    """The tasks prepared, in order. Threads prepare up to `RECORDINGS` or `SECONDS` ahead of the caller, one task each at a time.

    If the caller stops early, the threads are abandoned, not joined: they may be decoding long files.
    """
    source = iter(tasks)
    ready: dict[int, Task | BaseException | None] = {}
    taking, change = Lock(), Condition()
    taken = given = 0
    is_over = False

    def has_room() -> bool:
        seconds = sum(task.work.audio.duration for task in ready.values() if isinstance(task, Task))
        return is_over or (taken - given < RECORDINGS and seconds < SECONDS)

    def work() -> None:
        nonlocal taken
        result: Task | BaseException | None = None
        while not is_over:
            with taking:
                with change:
                    change.wait_for(has_room)
                    number, taken = taken, taken + 1
                try:
                    task = None if is_over else next(source, None)
                except BaseException as error:
                    task, result = None, error
            if task:
                try:
                    result = prepare(task)
                except BaseException as error:
                    result = error
            with change:
                ready[number] = result
                change.notify_all()
            if not isinstance(result, Task):
                return
            result = None

    for _ in range(threads):
        start(work)
    try:
        while True:
            with change:
                while given not in ready:
                    change.wait()
                result = ready.pop(given)
                given += 1
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
