"""embed: one vector for the voice and one for each of the three texts of an utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msfser_cli.backends import Row, SpeechEncoder, TextEncoder
from msfser_cli.store.audio import Audio

TEXTS = {"les_vector": "emphasized_text", "gs_vector": "text", "es_vector": "description"}
"""Which text each semantic stream stands for."""


def embed(audio: Audio, rows: Sequence[Row], speech_encoder: SpeechEncoder, text_encoder: TextEncoder) -> list[Row]:
    """`rows` of one recording with the columns of `schemas.EMBED`; a text that is absent or empty has a null vector."""
    voices = speech_encoder.encode([audio.stretch(row["start"], row["end"]) for row in rows])
    texts = sorted({row[column] for row in rows for column in TEXTS.values() if row[column]})
    meaning = dict(zip(texts, text_encoder.encode(texts), strict=True))
    return [
        {**row, "acoustic_vector": voice, **{vector: meaning.get(row[column]) for vector, column in TEXTS.items()}}
        for row, voice in zip(rows, voices, strict=True)
    ]


def made_by(settings: Mapping[str, Any], role: str, model: str | None = None) -> str:
    """What made the vectors of `role` (acoustic or text), as a head's config says it; empty where the `settings` of embed do not.

    model: how the encoder's model is named, if not by its own name or that of its folder.
    """
    if f"{role}_encoder" not in settings:
        return ""
    return f"{settings[f'{role}_encoder']}:{Path(settings[f'{role}_model']).name if model is None else model}"
