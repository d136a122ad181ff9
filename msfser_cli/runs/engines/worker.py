"""What a worker does: receives tasks, takes them through the stages, and sends them back. It writes nothing."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, cast

from msfser_cli.background import start
from msfser_cli.errors import innocent
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.serial import Serial
from msfser_cli.runs.stopping import SIGNALS
from msfser_cli.runs.task import Task

logger = logging.getLogger("msfser")


class Orders(NamedTuple):
    """What a worker is told first. beside: as in `Serial`. log_level: the lowest level of the log records that it sends."""

    chain: Chain
    beside: Path | None
    log_level: int


class Started(NamedTuple):
    """The worker takes tasks now. node: the name of its machine."""

    node: str


class Loaded(NamedTuple):
    """The models are loaded."""


class Logged(NamedTuple):
    """A log record of a worker, or, without a logger, a line that a library printed in it."""

    logger: str
    level: int
    message: str


Message = list[Task] | Started | Loaded | Logged | Exception
"""What a worker sends: finished tasks, or an error that no recording is to blame for, after which it does nothing more."""


def work(orders: Orders, tasks: SimpleQueue[Task], send: Callable[[Message], None]) -> None:
    """Take tasks through the stages for ever, and send what becomes of them."""
    if orders.log_level > logging.DEBUG:
        warnings.simplefilter("ignore")
    logging.basicConfig(handlers=[_Handler(send)], level=orders.log_level, force=True)
    sys.stderr = _Lines(send)
    send(Started(socket.gethostname()))
    try:
        for batch in Serial(orders.chain, orders.beside, lambda: None, lambda: send(Loaded())).batches(_each(tasks)):
            send([task.finished() for task in batch])
    except Exception as error:
        logger.debug("a worker process stops the run", exc_info=True)
        send(_portable(innocent(error)))


def serve(descriptor: int) -> None:
    """Work for the run at the other end of a socket. If the run closes it, this process ends: no worker outlives a run."""
    for number in SIGNALS:  # the run decides when its workers end; a terminal signals all processes
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    tasks: SimpleQueue[Task] = SimpleQueue()
    # One thread sends: the garbage collector may run anywhere, also while a message is sent, and what it ends may log.
    messages: SimpleQueue[Message] = SimpleQueue()

    def send_messages() -> None:
        while True:
            message = messages.get()
            try:
                data = pickle.dumps(message)
            except Exception as error:
                data = pickle.dumps(_portable(error))
            try:
                connection.send_bytes(data)
            except OSError:
                os._exit(0)

    def receive() -> object:
        try:
            return connection.recv()
        except (EOFError, OSError):
            os._exit(0)

    def receive_tasks() -> None:
        while True:
            for task in cast("list[Task]", receive()):
                tasks.put(task)

    orders = cast("Orders", receive())
    start(receive_tasks)
    start(send_messages)
    work(orders, tasks, messages.put)
    signal.pause()  # the run has the error, and ends this process


def _each(tasks: SimpleQueue[Task]) -> Iterator[Task]:
    while True:
        yield tasks.get()


def _portable(error: Exception) -> Exception:
    """The error, or one with its text if a library made it in a way that cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Handler(logging.Handler):
    def __init__(self, send: Callable[[Message], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Logged(record.name, record.levelno, self.format(record)))


class _Lines(io.TextIOBase):
    """A stderr whose lines go to the run."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send, self._begun = send, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._send(Logged("", logging.INFO, line))
        return len(text)
