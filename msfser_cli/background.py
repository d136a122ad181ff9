"""Work in threads beside the program's own.

If memory is short, a new thread may never begin, and waiting for it would hang. So each is started with a time limit.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Collection, Generator, Iterable
from itertools import islice
from typing import TypeVar

from msfser_cli.errors import ResourceError

ALIVE_WITHIN_SECONDS = 60.0

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def ahead(
    items: Iterable[Item], prepare: Callable[[Item], Result], threads: int, has_room: Callable[[int, Collection[Result]], bool]
) -> Generator[Result, None, None]:
    """The results of `prepare`, in the order of `items`. Threads prepare them ahead of the caller, one item each at a time.

    has_room: whether to take one more, from the number that are taken and not given yet, and those of them that are ready.

    If the caller stops early, the threads are abandoned, not joined: they may be decoding long files.
    """
    source = iter(items)
    ready: dict[int, tuple[Result] | BaseException | None] = {}  # None: there are no more
    taking, change = threading.Lock(), threading.Condition()
    taken = given = 0
    is_over = False

    def may_take() -> bool:
        return is_over or has_room(taken - given, [result[0] for result in ready.values() if isinstance(result, tuple)])

    def work() -> None:
        nonlocal taken
        result: tuple[Result] | BaseException | None = None
        while not is_over:
            with taking:
                with change:
                    change.wait_for(may_take)
                    number, taken = taken, taken + 1
                try:
                    found = [] if is_over else list(islice(source, 1))
                except BaseException as error:
                    found, result = [], error
            for item in found:
                try:
                    result = (prepare(item),)
                except BaseException as error:
                    result = error
            with change:
                ready[number] = result
                change.notify_all()
            if not isinstance(result, tuple):
                return
            result = None

    for _ in range(threads):
        start(work)
    try:
        while True:
            with change:
                while given not in ready:
                    change.wait()
                result = ready.pop(given)
                given += 1
                change.notify_all()
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result[0]
    finally:
        with change:
            is_over = True
            change.notify_all()
