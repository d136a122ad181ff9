from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from kit.hearing import OneByOne
from kit.working import rows_of
from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.diarization import Turn
from msfser_cli.backends.transcribers import faster_whisper
from msfser_cli.errors import RecordingError
from msfser_cli.model_store.models import locate
from msfser_cli.settings import TranscribeSettings
from msfser_cli.stages.transcribe import _total, joined, speaker_of, transcribe, utterances
from msfser_cli.stages.work import Segment
from msfser_cli.store.audio import Audio, Samples, decode

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


@pytest.mark.parametrize(("language", "text", "cut"), [
    ("en", "It is 50% off, Dr. O'Neil's dog said.", 1),
    ("en", "We met at the office of (Mrs. Brown) again.", 1),
    ("en", "She works from 9 a.m. to ten every day.", 1),
    ("en", "Well, I think... that is what he said.", 1),
    ("en", "It was in August of 1984. Then we left.", 2),
    ("en", "There were as many as 3. Then we left.", 2),
    ("en", "Did he say that? yes he really did say.", 2),
    ("de", "Die E-Mail kam am 3. Dezember bei uns an.", 1),
    ("de", "Das war im Jahr 1984. Dann gingen wir weg.", 2),
    ("de", "Das sind z.B. Hunde und auch viele Katzen.", 1),
])  # fmt: skip
def test_a_full_stop_of_an_abbreviation_or_an_ordinal_ends_no_sentence(language: str, text: str, cut: int) -> None:
    assert len(texts([replace(word, language=language) for word in evenly(text)])) == cut


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


