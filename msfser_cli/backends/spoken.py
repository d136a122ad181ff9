"""Spells out numbers, money and percentages as they are spoken, because an aligner knows only letters.

The rules and words for numbers are those of Unicode's CLDR (unicode-rbnf), for some eighty languages. A four-digit number from
1100 to 2099 is spoken as a year. A fraction, a long number and a number that starts with 0 are spoken digit by digit. Currencies
and signs such as % have names in a few languages. In the others they are left out, so they are not aligned, which does little
harm.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

NUMBER = r"\d+(?:[.,'’\u00a0\u202f٫٬]\d+)*"
"""A run of digits with separators."""

_PIECES = re.compile(rf"(?P<number>{NUMBER})(?P<suffix>[^\W\d_]*)|(?P<symbol>[%$€£&+])|(?P<letters>[^\W\d_]+(?:['’][^\W\d_]+)*)")
_SAID = re.compile(r"[\s\u00ad\u200b\-‐・]+")
_ENGINES = {"nb": "no", "tl": "fil"}
"""Whisper's code of a language -> CLDR's, where they differ."""
_POINT = frozenset({"en", "he", "hi", "ja", "ko", "ml", "ms", "te", "th", "tl", "ur", "yue", "zh"})
"""Languages that write 3.14; the others write 3,14."""
_NO_YEARS = frozenset({"ja", "yue", "zh"})
_MOST_DIGITS = 15

_ORDINALS = {
    "en": {"st", "nd", "rd", "th"}, "fr": {"er", "re", "ère", "e", "è", "ème", "eme", "nd", "nde"}, "nl": {"e", "de", "ste"},
    "es": {"º", "ª"}, "it": {"º", "ª"}, "pt": {"º", "ª"}, "ca": {"º", "ª"},
}  # fmt: skip
_MARKS = ("%", "$", "€", "£", "&", "+", ".")
_NAMES = {
    language: dict(zip(_MARKS, names, strict=True))
    for language, names in {
        "en": ("percent", "dollars", "euros", "pounds", "and", "plus", "point"),
        "de": ("Prozent", "Dollar", "Euro", "Pfund", "und", "plus", "Komma"),
        "fr": ("pour cent", "dollars", "euros", "livres", "et", "plus", "virgule"),
        "es": ("por ciento", "dólares", "euros", "libras", "y", "más", "coma"),
        "it": ("per cento", "dollari", "euro", "sterline", "e", "più", "virgola"),
        "pt": ("por cento", "dólares", "euros", "libras", "e", "mais", "vírgula"),
        "nl": ("procent", "dollar", "euro", "pond", "en", "plus", "komma"),
        "pl": ("procent", "dolarów", "euro", "funtów", "i", "plus", "przecinek"),
        "ru": ("процентов", "долларов", "евро", "фунтов", "и", "плюс", "и"),
        "zh": ("", "美元", "欧元", "英镑", "和", "加", "点"),
        "ja": ("パーセント", "ドル", "ユーロ", "ポンド", "と", "プラス", "点"),
    }.items()
}


@lru_cache(maxsize=65_536)
def spoken(word: str, language: str) -> tuple[str, ...]:
    """The spoken words of `word`, such as ("nineteen", "eighty", "four") for 1984. Without numbers and signs, `word` itself.

    A number also stays as it is if CLDR has no rules for the language.
    """
    pieces = list(_PIECES.finditer(word))
    if not any(piece["number"] or piece["symbol"] for piece in pieces):
        return (word,)
    said: list[str] = []
    names = _NAMES.get(language, {})
    money = ""  # written before the amount, spoken after it
    for i, piece in enumerate(pieces):
        if piece["symbol"]:
            name = names.get(piece["symbol"], "")
            before = piece["symbol"] in "$€£" and i + 1 < len(pieces) and pieces[i + 1]["number"] is not None
            if before and pieces[i + 1].start() == piece.end():
                money = name
            else:
                said += name.split()
        elif piece["number"]:
            said += _number(piece["number"], piece["suffix"], money, language)
            money = ""
        else:
            said.append(piece["letters"])
    return tuple(said) or (word,)


def _number(digits: str, suffix: str, money: str, language: str) -> list[str]:
    whole, fraction = _parsed(digits, language)
    if suffix.lower() in _ORDINALS.get(language, ()) and len(whole) == 1 and not fraction:
        return _say(whole[0], language, "ORDINAL")
    words: list[str] = []
    for part in whole:
        alone = (len(whole) > 1 or part == digits) and not money  # 1,984 is not a year
        year = alone and len(part) == 4 and 1100 <= int(part) <= 2099 and language not in _NO_YEARS
        words += _say(part, language, "YEAR" if year else "CARDINAL") or [part]
    if fraction and money:
        return [*words, *money.split(), *_say(fraction, language, "CARDINAL")]
    if fraction:
        words += [*_NAMES.get(language, {}).get(".", "").split(), *_one_by_one(fraction, language)]
    return [*words, *([suffix] if suffix else []), *money.split()]


def _parsed(digits: str, language: str) -> tuple[list[str], str]:
    """The whole numbers and the decimals in a run of digits: ["1234"], "5" for 1,234.5.

    A run that is not one number, such as a date, gives several whole numbers.
    """
    parts, marks = re.split(r"\D", digits), re.findall(r"\D", digits)
    decimal = {"٫", "." if language in _POINT else ","}
    in_threes = [len(parts[0]) <= 3, *(len(part) == 3 for part in parts[1:])]
    if not marks or (all(in_threes) and len({*marks}) == 1 and not decimal & {*marks}):
        return ["".join(parts)], ""
    if marks[-1] in ".,٫" and marks[-1] not in marks[:-1] and (len(marks) == 1 or all(in_threes[:-1])):
        return ["".join(parts[:-1])], parts[-1]
    return parts, ""


def _say(digits: str, language: str, purpose: str) -> list[str]:
    """The words of a number. Empty if CLDR has no rules for it."""
    if len(digits) > _MOST_DIGITS or (len(digits) > 1 and int(digits[0]) == 0):
        return _one_by_one(digits, language)
    return list(_words(int(digits), language, purpose))


def _one_by_one(digits: str, language: str) -> list[str]:
    return [word for digit in digits for word in _words(int(digit), language, "CARDINAL")]


@lru_cache(maxsize=4096)
def _words(number: int, language: str, purpose: str) -> tuple[str, ...]:
    from unicode_rbnf import FormatPurpose
    from unicode_rbnf.engine import RbnfError

    engine = _engine(language)
    if engine is None:
        return ()
    for kind in (purpose, "CARDINAL"):
        try:
            return tuple(_SAID.split(engine.format_number(number, FormatPurpose[kind]).text.strip()))
        except (ValueError, RbnfError):  # no rules for this purpose, or for this number
            continue
    return ()


@lru_cache(maxsize=8)
def _engine(language: str) -> Any:
    """The rules of a language. None if CLDR has no rules for it."""
    from unicode_rbnf import RbnfEngine

    try:
        return RbnfEngine.for_language(_ENGINES.get(language, language))
    except ValueError:
        return None
