"""Nights in which all of it happens to an output: in the end it is what one undisturbed run makes of the last corpus."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.crash_runs import LAYOUTS, Corpus, leftovers, state, write_recording
from kit.doubled import options_of
from kit.nursery import REFUSES
from kit.program import Nursery, Run

Trials = Callable[[str, int], Iterator[int]]

NIGHTS = 5
DISTURBANCES = ("kill", "kill at an operation", "refuse", "refuse for good", "signal", "small files", "overlap", "nothing")


class Place:
    """A corpus, and an output that a command is to make of it."""

    def __init__(self, nursery: Nursery, folder: Path, models: Path, stages: tuple[str, ...], layout: str) -> None:
        self.nursery, self.folder, self.layout = nursery, folder, layout
        self.corpus, self.stage = folder / "corpus", stages[-1]
        self.corpus.mkdir(parents=True)
        (folder / "out").mkdir()
        self.options = [option for stage in stages for option in options_of(stage, models)]
        self.content: Corpus = {}
        self.runs = 0

    def command(self, out: str, *more: str) -> list[str]:
        return [self.stage, "corpus", "--out", f"{out}/{self.layout}", "--max-failed", "1", *self.options, *more]

    def start(self, *more: str, **requests: object) -> Run:
        self.runs += 1
        return self.nursery.start(self.command("out", *more), self.folder, self.folder / f"said-{self.runs}", part=2, **requests)

    def alters(self, chance: random.Random) -> None:
        """A day: recordings come, change, go, are touched, and are replaced by junk."""
        for _ in range(chance.randint(0, 4) or 4 * (not self.content)):
            what = chance.choice(("new", "new", "change", "remove", "touch", "junk"))
            name = f"{chance.randrange(30):02d}.wav" if what == "new" or not self.content else chance.choice(list(self.content))
            path = self.corpus / name
            if what == "remove" and len(self.content) > 1:
                path.unlink()
                del self.content[name]
            elif what == "touch" and path.exists():
                path.touch()
            else:
                level = -1.0 if what == "junk" else chance.choice((0.0, 0.1, 0.2, 0.3, 0.5))
                self.content[name] = chance.choice((1, 1.5, 2, 3)), level
                write_recording(path, *self.content[name])

    def disturbed(self, what: str, seconds: float, chance: random.Random, *more: str) -> None:
        """A run to which this happens."""
        operation = chance.randint(1, 60)
        watch = str(self.folder / "out")
        if what == "kill at an operation":
            run = self.start(*more, watch=watch, at=["kill", operation, []])
            expected = {0, 3, -signal.SIGKILL}
        elif what.startswith("refuse"):
            at = [chance.choice(list(REFUSES)), operation, []]
            run = self.start(*more, watch=watch, at=at, lasting=what == "refuse for good")
            expected = {0, 3, 7}
        elif what == "small files":
            run = self.start(*more, limits={"RLIMIT_FSIZE": chance.randint(2048, 40_000)})
            expected = {0, 3, 7}
        elif what == "overlap":
            others = [self.start(*more), self.start(*more, "--wait", "3600")]
            run = self.start(*more)
            assert {other.ended() for other in others} <= {0, 3, 6}
            expected = {0, 3, 6}
        else:
            run = self.start(*more)
            number = chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) if what == "signal" else signal.SIGKILL
            if what != "nothing":
                time.sleep(chance.uniform(0, seconds))
                run.signal(number)
            expected = {0, 3, 128 + number, -number}
        code = run.ended()
        assert code in expected, f"{what}: {code}: {run.said}"
        assert "Traceback" not in run.said
        assert "a bug" not in run.said


@pytest.mark.slow
def test_nights(nursery: Nursery, home: Path, trials: Trials) -> None:
    for seed in trials(f"soaks of {NIGHTS} nights", 4):
        chance = random.Random(seed)
        stages = chance.choice((("transcribe",), ("transcribe", "emphasize", "describe", "embed", "predict")))
        place = Place(nursery, home / f"soak-{seed}", home / "models", stages, chance.choice(LAYOUTS))
        seconds = 0.3 * len(stages)
        for _ in range(NIGHTS):
            place.alters(chance)
            prune = ["--prune"] * (chance.random() < 0.3)
            for what in chance.choices(DISTURBANCES, k=chance.randint(1, 3)):
                place.disturbed(what, seconds, chance, *prune)
        last = place.start("--prune")
        assert last.ended() in (0, 3), last.said
        clean = nursery.start(place.command("clean"), place.folder, place.folder / "said")
        assert clean.ended() in (0, 3), clean.said
        name = place.layout.rstrip("/")
        assert state(place.folder / "out" / name, place.stage) == state(place.folder / "clean" / name, place.stage), seed
        assert not leftovers(place.folder / "out")
