"""Seconds and memory of `show`, `report` and `export` on a table with made-up rows, each in a process of its own.

    python tests/benchmarks/bench_exports.py [RECORDINGS [UTTERANCES]]

UTTERANCES: of each recording, with 20 words each. The recordings themselves do not exist: the pages have no sound.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "from msfser_cli.cli.app import main; main()"
WORDS = 20
LENGTH = 7.0
"""Seconds from the start of an utterance to that of the next."""


def make(path: Path, recordings: int, utterances: int) -> None:
    """Write the table and its ledger."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    from kit.scored import COLUMNS, LINEAGE, scored_row
    from msfser_cli.schemas import DIMENSIONS, LedgerLine
    from msfser_cli.store import tables
    from msfser_cli.store.arrow import schema, to_table
    from msfser_cli.store.ledger import from_lines, write_ledger
    from msfser_cli.store.lineage import metadata
    from msfser_cli.store.place import place_of

    chance = random.Random(0)
    names = [f"show {i // 100:03d}/episode {i:05d}.mp3" for i in range(recordings)]

    def row(name: str, number: int) -> dict[str, object]:
        start = LENGTH * number
        words = [(chance.choice(("lighthouse", "the", "over", "sea", "keeper")), start + i / 4, start + (i + 1) / 4)
                 for i in range(WORDS)]  # fmt: skip
        scores = {d: round(chance.betavariate(5, 5), 6) for d in DIMENSIONS}
        ends = {f"{d}_{end}": scores[d] + by for d in DIMENSIONS for end, by in (("low", -0.2), ("high", 0.2))}
        return scored_row(name, number, words, emphasised=[3, 11], speaker=f"SPEAKER_0{number % 3}", **scores, **ends)

    def rows() -> Iterator[object]:
        for name in names:
            yield to_table([row(name, number) for number in range(utterances)], COLUMNS)

    tables.write(path, rows(), schema(COLUMNS, {}, metadata(LINEAGE)))
    lines = [asdict(LedgerLine(name, duration=LENGTH * utterances, utterances=utterances)) for name in names]
    write_ledger(place_of(path), [from_lines(lines)], LINEAGE)


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MB of the program; it must exit with 0."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    began = time.perf_counter()
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", PROGRAM, *command], environment, file_actions=null)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, status
    return time.perf_counter() - began, usage.ru_maxrss / 1e3


def main(recordings: int, utterances: int) -> None:
    """Time each command, and print a line for each."""
    with tempfile.TemporaryDirectory() as home:
        if (child := os.fork()) == 0:  # or its memory would count as that of the processes that are measured
            make(Path(home) / "scores.parquet", recordings, utterances)
            os._exit(0)
        os.waitpid(child, 0)
        scores, out = str(Path(home) / "scores.parquet"), Path(home) / "out"
        print(f"{recordings:,} recordings, {recordings * utterances:,} utterances, {Path(scores).stat().st_size / 1e6:.0f} MB")
        print(f"{'':>16s}{'wall s':>10s}{'peak MB':>10s}{'files MB':>10s}", flush=True)
        one = f"show {(recordings - 1) // 100:03d}/episode {recordings - 1:05d}.mp3"
        commands = {
            "show": ["show", scores], "show RECORDING": ["show", scores, one],
            "report": ["report", scores, "--out", str(out), "--audio", "none"],
            "export srt": ["export", scores, "--to", "srt", "--out", str(out)],
            "export csv": ["export", scores, "--to", "csv", "--out", str(out)],
            "export hf": ["export", scores, "--to", "hf", "--out", str(out)],
        }  # fmt: skip
        for name, command in commands.items():
            measured, size = [], 0
            for _ in range(3):
                shutil.rmtree(out, ignore_errors=True)
                measured.append(timed(command))
                size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            wall, memory = zip(*measured, strict=True)
            print(f"{name:>16s}{statistics.median(wall):10.2f}{max(memory):10.0f}{size / 1e6:10.1f}", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:] or ["1000", "300"])))
