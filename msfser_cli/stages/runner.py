"""The batch loop: reads recordings, writes a table and its ledger. A failed recording never stops the others."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from msfser_cli import __version__, schemas
from msfser_cli.backends import Row
from msfser_cli.backends.background import start
from msfser_cli.errors import (
    MACHINE_REASONS,
    MsfserError,
    RecordingError,
    ResourceError,
    TableError,
    is_shortage,
    shortage,
)
from msfser_cli.settings import MAX_FAILED, as_dict, fingerprint
from msfser_cli.stages import coverage
from msfser_cli.stages.chain import Chain, Step, hearing_of
from msfser_cli.stages.corpus import Corpus, Recording, find, path_of
from msfser_cli.stages.stopping import stop_on_signals
from msfser_cli.store import tables
from msfser_cli.store.audio import Audio, decode, file_sha256
from msfser_cli.store.output import Output, ledger_path, read_ledger
from msfser_cli.store.seen import Seen
from msfser_cli.store.tables import Lineage

logger = logging.getLogger("msfser")


def _no_audio() -> Audio:
    return Audio(np.empty(0, np.float32))


IN_A_ROW = 10
"""msfser suspects the machine after this many failures in a row, all for one of `MACHINE_REASONS`."""

ELSEWHERE = 5
"""Before a run stops on that suspicion, it tries this many others, spread over the remaining recordings."""

_SHORT = "memory ran out once: "
"""The prefix of such a recording's input key in the ledger. The next run tries it once more."""


@dataclass(frozen=True)
class Item:
    """One recording to process. From an input table it has rows and a ledger line."""

    recording: Recording
    rows: list[Row] = field(default_factory=list)
    input_line: dict[str, Any] | None = None
    hearing: dict[str, Any] | None = None
    """How the input table's recordings were decoded, as `chain.hearing_of`; None for a corpus."""


@dataclass(frozen=True)
class Source:
    """The input of a run.

    items: the recordings in order. size_bytes: their size. lineage: that of an input table, None for a corpus. ignored: the
    number of files and hidden folders that were skipped because of their names. manifest: the file that names the items, if any.
    notes: sentences for the user on how the input was read.
    """

    root: Path
    recording_ids: frozenset[str]
    size_bytes: int
    items: Iterable[Item]
    lineage: Lineage | None = None
    ignored: int = 0
    manifest: Path | None = None
    notes: tuple[str, ...] = ()

    def gone(self, recording_ids: Iterable[str]) -> list[str]:
        """Those of `recording_ids` that are not among the items. For a corpus, their files must be gone as well."""
        absent = set(recording_ids).difference(self.recording_ids)
        return sorted(name for name in absent if self.lineage or not _may_exist(self.root, name))


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


class Reporter(Protocol):
    """Shows the progress to the user."""

    def start(self, source: Source) -> None:
        """The run begins."""
        ...

    def recording(self, line: dict[str, Any], *, unchanged: bool) -> None:
        """One recording is finished, with its ledger line."""
        ...


@dataclass
class _Prepared:
    """An item that is ready to process: its ledger line so far, and its audio or the error."""

    item: Item
    line: dict[str, Any]
    unchanged: bool = False
    audio: Audio = field(default_factory=_no_audio)
    error: RecordingError | None = None

    @property
    def is_readable(self) -> bool:
        """Whether its file was opened. The files of an input table may not be opened at all."""
        return self.item.input_line is None and self.error is None


def source_of(command: str, inputs: Sequence[str], root: Path | None) -> tuple[tuple[str, ...], Source]:
    """The stages that `command` runs on `inputs`, and their source.

    transcribe reads a corpus. emphasize, describe and embed read the table of the stage before. predict reads any of these and
    runs the remaining stages. Raises UsageError or TableError for another input.
    """
    names = schemas.STAGE_NAMES
    last = names.index(command)
    table = Path(inputs[0])
    if command == "transcribe" or (command == "predict" and not (len(inputs) == 1 and tables.is_ours(table))):
        return names[: last + 1], _from_corpus(find(inputs, root))
    lineage = tables.read_lineage(table)
    first = names.index(lineage.stage) + 1 if lineage.stage in names else 0
    if first == 0 or first > last or (first < last and command != "predict"):
        raise TableError(table, f"a table of {lineage.stage}", f"{command} needs a table of {names[last - 1]}")
    return names[first : last + 1], _from_table(table, lineage, root)


