"""The only batch loop: recordings in, a table and its ledger out, whatever becomes of a single recording."""

from __future__ import annotations

import _thread
import contextlib
import hashlib
import json
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msfser_cli import __version__, schemas
from msfser_cli.backends import Row
from msfser_cli.errors import MsfserError, RecordingError, ResourceError, TableError, is_shortage, shortage
from msfser_cli.settings import MAX_FAILED, as_dict, fingerprint
from msfser_cli.stages.chain import Chain, Step
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


LEAST_FAILED = 10
"""Fewer failures stop no run, whatever their share."""


@dataclass(frozen=True)
class Item:
    """One recording to be done: from a corpus, or with the rows and the ledger line that an input table has of it."""

    recording: Recording
    rows: list[Row] = field(default_factory=list)
    known: dict[str, Any] | None = None


@dataclass(frozen=True)
class Source:
    """What a run reads: its items in order, their recording ids and bytes, and the lineage of an input table.

    `ignored` counts the files in the corpus that are no recordings by their names.
    """

    root: Path
    names: frozenset[str]
    size_bytes: int
    items: Iterable[Item]
    lineage: Lineage | None = None
    ignored: int = 0

    def gone(self, recording_ids: Iterable[str]) -> list[str]:
        """Those of the recordings that are neither among the items nor, unless a table is read, files below the root."""
        absent = set(recording_ids).difference(self.names)
        return sorted(name for name in absent if self.lineage or not _may_exist(self.root, name))


@dataclass(frozen=True)
class Destination:
    """What a run writes to: `out`, with or without the vectors; whether to start over, and to try failed recordings again.

    `prune`: whether the rows of recordings that are gone go too. `moved`: the user says where the corpus is, so it may lie
    elsewhere than when the output was begun. `wait`: how many seconds to wait for another run on it. `max_failed`: the share of
    recordings that may fail.
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
    """What a run did: `done + no_speech + failed + unchanged == recordings`. `published` is what the ledger says in all.

    gone: recordings that the output has and the corpus has not any more; `pruned` says that they are out of the output, too.
    fallbacks: how many utterances a model was asked to describe in vain, by `schemas.FALLBACKS`.
    noted: how many of the recordings that were tried have a note in the ledger.
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
    fallbacks: dict[str, int] = field(default_factory=dict)
    audio_seconds: float = 0.0
    seconds: float = 0.0
    published: dict[str, int] = field(default_factory=dict)


class Reporter(Protocol):
    """Whoever tells the user how it goes."""

    def start(self, source: Source) -> None:
        """The run begins."""
        ...

    def recording(self, line: dict[str, Any], *, unchanged: bool) -> None:
        """One recording is finished, with its ledger line."""
        ...


@dataclass
class _Prepared:
    """An item whose content was looked at: its ledger line so far and, if it is to be done, its audio or why there is none."""

    item: Item
    line: dict[str, Any]
    unchanged: bool = False
    audio: Audio = field(default_factory=_no_audio)
    error: RecordingError | None = None


def source_of(command: str, inputs: Sequence[str], root: Path | None) -> tuple[tuple[str, ...], Source]:
    """The stages that `command` runs on `inputs`, and what they read.

    transcribe reads a corpus; emphasize, describe and embed the table of the stage before; predict any of these, and runs the
    stages that are left. Raises UsageError or TableError where the input is something else.
    """
    names = schemas.STAGE_NAMES
    last = names.index(command)
    table = Path(inputs[0])
    if command == "transcribe" or (command == "predict" and not (len(inputs) == 1 and tables.is_ours(table))):
        return names[: last + 1], _from_corpus(find(inputs, root))
    lineage = tables.read_lineage(table)
    first = names.index(lineage.stage) + 1 if lineage.stage in names else 0
    if first == 0 or first > last or (first < last and command != "predict"):
        raise TableError(table, f"a table of {lineage.stage}", f"{command} reads one that {names[last - 1]} wrote")
    return names[first : last + 1], _from_table(table, lineage, root)


def pending(chain: Chain, source: Source, destination: Destination) -> tuple[list[str], list[str]]:
    """The recordings that `run` would do now, and those that are gone; nothing is done by asking."""
    if not Path(destination.out).parent.exists():
        return [item.recording.recording_id for item in source.items], []
    with _open(chain, source, destination) as output:
        seen = Seen(output.path)
        looked_at = [_look(item, output, seen) for item in source.items]
        gone = source.gone(output.recordings)
    return [prepared.item.recording.recording_id for prepared in looked_at if not prepared.unchanged], gone


