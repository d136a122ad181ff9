"""Remembers the hash of each file in the corpus, so that an unchanged file is not read again.

`.x.parquet.seen` lies beside the output. It is a sealed table with the state of each recording's file (size, mtime, ctime, inode)
and the hash of its content in that state. It only saves time: without it, every file is read.

A user can set the mtime of a file, but not its ctime. The kernel sets the ctime at every write, rename and change of attributes.
So the same state means the same content, except in two cases. In these no hash is kept:

- Times are coarse. A memory-mapped file gets a new time at the first write to a page, but not at the next writes until the page
  is on the disk, half a minute later. So a hash is kept only if the file was unchanged for `QUIET_NS` before reading began, and
  it is kept with the state of that moment. A file that changes while it is read gets another state.
- FAT, FUSE and others do not keep the ctime, or not on the disk. A file system in memory does not update it for memory-mapped
  writes. msfser trusts only the file systems in `KEEP_CHANGE_TIMES`.

The state of an object in an object store is its size and the time when the store took it, which no user can set.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from msfser_cli import __version__
from msfser_cli.errors import ResourceError, TableError
from msfser_cli.schemas import Column
from msfser_cli.store import arrow, tables
from msfser_cli.store.audio import file_sha256
from msfser_cli.store.lineage import Lineage, metadata
from msfser_cli.store.objects import Address, Location

QUIET_NS = 60 * 10**9
"""A hash is kept only if the file was unchanged for this long, in ns."""

KEEP_CHANGE_TIMES = {
    "9p", "bcachefs", "beegfs", "btrfs", "ceph", "ext2", "ext3", "ext4", "f2fs", "gpfs", "jfs", "lustre", "nfs", "nfs4",
    "overlay", "virtiofs", "xfs", "zfs",
}  # fmt: skip
"""The file systems with a reliable ctime, by their names in /proc/self/mountinfo."""

_COLUMNS = (
    Column("recording_id", "string", "path below the corpus root, with forward slashes"),
    Column("state", "string", "size, mtime in ns, ctime in ns and inode of its file; size and time in s of an object"),
    Column("sha256", "string", "hash of the content that the file had in this state"),
)


@dataclass(frozen=True)
class Content:
    """What a file holds. state: the file's state when it had this content; None: it cannot be told by its state."""

    sha256: str
    size_bytes: int
    state: str | None = None


class Seen:
    """The files that were seen for one output; only for the holder of its lock."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output.with_name(f".{output.name}.seen")
        self._files: dict[str, tuple[str, str]] = {}
        with contextlib.suppress(TableError):  # damaged or missing: every file is read
            table = tables.read(self._path, _COLUMNS)
            ids, states, hashes = (table[column.name].to_pylist() for column in _COLUMNS)
            self._files = dict(zip(ids, zip(states, hashes, strict=True), strict=True))
        self._saved = dict(self._files)

    def recall(self, recording_id: str, path: Location) -> Content | None:
        """The content of the file if its state is unchanged; else None, and the earlier content is forgotten."""
        earlier_state, sha256 = self._files.get(recording_id, ("", ""))
        if earlier_state and isinstance(path, Address):
            if path.state == earlier_state:
                return Content(sha256, path.size or 0, earlier_state)
            self._files.pop(recording_id, None)
        elif isinstance(path, Path) and earlier_state:
            with _opened(path) as descriptor:
                if descriptor is not None and _keeps_change_times(descriptor, path):
                    state, size, _ = _state(descriptor)
                    if state == earlier_state:
                        return Content(sha256, size, state)
            self._files.pop(recording_id, None)
        return None

    def learn(self, recording_id: str, content: Content) -> None:
        """Remember the content of a recording's file, if its state tells it."""
        if content.state:
            self._files[recording_id] = content.state, content.sha256

    def save(self, recordings: Container[str]) -> None:
        """Save the hashes of `recordings` for the next run. If that fails, the next run reads the files again."""
        files = {name: state_and_hash for name, state_and_hash in sorted(self._files.copy().items()) if name in recordings}
        if files == self._saved:
            return
        lineage = Lineage(stage="seen", tool_version=__version__, fingerprint="")
        target = arrow.schema(_COLUMNS, {}, metadata(lineage))
        columns = [list(files), [state for state, _ in files.values()], [sha256 for _, sha256 in files.values()]]
        table = pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=target)
        with contextlib.suppress(ResourceError, OSError):
            tables.write(self._path, [table], target, output=self._output)
            self._saved = files


def content_of(path: Path) -> Content:
    """The content of a file, and its state if a later run may tell the content by it. Raises RecordingError as `file_sha256`."""
    with _opened(path) as descriptor:
        if descriptor is None:  # not a regular file that can be read
            return Content(*file_sha256(path))
        state, _, changed = _state(descriptor)
        was_quiet = time.time_ns() - changed >= QUIET_NS
        if not was_quiet or not _keeps_change_times(descriptor, path):
            return Content(*file_sha256(path))
        # Read the open file, because its name may now lead to another one.
        return Content(*file_sha256(Path(f"/proc/self/fd/{descriptor}")), state)


def is_file(path: Path) -> bool:
    """Whether the file can be opened for reading, and is a regular file."""
    with _opened(path) as descriptor:
        return descriptor is not None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor of the regular file at `path`; None if it cannot be read.

    The file is opened before its state is read, because opening makes network file systems ask the server.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


_KEEPING: dict[int, bool] = {}  # device -> whether its file system has a reliable ctime


def _keeps_change_times(descriptor: int, path: Path) -> bool:
    device = os.fstat(descriptor).st_dev
    if device not in _KEEPING:
        _KEEPING[device] = _file_system(os.path.realpath(path)) in KEEP_CHANGE_TIMES
    return _KEEPING[device]


def _state(descriptor: int) -> tuple[str, int, int]:
    """The state of an open file, its size in bytes, and when it was last changed in any way, in ns."""
    status = os.fstat(descriptor)
    state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    return state, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def _file_system(path: str) -> str:
    """The type of the file system of a path without links; empty if it is unknown."""
    longest, kind = -1, ""
    try:
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return ""
    for line in mounts.splitlines():
        place, _, about = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place.split()[4])
        if len(mount) >= longest and (path + "/").startswith(mount.rstrip("/") + "/"):
            longest, kind = len(mount), about.split()[0]  # of two mounts at one place, the later one counts
    return kind
