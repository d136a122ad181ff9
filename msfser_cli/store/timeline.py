"""The sound of one audio stream, at the times that its container gives it.

Time 0 is the first packet of any stream that can be seen or heard: sound that starts later has silence before it, and what was
lost or paused is silence, so that all that follows keeps its time. How long a gap is, a container says with the times of its
packets. A format of bare frames, one after another, has no times: there, it is told by the bytes that could not be read.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from msfser_cli.errors import RecordingError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.containers import Accounted

# Containers that state the time of each packet. Some of them are cut and joined without a care for their times: there, a leap is
# silence only within reason.
_STATES_TIMES = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "ogg"}
_STATES_TIMES_LOOSELY = {"mpegts", "mpeg", "flv", "live_flv", "asf", "mxf", "nut", "rm"}
_WRAPS, _WRAP_S = {"mpegts", "mpeg"}, (1 << 33) / 90_000  # whose clock begins anew after 26.5 hours
_LONGEST_LEAP_S = 3600.0
_LEAP_BACK_S = 1.0
_LEAST_GAP_S = 0.08  # times that a live recorder takes from its clock are not even

_BARE_FRAMES = {"mp3": 1728, "aac": 8191, "ac3": 3840, "eac3": 4096, "dts": 16_384, "loas": 8191}  # and the longest, in bytes
_LOSES_PLACES = {"aac", "loas"}  # of what their readers skip, packets do not tell
_NOTED_S = 0.5


@dataclass(frozen=True)
class Sound:
    """Samples at 16 kHz, float32 [n, channels], and the names of the channels."""

    samples: np.ndarray
    layout: tuple[str, ...]


@dataclass(frozen=True)
class Gap:
    """So many seconds without sound."""

    seconds: float


class Timeline:
    """One pass through a stream. `seconds_a_byte`: how long a byte lasts that is no sound, in a format of bare frames.

    Afterwards: `damaged` is the number of packets that could not be decoded, `damage` why the first could not; `ended` is why the
    stream ended early. `first` is the time of the container that is 0 here, `reached` the time at which the stream ended, and
    `sound_s` how much of that is sound. Of bare frames, `accounted` is what became of their bytes, and `unplaced_s` how many
    seconds are missing of which it is not known where.
    """

    def __init__(self, container: Any, stream: Any, descriptor: int, seconds_a_byte: float = 0.0) -> None:
        self._container, self._stream, self._seconds_a_byte = container, stream, seconds_a_byte
        name = container.format.name
        self._is_strict = name in _STATES_TIMES
        self._is_timed = self._is_strict or name in _STATES_TIMES_LOOSELY
        self._origin = self._first_time()
        self.first = self._origin or 0.0
        self.accounted = Accounted(descriptor, _BARE_FRAMES[name]) if name in _BARE_FRAMES else None
        self.damaged = self._leaps = 0
        self.damage: Exception | None = None
        self.ended: Exception | None = None
        self.reached = self.sound_s = self.unplaced_s = self._starts = self._missing_s = 0.0

    def __iter__(self) -> Iterator[Sound | Gap]:
        """The sound and the gaps of the stream, in order."""
        resampler, form = None, None
        try:
            for packet in self._container.demux(self._stream):
                for piece in self._decoded(packet):
                    if isinstance(piece, float):
                        if resampler:
                            yield from _sound(resampler.resample(None))
                        resampler = form = None
                        yield Gap(piece)
                        continue
                    if form != (form := (piece.format.name, piece.layout.name, piece.sample_rate)):
                        if resampler:  # some broadcasts change their form midway
                            yield from _sound(resampler.resample(None))
                        # interleaved: PyAV reads past the planes of a frame with eight channels
                        resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE_HZ)
                    yield from _sound(resampler.resample(piece))  # type: ignore[union-attr]
        except (av.error.FFmpegError, OSError, ValueError) as error:
            require_readable(error)
            self.ended = error
        if resampler:
            yield from _sound(resampler.resample(None))
        if self.accounted and self.sound_s:
            average = self.sound_s / self.accounted.sound
            lost = self.accounted.skip_to_end()
            if self._container.format.name in _LOSES_PLACES and self.damaged:
                self.unplaced_s = lost * average
            elif gap := lost * self._seconds_a_byte:
                yield Gap(self._silence(gap))

    def notes(self) -> list[str]:
        """What a reader should know of the stream, a sentence each."""
        notes = []
        if self.damaged:
            notes.append(f"{self.damaged} damaged packet{'s' if self.damaged > 1 else ''}")
        if self._starts >= _NOTED_S:
            notes.append(f"its sound starts at {self._starts:.2f} s")
        if self._missing_s >= _NOTED_S:
            notes.append(f"{self._missing_s:.2f} s of its sound are missing and are silence here")
        if self._leaps:
            notes.append(f"its times leap {'once' if self._leaps == 1 else f'{self._leaps} times'}, as in joined files")
        return notes

    def _first_time(self) -> float | None:
        """The time of the first packet of any stream; None where the first frame tells: of a stream alone, or without times."""
        starts = [
            float(stream.start_time * stream.time_base)
            for stream in self._container.streams
            if stream.type in ("audio", "video") and stream.start_time is not None
            and not stream.disposition & (Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails)
        ]  # fmt: skip
        return None if self._stream.start_time is None or len(starts) < 2 else min(starts)

    def _decoded(self, packet: Any) -> Iterator[Any]:
        """The frames of a packet; and for each gap its length in seconds, a float."""
        try:
            frames = packet.decode()
        except EOFError:
            return
        except (av.error.FFmpegError, OSError) as error:
            _require_memory(error)
            self.damage = self.damage or error
            if gap := self._lost_with(packet):
                yield self._silence(gap)
            return
        if self.accounted and frames and packet.size:
            lost = self.accounted.add(packet.pos, packet.size)
            self.damaged += lost > 0
            if gap := lost * self._seconds_a_byte:
                yield self._silence(gap)
        for frame in frames:
            if gap := self._gap_before(frame):
                yield self._silence(gap)
            self.sound_s += frame.samples / frame.sample_rate
            self.reached += frame.samples / frame.sample_rate
            yield frame

    def _gap_before(self, frame: Any) -> float:
        """The seconds between the end of the sound so far and this frame, by the times of the container."""
        if frame.time is None or not (self._is_timed or not self.sound_s):
            return 0.0
        if self._origin is None:
            self._origin = self.first = float(frame.time)
        late = float(frame.time) - self._origin - self.reached
        if self._container.format.name in _WRAPS:
            late = (late + _WRAP_S / 2) % _WRAP_S - _WRAP_S / 2
        if late < -_LEAP_BACK_S or (late > _LONGEST_LEAP_S and not self._is_strict):
            self._leaps += self.sound_s > 0
            self._origin += late
            return 0.0
        return late if late > _LEAST_GAP_S else 0.0

    def _lost_with(self, packet: Any) -> float:
        """The seconds of a packet that cannot be decoded; 0 where the time of the next one will tell."""
        if self.accounted:
            lost = self.accounted.skip(packet.size)
            self.damaged += lost == packet.size  # between joined files, there are tags
            return lost * self._seconds_a_byte
        self.damaged += 1
        if self._is_timed or not packet.duration:
            return 0.0
        return float(packet.duration * packet.time_base)

    def _silence(self, seconds: float) -> float:
        if self.sound_s:
            self._missing_s += seconds
        else:
            self._starts += seconds
        self.reached += seconds
        return seconds


def require_readable(error: Exception) -> None:
    """Tell a disk that does not give the file's bytes from a decoder that does not like them."""
    # It is the decoder's fault where it looks for something at a place that no file has.
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError) and error.errno != errno.EINVAL:
        raise RecordingError("unreadable", why(error)) from error
    _require_memory(error)


def why(error: BaseException) -> str:
    """The error in words, without the file's name: the ledger has it already, and it differs from machine to machine."""
    return str(getattr(error, "strerror", None) or error)


def _require_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def _sound(frames: list[Any]) -> Iterator[Sound]:
    for frame in frames:
        layout = tuple(channel.name for channel in frame.layout.channels)
        yield Sound(frame.to_ndarray().reshape(-1, frame.layout.nb_channels), layout)
