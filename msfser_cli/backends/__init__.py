"""Other people's models behind four small protocols, and how one is found by name.

A backend is a module in one of the four folders, or a module that an installed package names in the entry point group
`msfser.transcribers`, `msfser.emphasizers`, `msfser.describers` or `msfser.encoders`. The module's docstring's first line is
what lists show, `REQUIRES` names the packages it needs, and `load(...)` returns the object that satisfies the protocol. A
describer's `needs(settings)` finds the model that it asks before the run begins (None: it asks none), and `load` gets that too. A
transcriber may have `languages(folder)`: the codes of the languages that its model knows (None: any), so that others are refused
before the run begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from msfser_cli.store.audio import Audio, Samples

# oneDNN, beneath torch and CTranslate2, keeps what it compiled for the last 1024 shapes that it met. Clips are of any length, and
# that is half a megabyte each.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
# ONNX Runtime begins to report its use, and writes an identity of the machine to disk, when it is imported, unless told not to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Row = dict[str, Any]
"""One utterance: column name to value, as `msfser_cli.schemas` describes them."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word. Times in seconds from the start of the audio that was given; `score` 0..1 or None.

    `blank` is what stands before it in the text, "" in a script without blanks: the blanks and words one after the other are the
    text as it is written. `language` and `language_probability` are those of the passage that it is in; None stands for the
    transcript's. `speaker` is for the stage to say.
    """

    word: str
    start: float
    end: float
    score: float | None
    aligned: bool = True
    speaker: str | None = None
    blank: str = " "
    language: str | None = None
    language_probability: float | None = None


@dataclass(frozen=True)
class Transcript:
    """The words of a recording or a part of it, and the language of most of them. Words in another language say so themselves.

    language_probability: None if the language was given. regions: where voice activity was detected, as (start, end) in seconds
    from the start of the audio; None if that was not measured, as where the text was given.
    """

    language: str
    language_probability: float | None
    words: list[Word]
    regions: Sequence[tuple[float, float]] | None = None

    @property
    def speech(self) -> bool:
        """Whether somebody speaks, as far as is known."""
        return self.regions is None or len(self.regions) > 0


def text_of(words: Sequence[Word]) -> str:
    """The text that words make up, by their own blanks; without what is blank before the first."""
    return "".join(word.blank + word.word for word in words)[len(words[0].blank) :] if words else ""


class Transcriber(Protocol):
    """Turns audio into words with times. Its `samples` may be hours that are not in memory: it slices what it works on."""

    def transcribe(self, samples: Samples, language: str | None) -> Transcript:
        """Words of `samples`; detects the language unless it is given."""
        ...

    def align(self, samples: Samples, text: str, language: str | None) -> Transcript:
        """Times for the words of a known `text` spoken in `samples`; the words are those of `writing.split`."""
        ...


class Emphasizer(Protocol):
    """Scores the prominence of each word."""

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        """For each utterance of one recording, `emphasis` and `emphasis_cues`: one entry a word of its `words`."""
        ...


class Describer(Protocol):
    """Puts the delivery into words."""

    def describe(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        """For each utterance of one recording, the columns of `schemas.DESCRIBE`."""
        ...


class SpeechEncoder(Protocol):
    """Turns stretches of speech into vectors."""

    dimension: int

    def encode(self, clips: Sequence[Samples]) -> np.ndarray:
        """float32 [len(clips), dimension]. A batch gives what single clips give, to 1e-4.

        The clips are all of a recording's and not in memory: no more of them is to be sliced at once than is encoded at once.
        """
        ...


Spans = Sequence[tuple[int, int]]
"""Stretches of a text: each the first character and the one after the last."""


class TextEncoder(Protocol):
    """Turns texts into vectors."""

    dimension: int

    def encode(self, texts: Sequence[str], spans: Sequence[Spans] | None = None) -> np.ndarray:
        """float32 [len(texts), dimension]. A batch gives what single texts give, to 1e-4.

        With `spans`, a vector stands for those parts of its text alone, as they are meant in the whole of it; NaN where the text
        is too long for the model and none of them is left. They are given with `--les context` only.
        """
        ...
