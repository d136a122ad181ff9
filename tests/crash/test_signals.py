"""INT, TERM and HUP: the run ends with 128 + the signal, keeps what it has done, and leaves nothing but that."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator

import pytest

from kit.crash_runs import LAYOUTS, SCENARIOS, STAGES, Case, leftovers

Cases = Callable[[str, str, str], Case]
Trials = Callable[[str, int], Iterator[int]]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["loading", "annotating", "publishing"])
def test_a_signal_ends_a_run(case: Cases, trials: Trials, moment: str, number: signal.Signals) -> None:
    if moment != "publishing" and "MSFSER_TEST_JOBS" in os.environ:
        pytest.skip("workers do it: see test_workers.py")
    for seed in trials("stopped by a signal", 2):
        turn = seed + SIGNALS.index(number) * 2 + len(moment)
        c = case(STAGES[turn % 5], LAYOUTS[turn % 2], list(SCENARIOS)[turn // 2 % 4])
        at = {"loading": (1, "load ."), "annotating": (2, "annotate ."), "publishing": (1, "rename x.recordings.parquet")}[moment]
        run = c.stopped("pause", *at)
        assert run.pauses()
        run.signal(number)
        run.goes_on()
        assert run.ended() == 128 + number, run.said
        assert run.said.splitlines()[-1].startswith(f"msfser: stopped by {number.name}; ")
        assert "Traceback" not in run.said
        assert leftovers(c.folder) <= {f".{c.out.name}.parts"}
        if moment == "publishing":
            c.is_new()
        else:
            c.readers_are_served()
        recordings = c.operations.count("annotate .")
        kept = {"loading": 0, "annotating": 1, "publishing": 0 if c.scenario == "redo" else recordings}[moment]
        assert c.finish().count("annotate .") == recordings - kept


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_it_at_once(case: Cases, trials: Trials, second: signal.Signals) -> None:
    for seed in trials("stopped by two signals", 2):
        c = case(STAGES[seed % 5], LAYOUTS[seed % 2], list(SCENARIOS)[seed % 4])
        first = SIGNALS[seed % 3]
        # From there on, it pauses at each operation.
        run = c.stopped("pause", c.operations.index("rename x.recordings.parquet") + 1, lasting=True)
        for number in (first, second):
            assert run.pauses()
            run.signal(number)
            run.goes_on()
        assert run.ended() == 128 + second, run.said
        c.readers_are_served()
        c.finish()


def test_a_signal_at_any_operation(case: Cases, trials: Trials) -> None:
    for seed in trials("stopped by a signal at any operation", 12):
        chance = random.Random(seed)
        c = case(chance.choice(STAGES), chance.choice(LAYOUTS), chance.choice(list(SCENARIOS)))
        number = chance.choice(SIGNALS)
        run = c.stopped("pause", chance.randint(1, len(c.operations)))
        assert run.pauses()
        run.signal(number)
        run.goes_on()
        assert run.ended() == 128 + number, run.said
        assert run.said.splitlines()[-1].startswith(f"msfser: stopped by {number.name}; ")
        assert "Traceback" not in run.said
        assert leftovers(c.folder) <= {f".{c.out.name}.parts"}
        c.readers_are_served()
        c.finish()
