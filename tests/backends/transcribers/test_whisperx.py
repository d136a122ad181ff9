"""whisperX: forced alignment on a CTC model that hears pips, and weights that are loaded once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kit.hearing import aligned, heard
from msfser_cli.backends.transcribers import whisperx
from msfser_cli.backends.whisper_ct2 import load_whisper
from msfser_cli.backends.writing import split
from msfser_cli.errors import ModelError
from msfser_cli.model_store.models import locate
from msfser_cli.settings import TranscribeSettings
from msfser_cli.store.audio import decode

pytestmark = pytest.mark.model

RATE = 16_000
STEP = 0.12
"""Seconds from one letter's pip to the next's, in the audio that `spell` writes."""
Spell = Callable[[list[tuple[str, float]], float], np.ndarray]


@pytest.fixture(scope="module")
def aligning(ctc_folder: Path) -> whisperx.WhisperX:
    return whisperx.load(locate("whisper-base").path, ctc_folder, TranscribeSettings())


def test_words_are_where_they_sound(aligning: whisperx.WhisperX, spell: Spell) -> None:
    spoken = [("what", 0.5), ("a", 1.4), ("lovely", 2.0), ("day", 3.1)]
    words = aligned(aligning, spell(spoken, 4.0), "What a “lovely” day?", "en").words
    assert [w.word for w in words] == ["What", "a", "“lovely”", "day?"]
    for word, (letters, start) in zip(words, spoken, strict=True):
        assert abs(word.start - start) < 0.06
        assert word.end > start + STEP * (len(letters) - 1)
        assert word.aligned
        assert (word.score or 0) > 0.3


def test_a_word_without_known_letters_lies_between_its_neighbours_and_says_so(aligning: whisperx.WhisperX, spell: Spell) -> None:
    spoken = [("about", 0.5), ("xq", 1.6), ("days", 2.5)]
    # There are no rules for numbers in Basque.
    about, number, days = aligned(aligning, spell(spoken, 3.5), "about 42 days", "eu").words
    assert [w.aligned for w in (about, number, days)] == [True, False, True]
    assert number.score is None
    assert about.end <= number.start <= number.end <= days.start
    assert abs(days.start - 2.5) < 0.06


def test_a_text_that_does_not_fit_is_spread_over_the_audio(aligning: whisperx.WhisperX) -> None:
    words = aligned(aligning, np.zeros(RATE // 2, np.float32), "far too many letters for half a second of audio", "en").words
    assert not any(w.aligned for w in words)
    assert all(w.score is None for w in words)
    assert words[0].start == 0
    assert words[-1].end == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("about 42 days", "en", ["about", "forty two", "days"]),
        ("In 1984 – he", "en", ["in", "nineteen eighty four", "he"]),
        ("paid $5.50, (20 %)", "en", ["paid", "five dollars fifty", "twenty percent"]),
        ("the 3rd", "en", ["the", "third"]),
        ("um 12 Uhr", "de", ["um", "zwolf", "uhr"]),
        ("été déjà", "fr", ["ete", "deja"]),
        ("Straße don’t", "de", ["strasse", "don't"]),
    ],
)
def test_numbers_and_accents_are_found_as_they_are_said(
    aligning: whisperx.WhisperX, spell: Spell, text: str, language: str, said: list[str]
) -> None:
    spoken: list[tuple[str, float]] = []
    times: list[tuple[float, float]] = []
    now = 0.5
    for words in said:
        begun = now
        for word in words.split():
            spoken.append((word, now))
            end = now + STEP * len(word)
            now = end + 0.1
        times.append((begun, end))
        now += 0.4
    found = aligned(aligning, spell(spoken, now + 0.5), text, language).words
    assert [w.word for w in found] == [word for _, word in split(text)]
    assert all(w.aligned for w in found)
    for word, (start, end) in zip(found, times, strict=True):
        assert abs(word.start - start) < 0.06
        assert abs(word.end - end) < 0.35  # a pip may last into the pause
        assert (word.score or 0) > 0.3


def test_the_words_of_real_speech_with_numbers_are_all_aligned(aligning: whisperx.WhisperX, shared_data: Path) -> None:
    """With a model that hears pips no time is right, but every word has one, in order."""
    samples = decode(shared_data / "real_speech" / "audio" / "lj_LJ001-0007.flac").samples
    text = 'the earliest book printed with movable types, the Gutenberg, or "42-line Bible" of about 1455,'
    words = aligned(aligning, samples, text, "en").words
    assert [w.word for w in words] == [word for _, word in split(text)]
    assert all(w.aligned for w in words)
    for left, right in pairwise(words):
        assert left.start < left.end <= right.start


@pytest.mark.parametrize("language", ["zh", "ja", "th"])
def test_characters_of_a_language_without_spaces_make_up_its_words(
    aligning: whisperx.WhisperX, spell: Spell, language: str
) -> None:
    words = aligned(aligning, spell([("abc", 0.5), ("de", 1.5)], 2.5), "abc de", language).words
    assert [w.word for w in words] == ["abc", "de"]
    assert abs(words[1].start - 1.5) < 0.06


def test_the_weights_are_loaded_once(aligning: whisperx.WhisperX) -> None:
    assert aligning._recogniser.model.model is load_whisper(locate("whisper-base").path, "auto").model.model


def test_whisperx_itself_is_left_as_it_was(aligning: whisperx.WhisperX) -> None:
    import nltk
    from whisperx import alignment

    aligned(aligning, np.zeros(RATE, np.float32), "a text", "en")
    assert alignment.nltk_load is nltk.data.load


def test_debugging_shows_what_whisperx_says(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        whisperx.load(locate("whisper-base").path, None, TranscribeSettings())
    out, err = capsys.readouterr()
    assert out == ""
    assert "vad" in err


def test_each_language_has_its_own_aligner_and_others_have_none(ctc_folder: Path, tmp_path: Path, spell: Spell) -> None:
    """Weights are read when they are needed, and no more of them are kept than `KEPT`."""
    languages = ["en", "de", "fr"]
    folders = {language: Path(shutil.copytree(ctc_folder, tmp_path / language)) for language in languages}
    each = whisperx.load(locate("whisper-base").path, folders, TranscribeSettings())
    assert not in_memory(each)
    audio = spell([("what", 0.5), ("day", 1.4)], 2.5)
    for language in languages:
        assert abs(aligned(each, audio, "what day", language).words[1].start - 1.4) < 0.06
        assert language in in_memory(each)
    assert in_memory(each) == ["de", "fr"]
    without = whisperx.load(locate("whisper-base").path, None, TranscribeSettings())
    assert aligned(each, audio, "what day", "es") == aligned(without, audio, "what day", "es")
    aligned(each, audio, "what day", "en")
    assert in_memory(each) == ["en", "fr"]


def in_memory(transcriber: whisperx.WhisperX) -> list[str]:
    return sorted(language for language, aligner in transcriber._aligners._each.items() if aligner._model is not None)


def test_a_detected_language_without_an_aligner_has_times_all_the_same(ctc_folder: Path, shared_data: Path) -> None:
    samples = decode(shared_data / "real_speech" / "audio" / "lj_LJ001-0002.flac").samples
    transcribers = [whisperx.load(locate("whisper-base").path, a, TranscribeSettings()) for a in ({"de": ctc_folder}, None)]
    one, other = (heard(t, samples, None) for t in transcribers)
    assert one == other
    assert one.language == "en"
    one, other = (aligned(t, samples, "in being", None) for t in transcribers)
    assert [(w.word, w.start, w.end) for w in one.words] == [(w.word, w.start, w.end) for w in other.words]
    assert one.language_probability is not None


@pytest.mark.parametrize("missing", ["config.json", "vocab.json", "model.safetensors"])
def test_a_folder_that_is_no_aligner_is_named(ctc_folder: Path, tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(ctc_folder, tmp_path / "aligner")
    (folder / missing).unlink()
    for aligner in (folder, {"en": folder}):
        with pytest.raises(ModelError, match=r"aligner: not a wav2vec 2\.0 CTC model"):
            whisperx.load(locate("whisper-base").path, aligner, TranscribeSettings())


def test_a_model_of_another_kind_is_no_aligner(ctc_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ctc_folder, tmp_path / "aligner")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"model_type": "wav2vec2"', '"model_type": "hubert"'))
    with pytest.raises(ModelError, match="its model_type is hubert, not wav2vec2"):
        whisperx.load(locate("whisper-base").path, {"en": folder}, TranscribeSettings())


def test_a_tokenizer_needs_no_more_than_its_vocabulary(ctc_folder: Path, tmp_path: Path, spell: Spell) -> None:
    """Many published models have nothing else."""
    folder = Path(shutil.copytree(ctc_folder, tmp_path / "aligner"))
    kept = {"config.json", "vocab.json", "model.safetensors"}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    bare = whisperx.load(locate("whisper-base").path, folder, TranscribeSettings())
    assert abs(aligned(bare, spell([("what", 0.5), ("day", 1.4)], 2.5), "what day", "en").words[1].start - 1.4) < 0.06


def test_a_pickle_is_never_loaded(ctc_folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(ctc_folder, tmp_path / "aligner")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        whisperx.load(locate("whisper-base").path, folder, TranscribeSettings())
