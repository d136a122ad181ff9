"""The processors and the memory that this process may use, and the variables that set the number of threads.

`os.cpu_count()` and OpenMP ignore the quota of a container. Threads beyond the quota only wait for each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def available(system: Path = Path("/")) -> int:
    """The number of processors that this process may use: the lower of its affinity and its control groups' quota; at least 1.

    A quota is rounded up to whole processors. system: the folder that holds /proc, for tests.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(system))]))


def threads() -> int:
    """The number of threads to compute with: `OMP_NUM_THREADS`, which `settle_threads` checks, else the number of processors."""
    return int(os.environ.get("OMP_NUM_THREADS") or available())


def free_memory(system: Path = Path("/")) -> int | None:
    """The bytes of memory that this process may still take: of the machine, or of its control groups if they have less.

    None if it cannot be found out.
    """
    free = list(_free_in_groups(system))
    with suppress(OSError, ValueError, IndexError):
        about = dict(line.split(":", 1) for line in (system / "proc/meminfo").read_text().splitlines())
        free.append(int(about["MemAvailable"].split()[0]) << 10)
    return max(0, min(free)) if free else None


def has_gpu() -> bool:
    """Whether this machine has a GPU that this process may use. It is found out without torch, which takes seconds to import."""
    return any(Path("/dev").glob("nvidia[0-9]*")) and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def settle_threads(variables: MutableMapping[str, str], cores: int) -> list[str]:
    """Correct the thread variables before the libraries read them. Returns a warning for each wrong value.

    A value that is not a whole number from 1 to `cores` becomes `cores`. With such a value some libraries fail and others hang.
    numpy's OpenBLAS gets one thread: the last bits of its sums, of the log-mel frames for example, depend on the number.
    """
    variables["OPENBLAS_NUM_THREADS"] = "1"
    warnings = []
    for name in THREAD_VARIABLES:
        value = variables.get(name)
        if value is not None and not (value.strip().isascii() and value.strip().isdigit() and 1 <= int(value[:20]) <= cores):
            if value.strip():
                warnings.append(f"{name} is {value[:50]!r}, not a whole number from 1 to {cores}: msfser uses {cores}")
            del variables[name]
    if "OMP_NUM_THREADS" not in variables and (warnings or cores < len(os.sched_getaffinity(0))):
        variables["OMP_NUM_THREADS"] = str(cores)
    return warnings


def _quotas(system: Path) -> Iterator[float]:
    """The quota of each control group of this process, in processors."""
    for folder in _groups(system, "cpu"):
        quota = _quota(folder)
        if quota is not None:
            yield quota


def _free_in_groups(system: Path) -> Iterator[int]:
    """The bytes that each control group of this process may still take."""
    for folder in _groups(system, "memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with suppress(OSError, ValueError):  # "max": no limit
                about = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                cached = int(about.get("inactive_file", 0))  # the kernel gives these pages up
                yield int((folder / limit).read_text()) - int((folder / used).read_text()) + cached


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups with a controller, from the innermost group to the outermost."""
    groups: dict[str, str] = {}  # by controller; version 2 has one controller with an empty name
    with suppress(OSError):
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups |= dict.fromkeys(controllers.split(","), path)
    mounts: list[str] = []
    with suppress(OSError):
        mounts = (system / "proc/self/mountinfo").read_text().splitlines()
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        root, place = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            group = groups.get("" if kind == "cgroup2" else controller, "/")
            yield from _upwards(system / place.lstrip("/"), root, group)


def _upwards(mounted: Path, root: str, group: str) -> Iterator[Path]:
    """The folders of a group and of the groups around it. In a container the group may have its name on the host."""
    inside = PurePosixPath(group)
    inside = inside.relative_to(root) if inside.is_relative_to(root) and ".." not in inside.parts else PurePosixPath()
    for path in (inside, *inside.parents):
        yield mounted / path


def _quota(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (folder / "cpu.max").is_file():  # version 2: "150000 100000", or "max 100000"
            quota, period = (folder / "cpu.max").read_text().split()
            return int(quota) / int(period)
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
