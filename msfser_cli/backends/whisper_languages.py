"""Which languages a converted Whisper knows, by its files; nothing is loaded."""

from __future__ import annotations

import json
from pathlib import Path

MULTILINGUAL = 51_865
"""Tokens of a Whisper for many languages; one for English alone has fewer, and one that tells Cantonese apart has more."""


def known_languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows; None where its vocabulary cannot be read."""
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