@pytest.mark.process
def test_real_speech_becomes_utterances_in_its_own_language(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    rows = rows_of(transcribe, audio, (), whisper, SETTINGS)
    assert [r["utterance_id"] for r in rows] == [f"x#{i:04d}" for i in range(len(rows))]
    assert " ".join(r["text"] for r in rows).lower().startswith("and so my fellow americans")
    assert {r["language"] for r in rows} == {"en"}
    assert len(rows) > 1
    assert all(0 <= r["start"] < r["end"] <= audio.duration for r in rows)
    assert rows == rows_of(transcribe, audio, (), whisper, SETTINGS)


@pytest.mark.process
def test_a_file_can_be_one_utterance(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    (row,) = rows_of(transcribe, audio, (), whisper, TranscribeSettings(unit="file"))
    assert (row["start"], row["end"]) == (0.0, round(audio.duration, 3))


@pytest.mark.process
def test_a_manifests_times_text_speaker_and_language_are_kept(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    segments = (
        Segment(start=7.9, end=10.5, speaker="JFK"),
        Segment(start=0.0, end=2.3, text="And so, my fellow Americans,", language="en", speaker="JFK"),
    )
    first, second = rows_of(transcribe, audio, (), whisper, SETTINGS, segments=segments)
    assert first["text"] == "And so, my fellow Americans,"
    assert [w["word"] for w in first["words"]] == ["And", "so,", "my", "fellow", "Americans,"]
    assert all(w["aligned"] and 0 <= w["start"] <= w["end"] <= 2.3 for w in first["words"])
    assert first["language_probability"] is None
    assert (second["start"], second["end"], second["speaker"]) == (7.9, 10.5, "JFK")
    assert second["text"].lower().startswith("ask what you can do")
    assert all(7.9 <= w["start"] <= w["end"] <= 10.5 for w in second["words"])


@pytest.mark.process
def test_a_speaker_without_times_is_the_speaker_of_every_utterance(whisper: faster_whisper.FasterWhisper) -> None:
    rows = rows_of(transcribe, speech("jfk"), (), whisper, SETTINGS, segments=(Segment(speaker="JFK"),))
    assert len(rows) > 1
    assert {r["speaker"] for r in rows} == {"JFK"}


@pytest.mark.model
@pytest.mark.parametrize("segment", [Segment(5.0, 4.0), Segment(0.0, 99.0), Segment(99.0, None), Segment(3.0, 3.0)])
def test_times_that_do_not_fit_are_a_reason(whisper: faster_whisper.FasterWhisper, segment: Segment) -> None:
    with pytest.raises(RecordingError, match="bad_segment"):
        rows_of(transcribe, Audio(np.zeros(16000 * 10, np.float32)), (), whisper, SETTINGS, segments=(segment,))


@pytest.mark.model
def test_a_segment_that_does_not_fit_is_left_out_and_noted(whisper: faster_whisper.FasterWhisper) -> None:
    audio = speech("jfk")
    segments = (Segment(0.0, 2.3, place="line 2"), Segment(8.0, 40.0, place="line 3"), Segment(7.9, 10.5, place="line 4"),
                Segment(99.0, None, place="line 5"), Segment(8.0, audio.duration + 0.05, place="line 6"))  # fmt: skip
    rows = rows_of(transcribe, audio, (), whisper, SETTINGS, segments=segments)
    assert [(row["start"], row["end"]) for row in rows] == [(0.0, 2.3), (7.9, 10.5), (8.0, round(audio.duration, 3))]
    assert audio.incomplete == "bad_segment"
    assert audio.notes[1:] == [
        f"2 of 5 segments do not fit the recording of {audio.duration:.3f} s (line 3: 8 s to 40 s, line 5: 99 s to its end) and "
        "are left out"
    ]


@pytest.mark.model
@pytest.mark.parametrize("unit", ["utterance", "file"])
def test_where_nobody_speaks_there_are_no_utterances(whisper: faster_whisper.FasterWhisper, unit: str) -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(16000 * 5).astype(np.float32)
    assert rows_of(transcribe, Audio(noise), (), whisper, TranscribeSettings(unit=unit)) == []


class Bilingual(OneByOne):
    """Three words of German, then three of English without any pause."""

    def hear(self, samples: Samples, language: str | None) -> Transcript:
        said = [("de", 0.9), ("de", 0.8), ("de", 0.7), ("en", 0.6), ("en", 0.6), ("en", 0.6)]
        words = evenly("w0 w1 w2 w3 w4 w5", pace=0.3)
        words = [replace(w, language=code, language_probability=p) for w, (code, p) in zip(words, said, strict=True)]
        return Transcript("en", 0.6, words)

    def time(self, samples: Samples, text: str, language: str | None) -> Transcript:
        return Transcript("fr", 0.5, [Word("oui", 0.0, 0.5, 1.0)])


def test_an_utterance_is_in_one_language_and_a_row_says_which() -> None:
    audio = Audio(np.zeros(32_000, np.float32))
    of = ("text", "language", "language_probability")
    rows = rows_of(transcribe, audio, (), Bilingual(), SETTINGS)
    assert [tuple(row[c] for c in of) for row in rows] == [("w0 w1 w2", "de", 0.8), ("w3 w4 w5", "en", 0.6)]
    [row] = rows_of(transcribe, audio, (), Bilingual(), SETTINGS, segments=(Segment(0.0, 2.0),))
    assert tuple(row[c] for c in of) == ("w0 w1 w2 w3 w4 w5", "de", 0.8)
    [row] = rows_of(transcribe, audio, (), Bilingual(), SETTINGS, segments=(Segment(text="oui"),))
    assert tuple(row[c] for c in of) == ("oui", "fr", 0.5)


# Who speaks

NAMES = ["A", "B", "C"]


@st.composite
def conversation(draw: st.DrawFn) -> tuple[list[Turn], list[Word]]:
    """Turns in order, and words in order, whatever the one has to do with the other."""
    turns, now = [], 0.0
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=8)):
        start = now + draw(st.sampled_from([0.0, 0.1, 2.0]))
        now = start + draw(st.floats(0.05, 6))
        turns.append(Turn(start, now, name))
    words, now = [], 0.0
    for text, gap, length in draw(st.lists(STEP, min_size=1, max_size=40)):
        words.append(Word(text, now + gap, now + gap + length, 1.0))
        now += gap + length
    return turns, words


@given(conversation())
def test_a_word_is_of_whom_is_heard_most_in_it_else_of_the_nearest(spoken: tuple[list[Turn], list[Word]]) -> None:
    turns, words = spoken
    for word in words:
        heard = dict.fromkeys(NAMES, 0.0)
        for turn in turns:
            heard[turn.speaker] += max(0.0, min(word.end, turn.end) - max(word.start, turn.start))
        speaker = speaker_of(word.start, word.end, turns)
        if not turns:
            assert speaker is None
        elif any(heard.values()):
            assert heard[speaker or ""] == pytest.approx(max(heard.values()))
        else:
            distance = {n: [max(t.start - word.end, word.start - t.end) for t in turns if t.speaker == n] for n in NAMES}
            assert min(distance[speaker or ""]) == pytest.approx(min(min(d) for d in distance.values() if d))


@given(conversation())
def test_an_utterance_has_one_speaker_and_no_word_is_lost(spoken: tuple[list[Turn], list[Word]]) -> None:
    turns, words = spoken
    words = [replace(w, speaker=speaker_of(w.start, w.end, turns)) for w in words]
    cut = utterances(words, 0.0, words[-1].end + 1, SETTINGS)
    assert [w for group, _, _ in cut for w in group] == words
    for group, start, end in cut:
        assert len({w.speaker for w in group}) == 1
        assert start <= group[0].start + 0.001
        assert group[-1].end <= end + 0.001
    for (_, _, end), (_, start, _) in pairwise(cut):
        assert end <= start


class Two:
    """Hears A for three seconds, then B for two, then A again; counts how often it was asked."""

    asked = 0

    def turns(self, samples: Samples) -> list[Turn]:
        self.asked += 1
        end = len(samples) / 16_000
        return [Turn(0.0, 3.0, "SPEAKER_00"), Turn(3.0, 5.0, "SPEAKER_01"), Turn(5.0, end, "SPEAKER_00")]


class Seconds(OneByOne):
    """A word a second, and no stop."""

    def hear(self, samples: Samples, language: str | None) -> Transcript:
        words = [Word(f"w{i}", i + 0.0, i + 0.95, 1.0) for i in range(len(samples) // 16_000)]
        return Transcript("en", None, words, [(w.start, w.end) for w in words])

    def time(self, samples: Samples, text: str, language: str | None) -> Transcript:
        raise AssertionError


def spoken_by(segments: list[Segment], unit: str = "utterance", seconds: int = 8) -> tuple[list[tuple[str | None, str]], int]:
    diarizer, audio = Two(), Audio(np.zeros(seconds * 16_000, np.float32))
    rows = rows_of(transcribe, audio, (), Seconds(), TranscribeSettings(unit=unit), diarizer, segments=segments)  # type: ignore[arg-type]
    return [(row["speaker"], row["text"]) for row in rows], diarizer.asked


def test_utterances_end_where_another_speaks() -> None:
    assert spoken_by([]) == ([("SPEAKER_00", "w0 w1 w2"), ("SPEAKER_01", "w3 w4"), ("SPEAKER_00", "w5 w6 w7")], 1)


def test_what_a_manifest_says_of_a_speaker_stands() -> None:
    assert spoken_by([Segment(speaker="Ann")]) == ([("Ann", "w0 w1 w2 w3 w4 w5 w6 w7")], 0)
    named, asked = spoken_by([Segment(0.0, 3.0), Segment(2.5, 5.5), Segment(3.0, 5.0, speaker="Bob")])
    assert [speaker for speaker, _ in named] == ["SPEAKER_00", "SPEAKER_01", "Bob"]
    assert asked == 1
    assert spoken_by([], "file") == ([("SPEAKER_00", "w0 w1 w2 w3 w4 w5 w6 w7")], 1)


def test_nobody_is_told_apart_where_nobody_speaks() -> None:
    assert spoken_by([], seconds=0) == ([], 0)
    diarizer = Two()
    noise = Audio(np.zeros(8_000, np.float32))
    assert rows_of(transcribe, noise, (), Seconds(), SETTINGS, diarizer) == []  # type: ignore[arg-type]
    assert diarizer.asked == 0


def row(start: float, text: str, *, words: int = 1, speaker: str | None = None, score: float | None = 0.5) -> dict[str, object]:
    timed = [{"word": "w", "start": start, "end": start + 1, "score": score, "aligned": True}] * words
    return {"start": start, "end": start + 1.0, "speaker": speaker, "channel": None, "text": text, "words": timed}


def test_rows_of_channels_are_rows_of_the_recording() -> None:
    found = joined("r", (), {0: [row(0.0, "a"), row(2.0, "c", speaker="SPEAKER_00")], 1: [row(1.0, "b"), row(2.0, "d")]})
    assert [(r["utterance_id"], r["text"], r["channel"], r["speaker"]) for r in found] == [
        ("r#0000", "a", 0, "CHANNEL_0"), ("r#0001", "b", 1, "CHANNEL_1"), ("r#0002", "c", 0, "CHANNEL_0_SPEAKER_00"),
        ("r#0003", "d", 1, "CHANNEL_1"),
    ]  # fmt: skip


def test_a_single_channel_says_nothing_of_its_speaker() -> None:
    [found] = joined("r", (), {1: [row(0.0, "a")]})
    assert (found["channel"], found["speaker"]) == (1, None)
    [found] = joined("r", (), {None: [row(0.0, "a")]})
    assert found["channel"] is None


def test_what_a_manifest_marks_off_is_a_row_of_the_channels_that_speak_in_it() -> None:
    segments = (Segment(0, 1, speaker="Ann"), Segment(1, 2), Segment(2, 3, text="given"))
    found = joined("r", segments, {
        0: [row(0.0, "a", speaker="Ann"), row(1.0, "", words=0), row(2.0, "given", score=0.2)],
        1: [row(0.0, "", words=0, speaker="Ann"), row(1.0, "", words=0), row(2.0, "given", score=0.9)],
    })  # fmt: skip
    assert [(r["start"], r["channel"], r["speaker"]) for r in found] == [(0, 0, "Ann"), (1, 0, "CHANNEL_0"), (2, 1, "CHANNEL_1")]


class Mumbles(OneByOne):
    """A voice from start to end, and one word at the start."""

    def hear(self, samples: Samples, language: str | None) -> Transcript:
        return Transcript("en", None, [Word("um", 0.0, 0.5, 1.0)], [(0.0, len(samples) / 16_000)])

    def time(self, samples: Samples, text: str, language: str | None) -> Transcript:
        return Transcript("en", None, [Word(text, 0.0, 0.5, 1.0)])


def test_speech_is_counted_once_at_the_times_of_its_segments() -> None:
    segments = (Segment(2, 6), Segment(5, 10), Segment(12, 13))
    audio = Audio(np.ones(20 * 16_000, np.float32))
    rows_of(transcribe, audio, (), Mumbles(), TranscribeSettings(), segments=segments)
    assert (audio.speech_seconds, audio.transcribed_seconds) == (9.0, 5.0)  # 1 s around the words at 2, 5 and 12 s
    audio = Audio(np.ones(20 * 16_000, np.float32))
    rows_of(transcribe, audio, (), Mumbles(), TranscribeSettings(), segments=(*segments, Segment(14, 15, "given")))
    assert (audio.speech_seconds, audio.transcribed_seconds) == (None, None)


def test_the_speech_of_several_channels_is_their_sum() -> None:
    assert _total([1.5, 2.0]) == 3.5
    assert _total([1.5, None]) is None


def test_segments_at_the_same_times_are_rows_of_their_own() -> None:
    segments = (Segment(0, 1, text="yes "), Segment(0, 1, text="no"), Segment(0, 1, speaker="Ann"), Segment(0, 1, speaker="Ben"))
    found = joined("r", segments, {
        channel: [row(0.0, "yes", score=0.9 - channel), row(0.0, "no", score=0.1 + channel / 2), row(0.0, "a", speaker="Ann"),
                  row(0.0, "", words=0, speaker="Ben")]
        for channel in (0, 1)
    })  # fmt: skip
    assert [(r["text"], r["channel"], r["speaker"]) for r in found] == [
        ("yes", 0, "CHANNEL_0"), ("no", 1, "CHANNEL_1"), ("a", 0, "Ann"), ("a", 1, "Ann"), ("", 0, "Ben"),
    ]  # fmt: skip


UNHEARD: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "an offset of .05": lambda x, t: 0.1 * x + 0.05, "of .2": lambda x, t: 0.1 * x + 0.2, "of .5": lambda x, t: 0.25 * x + 0.5,
    "a step": lambda x, t: 0.1 * x + np.where(t > 5, 0.2, 0.0), "30 Hz": lambda x, t: 0.1 * x + 0.3 * np.sin(60 * np.pi * t),
    "10 Hz": lambda x, t: 0.1 * x + 0.3 * np.sin(20 * np.pi * t), "52 dB down": lambda x, t: 0.0025 * x,
    "20 dB up": lambda x, t: 10 * x,
}  # fmt: skip


@pytest.mark.one_in(3)
@pytest.mark.process
@pytest.mark.parametrize("change", UNHEARD.values(), ids=UNHEARD)
def test_what_no_one_hears_changes_no_word(
    whisper: faster_whisper.FasterWhisper, tmp_path: Path, change: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    samples = speech("jfk").samples[:]
    sf.write(tmp_path / "a.wav", change(samples, np.arange(len(samples)) / 16_000), 16_000, subtype="FLOAT")
    rows, expected = (rows_of(transcribe, audio, (), whisper, SETTINGS) for audio in (decode(tmp_path / "a.wav"), speech("jfk")))
    assert [row["text"] for row in rows] == [row["text"] for row in expected]
    assert [row["start"] for row in rows] == pytest.approx([row["start"] for row in expected], abs=0.1)
