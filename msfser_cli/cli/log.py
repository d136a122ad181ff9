"""What a command says on stderr: lines in words, or with `--log-format json` an object a line."""

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
    "recording": "a recording was done; a warning if it failed",
    "progress": "how far it is, every half minute",
    "note": "how the input was read, or what was written",
    "warning": "the result may not be what was wanted",
    "library": "what a library printed",
    "summary": "what was done in all; a warning if recordings failed that had not before",
    "stopped": "a signal ended the command",
    "error": "the command ended early",
}
"""What `event` may be."""

LONGEST_LINE = 10_000
"""In characters."""


def printable(text: str) -> str:
    """`text` on one line: control characters, which a file's name may hold, are escaped; thousands of characters are cut."""
    text = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Log:
    """Writes what there is to say in the form and to the extent that the user asked for. The program has one, `log`."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        self.bar: Any = None  # tqdm's, while there is one on the screen
        self._stderr: TextIO | None = None  # where the program's stderr goes; else, in tests, what sys.stderr is at the moment

    def set(self, form: str, *, quiet: bool) -> None:
        """What the command's options ask for. UsageError for a form that there is not."""
        if form not in ("text", "json"):
            raise UsageError(f"--log-format takes text or json, not {form!r}")
        self.json, self.quiet = form == "json", quiet
        self._capture()

    def say(self, event: str, message: str, *, level: str = "info", words: bool = True, **fields: Any) -> None:
        """One of `EVENTS`, of the level info (which --quiet silences), warning or error.

        In JSON it has the `fields`, in text its words alone, and nothing at all without `words`.
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
        """A warning of msfser's own."""
        self.say("warning", message.removeprefix("warning: "), level="warning")

    def take_over(self, *, debug: bool) -> None:
        """From now on, what others log is said here, msfser's own warnings and with `debug` all; in JSON, what they print too."""
        logging.basicConfig(handlers=[_Handler(self, debug=debug)], level=logging.DEBUG if debug else logging.WARNING)
        self._stderr = sys.stderr
        self._capture()

    def _capture(self) -> None:
        if self.json and self._stderr is not None:
            sys.stderr = _Lines(self)

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more, or its disk is full: that is no reason to stop working
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
    """A stderr whose lines become events."""

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
