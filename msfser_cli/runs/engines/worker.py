"""The program of a worker process: receives tasks, takes them through the stages, and sends them back. Writes nothing.

It ends when the run ends. A run that is killed closes the connection, so that no worker outlives it.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, cast

from msfser_cli.backends.background import start
from msfser_cli.errors import innocent
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.serial import Serial
from msfser_cli.runs.stopping import SIGNALS
from msfser_cli.runs.task import Task

logger = logging.getLogger("msfser")


class Orders(NamedTuple):
    """What a worker is told first. log_level: the lowest level of the log records that it sends."""

    chain: Chain
    beside: Path
    log_level: int


class Logged(NamedTuple):
    """A log record of a worker, or a line that a library printed in it."""

    logger: str
    level: int
    message: str


class Loaded(NamedTuple):
    """The models are loaded."""


def serve(descriptor: int) -> None:
    """Work for the run at the other end of a socket, until it closes it."""
    for number in SIGNALS:  # the run decides when its workers end; a terminal signals all processes
        signal.signal(number, signal.SIG_IGN)
    link = _Link(Connection(descriptor))
    orders = cast("Orders", link.receive())
    if orders.log_level > logging.DEBUG:
        warnings.simplefilter("ignore")
    logging.basicConfig(handlers=[_Handler(link)], level=orders.log_level)
    sys.stderr = _Lines(link)
    tasks: SimpleQueue[Task] = SimpleQueue()

    def receive() -> None:
        while True:
            for task in cast("list[Task]", link.receive()):
                tasks.put(task)

    start(receive)
    try:
        engine = Serial(orders.chain, orders.beside, lambda: None, lambda: link.send(Loaded()))
        for task in engine.annotated(_each(tasks)):
            link.send(task.finished())
    except Exception as error:
        logger.debug("a worker process stops the run", exc_info=True)
        link.send(_portable(innocent(error)))


def _portable(error: Exception) -> Exception:
    """The error, or one with its text if a library made it in a way that cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _each(tasks: SimpleQueue[Task]) -> Iterator[Task]:
    while True:
        yield tasks.get()


class _Link:
    """The connection to the run. It ends this process when the run has ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def receive(self) -> object:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)

    def send(self, message: object) -> None:
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)


class _Handler(logging.Handler):
    def __init__(self, link: _Link) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        self._link.send(Logged(record.name, record.levelno, self.format(record)))


class _Lines(io.TextIOBase):
    """A stderr whose lines go to the run."""

    def __init__(self, link: _Link) -> None:
        self._link, self._begun = link, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._link.send(Logged("", logging.INFO, line))
        return len(text)
