"""Whisper on CTranslate2 (faster-whisper): starts fast and needs no torch; word times from the model's own attention."""

from __future__ import annotations

import zlib
from itertools import groupby
from typing import TYPE_CHECKING, Any

from msfser_cli.backends import Transcript, Word, text_of
from msfser_cli.backends.languages import Passage, main_language
from msfser_cli.backends.voice_activity import LONGEST_WINDOW, cut, speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import MAX_FRAMES, Decoded, load_whisper, padded_frames
from msfser_cli.backends.whisper_languages import known_languages
from msfser_cli.backends.word_times import align_by_attention, continued, in_passage, shifted
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
"""Text that zlib compresses by more than this factor is a loop (OpenAI's own threshold).

msfser then decodes the window again, padded to 30 s and without repeats of four tokens.
"""


class FasterWhisper:
    """Encodes each window once for language detection, decoding and word times."""

    def __init__(self, folder: Path, beam_size: int) -> None:
        self._whisper = load_whisper(folder)
        self._beam_size = beam_size

    def transcribe(self, samples: Samples, language: str | None) -> Transcript:
        """The words of `samples`. The language is detected for each passage, unless `language` is given."""
        regions = speech_regions(samples, longest=LONGEST_WINDOW)
        spans = windows(regions, longest=LONGEST_WINDOW)
        words: list[Word] = []
        passages: list[Passage] = []
        for first in range(0, len(spans), BATCH):
            batch = spans[first : first + BATCH]
            features = [self._whisper.features(cut(samples, span)) for span in batch]
            frames = padded_frames(features)
            encoded = self._whisper.encode(features, frames)
            if language is None:
                before = passages[-1].language if passages else None
                spoken = self._whisper.passages(encoded, features, batch, regions, before)
            else:
                spoken = [Passage(span, language, None) for span in batch]
            passages += spoken
            one_language = len({p.language for p in spoken}) == 1
            for code, run in groupby(spoken, key=lambda p: p.language):
                same = list(run)
                if one_language and len(same) == len(batch):
                    decoded = self._decoded(features, encoded, code)
                else:  # CTranslate2 decodes a batch in one language only, so each run of passages is encoded again by itself
                    parts = [self._whisper.features(cut(samples, p.span)) for p in same]
                    decoded = self._decoded(parts, self._whisper.encode(parts, frames), code)
                for passage, timed in zip(same, decoded, strict=True):
                    start, end = passage.span
                    inside = [r for r in regions if start <= r[0] and r[1] <= end]
                    words = continued(words, [in_passage(within_speech(shifted(w, start, end), inside), passage) for w in timed])
        code, probability = main_language(passages) if passages else (language or "und", None)
        return Transcript(code, probability, words, regions)

    def _decoded(self, features: list[np.ndarray], encoded: Any, language: str) -> list[list[Word]]:
        """The words of each window of a batch, with times in seconds from the start of the window."""
        decoded = self._whisper.decode(encoded, len(features), language, beam_size=self._beam_size)
        timed = self._whisper.word_times(encoded, [d.tokens for d in decoded], [f.shape[1] for f in features], language)
        windows = []
        for feature, result, words in zip(features, decoded, timed, strict=True):
            if _repeats(words):
                result, words = self._again(feature, language)
            windows.append([] if result.is_invented else words)
        return windows

    def align(self, samples: Samples, text: str, language: str | None) -> Transcript:
        """Times for the words of `text`.

        If the clip is over 30 s or the text is too long, the times are interpolated, and the words marked as not aligned.
        """
        return align_by_attention(self._whisper, samples, text, language)

    def _again(self, features: np.ndarray, language: str) -> tuple[Decoded, list[Word]]:
        encoded = self._whisper.encode([features], MAX_FRAMES)
        [result] = self._whisper.decode(encoded, 1, language, beam_size=self._beam_size, no_repeat=4)
        [words] = self._whisper.word_times(encoded, [result.tokens], [features.shape[1]], language)
        return result, words


def load(folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> FasterWhisper:
    """The recogniser on the CTranslate2 Whisper model in `folder`. It takes word times from Whisper itself.

    Raises UsageError if an aligner is given, or if Whisper does not know the language.
    """
    if aligner is not None:
        raise UsageError("the transcriber faster-whisper uses no aligner; use --transcriber whisperx, or --aligner ''")
    transcriber = FasterWhisper(folder, settings.beam_size)
    load_whisper(folder).require(settings.language)
    return transcriber


def languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows. None if its files do not list them."""
    return known_languages(folder)


def _repeats(words: list[Word]) -> bool:
    text = text_of(words).encode()
    return bool(text) and len(text) / len(zlib.compress(text)) > REPETITIVE
