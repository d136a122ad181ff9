"""One contract for every transcriber, on real speech and on audio without any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kit import hearing
from kit.places import QUICKSTART
from msfser_cli.backends import Transcriber, Transcript, text_of
from msfser_cli.backends.registry import backend, names
from msfser_cli.backends.writing import split
from msfser_cli.model_store.models import locate
from msfser_cli.settings import TranscribeSettings
from msfser_cli.store.audio import decode
from msfser_cli.store.levels import levelled

pytestmark = pytest.mark.model

RATE = 16_000
REAL_SPEECH = Path(__file__).parents[3] / "../shared/data/real_speech/audio"
KINDS = ("faster-whisper", "whisperx", "whisperx with an aligner")
JFK = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country"


def recording(name: str) -> np.ndarray:
    path = REAL_SPEECH / f"{name}.flac"
    if not path.exists():
        pytest.skip("the real speech beside the checkout is not here")
    samples: np.ndarray = soundfile.read(path, dtype="float32")[0]
    return samples


def noise(seconds: float, level: float = 0.05, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


SPEECH: dict[str, Callable[[], np.ndarray]] = {
    "a sentence": lambda: recording("jfk"),
    "two sentences and a long pause": lambda: np.concatenate(
        [recording("lj_LJ001-0002"), np.zeros(4 * RATE, np.float32), recording("lj_LJ001-0008")]
    ),
    "longer than a window": lambda: np.concatenate([recording("jfk")] * 3),
    "a voice in noise": lambda: recording("jfk")[: 5 * RATE] + noise(5, 0.02),
    "a third of a second": lambda: recording("jfk")[round(0.4 * RATE) : round(0.73 * RATE)],
}
NO_SPEECH: dict[str, Callable[[], np.ndarray]] = {
    "silence": lambda: np.zeros(3 * RATE, np.float32),
    "noise": lambda: noise(3),
    "a tone": lambda: (0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32),
    "one sample": lambda: np.ones(1, np.float32),
    "a hundredth of a second": lambda: noise(0.01),
}


@pytest.fixture(scope="module", params=[KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def transcriber(request: pytest.FixtureRequest) -> Transcriber:
    name, _, aligned = request.param.partition(" ")
    aligner = request.getfixturevalue("ctc_folder") if aligned else None
    loaded: Transcriber = backend("transcribers", name).load(locate("whisper-base").path, aligner, TranscribeSettings())
    return loaded


@pytest.fixture(scope="module")
def heard(transcriber: Transcriber) -> Callable[[str], Transcript]:
    """The transcript of a kind of speech, made once."""
    return cache(lambda kind: hearing.heard(transcriber, SPEECH[kind](), None))


def check_words(transcript: Transcript, samples: np.ndarray) -> None:
    """Words in order, one after the other, within the audio; a score between 0 and 1, and none for a word without alignment."""
    before = 0.0
    for word in transcript.words:
        assert word.word.strip() == word.word != ""
        assert before <= word.start + 1e-9
        assert word.start <= word.end
        assert word.score is None or 0 <= word.score <= 1
        assert word.aligned or word.score is None
        before = word.end
    assert before <= len(samples) / RATE + 1e-9


def test_every_transcriber_of_ours_keeps_this_contract() -> None:
    assert {kind.partition(" ")[0] for kind in KINDS} == set(names("transcribers"))


@pytest.mark.parametrize("kind", SPEECH)
def test_words_are_in_order_and_within_the_audio(heard: Callable[[str], Transcript], kind: str) -> None:
    transcript = heard(kind)
    check_words(transcript, SPEECH[kind]())
    assert transcript.speech == (transcript.language_probability is not None) == (transcript.language != "und")
    assert 0 <= (transcript.language_probability or 0) <= 1


@pytest.mark.parametrize(("kind", "times"), [("a sentence", 1), ("longer than a window", 3)])
def test_all_that_is_said_is_recognised(heard: Callable[[str], Transcript], kind: str, times: int) -> None:
    said = " ".join(word.word.strip(",.").lower() for word in heard(kind).words)
    assert jiwer.wer(" ".join([JFK.lower()] * times), said) < 0.1
    assert (heard(kind).language, heard(kind).speech) == ("en", True)


def test_a_recording_that_is_not_in_memory_is_read_a_window_at_a_time(transcriber: Transcriber, sparing: type) -> None:
    samples = np.concatenate([recording("lj_LJ001-0002"), noise(40, 1e-4), recording("jfk"), noise(20, 1e-4)])
    assert len(samples) > sparing(samples).LONGEST
    assert hearing.heard(transcriber, sparing(samples), None) == hearing.heard(transcriber, samples, None)
    timed, expected = (hearing.aligned(transcriber, clip, "in being", None) for clip in (sparing(samples), samples))
    assert timed == expected


def test_each_recording_has_its_own_language(transcriber: Transcriber, heard: Callable[[str], Transcript]) -> None:
    english = heard("two sentences and a long pause")
    german = hearing.heard(transcriber, recording("fw_multilingual")[30 * RATE : 40 * RATE], None)
    assert (english.language, german.language) == ("en", "de")
    # and what came before leaves no trace
    assert hearing.heard(transcriber, SPEECH["two sentences and a long pause"](), None) == english


def german() -> np.ndarray:
    return recording("fw_multilingual")[round(30.7 * RATE) : round(41.7 * RATE)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("pause", [0.4, 2.0])
@pytest.mark.parametrize("languages", [("de", "en"), ("en", "de")])
def test_languages_that_follow_one_another_each_have_their_words(
    transcriber: Transcriber, languages: tuple[str, str], pause: float
) -> None:
    said = {"en": recording("jfk"), "de": german()}
    samples = np.concatenate([said[languages[0]], np.zeros(round(pause * RATE), np.float32), said[languages[1]]])
    words = hearing.heard(transcriber, samples, None).words
    first, second = ([w for w in words if w.language == language] for language in languages)
    assert first + second == words
    texts = dict(zip(languages, map(text_of, (first, second)), strict=True))
    assert "country can do for you" in texts["en"]
    assert "Jeden, der diese Software" in texts["de"]
    assert all((w.language_probability or 0) > 0.5 for w in words)


def test_a_part_that_is_judged_wrong_within_its_window_changes_nothing(transcriber: Transcriber) -> None:
    words = hearing.heard(transcriber, recording("libri_2412-153948-0001"), None).words
    assert {w.language for w in words} == {"en"}
    assert text_of(words).endswith("I have been unable to reap any pecuniary advantage.")


def test_a_foreign_word_changes_nothing(transcriber: Transcriber) -> None:
    word = german()[: round(0.9 * RATE)]  # "Jeden"
    samples = np.concatenate([recording("lj_LJ001-0002"), word, recording("jfk")])
    assert {w.language for w in hearing.heard(transcriber, samples, None).words} == {"en"}


def test_a_given_language_is_kept(transcriber: Transcriber) -> None:
    transcript = hearing.heard(transcriber, recording("lj_LJ001-0002"), "de")
    assert (transcript.language, transcript.language_probability) == ("de", None)
    assert hearing.aligned(transcriber, recording("lj_LJ001-0002"), "in being", "de").language == "de"


@pytest.mark.parametrize("language", [None, "de"])
@pytest.mark.parametrize("kind", NO_SPEECH)
def test_where_nobody_speaks_there_are_no_words(transcriber: Transcriber, kind: str, language: str | None) -> None:
    assert hearing.heard(transcriber, NO_SPEECH[kind](), language) == Transcript(language or "und", None, [], [])


def test_what_only_sounds_like_a_voice_gets_no_words(transcriber: Transcriber) -> None:
    audio = levelled(decode(QUICKSTART / "corpus" / "clips" / "tones.wav"))
    transcript = hearing.heard(transcriber, audio.samples, None)
    assert (transcript.words, transcript.speech) == ([], True)


def test_the_same_text_and_audio_give_the_same_times(transcriber: Transcriber) -> None:
    samples = recording("lj_LJ001-0002")
    first = hearing.aligned(transcriber, samples, "in being comparatively modern.", None)
    assert first.language == "en"
    assert hearing.aligned(transcriber, samples.copy(), "in being comparatively modern.", None) == first


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    samples=st.integers(1, 2 * RATE),
    language=st.sampled_from(["en", "de", "zh", "th"]),
)
@example(text="42 “quoted” - dashed – 中文 🙂", samples=RATE, language="en")
@example(text="My mother-in-law paid $120.99 , 20 % more – at 10 o'clock .", samples=RATE, language="en")
@example(text="今日は、とても良い天気ですね。「散歩」に行きませんか？", samples=RATE, language="ja")
@example(text="two  blanks\nand\u3000lines", samples=RATE, language="en")
@example(text="<|endoftext|> hello <|en|> | <pad>", samples=RATE, language="en")
@example(text="so many words " * 200, samples=RATE, language="en")
@example(text="over thirty seconds", samples=31 * RATE, language="en")
def test_a_given_text_keeps_its_words(transcriber: Transcriber, text: str, samples: int, language: str) -> None:
    audio = noise(samples / RATE, seed=samples)
    transcript = hearing.aligned(transcriber, audio, text, language)
    assert [(word.blank, word.word) for word in transcript.words] == split(text)
    check_words(transcript, audio)


QUIET_AND_OFFLINE = """
import json, sys
from pathlib import Path

