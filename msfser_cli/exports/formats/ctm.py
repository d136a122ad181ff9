"""CTM: a line for each word, as sclite and Kaldi read it."""

from __future__ import annotations

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording
from msfser_cli.exports.text import as_one_word


def render(recording: Recording) -> dict[str, str]:
    """Recording, channel, start, duration, word, and its probability if it has one. A blank in a word becomes `_`."""
    name = as_one_word(recording.stem)
    lines = []
    for u in recording.utterances:
        for word in u.words:
            score = "" if word.score is None else f" {word.score:.3f}"
            times = f"{word.start:.3f} {word.end - word.start:.3f}"
            lines.append(f"{name} {(u.channel or 0) + 1} {times} {as_one_word(word.text)}{score}\n")
    return {".ctm": "".join(lines)}


FORMATS = {"ctm": PerRecording(("words",), render)}
