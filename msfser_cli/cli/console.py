"""What a run tells the user, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msfser_cli.stages.runner import Source, Summary

LONGEST_LINE = 10_000
PLAIN_SECONDS = 30.0
"""How often a line appears where there is no terminal."""


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def printable(text: str) -> str:
    """`text` on one line: control characters, which a file's name may hold, are escaped; thousands of characters are cut."""
    text = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Progress:
    """Recordings done, hours of audio done in an hour, and the time left by the bytes that remain."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._began = self._last = time.monotonic()
        self._recordings = self._of = self._bytes = self._of_bytes = 0
        self._audio = self._busy_bytes = 0.0

    def start(self, source: Source) -> None:
        """The run begins."""
        self._of, self._of_bytes = len(source.names), source.size_bytes
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            # Counted in bytes so that a long episode weighs more than a short clip.
            self._bar = tqdm(total=max(1, source.size_bytes), leave=False, bar_format="{percentage:3.0f}% {bar} {desc}")
            self._bar.set_description_str(self._line())

    def recording(self, line: dict[str, Any], *, unchanged: bool) -> None:
        """One recording is finished."""
        size = line["size_bytes"] or 0
        self._recordings += 1
        self._bytes += size
        if not unchanged:
            self._busy_bytes += size
            self._audio += line["duration"] or 0.0
        if line["status"] == "failed" and not unchanged:
            self.say(f"failed: {printable(line['recording_id'])}: {line['reason']}: {printable(line['detail'])}")
        if self._bar is not None:
            self._bar.set_description_str(self._line(), refresh=False)
            self._bar.update(size)
        elif not self._quiet and time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line that `--quiet` does not silence."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self) -> str:
        line = f"{self._recordings}/{self._of} recordings"
        elapsed = time.monotonic() - self._began
        if self._audio and elapsed:
            line += f", {self._audio / elapsed:.1f} h of audio an hour"
            line += f", {clock(elapsed / self._busy_bytes * (self._of_bytes - self._bytes))} left"
        return line


def summary(result: Summary) -> str:
    """The run in a sentence or two; its counts add up."""
    counts = f"{result.recordings} recordings: {result.done} done ({result.utterances} utterances), "
    counts += f"{result.no_speech} without speech, {result.failed} failed, {result.unchanged} unchanged"
    speed = f"{clock(result.audio_seconds)} of audio in {clock(result.seconds)}"
    others = f"; {result.ignored} other files ignored" if result.ignored else ""
    failed = f"\n{result.published['failed']} failed: see {printable(result.ledger)}" if result.published["failed"] else ""
    stay = "out of the table now" if result.pruned else "the table keeps them; --prune takes them out"
    gone = f"\n{result.gone} no longer there: {stay}" if result.gone else ""
    return f"{counts}; {speed}{others}{gone}\n{printable(result.out)}: {result.published['utterances']} utterances{failed}"


def as_json(result: dict[str, Any]) -> str:
    """A run, done or planned, as one JSON object on one line."""
    import json

    return json.dumps(result, ensure_ascii=False)
