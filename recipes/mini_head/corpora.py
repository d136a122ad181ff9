"""Reads the acted corpora: CREMA-D with its listeners' votes, EmoDB and RAVDESS with the emotion that the actor was asked for."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msfser_cli.schemas import DIMENSIONS

_VOTES = "ADFHNS"
_EMOTIONS = np.array([  # of each of `_VOTES`, in the order of DIMENSIONS
    [-0.51, 0.59, 0.25], [-0.60, 0.35, 0.11], [-0.64, 0.60, -0.43], [0.81, 0.51, 0.46], [0.0, 0.0, 0.0], [-0.63, -0.27, -0.33],
])  # fmt: skip
"""Mean pleasure, arousal and dominance, -1..1, of anger, disgust, fear, happiness and sadness (Russell & Mehrabian 1977)."""


@dataclass(frozen=True)
class Clip:
    """A recording of one sentence.

    labels: valence, arousal and dominance, 0..1, to learn from. rated: those to test against; NaN if nobody heard the voice
    alone.
    """

    path: Path
    speaker: str
    labels: tuple[float, ...]
    rated: tuple[float, ...]


def crema_d(data: Path) -> list[Clip]:
    """The clips of CREMA-D, without those with a note: silent or duplicate ones.

    Each emotion counts as often as listeners named it. The labels to learn from count the votes of those who heard the voice
    alone and of those who saw the face as well. The labels to test against count only those who heard the voice alone. The face
    tells more about the actor's delivery than ten more votes about the voice: with both, valence transfers better to EmoDB (r
    .62, and .52 without), and the votes about held-out voices are predicted as well. A face makes votes more extreme. So the
    labels to learn from are moved and scaled to the mean and deviation of the votes about the voice alone.
    """
    lines = [line for line in _manifest(data / "crema_d") if not line["note"]]
    both, heard = (np.array([_mean(line, *kinds) for line in lines]) for kinds in (("voice", "both"), ("voice",)))
    known = ~np.isnan(heard[:, 0]) & [not is_held_out(line["speaker"]) for line in lines]
    factor = heard[known].std(axis=0) / both[known].std(axis=0)
    labels = heard[known].mean(axis=0) + (both - both[known].mean(axis=0)) * factor
    return [
        Clip(data / "crema_d" / line["file"], line["speaker"], tuple(of.tolist()), tuple(rated.tolist()))
        for line, of, rated in zip(lines, labels.round(4), heard.round(4), strict=True)
    ]


def mapped(folder: Path) -> list[Clip]:
    """The clips of EmoDB or RAVDESS. The labels are those of the emotion that the actor was asked for."""
    lines = _manifest(folder)
    labels = [tuple(float(line[d]) for d in DIMENSIONS) for line in lines]
    return [Clip(folder / x["file"], x["speaker"], of, of) for x, of in zip(lines, labels, strict=True)]


def is_held_out(speaker: str) -> bool:
    """Whether an actor of CREMA-D is kept for testing: a fifth of them."""
    return int(speaker) % 5 == 0


def _manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _mean(line: dict[str, str], *kinds: str) -> np.ndarray:
    """The mean of the emotions that listeners named, 0..1; NaN without votes."""
    votes = np.array([sum(float(line[f"{kind}_{vote}"] or 0) for kind in kinds) for vote in _VOTES])
    mean = votes @ _EMOTIONS / votes.sum() if votes.sum() else np.full(len(DIMENSIONS), np.nan)
    return (mean + 1) / 2
