"""Whisper on CTranslate2 (faster-whisper): fast to start, no torch; word times from the model's own attention."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from msfser_cli.backends import Transcript, Word
from msfser_cli.backends.voice_activity import speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import FRAMES_PER_SECOND, MAX_FRAMES, Decoded, load_whisper
from msfser_cli.errors import UsageError
from msfser_cli.schemas import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from msfser_cli.settings import TranscribeSettings

REQUIRES = ("faster_whisper", "ctranslate2", "onnxruntime")

LONGEST_WINDOW = 28.0
SHORTEST_PADDED = 10.0
"""A clip decoded at its own length repeats itself; padded to at least this many seconds it is as good as at 30."""
BATCH = 8
REPETITIVE = 2.4
"""Text that zlib shrinks by more than this is a loop (OpenAI's own threshold): decoded again with 30 s and no repeats."""
NO_SPEECH, UNLIKELY = 0.6, -1.0
"""Words decoded where Whisper hears nobody and believes little of what it wrote (OpenAI's own thresholds) are dropped."""


class FasterWhisper:
    """One encoding of each window serves language detection, decoding and word times."""

    def __init__(self, folder: Path, beam_size: int) -> None:
        self._whisper = load_whisper(folder)
        self._beam_size = beam_size

    def transcribe(self, samples: np.ndarray, language: str | None) -> Transcript:
        """Words of `samples` (float32 [n], 16 kHz); the language is that of the first windows unless it is given."""
        regions = speech_regions(samples, longest=LONGEST_WINDOW)
        spans = windows(regions, longest=LONGEST_WINDOW)
        probability: float | None = None
        words: list[Word] = []
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            features = [self._whisper.features(_cut(samples, span)) for span in batch]
            encoded = self._whisper.encode(features, _padded(features))
            if language is None:
                language, probability = max(self._whisper.language(encoded).items(), key=lambda item: item[1])
            decoded = self._whisper.decode(encoded, len(batch), language, beam_size=self._beam_size)
            timed = self._whisper.word_times(encoded, [d.tokens for d in decoded], [f.shape[1] for f in features], language)
            for span, feature, result, found in zip(batch, features, decoded, timed, strict=True):
                if _repeats(found):
                    found = self._again(feature, language)
                if not (result.no_speech > NO_SPEECH and result.log_probability < UNLIKELY):
                    inside = [r for r in regions if span[0] <= r[0] and r[1] <= span[1]]
                    words += [within_speech(_shifted(w, *span), inside) for w in found]
        return Transcript(language or "und", probability, words, bool(regions))

    def align(self, samples: np.ndarray, text: str, language: str | None) -> Transcript:
        """Times for the words of `text.split()`; interpolated and marked so if the clip is over 30 s or the text too long."""
        probability: float | None = None
        duration = len(samples) / SAMPLE_RATE_HZ
        features = self._whisper.features(samples[: 30 * SAMPLE_RATE_HZ])
        encoded = self._whisper.encode([features], _padded([features]))
        if language is None:
            language, probability = max(self._whisper.language(encoded).items(), key=lambda item: item[1])
        tokens = self._whisper.tokenizer(language).encode(" " + text.strip())
        if duration > 30 or len(tokens) > MAX_FRAMES / 14 or not tokens:
            return Transcript(language, probability, interpolated(text.split(), 0.0, duration), True)
        found = self._whisper.word_times(encoded, [tokens], [features.shape[1]], language)[0]
        words = [_shifted(w, 0.0, duration) for w in _regrouped(found, text.split())]
        return Transcript(language, probability, words, True)

    def _again(self, features: np.ndarray, language: str) -> list[Word]:
        encoded = self._whisper.encode([features], MAX_FRAMES)
        result: Decoded = self._whisper.decode(encoded, 1, language, beam_size=self._beam_size, no_repeat=4)[0]
        return self._whisper.word_times(encoded, [result.tokens], [features.shape[1]], language)[0]


def interpolated(words: list[str], start: float, end: float) -> list[Word]:
    """`words` spread over `start` to `end` in proportion to their letters, marked as not aligned."""
    edges = np.cumsum([0, *(len(w) + 1 for w in words)]) / max(1, sum(len(w) + 1 for w in words))
    times = start + edges * (end - start)
    return [Word(w, float(times[i]), float(times[i + 1]), None, aligned=False) for i, w in enumerate(words)]


def load(folder: Path, aligner: Path | None, settings: TranscribeSettings) -> FasterWhisper:
    """The recogniser on the CTranslate2 Whisper model in `folder`; it aligns by itself. UsageError if an aligner is given."""
    if aligner is not None:
        raise UsageError("the transcriber faster-whisper takes word times from Whisper itself; use whisperx with --aligner")
    return FasterWhisper(folder, settings.beam_size)


def _cut(samples: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    return samples[round(span[0] * SAMPLE_RATE_HZ) : round(span[1] * SAMPLE_RATE_HZ)]


def _padded(features: list[np.ndarray]) -> int:
    longest = max(f.shape[1] for f in features)
    return int(min(MAX_FRAMES, max(longest + longest % 2, round(SHORTEST_PADDED * FRAMES_PER_SECOND))))


def _repeats(words: list[Word]) -> bool:
    text = " ".join(w.word for w in words).encode()
    return bool(text) and len(text) / len(zlib.compress(text)) > REPETITIVE


def _shifted(word: Word, offset: float, limit: float) -> Word:
    start = min(offset + word.start, limit)
    return replace(word, start=start, end=max(start, min(offset + word.end, limit)))


def _regrouped(pieces: list[Word], words: list[str]) -> list[Word]:
    """The aligned `pieces` as the given `words`, matched letter by letter: the tokenizer may split words differently."""
    letters = [(p, n) for p in pieces for n in range(len(p.word.replace(" ", "")))]
    grouped: list[Word] = []
    position = 0
    for word in words:
        mine = [p for p, _ in letters[position : position + len(word)]]
        position += len(word)
        if mine:
            score = float(np.mean([p.score for p in mine if p.score is not None]))
            grouped.append(Word(word, mine[0].start, mine[-1].end, score))
        else:
            last = grouped[-1].end if grouped else 0.0
            grouped.append(Word(word, last, last, None, aligned=False))
    return grouped
