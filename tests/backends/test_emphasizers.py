"""What every emphasizer must do, whoever wrote it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from msfser_cli.backends.registry import backend, names
from msfser_cli.settings import EmphasizeSettings
from msfser_cli.store.audio import Audio

pytestmark = [pytest.mark.parametrize("name", names("emphasizers")), pytest.mark.model]


def load(name: str) -> Any:
    return backend("emphasizers", name).load(EmphasizeSettings(emphasizer=name))


def test_says_what_it_is_and_what_it_needs(name: str) -> None:
    module = backend("emphasizers", name)
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith(".")
    assert isinstance(module.REQUIRES, tuple)


def test_scores_each_word_of_each_utterance_and_nothing_else(name: str, real_utterance: Any) -> None:
    audio, row = real_utterance
    rows = [row, {**row, "words": []}, {**row, "words": row["words"][:1]}, {**row, "words": row["words"][3:9]}]
    before = deepcopy(rows)
    out = load(name).emphasize(audio, rows)
    assert rows == before
    assert [len(result["emphasis"]) for result in out] == [len(r["words"]) for r in rows]
    for result in out:
        assert set(result) == {"emphasis", "emphasis_cues"}
        assert len(result["emphasis_cues"]) == len(result["emphasis"])
        assert all(score is None or (isinstance(score, float) and np.isfinite(score)) for score in result["emphasis"])
        assert all(set(cues) == {"pitch_z", "energy_z", "duration_z"} for cues in result["emphasis_cues"])


def test_together_and_again_is_as_one_by_one(name: str, real_utterance: Any) -> None:
    audio, row = real_utterance
    rows = [row, {**row, "words": row["words"][3:9]}]
    together = load(name).emphasize(audio, rows)
    assert together == load(name).emphasize(Audio(audio.samples[:].copy()), rows)
    assert together == [load(name).emphasize(audio, [r])[0] for r in rows]


def test_no_utterances(name: str) -> None:
    assert load(name).emphasize(Audio(np.zeros(16_000, np.float32)), []) == []
