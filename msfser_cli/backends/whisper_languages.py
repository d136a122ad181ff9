"""Finds the languages that a converted Whisper model knows, from its files and without loading it."""

from __future__ import annotations

import json
from pathlib import Path

MULTILINGUAL = 51_865
"""The number of tokens of a multilingual Whisper model. An English-only model has fewer, and a model with Cantonese has more."""


def known_languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows. None if its vocabulary cannot be read."""
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    try:
        if (plain := folder / "vocabulary.txt").exists():
            tokens = plain.read_bytes().count(b"\n")
        else:
            tokens = len(json.loads((folder / "vocabulary.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    if tokens < MULTILINGUAL:
        return frozenset({"en"})
    return frozenset(_LANGUAGE_CODES) - (set() if tokens > MULTILINGUAL else {"yue"})
