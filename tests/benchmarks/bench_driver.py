"""How much the process that writes can take: recordings a second, CPU seconds and bytes of each, for 1, 8 and 64 workers.

    python tests/benchmarks/bench_driver.py [RECORDINGS]

The workers take no time: what they would send is made once, from utterances that mini has annotated, and unpickled for each
recording. So all that is measured is the run's own work: finding and handing out recordings, receiving rows, and writing them.
"""

from __future__ import annotations

import itertools
import os
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `kit`

from kit.places import QUICKSTART
from kit.reporters import Watcher
from msfser_cli import profiles, schemas
from msfser_cli.backends import Row
from msfser_cli.runs import chain, runner
from msfser_cli.runs.annotate import complete
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.pool import Event, Pool
from msfser_cli.runs.engines.worker import Started
from msfser_cli.runs.source import source_of
from msfser_cli.runs.task import Task
from msfser_cli.settings import build

UTTERANCES = 20
DIFFERENT = 256
"""The number of recordings with values of their own: so many that none lies near its copy, where the two would be packed."""

WORKERS = (1, 8, 64)


@dataclass
class Ready:
    """A crew whose workers have finished as soon as they are given something. `payloads`: the pickled rows of recordings."""

    payloads: Iterator[bytes]
    sent: int = 0
    received: int = 0

    def __post_init__(self) -> None:
        self._count = 0
        self._events: list[tuple[int, Event]] = []
        self._finished: list[tuple[int, list[Task]]] = []

    def start(self, workers: int) -> int:
        """A worker that has started."""
        self._count += 1
        self._events.append((self._count, Started("here")))
        return self._count

    def give(self, worker: int, tasks: list[Task]) -> None:
        """Pickle the tasks, as if to send them."""
        given = pickle.dumps(tasks)
        self.sent += len(given)
        self._finished.append((worker, pickle.loads(given)))

    def events(self) -> Iterator[tuple[int, Event]]:
        """What the workers would send, unpickled."""
        started, self._events = self._events, []
        yield from started
        finished, self._finished = self._finished, []
        for worker, tasks in finished:
            for task in tasks:
                payload = next(self.payloads)
                self.received += len(payload)
                identity = task.line.recording_id
                rows = enumerate(pickle.loads(payload))
                task.work.rows = [{**row, "recording_id": identity, "utterance_id": f"{identity}:{i}"} for i, row in rows]
                task.line.input_key = task.line.sha256 = identity
                complete(task)
                yield worker, [task.finished()]

    def end(self) -> None:
        """Nothing is to be ended."""


@dataclass(frozen=True)
class Force:
    """Takes the place of a `Workforce`."""

    crew: Ready
    workers: int

    def engine(self, chain: Chain, beside: Path, check: Callable[[], None]) -> Pool:
        """The engine for a run."""
        return Pool(self.crew, self.workers)


def rows_of(plan: Chain) -> list[Row]:
    """As many real utterances as a recording is to have."""
    _, source = source_of("predict", [str(QUICKSTART / "corpus")], None)
    real = [row for work in runner.annotated(plan, source.items) for row in work.rows]
    return [real[i % len(real)] for i in range(UTTERANCES)]


def pickled(rows: list[Row], *, vectors: bool) -> list[bytes]:
    """The rows of recordings. Noise on their numbers makes them differ."""
    noise = np.random.default_rng(0)

    def noisy(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return (value + 0.01 * noise.standard_normal(value.shape)).astype(value.dtype)
        if isinstance(value, dict):
            return {name: noisy(part) for name, part in value.items()}
        if isinstance(value, list):
            return [noisy(part) for part in value]
        return round(value + 0.01 * noise.random(), 3) if isinstance(value, float) else value

    kept = [{name: value for name, value in row.items() if vectors or not isinstance(value, np.ndarray)} for row in rows]
    return [pickle.dumps(noisy(kept)) for _ in range(DIFFERENT)]


def measure(plan: Chain, folder: Path, payloads: list[bytes], workers: int, *, vectors: bool) -> str:
    """A run on the corpus in the folder, as a line of the table."""
    _, source = source_of("predict", [str(folder / "corpus")], None)
    crew = Ready(itertools.cycle(payloads))
    out = folder / f"{workers}"
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    destination = runner.Destination(f"{out}/", vectors=vectors)
    runner.run(plan, source, destination, Watcher(), Force(crew, workers))  # type: ignore[arg-type]
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count, written = len(source.items), sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return (f"{workers:8d}{count / wall:16.0f}{1e3 * cpu / count:20.2f}{crew.sent / count:12.0f}"
            f"{crew.received / count:16.0f}{written / count:15.0f}")


def main(recordings: int) -> None:
    """Print a line for each number of workers."""
    of_profile = profiles.profile("mini")
    plan = chain.plan({stage: build(stage, of_profile[stage]) for stage in schemas.STAGE_NAMES})
    rows = rows_of(plan)
    print(f"{recordings:,} recordings of {UTTERANCES} utterances, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for keep in (True, False):
        print(f"{'with' if keep else 'without'} vectors\n workers  recordings / s  CPU ms / recording  bytes sent  bytes received"
              "  bytes written")
        payloads = pickled(rows, vectors=keep)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "corpus").mkdir()
            for i in range(recordings):
                (Path(folder) / "corpus" / f"{i:06d}.wav").write_bytes(b"RIFF")
            for workers in WORKERS:
                print(measure(plan, Path(folder), payloads, workers, vectors=keep), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
