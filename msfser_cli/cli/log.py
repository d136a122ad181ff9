"""The messages of a command on stderr: lines of text, or with `--log-format json` one JSON object per line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from datetime import datetime
from typing import Any, TextIO

from msfser_cli.errors import UsageError

EVENTS = {
    "start": "a run begins",
    "recording": "a recording is done; a warning if it failed",
    "progress": "the progress of the run, every half minute",
    "note": "how msfser read the input, or what it wrote",
    "warning": "the result may not be what the user wants",
    "library": "a library printed this",
    "summary": "the result of the run; a warning if recordings failed that had not failed before",
    "stopped": "a signal ended the command",
    "error": "the command ended early",
}
"""The values of `event`, with their meanings."""

LONGEST_LINE = 10_000
"""Messages are cut after this number of characters."""


def printable(text: str) -> str:
    """`text` on one line, with control characters escaped, because file names may contain them. Long text is cut."""
    text = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Log:
    """Writes messages in the form and to the extent that the user has chosen. The program has one instance, `log`."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        self.bar: Any = None  # the progress bar of tqdm, while it is on the screen
        self._stderr: TextIO | None = None  # the program's stderr; None in tests: the current sys.stderr

    def set(self, form: str, *, quiet: bool) -> None:
        """Set the form, `text` or `json`, and whether to print only warnings and errors. UsageError for another form."""
        if form not in ("text", "json"):
            raise UsageError(f"--log-format takes text or json, not {form!r}")
        self.json, self.quiet = form == "json", quiet
        self._capture()

    @property
    def is_watched(self) -> bool:
        """Whether somebody reads it on a terminal."""
        return not self.quiet and not self.json and sys.stderr.isatty()

    def say(self, event: str, message: str, *, level: str = "info", words: bool = True, **fields: Any) -> None:
        """Write one of `EVENTS`. level: info (which --quiet leaves out), warning or error.

        JSON has `message` and `fields`. Text has `message` only, and nothing at all if `words` is false.
        """
        if self.quiet and level == "info":
            return
        if self.json:
            now = datetime.now().astimezone().isoformat(timespec="milliseconds")
            self._write(json.dumps({"time": now, "level": level, "event": event, "message": message, **fields}))
        elif words:
            prefix = "msfser: " if level == "error" else "warning: " if event == "warning" else ""
            self._write("\n".join(map(printable, f"{prefix}{message}".split("\n"))))

    def warn(self, message: str) -> None:
        """Write a warning of msfser itself."""
        self.say("warning", message.removeprefix("warning: "), level="warning")

    def take_over(self, *, debug: bool) -> None:
        """Write here what is logged: warnings of msfser, and with `debug` everything. In JSON, also what libraries print."""
        logging.basicConfig(handlers=[_Handler(self, debug=debug)], level=logging.DEBUG if debug else logging.WARNING)
        self._stderr = sys.stderr
        self._capture()

    def _capture(self) -> None:
        if self.json and self._stderr is not None:
            sys.stderr = _Lines(self)

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the reader is gone or its disk is full: go on working
            if self.bar is not None:
                self.bar.write(line, file=sys.stderr)
            else:
                print(line, file=self._stderr or sys.stderr, flush=True)


class _Handler(logging.Handler):
    def __init__(self, to: Log, *, debug: bool) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._to, self._debug = to, debug

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if record.name == "msfser" and record.levelno >= logging.WARNING:
            self._to.warn(message)
        elif self._debug:
            self._to.say("library", f"{record.levelname}:{record.name}:{message}", level="warning")


class _Lines(io.TextIOBase):
    """A stderr whose lines become events `library`."""

    def __init__(self, to: Log) -> None:
        self._to, self._begun = to, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                self._to.say("library", line, level="warning")
        return len(text)

    def fileno(self) -> int:
        return 2


log = Log()
