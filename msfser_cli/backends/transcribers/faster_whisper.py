"""Whisper on CTranslate2 (faster-whisper): starts fast and needs no torch; word times from the model's own attention."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msfser_cli import processors
from msfser_cli.backends import Transcript, Word, text_of
from msfser_cli.backends.languages import Passage, Span, main_language
from msfser_cli.backends.voice_activity import LONGEST_WINDOW, speech_regions, windows, within_speech
from msfser_cli.backends.whisper_ct2 import Decoded, Encoded, Stretch, load_whisper
from msfser_cli.backends.whisper_languages import known_languages
from msfser_cli.backends.word_times import align_by_attention, continued, in_passage, shifted
from msfser_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from msfser_cli.settings import TranscribeSettings
    from msfser_cli.store.audio import Samples

REQUIRES = ("faster_whisper", "ctranslate2", "onnxruntime")

STRETCH = 16
"""Windows of one recording. Their languages are judged together."""
TOGETHER = 64
"""The most windows whose encoder states are in memory."""
REPETITIVE = 2.4
"""Text that zlib compresses by more than this factor is a loop (OpenAI's own threshold).

msfser then decodes the window again, padded to 30 s and without repeats of four tokens.
"""


@dataclass
class _Clip:
    """A clip, and what was heard of it so far. language: None: it is detected for each passage."""

    samples: Samples
    language: str | None
    regions: list[Span]
    windows: list[Span]
    passages: list[Passage] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    def stretch(self, first: int) -> Stretch:
        """The next windows, from the one with the number `first`."""
        before = self.passages[-1].language if self.passages else None
        return Stretch(self.samples, self.windows[first : first + STRETCH], self.regions, before)

    @property
    def transcript(self) -> Transcript:
        language, probability = main_language(self.passages) if self.passages else (self.language or "und", None)
        return Transcript(language, probability, self.words, self.regions)


class FasterWhisper:
    """Encodes each window once for language detection, decoding and word times. Windows of all clips are batched together."""

    def __init__(self, folder: Path, settings: TranscribeSettings) -> None:
        self._whisper = load_whisper(folder, settings.compute_type, processors.threads())
        self._whisper.require(settings.language)
        self._beam_size = settings.beam_size

    def transcribe(self, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """The words of each clip. The language is detected for each passage, unless it is given."""
        heard = []
        for samples, language in zip(clips, languages, strict=True):
            regions = speech_regions(samples, longest=LONGEST_WINDOW)
            heard.append(_Clip(samples, language, regions, windows(regions, longest=LONGEST_WINDOW)))
        for first in range(0, max((len(clip.windows) for clip in heard), default=0), STRETCH):
            rest = [clip for clip in heard if first < len(clip.windows)]
            for few in range(0, len(rest), TOGETHER // STRETCH):
                self._hear(rest[few : few + TOGETHER // STRETCH], first)
        return [clip.transcript for clip in heard]

    def _hear(self, clips: Sequence[_Clip], first: int) -> None:
        """Add the passages and the words of the windows `first` to `first + STRETCH` to each clip."""
        stretches = [clip.stretch(first) for clip in clips]
        detected = iter(self._whisper.passages([s for s, clip in zip(stretches, clips, strict=True) if clip.language is None]))
        heard: list[tuple[_Clip, Stretch, Passage]] = []
        for clip, stretch in zip(clips, stretches, strict=True):
            known = clip.language
            passages = next(detected) if known is None else [Passage(span, known, None) for span in stretch.windows]
            heard += [(clip, stretch, passage) for passage in passages]
        encoded = self._whisper.hear([(stretch, passage.span) for _, stretch, passage in heard])
        timed = self._decoded(encoded, [passage.language for _, _, passage in heard])
        for (clip, _, passage), words in zip(heard, timed, strict=True):
            start, end = passage.span
            inside = [r for r in clip.regions if start <= r[0] and r[1] <= end]
            more = [in_passage(within_speech(shifted(w, start, end), inside), passage) for w in words]
            clip.words = continued(clip.words, more)
            clip.passages.append(passage)

    def _decoded(self, encoded: Sequence[Encoded], languages: Sequence[str]) -> list[list[Word]]:
        """The words of each item, with times in seconds from the start of the item."""
        decoded = self._whisper.decode(encoded, languages, beam_size=self._beam_size)
        words: list[list[Word]] = [[] for _ in encoded]
        for language in sorted(set(languages)):
            spoken = [i for i, other in enumerate(languages) if other == language]
            timed = self._whisper.word_times([encoded[i] for i in spoken], [decoded[i].tokens for i in spoken], language)
            for i, of_item in zip(spoken, timed, strict=True):
                words[i] = of_item
        for i, of_item in enumerate(words):
            if _repeats(of_item):
                decoded[i], words[i] = self._again(encoded[i], languages[i])
        return [[] if result.is_invented else of_item for result, of_item in zip(decoded, words, strict=True)]

    def align(self, clips: Sequence[Samples], texts: Sequence[str], languages: Sequence[str | None]) -> list[Transcript]:
        """Times for the words of each text.

        If a clip is over 30 s or its text is too long, the times are interpolated, and the words marked as not aligned.
        """
        asked = zip(clips, texts, languages, strict=True)
        return [align_by_attention(self._whisper, samples, text, language) for samples, text, language in asked]

    def _again(self, item: Encoded, language: str) -> tuple[Decoded, list[Word]]:
        encoded = self._whisper.encode([item.features], to_30_s=True)
        [result] = self._whisper.decode(encoded, [language], beam_size=self._beam_size, no_repeat=4)
        [words] = self._whisper.word_times(encoded, [result.tokens], language)
        return result, words


def load(folder: Path, aligner: Path | Mapping[str, Path] | None, settings: TranscribeSettings) -> FasterWhisper:
    """The recogniser on the CTranslate2 Whisper model in `folder`. It takes word times from Whisper itself.

    Raises UsageError if an aligner is given, or if Whisper does not know the language.
    """
    if aligner is not None:
        raise UsageError("the transcriber faster-whisper uses no aligner; use --transcriber whisperx, or --aligner ''")
    return FasterWhisper(folder, settings)


def languages(folder: Path) -> frozenset[str] | None:
    """The codes of the languages that the model in `folder` knows. None if its files do not list them."""
    return known_languages(folder)


def _repeats(words: list[Word]) -> bool:
    text = text_of(words).encode()
    return bool(text) and len(text) / len(zlib.compress(text)) > REPETITIVE
