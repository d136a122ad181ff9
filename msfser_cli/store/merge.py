"""Merges runs of recordings that are each sorted by id. The number of open files, and the memory, do not grow with the runs."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from msfser_cli.schemas import Column
from msfser_cli.store import tables
from msfser_cli.store.atomic import temporary_folder

MOST_OPEN = 16
"""The most runs that are read at a time. Each has an open file, and a row group in memory."""

ROW_GROUP = 512
"""The number of rows in a row group of files that are written to be merged."""

Recordings = Iterator[tuple[str, pa.Table]]


@dataclass(frozen=True)
class Run:
    """Recordings with their rows, sorted by id. first, last: the range of ids. read: opens it."""

    first: str
    last: str
    read: Callable[[], Recordings]
    file: Path | None = None
    """A temporary file that holds it, if any."""


def merged(runs: Iterable[Run], columns: Sequence[Column], target: pa.Schema, output: Path) -> Recordings:
    """All recordings, sorted by id. No two runs have the same recording.

    A run is opened when its first recording is due. If more than `MOST_OPEN` would be open at a time, some are merged into
    temporary files beside `output` first. target: the schema of these files, with a lineage.
    """
    waiting = sorted(runs, key=lambda run: run.first)
    if _most_open(waiting) <= MOST_OPEN:
        yield from _in_order(waiting)
        return
    with temporary_folder(output) as folder:
        number = 0
        while _most_open(waiting) > MOST_OPEN:
            groups = [waiting[start : start + MOST_OPEN] for start in range(0, len(waiting), MOST_OPEN)]
            waiting = []
            for group in groups:
                file = folder / f"{number}.parquet"
                number += 1
                tables.write(file, (rows for _, rows in _in_order(group)), target, output=output, row_group=ROW_GROUP)
                for run in group:
                    if run.file:
                        run.file.unlink()
                last = max(run.last for run in group)
                waiting.append(Run(group[0].first, last, lambda file=file: tables.slices(file, columns), file))  # type: ignore[misc]
        yield from _in_order(waiting)


def _most_open(runs: Iterable[Run]) -> int:
    """The most of the runs, sorted by their first id, that are open at a time."""
    ends: list[str] = []
    most = 0
    for run in runs:
        while ends and ends[0] < run.first:
            heapq.heappop(ends)
        heapq.heappush(ends, run.last)
        most = max(most, len(ends))
    return most


def _in_order(runs: Sequence[Run]) -> Recordings:
    """All recordings of the runs, which are sorted by their first id."""
    unopened = deque(enumerate(runs))
    due: list[tuple[str, int, pa.Table, Recordings]] = []
    while unopened or due:
        if unopened and (not due or unopened[0][1].first <= due[0][0]):
            number, run = unopened.popleft()
            recordings = run.read()
        else:
            recording_id, number, rows, recordings = heapq.heappop(due)
            yield recording_id, rows
        if item := next(recordings, None):
            heapq.heappush(due, (item[0], number, item[1], recordings))
