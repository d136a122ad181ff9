"""Whisper's word times and language, on the real model."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from msfser_cli.backends import text_of, writing
from msfser_cli.backends.voice_activity import speech_regions, windows
from msfser_cli.backends.whisper_ct2 import MAX_TOKENS, Whisper, load_whisper
from msfser_cli.model_store.models import locate

pytestmark = pytest.mark.model

JFK = Path(__file__).parents[2] / "../shared/data/real_speech/audio/jfk.flac"


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return load_whisper(locate("whisper-base").path, "auto")


def test_a_decoder_caught_in_a_loop_is_timed_as_far_as_it_can_be_read(whisper: Whisper) -> None:
    features = whisper.features([np.zeros(16_000, np.float32)])
    again, once = (whisper.tokenizer("en").encode(text) for text in (" again" * 448, " once"))
    timed = whisper.word_times(whisper.encode(features * 2), [again, once], "en")
    assert [len(words) for words in timed] == [MAX_TOKENS, 1]


TEXTS = {
    "en": "My mother-in-law paid $120.99 – 3.5 percent, 20% more – at 10 o'clock. Visit www.example.com or call 800-555-0199!",
    "it": "Un'altra volta c'era l'acqua nell'isola.",
    "fr": "Est-ce que vous ramez-vous ? C'est l'un de l'école, peut-être.",
    "de": "Die E-Mail kam am 3. Dezember, 3,5 % mehr.",
    "ru": "Он сказал: «всё-таки нет», и ушёл в 20 %.",
    "el": "Τι είναι αυτό; «Ναι», είπε.",
    "hi": "वह कल नहीं आया था, क्योंकि ३.५ प्रतिशत...",
    "ar": "لماذا لم يأتِ أمس؟",
    "ko": "어제 왜 안 왔어요? 3.5%입니다.",
    "zh": "我们不知道他昨天为什么没有来北京大学。𠮷野家的价格是3.5%！",
    "ja": "今日は、とても良い天気ですね。「散歩」に行きませんか？🙂",
    "th": "ฉันไม่รู้ว่าเขาไปไหนเมื่อวานนี้ครับ",
    "my": "ကျွန်တော်မသိပါဘူး",
    "km": "ខ្ញុំមិនដឹងថាគាត់ទៅណាទេ",
}


@pytest.mark.parametrize("language", TEXTS)
def test_words_are_those_of_the_text_whatever_its_tokens_are(whisper: Whisper, language: str) -> None:
    """Tokens cut through words and, outside of the Latin alphabet, through single characters."""
    tokenizer = whisper.tokenizer(language)
    tokens = tokenizer.encode(" " + TEXTS[language])
    features = whisper.features([0.01 * np.random.default_rng(0).standard_normal(8 * 16_000).astype(np.float32)])
    [words] = whisper.word_times(whisper.encode(features), [tokens], language)
    assert [(w.blank, w.word) for w in words] == writing.split(tokenizer.decode(tokens))
    assert text_of(words) == TEXTS[language]
    assert all(0 <= w.start <= w.end <= 8 for w in words)
    assert all(a.start <= b.start for a, b in pairwise(words))


def test_a_character_that_was_never_finished_tears_nothing_else(whisper: Whisper) -> None:
    tokenizer = whisper.tokenizer("zh")
    broken = tokenizer.encode("北京𠮷")[:-1] + tokenizer.encode(" one two")
    features = whisper.features([np.zeros(16_000, np.float32)])
    [words] = whisper.word_times(whisper.encode(features), [broken], "zh")
    assert text_of(words) == tokenizer.decode(broken).strip()
    assert [w.word for w in words][-2:] == ["one", "two"]


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
    features = whisper.features([samples[round(start * 16_000) : round(end * 16_000)]])
    assert features[0].shape[1] > 1000
    (decoded,) = whisper.decode(whisper.encode(features), ["en"], beam_size=5)
    assert whisper.tokenizer("en").decode(decoded.tokens).lower().count("ask what you can do for your country") == 1


@pytest.mark.parametrize("compute_type", ["int8", "float32"])
def test_the_number_of_batches_at_once_changes_no_bit(compute_type: str) -> None:
    if not JFK.exists():
        pytest.skip("the real speech beside the checkout is not here")
    samples = soundfile.read(JFK, dtype="float32")[0]
    pieces = [samples[start * 16_000 : (start + length) * 16_000] for start, length in ((0, 8), (1, 7), (0, 3), (2, 8), (3, 7))]

    def heard(at_once: int) -> tuple[list[bytes], object, object]:
        whisper = Whisper(locate("whisper-base").path, compute_type, at_once)
        encoded = whisper.encode(whisper.features(pieces))
        decoded = whisper.decode(encoded, ["en", "de", "en", "fr", "en"], beam_size=5)
        times = whisper.word_times(encoded, [item.tokens for item in decoded], "en")
        return [item.states.tobytes() for item in encoded], decoded, times

    first, *others = (heard(at_once) for at_once in (1, 2, 5))
    assert all(other == first for other in others)
