"""INT, TERM and HUP end a run at the next safe moment; a second one ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from msfser_cli.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """Raises Stopped in the main thread when a signal comes, but never inside of a `postponed` block."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._postponed = False

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        """A block that a signal does not interrupt: it is raised at its end."""
        self._postponed = True
        try:
            yield
        finally:
            self._postponed = False
        if self._received:
            raise Stopped(self._received, self._received.name)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self._received:
            # The disk is consistent at every moment, so leaving at once is safe.
            os._exit(128 + number)
        self._received = signal.Signals(number)
        if not self._postponed:
            raise Stopped(self._received, self._received.name)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stopping]:
    """Handle `SIGNALS` for the block, except those that are ignored already (nohup); none outside of the main thread."""
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stopping.receive) for number in heard}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
