"""Scores of utterances, from their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from msfser_cli.backends import Row
from msfser_cli.errors import UsageError
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.model.scorer import Scorer
from msfser_cli.model_store.models import checkpoint
from msfser_cli.settings import PredictSettings
from msfser_cli.stages.predict import STAGE, VECTORS, predict
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


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    """A head with a reference."""
    torch.manual_seed(0)
    weights.save(tmp_path / "head", MsfSer(MsfSerConfig(acoustic_dim=8, text_dim=6, reference_dim=4)))
    return Scorer(tmp_path / "head")


def rows_of_speakers(speakers: Sequence[str | None], seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    lengths = dict(zip(VECTORS, (8, 6, 6, 6), strict=True))
    return [{**{v: rng.normal(size=n).astype(np.float32) for v, n in lengths.items()}, "speaker": s} for s in speakers]


def scored(scorer: Scorer, rows: list[Row], reference: str) -> list[Row]:
    work = Work(Recording("x", Path("x")), rows=rows)
    predict([work], scorer, reference)
    return work.rows


def test_a_voice_is_compared_with_its_speakers_in_the_recording(scorer: Scorer) -> None:
    rows = rows_of_speakers(["a", "b", None, "a", "b", None, "a", None])
    rows[5]["acoustic_vector"] = None
    out = scored(scorer, rows, "recording")
    assert [(row["reference"], row["reference_utterances"]) for row in out] == [
        ("recording", 3) if row["speaker"] == "a" else (None, 0) for row in rows
    ]
    alone = scored(scorer, [row for row in rows if row["speaker"] == "a"], "recording")
    assert [row["arousal"] for row in alone] == [row["arousal"] for row in out if row["speaker"] == "a"]
    plain = scored(scorer, rows, "none")
    assert {row["reference"] for row in plain} == {None}
    changed = [left["arousal"] != right["arousal"] for left, right in zip(out, plain, strict=True)]
    assert changed == [row["speaker"] == "a" for row in rows]


def test_where_speakers_are_unknown_the_recording_is_the_reference(scorer: Scorer) -> None:
    out = scored(scorer, rows_of_speakers([None] * 5), "recording")
    assert {(row["reference"], row["reference_utterances"]) for row in out} == {("recording", 5)}


def test_a_reference_that_the_head_lacks_is_refused(tmp_path: Path) -> None:
    weights.save(tmp_path / "without", MsfSer(MsfSerConfig(acoustic_dim=8, text_dim=6)))
    head = str(tmp_path / "without")
    assert STAGE.needs(PredictSettings(head=head)).settings.reference == "none"
    with pytest.raises(UsageError, match="trained without a reference"):
        STAGE.needs(PredictSettings(head=head, reference="recording"))


def test_the_head_of_mini_compares_within_recordings() -> None:
    assert STAGE.needs(PredictSettings()).settings.reference == "recording"


def test_a_head_with_a_reference_uses_it(scorer: Scorer, tmp_path: Path) -> None:
    assert STAGE.needs(PredictSettings(head=str(tmp_path / "head"))).settings.reference == "recording"
