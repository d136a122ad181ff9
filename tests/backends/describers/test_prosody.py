"""The description: numbers on sounds of known make, and sentences that follow from the numbers alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from msfser_cli import schemas
from msfser_cli.backends.describers import prosody
from msfser_cli.errors import UsageError
from msfser_cli.settings import DescribeSettings
from msfser_cli.store.audio import Audio

pytestmark = pytest.mark.process

PROSODY = prosody.load(DescribeSettings())
EMOTIONS = re.compile(r"\b(ang(ry|er)|happ|joy|sad|fear|disgust|surpris|calm|excite|bor(ed|ing)|emotion|tense|depress)", re.I)


def described(audio: Audio, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    return PROSODY.describe([audio], [rows])[0]


def joined(*utterances: Any) -> tuple[Audio, list[dict[str, Any]]]:
    """Several buzzed utterances as one recording."""
    rows, pieces, now = [], [], 0.0
    for audio, row in utterances:
        words = [{**w, "start": w["start"] + now, "end": w["end"] + now} for w in row["words"]]
        rows.append({**row, "start": now, "end": now + audio.duration, "words": words})
        pieces.append(audio.samples[:])
        now += audio.duration
    return Audio(np.concatenate(pieces)), rows


def test_columns_are_those_of_the_schema(real_utterance: Any) -> None:
    audio, row = real_utterance
    [out] = described(audio, row)
    assert list(out) == schemas.names(schemas.DESCRIBE)


def test_pitch_of_a_glide(buzz: Callable[..., Any]) -> None:
    t = np.arange(32_000) / 16_000
    f0 = 150 * 2 ** (4 * (t - 1) / 12)  # 4 semitones a second
    glide = np.sign(np.sin(2 * np.pi * np.cumsum(f0) / 16_000)).astype(np.float32) * 0.1
    _, row = buzz([("up", 100.0, -20.0, 1.9)])
    [out] = described(Audio(glide), row)
    assert out["pitch_median_hz"] == pytest.approx(150, rel=0.02)
    assert out["pitch_slope_st_per_s"] == pytest.approx(4, abs=0.3)
    assert out["pitch_movement_st_per_s"] == pytest.approx(4, abs=0.5)
    assert out["pitch_range_st"] == pytest.approx(0.9 * 8, abs=0.6)
    assert out["pitch_final_st"] == pytest.approx(4 * 0.5 * 2 / 3, abs=0.4)
    assert "rising throughout" in out["description"]


def test_rate_and_pauses_of_words_in_time(buzz: Callable[..., Any]) -> None:
    audio, row = buzz([("banana", 120.0, -20.0, 0.5)] * 4, gap=0.5)
    [out] = described(audio, row)
    assert out["articulation_rate_hz"] == pytest.approx(3 / 0.5, rel=0.1)
    assert out["pause_longest"] == pytest.approx(0.5, abs=0.06)
    assert out["pause_share"] == pytest.approx(1.5 / 3.5, abs=0.03)
    assert "with many pauses" in out["description"]


def test_level_and_its_range(buzz: Callable[..., Any]) -> None:
    audio, row = buzz([("loud", 120.0, -10.0, 1.0), ("soft", 120.0, -25.0, 1.0)])
    [out] = described(audio, row)
    assert out["loudness_db"] == pytest.approx(-12.9, abs=0.6)
    assert out["loudness_range_db"] == pytest.approx(15, abs=1.5)


def test_effort_follows_the_upper_partials() -> None:
    t = np.arange(16_000) / 16_000
    row = {"start": 0.0, "end": 1.0, "language": "en", "speaker": None, "words": []}
    sentences = []
    for tilt_db in (18, 6, 0):  # an octave
        voice = sum(np.sin(2 * np.pi * 150 * k * t) * k ** (-tilt_db / 6.02) for k in range(1, 30))
        sentences.append(described(Audio((voice / np.abs(voice).max() * 0.5).astype(np.float32)), row)[0])
    ratios = [out["alpha_ratio_db"] for out in sentences]
    assert ratios == sorted(ratios)
    assert "a very soft, dark voice" in sentences[0]["description"]
    assert "a very strong, sharp, pressed voice" in sentences[-1]["description"]


def test_pitch_and_level_are_relative_where_there_is_something_to_relate_to(buzz: Callable[..., Any]) -> None:
    low = buzz([("banana", 110.0, -25.0, 0.6)] * 2)
    high = buzz([("banana", 220.0, -15.0, 0.6)] * 2)
    [alone] = described(*low)
    assert alone["pitch_relative_st"] is None
    assert alone["loudness_relative_db"] is None
    assert "than usual" not in alone["description"]
    audio, rows = joined(low, low, high)
    first, _, last = described(audio, *rows)
    assert first["pitch_relative_st"] == pytest.approx(0, abs=0.1)
    assert last["pitch_relative_st"] == pytest.approx(12, abs=0.2)
    assert last["loudness_relative_db"] == pytest.approx(10, abs=0.5)
    assert first["description"].startswith("Medium pitch")
    assert last["description"].startswith("Very high pitch")
    assert "much louder than usual" in last["description"]


def test_each_speaker_is_a_measure_of_their_own(buzz: Callable[..., Any]) -> None:
    low, high = (buzz([("banana", f0, -20.0, 0.6)] * 2) for f0 in (110.0, 220.0))
    audio, rows = joined(low, low, high, high)
    for row, speaker in zip(rows, "aabb", strict=True):
        row["speaker"] = speaker
    assert [out["pitch_relative_st"] for out in described(audio, *rows)] == pytest.approx([0] * 4, abs=0.1)


def test_what_was_said_and_stressed_is_not_in_the_description(buzz: Callable[..., Any]) -> None:
    audio, row = buzz([("banana", 120.0, -20.0, 0.5)] * 8)
    span = {"text": "banana", "score": 3.0, "first_word": 2, "last_word": 2, "start": 1.0, "end": 1.5}
    [stressed], [flat] = (described(audio, {**row, "emphasis_spans": spans}) for spans in ([span], []))
    assert stressed["description"] == flat["description"]
    assert "banana" not in stressed["description"]


@pytest.mark.parametrize("kind", ["silence", "noise", "clicks"])
def test_no_words_and_no_voice_is_nothing_to_describe(kind: str) -> None:
    samples = {
        "silence": np.zeros(32_000), "noise": np.random.default_rng(0).normal(0, 0.05, 32_000),
        "clicks": (np.arange(32_000) % 8000 == 0) * 0.5,
    }[kind].astype(np.float32)  # fmt: skip
    [out] = described(Audio(samples), {"start": 0.0, "end": 2.0, "language": "und", "speaker": None, "words": []})
    assert out == dict.fromkeys(schemas.names(schemas.DESCRIBE))


def test_whispered_words_have_no_pitch_to_speak_of(buzz: Callable[..., Any]) -> None:
    [out] = described(*buzz([("whisper", 0.0, -30.0, 0.5)] * 3))
    assert out["pitch_median_hz"] is None
    assert out["hnr_db"] is None
    assert out["articulation_rate_hz"] is not None
    assert "pitch" not in out["description"]
    assert "speech" in out["description"]


@pytest.mark.parametrize("gain", [0.5, 0.05, 1.2])
def test_gain_does_not_change_the_sentence(real_utterance: Any, gain: float) -> None:
    audio, row = real_utterance
    [before] = described(audio, row)
    [after] = described(Audio(audio.samples[:] * np.float32(gain)), row)
    assert after["description"] == before["description"]
    assert after["loudness_db"] - before["loudness_db"] == pytest.approx(20 * np.log10(gain), abs=0.1)


def test_the_same_audio_gives_the_same_words(real_utterance: Any) -> None:
    audio, row = real_utterance
    assert described(Audio(audio.samples[:].copy()), row) == described(audio, row)


def test_numbers_of_a_real_voice_are_those_of_a_woman_reading(real_utterance: Any) -> None:
    audio, row = real_utterance
    [out] = described(audio, row)
    assert 170 < out["pitch_median_hz"] < 250
    assert 3.5 < out["articulation_rate_hz"] < 6.5
    assert 5 < out["hnr_db"] < 20
    assert 0 < out["pause_share"] < 0.25


numbers = some.fixed_dictionaries({name: some.none() | some.floats(-300, 600) for name in prosody.MEASURES})


@given(numbers)
def test_sentences_are_well_formed_for_any_numbers(measured: dict[str, float | None]) -> None:
    said = prosody.sentence(measured)
    assert said == prosody.sentence(measured)
    if said is None:
        return
    assert said.endswith(".")
    assert not re.search(r"  |,,|;;|\.\.| [,.;]|None|nan", said)
    assert said[0].isupper()
    assert not EMOTIONS.search(said)


def test_no_numbers_no_sentence() -> None:
    assert prosody.sentence(dict.fromkeys(prosody.MEASURES)) is None


@given(some.sampled_from(sorted(prosody.SCALES)), some.floats(-500, 700), some.floats(0, 50))
def test_words_follow_the_order_of_the_numbers(name: str, value: float, more: float) -> None:
    scale = prosody.SCALES[name]
    assert len(scale.words) == len(scale.edges) + 1
    assert scale.words.index(scale.word(value)) <= scale.words.index(scale.word(value + more))


times = some.floats(-1, 4)


sounds = some.sampled_from(["silence", "noise", "buzz", "short", "nothing"])


@given(start=times, end=times, sound=sounds, text=some.text(max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_utterance_over_any_sound(start: float, end: float, sound: str, text: str) -> None:
    t = np.arange(32_000) / 16_000
    samples = {
        "silence": np.zeros(32_000), "noise": np.random.default_rng(0).normal(0, 0.1, 32_000),
        "buzz": np.sign(np.sin(2 * np.pi * 130 * t)) * 0.2, "short": np.ones(100) * 0.1, "nothing": np.zeros(0),
    }[sound].astype(np.float32)  # fmt: skip
    words = [{"word": text, "start": start, "end": end, "score": None, "aligned": True}]
    row = {"start": start, "end": end, "language": "en", "speaker": "s", "words": words}
    for out in described(Audio(samples), row, row):
        assert list(out) == schemas.names(schemas.DESCRIBE)
        assert all(out[name] is None or np.isfinite(out[name]) for name in prosody.MEASURES)


def test_unknown_pitch_tracker_is_refused_with_the_settings() -> None:
    with pytest.raises(UsageError, match="harvest"):
        DescribeSettings(pitch="dio")
