"""The decoder's process as the run sees it: it may be slow, ask for too much or crash, and costs one recording at most."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any, NamedTuple

from msfser_cli.errors import RecordingError, ResourceError

MEMORY_BYTES = 1 << 30
"""The address space of the decoder's process, a fifth of which it needs to start."""

GRACE_S = 60.0
"""Seconds of a CPU that a recording may cost, besides a quarter of the time for which what was decoded of it plays."""

MAX_DURATION_S = 24 * 3600
"""A recording that decodes to more is refused: a few kilobytes can claim years of silence."""

# The path is the parent's own, so that nothing is imported from the folder in which the program happens to be called.
_PROGRAM = """import sys
sys.path[:] = sys.argv[3:]
from msfser_cli.store.decoding import serve
serve(int(sys.argv[1]), int(sys.argv[2]))"""


class Decoded(NamedTuple):
    """What is in the sink: so many samples of `width` channels, interleaved.

    channels: those of them that are worth hearing, by their number; [None] where there is a mix alone. notes: what a reader
    should know of them.
    """

    samples: int
    width: int
    channels: list[int | None]
    notes: list[str]


class Decoder:
    """A process that decodes one recording after another; started when it is needed, and again when it ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.end)

    def decode(self, source: int, sink: int, channels: str, audio_track: int | None) -> Decoded:
        """Write the samples of the open file `source` to the open file `sink`, float32; `channels` and `audio_track` say which.

        RecordingError as `store.audio.decode`; OSError where `sink` cannot be written or no process started.
        """
        with self._lock:
            while True:
                fresh = self._process is None
                answer = self._ask(source, sink, channels, audio_track)
                if answer and "samples" in answer:
                    return Decoded(answer["samples"], answer["width"], answer["channels"], answer["notes"])
                status = self.end()
                if not answer and not fresh and status != -signal.SIGPROF:
                    continue  # it had reached its last recording, or another one harmed it
                break
        if not answer:
            raise _crash(status)
        if "refused" in answer:
            raise OSError(answer["refused"], os.strerror(answer["refused"]))
        raise RecordingError(answer["reason"], answer["detail"])

    def end(self) -> int:
        """End the process, if there is one; its status as `subprocess` has it."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return 0
        connection.close()
        process.kill()  # of no effect on one that ended already, whose status is the one to know
        return process.wait()

    def _ask(self, source: int, sink: int, channels: str, audio_track: int | None) -> dict[str, Any] | None:
        """What the process answers; None when it ended over it."""
        connection = self._connection or self._start()
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(sink, 0, os.SEEK_SET)
        limits = {"longest_s": MAX_DURATION_S, "grace_s": GRACE_S}
        request = json.dumps({**limits, "channels": channels, "audio_track": audio_track}).encode()
        try:
            socket.send_fds(connection, [request], [source, sink])
            line = _line(connection)
        except (BrokenPipeError, ConnectionResetError):
            return None
        return json.loads(line) if line else None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(MEMORY_BYTES), *sys.path]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        self._connection = ours
        if not _line(ours):
            raise ResourceError(f"the process that decodes audio does not start (it ended with {self.end()})")
        return ours

    def _forget(self) -> None:
        """A fork has no part in its parent's conversation."""
        if self._connection:
            self._connection.close()
        self._process = self._connection = None
        self._lock = threading.Lock()


def _line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (more := connection.recv(4096)):
            return b""
        line += more
    return line


def _crash(status: int) -> RecordingError:
    if status == -signal.SIGPROF:
        return RecordingError("timeout", f"the decoder was not done after {GRACE_S:g} s of work and a quarter of what it decoded")
    return RecordingError("decoder_crashed", signal.Signals(-status).name if status < 0 else f"exit code {status}")
