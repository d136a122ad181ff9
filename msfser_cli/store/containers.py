"""Finds the size that a file must have by its own headers. A shorter file was cut short, even if a decoder accepts it.

Only the sizes of the parts with the sound count, because the size of the whole is wrong in many complete files. A live recorder
leaves sizes open. Some formats state no size: MP3 without a count of its bytes, ADTS, AMR, MPEG-TS.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from msfser_cli.errors import RecordingError

_MOST_PARTS = 1_000_000
_LEAST_RF64 = 12 + 36 + 24 + 8  # the headers before the sound
_LARGEST_PAGE = 27 + 255 + 255 * 255  # bytes of Ogg
_LAST_PAGE = 4  # its flag
_LARGEST_FRAME = 1_441  # bytes of MP3; the tolerance for its count, because encoders disagree on which frames they count
_NO_HOLE = 2 * _LARGEST_FRAME  # less at either end is no loss: a first frame without sound, a last frame that was cut
_TAG = re.compile(rb"ID3[\2-\4][\0-\x20].[\0-\x7f]{4}|APETAGEX[\xd0\xe8]\x07\0\0.{4}|TAG(?=[\x20-\xff\0])", re.DOTALL)
_TAG_HEADER = 16
_RATES = (44_100, 48_000, 32_000, 0)
_VERSIONS = {3: 1.0, 2: 0.5, 0: 0.25}  # number of the MPEG version -> its sample rates relative to those of MPEG-1
_SEARCHED = 1 << 20

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")


def stated_size(file: BinaryIO) -> int:
    """The least size in bytes of `file` if it is complete; 0 if it does not state a size. Leaves the file at its start.

    Raises RecordingError if a size overflowed its 32 bits, or if zeros take the place of sound.
    """
    try:
        return _stated_size(file)
    except (struct.error, IndexError):  # the file ends within the header
        return 0
    finally:
        file.seek(0)


def _stated_size(file: BinaryIO) -> int:
    head = _read(file, 0, 16)
    kind, form = head[:4], head[8:12]
    if kind == b"RIFF":
        riff = int.from_bytes(head[4:8], "little")
        beyond = file.seek(0, os.SEEK_END) - (riff + 8)
        if beyond > 0 and beyond % (1 << 32) == 0:
            problem = "its size is over 4 GiB, which the header of a WAV file cannot state; convert it to RF64 or FLAC"
            raise RecordingError("decode_error", problem)  # FFmpeg would decode only a part of it, without a word
        return _end(_parts(file, 12, "<4sI"), b"LIST" if form == b"AVI " else b"data")
    if kind in (b"RF64", b"BW64"):
        length = int.from_bytes(_read(file, 28, 8), "little")  # the length of the sound, which the first part states
        return 0 if _is_open(length) else _LEAST_RF64 + length
    if kind == b"FORM":
        return _end(_parts(file, 12, ">4sI"), b"SSND")
    if kind == b"caff":
        return _end(_parts(file, 8, ">4sQ", even=1), b"data")
    if kind == b"riff":
        return _end(_parts(file, 40, "<16sQ", even=8, counts_header=True), _W64_DATA)
    if head == _ASF_HEADER:
        return _end(_parts(file, 0, "<16sQ", even=1, counts_header=True), _ASF_DATA)
    if kind == b".snd":
        start, length = struct.unpack_from(">II", head, 4)
        return 0 if _is_open(length) else int(start + length)
    if head[4:8] == b"ftyp":
        return _end(_boxes(file), b"mdat", b"moof", b"moov")
    if kind == b"\x1a\x45\xdf\xa3":
        return _segment(file)
    if kind == b"OggS":
        return _last_page(file)
    mp3 = _counted(file)
    return mp3.start + max(0, mp3.length - _LARGEST_FRAME)


def _read(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _is_open(length: int) -> bool:
    """Whether a recorder writes this for a size that it does not know yet: 0, or the largest number or nearly that."""
    return length == 0 or 0x7FFF_0000 <= length <= 0x8000_0100 or 0xFFFF_0000 <= length < 1 << 32 or length >= 1 << 62


def _end(parts: Iterator[tuple[bytes, int]], *names: bytes) -> int:
    """The end of the last part that has one of these names; 0 if there is no such part."""
    return max((end for name, end in parts if name in names), default=0)


def _parts(
    file: BinaryIO, place: int, header: str, *, even: int = 2, counts_header: bool = False
) -> Iterator[tuple[bytes, int]]:
    """Name and end of each part of a file, up to the first with an open length. A part begins with its name and length."""
    own = struct.calcsize(header)
    for _ in range(_MOST_PARTS):
        if len(block := _read(file, place, own)) < own:
            return
        name, length = struct.unpack(header, block)
        if _is_open(length):
            return
        end = place + length + (0 if counts_header else own)
        yield name, end
        place = -(-end // even) * even


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and end of each box of an MP4."""
    place = 0
    for _ in range(_MOST_PARTS):
        if len(block := _read(file, place, 16)) < 8:
            return
        length, name = struct.unpack_from(">I4s", block)
        if length == 1:
            (length,) = struct.unpack_from(">Q", block, 8)
        if length < 8:  # 0 means up to the end of the file, so no size is stated
            return
        place += length
        yield name, place


