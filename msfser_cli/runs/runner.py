"""The batch loop: reads recordings, writes a table and its ledger. A failed recording never stops the others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from msfser_cli import __version__, schemas
from msfser_cli.errors import ResourceError
from msfser_cli.runs.annotate import ShortageError, run_steps
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines.workforce import ALONE, Workforce
from msfser_cli.runs.failures import Failures, remember_shortage
from msfser_cli.runs.source import Item, Source
from msfser_cli.runs.stopping import stop_on_signals
from msfser_cli.runs.task import Task, audio_of, identify, look
from msfser_cli.runs.turns import Turns
from msfser_cli.schemas import LedgerLine
from msfser_cli.settings import MAX_FAILED, as_dict, fingerprint
from msfser_cli.stages import coverage
from msfser_cli.stages.work import Work
from msfser_cli.store.ledger import ledger_path
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.media import Media
from msfser_cli.store.output import Output
from msfser_cli.store.root import text_of
from msfser_cli.store.seen import Seen

SEEN_SECONDS = 300
"""How often the hashes of files are saved during a run, so that a run after a kill does not read all of them again."""


@dataclass(frozen=True)
class Destination:
    """The output of a run, and how to write it.

    vectors: whether to keep the vectors. redo: start over. retry_failed: try failed recordings again. prune: remove the rows of
    recordings that no longer exist. moved: the user names the corpus root, so it may differ from the one in the output. wait:
    seconds to wait for another run on the output. max_failed: the share of recordings that may fail for one of `MACHINE_REASONS`.
    """

    out: str
    vectors: bool = True
    redo: bool = False
    retry_failed: bool = False
    prune: bool = False
    moved: bool = False
    wait: float = 0.0
    max_failed: float = MAX_FAILED


@dataclass
class Summary:
    """The result of a run: `done + no_speech + failed + unchanged == recordings`.

    gone: the number of recordings in the output that no longer exist in the corpus. pruned: whether they were removed.
    fallbacks: reason (see `schemas.FALLBACKS`) -> number of utterances without a model's description.
    incomplete: the number of tried recordings that have rows for a part only. noted: the number of tried recordings with a note.
    speech_seconds, transcribed_seconds: the sums of these columns of the ledger. missing_words: the number of tried recordings in
    which much of the speech has no words (see `coverage.is_missing`). These three are of runs that transcribe.
    published: the counts over the whole ledger.
    """

    out: str
    ledger: str
    recordings: int
    ignored: int
    done: int = 0
    no_speech: int = 0
    failed: int = 0
    unchanged: int = 0
    gone: int = 0
    pruned: bool = False
    utterances: int = 0
    noted: int = 0
    incomplete: int = 0
    missing_words: int = 0
    speech_seconds: float = 0.0
    transcribed_seconds: float = 0.0
    fallbacks: dict[str, int] = field(default_factory=dict)
    audio_seconds: float = 0.0
    seconds: float = 0.0
    published: dict[str, int] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """The number of recordings that were processed."""
        return self.done + self.no_speech + self.failed

    def count(self, task: Task) -> None:
        """Count a recording that is finished."""
        line = task.line
        outcome = "unchanged" if task.unchanged else line.status
        setattr(self, outcome, getattr(self, outcome) + 1)
        if not task.unchanged:
            self.utterances += line.utterances
            self.noted += line.note is not None
            self.incomplete += line.is_incomplete
            self.audio_seconds = round(self.audio_seconds + (line.duration or 0.0), 3)
            if task.item.input_line is None and line.speech_seconds is not None:
                speech, transcribed = line.speech_seconds, line.transcribed_seconds or 0.0
                self.speech_seconds = round(self.speech_seconds + speech, 3)
                self.transcribed_seconds = round(self.transcribed_seconds + transcribed, 3)
                self.missing_words += coverage.is_missing(speech, transcribed)
            for row in task.work.rows:
                if why := row.get("description_fallback"):
                    self.fallbacks[why] = self.fallbacks.get(why, 0) + 1


class Reporter(Protocol):
    """Shows the progress to the user."""

    def start(self, source: Source) -> None:
        """The run begins."""
        ...

    def recording(self, line: LedgerLine, *, unchanged: bool) -> None:
        """One recording is finished, with its ledger line."""
        ...


def pending(chain: Chain, source: Source, destination: Destination) -> tuple[list[str], list[str]]:
    """The ids that `run` would process now, and the ids that no longer exist. Writes nothing."""
    if not Path(destination.out).parent.exists():
        return [item.recording.recording_id for item in source.items], []
    todo: list[str] = []
    with _open(chain, source, destination) as output:
        seen = Seen(output.path)
        for item in source.items:
            task = look(item, output, seen)
            if task.done_key is not None:
                identify(task)
            if not task.unchanged:
                todo.append(item.recording.recording_id)
        return todo, source.gone(output.recordings)


def run(
    chain: Chain, source: Source, destination: Destination, reporter: Reporter, workforce: Workforce = ALONE
) -> Summary:
    """Process the recordings that are not done yet, and publish the result. Finished work is always kept.

    A recording that fails gets a line in the ledger. If the machine may be the cause, the line waits until a later recording
    succeeds (see `failures.Failures`). Raises UsageError if the output has other settings, OutputHeldError if another run writes
    to it, ResourceError if the machine fails or seems to, Stopped on a signal.
    """
    began = time.monotonic()
    out = destination.out
    summary = Summary(out=out, ledger=str(ledger_path(out)), recordings=len(source.recording_ids), ignored=source.ignored)
    failures = Failures(destination.max_failed)
    turns = Turns(source.items)
    with stop_on_signals() as stopping, _open(chain, source, destination) as output:
        reporter.start(source)
        seen = Seen(output.path)
        gone: list[str] = []
        saved = time.monotonic()
        engine = workforce.engine(chain, output.path.absolute(), stopping.check)
        try:
            tasks = (look(item, output, seen) for item in turns)
            with contextlib.closing(engine.annotated(tasks)) as annotated_tasks:
                for task in annotated_tasks:
                    with stopping.postponed():
                        _keep(task, failures, chain, output, seen)
                        if time.monotonic() - saved > SEEN_SECONDS:
                            seen.save(source.recording_ids | output.recordings)
                            saved = time.monotonic()
                    summary.count(task)
                    reporter.recording(task.line, unchanged=task.unchanged)
                    if failures.are_suspect(summary.tried, summary.tried + summary.unchanged, turns):
                        with stopping.postponed():
                            failures.stop(output)
            if failures.are_suspect(summary.tried, summary.tried + summary.unchanged):
                with stopping.postponed():
                    failures.stop(output)
            gone = source.gone(output.recordings)
            summary.gone, summary.pruned = len(gone), destination.prune
            with stopping.postponed():
                failures.settle_all(output)
                if destination.prune:
                    output.drop(gone)
                summary.published = output.publish()
        finally:
            with stopping.postponed():
                output.commit()
                seen.save((source.recording_ids | output.recordings) - set(gone))
    summary.seconds = round(time.monotonic() - began, 3)
    return summary


def _keep(task: Task, failures: Failures, chain: Chain, output: Output, seen: Seen) -> None:
    """Add a finished recording to the output. Raises ResourceError if memory ran out on it for the first time."""
    if task.content:
        seen.learn(task.item.recording.recording_id, task.content)
    if task.unchanged:
        if task.is_readable:
            failures.settle(output, task.worker, could_be_read=True)
        return
    if isinstance(task.work.error, ShortageError):
        remember_shortage(task.line, task.work.error, output)
    failures.keep(task, chain, output)


def annotated(chain: Chain, items: Sequence[Item]) -> Iterator[Work]:
    """Each item after the stages, with its rows or its error. Writes nothing."""
    with stop_on_signals() as stopping:
        steps = chain.load()
        for item in items:
            work = Work(item.recording, rows=item.rows)
            if chain.needs_audio and not (item.input_line and not item.rows):
                with work.failing_alone(), Media(item.recording.path) as media:
                    work.audio = audio_of(item, media, chain)
            run_steps([work], chain, steps, stopping.check)
            if isinstance(work.error, ShortageError):
                raise ResourceError(f"{item.recording.recording_id}: {work.error.detail}")
            stopping.check()
            yield work


def _open(chain: Chain, source: Source, destination: Destination) -> AbstractContextManager[Output]:
    """Open the output with the lineage of this run."""
    earlier = source.lineage
    settings = {**(earlier.settings if earlier else {}), **{name: as_dict(s) for name, s in chain.settings.items()}}
    models = {**(earlier.models if earlier else {}), **chain.identities()}
    chain.check_vectors(settings.get("embed", {}), models)
    lineage = Lineage(
        stage=chain.stages[-1],
        tool_version=__version__,
        fingerprint=fingerprint({"schema_version": schemas.SCHEMA_VERSION, "settings": settings, "models": models}),
        settings=settings,
        models=models,
        corpus_root=text_of(source.root),
        extra=chain.extra() | (source.shard.extra if source.shard else {}),
    )
    columns = schemas.columns_through(chain.stages[-1], vectors=destination.vectors)
    return Output.open(
        destination.out,
        columns,
        lineage,
        redo=destination.redo,
        retry_failed=destination.retry_failed,
        moved=destination.moved,
        wait=destination.wait,
    )
