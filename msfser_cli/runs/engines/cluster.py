"""Workers as Ray actors, on this machine or on all nodes of a cluster.

Ray starts the actors and tells when one dies. It repeats nothing: the pool hands out again what an actor had in hand.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from msfser_cli import __version__, processors
from msfser_cli.backends.background import start
from msfser_cli.errors import ModelError, MsfserError, ResourceError, UsageError
from msfser_cli.runs import chain as chains
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.pool import Died, Event
from msfser_cli.runs.engines.processes import memory_of
from msfser_cli.runs.engines.worker import Message, Orders, work
from msfser_cli.runs.stopping import SIGNALS
from msfser_cli.runs.task import Task

_LOOK_SECONDS = 1.0  # how often signals are looked for while no actor has anything to tell


class Cluster:
    """Starts Ray actors.

    address: of a cluster to join; None: Ray is started on this machine, for this run. cpus, gpus: what each worker gets; a
    fraction shares one; None: one GPU if the cluster has any. most: the number of workers that fit into the cluster. Raises
    UsageError if Ray is not installed, ResourceError if the cluster cannot be reached or is too small for one worker.
    """

    def __init__(self, chain: Chain, beside: Path, address: str | None, cpus: float, gpus: float | None) -> None:
        self._ray = _ray()
        self._orders = Orders(chain, beside, logging.getLogger().getEffectiveLevel())
        self._actors: dict[int, Any] = {}
        self._streams: dict[Any, int] = {}
        self._count = 0
        options: dict[str, Any] = {"address": address} if address else {
            "address": "local", "num_cpus": processors.available(), "include_dashboard": False}
        try:
            with _own_signals():
                self._ray.init(**options, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray has no class for it
            raise ResourceError(f"cannot {'join Ray at ' + address if address else 'start Ray'}: {error}") from error
        cluster = self._ray.cluster_resources()
        if gpus is None:
            gpus = 1.0 if cluster.get("GPU") else 0.0
        self._wanted = {"CPU": cpus, "GPU": gpus, "memory": memory_of(chain)}
        self.most = int(min(cluster.get(name, 0) // amount for name, amount in self._wanted.items() if amount))
        if not self.most:
            self.end()
            has = ", ".join(f"{cluster.get(name, 0):g} {name}" for name in self._wanted)
            wants = ", ".join(f"{amount:g} {name}" for name, amount in self._wanted.items())
            raise ResourceError(f"the cluster is too small for a worker: it has {has}; a worker needs {wants}")

    def start(self, workers: int) -> int:
        """Start an actor, one of so many. Returns its number."""
        self._count += 1
        options = {"num_cpus": self._wanted["CPU"], "num_gpus": self._wanted["GPU"], "memory": self._wanted["memory"],
                   "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        orders = self._orders._replace(chain=self._orders.chain.shared_by(workers))
        threads = max(1, int(self._wanted["CPU"]))
        actor = self._ray.remote(_Actor).options(**options).remote(orders, Path.cwd(), threads, __version__)
        self._actors[self._count] = actor
        self._streams[actor.messages.options(num_returns="streaming").remote()] = self._count
        return self._count

    def give(self, worker: int, tasks: list[Task]) -> None:
        """Give a shard to an actor."""
        self._actors[worker].add.remote(tasks)

    def events(self) -> Iterator[tuple[int, Event]]:
        """Wait until an actor has something to tell, and yield what all have to tell now."""
        ready: list[Any] = []
        while not ready:
            ready, _ = self._ray.wait(list(self._streams), num_returns=1, timeout=_LOOK_SECONDS)
        more, _ = self._ray.wait(list(self._streams), num_returns=len(self._streams), timeout=0)
        for stream in more:
            number = self._streams[stream]
            try:
                yield number, self._ray.get(next(stream))
            except (StopIteration, self._ray.exceptions.RayError) as error:
                del self._streams[stream], self._actors[number]
                yield number, Died(" ".join(str(error).split())[:200] or "its node was lost")

    def end(self) -> None:
        """End all actors at once, and leave the cluster."""
        for actor in self._actors.values():
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(actor)
        self._ray.shutdown()


class _Actor:
    """A worker on a node. It finds the models on its own machine, and does not work if they are others than those of the run."""

    def __init__(self, orders: Orders, folder: Path, threads: int, version: str) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._out: SimpleQueue[Message] = SimpleQueue()
        self._node = socket.gethostname()
        with suppress(OSError):
            os.chdir(folder)  # models and heads may be named relative to it
        try:
            here = orders._replace(chain=self._chain(orders.chain, version))
        except MsfserError as error:
            self._out.put(type(error)(f"on node {self._node}: {error}") if isinstance(error, ModelError) else error)
            return
        if here.beside and not here.beside.parent.is_dir():
            here = here._replace(beside=None)
        start(lambda: work(here, self._tasks, self._send))

    def add(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._tasks.put(task)

    def messages(self) -> Iterator[Message]:
        while True:
            yield self._out.get()

    def _chain(self, wanted: Chain, version: str) -> Chain:
        """The chain with the models of this node. Raises ModelError if they are not those of the run."""
        chain = chains.plan(wanted.settings)
        ours, theirs = chain.identities() | {"msfser": __version__}, wanted.identities() | {"msfser": version}
        differing = sorted(role for role in ours.keys() | theirs.keys() if ours.get(role) != theirs.get(role))
        if differing:
            what = "; ".join(f"{role}: {ours.get(role)}, in the run {theirs.get(role)}" for role in differing)
            raise ModelError(f"it has other models than the run ({what}); install the same on every node")
        return chain

    def _send(self, message: Message) -> None:
        if isinstance(message, list):
            for task in message:
                if task.line.reason in ("missing", "unreadable"):
                    task.line.detail = f"{task.line.detail} (on node {self._node})"
        self._out.put(message)


def _ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reports its use otherwise
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'msfser[ray]'") from error
    return ray


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals, which Ray replaces by its own."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
