from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.scored import COLUMNS, scored_row, write_scores
from msfser_cli.errors import TableError
from msfser_cli.exports.recordings import Recording, Table
from msfser_cli.schemas import DIMENSIONS

TEXTS = st.sampled_from(["Hi", "there.", "今天", "-->", "a b", "שלום"])


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        words = [(text, number + i / 8, number + (i + 1) / 8) for i, text in enumerate(draw(st.lists(TEXTS, max_size=4)))]
        emphasised = draw(st.sets(st.integers(0, len(words) - 1))) if words else set()
        more = draw(st.sampled_from([{}, {"emphasis": []}, {"valence": None}, {"arousal_low": float("nan")}]))
        times = None if words else (float(number), number + 0.5)
        joint = draw(st.sampled_from([" ", "", "  "]))
        made.append(scored_row("a", number, words, emphasised=sorted(emphasised), between=joint, times=times, **more))
    return made


def opened(made: list[dict[str, Any]], columns: Any = COLUMNS) -> Recording:
    with tempfile.TemporaryDirectory() as folder:
        (recording,) = Table.open(write_scores(Path(folder) / "scores.parquet", made, columns=columns)).recordings()
        return recording


@given(rows())
def test_utterances_are_the_rows(made: list[dict[str, Any]]) -> None:
    for row, utterance in zip(made, opened(made).utterances, strict=True):
        assert (utterance.id, utterance.start, utterance.end) == (row["utterance_id"], row["start"], row["end"])
        assert [(w.text, w.start, w.end, w.score, w.aligned) for w in utterance.words] == [
            (w["word"], w["start"], w["end"], w["score"], w["aligned"]) for w in row["words"]
        ]
        assert "".join(word.text + word.after for word in utterance.words) == row["text"]
        assert [word.prominence for word in utterance.words] == (row["emphasis"] or [None] * len(row["words"]))
        marked = {i for span in row["emphasis_spans"] for i in range(span["first_word"], span["last_word"] + 1)}
        assert {i for i, word in enumerate(utterance.words) if word.emphasised} == marked
        for dimension in DIMENSIONS:
            ends = [row[dimension], row[f"{dimension}_low"], row[f"{dimension}_high"]]
            if ends[0] is None:
                assert dimension not in utterance.scores
            else:
                score = utterance.scores[dimension]
                assert [score.value, score.low, score.high] == [None if np.isnan(x) else x for x in ends]


def test_a_table_with_the_least_columns_has_recordings() -> None:
    made = [scored_row("a", i, [("Hi", i + 0.0, i + 0.5)]) for i in range(2)]
    recording = opened(made, [c for c in COLUMNS if c.name in ("recording_id", "utterance_id", "start", "end")])
    assert [(u.start, u.words, u.text, u.scores) for u in recording.utterances] == [(0, (), "", {}), (1, (), "", {})]
    assert (recording.end, recording.speakers) == (1.5, [None])


def test_a_span_marks_no_word_of_the_next_row() -> None:
    made = [scored_row("a", i, [("Hi", i + 0.0, i + 0.5)], emphasised=[0] if i == 0 else []) for i in range(2)]
    made[0]["emphasis_spans"][0]["last_word"] = 5
    assert [[word.emphasised for word in u.words] for u in opened(made).utterances] == [[True], [False]]


@pytest.mark.parametrize("time", [None, float("nan")])
def test_a_word_without_a_time_is_refused(time: float | None) -> None:
    made = [scored_row("a", 0, [("Hi", 0.0, 0.5)])]
    made[0]["words"][0]["start"] = time
    with pytest.raises(TableError, match="a word of 'a' has no time"):
        opened(made)
