"""Computes items side by side on a CPU, each in one thread, so that no result depends on the number of threads.

Libraries that divide one item between threads add its numbers in another order for each number of threads. They are also slower:
the threads wait for each other many times an item.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock, Semaphore
from typing import Any, TypeVar

from msfser_cli import processors
from msfser_cli.background import start

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], items: Sequence[T], most: int | None = None) -> list[R]:
    """`function` of each item, in order. torch computes each item in one thread. Raises the first error of any item.

    most: the most items at the same time; None: as many as there are threads to compute with.
    """
    results: dict[int, R] = {}
    errors: list[BaseException] = []
    numbers = iter(range(len(items)))
    taking, ended = Lock(), Semaphore(0)

    def work() -> None:
        try:
            while not errors:
                with taking:
                    number = next(numbers, None)
                if number is None:
                    break
                results[number] = function(items[number])
        except BaseException as error:
            errors.append(error)
        ended.release()

    threads = min(most or processors.threads(), len(items))
    with one_thread():
        for _ in range(threads - 1):
            start(work)
        work()
        for _ in range(max(1, threads)):
            ended.acquire()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in one thread meanwhile, so that its last digits do not depend on the machine."""
    torch: Any = sys.modules.get("torch")  # what does without it should not load it
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
