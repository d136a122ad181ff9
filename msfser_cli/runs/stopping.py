"""The signals INT, TERM and HUP end a run at the next safe moment. A second signal ends it at once.

The first signal raises Stopped in the main thread. If that is inside a library, the library may catch it or raise another error
instead. So code that continues after a library's work calls `check` first. If a signal has come, any error that ends a block of
`stop_on_signals` becomes Stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from msfser_cli.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_active: Stopping | None = None


class Stopping:
    """Raises Stopped in the main thread when a signal comes. Inside a `postponed` block, it waits for the end of the block."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._postponed = False

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        """A block that signals do not interrupt. If one comes, Stopped is raised at the end of the block."""
        self._postponed = True
        try:
            yield
        finally:
            self._postponed = False
        self.check()

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self._received:
            raise Stopped(self._received, self._received.name)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self._received:
            # Files on disk are consistent at every moment, so an immediate exit is safe.
            os._exit(128 + number)
        self._received = signal.Signals(number)
        if not self._postponed:
            self.check()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stopping]:
    """Handle `SIGNALS` in the block, except signals that the process ignores (nohup). In other threads, this has no effect.

    A block inside another one does not set handlers of its own. The outer block handles signals until its end.
    """
    global _active
    in_main = threading.current_thread() is threading.main_thread()
    outermost = in_main and _active is None
    stopping = _active if in_main and _active else Stopping()
    before: dict[signal.Signals, Any] = {}
    if outermost:
        _active = stopping
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stopping.receive) for number in handled}
    try:
        yield stopping
    except Stopped:
        raise
    except Exception:
        stopping.check()
        raise
    finally:
        if outermost:
            _active = None
            for number, handler in before.items():
                signal.signal(number, handler)
