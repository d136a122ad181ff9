"""Whether a failure is a recording's or the machine's, when several machines work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.store_rows import COLUMNS, LINEAGE, ledger_of
from msfser_cli.errors import ResourceError
from msfser_cli.runs.chain import Chain
from msfser_cli.runs.failures import IN_A_ROW, Failures
from msfser_cli.runs.source import Item
from msfser_cli.runs.task import Task
from msfser_cli.runs.turns import Turns
from msfser_cli.schemas import LedgerLine
from msfser_cli.stages.work import Recording, Work
from msfser_cli.store.ledger import is_unfinished, ledger_path
from msfser_cli.store.output import Output

CHAIN = Chain({}, {})


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    with Output.open(tmp_path / "x.parquet", COLUMNS, LINEAGE) as output:
        yield output


def task(folder: Path, number: int, worker: int, reason: str | None) -> Task:
    recording = Recording(f"{number:03d}.wav", folder / f"{number:03d}.wav")
    line = LedgerLine(recording.recording_id, "failed" if reason else "no_speech", reason, input_key=f"key{number}")
    return Task(Item(recording), line, Work(recording), worker=worker)


def test_a_worker_that_fails_everything_stops_the_run_though_others_succeed(output: Output, tmp_path: Path) -> None:
    failures, turns = Failures(0.2), Turns([Item(Recording(str(i), Path(str(i)))) for i in range(500)])
    tried = 0
    begun = iter(turns)
    while not failures.are_suspect(tried, tried, turns):
        next(begun)
        tried += 1
        broken = tried % 3 == 0
        failures.keep(task(tmp_path, tried, 2 if broken else 1, "backend_error" if broken else None), CHAIN, output)
        assert tried < 100
    assert tried >= 3 * IN_A_ROW
    with pytest.raises(ResourceError, match="recordings in a row failed"):
        failures.stop(output)
    states = {line["input_key"] for line in ledger_of(tmp_path / "x.parquet").values() if line["status"] == "failed"}
    assert states == {""}  # the next run tries them again
    assert is_unfinished(ledger_path(tmp_path / "x.parquet"))
    output.publish()
    assert not is_unfinished(ledger_path(tmp_path / "x.parquet"))


def test_a_worker_that_recovers_is_not_suspect(output: Output, tmp_path: Path) -> None:
    failures = Failures(0.2)
    for number in range(100):
        worker, reason = number % 2, "backend_error" if number % 2 and number % 9 else None
        failures.keep(task(tmp_path, number, worker, reason), CHAIN, output)
        assert not failures.are_suspect(number, number, Turns([]))
    assert not failures.are_suspect(100, 100)
    failures.settle_all(output)
    assert len(output.recordings) == 100


def test_what_is_missing_on_another_machine_alone_may_be_its_fault(output: Output, tmp_path: Path) -> None:
    failures = Failures(0.2)
    for number in range(IN_A_ROW + 5):
        gone = task(tmp_path, number, 3, "missing")
        Path(gone.item.recording.path).touch()
        failures.keep(gone, CHAIN, output)
    assert not output.recordings
    assert failures.are_suspect(IN_A_ROW + 5, IN_A_ROW + 5)
    (tmp_path / "000.wav").unlink()
    failures.keep(task(tmp_path, 0, 3, "missing"), CHAIN, output)  # gone, and others are there
    assert output.recordings == {"000.wav"}
