"""Recordings in batches: their rows are those that each would have alone, and only the one to blame fails."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kit.reporters import Watcher
from kit.sounds import write_wav
from msfser_cli.backends import whisper_ct2
from msfser_cli.errors import RecordingError
from msfser_cli.runs import ahead, chain, runner
from msfser_cli.runs.annotate import run_steps
from msfser_cli.runs.runner import Destination
from msfser_cli.runs.source import Item, source_of
from msfser_cli.runs.task import Task
from msfser_cli.schemas import LedgerLine
from msfser_cli.settings import build
from msfser_cli.stages.work import Recording, Work
from msfser_cli.store.audio import Audio, decode
from msfser_cli.store.ledger import read_ledger

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart" / "corpus"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, parts of an episode, and a long recording in two languages."""
    folder = tmp_path_factory.mktemp("corpus")
    episode, german = (decode(QUICKSTART / name).samples[:] for name in ("episode.mp3", "clips/morgen.m4a"))
    clips = {f"clip{i:02d}": episode[16_000 * 3 * i : 16_000 * (3 * i + 5)] for i in range(9)}
    clips |= {"german": german, "silence": np.zeros(32_000, np.float32)}
    clips["both"] = np.concatenate([german, np.zeros(24_000, np.float32), episode[: 16_000 * 35]])
    for name, samples in clips.items():
        write_wav(folder / f"{name}.wav", samples)
    return folder


@pytest.fixture(scope="module")
def planned() -> chain.Chain:
    return chain.plan({stage: build(stage, {}) for stage in ("transcribe", "emphasize", "describe", "embed", "predict")})


