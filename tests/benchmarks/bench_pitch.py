"""swift-f0 against Harvest on real speech: voicing, agreement, octave errors, cost.

    python tests/benchmarks/bench_pitch.py [FOLDER OF AUDIO]

Agreement and octave errors are over the frames that both call voiced. Neither tracker is the truth; but where a folder `labels`
beside the audio says who speaks when (RTTM), a voiced frame outside all speech is a false one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from msfser_cli.backends import pitch
from msfser_cli.store.audio import decode

DEFAULT_FOLDER = Path(__file__).parents[2] / "../shared/data/real_speech/audio"
COLUMNS = (
    "seconds", "swift voiced", "harvest voiced", "same voicing", "<50 cents", "octave off", "swift false", "harvest false",
    "swift CPU s", "harvest CPU s",
)  # fmt: skip


def main(folder: Path) -> None:
    """Track, compare, print a line a file and one for all."""
    print(f"{'':28s}" + "".join(f"{name:>15s}" for name in COLUMNS))
    table = []
    for path in sorted(folder.iterdir()):
        table.append(compare(path, folder.parent / "labels" / f"{path.stem}.rttm"))
        show(path.name, table[-1])
    values = np.array(table)
    known = ~np.isnan(values)
    means = [float(np.average(column[ok], weights=values[ok, 0])) for column, ok in zip(values.T, known.T, strict=True)]
    show("all", [values[:, 0].sum(), *means[1:8], *values[:, 8:].sum(axis=0)])


def compare(path: Path, rttm: Path) -> list[float]:
    """The `COLUMNS` of one file."""
    audio = decode(path)
    started = time.process_time()
    swift = pitch.track(audio.samples[:], "swift-f0")
    between = time.process_time()
    harvest = pitch.track(audio.samples[:], "harvest").f0_hz
    ended = time.process_time()
    voiced = [~np.isnan(f0) for f0 in (swift.f0_hz, harvest)]
    both = voiced[0] & voiced[1]
    cents = np.abs(1200 * np.log2(swift.f0_hz[both] / harvest[both]))
    silent = ~np.isnan(swift.times()) if rttm.exists() else np.zeros(len(both), dtype=bool)
    for line in rttm.read_text().splitlines() if rttm.exists() else ():
        start, duration = (float(field) for field in line.split()[3:5])
        # What is marked is rounded: leave a margin.
        silent &= (swift.times() < start - 0.2) | (swift.times() > start + duration + 0.2)
    false = [float(np.mean(v[silent])) if silent.any() else np.nan for v in voiced]
    return [
        audio.duration, *(float(np.mean(v)) for v in voiced), float(np.mean(voiced[0] == voiced[1])),
        float(np.mean(cents < 50)), float(np.mean(np.abs(cents - 1200) < 100)), *false, between - started, ended - between,
    ]  # fmt: skip


def show(name: str, line: list[float]) -> None:
    """One line of the table."""
    print(f"{name:28s}" + "".join(f"{value:15.3f}" for value in line))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER)
