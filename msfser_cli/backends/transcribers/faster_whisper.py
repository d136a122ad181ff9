"""Whisper on CTranslate2 (faster-whisper): fast to start, no torch; word times from the model's own attention."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from msfser_cli.backends import Transcript, Word, text_of
from msfser_cli.backends.voice_activity import LONGEST_WINDOW, cut, speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import MAX_FRAMES, Decoded, likeliest, load_whisper, padded_frames
from msfser_cli.backends.whisper_languages import known_languages
from msfser_cli.backends.word_times import align_by_attention, continued, shifted
from msfser_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from msfser_cli.settings import TranscribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("faster_whisper", "ctranslate2", "onnxruntime")

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

    def transcribe(self, samples: Samples, language: str | None) -> Transcript:
        """Words of `samples`; the language is that of the first windows unless it is given."""
        regions = speech_regions(samples, longest=LONGEST_WINDOW)
        spans = windows(regions, longest=LONGEST_WINDOW)
        probability: float | None = None
        words: list[Word] = []
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            features = [self._whisper.features(cut(samples, span)) for span in batch]
            encoded = self._whisper.encode(features, padded_frames(features))
            if language is None:
                language, probability = likeliest(self._whisper.language(encoded))
            decoded = self._whisper.decode(encoded, len(batch), language, beam_size=self._beam_size)
            timed = self._whisper.word_times(encoded, [d.tokens for d in decoded], [f.shape[1] for f in features], language)
            for span, feature, result, found in zip(batch, features, decoded, timed, strict=True):
                if _repeats(found):
                    result, found = self._again(feature, language)
                if not (result.no_speech > NO_SPEECH and result.log_probability < UNLIKELY):
                    inside = [r for r in regions if span[0] <= r[0] and r[1] <= span[1]]
                    words = continued(words, [within_speech(shifted(w, *span), inside) for w in found])
        return Transcript(language or "und", probability, words, bool(regions))

    def align(self, samples: Samples, text: str, language: str | None) -> Transcript:
        """Times for the words of `text`; interpolated and marked so if the clip is over 30 s or the text too long."""
        return align_by_attention(self._whisper, samples, text, language)

    def _again(self, features: np.ndarray, language: str) -> tuple[Decoded, list[Word]]:
        encoded = self._whisper.encode([features], MAX_FRAMES)
        [result] = self._whisper.decode(encoded, 1, language, beam_size=self._beam_size, no_repeat=4)
        [words] = self._whisper.word_times(encoded, [result.tokens], [features.shape[1]], language)
        return result, words


def load(folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> FasterWhisper:
    """The recogniser on the CTranslate2 Whisper model in `folder`; it aligns by itself.

    UsageError if an aligner is given, or for a language that Whisper does not know.
    """
    if aligner is not None:
        raise UsageError("the transcriber faster-whisper takes word times from Whisper itself; use whisperx, or --aligner ''")
    transcriber = FasterWhisper(folder, settings.beam_size)
    load_whisper(folder).require(settings.language)
    return transcriber


def languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows; None if its files do not say it."""
    return known_languages(folder)


def _repeats(words: list[Word]) -> bool:
    text = text_of(words).encode()
    return bool(text) and len(text) / len(zlib.compress(text)) > REPETITIVE
