"""What PyAV makes of a file, in a process of its own: `store.decoder` starts it, sends it open files, and reads its answers.

A file may come from anyone, and decoders are large and old: what one of them does to the process must not reach the run. So the
process may use so much memory and no more, so much of a CPU's time for each recording, and ends with the first file that fails.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import av
import av.logging
import numpy as np

from msfser_cli.errors import RecordingError
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store import tracks
from msfser_cli.store.channels import Mixer, Splitter
from msfser_cli.store.containers import counted, stated_size
from msfser_cli.store.rumble import HighPass
from msfser_cli.store.timeline import Gap, Sound, Timeline, require_readable, why

RECORDINGS = 1000
"""After so many, the process ends and the next begins afresh: what a decoder leaks does not add up."""

# Containers that state the length of the audio stream itself, exactly: where they do, sound that is missing is noticed.
_STATES_LENGTH = {"aiff", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "ogg", "tta", "w64", "wv"}
_TOLERANCE_S = 0.5  # codecs pad and trim at the ends, and a damaged packet or two cost no recording
_FRAME_S = 0.03  # the first of a joined file has no sound
_FLUSH_BYTES = 1 << 20


def serve(descriptor: int, memory_bytes: int) -> None:
    """Answer the requests that come through the socket `descriptor`, until it is closed or a recording fails."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are meant for the run, which ends this process
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)  # what is wrong with a file is said once, in the ledger
    with socket.socket(fileno=descriptor) as connection:
        connection.sendall(b"\n")
        for _ in range(RECORDINGS):
            request, descriptors, _, _ = socket.recv_fds(connection, 4096, 2)
            if not request:
                return
            answer = _answer(connection, descriptors, **json.loads(request))
            connection.sendall(json.dumps(answer).encode() + b"\n")
            if "samples" not in answer:
                return