@pytest.mark.slow
@pytest.mark.model
def test_the_table_is_the_same_whatever_is_computed_together(
    corpus: Path, planned: chain.Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = source_of("predict", [str(corpus)], None)
    tables, ledgers = set(), []
    for name, recordings, windows, order in (("one", 1, 1, 1), ("few", 3, 2, -1), ("many", 64, 8, 1), ("all", 64, 64, -1)):
        monkeypatch.setattr(ahead, "RECORDINGS", recordings)
        monkeypatch.setattr(whisper_ct2, "ENCODED", windows)
        monkeypatch.setattr(whisper_ct2, "DECODED", windows)
        whisper_ct2.load_whisper.cache_clear()
        out = tmp_path / f"{name}.parquet"
        items: Sequence[Item] = list(source.items)[::order]
        runner.run(planned, replace(source, items=items), Destination(str(out)), Watcher())
        tables.add(out.read_bytes())
        ledgers.append([{**line, "seconds": None} for line in read_ledger(out).values()])
    assert len(tables) == 1
    assert all(ledger == ledgers[0] for ledger in ledgers)


def works(count: int) -> list[Work]:
    return [Work(Recording(str(i), Path(str(i))), Audio(np.zeros(16_000, np.float32))) for i in range(count)]


@pytest.mark.parametrize("blamed", [0, 2, 4])
def test_only_the_recording_to_blame_fails(planned: chain.Chain, blamed: int) -> None:
    tried: list[list[str]] = []

    def step(given: Sequence[Work]) -> None:
        tried.append([work.recording.recording_id for work in given])
        for work in given:
            work.rows = []
            if work.recording.recording_id == str(blamed):
                raise RuntimeError("this one")

    batch = works(5)
    run_steps(batch, chain.Chain({"transcribe": planned.settings["transcribe"]}, {}), [step], lambda: None)
    assert [i for i, work in enumerate(batch) if work.error] == [blamed]
    assert batch[blamed].error.reason == "backend_error"  # type: ignore[union-attr]
    assert tried == [["0", "1", "2", "3", "4"], *([str(i)] for i in range(5))]


def test_what_a_signal_broke_is_not_tried_again(planned: chain.Chain) -> None:
    tried = []

    def step(given: Sequence[Work]) -> None:
        tried.append(len(given))
        raise RuntimeError("a library's own error, made of the signal's")

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_steps(works(5), chain.Chain({"transcribe": planned.settings["transcribe"]}, {}), [step], stopped)
    assert tried == [5]


def prepared(seconds: Sequence[float | None]) -> list[Task]:
    """Tasks of these lengths; None: one that cannot be read."""
    made = []
    for i, length in enumerate(seconds):
        work = Work(Recording(str(i), Path(str(i))), Audio(np.zeros(round(16_000 * (length or 0)), np.float32)))
        if length is None:
            work.error = RecordingError("empty", "")
        made.append(Task(Item(work.recording), LedgerLine(str(i)), work))
    return made


@pytest.mark.parametrize(("lengths", "sizes"), [
    ([1.0] * 7, [3, 3, 1]),
    ([4.0, 4.0, 4.0, 11.0, 1.0], [2, 1, 1, 1]),
    ([1.0, None, 1.0, 1.0], [2, 2]),
    ([], []),
])  # fmt: skip
def test_a_batch_has_so_many_recordings_and_seconds(
    monkeypatch: pytest.MonkeyPatch, lengths: list[float | None], sizes: list[int]
) -> None:
    monkeypatch.setattr(ahead, "RECORDINGS", 3)
    monkeypatch.setattr(ahead, "SECONDS", 10.0)
    tasks = prepared(lengths)
    for one in tasks[::2]:
        one.unchanged = True  # it waits in memory all the same
    batches = list(ahead.batches(tasks))
    assert [len(batch) for batch in batches] == sizes
    assert [one for batch in batches for one in batch] == tasks
    assert all(one is other for one, other in zip(ahead.ahead(tasks, lambda task: task), tasks, strict=True))


def test_a_long_recording_is_a_batch_before_the_next_one_is_asked_for() -> None:
    asked = []

    def one_by_one() -> Iterator[Task]:
        for task in prepared([ahead.SECONDS, 1.0]):
            asked.append(task)
            yield task

    next(ahead.batches(one_by_one()))
    assert len(asked) == 1


def test_an_error_in_the_thread_that_prepares_reaches_the_run() -> None:
    def prepare(task: Task) -> Task:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(ahead.ahead(prepared([1.0]), prepare))


def test_several_threads_prepare_at_once_and_keep_the_order(trials: Callable[[str, int], Iterator[int]]) -> None:
    for seed in trials("recordings prepared by several threads", 20):
        chance = random.Random(seed)
        tasks, threads = prepared([1.0] * chance.choice((0, 1, 5, 40))), chance.choice((1, 2, 5))
        fails = chance.choice((None, None, 0, 3))
        waits, at_once, most = [chance.choice((0.0, 0.0, 0.002)) for _ in tasks], [], []

        def prepare(task: Task, waits: list[float] = waits, at_once: list[int] = at_once, most: list[int] = most,
                    fails: int | None = fails) -> Task:  # fmt: skip
            number = int(task.line.recording_id)
            at_once.append(number)
            most.append(len(at_once))
            time.sleep(waits[number])
            at_once.remove(number)
            if number == fails:
                raise ValueError(str(number))
            return task

        done: list[Task] = []
        expected = len(tasks) if fails is None else min(fails, len(tasks))
        with pytest.raises(ValueError, match=f"^{fails}$") if expected < len(tasks) else contextlib.nullcontext():
            done.extend(ahead.ahead(tasks, prepare, threads))
        assert len(done) == expected
        assert all(one is other for one, other in zip(done, tasks, strict=False))
        assert max(most, default=0) <= threads


def test_a_table_that_cannot_be_read_on_reaches_the_run_after_what_came_before() -> None:
    def tasks() -> Iterator[Task]:
        yield from prepared([1.0, 1.0])
        raise OSError("gone")

    found = ahead.ahead(tasks(), lambda task: task, 3)
    assert [next(found).line.recording_id, next(found).line.recording_id] == ["0", "1"]
    with pytest.raises(OSError, match="gone"):
        next(found)
