"""The stage embed: a vector for the voice, and one for each of the three texts of an utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.backends import Row, Spans, SpeechEncoder, TextEncoder, writing
from msfser_cli.stages.emphasize import in_place
from msfser_cli.store.audio import Audio

TEXTS = {"les_vector": "emphasized_text", "gs_vector": "text", "es_vector": "description"}
"""The vector of each semantic stream -> the column of its text."""


def embed(
    audio: Audio, rows: Sequence[Row], speech_encoder: SpeechEncoder, text_encoder: TextEncoder, les: str = "words"
) -> list[Row]:
    """The `rows` of one recording with the columns of `schemas.EMBED`. A text that is null or empty has a null vector.

    les: one of `settings.LES`. With `words` the emphasised words are encoded as their own text. With `context` the whole
    transcript is encoded, and the states of the emphasised words' tokens are averaged. Words beyond the encoder's maximum length
    do not count; if all of them are, the vector is null.
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
        emphasised = {i: pair for i, row in enumerate(rows) if row["emphasized_text"] and (pair := _emphasised(row))[1]}
        vectors = text_encoder.encode(*map(list, zip(*emphasised.values(), strict=True))) if emphasised else ()
        for row in embedded:
            row["les_vector"] = None
        for i, vector in zip(emphasised, vectors, strict=True):
            embedded[i]["les_vector"] = None if np.isnan(vector).all() else vector
    return embedded


def _emphasised(row: Row) -> tuple[str, Spans]:
    """The transcript, and the spans of its emphasised words, without the punctuation around them."""
    text, places = in_place(row)
    spans = [writing.bare(text, (places[s["first_word"]][0], places[s["last_word"]][1])) for s in row["emphasis_spans"]]
    return text, [(start, end) for start, end in spans if start < end]


def made_by(settings: Mapping[str, Any], role: str, streams: Sequence[str], model: str | None = None) -> str:
    """The encoder and model that made the vectors of `role` (acoustic or text), as text in the form of a head's config.

    Empty if the `settings` of embed do not name the encoder. streams: the streams that the head uses, because the encoding of LES
    matters only to a head that uses LES. model: the identity of the encoder's model, from the table's lineage; without it, the
    name of the model or of its folder.
    """
    if f"{role}_encoder" not in settings:
        return ""
    made = f"{settings[f'{role}_encoder']}:{model or Path(settings[f'{role}_model']).name}"
    # Older tables and heads do not have `les`. Their emphasised words were encoded as their own text.
    in_context = role == "text" and "les" in streams and settings.get("les", "words") == "context"
    return f"{made} with --les context" if in_context else made
