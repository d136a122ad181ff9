from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.store_rows import COLUMNS, make_rows, plain
from msfser_cli import schemas
from msfser_cli.store import arrow


def test_the_slice_of_a_table_has_its_own_vectors() -> None:
    rows = make_rows("a", 11)
    whole = arrow.to_table(rows, COLUMNS)
    for start in range(11):
        assert plain(arrow.to_rows(whole.slice(start, 4))) == plain(rows[start : start + 4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "soon"}, "start"),
        ({"start": None}, "'start' may not be null"),
        ({"words": None}, "'words' may not be null"),
        ({"speaker": "\udcff"}, "speaker"),
        ({"gs_vector": np.zeros(4, np.float32)}, "gs_vector"),
        ({"gs_vector": np.zeros((1, 3), np.float32)}, "gs_vector"),
    ],
)
def test_a_row_that_does_not_fit_is_a_bug_that_names_the_column(change: dict[str, object], message: str) -> None:
    rows = make_rows("a", 2)
    with pytest.raises(ValueError, match=message):
        arrow.to_table([rows[0], rows[1] | change], COLUMNS)


def test_a_row_without_a_column_is_a_bug() -> None:
    (row,) = make_rows("a", 1)
    del row["speaker"]
    with pytest.raises(ValueError, match="lacks the column 'speaker'"):
        arrow.to_table([row], COLUMNS)


def test_what_is_no_column_is_left_out() -> None:
    assert arrow.to_table([row | {"other": 1} for row in make_rows("a", 2)], COLUMNS).column_names == schemas.names(COLUMNS)


@pytest.mark.parametrize("text", ["int", "list<int>", "struct<a: list<b>>", ""])
def test_an_unknown_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a column type"):
        arrow.type_of(text)


FLOATS = st.none() | st.floats(allow_nan=False, width=32)
POINTS = st.fixed_dictionaries({"x": FLOATS, "known": st.none() | st.booleans()})


@given(st.lists(st.none() | st.lists(POINTS, max_size=3), max_size=6), st.integers(0, 3), st.integers(0, 6))
def test_lists_are_taken_apart(rows: list[list[dict[str, object]] | None], first: int, count: int) -> None:
    whole = pa.chunked_array([rows[:2], rows[2:]], pa.list_(pa.struct([("x", pa.float64()), ("known", pa.bool_())])))
    ends, members = arrow.flat(whole.slice(first, count))
    x, known = arrow.numbers(members["x"]), arrow.truths(members["known"])
    expected = [row or [] for row in rows[first : first + count]]
    assert [len(row) for row in expected] == [end - start for start, end in pairwise(ends.tolist())]
    points = [point for row in expected for point in row]
    assert [None if np.isnan(value) else value for value in x.tolist()] == [point["x"] for point in points]
    assert known.tolist() == [bool(point["known"]) for point in points]


def test_a_list_of_numbers_has_one_member() -> None:
    ends, members = arrow.flat(pa.chunked_array([[[1.5], None], [[2.5, 3.5]]]))
    assert ends.tolist() == [0, 1, 1, 3]
    assert {name: arrow.numbers(values).tolist() for name, values in members.items()} == {"": [1.5, 2.5, 3.5]}
