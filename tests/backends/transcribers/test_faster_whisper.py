"""Speech that Whisper leaves out is heard again."""

from __future__ import annotations

import csv
import random
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.backends import Word, text_of
from msfser_cli.backends.transcribers import faster_whisper
from msfser_cli.model_store.models import locate
from msfser_cli.settings import TranscribeSettings


def readers_in_turn(folder: Path, seed: int) -> tuple[np.ndarray, str]:
    """Real sentences of several readers in an order of its own, 0.3 s apart, and what they say."""
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["transcript"] and Path(row["file"]).name.startswith(("lj_", "jfk"))]
    random.Random(seed).shuffle(rows)
    pause = np.zeros(4800, np.float32)
    samples = [part for row in rows for part in (soundfile.read(folder / row["file"], dtype="float32")[0], pause)]
    return np.concatenate(samples), " ".join(row["transcript"] for row in rows)


@pytest.mark.model
@pytest.mark.parametrize("seed", [3, 4])
def test_a_sentence_that_whisper_leaves_out_is_heard_again(shared_data: Path, seed: int) -> None:
    """Without this, 15 and 23 of the words in these orders are lost."""
    samples, said = readers_in_turn(shared_data / "real_speech", seed)
    transcriber = faster_whisper.load(locate("whisper-base").path, None, TranscribeSettings())
    words = transcriber.transcribe([samples], ["en"])[0].words
    plain = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.ReduceToListOfListOfWords()])
    errors = jiwer.process_words(said, text_of(words), reference_transform=plain, hypothesis_transform=plain)
    assert errors.deletions <= 2
    assert errors.insertions <= 2
    assert all(left.start <= left.end <= right.start for left, right in pairwise(words))


def words_that_end_at(*ends: float) -> list[Word]:
    return [Word(f"word{i}", start, end, None, blank=" ") for i, (start, end) in enumerate(pairwise((0.0, *ends)))]


def test_words_after_the_end_are_a_loop() -> None:
    """In int8, Whisper sometimes writes a sentence twice, and the words of the second have no length."""
    assert not faster_whisper._repeats([])
    assert not faster_whisper._repeats(words_that_end_at(0.5, 1.0, 1.0, 1.0))
    assert not faster_whisper._repeats(words_that_end_at(0.5, 0.5, 0.5, 0.5, 1.0))
    assert faster_whisper._repeats(words_that_end_at(0.5, 1.0, 1.0, 1.0, 1.0))


def test_speech_is_unheard_where_one_word_lasts_as_long_as_a_sentence() -> None:
    regions = [(0.0, 1.3), (2.0, 7.3)]
    assert faster_whisper.unheard(regions, [Word("one", 0.0, 1.0, None), Word("two", 2.0, 7.0, None)]) == pytest.approx(4.0)
    spoken = [Word("word", start / 2, start / 2 + 0.5, None) for start in (0, 1, *range(4, 14))]
    assert faster_whisper.unheard(regions, spoken) == pytest.approx(0.0)


@given(st.lists(st.floats(0.1, 5.0), min_size=4, max_size=40))
def test_halves_have_all_the_regions_and_are_cut_at_a_pause(lengths: list[float]) -> None:
    times = np.cumsum(lengths[: len(lengths) // 2 * 2]).tolist()
    regions = list(zip(times[::2], times[1::2], strict=True))
    (start, first), (second, end) = faster_whisper.halved(regions)
    assert (start, end) == (regions[0][0], regions[-1][1])
    assert (first, second) in [(left[1], right[0]) for left, right in pairwise(regions)]
    middle = (start + end) / 2
    nearest = min(abs((left[1] + right[0]) / 2 - middle) for left, right in pairwise(regions))
    assert abs((first + second) / 2 - middle) == pytest.approx(nearest)
