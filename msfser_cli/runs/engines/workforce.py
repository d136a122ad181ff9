"""Who does the work of a run: the run itself, worker processes, or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msfser_cli.errors import UsageError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines import Engine
from msfser_cli.runs.engines.cluster import Cluster
from msfser_cli.runs.engines.pool import Pool
from msfser_cli.runs.engines.processes import Processes, most
from msfser_cli.runs.engines.serial import Serial

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Workforce:
    """The user's choice.

    jobs: the number of workers; 0: the run works alone; None: as many as serve this machine, or as fit into the cluster.
    kind: one of `ENGINES`. ray_address, cpus, gpus: as in `Cluster`. Raises UsageError for another kind, and for settings of a
    cluster without one.
    """

    jobs: int | None = None
    kind: str = "local"
    ray_address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ENGINES:
            raise UsageError(f"engine must be one of {', '.join(ENGINES)}, not {self.kind!r}")
        if self.kind != "ray" and (self.ray_address, self.cpus, self.gpus) != (None, 1.0, None):
            raise UsageError("--ray-address, --worker-cpus and --worker-gpus need --engine ray")
        if self.kind == "ray" and self.jobs == 0:
            raise UsageError("--engine ray needs workers; leave out --jobs 0")

    def engine(self, chain: Chain, beside: Path, check: Callable[[], None]) -> Engine:
        """The engine for a run. Its arguments are those of `Serial`."""
        if self.kind == "ray":
            cluster = Cluster(chain, beside, self.ray_address, self.jobs, self.cpus, self.gpus)
            return Pool(cluster, cluster.most)
        if self.jobs == 0 or (self.jobs is None and not chain.needs_audio):  # vectors are scored before a worker has started
            return Serial(chain, beside, check)
        return Pool(Processes(chain, beside), self.jobs or most(chain))


ALONE = Workforce(0)
