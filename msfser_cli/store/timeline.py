"""The sound of one audio stream, at the times that its container states.

Time 0 is the first packet of any audio or video stream. Sound that starts later has silence before it, and lost or paused parts
become silence, so all sound after them keeps its time. In most containers the times of the packets give the length of a gap. A
format of bare frames, one after another, has no times; the length of a gap then follows from the bytes that could not be read.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from msfser_cli.errors import RecordingError, why
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.containers import Accounted

# Containers that state the time of each packet. Those of the second kind are often cut and joined without correcting their times,
# so in them a leap of more than an hour is not silence.
_STATES_TIMES = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "ogg"}
_STATES_TIMES_LOOSELY = {"mpegts", "mpeg", "flv", "live_flv", "asf", "mxf", "nut", "rm"}
_WRAPS, _WRAP_S = {"mpegts", "mpeg"}, (1 << 33) / 90_000  # their clock wraps around after 26.5 hours
_LONGEST_LEAP_S = 3600.0
_LEAP_BACK_S = 1.0
_LEAST_GAP_S = 0.08  # a live recorder takes the times from its clock, so they are uneven

_BARE_FRAMES = {"mp3": 1728, "aac": 8191, "ac3": 3840, "eac3": 4096, "dts": 16_384, "loas": 8191}  # -> longest frame in bytes
_LOSES_PLACES = {"aac", "loas"}  # the places of their packets do not show which bytes FFmpeg's reader skipped
_NOTED_S = 0.5  # a shorter gap gets no note


@dataclass(frozen=True)
class Sound:
    """Samples at 16 kHz, float32 [n, channels], and the names of the channels."""

    samples: np.ndarray
    layout: tuple[str, ...]


@dataclass(frozen=True)
class Gap:
    """A time without sound, in seconds."""

    seconds: float


class Timeline:
    """One pass through a stream.

    seconds_a_byte: the duration of a lost byte, for a format of bare frames; 0 if it is not known yet.

    After the pass these attributes are set:

    damaged: the number of packets that could not be decoded. damage: the error of the first. ended: the error that ended the
    stream early. first: the container's time at time 0 here. reached: the time at the end of the stream. sound_s: the seconds of
    sound in it. accounted: the account of the bytes, for bare frames. unplaced_s: the seconds of lost sound at unknown places.
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
                            yield from resampler.end()
                        resampler = form = None
                        yield Gap(piece)
                        continue
                    if form != (form := (piece.format.name, piece.layout.name, piece.sample_rate)):
                        if resampler:  # some broadcasts change their sample format, layout or rate
                            yield from resampler.end()
                        resampler = _Resampler(piece.layout)
                    yield from resampler.push(piece)  # type: ignore[union-attr]
        except (av.error.FFmpegError, OSError, ValueError) as error:
            require_readable(error)
            self.ended = error
        if resampler:
            yield from resampler.end()
        if self.accounted and self.sound_s:
            average = self.sound_s / self.accounted.sound
            lost = self.accounted.skip_to_end()
            if self._container.format.name in _LOSES_PLACES and self.damaged:
                self.unplaced_s = lost * average
            elif gap := lost * self._seconds_a_byte:
                yield Gap(self._silence(gap))

    def notes(self) -> list[str]:
        """Sentences for the user about the stream."""
        notes = []
        if self.damaged:
            notes.append(f"{self.damaged} damaged packet{'s' if self.damaged > 1 else ''}")
        if self._starts >= _NOTED_S:
            notes.append(f"its sound starts at {self._starts:.2f} s")
        if self._missing_s >= _NOTED_S:
            notes.append(f"{self._missing_s:.2f} s of its sound are missing; silence replaces them")
        if self._leaps:
            notes.append(f"its timestamps jump {'once' if self._leaps == 1 else f'{self._leaps} times'}, as in joined files")
        return notes

    def _first_time(self) -> float | None:
        """The time of the first packet of any stream. None for a single stream, or one without times: the first frame tells."""
        starts = [
            float(stream.start_time * stream.time_base)
            for stream in self._container.streams
            if stream.type in ("audio", "video") and stream.start_time is not None
            and not stream.disposition & (Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails)
        ]  # fmt: skip
        return None if self._stream.start_time is None or len(starts) < 2 else min(starts)

    def _decoded(self, packet: Any) -> Iterator[Any]:
        """The frames of a packet, and for each gap its length in seconds as a float."""
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
        """The seconds from the end of the sound so far to this frame, by the container's times."""
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
        """The seconds of a packet that cannot be decoded. 0 if the time of the next packet will show the gap."""
        if self.accounted:
            lost = self.accounted.skip(packet.size)
            self.damaged += lost == packet.size  # less is lost if it holds a tag, as between joined files
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
    """Raise RecordingError if the disk failed, and MemoryError if memory ran out. Otherwise the decoder rejects the content."""
    # EINVAL comes from a decoder that seeks to an impossible place, so the disk is not at fault.
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError) and error.errno != errno.EINVAL:
        raise RecordingError("unreadable", f"msfser cannot read it ({why(error)})") from error
    _require_memory(error)


def _require_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


class _Resampler:
    """Resamples frames of one layout to 16 kHz, and joins them, because each piece costs time: an MP3 frame has 26 ms."""

    _LEAST = SAMPLE_RATE_HZ // 2

    def __init__(self, layout: Any) -> None:
        # interleaved, because PyAV reads past the planes of a frame with eight channels
        self._resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE_HZ)
        self._layout = tuple(channel.name for channel in layout.channels)
        self._waiting: list[np.ndarray] = []
        self._count = 0

    def push(self, frame: Any) -> Iterator[Sound]:
        """Take a frame, and yield the sound so far if it is long enough."""
        self._wait(frame)
        if self._count >= self._LEAST:
            yield self._joined()

    def end(self) -> Iterator[Sound]:
        """Yield the rest."""
        self._wait(None)
        if self._count:
            yield self._joined()

    def _wait(self, frame: Any) -> None:
        for out in self._resampler.resample(frame):
            samples = np.frombuffer(out.planes[0], np.float32, out.samples * len(self._layout))
            self._waiting.append(samples.reshape(-1, len(self._layout)))
            self._count += out.samples

    def _joined(self) -> Sound:
        sound = Sound(np.concatenate(self._waiting), self._layout)
        self._waiting, self._count = [], 0
        return sound