def run(chain: Chain, source: Source, destination: Destination, reporter: Reporter) -> Summary:
    """Do what is not done yet, and publish it.

    A recording that fails becomes a line of the ledger, once a later one succeeds or the run ends: until then, the machine may
    be to blame. Raises UsageError where the output holds other work, OutputHeldError where another run writes to it,
    ResourceError where the machine gives out or more than `max_failed` fail, Stopped on a signal; whatever was finished by then
    is kept.
    """
    began = time.monotonic()
    out = destination.out
    summary = Summary(out=out, ledger=str(ledger_path(out)), recordings=len(source.names), ignored=source.ignored)
    steps: list[Step] = []
    failures = _Failures(destination.max_failed)
    with stop_on_signals() as stopping, _open(chain, source, destination) as output:
        reporter.start(source)
        seen = Seen(output.path)
        try:
            with contextlib.closing(_ahead(source.items, lambda item: _prepare(item, chain, output, seen))) as ahead:
                for prepared in ahead:
                    rows: list[Row] = []
                    if not prepared.unchanged:
                        if prepared.error is None and not steps:
                            steps = chain.load()
                        rows = _annotate(prepared, steps)
                        stopping.check()  # what a library made of the signal is not the recording's failure
                        if failures.is_one(prepared):
                            failures.keep(prepared.line)
                        else:
                            with stopping.postponed():
                                failures.settle(output)
                                output.add(prepared.line, rows)
                    _count(summary, prepared, rows)
                    reporter.recording(prepared.line, unchanged=prepared.unchanged)
                    failures.check(summary)
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
                seen.save((source.names | output.recordings).difference(source.gone(output.recordings)))
    summary.seconds = round(time.monotonic() - began, 3)
    return summary


def annotated(chain: Chain, items: Sequence[Item]) -> Iterator[tuple[Item, list[Row] | RecordingError]]:
    """Each item with the rows that the stages make of it, or why there are none; nothing is written."""
    with stop_on_signals() as stopping:
        steps = chain.load()
        for item in items:
            found: list[Row] | RecordingError
            try:
                found = _rows(item, _audio(item, None) if _is_heard(item, chain) else _no_audio(), steps)
            except RecordingError as error:
                found = error
            stopping.check()
            yield item, found


