"""Objects in an object store, such as `s3://bucket/key` or `gs://bucket/key`, read with pyarrow's file systems.

Credentials, the region and other end points come from where the store's own programs look for them: the environment, the
configuration in the home folder, the role of the machine.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from msfser_cli.errors import RecordingError, ResourceError, UsageError, is_shortage, why
from msfser_cli.store.atomic import resources, scratch
from msfser_cli.store.audio import MAX_BYTES

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

_ADDRESS = re.compile(r"(s3|gs)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
_BLOCK = 8 << 20  # bytes in one request
_GIVE_UP = timedelta(seconds=60)  # S3 gives up after three tries; Google's library would try for a quarter of an hour
_LONGEST = 300  # characters of a cause
QUIET_S = 60
"""The state of an object tells its content if it was written this long before it was read, in s. Stores round their times."""


@dataclass(frozen=True, order=True)
class Address:
    """The address of an object, or of a folder: all objects whose names begin with it and a slash.

    name: bucket and key, with slashes between. size: in bytes; written: in whole s since 1970; both only if it was listed.
    """

    scheme: str
    name: str
    size: int | None = field(default=None, compare=False)
    written: int | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """The address that the text is; None for a path. Raises UsageError if it has no bucket or is not plain."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            return None
        address = cls(match[1], match[2].rstrip("/"))
        if not _BUCKET.fullmatch(address.bucket) or not address.is_plain:
            raise UsageError(f"{text}: not an address of an object store; write it as {match[1]}://bucket/folder")
        return address

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"

    def __truediv__(self, below: str) -> Address:
        return Address(self.scheme, f"{self.name}/{below}")

    @property
    def bucket(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    @property
    def is_plain(self) -> bool:
        """Whether no part of the name is empty, `.` or `..`. A request would be for another object, or for none."""
        return not {"", ".", ".."}.intersection(self.name.split("/"))

    @property
    def state(self) -> str | None:
        """The state of the object when it was listed. It changes if the object is written; None: it was not listed."""
        return None if self.size is None else f"{self.size} {self.written}"

    def below(self, folder: Address) -> str | None:
        """The name relative to `folder`; None if it is not below it."""
        start = f"{folder.name}/"
        return self.name[len(start):] if self.scheme == folder.scheme and self.name.startswith(start) else None


@dataclass(frozen=True)
class Copy:
    """The content of an object, at hand. state: as in `Address.state`; None if it does not tell the content."""

    path: Path
    sha256: str
    size_bytes: int
    state: str | None


Location = Path | Address
"""Where a file lies."""


def location(text: str) -> Location:
    """What the text means: an address in an object store, or a path. Raises UsageError for one that is not plain."""
    return Address.parse(text) or Path(text)


def kinds(addresses: Sequence[Address]) -> list[Address | Literal["folder"] | None]:
    """For each address the object, listed, or "folder"; None if neither exists.

    All are of one bucket. Raises ResourceError if the store cannot be asked.
    """
    from pyarrow import fs

    if not addresses:
        return []
    with _asking(addresses[0]):
        infos = _store(addresses[0]).get_file_info([address.name for address in addresses])
    folder: Literal["folder"] = "folder"
    return [_listed(address, info) if info.type == fs.FileType.File else folder if info.type == fs.FileType.Directory else None
            for address, info in zip(addresses, infos, strict=True)]  # fmt: skip


def inside(folder: Address) -> list[Address]:
    """All objects of a folder, listed, and sorted. Raises ResourceError if the store cannot be asked."""
    from pyarrow import fs

    with _asking(folder):
        infos = _store(folder).get_file_info(fs.FileSelector(folder.name, recursive=True))
    return sorted(_listed(replace(folder, name=info.path), info) for info in infos if info.type == fs.FileType.File)


@contextmanager
def copied(address: Address, output: Path | None) -> Iterator[Copy]:
    """A copy of the object for the block, in a nameless file beside `output`, or in the system's folder for temporary files.

    Raises RecordingError: missing, unreadable, too_large, changed; ResourceError if the machine runs short.
    """
    began = time.time()
    before = _looked_at(address)
    if before.size > MAX_BYTES:
        problem = f"the object has {before.size} bytes, more than the limit of {MAX_BYTES}; split it into shorter recordings"
        raise RecordingError("too_large", problem)
    with scratch(output) as file:
        sha256 = _copy(address, file, output or Path(tempfile.gettempdir()))
        after = _looked_at(address)
        if (after.size, after.mtime_ns) != (before.size, before.mtime_ns):
            raise RecordingError("changed", "the object changed while it was read")
        state = _listed(address, before).state if began - before.mtime_ns / 1e9 >= QUIET_S else None
        yield Copy(Path(f"/proc/self/fd/{file.fileno()}"), sha256, before.size, state)


def _copy(address: Address, file: BinaryIO, output: Path) -> str:
    """Copy the object. Returns the sha256 of its content, in hex."""
    digest = hashlib.sha256()
    with _reading(address):
        source = _store(address).open_input_stream(address.name)
    with source:
        while True:
            with _reading(address):
                block = source.read(_BLOCK)
            if not block:
                return digest.hexdigest()
            digest.update(block)
            rest = memoryview(block)
            with resources(output):
                while rest:  # an unbuffered file may take a part
                    rest = rest[file.write(rest):]


def _looked_at(address: Address) -> FileInfo:
    from pyarrow import fs

    if not address.is_plain:
        raise RecordingError("unreadable", "its name has a part that is empty, . or ..; copy it to another name")
    with _reading(address):
        info = _store(address).get_file_info(address.name)
    if info.type != fs.FileType.File:
        raise RecordingError("missing", "the object does not exist")
    return info


def _listed(address: Address, info: FileInfo) -> Address:
    return replace(address, size=info.size, written=(info.mtime_ns or 0) // 10**9)


@contextmanager
def _asking(address: Address) -> Iterator[None]:
    """Raise ResourceError if the store of `address` cannot be asked."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ResourceError(f"{address}: cannot be listed ({_why(error)}); check the address, the network and your credentials"
                            ) from error  # fmt: skip


@contextmanager
def _reading(address: Address) -> Iterator[None]:
    """Raise RecordingError if the object cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise RecordingError("missing", "the object does not exist") from error
    except (OSError, ValueError) as error:
        if is_shortage(error):
            raise ResourceError(f"{address}: cannot read it ({why(error)}); end other programs and run it again") from error
        raise RecordingError("unreadable", f"msfser cannot read the object ({_why(error)})") from error


def _why(error: Exception) -> str:
    """The cause, in one short line, without what msfser asked for, and what differs from request to request."""
    text = " ".join(why(error).split())
    text = re.sub(r"^When .*?: (?=AWS Error)| \(Request ID: [^)]*\)|; Details: .*|google::cloud::Status", "", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _store(address: Address) -> FileSystem:
    with _asking(address):
        return _opened(address.scheme, address.bucket)


@lru_cache(maxsize=8)
def _opened(scheme: str, bucket: str) -> FileSystem:
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=_GIVE_UP)
    return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]  # which also finds the region of the bucket
