"""embed: one vector for the voice and one for each of the three texts of an utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.backends import Row, Spans, SpeechEncoder, TextEncoder, writing
from msfser_cli.stages.emphasize import in_place
from msfser_cli.store.audio import Audio

TEXTS = {"les_vector": "emphasized_text", "gs_vector": "text", "es_vector": "description"}
"""Which text each semantic stream stands for."""


def embed(
    audio: Audio, rows: Sequence[Row], speech_encoder: SpeechEncoder, text_encoder: TextEncoder, les: str = "words"
) -> list[Row]:
    """`rows` of one recording with the columns of `schemas.EMBED`; a text that is absent or empty has a null vector.

    les: one of `settings.LES`. With `words` the emphasised words are a text of their own. With `context` the whole transcript is
    encoded and what their tokens become in it is averaged; words beyond the encoder's length do not count, and where they all
    lie beyond it the vector is null.
    """
    voices = speech_encoder.encode([audio.stretch(row["start"], row["end"]) for row in rows])
    alone = {vector: column for vector, column in TEXTS.items() if (vector, les) != ("les_vector", "context")}
    texts = sorted({row[column] for row in rows for column in alone.values() if row[column]})
    meaning = dict(zip(texts, text_encoder.encode(texts), strict=True))
    embedded = [
        {**row, "acoustic_vector": voice, **{vector: meaning.get(row[column]) for vector, column in alone.items()}}
        for row, voice in zip(rows, voices, strict=True)
    ]
    if les == "context":
        emphasised = {i: found for i, row in enumerate(rows) if row["emphasized_text"] and (found := _emphasised(row))[1]}
        vectors = text_encoder.encode(*map(list, zip(*emphasised.values(), strict=True))) if emphasised else ()
        for row in embedded:
            row["les_vector"] = None
        for i, vector in zip(emphasised, vectors, strict=True):
            embedded[i]["les_vector"] = None if np.isnan(vector).all() else vector
    return embedded


def _emphasised(row: Row) -> tuple[str, Spans]:
    """The transcript, and where in it the emphasised words are, without the punctuation around them."""
    text, places = in_place(row)
    spans = [writing.bare(text, (places[s["first_word"]][0], places[s["last_word"]][1])) for s in row["emphasis_spans"]]
    return text, [(start, end) for start, end in spans if start < end]


def made_by(settings: Mapping[str, Any], role: str, streams: Sequence[str], model: str | None = None) -> str:
    """What made the vectors of `role` (acoustic or text), as a head's config says it; empty where the `settings` of embed do not.

    streams: those that the head uses: how LES was made matters to a head that uses it.
    model: the identity of the encoder's model, from the table's lineage. Without one it goes by its name, or that of its folder.
    """
    if f"{role}_encoder" not in settings:
        return ""
    made = f"{settings[f'{role}_encoder']}:{model or Path(settings[f'{role}_model']).name}"
    # Tables and heads that do not say it are of the time when there was nothing but words.
    in_context = role == "text" and "les" in streams and settings.get("les", "words") == "context"
    return f"{made} with --les context" if in_context else made
