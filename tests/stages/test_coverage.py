"""Speech without words is measured to the second, however regions and words lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.stages.coverage import NEAR_A_WORD, Span, is_missing, seconds, seconds_with_words

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: (float(p[0]), float(p[0] + p[1]))), max_size=8)


@given(spans, spans)
def test_it_counts_the_seconds_that_are_in_both(regions: list[Span], words: list[Span]) -> None:
    def inside(second: float, of: list[Span], margin: float = 0.0) -> bool:
        return any(start - margin < second < end + margin for start, end in of)

    assert NEAR_A_WORD == 1.0  # so that every edge is at a whole second
    middles = [i + 0.5 for i in range(90)]
    assert seconds(regions) == sum(inside(s, regions) for s in middles)
    with_words = [any(inside(other, words) for other in middles if _joins(second, other, regions)) for second in middles]
    assert seconds_with_words(regions, words) == sum(
        inside(s, regions) and inside(s, words, 1.0) and said for s, said in zip(middles, with_words, strict=True)
    )


def _joins(second: float, other: float, regions: list[Span]) -> bool:
    """Whether there is speech from the one second to the other without a pause."""
    first, last = sorted((second, other))
    return all(any(start < s < end for start, end in regions) for s in [first + i for i in range(int(last - first) + 1)])


def test_a_greeting_without_words_beside_a_sentence_is_missed() -> None:
    assert seconds_with_words([(0.0, 5.0), (5.5, 6.6)], [(0.2, 4.8)]) == 5.0
    assert seconds_with_words([(0.0, 5.0), (5.5, 6.6)], [(0.2, 4.8), (6.5, 6.5)]) == 6.1
    assert seconds_with_words([(0.0, 5.0), (5.3, 5.9)], [(0.2, 4.8)]) == pytest.approx(5.5)  # at a word's edge, or a breath


@pytest.mark.parametrize(("speech", "transcribed", "missing"), [
    (0.0, 0.0, False), (0.9, 0.0, False), (1.0, 0.0, True), (8.0, 7.1, False), (20.0, 18.5, False), (20.0, 18.0, True),
    (3600.0, 3571.0, False), (3600.0, 3570.0, True),
])  # fmt: skip
def test_the_user_is_told_of_a_tenth_or_half_a_minute(speech: float, transcribed: float, missing: bool) -> None:
    assert is_missing(speech, transcribed) is missing
