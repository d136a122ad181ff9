"""Which text each vector stands for, and what the emphasised words are: a text of their own, or a part of the transcript."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from typer.testing import CliRunner

from kit import training_tables
from kit.working import rows_of
from msfser_cli.backends import Row, Spans, writing
from msfser_cli.cli.app import app
from msfser_cli.errors import ModelError, UsageError
from msfser_cli.settings import EmbedSettings, EmphasizeSettings, TrainSettings
from msfser_cli.stages.embed import STAGE, embed
from msfser_cli.stages.emphasize import emphasize
from msfser_cli.store.audio import Audio
from msfser_cli.training.train import train
from msfser_cli.training.training_set import read

SILENCE = Audio(np.zeros(16_000, np.float32))


class Letters:
    """Counts the letters a to z: of a text, or of what is in its spans. What lies beyond `longest` it does not see."""

    dimension = 26

    def __init__(self, longest: int = 1000) -> None:
        self.longest = longest
        self.asked: list[tuple[str, list[str]]] = []

    def encode(self, texts: Sequence[str], spans: Sequence[Spans] | None = None) -> np.ndarray:
        if spans is None:
            return self._counts(list(texts))
        parts = [[text[a:b] for a, b in of if a < self.longest] for text, of in zip(texts, spans, strict=True)]
        self.asked += list(zip(texts, parts, strict=True))
        counts = self._counts(["".join(found) for found in parts])
        counts[[not found for found in parts]] = np.nan
        return counts

    def _counts(self, texts: list[str]) -> np.ndarray:
        return np.array([[t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], np.float32).reshape(-1, 26)


class Silence:
    dimension = 2

    def encode(self, clips: Sequence[Any]) -> np.ndarray:
        return np.zeros((len(clips), 2), np.float32)


class Given:
    def __init__(self, scores: Sequence[float | None]) -> None:
        self._scores = scores

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        return [{"emphasis": list(self._scores), "emphasis_cues": [None] * len(self._scores)} for _ in rows]


def row(words: Sequence[str], scores: Sequence[float | None], language: str = "en", text: str = "", **settings: Any) -> Row:
    timed = [{"word": w, "start": i * 0.1, "end": i * 0.1 + 0.1, "score": 1.0, "aligned": True} for i, w in enumerate(words)]
    text = text or writing.joined([w.strip() for w in words])
    made = {"start": 0.0, "end": 1.0, "language": language, "words": timed, "text": text, "description": "slow"}
    return rows_of(emphasize, SILENCE, [made], Given(scores), EmphasizeSettings(**settings))[0]


def les(rows: Sequence[Row], encoder: Letters, kind: str) -> list[np.ndarray | None]:
    return [r["les_vector"] for r in rows_of(embed, SILENCE, rows, Silence(), encoder, kind)]


def test_each_vector_stands_for_its_text() -> None:
    encoder = Letters()
    for kind in ("words", "context"):
        spoken = row(["Never,", "said", "he."], [3, 0, 0], text="Never,  said he.")
        [out] = rows_of(embed, SILENCE, [spoken], Silence(), encoder, kind)
        for vector, text in (("les_vector", "Never"), ("gs_vector", "Never,  said he."), ("es_vector", "slow")):
            np.testing.assert_array_equal(out[vector], encoder.encode([text])[0])
    assert encoder.asked == [("Never,  said he.", ["Never"])]


@pytest.mark.parametrize("kind", ["words", "context"])
def test_words_in_a_language_that_the_text_encoder_does_not_know_have_no_vector(kind: str) -> None:
    rows = [row(["Nie", "und", "nimmer."], [3, 0, 0], language) for language in ("de", "en", "und")]
    encoder = Letters()
    german, english, unknown = rows_of(embed, SILENCE, rows, Silence(), encoder, kind, ["en", "fr"])
    assert german["les_vector"] is None
    assert german["gs_vector"] is None
    assert all(made[vector] is not None for made in (english, unknown) for vector in ("les_vector", "gs_vector"))
    assert all(made["es_vector"] is not None for made in (german, english, unknown))
    assert len(encoder.asked) == (2 if kind == "context" else 0)


def test_the_registry_knows_the_languages_of_its_text_encoders() -> None:
    assert STAGE.needs(EmbedSettings()).settings.text_languages == ("en",)


@pytest.mark.parametrize(
    ("words", "scores", "language", "text", "parts"),
    [
        (["I", "said", '"never!"', "to", "him."], [0, 0, 2, -1, -1], "en", 'I said "never!" to him.', ["never"]),
        (["not", "my", "best,", "not", "me"], [3, -1, 2, 1, -1], "en", "not my best, not me", ["not", "best, not"]),
        (["said", "he", "said"], [0, 0, 2], "en", "said he said", ["said"]),
        (["我", "不", "要。"], [0, 2, 0], "zh", "我不要。", ["不"]),
        ([" I ", " won't"], [0, 2], "en", "I won't", ["won't"]),
    ],
)
def test_the_emphasised_words_are_found_in_the_transcript(
    words: list[str], scores: list[float], language: str, text: str, parts: list[str]
) -> None:
    encoder = Letters()
    les([row(words, scores, language, share=0.5 if len(parts) > 1 else 0.2)], encoder, "context")
    assert encoder.asked == [(text, parts)]


@given(
    words=some.lists(some.text(min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=8),
    seed=some.integers(0, 1000),
    language=some.sampled_from(["en", "ja"]),
)
def test_whatever_the_words_are_made_of_the_parts_are_the_spans(words: list[str], seed: int, language: str) -> None:
    scores = np.random.default_rng(seed).normal(size=len(words)).tolist()
    encoder, made = Letters(), row(words, scores, language, share=0.5)
    les([made], encoder, "context")
    texts = [span["text"] for span in made["emphasis_spans"] if span["text"]]
    assert [parts for _, parts in encoder.asked] == ([texts] if texts else [])


def test_where_nothing_is_emphasised_or_all_of_it_is_cut_off_there_is_no_vector() -> None:
    rows = [row(["one", "two"], [0, 0]), row(["one", "two", "three"], [0, 0, 3]), row(["...", "two"], [3, 0]), row([], [])]
    assert [v is None for v in les(rows, Letters(), "context")] == [True, False, True, True]
    assert [v is None for v in les(rows, Letters(longest=4), "context")] == [True, True, True, True]


def test_another_kind_of_les_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"les must be one of words, context, not 'all'"):
        EmbedSettings(les="all")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("without", [(), ("les",)])
def test_a_head_knows_which_les_it_was_trained_on(tmp_path: Path, without: tuple[str, ...]) -> None:
    made: dict[str, tuple[Path, Path]] = {}
    for kind, says in {"before": {}, "words": {"les": "words"}, "context": {"les": "context"}}.items():
        (tmp_path / kind).mkdir()
        made[kind] = training_tables.corpus().write(tmp_path / kind, **says)
        settings = TrainSettings(epochs=1, without=without)
        train(read(*made[kind], settings), settings, tmp_path / kind / "head", lambda _: None)
    for trained in made:
        for embedded in made:
            command = ["predict", str(made[embedded][0]), "--head", str(tmp_path / trained / "head"),
                       "--out", str(tmp_path / f"{trained}_{embedded}.parquet")]  # fmt: skip
            if without or (trained == "context") == (embedded == "context"):
                assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
            else:
                with pytest.raises(ModelError, match=r"on the text vectors of .*:mini.*, but the table has those of .*:mini"):
                    CliRunner().invoke(app, command, catch_exceptions=False)
