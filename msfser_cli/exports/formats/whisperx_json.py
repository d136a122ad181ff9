"""JSON in the shape that whisperX writes, with the emphasis, the description and the scores of each segment."""

from __future__ import annotations

import json
from typing import Any

from msfser_cli.exports.format import PerRecording
from msfser_cli.exports.recordings import Recording, Utterance, Word


def render(recording: Recording) -> dict[str, str]:
    """`segments`, each with its `words`; `word_segments`, the same words; and `language`, that of most utterances."""
    segments = [_segment(u) for u in recording.utterances]
    languages = [u.language for u in recording.utterances if u.language]
    content = {
        "segments": segments,
        "word_segments": [word for segment in segments for word in segment["words"]],
        "language": max(sorted(set(languages)), key=languages.count, default=None),
        "recording_id": recording.id,
        "duration": recording.duration,
    }
    return {".json": json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"}


def _segment(utterance: Utterance) -> dict[str, Any]:
    segment: dict[str, Any] = {
        "start": utterance.start, "end": utterance.end, "text": utterance.text,
        "words": [_word(word, utterance.speaker) for word in utterance.words],
    }  # fmt: skip
    if utterance.speaker:
        segment["speaker"] = utterance.speaker
    segment["utterance_id"] = utterance.id
    for name in ("channel", "language", "emphasized_text", "description"):
        if (value := getattr(utterance, name)) is not None:
            segment[name] = value
    for dimension, score in utterance.scores.items():
        segment[dimension] = score.value
        segment |= {f"{dimension}_{end}": x for end in ("low", "high") if (x := getattr(score, end)) is not None}
    return segment


def _word(word: Word, speaker: str | None) -> dict[str, Any]:
    of: dict[str, Any] = {"word": word.text, "start": word.start, "end": word.end}
    of |= {"score": word.score} if word.score is not None else {}
    of |= {"speaker": speaker} if speaker else {}
    of |= {"aligned": False} if not word.aligned else {}
    of |= {"prominence": word.prominence, "emphasised": word.emphasised} if word.prominence is not None else {}
    return of


FORMATS = {"json": PerRecording(("text",), render)}
