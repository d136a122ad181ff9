"""Decodes files with PyAV, in a process of its own. `store.decoder` starts it, sends it open files, and reads its answers.

A file may come from anyone, and decoders are large and old, so a fault in a decoder must not reach the run. The process has a
limit on its memory, and one on its CPU time for each recording. It ends after the first file that fails.
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

from msfser_cli.errors import RecordingError, why
from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store import tracks
from msfser_cli.store.channels import Mixer, Splitter
from msfser_cli.store.containers import counted, stated_size
from msfser_cli.store.rumble import HighPass
from msfser_cli.store.timeline import Gap, Sound, Timeline, require_readable

RECORDINGS = 1000
"""The process ends after this many recordings, and a new one starts, so memory leaks of decoders do not add up."""

# Containers that state the exact length of the audio stream itself. A missing part of their sound is noticed.
_STATES_LENGTH = {"aiff", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "ogg", "tta", "w64", "wv"}
_TOLERANCE_S = 0.5  # codecs pad and trim at the ends, and a recording does not fail for one or two damaged packets
_FRAME_S = 0.03  # the first frame of a joined file has no sound
_FLUSH_BYTES = 1 << 20


def serve(descriptor: int, memory_bytes: int) -> None:
    """Answer requests from the socket `descriptor` until it is closed, a recording fails, or `RECORDINGS` are decoded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the run handles them, and ends this process
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)  # the ledger reports the errors of a file, once
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
        """Extend the time limit, now that `seconds` are decoded. End the process if the run has closed the connection."""
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
        return {"reason": "decode_error", "detail": "the decoder needs more memory than msfser allows it"}
    except Exception as error:
        return {"reason": "decode_error", "detail": f"the decoder failed ({type(error).__name__}: {why(error)})"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"samples": sink.samples, "width": sink.width, "channels": kept, "notes": notes}


class _SinkError(Exception):
    """The samples cannot be written. Its argument is the system's error number."""