def _segment(file: BinaryIO) -> int:
    """The end of the segment of a Matroska or WebM file."""
    place = 4
    for identity in (b"", b"\x18\x53\x80\x67"):
        if _read(file, place, len(identity)) != identity:
            return 0
        block = _read(file, place + len(identity), 8)
        width = 9 - block[0].bit_length() if block else 9
        if not 0 < width <= 8:
            return 0
        length = int.from_bytes(block[:width], "big") & (1 << 7 * width) - 1
        if length == (1 << 7 * width) - 1:
            return 0
        place += len(identity) + width + length
    return place


def _last_page(file: BinaryIO) -> int:
    """The end of the last page of an Ogg file. Its mark as the last page is not required, because Android does not set it.

    Raises RecordingError if zeros take the place of further pages, as in a download that did not end.
    """
    start = max(0, file.seek(0, os.SEEK_END) - _LARGEST_PAGE)
    tail = _read(file, start, _LARGEST_PAGE)
    place = tail.rfind(b"OggS\0")
    page = tail[max(0, place) :]
    segments = page[26] if len(page) > 26 else 0
    length = 27 + segments + sum(page[27 : 27 + segments])
    is_marked = place >= 0 and page[5] & _LAST_PAGE
    rest = tail if place < 0 else page[length:]
    if rest and not is_marked and not any(rest):
        problem = f"cut short: it ends in {len(rest)} bytes of zeros where sound should be; copy it again"
        raise RecordingError("decode_error", problem)
    return 0 if place < 0 else start + place + length


class Counted(NamedTuple):
    """What an MP3 states: the end of the tags at its start, and the bytes and seconds after them. 0: not stated."""

    start: int
    length: int = 0
    seconds: float = 0.0


def counted(file: BinaryIO) -> Counted:
    """The length of an MP3 as its first frame states it. Leaves the file at its start."""
    try:
        return _counted(file)
    except IndexError:  # the file ends within that frame
        return Counted(0)
    finally:
        file.seek(0)


def _counted(file: BinaryIO) -> Counted:
    start, head = 0, _read(file, 0, 10)
    while head[:3] == b"ID3" and len(head) == 10:
        start += 10 + _synchsafe(head[6:])
        head = _read(file, start, 10)
    frame = _read(file, start, 4 + 32 + 26)
    if not re.match(rb"\xff[\xe2-\xff]", frame):
        return Counted(start)
    frames = length = 0
    if frame[36:40] == b"VBRI":
        length, frames = struct.unpack_from(">II", frame.ljust(54, b"\0"), 46)
    elif header := re.search(rb"(?:Xing|Info)\0\0\0(.)", frame[:48], re.DOTALL):
        flags, place = header[1][0], header.end()
        if flags & 1:
            frames, place = int.from_bytes(frame[place : place + 4], "big"), place + 4
        if flags & 2:
            length = int.from_bytes(frame[place : place + 4], "big")
    version = frame[1] >> 3 & 3
    rate = _RATES[frame[2] >> 2 & 3] * _VERSIONS.get(version, 1.0)
    return Counted(start, length, frames * (1152 if version == 3 else 576) / rate if rate else 0.0)


class Accounted:
    """Counts the bytes of a file of bare frames (MP3, ADTS, AC-3) in order: each is sound, part of a tag, or lost."""

    def __init__(self, descriptor: int, longest: int) -> None:
        self._descriptor, self._longest = descriptor, longest
        self._place = self._tag_end = self._frames = 0
        self.sound = self.lost = 0

    def add(self, place: int | None, length: int) -> int:
        """Count a packet of sound. Returns the lost bytes before it, and in it if it is longer than a frame can be."""
        lost = self.skip(place - self._place) if place is not None and place > self._place else 0
        if length > self._longest and self._frames:
            usual = self.sound // self._frames
            lost += self.skip(length - usual)
            length = usual
        self._frames += 1
        self.sound += length
        self._place += length
        return lost

    def skip(self, length: int) -> int:
        """Count `length` bytes that are not sound. Returns how many are lost, that is, not part of a tag."""
        end = self._place + length
        lost = self._untagged(self._place, end)
        if not self.sound and not self.lost and lost <= _NO_HOLE:
            lost = 0
        self._place = end
        self.lost += lost
        return lost

    def skip_to_end(self) -> int:
        """Count the bytes after the last packet, which are not sound. Returns how many are lost."""
        rest = os.fstat(self._descriptor).st_size - self._place
        return self.skip(rest) if rest > _NO_HOLE else 0

    def _untagged(self, first: int, last: int) -> int:
        count, place = 0, max(first, min(last, self._tag_end))
        while place < last:
            block = os.pread(self._descriptor, min(last - place, _SEARCHED) + _TAG_HEADER, place)
            tag = _TAG.search(block, 0, min(len(block), last - place + _TAG_HEADER))
            if not tag or tag.start() >= last - place:
                step = min(last - place, _SEARCHED)
                count, place = count + step, place + step
                continue
            count += tag.start()
            self._tag_end = place + tag.start() + _tag_length(tag[0])
            place = min(last, self._tag_end)
        return count


def _tag_length(head: bytes) -> int:
    if head.startswith(b"ID3"):
        return 10 + _synchsafe(head[6:10])
    if head.startswith(b"APETAGEX"):  # its header, or the footer of a tag without a header
        return 32 + int.from_bytes(head[12:16], "little")
    return 128


def _synchsafe(number: bytes) -> int:
    return sum((byte & 127) << shift for byte, shift in zip(number, (21, 14, 7, 0), strict=True))
