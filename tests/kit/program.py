"""Running msfser as a user does: from a process that has imported it once, or in one that starts afresh."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import nursery as nursery_program
from kit.places import DOUBLES

MAIN = "from msfser_cli.cli.app import main; main()"
AFRESH = (sys.executable, "-c", MAIN)
"""The command that starts msfser, without what was imported before: a second of work more for each run than the nursery's."""

Done = subprocess.CompletedProcess[str]


def run_afresh(folder: Path, *arguments: str, stdin: str = "", code: int | None = None, **environment: str) -> Done:
    """Run msfser in `folder`, in a process that starts afresh; `code` is the exit code that it must have, if any."""
    done = subprocess.run([*AFRESH, *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})  # fmt: skip
    assert code in (None, done.returncode), done.stderr
    return done


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Nursery:
    """Starts runs of msfser in processes of their own, which are forks of one that has imported it: see `kit.nursery`."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(DOUBLES), os.environ["PYTHONPATH"]])
        self._process = subprocess.Popen(
            [sys.executable, nursery_program.__file__], env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, command: list[str], folder: Path, said: Path, **more: Any) -> Run:
        """Start `msfser COMMAND` in `folder`; `more` as in `kit.nursery`."""
        request = {"command": command, "folder": str(folder), "said": str(said), "environment": dict(os.environ), **more}
        return Run(self, self.ask(request), said)

    def close(self) -> None:
        """End it and all that it started, also what is paused or hangs while it is waited for."""
        with self._process:
            os.killpg(self._process.pid, signal.SIGKILL)


@dataclass
class Run:
    """A process that was started, and what it has said."""

    nursery: Nursery
    pid: int
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Its exit code, minus the signal that ended it."""
        status = self.nursery.ask({"wait": self.pid})
        assert not os.WIFSTOPPED(status), "it has paused"
        return os.waitstatus_to_exitcode(status)

    def pauses(self) -> bool:
        """Whether it comes to a pause, and has not ended."""
        return os.WIFSTOPPED(self.nursery.ask({"wait": self.pid}))

    def goes_on(self) -> None:
        self.signal(signal.SIGCONT)


@dataclass
class Program:
    """msfser, run by a nursery and waited for."""

    nursery: Nursery

    def __call__(self, folder: Path, *arguments: str | bytes, stdin: str | bytes = "", code: int | None = None,
                 **more: Any) -> Done:  # fmt: skip
        """Run it in `folder`, with the environment that the test has now; `code` is the exit code that it must have, if any."""
        command = [os.fsdecode(argument) for argument in arguments]
        with tempfile.TemporaryDirectory() as place:
            said, out, given = (Path(place) / name for name in ("stderr", "stdout", "stdin"))
            given.write_bytes(os.fsencode(stdin))  # which leaves bytes as they are
            run = self.nursery.start(command, folder, said, out=str(out), stdin=str(given), **more)
            ended = run.ended()
            done = subprocess.CompletedProcess(command, ended, *(os.fsdecode(p.read_bytes()) for p in (out, said)))
        assert code in (None, ended), done.stderr
        return done
