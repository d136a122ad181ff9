"""CTM: a line for each word, as sclite and Kaldi read it."""

from __future__ import annotations

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording
from msfser_cli.exports.text import as_one_word


def render(recording: Recording) -> dict[str, str]:
    """Recording, channel, start, duration, word, and its probability if it has one. A blank in a word becomes `_`."""
    name = as_one_word(recording.stem)
    words = ((u.channel or 0, word) for u in recording.utterances for word in u.words)
    lines = []
    for channel, word in sorted(words, key=lambda item: (item[0], item[1].start)):  # speakers may talk at once
        score = "" if word.score is None else f" {word.score:.3f}"
        lines.append(f"{name} {channel + 1} {word.start:.3f} {word.end - word.start:.3f} {as_one_word(word.text)}{score}\n")
    return {".ctm": "".join(lines)}


FORMATS = {"ctm": PerRecording(("words",), render)}
