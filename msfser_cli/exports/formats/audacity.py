"""Label tracks of Audacity: the utterances, the words, and the scores, each in a file of its own."""

from __future__ import annotations

from collections.abc import Iterable

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording, Utterance
from msfser_cli.exports.text import on_one_line


def render(recording: Recording) -> dict[str, str]:
    """Start, end and label, with tabs between them. A track without labels is left out."""
    tracks = {
        ".utterances.txt": [(u.start, u.end, _said(u)) for u in recording.utterances],
        ".words.txt": [(word.start, word.end, word.text) for u in recording.utterances for word in u.words],
        ".scores.txt": [
            (u.start, u.end, ", ".join(f"{dimension} {score.value:.3f}" for dimension, score in u.scores.items()))
            for u in recording.utterances
            if u.scores
        ],
    }
    return {suffix: _track(labels) for suffix, labels in tracks.items() if labels}


def _said(utterance: Utterance) -> str:
    return f"{utterance.speaker}: {utterance.text}" if utterance.speaker else utterance.text


def _track(labels: Iterable[tuple[float, float, str]]) -> str:
    return "".join(f"{start:.6f}\t{end:.6f}\t{on_one_line(label)}\n" for start, end, label in labels)


FORMATS = {"audacity": PerRecording((), render)}
