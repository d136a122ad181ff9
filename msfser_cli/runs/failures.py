"""Tells a recording's failure from the machine's."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from msfser_cli.errors import MACHINE_REASONS, RecordingError, ResourceError
from msfser_cli.runs.annotate import blamed, fail
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.task import Task
from msfser_cli.runs.turns import Turns
from msfser_cli.schemas import LedgerLine
from msfser_cli.store.output import Output

IN_A_ROW = 10
"""msfser suspects the machine after this many failures in a row, all for one of `MACHINE_REASONS`.

Before a run stops on that suspicion, it tries `turns.ELSEWHERE` others, spread over the remaining recordings.
"""

_SHORT = "memory ran out once: "
"""The prefix of such a recording's input key in the ledger. The next run tries it once more."""


class Failures:
    """The failures of a run, and whether the machine may be their cause.

    A bad file, such as a text file, goes into the ledger at once. A failure for one of `MACHINE_REASONS` may be the machine's, so
    its line waits until the same worker succeeds on a later recording: other workers may be on other machines. If `IN_A_ROW`
    lines of a worker wait, and the share of such failures in the run exceeds the limit, `turns.ELSEWHERE` other recordings are
    tried. If these fail as well, the run stops.

    Worker 0 is the run itself, which only reads. Any success settles its lines.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._count = 0
        self._waiting: defaultdict[int, list[LedgerLine]] = defaultdict(list)  # worker -> lines
        self._verdict_at: dict[int, int] = {}  # worker -> the run stops if this many of its lines wait

    def keep(self, task: Task, chain: Chain, output: Output) -> None:
        """Add a recording to the output, or let its line wait."""
        line = task.line
        if line.status != "failed":
            try:
                output.add(line, task.work.rows)
            except ValueError as error:  # a vector has another length than earlier vectors
                fail(task, blamed(chain, chain.stages[-1], error))
        if line.status != "failed":
            if not task.was_over:
                for worker in {task.worker, 0}:
                    self.settle(output, worker)
        elif line.reason not in MACHINE_REASONS or task.was_over or _is_gone_alone(task):
            output.add(line)
        else:
            self._count += 1
            self._waiting[task.worker].append(line)

    def settle(self, output: Output, worker: int, *, could_be_read: bool = False) -> None:
        """Write a worker's waiting lines, because it succeeded on another recording, so the machine is not the cause.

        could_be_read: the other recording was only read. This says nothing of failures after reading.
        """
        if could_be_read and any(line.reason not in ("missing", "unreadable") for line in self._waiting[worker]):
            return
        for line in self._waiting.pop(worker, []):
            output.add(line)
        self._verdict_at.pop(worker, None)

    def settle_all(self, output: Output) -> None:
        """Write all waiting lines, because the run is over and the machine is not suspect."""
        for worker in list(self._waiting):
            self.settle(output, worker)

    def are_suspect(self, tried: int, finished: int, turns: Turns | None = None) -> bool:
        """Whether the machine may be the cause. If `turns` has more items, some of them are tried first.

        tried: the number of recordings that were processed so far. finished: these and the unchanged ones.
        """
        worker = max(self._waiting, key=lambda worker: len(self._waiting[worker]), default=0)
        waiting = len(self._waiting[worker])
        if waiting < IN_A_ROW or self._count <= self._share * tried:
            return False
        if turns and worker not in self._verdict_at:
            being_prepared = turns.begun - finished
            self._verdict_at[worker] = waiting + being_prepared + turns.look_elsewhere()
        return not turns or waiting >= self._verdict_at[worker]

    def stop(self, output: Output) -> NoReturn:
        """Publish finished work and the waiting lines, and raise ResourceError. The next run tries these recordings again.

        Rows that the table already has are kept. With --redo, the old table is kept.
        """
        waiting = max(self._waiting.values(), key=len)
        for line in [line for lines in self._waiting.values() for line in lines]:
            if line.recording_id not in output.recordings:
                output.add(replace(line, input_key=""))
        if not output.replaces_a_table:
            output.publish(unfinished=True)
        last = waiting[-1]
        raise ResourceError(
            f"{len(waiting)} recordings in a row failed, the last ({last.recording_id}) with {last.reason}: "
            f"{last.detail}. So many failures usually mean a disk or setup problem. Fix it and run the same command again: it "
            "tries these recordings again. If the recordings themselves are bad, add --max-failed 1. "
            f"The ledger {output.ledger} lists what was done"
        )


def _is_gone_alone(task: Task) -> bool:
    """Whether the file is missing from a folder with other files. The folder of an unmounted disk is empty.

    A file that exists here is missing on another machine, which may lack the disk.
    """
    path = task.item.recording.path
    if task.line.reason == "missing" and isinstance(path, Path) and not os.path.lexists(path):
        with contextlib.suppress(OSError, ValueError), os.scandir(path.parent) as others:
            return next(others, None) is not None
    return False


def remember_shortage(line: LedgerLine, error: RecordingError, output: Output) -> None:
    """Record that memory ran out on a recording that failed. The first time this raises ResourceError.

    The next run tries the recording once more. If memory runs out again, the recording fails, and later runs skip it. Without
    this memory in the ledger, the same recording would stop the run every night.
    """
    identity, remembered = line.recording_id, _SHORT + line.input_key
    if output.input_key(identity) not in (remembered, line.input_key):  # the second key: it had failed, and is retried
        output.add(replace(line, input_key=remembered))
        raise ResourceError(
            f"{identity}: {error.detail}. Run the same command again, with fewer --jobs if there were several; if memory runs "
            "out on this recording once more, msfser skips it"
        ) from error
