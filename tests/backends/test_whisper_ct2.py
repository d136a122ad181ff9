"""Whisper's word times and language, on the real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from msfser_cli.backends.voice_activity import speech_regions, windows
from msfser_cli.backends.whisper_ct2 import MAX_TOKENS, Whisper, load_whisper, padded_frames
from msfser_cli.profiles.models import locate

pytestmark = pytest.mark.model

JFK = Path(__file__).parents[2] / "../shared/data/real_speech/audio/jfk.flac"


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return load_whisper(locate("whisper-base").path)


def test_a_decoder_caught_in_a_loop_is_timed_as_far_as_it_can_be_read(whisper: Whisper) -> None:
    features = whisper.features(np.zeros(16_000, np.float32))
    again, once = (whisper.tokenizer("en").encode(text) for text in (" again" * 448, " once"))
    timed = whisper.word_times(whisper.encode([features] * 2, 1000), [again, once], [100, 100], "en")
    assert [len(words) for words in timed] == [MAX_TOKENS, 1]


def test_the_language_of_a_recording_is_detected(whisper: Whisper) -> None:
    if not JFK.exists():
        pytest.skip("the real speech beside the checkout is not here")
    language, probability = whisper.detect(soundfile.read(JFK, dtype="float32")[0])
    assert language == "en"
    assert 0.9 < probability <= 1


def test_a_sentence_that_fills_its_window_is_decoded_once(whisper: Whisper) -> None:
    if not JFK.exists():
        pytest.skip("the real speech beside the checkout is not here")
    samples = soundfile.read(JFK, dtype="float32")[0]
    ((start, end),) = windows(speech_regions(samples, longest=30.0), longest=30.0)
    features = whisper.features(samples[round(start * 16_000) : round(end * 16_000)])
    assert features.shape[1] > 1000
    (decoded,) = whisper.decode(whisper.encode([features], padded_frames([features])), 1, "en", beam_size=5)
    assert whisper.tokenizer("en").decode(decoded.tokens).lower().count("ask what you can do for your country") == 1
