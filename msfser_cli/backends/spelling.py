"""How many phones and syllables a written word has, estimated from its spelling.

An estimate, not a pronunciation: it serves to compare the words of one sentence (duration per phone) and to count syllables
over an utterance (articulation rate), for any language without a dictionary. By script:

- Latin, Greek and Cyrillic: a letter is one phone; letters that are written together for one sound (`_DIGRAPHS`, doubled
  letters) count once, x counts twice, Cyrillic signs not at all. Vowel letters that stand together are one syllable, but each
  is its own in Cyrillic, and in German, Italian and Spanish unless they are a diphthong (`_NUCLEI`). English, and only English,
  has a silent final e and the silent e of -ed and -es.
- Han: a character is one syllable of three phones (initial, medial or nucleus, final). Kana: a character is one mora, two
  phones. Hangul: a block is one syllable with as many phones as it has letters.
- Abjads (Arabic, Hebrew): short vowels are not written: a letter is 1.5 phones, two letters make a syllable.
- Indic scripts and others: a letter is one phone; a base consonant carries its vowel, so a vowel sign replaces it.
- A digit is a word of its own: one syllable of three phones. So is a sign that is read out (%, &, $): two syllables of six.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from msfser_cli.backends.writing import is_sign

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue"})
"""Languages written without spaces between words."""

_DIGRAPHS = re.compile(
    r"tsch|sch|tch|eau|igh|(?<=[a-z])gh|ch|sh|th|ph|wh|ck|ng|kn(?=[aeiou])|qu(?=[eiy])|"
    r"ai|ay|au|aw|ea|ee|ei|eu|ey|ie|oa|oe|oo|ou|ow|oy|oi|ue|ui|uy|"
    r"([bcdfghjklmnpqrstvwxzаеёиоуыэюябвгдзклмнпрстфхцч])\1"
)
_VOWELS = "aeiouyæøœıαεηιουω"
_SEMIVOWELS = str.maketrans("йў", "jw")
"""Letters that are consonants, and would be vowels without their mark."""
_VOWEL_RUN = re.compile(rf"[ëï{_VOWELS}][{_VOWELS}]*|[аеёиоуыэюяіїє]")
"""The vowels of one syllable. A diaeresis starts a new one (naïve), and so does each Cyrillic vowel."""
_NUCLEI = {
    language: re.compile(re.sub(r"\s+#.*", "", pattern), re.VERBOSE)
    for language, pattern in {
        "de": r"""
            ^[^aeiouyäöüëï]*i(?=[aouäöü])                                                # Bio, Dialog
            | i?(?: eu(?!ms?$) | [aä]u | [ae][iy] | o[iyu] | aa | ee | oo | [aouäöü] )   # Feuer, Nation; but Museum
            | ie | [eiëï] | y(?![aeiouäöü])
            """,
        "it": r"""
            ^[^aeiouàèéìòóùúï]*[iu](?=[aeo]$)                                            # mio, due
            | (?<=p)a(?=ur)                                                              # paura
            | [iu]{0,2}[aeoàèéòó][iu]? | [iu][iuìù]? | [ìùúï] | y(?![aeiou])             # piano, miei
            """,
        "es": r"""
            [iuü]{0,2}[aeoáéó][iuüy]? | [uü]?í | i?ú                                     # puerta, buey; but día
            | [iuü][iuüy]? | ï | y(?![aeiouáéíóú])
            """,
    }.items()
}
"""The vowels of one syllable, by language. Two vowels are one if they are a diphthong."""
_ENGLISH_HIATUS = re.compile(
    r"[aeouy](?=ings?$)|(?<=[bdmprv])i(?=[ao](?!ge)|u[ms]|en[ct])|i(?=et)|(?<=cr)e(?=at(?!u))|"
    r"(?<=[dr])e(?=o|as?$)|(?<=[dnrstx])u(?=a[lr])"
)
"""An English vowel that is not in the syllable of the next one: being, radio, quiet, create, idea, usual."""
_GLIDE = re.compile(rf"(?<=[{_VOWELS}])y(?=[{_VOWELS}])")
_SILENT_E = re.compile(r"(?<=[^aeiouy])e$")
_SILENT_ED = re.compile(r"(?<=[^aeiouytd])e(?=d$)")
_SILENT_ES = re.compile(r"(?<=[^aeiouysxzcg])e(?=s$)")


@lru_cache(maxsize=65_536)
def phones(word: str, language: str) -> float:
    """The estimated phones of `word` (ISO 639-1 `language`): 0 for a word without letters or digits, else at least 1."""
    return _count(word, language)[0]


@lru_cache(maxsize=65_536)
def syllables(word: str, language: str) -> float:
    """The estimated syllables of `word` (ISO 639-1 `language`): 0 for a word without letters or digits, else at least 1."""
    return _count(word, language)[1]


def _count(word: str, language: str) -> tuple[float, float]:
    phone_count = syllable_count = 0.0
    for script, run in _runs(word):
        p, s = _count_run(script, run, language)
        phone_count, syllable_count = phone_count + p, syllable_count + s
    if phone_count == 0:
        return 0.0, 0.0
    return max(phone_count, 1.0), max(syllable_count, 1.0)


def _runs(word: str) -> list[tuple[str, str]]:
    """The word's letters and digits as runs of one script: ("alphabet", "cafe"), ("digit", "12"), ..."""
    runs: list[tuple[str, str]] = []
    for character in unicodedata.normalize("NFC", word.lower()):
        if (script := _script(character)) is None:
            continue
        if runs and runs[-1][0] == script:
            runs[-1] = (script, runs[-1][1] + character)
        else:
            runs.append((script, character))
    return runs


