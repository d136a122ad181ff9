"""A run that the machine refuses something says so in a sentence, leaves what was published, and goes on when it is given."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.crash_runs import LAYOUTS, SCENARIOS, STAGES, Case, leftovers
from kit.nursery import REFUSES
from kit.program import Run

Cases = Callable[[str, str, str], Case]
Trials = Callable[[str, int], Iterator[int]]


def spread(seed: int, count: int) -> int:
    """One of 0..count-1; few seeds are far apart, and many go everywhere."""
    return int(seed * 0.6180339887 % 1 * count)


def some_case(case: Cases, turn: int, layout: str) -> Case:
    return case(STAGES[turn % 5], layout, list(SCENARIOS)[turn // 5 % 4])


def ends_in_order(case: Case, run: Run, reason: str, *others: int) -> bool:
    """Whether it was refused, in one sentence with the reason; if not, it was of no consequence, or ended with another code."""
    code = run.ended()
    assert "Traceback" not in run.said
    assert "a bug" not in run.said
    case.readers_are_served()
    if code in (case.code, *others):
        return False
    assert code == 7, f"{code}: {run.said}"
    last = run.said.splitlines()[-1]
    assert last.startswith("msfser: ")
    assert reason in last, run.said
    return True


@pytest.mark.one_in(3)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reason", REFUSES)
def test_one_operation_after_the_other_is_refused(case: Cases, trials: Trials, reason: str, layout: str) -> None:
    refused = 0
    for seed in trials("an operation on the disk is refused", 3):
        c = some_case(case, seed + list(REFUSES).index(reason) * 3, layout)
        possible = [number for number, name in enumerate(c.operations) if name.split()[0] in REFUSES[reason]]
        which, lasting, before = spread(seed + 1, len(possible)), seed % 2 == 0, c.published()
        run = c.stopped(reason, which + 1, lasting=lasting)
        failed = ends_in_order(c, run, os.strerror(getattr(errno, reason)))
        refused += failed
        done, name = c.operations[: possible[which]], c.operations[possible[which]]
        if failed and not any(did == "rename x" or did.startswith(("rename x.parquet", "rename x/")) for did in done):
            assert c.published() == before
        if failed and not lasting and name.split()[0] in ("create", "write", "half", "sync", "rename"):
            # A folder of parts that is no longer needed gets another name first: what is removed by halves is not one any more.
            discarded = {left for left in leftovers(c.folder) if name == "sync ." and left.startswith(f".{c.out.name}.tmp-")}
            assert leftovers(c.folder) - discarded <= {f".{c.out.name}.parts"}
        c.finish()
    assert refused


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB and 64 files."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=64", "small", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def move_to(disk: Path, case: Case) -> Path:
    """The output lies on the disk now. Returns a place there for other things."""
    for path in disk.iterdir():
        shutil.rmtree(path)
    shutil.move(case.folder, disk / "out")
    case.folder.symlink_to(disk / "out")
    (disk / "others").mkdir()
    return disk / "others"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_disk_is_full(case: Cases, trials: Trials, small_disk: Path, layout: str) -> None:
    refused = 0
    for seed in trials("the disk is full", 6):
        c = some_case(case, seed, layout)
        others = move_to(small_disk, c)
        if seed % 4:
            with (others / "blocks").open("wb", buffering=0) as file:
                free = os.statvfs(others).f_bfree - spread(seed, 40)
                file.write(bytes(max(0, free) * os.statvfs(others).f_bsize))
        else:
            for number in range(os.statvfs(others).f_ffree - spread(seed, 6)):
                (others / str(number)).touch()
        run = c.start()
        refused += ends_in_order(c, run, "No space left on device")
        shutil.rmtree(others)
        c.finish()
    assert refused


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_may_not_grow(case: Cases, trials: Trials, layout: str) -> None:
    refused = 0
    for seed in trials("files may not grow", 5):
        c = some_case(case, seed, layout)
        largest = max(map(len, c.published().values()), default=20_000)
        run = c.start(limits={"RLIMIT_FSIZE": 2048 + spread(seed, largest)})
        refused += ends_in_order(c, run, "File too large")
        c.finish()
    assert refused


@pytest.mark.parametrize("layout", LAYOUTS)
def test_few_files_may_be_open(case: Cases, trials: Trials, layout: str) -> None:
    refused = 0
    for seed in trials("few files may be open", 5):
        c = some_case(case, seed, layout)
        run = c.start(limits={"RLIMIT_NOFILE": 4 + spread(seed, 10)})
        refused += ends_in_order(c, run, "Too many open files")
        c.finish()
    assert refused


def test_the_disk_is_read_only(case: Cases, trials: Trials, small_disk: Path) -> None:
    for seed in trials("the disk is read-only", 2):
        c = some_case(case, seed, LAYOUTS[seed % 2])
        move_to(small_disk, c)
        before = c.published()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        try:
            assert ends_in_order(c, c.start(), "Read-only file system")
            assert c.published() == before
        finally:
            subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        c.finish()


def test_this_user_may_not_write(case: Cases, trials: Trials, home: Path, stoppable: int) -> None:
    home.chmod(0o755)
    for seed in trials("this user may not write", 2):
        c = some_case(case, seed, LAYOUTS[seed % 2])
        before = c.published()
        c.folder.chmod(0o555)
        run = c.start(user=stoppable) if os.geteuid() == 0 else c.start()
        assert ends_in_order(c, run, "Permission denied")
        assert c.published() == before
        c.folder.chmod(0o755)
        c.finish()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_is_short(case: Cases, trials: Trials, layout: str) -> None:
    refused = 0
    for seed in trials("memory is short", 5):
        chance = random.Random(seed)
        c = some_case(case, seed, layout)
        run = c.start(room=round(2 ** chance.uniform(16, 29 if seed else 20)))  # the first has too little for any run
        # Libraries that are not Python give up in their own way.
        refused += ends_in_order(c, run, "memory", -signal.SIGABRT, -signal.SIGSEGV)
        c.finish()
    assert refused
