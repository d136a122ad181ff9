"""embed: one vector for the voice and one for each of the three texts of an utterance."""

from __future__ import annotations

from collections.abc import Sequence

from msfser_cli.backends import Row, SpeechEncoder, TextEncoder
from msfser_cli.store.audio import Audio

TEXTS = {"les_vector": "emphasized_text", "gs_vector": "text", "es_vector": "description"}
"""Which text each semantic stream stands for."""


def embed(audio: Audio, rows: Sequence[Row], speech_encoder: SpeechEncoder, text_encoder: TextEncoder) -> list[Row]:
    """`rows` of one recording with the columns of `schemas.EMBED`; a text that is absent or empty has a null vector."""
    voices = speech_encoder.encode([audio.clip(row["start"], row["end"]) for row in rows])
    texts = sorted({row[column] for row in rows for column in TEXTS.values() if row[column]})
    meaning = dict(zip(texts, text_encoder.encode(texts), strict=True))
    return [
        {**row, "acoustic_vector": voice, **{vector: meaning.get(row[column]) for vector, column in TEXTS.items()}}
        for row, voice in zip(rows, voices, strict=True)
    ]