def require_languages(chain: Chain, source: Source) -> None:
    """Raise TableError, with the row, if the transcriber does not know a language of the manifest."""
    if source.manifest is None:
        return
    segments = [segment for item in source.items for segment in item.recording.segments if segment.language]
    supported = chain.known_languages() if segments else None
    for segment in segments:
        if supported is not None and segment.language not in supported:
            problem = f"{segment.place} has the language {segment.language!r}, which the model does not know"
            raise TableError(source.manifest, problem, f"choose one of {', '.join(sorted(supported))}")


def pending(chain: Chain, source: Source, destination: Destination) -> tuple[list[str], list[str]]:
    """The ids that `run` would process now, and the ids that no longer exist. Writes nothing."""
    if not Path(destination.out).parent.exists():
        return [item.recording.recording_id for item in source.items], []
    with _open(chain, source, destination) as output:
        seen = Seen(output.path)
        checked = [_check(item, output, seen) for item in source.items]
        gone = source.gone(output.recordings)
    return [prepared.item.recording.recording_id for prepared in checked if not prepared.unchanged], gone


def run(chain: Chain, source: Source, destination: Destination, reporter: Reporter) -> Summary:
    """Process the recordings that are not done yet, and publish the result. Finished work is always kept.

    A recording that fails gets a line in the ledger. If the machine may be the cause, the line waits until a later recording
    succeeds (see `_Failures`). Raises UsageError if the output has other settings, OutputHeldError if another run writes to it,
    ResourceError if the machine fails or seems to, Stopped on a signal.
    """
    began = time.monotonic()
    out = destination.out
    summary = Summary(out=out, ledger=str(ledger_path(out)), recordings=len(source.recording_ids), ignored=source.ignored)
    steps: list[Step] = []
    failures = _Failures(destination.max_failed)
    turns = _Turns(source.items)
    with stop_on_signals() as stopping, _open(chain, source, destination) as output:
        reporter.start(source)
        seen = Seen(output.path)
        beside = output.path.absolute()  # a back end may change the working directory while it is loaded
        try:
            with contextlib.closing(_ahead(turns, lambda item: _prepare(item, chain, output, seen, beside))) as ahead:
                for prepared in ahead:
                    rows: list[Row] = []
                    if not prepared.unchanged:
                        if prepared.error is None and not steps:
                            steps = chain.load()
                        try:
                            rows = _annotate(prepared, chain, steps)
                        except _ShortageError as error:
                            with stopping.postponed():
                                _remember_shortage(prepared.line, error, output)
                        stopping.check()  # an error that a library raises on a signal is not a failure
                        with stopping.postponed():
                            rows = failures.keep(prepared, rows, chain, output)
                    elif prepared.is_readable:
                        failures.settle(output, could_be_read=True)
                    _count(summary, prepared, rows)
                    reporter.recording(prepared.line, unchanged=prepared.unchanged)
                    if failures.are_suspect(summary, turns):
                        with stopping.postponed():
                            failures.stop(output, summary)
            if failures.are_suspect(summary):
                with stopping.postponed():
                    failures.stop(output, summary)
            gone = source.gone(output.recordings)
            summary.gone, summary.pruned = len(gone), destination.prune
            with stopping.postponed():
                failures.settle(output)
                if destination.prune:
                    output.drop(gone)
                summary.published = output.publish()
        finally:
            with stopping.postponed():
                output.commit()
                seen.save((source.recording_ids | output.recordings).difference(source.gone(output.recordings)))
    summary.seconds = round(time.monotonic() - began, 3)
    return summary


