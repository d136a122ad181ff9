"""How much memory `msfser predict` takes at most for a short and for a long recording, and the ratio of the two.

    python tests/benchmarks/bench_memory.py [--minutes 10 360] [--suffix .flac] [--speech FOLDER] [-- OPTION ...]

Each recording is made of the speech in FOLDER, minute by minute in a random order and at random levels, with pauses between. What
stands after `--` goes to `msfser predict`. The memory is the sum of what the program and the processes that it starts hold: the
most of it at any of ten moments a second, with the pages that they share counted once (Linux: proportional set size); beside it
stands the most that any one of them ever held. On one core, six hours of speech take about half an hour.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from msfser_cli.schemas import SAMPLE_RATE_HZ
from msfser_cli.store.audio import decode

SPEECH = Path(__file__).parents[2] / "../shared/data/real_speech/audio"
EPISODE = Path(__file__).parents[2] / "recipes/quickstart/corpus"
CODECS = {".flac": ("flac", "s16"), ".opus": ("libopus", "flt")}
PROGRAM = "from msfser_cli.cli.app import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10.0, 360.0])
    parser.add_argument("--suffix", choices=CODECS, default=".flac")
    parser.add_argument("--speech", type=Path, default=SPEECH if SPEECH.is_dir() else EPISODE)
    parser.add_argument("options", nargs="*", help="for msfser predict, after --")
    arguments = parser.parse_args()
    table = Table("minutes", "at most at once, MiB", "most of one process, MiB", "by the first", "utterances", "words", "seconds")
    first = 0.0
    for minutes in arguments.minutes:
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder) / f"recording{arguments.suffix}", Path(folder) / "scores.parquet"
            write(path, minutes, arguments.speech)
            began = time.monotonic()
            together, alone = peak([sys.executable, "-c", PROGRAM, "predict", str(path), "--out", str(out), *arguments.options])
            seconds = time.monotonic() - began
            words = pq.read_table(out, columns=["words"])["words"]
        first = first or together
        numbers = (len(words), sum(len(w) for w in words), f"{seconds:.0f}")
        table.add_row(*map(str, (f"{minutes:g}", round(together), round(alone), f"{together / first:.2f}", *numbers)))
    Console(width=130).print(table)


def write(path: Path, minutes: float, speech: Path) -> None:
    """A recording of so many minutes, made of the clips in `speech`; no more of it is in memory than they are."""
    order = random.Random(0)
    minute = 60 * SAMPLE_RATE_HZ
    clips = []
    for file in sorted(p for p in speech.rglob("*.*") if p.is_file()):
        samples = decode(file).samples
        clips += [samples[i : i + minute] for i in range(0, len(samples), minute)]
    left = round(minutes * minute)
    codec, form = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono", format=form)
        while left > 0:
            clip, pause = order.choice(clips), np.zeros(round(order.uniform(0.2, 1.5) * SAMPLE_RATE_HZ), np.float32)
            samples = np.concatenate([clip * 10 ** order.uniform(-0.5, 0.2), pause])[:left].clip(-1, 1).astype(np.float32)
            left -= len(samples)
            frame = av.AudioFrame.from_ndarray(np.rint(samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE_HZ
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def peak(command: list[str]) -> tuple[float, float]:
    """The most memory in MiB that the command and its descendants hold together, and the most that one of them ever held."""
    together = alone = 0.0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            family = descendants(process.pid)
            together = max(together, sum(kilobytes(pid, "smaps_rollup", "Pss:") for pid in family) / 1024)
            alone = max(alone, *(kilobytes(pid, "status", "VmHWM:") / 1024 for pid in family))
            time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return together, alone


def descendants(pid: int) -> list[int]:
    """A process and all that it started, and they in turn."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])  # the name before may hold anything
        except OSError:
            continue  # it has ended
        children.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def kilobytes(pid: int, file: str, name: str) -> int:
    """A number in one of a process's files in /proc, 0 when the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


if __name__ == "__main__":
    main()
