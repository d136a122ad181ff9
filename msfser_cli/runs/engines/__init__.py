"""Who does the stages' work: this process, worker processes, or a cluster. The run alone writes.

`workforce` chooses. `serial` works in this process. `pool` hands recordings out to workers: `processes` on this machine, or the
actors of a Ray `cluster`, which a `member` joins for the run. `worker` is what either of them does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from msfser_cli.runs.task import Task


class Engine(Protocol):
    """Takes tasks through the stages."""

    def annotated(self, tasks: Iterable[Task]) -> Generator[Task, None, None]:
        """The tasks after the stages, with their ledger lines and rows, in any order.

        A recording that fails is among them. Raises what no recording is to blame for: ModelError, ResourceError, UsageError.
        """
        ...