def annotated(chain: Chain, items: Sequence[Item]) -> Iterator[tuple[Item, list[Row] | RecordingError]]:
    """Each item with its rows from the stages, or with the error. Writes nothing."""
    with stop_on_signals() as stopping:
        steps = chain.load()
        for item in items:
            result: list[Row] | RecordingError
            try:
                result = _rows(item, _audio(item, chain, None) if _is_heard(item, chain) else _no_audio(), chain, steps)
            except RecordingError as error:
                result = error
            except _ShortageError as error:
                raise ResourceError(f"{item.recording.recording_id}: {error}") from error
            stopping.check()
            yield item, result


def _may_exist(root: Path, recording_id: str) -> bool:
    """Whether the recording may still exist. True if msfser cannot tell, as for a name with escaped bytes."""
    if "\\" in recording_id:
        return True
    try:
        # The id of a folder that could not be listed. If it is a folder now, its recordings are among the items.
        return not stat.S_ISDIR(os.lstat(root / recording_id).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a manifest may hold an impossible name
        return False
    except OSError:  # it may lie in a folder without permission to search
        return True


def _from_corpus(corpus: Corpus) -> Source:
    size = sum(_size(r.path) for r in corpus.recordings)
    names = frozenset(r.recording_id for r in corpus.recordings)
    return Source(corpus.root, names, size, [Item(r) for r in corpus.recordings], ignored=corpus.ignored,
                  manifest=corpus.manifest, notes=corpus.notes)


def _size(path: Path) -> int:
    """The size in bytes; 0 if it is not a file. A manifest may hold an impossible name."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _from_table(path: Path, lineage: Lineage, root: Path | None) -> Source:
    """The recordings of a table, including those without rows, which go into the next ledger as well."""
    ledger = read_ledger(path)
    folder = Path(lineage.corpus_root or ".") if root is None else root
    folder = folder.absolute()
    size = sum(line["size_bytes"] or 0 for line in ledger.values())
    return Source(folder, frozenset(ledger), size, _TableItems(path, lineage, ledger, folder), lineage)


@dataclass(frozen=True)
class _TableItems:
    """The recordings of a table. Each iteration reads the table again."""

    path: Path
    lineage: Lineage
    ledger: dict[str, dict[str, Any]]
    folder: Path

    def __iter__(self) -> Iterator[Item]:
        hearing = hearing_of(self.lineage.settings.get("transcribe", {}))
        spoken = {identity: line["utterances"] for identity, line in self.ledger.items() if line["utterances"]}
        for identity, line in self.ledger.items():
            if identity not in spoken:
                yield Item(Recording(identity, path_of(self.folder, identity)), [], line, hearing)
        for identity, rows in tables.iter_recordings(self.path, schemas.columns_through(self.lineage.stage)):
            if spoken.pop(identity, None) != len(rows):
                raise self._torn(identity)
            yield Item(Recording(identity, path_of(self.folder, identity)), rows, self.ledger[identity], hearing)
        if spoken:
            raise self._torn(min(spoken))

    def _torn(self, identity: str) -> TableError:
        return TableError(
            self.path,
            f"does not match its ledger {ledger_path(self.path)} for recording {identity}",
            f"if {self.lineage.stage} is writing it, wait; if it was stopped, run it again; always keep the two files together",
        )


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
        corpus_root=os.fsencode(source.root.resolve()).decode("utf-8", "backslashreplace"),
        extra=chain.extra(),
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


class _Turns:
    """The items of a source, in order. `look_elsewhere` moves some items from further on to the front."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._remaining = deque(items) if isinstance(items, Sequence) else None
        self._items = items
        self.begun = 0

    def __iter__(self) -> Iterator[Item]:
        if self._remaining is None:  # a table is read as a stream
            for item in self._items:
                self.begun += 1
                yield item
        else:
            while self._remaining:
                self.begun += 1
                yield self._remaining.popleft()

    def look_elsewhere(self) -> int:
        """Move up to `ELSEWHERE` items to the front, and return their number."""
        if not self._remaining:
            return 0
        count = len(self._remaining)
        places = {count * (number + 1) // (ELSEWHERE + 1) for number in range(ELSEWHERE)}
        items = list(self._remaining)
        rest = (item for place, item in enumerate(items) if place not in places)
        self._remaining = deque([*(items[place] for place in sorted(places)), *rest])
        return len(places)


def _ahead(items: Iterable[Item], prepare: Callable[[Item], _Prepared]) -> Generator[_Prepared, None, None]:
    """The items prepared, in order. A thread prepares the next item while the caller works on the current one.

    If the caller stops early, the thread is abandoned, not joined: it may be decoding a long file.
    """
    tasks: queue.SimpleQueue[tuple[Item, Future[_Prepared]] | None] = queue.SimpleQueue()

    def work() -> None:
        while task := tasks.get():
            item, future = task
            try:
                future.set_result(prepare(item))
            except BaseException as error:
                future.set_exception(error)

    start(work)
    try:
        following: Future[_Prepared] | None = None
        for item in items:
            current, following = following, Future()
            tasks.put((item, following))
            if current:
                yield current.result()
        if following:
            yield following.result()
    finally:
        tasks.put(None)


def _check(item: Item, output: Output, seen: Seen) -> _Prepared:
    """Find out whether the item is already done, from the same content."""
    recording, input_line = item.recording, item.input_line
    line: dict[str, Any] = dict(input_line) if input_line else dict.fromkeys(schemas.names(schemas.RECORDINGS))
    line |= {"recording_id": recording.recording_id, "status": "done", "reason": None, "detail": None, "utterances": 0}
    line |= {"seconds": 0.0, "input_key": ""}
    prepared = _Prepared(item, line)
    try:
        if input_line is None:
            line["sha256"], line["size_bytes"] = seen.sha256(recording.recording_id, recording.path)
            line["input_key"] = recording.input_key(line["sha256"])
        else:
            line["input_key"] = _rows_key(input_line["input_key"], item.rows)
    except RecordingError as error:
        # Without content, the reason is the key: each run checks it, and it is a new failure only for another reason.
        prepared.error, line["input_key"] = error, error.reason
    prepared.unchanged = output.done(recording.recording_id, line["input_key"])
    return prepared


def _prepare(item: Item, chain: Chain, output: Output, seen: Seen, beside: Path) -> _Prepared:
    """Check an item, and decode it if a stage needs the audio. Decoded samples lie `beside` the output."""
    began = time.perf_counter()
    path = item.recording.path
    before = _state(path)
    prepared = _check(item, output, seen)
    if prepared.unchanged or prepared.error or not _is_heard(item, chain):
        return prepared
    try:
        prepared.audio = _audio(item, chain, beside)
        prepared.line["duration"] = round(prepared.audio.duration, 3)
    except RecordingError as error:
        prepared.error = error
    if (after := _state(path)) != before:  # the hash may be of other content than the samples: try it again next time
        why = "the file changed while it was read" if after else "the file was removed while it was read"
        prepared.error = RecordingError("changed" if after else "missing", why)
        prepared.line["input_key"] = prepared.error.reason
    prepared.line["seconds"] = time.perf_counter() - began
    return prepared


def _state(path: Path) -> tuple[int, ...] | None:
    """Values that change if the file is written to or replaced; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino


def _is_heard(item: Item, chain: Chain) -> bool:
    """Whether a stage needs the audio of the item. Without rows in the input table, none does."""
    return chain.needs_audio and not (item.input_line and not item.rows)


def _audio(item: Item, chain: Chain, output: Path | None) -> Audio:
    """The decoded audio. Raises RecordingError if the file cannot be decoded, or changed since the input table was made."""
    if item.input_line and file_sha256(item.recording.path)[0] != item.input_line["sha256"]:
        raise RecordingError("changed", "the file changed after the input table was made; transcribe it again")
    return decode(item.recording.path, output, **(chain.hearing if item.hearing is None else item.hearing))


class _ShortageError(ResourceError):
    """Memory or open files ran out while a model worked on one recording."""


def _rows(item: Item, audio: Audio, chain: Chain, steps: Sequence[Step]) -> list[Row]:
    """The rows of the item after all stages. Raises RecordingError if a back end fails or returns wrong rows."""
    rows = item.rows
    for stage, step in zip(chain.stages, steps, strict=True):
        try:
            rows = step(item.recording, audio, rows)
            tables.to_table(rows, schemas.STAGES[stage])
        except MsfserError:
            raise
        except Exception as error:
            if is_shortage(error):
                raise _ShortageError(shortage(error)) from error
            logger.debug("%s failed", item.recording.recording_id, exc_info=True)
            raise _blamed(chain, stage, error) from error
    return rows


def _blamed(chain: Chain, stage: str, error: Exception) -> RecordingError:
    """The error for a failed back end. It names the back end, and quotes the library in brackets."""
    words = f"{type(error).__name__}: {error}"
    return RecordingError("backend_error", f"the {chain.backend_of(stage)} failed on this recording ({words})")


def _rows_key(input_key: str, rows: list[Row]) -> str:
    """A hash of a recording's rows. It changes if a transcript is edited, but not if the same rows are written again."""
    digest = hashlib.sha256(input_key.encode())
    for row in rows:
        for name, value in row.items():
            plain = value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value, ensure_ascii=False).encode()
            digest.update(b"%s\0%s\0" % (name.encode(), plain))
    return digest.hexdigest()


def _annotate(prepared: _Prepared, chain: Chain, steps: Sequence[Step]) -> list[Row]:
    """The rows of the recording after all stages. Completes its ledger line."""
    began = time.perf_counter()
    item, line = prepared.item, prepared.line
    rows = item.rows
    try:
        if prepared.error:
            raise prepared.error
        if item.input_line and not rows:
            line |= {name: item.input_line[name] for name in ("status", "reason", "detail")}
        else:
            rows = _rows(item, prepared.audio, chain, steps)
            line["status"] = "done" if rows else "no_speech"
            line["reason"] = prepared.audio.incomplete or (item.input_line or {}).get("reason")
            if not item.input_line:
                line["speech_seconds"] = prepared.audio.speech_seconds
                line["transcribed_seconds"] = prepared.audio.transcribed_seconds
    except RecordingError as error:
        rows = []
        _fail(line, error)
    sentences = [sentence for sentence in dict.fromkeys(prepared.audio.notes) if sentence not in (line["note"] or "")]
    line["note"] = "; ".join(filter(None, [line["note"], *sentences])) or None
    line["utterances"] = len(rows)
    line["seconds"] = round(line["seconds"] + time.perf_counter() - began, 3)
    return rows


def _fail(line: dict[str, Any], error: RecordingError) -> None:
    line |= {"status": "failed", "reason": error.reason, "detail": error.detail, "utterances": 0}


def _remember_shortage(line: dict[str, Any], error: _ShortageError, output: Output) -> None:
    """Record that memory ran out. The first time this raises ResourceError, the second time the recording fails.

    Without this memory in the ledger, the same recording would stop the run every night.
    """
    identity, remembered = line["recording_id"], _SHORT + line["input_key"]
    _fail(line, RecordingError("out_of_memory", str(error)))
    if output.input_key(identity) not in (remembered, line["input_key"]):  # the second key: it had failed, and is retried
        output.add(line | {"input_key": remembered})
        raise ResourceError(
            f"{identity}: {error}. Run the same command again; if memory runs out on this recording once more, msfser skips it"
        ) from error


class _Failures:
    """The failures of a run, and whether the machine may be their cause.

    A bad file, such as a text file, goes into the ledger at once. A failure for one of `MACHINE_REASONS` may be the machine's, so
    its line waits until a later recording succeeds. If `IN_A_ROW` lines wait, and the share of such failures in the run exceeds
    the limit, `ELSEWHERE` other recordings are tried. If these fail as well, the run stops.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._count = 0
        self._waiting: list[dict[str, Any]] = []
        self._verdict_at: int | None = None  # the run stops if this many lines wait

    def keep(self, prepared: _Prepared, rows: list[Row], chain: Chain, output: Output) -> list[Row]:
        """Add a recording to the output, or let its line wait. Returns the rows that were added."""
        line = prepared.line
        if line["status"] != "failed":
            try:
                output.add(line, rows)
            except ValueError as error:  # a vector has another length than earlier vectors
                rows = []
                _fail(line, _blamed(chain, chain.stages[-1], error))
        if line["status"] != "failed":
            if not _was_over(prepared):
                self.settle(output)
        elif line["reason"] not in MACHINE_REASONS or _was_over(prepared) or _is_gone_alone(prepared):
            output.add(line)
        else:
            self._count += 1
            self._waiting.append(line)
        return rows

    def settle(self, output: Output, *, could_be_read: bool = False) -> None:
        """Write the waiting lines, because another recording succeeded, so the machine is not the cause.

        could_be_read: the other recording was only read. This says nothing of failures after reading.
        """
        if could_be_read and any(line["reason"] not in ("missing", "unreadable") for line in self._waiting):
            return
        for line in self._waiting:
            output.add(line)
        self._waiting.clear()
        self._verdict_at = None

    def are_suspect(self, summary: Summary, turns: _Turns | None = None) -> bool:
        """Whether the machine may be the cause. If `turns` has more items, some of them are tried first."""
        waiting = len(self._waiting)
        if waiting < IN_A_ROW or self._count <= self._share * summary.tried:
            return False
        if turns and self._verdict_at is None:
            being_prepared = turns.begun - summary.tried - summary.unchanged
            self._verdict_at = waiting + being_prepared + turns.look_elsewhere()
        return not turns or waiting >= (self._verdict_at or 0)

    def stop(self, output: Output, summary: Summary) -> NoReturn:
        """Publish finished work and the waiting lines, and raise ResourceError. The next run tries these recordings again.

        Rows that the table already has are kept. With --redo, the old table is kept.
        """
        for line in self._waiting:
            if line["recording_id"] not in output.recordings:
                output.add(line | {"input_key": ""})
        if not output.replaces_a_table:
            output.publish()
        last = self._waiting[-1]
        raise ResourceError(
            f"{len(self._waiting)} recordings in a row failed, the last ({last['recording_id']}) with {last['reason']}: "
            f"{last['detail']}. So many failures usually mean a disk or setup problem. Fix it and run the same command again: it "
            "tries these recordings again. If the recordings themselves are bad, add --max-failed 1. "
            f"The ledger {summary.ledger} lists what was done"
        )


def _was_over(prepared: _Prepared) -> bool:
    """Whether the recording has no rows in the input table, because it failed or has no speech. No stage runs on it."""
    return bool(prepared.item.input_line and not prepared.item.rows)


def _is_gone_alone(prepared: _Prepared) -> bool:
    """Whether the file is missing from a folder with other files. The folder of an unmounted disk is empty."""
    if prepared.line["reason"] == "missing":
        with contextlib.suppress(OSError, ValueError), os.scandir(prepared.item.recording.path.parent) as others:
            return next(others, None) is not None
    return False


def _count(summary: Summary, prepared: _Prepared, rows: Sequence[Row]) -> None:
    line = prepared.line
    outcome = "unchanged" if prepared.unchanged else line["status"]
    setattr(summary, outcome, getattr(summary, outcome) + 1)
    if not prepared.unchanged:
        summary.utterances += line["utterances"]
        summary.noted += line["note"] is not None
        summary.incomplete += line["status"] != "failed" and line["reason"] is not None
        summary.audio_seconds = round(summary.audio_seconds + (line["duration"] or 0.0), 3)
        if prepared.item.input_line is None and line["speech_seconds"] is not None:
            speech, transcribed = line["speech_seconds"], line["transcribed_seconds"]
            summary.speech_seconds = round(summary.speech_seconds + speech, 3)
            summary.transcribed_seconds = round(summary.transcribed_seconds + transcribed, 3)
            summary.missing_words += coverage.is_missing(speech, transcribed)
        for row in rows:
            if why := row.get("description_fallback"):
                summary.fallbacks[why] = summary.fallbacks.get(why, 0) + 1
