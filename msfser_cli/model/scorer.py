"""A trained MSF-SER model that takes and returns NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.weights import load
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.statistics.intervals import Intervals


@dataclass(frozen=True)
class Scores:
    """The scores of n utterances.

    scores: float [n, 3], in the checkpoint's scale; NaN for a dimension that it was not trained on.
    intervals: float [n, 3, 2], the ends of each score's prediction interval; NaN for a dimension that is not calibrated.
    gates: float [n, 3], 0..1. routes: float [n, 3, K], 0..1, sum 1 over K.
    """

    scores: np.ndarray
    intervals: np.ndarray
    gates: np.ndarray
    routes: np.ndarray


class Scorer:
    """The checkpoint in `folder`. It runs on the CPU, because the head is small compared with the encoders.

    intervals: the prediction intervals around its scores; None: scores without intervals. ModelError for a damaged checkpoint.
    """

    def __init__(self, folder: Path, intervals: Intervals | None = None) -> None:
        self._model = load(folder)
        self._intervals = intervals

    @property
    def config(self) -> MsfSerConfig:
        """The checkpoint's config: sizes, scale and encoders."""
        return self._model.config

    def evidence(self, acoustic: np.ndarray, present: np.ndarray) -> np.ndarray:
        """What each of n utterances adds to its speaker's reference, float64 [n, 1 + Da]. Arguments as in `score`.

        Only a head with a reference has it (`config.reference_dim`).
        """
        with torch.inference_mode():
            evidence: np.ndarray = self._model.evidence(torch.from_numpy(acoustic), torch.from_numpy(present)).double().numpy()
        return evidence

    def score(
        self, acoustic: np.ndarray, texts: np.ndarray, present: np.ndarray, evidence: np.ndarray | None = None
    ) -> Scores:
        """Score n utterances. acoustic: float32 [n, Da]. texts: float32 [n, 3, Dt]. present: bool [n, 4] (acoustic, LES, GS, ES).

        evidence: float64 [n, 1 + Da], the sum of `evidence` over the utterances of each one's speaker; zeros, and None: no
        reference. ValueError for other shapes.
        """
        with torch.inference_mode():
            summed = None if evidence is None else torch.from_numpy(evidence.astype(np.float32))
            out = self._model(*(torch.from_numpy(a) for a in (acoustic, texts, present)), summed)
        scores, gates, routes = (t.double().numpy() for t in (out.scores, out.gates, out.routes))
        scores[:, [d not in self.config.dimensions for d in DIMENSIONS]] = np.nan
        if self._intervals is None:
            return Scores(scores, np.full((*scores.shape, 2), np.nan), gates, routes)
        return Scores(scores, self._intervals.around(scores, self.config.low, self.config.high), gates, routes)
