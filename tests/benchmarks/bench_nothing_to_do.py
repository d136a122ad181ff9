"""Seconds and memory of a run that finds nothing to do: `predict` on a corpus of many files, each in a process of its own.

    python tests/benchmarks/bench_nothing_to_do.py [FILES]

The models are looked up and verified as ever; the test doubles take their places where they would run.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "from msfser_cli.cli.app import main; main()"


def make(folder: Path, files: int) -> None:
    """A corpus of one-second recordings, each different, in folders of a thousand, and a head."""

    import numpy as np
    import soundfile as sf

    from msfser_cli.model import weights
    from msfser_cli.model.config import MsfSerConfig
    from msfser_cli.model.msf_ser import MsfSer

    tone = np.sin(2 * np.pi * 440 / 16_000 * np.arange(16_000)).astype(np.float32)
    for i in range(files):
        place = folder / "corpus" / f"{i // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        sf.write(place / f"{i:06d}.wav", (0.1 + i / (4 * files)) * tone, 16_000, subtype="FLOAT")
    weights.save(folder / "head", MsfSer(MsfSerConfig(acoustic_dim=2, text_dim=2)))


def command_for(folder: Path) -> list[str]:
    """The command that annotates it."""
    return ["predict", str(folder / "corpus"), "--out", str(folder / "scores.parquet"), "--head", str(folder / "head"),
            "--transcriber", "double", "--acoustic-encoder", "double", "--text-encoder", "double"]  # fmt: skip


def timed(command: list[str]) -> tuple[float, float, float]:
    """Wall and CPU seconds and peak MB of the program; it must exit with 0."""
    paths = [str(ROOT / "tests" / "doubles"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", PROGRAM, *command, "--quiet"], environment,
                           file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])  # fmt: skip
    _, status, usage = os.wait4(child, 0)
    assert status == 0, status
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def main(files: int) -> None:
    """Time the first run, the second and a dry one; a line for each."""
    with tempfile.TemporaryDirectory() as home:
        if (child := os.fork()) == 0:  # or its memory would count as that of the processes that are measured
            make(Path(home), files)
            os._exit(0)
        os.waitpid(child, 0)
        command = command_for(Path(home))
        time.sleep(61)  # files that were written within the last minute are read again
        print(f"{files:,} files\n{'':>12s}{'wall s':>10s}{'CPU s':>10s}{'peak MB':>10s}", flush=True)
        for name, more, times in (("first run", [], 1), ("second run", [], 5), ("dry run", ["--dry-run"], 5)):
            wall, cpu, memory = zip(*(timed([*command, *more]) for _ in range(times)), strict=True)
            print(f"{name:>12s}{statistics.median(wall):10.2f}{statistics.median(cpu):10.2f}{max(memory):10.0f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