attempts = []

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        attempts.append(f"{event} {args[1:]}")
        raise OSError("the network is off")

sys.addaudithook(watch)
folder, aligner, audio, *kinds = sys.argv[1:]

import numpy as np
from msfser_cli.backends.writing import split
from msfser_cli.backends.registry import backend
from msfser_cli.settings import TranscribeSettings

samples = np.load(audio)
heard = {}
for kind in kinds:
    name, _, aligned = kind.partition(" ")
    transcriber = backend("transcribers", name).load(Path(folder), Path(aligner) if aligned else None, TranscribeSettings())
    text = [w.word for w in transcriber.transcribe([samples], [None])[0].words]
    heard[kind] = [text, len(transcriber.align([samples], ["and so my fellow Americans"], [None])[0].words)]
from pyannote.audio.telemetry.metrics import is_metrics_enabled

print(json.dumps({"attempts": attempts, "heard": heard, "reports": is_metrics_enabled()}))
"""


@pytest.mark.slow
def test_nothing_is_asked_of_the_network_and_nothing_is_printed(ctc_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", recording("jfk")[: 3 * RATE])
    # Whoever runs msfser as a library may have none of the variables that the command line sets, or the opposite of them.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment["PYANNOTE_METRICS_ENABLED"] = "1"
    arguments = [str(locate("whisper-base").path), str(ctc_folder), str(tmp_path / "audio.npy"), *KINDS]
    done = subprocess.run(
        [sys.executable, "-c", QUIET_AND_OFFLINE, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    said = ["and", "so", "my", "fellow", "americans"]
    result = json.loads(done.stdout)
    assert {kind: ([w.strip(",.").lower() for w in words], n) for kind, (words, n) in result["heard"].items()} == dict.fromkeys(
        KINDS, (said, 5)
    )
    assert result["attempts"] == []
    assert not result["reports"]
    assert done.stderr == ""
