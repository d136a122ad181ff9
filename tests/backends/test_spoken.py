"""Numbers as they are said."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from msfser_cli.backends.spoken import spoken


@pytest.mark.parametrize(
    ("word", "language", "said"),
    [
        ("1984", "en", "nineteen eighty four"), ("1,984", "en", "one thousand nine hundred eighty four"),
        ("1990-1995", "en", "nineteen ninety nineteen ninety five"), ("1980s", "en", "nineteen eighty s"),
        ("$5.50", "en", "five dollars fifty"), ("$5", "en", "five dollars"), ("20%,", "en", "twenty percent"),
        ("(%)", "en", "percent"), ("&", "en", "and"), ("15th", "en", "fifteenth"), ("1,234.5", "en",
         "one thousand two hundred thirty four point five"), ("3.14", "en", "three point one four"), ("0.05", "en",
         "zero point zero five"), ("007", "en", "zero zero seven"), ("0", "en", "zero"), ("10:30", "en", "ten thirty"),
        ("COVID-19", "en", "COVID nineteen"), ("B2B", "en", "B two B"), ("9" * 16, "en", " ".join(["nine"] * 16)),
        ("1984", "de", "neunzehnhundertvierundachtzig"), ("1.234", "de", "eintausendzweihundertvierunddreißig"),
        ("3,14", "de", "drei Komma eins vier"), ("10.12.2024", "de", "zehn zwölf zweitausendvierundzwanzig"),
        ("1.000.000,25", "de", "eine Million Komma zwei fünf"), ("5,50€", "de", "fünf Komma fünf null Euro"),
        ("2ème", "fr", "deuxième"), ("80%", "fr", "quatre vingts pour cent"), ("3,5", "ru", "три и пять"),
        ("42", "zh", "四十二"), ("2007", "zh", "二千〇七"), ("42", "ko", "사십이"),
        ("٤٢", "ar", "إثنان وأربعون"), ("42", "nb", "førtito"),
        ("50%", "sv", "femtio"), ("3kg", "eu", "3 kg"),
    ],
)  # fmt: skip
def test_what_is_said(word: str, language: str, said: str) -> None:
    assert " ".join(spoken(word, language)) == said


@pytest.mark.parametrize("word", ["don't", "well-known", "½", "x²", "–", "", "c'est"])
def test_a_word_without_digits_stays_as_it_is(word: str) -> None:
    assert spoken(word, "en") == (word,)


@pytest.mark.parametrize("language", ["eu", "te", "und", "../en", ""])
def test_where_there_are_no_rules_a_number_stays_as_it_is(language: str) -> None:
    assert spoken("42", language) == ("42",)


LANGUAGES = ["en", "de", "fr", "pl", "ru", "ar", "zh", "hi", "fi", "ko", "he", "th", "vi"]


@given(word=some.text("0123456789.,$%€ '-ab:/٣४", max_size=40), language=some.sampled_from(LANGUAGES))
@example(word="1" * 10_000, language="en")
@example(word="0,0.0,0", language="de")
def test_whatever_is_written_is_said_in_words(word: str, language: str) -> None:
    said = spoken(word, language)
    assert said
    assert said == (word,) or all(part and not any(c.isdigit() for c in part) for part in said)
