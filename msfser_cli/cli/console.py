"""Shows the progress of a run (a bar on a terminal, else a line now and then), and its result in a few sentences."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msfser_cli.cli.log import log, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from msfser_cli.runs.runner import Summary
    from msfser_cli.runs.source import Source
    from msfser_cli.schemas import LedgerLine

PLAIN_SECONDS = 30.0
"""Seconds between two lines of progress without a terminal."""

MOST_FAILURES = 10
"""The most failures of a run that are printed one by one. For more, only their number is printed. The ledger lists all."""

_DETAIL = 200  # the most characters of a failure's detail that are printed
_QUOTED = 60  # and of an utterance


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Shows the number of recordings done, the hours of audio per hour, and the time left. That is estimated by bytes."""

    def __init__(self, out: str) -> None:
        self._out = out
        self._began = self._last = time.monotonic()
        self._recordings = self._of = self._bytes = self._of_bytes = self._failed = 0
        self._audio = self._busy_bytes = 0.0

    def start(self, source: Source) -> None:
        """The run begins."""
        self._of, self._of_bytes = len(source.recording_ids), source.size_bytes
        log.say("start", f"{self._of} recordings", words=False, recordings=self._of, size_bytes=self._of_bytes, out=self._out)
        if log.is_watched:
            from tqdm import tqdm

            # Counted in bytes so that a long episode weighs more than a short clip.
            log.bar = tqdm(total=max(1, source.size_bytes), leave=False, bar_format="{percentage:3.0f}% {bar} {desc}")
            log.bar.set_description_str(self._line())

    def recording(self, line: LedgerLine, *, unchanged: bool) -> None:
        """A recording is finished. line: its line in the ledger."""
        size = line.size_bytes or 0
        self._recordings += 1
        self._bytes += size
        if not unchanged:
            self._busy_bytes += size
            self._audio += line.duration or 0.0
            self._say(line)
        if log.bar is not None:
            log.bar.set_description_str(self._line(), refresh=False)
            log.bar.update(size)
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            log.say("progress", self._line(), recordings=self._recordings, of=self._of, size_bytes=self._bytes,
                    of_bytes=self._of_bytes, audio_seconds=round(self._audio, 3))

    def close(self) -> None:
        """Remove the bar, and print the number of failures that were not printed."""
        if log.bar is not None:
            log.bar.close()
            log.bar = None
        if self._failed > MOST_FAILURES and not log.json:
            log.say("recording", f"failed or incomplete: {self._failed - MOST_FAILURES} more", level="warning")

    def _say(self, line: LedgerLine) -> None:
        failed = line.status == "failed"
        self._failed += failed or line.is_incomplete
        names = ("recording_id", "status", "reason", "detail", "note", "utterances", "duration", "seconds")
        about = {name: getattr(line, name) for name in names}
        message = line.recording_id
        if failed:
            detail = line.detail or ""  # it may be a library's long error message
            message = f"failed: {message}: {line.reason}: {detail[:_DETAIL]}{'...' if len(detail) > _DETAIL else ''}"
        elif line.is_incomplete:
            message = f"incomplete: {message}: {line.reason}: {line.note}"
        warns = failed or line.is_incomplete
        words = warns and self._failed <= MOST_FAILURES
        log.say("recording", message, level="warning" if warns else "info", words=words, **about)

    def _line(self) -> str:
        line = f"{self._recordings}/{self._of} recordings"
        elapsed = time.monotonic() - self._began
        if self._audio and elapsed:
            line += f", {self._audio / elapsed:.1f} h of audio an hour"
            line += f", {clock(elapsed / self._busy_bytes * (self._of_bytes - self._bytes))} left"
        return line


def summary(result: Summary) -> str:
    """The result of a run in a few lines. Its counts add up to the number of recordings."""
    counts = f"{result.recordings} recordings: {result.done} done ({result.utterances} utterances), "
    counts += f"{result.no_speech} without speech, {result.failed} failed, {result.unchanged} unchanged"
    speed = f"{clock(result.audio_seconds)} of audio in {clock(result.seconds)}"
    others = f"; {result.ignored} other files and hidden folders ignored" if result.ignored else ""
    failed = f"\n{result.published['failed']} failed: see {printable(result.ledger)}" if result.published["failed"] else ""
    count = result.published["incomplete"]
    incomplete = f"\n{count} incomplete: see the column note of {printable(result.ledger)}" if count else ""
    stay = "removed from the table" if result.pruned else "the table keeps them; --prune removes them"
    gone = f"\n{result.gone} no longer in the corpus: {stay}" if result.gone else ""
    parts = ", ".join(f"{count} {why}" for why, count in sorted(result.fallbacks.items()))
    fallbacks = sum(result.fallbacks.values())
    measured = f"\n{fallbacks} descriptions fall back to measurements, the model gave no usable answer: {parts}" if parts else ""
    missing = result.speech_seconds - result.transcribed_seconds
    where = f"{result.missing_words} recording{'s' if result.missing_words > 1 else ''}"
    lost = (f"\n{clock(missing)} of {clock(result.speech_seconds)} of speech has no words, most of it in {where}: see the "
            f"columns speech_seconds and transcribed_seconds of {printable(result.ledger)}"
            if result.missing_words else "")  # fmt: skip
    others_noted = result.noted - result.incomplete
    noted = f"\n{others_noted} with a note: see the column note of {printable(result.ledger)}" if others_noted else ""
    table = f"{printable(result.out)}: {result.published['utterances']} utterances{failed}{incomplete}"
    return f"{counts}; {speed}{others}{gone}{lost}{measured}{noted}\n{table}"


def came_out(out: Path) -> Iterator[str]:
    """What the table of scores at `out` holds, and what to type next: three lines, or none for a table without scores."""
    from shlex import quote

    from msfser_cli.exports.glance import glance

    scores = glance(out).scores
    if not scores:
        return
    yield "mean scores: " + ", ".join(f"{dimension} {of.mean:.2f}" for dimension, of in scores.items())
    dimension = "arousal" if "arousal" in scores else next(iter(scores))
    top = scores[dimension].highest[0]
    text = top.text if len(top.text) <= _QUOTED else f"{top.text[:_QUOTED]}..."
    yield f"highest {dimension}: {top.score:.2f} in {top.recording_id} at {clock(top.start)}: {text}"
    yield f"see all of it: msfser show {quote(str(out))}, or msfser report {quote(str(out))} --out report/"


def as_json(result: dict[str, Any]) -> str:
    """The result of a run, or of a dry run, as one JSON object on one line."""
    import json

    return json.dumps(result, ensure_ascii=False)
