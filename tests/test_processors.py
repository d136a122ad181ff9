from __future__ import annotations

import os
from pathlib import Path

import pytest

from msfser_cli import processors

CORES = len(os.sched_getaffinity(0))
MOUNTS = """\
22 1 0:21 / /proc rw - proc proc rw
30 23 0:26 {root} /sys/fs/cgroup rw - {kind}
"""


def system(folder: Path, kind: str, group: str, root: str = "/", **files: str) -> Path:
    """A /proc and a /sys in which this process is in `group`, whose files are named with __ for / and _dot_ for a dot."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(("0::" if kind == "cgroup2" else "3:cpu,cpuacct:") + group + "\n9:pids:/elsewhere\n")
    about = "cgroup2 cgroup2 rw" if kind == "cgroup2" else "cgroup cgroup rw,cpu,cpuacct"
    (folder / "proc/self/mountinfo").write_text(MOUNTS.format(root=root, kind=about))
    for name, content in files.items():
        path = folder / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_the_affinity_counts_where_there_is_no_quota(tmp_path: Path) -> None:
    assert processors.available(tmp_path) == CORES
    assert processors.available(system(tmp_path, "cgroup2", "/a/b", a__b__cpu_dot_max="max 100000\n")) == CORES
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processors.available(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


ONE = {"OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.parametrize("group", ["/", "/a", "/a/b"])
def test_a_quota_of_any_group_around_the_process_counts(tmp_path: Path, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(48)))
    files = {"a__b__cpu_dot_max": "250000 100000", "a__cpu_dot_max": "450000 100000", "cpu_dot_max": "800000 100000"}
    place = system(tmp_path, "cgroup2", group, **files)
    assert processors.available(place) == {"/": 8, "/a": 5, "/a/b": 3}[group]


def test_a_quota_of_version_1_counts_also_as_a_container_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(48)))
    files = {"cpu_dot_cfs_quota_us": "50000\n", "cpu_dot_cfs_period_us": "100000\n"}
    assert processors.available(system(tmp_path / "1", "cgroup", "/docker/1f", root="/docker/1f", **files)) == 1
    assert processors.available(system(tmp_path / "2", "cgroup", "/docker/1f", **files)) == 1  # the group's folder is not there
    none = files | {"cpu_dot_cfs_quota_us": "-1\n"}
    assert processors.available(system(tmp_path / "3", "cgroup", "/", **none)) == 48


def test_free_memory_is_that_of_the_machine_or_of_the_smallest_group(tmp_path: Path) -> None:
    assert processors.free_memory(tmp_path / "nothing") is None
    files = {"memory_dot_max": "max", "a__memory_dot_max": "9000000", "a__memory_dot_current": "7000000",
             "a__memory_dot_stat": "anon 1\ninactive_file 500000\n"}  # fmt: skip
    place = system(tmp_path, "cgroup2", "/a", **files)
    assert processors.free_memory(place) == 2_500_000
    (place / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemFree: 1 kB\nMemAvailable:    2000 kB\n")
    assert processors.free_memory(place) == 2000 << 10
    files = {"memory_dot_limit_in_bytes": "1000000", "memory_dot_usage_in_bytes": "2000000", "memory_dot_stat": ""}
    old = system(tmp_path / "1", "cgroup", "/", **files)
    (old / "proc/self/cgroup").write_text("4:memory:/\n")
    (old / "proc/self/mountinfo").write_text(MOUNTS.format(root="/", kind="cgroup cgroup rw,memory"))
    assert processors.free_memory(old) == 0
    assert 0 < (processors.free_memory() or 0) < 1 << 50


def test_as_many_threads_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert processors.threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert processors.threads() == processors.available()


@pytest.mark.parametrize("value", ["abc", "0", "-1", "9999", "4,2", "1.5", "\N{SUPERSCRIPT TWO}", "1" * 5000])
@pytest.mark.parametrize("name", processors.THREAD_VARIABLES)
def test_a_thread_variable_that_makes_no_sense_is_told_and_replaced(name: str, value: str) -> None:
    variables = {name: value, "HOME": "/"}
    (warning,) = processors.settle_threads(variables, CORES)
    assert warning.startswith(f"{name} is {value[:50]!r}, not a whole number from 1 to {CORES}")
    assert variables == {"OMP_NUM_THREADS": str(CORES), "HOME": "/", **ONE}


def test_a_thread_variable_that_makes_sense_stays() -> None:
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": " 1 "}
    assert processors.settle_threads(variables, CORES) == []
    assert variables == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": " 1 ", **ONE}
    assert processors.settle_threads(variables := {"OMP_NUM_THREADS": ""}, CORES) == []
    assert variables == ONE


def test_a_quota_below_the_affinity_is_told_to_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(48)))
    variables: dict[str, str] = {}
    assert processors.settle_threads(variables, 3) == []
    assert variables == {"OMP_NUM_THREADS": "3", **ONE}


@pytest.mark.parametrize("value", ["2", "many", ""])
def test_numpy_computes_in_one_thread(value: str) -> None:
    variables = {"OPENBLAS_NUM_THREADS": value}
    assert processors.settle_threads(variables, CORES) == []
    assert variables == ONE
