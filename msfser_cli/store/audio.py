"""Decoding: any container or codec that PyAV reads, as mono float32 at 16 kHz."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import av
import av.logging
import numpy as np

from msfser_cli.errors import RecordingError, ResourceError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.atomic import is_shortage

T = TypeVar("T")

av.logging.set_level(None)  # what is wrong with a file is said once, in the ledger

AUDIO_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".awb", ".caf",
    ".dts", ".eac3", ".flac", ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp3",
    ".mp4", ".mpeg", ".mpg", ".mpga", ".mts", ".nist", ".oga", ".ogg", ".ogm", ".ogv", ".opus", ".ra", ".rm", ".rmvb", ".shn",
    ".snd", ".spx", ".sph", ".tak", ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wv",
)  # fmt: skip
"""The names that a scan of a folder takes, in any case; a file that is named outright may have any other."""

MAX_DURATION_S = 24 * 3600
"""A recording that decodes to more is refused: a few kilobytes can claim years of silence."""

# Containers that state the length of the audio stream itself, exactly: where they do, a file that was cut short is noticed.
_STATES_LENGTH = {"aiff", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "w64"}
_BLOCK = 1 << 20


class Samples(Protocol):
    """Samples of which only what is sliced is in memory: float32, mono, 16 kHz, nominally in [-1, 1]. An array is one, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> np.ndarray: ...


@dataclass
class Audio:
    """A decoded recording; as it may be of any length, no more of its samples is to be sliced at once than is needed."""

    samples: Samples
    _derived: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def clip(self, start: float, end: float) -> np.ndarray:
        """The samples from `start` to `end` seconds, float32 [n]."""
        return self.samples[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]

    def derived(self, key: str, compute: Callable[[Samples], T]) -> T:
        """What `compute` makes of the samples, computed once: two stages that need the pitch track share it."""
        if key not in self._derived:
            self._derived[key] = compute(self.samples)
        return self._derived[key]  # type: ignore[no-any-return]


def is_audio_name(path: Path) -> bool:
    """Whether a scan of a folder takes a file of this name: a suffix of `AUDIO_SUFFIXES`, and not a hidden file."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def file_sha256(path: Path) -> tuple[str, int]:
    """The hash of a file's content, in hex, and its size in bytes. RecordingError: missing, unreadable."""
    digest, size = hashlib.sha256(), 0
    with _open(path) as file:
        try:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
        except OSError as error:
            raise RecordingError("unreadable", _why(error)) from error
    return digest.hexdigest(), size


def decode(path: Path) -> Audio:
    """The first audio stream of a file, resampled to 16 kHz; channels are averaged, levels are left as they are.

    Every failure is a RecordingError: missing, unreadable, empty, not_audio, no_audio_stream, no_samples, bad_samples, and
    decode_error when the decoder gave up or the file is shorter than it says. A damaged packet in a file of full length is
    skipped; formats that do not state a length (MP3, Ogg, WebM) are read as far as they go.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise RecordingError("empty", "the file has no bytes")
        stated = _riff_size(file)
        if stated > size:
            raise RecordingError("decode_error", f"cut short: the header promises {stated} bytes, the file has {size}")
        # The content alone is asked, never the name; and no playlist may lead to another file or to the network.
        try:
            container = av.open(file, metadata_errors="replace", options={"protocol_whitelist": "none"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if is_shortage(error):
                raise ResourceError(f"{path}: cannot read: {_why(error)}") from error
            raise RecordingError("not_audio", f"no audio or video container ({_why(error)})") from error
        with container:
            if not container.streams.audio:
                raise RecordingError("no_audio_stream", f"the container ({container.format.name}) has no audio stream")
            return Audio(_samples(container, container.streams.audio[0]))


def _open(path: Path) -> BinaryIO:
    """Open a regular file; anything else could block or never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise RecordingError("missing", _why(error)) from error
    except OSError as error:
        if is_shortage(error):
            raise ResourceError(f"{path}: cannot read: {_why(error)}") from error
        raise RecordingError("unreadable", _why(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecordingError("unreadable", "not a regular file")
    return os.fdopen(descriptor, "rb")


def _samples(container: Any, stream: Any) -> np.ndarray:
    """float32 [n] of one stream."""
    # A bytearray grows in place, so that a long recording never needs twice its memory.
    samples, limit = bytearray(), MAX_DURATION_S * SAMPLE_RATE_HZ * 4
    damaged: Exception | None = None
    try:
        for frame in _frames(container, stream):
            if isinstance(frame, Exception):
                damaged = frame
                continue
            # swresample's own mono sums float channels at 0.71 each: louder than the channels, and beyond 1
            block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1, dtype=np.float32)
            if not np.isfinite(block).all():
                raise RecordingError("bad_samples", f"samples that are not numbers at {_seconds(samples):.2f} s")
            samples += block.data
            if len(samples) > limit:
                raise RecordingError("decode_error", f"longer than {MAX_DURATION_S // 3600} hours")
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise RecordingError("decode_error", f"after {_seconds(samples):.2f} s: {_why(error)}") from error
    if not samples:
        if damaged:
            raise RecordingError("decode_error", f"nothing could be decoded ({_why(damaged)})")
        raise RecordingError("no_samples", "the audio stream is empty")
    if container.format.name in _STATES_LENGTH and stream.duration:
        stated = float(stream.duration * stream.time_base)
        # Codecs pad and trim at the ends; what is missing from a file that was cut is more.
        if stated - _seconds(samples) > max(0.5, 0.01 * stated):
            raise RecordingError("decode_error", f"cut short: {_seconds(samples):.2f} of {stated:.2f} s could be decoded")
    return np.frombuffer(samples, dtype=np.float32)


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of `stream` at 16 kHz, float32, channels interleaved, and for each damaged packet the decoder's exception."""
    resampler, source = None, None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            yield error
            continue
        for frame in frames:
            if source != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                if resampler:  # some broadcasts change their form midway
                    yield from resampler.resample(None)
                # interleaved: PyAV reads past the planes of a frame with eight channels
                resampler, source = av.AudioResampler(format="flt", rate=SAMPLE_RATE_HZ), form
            yield from resampler.resample(frame)  # type: ignore[union-attr]
    if resampler:
        yield from resampler.resample(None)


def _seconds(samples: bytearray) -> float:
    return len(samples) / 4 / SAMPLE_RATE_HZ


def _riff_size(file: BinaryIO) -> int:
    """The bytes that a RIFF header promises, or 0 where there is none or it was written before the size was known."""
    head = file.read(12)
    file.seek(0)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0
    stated = int.from_bytes(head[4:8], "little") + 8
    return 0 if stated >= 0x7FFF0000 else stated


def _why(error: BaseException) -> str:
    """The error in words, without the file's name: the ledger has it already, and it differs from machine to machine."""
    return str(getattr(error, "strerror", None) or error)
