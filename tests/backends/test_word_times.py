"""Times for known words: regrouped, moved, interpolated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.backends import Word, text_of
from msfser_cli.backends.word_times import continued, interpolated, regrouped, shifted
from msfser_cli.backends.writing import split

TEXT = st.lists(st.text("abcä中,3", min_size=1, max_size=6), max_size=8).map(" ".join)


@given(text=TEXT, cuts=st.sets(st.integers(1, 47)), kept=st.floats(0, 1))
def test_pieces_become_the_words_in_order(text: str, cuts: set[int], kept: float) -> None:
    letters = "".join(text.split())
    letters = letters[: round(kept * len(letters))]
    edges = sorted({0, len(letters), *(c for c in cuts if c < len(letters))})
    pieces = [Word(letters[a:b], a / 10, b / 10, 0.5) for a, b in pairwise(edges)]
    grouped = regrouped(pieces, text)
    assert [(w.blank, w.word) for w in grouped] == split(text)
    position = 0
    for word in grouped:
        length = len("".join(word.word.split()))
        spelt = min(position + length, len(letters)) - position
        if spelt > 0:
            assert (word.start, word.end) == pytest.approx((position / 10, (position + spelt) / 10))
            assert (word.score, word.aligned) == (0.5, True)
        else:
            assert (word.start, word.score, word.aligned) == (word.end, None, False)
        position += max(spelt, 0)


def test_a_word_of_unaligned_pieces_is_not_aligned() -> None:
    pieces = [Word("4", 1.0, 1.2, None, aligned=False), Word("2", 1.2, 1.4, None, aligned=False), Word("a", 1.5, 1.6, 0.4)]
    grouped = regrouped(pieces, "42 a")
    assert grouped == [Word("42", 1.0, 1.4, None, aligned=False, blank=""), Word("a", 1.5, 1.6, 0.4)]


@given(start=st.floats(-1, 40), length=st.floats(0, 5), offset=st.floats(0, 100), room=st.floats(0, 30))
def test_a_moved_word_stays_in_its_window(start: float, length: float, offset: float, room: float) -> None:
    word = shifted(Word("a", start, start + length, None), offset, offset + room)
    assert offset <= word.start <= word.end <= offset + room


@given(text=TEXT, start=st.floats(0, 100), length=st.floats(0, 100))
def test_interpolated_words_fill_their_time(text: str, start: float, length: float) -> None:
    spread = interpolated(text, start, start + length)
    assert [(w.blank, w.word) for w in spread] == split(text)
    assert not any(w.aligned for w in spread)
    assert np.allclose([w.start for w in spread[1:]], [w.end for w in spread[:-1]])
    if spread:
        assert (spread[0].start, spread[-1].end) == pytest.approx((start, start + length))


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        ("He came.", " She left.", "He came. She left."),
        ("He came.", "She left.", "He came. She left."),
        ("她来了。", "我走了。", "她来了。我走了。"),
    ],
)
def test_the_next_window_goes_on_as_the_script_does(left: str, right: str, text: str) -> None:
    assert text_of(continued(interpolated(left, 0, 1), interpolated(right, 1, 2))) == text
