"""The stage that puts the describer's columns into the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kit.working import rows_of
from msfser_cli import schemas
from msfser_cli.backends import Row
from msfser_cli.backends.describers import prosody
from msfser_cli.settings import DescribeSettings, EmphasizeSettings
from msfser_cli.stages.describe import describe
from msfser_cli.stages.emphasize import emphasize
from msfser_cli.stages.work import Recording, Work
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

    def describe(self, audios: Sequence[Audio], rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
        calm = {**dict.fromkeys(schemas.names(schemas.DESCRIBE)), "description": "Calm.", "text": "mine"}
        return [[dict(calm) for _ in of_audio] for of_audio in rows]

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        return [{"emphasis": [], "emphasis_cues": [], "text": "mine"} for _ in rows]


def test_a_back_end_cannot_change_the_columns_of_other_stages() -> None:
    audio, rows = Audio(np.zeros(0, np.float32)), [{"text": "spoken", "words": []}]
    assert [(row["text"], row["description"]) for row in rows_of(describe, audio, rows, Meddler())] == [("spoken", "Calm.")]
    assert [row["text"] for row in rows_of(emphasize, audio, rows, Meddler(), EmphasizeSettings())] == ["spoken"]


class Teller:
    """Describes an utterance by the level of its audio and its text, and keeps how many recordings it got at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def describe(self, audios: Sequence[Audio], rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
        self.sizes.append(len(audios))
        columns = dict.fromkeys(schemas.names(schemas.DESCRIBE))
        pairs = zip(audios, rows, strict=True)
        return [[{**columns, "description": f"{audio.samples[0]:g} {row['text']}"} for row in own] for audio, own in pairs]


def work(name: str, channels: dict[int | None, float], said: str) -> Work:
    """A recording with a constant level in each channel; `said` has the channel of each row."""
    parts = tuple(Audio(np.full(1600, level, np.float32), channel=channel) for channel, level in channels.items())
    audio = parts[0] if list(channels) == [None] else Audio(np.zeros(1600, np.float32), channels=parts)
    rows = [{"channel": int(c) if c.isdecimal() else None, "text": f"{name}{i}"} for i, c in enumerate(said)]
    return Work(Recording(name, Path(name)), audio, rows)


def test_all_channels_of_all_recordings_are_described_at_once_and_each_row_is_its_own() -> None:
    works = [work("a", {None: 1}, "--"), work("b", {0: 2, 1: 3}, "1011"), work("c", {None: 4}, ""), work("d", {0: 5}, "02")]
    before, teller = [w.rows for w in works], Teller()
    describe(works, teller)
    assert [[row["description"] for row in w.rows] for w in works[:3]] == [
        ["1 a0", "1 a1"], ["3 b0", "2 b1", "3 b2", "3 b3"], []
    ]  # fmt: skip
    assert [w.error and w.error.reason for w in works] == [None, None, None, "no_channel"]
    assert teller.sizes == [3]
    assert all("description" not in row for rows in before for row in rows)
