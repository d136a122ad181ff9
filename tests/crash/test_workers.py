"""Worker processes: the same table as without them, whoever is killed, and nobody outlives the run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.crash_runs import LAYOUTS, ledger_of, leftovers, rows_of
from kit.program import AFRESH, Done, is_alive, run_afresh, wait_for
from kit.sounds import hum, speak
from msfser_cli.store.ledger import ledger_path

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("doubles")]

Trials = Callable[[str, int], Iterator[int]]
FAILS, STRAINS, KILLS, SLEEPS = 0.5, 0.25, 0.6, 0.7
"""The levels by which the double is told what to do."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of recordings: most speak, one is silent, one is junk, and on one the recogniser fails."""
    folder = tmp_path_factory.mktemp("workers") / "corpus"
    (folder / "more").mkdir(parents=True)
    for i in range(24):
        hum(folder / ("more" if i % 2 else ".") / f"{i:02d}.wav", 1 + i % 5, 0.1 + i / 1000)
    hum(folder / "silent.wav", 2, 0)
    (folder / "page.mp3").write_text("<html>not here</html>")
    speak(folder / "more" / "fails.wav", level=FAILS)
    return folder


@pytest.fixture
def home(corpus: Path, tmp_path: Path) -> Path:
    shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "model").mkdir()
    return tmp_path


def command(out: str, jobs: int, *more: str) -> list[str]:
    return ["transcribe", "corpus", "--transcriber", "double", "--model", "model", "--out", out, "--jobs", str(jobs), *more]


def msfser(home: Path, out: str, jobs: int, *more: str, code: int | None = 3) -> Done:
    return run_afresh(home, *command(out, jobs, *more), code=code, OMP_NUM_THREADS="1")


@contextlib.contextmanager
def started(home: Path, out: str, jobs: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A run in a process group of its own, with its workers."""
    with subprocess.Popen([*AFRESH, *command(out, jobs, *more)], cwd=home, env={**os.environ, "OMP_NUM_THREADS": "1"},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        yield run
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def workers_of(run: subprocess.Popen[str]) -> list[int]:
    with contextlib.suppress(OSError):
        return list(map(int, Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()))
    return []


@pytest.mark.one_in(2)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_is_the_same_for_any_number_of_workers(home: Path, layout: str) -> None:
    outs = []
    for jobs in (0, 1, 2, 4):
        folder = f"jobs{jobs}"
        (home / folder).mkdir()
        done = msfser(home, f"{folder}/{layout}", jobs)
        assert "27 recordings: 24 done" in done.stderr
        outs.append(home / folder / layout.rstrip("/"))
    first, *others = outs
    for out in others:
        files = sorted(p.relative_to(out.parent) for p in (out.rglob("*") if out.is_dir() else [out]))
        assert all((out.parent / name).read_bytes() == (first.parent / name).read_bytes() for name in files)
        assert ledger_of(out) == ledger_of(first)
        assert not leftovers(out.parent)
    assert msfser(home, f"jobs4/{layout}", 4).stderr.count("27 unchanged") == 1


def test_workers_are_killed_at_any_moment(home: Path, trials: Trials) -> None:
    msfser(home, "clean.parquet", 0)
    rows, ledger = rows_of(home / "clean.parquet", "transcribe"), ledger_of(home / "clean.parquet")
    for seed in trials("workers killed", 10):
        chance = random.Random(seed)
        out = f"{seed}.parquet"
        with started(home, out, chance.choice((1, 2, 3))) as run:
            for _ in range(chance.choice((1, 1, 2))):
                wait_for(lambda: workers_of(run) or run.poll() is not None)
                time.sleep(chance.uniform(0.0, 1.5))
                for worker in chance.sample(found := workers_of(run), min(1, len(found))):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
            _, said = run.communicate(timeout=120)
        assert run.returncode == 3, said
        assert (rows_of(home / out, "transcribe"), ledger_of(home / out)) == (rows, ledger), seed
        assert not leftovers(home)


@pytest.mark.slow
def test_no_worker_outlives_a_run_that_is_killed(home: Path, trials: Trials) -> None:
    msfser(home, "clean.parquet", 0)
    clean = (home / "clean.parquet").read_bytes()
    for seed in trials("runs with workers killed", 10):
        chance = random.Random(seed)
        out = f"{seed}.parquet"
        with started(home, out, 2) as run:
            wait_for(lambda: len(workers_of(run)) == 2)
            workers = workers_of(run)
            time.sleep(chance.uniform(0.0, 3.0))
            run.kill()
            run.wait()
            wait_for(lambda: not any(map(is_alive, workers)), 10.0)  # noqa: B023 - it is called at once
        msfser(home, out, 2)
        assert (home / out).read_bytes() == clean, seed
        assert not leftovers(home)


def test_a_recording_that_ends_its_workers_fails_alone(home: Path) -> None:
    speak(home / "corpus" / "kills.wav", level=KILLS)
    done = msfser(home, "x.parquet", 2)
    ledger = ledger_of(home / "x.parquet")
    assert ledger["kills.wav"]["reason"] == "worker_died"
    assert ledger["kills.wav"]["detail"].startswith("3 worker processes ended while they had the recording in hand")
    assert sum(line["status"] == "failed" for line in ledger.values()) == 3
    assert done.stderr.count("with kills.wav in hand; msfser tries again") == 2
    assert "failed: kills.wav: worker_died" in done.stderr
    again = msfser(home, "x.parquet", 2)
    assert "28 unchanged" in again.stderr
    assert "a worker process ended" not in again.stderr


@pytest.mark.slow
def test_a_shortage_on_one_recording_stops_the_first_run_and_not_the_second(home: Path) -> None:
    """As without workers."""
    speak(home / "corpus" / "strains.wav", level=STRAINS)
    assert "strains.wav: CUDA out of memory" in msfser(home, "x.parquet", 2, code=7).stderr.replace("not enough memory (", "")
    msfser(home, "x.parquet", 2)
    assert ledger_of(home / "x.parquet")["strains.wav"]["reason"] == "out_of_memory"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_ends_the_run_in_a_sentence(home: Path, number: signal.Signals) -> None:
    """As a terminal and a service manager send it."""
    speak(home / "corpus" / "zz.wav", level=SLEEPS)
    with started(home, "x.parquet", 2) as run:
        wait_for((home / "asleep").exists)
        workers = workers_of(run)
        os.killpg(run.pid, number)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert said.splitlines()[-1] == (f"msfser: stopped by {number.name}; finished work is kept, and the same command continues "
                                     "from there")  # fmt: skip
    wait_for(lambda: not any(map(is_alive, workers)), 10.0)
    (home / "corpus" / "zz.wav").unlink()
    msfser(home, "x.parquet", 0)
    assert len(ledger_of(home / "x.parquet")) == 27


@pytest.mark.slow
def test_a_second_run_is_told_who_is_the_first(home: Path) -> None:
    speak(home / "corpus" / "zz.wav", level=SLEEPS)
    with started(home, "x.parquet", 2) as run:
        wait_for((home / "asleep").exists)
        other = msfser(home, "x.parquet", 2, code=6)
        assert f"process {run.pid} on " in other.stderr


def test_workers_log_through_the_run(home: Path) -> None:
    """A warning that each of them gives is said once, in the form that was asked for."""
    (home / "model" / "warns").touch()
    done = msfser(home, "x.parquet", 2, "--log-format", "json", code=3)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["message"] for e in events if e["event"] == "warning"] == ["the double warns"]
    assert [e["message"] for e in events if e["event"] == "library"] == ["the double prints"] * 2
    assert not done.stdout
    assert ledger_path(home / "x.parquet").exists()