def _may_exist(root: Path, recording_id: str) -> bool:
    """A name that is not Unicode cannot be found again by its id, in which its bytes are escaped."""
    if "\\" in recording_id:
        return True
    try:
        # A folder is the id of one that could not be listed: now its recordings are among the items themselves.
        return not stat.S_ISDIR(os.lstat(root / recording_id).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a manifest may hold a name that no file can have
        return False
    except OSError:  # it may be in a folder that cannot be searched
        return True


def _from_corpus(corpus: Corpus) -> Source:
    size = sum(_size(r.path) for r in corpus.recordings)
    names = frozenset(r.recording_id for r in corpus.recordings)
    return Source(corpus.root, names, size, [Item(r) for r in corpus.recordings], ignored=corpus.ignored)


def _size(path: Path) -> int:
    """In bytes, 0 for what is no file; a manifest may hold a name that no file can have."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _from_table(path: Path, lineage: Lineage, root: Path | None) -> Source:
    """The recordings of a table, and those that its ledger has no rows of: they go on into the next ledger."""
    ledger = read_ledger(path)
    folder = Path(lineage.corpus_root or ".") if root is None else root
    size = sum(line["size_bytes"] or 0 for line in ledger.values())
    return Source(folder, frozenset(ledger), size, _TableItems(path, lineage, ledger, folder), lineage)


@dataclass(frozen=True)
class _TableItems:
    """The recordings of a table, read anew in each pass."""

    path: Path
    lineage: Lineage
    ledger: dict[str, dict[str, Any]]
    folder: Path

    def __iter__(self) -> Iterator[Item]:
        spoken = {identity: line["utterances"] for identity, line in self.ledger.items() if line["utterances"]}
        for identity, line in self.ledger.items():
            if identity not in spoken:
                yield Item(Recording(identity, path_of(self.folder, identity)), [], line)
        for identity, rows in tables.iter_recordings(self.path, schemas.columns_through(self.lineage.stage)):
            if spoken.pop(identity, None) != len(rows):
                raise self._torn(identity)
            yield Item(Recording(identity, path_of(self.folder, identity)), rows, self.ledger[identity])
        if spoken:
            raise self._torn(min(spoken))

    def _torn(self, identity: str) -> TableError:
        return TableError(
            self.path,
            f"its ledger, {ledger_path(self.path)}, says something else of {identity}",
            f"if {self.lineage.stage} writes it now, wait; if it was stopped, run it again; and keep the two together",
        )


def _open(chain: Chain, source: Source, destination: Destination) -> AbstractContextManager[Output]:
    before = source.lineage
    settings = {**(before.settings if before else {}), **{name: as_dict(s) for name, s in chain.settings.items()}}
    models = {**(before.models if before else {}), **chain.identities()}
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


def _ahead(items: Iterable[Item], prepare: Callable[[Item], _Prepared]) -> Generator[_Prepared, None, None]:
    """Items prepared in order, the next one in a thread of its own while the caller works on this one.

    Whoever leaves early leaves the thread to itself: it may be in the middle of an episode, and nobody is to wait for that.
    """
    wanted: _Wanted = queue.SimpleQueue()
    _start(prepare, wanted)
    try:
        next_one: Future[_Prepared] | None = None
        for item in items:
            this, next_one = next_one, Future()
            wanted.put((item, next_one))
            if this:
                yield this.result()
        if next_one:
            yield next_one.result()
    finally:
        wanted.put(None)


_Wanted = queue.SimpleQueue[tuple[Item, "Future[_Prepared]"] | None]


def _start(prepare: Callable[[Item], _Prepared], wanted: _Wanted) -> None:
    """Start the thread that prepares what is `wanted`. ResourceError if it does not start, which `threading` would wait for."""
    alive = threading.Event()

    def work() -> None:
        alive.set()
        while task := wanted.get():
            item, future = task
            try:
                future.set_result(prepare(item))
            except BaseException as error:
                future.set_exception(error)

    try:
        _thread.start_new_thread(work, ())
    except RuntimeError as error:
        raise ResourceError(f"no thread can be started: {error}") from error
    if not alive.wait(60):
        raise ResourceError("no thread can be started: not enough memory")


def _look(item: Item, output: Output, seen: Seen) -> _Prepared:
    """Whether the item was done already, from the same content."""
    recording, known = item.recording, item.known
    line: dict[str, Any] = dict(known) if known else dict.fromkeys(schemas.names(schemas.RECORDINGS))
    line |= {"recording_id": recording.recording_id, "status": "done", "reason": None, "detail": None, "utterances": 0}
    line |= {"seconds": 0.0, "input_key": ""}
    prepared = _Prepared(item, line)
    try:
        if known is None:
            line["sha256"], line["size_bytes"] = seen.sha256(recording.recording_id, recording.path)
            line["input_key"] = recording.input_key(line["sha256"])
        else:
            line["input_key"] = _rows_key(known["input_key"], item.rows)
    except RecordingError as error:
        # There is no content that could be the same: it is looked at in every run, but fails anew only for another reason.
        prepared.error, line["input_key"] = error, error.reason
    prepared.unchanged = output.done(recording.recording_id, line["input_key"])
    return prepared


def _prepare(item: Item, chain: Chain, output: Output, seen: Seen) -> _Prepared:
    began = time.perf_counter()
    path = item.recording.path
    before = _state(path)
    prepared = _look(item, output, seen)
    if prepared.unchanged or prepared.error or not _is_heard(item, chain):
        return prepared
    try:
        prepared.audio = _audio(item, output.path)
        prepared.line["duration"] = round(prepared.audio.duration, 3)
    except RecordingError as error:
        prepared.error = error
    if _state(path) != before:  # whatever was heard, it need not be what was hashed
        prepared.error = RecordingError("changed", "it was written to while it was read")
    prepared.line["seconds"] = time.perf_counter() - began
    return prepared


def _state(path: Path) -> tuple[int, ...] | None:
    """What differs when a file was written to or replaced; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino


def _is_heard(item: Item, chain: Chain) -> bool:
    """Whether a stage listens to the item; there is nothing to hear where the input table has no rows of it."""
    return chain.needs_audio and not (item.known and not item.rows)


def _audio(item: Item, output: Path | None) -> Audio:
    """RecordingError where there is none, or not that which the input table was made from."""
    if item.known and file_sha256(item.recording.path)[0] != item.known["sha256"]:
        raise RecordingError("changed", "its content is not what the input table was made from; transcribe it again")
    return decode(item.recording.path, output)


def _rows(item: Item, audio: Audio, steps: Sequence[Step]) -> list[Row]:
    """What the stages make of the item. RecordingError for whatever a model raises, so that one recording ends nothing."""
    rows = item.rows
    try:
        for step in steps:
            rows = step(item.recording, audio, rows)
    except MsfserError:
        raise
    except Exception as error:
        if is_shortage(error):
            raise ResourceError(f"{item.recording.path}: {shortage(error)}") from error
        logger.debug("%s failed", item.recording.path, exc_info=True)
        raise RecordingError("backend_error", f"{type(error).__name__}: {error}") from error
    return rows


def _rows_key(input_key: str, rows: list[Row]) -> str:
    """A hash of a recording's rows: an edited transcript is new work, a table written again with the same rows is not."""
    digest = hashlib.sha256(input_key.encode())
    for row in rows:
        for name, value in row.items():
            plain = value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value, ensure_ascii=False).encode()
            digest.update(b"%s\0%s\0" % (name.encode(), plain))
    return digest.hexdigest()


