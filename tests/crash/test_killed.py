"""A run that is killed, wherever, and run again ends as one that was not; and readers never see half of anything."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

import pytest

from kit.crash_runs import LAYOUTS, SCENARIOS, STAGES, Case

Cases = Callable[[str, str, str], Case]
Trials = Callable[[str, int], Iterator[int]]

POINTS: dict[str, tuple[str, int]] = {
    "lock file made": ("lock .x.parquet.lock", 0),
    "lock held": ("truncate .x.parquet.lock", 0),
    "holder written": ("list .", 0),
    "stock taken": ("mkdir .{x}.parts", 0),
    "folder of parts made": ("sync .", 0),
    "temporary file opened": ("write .{x}.tmp", 0),
    "half written": ("half .{x}.tmp", 0),
    "written": ("sync .{x}.tmp", 0),
    "synced": ("rename .{x}.parts/00000001.parquet", 0),
    "part renamed": ("sync .{x}.parts", 0),
    "part committed": ("create .{x}.tmp", 1),
    "second part renamed": ("sync .{x}.parts", 1),
    "table begun": ("create .{x}.tmp", -2),
    "table half written": ("half .{x}.tmp", -3),
    "table synced": ("rename {table}", -1),
    "table renamed": ("sync {folder}", -1),
    "ledger begun": ("create .{x}.tmp", -1),
    "ledger half written": ("half .{x}.tmp", -1),
    "ledger synced": ("rename x.recordings.parquet", 0),
    "ledger renamed": ("sync .", -2),
    "published": ("rename .{x}.tmp", 0),
    "parts set aside": ("sync .", -1),
    "first part removed": ("remove .{x}.tmp/0*", 1),
    "parts removed": ("rmdir .{x}.tmp", -1),
    "all but unlocked": ("remove .x.parquet.lock", 0),
}
"""The operation that never comes: its name, and which of that name."""


def place(case: Case, point: str) -> int:
    """The number of the operation after a point."""
    pattern, which = POINTS[point]
    folder, table = "x", "x/part-*"
    if case.layout == "x.parquet":
        folder, table = ".", "x.parquet"
    elif case.scenario in ("first", "redo"):  # the folder is written beside its place
        folder, table = ".", "x"
    if point == "table renamed" and folder == ".":
        which = -3  # of its folder, which is synced after the ledger and the parts, too
    pattern = pattern.format(x=case.out.name, table=table, folder=folder)
    return [number for number, name in enumerate(case.operations, 1) if fnmatchcase(name, pattern)][which]


@pytest.mark.one_in(9)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(case: Cases, trials: Trials, point: str, layout: str) -> None:
    for seed in trials("killed at named points", 1):
        turn = seed + list(POINTS).index(point) + LAYOUTS.index(layout)
        c = case(STAGES[turn % 5], layout, list(SCENARIOS)[turn // 5 % 4])
        assert c.stopped("kill", place(c, point)).ended() == -signal.SIGKILL
        c.readers_are_served()
        c.finish()


@pytest.mark.slow
def test_killed_at_random_one_to_five_times(case: Cases, trials: Trials) -> None:
    killed = 0
    for seed in trials("killed at random, one to five times in a row", 20):
        chance = random.Random(seed)
        c = case(chance.choice(STAGES), chance.choice(LAYOUTS), chance.choice(list(SCENARIOS)))
        for _ in range(chance.randint(1, 5)):
            run = c.start(batch=chance.choice((1, 3, 64)))
            time.sleep(chance.uniform(0, c.seconds))
            run.signal(signal.SIGKILL)
            killed += run.ended() == -signal.SIGKILL
            c.readers_are_served()
        c.finish()
    assert killed


def test_a_run_that_is_not_stopped_passes_all_points(case: Cases) -> None:
    for layout in LAYOUTS:
        for scenario in ("update", "redo"):
            c = case("transcribe", layout, scenario)
            places = [place(c, point) for point in POINTS]
            assert places == sorted(set(places)), (layout, scenario)
