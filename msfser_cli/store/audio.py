"""Reads recordings in any container and codec that PyAV knows, as mono float32 at 16 kHz."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np

from msfser_cli.errors import RecordingError, ResourceError, is_shortage, why
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.atomic import resources, scratch
from msfser_cli.store.decoder import Decoder

T = TypeVar("T")

_idle: list[Decoder] = []  # decoders that no thread uses now

AUDIO_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".awb", ".caf",
    ".divx", ".dts", ".dv", ".eac3", ".f4a", ".f4v", ".flac", ".flv", ".gsm", ".m2p", ".m2t", ".m2ts", ".m4a", ".m4b", ".m4v",
    ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp3", ".mp4", ".mpe", ".mpeg", ".mpeg4", ".mpg", ".mpga", ".mpv", ".mts", ".mxf",
    ".nist", ".nut", ".oga", ".ogg", ".ogm", ".ogv", ".opus", ".qt", ".ra", ".rm", ".rmvb", ".shn", ".snd", ".sph", ".spx",
    ".tak", ".tp", ".trp", ".ts", ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wtv",
    ".wv",
)  # fmt: skip
"""The suffixes of the files that a scan of a folder takes, in any case. A file that the user names may have another."""

_HIDDEN_FOLDERS = {
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "system volume information",
    "__macosx", "lost+found",
}  # fmt: skip
"""Folders of thumbnails, trash and old versions, in lower case. Folders that begin with a dot are hidden as well."""

MAX_BYTES = 64 << 30
"""A larger file is refused before it is read. A sparse file may claim any size."""

_BLOCK = 1 << 20


class Samples(Protocol):
    """Samples: float32, mono, 16 kHz, nominally in [-1, 1]. A slice of them is an array in memory. An array also fits."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class _Stretch:
    """The samples of `whole` from `first` up to, but without, `last`."""

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
    """A decoded recording, or one channel of it. It may be hours long, so slice only the samples that you need."""

    samples: Samples
    channel: int | None = None
    """The number of the channel; None for a mix."""
    channels: tuple[Audio, ...] = ()
    """If the recording was split: its channels, without silent ones and copies. `samples` are then those of the first."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user about the recording: the ledger's `note`. Stages may add to them."""
    incomplete: str | None = None
    """Why a part of the recording gets no rows, one of `errors.REASONS`. It is the ledger's `reason` beside the status `done`."""
    speech_seconds: float | None = None
    transcribed_seconds: float | None = None
    """The ledger's columns of these names; None until the recording is transcribed."""
    _derived: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def parts(self) -> tuple[Audio, ...]:
        """The channels to process, or the recording itself if it was not split."""
        return self.channels or (self,)

    def of_channel(self, channel: int | None) -> Audio:
        """The audio for rows with this `channel`. Raises RecordingError if it was not decoded."""
        for audio in self.parts:
            if audio.channel == channel:
                return audio
        which = "the mix of the channels" if channel is None else f"channel {channel}"
        raise RecordingError("no_channel", f"its rows are of {which}, which was not decoded; transcribe the recording again")

    def clip(self, start: float, end: float) -> np.ndarray:
        """The samples from `start` to `end` seconds, float32 [n]."""
        return self.samples[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]

    def stretch(self, start: float, end: float) -> Samples:
        """The samples from `start` to `end` seconds. They are read when they are sliced."""
        return _Stretch(self.samples, round(start * SAMPLE_RATE_HZ), min(round(end * SAMPLE_RATE_HZ), len(self.samples)))

    def derived(self, key: str, compute: Callable[[Samples], T]) -> T:
        """`compute(samples)`, computed once for each `key`. Stages share the result, for example the pitch track."""
        if key not in self._derived:
            self._derived[key] = compute(self.samples)
        return self._derived[key]  # type: ignore[no-any-return]


