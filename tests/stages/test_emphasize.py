"""From prominence scores to spans and the emphasised text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from kit.working import rows_of
from msfser_cli import schemas
from msfser_cli.backends import Row, writing
from msfser_cli.settings import EmphasizeSettings
from msfser_cli.stages.emphasize import emphasize
from msfser_cli.store.audio import Audio

SILENCE = Audio(np.zeros(16_000, np.float32))


@dataclass
class Given:
    """An emphasizer whose scores are those of the test."""

    scores: list[float | None]

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        return [{"emphasis": self.scores, "emphasis_cues": [None] * len(self.scores)} for _ in rows]


def spoken(*words: str, language: str = "en") -> Row:
    timed = [{"word": w, "start": i * 0.5, "end": i * 0.5 + 0.4, "score": 1.0, "aligned": True} for i, w in enumerate(words)]
    text = ("" if language == "zh" else " ").join(words)
    return {"start": 0.0, "end": 0.5 * len(words), "language": language, "text": text, "words": timed, "kept": "as it was"}


def result(row: Row, scores: list[float | None], **settings: Any) -> Row:
    [out] = rows_of(emphasize, SILENCE, [row], Given(scores), EmphasizeSettings(**settings))
    return out


def test_the_most_prominent_word_with_its_punctuation_stripped() -> None:
    out = result(spoken("I", "said", '"never!"', "to", "him."), [0, 0, 2.5, -1, -1], share=0.2)
    assert out["emphasized_text"] == "never"
    assert out["emphasis_spans"] == [{"text": "never", "start": 1.0, "end": 1.4, "first_word": 2, "last_word": 2, "score": 2.5}]
    assert out["kept"] == "as it was"
    assert set(schemas.names(schemas.EMPHASIZE)) <= set(out)


def test_neighbours_join_and_others_do_not() -> None:
    out = result(spoken("not", "my", "best,", "not", "my", "worst"), [3, -1, 2, 1, -1, -1], share=0.5)
    assert [(s["text"], s["first_word"], s["last_word"], s["score"]) for s in out["emphasis_spans"]] == [
        ("not", 0, 0, 3), ("best, not", 2, 3, 2)]
    assert out["emphasized_text"] == "not best, not"


def test_nothing_stands_out_of_a_flat_sentence() -> None:
    out = result(spoken("one", "two", "three"), [0.0, 0.0, 0.0])
    assert out["emphasis_spans"] == []
    assert out["emphasized_text"] is None


def test_one_word_and_no_word_have_no_emphasis() -> None:
    for row, scores in ((spoken("yes"), [None]), (spoken("yes"), [3.0]), (spoken(), [])):
        out = result(row, scores)
        assert out["emphasis_spans"] == []
        assert out["emphasized_text"] is None


def test_languages_without_spaces_are_joined_without() -> None:
    assert result(spoken("我", "不", "知道", language="zh"), [2, 1, -3], share=1)["emphasized_text"] == "我不"


@pytest.mark.parametrize(
    ("text", "emphasised"),
    [
        ("Sie zahlt 3,5 % mehr.", "3,5 %"),
        ("Est-ce que vous ramez ?", "ramez"),
        ("It cost $120.99, they said.", "$120.99"),
        ("My mother-in-law is here.", "mother-in-law"),
        ("ฉัน ไม่รู้ ว่า", "ไม่รู้"),
        ("我们不知道。", "不知道"),
    ],
)
def test_what_is_emphasised_is_spelt_as_in_the_text(text: str, emphasised: str) -> None:
    words = [word for _, word in writing.split(text)]
    row = spoken(*words) | {"text": text}
    assert result(row, [3.0 if emphasised in word else -1.0 for word in words])["emphasized_text"] == emphasised


def test_an_edited_text_is_not_searched_for_words_that_it_has_not() -> None:
    row = spoken("I", "said", "never!") | {"text": "I have never said so."}
    out = result(row, [-1, 2, 1], share=1)
    assert [span["text"] for span in out["emphasis_spans"]] == ["said never"]


scores_of_words = some.lists(some.none() | some.floats(-5, 5, allow_nan=False), max_size=40)


@given(scores=scores_of_words, share=some.floats(0.01, 1))
def test_spans_fit_the_words(scores: list[float | None], share: float) -> None:
    row = spoken(*(f"w{i}" for i in range(len(scores))))
    out = result(row, scores, share=share)
    spans = out["emphasis_spans"]
    covered = [i for span in spans for i in range(span["first_word"], span["last_word"] + 1)]
    assert covered == sorted(set(covered))
    assert out["emphasized_text"] == (" ".join(row["words"][i]["word"] for i in covered) or None)
    for span in spans:
        assert span["start"] == row["words"][span["first_word"]]["start"]
        assert span["end"] == row["words"][span["last_word"]]["end"]
        assert span["score"] == max(scores[i] for i in range(span["first_word"], span["last_word"] + 1))
    assert all(after["first_word"] > before["last_word"] + 1 for before, after in pairwise(spans))

    ranked = sorted((score for score in scores if score is not None), reverse=True)
    count = max(1, int(share * len(ranked) + 0.5)) if len(ranked) >= 2 else 0
    assert sorted((scores[i] for i in covered), reverse=True) == [score for score in ranked[:count] if score > 0]
