"""Runs msfser's own commands on test recordings, up to the vectors."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from corpora import Clip
from features import VECTORS, Examples

STAGES = ("transcribe", "emphasize", "describe", "embed")


@dataclass(frozen=True)
class Heard:
    """The utterances that msfser found in test recordings. seconds: their lengths, float64 [n].

    `examples.item` is the number of the recording, and `examples.session` its speaker.
    """

    examples: Examples
    seconds: np.ndarray

    def by_clip(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The labels [m, 3], scores [m, 3] and speakers [m] of the m recordings with utterances.

        scores: of the utterances. A recording has their mean, weighted by their lengths, as in `msfser evaluate`.
        """
        items, first, of = np.unique(self.examples.item, return_index=True, return_inverse=True)
        sums = np.zeros((len(items), scores.shape[1]))
        np.add.at(sums, of, scores * self.seconds[:, None])
        means = sums / np.bincount(of, self.seconds)[:, None]
        return self.examples.rated[first], means, self.examples.speaker[first]


def listened(clips: Sequence[Clip], folder: Path, *options: str) -> Heard:
    """What msfser finds in the clips of one folder. folder: keeps the tables of the stages. options: of `msfser transcribe`."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "manifest.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "speaker"])
        table.writerows([clip.path.absolute(), clip.speaker] for clip in clips)
    of_corpus = ("--root", clips[0].path.parent.absolute(), *options)
    for stage in STAGES:
        _msfser(stage, source, "--out", folder / f"{stage}.parquet", "--quiet", *(of_corpus if stage == "transcribe" else ()))
        source = folder / f"{stage}.parquet"
    number = {clip.path.stem: i for i, clip in enumerate(clips)}
    if len(number) < len(clips):
        raise SystemExit(f"{folder}: two test recordings have one name")
    rows = []
    for row in pl.read_parquet(source, columns=["recording_id", "start", "end", *VECTORS]).iter_rows(named=True):
        item = number[Path(row["recording_id"]).stem]
        clip = clips[item]
        about = {"labels": clip.rated, "rated": clip.rated, "speaker": clip.speaker, "session": clip.speaker, "form": "chain"}
        rows.append({**row, **about, "item": item, "seconds": row["end"] - row["start"]})
    return Heard(Examples.of(rows), np.array([row["seconds"] for row in rows]))


def _msfser(*words: object) -> None:
    command = [sys.executable, "-c", "from msfser_cli.cli.app import main; main()", *map(str, words)]
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 3):  # 3: some recordings failed
        raise SystemExit(f"msfser {' '.join(map(str, words))} ended with {done.returncode}")