def is_audio_name(path: Path) -> bool:
    """Whether a scan of a folder takes this file: it has a suffix of `AUDIO_SUFFIXES`, and is not hidden."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def is_hidden_folder(name: str) -> bool:
    """Whether a scan passes over a folder of this name."""
    return name.startswith(".") or name.lower() in _HIDDEN_FOLDERS


def file_sha256(path: Path) -> tuple[str, int]:
    """The sha256 of a file's content, in hex, and its size in bytes. Raises RecordingError: missing, unreadable, too_large."""
    digest, size = hashlib.sha256(), 0
    with _open(path) as file:
        try:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
        except OSError as error:
            raise RecordingError("unreadable", f"msfser cannot read it ({why(error)})") from error
    return digest.hexdigest(), size


def decode(path: Path, output: Path | None = None, *, channels: str = "mix", audio_track: int | None = None) -> Audio:
    """An audio track of a file at 16 kHz, at the times of its container, without the rumble below any voice (`store.rumble`).

    `channels` and `audio_track` are as in `settings.TranscribeSettings`: a mix (`store.channels`), one channel or all channels;
    a track by its number, or the likeliest (`store.tracks`). Levels are not changed, also beyond full scale.

    A process of its own decodes the file (`store.decoder`), into a nameless file beside `output`, or in the system's folder for
    temporary files. Damage within the recording becomes silence of the same length, with a note.

    Raises RecordingError for every failure of the recording: missing, unreadable, empty, too_large, not_audio, no_audio_stream,
    no_channel, no_samples, bad_samples, too_long, timeout, decoder_crashed, decode_error. decode_error means that the decoder
    gave up, or that the file is shorter than its headers say (see `store.containers`). Some formats state neither size nor
    length; a file of these that was cut short is not noticed. Raises ResourceError if the machine runs short.
    """
    with _open(path) as source:
        if os.fstat(source.fileno()).st_size == 0:
            raise RecordingError("empty", "the file has no bytes; copy it again")
        with scratch(output) as file, resources(output or Path(tempfile.gettempdir())):
            with _decoder() as decoder:
                decoded = decoder.decode(source.fileno(), file.fileno(), channels, audio_track)
            parts = []
            for number in decoded.channels:
                place = number if number is not None and decoded.width > 1 else 0
                samples = _OnDisk(os.dup(file.fileno()), decoded.samples, decoded.width, place)
                parts.append(Audio(samples, number, notes=decoded.notes))
            return replace(parts[0], channels=tuple(parts)) if channels == "split" else parts[0]


@contextmanager
def _decoder() -> Iterator[Decoder]:
    """A decoder for the block. There are as many as threads that decode at once."""
    try:
        decoder = _idle.pop()
    except IndexError:
        decoder = Decoder()
    try:
        yield decoder
    finally:
        _idle.append(decoder)


class _OnDisk:
    """The samples of one of `width` channels in an open file. The file is closed when this object is freed."""

    def __init__(self, descriptor: int, count: int, width: int, channel: int) -> None:
        # FileIO closes itself. In a __del__ here, a signal handler could raise, and nothing could catch that.
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
                raise ResourceError("the temporary file of decoded samples became shorter during the run; run the command again")
            rest = rest[read:]
        return np.ascontiguousarray(samples[::step, self._channel])


def _open(path: Path) -> BinaryIO:
    """Open a regular file. Anything else could block, or have no end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise RecordingError("missing", f"the file does not exist ({why(error)})") from error
    except OSError as error:
        if is_shortage(error):
            raise ResourceError(f"{path}: cannot open it ({why(error)}); end other programs and run it again") from error
        raise RecordingError("unreadable", f"msfser cannot open it ({why(error)})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        os.close(descriptor)
        if stat.S_ISREG(status.st_mode):
            problem = f"the file has {status.st_size} bytes, more than the limit of {MAX_BYTES}; split it into shorter recordings"
            raise RecordingError("too_large", problem)
        raise RecordingError("unreadable", "it is not a regular file")
    return os.fdopen(descriptor, "rb")
