"""Atomic writes: after a crash at any moment a file is the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msfser_cli.errors import ResourceError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this system or process may write",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write here",
    errno.EPERM: "this user may not write here",
    errno.EIO: "the disk reports an error",
    errno.ENOENT: "its folder is not there",
    errno.ENOTDIR: "its folder is a file",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "a symbolic link is in the way, or leads back to itself",
    errno.EEXIST: "something else is in the way",
    errno.EISDIR: "a folder is in the way",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


_RANDOM = 8  # characters at the end of a temporary name, here as in `tempfile`


@contextlib.contextmanager
def resources(path: Path) -> Iterator[None]:
    """Raise what the machine refuses while writing `path` as ResourceError: a sentence instead of an errno."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise ResourceError(f"{path}: cannot write: {_REASONS[error.errno]} ({os.strerror(error.errno)})") from error


@contextlib.contextmanager
def replacing(path: Path, output: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write and re-read, which takes the place of `path` when the block ends well and is removed when it does not.

    The temporary file lies beside `output` (default: `path`), so that the readers of a folder of parts never see it and one
    `sweep` finds all that belong to an output. Its mode follows the umask. ResourceError when the machine refuses.
    """
    with resources(path):
        temporary = _temporary(output or path)
        # "x": never through a link or over a file that someone else put there
        with temporary.open("x+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        sync_folder(path.parent)


def scratch(output: Path | None = None) -> BinaryIO:
    """A nameless file beside `output` (default: where the system has its temporary files), which ends with whoever holds it.

    ResourceError when the machine refuses.
    """
    folder = Path(tempfile.gettempdir()) if output is None else output.parent
    with resources(output or folder):
        # where the file system knows no nameless files, one that is killed here is found by `sweep`
        return tempfile.TemporaryFile(dir=folder, prefix=_temporary_prefix(output or folder), buffering=0)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Some network file systems cannot, and say EINVAL; that is all they can promise."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make all files below `folder` durable, and their names, whichever library wrote them. OSError where the machine refuses."""
    for place, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(place, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(place))


def sweep(output: Path) -> None:
    """Remove the temporary files and folders that a killed run left for `output`; only for the holder of the output's lock."""
    prefix = _temporary_prefix(output)
    with resources(output):
        for entry in list(output.parent.iterdir()):
            # no longer: another output may be named as one of ours, and what lies beside it
            if entry.name.startswith(prefix) and len(entry.name) == len(prefix) + _RANDOM:
                _remove(entry)


def discard(folder: Path, output: Path) -> None:
    """Remove a folder, if there is one, with all that is in it: it is there whole or gone, whatever happens meanwhile."""
    temporary = _temporary(output)
    with resources(folder):
        try:
            folder.replace(temporary)
        except FileNotFoundError:
            return
        sync_folder(folder.parent)
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _temporary_prefix(output: Path) -> str:
    return f".{output.name}.tmp-"


def _temporary(output: Path) -> Path:
    return output.with_name(_temporary_prefix(output) + secrets.token_hex(_RANDOM // 2))
