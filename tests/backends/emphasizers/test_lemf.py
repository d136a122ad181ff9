"""LEMF on words of known pitch, level and length, and on real speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from msfser_cli.backends.emphasizers import lemf
from msfser_cli.errors import UsageError
from msfser_cli.settings import EmphasizeSettings
from msfser_cli.store.audio import Audio

pytestmark = pytest.mark.model

PLAIN = ("banana", 120.0, -20.0, 0.4)
LEMF = lemf.load(EmphasizeSettings())


def result(audio: Audio, row: dict[str, Any], **chosen: Any) -> dict[str, Any]:
    [out] = lemf.load(EmphasizeSettings(**chosen)).emphasize(audio, [row])
    return out


@pytest.mark.parametrize(
    ("odd", "cue"),
    [
        (("banana", 170.0, -20.0, 0.4), "pitch_z"),
        (("banana", 120.0, -10.0, 0.4), "energy_z"),
        (("banana", 120.0, -20.0, 0.7), "duration_z"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_odd_word_out_stands_out_in_its_cue_and_in_no_other(buzz: Callable[..., Any], odd: Any, cue: str, place: int) -> None:
    words = [PLAIN] * 5
    words[place] = odd
    out = result(*buzz(words))
    assert int(np.argmax(out["emphasis"])) == place
    assert out["emphasis_cues"][place][cue] == pytest.approx(2.0, abs=0.05)  # one of five: (n - 1) / sqrt(n - 1)
    others = {c for c in lemf.CUES if c != cue}
    assert all(cues[other] == 0.0 for cues in out["emphasis_cues"] for other in others)


def test_the_score_is_the_weighted_sum(buzz: Callable[..., Any]) -> None:
    words = [("one", 110.0, -25.0, 0.3), ("two", 150.0, -18.0, 0.5), ("three", 130.0, -20.0, 0.4), ("four", 0.0, -30.0, 0.3)]
    chosen = {"pitch_weight": 0.5, "energy_weight": 3.0, "duration_weight": 1.5}
    out = result(*buzz(words), **chosen)
    for score, cues in zip(out["emphasis"], out["emphasis_cues"], strict=True):
        z = [cues[cue] or 0.0 for cue in lemf.CUES]
        assert score == pytest.approx(np.dot(z, [0.5, 3.0, 1.5]), abs=1e-3)


def test_duration_is_per_phone(buzz: Callable[..., Any]) -> None:
    drawn = result(*buzz([("no", 120.0, -20.0, 0.4), ("banana", 120.0, -20.0, 0.6), ("banana", 120.0, -20.0, 0.6)]))
    assert drawn["emphasis_cues"][0]["duration_z"] > 1


def test_a_word_that_runs_on_into_a_pause_is_not_long(buzz: Callable[..., Any]) -> None:
    audio, row = buzz([PLAIN] * 4, gap=0.5)
    row["words"][1]["end"] = row["words"][2]["start"]
    assert {cues["duration_z"] for cues in result(audio, row)["emphasis_cues"]} == {0.0}


def test_an_unvoiced_word_has_no_pitch_and_counts_as_average(buzz: Callable[..., Any]) -> None:
    audio, row = buzz([PLAIN, ("banana", 0.0, -20.0, 0.4), ("banana", 150.0, -20.0, 0.4), PLAIN])
    out = result(audio, row)
    assert out["emphasis_cues"][1]["pitch_z"] is None
    assert out["emphasis"][1] is not None
    assert sum(cues["pitch_z"] or 0.0 for cues in out["emphasis_cues"]) == pytest.approx(0, abs=1e-3)


def test_a_flat_sentence_scores_zero_throughout(buzz: Callable[..., Any]) -> None:
    assert result(*buzz([PLAIN] * 4))["emphasis"] == [0.0] * 4


@pytest.mark.parametrize("words", [[], [PLAIN]])
def test_fewer_than_two_words_have_no_score(buzz: Callable[..., Any], words: list[Any]) -> None:
    out = result(*buzz(words))
    assert out == {"emphasis": [None] * len(words), "emphasis_cues": [dict.fromkeys(lemf.CUES)] * len(words)}


@pytest.mark.parametrize(
    "change",
    [
        {"end": 0.05}, {"start": 90.0, "end": 91.0}, {"start": 3.0, "end": 2.0}, {"aligned": False}, {"word": "--"},
        {"start": -2.0, "end": -1.0},
    ],
)  # fmt: skip
def test_words_that_cannot_be_scored_leave_the_others_alone(buzz: Callable[..., Any], change: dict[str, Any]) -> None:
    audio, row = buzz([PLAIN, ("banana", 150.0, -20.0, 0.4), ("banana", 130.0, -15.0, 0.5), PLAIN])
    without = {**row, "words": row["words"][1:]}
    row["words"][0].update(change)
    out = result(audio, row)
    assert out["emphasis"][0] is None
    assert out["emphasis_cues"][0] == dict.fromkeys(lemf.CUES)
    assert out["emphasis"][1:] == result(audio, without)["emphasis"]


@pytest.mark.parametrize("gain", [0.5, 0.01])
def test_gain_changes_nothing_to_speak_of(real_utterance: Any, gain: float) -> None:
    audio, row = real_utterance
    loud, quiet = result(audio, row), result(Audio(audio.samples[:] * np.float32(gain)), row)
    np.testing.assert_allclose(loud["emphasis"], quiet["emphasis"], atol=0.05)


def test_z_scores_of_real_speech(real_utterance: Any) -> None:
    out = result(*real_utterance)
    for cue in lemf.CUES:
        z = np.array([cues[cue] for cues in out["emphasis_cues"] if cues[cue] is not None])
        assert abs(z.mean()) < 1e-3
        assert z.std() == pytest.approx(1, abs=1e-3)


def test_the_same_speech_gives_the_same_scores(real_utterance: Any) -> None:
    audio, row = real_utterance
    assert result(Audio(audio.samples[:].copy()), row) == result(audio, row)


def test_words_elsewhere_in_the_recording_do_not_matter(real_utterance: Any) -> None:
    audio, row = real_utterance
    half = {**row, "words": row["words"][:10]}
    assert LEMF.emphasize(audio, [half, row])[0] == result(audio, half)


@pytest.mark.slow
def test_harvest_agrees_on_the_most_prominent_words(real_utterance: Any) -> None:
    swift, harvest = (result(*real_utterance, pitch=name)["emphasis"] for name in ("swift-f0", "harvest"))
    assert np.corrcoef(swift, harvest)[0, 1] > 0.8


def test_unknown_pitch_tracker_is_refused_with_the_settings() -> None:
    with pytest.raises(UsageError, match="harvest"):
        EmphasizeSettings(pitch="dio")


cue_values = some.lists(some.floats(-50, 50), min_size=2, max_size=30)


@given(values=cue_values, factor=some.floats(1, 100), shift=some.floats(-100, 100))
def test_z_scores_ignore_scale_and_shift(values: list[float], factor: float, shift: float) -> None:
    cue = np.array(values)
    z = lemf._z(cue, "energy_z")
    if np.any(z):
        np.testing.assert_allclose(lemf._z(cue * factor + shift, "energy_z"), z, atol=1e-6)
        assert z[np.argmax(cue)] == z.max()
        assert abs(z.mean()) < 1e-6


times = some.floats(-1, 4) | some.sampled_from([0.0, 2.0])


@given(
    words=some.lists(some.tuples(some.text(max_size=8), times, times, some.booleans()), max_size=8),
    sound=some.sampled_from(["silence", "noise", "buzz", "short", "nothing"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_words_over_any_sound(words: list[tuple[str, float, float, bool]], sound: str) -> None:
    t = np.arange(32_000) / 16_000
    samples = {
        "silence": np.zeros(32_000), "noise": np.random.default_rng(0).normal(0, 0.1, 32_000),
        "buzz": np.sign(np.sin(2 * np.pi * 130 * t)) * 0.2, "short": np.ones(100) * 0.1, "nothing": np.zeros(0),
    }[sound].astype(np.float32)  # fmt: skip
    timed = [{"word": w, "start": start, "end": end, "score": None, "aligned": aligned} for w, start, end, aligned in words]
    out = result(Audio(samples), {"start": 0.0, "end": 2.0, "language": "en", "words": timed})
    assert len(out["emphasis"]) == len(out["emphasis_cues"]) == len(words)
    assert all(score is None or np.isfinite(score) for score in out["emphasis"])
