"""Text on one line, and lines of a readable length."""

from __future__ import annotations

import unicodedata


def on_one_line(text: str) -> str:
    """The text with one blank for each run of white space, control characters and characters that XML does not take."""
    if not text.isprintable():
        text = "".join(" " if _is_control(c) else c for c in text)
    return " ".join(text.split())


def _is_control(character: str) -> bool:
    return character in "\ufffe\uffff" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def width(text: str) -> int:
    """The columns that the text takes. Chinese, Japanese and Korean characters take two, marks that join none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def as_one_word(text: str) -> str:
    """The text with `_` for its blanks, for formats with blanks between fields. Some of their readers take `"` for a bracket."""
    return on_one_line(text).replace(" ", "_").replace('"', "'") or "_"
