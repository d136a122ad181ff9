"""Every error that msfser raises on purpose.

MsfserError               exit code
├── UsageError            2    the command line or a setting is wrong
├── TableError            4    an input table is missing, damaged or of the wrong kind
│   └── LabelError        4    a label file is unclear, and msfser does not guess
├── ModelError            5    a model is missing, altered or unsafe
│   └── MissingModelError 5    a model is not on this machine
├── OutputHeldError       6    another run is writing to this output
├── ResourceError         7    disk, memory or a permission ran out
├── Stopped           128+N    signal N asked the run to stop
└── RecordingError        -    one recording failed; it becomes a ledger line, and the run continues

A run that finishes with failed or incomplete recordings exits with `EXIT_SOME_FAILED`.
A bug exits with 1, and signal N with 128+N.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any

EXIT_SOME_FAILED = 3

# The values of the ledger's column `reason`, with their meanings.
REASONS: dict[str, str] = {
    "missing": "the file does not exist",
    "unreadable": "the file cannot be opened",
    "empty": "the file has no bytes",
    "not_audio": "the content is not a known audio or video format",
    "no_audio_stream": "the container has no audio stream, or none of the number given",
    "no_channel": "the channel asked for does not exist, or the number of channels changes within the recording",
    "no_samples": "the audio stream decodes to nothing",
    "decode_error": "the decoder failed, or the file is shorter than its header says",
    "decoder_crashed": "the decoder's process ended while it decoded the file",
    "timeout": "decoding took far longer than usual for such a recording",
    "too_large": "the file has more than 64 GiB",
    "too_long": "the recording has more than 24 hours, or more than 4 hours with --diarize",
    "bad_samples": "samples are not finite numbers",
    "bad_segment": "start and end in the manifest do not fit the recording",
    "changed": "the file changed while it was read, or since the input table was made",
    "backend_error": "a model failed on this recording",
    "out_of_memory": "memory ran out on this recording in two runs",
    "worker_died": "worker processes ended while they had this recording in hand, the last one with this recording alone",
}

MACHINE_REASONS = frozenset({"missing", "unreadable", "decoder_crashed", "timeout", "backend_error", "out_of_memory",
                             "worker_died"})
"""Reasons that a disk, memory or setup problem can also cause. All other reasons mean that the file itself is at fault."""


class MsfserError(Exception):
    """Base of all errors that msfser raises on purpose. `args` are the lines that the user reads, usually one sentence."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker sends its errors to the run. Classes with arguments of their own could not be made from `args`.
        return BaseException.__new__, (type(self), *self.args), self.__dict__

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class UsageError(MsfserError):
    """The command line or a setting is wrong."""

    exit_code = 2


class TableError(MsfserError):
    """An input table is missing, damaged, of the wrong stage, or lacks columns.

    path: the table. problem: what is wrong with it. remedy: what the user can do.
    """

    exit_code = 4

    def __init__(self, path: object, problem: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {problem}" + (f"; {remedy}" if remedy else ""))


class LabelError(TableError):
    """The format or scale of a label file, or its match with the scores, is unclear, and msfser does not guess."""


class ModelError(MsfserError):
    """A model is missing, altered, or in a format that could run code."""

    exit_code = 5


class MissingModelError(ModelError):
    """A model is not on this machine. The message says how to get it."""


class OutputHeldError(MsfserError):
    """Another run holds the lock of `output`. `holder` says which."""

    exit_code = 6

    def __init__(self, output: object, holder: str, remedy: str = "wait for it with --wait") -> None:
        super().__init__(f"{output}: another run is writing here ({holder}); {remedy}, or choose another --out")
        self.holder = holder


class ResourceError(MsfserError):
    """Disk, memory or a permission ran out, or so many recordings failed that this is the likely cause."""

    exit_code = 7


class Stopped(MsfserError):  # noqa: N818 - not an error of the program
    """Signal `number` asked the run to stop. Finished work is kept."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(f"stopped by {name}; finished work is kept, and the same command continues from there")
        self.exit_code = 128 + number


class RecordingError(MsfserError):
    """One recording failed. `reason` is one of `REASONS` (else ValueError); `detail` is a sentence for the user."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}, not {reason!r}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SHORTAGE = re.compile(
    "|".join(map(os.strerror, _SHORTAGES)) + "|failed to map segment|(can't|cannot) allocate memory|bad_alloc|out of memory"
    "|malloc of size [0-9]+ failed|could not create a (primitive|memory)"  # Arrow, oneDNN
    "|not enough memory|ALLOC(ATION)?_FAILED|unable to find an engine",  # torch on a CPU, cuBLAS and cuDNN, cuDNN
    re.IGNORECASE,
)


def is_shortage(error: BaseException) -> bool:
    """Whether the machine has run out of memory or open files. The input itself is then not at fault.

    Native libraries raise errors of many types for this, so the message counts as well.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SHORTAGES:
        return True
    return not isinstance(error, MsfserError) and _SHORTAGE.search(str(error)) is not None


def innocent(error: Exception) -> Exception:
    """The error, or the shortage behind it: if memory or open files ran out while a model was read, the model is not at fault."""
    reason = error.__cause__ if isinstance(error, ModelError) else error
    return ResourceError(shortage(reason)) if isinstance(reason, Exception) and is_shortage(reason) else error


def shortage(error: Exception) -> str:
    """What ran out, as a sentence. `error` is one for which `is_shortage` is true."""
    what = "too many open files" if "open files" in str(error).lower() else "not enough memory"
    return f"{what} ({error})" if str(error) else what


def why(error: BaseException) -> str:
    """The text of the error without the file's path, which the ledger has already, and which differs between machines."""
    return str(getattr(error, "strerror", None) or error)
