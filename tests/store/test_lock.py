from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kit.store_rows import names_in
from msfser_cli.errors import OutputHeldError, ResourceError
from msfser_cli.store.lock import held

ROOT = Path(__file__).parent.parent.parent
HOLD = """
import sys, pathlib
from msfser_cli.store.lock import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
HOLD_AND_FORK = """
import os, sys, pathlib
from msfser_cli.store.lock import held
with held(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:
        print("held", flush=True)
        sys.stdin.readline()
        os._exit(0)
    os.wait()
"""
COUNT = """
import sys, pathlib
from msfser_cli.errors import OutputHeldError
from msfser_cli.store.lock import held
counter = pathlib.Path(sys.argv[1])
left = 40
while left:
    try:
        with held(counter):
            counter.write_text(str(int(counter.read_text()) + 1))
            left -= 1
    except OutputHeldError:
        pass
"""


def start(script: str, output: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock, or tries to."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script, str(output)], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)


@pytest.mark.process
def test_who_waits_gets_it_when_the_holder_is_done_or_dead(tmp_path: Path) -> None:
    output = tmp_path / "x.parquet"
    for end in (lambda holder: holder.stdin.close(), lambda holder: holder.kill()):
        with start(HOLD, output) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(OutputHeldError, match=f"process {holder.pid} on "), held(output, wait=0.2):
                pass
            timer = threading.Timer(0.3, end, [holder])
            timer.start()
            with held(output, wait=60):
                assert holder.wait(60) is not None
            timer.join()
    assert names_in(tmp_path) == set()


@pytest.mark.process
def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    output = tmp_path / "x.parquet"
    with start(HOLD, output) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputHeldError, match=re.escape(f"process {holder.pid} on ")) as caught, held(output):
            pass
        assert caught.value.exit_code == 6
        with held(tmp_path / "y.parquet"):
            pass
        holder.communicate("\n")
    with held(output):
        assert names_in(tmp_path) == {".x.parquet.lock"}
    assert names_in(tmp_path) == set()


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    output = tmp_path / "x"
    with held(output), pytest.raises(OutputHeldError), held(output):
        pass


@pytest.mark.process
def test_a_dead_holder_blocks_nobody(tmp_path: Path) -> None:
    output = tmp_path / "x.parquet"
    with start(HOLD, output) as holder:
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()
    assert names_in(tmp_path) == {".x.parquet.lock"}
    with held(output):
        pass
    assert names_in(tmp_path) == set()


@pytest.mark.process
def test_a_forked_worker_does_not_keep_its_dead_parents_lock(tmp_path: Path) -> None:
    output = tmp_path / "x.parquet"
    with start(HOLD_AND_FORK, output) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(OutputHeldError), held(output):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        with held(output):  # while the worker is alive: it reads from our pipe
            pass
        assert holder.stdin
        holder.stdin.write("\n")


@pytest.mark.process
def test_one_at_a_time_among_many(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [start(COUNT, counter) for _ in range(6)]
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    assert counter.read_text() == "240"
    assert names_in(tmp_path) == {"counter"}


def test_a_lock_on_a_file_that_was_removed_meanwhile_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder left between our opening it and our locking it: others would lock a new file."""
    output, lock, flock = tmp_path / "x", tmp_path / ".x.lock", fcntl.flock
    lock.touch()
    calls: list[int] = []

    def late(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            lock.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with held(output):
        assert len(calls) == 2
        with pytest.raises(OutputHeldError), held(output):
            pass
    assert names_in(tmp_path) == set()


def test_the_file_is_gone_before_the_lock_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards it might be another's, who then would hold a file without a name."""
    was_there: list[bool] = []
    close = os.close

    def closing(descriptor: int) -> None:
        was_there.append((tmp_path / ".x.lock").exists())
        close(descriptor)

    with held(tmp_path / "x"):
        monkeypatch.setattr(os, "close", closing)
    monkeypatch.undo()
    assert was_there == [False]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_the_file_says_is_only_for_people(tmp_path: Path, content: bytes) -> None:
    output = tmp_path / "x"
    lock = tmp_path / ".x.lock"
    lock.write_bytes(content)
    with held(output):
        lock.write_bytes(content)
        with pytest.raises(OutputHeldError, match="holder unknown"), held(output):
            pass


@pytest.mark.parametrize("number", [
    errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO, errno.EPERM, errno.EACCES, errno.EBADF, 524,
])  # fmt: skip
def test_a_file_system_without_locks_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ResourceError, match=r"\.x\.lock: the file system offers no locks \("), held(tmp_path / "x"):
        pass
    assert names_in(tmp_path) == set()
