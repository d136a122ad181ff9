"""Atomic writes: after a crash at any moment, a file or a folder has its old content or its new content, never a part."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
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
    errno.ESTALE: "the file system was mounted anew, or another machine removed it",
    errno.EBUSY: "another program uses it",
    errno.ENOTEMPTY: "another program uses a file in it",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder is a file",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "a symbolic link is in the way, or points to itself",
    errno.EEXIST: "something else is in the way",
    errno.EISDIR: "a folder is in the way",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
_RANDOM = 8  # characters at the end of a temporary name, here as in `tempfile`


@contextlib.contextmanager
def resources(path: Path) -> Iterator[None]:
    """Raise a known OSError while writing `path` as ResourceError, with a sentence instead of an errno."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise ResourceError(f"{path}: cannot write: {_REASONS[error.errno]} ({os.strerror(error.errno)})") from error


@contextlib.contextmanager
def replacing(path: Path, output: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write and read back. It replaces `path` if the block succeeds, and is removed otherwise.

    The temporary file lies beside `output` (default: `path`). So readers of a folder of parts never see it, and one `sweep` finds
    all temporary files of an output. Its mode follows the umask. Raises ResourceError if writing fails.
    """
    with resources(path):
        temporary = _temporary(output or path)
        # "x": never write through a link or over an existing file
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


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill with durable files. It replaces `path` if the block succeeds, and is removed otherwise.

    Readers find the whole old folder or the whole new one. Where the file system cannot exchange two names, such as over NFS,
    there is a moment without a folder, and after a kill at that moment the caller has to write it again. Raises ResourceError if
    writing fails.
    """
    with temporary_folder(path) as folder:
        with resources(path):
            if path.exists():
                shutil.copymode(path, folder)
        yield folder
        with resources(path):
            if path.exists():
                _exchange(folder, path)
            else:
                folder.rename(path)
            sync_folder(path.parent)


@contextlib.contextmanager
def temporary_folder(output: Path) -> Iterator[Path]:
    """A new folder beside `output`, removed after the block with its content. Raises ResourceError if it cannot be made."""
    folder = _temporary(output)
    with resources(output):
        folder.mkdir()
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        raise
    with contextlib.suppress(OSError):  # over NFS, a file that another program reads stays until it is closed
        shutil.rmtree(folder)


def _exchange(folder: Path, other: Path) -> None:
    """Exchange two folders: at once, or with two renames where the system cannot."""
    sys.audit("os.rename", os.fspath(folder), os.fspath(other), -1, -1)  # as `os.rename` does
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename and rename(_AT_FDCWD, os.fsencode(folder), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    aside = _temporary(other)
    try:
        other.rename(aside)
        folder.rename(other)
    except BaseException:
        if not other.exists():
            aside.rename(other)
        raise
    aside.rename(folder)


def scratch(output: Path | None = None) -> BinaryIO:
    """An unnamed file beside `output` (default: in the system's temporary folder). It is gone when it is closed.

    Raises ResourceError if the file cannot be made.
    """
    folder = Path(tempfile.gettempdir()) if output is None else output.parent
    with resources(output or folder):
        # if the file system has no unnamed files, `sweep` finds the file after a kill
        return tempfile.TemporaryFile(dir=folder, prefix=_temporary_prefix(output or folder), buffering=0)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Some network file systems cannot and return EINVAL, which is ignored."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make all files below `folder`, and their names, durable. Raises OSError if that fails."""
    for place, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(place, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(place))


def sweep(output: Path) -> None:
    """Remove the temporary files and folders of a killed run on `output`. Call it only while holding the output's lock."""
    prefix = _temporary_prefix(output)
    with resources(output):
        for entry in list(output.parent.iterdir()):
            # the exact length, because another output's name may begin with this prefix
            if entry.name.startswith(prefix) and len(entry.name) == len(prefix) + _RANDOM:
                _remove(entry)


def discard(folder: Path, output: Path) -> None:
    """Remove a folder and its content, if it exists. After a crash the folder is whole or gone, never a part."""
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
