"""How a text is written: which words it has, and where they stand in it.

A word is what stands between blanks, with its punctuation: "mother-in-law", "o'clock", "$120.99", "(well,". It has a letter or a
digit; what stands alone and has neither ("–", "?", "%") belongs to the word before it, or after it where it opens something, and
the blank between them stays in the word: "vous ?", "3,5 %".

In scripts without blanks (Chinese, Thai, Lao, Burmese, Khmer) a word is one of ICU's dictionaries. In Japanese it is a bunsetsu:
a word with its particles and endings, as children's books are spaced. ICU breaks lines at these.
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
"""A stretch of Japanese between punctuation, which ICU's phrases run across."""
_HANGUL = re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")
_SAID_SIGNS = frozenset("%‰&@#°§")
_OPENING = ("Ps", "Pi")

Span = tuple[int, int]
"""A stretch of a text: its first character, and the one after its last."""


def split(text: str) -> list[tuple[str, str]]:
    """The words of `text`, each with the blank before it ("" for none): they make up the text, the blank at its end aside.

    No word at all where the text has neither letter nor digit.
    """
    words: list[tuple[str, str]] = []
    held = ""  # what opens, and waits for its word
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
    """Where each of `words` stands in `text`, one after the other; None where they and blanks do not make up the text."""
    found: list[Span] = []
    at = 0
    for word in words:
        at = _skip_blank(text, at)
        if not text.startswith(word, at):
            return None
        found.append((at, at + len(word)))
        at += len(word)
    return found if _skip_blank(text, at) == len(text) else None


def bare(text: str, span: Span) -> Span:
    """`span` of `text` without the punctuation and blanks at its ends; empty where it has nothing else."""
    kept = [i for i in range(*span) if is_said(text[i])]
    return (kept[0], kept[-1] + 1) if kept else (span[0], span[0])


def is_said(character: str) -> bool:
    """Whether a character is heard: a letter with its marks, a digit, or a sign that is read out, such as % and $."""
    return character in _SAID_SIGNS or unicodedata.category(character)[0] in "LMN" or is_sign(character)


def is_sign(character: str) -> bool:
    """Whether a character is a sign that is read out as a word: %, &, $, + and the like."""
    return character in _SAID_SIGNS or unicodedata.category(character) in ("Sc", "Sm")


def joined(words: Sequence[str]) -> str:
    """The text of `words` whose blanks are not known."""
    return "".join(blank + word for blank, word in zip(map(blank_between, ["", *words], words), words, strict=False))


def blank_between(before: str, after: str) -> str:
    """What stands between two words that follow one another: a blank, or nothing in a script without any."""
    if not before or not after or _IS_UNSPACED.match(before[-1]) or _IS_UNSPACED.match(after[0]):
        return ""
    return " "


def _pieces(text: str) -> Iterator[Span]:
    """What stands between blanks; of a script without blanks, the words."""
    for chunk in _CHUNK.finditer(text):
        # Korean is written with blanks, a name in Han characters or not.
        if not _IS_UNSPACED.search(chunk[0]) or _HANGUL.search(text):
            yield chunk.span()
            continue
        start = at = chunk.start()
        within = _within_characters(chunk[0])
        for piece in _segmented(chunk[0], japanese=bool(_KANA.search(text))):
            at += len(piece)
            # Of what is written in another script beside it, only the side that touches it is cut off.
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
    """Where one would cut into what a reader takes for a character: a letter and its marks."""
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
