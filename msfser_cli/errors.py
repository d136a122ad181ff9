"""Everything msfser raises on purpose.

MsfserError               exit code
├── UsageError            2    the command line, or a setting, is wrong
├── TableError            4    an input table is not what it should be
│   └── LabelError        4    a label file cannot be read without guessing
├── ModelError            5    a model is missing, altered or unsafe
│   └── MissingModelError 5    it is not on this machine
├── OutputHeldError       6    another run is writing to this output
├── ResourceError         7    disk, memory or permission ran out
├── Stopped           128+N    signal N asked the run to stop
└── RecordingError        -    one recording failed; becomes a ledger line, the run goes on

A run that finishes with some recordings failed exits with `EXIT_SOME_FAILED`; a bug exits with 1 and a signal N with 128+N.
"""

from __future__ import annotations

import errno
import os
import re

EXIT_SOME_FAILED = 3

# Why a recording has no rows. The ledger's `reason` column holds nothing else.
REASONS: dict[str, str] = {
    "missing": "the file is not there (any more)",
    "unreadable": "the file cannot be opened",
    "empty": "the file has no bytes",
    "not_audio": "the content is not a known audio or video container",
    "no_audio_stream": "a container without an audio stream",
    "no_channel": "a channel that was asked for is not there, or the number of channels changes",
    "no_samples": "an audio stream that decodes to nothing",
    "decode_error": "the decoder gave up, or the file is shorter than it says",
    "decoder_crashed": "the decoder's process ended over it",
    "timeout": "the decoder took far longer than such a recording takes",
    "too_large": "a file of more than 64 GiB",
    "too_long": "a recording of more than 24 hours, or of more than 4 to be diarised",
    "bad_samples": "samples that are not finite numbers",
    "bad_segment": "a manifest's start and end do not fit the recording",
    "changed": "the file was written to while it was read, or is not the one that the input table was made from",
    "backend_error": "a model failed on this recording",
}


class MsfserError(Exception):
    """Base of all deliberate errors; `args` are the lines that a user reads, in nearly all cases one sentence."""

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class UsageError(MsfserError):
    """The command line or a setting is wrong."""

    exit_code = 2


class TableError(MsfserError):
    """An input table is missing, damaged, of the wrong stage or lacks columns."""

    exit_code = 4

    def __init__(self, path: object, problem: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {problem}" + (f"; {remedy}" if remedy else ""))


class LabelError(TableError):
    """A label file whose format, scale or join cannot be settled without guessing."""


class ModelError(MsfserError):
    """A model is missing, altered or in a format that could run code."""

    exit_code = 5


class MissingModelError(ModelError):
    """A model is not on this machine; the message says how to get it."""


class OutputHeldError(MsfserError):
    """Another run holds the output's lock."""

    exit_code = 6

    def __init__(self, output: object, holder: str) -> None:
        super().__init__(f"{output}: another run is writing here ({holder}); wait for it to end, or choose another --out")


class ResourceError(MsfserError):
    """The machine ran out of disk, memory or permission, or so many recordings failed that it looks like it."""

    exit_code = 7


class Stopped(MsfserError):  # noqa: N818 - it is no error of the program's
    """Signal `number` asked the run to stop; what was finished is kept."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(f"stopped by {name}; what was finished is kept, and the same command goes on from there")
        self.exit_code = 128 + number


class RecordingError(MsfserError):
    """One recording failed. `reason` is one of `REASONS`, `detail` is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}, not {reason!r}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SHORTAGE = re.compile(
    "|".join(map(os.strerror, _SHORTAGES)) + "|failed to map segment|(can't|cannot) allocate memory|bad_alloc|out of memory"
    "|malloc of size [0-9]+ failed|could not create a (primitive|memory)",  # Arrow, oneDNN
    re.IGNORECASE,
)


def is_shortage(error: BaseException) -> bool:
    """Whether the machine has run out of memory or open files, and nothing is wrong with what was to be read.

    Libraries that are not Python say it in words, in errors of every kind.
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SHORTAGES:
        return True
    return not isinstance(error, MsfserError) and _SHORTAGE.search(str(error)) is not None


def shortage(error: Exception) -> str:
    """What ran out, in words; of an error that `is_shortage`."""
    what = "too many open files" if "open files" in str(error).lower() else "not enough memory"
    return f"{what} ({error})" if str(error) else what
