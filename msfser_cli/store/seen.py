"""What was seen of the corpus: a file that is as it was when its content was hashed need not be read again.

Beside an output lies `.x.parquet.seen`, a sealed table: for each recording the state of its file (size, time of modification,
time of change, inode) and the hash that its content had then. It only ever saves time: without it, everything is read.

A user can set a file's time of modification, but not its time of change, which the kernel sets at every write, rename and change
of attributes. So the same state means the same content, with these exceptions, in which a hash is not kept:

- Times are coarse, and a memory-mapped file has its time set at the first write to a page, not at those that follow until the
  page is on the disk, half a minute later. A hash is kept only if the file had been left alone for `QUIET_NS` when it was begun,
  with the state of that moment: if the file is changed while it is read, it is in another state ever after.
- FAT, FUSE and others keep no time of change, or not on the disk; a file system in memory keeps none of memory-mapped writes.
  Only `KEEP_CHANGE_TIMES` are believed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Container, Iterator
from pathlib import Path

import pyarrow as pa

from msfser_cli import __version__
from msfser_cli.errors import ResourceError, TableError
from msfser_cli.schemas import Column
from msfser_cli.store import tables
from msfser_cli.store.audio import file_sha256
from msfser_cli.store.tables import Lineage

QUIET_NS = 60 * 10**9
"""For how long a file must have been left alone before its hash is kept."""

KEEP_CHANGE_TIMES = {
    "9p", "bcachefs", "beegfs", "btrfs", "ceph", "ext2", "ext3", "ext4", "f2fs", "gpfs", "jfs", "lustre", "nfs", "nfs4",
    "overlay", "virtiofs", "xfs", "zfs",
}  # fmt: skip
"""The file systems whose times of change can be relied on, as /proc/self/mountinfo calls them."""

_COLUMNS = (
    Column("recording_id", "string", "path below the corpus root, with forward slashes"),
    Column("state", "string", "size, mtime in ns, ctime in ns and inode of its file"),
    Column("sha256", "string", "hash of the content that the file had in this state"),
)


class Seen:
    """The files that were seen for one output; only for the holder of its lock. One thread at a time may ask."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output.with_name(f".{output.name}.seen")
        self._files: dict[str, tuple[str, str]] = {}
        self._is_kept: dict[int, bool] = {}  # whether the file system on a device keeps times of change
        with contextlib.suppress(TableError):  # damaged, or not there: everything is read
            table = tables.read(self._path, _COLUMNS)
            ids, states, hashes = (table[column.name].to_pylist() for column in _COLUMNS)
            self._files = dict(zip(ids, zip(states, hashes, strict=True), strict=True))
        self._saved = dict(self._files)

    def sha256(self, recording_id: str, path: Path) -> tuple[str, int]:
        """As `audio.file_sha256`; the file is not read where it is in the state in which it was before."""
        with _opened(path) as descriptor:
            if descriptor is None:  # it cannot be read, or has no content that could be the same
                self._files.pop(recording_id, None)
                return file_sha256(path)
            state, size, changed = _state(descriptor)
            known, sha256 = self._files.get(recording_id, ("", ""))
            believed = self._keeps_change_times(descriptor, path)
            if believed and known == state:
                return sha256, size
            self._files.pop(recording_id, None)
            was_quiet = time.time_ns() - changed >= QUIET_NS
            if not believed or not was_quiet:
                return file_sha256(path)
            # The very file that is open here, whatever its name leads to meanwhile.
            sha256, size = file_sha256(Path(f"/proc/self/fd/{descriptor}"))
            self._files[recording_id] = state, sha256
            return sha256, size

    def save(self, recordings: Container[str]) -> None:
        """Write down what was seen of `recordings`, for the next run. Nothing is lost where the machine refuses."""
        files = {name: of for name, of in sorted(self._files.copy().items()) if name in recordings}
        if files == self._saved:
            return
        lineage = Lineage(stage="seen", tool_version=__version__, fingerprint="")
        target = tables.schema(_COLUMNS, {}, tables.metadata(lineage))
        columns = [list(files), [state for state, _ in files.values()], [sha256 for _, sha256 in files.values()]]
        table = pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=target)
        with contextlib.suppress(ResourceError, OSError):
            tables.write(self._path, [table], target, output=self._output)
            self._saved = files

    def _keeps_change_times(self, descriptor: int, path: Path) -> bool:
        device = os.fstat(descriptor).st_dev
        if device not in self._is_kept:
            self._is_kept[device] = _file_system(os.path.realpath(path)) in KEEP_CHANGE_TIMES
        return self._is_kept[device]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor of the regular file at `path`; None where there is none that can be read.

    A file is opened before it is asked for its state, so that network file systems ask the server.
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


def _state(descriptor: int) -> tuple[str, int, int]:
    """The state of an open file, its size in bytes, and when it was last changed in any way, in ns."""
    found = os.fstat(descriptor)
    state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    return state, found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)


def _file_system(path: str) -> str:
    """The type of the file system that a path without links lies on; empty where that is not known."""
    longest, kind = -1, ""
    try:
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return ""
    for line in mounts.splitlines():
        place, _, about = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place.split()[4])
        if len(mount) >= longest and (path + "/").startswith(mount.rstrip("/") + "/"):
            longest, kind = len(mount), about.split()[0]  # of two at the same place, the later one covers the other
    return kind
