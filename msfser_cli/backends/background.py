"""Starts a thread and checks that it runs.

If memory is short, a new thread may never begin, and waiting for it would hang.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

from msfser_cli.errors import ResourceError

ALIVE_WITHIN_SECONDS = 60.0


def start(work: Callable[[], object]) -> None:
    """Run `work` in a new thread. The program may end before `work` does. Raises ResourceError if the thread does not begin."""
    alive = threading.Event()

    def begin() -> None:
        alive.set()
        work()

    try:
        # `threading` would wait for the start of the thread without a time limit.
        _thread.start_new_thread(begin, ())
    except RuntimeError as error:
        raise ResourceError(
            f"cannot start a thread: not enough memory, or too many processes ({error}); end other programs and run it again"
        ) from error
    if not alive.wait(ALIVE_WITHIN_SECONDS):
        raise ResourceError("cannot start a thread: not enough memory; end other programs and run it again")
