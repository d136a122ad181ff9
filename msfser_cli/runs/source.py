"""The input of a run: a corpus, or the table of an earlier stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msfser_cli import schemas
from msfser_cli.backends import Row
from msfser_cli.errors import TableError, UsageError
from msfser_cli.runs.chain import Chain, hearing_of
from msfser_cli.runs.corpus import Corpus, find
from msfser_cli.schemas import LedgerLine
from msfser_cli.stages.work import Recording
from msfser_cli.store import tables
from msfser_cli.store.ledger import ledger_path, read_ledger
from msfser_cli.store.lineage import Lineage
from msfser_cli.store.media import size
from msfser_cli.store.objects import Location, location
from msfser_cli.store.root import existing, path_of
from msfser_cli.store.shard import Shard


@dataclass(frozen=True)
class Item:
    """One recording to process. From an input table it has rows and a ledger line."""

    recording: Recording
    rows: list[Row] = field(default_factory=list)
    input_line: LedgerLine | None = None
    hearing: dict[str, Any] | None = None
    """How the input table's recordings were decoded, as `chain.hearing_of`; None for a corpus."""


@dataclass(frozen=True)
class Source:
    """The input of a run.

    sizes: recording -> the bytes of its file. items: the recordings in order. lineage: that of an input table, None for a corpus.
    ignored: the number of files and hidden folders that were skipped because of their names. manifest: the file that names the
    items, if any. notes: sentences for the user on how the input was read. shard: the part of the corpus; None: all of it.
    """

    root: Location
    sizes: Mapping[str, int]
    items: Iterable[Item]
    lineage: Lineage | None = None
    ignored: int = 0
    manifest: Path | None = None
    notes: tuple[str, ...] = ()
    shard: Shard | None = None

    @property
    def recording_ids(self) -> Set[str]:
        """The ids of the items."""
        return self.sizes.keys()

    @property
    def size_bytes(self) -> int:
        """The bytes of all items."""
        return sum(self.sizes.values())

    def only(self, shard: Shard | None) -> Source:
        """The recordings of the shard. Raises UsageError if the input is a table of another shard."""
        if shard is None or shard == self.shard:
            return self
        if self.shard:
            raise UsageError(f"--shard {shard}: the table holds shard {self.shard}; leave out --shard, or name another table")
        sizes = {identity: size for identity, size in self.sizes.items() if shard.has(identity)}
        return replace(self, sizes=sizes, items=_Selected(self.items, sizes.keys()), shard=shard)

    def gone(self, recording_ids: Iterable[str]) -> list[str]:
        """Those of `recording_ids` that are not among the items. For a corpus, their files must be gone as well."""
        absent = set(recording_ids).difference(self.recording_ids)
        if self.shard:
            absent = set(filter(self.shard.has, absent))
        return sorted(absent if self.lineage else absent - existing(self.root, absent))


def source_of(command: str, inputs: Sequence[str], root: Location | None) -> tuple[tuple[str, ...], Source]:
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


def _from_corpus(corpus: Corpus) -> Source:
    sizes = {r.recording_id: size(r.path) for r in corpus.recordings}
    return Source(corpus.root, sizes, [Item(r) for r in corpus.recordings], ignored=corpus.ignored, manifest=corpus.manifest,
                  notes=corpus.notes)


def _from_table(path: Path, lineage: Lineage, root: Location | None) -> Source:
    """The recordings of a table, including those without rows, which go into the next ledger as well."""
    ledger = {identity: LedgerLine(**line) for identity, line in read_ledger(path).items()}
    folder = location(lineage.corpus_root or ".") if root is None else root
    if isinstance(folder, Path):
        folder = folder.absolute()
    sizes = {identity: line.size_bytes or 0 for identity, line in ledger.items()}
    return Source(folder, sizes, _TableItems(path, lineage, ledger, folder), lineage, shard=Shard.of_extra(lineage.extra))


@dataclass(frozen=True)
class _Selected:
    """The items with one of the ids."""

    items: Iterable[Item]
    recording_ids: Set[str]

    def __iter__(self) -> Iterator[Item]:
        return (item for item in self.items if item.recording.recording_id in self.recording_ids)


@dataclass(frozen=True)
class _TableItems:
    """The recordings of a table. Each iteration reads the table again."""

    path: Path
    lineage: Lineage
    ledger: dict[str, LedgerLine]
    folder: Location

    def __iter__(self) -> Iterator[Item]:
        hearing = hearing_of(self.lineage.settings.get("transcribe", {}))
        spoken = {identity: line.utterances for identity, line in self.ledger.items() if line.utterances}
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
