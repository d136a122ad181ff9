"""The stage embed: a vector for the voice, and one for each of the three texts of an utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from msfser_cli.backends import Row, Spans, SpeechEncoder, TextEncoder, writing
from msfser_cli.backends.registry import backend, loaded
from msfser_cli.languages import UNKNOWN
from msfser_cli.model_store.models import ModelFolder, locate
from msfser_cli.model_store.registry import registry
from msfser_cli.settings import EmbedSettings
from msfser_cli.stages.emphasize import in_place
from msfser_cli.stages.stage import Needs, Stage
from msfser_cli.stages.work import Step, Work
from msfser_cli.store.audio import Samples
from msfser_cli.store.levels import levelled

TEXTS = {"les_vector": "emphasized_text", "gs_vector": "text", "es_vector": "description"}
"""The vector of each semantic stream -> the column of its text."""


WORDS = ("les_vector", "gs_vector")
"""The vectors of what the speaker said, in the speaker's language. msfser writes descriptions in English."""


def embed(
    works: Sequence[Work], speech_encoder: SpeechEncoder, text_encoder: TextEncoder, les: str = "words",
    languages: Sequence[str] = (),
) -> None:
    """Add the columns of `schemas.EMBED` to the rows of each recording. A text that is null or empty has a null vector.

    languages: those that the text encoder knows; empty: any. Words in another language have null vectors, because the encoder
    gives them a meaning that they do not have. Words in an unknown language are encoded.

    les: one of `settings.LES`. With `words` the emphasised words are encoded as their own text. With `context` the whole
    transcript is encoded, and the states of the emphasised words' tokens are averaged. Words beyond the encoder's maximum length
    do not count; if all of them are, the vector is null.
    """
    clips: dict[int, list[Samples]] = {}
    for i, work in enumerate(works):
        with work.failing_alone():
            levels = {row["channel"]: levelled(work.audio.of_channel(row["channel"])) for row in work.rows}
            clips[i] = [levels[row["channel"]].stretch(row["start"], row["end"]) for row in work.rows]
    voices = iter(speech_encoder.encode([clip for i in clips for clip in clips[i]]))
    alone = {vector: column for vector, column in TEXTS.items() if (vector, les) != ("les_vector", "context")}

    def is_known(row: Row) -> bool:
        return not languages or row["language"] in languages or row["language"] in UNKNOWN

    def texts_of(row: Row) -> dict[str, str]:
        return {v: row[c] for v, c in alone.items() if row[c] and (v not in WORDS or is_known(row))}

    texts = sorted({text for i in clips for row in works[i].rows for text in texts_of(row).values()})
    meaning = dict(zip(texts, text_encoder.encode(texts), strict=True))
    for i in clips:
        works[i].rows = [
            {**row, **dict.fromkeys(TEXTS), "acoustic_vector": next(voices), **{v: meaning[t] for v, t in texts_of(row).items()}}
            for row in works[i].rows
        ]
    if les == "context":
        rows = [row for i in clips for row in works[i].rows if row["emphasized_text"] and is_known(row)]
        emphasised = [(row, text, spans) for row in rows for text, spans in [_emphasised(row)] if spans]
        vectors = text_encoder.encode([text for _, text, _ in emphasised], [spans for _, _, spans in emphasised])
        for (row, _, _), vector in zip(emphasised, vectors, strict=True):
            row["les_vector"] = None if np.isnan(vector).all() else vector


def _needs(settings: EmbedSettings) -> Needs:
    models = {"acoustic": locate(settings.acoustic_model), "text": locate(settings.text_model)}
    backend("encoders", settings.acoustic_encoder)
    backend("encoders", settings.text_encoder)
    known = [m.languages for m in registry().values() if f"{m.source}@{m.revision}" == models["text"].identity]
    return Needs(replace(settings, text_languages=tuple(known[0]) if known else ()), models)


def _load(settings: EmbedSettings, models: Mapping[str, ModelFolder]) -> Step:
    speech = loaded("encoders", settings.acoustic_encoder, models["acoustic"].path)
    text = loaded("encoders", settings.text_encoder, models["text"].path)
    return lambda works: embed(works, speech, text, settings.les, settings.text_languages)


STAGE = Stage(_needs, _load, lambda settings: f"encoder {settings.acoustic_encoder} or {settings.text_encoder}")


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
