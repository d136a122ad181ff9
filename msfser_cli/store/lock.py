"""One writer per output: a kernel lock, so that a dead holder blocks nobody."""

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
    """A forked worker must not keep the lock when its parent is gone."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def held(output: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of `output` for the block: `.{name}.lock` beside it, gone again afterwards.

    Raises OutputHeldError, naming the holder, when another process still holds it after `wait` seconds; ResourceError when the
    folder cannot be written, or its file system has no locks. What the file says is for people: only the kernel's lock counts,
    and it ends with the process.
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
        except BaseException:  # a signal, which interrupts but once
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
            if (left := until - time.monotonic()) <= 0:
                raise OutputHeldError(output, holder) from None
            time.sleep(min(left, _ASK_AGAIN_SECONDS))
            continue
        except OSError as error:  # of any number: network file systems refuse locks with many
            if os.fstat(descriptor).st_size == 0:  # ours: a holder writes its name into it
                path.unlink(missing_ok=True)
            os.close(descriptor)
            raise ResourceError(
                f"{path}: the file system offers no locks ({error.strerror}); choose a folder on another one, such as a local "
                "disk"
            ) from error
        except BaseException:
            _let_go(descriptor, path)
            raise
        os.close(descriptor)  # removed by its holder between our open and our lock


def _let_go(descriptor: int, path: Path) -> None:
    """Remove the file, unless another process holds it by now, and close it.

    It is removed while it is held: whoever opened it meanwhile notices in `_acquire` that the name is gone.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            path.unlink()
    _held.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one that `path` names."""
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
    except (ValueError, KeyError, TypeError):  # it has the lock but has not written its name yet
        return "holder unknown"
