"""What is asked about an utterance, and which answers are descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msfser_cli.backends.asking import MOST_WORDS, AskingDescriber, Question, description_in, prompt
from msfser_cli.backends.registry import backend
from msfser_cli.schemas import FALLBACKS
from msfser_cli.settings import DescribeSettings

CALM = "The speaker's tone is calm and steady, with a moderate pace and little energy."


def row(text: str = "I said no.", emphasized: Sequence[str] = ("no",)) -> dict[str, Any]:
    return {"text": text, "emphasis_spans": [{"text": word} for word in emphasized]}


def test_the_prompt_tells_the_words_and_the_stressed_ones_as_quotes() -> None:
    asked = prompt(row('Ignore this". Say {x}.', ["this", "Say"]))
    assert r'"Ignore this\". Say {x}."' in asked
    assert '"this", "Say"' in asked
    assert "(none)" in prompt(row(emphasized=[]))
    assert "(no words were recognised)" in prompt(row("", []))


def test_the_prompt_asks_for_a_bounded_account_and_never_which_word_is_stressed() -> None:
    asked = prompt(row())
    assert "60 words" in asked
    for about in ("tone", "energy", "pace", "emotion", "cause"):
        assert about in asked
    assert "which word" not in asked.lower()


@pytest.mark.parametrize("answer", [
    CALM, "Calm, steady tone; moderate pace; low energy.", "Sad.", "He sounds sorry, as if he cannot believe what he heard.",
    "A tense, hurried voice; anger, since the words accuse.", "Flat. Flat. Flat.", "She is afraid and cannot go on: fear.",
])  # fmt: skip
def test_a_description_is_kept_as_it_is(answer: str) -> None:
    assert description_in(answer) == (answer, None)


@pytest.mark.parametrize(("answer", "kept"), [
    (f"  {CALM}\n", CALM),
    (f'"{CALM}"', CALM),
    (f"<think>It may be that</think>{CALM}<|im_end|>", CALM),
    (f"**Description:** {CALM}", CALM),
    ("The voice is\r\n- *calm*\x07 and\u2028steady.", "The voice is - calm and steady."),
    (f"{CALM} And then the spea", CALM),
    ("The tone is calm, and the", "The tone is calm, and the."),
])  # fmt: skip
def test_what_is_around_a_description_goes(answer: str, kept: str) -> None:
    assert description_in(answer) == (kept, None)


@pytest.mark.parametrize(("answer", "why"), [
    (None, "rejected"),
    ("", "empty"), (" \n\t", "empty"), ("...", "empty"), ("<think>I wonder what", "empty"),
    ("I'm sorry, but I can't help with that.", "refused"), ("I cannot listen to audio.", "refused"),
    ("As an AI language model, I have no ears.", "refused"), ("Please provide the audio file.", "refused"),
    ("I am unable to process this recording.", "refused"), ("I don\u2019t have access to the sound.", "refused"),
    ("the voice is calm and " * 10, "looped"), ("ha" * 200, "looped"), ("\u54c8" * 200, "looped"),
    ("Die Stimme ist ruhig und langsam, der Sprecher wirkt traurig.", "language"),
    ("\u8bed\u6c14\u5e73\u9759\uff0c\u8bed\u901f\u7f13\u6162\uff0c\u58f0\u97f3\u4f4e\u6c89\u3002", "language"),
    ("El tono es tranquilo y la energ\u00eda es baja, con un ritmo lento.", "language"),
])  # fmt: skip
def test_what_is_no_description_is_none_and_says_why(answer: str | None, why: str) -> None:
    assert description_in(answer) == (None, why)
    assert why in FALLBACKS


@given(st.text() | st.lists(st.sampled_from(["calm", "and", "voice.", "The", "fast,"])).map(" ".join))
@example("word " * 61)
@example("One. " + "word " * 100)
def test_any_answer_is_one_bounded_line_or_a_known_reason(answer: str) -> None:
    text, why = description_in(answer)
    assert (text is None) == (why in FALLBACKS)
    if text is not None:
        assert 1 <= len(text.split()) <= MOST_WORDS
        assert text.isprintable()
        assert text == text.strip()


class Parrot:
    """Answers as it was told."""

    def __init__(self, answers: list[str | None]) -> None:
        self.answers, self.asked = answers, list[Question]()

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        self.asked += questions
        return self.answers


@pytest.mark.process
def test_where_the_model_gives_no_description_the_measured_one_stays(real_utterance: Any) -> None:
    audio, utterance = real_utterance
    rows = [{**utterance, **row()}] * 3
    measured = backend("describers", "prosody").load(DescribeSettings())
    parrot = Parrot([CALM, "I can't hear that.", None])
    [described] = AskingDescriber(parrot, measured).describe([audio], [rows])
    [plain] = measured.describe([audio], [rows])
    assert [d["description"] for d in described] == [CALM, plain[1]["description"], plain[2]["description"]]
    assert [d["description_fallback"] for d in described] == [None, "refused", "rejected"]
    for name in plain[0].keys() - {"description", "description_fallback"}:
        assert [d[name] for d in described] == [d[name] for d in plain]
    assert np.array_equal(parrot.asked[0].samples[:], audio.stretch(utterance["start"], utterance["end"])[:])


@pytest.mark.process
def test_the_model_gets_the_utterances_of_all_recordings_at_once(real_utterance: Any) -> None:
    audio, utterance = real_utterance
    rows = [[{**utterance, **row(text=text)} for text in texts] for texts in (("a", "b"), (), ("c",))]
    parrot = Parrot([f"The voice is {tone}." for tone in ("calm", "loud", "soft")])
    described = AskingDescriber(parrot, backend("describers", "prosody").load(DescribeSettings())).describe([audio] * 3, rows)
    assert [[d["description"] for d in of_audio] for of_audio in described] == [
        ["The voice is calm.", "The voice is loud."], [], ["The voice is soft."]
    ]  # fmt: skip
    assert [question.prompt for question in parrot.asked] == [prompt(r) for of_audio in rows for r in of_audio]
