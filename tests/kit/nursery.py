"""The program, imported once: each run is a fork, a process of its own that starts and ends as the program does.

    python nursery.py

reads requests from stdin, one JSON object a line, and answers each with one line: the process id of a run that it started, or,
asked to `wait` for one, its wait status once it has ended or paused. What a run may be asked beside its `command`:

    folder          where it works
    said, out       the file that takes its stderr, and the one that takes its stdout, where that is another
    stdin           the file that it reads as stdin, if any
    environment     all its variables
    part            a part for so many recordings, instead of every 256
    watch           the folder in which its operations on the disk are counted, and named as `Watch.name` does; loading the models
                    and annotating a recording count, too
    log             a file that takes their names
    at              [how, number, names]: at the operation of this number, of those with one of these names if there are any,
                    `how` is "kill": SIGKILL; "pause": SIGSTOP, so that the test has time to look; or the name of an errno
    lasting         it happens at all that follow, too
    limits, room    resource limits by name; so many bytes of memory more than it has already
    user            the user that it is, by number
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import json
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPACE = {"create", "write", "half", "sync", "rename", "mkdir"}
NAMES = {"create", "rename", "remove", "mkdir", "rmdir"}
READS = {"read", "list"}
REFUSES = {
    "ENOSPC": SPACE,
    "EDQUOT": SPACE,
    "EIO": SPACE | NAMES | {"truncate", "lock"},
    "EROFS": NAMES,
    "EACCES": NAMES,
    "EMFILE": {"create"} | READS,
}
"""Which operations the system may refuse for which reason."""

_EVENTS = {"os.rename": "rename", "os.remove": "remove", "os.rmdir": "rmdir", "os.mkdir": "mkdir", "os.truncate": "truncate",
           "os.listdir": "list", "os.scandir": "list", "fcntl.flock": "lock"}  # fmt: skip


class Watch:
    """Sees each operation on the disk before it is done, and stops the run at one of them."""

    def __init__(self, folder: str, at: tuple[str, int, list[str]], *, lasting: bool, log: str | None) -> None:
        self._folder = folder
        self._how, self._number, self._names = at
        self._lasting = lasting
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._count = 0

    def name(self, kind: str, path: str) -> str:
        """Its kind and its path below the folder, without what is drawn at random."""
        return f"{kind} {re.sub('tmp-[0-9a-f]{8}', 'tmp', os.path.relpath(path, self._folder))}"

    def operation(self, kind: str, path: Any, descriptor: int = -1) -> None:
        """One is about to be done."""
        if isinstance(path, int):
            path, descriptor = "", path
        if descriptor >= 0:
            path = Path(str(Path(f"/proc/self/fd/{descriptor}").readlink()).removesuffix(" (deleted)"), path)
        path = os.path.abspath(os.fsdecode(path))
        if not f"{path}/".startswith(f"{self._folder}/") or kind not in REFUSES.get(self._how, {kind}):
            return
        name = self.name(kind, path)
        if self._names and name not in self._names:
            return
        self._count += 1
        if self._log is not None:
            os.write(self._log, f"{name}\n".encode())
        if self._count == self._number or (self._count > self._number > 0 and self._lasting):
            self.stop()

    def stop(self) -> None:
        """Do what was asked for."""
        if self._how in ("kill", "pause"):
            os.kill(os.getpid(), signal.SIGKILL if self._how == "kill" else signal.SIGSTOP)
        elif self._how:
            number = getattr(errno, self._how)
            raise OSError(number, os.strerror(number))

    def audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What Python says of itself; not of writing and syncing."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int):
                self.operation("create" if flags & (os.O_WRONLY | os.O_RDWR) else "read", path)
        elif event in _EVENTS:
            descriptor = arguments[-1] if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") else -1
            self.operation(_EVENTS[event], arguments[1 if event == "os.rename" else 0], descriptor)

    def begin(self) -> None:
        """From here on."""
        watch = self

        class Watched(io.FileIO):
            def write(self, content: Any) -> int:
                middle = len(content) // 2
                watch.operation("write", self.fileno())
                written = super().write(memoryview(content)[:middle])
                watch.operation("half", self.fileno())
                return written + super().write(memoryview(content)[middle:])

        def watched(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
            def call(descriptor: int, *more: Any) -> Any:
                watch.operation(kind, descriptor)
                return function(descriptor, *more)

            return call

        def opened(path: Path, mode: str = "r", *more: Any, **others: Any) -> Any:
            return io.BufferedRandom(Watched(path, "x+")) if mode == "x+b" else opens(path, mode, *more, **others)

        def load(chain: Chain) -> list[Step]:
            watch.operation("load", watch._folder)
            return [recorded(step) for step in loads(chain)]

        def recorded(step: Step) -> Step:
            def call(*given: Any) -> Any:
                watch.operation("annotate", watch._folder)
                return step(*given)

            return call

        loads, Chain.load = Chain.load, load  # type: ignore[method-assign]
        opens = Path.open
        Path.open = opened  # type: ignore[method-assign, assignment]
        os.fsync = watched(os.fsync, "sync")
        os.pwrite = watched(os.pwrite, "write")
        sys.addaudithook(self.audited)


def serve() -> dict[str, Any]:
    """Answer requests until there are no more; in the process of a run, return what it was asked."""
    living: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if pid := request.get("wait"):
            _, answer = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(answer):
                living.remove(pid)
        elif answer := os.fork():
            living.add(answer)
        else:
            return request  # type: ignore[no-any-return]
        print(answer, flush=True)
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sys.exit()


def become(request: dict[str, Any]) -> None:
    """Make this process one that was started with the command."""
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    given, said = os.open(request.get("stdin", os.devnull), os.O_RDONLY), os.open(request["said"], writing)
    out = os.open(request["out"], writing) if "out" in request else said
    for source, target in ((given, 0), (out, 1), (said, 2)):
        os.dup2(source, target)
    os.closerange(3, max(given, out, said) + 1)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    output.PART_RECORDINGS = request.get("part", output.PART_RECORDINGS)
    ahead.RECORDINGS = request.get("batch", 1)  # so that it can be stopped between any two recordings
    for name, most in request.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (most, most))
    if room := request.get("room"):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if user := request.get("user"):
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if folder := request.get("watch"):
        how, number, names = request.get("at") or ("", 0, [])
        Watch(folder, (how, number, names), lasting=request.get("lasting", False), log=request.get("log")).begin()
    sys.argv = ["msfser", *request["command"]]


if __name__ == "__main__":
    # All that a run would import, and what the libraries import when they are first used, so that a fork need not.
    import swift_f0  # noqa: F401
    import torch

    import msfser_cli.backends.describers.prosody
    import msfser_cli.backends.emphasizers.lemf
    import msfser_cli.model.scorer
    import msfser_cli.runs.runner  # noqa: F401
    from msfser_cli.backends.registry import names
    from msfser_cli.cli.app import main
    from msfser_cli.runs import ahead
    from msfser_cli.runs.chain import Chain
    from msfser_cli.stages.work import Step
    from msfser_cli.store import output

    names("encoders")
    torch.nn.Linear(1, 1, device="meta").reset_parameters()
    gc.collect()
    gc.freeze()
    request = serve()
    code: Any = 1
    try:
        become(request)
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: to take all of it down again takes longer than the run, and a fork may wait for threads that it does not have.
    os._exit(code if isinstance(code, int) else 0)
