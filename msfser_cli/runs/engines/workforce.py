"""Who does the work of a run: the run itself, or worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines import Engine
from msfser_cli.runs.engines.pool import Pool
from msfser_cli.runs.engines.processes import Processes, most
from msfser_cli.runs.engines.serial import Serial


@dataclass(frozen=True)
class Workforce:
    """The user's choice. jobs: the number of worker processes; 0: the run works alone; None: as many as serve this machine."""

    jobs: int | None = None

    def engine(self, chain: Chain, beside: Path, check: Callable[[], None]) -> Engine:
        """The engine for a run. Its arguments are those of `Serial`."""
        if self.jobs == 0:
            return Serial(chain, beside, check)
        return Pool(Processes(chain, beside), self.jobs or most(chain))


ALONE = Workforce(0)
