"""The process that joins a Ray cluster for a run, and the actors that it starts there.

Ray starts the actors and tells when one dies. It repeats nothing: the pool hands out again what an actor had in hand. What the
run and the actors send each other passes through as bytes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, cast

from msfser_cli import __version__, processors
from msfser_cli.background import start
from msfser_cli.errors import ModelError, MsfserError, ResourceError
from msfser_cli.runs import chain as chains
from msfser_cli.runs.engines.pool import Died
from msfser_cli.runs.engines.worker import Logged, Message, Orders, work
from msfser_cli.runs.task import Task

END_SECONDS = 20
"""After this time, a process that cannot leave the cluster is killed."""

PATIENCE_SECONDS = 30.0
"""If an actor has not started after this time, the user is told."""


class Site(NamedTuple):
    """What the nodes must have as well: this version of msfser, and, where paths are relative, the run's working directory.

    models_dir: the value of MSFSER_MODELS_DIR, for nodes that have none of their own.
    """

    version: str
    folder: Path
    models_dir: str | None


class Join(NamedTuple):
    """What the process is told first. address, cpus, gpus: as in `cluster.Cluster`.

    folder: for Ray's files, if there is no address. This process removes it as well, because the run may have been killed. cores:
    of this machine. memory_bytes: of a worker. site: where the run takes place.
    """

    address: str | None
    folder: str | None
    cores: int
    cpus: float
    gpus: float | None
    memory_bytes: int
    site: Site


class Fitting(NamedTuple):
    """The number of workers that fit into the cluster, and what it has and what a worker needs, in words."""

    workers: int
    has: str
    needs: str


class Start(NamedTuple):
    """Start an actor with this number. orders: an `Orders`."""

    number: int
    orders: bytes


class Give(NamedTuple):
    """Give tasks to an actor."""

    number: int
    tasks: bytes


def serve(descriptor: int) -> None:
    """Join a cluster for the run at the other end of a socket. When the run closes it, all actors end, and so does this process.

    It answers a `Join` with a `Fitting`, or the reason why it cannot join. Then it obeys `Start` and `Give`, and sends what the
    actors send, each with the actor's number: a `Message` as bytes, or `Died`.
    """
    connection = Connection(descriptor)
    orders: SimpleQueue[Start | Give | None] = SimpleQueue()
    join = cast("Join", connection.recv())

    def receive() -> None:
        with suppress(EOFError, OSError):
            while True:
                orders.put(connection.recv())
        signal.alarm(END_SECONDS)  # which ends this process, also if Ray hangs
        orders.put(None)

    start(receive)
    import ray
    from ray._private import services

    # Even without a dashboard, its process asks the network in which cloud it is.
    services.start_api_server = lambda *_, **__: (None, None)
    options: dict[str, Any] = {"address": join.address} if join.address else {
        "address": "local", "num_cpus": join.cores, "include_dashboard": False, "_temp_dir": join.folder}
    try:
        ray.init(**options, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
        member = _Member(ray, connection, join)
    except Exception as error:  # Ray has no class for what hinders it
        connection.send(" ".join(str(error).split()))
        return
    try:
        connection.send(member.fitting)
        asyncio.run(member.obey(orders))
    finally:
        ray.shutdown()
        if join.folder:
            shutil.rmtree(join.folder, ignore_errors=True)


class _Member:
    """Starts actors, and listens to each."""

    def __init__(self, ray: Any, connection: Connection, join: Join) -> None:
        self._ray, self._connection, self._join = ray, connection, join
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = join.gpus if join.gpus is not None else float(any(node.get("GPU") for node in nodes))
        needs = {"CPU": join.cpus, "GPU": gpus, "memory": join.memory_bytes}
        self._needs = {name: amount for name, amount in needs.items() if amount}
        fit = sum(int(min(node.get(name, 0) // amount for name, amount in self._needs.items())) for node in nodes)
        largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in self._needs}
        self.fitting = Fitting(fit, f"nodes with at most {_words(largest)}", _words(self._needs))
        self._actors: dict[int, Any] = {}
        self._listening: set[asyncio.Task[None]] = set()

    async def obey(self, orders: SimpleQueue[Start | Give | None]) -> None:
        while order := await asyncio.to_thread(orders.get):
            if isinstance(order, Start):
                self._listening.add(asyncio.create_task(self._start(order)))
            elif order.number in self._actors:
                self._actors[order.number].add.remote(order.tasks)

    async def _start(self, order: Start) -> None:
        """Start an actor, and send on what it sends until it dies."""
        number = order.number
        actor = self._actors[number] = self._ray.remote(_Actor).options(
            num_cpus=self._needs.get("CPU", 0), num_gpus=self._needs.get("GPU", 0), memory=self._needs["memory"],
            max_restarts=0, max_task_retries=0, max_concurrency=2,
        ).remote(order.orders, self._join.site, max(1, int(self._join.cpus)))  # fmt: skip
        warning = Logged("msfser", logging.WARNING, f"a worker has not started within {PATIENCE_SECONDS:.0f} s: the cluster may "
                         f"have no room for it ({self.fitting.needs}); msfser waits for it, and goes on with the others")
        late = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._send, number, pickle.dumps(warning))
        message: bytes | Died
        try:
            async for reference in cast("AsyncIterator[Any]", actor.messages.options(num_returns="streaming").remote()):
                message = await reference
                late.cancel()
                self._send(number, message)
            message = Died("it ended by itself")
        except self._ray.exceptions.RayError as error:
            message = _ending(str(error))
        except Exception as error:
            message = Died(f"{type(error).__name__}: {error}")
        late.cancel()
        del self._actors[number]
        with suppress(Exception):  # it may live on, unreachable, and keep the place of the next one
            self._ray.kill(actor)
        self._send(number, message)

    def _send(self, number: int, message: bytes | Died) -> None:
        with suppress(OSError):  # the run has ended
            self._connection.send((number, message))


class _Actor:
    """A worker on a node. It finds the models on its own machine, and does not work if they are others than those of the run."""

    def __init__(self, orders: bytes, site: Site, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        processors.settle_threads(os.environ, threads)
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._out: SimpleQueue[bytes] = SimpleQueue()
        self._node = socket.gethostname()
        with suppress(OSError):
            os.chdir(site.folder)
        if site.models_dir is not None:
            os.environ.setdefault("MSFSER_MODELS_DIR", site.models_dir)
        try:
            here = self._here(orders, site.version)
        except MsfserError as error:
            self._send(type(error)(f"on node {self._node}: {error}") if isinstance(error, ModelError) else error)
            return
        start(lambda: work(here, self._tasks, self._send))

    def add(self, tasks: bytes) -> None:
        for task in pickle.loads(tasks):
            self._tasks.put(task)

    def messages(self) -> Iterator[bytes]:
        while True:
            yield self._out.get()

    def _here(self, orders: bytes, version: str) -> Orders:
        """The orders with the models of this node. Raises ModelError if they are not those of the run."""
        if version != __version__:
            raise ModelError(f"it has msfser {__version__}, and the run has {version}; install the same on every node")
        wanted = cast("Orders", pickle.loads(orders))
        chain = chains.plan(wanted.chain.settings)
        ours, theirs = chain.identities(), wanted.chain.identities()
        if differing := sorted(role for role in ours.keys() | theirs.keys() if ours.get(role) != theirs.get(role)):
            what = "; ".join(f"{role}: {ours.get(role)}, in the run {theirs.get(role)}" for role in differing)
            raise ModelError(f"it has other models than the run ({what}); install the same on every node")
        beside = wanted.beside if wanted.beside and os.access(wanted.beside.parent, os.W_OK) else None
        return wanted._replace(chain=chain, beside=beside)

    def _send(self, message: Message) -> None:
        if isinstance(message, list):
            for task in message:
                if task.line.reason in ("missing", "unreadable"):
                    task.line.detail = f"{task.line.detail} (on node {self._node})"
        self._out.put(pickle.dumps(message))


def _words(amounts: dict[str, float]) -> str:
    """Such as `1 CPU, 0.5 GPU, 3.2 GB of memory`."""
    return ", ".join(f"{amount / 1e9:.1f} GB of memory" if name == "memory" else f"{amount:g} {name}"
                     for name, amount in amounts.items())


def _ending(error: str) -> bytes | Died:
    """How an actor ended, from Ray's account of it; an error, as a message, if it could not begin."""
    if "creation task" in error:
        what = error.splitlines()[-1].strip()
        return pickle.dumps(ResourceError(f"a worker cannot start on a node ({what}); install the same msfser on every node"))
    for account, how in _ENDINGS.items():
        if account in error:
            return Died(how)
    return Died("its process was killed")


_ENDINGS = {
    "low on memory": "Ray killed it because its node was short of memory",
    "node has died": "its node was lost",
    "unavailable": "its node cannot be reached",
}
