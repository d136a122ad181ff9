"""Scores of utterances, from their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from msfser_cli.backends import Row
from msfser_cli.model.scorer import Scorer
from msfser_cli.model_store.models import checkpoint
from msfser_cli.settings import PredictSettings
from msfser_cli.stages.predict import VECTORS, predict
from msfser_cli.stages.work import Recording, Work


def test_the_number_of_threads_changes_no_score(tmp_path: Path) -> None:
    scorer = Scorer(checkpoint(PredictSettings().head).path)
    rng = np.random.default_rng(0)
    lengths = [scorer.config.acoustic_dim, *[scorer.config.text_dim] * 3]
    recordings: list[list[Row]] = [
        [{name: rng.standard_normal(n).astype(np.float32) for name, n in zip(VECTORS, lengths, strict=True)} for _ in range(rows)]
        for rows in range(1, 40)
    ]

    def scored(threads: int) -> list[Row]:
        works = [Work(Recording(str(number), tmp_path), rows=rows) for number, rows in enumerate(recordings)]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            predict(works, scorer)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        return [{k: v for k, v in row.items() if k not in VECTORS} for work in works for row in work.rows]

    assert scored(1) == scored(2) == scored(4)
