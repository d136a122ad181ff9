"""Protocols for other people's models. A backend implements one of them, and msfser finds it by its name.

A backend is a module in one of the four folders, or a module that an installed package names in the entry point group
`msfser.transcribers`, `msfser.emphasizers`, `msfser.describers` or `msfser.encoders`. The first line of its docstring is its
description in lists. `REQUIRES` names the packages that it needs. `load(...)` returns an object that satisfies the protocol.

A describer has `needs(settings)`, which returns the model that it asks, or None. msfser calls it before the run begins, and
passes the result to `load`. A transcriber may have `languages(folder)`, which returns the codes of the languages that the model
knows, or None for any. msfser refuses other languages before the run begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from msfser_cli.store.audio import Audio, Samples

# oneDNN, which torch and CTranslate2 use, caches the code for the last 1024 input shapes. Almost every clip has a shape of its
# own, and each entry takes half a megabyte.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
# Without this, importing ONNX Runtime starts its telemetry and writes an identifier of the machine to disk.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Row = dict[str, Any]
"""One utterance: column name -> value. `msfser_cli.schemas` describes the columns."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word.

    start, end: seconds from the start of the audio passed in. score: 0..1, or None. aligned: False if the times are interpolated.
    speaker: the stage sets it. blank: the characters before the word in the text, "" in a script without blanks; the blanks and
    words in order make up the text. language, language_probability: those of the word's passage; None: those of the transcript.
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
    """The words of a recording or a part of it, and the language of most of them. A word in another language has its own.

    language_probability: None if the language was given. regions: where voice activity was detected, as (start, end) in seconds
    from the start of the audio; None if that was not measured, for example because the text was given.
    """

    language: str
    language_probability: float | None
    words: list[Word]
    regions: Sequence[tuple[float, float]] | None = None

    @property
    def speech(self) -> bool:
        """Whether there is speech. True if voice activity was not measured."""
        return self.regions is None or len(self.regions) > 0


def text_of(words: Sequence[Word]) -> str:
    """The text that the words and their blanks make up, without the blank before the first word."""
    return "".join(word.blank + word.word for word in words)[len(words[0].blank) :] if words else ""


class Transcriber(Protocol):
    """Turns audio into words with times.

    It gets clips of any recordings at once, so that it can work on batches of them. What a clip gets depends on that clip alone.
    A clip may be hours long and not in memory, so a transcriber slices only the part that it works on.
    """

    def transcribe(self, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """The words of each clip. Detects the language where it is None."""
        ...

    def align(self, clips: Sequence[Samples], texts: Sequence[str], languages: Sequence[str | None]) -> list[Transcript]:
        """Times for the words of each text, which is spoken in the clip. The words are those of `writing.split`."""
        ...


class Emphasizer(Protocol):
    """Scores the prominence of each word."""

    def emphasize(self, audio: Audio, rows: Sequence[Row]) -> list[Row]:
        """`emphasis` and `emphasis_cues` for each utterance of one recording, with one entry for each of its `words`."""
        ...


class Describer(Protocol):
    """Describes how utterances are spoken.

    It gets any recordings at once, so that it can work on batches of their utterances. What an utterance gets depends on its own
    recording alone.
    """

    def describe(self, audios: Sequence[Audio], rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
        """The columns of `schemas.DESCRIBE` for each utterance of each recording.

        audios: the recordings; one whose channels are split comes once for each channel. rows: the utterances in each of them.
        """
        ...


class SpeechEncoder(Protocol):
    """Turns stretches of speech into vectors."""

    dimension: int

    def encode(self, clips: Sequence[Samples]) -> np.ndarray:
        """float32 [len(clips), dimension]. A batch and single clips give the same vectors, to 1e-4.

        `clips` are all clips of a recording, and not in memory. An encoder slices only those that it encodes next.
        """
        ...


Spans = Sequence[tuple[int, int]]
"""Stretches of a text: the index of the first character, and of the one after the last."""


class TextEncoder(Protocol):
    """Turns texts into vectors."""

    dimension: int

    def encode(self, texts: Sequence[str], spans: Sequence[Spans] | None = None) -> np.ndarray:
        """float32 [len(texts), dimension]. A batch and single texts give the same vectors, to 1e-4.

        With `spans`, the vector represents only those parts of the text, encoded in the context of the whole text. It is NaN if
        the model's maximum length cuts off all of them. Only `--les context` passes `spans`.
        """
        ...
