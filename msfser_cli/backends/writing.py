"""The words of a text, and their places in it.

A word is the characters between two blanks, punctuation included: "mother-in-law", "o'clock", "$120.99", "(well,". It contains a
letter or a digit. A piece without either ("–", "?", "%") belongs to the word before it; an opening mark belongs to the word after
it. The blank between the piece and its word stays in the word: "vous ?", "3,5 %".

In Chinese, Thai, Lao, Burmese and Khmer, which are written without blanks, a word is an entry of ICU's dictionaries. In Japanese
it is a bunsetsu: a word with its particles and endings, the unit between the blanks in children's books. ICU's phrase line breaks
are the ends of bunsetsu.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import accumulate

_CHUNK = re.compile(r"\S+")
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai, Lao, Burmese, Khmer
    r"\u3001-\u303f\u3040-\u30ff\u31f0-\u31ff\uff01-\uff9f"  # kana, and punctuation of full width
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
)
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_KANA = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_CLAUSE = re.compile(r"[「『（〈《【“‘]*[^「『（〈《【“‘」』）〉》】”’。、！？…，．]+[」』）〉》】”’。、！？…，．]*|.")
"""A stretch of Japanese between punctuation. msfser cuts there first, because ICU's phrases extend across punctuation."""
_HANGUL = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")
_SAID_SIGNS = frozenset("%‰&@#°§")
_OPENING = ("Ps", "Pi")

Span = tuple[int, int]
"""A stretch of a text: the index of its first character, and of the one after its last."""


def split(text: str) -> list[tuple[str, str]]:
    """The words of `text`, each as (blank before it, word). The blank is "" if two words touch.

    Joined in order, the blanks and words are the text without the blank at its end. A text without letters and digits has no
    words.
    """
    words: list[tuple[str, str]] = []
    held = ""  # opening marks that wait for their word
    before = 0
    for start, end in _pieces(text):
        blank, piece = text[before:start], text[start:end]
        before = end
        if not _has_letter(piece):
            if words and not held and not _opens(piece):
                words[-1] = (words[-1][0], words[-1][1] + blank + piece)
            else:
                held += blank + piece
            continue
        whole = held + blank + piece
        word = whole.lstrip()
        words.append((whole[: len(whole) - len(word)], word))
        held = ""
    if words and held:
        words[-1] = (words[-1][0], words[-1][1] + held)
    return words


def places(text: str, words: Sequence[str]) -> list[Span] | None:
    """The place of each of `words` in `text`, in order. None if the text has characters beside these words and blanks."""
    spans: list[Span] = []
    at = 0
    for word in words:
        at = _skip_blank(text, at)
        if not text.startswith(word, at):
            return None
        spans.append((at, at + len(word)))
        at += len(word)
    return spans if _skip_blank(text, at) == len(text) else None


def bare(text: str, span: Span) -> Span:
    """`span` of `text` without the punctuation and blanks at its ends. Empty if it has no other characters."""
    kept = [i for i in range(*span) if is_said(text[i])]
    return (kept[0], kept[-1] + 1) if kept else (span[0], span[0])


def is_said(character: str) -> bool:
    """Whether a character is pronounced: a letter or its mark, a digit, or a sign that is read out, such as % or $."""
    return character in _SAID_SIGNS or unicodedata.category(character)[0] in "LMN" or is_sign(character)


def is_sign(character: str) -> bool:
    """Whether a character is a sign that is read out as a word: %, &, $, + and the like."""
    return character in _SAID_SIGNS or unicodedata.category(character) in ("Sc", "Sm")


def joined(words: Sequence[str]) -> str:
    """The text of `words`, with a blank between two words if their script has blanks."""
    return "".join(blank + word for blank, word in zip(map(blank_between, ["", *words], words), words, strict=False))


def blank_between(before: str, after: str) -> str:
    """The blank between two successive words; "" in a script without blanks, or if either word is empty."""
    if not before or not after or _IS_UNSPACED.match(before[-1]) or _IS_UNSPACED.match(after[0]):
        return ""
    return " "


def _pieces(text: str) -> Iterator[Span]:
    """The pieces between blanks. In a script without blanks, a piece is a word."""
    for chunk in _CHUNK.finditer(text):
        # Korean is written with blanks, also where a name is in Han characters.
        if not _IS_UNSPACED.search(chunk[0]) or _HANGUL.search(text):
            yield chunk.span()
            continue
        start = at = chunk.start()
        within = _within_characters(chunk[0])
        for piece in _segmented(chunk[0], japanese=bool(_KANA.search(text))):
            at += len(piece)
            # A stretch in another script is cut only at the side that touches an unspaced character.
            touches = at == chunk.end() or _IS_UNSPACED.match(text[at]) or _IS_UNSPACED.match(text[at - 1])
            if touches and at - chunk.start() not in within:
                yield start, at
                start = at


def _segmented(text: str, *, japanese: bool) -> list[str]:
    from icu4py.breakers import LineBreaker, WordBreaker

    if japanese:
        return [phrase for clause in _CLAUSE.findall(text) for phrase in LineBreaker(clause, "ja-u-lw-phrase")]
    return list(WordBreaker(text, "und"))


def _within_characters(text: str) -> set[int]:
    """The places within a grapheme cluster, that is, within a letter and its marks."""
    from icu4py.breakers import CharacterBreaker

    return set(range(1, len(text))) - set(accumulate(map(len, CharacterBreaker(text, "und"))))


def _has_letter(piece: str) -> bool:
    return any(character.isalnum() for character in piece)


def _opens(piece: str) -> bool:
    return all(c in "¿¡" or unicodedata.category(c) in _OPENING for c in piece)


def _skip_blank(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
