"""What PyAV makes of a file, in a process of its own: `store.decoder` starts it, sends it open files, and reads its answers.

A file may come from anyone, and decoders are large and old: what one of them does to the process must not reach the run. So the
process may use so much memory and no more, so much of a CPU's time for each recording, and ends with the first file that fails.
"""

from __future__ import annotations

import errno
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
from msfser_cli.store.containers import stated_size

RECORDINGS = 1000
"""After so many, the process ends and the next begins afresh: what a decoder leaks does not add up."""

# Containers that state the length of the audio stream itself, exactly: where they do, sound that is missing is noticed.
_STATES_LENGTH = {"aiff", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "ogg", "tta", "w64", "wv"}
_TOLERANCE_S = 0.5  # codecs pad and trim at the ends, and a damaged packet or two cost no recording

# Those that state the time of each packet: what was lost, or paused, is silence, so that all that follows keeps its time.
_STATES_TIMES = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "ogg"}
_LEAST_GAP_S = 0.08  # times that a live recorder takes from its clock are not even
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


def _answer(connection: socket.socket, descriptors: list[int], longest_s: float, grace_s: float) -> dict[str, Any]:
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
            _copy(source, sink)
    except RecordingError as error:
        return {"reason": error.reason, "detail": error.detail}
    except _SinkError as error:
        return {"refused": error.args[0]}
    except MemoryError:
        return {"reason": "decode_error", "detail": "the decoder asked for more memory than it may have"}
    except Exception as error:
        return {"reason": "decode_error", "detail": f"{type(error).__name__}: {_why(error)}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"samples": sink.samples}


class _SinkError(Exception):
    """The samples cannot be written, with the number of the system's error."""


class _Sink:
    """Where the samples go, float32: a buffer in front of a file."""

    def __init__(self, descriptor: int, longest_s: float, alive: Callable[[float], None]) -> None:
        self.samples = 0
        self._descriptor, self._longest_s, self._alive = descriptor, longest_s, alive
        self._buffer = bytearray()

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE_HZ

    def add(self, block: np.ndarray) -> None:
        self.samples += len(block)
        if self.seconds > self._longest_s:
            raise RecordingError("too_long", f"longer than {self._longest_s / 3600:g} hours")
        self._buffer += block.data
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def add_silence(self, seconds: float) -> None:
        if self.seconds + seconds > self._longest_s:
            raise RecordingError("too_long", f"longer than {self._longest_s / 3600:g} hours")
        rest = round(seconds * SAMPLE_RATE_HZ)
        while rest:
            block = np.zeros(min(rest, _FLUSH_BYTES), np.float32)
            self.add(block)
            rest -= len(block)

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


def _copy(source: BinaryIO, sink: _Sink) -> None:
    """The first audio stream of `source` into `sink`; RecordingError as `store.audio.decode` says."""
    size = os.fstat(source.fileno()).st_size
    stated = stated_size(source)
    if stated > size:
        raise RecordingError("decode_error", f"cut short: it says that it has at least {stated} bytes, and there are {size}")
    if source.read(4) == b"RIFX":
        raise RecordingError("not_audio", "a RIFX file (a WAV with its bytes in the other order) is not supported")
    source.seek(0)
    # The content alone is asked, never the name; and no playlist may lead to another file or to the network.
    try:
        container = av.open(source, metadata_errors="replace", options={"protocol_whitelist": "none"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        _require_readable(error)
        raise RecordingError("not_audio", f"no audio or video container ({_why(error)})") from error
    with container:
        if not container.streams.audio:
            raise RecordingError("no_audio_stream", f"the container ({container.format.name}) has no audio stream")
        _copy_stream(container, container.streams.audio[0], sink)


def _copy_stream(container: Any, stream: Any, sink: _Sink) -> None:
    damaged: Exception | None = None
    ended: Exception | None = None
    try:
        for frame in _frames(container, stream):
            if isinstance(frame, Exception):
                damaged = frame
                continue
            if isinstance(frame, float):
                sink.add_silence(frame)
                continue
            # swresample's own mono sums float channels at 0.71 each: louder than the channels, and beyond 1
            block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1, dtype=np.float32)
            if not np.isfinite(block).all():
                raise RecordingError("bad_samples", f"samples that are not numbers at {sink.seconds:.2f} s")
            sink.add(block)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        _require_readable(error)
        ended = error
    stated = _stated_end(container, stream)
    reached = float((stream.start_time or 0) * stream.time_base) + sink.seconds
    if ended and not (container.format.name == "wv" and 0 < stated <= reached + _TOLERANCE_S):  # to FFmpeg, its tags are an error
        raise RecordingError("decode_error", f"after {sink.seconds:.2f} s: {_why(ended)}") from ended
    sink.flush()
    if damaged and not sink.samples:
        raise RecordingError("decode_error", f"nothing could be decoded ({_why(damaged)})")
    if stated > reached + _TOLERANCE_S:
        raise RecordingError("decode_error", f"cut short: {reached:.2f} of {stated:.2f} s could be decoded")
    if not sink.samples:
        raise RecordingError("no_samples", "the audio stream is empty")


def _stated_end(container: Any, stream: Any) -> float:
    """The time in seconds at which the stream ends by what the container says, or 0."""
    name = container.format.name
    if name in _STATES_LENGTH and stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska's own duration is that of the longest stream, and some recorders' is that of a clock.
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if name != "matroska,webm" or not tag:
        return 0.0
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])


def _require_readable(error: Exception) -> None:
    """Tell a disk that does not give the file's bytes from a decoder that does not like them."""
    # It is the decoder's fault where it looks for something at a place that no file has.
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError) and error.errno != errno.EINVAL:
        raise RecordingError("unreadable", _why(error)) from error
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of `stream` at 16 kHz, float32, channels interleaved.

    And for each damaged packet the decoder's exception, and for each gap its length in seconds.
    """
    resampler, source = None, None
    timed, expected = container.format.name in _STATES_TIMES, None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            yield error
            continue
        for frame in frames:
            if timed and frame.time is not None:
                if expected is not None and frame.time - expected > _LEAST_GAP_S:
                    if resampler:
                        yield from resampler.resample(None)
                    resampler, source = None, None
                    yield frame.time - expected
                expected = frame.time + frame.samples / frame.sample_rate
            if source != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                if resampler:  # some broadcasts change their form midway
                    yield from resampler.resample(None)
                # interleaved: PyAV reads past the planes of a frame with eight channels
                resampler, source = av.AudioResampler(format="flt", rate=SAMPLE_RATE_HZ), form
            yield from resampler.resample(frame)  # type: ignore[union-attr]
    if resampler:
        yield from resampler.resample(None)


def _why(error: BaseException) -> str:
    """The error in words, without the file's name: the ledger has it already, and it differs from machine to machine."""
    return str(getattr(error, "strerror", None) or error)
