"""Night after night on a corpus that changes: everything is accounted for, and the table is that of a run that starts afresh."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import soundfile as sf

from kit.reporters import Watcher
from kit.sounds import speak, spoken
from msfser_cli.errors import REASONS, ResourceError
from msfser_cli.runs import chain, runner
from msfser_cli.runs.runner import Destination, Summary
from msfser_cli.runs.source import source_of
from msfser_cli.settings import build
from msfser_cli.store import seen
from msfser_cli.store.ledger import ledger_path

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("doubles")]


def ends_at(number: int) -> Watcher:
    """Breaks a run off at the recording of this number."""
    count = itertools.count(1)

    def at(name: str) -> None:
        if next(count) == number:
            raise ResourceError("the power is gone")

    return Watcher(at)


def run(corpus: Path, out: Path, night: Watcher | None = None, **more: Any) -> Summary:
    stages, source = source_of("transcribe", [str(corpus)], None)
    plan = chain.plan({stage: build(stage, {"transcriber": "double", "model": "whisper-base"}) for stage in stages})
    return runner.run(plan, source, Destination(str(out), max_failed=1, **more), night or Watcher())


def ledger(out: Path) -> dict[str, dict[str, Any]]:
    found = pl.read_parquet(ledger_path(out))
    assert found["recording_id"].is_unique().all()
    return {line["recording_id"]: line for line in found.iter_rows(named=True)}


def test_what_a_manifest_misses_is_news_once_and_is_done_when_it_is_there(tmp_path: Path) -> None:
    manifest, out = tmp_path / "m.csv", tmp_path / "u.parquet"
    manifest.write_text("path\na.wav\nb.wav\nc.wav\n")
    speak(tmp_path / "a.wav")
    (tmp_path / "b.wav").mkdir()
    assert run(manifest, out).failed == 2
    assert [line["reason"] for line in ledger(out).values()] == [None, "unreadable", "missing"]
    night = Watcher()
    assert (run(manifest, out, night).unchanged, night.news) == (3, [])
    assert run(manifest, out, retry_failed=True).failed == 2

    (tmp_path / "b.wav").rmdir()  # it failed for another reason, and does so now for this one
    night = Watcher()
    assert (run(manifest, out, night).failed, night.news) == (1, ["b.wav"])
    assert ledger(out)["b.wav"]["reason"] == "missing"
    for name in ("b.wav", "c.wav"):
        speak(tmp_path / name)
    summary = run(manifest, out)
    assert (summary.done, summary.unchanged, summary.published["failed"]) == (2, 1, 0)

    (tmp_path / "a.wav").unlink()
    assert run(manifest, out).failed == 1
    assert pl.read_parquet(out)["recording_id"].unique().sort().to_list() == ["b.wav", "c.wav"]


@pytest.fixture
def unprivileged(stoppable: int) -> Iterator[Path]:
    """A folder for a user whom modes of files stop."""
    with tempfile.TemporaryDirectory() as folder:
        user = os.geteuid()
        Path(folder).chmod(0o777)
        (Path(folder) / "before").mkdir()
        speak(Path(folder) / "before" / "a.wav")
        run(Path(folder) / "before", Path(folder) / "before.parquet")  # what is loaded once, while it may be read
        os.seteuid(stoppable)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_what_may_not_be_read_is_in_the_ledger_until_it_may(unprivileged: Path) -> None:
    """A file, and a folder that may not be listed; nothing in it counts as gone."""
    corpus, out = unprivileged / "corpus", unprivileged / "u.parquet"
    (corpus / "sub").mkdir(parents=True)
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        speak(corpus / name)
    assert run(corpus, out).done == 3
    (corpus / "sub").chmod(0)
    (corpus / "b.wav").chmod(0)
    summary = run(corpus, out, prune=True)
    assert (summary.recordings, summary.failed, summary.unchanged, summary.gone) == (3, 2, 1, 0)
    found = {name: (line["status"], line["reason"], line["detail"]) for name, line in ledger(out).items()}
    unreadable = ("failed", "unreadable", "msfser cannot open it (Permission denied)")
    assert found == {
        "a.wav": ("done", None, None), "b.wav": unreadable, "sub": unreadable, "sub/c.wav": ("done", None, None),
    }  # fmt: skip
    assert run(corpus, out).failed == 0
    (corpus / "sub").chmod(0o755)
    (corpus / "b.wav").chmod(0o644)
    summary = run(corpus, out)
    assert (summary.recordings, summary.done, summary.unchanged, summary.gone) == (3, 1, 2, 1)
    published = run(corpus, out, prune=True).published
    assert published == {"recordings": 3, "done": 3, "no_speech": 0, "failed": 0, "incomplete": 0, "utterances": 3}
    corpus.chmod(0)
    with pytest.raises(ResourceError, match="corpus: cannot be listed"):
        run(corpus, out)


class Corpus:
    """Recordings of all kinds that come, change and go: in a folder, or named by a manifest whether they are there or not."""

    NAMES = ("a.wav", "b.wav", "deep/c.wav", "deep/d.wav", "e.mp3", "f.wav")

    def __init__(self, home: Path, chance: random.Random) -> None:
        self._home, self._chance = home, chance
        home.mkdir(parents=True)
        self.given = home
        if chance.random() < 0.5:
            self.given = home.with_name("manifest.csv")
            self.given.write_text("path\n" + "".join(f"{home.name}/{name}\n" for name in self.NAMES))
        for name in self.NAMES:
            self._write(home / name)

    def _write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True, parents=True)
        if path.is_dir():
            path.rmdir()
        kind = self._chance.choice(["speech"] * 4 + ["silence", "backend_error", "page", "empty", "folder"])
        if kind == "page":
            path.write_text(f"<html>{self._chance.random()}</html>")
        elif kind == "empty":
            path.write_text("")
        elif kind == "folder":
            path.unlink(missing_ok=True)
            path.mkdir()
        else:
            level = {"speech": self._chance.uniform(0.1, 0.4), "silence": 0.0, "backend_error": 0.5}[kind]
            with path.open("wb") as file:
                sf.write(file, spoken(self._chance.randint(1, 2), level), 16_000, subtype="FLOAT", format="WAV")

    def edit(self) -> None:
        """One file is written, touched, removed, renamed or copied; its time of modification is as it was, or not."""
        time.sleep(0.02)  # a few ticks of the clock that files go by
        path = self._home / self._chance.choice(self.NAMES)
        other = self._home / self._chance.choice(self.NAMES)
        before = path.stat() if path.is_file() else None
        what = self._chance.choice(("write", "write", "remove", "rename", "copy", "touch"))
        if what == "write" or before is None:
            self._write(path)
        elif what == "remove" and len([p for p in self._home.rglob("*") if p.is_file()]) > 1:
            path.unlink()
        elif what == "rename" and not other.is_dir():
            path.replace(other)
        elif what == "copy" and not other.is_dir() and other != path:
            shutil.copy2(path, other)
        if before and path.is_file() and self._chance.random() < 0.7:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def is_accounted_for(out: Path, summary: Summary, night: Watcher) -> None:
    assert summary.done + summary.no_speech + summary.failed + summary.unchanged == summary.recordings == len(night.names)
    assert len(set(night.names)) == len(night.names)
    assert len(night.news) == summary.recordings - summary.unchanged
    lines, table = ledger(out), pl.read_parquet(out)
    assert set(night.names) <= set(lines)
    assert len(lines) == summary.recordings + (0 if summary.pruned else summary.gone)
    rows = dict(table.group_by("recording_id").len().iter_rows())
    for name, line in lines.items():
        assert (line["status"] == "failed") == (line["reason"] in REASONS) == (line["detail"] is not None)
        assert (line["status"] == "done") == (line["utterances"] > 0)
        assert line["utterances"] == rows.pop(name, 0)
    assert not rows
    statuses = [line["status"] for line in lines.values()]
    counts = {status: statuses.count(status) for status in ("done", "no_speech", "failed")}
    assert summary.published == {"recordings": len(lines), **counts, "incomplete": 0, "utterances": len(table)}


def without_seconds(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in ledger(out).values()]


def test_after_any_nights_the_table_is_that_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Callable[[str, int], Iterator[int]]
) -> None:
    now = time.time_ns
    monkeypatch.setattr(seen, "KEEP_CHANGE_TIMES", {seen._file_system(os.path.realpath(tmp_path))})
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)  # what was seen an hour ago is believed
    for seed in trials("corpora over several nights", 10):
        home, chance = tmp_path / str(seed), random.Random(seed)
        corpus = Corpus(home / "corpus", chance)
        out = home / ("x" if chance.random() < 0.3 else "x.parquet")
        if out.suffix == "":
            out.mkdir()
        for last in (False, False, False, True):
            while not last and chance.random() < 0.4:
                with pytest.raises(ResourceError, match="the power"):
                    run(corpus.given, out, ends_at(1))
                corpus.edit()
            night = Watcher()
            more = {"retry_failed": chance.random() < 0.3, "redo": chance.random() < 0.1}
            is_accounted_for(out, run(corpus.given, out, night, prune=last or chance.random() < 0.3, **more), night)
            before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (out, ledger_path(out))}
            assert run(corpus.given, out).unchanged == len(night.names)
            assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in before} == before
            for _ in range(0 if last else chance.randint(1, 4)):
                corpus.edit()
        clean = home / "clean.parquet"
        run(corpus.given, clean)
        one, other = (pl.read_parquet(path).sort("utterance_id") for path in (out, clean))
        assert one.equals(other), seed
        assert without_seconds(out) == without_seconds(clean), seed
        shutil.rmtree(home)
