"""The stage that puts the describer's columns into the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kit.working import rows_of
from msfser_cli import schemas
from msfser_cli.backends import Row
from msfser_cli.backends.describers import prosody
from msfser_cli.settings import DescribeSettings, EmphasizeSettings
from msfser_cli.stages.describe import describe
from msfser_cli.stages.emphasize import emphasize
from msfser_cli.store.audio import Audio


@pytest.mark.model
def test_rows_keep_what_they_had_and_gain_every_column() -> None:
    t = np.arange(2 * 16_000) / 16_000
    audio = Audio((0.3 * np.sign(np.sin(2 * np.pi * 130 * t))).astype(np.float32))
    word = {"word": "hello", "start": 0.1, "end": 0.9, "score": 1.0, "aligned": True}
    rows = [
        {"utterance_id": "a#0000", "start": 0.0, "end": 1.0, "language": "en", "speaker": None, "words": [word]},
        {"utterance_id": "a#0001", "start": 1.0, "end": 2.0, "language": "en", "speaker": None, "words": []},
    ]
    out = rows_of(describe, audio, rows, prosody.load(DescribeSettings()))
    assert [row["utterance_id"] for row in out] == ["a#0000", "a#0001"]
    assert all(set(row) == {*rows[0], "channel", *schemas.names(schemas.DESCRIBE)} for row in out)
    assert out[0]["words"] == [word]


def test_no_rows_no_rows() -> None:
    assert rows_of(describe, Audio(np.zeros(0, np.float32)), [], prosody.load(DescribeSettings())) == []


class Meddler:
    """A back end of somebody else's, which returns columns of other stages as well as its own."""

    def describe(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        return [{**dict.fromkeys(schemas.names(schemas.DESCRIBE)), "description": "Calm.", "text": "mine"} for _ in rows]

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        return [{"emphasis": [], "emphasis_cues": [], "text": "mine"} for _ in rows]


def test_a_back_end_cannot_change_the_columns_of_other_stages() -> None:
    audio, rows = Audio(np.zeros(0, np.float32)), [{"text": "spoken", "words": []}]
    assert [(row["text"], row["description"]) for row in rows_of(describe, audio, rows, Meddler())] == [("spoken", "Calm.")]
    assert [row["text"] for row in rows_of(emphasize, audio, rows, Meddler(), EmphasizeSettings())] == ["spoken"]
