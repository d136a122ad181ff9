"""Which language is spoken where, from what is heard in each stretch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msfser_cli.backends.languages import LONGEST_PART, Judged, Span, beside_changes, main_language, parts, passages, settled


def heard(*stretches: tuple[float, float, dict[str, float]]) -> list[Judged]:
    return [Judged((start, end), probabilities) for start, end, probabilities in stretches]


EN, DE, UNCLEAR = {"en": 0.97, "de": 0.01}, {"de": 0.96, "en": 0.02}, {"haw": 0.3, "en": 0.25, "de": 0.2}


@pytest.mark.parametrize(
    ("stretches", "languages"),
    [
        ([(0, 8, DE), (10, 20, EN)], ["de", "en"]),
        ([(0, 8, EN), (10, 20, DE)], ["en", "de"]),
        ([(0, 8, EN), (8.5, 13.5, DE), (14, 20, EN)], ["en", "de", "en"]),  # five seconds of another are another
        ([(0, 8, EN), (8.3, 8.9, DE), (9, 20, EN)], ["en", "en", "en"]),  # a word is not
        ([(0, 8, EN), (9, 10, UNCLEAR), (11, 12, UNCLEAR)], ["en", "en", "en"]),  # what is short and unclear is as its neighbours
        ([(0, 1, UNCLEAR), (2, 9, DE)], ["de", "de"]),  # at the start, too
        ([(0, 5, DE), (5.05, 7, {"en": 0.5, "de": 0.15}), (9, 20, EN)], ["de", "de", "en"]),  # languages change at pauses
        ([(0, 5, UNCLEAR)], ["haw"]),
        ([], []),
    ],
)
def test_a_language_changes_where_the_evidence_outweighs_the_change(
    stretches: Sequence[tuple[float, float, dict[str, float]]], languages: list[str]
) -> None:
    assert settled(heard(*stretches), None) == languages


def test_the_language_before_goes_on_unless_it_is_surely_another() -> None:
    assert settled(heard((30, 31, {"en": 0.5, "de": 0.3})), "de") == ["de"]
    assert settled(heard((30, 40, EN)), "de") == ["en"]


@pytest.mark.parametrize(
    ("stretches", "before", "beside"),
    [
        ([(0, 8, EN), (10, 20, EN)], None, []),
        ([(0, 8, EN), (10, 20, EN), (21, 28, DE), (29, 38, DE)], None, [1, 2]),
        ([(0, 8, EN), (10, 20, EN), (21, 28, DE), (29, 38, EN)], "en", [1, 2, 3]),
        ([(0, 8, EN), (10, 20, EN)], "de", [0]),
        ([], "de", []),
    ],
)
def test_the_stretches_beside_a_change(
    stretches: Sequence[tuple[float, float, dict[str, float]]], before: str | None, beside: list[int]
) -> None:
    assert beside_changes(heard(*stretches), before) == beside


SPANS = st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 12)), max_size=20)


def regions_of(steps: Sequence[tuple[float, float]]) -> list[Span]:
    regions: list[Span] = []
    for gap, length in steps:
        start = (regions[-1][1] if regions else 0.0) + gap
        regions.append((start, start + length))
    return regions


@given(SPANS)
def test_parts_are_the_regions_joined(steps: list[tuple[float, float]]) -> None:
    regions = regions_of(steps)
    joined = parts(regions)
    assert {start for start, _ in joined} <= {start for start, _ in regions}
    assert {end for _, end in joined} <= {end for _, end in regions}
    assert all(a[1] <= b[0] for a, b in pairwise(joined))
    assert sum(any(a <= start and end <= b for a, b in joined) for start, end in regions) == len(regions)
    assert all(end - start <= LONGEST_PART or (start, end) in regions for start, end in joined)


def test_a_short_region_joins_the_nearer_neighbour() -> None:
    assert parts([(0, 4), (4.1, 5), (6, 10)]) == [(0, 5), (6, 10)]
    assert parts([(0, 4), (5, 5.9), (6, 10)]) == [(0, 4), (5, 10)]


def test_a_window_in_two_languages_is_cut_between_them() -> None:
    windows = [heard((0, 4, DE), (4.1, 9, DE), (9.5, 14, EN), (14.2, 20, EN)), heard((20, 30, EN))]
    found = passages(windows, None)
    assert [(p.span, p.language) for p in found] == [((0, 9), "de"), ((9.5, 20), "en"), ((20, 30), "en")]
    assert [p.probability for p in found] == pytest.approx([0.96, 0.97, 0.97])
    assert main_language(found) == ("en", pytest.approx(0.97))


@given(SPANS.filter(bool), st.lists(st.sampled_from([EN, DE, UNCLEAR]), min_size=20, max_size=20), st.data())
def test_all_that_is_spoken_is_in_a_passage(
    steps: list[tuple[float, float]], kinds: list[dict[str, float]], data: st.DataObject
) -> None:
    regions = regions_of(steps)
    judged = [Judged(region, kind) for region, kind in zip(regions, kinds, strict=False)]
    first = data.draw(st.integers(1, len(regions)))
    found = passages([judged[:first], judged[first:]], None)
    assert all(any(p.span[0] <= start and end <= p.span[1] for p in found) for start, end in regions)
    assert all(a.span[1] <= b.span[0] for a, b in pairwise(found))
    assert main_language(found)[0] in {p.language for p in found}
