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


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", "Haus1 Boot1 Saal1 See1 Knie1 Feuer2 Bäume2 neue2 Frauen2 Eier2 Liebe2 Idee2 Quelle2 Bayern2 Yoga2 Nation2"),
        ("de", "Museum3 Museums3 Theater3 Chaos2 real2 Ruine3 Poesie3 aktuell3 Michael3 Dialog3 Video3 Januar3 geübt2 Aïda3"),
        ("it", "piano2 guerra2 uomo2 cuore2 Europa3 causa2 pausa2 storia2 famiglia3 grazie2 aiuto3 gioia2 qui1 qua1 acqua2"),
        ("it", "noi1 poi1 miei1 suoi1 più1 può1 già1 città2"),
        ("it", "paura3 beato3 poeta3 creare3 teatro3 caos2 eroe3 aereo4 idea3 paese3 maestro3 mio2 due2 suo2 via2 zia2"),
        ("es", "puerta2 tierra2 agua2 bien1 fue1 ciudad2 viuda2 cuidado3 historia3 que1 quien1 quiero2 aquí2 guerra2 siguiente3"),
        ("es", "rey1 muy1 hay1 y1 ya1 yo1 mayo2 proyecto3 buey1 Uruguay3 estudiáis3 pingüino3 vergüenza3"),
        ("es", "día2 país2 área3 teatro3 héroe3 caos2 poeta3 creo2 leer2 real2 idea3 baúl2 maíz2 oído3 había3 seguía3 Aída3"),
        ("en", "eat1 great1 people2 friend1 creature2 nation2 special2 million2 marriage2 language2 increase2 king1 playing2"),
        ("en", "being2 going2 trying2 create2 created3 radio3 media3 idea3 area3 video3 usual3 January4 quiet2 curious3 naïve2"),
        ("ru", "Россия3 моя2 более3 её2 театр2 поэт2 музей2"), ("uk", "Україна4 історія4"), ("fr", "Noël2 naïf2"),
    ],
)  # fmt: skip
def test_vowels_that_stand_together_are_one_syllable_or_more(language: str, words: str) -> None:
    true = {word[:-1]: int(word[-1]) for word in words.split()}
    assert {word: spelling.syllables(word, language) for word in true} == true


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
