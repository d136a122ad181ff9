"""Runs at the same time: one writes an output at a time, the others say who does, and readers see one table or the other."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.crash_runs import LAYOUTS, SCENARIOS, STAGES, Case, ledger_of, leftovers, rows_of
from kit.program import Run

Cases = Callable[[str, str, str], Case]
Trials = Callable[[str, int], Iterator[int]]


def another(case: Case, *more: str, **requests: object) -> Run:
    """The same command, beside the first."""
    return case.nursery.start(case.command(*case.options, *more), case.now, case.now / "said-too", part=2, **requests)


def some_case(case: Cases, seed: int) -> tuple[Case, random.Random]:
    chance = random.Random(seed)
    return case(chance.choice(STAGES), chance.choice(LAYOUTS), chance.choice(list(SCENARIOS))), chance


def held(case: Case, chance: random.Random) -> Run:
    """A run that is paused somewhere while it holds the output."""
    first = case.operations.index("write .x.parquet.lock") + 2
    run = case.stopped("pause", chance.randint(first, len(case.operations)))
    assert run.pauses()
    return run


@pytest.mark.slow
def test_the_second_of_two_says_who_is_the_first(case: Cases, trials: Trials) -> None:
    for seed in trials("two runs at once, one paused", 8):
        c, chance = some_case(case, seed)
        holder = held(c, chance)
        other = another(c)
        assert other.ended() == 6
        assert f"process {holder.pid} on " in other.said
        assert f"msfser {c.stage}" in other.said
        late = another(c, "--wait", "0.1")
        assert late.ended() == 6
        holder.goes_on()
        assert holder.ended() == c.code, holder.said
        c.is_new()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_who_waits_goes_on_when_the_holder(case: Cases, trials: Trials, end: str) -> None:
    for seed in trials("two runs at once, one waiting", 3):
        c, chance = some_case(case, seed)
        holder = held(c, chance)
        other = another(c, "--wait", "3600", watch=str(c.folder), at=["pause", 2, ["lock .x.parquet.lock"]])
        assert other.pauses()  # it has asked once
        if end == "ends":
            holder.goes_on()
            assert holder.ended() == c.code, holder.said
        else:
            holder.signal(signal.SIGKILL)
            assert holder.ended() == -signal.SIGKILL
        other.goes_on()
        assert other.ended() == c.code, other.said
        c.is_new()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_waits_hears_a_signal(case: Cases, number: signal.Signals) -> None:
    c = case("transcribe", "x.parquet", "update")
    holder = held(c, random.Random(0))
    other = another(c, "--wait", "3600", watch=str(c.folder), at=["pause", 2, ["lock .x.parquet.lock"]])
    assert other.pauses()
    other.signal(number)
    other.goes_on()
    assert other.ended() in (128 + number, -number), other.said
    holder.goes_on()
    assert holder.ended() == c.code
    c.is_new()


def test_two_outputs_in_one_folder_are_strangers(case: Cases, trials: Trials) -> None:
    for seed in trials("two outputs in one folder at once", 4):
        c, chance = some_case(case, seed)
        holder = held(c, chance)
        beside = [f"out/y{suffix}" if part == f"out/{c.layout}" else part for part in c.command() for suffix in (c.layout[1:],)]
        other = c.nursery.start(beside, c.now, c.now / "said-too")
        assert other.ended() == c.code, other.said
        assert leftovers(c.folder) <= {".x.parquet.lock", f".{c.out.name}.parts"} | {
            p.name for p in c.folder.glob(f".{c.out.name}.tmp-*")
        }
        holder.goes_on()
        assert holder.ended() == c.code, holder.said
        c.is_new()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_and_a_folder_of_one_name_have_one_ledger_and_one_writer(case: Cases, layout: str) -> None:
    c = case("transcribe", layout, "first")
    holder = held(c, random.Random(0))
    (unlike,) = set(LAYOUTS) - {layout}
    beside = [f"out/{unlike}" if part == f"out/{layout}" else part for part in c.command()]
    other = c.nursery.start(beside, c.now, c.now / "said-too")
    assert other.ended() == 6, other.said
    assert f"process {holder.pid} on " in other.said
    holder.goes_on()
    assert holder.ended() == c.code, holder.said
    c.is_new()
    late = c.nursery.start(beside, c.now, c.now / "said-too")
    assert late.ended() == 2, late.said
    assert "of the same name" in late.said
    c.is_new()


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "junk": lambda path: path.write_bytes(b"\xff{" * 9000),
    "a stale note": lambda path: path.write_text('{"pid": 1, "host": "gone", "since": "2001-01-01", "command": "msfser"}'),
    "a link": lambda path: path.symlink_to(path.with_name("victim")),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.slow
@pytest.mark.parametrize("thing", IN_THE_WAY)
@pytest.mark.parametrize("suffix", ["lock", "parts"])
def test_something_else_is_in_the_place_of(case: Cases, suffix: str, thing: str) -> None:
    for layout in LAYOUTS:
        c = case("transcribe", layout, "update")
        name = "x.parquet" if suffix == "lock" else c.out.name
        victim, path = c.folder / "victim", c.folder / f".{name}.{suffix}"
        victim.write_text("someone else's")
        IN_THE_WAY[thing](path)
        run = c.start()
        harmless = thing in ("junk", "a stale note") if suffix == "lock" else thing == "a folder"
        assert run.ended() == (c.code if harmless else 7), run.said
        assert "a bug" not in run.said
        assert victim.read_text() == "someone else's"
        assert not (c.folder / "nothing").exists()
        if not harmless:
            c.readers_are_served()
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            c.finish()
        victim.unlink()
        c.is_new()


def test_many_at_once_do_the_work_once(case: Cases, trials: Trials) -> None:
    for seed in trials("six runs started together", 3):
        c, chance = some_case(case, seed)
        if c.scenario == "redo":  # each does it anew
            c = case(c.stage, c.layout, "update")
        more = [["--json"], ["--json", "--wait", "3600"]]
        runs = [
            c.nursery.start(c.command(*c.options, *more[chance.random() < 0.4]), c.now, c.now / f"said-{i}") for i in range(6)
        ]
        codes = [run.ended() for run in runs]
        assert set(codes) <= {c.code, 6}
        summaries = [json.loads(line) for run in runs for line in run.said.splitlines() if line.startswith("{")]
        assert len(summaries) == codes.count(c.code)
        assert sum(summary["done"] > 0 for summary in summaries) == 1
        c.is_new()


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_next_stage_reads_one_table_or_the_other(case: Cases, trials: Trials, layout: str, home: Path) -> None:
    for seed in trials("the next stage reads a table that is replaced", 4):
        c = case("transcribe", layout, "update")
        first = c.operations.index(f"rename .{c.out.name}.parts/00000003.parquet")
        writer = c.stopped("pause", random.Random(seed).randint(first, len(c.operations)))
        assert writer.pauses()
        source = f"out/{c.layout.rstrip('/')}"
        reader = c.nursery.start(["emphasize", source, "--out", "e.parquet"], c.now, c.now / "said-too")
        code = reader.ended()
        assert code in (3, 4), reader.said
        if code == 4:  # between the table and its ledger
            assert "does not match its ledger" in reader.said
        else:
            rows, ledger = rows_of(c.now / "e.parquet", "emphasize"), ledger_of(c.now / "e.parquet")
            which = c.old if ledger.keys() == c.old.ledger.keys() else c.new
            assert ledger.keys() == which.ledger.keys()
            for name, found in rows.items():
                assert [{k: row[k] for k in which.rows[name][0]} for row in found] == which.rows[name]
            for name, line in ledger.items():
                assert line["utterances"] == len(rows.get(name, []))
        writer.goes_on()
        assert writer.ended() == c.code
        c.is_new()
