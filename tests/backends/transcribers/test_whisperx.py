"""whisperX: forced alignment on a CTC model that hears pips, and weights that are loaded once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msfser_cli.backends.transcribers import whisperx
from msfser_cli.backends.whisper_ct2 import load_whisper
from msfser_cli.errors import ModelError
from msfser_cli.profiles.models import locate
from msfser_cli.settings import TranscribeSettings

RATE = 16_000
STEP = 0.12
"""Seconds from one letter's pip to the next's, in the audio that `spell` writes."""
Spell = Callable[[list[tuple[str, float]], float], np.ndarray]


@pytest.fixture(scope="module")
def aligning(ctc_folder: Path) -> whisperx.WhisperX:
    return whisperx.load(locate("whisper-base").path, ctc_folder, TranscribeSettings())


def test_words_are_where_they_sound(aligning: whisperx.WhisperX, spell: Spell) -> None:
    spoken = [("what", 0.5), ("a", 1.4), ("lovely", 2.0), ("day", 3.1)]
    words = aligning.align(spell(spoken, 4.0), "What a “lovely” day?", "en").words
    assert [w.word for w in words] == ["What", "a", "“lovely”", "day?"]
    for word, (letters, start) in zip(words, spoken, strict=True):
        assert abs(word.start - start) < 0.06
        assert word.end > start + STEP * (len(letters) - 1)
        assert word.aligned
        assert (word.score or 0) > 0.3


def test_a_word_without_known_letters_lies_between_its_neighbours_and_says_so(aligning: whisperx.WhisperX, spell: Spell) -> None:
    spoken = [("about", 0.5), ("xq", 1.6), ("days", 2.5)]
    about, number, days = aligning.align(spell(spoken, 3.5), "about 42 days", "en").words
    assert [w.aligned for w in (about, number, days)] == [True, False, True]
    assert number.score is None
    assert about.end <= number.start <= number.end <= days.start
    assert abs(days.start - 2.5) < 0.06


def test_a_text_that_does_not_fit_is_spread_over_the_audio(aligning: whisperx.WhisperX) -> None:
    words = aligning.align(np.zeros(RATE // 2, np.float32), "far too many letters for half a second of audio", "en").words
    assert not any(w.aligned for w in words)
    assert all(w.score is None for w in words)
    assert words[0].start == 0
    assert words[-1].end == pytest.approx(0.5)


@pytest.mark.parametrize("language", ["zh", "ja", "th"])
def test_characters_of_a_language_without_spaces_make_up_its_words(
    aligning: whisperx.WhisperX, spell: Spell, language: str
) -> None:
    words = aligning.align(spell([("abc", 0.5), ("de", 1.5)], 2.5), "abc de", language).words
    assert [w.word for w in words] == ["abc", "de"]
    assert abs(words[1].start - 1.5) < 0.06


def test_the_weights_are_loaded_once(aligning: whisperx.WhisperX) -> None:
    assert aligning._recogniser.model.model is load_whisper(locate("whisper-base").path).model.model


def test_whisperx_itself_is_left_as_it_was(aligning: whisperx.WhisperX) -> None:
    import nltk
    from whisperx import alignment

    aligning.align(np.zeros(RATE, np.float32), "a text", "en")
    assert alignment.nltk_load is nltk.data.load


def test_debugging_shows_what_whisperx_says(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        whisperx.load(locate("whisper-base").path, None, TranscribeSettings())
    out, err = capsys.readouterr()
    assert out == ""
    assert "vad" in err


@pytest.mark.parametrize("missing", ["config.json", "vocab.json", "model.safetensors"])
def test_a_folder_that_is_no_aligner_is_named(ctc_folder: Path, tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(ctc_folder, tmp_path / "aligner")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=r"aligner: not a wav2vec 2\.0 CTC model"):
        whisperx.load(locate("whisper-base").path, folder, TranscribeSettings())


def test_a_pickle_is_never_loaded(ctc_folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(ctc_folder, tmp_path / "aligner")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        whisperx.load(locate("whisper-base").path, folder, TranscribeSettings())
