"""The stages in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from msfser_cli import processors
from msfser_cli.runs.ahead import ahead, batches
from msfser_cli.runs.annotate import annotate
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.task import Task, prepare
from msfser_cli.stages.work import Step

MOST_DECODERS = 8


def decoders() -> int:
    """The number of recordings that are decoded at once. Beside a GPU, one decoder could not keep up."""
    return max(1, min(MOST_DECODERS, processors.available() // 2)) if processors.has_gpu() else 1


class Serial:
    """Runs the stages in this process, batch after batch. The models are loaded when the first recording is pending.

    beside: decoded samples lie beside it; absolute, because a back end may change the working directory; None: in the system's
    folder for temporary files. check: raises if a signal came: an error that a library raises then is not a failure. loaded: is
    called when the models are loaded.
    """

    def __init__(
        self, chain: Chain, beside: Path | None, check: Callable[[], None], loaded: Callable[[], None] = lambda: None
    ) -> None:
        self._chain, self._beside, self._check, self._loaded = chain, beside, check, loaded
        self._steps: list[Step] = []

    def annotated(self, tasks: Iterable[Task]) -> Generator[Task, None, None]:
        """The tasks after the stages, in order."""
        with contextlib.closing(self.batches(tasks)) as done:
            for batch in done:
                yield from batch

    def batches(self, tasks: Iterable[Task]) -> Generator[list[Task], None, None]:
        """The tasks after the stages, in order, batch after batch. Threads prepare the next ones meanwhile."""
        with contextlib.closing(ahead(tasks, lambda task: prepare(task, self._chain, self._beside), decoders())) as prepared:
            for batch in batches(self._loading(prepared)):
                annotate(batch, self._chain, self._steps, self._check)
                self._check()
                yield batch

    def _loading(self, prepared: Iterable[Task]) -> Iterator[Task]:
        """The tasks. Before the first one that is pending, the models are loaded, while others are prepared."""
        for task in prepared:
            if task.is_pending and not self._steps:
                self._steps = self._chain.load()
                self._loaded()
            yield task
