"""Threads that are known to run: where memory is short, one may be started and never live, and whoever waits for it hangs."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

from msfser_cli.errors import ResourceError

ALIVE_WITHIN_SECONDS = 60.0


def start(work: Callable[[], object]) -> None:
    """Run `work` in a thread of its own, which does not keep the program from ending. ResourceError if it does not begin."""
    alive = threading.Event()

    def begin() -> None:
        alive.set()
        work()

    try:
        # `threading` would wait for the thread's first sign of life without end.
        _thread.start_new_thread(begin, ())
    except RuntimeError as error:
        raise ResourceError(f"no thread can be started: not enough memory, or too many processes ({error})") from error
    if not alive.wait(ALIVE_WITHIN_SECONDS):
        raise ResourceError("no thread can be started: not enough memory")
