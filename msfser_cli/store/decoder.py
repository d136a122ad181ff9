"""Runs the decoder in a process of its own. If it hangs, needs too much memory or crashes, only one recording fails."""

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
"""The limit of the decoder process's address space. It needs a fifth of it to start."""

GRACE_S = 60.0
"""The CPU seconds that a recording may take, in addition to a quarter of the duration that is decoded so far."""

MAX_DURATION_S = 24 * 3600
"""A recording that decodes to more is refused, because a few kilobytes can claim years of silence."""

# sys.path is the parent's own, so nothing is imported from the current folder.
_PROGRAM = """import sys
sys.path[:] = sys.argv[3:]
from msfser_cli.store.decoding import serve
serve(int(sys.argv[1]), int(sys.argv[2]))"""


class Decoded(NamedTuple):
    """The content of the sink: `samples` samples for each of `width` channels, interleaved.

    channels: the numbers of those that are neither silent nor copies; [None] for a mix. notes: sentences for the user.
    """

    samples: int
    width: int
    channels: list[int | None]
    notes: list[str]


class Decoder:
    """A process that decodes one recording after another. It starts when it is first needed, and again after it ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.end)

    def decode(self, source: int, sink: int, channels: str, audio_track: int | None) -> Decoded:
        """Decode the open file `source` to float32 samples in the open file `sink`.

        `channels` and `audio_track` are as in `settings.TranscribeSettings`. Raises RecordingError as `store.audio.decode` does,
        and OSError if `sink` cannot be written or the process cannot be started.
        """
        with self._lock:
            while True:
                fresh = self._process is None
                answer = self._ask(source, sink, channels, audio_track)
                if answer and "samples" in answer:
                    return Decoded(answer["samples"], answer["width"], answer["channels"], answer["notes"])
                status = self.end()
                if not answer and not fresh and status != -signal.SIGPROF:
                    continue  # it had decoded its last recording, or an earlier recording had damaged it
                break
        if not answer:
            raise _crash(status)
        if "refused" in answer:
            raise OSError(answer["refused"], os.strerror(answer["refused"]))
        raise RecordingError(answer["reason"], answer["detail"])

    def end(self) -> int:
        """End the process, if there is one. Returns its exit status as `subprocess` does."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return 0
        connection.close()
        process.kill()  # has no effect if the process ended by itself; its own status is then returned
        return process.wait()

    def _ask(self, source: int, sink: int, channels: str, audio_track: int | None) -> dict[str, Any] | None:
        """The answer of the process. None if it ended without one."""
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
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                )
        except BaseException:
            ours.close()
            raise
        self._connection = ours
        if not _line(ours):
            remedy = "free some memory, or run python -c 'import av' to see whether the installation is damaged"
            raise ResourceError(f"the process that decodes audio does not start ({_ending(self.end())}); {remedy}")
        return ours

    def _forget(self) -> None:
        """Close the connection in a forked process. Only the parent uses the decoder."""
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
        limit = f"{GRACE_S:g} s of CPU time plus a quarter of the duration that was decoded"
        return RecordingError("timeout", f"the decoder took longer than {limit}")
    return RecordingError("decoder_crashed", f"the decoder crashed ({_ending(status)})")


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit code {status}"