class _Sink:
    """Writes samples to a file, through a buffer: float32, `width` channels interleaved."""

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
        """Delete the samples so far, and begin again."""
        self.samples = 0
        self._buffer = bytearray()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.ftruncate(self._descriptor, 0)

    def add(self, block: np.ndarray) -> None:
        """Append samples, float32 [n] or [n, width]."""
        self.samples += len(block)
        self.require(0.0)
        self._buffer += np.ascontiguousarray(block).data.cast("B") if len(block) else b""
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def add_silence(self, seconds: float) -> None:
        """Append so many seconds of silence."""
        self.require(seconds)
        rest = round(seconds * SAMPLE_RATE_HZ)
        while rest:
            block = np.zeros((min(rest, _FLUSH_BYTES // self.width), self.width), np.float32)
            self.add(block)
            rest -= len(block)

    def require(self, seconds: float) -> None:
        """Raise RecordingError if `seconds` more would make the recording too long."""
        if self.seconds + seconds > self._longest_s:
            problem = f"the recording is longer than {self._longest_s / 3600:g} hours; split it into shorter ones"
            raise RecordingError("too_long", problem)

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
    """Decode an audio stream of `source` into `sink`. Raises RecordingError as `store.audio.decode` does.

    Returns the numbers of the channels to use (None: a mix), and notes for the user.
    """
    size = os.fstat(source.fileno()).st_size
    stated = stated_size(source)
    if stated > size:
        problem = f"cut short: by its headers the file has at least {stated} bytes, but it has {size}; copy it again"
        raise RecordingError("decode_error", problem)
    if source.read(4) == b"RIFX":
        problem = "RIFX files (WAV with big-endian samples) are not supported; convert it to WAV or FLAC"
        raise RecordingError("not_audio", problem)
    source.seek(0)
    mp3 = counted(source)
    seconds_a_byte = 0.0
    while True:
        # FFmpeg sees only the content, not the name. A playlist cannot lead it to another file or to the network.
        try:
            container = av.open(source, metadata_errors="replace", options={"protocol_whitelist": "none"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            require_readable(error)
            raise RecordingError("not_audio", f"it is not an audio or video file ({why(error)})") from error
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
                continue  # once more, because the length of the lost parts is now known
            _require_whole(container, timeline, stated_s, sink, is_guess=mp3.length > 0 and not timeline.damaged)
            kept, more = listener.kept()
            return kept, [*notes, *timeline.notes(), *more]


class _Listener:
    """Passes the sound of a timeline on to a sink: without rumble, and as a mix, split, or one channel."""

    def __init__(self, sink: _Sink, channels: str) -> None:
        self._sink = sink
        self._number = int(channels) if channels.isdecimal() else None
        self._is_split = channels == "split"
        self._layout: tuple[str, ...] = ()
        self._high_pass = HighPass()
        self._listeners: list[Mixer | Splitter] = []

    def hear(self, piece: Sound | Gap) -> None:
        """Take the next piece. Raises RecordingError if samples are not finite numbers, or if the channel does not exist."""
        if isinstance(piece, Gap):
            self.end()
            self._sink.add_silence(piece.seconds)
            return
        if not np.isfinite(piece.samples).all():
            raise RecordingError("bad_samples", f"it has samples that are not finite numbers, at {self._sink.seconds:.2f} s")
        if piece.layout != self._layout:
            self.end()
            self._begin(piece.layout)
        self._pass_on(self._high_pass.push(piece.samples if self._number is None else piece.samples[:, [self._number]]))

    def end(self) -> None:
        """Pass on the samples that the filters still hold. The stream ends here, or a gap follows."""
        self._pass_on(self._high_pass.flush())
        if self._listeners:
            for block in self._listeners[-1].flush():
                self._sink.add(block)
        self._sink.flush()

    def kept(self) -> tuple[list[int | None], list[str]]:
        """The numbers of the channels to use, or [None] for a mix; and notes for the user."""
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
                problem = f"there is no channel {self._number}: it has {has}; choose another with --channels"
                raise RecordingError("no_channel", problem)
            self._listeners = self._listeners or [Mixer(("FC",))]
        elif not self._is_split:
            self._listeners.append(Mixer(layout))
        elif not self._listeners:
            self._sink.width = count
            self._listeners = [Splitter(count)]
        elif count != self._sink.width:
            change = f"the number of its channels changes from {self._sink.width} to {count} at {self._sink.seconds:.2f} s"
            raise RecordingError("no_channel", f"{change}, so it cannot be split; use --channels mix")
        self._layout = layout

    def _pass_on(self, blocks: Iterator[np.ndarray]) -> None:
        for block in blocks:
            for finished in self._listeners[-1].push(block):
                self._sink.add(finished)


def _seconds_a_byte(timeline: Timeline, stated_s: float) -> float:
    """The duration in seconds of each byte that was lost among bare frames. 0 if at most a frame was lost.

    It follows from the length that the file states, if this is plausible; else it is the average of the bytes of sound.
    """
    accounted = timeline.accounted
    if not accounted or not accounted.lost or not accounted.sound:
        return 0.0
    average = timeline.sound_s / accounted.sound
    stated = (stated_s - timeline.reached) / accounted.lost
    chosen = stated if average / 2 < stated < average * 2 else average
    return chosen if chosen * accounted.lost > _FRAME_S else 0.0


def _require_whole(container: Any, timeline: Timeline, stated_s: float, sink: _Sink, *, is_guess: bool) -> None:
    """Raise RecordingError if the decoded sound is shorter than the container states, by more than `_TOLERANCE_S`.

    is_guess: the stated length may be wrong, so it does not count.
    """
    name, ended, reached = container.format.name, timeline.ended, timeline.first + timeline.reached
    if ended and not (name == "wv" and 0 < stated_s <= reached + _TOLERANCE_S):  # FFmpeg fails at WavPack's tags
        raise RecordingError("decode_error", f"the decoder gave up after {sink.seconds:.2f} s ({why(ended)})") from ended
    if timeline.damage and not timeline.sound_s:
        raise RecordingError("decode_error", f"the decoder could not decode any part of it ({why(timeline.damage)})")
    if stated_s > reached + _TOLERANCE_S and not is_guess:
        raise RecordingError("decode_error", f"cut short: {reached:.2f} of {stated_s:.2f} s could be decoded")
    if timeline.unplaced_s > _TOLERANCE_S:
        problem = f"damaged: {timeline.unplaced_s:.2f} s could not be decoded, and their place is unknown"
        raise RecordingError("decode_error", problem)
    if not sink.samples:
        raise RecordingError("no_samples", "the audio stream is empty")


def _stated_end(container: Any, stream: Any, counted_s: float) -> float:
    """The end of the stream in seconds, as the container or an MP3's count of frames states it; 0 if they do not."""
    name = container.format.name
    length = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if name == "mp3":  # FFmpeg subtracts the encoder's padding, but its length for joined files is wrong
        return length if 0 < counted_s - length < _TOLERANCE_S else counted_s
    if name in _STATES_LENGTH and length:
        return length
    # Matroska's own duration is that of the longest stream, and some recorders write the time of a clock there.
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if name != "matroska,webm" or not tag:
        return 0.0
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
