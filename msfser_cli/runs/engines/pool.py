"""Hands recordings out to workers, and tries again what a worker had in hand when it ended.

A worker is a process on this machine or on another one. It gets recordings by the handful, and sends each back when it is
finished. It writes nothing, so a worker that ends costs time only.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from msfser_cli.errors import RecordingError, ResourceError
from msfser_cli.runs.annotate import complete
from msfser_cli.runs.engines.worker import Loaded, Logged, Message, Started
from msfser_cli.runs.task import Task, identify
from msfser_cli.store.media import size

logger = logging.getLogger("msfser")

HANDFUL_RECORDINGS, HANDFUL_BYTES = 32, 64 << 20
"""The most recordings, and bytes of their files, in a handful, unless one file is larger."""

ROW_BYTES = 16 << 10
"""About the size of an utterance of an input table, with its vectors."""

HANDFULS = 2
"""The number of handfuls that a worker has in hand, so that it can prepare one while it works on another."""

DEATHS = 3
"""After this many deaths of workers that had a recording in hand, the last one it alone, the recording fails."""


@dataclass(frozen=True)
class Died:
    """A worker ended by itself. how: such as `killed by SIGKILL`."""

    how: str


Event = Message | Died


class Crew(Protocol):
    """Starts workers, each with a number, and talks to them."""

    def start(self, workers: int) -> int:
        """Start a worker, one of so many. Returns its number. It says when it has started, which may take long on a full cluster.

        Raises ResourceError if this is not possible.
        """
        ...

    def give(self, worker: int, tasks: list[Task]) -> None:
        """Give a handful to a worker. If the worker has died, its death is an event."""
        ...

    def events(self) -> Iterator[tuple[int, Event]]:
        """Wait until a worker has something to tell, and yield what all have to tell now."""
        ...

    def end(self) -> None:
        """End all workers at once."""
        ...


@dataclass
class _Worker:
    handfuls: deque[dict[str, Task]] = field(default_factory=deque)
    has_started: bool = False
    has_loaded: bool = False
    is_alone: bool = False  # it has a recording in hand that must not have company

    def has_room(self) -> bool:
        return self.has_started and len(self.handfuls) < HANDFULS and not self.is_alone


class Pool:
    """Runs the stages in up to `most` workers of a crew. Workers are started as recordings need them."""

    def __init__(self, crew: Crew, most: int) -> None:
        self._crew, self._most = crew, most
        self._workers: dict[int, _Worker] = {}
        self._open: deque[tuple[Task, int]] = deque()  # not handed out yet, with its size
        self._rows = 0  # of the open tasks
        self._again: deque[Task] = deque()  # a worker died with it in hand
        self._deaths: Counter[str] = Counter()
        self._deaths_loading = 0
        self._warned: set[str] = set()

    def annotated(self, tasks: Iterable[Task]) -> Generator[Task, None, None]:
        """The tasks after the stages, as they are finished. What is unchanged or failed already goes to no worker."""
        source = iter(tasks)
        try:
            while True:
                yield from self._take(source)
                self._hand_out()
                if not (self._open or self._again or self._busy()):
                    return
                for number, event in self._crew.events():
                    yield from self._heard(number, event)
        finally:
            self._crew.end()

    def _take(self, source: Iterator[Task]) -> Iterator[Task]:
        """Take open tasks ahead, so that handfuls are small when few are left. Yields the tasks that need no worker."""
        most, most_rows = HANDFUL_RECORDINGS * self._most, HANDFUL_BYTES // ROW_BYTES * self._most
        while len(self._open) < most and self._rows <= most_rows and (task := next(source, None)) is not None:
            if task.is_identified and not task.is_pending:
                if not task.unchanged:
                    complete(task)
                yield task
            else:
                self._open.append((task, _size(task)))
                self._rows += len(task.item.rows)

    def _hand_out(self) -> None:
        while (self._again or self._open) and (number := self._free(alone=bool(self._again))) is not None:
            handful = [self._again.popleft()] if self._again else self._handful()
            for task in handful:
                task.ends_batch = task is handful[-1]
            worker = self._workers[number]
            worker.is_alone = self._deaths[handful[0].item.recording.recording_id] > 0
            worker.handfuls.append({task.item.recording.recording_id: task for task in handful})
            self._crew.give(number, handful)
        if left := len(self._open) + len(self._again):
            wanted = min(self._most, self._busy() + left)
            while len(self._workers) < wanted:
                self._workers[self._crew.start(wanted)] = _Worker()

    def _busy(self) -> int:
        """The number of workers with recordings in hand."""
        return sum(bool(worker.handfuls) for worker in self._workers.values())

    def _free(self, *, alone: bool) -> int | None:
        """A worker that takes another handful: an idle one first. alone: it must be one without a handful.

        A second handful would leave nothing for the workers that are starting. So the last recordings wait for them, or for the
        first worker that is idle: those may never start.
        """
        with_room = [number for number, worker in self._workers.items() if worker.has_room()]
        number = min(with_room, key=lambda number: len(self._workers[number].handfuls), default=None)
        if number is not None and self._workers[number].handfuls:
            starting = sum(not worker.has_started for worker in self._workers.values())
            if alone or len(self._open) <= starting or len(self._workers) < self._most:
                return None
        return number

    def _handful(self) -> list[Task]:
        """The next handful. If few tasks are left, it is small, so that all workers have work until the end."""
        share = 2 * self._most
        most = max(1, min(HANDFUL_RECORDINGS, len(self._open) // share))
        most_bytes = min(HANDFUL_BYTES, sum(size for _, size in self._open) // share)
        task, total = self._open.popleft()
        handful = [task]
        while self._open and len(handful) < most and total + self._open[0][1] <= most_bytes:
            task, size = self._open.popleft()
            handful.append(task)
            total += size
        self._rows -= sum(len(task.item.rows) for task in handful)
        return handful

    def _heard(self, number: int, event: Event) -> Iterator[Task]:
        worker = self._workers[number]
        if isinstance(event, list):
            for task in event:
                task.worker = number
                yield self._finished(worker, task)
        elif isinstance(event, Started):
            worker.has_started = True
        elif isinstance(event, Loaded):
            worker.has_loaded, self._deaths_loading = True, 0
        elif isinstance(event, Logged):
            self._log(event)
        elif isinstance(event, Died):
            del self._workers[number]
            yield from self._died(worker, event.how)
        else:
            raise event

    def _finished(self, worker: _Worker, task: Task) -> Task:
        identity = task.item.recording.recording_id
        handful = next(handful for handful in worker.handfuls if identity in handful)
        task.item = handful.pop(identity).item
        while worker.handfuls and not worker.handfuls[0]:
            worker.handfuls.popleft()
        worker.is_alone = worker.is_alone and bool(worker.handfuls)
        return task

    def _died(self, worker: _Worker, how: str) -> Iterator[Task]:
        in_hand = [task for handful in worker.handfuls for task in handful.values()]
        what = in_hand[0].item.recording.recording_id if len(in_hand) == 1 else f"{len(in_hand)} recordings"
        if not worker.has_loaded:
            if in_hand or not worker.has_started:
                self._died_loading(how)
            self._open.extendleft((task, _size(task)) for task in reversed(in_hand))
            self._rows += sum(len(task.item.rows) for task in in_hand)
            return
        logger.warning("a worker process ended (%s) with %s in hand; msfser tries again", how, what)
        for task in in_hand:
            identity = task.item.recording.recording_id
            self._deaths[identity] += 1
            if len(in_hand) == 1 and self._deaths[identity] >= DEATHS:
                identify(task)  # so that the next run leaves it alone
                task.work.error = RecordingError("worker_died", f"{self._deaths[identity]} worker processes ended while they had "
                                                 f"the recording in hand, the last alone with it ({how})")
                complete(task)
                yield task
            else:
                self._again.append(task)

    def _died_loading(self, how: str) -> None:
        """Start another worker, or after several such deaths go on with fewer. Raises ResourceError if no worker is left."""
        self._deaths_loading += 1
        if self._deaths_loading < DEATHS:
            logger.warning("a worker process ended while it loaded the models (%s); msfser starts another", how)
            return
        if not any(worker.has_started for worker in self._workers.values()):
            raise ResourceError(f"{DEATHS} worker processes in a row ended while they loaded the models, the last {how}. The "
                                "machine may have too little memory for them: use fewer with --jobs")
        self._most, self._deaths_loading = len(self._workers), 0
        logger.warning("%d worker processes ended while they loaded the models, the last %s; msfser goes on with %d workers",
                       DEATHS, how, self._most)

    def _log(self, logged: Logged) -> None:
        """Log what a worker logs. A warning that several workers give is logged once."""
        if not logged.logger:
            print(logged.message, file=sys.stderr)
        elif logged.level < logging.WARNING or logged.message not in self._warned:
            self._warned.add(logged.message)
            logging.getLogger(logged.logger).log(logged.level, "%s", logged.message)


def _size(task: Task) -> int:
    """About the bytes that a task takes of a handful: of its file, or of its rows."""
    return max(size(task.item.recording.path), ROW_BYTES * len(task.item.rows))
