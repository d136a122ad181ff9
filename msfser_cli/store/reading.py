"""Reading Parquet files: each failure is a TableError, or a ResourceError if memory or open files ran out."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from msfser_cli.errors import MsfserError, ResourceError, TableError, is_shortage
from msfser_cli.store import seal


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise pyarrow's errors for a damaged file as TableError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, MemoryError) as error:
        if is_shortage(error) and (isinstance(error, OSError) or _is_whole(path)):
            raise _short(path, error) from error
        raise damaged(path, " ".join(str(error).split())[:200]) from error


def damaged(path: Path, reason: str) -> TableError:
    """The error for a damaged file."""
    return TableError(path, f"damaged, cut short or changed by another tool ({reason})", "restore it, or make it again")


def unreadable(path: Path, error: OSError) -> MsfserError:
    """The error for a file that the system does not let msfser read."""
    return _short(path, error) if is_shortage(error) else TableError(path, f"cannot be read ({error.strerror})")


def literal(file: Path) -> Path:
    """The path for pyarrow, which would replace a leading ~ by the user's home."""
    return file.absolute()


def require_regular(file: Path) -> None:
    """Raise TableError if `file` does not exist or is not a regular file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would block
            raise TableError(file, "not a regular file", "name a file")
    except OSError as error:
        raise unreadable(file, error) from error


def _is_whole(path: Path) -> bool:
    """Whether the seal is correct. A damaged file may ask for any amount of memory. Files in a folder were verified before."""
    if path.is_dir():
        return True
    with contextlib.suppress(OSError), path.open("rb") as content:
        return seal.is_whole(content)
    return False


def _short(path: Path, error: BaseException) -> ResourceError:
    return ResourceError(f"{path}: cannot read: {getattr(error, 'strerror', None) or 'not enough memory'}")
