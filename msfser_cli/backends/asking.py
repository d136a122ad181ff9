"""What an audio language model is asked about an utterance's delivery, and what of its answer is kept.

The model gets the speech, its transcript and the words that `emphasize` found to be stressed: such models are poor at hearing
stress, so they are told and never asked. Where an answer is no description (`judged`), the measured one stays in its place.
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
"""A description has no more words: the encoder of texts cuts long ones, and models that go on tend to make things up."""

MOST_TOKENS = 160
"""A model is to write no more: 60 words of English are some 80 tokens, and one that loops ends nowhere."""

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
"""The prompt's identity, as lineage records it."""


@dataclass(frozen=True)
class Question:
    """One utterance to be described: its speech, of which nothing is in memory yet, and what is asked about it."""

    samples: Samples
    prompt: str


class AudioLanguageModel(Protocol):
    """A model that hears and writes."""

    def answer(self, questions: Sequence[Question]) -> list[str | None]:
        """What it writes for each question; None where it would not take this one. A batch gives what single questions give."""
        ...


@dataclass(frozen=True)
class Asked:
    """A describer that asks `model`, and keeps what `measured` says where the model gives no description."""

    model: AudioLanguageModel
    measured: Describer

    def describe(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        """For each utterance of one recording, the columns of `schemas.DESCRIBE`; all but the description are `measured`."""
        described = self.measured.describe(audio, rows)
        answers = self.model.answer([Question(audio.stretch(row["start"], row["end"]), prompt(row)) for row in rows])
        out = []
        for row, answer in zip(described, answers, strict=True):
            text, why = judged(answer)
            out.append({**row, "description": text if why is None else row["description"], "description_fallback": why})
        return out


def prompt(row: Row) -> str:
    """What is asked about the utterance; text of the recording is quoted, so that it reads as no part of the request."""
    return _PROMPT.format(
        text=json.dumps(row["text"], ensure_ascii=False) if row["text"] else "(no words were recognised)",
        emphasized=", ".join(json.dumps(span["text"], ensure_ascii=False) for span in row["emphasis_spans"]) or "(none)",
    )


def judged(answer: str | None) -> tuple[str | None, str | None]:
    """The description in `answer`, and None; or None, and which of `schemas.FALLBACKS` the answer is."""
    if answer is None:
        return None, "rejected"
    text = _cleaned(answer)
    if not re.search(r"\w", text):
        return None, "empty"
    for why, is_so in (("looped", _loops), ("refused", _refuses), ("language", _is_foreign)):
        if is_so(text):
            return None, why
    return _bounded(text), None


def _loops(text: str) -> bool:
    """Whether four words in a row, or five characters where there are no spaces, come four times."""
    words = text.lower().split()
    for parts, length in ((words, 4), (list(text), 25)):
        runs = Counter(tuple(parts[i : i + length]) for i in range(len(parts) - length + 1))
        if runs and max(runs.values()) >= 4:
            return True
    return False


def _refuses(text: str) -> bool:
    """Whether the answer begins by speaking of the model, which a description never does."""
    return bool(_REFUSAL.search(text[:200]))


_REFUSAL = re.compile(
    r"^\W*(i['’]?m|i am|we are) (sorry|afraid|unable)|^\W*(sorry|unfortunately)\b|\bas an? (ai|artificial|language model)"
    r"|\bi(['’]m| am) (unable|not able)|\bi (cannot|can['’]?t|can not|could not|couldn['’]t|do not|don['’]t|am not) "
    r"(hear|listen|process|describe|analy[sz]e|help|assist|access|provide|have (access|the ability)|comply|determine|identify)"
    r"|\b(no audio|audio (file )?(was|is) (not|missing))|\bplease (provide|upload|share)",
    re.IGNORECASE,
)


def _is_foreign(text: str) -> bool:
    """Whether the text is in a language other than English, as far as that can be told: of a word or two it cannot."""
    language, probability = _identifier().rank(text)[0]
    return language not in ("en", "pcm", "sco") and probability > 0.3


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _cleaned(answer: str) -> str:
    """`answer` as one line of plain text: without a model's thoughts, marks of Markdown, quotes around it, control characters."""
    text = re.sub(r"<think>.*?(</think>|$)", " ", answer, flags=re.DOTALL)
    text = re.sub(r"<\|?[\w/]+\|?>", " ", text)
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in unicodedata.normalize("NFC", text))
    text = re.sub(r"[*_`#]+", "", text)
    text = re.sub(r"^\W*(description|answer|assistant)\s*:\s*", "", " ".join(text.split()), flags=re.IGNORECASE)
    return text.strip("\"'“”‘’ ")


def _bounded(text: str) -> str:
    """At most `MOST_WORDS` words of `text`, of whole sentences if there is one."""
    words = text.split()
    if len(words) > MOST_WORDS or not text.endswith((".", "!", "?")):
        kept = " ".join(words[:MOST_WORDS])
        whole = re.match(r".*[.!?](?=\s|$)", kept)
        text = whole.group() if whole else kept.rstrip(",;:-– ") + "."
    return text
