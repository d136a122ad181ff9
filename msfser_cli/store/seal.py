"""The seal of a Parquet file: the sha256 of the file with zeros in place of the seal, stored in its footer.

Other readers can verify Parquet's page checksums, but these do not cover the footer and the page headers: a flipped bit there can
change values without an error.
"""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

MAGIC = b"PAR1"
KEY = "msfser.sha256"
EMPTY = "0" * 64
"""The value of `KEY` in a file that `write` has not sealed yet."""

_SIZE = len(EMPTY)
# The bytes of a key, and before its value, in Thrift's compact protocol.
_BEFORE = KEY.encode() + bytes([0x18, _SIZE])


def write(file: BinaryIO) -> None:
    """Seal a file that has the value `EMPTY` under `KEY`. `file` can be read and written."""
    place = _place(file)
    seal = _digest(file, place)
    file.seek(place)
    file.write(seal)


def read(file: BinaryIO) -> bytes | None:
    """The seal that a file has, correct or not; None if it has none."""
    place = _place(file)
    if place < 0:
        return None
    file.seek(place)
    return file.read(_SIZE)


def is_whole(file: BinaryIO) -> bool:
    """Whether a file has the seal of its content."""
    place = _place(file)
    return place >= 0 and read(file) == _digest(file, place)


def footer_of(file: BinaryIO) -> bytes:
    """The footer of a Parquet file, without the length and the magic number after it; empty if there is no footer."""
    size = file.seek(0, os.SEEK_END)
    if size < 12:
        return b""
    file.seek(-8, os.SEEK_END)
    length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    if magic != MAGIC or not 0 < length <= size - 12:
        return b""
    file.seek(-8 - length, os.SEEK_END)
    return file.read(length)


def _place(file: BinaryIO) -> int:
    """The offset of the seal in a Parquet file; -1 if there is no seal."""
    footer = footer_of(file)
    offset = footer.rfind(_BEFORE)
    return -1 if offset < 0 else file.seek(0, os.SEEK_END) - 8 - len(footer) + offset + len(_BEFORE)


def _digest(file: BinaryIO, place: int) -> bytes:
    """The correct seal of a file whose seal is at `place`."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(place - file.tell(), 1 << 20)):  # another program may shorten the file meanwhile
        digest.update(block)
    digest.update(bytes(_SIZE))
    file.seek(place + _SIZE)
    digest.update(file.read())  # the rest of the footer
    return digest.hexdigest().encode()