def _answer(
    connection: socket.socket, descriptors: list[int], longest_s: float, grace_s: float, channels: str, audio_track: int | None
) -> dict[str, Any]:
    began = time.process_time()

    def alive(seconds: float) -> None:
        """So much was decoded: time for more, if anybody waits for it."""
        if select.select([connection], [], [], 0)[0]:
            os._exit(0)
        left = grace_s + seconds / 4 - (time.process_time() - began)
        signal.setitimer(signal.ITIMER_PROF, max(left, 1e-3))  # the kernel ends the process, wherever it is caught

    try:
        with os.fdopen(descriptors[0], "rb") as source, _Sink(descriptors[1], longest_s, alive) as sink:
            alive(0.0)
            kept, notes = _copy(source, sink, channels, audio_track)
    except RecordingError as error:
        return {"reason": error.reason, "detail": error.detail}
    except _SinkError as error:
        return {"refused": error.args[0]}
    except MemoryError:
        return {"reason": "decode_error", "detail": "the decoder asked for more memory than it may have"}
    except Exception as error:
        return {"reason": "decode_error", "detail": f"{type(error).__name__}: {why(error)}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"samples": sink.samples, "width": sink.width, "channels": kept, "notes": notes}


class _SinkError(Exception):
    """The samples cannot be written, with the number of the system's error."""


class _Sink:
    """Where the samples go, float32, `width` channels interleaved: a buffer in front of a file."""

    def __init__(self, descriptor: int, longest_s: float, alive: Callable[[float], None]) -> None:
        self.samples = 0
        self.width = 1
        self._descriptor, self._longest_s, self._alive = descriptor, longest_s, alive
        self._buffer = bytearray()

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE_HZ

    def restart(self) -> None:
        """Forget what was written."""
        self.samples = 0
        self._buffer = bytearray()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.ftruncate(self._descriptor, 0)

    def add(self, block: np.ndarray) -> None:
        """Samples, float32 [n] or [n, width]."""
        self.samples += len(block)
        self.require(0.0)
        self._buffer += np.ascontiguousarray(block).data.cast("B") if len(block) else b""
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def add_silence(self, seconds: float) -> None:
        """So many seconds of nothing."""
        self.require(seconds)
        rest = round(seconds * SAMPLE_RATE_HZ)
        while rest:
            block = np.zeros((min(rest, _FLUSH_BYTES // self.width), self.width), np.float32)
            self.add(block)
            rest -= len(block)

    def require(self, seconds: float) -> None:
        """RecordingError where so much more would be too long."""
        if self.seconds + seconds > self._longest_s:
            raise RecordingError("too_long", f"longer than {self._longest_s / 3600:g} hours")

    def flush(self) -> None:
        self._alive(self.seconds)
        rest = memoryview(self._buffer)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise _SinkError(error.errno) from error
        rest.release()
        self._buffer = bytearray()


def _copy(source: BinaryIO, sink: _Sink, channels: str, audio_track: int | None) -> tuple[list[int | None], list[str]]:
    """An audio stream of `source` into `sink`; RecordingError as `store.audio.decode` says.

    Returns which channel each of those in the sink is (None: a mix), and what a reader should know.
    """
    size = os.fstat(source.fileno()).st_size
    stated = stated_size(source)
    if stated > size:
        raise RecordingError("decode_error", f"cut short: it says that it has at least {stated} bytes, and there are {size}")
    if source.read(4) == b"RIFX":
        raise RecordingError("not_audio", "a RIFX file (a WAV with its bytes in the other order) is not supported")
    source.seek(0)
    mp3 = counted(source)
    seconds_a_byte = 0.0
    while True:
        # The content alone is asked, never the name; and no playlist may lead to another file or to the network.
        try:
            container = av.open(source, metadata_errors="replace", options={"protocol_whitelist": "none"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            require_readable(error)
            raise RecordingError("not_audio", f"no audio or video container ({why(error)})") from error
        with container:
            stream, notes = tracks.choose(container, audio_track)
            timeline = Timeline(container, stream, source.fileno(), seconds_a_byte)
            listener = _Listener(sink, channels)
            for piece in timeline:
                listener.hear(piece)
            listener.end()
            stated_s = _stated_end(container, stream, mp3.seconds)
            if not seconds_a_byte and (seconds_a_byte := _seconds_a_byte(timeline, stated_s)):
                source.seek(0)
                sink.restart()
                continue  # now that it is known how long what was lost is
            _require_whole(container, timeline, stated_s, sink, is_guess=mp3.length > 0 and not timeline.damaged)
            kept, more = listener.heard()
            return kept, [*notes, *timeline.notes(), *more]


class _Listener:
    """What goes from a timeline into a sink: without rumble, and mixed, split or a single channel of it."""

    def __init__(self, sink: _Sink, channels: str) -> None:
        self._sink = sink
        self._number = int(channels) if channels.isdecimal() else None
        self._is_split = channels == "split"
        self._layout: tuple[str, ...] = ()
        self._high_pass = HighPass()
        self._listeners: list[Mixer | Splitter] = []

    def hear(self, piece: Sound | Gap) -> None:
        """Take what comes next. RecordingError for samples that are no numbers, and for a channel that there is not."""
        if isinstance(piece, Gap):
            self.end()
            self._sink.add_silence(piece.seconds)
            return
        if not np.isfinite(piece.samples).all():
            raise RecordingError("bad_samples", f"samples that are not numbers at {self._sink.seconds:.2f} s")
        if piece.layout != self._layout:
            self.end()
            self._begin(piece.layout)
        self._pass_on(self._high_pass.push(piece.samples if self._number is None else piece.samples[:, [self._number]]))

    def end(self) -> None:
        """Hand on what was held back: the stream ends here, or there is a gap."""
        self._pass_on(self._high_pass.flush())
        if self._listeners:
            for block in self._listeners[-1].flush():
                self._sink.add(block)
        self._sink.flush()

    def heard(self) -> tuple[list[int | None], list[str]]:
        """Which channel each of those in the sink is, None where it is a mix or was left out; and what to say of it."""
        if self._is_split and self._listeners:
            splitter = self._listeners[0]
            assert isinstance(splitter, Splitter)
            return splitter.kept()
        notes = [note for mixer in self._listeners if isinstance(mixer, Mixer) for note in mixer.notes()]
        return [self._number], list(dict.fromkeys(notes))

    def _begin(self, layout: tuple[str, ...]) -> None:
        count = len(layout)
        if self._number is not None:
            if self._number >= count:
                has = "one channel, number 0" if count == 1 else f"{count} channels, numbered from 0"
                raise RecordingError("no_channel", f"there is no channel {self._number}: it has {has}")
            self._listeners = self._listeners or [Mixer(("FC",))]
        elif not self._is_split:
            self._listeners.append(Mixer(layout))
        elif not self._listeners:
            self._sink.width = count
            self._listeners = [Splitter(count)]
        elif count != self._sink.width:
            change = f"it has {self._sink.width} channels at first and {count} from {self._sink.seconds:.2f} s on"
            raise RecordingError("no_channel", f"{change}: such a recording cannot be split; use --channels mix")
        self._layout = layout

    def _pass_on(self, blocks: Iterator[np.ndarray]) -> None:
        for block in blocks:
            for heard in self._listeners[-1].push(block):
                self._sink.add(heard)


def _seconds_a_byte(timeline: Timeline, stated_s: float) -> float:
    """How long each byte lasts that was lost among bare frames; 0 where no more than a frame was.

    By the length that the file states, if it does and that can be; else as long as a byte that was not lost.
    """
    accounted = timeline.accounted
    if not accounted or not accounted.lost or not accounted.sound:
        return 0.0
    average = timeline.sound_s / accounted.sound
    told = (stated_s - timeline.reached) / accounted.lost
    chosen = told if average / 2 < told < average * 2 else average
    return chosen if chosen * accounted.lost > _FRAME_S else 0.0


def _require_whole(container: Any, timeline: Timeline, stated_s: float, sink: _Sink, *, is_guess: bool) -> None:
    """RecordingError unless all that the container states was decoded, or nearly so; `is_guess`: unless it is likely wrong."""
    name, ended, reached = container.format.name, timeline.ended, timeline.first + timeline.reached
    if ended and not (name == "wv" and 0 < stated_s <= reached + _TOLERANCE_S):  # to FFmpeg, its tags are an error
        raise RecordingError("decode_error", f"after {sink.seconds:.2f} s: {why(ended)}") from ended
    if timeline.damage and not timeline.sound_s:
        raise RecordingError("decode_error", f"nothing could be decoded ({why(timeline.damage)})")
    if stated_s > reached + _TOLERANCE_S and not is_guess:
        raise RecordingError("decode_error", f"cut short: {reached:.2f} of {stated_s:.2f} s could be decoded")
    if timeline.unplaced_s > _TOLERANCE_S:
        raise RecordingError("decode_error", f"cut short: {timeline.unplaced_s:.2f} s within it could not be decoded")
    if not sink.samples:
        raise RecordingError("no_samples", "the audio stream is empty")


def _stated_end(container: Any, stream: Any, counted_s: float) -> float:
    """The time in seconds at which the stream ends by what the container, or an MP3's count of frames, says; or 0."""
    name = container.format.name
    length = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if name == "mp3":  # FFmpeg knows what the encoder added, but takes the size of joined files for their length
        return length if 0 < counted_s - length < _TOLERANCE_S else counted_s
    if name in _STATES_LENGTH and length:
        return length
    # Matroska's own duration is that of the longest stream, and some recorders' is that of a clock.
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if name != "matroska,webm" or not tag:
        return 0.0
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
