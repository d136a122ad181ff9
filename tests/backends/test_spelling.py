"""Phones and syllables estimated from spelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from msfser_cli.backends import spelling


@pytest.mark.parametrize(
    ("word", "language", "phones", "syllables"),
    [
        ("the", "en", 2, 1), ("make", "en", 3, 1), ("jumped,", "en", 5, 1), ("wanted", "en", 6, 2), ("shops", "en", 4, 1),
        ("little", "en", 4, 2), ("box", "en", 4, 1), ("beyond", "en", 6, 2), ("don't", "en", 4, 1), ("I", "en", 1, 1),
        ("schnell", "de", 4, 1), ("Straße", "de", 6, 2), ("machen", "de", 5, 2), ("été", "fr", 3, 2), ("año", "es", 3, 2),
        ("хорошо", "ru", 6, 3), ("день", "ru", 3, 1), ("καλά", "el", 4, 2), ("你好", "zh", 6, 2), ("ありがとう", "ja", 10, 5),
        ("район", "ru", 5, 2), ("мой", "ru", 3, 1), ("20%", "en", 12, 4),
        ("한국", "ko", 6, 2), ("שלום", "he", 6, 2), ("2026", "en", 12, 4),
    ],
)  # fmt: skip
def test_known_words(word: str, language: str, phones: float, syllables: float) -> None:
    assert (spelling.phones(word, language), spelling.syllables(word, language)) == (phones, syllables)


def test_close_to_pronounced_syllables_of_running_english() -> None:
    text = (
        "permission is hereby granted free of charge to any person obtaining a copy of the software and associated documentation "
        "files to deal in the software without restriction"
    )
    true = [3, 1, 2, 2, 1, 1, 1, 1, 2, 2, 3, 1, 2, 1, 1, 2, 1, 5, 5, 1, 1, 1, 1, 1, 2, 2, 3]
    estimated = [spelling.syllables(word, "en") for word in text.split()]
    assert abs(sum(estimated) - sum(true)) <= 2
    assert np.mean(np.array(estimated) == true) > 0.9


@pytest.mark.parametrize("word", ["", "...", "-", "♪", "  "])
def test_no_letter_no_phone(word: str) -> None:
    assert spelling.phones(word, "en") == spelling.syllables(word, "en") == 0


@given(some.text(max_size=30), some.sampled_from(["en", "de", "zh", "ar", "hi", "und"]))
def test_any_text_has_a_finite_count(word: str, language: str) -> None:
    phones, syllables = spelling.phones(word, language), spelling.syllables(word, language)
    assert (phones == 0) == (syllables == 0)
    assert phones == 0 or (1 <= phones <= 6 * len(word) and 1 <= syllables <= 6 * len(word))
    assert spelling.phones(f'"{word}!"', language) == phones
