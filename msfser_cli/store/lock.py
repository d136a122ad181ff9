"""One writer per output, by a kernel lock. The lock of a dead process is free."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from msfser_cli.errors import OutputHeldError, ResourceError
from msfser_cli.store.atomic import resources

_ASK_AGAIN_SECONDS = 0.5
_held: set[int] = set()


def _close_in_child() -> None:
    """Close the locks in a forked worker, which would keep them after its parent ended."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def held(output: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of `output` for the block. The lock file is `.{name}.lock` beside it, and is removed afterwards.

    Only the kernel's lock counts, and it ends with the process. The content of the file is for people. Raises OutputHeldError,
    which names the holder, if another process still holds the lock after `wait` seconds; ResourceError if the folder cannot be
    written, or its file system has no locks.
    """
    path = output.with_name(f".{output.name}.lock")
    with resources(path):
        descriptor = _acquire(path, output, time.monotonic() + wait)
    _held.add(descriptor)
    try:
        with resources(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_holder()).encode(), 0)
        yield
    finally:
        try:
            _let_go(descriptor, path)
        except BaseException:  # a signal interrupts only once
            _let_go(descriptor, path)
            raise


def _acquire(path: Path, output: Path, until: float) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            holder = _describe(os.pread(descriptor, 8192, 0))
            os.close(descriptor)
            if (remaining := until - time.monotonic()) <= 0:
                raise OutputHeldError(output, holder) from None
            time.sleep(min(remaining, _ASK_AGAIN_SECONDS))
            continue
        except OSError as error:  # network file systems refuse locks with different errnos
            if os.fstat(descriptor).st_size == 0:  # an empty file is ours: a holder writes its name into it
                path.unlink(missing_ok=True)
            os.close(descriptor)
            raise ResourceError(
                f"{path}: the file system offers no locks ({error.strerror}); choose a folder on another file system, such "
                "as a local disk"
            ) from error
        except BaseException:
            _let_go(descriptor, path)
            raise
        os.close(descriptor)  # the holder removed the file between our open and our lock


def _let_go(descriptor: int, path: Path) -> None:
    """Remove the file, unless another process holds the lock now, and close it.

    The file is removed while the lock is held. A process that opened it meanwhile notices in `_acquire` that the name is gone.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            path.unlink()
    _held.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _holder() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv)[:1000],
    }


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}: {holder['command']}"
    except (ValueError, KeyError, TypeError):  # the holder has not written its name yet
        return "holder unknown"
