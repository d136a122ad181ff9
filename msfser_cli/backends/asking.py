"""The question that msfser asks an audio language model about an utterance's delivery, and what it keeps of the answer.

The model gets the speech, its transcript and the emphasised words. It gets the emphasised words because such models are poor at
hearing stress. If an answer is not a description (`description_in`), the measured description takes its place.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from msfser_cli.backends import Describer, Row

if TYPE_CHECKING:
    from msfser_cli.store.audio import Audio, Samples

MOST_WORDS = 60
"""The most words of a description. The text encoder cuts longer texts, and models that write more tend to make things up."""

MOST_TOKENS = 160
"""The most tokens of an answer. 60 English words have about 80 tokens. Without a limit, a model that loops would not end."""

PROMPT_VERSION = 1
_PROMPT = (
    "Listen to how this utterance is spoken.\n"
    "Its transcript: {text}\n"
    "Words that the speaker emphasises: {emphasized}\n"
    "In at most 60 words of plain English, describe the tone of voice, the energy and the pace, then the emotion that the "
    "speaker most likely feels and what in the voice or the words is the cause. Write one paragraph of whole sentences. Do not "
    "repeat the transcript, and say nothing of yourself."
)
PROMPT = f"prompt {PROMPT_VERSION} sha256:{hashlib.sha256(_PROMPT.encode()).hexdigest()[:12]}"
"""The prompt's identity. A table's lineage records it with the model."""


@dataclass(frozen=True)
class Question:
    """One utterance and the prompt about it. samples: its speech, which is read from disk when it is sliced."""

    samples: Samples
    prompt: str


class AudioLanguageModel(Protocol):
    """A model that takes audio and text, and writes text."""

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """The model's answers, in the order of `questions`; None where it rejects one. Batching does not change an answer."""
        ...


@dataclass(frozen=True)
class AskingDescriber:
    """A describer that asks `model`. Where the model gives no usable description, it keeps that of `measured`."""

    model: AudioLanguageModel
    measured: Describer

    def describe(self, audios: Sequence[Audio], rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
        """For each utterance of each recording, the columns of `schemas.DESCRIBE`. All but the description are `measured`.

        The model gets the utterances of all recordings at once.
        """
        measured = self.measured.describe(audios, rows)
        answers = self.model.answer([
            Question(audio.stretch(row["start"], row["end"]), prompt(row))
            for audio, of_audio in zip(audios, rows, strict=True) for row in of_audio
        ])  # fmt: skip
        every = [row for of_audio in measured for row in of_audio]
        described = iter([_described(row, answer) for row, answer in zip(every, answers, strict=True)])
        return [[next(described) for _ in of_audio] for of_audio in measured]


def _described(measured: Row, answer: str | None) -> Row:
    """The columns `measured` with the description in `answer`, if it has one."""
    text, fallback = description_in(answer)
    description = text if fallback is None else measured["description"]
    return {**measured, "description": description, "description_fallback": fallback}


def prompt(row: Row) -> str:
    """The prompt about the utterance `row`. Text of the recording is quoted, so the model does not read it as instructions."""
    return _PROMPT.format(
        text=json.dumps(row["text"], ensure_ascii=False) if row["text"] else "(no words were recognised)",
        emphasized=", ".join(json.dumps(span["text"], ensure_ascii=False) for span in row["emphasis_spans"]) or "(none)",
    )


def description_in(answer: str | None) -> tuple[str | None, str | None]:
    """The description in `answer`, and None. If the answer is not a description: None, and its kind in `schemas.FALLBACKS`."""
    if answer is None:
        return None, "rejected"
    text = _cleaned(answer)
    if not re.search(r"\w", text):
        return None, "empty"
    for fallback, applies in (("looped", _loops), ("refused", _refuses), ("language", _is_foreign)):
        if applies(text):
            return None, fallback
    return _bounded(text), None


def _loops(text: str) -> bool:
    """Whether the same four words in a row occur four times, or the same 25 characters (for text without spaces)."""
    words = text.lower().split()
    for parts, length in ((words, 4), (list(text), 25)):
        runs = Counter(tuple(parts[i : i + length]) for i in range(len(parts) - length + 1))
        if runs and max(runs.values()) >= 4:
            return True
    return False


def _refuses(text: str) -> bool:
    """Whether the answer begins with a sentence about the model itself, or about missing audio."""
    return bool(_REFUSAL.search(text[:200]))


_REFUSAL = re.compile(
    r"^\W*(i['’]?m|i am|we are) (sorry|afraid|unable)|^\W*(sorry|unfortunately)\b|\bas an? (ai|artificial|language model)"
    r"|\bi(['’]m| am) (unable|not able)|\bi (cannot|can['’]?t|can not|could not|couldn['’]t|do not|don['’]t|am not) "
    r"(hear|listen|process|describe|analy[sz]e|help|assist|access|provide|have (access|the ability)|comply|determine|identify)"
    r"|\b(no audio|audio (file )?(was|is) (not|missing))|\bplease (provide|upload|share)",
    re.IGNORECASE,
)


def _is_foreign(text: str) -> bool:
    """Whether the text is in a language other than English. A text of a word or two is too short to tell: false."""
    language, probability = _identifier().rank(text)[0]
    return language not in ("en", "pcm", "sco") and probability > 0.3


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _cleaned(answer: str) -> str:
    """`answer` as one line of plain text, without <think> sections, Markdown, quotes around it, and control characters."""
    text = re.sub(r"<think>.*?(</think>|$)", " ", answer, flags=re.DOTALL)
    text = re.sub(r"<\|?[\w/]+\|?>", " ", text)
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in unicodedata.normalize("NFC", text))
    text = re.sub(r"[*_`#]+", "", text)
    text = re.sub(r"^\W*(description|answer|assistant)\s*:\s*", "", " ".join(text.split()), flags=re.IGNORECASE)
    return text.strip("\"'“”‘’ ")


def _bounded(text: str) -> str:
    """At most `MOST_WORDS` words of `text`. It is cut after a whole sentence if it has one."""
    words = text.split()
    if len(words) > MOST_WORDS or not text.endswith((".", "!", "?")):
        kept = " ".join(words[:MOST_WORDS])
        whole = re.match(r".*[.!?](?=\s|$)", kept)
        text = whole.group() if whole else kept.rstrip(",;:-– ") + "."
    return text
