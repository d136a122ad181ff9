from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.backends import Word
from msfser_cli.backends.transcribers import faster_whisper
from msfser_cli.errors import RecordingError
from msfser_cli.profiles.models import locate
from msfser_cli.settings import TranscribeSettings
from msfser_cli.stages.transcribe import Segment, transcribe, utterances
from msfser_cli.store.audio import Audio, decode

SPEECH = Path(__file__).parents[3] / "shared" / "data" / "real_speech" / "audio"
SETTINGS = TranscribeSettings()


def spoken(*timed: tuple[str, float, float]) -> list[Word]:
    return [Word(word, start, end, 1.0) for word, start, end in timed]


def texts(words: list[Word], **settings: float) -> list[str]:
    cut = utterances(words, 0.0, words[-1].end + 1, TranscribeSettings(**settings))  # type: ignore[arg-type]
    return [" ".join(w.word for w in group) for group, _, _ in cut]


def evenly(text: str, pace: float = 0.4) -> list[Word]:
    return [Word(word, i * pace, (i + 1) * pace, 1.0) for i, word in enumerate(text.split())]


def test_a_pause_and_a_sentence_end_cut() -> None:
    words = spoken(("He", 0, 0.5), ("came", 0.5, 1.2), ("late.", 1.2, 2.0), ("She", 2.1, 2.6), ("waited", 2.6, 3.6),
                   ("and", 4.5, 5.0), ("waited", 5.0, 6.0))  # fmt: skip
    assert texts(words) == ["He came late.", "She waited", "and waited"]
    assert texts(words, pause=1.0) == ["He came late.", "She waited and waited"]


def test_a_closing_quote_does_not_hide_a_sentence_end() -> None:
    assert texts(evenly('He said "never again." Then he left us.')) == ['He said "never again."', "Then he left us."]


def test_a_short_utterance_joins_its_nearer_neighbour_unless_it_stands_alone() -> None:
    words = spoken(("Well.", 0, 0.4), ("I", 0.5, 0.9), ("know", 0.9, 1.5), ("that.", 1.5, 2.0), ("No.", 5.0, 5.4))
    assert texts(words) == ["Well. I know that.", "No."]


def test_a_long_stretch_is_cut_at_its_longest_pause_a_clause_end_counting() -> None:
    words = evenly(" ".join(f"w{i}" for i in range(40)))  # 16 s without a stop
    words[22:] = [Word(w.word, w.start + 0.1, w.end + 0.1, 1.0) for w in words[22:]]
    assert [len(t.split()) for t in texts(words)] == [22, 18]
    words[15] = Word("w15,", words[15].start, words[15].end, 1.0)
    assert [len(t.split()) for t in texts(words)] == [16, 24]


STEP = st.tuples(st.sampled_from(["a", "word", "end.", "so,", "no!", "…"]), st.floats(0, 1.5), st.floats(0.01, 3.0))
Steps = list[tuple[str, float, float]]


@given(steps=st.lists(STEP, min_size=1, max_size=60), longest=st.floats(3.0, 15.0), pause=st.floats(0.2, 1.0))
def test_utterances_keep_every_word_whole_and_in_order(steps: Steps, longest: float, pause: float) -> None:
    words, now = [], 0.0
    for text, gap, length in steps:
        words.append(Word(text, now + gap, now + gap + length, 1.0))
        now += gap + length
    settings = TranscribeSettings(max_utterance=longest, pause=pause)
    cut = utterances(words, 0.0, now, settings)
    assert [w for group, _, _ in cut for w in group] == words
    edges = [0.0]
    for group, start, end in cut:
        assert start <= round(group[0].start, 3) + 1e-9
        assert round(group[-1].end, 3) <= end + 1e-9
        assert group[-1].end - group[0].start <= longest or len(group) == 1
        edges += [start, end]
    assert all(a <= b + 2e-3 for a, b in pairwise(edges))
    assert edges[-1] <= now + 1e-3


@pytest.fixture(scope="module")
def whisper() -> faster_whisper.FasterWhisper:
    return faster_whisper.load(locate("whisper-base").path, None, SETTINGS)


def speech(name: str) -> Audio:
    path = SPEECH / f"{name}.flac"
    if not path.exists():
        pytest.skip(f"no real speech at {path}")
    return decode(path)


def test_real_speech_becomes_utterances_in_its_own_language(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    rows = transcribe("a/jfk.flac", audio, (), whisper, SETTINGS)
    assert [r["utterance_id"] for r in rows] == [f"a/jfk.flac#{i:04d}" for i in range(len(rows))]
    assert " ".join(r["text"] for r in rows).lower().startswith("and so my fellow americans")
    assert {r["language"] for r in rows} == {"en"}
    assert len(rows) > 1
    assert all(0 <= r["start"] < r["end"] <= audio.duration for r in rows)
    assert rows == transcribe("a/jfk.flac", audio, (), whisper, SETTINGS)


def test_a_file_can_be_one_utterance(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    (row,) = transcribe("jfk", audio, (), whisper, TranscribeSettings(unit="file"))
    assert (row["start"], row["end"]) == (0.0, round(audio.duration, 3))


def test_a_manifests_times_text_speaker_and_language_are_kept(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    segments = (
        Segment(start=7.9, end=10.5, speaker="JFK"),
        Segment(start=0.0, end=2.3, text="And so, my fellow Americans,", language="en", speaker="JFK"),
    )
    first, second = transcribe("jfk", audio, segments, whisper, SETTINGS)
    assert first["text"] == "And so, my fellow Americans,"
    assert [w["word"] for w in first["words"]] == ["And", "so,", "my", "fellow", "Americans,"]
    assert all(w["aligned"] and 0 <= w["start"] <= w["end"] <= 2.3 for w in first["words"])
    assert first["language_probability"] is None
    assert (second["start"], second["end"], second["speaker"]) == (7.9, 10.5, "JFK")
    assert second["text"].lower().startswith("ask what you can do")
    assert all(7.9 <= w["start"] <= w["end"] <= 10.5 for w in second["words"])


def test_a_speaker_without_times_is_the_speaker_of_every_utterance(whisper: faster_whisper.FasterWhisper) -> None:
    rows = transcribe("jfk", speech("jfk"), (Segment(speaker="JFK"),), whisper, SETTINGS)
    assert len(rows) > 1
    assert {r["speaker"] for r in rows} == {"JFK"}


@pytest.mark.parametrize("segment", [Segment(5.0, 4.0), Segment(0.0, 99.0), Segment(99.0, None), Segment(3.0, 3.0)])
def test_times_that_do_not_fit_are_a_reason(whisper: faster_whisper.FasterWhisper, segment: Segment) -> None:
    with pytest.raises(RecordingError, match="bad_segment"):
        transcribe("x", Audio(np.zeros(16000 * 10, np.float32)), (segment,), whisper, SETTINGS)


@pytest.mark.parametrize("unit", ["utterance", "file"])
def test_where_nobody_speaks_there_are_no_utterances(whisper: faster_whisper.FasterWhisper, unit: str) -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(16000 * 5).astype(np.float32)
    assert transcribe("x", Audio(noise), (), whisper, TranscribeSettings(unit=unit)) == []
