"""Workers as Ray actors, on this machine or on all nodes of a cluster.

The run itself does not join the cluster: Ray ends a process that loses the cluster, takes over its signals, and prints to its
stderr. A process of its own joins it, and the run talks to that one: see `member`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

from msfser_cli import __version__, processors
from msfser_cli.errors import ResourceError, UsageError, why
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.member import END_SECONDS, Fitting, Give, Join, Site, Start
from msfser_cli.runs.engines.pool import Died, Event
from msfser_cli.runs.engines.processes import memory_of, spawn
from msfser_cli.runs.engines.worker import Message, Orders, Started
from msfser_cli.runs.task import Task
from msfser_cli.store.atomic import resources

REACH_SECONDS, JOIN_SECONDS = 10.0, 120.0
"""How long msfser waits for an answer at the address of a cluster, and until it has joined it, or has started Ray."""


class Cluster:
    """Starts Ray actors.

    address: `HOST:PORT` of a cluster to join; None: Ray is started on this machine, for this run. jobs: the number of workers;
    None: as many as fit into the cluster. cpus, gpus: what each worker gets; a fraction shares one; None: one GPU if the cluster
    has any. most: the number of workers. Raises UsageError if Ray is not installed, ResourceError if the cluster cannot be
    reached or, with jobs None, is too small for one worker.
    """

    def __init__(
        self, chain: Chain, beside: Path, address: str | None, jobs: int | None, cpus: float, gpus: float | None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UsageError("--engine ray needs Ray: pip install 'msfser[ray]'")
        if address:
            _reach(address)
        self._orders = Orders(chain, beside, logging.getLogger().getEffectiveLevel())
        self._nodes: dict[int, str] = {}
        self._count = 0
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}  # Ray reports its use otherwise
        if not address:  # Ray listens on all interfaces, and obeys whoever has the token
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        try:
            # In a session of its own, it does not get the signals of the run's terminal.
            self._process, self._member = spawn("member", environment, start_new_session=True, stderr=subprocess.DEVNULL)
        except OSError as error:
            raise ResourceError(f"cannot start the process that joins Ray ({why(error)})") from error
        # A short path, because the names of sockets in it have at most 107 bytes.
        self._folder: str | None = None
        try:
            if not address:
                with resources(Path("/tmp")):
                    self._folder = tempfile.mkdtemp(prefix="msfser-ray-", dir="/tmp")
            site = Site(__version__, Path.cwd(), os.environ.get("MSFSER_MODELS_DIR"))
            self._send(Join(address, self._folder, processors.available(), cpus, gpus, memory_of(chain), site))
            self.most = self._joined(f"join Ray at {address}" if address else "start Ray", jobs)
        except BaseException:
            self._kill()  # no actor has started yet
            self.end()
            raise

    def start(self, workers: int) -> int:
        """Start an actor, one of so many. Returns its number."""
        self._count += 1
        orders = self._orders._replace(chain=self._orders.chain.shared_by(workers))
        self._send(Start(self._count, pickle.dumps(orders)))
        return self._count

    def give(self, worker: int, tasks: list[Task]) -> None:
        """Give a handful to an actor."""
        self._send(Give(worker, pickle.dumps(tasks)))

    def events(self) -> Iterator[tuple[int, Event]]:
        """Wait until an actor has something to tell, and yield what all have to tell now.

        Raises ResourceError if the cluster is lost.
        """
        self._member.poll(None)
        while self._member.poll():
            number, sent = self._received()
            if isinstance(sent, Died):
                node = self._nodes.pop(number, None)
                yield number, Died(f"on node {node}: {sent.how}") if node else sent
                continue
            message = cast("Message", pickle.loads(sent))
            if isinstance(message, Started):
                self._nodes[number] = message.node
            yield number, message

    def end(self) -> None:
        """End all actors at once, and leave the cluster. Ray ends if it was started for this run."""
        self._member.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        """Kill the process, and what it has started of Ray."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _joined(self, attempt: str, jobs: int | None) -> int:
        """The number of workers."""
        if not self._member.poll(JOIN_SECONDS):
            raise ResourceError(f"cannot {attempt}: it took more than {JOIN_SECONDS:.0f} s")
        try:
            answer: Fitting | str = self._member.recv()
        except (EOFError, OSError):
            raise ResourceError(f"cannot {attempt}: Ray ended by itself") from None
        if isinstance(answer, str):
            raise ResourceError(f"cannot {attempt}: {answer}")
        if not (jobs or answer.workers):
            raise ResourceError(f"the cluster is too small for a worker: it has {answer.has}; a worker needs {answer.needs}")
        return jobs or answer.workers

    def _received(self) -> tuple[int, bytes | Died]:
        try:
            return cast("tuple[int, bytes | Died]", self._member.recv())
        except (EOFError, OSError):
            raise ResourceError("the Ray cluster was lost: its head has ended, or cannot be reached any more; finished work is "
                                "kept, and the same command continues from there when the cluster is back") from None

    def _send(self, order: object) -> None:
        with suppress(OSError):  # it has ended, which is found out where it is heard
            self._member.send(order)


def _reach(address: str) -> None:
    """Raise ResourceError if nothing listens there. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise UsageError(f"--ray-address must be HOST:PORT, such as 10.0.0.1:6379, not {address!r}")
    try:
        socket.create_connection((host, int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ResourceError(f"cannot reach Ray at {address} ({why(error)}); is the head of the cluster running?") from error