def _annotate(prepared: _Prepared, steps: Sequence[Step]) -> list[Row]:
    """The rows that the stages make of the recording; completes its ledger line."""
    began = time.perf_counter()
    item, line = prepared.item, prepared.line
    rows = item.rows
    try:
        if prepared.error:
            raise prepared.error
        if item.known and not rows:
            line |= {name: item.known[name] for name in ("status", "reason", "detail")}
        else:
            rows = _rows(item, prepared.audio, steps)
            line["status"] = "done" if rows else "no_speech"
    except RecordingError as error:
        rows = []
        line |= {"status": "failed", "reason": error.reason, "detail": error.detail}
    sentences = [sentence for sentence in prepared.audio.notes if sentence not in (line["note"] or "")]
    line["note"] = "; ".join(filter(None, [line["note"], *sentences])) or None
    line["utterances"] = len(rows)
    line["seconds"] = round(line["seconds"] + time.perf_counter() - began, 3)
    return rows


class _Failures:
    """The failures of a run: those that are in no ledger yet, and whether they are too many to blame the recordings."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._count = 0
        self._unsettled: list[dict[str, Any]] = []

    @staticmethod
    def is_one(prepared: _Prepared) -> bool:
        """Whether the recording failed now, and not when the input table was made."""
        return prepared.line["status"] == "failed" and not (prepared.item.known and not prepared.item.rows)

    def keep(self, line: dict[str, Any]) -> None:
        """A recording failed."""
        self._count += 1
        self._unsettled.append(line)

    def settle(self, output: Output) -> None:
        """Another did not, so it was not the machine."""
        for line in self._unsettled:
            output.add(line)
        self._unsettled.clear()

    def check(self, summary: Summary) -> None:
        """ResourceError when too many of the recordings that were tried have failed."""
        tried = summary.done + summary.no_speech + summary.failed
        if self._count < LEAST_FAILED or self._count <= self._share * tried or not self._unsettled:
            return
        last = self._unsettled[-1]
        raise ResourceError(
            f"{self._count} of {tried} recordings failed, the last with {last['reason']} ({last['detail']}): the disk or the "
            "set-up is a likelier culprit than the recordings. Mend it and run the same command again, with --retry-failed for "
            f"those that are in the ledger; or let more of them fail than --max-failed {self._share:g}"
        )


def _count(summary: Summary, prepared: _Prepared, rows: Sequence[Row]) -> None:
    line = prepared.line
    outcome = "unchanged" if prepared.unchanged else line["status"]
    setattr(summary, outcome, getattr(summary, outcome) + 1)
    if not prepared.unchanged:
        summary.utterances += line["utterances"]
        summary.noted += line["note"] is not None
        summary.audio_seconds = round(summary.audio_seconds + (line["duration"] or 0.0), 3)
        for row in rows:
            if why := row.get("description_fallback"):
                summary.fallbacks[why] = summary.fallbacks.get(why, 0) + 1