@lru_cache(maxsize=8192)
def _script(character: str) -> str | None:
    category = unicodedata.category(character)
    if is_sign(character):
        return "sign"
    if category.startswith("N"):
        return "digit"
    if not category.startswith(("L", "M")):
        return None
    name = unicodedata.name(character, "")
    for script, prefixes in (
        ("alphabet", ("LATIN", "GREEK", "CYRILLIC")),
        ("han", ("CJK",)),
        ("kana", ("HIRAGANA", "KATAKANA")),
        ("hangul", ("HANGUL",)),
        ("abjad", ("ARABIC", "HEBREW")),
    ):
        if name.startswith(prefixes):
            # Vowel points of an abjad and combining accents are no sounds of their own.
            return None if category == "Mn" else script
    return None if category == "Mn" and name.startswith("COMBINING") else "other"


def _count_run(script: str, run: str, language: str) -> tuple[float, float]:
    size = len(run)
    if script == "digit":
        return 3.0 * size, float(size)
    if script == "sign":
        return 6.0 * size, 2.0 * size
    if script == "han":
        return 3.0 * size, float(size)
    if script == "kana":
        return 2.0 * size, float(size)
    if script == "hangul":
        return float(sum(len(unicodedata.normalize("NFD", c)) for c in run)), float(size)
    if script == "abjad":
        return 1.5 * size, max(1.0, size / 2)
    if script == "other":
        bases = sum(unicodedata.category(c).startswith("L") for c in run)
        return float(size), float(max(bases, 1))
    letters = run.translate(_SEMIVOWELS)
    plain = _GLIDE.sub("j", _unmarked(letters, _VOWEL_RUN))
    spoken, more = plain, 0
    if language == "en":
        more = len(_ENGLISH_HIATUS.findall(plain))
        if len(_VOWEL_RUN.findall(plain)) > 1:
            for silent in (_SILENT_E, _SILENT_ED, _SILENT_ES):
                spoken = silent.sub("", spoken)
            # A final -le after a consonant is a syllable: table, little.
            more += bool(re.search(r"[^aeiouylr]le$", plain))
    if language in _NUCLEI:
        nuclei = _NUCLEI[language]
        syllable_count = len(nuclei.findall(_unmarked(letters, nuclei).replace("qu", "qw")))
    else:
        syllable_count = len(_VOWEL_RUN.findall(spoken)) + more
    phone_text = _DIGRAPHS.sub("1", re.sub(r"[ьъ]", "", spoken))
    return float(len(phone_text) + phone_text.count("x")), float(syllable_count)


def _unmarked(letters: str, pattern: re.Pattern[str]) -> str:
    """`letters` without their accents, except those letters that `pattern` names."""
    return "".join(c if c in pattern.pattern else unicodedata.normalize("NFD", c)[0] for c in letters)
