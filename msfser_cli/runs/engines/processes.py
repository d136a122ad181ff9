"""Workers as processes on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from msfser_cli import processors
from msfser_cli.errors import ResourceError, why
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.pool import Died, Event
from msfser_cli.runs.engines.worker import Orders
from msfser_cli.runs.task import Task

# sys.path is the run's own, so nothing is imported from the current folder.
_PROGRAM = """import sys
sys.path[:] = sys.argv[3:]
from importlib import import_module
import_module("msfser_cli.runs.engines." + sys.argv[1]).serve(int(sys.argv[2]))"""

MEMORY_BYTES = 1 << 30
"""What a worker needs in addition to `MODEL_SHARE` times its models' files: libraries, and a batch of recordings."""

MODEL_SHARE = 2.0


class Processes:
    """Starts worker processes, and divides the processors between them."""

    def __init__(self, chain: Chain, beside: Path) -> None:
        self._orders = Orders(chain, beside, logging.getLogger().getEffectiveLevel())
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._connections: dict[int, Connection] = {}

    def start(self, workers: int) -> int:
        """Start a worker with its share of the processors, one of so many workers. Returns its number."""
        threads = min(processors.threads(), max(1, processors.available() // workers))
        try:
            process, connection = spawn("worker", {**os.environ, "OMP_NUM_THREADS": str(threads)})
        except OSError as error:
            raise ResourceError(f"cannot start a worker process ({why(error)}); use fewer with --jobs") from error
        self._processes[process.pid], self._connections[process.pid] = process, connection
        self._send(process.pid, self._orders._replace(chain=self._orders.chain.shared_by(workers)))
        return process.pid

    def give(self, worker: int, tasks: list[Task]) -> None:
        """Give a handful to a worker."""
        self._send(worker, tasks)

    def events(self) -> Iterator[tuple[int, Event]]:
        """Wait until a worker has something to tell, and yield what all have to tell now."""
        ready = wait(list(self._connections.values()))
        for number in [n for n, connection in self._connections.items() if connection in ready]:
            try:
                message = self._connections[number].recv()
            except (EOFError, OSError):
                yield number, Died(self._ending(number))
                continue
            yield number, message

    def end(self) -> None:
        """End all workers at once. They hold nothing that would be lost."""
        for process in self._processes.values():
            process.kill()
        for number in list(self._processes):
            self._ending(number)

    def _send(self, number: int, message: object) -> None:
        with contextlib.suppress(OSError):  # it has died, which is an event
            self._connections[number].send(message)

    def _ending(self, number: int) -> str:
        """How a worker that closed its connection ended."""
        self._connections.pop(number).close()
        process = self._processes.pop(number)
        process.kill()  # has no effect if it ended by itself; its own status is then returned
        status = process.wait()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def spawn(module: str, environment: dict[str, str], **options: Any) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start `serve` of a module beside this one in a process at the other end of a socket. Raises OSError."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", _PROGRAM, module, str(theirs.fileno()), *sys.path]
    try:
        with theirs:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       pass_fds=[theirs.fileno()], env=environment, **options)
    except OSError:
        ours.close()
        raise
    return process, Connection(ours.detach())


def memory_of(chain: Chain) -> int:
    """The bytes of memory that a worker needs, estimated."""
    of_models = sum(file.stat().st_size for folder in chain.models.values() for file in folder.path.rglob("*") if file.is_file())
    return MEMORY_BYTES + int(MODEL_SHARE * of_models)


def most(chain: Chain) -> int:
    """The number of worker processes that serves this machine: one on a GPU, else as its processors and free memory allow."""
    if processors.has_gpu():
        return 1
    memory = processors.free_memory()
    cores, threads = processors.available(), processors.threads()
    by_cores = cores // threads if threads < cores else cores
    by_memory = cores if memory is None else memory // memory_of(chain)
    return max(1, min(by_cores, by_memory))
