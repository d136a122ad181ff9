"""Runs of the five stages that write a table, to be stopped and compared: what they read, and what is left in the end."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kit.doubled import options_of
from kit.program import Nursery, Run
from kit.sounds import hum
from msfser_cli import schemas
from msfser_cli.store import tables
from msfser_cli.store.ledger import read_ledger

STAGES = schemas.STAGE_NAMES
LAYOUTS = ("x.parquet", "x/")

Corpus = dict[str, tuple[float, float]]
"""Recordings by name: seconds and level; level 0 is silence, a negative one junk, and 0.5 makes the recogniser fail."""

BEFORE: Corpus = {
    "a.wav": (3, 0.1), "b.wav": (2, 0.2), "c.wav": (2.5, 0.3), "d.wav": (1, 0), "e.wav": (1, 0.2), "f.mp3": (1, -1),
    "g.wav": (2, 0.2),
}  # fmt: skip
# b changes, c falls silent, d is found to speak, two are new, e fails, and g is gone
UPDATE: Corpus = {
    "a.wav": (3, 0.1), "aa.wav": (2, 0.1), "b.wav": (3, 0.2), "c.wav": (2.5, 0), "d.wav": (1, 0.3), "e.wav": (1, 0.5),
    "f.mp3": (1, -1), "z.wav": (1, 0.1),
}  # fmt: skip
# b and d are gone, e changes, and one is new
PRUNED: Corpus = {
    "a.wav": (3, 0.1), "c.wav": (2.5, 0.3), "e.wav": (2, 0.2), "ee.wav": (1, 0.1), "f.mp3": (1, -1), "g.wav": (2, 0.2),
}  # fmt: skip

SCENARIOS: dict[str, tuple[Corpus | None, Corpus, list[str]]] = {
    "first": (None, BEFORE, []),
    "update": (BEFORE, UPDATE, []),
    "prune": (BEFORE, PRUNED, ["--prune"]),
    "redo": (BEFORE, UPDATE, ["--redo"]),
}
"""The corpus of the run before, that of this run, and its options."""


def write_corpus(folder: Path, corpus: Corpus) -> None:
    folder.mkdir()
    for name, (seconds, level) in corpus.items():
        write_recording(folder / name, seconds, level)


def write_recording(path: Path, seconds: float, level: float) -> None:
    if level < 0:
        path.write_text(f"<html>not here {seconds}</html>")
        return
    hum(path, seconds, level)


@dataclass(frozen=True)
class State:
    """What is published, `seconds` aside: rows and ledger lines by recording, and the table's lineage."""

    rows: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    lineage: Any = None


def state(out: Path, stage: str) -> State:
    """Read and verified as any reader of a table does; a recording that is there twice is an error."""
    return State(rows_of(out, stage), ledger_of(out), tables.read_lineage(out))


def rows_of(out: Path, stage: str) -> dict[str, Any]:
    columns = schemas.columns_through(stage, vectors=stage != "predict")
    return {name: _plain(rows) for name, rows in tables.iter_recordings(out, columns)}


def ledger_of(out: Path) -> dict[str, Any]:
    return {name: {k: v for k, v in line.items() if k != "seconds"} for name, line in read_ledger(out).items()}


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in row.items()} for row in rows]


def leftovers(folder: Path) -> set[str]:
    """What lies in a folder of outputs beside tables and ledgers; a note of what was seen, for speed, may."""
    return {p.name for p in folder.iterdir() if p.name.startswith(".") and not p.name.endswith(".seen")}


