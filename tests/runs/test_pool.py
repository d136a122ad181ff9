"""Handing recordings out to workers that finish in any order, and die."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msfser_cli import processors
from msfser_cli.errors import ModelError, RecordingError, ResourceError, UsageError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.engines import pool, processes
from msfser_cli.runs.engines.pool import DEATHS, HANDFULS, Died, Event, Pool
from msfser_cli.runs.engines.worker import Loaded, Started
from msfser_cli.runs.engines.workforce import Workforce
from msfser_cli.runs.source import Item
from msfser_cli.runs.task import Task
from msfser_cli.schemas import LedgerLine
from msfser_cli.settings import DescribeSettings
from msfser_cli.stages.work import Recording, Work

pytestmark = pytest.mark.quick


class Workers:
    """A crew that works in no time. `mood` says how many recordings a worker finishes before it tells; deadly ones kill it."""

    def __init__(self, chance: random.Random | None = None, deadly: frozenset[str] = frozenset(), mortality: float = 0.0) -> None:
        self.chance = chance or random.Random(0)
        self.deadly, self.mortality = deadly, mortality
        self.in_hand: dict[int, list[list[Task]]] = {}
        self.handfuls: list[list[str]] = []
        self.expected: list[int] = []
        self.tried: Counter[str] = Counter()
        self.ended = False
        self._fresh: set[int] = set()
        self.starting: set[int] = set()

    def start(self, workers: int) -> int:
        self.expected.append(workers)
        number = len(self.expected)
        self.in_hand[number] = []
        self._fresh.add(number)
        self.starting.add(number)
        return number

    def give(self, worker: int, tasks: list[Task]) -> None:
        assert worker not in self.starting
        self.in_hand[worker].append(list(tasks))
        self.handfuls.append([task.line.recording_id for task in tasks])
        assert len(self.in_hand[worker]) <= HANDFULS
        assert [task.ends_batch for task in tasks] == [False] * (len(tasks) - 1) + [True]
        self.tried.update(self.handfuls[-1])

    def events(self) -> Iterator[tuple[int, Event]]:
        busy = [number for number, handfuls in self.in_hand.items() if handfuls or number in self.starting]
        assert busy
        number = self.chance.choice(busy)
        if number in self.starting:
            self.starting.remove(number)
            yield number, Started("here")
            return
        if number in self._fresh:
            self._fresh.remove(number)
            yield number, Loaded()
        handful = self.in_hand[number][0]
        for _ in range(self.chance.randint(0, len(handful))):
            task = handful[0]
            if task.line.recording_id in self.deadly or self.chance.random() < self.mortality:
                del self.in_hand[number]
                yield number, Died("killed by SIGKILL")
                return
            handful.pop(0)
            if not handful:
                self.in_hand[number].pop(0)
            yield number, [replace(task.finished(), line=replace(task.line, utterances=1))]

    def end(self) -> None:
        self.ended = True


def tasks(names: list[str], size: Callable[[int], int] = lambda i: 0, folder: Path | None = None) -> list[Task]:
    made = []
    for i, name in enumerate(names):
        path = (folder or Path("nowhere")) / name
        if folder:
            path.write_bytes(bytes(size(i)))
        made.append(Task(Item(Recording(name, path)), LedgerLine(name), Work(Recording(name, path))))
    return made


def names(count: int) -> list[str]:
    return [f"{i:03d}" for i in range(count)]


def test_each_recording_comes_back_once_whoever_dies(trials: Callable[[str, int], Iterator[int]]) -> None:
    for seed in trials("recordings handed out to workers that die", 300):
        chance = random.Random(seed)
        deadly = frozenset(chance.sample(names(60), chance.choice((0, 0, 1, 3))))
        crew = Workers(chance, deadly, chance.choice((0.0, 0.0, 0.05, 0.3)))
        todo = tasks(names(chance.choice((1, 2, 7, 60))))
        done = {task.line.recording_id: task for task in Pool(crew, chance.choice((1, 2, 5))).annotated(todo)}
        assert sorted(done) == [task.line.recording_id for task in todo], seed
        for name, task in done.items():
            failed = isinstance(task.work.error, RecordingError)
            assert failed == (task.line.reason == "worker_died")
            assert not failed or task.is_identified
            assert failed or task.line.utterances == 1
            assert not failed or crew.tried[name] >= DEATHS, seed
            assert failed if name in deadly else crew.mortality > 0 or not failed, seed
        assert crew.ended


def test_who_kills_its_worker_does_not_take_its_neighbours_along() -> None:
    crew = Workers(deadly=frozenset(["003"]))
    done = {task.line.recording_id: task for task in Pool(crew, 2).annotated(tasks(names(40)))}
    error = done.pop("003").work.error
    assert error
    assert error.reason == "worker_died"
    assert error.detail.startswith("3 worker processes ended while they had the recording in hand, the last alone with it (")
    assert not any(task.work.error for task in done.values())
    assert crew.handfuls.count(["003"]) == DEATHS - 1


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 8, [1]), (3, 8, [3, 3, 3]), (200, 2, [2, 2])])
def test_there_are_no_more_workers_than_recordings(count: int, most: int, expected: list[int]) -> None:
    """So that a single episode has the whole machine."""
    crew = Workers()
    list(Pool(crew, most).annotated(tasks(names(count))))
    assert crew.expected == expected


def test_handfuls_are_smaller_near_the_end_and_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HANDFUL_BYTES", 100)
    crew = Workers()
    list(Pool(crew, 2).annotated(tasks(names(100), lambda i: 1, tmp_path)))
    sizes = [len(handful) for handful in crew.handfuls]
    assert (max(sizes), sizes[-2:]) == (16, [1, 1])
    assert sizes[4:] == sorted(sizes[4:], reverse=True)
    crew = Workers()
    list(Pool(crew, 2).annotated(tasks(names(30), lambda i: 90, tmp_path)))
    assert {len(handful) for handful in crew.handfuls} == {1}


def test_what_needs_no_worker_goes_to_none() -> None:
    todo = tasks(names(3))
    todo[0].line.input_key, todo[0].unchanged = "key", True
    todo[1].line.input_key, todo[1].work.error = "missing", RecordingError("missing", "the file does not exist")
    todo[2].line.input_key, todo[2].item = "key", Item(todo[2].item.recording, [], LedgerLine("002", "no_speech", note="quiet"))
    crew = Workers()
    done = list(Pool(crew, 2).annotated(todo))
    assert [(task.line.status, task.line.reason) for task in done] == [("done", None), ("failed", "missing"), ("no_speech", None)]
    assert crew.expected == []


@pytest.mark.parametrize("count", [1, 3, 200])
def test_a_worker_that_never_starts_keeps_nothing_back(count: int) -> None:
    """As on a full cluster: the others do everything."""

    class Full(Workers):
        def start(self, workers: int) -> int:
            number = super().start(workers)
            if number > 1:
                self.starting.remove(number)
            return number

    crew = Full()
    assert len(list(Pool(crew, 3).annotated(tasks(names(count))))) == count
    assert len(crew.expected) == min(3, count)
    assert not any(crew.in_hand[number] for number in crew.in_hand if number > 1)


def test_the_last_recordings_wait_for_workers_that_are_starting() -> None:
    class Slow(Workers):
        def events(self) -> Iterator[tuple[int, Event]]:
            if self.starting:
                number = min(self.starting)
                self.starting.remove(number)
                yield number, Started("here")
            else:
                yield from super().events()

    crew = Slow()
    list(Pool(crew, 8).annotated(tasks(names(3))))
    assert crew.handfuls == [["000"], ["001"], ["002"]]
    assert sorted(crew.in_hand) == [1, 2, 3]


def test_workers_that_die_while_they_load_stop_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Short(Workers):
        def events(self) -> Iterator[tuple[int, Event]]:
            number = min(self.in_hand)
            del self.in_hand[number]
            yield number, Died("killed by SIGKILL")

    crew = Short()
    with pytest.raises(ResourceError, match=r"3 worker processes in a row .* killed by SIGKILL.* use fewer with --jobs"):
        list(Pool(crew, 1).annotated(tasks(names(5))))
    assert crew.ended
    assert [record.message for record in caplog.records] == [
        "a worker process ended while it loaded the models (killed by SIGKILL); msfser starts another"] * 2


def test_workers_for_which_there_is_no_room_leave_the_work_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Short(Workers):
        def events(self) -> Iterator[tuple[int, Event]]:
            late = [number for number in self.in_hand if number > 1 and number not in self.starting]
            if late:
                del self.in_hand[late[0]]
                yield late[0], Died("killed by SIGKILL")
            else:
                yield from super().events()

    crew = Short()
    done = list(Pool(crew, 2).annotated(tasks(names(200))))
    assert sorted(task.line.recording_id for task in done) == names(200)
    assert not any(task.work.error for task in done)
    assert len(crew.expected) == 1 + DEATHS
    assert caplog.records[-1].message == (
        "3 worker processes ended while they loaded the models, the last killed by SIGKILL; msfser goes on with 1 workers")


def test_idle_workers_that_are_lost_are_not_missed() -> None:
    """As with a node of a cluster, on which all workers were waiting."""

    class Lost(Workers):
        def events(self) -> Iterator[tuple[int, Event]]:
            idle = [number for number, handfuls in self.in_hand.items() if not handfuls and number not in self.starting]
            if idle and len(self.expected) < 20:
                del self.in_hand[idle[0]]
                yield idle[0], Died("its node was lost")
            else:
                yield from super().events()

    crew = Lost()
    assert len(list(Pool(crew, 3).annotated(tasks(names(50))))) == 50


def test_many_rows_of_a_table_are_not_taken_ahead() -> None:
    todo = tasks(names(100))
    for task in todo:
        task.item = replace(task.item, rows=[{}] * 1000)
    taken = 0

    def counted() -> Iterator[Task]:
        nonlocal taken
        for task in todo:
            taken += 1
            yield task

    for number, _ in enumerate(Pool(Workers(), 2).annotated(counted())):
        assert taken - number <= 9 + 2 * HANDFULS * 4  # 8,192 rows taken ahead, and what is in hand


def test_an_error_that_no_recording_is_to_blame_for_ends_the_run() -> None:
    class Wrong(Workers):
        def events(self) -> Iterator[tuple[int, Event]]:
            yield min(self.in_hand), ModelError("no such model")

    crew = Wrong()
    with pytest.raises(ModelError, match="no such model"):
        list(Pool(crew, 3).annotated(tasks(names(5))))
    assert crew.ended


@pytest.mark.parametrize(("cores", "threads", "memory", "gpu", "expected"), [
    (16, 16, 64 << 30, False, 16),
    (16, 16, 5 << 30, False, 5),
    (16, 4, 64 << 30, False, 4),
    (16, 16, None, False, 16),
    (1, 1, 0, False, 1),
    (16, 16, 64 << 30, True, 1),
])  # fmt: skip
def test_as_many_workers_as_serve_the_machine(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, memory: int | None, gpu: bool, expected: int
) -> None:
    monkeypatch.setattr(processors, "available", lambda: cores)
    monkeypatch.setattr(processors, "threads", lambda: threads)
    monkeypatch.setattr(processors, "free_memory", lambda: memory)
    monkeypatch.setattr(processors, "has_gpu", lambda: gpu)
    assert processes.most(Chain({}, {})) == expected


def test_workers_together_ask_a_server_as_often_as_one_would() -> None:
    settings = DescribeSettings(describer="openai:http://localhost", describer_concurrency=8)
    chain = Chain({"describe": settings}, {})
    shares = [chain.shared_by(n).settings["describe"] for n in (1, 3, 20)]
    assert [share.describer_concurrency for share in shares if isinstance(share, DescribeSettings)] == [8, 2, 1]
    assert Chain({}, {}).shared_by(3) == Chain({}, {})


@pytest.mark.parametrize(("words", "why"), [
    ({"kind": "slurm"}, "engine must be one of local, ray, not 'slurm'"),
    ({"ray_address": "a:1"}, "need --engine ray"),
    ({"gpus": 0.5}, "need --engine ray"),
    ({"kind": "ray", "jobs": 0}, "needs workers"),
])  # fmt: skip
def test_a_workforce_that_makes_no_sense_is_refused(words: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Workforce(**words)
