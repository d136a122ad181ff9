"""Recordings: any container or codec that PyAV reads, as mono float32 at 16 kHz."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np

from msfser_cli.errors import RecordingError, ResourceError, is_shortage
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.atomic import resources, scratch
from msfser_cli.store.decoder import Decoder

T = TypeVar("T")

_decoder = Decoder()

AUDIO_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".awb", ".caf",
    ".divx", ".dts", ".dv", ".eac3", ".f4a", ".f4v", ".flac", ".flv", ".gsm", ".m2p", ".m2t", ".m2ts", ".m4a", ".m4b", ".m4v",
    ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp3", ".mp4", ".mpe", ".mpeg", ".mpeg4", ".mpg", ".mpga", ".mpv", ".mts", ".mxf",
    ".nist", ".nut", ".oga", ".ogg", ".ogm", ".ogv", ".opus", ".qt", ".ra", ".rm", ".rmvb", ".shn", ".snd", ".sph", ".spx",
    ".tak", ".tp", ".trp", ".ts", ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wtv",
    ".wv",
)  # fmt: skip
"""The names that a scan of a folder takes, in any case; a file that is named outright may have any other."""

MAX_BYTES = 64 << 30
"""A larger file is refused unread: it may be a hole of any size."""

_BLOCK = 1 << 20


class Samples(Protocol):
    """Samples of which only what is sliced is in memory: float32, mono, 16 kHz, nominally in [-1, 1]. An array is one, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class _Stretch:
    """The samples of `whole` from `first` to before `last`."""

    whole: Samples
    first: int
    last: int

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def __getitem__(self, stretch: slice, /) -> np.ndarray:
        first, last, _ = stretch.indices(len(self))
        return self.whole[self.first + first : self.first + max(first, last)]


@dataclass
class Audio:
    """A decoded recording; as it may be of any length, no more of its samples is to be sliced at once than is needed."""

    samples: Samples
    channel: int | None = None
    """The number of the recording's channel that this is; None for a mix."""
    channels: tuple[Audio, ...] = ()
    """Where a recording was split: each channel that is worth hearing. `samples` is the first of them then."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know of how the recording was read, a sentence each: the ledger's `note`. Stages may add to it."""
    incomplete: str | None = None
    """Why a part of the recording gets no rows, one of `errors.REASONS`: the ledger's `reason` beside the status `done`."""
    speech_seconds: float | None = None
    transcribed_seconds: float | None = None
    """The columns of the ledger, once the recording is transcribed."""
    _derived: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def parts(self) -> tuple[Audio, ...]:
        """What is to be heard: each channel, or all of the recording."""
        return self.channels or (self,)

    def of_channel(self, channel: int | None) -> Audio:
        """What a row with this `channel` was heard in. RecordingError where the recording has no such channel."""
        for audio in self.parts:
            if audio.channel == channel:
                return audio
        raise RecordingError("no_channel", f"its rows are of channel {channel}, which was not decoded; transcribe it again")

    def clip(self, start: float, end: float) -> np.ndarray:
        """The samples from `start` to `end` seconds, float32 [n]."""
        return self.samples[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]

    def stretch(self, start: float, end: float) -> Samples:
        """The samples from `start` to `end` seconds, none of them in memory yet."""
        return _Stretch(self.samples, round(start * SAMPLE_RATE_HZ), min(round(end * SAMPLE_RATE_HZ), len(self.samples)))

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


def decode(path: Path, output: Path | None = None, *, channels: str = "mix", audio_track: int | None = None) -> Audio:
    """An audio track of a file at 16 kHz, at the times of its container, without what lies below any voice (`store.rumble`).

    `channels` and `audio_track` are those of `settings.TranscribeSettings`: a mix (`store.channels`), a channel, or all of them;
    a track by its number, or the likeliest (`store.tracks`). Levels are left as they are, also beyond full scale.

    It is decoded in a process of its own (`store.decoder`) into a nameless file beside `output`, or where the system has its
    temporary files. Every failure is a RecordingError: missing, unreadable, empty, too_large, not_audio, no_audio_stream,
    no_channel, no_samples, bad_samples, too_long, timeout, decoder_crashed, and decode_error when the decoder gave up or the file
    is shorter than it says (`store.containers` knows what says so). Damage within is silence of its length, and noted. What was
    cut from a format that states neither size nor length is not missed. ResourceError when the machine refuses.
    """
    with _open(path) as source:
        if os.fstat(source.fileno()).st_size == 0:
            raise RecordingError("empty", "the file has no bytes")
        with scratch(output) as file, resources(output or Path(tempfile.gettempdir())):
            decoded = _decoder.decode(source.fileno(), file.fileno(), channels, audio_track)
            heard = []
            for number in decoded.channels:
                place = number if number is not None and decoded.width > 1 else 0
                samples = _OnDisk(os.dup(file.fileno()), decoded.samples, decoded.width, place)
                heard.append(Audio(samples, number, notes=decoded.notes))
            return replace(heard[0], channels=tuple(heard)) if channels == "split" else heard[0]


class _OnDisk:
    """The samples of one of `width` channels in an open file, which ends with this object."""

    def __init__(self, descriptor: int, count: int, width: int, channel: int) -> None:
        # No method of ours is to close it: a signal would raise in there, where nothing can catch it.
        self._file, self._count, self._width, self._channel = io.FileIO(descriptor), count, width, channel

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, stretch: slice, /) -> np.ndarray:
        first, last, step = stretch.indices(self._count)
        samples = np.empty((max(0, last - first), self._width), np.float32)
        rest = memoryview(samples.reshape(-1).data).cast("B")
        while rest:
            read = os.preadv(self._file.fileno(), [rest], last * 4 * self._width - len(rest))
            if not read:
                raise ResourceError("the file of decoded samples is shorter than it was")
            rest = rest[read:]
        return np.ascontiguousarray(samples[::step, self._channel])


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
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        os.close(descriptor)
        if stat.S_ISREG(status.st_mode):
            raise RecordingError("too_large", f"{status.st_size} bytes, and at most {MAX_BYTES} are read")
        raise RecordingError("unreadable", "not a regular file")
    return os.fdopen(descriptor, "rb")


def _why(error: BaseException) -> str:
    """The error in words, without the file's name: the ledger has it already, and it differs from machine to machine."""
    return str(getattr(error, "strerror", None) or error)