class Case:
    """One stage, layout and scenario, in a `home` that is used for nothing else at the time.

    It is played in `home/now`: `corpus/`, the input table `in.parquet` of the stages after the first, and `out/` for the output.
    """

    def __init__(self, nursery: Nursery, home: Path, stage: str, layout: str, scenario: str) -> None:
        self.nursery, self._home, self.stage, self.layout, self.scenario = nursery, home, stage, layout, scenario
        self.now = home / "now"
        self.folder = self.now / "out"
        self.out = self.folder / layout.rstrip("/")
        self.options = SCENARIOS[scenario][2]
        before = SCENARIOS[scenario][0]
        self.base = home / "base" / stage / layout / ("first" if before is None else "again")
        if not self.base.exists():
            self.base.mkdir(parents=True)
            if before is not None:
                self._enter(before)
                self._must(self.command())
                shutil.copytree(self.folder, self.base, dirs_exist_ok=True)
        self.old = State() if before is None else state(self.base / self.out.name, stage)
        clean = home / "clean" / stage / layout / scenario
        if not clean.exists():
            self.enter()
            began = time.monotonic()
            run = self.start(watch=str(self.folder), log=str(self.now / "operations"))
            assert run.ended() == self.code, run.said
            (self.now / "seconds").write_text(str(time.monotonic() - began))
            shutil.copytree(self.now, clean)
        self.new = state(clean / "out" / self.out.name, stage)
        self.operations = (clean / "operations").read_text().splitlines()
        self.seconds = float((clean / "seconds").read_text())

    def command(self, *more: str) -> list[str]:
        """The command line of the stage in this case's layout."""
        source = "corpus" if self.stage == "transcribe" else "in.parquet"
        return [self.stage, source, "--out", f"out/{self.layout}", *options_of(self.stage, self._home / "models"), *more]

    def enter(self) -> None:
        """All is as it was before the run of this scenario."""
        self._enter(SCENARIOS[self.scenario][1])
        shutil.rmtree(self.folder)
        shutil.copytree(self.base, self.folder)

    def start(self, **more: Any) -> Run:
        """The run of this scenario; `more` as in `kit.nursery`."""
        return self.nursery.start(self.command(*self.options), self.now, self.now / "said", part=2, **more)

    def stopped(self, how: str, number: int, *names: str, **more: Any) -> Run:
        """The run, stopped at an operation on its output."""
        return self.start(watch=str(self.folder), at=[how, number, names], **more)

    def finish(self) -> list[str]:
        """The same command again: it ends as one that was never stopped, and leaves nothing beside its output.

        Returns the names of its operations.
        """
        log = self.now / "finishing"
        log.unlink(missing_ok=True)
        run = self.start(watch=str(self.folder), log=str(log))
        code = run.ended()
        assert code == self.code, f"{code}: {run.said}"
        self.is_new()
        return log.read_text().splitlines()

    def published(self) -> dict[str, bytes]:
        """The files of the table and the ledger."""
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*.parquet") if "/." not in str(p)}

    @property
    def code(self) -> int:
        """With which the run ends that is not stopped: some recordings fail."""
        return 3

    def is_new(self) -> None:
        found = state(self.out, self.stage)
        assert found.rows == self.new.rows
        assert found.ledger == self.new.ledger
        assert found.lineage == self.new.lineage
        assert not leftovers(self.folder)

    def readers_are_served(self) -> None:
        """Whoever reads now finds the old table or the new one; in a folder that is updated each recording's old or new rows."""
        if not self.out.exists() or not (self.out.is_file() or list(self.out.glob("*.parquet"))):
            assert not self.old.rows
            return
        rows = rows_of(self.out, self.stage)
        if self.out.is_file() or self.scenario in ("first", "redo"):
            assert rows in (self.old.rows, self.new.rows)
        for name, found in rows.items():
            assert found in (self.old.rows.get(name), self.new.rows.get(name))
        assert not self.old.rows.keys() & self.new.rows.keys() - rows.keys()
        assert ledger_of(self.out) in (self.old.ledger, self.new.ledger)

    def _enter(self, corpus: Corpus) -> None:
        shutil.rmtree(self.now, ignore_errors=True)
        self.folder.mkdir(parents=True)
        write_corpus(self.now / "corpus", corpus)
        if self.stage == "transcribe":
            return
        version = next(name for name, known in (("before", BEFORE), ("update", UPDATE), ("prune", PRUNED)) if known is corpus)
        made = self._home / "tables" / version
        if not made.exists():
            self._must(["transcribe", "corpus", "--out", "transcribe.parquet", *options_of("transcribe", self._home / "models")])
            for stage, last in zip(STAGES[1:-1], STAGES, strict=False):
                self._must([stage, f"{last}.parquet", "--out", f"{stage}.parquet", *options_of(stage, self._home / "models")])
            made.mkdir(parents=True)
            for path in self.now.glob("*.parquet"):
                path.rename(made / path.name)
        last = STAGES[STAGES.index(self.stage) - 1]
        for suffix in (".parquet", ".recordings.parquet"):
            shutil.copy(made / f"{last}{suffix}", self.now / f"in{suffix}")

    def _must(self, command: list[str]) -> None:
        run = self.nursery.start(command, self.now, self.now / "said")
        assert run.ended() in (0, 3), run.said
